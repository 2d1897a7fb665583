/*
 * sweep.c - finds our links by their names and removes those that nothing known owns; what a crash, or a bridge's removal by hand, has parted from its bridge is
 * put back.
 */
#include "bridge.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

struct wanted {
	char host_end[IFNAMSIZ];
	const struct network *network;
};

struct sweep {
	struct bridge *self;
	struct wanted *wanted;
	size_t wanted_count;
	struct link *ours;              /* all our links there are */
	size_t count;
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct wanted *)a)->host_end, ((const struct wanted *)b)->host_end);
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_host_end(const struct link *link)
{
	return starts_with(link->name, HOST_END_PREFIX) && strcmp(link->kind, "veth") == 0;
}

static bool is_bridge(const struct link *link)
{
	return strcmp(link->kind, "bridge") == 0 && (starts_with(link->name, BRIDGE_PREFIX) || starts_with(link->alias, BRIDGE_ALIAS));
}

static bool is_ours(const struct link *link, void *arg)
{
	(void)arg;
	return is_host_end(link) || is_bridge(link);
}

static int put_on_bridge(struct nl_sock *sock, const struct link *link, const struct network *network, struct gantry_error *err)
{
	struct batch batch;
	int bridge = (int)if_nametoindex(network->bridge);
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = link->ifindex };
	if (!bridge || link->master == bridge)
		return 0;
	batch_begin(&batch, sock);
	message(&batch, "put a container's link back on its bridge", RTM_SETLINK, 0, &header, sizeof header);
	put_u32(&batch, IFLA_MASTER, (uint32_t)bridge);
	if (batch_run(&batch, err) < 0)
		return -1;
	veth_catch_up(sock, link->name, bridge);
	return 0;
}

static int settle(const struct sweep *sweep, struct nl_sock *sock, const struct link *link, struct gantry_error *err)
{
	struct wanted key = { 0 };
	if (is_bridge(link))
		return network_by_bridge(sweep->self, link->name) ? 0 : link_delete(sock, link->ifindex, err);
	memcpy(key.host_end, link->name, sizeof key.host_end);
	const struct wanted *found = bsearch(&key, sweep->wanted, sweep->wanted_count, sizeof key, compare);
	return found ? put_on_bridge(sock, link, found->network, err) : link_delete(sock, link->ifindex, err);
}

static int read_wanted(struct sweep *sweep, const struct gantry_endpoint *endpoints, size_t count, size_t size, struct gantry_error *err)
{
	const char *item = (const char *)endpoints;
	sweep->wanted = calloc(count + 1, sizeof *sweep->wanted);
	if (!sweep->wanted)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	for (size_t i = 0; i < count; i++, item += size) {
		const struct gantry_endpoint *endpoint = (const struct gantry_endpoint *)(const void *)item;
		const struct network *network = id_valid(endpoint->id) ? network_find(sweep->self, endpoint->network_id) : NULL;
		if (!network)
			continue;
		veth_name(HOST_END_PREFIX, endpoint->id, sweep->wanted[sweep->wanted_count].host_end);
		sweep->wanted[sweep->wanted_count++].network = network;
	}
	qsort(sweep->wanted, sweep->wanted_count, sizeof *sweep->wanted, compare);
	return 0;
}

int sweep_links(struct bridge *self, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t count, size_t size,
		struct gantry_error *err)
{
	struct sweep sweep = { .self = self };
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? read_wanted(&sweep, endpoints, count, size, err) : -1;
	if (rc == 0)
		rc = link_list(sock, -1, NULL, is_ours, NULL, &sweep.ours, &sweep.count, err);
	/* One that resists does not keep the others. */
	for (size_t i = 0; rc == 0 && i < sweep.count; i++) {
		if (self->host->cancelled(self->host, call))
			rc = gantry_fail(err, GANTRY_E_TIMEOUT, "links of an earlier life are left; the next start goes on with them");
		else if (settle(&sweep, sock, &sweep.ours[i], err) < 0)
			LOG_WARN(self, "link %s: %s", sweep.ours[i].name, err->message);
	}
	free(sweep.wanted);
	free(sweep.ours);
	nl_socket_free(sock);
	return rc;
}
