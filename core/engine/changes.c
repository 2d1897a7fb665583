/*
 * changes.c - GET /containers/{id}/changes: what a container has changed against its image.
 */
#include <string.h>

#include "engine/internal.h"

#define MAX_CHANGES 2000000

struct changes {
	json_t *list;
	int etc;        /* the kind of /etc's change while it is not known whether more than the engine's files stands behind it; -1: none */
	bool own;       /* the engine's files have been met */
	bool too_many;
};

static void add(struct changes *changes, int kind, const char *path)
{
	json_t *text = json_string(path);
	if (!text)
		text = json_string_nocheck("(a name that is not UTF-8)");
	json_array_append_new(changes->list, json_pack("{s:o s:i}", "Path", text, "Kind", kind));
}

/* Other changes below /etc, or none of the engine's: then /etc counts. */
static void settle_etc(struct changes *changes, bool other)
{
	if (changes->etc >= 0 && (other || !changes->own))
		add(changes, changes->etc, "/etc");
	changes->etc = -1;
}

static int visit(void *arg, int kind, const char *path)
{
	struct changes *changes = arg;
	if (strcmp(path, "/etc") == 0) {
		changes->etc = kind;
	} else if (gt_is_network_file(path)) {
		changes->own = true;
	} else {
		settle_etc(changes, strncmp(path, "/etc/", 5) == 0);
		add(changes, kind, path);
	}
	changes->too_many = json_array_size(changes->list) >= MAX_CHANGES;
	return changes->too_many;
}

json_t *gt_container_changes(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return NULL;
	struct changes changes = { .list = json_array(), .etc = -1 };
	if (gt_layer_diff(gt_images_storage(engine->images), ctr->id, visit, &changes, err) < 0 && !changes.too_many) {
		json_decref(changes.list);
		return NULL;
	}
	if (changes.too_many) {
		json_decref(changes.list);
		return gt_fail_null(err, GT_TOO_LARGE, "container %s has more than %d changes", ctr->id, MAX_CHANGES);
	}
	settle_etc(&changes, false);
	return changes.list;
}
