/*
 * store.c - images on disk, below <root>/images:
 *
 *   configs/<hex>.json     a config's exact bytes; its digest is the image's id, and is checked when it is loaded
 *   manifests/<hex>.json   of a pulled or pushed image: its manifest's exact bytes
 *   meta/<hex>.json        what the config does not say: parent, time of the last tag, build key
 *   layers/<chain>.json    a layer: id in the storage driver, diff id, parent, sizes
 *   recipes/<id>.zst       how to rebuild the layer's tar
 *   refs.json              every reference, in one document: it is replaced whole, so a name never points nowhere
 *   spool/                 files of loads under way; emptied at start
 *
 * The order of writing (layers, config, meta, references) and of removing (references, config, layers) means that a crash leaves
 * at most things that nothing refers to: store_open() removes them. Start-up is single-threaded.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* ---- writing ---- */

static json_t *digest_json(const char *hex)
{
	char text[72];
	snprintf(text, sizeof text, "sha256:%s", hex);
	return json_string(text);
}

static void set_blob(json_t *document, const char *name, const struct layer_blob *blob)
{
	char format[2] = { blob->format, '\0' };
	if (blob->hex[0])
		json_object_set_new(document, name, json_pack("{s:o, s:I, s:s, s:s}", "digest", digest_json(blob->hex), "size",
							      (json_int_t)blob->size, "format", format, "repository", blob->repository));
}

int store_put_layer(struct gt_images *images, const struct layer *layer, struct gt_error *err)
{
	AUTO_JSON json_t *document = json_pack("{s:s, s:o, s:I, s:I, s:b}", "id", layer->id, "diff_id", digest_json(layer->diff), "size",
					       (json_int_t)layer->size, "tar_size", (json_int_t)layer->tar_size, "recipe",
					       (int)layer->recipe);
	if (layer->parent)
		json_object_set_new(document, "parent", digest_json(layer->parent->chain));
	set_blob(document, "blob", &layer->blob);
	set_blob(document, "packed", &layer->packed);
	return gt_store_put(images->layer_documents, layer->chain, document, true, err);
}

void store_drop_layer(struct gt_images *images, const struct layer *layer)
{
	struct gt_error err = { 0 };
	if (gt_store_remove(images->layer_documents, layer->chain, &err) < 0)
		gt_warn("a layer's document could not be removed", "layer", layer->chain, "error", err.message);
}

int store_put_refs(struct gt_images *images, struct gt_error *err)
{
	AUTO_JSON json_t *document = json_object();
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->refs, &i)) != NULL;)
		json_object_set_new(document, slot->key, digest_json(((struct image *)slot->value)->hex));
	return gt_store_put(images->documents, "refs", document, true, err);
}

int store_put_meta(struct gt_images *images, const struct image *image, struct gt_error *err)
{
	AUTO_JSON json_t *document = json_pack("{s:I}", "last_tag", (json_int_t)image->last_tag);
	if (image->parent[0])
		json_object_set_new(document, "parent", digest_json(image->parent));
	if (image->key[0])
		json_object_set_new(document, "key", json_string(image->key));
	if (image->step)
		json_object_set_new(document, "step", json_true());
	return gt_store_put(images->meta, image->hex, document, true, err);
}

void store_drop_image(struct gt_images *images, const struct image *image)
{
	char name[80];
	struct gt_error err = { 0 };
	snprintf(name, sizeof name, "%s.json", image->hex);
	if (unlinkat(images->configs, name, 0) < 0 && errno != ENOENT)
		gt_warn("an image's config could not be removed", "image", image->hex, "error", strerror(errno));
	unlinkat(images->manifests, name, 0);
	if (gt_store_remove(images->meta, image->hex, &err) < 0)
		gt_warn("an image's document could not be removed", "image", image->hex, "error", err.message);
}

int store_put_manifest(struct gt_images *images, const char *hex, const struct gt_buf *bytes, struct gt_error *err)
{
	char name[80];
	snprintf(name, sizeof name, "%s.json", hex);
	return gt_replace_file(images->manifests, name, bytes->data, bytes->len, 0600, images->config->fsync, err);
}

int store_read_manifest(struct gt_images *images, const char *hex, struct gt_buf *out, struct gt_error *err)
{
	char name[80];
	snprintf(name, sizeof name, "%s.json", hex);
	return gt_read_file(images->manifests, name, CONFIG_MAX, out, err);
}

int store_put_config(struct gt_images *images, const char *hex, const struct gt_buf *bytes, struct gt_error *err)
{
	char name[80];
	snprintf(name, sizeof name, "%s.json", hex);
	return gt_replace_file(images->configs, name, bytes->data, bytes->len, 0600, images->config->fsync, err);
}

int store_read_config(struct gt_images *images, const char *hex, struct gt_buf *out, struct gt_error *err)
{
	char name[80], found[65];
	snprintf(name, sizeof name, "%s.json", hex);
	if (gt_read_file(images->configs, name, CONFIG_MAX, out, err) < 0)
		return gt_context(err, "config of image %.12s", hex);
	digest_of(out->data, out->len, found);
	if (strcmp(found, hex) != 0)
		return gt_fail(err, GT_INTERNAL, "config of image %.12s is damaged: its digest is %.12s", hex, found);
	return 0;
}

/* ---- loading ---- */

/* What the storage driver has: id -> the layer of ours it belongs to, or itself where none is known yet. */
static int note_id(void *arg, const char *id)
{
	struct gt_map *ids = arg;
	gt_map_set(ids, id, ids);
	return 0;
}

struct loading {
	struct gt_images *images;
	struct gt_map stored;           /* ids in the storage driver */
	struct gt_map parents;          /* chain -> parent chain (owned), "" for none */
};

/* What a registry had of it; a blob that makes no sense is just not known. */
static void load_blob(struct gt_images *images, const json_t *document, const char *name, struct layer_blob *blob)
{
	json_t *object = NULL;
	const char *digest = "", *format = "", *repository = "";
	int64_t size = -1;
	gt_json_object(document, name, &object, NULL);
	gt_json_string(object, "digest", &digest, NULL);
	gt_json_string(object, "format", &format, NULL);
	gt_json_string(object, "repository", &repository, NULL);
	gt_json_int(object, "size", &size, NULL);
	if (!digest_is_valid(digest) || size < 0 || !format[0] || !strchr("gzp", format[0]))
		return;
	*blob = (struct layer_blob){ .format = format[0], .size = size, .repository = intern(images, repository) };
	memcpy(blob->hex, digest + 7, sizeof blob->hex);
}

static int load_layer(void *arg, const char *chain, json_t *document)
{
	struct loading *loading = arg;
	const char *id = "", *diff = "", *parent = "";
	bool sealed = false;
	AUTO_FREE struct layer *layer = gt_xcalloc(1, sizeof *layer);
	if (!gt_is_id(chain) || gt_json_string(document, "id", &id, NULL) < 0 || gt_json_string(document, "diff_id", &diff, NULL) < 0 ||
	    gt_json_string(document, "parent", &parent, NULL) < 0 || gt_json_int(document, "size", &layer->size, NULL) < 0 ||
	    gt_json_int(document, "tar_size", &layer->tar_size, NULL) < 0 ||
	    gt_json_bool(document, "recipe", &layer->recipe, NULL) < 0 || !gt_is_id(id) || !digest_is_valid(diff) ||
	    (parent[0] && !digest_is_valid(parent))) {
		gt_warn("a layer's document makes no sense and is left out", "layer", chain);
		return 0;
	}
	if (!gt_map_get(&loading->stored, id) || gt_layer_lookup(loading->images->storage, id, &sealed, NULL) < 0 || !sealed) {
		memcpy(layer->chain, chain, 65);
		gt_info("a layer without its files is forgotten", "layer", chain);
		store_drop_layer(loading->images, layer);
		return 0;
	}
	memcpy(layer->chain, chain, 65);
	memcpy(layer->id, id, 65);
	memcpy(layer->diff, diff + 7, 65);
	load_blob(loading->images, document, "blob", &layer->blob);
	load_blob(loading->images, document, "packed", &layer->packed);
	gt_map_set(&loading->parents, chain, gt_xstrdup(parent[0] ? parent + 7 : ""));
	gt_map_set(&loading->images->layers, chain, take(layer));
	return 0;
}

/* Ties layers to their parents; those whose parent is missing are of no use. Repeats, as that makes others lose theirs. */
static void tie_layers(struct loading *loading)
{
	struct gt_images *images = loading->images;
	bool again = true;
	while (again) {
		struct gt_map_slot *slot;
		again = false;
		for (size_t i = 0; !again && (slot = gt_map_next(&images->layers, &i)) != NULL;) {
			struct layer *layer = slot->value;
			const char *parent = gt_map_get(&loading->parents, layer->chain);
			layer->parent = parent[0] ? gt_map_get(&images->layers, parent) : NULL;
			if (!parent[0] || layer->parent)
				continue;
			gt_warn("a layer without its parent is forgotten", "layer", layer->chain);
			store_drop_layer(images, layer);
			gt_map_remove(&images->layers, layer->chain);
			free(layer);
			again = true;
		}
	}
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->layers, &i)) != NULL;) {
		struct layer *layer = slot->value;
		if (layer->parent)
			layer->parent->refs++;
	}
	images->idle_layers = 0;
	for (size_t i = 0; (slot = gt_map_next(&images->layers, &i)) != NULL;)
		images->idle_layers += ((struct layer *)slot->value)->refs == 0;
}

static void quarantine(struct gt_images *images, const char *name, const char *why)
{
	int root = gt_store_dirfd(images->store);
	AUTO_FREE char *target = gt_xasprintf("quarantine/image-config-%s", name);
	gt_mkdirs(root, "quarantine", 0700, NULL);
	gt_warn("an image's config is put into quarantine", "file", name, "why", why);
	if (renameat(images->configs, name, root, target) < 0)
		gt_warn("it could not be moved", "file", name, "error", strerror(errno));
}

static struct layer *find_top(struct gt_images *images, const char *const *diffs, size_t count, bool *complete)
{
	struct layer *top = NULL;
	*complete = true;
	for (size_t i = 0; i < count; i++) {
		char chain[65];
		chain_id(top ? top->chain : NULL, diffs[i], chain);
		top = gt_map_get(&images->layers, chain);
		if (!top) {
			*complete = false;
			return NULL;
		}
	}
	return top;
}

static void load_meta(struct gt_images *images, struct image *image)
{
	const char *parent = "", *key = "";
	AUTO_JSON json_t *document = gt_store_get(images->meta, image->hex, NULL);
	if (!document)
		return;
	gt_json_int(document, "last_tag", &image->last_tag, NULL);
	gt_json_string(document, "parent", &parent, NULL);
	if (digest_is_valid(parent))
		memcpy(image->parent, parent + 7, 65);
	gt_json_string(document, "key", &key, NULL);
	gt_json_bool(document, "step", &image->step, NULL);
	if (gt_is_id(key))
		memcpy(image->key, key, 65);
	image_index_step(images, image);
}

static void load_config(struct gt_images *images, const char *name)
{
	char hex[65];
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf bytes = { 0 };
	AUTO_FREE const char **diffs = gt_xcalloc(MAX_LAYERS, sizeof *diffs);
	size_t count = 0;
	bool complete = false;
	size_t len = strlen(name);
	if (name[0] == '.') { /* a temporary file of a crash */
		unlinkat(images->configs, name, 0);
		return;
	}
	snprintf(hex, sizeof hex, "%.64s", name);
	if (len != 69 || !gt_is_id(hex) || strcmp(name + 64, ".json") != 0) {
		quarantine(images, name, "not a name of ours");
		return;
	}
	if (store_read_config(images, hex, &bytes, &err) < 0) {
		quarantine(images, name, err.message);
		return;
	}
	struct image *image = image_parse(bytes.data, bytes.len, hex, diffs, &count, &err);
	if (!image) {
		quarantine(images, name, err.message);
		return;
	}
	struct layer *top = find_top(images, diffs, count, &complete);
	if (!complete) {
		gt_info("an image without all of its layers is forgotten", "image", hex);
		store_drop_image(images, image);
		image_free(image);
		return;
	}
	image_set_top(image, layer_count(images, top));
	load_meta(images, image);
	gt_map_set(&images->images, hex, image);
}

static int each_file(int dirfd, void (*fn)(struct gt_images *images, const char *name), struct gt_images *images, struct gt_error *err)
{
	int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		int saved = errno;
		if (copy >= 0)
			close(copy);
		return gt_fail_errno(err, saved, "read a directory of images");
	}
	struct gt_strings names = { 0 };
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			gt_strings_add(&names, e->d_name);
	}
	closedir(dir);
	for (size_t i = 0; i < names.count; i++)
		fn(images, names.items[i]);
	gt_strings_free(&names);
	return 0;
}

static int load_refs(struct gt_images *images, struct gt_error *err)
{
	struct gt_error absent = { 0 };
	AUTO_JSON json_t *document = gt_store_get(images->documents, "refs", &absent);
	if (!document && absent.kind != GT_NOT_FOUND)
		gt_warn("references of images are lost", "error", absent.message);
	const char *key;
	json_t *value;
	bool dropped = false;
	json_object_foreach(document, key, value)
	{
		struct gt_reference reference;
		const char *id = json_string_value(value);
		struct image *image = id && digest_is_valid(id) ? gt_map_get(&images->images, id + 7) : NULL;
		if (!image || gt_reference_parse(key, &reference, NULL) < 0) {
			gt_warn("a reference to an image that is not there is forgotten", "reference", key);
			dropped = true;
			continue;
		}
		gt_reference_free(&reference);
		gt_map_set(&images->refs, key, image);
		gt_strings_add(&image->refs, key);
	}
	return dropped ? store_put_refs(images, err) : 0;
}

/* Sealed layers that no document tells of: of an import, commit or load that died between the two. A container may stand on one. */
static void remove_strays(struct loading *loading)
{
	struct gt_images *images = loading->images;
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->layers, &i)) != NULL;)
		gt_map_remove(&loading->stored, ((struct layer *)slot->value)->id);
	bool again = true;
	while (again) {
		again = false;
		for (size_t i = 0; !again && (slot = gt_map_next(&loading->stored, &i)) != NULL;) {
			bool sealed = false;
			if (!gt_is_id(slot->key) || gt_layer_lookup(images->storage, slot->key, &sealed, NULL) < 0 || !sealed ||
			    gt_layer_remove(images->storage, slot->key, NULL) < 0)
				continue;
			gt_info("a layer that belongs to nothing is removed", "layer", slot->key);
			AUTO_FREE char *id = gt_xstrdup(slot->key);
			gt_map_remove(&loading->stored, id);
			again = true; /* its parent may be free now */
		}
	}
}

static void drop_stray_recipe(struct gt_images *images, const char *name)
{
	struct gt_map_slot *slot;
	size_t len = strlen(name);
	if (name[0] != '.' && len == 68 && strcmp(name + 64, ".zst") == 0) {
		char id[65];
		snprintf(id, sizeof id, "%.64s", name);
		struct layer *layer = gt_map_get(&images->layers, id);
		if (layer && strcmp(layer->id, id) == 0)
			return;
		for (size_t i = 0; (slot = gt_map_next(&images->layers, &i)) != NULL;) {
			if (strcmp(((struct layer *)slot->value)->id, id) == 0)
				return;
		}
	}
	unlinkat(images->recipes, name, 0);
}

static void drop_stray_manifest(struct gt_images *images, const char *name)
{
	char hex[65];
	snprintf(hex, sizeof hex, "%.64s", name);
	if (strlen(name) != 69 || !gt_map_get(&images->images, hex))
		unlinkat(images->manifests, name, 0);
}

static int drop_stray_meta(void *arg, const char *hex)
{
	struct gt_images *images = arg;
	if (!gt_map_get(&images->images, hex))
		gt_store_remove(images->meta, hex, NULL);
	return 0;
}

static int open_below(struct gt_images *images, const char *path, int *fd, struct gt_error *err)
{
	int root = gt_store_dirfd(images->store);
	if (gt_mkdirs(root, path, 0700, err) < 0)
		return -1;
	*fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *fd >= 0 ? 0 : gt_fail_errno(err, errno, "open %s/%s", gt_store_root(images->store), path);
}

static int load_all(struct loading *loading, struct gt_error *err)
{
	struct gt_images *images = loading->images;
	if (gt_layer_list(images->storage, note_id, &loading->stored, err) < 0 ||
	    gt_store_each(images->layer_documents, load_layer, loading, err) < 0)
		return -1;
	tie_layers(loading);
	if (each_file(images->configs, load_config, images, err) < 0 || load_refs(images, err) < 0 ||
	    gt_store_each_id(images->meta, drop_stray_meta, images, err) < 0 ||
	    each_file(images->manifests, drop_stray_manifest, images, err) < 0)
		return -1;
	remove_strays(loading);
	layers_sweep(images);
	return each_file(images->recipes, drop_stray_recipe, images, err);
}

int store_open(struct gt_images *images, struct gt_error *err)
{
	int root = gt_store_dirfd(images->store);
	if (!(images->documents = gt_store_collection(images->store, "images", err)) ||
	    !(images->meta = gt_store_collection(images->store, "images/meta", err)) ||
	    !(images->layer_documents = gt_store_collection(images->store, "images/layers", err)) ||
	    gt_remove_tree(root, "images/spool", err) < 0 || open_below(images, "images/configs", &images->configs, err) < 0 ||
	    open_below(images, "images/manifests", &images->manifests, err) < 0 ||
	    open_below(images, "images/recipes", &images->recipes, err) < 0 ||
	    open_below(images, "images/spool", &images->spool, err) < 0)
		return -1;
	struct loading loading = { .images = images };
	int rc = load_all(&loading, err);
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&loading.parents, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&loading.parents);
	gt_map_free(&loading.stored);
	return rc;
}

void store_close(struct gt_images *images)
{
	int *fds[] = { &images->configs, &images->manifests, &images->recipes, &images->spool };
	for (size_t i = 0; i < GT_COUNT(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}
