/*
 * changes.c - GET /containers/{id}/changes: what a container has changed against its image.
 */
#include "engine/internal.h"

#define MAX_CHANGES 2000000

struct changes {
	json_t *list;
	bool too_many;
};

static int add(void *arg, int kind, const char *path)
{
	struct changes *changes = arg;
	json_t *text = json_string(path);
	if (!text)
		text = json_string_nocheck("(a name that is not UTF-8)");
	json_array_append_new(changes->list, json_pack("{s:o s:i}", "Path", text, "Kind", kind));
	changes->too_many = json_array_size(changes->list) >= MAX_CHANGES;
	return changes->too_many;
}

json_t *gt_container_changes(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return NULL;
	struct changes changes = { .list = json_array() };
	if (gt_container_layer_changes(gt_images_storage(engine->images), ctr->id, add, &changes, NULL, err) < 0 && !changes.too_many) {
		json_decref(changes.list);
		return NULL;
	}
	if (changes.too_many) {
		json_decref(changes.list);
		return gt_fail_null(err, GT_TOO_LARGE, "container %s has more than %d changes", ctr->id, MAX_CHANGES);
	}
	return changes.list;
}
