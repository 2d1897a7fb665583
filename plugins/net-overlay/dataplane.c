/*
 * dataplane.c - a network's links on this host: a bridge for the containers, and a VXLAN link in it that leads to the other hosts. They are made when the
 * first container comes, and stay until the network goes or the daemon starts without containers in it. After a crash they are found by name and taken up.
 */
#include "overlay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_IPV4 50            /* of the tunnel: outer IPv4, UDP, VXLAN, inner Ethernet */
#define ROOM_IPV6 70
#define ROOM_ENCRYPTED 80       /* that and WireGuard, more than for a network that is not */
#define ALIAS "gantry overlay "

static void bridge_name(const struct network *network, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, BRIDGE_PREFIX "%.12s", network->id);
}

static void vxlan_name(const struct network *network, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, VXLAN_PREFIX "%.12s", network->id);
}

/* ---- MTU ---- */

/* The tunnel's rest, of which the kernel takes no more; *mtu: what is wished for, 0: nothing. */
static int find_encrypted_mtu(const struct overlay *self, const struct network *network, uint32_t *mtu, struct gantry_error *err)
{
	uint32_t most = self->tunnel.mtu - ROOM_IPV6, wished = *mtu;
	if (wished && !network->mtu)
		wished = wished > ROOM_ENCRYPTED ? wished - ROOM_ENCRYPTED : 0;
	*mtu = wished ? wished : most;
	if (*mtu > most || *mtu < 68 || (network->ipv6 && *mtu < 1280))
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: an MTU of %u cannot be: this host's way to the others has room for %u of an encrypted network%s",
				   network->name, *mtu, most, network->ipv6 ? ", and IPv6 needs 1280" : "");
	return 0;
}

static int find_mtu(const struct overlay *self, const struct network *network, uint32_t *mtu, struct gantry_error *err)
{
	struct address address;
	uint32_t underlay = 0, room = self->vtep.family == AF_INET ? ROOM_IPV4 : ROOM_IPV6;
	*mtu = network->mtu ? network->mtu : self->settings.mtu;
	if (*mtu || network->encrypted)
		return network->encrypted ? find_encrypted_mtu(self, network, mtu, err) : 0;
	if (underlay_find(self->vtep.text, &address, &underlay, err) < 0)
		return -1;
	if (underlay < room + (network->ipv6 ? 1280u : 68u))
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: the MTU of this host's way to the others, %u, is too small for a tunnel", network->name,
				   underlay);
	*mtu = underlay - room < 65535 ? underlay - room : 65535;
	return 0;
}

/* ---- making ---- */

static int make_bridge(struct nl_sock *sock, const struct network *network, const char *name, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	const struct address *gateway = gateway_for(network, AF_INET);
	struct address none = { 0 };
	unsigned char mac[6];
	if (mac_derive(gateway ? gateway : &none, mac) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "get random bytes");
	batch_begin(&batch, sock);
	message(&batch, "create the network's bridge", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, name);
	put_u32(&batch, IFLA_MTU, network->link_mtu);
	/* A fixed one: else it changes with the ports that come and go. */
	put(&batch, IFLA_ADDRESS, mac, sizeof mac);
	struct nlattr *info = nest(&batch, IFLA_LINKINFO);
	put_text(&batch, IFLA_INFO_KIND, "bridge");
	struct nlattr *data = nest(&batch, IFLA_INFO_DATA);
	put_u32(&batch, IFLA_BR_FORWARD_DELAY, 0);
	put_u32(&batch, IFLA_BR_STP_STATE, 0);
	put_u8(&batch, IFLA_BR_MCAST_SNOOPING, 0);
	nest_end(&batch, data);
	nest_end(&batch, info);
	return batch_run(&batch, err);
}

static void put_vxlan(struct batch *batch, const struct overlay *self, const struct network *network)
{
	uint16_t port = htons((uint16_t)self->settings.port);
	struct nlattr *info = nest(batch, IFLA_LINKINFO);
	put_text(batch, IFLA_INFO_KIND, "vxlan");
	struct nlattr *data = nest(batch, IFLA_INFO_DATA);
	put_u32(batch, IFLA_VXLAN_ID, network->vni);
	const struct address *local = network->encrypted ? &self->tunnel.address : &self->vtep;
	put(batch, local->family == AF_INET ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local->bytes, address_len(local));
	if (network->encrypted)
		put_u32(batch, IFLA_VXLAN_LINK, (uint32_t)self->tunnel.ifindex);
	put(batch, IFLA_VXLAN_PORT, &port, sizeof port);
	put_u8(batch, IFLA_VXLAN_LEARNING, 0);
	put_u8(batch, IFLA_VXLAN_PROXY, 1);
	put_u8(batch, IFLA_VXLAN_L2MISS, 0);
	put_u8(batch, IFLA_VXLAN_L3MISS, 0);
	nest_end(batch, data);
	nest_end(batch, info);
}

static int make_vxlan(struct nl_sock *sock, const struct overlay *self, const struct network *network, const char *name, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	batch_begin(&batch, sock);
	message(&batch, "create the network's VXLAN link", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, name);
	put_u32(&batch, IFLA_MTU, network->link_mtu);
	put_vxlan(&batch, self, network);
	if (batch_run(&batch, err) == 0)
		return 0;
	if (batch.count && batch.errnums[0] == EEXIST)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: VXLAN identifier %u on port %u is in use on this host by somebody else", network->name,
				   network->vni, self->settings.port);
	return -1;
}

struct bound {
	int ifindex;                    /* 0: it is no VXLAN link */
	struct address address;
	uint32_t through;
};

static int note_bound(void *arg, struct nlmsghdr *answer)
{
	struct bound *bound = arg;
	struct nlattr *attributes[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1], *data[IFLA_VXLAN_MAX + 1];
	const struct ifinfomsg *header = nlmsg_data(answer);
	if (nlmsg_parse(answer, sizeof *header, attributes, IFLA_MAX, NULL) < 0 || !attributes[IFLA_LINKINFO] ||
	    nla_parse_nested(info, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], NULL) < 0 || !info[IFLA_INFO_KIND] || !info[IFLA_INFO_DATA] ||
	    strncmp(nla_data(info[IFLA_INFO_KIND]), "vxlan", (size_t)nla_len(info[IFLA_INFO_KIND])) != 0 ||
	    nla_parse_nested(data, IFLA_VXLAN_MAX, info[IFLA_INFO_DATA], NULL) < 0)
		return 0;
	bound->ifindex = header->ifi_index;
	if (data[IFLA_VXLAN_LINK])
		bound->through = nla_get_u32(data[IFLA_VXLAN_LINK]);
	if (data[IFLA_VXLAN_LOCAL6] && nla_len(data[IFLA_VXLAN_LOCAL6]) == 16) {
		bound->address.family = AF_INET6;
		memcpy(bound->address.bytes, nla_data(data[IFLA_VXLAN_LOCAL6]), 16);
	}
	return 0;
}

/* A VXLAN link of an encrypted network's name that leads anywhere but through the tunnel is none of its. */
static int drop_unbound(struct nl_sock *sock, const struct overlay *self, const char *name, struct gantry_error *err)
{
	struct bound bound = { 0 };
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nl_msg *request = nlmsg_alloc_simple(RTM_GETLINK, NLM_F_REQUEST);
	if (request && (nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO) < 0 || nla_put_string(request, IFLA_IFNAME, name) < 0)) {
		nlmsg_free(request);
		request = NULL;
	}
	if (netlink_ask(sock, request, note_bound, &bound) < 0)
		return errno == ENODEV ? 0 : gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "look for link %s", name);
	bool right = bound.through == (uint32_t)self->tunnel.ifindex && address_equal(&bound.address, &self->tunnel.address);
	return right || !bound.ifindex ? 0 : link_delete(sock, bound.ifindex, err);
}

/* *index: of the link, made or found. */
static int find_or_make(struct nl_sock *sock, const struct overlay *self, const struct network *network, const char *name, const char *kind, int *index,
			struct gantry_error *err)
{
	struct link link;
	int absent = link_find(sock, name, &link, err);
	if (absent < 0)
		return -1;
	if (absent && (strcmp(kind, "bridge") == 0 ? make_bridge(sock, network, name, err) : make_vxlan(sock, self, network, name, err)) < 0)
		return -1;
	if (absent && link_find(sock, name, &link, err) != 0)
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %s: its new link %s has vanished", network->name, name);
	if (strcmp(link.kind, kind) != 0)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: its link would be %s, but one of that name is there and is no %s", network->name, name,
				   kind);
	*index = link.ifindex;
	return 0;
}

/* ---- bringing up ---- */

static int set_sysctl(const struct network *network, const char *link, const char *family, const char *key, const char *value, struct gantry_error *err)
{
	if (sysctl_set(value, family, link, key) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set %s on %s", network->name, key, link ? link : "the host");
	return 0;
}

static int set_sysctls(const struct overlay *self, const struct network *network, const char *bridge, const char *vxlan, struct gantry_error *err)
{
	const char *off = network->ipv6 ? "0" : "1";
	if (self->settings.ip_forward && !network->internal && network->ipv4 && set_sysctl(network, NULL, "ipv4", "ip_forward", "1", err) < 0)
		return -1;
	if (self->settings.ip_forward && !network->internal && network->ipv6 && set_sysctl(network, "all", "ipv6", "forwarding", "1", err) < 0)
		return -1;
	/* A port that is published on 127.0.0.1 is reached from there. */
	if (!network->internal && network->ipv4 && set_sysctl(network, bridge, "ipv4", "route_localnet", "1", err) < 0)
		return -1;
	if (!kernel_has_ipv6())
		return network->ipv6 ? gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: this kernel has no IPv6", network->name) : 0;
	if (set_sysctl(network, bridge, "ipv6", "disable_ipv6", off, err) < 0 || set_sysctl(network, vxlan, "ipv6", "disable_ipv6", off, err) < 0)
		return -1;
	/* Neither container nor other host tells this one where its routers are. */
	return network->ipv6 ? set_sysctl(network, bridge, "ipv6", "accept_ra", "0", err) : 0;
}

static void put_no_ipv6_address(struct batch *batch)
{
	struct nlattr *families = nest(batch, IFLA_AF_SPEC);
	struct nlattr *inet6 = nest(batch, AF_INET6);
	put_u8(batch, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	nest_end(batch, inet6);
	nest_end(batch, families);
}

/* What the bridge does not know to be there it does not send there; and it learns nothing from what comes from there. */
static void put_port(struct batch *batch)
{
	struct nlattr *info = nest(batch, IFLA_LINKINFO);
	put_text(batch, IFLA_INFO_SLAVE_KIND, "bridge");
	struct nlattr *data = nest(batch, IFLA_INFO_SLAVE_DATA);
	put_u8(batch, IFLA_BRPORT_LEARNING, 0);
	put_u8(batch, IFLA_BRPORT_UNICAST_FLOOD, 0);
	nest_end(batch, data);
	nest_end(batch, info);
}

static int bring_up(struct nl_sock *sock, const struct network *network, const char *vxlan, struct gantry_error *err)
{
	struct batch batch;
	char alias[sizeof ALIAS + ID_LEN];
	struct ifinfomsg bridge = { .ifi_family = AF_UNSPEC, .ifi_index = network->bridge, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct ifinfomsg port = { .ifi_family = AF_UNSPEC, .ifi_index = network->vxlan }, up = port;
	struct ifinfomsg named = { .ifi_family = AF_UNSPEC };
	up.ifi_flags = up.ifi_change = IFF_UP;
	snprintf(alias, sizeof alias, ALIAS "%s", network->id);
	batch_begin(&batch, sock);
	message(&batch, "bring the bridge up", RTM_SETLINK, 0, &bridge, sizeof bridge);
	put_text(&batch, IFLA_IFALIAS, alias);
	put_u32(&batch, IFLA_MTU, network->link_mtu);
	message(&batch, "put the VXLAN link into the bridge", RTM_SETLINK, 0, &port, sizeof port);
	put_u32(&batch, IFLA_MASTER, (uint32_t)network->bridge);
	if (network->ipv6)
		put_no_ipv6_address(&batch);
	message(&batch, "set the VXLAN link up as a port of the bridge", RTM_NEWLINK, 0, &named, sizeof named);
	put_text(&batch, IFLA_IFNAME, vxlan);
	put_port(&batch);
	message(&batch, "bring the VXLAN link up", RTM_SETLINK, 0, &up, sizeof up);
	put_u32(&batch, IFLA_MTU, network->link_mtu);
	for (unsigned i = 0; i < network->subnet_count && !network->internal; i++) {
		if (network->subnets[i].gateway.family)
			put_address(&batch, "give the bridge its address", &network->subnets[i].gateway, network->bridge);
	}
	return batch_run(&batch, err);
}

/* Where the bridge was removed by hand, the links of the containers that are in it have lost it. */
static void put_back_locals(struct overlay *self, struct nl_sock *sock, const struct network *network)
{
	for (const struct local *local = self->locals; local; local = local->next) {
		struct batch batch;
		struct link link;
		struct gantry_error ignored = { .size = sizeof ignored };
		char name[IFNAMSIZ];
		if (strcmp(local->network_id, network->id) != 0)
			continue;
		veth_name(HOST_END_PREFIX, local->member.id, name);
		if (link_find(sock, name, &link, &ignored) != 0 || link.master == network->bridge)
			continue;
		struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = link.ifindex };
		batch_begin(&batch, sock);
		message(&batch, "put a container's link back on its bridge", RTM_SETLINK, 0, &header, sizeof header);
		put_u32(&batch, IFLA_MASTER, (uint32_t)network->bridge);
		if (batch_run(&batch, NULL) == 0)
			veth_catch_up(sock, name, network->bridge);
	}
}

static int ensure(struct overlay *self, struct nl_sock *sock, struct network *network, struct gantry_error *err)
{
	char bridge[IFNAMSIZ], vxlan[IFNAMSIZ];
	bridge_name(network, bridge);
	vxlan_name(network, vxlan);
	if (network->encrypted && drop_unbound(sock, self, vxlan, err) < 0)
		return -1;
	if (find_mtu(self, network, &network->link_mtu, err) < 0 || find_or_make(sock, self, network, bridge, "bridge", &network->bridge, err) < 0 ||
	    find_or_make(sock, self, network, vxlan, "vxlan", &network->vxlan, err) < 0 || set_sysctls(self, network, bridge, vxlan, err) < 0 ||
	    bring_up(sock, network, vxlan, err) < 0)
		return -1;
	put_back_locals(self, sock, network);
	if (nat_rebuild(self, err) < 0)
		return -1;
	return neighbours_sync(self, network, err);
}

/* Whether both are there still. */
static bool stand(const struct network *network)
{
	char name[IFNAMSIZ], is[IFNAMSIZ];
	if (!network->bridge || !network->vxlan)
		return false;
	bridge_name(network, name);
	if (!if_indextoname((unsigned)network->bridge, is) || strcmp(is, name) != 0)
		return false;
	vxlan_name(network, name);
	return if_indextoname((unsigned)network->vxlan, is) && strcmp(is, name) == 0;
}

int links_ensure(struct overlay *self, struct network *network, struct gantry_error *err)
{
	if (network->encrypted && tunnel_ensure(self, network->name, err) < 0)
		return -1;
	if (stand(network))
		return nat_ensure(self, err);
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? ensure(self, sock, network, err) : -1;
	nl_socket_free(sock);
	if (rc < 0 && !network_has_locals(self, network->id))
		links_remove(self, network);
	return rc;
}

/* ---- removing ---- */

static void remove_named(struct nl_sock *sock, const char *name)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	struct link link;
	if (link_find(sock, name, &link, &ignored) == 0)
		link_delete(sock, link.ifindex, &ignored);
}

void links_remove(struct overlay *self, struct network *network)
{
	struct gantry_error err = { .size = sizeof err };
	char name[IFNAMSIZ];
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, &err);
	if (sock) {
		vxlan_name(network, name);
		remove_named(sock, name);
		bridge_name(network, name);
		remove_named(sock, name);
	}
	nl_socket_free(sock);
	bool had = network->bridge != 0;
	network->bridge = network->vxlan = 0;
	if (!sock || (had && nat_rebuild(self, &err) < 0))
		log_line(self->host, GANTRY_WARN, "network %s: %s", network->name, err.message);
	tunnel_tidy(self);
}

static bool is_ours(const struct link *link, void *arg)
{
	(void)arg;
	return (strncmp(link->name, BRIDGE_PREFIX, 3) == 0 && strcmp(link->kind, "bridge") == 0) ||
	       (strncmp(link->name, VXLAN_PREFIX, 3) == 0 && strcmp(link->kind, "vxlan") == 0) ||
	       (strncmp(link->name, TUNNEL_PREFIX, 3) == 0 && strcmp(link->kind, WIREGUARD_KIND) == 0) ||
	       (strncmp(link->name, HOST_END_PREFIX, 3) == 0 && strcmp(link->kind, "veth") == 0);
}

static bool is_wanted(const struct overlay *self, const struct link *link)
{
	bool host_end = strncmp(link->name, HOST_END_PREFIX, 3) == 0;
	char tunnel[IFNAMSIZ];
	tunnel_name(self, tunnel);
	/* Whether one of them is encrypted is known when etcd was read: tunnel_tidy(). */
	if (self->locals && strcmp(link->name, tunnel) == 0)
		return true;
	for (const struct local *local = self->locals; local; local = local->next) {
		if (strncmp(link->name + 3, host_end ? local->member.id : local->network_id, 12) == 0)
			return true;
	}
	return false;
}

int links_sweep(struct overlay *self, struct gantry_error *err)
{
	struct link *links = NULL;
	size_t count = 0;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? link_list(sock, -1, NULL, is_ours, NULL, &links, &count, err) : -1;
	for (size_t i = 0; i < count && rc == 0; i++) {
		if (!is_wanted(self, &links[i]))
			rc = link_delete(sock, links[i].ifindex, err);
	}
	free(links);
	nl_socket_free(sock);
	/* Those that are gone are not there for the table either. */
	for (struct network *network = self->networks; network; network = network->next) {
		if (!stand(network))
			network->bridge = network->vxlan = 0;
	}
	tunnel_look(self);
	return rc;
}
