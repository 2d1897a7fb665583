/*
 * client_call.c - the daemon's requests to a shim: each on a connection of its own, with a deadline for the whole.
 * Thread safe: nothing here is shared.
 */
#include "shim/client_call.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "shim/client.h"

static int too_late(struct gt_error *err)
{
	return gt_fail(err, GT_TIMEOUT, "gantry-shim did not answer in time");
}

int gt_shim_dial(const char *path, int64_t until, struct gt_error *err)
{
	/* By hand and not with gt_unix_connect(): a shim that has stopped must not hold its callers once its backlog is full. */
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *dir = slash ? gt_xstrndup(path, (size_t)(slash - path) + 1) : gt_xstrdup("./");
	AUTO_CLOSE int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return gt_fail_errno(err, errno, "open %s", dir);
	AUTO_CLOSE int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a socket for gantry-shim");
	int64_t left = until - gt_monotonic();
	struct timeval wait = { .tv_sec = left / GT_SECOND, .tv_usec = left % GT_SECOND / 1000 };
	if (left < 1000)
		return too_late(err);
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	snprintf(addr.sun_path, sizeof addr.sun_path, "/proc/self/fd/%d/%s", at, slash ? slash + 1 : path);
	if (connect(sock, (struct sockaddr *)&addr, sizeof addr) == 0)
		return take_fd(sock);
	if (errno == EAGAIN)
		return too_late(err);
	if (errno == ECONNREFUSED || errno == ENOENT)
		return gt_fail(err, GT_NOT_FOUND, "no gantry-shim listens at %s", path);
	return gt_fail_sys(err, GT_UNAVAILABLE, errno, "connect to %s", path);
}

int gt_shim_send(int sock, const struct gt_shim_request *request, const int *fds, size_t nfds, struct gt_error *err)
{
	if (gt_send_fds(sock, request, sizeof *request, fds, nfds) == (ssize_t)sizeof *request)
		return 0;
	if (errno == EAGAIN)
		return too_late(err);
	return gt_fail_sys(err, GT_UNAVAILABLE, errno, "ask gantry-shim");
}

static int await_readable(int sock, int64_t until, struct gt_error *err)
{
	for (;;) {
		int64_t left = until - gt_monotonic();
		struct pollfd poll_fd = { .fd = sock, .events = POLLIN };
		int rc = poll(&poll_fd, 1, left > 0 ? (int)(left / GT_MILLISECOND) + 1 : 0);
		if (rc > 0)
			return 0;
		if (rc == 0 && left <= 0)
			return too_late(err);
		if (rc < 0 && errno != EINTR)
			return gt_fail_sys(err, GT_INTERNAL, errno, "wait for gantry-shim");
	}
}

int gt_shim_receive(int sock, int64_t until, enum gt_shim_message type, struct gt_shim_reply *reply, int *fd, struct gt_error *err)
{
	int got = -1;
	size_t nfds = 1;
	*reply = (struct gt_shim_reply){ 0 };
	if (await_readable(sock, until, err) < 0)
		return -1;
	ssize_t n = gt_recv_fds(sock, reply, sizeof *reply, &got, &nfds);
	AUTO_CLOSE int owned = n > 0 && nfds ? got : -1;
	if (n <= 0)
		return gt_fail(err, GT_UNAVAILABLE, "gantry-shim ended without an answer");
	reply->message[sizeof reply->message - 1] = '\0';
	if (n < (ssize_t)GT_SHIM_REPLY_MIN || reply->magic != GT_SHIM_MAGIC)
		return gt_fail(err, GT_INTERNAL, "gantry-shim answered what this daemon does not understand");
	if (reply->kind != GT_OK) {
		gt_fail(err, reply->kind > 0 && reply->kind < GT_KIND_COUNT ? (enum gt_kind)reply->kind : GT_INTERNAL, "%s", reply->message);
		if (err)
			err->errnum = reply->errnum;
		return -1;
	}
	if (reply->type != (uint32_t)type)
		return gt_fail(err, GT_INTERNAL, "gantry-shim answered out of turn");
	if (fd)
		*fd = take_fd(owned);
	return 0;
}

/* One whole request. */
static int call(struct gt_shim *shim, struct gt_shim_request *request, const int *fds, size_t nfds, int64_t timeout,
		struct gt_shim_reply *reply, struct gt_error *err)
{
	struct gt_shim_reply ignored;
	int64_t until = gt_monotonic() + timeout;
	request->magic = GT_SHIM_MAGIC;
	AUTO_CLOSE int sock = gt_shim_dial(shim->socket, until, err);
	if (sock < 0 || gt_shim_send(sock, request, fds, nfds, err) < 0)
		return -1;
	return gt_shim_receive(sock, until, GT_SHIM_MSG_REPLY, reply ? reply : &ignored, NULL, err);
}

static int name_exec(struct gt_shim_request *request, const char *exec_id, struct gt_error *err)
{
	if (!exec_id)
		return 0;
	size_t len = strlen(exec_id);
	if (len == 0 || len > 64)
		return gt_fail(err, GT_INVALID, "\"%.70s\" is not the id of an exec", exec_id);
	memcpy(request->exec_id, exec_id, len);
	return 0;
}

static int describe_attach(struct gt_shim_request *request, const struct gt_shim_attach *how, struct gt_error *err)
{
	request->attach = (how->stdin ? GT_SHIM_ATTACH_STDIN : 0) | (how->stdout ? GT_SHIM_ATTACH_STDOUT : 0) |
			  (how->stderr ? GT_SHIM_ATTACH_STDERR : 0) | (how->mux ? GT_SHIM_ATTACH_MUX : 0) |
			  (how->detach_keys ? GT_SHIM_ATTACH_KEYS : 0);
	size_t len = how->detach_keys ? strlen(how->detach_keys) : 0;
	if (how->http_chunked)
		return gt_fail(err, GT_UNSUPPORTED, "gantry-shim does not write HTTP chunks");
	if (len > GT_SHIM_MAX_KEYS)
		return gt_fail(err, GT_INVALID, "detach keys of more than %d bytes", GT_SHIM_MAX_KEYS);
	request->keys_len = (uint32_t)len;
	if (len)
		memcpy(request->keys, how->detach_keys, len);
	return 0;
}

int gt_shim_signal(struct gt_shim *shim, const char *exec_id, int signo, struct gt_error *err)
{
	struct gt_shim_request request = { .type = GT_SHIM_MSG_SIGNAL, .signo = signo };
	if (name_exec(&request, exec_id, err) < 0)
		return -1;
	return call(shim, &request, NULL, 0, GT_SHIM_SHORT, NULL, err);
}

int gt_shim_resize(struct gt_shim *shim, const char *exec_id, unsigned rows, unsigned cols, struct gt_error *err)
{
	struct gt_shim_request request = { .type = GT_SHIM_MSG_RESIZE, .rows = rows, .cols = cols };
	if (name_exec(&request, exec_id, err) < 0)
		return -1;
	return call(shim, &request, NULL, 0, GT_SHIM_SHORT, NULL, err);
}

int gt_shim_attach(struct gt_shim *shim, const struct gt_shim_attach *how, int fd, struct gt_error *err)
{
	struct gt_shim_request request = { .type = GT_SHIM_MSG_ATTACH };
	if (describe_attach(&request, how, err) < 0)
		return -1;
	return call(shim, &request, &fd, 1, GT_SHIM_SHORT, NULL, err);
}

int gt_shim_exec(struct gt_shim *shim, const char *exec_id, const char *process, size_t len, bool stdin_open,
		 const struct gt_shim_attach *how, int fd, pid_t *pid, struct gt_error *err)
{
	struct gt_shim_request request = { .type = GT_SHIM_MSG_EXEC, .stdin_open = stdin_open, .process_len = (uint32_t)len };
	struct gt_shim_reply reply;
	if (len > GT_SHIM_MAX_PROCESS)
		return gt_fail(err, GT_TOO_LARGE, "the description of a process is larger than %zu bytes", GT_SHIM_MAX_PROCESS);
	if (name_exec(&request, exec_id, err) < 0 || (fd >= 0 && how && describe_attach(&request, how, err) < 0))
		return -1;
	AUTO_CLOSE int file = memfd_create("gantry-process", MFD_CLOEXEC);
	if (file < 0 || gt_write_full(file, process, len) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "pass a process to gantry-shim");
	const int fds[] = { file, fd };
	if (call(shim, &request, fds, fd >= 0 && how ? 2 : 1, GT_SHIM_LONG, &reply, err) < 0)
		return -1;
	if (pid)
		*pid = reply.pid;
	return 0;
}

int gt_shim_reopen_log(struct gt_shim *shim, struct gt_error *err)
{
	struct gt_shim_request request = { .type = GT_SHIM_MSG_REOPEN_LOG };
	return call(shim, &request, NULL, 0, GT_SHIM_SHORT, NULL, err);
}
