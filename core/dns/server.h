/*
 * server.h - private to core/dns: the one thread, its clients, and what waits for an upstream.
 *
 *   dns.c        the face: open, close, tables and clients changed under the lock
 *   sockets.c    a client's sockets, made inside its namespace
 *   redirect.c   port 53 led to them
 *   server.c     the thread: epoll, deadlines, datagrams, and which answer a question gets
 *   stream.c     questions over TCP
 *   forward.c    questions of others, asked of upstream servers
 *   upstream.c   which these are
 *   table.c      names of containers;  message.c  bytes
 *
 * `lock` guards the table, the clients' map, each client's `view`, and `departed`. All else belongs to the thread. A client that is stopped leaves the
 * map at once and is freed by the thread, with all that hangs on it.
 */
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "dns/table.h"

#define DNS_MAX_ERRANDS 2048            /* questions that wait for an upstream, in all */
#define DNS_MAX_CLIENT_ERRANDS 512      /* and of one container */
#define DNS_MAX_STREAMS 512             /* open TCP connections, in all */
#define DNS_MAX_CLIENT_STREAMS 16
#define DNS_MAX_MESSAGE 65535
#define DNS_STREAM_IDLE (10 * GT_SECOND)
#define DNS_UPSTREAM_PATIENCE (2 * GT_SECOND)   /* then the next server is asked; a resolver itself waits 5 s (resolv.conf(5), timeout) */

struct gt_dns;
struct dns_client;

/* What epoll reports on. After `fd` is closed it is -1, and what it is part of stays until the batch of events is done. */
struct dns_watch {
	void (*ready)(struct gt_dns *dns, struct dns_watch *watch, uint32_t events);
	int fd;
};

struct dns_upstreams {
	struct sockaddr_storage servers[GT_DNS_MAX_UPSTREAMS];
	size_t count;
};

struct dns_view {
	char **network_ids;
	size_t network_count;
	struct dns_view_link {
		char *network_id, *alias, *target;      /* alias in normal form; target an id or in normal form */
	} *links;
	size_t link_count;
	struct dns_upstreams upstreams;
	bool own_upstreams, forward, dotted_only;
};

struct dns_errand;
struct dns_stream;
LIST_HEAD(dns_errands, dns_errand);
LIST_HEAD(dns_streams, dns_stream);

struct dns_client {
	char *id;
	struct dns_watch udp, tcp;
	struct dns_view view;
	struct dns_errands errands;
	struct dns_streams streams;
	size_t errand_count, stream_count;
	struct dns_client *next_departed;
};

/* Where an answer goes. */
struct dns_asker {
	struct dns_client *client;
	struct dns_stream *stream;      /* NULL: a datagram to `from` */
	struct sockaddr_in from;
};

/* A question over TCP, and then its answer. One at a time for each connection. */
struct dns_stream {
	struct dns_watch watch;
	struct dns_client *client;
	LIST_ENTRY(dns_stream) of_client;
	TAILQ_ENTRY(dns_stream) by_deadline;
	int64_t deadline;
	struct gt_buf in, out;          /* with the two bytes of length before each message */
	size_t out_at;
	struct dns_errand *errand;      /* the question waits for an upstream */
	struct dns_stream *next_garbage;
};

/* A question that is asked of upstream servers, one after another. */
struct dns_errand {
	struct dns_watch watch;
	struct dns_asker asker;
	LIST_ENTRY(dns_errand) of_client;
	TAILQ_ENTRY(dns_errand) by_deadline;
	int64_t deadline;
	struct dns_question question;
	struct dns_upstreams upstreams;
	size_t attempts;                /* made so far */
	uint16_t id;                    /* what the question goes out with */
	struct gt_buf query;            /* as it came, behind two bytes of length */
	struct gt_buf in;               /* TCP: what has come of the answer */
	size_t sent;                    /* TCP: how much of the query has left */
	struct dns_errand *next_garbage;
};

struct gt_dns {
	pthread_mutex_t lock;
	struct dns_table table;
	struct gt_map clients;
	struct dns_client *departed;

	pthread_t thread;
	int epoll;
	struct dns_watch wake;
	atomic_bool closing;
	TAILQ_HEAD(dns_errand_queue, dns_errand) errands;       /* by deadline: all wait equally long */
	TAILQ_HEAD(dns_stream_queue, dns_stream) streams;
	size_t errand_count, stream_count;
	struct dns_errand *errand_garbage;
	struct dns_stream *stream_garbage;
	struct dns_upstreams host;              /* upstream.c */
	int64_t host_looked_at;
	struct timespec host_changed;
	uint8_t buffer[DNS_MAX_MESSAGE + 1];    /* a datagram */
	uint8_t reply[DNS_MAX_MESSAGE];
};

/* ---- dns.c ---- */
void dns_view_release(struct dns_view *view);

/* ---- sockets.c ---- */
/* Fills client->udp.fd and tcp.fd. */
int dns_sockets_open(struct dns_client *client, int netns_fd, struct gt_error *err);

/* ---- server.c ---- */
void *dns_server_run(void *dns);
void dns_server_wake(struct gt_dns *dns);
int dns_watch_add(struct gt_dns *dns, struct dns_watch *watch, uint32_t events);
void dns_watch_close(struct dns_watch *watch);
void dns_udp_ready(struct gt_dns *dns, struct dns_watch *watch, uint32_t events);
void dns_client_free(struct gt_dns *dns, struct dns_client *client);
/* A question has come, whole; it may be anything. */
void dns_ask(struct gt_dns *dns, const struct dns_asker *asker, const uint8_t *bytes, size_t len);
/* An answer goes back. A message of an upstream that is too long for the asker is cut. */
void dns_answer(struct gt_dns *dns, const struct dns_asker *asker, uint8_t *bytes, size_t len, const struct dns_question *question);
void dns_answer_error(struct gt_dns *dns, const struct dns_asker *asker, const struct dns_question *question, int rcode);

/* ---- stream.c ---- */
void dns_tcp_ready(struct gt_dns *dns, struct dns_watch *watch, uint32_t events);
void dns_stream_answer(struct gt_dns *dns, struct dns_stream *stream, const uint8_t *bytes, size_t len);
void dns_stream_close(struct gt_dns *dns, struct dns_stream *stream);
void dns_streams_expire(struct gt_dns *dns, int64_t now);
void dns_streams_sweep(struct gt_dns *dns);     /* frees what was closed, after a batch */

/* ---- forward.c ---- */
void dns_forward(struct gt_dns *dns, const struct dns_asker *asker, const struct dns_question *question, const struct dns_upstreams *upstreams,
		 const uint8_t *bytes, size_t len);
void dns_errand_end(struct gt_dns *dns, struct dns_errand *errand);
void dns_errands_expire(struct gt_dns *dns, int64_t now);
void dns_errands_sweep(struct gt_dns *dns);

/* ---- upstream.c ---- */
bool dns_upstream_add(struct dns_upstreams *upstreams, const char *address);
/* The host's, read again where its file has changed. */
const struct dns_upstreams *dns_upstreams_of_host(struct gt_dns *dns);
