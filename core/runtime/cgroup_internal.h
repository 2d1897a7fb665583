/*
 * cgroup_internal.h - private to cgroup*.c: which hierarchies the host has, one container's directories in them, and writes that can be taken back.
 */
#pragma once

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/cgroup.h"

/* The v2 hierarchy, and the v1 controllers. */
enum hierarchy { UNIFIED, MEMORY, CPU, CPUACCT, CPUSET, PIDS, DEVICES, FREEZER, BLKIO, HUGETLB, HIERARCHIES };

struct world {
	enum gt_cgroup_world kind;
	char *mount[HIERARCHIES];       /* NULL: the host has it not; controllers that are mounted together share the path */
	bool v2_controller[HIERARCHIES];        /* of the v2 hierarchy's root */
};
const struct world *cgroup_world(void);

/* A write done, to be taken back. */
struct cgroup_undo {
	struct cgroup_undo *next;
	enum hierarchy hierarchy;
	char *file, *before;
};

struct gt_cgroup {
	char *path;                     /* "/gantry/<id>" */
	int dir[HIERARCHIES];           /* -1: not there */
	bool made[HIERARCHIES];         /* by this struct */
	bool journal;                   /* keep undo */
	struct cgroup_undo *undo;
};

/* The directory in a hierarchy, made where it is missing (and, where processes live in the cgroup already, with them moved into it). */
int cgroup_need(struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *resource, struct gt_error *err);
/* Writes one control file. */
int cgroup_set(struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *file, const char *text, struct gt_error *err);
int cgroup_set_number(struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *file, int64_t value, struct gt_error *err);
bool cgroup_file(const struct gt_cgroup *cgroup, enum hierarchy hierarchy, const char *file);
/* "key value" lines: the value, or fallback. */
uint64_t cgroup_keyed(int dir, const char *file, const char *key, uint64_t fallback);
/* Calls fn for "MAJOR:MINOR VALUE" of each entry of an OCI throttle or weight list. */
int cgroup_each_device(const json_t *list, const char *value_name, int (*fn)(void *arg, int64_t major, int64_t minor, int64_t value, struct gt_error *err),
		       void *arg, struct gt_error *err);

/* cgroup_v1.c, cgroup_v2.c */
int cgroup_v1_apply(struct gt_cgroup *cgroup, const json_t *resources, struct gt_error *err);
int cgroup_v1_stats(struct gt_cgroup *cgroup, struct gt_cgroup_stats *stats, struct gt_error *err);
int cgroup_v2_apply(struct gt_cgroup *cgroup, const json_t *resources, struct gt_error *err);
int cgroup_v2_stats(struct gt_cgroup *cgroup, struct gt_cgroup_stats *stats, struct gt_error *err);
json_t *cgroup_flat_stat(int dir, const char *file);
/* cgroup_devices.c */
int cgroup_v1_devices(struct gt_cgroup *cgroup, const json_t *rules, struct gt_error *err);
int cgroup_v2_devices(struct gt_cgroup *cgroup, const json_t *rules, struct gt_error *err);
