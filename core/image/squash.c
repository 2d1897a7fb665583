/*
 * squash.c - the files of an image: as one layer on the image it stands on (`build --squash`), or all of them as a tar (`build --output`).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* ---- squash ---- */

/* The history of the image, of which all that came after the base makes no layer any more; then the merge. */
static json_t *merged_history(const json_t *history, size_t base_count, const char *id, const char *base, const char *when)
{
	json_t *merged = json_array(), *entry;
	size_t i;
	json_array_foreach(history, i, entry) {
		json_t *copy = json_deep_copy(entry);
		if (i >= base_count)
			json_object_set_new(copy, "empty_layer", json_true());
		json_array_append_new(merged, copy);
	}
	json_array_append_new(merged, json_pack("{s:s, s:o}", "created", when, "comment",
						json_sprintf("merge %s to %s", id, base ? base : "nothing")));
	return merged;
}

static json_t *merged_document(const json_t *top, const json_t *base, const char *id, const char *base_id, const struct layer *layer)
{
	char diff[72];
	json_t *document = json_deep_copy(top);
	const char *when = "";
	gt_json_string(top, "created", &when, NULL);
	json_t *diffs = json_deep_copy(gt_json_get(gt_json_get(base, "rootfs"), "diff_ids")) ?: json_array();
	snprintf(diff, sizeof diff, "sha256:%s", layer->diff);
	json_array_append_new(diffs, json_string(diff));
	json_object_set_new(document, "rootfs", json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diffs));
	json_object_set_new(document, "history",
			    merged_history(gt_json_get(top, "history"), json_array_size(gt_json_get(base, "history")), id, base_id, when));
	return document;
}

/* Copy of an image's document, and its layers, counted. */
static int take_image(struct gt_images *images, const char *id, json_t **document, struct layer **top, struct gt_error *err)
{
	LOCKED(&images->lock);
	struct image *image = image_lookup(images, id, err);
	if (!image)
		return -1;
	*document = json_deep_copy(image->document);
	*top = layer_count(images, image->top);
	return 0;
}

static struct layer *merge(struct gt_images *images, const char *base, const char *id, int64_t clamp, struct layer *parent, struct gt_error *err)
{
	json_t *lower = NULL, *upper = NULL;
	if ((base && image_mount(images, base, &lower, err) < 0) || image_mount(images, id, &upper, err) < 0) {
		json_decref(lower);
		return NULL;
	}
	return layer_of_job(images, json_pack("{s:s, s:o*, s:o, s:I}", "job", "squash", "base", lower, "top", upper, "clamp", (json_int_t)clamp), parent,
			    err);
}

int gt_image_squash(struct gt_images *images, const char *base, const char *id, int64_t clamp, const char *holder, char squashed[72],
		    struct gt_error *err)
{
	AUTO_JSON json_t *lower = NULL, *upper = NULL;
	struct layer *parent = NULL, *top = NULL, *layer = NULL;
	char hex[65];
	snprintf(squashed, 72, "%s", id);
	if ((base && take_image(images, base, &lower, &parent, err) < 0) || take_image(images, id, &upper, &top, err) < 0) {
		layer_release(images, parent);
		return gt_context(err, "squash");
	}
	if (top != parent)
		layer = merge(images, base, id, clamp, parent, err);
	bool nothing = top == parent;
	layer_release(images, parent);
	layer_release(images, top);
	if (nothing || !layer)
		return nothing ? 0 : gt_context(err, "squash");
	AUTO_JSON json_t *document = merged_document(upper, lower, id, base, layer);
	AUTO_FREE char *text = json_dumps(document, JSON_COMPACT);
	if (!text) {
		layer_release(images, layer);
		return gt_fail(err, GT_INTERNAL, "squash: the image's document cannot be written");
	}
	struct gt_buf bytes = { .data = text, .len = strlen(text) };
	if (image_register(images, &bytes, layer, base ? base + 7 : NULL, hex, err) < 0)
		return -1;
	snprintf(squashed, 72, "sha256:%s", hex);
	return gt_image_hold_for(images, squashed, holder, err);
}

/* ---- all files ---- */

struct files {
	struct gt_images *images;
	char id[72], holder[80];
};

static void free_files(void *arg)
{
	struct files *files = arg;
	gt_image_release_all(files->images, files->holder);
	free(files);
}

static int pass_on(int from, struct gt_queue *queue, struct gt_error *err)
{
	AUTO_FREE char *bytes = gt_xmalloc(65536);
	for (;;) {
		ssize_t n = read(from, bytes, 65536);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return gt_fail_sys(err, GT_INTERNAL, errno, "read the files of an image");
		if (n > 0 && gt_queue_write(queue, bytes, (size_t)n, err) < 0)
			return -1;
	}
}

static int produce(void *arg, struct gt_queue *queue, struct gt_error *err)
{
	static const char end[1024]; /* of a tar */
	const struct files *files = arg;
	json_t *mount = NULL;
	struct fs_job job;
	int ends[2];
	if (image_mount(files->images, files->id, &mount, err) < 0)
		return -1;
	if (!mount)
		return gt_queue_write(queue, end, sizeof end, err);
	json_object_set_new(mount, "destination", json_string("/"));
	json_t *request = json_pack("{s:s, s:{s:[o]}}", "job", "export", "root", "mounts", mount);
	if (pipe2(ends, O_CLOEXEC) < 0) {
		json_decref(request);
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a pipe for gantry-fs");
	}
	AUTO_CLOSE int from = ends[0], to = ends[1];
	if (fs_job_start(&job, files->images->helper, request, -1, to, -1, err) < 0)
		return -1;
	close(take_fd(to));
	int rc = pass_on(from, queue, err);
	close(take_fd(from)); /* the helper ends by EPIPE where the consumer has gone */
	return fs_job_finish(&job, NULL, NULL, NULL, rc < 0 ? NULL : err) < 0 ? -1 : rc;
}

struct gt_stream *gt_image_files(struct gt_images *images, const char *name, struct gt_error *err)
{
	char fresh[GT_ID_LEN + 1];
	struct gt_image image = { 0 };
	struct files *files = gt_xcalloc(1, sizeof *files);
	files->images = images;
	gt_id_new(fresh);
	snprintf(files->holder, sizeof files->holder, "files-%.64s", fresh);
	int rc = gt_image_find(images, name, &image, err);
	if (rc == 0)
		rc = gt_image_hold_for(images, image.id, files->holder, err);
	memcpy(files->id, image.id, sizeof files->id);
	gt_image_free(&image);
	if (rc == 0)
		return gt_stream_from_thread(&images->savers, produce, files, free_files, err);
	free(files);
	return NULL;
}
