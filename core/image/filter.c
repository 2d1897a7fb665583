/*
 * filter.c - filters of image lists and prunes: {"key": ["value", ...]}, every key must hold, any value of a key will do (labels: all).
 */
#include "filter.h"

#include <fnmatch.h>
#include <string.h>

int filters_check(const json_t *filters, const char *const *known, struct gt_error *err)
{
	const char *key;
	json_t *values;
	json_object_foreach((json_t *)(uintptr_t)filters, key, values)
	{
		size_t i = 0;
		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return gt_fail(err, GT_INVALID, "invalid filter '%.60s'", key);
		if (!json_is_array(values))
			return gt_fail(err, GT_INVALID, "filter '%s' must be a list of strings", key);
		for (size_t v = 0; v < json_array_size(values); v++) {
			if (!json_is_string(json_array_get(values, v)))
				return gt_fail(err, GT_INVALID, "filter '%s' must be a list of strings", key);
		}
	}
	return 0;
}

static int filter_bool(const json_t *filters, const char *key, int *value, struct gt_error *err)
{
	const char *text = json_string_value(json_array_get(json_object_get(filters, key), 0));
	if (!text)
		return 0;
	if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
		*value = 1;
	else if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
		*value = 0;
	else
		return gt_fail(err, GT_INVALID, "invalid filter '%s=%.60s'", key, text);
	return 0;
}

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
	*filter = (struct filter){ .dangling = -1, .until = INT64_MAX };
	filter->labels = json_object_get(filters, "label");
	filter->not_labels = json_object_get(filters, "label!");
	filter->references = json_object_get(filters, "reference");
	json_t *until = json_object_get(filters, "until");
	for (size_t i = 0; i < json_array_size(until); i++) {
		int64_t ns;
		if (gt_time_parse(json_string_value(json_array_get(until, i)), &ns, err) < 0)
			return gt_context(err, "filter until");
		if (ns < filter->until)
			filter->until = ns;
	}
	if (filter_bool(filters, "dangling", &filter->dangling, err) < 0)
		return -1;
	return filter_image(images, filters, "before", &filter->before, err) | filter_image(images, filters, "since", &filter->since, err);
}

static bool has_label(const json_t *labels, const char *wanted)
{
	const char *equals = strchr(wanted, '=');
	AUTO_FREE char *key = gt_xstrndup(wanted, equals ? (size_t)(equals - wanted) : strlen(wanted));
	json_t *value = json_object_get(labels, key);
	if (!value)
		return false;
	const char *text = json_string_value(value);
	return !equals || (text && strcmp(text, equals + 1) == 0);
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
	for (size_t i = 0; i < json_array_size(filter->labels); i++) {
		if (!has_label(labels, json_string_value(json_array_get(filter->labels, i))))
			return false;
	}
	for (size_t i = 0; i < json_array_size(filter->not_labels); i++) {
		if (has_label(labels, json_string_value(json_array_get(filter->not_labels, i))))
			return false;
	}
	if ((filter->before && image->created >= filter->before->created) || (filter->since && image->created <= filter->since->created))
		return false;
	return image->created < filter->until;
}
