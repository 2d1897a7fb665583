/*
 * published.c - published ports: records by endpoint and by number, and the sockets that hold them.
 *
 * The tables in nat.c carry the traffic. The sockets are bound so that no other program takes a published port, and to see whether one has it already;
 * they receive nothing, as the destination is rewritten before the host looks for a socket - but for those that the relay takes connections from: the kernel's
 * NAT leads neither from IPv6 to IPv4 nor anywhere from ::1. All with the driver's lock held.
 */
#include "bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 128             /* of clients that the relay has not got to yet */

static const char *proto_name(int proto)
{
	return proto == IPPROTO_TCP ? "tcp" : proto == IPPROTO_UDP ? "udp" : "sctp";
}

/* ---- reading ---- */

static int read_address(const char *text, int family, struct address *to, const char *endpoint_id, struct gantry_error *err)
{
	if (text[0] && address_parse(text, family, true, to) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "endpoint %.12s: \"%.64s\" is no address with a prefix", endpoint_id, text);
	return 0;
}

static bool is_loopback6(const struct address *address)
{
	static const unsigned char loopback6[16] = { [15] = 1 };
	return address->family == AF_INET6 && memcmp(address->bytes, loopback6, sizeof loopback6) == 0;
}

/* What carries it: the kernel, the relay, both (:: of a container with IPv6, to which ::1 belongs), or nothing. */
static void find_way(const struct bridge *self, const struct published *published, struct port *port)
{
	bool can_relay = self->relay && port->proto != IPPROTO_SCTP;
	if (port->family == AF_INET) {
		port->natted = true;
		return;
	}
	port->natted = published->ipv6.family && !is_loopback6(&port->host);
	port->relayed = can_relay && (!port->natted || port->any);
}

static int read_port(const struct bridge *self, const struct network *network, const struct published *published, const struct gantry_port *from,
		     struct port *to, struct gantry_error *err)
{
	*to = (struct port){ .proto = (int)from->proto, .host_port = from->host_port, .container_port = from->container_port, .fd = -1 };
	if (to->proto != IPPROTO_TCP && to->proto != IPPROTO_UDP && to->proto != IPPROTO_SCTP)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "protocol %u cannot be published; there are tcp, udp and sctp", from->proto);
	if (!to->host_port || !to->container_port)
		return gantry_fail(err, GANTRY_E_INVALID, "port 0 cannot be published");
	if (address_parse(from->host_ip[0] ? from->host_ip : "0.0.0.0", 0, false, &to->host) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" is no host address to publish a port on", from->host_ip);
	to->family = to->host.family;
	if (to->family == AF_INET && address_any(&to->host) && network->host_ip.family)
		to->host = network->host_ip;
	to->any = address_any(&to->host);
	if (!published->ipv4.family && (to->family == AF_INET || !published->ipv6.family))
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "port %u cannot be published on %s: the container has no IPv%d address in network %s",
				   to->host_port, to->host.text, to->family == AF_INET ? 4 : 6, network->name);
	find_way(self, published, to);
	return 0;
}

struct published *published_read(const struct bridge *self, const struct network *network, const struct gantry_endpoint *endpoint,
				 const struct gantry_port *ports, size_t size, const uint32_t *picks, size_t count, struct gantry_error *err)
{
	struct published *published = calloc(1, sizeof *published + count * sizeof published->ports[0]);
	if (!published) {
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
		return NULL;
	}
	snprintf(published->endpoint_id, sizeof published->endpoint_id, "%s", endpoint->id);
	snprintf(published->network_id, sizeof published->network_id, "%s", network->id);
	int rc = 0;
	if (network->internal)
		rc = gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s is internal: it has no published ports", network->name);
	if (rc == 0)
		rc = read_address(endpoint->ipv4, AF_INET, &published->ipv4, endpoint->id, err);
	if (rc == 0)
		rc = read_address(endpoint->ipv6, AF_INET6, &published->ipv6, endpoint->id, err);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		const char *item = (const char *)ports + (picks ? picks[i] : i) * size;
		rc = read_port(self, network, published, (const struct gantry_port *)(const void *)item, &published->ports[i], err);
		published->count += rc == 0;
	}
	if (rc == 0)
		return published;
	free(published);
	return NULL;
}

bool published_same(const struct published *a, const struct published *b)
{
	if (a->count != b->count || strcmp(a->network_id, b->network_id) != 0 || !address_equal(&a->ipv4, &b->ipv4) || !address_equal(&a->ipv6, &b->ipv6))
		return false;
	for (unsigned i = 0; i < a->count; i++) {
		const struct port *p = &a->ports[i], *q = &b->ports[i];
		if (p->off || p->proto != q->proto || p->host_port != q->host_port || p->container_port != q->container_port ||
		    !address_equal(&p->host, &q->host))
			return false;
	}
	return true;
}

bool published_has_udp(const struct published *published)
{
	for (unsigned i = 0; i < published->count; i++) {
		if (published->ports[i].proto == IPPROTO_UDP)
			return true;
	}
	return false;
}

/* ---- holding ---- */

static int bind_socket(int fd, const struct port *port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port->host_port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port->host_port) };
	memcpy(&in.sin_addr, port->host.bytes, sizeof in.sin_addr);
	memcpy(&in6.sin6_addr, port->host.bytes, sizeof in6.sin6_addr);
	return port->family == AF_INET ? bind(fd, (struct sockaddr *)&in, sizeof in) : bind(fd, (struct sockaddr *)&in6, sizeof in6);
}

/* Connections of a server that had the port before may be in TIME_WAIT, which is no reason to refuse. listen() asks whether anybody else is bound; then the
 * socket goes back to being bound alone. Left on, the option would let others bind too. */
static int bind_after_others(int fd, const struct port *port)
{
	int on = 1, off = 0;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 || bind_socket(fd, port) < 0 || listen(fd, 0) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof off) < 0)
		return -1;
	return shutdown(fd, SHUT_RDWR);
}

/* For the relay. A socket that listens excludes all others whatever its option; with it, connections that it took and that are about to end do not keep the
 * port from who has it next. */
static int bind_and_listen(int fd, const struct port *port)
{
	int on = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 || bind_socket(fd, port) < 0)
		return -1;
	return listen(fd, BACKLOG);
}

/* Nothing is read from a held socket, so nothing may queue up in it before the tables know the port. */
static void refuse_datagrams(int fd)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { .len = 1, .filter = &drop };
	(void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

/* Returns 0 or an errno. */
static int open_holder(struct port *port)
{
	int type = port->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM, on = 1;
	bool listens = port->relayed && port->proto == IPPROTO_TCP;
	int fd = socket(port->family, type | SOCK_CLOEXEC | (port->relayed ? SOCK_NONBLOCK : 0), port->proto);
	if (fd < 0 && port->proto == IPPROTO_SCTP)
		return 0; /* no program of this host can have it either */
	if (fd < 0)
		return errno;
	int rc = port->family == AF_INET6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) : 0;
	if (rc == 0)
		rc = listens ? bind_and_listen(fd, port) : bind_socket(fd, port);
	if (rc < 0 && errno == EADDRINUSE && port->proto == IPPROTO_TCP && !listens)
		rc = bind_after_others(fd, port);
	if (rc < 0) {
		int errnum = errno;
		close(fd);
		return errnum;
	}
	if (port->proto == IPPROTO_UDP && !port->relayed)
		refuse_datagrams(fd);
	port->fd = fd;
	return 0;
}

static bool conflicts(const struct bridge *self, const struct port *port)
{
	for (const struct port *other = self->by_port[port->host_port].first; other; other = other->next) {
		if (other->proto == port->proto && other->family == port->family &&
		    (other->any || port->any || address_equal(&other->host, &port->host)))
			return true;
	}
	return false;
}

/* Docker's words, which clients look for. */
static int fail_bind(const struct published *published, const struct port *port, int errnum, struct gantry_error *err)
{
	bool v6 = port->family == AF_INET6;
	const struct address *inside = v6 && published->ipv6.family ? &published->ipv6 : &published->ipv4;
	bool inside6 = inside->family == AF_INET6;
	const char *reason = errnum == EADDRINUSE ? "address already in use" : errnum == EADDRNOTAVAIL ? "cannot assign requested address" : NULL;
	int kind = errnum == EADDRINUSE ? GANTRY_E_CONFLICT : errnum == EACCES ? GANTRY_E_DENIED :
		   errnum == EADDRNOTAVAIL ? GANTRY_E_INVALID : GANTRY_E_INTERNAL;
	char text[200];
	snprintf(text, sizeof text, "failed to bind host port for %s%s%s:%u:%s%s%s:%u/%s", v6 ? "[" : "", port->host.text, v6 ? "]" : "", port->host_port,
		 inside6 ? "[" : "", inside->text, inside6 ? "]" : "", port->container_port, proto_name(port->proto));
	if (!reason)
		return gantry_fail_errno(err, kind, errnum, "%s", text);
	gantry_fail(err, kind, "%s: %s", text, reason);
	err->errnum = errnum;
	return -1;
}

static int fail_without_way(const struct bridge *self, const struct port *port, struct gantry_error *err)
{
	const char *why = is_loopback6(&port->host) ? "the kernel forwards nothing from there" : "the container has no IPv6 address";
	return gantry_fail(err, GANTRY_E_UNSUPPORTED, "port %u/%s cannot be published on %s: %s, and %s", port->host_port, proto_name(port->proto),
			   port->host.text, why, self->relay ? "SCTP is not relayed" : "relaying is off ([plugin.net-bridge] relay_connections)");
}

static int hold(struct bridge *self, const struct published *published, struct port *port, bool lenient, struct gantry_error *err)
{
	if (!port->natted && !port->relayed) {
		fail_without_way(self, port, err);
		port->off = lenient;
	} else if (conflicts(self, port)) {
		gantry_fail(err, GANTRY_E_CONFLICT, "Bind for %s:%u failed: port is already allocated", port->host.text, port->host_port);
		port->off = lenient;
	} else {
		int errnum = open_holder(port);
		if (errnum)
			fail_bind(published, port, errnum, err);
		if (errnum == 0 || lenient) {
			port->next = self->by_port[port->host_port].first;
			self->by_port[port->host_port].first = port;
		}
		if (errnum == 0)
			return 0;
	}
	if (!lenient)
		return -1;
	LOG_WARN(self, "endpoint %.12s: %s", published->endpoint_id, err->message);
	return 0;
}

static void release(struct bridge *self, struct published *published, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct port **at = &self->by_port[published->ports[i].host_port].first;
		while (*at && *at != &published->ports[i])
			at = &(*at)->next;
		if (*at)
			*at = (*at)->next;
	}
}

int published_hold(struct bridge *self, struct published *published, bool lenient, struct gantry_error *err)
{
	for (unsigned i = 0; i < published->count; i++) {
		if (hold(self, published, &published->ports[i], lenient, err) < 0) {
			release(self, published, i);
			return -1;
		}
	}
	return 0;
}

/* ---- relaying ---- */

static void stop_relaying(struct published *published)
{
	for (unsigned i = 0; i < published->count; i++) {
		relay_end(published->ports[i].relay);
		published->ports[i].relay = NULL;
	}
}

int published_relay(struct bridge *self, struct published *published, struct gantry_error *err)
{
	const struct address *to = published->ipv6.family ? &published->ipv6 : &published->ipv4;
	for (unsigned i = 0; i < published->count; i++) {
		struct port *port = &published->ports[i];
		if (!port->relayed || port->off || port->fd < 0)
			continue;
		port->relay = relay_begin(self->relay, port->fd, port->proto, to, port->container_port, err);
		if (!port->relay) {
			stop_relaying(published);
			return -1;
		}
	}
	return 0;
}

/* ---- records ---- */

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct published *)a)->endpoint_id, ((const struct published *)b)->endpoint_id);
}

struct published *published_find(struct bridge *self, const char *endpoint_id)
{
	struct published key;
	snprintf(key.endpoint_id, sizeof key.endpoint_id, "%s", endpoint_id);
	struct published **found = tfind(&key, &self->published, compare);
	return found ? *found : NULL;
}

int published_insert(struct bridge *self, struct published *published, struct gantry_error *err)
{
	if (tsearch(published, &self->published, compare))
		return 0;
	release(self, published, published->count);
	return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
}

void published_forget(struct bridge *self, struct published *published)
{
	tdelete(published, &self->published, compare);
	release(self, published, published->count);
}

void published_free(struct published *published)
{
	if (!published)
		return;
	stop_relaying(published);
	for (unsigned i = 0; i < published->count; i++) {
		if (published->ports[i].fd >= 0)
			close(published->ports[i].fd);
	}
	free(published);
}

struct each {
	void (*fn)(struct published *published, void *arg);
	void *arg;
};

static void visit(const void *node, VISIT which, void *arg)
{
	struct each *each = arg;
	if (which == postorder || which == leaf)
		each->fn(*(struct published *const *)node, each->arg);
}

void published_each(struct bridge *self, void (*fn)(struct published *published, void *arg), void *arg)
{
	struct each each = { fn, arg };
	twalk_r(self->published, visit, &each);
}

static void free_node(void *node)
{
	published_free(node);
}

void published_free_all(struct bridge *self)
{
	tdestroy(self->published, free_node);
	self->published = NULL;
}
