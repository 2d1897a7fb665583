/*
 * network_create.c - networks come and go: a request is checked, subnets are found, the driver is told, the document comes last.
 *
 * One creation or removal at a time (networks->changing), so that names and subnets that were free stay free while the driver works.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/network.h"

#define MAX_NETWORKS 4096
#define MAX_STRINGS 1024
#define ULA_TRIES 65536

/* ---- pools ---- */

/* Addresses that others use on the wire: reserved, never handed out. */
static int reserve_aux(struct network_pool *pool, const json_t *aux, struct gt_error *err)
{
	const char *name;
	json_t *address;
	json_object_foreach((json_t *)aux, name, address) {
		if (ipam_reserve(&pool->addresses, json_string_value(address), err) < 0)
			return gt_context(err, "auxiliary address %.64s", name);
	}
	pool->aux = json_object_size(aux) ? json_deep_copy(aux) : NULL;
	return 0;
}

static int read_pool(struct network *network, const json_t *config, struct gt_error *err)
{
	const char *subnet = NULL, *range = NULL, *gateway = NULL;
	json_t *aux = NULL;
	if (gt_json_string(config, "Subnet", &subnet, err) < 0 || gt_json_string(config, "IPRange", &range, err) < 0 ||
	    gt_json_string(config, "Gateway", &gateway, err) < 0 || gt_json_string_map(config, "AuxiliaryAddresses", MAX_STRINGS, &aux, err) < 0)
		return -1;
	if (!subnet || !subnet[0]) {
		if ((range && range[0]) || (gateway && gateway[0]) || json_object_size(aux))
			return gt_fail(err, GT_INVALID, "IPAM: an ip-range, a gateway or auxiliary addresses need a subnet that they belong to");
		return 0;
	}
	if (network->pool_count == NETWORK_MAX_POOLS)
		return gt_fail(err, GT_TOO_LARGE, "a network has at most %d subnets", NETWORK_MAX_POOLS);
	struct network_pool *pool = &network->pools[network->pool_count];
	if (ipam_open(&pool->addresses, subnet, range, gateway, err) < 0)
		return -1;
	network->pool_count++; /* closed with the network from here on */
	pool->range = range && range[0] ? gt_xstrdup(range) : NULL;
	return reserve_aux(pool, aux, err);
}

int network_read_pools(struct network *network, const json_t *ipam, struct gt_error *err)
{
	json_t *configs = NULL, *config;
	size_t i;
	if (gt_json_array(ipam, "Config", &configs, err) < 0)
		return -1;
	json_array_foreach(configs, i, config) {
		if (!json_is_object(config))
			return gt_fail(err, GT_INVALID, "IPAM.Config holds something that is not an object");
		if (read_pool(network, config, err) < 0)
			return -1;
	}
	return 0;
}

const struct network *network_overlapping(struct gt_networks *networks, const struct network *except, const char *subnet)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		const struct network *other = slot->value;
		for (size_t p = 0; other != except && !other->config_only && p < other->pool_count; p++) {
			if (ipam_overlap(subnet, other->pools[p].addresses.subnet))
				return other;
		}
	}
	return NULL;
}

static bool is_free(struct gt_networks *networks, const char *subnet)
{
	pthread_mutex_lock(&networks->lock);
	bool taken = network_overlapping(networks, NULL, subnet) != NULL;
	pthread_mutex_unlock(&networks->lock);
	return !taken && !ipam_on_host(subnet);
}

static int check_overlaps(struct gt_networks *networks, const struct network *network, struct gt_error *err)
{
	LOCKED(&networks->lock);
	for (size_t i = 0; i < network->pool_count; i++) {
		const char *subnet = network->pools[i].addresses.subnet;
		const struct network *other = network_overlapping(networks, NULL, subnet);
		if (other)
			return gt_fail(err, GT_DENIED,
				       "invalid pool request: Pool overlaps with other one on this address space: subnet %s with network %s", subnet, other->name);
		for (size_t k = 0; k < i; k++) {
			if (ipam_overlap(subnet, network->pools[k].addresses.subnet))
				return gt_fail(err, GT_INVALID, "subnets %s and %s of one network overlap", subnet, network->pools[k].addresses.subnet);
		}
	}
	return 0;
}

static size_t count_pools(const struct network *network, int family)
{
	size_t count = 0;
	for (size_t i = 0; i < network->pool_count; i++)
		count += network->pools[i].addresses.family == family;
	return count;
}

static int open_pool(struct network *network, const char *subnet, struct gt_error *err)
{
	if (network->pool_count == NETWORK_MAX_POOLS)
		return gt_fail(err, GT_TOO_LARGE, "a network has at most %d subnets", NETWORK_MAX_POOLS);
	if (ipam_open(&network->pools[network->pool_count].addresses, subnet, NULL, NULL, err) < 0)
		return -1;
	network->pool_count++;
	return 0;
}

/* The first free one of the configured pools. */
static int pick_subnet4(struct gt_engine *engine, struct network *network, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	bool global = network_has(network, GANTRY_NET_GLOBAL);
	const struct gt_strings *pools = global ? &config->global_address_pools : &config->address_pools;
	char subnet[64];
	for (size_t i = 0; i < pools->count; i++) {
		for (unsigned n = 0; ipam_candidate(pools->items[i], n, subnet); n++) {
			if (!strchr(subnet, ':') && is_free(engine->networks, subnet))
				return open_pool(network, subnet, err);
		}
	}
	return gt_fail(err, GT_UNAVAILABLE,
		       "all predefined address pools have been fully subnetted: give a --subnet, remove networks, or extend [network] %saddress_pools",
		       global ? "global_" : "");
}

/* A unique local /64 (RFC 4193): 40 bits of this engine's own, 16 that count. */
static int pick_subnet6(struct gt_engine *engine, struct network *network, struct gt_error *err)
{
	const char *own = engine->engine_id;
	char subnet[64];
	for (unsigned n = 0; n < ULA_TRIES; n++) {
		struct in6_addr address = { 0 };
		char text[INET6_ADDRSTRLEN], written[64];
		snprintf(written, sizeof written, "fd%.2s:%.4s:%.4s:%x::", own, own + 2, own + 6, n);
		if (inet_pton(AF_INET6, written, &address) != 1 || !inet_ntop(AF_INET6, &address, text, sizeof text))
			break;
		snprintf(subnet, sizeof subnet, "%s/64", text);
		if (is_free(engine->networks, subnet))
			return open_pool(network, subnet, err);
	}
	return gt_fail(err, GT_UNAVAILABLE, "no IPv6 subnet is free: give a --subnet");
}

static int find_pools(struct gt_engine *engine, struct network *network, struct gt_error *err)
{
	if (count_pools(network, AF_INET) && !network->ipv4)
		return gt_fail(err, GT_INVALID, "an IPv4 subnet is given for a network without IPv4");
	if (!network->ipv4 && !network->ipv6)
		return gt_fail(err, GT_INVALID, "a network needs IPv4, IPv6 or both");
	if (check_overlaps(engine->networks, network, err) < 0)
		return -1;
	if (network->ipv4 && !count_pools(network, AF_INET) && pick_subnet4(engine, network, err) < 0)
		return -1;
	return network->ipv6 && !count_pools(network, AF_INET6) ? pick_subnet6(engine, network, err) : 0;
}

/* ---- the request ---- */

static int refuse_unsupported(const json_t *body, struct gt_error *err)
{
	const char *scope = NULL, *driver = NULL;
	bool ingress = false;
	json_t *ipam = NULL, *options = NULL;
	if (gt_json_string(body, "Scope", &scope, err) < 0 || gt_json_bool(body, "Ingress", &ingress, err) < 0 ||
	    gt_json_object(body, "IPAM", &ipam, err) < 0 || gt_json_string(ipam, "Driver", &driver, err) < 0 ||
	    gt_json_object(ipam, "Options", &options, err) < 0)
		return -1;
	if (ingress || (scope && scope[0] && strcmp(scope, "local")))
		return gt_fail(err, GT_UNSUPPORTED, "networks of scope swarm or ingress are not supported: this engine has no swarm mode");
	if (driver && driver[0] && strcmp(driver, "default") && strcmp(driver, "null"))
		return gt_fail(err, GT_UNSUPPORTED, "ipam driver %.64s is not supported: leave it at default", driver);
	if (json_object_size(options))
		return gt_fail(err, GT_UNSUPPORTED, "ipam options are not supported");
	return 0;
}

static json_t *strings_of(const json_t *body, const char *what, struct gt_error *err)
{
	json_t *object = NULL;
	if (gt_json_string_map(body, what, MAX_STRINGS, &object, err) < 0)
		return NULL;
	return object ? json_deep_copy(object) : json_object();
}

static int read_name(struct network *network, const json_t *body, bool builtin, struct gt_error *err)
{
	const char *name = NULL;
	if (gt_json_string(body, "Name", &name, err) < 0)
		return -1;
	if (!name || !gt_is_name(name))
		return gt_fail(err, GT_INVALID, "%s is not a network's name: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name ? name : "\"\"");
	if (!builtin && (strcmp(name, "bridge") == 0 || strcmp(name, "host") == 0 || strcmp(name, "none") == 0 || strcmp(name, "default") == 0 ||
			 strcmp(name, "container") == 0))
		return gt_fail(err, GT_DENIED, "operation is not permitted on predefined %s network", name);
	network->name = gt_xstrdup(name);
	return 0;
}

/* A configuration has none: what it says is for the drivers of the networks that are made from it. */
static int find_driver(struct gt_engine *engine, struct network *network, const char *name, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	const char *wanted = name && name[0] && strcmp(name, "default") ? name : config->default_network_driver;
	network->driver_name = gt_xstrdup(network->config_only ? "null" : wanted);
	if (network->config_only)
		return 0;
	if (!(network->driver = gt_driver_find(engine->drivers, GANTRY_NETWORK, network->driver_name, err)))
		return -1;
	if (network->internal && !network_has(network, GANTRY_NET_INTERNAL))
		return gt_fail(err, GT_UNSUPPORTED, "driver %s has no internal networks", network->driver_name);
	if ((network_is_host(network) || network_is_none(network)) && !network->builtin)
		return gt_fail(err, GT_DENIED, "only one instance of \"%s\" network is allowed", network->driver_name);
	return 0;
}

static int read_request(struct gt_engine *engine, struct network *network, const json_t *request, struct gt_error *err)
{
	const char *driver = NULL;
	json_t *ipam = NULL;
	if (read_name(network, request, network->builtin, err) < 0 || refuse_unsupported(request, err) < 0)
		return -1;
	AUTO_JSON json_t *body = network_configured(engine->networks, network, request, err);
	if (!body)
		return -1;
	if (gt_json_string(body, "Driver", &driver, err) < 0 || gt_json_object(body, "IPAM", &ipam, err) < 0 ||
	    gt_json_bool(body, "Internal", &network->internal, err) < 0 || gt_json_bool(body, "Attachable", &network->attachable, err) < 0 ||
	    gt_json_bool(body, "EnableIPv4", &network->ipv4, err) < 0 || gt_json_bool(body, "EnableIPv6", &network->ipv6, err) < 0 ||
	    !(network->options = strings_of(body, "Options", err)) || !(network->labels = strings_of(body, "Labels", err)))
		return -1;
	if (find_driver(engine, network, driver, err) < 0 || network_read_pools(network, ipam, err) < 0)
		return -1;
	network->ipv6 |= count_pools(network, AF_INET6) > 0;
	return 0;
}

/* ---- the driver ---- */

/* The strings are the network's. */
static const char **reserved_addresses(const struct network *network, size_t *count)
{
	const char **list = NULL, *key;
	json_t *address;
	*count = 0;
	for (size_t i = 0; i < network->pool_count; i++) {
		json_object_foreach(network->pools[i].aux, key, address) {
			list = gt_xrealloc(list, (*count + 1) * sizeof *list);
			list[(*count)++] = json_string_value(address);
		}
	}
	return list;
}

/* NULL where it is not for a driver of networks that span hosts. */
static char *document_for(const struct network *network)
{
	AUTO_JSON json_t *document = network_has(network, GANTRY_NET_GLOBAL) ? network_document(network) : NULL;
	return document ? json_dumps(document, JSON_COMPACT) : NULL;
}

int network_tell_driver(const struct network *network, bool known, struct gt_error *err)
{
	struct gantry_subnet subnets[NETWORK_MAX_POOLS] = { 0 };
	size_t count = 0, reserved_count;
	AUTO_FREE struct gantry_option *options = gt_xcalloc(json_object_size(network->options) + 1, sizeof *options);
	AUTO_FREE const char **reserved = reserved_addresses(network, &reserved_count);
	AUTO_FREE char *document = document_for(network);
	const char *key;
	json_t *value;
	if (document && strlen(document) >= GANTRY_DOCUMENT_MAX)
		return gt_fail(err, GT_TOO_LARGE, "network %s: its labels and options are too long; what other hosts are to know of it has at most %d bytes",
			       network->name, GANTRY_DOCUMENT_MAX);
	for (size_t i = 0; i < network->pool_count; i++) {
		const struct ipam_pool *pool = &network->pools[i].addresses;
		subnets[i].family = pool->family == AF_INET ? 4 : 6;
		memcpy(subnets[i].subnet, pool->subnet, sizeof pool->subnet);
		memcpy(subnets[i].gateway, pool->gateway, sizeof pool->gateway);
		snprintf(subnets[i].range, sizeof subnets[i].range, "%s", network->pools[i].range ? network->pools[i].range : "");
	}
	json_object_foreach(network->options, key, value)
		options[count++] = (struct gantry_option){ key, json_string_value(value) };
	struct gantry_network description = {
		.flags = (network->internal ? GANTRY_NETWORK_INTERNAL : 0) | (network->ipv6 ? GANTRY_NETWORK_IPV6 : 0) |
			 (network->builtin ? GANTRY_NETWORK_DEFAULT : 0) | (known ? GANTRY_NETWORK_KNOWN : 0),
		.id = network->id,
		.name = network->name,
		.subnets = subnets,
		.subnet_count = network->pool_count,
		.options = { .count = (uint32_t)count, .items = options },
		.reserved = reserved,
		.reserved_count = reserved_count,
		.document = document,
	};
	return gt_net_create(network->driver, &description, err);
}

/* ---- create ---- */

static int check_new(struct gt_networks *networks, const struct network *network, struct gt_error *err)
{
	LOCKED(&networks->lock);
	if (gt_map_get(&networks->by_name, network->name))
		return gt_fail(err, GT_CONFLICT, "network with name %s already exists", network->name);
	if (networks->by_id.count >= MAX_NETWORKS)
		return gt_fail(err, GT_TOO_LARGE, "there are %d networks already: prune those that are not used", MAX_NETWORKS);
	return 0;
}

static int make(struct gt_engine *engine, struct network *network, const json_t *body, struct gt_error *err)
{
	struct gt_networks *networks = engine->networks;
	gt_id_new(network->id);
	if (read_request(engine, network, body, err) < 0 || check_new(networks, network, err) < 0)
		return -1;
	bool plain = network->config_only || network_is_host(network) || network_is_none(network) ||
		     (network_has(network, GANTRY_NET_OWN_IPAM) && !network_has(network, GANTRY_NET_GLOBAL));
	if (!plain && find_pools(engine, network, err) < 0)
		return -1;
	if (network->driver && network_tell_driver(network, false, err) < 0)
		return -1;
	if (network_save(networks, network, err) < 0) {
		if (network->driver)
			gt_net_remove(network->driver, network->id, NULL);
		return -1;
	}
	LOCKED(&networks->lock);
	network_insert(networks, network);
	return 0;
}

int network_add(struct gt_engine *engine, const json_t *body, bool builtin, char id[65], struct gt_error *err)
{
	LOCKED(&engine->networks->changing);
	struct network *network = network_new();
	network->builtin = builtin;
	if (make(engine, network, body, err) < 0) {
		network_free(network);
		return -1;
	}
	memcpy(id, network->id, sizeof network->id);
	network_event(engine, network, "create", NULL);
	return 0;
}

json_t *gt_network_create(struct gt_engine *engine, const json_t *body, struct gt_error *err)
{
	char id[65];
	if (network_add(engine, body, false, id, err) < 0)
		return NULL;
	return json_pack("{s:s s:s}", "Id", id, "Warning", "");
}

/* ---- remove ---- */

static int fail_in_use(const struct network *network, struct gt_error *err)
{
	AUTO_BUF struct gt_buf users = { 0 };
	struct gt_map_slot *slot;
	for (size_t i = 0, n = 0; n < 8 && (slot = gt_map_next(&network->users, &i)) != NULL; n++)
		gt_buf_printf(&users, "%s%.12s", users.len ? ", " : "", slot->key);
	return gt_fail(err, GT_DENIED, "error while removing network: network %s has active endpoints (containers %s)", network->name, users.data);
}

/* Out of the table, so that nobody joins while the driver works; back into it where the driver refuses. */
static int unmake(struct gt_engine *engine, struct network *network, struct gt_error *err)
{
	struct gt_networks *networks = engine->networks;
	struct gt_driver *driver = network->driver;
	/* One that cannot be used here may be in use on other hosts. */
	bool ask = driver && (!network->broken || network_has(network, GANTRY_NET_GLOBAL));
	if ((!ask || gt_net_remove(driver, network->id, err) == 0) && gt_store_remove(networks->documents, network->id, err) == 0) {
		network_event(engine, network, "destroy", NULL);
		network_forget_abroad(engine, network);
		network_free(network);
		return 0;
	}
	gt_context(err, "error while removing network %s", network->name);
	LOCKED(&networks->lock);
	network_insert(networks, network);
	return -1;
}

int gt_network_remove(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	struct gt_networks *networks = engine->networks;
	LOCKED(&networks->changing);
	pthread_mutex_lock(&networks->lock);
	int rc = -1;
	const struct network *child;
	struct network *network = network_find(networks, ref, err);
	if (network && network->builtin)
		gt_fail(err, GT_DENIED, "%s is a pre-defined network and cannot be removed", network->name);
	else if (network && network->users.count)
		fail_in_use(network, err);
	else if (network && (child = network_made_from(networks, network)) != NULL)
		gt_fail(err, GT_DENIED, "error while removing network: configuration network \"%s\" is in use by network %s", network->name, child->name);
	else if (network)
		rc = 0;
	if (rc == 0)
		network_withdraw(networks, network);
	pthread_mutex_unlock(&networks->lock);
	return rc == 0 ? unmake(engine, network, err) : -1;
}
