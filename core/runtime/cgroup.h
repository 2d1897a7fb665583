/*
 * cgroup.h - one container's control groups, the same face over cgroup v1, hybrid (v1 controllers, v2 beside them) and v2.
 *
 * A container's cgroup is named by a path below the root of each hierarchy ("/gantry/<id>"): with v1 the directory exists in every mounted controller
 * hierarchy that matters, with v2 once. Which world the host has is found once and cached. Nothing but the named directories is ever
 * touched; parents are made where missing (and, in v2, get the controllers enabled for their children).
 *
 * `resources` is the OCI object linux.resources (memory, cpu, pids, blockIO, devices, hugepageLimits, unified). A limit that the host has no controller for
 * fails with GT_UNSUPPORTED naming it.
 *
 * Used by the shim (create, join, apply) and by the daemon (update, freeze, kill, stats). Thread safe for different structs.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct gt_cgroup;

enum gt_cgroup_world { GT_CGROUP_V1, GT_CGROUP_HYBRID, GT_CGROUP_V2 };
enum gt_cgroup_world gt_cgroup_world(void);
/* Whether the host can limit a resource: "memory", "swap", "cpu", "cpuset", "pids", "blkio", "devices", "freezer", "hugetlb". */
bool gt_cgroup_has(const char *resource);

/* path: absolute, checked: no "..", no empty components. Makes the directories and applies resources (may be NULL). On failure nothing is left. */
int gt_cgroup_create(const char *path, const json_t *resources, struct gt_cgroup **cgroup, struct gt_error *err);
/* One that exists. GT_NOT_FOUND. */
int gt_cgroup_open(const char *path, struct gt_cgroup **cgroup, struct gt_error *err);
void gt_cgroup_free(struct gt_cgroup *cgroup);          /* closes; the cgroup lives on. NULL is fine */

/*
 * Two ways in. gt_cgroup_join() moves any process, but the kernel waits for an RCU grace period when it moves a whole thread group after a pause (20 ms).
 * The quick way is free of that: the child is cloned with CLONE_INTO_CGROUP and gt_cgroup_clone_fd() (v2 and hybrid; -1: there is no v2 hierarchy), and
 * then, having one thread, calls gt_cgroup_join_self(), which needs nothing but the struct's descriptors and is async-signal-safe. Returns 0 or -errno.
 */
int gt_cgroup_clone_fd(const struct gt_cgroup *cgroup);
int gt_cgroup_join_self(const struct gt_cgroup *cgroup);
/* v2 takes no process where controllers are handed on to sub-cgroups (EBUSY). The directory, in the cgroup or below it, where a process of it is: an fd, the
 * caller's, or -1. */
int gt_cgroup_open_below(const struct gt_cgroup *cgroup, pid_t pid);
int gt_cgroup_join(struct gt_cgroup *cgroup, pid_t pid, struct gt_error *err);

/* Changes limits of a living container: only what `resources` names. All or nothing as far as the kernel allows: on failure earlier values are put back. */
int gt_cgroup_update(struct gt_cgroup *cgroup, const json_t *resources, struct gt_error *err);
int gt_cgroup_freeze(struct gt_cgroup *cgroup, struct gt_error *err);   /* waits until frozen, at most 10 s */
int gt_cgroup_thaw(struct gt_cgroup *cgroup, struct gt_error *err);
/* SIGKILL to all, frozen or not; returns when the cgroup is empty, at most timeout_ms. */
int gt_cgroup_kill(struct gt_cgroup *cgroup, int timeout_ms, struct gt_error *err);
/* Pids (of the caller's pid namespace) in the cgroup and below it. *pids is the caller's. */
int gt_cgroup_procs(struct gt_cgroup *cgroup, pid_t **pids, size_t *count, struct gt_error *err);
bool gt_cgroup_empty(struct gt_cgroup *cgroup);
/* Readable after an OOM kill (eventfd in v1, inotify on memory.events in v2); the caller's to close; -1 where there is none. */
int gt_cgroup_oom_fd(struct gt_cgroup *cgroup);
int64_t gt_cgroup_oom_kills(struct gt_cgroup *cgroup);  /* -1: unknown */

struct gt_cgroup_blkio { uint64_t major, minor; char op[16]; uint64_t value; };
struct gt_cgroup_stats {
	uint64_t memory_usage, memory_max_usage, memory_limit, memory_failcnt;  /* bytes; limit UINT64_MAX: none */
	json_t *memory_stat;                    /* memory.stat as an object of integers; the caller's */
	uint64_t cpu_total, cpu_user, cpu_system;       /* ns */
	uint64_t *cpu_percpu; size_t cpu_percpu_count;  /* v1 only; the caller's */
	uint64_t throttle_periods, throttled_periods, throttled_time;
	uint64_t pids_current, pids_limit;      /* limit 0: none */
	struct gt_cgroup_blkio *io_bytes, *io_ops;      /* recursive; the caller's */
	size_t io_bytes_count, io_ops_count;
};
int gt_cgroup_stats(struct gt_cgroup *cgroup, struct gt_cgroup_stats *stats, struct gt_error *err);
void gt_cgroup_stats_release(struct gt_cgroup_stats *stats);

/* Removes the directories of `path` (and empty sub-cgroups the container made) in all hierarchies; absent: success. Tries again for a short while where the kernel
 * still counts dying processes. */
int gt_cgroup_remove(const char *path, struct gt_error *err);
/* Names of the children of `parent` ("/gantry") in any hierarchy, for reconcile: calls fn once for each name, maybe again for another hierarchy. */
int gt_cgroup_children(const char *parent, int (*fn)(void *arg, const char *name), void *arg, struct gt_error *err);
