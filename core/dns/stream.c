/*
 * stream.c - questions over TCP: two bytes of length, then the message (RFC 1035, 4.2.2). While a question is being answered nothing more is read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dns/server.h"

#define PREFIX 2

void dns_stream_close(struct gt_dns *dns, struct dns_stream *stream)
{
	if (stream->watch.fd < 0)
		return;
	dns_watch_close(&stream->watch);
	if (stream->errand) {
		struct dns_errand *errand = take(stream->errand);
		errand->asker.stream = NULL;
		dns_errand_end(dns, errand);
	}
	LIST_REMOVE(stream, of_client);
	TAILQ_REMOVE(&dns->streams, stream, by_deadline);
	stream->client->stream_count--;
	dns->stream_count--;
	stream->next_garbage = dns->stream_garbage;
	dns->stream_garbage = stream;
}

void dns_streams_sweep(struct gt_dns *dns)
{
	for (struct dns_stream *stream = take(dns->stream_garbage), *next; stream; stream = next) {
		next = stream->next_garbage;
		gt_buf_free(&stream->in);
		gt_buf_free(&stream->out);
		free(stream);
	}
}

void dns_streams_expire(struct gt_dns *dns, int64_t now)
{
	struct dns_stream *stream;
	while ((stream = TAILQ_FIRST(&dns->streams)) != NULL && stream->deadline <= now)
		dns_stream_close(dns, stream);
}

static void postpone(struct gt_dns *dns, struct dns_stream *stream)
{
	TAILQ_REMOVE(&dns->streams, stream, by_deadline);
	stream->deadline = gt_monotonic() + DNS_STREAM_IDLE;
	TAILQ_INSERT_TAIL(&dns->streams, stream, by_deadline);
}

static void expect(struct gt_dns *dns, struct dns_stream *stream, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = &stream->watch };
	epoll_ctl(dns->epoll, EPOLL_CTL_MOD, stream->watch.fd, &event);
}

/* ---- out ---- */

/* True when all has left. */
static bool flush(struct gt_dns *dns, struct dns_stream *stream)
{
	while (stream->out_at < stream->out.len) {
		ssize_t sent = send(stream->watch.fd, stream->out.data + stream->out_at, stream->out.len - stream->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN)
			dns_stream_close(dns, stream);
		if (sent < 0)
			return false;
		stream->out_at += (size_t)sent;
	}
	gt_buf_free(&stream->out);
	stream->out_at = 0;
	return true;
}

void dns_stream_answer(struct gt_dns *dns, struct dns_stream *stream, const uint8_t *bytes, size_t len)
{
	uint8_t prefix[PREFIX];
	if (stream->watch.fd < 0)
		return;
	ns_put16((unsigned)len, prefix);
	gt_buf_add(&stream->out, prefix, sizeof prefix);
	gt_buf_add(&stream->out, bytes, len);
	stream->errand = NULL;
	postpone(dns, stream);
	bool done = flush(dns, stream);
	if (stream->watch.fd < 0)
		return;
	/* What has come already is looked at when the next answer could leave. */
	expect(dns, stream, done && !stream->in.len ? EPOLLIN : EPOLLOUT);
}

/* ---- in ---- */

/* A whole question that has come is asked. True where it was, and another may be looked for. */
static bool ask_next(struct gt_dns *dns, struct dns_stream *stream)
{
	if (stream->watch.fd < 0 || stream->out.len || stream->errand || stream->in.len < PREFIX)
		return false;
	size_t len = ns_get16((const uint8_t *)stream->in.data);
	if (len > DNS_QUERY_MAX) {
		dns_stream_close(dns, stream);
		return false;
	}
	if (stream->in.len < PREFIX + len)
		return false;
	struct dns_asker asker = { .client = stream->client, .stream = stream };
	uint8_t query[DNS_QUERY_MAX];
	memcpy(query, stream->in.data + PREFIX, len);
	gt_buf_consume(&stream->in, PREFIX + len);
	postpone(dns, stream);
	dns_ask(dns, &asker, query, len);
	if (stream->watch.fd >= 0 && stream->errand)
		expect(dns, stream, 0); /* half closed or not: the answer is wanted */
	return true;
}

static void stream_ready(struct gt_dns *dns, struct dns_watch *watch, uint32_t events)
{
	struct dns_stream *stream = (struct dns_stream *)watch;
	char bytes[PREFIX + DNS_QUERY_MAX];
	if ((events & EPOLLOUT) && !flush(dns, stream))
		return;
	if (events & EPOLLOUT)
		expect(dns, stream, EPOLLIN);
	if ((events & (EPOLLERR | EPOLLHUP)) && !(events & EPOLLIN)) {
		dns_stream_close(dns, stream);
		return;
	}
	if (events & EPOLLIN) {
		ssize_t got = recv(watch->fd, bytes, sizeof bytes, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
			dns_stream_close(dns, stream);
			return;
		}
		if (got > 0)
			gt_buf_add(&stream->in, bytes, (size_t)got);
	}
	while (ask_next(dns, stream))
		;
}

/* ---- new ones ---- */

void dns_tcp_ready(struct gt_dns *dns, struct dns_watch *watch, uint32_t events)
{
	struct dns_client *client = (struct dns_client *)((char *)watch - offsetof(struct dns_client, tcp));
	(void)events;
	AUTO_CLOSE int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 || client->stream_count >= DNS_MAX_CLIENT_STREAMS || dns->stream_count >= DNS_MAX_STREAMS)
		return;
	struct dns_stream *stream = gt_xcalloc(1, sizeof *stream);
	stream->client = client;
	stream->watch = (struct dns_watch){ .ready = stream_ready, .fd = take_fd(fd) };
	if (dns_watch_add(dns, &stream->watch, EPOLLIN) < 0) {
		dns_watch_close(&stream->watch);
		free(stream);
		return;
	}
	stream->deadline = gt_monotonic() + DNS_STREAM_IDLE;
	LIST_INSERT_HEAD(&client->streams, stream, of_client);
	TAILQ_INSERT_TAIL(&dns->streams, stream, by_deadline);
	client->stream_count++;
	dns->stream_count++;
}
