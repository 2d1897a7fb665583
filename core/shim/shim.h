/*
 * shim.h - the parts of gantry-shim and what they share. Private to core/shim; one thread.
 *
 * One struct shim per process, passed down. A struct gt_proc is a process of the container, init or exec, with its stdio; a struct gt_client is a
 * stream socket attached to one. Who frees: main.c the shim and init, exec.c the execs, attach.c the clients.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "runtime/runtime.h"
#include "shim/annotations.h"
#include "shim/log.h"
#include "shim/loop.h"
#include "shim/protocol.h"

#define GT_SHIM_MAX_CLIENTS 256         /* of one process */
#define GT_SHIM_MAX_EXECS 1024          /* alive at one time */
#define GT_SHIM_MAX_CONNECTIONS 128
#define GT_CLIENT_QUEUE ((size_t)1 << 20)  /* bytes that wait for one client before its process does */
#define GT_STDIN_QUEUE ((size_t)64 * 1024)     /* bytes that wait for a process before its clients do */
#define GT_TICK_MS 250

struct shim;
struct gt_proc;

/* One stream that a process writes: a pipe, or the pty for both. */
struct gt_output {
	struct gt_source source;
	struct gt_proc *proc;
	unsigned stream;                /* 1 stdout, 2 stderr */
};

/* Bytes on their way to a slow reader. */
struct gt_pending {
	struct gt_buf buf;
	size_t start;                   /* what of buf has gone already */
};

struct gt_client {
	struct gt_client *next;
	struct gt_proc *proc;
	struct gt_source source;        /* the socket; never made non-blocking: the file description is shared with the daemon */
	unsigned flags;                 /* GT_SHIM_ATTACH_* */
	char keys[GT_SHIM_MAX_KEYS];
	size_t keys_len, keys_seen;
	bool input_ended;               /* the client has closed its half, or we look no more */
	bool ending;                    /* what is queued goes out, then the socket is shut down */
	struct gt_pending queue;
	int64_t progress;               /* gt_monotonic() when bytes last left the queue */
};

struct gt_proc {
	struct gt_proc *next;           /* execs */
	struct shim *shim;
	char id[65];                    /* "": init */
	pid_t pid;                      /* 0: not running (yet) */
	struct gt_source exit;          /* pidfd */
	bool tty;
	bool input_wanted;              /* the process has a standard input to write to */
	bool input_once;                /* the first attached client that goes closes standard input */
	struct gt_output output[2];
	struct gt_source input;         /* a pipe or the pty, non-blocking */
	struct gt_pending input_queue;
	bool input_closing;             /* when the queue is empty */
	int slave;                      /* of the pty: as long as we hold it, a process that closes its terminal is no end of file */
	struct gt_client *clients;
	size_t client_count;
	struct gt_logfile *log;         /* init's; NULL: none. The shim's own */
	bool ended;                     /* its outputs have been read to the end */
	struct gt_making *making;       /* an exec, exec.c: until it runs */
	bool told;                      /* an exec: the daemon knows its exit code, or there is none; its clients are closed */
	int64_t close_at;               /* an exec: gt_monotonic(), told at the latest then */
};

enum shim_phase {
	PHASE_CREATED,                  /* the child mounts, the daemon plumbs */
	PHASE_FAILED,                   /* undone; the reason waits for START */
	PHASE_STARTED,
	PHASE_ENDED,                    /* exit.json is written */
};

struct gt_event_node;
struct gt_conn;

struct shim {
	struct gt_loop loop;
	const char *bundle;
	json_t *config;
	struct gt_annotations notes;
	struct gt_runtime *runtime;
	struct gt_logfile *log;
	int bundle_fd;
	enum shim_phase phase;
	int64_t started;
	int64_t child_score;            /* OOM score of our children, where the shim has its own */
	struct gt_source ready, oom, children;

	struct gt_proc init;
	struct gt_proc *execs;
	size_t exec_count;

	struct gt_source listener, events;
	unsigned daemons;               /* counts those that went */
	struct gt_conn *conns;
	size_t conn_count;
	struct gt_event_node *event_head, *event_tail;  /* notices that no daemon has got yet */
	size_t event_count;
	struct gt_shim_notice exit;     /* PHASE_ENDED: what is told once clients have their bytes */
	int64_t exit_at, end_at;        /* PHASE_ENDED, gt_monotonic(): told, and gone, at the latest then */

	char *scratch;                  /* GT_SCRATCH bytes, for what is read in one callback */
	struct gt_error failure;        /* PHASE_FAILED */
	bool start_wanted, is_ready;
	bool guarded;                   /* the shim's OOM score is its own */
	bool oom_told, exit_queued;
	bool look;                      /* after this round: have execs or the shim come to their end? */
};
#define GT_SCRATCH ((size_t)64 * 1024)

/* Something waits for time to pass. */
static inline void gt_shim_want_tick(struct shim *shim)
{
	shim->loop.tick_ms = GT_TICK_MS;
}

/* ---- server.c: the two kinds of connection ---- */
int gt_server_open(struct shim *shim, struct gt_error *err);
void gt_server_close(struct shim *shim);        /* no new requests; shim.sock goes */
/* Sends CREATED to the daemon that waits at the sync socket, and listens to it. */
int gt_server_created(struct shim *shim, pid_t pid, int netns, struct gt_error *err);
/* The answer on the event connection; err NULL: all is well. */
void gt_server_answer(struct shim *shim, const struct gt_error *err);
bool gt_server_has_listener(const struct shim *shim);
/* The answer to EXEC; err NULL: it runs. */
void gt_server_exec_done(struct gt_conn *conn, pid_t pid, const struct gt_error *err);

/* ---- events.c: notices to the daemon, kept while there is none ---- */
void gt_events_add(struct shim *shim, const struct gt_shim_notice *notice);
void gt_events_flush(struct shim *shim);
void gt_events_free(struct shim *shim);

/* ---- io.c: a process's stdio ---- */
void gt_proc_init(struct gt_proc *proc, struct shim *shim, const char *id);
/* Makes pipes as wanted; `child` gets the child's ends (-1: /dev/null), the caller's to close. */
int gt_proc_pipes(struct gt_proc *proc, bool in, bool out, bool errs, int child[3], struct gt_error *err);
/* The process runs: its pidfd and console are taken over. */
int gt_proc_started(struct gt_proc *proc, const struct gt_process *process, void (*exited)(struct gt_source *, uint32_t), struct gt_error *err);
/* Bytes from a client for standard input. */
void gt_proc_input(struct gt_proc *proc, const char *bytes, size_t len);
void gt_proc_input_end(struct gt_proc *proc);
bool gt_proc_takes_input(const struct gt_proc *proc);
/* Looks again at what may be read: after a client came, went, or drained. */
void gt_proc_balance(struct gt_proc *proc);
/* The process has ended: reads what its pipes hold, closes them, ends the log's lines. */
void gt_proc_drain(struct gt_proc *proc);
void gt_proc_release(struct gt_proc *proc);
int gt_proc_resize(struct gt_proc *proc, unsigned rows, unsigned cols, struct gt_error *err);

/* ---- attach.c: clients ---- */
/* Takes fd over where it succeeds. */
int gt_client_add(struct gt_proc *proc, const struct gt_shim_request *request, int fd, struct gt_error *err);
void gt_client_output(struct gt_client *client, unsigned stream, const char *bytes, size_t len);
void gt_client_watch(struct gt_client *client);         /* which events it waits for follows from its state */
void gt_client_end(struct gt_client *client);           /* the rest goes out, then it is closed; may free it */
void gt_client_drop(struct gt_client *client);          /* now */
void gt_clients_tick(struct gt_proc *proc);

/* Looks for the detach keys in what a client types. What may be their beginning is held back: *seen bytes of them, 0 at first. Appends what passes to
 * out; true where the sequence is complete (what follows it is dropped). len is not 0. */
bool gt_keys_filter(const char *keys, size_t len, size_t *seen, const char *bytes, size_t count, struct gt_buf *out);
/* Docker's frame header: stream, three zeros, length in big endian. */
void gt_mux_header(unsigned char header[8], unsigned stream, size_t len);

/* ---- exec.c ---- */
/* Begins; the asker is told by gt_server_exec_done() how it went. On success client_fd (-1: none) is taken over. */
int gt_exec_begin(struct shim *shim, const struct gt_shim_request *request, int process_fd, int client_fd, struct gt_conn *asker,
		  struct gt_proc **exec, struct gt_error *err);
void gt_exec_asker_gone(struct gt_proc *exec);
bool gt_execs_making(const struct shim *shim);
void gt_execs_abandon(struct shim *shim);       /* those that are being made: before the runtime goes */
struct gt_proc *gt_proc_find(struct shim *shim, const char *id, struct gt_error *err);
int gt_proc_signal(struct gt_proc *proc, int signo, struct gt_error *err);
void gt_exec_acknowledged(struct shim *shim, const char *id);
void gt_execs_tick(struct shim *shim);
void gt_execs_sweep(struct shim *shim);         /* frees those that are over */
void gt_execs_end(struct shim *shim);           /* the container has ended, and they with it */

/* ---- exit.c ---- */
void gt_exit_watch(struct shim *shim);          /* strays and the OOM killer */
void gt_init_exited(struct gt_source *source, uint32_t events);
void gt_reap_strays(struct shim *shim);         /* children that are nobody's; not while an exec is made, which may be one of them */
void gt_exit_tick(struct shim *shim);
void gt_exit_look(struct shim *shim);           /* after each round */
/* What waitid() says as Docker's exit code. */
bool gt_reap_status(int pidfd, int *code, int *signo);

/* ---- start.c ---- */
int gt_shim_create(struct shim *shim, struct gt_error *err);    /* up to where the daemon's drivers can go to work */
void gt_shim_start_now(struct shim *shim);
void gt_shim_undo(struct shim *shim);           /* before the start: kill, remove, close */
int gt_shim_reopen(struct shim *shim, struct gt_error *err);
/* Off while a child is cloned, which must not inherit the shim's protection from the OOM killer. */
void gt_shim_guard(struct shim *shim, bool on);
