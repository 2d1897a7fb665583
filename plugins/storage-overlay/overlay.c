/*
 * overlay.c - the storage driver "overlay": layers are directories, and the kernel's overlayfs shows a stack of them as one tree.
 *
 * Nothing is mounted here: mount() describes, the container's own process mounts. Preparing a writable layer is on every container's start path and
 * costs three mkdir and one symlink. See overlay.h for what is on disk and how a crash is undone.
 */
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- open, close ---- */

static int set_options(struct overlay *self)
{
	const struct gantry_host *host = self->host;
	const char *redirect = host->config(host, "redirect_dir");
	self->sync = strcmp(host->config(host, "sync"), "true") == 0;
	self->is_volatile = strcmp(host->config(host, "volatile"), "true") == 0;
	self->metacopy = strcmp(host->config(host, "metacopy"), "true") == 0;
	bool index = strcmp(host->config(host, "index"), "true") == 0;
	/* The kernel takes metacopy=on together with redirects alone. */
	if (self->metacopy && strcmp(redirect, "on") != 0)
		return -1;
	self->follow = strcmp(redirect, "nofollow") != 0;
	snprintf(self->options, sizeof self->options, ",metacopy=%s,redirect_dir=%s", self->metacopy ? "on" : "off", redirect);
	snprintf(self->rw_options, sizeof self->rw_options, ",index=%s%s", index ? "on" : "off", self->is_volatile ? ",volatile" : "");
	return 0;
}

static int make_dir(struct overlay *self, const char *name, mode_t mode, int *fd, struct gantry_error *err)
{
	*fd = -1;
	if (mkdirat(self->fd, name, mode) < 0 && errno != EEXIST)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "create %s/%s", self->dir, name);
	*fd = openat(self->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *fd < 0 ? gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s/%s", self->dir, name) : 0;
}

static int make_dirs(struct overlay *self, struct gantry_error *err)
{
	int empty = -1;
	self->fd = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (self->fd < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", self->dir);
	if (make_dir(self, "layers", 0700, &self->layers_fd, err) < 0 || make_dir(self, "l", 0700, &self->links_fd, err) < 0 ||
	    make_dir(self, "trash", 0700, &self->trash_fd, err) < 0 || make_dir(self, "empty", 0755, &empty, err) < 0)
		return -1;
	close(empty);
	return 0;
}

static void overlay_close(void *driver)
{
	struct overlay *self = driver;
	trash_stop(self);
	layers_free(self);
	int fds[] = { self->fd, self->layers_fd, self->links_fd, self->trash_fd };
	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	pthread_cond_destroy(&self->reaper_wake);
	pthread_mutex_destroy(&self->lock);
	free(self->dir);
	free(self);
}

static int overlay_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	struct overlay *self = calloc(1, sizeof *self);
	if (!self || !(self->dir = strdup(host->state_dir))) {
		free(self);
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	self->host = host;
	self->fd = self->layers_fd = self->links_fd = self->trash_fd = -1;
	pthread_mutex_init(&self->lock, NULL);
	pthread_cond_init(&self->reaper_wake, NULL);
	int rc = 0;
	/* These have a meaning in overlayfs' options. */
	if (self->dir[strcspn(self->dir, ",:\\\"' \t\n")])
		rc = gantry_fail(err, GANTRY_E_INVALID, "overlay cannot work below %s: the path has a comma, colon, quote, backslash or space",
				 self->dir);
	else if (set_options(self) < 0)
		rc = gantry_fail(err, GANTRY_E_INVALID, "[plugin.storage-overlay] metacopy = yes needs redirect_dir = on");
	else if (make_dirs(self, err) < 0 || probe(self, err) < 0 || layers_load(self, err) < 0)
		rc = -1;
	if (rc < 0) {
		overlay_close(self);
		return -1;
	}
	trash_wake(self);
	*driver = self;
	return 0;
}

/* ---- making layers ---- */

static int check_options(const struct gantry_options *options, struct gantry_error *err)
{
	if (!options || options->count == 0)
		return 0;
	if (strcmp(options->items[0].key, "size") == 0)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "storage option size: this driver has no quotas");
	return gantry_fail(err, GANTRY_E_INVALID, "unknown storage option %.64s (this driver has none)", options->items[0].key);
}

/* What can be said before anything is made. With the lock held. Returns 1 where there is nothing to do. */
static int check_prepare(struct overlay *self, int kind, const char *id, const char *parent_id, struct layer **parent, struct layer **again,
			 struct gantry_error *err)
{
	*parent = NULL;
	*again = NULL;
	if (parent_id && !(*parent = layer_get(self, parent_id, err)))
		return -1;
	struct layer *layer = layer_find(self, id);
	if (layer && (layer->kind != kind || layer->parent != *parent))
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s exists %s", id,
				   layer->kind != kind ? "as one of another kind" : "on another parent");
	if (layer && (kind == GANTRY_LAYER_WRITABLE || layer->sealed))
		return 1;
	if (*parent && (*parent)->kind != GANTRY_LAYER_IMAGE)
		return gantry_fail(err, GANTRY_E_INVALID, "layer %.12s cannot stand on %.12s, which is a writable layer", id, parent_id);
	if (*parent && kind == GANTRY_LAYER_WRITABLE && (!(*parent)->sealed || (*parent)->orphan))
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s cannot stand on %.12s, which is not %s", id, parent_id,
				   (*parent)->sealed ? "whole" : "sealed");
	if (*parent && (*parent)->height + 1 >= MAX_LOWERS)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "layer %.12s would stand on %u layers; overlayfs takes %d", id,
				   (*parent)->height + 1, MAX_LOWERS);
	*again = layer;
	return 0;
}

/*
 * ext4 keeps directories near their parent, in one block group, and gives inodes that were removed lately to nobody for minutes: where many were, each new
 * file steps over all of them. Directories below one with this flag go where there is room instead, so layers lie apart. Other file systems refuse.
 */
static void spread_below(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), flags;
	if (fd < 0)
		return;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_TOPDIR_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	close(fd);
}

/* The root directory of a stack has its topmost layer's mode and owner. An image layer's is made under a random name: ext4 chooses its place by that. */
static int make_diff(struct overlay *self, const struct layer *layer)
{
	char path[ID_MAX + 16], fresh[ID_MAX + LINK_LEN + 2];
	const struct layer *parent = layer->parent;
	bool image = layer->kind == GANTRY_LAYER_IMAGE;
	mode_t mode = parent && parent->sealed ? parent->mode : 0755;
	snprintf(path, sizeof path, "%s/diff", layer->id);
	snprintf(fresh, sizeof fresh, "%s/%s", layer->id, image ? layer->link : "diff");
	if (mkdirat(self->layers_fd, fresh, mode) < 0 || (image && renameat(self->layers_fd, fresh, self->layers_fd, path) < 0))
		return -1;
	if (parent && parent->sealed && (parent->uid || parent->gid) && fchownat(self->layers_fd, path, parent->uid, parent->gid, 0) < 0)
		return -1;
	return (mode & (S_ISUID | S_ISGID | S_ISVTX | S_IWGRP | S_IWOTH)) ? fchmodat(self->layers_fd, path, mode, 0) : 0;
}

static int make_files(struct overlay *self, const struct layer *layer, struct gantry_error *err)
{
	char path[ID_MAX + 16], target[ID_MAX + 32], about[ABOUT_ROOM];
	bool image = layer->kind == GANTRY_LAYER_IMAGE;
	const char *step = "its directory";
	about_text(layer->link, layer->parent ? layer->parent->id : NULL, layer->kind, about);
	if (mkdirat(self->layers_fd, layer->id, 0700) < 0)
		goto fail;
	if (image)
		spread_below(self->layers_fd, layer->id);
	step = "diff";
	if (make_diff(self, layer) < 0)
		goto fail;
	step = image ? "its short name" : "work";
	snprintf(path, sizeof path, "%s/work", layer->id);
	snprintf(target, sizeof target, "../layers/%s/diff", layer->id);
	if ((image ? symlinkat(target, self->links_fd, layer->link) : mkdirat(self->layers_fd, path, 0700)) < 0)
		goto fail;
	step = "about";
	snprintf(path, sizeof path, "%s/about", layer->id);
	if (symlinkat(about, self->layers_fd, path) == 0)
		return 0;
fail:
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "make %s of layer %.12s below %s", step, layer->id, self->dir);
}

/* Takes the files of a layer away; nothing else names them. */
static int remove_files(struct overlay *self, const struct gantry_call *call, const char *id, const char *link, struct gantry_error *err)
{
	char trash_name[16];
	if (trash_put(self, self->layers_fd, id, trash_name, err) < 0)
		return -1;
	if (link[0] && unlinkat(self->links_fd, link, 0) < 0 && errno != ENOENT)
		self->host->log(self->host, GANTRY_WARN, "the short name of a removed layer stays until the next start");
	trash_remove(self, call, trash_name);
	return 0;
}

/* An unsealed image layer, which may have others on it: its files go, it stays. */
static int begin_anew(struct overlay *self, const struct gantry_call *call, const struct layer *layer, struct gantry_error *err)
{
	char path[ID_MAX + 16], trash_name[16];
	snprintf(path, sizeof path, "%s/diff", layer->id);
	if (trash_put(self, self->layers_fd, path, trash_name, err) < 0)
		return -1;
	int rc = make_diff(self, layer);
	if (rc < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "make layer %.12s anew", layer->id);
	trash_remove(self, call, trash_name);
	return rc;
}

static int overlay_prepare(void *driver, const struct gantry_call *call, int kind, const char *id, const char *parent_id,
			   const struct gantry_options *options, struct gantry_error *err)
{
	struct overlay *self = driver;
	struct layer *parent, *layer;
	if (kind != GANTRY_LAYER_IMAGE && kind != GANTRY_LAYER_WRITABLE)
		return gantry_fail(err, GANTRY_E_INVALID, "layer kind %d is not known", kind);
	if (check_id(id, err) < 0 || check_options(options, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	int rc = check_prepare(self, kind, id, parent_id, &parent, &layer, err);
	bool again = layer != NULL;
	if (rc == 0 && !again && !(layer = layer_insert(self, id, kind, parent)))
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	pthread_mutex_unlock(&self->lock);
	if (rc != 0 || !layer)
		return rc > 0 ? 0 : -1;
	if (again)
		return begin_anew(self, call, layer, err);
	/* Files of that name are of a removal that failed half-way. */
	rc = make_files(self, layer, err);
	if (rc < 0 && err->errnum == EEXIST && remove_files(self, call, id, "", err) == 0)
		rc = make_files(self, layer, err);
	if (rc == 0)
		return 0;
	struct gantry_error ignored = { .size = sizeof ignored };
	remove_files(self, call, id, layer->link, &ignored);
	pthread_mutex_lock(&self->lock);
	layer_drop(self, layer);
	pthread_mutex_unlock(&self->lock);
	return -1;
}

static int overlay_layer_dir(void *driver, const struct gantry_call *call, const char *id, struct gantry_layer_dir *dir,
			     struct gantry_error *err)
{
	struct overlay *self = driver;
	(void)call;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_get(self, id, err);
	pthread_mutex_unlock(&self->lock);
	if (!layer)
		return -1;
	dir->whiteouts = GANTRY_WHITEOUT_OVERLAY;
	if ((size_t)snprintf(dir->path, sizeof dir->path, "%s/layers/%s/diff", self->dir, id) >= sizeof dir->path)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the path of layer %.12s is too long", id);
	return 0;
}

/* The layer's bytes first, then the mark that says so, then the mark's directory. */
static int seal_files(struct overlay *self, const char *id)
{
	int fd = openat(self->layers_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int rc = self->sync ? syncfs(fd) : 0;
	if (rc == 0 && symlinkat("complete", fd, "sealed") < 0 && errno != EEXIST)
		rc = -1;
	if (rc == 0 && self->sync && fsync(fd) < 0)
		rc = -1;
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

static int overlay_commit(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	struct overlay *self = driver;
	int rc = 0;
	(void)call;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_get(self, id, err);
	if (!layer)
		rc = -1;
	else if (layer->kind != GANTRY_LAYER_IMAGE)
		rc = gantry_fail(err, GANTRY_E_INVALID, "layer %.12s is a writable layer: it cannot be sealed", id);
	else if (layer->sealed)
		rc = 1;
	else if (layer->parent && !layer->parent->sealed)
		rc = gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s cannot be sealed before its parent %.12s is", id, layer->parent->id);
	pthread_mutex_unlock(&self->lock);
	if (rc != 0)
		return rc > 0 ? 0 : -1;
	if (seal_files(self, id) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "seal layer %.12s", id);
	pthread_mutex_lock(&self->lock);
	layer_note_root(self, layer);
	layer->sealed = true;
	pthread_mutex_unlock(&self->lock);
	return 0;
}

/* ---- looking at layers ---- */

static int overlay_lookup(void *driver, const struct gantry_call *call, const char *id, int *sealed, struct gantry_error *err)
{
	struct overlay *self = driver;
	(void)call;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_get(self, id, err);
	*sealed = layer && layer->sealed;
	pthread_mutex_unlock(&self->lock);
	return layer ? 0 : -1;
}

static int overlay_mount(void *driver, const struct gantry_call *call, const char *id, int read_only, struct gantry_mount *mount,
			 struct gantry_error *err)
{
	(void)call;
	return describe_mount(driver, id, read_only, mount, err);
}

static int overlay_diff(void *driver, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg,
			struct gantry_error *err)
{
	return diff_layer(driver, call, id, visit, arg, err);
}

static int overlay_usage(void *driver, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err)
{
	return layer_usage(driver, call, id, usage, err);
}

/* ---- removing ---- */

static int overlay_remove(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	struct overlay *self = driver;
	char link[LINK_LEN + 1] = "";
	if (check_id(id, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_find(self, id);
	unsigned children = layer ? layer->children : 0;
	if (layer && children == 0) {
		memcpy(link, layer->link, sizeof link);
		/* From now on nobody makes a layer on it; were the files to stay, the next prepare() or start clears them away. */
		layer_drop(self, layer);
	}
	pthread_mutex_unlock(&self->lock);
	if (children)
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s has %u %s on it", id, children, children == 1 ? "layer" : "layers");
	return remove_files(self, call, id, link, err);
}

static int overlay_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	(void)call;
	return layers_list(driver, visit, arg, err);
}

/* ---- descriptor ---- */

static const struct gantry_storage_ops ops = {
	.size = sizeof(struct gantry_storage_ops),
	.open = overlay_open,
	.close = overlay_close,
	.prepare = overlay_prepare,
	.layer_dir = overlay_layer_dir,
	.commit = overlay_commit,
	.lookup = overlay_lookup,
	.mount = overlay_mount,
	.diff = overlay_diff,
	.remove = overlay_remove,
	.usage = overlay_usage,
	.list = overlay_list,
};

static const char *const redirect_choices[] = { "off", "on", "follow", "nofollow", NULL };

#define KEY(type_, name_, default_, doc_) \
	{ .size = sizeof(struct gantry_key), .type = (type_), .name = (name_), .default_value = (default_), .doc = (doc_) }

static const struct gantry_key keys[] = {
	KEY(GANTRY_KEY_BOOL, "sync", "yes", "wait for the disk before an image layer counts as complete; no: for throw-away machines"),
	KEY(GANTRY_KEY_BOOL, "index", "no", "overlayfs index: hard links survive copy-up"),
	KEY(GANTRY_KEY_BOOL, "metacopy", "no", "a change of owner or mode copies no data; needs redirect_dir = on"),
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_CHOICE, .name = "redirect_dir", .default_value = "off",
	  .choices = redirect_choices, .doc = "on: renaming a directory of the image copies nothing; else programs are told EXDEV and copy" },
	KEY(GANTRY_KEY_BOOL, "volatile", "no", "containers' fsync does nothing: fast, and lost after a power cut"),
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_STORAGE, .name = "overlay",
	  .capabilities = GANTRY_STORAGE_PARALLEL | GANTRY_STORAGE_IDMAP, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin),
	.abi_major = GANTRY_ABI_MAJOR,
	.abi_minor = GANTRY_ABI_MINOR,
	.name = "storage-overlay",
	.version = GANTRY_VERSION,
	.description = "layers as directories, stacked by the kernel's overlayfs",
	.keys = keys,
	.key_count = sizeof keys / sizeof keys[0],
	.key_size = sizeof keys[0],
	.drivers = drivers,
	.driver_count = 1,
	.driver_size = sizeof drivers[0],
};
