/*
 * commit.c - POST /commit: a container's changes and configuration become an image.
 */
#include <string.h>

#include "engine/internal.h"
#include "runtime/cgroup.h"

static int copy_raw(json_t **to, const json_t *from)
{
	*to = json_is_object(from) && json_object_size(from) ? json_deep_copy(from) : NULL;
	return 0;
}

/* The container's own configuration, in an image's shape. */
static void take_config(const struct gt_container_config *from, struct gt_image_config *to)
{
	to->user = gt_xstrdup(from->user);
	to->working_dir = gt_xstrdup(from->working_dir);
	to->stop_signal = gt_xstrdup(from->stop_signal);
	gt_strings_copy(&to->env, &from->env);
	gt_strings_copy(&to->cmd, &from->cmd);
	gt_strings_copy(&to->entrypoint, &from->entrypoint);
	gt_strings_copy(&to->shell, &from->shell);
	gt_strings_copy(&to->on_build, &from->on_build);
	copy_raw(&to->exposed_ports, from->exposed_ports);
	copy_raw(&to->volumes, from->volumes);
	copy_raw(&to->labels, from->labels);
	copy_raw(&to->healthcheck, from->healthcheck);
	to->args_escaped = from->args_escaped;
}

/* What the request's body sets wins; what it leaves out stays. */
static int override_config(struct gt_image_config *config, const json_t *body, struct gt_error *err)
{
	if (!body || !json_object_size(body))
		return 0;
	AUTO_JSON json_t *given = json_object();
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)body, key, value) {
		bool empty = json_is_null(value) || (json_is_string(value) && !json_string_length(value)) ||
			     (json_is_array(value) && !json_array_size(value)) || (json_is_object(value) && !json_object_size(value)) ||
			     json_is_false(value);
		if (!empty)
			json_object_set(given, key, value);
	}
	AUTO_JSON json_t *labels = config->labels ? json_deep_copy(config->labels) : NULL;
	if (gt_json_decode(given, gt_image_config_fields, config, err) < 0)
		return gt_context(err, "config of the commit");
	if (labels && config->labels && json_object_get(given, "Labels"))
		json_object_update_missing(config->labels, labels);
	return 0;
}

static int apply_changes(struct gt_image_config *config, const struct gt_strings *changes, struct gt_error *err)
{
	for (size_t i = 0; changes && i < changes->count; i++) {
		if (gt_image_config_change(config, changes->items[i], err) < 0)
			return -1;
	}
	return 0;
}

/* Freezes a running container; NULL where there is nothing to freeze. */
static struct gt_cgroup *hold_still(struct gt_container *ctr)
{
	struct gt_cgroup *cgroup = NULL;
	struct gt_error err = { 0 };
	if (ctr->status != GT_RUNNING || gt_cgroup_open(ctr->cgroup, &cgroup, &err) < 0)
		return NULL;
	if (gt_container_unsettle(ctr, &err) == 0 && gt_cgroup_freeze(cgroup, &err) == 0)
		return cgroup;
	gt_container_settle(ctr, NULL);
	if (!gt_exit_await(ctr, GT_ENDING))
		gt_warn("a container could not be paused for its commit", "id", ctr->id, "error", err.message);
	gt_cgroup_free(cgroup);
	return NULL;
}

static int commit(struct gt_container *ctr, const struct gt_image_commit *how, bool pause, char id[72], struct gt_error *err)
{
	struct gt_cgroup *frozen = pause ? hold_still(ctr) : NULL;
	int rc = gt_image_commit(ctr->engine->images, how, id, err);
	struct gt_error thaw = { 0 };
	if (frozen && (gt_cgroup_thaw(frozen, &thaw) < 0 || gt_container_settle(ctr, &thaw) < 0) && !gt_exit_await(ctr, GT_ENDING))
		gt_warn("a container could not be resumed after its commit", "id", ctr->id, "error", thaw.message);
	gt_cgroup_free(frozen);
	return rc;
}

int gt_container_commit(struct gt_engine *engine, const char *ref, const char *repo, const char *tag, const char *comment,
			const char *author, bool pause, const struct gt_strings *changes, const json_t *config, char id[72],
			struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	LOCKED(&ctr->op);
	if (ctr->removed || ctr->status == GT_REMOVING || ctr->status == GT_DEAD)
		return gt_fail(err, GT_CONFLICT, "container %s is being removed: it cannot be committed", ctr->id);
	struct gt_image_commit how = { .parent = ctr->image_id && ctr->image_id[0] ? ctr->image_id : NULL, .container_layer = ctr->id,
				       .container_id = ctr->id, .command = &ctr->config.cmd, .author = author, .message = comment, .repo = repo, .tag = tag };
	take_config(&ctr->config, &how.config);
	int rc = -1;
	if (override_config(&how.config, config, err) == 0 && apply_changes(&how.config, changes, err) == 0)
		rc = commit(ctr, &how, pause, id, err);
	gt_json_release(gt_image_config_fields, &how.config);
	if (rc == 0)
		gt_container_event(ctr, "commit",
				   json_pack("{s:s s:s s:s}", "comment", comment ? comment : "", "imageID", id, "imageRef", repo ? repo : ""));
	return rc;
}
