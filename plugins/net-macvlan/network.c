/*
 * network.c - records of networks: what the engine and the user's options ask for, checked; and of the endpoints in them.
 */
#include "macvlan.h"

#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>

#define OPT_PARENT "parent"
#define OPT_MODE "macvlan_mode"
#define OPT_MTU "com.docker.network.driver.mtu"
#define OPT_PREFIX "com.docker.network.container_iface_prefix"

/* ---- options ---- */

static const struct {
	const char *name;
	uint32_t mode;
} MODES[] = {
	{ "bridge", MACVLAN_MODE_BRIDGE },
	{ "private", MACVLAN_MODE_PRIVATE },
	{ "vepa", MACVLAN_MODE_VEPA },
	{ "passthru", MACVLAN_MODE_PASSTHRU },
};

const char *mode_name(uint32_t mode)
{
	for (size_t i = 0; i < sizeof MODES / sizeof MODES[0]; i++) {
		if (MODES[i].mode == mode)
			return MODES[i].name;
	}
	return "?";
}

static int read_mode(struct network *network, const char *value, struct gantry_error *err)
{
	for (size_t i = 0; i < sizeof MODES / sizeof MODES[0]; i++) {
		if (strcmp(value, MODES[i].name) == 0) {
			network->mode = MODES[i].mode;
			return 0;
		}
	}
	return gantry_fail(err, GANTRY_E_INVALID, "network %s: option " OPT_MODE " is \"%.32s\"; allowed are bridge, private, vepa and passthru", network->name,
			   value);
}

static int read_parent(struct network *network, const char *value, struct gantry_error *err)
{
	if (!value[0])
		return 0;
	if (strcmp(value, "lo") == 0)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: option " OPT_PARENT " is lo; loopback cannot carry macvlan links", network->name);
	if (!ifname_valid(value))
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: option " OPT_PARENT " is \"%.32s\", which cannot name an interface: up to 15 of [A-Za-z0-9_.-]",
				   network->name, value);
	if (strncmp(value, PARENT_PREFIX, strlen(PARENT_PREFIX)) == 0)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: option " OPT_PARENT " is %s; names that begin with " PARENT_PREFIX
				   " are those of networks without a parent", network->name, value);
	snprintf(network->parent, sizeof network->parent, "%s", value);
	return 0;
}

static int read_option(struct network *network, const char *key, const char *value, struct gantry_error *err)
{
	if (strcmp(key, OPT_PARENT) == 0)
		return read_parent(network, value, err);
	if (strcmp(key, OPT_MODE) == 0)
		return value[0] ? read_mode(network, value, err) : 0;
	if (strcmp(key, OPT_MTU) == 0)
		return option_number(network->name, key, value, 68, 65535, &network->mtu, err);
	if (strcmp(key, OPT_PREFIX) == 0 && strcmp(value, "eth") == 0)
		return 0;
	if (strcmp(key, OPT_PREFIX) == 0)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: option " OPT_PREFIX " is \"%.32s\"; only \"eth\" is supported", network->name,
				   value);
	return gantry_fail(err, GANTRY_E_INVALID, "network %s: unknown option \"%.64s\" (there are: " OPT_PARENT ", " OPT_MODE ", " OPT_MTU ", " OPT_PREFIX ")",
			   network->name, key);
}

int network_read(const struct gantry_network *from, struct network *to, struct gantry_error *err)
{
	*to = (struct network){ .mode = MACVLAN_MODE_BRIDGE };
	if (!id_valid(from->id))
		return gantry_fail(err, GANTRY_E_INVALID, "a network's id must be 64 hexadecimal digits");
	snprintf(to->id, sizeof to->id, "%s", from->id);
	snprintf(to->name, sizeof to->name, "%s", from->name ? from->name : from->id);
	for (uint32_t i = 0; i < from->options.count; i++) {
		if (read_option(to, from->options.items[i].key, from->options.items[i].value, err) < 0)
			return -1;
	}
	const char *item = (const char *)from->subnets;
	for (size_t i = 0; i < from->subnet_count; i++, item += from->subnet_size)
		to->ipv6 |= ((const struct gantry_subnet *)(const void *)item)->family == 6;
	if (to->ipv6 && !kernel_has_ipv6())
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: this kernel has no IPv6", to->name);
	if (to->ipv6 && to->mtu && to->mtu < 1280)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: an MTU of %u is too small for IPv6, which needs 1280", to->name, to->mtu);
	to->isolated = !to->parent[0];
	to->internal = to->isolated || (from->flags & GANTRY_NETWORK_INTERNAL);
	if (to->isolated && to->mode == MACVLAN_MODE_PASSTHRU)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: mode passthru hands a parent to a container, and no option " OPT_PARENT " names one", to->name);
	if (to->isolated)
		snprintf(to->parent, sizeof to->parent, PARENT_PREFIX "%.12s", to->id);
	return 0;
}

/* ---- records of networks ---- */

struct network *network_find(const struct macvlan *self, const char *id)
{
	struct network *network = self->networks;
	while (network && strcmp(network->id, id) != 0)
		network = network->next;
	return network;
}

struct network *network_beside(const struct macvlan *self, const struct network *network)
{
	struct network *other = self->networks;
	while (other && (strcmp(other->id, network->id) == 0 || strcmp(other->parent, network->parent) != 0))
		other = other->next;
	return other;
}

void network_insert(struct macvlan *self, struct network *network)
{
	network_forget(self, network->id);
	network->next = self->networks;
	self->networks = network;
}

void network_forget(struct macvlan *self, const char *id)
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

/* ---- records of endpoints ---- */

#define LISTS (sizeof ((struct macvlan *)NULL)->endpoints / sizeof ((struct macvlan *)NULL)->endpoints[0])

/* Ids are random hexadecimal digits. */
static size_t list_of(const char *id)
{
	char digits[4] = { id[0], id[1], id[2] };
	return strtoul(digits, NULL, 16) % LISTS;
}

struct endpoint *endpoint_find(const struct macvlan *self, const char *id)
{
	struct endpoint *endpoint = self->endpoints[list_of(id)];
	while (endpoint && strcmp(endpoint->id, id) != 0)
		endpoint = endpoint->next;
	return endpoint;
}

struct endpoint *endpoint_insert(struct macvlan *self, const char *id, const char *network_id)
{
	struct endpoint **list = &self->endpoints[list_of(id)], *endpoint = endpoint_find(self, id);
	if (endpoint)
		return endpoint;
	endpoint = calloc(1, sizeof *endpoint);
	if (!endpoint)
		return NULL;
	snprintf(endpoint->id, sizeof endpoint->id, "%s", id);
	snprintf(endpoint->network_id, sizeof endpoint->network_id, "%s", network_id);
	endpoint->nsid = -1;
	endpoint->next = *list;
	*list = endpoint;
	return endpoint;
}

void endpoint_forget(struct macvlan *self, const char *id)
{
	for (struct endpoint **at = &self->endpoints[list_of(id)]; *at; at = &(*at)->next) {
		if (strcmp((*at)->id, id) == 0) {
			struct endpoint *gone = *at;
			*at = gone->next;
			free(gone);
			return;
		}
	}
}

const struct endpoint *endpoint_in_the_way(const struct macvlan *self, const struct network *network, const char *id, const unsigned char mac[6])
{
	for (size_t i = 0; i < LISTS; i++) {
		for (const struct endpoint *other = self->endpoints[i]; other; other = other->next) {
			if (strcmp(other->id, id) == 0)
				continue;
			if (network->mode == MACVLAN_MODE_PASSTHRU && strcmp(other->network_id, network->id) == 0)
				return other;
			const struct network *its = memcmp(other->mac, mac, sizeof other->mac) == 0 ? network_find(self, other->network_id) : NULL;
			if (its && strcmp(its->parent, network->parent) == 0)
				return other;
		}
	}
	return NULL;
}
