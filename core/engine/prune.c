/*
 * prune.c - POST /containers/prune: containers that have stopped, by filter.
 */
#include <stdio.h>

#include "engine/internal.h"

static bool prunable(struct gt_container *ctr, const json_t *filters, int64_t until)
{
	LOCKED(&ctr->lock);
	if (ctr->status != GT_CREATED && ctr->status != GT_EXITED && ctr->status != GT_DEAD)
		return false;
	return (!until || ctr->created < until) && gt_filter_match_prune(filters, ctr->config.labels);
}

static int read_until(const json_t *filters, int64_t *until, struct gt_error *err)
{
	const json_t *values = json_object_get(filters, "until");
	if (!values)
		return 0;
	if (json_array_size(values) != 1 || !json_is_string(json_array_get(values, 0)))
		return gt_fail(err, GT_INVALID, "filter until takes one value");
	return gt_time_parse(json_string_value(json_array_get(values, 0)), until, err);
}

json_t *gt_containers_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err)
{
	static const char *const KNOWN[] = { "until", "label", "label!", NULL };
	int64_t until = 0, reclaimed = 0;
	if (gt_filter_check(filters, KNOWN, err) < 0 || read_until(filters, &until, err) < 0)
		return NULL;
	json_t *deleted = json_array();
	struct gt_container **all = gt_containers_all(engine, NULL);
	for (size_t i = 0; all[i]; i++) {
		struct gt_container *ctr = all[i];
		struct gantry_usage usage = { .size = sizeof usage };
		struct gt_error local = { 0 };
		LOCKED(&ctr->op);
		if (ctr->removed || !prunable(ctr, filters, until))
			continue;
		bool sized = gt_layer_usage(gt_images_storage(engine->images), ctr->id, &usage, NULL) == 0 && usage.bytes > 0;
		if (gt_remove_locked(ctr, false, true, &local) < 0) {
			gt_warn("a container was not pruned", "id", ctr->id, "error", local.message);
			continue;
		}
		json_array_append_new(deleted, json_string(ctr->id));
		reclaimed += sized ? usage.bytes : 0;
	}
	gt_containers_put(all);
	char bytes[32];
	snprintf(bytes, sizeof bytes, "%lld", (long long)reclaimed);
	gt_event(engine, "container", "prune", "", json_pack("{s:s}", "reclaimed", bytes));
	return json_pack("{s:o s:I}", "ContainersDeleted", deleted, "SpaceReclaimed", (json_int_t)reclaimed);
}
