/*
 * session.h - a person (or a pipe) joined to a container's process: attach, exec, run.
 *
 *   session_open()   asks the daemon for the stream; the connection becomes a raw one
 *   session_begin()  terminal to raw mode, signals caught: before the process starts, so that none is lost
 *   session_run()    one loop over standard input, the stream and signals, until the stream ends
 *   session_end()    everything as it was; safe to call more than once
 */
#pragma once

#include "cli.h"
#include "demux.h"
#include "term.h"

struct session {
	struct cli *cli;
	bool tty;                       /* the process has a terminal */
	bool in, out, err;              /* which streams to join */
	bool sig_proxy;                 /* signals go on to the process */
	const char *detach_keys;        /* "" for the default */
	char *kill_path;                /* POST to this plus the signal; NULL: none. Owned. */
	char *resize_path;              /* POST to this plus the size. Owned. */

	struct conn conn;
	bool open;
	struct gt_buf early, outgoing;
	struct terminal terminal;
	struct keys keys;
	struct demux demux;
	int signals;                    /* fd, or -1 */
	int ended_by;                   /* a signal that ends us, or 0 */
	bool input_ended;
};

enum session_end { SESSION_OVER, SESSION_DETACHED, SESSION_SIGNALLED };

void session_init(struct session *session, struct cli *cli, bool tty, bool in, bool out, bool err);
/* "the input device is not a TTY" */
int session_check_tty(const struct session *session, struct gt_error *err);
int session_open(struct session *session, const char *path, const json_t *body, struct gt_error *err);
int session_begin(struct session *session, struct gt_error *err);
int session_run(struct session *session, struct gt_error *err);         /* enum session_end, or -1 */
void session_resize(struct session *session);
/* Resizes twice, so that a program that runs already draws itself anew. */
void session_redraw(struct session *session);
/* The detach keys ended an attach or exec: says so; the exit status. */
int session_detached(void);
void session_end(struct session *session);
void session_free(struct session *session);
#define AUTO_SESSION __attribute__((cleanup(session_free)))

/* The detach keys of --detach-keys, else of config.json, else "". Borrowed. */
const char *session_keys(struct cli *cli, const struct args *args);

/* attach to a container: the path with its query. */
char *session_attach_path(const struct session *session, const char *container, bool logs);
void session_target(struct session *session, const char *container);    /* sets kill_path and resize_path */

/* The exit of a container, waited for: opened before it starts, read when it is over. */
struct http_response *exit_wait(struct cli *cli, const char *container, const char *condition, struct gt_error *err);
int exit_status_of(struct http_response *waiting, struct gt_error *err);        /* the code, or -1 */
