/*
 * underlay.c - this host's address for the tunnels.
 */
#include "overlay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool read_sockaddr(const struct sockaddr *from, struct address *to)
{
	*to = (struct address){ .family = from ? from->sa_family : AF_UNSPEC };
	if (to->family == AF_INET)
		memcpy(to->bytes, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
	else if (to->family == AF_INET6)
		memcpy(to->bytes, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
	else
		return false;
	to->prefix = address_len(to) * 8;
	return inet_ntop(to->family, to->bytes, to->text, sizeof to->text) != NULL;
}

/* Loopback and link-local addresses are no way to another host. */
static bool leads_away(const struct address *address)
{
	if (address->family == AF_INET)
		return address->bytes[0] != 127 && !(address->bytes[0] == 169 && address->bytes[1] == 254);
	return !(address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80) && !IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)(const void *)address->bytes);
}

static int read_mtu(const char *ifname, uint32_t *mtu)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", ifname);
	int rc = fd < 0 ? -1 : ioctl(fd, SIOCGIFMTU, &request);
	if (fd >= 0)
		close(fd);
	if (rc == 0)
		*mtu = (uint32_t)request.ifr_mtu;
	return rc;
}

/* IPv4 first, where an interface is named. */
static bool is_better(const struct ifaddrs *each, const char *underlay, const struct address *wanted, const struct address *best, struct address *found)
{
	if (!read_sockaddr(each->ifa_addr, found))
		return false;
	if (wanted->family)
		return !best->family && address_equal(found, wanted);
	return strcmp(each->ifa_name, underlay) == 0 && leads_away(found) && (!best->family || (best->family == AF_INET6 && found->family == AF_INET));
}

int underlay_find(const char *underlay, struct address *address, uint32_t *mtu, struct gantry_error *err)
{
	struct ifaddrs *all;
	struct address wanted = { 0 }, best = { 0 }, found;
	char ifname[IFNAMSIZ] = "";
	if (address_parse(underlay, 0, false, &wanted) < 0)
		wanted.family = 0;
	if (getifaddrs(&all) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read the host's addresses");
	for (const struct ifaddrs *each = all; each; each = each->ifa_next) {
		if (!is_better(each, underlay, &wanted, &best, &found))
			continue;
		best = found;
		snprintf(ifname, sizeof ifname, "%s", each->ifa_name);
	}
	freeifaddrs(all);
	if (!best.family)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "%s is no address of this host, nor an interface that has one ([plugin.net-overlay] underlay)",
				   underlay);
	*address = best;
	if (mtu && read_mtu(ifname, mtu) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read the MTU of %s", ifname);
	return 0;
}
