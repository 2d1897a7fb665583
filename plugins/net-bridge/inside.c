/*
 * inside.c - the container's end of a link, worked on from inside the container's network namespace: loopback, addresses, routes, in one batch.
 *
 * IPv6 addresses are usable at once (no duplicate address detection): the engine's IPAM is what keeps them apart.
 */
#include "bridge.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define LOOPBACK_IFINDEX 1              /* in every network namespace */

struct visit {
	const struct plug *plug;
	const struct link *link;
	struct gantry_error *err;
};

static void put_up(struct batch *batch, const char *what, int ifindex)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	message(batch, what, RTM_SETLINK, 0, &header, sizeof header);
}

static void put_default_route(struct batch *batch, const char *what, const struct address *gateway, int ifindex, bool wanted)
{
	struct rtmsg header = { .rtm_family = (unsigned char)gateway->family, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
				.rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST };
	if (!wanted)
		header.rtm_protocol = RTPROT_UNSPEC;
	message(batch, what, wanted ? RTM_NEWROUTE : RTM_DELROUTE, wanted ? NLM_F_CREATE | NLM_F_REPLACE : 0, &header, sizeof header);
	put(batch, RTA_GATEWAY, gateway->bytes, address_len(gateway));
	put_u32(batch, RTA_OIF, (uint32_t)ifindex);
}

/* Before the link is up, so that IPv6 does nothing there that would have to be undone. */
static int set_ipv6(const struct plug *plug, struct gantry_error *err)
{
	if (!plug->self->ipv6)
		return 0;
	if (sysctl_set(plug->ipv6.family ? "0" : "1", "ipv6", plug->ifname, "disable_ipv6") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "set disable_ipv6 on the container's %s", plug->ifname);
	/* Its neighbours are no routers. */
	if (plug->ipv6.family && sysctl_set("0", "ipv6", plug->ifname, "accept_ra") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "set accept_ra on the container's %s", plug->ifname);
	return 0;
}

static int configure(const struct plug *plug, struct nl_sock *sock, int ifindex, struct gantry_error *err)
{
	struct batch batch;
	struct gantry_error ignored = { .size = sizeof ignored };
	batch_begin(&batch, sock);
	put_up(&batch, "bring the container's loopback up", LOOPBACK_IFINDEX);
	if (plug->ipv4.family)
		put_address(&batch, "give the container its IPv4 address", &plug->ipv4, ifindex);
	put_up(&batch, "bring the container's interface up", ifindex);
	if (plug->ipv6.family)
		put_address(&batch, "give the container its IPv6 address", &plug->ipv6, ifindex);
	if (plug->default_route && plug->gateway4.family)
		put_default_route(&batch, "set the container's IPv4 default route", &plug->gateway4, ifindex, true);
	if (plug->default_route && plug->gateway6.family)
		put_default_route(&batch, "set the container's IPv6 default route", &plug->gateway6, ifindex, true);
	if (batch_run(&batch, err) < 0)
		return -1;
	/* Another endpoint carries the default route now: ours, of a former join, goes if it is there. */
	if (plug->host_ifindex && !plug->default_route) {
		batch_begin(&batch, sock);
		if (plug->gateway4.family)
			put_default_route(&batch, "", &plug->gateway4, ifindex, false);
		if (plug->gateway6.family)
			put_default_route(&batch, "", &plug->gateway6, ifindex, false);
		(void)batch_run(&batch, &ignored);
	}
	return 0;
}

static int configure_there(void *arg)
{
	struct visit *visit = arg;
	int ifindex = (int)if_nametoindex(visit->plug->ifname);
	if (!ifindex)
		return gantry_fail(visit->err, GANTRY_E_INTERNAL, "the container's interface %s has vanished", visit->plug->ifname);
	if (set_ipv6(visit->plug, visit->err) < 0)
		return -1;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, visit->err);
	int rc = sock ? configure(visit->plug, sock, ifindex, visit->err) : -1;
	nl_socket_free(sock);
	return rc;
}

int inside_configure(const struct plug *plug, int netns_fd, struct gantry_error *err)
{
	struct visit visit = { .plug = plug, .err = err };
	return plug->self->host->in_netns(plug->self->host, netns_fd, configure_there, &visit, err);
}

static int is_peer_there(void *arg)
{
	struct visit *visit = arg;
	struct link there;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, visit->err);
	int absent = sock ? link_find(sock, visit->plug->ifname, &there, visit->err) : -1;
	nl_socket_free(sock);
	if (absent < 0)
		return -1;
	return !absent && strcmp(there.kind, "veth") == 0 && there.peer_ifindex == visit->link->ifindex &&
	       there.ifindex == visit->link->peer_ifindex;
}

int inside_is_peer(const struct plug *plug, const struct link *link, int netns_fd, struct gantry_error *err)
{
	struct visit visit = { .plug = plug, .link = link, .err = err };
	return plug->self->host->in_netns(plug->self->host, netns_fd, is_peer_there, &visit, err);
}
