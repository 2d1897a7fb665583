/*
 * common/relay_internal.h - between relay.c (the thread, and ports), relay_tcp.c (connections) and relay_udp.c (flows of datagrams).
 *
 * The kernel names what something happened to by a pointer. So nothing that was ever watched is freed at once: it is dead, and buried by the thread when it
 * has gone through what the kernel told.
 *
 * Everything is guarded by the relay's lock.
 */
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <sys/queue.h>

#include "common/relay.h"

#define SECOND_NS 1000000000LL
#define UDP_BUCKETS 1024
#define SPARE_PIPES 8
#define DATAGRAM_MAX 65536

enum watched_kind { WATCHED_WAKE, WATCHED_PORT, WATCHED_TCP, WATCHED_UDP };

/* The first member of all that epoll knows. */
struct watched {
	enum watched_kind kind;
	bool dead;
	SLIST_ENTRY(watched) grave;
};

struct relay_port {
	struct watched watched;
	struct relay *relay;
	int fd, proto;
	struct sockaddr_storage to;
	socklen_t to_len;
};

struct tcp_flow;
struct udp_flow;

struct relay {
	const struct gantry_host *host;
	unsigned most;
	pthread_mutex_t turnstile;      /* held while waiting for `lock`, so that the thread, which takes it again and again, lets others by */
	pthread_mutex_t lock;           /* guards what follows */
	pthread_t thread;
	bool runs, stop;
	bool nap;                       /* out of descriptors: the kernel tells of the waiting client again at once */
	int epoll;
	struct watched wake;
	int wake_fd;
	unsigned count;                 /* flows of both kinds */
	unsigned timed;                 /* those that end by time */
	int64_t swept_ns;               /* when those were last looked at */
	int64_t complained_ns;          /* when a refusal was last told */
	TAILQ_HEAD(tcp_flows, tcp_flow) tcp;
	TAILQ_HEAD(udp_flows, udp_flow) udp;     /* the one that is idle longest first */
	struct udp_flow *buckets[UDP_BUCKETS];
	SLIST_HEAD(graves, watched) dead;
	int pipes[SPARE_PIPES][2];      /* empty ones */
	unsigned pipe_count;
	unsigned char datagram[DATAGRAM_MAX];
};

/* ---- relay.c ---- */
int64_t relay_now(void);
int relay_watch(struct relay *relay, int fd, uint32_t events, struct watched *watched);
/* Freed when nobody can have its pointer any more. */
void relay_bury(struct relay *relay, struct watched *watched);
/* Whether one more may come; else it is told, now and then. */
bool relay_has_room(struct relay *relay);

/* ---- relay_tcp.c ---- */
void tcp_accept(struct relay *relay, struct relay_port *port);
void tcp_event(struct relay *relay, struct tcp_flow *flow, uint32_t events);
void tcp_port_ends(struct relay *relay, const struct relay_port *port);
void tcp_sweep(struct relay *relay, int64_t now);
void tcp_end_all(struct relay *relay);

/* ---- relay_udp.c ---- */
int udp_prepare(int fd);
void udp_receive(struct relay *relay, struct relay_port *port);
void udp_event(struct relay *relay, struct udp_flow *flow);
void udp_port_ends(struct relay *relay, const struct relay_port *port);
void udp_sweep(struct relay *relay, int64_t now);
void udp_end_all(struct relay *relay);
