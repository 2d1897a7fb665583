/*
 * endpoint_ports.c - published ports: what a user asks for, which ports of the host that comes to, and Docker's JSON of both.
 *
 * Where the user left the choice ("-p 80", a range, --publish-all) the engine looks for a free port by binding it for an instant; the driver then
 * holds it. Another program may be quicker in between: then another one is picked.
 *
 * A binding without address is for IPv4 and IPv6, with the same port on both where there is a choice. A container with IPv4 alone has the IPv6 half where the
 * driver relays and the host has IPv6; else it quietly has none.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/network.h"

#define MAX_PORTS 8192
#define FIRST_FREE 32768        /* where ports come from that nobody named: the kernel's own range for outgoing connections */
#define LAST_FREE 60999
#define PUBLISH_TRIES 16

/* One binding, on one address family. */
struct wish {
	char host_ip[GANTRY_ADDR_MAX];
	uint32_t proto;
	uint16_t container_port, first, last;
	bool twin;                      /* takes the port of the wish before it: the IPv6 half of a binding without address */
	bool optional;                  /* done without where the driver cannot */
};

struct wishes {
	struct wish *items;
	size_t count;
	bool relays;                    /* the driver publishes on IPv6 for a container without it */
	int host_ipv6;                  /* whether the host has it; -1: not asked yet */
};

/* ---- reading ---- */

static const struct {
	const char *name;
	uint32_t proto;
} PROTOCOLS[] = { { "tcp", IPPROTO_TCP }, { "udp", IPPROTO_UDP }, { "sctp", IPPROTO_SCTP } };

static const char *proto_name(uint32_t proto)
{
	for (size_t i = 0; i < GT_COUNT(PROTOCOLS); i++) {
		if (PROTOCOLS[i].proto == proto)
			return PROTOCOLS[i].name;
	}
	return "tcp";
}

static bool read_number(const char *text, size_t len, uint16_t *port)
{
	unsigned value = 0;
	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
	}
	*port = (uint16_t)value;
	return value <= 65535;
}

int port_parse(const char *text, uint16_t *port, uint32_t *proto)
{
	const char *slash = strchrnul(text, '/');
	if (!read_number(text, (size_t)(slash - text), port) || *port == 0)
		return -1;
	*proto = IPPROTO_TCP;
	for (size_t i = 0; *slash && i < GT_COUNT(PROTOCOLS); i++) {
		if (strcmp(slash + 1, PROTOCOLS[i].name) == 0) {
			*proto = PROTOCOLS[i].proto;
			return 0;
		}
	}
	return *slash ? -1 : 0;
}

/* "", "0": any. "8080", "8000-8010". */
static int read_range(const char *text, uint16_t *first, uint16_t *last)
{
	const char *dash = strchrnul(text, '-');
	*first = *last = 0;
	if (!text[0])
		return 0;
	if (!read_number(text, (size_t)(dash - text), first))
		return -1;
	*last = *first;
	return !*dash || (read_number(dash + 1, strlen(dash + 1), last) && *last >= *first && *first > 0) ? 0 : -1;
}

static bool is_address(const char *text)
{
	struct in6_addr address;
	return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

static int check_binding(const char *port, const json_t *binding, struct gt_error *err)
{
	const char *host_ip = "", *host_port = "";
	uint16_t first, last;
	if (gt_json_string(binding, "HostIp", &host_ip, err) < 0 || gt_json_string(binding, "HostPort", &host_port, err) < 0)
		return -1;
	if (host_ip[0] && !is_address(host_ip))
		return gt_fail(err, GT_INVALID, "invalid host IP %.64s of port %s: it is no IPv4 or IPv6 address", host_ip, port);
	if (read_range(host_port, &first, &last) < 0)
		return gt_fail(err, GT_INVALID, "invalid host port %.64s of port %s: a number from 1 to 65535 or a range is wanted", host_port, port);
	return 0;
}

int ports_check(const struct gt_container *ctr, struct gt_error *err)
{
	const json_t *bindings = ctr->config.host.port_bindings;
	const char *key;
	json_t *list, *binding;
	size_t total = json_object_size(ctr->config.exposed_ports), i;
	uint16_t port;
	uint32_t proto;
	if (bindings && !json_is_null(bindings) && !json_is_object(bindings))
		return gt_fail(err, GT_INVALID, "PortBindings is not an object");
	json_object_foreach(ctr->config.exposed_ports, key, list) {
		if (port_parse(key, &port, &proto) < 0)
			return gt_fail(err, GT_INVALID, "invalid exposed port %.64s: PORT/tcp, PORT/udp or PORT/sctp is wanted", key);
	}
	json_object_foreach((json_t *)bindings, key, list) {
		if (port_parse(key, &port, &proto) < 0)
			return gt_fail(err, GT_INVALID, "invalid port specification: \"%.64s\": PORT/tcp, PORT/udp or PORT/sctp is wanted", key);
		if (!json_is_array(list) && !json_is_null(list))
			return gt_fail(err, GT_INVALID, "PortBindings: the value of %s is not a list", key);
		total += json_array_size(list);
		json_array_foreach(list, i, binding) {
			if (!json_is_object(binding))
				return gt_fail(err, GT_INVALID, "PortBindings: the list of %s holds something that is not an object", key);
			if (check_binding(key, binding, err) < 0)
				return -1;
		}
	}
	return total > MAX_PORTS ? gt_fail(err, GT_TOO_LARGE, "more than %d ports", MAX_PORTS) : 0;
}

/* ---- what is wanted of this endpoint ---- */

static void add_wish(struct wishes *wishes, const char *host_ip, struct wish wish)
{
	snprintf(wish.host_ip, sizeof wish.host_ip, "%s", host_ip);
	wishes->items = gt_xrealloc(wishes->items, (wishes->count + 1) * sizeof *wishes->items);
	wishes->items[wishes->count++] = wish;
}

/* Where IPv6 is switched off, :: can be bound all the same, but ::1 is no address. */
static bool host_has_ipv6(struct wishes *wishes)
{
	if (wishes->host_ipv6 < 0) {
		struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
		AUTO_CLOSE int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		wishes->host_ipv6 = fd >= 0 && bind(fd, (const struct sockaddr *)&loopback, sizeof loopback) == 0;
	}
	return wishes->host_ipv6;
}

static bool is_relayed(struct wishes *wishes, const struct gantry_endpoint *endpoint, uint32_t proto)
{
	return !endpoint->ipv6[0] && endpoint->ipv4[0] && proto != IPPROTO_SCTP && wishes->relays && host_has_ipv6(wishes);
}

/* A binding without address is for every address of the host; one with, for that alone. */
static int add_binding(struct wishes *wishes, const struct gantry_endpoint *endpoint, const char *default_ip, const char *key, const json_t *binding,
		       struct gt_error *err)
{
	const char *host_ip = "", *host_port = "";
	struct wish wish = { 0 };
	gt_json_string(binding, "HostIp", &host_ip, NULL);
	gt_json_string(binding, "HostPort", &host_port, NULL);
	port_parse(key, &wish.container_port, &wish.proto);
	read_range(host_port, &wish.first, &wish.last);
	if (!host_ip[0])
		host_ip = default_ip;
	bool six = strchr(host_ip, ':') != NULL, served = (six ? endpoint->ipv6 : endpoint->ipv4)[0] || (six && wishes->relays && endpoint->ipv4[0]);
	if (host_ip[0] && !served)
		return gt_fail(err, GT_INVALID, "port %s cannot be published on %s: the container has no IPv%d address", key, host_ip, six ? 6 : 4);
	if (host_ip[0]) {
		add_wish(wishes, host_ip, wish);
		return 0;
	}
	if (endpoint->ipv4[0])
		add_wish(wishes, "0.0.0.0", wish);
	wish.twin = endpoint->ipv4[0] != '\0';
	wish.optional = is_relayed(wishes, endpoint, wish.proto);
	if (endpoint->ipv6[0] || wish.optional)
		add_wish(wishes, "::", wish);
	return 0;
}

static int gather(const struct gt_container *ctr, const struct gantry_endpoint *endpoint, const char *default_ip, struct wishes *wishes, struct gt_error *err)
{
	const json_t *bindings = ctr->config.host.port_bindings;
	AUTO_JSON json_t *any = json_object();
	const char *key;
	json_t *list, *binding;
	size_t i;
	json_object_foreach((json_t *)bindings, key, list) {
		json_array_foreach(list, i, binding) {
			if (add_binding(wishes, endpoint, default_ip, key, binding, err) < 0)
				return -1;
		}
	}
	if (!ctr->config.host.publish_all_ports)
		return 0;
	json_object_foreach(ctr->config.exposed_ports, key, list) {
		if (!json_array_size(json_object_get(bindings, key)) && add_binding(wishes, endpoint, default_ip, key, any, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- picking ---- */

static bool is_free(const struct wish *wish, uint16_t port)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool v6 = inet_pton(AF_INET6, wish->host_ip, &six.sin6_addr) == 1;
	if (!v6 && inet_pton(AF_INET, wish->host_ip, &four.sin_addr) != 1)
		return false;
	int type = wish->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM, one = 1;
	AUTO_CLOSE int fd = socket(v6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, (int)wish->proto);
	if (fd < 0)
		return true; /* a protocol that this kernel has not: the driver says so */
	if (v6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	const struct sockaddr *address = v6 ? (const struct sockaddr *)&six : (const struct sockaddr *)&four;
	return bind(fd, address, v6 ? sizeof six : sizeof four) == 0 || (errno != EADDRINUSE && errno != EACCES);
}

static bool is_picked(const struct gantry_port *ports, size_t count, const struct wish *wish, uint16_t port)
{
	for (size_t i = 0; i < count; i++) {
		if (ports[i].host_port == port && ports[i].proto == wish->proto && strcmp(ports[i].host_ip, wish->host_ip) == 0)
			return true;
	}
	return false;
}

/* Where the search begins moves on, so that it is short however many ports are taken. twin (NULL: none) has the same port. */
static int pick(const struct wish *wish, const struct wish *twin, const struct gantry_port *ports, size_t count, uint16_t *port, struct gt_error *err)
{
	static atomic_uint next;
	bool any = wish->first == 0;
	unsigned first = any ? FIRST_FREE : wish->first, last = any ? LAST_FREE : wish->last, room = last - first + 1;
	unsigned from = any ? atomic_fetch_add(&next, 1) % room : 0;
	for (unsigned i = 0; i < room; i++) {
		*port = (uint16_t)(first + (from + i) % room);
		if (!is_picked(ports, count, wish, *port) && is_free(wish, *port) &&
		    (!twin || (!is_picked(ports, count, twin, *port) && is_free(twin, *port))))
			return 0;
	}
	if (any)
		return gt_fail(err, GT_UNAVAILABLE, "no port from %u to %u is free on %s", first, last, wish->host_ip);
	return gt_fail(err, GT_CONFLICT, "Bind for %s:%u-%u failed: all ports are allocated", wish->host_ip, first, last);
}

/* *chosen: whether any was picked, so that another try may end better. */
static int settle(const struct wishes *wishes, struct gantry_port *ports, bool *chosen, struct gt_error *err)
{
	*chosen = false;
	for (size_t i = 0; i < wishes->count; i++) {
		const struct wish *wish = &wishes->items[i], *twin = i + 1 < wishes->count && wishes->items[i + 1].twin ? wish + 1 : NULL;
		struct gantry_port port = { .size = sizeof port, .proto = wish->proto, .container_port = wish->container_port, .host_port = wish->first };
		memcpy(port.host_ip, wish->host_ip, sizeof port.host_ip);
		if (wish->twin && i > 0) {
			port.host_port = ports[i - 1].host_port;
		} else if (wish->first == 0 || wish->first != wish->last) {
			*chosen = true;
			if (pick(wish, twin, ports, i, &port.host_port, err) < 0)
				return -1;
		}
		ports[i] = port;
	}
	return 0;
}

/* ---- JSON ---- */

static json_t *ports_to_json(const struct gantry_port *ports, size_t count)
{
	json_t *published = json_object();
	for (size_t i = 0; i < count; i++) {
		char key[32], number[8];
		snprintf(key, sizeof key, "%u/%s", ports[i].container_port, proto_name(ports[i].proto));
		snprintf(number, sizeof number, "%u", ports[i].host_port);
		if (!json_object_get(published, key))
			json_object_set_new(published, key, json_array());
		json_array_append_new(json_object_get(published, key), json_pack("{s:s s:s}", "HostIp", ports[i].host_ip, "HostPort", number));
	}
	return published;
}

void ports_of_json(const json_t *published, struct gantry_port **list, size_t *count)
{
	const char *key;
	json_t *bindings, *binding;
	size_t i;
	json_object_foreach((json_t *)published, key, bindings) {
		json_array_foreach(bindings, i, binding) {
			struct gantry_port port = { .size = sizeof port };
			const char *host_ip = "", *host_port = "";
			gt_json_string(binding, "HostIp", &host_ip, NULL);
			gt_json_string(binding, "HostPort", &host_port, NULL);
			if (port_parse(key, &port.container_port, &port.proto) < 0 || !read_number(host_port, strlen(host_port), &port.host_port) ||
			    !is_address(host_ip))
				continue;
			snprintf(port.host_ip, sizeof port.host_ip, "%s", host_ip);
			*list = gt_xrealloc(*list, (*count + 1) * sizeof **list);
			(*list)[(*count)++] = port;
		}
	}
}

/* ---- publish ---- */

static void free_wishes(struct wishes *wishes)
{
	free(wishes->items);
}

/* Whether there were any. */
static bool drop_optional(struct wishes *wishes)
{
	size_t kept = 0, before = wishes->count;
	for (size_t i = 0; i < before; i++) {
		if (!wishes->items[i].optional)
			wishes->items[kept++] = wishes->items[i];
	}
	wishes->count = kept;
	return kept < before;
}

int ports_publish(struct gt_driver *driver, const struct gantry_endpoint *endpoint, const struct gt_container *ctr, const char *default_host_ip,
		  json_t **published, struct gt_error *err)
{
	__attribute__((cleanup(free_wishes))) struct wishes wishes = { .relays = gt_driver_capabilities(driver) & GANTRY_NET_RELAY, .host_ipv6 = -1 };
	bool chosen = false;
	int rc = gather(ctr, endpoint, default_host_ip, &wishes, err);
	if (rc < 0 || wishes.count == 0)
		return rc;
	if (!(gt_driver_capabilities(driver) & GANTRY_NET_PUBLISH))
		return gt_fail(err, GT_UNSUPPORTED,
			       "network driver %s cannot publish ports: connect the container to a network of driver bridge too, with the higher gw-priority",
			       gt_driver_name(driver));
	AUTO_FREE struct gantry_port *ports = gt_xcalloc(wishes.count, sizeof *ports);
	for (int tries = 0; tries < PUBLISH_TRIES; tries++) {
		if (settle(&wishes, ports, &chosen, err) < 0)
			return -1;
		rc = gt_net_publish(driver, endpoint, ports, wishes.count, err);
		if (rc < 0 && err && err->kind == GT_UNSUPPORTED && drop_optional(&wishes))
			continue;
		if (rc == 0 || !chosen || !err || err->kind != GT_CONFLICT)
			break;
	}
	if (rc == 0)
		*published = ports_to_json(ports, wishes.count);
	return rc;
}
