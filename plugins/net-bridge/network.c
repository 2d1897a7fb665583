/*
 * network.c - records of networks: what the engine and the user's options ask for, checked and resolved against the INI file's defaults.
 */
#include "bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPT_BRIDGE "com.docker.network.bridge."
#define OPT_DRIVER "com.docker.network.driver."
#define OPT_PREFIX "com.docker.network.container_iface_prefix"

/* ---- options ---- */

/* What Go's strconv.ParseBool takes, as Docker does. */
static int read_bool(const struct network *network, const char *key, const char *value, bool *to, struct gantry_error *err)
{
	static const char *const YES[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const NO[] = { "0", "f", "F", "false", "FALSE", "False" };
	for (size_t i = 0; i < sizeof YES / sizeof YES[0]; i++) {
		if (strcmp(value, YES[i]) == 0 || strcmp(value, NO[i]) == 0) {
			*to = strcmp(value, YES[i]) == 0;
			return 0;
		}
	}
	return gantry_fail(err, GANTRY_E_INVALID, "network %s: option %s is \"%.32s\"; allowed are true and false", network->name, key, value);
}

static int read_bridge_name(struct network *network, const char *value, struct gantry_error *err)
{
	if (!ifname_valid(value))
		return gantry_fail(err, GANTRY_E_INVALID,
				   "network %s: option " OPT_BRIDGE "name is \"%.32s\", which cannot name an interface: use up to 15 of [A-Za-z0-9_.-]",
				   network->name, value);
	if (strncmp(value, HOST_END_PREFIX, strlen(HOST_END_PREFIX)) == 0)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: option " OPT_BRIDGE "name is %s; names that begin with " HOST_END_PREFIX
				   " are those of containers' links", network->name, value);
	snprintf(network->bridge, sizeof network->bridge, "%s", value);
	return 0;
}

static int read_host_ip(struct network *network, const char *key, const char *value, struct gantry_error *err)
{
	if (address_parse(value, AF_INET, false, &network->host_ip) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: option %s is \"%.64s\", which is no IPv4 address", network->name, key, value);
	if (address_any(&network->host_ip))
		network->host_ip.family = 0;
	return 0;
}

static int read_default_bridge(const struct network *network, const char *key, const char *value, bool is_default, struct gantry_error *err)
{
	bool wanted;
	if (read_bool(network, key, value, &wanted, err) < 0)
		return -1;
	if (wanted && !is_default)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: option %s is for the engine's own default network alone", network->name, key);
	return 0;
}

static int read_option(struct network *network, const char *key, const char *value, bool is_default, struct gantry_error *err)
{
	if (strcmp(key, OPT_BRIDGE "name") == 0)
		return read_bridge_name(network, value, err);
	if (strcmp(key, OPT_BRIDGE "enable_icc") == 0)
		return read_bool(network, key, value, &network->icc, err);
	if (strcmp(key, OPT_BRIDGE "enable_ip_masquerade") == 0)
		return read_bool(network, key, value, &network->masquerade, err);
	if (strcmp(key, OPT_BRIDGE "host_binding_ipv4") == 0)
		return read_host_ip(network, key, value, err);
	if (strcmp(key, OPT_BRIDGE "default_bridge") == 0)
		return read_default_bridge(network, key, value, is_default, err);
	if (strcmp(key, OPT_DRIVER "mtu") == 0)
		return option_number(network->name, key, value, 68, 65535, &network->mtu, err);
	if (strcmp(key, OPT_PREFIX) == 0 && strcmp(value, "eth") == 0)
		return 0;
	if (strcmp(key, OPT_PREFIX) == 0)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: option " OPT_PREFIX " is \"%.32s\"; only \"eth\" is supported", network->name,
				   value);
	return gantry_fail(err, GANTRY_E_INVALID,
			   "network %s: unknown option \"%.64s\" (there are: " OPT_BRIDGE "{name,enable_icc,enable_ip_masquerade,host_binding_ipv4,"
			   "default_bridge}, " OPT_DRIVER "mtu, " OPT_PREFIX ")", network->name, key);
}

/* ---- subnets ---- */

static int read_subnet(struct network *network, const struct gantry_subnet *from, struct gantry_error *err)
{
	struct subnet *to = &network->subnets[network->subnet_count];
	int family = from->family == 4 ? AF_INET : AF_INET6;
	if (address_parse(from->subnet, family, true, &to->network) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: \"%.64s\" is no IPv%u subnet", network->name, from->subnet, from->family);
	if (from->gateway[0] && address_parse(from->gateway, family, false, &to->gateway) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: gateway \"%.64s\" is no IPv%u address", network->name, from->gateway, from->family);
	to->gateway.prefix = to->network.prefix;
	network->ipv4 |= family == AF_INET;
	network->ipv6 |= family == AF_INET6;
	network->subnet_count++;
	return 0;
}

int network_read(const struct bridge *self, const struct gantry_network *from, struct network *to, struct gantry_error *err)
{
	bool is_default = from->flags & GANTRY_NETWORK_DEFAULT;
	*to = (struct network){ .mtu = self->mtu, .icc = self->icc, .masquerade = self->masquerade,
				.internal = from->flags & GANTRY_NETWORK_INTERNAL };
	if (!id_valid(from->id))
		return gantry_fail(err, GANTRY_E_INVALID, "a network's id must be 64 hexadecimal digits");
	snprintf(to->id, sizeof to->id, "%s", from->id);
	snprintf(to->name, sizeof to->name, "%s", from->name ? from->name : from->id);
	if (is_default)
		snprintf(to->bridge, sizeof to->bridge, "gtbr0");
	else
		snprintf(to->bridge, sizeof to->bridge, BRIDGE_PREFIX "%.12s", to->id);
	for (uint32_t i = 0; i < from->options.count; i++) {
		if (read_option(to, from->options.items[i].key, from->options.items[i].value, is_default, err) < 0)
			return -1;
	}
	if (from->subnet_count > MAX_SUBNETS)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s has %zu subnets; at most %d are allowed", to->name, from->subnet_count, MAX_SUBNETS);
	const char *item = (const char *)from->subnets;
	for (size_t i = 0; i < from->subnet_count; i++, item += from->subnet_size) {
		if (read_subnet(to, (const struct gantry_subnet *)(const void *)item, err) < 0)
			return -1;
	}
	if (to->ipv6 && !self->ipv6)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: this kernel has no IPv6", to->name);
	if (to->ipv6 && to->mtu < 1280)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: an MTU of %u is too small for IPv6, which needs 1280", to->name, to->mtu);
	return 0;
}

/* ---- records ---- */

struct network *network_find(struct bridge *self, const char *id)
{
	struct network *network = self->networks;
	while (network && strcmp(network->id, id) != 0)
		network = network->next;
	return network;
}

struct network *network_by_bridge(struct bridge *self, const char *bridge)
{
	struct network *network = self->networks;
	while (network && strcmp(network->bridge, bridge) != 0)
		network = network->next;
	return network;
}

void network_insert(struct bridge *self, struct network *network)
{
	network_forget(self, network->id);
	network->next = self->networks;
	self->networks = network;
}

void network_forget(struct bridge *self, const char *id)
{
	for (struct network **at = &self->networks; *at; at = &(*at)->next) {
		if (strcmp((*at)->id, id) == 0) {
			struct network *gone = *at;
			*at = gone->next;
			free(gone);
			return;
		}
	}
}
