/*
 * platform.h - private to core/image: operating system, architecture and variant of an image, as the OCI image-spec and containerd name them.
 *
 * Pure functions; thread safe.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"

struct platform {
	char os[32], architecture[32], variant[32];     /* normalised; variant "" where it is the usual one */
};

/* "linux/arm64/v8", "linux/amd64", "arm64"; NULL or "" is the host's. */
int platform_parse(const char *text, struct platform *platform, struct gt_error *err);
/* Of an image's config or a descriptor's platform object: {"os", "architecture", "variant"}. */
void platform_read(const json_t *object, struct platform *platform);
/* How well `offered` serves who wants `wanted`: 0 not at all, else more is better. An older variant of the same architecture serves too. */
int platform_rank(const struct platform *wanted, const struct platform *offered);
/* As a client names one: the JSON object above (Docker's API), or text as for platform_parse. */
int platform_ask(const char *text, struct platform *platform, struct gt_error *err);
/* GT_NOT_FOUND where an image offers something else. name: of the image, for the message. */
int platform_check(const struct platform *wanted, const json_t *config, const char *name, struct gt_error *err);
void platform_format(const struct platform *platform, char text[100]);
