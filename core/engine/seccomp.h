/*
 * seccomp.h - private to the engine: the default profile, and compiled programs kept by profile and capabilities.
 */
#pragma once

#include "engine/internal.h"

struct gt_seccomp_cache;

int gt_seccomp_cache_new(struct gt_engine *engine, struct gt_error *err);
void gt_seccomp_cache_free(struct gt_engine *engine);

/* Docker's default profile as built into the program. */
const char *gt_seccomp_default(size_t *len);
/* profile: text of a profile in Docker's or the OCI's form, or NULL for the host's default (config, else the built-in one). capabilities: array of
 * "CAP_..." the process will have. *oci: the caller's; bpf: the program is appended. Thread safe; a profile that was asked for before costs a look-up. */
int gt_engine_seccomp(struct gt_engine *engine, const char *profile, const json_t *capabilities, json_t **oci, struct gt_buf *bpf,
		      struct gt_error *err);
