/*
 * endpoint.c - containers' links. One is made from inside the container's namespace on the parent in the host's: it is there when the system call returns. It is
 * born with a name that nobody has, since kernels before 6.14 make it in the host's namespace, where an eth0 may be, and move it at once.
 */
#include "macvlan.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

struct visit {
	struct plug *plug;
	struct gantry_error *err;
};

/* ---- making, in the container's namespace ---- */

static void take_link(void *arg, unsigned index, struct nlmsghdr *answer)
{
	(void)index;
	if (answer->nlmsg_type == RTM_NEWLINK)
		link_read(answer, arg);
}

static void put_macvlan(struct batch *batch, const struct plug *plug, const char *name, int host_nsid)
{
	put_text(batch, IFLA_IFNAME, name);
	put_u32(batch, IFLA_GROUP, MARK);
	put_u32(batch, IFLA_LINK, (uint32_t)plug->parent);
	put_u32(batch, IFLA_LINK_NETNSID, (uint32_t)host_nsid);
	if (plug->network->mode != MACVLAN_MODE_PASSTHRU)
		put(batch, IFLA_ADDRESS, plug->end.mac, sizeof plug->end.mac);
	if (plug->network->mtu)
		put_u32(batch, IFLA_MTU, plug->network->mtu);
	struct nlattr *info = nest(batch, IFLA_LINKINFO);
	put_text(batch, IFLA_INFO_KIND, "macvlan");
	struct nlattr *data = nest(batch, IFLA_INFO_DATA);
	put_u32(batch, IFLA_MACVLAN_MODE, plug->network->mode);
	nest_end(batch, data);
	nest_end(batch, info);
}

/* The kernel's words for it are "invalid argument". */
static int fail_busy(const struct plug *plug, struct gantry_error *err)
{
	const struct network *network = plug->network;
	gantry_fail(err, GANTRY_E_CONFLICT, "network %s: its parent %s cannot carry one more link in mode %s: it belongs to a bridge or a bond, or another macvlan link %s",
		    network->name, network->parent, mode_name(network->mode),
		    network->mode == MACVLAN_MODE_PASSTHRU ? "is on it" : "has it in mode passthru");
	err->errnum = EBUSY;
	return -1;
}

static bool is_ours(const struct plug *plug, const struct link *link)
{
	return link_is_of_endpoint(link) && link->group != MARK && strcmp(link->alias + strlen(ENDPOINT_ALIAS), plug->endpoint_id) == 0;
}

/* Whether a former join made it, then in *link: 1, 0, or -1 with err. */
static int find_former(struct nl_sock *sock, const struct plug *plug, struct link *link, struct gantry_error *err)
{
	int absent = link_find(sock, plug->end.ifname, link, err);
	if (absent == 0 && !is_ours(plug, link))
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: the container has an interface %s already", plug->network->name, plug->end.ifname);
	return absent < 0 ? -1 : !absent;
}

static int make(struct nl_sock *sock, const struct plug *plug, struct link *link, struct gantry_error *err)
{
	struct batch batch;
	char name[IFNAMSIZ];
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	int host_nsid;
	*link = (struct link){ 0 };
	snprintf(name, sizeof name, LINK_PREFIX "%.12s", plug->endpoint_id);
	if (namespace_number(sock, plug->self->netns_fd, &host_nsid, err) < 0)
		return -1;
	batch_begin(&batch, sock);
	batch.answer = take_link;
	batch.arg = link;
	message(&batch, "create the container's link", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_macvlan(&batch, plug, name, host_nsid);
	message(&batch, "look at the container's link", RTM_GETLINK, 0, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, name);
	put_u32(&batch, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	if (batch_run(&batch, err) == 0)
		return 0;
	int errnum = batch.count ? batch.errnums[0] : 0;
	if (errnum == EOPNOTSUPP)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: this kernel has no macvlan links (CONFIG_MACVLAN, module macvlan)", plug->network->name);
	return errnum == EINVAL || errnum == EBUSY ? fail_busy(plug, err) : -1;
}

/* It gets its name and says whose it is. A MAC of the user's in passthru mode is the parent's, too, while the link is there. */
static int name_link(struct nl_sock *sock, const struct plug *plug, const struct link *link, struct gantry_error *err)
{
	struct batch batch;
	char alias[sizeof ENDPOINT_ALIAS + ID_LEN];
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = link->ifindex };
	snprintf(alias, sizeof alias, ENDPOINT_ALIAS "%s", plug->endpoint_id);
	batch_begin(&batch, sock);
	message(&batch, "set up the container's link", RTM_SETLINK, 0, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, plug->end.ifname);
	put_text(&batch, IFLA_IFALIAS, alias);
	put_u32(&batch, IFLA_GROUP, 0);
	if (plug->network->mode == MACVLAN_MODE_PASSTHRU && plug->end.mac_given)
		put(&batch, IFLA_ADDRESS, plug->end.mac, sizeof plug->end.mac);
	return batch_run(&batch, err);
}

static int set_up(struct nl_sock *sock, struct plug *plug, const struct link *link, struct gantry_error *err)
{
	if (!plug->end.again && name_link(sock, plug, link, err) < 0)
		return -1;
	if (!plug->end.mac_given && plug->network->mode == MACVLAN_MODE_PASSTHRU)
		memcpy(plug->end.mac, link->mac, sizeof plug->end.mac);
	plug->mtu = link->mtu;
	if (interface_configure(&plug->end, sock, err) == 0)
		return 0;
	if (err->errnum == EADDRINUSE) {
		char mac[18];
		mac_format(plug->end.mac, mac);
		gantry_fail(err, GANTRY_E_CONFLICT, "network %s: another macvlan link on parent %s has the MAC address %s", plug->network->name,
			    plug->network->parent, mac);
		err->errnum = EADDRINUSE;
	}
	return -1;
}

static int plug_there(void *arg)
{
	struct visit *visit = arg;
	struct plug *plug = visit->plug;
	struct gantry_error ignored = { .size = sizeof ignored };
	struct link link;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, visit->err);
	if (!sock)
		return -1;
	int former = find_former(sock, plug, &link, visit->err);
	int rc = former < 0 || (!former && make(sock, plug, &link, visit->err) < 0) ? -1 : 0;
	plug->end.again = former > 0;
	if (rc == 0) {
		rc = set_up(sock, plug, &link, visit->err);
		/* A link that a former join made, and that carries traffic perhaps, stays. */
		if (rc < 0 && !former)
			link_delete(sock, link.ifindex, &ignored);
	}
	nl_socket_free(sock);
	return rc;
}

int endpoint_plug(struct plug *plug, int netns_fd, struct gantry_error *err)
{
	struct visit visit = { plug, err };
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	/* First the number: with it the link is found whatever happens then. */
	int rc = sock ? namespace_number(sock, netns_fd, &plug->nsid, err) : -1;
	nl_socket_free(sock);
	return rc < 0 ? -1 : plug->self->host->in_netns(plug->self->host, netns_fd, plug_there, &visit, err);
}

/* ---- removing ---- */

static bool is_of(const struct link *link, void *arg)
{
	return link_is_of_endpoint(link) && strncmp(link->alias, ENDPOINT_ALIAS, strlen(ENDPOINT_ALIAS)) == 0 &&
	       strcmp(link->alias + strlen(ENDPOINT_ALIAS), arg) == 0;
}

static int remove_by_number(struct nl_sock *sock, int nsid, const char *endpoint_id, struct gantry_error *err)
{
	struct link *links = NULL;
	size_t count = 0;
	int rc = link_list(sock, nsid, "macvlan", is_of, (void *)(uintptr_t)endpoint_id, &links, &count, err);
	/* There is no namespace of that number any more. */
	if (rc < 0 && err->errnum == EINVAL)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = namespace_delete_link(sock, nsid, links[i].ifindex, err);
	free(links);
	return rc;
}

int endpoint_unplug(int netns_fd, const char *endpoint_id, struct gantry_error *err)
{
	int nsid;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock && namespace_number(sock, netns_fd, &nsid, err) == 0 ? remove_by_number(sock, nsid, endpoint_id, err) : -1;
	nl_socket_free(sock);
	return rc;
}

int endpoint_look(const struct later_what *what, struct gantry_error *err)
{
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? remove_by_number(sock, what->nsid, what->id, err) : -1;
	nl_socket_free(sock);
	return rc;
}
