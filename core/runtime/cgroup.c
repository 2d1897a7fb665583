/*
 * cgroup.c - one container's directories in the hierarchies: made, entered, frozen, killed, removed.
 *
 * Which directories: with v2 one. With v1 those whose figures or limits every container has (memory, cpuacct, pids, devices, blkio), with those that are mounted
 * together with them; cpu, cpuset and hugetlb when a limit asks for them, at creation or later. In a hybrid world the v2 hierarchy is there beside them: it
 * starts, freezes and kills cheaply, so v1's freezer is made where there is no v2 alone.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"

#define MAX_DEPTH 16
#define MAX_PIDS (1u << 20)
#define FREEZE_MS 10000
#define REMOVE_MS 3000

/* ---- paths and directories ---- */

static int check_path(const char *path, struct gt_error *err)
{
	if (path[0] != '/' || strlen(path) > 1024 || strstr(path, "//") || strstr(path, "/../") || strstr(path, "/./") || !path[1])
		return gt_fail(err, GT_INVALID, "the cgroup path %.255s is not an absolute, clean path", path);
	const char *last = strrchr(path, '/');
	if (!last[1] || strcmp(last, "/..") == 0 || strcmp(last, "/.") == 0)
		return gt_fail(err, GT_INVALID, "the cgroup path %.255s does not end in a name", path);
	return 0;
}

static struct gt_cgroup *cgroup_new(const char *path)
{
	struct gt_cgroup *cgroup = gt_xcalloc(1, sizeof *cgroup);
	cgroup->path = gt_xstrdup(path);
	for (int i = 0; i < HIERARCHIES; i++)
		cgroup->dir[i] = -1;
	return cgroup;
}

static void forget_undo(struct gt_cgroup *cgroup)
{
	while (cgroup->undo) {
		struct cgroup_undo *undo = cgroup->undo;
		cgroup->undo = undo->next;
		free(undo->file);
		free(undo->before);
		free(undo);
	}
}

void gt_cgroup_free(struct gt_cgroup *cgroup)
{
	if (!cgroup)
		return;
	for (int i = 0; i < HIERARCHIES; i++) {
		if (cgroup->dir[i] >= 0)
			close(cgroup->dir[i]);
	}
	forget_undo(cgroup);
	free(cgroup->path);
	free(cgroup);
}

/* A new directory of v1's cpuset holds nothing: it gets what its parent has. */
static void inherit_cpuset(int parent, int dir)
{
	static const char *const FILES[] = { "cpuset.cpus", "cpuset.mems" };
	for (size_t i = 0; i < GT_COUNT(FILES); i++) {
		AUTO_BUF struct gt_buf mine = { 0 }, theirs = { 0 };
		if (gt_read_file(dir, FILES[i], 65536, &mine, NULL) == 0 && mine.len <= 1 &&
		    gt_read_file(parent, FILES[i], 65536, &theirs, NULL) == 0 && theirs.len > 1)
			gt_write_control(dir, FILES[i], theirs.data, NULL);
	}
}

/* v2: lets the children of a directory have every controller that it has itself. Those the kernel refuses are missed later, by name. */
static void enable_controllers(int dir)
{
	AUTO_BUF struct gt_buf have = { 0 };
	if (gt_read_file(dir, "cgroup.controllers", 4096, &have, NULL) < 0 || !have.data)
		return;
	char *rest = have.data;
	for (char *word; (word = strsep(&rest, " \n")) != NULL;) {
		char text[64];
		if (*word && strlen(word) < 60) {
			snprintf(text, sizeof text, "+%s", word);
			gt_write_control(dir, "cgroup.subtree_control", text, NULL);
		}
	}
}

/* Opens the directory of `path` in a hierarchy; make: with its parents, where missing. Returns the fd, or -1 with errno. *made: the last one was. */
static int open_dir(enum hierarchy hierarchy, const char *path, bool make, bool *made)
{
	const struct world *world = cgroup_world();
	*made = false;
	AUTO_FREE char *whole = gt_xasprintf("%s%s", world->mount[hierarchy], path);
	int fd = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT || !make)
		return fd;
	AUTO_CLOSE int parent = open(world->mount[hierarchy], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *rest = whole + strlen(world->mount[hierarchy]) + 1;
	for (char *name; parent >= 0 && (name = strsep(&rest, "/")) != NULL;) {
		if (hierarchy == UNIFIED && world->kind == GT_CGROUP_V2)
			enable_controllers(parent);
		*made = mkdirat(parent, name, 0755) == 0;
		if (!*made && errno != EEXIST)
			return -1;
		int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			return -1;
		if (hierarchy == CPUSET)
			inherit_cpuset(parent, dir);
		close(parent);
		parent = dir;
	}
	return take_fd(parent);
}

/* Controllers mounted together are one directory. */
static enum hierarchy twin(enum hierarchy hierarchy)
{
	const struct world *world = cgroup_world();
	for (int i = MEMORY; i < (int)hierarchy; i++) {
		if (world->mount[i] && strcmp(world->mount[i], world->mount[hierarchy]) == 0)
			return (enum hierarchy)i;
	}
	return hierarchy;
}

static int enter_hierarchy(struct gt_cgroup *cgroup, enum hierarchy hierarchy, bool make, struct gt_error *err)
{
	bool made;
	int fd = open_dir(hierarchy, cgroup->path, make, &made);
	if (fd < 0 && errno == ENOENT && !make)
		return 0;
	if (fd < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "%s the cgroup %s%s", make ? "make" : "open", cgroup_world()->mount[hierarchy], cgroup->path);
	cgroup->dir[hierarchy] = fd;
	cgroup->made[hierarchy] = made && twin(hierarchy) == hierarchy;
	return 0;
}

int cgroup_need(struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *resource, struct gt_error *err)
{
	const struct world *world = cgroup_world();
	if (cgroup->dir[hierarchy] >= 0)
		return 0;
	if (!world->mount[hierarchy])
		return gt_fail(err, GT_UNSUPPORTED, "this host has no %s controller: its limits cannot be set", resource);
	AUTO_FREE pid_t *pids = NULL;
	size_t count = 0;
	gt_cgroup_procs(cgroup, &pids, &count, NULL);
	if (enter_hierarchy(cgroup, hierarchy, true, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		char text[16];
		snprintf(text, sizeof text, "%d", pids[i]);
		if (gt_write_control(cgroup->dir[hierarchy], "cgroup.procs", text, err) < 0 && err && err->errnum != ESRCH)
			return gt_context(err, "move process %d", pids[i]);
	}
	return 0;
}

/* Takes back what create has made. */
static void unmake(struct gt_cgroup *cgroup)
{
	for (int i = 0; i < HIERARCHIES; i++) {
		if (!cgroup->made[i])
			continue;
		AUTO_FREE char *path = gt_xasprintf("%s%s", cgroup_world()->mount[i], cgroup->path);
		rmdir(path);
	}
}

int gt_cgroup_create(const char *path, const json_t *resources, struct gt_cgroup **out, struct gt_error *err)
{
	static const enum hierarchy ALWAYS[] = { UNIFIED, MEMORY, CPUACCT, PIDS, DEVICES, BLKIO };
	const struct world *world = cgroup_world();
	if (check_path(path, err) < 0)
		return -1;
	struct gt_cgroup *cgroup = cgroup_new(path);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < GT_COUNT(ALWAYS); i++) {
		if (world->mount[ALWAYS[i]])
			rc = enter_hierarchy(cgroup, ALWAYS[i], true, err);
	}
	if (rc == 0 && !world->mount[UNIFIED] && world->mount[FREEZER])
		rc = enter_hierarchy(cgroup, FREEZER, true, err);
	if (rc == 0 && resources)
		rc = world->kind == GT_CGROUP_V2 ? cgroup_v2_apply(cgroup, resources, err) : cgroup_v1_apply(cgroup, resources, err);
	if (rc < 0) {
		unmake(cgroup);
		gt_cgroup_free(cgroup);
		return -1;
	}
	*out = cgroup;
	return 0;
}

int gt_cgroup_open(const char *path, struct gt_cgroup **out, struct gt_error *err)
{
	bool found = false;
	if (check_path(path, err) < 0)
		return -1;
	struct gt_cgroup *cgroup = cgroup_new(path);
	for (int i = 0; i < HIERARCHIES; i++) {
		if (cgroup_world()->mount[i] && enter_hierarchy(cgroup, (enum hierarchy)i, false, err) < 0) {
			gt_cgroup_free(cgroup);
			return -1;
		}
		found = found || cgroup->dir[i] >= 0;
	}
	if (!found) {
		gt_cgroup_free(cgroup);
		return gt_fail(err, GT_NOT_FOUND, "there is no cgroup %s", path);
	}
	*out = cgroup;
	return 0;
}

/* ---- control files ---- */

bool cgroup_file(const struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *file)
{
	return cgroup->dir[hierarchy] >= 0 && faccessat(cgroup->dir[hierarchy], file, F_OK, 0) == 0;
}

int cgroup_set(struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *file, const char *text, struct gt_error *err)
{
	if (cgroup->journal) {
		AUTO_BUF struct gt_buf before = { 0 };
		if (gt_read_file(cgroup->dir[hierarchy], file, 65536, &before, NULL) == 0 && before.len) {
			struct cgroup_undo *undo = gt_xcalloc(1, sizeof *undo);
			*undo = (struct cgroup_undo){ .next = cgroup->undo, .hierarchy = hierarchy, .file = gt_xstrdup(file),
						      .before = gt_buf_take(&before) };
			undo->before[strcspn(undo->before, "\n")] = '\0';
			cgroup->undo = undo;
		}
	}
	if (gt_write_control(cgroup->dir[hierarchy], file, text, err) == 0)
		return 0;
	if (err && err->errnum == ENOENT)
		return gt_fail(err, GT_UNSUPPORTED, "this host cannot set %s: its kernel has no such control", file);
	if (err)
		err->kind = err->errnum == EINVAL || err->errnum == ERANGE || err->errnum == ENODEV ? GT_INVALID : GT_INTERNAL;
	return gt_context(err, "set the limit %s to %s", file, text);
}

int cgroup_set_number(struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *file, int64_t value, struct gt_error *err)
{
	char text[32];
	snprintf(text, sizeof text, "%lld", (long long)value);
	return cgroup_set(cgroup, hierarchy, file, text, err);
}

int cgroup_each_device(const json_t *list, const char *value_name, int (*fn)(void *arg, int64_t major, int64_t minor, int64_t value, struct gt_error *err),
		       void *arg, struct gt_error *err)
{
	size_t i;
	json_t *entry;
	json_array_foreach(list, i, entry) {
		int64_t major = 0, minor = 0, value = 0;
		if (gt_json_int(entry, "major", &major, err) < 0 || gt_json_int(entry, "minor", &minor, err) < 0 ||
		    gt_json_int(entry, value_name, &value, err) < 0 || fn(arg, major, minor, value, err) < 0)
			return -1;
	}
	return 0;
}

int gt_cgroup_update(struct gt_cgroup *cgroup, const json_t *resources, struct gt_error *err)
{
	cgroup->journal = true;
	int rc = cgroup_world()->kind == GT_CGROUP_V2 ? cgroup_v2_apply(cgroup, resources, err) : cgroup_v1_apply(cgroup, resources, err);
	for (struct cgroup_undo *undo = rc < 0 ? cgroup->undo : NULL; undo; undo = undo->next)
		gt_write_control(cgroup->dir[undo->hierarchy], undo->file, undo->before, NULL);
	forget_undo(cgroup);
	cgroup->journal = false;
	return rc;
}

/* ---- processes ---- */

int gt_cgroup_clone_fd(const struct gt_cgroup *cgroup)
{
	return cgroup->dir[UNIFIED];
}

int gt_cgroup_open_below(const struct gt_cgroup *cgroup, pid_t pid)
{
	AUTO_BUF struct gt_buf text = { 0 };
	char file[32];
	snprintf(file, sizeof file, "/proc/%d/cgroup", pid);
	if (cgroup->dir[UNIFIED] < 0 || gt_read_file(AT_FDCWD, file, 65536, &text, NULL) < 0 || !text.data)
		return -1;
	/* names of sub-cgroups are the container's: they are looked up below the cgroup, whatever they are */
	char *rest = text.data, *path = NULL;
	for (char *line; !path && (line = strsep(&rest, "\n")) != NULL;)
		path = strncmp(line, "0::", 3) == 0 ? line + 3 : NULL;
	size_t len = strlen(cgroup->path);
	if (!path || strncmp(path, cgroup->path, len) != 0 || (path[len] && path[len] != '/'))
		return -1;
	return path[len] ? gt_openat2(cgroup->dir[UNIFIED], path + len + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_BENEATH) :
			   openat(cgroup->dir[UNIFIED], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int gt_cgroup_join_self(const struct gt_cgroup *cgroup)
{
	for (int i = MEMORY; i < HIERARCHIES; i++) {
		if (cgroup->dir[i] < 0)
			continue;
		int fd = openat(cgroup->dir[i], "tasks", O_WRONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : write(fd, "0", 1);
		int errnum = errno;
		if (fd >= 0)
			close(fd);
		if (n != 1)
			return -errnum;
	}
	return 0;
}

int gt_cgroup_join(struct gt_cgroup *cgroup, pid_t pid, struct gt_error *err)
{
	char text[16];
	snprintf(text, sizeof text, "%d", pid);
	for (int i = 0; i < HIERARCHIES; i++) {
		if (cgroup->dir[i] >= 0 && gt_write_control(cgroup->dir[i], "cgroup.procs", text, err) < 0)
			return gt_context(err, "put process %d into the cgroup %s", pid, cgroup->path);
	}
	return 0;
}

struct pid_list {
	pid_t *pids;
	size_t count, room;
};

static int add_pids(int dir, struct pid_list *list, int depth, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(dir, "cgroup.procs", 16 << 20, &text, err) < 0)
		return -1;
	char *rest = text.data;
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		pid_t pid = (pid_t)strtol(line, NULL, 10);
		if (pid <= 0 || list->count >= MAX_PIDS)
			continue;
		if (list->count == list->room) {
			list->room = list->room ? list->room * 2 : 32;
			list->pids = gt_xrealloc(list->pids, list->room * sizeof *list->pids);
		}
		list->pids[list->count++] = pid;
	}
	int copy = depth < MAX_DEPTH ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
	if (!stream)
		return 0;
	for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		AUTO_CLOSE int child = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (child >= 0)
			add_pids(child, list, depth + 1, NULL);
	}
	closedir(stream);
	return 0;
}

/* Any hierarchy knows all processes. */
static int any_dir(const struct gt_cgroup *cgroup)
{
	for (int i = 0; i < HIERARCHIES; i++) {
		if (cgroup->dir[i] >= 0)
			return cgroup->dir[i];
	}
	return -1;
}

int gt_cgroup_procs(struct gt_cgroup *cgroup, pid_t **pids, size_t *count, struct gt_error *err)
{
	struct pid_list list = { 0 };
	if (add_pids(any_dir(cgroup), &list, 0, err) < 0) {
		free(list.pids);
		return -1;
	}
	*pids = list.pids;
	*count = list.count;
	return 0;
}

bool gt_cgroup_empty(struct gt_cgroup *cgroup)
{
	if (cgroup->dir[UNIFIED] >= 0)
		return cgroup_keyed(cgroup->dir[UNIFIED], "cgroup.events", "populated", 0) == 0;
	AUTO_FREE pid_t *pids = NULL;
	size_t count = 0;
	return gt_cgroup_procs(cgroup, &pids, &count, NULL) < 0 || count == 0;
}

static void nap(int *ms)
{
	struct timespec pause = { .tv_nsec = *ms * 1000000L };
	nanosleep(&pause, NULL);
	*ms = *ms < 32 ? *ms * 2 : 50;
}

/* ---- freeze and kill ---- */

static int freeze_v1(struct gt_cgroup *cgroup, bool frozen, struct gt_error *err)
{
	const char *word = frozen ? "FROZEN" : "THAWED";
	for (int ms = 1, waited = 0; waited < FREEZE_MS; waited += ms, nap(&ms)) {
		AUTO_BUF struct gt_buf state = { 0 };
		if (gt_write_control(cgroup->dir[FREEZER], "freezer.state", word, err) < 0 ||
		    gt_read_file(cgroup->dir[FREEZER], "freezer.state", 64, &state, err) < 0)
			return -1;
		if (strncmp(state.data, word, strlen(word)) == 0)
			return 0;
	}
	gt_write_control(cgroup->dir[FREEZER], "freezer.state", "THAWED", NULL);
	return gt_fail(err, GT_TIMEOUT, "the cgroup %s did not become %s within %d s", cgroup->path, word, FREEZE_MS / 1000);
}

static int freeze_v2(struct gt_cgroup *cgroup, bool frozen, struct gt_error *err)
{
	if (gt_write_control(cgroup->dir[UNIFIED], "cgroup.freeze", frozen ? "1" : "0", err) < 0)
		return -1;
	for (int ms = 1, waited = 0; waited < FREEZE_MS; waited += ms, nap(&ms)) {
		if (cgroup_keyed(cgroup->dir[UNIFIED], "cgroup.events", "frozen", 0) == (frozen ? 1 : 0))
			return 0;
	}
	gt_write_control(cgroup->dir[UNIFIED], "cgroup.freeze", "0", NULL);
	return gt_fail(err, GT_TIMEOUT, "the cgroup %s did not freeze within %d s", cgroup->path, FREEZE_MS / 1000);
}

static int set_frozen(struct gt_cgroup *cgroup, bool frozen, struct gt_error *err)
{
	if (cgroup->dir[UNIFIED] >= 0)
		return freeze_v2(cgroup, frozen, err);
	if (cgroup->dir[FREEZER] >= 0)
		return freeze_v1(cgroup, frozen, err);
	return gt_fail(err, GT_UNSUPPORTED, "this host has no freezer: containers cannot be paused");
}

int gt_cgroup_freeze(struct gt_cgroup *cgroup, struct gt_error *err)
{
	return set_frozen(cgroup, true, err);
}

int gt_cgroup_thaw(struct gt_cgroup *cgroup, struct gt_error *err)
{
	return set_frozen(cgroup, false, err);
}

static void kill_each(struct gt_cgroup *cgroup)
{
	AUTO_FREE pid_t *pids = NULL;
	size_t count = 0;
	gt_cgroup_procs(cgroup, &pids, &count, NULL);
	for (size_t i = 0; i < count; i++)
		kill(pids[i], SIGKILL);
	if (cgroup->dir[FREEZER] >= 0)
		gt_write_control(cgroup->dir[FREEZER], "freezer.state", "THAWED", NULL);
}

int gt_cgroup_kill(struct gt_cgroup *cgroup, int timeout_ms, struct gt_error *err)
{
	for (int ms = 1, waited = 0;; waited += ms, nap(&ms)) {
		if (gt_cgroup_empty(cgroup))
			return 0;
		if (waited >= timeout_ms)
			return gt_fail(err, GT_TIMEOUT, "processes in the cgroup %s did not die within %d ms", cgroup->path, timeout_ms);
		if (cgroup->dir[UNIFIED] < 0 || gt_write_control(cgroup->dir[UNIFIED], "cgroup.kill", "1", NULL) < 0)
			kill_each(cgroup);
	}
}

/* ---- out of memory ---- */

static int oom_fd_v1(struct gt_cgroup *cgroup)
{
	AUTO_CLOSE int control = openat(cgroup->dir[MEMORY], "memory.oom_control", O_RDONLY | O_CLOEXEC);
	AUTO_CLOSE int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	char text[32];
	snprintf(text, sizeof text, "%d %d", event, control);
	if (control < 0 || event < 0 || gt_write_control(cgroup->dir[MEMORY], "cgroup.event_control", text, NULL) < 0)
		return -1;
	return take_fd(event);
}

int gt_cgroup_oom_fd(struct gt_cgroup *cgroup)
{
	if (cgroup->dir[MEMORY] >= 0)
		return oom_fd_v1(cgroup);
	if (!cgroup_file(cgroup, UNIFIED, "memory.events"))
		return -1;
	AUTO_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[64];
	AUTO_CLOSE int file = openat(cgroup->dir[UNIFIED], "memory.events", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	if (fd < 0 || file < 0 || inotify_add_watch(fd, path, IN_MODIFY) < 0)
		return -1;
	return take_fd(fd);
}

int64_t gt_cgroup_oom_kills(struct gt_cgroup *cgroup)
{
	uint64_t kills = UINT64_MAX;
	if (cgroup->dir[MEMORY] >= 0)
		kills = cgroup_keyed(cgroup->dir[MEMORY], "memory.oom_control", "oom_kill", UINT64_MAX);
	else if (cgroup->dir[UNIFIED] >= 0)
		kills = cgroup_keyed(cgroup->dir[UNIFIED], "memory.events", "oom_kill", UINT64_MAX);
	return kills == UINT64_MAX ? -1 : (int64_t)kills;
}

/* ---- figures ---- */

uint64_t cgroup_keyed(int dir, const char *file, const char *key, uint64_t fallback)
{
	AUTO_BUF struct gt_buf text = { 0 };
	size_t len = strlen(key);
	if (gt_read_file(dir, file, 1 << 20, &text, NULL) < 0)
		return fallback;
	char *rest = text.data;
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return strtoull(line + len + 1, NULL, 10);
	}
	return fallback;
}

json_t *cgroup_flat_stat(int dir, const char *file)
{
	AUTO_BUF struct gt_buf text = { 0 };
	json_t *stat = json_object();
	if (gt_read_file(dir, file, 1 << 20, &text, NULL) < 0)
		return stat;
	char *rest = text.data;
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		char *space = strchr(line, ' ');
		if (!space)
			continue;
		*space = '\0';
		uint64_t value = strtoull(space + 1, NULL, 10);
		json_object_set_new(stat, line, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
	}
	return stat;
}

int gt_cgroup_stats(struct gt_cgroup *cgroup, struct gt_cgroup_stats *stats, struct gt_error *err)
{
	*stats = (struct gt_cgroup_stats){ .memory_limit = UINT64_MAX };
	return cgroup_world()->kind == GT_CGROUP_V2 ? cgroup_v2_stats(cgroup, stats, err) : cgroup_v1_stats(cgroup, stats, err);
}

void gt_cgroup_stats_release(struct gt_cgroup_stats *stats)
{
	json_decref(stats->memory_stat);
	free(stats->cpu_percpu);
	free(stats->io_bytes);
	free(stats->io_ops);
	*stats = (struct gt_cgroup_stats){ 0 };
}

/* ---- removal ---- */

/* Directories below, deepest first. */
static void remove_below(int dir, int depth)
{
	int copy = depth < MAX_DEPTH ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
	if (!stream)
		return;
	for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		AUTO_CLOSE int child = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (child >= 0)
			remove_below(child, depth + 1);
		unlinkat(dir, entry->d_name, AT_REMOVEDIR);
	}
	closedir(stream);
}

static int remove_one(const char *path, struct gt_error *err)
{
	for (int ms = 1, waited = 0;; waited += ms, nap(&ms)) {
		if (rmdir(path) == 0 || errno == ENOENT)
			return 0;
		int errnum = errno;
		if (errnum != EBUSY || waited >= REMOVE_MS)
			return gt_fail_sys(err, GT_INTERNAL, errnum, "remove the cgroup %s", path);
		AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir >= 0)
			remove_below(dir, 0);
	}
}

int gt_cgroup_remove(const char *path, struct gt_error *err)
{
	const struct world *world = cgroup_world();
	int rc = check_path(path, err);
	for (int i = 0; rc == 0 && i < HIERARCHIES; i++) {
		if (!world->mount[i] || twin((enum hierarchy)i) != (enum hierarchy)i)
			continue;
		AUTO_FREE char *whole = gt_xasprintf("%s%s", world->mount[i], path);
		rc = remove_one(whole, err);
	}
	return rc;
}

int gt_cgroup_children(const char *parent, int (*fn)(void *arg, const char *name), void *arg, struct gt_error *err)
{
	const struct world *world = cgroup_world();
	if (check_path(parent, err) < 0)
		return -1;
	for (int i = 0; i < HIERARCHIES; i++) {
		if (!world->mount[i])
			continue;
		AUTO_FREE char *whole = gt_xasprintf("%s%s", world->mount[i], parent);
		DIR *stream = opendir(whole);
		int rc = 0;
		for (struct dirent *entry; stream && rc == 0 && (entry = readdir(stream)) != NULL;) {
			if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
				rc = fn(arg, entry->d_name);
		}
		if (stream)
			closedir(stream);
		if (rc)
			return 0;
	}
	return 0;
}
