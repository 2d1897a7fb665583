/*
 * volume_list.c - volumes as the API shows them: inspect, list, usage, prune.
 *
 * What is shown is copied out of the table first; drivers are asked without its lock.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/volume.h"

/* ---- one volume ---- */

/* What the table says of a volume. */
struct view {
	char *name, *driver;
	json_t *options, *labels;
	int64_t created;
	size_t users;
};

/* With the lock held. */
static struct view view_of(const struct volume *volume)
{
	return (struct view){ .name = gt_xstrdup(volume->name), .driver = gt_xstrdup(volume->driver), .options = json_deep_copy(volume->options),
			      .labels = json_deep_copy(volume->labels), .created = volume->created, .users = volume->users.count };
}

static void view_free(struct view *view)
{
	free(view->name);
	free(view->driver);
	json_decref(view->options);
	json_decref(view->labels);
}

#define AUTO_VIEW __attribute__((cleanup(view_free)))

/* Fails where there is none of that name, or it is being made. */
static int look_up(struct gt_volumes *volumes, const char *name, struct view *view, struct gt_error *err)
{
	LOCKED(&volumes->lock);
	const struct volume *volume = gt_map_get(&volumes->map, name);
	if (!volume || volume->state == VOLUME_MAKING)
		return gt_fail(err, GT_NOT_FOUND, "get %.255s: no such volume", name);
	*view = view_of(volume);
	return 0;
}

static json_t *describe(struct gt_engine *engine, const struct view *view)
{
	char created[36];
	struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	info->size = sizeof *info;
	gt_time_format(view->created, created);
	struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_VOLUME, view->driver, NULL);
	if (driver)
		gt_vol_inspect(driver, view->name, info, NULL);
	bool global = driver && ((gt_driver_capabilities(driver) & GANTRY_VOL_GLOBAL) || (info->flags & GANTRY_VOLUME_GLOBAL));
	json_t *json = json_pack("{s:s s:s s:s s:s s:O s:s s:O}", "CreatedAt", created, "Driver", view->driver, "Mountpoint", info->mountpoint, "Name",
				 view->name, "Labels", view->labels, "Scope", global ? "global" : "local", "Options", view->options);
	json_t *status = info->status[0] ? json_loads(info->status, 0, NULL) : NULL;
	if (json_object_size(status))
		json_object_set(json, "Status", status);
	json_decref(status);
	free(info);
	return json;
}

json_t *gt_volume_inspect(struct gt_engine *engine, const char *name, struct gt_error *err)
{
	AUTO_VIEW struct view view = { 0 };
	return look_up(engine->volumes, name, &view, err) < 0 ? NULL : describe(engine, &view);
}

/* Bytes, or -1 where the driver cannot tell. */
static int64_t measure(struct gt_engine *engine, const struct view *view)
{
	struct gantry_usage usage = { .size = sizeof usage, .bytes = -1 };
	struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_VOLUME, view->driver, NULL);
	return driver && gt_vol_usage(driver, view->name, &usage, NULL) == 0 ? usage.bytes : -1;
}

json_t *gt_volume_usage(struct gt_engine *engine, const char *name)
{
	AUTO_VIEW struct view view = { 0 };
	bool there = look_up(engine->volumes, name, &view, NULL) == 0;
	return json_pack("{s:I s:I}", "Size", (json_int_t)(there ? measure(engine, &view) : -1), "RefCount", (json_int_t)(there ? (json_int_t)view.users : -1));
}

/* ---- list ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct view *)a)->name, ((const struct view *)b)->name);
}

/* dangling: 1 or 0 as asked for, or -1. */
static bool listed(const struct volume *volume, const json_t *filters, int dangling)
{
	const json_t *names = json_object_get(filters, "name");
	bool named = !json_array_size(names);
	size_t i;
	json_t *part;
	json_array_foreach(names, i, part)
		named = named || strstr(volume->name, json_string_value(part));
	if (volume->state == VOLUME_MAKING || (dangling >= 0 && dangling != (volume->users.count == 0)))
		return false;
	return named && gt_filter_match(filters, "driver", volume->driver) && gt_filter_match_labels(filters, "label", volume->labels);
}

/* Sorted by name; the caller's, as each of them. */
static struct view *list(struct gt_volumes *volumes, const json_t *filters, int dangling, size_t *count)
{
	struct gt_map_slot *slot;
	LOCKED(&volumes->lock);
	struct view *views = gt_xcalloc(volumes->map.count + 1, sizeof *views);
	for (size_t i = 0; (slot = gt_map_next(&volumes->map, &i)) != NULL;) {
		if (listed(slot->value, filters, dangling))
			views[(*count)++] = view_of(slot->value);
	}
	qsort(views, *count, sizeof *views, by_name);
	return views;
}

json_t *gt_volume_list(struct gt_engine *engine, const json_t *filters, struct gt_error *err)
{
	static const char *const KNOWN[] = { "dangling", "driver", "label", "name", NULL };
	size_t count = 0;
	int dangling;
	if (gt_filter_check(filters, KNOWN, err) < 0 || gt_filter_bool(filters, "dangling", &dangling, err) < 0)
		return NULL;
	AUTO_FREE struct view *views = list(engine->volumes, filters, dangling, &count);
	json_t *rows = json_array();
	for (size_t i = 0; i < count; i++) {
		json_array_append_new(rows, describe(engine, &views[i]));
		view_free(&views[i]);
	}
	return json_pack("{s:o s:[]}", "Volumes", rows, "Warnings");
}

/* ---- prune ---- */

struct prune {
	const json_t *filters;
	bool all;                       /* those with names too */
};

static bool prunable(const struct volume *volume, void *arg)
{
	const struct prune *prune = arg;
	return volume->state == VOLUME_THERE && !volume->users.count && (prune->all || volume->anonymous) &&
	       gt_filter_match_prune(prune->filters, volume->labels);
}

static void list_prunable(struct gt_volumes *volumes, struct prune *prune, struct gt_strings *names)
{
	struct gt_map_slot *slot;
	LOCKED(&volumes->lock);
	for (size_t i = 0; (slot = gt_map_next(&volumes->map, &i)) != NULL;) {
		if (prunable(slot->value, prune))
			gt_strings_add(names, slot->key);
	}
}

/* Adds to deleted and to the bytes that became free. */
static void prune_one(struct gt_engine *engine, const char *name, struct prune *prune, json_t *deleted, int64_t *reclaimed)
{
	AUTO_VIEW struct view view = { 0 };
	struct gt_error err = { 0 };
	if (look_up(engine->volumes, name, &view, NULL) < 0)
		return;
	int64_t bytes = measure(engine, &view);
	int rc = volume_remove_if(engine, name, prunable, prune, &err);
	if (rc < 0)
		gt_warn("a volume was not pruned", "volume", name, "error", err.message);
	if (rc <= 0)
		return;
	json_array_append_new(deleted, json_string(name));
	*reclaimed += bytes > 0 ? bytes : 0;
}

json_t *gt_volumes_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err)
{
	static const char *const KNOWN[] = { "all", "label", "label!", NULL };
	struct gt_strings names = { 0 };
	int64_t reclaimed = 0;
	int all;
	if (gt_filter_check(filters, KNOWN, err) < 0 || gt_filter_bool(filters, "all", &all, err) < 0)
		return NULL;
	struct prune prune = { .filters = filters, .all = all == 1 };
	json_t *deleted = json_array();
	list_prunable(engine->volumes, &prune, &names);
	for (size_t i = 0; i < names.count; i++)
		prune_one(engine, names.items[i], &prune, deleted, &reclaimed);
	gt_strings_free(&names);
	gt_event(engine, "volume", "prune", "", json_pack("{s:o}", "reclaimed", json_sprintf("%lld", (long long)reclaimed)));
	return json_pack("{s:o s:I}", "VolumesDeleted", deleted, "SpaceReclaimed", (json_int_t)reclaimed);
}
