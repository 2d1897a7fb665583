/*
 * mount_cache.c - RUN --mount=type=cache: directories that outlive builds.
 *
 * <cache_dir>/<digest of the id>, one for all builds of this daemon; `locked` and `private` are kept apart by flock, so that a daemon that dies leaves none
 * locked. A RUN takes the locks of all its caches in the order of their ids.
 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "build/mounts.h"

#define LOOK_US 100000

/* ---- locks ---- */

static void cache_name(const char *id, unsigned copy, char name[80])
{
	struct sha256_ctx state;
	uint8_t raw[SHA256_DIGEST_SIZE];
	sha256_init(&state);
	sha256_update(&state, strlen(id), (const uint8_t *)id);
	sha256_digest(&state, sizeof raw, raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(name + 2 * i, 3, "%02x", raw[i]);
	if (copy)
		snprintf(name + 64, 16, "-%u", copy);
}

/* Locks <cache_dir>/NAME.lock; -1 with errno. */
static int lock_cache(struct run *run, const char *name, int how)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s.lock", run->build->options->cache_dir, name);
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, how) < 0)
		return -1;
	return take_fd(fd);
}

/* The name of a cache: its id, below the namespace that the build was given. The caller's. */
static char *cache_id(const struct run *run, const struct mount *mount)
{
	const char *space = json_string_value(json_object_get(run->build->options->build_args, "BUILDKIT_CACHE_MOUNT_NS"));
	const char *id = mount->id && mount->id[0] ? mount->id : mount->target;
	return space && space[0] ? gt_xasprintf("%s/%s", space, id) : gt_xstrdup(id);
}

/* How strictly a RUN wants a cache for itself. */
static int strictness(const struct mount *mount)
{
	const char *sharing = mount->sharing ? mount->sharing : "shared";
	return strcmp(sharing, "locked") == 0 ? 2 : strcmp(sharing, "private") == 0 ? 1 : 0;
}

/* shared: used by many. locked: waits for its turn. private: another one where it is in use. */
static int take_lock(struct run *run, struct cache_lock *lock, struct gt_error *err)
{
	bool shared = lock->strictness == 0, own = lock->strictness == 1;
	for (unsigned copy = 0;;) {
		cache_name(lock->id, copy, lock->name);
		lock->fd = lock_cache(run, lock->name, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
		if (lock->fd >= 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return gt_fail_errno(err, errno, "open a cache of the build");
		if (build_stopped(run->build))
			return gt_fail(err, GT_CANCELLED, "the build was stopped");
		if (own && copy < 1000)
			copy++;
		else
			usleep(LOOK_US);
	}
}

static struct cache_lock *find_lock(struct mounts *mounts, const char *id)
{
	for (size_t i = 0; i < mounts->lock_count; i++) {
		if (strcmp(mounts->locks[i].id, id) == 0)
			return &mounts->locks[i];
	}
	return NULL;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct cache_lock *)a)->id, ((const struct cache_lock *)b)->id);
}

int caches_lock(struct run *run, struct mounts *mounts, struct gt_error *err)
{
	for (size_t i = 0; i < mounts->count; i++) {
		const struct mount *mount = &mounts->items[i];
		if (strcmp(mount->type, "cache") != 0)
			continue;
		AUTO_FREE char *id = cache_id(run, mount);
		struct cache_lock *lock = find_lock(mounts, id);
		if (!lock) {
			lock = &mounts->locks[mounts->lock_count++]; /* no more than MAX_MOUNTS */
			*lock = (struct cache_lock){ .id = take(id), .fd = -1 };
		}
		lock->strictness = strictness(mount) > lock->strictness ? strictness(mount) : lock->strictness;
	}
	qsort(mounts->locks, mounts->lock_count, sizeof mounts->locks[0], by_id);
	for (size_t i = 0; i < mounts->lock_count; i++) {
		if (take_lock(run, &mounts->locks[i], err) < 0)
			return -1;
	}
	return 0;
}

void caches_unlock(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->lock_count; i++) {
		if (mounts->locks[i].fd >= 0)
			close(mounts->locks[i].fd);
		free(mounts->locks[i].id);
	}
	mounts->lock_count = 0;
}

/* ---- directories ---- */

static int fill_cache(struct run *run, const struct mount *mount, const char *path, struct gt_error *err)
{
	struct gt_copy copy = { 0 };
	int rc = 0;
	if (mount->from) {
		rc = mount_files(run, mount, &copy, err);
		if (rc == 0)
			rc = gt_image_copy_out(run->build->images, &copy, path, err);
		gt_copy_free(&copy);
	}
	return rc;
}

/* A fresh directory, filled before it gets its name; another RUN that shares the cache may have been faster. */
static int make_fresh(struct run *run, const struct mount *mount, const char *fresh, const char *path, struct gt_error *err)
{
	long mode, uid, gid;
	if (mount_number("mode", mount->mode, 8, 07777, 0755, &mode, err) < 0 || mount_number("uid", mount->uid, 10, 0xfffffffel, 0, &uid, err) < 0 ||
	    mount_number("gid", mount->gid, 10, 0xfffffffel, 0, &gid, err) < 0 || fill_cache(run, mount, fresh, err) < 0)
		return -1;
	if (chown(fresh, (uid_t)uid, (gid_t)gid) < 0 || chmod(fresh, (mode_t)mode) < 0)
		return gt_fail_errno(err, errno, "make a cache of the build");
	if (renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EEXIST)
		return gt_fail_errno(err, errno, "make a cache of the build");
	return gt_remove_tree(AT_FDCWD, fresh, err);
}

static int make_cache(struct run *run, const struct mount *mount, const char *path, struct gt_error *err)
{
	if (access(path, F_OK) == 0)
		return 0;
	/* what a crash leaves of it goes as any cache that nobody uses */
	AUTO_FREE char *fresh = gt_xasprintf("%s.%s-%d", path, run->build->options->holder, atomic_fetch_add(&run->build->serial, 1));
	if (mkdir(fresh, 0700) < 0)
		return gt_fail_errno(err, errno, "make a cache of the build");
	int rc = make_fresh(run, mount, fresh, path, err);
	if (rc < 0)
		gt_remove_tree(AT_FDCWD, fresh, NULL);
	return rc;
}

int mount_cache(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	AUTO_FREE char *id = cache_id(run, mount);
	const struct cache_lock *lock = find_lock(mounts, id);
	AUTO_FREE char *path = gt_xasprintf("%s/%s", run->build->options->cache_dir, lock->name);
	if (make_cache(run, mount, path, err) < 0)
		return -1;
	utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW); /* last used */
	mounts_bind(mounts, path, mount->target, mount->read_only);
	return 0;
}
