#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "tar.h"

enum { MAX_DELAYED = 1 << 20 };

/* A directory whose mode and time are set at the end: filling it changes the time and needs the right to write. */
struct delayed {
	char *path;
	mode_t mode;
	struct timespec mtime;
};

struct reader {
	struct tar_library lib;
	struct archive *archive;
	struct http_response *response;
	struct tar_target *target;
	struct gt_error *err;
	struct gt_error stream_error;
	struct delayed *delayed;
	size_t delayed_count;
};

static ssize_t pull(struct archive *archive, void *arg, const void **bytes)
{
	struct reader *reader = arg;
	const char *piece = NULL;
	(void)archive;
	ssize_t got = http_next(reader->response, &piece, &reader->stream_error);
	*bytes = piece;
	return got;
}

static int fail(struct reader *reader)
{
	if (reader->stream_error.kind) {
		*reader->err = reader->stream_error;
		return -1;
	}
	const char *why = reader->lib.archive_error_string(reader->archive);
	return gt_fail(reader->err, GT_INTERNAL, "cannot read the archive: %s", why ? why : "unknown reason");
}

/* The entry's path below the target: no leading slashes or "./", its first part renamed where asked. NULL: nothing to do. */
static char *local_path(const struct tar_target *target, const char *name)
{
	while (*name == '/' || (name[0] == '.' && (name[1] == '/' || name[1] == '\0')))
		name++;
	AUTO_FREE char *path = gt_xstrdup(name);
	size_t len = strlen(path);
	while (len > 0 && path[len - 1] == '/')
		path[--len] = '\0';
	if (!target->rename)
		return len ? take(path) : NULL;
	if (!target->has_base)
		return len ? gt_xasprintf("%s/%s", target->rename, path) : gt_xstrdup(target->rename);
	const char *rest = path + strcspn(path, "/");
	return gt_xasprintf("%s%s", target->rename, rest);
}

static bool escapes(const char *path)
{
	for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/') {
		if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == '\0'))
			return true;
	}
	return false;
}

/* Opens the directory that holds path's last part, making what is missing; *leaf points into path. */
static int open_parent(struct reader *reader, const char *path, const char **leaf)
{
	const char *slash = strrchr(path, '/');
	*leaf = slash ? slash + 1 : path;
	if (!slash)
		return fcntl(reader->target->dirfd, F_DUPFD_CLOEXEC, 3);
	AUTO_FREE char *parent = gt_xstrndup(path, (size_t)(slash - path));
	int fd = gt_openat2(reader->target->dirfd, parent, O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	const char *name;
	AUTO_CLOSE int above = open_parent(reader, parent, &name);
	if (above < 0 || (mkdirat(above, name, 0755) < 0 && errno != EEXIST))
		return -1;
	return gt_openat2(reader->target->dirfd, parent, O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH);
}

static int write_content(struct reader *reader, int fd)
{
	const void *bytes;
	size_t len;
	la_int64_t offset;
	for (;;) {
		int state = reader->lib.archive_read_data_block(reader->archive, &bytes, &len, &offset);
		if (state == ARCHIVE_EOF)
			return 0;
		if (state < ARCHIVE_WARN)
			return fail(reader);
		for (size_t done = 0; done < len;) {
			ssize_t put = pwrite(fd, (const char *)bytes + done, len - done, offset + (off_t)done);
			if (put < 0 && errno == EINTR)
				continue;
			if (put < 0)
				return gt_fail_errno(reader->err, errno, "cannot write");
			done += (size_t)put;
		}
		reader->target->bytes += (int64_t)len;
	}
}

static mode_t mode_of(const struct reader *reader, mode_t mode)
{
	/* A set-user-id program would change its owner on the way. */
	return mode & (reader->target->keep_owner ? 07777 : 01777);
}

static int make_file(struct reader *reader, int parent, const char *leaf, mode_t mode)
{
	unlinkat(parent, leaf, 0);
	AUTO_CLOSE int fd = openat(parent, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return gt_fail_errno(reader->err, errno, "cannot create %s", leaf);
	if (write_content(reader, fd) < 0)
		return -1;
	if (fchmod(fd, mode_of(reader, mode)) < 0)
		return gt_fail_errno(reader->err, errno, "cannot set the mode of %s", leaf);
	return 0;
}

static int make_directory(struct reader *reader, int parent, const char *leaf, const char *path, mode_t mode,
			  struct timespec mtime)
{
	struct stat st;
	if (mkdirat(parent, leaf, 0700) < 0) {
		if (errno != EEXIST || fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return gt_fail_errno(reader->err, errno, "cannot create the directory %s", path);
		if (!S_ISDIR(st.st_mode))
			return gt_fail(reader->err, GT_CONFLICT, "cannot overwrite non-directory %s with a directory", path);
	}
	if (reader->delayed_count < MAX_DELAYED) {
		reader->delayed = gt_xrealloc(reader->delayed, (reader->delayed_count + 1) * sizeof *reader->delayed);
		reader->delayed[reader->delayed_count++] = (struct delayed){ gt_xstrdup(path), mode, mtime };
	}
	return 0;
}

static int make_link(struct reader *reader, int parent, const char *leaf, const char *target_name)
{
	AUTO_FREE char *from = local_path(reader->target, target_name);
	const char *from_leaf;
	if (!from || escapes(from))
		return gt_fail(reader->err, GT_INVALID, "the archive's link %s leaves the destination", leaf);
	AUTO_CLOSE int from_parent = open_parent(reader, from, &from_leaf);
	unlinkat(parent, leaf, 0);
	if (from_parent < 0 || linkat(from_parent, from_leaf, parent, leaf, 0) < 0)
		return gt_fail_errno(reader->err, errno, "cannot link %s to %s", leaf, from);
	return 0;
}

static int make_entry(struct reader *reader, struct archive_entry *entry, int parent, const char *leaf, const char *path)
{
	struct tar_library *lib = &reader->lib;
	mode_t mode = lib->archive_entry_mode(entry);
	struct timespec mtime = { lib->archive_entry_mtime(entry), lib->archive_entry_mtime_nsec(entry) };
	const char *hardlink = lib->archive_entry_hardlink(entry);
	int done;
	struct stat st;
	if (!S_ISDIR(mode) && fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return gt_fail(reader->err, GT_CONFLICT, "cannot overwrite directory %s with a non-directory", path);
	if (hardlink)
		return make_link(reader, parent, leaf, hardlink);
	if (S_ISDIR(mode)) {
		done = make_directory(reader, parent, leaf, path, mode, mtime);
	} else if (S_ISREG(mode)) {
		done = make_file(reader, parent, leaf, mode);
	} else if (S_ISLNK(mode)) {
		unlinkat(parent, leaf, 0);
		done = symlinkat(lib->archive_entry_symlink(entry), parent, leaf);
		if (done < 0)
			gt_fail_errno(reader->err, errno, "cannot create the link %s", path);
	} else {
		unlinkat(parent, leaf, 0);
		done = mknodat(parent, leaf, mode_of(reader, mode) | (mode & S_IFMT), lib->archive_entry_rdev(entry));
		if (done < 0)
			gt_fail_errno(reader->err, errno, "cannot create the special file %s", path);
	}
	if (done < 0)
		return -1;
	if (reader->target->keep_owner && fchownat(parent, leaf, (uid_t)lib->archive_entry_uid(entry),
						   (gid_t)lib->archive_entry_gid(entry), AT_SYMLINK_NOFOLLOW) < 0)
		return gt_fail_errno(reader->err, errno, "cannot set the owner of %s", path);
	if (reader->target->keep_owner && S_ISREG(mode) && (mode & 06000) && fchmodat(parent, leaf, mode & 07777, 0) < 0)
		return gt_fail_errno(reader->err, errno, "cannot set the mode of %s", path);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, mtime };
	utimensat(parent, leaf, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int take_entry(struct reader *reader, struct archive_entry *entry)
{
	const char *name = reader->lib.archive_entry_pathname(entry), *leaf;
	AUTO_FREE char *path = name ? local_path(reader->target, name) : NULL;
	if (!path)
		return 0;
	if (escapes(path))
		return gt_fail(reader->err, GT_INVALID, "the archive's entry %s leaves the destination", name);
	AUTO_CLOSE int parent = open_parent(reader, path, &leaf);
	if (parent < 0)
		return gt_fail_errno(reader->err, errno, "cannot open the directory of %s", path);
	return make_entry(reader, entry, parent, leaf, path);
}

static void finish_directories(struct reader *reader)
{
	for (size_t i = reader->delayed_count; i > 0; i--) {
		struct delayed *delayed = &reader->delayed[i - 1];
		AUTO_CLOSE int fd =
			gt_openat2(reader->target->dirfd, delayed->path, O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH);
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, delayed->mtime };
		if (fd >= 0 && fchmod(fd, mode_of(reader, delayed->mode)) == 0)
			futimens(fd, times);
		free(delayed->path);
	}
	free(reader->delayed);
}

static int read_all(struct reader *reader)
{
	struct archive_entry *entry;
	for (;;) {
		int state = reader->lib.archive_read_next_header(reader->archive, &entry);
		if (state == ARCHIVE_EOF)
			return 0;
		if (state < ARCHIVE_WARN)
			return fail(reader);
		if (take_entry(reader, entry) < 0)
			return -1;
	}
}

int tar_extract(struct http_response *response, struct tar_target *target, struct gt_error *err)
{
	struct reader reader = { .response = response, .target = target, .err = err };
	if (tar_load(&reader.lib, err) < 0)
		return -1;
	reader.archive = reader.lib.archive_read_new();
	reader.lib.archive_read_support_format_tar(reader.archive);
	reader.lib.archive_read_support_filter_none(reader.archive);
	int done = reader.lib.archive_read_open(reader.archive, &reader, NULL, pull, NULL) == ARCHIVE_OK ? 0 : fail(&reader);
	if (done == 0)
		done = read_all(&reader);
	finish_directories(&reader);
	reader.lib.archive_read_free(reader.archive);
	return done;
}
