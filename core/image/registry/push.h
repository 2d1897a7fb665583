/*
 * push.h - private to core/image/registry: one push, shared by push.c (what goes) and upload.c (how).
 */
#pragma once

#include "registry.h"

struct push {
	struct gt_images *images;
	struct gt_progress *progress;   /* its emit is not for several threads: push_tell() */
	struct registry *registry;
	const char *domain, *path;
	char *scope;
	pthread_mutex_t telling;
};

void push_tell(struct push *push, const char *id, const char *status, int64_t current, int64_t total);

int upload_exists(struct push *push, const char *digest, bool *there, struct gt_error *err);
/* Has the registry take the blob from another of its repositories, where it will. */
int upload_mount(struct push *push, const char *digest, const char *from, bool *mounted, struct gt_error *err);
int upload_bytes(struct push *push, const char *digest, const struct gt_buf *bytes, struct gt_error *err);
/* Rebuilds, compresses and uploads; *blob tells what it became. */
int upload_layer(struct push *push, const struct layer *layer, const char *label, struct layer_blob *blob, struct gt_error *err);
