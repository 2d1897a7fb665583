/*
 * network_config.c - networks that are nothing but a configuration (ConfigOnly), and networks that are made from one (ConfigFrom).
 *
 * A configuration holds what is of this host: subnets, the driver's options, labels. It has no driver, takes no subnet from others, and nothing joins it.
 * What is made from it is a network like any other, which keeps its name, so that the configuration is not removed before.
 */
#include <string.h>

#include "engine/network.h"

/* ---- a configuration ---- */

static int check_config_only(const json_t *body, struct gt_error *err)
{
	bool internal = false, attachable = false;
	if (gt_json_bool(body, "Internal", &internal, err) < 0 || gt_json_bool(body, "Attachable", &attachable, err) < 0)
		return -1;
	if (internal || attachable)
		return gt_fail(err, GT_DENIED,
			       "a configuration network can hold subnets, driver options and labels only: give internal and attachable to the network that is made from it");
	return 0;
}

/* ---- a network from a configuration ---- */

static int check_nothing_else(const json_t *body, struct gt_error *err)
{
	json_t *ipam = NULL, *pools = NULL, *options = NULL, *labels = NULL;
	bool ipv6 = false;
	if (gt_json_object(body, "IPAM", &ipam, err) < 0 || gt_json_array(ipam, "Config", &pools, err) < 0 ||
	    gt_json_object(body, "Options", &options, err) < 0 || gt_json_object(body, "Labels", &labels, err) < 0 ||
	    gt_json_bool(body, "EnableIPv6", &ipv6, err) < 0)
		return -1;
	if (json_array_size(pools) || json_object_size(options) || json_object_size(labels) || ipv6)
		return gt_fail(err, GT_DENIED,
			       "user specified configurations are not supported if the network depends on a configuration network: leave out subnets, options, labels and IPv6");
	return 0;
}

/* What the configuration says; the caller's. */
static json_t *configuration(struct gt_networks *networks, const char *name, struct gt_error *err)
{
	LOCKED(&networks->lock);
	const struct network *config = gt_map_get(&networks->by_name, name);
	if (!config)
		return gt_fail_null(err, GT_NOT_FOUND, "could not find configuration network \"%.255s\"", name);
	if (!config->config_only)
		return gt_fail_null(err, GT_INVALID, "network %s is not a configuration network: --config-from wants one that was made with --config-only", name);
	return network_document(config);
}

static int take_configuration(struct gt_networks *networks, struct network *network, json_t *body, const char *from, struct gt_error *err)
{
	static const char *const TAKEN[] = { "IPAM", "Options", "Labels", "EnableIPv4", "EnableIPv6" };
	if (check_nothing_else(body, err) < 0)
		return -1;
	AUTO_JSON json_t *config = configuration(networks, from, err);
	if (!config)
		return -1;
	for (size_t i = 0; i < GT_COUNT(TAKEN); i++)
		json_object_set(body, TAKEN[i], json_object_get(config, TAKEN[i]));
	network->config_from = gt_xstrdup(from);
	return 0;
}

/* ---- both ---- */

json_t *network_configured(struct gt_networks *networks, struct network *network, const json_t *body, struct gt_error *err)
{
	json_t *from = NULL;
	const char *name = NULL;
	if (gt_json_bool(body, "ConfigOnly", &network->config_only, err) < 0 || gt_json_object(body, "ConfigFrom", &from, err) < 0 ||
	    gt_json_string(from, "Network", &name, err) < 0 || (network->config_only && check_config_only(body, err) < 0))
		return NULL;
	bool given = name && name[0];
	if (given && network->config_only)
		return gt_fail_null(err, GT_DENIED, "a configuration network cannot depend on another configuration network (%.255s)", name);
	AUTO_JSON json_t *whole = json_copy((json_t *)body);
	if (given && take_configuration(networks, network, whole, name, err) < 0)
		return NULL;
	return take(whole);
}

const struct network *network_made_from(struct gt_networks *networks, const struct network *config)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; config->config_only && (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		const struct network *network = slot->value;
		if (network->config_from && strcmp(network->config_from, config->name) == 0)
			return network;
	}
	return NULL;
}
