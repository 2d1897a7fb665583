/* client_call.h - one request, one reply, a deadline. Private to the daemon's side of core/shim. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "shim/protocol.h"

#define GT_SHIM_SHORT (10 * GT_SECOND)
#define GT_SHIM_LONG (60 * GT_SECOND)   /* where a process is made */

struct gt_shim {
	char *socket;           /* path of shim.sock; constant */
	int events;             /* the event connection; constant */
	int pidfd;              /* of the shim where it is our child, else -1; taken by an atomic exchange */
	char ack_due[65];       /* an exec's id or ""; of the thread that calls gt_shim_event() */
};

/* Connects to shim.sock until the deadline (gt_monotonic). GT_NOT_FOUND where nobody listens. */
int gt_shim_dial(const char *path, int64_t until, struct gt_error *err);
int gt_shim_send(int sock, const struct gt_shim_request *request, const int *fds, size_t nfds, struct gt_error *err);
/* Waits for a message of `type`; a reply that carries an error fills err and fails. fd: where a descriptor that came with it goes (-1: none came). */
int gt_shim_receive(int sock, int64_t until, enum gt_shim_message type, struct gt_shim_reply *reply, int *fd, struct gt_error *err);
