/*
 * dns.h - names for containers: the resolver that user-defined networks have at 127.0.0.11.
 *
 * Each served container has a UDP and a TCP socket inside its network namespace, at 127.0.0.11 and a port of ours; packet rules in that namespace
 * (redirect.c) lead port 53 there, so that a name server of the container's own may have port 53 of every address. One thread answers all of them:
 * names of the container's networks from tables that the engine keeps here, anything else by asking the upstream servers from the host's namespace.
 *
 * Nothing is stored: the engine fills the tables again when the daemon starts, and opens the sockets anew. All functions are thread safe; none waits
 * for the network. The order of locks: nothing is taken while this module's lock is held.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define GT_DNS_ADDRESS "127.0.0.11"
#define GT_DNS_MAX_UPSTREAMS 3          /* as many as resolvers read (resolv.conf(5), MAXNS) */

struct gt_dns;

int gt_dns_open(struct gt_dns **dns, struct gt_error *err);
void gt_dns_close(struct gt_dns *dns);

/* ---- who is in a network ---- */

struct gt_dns_member {
	const char *network_id, *network_name, *container_id;
	const char *const *names;       /* names[0] is the one that an address is shown with */
	size_t name_count;
	const char *ipv4, *ipv6;        /* "" for none; what follows a slash is passed over */
};
/* A container is in a network, or has other names or addresses there now. Names that DNS cannot carry are passed over. */
void gt_dns_enter(struct gt_dns *dns, const struct gt_dns_member *member);
void gt_dns_leave(struct gt_dns *dns, const char *network_id, const char *container_id);

/* ---- who asks ---- */

/* An alias that one container alone has for another, which is in the same network. */
struct gt_dns_link {
	const char *network_id, *alias;
	const char *target;             /* a container's id or any of its names there */
};

/* What one container sees. Names are sought in its networks in this order. */
struct gt_dns_view {
	const char *container_id;
	const char *const *network_ids;
	size_t network_count;
	const struct gt_dns_link *links;
	size_t link_count;
	const char *const *upstreams;   /* addresses; none: the host's resolv.conf, as it is at the time of the question */
	size_t upstream_count;
	bool forward;                   /* false: nothing leaves its networks, unknown names do not exist */
	bool dotted_only;               /* names without a dot are not forwarded (the user set ndots) */
};
/* Opens the container's sockets in its namespace: when it returns, questions are answered. An earlier serving of the container ends. */
int gt_dns_serve(struct gt_dns *dns, const struct gt_dns_view *view, int netns_fd, struct gt_error *err);
/* The view of a served container has changed. False where it is not served. */
bool gt_dns_change(struct gt_dns *dns, const struct gt_dns_view *view);
void gt_dns_stop(struct gt_dns *dns, const char *container_id);
