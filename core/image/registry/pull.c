/*
 * pull.c - an image from a registry.
 *
 * Manifest (through indexes, by platform), then config, then layers: each layer is fetched, digested, decompressed, digested again and made
 * into files as one stream (layer.c, unpack.c, fetch.c), several at a time; nothing is stored in between. Whatever the registry says is checked
 * before anything refers to it: digests and sizes of manifest, config and blobs, diff ids, the number of layers. What a failure leaves is what
 * others share; the rest is undone.
 */
#include <stdlib.h>
#include <string.h>

#include "registry.h"

#define MAX_INDEX_DEPTH 4

struct pull {
	struct gt_images *images;
	struct gt_progress *progress;
	struct registry *registry;
	const struct gt_reference *reference;   /* tag or digest is set */
	const char *wanted;                     /* that one of them which is asked for */
	bool by_platform;                       /* the user named one */
	struct platform platform;
	char *scope;
	char digest[72];                        /* of the first manifest or index */
};

static void say(struct pull *pull, const char *id, const char *fmt, const char *arg)
{
	AUTO_FREE char *text = gt_xasprintf("%s%s", fmt, arg);
	progress_emit(pull->progress, id ? json_pack("{s:s, s:s}", "status", text, "id", id) : json_pack("{s:s}", "status", text));
}

static void say_end(struct pull *pull, bool newer)
{
	AUTO_FREE char *name = gt_reference_familiar(pull->reference, true);
	say(pull, NULL, "Digest: ", pull->digest);
	say(pull, NULL, newer ? "Status: Downloaded newer image for " : "Status: Image is up to date for ", name);
}

static void say_begin(struct pull *pull)
{
	AUTO_FREE char *name = reference_repository(pull->reference);
	bool docker = strcmp(pull->reference->domain, "docker.io") == 0;
	say(pull, pull->wanted, "Pulling from ", docker ? pull->reference->path : name);
}

/* ---- what is here already ---- */

/* With the lock held: the image that `key` stands for, where it serves the platform. */
static struct image *image_at(struct pull *pull, const char *key)
{
	struct image *image = gt_map_get(&pull->images->refs, key);
	struct platform offered;
	if (!image || !pull->by_platform)
		return image;
	platform_read(image->document, &offered);
	return platform_rank(&pull->platform, &offered) ? image : NULL;
}

static char *digest_key(const struct pull *pull, const char *digest)
{
	return gt_xasprintf("%s/%s@%s", pull->reference->domain, pull->reference->path, digest);
}

/* Whether the reference already stands for what has this digest in the registry. */
static bool have(struct pull *pull, const char *digest, char id[72])
{
	AUTO_FREE char *key = reference_key(pull->reference), *by_digest = digest_key(pull, digest);
	LOCKED(&pull->images->lock);
	struct image *image = image_at(pull, key);
	if (!image || image_at(pull, by_digest) != image)
		return false;
	snprintf(id, 72, "sha256:%s", image->hex);
	return true;
}

static bool have_tag(struct pull *pull)
{
	AUTO_FREE char *key = reference_key(pull->reference);
	LOCKED(&pull->images->lock);
	return image_at(pull, key) != NULL;
}

/* ---- manifest and config ---- */

static int platform_missing(const struct pull *pull, struct gt_error *err)
{
	AUTO_FREE char *name = gt_reference_familiar(pull->reference, true);
	return gt_context(err, "%s", name);
}

static int check_size(const struct descriptor *chosen, const struct document *document, struct gt_error *err)
{
	if (chosen->size == (int64_t)document->bytes.len)
		return 0;
	return gt_fail(err, GT_INVALID, "manifest %s has %zu bytes where its descriptor says %lld", chosen->digest, document->bytes.len,
		       (long long)chosen->size);
}

/* From the document in hand down through indexes to a manifest for the platform. */
static int descend(struct pull *pull, struct document *document, struct manifest *manifest, struct gt_error *err)
{
	for (int depth = 0;; depth++) {
		if (manifest_parse(document->bytes.data ? document->bytes.data : "", document->bytes.len, document->content_type, manifest,
				   err) < 0)
			return gt_context(err, "manifest %s", document->digest);
		if (!manifest->index)
			return 0;
		const struct descriptor *chosen = manifest_choose(manifest, &pull->platform, err);
		struct document next = { 0 };
		int rc = 0;
		if (!chosen)
			rc = platform_missing(pull, err);
		else if (depth == MAX_INDEX_DEPTH)
			rc = gt_fail(err, GT_INVALID, "image indexes are nested deeper than %d levels", MAX_INDEX_DEPTH);
		else if (registry_manifest(pull->registry, pull->reference->path, chosen->digest, pull->scope, &next, err) < 0 ||
			 check_size(chosen, &next, err) < 0)
			rc = -1;
		else if (!next.content_type)
			next.content_type = gt_xstrdup(chosen->media_type);
		manifest_free(manifest);
		document_free(document);
		*document = next;
		if (rc < 0)
			return -1;
	}
}

static int check_platform(const struct pull *pull, const struct image *image, struct gt_error *err)
{
	struct platform offered;
	platform_read(image->document, &offered);
	AUTO_FREE char *name = gt_reference_familiar(pull->reference, true);
	if (offered.os[0] && strcmp(offered.os, "linux") != 0)
		return gt_fail(err, GT_UNSUPPORTED, "%s: image operating system \"%s\" cannot be used on this platform", name, offered.os);
	return pull->by_platform ? platform_check(&pull->platform, image->document, name, err) : 0;
}

/* ---- layers ---- */

struct layers {
	struct fetch_source *fetches;
	struct layer_source *sources;
	char (*labels)[13];
};

static void layers_free(struct layers *layers)
{
	free(layers->fetches);
	free(layers->sources);
	free(layers->labels);
}

static int plan_layers(struct pull *pull, const struct manifest *manifest, const char *const *diffs, struct layers *layers,
		       struct gt_error *err)
{
	AUTO_FREE char *repository = gt_xasprintf("%s/%s", pull->reference->domain, pull->reference->path);
	const char *name = intern(pull->images, repository);
	layers->fetches = gt_xcalloc(manifest->count + 1, sizeof *layers->fetches);
	layers->sources = gt_xcalloc(manifest->count + 1, sizeof *layers->sources);
	layers->labels = gt_xcalloc(manifest->count + 1, sizeof *layers->labels);
	for (size_t i = 0; i < manifest->count; i++) {
		const struct descriptor *item = &manifest->items[i];
		if (item->foreign)
			return gt_fail(err, GT_UNSUPPORTED, "layer %s is foreign: it would have to be fetched from other URLs, which is not supported",
				       item->digest);
		struct fetch_source *fetch = &layers->fetches[i];
		*fetch = (struct fetch_source){ .registry = pull->registry, .path = pull->reference->path, .scope = pull->scope,
						.size = item->size };
		memcpy(fetch->digest, item->digest, sizeof fetch->digest);
		snprintf(layers->labels[i], sizeof layers->labels[i], "%.12s", item->digest + 7);
		layers->sources[i] = (struct layer_source){ .blob = { .fd = -1, .length = -1, .remote = &fetch_remote, .remote_arg = fetch },
							    .blob_hex = fetch->digest + 7, .blob_size = item->size, .diff_hex = diffs[i],
							    .label = layers->labels[i], .repository = name };
	}
	return 0;
}

static int acquire(struct pull *pull, const struct manifest *manifest, const char *const *diffs, struct layer **top, struct gt_error *err)
{
	struct layers layers = { 0 };
	int rc = plan_layers(pull, manifest, diffs, &layers, err);
	if (rc == 0 && manifest->count > 0) {
		*top = layers_acquire(pull->images, layers.sources, manifest->count, pull->progress, err);
		rc = *top ? 0 : -1;
	}
	layers_free(&layers);
	return rc;
}

/* ---- the image ---- */

static int fetch_config(struct pull *pull, const struct manifest *manifest, struct gt_buf *config, struct gt_error *err)
{
	struct fetch_source source = { .registry = pull->registry, .path = pull->reference->path, .scope = pull->scope,
				       .size = manifest->config.size };
	snprintf(source.digest, sizeof source.digest, "%s", manifest->config.digest);
	return fetch_whole(&source, CONFIG_MAX, "the image's config", config, err);
}

/* The image, its layers and manifest, in the store. */
static int make_image(struct pull *pull, const struct manifest *manifest, const struct document *document, char hex[65],
		      struct gt_error *err)
{
	AUTO_BUF struct gt_buf config = { 0 };
	AUTO_FREE const char **diffs = gt_xcalloc(MAX_LAYERS, sizeof *diffs);
	size_t wanted = 0;
	struct layer *top = NULL;
	if (fetch_config(pull, manifest, &config, err) < 0)
		return -1;
	struct image *image = image_parse(config.data, config.len, manifest->config.digest + 7, diffs, &wanted, err);
	if (!image)
		return -1;
	int rc = check_platform(pull, image, err);
	if (rc == 0 && wanted != manifest->count)
		rc = gt_fail(err, GT_INVALID, "the manifest has %zu layers, the image's config %zu", manifest->count, wanted);
	if (rc == 0)
		rc = acquire(pull, manifest, diffs, &top, err);
	image_free(image); /* diffs point into it */
	if (rc < 0 || image_register(pull->images, &config, top, NULL, hex, err) < 0)
		return -1;
	LOCKED(&pull->images->lock);
	return gt_map_get(&pull->images->images, hex) ? store_put_manifest(pull->images, hex, &document->bytes, err) : 0;
}

static int name_image(struct pull *pull, const char *hex, struct gt_error *err)
{
	AUTO_FREE char *key = reference_key(pull->reference), *by_digest = digest_key(pull, pull->digest);
	LOCKED(&pull->images->lock);
	struct image *image = gt_map_get(&pull->images->images, hex);
	if (!image)
		return gt_fail(err, GT_CONFLICT, "the image was removed while it was pulled");
	if (image_point_ref(pull->images, by_digest, image, NULL, err) < 0)
		return -1;
	return pull->reference->digest ? 0 : image_point_ref(pull->images, key, image, NULL, err);
}

/* Docker's words for a repository that is not there, or not for us. */
static int refused(const struct pull *pull, struct gt_error *err)
{
	if (err && (err->kind == GT_UNAUTHORIZED || err->kind == GT_DENIED)) {
		struct gt_error inner = *err;
		AUTO_FREE char *repository = reference_repository(pull->reference);
		gt_fail(err, GT_NOT_FOUND, "pull access denied for %s, repository does not exist or may require 'docker login': %s", repository,
			inner.message);
	}
	return -1;
}

static int pull_one(struct pull *pull, char id[72], struct gt_error *err)
{
	struct document document = { 0 };
	struct manifest manifest = { 0 };
	char digest[72], hex[65];
	bool asked = pull->reference->digest || (have_tag(pull) && registry_manifest_digest(pull->registry, pull->reference->path, pull->wanted,
											     pull->scope, digest, NULL) == 0);
	if (pull->reference->digest)
		memcpy(digest, pull->reference->digest, sizeof digest);
	if (asked && digest[0] && have(pull, digest, id)) {
		memcpy(pull->digest, digest, sizeof digest);
		say_begin(pull);
		say_end(pull, false);
		return 0;
	}
	if (registry_manifest(pull->registry, pull->reference->path, pull->wanted, pull->scope, &document, err) < 0)
		return refused(pull, err);
	memcpy(pull->digest, document.digest, sizeof pull->digest);
	int rc = descend(pull, &document, &manifest, err);
	if (rc == 0) {
		say_begin(pull);
		rc = make_image(pull, &manifest, &document, hex, err);
	}
	if (rc == 0)
		rc = name_image(pull, hex, err);
	if (rc == 0) {
		snprintf(id, 72, "sha256:%s", hex);
		say_end(pull, true);
	}
	manifest_free(&manifest);
	document_free(&document);
	return rc;
}

/* ---- the ways in ---- */

static int prepare(struct pull *pull, const char *platform, const json_t *auth, struct gt_error *err)
{
	pull->by_platform = platform && platform[0];
	if (platform_parse(platform, &pull->platform, err) < 0)
		return -1;
	pull->scope = pull_scope(pull->reference->path);
	pull->registry = registry_open(pull->images->config, pull->reference->domain, true, auth, pull->progress, err);
	if (!pull->registry)
		return -1;
	pull->registry->received = &pull->images->figures.pulled_bytes;
	return 0;
}

/* From the first endpoint that has it: a mirror that fails gives way to the registry. */
static int pull_from_any(struct pull *pull, char id[72], struct gt_error *err)
{
	for (;;) {
		struct gt_error failure = { 0 };
		if (pull_one(pull, id, &failure) == 0)
			return 0;
		struct gt_error next = { 0 };
		if (failure.kind != GT_CANCELLED && registry_at_mirror(pull->registry)) {
			gt_info("a mirror does not serve an image", "mirror", pull->registry->base, "error", failure.message);
			if (registry_next(pull->registry, &next) == 0)
				continue;
			failure = next.kind ? next : failure;
		}
		if (err)
			*err = failure;
		return -1;
	}
}

static void finish(struct pull *pull)
{
	registry_close(pull->registry);
	free(pull->scope);
}

int gt_image_pull(struct gt_images *images, const char *reference, const char *platform, const json_t *auth, struct gt_progress *progress,
		  char id[72], struct gt_error *err)
{
	struct gt_reference parsed;
	if (gt_reference_parse(reference, &parsed, err) < 0)
		return -1;
	if (!parsed.tag && !parsed.digest)
		parsed.tag = gt_xstrdup("latest");
	struct pull pull = { .images = images, .progress = progress, .reference = &parsed,
			     .wanted = parsed.digest ? parsed.digest : parsed.tag };
	int rc = prepare(&pull, platform, auth, err);
	if (rc == 0)
		rc = pull_from_any(&pull, id, err);
	finish(&pull);
	gt_reference_free(&parsed);
	return rc;
}

int gt_image_pull_all(struct gt_images *images, const char *repository, const char *platform, const json_t *auth,
		      struct gt_progress *progress, json_t **pulled, struct gt_error *err)
{
	struct gt_reference parsed;
	struct gt_strings tags = { 0 };
	char id[72];
	*pulled = json_array();
	if (gt_reference_parse(repository, &parsed, err) < 0)
		return -1;
	struct pull pull = { .images = images, .progress = progress, .reference = &parsed };
	int rc = parsed.tag || parsed.digest ? gt_fail(err, GT_INVALID, "tag can't be used with --all-tags/-a") : 0;
	if (rc == 0)
		rc = prepare(&pull, platform, auth, err);
	if (rc == 0 && registry_tags(pull.registry, parsed.path, pull.scope, &tags, err) < 0)
		rc = refused(&pull, err);
	for (size_t i = 0; rc == 0 && i < tags.count; i++) {
		AUTO_FREE char *text = gt_xasprintf("%s/%s:%s", parsed.domain, parsed.path, tags.items[i]);
		struct gt_reference one;
		if ((rc = gt_reference_parse(text, &one, err)) < 0)
			break;
		struct pull each = pull;
		each.reference = &one;
		each.wanted = one.tag;
		rc = pull_from_any(&each, id, err);
		if (rc == 0) {
			AUTO_FREE char *familiar = gt_reference_familiar(&one, true);
			json_array_append_new(*pulled, json_string(familiar));
		}
		gt_reference_free(&one);
	}
	finish(&pull);
	gt_strings_free(&tags);
	gt_reference_free(&parsed);
	return rc;
}

json_t *gt_registry_auth_for(const json_t *configs, const char *reference)
{
	struct gt_reference parsed;
	json_t *found = NULL;
	if (!json_is_object(configs) || gt_reference_parse(reference, &parsed, NULL) < 0)
		return NULL;
	bool docker = strcmp(parsed.domain, "docker.io") == 0;
	const char *hosts[] = { docker ? "https://index.docker.io/v1/" : parsed.domain, docker ? "index.docker.io" : NULL,
				docker ? "docker.io" : NULL };
	for (size_t i = 0; !found && i < GT_COUNT(hosts); i++) {
		AUTO_FREE char *https = hosts[i] ? gt_xasprintf("https://%s", hosts[i]) : NULL;
		found = hosts[i] ? json_object_get(configs, hosts[i]) : NULL;
		if (!found && https)
			found = json_object_get(configs, https);
	}
	gt_reference_free(&parsed);
	return found;
}
