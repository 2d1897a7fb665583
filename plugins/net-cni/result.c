/*
 * result.c - what ADD answered. Plugins are other people's programs: each value is checked before it goes on.
 */
#include "cni.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 64

static bool is_address(const char *text, int *family)
{
	unsigned char bytes[16];
	*family = inet_pton(AF_INET, text, bytes) == 1 ? AF_INET : inet_pton(AF_INET6, text, bytes) == 1 ? AF_INET6 : 0;
	return *family != 0;
}

/* "10.1.0.2/16" */
static bool is_cidr(const char *text, int *family)
{
	char address[GANTRY_ADDR_MAX], *end;
	const char *slash = text ? strchr(text, '/') : NULL;
	if (!slash || strlen(text) >= sizeof address || slash[1] < '0' || slash[1] > '9')
		return false;
	snprintf(address, sizeof address, "%.*s", (int)(slash - text), text);
	long bits = strtol(slash + 1, &end, 10);
	return !*end && is_address(address, family) && bits >= 0 && bits <= (*family == AF_INET ? 32 : 128);
}

static int read_ip(const json_t *ip, const char *network, struct gantry_endpoint *endpoint, struct gantry_error *err)
{
	const char *address = json_string_value(json_object_get(ip, "address")), *gateway = json_string_value(json_object_get(ip, "gateway"));
	int family = 0, gateway_family = 0;
	if (!is_cidr(address, &family))
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %.64s: CNI plugins told the address \"%.64s\", which is none with a prefix length", network,
				   address ? address : "");
	if (gateway && *gateway && (strlen(gateway) >= GANTRY_ADDR_MAX || !is_address(gateway, &gateway_family) || gateway_family != family))
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %.64s: CNI plugins told the gateway \"%.64s\", which is no address of the family of %.64s", network, gateway,
				   address);
	char *to = family == AF_INET ? endpoint->ipv4 : endpoint->ipv6, *via = family == AF_INET ? endpoint->gateway4 : endpoint->gateway6;
	if (to[0])
		return 0; /* the engine shows one of each family */
	snprintf(to, GANTRY_ADDR_MAX, "%s", address);
	snprintf(via, GANTRY_ADDR_MAX, "%s", gateway ? gateway : "");
	return 0;
}

static bool is_mac(const char *text)
{
	if (!text || strlen(text) != 17)
		return false;
	for (int i = 0; i < 17; i++) {
		if (i % 3 == 2 ? text[i] != ':' : !strchr("0123456789abcdefABCDEF", text[i]))
			return false;
	}
	return true;
}

/* The container's link is the one with a sandbox; the last one without is the host's end of it. */
static void read_interface(const json_t *interface, const char *ifname, struct gantry_endpoint *endpoint)
{
	const char *name = json_string_value(json_object_get(interface, "name")), *mac = json_string_value(json_object_get(interface, "mac"));
	const char *sandbox = json_string_value(json_object_get(interface, "sandbox"));
	json_int_t mtu = json_integer_value(json_object_get(interface, "mtu"));
	if (!name || !*name || strlen(name) >= GANTRY_IFNAME_MAX || strpbrk(name, "/ \t\n"))
		return;
	if (!sandbox || !*sandbox) {
		snprintf(endpoint->host_ifname, sizeof endpoint->host_ifname, "%s", name);
	} else if (strcmp(name, ifname) == 0) {
		if (is_mac(mac))
			snprintf(endpoint->mac, sizeof endpoint->mac, "%s", mac);
		endpoint->mtu = mtu > 0 && mtu <= 65536 ? (uint32_t)mtu : 0;
	}
}

int result_read(const json_t *result, const char *network, struct gantry_endpoint *endpoint, struct gantry_error *err)
{
	const json_t *ips = json_object_get(result, "ips"), *interfaces = json_object_get(result, "interfaces");
	size_t i;
	json_t *entry;
	if ((ips && !json_is_array(ips) && !json_is_null(ips)) || json_array_size(ips) > LIST_MAX || json_array_size(interfaces) > LIST_MAX)
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %.64s: CNI plugins told addresses or interfaces in no list, or more than %d of them", network, LIST_MAX);
	endpoint->ipv4[0] = endpoint->ipv6[0] = endpoint->gateway4[0] = endpoint->gateway6[0] = endpoint->host_ifname[0] = '\0';
	json_array_foreach(ips, i, entry) {
		if (read_ip(entry, network, endpoint, err) < 0)
			return -1;
	}
	json_array_foreach(interfaces, i, entry)
		read_interface(entry, endpoint->ifname, endpoint);
	return 0;
}
