/*
 * create.c - POST /containers/create.
 *
 *   check       the request against this host; the image is found and its configuration merged in
 *   hold        the image's layers stay while the container is there
 *   layer       a writable layer of its own
 *   mounts      volumes are made, sources checked
 *   endpoints   networks are found, wished-for addresses reserved
 *   directory   for hosts, resolv.conf, hostname, logs
 *   insert      id and name enter the tables: from here on others see it
 *   save        the document comes last: what a crash leaves without one is swept at start-up
 * Each step's undo stands in undo(), newest first.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "engine/config_check.h"
#include "runtime/cgroup.h"

#define NAME_TRIES 64

enum step { NOTHING, HELD, LAYERED, MOUNTED, RESERVED, MADE_DIRECTORY, INSERTED };

/* ---- defaults, as inspect shows them ---- */

static void set_default(char **field, const char *value)
{
	if (*field && **field)
		return;
	free(*field);
	*field = gt_xstrdup(value);
}

static void fill_paths(struct gt_strings *list, const char *const *defaults)
{
	if (list->set)
		return;
	for (; *defaults; defaults++)
		gt_strings_add(list, *defaults);
	list->set = true;
}

static bool systempaths_unconfined(const struct gt_host_config *host)
{
	for (size_t i = 0; i < host->security_opt.count; i++) {
		if (strcmp(host->security_opt.items[i], "systempaths=unconfined") == 0)
			return true;
	}
	return false;
}

static void fill_host(struct gt_engine *engine, struct gt_host_config *host)
{
	static const char *const MASKED[] = { "/proc/acpi",          "/proc/asound",       "/proc/interrupts", "/proc/kcore",
					      "/proc/keys",          "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
					      "/proc/timer_list",    "/proc/timer_stats",  "/sys/devices/virtual/powercap", "/sys/firmware", NULL },
				*const READ_ONLY[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL };
	const struct gt_config *config = atomic_load(&engine->config);
	if (!host->network_mode || !host->network_mode[0] || strcmp(host->network_mode, "default") == 0) {
		free(host->network_mode);
		host->network_mode = gt_xstrdup("bridge");
	}
	set_default(&host->ipc_mode, "private");
	set_default(&host->cgroupns_mode, gt_cgroup_world() == GT_CGROUP_V2 ? "private" : "host");
	set_default(&host->runtime, "gantry");
	if (!host->shm_size)
		host->shm_size = config->shm_size;
	if (!json_is_object(host->restart_policy) || !json_string_length(json_object_get(host->restart_policy, "Name"))) {
		json_decref(host->restart_policy);
		host->restart_policy = json_pack("{s:s s:i}", "Name", "no", "MaximumRetryCount", 0);
	}
	if (!json_is_array(host->console_size)) {
		json_decref(host->console_size);
		host->console_size = json_pack("[ii]", 0, 0);
	}
	if (host->memory > 0 && !host->memory_swap) /* as much swap again, as Docker */
		host->memory_swap = host->memory > INT64_MAX / 2 ? -1 : host->memory * 2;
	host->pids_limit.set = host->pids_limit.set && host->pids_limit.value > 0; /* inspect shows null for "no limit", as Docker */
	bool open = host->privileged || systempaths_unconfined(host);
	if (open) {
		host->masked_paths.set = host->readonly_paths.set = true;
	} else {
		fill_paths(&host->masked_paths, MASKED);
		fill_paths(&host->readonly_paths, READ_ONLY);
	}
}

static void fill_names(struct gt_container *ctr)
{
	struct gt_container_config *config = &ctr->config;
	struct utsname host;
	char short_id[13];
	snprintf(short_id, sizeof short_id, "%.12s", ctr->id);
	uname(&host);
	bool hosts = strcmp(config->host.network_mode, "host") == 0 || (config->host.uts_mode && strcmp(config->host.uts_mode, "host") == 0);
	set_default(&config->hostname, hosts ? host.nodename : short_id);
}

static int fill_command(struct gt_container *ctr, struct gt_error *err)
{
	const struct gt_strings *parts[] = { &ctr->config.entrypoint, &ctr->config.cmd };
	for (size_t p = 0; p < 2; p++) {
		for (size_t i = 0; i < parts[p]->count; i++) {
			if (!ctr->path)
				ctr->path = gt_xstrdup(parts[p]->items[i]);
			else
				gt_strings_add(&ctr->args, parts[p]->items[i]);
		}
	}
	ctr->args.set = true;
	return ctr->path ? 0 : gt_fail(err, GT_INVALID, "no command specified");
}

/* "/a/b": below the hierarchies' roots; checked by cgroup.c again. */
static int fill_cgroup(struct gt_container *ctr, struct gt_error *err)
{
	const char *parent = ctr->config.host.cgroup_parent;
	if (!parent || !parent[0])
		return 0;
	size_t len = strlen(parent);
	if (len > 512 || strstr(parent, "..") || strstr(parent, "//") || strstr(parent, ".slice"))
		return gt_fail(err, GT_INVALID, "cgroup-parent \"%.255s\" is not a clean path for the cgroupfs driver", parent);
	free(ctr->cgroup);
	while (len > 1 && parent[len - 1] == '/')
		len--;
	ctr->cgroup = gt_xasprintf("%s%.*s/%s", parent[0] == '/' ? "" : "/", parent[0] == '/' && len == 1 ? 0 : (int)len, parent, ctr->id);
	return 0;
}

/* ---- the image ---- */

static int check_platform(const char *platform, const char *name, const struct gt_image *image, struct gt_error *err)
{
	if (!platform || !platform[0])
		return 0;
	AUTO_FREE char *copy = gt_xstrdup(platform);
	char *arch = strchr(copy, '/');
	if (arch)
		*arch++ = '\0';
	char *variant = arch ? strchr(arch, '/') : NULL;
	if (variant)
		*variant++ = '\0';
	bool same = strcmp(copy, image->os ? image->os : "linux") == 0 && (!arch || !image->architecture || strcmp(arch, image->architecture) == 0);
	return same ? 0 :
		      gt_fail(err, GT_NOT_FOUND, "image with reference %s was found but does not match the specified platform: wanted %s, actual: %s/%s",
			      name, platform, image->os ? image->os : "linux", image->architecture ? image->architecture : "?");
}

static int find_image(struct gt_engine *engine, struct gt_container *ctr, const char *platform, struct gt_image *image, struct gt_error *err)
{
	const char *name = ctr->config.image;
	if (!name || !name[0])
		return gt_fail(err, GT_INVALID, "no image is named: set Image");
	if (gt_image_find(engine->images, name, image, err) < 0)
		return -1;
	ctr->image_id = gt_xstrdup(image->id);
	ctr->image_name = gt_xstrdup(name);
	return check_platform(platform, name, image, err);
}

/* ---- other containers that it leans on ---- */

/* "container:NAME" becomes "container:ID", as names may change. One that is not there is the request's mistake: with 404, clients would go and pull
 * the image. */
static int resolve_mode(struct gt_engine *engine, const char *what, char **mode, struct gt_error *err)
{
	const char *ref = config_container_mode(*mode);
	if (!ref)
		return 0;
	AUTO_CONTAINER struct gt_container *other = gt_container_get(engine, ref, err);
	if (!other) {
		if (err && err->kind == GT_NOT_FOUND)
			err->kind = GT_INVALID;
		return gt_context(err, "invalid %s mode", what);
	}
	free(*mode);
	*mode = gt_xasprintf("container:%s", other->id);
	return 0;
}

/* ---- the steps ---- */

static void undo(struct gt_container *ctr, enum step done)
{
	struct gt_engine *engine = ctr->engine;
	struct gt_error err = { 0 };
	switch (done) {
	case INSERTED:
		if (gt_container_forget(ctr, &err) < 0)
			gt_warn("a document is left behind", "id", ctr->id, "error", err.message);
		gt_container_withdraw(ctr); /* fall through */
	case MADE_DIRECTORY:
		gt_remove_tree(AT_FDCWD, ctr->dir, NULL); /* fall through */
	case RESERVED:
		gt_endpoints_release(ctr); /* fall through */
	case MOUNTED:
		gt_mounts_remove(ctr, true); /* fall through */
	case LAYERED:
		if (gt_image_layer_remove(engine->images, ctr->id, &err) < 0)
			gt_warn("a layer is left behind", "id", ctr->id, "error", err.message); /* fall through */
	case HELD:
		gt_image_release(engine->images, ctr->image_id, ctr->id); /* fall through */
	case NOTHING:
		break;
	}
}

static int make_directory(struct gt_container *ctr, struct gt_error *err)
{
	if (gt_mkdirs(AT_FDCWD, ctr->dir, 0711, err) < 0)
		return -1;
	AUTO_FREE char *logs = gt_xasprintf("%s/local-logs", ctr->dir);
	return ctr->log_path[0] && strstr(ctr->log_path, "/local-logs/") ? gt_mkdirs(AT_FDCWD, logs, 0700, err) : 0;
}

static int insert(struct gt_container *ctr, const char *name, struct gt_error *err)
{
	char fresh[64];
	if (name)
		return gt_container_insert(ctr, name, err);
	for (int tries = 0; tries < NAME_TRIES; tries++) {
		gt_name_new(fresh);
		if (gt_container_insert(ctr, fresh, err) == 0)
			return 0;
	}
	return gt_container_insert(ctr, ctr->id, err);
}

/* Taken up to where a failure stops it; *done says what is to be undone. */
static int build(struct gt_container *ctr, const char *name, const struct gt_image *image, json_t *warnings, enum step *done, struct gt_error *err)
{
	struct gt_engine *engine = ctr->engine;
	if (gt_image_hold(engine->images, ctr->image_id, ctr->id, err) < 0)
		return -1;
	*done = HELD;
	if (gt_image_layer_create(engine->images, ctr->id, ctr->image_id, ctr->config.host.storage_opt, err) < 0)
		return -1;
	*done = LAYERED;
	if (gt_mounts_resolve(ctr, image, err) < 0)
		return -1;
	*done = MOUNTED;
	if (gt_endpoints_reserve(ctr, warnings, err) < 0)
		return -1;
	*done = RESERVED;
	if (make_directory(ctr, err) < 0)
		return -1;
	*done = MADE_DIRECTORY;
	if (insert(ctr, name, err) < 0)
		return -1;
	*done = INSERTED;
	return gt_container_save(ctr, err);
}

static int configure(struct gt_container *ctr, const char *platform, const json_t *body, struct gt_image *image, json_t *warnings,
		     struct gt_error *err)
{
	json_t *networking = NULL;
	if (gt_container_config_read(ctr->engine, body, &ctr->config, warnings, err) < 0 ||
	    gt_json_object(body, "NetworkingConfig", &networking, err) < 0 || find_image(ctr->engine, ctr, platform, image, err) < 0)
		return -1;
	gt_container_config_merge(&ctr->config, &image->config);
	if (ctr->build_step) {
		json_decref(take(ctr->config.volumes));
		json_decref(take(ctr->config.exposed_ports));
	}
	ctr->networking = json_deep_copy(networking);
	fill_host(ctr->engine, &ctr->config.host);
	fill_names(ctr);
	free(ctr->log_path);
	ctr->log_path = gt_log_path(ctr);
	return resolve_mode(ctr->engine, "PID", &ctr->config.host.pid_mode, err) < 0 ||
			       resolve_mode(ctr->engine, "IPC", &ctr->config.host.ipc_mode, err) < 0 || fill_command(ctr, err) < 0 ||
			       fill_cgroup(ctr, err) < 0 ?
		       -1 :
		       0;
}

/* The name is looked at early, as it is the commonest mistake and costs nothing; insert() decides. */
static int check_name(struct gt_engine *engine, const char *name, struct gt_error *err)
{
	if (!gt_is_name(name))
		return gt_fail(err, GT_INVALID, "Invalid container name (%.255s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
	pthread_rwlock_rdlock(&engine->lock);
	struct gt_container *other = gt_map_get(&engine->names, name);
	int rc = other ? gt_container_name_taken(name, other, err) : 0;
	pthread_rwlock_unlock(&engine->lock);
	return rc;
}

static int create(struct gt_engine *engine, const char *name, const char *platform, const json_t *body, bool build_step,
		  const struct gt_strings *secret_env, char id[65], json_t **warnings, struct gt_error *err)
{
	struct gt_image image = { 0 };
	enum step done = NOTHING;
	char fresh[GT_ID_LEN + 1];
	if (name && name[0] == '/')
		name++;
	if (name && !name[0])
		name = NULL;
	if (name && check_name(engine, name, err) < 0)
		return -1;
	gt_id_new(fresh);
	AUTO_CONTAINER struct gt_container *ctr = gt_container_new(engine, fresh);
	AUTO_JSON json_t *notes = json_array();
	ctr->created = gt_now();
	ctr->build_step = build_step;
	for (size_t i = 0; secret_env && i < secret_env->count; i++)
		gt_strings_add(&ctr->secret_env, secret_env->items[i]);
	LOCKED(&ctr->op);
	int rc = configure(ctr, platform, body, &image, notes, err);
	if (rc == 0 && (rc = build(ctr, name, &image, notes, &done, err)) < 0)
		undo(ctr, done);
	gt_image_free(&image);
	if (rc < 0)
		return -1;
	memcpy(id, ctr->id, sizeof ctr->id);
	*warnings = take(notes);
	gt_container_event(ctr, "create", NULL);
	return 0;
}

int gt_container_create(struct gt_engine *engine, const char *name, const char *platform, const json_t *body, char id[65],
			json_t **warnings, struct gt_error *err)
{
	int64_t began = gt_monotonic();
	return gt_acted(engine, GT_ACT_CREATE, began, create(engine, name, platform, body, false, NULL, id, warnings, err));
}

int gt_create_build_step(struct gt_engine *engine, const json_t *body, const struct gt_strings *secret_env, char id[65], struct gt_error *err)
{
	AUTO_JSON json_t *warnings = NULL;
	int64_t began = gt_monotonic();
	return gt_acted(engine, GT_ACT_CREATE, began, create(engine, NULL, NULL, body, true, secret_env, id, &warnings, err));
}
