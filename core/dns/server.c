/*
 * server.c - the thread: it waits for sockets and deadlines, and decides who answers a question.
 */
#include "dns/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATAGRAMS_AT_ONCE 32    /* then others have their turn */

/* ---- watches ---- */

int dns_watch_add(struct gt_dns *dns, struct dns_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };
	return epoll_ctl(dns->epoll, EPOLL_CTL_ADD, watch->fd, &event);
}

void dns_watch_close(struct dns_watch *watch)
{
	if (watch->fd >= 0)
		close(watch->fd);
	watch->fd = -1;
}

void dns_server_wake(struct gt_dns *dns)
{
	eventfd_t one = 1;
	ssize_t ignored = write(dns->wake.fd, &one, sizeof one); /* a counter that is full wakes as well */
	(void)ignored;
}

/* ---- names of containers ---- */

enum finding { UNKNOWN, NOTHING_OF_THAT_KIND, FOUND };

/* All addresses that a name has in one network, each time beginning with another. */
static enum finding tell_name(struct dns_name *name, const struct dns_question *question, struct dns_reply *reply)
{
	bool want4 = question->type == ns_t_a || question->type == ns_t_any, want6 = question->type == ns_t_aaaa || question->type == ns_t_any;
	bool any = false;
	unsigned turn = name->turn++;
	for (size_t i = 0; i < name->count; i++) {
		const struct dns_member *member = name->members[(turn + i) % name->count];
		any = any || (want4 && member->has4) || (want6 && member->has6);
		if (want4 && member->has4)
			dns_reply_address(reply, AF_INET, &member->v4);
		if (want6 && member->has6)
			dns_reply_address(reply, AF_INET6, &member->v6);
	}
	return any ? FOUND : NOTHING_OF_THAT_KIND;
}

static enum finding tell_member(struct dns_member *member, const struct dns_question *question, struct dns_reply *reply)
{
	struct dns_name name = { .members = &member, .count = 1 };
	return tell_name(&name, question, reply);
}

static enum finding tell_link(const struct dns_zone *zone, const struct dns_view *view, const struct dns_question *question, struct dns_reply *reply)
{
	for (size_t i = 0; i < view->link_count; i++) {
		const struct dns_view_link *link = &view->links[i];
		if (strcmp(link->alias, question->name) || strcmp(link->network_id, zone->network_id))
			continue;
		struct dns_member *member = gt_map_get(&zone->members, link->target);
		struct dns_name *name = member ? NULL : gt_map_get(&zone->names, link->target);
		if (member || name)
			return member ? tell_member(member, question, reply) : tell_name(name, question, reply);
	}
	return UNKNOWN;
}

static enum finding tell_address(const struct dns_zone *zone, const char *address, struct dns_reply *reply)
{
	const struct dns_member *member = gt_map_get(&zone->addresses, address);
	char full[2 * NS_MAXDNAME];
	if (!member || !member->name_count)
		return UNKNOWN;
	snprintf(full, sizeof full, "%s%s%s", member->names[0], zone->name[0] ? "." : "", zone->name);
	dns_reply_pointer(reply, full);
	return FOUND;
}

/* With the lock held. The first network that has something to say is the one. */
static enum finding look_up(const struct gt_dns *dns, const struct dns_view *view, const struct dns_question *question, struct dns_reply *reply)
{
	enum finding best = UNKNOWN;
	char address[46];
	bool reverse = question->type == ns_t_ptr && dns_reverse_address(question->name, address);
	for (size_t i = 0; i < view->network_count && best != FOUND; i++) {
		const struct dns_zone *zone = table_zone(&dns->table, view->network_ids[i]);
		if (!zone)
			continue;
		enum finding finding = reverse ? tell_address(zone, address, reply) : tell_link(zone, view, question, reply);
		struct dns_name *name = finding == UNKNOWN && !reverse ? zone_name(zone, question->name) : NULL;
		if (name)
			finding = tell_name(name, question, reply);
		if (finding > best)
			best = finding;
	}
	return best;
}

/* ---- questions and answers ---- */

void dns_answer(struct gt_dns *dns, const struct dns_asker *asker, uint8_t *bytes, size_t len, const struct dns_question *question)
{
	if (asker->stream) {
		dns_stream_answer(dns, asker->stream, bytes, len);
		return;
	}
	if (len > question->room)
		len = dns_response_cut(bytes, len);
	/* Where the socket is full, the resolver asks again. */
	sendto(asker->client->udp.fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&asker->from, sizeof asker->from);
}

void dns_answer_error(struct gt_dns *dns, const struct dns_asker *asker, const struct dns_question *question, int rcode)
{
	uint8_t bytes[NS_HFIXEDSZ + NS_MAXCDNAME + NS_QFIXEDSZ + 32];
	struct dns_reply reply;
	dns_reply_begin(&reply, question, bytes, sizeof bytes);
	dns_answer(dns, asker, bytes, dns_reply_end(&reply, rcode), question);
}

/* Where a question may not leave, there is no such name: resolvers take that for final, while they would ask again after a failure. */
static bool may_leave(const struct dns_view *view, const struct dns_question *question)
{
	bool address = question->type == ns_t_a || question->type == ns_t_aaaa;
	return view->forward && !(view->dotted_only && address && !strchr(question->name, '.'));
}

void dns_ask(struct gt_dns *dns, const struct dns_asker *asker, const uint8_t *bytes, size_t len)
{
	struct dns_question question;
	struct dns_reply reply;
	struct dns_client *client = asker->client;
	int rcode = dns_question_read(bytes, len, &question);
	if (rcode) {
		if (rcode > 0)
			dns_answer_error(dns, asker, &question, rcode);
		else if (asker->stream)
			dns_stream_close(dns, asker->stream);
		return;
	}
	dns_reply_begin(&reply, &question, dns->reply, asker->stream ? sizeof dns->reply : question.room < sizeof dns->reply ? question.room : sizeof dns->reply);
	pthread_mutex_lock(&dns->lock);
	enum finding finding = question.class == ns_c_in ? look_up(dns, &client->view, &question, &reply) : UNKNOWN;
	bool leaves = may_leave(&client->view, &question), own = client->view.own_upstreams;
	struct dns_upstreams upstreams = client->view.upstreams;
	pthread_mutex_unlock(&dns->lock);
	if (finding != UNKNOWN)
		dns_answer(dns, asker, dns->reply, dns_reply_end(&reply, ns_r_noerror), &question);
	else if (!leaves)
		dns_answer_error(dns, asker, &question, ns_r_nxdomain);
	else
		dns_forward(dns, asker, &question, own ? &upstreams : dns_upstreams_of_host(dns), bytes, len);
}

void dns_udp_ready(struct gt_dns *dns, struct dns_watch *watch, uint32_t events)
{
	struct dns_asker asker = { .client = (struct dns_client *)((char *)watch - offsetof(struct dns_client, udp)) };
	(void)events;
	for (int i = 0; i < DATAGRAMS_AT_ONCE; i++) {
		socklen_t size = sizeof asker.from;
		ssize_t got = recvfrom(watch->fd, dns->buffer, sizeof dns->buffer, MSG_DONTWAIT, (struct sockaddr *)&asker.from, &size);
		if (got < 0)
			return;
		if (got <= DNS_QUERY_MAX && size == sizeof asker.from)
			dns_ask(dns, &asker, dns->buffer, (size_t)got);
	}
}

/* ---- the thread ---- */

void dns_client_free(struct gt_dns *dns, struct dns_client *client)
{
	while (!LIST_EMPTY(&client->streams))
		dns_stream_close(dns, LIST_FIRST(&client->streams));
	while (!LIST_EMPTY(&client->errands))
		dns_errand_end(dns, LIST_FIRST(&client->errands));
	dns_watch_close(&client->udp);
	dns_watch_close(&client->tcp);
	dns_view_release(&client->view);
	free(client->id);
	free(client);
}

static void bury_departed(struct gt_dns *dns)
{
	pthread_mutex_lock(&dns->lock);
	struct dns_client *client = take(dns->departed), *next;
	pthread_mutex_unlock(&dns->lock);
	for (; client; client = next) {
		next = client->next_departed;
		dns_client_free(dns, client);
	}
}

/* Milliseconds to the next deadline, -1: none. */
static int patience(const struct gt_dns *dns)
{
	const struct dns_errand *errand = TAILQ_FIRST(&dns->errands);
	const struct dns_stream *stream = TAILQ_FIRST(&dns->streams);
	int64_t deadline = errand ? errand->deadline : INT64_MAX;
	if (stream && stream->deadline < deadline)
		deadline = stream->deadline;
	if (deadline == INT64_MAX)
		return -1;
	int64_t left = deadline - gt_monotonic();
	return left <= 0 ? 0 : (int)(left / GT_MILLISECOND) + 1;
}

static void expire(struct gt_dns *dns)
{
	if (TAILQ_EMPTY(&dns->errands) && TAILQ_EMPTY(&dns->streams))
		return;
	int64_t now = gt_monotonic();
	dns_errands_expire(dns, now);
	dns_streams_expire(dns, now);
}

void *dns_server_run(void *arg)
{
	struct gt_dns *dns = arg;
	struct epoll_event ready[64];
	while (!atomic_load(&dns->closing)) {
		int n = epoll_wait(dns->epoll, ready, GT_COUNT(ready), patience(dns));
		for (int i = 0; i < n; i++) {
			struct dns_watch *watch = ready[i].data.ptr;
			eventfd_t count;
			if (watch == &dns->wake)
				eventfd_read(watch->fd, &count);
			else if (watch->fd >= 0)
				watch->ready(dns, watch, ready[i].events);
		}
		expire(dns);
		bury_departed(dns);
		dns_streams_sweep(dns);
		dns_errands_sweep(dns);
	}
	return NULL;
}
