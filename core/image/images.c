/*
 * images.c - the tables of images: open and close, look-ups, references, holds of containers and their writable layers.
 */
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- life ---- */

void image_free(struct image *image)
{
	if (!image)
		return;
	json_decref(image->document);
	gt_strings_free(&image->refs);
	gt_map_free(&image->holders);
	free(image);
}

int gt_images_open(const struct gt_config *config, struct gt_store *store, struct gt_driver *storage, struct gt_images **images,
		   struct gt_error *err)
{
	struct gt_images *self = gt_xcalloc(1, sizeof *self);
	self->config = config;
	self->store = store;
	self->storage = storage;
	self->configs = self->manifests = self->recipes = self->spool = -1;
	self->helper = gt_xasprintf("%s/gantry-fs", config->libexec_dir);
	pthread_mutex_init(&self->lock, NULL);
	pthread_cond_init(&self->changed, NULL);
	gt_producers_init(&self->savers);
	if (store_open(self, err) < 0) {
		gt_images_close(self);
		return gt_context(err, "open the images");
	}
	*images = self;
	return 0;
}

void gt_images_close(struct gt_images *images)
{
	if (!images)
		return;
	gt_producers_end(&images->savers);
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;)
		image_free(slot->value);
	for (size_t i = 0; (slot = gt_map_next(&images->layers, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&images->images);
	gt_map_free(&images->layers);
	gt_map_free(&images->refs);
	gt_map_free(&images->steps);
	gt_map_free(&images->claims);
	gt_map_free(&images->orphans);
	for (size_t i = 0; (slot = gt_map_next(&images->names, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&images->names);
	store_close(images);
	pthread_cond_destroy(&images->changed);
	pthread_mutex_destroy(&images->lock);
	free(images->helper);
	free(images);
}

struct gt_driver *gt_images_storage(struct gt_images *images)
{
	return images->storage;
}

size_t gt_images_count(struct gt_images *images)
{
	LOCKED(&images->lock);
	return images->images.count;
}

const struct gt_image_figures *gt_images_figures(const struct gt_images *images)
{
	return &images->figures;
}

const char *intern(struct gt_images *images, const char *text)
{
	LOCKED(&images->lock);
	char *known = gt_map_get(&images->names, text);
	if (!known)
		gt_map_set(&images->names, text, known = gt_xstrdup(text));
	return known;
}

void progress_emit(struct gt_progress *progress, json_t *message)
{
	if (progress && progress->emit && message)
		progress->emit(progress->arg, message);
	json_decref(message);
}

int strings_index(const struct gt_strings *list, const char *text)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], text) == 0)
			return (int)i;
	}
	return -1;
}

void strings_remove(struct gt_strings *list, const char *text)
{
	int at = strings_index(list, text);
	if (at < 0)
		return;
	free(list->items[at]);
	/* the closing NULL moves along */
	memmove(list->items + at, list->items + at + 1, (list->count - (size_t)at) * sizeof *list->items);
	list->count--;
}

/* ---- making images ---- */

static int collect_diffs(const json_t *document, const char **diffs, size_t *count, struct gt_error *err)
{
	json_t *rootfs = NULL, *list = NULL;
	if (gt_json_object(document, "rootfs", &rootfs, err) < 0 || gt_json_array(rootfs, "diff_ids", &list, err) < 0)
		return -1;
	*count = json_array_size(list);
	if (*count > MAX_LAYERS)
		return gt_fail(err, GT_INVALID, "the image has %zu layers; at most %d are supported", *count, MAX_LAYERS);
	for (size_t i = 0; i < *count; i++) {
		const char *digest = json_string_value(json_array_get(list, i));
		if (!digest || !digest_is_valid(digest))
			return gt_fail(err, GT_INVALID, "rootfs.diff_ids[%zu] is not a sha256 digest", i);
		diffs[i] = digest + 7;
	}
	return 0;
}

/* Everything that is read from the document later is checked here, once. */
static int check_document(const json_t *document, struct gt_error *err)
{
	const char *text = "";
	json_t *object = NULL, *list = NULL;
	struct gt_image_config config = { 0 };
	static const char *const strings[] = { "architecture", "os", "variant", "author", "comment", "docker_version", "created",
					       "os.version" };
	for (size_t i = 0; i < GT_COUNT(strings); i++) {
		if (gt_json_string(document, strings[i], &text, err) < 0)
			return -1;
	}
	if (gt_json_object(document, "config", &object, err) < 0 || gt_json_array(document, "history", &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (!json_is_object(json_array_get(list, i)))
			return gt_fail(err, GT_INVALID, "history[%zu] is not an object", i);
	}
	int rc = object ? gt_json_decode(object, gt_image_config_fields, &config, err) : 0;
	gt_json_release(gt_image_config_fields, &config);
	return rc;
}

struct image *image_parse(const char *bytes, size_t len, const char *hex, const char **diffs, size_t *diff_count, struct gt_error *err)
{
	AUTO_JSON json_t *document = gt_json_parse(bytes, len, "image config", err);
	if (!document)
		return NULL;
	if (!json_is_object(document))
		return gt_fail_null(err, GT_INVALID, "image config %.12s is not a JSON object", hex);
	if (check_document(document, err) < 0 || collect_diffs(document, diffs, diff_count, err) < 0) {
		gt_context(err, "image config %.12s", hex);
		return NULL;
	}
	struct image *image = gt_xcalloc(1, sizeof *image);
	const char *created = "";
	memcpy(image->hex, hex, 64);
	gt_json_string(document, "created", &created, NULL);
	if (!created[0] || gt_time_parse(created, &image->created, NULL) < 0)
		image->created = 0;
	image->document = take(document);
	return image;
}

void image_set_top(struct image *image, struct layer *top)
{
	image->top = top;
	image->size = 0;
	for (; top; top = top->parent)
		image->size += top->size;
}

size_t image_layer_count(const struct image *image)
{
	size_t count = 0;
	for (const struct layer *layer = image->top; layer; layer = layer->parent)
		count++;
	return count;
}

bool image_has_child(struct gt_images *images, const struct image *image)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		if (strcmp(((struct image *)slot->value)->parent, image->hex) == 0)
			return true;
	}
	return false;
}

static int check_layers(const struct image *image, const struct layer *top, const char *const *diffs, size_t count, struct gt_error *err)
{
	for (size_t i = count; i-- > 0; top = top->parent) {
		if (!top || strcmp(top->diff, diffs[i]) != 0)
			return gt_fail(err, GT_INVALID, "image %.12s: its layers are not those of its config", image->hex);
	}
	return top ? gt_fail(err, GT_INVALID, "image %.12s: it has more layers than its config says", image->hex) : 0;
}

void image_index_step(struct gt_images *images, struct image *image)
{
	if (image->key[0])
		gt_map_set(&images->steps, image->key, image);
}

void image_unindex_step(struct gt_images *images, struct image *image)
{
	if (image->key[0] && gt_map_get(&images->steps, image->key) == image)
		gt_map_remove(&images->steps, image->key);
}

/* With the lock held: an image that is there already is what the key stands for from now on. */
static int adopt_key(struct gt_images *images, struct image *image, const char *key, struct gt_error *err)
{
	if (!key || strcmp(image->key, key) == 0) {
		image_index_step(images, image);
		return 0;
	}
	image_unindex_step(images, image);
	memcpy(image->key, key, 65);
	image_index_step(images, image);
	return store_put_meta(images, image, err);
}

int image_register(struct gt_images *images, const struct gt_buf *config, struct layer *top, const char *parent_hex, char hex[65],
		   struct gt_error *err)
{
	return image_register_step(images, config, top, parent_hex, NULL, hex, err);
}

int image_register_step(struct gt_images *images, const struct gt_buf *config, struct layer *top, const char *parent_hex, const char *key,
			char hex[65], struct gt_error *err)
{
	AUTO_FREE const char **diffs = gt_xcalloc(MAX_LAYERS, sizeof *diffs);
	size_t count = 0;
	digest_of(config->data, config->len, hex);
	struct image *image = image_parse(config->data, config->len, hex, diffs, &count, err);
	if (!image || check_layers(image, top, diffs, count, err) < 0)
		goto failed;
	image_set_top(image, top);
	if (parent_hex)
		memcpy(image->parent, parent_hex, 65);
	if (key)
		memcpy(image->key, key, 65);
	image->step = key != NULL;

	pthread_mutex_lock(&images->lock);
	struct image *there = gt_map_get(&images->images, hex);
	bool known = there != NULL;
	int rc = known ? adopt_key(images, there, key, err) : store_put_config(images, hex, config, err);
	if (!known && rc == 0 && (rc = store_put_meta(images, image, err)) < 0)
		store_drop_image(images, image);
	if (!known && rc == 0) {
		image_index_step(images, image);
		gt_map_set(&images->images, hex, take(image));
	}
	pthread_mutex_unlock(&images->lock);
	if (rc < 0)
		goto failed;
	if (known)
		layer_release(images, top);
	image_free(image);
	return 0;
failed:
	image_free(image);
	layer_release(images, top);
	return -1;
}

/* ---- references ---- */

int image_point_ref(struct gt_images *images, const char *key, struct image *image, struct image **previous, struct gt_error *err)
{
	struct image *old = gt_map_get(&images->refs, key);
	int64_t last_tag = image->last_tag;
	if (previous)
		*previous = old == image ? NULL : old;
	image->last_tag = gt_now();
	if (old != image) {
		gt_map_set(&images->refs, key, image);
		if (store_put_refs(images, err) < 0) {
			if (old)
				gt_map_set(&images->refs, key, old);
			else
				gt_map_remove(&images->refs, key);
			image->last_tag = last_tag;
			return gt_context(err, "tag image %.12s", image->hex);
		}
		if (old)
			strings_remove(&old->refs, key);
		gt_strings_add(&image->refs, key);
	}
	struct gt_error minor = { 0 };
	if (store_put_meta(images, image, &minor) < 0)
		gt_warn("the time of a tag could not be stored", "image", image->hex, "error", minor.message);
	return 0;
}

static int tag_key(const char *repo, const char *tag, char **key, struct gt_error *err)
{
	struct gt_reference reference;
	if (gt_reference_parse(repo, &reference, err) < 0)
		return -1;
	int rc = 0;
	if (reference.digest) {
		rc = gt_fail(err, GT_INVALID, "refusing to create a tag with a digest reference");
	} else if (tag && tag[0]) {
		AUTO_FREE char *text = gt_xasprintf("%s/%s:%s", reference.domain, reference.path, tag);
		struct gt_reference full;
		if (gt_reference_parse(text, &full, err) < 0) {
			rc = -1;
		} else {
			*key = reference_key(&full);
			gt_reference_free(&full);
		}
	} else {
		*key = reference_key(&reference);
	}
	gt_reference_free(&reference);
	return rc;
}

int image_tag_hex(struct gt_images *images, const char *hex, const char *repo, const char *tag, char previous[72], struct gt_error *err)
{
	AUTO_FREE char *key = NULL;
	previous[0] = '\0';
	if (tag_key(repo, tag, &key, err) < 0)
		return -1;
	LOCKED(&images->lock);
	struct image *image = gt_map_get(&images->images, hex), *old = NULL;
	if (!image)
		return gt_fail(err, GT_NOT_FOUND, "No such image: sha256:%s", hex);
	if (image_point_ref(images, key, image, &old, err) < 0)
		return -1;
	if (old)
		snprintf(previous, 72, "sha256:%s", old->hex);
	return 0;
}

int gt_image_tag(struct gt_images *images, const char *name, const char *repo, const char *tag, struct gt_error *err)
{
	AUTO_FREE char *key = NULL;
	if (tag_key(repo, tag, &key, err) < 0)
		return -1;
	LOCKED(&images->lock);
	struct image *image = image_lookup(images, name, err);
	return image ? image_point_ref(images, key, image, NULL, err) : -1;
}

/* ---- look-ups ---- */

struct image *image_by_ref(struct gt_images *images, const struct gt_reference *reference)
{
	AUTO_FREE char *key = reference_key(reference);
	struct image *image = gt_map_get(&images->refs, key);
	/* a digest may also be the image's own id */
	if (!image && reference->digest)
		image = gt_map_get(&images->images, reference->digest + 7);
	return image;
}

static struct image *by_prefix(struct gt_images *images, const char *prefix, struct gt_error *err)
{
	struct image *found = NULL;
	struct gt_map_slot *slot;
	size_t len = strlen(prefix);
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		if (strncmp(slot->key, prefix, len) != 0)
			continue;
		if (found)
			return gt_fail_null(err, GT_INVALID, "image id prefix %s is ambiguous: give more digits", prefix);
		found = slot->value;
	}
	if (!found)
		gt_fail(err, GT_NOT_FOUND, "No such image: %s", prefix);
	return found;
}

struct image *image_lookup(struct gt_images *images, const char *name, struct gt_error *err)
{
	const char *id = strncmp(name, "sha256:", 7) == 0 ? name + 7 : name;
	if (gt_is_id(id)) {
		struct image *image = gt_map_get(&images->images, id);
		return image ? image : gt_fail_null(err, GT_NOT_FOUND, "No such image: %s", name);
	}
	struct gt_reference reference;
	bool parsed = gt_reference_parse(name, &reference, err) == 0;
	struct image *image = parsed ? image_by_ref(images, &reference) : NULL;
	struct gt_error prefix = { 0 };
	if (!image && gt_is_id_prefix(id))
		image = by_prefix(images, id, &prefix);
	if (!image && prefix.kind == GT_INVALID) {
		if (err)
			*err = prefix;
	} else if (!image && parsed) {
		AUTO_FREE char *familiar = gt_reference_familiar(&reference, true);
		gt_fail(err, GT_NOT_FOUND, "No such image: %s", familiar);
	}
	gt_reference_free(&reference);
	return image;
}

static char *document_string(const json_t *document, const char *name)
{
	const char *text = "";
	gt_json_string(document, name, &text, NULL);
	return gt_xstrdup(text);
}

static void fill(const struct image *from, struct gt_image *image)
{
	snprintf(image->id, sizeof image->id, "sha256:%s", from->hex);
	snprintf(image->top_layer, sizeof image->top_layer, "%s", from->top ? from->top->id : "");
	image->architecture = document_string(from->document, "architecture");
	image->os = document_string(from->document, "os");
	image->variant = document_string(from->document, "variant");
	image->size = from->size;
	image->created = from->created;
	image->document = json_deep_copy(from->document);
	json_t *config = gt_json_get(image->document, "config");
	if (json_is_object(config))
		gt_json_decode(config, gt_image_config_fields, &image->config, NULL);
	json_t *diffs = gt_json_get(gt_json_get(image->document, "rootfs"), "diff_ids");
	for (size_t i = 0; i < json_array_size(diffs); i++)
		gt_strings_add(&image->diff_ids, json_string_value(json_array_get(diffs, i)));
}

int gt_image_find(struct gt_images *images, const char *name, struct gt_image *image, struct gt_error *err)
{
	*image = (struct gt_image){ 0 };
	LOCKED(&images->lock);
	struct image *found = image_lookup(images, name, err);
	if (!found)
		return -1;
	fill(found, image);
	return 0;
}

void gt_image_free(struct gt_image *image)
{
	free(image->architecture);
	free(image->os);
	free(image->variant);
	gt_json_release(gt_image_config_fields, &image->config);
	json_decref(image->document);
	gt_strings_free(&image->diff_ids);
	*image = (struct gt_image){ 0 };
}

/* ---- holds ---- */

static struct image *by_id(struct gt_images *images, const char *id)
{
	return gt_map_get(&images->images, strncmp(id, "sha256:", 7) == 0 ? id + 7 : id);
}

int gt_image_hold(struct gt_images *images, const char *id, const char *holder, struct gt_error *err)
{
	LOCKED(&images->lock);
	struct image *image = by_id(images, id);
	if (!image)
		return gt_fail(err, GT_NOT_FOUND, "No such image: %s", id);
	if (gt_map_get(&image->holders, holder))
		return 0;
	layer_count(images, image->top);
	gt_map_set(&image->holders, holder, image->top ? (void *)image->top : (void *)image);
	return 0;
}

void gt_image_release(struct gt_images *images, const char *id, const char *holder)
{
	struct layer *layer = NULL;
	pthread_mutex_lock(&images->lock);
	struct image *image = by_id(images, id);
	void *held = image ? gt_map_remove(&image->holders, holder) : NULL;
	if (held)
		layer = held == image ? NULL : held;
	else
		layer = gt_map_remove(&images->orphans, holder);
	pthread_mutex_unlock(&images->lock);
	layer_release(images, layer);
}

size_t gt_image_holders(struct gt_images *images, const char *id)
{
	LOCKED(&images->lock);
	struct image *image = by_id(images, id);
	return image ? image->holders.count : 0;
}

/* ---- writable layers ---- */

int gt_image_layer_create(struct gt_images *images, const char *container_id, const char *image_id, const json_t *storage_opt,
			  struct gt_error *err)
{
	char parent[65] = "";
	pthread_mutex_lock(&images->lock);
	struct image *image = by_id(images, image_id);
	if (image && image->top)
		memcpy(parent, image->top->id, sizeof parent);
	pthread_mutex_unlock(&images->lock);
	if (!image)
		return gt_fail(err, GT_NOT_FOUND, "No such image: %s", image_id);
	if (json_object_size(storage_opt) && !(gt_driver_capabilities(images->storage) & GANTRY_STORAGE_QUOTA))
		return gt_fail(err, GT_UNSUPPORTED, "StorageOpt is not supported: the storage driver %s has no quotas", gt_driver_name(images->storage));
	return gt_layer_prepare(images->storage, GANTRY_LAYER_WRITABLE, container_id, parent[0] ? parent : NULL, storage_opt, err);
}

int gt_image_layer_remove(struct gt_images *images, const char *container_id, struct gt_error *err)
{
	if (gt_layer_remove(images->storage, container_id, err) < 0)
		return -1;
	layers_sweep(images);
	return 0;
}

/* ---- the embedded image ---- */

int gt_images_load_embedded(struct gt_images *images, const char *path, struct gt_error *err)
{
	AUTO_JSON json_t *marker = gt_store_get(images->documents, "embedded", NULL);
	if (marker)
		return 0; /* it was there once: a user who removed it meant it */
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open the embedded image %s", path);
	json_t *loaded = NULL;
	if (gt_image_load(images, fd, NULL, NULL, &loaded, err) < 0)
		return gt_context(err, "embedded image %s", path);
	AUTO_JSON json_t *document = json_pack("{s:o}", "images", loaded);
	return gt_store_put(images->documents, "embedded", document, true, err);
}
