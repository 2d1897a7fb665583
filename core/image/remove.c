/*
 * remove.c - rmi and prune, by Docker's rules: a reference goes first; the image goes with its last one, unless a container or a child image needs
 * it; then dangling parents that it was made from, quietly.
 *
 * The tables and documents change under the lock; layers are given back after it, as the storage driver may take its time.
 */
#include <stdlib.h>
#include <string.h>

#include "filter.h"

struct removal {
	struct gt_images *images;
	json_t *records;
	struct layer **freed;           /* counts to give back once the lock is */
	size_t freed_count;
	int64_t bytes;                  /* of layers that go */
};

static void record(struct removal *removal, const char *what, const char *text)
{
	json_array_append_new(removal->records, json_pack("{s:s}", what, text));
}

static void record_untagged(struct removal *removal, const char *key)
{
	AUTO_FREE char *familiar = reference_key_familiar(key);
	record(removal, "Untagged", familiar);
}

static int drop_ref(struct removal *removal, struct image *image, const char *key_borrowed, struct gt_error *err)
{
	AUTO_FREE char *key = gt_xstrdup(key_borrowed);
	gt_map_remove(&removal->images->refs, key);
	if (store_put_refs(removal->images, err) < 0) {
		gt_map_set(&removal->images->refs, key, image);
		return gt_context(err, "untag %s", key);
	}
	strings_remove(&image->refs, key);
	record_untagged(removal, key);
	return 0;
}

static bool is_digest_key(const char *key)
{
	return strchr(key, '@') != NULL;
}

static bool same_repository(const char *a, const char *b)
{
	struct gt_reference x, y;
	if (gt_reference_parse(a, &x, NULL) < 0 || gt_reference_parse(b, &y, NULL) < 0)
		return false;
	bool same = strcmp(x.domain, y.domain) == 0 && strcmp(x.path, y.path) == 0;
	gt_reference_free(&x);
	gt_reference_free(&y);
	return same;
}

/* At most one tag, and all references in one repository. */
static bool is_single(const struct image *image)
{
	size_t tags = 0;
	for (size_t i = 0; i < image->refs.count; i++) {
		tags += !is_digest_key(image->refs.items[i]);
		if (i > 0 && !same_repository(image->refs.items[0], image->refs.items[i]))
			return false;
	}
	return tags <= 1;
}

static const char *any_holder(const struct image *image)
{
	size_t at = 0;
	struct gt_map_slot *slot = gt_map_next(&image->holders, &at);
	return slot ? slot->key : NULL;
}

static int conflict(const struct image *image, bool hard, struct gt_error *err, const char *why, const char *who)
{
	return gt_fail(err, GT_CONFLICT, "conflict: unable to delete %.12s (%s) - %s%s%.12s", image->hex,
		       hard ? "cannot be forced" : "must be forced", why, who ? " " : "", who ? who : "");
}

/* What speaks against removing the image. *used: it is in use, not just named. */
static int check(struct removal *removal, const struct image *image, bool force, bool check_refs, bool *used, struct gt_error *err)
{
	*used = true;
	if (image_has_child(removal->images, image))
		return conflict(image, true, err, "image has dependent child images", NULL);
	const char *holder = any_holder(image);
	if (holder && !force)
		return conflict(image, false, err, "image is being used by stopped container", holder);
	*used = false;
	if (check_refs && !force && image->refs.count > 0)
		return conflict(image, false, err, "image is referenced in multiple repositories", NULL);
	return 0;
}

/* The image leaves the table and the disk; its layers and its holders' counts are settled. */
static void forget(struct removal *removal, struct image *image)
{
	struct gt_images *images = removal->images;
	struct gt_map_slot *slot;
	char id[72];
	snprintf(id, sizeof id, "sha256:%s", image->hex);
	store_drop_image(images, image);
	image_unindex_step(images, image);
	gt_map_remove(&images->images, image->hex);
	record(removal, "Deleted", id);
	/* containers keep the layers, whatever becomes of the image */
	for (size_t i = 0; (slot = gt_map_next(&image->holders, &i)) != NULL;) {
		if (slot->value != image)
			gt_map_set(&images->orphans, slot->key, slot->value);
	}
	for (struct layer *layer = image->top; layer && layer->refs == 1; layer = layer->parent) {
		char chain[72];
		snprintf(chain, sizeof chain, "sha256:%s", layer->chain);
		record(removal, "Deleted", chain);
		removal->bytes += layer->size;
	}
	if (image->top) {
		removal->freed = gt_xrealloc(removal->freed, (removal->freed_count + 1) * sizeof *removal->freed);
		removal->freed[removal->freed_count++] = image->top;
	}
	image_free(image);
}

/* Removes the image, and with prune those it was made from that nothing needs. quiet: a conflict is no error where the image is still named or
 * used. */
static int delete_image(struct removal *removal, struct image *image, bool force, bool prune, bool quiet, struct gt_error *err)
{
	bool used;
	if (check(removal, image, force, true, &used, err) < 0)
		return quiet && (image->refs.count > 0 || image_has_child(removal->images, image) || used) ? 0 : -1;
	char parent[65];
	memcpy(parent, image->parent, sizeof parent);
	while (image->refs.count > 0) {
		if (drop_ref(removal, image, image->refs.items[0], err) < 0)
			return -1;
	}
	forget(removal, image);
	struct image *from = prune && parent[0] ? gt_map_get(&removal->images->images, parent) : NULL;
	return from ? delete_image(removal, from, false, true, true, err) : 0;
}

static int remove_by_ref(struct removal *removal, struct image *image, const char *key, const char *name, bool force, bool prune,
			 struct gt_error *err)
{
	const char *holder = any_holder(image);
	if (!force && is_single(image) && holder)
		return gt_fail(err, GT_CONFLICT,
			       "conflict: unable to remove repository reference \"%.200s\" (must force) - container %.12s is using its "
			       "referenced image %.12s", name, holder, image->hex);
	if (drop_ref(removal, image, key, err) < 0)
		return -1;
	/* digests of a repository whose last tag went are of no more use */
	bool tag_left = false;
	for (size_t i = 0; i < image->refs.count; i++)
		tag_left = tag_left || (!is_digest_key(image->refs.items[i]) && same_repository(key, image->refs.items[i]));
	for (size_t i = image->refs.count; !tag_left && !is_digest_key(key) && i-- > 0;) {
		if (same_repository(key, image->refs.items[i]) && drop_ref(removal, image, image->refs.items[i], err) < 0)
			return -1;
	}
	if (image->refs.count > 0)
		return 0;
	return delete_image(removal, image, force, prune, true, err);
}

static int remove_by_id(struct removal *removal, struct image *image, bool force, bool prune, struct gt_error *err)
{
	bool used;
	if (is_single(image)) {
		if (check(removal, image, force, false, &used, err) < 0)
			return -1;
		while (image->refs.count > 0) {
			if (drop_ref(removal, image, image->refs.items[0], err) < 0)
				return -1;
		}
	}
	return delete_image(removal, image, force, prune, false, err);
}

static int remove_locked(struct removal *removal, const char *name, bool force, bool prune, struct gt_error *err)
{
	struct image *image = image_lookup(removal->images, name, err);
	if (!image)
		return -1;
	struct gt_reference reference;
	AUTO_FREE char *key = NULL;
	if (gt_reference_parse(name, &reference, NULL) == 0) {
		key = reference_key(&reference);
		gt_reference_free(&reference);
	}
	if (key && gt_map_get(&removal->images->refs, key) == image)
		return remove_by_ref(removal, image, key, name, force, prune, err);
	return remove_by_id(removal, image, force, prune, err);
}

static void give_back(struct removal *removal)
{
	for (size_t i = 0; i < removal->freed_count; i++)
		layer_release(removal->images, removal->freed[i]);
	free(removal->freed);
}

json_t *gt_image_remove(struct gt_images *images, const char *name, bool force, bool no_prune, struct gt_error *err)
{
	struct removal removal = { .images = images, .records = json_array() };
	pthread_mutex_lock(&images->lock);
	int rc = remove_locked(&removal, name, force, !no_prune, err);
	pthread_mutex_unlock(&images->lock);
	give_back(&removal);
	if (rc == 0)
		return removal.records;
	json_decref(removal.records);
	return NULL;
}

/* ---- prune ---- */

/* With the lock held: hex of every image that may go. */
static void collect(struct gt_images *images, const struct filter *filter, struct gt_strings *doomed)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&images->images, &i)) != NULL;) {
		struct image *image = slot->value;
		if (filter->dangling != 0 && image->refs.count > 0)
			continue;
		if (image->holders.count == 0 && filter_image_matches(filter, image))
			gt_strings_add(doomed, image->hex);
	}
}

/* Children before parents: an image with children waits for the next round. */
static int prune_locked(struct removal *removal, const struct filter *filter, struct gt_error *err)
{
	struct gt_strings doomed = { 0 };
	int rc = 0;
	collect(removal->images, filter, &doomed);
	for (bool again = true; again && rc == 0;) {
		again = false;
		for (size_t i = 0; rc == 0 && i < doomed.count; i++) {
			struct image *image = gt_map_get(&removal->images->images, doomed.items[i]);
			if (!image || image_has_child(removal->images, image))
				continue;
			while (rc == 0 && image->refs.count > 0)
				rc = drop_ref(removal, image, image->refs.items[0], err);
			if (rc == 0)
				rc = delete_image(removal, image, false, false, true, err);
			again = true;
		}
	}
	gt_strings_free(&doomed);
	return rc;
}

json_t *gt_images_prune(struct gt_images *images, const json_t *filters, struct gt_error *err)
{
	static const char *const known[] = { "dangling", "label", "label!", "until", NULL };
	struct filter filter;
	if (gt_filter_check(filters, known, err) < 0)
		return NULL;
	struct removal removal = { .images = images, .records = json_array() };
	pthread_mutex_lock(&images->lock);
	int rc = filter_prepare(images, filters, &filter, err);
	if (rc == 0)
		rc = prune_locked(&removal, &filter, err);
	pthread_mutex_unlock(&images->lock);
	give_back(&removal);
	if (rc == 0)
		return json_pack("{s:o, s:I}", "ImagesDeleted", removal.records, "SpaceReclaimed", (json_int_t)removal.bytes);
	json_decref(removal.records);
	return NULL;
}
