/*
 * hijack.c - connections that stop being HTTP: attach and exec.
 *
 * With an Upgrade header the client gets a 101 from MHD, which then gives its socket away. The engine and the shim get a duplicate, so MHD may close
 * its own then: that is a close(2) without shutdown(2), and the session goes on without this process. Bytes that MHD had read
 * beyond the request are put in front by a relay.
 *
 * Old clients send no Upgrade header and expect 200 and a raw stream. MHD knows no such answer: its head is written here, and
 * MHD's descriptor is replaced by a dead socket, since at the end of a connection MHD does shut it down. What such a client sent before it saw the
 * 200 is lost, as with Docker.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/internal.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

enum { MULTIPLEXED_SINCE = 42 };
#define READER_PATIENCE (100 * GT_MILLISECOND)

const char *stream_content_type(const struct request *request, bool tty)
{
	bool multiplexed = !tty && request->match.version >= MULTIPLEXED_SINCE;
	return multiplexed ? "application/vnd.docker.multiplexed-stream" : "application/vnd.docker.raw-stream";
}

/* The head has gone out: what fails now is told on the stream itself, as a line on stderr. */
static void tell(const struct request *request, int fd, const struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	size_t len = strlen(err->message) + 2;
	if (!request->tty) {
		const unsigned char head[8] = { 2, 0, 0, 0, (unsigned char)(len >> 24), (unsigned char)(len >> 16),
						(unsigned char)(len >> 8), (unsigned char)len };
		gt_buf_add(&text, head, sizeof head);
	}
	gt_buf_printf(&text, "%s\r\n", err->message);
	send(fd, text.data, text.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_RDWR);
}

/* Until the client has read the head of the answer: what follows at once would be read along with it, and clients that then go over from their HTTP
 * library's buffer to the bare socket (docker-py) lose it. Over tcp there is no telling; network latency does the same there. */
static void await_reader(int client)
{
	int queued = 0;
	for (int64_t waited = 0, step = 20000; waited < READER_PATIENCE; waited += step, step = step < GT_MILLISECOND ? step * 3 / 2 : step) {
		struct timespec pause = { .tv_nsec = step };
		if (ioctl(client, SIOCOUTQ, &queued) < 0 || queued == 0)
			return;
		nanosleep(&pause, NULL);
	}
}

static void hand_over(struct request *request, int fd)
{
	struct gt_error err = { 0 };
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* MHD turns it off; keystrokes want it. No matter on unix sockets */
	if (request->serve(request, fd, &err) == 0)
		return;
	gt_debug("a session ended before it began", "request", request->uri, "error", err.message);
	tell(request, fd, &err);
}

void hijack_upgraded(void *cls, struct MHD_Connection *connection, void *slot, const char *extra, size_t extra_size,
		     MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
	struct request *request = slot;
	(void)cls;
	(void)connection;
	await_reader(sock);
	AUTO_CLOSE int fd = fcntl(sock, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && extra_size > 0)
		fd = relay_prepend(take_fd(fd), extra, extra_size);
	if (fd >= 0)
		hand_over(request, fd);
	else
		gt_warn("a session was dropped", "request", request->uri, "error", strerror(errno));
	MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE); /* last: from here on MHD's listening thread waits for the end of this one */
}

/* Writes the head of a 200 to the client and takes the connection away from MHD. Returns the connection. */
static int take_connection(struct request *request, struct gt_error *err)
{
	int mhd_fd = req_fd(request);
	AUTO_CLOSE int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	AUTO_CLOSE int fd = fcntl(mhd_fd, F_DUPFD_CLOEXEC, 0);
	if (dead < 0 || fd < 0)
		return gt_fail_errno(err, errno, "take over the connection");
	AUTO_BUF struct gt_buf head = { 0 };
	gt_buf_printf(&head, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n", stream_content_type(request, request->tty));
	answer_common_headers(&head);
	gt_buf_str(&head, "\r\n");
	/* A few hundred bytes into an empty socket buffer. */
	if (gt_write_full(fd, head.data, head.len) < 0)
		return gt_fail_sys(err, GT_CANCELLED, errno, "answer the client");
	if (dup3(dead, mhd_fd, O_CLOEXEC) < 0)
		return gt_fail_errno(err, errno, "take over the connection");
	return take_fd(fd);
}

static bool wants_upgrade(const struct request *request)
{
	return request->http_1_1 && req_header(request, "Upgrade") != NULL;
}

int answer_hijack(struct request *request, bool tty, int (*serve)(struct request *request, int fd, struct gt_error *err),
		  struct gt_error *err)
{
	request->tty = tty;
	request->serve = serve;
	if (wants_upgrade(request)) {
		struct MHD_Response *response = MHD_create_response_for_upgrade(hijack_upgraded, NULL);
		if (!response)
			return gt_fail(err, GT_INTERNAL, "no memory for an answer");
		answer_with(request, MHD_HTTP_SWITCHING_PROTOCOLS, response);
		answer_header(request, "Upgrade", "tcp");
		return answer_header(request, "Content-Type", stream_content_type(request, tty));
	}
	AUTO_CLOSE int fd = take_connection(request, err);
	if (fd < 0)
		return -1;
	request->taken = true;
	request->status = 200;
	await_reader(fd);
	hand_over(request, fd);
	return 0;
}
