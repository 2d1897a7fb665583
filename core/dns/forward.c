/*
 * forward.c - a question that is asked of the upstream servers, over what it came over: UDP, or TCP.
 *
 * Each errand has a socket of its own, connected, so that the kernel picks a port at random and lets only the server's answers in; its id is random too,
 * and an answer counts only with that id and the same question. A server that does not answer in time, refuses the connection or fails is followed by the
 * next; a lone one is asked twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "dns/server.h"

#define PREFIX 2

/* ---- an errand ends ---- */

void dns_errand_end(struct gt_dns *dns, struct dns_errand *errand)
{
	dns_watch_close(&errand->watch);
	if (errand->asker.stream)
		errand->asker.stream->errand = NULL;
	LIST_REMOVE(errand, of_client);
	TAILQ_REMOVE(&dns->errands, errand, by_deadline);
	errand->asker.client->errand_count--;
	dns->errand_count--;
	errand->next_garbage = dns->errand_garbage;
	dns->errand_garbage = errand;
}

void dns_errands_sweep(struct gt_dns *dns)
{
	for (struct dns_errand *errand = take(dns->errand_garbage), *next; errand; errand = next) {
		next = errand->next_garbage;
		gt_buf_free(&errand->query);
		gt_buf_free(&errand->in);
		free(errand);
	}
}

static void fail(struct gt_dns *dns, struct dns_errand *errand)
{
	dns_answer_error(dns, &errand->asker, &errand->question, ns_r_servfail);
	dns_errand_end(dns, errand);
}

/* ---- attempts ---- */

static bool over_tcp(const struct dns_errand *errand)
{
	return errand->asker.stream != NULL;
}

static void errand_ready(struct gt_dns *dns, struct dns_watch *watch, uint32_t events);

/* Opens the socket of one attempt; over UDP the question leaves at once. */
static int attempt(struct gt_dns *dns, struct dns_errand *errand, const struct sockaddr_storage *server)
{
	socklen_t size = server->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (getrandom(&errand->id, sizeof errand->id, 0) != sizeof errand->id)
		return -1;
	ns_put16(errand->id, (uint8_t *)errand->query.data + PREFIX);
	errand->sent = 0;
	gt_buf_reset(&errand->in);
	errand->watch.fd = socket(server->ss_family, (over_tcp(errand) ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (errand->watch.fd < 0 || (connect(errand->watch.fd, (const struct sockaddr *)server, size) < 0 && errno != EINPROGRESS))
		return -1;
	if (!over_tcp(errand) && send(errand->watch.fd, errand->query.data + PREFIX, errand->query.len - PREFIX, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -1;
	return dns_watch_add(dns, &errand->watch, over_tcp(errand) ? EPOLLOUT : EPOLLIN);
}

/* The next server. False where all have had their chance. */
static bool try_next(struct gt_dns *dns, struct dns_errand *errand)
{
	size_t limit = errand->upstreams.count == 1 ? 2 : errand->upstreams.count;
	while (errand->attempts < limit) {
		dns_watch_close(&errand->watch);
		if (attempt(dns, errand, &errand->upstreams.servers[errand->attempts++ % errand->upstreams.count]) < 0)
			continue;
		TAILQ_REMOVE(&dns->errands, errand, by_deadline);
		errand->deadline = gt_monotonic() + DNS_UPSTREAM_PATIENCE;
		TAILQ_INSERT_TAIL(&dns->errands, errand, by_deadline);
		return true;
	}
	return false;
}

static void go_on(struct gt_dns *dns, struct dns_errand *errand)
{
	if (!try_next(dns, errand))
		fail(dns, errand);
}

void dns_errands_expire(struct gt_dns *dns, int64_t now)
{
	struct dns_errand *errand;
	while ((errand = TAILQ_FIRST(&dns->errands)) != NULL && errand->deadline <= now)
		go_on(dns, errand);
}

/* ---- answers ---- */

/* An answer that belongs to the question. One that only says that the server cannot is passed on where no other server is left. */
static void take_answer(struct gt_dns *dns, struct dns_errand *errand, uint8_t *bytes, size_t len)
{
	int rcode = bytes[3] & 15;
	bool failed = rcode == ns_r_servfail || rcode == ns_r_notimpl || rcode == ns_r_refused;
	if (failed && errand->attempts < errand->upstreams.count && try_next(dns, errand))
		return;
	ns_put16(errand->question.id, bytes);
	dns_answer(dns, &errand->asker, bytes, len, &errand->question);
	dns_errand_end(dns, errand);
}

static void read_datagram(struct gt_dns *dns, struct dns_errand *errand)
{
	ssize_t got = recv(errand->watch.fd, dns->buffer, DNS_MAX_MESSAGE, MSG_DONTWAIT);
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		go_on(dns, errand);
	else if (got > 0 && dns_is_response(dns->buffer, (size_t)got, &errand->question, errand->id))
		take_answer(dns, errand, dns->buffer, (size_t)got);
}

static void send_query(struct gt_dns *dns, struct dns_errand *errand)
{
	ssize_t sent = send(errand->watch.fd, errand->query.data + errand->sent, errand->query.len - errand->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		go_on(dns, errand);
		return;
	}
	errand->sent += sent > 0 ? (size_t)sent : 0;
	if (errand->sent < errand->query.len)
		return;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &errand->watch };
	epoll_ctl(dns->epoll, EPOLL_CTL_MOD, errand->watch.fd, &event);
}

static void read_stream(struct gt_dns *dns, struct dns_errand *errand)
{
	ssize_t got = recv(errand->watch.fd, dns->buffer, DNS_MAX_MESSAGE, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0)
		gt_buf_add(&errand->in, dns->buffer, (size_t)got);
	size_t len = errand->in.len < PREFIX ? 0 : ns_get16((const uint8_t *)errand->in.data);
	if (errand->in.len >= PREFIX && errand->in.len >= PREFIX + len) {
		uint8_t *message = (uint8_t *)errand->in.data + PREFIX;
		if (dns_is_response(message, len, &errand->question, errand->id))
			take_answer(dns, errand, message, len);
		else
			go_on(dns, errand);
	} else if (got <= 0) {
		go_on(dns, errand);
	}
}

static void errand_ready(struct gt_dns *dns, struct dns_watch *watch, uint32_t events)
{
	struct dns_errand *errand = (struct dns_errand *)watch;
	if (!over_tcp(errand))
		read_datagram(dns, errand);
	else if (errand->sent < errand->query.len && !(events & (EPOLLERR | EPOLLHUP)))
		send_query(dns, errand);
	else
		read_stream(dns, errand);
}

/* ---- an errand begins ---- */

void dns_forward(struct gt_dns *dns, const struct dns_asker *asker, const struct dns_question *question, const struct dns_upstreams *upstreams,
		 const uint8_t *bytes, size_t len)
{
	uint8_t prefix[PREFIX];
	if (dns->errand_count >= DNS_MAX_ERRANDS || asker->client->errand_count >= DNS_MAX_CLIENT_ERRANDS || !upstreams->count) {
		dns_answer_error(dns, asker, question, upstreams->count ? ns_r_refused : ns_r_servfail);
		return;
	}
	struct dns_errand *errand = gt_xcalloc(1, sizeof *errand);
	*errand = (struct dns_errand){ .watch = { .ready = errand_ready, .fd = -1 }, .asker = *asker, .question = *question, .upstreams = *upstreams };
	ns_put16((unsigned)len, prefix);
	gt_buf_add(&errand->query, prefix, sizeof prefix);
	gt_buf_add(&errand->query, bytes, len);
	LIST_INSERT_HEAD(&asker->client->errands, errand, of_client);
	TAILQ_INSERT_TAIL(&dns->errands, errand, by_deadline);
	asker->client->errand_count++;
	dns->errand_count++;
	if (asker->stream)
		asker->stream->errand = errand;
	go_on(dns, errand);
}
