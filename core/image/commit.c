/*
 * commit.c - `commit`: the changes of a container's writable layer become a layer on its image.
 *
 * Two helpers in a row: one reads the container's view by the driver's list of changes and writes a tar, the other unpacks it as any layer that
 * comes from outside. So a committed layer is made, checked and saved in one way only.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* Names are bytes, JSON is UTF-8: [kind, path] or [kind, null, hex]. */
static int collect_change(void *arg, int kind, const char *path)
{
	json_t *changes = arg, *text = json_string(path);
	if (text) {
		json_array_append_new(changes, json_pack("[i, o]", kind, text));
		return 0;
	}
	AUTO_BUF struct gt_buf hex = { 0 };
	for (const char *p = path; *p; p++)
		gt_buf_printf(&hex, "%02x", (unsigned char)*p);
	json_array_append_new(changes, json_pack("[i, n, s]", kind, hex.data));
	return 0;
}

static json_t *diff_request(struct gt_images *images, const char *container_layer, int64_t clamp, json_t *changes, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	if (gt_layer_mount(images->storage, container_layer, true, mount, err) < 0)
		return NULL;
	return json_pack("{s:s, s:{s:[o]}, s:O, s:I}", "job", "diff_tar", "root", "mounts", fs_mount_json(mount, NULL), "changes", changes,
			 "clamp", (json_int_t)clamp);
}

struct layer *layer_of_job(struct gt_images *images, json_t *request, struct layer *parent, struct gt_error *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0) {
		json_decref(request);
		gt_fail_sys(err, GT_INTERNAL, errno, "make a pipe for gantry-fs");
		return NULL;
	}
	AUTO_CLOSE int from = ends[0], to = ends[1];
	fcntl(from, F_SETPIPE_SZ, 1 << 20);
	struct fs_job job;
	if (fs_job_start(&job, images->helper, request, -1, to, -1, err) < 0)
		return NULL;
	close(take_fd(to));
	struct layer_source source = { .blob = { .fd = from, .length = -1 }, .blob_size = -1 };
	struct gt_error reader = { 0 };
	struct layer *layer = layer_acquire(images, parent, &source, NULL, err);
	close(take_fd(from));
	/* A reader that died has cut the tar short, which the layer cannot know. */
	if (fs_job_finish(&job, NULL, NULL, NULL, &reader) < 0 && (layer || reader.kind != GT_CANCELLED)) {
		layer_release(images, layer);
		if (err)
			*err = reader;
		return NULL;
	}
	return layer;
}

/* ---- mount points ---- */

static const char *relative(const char *path)
{
	while (*path == '/')
		path++;
	return path;
}

/* Where path was added, and nothing that is in it: its index; else -1. */
static ssize_t added_alone(const json_t *changes, const char *path)
{
	ssize_t found = -1;
	size_t i, len = strlen(path);
	const json_t *change;
	json_array_foreach(changes, i, change) {
		const char *text = json_string_value(json_array_get(change, 1));
		if (!text || strncmp(relative(text), path, len) != 0)
			continue;
		if (relative(text)[len] == '/')
			return -1;
		if (!relative(text)[len] && json_integer_value(json_array_get(change, 0)) == GANTRY_ADDED)
			found = (ssize_t)i;
	}
	return found;
}

/* The point itself, and the directories above it that have nothing else. */
static void drop_point(json_t *changes, const char *point)
{
	AUTO_FREE char *path = gt_xstrdup(relative(point));
	for (size_t len = strlen(path); len > 0; len = strlen(path)) {
		if (path[len - 1] == '/') {
			path[len - 1] = '\0';
			continue;
		}
		ssize_t at = added_alone(changes, path);
		if (at < 0)
			return;
		json_array_remove(changes, (size_t)at);
		char *slash = strrchr(path, '/');
		path[slash ? slash - path : 0] = '\0';
	}
}

/* ---- /etc ---- */

static json_t *mount_of(struct gt_images *images, const char *layer, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	return gt_layer_mount(images->storage, layer, true, mount, err) < 0 ? NULL : fs_mount_json(mount, NULL);
}

/* Whether the container gave its /etc other attributes than the image's has; that is so where it cannot be told. */
static bool etc_changed(struct gt_images *images, const char *container_layer, const struct layer *parent)
{
	struct fs_job job;
	AUTO_JSON json_t *reply = NULL;
	bool same = false;
	json_t *base = parent ? mount_of(images, parent->id, NULL) : NULL, *top = base ? mount_of(images, container_layer, NULL) : NULL;
	if (!top) {
		json_decref(base);
		return true;
	}
	json_t *request = json_pack("{s:s, s:o, s:o, s:s}", "job", "same", "base", base, "top", top, "name", "etc");
	if (fs_job_start(&job, images->helper, request, -1, -1, -1, NULL) < 0 || fs_job_finish(&job, &reply, NULL, NULL, NULL) < 0)
		return true;
	return gt_json_bool(reply, "same", &same, NULL) < 0 || !same;
}

/* ---- the layer ---- */

int layer_of_changes(struct gt_images *images, const char *container_layer, int64_t clamp, const struct gt_strings *points, struct layer *parent,
		     struct layer **top, struct gt_error *err)
{
	AUTO_JSON json_t *changes = json_array();
	bool moot = false;
	if (gt_container_layer_changes(images->storage, container_layer, collect_change, changes, &moot, err) < 0)
		return -1;
	if (moot && etc_changed(images, container_layer, parent))
		collect_change(changes, GANTRY_MODIFIED, "/etc");
	for (size_t i = 0; points && i < points->count; i++)
		drop_point(changes, points->items[i]);
	if (json_array_size(changes) == 0) {
		LOCKED(&images->lock);
		*top = layer_count(images, parent);
		return 0;
	}
	json_t *request = diff_request(images, container_layer, clamp, changes, err);
	*top = request ? layer_of_job(images, request, parent, err) : NULL;
	return *top ? 0 : -1;
}

static char *join(const struct gt_strings *words)
{
	struct gt_buf out = { 0 };
	for (size_t i = 0; words && i < words->count; i++)
		gt_buf_printf(&out, "%s%s", i ? " " : "", words->items[i]);
	return gt_buf_take(&out);
}

static json_t *make_document(const struct gt_image_commit *how, const json_t *base, const struct layer *layer)
{
	char now[36];
	gt_time_format(gt_now(), now);
	AUTO_FREE char *created_by = join(how->command);
	json_t *document = json_object();
	static const char *const kept[] = { "architecture", "os", "variant", "os.version", "os.features" };
	for (size_t i = 0; i < GT_COUNT(kept); i++)
		json_object_set(document, kept[i], json_object_get(base, kept[i]));
	if (!base) {
		json_object_set_new(document, "os", json_string("linux"));
		json_object_set_new(document, "architecture", json_string("amd64"));
	}
	json_t *history = json_deep_copy(gt_json_get(base, "history")) ?: json_array();
	json_t *diffs = json_deep_copy(gt_json_get(gt_json_get(base, "rootfs"), "diff_ids")) ?: json_array();
	json_t *step = json_pack("{s:s, s:s, s:s*, s:s*}", "created", now, "created_by", created_by, "author",
				 how->author && how->author[0] ? how->author : NULL, "comment",
				 how->message && how->message[0] ? how->message : NULL);
	if (layer) {
		char diff[72];
		snprintf(diff, sizeof diff, "sha256:%s", layer->diff);
		json_array_append_new(diffs, json_string(diff));
	} else {
		json_object_set_new(step, "empty_layer", json_true());
	}
	json_array_append_new(history, step);
	json_object_set_new(document, "created", json_string(now));
	if (how->author && how->author[0])
		json_object_set_new(document, "author", json_string(how->author));
	if (how->message && how->message[0])
		json_object_set_new(document, "comment", json_string(how->message));
	if (how->container_id)
		json_object_set_new(document, "container", json_string(how->container_id));
	json_object_set_new(document, "docker_version", json_string(GANTRY_VERSION));
	json_object_set_new(document, "config", gt_json_encode(gt_image_config_fields, &how->config));
	json_object_set_new(document, "history", history);
	json_object_set_new(document, "rootfs", json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diffs));
	return document;
}

static int check_name(const struct gt_image_commit *how, struct gt_error *err)
{
	struct gt_reference reference;
	if (!how->repo || !how->repo[0])
		return 0;
	AUTO_FREE char *text = how->tag && how->tag[0] ? gt_xasprintf("%s:%s", how->repo, how->tag) : gt_xstrdup(how->repo);
	if (gt_reference_parse(text, &reference, err) < 0)
		return -1;
	gt_reference_free(&reference);
	return 0;
}

int gt_image_commit(struct gt_images *images, const struct gt_image_commit *how, char id[72], struct gt_error *err)
{
	AUTO_JSON json_t *base = NULL;
	char parent_hex[65] = "", hex[65], previous[72];
	struct layer *parent = NULL, *top = NULL;
	if (check_name(how, err) < 0)
		return -1;
	if (how->parent && how->parent[0]) {
		LOCKED(&images->lock);
		struct image *image = image_lookup(images, how->parent, err);
		if (!image)
			return gt_context(err, "commit");
		base = json_deep_copy(image->document);
		memcpy(parent_hex, image->hex, sizeof parent_hex);
		parent = layer_count(images, image->top);
	}
	int rc = layer_of_changes(images, how->container_layer, INT64_MAX, NULL, parent, &top, err);
	if (rc < 0) {
		layer_release(images, parent);
		return gt_context(err, "commit container %.12s", how->container_id ? how->container_id : how->container_layer);
	}
	AUTO_JSON json_t *document = make_document(how, base, top == parent ? NULL : top);
	layer_release(images, parent);
	AUTO_FREE char *text = json_dumps(document, JSON_COMPACT);
	if (!text) {
		layer_release(images, top);
		return gt_fail(err, GT_INVALID, "commit: the author or message is not UTF-8");
	}
	struct gt_buf bytes = { .data = text, .len = strlen(text) };
	if (image_register(images, &bytes, top, parent_hex[0] ? parent_hex : NULL, hex, err) < 0)
		return -1;
	snprintf(id, 72, "sha256:%s", hex);
	if (how->repo && how->repo[0] && image_tag_hex(images, hex, how->repo, how->tag, previous, err) < 0)
		return -1;
	return 0;
}
