/*
 * cache.c - a step's key, and its image: from the cache or made.
 *
 * The key is a digest of the parent's id and of everything that the step's image follows from: the instruction as it is executed, the configuration
 * it leads to, digests of the files that it takes. Not of times. With --cache-from only images count that one of those was made from; one that
 * came from elsewhere, without its steps, is held against its history instead.
 */
#include <nettle/sha2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "build/internal.h"

static void add(struct sha256_ctx *state, const char *text)
{
	char length[24];
	int len = snprintf(length, sizeof length, "%zu:", strlen(text));
	sha256_update(state, (size_t)len, (const uint8_t *)length);
	sha256_update(state, strlen(text), (const uint8_t *)text);
}

void step_key(struct run *run, char key[65], const char *first, ...)
{
	struct sha256_ctx state;
	uint8_t raw[SHA256_DIGEST_SIZE];
	char epoch[24];
	sha256_init(&state);
	snprintf(epoch, sizeof epoch, "%lld", (long long)run->build->epoch);
	add(&state, "gantry build 1");
	add(&state, run->image);
	add(&state, run->image[0] ? "" : run->architecture);
	add(&state, run->image[0] ? "" : run->variant);
	add(&state, epoch);
	add(&state, run->author ? run->author : "");
	va_list ap;
	va_start(ap, first);
	for (const char *text = first; text; text = va_arg(ap, const char *))
		add(&state, text);
	va_end(ap);
	sha256_digest(&state, sizeof raw, raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(key + 2 * i, 3, "%02x", raw[i]);
}

char *config_text(const struct gt_image_config *config)
{
	AUTO_JSON json_t *json = gt_json_encode(gt_image_config_fields, config);
	char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	return text ? text : gt_xstrdup("");
}

struct gt_image_step step_begin(struct run *run, const char *created_by)
{
	const struct build *build = run->build;
	return (struct gt_image_step){ .parent = run->image[0] ? run->image : NULL, .config = &run->config, .architecture = run->architecture,
				       .variant = run->variant, .author = run->author, .created_by = created_by,
				       .created = build->epoch >= 0 ? build->epoch * GT_SECOND : gt_now(),
				       .clamp = build->epoch >= 0 ? build->epoch : INT64_MAX };
}

/* ---- --cache-from ---- */

static bool allowed(const struct build *build, const char *id)
{
	if (!build->options->cache_from || build->options->cache_from->count == 0)
		return true;
	for (size_t i = 0; i < build->cache_from.count; i++) {
		if (gt_image_descends(build->images, build->cache_from.items[i], id))
			return true;
	}
	return false;
}

/* How many entries of the history two images have in common, from the beginning: all of base's, or none. */
static size_t common_history(const json_t *base, const json_t *other)
{
	size_t count = json_array_size(base);
	for (size_t i = 0; i < count; i++) {
		const char *a = json_string_value(json_object_get(json_array_get(base, i), "created_by"));
		const char *b = json_string_value(json_object_get(json_array_get(other, i), "created_by"));
		if (!a || !b || strcmp(a, b) != 0)
			return 0;
	}
	return count;
}

static bool is_prefix(const struct gt_strings *base, const struct gt_strings *other)
{
	for (size_t i = 0; i < base->count; i++) {
		if (i >= other->count || strcmp(base->items[i], other->items[i]) != 0)
			return false;
	}
	return true;
}

/* Whether the image was made by the same steps so far, and by this one next. *layer: that one made a layer. */
static bool continues(const struct gt_image *so_far, const struct gt_image *other, const char *created_by, bool *layer)
{
	const json_t *mine = json_object_get(so_far->document, "history"), *theirs = json_object_get(other->document, "history");
	size_t at = json_array_size(mine);
	if (at == 0 || common_history(mine, theirs) != at || !is_prefix(&so_far->diff_ids, &other->diff_ids))
		return false;
	const json_t *entry = json_array_get(theirs, at);
	const char *by = json_string_value(json_object_get(entry, "created_by"));
	*layer = !json_is_true(json_object_get(entry, "empty_layer"));
	return by && strcmp(by, created_by) == 0;
}

/* An image that was pulled or loaded has its history alone: where that goes on with this step, its layer is taken over. */
static bool adopt(struct run *run, struct gt_image_step *step)
{
	struct build *build = run->build;
	struct gt_image so_far = { 0 };
	bool made = false;
	if (!run->image[0] || build->cache_from.count == 0 || gt_image_find(build->images, run->image, &so_far, NULL) < 0)
		return false;
	for (size_t i = 0; !made && i < build->cache_from.count; i++) {
		struct gt_image other = { 0 };
		bool layer = false;
		if (gt_image_find(build->images, build->cache_from.items[i], &other, NULL) == 0 &&
		    continues(&so_far, &other, step->created_by, &layer)) {
			struct gt_image_step taken = *step;
			taken.copy = NULL;
			taken.container_layer = NULL;
			taken.adopt = layer ? other.id : NULL;
			made = gt_image_step(build->images, &taken, build->options->holder, run->image, NULL) == 0;
		}
		gt_image_free(&other);
	}
	gt_image_free(&so_far);
	return made;
}

/* ---- images of steps ---- */

bool step_cached(struct run *run, struct gt_image_step *step)
{
	struct build *build = run->build;
	char id[72];
	if (build->options->no_cache)
		return false;
	bool found = gt_image_step_find(build->images, step->parent, step->key, build->options->holder, id) && allowed(build, id);
	if (found)
		memcpy(run->image, id, sizeof id);
	else
		found = adopt(run, step);
	if (found)
		run_say(run, " ---> Using cache\n ---> %.12s\n", run->image + 7);
	return found;
}

int step_make(struct run *run, struct gt_image_step *step, struct gt_error *err)
{
	char id[72];
	if (gt_image_step(run->build->images, step, run->build->options->holder, id, err) < 0)
		return -1;
	memcpy(run->image, id, sizeof id);
	return 0;
}

int step_do(struct run *run, struct gt_image_step *step, struct gt_error *err)
{
	if (step_cached(run, step))
		return 0;
	if (step_make(run, step, err) < 0)
		return -1;
	run_say(run, " ---> %.12s\n", run->image + 7);
	return 0;
}
