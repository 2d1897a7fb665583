/*
 * mounts.c - the mounts of a container from create to removal.
 *
 * Precedence, lowest first: VolumesFrom, Binds, Mounts, Tmpfs; Config.Volumes (the image's among them) fill only places that are still free. Two of the user's
 * own on one place are a mistake.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/mounts.h"

#define MAX_MOUNTS 512

static const struct gt_json_field FIELDS[] = {
	GT_JSON_FIELD(GT_JSON_STRING, struct gt_container_mount, type, "Type"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, name, "Name"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, driver, "Driver"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, source, "Source"),
	GT_JSON_FIELD(GT_JSON_STRING, struct gt_container_mount, destination, "Destination"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, mode, "Mode"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, propagation, "Propagation"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_container_mount, rw, "RW"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_container_mount, no_copy, "NoCopy"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_container_mount, anonymous, "Anonymous"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_container_mount, non_recursive, "NonRecursive"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_container_mount, create_source, "CreateSource"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, subpath, "Subpath"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, layer, "Layer"),
	GT_JSON_FIELD(GT_JSON_INT, struct gt_container_mount, tmpfs_size, "TmpfsSize"),
	GT_JSON_FIELD(GT_JSON_INT, struct gt_container_mount, tmpfs_mode, "TmpfsMode"),
	GT_JSON_FIELD(GT_JSON_OPT_STRING, struct gt_container_mount, tmpfs_options, "TmpfsOptions"),
	{ .name = NULL },
};

static struct gt_container_mount *find(struct gt_container *ctr, const char *destination)
{
	for (size_t i = 0; i < ctr->mount_count; i++) {
		if (strcmp(ctr->mounts[i].destination, destination) == 0)
			return &ctr->mounts[i];
	}
	return NULL;
}

static bool is_volume(const struct gt_container_mount *mount)
{
	return strcmp(mount->type, "volume") == 0;
}

static bool is_image(const struct gt_container_mount *mount)
{
	return strcmp(mount->type, "image") == 0;
}

/* Under this name a mount holds its image; the container itself may hold the same one. */
static char *image_holder(const struct gt_container *ctr, const struct gt_container_mount *mount)
{
	return gt_xasprintf("%s:%s", ctr->id, mount->destination);
}

/* ---- adding ---- */

/* The image of a wish, found and held. One that is not there is the request's mistake: with 404, clients would go and pull the container's. */
static int take_image(struct gt_container *ctr, struct gt_container_mount *mount, struct gt_error *err)
{
	struct gt_image image = { 0 };
	AUTO_FREE char *holder = image_holder(ctr, mount);
	if (gt_image_find(ctr->engine->images, mount->source, &image, err) < 0) {
		if (err && err->kind == GT_NOT_FOUND)
			err->kind = GT_INVALID;
		return gt_context(err, "invalid mount config for type \"image\"");
	}
	int rc = !image.top_layer[0] ? gt_fail(err, GT_INVALID, "invalid mount config for type \"image\": %s has no files", mount->source) :
				       gt_image_hold(ctr->engine->images, image.id, holder, err);
	if (rc == 0) {
		if (!mount->name)
			mount->name = take(mount->source);
		free(mount->source);
		mount->source = gt_xstrdup(image.id);
		free(mount->layer);
		mount->layer = gt_xstrdup(image.top_layer);
	}
	gt_image_free(&image);
	return rc;
}

/* The volume of a wish, made and used. */
static int take_volume(struct gt_container *ctr, struct mount_wish *wish, struct gt_error *err)
{
	char *name = NULL, *driver = NULL;
	if (volume_use(ctr->engine, wish->mount.name, wish->mount.driver, wish->volume_options, wish->volume_labels, ctr->id, &name, &driver, err) < 0)
		return -1;
	free(wish->mount.name);
	free(wish->mount.driver);
	wish->mount.name = name;
	wish->mount.driver = driver;
	return 0;
}

static int take_source(struct gt_container *ctr, struct mount_wish *wish, struct gt_error *err)
{
	return is_volume(&wish->mount) ? take_volume(ctr, wish, err) : is_image(&wish->mount) ? take_image(ctr, &wish->mount, err) : 0;
}

static void give_back(struct gt_container *ctr, const struct gt_container_mount *mount)
{
	if (is_volume(mount)) {
		volume_drop_user(ctr->engine, mount->name, ctr->id);
	} else if (is_image(mount)) {
		AUTO_FREE char *holder = image_holder(ctr, mount);
		gt_image_release(ctr->engine->images, mount->source, holder);
	}
}

static bool same_source(const struct gt_container_mount *a, const struct gt_container_mount *b)
{
	if (strcmp(a->type, b->type))
		return false;
	return is_volume(a) ? strcmp(a->name, b->name) == 0 : is_image(a) && strcmp(a->source, b->source) == 0;
}

/* Consumes the wish. */
static int add(struct gt_container *ctr, struct mount_wish *wish, struct gt_error *err)
{
	if (ctr->mount_count >= MAX_MOUNTS) {
		mount_release(&wish->mount);
		return gt_fail(err, GT_TOO_LARGE, "more than %d mounts", MAX_MOUNTS);
	}
	if (take_source(ctr, wish, err) < 0) {
		mount_release(&wish->mount);
		return -1;
	}
	ctr->mounts = gt_xrealloc(ctr->mounts, (ctr->mount_count + 1) * sizeof *ctr->mounts);
	ctr->mounts[ctr->mount_count++] = wish->mount;
	return 0;
}

/* A mount of the user's own: the second on one place is refused; one from another container gives way. */
static int add_own(struct gt_container *ctr, struct mount_wish *wish, size_t inherited, struct gt_error *err)
{
	struct gt_container_mount *other = find(ctr, wish->mount.destination);
	if (!other)
		return add(ctr, wish, err);
	if ((size_t)(other - ctr->mounts) >= inherited) {
		gt_fail(err, GT_INVALID, "Duplicate mount point: %s", wish->mount.destination);
		mount_release(&wish->mount);
		return -1;
	}
	if (take_source(ctr, wish, err) < 0) {
		mount_release(&wish->mount);
		return -1;
	}
	if (!same_source(other, &wish->mount))
		give_back(ctr, other);
	mount_release(other);
	*other = wish->mount;
	return 0;
}

/* ---- VolumesFrom ---- */

static int copy_mount(struct gt_container *ctr, const struct gt_container_mount *from, bool read_only, struct gt_error *err)
{
	struct mount_wish wish = { .mount = *from };
	struct gt_container_mount *copy = &wish.mount;
	char **const strings[] = { &copy->type, &copy->name, &copy->driver, &copy->source, &copy->destination,
				   &copy->mode, &copy->propagation, &copy->subpath, &copy->layer, &copy->tmpfs_options };
	for (size_t i = 0; i < GT_COUNT(strings); i++)
		*strings[i] = gt_xstrdup(*strings[i]);
	copy->rw = copy->rw && !read_only;
	copy->anonymous = false; /* it belongs to the other container */
	if (find(ctr, copy->destination)) {
		mount_release(copy);
		return 0;
	}
	return add(ctr, &wish, err);
}

static int add_from(struct gt_container *ctr, const char *spec, struct gt_error *err)
{
	AUTO_FREE char *name = gt_xstrdup(spec);
	char *mode = strchr(name, ':');
	if (mode)
		*mode++ = '\0';
	if (mode && strcmp(mode, "ro") && strcmp(mode, "rw") && strcmp(mode, "z") && strcmp(mode, "Z"))
		return gt_fail(err, GT_INVALID, "invalid volumes-from specification: '%.255s': invalid mode: %.32s", spec, mode);
	AUTO_CONTAINER struct gt_container *from = gt_container_get(ctr->engine, name, err);
	if (!from) {
		if (err && err->kind == GT_NOT_FOUND)
			err->kind = GT_INVALID; /* the request's mistake: with 404, clients would go and pull the image */
		return gt_context(err, "volumes-from");
	}
	for (size_t i = 0; i < from->mount_count; i++) {
		if (strcmp(from->mounts[i].type, "tmpfs") && copy_mount(ctr, &from->mounts[i], mode && strcmp(mode, "ro") == 0, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- resolve ---- */

static int add_binds(struct gt_container *ctr, size_t inherited, struct gt_error *err)
{
	const struct gt_host_config *host = &ctr->config.host;
	for (size_t i = 0; i < host->binds.count; i++) {
		struct mount_wish wish;
		if (mount_read_bind(host->binds.items[i], host->volume_driver, &wish, err) < 0) {
			mount_release(&wish.mount);
			return -1;
		}
		if (add_own(ctr, &wish, inherited, err) < 0)
			return -1;
	}
	return 0;
}

static int add_objects(struct gt_container *ctr, size_t inherited, struct gt_error *err)
{
	size_t i;
	json_t *object;
	if (ctr->config.host.mounts && !json_is_null(ctr->config.host.mounts) && !json_is_array(ctr->config.host.mounts))
		return gt_fail(err, GT_INVALID, "HostConfig.Mounts is not a list");
	json_array_foreach(ctr->config.host.mounts, i, object) {
		struct mount_wish wish;
		if (mount_read_object(object, &wish, err) < 0) {
			mount_release(&wish.mount);
			return -1;
		}
		if (add_own(ctr, &wish, inherited, err) < 0)
			return -1;
	}
	return 0;
}

static int add_tmpfs(struct gt_container *ctr, size_t inherited, struct gt_error *err)
{
	const char *destination;
	json_t *options;
	json_object_foreach(ctr->config.host.tmpfs, destination, options) {
		struct mount_wish wish;
		if (mount_read_tmpfs(destination, json_is_string(options) ? json_string_value(options) : "", &wish, err) < 0) {
			mount_release(&wish.mount);
			return -1;
		}
		if (add_own(ctr, &wish, inherited, err) < 0)
			return -1;
	}
	return 0;
}

static int add_volumes(struct gt_container *ctr, struct gt_error *err)
{
	const char *destination;
	json_t *ignored;
	json_object_foreach(ctr->config.volumes, destination, ignored) {
		struct mount_wish wish;
		if (mount_read_volume(destination, ctr->config.host.volume_driver, &wish, err) < 0) {
			mount_release(&wish.mount);
			return -1;
		}
		if (find(ctr, wish.mount.destination))
			mount_release(&wish.mount);
		else if (add(ctr, &wish, err) < 0)
			return -1;
	}
	return 0;
}

int gt_mounts_resolve(struct gt_container *ctr, const struct gt_image *image, struct gt_error *err)
{
	(void)image; /* its volumes have been merged into Config.Volumes */
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < ctr->config.host.volumes_from.count; i++)
		rc = add_from(ctr, ctr->config.host.volumes_from.items[i], err);
	size_t inherited = ctr->mount_count;
	if (rc == 0 && (add_binds(ctr, inherited, err) < 0 || add_objects(ctr, inherited, err) < 0 || add_tmpfs(ctr, inherited, err) < 0 ||
			add_volumes(ctr, err) < 0))
		rc = -1;
	if (rc < 0)
		gt_mounts_remove(ctr, true);
	return rc;
}

/* ---- removal ---- */

void gt_mounts_remove(struct gt_container *ctr, bool anonymous)
{
	for (size_t i = 0; i < ctr->mount_count; i++) {
		const struct gt_container_mount *mount = &ctr->mounts[i];
		give_back(ctr, mount);
		if (anonymous && mount->anonymous && is_volume(mount))
			volume_remove_unused(ctr->engine, mount->name);
	}
}

/* ---- JSON ---- */

/* As inspect shows it: Docker's MountPoint. */
static json_t *describe(struct gt_engine *engine, const struct gt_container_mount *mount)
{
	json_t *json = json_pack("{s:s s:s s:s s:b s:s}", "Type", mount->type, "Destination", mount->destination, "Mode", mount->mode ? mount->mode : "", "RW",
				 mount->rw, "Propagation", mount->propagation ? mount->propagation : "");
	if (is_volume(mount)) {
		AUTO_JSON json_t *volume = gt_volume_inspect(engine, mount->name, NULL);
		json_object_set_new(json, "Name", json_string(mount->name));
		json_object_set_new(json, "Driver", json_string(mount->driver ? mount->driver : ""));
		json_object_set_new(json, "Source", volume ? json_incref(json_object_get(volume, "Mountpoint")) : json_string(""));
	} else {
		if (mount->name)
			json_object_set_new(json, "Name", json_string(mount->name));
		json_object_set_new(json, "Source", json_string(mount->source ? mount->source : ""));
	}
	return json;
}

json_t *gt_mounts_inspect(struct gt_container *ctr)
{
	json_t *list = json_array();
	for (size_t i = 0; i < ctr->mount_count; i++) {
		if (!json_object_get(ctr->config.host.tmpfs, ctr->mounts[i].destination)) /* HostConfig.Tmpfs tells of these */
			json_array_append_new(list, describe(ctr->engine, &ctr->mounts[i]));
	}
	return list;
}

json_t *gt_mounts_to_json(const struct gt_container *ctr)
{
	json_t *list = json_array();
	for (size_t i = 0; i < ctr->mount_count; i++)
		json_array_append_new(list, gt_json_encode(FIELDS, &ctr->mounts[i]));
	return list;
}

/* As it was at create. An image that is gone is no error yet: the start says so. */
static void note_image(struct gt_container *ctr, const struct gt_container_mount *mount)
{
	AUTO_FREE char *holder = image_holder(ctr, mount);
	struct gt_error err = { 0 };
	if (!mount->source || gt_image_hold(ctr->engine->images, mount->source, holder, &err) < 0)
		gt_warn("the image of a mount is gone", "id", ctr->id, "destination", mount->destination, "error", err.message);
}

int gt_mounts_from_json(struct gt_container *ctr, const json_t *json, struct gt_error *err)
{
	size_t count = json_array_size(json);
	if (count > MAX_MOUNTS)
		return gt_fail(err, GT_TOO_LARGE, "more than %d mounts", MAX_MOUNTS);
	ctr->mounts = gt_xcalloc(count + 1, sizeof *ctr->mounts);
	for (size_t i = 0; i < count; i++) {
		struct gt_container_mount *mount = &ctr->mounts[ctr->mount_count++];
		if (gt_json_decode(json_array_get(json, i), FIELDS, mount, err) < 0)
			return -1;
		if (!mount->type || !mount->destination || mount->destination[0] != '/' || (is_volume(mount) && !mount->name))
			return gt_fail(err, GT_INVALID, "a stored mount is not one");
		if (is_volume(mount))
			volume_note_user(ctr->engine, mount->name, ctr->id);
		if (is_image(mount))
			note_image(ctr, mount);
	}
	return 0;
}
