/*
 * container_store.c - containers on disk: the definition, which must not be lost, and the state, which may be lost with the machine.
 *
 * containers/<id>.json is written at create, rename, update and (dis)connect, durably. states/<id>.json is written at each start and exit without
 * waiting for the disk: after a crash of the daemon it is there whole; after a crash of the machine every container has ended anyway.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

static const char *const STATUS_WORDS[] = { "created", "running", "paused", "restarting", "removing", "exited", "dead" };

static json_t *definition_to_json(struct gt_container *ctr)
{
	LOCKED(&ctr->lock);
	return json_pack("{s:i s:s s:I s:s s:o s:o s:O? s:s? s:s? s:s? s:o s:s? s:s? s:o s:o s:b}", "Version", 1, "Id", ctr->id, "Created",
			 (json_int_t)ctr->created, "Name", ctr->name, "Config", gt_json_encode_brief(gt_container_config_fields, &ctr->config),
			 "HostConfig", gt_json_encode_brief(gt_host_config_fields, &ctr->config.host), "Networking", ctr->networking, "Image",
			 ctr->image_id, "ImageName", ctr->image_name, "Path", ctr->path, "Args", gt_strings_to_json(&ctr->args), "LogPath",
			 ctr->log_path, "Cgroup", ctr->cgroup, "Mounts", gt_mounts_to_json(ctr), "Endpoints", gt_endpoints_to_json(ctr),
			 "BuildStep", ctr->build_step);
}

static json_t *state_to_json(struct gt_container *ctr)
{
	LOCKED(&ctr->lock);
	return json_pack("{s:s s:i s:I s:I s:i s:b s:s? s:I s:b s:b s:o s:O?}", "Status", STATUS_WORDS[ctr->starting ? GT_RUNNING : ctr->status], "Pid", (int)ctr->pid, "Started",
			 (json_int_t)ctr->started, "Finished", (json_int_t)ctr->finished, "ExitCode", ctr->exit_code, "OOM", ctr->oom,
			 "Error", ctr->error, "RestartCount", (json_int_t)ctr->restart_count, "StopRequested", ctr->stop_requested,
			 "Unsettled", ctr->unsettled, "Endpoints", gt_endpoints_to_json(ctr), "Health", ctr->health);
}

/* With ctr->saving held, of a container that is not forgotten. */
static int put_state(struct gt_container *ctr, struct gt_error *err)
{
	AUTO_JSON json_t *state = state_to_json(ctr);
	if (!state)
		return gt_fail(err, GT_INTERNAL, "the state of container %s cannot be written as JSON", ctr->id);
	return gt_store_put(ctr->engine->states, ctr->id, state, false, err);
}

int gt_container_save_state(struct gt_container *ctr, struct gt_error *err)
{
	LOCKED(&ctr->saving);
	return ctr->forgotten ? 0 : put_state(ctr, err);
}

static int set_unsettled(struct gt_container *ctr, bool unsettled, struct gt_error *err)
{
	pthread_mutex_lock(&ctr->lock);
	ctr->unsettled = unsettled;
	pthread_mutex_unlock(&ctr->lock);
	return gt_container_save_state(ctr, err);
}

int gt_container_unsettle(struct gt_container *ctr, struct gt_error *err)
{
	return set_unsettled(ctr, true, err);
}

int gt_container_settle(struct gt_container *ctr, struct gt_error *err)
{
	return set_unsettled(ctr, false, err);
}

int gt_container_save(struct gt_container *ctr, struct gt_error *err)
{
	LOCKED(&ctr->saving);
	if (ctr->forgotten)
		return gt_fail(err, GT_NOT_FOUND, "No such container: %s", ctr->id);
	AUTO_JSON json_t *definition = definition_to_json(ctr);
	if (!definition)
		return gt_fail(err, GT_INTERNAL, "container %s cannot be written as JSON", ctr->id);
	if (gt_store_put(ctr->engine->definitions, ctr->id, definition, !ctr->config.host.auto_remove && !ctr->build_step, err) < 0)
		return -1;
	return put_state(ctr, err);
}

/* The definition first: what says "removing" must not go before it. */
int gt_container_forget(struct gt_container *ctr, struct gt_error *err)
{
	LOCKED(&ctr->saving);
	if (gt_store_remove(ctr->engine->definitions, ctr->id, err) < 0)
		return -1;
	if (gt_store_remove(ctr->engine->states, ctr->id, err) < 0)
		return -1;
	ctr->forgotten = true;
	return 0;
}

/* ---- loading ---- */

static int read_string(const json_t *document, const char *name, char **out, struct gt_error *err)
{
	const char *text = NULL;
	if (gt_json_string(document, name, &text, err) < 0)
		return -1;
	if (text) {
		free(*out);
		*out = gt_xstrdup(text);
	}
	return 0;
}

static int read_definition(struct gt_container *ctr, const json_t *document, const char **name, struct gt_error *err)
{
	static const struct gt_json_field ARGS[] = { GT_JSON_FIELD(GT_JSON_STRINGS, struct gt_container, args, "Args"), { .name = NULL } };
	json_t *config = NULL, *host = NULL, *networking = NULL, *mounts = NULL;
	int64_t version = 0;
	if (gt_json_int(document, "Version", &version, err) < 0 || gt_json_string(document, "Name", name, err) < 0 ||
	    gt_json_object(document, "Config", &config, err) < 0 || gt_json_object(document, "HostConfig", &host, err) < 0 ||
	    gt_json_object(document, "Networking", &networking, err) < 0 || gt_json_array(document, "Mounts", &mounts, err) < 0 ||
	    gt_json_int(document, "Created", &ctr->created, err) < 0 || gt_json_bool(document, "BuildStep", &ctr->build_step, err) < 0)
		return -1;
	if (version != 1 || !*name || !gt_is_name(*name) || !config || !host)
		return gt_fail(err, GT_INVALID, "not a container's document of version 1");
	if (gt_json_decode(config, gt_container_config_fields, &ctr->config, err) < 0 ||
	    gt_json_decode(host, gt_host_config_fields, &ctr->config.host, err) < 0 || gt_json_decode(document, ARGS, ctr, err) < 0 ||
	    read_string(document, "Image", &ctr->image_id, err) < 0 || read_string(document, "ImageName", &ctr->image_name, err) < 0 ||
	    read_string(document, "Path", &ctr->path, err) < 0 || read_string(document, "LogPath", &ctr->log_path, err) < 0 ||
	    read_string(document, "Cgroup", &ctr->cgroup, err) < 0)
		return -1;
	ctr->networking = json_incref(networking);
	return gt_mounts_from_json(ctr, mounts, err);
}

static int read_state(struct gt_container *ctr, const json_t *state, struct gt_error *err)
{
	const char *status = NULL;
	int64_t pid = 0, code = 0;
	json_t *health = NULL;
	if (gt_json_string(state, "Status", &status, err) < 0 || gt_json_int(state, "Pid", &pid, err) < 0 ||
	    gt_json_int(state, "Started", &ctr->started, err) < 0 || gt_json_int(state, "Finished", &ctr->finished, err) < 0 ||
	    gt_json_int(state, "ExitCode", &code, err) < 0 || gt_json_bool(state, "OOM", &ctr->oom, err) < 0 ||
	    read_string(state, "Error", &ctr->error, err) < 0 || gt_json_int(state, "RestartCount", &ctr->restart_count, err) < 0 ||
	    gt_json_bool(state, "StopRequested", &ctr->stop_requested, err) < 0 || gt_json_bool(state, "Unsettled", &ctr->unsettled, err) < 0 ||
	    gt_json_object(state, "Health", &health, err) < 0)
		return -1;
	for (size_t i = 0; status && i < GT_COUNT(STATUS_WORDS); i++) {
		if (strcmp(status, STATUS_WORDS[i]) == 0)
			ctr->status = (enum gt_status)i;
	}
	ctr->pid = (pid_t)pid;
	ctr->exit_code = (int)code;
	ctr->health = json_incref(health);
	return 0;
}

/* A missing state (the machine went down) is that of a container that has ended. */
static int load_state(struct gt_container *ctr, const json_t *document, struct gt_error *err)
{
	struct gt_error missing = { 0 };
	AUTO_JSON json_t *state = gt_store_get(ctr->engine->states, ctr->id, &missing);
	const json_t *endpoints = gt_json_get(state ? state : document, "Endpoints");
	if (!state)
		ctr->status = GT_CREATED;
	else if (read_state(ctr, state, err) < 0)
		return -1;
	return gt_endpoints_from_json(ctr, endpoints, err);
}

/* A name that is in use (documents were copied, or restored one by one) must not cost a container. */
static int enter(struct gt_container *ctr, const char *name, struct gt_error *err)
{
	if (gt_container_insert(ctr, name, err) == 0)
		return 0;
	AUTO_FREE char *other = gt_xasprintf("%.200s_%.12s", name, ctr->id);
	gt_warn("the name of a container is in use by another: it gets a new one", "id", ctr->id, "name", name, "new_name", other);
	return gt_container_insert(ctr, other, err) < 0 || gt_container_save(ctr, err) < 0 ? -1 : 0;
}

/* What a container left is all that is left of it: nothing of it is swept while its document lies there for a person to mend. */
static void spare(struct gt_engine *engine, const char *id, const char *why)
{
	gt_map_set(&engine->spared, id, engine);
	gt_err("a container could not be loaded: what it left is not touched until its document is put right, or removed", "id", id, "error", why);
}

static int spare_aside(void *arg, const char *id)
{
	struct gt_engine *engine = arg;
	if (gt_is_id(id) && !gt_map_get(&engine->containers, id) && !gt_map_get(&engine->spared, id))
		spare(engine, id, "its document is in quarantine");
	return 0;
}

/* One that is read, or why it cannot be. */
struct loaded {
	struct gt_container *ctr;
	char *name, *error;
};

struct loading {
	struct gt_engine *engine;
	pthread_mutex_t lock;           /* guards what follows */
	struct loaded *all;
	size_t count, room;
};

/* From several threads: what takes time is reading, not entering. */
static void read_container(void *arg, const char *id, json_t *document)
{
	struct loading *loading = arg;
	struct gt_error err = { 0 };
	const char *name = NULL;
	if (!gt_is_id(id))
		return;
	struct loaded loaded = { .ctr = gt_container_new(loading->engine, id) };
	if (read_definition(loaded.ctr, document, &name, &err) < 0 || load_state(loaded.ctr, document, &err) < 0)
		loaded.error = gt_xstrdup(err.message);
	else
		loaded.name = gt_xstrdup(name);
	LOCKED(&loading->lock);
	if (loading->count == loading->room) {
		loading->room = loading->room ? 2 * loading->room : 64;
		loading->all = gt_xrealloc(loading->all, loading->room * sizeof *loading->all);
	}
	loading->all[loading->count++] = loaded;
}

static void take_in(struct gt_engine *engine, struct loaded *loaded)
{
	AUTO_FREE char *name = loaded->name, *error = loaded->error;
	AUTO_CONTAINER struct gt_container *ctr = loaded->ctr;
	struct gt_error err = { 0 };
	if (error || enter(ctr, name, &err) < 0)
		spare(engine, ctr->id, error ? error : err.message);
	else if (ctr->image_id && ctr->image_id[0] && gt_image_hold(engine->images, ctr->image_id, ctr->id, &err) < 0)
		gt_warn("a container's image is gone", "id", ctr->id, "error", err.message);
}

int gt_containers_load(struct gt_engine *engine, struct gt_error *err)
{
	struct loading loading = { .engine = engine, .lock = PTHREAD_MUTEX_INITIALIZER };
	int rc = gt_store_each_parallel(engine->definitions, read_container, &loading, err);
	for (size_t i = 0; i < loading.count; i++)
		take_in(engine, &loading.all[i]);
	free(loading.all);
	return rc < 0 ? -1 : gt_store_each_aside(engine->definitions, spare_aside, engine, err);
}
