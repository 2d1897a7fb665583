/*
 * link.c - bridges, and the veth pairs that plug containers into them.
 *
 * A container's end is born inside its namespace under its final name, with its MAC and MTU, so nothing is moved or renamed. Host ends get no IPv6 address: they
 * are ports of a bridge and nothing else.
 */
#include "bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>

/* ---- looking ---- */

static void copy_text(char *to, size_t room, struct nlattr *from)
{
	if (from)
		snprintf(to, room, "%.*s", nla_len(from), (const char *)nla_data(from));
}

void link_read(struct nlmsghdr *answer, struct link *link)
{
	struct nlattr *attributes[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	struct ifinfomsg *header = nlmsg_data(answer);
	*link = (struct link){ .ifindex = header->ifi_index, .flags = header->ifi_flags };
	if (nlmsg_parse(answer, sizeof *header, attributes, IFLA_MAX, NULL) < 0)
		return;
	copy_text(link->name, sizeof link->name, attributes[IFLA_IFNAME]);
	copy_text(link->alias, sizeof link->alias, attributes[IFLA_IFALIAS]);
	if (attributes[IFLA_LINK])
		link->peer_ifindex = (int)nla_get_u32(attributes[IFLA_LINK]);
	if (attributes[IFLA_MASTER])
		link->master = (int)nla_get_u32(attributes[IFLA_MASTER]);
	if (attributes[IFLA_LINKINFO] && nla_parse_nested(info, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], NULL) == 0)
		copy_text(link->kind, sizeof link->kind, info[IFLA_INFO_KIND]);
}

static int take_link(void *arg, struct nlmsghdr *answer)
{
	if (answer->nlmsg_type == RTM_NEWLINK)
		link_read(answer, arg);
	return 0;
}

int link_find(struct nl_sock *sock, const char *name, struct link *link, struct gantry_error *err)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nl_msg *request = nlmsg_alloc_simple(RTM_GETLINK, NLM_F_REQUEST);
	*link = (struct link){ 0 };
	if (!request || nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO) < 0 || nla_put_string(request, IFLA_IFNAME, name) < 0) {
		nlmsg_free(request);
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	if (netlink_ask(sock, request, take_link, link) == 0)
		return 0;
	return errno == ENODEV ? 1 : gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "look for link %s", name);
}

int link_delete(struct nl_sock *sock, int ifindex, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
	batch_begin(&batch, sock);
	message(&batch, "remove a link", RTM_DELLINK, 0, &header, sizeof header);
	if (batch_run(&batch, err) == 0 || (batch.count && batch.errnums[0] == ENODEV))
		return 0;
	return -1;
}

/* ---- bridges ---- */

static bool is_ours(const struct network *network, const struct link *link)
{
	return strncmp(network->bridge, BRIDGE_PREFIX, strlen(BRIDGE_PREFIX)) == 0 ||
	       strncmp(link->alias, BRIDGE_ALIAS, strlen(BRIDGE_ALIAS)) == 0;
}

static int bridge_make(struct nl_sock *sock, const struct network *network, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	unsigned char mac[6];
	struct address none = { 0 };
	const struct address *first = &none;
	for (unsigned i = 0; i < network->subnet_count && first->family != AF_INET; i++)
		first = &network->subnets[i].gateway;
	if (mac_derive(first, mac) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "get random bytes");
	batch_begin(&batch, sock);
	message(&batch, "create the bridge", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, network->bridge);
	put_u32(&batch, IFLA_MTU, network->mtu);
	/* A fixed one: else it changes with the ports that come and go. */
	put(&batch, IFLA_ADDRESS, mac, sizeof mac);
	struct nlattr *info = nest(&batch, IFLA_LINKINFO);
	put_text(&batch, IFLA_INFO_KIND, "bridge");
	struct nlattr *data = nest(&batch, IFLA_INFO_DATA);
	put_u32(&batch, IFLA_BR_FORWARD_DELAY, 0);
	put_u32(&batch, IFLA_BR_STP_STATE, 0);
	nest_end(&batch, data);
	nest_end(&batch, info);
	return batch_run(&batch, err);
}

static int bridge_sysctls(const struct bridge *self, const struct network *network, struct gantry_error *err)
{
	/* Replies to connections from 127.0.0.1 to a published port come back over the bridge. */
	if (network->ipv4 && sysctl_set("1", "ipv4", network->bridge, "route_localnet") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set route_localnet on %s", network->name, network->bridge);
	if (self->ipv6 && sysctl_set(network->ipv6 ? "0" : "1", "ipv6", network->bridge, "disable_ipv6") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set disable_ipv6 on %s", network->name, network->bridge);
	/* A container must not tell the host where its routers are. */
	if (network->ipv6 && sysctl_set("0", "ipv6", network->bridge, "accept_ra") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set accept_ra on %s", network->name, network->bridge);
	return 0;
}

struct stale {
	const struct network *network;
	int ifindex;
	struct batch *batch;
};

/* An address of an earlier life's that the network does not have any more. */
static int note_stale(void *arg, struct nlmsghdr *answer)
{
	struct stale *stale = arg;
	struct nlattr *attributes[IFA_MAX + 1];
	struct ifaddrmsg *header = nlmsg_data(answer);
	if (answer->nlmsg_type != RTM_NEWADDR || (int)header->ifa_index != stale->ifindex || header->ifa_scope == RT_SCOPE_LINK ||
	    nlmsg_parse(answer, sizeof *header, attributes, IFA_MAX, NULL) < 0)
		return 0;
	struct nlattr *local = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
	for (unsigned i = 0; local && i < stale->network->subnet_count; i++) {
		const struct address *wanted = &stale->network->subnets[i].gateway;
		if (wanted->family == header->ifa_family && wanted->prefix == header->ifa_prefixlen &&
		    memcmp(nla_data(local), wanted->bytes, address_len(wanted)) == 0)
			return 0;
	}
	if (local && stale->batch->count < BATCH_MAX) {
		struct ifaddrmsg gone = { .ifa_family = header->ifa_family, .ifa_prefixlen = header->ifa_prefixlen, .ifa_index = header->ifa_index };
		message(stale->batch, "remove an old address of the bridge", RTM_DELADDR, 0, &gone, sizeof gone);
		put(stale->batch, IFA_LOCAL, nla_data(local), (size_t)nla_len(local));
	}
	return 0;
}

static int remove_stale_addresses(struct nl_sock *sock, const struct network *network, int ifindex, struct gantry_error *err)
{
	struct batch batch;
	struct stale stale = { network, ifindex, &batch };
	struct ifaddrmsg header = { .ifa_family = AF_UNSPEC };
	struct nl_msg *request = nlmsg_alloc_simple(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
	batch_begin(&batch, sock);
	if (request && nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(request);
		request = NULL;
	}
	int rc = netlink_ask(sock, request, note_stale, &stale);
	int saved = errno;
	int removed = batch_run(&batch, err);
	return rc < 0 ? gantry_fail_errno(err, GANTRY_E_INTERNAL, saved, "read the addresses of %s", network->bridge) : removed;
}

void put_address(struct batch *batch, const char *what, const struct address *address, int ifindex)
{
	struct ifaddrmsg header = { .ifa_family = (unsigned char)address->family, .ifa_prefixlen = (unsigned char)address->prefix,
				    .ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0, .ifa_index = (unsigned)ifindex };
	message(batch, what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof header);
	put(batch, IFA_LOCAL, address->bytes, address_len(address));
	put(batch, IFA_ADDRESS, address->bytes, address_len(address));
	if (address->family == AF_INET && address->prefix < 31) {
		uint32_t broadcast;
		memcpy(&broadcast, address->bytes, sizeof broadcast);
		broadcast |= htonl(0xffffffffu >> address->prefix);
		put_u32(batch, IFA_BROADCAST, broadcast);
	}
}

static int bridge_bring_up(struct nl_sock *sock, const struct network *network, int ifindex, struct gantry_error *err)
{
	struct batch batch;
	char alias[sizeof BRIDGE_ALIAS + ID_LEN];
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	batch_begin(&batch, sock);
	message(&batch, "bring the bridge up", RTM_SETLINK, 0, &header, sizeof header);
	if (!network->foreign) {
		snprintf(alias, sizeof alias, BRIDGE_ALIAS "%s", network->id);
		put_text(&batch, IFLA_IFALIAS, alias);
		put_u32(&batch, IFLA_MTU, network->mtu);
	}
	for (unsigned i = 0; i < network->subnet_count; i++) {
		if (network->subnets[i].gateway.family)
			put_address(&batch, "give the bridge its address", &network->subnets[i].gateway, ifindex);
	}
	return batch_run(&batch, err);
}

static int ensure(const struct bridge *self, struct nl_sock *sock, struct network *network, bool *made, struct gantry_error *err)
{
	struct link link;
	int absent = link_find(sock, network->bridge, &link, err);
	if (absent < 0)
		return -1;
	if (!absent && strcmp(link.kind, "bridge") != 0)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: its bridge would be %s, but a link of that name is there and is no bridge",
				   network->name, network->bridge);
	network->foreign = !absent && !is_ours(network, &link);
	if (absent) {
		if (bridge_make(sock, network, err) < 0)
			return -1;
		*made = true;
		if (link_find(sock, network->bridge, &link, err) != 0)
			return gantry_fail(err, GANTRY_E_INTERNAL, "network %s: its new bridge %s has vanished", network->name, network->bridge);
	} else if (!network->foreign && remove_stale_addresses(sock, network, link.ifindex, err) < 0) {
		return -1;
	}
	if (bridge_sysctls(self, network, err) < 0)
		return -1;
	return bridge_bring_up(sock, network, link.ifindex, err);
}

int bridge_ensure(const struct bridge *self, struct network *network, bool *made, struct gantry_error *err)
{
	*made = false;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	if (!sock)
		return -1;
	int rc = ensure(self, sock, network, made, err);
	nl_socket_free(sock);
	if (rc < 0 && *made)
		bridge_remove(network, NULL);
	return rc;
}

int bridge_remove(const struct network *network, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	if (!err)
		err = &ignored;
	if (network->foreign)
		return 0;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	struct link link;
	int absent = sock ? link_find(sock, network->bridge, &link, err) : -1;
	int rc = absent == 0 ? link_delete(sock, link.ifindex, err) : absent < 0 ? -1 : 0;
	nl_socket_free(sock);
	return rc;
}

/* ---- containers' links ---- */

static void put_peer(struct batch *batch, const struct plug *plug, int netns_fd)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nlattr *info = nest(batch, IFLA_LINKINFO);
	put_text(batch, IFLA_INFO_KIND, "veth");
	struct nlattr *data = nest(batch, IFLA_INFO_DATA);
	struct nlattr *peer = nest(batch, VETH_INFO_PEER);
	if (!batch->broken && nlmsg_append(batch->messages[batch->count - 1], &header, sizeof header, NLMSG_ALIGNTO) < 0)
		batch->broken = true;
	put_text(batch, IFLA_IFNAME, plug->ifname);
	put(batch, IFLA_ADDRESS, plug->mac, sizeof plug->mac);
	put_u32(batch, IFLA_MTU, plug->network->mtu);
	put_u32(batch, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	put_u32(batch, IFLA_NUM_TX_QUEUES, 1);
	put_u32(batch, IFLA_NUM_RX_QUEUES, 1);
	nest_end(batch, peer);
	nest_end(batch, data);
	nest_end(batch, info);
}

/* The options of a bridge's port. */
static void put_port(struct batch *batch, int attribute, uint8_t value)
{
	struct nlattr *info = nest(batch, IFLA_LINKINFO);
	put_text(batch, IFLA_INFO_SLAVE_KIND, "bridge");
	struct nlattr *data = nest(batch, IFLA_INFO_SLAVE_DATA);
	put_u8(batch, attribute, value);
	nest_end(batch, data);
	nest_end(batch, info);
}

/* By name, as the link's index is not known yet. */
static void put_host_end_up(struct batch *batch, const struct plug *plug)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	message(batch, "bring the container's link up", RTM_NEWLINK, 0, &header, sizeof header);
	put_text(batch, IFLA_IFNAME, plug->host_end);
	if (plug->self->ipv6) {
		struct nlattr *families = nest(batch, IFLA_AF_SPEC);
		struct nlattr *inet6 = nest(batch, AF_INET6);
		put_u8(batch, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		nest_end(batch, inet6);
		nest_end(batch, families);
	}
	if (!plug->network->icc)
		put_port(batch, IFLA_BRPORT_ISOLATED, 1);
}

static void put_hairpin(struct batch *batch, const char *host_end)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	message(batch, "set the hairpin mode of the container's link", RTM_NEWLINK, 0, &header, sizeof header);
	put_text(batch, IFLA_IFNAME, host_end);
	put_port(batch, IFLA_BRPORT_MODE, 1);
}

/* Returns the errno of the creation, 0 where the link is made and up, or -1 with err. */
static int veth_make(struct nl_sock *sock, const struct plug *plug, int bridge_ifindex, int netns_fd, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	batch_begin(&batch, sock);
	message(&batch, "create the container's link", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, plug->host_end);
	put_u32(&batch, IFLA_MTU, plug->network->mtu);
	put_u32(&batch, IFLA_MASTER, (uint32_t)bridge_ifindex);
	put_u32(&batch, IFLA_NUM_TX_QUEUES, 1);
	put_u32(&batch, IFLA_NUM_RX_QUEUES, 1);
	put_peer(&batch, plug, netns_fd);
	put_host_end_up(&batch, plug);
	if (plug->hairpin)
		put_hairpin(&batch, plug->host_end);
	if (batch_run(&batch, err) == 0)
		return 0;
	if (batch.count && batch.errnums[0])
		return batch.errnums[0];
	return -1;
}

/* A link of that name is there: of this very join done before, or of one that a crash cut. *plug tells inside_configure(). */
static int veth_again(struct nl_sock *sock, struct plug *plug, int bridge_ifindex, int netns_fd, struct gantry_error *err)
{
	struct link link;
	int absent = link_find(sock, plug->host_end, &link, err);
	plug->host_ifindex = link.ifindex;
	int same = absent == 0 ? inside_is_peer(plug, &link, netns_fd, err) : 0;
	if (absent < 0 || same < 0)
		return -1;
	if (same)
		return 0;
	if (absent == 0 && link_delete(sock, link.ifindex, err) < 0)
		return -1;
	plug->host_ifindex = 0;
	int rc = absent ? EEXIST : veth_make(sock, plug, bridge_ifindex, netns_fd, err);
	if (rc == EEXIST)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: the container has an interface %s already", plug->network->name, plug->ifname);
	return rc ? -1 : 0;
}

/* In this order: the bridge's carrier is its ports'. */
void link_catch_up(struct nl_sock *sock, const char *host_end, int bridge_ifindex)
{
	struct batch batch;
	struct ifinfomsg port = { .ifi_family = AF_UNSPEC }, bridge = { .ifi_family = AF_UNSPEC, .ifi_index = bridge_ifindex };
	batch_begin(&batch, sock);
	message(&batch, "", RTM_GETLINK, 0, &port, sizeof port);
	put_text(&batch, IFLA_IFNAME, host_end);
	put_u32(&batch, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	message(&batch, "", RTM_GETLINK, 0, &bridge, sizeof bridge);
	put_u32(&batch, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	(void)batch_run(&batch, NULL);
}

static int join(struct nl_sock *sock, struct plug *plug, int netns_fd, struct gantry_error *err)
{
	int bridge_ifindex = (int)if_nametoindex(plug->network->bridge);
	if (!bridge_ifindex)
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %s: its bridge %s is gone", plug->network->name, plug->network->bridge);
	int rc = veth_make(sock, plug, bridge_ifindex, netns_fd, err);
	if (rc == EEXIST)
		rc = veth_again(sock, plug, bridge_ifindex, netns_fd, err);
	else if (rc != 0)
		rc = -1;
	if (rc == 0)
		rc = inside_configure(plug, netns_fd, err);
	if (rc == 0)
		link_catch_up(sock, plug->host_end, bridge_ifindex);
	return rc;
}

int link_join(const struct plug *wanted, int netns_fd, struct gantry_error *err)
{
	struct plug plug = *wanted;
	struct gantry_error ignored = { .size = sizeof ignored };
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	if (!sock)
		return -1;
	int rc = join(sock, &plug, netns_fd, err);
	/* A link that a former join made, and that carries traffic perhaps, stays. */
	struct link link;
	if (rc < 0 && !plug.host_ifindex && link_find(sock, plug.host_end, &link, &ignored) == 0)
		link_delete(sock, link.ifindex, &ignored);
	nl_socket_free(sock);
	return rc;
}

int link_leave(const char *host_end, struct gantry_error *err)
{
	struct link link;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int absent = sock ? link_find(sock, host_end, &link, err) : -1;
	int rc = absent == 0 ? link_delete(sock, link.ifindex, err) : absent < 0 ? -1 : 0;
	nl_socket_free(sock);
	return rc;
}

int link_hairpin(const char *host_end, struct gantry_error *err)
{
	struct batch batch;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	if (!sock)
		return -1;
	batch_begin(&batch, sock);
	put_hairpin(&batch, host_end);
	int rc = batch_run(&batch, err);
	nl_socket_free(sock);
	return rc < 0 && batch.count && batch.errnums[0] == ENODEV ? 0 : rc;
}
