/*
 * runtime.h - the OCI runtime: from a bundle's config.json to a running process, and further processes inside it.
 *
 * Called by the shim alone, which has one thread. Three steps, so that the daemon's network drivers work while the child mounts:
 *   gt_runtime_create()  clones the sandbox: namespaces exist, the child is in its cgroup, user maps are written; the child goes on by itself
 *                        with mounts, pivot_root, devices, masked paths, hostname, sysctls, console;
 *   gt_runtime_ready()   waits until the child has done all that, or says why not; only now is the console there;
 *   gt_runtime_start()   lets the child exec and returns when it has, or with the reason.
 * Whatever fails, gt_runtime_destroy() kills what is left and removes the cgroup; it is also the end after a normal exit.
 * The child and all it leaves behind die with the shim before the start (PR_SET_PDEATHSIG and the pid namespace), and after it too.
 *
 * Sources: OCI runtime-spec 1.2 (config.md, config-linux.md), Docker's defaults for what it leaves open.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct gt_runtime;

/* A process of the container, init or exec. */
struct gt_process {
	pid_t pid;              /* in the shim's pid namespace */
	int pidfd;              /* the caller's to close */
	int console;            /* pty master (non-blocking, O_CLOEXEC), the caller's; -1 without a terminal */
};

/* config: the parsed config.json (borrowed; lives as long as the runtime); bundle: its directory. stdio: what becomes descriptors 0-2 of
 * the process (-1: /dev/null); ignored where process.terminal is true. */
int gt_runtime_create(const char *bundle, const json_t *config, const int stdio[3], struct gt_runtime **runtime,
		      struct gt_error *err);
pid_t gt_runtime_pid(const struct gt_runtime *runtime);
int gt_runtime_netns(const struct gt_runtime *runtime); /* the runtime's own fd; -1 where the configuration shares another's or the host's */
/* For poll, between create and ready: readable when gt_runtime_ready() will not block. */
int gt_runtime_ready_fd(const struct gt_runtime *runtime);
int gt_runtime_ready(struct gt_runtime *runtime, struct gt_error *err);
/* On success *process is the container's init. Errors of the exec itself carry Docker's phrases (see shim/client.h), kind GT_INVALID. */
int gt_runtime_start(struct gt_runtime *runtime, struct gt_process *process, struct gt_error *err);

/*
 * One more process in the namespaces, cgroup, and root of the container. process: an OCI "process" object, with the extra members "gantryUser"
 * ("name-or-uid[:group]", looked up in the container's /etc/passwd and group where present) and "gantryGroups" (array of extra group names or
 * ids). The new process is a child of the caller, to be reaped by it, and so is a second child that ends on the way: until the end of the birth
 * the caller does not know whose pid is whose.
 *
 * Nothing here blocks: gt_runtime_exec() begins a birth, and gt_birth_step() is called whenever gt_birth_fd() is readable. It returns 1: *out is the process,
 * which has been exec'd; 0: not yet; -1: it failed. gt_birth_end() frees, and kills what is not finished; before gt_runtime_destroy().
 */
struct gt_birth;
int gt_runtime_exec(struct gt_runtime *runtime, const json_t *process, const int stdio[3], struct gt_birth **birth, struct gt_error *err);
int gt_birth_fd(const struct gt_birth *birth);
int gt_birth_step(struct gt_birth *birth, struct gt_process *out, struct gt_error *err);
void gt_birth_end(struct gt_birth *birth);

/* Counts of the kernel's OOM killer in the container's cgroup: readable for poll where the kernel has a notification (-1: none); and the
 * count so far. */
int gt_runtime_oom_fd(const struct gt_runtime *runtime);
bool gt_runtime_oom_seen(struct gt_runtime *runtime);

/* Kills every process of the container and waits for its cgroup to be empty (bounded), removes the cgroup, closes fds, frees. NULL is fine. */
void gt_runtime_destroy(struct gt_runtime *runtime);
