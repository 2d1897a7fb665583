/*
 * client.c - the daemon's side of a shim's life: spawned, started, undone, found again; and its events.
 *
 * A struct gt_shim holds the event connection and, where this daemon started the shim, its pidfd. Both are set before the struct is seen by a second
 * thread; the pidfd leaves it exactly once, by an atomic exchange. Requests (client_call.c) have connections of their own, so threads do not wait
 * for each other.
 */
#include "shim/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/spawn.h"
#include "shim/client_call.h"
#include "shim/client_reap.h"
#include "shim/protocol.h"

#define EXIT_FILE_MAX 4096
#define END_TIMEOUT (10 * GT_SECOND)    /* how long a shim may take to undo everything */

/* Hands the pidfd to whoever asks first; -1 for all others. */
static int take_pidfd(struct gt_shim *shim)
{
	return __atomic_exchange_n(&shim->pidfd, -1, __ATOMIC_ACQ_REL);
}

static struct gt_shim *shim_new(const char *bundle, int events, int pidfd)
{
	struct gt_shim *shim = gt_xcalloc(1, sizeof *shim);
	shim->socket = gt_xasprintf("%s/" GT_SHIM_SOCKET, bundle);
	shim->events = gt_fd_raise(events);
	shim->pidfd = gt_fd_raise(pidfd);
	return shim;
}

void gt_shim_free(struct gt_shim *shim)
{
	if (!shim)
		return;
	close(shim->events);
	int pidfd = take_pidfd(shim);
	if (pidfd >= 0 && gt_shim_reap_now(pidfd))
		close(pidfd);
	else if (pidfd >= 0)
		gt_shim_reap_later(pidfd);
	free(shim->socket);
	free(shim);
}

/* True when the process behind pidfd ended within timeout. */
static bool await_end(int pidfd, int64_t timeout)
{
	int64_t until = gt_monotonic() + timeout;
	for (;;) {
		int64_t left = until - gt_monotonic();
		struct pollfd end = { .fd = pidfd, .events = POLLIN };
		int rc = poll(&end, 1, left > 0 ? (int)(left / GT_MILLISECOND) + 1 : 0);
		if (rc > 0)
			return true;
		if ((rc == 0 && left <= 0) || (rc < 0 && errno != EINTR))
			return false;
	}
}

void gt_shim_abort(struct gt_shim *shim)
{
	shutdown(shim->events, SHUT_RDWR);
	int pidfd = take_pidfd(shim);
	if (pidfd < 0)
		return;
	if (!await_end(pidfd, END_TIMEOUT)) {
		/* The container's init dies with its shim (PR_SET_PDEATHSIG). */
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		await_end(pidfd, GT_SECOND);
	}
	if (gt_shim_reap_now(pidfd))
		close(pidfd);
	else
		gt_shim_reap_later(pidfd);
}

/* Runs the program with its end of the pair as descriptor 3 and the bundle's shim.log as standard error. */
static int run_shim(const char *shim_path, const char *bundle, int sync, int *pidfd, struct gt_error *err)
{
	AUTO_FREE char *log_path = gt_xasprintf("%s/" GT_SHIM_LOG_FILE, bundle);
	AUTO_CLOSE int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "create %s", log_path);
	char *argv[] = { (char *)(uintptr_t)"gantry-shim", (char *)(uintptr_t)bundle, NULL };
	const int fds[] = { -1, -1, log, sync };
	struct gt_spawn how = { .path = shim_path, .argv = argv, .fds = fds, .nfds = GT_COUNT(fds), .new_session = true };
	return gt_spawn(&how, NULL, pidfd, err);
}

int gt_shim_spawn(const char *shim_path, const char *bundle, struct gt_shim **shim, struct gt_shim_created *created, struct gt_error *err)
{
	int pair[2], pidfd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a socket pair for gantry-shim");
	int rc = run_shim(shim_path, bundle, pair[1], &pidfd, err);
	close(pair[1]);
	if (rc < 0) {
		close(pair[0]);
		return -1;
	}
	struct gt_shim *made = shim_new(bundle, pair[0], pidfd);
	struct gt_shim_reply reply;
	int netns = -1;
	if (gt_shim_receive(made->events, gt_monotonic() + GT_SHIM_LONG, GT_SHIM_MSG_CREATED, &reply, &netns, err) < 0) {
		if (err && err->kind == GT_UNAVAILABLE)
			gt_context(err, "make a container of %s (%s/" GT_SHIM_LOG_FILE " may say more)", bundle, bundle);
		gt_shim_abort(made);
		gt_shim_free(made);
		return -1;
	}
	*created = (struct gt_shim_created){ .pid = reply.pid, .netns_fd = netns };
	*shim = made;
	return 0;
}

int gt_shim_start(struct gt_shim *shim, struct gt_error *err)
{
	struct gt_shim_request request = { .magic = GT_SHIM_MAGIC, .type = GT_SHIM_MSG_START };
	struct gt_shim_reply reply;
	if (gt_shim_send(shim->events, &request, NULL, 0, err) == 0 &&
	    gt_shim_receive(shim->events, gt_monotonic() + GT_SHIM_LONG, GT_SHIM_MSG_REPLY, &reply, NULL, err) == 0)
		return 0;
	gt_shim_abort(shim);
	return -1;
}

int gt_shim_connect(const char *bundle, struct gt_shim **shim, struct gt_shim_state *state, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/" GT_SHIM_SOCKET, bundle);
	struct gt_shim_request request = { .magic = GT_SHIM_MAGIC, .type = GT_SHIM_MSG_LISTEN };
	struct gt_shim_reply reply;
	int64_t until = gt_monotonic() + GT_SHIM_SHORT;
	AUTO_CLOSE int sock = gt_shim_dial(path, until, err);
	if (sock < 0)
		return -1;
	if (gt_shim_send(sock, &request, NULL, 0, err) < 0 || gt_shim_receive(sock, until, GT_SHIM_MSG_REPLY, &reply, NULL, err) < 0)
		return -1;
	*state = (struct gt_shim_state){ .pid = reply.pid, .started = reply.started, .exited = reply.exited };
	*shim = shim_new(bundle, take_fd(sock), -1);
	return 0;
}

int gt_shim_event_fd(const struct gt_shim *shim)
{
	return shim->events;
}

/* The shim waits with the end of an exec's streams until the daemon has dealt with the exec's exit: who reads to the end of a stream and
 * then asks for the exit code must find it. Being asked for the next event says that. */
static void acknowledge(struct gt_shim *shim)
{
	struct gt_shim_request ack = { .magic = GT_SHIM_MAGIC, .type = GT_SHIM_MSG_ACK };
	if (!shim->ack_due[0])
		return;
	memcpy(ack.exec_id, shim->ack_due, sizeof shim->ack_due);
	send(shim->events, &ack, sizeof ack, MSG_DONTWAIT | MSG_NOSIGNAL); /* without it the shim waits for a moment */
	shim->ack_due[0] = '\0';
}

static int gone(struct gt_shim *shim, struct gt_shim_event *event)
{
	int pidfd = take_pidfd(shim);
	if (pidfd >= 0 && gt_shim_reap_now(pidfd))
		close(pidfd);
	else if (pidfd >= 0)
		gt_shim_reap_later(pidfd);
	*event = (struct gt_shim_event){ .type = GT_SHIM_GONE, .at = gt_now() };
	return 1;
}

int gt_shim_event(struct gt_shim *shim, struct gt_shim_event *event)
{
	struct gt_shim_notice notice = { 0 };
	acknowledge(shim);
	ssize_t n;
	do {
		n = recv(shim->events, &notice, sizeof notice, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < (ssize_t)GT_SHIM_NOTICE_MIN || notice.magic != GT_SHIM_MAGIC || notice.type != GT_SHIM_MSG_NOTICE)
		return gone(shim, event);
	notice.exec_id[GT_COUNT(event->exec_id) - 1] = '\0';
	*event = (struct gt_shim_event){ .type = (enum gt_shim_event_type)notice.event, .code = notice.code, .signal = notice.signal,
					 .oom = notice.oom != 0, .at = notice.at };
	memcpy(event->exec_id, notice.exec_id, sizeof event->exec_id);
	if (event->type == GT_SHIM_EXEC_EXIT)
		memcpy(shim->ack_due, event->exec_id, sizeof shim->ack_due);
	return 1;
}

int gt_shim_read_exit(const char *bundle, struct gt_shim_event *event, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/" GT_SHIM_EXIT_FILE, bundle);
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(AT_FDCWD, path, EXIT_FILE_MAX, &text, err) < 0)
		return -1;
	AUTO_JSON json_t *json = gt_json_parse(text.data, text.len, path, err);
	if (!json)
		return -1;
	int64_t code = -1, signo = 0, at = 0;
	bool oom = false;
	if (gt_json_int(json, "code", &code, err) < 0 || gt_json_int(json, "signal", &signo, err) < 0 ||
	    gt_json_bool(json, "oom", &oom, err) < 0 || gt_json_int(json, "at", &at, err) < 0)
		return gt_context(err, "read %s", path);
	if (code < 0 || code > 255 || signo < 0 || signo > 128)
		return gt_fail(err, GT_INVALID, "%s does not hold an exit status", path);
	*event = (struct gt_shim_event){ .type = GT_SHIM_EXIT, .code = (int)code, .signal = (int)signo, .oom = oom, .at = at };
	return 0;
}
