/*
 * squash.c - one layer instead of several: what an image has beyond, and without, the one it stands on, as an OCI layer's tar.
 *
 * Both are seen as their containers would see them; two files are the same where all is that a layer tells of them. Contents are compared only where times and
 * sizes are equal and it is not one inode.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs.h"

#define PIECE (256u * 1024)

struct squash {
	struct fs_tar out;
	char *bytes[2];
};

/* A directory of both images; either may be missing. */
struct pair {
	int from, to;                   /* -1: none */
	const char *path;
	int depth;
};

static bool same_value(int a, int b, const char *name)
{
	char one[FS_XATTR_MAX], two[FS_XATTR_MAX];
	ssize_t len = fgetxattr(a, name, one, sizeof one);
	return len >= 0 && fgetxattr(b, name, two, sizeof two) == len && memcmp(one, two, (size_t)len) == 0;
}

static bool same_xattrs(int a, int b)
{
	char list[FS_XATTR_MAX];
	size_t count[2] = { 0 };
	for (int side = 0; side < 2; side++) {
		ssize_t len = flistxattr(side ? b : a, list, sizeof list);
		for (const char *p = list; len > 0 && p < list + len; p += strlen(p) + 1) {
			if (!fs_carried(p))
				continue;
			count[side]++;
			if (side == 0 && !same_value(a, b, p))
				return false;
		}
	}
	return count[0] == count[1];
}

static bool same_attributes(const struct statx *a, const struct statx *b)
{
	return a->stx_mode == b->stx_mode && a->stx_uid == b->stx_uid && a->stx_gid == b->stx_gid && a->stx_mtime.tv_sec == b->stx_mtime.tv_sec &&
	       a->stx_mtime.tv_nsec == b->stx_mtime.tv_nsec && a->stx_rdev_major == b->stx_rdev_major && a->stx_rdev_minor == b->stx_rdev_minor &&
	       (S_ISDIR(a->stx_mode) || a->stx_size == b->stx_size);
}

static bool same_content(struct squash *squash, int a, int b)
{
	for (;;) {
		ssize_t one = gt_read_full(a, squash->bytes[0], PIECE), two = gt_read_full(b, squash->bytes[1], PIECE);
		if (one < 0 || one != two || memcmp(squash->bytes[0], squash->bytes[1], (size_t)one) != 0)
			return false;
		if (one < (ssize_t)PIECE)
			return true;
	}
}

static bool same_link(const struct pair *pair, const char *name)
{
	char a[FS_PATH_MAX], b[FS_PATH_MAX];
	ssize_t len = readlinkat(pair->from, name, a, sizeof a);
	return len >= 0 && readlinkat(pair->to, name, b, sizeof b) == len && memcmp(a, b, (size_t)len) == 0;
}

static int open_one(int dir, const char *name, bool directory)
{
	return gt_openat2(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | (directory ? O_DIRECTORY : 0), 0,
			  RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

static bool same(struct squash *squash, const struct pair *pair, const char *name, const struct statx *a, const struct statx *b)
{
	if (!same_attributes(a, b))
		return false;
	if (S_ISLNK(a->stx_mode))
		return same_link(pair, name);
	if (!S_ISREG(a->stx_mode) && !S_ISDIR(a->stx_mode))
		return true;
	AUTO_CLOSE int from = open_one(pair->from, name, S_ISDIR(a->stx_mode)), to = open_one(pair->to, name, S_ISDIR(a->stx_mode));
	if (from < 0 || to < 0 || !same_xattrs(from, to))
		return false;
	bool one_inode = a->stx_ino == b->stx_ino && a->stx_ctime.tv_sec == b->stx_ctime.tv_sec && a->stx_ctime.tv_nsec == b->stx_ctime.tv_nsec;
	return S_ISDIR(a->stx_mode) || one_inode || same_content(squash, from, to);
}

static int walk(struct squash *squash, const struct pair *pair, struct gt_error *err);

static int walk_into(struct squash *squash, const struct pair *pair, const char *name, const char *path, bool both, struct gt_error *err)
{
	AUTO_CLOSE int from = both ? open_one(pair->from, name, true) : -1, to = open_one(pair->to, name, true);
	if (to < 0 || (both && from < 0))
		return gt_fail_errno(err, errno, "open directory %.200s", path);
	struct pair below = { from, to, path, pair->depth + 1 };
	return walk(squash, &below, err);
}

static bool look(int dir, const char *name, struct statx *sx)
{
	return dir >= 0 && statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, sx) == 0;
}

static int visit(struct squash *squash, const struct pair *pair, const char *name, struct gt_error *err)
{
	struct statx a, b;
	bool was = look(pair->from, name, &a), is = look(pair->to, name, &b);
	AUTO_FREE char *path = gt_xasprintf("%s%s%s", pair->path, pair->path[0] ? "/" : "", name);
	if (!is)
		return was ? fs_tar_whiteout(&squash->out, path, err) : 0;
	if (strncmp(name, ".wh.", 4) == 0)
		return gt_fail(err, GT_INVALID, "%.200s: a file with this name cannot be in a layer", path);
	if (!(was && same(squash, pair, name, &a, &b)) && fs_tar_one(&squash->out, pair->to, name, path, 1, false, err) < 0)
		return -1;
	return S_ISDIR(b.stx_mode) ? walk_into(squash, pair, name, path, was && S_ISDIR(a.stx_mode), err) : 0;
}

/* Every name that either directory has, in order. */
static int walk(struct squash *squash, const struct pair *pair, struct gt_error *err)
{
	struct gt_strings from = { 0 }, to = { 0 };
	if (pair->depth > FS_MAX_DEPTH)
		return gt_fail(err, GT_UNSUPPORTED, "%.200s... is deeper than %d directories", pair->path, FS_MAX_DEPTH);
	int rc = pair->from < 0 ? 0 : fs_list_names(pair->from, &from, err);
	if (rc == 0 && pair->to >= 0)
		rc = fs_list_names(pair->to, &to, err);
	for (size_t i = 0, k = 0; rc == 0 && (i < from.count || k < to.count);) {
		int order = i == from.count ? 1 : k == to.count ? -1 : strcmp(from.items[i], to.items[k]);
		const char *name = order <= 0 ? from.items[i] : to.items[k];
		i += order <= 0;
		k += order >= 0;
		rc = visit(squash, pair, name, err);
	}
	gt_strings_free(&from);
	gt_strings_free(&to);
	return rc;
}

int fs_job_squash(const json_t *request, json_t *reply, struct gt_error *err)
{
	const json_t *base = json_object_get(request, "base");
	struct squash squash = { 0 };
	(void)reply;
	if (fs_private_namespace(err) < 0)
		return -1;
	AUTO_CLOSE int from = base ? fs_mount(base, err) : -1;
	AUTO_CLOSE int to = base && from < 0 ? -1 : fs_mount(json_object_get(request, "top"), err);
	AUTO_FREE char *first = gt_xmalloc(PIECE), *second = gt_xmalloc(PIECE);
	squash.bytes[0] = first;
	squash.bytes[1] = second;
	if (to < 0 || fs_drop_privileges(false, err) < 0)
		return -1;
	int rc = fs_tar_open(&squash.out, err);
	if (rc == 0)
		rc = gt_json_int(request, "clamp", &squash.out.clamp, err);
	struct pair roots = { from, to, "", 0 };
	if (rc == 0)
		rc = walk(&squash, &roots, err);
	if (rc == 0)
		rc = fs_tar_close(&squash.out, err);
	fs_tar_free(&squash.out);
	return rc;
}

/* Whether a name at the top of both images is the same there: {"base", "top", "name"} -> {"same"}. What is in a directory is not looked at. */
int fs_job_same(const json_t *request, json_t *reply, struct gt_error *err)
{
	const char *name = "";
	if (gt_json_string(request, "name", &name, err) < 0 || fs_private_namespace(err) < 0)
		return -1;
	AUTO_CLOSE int from = fs_mount(json_object_get(request, "base"), err);
	AUTO_CLOSE int to = from < 0 ? -1 : fs_mount(json_object_get(request, "top"), err);
	if (to < 0 || fs_drop_privileges(false, err) < 0)
		return -1;
	AUTO_FREE char *first = gt_xmalloc(PIECE), *second = gt_xmalloc(PIECE);
	struct squash squash = { .bytes = { first, second } };
	struct pair roots = { from, to, "", 0 };
	struct statx a, b;
	json_object_set_new(reply, "same", json_boolean(look(from, name, &a) && look(to, name, &b) && same(&squash, &roots, name, &a, &b)));
	return 0;
}
