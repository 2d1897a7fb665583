/*
 * manifest.h - private to core/image: descriptors, manifests and indexes (OCI image-spec, Docker schema 2), read from bytes that are not trusted.
 *
 * Pure functions on text. What is borrowed belongs to the JSON document it was read from.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "image/platform.h"

#define MANIFEST_MAX (4u << 20)         /* bytes of a manifest or index from a registry */
#define MANIFEST_LAYERS 512
#define INDEX_ENTRIES 1000

#define TYPE_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define TYPE_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define TYPE_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define TYPE_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define TYPE_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define TYPE_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define TYPE_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

struct descriptor {
	const char *media_type, *digest;        /* borrowed */
	int64_t size;                           /* -1: not told */
	const json_t *platform, *annotations;
	bool foreign;                           /* its bytes are meant to come from elsewhere ("urls", "foreign" types) */
};

int descriptor_parse(const json_t *json, struct descriptor *out, struct gt_error *err);
bool descriptor_is_index(const struct descriptor *descriptor);
bool descriptor_is_manifest(const struct descriptor *descriptor);
/* Not an image but something said about one. */
bool descriptor_is_attestation(const struct descriptor *descriptor);
/* A layer that can be unpacked here; else fails with the reason. */
int descriptor_check_layer(const struct descriptor *descriptor, struct gt_error *err);

struct manifest {
	json_t *json;
	const char *media_type;         /* borrowed; never NULL */
	bool index;
	struct descriptor config;       /* not of an index */
	struct descriptor *items;       /* layers base first, or an index's manifests */
	size_t count;
};

/* content_type: as the registry tells it, may be NULL. Refuses schema 1 by name, documents that are index and manifest at once, configs and layers of
 * unknown types, and descriptors without size. */
int manifest_parse(const char *bytes, size_t len, const char *content_type, struct manifest *manifest, struct gt_error *err);
void manifest_free(struct manifest *manifest);
/* The entry of an index that serves `wanted` best; NULL with GT_NOT_FOUND where none does. */
const struct descriptor *manifest_choose(const struct manifest *index, const struct platform *wanted, struct gt_error *err);
