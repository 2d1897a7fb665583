/*
 * compare.c - what a layer changes: its subvolume and the parent's, walked side by side.
 *
 * A snapshot's files have the numbers and the times of the parent's. A file with the same number and the same time of its last change of any kind
 * (ctime, which programs cannot set) is as it was. A directory's own ctime says nothing about what is below, so all directories are walked.
 *
 * Changes come in order of names, parents first. A directory that only holds changes is told as changed before them (as `docker diff` shows it). Running
 * containers may change things meanwhile: what vanishes is passed over.
 */
#include "btrfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/names.h"

struct frame {
	struct frame *up;
	int now, old;           /* the directory in the layer and in the parent (-1: none there) */
	bool told;              /* has been reported, or need not be */
	size_t path_len;
};

struct walk {
	struct btrfs *self;
	const struct gantry_call *call;
	visit_change visit;
	void *arg;
	struct gantry_error *err;
	dev_t now_dev, old_dev; /* other devices are subvolumes inside, whose numbers mean something else */
	unsigned depth, entries;
	char path[GANTRY_PATH_MAX];
};

static int fail(struct walk *walk, const char *what)
{
	return gantry_fail_errno(walk->err, GANTRY_E_INTERNAL, errno, "compare %s: %s", walk->path[0] ? walk->path : "/", what);
}

static int open_dir(int dirfd, const char *name)
{
	return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* ---- reporting ---- */

/* A directory above a change has changed too. */
static int tell_parents(struct walk *walk, struct frame *frame)
{
	if (frame->told)
		return 0;
	int rc = tell_parents(walk, frame->up);
	if (rc != 0)
		return rc;
	char cut = walk->path[frame->path_len];
	struct change change = { .kind = GANTRY_MODIFIED, .path = walk->path, .dirfd = -1 };
	walk->path[frame->path_len] = '\0';
	frame->told = true;
	rc = walk->visit(walk->arg, &change);
	walk->path[frame->path_len] = cut;
	return rc;
}

static int tell(struct walk *walk, struct frame *frame, struct change change)
{
	int rc = tell_parents(walk, frame);
	change.path = walk->path;
	change.dirfd = frame->now;
	return rc != 0 ? rc : walk->visit(walk->arg, &change);
}

/* ---- comparing ---- */

static bool same_file(const struct walk *walk, const struct stat *now, const struct stat *old)
{
	return now->st_ino == old->st_ino && now->st_dev == walk->now_dev && old->st_dev == walk->old_dev && (now->st_mode & S_IFMT) == (old->st_mode & S_IFMT);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_xattr(int a, int b, const char *name)
{
	char one[4096], two[4096];
	ssize_t len = fgetxattr(a, name, one, sizeof one);
	return len >= 0 && fgetxattr(b, name, two, sizeof two) == len && memcmp(one, two, (size_t)len) == 0;
}

/* What cannot be read counts as different. */
static bool same_xattrs(int a, int b)
{
	char one[8192], two[8192];
	ssize_t len = flistxattr(a, one, sizeof one), other = flistxattr(b, two, sizeof two);
	if (len < 0 || other != len)
		return false; /* the names are the same, in whatever order, so the lengths are */
	for (const char *name = one; name < one + len; name += strlen(name) + 1) {
		if (!same_xattr(a, b, name))
			return false;
	}
	return true;
}

/* A directory that was changed and changed back is as it was; one that took the place of another is not. */
static bool same_dir(const struct walk *walk, const struct frame *child, const struct stat *now, const struct stat *old)
{
	if (!same_file(walk, now, old))
		return false;
	if (same_time(&now->st_ctim, &old->st_ctim))
		return true;
	return now->st_mode == old->st_mode && now->st_uid == old->st_uid && now->st_gid == old->st_gid && same_time(&now->st_mtim, &old->st_mtim) &&
	       same_xattrs(child->now, child->old);
}

static int walk_frame(struct walk *walk, struct frame *frame);

static int walk_dir(struct walk *walk, struct frame *frame, const char *name, const struct stat *now, const struct stat *old)
{
	struct frame child = { .up = frame, .old = -1, .path_len = strlen(walk->path) };
	int rc = 0;
	child.now = open_dir(frame->now, name);
	if (child.now < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : fail(walk, "open it");
	if (old && S_ISDIR(old->st_mode) && (child.old = open_dir(frame->old, name)) < 0)
		rc = fail(walk, "open the parent's");
	if (rc == 0 && (!old || child.old < 0 || !same_dir(walk, &child, now, old))) {
		rc = tell(walk, frame, (struct change){ .kind = old ? GANTRY_MODIFIED : GANTRY_ADDED, .name = name, .now = now });
		child.told = true;
	}
	if (rc == 0 && walk->depth >= MAX_DEPTH)
		rc = gantry_fail(walk->err, GANTRY_E_UNSUPPORTED, "%.100s...: directories are nested deeper than %d levels", walk->path, MAX_DEPTH);
	if (rc == 0) {
		walk->depth++;
		rc = walk_frame(walk, &child);
		walk->depth--;
	}
	close(child.now);
	if (child.old >= 0)
		close(child.old);
	return rc;
}

/* 1 and *st, 0 for nothing, -1 with errno. */
static int look(int dirfd, const char *name, struct stat *st)
{
	if (dirfd < 0)
		return 0;
	if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : -1;
}

/* One name of a directory; walk->path is its path. */
static int walk_name(struct walk *walk, struct frame *frame, const char *name)
{
	struct stat now, old;
	int is = look(frame->now, name, &now), was = look(frame->old, name, &old);
	if (is < 0 || was < 0)
		return fail(walk, "look at it");
	if (!is)
		return was ? tell(walk, frame, (struct change){ .kind = GANTRY_DELETED, .name = name }) : 0;
	if (S_ISDIR(now.st_mode))
		return walk_dir(walk, frame, name, &now, was ? &old : NULL);
	struct change change = { .kind = was ? GANTRY_MODIFIED : GANTRY_ADDED, .name = name, .now = &now };
	change.same_file = was && same_file(walk, &now, &old);
	return change.same_file && same_time(&now.st_ctim, &old.st_ctim) ? 0 : tell(walk, frame, change);
}

static int walk_frame(struct walk *walk, struct frame *frame)
{
	struct names names = { 0 };
	size_t at = frame->path_len;
	int rc = names_read(&names, frame->now) < 0 || (frame->old >= 0 && names_read(&names, frame->old) < 0) ? fail(walk, "list it") : 0;
	names_sort(&names);
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		if (++walk->entries % 256 == 0 && walk->self->host->cancelled(walk->self->host, walk->call)) {
			rc = gantry_fail(walk->err, GANTRY_E_TIMEOUT, "comparing was given up at %.200s", walk->path);
			break;
		}
		size_t len = strlen(names.items[i]);
		if (at + 1 + len >= sizeof walk->path) {
			rc = gantry_fail(walk->err, GANTRY_E_UNSUPPORTED, "%.100s...: a path has more than %zu bytes", walk->path, sizeof walk->path - 1);
			break;
		}
		walk->path[at] = '/';
		memcpy(walk->path + at + 1, names.items[i], len + 1);
		rc = walk_name(walk, frame, names.items[i]);
		walk->path[at] = '\0';
	}
	names_free(&names);
	return rc;
}

/* ---- the layer ---- */

/* The parent's id, empty for none. */
static int find_parent(struct btrfs *self, const char *id, char parent[ID_MAX + 1], struct gantry_error *err)
{
	pthread_mutex_lock(&self->lock);
	const struct layer *layer = layer_get(self, id, err);
	int rc = layer ? 0 : -1;
	parent[0] = '\0';
	if (layer && layer->orphan)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "layer %.12s cannot be compared: the layer below it is lost", id);
	else if (layer && layer->parent)
		memcpy(parent, layer->parent->id, sizeof layer->parent->id);
	pthread_mutex_unlock(&self->lock);
	return rc;
}

static int open_tree(struct btrfs *self, const char *id, int *fd, dev_t *dev, struct gantry_error *err)
{
	struct stat st;
	*fd = tree_open(self, id);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open the files of layer %.12s", id);
	*dev = st.st_dev;
	return 0;
}

int compare_layer(struct btrfs *self, const struct gantry_call *call, const char *id, visit_change visit, void *arg, struct gantry_error *err)
{
	struct frame root = { .now = -1, .old = -1, .told = true };
	char parent[ID_MAX + 1];
	if (find_parent(self, id, parent, err) < 0)
		return -1;
	struct walk *walk = calloc(1, sizeof *walk);
	if (!walk)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	*walk = (struct walk){ .self = self, .call = call, .visit = visit, .arg = arg, .err = err };
	int rc = open_tree(self, id, &root.now, &walk->now_dev, err);
	if (rc == 0 && parent[0])
		rc = open_tree(self, parent, &root.old, &walk->old_dev, err);
	if (rc == 0)
		rc = walk_frame(walk, &root);
	if (root.now >= 0)
		close(root.now);
	if (root.old >= 0)
		close(root.old);
	free(walk);
	return rc < 0 ? -1 : 0;
}
