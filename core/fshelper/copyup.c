/*
 * copyup.c - fills an empty volume with what the image has at its mount point (Docker's copy-up), with owners, modes, times and extended
 * attributes; hard links inside stay links.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/json.h"
#include "fs.h"

struct copy {
	int target;             /* root of the volume */
	struct gt_map links;    /* "dev:ino" -> path of the copy below target (owned) */
};

int fs_copy_xattrs(int from, int to, struct gt_error *err)
{
	char names[FS_XATTR_MAX], value[FS_XATTR_MAX];
	ssize_t len = flistxattr(from, names, sizeof names);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		const char *name = names + at;
		if (strncmp(name, "trusted.", 8) == 0 || strncmp(name, "user.overlay.", 13) == 0)
			continue;
		ssize_t size = fgetxattr(from, name, value, sizeof value);
		if (size >= 0 && fsetxattr(to, name, value, (size_t)size, 0) < 0 && errno != ENOTSUP && errno != EPERM)
			return gt_fail_errno(err, errno, "copy extended attribute %.100s", name);
	}
	return 0;
}

static int copy_bytes(int from, int to)
{
	for (;;) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, 1u << 30, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
			break;
		if (n <= 0)
			return (int)n;
	}
	for (;;) {
		ssize_t n = sendfile(to, from, NULL, 1u << 30);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n;
	}
}

static int copy_attributes(int from, int to, const struct stat *st, const char *path, struct gt_error *err)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
		return gt_fail_errno(err, errno, "copy owner and mode of %.200s", path);
	if (fs_copy_xattrs(from, to, err) < 0)
		return gt_context(err, "%.200s", path);
	if (futimens(to, times) < 0)
		return gt_fail_errno(err, errno, "copy the time of %.200s", path);
	return 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st, const char *path, struct gt_error *err)
{
	AUTO_CLOSE int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (from < 0)
		return gt_fail_errno(err, errno, "open %.200s", path);
	AUTO_CLOSE int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return gt_fail_errno(err, errno, "make %.200s", path);
	if (copy_bytes(from, to) < 0)
		return gt_fail_errno(err, errno, "copy %.200s", path);
	return copy_attributes(from, to, st, path, err);
}

static int copy_special(int from_dir, int to_dir, const char *name, const struct stat *st, const char *path, struct gt_error *err)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	if (S_ISLNK(st->st_mode)) {
		char target[FS_PATH_MAX];
		ssize_t n = readlinkat(from_dir, name, target, sizeof target - 1);
		if (n < 0)
			return gt_fail_errno(err, errno, "read link %.200s", path);
		target[n] = '\0';
		if (symlinkat(target, to_dir, name) < 0)
			return gt_fail_errno(err, errno, "make link %.200s", path);
	} else if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0) {
		return gt_fail_errno(err, errno, "make %.200s", path);
	}
	if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISLNK(st->st_mode) && fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0) ||
	    utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return gt_fail_errno(err, errno, "copy owner and mode of %.200s", path);
	return 0;
}

static int copy_tree(struct copy *copy, int from, int to, const char *path, int depth, struct gt_error *err);

static int copy_dir(struct copy *copy, int from_dir, int to_dir, const char *name, const struct stat *st, const char *path, int depth,
		    struct gt_error *err)
{
	AUTO_CLOSE int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0 || mkdirat(to_dir, name, 0700) < 0)
		return gt_fail_errno(err, errno, "copy directory %.200s", path);
	AUTO_CLOSE int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0)
		return gt_fail_errno(err, errno, "open directory %.200s", path);
	if (copy_tree(copy, from, to, path, depth + 1, err) < 0)
		return -1;
	return copy_attributes(from, to, st, path, err);
}

static int copy_node(struct copy *copy, int from, int to, const char *name, const char *path, int depth, struct gt_error *err)
{
	struct stat st;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return gt_fail_errno(err, errno, "look at %.200s", path);
	if (S_ISSOCK(st.st_mode))
		return 0;
	if (S_ISDIR(st.st_mode))
		return copy_dir(copy, from, to, name, &st, path, depth, err);
	if (st.st_nlink > 1) {
		char key[64];
		snprintf(key, sizeof key, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
		const char *first = gt_map_get(&copy->links, key);
		if (first && linkat(copy->target, first, to, name, 0) == 0)
			return 0;
		if (!first)
			gt_map_set(&copy->links, key, gt_xstrdup(path));
	}
	return S_ISREG(st.st_mode) ? copy_file(from, to, name, &st, path, err) : copy_special(from, to, name, &st, path, err);
}

static int copy_tree(struct copy *copy, int from, int to, const char *path, int depth, struct gt_error *err)
{
	if (depth > FS_MAX_DEPTH)
		return gt_fail(err, GT_UNSUPPORTED, "%.200s... is deeper than %d directories", path, FS_MAX_DEPTH);
	int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = again < 0 ? NULL : fdopendir(again);
	if (!dir) {
		int saved = errno;
		if (again >= 0)
			close(again);
		return gt_fail_errno(err, saved, "read directory %.200s", path);
	}
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		AUTO_FREE char *child = gt_xasprintf("%s%s%s", path, path[0] ? "/" : "", e->d_name);
		rc = copy_node(copy, from, to, e->d_name, child, depth, err);
	}
	closedir(dir);
	return rc;
}

/* A fresh ext4 has "lost+found", which is nobody's data. */
static int is_empty(int fd, bool *empty, struct gt_error *err)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = again < 0 ? NULL : fdopendir(again);
	if (!dir) {
		int saved = errno;
		if (again >= 0)
			close(again);
		return gt_fail_errno(err, saved, "read the volume");
	}
	*empty = true;
	for (struct dirent *e; *empty && (e = readdir(dir)) != NULL;)
		*empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, "lost+found") == 0;
	closedir(dir);
	return 0;
}

int fs_job_copy_up(const json_t *request, json_t *reply, struct gt_error *err)
{
	(void)reply;
	const char *path = "";
	struct fs_view view;
	if (gt_json_string(request, "path", &path, err) < 0 || fs_view_open(gt_json_get(request, "root"), &view, err) < 0)
		return -1;
	AUTO_FREE char *clean = fs_clean_path(path, true, err);
	if (!clean)
		return -1;
	AUTO_CLOSE int from = fs_open(view.root, clean, O_RDONLY | O_DIRECTORY);
	if (from < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (from < 0)
		return gt_fail_errno(err, errno, "open %.200s of the image", path);
	AUTO_CLOSE int mounted = fs_mount(gt_json_get(request, "target"), err);
	if (mounted < 0 || fs_drop_privileges(false, err) < 0)
		return -1;
	AUTO_CLOSE int to = openat(mounted, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	if (to < 0 || fstat(from, &st) < 0)
		return gt_fail_errno(err, errno, "open the volume for %.200s", path);
	bool empty = false;
	if (is_empty(to, &empty, err) < 0)
		return -1;
	if (!empty)
		return 0;
	struct copy copy = { .target = to };
	int rc = copy_tree(&copy, from, to, "", 0, err);
	if (rc == 0)
		rc = copy_attributes(from, to, &st, path, err);
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&copy.links, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&copy.links);
	return rc;
}
