/*
 * subvolume.c - what is asked of the file system, through libbtrfsutil and, for quotas, its ioctls.
 *
 * Removal: one rename takes a layer out of sight, then its subvolume is deleted, which takes a moment whatever is in it; the kernel frees the space later
 * by itself. Containers that may (privileged ones) make subvolumes of their own inside; those go first, the deepest before those that hold them.
 */
#include "btrfs.h"

#include <btrfsutil.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/names.h"

#define PATIENCE_NS 30000000000LL       /* for one removal without a deadline */
#define ENABLE_SIMPLE_QUOTA 4           /* BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA, which older headers lack */

/* The library leaves its system call's errno behind. */
static int failed(enum btrfs_util_error rc, struct gantry_error *err, const char *what, const char *id)
{
	return errno ? gantry_fail_errno(err, errno == ENOSPC || errno == EDQUOT ? GANTRY_E_UNAVAILABLE : GANTRY_E_INTERNAL, errno, "%s layer %.12s", what, id) :
		       gantry_fail(err, GANTRY_E_INTERNAL, "%s layer %.12s: %s", what, id, btrfs_util_strerror(rc));
}

int check_file_system(struct btrfs *self, struct gantry_error *err)
{
	struct statfs st;
	if (fstatfs(self->fd, &st) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "look at the file system of %s", self->dir);
	if ((unsigned long)st.f_type != BTRFS_SUPER_MAGIC)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED,
				   "%s is not on btrfs, which the storage driver btrfs needs; put [daemon] root on a btrfs file system, or set [storage] driver = overlay",
				   self->dir);
	return 0;
}

/* ---- making ---- */

int subvolume_make(struct btrfs *self, const struct layer *layer, struct gantry_error *err)
{
	enum btrfs_util_error rc;
	int dir = openat(self->layers_fd, layer->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int parent = dir >= 0 && layer->parent ? tree_open(self, layer->parent->id) : -1;
	if (dir < 0 || (layer->parent && parent < 0)) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open the directory of layer %.12s", dir < 0 ? layer->id : layer->parent->id);
		if (dir >= 0)
			close(dir);
		return -1;
	}
	errno = 0;
	if (layer->parent)
		rc = btrfs_util_create_snapshot_fd2(parent, dir, "tree", 0, NULL, NULL);
	else
		rc = btrfs_util_create_subvolume_fd(dir, "tree", 0, NULL, NULL);
	int done = rc == BTRFS_UTIL_OK ? 0 : failed(rc, err, layer->parent ? "make the snapshot of" : "make the subvolume of", layer->id);
	if (done == 0 && !layer->parent && fchmodat(dir, "tree", 0755, 0) < 0) /* the umask has been at it */
		done = gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "set the mode of layer %.12s", layer->id);
	if (parent >= 0)
		close(parent);
	close(dir);
	return done;
}

int subvolume_seal(int fd)
{
	bool sealed = false;
	errno = 0;
	if (btrfs_util_get_subvolume_read_only_fd(fd, &sealed) == BTRFS_UTIL_OK && sealed)
		return 0;
	return btrfs_util_set_subvolume_read_only_fd(fd, true) == BTRFS_UTIL_OK ? 0 : -1;
}

/* ---- limits ---- */

static int turn_on_quotas(struct btrfs *self, int fd)
{
	struct btrfs_ioctl_quota_ctl_args args = { .cmd = ENABLE_SIMPLE_QUOTA };
	if (self->simple && ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) == 0)
		return 0;
	args = (struct btrfs_ioctl_quota_ctl_args){ .cmd = BTRFS_QUOTA_CTL_ENABLE };
	return ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args);
}

int subvolume_limit(struct btrfs *self, int fd, uint64_t bytes, struct gantry_error *err)
{
	/* Exclusive bytes: what the parent's snapshot shares is not the layer's. Group 0: that of the subvolume behind fd. */
	struct btrfs_ioctl_qgroup_limit_args args = { .lim = { .flags = BTRFS_QGROUP_LIMIT_MAX_EXCL, .max_excl = bytes } };
	if (ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) == 0)
		return 0;
	/* Two threads may come here at once; the second finds them on. */
	int rc = turn_on_quotas(self, fd), why = errno;
	if (ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) == 0)
		return 0;
	return gantry_fail_errno(err, GANTRY_E_UNSUPPORTED, rc < 0 ? why : errno, "storage option size: %s below %s",
				 rc < 0 ? "quotas cannot be turned on for the file system" : "set the limit of a subvolume", self->dir);
}

/* ---- deleting ---- */

struct removal {
	int tree;               /* the layer's subvolume */
	int64_t until;          /* CLOCK_MONOTONIC */
};

static int64_t monotonic(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A directory inside the layer; a container that still runs may try to lead us astray. */
static int open_below(int tree, const char *path)
{
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	return (int)syscall(SYS_openat2, tree, path[0] ? path : ".", &how, sizeof how);
}

/* The directory that holds path, and in *name its last part; path is changed. */
static int open_holder(int tree, char *path, const char **name)
{
	char *slash = strrchr(path, '/');
	*name = slash ? slash + 1 : path;
	if (!slash)
		return open_below(tree, "");
	*slash = '\0';
	return open_below(tree, path);
}

/* chattr +i and +a, which a privileged container may have set. */
static void clear_flags(int fd)
{
	int flags;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)))
		return;
	flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0)
		return; /* the deletion will say so */
}

static void make_writable(int fd)
{
	(void)btrfs_util_set_subvolume_read_only_fd(fd, false);
	clear_flags(fd);
}

/* A subvolume goes, and the quota group that older kernels leave behind; where quotas are off there is none. */
static int delete_subvolume(int dirfd, const char *name, uint64_t id)
{
	struct btrfs_ioctl_qgroup_create_args group = { .create = 0, .qgroupid = id };
	errno = 0;
	if (btrfs_util_delete_subvolume_fd(dirfd, name, 0) != BTRFS_UTIL_OK && errno != ENOENT)
		return -1;
	(void)ioctl(dirfd, BTRFS_IOC_QGROUP_CREATE, &group);
	return 0;
}

static int delete_nested(int tree, char *path, uint64_t id)
{
	const char *name;
	int holder = open_holder(tree, path, &name);
	if (holder < 0)
		return -1;
	int rc = delete_subvolume(holder, name, id), saved = errno;
	close(holder);
	errno = saved;
	return rc;
}

static int unlock_nested(int tree, char *path, uint64_t id)
{
	const char *name;
	(void)id;
	int fd = open_below(tree, path), holder = open_holder(tree, path, &name);
	if (fd >= 0) {
		make_writable(fd);
		close(fd);
	}
	if (holder >= 0) {
		clear_flags(holder);
		close(holder);
	}
	return 0;
}

/* Those inside the layer's subvolume. Returns -1 with errno. */
static int each_nested(const struct removal *how, int order, int (*fn)(int tree, char *path, uint64_t id))
{
	struct btrfs_util_subvolume_iterator *nested;
	char *path;
	uint64_t id;
	int rc = 0;
	errno = 0;
	if (btrfs_util_create_subvolume_iterator_fd(how->tree, 0, order, &nested) != BTRFS_UTIL_OK)
		return -1;
	while (rc == 0) {
		enum btrfs_util_error next = btrfs_util_subvolume_iterator_next(nested, &path, &id);
		if (next == BTRFS_UTIL_ERROR_STOP_ITERATION)
			break;
		if (next != BTRFS_UTIL_OK) {
			rc = -1;
			break;
		}
		rc = fn(how->tree, path, id);
		free(path);
		if (rc == 0 && monotonic() >= how->until) {
			errno = ETIMEDOUT;
			rc = -1;
		}
	}
	int saved = errno;
	btrfs_util_destroy_subvolume_iterator(nested);
	errno = saved;
	return rc;
}

static int delete_all(const struct removal *how, int dir, uint64_t id)
{
	return each_nested(how, BTRFS_UTIL_SUBVOLUME_ITERATOR_POST_ORDER, delete_nested) < 0 ? -1 : delete_subvolume(dir, "tree", id);
}

/* trash/<name>/tree, of an open directory. Returns -1 with errno. */
static int delete_tree(int dir, int64_t until)
{
	struct removal how = { .until = until };
	uint64_t id;
	how.tree = openat(dir, "tree", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (how.tree < 0)
		return errno == ENOENT ? 0 : -1;
	int rc = -1;
	if (btrfs_util_is_subvolume_fd(how.tree) != BTRFS_UTIL_OK) { /* what a snapshot of the whole root directory has in its place */
		rc = unlinkat(dir, "tree", AT_REMOVEDIR);
	} else if (btrfs_util_subvolume_id_fd(how.tree, &id) == BTRFS_UTIL_OK) {
		rc = delete_all(&how, dir, id);
		if (rc < 0 && errno != ETIMEDOUT) {
			/* read-only ones that hold others, directories that are immutable */
			make_writable(how.tree);
			rc = each_nested(&how, 0, unlock_nested) < 0 ? -1 : delete_all(&how, dir, id);
		}
	}
	int saved = errno;
	close(how.tree);
	errno = saved;
	return rc;
}

/* Returns -1 with errno. */
static int delete_entry(const struct btrfs *self, const char *trash_name, int64_t until)
{
	static const char *const FILES[] = { "about", "sealed" };
	int dir = openat(self->trash_fd, trash_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? 0 : -1;
	int rc = delete_tree(dir, until);
	for (size_t i = 0; rc == 0 && i < sizeof FILES / sizeof FILES[0]; i++)
		rc = unlinkat(dir, FILES[i], 0) < 0 && errno != ENOENT ? -1 : 0;
	int saved = errno;
	close(dir);
	errno = saved;
	return rc < 0 ? -1 : unlinkat(self->trash_fd, trash_name, AT_REMOVEDIR);
}

static void complain(const struct btrfs *self, const char *name)
{
	char line[GANTRY_PATH_MAX], reason[64];
	const char *why = strerror_r(errno, reason, sizeof reason);
	snprintf(line, sizeof line, "%s/trash/%s cannot be removed and waits for the next start: %s", self->dir, name, why);
	self->host->log(self->host, GANTRY_WARN, line);
}

int layer_remove_files(struct btrfs *self, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	char name[16];
	for (;;) {
		snprintf(name, sizeof name, "%08x", atomic_fetch_add(&self->serial, 1));
		if (renameat2(self->layers_fd, id, self->trash_fd, name, RENAME_NOREPLACE) == 0)
			break;
		if (errno == ENOENT)
			return 0;
		if (errno != EEXIST)
			return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "move layer %.12s to %s/trash", id, self->dir);
	}
	int64_t until = monotonic() + PATIENCE_NS;
	if (call && call->deadline_ns && call->deadline_ns < until)
		until = call->deadline_ns;
	if (delete_entry(self, name, until) < 0)
		complain(self, name);
	return 0;
}

void trash_empty(struct btrfs *self)
{
	struct names names = { 0 };
	int64_t until = monotonic() + PATIENCE_NS;
	if (names_read(&names, self->trash_fd) < 0)
		complain(self, ".");
	for (size_t i = 0; i < names.count; i++) {
		if (delete_entry(self, names.items[i], until) < 0)
			complain(self, names.items[i]);
	}
	names_free(&names);
}
