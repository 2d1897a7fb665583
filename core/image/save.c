/*
 * save.c - `save`: a tar stream that is a Docker archive and an OCI layout at once: both point at the same blobs.
 *
 *   oci-layout, index.json      OCI image-layout
 *   manifest.json, repositories Docker
 *   blobs/sha256/<hex>          configs, manifests, and layers as plain tars: a layer's digest is its diff id
 *
 * Names are resolved and layers counted before the stream begins, so what the caller asked for cannot vanish under it. A thread writes the tar;
 * layers are rebuilt by gantry-fs and checked as they pass: a layer that does not give its diff id ends the stream with an error.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define ROOM (256u * 1024)

struct saved {
	char hex[65];
	struct gt_strings tags;         /* familiar */
	struct gt_buf config;
	int64_t created;
	struct layer *top;              /* counted */
	struct layer *layers[MAX_LAYERS];       /* base first */
	size_t layer_count;
	struct gt_buf manifest;         /* OCI */
	char manifest_hex[65];
};

struct save {
	struct gt_images *images;
	struct saved **items;
	size_t count;
	struct gt_queue *queue;
	struct archive *archive;
	struct gt_map written;          /* blobs that are in the tar: hex -> save */
	struct gt_error failure;        /* of the queue */
};

static void save_free(void *arg)
{
	struct save *save = arg;
	for (size_t i = 0; i < save->count; i++) {
		struct saved *item = save->items[i];
		layer_release(save->images, item->top);
		gt_strings_free(&item->tags);
		gt_buf_free(&item->config);
		gt_buf_free(&item->manifest);
		free(item);
	}
	free(save->items);
	gt_map_free(&save->written);
	if (save->archive)
		archive_write_free(save->archive);
	free(save);
}

/* ---- what to save ---- */

/* With the lock held. */
static struct saved *add_image(struct save *save, struct image *image, struct gt_error *err)
{
	for (size_t i = 0; i < save->count; i++) {
		if (strcmp(save->items[i]->hex, image->hex) == 0)
			return save->items[i];
	}
	struct saved *item = gt_xcalloc(1, sizeof *item);
	memcpy(item->hex, image->hex, sizeof item->hex);
	item->created = image->created;
	item->top = layer_count(save->images, image->top);
	size_t at = item->layer_count = image_layer_count(image);
	for (struct layer *layer = image->top; layer; layer = layer->parent)
		item->layers[--at] = layer;
	save->items = gt_xrealloc(save->items, (save->count + 1) * sizeof *save->items);
	save->items[save->count++] = item;
	return store_read_config(save->images, image->hex, &item->config, err) < 0 ? NULL : item;
}

static int add_tag(struct save *save, struct image *image, const char *key, struct gt_error *err)
{
	struct saved *item = add_image(save, image, err);
	if (!item)
		return -1;
	AUTO_FREE char *familiar = reference_key_familiar(key);
	if (!strchr(familiar, '@') && strings_index(&item->tags, familiar) < 0)
		gt_strings_add(&item->tags, familiar);
	return 0;
}

/* A repository without tag stands for all of its tags. Returns how many there were. */
static int add_repository(struct save *save, const struct gt_reference *reference, struct gt_error *err)
{
	AUTO_FREE char *prefix = gt_xasprintf("%s/%s:", reference->domain, reference->path);
	size_t len = strlen(prefix);
	struct gt_map_slot *slot;
	int found = 0;
	for (size_t i = 0; (slot = gt_map_next(&save->images->refs, &i)) != NULL;) {
		if (strncmp(slot->key, prefix, len) != 0)
			continue;
		found++;
		if (add_tag(save, slot->value, slot->key, err) < 0)
			return -1;
	}
	return found;
}

static int add_name(struct save *save, const char *name, struct gt_error *err)
{
	struct gt_reference reference;
	int found = 0;
	if (gt_reference_parse(name, &reference, NULL) == 0) {
		AUTO_FREE char *key = reference_key(&reference);
		struct image *image = gt_map_get(&save->images->refs, key);
		if (!reference.tag && !reference.digest)
			found = add_repository(save, &reference, err);
		else if (image)
			found = add_tag(save, image, key, err) < 0 ? -1 : 1;
		gt_reference_free(&reference);
	}
	if (found != 0)
		return found < 0 ? -1 : 0;
	struct image *image = image_lookup(save->images, name, err);
	return image && add_image(save, image, err) ? 0 : -1;
}

static json_t *descriptor(const char *type, const char *hex, int64_t size)
{
	char digest[72];
	snprintf(digest, sizeof digest, "sha256:%s", hex);
	return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)size);
}

static void dump(const json_t *json, struct gt_buf *out)
{
	AUTO_FREE char *text = json_dumps(json, JSON_COMPACT);
	gt_buf_str(out, text ? text : "");
}

static void make_manifest(struct saved *item)
{
	json_t *layers = json_array();
	for (size_t i = 0; i < item->layer_count; i++)
		json_array_append_new(layers, descriptor("application/vnd.oci.image.layer.v1.tar", item->layers[i]->diff,
							 item->layers[i]->tar_size));
	AUTO_JSON json_t *manifest =
		json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", "application/vnd.oci.image.manifest.v1+json", "config",
			  descriptor("application/vnd.oci.image.config.v1+json", item->hex, (int64_t)item->config.len), "layers", layers);
	dump(manifest, &item->manifest);
	digest_of(item->manifest.data, item->manifest.len, item->manifest_hex);
}

/* ---- the tar ---- */

static la_ssize_t to_queue(struct archive *archive, void *arg, const void *bytes, size_t len)
{
	struct save *save = arg;
	if (gt_queue_write(save->queue, bytes, len, &save->failure) == 0)
		return (la_ssize_t)len;
	archive_set_error(archive, EPIPE, "%s", save->failure.message);
	return -1;
}

static int tar_failed(struct save *save, struct gt_error *err)
{
	if (save->failure.kind) {
		if (err)
			*err = save->failure;
		return -1;
	}
	return gt_fail(err, GT_INTERNAL, "write the archive: %s", archive_error_string(save->archive) ?: "unknown error");
}

static int put_header(struct save *save, const char *name, unsigned type, int64_t size, int64_t time, struct gt_error *err)
{
	struct archive_entry *entry = archive_entry_new();
	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_size(entry, size);
	archive_entry_set_mtime(entry, time / GT_SECOND, 0);
	int rc = archive_write_header(save->archive, entry);
	archive_entry_free(entry);
	return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 0 : tar_failed(save, err);
}

static int put_file(struct save *save, const char *name, const char *bytes, size_t len, int64_t time, struct gt_error *err)
{
	if (put_header(save, name, AE_IFREG, (int64_t)len, time, err) < 0)
		return -1;
	return len == 0 || archive_write_data(save->archive, bytes, len) == (la_ssize_t)len ? 0 : tar_failed(save, err);
}

static int put_json(struct save *save, const char *name, const json_t *json, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	dump(json, &text);
	return put_file(save, name, text.data, text.len, 0, err);
}

/* True where the blob is in the tar already; notes it. */
static bool seen(struct save *save, const char *hex)
{
	return gt_map_set(&save->written, hex, save) != NULL;
}

static void blob_name(const char *hex, char name[96])
{
	snprintf(name, 96, "blobs/sha256/%s", hex);
}

static int copy_layer(struct save *save, const struct layer *layer, int from, struct gt_error *err)
{
	AUTO_FREE char *bytes = gt_xmalloc(ROOM);
	struct digest digest;
	char hex[65];
	int64_t total = 0;
	int rc = 0;
	digest_begin(&digest);
	for (;;) {
		ssize_t n = gt_read_full(from, bytes, ROOM);
		if (n <= 0) {
			rc = n < 0 ? gt_fail_sys(err, GT_INTERNAL, errno, "read a layer") : 0;
			break;
		}
		digest_add(&digest, bytes, (size_t)n);
		total += n;
		if (total > layer->tar_size)
			break;
		if (archive_write_data(save->archive, bytes, (size_t)n) != n) {
			rc = tar_failed(save, err);
			break;
		}
	}
	digest_end(&digest, hex);
	if (rc == 0 && (total != layer->tar_size || strcmp(hex, layer->diff) != 0))
		rc = gt_fail(err, GT_INTERNAL, "layer %.12s cannot be rebuilt: its files were changed, the digest is now sha256:%s",
			     layer->diff, hex);
	return rc;
}

static int put_layer(struct save *save, const struct layer *layer, int64_t time, struct gt_error *err)
{
	char name[96];
	int ends[2];
	if (seen(save, layer->diff))
		return 0;
	blob_name(layer->diff, name);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a pipe for gantry-fs");
	AUTO_CLOSE int from = ends[0], to = ends[1];
	fcntl(from, F_SETPIPE_SZ, 1 << 20);
	struct fs_job job;
	if (layer_rebuild_start(save->images, layer, to, &job, err) < 0)
		return -1;
	close(take_fd(to));
	struct gt_error helper = { 0 };
	int rc = put_header(save, name, AE_IFREG, layer->tar_size, time, err);
	if (rc == 0)
		rc = copy_layer(save, layer, from, err);
	close(take_fd(from)); /* ends a helper that is not done */
	if (fs_job_finish(&job, NULL, NULL, NULL, &helper) < 0 && helper.kind != GT_CANCELLED) {
		if (err)
			*err = helper; /* it knows best */
		return -1;
	}
	return rc;
}

static int put_blobs(struct save *save, struct gt_error *err)
{
	char name[96];
	if (put_header(save, "blobs", AE_IFDIR, 0, 0, err) < 0 || put_header(save, "blobs/sha256", AE_IFDIR, 0, 0, err) < 0)
		return -1;
	for (size_t i = 0; i < save->count; i++) {
		struct saved *item = save->items[i];
		for (size_t l = 0; l < item->layer_count; l++) {
			if (put_layer(save, item->layers[l], item->created, err) < 0)
				return -1;
		}
		blob_name(item->hex, name);
		if (!seen(save, item->hex) && put_file(save, name, item->config.data, item->config.len, item->created, err) < 0)
			return -1;
		blob_name(item->manifest_hex, name);
		if (!seen(save, item->manifest_hex) &&
		    put_file(save, name, item->manifest.data, item->manifest.len, item->created, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the descriptions ---- */

static json_t *oci_index(const struct save *save)
{
	json_t *list = json_array();
	for (size_t i = 0; i < save->count; i++) {
		const struct saved *item = save->items[i];
		json_t *entry = descriptor("application/vnd.oci.image.manifest.v1+json", item->manifest_hex, (int64_t)item->manifest.len);
		for (size_t t = 0; t < item->tags.count; t++) {
			struct gt_reference reference;
			json_t *named = json_deep_copy(entry);
			if (gt_reference_parse(item->tags.items[t], &reference, NULL) == 0) {
				AUTO_FREE char *full = reference_key(&reference);
				json_object_set_new(named, "annotations",
						    json_pack("{s:s, s:s}", "io.containerd.image.name", full,
							      "org.opencontainers.image.ref.name", reference.tag ? reference.tag : ""));
				gt_reference_free(&reference);
			}
			json_array_append_new(list, named);
		}
		if (item->tags.count == 0)
			json_array_append(list, entry);
		json_decref(entry);
	}
	return json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType", "application/vnd.oci.image.index.v1+json", "manifests", list);
}

static json_t *docker_manifest(const struct save *save)
{
	json_t *list = json_array();
	char name[96];
	for (size_t i = 0; i < save->count; i++) {
		const struct saved *item = save->items[i];
		json_t *layers = json_array();
		for (size_t l = 0; l < item->layer_count; l++) {
			blob_name(item->layers[l]->diff, name);
			json_array_append_new(layers, json_string(name));
		}
		blob_name(item->hex, name);
		json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "Config", name, "RepoTags", gt_strings_to_json(&item->tags), "Layers",
						      layers));
	}
	return list;
}

static json_t *repositories(const struct save *save)
{
	json_t *out = json_object();
	for (size_t i = 0; i < save->count; i++) {
		const struct saved *item = save->items[i];
		for (size_t t = 0; t < item->tags.count; t++) {
			struct gt_reference reference;
			if (gt_reference_parse(item->tags.items[t], &reference, NULL) < 0)
				continue;
			AUTO_FREE char *repository = reference_repository(&reference);
			json_t *tags = json_object_get(out, repository);
			if (!tags)
				json_object_set_new(out, repository, tags = json_object());
			json_object_set_new(tags, reference.tag ? reference.tag : "latest", json_string(item->hex));
			gt_reference_free(&reference);
		}
	}
	return out;
}

static int put_descriptions(struct save *save, struct gt_error *err)
{
	AUTO_JSON json_t *layout = json_pack("{s:s}", "imageLayoutVersion", "1.0.0");
	AUTO_JSON json_t *index = oci_index(save), *manifest = docker_manifest(save), *repos = repositories(save);
	if (put_json(save, "oci-layout", layout, err) < 0 || put_json(save, "index.json", index, err) < 0 ||
	    put_json(save, "manifest.json", manifest, err) < 0)
		return -1;
	return json_object_size(repos) ? put_json(save, "repositories", repos, err) : 0;
}

static int produce(void *arg, struct gt_queue *queue, struct gt_error *err)
{
	struct save *save = arg;
	save->queue = queue;
	save->archive = archive_write_new();
	if (archive_write_set_format_pax_restricted(save->archive) != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(save->archive, 65536) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(save->archive, 512) != ARCHIVE_OK ||
	    archive_write_open(save->archive, save, NULL, to_queue, NULL) != ARCHIVE_OK)
		return tar_failed(save, err);
	if (put_blobs(save, err) < 0 || put_descriptions(save, err) < 0)
		return -1;
	return archive_write_close(save->archive) == ARCHIVE_OK ? 0 : tar_failed(save, err);
}

struct gt_stream *gt_image_save(struct gt_images *images, const struct gt_strings *names, struct gt_error *err)
{
	if (names->count == 0)
		return gt_fail_null(err, GT_INVALID, "save needs at least one image");
	struct save *save = gt_xcalloc(1, sizeof *save);
	save->images = images;
	pthread_mutex_lock(&images->lock);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < names->count; i++)
		rc = add_name(save, names->items[i], err);
	pthread_mutex_unlock(&images->lock);
	for (size_t i = 0; rc == 0 && i < save->count; i++) {
		struct saved *item = save->items[i];
		for (size_t l = 0; rc == 0 && l < item->layer_count; l++)
			rc = layer_can_rebuild(item->layers[l], err);
		make_manifest(item);
	}
	if (rc < 0) {
		save_free(save);
		return NULL;
	}
	return gt_stream_from_thread(&images->savers, produce, save, save_free, err);
}
