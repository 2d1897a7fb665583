/*
 * owed.c - what a layer takes from those below it while these are not complete.
 *
 * Layers of one image are unpacked side by side. A directory that an archive takes for granted, or a hard link to a file of a lower layer, is made
 * empty then and noted by its inode, as a later entry may name it in another way; the daemon keeps the list, and has it settled once the layers
 * below are there: attributes and contents come from their view. Where an archive replaces what is owed, or owes too much, unpacking ends with
 * GT_UNAVAILABLE, and the layer is unpacked again when its turn comes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "fs.h"

#define OWED_BYTES (256u * 1024)        /* of paths */

struct owed_item {
	char *path, *target;            /* target NULL: a directory */
	ino_t inode;
};

static void inode_key(const struct stat *st, char key[24])
{
	snprintf(key, 24, "%llu", (unsigned long long)st->st_ino);
}

static void item_free(struct owed_item *item)
{
	free(item->path);
	free(item->target);
	free(item);
}

void fs_owed_free(struct fs_sink *sink)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&sink->owed, &i)) != NULL;)
		item_free(slot->value);
	gt_map_free(&sink->owed);
}

static int too_much(struct gt_error *err)
{
	return gt_fail(err, GT_UNAVAILABLE, "the archive needs the layers below, which are not complete yet");
}

/* Requests are JSON: a name that is no UTF-8 cannot be owed. */
static bool is_utf8(const char *text)
{
	AUTO_JSON json_t *json = json_string(text);
	return json != NULL;
}

static int note(struct fs_sink *sink, int fd, const char *path, const char *target, struct gt_error *err)
{
	struct stat st;
	char key[24];
	if (fstat(fd, &st) < 0)
		return gt_fail_errno(err, errno, "look at %.200s", path);
	sink->owed_bytes += strlen(path) + (target ? strlen(target) : 0) + 16;
	if (sink->owed_bytes > OWED_BYTES || !is_utf8(path) || (target && !is_utf8(target)))
		return too_much(err);
	struct owed_item *item = gt_xcalloc(1, sizeof *item);
	item->path = gt_xstrdup(path);
	item->target = target ? gt_xstrdup(target) : NULL;
	item->inode = st.st_ino;
	inode_key(&st, key);
	struct owed_item *old = gt_map_set(&sink->owed, key, item);
	if (old)
		item_free(old); /* the inode of something that is gone */
	return 0;
}

int fs_owed_dir(struct fs_sink *sink, int dirfd, const char *name, const char *path, struct gt_error *err)
{
	AUTO_CLOSE int fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? gt_fail_errno(err, errno, "open directory %.200s", path) : note(sink, fd, path, NULL, err);
}

int fs_owed_link(struct fs_sink *sink, int dirfd, const char *name, const char *path, const char *target, struct gt_error *err)
{
	AUTO_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? gt_fail_errno(err, errno, "make file %.200s", path) : note(sink, fd, path, target, err);
}

void fs_owed_forget(struct fs_sink *sink, const struct stat *st)
{
	char key[24];
	if (sink->owed.count == 0)
		return;
	inode_key(st, key);
	struct owed_item *item = gt_map_remove(&sink->owed, key);
	if (item)
		item_free(item);
}

int fs_owed_replaced(const struct fs_sink *sink, const struct stat *st, struct gt_error *err)
{
	char key[24];
	if (sink->owed.count == 0)
		return 0;
	inode_key(st, key);
	/* of a directory, anything below may be owed */
	return S_ISDIR(st->st_mode) || gt_map_get(&sink->owed, key) ? too_much(err) : 0;
}

json_t *fs_owed_json(const struct fs_sink *sink)
{
	json_t *dirs = json_array(), *links = json_array();
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&sink->owed, &i)) != NULL;) {
		const struct owed_item *item = slot->value;
		json_int_t inode = (json_int_t)item->inode;
		if (item->target)
			json_array_append_new(links, json_pack("[I, s, s]", inode, item->path, item->target));
		else
			json_array_append_new(dirs, json_pack("[I, s]", inode, item->path));
	}
	return json_pack("{s:o, s:o}", "dirs", dirs, "links", links);
}

/* ---- what is below comes up ---- */

int fs_copy_lower_dir(int lower_root, const char *path, int fd, struct timespec *mtime, struct gt_error *err)
{
	struct stat st;
	AUTO_CLOSE int lower = fs_open(lower_root, path, O_RDONLY | O_DIRECTORY);
	if (lower < 0)
		return 0;
	if (fstat(lower, &st) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0 || fchmod(fd, st.st_mode & 07777) < 0)
		return gt_fail_errno(err, errno, "copy the attributes of directory %.200s", path);
	*mtime = st.st_mtim;
	return fs_copy_xattrs(lower, fd, err) < 0 ? -1 : 1;
}

/* A hard link to a file of a lower layer: the nearest thing that a layer can hold is a copy, as overlay's copy-up makes it. */
int fs_copy_lower_file(int lower_root, const char *target, int to, const char *path, int64_t *bytes, struct gt_error *err)
{
	AUTO_CLOSE int from = lower_root < 0 ? -1 : fs_open(lower_root, target, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return gt_fail(err, GT_INVALID, "%.200s is a hard link to %.200s, which is not there", path, target);
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(to, from, NULL, left < (1 << 30) ? (size_t)left : 1u << 30);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return gt_fail_errno(err, n < 0 ? errno : EIO, "copy %.200s", target);
		left -= n;
	}
	struct timespec times[2] = { st.st_mtim, st.st_mtim };
	if (fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0 || fs_copy_xattrs(from, to, err) < 0 ||
	    futimens(to, times) < 0)
		return gt_fail_errno(err, errno, "copy the attributes of %.200s", target);
	*bytes += st.st_size;
	return 0;
}

/* ---- settling ---- */

/* What item stands for, as it was left; -1 with GT_UNAVAILABLE where its path leads elsewhere now. */
static int open_item(int root, const json_t *item, int flags, const char **path, struct gt_error *err)
{
	struct stat st;
	*path = json_string_value(json_array_get(item, 1));
	AUTO_CLOSE int fd = *path ? fs_open(root, *path, flags) : -1;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != (ino_t)json_integer_value(json_array_get(item, 0)))
		return too_much(err);
	return take_fd(fd);
}

static int settle_dirs(int root, int lower, const json_t *dirs, struct gt_error *err)
{
	for (size_t i = 0; i < json_array_size(dirs); i++) {
		const char *path;
		AUTO_CLOSE int fd = open_item(root, json_array_get(dirs, i), O_RDONLY | O_DIRECTORY, &path, err);
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
		int found = fd < 0 ? -1 : fs_copy_lower_dir(lower, path, fd, &times[1], err);
		if (found < 0 || (found > 0 && futimens(fd, times) < 0))
			return found < 0 ? -1 : gt_fail_errno(err, errno, "set the time of directory %.200s", path);
	}
	return 0;
}

static int settle_links(int root, int lower, const json_t *links, int64_t *bytes, struct gt_error *err)
{
	for (size_t i = 0; i < json_array_size(links); i++) {
		const json_t *item = json_array_get(links, i);
		const char *path, *target = json_string_value(json_array_get(item, 2));
		AUTO_CLOSE int fd = open_item(root, item, O_WRONLY | O_NOFOLLOW, &path, err);
		if (fd < 0 || fs_copy_lower_file(lower, target ? target : "", fd, path, bytes, err) < 0)
			return -1;
	}
	return 0;
}

int fs_job_settle(const json_t *request, json_t *reply, struct gt_error *err)
{
	const char *dir = "";
	json_t *owed = NULL, *below = NULL, *dirs = NULL, *links = NULL;
	int64_t bytes = 0;
	if (gt_json_string(request, "dir", &dir, err) < 0 || gt_json_object(request, "owed", &owed, err) < 0 ||
	    gt_json_object(request, "lower", &below, err) < 0 || gt_json_array(owed, "dirs", &dirs, err) < 0 ||
	    gt_json_array(owed, "links", &links, err) < 0 || fs_private_namespace(err) < 0)
		return -1;
	AUTO_CLOSE int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the layer's directory %s", dir);
	AUTO_CLOSE int lower = fs_mount(below, err);
	if (lower < 0)
		return gt_context(err, "look at the layers below");
	if (fs_drop_privileges(true, err) < 0 || settle_dirs(root, lower, dirs, err) < 0 ||
	    settle_links(root, lower, links, &bytes, err) < 0)
		return -1;
	json_object_set_new(reply, "size", json_integer(bytes));
	return 0;
}
