/*
 * path.c - hostile paths: cleaned lexically as Docker does, bounded, and then resolved by the kernel below a directory descriptor
 * (RESOLVE_IN_ROOT), so that neither ".." nor a link leads out. And Docker's answer to "what is at this path".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "fs.h"

#define MAX_LINKS 40

char *fs_clean_path(const char *path, bool clamp, struct gt_error *err)
{
	size_t len = strlen(path);
	if (len >= FS_PATH_MAX)
		return gt_fail_null(err, GT_INVALID, "path \"%.60s...\" is longer than %d bytes", path, FS_PATH_MAX - 1);
	AUTO_FREE char *out = gt_xmalloc(len + 1);
	uint16_t starts[FS_MAX_COMPONENTS];
	size_t used = 0, depth = 0;
	for (const char *p = path; *p;) {
		size_t part = strcspn(p, "/");
		if (part == 0 || (part == 1 && p[0] == '.')) {
			;
		} else if (part == 2 && p[0] == '.' && p[1] == '.') {
			if (depth == 0 && !clamp)
				return gt_fail_null(err, GT_INVALID, "path \"%.200s\" leads out of its root", path);
			used = depth > 0 ? starts[--depth] : 0;
		} else if (part > 255) {
			return gt_fail_null(err, GT_INVALID, "path \"%.60s...\" has a name longer than 255 bytes", path);
		} else if (depth == FS_MAX_COMPONENTS) {
			return gt_fail_null(err, GT_INVALID, "path \"%.60s...\" is deeper than %d directories", path,
					    FS_MAX_COMPONENTS);
		} else {
			starts[depth++] = (uint16_t)used;
			if (used)
				out[used++] = '/';
			memcpy(out + used, p, part);
			used += part;
		}
		p += part + (p[part] == '/');
	}
	out[used] = '\0';
	return take(out);
}

const char *fs_split(const char *path, char *parent)
{
	const char *slash = strrchr(path, '/');
	if (!slash) {
		parent[0] = '\0';
		return path;
	}
	memcpy(parent, path, (size_t)(slash - path));
	parent[slash - path] = '\0';
	return slash + 1;
}

int fs_open(int root, const char *cleaned, int flags)
{
	return gt_openat2(root, cleaned[0] ? cleaned : ".", flags, 0, FS_IN_ROOT);
}

int fs_make_dirs(int root, const char *cleaned, struct gt_error *err)
{
	AUTO_CLOSE int dir = fs_open(root, cleaned, O_PATH | O_DIRECTORY);
	if (dir >= 0 || errno != ENOENT)
		return dir >= 0 ? take_fd(dir) : gt_fail_errno(err, errno, "open directory %s", cleaned);
	AUTO_FREE char *path = gt_xstrdup(cleaned);
	AUTO_CLOSE int at = fs_open(root, "", O_PATH | O_DIRECTORY);
	for (char *from = path, *end = path; at >= 0 && end; from = end + 1) {
		end = strchr(from, '/');
		if (end)
			*end = '\0';
		int next = fs_open(root, path, O_PATH | O_DIRECTORY);
		if (next < 0 && errno == ENOENT && (mkdirat(at, from, 0755) == 0 || errno == EEXIST))
			next = fs_open(root, path, O_PATH | O_DIRECTORY);
		int saved = errno;
		close(at);
		errno = saved;
		at = next;
		if (end)
			*end = '/';
	}
	return at >= 0 ? take_fd(at) : gt_fail_errno(err, errno, "make directory %s", cleaned);
}

void fs_place_free(struct fs_place *place)
{
	free(place->clean);
	free(place->name);
	free(place->base);
	if (place->parent >= 0)
		close(place->parent);
	*place = (struct fs_place){ .parent = -1 };
}

static int not_found(const char *path, struct gt_error *err)
{
	return gt_fail(err, GT_NOT_FOUND, "Could not find the file %.300s in container", path);
}

static int locate_error(int errnum, const char *path, struct gt_error *err)
{
	if (errnum == ENOENT)
		return not_found(path, err);
	if (errnum == ENOTDIR)
		return gt_fail(err, GT_INVALID, "%.300s: not a directory", path);
	return gt_fail_errno(err, errnum, "look at %.300s", path);
}

int fs_locate(const struct fs_view *view, const char *path, struct fs_place *place, struct gt_error *err)
{
	*place = (struct fs_place){ .parent = -1 };
	if (path[0] == '\0')
		return gt_fail(err, GT_INVALID, "the path is empty");
	place->clean = fs_clean_path(path, true, err);
	if (!place->clean)
		return -1;
	size_t len = strlen(path);
	bool dot = strcmp(path, ".") == 0 || (len >= 2 && strcmp(path + len - 2, "/.") == 0);
	place->follow = dot || path[len - 1] == '/' || place->clean[0] == '\0';
	char parent[FS_PATH_MAX];
	const char *base = fs_split(place->clean, parent);
	place->name = gt_xstrdup(place->clean[0] == '\0' ? "/" : dot ? "." : base);
	place->base = gt_xstrdup(place->follow ? "" : base);
	place->parent = fs_open(view->root, place->follow ? place->clean : parent, O_PATH | O_DIRECTORY);
	if (place->parent < 0)
		return locate_error(errno, path, err);
	if (fstatat(place->parent, place->base, &place->st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		return locate_error(errno, path, err);
	return 0;
}

/* Go's os.FileMode. */
static uint32_t go_mode(mode_t mode)
{
	uint32_t go = mode & 0777;
	switch (mode & S_IFMT) {
	case S_IFDIR:
		go |= 1u << 31;
		break;
	case S_IFLNK:
		go |= 1u << 27;
		break;
	case S_IFBLK:
		go |= 1u << 26;
		break;
	case S_IFCHR:
		go |= 1u << 26 | 1u << 21;
		break;
	case S_IFIFO:
		go |= 1u << 25;
		break;
	case S_IFSOCK:
		go |= 1u << 24;
		break;
	default:
		break;
	}
	return go | (mode & S_ISUID ? 1u << 23 : 0) | (mode & S_ISGID ? 1u << 22 : 0) | (mode & S_ISVTX ? 1u << 20 : 0);
}

/* The path that a link stands for inside the root, links on the way followed; what does not exist is kept as text. For people: nothing is
 * opened by it. */
char *fs_resolve_text(int root, const char *cleaned)
{
	AUTO_FREE char *rest = gt_xstrdup(cleaned);
	AUTO_FREE char *done = gt_xstrdup("");
	int links = 0;
	while (rest[0]) {
		size_t part = strcspn(rest, "/");
		AUTO_FREE char *next = gt_xasprintf("%s%s%.*s", done, done[0] ? "/" : "", (int)part, rest);
		AUTO_FREE char *after = gt_xstrdup(rest[part] ? rest + part + 1 : "");
		char target[FS_PATH_MAX];
		AUTO_CLOSE int fd = fs_open(root, next, O_PATH | O_NOFOLLOW);
		ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof target - 1);
		if (n < 0 || ++links > MAX_LINKS) {
			free(done);
			done = take(next);
			free(rest);
			rest = take(after);
			continue;
		}
		target[n] = '\0';
		AUTO_FREE char *joined = target[0] == '/' ? gt_xasprintf("%s/%s", target, after) :
							    gt_xasprintf("%s/%s/%s", done, target, after);
		char *clean = fs_clean_path(joined, true, NULL);
		if (!clean)
			break;
		free(rest);
		rest = clean;
		free(done);
		done = gt_xstrdup("");
	}
	return gt_xasprintf("/%s", done);
}

int fs_job_stat(const json_t *request, json_t *reply, struct gt_error *err)
{
	struct fs_view view;
	const char *path = "";
	if (gt_json_string(request, "path", &path, err) < 0 || fs_view_open(gt_json_get(request, "root"), &view, err) < 0 ||
	    fs_drop_privileges(false, err) < 0)
		return -1;
	AUTO_PLACE struct fs_place place = { .parent = -1 };
	if (fs_locate(&view, path, &place, err) < 0)
		return -1;
	AUTO_FREE char *target = S_ISLNK(place.st.st_mode) ? fs_resolve_text(view.root, place.clean) : gt_xstrdup("");
	json_object_set_new(reply, "name", json_string(place.name) ?: json_string("?"));
	json_object_set_new(reply, "size", json_integer(place.st.st_size));
	json_object_set_new(reply, "mode", json_integer(go_mode(place.st.st_mode)));
	json_object_set_new(reply, "mtime",
			    json_integer((int64_t)place.st.st_mtim.tv_sec * 1000000000 + place.st.st_mtim.tv_nsec));
	json_object_set_new(reply, "link_target", json_string(target) ?: json_string(""));
	return 0;
}
