/*
 * cgroup_world.c - which cgroup hierarchies this host has: read once from /proc/self/mountinfo.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"

static const char *const CONTROLLERS[HIERARCHIES] = { [MEMORY] = "memory",   [CPU] = "cpu",         [CPUACCT] = "cpuacct", [CPUSET] = "cpuset", [PIDS] = "pids",
						      [DEVICES] = "devices", [FREEZER] = "freezer", [BLKIO] = "blkio",     [HUGETLB] = "hugetlb" };
static const char *const V2_NAMES[HIERARCHIES] = { [MEMORY] = "memory", [CPU] = "cpu", [CPUSET] = "cpuset", [PIDS] = "pids", [BLKIO] = "io", [HUGETLB] = "hugetlb" };

static struct world world;

static bool in_list(const char *list, const char *word, char separator)
{
	size_t len = strlen(word);
	for (const char *p = list; (p = strstr(p, word)) != NULL; p += len) {
		bool begins = p == list || p[-1] == separator;
		if (begins && (p[len] == separator || p[len] == '\0' || p[len] == '\n'))
			return true;
	}
	return false;
}

/* One line: "ID PARENT DEV ROOT MOUNTPOINT OPTIONS ... - TYPE SOURCE SUPEROPTIONS". */
static void read_mount(char *line)
{
	char mount[512], type[32], super[512];
	char *dash = strstr(line, " - ");
	if (!dash || sscanf(line, "%*s %*s %*s %*s %511s", mount) != 1 || sscanf(dash + 3, "%31s %*s %511s", type, super) != 2)
		return;
	if (strcmp(type, "cgroup2") == 0 && !world.mount[UNIFIED])
		world.mount[UNIFIED] = gt_xstrdup(mount);
	for (int i = MEMORY; strcmp(type, "cgroup") == 0 && i < HIERARCHIES; i++) {
		if (!world.mount[i] && in_list(super, CONTROLLERS[i], ','))
			world.mount[i] = gt_xstrdup(mount);
	}
}

static void look_at_unified(void)
{
	AUTO_BUF struct gt_buf controllers = { 0 };
	AUTO_CLOSE int dir = open(world.mount[UNIFIED], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0 && gt_read_file(dir, "cgroup.controllers", 4096, &controllers, NULL) == 0 && controllers.data) {
		for (int i = MEMORY; i < HIERARCHIES; i++)
			world.v2_controller[i] = V2_NAMES[i] && !world.mount[i] && in_list(controllers.data, V2_NAMES[i], ' ');
	}
}

static void read_world(void)
{
	AUTO_BUF struct gt_buf text = { 0 };
	bool v1 = false;
	if (gt_read_file(AT_FDCWD, "/proc/self/mountinfo", 64 << 20, &text, NULL) < 0 || !text.data)
		return;
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		if (strstr(line, " - cgroup"))
			read_mount(line);
	}
	for (int i = MEMORY; i < HIERARCHIES; i++)
		v1 = v1 || world.mount[i];
	if (world.mount[UNIFIED])
		look_at_unified();
	world.kind = v1 ? world.mount[UNIFIED] ? GT_CGROUP_HYBRID : GT_CGROUP_V1 : GT_CGROUP_V2;
}

const struct world *cgroup_world(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, read_world);
	return &world;
}

enum gt_cgroup_world gt_cgroup_world(void)
{
	return cgroup_world()->kind;
}

static bool has_swap(const struct world *w)
{
	if (w->mount[MEMORY]) {
		AUTO_FREE char *file = gt_xasprintf("%s/memory.memsw.limit_in_bytes", w->mount[MEMORY]);
		return access(file, F_OK) == 0;
	}
	return w->v2_controller[MEMORY] && access("/proc/swaps", F_OK) == 0;
}

bool gt_cgroup_has(const char *resource)
{
	const struct world *w = cgroup_world();
	if (strcmp(resource, "swap") == 0)
		return has_swap(w);
	if (strcmp(resource, "devices") == 0)
		return w->mount[DEVICES] || w->kind == GT_CGROUP_V2;
	if (strcmp(resource, "freezer") == 0)
		return w->mount[FREEZER] || w->mount[UNIFIED];
	for (int i = MEMORY; i < HIERARCHIES; i++) {
		if (strcmp(CONTROLLERS[i], resource) == 0)
			return w->mount[i] || w->v2_controller[i];
	}
	return false;
}
