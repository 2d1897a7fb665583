/*
 * sink.c - where the entries of a tar become files: directories are opened once and kept, missing ones are made, times of directories
 * wait for the end.
 *
 * Names are resolved by the kernel below sink->root, links included, so an entry below a link stays inside. A later entry of the same name
 * replaces an earlier one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs.h"
#include "gantry/plugin.h"

void fs_sink_init(struct fs_sink *sink)
{
	*sink = (struct fs_sink){ .root = -1, .base = "", .uid = -1, .gid = -1, .lower_root = -1, .max_bytes = INT64_MAX,
				  .max_entries = INT64_MAX };
	for (size_t i = 0; i < FS_DIR_SLOTS; i++)
		sink->dirs[i].fd = -1;
}

void fs_sink_forget_dirs(struct fs_sink *sink)
{
	for (size_t i = 0; i < FS_DIR_SLOTS; i++) {
		struct fs_dir_slot *slot = &sink->dirs[i];
		if (slot->fd >= 0)
			close(slot->fd);
		free(slot->path);
		*slot = (struct fs_dir_slot){ .fd = -1 };
	}
}

void fs_sink_free(struct fs_sink *sink)
{
	fs_sink_forget_dirs(sink);
	for (size_t i = 0; i < sink->late_count; i++)
		free(sink->late[i].path);
	free(sink->late);
	gt_map_free(&sink->unpacked);
	fs_owed_free(sink);
	if (sink->lower_root >= 0)
		close(sink->lower_root);
	if (sink->root >= 0)
		close(sink->root);
}

char *fs_sink_path(const struct fs_sink *sink, const char *name, struct gt_error *err)
{
	AUTO_FREE char *clean = fs_clean_path(name, false, err);
	if (!clean || !sink->base[0])
		return take(clean);
	AUTO_FREE char *path = gt_xasprintf("%s%s%s", sink->base, clean[0] ? "/" : "", clean);
	if (strlen(path) >= FS_PATH_MAX)
		return gt_fail_null(err, GT_INVALID, "path \"%.60s...\" is longer than %d bytes", path, FS_PATH_MAX - 1);
	return take(path);
}

/* Times of directories wait until nothing is made in them any more. */
static struct fs_late_dir *add_late(struct fs_sink *sink, const char *path, struct timespec mtime)
{
	if (sink->late_count == sink->late_cap) {
		sink->late_cap = sink->late_cap ? sink->late_cap * 2 : 256;
		sink->late = gt_xrealloc(sink->late, sink->late_cap * sizeof *sink->late);
	}
	struct fs_late_dir *late = &sink->late[sink->late_count++];
	*late = (struct fs_late_dir){ .path = gt_xstrdup(path), .mtime = mtime };
	return late;
}

/* A directory that the archive takes for granted: as the lower layer has it, or plain. */
int fs_sink_make_dir(struct fs_sink *sink, int dirfd, const char *name, const char *path, struct gt_error *err)
{
	if (mkdirat(dirfd, name, 0755) < 0)
		return errno == EEXIST ? gt_fail(err, GT_INVALID, "%.200s: a link that leads nowhere stands where a directory is needed",
						 path) :
					 gt_fail_errno(err, errno, "make directory %.200s", path);
	if (sink->early)
		return fs_owed_dir(sink, dirfd, name, path, err);
	uid_t uid = sink->uid >= 0 ? (uid_t)sink->uid : 0;
	gid_t gid = sink->gid >= 0 ? (gid_t)sink->gid : 0;
	if (fs_sink_lower(sink, err) < 0)
		return -1;
	if (sink->lower_root < 0 && uid == 0 && gid == 0 && sink->layer)
		return 0;
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, uid, gid) < 0 || fchmod(fd, 0755) < 0)
		return gt_fail_errno(err, errno, "make directory %.200s", path);
	struct timespec mtime;
	int found = sink->lower_root >= 0 ? fs_copy_lower_dir(sink->lower_root, path, fd, &mtime, err) : 0;
	if (found > 0)
		add_late(sink, path, mtime);
	return found < 0 ? -1 : 0;
}

/* Mounts the parent layer's view once, where there is one. */
int fs_sink_lower(struct fs_sink *sink, struct gt_error *err)
{
	if (!sink->lower || sink->lower_root >= 0)
		return 0;
	if (fs_private_namespace(err) < 0)
		return -1;
	sink->lower_root = fs_mount(sink->lower, err);
	return sink->lower_root >= 0 ? 0 : gt_context(err, "look at the layers below");
}

/* A whiteout in the way becomes a directory that hides what is below, and has nothing of it. */
static int replace_whiteout(int dirfd, const char *name, const char *path, struct gt_error *err)
{
	if (unlinkat(dirfd, name, 0) < 0)
		return gt_fail_errno(err, errno, "replace the whiteout of %.200s", path);
	if (mkdirat(dirfd, name, 0755) < 0)
		return gt_fail_errno(err, errno, "make directory %.200s", path);
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open directory %.200s", path);
	return fs_set_opaque(fd, path, err);
}

static int open_error(int errnum, const char *path, struct gt_error *err)
{
	if (errnum == ENOTDIR)
		return gt_fail(err, GT_INVALID, "%.200s: not a directory, yet the archive has entries below it", path);
	if (errnum == ELOOP)
		return gt_fail(err, GT_INVALID, "%.200s: too many links, or a link of the kernel's", path);
	return gt_fail_errno(err, errnum, "open directory %.200s", path);
}

/* Opens directory `path`, making what is missing on the way. */
static int open_or_make(struct fs_sink *sink, const char *path, struct gt_error *err)
{
	int found = fs_open(sink->root, path, O_PATH | O_DIRECTORY);
	if (found >= 0)
		return found;
	if (errno != ENOENT && errno != ENOTDIR)
		return open_error(errno, path, err);
	AUTO_FREE char *copy = gt_xstrdup(path);
	AUTO_CLOSE int at = fs_open(sink->root, "", O_PATH | O_DIRECTORY);
	for (char *from = copy, *end = copy; at >= 0 && end; from = end ? end + 1 : NULL) {
		end = strchr(from, '/');
		if (end)
			*end = '\0';
		int next = fs_open(sink->root, copy, O_PATH | O_DIRECTORY);
		if (next < 0) {
			int rc;
			bool hidden = errno == ENOTDIR && sink->whiteouts == GANTRY_WHITEOUT_OVERLAY && fs_is_whiteout(at, from);
			if (hidden)
				rc = replace_whiteout(at, from, copy, err);
			else if (errno == ENOENT)
				rc = fs_sink_make_dir(sink, at, from, copy, err);
			else
				rc = open_error(errno, copy, err);
			if (rc < 0)
				return -1;
			next = fs_open(sink->root, copy, O_PATH | O_DIRECTORY);
			if (next < 0)
				return open_error(errno, copy, err);
			if (sink->whiteouts == GANTRY_WHITEOUT_DELETE)
				gt_map_set(&sink->unpacked, copy, sink);
		}
		close(at);
		at = next;
		if (end)
			*end = '/';
	}
	return take_fd(at);
}

int fs_sink_parent(struct fs_sink *sink, const char *path, const char **base, struct gt_error *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	*base = slash ? slash + 1 : path;
	uint32_t hash = 2166136261u;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)path[i]) * 16777619u;
	struct fs_dir_slot *slot = &sink->dirs[(hash ^ hash >> 16) % FS_DIR_SLOTS];
	if (slot->path && strncmp(slot->path, path, len) == 0 && slot->path[len] == '\0')
		return slot->fd;
	AUTO_FREE char *parent = gt_xstrndup(path, len);
	int fd = open_or_make(sink, parent, err);
	if (fd < 0)
		return -1;
	if (slot->fd >= 0)
		close(slot->fd);
	free(slot->path);
	slot->path = take(parent);
	return slot->fd = fd;
}

/* Bytes of the files that removing dirfd/name gives back. */
static int64_t bytes_below(int dirfd, const char *name, const struct stat *st)
{
	int64_t sum = S_ISREG(st->st_mode) && st->st_nlink == 1 ? st->st_size : 0;
	AUTO_CLOSE int fd = S_ISDIR(st->st_mode) ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	struct gt_strings names = { 0 };
	struct stat below;
	if (fd >= 0 && fs_list_names(fd, &names, NULL) == 0) {
		for (size_t i = 0; i < names.count; i++) {
			if (fstatat(fd, names.items[i], &below, AT_SYMLINK_NOFOLLOW) == 0)
				sum += bytes_below(fd, names.items[i], &below);
		}
	}
	gt_strings_free(&names);
	return sum;
}

int fs_sink_clear(struct fs_sink *sink, int dirfd, const char *name, const char *path, struct gt_error *err)
{
	struct stat st;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : gt_fail_errno(err, errno, "look at %.200s", path);
	if (fs_owed_replaced(sink, &st, err) < 0)
		return -1;
	if (sink->layer)
		sink->replaced += bytes_below(dirfd, name, &st);
	if (S_ISREG(st.st_mode) && sink->recipe) {
		AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		fs_recipe_keep(sink->recipe, path, fd);
	}
	if (S_ISDIR(st.st_mode)) {
		fs_recipe_drop(sink->recipe); /* what was unpacked into it goes, and may be needed */
		sink->dir_replaced = true;
	}
	int rc = gt_remove_tree(dirfd, name, err);
	if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode))
		fs_sink_forget_dirs(sink); /* dirfd itself may be one of them: last */
	return rc < 0 ? gt_context(err, "replace %.200s", path) : 0;
}

/* ---- one entry ---- */

static void add_late_entry(struct fs_sink *sink, const struct fs_entry *item, bool chmod)
{
	struct timespec mtime = { archive_entry_mtime(item->entry), archive_entry_mtime_nsec(item->entry) };
	struct fs_late_dir *late = add_late(sink, item->path, mtime);
	late->mode = archive_entry_perm(item->entry) & 07777;
	late->chmod = chmod;
}

/* The root itself ("./"): it is there already, and takes the entry's attributes where the tree is ours. */
static int add_root(struct fs_sink *sink, struct fs_entry *item, struct gt_error *err)
{
	if (archive_entry_filetype(item->entry) != AE_IFDIR)
		return gt_fail(err, GT_INVALID, "the archive's entry for its root is not a directory");
	if (!sink->layer)
		return 0;
	if (fs_node_attributes(sink, item, sink->root, ".", err) < 0)
		return -1;
	add_late_entry(sink, item, true);
	return 0;
}

static int check_overwrite(struct fs_sink *sink, struct fs_entry *item, int dirfd, const char *name, struct gt_error *err)
{
	struct stat st;
	if (!sink->no_overwrite || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	bool dir = archive_entry_filetype(item->entry) == AE_IFDIR && !item->link;
	if (S_ISDIR(st.st_mode) && !dir)
		return gt_fail(err, GT_INVALID, "cannot overwrite directory \"/%.200s\" with non-directory \"%.200s\"", item->path,
			       item->name);
	if (!S_ISDIR(st.st_mode) && dir)
		return gt_fail(err, GT_INVALID, "cannot overwrite non-directory \"/%.200s\" with directory \"%.200s\"", item->path,
			       item->name);
	return 0;
}

int fs_sink_add(struct fs_sink *sink, struct archive *archive, struct fs_entry *item, struct gt_error *err)
{
	if (strcmp(item->path, sink->base) == 0)
		return add_root(sink, item, err);
	const char *name;
	int dirfd = fs_sink_parent(sink, item->path, &name, err);
	if (dirfd < 0 || check_overwrite(sink, item, dirfd, name, err) < 0)
		return -1;
	if (fs_node_create(sink, archive, item, dirfd, name, err) < 0)
		return -1;
	if (archive_entry_filetype(item->entry) == AE_IFDIR && !item->link)
		add_late_entry(sink, item, archive_entry_perm(item->entry) & 07000 || !sink->layer || sink->default_acl);
	if (sink->layer && sink->whiteouts == GANTRY_WHITEOUT_DELETE)
		gt_map_set(&sink->unpacked, item->path, sink);
	return 0;
}

/* Where the directory is surely the one that was made: by name, without opening it. */
static int set_time_by_name(struct fs_sink *sink, const struct fs_late_dir *late, struct gt_error *err)
{
	const char *name;
	int dirfd = fs_sink_parent(sink, late->path, &name, err);
	struct timespec times[2] = { late->mtime, late->mtime };
	if (dirfd < 0)
		return -1;
	return utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 :
									 gt_fail_errno(err, errno, "set the time of directory %.200s", late->path);
}

int fs_sink_finish(struct fs_sink *sink, struct gt_error *err)
{
	for (size_t i = 0; i < sink->late_count; i++) { /* of two for one directory the later is in force */
		struct fs_late_dir *late = &sink->late[i];
		if (sink->layer && !sink->dir_replaced && !late->chmod && late->path[0]) {
			if (set_time_by_name(sink, late, err) < 0)
				return -1;
			continue;
		}
		AUTO_CLOSE int fd = fs_open(sink->root, late->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
			continue; /* a later entry took its place */
		struct timespec times[2] = { late->mtime, late->mtime };
		if (fd < 0 || (late->chmod && fchmod(fd, late->mode) < 0) || futimens(fd, times) < 0)
			return gt_fail_errno(err, errno, "set the time of directory %.200s", late->path);
	}
	return 0;
}
