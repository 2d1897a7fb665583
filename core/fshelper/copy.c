/*
 * copy.c - COPY, ADD and WORKDIR of a build: files of a context, or of another image, as the tar of a new layer; or the digest of it, by which the
 * build finds out whether it has that layer already.
 *
 * The digest is over what the layer will have: names, types, modes, owners, extended attributes, contents; not times. Nothing is written below any root:
 * the layer comes out as a tar, which is unpacked and checked as any other. Where the target is, and what is there, is looked up in
 * the image below (links followed inside it); directories that it has are not repeated.
 *
 * Sources are patterns relative to their root; links lead nowhere else. Equal trees give equal tars: names are sorted.
 */
#include "copy.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define HASH_ROOM (256u * 1024)
#define MAX_MATCHES 100000

/* ---- entries out ---- */

void copy_hash(struct copier *copier, const void *bytes, size_t len)
{
	sha256_update(&copier->digest, len, bytes);
}

static void hash_entry(struct copier *copier, const char *path)
{
	struct archive_entry *entry = copier->out.entry;
	const char *link = archive_entry_symlink(entry), *hard = archive_entry_hardlink(entry), *name;
	const void *value;
	size_t size;
	AUTO_BUF struct gt_buf text = { 0 };
	gt_buf_printf(&text, "%o %lld %lld %lld %llx", (unsigned)archive_entry_mode(entry), (long long)archive_entry_uid(entry),
		      (long long)archive_entry_gid(entry), (long long)archive_entry_size(entry), (unsigned long long)archive_entry_rdev(entry));
	gt_buf_printf(&text, " %zu %s %zu %s %zu %s", strlen(path), path, link ? strlen(link) : 0, link ? link : "", hard ? strlen(hard) : 0,
		      hard ? hard : "");
	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		gt_buf_printf(&text, " %s %zu ", name, size);
		gt_buf_add(&text, value, size);
	}
	gt_buf_char(&text, '\n');
	copy_hash(copier, text.data, text.len);
}

int copy_header(struct copier *copier, const char *path, struct gt_error *err)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	if (strncmp(base, ".wh.", 4) == 0)
		return gt_fail(err, GT_INVALID, "%.200s: a file with this name cannot be in a layer, where it says that \"%.100s\" is deleted",
			       path, base + 4);
	copier->count++;
	if (!copier->hash)
		return fs_tar_header(&copier->out, path, err);
	hash_entry(copier, path);
	return 0;
}

static int hash_content(struct copier *copier, const char *path, int fd, int64_t size, struct gt_error *err)
{
	const struct fs_digest *known = copy_known(copier, fd, size);
	struct sha256_ctx state;
	uint8_t raw[SHA256_DIGEST_SIZE];
	if (known) {
		copy_hash(copier, known->sha256, sizeof known->sha256);
		return 0;
	}
	sha256_init(&state);
	for (ssize_t n; size > 0; size -= n) {
		n = gt_read_full(fd, copier->out.buffer, size < (int64_t)HASH_ROOM ? (size_t)size : HASH_ROOM);
		if (n < 0)
			return gt_fail_errno(err, errno, "read %.200s", path);
		if (n == 0)
			return gt_fail(err, GT_CONFLICT, "%.200s shrank while it was read", path);
		sha256_update(&state, (size_t)n, (const uint8_t *)copier->out.buffer);
	}
	sha256_digest(&state, sizeof raw, raw);
	copy_hash(copier, raw, sizeof raw);
	return 0;
}

int copy_emit(struct copier *copier, const char *path, int fd, struct gt_error *err)
{
	int64_t size = archive_entry_size(copier->out.entry);
	if (copy_header(copier, path, err) < 0)
		return -1;
	if (fd < 0 || size == 0)
		return 0;
	return copier->hash ? hash_content(copier, path, fd, size, err) : fs_tar_content(&copier->out, fd, size, path, err);
}

/* Owner and mode as the instruction wants them. */
static int adjust(struct copier *copier, const struct statx *sx, struct gt_error *err)
{
	struct archive_entry *entry = copier->out.entry;
	mode_t mode = sx->stx_mode & 07777;
	if (copier->uid >= 0)
		archive_entry_set_uid(entry, copier->uid);
	if (copier->gid >= 0)
		archive_entry_set_gid(entry, copier->gid);
	if (!copier->chmod[0] || S_ISLNK(sx->stx_mode))
		return 0;
	if (fs_mode_apply(copier->chmod, &mode, S_ISDIR(sx->stx_mode), err) < 0)
		return -1;
	archive_entry_set_mode(entry, (sx->stx_mode & S_IFMT) | mode);
	return 0;
}

/* ---- the target ---- */

int copy_look(struct copier *copier, const char *path, struct gt_error *err)
{
	struct stat st;
	if (path[0] == '\0' || gt_map_get(&copier->made, path))
		return 1;
	if (copier->lower < 0)
		return 0;
	char parent[FS_PATH_MAX];
	const char *base = fs_split(path, parent);
	AUTO_CLOSE int dir = fs_open(copier->lower, parent, O_PATH | O_DIRECTORY);
	if (dir < 0 || fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gt_fail_errno(err, errno, "look at /%.200s of the image", path);
	return S_ISDIR(st.st_mode) ? 1 : -1;
}

/* A directory of the layer that no source has. */
static int make_dir(struct copier *copier, const char *path, struct gt_error *err)
{
	struct statx sx = { .stx_mode = S_IFDIR | 0755, .stx_mtime.tv_sec = copier->now };
	fs_tar_fill(&copier->out, &sx, path);
	if (copier->uid >= 0)
		archive_entry_set_uid(copier->out.entry, copier->uid);
	if (copier->gid >= 0)
		archive_entry_set_gid(copier->out.entry, copier->gid);
	gt_map_set(&copier->made, path, copier);
	return copy_emit(copier, path, -1, err);
}

static int not_a_directory(const char *path, struct gt_error *err)
{
	if (err && err->kind != GT_OK)
		return -1;
	return gt_fail(err, GT_INVALID, "cannot copy to non-directory: /%.300s of the image is not a directory", path);
}

/* `path` itself too where `self`. */
static int make_dirs(struct copier *copier, const char *path, bool self, struct gt_error *err)
{
	AUTO_FREE char *part = gt_xstrdup(path);
	for (char *slash = strchr(part, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		else if (!self)
			return 0;
		int there = copy_look(copier, part, err);
		if (there < 0)
			return not_a_directory(part, err);
		if (there == 0 && make_dir(copier, part, err) < 0)
			return -1;
		if (!slash)
			return 0;
		*slash = '/';
	}
}

int copy_make_parents(struct copier *copier, const char *path, struct gt_error *err)
{
	return make_dirs(copier, path, false, err);
}

/* ---- trees ---- */

static bool left_out(const struct copier *copier, const char *path, const char *inner)
{
	if (copier->ignoring && ignore_matches(&copier->ignored, path))
		return true;
	return ignore_matches(&copier->exclude, path) || (inner[0] && ignore_matches(&copier->exclude, inner));
}

/* Something inside may be taken back by a later line. */
static bool look_inside(const struct copier *copier)
{
	return (copier->ignoring && copier->ignored.exceptions) || copier->exclude.exceptions;
}

static int copy_other(struct copier *copier, int dir, const char *base, const struct statx *sx, const char *to, struct gt_error *err)
{
	if (S_ISLNK(sx->stx_mode)) {
		char target[FS_PATH_MAX];
		ssize_t n = readlinkat(dir, base, target, sizeof target - 1);
		if (n < 0)
			return gt_fail_errno(err, errno, "read link %.200s", to);
		target[n] = '\0';
		archive_entry_set_symlink(copier->out.entry, target);
	}
	return copy_emit(copier, to, -1, err);
}

/* A file, link or device at dir/base; sx is its own, where follow is set that of what it leads to. */
static int copy_file(struct copier *copier, int dir, const char *base, const struct statx *sx, const char *to, struct gt_error *err)
{
	if (S_ISSOCK(sx->stx_mode))
		return 0;
	int there = copy_look(copier, to, err);
	if (there > 0)
		return gt_fail(err, GT_INVALID, "cannot copy to /%.300s: it is a directory of the image, and the source is not", to);
	if (there < 0 && err && err->kind != GT_OK)
		return -1;
	if (copy_make_parents(copier, to, err) < 0)
		return -1;
	fs_tar_fill(&copier->out, sx, to);
	if (adjust(copier, sx, err) < 0)
		return -1;
	if (!S_ISREG(sx->stx_mode))
		return copy_other(copier, dir, base, sx, to, err);
	AUTO_CLOSE int fd = gt_openat2(dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open %.200s", to);
	fs_tar_xattrs(&copier->out, fd);
	return copy_emit(copier, to, fd, err);
}

static int look_at(int dir, const char *base, struct statx *sx, const char *path, struct gt_error *err)
{
	if (statx(dir, base, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, sx) < 0)
		return gt_fail_errno(err, errno, "look at %.200s", path);
	return 0;
}

static int copy_tree(struct copier *copier, int fd, const char *path, const char *inner, const char *to, int depth, struct gt_error *err);

/* A directory's own entry, where the image has none. */
static int copy_dir_entry(struct copier *copier, int fd, const struct statx *sx, const char *to, struct gt_error *err)
{
	int there = copy_look(copier, to, err);
	if (there != 0)
		return there < 0 ? not_a_directory(to, err) : 0;
	if (copy_make_parents(copier, to, err) < 0)
		return -1;
	fs_tar_fill(&copier->out, sx, to);
	fs_tar_xattrs(&copier->out, fd);
	gt_map_set(&copier->made, to, copier);
	return adjust(copier, sx, err) < 0 ? -1 : copy_emit(copier, to, -1, err);
}

static int copy_child(struct copier *copier, int dir, const char *name, const char *path, const char *inner, const char *to, int depth,
		      struct gt_error *err)
{
	struct statx sx;
	bool out = left_out(copier, path, inner);
	if (look_at(dir, name, &sx, path, err) < 0)
		return -1;
	if (out && !(S_ISDIR(sx.stx_mode) && look_inside(copier)))
		return 0;
	if (!S_ISDIR(sx.stx_mode))
		return copy_file(copier, dir, name, &sx, to, err);
	AUTO_CLOSE int fd = gt_openat2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open directory %.200s", path);
	if (!out && copy_dir_entry(copier, fd, &sx, to, err) < 0)
		return -1;
	return copy_tree(copier, fd, path, inner, to, depth + 1, err);
}

/* What is in a directory. path: from the source's root, inner: from the directory that was named. */
static int copy_tree(struct copier *copier, int fd, const char *path, const char *inner, const char *to, int depth, struct gt_error *err)
{
	struct gt_strings names = { 0 };
	if (depth > FS_MAX_DEPTH)
		return gt_fail(err, GT_INVALID, "%.200s... is deeper than %d directories", path, FS_MAX_DEPTH);
	int rc = fs_list_names(fd, &names, err);
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		const char *name = names.items[i];
		AUTO_FREE char *child = gt_xasprintf("%s%s%s", path, path[0] ? "/" : "", name);
		AUTO_FREE char *below = gt_xasprintf("%s%s%s", inner, inner[0] ? "/" : "", name);
		AUTO_FREE char *target = gt_xasprintf("%s%s%s", to, to[0] ? "/" : "", name);
		rc = strlen(target) < FS_PATH_MAX ? copy_child(copier, fd, name, child, below, target, depth, err) :
						    gt_fail(err, GT_INVALID, "path \"%.60s...\" is longer than %d bytes", target, FS_PATH_MAX - 1);
	}
	gt_strings_free(&names);
	return rc;
}

/* ---- sources ---- */

/* Where a source of --parents goes: the part behind "/./", or all of it. */
static const char *kept_parents(const char *item, const char *match)
{
	const char *pivot = strstr(item, "/./");
	if (!pivot)
		return match;
	/* as many components are dropped as stand before the pivot */
	const char *rest = match;
	for (const char *p = item; p < pivot && rest;) {
		size_t part = strcspn(p, "/");
		if (part && !(part == 1 && *p == '.')) {
			const char *slash = strchr(rest, '/');
			rest = slash ? slash + 1 : "";
		}
		p += part + (p + part < pivot + 1);
	}
	return rest;
}

static int copy_named_dir(struct copier *copier, int fd, const struct statx *sx, const char *match, const char *kept, struct gt_error *err)
{
	AUTO_FREE char *to = copier->parents && kept[0] ? gt_xasprintf("%s%s%s", copier->dest, copier->dest[0] ? "/" : "", kept) :
							  gt_xstrdup(copier->dest);
	if (copier->parents && make_dirs(copier, copier->dest, true, err) < 0)
		return -1;
	/* a new target directory takes the source's mode and owner */
	if (to[0] && copy_dir_entry(copier, fd, sx, to, err) < 0)
		return -1;
	return copy_tree(copier, fd, match, "", to, 0, err);
}

static int copy_match(struct copier *copier, const char *item, const char *match, struct gt_error *err)
{
	char parent[FS_PATH_MAX];
	struct statx sx;
	const char *name = fs_split(match, parent), *kept = kept_parents(item, match);
	if (match[0] && left_out(copier, match, name) && !look_inside(copier))
		return 0;
	/* a source that is a link stands for what it leads to, inside the root */
	AUTO_FREE char *real = fs_resolve_text(copier->source, match);
	char real_parent[FS_PATH_MAX];
	const char *real_name = fs_split(real + 1, real_parent);
	AUTO_CLOSE int dir = fs_open(copier->source, real_parent, O_PATH | O_DIRECTORY);
	if (dir < 0 || look_at(dir, real_name, &sx, match, err) < 0)
		return dir < 0 ? gt_fail(err, GT_NOT_FOUND, "%.300s: not found in build context", match) : -1;
	if (S_ISDIR(sx.stx_mode)) {
		AUTO_CLOSE int fd = fs_open(copier->source, real + 1, O_RDONLY | O_DIRECTORY);
		return fd < 0 ? gt_fail_errno(err, errno, "open directory %.200s", match) : copy_named_dir(copier, fd, &sx, match, kept, err);
	}
	if (match[0] && left_out(copier, match, name))
		return 0;
	if (copier->unpack && S_ISREG(sx.stx_mode)) {
		AUTO_CLOSE int fd = openat(dir, real_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		int unpacked = fd < 0 ? gt_fail_errno(err, errno, "open %.200s", match) : copy_archive(copier, fd, err);
		if (unpacked != 0)
			return unpacked < 0 ? gt_context(err, "%.200s", match) : 0;
	}
	AUTO_FREE char *to = copier->parents      ? gt_xasprintf("%s%s%s", copier->dest, copier->dest[0] ? "/" : "", kept) :
			     copier->dest_is_dir ? gt_xasprintf("%s%s%s", copier->dest, copier->dest[0] ? "/" : "", name) :
						   gt_xstrdup(copier->dest);
	return copy_file(copier, dir, real_name, &sx, to, err);
}

static int match_below(struct copier *copier, const char *at, const char *rest, struct gt_strings *found, struct gt_error *err);

static int add_match(struct gt_strings *found, const char *path, struct gt_error *err)
{
	gt_strings_add(found, path);
	return found->count <= MAX_MATCHES ? 0 : gt_fail(err, GT_TOO_LARGE, "the pattern matches more than %d files", MAX_MATCHES);
}

/* "**" of --parents: no directory, or any number of them. rest: the pattern with it; next: what follows. */
static int match_depths(struct copier *copier, int dir, const char *at, const char *rest, const char *next, const struct gt_strings *names,
			struct gt_strings *found, struct gt_error *err)
{
	int rc = next[0] ? match_below(copier, at, next, found, err) : 0;
	for (size_t i = 0; rc == 0 && i < names->count; i++) {
		struct stat st;
		AUTO_FREE char *child = gt_xasprintf("%s%s%s", at, at[0] ? "/" : "", names->items[i]);
		if (fstatat(dir, names->items[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			rc = match_below(copier, child, rest, found, err);
		else if (!next[0])
			rc = add_match(found, child, err);
	}
	return rc;
}

/* Names below `at` (cleaned) that match the rest of a pattern, in order. */
static int match_below(struct copier *copier, const char *at, const char *rest, struct gt_strings *found, struct gt_error *err)
{
	size_t len = strcspn(rest, "/");
	AUTO_FREE char *part = gt_xstrndup(rest, len);
	const char *next = rest[len] ? rest + len + 1 : "";
	AUTO_CLOSE int dir = fs_open(copier->source, at, O_RDONLY | O_DIRECTORY);
	struct gt_strings names = { 0 };
	if (dir < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gt_fail_errno(err, errno, "open directory %.200s", at);
	int rc = fs_list_names(dir, &names, err);
	bool depths = copier->parents && strcmp(part, "**") == 0;
	if (rc == 0 && depths)
		rc = match_depths(copier, dir, at, rest, next, &names, found, err);
	for (size_t i = 0; rc == 0 && !depths && i < names.count; i++) {
		if (fnmatch(part, names.items[i], FNM_PATHNAME) != 0)
			continue;
		AUTO_FREE char *child = gt_xasprintf("%s%s%s", at, at[0] ? "/" : "", names.items[i]);
		rc = next[0] ? match_below(copier, child, next, found, err) : add_match(found, child, err);
	}
	gt_strings_free(&names);
	return rc;
}

static int not_found(const char *item, struct gt_error *err)
{
	return gt_fail(err, GT_NOT_FOUND, "file not found in build context or excluded by .dockerignore: stat %.300s: file does not exist", item);
}

/* Whether a source's name leads anywhere that is not left out. */
static bool there(const struct copier *copier, const char *clean)
{
	AUTO_CLOSE int fd = fs_open(copier->source, clean, O_PATH);
	return fd >= 0 && !(copier->ignoring && clean[0] && ignore_matches(&copier->ignored, clean) && !copier->ignored.exceptions);
}

static int find_matches(struct copier *copier, const char *item, struct gt_strings *found, struct gt_error *err)
{
	AUTO_FREE char *clean = fs_clean_path(item, true, err);
	if (!clean)
		return -1;
	if (there(copier, clean)) {
		gt_strings_add(found, clean);
		return 0;
	}
	if (strpbrk(clean, "*?[\\") && match_below(copier, "", clean, found, err) < 0)
		return -1;
	return found->count ? 0 : not_found(item, err);
}

/* item: [name, index of its source]. */
static int take_source(struct copier *copier, const json_t *item, const char **name, struct gt_error *err)
{
	json_int_t index = json_integer_value(json_array_get(item, 1));
	*name = json_string_value(json_array_get(item, 0));
	if (!*name || index < 0 || index >= COPY_MAX_SOURCES || copier->sources[index] < 0)
		return gt_fail(err, GT_INVALID, "the job's list of sources makes no sense");
	copier->source = copier->sources[index];
	copier->ignoring = index == 0;
	return 0;
}

static int copy_all(struct copier *copier, const json_t *items, struct gt_error *err)
{
	struct gt_strings *found = gt_xcalloc(json_array_size(items) + 1, sizeof *found);
	const char *name = NULL;
	size_t total = 0;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < json_array_size(items); i++) {
		rc = take_source(copier, json_array_get(items, i), &name, err);
		if (rc == 0)
			rc = find_matches(copier, name, &found[i], err);
		total += found[i].count;
	}
	if (rc == 0 && total > 1 && !copier->dest_is_dir)
		rc = gt_fail(err, GT_INVALID, "When using COPY or ADD with more than one source file, the destination must be a directory and end with a /");
	for (size_t i = 0; i < json_array_size(items); i++) {
		if (rc == 0)
			rc = take_source(copier, json_array_get(items, i), &name, err);
		for (size_t k = 0; rc == 0 && k < found[i].count; k++)
			rc = copy_match(copier, name, found[i].items[k], err);
		gt_strings_free(&found[i]);
	}
	free(found);
	return rc;
}

/* ---- the job ---- */

static int open_root(const json_t *spec, int *fd, struct gt_error *err)
{
	const char *dir = "";
	if (!spec)
		return 0;
	if (gt_json_string(spec, "dir", &dir, err) < 0)
		return -1;
	if (dir[0]) {
		*fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		return *fd >= 0 ? 0 : gt_fail_sys(err, GT_INTERNAL, errno, "open %s", dir);
	}
	*fd = fs_mount(spec, err);
	return *fd >= 0 ? 0 : gt_context(err, "mount the image");
}

static int open_sources(const json_t *request, struct copier *copier, struct gt_error *err)
{
	json_t *list = NULL;
	if (gt_json_array(request, "sources", &list, err) < 0)
		return -1;
	if (json_array_size(list) > COPY_MAX_SOURCES)
		return gt_fail(err, GT_TOO_LARGE, "more than %d sources", COPY_MAX_SOURCES);
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (open_root(json_array_get(list, i), &copier->sources[i], err) < 0)
			return -1;
	}
	return 0;
}

static int read_patterns(const json_t *request, const char *name, struct ignore *ignore, struct gt_error *err)
{
	json_t *list = NULL;
	if (gt_json_array(request, name, &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *line = json_string_value(json_array_get(list, i));
		if (line)
			ignore_add(ignore, line);
	}
	return 0;
}

static int place_target(struct copier *copier, const char *dest, bool link, struct gt_error *err)
{
	AUTO_FREE char *clean = fs_clean_path(dest, true, err);
	if (!clean)
		return -1;
	if (link && copier->lower >= 0)
		close(take_fd(copier->lower)); /* it was there for names of owners alone */
	AUTO_FREE char *real = copier->lower >= 0 ? fs_resolve_text(copier->lower, clean) : NULL;
	copier->dest = gt_xstrdup(real ? real + 1 : clean);
	AUTO_CLOSE int there_fd = copier->lower >= 0 ? fs_open(copier->lower, copier->dest, O_PATH | O_DIRECTORY) : -1;
	copier->dest_is_dir |= there_fd >= 0 || !copier->dest[0];
	return 0;
}

static int read_known(const json_t *request, struct copier *copier, struct gt_error *err)
{
	const char *path = "";
	if (gt_json_string(request, "known", &path, err) < 0)
		return -1;
	return copier->hash ? copy_known_read(copier, path, err) : 0;
}

static int read_request(const json_t *request, struct copier *copier, const char **chown, const char **dest, bool *link, struct gt_error *err)
{
	if (gt_json_string(request, "chown", chown, err) < 0 || gt_json_string(request, "chmod", &copier->chmod, err) < 0 ||
	    gt_json_string(request, "dest", dest, err) < 0 || gt_json_bool(request, "dest_is_dir", &copier->dest_is_dir, err) < 0 ||
	    gt_json_bool(request, "hash", &copier->hash, err) < 0 || gt_json_bool(request, "parents", &copier->parents, err) < 0 ||
	    gt_json_bool(request, "unpack", &copier->unpack, err) < 0 || gt_json_bool(request, "link", link, err) < 0 ||
	    gt_json_int(request, "uid", &copier->uid, err) < 0 || gt_json_int(request, "gid", &copier->gid, err) < 0 ||
	    gt_json_int(request, "now", &copier->now, err) < 0 || gt_json_int(request, "clamp", &copier->out.clamp, err) < 0 ||
	    read_patterns(request, "exclude", &copier->exclude, err) < 0 || read_patterns(request, "ignore", &copier->ignored, err) < 0)
		return -1;
	return 0;
}

static int prepare(const json_t *request, struct copier *copier, struct gt_error *err)
{
	const char *chown = "", *dest = "/";
	bool link = false;
	mode_t mode = 0;
	int64_t clamp = INT64_MAX;
	if (fs_tar_open(&copier->out, err) < 0 || read_request(request, copier, &chown, &dest, &link, err) < 0)
		return -1;
	clamp = copier->out.clamp;
	copier->now = copier->now < clamp ? copier->now : clamp;
	if (copier->chmod[0] && fs_mode_apply(copier->chmod, &mode, false, err) < 0)
		return -1;
	if (read_known(request, copier, err) < 0 || fs_private_namespace(err) < 0 || open_sources(request, copier, err) < 0 ||
	    open_root(json_object_get(request, "lower"), &copier->lower, err) < 0 || fs_drop_privileges(false, err) < 0)
		return -1;
	copier->owner_given = chown[0] != '\0';
	if (chown[0] && fs_owner_read(copier->lower, chown, &copier->uid, &copier->gid, err) < 0)
		return -1;
	return place_target(copier, dest, link, err);
}

static void put_digest(struct copier *copier, json_t *reply)
{
	uint8_t raw[SHA256_DIGEST_SIZE];
	char hex[2 * SHA256_DIGEST_SIZE + 1];
	sha256_digest(&copier->digest, sizeof raw, raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
	json_object_set_new(reply, "digest", json_string(hex));
}

int fs_job_copy(const json_t *request, json_t *reply, struct gt_error *err)
{
	struct copier copier = { .source = -1, .lower = -1, .uid = -1, .gid = -1, .chmod = "" };
	json_t *items = NULL;
	sha256_init(&copier.digest);
	for (size_t i = 0; i < COPY_MAX_SOURCES; i++)
		copier.sources[i] = -1;
	int rc = gt_json_array(request, "items", &items, err);
	if (rc == 0)
		rc = prepare(request, &copier, err);
	if (rc == 0 && json_array_size(items) == 0) /* WORKDIR */
		rc = make_dirs(&copier, copier.dest, copier.dest[0] != '\0', err);
	else if (rc == 0)
		rc = copy_all(&copier, items, err);
	if (rc == 0 && !copier.hash)
		rc = fs_tar_close(&copier.out, err);
	json_object_set_new(reply, "count", json_integer(copier.count));
	if (rc == 0 && copier.hash)
		put_digest(&copier, reply);
	if (copier.out.archive)
		fs_tar_free(&copier.out);
	gt_map_free(&copier.made);
	gt_buf_free(&copier.known);
	ignore_free(&copier.exclude);
	ignore_free(&copier.ignored);
	free(copier.dest);
	return rc;
}
