#include "common/relay_internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STACK (128 * 1024)
#define EVENTS 32
#define NAP_MS 20
#define TICK_MS 1000                    /* where something ends by time */
#define QUIET_NS (60 * SECOND_NS)

int64_t relay_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static void enter(struct relay *relay)
{
	pthread_mutex_lock(&relay->turnstile);
	pthread_mutex_lock(&relay->lock);
	pthread_mutex_unlock(&relay->turnstile);
}

static void leave(struct relay *relay)
{
	pthread_mutex_unlock(&relay->lock);
}

int relay_watch(struct relay *relay, int fd, uint32_t events, struct watched *watched)
{
	struct epoll_event event = { .events = events, .data.ptr = watched };
	return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, fd, &event);
}

void relay_bury(struct relay *relay, struct watched *watched)
{
	watched->dead = true;
	SLIST_INSERT_HEAD(&relay->dead, watched, grave);
}

bool relay_has_room(struct relay *relay)
{
	if (relay->count < relay->most)
		return true;
	int64_t now = relay_now();
	if (!relay->complained_ns || now - relay->complained_ns > QUIET_NS) {
		relay->complained_ns = now;
		log_line(relay->host, GANTRY_WARN,
			 "a client of a published port is refused: %u from IPv6 are "
			 "relayed already (key relay_connections)",
			 relay->count);
	}
	return false;
}

/* ---- the thread ---- */

static void handle(struct relay *relay, struct watched *watched, uint32_t events)
{
	eventfd_t ignored;
	if (watched->dead)
		return;
	switch (watched->kind) {
	case WATCHED_WAKE:
		(void)eventfd_read(relay->wake_fd, &ignored);
		break;
	case WATCHED_PORT:
		if (((struct relay_port *)(void *)watched)->proto == IPPROTO_TCP)
			tcp_accept(relay, (struct relay_port *)(void *)watched);
		else
			udp_receive(relay, (struct relay_port *)(void *)watched);
		break;
	case WATCHED_TCP:
		tcp_event(relay, (struct tcp_flow *)(void *)watched, events);
		break;
	case WATCHED_UDP:
		udp_event(relay, (struct udp_flow *)(void *)watched);
		break;
	}
}

static void bury_dead(struct relay *relay)
{
	while (!SLIST_EMPTY(&relay->dead)) {
		struct watched *watched = SLIST_FIRST(&relay->dead);
		SLIST_REMOVE_HEAD(&relay->dead, grave);
		free(watched);
	}
}

static void sweep(struct relay *relay)
{
	int64_t now = relay_now();
	if (!relay->timed || now - relay->swept_ns < SECOND_NS / 2)
		return;
	relay->swept_ns = now;
	tcp_sweep(relay, now);
	udp_sweep(relay, now);
}

static void *run(void *arg)
{
	struct relay *relay = arg;
	struct epoll_event events[EVENTS];
	int patience = -1;
	for (bool stop = false; !stop;) {
		int count = epoll_wait(relay->epoll, events, EVENTS, patience);
		for (int i = 0; i < count; i++) {
			enter(relay);
			handle(relay, events[i].data.ptr, events[i].events);
			leave(relay);
		}
		enter(relay);
		sweep(relay);
		bury_dead(relay);
		patience = relay->timed ? TICK_MS : -1;
		stop = relay->stop;
		bool nap = relay->nap;
		relay->nap = false;
		leave(relay);
		if (nap && !stop)
			poll(NULL, 0, NAP_MS);
	}
	return NULL;
}

/* With the lock held. Signals are the process's other threads' business. */
static int start(struct relay *relay, struct gantry_error *err)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	if (relay->runs)
		return 0;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&relay->thread, &attributes, run, relay);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	relay->runs = rc == 0;
	return rc ? gantry_fail_errno(err, GANTRY_E_INTERNAL, rc, "start the thread that relays published ports") : 0;
}

/* ---- open, close ---- */

struct relay *relay_open(const struct gantry_host *host, unsigned most)
{
	struct relay *relay = calloc(1, sizeof *relay);
	if (!relay)
		return NULL;
	relay->host = host;
	relay->most = most;
	TAILQ_INIT(&relay->tcp);
	TAILQ_INIT(&relay->udp);
	SLIST_INIT(&relay->dead);
	relay->wake.kind = WATCHED_WAKE;
	relay->epoll = epoll_create1(EPOLL_CLOEXEC);
	relay->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&relay->turnstile, NULL);
	pthread_mutex_init(&relay->lock, NULL);
	if (relay->epoll >= 0 && relay->wake_fd >= 0 && relay_watch(relay, relay->wake_fd, EPOLLIN, &relay->wake) == 0)
		return relay;
	relay_close(relay);
	return NULL;
}

void relay_close(struct relay *relay)
{
	if (!relay)
		return;
	enter(relay);
	relay->stop = true;
	bool runs = relay->runs;
	leave(relay);
	if (runs) {
		eventfd_write(relay->wake_fd, 1);
		pthread_join(relay->thread, NULL);
	}
	tcp_end_all(relay);
	udp_end_all(relay);
	bury_dead(relay);
	for (unsigned i = 0; i < relay->pipe_count; i++) {
		close(relay->pipes[i][0]);
		close(relay->pipes[i][1]);
	}
	if (relay->epoll >= 0)
		close(relay->epoll);
	if (relay->wake_fd >= 0)
		close(relay->wake_fd);
	pthread_mutex_destroy(&relay->lock);
	pthread_mutex_destroy(&relay->turnstile);
	free(relay);
}

/* ---- ports ---- */

static void set_target(struct relay_port *port, const struct address *to, uint16_t number)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&port->to;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&port->to;
	port->to.ss_family = (sa_family_t)to->family;
	if (to->family == AF_INET) {
		in->sin_port = htons(number);
		memcpy(&in->sin_addr, to->bytes, sizeof in->sin_addr);
		port->to_len = sizeof *in;
	} else {
		in6->sin6_port = htons(number);
		memcpy(&in6->sin6_addr, to->bytes, sizeof in6->sin6_addr);
		port->to_len = sizeof *in6;
	}
}

struct relay_port *relay_begin(struct relay *relay, int fd, int proto, const struct address *to, uint16_t number, struct gantry_error *err)
{
	struct relay_port *port = calloc(1, sizeof *port);
	if (!port) {
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
		return NULL;
	}
	port->watched.kind = WATCHED_PORT;
	port->relay = relay;
	port->fd = fd;
	port->proto = proto;
	set_target(port, to, number);
	enter(relay);
	int rc = proto == IPPROTO_UDP ? udp_prepare(fd) : 0;
	if (rc == 0)
		rc = relay_watch(relay, fd, EPOLLIN, &port->watched);
	if (rc < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "watch a published port");
	else if ((rc = start(relay, err)) < 0)
		epoll_ctl(relay->epoll, EPOLL_CTL_DEL, fd, NULL);
	leave(relay);
	if (rc == 0)
		return port;
	free(port);
	return NULL;
}

void relay_end(struct relay_port *port)
{
	if (!port)
		return;
	struct relay *relay = port->relay;
	enter(relay);
	epoll_ctl(relay->epoll, EPOLL_CTL_DEL, port->fd, NULL);
	if (port->proto == IPPROTO_TCP)
		tcp_port_ends(relay, port);
	else
		udp_port_ends(relay, port);
	relay_bury(relay, &port->watched);
	leave(relay);
	eventfd_write(relay->wake_fd, 1);
}
