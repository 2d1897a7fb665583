/*
 * @NAME@.c - networks as Linux bridges, endpoints as veth pairs.
 *
 * A start to build on: it keeps every rule of <gantry/plugin.h>, as `make check` shows. The kernel is the only state: a network is there where its bridge
 * is, an endpoint where its link is. So nothing has to be remembered, and repeating an op finds out what is left to do.
 *
 * Names: bridge "xb" and link "xv" with 12 digits of the id; make the prefixes your own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/route.h>

#include <gantry/plugin.h>

#define BRIDGE "xb"
#define LINK "xv"

struct driver {
	const struct gantry_host *host;
};

static int fail_nl(struct gantry_error *err, int code, const char *what, const char *name)
{
	return gantry_fail(err, GANTRY_E_INTERNAL, "%s %s: %s", what, name, nl_geterror(code));
}

static void link_name(char out[IFNAMSIZ], const char *prefix, const char *id)
{
	snprintf(out, IFNAMSIZ, "%s%.12s", prefix, id);
}

/* ---- the kernel's links, of the calling thread's namespace ---- */

static struct nl_sock *open_socket(struct gantry_error *err)
{
	struct nl_sock *sock = nl_socket_alloc();
	int rc = sock ? nl_connect(sock, NETLINK_ROUTE) : -NLE_NOMEM;
	if (rc == 0)
		return sock;
	nl_socket_free(sock);
	fail_nl(err, rc, "open", "a netlink socket");
	return NULL;
}

/* The link's index, 0 where there is none. */
static int find_link(struct nl_sock *sock, const char *name)
{
	struct rtnl_link *link = NULL;
	if (rtnl_link_get_kernel(sock, 0, name, &link) < 0)
		return 0;
	int index = rtnl_link_get_ifindex(link);
	rtnl_link_put(link);
	return index;
}

static int remove_link(struct nl_sock *sock, const char *name, struct gantry_error *err)
{
	struct rtnl_link *link = rtnl_link_alloc();
	rtnl_link_set_name(link, name);
	int rc = rtnl_link_delete(sock, link);
	rtnl_link_put(link);
	return rc == 0 || rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NODEV ? 0 : fail_nl(err, rc, "remove link", name);
}

/* After a failure, whose reason stands already. */
static void undo_link(struct nl_sock *sock, const char *name)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	remove_link(sock, name, &ignored);
}

static int set_up(struct nl_sock *sock, int index, int master, const char *name, struct gantry_error *err)
{
	struct rtnl_link *which = rtnl_link_alloc(), *change = rtnl_link_alloc();
	rtnl_link_set_ifindex(which, index);
	rtnl_link_set_flags(change, IFF_UP);
	if (master)
		rtnl_link_set_master(change, master);
	int rc = rtnl_link_change(sock, which, change, 0);
	rtnl_link_put(which);
	rtnl_link_put(change);
	return rc == 0 ? 0 : fail_nl(err, rc, "set up link", name);
}

/* cidr: "10.0.0.2/24". An address that is there already is success. */
static int add_address(struct nl_sock *sock, int index, const char *cidr, struct gantry_error *err)
{
	struct nl_addr *local = NULL;
	struct rtnl_addr *address = rtnl_addr_alloc();
	int rc = nl_addr_parse(cidr, AF_UNSPEC, &local);
	if (rc == 0)
		rc = rtnl_addr_set_local(address, local);
	rtnl_addr_set_ifindex(address, index);
	if (rc == 0)
		rc = rtnl_addr_add(sock, address, 0);
	rtnl_addr_put(address);
	nl_addr_put(local);
	return rc == 0 || rc == -NLE_EXIST ? 0 : fail_nl(err, rc, "add address", cidr);
}

/* ---- networks ---- */

static int driver_open(const struct gantry_host *host, const char *name, void **context, struct gantry_error *err)
{
	struct driver *driver = calloc(1, sizeof *driver);
	(void)name;
	if (!driver)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "memory for the driver");
	driver->host = host;
	*context = driver;
	return 0;
}

static void driver_close(void *context)
{
	free(context);
}

/* The gateway's address on the bridge, with the subnet's length. */
static int give_gateway(struct nl_sock *sock, int index, const struct gantry_subnet *subnet, struct gantry_error *err)
{
	char cidr[2 * GANTRY_ADDR_MAX];
	const char *slash = strchr(subnet->subnet, '/');
	if (!subnet->gateway[0] || !slash)
		return 0;
	snprintf(cidr, sizeof cidr, "%s%s", subnet->gateway, slash);
	return add_address(sock, index, cidr, err);
}

static int make_bridge(struct nl_sock *sock, const char *name, const struct gantry_network *network, struct gantry_error *err)
{
	struct rtnl_link *link = rtnl_link_alloc();
	rtnl_link_set_name(link, name);
	int rc = rtnl_link_set_type(link, "bridge");
	if (rc == 0)
		rc = rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_link_put(link);
	if (rc < 0 && rc != -NLE_EXIST)
		return fail_nl(err, rc, "make bridge", name);
	int index = find_link(sock, name), done = set_up(sock, index, 0, name, err);
	for (size_t i = 0; done == 0 && i < network->subnet_count; i++)
		done = give_gateway(sock, index, (const void *)((const char *)network->subnets + i * network->subnet_size), err);
	return done;
}

static int network_create(void *context, const struct gantry_call *call, const struct gantry_network *network, struct gantry_error *err)
{
	char name[IFNAMSIZ];
	(void)context, (void)call;
	for (uint32_t i = 0; i < network->options.count; i++)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: unknown option \"%s\" (there are none)", network->name, network->options.items[i].key);
	struct nl_sock *sock = open_socket(err);
	if (!sock)
		return -1;
	link_name(name, BRIDGE, network->id);
	int was_there = find_link(sock, name), rc = make_bridge(sock, name, network, err);
	if (rc < 0 && !was_there)
		undo_link(sock, name);
	nl_socket_free(sock);
	return rc;
}

static int network_remove(void *context, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	char name[IFNAMSIZ];
	(void)context, (void)call;
	struct nl_sock *sock = open_socket(err);
	if (!sock)
		return -1;
	link_name(name, BRIDGE, network_id);
	int rc = remove_link(sock, name, err);
	nl_socket_free(sock);
	return rc;
}

/* ---- endpoints ---- */

/* What is done inside a container's namespace, on a thread of the engine's that has entered it. */
struct inside {
	struct gantry_endpoint *endpoint;
	struct gantry_error *err;
};

/* Given where it is wanted, taken where it is not: a container has one of its networks' default routes, and may get another's while it runs. */
static int default_route(struct nl_sock *sock, int index, const char *gateway, int wanted, struct gantry_error *err)
{
	struct nl_addr *via = NULL, *any = NULL;
	struct rtnl_route *route = rtnl_route_alloc();
	struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
	int rc = nl_addr_parse(gateway, AF_UNSPEC, &via);
	if (rc == 0)
		rc = nl_addr_parse("default", nl_addr_get_family(via), &any);
	if (rc == 0) {
		rtnl_route_nh_set_ifindex(hop, index);
		rtnl_route_nh_set_gateway(hop, via);
		rtnl_route_set_dst(route, any);
		rtnl_route_set_family(route, (uint8_t)nl_addr_get_family(via));
		rtnl_route_add_nexthop(route, hop);
		hop = NULL;
		rc = wanted ? rtnl_route_add(sock, route, NLM_F_REPLACE) : rtnl_route_delete(sock, route, 0);
	}
	if (hop)
		rtnl_route_nh_free(hop);
	rtnl_route_put(route);
	nl_addr_put(any);
	nl_addr_put(via);
	return rc == 0 || (!wanted && rc == -NLE_OBJ_NOTFOUND) ? 0 : fail_nl(err, rc, "change the default route over", gateway);
}

static int configure(void *arg)
{
	struct inside *inside = arg;
	const struct gantry_endpoint *endpoint = inside->endpoint;
	struct nl_sock *sock = open_socket(inside->err);
	if (!sock)
		return -1;
	int index = find_link(sock, endpoint->ifname), rc = 0;
	if (!index)
		rc = gantry_fail(inside->err, GANTRY_E_INTERNAL, "there is no link %s inside", endpoint->ifname);
	if (rc == 0 && endpoint->ipv4[0])
		rc = add_address(sock, index, endpoint->ipv4, inside->err);
	if (rc == 0 && endpoint->ipv6[0])
		rc = add_address(sock, index, endpoint->ipv6, inside->err);
	if (rc == 0)
		rc = set_up(sock, index, 0, endpoint->ifname, inside->err);
	if (rc == 0 && endpoint->gateway4[0])
		rc = default_route(sock, index, endpoint->gateway4, endpoint->default_route != 0, inside->err);
	if (rc == 0 && endpoint->gateway6[0])
		rc = default_route(sock, index, endpoint->gateway6, endpoint->default_route != 0, inside->err);
	nl_socket_free(sock);
	return rc;
}

/* Both ends at once: ours here, the other under its final name in the container's namespace. */
static int make_pair(struct nl_sock *sock, const char *name, const struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct rtnl_link *link = rtnl_link_veth_alloc(), *peer = link ? rtnl_link_veth_get_peer(link) : NULL;
	struct nl_addr *mac = NULL;
	if (!link || !peer)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, ENOMEM, "memory for a link");
	rtnl_link_set_name(link, name);
	rtnl_link_set_name(peer, endpoint->ifname);
	rtnl_link_set_ns_fd(peer, netns_fd);
	if (endpoint->mac[0] && nl_addr_parse(endpoint->mac, AF_LLC, &mac) == 0)
		rtnl_link_set_addr(peer, mac);
	int rc = rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL);
	nl_addr_put(mac);
	rtnl_link_put(peer);
	rtnl_link_put(link);
	return rc == 0 || rc == -NLE_EXIST ? 0 : fail_nl(err, rc, "make link", name);
}

static int endpoint_join(void *context, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct driver *driver = context;
	struct inside inside = { .endpoint = endpoint, .err = err };
	char bridge[IFNAMSIZ];
	(void)call;
	struct nl_sock *sock = open_socket(err);
	if (!sock)
		return -1;
	link_name(bridge, BRIDGE, endpoint->network_id);
	link_name(endpoint->host_ifname, LINK, endpoint->id);
	int master = find_link(sock, bridge), was_there = find_link(sock, endpoint->host_ifname);
	int rc = master ? 0 : gantry_fail(err, GANTRY_E_NOT_FOUND, "network %.12s: its bridge %s is not there", endpoint->network_id, bridge);
	if (rc == 0)
		rc = make_pair(sock, endpoint->host_ifname, endpoint, netns_fd, err);
	if (rc == 0)
		rc = set_up(sock, find_link(sock, endpoint->host_ifname), master, endpoint->host_ifname, err);
	if (rc == 0)
		rc = driver->host->in_netns(driver->host, netns_fd, configure, &inside, err);
	if (rc < 0 && !was_there)
		undo_link(sock, endpoint->host_ifname);
	nl_socket_free(sock);
	return rc;
}

static int endpoint_leave(void *context, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd,
			  struct gantry_error *err)
{
	char name[IFNAMSIZ];
	(void)context, (void)call, (void)network_id, (void)netns_fd;
	struct nl_sock *sock = open_socket(err);
	if (!sock)
		return -1;
	link_name(name, LINK, endpoint_id);
	int rc = remove_link(sock, name, err); /* the other end goes with it */
	nl_socket_free(sock);
	return rc;
}

/* ---- what the engine sees ---- */

static const struct gantry_network_ops OPS = {
	.size = sizeof OPS, .open = driver_open, .close = driver_close, .network_create = network_create, .network_remove = network_remove,
	.endpoint_join = endpoint_join, .endpoint_leave = endpoint_leave,
};
static const struct gantry_driver DRIVERS[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "@NAME@", .capabilities = GANTRY_NET_INTERNAL, .ops = &OPS },
};
GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR,
	.name = "@NAME@", .version = "0.1", .description = "networks as Linux bridges",
	.drivers = DRIVERS, .driver_count = 1, .driver_size = sizeof DRIVERS[0],
};
