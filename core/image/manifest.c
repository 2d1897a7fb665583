#include "manifest.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "internal.h"

int descriptor_parse(const json_t *json, struct descriptor *out, struct gt_error *err)
{
	json_t *platform = NULL, *annotations = NULL, *urls = NULL;
	*out = (struct descriptor){ .media_type = "", .digest = "", .size = -1 };
	if (!json_is_object(json))
		return gt_fail(err, GT_INVALID, "a descriptor is not an object");
	if (gt_json_string(json, "mediaType", &out->media_type, err) < 0 || gt_json_string(json, "digest", &out->digest, err) < 0 ||
	    gt_json_int(json, "size", &out->size, err) < 0 || gt_json_object(json, "platform", &platform, err) < 0 ||
	    gt_json_object(json, "annotations", &annotations, err) < 0 || gt_json_array(json, "urls", &urls, err) < 0)
		return -1;
	out->platform = platform;
	out->annotations = annotations;
	out->foreign = json_array_size(urls) > 0 || strstr(out->media_type, ".foreign.") || strstr(out->media_type, ".nondistributable.");
	if (!digest_is_valid(out->digest))
		return gt_fail(err, GT_INVALID, "a descriptor's digest \"%.100s\" is not sha256", out->digest);
	return 0;
}

bool descriptor_is_index(const struct descriptor *descriptor)
{
	return strcmp(descriptor->media_type, TYPE_OCI_INDEX) == 0 || strcmp(descriptor->media_type, TYPE_DOCKER_LIST) == 0;
}

bool descriptor_is_manifest(const struct descriptor *descriptor)
{
	return strcmp(descriptor->media_type, TYPE_OCI_MANIFEST) == 0 || strcmp(descriptor->media_type, TYPE_DOCKER_MANIFEST) == 0;
}

bool descriptor_is_attestation(const struct descriptor *descriptor)
{
	const char *os = "";
	gt_json_string(descriptor->platform, "os", &os, NULL);
	return strcmp(os, "unknown") == 0 || json_object_get(descriptor->annotations, "vnd.docker.reference.type");
}

int descriptor_check_layer(const struct descriptor *descriptor, struct gt_error *err)
{
	const char *type = descriptor->media_type;
	bool known = strncmp(type, "application/vnd.oci.image.layer.", 32) == 0 ||
		     strncmp(type, "application/vnd.docker.image.rootfs.", 36) == 0;
	if (!known || strstr(type, "encrypted"))
		return gt_fail(err, GT_UNSUPPORTED, "a layer of type \"%.100s\" is not supported", type);
	return 0;
}

/* ---- whole documents ---- */

static int read_items(const json_t *list, size_t max, const char *what, struct manifest *manifest, struct gt_error *err)
{
	manifest->count = json_array_size(list);
	if (manifest->count > max)
		return gt_fail(err, GT_INVALID, "it has %zu %s; at most %zu are supported", manifest->count, what, max);
	manifest->items = gt_xcalloc(manifest->count + 1, sizeof *manifest->items);
	for (size_t i = 0; i < manifest->count; i++) {
		if (descriptor_parse(json_array_get(list, i), &manifest->items[i], err) < 0)
			return -1;
		if (manifest->items[i].size < 0)
			return gt_fail(err, GT_INVALID, "the descriptor of %s has no size", manifest->items[i].digest);
	}
	return 0;
}

static int read_image(const json_t *config, const json_t *layers, struct manifest *manifest, struct gt_error *err)
{
	if (!config)
		return gt_fail(err, GT_INVALID, "it has no config");
	if (descriptor_parse(config, &manifest->config, err) < 0)
		return gt_context(err, "its config");
	const char *type = manifest->config.media_type;
	if (strcmp(type, TYPE_OCI_CONFIG) != 0 && strcmp(type, TYPE_DOCKER_CONFIG) != 0)
		return gt_fail(err, GT_UNSUPPORTED, "it is not a container image: its config has type \"%.100s\"", type);
	if (manifest->config.size < 0 || manifest->config.size > (int64_t)CONFIG_MAX)
		return gt_fail(err, GT_INVALID, "its config is not of 0 to %u bytes", CONFIG_MAX);
	if (read_items(layers, MANIFEST_LAYERS, "layers", manifest, err) < 0)
		return -1;
	for (size_t i = 0; i < manifest->count; i++) {
		if (descriptor_check_layer(&manifest->items[i], err) < 0)
			return -1;
	}
	return 0;
}

/* The registry's word counts least: a document says itself what it is. */
static int find_type(struct manifest *manifest, const char *content_type, bool index, struct gt_error *err)
{
	static const char *const types[] = { TYPE_OCI_INDEX, TYPE_DOCKER_LIST, TYPE_OCI_MANIFEST, TYPE_DOCKER_MANIFEST };
	const char *inside = "";
	size_t len = content_type ? strcspn(content_type, "; ") : 0;
	if (gt_json_string(manifest->json, "mediaType", &inside, err) < 0)
		return -1;
	manifest->media_type = index ? TYPE_OCI_INDEX : TYPE_OCI_MANIFEST;
	for (size_t i = 0; i < GT_COUNT(types); i++) {
		bool outside = !inside[0] && strlen(types[i]) == len && strncasecmp(types[i], content_type, len) == 0;
		if (!outside && strcmp(inside, types[i]) != 0)
			continue;
		if ((i < 2) != index)
			return gt_fail(err, GT_INVALID, "its type is %s, its content is that of %s", types[i], index ? "an index" : "a manifest");
		manifest->media_type = types[i];
		return 0;
	}
	return inside[0] ? gt_fail(err, GT_UNSUPPORTED, "it has type \"%.100s\", which is not an image", inside) : 0;
}

static int read_document(struct manifest *manifest, const char *content_type, struct gt_error *err)
{
	int64_t version = 0;
	json_t *config = NULL, *layers = NULL, *manifests = NULL;
	const json_t *json = manifest->json;
	if (!json_is_object(json))
		return gt_fail(err, GT_INVALID, "it is not a JSON object");
	if (gt_json_int(json, "schemaVersion", &version, err) < 0)
		return -1;
	if (version == 1)
		return gt_fail(err, GT_UNSUPPORTED, "it is in Docker's image manifest format schema 1, which is not supported: push the image "
						    "again with a newer tool");
	if (version != 2)
		return gt_fail(err, GT_INVALID, "its schemaVersion is %lld, not 2", (long long)version);
	if (gt_json_object(json, "config", &config, err) < 0 || gt_json_array(json, "layers", &layers, err) < 0 ||
	    gt_json_array(json, "manifests", &manifests, err) < 0)
		return -1;
	if (manifests && (config || layers))
		return gt_fail(err, GT_INVALID, "it is an index and a manifest at once");
	manifest->index = manifests != NULL;
	if (find_type(manifest, content_type, manifest->index, err) < 0)
		return -1;
	return manifests ? read_items(manifests, INDEX_ENTRIES, "entries", manifest, err) : read_image(config, layers, manifest, err);
}

int manifest_parse(const char *bytes, size_t len, const char *content_type, struct manifest *manifest, struct gt_error *err)
{
	*manifest = (struct manifest){ .json = gt_json_parse(bytes, len, "the manifest", err) };
	if (!manifest->json)
		return -1;
	if (read_document(manifest, content_type, err) == 0)
		return 0;
	manifest_free(manifest);
	return -1;
}

void manifest_free(struct manifest *manifest)
{
	json_decref(manifest->json);
	free(manifest->items);
	*manifest = (struct manifest){ 0 };
}

const struct descriptor *manifest_choose(const struct manifest *index, const struct platform *wanted, struct gt_error *err)
{
	const struct descriptor *best = NULL;
	int best_rank = 0;
	for (size_t i = 0; i < index->count; i++) {
		const struct descriptor *item = &index->items[i];
		struct platform offered;
		if (descriptor_is_attestation(item) || (!descriptor_is_manifest(item) && !descriptor_is_index(item)))
			continue;
		platform_read(item->platform, &offered);
		/* one that does not say serves where nothing better does */
		int rank = item->platform ? platform_rank(wanted, &offered) * 2 : 1;
		if (rank > best_rank) {
			best_rank = rank;
			best = item;
		}
	}
	if (!best) {
		char text[100];
		platform_format(wanted, text);
		gt_fail(err, GT_NOT_FOUND, "no matching manifest for %s in the manifest list entries", text);
	}
	return best;
}
