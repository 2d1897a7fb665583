/*
 * mounts_prepare.c - mounts at a start: drivers describe volumes, sources of binds are made, content of the image is copied up into new volumes; and the same
 * mounts for work on the files of a container that does not run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/mounts.h"
#include "image/fsjob.h"

static bool is_type(const struct gt_container_mount *mount, const char *type)
{
	return strcmp(mount->type, type) == 0;
}

static struct gantry_mount *mount_new(void)
{
	struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	mount->size = sizeof *mount;
	return mount;
}

/* ---- volumes ---- */

static struct gt_driver *driver_of(const struct gt_container *ctr, const struct gt_container_mount *own, struct gt_error *err)
{
	return gt_driver_find(ctr->engine->drivers, GANTRY_VOLUME, own->driver && own->driver[0] ? own->driver : "local", err);
}

static int describe_volume(struct gt_container *ctr, const struct gt_container_mount *own, struct gantry_mount *mount, struct gt_error *err)
{
	struct gt_driver *driver = driver_of(ctr, own, err);
	if (!driver || gt_vol_mount(driver, own->name, ctr->id, !own->rw, mount, err) < 0)
		return gt_context(err, "mount the volume %s on %s", own->name, own->destination);
	return 0;
}

/* What the image has at the destination goes into a volume that is empty, once. */
static int copy_up(struct gt_container *ctr, const struct gt_container_mount *own, const struct gantry_mount *target, struct gt_error *err)
{
	struct gt_engine *engine = ctr->engine;
	if (own->no_copy || own->subpath || !volume_claim_fill(engine, own->name))
		return 0;
	AUTO_FREE struct gantry_mount *layer = mount_new();
	const struct gantry_mount *mounts[] = { layer };
	const char *destinations[] = { "/" };
	struct gt_fsroot root = { .helper = engine->fs_helper, .mounts = mounts, .destinations = destinations, .count = 1 };
	if (gt_layer_mount(gt_images_storage(engine->images), ctr->id, true, layer, err) == 0 && gt_fs_copy_up(&root, own->destination, target, err) == 0)
		return 0;
	volume_unclaim_fill(engine, own->name);
	return gt_context(err, "copy the image's %s into the volume %s", own->destination, own->name);
}

static void tell(struct gt_container *ctr, const struct gt_container_mount *mount, const char *action)
{
	json_t *attributes = json_pack("{s:s s:s}", "container", ctr->id, "driver", mount->driver ? mount->driver : "");
	if (strcmp(action, "mount") == 0) {
		json_object_set_new(attributes, "destination", json_string(mount->destination));
		json_object_set_new(attributes, "read/write", json_string(mount->rw ? "true" : "false"));
		json_object_set_new(attributes, "propagation", json_string(""));
	}
	gt_event(ctr->engine, "volume", action, mount->name, attributes);
}

static void add_access(json_t *options, const struct gt_container_mount *own)
{
	if (!own->rw)
		json_array_append_new(options, json_string(is_type(own, "bind") && !(own->mode && strcmp(own->mode, "ro-non-recursive") == 0) ? "rro" : "ro"));
}

static json_t *prepare_volume(struct gt_container *ctr, const struct gt_container_mount *own, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *mount = mount_new();
	if (describe_volume(ctr, own, mount, err) < 0 || copy_up(ctr, own, mount, err) < 0)
		return NULL;
	json_t *oci = gt_mount_to_oci(mount, own->destination);
	if (!oci)
		return gt_fail_null(err, GT_INTERNAL, "the volume %s is described with text that is not UTF-8", own->name);
	json_t *options = json_object_get(oci, "options");
	add_access(options, own);
	if (own->subpath)
		json_array_append_new(options, json_sprintf("gantry.subpath=%s", own->subpath));
	if (mount->flags & GANTRY_MOUNT_IDMAP && strcmp(mount->type, "bind") != 0 && strcmp(mount->type, "overlay") != 0) /* of these spec_mounts() knows */
		json_array_append_new(options, json_string("idmap"));
	tell(ctr, own, "mount");
	return oci;
}

/* ---- images ---- */

static int describe_image(struct gt_container *ctr, const struct gt_container_mount *own, struct gantry_mount *mount, struct gt_error *err)
{
	if (gt_layer_mount(gt_images_storage(ctr->engine->images), own->layer ? own->layer : "", true, mount, err) < 0)
		return gt_context(err, "mount the image %s on %s", own->name, own->destination);
	return 0;
}

static json_t *prepare_image(struct gt_container *ctr, const struct gt_container_mount *own, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *mount = mount_new();
	if (describe_image(ctr, own, mount, err) < 0)
		return NULL;
	json_t *oci = gt_mount_to_oci(mount, own->destination);
	if (!oci)
		return gt_fail_null(err, GT_INTERNAL, "the image %s is described with text that is not UTF-8", own->name);
	json_t *options = json_object_get(oci, "options");
	add_access(options, own);
	if (own->subpath)
		json_array_append_new(options, json_sprintf("gantry.subpath=%s", own->subpath));
	return oci;
}

/* ---- binds and tmpfs ---- */

static json_t *prepare_bind(const struct gt_container_mount *own, struct gt_error *err)
{
	struct stat info;
	if (stat(own->source, &info) < 0) {
		if (errno != ENOENT || !own->create_source)
			return gt_fail_null(err, GT_INVALID, "invalid mount config for type \"bind\": bind source path does not exist: %s", own->source);
		if (gt_mkdirs(AT_FDCWD, own->source, 0755, err) < 0) {
			gt_context(err, "make the bind source %s", own->source);
			return NULL;
		}
	}
	json_t *options = json_pack("[ss]", own->non_recursive ? "bind" : "rbind", own->propagation && own->propagation[0] ? own->propagation : "rprivate");
	add_access(options, own);
	return json_pack("{s:s s:s s:s s:o}", "destination", own->destination, "type", "bind", "source", own->source, "options", options);
}

static json_t *prepare_tmpfs(const struct gt_container_mount *own)
{
	json_t *options = json_pack("[sss]", "nosuid", "nodev", "noexec");
	AUTO_FREE char *copy = gt_xstrdup(own->tmpfs_options ? own->tmpfs_options : "");
	char *rest = copy, *word;
	if (own->tmpfs_size >= 0)
		json_array_append_new(options, json_sprintf("size=%lld", (long long)own->tmpfs_size));
	if (own->tmpfs_mode >= 0)
		json_array_append_new(options, json_sprintf("mode=%llo", (unsigned long long)own->tmpfs_mode));
	if (!own->rw)
		json_array_append_new(options, json_string("ro"));
	while ((word = strsep(&rest, ",")) != NULL) {
		if (*word)
			json_array_append_new(options, json_string(word));
	}
	return json_pack("{s:s s:s s:s s:o}", "destination", own->destination, "type", "tmpfs", "source", "tmpfs", "options", options);
}

/* ---- start and exit ---- */

static size_t depth(const char *path)
{
	size_t slashes = 0;
	for (; *path; path++)
		slashes += *path == '/';
	return slashes;
}

/* What lies deeper is mounted later. */
static int shallow_first(const void *a, const void *b)
{
	const struct gt_container_mount *x = *(struct gt_container_mount *const *)a, *y = *(struct gt_container_mount *const *)b;
	size_t dx = depth(x->destination), dy = depth(y->destination);
	return dx < dy ? -1 : dx > dy ? 1 : strcmp(x->destination, y->destination);
}

int gt_mounts_prepare(struct gt_container *ctr, json_t *mounts, struct gt_error *err)
{
	AUTO_FREE struct gt_container_mount **sorted = gt_xcalloc(ctr->mount_count + 1, sizeof(struct gt_container_mount *));
	for (size_t i = 0; i < ctr->mount_count; i++)
		sorted[i] = &ctr->mounts[i];
	qsort(sorted, ctr->mount_count, sizeof(struct gt_container_mount *), shallow_first);
	for (size_t i = 0; i < ctr->mount_count; i++) {
		const struct gt_container_mount *own = sorted[i];
		json_t *oci = is_type(own, "volume") ? prepare_volume(ctr, own, err) :
			      is_type(own, "image")  ? prepare_image(ctr, own, err) :
			      is_type(own, "bind")   ? prepare_bind(own, err) :
						       prepare_tmpfs(own);
		if (!oci) {
			gt_mounts_release(ctr);
			return -1;
		}
		json_array_append_new(mounts, oci);
	}
	return 0;
}

void gt_mounts_release(struct gt_container *ctr)
{
	for (size_t i = 0; i < ctr->mount_count; i++) {
		const struct gt_container_mount *own = &ctr->mounts[i];
		struct gt_error err = { 0 };
		if (!is_type(own, "volume"))
			continue;
		struct gt_driver *driver = driver_of(ctr, own, &err);
		if (!driver || gt_vol_release(driver, own->name, ctr->id, &err) < 0)
			gt_warn("a volume could not be released", "volume", own->name, "id", ctr->id, "error", err.message);
		else
			tell(ctr, own, "unmount");
	}
}

/* ---- work on files ---- */

static void add_to_root(struct gt_fsroot *root, struct gantry_mount *mount, const char *destination)
{
	size_t n = root->count + 1;
	root->mounts = gt_xrealloc((void *)root->mounts, n * sizeof *root->mounts);
	root->destinations = gt_xrealloc((void *)root->destinations, n * sizeof *root->destinations);
	((const struct gantry_mount **)root->mounts)[n - 1] = mount;
	((const char **)root->destinations)[n - 1] = gt_xstrdup(destination);
	root->count = n;
}

/* As the runtime does it; a comma is written "\,". */
static int add_subpath(const struct gt_container_mount *own, struct gantry_mount *mount, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	size_t len = strlen(mount->options);
	if (!own->subpath)
		return 0;
	gt_buf_str(&text, len ? ",gantry.subpath=" : "gantry.subpath=");
	for (const char *p = own->subpath; *p; p++)
		gt_buf_printf(&text, "%s%c", *p == ',' ? "\\" : "", *p);
	if (text.len >= sizeof mount->options - len)
		return gt_fail(err, GT_UNSUPPORTED, "the subpath of the mount on %s is too long", own->destination);
	memcpy(mount->options + len, text.data, text.len + 1);
	return 0;
}

/* Under a name of the job's own, so that it neither uses up nor gives back a mount of the container's, which may start meanwhile. */
static int hold_volume(struct gt_container *ctr, const struct gt_container_mount *own, const char *user, struct gt_fsroot *root, struct gantry_mount *mount,
		       struct gt_error *err)
{
	struct gt_driver *driver = driver_of(ctr, own, err);
	if (!driver || gt_vol_mount(driver, own->name, user, !own->rw, mount, err) < 0)
		return gt_context(err, "mount the volume %s on %s", own->name, own->destination);
	root->holds = gt_xrealloc(root->holds, (root->hold_count + 1) * sizeof *root->holds);
	root->holds[root->hold_count++] = (struct gt_fs_hold){ driver, gt_xstrdup(own->name), gt_xstrdup(user) };
	return 0;
}

static int add_mount(struct gt_container *ctr, const struct gt_container_mount *own, const char *user, struct gt_fsroot *root, struct gt_error *err)
{
	struct stat info;
	bool bind = is_type(own, "bind");
	if (is_type(own, "tmpfs") || (bind && stat(own->source, &info) < 0))
		return 0; /* nothing is there while it does not run */
	struct gantry_mount *mount = mount_new();
	if (bind) {
		snprintf(mount->type, sizeof mount->type, "bind");
		snprintf(mount->source, sizeof mount->source, "%s", own->source);
		snprintf(mount->options, sizeof mount->options, "%s%s", own->non_recursive ? "bind" : "rbind", own->rw ? "" : ",ro");
	} else if ((is_type(own, "image") ? describe_image(ctr, own, mount, err) : hold_volume(ctr, own, user, root, mount, err)) < 0 ||
		   add_subpath(own, mount, err) < 0) {
		free(mount);
		return -1;
	}
	add_to_root(root, mount, own->destination);
	return 0;
}

int gt_container_fsroot(struct gt_container *ctr, struct gt_fsroot *root, struct gt_error *err)
{
	*root = (struct gt_fsroot){ .helper = ctr->engine->fs_helper };
	pthread_mutex_lock(&ctr->lock);
	bool running = (ctr->status == GT_RUNNING || ctr->status == GT_PAUSED) && !ctr->exit_seen;
	root->pid = running ? ctr->pid : 0;
	bool removed = ctr->removed;
	pthread_mutex_unlock(&ctr->lock);
	if (removed)
		return gt_fail(err, GT_NOT_FOUND, "No such container: %s", ctr->id);
	if (running)
		return 0;
	char job[GT_ID_LEN + 1];
	gt_id_new(job);
	AUTO_FREE char *user = gt_xasprintf("%s-files-%.16s", ctr->id, job);
	struct gantry_mount *layer = mount_new();
	add_to_root(root, layer, "/");
	int rc = gt_layer_mount(gt_images_storage(ctr->engine->images), ctr->id, false, layer, err);
	for (size_t i = 0; rc == 0 && i < ctr->mount_count; i++)
		rc = add_mount(ctr, &ctr->mounts[i], user, root, err);
	if (rc < 0)
		gt_container_fsroot_free(root);
	return rc;
}

void gt_container_fsroot_free(struct gt_fsroot *root)
{
	for (size_t i = 0; i < root->count; i++) {
		free((void *)root->mounts[i]);
		free((void *)root->destinations[i]);
	}
	for (size_t i = 0; i < root->hold_count; i++) {
		struct gt_fs_hold *hold = &root->holds[i];
		struct gt_error err = { 0 };
		if (gt_vol_release(hold->driver, hold->volume, hold->user, &err) < 0)
			gt_warn("a volume could not be released", "volume", hold->volume, "id", hold->user, "error", err.message);
		free(hold->volume);
		free(hold->user);
	}
	free(root->holds);
	free((void *)root->mounts);
	free((void *)root->destinations);
	*root = (struct gt_fsroot){ 0 };
}
