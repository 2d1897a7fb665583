/*
 * added.c - ADD of a local archive: its entries become entries of the layer, below the target directory. Owners are the archive's unless --chown
 * says otherwise; names are cleaned and stay below the target.
 */
#include "copy.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_ENTRIES 8000000
#define ROOM (256u * 1024)

struct added {
	struct copier *copier;
	struct archive *archive;
	struct archive_entry *from;
	char bytes[ROOM];
};

static int unreadable(struct archive *archive, struct gt_error *err)
{
	const char *reason = archive_error_string(archive);
	return gt_fail(err, GT_INVALID, "the archive cannot be read: %s", reason ? reason : "it is damaged");
}

static char *below(struct copier *copier, const char *name, struct gt_error *err)
{
	AUTO_FREE char *clean = fs_clean_path(name, false, err);
	if (!clean)
		return NULL;
	AUTO_FREE char *path = gt_xasprintf("%s%s%s", copier->dest, copier->dest[0] && clean[0] ? "/" : "", clean);
	return strlen(path) < FS_PATH_MAX ? take(path) : gt_fail_null(err, GT_INVALID, "path \"%.60s...\" is too long", path);
}

/* The entry of the layer: the archive's with its new name. */
static int fill(struct added *added, const char *path, struct gt_error *err)
{
	struct copier *copier = added->copier;
	struct archive_entry *from = added->from, *to = copier->out.entry;
	struct statx sx = { .stx_mode = archive_entry_mode(from), .stx_uid = (uint32_t)archive_entry_uid(from),
			    .stx_gid = (uint32_t)archive_entry_gid(from), .stx_size = (uint64_t)archive_entry_size(from),
			    .stx_rdev_major = major(archive_entry_rdev(from)), .stx_rdev_minor = minor(archive_entry_rdev(from)) };
	sx.stx_mtime.tv_sec = archive_entry_mtime(from);
	const char *hard = archive_entry_hardlink(from), *link = archive_entry_symlink(from), *name;
	const void *value;
	size_t size;
	if (hard)
		sx.stx_mode = S_IFREG | (sx.stx_mode & 07777);
	fs_tar_fill(&copier->out, &sx, path);
	if (copier->owner_given) {
		archive_entry_set_uid(to, copier->uid);
		archive_entry_set_gid(to, copier->gid);
	}
	if (link && !hard)
		archive_entry_set_symlink(to, link);
	if (hard) {
		AUTO_FREE char *target = below(copier, hard, err);
		if (!target)
			return -1;
		archive_entry_set_hardlink(to, target);
		archive_entry_set_size(to, 0);
	}
	archive_entry_xattr_reset(from);
	while (archive_entry_xattr_next(from, &name, &value, &size) == ARCHIVE_OK) {
		if (name && fs_carried(name) && size <= FS_XATTR_MAX)
			archive_entry_xattr_add_entry(to, name, value, size);
	}
	mode_t mode = sx.stx_mode & 07777;
	if (copier->chmod[0] && !S_ISLNK(sx.stx_mode)) {
		if (fs_mode_apply(copier->chmod, &mode, S_ISDIR(sx.stx_mode), err) < 0)
			return -1;
		archive_entry_set_mode(to, (sx.stx_mode & S_IFMT) | mode);
	}
	return 0;
}

static int content(struct added *added, const char *path, struct gt_error *err)
{
	int64_t left = archive_entry_size(added->copier->out.entry);
	while (left > 0) {
		ssize_t n = archive_read_data(added->archive, added->bytes, left < (int64_t)ROOM ? (size_t)left : ROOM);
		if (n < 0)
			return unreadable(added->archive, err);
		if (n == 0)
			return gt_fail(err, GT_INVALID, "%.200s is cut short in the archive", path);
		if (added->copier->hash)
			copy_hash(added->copier, added->bytes, (size_t)n);
		else if (archive_write_data(added->copier->out.archive, added->bytes, (size_t)n) < 0)
			return fs_tar_error(&added->copier->out, path, err);
		left -= n;
	}
	return 0;
}

static int add_entry(struct added *added, struct gt_error *err)
{
	const char *name = archive_entry_pathname(added->from);
	if (!name)
		return gt_fail(err, GT_INVALID, "an entry of the archive has no usable name");
	AUTO_FREE char *path = below(added->copier, name, err);
	if (!path)
		return -1;
	bool directory = archive_entry_filetype(added->from) == AE_IFDIR && !archive_entry_hardlink(added->from);
	if (!path[0] || copy_make_parents(added->copier, path, err) < 0)
		return path[0] ? -1 : 0;
	if (fill(added, path, err) < 0)
		return -1;
	if (directory)
		gt_map_set(&added->copier->made, path, added->copier);
	return copy_header(added->copier, path, err) < 0 ? -1 : content(added, path, err);
}

static int add_all(struct added *added, struct gt_error *err)
{
	for (int entries = 0;; entries++) {
		if (entries > MAX_ENTRIES)
			return gt_fail(err, GT_TOO_LARGE, "the archive has more than %d entries", MAX_ENTRIES);
		if (add_entry(added, err) < 0)
			return -1;
		int rc = archive_read_next_header(added->archive, &added->from);
		if (rc == ARCHIVE_EOF)
			return 1;
		if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
			return unreadable(added->archive, err);
	}
}

int copy_archive(struct copier *copier, int fd, struct gt_error *err)
{
	AUTO_FREE struct added *added = gt_xcalloc(1, sizeof *added);
	struct archive *archive = archive_read_new();
	archive_read_support_format_tar(archive);
	archive_read_support_filter_gzip(archive);
	archive_read_support_filter_bzip2(archive);
	archive_read_support_filter_xz(archive);
	archive_read_support_filter_zstd(archive);
	added->copier = copier;
	added->archive = archive;
	int rc = 0;
	if (archive_read_open_fd(archive, fd, 1 << 20) == ARCHIVE_OK) {
		int first = archive_read_next_header(archive, &added->from);
		if (first == ARCHIVE_OK || first == ARCHIVE_WARN)
			rc = add_all(added, err);
	}
	archive_read_free(archive);
	if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
		return gt_fail_errno(err, errno, "read the file again");
	return rc;
}
