/*
 * common/interface.c - see interface.h.
 */
#include "common/interface.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <unistd.h>

#define LOOPBACK_IFINDEX 1              /* in every network namespace */

bool kernel_has_ipv6(void)
{
	return access("/proc/sys/net/ipv6", F_OK) == 0;
}

/* ---- what is asked for ---- */

static int read_one(const char *text, int family, bool with_prefix, struct address *to, const char *what, struct gantry_error *err)
{
	if (text[0] && address_parse(text, family, with_prefix, to) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" is no %s", text, what);
	return 0;
}

int interface_read(const struct gantry_endpoint *endpoint, const char *network, struct interface *to, struct gantry_error *err)
{
	*to = (struct interface){ .kernel_ipv6 = kernel_has_ipv6(), .default_route = endpoint->default_route, .mac_given = endpoint->mac[0] };
	if (endpoint->options.count)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: unknown endpoint option \"%.64s\" (this driver has none)", network,
				   endpoint->options.items[0].key);
	if (!endpoint->ifname || !ifname_valid(endpoint->ifname))
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: \"%.32s\" cannot name a container's interface: use up to 15 of [A-Za-z0-9_.-]",
				   network, endpoint->ifname ? endpoint->ifname : "");
	snprintf(to->ifname, sizeof to->ifname, "%s", endpoint->ifname);
	if (read_one(endpoint->ipv4, AF_INET, true, &to->ipv4, "IPv4 address with a prefix", err) < 0 ||
	    read_one(endpoint->ipv6, AF_INET6, true, &to->ipv6, "IPv6 address with a prefix", err) < 0 ||
	    read_one(endpoint->gateway4, AF_INET, false, &to->gateway4, "IPv4 address of a gateway", err) < 0 ||
	    read_one(endpoint->gateway6, AF_INET6, false, &to->gateway6, "IPv6 address of a gateway", err) < 0)
		return -1;
	if (to->ipv6.family && !to->kernel_ipv6)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: this kernel has no IPv6", network);
	if (to->mac_given && mac_parse(endpoint->mac, to->mac) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: \"%.17s\" is no MAC address of a single interface", network, endpoint->mac);
	if (!to->mac_given && mac_derive(&to->ipv4, to->mac) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "get random bytes");
	return 0;
}

/* ---- in the container's namespace ---- */

static void put_up(struct batch *batch, const char *what, int ifindex)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	message(batch, what, RTM_SETLINK, 0, &header, sizeof header);
}

void put_default_route(struct batch *batch, const char *what, const struct address *gateway, int ifindex, bool wanted)
{
	struct rtmsg header = { .rtm_family = (unsigned char)gateway->family, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
				.rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST };
	if (!wanted)
		header.rtm_protocol = RTPROT_UNSPEC;
	message(batch, what, wanted ? RTM_NEWROUTE : RTM_DELROUTE, wanted ? NLM_F_CREATE | NLM_F_REPLACE : 0, &header, sizeof header);
	put(batch, RTA_GATEWAY, gateway->bytes, address_len(gateway));
	put_u32(batch, RTA_OIF, (uint32_t)ifindex);
}

static int set(const struct interface *interface, int proc, const char *value, const char *family, const char *key, struct gantry_error *err)
{
	if (sysctl_set_at(proc, value, family, interface->ifname, key) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "set %s on the container's %s", key, interface->ifname);
	return 0;
}

/* Before the link is up, so that IPv6 does nothing there that would have to be undone. */
static int set_sysctls_at(const struct interface *interface, int proc, struct gantry_error *err)
{
	bool six = interface->ipv6.family != 0;
	if (interface->announce && interface->ipv4.family && set(interface, proc, "1", "ipv4", "arp_notify", err) < 0)
		return -1;
	if (!interface->kernel_ipv6)
		return 0;
	if (set(interface, proc, six ? "0" : "1", "ipv6", "disable_ipv6", err) < 0)
		return -1;
	/* Its neighbours are no routers. */
	if (six && set(interface, proc, "0", "ipv6", "accept_ra", err) < 0)
		return -1;
	return six && interface->announce ? set(interface, proc, "1", "ipv6", "ndisc_notify", err) : 0;
}

static int set_sysctls(const struct interface *interface, struct gantry_error *err)
{
	int proc = proc_of_its_own();
	if (proc < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open /proc");
	int rc = set_sysctls_at(interface, proc, err);
	close(proc);
	return rc;
}

/* Another endpoint carries the default route now: this one's, of a former join, goes if it is there. */
static void drop_default_route(const struct interface *interface, struct nl_sock *sock, int ifindex)
{
	struct batch batch;
	batch_begin(&batch, sock);
	if (interface->gateway4.family)
		put_default_route(&batch, "", &interface->gateway4, ifindex, false);
	if (interface->gateway6.family)
		put_default_route(&batch, "", &interface->gateway6, ifindex, false);
	(void)batch_run(&batch, NULL);
}

int interface_configure(const struct interface *interface, struct nl_sock *sock, struct gantry_error *err)
{
	struct batch batch;
	int ifindex = (int)if_nametoindex(interface->ifname);
	if (!ifindex)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the container's interface %s has vanished", interface->ifname);
	if (set_sysctls(interface, err) < 0)
		return -1;
	batch_begin(&batch, sock);
	put_up(&batch, "bring the container's loopback up", LOOPBACK_IFINDEX);
	if (interface->ipv4.family)
		put_address(&batch, "give the container its IPv4 address", &interface->ipv4, ifindex);
	put_up(&batch, "bring the container's interface up", ifindex);
	if (interface->ipv6.family)
		put_address(&batch, "give the container its IPv6 address", &interface->ipv6, ifindex);
	if (interface->default_route && interface->gateway4.family)
		put_default_route(&batch, "set the container's IPv4 default route", &interface->gateway4, ifindex, true);
	if (interface->default_route && interface->gateway6.family)
		put_default_route(&batch, "set the container's IPv6 default route", &interface->gateway6, ifindex, true);
	if (batch_run(&batch, err) < 0)
		return -1;
	if (interface->again && !interface->default_route)
		drop_default_route(interface, sock, ifindex);
	return 0;
}
