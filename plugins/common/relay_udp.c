/*
 * relay_udp.c - relayed datagrams: for each client a socket of its own towards the container, so that answers find their way back. The one that was idle
 * longest makes room for a new one.
 */
#include "common/relay_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define DATAGRAMS 32                    /* for one event */

struct udp_flow {
	struct watched watched;
	TAILQ_ENTRY(udp_flow) link;
	struct udp_flow *next;          /* in its bucket */
	const struct relay_port *port;
	struct sockaddr_in6 client;
	struct in6_pktinfo local;       /* where the client sent to, which is where answers come from */
	int fd;
	int64_t used_ns;
};

/* ---- the table ---- */

static struct udp_flow **bucket_of(struct relay *relay, const struct sockaddr_in6 *client)
{
	uint32_t hash = client->sin6_port, part;
	for (size_t i = 0; i < sizeof client->sin6_addr; i += sizeof part) {
		memcpy(&part, client->sin6_addr.s6_addr + i, sizeof part);
		hash = (hash ^ part) * 2654435761u;
	}
	return &relay->buckets[hash >> 16 & (UDP_BUCKETS - 1)];
}

static bool is_that(const struct udp_flow *flow, const struct relay_port *port, const struct sockaddr_in6 *client, const struct in6_pktinfo *local)
{
	return flow->port == port && flow->client.sin6_port == client->sin6_port && flow->client.sin6_scope_id == client->sin6_scope_id &&
	       IN6_ARE_ADDR_EQUAL(&flow->client.sin6_addr, &client->sin6_addr) && IN6_ARE_ADDR_EQUAL(&flow->local.ipi6_addr, &local->ipi6_addr);
}

static void end(struct relay *relay, struct udp_flow *flow)
{
	struct udp_flow **at = bucket_of(relay, &flow->client);
	while (*at != flow)
		at = &(*at)->next;
	*at = flow->next;
	TAILQ_REMOVE(&relay->udp, flow, link);
	close(flow->fd);
	relay->count--;
	relay->timed--;
	relay_bury(relay, &flow->watched);
}

void udp_end_all(struct relay *relay)
{
	while (!TAILQ_EMPTY(&relay->udp))
		end(relay, TAILQ_FIRST(&relay->udp));
}

void udp_port_ends(struct relay *relay, const struct relay_port *port)
{
	struct udp_flow *next;
	for (struct udp_flow *flow = TAILQ_FIRST(&relay->udp); flow; flow = next) {
		next = TAILQ_NEXT(flow, link);
		if (flow->port == port)
			end(relay, flow);
	}
}

void udp_sweep(struct relay *relay, int64_t now)
{
	while (!TAILQ_EMPTY(&relay->udp) && TAILQ_FIRST(&relay->udp)->used_ns + RELAY_UDP_IDLE_S * SECOND_NS <= now)
		end(relay, TAILQ_FIRST(&relay->udp));
}

static void touch(struct relay *relay, struct udp_flow *flow)
{
	flow->used_ns = relay_now();
	TAILQ_REMOVE(&relay->udp, flow, link);
	TAILQ_INSERT_TAIL(&relay->udp, flow, link);
}

/* ---- from the client ---- */

int udp_prepare(int fd)
{
	int on = 1;
	return setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

static struct udp_flow *begin(struct relay *relay, const struct relay_port *port, const struct sockaddr_in6 *client, const struct in6_pktinfo *local)
{
	/* The oldest flow goes; connections of TCP are not ended for it. */
	if (relay->count >= relay->most && !TAILQ_EMPTY(&relay->udp))
		end(relay, TAILQ_FIRST(&relay->udp));
	struct udp_flow *flow = relay_has_room(relay) ? calloc(1, sizeof *flow) : NULL;
	if (!flow)
		return NULL;
	*flow = (struct udp_flow){ .watched.kind = WATCHED_UDP, .port = port, .client = *client, .local = *local, .used_ns = relay_now() };
	flow->fd = socket(port->to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (flow->fd < 0 || connect(flow->fd, (const struct sockaddr *)(const void *)&port->to, port->to_len) < 0 ||
	    relay_watch(relay, flow->fd, EPOLLIN, &flow->watched) < 0) {
		if (flow->fd >= 0)
			close(flow->fd);
		free(flow);
		return NULL;
	}
	struct udp_flow **bucket = bucket_of(relay, client);
	flow->next = *bucket;
	*bucket = flow;
	TAILQ_INSERT_TAIL(&relay->udp, flow, link);
	relay->count++;
	relay->timed++;
	return flow;
}

static void pass_in(struct relay *relay, const struct relay_port *port, const struct sockaddr_in6 *client, const struct in6_pktinfo *local, size_t len)
{
	struct udp_flow *flow = *bucket_of(relay, client);
	while (flow && !is_that(flow, port, client, local))
		flow = flow->next;
	if (!flow)
		flow = begin(relay, port, client, local);
	else
		touch(relay, flow);
	/* What does not go is lost, as datagrams are. */
	if (flow)
		(void)!send(flow->fd, relay->datagram, len, MSG_DONTWAIT);
}

/* Datagrams and their ancillary data are the network's: only what has its whole size counts. */
void udp_receive(struct relay *relay, struct relay_port *port)
{
	for (int i = 0; i < DATAGRAMS; i++) {
		struct sockaddr_in6 client;
		struct in6_pktinfo local = { 0 };
		char control[CMSG_SPACE(sizeof local)] __attribute__((aligned(8)));
		struct iovec bytes = { relay->datagram, sizeof relay->datagram };
		struct msghdr message = { .msg_name = &client,
					  .msg_namelen = sizeof client,
					  .msg_iov = &bytes,
					  .msg_iovlen = 1,
					  .msg_control = control,
					  .msg_controllen = sizeof control };
		ssize_t len = recvmsg(port->fd, &message, MSG_DONTWAIT);
		if (len < 0)
			return;
		for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
			if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO && part->cmsg_len == CMSG_LEN(sizeof local))
				memcpy(&local, CMSG_DATA(part), sizeof local);
		}
		/* Answers take the way that the routes say. */
		if (!IN6_IS_ADDR_LINKLOCAL(&local.ipi6_addr))
			local.ipi6_ifindex = 0;
		if (message.msg_namelen == sizeof client && client.sin6_family == AF_INET6)
			pass_in(relay, port, &client, &local, (size_t)len);
	}
}

/* ---- from the container ---- */

static void pass_out(const struct relay *relay, const struct udp_flow *flow, size_t len)
{
	char control[CMSG_SPACE(sizeof flow->local)] __attribute__((aligned(8))) = { 0 };
	struct iovec bytes = { (void *)(uintptr_t)relay->datagram, len };
	struct msghdr message = { .msg_name = (void *)(uintptr_t)&flow->client,
				  .msg_namelen = sizeof flow->client,
				  .msg_iov = &bytes,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof control };
	struct cmsghdr *part = CMSG_FIRSTHDR(&message);
	part->cmsg_level = IPPROTO_IPV6;
	part->cmsg_type = IPV6_PKTINFO;
	part->cmsg_len = CMSG_LEN(sizeof flow->local);
	memcpy(CMSG_DATA(part), &flow->local, sizeof flow->local);
	(void)!sendmsg(flow->port->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void udp_event(struct relay *relay, struct udp_flow *flow)
{
	for (int i = 0; i < DATAGRAMS; i++) {
		ssize_t len = recv(flow->fd, relay->datagram, sizeof relay->datagram, MSG_DONTWAIT);
		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (len < 0) {
			end(relay, flow);
			return;
		}
		touch(relay, flow);
		pass_out(relay, flow, (size_t)len);
	}
}
