/*
 * relay.c - carries bytes between two sockets, one of which may speak TLS, until both directions are done.
 *
 * One thread serves one pair. A side that ends its direction (end of file, TLS close_notify) is passed on as a half-close, since for an
 * attached session that is the end of stdin while output goes on. A side that is gone altogether ends both directions, after
 * what it had said has been delivered.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/internal.h"
#include "base/fd.h"

enum { ROOM = 32 << 10, STACK = 256 << 10 };

/* One direction. */
struct lane {
	struct relay_end *from, *to;
	char bytes[ROOM];
	size_t begin, end;
	bool held;      /* GnuTLS keeps a record that did not go out: it must be asked to go on, not given it again */
	bool ended;     /* from says no more */
	bool closed;    /* ... and to knows, or takes no more */
};

static ssize_t end_read(struct relay_end *from, char *bytes, size_t room)
{
	ssize_t got;
	if (!from->tls) {
		do
			got = recv(from->fd, bytes, room, 0);
		while (got < 0 && errno == EINTR);
		return got;
	}
	do
		got = gnutls_record_recv(from->tls, bytes, room);
	while (got == GNUTLS_E_INTERRUPTED || (got < 0 && got != GNUTLS_E_AGAIN && !gnutls_error_is_fatal((int)got)));
	if (got >= 0)
		return got;
	errno = got == GNUTLS_E_AGAIN ? EAGAIN : EIO;
	return -1;
}

static ssize_t end_write(struct lane *lane)
{
	const char *bytes = lane->bytes + lane->begin;
	size_t len = lane->end - lane->begin;
	ssize_t put;
	if (!lane->to->tls) {
		do
			put = send(lane->to->fd, bytes, len, MSG_NOSIGNAL);
		while (put < 0 && errno == EINTR);
		return put;
	}
	do {
		put = lane->held ? gnutls_record_send(lane->to->tls, NULL, 0) : gnutls_record_send(lane->to->tls, bytes, len);
		lane->held = put == GNUTLS_E_AGAIN || put == GNUTLS_E_INTERRUPTED;
	} while (put == GNUTLS_E_INTERRUPTED);
	if (put >= 0)
		return put;
	errno = put == GNUTLS_E_AGAIN ? EAGAIN : EPIPE;
	return -1;
}

static void end_half_close(struct relay_end *to)
{
	if (to->tls)
		gnutls_bye(to->tls, GNUTLS_SHUT_WR);
	else
		shutdown(to->fd, SHUT_WR);
}

static bool lane_wants_read(const struct lane *lane)
{
	return !lane->ended && !lane->closed && lane->begin == lane->end;
}

/* Moves what can be moved now. False: the receiving side broke. */
static bool lane_move(struct lane *lane, bool readable)
{
	bool pending = lane->from->tls && gnutls_record_check_pending(lane->from->tls) > 0;
	if (lane_wants_read(lane) && (readable || pending)) {
		ssize_t got = end_read(lane->from, lane->bytes, ROOM);
		lane->begin = 0;
		lane->end = got > 0 ? (size_t)got : 0;
		lane->ended = got == 0 || (got < 0 && errno != EAGAIN);
	}
	if (lane->begin < lane->end && !lane->closed) {
		ssize_t put = end_write(lane);
		if (put < 0 && errno != EAGAIN)
			return false;
		if (put > 0)
			lane->begin += (size_t)put;
	}
	if (lane->ended && lane->begin == lane->end && !lane->closed) {
		end_half_close(lane->to);
		lane->closed = true;
	}
	return true;
}

static short events_for(const struct lane *out, const struct lane *in)
{
	return (short)((lane_wants_read(out) ? POLLIN : 0) | (in->begin < in->end ? POLLOUT : 0));
}

static bool tls_pending(const struct lane *lane)
{
	return lane_wants_read(lane) && lane->from->tls && gnutls_record_check_pending(lane->from->tls) > 0;
}

static void run_lanes(struct lane *there, struct lane *back)
{
	while (!there->closed || !back->closed) {
		struct pollfd look[2] = {
			{ .fd = there->from->fd, .events = events_for(there, back) },
			{ .fd = back->from->fd, .events = events_for(back, there) },
		};
		/* A side that has hung up stays ready for ever. While what it said is still on its way, that is no news. */
		if (look[0].events == 0 && !there->closed)
			look[0].fd = -1;
		if (look[1].events == 0 && !back->closed)
			look[1].fd = -1;
		bool pending = tls_pending(there) || tls_pending(back);
		if (poll(look, 2, pending ? 0 : -1) < 0 && errno != EINTR)
			return;
		short hung = POLLHUP | POLLERR;
		if (!lane_move(there, look[0].revents & (POLLIN | hung)) || !lane_move(back, look[1].revents & (POLLIN | hung)))
			return;
		/* Gone, and all it said is delivered: nobody is left to receive the other direction. */
		if ((look[0].revents & hung && there->closed) || (look[1].revents & hung && back->closed))
			return;
	}
}

void relay_run(struct relay_end *a, struct relay_end *b, const char *first, size_t first_len)
{
	struct lane *lanes = gt_xmalloc(2 * sizeof *lanes);
	for (int i = 0; i < 2; i++) {
		struct lane *lane = &lanes[i];
		lane->from = i ? b : a;
		lane->to = i ? a : b;
		lane->begin = lane->end = 0;
		lane->held = lane->ended = lane->closed = false;
		fcntl(lane->from->fd, F_SETFL, fcntl(lane->from->fd, F_GETFL) | O_NONBLOCK);
	}
	if (first_len == 0 || gt_write_full(b->fd, first, first_len) == 0)
		run_lanes(&lanes[0], &lanes[1]);
	free(lanes);
}

/* ---- bytes that were read too early ---- */

struct prepended {
	int client, inner;
	size_t len;
	char first[];
};

static void *prepend_thread(void *arg)
{
	struct prepended *job = arg;
	struct relay_end client = { .fd = job->client }, inner = { .fd = job->inner };
	relay_run(&client, &inner, job->first, job->len);
	close(job->client);
	close(job->inner);
	free(job);
	return NULL;
}

int relay_prepend(int fd, const char *first, size_t first_len)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		close(fd);
		return -1;
	}
	struct prepended *job = gt_xmalloc(sizeof *job + first_len);
	job->client = fd;
	job->inner = pair[0];
	job->len = first_len;
	memcpy(job->first, first, first_len);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_t thread;
	int rc = pthread_create(&thread, &attr, prepend_thread, job);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		return pair[1];
	close(fd);
	close(pair[0]);
	close(pair[1]);
	free(job);
	errno = rc;
	return -1;
}
