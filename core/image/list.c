/*
 * list.c - Docker's ImageSummary list, and what images use of the disk.
 */
#include <stdlib.h>
#include <string.h>

#include "filter.h"

static int newest_first(const void *a, const void *b)
{
	const struct image *x = *(struct image *const *)a, *y = *(struct image *const *)b;
	if (x->created != y->created)
		return x->created < y->created ? 1 : -1;
	return strcmp(x->hex, y->hex);
}

static json_t *digest_id(const char *hex)
{
	char text[72];
	snprintf(text, sizeof text, "sha256:%s", hex);
	return json_string(text);
}

/* Bytes of the image's layers that another image has too: a layer counts its images and its children. */
static int64_t shared_bytes(const struct image *image)
{
	int64_t sum = 0;
	bool shared = false;
	for (const struct layer *layer = image->top; layer; layer = layer->parent) {
		size_t own = layer == image->top ? 1 + image->holders.count : 1;
		shared = shared || layer->refs > own; /* what is below a shared layer is shared */
		sum += shared ? layer->size : 0;
	}
	return sum;
}

static json_t *summary(const struct image *image, const struct filter *filter, bool shared_size, bool count_containers)
{
	json_t *tags = json_array(), *digests = json_array();
	for (size_t i = 0; i < image->refs.count; i++) {
		if (!filter_reference(filter, image->refs.items[i]))
			continue;
		AUTO_FREE char *familiar = reference_key_familiar(image->refs.items[i]);
		json_array_append_new(strchr(familiar, '@') ? digests : tags, json_string(familiar));
	}
	json_t *labels = gt_json_get(gt_json_get(image->document, "config"), "Labels");
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:O, s:i}", "Id", digest_id(image->hex), "ParentId",
			 image->parent[0] ? digest_id(image->parent) : json_string(""), "RepoTags", tags, "RepoDigests", digests,
			 "Created", (json_int_t)(image->created / GT_SECOND), "Size", (json_int_t)image->size, "SharedSize",
			 (json_int_t)(shared_size ? shared_bytes(image) : -1), "Labels", labels ? labels : json_null(), "Containers",
			 count_containers ? (int)image->holders.count : -1);
}

static bool listed(struct gt_images *images, const struct image *image, bool all, const struct filter *filter)
{
	if (!filter_image_matches(filter, image))
		return false;
	bool dangling = image->refs.count == 0;
	if (dangling && !all && (image->step || image_has_child(images, image)))
		return false; /* a step on the way to another image */
	if (filter->dangling >= 0 && dangling != (filter->dangling == 1))
		return false;
	if (!filter->references)
		return true;
	for (size_t i = 0; i < image->refs.count; i++) {
		if (filter_reference(filter, image->refs.items[i]))
			return true;
	}
	return false;
}

/* With the lock held. */
static json_t *list_locked(struct gt_images *images, bool all, const struct filter *filter, bool shared_size, bool containers)
{
	AUTO_FREE struct image **sorted = gt_xcalloc(images->images.count + 1, sizeof *sorted);
	size_t count = 0;
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		if (listed(images, slot->value, all, filter))
			sorted[count++] = slot->value;
	}
	qsort(sorted, count, sizeof *sorted, newest_first);
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, summary(sorted[i], filter, shared_size, containers));
	return list;
}

json_t *gt_images_list(struct gt_images *images, bool all, const json_t *filters, bool shared_size, struct gt_error *err)
{
	static const char *const known[] = { "dangling", "label", "label!", "before", "since", "reference", "until", NULL };
	struct filter filter;
	if (gt_filter_check(filters, known, err) < 0)
		return NULL;
	LOCKED(&images->lock);
	if (filter_prepare(images, filters, &filter, err) < 0)
		return NULL;
	return list_locked(images, all, &filter, shared_size, false);
}

json_t *gt_images_usage(struct gt_images *images, int64_t *layers_size, struct gt_error *err)
{
	struct filter filter;
	LOCKED(&images->lock);
	if (filter_prepare(images, NULL, &filter, err) < 0)
		return NULL;
	struct gt_map_slot *slot;
	*layers_size = 0;
	for (size_t i = 0; (slot = gt_map_next(&images->layers, &i)) != NULL;)
		*layers_size += ((struct layer *)slot->value)->size;
	return list_locked(images, false, &filter, true, true);
}
