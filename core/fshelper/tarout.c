/*
 * tarout.c - files to tar (pax, as Docker's cp and commit write it): a path (archive), a whole root (export), a list of changes as an OCI layer
 * (diff_tar).
 *
 * Names are sorted, times are whole seconds, so equal trees give equal archives. What vanishes while it is read is left out; a
 * file that shrinks meanwhile is filled up with zeros, as its header is out already. Sockets have no form in tar and are left out.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/json.h"
#include "fs.h"
#include "gantry/plugin.h"

#define COPY_ROOM (256u * 1024)

int fs_tar_error(struct fs_tar *out, const char *name, struct gt_error *err)
{
	int errnum = archive_errno(out->archive);
	if (errnum == EPIPE)
		return gt_fail(err, GT_CANCELLED, "the reader of the archive went away");
	const char *reason = archive_error_string(out->archive);
	return gt_fail(err, GT_INTERNAL, "write %.200s to the archive: %s", name, reason ? reason : "unknown error");
}

void fs_tar_free(struct fs_tar *out)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&out->links, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&out->links);
	archive_entry_free(out->entry);
	archive_write_free(out->archive);
	free(out->buffer);
}

int fs_tar_open(struct fs_tar *out, struct gt_error *err)
{
	*out = (struct fs_tar){ .archive = archive_write_new(), .entry = archive_entry_new(), .clamp = INT64_MAX };
	out->buffer = gt_xmalloc(COPY_ROOM);
	if (archive_write_set_format_pax_restricted(out->archive) != ARCHIVE_OK ||
	    archive_write_set_format_option(out->archive, "pax", "xattrheader", "SCHILY") != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(out->archive, COPY_ROOM) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(out->archive, 512) != ARCHIVE_OK ||
	    archive_write_open_fd(out->archive, FS_OUT) != ARCHIVE_OK)
		return fs_tar_error(out, "the header", err);
	return 0;
}

int fs_tar_close(struct fs_tar *out, struct gt_error *err)
{
	return archive_write_close(out->archive) == ARCHIVE_OK ? 0 : fs_tar_error(out, "the end", err);
}

/* Overlay's own attributes are the storage driver's business, and a label belongs to this host. */
bool fs_carried(const char *name)
{
	return strncmp(name, "trusted.", 8) != 0 && strcmp(name, "security.selinux") != 0 &&
	       strncmp(name, "user.overlay.", 13) != 0 && strcmp(name, "security.ima") != 0 &&
	       strcmp(name, "security.evm") != 0;
}

void fs_tar_xattrs(struct fs_tar *out, int fd)
{
	char names[FS_XATTR_MAX], value[FS_XATTR_MAX];
	ssize_t len = flistxattr(fd, names, sizeof names);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		const char *name = names + at;
		ssize_t size = fs_carried(name) ? fgetxattr(fd, name, value, sizeof value) : -1;
		if (size >= 0)
			archive_entry_xattr_add_entry(out->entry, name, value, (size_t)size);
	}
}

void fs_tar_fill(struct fs_tar *out, const struct statx *sx, const char *name)
{
	struct archive_entry *entry = archive_entry_clear(out->entry);
	archive_entry_set_pathname(entry, name);
	archive_entry_set_mode(entry, sx->stx_mode);
	archive_entry_set_uid(entry, sx->stx_uid);
	archive_entry_set_gid(entry, sx->stx_gid);
	archive_entry_set_mtime(entry, sx->stx_mtime.tv_sec < out->clamp ? sx->stx_mtime.tv_sec : out->clamp, 0);
	archive_entry_set_size(entry, S_ISREG(sx->stx_mode) ? (int64_t)sx->stx_size : 0);
	if (S_ISBLK(sx->stx_mode) || S_ISCHR(sx->stx_mode))
		archive_entry_set_rdev(entry, makedev(sx->stx_rdev_major, sx->stx_rdev_minor));
}

int fs_tar_header(struct fs_tar *out, const char *name, struct gt_error *err)
{
	int rc = archive_write_header(out->archive, out->entry);
	return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 0 : fs_tar_error(out, name, err);
}

/* Where another link to this file is in the archive already, makes the entry a link to it. */
bool fs_tar_as_link(struct fs_tar *out, const struct statx *sx, const char *name)
{
	if (sx->stx_nlink < 2 || S_ISDIR(sx->stx_mode))
		return false;
	char key[64];
	snprintf(key, sizeof key, "%u:%u:%llu", sx->stx_dev_major, sx->stx_dev_minor, (unsigned long long)sx->stx_ino);
	const char *first = gt_map_get(&out->links, key);
	if (!first) {
		gt_map_set(&out->links, key, gt_xstrdup(name));
		return false;
	}
	archive_entry_set_hardlink(out->entry, first);
	archive_entry_set_size(out->entry, 0);
	return true;
}

int fs_tar_content(struct fs_tar *out, int fd, int64_t size, const char *name, struct gt_error *err)
{
	for (int64_t left = size; left > 0;) {
		size_t want = left < (int64_t)COPY_ROOM ? (size_t)left : COPY_ROOM;
		ssize_t got = fd < 0 ? 0 : gt_read_full(fd, out->buffer, want);
		if (got < 0)
			return gt_fail_errno(err, errno, "read %.200s", name);
		memset(out->buffer + got, 0, want - (size_t)got);
		if (archive_write_data(out->archive, out->buffer, want) < 0)
			return fs_tar_error(out, name, err);
		left -= (int64_t)want;
	}
	return 0;
}

static int put_file(struct fs_tar *out, int dirfd, const char *base, const struct statx *sx, const char *name,
		    struct gt_error *err)
{
	AUTO_CLOSE int fd = gt_openat2(dirfd, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0,
				       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	struct stat st;
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return gt_fail_errno(err, errno, "open %.200s", name);
	if (!S_ISREG(st.st_mode) || st.st_ino != sx->stx_ino)
		return 0; /* replaced since we looked */
	if (fs_tar_as_link(out, sx, name))
		return fs_tar_header(out, name, err);
	archive_entry_set_size(out->entry, st.st_size);
	fs_tar_xattrs(out, fd);
	if (fs_tar_header(out, name, err) < 0)
		return -1;
	return fs_tar_content(out, fd, st.st_size, name, err);
}

static int put_other(struct fs_tar *out, int dirfd, const char *base, const struct statx *sx, const char *name,
		     struct gt_error *err)
{
	if (S_ISLNK(sx->stx_mode)) {
		char target[FS_PATH_MAX];
		ssize_t n = readlinkat(dirfd, base, target, sizeof target - 1);
		if (n < 0)
			return errno == ENOENT || errno == EINVAL ? 0 : gt_fail_errno(err, errno, "read link %.200s", name);
		target[n] = '\0';
		archive_entry_set_symlink(out->entry, target);
	}
	fs_tar_as_link(out, sx, name);
	return fs_tar_header(out, name, err);
}

/* File systems of the kernel's that stand in every container: their content is not the container's. */
static bool is_kernel_fs(int fd)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case DEVPTS_SUPER_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case 0x19800202: /* mqueue */
		return true;
	default:
		return false;
	}
}

static int put_node(struct fs_tar *out, int dirfd, const char *base, const char *name, int depth, struct gt_error *err);

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a directory, sorted. Takes no ownership of fd. */
int fs_list_names(int fd, struct gt_strings *names, struct gt_error *err)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		int saved = errno;
		if (copy >= 0)
			close(copy);
		return gt_fail_errno(err, saved, "read a directory");
	}
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			gt_strings_add(names, e->d_name);
	}
	closedir(dir);
	if (names->count)
		qsort(names->items, names->count, sizeof *names->items, by_name);
	return 0;
}

static int put_children(struct fs_tar *out, int fd, const char *name, int depth, struct gt_error *err)
{
	if (depth >= FS_MAX_DEPTH)
		return gt_fail(err, GT_UNSUPPORTED, "%.200s... is deeper than %d directories", name, FS_MAX_DEPTH);
	struct gt_strings names = { 0 };
	int rc = fs_list_names(fd, &names, err);
	size_t len = strlen(name);
	const char *slash = len == 0 || name[len - 1] == '/' ? "" : "/";
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		AUTO_FREE char *child = gt_xasprintf("%s%s%s", name, slash, names.items[i]);
		rc = put_node(out, fd, names.items[i], child, depth + 1, err);
	}
	gt_strings_free(&names);
	return rc;
}

static int put_dir(struct fs_tar *out, int dirfd, const char *base, const char *name, int depth, bool mount_point, bool recurse,
		   struct gt_error *err)
{
	bool hidden = mount_point && out->one_mount && depth > 0;
	AUTO_CLOSE int fd = gt_openat2(dirfd, base[0] ? base : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
				       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return gt_fail_errno(err, errno, "open directory %.200s", name);
	if (mount_point && depth > 0 && is_kernel_fs(fd))
		hidden = true;
	if (!hidden)
		fs_tar_xattrs(out, fd);
	if (name[0] && fs_tar_header(out, name, err) < 0)
		return -1;
	return hidden || !recurse ? 0 : put_children(out, fd, name, depth, err);
}

int fs_tar_one(struct fs_tar *out, int dirfd, const char *base, const char *name, int depth, bool recurse,
		   struct gt_error *err)
{
	struct statx sx;
	if (statx(dirfd, base, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &sx) < 0)
		return errno == ENOENT ? 0 : gt_fail_errno(err, errno, "look at %.200s", name);
	if (S_ISSOCK(sx.stx_mode))
		return 0;
	bool mount_point = sx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	fs_tar_fill(out, &sx, name);
	if (S_ISDIR(sx.stx_mode))
		return put_dir(out, dirfd, base, name, depth, mount_point, recurse, err);
	if (mount_point && out->one_mount) {
		/* what is mounted here is not part of the root: the file below it is an empty one */
		archive_entry_set_filetype(out->entry, AE_IFREG);
		archive_entry_set_size(out->entry, 0);
		return fs_tar_header(out, name, err);
	}
	if (S_ISREG(sx.stx_mode))
		return put_file(out, dirfd, base, &sx, name, err);
	return put_other(out, dirfd, base, &sx, name, err);
}

static int put_node(struct fs_tar *out, int dirfd, const char *base, const char *name, int depth, struct gt_error *err)
{
	return fs_tar_one(out, dirfd, base, name, depth, true, err);
}

int fs_job_archive(const json_t *request, json_t *reply, struct gt_error *err)
{
	(void)reply;
	struct fs_view view;
	const char *path = "";
	if (gt_json_string(request, "path", &path, err) < 0 || fs_view_open(gt_json_get(request, "root"), &view, err) < 0 ||
	    fs_drop_privileges(false, err) < 0)
		return -1;
	AUTO_PLACE struct fs_place place = { .parent = -1 };
	if (fs_locate(&view, path, &place, err) < 0)
		return -1;
	struct fs_tar out;
	int rc = fs_tar_open(&out, err);
	if (rc == 0)
		rc = put_node(&out, place.parent, place.base, place.name, 0, err);
	if (rc == 0)
		rc = fs_tar_close(&out, err);
	fs_tar_free(&out);
	return rc;
}

int fs_job_export(const json_t *request, json_t *reply, struct gt_error *err)
{
	(void)reply;
	struct fs_view view;
	if (fs_view_open(gt_json_get(request, "root"), &view, err) < 0 || fs_drop_privileges(false, err) < 0)
		return -1;
	struct fs_tar out;
	int rc = fs_tar_open(&out, err);
	out.one_mount = true;
	if (rc == 0)
		rc = put_node(&out, view.root, "", "", 0, err);
	if (rc == 0)
		rc = fs_tar_close(&out, err);
	fs_tar_free(&out);
	return rc;
}

/* OCI image-spec layer.md: a deleted name is an empty file ".wh.<name>". */
int fs_tar_whiteout(struct fs_tar *out, const char *path, struct gt_error *err)
{
	char parent[FS_PATH_MAX];
	const char *base = fs_split(path, parent);
	AUTO_FREE char *name = gt_xasprintf("%s%s.wh.%s", parent, parent[0] ? "/" : "", base);
	struct statx empty = { .stx_mode = S_IFREG };
	fs_tar_fill(out, &empty, name);
	return fs_tar_header(out, name, err);
}

/* [kind, path], or [kind, null, hex] where the path is not UTF-8. */
static char *change_path(const json_t *change)
{
	const char *path = json_string_value(json_array_get(change, 1));
	const char *hex = json_string_value(json_array_get(change, 2));
	if (path || !hex)
		return gt_xstrdup(path);
	struct gt_buf out = { 0 };
	unsigned byte;
	for (; sscanf(hex, "%2x", &byte) == 1 && hex[1]; hex += 2)
		gt_buf_char(&out, (char)byte);
	return gt_buf_take(&out);
}

static int put_change(struct fs_tar *out, int root, const json_t *change, struct gt_error *err)
{
	AUTO_FREE char *path = change_path(change);
	if (!path)
		return gt_fail(err, GT_INVALID, "a change has no path");
	AUTO_FREE char *clean = fs_clean_path(path, false, err);
	if (!clean)
		return -1;
	if (clean[0] == '\0')
		return 0;
	if (json_integer_value(json_array_get(change, 0)) == GANTRY_DELETED)
		return fs_tar_whiteout(out, clean, err);
	char parent[FS_PATH_MAX];
	const char *base = fs_split(clean, parent);
	AUTO_CLOSE int dir = gt_openat2(root, parent[0] ? parent : ".", O_PATH | O_DIRECTORY, 0,
					RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (dir < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gt_fail_errno(err, errno, "open directory %s", parent);
	return fs_tar_one(out, dir, base, clean, 1, false, err);
}

int fs_job_diff_tar(const json_t *request, json_t *reply, struct gt_error *err)
{
	(void)reply;
	struct fs_view view;
	json_t *changes = NULL;
	if (gt_json_array(request, "changes", &changes, err) < 0 ||
	    fs_view_open(gt_json_get(request, "root"), &view, err) < 0 || fs_drop_privileges(false, err) < 0)
		return -1;
	struct fs_tar out;
	int rc = fs_tar_open(&out, err);
	if (rc == 0)
		rc = gt_json_int(request, "clamp", &out.clamp, err);
	for (size_t i = 0; rc == 0 && i < json_array_size(changes); i++)
		rc = put_change(&out, view.root, json_array_get(changes, i), err);
	if (rc == 0)
		rc = fs_tar_close(&out, err);
	fs_tar_free(&out);
	return rc;
}
