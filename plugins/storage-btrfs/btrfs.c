/*
 * btrfs.c - the storage driver "btrfs": a layer is a subvolume, made as a snapshot of the one below it.
 *
 * A snapshot shows all of its parent, so there is nothing to stack: a container's root is its own subvolume, and how many layers an image has costs
 * nothing. Nothing is mounted here: mount() describes a bind, the container's own process mounts. See btrfs.h for what is on disk and how a crash is undone.
 */
#include "btrfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEAST_LIMIT (1u << 20)          /* a subvolume's own book-keeping takes some of it */

/* ---- open, close ---- */

static int make_dir(struct btrfs *self, const char *name, int *fd, struct gantry_error *err)
{
	if (mkdirat(self->fd, name, 0700) < 0 && errno != EEXIST)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "create %s/%s", self->dir, name);
	*fd = openat(self->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *fd < 0 ? gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s/%s", self->dir, name) : 0;
}

static int open_dirs(struct btrfs *self, struct gantry_error *err)
{
	self->fd = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (self->fd < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", self->dir);
	if (check_file_system(self, err) < 0)
		return -1;
	return make_dir(self, "layers", &self->layers_fd, err) < 0 || make_dir(self, "trash", &self->trash_fd, err) < 0 ? -1 : 0;
}

static void btrfs_close(void *driver)
{
	struct btrfs *self = driver;
	layers_free(self);
	int fds[] = { self->fd, self->layers_fd, self->trash_fd };
	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	pthread_mutex_destroy(&self->lock);
	free(self->dir);
	free(self);
}

static int btrfs_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	struct btrfs *self = calloc(1, sizeof *self);
	if (!self || !(self->dir = strdup(host->state_dir))) {
		free(self);
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	self->host = host;
	self->fd = self->layers_fd = self->trash_fd = -1;
	self->sync = strcmp(host->config(host, "sync"), "true") == 0;
	self->simple = strcmp(host->config(host, "quotas"), "simple") == 0;
	pthread_mutex_init(&self->lock, NULL);
	if (open_dirs(self, err) < 0) {
		btrfs_close(self);
		return -1;
	}
	trash_empty(self);
	if (layers_load(self, err) < 0) {
		btrfs_close(self);
		return -1;
	}
	*driver = self;
	return 0;
}

/* ---- making layers ---- */

/* Bytes, with k, m, g, t for powers of 1024; a "b" or "ib" may follow. */
static int parse_size(const char *text, uint64_t *bytes, struct gantry_error *err)
{
	static const char UNITS[] = "kmgt";
	size_t digits = strspn(text, "0123456789");
	char *end;
	errno = 0;
	*bytes = strtoull(text, &end, 10);
	const char *unit = *end ? strchr(UNITS, *end | 0x20) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - UNITS + 1) : 0;
	end += unit != NULL;
	if (unit && (*end == 'i' || *end == 'I') && end[1])
		end++;
	end += *end == 'b' || *end == 'B';
	if (digits == 0 || digits > 19 || *end || errno || *bytes > (uint64_t)INT64_MAX >> shift)
		return gantry_fail(err, GANTRY_E_INVALID, "storage option size: \"%.64s\" is no size; say a whole number of bytes, or one with k, m, g or t", text);
	*bytes <<= shift;
	if (*bytes < LEAST_LIMIT)
		return gantry_fail(err, GANTRY_E_INVALID, "storage option size: %.64s is too little for a layer; it needs 1m at least", text);
	return 0;
}

static int read_options(int kind, const struct gantry_options *options, uint64_t *limit, struct gantry_error *err)
{
	*limit = 0;
	for (uint32_t i = 0; options && i < options->count; i++) {
		const char *key = options->items[i].key;
		if (strcmp(key, "size") != 0)
			return gantry_fail(err, GANTRY_E_INVALID, "unknown storage option %.64s (there is only size)", key);
		if (kind == GANTRY_LAYER_IMAGE)
			return gantry_fail(err, GANTRY_E_INVALID, "storage option size: an image layer has no limit");
		if (parse_size(options->items[i].value, limit, err) < 0)
			return -1;
	}
	return 0;
}

/* What can be said before anything is made. With the lock held. Returns 1 where there is nothing to do. */
static int check_prepare(struct btrfs *self, int kind, const char *id, const char *parent_id, struct layer **parent, struct layer **again,
			 struct gantry_error *err)
{
	*parent = NULL;
	*again = NULL;
	if (parent_id && !(*parent = layer_get(self, parent_id, err)))
		return -1;
	struct layer *layer = layer_find(self, id);
	if (layer && (layer->kind != kind || layer->parent != *parent))
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s exists %s", id, layer->kind != kind ? "as one of another kind" : "on another parent");
	if (layer && (kind == GANTRY_LAYER_WRITABLE || layer->sealed))
		return 1;
	if (*parent && (*parent)->kind != GANTRY_LAYER_IMAGE)
		return gantry_fail(err, GANTRY_E_INVALID, "layer %.12s cannot stand on %.12s, which is a writable layer", id, parent_id);
	if (*parent && !(*parent)->sealed)
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s cannot stand on %.12s, which is not sealed", id, parent_id);
	*again = layer;
	return 0;
}

static int make_files(struct btrfs *self, const struct layer *layer, struct gantry_error *err)
{
	char path[PATH_ROOM], about[RECORD_ROOM];
	about_text(layer, about);
	if (mkdirat(self->layers_fd, layer->id, 0700) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "make the directory of layer %.12s below %s", layer->id, self->dir);
	snprintf(path, sizeof path, "%s/about", layer->id);
	if (symlinkat(about, self->layers_fd, path) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "write the record of layer %.12s below %s", layer->id, self->dir);
	if (subvolume_make(self, layer, err) < 0)
		return -1;
	if (!layer->limit)
		return 0;
	int fd = tree_open(self, layer->id);
	if (fd < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open the files of layer %.12s", layer->id);
	int rc = subvolume_limit(self, fd, layer->limit, err);
	close(fd);
	return rc;
}

static int btrfs_prepare(void *driver, const struct gantry_call *call, int kind, const char *id, const char *parent_id,
			 const struct gantry_options *options, struct gantry_error *err)
{
	struct btrfs *self = driver;
	struct layer *parent, *layer;
	uint64_t limit;
	if (kind != GANTRY_LAYER_IMAGE && kind != GANTRY_LAYER_WRITABLE)
		return gantry_fail(err, GANTRY_E_INVALID, "layer kind %d is not known", kind);
	if (check_id(id, err) < 0 || read_options(kind, options, &limit, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	int rc = check_prepare(self, kind, id, parent_id, &parent, &layer, err);
	if (rc == 0 && !layer) {
		layer = layer_insert(self, id, kind, parent);
		if (layer)
			layer->limit = limit;
		else
			rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	pthread_mutex_unlock(&self->lock);
	if (rc != 0 || !layer)
		return rc > 0 ? 0 : -1;
	/* Files of that name are of an unsealed image layer, which begins anew, or of a removal that failed half-way. */
	if (layer_remove_files(self, call, id, err) == 0 && make_files(self, layer, err) == 0)
		return 0;
	struct gantry_error ignored = { .size = sizeof ignored };
	layer_remove_files(self, call, id, &ignored);
	pthread_mutex_lock(&self->lock);
	layer_drop(self, layer);
	pthread_mutex_unlock(&self->lock);
	return -1;
}

static int tree_path(const struct btrfs *self, const char *id, char path[GANTRY_PATH_MAX], struct gantry_error *err)
{
	if ((size_t)snprintf(path, GANTRY_PATH_MAX, "%s/layers/%s/tree", self->dir, id) >= GANTRY_PATH_MAX)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the path of layer %.12s is too long", id);
	return 0;
}

static int btrfs_layer_dir(void *driver, const struct gantry_call *call, const char *id, struct gantry_layer_dir *dir, struct gantry_error *err)
{
	struct btrfs *self = driver;
	(void)call;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_get(self, id, err);
	pthread_mutex_unlock(&self->lock);
	dir->whiteouts = GANTRY_WHITEOUT_DELETE;
	return layer ? tree_path(self, id, dir->path, err) : -1;
}

/* The layer's bytes first; then it is made read-only and marked, which the file system may commit at any time; then that is on disk too. */
static int seal_files(struct btrfs *self, const char *id, int64_t bytes, int64_t inodes)
{
	char path[PATH_ROOM], mark[RECORD_ROOM];
	int fd = tree_open(self, id);
	if (fd < 0)
		return -1;
	snprintf(path, sizeof path, "%s/sealed", id);
	snprintf(mark, sizeof mark, "%" PRId64 " %" PRId64, bytes, inodes);
	int rc = self->sync ? syncfs(fd) : 0;
	if (rc == 0)
		rc = subvolume_seal(fd);
	if (rc == 0)
		rc = symlinkat(mark, self->layers_fd, path);
	if (rc == 0 && self->sync)
		rc = syncfs(fd);
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

static int btrfs_commit(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	struct btrfs *self = driver;
	int64_t bytes, inodes;
	int rc = 0;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_get(self, id, err);
	if (!layer)
		rc = -1;
	else if (layer->kind != GANTRY_LAYER_IMAGE)
		rc = gantry_fail(err, GANTRY_E_INVALID, "layer %.12s is a writable layer: it cannot be sealed", id);
	else if (layer->sealed)
		rc = 1;
	pthread_mutex_unlock(&self->lock);
	if (rc != 0)
		return rc > 0 ? 0 : -1;
	/* Counted now: later its data is shared with the layers that stand on it. */
	if (layer_count(self, call, id, &bytes, &inodes, err) < 0)
		return -1;
	if (seal_files(self, id, bytes, inodes) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "seal layer %.12s", id);
	pthread_mutex_lock(&self->lock);
	layer->bytes = bytes;
	layer->inodes = inodes;
	layer->sealed = true;
	pthread_mutex_unlock(&self->lock);
	return 0;
}

/* ---- looking at layers ---- */

static int btrfs_lookup(void *driver, const struct gantry_call *call, const char *id, int *sealed, struct gantry_error *err)
{
	struct btrfs *self = driver;
	(void)call;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_get(self, id, err);
	*sealed = layer && layer->sealed;
	pthread_mutex_unlock(&self->lock);
	return layer ? 0 : -1;
}

static int btrfs_mount(void *driver, const struct gantry_call *call, const char *id, int read_only, struct gantry_mount *mount, struct gantry_error *err)
{
	struct btrfs *self = driver;
	int rc = 0;
	(void)call;
	pthread_mutex_lock(&self->lock);
	const struct layer *layer = layer_get(self, id, err);
	if (!layer)
		rc = -1;
	else if (layer->kind == GANTRY_LAYER_IMAGE && !layer->sealed)
		rc = gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s cannot be mounted before it is sealed", id);
	else if (layer->kind == GANTRY_LAYER_IMAGE && !read_only)
		rc = gantry_fail(err, GANTRY_E_INVALID, "layer %.12s is an image layer: it can be mounted read-only alone", id);
	pthread_mutex_unlock(&self->lock);
	if (rc < 0 || tree_path(self, id, mount->source, err) < 0)
		return -1;
	snprintf(mount->type, sizeof mount->type, "bind");
	snprintf(mount->options, sizeof mount->options, "%s", read_only ? "ro" : "rw");
	mount->flags = GANTRY_MOUNT_IDMAP;
	return 0;
}

struct diff {
	gantry_visit_change visit;
	void *arg;
};

static int pass_on(void *arg, const struct change *change)
{
	const struct diff *diff = arg;
	return diff->visit(diff->arg, change->kind, change->path) ? 1 : 0;
}

static int btrfs_diff(void *driver, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg, struct gantry_error *err)
{
	struct diff diff = { .visit = visit, .arg = arg };
	return compare_layer(driver, call, id, pass_on, &diff, err);
}

static int btrfs_usage(void *driver, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err)
{
	struct btrfs *self = driver;
	pthread_mutex_lock(&self->lock);
	const struct layer *layer = layer_get(self, id, err);
	bool known = layer && layer->sealed;
	if (known) {
		usage->bytes = layer->bytes;
		usage->inodes = layer->inodes;
	}
	pthread_mutex_unlock(&self->lock);
	if (!layer || known)
		return layer ? 0 : -1;
	return layer_count(self, call, id, &usage->bytes, &usage->inodes, err);
}

/* ---- removing ---- */

static int btrfs_remove(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	struct btrfs *self = driver;
	if (check_id(id, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	struct layer *layer = layer_find(self, id);
	unsigned children = layer ? layer->children : 0;
	/* From now on nobody makes a layer on it; were the files to stay, the next prepare() or start clears them away. */
	if (layer && children == 0)
		layer_drop(self, layer);
	pthread_mutex_unlock(&self->lock);
	if (children)
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s has %u %s on it", id, children, children == 1 ? "layer" : "layers");
	return layer_remove_files(self, call, id, err);
}

static int btrfs_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	(void)call;
	return layers_list(driver, visit, arg, err);
}

/* ---- descriptor ---- */

static const struct gantry_storage_ops ops = {
	.size = sizeof(struct gantry_storage_ops),
	.open = btrfs_open,
	.close = btrfs_close,
	.prepare = btrfs_prepare,
	.layer_dir = btrfs_layer_dir,
	.commit = btrfs_commit,
	.lookup = btrfs_lookup,
	.mount = btrfs_mount,
	.diff = btrfs_diff,
	.remove = btrfs_remove,
	.usage = btrfs_usage,
	.list = btrfs_list,
};

static const char *const quota_choices[] = { "full", "simple", NULL };

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_BOOL, .name = "sync", .default_value = "yes",
	  .doc = "wait for the disk before an image layer counts as complete; no: for throw-away machines" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_CHOICE, .name = "quotas", .default_value = "full", .choices = quota_choices,
	  .doc = "what is turned on when a container first has a size; simple costs less, but Linux before 6.7 cannot mount the file system any more" },
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_STORAGE, .name = "btrfs",
	  .capabilities = GANTRY_STORAGE_QUOTA | GANTRY_STORAGE_IDMAP, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin),
	.abi_major = GANTRY_ABI_MAJOR,
	.abi_minor = GANTRY_ABI_MINOR,
	.name = "storage-btrfs",
	.version = GANTRY_VERSION,
	.description = "layers as snapshots on btrfs",
	.keys = keys,
	.key_count = sizeof keys / sizeof keys[0],
	.key_size = sizeof keys[0],
	.drivers = drivers,
	.driver_count = 1,
	.driver_size = sizeof drivers[0],
};
