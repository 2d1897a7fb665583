/*
 * common/veth.c - see veth.h.
 */
#include "common/veth.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>

void veth_name(const char *prefix, const char *endpoint_id, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, "%s%.12s", prefix, endpoint_id);
}

/* ---- making ---- */

static void put_peer(struct batch *batch, const struct veth *veth, int netns_fd)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nlattr *info = nest(batch, IFLA_LINKINFO);
	put_text(batch, IFLA_INFO_KIND, "veth");
	struct nlattr *data = nest(batch, IFLA_INFO_DATA);
	struct nlattr *peer = nest(batch, VETH_INFO_PEER);
	if (!batch->broken && nlmsg_append(batch->messages[batch->count - 1], &header, sizeof header, NLMSG_ALIGNTO) < 0)
		batch->broken = true;
	put_text(batch, IFLA_IFNAME, veth->end.ifname);
	put(batch, IFLA_ADDRESS, veth->end.mac, sizeof veth->end.mac);
	put_u32(batch, IFLA_MTU, veth->mtu);
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
static void put_host_end_up(struct batch *batch, const struct veth *veth)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	message(batch, "bring the container's link up", RTM_NEWLINK, 0, &header, sizeof header);
	put_text(batch, IFLA_IFNAME, veth->host_end);
	if (veth->end.kernel_ipv6) {
		struct nlattr *families = nest(batch, IFLA_AF_SPEC);
		struct nlattr *inet6 = nest(batch, AF_INET6);
		put_u8(batch, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		nest_end(batch, inet6);
		nest_end(batch, families);
	}
	if (veth->isolated)
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
static int make(struct nl_sock *sock, const struct veth *veth, int netns_fd, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	batch_begin(&batch, sock);
	message(&batch, "create the container's link", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, veth->host_end);
	put_u32(&batch, IFLA_MTU, veth->mtu);
	put_u32(&batch, IFLA_MASTER, (uint32_t)veth->bridge);
	put_u32(&batch, IFLA_NUM_TX_QUEUES, 1);
	put_u32(&batch, IFLA_NUM_RX_QUEUES, 1);
	put_peer(&batch, veth, netns_fd);
	put_host_end_up(&batch, veth);
	if (veth->hairpin)
		put_hairpin(&batch, veth->host_end);
	if (batch_run(&batch, err) == 0)
		return 0;
	if (batch.count && batch.errnums[0])
		return batch.errnums[0];
	return -1;
}

/* ---- in the container's namespace ---- */

struct visit {
	const struct veth *veth;
	const struct link *link;
	struct gantry_error *err;
};

static int configure_there(void *arg)
{
	struct visit *visit = arg;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, visit->err);
	int rc = sock ? interface_configure(&visit->veth->end, sock, visit->err) : -1;
	nl_socket_free(sock);
	return rc;
}

static int is_peer_there(void *arg)
{
	struct visit *visit = arg;
	struct link there;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, visit->err);
	int absent = sock ? link_find(sock, visit->veth->end.ifname, &there, visit->err) : -1;
	nl_socket_free(sock);
	if (absent < 0)
		return -1;
	return !absent && strcmp(there.kind, "veth") == 0 && there.peer_ifindex == visit->link->ifindex &&
	       there.ifindex == visit->link->peer_ifindex;
}

/* ---- join ---- */

/* A link of that name is there: of this very join done before, or of one that a crash cut. */
static int make_again(struct nl_sock *sock, struct veth *veth, int netns_fd, struct gantry_error *err)
{
	struct link link;
	int absent = link_find(sock, veth->host_end, &link, err);
	struct visit visit = { .veth = veth, .link = &link, .err = err };
	int same = absent == 0 ? veth->host->in_netns(veth->host, netns_fd, is_peer_there, &visit, err) : 0;
	/* Of a link that could not be looked at it is not known whether it carries traffic: it stays. */
	veth->end.again = absent == 0;
	if (absent < 0 || same < 0)
		return -1;
	if (same)
		return 0;
	if (absent == 0 && link_delete(sock, link.ifindex, err) < 0)
		return -1;
	veth->end.again = false;
	int rc = absent ? EEXIST : make(sock, veth, netns_fd, err);
	if (rc == EEXIST)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: the container has an interface %s already", veth->network, veth->end.ifname);
	return rc ? -1 : 0;
}

/* In this order: the bridge's carrier is its ports'. */
void veth_catch_up(struct nl_sock *sock, const char *host_end, int bridge_ifindex)
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

static int join(struct nl_sock *sock, struct veth *veth, int netns_fd, struct gantry_error *err)
{
	struct visit visit = { .veth = veth, .err = err };
	int rc = make(sock, veth, netns_fd, err);
	if (rc == EEXIST)
		rc = make_again(sock, veth, netns_fd, err);
	else if (rc != 0)
		rc = -1;
	if (rc == 0)
		rc = veth->host->in_netns(veth->host, netns_fd, configure_there, &visit, err);
	if (rc == 0)
		veth_catch_up(sock, veth->host_end, veth->bridge);
	return rc;
}

int veth_join(struct veth *veth, int netns_fd, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	struct link link;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	if (!sock)
		return -1;
	veth->end.again = false;
	int rc = join(sock, veth, netns_fd, err);
	/* A link that a former join made, and that carries traffic perhaps, stays. */
	if (rc < 0 && !veth->end.again && link_find(sock, veth->host_end, &link, &ignored) == 0)
		link_delete(sock, link.ifindex, &ignored);
	nl_socket_free(sock);
	return rc;
}

/* ---- leave and the rest ---- */

int veth_leave(const char *host_end, struct gantry_error *err)
{
	struct link link;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int absent = sock ? link_find(sock, host_end, &link, err) : -1;
	int rc = absent == 0 ? link_delete(sock, link.ifindex, err) : absent < 0 ? -1 : 0;
	nl_socket_free(sock);
	return rc;
}

int veth_vanish(struct later *later, const char *host_end, struct gantry_error *err)
{
	struct later_what what = { .ifindex = (int)if_nametoindex(host_end), .nsid = -1 };
	return what.ifindex ? later_expect(later, &what, err) : 0;
}

int veth_look(const struct later_what *what, struct gantry_error *err)
{
	char name[IF_NAMESIZE];
	if (!if_indextoname((unsigned)what->ifindex, name))
		return 0;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? link_delete(sock, what->ifindex, err) : -1;
	nl_socket_free(sock);
	return rc;
}

int veth_hairpin(const char *host_end, struct gantry_error *err)
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
