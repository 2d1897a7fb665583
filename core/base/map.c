#include "base/map.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
	if (getrandom(seed, sizeof seed, 0) != (ssize_t)sizeof seed)
		abort();
}

static uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

/* SipHash-1-3 (Aumasson and Bernstein). */
static size_t hash_of(const char *key)
{
	pthread_once(&seed_once, make_seed);
	uint64_t v0 = seed[0] ^ 0x736f6d6570736575, v1 = seed[1] ^ 0x646f72616e646f6d;
	uint64_t v2 = seed[0] ^ 0x6c7967656e657261, v3 = seed[1] ^ 0x7465646279746573;
	size_t len = strlen(key), left = len;
#define SIP_ROUND                                                                          \
	do {                                                                               \
		v0 += v1; v1 = rotate(v1, 13) ^ v0; v0 = rotate(v0, 32);                   \
		v2 += v3; v3 = rotate(v3, 16) ^ v2;                                        \
		v0 += v3; v3 = rotate(v3, 21) ^ v0;                                        \
		v2 += v1; v1 = rotate(v1, 17) ^ v2; v2 = rotate(v2, 32);                   \
	} while (0)
	for (; left >= 8; left -= 8, key += 8) {
		uint64_t m;
		memcpy(&m, key, 8);
		v3 ^= m;
		SIP_ROUND;
		v0 ^= m;
	}
	uint64_t last = (uint64_t)len << 56;
	memcpy(&last, key, left);
	last = (last & 0x00ffffffffffffff) | (uint64_t)len << 56;
	v3 ^= last;
	SIP_ROUND;
	v0 ^= last;
	v2 ^= 0xff;
	for (int i = 0; i < 3; i++)
		SIP_ROUND;
#undef SIP_ROUND
	return (size_t)(v0 ^ v1 ^ v2 ^ v3);
}

static struct gt_map_slot *find(const struct gt_map *map, const char *key, size_t hash)
{
	for (size_t i = hash & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
		struct gt_map_slot *slot = &map->slots[i];
		if (!slot->key || (slot->hash == hash && strcmp(slot->key, key) == 0))
			return slot;
	}
}

static void grow(struct gt_map *map)
{
	struct gt_map bigger = { .cap = map->cap ? map->cap * 2 : 16, .count = map->count };
	bigger.slots = gt_xcalloc(bigger.cap, sizeof *bigger.slots);
	for (size_t i = 0; i < map->cap; i++) {
		if (map->slots[i].key)
			*find(&bigger, map->slots[i].key, map->slots[i].hash) = map->slots[i];
	}
	free(map->slots);
	*map = bigger;
}

void *gt_map_get(const struct gt_map *map, const char *key)
{
	return map->cap ? find(map, key, hash_of(key))->value : NULL;
}

void *gt_map_set(struct gt_map *map, const char *key, void *value)
{
	if (4 * (map->count + 1) > 3 * map->cap)
		grow(map);
	size_t hash = hash_of(key);
	struct gt_map_slot *slot = find(map, key, hash);
	void *old = slot->value;
	if (!slot->key) {
		slot->key = gt_xstrdup(key);
		slot->hash = hash;
		map->count++;
	}
	slot->value = value;
	return old;
}

void *gt_map_remove(struct gt_map *map, const char *key)
{
	if (!map->cap)
		return NULL;
	struct gt_map_slot *slot = find(map, key, hash_of(key));
	if (!slot->key)
		return NULL;
	void *old = slot->value;
	free(slot->key);
	*slot = (struct gt_map_slot){ 0 };
	map->count--;
	/* Linear probing: what follows in the run moves back so that look-ups still reach it. */
	size_t mask = map->cap - 1, hole = (size_t)(slot - map->slots);
	for (size_t i = (hole + 1) & mask; map->slots[i].key; i = (i + 1) & mask) {
		size_t home = map->slots[i].hash & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			map->slots[hole] = map->slots[i];
			map->slots[i] = (struct gt_map_slot){ 0 };
			hole = i;
		}
	}
	return old;
}

void gt_map_free(struct gt_map *map)
{
	for (size_t i = 0; i < map->cap; i++)
		free(map->slots[i].key);
	free(map->slots);
	*map = (struct gt_map){ 0 };
}

struct gt_map_slot *gt_map_next(const struct gt_map *map, size_t *at)
{
	while (*at < map->cap) {
		struct gt_map_slot *slot = &map->slots[(*at)++];
		if (slot->key)
			return slot;
	}
	return NULL;
}
