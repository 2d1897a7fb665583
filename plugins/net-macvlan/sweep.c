/*
 * sweep.c - finds our links, in the host's namespace and in those that it has a number for, and removes those that nothing known owns.
 */
#include "macvlan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- parents ---- */

static bool is_parent(const struct link *link, void *arg)
{
	(void)arg;
	return parent_is_ours(link);
}

static const struct network *network_on(const struct macvlan *self, const char *parent)
{
	const struct network *network = self->networks;
	while (network && strcmp(network->parent, parent) != 0)
		network = network->next;
	return network;
}

static int sweep_parents(struct macvlan *self, struct nl_sock *sock, struct gantry_error *err)
{
	struct link *links = NULL;
	size_t count = 0;
	if (link_list(sock, -1, NULL, is_parent, NULL, &links, &count, err) < 0)
		return -1;
	/* One that resists does not keep the others. */
	for (size_t i = 0; i < count; i++) {
		if (!network_on(self, links[i].name) && link_delete(sock, links[i].ifindex, err) < 0)
			log_line(self->host, GANTRY_WARN, "link %s of an earlier life: %s", links[i].name, err->message);
	}
	free(links);
	return 0;
}

/* ---- containers' links ---- */

struct numbers {
	int *items;
	size_t count, room;
	bool out_of_memory;
};

static void add_number(void *arg, int nsid)
{
	struct numbers *numbers = arg;
	if (numbers->count == numbers->room) {
		size_t room = numbers->room ? numbers->room * 2 : 64;
		int *more = realloc(numbers->items, room * sizeof *more);
		if (!more) {
			numbers->out_of_memory = true;
			return;
		}
		numbers->items = more;
		numbers->room = room;
	}
	numbers->items[numbers->count++] = nsid;
}

static bool is_endpoints(const struct link *link, void *arg)
{
	(void)arg;
	return link_is_of_endpoint(link);
}

static void settle(struct macvlan *self, struct nl_sock *sock, int nsid, const struct link *link)
{
	struct gantry_error err = { .size = sizeof err };
	const char *id = link->alias + strlen(ENDPOINT_ALIAS);
	struct endpoint *endpoint = link->group != MARK && id_valid(id) ? endpoint_find(self, id) : NULL;
	if (endpoint) {
		endpoint->nsid = nsid;
		memcpy(endpoint->mac, link->mac, sizeof endpoint->mac);
	} else if (namespace_delete_link(sock, nsid, link->ifindex, &err) < 0) {
		log_line(self->host, GANTRY_WARN, "link %s of a container of an earlier life: %s", link->name, err.message);
	}
}

static int sweep_namespace(struct macvlan *self, struct nl_sock *sock, int nsid, struct gantry_error *err)
{
	struct link *links = NULL;
	size_t count = 0;
	/* One that has just died has no links. */
	if (link_list(sock, nsid, "macvlan", is_endpoints, NULL, &links, &count, err) < 0)
		return err->errnum == EINVAL ? 0 : -1;
	for (size_t i = 0; i < count; i++)
		settle(self, sock, nsid, &links[i]);
	free(links);
	return 0;
}

static int sweep_endpoints(struct macvlan *self, const struct gantry_call *call, struct nl_sock *sock, struct gantry_error *err)
{
	struct numbers numbers = { 0 };
	int rc = namespace_each(sock, add_number, &numbers, err);
	if (rc == 0 && numbers.out_of_memory)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	for (size_t i = 0; rc == 0 && i < numbers.count; i++) {
		if (self->host->cancelled(self->host, call))
			rc = gantry_fail(err, GANTRY_E_TIMEOUT, "links of an earlier life are left; the next start goes on with them");
		else
			rc = sweep_namespace(self, sock, numbers.items[i], err);
	}
	free(numbers.items);
	return rc;
}

int sweep(struct macvlan *self, const struct gantry_call *call, struct gantry_error *err)
{
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? sweep_parents(self, sock, err) : -1;
	/* A host without networks of this driver does not pay for going through every container: what they made went with the last of them. */
	if (rc == 0 && self->networks)
		rc = sweep_endpoints(self, call, sock, err);
	nl_socket_free(sock);
	return rc;
}
