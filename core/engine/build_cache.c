/*
 * build_cache.c - the build cache as users see it: images of steps, and directories of RUN --mount=type=cache.
 *
 * A directory that a build uses is locked (build/mounts.c): it stays.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/internal.h"

#define MAX_DEPTH 256

/* Bytes of files below a directory. */
static int64_t tree_size(int at, const char *name, int depth)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	int64_t sum = 0;
	struct stat st;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			sum += depth < MAX_DEPTH ? tree_size(fd, e->d_name, depth + 1) : 0;
		else
			sum += st.st_size;
	}
	closedir(dir);
	return sum;
}

/* Calls fn for each cache directory. */
static void each_cache(struct gt_engine *engine, void (*fn)(void *arg, int dir, const char *name, const struct stat *st), void *arg)
{
	const struct gt_config *config = atomic_load(&engine->config);
	AUTO_FREE char *path = gt_xasprintf("%s/builds/cache", config->root);
	struct gt_strings names = { 0 };
	DIR *dir = opendir(path);
	struct stat st;
	if (!dir)
		return;
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (gt_is_hex(e->d_name, strcspn(e->d_name, "-.")) && strcspn(e->d_name, "-.") == 64)
			gt_strings_add(&names, e->d_name);
	}
	for (size_t i = 0; i < names.count; i++) {
		if (fstatat(dirfd(dir), names.items[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
			fn(arg, dirfd(dir), names.items[i], &st);
	}
	gt_strings_free(&names);
	closedir(dir);
}

/* -1 where a build uses it. */
static int lock_cache(int dir, const char *name)
{
	AUTO_FREE char *lock = gt_xasprintf("%s.lock", name);
	AUTO_CLOSE int fd = openat(dir, lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? take_fd(fd) : -1;
}

static void add_usage(void *arg, int dir, const char *name, const struct stat *st)
{
	char used[36];
	AUTO_CLOSE int lock = lock_cache(dir, name);
	gt_time_format((int64_t)st->st_mtim.tv_sec * GT_SECOND, used);
	json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:s, s:s, s:i}", "ID", name, "Parent", "", "Type", "exec.cachemount",
					     "Description", "RUN --mount=type=cache", "InUse", (int)(lock < 0), "Shared", 0, "Size",
					     (json_int_t)tree_size(dir, name, 0), "CreatedAt", used, "LastUsedAt", used, "UsageCount", 1));
}

json_t *gt_engine_build_usage(struct gt_engine *engine)
{
	json_t *list = gt_image_steps_usage(engine->images);
	each_cache(engine, add_usage, list);
	return list;
}

/* ---- prune ---- */

struct pruning {
	json_t *removed;
	int64_t bytes, older;
};

static void prune_cache(void *arg, int dir, const char *name, const struct stat *st)
{
	struct pruning *pruning = arg;
	struct gt_error err = { 0 };
	AUTO_CLOSE int lock = lock_cache(dir, name);
	if (lock < 0 || (int64_t)st->st_mtim.tv_sec * GT_SECOND > pruning->older)
		return;
	int64_t size = tree_size(dir, name, 0);
	if (gt_remove_tree(dir, name, &err) < 0) {
		gt_warn("a cache of builds could not be removed", "name", name, "error", err.message);
		return;
	}
	AUTO_FREE char *file = gt_xasprintf("%s.lock", name);
	unlinkat(dir, file, 0);
	pruning->bytes += size;
	json_array_append_new(pruning->removed, json_string(name));
}

static int read_until(const json_t *filters, int64_t *older, struct gt_error *err)
{
	static const char *const known[] = { "until", "unused-for", NULL };
	if (gt_filter_check(filters, known, err) < 0)
		return -1;
	*older = INT64_MAX;
	for (size_t i = 0; known[i]; i++) {
		const char *text = json_string_value(json_array_get(json_object_get(filters, known[i]), 0));
		if (text && gt_time_parse(text, older, err) < 0)
			return -1;
	}
	return 0;
}

json_t *gt_engine_build_prune(struct gt_engine *engine, bool all, int64_t keep, const json_t *filters, struct gt_error *err)
{
	struct pruning pruning = { 0 };
	if (read_until(filters, &pruning.older, err) < 0)
		return NULL;
	pruning.removed = gt_image_steps_prune(engine->images, pruning.older, keep, &pruning.bytes, err);
	if (!pruning.removed)
		return NULL;
	if (all) /* what commands have gathered is dear: it goes when asked for alone */
		each_cache(engine, prune_cache, &pruning);
	return json_pack("{s:o, s:I}", "CachesDeleted", pruning.removed, "SpaceReclaimed", (json_int_t)pruning.bytes);
}
