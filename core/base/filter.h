/*
 * filter.h - filters of list and prune requests, as the Docker Engine API writes them: {"key": ["value", ...]}. Every key must hold; of a key's values
 * one is enough, but for labels, where all must hold.
 *
 * Nothing here keeps what it is given, and all may be called from any thread. `filters` may be NULL: nothing is asked for.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* Refuses keys that are not in `known` (NULL-closed), and what is not lists of strings. All else here wants filters that were checked. */
int gt_filter_check(const json_t *filters, const char *const *known, struct gt_error *err);
bool gt_filter_has(const json_t *filters, const char *key);
/* True where the key is absent or one of its values equals. */
bool gt_filter_match(const json_t *filters, const char *key, const char *value);
/* "k" or "k=v", all must hold. labels: an object of strings. */
bool gt_filter_match_labels(const json_t *filters, const char *key, const json_t *labels);
/* Labels as prunes take them: all of "label" hold, and not all of "label!". */
bool gt_filter_match_prune(const json_t *filters, const json_t *labels);
/* A key that is true or false: *value is 1, 0, or -1 where it is absent. */
int gt_filter_bool(const json_t *filters, const char *key, int *value, struct gt_error *err);
/* Refuses values that are not in `known` (NULL-closed). */
int gt_filter_check_values(const json_t *filters, const char *key, const char *const *known, struct gt_error *err);
