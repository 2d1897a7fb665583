/*
 * filter.c - filters of image lists and prunes.
 */
#include "filter.h"

#include <fnmatch.h>
#include <string.h>

static int filter_image(struct gt_images *images, const json_t *filters, const char *key, const struct image **image, struct gt_error *err)
{
	const char *name = json_string_value(json_array_get(json_object_get(filters, key), 0));
	if (!name)
		return 0;
	*image = image_lookup(images, name, err);
	return *image ? 0 : -1;
}

int filter_prepare(struct gt_images *images, const json_t *filters, struct filter *filter, struct gt_error *err)
{
	*filter = (struct filter){ .filters = filters, .until = INT64_MAX };
	filter->references = json_object_get(filters, "reference");
	json_t *until = json_object_get(filters, "until");
	for (size_t i = 0; i < json_array_size(until); i++) {
		int64_t ns;
		if (gt_time_parse(json_string_value(json_array_get(until, i)), &ns, err) < 0)
			return gt_context(err, "filter until");
		if (ns < filter->until)
			filter->until = ns;
	}
	if (gt_filter_bool(filters, "dangling", &filter->dangling, err) < 0)
		return -1;
	return filter_image(images, filters, "before", &filter->before, err) | filter_image(images, filters, "since", &filter->since, err);
}

bool filter_reference(const struct filter *filter, const char *key)
{
	if (!filter->references)
		return true;
	struct gt_reference reference;
	if (gt_reference_parse(key, &reference, NULL) < 0)
		return false;
	AUTO_FREE char *full = gt_reference_familiar(&reference, false);
	AUTO_FREE char *name = reference_repository(&reference);
	gt_reference_free(&reference);
	for (size_t i = 0; i < json_array_size(filter->references); i++) {
		const char *pattern = json_string_value(json_array_get(filter->references, i));
		if (fnmatch(pattern, full, FNM_PATHNAME) == 0 || fnmatch(pattern, name, FNM_PATHNAME) == 0)
			return true;
	}
	return false;
}

bool filter_image_matches(const struct filter *filter, const struct image *image)
{
	const json_t *labels = gt_json_get(gt_json_get(image->document, "config"), "Labels");
	if (!gt_filter_match_prune(filter->filters, labels))
		return false;
	if ((filter->before && image->created >= filter->before->created) || (filter->since && image->created <= filter->since->created))
		return false;
	return image->created < filter->until;
}
