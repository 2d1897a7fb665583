/*
 * spec.h - private to the files that write a container's OCI config.json.
 */
#pragma once

#include "engine/config_check.h"

/* Everything the parts need to know about one container at one start. Strings are borrowed. */
struct spec_context {
	struct gt_container *ctr;
	struct security security;
	const char *apparmor;           /* gt_apparmor_profile() */
	const char *netns;              /* "new", "host" or a path */
	bool host_ipc, new_uts, new_pid, new_cgroup, remap;
	pid_t ipc_pid;                  /* whose IPC namespace and /dev/shm are shared; 0: nobody's */
	int64_t remap_first, remap_count;
	json_t *capabilities;           /* array of "CAP_..." */
};

/* spec_process.c */
json_t *spec_capabilities(const struct gt_host_config *host, bool privileged);
json_t *spec_process(const struct spec_context *context);
/* spec_mounts.c: the whole array; what was prepared on the way is given back by gt_mounts_release(). */
json_t *spec_mounts(const struct spec_context *context, struct gt_error *err);
/* spec_linux.c: who shares its IPC with it (IpcMode container:NAME); linux without seccomp. */
int spec_find_ipc(struct spec_context *context, struct gt_error *err);
json_t *spec_linux(const struct spec_context *context, struct gt_error *err);
