/*
 * spawn.h - start a program the fast way: vfork semantics, a pidfd, only the descriptors asked for.
 *
 * Between vfork and exec only async-signal-safe calls run. The child gets all signals unblocked and at
 * their defaults, and descriptors 0..nfds-1 as given (-1: /dev/null); every other descriptor of ours is O_CLOEXEC.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct gt_spawn {
	const char *path;               /* the program, an absolute path */
	char *const *argv;
	char *const *envp;              /* NULL: an empty environment */
	const int *fds;                 /* the child's descriptors 0..nfds-1 */
	size_t nfds;                    /* at most 16 */
	bool new_session;               /* setsid() */
	const char *cwd;                /* NULL: "/" */
};

/* Starts the program. pid and pidfd may be NULL; *pidfd is the caller's to close; the child is the caller's to reap
 * (gt_reap). Fails where exec fails, with its errno. Thread safe. */
int gt_spawn(const struct gt_spawn *how, pid_t *pid, int *pidfd, struct gt_error *err);

/* Waits for the process behind pidfd; *status as wait(2) gives it. Thread safe. */
int gt_reap(int pidfd, int *status, struct gt_error *err);
