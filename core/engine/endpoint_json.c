/*
 * endpoint_json.c - endpoints as others see them: Docker's EndpointSettings in, NetworkSettings out, and the store's own form.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/network.h"

#define MAX_NAMES 256
#define MAX_OPTIONS 32
#define MAX_ENDPOINTS 64

/* ---- settings, as a user gives them ---- */

static int read_address(const json_t *config, const char *name, int family, char **address, struct gt_error *err)
{
	const char *text = NULL;
	struct in6_addr parsed;
	if (gt_json_string(config, name, &text, err) < 0)
		return -1;
	if (!text || !text[0])
		return 0;
	if (inet_pton(family, text, &parsed) != 1)
		return gt_fail(err, GT_INVALID, "invalid IPv%d address: %.64s", family == AF_INET ? 4 : 6, text);
	*address = gt_xstrdup(text);
	return 0;
}

static int read_mac(const json_t *settings, char **mac, struct gt_error *err)
{
	const char *text = NULL;
	unsigned b[6];
	char tail;
	if (gt_json_string(settings, "MacAddress", &text, err) < 0)
		return -1;
	if (!text || !text[0])
		return 0;
	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:-") != 17 ||
	    (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &tail) != 6 &&
	     sscanf(text, "%2x-%2x-%2x-%2x-%2x-%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &tail) != 6) ||
	    (b[0] & 1) || !(b[0] | b[1] | b[2] | b[3] | b[4] | b[5]))
		return gt_fail(err, GT_INVALID, "invalid MAC address: %.32s: six bytes are wanted, like 02:42:ac:11:00:02", text);
	*mac = gt_xasprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
	return 0;
}

static int read_names(const json_t *settings, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	static const struct gt_json_field NAMES[] = { GT_JSON_FIELD(GT_JSON_STRINGS, struct gt_container_endpoint, aliases, "Aliases"),
						      GT_JSON_FIELD(GT_JSON_STRINGS, struct gt_container_endpoint, links, "Links"),
						      { .name = NULL } };
	if (gt_json_decode(settings, NAMES, endpoint, err) < 0)
		return -1;
	if (endpoint->aliases.count > MAX_NAMES || endpoint->links.count > MAX_NAMES)
		return gt_fail(err, GT_TOO_LARGE, "an endpoint has at most %d aliases and as many links", MAX_NAMES);
	for (size_t i = 0; i < endpoint->links.count; i++) {
		const char *link = endpoint->links.items[i], *colon = strchr(link, ':');
		if (!link[0] || link[0] == ':' || (colon && (!colon[1] || strchr(colon + 1, ':'))) || strlen(link) > 512 || strpbrk(link, " \t\n\r"))
			return gt_fail(err, GT_INVALID, "bad format for links: %.64s: NAME:ALIAS is wanted", link);
	}
	for (size_t i = 0; i < endpoint->aliases.count; i++) {
		const char *alias = endpoint->aliases.items[i];
		if (!alias[0] || strlen(alias) > 253 || strpbrk(alias, " \t\n\r/"))
			return gt_fail(err, GT_INVALID, "invalid network alias: %.64s", alias);
	}
	return 0;
}

static int read_options(const json_t *settings, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	json_t *options = NULL, *value;
	const char *key;
	if (gt_json_object(settings, "DriverOpts", &options, err) < 0)
		return -1;
	if (json_object_size(options) > MAX_OPTIONS)
		return gt_fail(err, GT_TOO_LARGE, "an endpoint has at most %d driver options", MAX_OPTIONS);
	json_object_foreach(options, key, value) {
		if (!json_is_string(value))
			return gt_fail(err, GT_INVALID, "DriverOpts: the value of %.64s is not a string", key);
	}
	endpoint->driver_opts = json_object_size(options) ? json_deep_copy(options) : NULL;
	return 0;
}

int endpoint_read(const json_t *settings, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	json_t *ipam = NULL, *local = NULL;
	if (!settings || json_is_null(settings))
		return 0;
	if (!json_is_object(settings))
		return gt_fail(err, GT_INVALID, "an endpoint's settings are not an object");
	if (gt_json_object(settings, "IPAMConfig", &ipam, err) < 0 || gt_json_array(ipam, "LinkLocalIPs", &local, err) < 0)
		return -1;
	if (json_array_size(local))
		return gt_fail(err, GT_UNSUPPORTED, "IPAMConfig.LinkLocalIPs is not supported");
	return read_address(ipam, "IPv4Address", AF_INET, &endpoint->want_ipv4, err) < 0 ||
			       read_address(ipam, "IPv6Address", AF_INET6, &endpoint->want_ipv6, err) < 0 || read_mac(settings, &endpoint->want_mac, err) < 0 ||
			       read_names(settings, endpoint, err) < 0 || read_options(settings, endpoint, err) < 0 ||
			       gt_json_int(settings, "GwPriority", &endpoint->gw_priority, err) < 0 ?
		       -1 :
		       0;
}

/* ---- inspect and list ---- */

static json_t *address_only(const char *cidr)
{
	return json_stringn(cidr, strcspn(cidr, "/"));
}

static int prefix_of(const char *cidr)
{
	const char *slash = strchr(cidr, '/');
	return slash ? (int)strtol(slash + 1, NULL, 10) : 0;
}

static json_t *ipam_config(const struct gt_container_endpoint *endpoint)
{
	if (!endpoint->want_ipv4 && !endpoint->want_ipv6)
		return json_null();
	return json_pack("{s:s* s:s*}", "IPv4Address", endpoint->want_ipv4, "IPv6Address", endpoint->want_ipv6);
}

/* The names under which a resolver of the network would know it. With the container's lock held. */
static json_t *dns_names(const struct gt_container *ctr, const struct gt_container_endpoint *endpoint)
{
	struct gt_strings names = { 0 };
	if (!endpoint_has_names(endpoint))
		return json_null();
	endpoint_names(ctr, endpoint, &names);
	json_t *list = gt_strings_to_json(&names);
	gt_strings_free(&names);
	return list;
}

static json_t *endpoint_settings(const struct gt_container *ctr, const struct gt_container_endpoint *endpoint)
{
	return json_pack("{s:o s:o s:o s:s s:o s:i s:s s:s s:s s:o s:i s:s s:o s:i s:o}", "IPAMConfig", ipam_config(endpoint), "Links",
			 gt_strings_to_json(&endpoint->links), "Aliases",
			 gt_strings_to_json(&endpoint->aliases), "MacAddress", endpoint->mac, "DriverOpts",
			 endpoint->driver_opts ? json_incref(endpoint->driver_opts) : json_null(), "GwPriority", (int)endpoint->gw_priority, "NetworkID",
			 endpoint->network_id, "EndpointID", endpoint->id, "Gateway", endpoint->gateway4, "IPAddress", address_only(endpoint->ipv4),
			 "IPPrefixLen", prefix_of(endpoint->ipv4), "IPv6Gateway", endpoint->gateway6, "GlobalIPv6Address", address_only(endpoint->ipv6),
			 "GlobalIPv6PrefixLen", prefix_of(endpoint->ipv6), "DNSNames", dns_names(ctr, endpoint));
}

json_t *gt_endpoints_list_networks(const struct gt_container *ctr)
{
	json_t *networks = json_object();
	for (size_t i = 0; i < ctr->endpoint_count; i++)
		json_object_set_new(networks, ctr->endpoints[i].network_name, endpoint_settings(ctr, &ctr->endpoints[i]));
	return networks;
}

/* Published ports, and exposed ones that are not published as null, while it runs. With the container's lock held. */
static json_t *ports_of(const struct gt_container *ctr)
{
	json_t *ports = json_object(), *value;
	const char *key;
	if (ctr->status != GT_RUNNING && ctr->status != GT_PAUSED)
		return ports;
	json_object_foreach(ctr->config.exposed_ports, key, value)
		json_object_set_new(ports, key, json_null());
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (ctr->endpoints[i].ports)
			json_object_update(ports, ctr->endpoints[i].ports);
	}
	return ports;
}

json_t *gt_endpoints_settings(struct gt_container *ctr)
{
	static const struct gt_container_endpoint NONE;
	LOCKED(&ctr->lock);
	bool running = ctr->status == GT_RUNNING || ctr->status == GT_PAUSED;
	const struct gt_container_endpoint *shown = &NONE; /* the older fields show Docker's default network alone */
	char key[40] = "";
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (strcmp(ctr->endpoints[i].network_name, "bridge") == 0)
			shown = &ctr->endpoints[i];
	}
	if (running)
		snprintf(key, sizeof key, "/proc/%d/ns/net", (int)ctr->pid);
	return json_pack("{s:s s:s s:s s:o s:b s:s s:i s:n s:n s:s s:s s:o s:i s:o s:i s:s s:s s:o}", "Bridge", "", "SandboxID", running ? ctr->id : "",
			 "SandboxKey", key, "Ports", ports_of(ctr), "HairpinMode", false, "LinkLocalIPv6Address", "", "LinkLocalIPv6PrefixLen", 0,
			 "SecondaryIPAddresses", "SecondaryIPv6Addresses", "EndpointID", shown->id, "Gateway", shown->gateway4, "GlobalIPv6Address",
			 address_only(shown->ipv6), "GlobalIPv6PrefixLen", prefix_of(shown->ipv6), "IPAddress", address_only(shown->ipv4), "IPPrefixLen",
			 prefix_of(shown->ipv4), "IPv6Gateway", shown->gateway6, "MacAddress", shown->mac, "Networks", gt_endpoints_list_networks(ctr));
}

static void append_ports(json_t *list, const char *key, const json_t *bindings)
{
	uint16_t port;
	uint32_t proto;
	json_t *binding;
	size_t i;
	const char *type = strchr(key, '/') ? strchr(key, '/') + 1 : "tcp";
	if (port_parse(key, &port, &proto) < 0)
		return;
	json_array_foreach(bindings, i, binding) {
		const char *public = json_string_value(json_object_get(binding, "HostPort"));
		json_array_append_new(list, json_pack("{s:O s:i s:i s:s}", "IP", json_object_get(binding, "HostIp"), "PrivatePort", (int)port, "PublicPort",
						      (int)strtol(public, NULL, 10), "Type", type));
	}
	if (!json_array_size(bindings))
		json_array_append_new(list, json_pack("{s:i s:s}", "PrivatePort", (int)port, "Type", type));
}

json_t *gt_endpoints_list_ports(const struct gt_container *ctr)
{
	const char *key;
	json_t *bindings, *list = json_array();
	AUTO_JSON json_t *ports = ports_of(ctr);
	json_object_foreach(ports, key, bindings)
		append_ports(list, key, bindings);
	return list;
}

/* ---- the store ---- */

json_t *gt_endpoints_to_json(const struct gt_container *ctr)
{
	json_t *list = json_array();
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		const struct gt_container_endpoint *endpoint = &ctr->endpoints[i];
		json_t *row = json_pack("{s:s s:s s:s s:o s:o s:s* s:s* s:s* s:O* s:I}", "NetworkID", endpoint->network_id, "Network", endpoint->network_name,
					"EndpointID", endpoint->id, "Aliases", gt_strings_to_json(&endpoint->aliases), "Links",
					gt_strings_to_json(&endpoint->links), "WantIPv4", endpoint->want_ipv4,
					"WantIPv6", endpoint->want_ipv6, "WantMac", endpoint->want_mac, "DriverOpts", endpoint->driver_opts, "GwPriority",
					(json_int_t)endpoint->gw_priority);
		if (endpoint_joined(endpoint))
			json_object_set_new(row, "Joined",
					    json_pack("{s:s s:s s:s s:s s:s s:s s:s s:b s:O*}", "Mac", endpoint->mac, "IPv4", endpoint->ipv4, "IPv6",
						      endpoint->ipv6, "Gateway4", endpoint->gateway4, "Gateway6", endpoint->gateway6, "HostIfname",
						      endpoint->host_ifname, "Ifname", endpoint->ifname, "DefaultRoute", endpoint->default_route, "Ports",
						      endpoint->ports));
		json_array_append_new(list, row);
	}
	return list;
}

static int copy_text(const json_t *row, const char *name, char *out, size_t room, struct gt_error *err)
{
	const char *text = "";
	if (gt_json_string(row, name, &text, err) < 0)
		return -1;
	if (strlen(text) >= room)
		return gt_fail(err, GT_INVALID, "a stored endpoint's %s is too long", name);
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

static int copy_wish(const json_t *row, const char *name, char **out, struct gt_error *err)
{
	const char *text = NULL;
	if (gt_json_string(row, name, &text, err) < 0)
		return -1;
	*out = gt_xstrdup(text);
	return 0;
}

static int read_joined(const json_t *joined, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	json_t *ports = NULL;
	if (copy_text(joined, "Mac", endpoint->mac, sizeof endpoint->mac, err) < 0 || copy_text(joined, "IPv4", endpoint->ipv4, sizeof endpoint->ipv4, err) < 0 ||
	    copy_text(joined, "IPv6", endpoint->ipv6, sizeof endpoint->ipv6, err) < 0 ||
	    copy_text(joined, "Gateway4", endpoint->gateway4, sizeof endpoint->gateway4, err) < 0 ||
	    copy_text(joined, "Gateway6", endpoint->gateway6, sizeof endpoint->gateway6, err) < 0 ||
	    copy_text(joined, "HostIfname", endpoint->host_ifname, sizeof endpoint->host_ifname, err) < 0 ||
	    copy_text(joined, "Ifname", endpoint->ifname, sizeof endpoint->ifname, err) < 0 ||
	    gt_json_bool(joined, "DefaultRoute", &endpoint->default_route, err) < 0 || gt_json_object(joined, "Ports", &ports, err) < 0)
		return -1;
	endpoint->ports = json_incref(ports);
	return 0;
}

static int read_row(const json_t *row, bool running, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	json_t *joined = NULL;
	if (copy_text(row, "NetworkID", endpoint->network_id, sizeof endpoint->network_id, err) < 0 ||
	    copy_wish(row, "Network", &endpoint->network_name, err) < 0 || copy_wish(row, "WantIPv4", &endpoint->want_ipv4, err) < 0 ||
	    copy_wish(row, "WantIPv6", &endpoint->want_ipv6, err) < 0 || copy_wish(row, "WantMac", &endpoint->want_mac, err) < 0 ||
	    read_names(row, endpoint, err) < 0 || read_options(row, endpoint, err) < 0 ||
	    gt_json_int(row, "GwPriority", &endpoint->gw_priority, err) < 0 || gt_json_object(row, "Joined", &joined, err) < 0)
		return -1;
	if (!gt_is_id(endpoint->network_id) || !endpoint->network_name)
		return gt_fail(err, GT_INVALID, "a stored endpoint is not one");
	if (!joined || !running)
		return 0;
	if (copy_text(row, "EndpointID", endpoint->id, sizeof endpoint->id, err) < 0 || read_joined(joined, endpoint, err) < 0)
		return -1;
	return endpoint->id[0] && !gt_is_id(endpoint->id) ? gt_fail(err, GT_INVALID, "a stored endpoint's id is not one") : 0;
}

/* What was joined when the daemon went away is so again, for containers that ran; of others only the wishes are read. */
int gt_endpoints_from_json(struct gt_container *ctr, const json_t *json, struct gt_error *err)
{
	bool running = ctr->status == GT_RUNNING || ctr->status == GT_PAUSED;
	size_t count = json_array_size(json);
	links_note(ctr);
	if (count > MAX_ENDPOINTS)
		return gt_fail(err, GT_TOO_LARGE, "more than %d endpoints", MAX_ENDPOINTS);
	ctr->endpoints = gt_xcalloc(count + 1, sizeof *ctr->endpoints);
	for (size_t i = 0; i < count; i++) {
		struct gt_container_endpoint *endpoint = &ctr->endpoints[ctr->endpoint_count++];
		if (read_row(json_array_get(json, i), running, endpoint, err) < 0)
			return -1;
		if (endpoint_joined(endpoint))
			network_readmit(ctr->engine, ctr->id, endpoint);
	}
	return 0;
}
