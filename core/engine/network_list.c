/*
 * network_list.c - networks as the API shows them: inspect, list, prune.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/network.h"

#define MAX_PEERS 4096

json_t *network_pools_to_json(const struct network *network)
{
	json_t *configs = json_array();
	for (size_t i = 0; i < network->pool_count; i++) {
		const struct network_pool *pool = &network->pools[i];
		json_t *config = json_pack("{s:s s:s* s:s}", "Subnet", pool->addresses.subnet, "IPRange", pool->range, "Gateway", pool->addresses.gateway);
		if (pool->aux)
			json_object_set(config, "AuxiliaryAddresses", pool->aux);
		json_array_append_new(configs, config);
	}
	return json_pack("{s:s s:{} s:o}", "Driver", "default", "Options", "Config", configs);
}

static json_t *users_to_json(struct gt_engine *engine, const struct network *network)
{
	json_t *containers = json_object();
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&network->users, &i)) != NULL;) {
		const struct network_user *user = slot->value;
		AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, slot->key, NULL);
		char name[256] = "";
		if (ctr) {
			LOCKED(&ctr->lock);
			strncpy(name, ctr->name, sizeof name - 1);
		}
		json_object_set_new(containers, slot->key,
				    json_pack("{s:s s:s s:s s:s s:s}", "Name", name, "EndpointID", user->endpoint_id, "MacAddress", user->mac, "IPv4Address",
					      user->ipv4, "IPv6Address", user->ipv6));
	}
	return containers;
}

json_t *network_describe(struct gt_engine *engine, const struct network *network, bool containers)
{
	char created[36];
	gt_time_format(network->created, created);
	return json_pack("{s:s s:s s:s s:s s:s s:b s:b s:o s:b s:b s:b s:{s:s} s:b s:o s:O s:O}", "Name", network->name, "Id", network->id, "Created",
			 created, "Scope", network_has(network, GANTRY_NET_GLOBAL) ? "global" : "local", "Driver", network->driver_name, "EnableIPv4",
			 network->ipv4, "EnableIPv6", network->ipv6, "IPAM", network_pools_to_json(network), "Internal", network->internal, "Attachable",
			 network->attachable, "Ingress", false, "ConfigFrom", "Network", network->config_from ?: "", "ConfigOnly", network->config_only, "Containers",
			 containers ? users_to_json(engine, network) : json_object(), "Options", network->options, "Labels", network->labels);
}

static int take_peer(void *arg, const char *name, const char *address)
{
	json_array_append_new(arg, json_pack("{s:s s:s}", "Name", name, "IP", address));
	return json_array_size(arg) >= MAX_PEERS;
}

static json_t *describe(struct gt_engine *engine, const char *ref, const char *scope, struct gt_driver **global, struct gt_error *err)
{
	struct gt_networks *networks = engine->networks;
	LOCKED(&networks->lock);
	const struct network *network = network_find(networks, ref, err);
	if (!network)
		return NULL;
	*global = network_has(network, GANTRY_NET_GLOBAL) ? network->driver : NULL;
	if (scope && scope[0] && strcmp(scope, network_has(network, GANTRY_NET_GLOBAL) ? "global" : "local"))
		return gt_fail_null(err, GT_NOT_FOUND, "network %.255s not found in scope %.32s", ref, scope);
	return network_describe(engine, network, true);
}

/* A driver that cannot tell its peers, as an older one, has none. */
json_t *gt_network_inspect(struct gt_engine *engine, const char *ref, const char *scope, struct gt_error *err)
{
	struct gt_driver *global = NULL;
	struct gt_error ignored = { 0 };
	json_t *described = describe(engine, ref, scope, &global, err);
	if (!described || !global)
		return described;
	AUTO_JSON json_t *peers = json_array();
	(void)gt_net_peers(global, json_string_value(json_object_get(described, "Id")), take_peer, peers, &ignored);
	json_object_set(described, "Peers", peers);
	return described;
}

/* ---- list ---- */

/* name and id match by a part of them, as Docker's do. */
static bool part_matches(const json_t *filters, const char *key, const char *value)
{
	const json_t *parts = json_object_get(filters, key);
	json_t *part;
	size_t i;
	json_array_foreach(parts, i, part) {
		if (strstr(value, json_string_value(part)))
			return true;
	}
	return !json_array_size(parts);
}

/* dangling: 1 or 0 as asked for, or -1. */
static bool listed(const struct network *network, const json_t *filters, int dangling)
{
	if (dangling >= 0 && dangling != (network->users.count == 0 && !network->builtin && !network->config_only))
		return false;
	return part_matches(filters, "name", network->name) && part_matches(filters, "id", network->id) &&
	       gt_filter_match(filters, "driver", network->driver_name) &&
	       gt_filter_match(filters, "scope", network_has(network, GANTRY_NET_GLOBAL) ? "global" : "local") &&
	       gt_filter_match(filters, "type", network->builtin ? "builtin" : "custom") &&
	       gt_filter_match_labels(filters, "label", network->labels);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct network *const *)a)->name, (*(struct network *const *)b)->name);
}

json_t *gt_network_list(struct gt_engine *engine, const json_t *filters, struct gt_error *err)
{
	static const char *const KNOWN[] = { "dangling", "driver", "id", "label", "name", "scope", "type", NULL };
	struct gt_networks *networks = engine->networks;
	struct gt_map_slot *slot;
	size_t count = 0;
	static const char *const TYPES[] = { "builtin", "custom", NULL };
	int dangling;
	if (gt_filter_check(filters, KNOWN, err) < 0 || gt_filter_check_values(filters, "type", TYPES, err) < 0 ||
	    gt_filter_bool(filters, "dangling", &dangling, err) < 0)
		return NULL;
	json_t *rows = json_array();
	LOCKED(&networks->lock);
	AUTO_FREE struct network **sorted = gt_xcalloc(networks->by_id.count + 1, sizeof *sorted);
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		if (listed(slot->value, filters, dangling))
			sorted[count++] = slot->value;
	}
	qsort(sorted, count, sizeof *sorted, by_name);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(rows, network_describe(engine, sorted[i], false));
	return rows;
}

/* ---- prune ---- */

static int64_t until_of(const json_t *filters, struct gt_error *err)
{
	int64_t until = INT64_MAX;
	const json_t *values = json_object_get(filters, "until");
	if (json_array_size(values) > 1) {
		gt_fail(err, GT_INVALID, "more than one until filter specified");
		return -1;
	}
	if (json_array_size(values) && gt_time_parse(json_string_value(json_array_get(values, 0)), &until, err) < 0)
		return -1;
	return until;
}

static bool prunable(const struct network *network, const json_t *filters, int64_t until)
{
	/* Whether other hosts' containers mean to come back to a network that spans hosts is not known here. */
	return !network->builtin && !network->config_only && !network_has(network, GANTRY_NET_GLOBAL) && !network->users.count && network->created < until &&
	       gt_filter_match_prune(filters, network->labels);
}

/* A stopped container keeps its networks, as it is to come back to them. */
static void spare_networks_of_containers(struct gt_engine *engine, struct gt_map *spared)
{
	struct gt_container **all = gt_containers_all(engine, NULL);
	for (size_t c = 0; all[c]; c++) {
		LOCKED(&all[c]->lock);
		for (size_t i = 0; i < all[c]->endpoint_count; i++)
			gt_map_set(spared, all[c]->endpoints[i].network_id, spared);
	}
	gt_containers_put(all);
}

json_t *gt_networks_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err)
{
	static const char *const KNOWN[] = { "label", "label!", "until", NULL };
	struct gt_networks *networks = engine->networks;
	struct gt_map_slot *slot;
	struct gt_strings ids = { 0 }, names = { 0 };
	struct gt_map spared = { 0 };
	int64_t until = gt_filter_check(filters, KNOWN, err) < 0 ? -1 : until_of(filters, err);
	if (until < 0)
		return NULL;
	spare_networks_of_containers(engine, &spared);
	pthread_mutex_lock(&networks->lock);
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		const struct network *network = slot->value;
		if (!prunable(network, filters, until) || gt_map_get(&spared, network->id))
			continue;
		gt_strings_add(&ids, network->id);
		gt_strings_add(&names, network->name);
	}
	pthread_mutex_unlock(&networks->lock);
	json_t *deleted = json_array();
	for (size_t i = 0; i < ids.count; i++) {
		struct gt_error local = { 0 };
		if (gt_network_remove(engine, ids.items[i], &local) == 0)
			json_array_append_new(deleted, json_string(names.items[i]));
		else
			gt_warn("a network was not pruned", "network", names.items[i], "error", local.message);
	}
	gt_strings_free(&ids);
	gt_strings_free(&names);
	gt_map_free(&spared);
	gt_event(engine, "network", "prune", "", json_pack("{s:s}", "reclaimed", "0"));
	return json_pack("{s:o}", "NetworksDeleted", deleted);
}
