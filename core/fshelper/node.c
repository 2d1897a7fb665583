/*
 * node.c - one tar entry's inode: made, filled, and given owner, mode, extended attributes and time, with as few system calls as its entry
 * needs. A name that is taken is cleared only after the first attempt has failed.
 */
#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs.h"
#include "gantry/plugin.h"

#define MAX_XATTRS 256

bool fs_is_whiteout(int dirfd, const char *name)
{
	struct stat st;
	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

int fs_set_opaque(int fd, const char *path, struct gt_error *err)
{
	if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return gt_fail_errno(err, errno, "make directory %.200s opaque", path);
	return 0;
}

/* ---- attributes ---- */

static uid_t owner(const struct fs_sink *sink, const struct fs_entry *item)
{
	return sink->uid >= 0 ? (uid_t)sink->uid : (uid_t)archive_entry_uid(item->entry);
}

static gid_t group(const struct fs_sink *sink, const struct fs_entry *item)
{
	return sink->gid >= 0 ? (gid_t)sink->gid : (gid_t)archive_entry_gid(item->entry);
}

/* What overlay keeps in attributes steers the mount itself: it never comes from an archive. */
static bool forbidden(const char *name)
{
	return strncmp(name, "trusted.overlay.", 16) == 0 || strncmp(name, "user.overlay.", 13) == 0;
}

static int set_xattr(const char *path, int fd, const char *name, const void *value, size_t size)
{
	return fd >= 0 ? fsetxattr(fd, name, value, size, 0) : lsetxattr(path, name, value, size, 0);
}

/* fd, or -1 and a path of ours (/proc/self/fd/N/name) that is not followed. */
static int set_xattrs(struct fs_sink *sink, struct fs_entry *item, int fd, const char *path, struct gt_error *err)
{
	const char *name;
	const void *value;
	size_t size;
	int count = archive_entry_xattr_reset(item->entry);
	if (count > MAX_XATTRS)
		return gt_fail(err, GT_INVALID, "%.200s: %d extended attributes are more than %d", item->path, count, MAX_XATTRS);
	while (archive_entry_xattr_next(item->entry, &name, &value, &size) == ARCHIVE_OK) {
		if (!name || forbidden(name))
			continue;
		if (size > FS_XATTR_MAX)
			return gt_fail(err, GT_INVALID, "%.200s: extended attribute %.100s is larger than %u bytes", item->path, name,
				       FS_XATTR_MAX);
		if (strcmp(name, "system.posix_acl_default") == 0)
			sink->default_acl = true;
		/* a file system, kernel or user namespace without that kind of attribute */
		if (set_xattr(path, fd, name, value, size) < 0 && errno != ENOTSUP && errno != EPERM && errno != EINVAL)
			return gt_fail_errno(err, errno, "%.200s: set extended attribute %.100s", item->path, name);
	}
	return 0;
}

/* On an open file or directory; mode and owner first, as changing the owner takes capabilities and special bits away. */
static int set_attributes(struct fs_sink *sink, struct fs_entry *item, int fd, struct gt_error *err)
{
	uid_t uid = owner(sink, item);
	gid_t gid = group(sink, item);
	mode_t mode = archive_entry_perm(item->entry) & 07777;
	bool exact = !sink->layer || sink->default_acl;
	if (archive_entry_filetype(item->entry) == AE_IFDIR)
		mode &= ~(mode_t)S_ISGID; /* what is made inside would take its group; it comes at the end, with the time */
	if ((uid || gid || exact) && fchown(fd, uid, gid) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the owner to %u:%u", item->path, uid, gid);
	if ((mode & 07000 || exact) && fchmod(fd, mode) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the mode", item->path);
	if (archive_entry_xattr_count(item->entry) > 0)
		return set_xattrs(sink, item, fd, NULL, err);
	return 0;
}

int fs_node_attributes(struct fs_sink *sink, struct fs_entry *item, int dirfd, const char *name, struct gt_error *err)
{
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open directory %.200s", item->path);
	return set_attributes(sink, item, fd, err);
}

/* For what cannot be opened: links, devices, fifos. */
static int set_attributes_at(struct fs_sink *sink, struct fs_entry *item, int dirfd, const char *name, struct gt_error *err)
{
	struct timespec mtime = { archive_entry_mtime(item->entry), archive_entry_mtime_nsec(item->entry) };
	struct timespec times[2] = { mtime, mtime };
	uid_t uid = owner(sink, item);
	gid_t gid = group(sink, item);
	bool link = archive_entry_filetype(item->entry) == AE_IFLNK;
	if ((uid || gid || !sink->layer) && fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the owner to %u:%u", item->path, uid, gid);
	mode_t mode = archive_entry_perm(item->entry) & 07777;
	if (!link && (mode & 07000 || !sink->layer || sink->default_acl) && fchmodat(dirfd, name, mode, 0) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the mode", item->path);
	if (archive_entry_xattr_count(item->entry) > 0) {
		char path[64 + 256];
		snprintf(path, sizeof path, "/proc/self/fd/%d/%.255s", dirfd, name);
		if (set_xattrs(sink, item, -1, path, err) < 0)
			return -1;
	}
	if (utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the time", item->path);
	return 0;
}

/* ---- regular files ---- */

static int read_error(struct archive *archive, const char *path, struct gt_error *err)
{
	const char *reason = archive_error_string(archive);
	return gt_fail(err, GT_INVALID, "read %.200s from the archive: %s", path, reason ? reason : "the archive is damaged");
}

static int write_at(int fd, const char *bytes, size_t len, int64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, bytes, len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		bytes += n;
		offset += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Holes count as well: whoever reads the file later reads them. */
static int count_bytes(struct fs_sink *sink, int64_t len, struct gt_error *err)
{
	if (len > sink->max_bytes - sink->bytes)
		return gt_fail(err, GT_TOO_LARGE, "the archive unpacks to more than %lld bytes", (long long)sink->max_bytes);
	sink->bytes += len;
	return 0;
}

static void keep_digest(struct fs_sink *sink, struct sha256_ctx *state, int64_t size, int fd)
{
	struct fs_digest digest = { .size = (uint64_t)size };
	struct stat st;
	if (fstat(fd, &st) < 0)
		return;
	digest.ino = st.st_ino;
	sha256_digest(state, sizeof digest.sha256, digest.sha256);
	gt_buf_add(sink->digests, &digest, sizeof digest);
}

static int fill_file(struct fs_sink *sink, struct archive *archive, struct fs_entry *item, int fd, struct gt_error *err)
{
	const void *block;
	size_t len;
	int64_t offset, end = 0;
	int rc;
	bool whole = sink->digests != NULL;
	struct sha256_ctx state;
	sha256_init(&state);
	while ((rc = archive_read_data_block(archive, &block, &len, &offset)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
		if (offset < end || count_bytes(sink, offset - end + (int64_t)len, err) < 0)
			return offset < end ? read_error(archive, item->path, err) : -1;
		if (write_at(fd, block, len, offset) < 0)
			return gt_fail_errno(err, errno, "write %.200s", item->path);
		whole &= offset == end;
		if (whole)
			sha256_update(&state, len, block);
		end = offset + (int64_t)len;
	}
	if (rc != ARCHIVE_EOF)
		return read_error(archive, item->path, err);
	int64_t size = archive_entry_size(item->entry);
	if (size > end && count_bytes(sink, size - end, err) < 0)
		return -1;
	if (size > end && ftruncate(fd, size) < 0)
		return gt_fail_errno(err, errno, "write %.200s: a sparse file of %lld bytes", item->path, (long long)size);
	if (whole && size <= end)
		keep_digest(sink, &state, end, fd);
	return 0;
}

static int make_file(struct fs_sink *sink, struct archive *archive, struct fs_entry *item, int dirfd, const char *name,
		     struct gt_error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	mode_t mode = archive_entry_perm(item->entry) & 0777;
	AUTO_CLOSE int fd = openat(dirfd, name, flags, mode);
	if (fd < 0 && errno == EEXIST) {
		if (fs_sink_clear(sink, dirfd, name, item->path, err) < 0)
			return -1;
		/* clearing may have closed the directories */
		if ((dirfd = fs_sink_parent(sink, item->path, &name, err)) < 0)
			return -1;
		fd = openat(dirfd, name, flags, mode);
	}
	if (fd < 0)
		return gt_fail_errno(err, errno, "make file %.200s", item->path);
	if (archive_entry_size(item->entry) > 0 && fill_file(sink, archive, item, fd, err) < 0)
		return -1;
	if (set_attributes(sink, item, fd, err) < 0)
		return -1;
	struct timespec mtime = { archive_entry_mtime(item->entry), archive_entry_mtime_nsec(item->entry) };
	struct timespec times[2] = { mtime, mtime };
	if (futimens(fd, times) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the time", item->path);
	return 0;
}

/* ---- directories ---- */

static int forget_owed(struct fs_sink *sink, int fd, const char *path, struct gt_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return gt_fail_errno(err, errno, "look at %.200s", path);
	fs_owed_forget(sink, &st);
	return 0;
}

static int make_dir(struct fs_sink *sink, struct fs_entry *item, int dirfd, const char *name, struct gt_error *err)
{
	mode_t mode = archive_entry_perm(item->entry) & 0777;
	bool was_whiteout = false, fresh = true;
	if (mkdirat(dirfd, name, mode) < 0) {
		struct stat st;
		if (errno != EEXIST)
			return gt_fail_errno(err, errno, "make directory %.200s", item->path);
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return gt_fail_errno(err, errno, "look at %.200s", item->path);
		fresh = !S_ISDIR(st.st_mode);
		if (fresh) {
			was_whiteout = sink->whiteouts == GANTRY_WHITEOUT_OVERLAY && S_ISCHR(st.st_mode) && st.st_rdev == 0;
			if (fs_sink_clear(sink, dirfd, name, item->path, err) < 0)
				return -1;
			if ((dirfd = fs_sink_parent(sink, item->path, &name, err)) < 0)
				return -1;
			if (mkdirat(dirfd, name, mode) < 0)
				return gt_fail_errno(err, errno, "make directory %.200s", item->path);
		}
	}
	bool plain = fresh && sink->layer && !sink->default_acl && owner(sink, item) == 0 && group(sink, item) == 0 &&
		     archive_entry_xattr_count(item->entry) == 0;
	if (plain && !was_whiteout)
		return 0; /* special modes come with the time, at the end */
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open directory %.200s", item->path);
	if (!fresh && forget_owed(sink, fd, item->path, err) < 0)
		return -1;
	if (!fresh && fchmod(fd, mode) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the mode", item->path);
	if (!fresh && fchown(fd, owner(sink, item), group(sink, item)) < 0)
		return gt_fail_errno(err, errno, "%.200s: set the owner", item->path);
	if (was_whiteout && fs_set_opaque(fd, item->path, err) < 0)
		return -1;
	return set_attributes(sink, item, fd, err);
}

/* ---- links and specials ---- */

/* A hard link to a file of a lower layer becomes a copy. */
static int copy_lower(struct fs_sink *sink, const char *target, int dirfd, const char *name, const char *path, struct gt_error *err)
{
	if (sink->early)
		return fs_owed_link(sink, dirfd, name, path, target, err);
	if (fs_sink_lower(sink, err) < 0)
		return -1;
	AUTO_CLOSE int to = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return gt_fail_errno(err, errno, "make file %.200s", path);
	return fs_copy_lower_file(sink->lower_root, target, to, path, &sink->bytes, err);
}

static int try_link(struct fs_sink *sink, const char *target, int dirfd, const char *name)
{
	char parent[FS_PATH_MAX];
	const char *base = fs_split(target, parent);
	AUTO_CLOSE int from = fs_open(sink->root, parent, O_PATH | O_DIRECTORY);
	if (from >= 0 && sink->layer && sink->whiteouts == GANTRY_WHITEOUT_OVERLAY && fs_is_whiteout(from, base)) {
		errno = ENOENT; /* it stands for something below, and is not to be hidden twice */
		return -1;
	}
	return from < 0 ? -1 : linkat(from, base, dirfd, name, 0);
}

static int make_link(struct fs_sink *sink, struct fs_entry *item, int dirfd, const char *name, struct gt_error *err)
{
	AUTO_FREE char *target = fs_sink_path(sink, item->link, err);
	if (!target)
		return gt_context(err, "hard link %.200s", item->path);
	if (strcmp(target, item->path) == 0)
		return 0;
	if (try_link(sink, target, dirfd, name) == 0)
		return 0;
	if (errno == EEXIST) {
		if (fs_sink_clear(sink, dirfd, name, item->path, err) < 0)
			return -1;
		if ((dirfd = fs_sink_parent(sink, item->path, &name, err)) < 0)
			return -1;
		if (try_link(sink, target, dirfd, name) == 0)
			return 0;
	}
	if (errno == ENOENT && sink->layer && sink->whiteouts == GANTRY_WHITEOUT_OVERLAY)
		return copy_lower(sink, target, dirfd, name, item->path, err);
	if (errno == ENOENT)
		return gt_fail(err, GT_INVALID, "%.200s is a hard link to %.200s, which is not there", item->path, target);
	return gt_fail_errno(err, errno, "link %.200s to %.200s", item->path, target);
}

static int try_special(struct fs_entry *item, unsigned type, int dirfd, const char *name)
{
	mode_t mode = archive_entry_perm(item->entry) & 0777;
	switch (type) {
	case AE_IFLNK:
		return symlinkat(item->link, dirfd, name);
	case AE_IFCHR:
		return mknodat(dirfd, name, S_IFCHR | mode, archive_entry_rdev(item->entry));
	case AE_IFBLK:
		return mknodat(dirfd, name, S_IFBLK | mode, archive_entry_rdev(item->entry));
	case AE_IFIFO:
		return mknodat(dirfd, name, S_IFIFO | mode, 0);
	default:
		errno = EINVAL;
		return -1;
	}
}

static int make_special(struct fs_sink *sink, struct fs_entry *item, int dirfd, const char *name, struct gt_error *err)
{
	unsigned type = archive_entry_filetype(item->entry);
	if (type == AE_IFLNK && (!item->link || !item->link[0] || strlen(item->link) >= FS_PATH_MAX))
		return gt_fail(err, GT_INVALID, "%.200s: a link without target, or with one longer than %d bytes", item->path,
			       FS_PATH_MAX - 1);
	int rc = try_special(item, type, dirfd, name);
	if (rc < 0 && errno == EEXIST) {
		if (fs_sink_clear(sink, dirfd, name, item->path, err) < 0)
			return -1;
		if ((dirfd = fs_sink_parent(sink, item->path, &name, err)) < 0)
			return -1;
		rc = try_special(item, type, dirfd, name);
	}
	if (rc < 0)
		return gt_fail_errno(err, errno, "make %.200s", item->path);
	return set_attributes_at(sink, item, dirfd, name, err);
}

int fs_node_create(struct fs_sink *sink, struct archive *archive, struct fs_entry *item, int dirfd, const char *name,
		   struct gt_error *err)
{
	unsigned type = archive_entry_filetype(item->entry);
	if (type != AE_IFLNK && item->link)
		return make_link(sink, item, dirfd, name, err);
	switch (type) {
	case AE_IFREG:
		return make_file(sink, archive, item, dirfd, name, err);
	case AE_IFDIR:
		return make_dir(sink, item, dirfd, name, err);
	case AE_IFLNK:
	case AE_IFCHR:
	case AE_IFBLK:
	case AE_IFIFO:
		return make_special(sink, item, dirfd, name, err);
	default:
		return gt_fail(err, GT_INVALID, "%.200s: an entry of a type that a file system does not have", item->path);
	}
}
