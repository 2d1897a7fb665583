/*
 * bridge.c - the network driver "bridge": containers on a Linux bridge of this host, with addresses from the engine, a masqueraded way out, and published ports
 * by the kernel's own NAT.
 *
 * What each op does to the kernel is in the other files; bridge.h lists them. Here: the order of things, and what is undone when a step fails.
 */
#include "bridge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- open, close ---- */

static bool is_true(const struct gantry_host *host, const char *key)
{
	return strcmp(host->config(host, key), "true") == 0;
}

static void bridge_close(void *driver)
{
	struct bridge *self = driver;
	later_close(&self->later);
	nat_close(self);
	publishing_close(&self->publishing);
	while (self->networks)
		network_forget(self, self->networks->id);
	pthread_mutex_destroy(&self->lock);
	free(self);
}

static int ensure_tables(void *driver, struct gantry_error *err)
{
	return nat_ensure(driver, err);
}

static int add_ports(void *driver, const struct published *published, struct gantry_error *err)
{
	return nat_publish(driver, published, err);
}

static int remove_ports(void *driver, const struct published *published, struct gantry_error *err)
{
	struct bridge *self = driver;
	return self->built ? nat_unpublish(self, published, err) : 0;
}

static int bridge_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	struct bridge *self = calloc(1, sizeof *self);
	if (!self)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (later_open(&self->later, host, veth_look, err) < 0) {
		free(self);
		return -1;
	}
	pthread_mutex_init(&self->lock, NULL);
	self->host = host;
	self->ipv6 = kernel_has_ipv6();
	self->mtu = (uint32_t)strtoul(host->config(host, "mtu"), NULL, 10);
	self->icc = is_true(host, "icc");
	self->masquerade = is_true(host, "masquerade");
	self->ip_forward = is_true(host, "ip_forward");
	if (publishing_open(&self->publishing, host, err) < 0 || nat_open(self, err) < 0) {
		bridge_close(self);
		return -1;
	}
	self->publishing.driver = self;
	self->publishing.host_end_prefix = HOST_END_PREFIX;
	self->publishing.ensure = ensure_tables;
	self->publishing.add = add_ports;
	self->publishing.remove = remove_ports;
	*driver = self;
	return 0;
}

/* ---- networks ---- */

static int allow_forwarding(const struct bridge *self, const struct network *network, struct gantry_error *err)
{
	if (!self->ip_forward || network->internal)
		return 0;
	if (network->ipv4 && sysctl_set("1", "ipv4", NULL, "ip_forward") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set net.ipv4.ip_forward (ip_forward = no leaves it alone)", network->name);
	if (network->ipv6 && sysctl_set("1", "ipv6", "all", "forwarding") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set net.ipv6.conf.all.forwarding (ip_forward = no leaves it alone)",
					 network->name);
	return 0;
}

static int make_link(struct bridge *self, struct network *network, bool *made, struct gantry_error *err)
{
	const struct network *other = network_by_bridge(self, network->bridge);
	if (other && strcmp(other->id, network->id) != 0)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: bridge %s is network %s's", network->name, network->bridge, other->name);
	if (allow_forwarding(self, network, err) < 0)
		return -1;
	return bridge_ensure(self, network, made, err);
}

/* With the link made. Takes the record over. */
static int enter_network(struct bridge *self, struct network *network, bool made, struct gantry_error *err)
{
	bool known = network_find(self, network->id) != NULL;
	network_insert(self, network);
	/* Before the first reconcile() the tables are an earlier life's, with ports that carry traffic: they are replaced when all is known. */
	if (!self->built || (known ? nat_rebuild(self, err) : nat_add_network(self, network, err)) == 0)
		return 0;
	if (made)
		bridge_remove(network, NULL);
	if (!known)
		network_forget(self, network->id);
	return -1;
}

static int bridge_network_create(void *driver, const struct gantry_call *call, const struct gantry_network *wanted, struct gantry_error *err)
{
	struct bridge *self = driver;
	bool made = false;
	(void)call;
	struct network *network = malloc(sizeof *network);
	if (!network)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (network_read(self, wanted, network, err) < 0) {
		free(network);
		return -1;
	}
	pthread_mutex_lock(&self->lock);
	int rc = make_link(self, network, &made, err);
	if (rc < 0)
		free(network);
	else
		rc = enter_network(self, network, made, err);
	pthread_mutex_unlock(&self->lock);
	return rc;
}

static int bridge_network_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	struct bridge *self = driver;
	(void)call;
	pthread_mutex_lock(&self->lock);
	struct network *network = network_find(self, network_id);
	int rc = network ? bridge_remove(network, err) : 0;
	if (network && rc == 0) {
		struct network gone = *network;
		network_forget(self, network_id);
		rc = self->built ? nat_remove_network(self, &gone, err) : 0;
	}
	pthread_mutex_unlock(&self->lock);
	return rc;
}

/* ---- endpoints ---- */

/* With the lock held: what a join needs of the records, copied, and the tables and the bridge there, whoever removed them. */
static int prepare_join(struct bridge *self, const struct gantry_endpoint *endpoint, struct network *network, bool *hairpin, struct gantry_error *err)
{
	bool made;
	struct network *found = id_valid(endpoint->id) ? network_find(self, endpoint->network_id) : NULL;
	if (!found)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "endpoint %.12s: the driver knows no network %.12s", endpoint->id, endpoint->network_id);
	if (!if_nametoindex(found->bridge) && bridge_ensure(self, found, &made, err) < 0)
		return -1;
	*network = *found;
	*hairpin = published_find(&self->publishing, endpoint->id) != NULL;
	return nat_ensure(self, err);
}

static int bridge_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct bridge *self = driver;
	struct network network = { 0 };
	struct veth veth = { .host = self->host };
	(void)call;
	pthread_mutex_lock(&self->lock);
	int rc = prepare_join(self, endpoint, &network, &veth.hairpin, err);
	pthread_mutex_unlock(&self->lock);
	if (rc < 0 || interface_read(endpoint, network.name, &veth.end, err) < 0)
		return -1;
	veth.network = network.name;
	veth.bridge = (int)if_nametoindex(network.bridge);
	veth.mtu = network.mtu;
	veth.isolated = !network.icc;
	veth.end.default_route = veth.end.default_route && !network.internal;
	veth_name(HOST_END_PREFIX, endpoint->id, veth.host_end);
	if (!veth.bridge)
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %s: its bridge %s is gone", network.name, network.bridge);
	if (veth_join(&veth, netns_fd, err) < 0)
		return -1;
	mac_format(veth.end.mac, endpoint->mac);
	snprintf(endpoint->host_ifname, sizeof endpoint->host_ifname, "%s", veth.host_end);
	endpoint->mtu = network.mtu;
	/* Elsewhere the gateway stays told, whether or not the default route goes there now: it may later. */
	if (network.internal)
		endpoint->gateway4[0] = endpoint->gateway6[0] = '\0';
	return 0;
}

/* ---- ports ---- */

static int bridge_unpublish(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, struct gantry_error *err)
{
	struct bridge *self = driver;
	struct published *gone;
	(void)call;
	(void)network_id;
	pthread_mutex_lock(&self->lock);
	int rc = unpublish_ports(&self->publishing, endpoint_id, &gone, err);
	pthread_mutex_unlock(&self->lock);
	conntrack_forget(gone);
	published_free(gone);
	return rc;
}

static int bridge_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd,
			struct gantry_error *err)
{
	struct bridge *self = driver;
	char host_end[IFNAMSIZ];
	if (!id_valid(endpoint_id))
		return gantry_fail(err, GANTRY_E_INVALID, "an endpoint's id must be 64 hexadecimal digits");
	veth_name(HOST_END_PREFIX, endpoint_id, host_end);
	int rc = netns_fd < 0 ? veth_vanish(&self->later, host_end, err) : veth_leave(host_end, err);
	return bridge_unpublish(driver, call, network_id, endpoint_id, err) < 0 ? -1 : rc;
}

static struct publish_place place_of(const struct network *network)
{
	return (struct publish_place){ .network_id = network->id, .network = network->name, .internal = network->internal, .host_ip = network->host_ip };
}

static int bridge_publish(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoint, const struct gantry_port *ports,
			  size_t port_count, size_t port_size, struct gantry_error *err)
{
	struct bridge *self = driver;
	const struct published *forget = NULL;
	int rc;
	(void)call;
	if (!id_valid(endpoint->id))
		return gantry_fail(err, GANTRY_E_INVALID, "an endpoint's id must be 64 hexadecimal digits");
	pthread_mutex_lock(&self->lock);
	const struct network *network = network_find(self, endpoint->network_id);
	if (network) {
		struct publish_place place = place_of(network);
		rc = publish_ports(&self->publishing, &place, endpoint, ports, port_count, port_size, &forget, err);
	} else {
		rc = gantry_fail(err, GANTRY_E_NOT_FOUND, "endpoint %.12s: the driver knows no network %.12s", endpoint->id, endpoint->network_id);
	}
	pthread_mutex_unlock(&self->lock);
	conntrack_forget(forget);
	return rc;
}

/* ---- reconcile ---- */

static bool find_place(void *driver, const struct gantry_endpoint *endpoint, struct publish_place *place)
{
	const struct network *network = network_find(driver, endpoint->network_id);
	if (network)
		*place = place_of(network);
	return network != NULL;
}

static void restore_bridges(struct bridge *self)
{
	struct gantry_error why = { .size = sizeof why };
	bool made;
	for (struct network *network = self->networks; network; network = network->next) {
		if (!if_nametoindex(network->bridge) && bridge_ensure(self, network, &made, &why) < 0)
			LOG_WARN(self, "network %s: %s", network->name, why.message);
	}
}

static int bridge_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count,
			    size_t endpoint_size, const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size,
			    struct gantry_error *err)
{
	struct bridge *self = driver;
	pthread_mutex_lock(&self->lock);
	restore_bridges(self);
	int rc = published_restore(&self->publishing, endpoints, endpoint_count, endpoint_size, ports, port_owner, port_count, port_size, find_place, err);
	if (rc == 0)
		rc = nat_rebuild(self, err);
	if (rc == 0)
		rc = sweep_links(self, call, endpoints, endpoint_count, endpoint_size, err);
	pthread_mutex_unlock(&self->lock);
	return rc;
}

/* ---- descriptor ---- */

static const struct gantry_network_ops ops = {
	.size = sizeof(struct gantry_network_ops),
	.open = bridge_open,
	.close = bridge_close,
	.network_create = bridge_network_create,
	.network_remove = bridge_network_remove,
	.endpoint_join = bridge_join,
	.endpoint_leave = bridge_leave,
	.publish = bridge_publish,
	.unpublish = bridge_unpublish,
	.reconcile = bridge_reconcile,
};

#define KEY(type_, name_, default_, doc_) \
	{ .size = sizeof(struct gantry_key), .type = (type_), .name = (name_), .default_value = (default_), .doc = (doc_) }

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_INT, .name = "mtu", .default_value = "1500", .min = 68, .max = 65535,
	  .doc = "MTU of networks whose options name none" },
	KEY(GANTRY_KEY_BOOL, "icc", "yes", "containers of one network reach each other, unless the network's options say otherwise"),
	KEY(GANTRY_KEY_BOOL, "masquerade", "yes", "containers go out under the host's address, unless the network's options say otherwise"),
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_INT, .name = "relay_connections", .default_value = "1024", .min = 0, .max = 65536,
	  .doc = "connections at a time from IPv6 to published ports of containers without it; 0: these are published on IPv4 alone" },
	KEY(GANTRY_KEY_BOOL, "ip_forward", "yes", "set the kernel's net.ipv4.ip_forward, and net.ipv6.conf.all.forwarding for networks with IPv6"),
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "bridge",
	  .capabilities = GANTRY_NET_PUBLISH | GANTRY_NET_INTERNAL | GANTRY_NET_RELAY, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin),
	.abi_major = GANTRY_ABI_MAJOR,
	.abi_minor = GANTRY_ABI_MINOR,
	.name = "net-bridge",
	.version = GANTRY_VERSION,
	.description = "networks of this host: Linux bridges, and published ports through nftables",
	.keys = keys,
	.key_count = sizeof keys / sizeof keys[0],
	.key_size = sizeof keys[0],
	.drivers = drivers,
	.driver_count = 1,
	.driver_size = sizeof drivers[0],
};
