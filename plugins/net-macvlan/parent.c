/*
 * parent.c - the links that containers' links sit on. A network's parent is one of the host's, or made by us: an 802.1q sub-interface "eth0.50" that is not there
 * yet, or, where the user names none, a link that leads nowhere.
 *
 * What we make is marked as ours from its first moment on, and the host takes no part in it: no address, no IPv6.
 */
#include "macvlan.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>

bool parent_is_ours(const struct link *link)
{
	if (strcmp(link->kind, "vlan") == 0)
		return strcmp(link->alias, PARENT_ALIAS) == 0 || link->group == MARK;
	return (strcmp(link->kind, "dummy") == 0 || strcmp(link->kind, "ifb") == 0) && strncmp(link->name, PARENT_PREFIX, strlen(PARENT_PREFIX)) == 0;
}

/* ---- what the kernel has ---- */

static int no_kind(const struct network *network, const char *kind, const char *option, struct gantry_error *err)
{
	return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: this kernel has no %s links (CONFIG_%s, module %s)", network->name, kind, option, kind);
}

/* A macvlan link without a parent is refused for that, but of a kind that is not known it is said so first. */
int parent_check_kernel(const struct network *network, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	if (!sock)
		return -1;
	batch_begin(&batch, sock);
	message(&batch, "ask for macvlan", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	struct nlattr *info = nest(&batch, IFLA_LINKINFO);
	put_text(&batch, IFLA_INFO_KIND, "macvlan");
	nest_end(&batch, info);
	int rc = batch_run(&batch, err);
	nl_socket_free(sock);
	if (rc < 0 && batch.count && batch.errnums[0] == EOPNOTSUPP)
		return no_kind(network, "macvlan", "MACVLAN", err);
	return rc < 0 && (!batch.count || !batch.errnums[0]) ? -1 : 0;
}

/* ---- making ---- */

/* Brings up a link that we have just made; from here on its alias says that it is ours. */
static int finish(struct nl_sock *sock, const struct network *network, struct link *link, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = link->ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	if (kernel_has_ipv6() && sysctl_set("1", "ipv6", link->name, "disable_ipv6") < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set disable_ipv6 on %s", network->name, link->name);
	batch_begin(&batch, sock);
	message(&batch, "bring the parent up", RTM_SETLINK, 0, &header, sizeof header);
	put_text(&batch, IFLA_IFALIAS, PARENT_ALIAS);
	put_u32(&batch, IFLA_GROUP, 0);
	if (batch_run(&batch, err) == 0)
		return link_find(sock, network->parent, link, err);
	if (batch.count && batch.errnums[0] == ENETDOWN)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: parent %s cannot be up while the interface that carries it is down: bring that up",
				   network->name, network->parent);
	return -1;
}

/* The message's beginning and the name, mark and kind; the kind's own data may follow before make_end(). */
static struct nlattr *make_begin(struct batch *batch, struct nl_sock *sock, const char *name, const char *kind)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	batch_begin(batch, sock);
	message(batch, "create the parent", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_text(batch, IFLA_IFNAME, name);
	put_u32(batch, IFLA_GROUP, MARK);
	struct nlattr *info = nest(batch, IFLA_LINKINFO);
	put_text(batch, IFLA_INFO_KIND, kind);
	return info;
}

/* Returns 0, an errno, or -1. */
static int make_end(struct batch *batch, struct nlattr *info, struct gantry_error *err)
{
	nest_end(batch, info);
	if (batch_run(batch, err) == 0)
		return 0;
	return batch->count && batch->errnums[0] ? batch->errnums[0] : -1;
}

/* Kinds that drop what they are given, the usual one first. */
static int make_isolated(struct nl_sock *sock, const struct network *network, struct gantry_error *err)
{
	static const char *const KINDS[] = { "dummy", "ifb" };
	struct batch batch;
	for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++) {
		struct nlattr *info = make_begin(&batch, sock, network->parent, KINDS[i]);
		int rc = make_end(&batch, info, err);
		if (rc != EOPNOTSUPP)
			return rc ? -1 : 0;
	}
	return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: without an option parent it needs a link of kind dummy, which this kernel has not "
			   "(CONFIG_DUMMY, module dummy), nor has it ifb: name a parent", network->name);
}

/* "eth0.50" -> "eth0", 50. */
static bool split_vlan(const char *name, char carrier[IFNAMSIZ], uint16_t *vlan)
{
	const char *dot = strrchr(name, '.');
	size_t digits = dot ? strspn(dot + 1, "0123456789") : 0;
	if (!dot || dot == name || digits < 1 || digits > 4 || dot[1 + digits] || dot[1] == '0')
		return false;
	unsigned long number = strtoul(dot + 1, NULL, 10);
	if (number < 1 || number > 4094)
		return false;
	snprintf(carrier, IFNAMSIZ, "%.*s", (int)(dot - name), name);
	*vlan = (uint16_t)number;
	return true;
}

static int check_ethernet(const struct network *network, const struct link *link, struct gantry_error *err)
{
	if (link->type != ARPHRD_ETHER || (link->flags & IFF_LOOPBACK))
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: %s is no Ethernet interface, so it cannot carry macvlan links", network->name, link->name);
	return 0;
}

static int make_vlan(struct nl_sock *sock, const struct network *network, struct gantry_error *err)
{
	struct batch batch;
	struct link carrier;
	char name[IFNAMSIZ];
	uint16_t vlan;
	if (!split_vlan(network->parent, name, &vlan))
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: parent %s does not exist on this host; an interface that does, or INTERFACE.VLAN with a VLAN of "
				   "1 to 4094 is wanted", network->name, network->parent);
	int absent = link_find(sock, name, &carrier, err);
	if (absent < 0)
		return -1;
	if (absent)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: parent %s does not exist and cannot be made, as there is no interface %s on this host",
				   network->name, network->parent, name);
	if (check_ethernet(network, &carrier, err) < 0)
		return -1;
	struct nlattr *info = make_begin(&batch, sock, network->parent, "vlan");
	struct nlattr *data = nest(&batch, IFLA_INFO_DATA);
	put_u16(&batch, IFLA_VLAN_ID, vlan);
	nest_end(&batch, data);
	nest_end(&batch, info);
	put_u32(&batch, IFLA_LINK, (uint32_t)carrier.ifindex);
	if (batch_run(&batch, err) == 0)
		return 0;
	int errnum = batch.count ? batch.errnums[0] : 0;
	if (errnum == EOPNOTSUPP)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: parent %s would be an 802.1q sub-interface of %s, which this kernel cannot make "
				   "(CONFIG_VLAN_8021Q, module 8021q)", network->name, network->parent, name);
	if (errnum == EEXIST)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: VLAN %u of %s is there already under another name than %s: name that as the parent",
				   network->name, vlan, name, network->parent);
	return -1;
}

/* ---- ensure and remove ---- */

static int make(struct nl_sock *sock, const struct network *network, struct link *parent, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	if ((network->isolated ? make_isolated(sock, network, err) : make_vlan(sock, network, err)) < 0)
		return -1;
	int absent = link_find(sock, network->parent, parent, err);
	if (absent > 0)
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %s: its new parent %s has vanished", network->name, network->parent);
	if (absent == 0 && finish(sock, network, parent, err) == 0)
		return 0;
	if (absent == 0)
		link_delete(sock, parent->ifindex, &ignored);
	return -1;
}

static int check(const struct network *network, const struct link *parent, struct gantry_error *err)
{
	if (network->isolated && !parent_is_ours(parent))
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: its link would be %s, but a link of that name is there and is not ours", network->name,
				   network->parent);
	if (check_ethernet(network, parent, err) < 0)
		return -1;
	if (network->mtu > parent->mtu)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: an MTU of %u is more than its parent %s carries, which is %u", network->name, network->mtu,
				   parent->name, parent->mtu);
	return 0;
}

static int ensure(struct nl_sock *sock, const struct network *network, struct link *parent, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	int absent = link_find(sock, network->parent, parent, err);
	if (absent < 0)
		return -1;
	if (absent && make(sock, network, parent, err) < 0)
		return -1;
	/* One that a kill has left unfinished. */
	if (!absent && parent->group == MARK && parent_is_ours(parent) && finish(sock, network, parent, err) != 0)
		return -1;
	if (check(network, parent, err) == 0)
		return 0;
	if (absent)
		link_delete(sock, parent->ifindex, &ignored);
	return -1;
}

int parent_ensure(const struct network *network, struct link *parent, struct gantry_error *err)
{
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? ensure(sock, network, parent, err) : -1;
	nl_socket_free(sock);
	return rc;
}

int parent_remove(const struct network *network, struct gantry_error *err)
{
	struct link link;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int absent = sock ? link_find(sock, network->parent, &link, err) : -1;
	int rc = absent == 0 && parent_is_ours(&link) ? link_delete(sock, link.ifindex, err) : absent < 0 ? -1 : 0;
	nl_socket_free(sock);
	return rc;
}
