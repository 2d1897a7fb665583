/*
 * ports.c - published ports: what CNI plugins map is nobody's socket, so that another program could listen there without an error and without effect. Bound sockets
 * say who has them.
 */
#include "cni.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct holds {
	char endpoint_id[ID_LEN + 1];
	struct holds *next;
	size_t count;
	int fds[];
};

static const char *proto_name(uint32_t proto)
{
	return proto == IPPROTO_TCP ? "tcp" : proto == IPPROTO_UDP ? "udp" : proto == IPPROTO_SCTP ? "sctp" : NULL;
}

static int proto_number(const char *name)
{
	return name && strcmp(name, "udp") == 0 ? IPPROTO_UDP : name && strcmp(name, "sctp") == 0 ? IPPROTO_SCTP : IPPROTO_TCP;
}

json_t *ports_to_json(const struct gantry_port *ports, size_t count, size_t size, struct gantry_error *err)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++) {
		const struct gantry_port *port = (const void *)((const char *)ports + i * size);
		const char *proto = proto_name(port->proto), *ip = port->host_ip;
		if (!proto) {
			json_decref(list);
			gantry_fail(err, GANTRY_E_UNSUPPORTED, "port %u: CNI maps tcp, udp and sctp only", port->host_port);
			return NULL;
		}
		json_t *entry = json_pack("{s:i s:i s:s}", "hostPort", port->host_port, "containerPort", port->container_port, "protocol", proto);
		if (strcmp(ip, "0.0.0.0") != 0 && strcmp(ip, "::") != 0 && ip[0])
			json_object_set_new(entry, "hostIP", json_string(ip));
		/* One for any address of either family is one mapping. */
		for (size_t k = 0; entry && k < json_array_size(list); k++) {
			if (json_equal(json_array_get(list, k), entry)) {
				json_decref(entry);
				entry = NULL;
			}
		}
		if (entry)
			json_array_append_new(list, entry);
	}
	return list;
}

/* A bound TCP socket alone would let others with SO_REUSEADDR in; one that listens lets nobody. Returns it, or -1 with errno. */
static int bind_one(const struct sockaddr *address, socklen_t len, int proto)
{
	int yes = 1;
	int fd = socket(address->sa_family, (proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, proto);
	if (fd >= 0 && address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
	if (fd >= 0 && bind(fd, address, len) == 0 && (proto == IPPROTO_UDP || listen(fd, 1) == 0))
		return fd;
	int errnum = errno;
	if (fd >= 0)
		close(fd);
	errno = errnum;
	return -1;
}

/* Where a mapping names no address it is for all, of the families that the container has. A family that the host is without needs no socket. */
static int hold_one(const json_t *mapping, bool ipv4, bool ipv6, struct holds *holds, struct gantry_error *err)
{
	const char *ip = json_string_value(json_object_get(mapping, "hostIP"));
	uint16_t port = (uint16_t)json_integer_value(json_object_get(mapping, "hostPort"));
	int proto = proto_number(json_string_value(json_object_get(mapping, "protocol")));
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool wants4 = ip ? inet_pton(AF_INET, ip, &four.sin_addr) == 1 : ipv4, wants6 = ip ? inet_pton(AF_INET6, ip, &six.sin6_addr) == 1 : ipv6;
	if (ip && !wants4 && !wants6)
		return gantry_fail(err, GANTRY_E_INVALID, "port %u: \"%.64s\" is no address", port, ip);
	for (int i = 0; i < 2; i++) {
		if (!(i == 0 ? wants4 : wants6))
			continue;
		int fd = i == 0 ? bind_one((struct sockaddr *)&four, sizeof four, proto) : bind_one((struct sockaddr *)&six, sizeof six, proto);
		const char *where = ip ? ip : i == 0 ? "0.0.0.0" : "::";
		if (fd >= 0)
			holds->fds[holds->count++] = fd;
		else if (errno == EADDRINUSE)
			return gantry_fail(err, GANTRY_E_CONFLICT, "Bind for %s:%u failed: port is already allocated", where, port);
		else if (ip || (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL))
			return gantry_fail_errno(err, GANTRY_E_INVALID, errno, "Bind for %s:%u failed", where, port);
	}
	return 0;
}

static void close_all(struct holds *holds)
{
	for (size_t i = 0; i < holds->count; i++)
		close(holds->fds[i]);
	free(holds);
}

void ports_let_go(struct cni *self, const char *endpoint_id)
{
	struct holds *found = NULL;
	pthread_mutex_lock(&self->lock);
	for (struct holds **at = &self->holds; *at; at = &(*at)->next) {
		if (strcmp((*at)->endpoint_id, endpoint_id) != 0)
			continue;
		found = *at;
		*at = found->next;
		break;
	}
	pthread_mutex_unlock(&self->lock);
	if (found)
		close_all(found);
}

void ports_let_all_go(struct cni *self)
{
	while (self->holds) {
		struct holds *next = self->holds->next;
		close_all(self->holds);
		self->holds = next;
	}
}

static bool has_address_with(const json_t *record, char sign)
{
	size_t i;
	json_t *ip;
	json_array_foreach(json_object_get(json_object_get(record, "result"), "ips"), i, ip) {
		const char *address = json_string_value(json_object_get(ip, "address"));
		if (address && strchr(address, sign))
			return true;
	}
	return false;
}

int ports_hold(struct cni *self, const char *endpoint_id, const json_t *record, const json_t *mappings, struct gantry_error *err)
{
	bool ipv4 = has_address_with(record, '.'), ipv6 = has_address_with(record, ':');
	size_t i;
	json_t *mapping;
	struct holds *holds = calloc(1, sizeof *holds + 2 * json_array_size(mappings) * sizeof(int));
	ports_let_go(self, endpoint_id);
	if (!holds)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	snprintf(holds->endpoint_id, sizeof holds->endpoint_id, "%s", endpoint_id);
	json_array_foreach(mappings, i, mapping) {
		if (hold_one(mapping, ipv4, ipv6, holds, err) < 0) {
			close_all(holds);
			return -1;
		}
	}
	pthread_mutex_lock(&self->lock);
	holds->next = self->holds;
	self->holds = holds;
	pthread_mutex_unlock(&self->lock);
	return 0;
}
