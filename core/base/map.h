/*
 * map.h - a hash map from strings to pointers; keys are copied.
 *
 * Keyed SipHash-like mixing with a per-process random seed, so that hostile names cannot make it
 * slow. Not thread safe: the owner's lock guards it. The map does not own its values.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct gt_map_slot {
	char *key;      /* NULL: empty */
	void *value;
	size_t hash;
};

struct gt_map {
	struct gt_map_slot *slots;
	size_t cap;     /* a power of two, or 0 */
	size_t count;
};

void *gt_map_get(const struct gt_map *map, const char *key);    /* NULL where absent */
/* Stores value (not NULL); returns the value it replaced, or NULL. */
void *gt_map_set(struct gt_map *map, const char *key, void *value);
void *gt_map_remove(struct gt_map *map, const char *key);       /* the value it held, or NULL */
void gt_map_free(struct gt_map *map);                           /* keys and slots, not values */

/* for (size_t i = 0; (slot = gt_map_next(&map, &i)) != NULL;) ... ; the map must not change meanwhile. */
struct gt_map_slot *gt_map_next(const struct gt_map *map, size_t *at);
