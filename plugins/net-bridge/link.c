/*
 * link.c - bridges. The veth pairs that plug containers into them are common/veth.c's.
 */
#include "bridge.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

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
