/*
 * push.c - an image into a registry.
 *
 * An image that came from a registry keeps its manifest. Where the target has all blobs of it (or takes them from another of its repositories), that
 * very manifest is pushed. Else the layers that are missing are rebuilt and compressed again, and where that gives other digests, a manifest is
 * made for them. What a layer became is noted, so that the next push finds it in the registry.
 */
#include "push.h"

#include <stdlib.h>
#include <string.h>

#define UPLOADS 3               /* layers at a time */

struct job {
	struct layer *layer;
	char label[13];
	const struct descriptor *wanted;        /* in the image's own manifest, or NULL */
	struct layer_blob result;
	struct gt_error error;
	int rc;
};

struct image_push {
	struct push *push;
	char hex[65];
	struct gt_buf config, stored;   /* stored: the manifest it was pulled or pushed with */
	struct manifest manifest;       /* of stored; .json NULL: there is none that fits */
	struct layer *top;              /* counted */
	struct job *jobs;
	size_t count;
	atomic_size_t next;
	atomic_bool stop;
};

static void tell_json(struct push *push, json_t *message)
{
	LOCKED(&push->telling);
	progress_emit(push->progress, message);
}

void push_tell(struct push *push, const char *id, const char *status, int64_t current, int64_t total)
{
	json_t *detail = total > 0 ? json_pack("{s:I, s:I}", "current", (json_int_t)current, "total", (json_int_t)total) : json_object();
	tell_json(push, json_pack("{s:s, s:o, s:s}", "status", status, "progressDetail", detail, "id", id));
}

/* ---- one layer ---- */

static char format_of(const char *media_type)
{
	if (strstr(media_type, "zstd"))
		return 'z';
	return strstr(media_type, "gzip") ? 'g' : 'p';
}

/* Whether the registry takes the blob from where we know it to be. */
static int mount(struct push *push, const struct job *job, const char *digest, const char *repository, bool *found, struct gt_error *err)
{
	const char *slash = repository ? strchr(repository, '/') : NULL;
	size_t domain = slash ? (size_t)(slash - repository) : 0;
	if (!slash || strlen(push->domain) != domain || strncmp(push->domain, repository, domain) != 0 || strcmp(slash + 1, push->path) == 0)
		return 0;
	if (upload_mount(push, digest, slash + 1, found, err) < 0)
		return -1;
	if (*found) {
		AUTO_FREE char *status = gt_xasprintf("Mounted from %s", slash + 1);
		push_tell(push, job->label, status, 0, 0);
	}
	return 0;
}

/* Whether the registry has one of the blobs, or takes it from another repository. */
static int find(struct push *push, struct job *job, const struct layer_blob *known, size_t count, bool *found, struct gt_error *err)
{
	for (size_t i = 0; i < count && !*found; i++) {
		char digest[72] = "sha256:";
		bool asked = false;
		memcpy(digest + 7, known[i].hex, sizeof known[i].hex);
		for (size_t before = 0; before < i; before++)
			asked = asked || strcmp(known[before].hex, known[i].hex) == 0;
		if (!asked && upload_exists(push, digest, found, err) < 0)
			return -1;
		if (*found)
			push_tell(push, job->label, "Layer already exists", 0, 0);
		else if (mount(push, job, digest, known[i].repository, found, err) < 0)
			return -1;
		if (*found)
			job->result = known[i];
	}
	return 0;
}

/* The layer's documents are only ever told more. */
static void note(struct push *push, struct layer *layer, struct layer_blob *blob)
{
	AUTO_FREE char *repository = gt_xasprintf("%s/%s", push->domain, push->path);
	struct gt_error err = { 0 };
	blob->repository = intern(push->images, repository);
	LOCKED(&push->images->lock);
	layer->packed = *blob;
	if (store_put_layer(push->images, layer, &err) < 0)
		gt_warn("what a layer became in a registry could not be stored", "layer", layer->chain, "error", err.message);
}

static int push_layer(struct push *push, struct job *job, struct gt_error *err)
{
	struct layer_blob known[3];
	size_t count = 0;
	bool found = false;
	if (job->wanted) {
		struct layer_blob *own = &known[count++];
		*own = (struct layer_blob){ .format = format_of(job->wanted->media_type), .size = job->wanted->size };
		memcpy(own->hex, job->wanted->digest + 7, sizeof own->hex);
	}
	pthread_mutex_lock(&push->images->lock);
	if (job->layer->packed.hex[0])
		known[count++] = job->layer->packed;
	if (job->layer->blob.hex[0])
		known[count++] = job->layer->blob;
	pthread_mutex_unlock(&push->images->lock);
	if (find(push, job, known, count, &found, err) < 0)
		return -1;
	if (found)
		return 0;
	if (upload_layer(push, job->layer, job->label, &job->result, err) < 0)
		return gt_context(err, "layer %s", job->label);
	push_tell(push, job->label, "Pushed", 0, 0);
	note(push, job->layer, &job->result);
	return 0;
}

static void *worker(void *arg)
{
	struct image_push *image = arg;
	for (;;) {
		size_t i = atomic_fetch_add(&image->next, 1);
		if (i >= image->count || atomic_load(&image->stop))
			return NULL;
		struct job *job = &image->jobs[i];
		job->rc = push_layer(image->push, job, &job->error);
		if (job->rc < 0)
			atomic_store(&image->stop, true);
	}
}

static int push_layers(struct image_push *image, struct gt_error *err)
{
	pthread_t threads[UPLOADS - 1];
	size_t started = 0;
	for (size_t i = 0; i < image->count; i++)
		push_tell(image->push, image->jobs[i].label, "Preparing", 0, 0);
	while (started < GT_COUNT(threads) && started + 1 < image->count &&
	       pthread_create(&threads[started], NULL, worker, image) == 0)
		started++;
	worker(image);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < image->count; i++) {
		if (image->jobs[i].rc < 0) {
			if (err)
				*err = image->jobs[i].error;
			return -1;
		}
	}
	return 0;
}

/* ---- the manifest ---- */

static bool same_as_stored(const struct image_push *image)
{
	if (!image->manifest.json)
		return false;
	for (size_t i = 0; i < image->count; i++) {
		if (strcmp(image->jobs[i].result.hex, image->jobs[i].wanted->digest + 7) != 0)
			return false;
	}
	return true;
}

static const char *layer_type(bool oci, char format)
{
	if (!oci)
		return format == 'p' ? TYPE_DOCKER_LAYER : TYPE_DOCKER_LAYER ".gzip";
	return format == 'p' ? TYPE_OCI_LAYER : format == 'z' ? TYPE_OCI_LAYER "+zstd" : TYPE_OCI_LAYER "+gzip";
}

static json_t *describe(const char *type, const char *hex, int64_t size)
{
	char digest[72];
	snprintf(digest, sizeof digest, "sha256:%s", hex);
	return json_pack("{s:s, s:I, s:s}", "mediaType", type, "size", (json_int_t)size, "digest", digest);
}

/* Docker's type, but where the image came as OCI or has layers that only OCI knows. */
static void make_manifest(const struct image_push *image, struct gt_buf *out, const char **type)
{
	bool oci = image->manifest.json && strcmp(image->manifest.media_type, TYPE_OCI_MANIFEST) == 0;
	json_t *layers = json_array();
	for (size_t i = 0; i < image->count; i++)
		oci = oci || image->jobs[i].result.format == 'z';
	for (size_t i = 0; i < image->count; i++) {
		const struct layer_blob *blob = &image->jobs[i].result;
		json_array_append_new(layers, describe(layer_type(oci, blob->format), blob->hex, blob->size));
	}
	*type = oci ? TYPE_OCI_MANIFEST : TYPE_DOCKER_MANIFEST;
	AUTO_JSON json_t *manifest = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", *type, "config",
					       describe(oci ? TYPE_OCI_CONFIG : TYPE_DOCKER_CONFIG, image->hex, (int64_t)image->config.len),
					       "layers", layers);
	AUTO_FREE char *text = json_dumps(manifest, JSON_INDENT(3));
	gt_buf_str(out, text);
}

static int push_config(struct image_push *image, struct gt_error *err)
{
	char digest[72];
	bool there = false;
	snprintf(digest, sizeof digest, "sha256:%s", image->hex);
	if (upload_exists(image->push, digest, &there, err) < 0)
		return -1;
	return there ? 0 : upload_bytes(image->push, digest, &image->config, err);
}

static int put_manifest(struct push *push, const char *tag, const struct gt_buf *bytes, const char *type, const char *digest,
			struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("/v2/%s/manifests/%s", push->path, tag);
	AUTO_FREE char *what = gt_xasprintf("push the manifest of %s:%s", push->path, tag);
	struct call call = { .method = "PUT", .path = path, .scope = push->scope, .content_type = type, .body = bytes->data,
			     .body_len = bytes->len };
	struct http_exchange *exchange = registry_expect(push->registry, &call, 0, what, err);
	if (!exchange)
		return -1;
	const char *told = exchange_reply(exchange)->digest;
	int rc = 0;
	if (told && digest_is_valid(told) && strcmp(told, digest) != 0)
		rc = gt_fail(err, GT_INTERNAL, "%s: the registry has stored it with digest %s where it is %s", what, told, digest);
	exchange_close(exchange);
	return rc;
}

static int remember(struct image_push *image, const struct gt_buf *bytes, const char *digest, struct gt_error *err)
{
	struct push *push = image->push;
	AUTO_FREE char *key = gt_xasprintf("%s/%s@%s", push->domain, push->path, digest);
	LOCKED(&push->images->lock);
	struct image *here = gt_map_get(&push->images->images, image->hex);
	if (!here)
		return 0; /* it was removed meanwhile; the registry has it */
	if (store_put_manifest(push->images, image->hex, bytes, err) < 0)
		return -1;
	return image_point_ref(push->images, key, here, NULL, err);
}

/* ---- one image under one tag ---- */

/* With the lock held: what is pushed stays until the push is over. */
static int take_image(struct image_push *image, struct image *here, struct gt_error *err)
{
	struct gt_images *images = image->push->images;
	memcpy(image->hex, here->hex, sizeof image->hex);
	image->top = layer_count(images, here->top);
	image->count = image_layer_count(here);
	image->jobs = gt_xcalloc(image->count + 1, sizeof *image->jobs);
	size_t at = image->count;
	for (struct layer *layer = here->top; layer; layer = layer->parent) {
		struct job *job = &image->jobs[--at];
		job->layer = layer;
		snprintf(job->label, sizeof job->label, "%.12s", layer->diff);
	}
	if (store_read_config(images, here->hex, &image->config, err) < 0)
		return -1;
	store_read_manifest(images, here->hex, &image->stored, NULL);
	return 0;
}

static void use_stored(struct image_push *image)
{
	if (image->stored.len == 0 || manifest_parse(image->stored.data, image->stored.len, NULL, &image->manifest, NULL) < 0)
		return;
	bool fits = !image->manifest.index && image->manifest.count == image->count &&
		    strcmp(image->manifest.config.digest + 7, image->hex) == 0;
	for (size_t i = 0; fits && i < image->count; i++)
		image->jobs[i].wanted = &image->manifest.items[i];
	if (!fits)
		manifest_free(&image->manifest);
}

static int push_image(struct image_push *image, const char *tag, struct gt_error *err)
{
	AUTO_BUF struct gt_buf made = { 0 };
	const char *type = image->manifest.media_type;
	char hex[65], digest[72];
	if (push_layers(image, err) < 0 || push_config(image, err) < 0)
		return -1;
	bool same = same_as_stored(image);
	if (!same)
		make_manifest(image, &made, &type);
	const struct gt_buf *bytes = same ? &image->stored : &made;
	digest_of(bytes->data, bytes->len, hex);
	snprintf(digest, sizeof digest, "sha256:%s", hex);
	if (put_manifest(image->push, tag, bytes, type, digest, err) < 0 || remember(image, bytes, digest, err) < 0)
		return -1;
	AUTO_FREE char *text = gt_xasprintf("%s: digest: %s size: %zu", tag, digest, bytes->len);
	tell_json(image->push, json_pack("{s:s}", "status", text));
	tell_json(image->push, json_pack("{s:{}, s:{s:s, s:s, s:I}}", "progressDetail", "aux", "Tag", tag, "Digest", digest, "Size",
					 (json_int_t)bytes->len));
	return 0;
}

static int push_tag(struct push *push, const char *tag, struct gt_error *err)
{
	struct image_push image = { .push = push };
	AUTO_FREE char *key = gt_xasprintf("%s/%s:%s", push->domain, push->path, tag);
	pthread_mutex_lock(&push->images->lock);
	struct image *here = gt_map_get(&push->images->refs, key);
	int rc = here ? take_image(&image, here, err) :
			gt_fail(err, GT_NOT_FOUND, "An image does not exist locally with the tag: %s", key);
	pthread_mutex_unlock(&push->images->lock);
	use_stored(&image);
	if (rc == 0)
		rc = push_image(&image, tag, err);
	layer_release(push->images, image.top);
	manifest_free(&image.manifest);
	gt_buf_free(&image.config);
	gt_buf_free(&image.stored);
	free(image.jobs);
	return rc;
}

/* ---- the way in ---- */

static int find_tags(struct push *push, const struct gt_reference *reference, struct gt_strings *tags, struct gt_error *err)
{
	AUTO_FREE char *prefix = gt_xasprintf("%s/%s:", reference->domain, reference->path);
	AUTO_FREE char *familiar = reference_repository(reference);
	struct gt_map_slot *slot;
	LOCKED(&push->images->lock);
	for (size_t i = 0; (slot = gt_map_next(&push->images->refs, &i)) != NULL;) {
		if (strncmp(slot->key, prefix, strlen(prefix)) == 0 && (!reference->tag || strcmp(slot->key + strlen(prefix), reference->tag) == 0))
			gt_strings_add(tags, slot->key + strlen(prefix));
	}
	if (tags->count > 0)
		return 0;
	return gt_fail(err, GT_NOT_FOUND, "An image does not exist locally with the tag: %s%s%s", familiar, reference->tag ? ":" : "",
		       reference->tag ? reference->tag : "");
}

static int push_tags(struct push *push, const struct gt_reference *reference, const struct gt_strings *tags, struct gt_error *err)
{
	AUTO_FREE char *shown = gt_xasprintf("The push refers to repository [%s/%s]", reference->domain, reference->path);
	tell_json(push, json_pack("{s:s}", "status", shown));
	for (size_t i = 0; i < tags->count; i++) {
		if (push_tag(push, tags->items[i], err) < 0)
			return -1;
	}
	return 0;
}

int gt_image_push(struct gt_images *images, const char *reference, const json_t *auth, struct gt_progress *progress, struct gt_error *err)
{
	struct gt_reference parsed;
	struct gt_strings tags = { 0 };
	if (gt_reference_parse(reference, &parsed, err) < 0)
		return -1;
	struct push push = { .images = images, .progress = progress, .domain = parsed.domain, .path = parsed.path };
	pthread_mutex_init(&push.telling, NULL);
	int rc = parsed.digest ? gt_fail(err, GT_INVALID, "cannot push a digest reference") : find_tags(&push, &parsed, &tags, err);
	if (rc == 0) {
		push.scope = gt_xasprintf("repository:%s:pull,push", parsed.path);
		push.registry = registry_open(images->config, parsed.domain, false, auth, progress, err);
		rc = push.registry ? push_tags(&push, &parsed, &tags, err) : -1;
	}
	registry_close(push.registry);
	pthread_mutex_destroy(&push.telling);
	free(push.scope);
	gt_strings_free(&tags);
	gt_reference_free(&parsed);
	return rc;
}
