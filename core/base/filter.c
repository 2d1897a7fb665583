/*
 * filter.c - see filter.h.
 */
#include "base/filter.h"

#include <string.h>

#include "base/auto.h"
#include "base/buf.h"

#define MAX_VALUES 1024

int gt_filter_check(const json_t *filters, const char *const *known, struct gt_error *err)
{
	const char *key;
	json_t *values, *value;
	size_t i;
	json_object_foreach((json_t *)filters, key, values) {
		size_t k = 0;
		while (known[k] && strcmp(known[k], key))
			k++;
		if (!known[k])
			return gt_fail(err, GT_INVALID, "invalid filter '%.64s'", key);
		if (!json_is_array(values) || json_array_size(values) > MAX_VALUES)
			return gt_fail(err, GT_INVALID, "filter '%s' is not a list of at most %d strings", key, MAX_VALUES);
		json_array_foreach(values, i, value) {
			if (!json_is_string(value))
				return gt_fail(err, GT_INVALID, "filter '%s' holds something that is not a string", key);
		}
	}
	return 0;
}

bool gt_filter_has(const json_t *filters, const char *key)
{
	return json_array_size(json_object_get(filters, key)) > 0;
}

bool gt_filter_match(const json_t *filters, const char *key, const char *value)
{
	const json_t *values = json_object_get(filters, key);
	size_t i;
	json_t *wanted;
	if (!json_array_size(values))
		return true;
	json_array_foreach(values, i, wanted) {
		if (value && strcmp(json_string_value(wanted), value) == 0)
			return true;
	}
	return false;
}

static bool label_holds(const json_t *labels, const char *wanted)
{
	const char *equals = strchr(wanted, '=');
	if (!equals)
		return json_object_get(labels, wanted) != NULL;
	AUTO_FREE char *name = gt_xstrndup(wanted, (size_t)(equals - wanted));
	const char *value = json_string_value(json_object_get(labels, name));
	return value && strcmp(value, equals + 1) == 0;
}

bool gt_filter_match_labels(const json_t *filters, const char *key, const json_t *labels)
{
	const json_t *values = json_object_get(filters, key);
	size_t i;
	json_t *wanted;
	json_array_foreach(values, i, wanted) {
		if (!label_holds(labels, json_string_value(wanted)))
			return false;
	}
	return true;
}

bool gt_filter_match_prune(const json_t *filters, const json_t *labels)
{
	return gt_filter_match_labels(filters, "label", labels) &&
	       (!gt_filter_has(filters, "label!") || !gt_filter_match_labels(filters, "label!", labels));
}

/* ---- values of a known kind ---- */

int gt_filter_check_values(const json_t *filters, const char *key, const char *const *known, struct gt_error *err)
{
	const json_t *values = json_object_get(filters, key);
	json_t *value;
	size_t i;
	json_array_foreach(values, i, value) {
		size_t k = 0;
		while (known[k] && strcmp(known[k], json_string_value(value)))
			k++;
		if (!known[k])
			return gt_fail(err, GT_INVALID, "invalid filter '%s=%.60s'", key, json_string_value(value));
	}
	return 0;
}

int gt_filter_bool(const json_t *filters, const char *key, int *value, struct gt_error *err)
{
	static const char *const WORDS[] = { "true", "1", "false", "0", NULL };
	*value = -1;
	if (gt_filter_check_values(filters, key, WORDS, err) < 0)
		return -1;
	if (gt_filter_has(filters, key))
		*value = gt_filter_match(filters, key, "true") || gt_filter_match(filters, key, "1");
	return 0;
}
