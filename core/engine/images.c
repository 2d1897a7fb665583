/*
 * images.c - image operations as users see them: core/image with events, and with what containers use.
 */
#include <string.h>

#include "engine/internal.h"

#define MAX_ARCHIVE (1ll << 36)        /* one that is fetched */

struct gt_images *gt_engine_images(struct gt_engine *engine)
{
	return engine->images;
}

static void tell(struct gt_engine *engine, const char *action, const char *id, const char *name)
{
	gt_event(engine, "image", action, id, json_pack("{s:s}", "name", name));
}

/* Every "Untagged" and "Deleted" of a removal is an event. */
static void tell_removed(struct gt_engine *engine, const json_t *removed)
{
	size_t i;
	json_t *entry;
	json_array_foreach(removed, i, entry) {
		const char *untagged = json_string_value(json_object_get(entry, "Untagged"));
		const char *deleted = json_string_value(json_object_get(entry, "Deleted"));
		if (untagged)
			tell(engine, "untag", untagged, untagged);
		if (deleted)
			tell(engine, "delete", deleted, deleted);
	}
}

/* A container of the image, running ones first; NULL where there is none. */
static struct gt_container *user_of(struct gt_engine *engine, const char *image_id, bool *running)
{
	struct gt_container *user = NULL;
	*running = false;
	struct gt_container **all = gt_containers_all(engine, NULL);
	for (size_t i = 0; all[i] && !*running; i++) {
		if (!all[i]->image_id || strcmp(all[i]->image_id, image_id))
			continue;
		bool runs = gt_container_is_running(all[i]);
		if (user && !runs)
			continue;
		if (user)
			gt_container_put(user);
		user = gt_container_ref(all[i]);
		*running = runs;
	}
	gt_containers_put(all);
	return user;
}

/* Whether `name` is an id, or the beginning of one, rather than one of the image's names. */
static bool by_id(const struct gt_image *image, const char *name)
{
	const char *hex = strncmp(name, "sha256:", 7) == 0 ? name + 7 : name;
	return gt_is_id_prefix(hex) && strncmp(image->id + 7, hex, strlen(hex)) == 0;
}

static size_t count_names(struct gt_engine *engine, const char *id)
{
	AUTO_JSON json_t *inspect = gt_image_inspect(engine->images, id, NULL);
	return json_array_size(json_object_get(inspect, "RepoTags"));
}

static int check_unused(struct gt_engine *engine, const char *name, const struct gt_image *image, bool force, struct gt_error *err)
{
	bool running, id_given = by_id(image, name);
	if (!gt_image_holders(engine->images, image->id) || (!id_given && count_names(engine, image->id) > 1))
		return 0; /* another name stays */
	AUTO_CONTAINER struct gt_container *user = user_of(engine, image->id, &running);
	if (!user || (force && !running))
		return 0;
	if (id_given && running)
		return gt_fail(err, GT_CONFLICT, "conflict: unable to delete %.12s (cannot be forced) - image is being used by running container %.12s",
			       image->id + 7, user->id);
	if (id_given)
		return gt_fail(err, GT_CONFLICT, "conflict: unable to delete %.12s (must be forced) - image is being used by stopped container %.12s",
			       image->id + 7, user->id);
	if (force)
		return 0; /* the name goes, the image stays with its running container */
	return gt_fail(err, GT_CONFLICT,
		       "conflict: unable to remove repository reference \"%s\" (must force) - container %.12s is using its referenced image %.12s", name,
		       user->id, image->id + 7);
}

json_t *gt_engine_image_remove(struct gt_engine *engine, const char *name, bool force, bool no_prune, struct gt_error *err)
{
	struct gt_image image = { 0 };
	if (gt_image_find(engine->images, name, &image, err) < 0)
		return NULL;
	int rc = check_unused(engine, name, &image, force, err);
	gt_image_free(&image);
	if (rc < 0)
		return NULL;
	json_t *removed = gt_image_remove(engine->images, name, force, no_prune, err);
	tell_removed(engine, removed);
	return removed;
}

json_t *gt_engine_images_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err)
{
	json_t *answer = gt_images_prune(engine->images, filters, err);
	if (!answer)
		return NULL;
	tell_removed(engine, json_object_get(answer, "ImagesDeleted"));
	gt_event(engine, "image", "prune", "",
		 json_pack("{s:o}", "reclaimed",
			   json_sprintf("%lld", (long long)json_integer_value(json_object_get(answer, "SpaceReclaimed")))));
	return answer;
}

json_t *gt_engine_images_list(struct gt_engine *engine, bool all, const json_t *filters, bool shared_size, struct gt_error *err)
{
	return gt_images_list(engine->images, all, filters, shared_size, err);
}

int gt_engine_image_tag(struct gt_engine *engine, const char *name, const char *repo, const char *tag, struct gt_error *err)
{
	struct gt_image image = { 0 };
	if (gt_image_tag(engine->images, name, repo, tag, err) < 0 || gt_image_find(engine->images, name, &image, err) < 0)
		return -1;
	AUTO_FREE char *full = gt_xasprintf("%s:%s", repo, tag && tag[0] ? tag : "latest");
	tell(engine, "tag", image.id, full);
	gt_image_free(&image);
	return 0;
}

static void tell_moved(struct gt_engine *engine, const char *action, const char *reference)
{
	struct gt_reference parsed;
	if (gt_reference_parse(reference, &parsed, NULL) < 0)
		return;
	AUTO_FREE char *familiar = gt_reference_familiar(&parsed, true);
	tell(engine, action, familiar, familiar);
	gt_reference_free(&parsed);
}

int gt_engine_image_pull(struct gt_engine *engine, const char *reference, const char *platform, bool all, const json_t *auth,
			 struct gt_progress *progress, struct gt_error *err)
{
	AUTO_JSON json_t *pulled = NULL;
	char id[72];
	int rc;
	if (all) {
		rc = gt_image_pull_all(engine->images, reference, platform, auth, progress, &pulled, err);
	} else {
		rc = gt_image_pull(engine->images, reference, platform, auth, progress, id, err);
		pulled = rc == 0 ? json_pack("[s]", reference) : NULL;
	}
	size_t i;
	json_t *name;
	json_array_foreach(pulled, i, name)
		tell_moved(engine, "pull", json_string_value(name));
	return rc;
}

int gt_engine_image_push(struct gt_engine *engine, const char *reference, const json_t *auth, struct gt_progress *progress,
			 struct gt_error *err)
{
	if (gt_image_push(engine->images, reference, auth, progress, err) < 0)
		return -1;
	tell_moved(engine, "push", reference);
	return 0;
}

int gt_engine_image_load(struct gt_engine *engine, int in_fd, const char *platform, struct gt_progress *progress, struct gt_error *err)
{
	AUTO_JSON json_t *loaded = NULL;
	if (gt_image_load(engine->images, in_fd, platform, progress, &loaded, err) < 0)
		return -1;
	size_t i;
	json_t *name;
	json_array_foreach(loaded, i, name) {
		struct gt_image image = { 0 };
		const char *text = json_string_value(name);
		if (text && gt_image_find(engine->images, text, &image, NULL) == 0)
			tell(engine, "load", image.id, text);
		gt_image_free(&image);
	}
	return 0;
}

static bool is_cancelled(void *arg)
{
	return gt_progress_cancelled(arg);
}

/* A URL without a scheme is http's, as Docker has it. */
int gt_engine_fetch_archive(struct gt_engine *engine, const char *source, struct gt_progress *progress, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	AUTO_FREE char *url = strstr(source, "://") ? gt_xstrdup(source) : gt_xasprintf("http://%s", source);
	if (!gt_url_is_web(url))
		return gt_fail(err, GT_INVALID, "import %.200s: only http and https URLs are fetched", source);
	AUTO_FREE char *dir = gt_xasprintf("%s/builds/work", config->root);
	if (progress && progress->emit)
		progress->emit(progress->arg, json_pack("{s:s+}", "status", "Downloading from ", url));
	return gt_url_spool(dir, url, MAX_ARCHIVE, is_cancelled, progress, err);
}

int gt_engine_image_import(struct gt_engine *engine, int in_fd, const char *repo, const char *tag, const char *message,
			   const struct gt_strings *changes, const char *platform, struct gt_progress *progress, char id[72],
			   struct gt_error *err)
{
	if (gt_image_import(engine->images, in_fd, repo, tag, message, changes, platform, progress, id, err) < 0)
		return -1;
	tell(engine, "import", id, repo && repo[0] ? repo : id);
	return 0;
}
