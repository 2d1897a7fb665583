/*
 * frame.c - frames over a stream socket, with descriptors and a deadline.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire.h"

/* Until the socket can go on. */
static int await(int sock, short events, int64_t deadline)
{
	struct pollfd entry = { .fd = sock, .events = events };
	for (;;) {
		int64_t left = deadline ? deadline - gt_monotonic() : 0;
		if (deadline && left <= 0) {
			errno = ETIMEDOUT;
			return -1;
		}
		int rc = poll(&entry, 1, deadline ? (int)(left / GT_MILLISECOND < 60000 ? left / GT_MILLISECOND + 1 : 60000) : -1);
		if (rc > 0)
			return 0;
		if (rc < 0 && errno != EINTR)
			return -1;
	}
}

int frame_send(int sock, enum frame_kind kind, struct wire *w, int64_t deadline)
{
	const char *at = w->out->data;
	size_t left = w->out->len, fds = w->fd_count;
	struct frame_head head = { .len = (uint32_t)(left - sizeof head), .kind = kind };
	memcpy(w->out->data, &head, sizeof head);
	while (left) {
		ssize_t n = gt_send_fds(sock, at, left, w->fds, fds);
		if (n < 0 && errno != EAGAIN)
			return -1;
		if (n < 0 && await(sock, POLLOUT, deadline) < 0)
			return -1;
		if (n > 0) {
			at += n;
			left -= (size_t)n;
			fds = 0;
		}
	}
	return 0;
}

/* Exactly len bytes. fds: room for more of them, or NULL where none may come. */
static int receive(int sock, char *to, size_t len, int *fds, size_t *fd_count, int64_t deadline)
{
	while (len) {
		int none[GT_MAX_FDS];
		size_t more = fds ? GT_MAX_FDS - *fd_count : 0;
		ssize_t n = gt_recv_fds(sock, to, len, fds ? fds + *fd_count : none, &more);
		if (n < 0 && errno != EAGAIN)
			return -1;
		if (n == 0) {
			errno = ECONNRESET;
			return -1;
		}
		if (n < 0 && await(sock, POLLIN, deadline) < 0)
			return -1;
		if (n > 0) {
			to += n;
			len -= (size_t)n;
			if (fds)
				*fd_count += more;
		}
	}
	return 0;
}

int frame_receive(int sock, enum frame_kind *kind, struct gt_buf *body, size_t max, int *fds, size_t *fd_count, int64_t deadline)
{
	struct frame_head head;
	*fd_count = 0;
	gt_buf_reset(body);
	int rc = receive(sock, (char *)&head, sizeof head, fds, fd_count, deadline);
	if (rc == 0 && head.len > max) {
		errno = EPROTO;
		rc = -1;
	}
	if (rc == 0)
		rc = receive(sock, gt_buf_reserve(body, head.len), head.len, NULL, NULL, deadline);
	if (rc < 0) {
		int saved = errno;
		while (*fd_count)
			close(fds[--*fd_count]);
		errno = saved;
		return -1;
	}
	body->len = head.len;
	*kind = (enum frame_kind)head.kind;
	return 0;
}
