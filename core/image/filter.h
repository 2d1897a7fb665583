/*
 * filter.h - private to core/image: filters of lists and prunes, made ready once. Borrowed from the JSON; used with the lock held.
 */
#pragma once

#include "base/filter.h"
#include "internal.h"

struct filter {
	int dangling;                   /* -1: not asked */
	const json_t *filters, *references;
	const struct image *before, *since;
	int64_t until;
};

int filter_prepare(struct gt_images *images, const json_t *filters, struct filter *filter, struct gt_error *err);
/* Labels, before, since, until. */
bool filter_image_matches(const struct filter *filter, const struct image *image);
bool filter_reference(const struct filter *filter, const char *key);
