/*
 * args.c - what a container asks for, as CNI says it: capability arguments (runtimeConfig; CNI's CONVENTIONS.md). A wish that no plugin of the configuration
 * understands is refused: passed over in silence it would be lost.
 */
#include "cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MAX (1ll << 50)            /* bits, and bits per second */

static const char *const RATES[] = { "ingressRate", "ingressBurst", "egressRate", "egressBurst" };

bool args_any_has(const json_t *conf, const char *capability)
{
	size_t i;
	json_t *plugin;
	json_array_foreach(json_object_get(conf, "plugins"), i, plugin) {
		if (conf_has_capability(plugin, capability))
			return true;
	}
	return false;
}

static int needs(const json_t *conf, const char *network, const char *capability, const char *wish, struct gantry_error *err)
{
	if (args_any_has(conf, capability))
		return 0;
	return gantry_fail(err, GANTRY_E_INVALID, "network %.64s: %s cannot be wished for: no plugin of its CNI configuration has the capability %s", network, wish, capability);
}

static bool is_rate(const char *key)
{
	for (size_t i = 0; i < sizeof RATES / sizeof RATES[0]; i++) {
		if (strcmp(RATES[i], key) == 0)
			return true;
	}
	return false;
}

static int read_rates(const char *network, const struct gantry_options *options, json_t *rates, struct gantry_error *err)
{
	for (uint32_t i = 0; i < options->count; i++) {
		const char *key = options->items[i].key, *value = options->items[i].value;
		char *end = NULL;
		errno = 0;
		long long bits = strtoll(value, &end, 10);
		if (!is_rate(key))
			return gantry_fail(err, GANTRY_E_INVALID, "network %.64s: unknown endpoint option %.64s (there are: ingressRate, ingressBurst, egressRate, egressBurst)",
					   network, key);
		if (value[0] < '0' || value[0] > '9' || *end || errno || bits < 1 || bits > RATE_MAX)
			return gantry_fail(err, GANTRY_E_INVALID, "network %.64s: %s: \"%.64s\" is no number of bits from 1 to %lld", network, key, value, RATE_MAX);
		json_object_set_new(rates, key, json_integer(bits));
	}
	/* A rate without a burst, or the other way round, is no limit to the plugin. */
	for (size_t i = 0; i < sizeof RATES / sizeof RATES[0]; i += 2) {
		if (!json_object_get(rates, RATES[i]) != !json_object_get(rates, RATES[i + 1]))
			return gantry_fail(err, GANTRY_E_INVALID, "network %.64s: %s and %s go together: give both", network, RATES[i], RATES[i + 1]);
	}
	return 0;
}

static int add_rates(const json_t *conf, const char *network, const struct gantry_options *options, json_t *args, struct gantry_error *err)
{
	if (!options->count)
		return 0;
	json_t *rates = json_object();
	int rc = read_rates(network, options, rates, err);
	if (rc == 0)
		rc = needs(conf, network, "bandwidth", "a limit of bandwidth", err);
	if (rc == 0)
		json_object_set(args, "bandwidth", rates);
	json_decref(rates);
	return rc;
}

static void add_list(json_t *args, const char *key, const char *const *texts, size_t count)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++) {
		if (texts[i] && texts[i][0])
			json_array_append_new(list, json_string(texts[i]));
	}
	if (json_array_size(list))
		json_object_set(args, key, list);
	json_decref(list);
}

int args_add_wishes(const json_t *conf, const char *network, const struct gantry_endpoint *endpoint, json_t *args, struct gantry_error *err)
{
	const char *const addresses[] = { endpoint->ipv4, endpoint->ipv6 };
	add_list(args, "ips", addresses, 2);
	add_list(args, "aliases", endpoint->names, endpoint->name_count);
	if (json_object_get(args, "ips") && needs(conf, network, "ips", "an address", err) < 0)
		return -1;
	if (endpoint->mac[0]) {
		if (needs(conf, network, "mac", "a MAC address", err) < 0)
			return -1;
		json_object_set_new(args, "mac", json_string(endpoint->mac));
	}
	return add_rates(conf, network, &endpoint->options, args, err);
}
