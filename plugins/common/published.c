/*
 * published.c - published ports: records, and the sockets that hold them.
 *
 * The driver's tables carry the traffic. The sockets are bound so that no other program takes a published port, and to see whether one has it already;
 * they receive nothing, as the destination is rewritten before the host looks for a socket - but for those that the relay takes connections from: the kernel's
 * NAT leads neither from IPv6 to IPv4 nor anywhere from ::1.
 */
#include "common/published.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/veth.h"

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
static void find_way(const struct publishing *self, const struct published *published, struct port *port)
{
	bool can_relay = self->relay && port->proto != IPPROTO_SCTP;
	if (port->family == AF_INET) {
		port->natted = true;
		return;
	}
	port->natted = published->ipv6.family && !is_loopback6(&port->host);
	port->relayed = can_relay && (!port->natted || port->any);
}

static int read_port(const struct publishing *self, const struct publish_place *place, const struct published *published, const struct gantry_port *from,
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
	if (to->family == AF_INET && address_any(&to->host) && place->host_ip.family)
		to->host = place->host_ip;
	to->any = address_any(&to->host);
	if (!published->ipv4.family && (to->family == AF_INET || !published->ipv6.family))
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "port %u cannot be published on %s: the container has no IPv%d address in network %s",
				   to->host_port, to->host.text, to->family == AF_INET ? 4 : 6, place->network);
	find_way(self, published, to);
	return 0;
}

/* Checks and copies; holds nothing yet. NULL with err. `picks`, where not NULL, are the indices of the `count` ports that are meant. */
static struct published *published_read(const struct publishing *self, const struct publish_place *place, const struct gantry_endpoint *endpoint,
				 const struct gantry_port *ports, size_t size, const uint32_t *picks, size_t count, struct gantry_error *err)
{
	struct published *published = calloc(1, sizeof *published + count * sizeof published->ports[0]);
	if (!published) {
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
		return NULL;
	}
	snprintf(published->endpoint_id, sizeof published->endpoint_id, "%s", endpoint->id);
	snprintf(published->network_id, sizeof published->network_id, "%s", place->network_id);
	int rc = 0;
	if (place->internal)
		rc = gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s is internal: it has no published ports", place->network);
	if (rc == 0)
		rc = read_address(endpoint->ipv4, AF_INET, &published->ipv4, endpoint->id, err);
	if (rc == 0)
		rc = read_address(endpoint->ipv6, AF_INET6, &published->ipv6, endpoint->id, err);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		const char *item = (const char *)ports + (picks ? picks[i] : i) * size;
		rc = read_port(self, place, published, (const struct gantry_port *)(const void *)item, &published->ports[i], err);
		published->count += rc == 0;
	}
	if (rc == 0)
		return published;
	free(published);
	return NULL;
}

static bool published_same(const struct published *a, const struct published *b)
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

static bool conflicts(const struct publishing *self, const struct port *port)
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

static int fail_without_way(const struct publishing *self, const struct port *port, struct gantry_error *err)
{
	const char *why = is_loopback6(&port->host) ? "the kernel forwards nothing from there" : "the container has no IPv6 address";
	return gantry_fail(err, GANTRY_E_UNSUPPORTED, "port %u/%s cannot be published on %s: %s, and %s", port->host_port, proto_name(port->proto),
			   port->host.text, why, self->relay ? "SCTP is not relayed" : "relaying is off (key relay_connections)");
}

static int hold(struct publishing *self, const struct published *published, struct port *port, bool lenient, struct gantry_error *err)
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
	log_line(self->host, GANTRY_WARN, "endpoint %.12s: %s", published->endpoint_id, err->message);
	return 0;
}

static void release(struct publishing *self, struct published *published, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct port **at = &self->by_port[published->ports[i].host_port].first;
		while (*at && *at != &published->ports[i])
			at = &(*at)->next;
		if (*at)
			*at = (*at)->next;
	}
}

/* Takes all ports, or none. `lenient`: a port that another program has is not held, one of another endpoint's, or that nothing carries, is off; all with a
 * warning. */
static int published_hold(struct publishing *self, struct published *published, bool lenient, struct gantry_error *err)
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

/* Once all else is there. -1 leaves none relayed. */
static int published_relay(struct publishing *self, struct published *published, struct gantry_error *err)
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

struct published *published_find(struct publishing *self, const char *endpoint_id)
{
	struct published key;
	snprintf(key.endpoint_id, sizeof key.endpoint_id, "%s", endpoint_id);
	struct published **found = tfind(&key, &self->by_endpoint, compare);
	return found ? *found : NULL;
}

/* published_hold() first. */
static int published_insert(struct publishing *self, struct published *published, struct gantry_error *err)
{
	if (tsearch(published, &self->by_endpoint, compare))
		return 0;
	release(self, published, published->count);
	return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
}

/* Out of the records; what it held is free again, but its sockets and memory are there until published_free(). */
static void published_forget(struct publishing *self, struct published *published)
{
	tdelete(published, &self->by_endpoint, compare);
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

void published_each(struct publishing *self, void (*fn)(struct published *published, void *arg), void *arg)
{
	struct each each = { fn, arg };
	twalk_r(self->by_endpoint, visit, &each);
}

static void free_node(void *node)
{
	published_free(node);
}

/* ---- open, close ---- */

int publishing_open(struct publishing *self, const struct gantry_host *host, struct gantry_error *err)
{
	unsigned relayed = (unsigned)strtoul(host->config(host, "relay_connections"), NULL, 10);
	self->host = host;
	/* Pages of it that no port touches cost nothing. */
	self->by_port = calloc(PORT_COUNT, sizeof *self->by_port);
	self->relay = relayed ? relay_open(host, relayed) : NULL;
	if (self->by_port && (self->relay || !relayed))
		return 0;
	publishing_close(self);
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "prepare to publish ports");
}

void publishing_close(struct publishing *self)
{
	tdestroy(self->by_endpoint, free_node);
	relay_close(self->relay);
	free(self->by_port);
	self->by_endpoint = NULL;
	self->relay = NULL;
	self->by_port = NULL;
}

/* ---- publish, unpublish ---- */

/* Takes `published` over where it succeeds. */
static int publish(struct publishing *self, struct published *published, struct gantry_error *err)
{
	char host_end[IFNAMSIZ];
	veth_name(self->host_end_prefix, published->endpoint_id, host_end);
	if (published_hold(self, published, false, err) < 0 || published_insert(self, published, err) < 0)
		return -1;
	if (self->add(self->driver, published, err) == 0) {
		if (veth_hairpin(host_end, err) == 0 && published_relay(self, published, err) == 0)
			return 0;
		struct gantry_error ignored = { .size = sizeof ignored };
		published_forget(self, published);
		(void)self->remove(self->driver, published, &ignored);
		return -1;
	}
	published_forget(self, published);
	return -1;
}

int publish_ports(struct publishing *self, const struct publish_place *place, const struct gantry_endpoint *endpoint, const struct gantry_port *ports,
		  size_t count, size_t size, const struct published **forget, struct gantry_error *err)
{
	int rc = -1;
	*forget = NULL;
	if (count > PORT_COUNT)
		return gantry_fail(err, GANTRY_E_INVALID, "%zu ports are too many; at most %d can be published", count, PORT_COUNT);
	const struct published *before = published_find(self, endpoint->id);
	struct published *published = published_read(self, place, endpoint, ports, size, NULL, count, err);
	bool again = published && before && published_same(before, published);
	if (again)
		rc = self->ensure(self->driver, err);
	else if (published && before)
		gantry_fail(err, GANTRY_E_CONFLICT, "endpoint %.12s has other ports published already", endpoint->id);
	else if (published)
		rc = count ? publish(self, published, err) : 0;
	if (rc < 0 || again || !count)
		published_free(published);
	else if (published_has_udp(published))
		*forget = published;
	return rc;
}

int unpublish_ports(struct publishing *self, const char *endpoint_id, struct published **gone, struct gantry_error *err)
{
	struct published *published = published_find(self, endpoint_id);
	*gone = published;
	if (!published)
		return 0;
	published_forget(self, published);
	return self->remove(self->driver, published, err);
}

/* ---- reconcile ---- */

/* The indices of all ports, those of one endpoint together: of endpoint i from starts[i] on, up to starts[i + 1]. */
static int group_ports(const uint32_t *port_owner, size_t port_count, size_t endpoint_count, uint32_t **picks, uint32_t **starts)
{
	*starts = calloc(endpoint_count + 2, sizeof **starts);
	*picks = calloc(port_count + 1, sizeof **picks);
	if (!*starts || !*picks)
		return -1;
	uint32_t *ends = *starts + 1;
	for (size_t i = 0; i < port_count; i++) {
		if (port_owner[i] < endpoint_count)
			ends[port_owner[i] + 1]++;
	}
	for (size_t i = 1; i <= endpoint_count; i++)
		ends[i] += ends[i - 1];
	/* ends[i] is where endpoint i begins; it moves on to where it ends, which is where i + 1 begins: then starts[] is right. */
	for (size_t i = 0; i < port_count; i++) {
		if (port_owner[i] < endpoint_count)
			(*picks)[ends[port_owner[i]]++] = (uint32_t)i;
	}
	return 0;
}

/* What cannot be is a warning: the other endpoints' ports are to work. */
static void restore_one(struct publishing *self, const struct publish_place *place, const struct gantry_endpoint *endpoint, const struct gantry_port *ports,
			size_t size, const uint32_t *picks, size_t count)
{
	struct gantry_error why = { .size = sizeof why };
	struct published *before = published_find(self, endpoint->id);
	struct published *published = place ? published_read(self, place, endpoint, ports, size, picks, count, &why) : NULL;
	if (before && published && published_same(before, published)) {
		before->told = true;
		published_free(published);
		return;
	}
	if (before) {
		published_forget(self, before);
		published_free(before);
	}
	if (published && published_hold(self, published, true, &why) == 0 && published_insert(self, published, &why) == 0) {
		published->told = true;
		if (published_relay(self, published, &why) < 0)
			log_line(self->host, GANTRY_WARN, "endpoint %.12s: %s", endpoint->id, why.message);
		return;
	}
	log_line(self->host, GANTRY_WARN, "ports of endpoint %.12s are not published: %s", endpoint->id,
		 place ? why.message : "its network is not known");
	published_free(published);
}

struct untold {
	struct published *list[64];
	unsigned count;
};

static void note_untold(struct published *published, void *arg)
{
	struct untold *untold = arg;
	if (!published->told && untold->count < sizeof untold->list / sizeof untold->list[0])
		untold->list[untold->count++] = published;
}

static void clear_told(struct published *published, void *arg)
{
	(void)arg;
	published->told = false;
}

/* A tree cannot be changed while it is walked. */
static void drop_untold(struct publishing *self)
{
	struct untold untold;
	do {
		untold.count = 0;
		published_each(self, note_untold, &untold);
		for (unsigned i = 0; i < untold.count; i++) {
			published_forget(self, untold.list[i]);
			published_free(untold.list[i]);
		}
	} while (untold.count);
}

int published_restore(struct publishing *self, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size,
		      const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size,
		      bool (*find)(void *driver, const struct gantry_endpoint *endpoint, struct publish_place *place), struct gantry_error *err)
{
	uint32_t *picks = NULL, *starts = NULL;
	int rc = group_ports(port_owner, port_count, endpoint_count, &picks, &starts);
	if (rc < 0)
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	published_each(self, clear_told, NULL);
	for (size_t i = 0; rc == 0 && i < endpoint_count; i++) {
		const char *item = (const char *)endpoints + i * endpoint_size;
		const struct gantry_endpoint *endpoint = (const struct gantry_endpoint *)(const void *)item;
		struct publish_place place = { 0 };
		if (starts[i + 1] == starts[i])
			continue;
		bool found = id_valid(endpoint->id) && find(self->driver, endpoint, &place);
		restore_one(self, found ? &place : NULL, endpoint, ports, port_size, picks + starts[i], starts[i + 1] - starts[i]);
	}
	if (rc == 0)
		drop_untold(self);
	free(picks);
	free(starts);
	return rc;
}
