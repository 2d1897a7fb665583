/*
 * server.c - the daemon's connections: the one for events, and those for requests.
 *
 * Peers are root, checked by SO_PEERCRED; what they send is checked all the same, as they may be of another version. A request is answered
 * before the next is read; a peer that does not read its answer loses its connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/log.h"
#include "shim/client.h"
#include "shim/shim.h"

_Static_assert(sizeof ((struct gt_shim_reply *)0)->message == sizeof ((struct gt_error *)0)->message, "an error's sentence fits");

struct gt_conn {
	struct gt_conn *next;
	struct shim *shim;
	struct gt_source source;
	struct gt_proc *exec;           /* whose start it waits for; NULL: none */
};

static struct gt_shim_reply make_reply(enum gt_shim_message type, const struct gt_error *err)
{
	struct gt_shim_reply reply = { .magic = GT_SHIM_MAGIC, .type = type };
	if (err) {
		reply.kind = err->kind ? (int32_t)err->kind : GT_INTERNAL;
		reply.errnum = err->errnum;
		memcpy(reply.message, err->message, sizeof reply.message); /* NUL-terminated, see error.h */
	}
	return reply;
}

static bool send_reply(int sock, const struct gt_shim_reply *reply, int fd)
{
	size_t len = offsetof(struct gt_shim_reply, message) + strlen(reply->message) + 1;
	return gt_send_fds(sock, reply, len, &fd, fd >= 0) == (ssize_t)len;
}

/* One request. 1: filled; 0: nothing now; -1: the peer has gone or is not to be understood. */
static int receive(int sock, struct gt_shim_request *request, int *fds, size_t *nfds)
{
	*request = (struct gt_shim_request){ 0 };
	ssize_t n = gt_recv_fds(sock, request, sizeof *request, fds, nfds);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	if (n >= (ssize_t)GT_SHIM_REQUEST_MIN && request->magic == GT_SHIM_MAGIC &&
	    memchr(request->exec_id, '\0', 65) && request->keys_len <= GT_SHIM_MAX_KEYS)
		return 1;
	for (size_t i = 0; i < *nfds; i++)
		close(fds[i]);
	return -1;
}

/* ---- the event connection ---- */

bool gt_server_has_listener(const struct shim *shim)
{
	return shim->events.fd >= 0;
}

static void listener_gone(struct shim *shim)
{
	gt_loop_drop(&shim->loop, &shim->events);
	shim->daemons++;
	shim->look = true;
	if (shim->phase == PHASE_CREATED)
		gt_shim_undo(shim);
	if (shim->phase == PHASE_FAILED)
		shim->loop.stop = true;
}

static void start_asked(struct shim *shim)
{
	if (shim->phase == PHASE_FAILED) {
		gt_server_answer(shim, &shim->failure);
		shim->loop.stop = true;
		return;
	}
	if (shim->phase != PHASE_CREATED || shim->start_wanted) {
		struct gt_error err = { 0 };
		gt_fail(&err, GT_CONFLICT, "the container has been started already");
		gt_server_answer(shim, &err);
		return;
	}
	shim->start_wanted = true;
	if (shim->is_ready)
		gt_shim_start_now(shim);
}

static void events_ready(struct gt_source *source, uint32_t events)
{
	struct shim *shim = source->owner;
	struct gt_shim_request request;
	int fds[GT_MAX_FDS];
	size_t nfds = GT_COUNT(fds);
	if (events & EPOLLOUT) {
		gt_events_flush(shim);
		shim->look = true;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	int rc = receive(source->fd, &request, fds, &nfds);
	for (size_t i = 0; rc > 0 && i < nfds; i++)
		close(fds[i]); /* none belongs here */
	if (rc < 0)
		listener_gone(shim);
	else if (rc > 0 && request.type == GT_SHIM_MSG_START)
		start_asked(shim);
	else if (rc > 0 && request.type == GT_SHIM_MSG_ACK)
		gt_exec_acknowledged(shim, request.exec_id);
}

void gt_server_answer(struct shim *shim, const struct gt_error *err)
{
	struct gt_shim_reply reply = make_reply(GT_SHIM_MSG_REPLY, err);
	if (gt_server_has_listener(shim))
		send_reply(shim->events.fd, &reply, -1); /* where that fails the loop hears of it */
}

int gt_server_created(struct shim *shim, pid_t pid, int netns, struct gt_error *err)
{
	struct gt_shim_reply reply = make_reply(GT_SHIM_MSG_CREATED, NULL);
	reply.pid = pid;
	shim->events.ready = events_ready;
	shim->events.owner = shim;
	if (!send_reply(GT_SHIM_SYNC_FD, &reply, netns))
		return gt_fail_sys(err, GT_INTERNAL, errno, "tell the daemon");
	return gt_loop_add(&shim->loop, &shim->events, GT_SHIM_SYNC_FD, EPOLLIN, err);
}

/* ---- requests ---- */

static void drop_conn(struct gt_conn *conn)
{
	struct shim *shim = conn->shim;
	struct gt_proc *exec = take(conn->exec);
	if (exec)
		gt_exec_asker_gone(exec);
	for (struct gt_conn **slot = &shim->conns; *slot; slot = &(*slot)->next) {
		if (*slot == conn) {
			*slot = conn->next;
			break;
		}
	}
	shim->conn_count--;
	gt_loop_drop(&shim->loop, &conn->source);
	free(conn);
}

/* The connection changes its kind. The one before, if any, is closed: there is one daemon. */
static void become_listener(struct gt_conn *conn)
{
	struct shim *shim = conn->shim;
	struct gt_shim_reply reply = make_reply(GT_SHIM_MSG_REPLY, NULL);
	struct gt_error err = { 0 };
	reply.pid = shim->init.pid;
	reply.started = shim->started;
	int fd = gt_loop_remove(&shim->loop, &conn->source);
	drop_conn(conn);
	gt_loop_drop(&shim->loop, &shim->events);
	shim->daemons++;
	shim->events.ready = events_ready;
	shim->events.owner = shim;
	if (!send_reply(fd, &reply, -1) || gt_loop_add(&shim->loop, &shim->events, fd, EPOLLIN, &err) < 0) {
		close(fd);
		return;
	}
	gt_events_flush(shim);
}

static int attach(struct shim *shim, const struct gt_shim_request *request, int *fds, size_t nfds, struct gt_error *err)
{
	struct gt_proc *proc = gt_proc_find(shim, request->exec_id, err);
	if (!proc)
		return -1;
	if (nfds != 1)
		return gt_fail(err, GT_INVALID, "a request to attach comes with one socket");
	if (proc->ended || shim->phase == PHASE_FAILED)
		return gt_fail(err, GT_NOT_FOUND, "the process has ended");
	if (gt_client_add(proc, request, fds[0], err) < 0)
		return -1;
	fds[0] = -1;
	return 0;
}

static int exec(struct gt_conn *conn, const struct gt_shim_request *request, int *fds, size_t nfds, struct gt_error *err)
{
	if (nfds < 1 || nfds > 2)
		return gt_fail(err, GT_INVALID, "a request to exec comes with a file and at most one socket");
	if (conn->exec)
		return gt_fail(err, GT_CONFLICT, "an exec is under way on this connection");
	if (gt_exec_begin(conn->shim, request, fds[0], nfds == 2 ? fds[1] : -1, conn, &conn->exec, err) < 0)
		return -1;
	if (nfds == 2)
		fds[1] = -1;
	return 1;
}

void gt_server_exec_done(struct gt_conn *conn, pid_t pid, const struct gt_error *err)
{
	struct gt_shim_reply reply = make_reply(GT_SHIM_MSG_REPLY, err);
	reply.pid = pid;
	conn->exec = NULL;
	if (!send_reply(conn->source.fd, &reply, -1))
		drop_conn(conn);
}

static int signal_or_resize(struct shim *shim, const struct gt_shim_request *request, struct gt_error *err)
{
	struct gt_proc *proc = gt_proc_find(shim, request->exec_id, err);
	if (!proc)
		return -1;
	if (request->type == GT_SHIM_MSG_SIGNAL)
		return gt_proc_signal(proc, request->signo, err);
	return gt_proc_resize(proc, request->rows, request->cols, err);
}

/* 0: done; 1: the answer comes later. */
static int serve(struct gt_conn *conn, const struct gt_shim_request *request, int *fds, size_t nfds, struct gt_error *err)
{
	struct shim *shim = conn->shim;
	switch (request->type) {
	case GT_SHIM_MSG_SIGNAL:
	case GT_SHIM_MSG_RESIZE:
		return signal_or_resize(shim, request, err);
	case GT_SHIM_MSG_ATTACH:
		if (request->attach & ~GT_SHIM_ATTACH_ALL)
			return gt_fail(err, GT_UNSUPPORTED, "this gantry-shim does not know attach flags 0x%x", request->attach);
		return attach(shim, request, fds, nfds, err);
	case GT_SHIM_MSG_EXEC:
		if (request->attach & ~GT_SHIM_ATTACH_ALL)
			return gt_fail(err, GT_UNSUPPORTED, "this gantry-shim does not know attach flags 0x%x", request->attach);
		return exec(conn, request, fds, nfds, err);
	case GT_SHIM_MSG_REOPEN_LOG:
		return gt_shim_reopen(shim, err);
	case GT_SHIM_MSG_LISTEN:
		return gt_fail(err, GT_NOT_FOUND, "the container has not been started");
	default:
		return gt_fail(err, GT_UNSUPPORTED, "this gantry-shim does not know request %u: the container is older than the daemon", request->type);
	}
}

static void conn_ready(struct gt_source *source, uint32_t events)
{
	struct gt_conn *conn = source->owner;
	struct shim *shim = conn->shim;
	struct gt_shim_request request;
	struct gt_error err = { 0 };
	int fds[GT_MAX_FDS];
	size_t nfds = GT_COUNT(fds);
	(void)events;
	int rc = receive(source->fd, &request, fds, &nfds);
	if (rc == 0)
		return;
	if (rc < 0) {
		drop_conn(conn);
		return;
	}
	if (request.type == GT_SHIM_MSG_LISTEN && shim->phase == PHASE_STARTED && nfds == 0) {
		become_listener(conn);
		return;
	}
	struct gt_shim_reply reply = make_reply(GT_SHIM_MSG_REPLY, NULL);
	rc = serve(conn, &request, fds, nfds, &err);
	if (rc < 0)
		reply = make_reply(GT_SHIM_MSG_REPLY, &err);
	for (size_t i = 0; i < nfds; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	if (rc <= 0 && !send_reply(source->fd, &reply, -1))
		drop_conn(conn);
}

static bool peer_is_root(int sock)
{
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t len = sizeof cred;
	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == 0;
}

static void listener_ready(struct gt_source *source, uint32_t events)
{
	struct shim *shim = source->owner;
	(void)events;
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (shim->conn_count >= GT_SHIM_MAX_CONNECTIONS || !peer_is_root(fd)) {
		close(fd);
		return;
	}
	struct gt_conn *conn = gt_xcalloc(1, sizeof *conn);
	*conn = (struct gt_conn){ .next = shim->conns, .shim = shim, .source = { .fd = -1, .ready = conn_ready, .owner = conn } };
	if (gt_loop_add(&shim->loop, &conn->source, fd, EPOLLIN, NULL) < 0) {
		close(fd);
		free(conn);
		return;
	}
	shim->conns = conn;
	shim->conn_count++;
}

int gt_server_open(struct shim *shim, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/" GT_SHIM_SOCKET, shim->bundle);
	int fd = gt_unix_listen(path, SOCK_SEQPACKET, 0600, err);
	if (fd < 0)
		return -1;
	shim->listener = (struct gt_source){ .fd = -1, .ready = listener_ready, .owner = shim };
	if (fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && gt_loop_add(&shim->loop, &shim->listener, fd, EPOLLIN, err) == 0)
		return 0;
	close(fd);
	return -1;
}

void gt_server_close(struct shim *shim)
{
	if (shim->listener.fd < 0)
		return;
	gt_loop_drop(&shim->loop, &shim->listener);
	unlinkat(shim->bundle_fd, GT_SHIM_SOCKET, 0);
	for (struct gt_conn *conn = shim->conns, *next; conn; conn = next) {
		next = conn->next;
		drop_conn(conn);
	}
}
