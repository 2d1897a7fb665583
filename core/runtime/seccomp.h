/*
 * seccomp.h - an OCI linux.seccomp object to a BPF program, and Docker's profile format to the OCI object.
 * Called by the engine (which caches programs) and by the shim where a bundle brings none. Thread safe.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/error.h"

/* Docker's profile JSON (archMap, syscalls with includes/excludes by caps, arches and minKernel) resolved for a set of capabilities
 * ("CAP_CHOWN", ...; array): returns the OCI linux.seccomp object, the caller's. */
json_t *gt_seccomp_resolve(const json_t *profile, const json_t *capabilities, struct gt_error *err);
/* Compiles an OCI linux.seccomp object by libseccomp; appends an array of struct sock_filter to bpf. Unknown system calls are skipped, as the OCI
 * spec's runtimes do; unknown actions, operators and architectures are refused. */
int gt_seccomp_compile(const json_t *seccomp, struct gt_buf *bpf, struct gt_error *err);
/* Loads a compiled program into the calling thread (no_new_privs or CAP_SYS_ADMIN needed). Async-signal-safe. Returns 0 or -errno. */
int gt_seccomp_load(const void *bpf, size_t len);
