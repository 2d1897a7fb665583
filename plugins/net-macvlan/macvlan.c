/*
 * macvlan.c - the network driver "macvlan": each container is a machine of its own on the wire that a link of the host's leads to.
 *
 * What each op does to the kernel is in the other files; macvlan.h lists them. Here: the order of things, and what is undone when a step fails.
 */
#include "macvlan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 5000000000LL        /* with links of namespaces that are about to go */
#define PAUSE_NS 10000000L

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* ---- open, close ---- */

static void forget_endpoints(struct macvlan *self)
{
	for (size_t i = 0; i < sizeof self->endpoints / sizeof self->endpoints[0]; i++) {
		while (self->endpoints[i])
			endpoint_forget(self, self->endpoints[i]->id);
	}
}

static void macvlan_close(void *driver)
{
	struct macvlan *self = driver;
	later_close(&self->later);
	forget_endpoints(self);
	while (self->networks)
		network_forget(self, self->networks->id);
	pthread_mutex_destroy(&self->lock);
	close(self->netns_fd);
	free(self);
}

/* Whether the kernel has macvlan is asked when it is first needed: to ask loads its module. */
static int macvlan_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	struct macvlan *self = calloc(1, sizeof *self);
	if (!self)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	self->host = host;
	self->netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (self->netns_fd < 0) {
		free(self);
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open the host's network namespace");
	}
	if (later_open(&self->later, host, endpoint_look, err) < 0) {
		close(self->netns_fd);
		free(self);
		return -1;
	}
	pthread_mutex_init(&self->lock, NULL);
	/* Containers may have ended just before. */
	self->vanishing_until = now_ns() + PATIENCE_NS;
	*driver = self;
	return 0;
}

/* ---- networks ---- */

/* Networks share a parent, but not one that is handed to a container whole. */
static int check_neighbours(const struct macvlan *self, const struct network *network, struct gantry_error *err)
{
	const struct network *other = network_beside(self, network);
	if (other && (network->mode == MACVLAN_MODE_PASSTHRU || other->mode == MACVLAN_MODE_PASSTHRU))
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: parent %s is used by network %s, and mode passthru of network %s shares it with nobody",
				   network->name, network->parent, other->name, network->mode == MACVLAN_MODE_PASSTHRU ? network->name : other->name);
	return 0;
}

/* At the daemon's start a parent may not be there yet, or not any more: the network stays, and joins say what is missing. */
static int find_parent(const struct macvlan *self, const struct network *network, struct gantry_error *err)
{
	struct link parent;
	if (parent_check_kernel(network, err) == 0 && parent_ensure(network, &parent, err) == 0)
		return 0;
	if (self->settled)
		return -1;
	log_line(self->host, GANTRY_WARN, "%s", err->message);
	return 0;
}

static int macvlan_network_create(void *driver, const struct gantry_call *call, const struct gantry_network *wanted, struct gantry_error *err)
{
	struct macvlan *self = driver;
	(void)call;
	struct network *network = malloc(sizeof *network);
	if (!network)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (network_read(wanted, network, err) < 0) {
		free(network);
		return -1;
	}
	pthread_mutex_lock(&self->lock);
	int rc = check_neighbours(self, network, err);
	if (rc == 0)
		rc = find_parent(self, network, err);
	if (rc == 0)
		network_insert(self, network);
	else
		free(network);
	pthread_mutex_unlock(&self->lock);
	return rc;
}

static int macvlan_network_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	struct macvlan *self = driver;
	(void)call;
	pthread_mutex_lock(&self->lock);
	struct network *network = network_find(self, network_id);
	int rc = network && !network_beside(self, network) ? parent_remove(network, err) : 0;
	if (rc == 0)
		network_forget(self, network_id);
	pthread_mutex_unlock(&self->lock);
	return rc;
}

/* ---- endpoints ---- */

/* What a join needs of the records, copied; the endpoint is in them from here on, so that its neighbours see it. */
static int prepare_join(struct macvlan *self, const struct gantry_endpoint *endpoint, struct network *network, struct link *parent, struct plug *plug,
			bool *known, struct gantry_error *err)
{
	struct network *found = id_valid(endpoint->id) ? network_find(self, endpoint->network_id) : NULL;
	if (!found)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "endpoint %.12s: the driver knows no network %.12s", endpoint->id, endpoint->network_id);
	*network = *found;
	if (interface_read(endpoint, network->name, &plug->end, err) < 0 || parent_ensure(network, parent, err) < 0)
		return -1;
	*known = endpoint_find(self, endpoint->id) != NULL;
	struct endpoint *record = endpoint_insert(self, endpoint->id, endpoint->network_id);
	if (!record)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	memcpy(record->mac, plug->end.mac, sizeof record->mac);
	*plug = (struct plug){ .self = self, .network = network, .endpoint_id = endpoint->id, .parent = parent->ifindex, .end = plug->end };
	plug->end.default_route = plug->end.default_route && !network->internal;
	plug->end.announce = true;
	return 0;
}

/* Whether the link that is in the way will go by itself: not where it is a known endpoint's. Else err says more. */
static bool will_vanish(struct macvlan *self, const struct plug *plug, struct gantry_error *err)
{
	pthread_mutex_lock(&self->lock);
	const struct endpoint *other = endpoint_in_the_way(self, plug->network, plug->endpoint_id, plug->end.mac);
	bool soon = !other && now_ns() < self->vanishing_until;
	if (other && plug->network->mode == MACVLAN_MODE_PASSTHRU)
		gantry_fail(err, GANTRY_E_CONFLICT, "network %s is in mode passthru, which hands parent %s to one container alone, and another one has it",
			    plug->network->name, plug->network->parent);
	pthread_mutex_unlock(&self->lock);
	return soon;
}

/* The kernel takes apart the namespaces of ended containers in its own time; until then their links have their MACs and, in mode passthru, their parent. */
static int plug_in(struct macvlan *self, const struct gantry_call *call, struct plug *plug, int netns_fd, struct gantry_error *err)
{
	static const struct timespec PAUSE = { .tv_nsec = PAUSE_NS };
	for (;;) {
		err->errnum = 0;
		if (endpoint_plug(plug, netns_fd, err) == 0)
			return 0;
		if ((err->errnum != EADDRINUSE && err->errnum != EBUSY) || self->host->cancelled(self->host, call) || !will_vanish(self, plug, err))
			return -1;
		nanosleep(&PAUSE, NULL);
	}
}

static int macvlan_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct macvlan *self = driver;
	struct network network = { 0 };
	struct link parent = { 0 };
	struct plug plug;
	bool known = false;
	pthread_mutex_lock(&self->lock);
	int rc = prepare_join(self, endpoint, &network, &parent, &plug, &known, err);
	pthread_mutex_unlock(&self->lock);
	if (rc < 0)
		return -1;
	if (!(parent.flags & IFF_UP))
		log_line(self->host, GANTRY_WARN, "network %s: parent %s is down: nothing reaches its containers until it is up", network.name, network.parent);
	rc = plug_in(self, call, &plug, netns_fd, err);
	pthread_mutex_lock(&self->lock);
	struct endpoint *record = endpoint_find(self, endpoint->id);
	if (record && rc == 0) {
		record->nsid = plug.nsid;
		memcpy(record->mac, plug.end.mac, sizeof record->mac);
	} else if (rc < 0 && !known) {
		endpoint_forget(self, endpoint->id);
	}
	pthread_mutex_unlock(&self->lock);
	if (rc < 0)
		return -1;
	mac_format(plug.end.mac, endpoint->mac);
	snprintf(endpoint->host_ifname, sizeof endpoint->host_ifname, "%s", network.parent);
	endpoint->mtu = plug.mtu;
	/* Elsewhere the gateway stays told, whether or not the default route goes there now: it may later. */
	if (network.internal)
		endpoint->gateway4[0] = endpoint->gateway6[0] = '\0';
	return 0;
}

static int macvlan_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd,
			 struct gantry_error *err)
{
	struct macvlan *self = driver;
	struct later_what what = { .nsid = -1 };
	(void)call;
	(void)network_id;
	if (!id_valid(endpoint_id))
		return gantry_fail(err, GANTRY_E_INVALID, "an endpoint's id must be 64 hexadecimal digits");
	if (netns_fd >= 0 && endpoint_unplug(netns_fd, endpoint_id, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	const struct endpoint *record = endpoint_find(self, endpoint_id);
	if (record)
		what.nsid = record->nsid;
	endpoint_forget(self, endpoint_id);
	if (netns_fd < 0)
		self->vanishing_until = now_ns() + PATIENCE_NS;
	pthread_mutex_unlock(&self->lock);
	if (netns_fd >= 0 || what.nsid < 0)
		return 0;
	memcpy(what.id, endpoint_id, sizeof what.id);
	return later_expect(&self->later, &what, err);
}

/* ---- reconcile ---- */

static void restore_parents(struct macvlan *self)
{
	struct gantry_error why = { .size = sizeof why };
	struct link parent;
	for (const struct network *network = self->networks; network; network = network->next) {
		if (!if_nametoindex(network->parent) && parent_ensure(network, &parent, &why) < 0)
			log_line(self->host, GANTRY_WARN, "%s", why.message);
	}
}

static int note_endpoints(struct macvlan *self, const struct gantry_endpoint *endpoints, size_t count, size_t size, struct gantry_error *err)
{
	const char *item = (const char *)endpoints;
	forget_endpoints(self);
	for (size_t i = 0; i < count; i++, item += size) {
		const struct gantry_endpoint *endpoint = (const struct gantry_endpoint *)(const void *)item;
		struct endpoint *record = id_valid(endpoint->id) && id_valid(endpoint->network_id) ? endpoint_insert(self, endpoint->id, endpoint->network_id) : NULL;
		if (!record)
			return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory, or endpoint %.12s has no id", endpoint->id);
	}
	return 0;
}

static int macvlan_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count,
			     size_t endpoint_size, const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size,
			     struct gantry_error *err)
{
	struct macvlan *self = driver;
	(void)ports;
	(void)port_owner;
	(void)port_count;
	(void)port_size;
	pthread_mutex_lock(&self->lock);
	if (self->settled)
		restore_parents(self);
	self->settled = true;
	int rc = note_endpoints(self, endpoints, endpoint_count, endpoint_size, err);
	if (rc == 0)
		rc = sweep(self, call, err);
	pthread_mutex_unlock(&self->lock);
	return rc;
}

/* ---- descriptor ---- */

static const struct gantry_network_ops ops = {
	.size = sizeof(struct gantry_network_ops),
	.open = macvlan_open,
	.close = macvlan_close,
	.network_create = macvlan_network_create,
	.network_remove = macvlan_network_remove,
	.endpoint_join = macvlan_join,
	.endpoint_leave = macvlan_leave,
	.reconcile = macvlan_reconcile,
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "macvlan", .capabilities = GANTRY_NET_INTERNAL, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin),
	.abi_major = GANTRY_ABI_MAJOR,
	.abi_minor = GANTRY_ABI_MINOR,
	.name = "net-macvlan",
	.version = GANTRY_VERSION,
	.description = "containers as machines of their own on a link's wire: macvlan, 802.1q",
	.drivers = drivers,
	.driver_count = 1,
	.driver_size = sizeof drivers[0],
};
