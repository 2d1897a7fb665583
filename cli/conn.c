#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"

int conn_unix(struct conn *conn, const char *path, struct gt_error *err)
{
	*conn = (struct conn){ .fd = gt_unix_connect(path, SOCK_STREAM, err) };
	return conn->fd < 0 ? -1 : 0;
}

static int dial(const struct addrinfo *at)
{
	int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
	if (fd < 0)
		return -1;
	if (connect(fd, at->ai_addr, at->ai_addrlen) == 0) {
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		return fd;
	}
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

int conn_tcp(struct conn *conn, const char *host, const char *port, const struct tls_files *tls, struct gt_error *err)
{
	*conn = (struct conn){ .fd = -1 };
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	int bad = getaddrinfo(host, port, &hints, &list);
	if (bad)
		return gt_fail(err, GT_UNAVAILABLE, "cannot resolve %s: %s", host, gai_strerror(bad));
	AUTO_CLOSE int fd = -1;
	errno = ENOENT;
	for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
		fd = dial(at);
	int saved = errno;
	freeaddrinfo(list);
	if (fd < 0)
		return gt_fail_sys(err, GT_UNAVAILABLE, saved, "cannot connect to %s port %s", host, port);
	if (tls) {
		conn->tls = tls_connect(fd, host, tls, err);
		if (!conn->tls)
			return -1;
	}
	conn->fd = take_fd(fd);
	return 0;
}

void conn_close(struct conn *conn)
{
	if (conn->tls)
		tls_free(conn->tls);
	if (conn->fd >= 0)
		close(conn->fd);
	*conn = (struct conn){ .fd = -1 };
}

ssize_t conn_read(struct conn *conn, void *bytes, size_t room)
{
	if (conn->tls)
		return tls_read(conn->tls, bytes, room);
	ssize_t got;
	do
		got = read(conn->fd, bytes, room);
	while (got < 0 && errno == EINTR);
	return got;
}

ssize_t conn_write(struct conn *conn, const void *bytes, size_t len)
{
	if (conn->tls)
		return tls_write(conn->tls, bytes, len);
	ssize_t put;
	do
		put = send(conn->fd, bytes, len, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	return put;
}

int conn_write_all(struct conn *conn, const void *bytes, size_t len)
{
	const char *p = bytes;
	while (len > 0) {
		ssize_t put = conn_write(conn, p, len);
		if (put < 0)
			return -1;
		p += put;
		len -= (size_t)put;
	}
	return 0;
}

bool conn_pending(const struct conn *conn)
{
	return conn->tls && tls_pending(conn->tls);
}

void conn_half_close(struct conn *conn)
{
	if (conn->tls)
		tls_half_close(conn->tls);
	else
		shutdown(conn->fd, SHUT_WR);
}

void conn_set_blocking(struct conn *conn, bool blocking)
{
	int flags = fcntl(conn->fd, F_GETFL);
	if (flags >= 0)
		fcntl(conn->fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}
