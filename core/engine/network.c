/*
 * network.c - the table of networks: documents, look-up, and who uses which address.
 *
 * A network's document (networks/<id>.json) is written when it is made and never changes. Users are the running containers; they are gathered again from
 * the containers at start-up.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/network.h"

/* ---- birth and end ---- */

struct network *network_new(void)
{
	struct network *network = gt_xcalloc(1, sizeof *network);
	network->created = gt_now();
	network->ipv4 = true;
	return network;
}

void network_free(struct network *network)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; i < network->pool_count; i++) {
		ipam_close(&network->pools[i].addresses);
		free(network->pools[i].range);
		json_decref(network->pools[i].aux);
	}
	for (size_t i = 0; (slot = gt_map_next(&network->users, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&network->users);
	for (size_t i = 0; (slot = gt_map_next(&network->abroad, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&network->abroad);
	free(network->name);
	free(network->driver_name);
	free(network->broken);
	free(network->config_from);
	json_decref(network->options);
	json_decref(network->labels);
	free(network);
}

bool network_has(const struct network *network, uint64_t capability)
{
	return network->driver && (gt_driver_capabilities(network->driver) & capability);
}

bool network_is_host(const struct network *network)
{
	return network_has(network, GANTRY_NET_HOST_NS);
}

bool network_is_none(const struct network *network)
{
	return network_has(network, GANTRY_NET_NONE);
}

/* ---- the tables ---- */

/* Where the name is another's already (one that other hosts made may be called as one of ours is), the id alone finds it. */
void network_insert(struct gt_networks *networks, struct network *network)
{
	gt_map_set(&networks->by_id, network->id, network);
	if (!gt_map_get(&networks->by_name, network->name))
		gt_map_set(&networks->by_name, network->name, network);
}

void network_withdraw(struct gt_networks *networks, struct network *network)
{
	gt_map_remove(&networks->by_id, network->id);
	if (gt_map_get(&networks->by_name, network->name) == network)
		gt_map_remove(&networks->by_name, network->name);
}

static struct network *find_prefix(struct gt_networks *networks, const char *prefix, struct gt_error *err)
{
	struct network *found = NULL;
	struct gt_map_slot *slot;
	size_t len = strlen(prefix);
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		if (strncmp(slot->key, prefix, len))
			continue;
		if (found)
			return gt_fail_null(err, GT_INVALID, "network %s is ambiguous: several ids begin so", prefix);
		found = slot->value;
	}
	return found ? found : gt_fail_null(err, GT_NOT_FOUND, "network %s not found", prefix);
}

struct network *network_find(struct gt_networks *networks, const char *ref, struct gt_error *err)
{
	struct network *network = gt_map_get(&networks->by_id, ref);
	if (!network)
		network = gt_map_get(&networks->by_name, ref);
	if (!network && gt_is_id_prefix(ref))
		return find_prefix(networks, ref, err);
	return network ? network : gt_fail_null(err, GT_NOT_FOUND, "network %.255s not found", ref);
}

int network_check_usable(const struct network *network, struct gt_error *err)
{
	if (network->config_only)
		return gt_fail(err, GT_DENIED, "network %s is a configuration network, which containers cannot join: make a network from it with --config-from",
			       network->name);
	if (network->broken)
		return gt_fail(err, GT_UNAVAILABLE, "network %s cannot be used: %s", network->name, network->broken);
	return 0;
}

struct gt_driver *network_driver(struct gt_engine *engine, const char *network_id, struct gt_error *err)
{
	LOCKED(&engine->networks->lock);
	struct network *network = gt_map_get(&engine->networks->by_id, network_id);
	if (!network)
		return gt_fail_null(err, GT_NOT_FOUND, "network %s not found", network_id);
	return network_check_usable(network, err) < 0 ? NULL : network->driver;
}

void network_event(struct gt_engine *engine, const struct network *network, const char *action, const char *container_id)
{
	gt_event(engine, "network", action, network->id,
		 json_pack("{s:s s:s s:s*}", "name", network->name, "type", network->driver_name, "container", container_id));
}

/* ---- users and their addresses ---- */

/* One address of a family: the wished-for one, or any. Where there is no pool of that family nothing is taken. */
static int take_address(struct network *network, int family, const char *wish, char address[64], char gateway[64], struct gt_error *err)
{
	size_t pools = 0;
	address[0] = gateway[0] = '\0';
	for (size_t i = 0; i < network->pool_count; i++) {
		struct ipam_pool *pool = &network->pools[i].addresses;
		if (pool->family != family)
			continue;
		pools++;
		if (wish && !ipam_contains(pool, wish))
			continue;
		if (wish && ipam_reserve(pool, wish, err) < 0)
			return gt_context(err, "address %s of network %s", wish, network->name);
		if (wish)
			ipam_with_prefix(pool, wish, address);
		else if (ipam_take(pool, address) < 0)
			continue;
		memcpy(gateway, pool->gateway, sizeof pool->gateway);
		return 0;
	}
	if (wish)
		return gt_fail(err, GT_INVALID, "invalid address %s: It does not belong to any of network %s's subnets", wish, network->name);
	return pools ? gt_fail(err, GT_UNAVAILABLE, "no available IPv%d addresses on network %s's address pools", family == AF_INET ? 4 : 6, network->name) : 0;
}

static void give_back(struct network *network, const char *address)
{
	for (size_t i = 0; address[0] && i < network->pool_count; i++)
		ipam_give_back(&network->pools[i].addresses, address);
}

static int take_addresses(struct network *network, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	if (network_has(network, GANTRY_NET_OWN_IPAM)) {
		snprintf(endpoint->ipv4, sizeof endpoint->ipv4, "%s", endpoint->want_ipv4 ? endpoint->want_ipv4 : "");
		snprintf(endpoint->ipv6, sizeof endpoint->ipv6, "%s", endpoint->want_ipv6 ? endpoint->want_ipv6 : "");
		return 0;
	}
	if (take_address(network, AF_INET, endpoint->want_ipv4, endpoint->ipv4, endpoint->gateway4, err) < 0)
		return -1;
	if (take_address(network, AF_INET6, endpoint->want_ipv6, endpoint->ipv6, endpoint->gateway6, err) == 0)
		return 0;
	give_back(network, endpoint->ipv4);
	return -1;
}

static void set_user(struct network *network, const char *container_id, const struct gt_container_endpoint *endpoint)
{
	struct network_user *user = gt_map_get(&network->users, container_id);
	if (!user) {
		user = gt_xcalloc(1, sizeof *user);
		gt_map_set(&network->users, container_id, user);
	}
	memcpy(user->endpoint_id, endpoint->id, sizeof user->endpoint_id);
	memcpy(user->mac, endpoint->mac, sizeof user->mac);
	memcpy(user->ipv4, endpoint->ipv4, sizeof user->ipv4);
	memcpy(user->ipv6, endpoint->ipv6, sizeof user->ipv6);
}

int network_admit(struct gt_engine *engine, const char *container_id, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	LOCKED(&engine->networks->lock);
	struct network *network = gt_map_get(&engine->networks->by_id, endpoint->network_id);
	if (!network)
		return gt_fail(err, GT_NOT_FOUND, "network %s not found", endpoint->network_name);
	if (network_check_usable(network, err) < 0)
		return -1;
	if (take_addresses(network, endpoint, err) < 0)
		return -1;
	set_user(network, container_id, endpoint);
	return 0;
}

void network_readmit(struct gt_engine *engine, const char *container_id, const struct gt_container_endpoint *endpoint)
{
	const char *addresses[] = { endpoint->ipv4, endpoint->ipv6 };
	LOCKED(&engine->networks->lock);
	struct network *network = gt_map_get(&engine->networks->by_id, endpoint->network_id);
	if (!network)
		return;
	for (size_t i = 0; i < network->pool_count; i++) {
		for (size_t a = 0; a < GT_COUNT(addresses); a++) {
			char bare[64];
			snprintf(bare, sizeof bare, "%.*s", (int)strcspn(addresses[a], "/"), addresses[a]);
			if (bare[0] && ipam_contains(&network->pools[i].addresses, bare))
				ipam_reserve(&network->pools[i].addresses, bare, NULL);
		}
	}
	set_user(network, container_id, endpoint);
}

void network_note_user(struct gt_engine *engine, const char *container_id, const struct gt_container_endpoint *endpoint)
{
	LOCKED(&engine->networks->lock);
	struct network *network = gt_map_get(&engine->networks->by_id, endpoint->network_id);
	if (network && gt_map_get(&network->users, container_id))
		set_user(network, container_id, endpoint);
}

void network_dismiss(struct gt_engine *engine, const char *container_id, const struct gt_container_endpoint *endpoint)
{
	LOCKED(&engine->networks->lock);
	struct network *network = gt_map_get(&engine->networks->by_id, endpoint->network_id);
	struct network_user *user = network ? gt_map_remove(&network->users, container_id) : NULL;
	if (!user)
		return;
	free(user);
	if (!network_has(network, GANTRY_NET_OWN_IPAM)) {
		give_back(network, endpoint->ipv4);
		give_back(network, endpoint->ipv6);
	}
}

/* ---- documents ---- */

json_t *network_document(const struct network *network)
{
	return json_pack("{s:i s:s s:s s:s s:I s:b s:b s:b s:b s:b s:b s:s* s:O s:O s:o}", "Version", 1, "Id", network->id, "Name", network->name, "Driver",
			 network->driver_name, "Created", (json_int_t)network->created, "Internal", network->internal, "EnableIPv4", network->ipv4,
			 "EnableIPv6", network->ipv6, "Attachable", network->attachable, "Builtin", network->builtin, "ConfigOnly", network->config_only,
			 "ConfigFrom", network->config_from, "Options", network->options, "Labels",
			 network->labels, "IPAM", network_pools_to_json(network));
}

int network_save(struct gt_networks *networks, const struct network *network, struct gt_error *err)
{
	AUTO_JSON json_t *document = network_document(network);
	if (!document)
		return gt_fail(err, GT_INTERNAL, "network %s cannot be written as JSON", network->name);
	return gt_store_put(networks->documents, network->id, document, true, err);
}

int network_read_document(struct network *network, const char *id, json_t *document, struct gt_error *err)
{
	const char *name = NULL, *driver = NULL, *config = NULL;
	json_t *options = NULL, *labels = NULL, *ipam = NULL;
	int64_t version = 0;
	if (gt_json_int(document, "Version", &version, err) < 0 || gt_json_string(document, "Name", &name, err) < 0 ||
	    gt_json_string(document, "Driver", &driver, err) < 0 || gt_json_int(document, "Created", &network->created, err) < 0 ||
	    gt_json_bool(document, "Internal", &network->internal, err) < 0 || gt_json_bool(document, "EnableIPv4", &network->ipv4, err) < 0 ||
	    gt_json_bool(document, "EnableIPv6", &network->ipv6, err) < 0 || gt_json_bool(document, "Attachable", &network->attachable, err) < 0 ||
	    gt_json_bool(document, "Builtin", &network->builtin, err) < 0 || gt_json_bool(document, "ConfigOnly", &network->config_only, err) < 0 ||
	    gt_json_string(document, "ConfigFrom", &config, err) < 0 || gt_json_object(document, "Options", &options, err) < 0 ||
	    gt_json_object(document, "Labels", &labels, err) < 0 || gt_json_object(document, "IPAM", &ipam, err) < 0)
		return -1;
	if (version != 1 || !gt_is_id(id) || !name || !driver || !gt_is_name(name))
		return gt_fail(err, GT_INVALID, "not a network's document of version 1");
	memcpy(network->id, id, sizeof network->id);
	network->name = gt_xstrdup(name);
	network->driver_name = gt_xstrdup(driver);
	network->config_from = config ? gt_xstrdup(config) : NULL;
	network->options = options ? json_incref(options) : json_object();
	network->labels = labels ? json_incref(labels) : json_object();
	return network_read_pools(network, ipam, err);
}

/* A network whose driver is missing or refuses it stays in the table: it can be inspected and removed, and says why it cannot be used. */
static int load_one(void *arg, const char *id, json_t *document)
{
	struct gt_engine *engine = arg;
	struct gt_error err = { 0 };
	struct network *network = network_new();
	if (network_read_document(network, id, document, &err) < 0) {
		gt_warn("a network's document is not one and is passed over", "document", id, "error", err.message);
		network_free(network);
		return 0;
	}
	if (!network->config_only)
		network->driver = gt_driver_find(engine->drivers, GANTRY_NETWORK, network->driver_name, &err);
	if (!network->config_only && (!network->driver || network_tell_driver(network, true, &err) < 0)) {
		gt_warn("a network cannot be used", "network", network->name, "error", err.message);
		network->broken = gt_xstrdup(err.message);
	}
	network_insert(engine->networks, network);
	return 0;
}

/* ---- open, close, reconcile ---- */

static int add_builtin(struct gt_engine *engine, const char *name, const char *driver, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	char id[65];
	if (gt_map_get(&engine->networks->by_name, name))
		return 0;
	AUTO_JSON json_t *body = json_pack("{s:s s:s s:{}}", "Name", name, "Driver", driver, "Options");
	AUTO_JSON json_t *pools = json_array();
	if (strcmp(name, "bridge") == 0) {
		json_object_set_new(body, "Options", json_pack("{s:s s:s}", "com.docker.network.bridge.default_bridge", "true",
							       "com.docker.network.bridge.name", "gtbr0"));
		if (config->bridge_subnet[0])
			json_array_append_new(pools, json_pack("{s:s}", "Subnet", config->bridge_subnet));
		if (config->bridge_subnet6[0])
			json_array_append_new(pools, json_pack("{s:s}", "Subnet", config->bridge_subnet6));
		json_object_set_new(body, "EnableIPv6", json_boolean(config->bridge_subnet6[0]));
	}
	json_object_set_new(body, "IPAM", json_pack("{s:O}", "Config", pools));
	return network_add(engine, body, true, id, err);
}

int gt_networks_open(struct gt_engine *engine, struct gt_error *err)
{
	static const char *const BUILTIN[][2] = { { "bridge", "bridge" }, { "host", "host" }, { "none", "null" } };
	struct gt_networks *networks = engine->networks = gt_xcalloc(1, sizeof *networks);
	pthread_mutex_init(&networks->lock, NULL);
	pthread_mutex_init(&networks->changing, NULL);
	networks->documents = gt_store_collection(engine->store, "networks", err);
	if (!networks->documents || gt_store_each(networks->documents, load_one, engine, err) < 0)
		return -1;
	network_check_places(networks);
	for (size_t i = 0; i < GT_COUNT(BUILTIN); i++) {
		struct gt_error local = { 0 };
		if (add_builtin(engine, BUILTIN[i][0], BUILTIN[i][1], &local) < 0)
			gt_warn("a default network is missing", "network", BUILTIN[i][0], "error", local.message);
	}
	return 0;
}

void gt_networks_close(struct gt_engine *engine)
{
	struct gt_networks *networks = engine->networks;
	struct gt_map_slot *slot;
	if (!networks)
		return;
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;)
		network_free(slot->value);
	for (size_t i = 0; (slot = gt_map_next(&networks->linked, &i)) != NULL;) {
		gt_strings_free(slot->value);
		free(slot->value);
	}
	gt_map_free(&networks->linked);
	gt_map_free(&networks->by_id);
	gt_map_free(&networks->by_name);
	pthread_mutex_destroy(&networks->lock);
	pthread_mutex_destroy(&networks->changing);
	free(networks);
	engine->networks = NULL;
}

/* What one driver is to find, gathered from the running containers. */
struct inventory {
	struct gantry_endpoint *endpoints;
	struct gt_strings *names;       /* of each endpoint */
	size_t endpoint_count;
	struct gantry_port *ports;
	uint32_t *owners;
	size_t port_count;
};

/* Every name list that is borrowed by an endpoint goes with the inventory. */
static void describe_named(struct gt_container *ctr, const struct gt_container_endpoint *endpoint, struct inventory *stock)
{
	struct gt_strings names = { 0 };
	endpoint_names(ctr, endpoint, &names);
	stock->endpoints = gt_xrealloc(stock->endpoints, (stock->endpoint_count + 1) * sizeof *stock->endpoints);
	stock->names = gt_xrealloc(stock->names, (stock->endpoint_count + 1) * sizeof *stock->names);
	stock->names[stock->endpoint_count] = names;
	stock->endpoints[stock->endpoint_count] = endpoint_describe(ctr, endpoint);
	stock->endpoints[stock->endpoint_count].names = (const char *const *)names.items;
	stock->endpoints[stock->endpoint_count].name_count = names.count;
}

static void free_stock(struct inventory *stock)
{
	for (size_t i = 0; i < stock->endpoint_count; i++)
		gt_strings_free(&stock->names[i]);
	free(stock->names);
	free(stock->endpoints);
	free(stock->ports);
	free(stock->owners);
}

static void take_stock(struct gt_engine *engine, const struct gt_driver *driver, struct gt_container **all, struct inventory *stock)
{
	for (size_t c = 0; all[c]; c++) {
		for (size_t e = 0; e < all[c]->endpoint_count; e++) {
			const struct gt_container_endpoint *endpoint = &all[c]->endpoints[e];
			if (!endpoint_joined(endpoint) || network_driver(engine, endpoint->network_id, NULL) != driver)
				continue;
			size_t before = stock->port_count;
			describe_named(all[c], endpoint, stock);
			ports_of_json(endpoint->ports, &stock->ports, &stock->port_count);
			stock->owners = gt_xrealloc(stock->owners, (stock->port_count + 1) * sizeof *stock->owners);
			for (size_t p = before; p < stock->port_count; p++)
				stock->owners[p] = (uint32_t)stock->endpoint_count;
			stock->endpoint_count++;
		}
	}
}

void gt_networks_reconcile(struct gt_engine *engine)
{
	AUTO_JSON json_t *names = gt_driver_names(engine->drivers, GANTRY_NETWORK);
	struct gt_container **all = gt_containers_all(engine, NULL);
	json_t *name;
	size_t i;
	json_array_foreach(names, i, name) {
		struct gt_error err = { 0 };
		struct inventory stock = { 0 };
		struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_NETWORK, json_string_value(name), &err);
		if (!driver || (gt_driver_capabilities(driver) & (GANTRY_NET_HOST_NS | GANTRY_NET_NONE)))
			continue;
		take_stock(engine, driver, all, &stock);
		if (gt_net_reconcile(driver, stock.endpoints, stock.endpoint_count, stock.ports, stock.owners, stock.port_count, &err) < 0 &&
		    err.kind != GT_UNSUPPORTED)
			gt_err("a network driver could not put its things in order", "driver", json_string_value(name), "error", err.message);
		free_stock(&stock);
	}
	for (i = 0; all[i]; i++) {
		LOCKED(&all[i]->op);
		gt_endpoints_resettle(all[i]);
	}
	gt_containers_put(all);
}

/* ---- a driver that has come ---- */

/* The next network of the driver's that has none. With the lock held. *used: one has containers, which nobody can tell the driver of now. */
static struct network *next_without(struct gt_networks *networks, const char *driver_name, bool *used)
{
	struct gt_map_slot *slot;
	struct network *found = NULL;
	*used = false;
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		struct network *network = slot->value;
		if (network->config_only || strcmp(network->driver_name, driver_name) != 0)
			continue;
		*used |= network->users.count > 0;
		if (!network->driver)
			found = network;
	}
	return found;
}

static int take_up(struct gt_networks *networks, struct network *network, struct gt_driver *driver, struct gt_error *err)
{
	struct network told = *network;
	told.driver = driver;
	if (network_tell_driver(&told, true, err) < 0)
		return -1;
	LOCKED(&networks->lock);
	network->driver = driver;
	free(take(network->broken));
	return 0;
}

void gt_networks_take_up(struct gt_engine *engine, const char *driver_name)
{
	struct gt_networks *networks = engine->networks;
	struct gt_error err = { 0 };
	struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_NETWORK, driver_name, &err);
	LOCKED(&networks->changing);
	while (driver) {
		bool used;
		pthread_mutex_lock(&networks->lock);
		struct network *network = next_without(networks, driver_name, &used);
		pthread_mutex_unlock(&networks->lock);
		if (used) {
			gt_warn("containers have networks of a driver that was not there: these networks can be used after a restart of the daemon", "driver",
				driver_name);
			return;
		}
		if (!network)
			break;
		if (take_up(networks, network, driver, &err) < 0) {
			gt_warn("a network cannot be used", "network", network->name, "error", err.message);
			return;
		}
	}
	if (driver && !(gt_driver_capabilities(driver) & (GANTRY_NET_HOST_NS | GANTRY_NET_NONE)) &&
	    gt_net_reconcile(driver, NULL, 0, NULL, NULL, 0, &err) < 0 && err.kind != GT_UNSUPPORTED)
		gt_err("a network driver could not put its things in order", "driver", driver_name, "error", err.message);
}
