/*
 * client.h - the daemon's side of gantry-shim: start one, talk to one, hear from one.
 *
 * A bundle is a directory (config `run`/containers/<container id>) that holds
 *   config.json   the OCI runtime configuration; its first mount has destination "/" and is the root file system
 *                 (root.path is "rootfs", an empty directory of the bundle); process.consoleSize is the first tty size
 *   rootfs/       where the shim's own mount namespace shows it
 *   seccomp.bpf   optional: the compiled program for linux.seccomp; without it the shim compiles
 *   shim.sock     the shim listens here, SOCK_SEQPACKET
 *   exit.json     written by the shim before it ends: {"code":0,"signal":0,"oom":false,"at":ns,"started":ns}
 *   shim.log      what the shim has to say
 * Annotations for the shim: org.gantry.log.driver (json-file, local, none), org.gantry.log.path, .max-size (bytes),
 * .max-file, .compress; org.gantry.log.forward (journald, syslog) with .to, .stream, .wait, .head, .facility, .version, .time: see log_forward.h; org.gantry.stdin ("open": keep a pipe for stdin; "once": close it when the first client that is attached to it goes);
 * org.gantry.init (path of gantry-init on the host, run as PID 1 inside); org.gantry.idmap-root ("true": id-map the root's lower layers).
 *
 * Start path: gt_shim_spawn() returns as soon as the namespaces exist, so that drivers plumb the network while the shim goes on with
 * mounts; gt_shim_start() lets the process go and returns when it has been exec'd, or with the reason why not. A shim whose daemon goes away
 * before gt_shim_start() undoes everything and ends.
 *
 * A struct gt_shim is thread safe, except gt_shim_event(), which belongs to one thread (the engine's monitor).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct gt_shim;

struct gt_shim_created {
	pid_t pid;              /* the container's init, in the daemon's pid namespace */
	int netns_fd;           /* the caller's to close; -1 where the configuration shares another's */
};

/* shim_path: the gantry-shim program. The bundle is complete. */
int gt_shim_spawn(const char *shim_path, const char *bundle, struct gt_shim **shim, struct gt_shim_created *created,
		  struct gt_error *err);
/* Errors carry Docker's phrases ("executable file not found in $PATH", "permission denied", "no such file or
 * directory"), kind GT_INVALID, so that clients exit with 127 and 126. On failure the shim has undone everything. */
int gt_shim_start(struct gt_shim *shim, struct gt_error *err);

/* Instead of gt_shim_start(): the shim undoes everything; returns when it has ended (at most 10 s). Then free it. */
void gt_shim_abort(struct gt_shim *shim);

struct gt_shim_state {
	pid_t pid;
	int64_t started;        /* ns, CLOCK_REALTIME */
	bool exited;            /* an exit event follows at once */
};
/* After a restart of the daemon: finds the shim of a bundle and becomes its listener. GT_NOT_FOUND where no shim lives. */
int gt_shim_connect(const char *bundle, struct gt_shim **shim, struct gt_shim_state *state, struct gt_error *err);
void gt_shim_free(struct gt_shim *shim);        /* the shim itself lives on */

enum gt_shim_event_type { GT_SHIM_EXIT, GT_SHIM_OOM, GT_SHIM_EXEC_EXIT, GT_SHIM_GONE };
struct gt_shim_event {
	enum gt_shim_event_type type;
	int code;               /* EXIT, EXEC_EXIT: 0-255, 128+n for signals */
	int signal;
	bool oom;
	int64_t at;             /* ns, CLOCK_REALTIME */
	char exec_id[65];       /* EXEC_EXIT */
};
/* For poll/epoll: readable when an event waits. */
int gt_shim_event_fd(const struct gt_shim *shim);
/* 1: *event is filled; 0: nothing now. GT_SHIM_GONE: the shim closed the line (after EXIT: normal; else it died: read
 * exit.json, kill what is left in the cgroup). */
int gt_shim_event(struct gt_shim *shim, struct gt_shim_event *event);
/* Reads exit.json of a bundle whose shim is gone. GT_NOT_FOUND where the shim left none. */
int gt_shim_read_exit(const char *bundle, struct gt_shim_event *event, struct gt_error *err);

/* To init (exec_id NULL) or to an exec's process. GT_NOT_FOUND: it has ended. */
int gt_shim_signal(struct gt_shim *shim, const char *exec_id, int signo, struct gt_error *err);
int gt_shim_resize(struct gt_shim *shim, const char *exec_id, unsigned rows, unsigned cols, struct gt_error *err);

struct gt_shim_attach {
	bool stdin, stdout, stderr;
	bool mux;               /* frame output with Docker's 8-byte headers (no tty) */
	bool http_chunked;      /* unused: reserved, false */
	const char *detach_keys;        /* raw bytes, "" turns detaching off; NULL: the default, ctrl-p ctrl-q */
};
/* Hands fd (a client's connected stream socket, any kind) to the shim, which serves it until the client hangs up, detaches, or the
 * process ends, then shuts it down and closes it. The daemon may close its own copy at once. Before gt_shim_start() allowed: no byte is lost.
 * Half-close of the client's side is end of file on stdin; output goes on. fd stays the caller's. */
int gt_shim_attach(struct gt_shim *shim, const struct gt_shim_attach *how, int fd, struct gt_error *err);

/* Starts one more process. process: JSON text of an OCI "process" object (args, env, cwd, user, terminal, consoleSize, capabilities,
 * rlimits, noNewPrivileges, apparmorProfile). how and fd as for attach; fd -1: detached. Returns once it has been exec'd, else with the reason (phrases as
 * for gt_shim_start). *pid in the daemon's pid namespace. */
int gt_shim_exec(struct gt_shim *shim, const char *exec_id, const char *process, size_t len, bool stdin_open,
		 const struct gt_shim_attach *how, int fd, pid_t *pid, struct gt_error *err);

/* Log settings have changed or the log was cut from outside: reopen it. */
int gt_shim_reopen_log(struct gt_shim *shim, struct gt_error *err);
