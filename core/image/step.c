/*
 * step.c - the steps of builds: each makes an image on the image before it, with a layer of copied files, with the changes of a container, or with
 * another configuration alone.
 *
 * A step's image is found again by its key, the digest of what it was made from: that is the build cache. It goes as any image goes (rmi, prune), but
 * lists do not show it unless it became a result. A build holds its images, so that nothing is pulled from under it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* ---- copies ---- */

static json_t *strings_json(const struct gt_strings *list)
{
	json_t *array = json_array();
	for (size_t i = 0; list && i < list->count; i++)
		json_array_append_new(array, json_string(list->items[i]));
	return array;
}

int image_mount(struct gt_images *images, const char *id, json_t **mount, struct gt_error *err)
{
	char top[65] = "";
	pthread_mutex_lock(&images->lock);
	struct image *image = image_lookup(images, id, err);
	if (image && image->top)
		memcpy(top, image->top->id, sizeof top);
	pthread_mutex_unlock(&images->lock);
	if (!image)
		return -1;
	AUTO_FREE struct gantry_mount *described = gt_xcalloc(1, sizeof *described);
	if (!top[0])
		return 0;
	if (gt_layer_mount(images->storage, top, true, described, err) < 0)
		return -1;
	*mount = fs_mount_json(described, NULL);
	return 0;
}

void gt_copy_free(struct gt_copy *copy)
{
	for (size_t i = 0; i < copy->source_count; i++) {
		free(copy->sources[i].dir);
		free(copy->sources[i].image);
	}
	free(copy->sources);
	free(copy->item_sources);
	free(copy->dest);
	free(copy->chown);
	free(copy->chmod);
	gt_strings_free(&copy->items);
	gt_strings_free(&copy->exclude);
	*copy = (struct gt_copy){ 0 };
}

void gt_copy_add_source(struct gt_copy *copy, const char *dir, const char *image)
{
	copy->sources = gt_xrealloc(copy->sources, (copy->source_count + 1) * sizeof *copy->sources);
	copy->sources[copy->source_count++] = (struct gt_copy_source){ gt_xstrdup(dir), gt_xstrdup(image) };
}

void gt_copy_add_item(struct gt_copy *copy, const char *path, size_t source)
{
	copy->item_sources = gt_xrealloc(copy->item_sources, (copy->items.count + 1) * sizeof *copy->item_sources);
	copy->item_sources[copy->items.count] = source;
	gt_strings_add(&copy->items, path);
}

static int source_json(struct gt_images *images, const struct gt_copy_source *source, json_t *list, struct gt_error *err)
{
	json_t *mount = NULL;
	if (source->dir) {
		json_array_append_new(list, json_pack("{s:s}", "dir", source->dir));
		return 0;
	}
	if (image_mount(images, source->image, &mount, err) < 0)
		return -1;
	if (!mount)
		return gt_fail(err, GT_NOT_FOUND, "image %.19s has no files", source->image);
	json_array_append_new(list, mount);
	return 0;
}

static json_t *copy_request(struct gt_images *images, const char *parent, const struct gt_copy *copy, bool hash, struct gt_error *err)
{
	AUTO_JSON json_t *sources = json_array();
	AUTO_JSON json_t *lower = NULL;
	json_t *items = json_array();
	for (size_t i = 0; i < copy->items.count; i++) {
		json_t *item = json_pack("[s, I]", copy->items.items[i], (json_int_t)copy->item_sources[i]);
		if (!item)
			json_decref(take(items));
		else if (items)
			json_array_append_new(items, item);
	}
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < copy->source_count; i++)
		rc = source_json(images, &copy->sources[i], sources, err);
	if (rc < 0 || (parent && image_mount(images, parent, &lower, err) < 0)) {
		json_decref(items);
		return NULL;
	}
	json_t *request = json_pack("{s:s, s:O, s:O*, s:o, s:s, s:b, s:b, s:b, s:b, s:b, s:s*, s:s*, s:s*, s:I, s:I, s:I, s:I, s:o, s:o}", "job", "copy",
				    "sources", sources, "lower", lower, "items", items, "dest", copy->dest, "dest_is_dir", copy->dest_is_dir,
				    "hash", hash, "parents", copy->parents, "unpack", copy->unpack, "link", copy->link, "chown", copy->chown,
				    "chmod", copy->chmod, "known", copy->known, "uid", (json_int_t)copy->uid, "gid", (json_int_t)copy->gid, "now",
				    (json_int_t)copy->now, "clamp", (json_int_t)copy->clamp, "exclude", strings_json(&copy->exclude), "ignore",
				    strings_json(copy->ignore));
	return request ? request : gt_fail_null(err, GT_INVALID, "a path of the instruction is not UTF-8");
}

int gt_image_copy_digest(struct gt_images *images, const char *parent, const struct gt_copy *copy, char digest[65], int64_t *count,
			 struct gt_error *err)
{
	struct fs_job job;
	AUTO_JSON json_t *reply = NULL;
	const char *text = "";
	json_t *request = copy_request(images, parent, copy, true, err);
	if (!request || fs_job_start(&job, images->helper, request, -1, -1, -1, err) < 0 ||
	    fs_job_finish(&job, &reply, NULL, NULL, err) < 0 || gt_json_string(reply, "digest", &text, err) < 0 ||
	    gt_json_int(reply, "count", count, err) < 0)
		return -1;
	snprintf(digest, 65, "%s", text);
	return 0;
}

int gt_image_copy_out(struct gt_images *images, const struct gt_copy *copy, const char *dir, struct gt_error *err)
{
	int ends[2];
	struct fs_job job;
	struct gt_error reader = { 0 };
	json_t *request = copy_request(images, NULL, copy, false, err);
	if (!request)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		json_decref(request);
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a pipe for gantry-fs");
	}
	AUTO_CLOSE int from = ends[0], to = ends[1];
	if (fs_job_start(&job, images->helper, request, -1, to, -1, err) < 0)
		return -1;
	close(take_fd(to));
	int rc = gt_fs_context(images->helper, dir, from, -1, INT64_MAX, INT64_MAX, err);
	close(take_fd(from));
	if (fs_job_finish(&job, NULL, NULL, NULL, &reader) < 0 && (rc == 0 || reader.kind != GT_CANCELLED)) {
		if (err)
			*err = reader;
		return -1;
	}
	return rc;
}

/* ---- steps ---- */

/* One hold for each image: "<holder>.<id>". */
int gt_image_hold_for(struct gt_images *images, const char *id, const char *holder, struct gt_error *err)
{
	AUTO_FREE char *name = gt_xasprintf("%s.%.16s", holder, id + 7);
	return gt_image_hold(images, id, name, err);
}

/* The parent's document and layers, counted; NULL for both from scratch. */
static int take_parent(struct gt_images *images, const char *id, json_t **document, struct layer **top, char hex[65], struct gt_error *err)
{
	if (!id)
		return 0;
	LOCKED(&images->lock);
	struct image *image = image_lookup(images, id, err);
	if (!image)
		return gt_context(err, "build");
	*document = json_deep_copy(image->document);
	*top = layer_count(images, image->top);
	memcpy(hex, image->hex, 65);
	return 0;
}

/* The layer of image `id` that stands right above parent, counted. */
static int adopt_layer(struct gt_images *images, const char *id, struct layer *parent, struct layer **top, struct gt_error *err)
{
	LOCKED(&images->lock);
	struct image *image = image_lookup(images, id, err);
	if (!image)
		return -1;
	struct layer *layer = image->top;
	while (layer && layer->parent != parent)
		layer = layer->parent;
	if (!layer)
		return gt_fail(err, GT_NOT_FOUND, "image %.19s does not stand on the build's layers", id);
	*top = layer_count(images, layer);
	return 0;
}

static int make_layer(struct gt_images *images, const struct gt_image_step *step, struct layer *parent, struct layer **top,
		      struct gt_error *err)
{
	if (step->container_layer)
		return layer_of_changes(images, step->container_layer, step->clamp, step->mount_points, parent, top, err);
	if (step->adopt)
		return adopt_layer(images, step->adopt, parent, top, err);
	if (step->copy) {
		json_t *request = copy_request(images, step->parent, step->copy, false, err);
		*top = request ? layer_of_job(images, request, parent, err) : NULL;
		return *top ? 0 : -1;
	}
	LOCKED(&images->lock);
	*top = layer_count(images, parent);
	return 0;
}

static json_t *history_entry(const struct gt_image_step *step, const char *when, const char *author, bool empty)
{
	json_t *entry = json_pack("{s:s, s:s, s:s*, s:s*}", "created", when, "created_by", step->created_by, "author",
				  author && author[0] ? author : NULL, "comment", step->comment && step->comment[0] ? step->comment : NULL);
	if (entry && empty)
		json_object_set_new(entry, "empty_layer", json_true());
	return entry;
}

/* Nothing in it differs from one build of the same to the next, but the times. */
static json_t *make_document(const struct gt_image_step *step, const json_t *base, const struct layer *layer)
{
	static const char *const kept[] = { "architecture", "os", "variant", "os.version", "os.features" };
	char when[36];
	const char *author = "";
	gt_time_format(step->created, when);
	gt_json_string(base, "author", &author, NULL);
	if (step->author && step->author[0])
		author = step->author;
	json_t *entry = history_entry(step, when, author, !layer);
	if (!entry)
		return NULL;
	json_t *document = json_object();
	for (size_t i = 0; i < GT_COUNT(kept); i++)
		json_object_set(document, kept[i], json_object_get(base, kept[i]));
	if (!base) {
		json_object_set_new(document, "os", json_string("linux"));
		json_object_set_new(document, "architecture", json_string(step->architecture));
		if (step->variant && step->variant[0])
			json_object_set_new(document, "variant", json_string(step->variant));
	}
	json_t *history = json_deep_copy(gt_json_get(base, "history")) ?: json_array();
	json_t *diffs = json_deep_copy(gt_json_get(gt_json_get(base, "rootfs"), "diff_ids")) ?: json_array();
	if (layer) {
		char diff[72];
		snprintf(diff, sizeof diff, "sha256:%s", layer->diff);
		json_array_append_new(diffs, json_string(diff));
	}
	json_array_append_new(history, entry);
	json_object_set_new(document, "created", json_string(when));
	if (author[0])
		json_object_set_new(document, "author", json_string(author));
	json_object_set_new(document, "config", gt_json_encode(gt_image_config_fields, step->config));
	json_object_set_new(document, "history", history);
	json_object_set_new(document, "rootfs", json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diffs));
	return document;
}

int gt_image_step(struct gt_images *images, const struct gt_image_step *step, const char *holder, char id[72], struct gt_error *err)
{
	AUTO_JSON json_t *base = NULL;
	char parent_hex[65] = "", hex[65];
	struct layer *parent = NULL, *top = NULL;
	if (take_parent(images, step->parent, &base, &parent, parent_hex, err) < 0)
		return -1;
	if (make_layer(images, step, parent, &top, err) < 0) {
		layer_release(images, parent);
		return -1;
	}
	AUTO_JSON json_t *document = make_document(step, base, top == parent ? NULL : top);
	layer_release(images, parent);
	AUTO_FREE char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
	if (!text) {
		layer_release(images, top);
		return gt_fail(err, GT_INVALID, "the instruction is not UTF-8");
	}
	struct gt_buf bytes = { .data = text, .len = strlen(text) };
	if (image_register_step(images, &bytes, top, parent_hex[0] ? parent_hex : NULL, step->key, hex, err) < 0)
		return -1;
	snprintf(id, 72, "sha256:%s", hex);
	return gt_image_hold_for(images, id, holder, err);
}

bool gt_image_step_find(struct gt_images *images, const char *parent, const char *key, const char *holder, char id[72])
{
	pthread_mutex_lock(&images->lock);
	struct image *image = gt_map_get(&images->steps, key);
	bool found = image && strcmp(image->parent, parent ? parent + 7 : "") == 0;
	if (found) {
		image->last_use = gt_now();
		snprintf(id, 72, "sha256:%s", image->hex);
	}
	pthread_mutex_unlock(&images->lock);
	return found && gt_image_hold_for(images, id, holder, NULL) == 0;
}

int gt_image_step_keep(struct gt_images *images, const char *id, struct gt_error *err)
{
	LOCKED(&images->lock);
	struct image *image = image_lookup(images, id, err);
	if (!image)
		return -1;
	if (!image->step)
		return 0;
	image->step = false;
	return store_put_meta(images, image, err);
}

bool gt_image_descends(struct gt_images *images, const char *id, const char *ancestor)
{
	LOCKED(&images->lock);
	struct image *image = gt_map_get(&images->images, id + 7);
	for (int depth = 0; image && depth < 10000; depth++) {
		if (strcmp(image->hex, ancestor + 7) == 0)
			return true;
		image = image->parent[0] ? gt_map_get(&images->images, image->parent) : NULL;
	}
	return false;
}

void gt_image_release_all(struct gt_images *images, const char *holder)
{
	struct gt_strings ids = { 0 }, names = { 0 };
	struct gt_map_slot *slot, *held;
	size_t len = strlen(holder);
	pthread_mutex_lock(&images->lock);
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		for (size_t k = 0; (held = gt_map_next(&((struct image *)slot->value)->holders, &k)) != NULL;) {
			if (strncmp(held->key, holder, len) != 0 || held->key[len] != '.')
				continue;
			gt_strings_add(&ids, slot->key);
			gt_strings_add(&names, held->key);
		}
	}
	for (size_t i = 0; (slot = gt_map_next(&images->orphans, &i)) != NULL;) { /* of images that were removed meanwhile */
		if (strncmp(slot->key, holder, len) == 0 && slot->key[len] == '.') {
			gt_strings_add(&ids, "");
			gt_strings_add(&names, slot->key);
		}
	}
	pthread_mutex_unlock(&images->lock);
	for (size_t i = 0; i < ids.count; i++)
		gt_image_release(images, ids.items[i], names.items[i]);
	gt_strings_free(&ids);
	gt_strings_free(&names);
}

/* ---- the cache as a whole ---- */

static bool is_idle_step(struct gt_images *images, const struct image *image)
{
	return image->step && image->refs.count == 0 && image->holders.count == 0 && !image_has_child(images, image);
}

static int64_t used_at(const struct image *image)
{
	return image->last_use > image->created ? image->last_use : image->created;
}

/* The idle step that was not used for the longest time, before `older`; NULL where there is none. */
static struct image *oldest_step(struct gt_images *images, int64_t older)
{
	struct image *oldest = NULL;
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		struct image *image = slot->value;
		if (is_idle_step(images, image) && used_at(image) < older && (!oldest || used_at(image) < used_at(oldest)))
			oldest = image;
	}
	return oldest;
}

/* Bytes of the layer that the step itself added. */
static int64_t own_bytes(struct gt_images *images, const struct image *image)
{
	const struct image *parent = image->parent[0] ? gt_map_get(&images->images, image->parent) : NULL;
	return image->top && (!parent || parent->top != image->top) ? image->top->size : 0;
}

static int64_t steps_bytes(struct gt_images *images)
{
	int64_t sum = 0;
	struct gt_map_slot *slot;
	LOCKED(&images->lock);
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		struct image *image = slot->value;
		sum += image->step ? own_bytes(images, image) : 0;
	}
	return sum;
}

json_t *gt_image_steps_prune(struct gt_images *images, int64_t older, int64_t keep, int64_t *bytes, struct gt_error *err)
{
	AUTO_JSON json_t *removed = json_array();
	while (keep <= 0 || steps_bytes(images) > keep) {
		char id[72] = "";
		int64_t size = 0;
		pthread_mutex_lock(&images->lock);
		struct image *image = oldest_step(images, older);
		if (image) {
			snprintf(id, sizeof id, "sha256:%s", image->hex);
			size = own_bytes(images, image);
		}
		pthread_mutex_unlock(&images->lock);
		if (!id[0])
			break;
		AUTO_JSON json_t *gone = gt_image_remove(images, id, false, true, err);
		if (!gone)
			return NULL;
		*bytes += size;
		json_array_append_new(removed, json_string(id + 7));
	}
	return take(removed);
}

json_t *gt_image_steps_usage(struct gt_images *images)
{
	json_t *list = json_array();
	struct gt_map_slot *slot;
	LOCKED(&images->lock);
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		const struct image *image = slot->value;
		if (!image->step)
			continue;
		char created[36], used[36];
		gt_time_format(image->created, created);
		gt_time_format(used_at(image), used);
		json_t *history = gt_json_get(image->document, "history");
		const char *by = "";
		gt_json_string(json_array_get(history, json_array_size(history) - 1), "created_by", &by, NULL);
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:s, s:s, s:i}", "ID", image->hex, "Parent",
						      image->parent, "Type", "regular", "Description", by, "InUse",
						      (int)(image->holders.count > 0), "Shared", (int)image_has_child(images, image), "Size",
						      (json_int_t)own_bytes(images, image), "CreatedAt", created, "LastUsedAt", used, "UsageCount", 1));
	}
	return list;
}
