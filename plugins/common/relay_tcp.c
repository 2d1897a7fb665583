/*
 * relay_tcp.c - relayed connections: two sockets, and a pipe for each way while something is in it, through which the kernel moves pages.
 *
 * Both sockets are watched edge-triggered: an event moves what can be moved, both ways, up to a portion; where more is left, it goes to the end of the
 * kernel's queue. An end of one way is passed on as such; an error ends both at once, as a reset.
 */
#include "common/relay_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS 16                      /* for one event */
#define CHUNK (64 * 1024)
#define PORTION (1024 * 1024)           /* of one way, for one event */
#define CONNECT_NS (10 * SECOND_NS)
#define DRAIN_NS (10 * SECOND_NS)       /* for what is left when the port ends */

enum { CLIENT, INSIDE };

/* From ends[i] to the other one. */
struct way {
	int pipe[2];                    /* -1: none */
	size_t filled;                  /* bytes in it */
	bool ended;                     /* nothing more comes */
	bool shut;                      /* which the other side knows */
};

struct tcp_flow {
	struct watched watched;
	TAILQ_ENTRY(tcp_flow) link;
	const struct relay_port *port;  /* NULL: it has ended */
	int ends[2];
	struct way ways[2];
	bool connecting;
	int64_t deadline_ns;            /* 0: none */
};

/* ---- pipes ---- */

static int take_pipe(struct relay *relay, struct way *way)
{
	if (way->pipe[0] >= 0)
		return 0;
	if (relay->pipe_count == 0)
		return pipe2(way->pipe, O_CLOEXEC | O_NONBLOCK);
	relay->pipe_count--;
	way->pipe[0] = relay->pipes[relay->pipe_count][0];
	way->pipe[1] = relay->pipes[relay->pipe_count][1];
	return 0;
}

static void give_pipe(struct relay *relay, struct way *way)
{
	if (way->pipe[0] < 0)
		return;
	if (way->filled == 0 && relay->pipe_count < SPARE_PIPES) {
		relay->pipes[relay->pipe_count][0] = way->pipe[0];
		relay->pipes[relay->pipe_count++][1] = way->pipe[1];
	} else {
		close(way->pipe[0]);
		close(way->pipe[1]);
	}
	way->pipe[0] = way->pipe[1] = -1;
	way->filled = 0;
}

/* ---- end ---- */

static void set_deadline(struct relay *relay, struct tcp_flow *flow, int64_t deadline_ns)
{
	relay->timed += (deadline_ns != 0) - (flow->deadline_ns != 0);
	flow->deadline_ns = deadline_ns;
}

static void reset_on_close(int fd)
{
	struct linger now = { .l_onoff = 1 };
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void end(struct relay *relay, struct tcp_flow *flow, bool reset)
{
	for (int i = 0; i < 2; i++) {
		give_pipe(relay, &flow->ways[i]);
		if (flow->ends[i] < 0)
			continue;
		if (reset)
			reset_on_close(flow->ends[i]);
		close(flow->ends[i]);
	}
	set_deadline(relay, flow, 0);
	TAILQ_REMOVE(&relay->tcp, flow, link);
	relay->count--;
	relay_bury(relay, &flow->watched);
}

void tcp_end_all(struct relay *relay)
{
	while (!TAILQ_EMPTY(&relay->tcp))
		end(relay, TAILQ_FIRST(&relay->tcp), true);
}

void tcp_sweep(struct relay *relay, int64_t now)
{
	struct tcp_flow *next;
	for (struct tcp_flow *flow = TAILQ_FIRST(&relay->tcp); flow; flow = next) {
		next = TAILQ_NEXT(flow, link);
		if (flow->deadline_ns && flow->deadline_ns <= now)
			end(relay, flow, true);
	}
}

/* ---- moving ---- */

/* Into the pipe; 1: something is there to go on, 0: nothing now, -1: broken. */
static int draw(struct relay *relay, struct way *way, int from)
{
	if (take_pipe(relay, way) < 0)
		return -1;
	ssize_t got = splice(from, NULL, way->pipe[1], NULL, CHUNK, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (got < 0)
		return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -1;
	way->ended = got == 0;
	way->filled = (size_t)got;
	return 1;
}

/* Out of the pipe; as draw(). */
static int pour(struct way *way, int to, size_t *moved)
{
	ssize_t gone = splice(way->pipe[0], NULL, to, NULL, way->filled, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (gone < 0)
		return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -1;
	way->filled -= (size_t)gone;
	*moved += (size_t)gone;
	return gone > 0 ? 1 : -1;
}

/* One way, as far as it goes: -1 where it is broken, 1 where the portion is used up. */
static int move(struct relay *relay, struct tcp_flow *flow, int from)
{
	struct way *way = &flow->ways[from];
	size_t moved = 0;
	int rc = 1;
	while (rc > 0 && !way->shut && moved < PORTION) {
		if (way->filled) {
			rc = pour(way, flow->ends[!from], &moved);
		} else if (!way->ended) {
			rc = draw(relay, way, flow->ends[from]);
		} else {
			shutdown(flow->ends[!from], SHUT_WR);
			way->shut = true;
		}
	}
	if (way->filled == 0)
		give_pipe(relay, way);
	return rc < 0 ? -1 : moved >= PORTION;
}

static void move_both(struct relay *relay, struct tcp_flow *flow)
{
	/* What the container says first: it may have ended. */
	int out = move(relay, flow, INSIDE), in = out < 0 ? -1 : move(relay, flow, CLIENT);
	if (in < 0) {
		end(relay, flow, true);
		return;
	}
	if (flow->ways[CLIENT].shut && flow->ways[INSIDE].shut) {
		end(relay, flow, false);
		return;
	}
	struct epoll_event again = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = &flow->watched };
	for (int i = 0; i < 2 && (out || in); i++)
		epoll_ctl(relay->epoll, EPOLL_CTL_MOD, flow->ends[i], &again);
}

void tcp_event(struct relay *relay, struct tcp_flow *flow, uint32_t events)
{
	int errnum = 0;
	socklen_t len = sizeof errnum;
	if (events & EPOLLERR) {
		end(relay, flow, true);
		return;
	}
	if (!flow->connecting) {
		move_both(relay, flow);
		return;
	}
	if (getsockopt(flow->ends[INSIDE], SOL_SOCKET, SO_ERROR, &errnum, &len) < 0 || errnum ||
	    relay_watch(relay, flow->ends[CLIENT], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &flow->watched) < 0) {
		end(relay, flow, true);
		return;
	}
	flow->connecting = false;
	set_deadline(relay, flow, 0);
	move_both(relay, flow);
}

/* ---- begin ---- */

/* A peer that has vanished is noticed. */
static void set_options(int fd)
{
	int on = 1, idle = 60, interval = 15, count = 4;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static int connect_inside(const struct relay_port *port)
{
	int fd = socket(port->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	set_options(fd);
	if (connect(fd, (const struct sockaddr *)(const void *)&port->to, port->to_len) == 0 || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

/* Takes the client over. */
static int begin(struct relay *relay, const struct relay_port *port, int client)
{
	struct tcp_flow *flow = relay_has_room(relay) ? calloc(1, sizeof *flow) : NULL;
	int inside = flow ? connect_inside(port) : -1;
	if (inside < 0 || relay_watch(relay, inside, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &flow->watched) < 0) {
		reset_on_close(client);
		close(client);
		if (inside >= 0)
			close(inside);
		free(flow);
		return -1;
	}
	set_options(client);
	flow->watched.kind = WATCHED_TCP;
	flow->port = port;
	flow->ends[CLIENT] = client;
	flow->ends[INSIDE] = inside;
	flow->connecting = true;
	for (int i = 0; i < 2; i++)
		flow->ways[i].pipe[0] = flow->ways[i].pipe[1] = -1;
	TAILQ_INSERT_TAIL(&relay->tcp, flow, link);
	relay->count++;
	set_deadline(relay, flow, relay_now() + CONNECT_NS);
	return 0;
}

void tcp_accept(struct relay *relay, struct relay_port *port)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int client = accept4(port->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client < 0) {
			relay->nap |= errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
			return;
		}
		(void)begin(relay, port, client);
	}
}

/* The container, or its way to this port, is gone: what it had sent before is drained. */
void tcp_port_ends(struct relay *relay, const struct relay_port *port)
{
	struct tcp_flow *next;
	for (struct tcp_flow *flow = TAILQ_FIRST(&relay->tcp); flow; flow = next) {
		next = TAILQ_NEXT(flow, link);
		if (flow->port != port)
			continue;
		if (flow->connecting) {
			end(relay, flow, true);
			continue;
		}
		flow->port = NULL;
		flow->ways[CLIENT].shut = true;
		give_pipe(relay, &flow->ways[CLIENT]);
		set_deadline(relay, flow, relay_now() + DRAIN_NS);
		shutdown(flow->ends[INSIDE], SHUT_RDWR);
	}
}
