/*
 * endpoint.c - a container's endpoints: found at create, joined at start, left at exit; connect and disconnect.
 *
 * One joined endpoint carries the default route and publishes the ports: the one with the highest gw_priority, then one that leads out before an
 * internal one, then by the network's name. While the container runs it keeps both, whatever is connected; when it is disconnected, another takes over.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/config_check.h"
#include "engine/network.h"

#define MAX_ENDPOINTS 64
#define MAX_OPTIONS 32

/* ---- looks ---- */

bool endpoints_are_shared(const struct gt_container *ctr)
{
	return config_container_mode(ctr->config.host.network_mode) != NULL;
}

void endpoint_release(struct gt_container_endpoint *endpoint)
{
	free(endpoint->network_name);
	gt_strings_free(&endpoint->aliases);
	gt_strings_free(&endpoint->links);
	free(endpoint->want_ipv4);
	free(endpoint->want_ipv6);
	free(endpoint->want_mac);
	json_decref(endpoint->driver_opts);
	json_decref(endpoint->ports);
	*endpoint = (struct gt_container_endpoint){ 0 };
}

struct gantry_endpoint endpoint_describe(const struct gt_container *ctr, const struct gt_container_endpoint *endpoint)
{
	struct gantry_endpoint out = {
		.id = endpoint->id,
		.network_id = endpoint->network_id,
		.container_id = ctr->id,
		.ifname = endpoint->ifname,
		.default_route = endpoint->default_route,
	};
	memcpy(out.mac, endpoint->mac, sizeof out.mac);
	memcpy(out.ipv4, endpoint->ipv4, sizeof out.ipv4);
	memcpy(out.ipv6, endpoint->ipv6, sizeof out.ipv6);
	memcpy(out.gateway4, endpoint->gateway4, sizeof out.gateway4);
	memcpy(out.gateway6, endpoint->gateway6, sizeof out.gateway6);
	memcpy(out.host_ifname, endpoint->host_ifname, sizeof out.host_ifname);
	return out;
}

/* What an endpoint's network is like; false where the network is gone. */
struct nature {
	bool host, none, internal, builtin;
	char id[65], name[256], host_ip[64];    /* host_ip: where ports are published that name no address */
};

static bool look_up(struct gt_engine *engine, const char *ref, struct nature *nature, struct gt_error *err)
{
	LOCKED(&engine->networks->lock);
	const struct network *network = network_find(engine->networks, ref, err);
	if (!network)
		return false;
	const char *host_ip = json_string_value(json_object_get(network->options, "com.docker.network.bridge.host_binding_ipv4"));
	*nature = (struct nature){ .host = network_is_host(network), .none = network_is_none(network), .internal = network->internal, .builtin = network->builtin };
	memcpy(nature->id, network->id, sizeof nature->id);
	snprintf(nature->name, sizeof nature->name, "%s", network->name);
	snprintf(nature->host_ip, sizeof nature->host_ip, "%s", host_ip ? host_ip : "");
	return true;
}

/* The endpoint that is to carry the default route; SIZE_MAX where none can. */
static size_t elect(const struct gt_container *ctr, bool joined_only)
{
	size_t best = SIZE_MAX;
	bool best_internal = false;
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		const struct gt_container_endpoint *endpoint = &ctr->endpoints[i], *holder = best == SIZE_MAX ? NULL : &ctr->endpoints[best];
		struct nature nature;
		if ((joined_only && !endpoint_joined(endpoint)) || !look_up(ctr->engine, endpoint->network_id, &nature, NULL) || nature.host || nature.none)
			continue;
		bool better = !holder || endpoint->gw_priority > holder->gw_priority;
		if (holder && endpoint->gw_priority == holder->gw_priority)
			better = nature.internal != best_internal ? best_internal : strcmp(endpoint->network_name, holder->network_name) < 0;
		if (better) {
			best = i;
			best_internal = nature.internal;
		}
	}
	return best;
}

static size_t find(const struct gt_container *ctr, const char *network_id)
{
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (strcmp(ctr->endpoints[i].network_id, network_id) == 0)
			return i;
	}
	return SIZE_MAX;
}

/* ---- create ---- */

static int check_wish(struct gt_container *ctr, const struct nature *nature, const struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	const char *const wishes[] = { endpoint->want_ipv4, endpoint->want_ipv6 };
	if ((endpoint->want_ipv4 || endpoint->want_ipv6) && nature->builtin)
		return gt_fail(err, GT_INVALID, "user specified IP address is supported on user defined networks only, and %s is not one", nature->name);
	if (endpoint->aliases.count && nature->builtin)
		return gt_fail(err, GT_INVALID, "network-scoped alias is supported only for containers in user defined networks, and %s is not one", nature->name);
	if (endpoint->links.count && nature->builtin)
		return gt_fail(err, GT_INVALID, "links of an endpoint are supported only in user defined networks, and %s is not one", nature->name);
	if (endpoint->want_mac && (nature->host || nature->none))
		return gt_fail(err, GT_INVALID, "conflicting options: mac-address and the network mode %s", nature->name);
	LOCKED(&ctr->engine->networks->lock);
	const struct network *network = network_find(ctr->engine->networks, nature->id, err);
	bool any = network && network_has(network, GANTRY_NET_OWN_IPAM) && !network->pool_count;
	for (size_t w = 0; network && !any && w < GT_COUNT(wishes); w++) {
		bool fits = !wishes[w];
		for (size_t i = 0; i < network->pool_count; i++)
			fits = fits || ipam_contains(&network->pools[i].addresses, wishes[w]);
		if (!fits)
			return gt_fail(err, GT_INVALID, "invalid address %s: It does not belong to any of network %s's subnets", wishes[w], nature->name);
	}
	return network ? 0 : -1;
}

/* Appends an endpoint; settings may be NULL. An unknown network is the request's mistake: with 404, clients would go and pull the image. */
static int add_endpoint(struct gt_container *ctr, const char *ref, const json_t *settings, const char *mac, struct gt_error *err)
{
	struct nature nature;
	struct gt_container_endpoint endpoint = { 0 };
	if (!look_up(ctr->engine, ref, &nature, err)) {
		if (err && err->kind == GT_NOT_FOUND)
			err->kind = GT_INVALID;
		return -1;
	}
	if (ctr->endpoint_count == MAX_ENDPOINTS)
		return gt_fail(err, GT_TOO_LARGE, "a container is in at most %d networks", MAX_ENDPOINTS);
	if (find(ctr, nature.id) != SIZE_MAX)
		return gt_fail(err, GT_INVALID, "network %s is named twice", nature.name);
	int rc = endpoint_read(settings, &endpoint, err);
	if (rc == 0 && !endpoint.want_mac && mac && mac[0])
		endpoint.want_mac = gt_xstrdup(mac);
	if (rc == 0)
		rc = check_wish(ctr, &nature, &endpoint, err);
	if (rc < 0) {
		endpoint_release(&endpoint);
		return -1;
	}
	memcpy(endpoint.network_id, nature.id, sizeof endpoint.network_id);
	endpoint.network_name = gt_xstrdup(nature.name);
	LOCKED(&ctr->lock);
	gt_container_row_changed(ctr);
	ctr->endpoints = gt_xrealloc(ctr->endpoints, (ctr->endpoint_count + 1) * sizeof *ctr->endpoints);
	ctr->endpoints[ctr->endpoint_count++] = endpoint;
	return 0;
}

/* "container:X": all that would need endpoints of its own conflicts. */
static int reserve_shared(struct gt_container *ctr, const json_t *configs, struct gt_error *err)
{
	struct gt_host_config *host = &ctr->config.host;
	const char *clash = json_object_size(host->port_bindings) || host->publish_all_ports ? "port publishing" :
			    json_object_size(configs)                                        ? "network endpoints" :
			    host->dns.count || host->dns_search.count || host->dns_options.count ? "dns" :
			    host->extra_hosts.count                                          ? "custom host-to-IP mapping" :
			    ctr->config.mac_address && ctr->config.mac_address[0]            ? "mac-address" :
											       NULL;
	if (clash)
		return gt_fail(err, GT_INVALID, "conflicting options: %s and the container type network mode", clash);
	AUTO_CONTAINER struct gt_container *other = gt_container_get(ctr->engine, config_container_mode(host->network_mode), err);
	if (!other) {
		if (err && err->kind == GT_NOT_FOUND)
			err->kind = GT_INVALID; /* as in add_endpoint */
		return gt_context(err, "joining network namespace of container");
	}
	free(host->network_mode);
	host->network_mode = gt_xasprintf("container:%s", other->id); /* names may change */
	free(ctr->config.hostname);
	free(ctr->config.domainname);
	ctr->config.hostname = other->config.hostname ? gt_xstrdup(other->config.hostname) : NULL;
	ctr->config.domainname = other->config.domainname ? gt_xstrdup(other->config.domainname) : NULL;
	return 0;
}

static bool same_network(struct gt_engine *engine, const char *ref, const char *network_id)
{
	struct nature nature;
	return look_up(engine, strcmp(ref, "default") == 0 ? "bridge" : ref, &nature, NULL) && strcmp(nature.id, network_id) == 0;
}

/* Asked for, and of no effect: the user is told. */
static void warn_of_ports(const struct gt_container *ctr, json_t *warnings)
{
	const struct gt_host_config *host = &ctr->config.host;
	struct nature nature;
	bool leads_out = false, hosts = false;
	if (!json_object_size(host->port_bindings) && !host->publish_all_ports)
		return;
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (!look_up(ctr->engine, ctr->endpoints[i].network_id, &nature, NULL))
			continue;
		hosts = hosts || nature.host;
		leads_out = leads_out || (!nature.host && !nature.none && !nature.internal);
	}
	if (hosts)
		json_array_append_new(warnings, json_string("Published ports are discarded when using host network mode"));
	else if (!leads_out)
		json_array_append_new(warnings, json_string("Published ports are discarded: none of the container's networks leads out of this host"));
}

static int reserve_networks(struct gt_container *ctr, const char *mode, const json_t *configs, struct gt_error *err)
{
	const char *key;
	json_t *settings;
	struct nature nature = { 0 };
	const json_t *own = NULL;
	if (look_up(ctr->engine, mode, &nature, NULL)) {
		json_object_foreach((json_t *)configs, key, settings) {
			if (same_network(ctr->engine, key, nature.id))
				own = settings;
		}
	}
	if (add_endpoint(ctr, mode, own, ctr->config.mac_address, err) < 0)
		return -1;
	json_object_foreach((json_t *)configs, key, settings) {
		if (settings == own)
			continue;
		if (nature.host || nature.none)
			return gt_fail(err, GT_INVALID, "conflicting options: a container of network %s cannot be in network %.255s too", mode, key);
		if (add_endpoint(ctr, key, settings, NULL, err) < 0)
			return -1;
	}
	return 0;
}

int gt_endpoints_reserve(struct gt_container *ctr, json_t *warnings, struct gt_error *err)
{
	struct gt_host_config *host = &ctr->config.host;
	json_t *configs = NULL;
	if (gt_json_object(ctr->networking, "EndpointsConfig", &configs, err) < 0 || ports_check(ctr, err) < 0)
		return -1;
	if (links_read(ctr, err) < 0)
		return -1;
	if (endpoints_are_shared(ctr))
		return reserve_shared(ctr, configs, err);
	if (ctr->config.network_disabled) {
		free(host->network_mode);
		host->network_mode = gt_xstrdup("none");
	}
	if (reserve_networks(ctr, host->network_mode, configs, err) < 0) {
		gt_endpoints_release(ctr);
		return -1;
	}
	links_note(ctr);
	warn_of_ports(ctr, warnings);
	return 0;
}

/* Before a start nothing is held in the networks; what is joined has been left by now. */
void gt_endpoints_release(struct gt_container *ctr)
{
	links_forget(ctr);
	gt_endpoints_leave(ctr, -1);
}

/* ---- the network namespace ---- */

static char *netns_of_other(struct gt_container *ctr, const char *ref, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *other = gt_container_get(ctr->engine, ref, err);
	if (!other) {
		gt_context(err, "joining network namespace of container");
		return NULL;
	}
	LOCKED(&other->lock);
	if (other->status != GT_RUNNING && other->status != GT_PAUSED)
		return gt_fail_null(err, GT_CONFLICT, "cannot join network of a non running container: %s", other->id);
	return gt_xasprintf("/proc/%d/ns/net", (int)other->pid);
}

char *gt_endpoints_netns(struct gt_container *ctr, struct gt_error *err)
{
	struct nature nature;
	const char *other = config_container_mode(ctr->config.host.network_mode);
	if (other)
		return netns_of_other(ctr, other, err);
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (!look_up(ctr->engine, ctr->endpoints[i].network_id, &nature, err)) {
			gt_context(err, "container %s", ctr->id);
			return NULL;
		}
		if (nature.host)
			return gt_xstrdup("host");
	}
	return gt_xstrdup("new");
}

/* ---- join and leave ---- */

/* The first "ethN" that no joined endpoint has. */
static void pick_ifname(const struct gt_container *ctr, char ifname[16])
{
	for (int n = 0; n < MAX_ENDPOINTS; n++) {
		bool taken = false;
		snprintf(ifname, 16, "eth%d", n);
		for (size_t i = 0; i < ctr->endpoint_count; i++)
			taken = taken || (endpoint_joined(&ctr->endpoints[i]) && strcmp(ctr->endpoints[i].ifname, ifname) == 0);
		if (!taken)
			return;
	}
}

/* Calls the driver; what it answers goes into `endpoint`. Also for a joined one, whose default_route has changed. */
static int plumb(struct gt_container *ctr, struct gt_driver *driver, struct gt_container_endpoint *endpoint, int netns_fd, struct gt_error *err)
{
	struct gantry_option options[MAX_OPTIONS];
	struct gantry_endpoint described = endpoint_describe(ctr, endpoint);
	struct gt_strings names = { 0 };
	const char *key;
	json_t *value;
	json_object_foreach(endpoint->driver_opts, key, value)
		options[described.options.count++] = (struct gantry_option){ key, json_string_value(value) };
	described.options.items = options;
	endpoint_names(ctr, endpoint, &names);
	described.names = (const char *const *)names.items;
	described.name_count = names.count;
	int rc = gt_net_join(driver, &described, netns_fd, err);
	gt_strings_free(&names);
	if (rc < 0)
		return -1;
	memcpy(endpoint->mac, described.mac, sizeof endpoint->mac);
	memcpy(endpoint->ipv4, described.ipv4, sizeof endpoint->ipv4);
	memcpy(endpoint->ipv6, described.ipv6, sizeof endpoint->ipv6);
	memcpy(endpoint->gateway4, described.gateway4, sizeof endpoint->gateway4);
	memcpy(endpoint->gateway6, described.gateway6, sizeof endpoint->gateway6);
	memcpy(endpoint->host_ifname, described.host_ifname, sizeof endpoint->host_ifname);
	return 0;
}

static int publish(struct gt_container *ctr, struct gt_driver *driver, const struct nature *nature, struct gt_container_endpoint *endpoint, struct gt_error *err)
{
	struct gantry_endpoint described = endpoint_describe(ctr, endpoint);
	if (ports_publish(driver, &described, ctr, nature->host_ip, &endpoint->ports, err) == 0)
		return 0;
	return gt_context(err, "driver failed programming external connectivity on endpoint %s (%s)", ctr->name, endpoint->id);
}

/* All or nothing, on a copy that the caller puts in place. */
static int join(struct gt_container *ctr, const struct nature *nature, struct gt_container_endpoint *endpoint, int netns_fd, struct gt_error *err)
{
	struct gt_engine *engine = ctr->engine;
	gt_id_new(endpoint->id);
	endpoint->mac[0] = endpoint->ipv4[0] = endpoint->ipv6[0] = endpoint->gateway4[0] = endpoint->gateway6[0] = endpoint->host_ifname[0] = '\0';
	if (endpoint->want_mac)
		snprintf(endpoint->mac, sizeof endpoint->mac, "%s", endpoint->want_mac);
	pick_ifname(ctr, endpoint->ifname);
	if (network_admit(engine, ctr->id, endpoint, err) < 0)
		return -1;
	if (nature->host)
		return 0;
	struct gt_driver *driver = network_driver(engine, endpoint->network_id, err);
	if (driver && plumb(ctr, driver, endpoint, netns_fd, err) == 0) {
		network_note_user(engine, ctr->id, endpoint);
		if (!endpoint->default_route || nature->internal || publish(ctr, driver, nature, endpoint, err) == 0)
			return 0;
		gt_net_leave(driver, endpoint->network_id, endpoint->id, netns_fd, NULL);
	}
	network_dismiss(engine, ctr->id, endpoint);
	return -1;
}

/* Puts what join() or leaving made of a copy in place of the original. */
static void replace(struct gt_container *ctr, size_t index, const struct gt_container_endpoint *endpoint)
{
	LOCKED(&ctr->lock);
	gt_container_row_changed(ctr);
	ctr->endpoints[index] = *endpoint;
}

static void tell(struct gt_container *ctr, const char *network_id, const char *action)
{
	LOCKED(&ctr->engine->networks->lock);
	const struct network *network = gt_map_get(&ctr->engine->networks->by_id, network_id);
	if (network)
		network_event(ctr->engine, network, action, ctr->id);
}

static int join_at(struct gt_container *ctr, size_t index, bool default_route, int netns_fd, struct gt_error *err)
{
	struct nature nature;
	struct gt_container_endpoint endpoint = ctr->endpoints[index];
	if (!look_up(ctr->engine, endpoint.network_id, &nature, err))
		return -1;
	endpoint.default_route = default_route;
	if (join(ctr, &nature, &endpoint, netns_fd, err) < 0)
		return -1;
	replace(ctr, index, &endpoint);
	resolver_enter(ctr, &endpoint);
	if (nature.builtin)
		links_tell(ctr);
	tell(ctr, endpoint.network_id, "connect");
	return 0;
}

/* Errors are told and passed over: it must go on. What remains of `endpoint` are its wishes. */
static void leave(struct gt_container *ctr, struct gt_container_endpoint *endpoint, int netns_fd)
{
	struct nature nature = { 0 };
	struct gt_error err = { 0 };
	struct gt_driver *driver = network_driver(ctr->engine, endpoint->network_id, NULL);
	if (driver && look_up(ctr->engine, endpoint->network_id, &nature, NULL) && !nature.host) {
		if (endpoint->ports && gt_net_unpublish(driver, endpoint->network_id, endpoint->id, &err) < 0)
			gt_warn("ports stay published", "id", ctr->id, "network", endpoint->network_name, "error", err.message);
		if (gt_net_leave(driver, endpoint->network_id, endpoint->id, netns_fd, &err) < 0)
			gt_warn("a network was not left in order", "id", ctr->id, "network", endpoint->network_name, "error", err.message);
	}
	resolver_leave(ctr, endpoint);
	network_dismiss(ctr->engine, ctr->id, endpoint);
	endpoint->id[0] = endpoint->mac[0] = endpoint->ipv4[0] = endpoint->ipv6[0] = endpoint->gateway4[0] = endpoint->gateway6[0] = '\0';
	endpoint->host_ifname[0] = endpoint->ifname[0] = '\0';
	endpoint->default_route = false;
}

static void leave_at(struct gt_container *ctr, size_t index, int netns_fd)
{
	struct gt_container_endpoint endpoint = ctr->endpoints[index];
	if (!endpoint_joined(&endpoint))
		return;
	leave(ctr, &endpoint, netns_fd);
	json_t *ports = take(endpoint.ports);
	replace(ctr, index, &endpoint);
	json_decref(ports);
	tell(ctr, endpoint.network_id, "disconnect");
}

int gt_endpoints_join(struct gt_container *ctr, int netns_fd, struct gt_error *err)
{
	size_t leading = elect(ctr, false);
	bool opened;
	int rc = resolver_serve(ctr, netns_fd, &opened, err);
	for (size_t i = 0; i < ctr->endpoint_count && rc == 0; i++)
		rc = join_at(ctr, i, i == leading, netns_fd, err);
	if (rc < 0)
		gt_endpoints_leave(ctr, netns_fd);
	return rc;
}

void gt_endpoints_leave(struct gt_container *ctr, int netns_fd)
{
	for (size_t i = ctr->endpoint_count; i > 0; i--)
		leave_at(ctr, i - 1, netns_fd);
	resolver_stop(ctr);
}

/* ---- connect and disconnect ---- */

/* The namespace of a running container. Its op is held, so that it is not started anew meanwhile. */
static int open_netns(struct gt_container *ctr, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("/proc/%d/ns/net", (int)ctr->pid);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open the network namespace of container %s", ctr->id);
	LOCKED(&ctr->lock);
	if (ctr->exit_seen || !ctr->shim)
		return gt_fail(err, GT_CONFLICT, "container %s has just ended", ctr->id);
	return take_fd(fd);
}

static int check_connectable(struct gt_container *ctr, const struct nature *nature, struct gt_error *err)
{
	struct nature own;
	if (ctr->removed || ctr->status == GT_REMOVING || ctr->status == GT_DEAD)
		return gt_fail(err, GT_CONFLICT, "container %s is marked for removal and cannot be connected or disconnected to the network", ctr->id);
	if (endpoints_are_shared(ctr))
		return gt_fail(err, GT_DENIED, "container sharing network namespace with another container or host cannot be connected to any other network");
	if (nature->host)
		return gt_fail(err, GT_DENIED, "container cannot be disconnected from host network or connected to host network");
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (!look_up(ctr->engine, ctr->endpoints[i].network_id, &own, NULL))
			continue;
		if (own.host)
			return gt_fail(err, GT_DENIED,
				       "container sharing network namespace with another container or host cannot be connected to any other network");
		if (own.none != nature->none)
			return gt_fail(err, GT_DENIED, "container cannot be connected to multiple networks with one of the networks in private (none) mode");
	}
	return 0;
}

/* Whose endpoint it is now, the caller says. */
static struct gt_container_endpoint take_out(struct gt_container *ctr, size_t index)
{
	LOCKED(&ctr->lock);
	gt_container_row_changed(ctr);
	struct gt_container_endpoint endpoint = ctr->endpoints[index];
	ctr->endpoint_count--;
	memmove(&ctr->endpoints[index], &ctr->endpoints[index + 1], (ctr->endpoint_count - index) * sizeof *ctr->endpoints);
	return endpoint;
}

/* Undoes take_out(): the array is as large as it was. */
static void put_back(struct gt_container *ctr, size_t index, const struct gt_container_endpoint *endpoint)
{
	LOCKED(&ctr->lock);
	gt_container_row_changed(ctr);
	memmove(&ctr->endpoints[index + 1], &ctr->endpoints[index], (ctr->endpoint_count - index) * sizeof *ctr->endpoints);
	ctr->endpoints[index] = *endpoint;
	ctr->endpoint_count++;
}

static void drop_at(struct gt_container *ctr, size_t index)
{
	struct gt_container_endpoint endpoint = take_out(ctr, index);
	endpoint_release(&endpoint);
}

static bool has_default_route(const struct gt_container *ctr)
{
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (ctr->endpoints[i].default_route)
			return true;
	}
	return false;
}

/* Where nobody leads out (any more), the best of those that are joined takes over. */
static int appoint(struct gt_container *ctr, int netns_fd, struct gt_error *err)
{
	struct nature nature;
	size_t index = has_default_route(ctr) ? SIZE_MAX : elect(ctr, true);
	if (index == SIZE_MAX)
		return 0;
	struct gt_container_endpoint endpoint = ctr->endpoints[index];
	struct gt_driver *driver = network_driver(ctr->engine, endpoint.network_id, err);
	if (!driver || !look_up(ctr->engine, endpoint.network_id, &nature, err))
		return -1;
	endpoint.default_route = true;
	if (plumb(ctr, driver, &endpoint, netns_fd, err) < 0 || (!nature.internal && publish(ctr, driver, &nature, &endpoint, err) < 0))
		return -1;
	replace(ctr, index, &endpoint);
	return 0;
}

static int join_running(struct gt_container *ctr, size_t index, struct gt_error *err)
{
	bool resolver_opened = false;
	AUTO_CLOSE int netns = open_netns(ctr, err);
	if (netns < 0 || join_at(ctr, index, !has_default_route(ctr) && elect(ctr, false) == index, netns, err) < 0 ||
	    resolver_serve(ctr, netns, &resolver_opened, err) < 0 || (resolver_opened && resolver_write_file(ctr, err) < 0))
		return -1;
	return gt_endpoints_write_files(ctr, err);
}

int gt_network_connect(struct gt_engine *engine, const char *ref, const json_t *body, struct gt_error *err)
{
	const char *name = NULL;
	json_t *settings = NULL;
	struct nature nature;
	if (gt_json_string(body, "Container", &name, err) < 0 || gt_json_object(body, "EndpointConfig", &settings, err) < 0 ||
	    !look_up(engine, ref, &nature, err))
		return -1;
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, name ? name : "", err);
	if (!ctr)
		return -1;
	LOCKED(&ctr->op);
	gt_exit_settle(ctr);
	if (ctr->removed)
		return gt_fail(err, GT_NOT_FOUND, "No such container: %s", name);
	if (check_connectable(ctr, &nature, err) < 0)
		return -1;
	if (find(ctr, nature.id) != SIZE_MAX)
		return gt_fail(err, GT_DENIED, "endpoint with name %s already exists in network %s", ctr->name, nature.name);
	/* The container's own MAC address (Config.MacAddress) is that of its network mode's network, also when it comes back to it. */
	const char *mode = ctr->config.host.network_mode;
	if (add_endpoint(ctr, nature.id, settings, mode && same_network(engine, mode, nature.id) ? ctr->config.mac_address : NULL, err) < 0)
		return -1;
	size_t index = ctr->endpoint_count - 1;
	if ((!gt_container_is_running(ctr) || join_running(ctr, index, err) == 0) && gt_container_save(ctr, err) == 0)
		return 0;
	leave_at(ctr, index, -1);
	drop_at(ctr, index);
	resolver_change(ctr);
	return -1;
}

/* Takes a running container out of the network that it has no endpoint in any more, and sees that another leads out. */
static void leave_running(struct gt_container *ctr, struct gt_container_endpoint *endpoint)
{
	struct gt_error err = { 0 };
	AUTO_CLOSE int netns = open_netns(ctr, &err);
	if (endpoint_joined(endpoint)) {
		leave(ctr, endpoint, netns);
		tell(ctr, endpoint->network_id, "disconnect");
	}
	resolver_change(ctr);
	if (netns >= 0 && appoint(ctr, netns, &err) < 0)
		gt_warn("no other network takes over the default route and the ports", "id", ctr->id, "error", err.message);
	if (gt_endpoints_write_files(ctr, &err) < 0)
		gt_warn("the hosts file could not be written", "id", ctr->id, "error", err.message);
}

void gt_endpoints_resettle(struct gt_container *ctr)
{
	struct gt_error err = { 0 };
	if (!gt_container_is_running(ctr) || has_default_route(ctr) || elect(ctr, true) == SIZE_MAX)
		return;
	AUTO_CLOSE int netns = open_netns(ctr, &err);
	if (netns < 0 || appoint(ctr, netns, &err) < 0 || gt_container_save(ctr, &err) < 0)
		gt_warn("no network takes over the default route and the ports", "id", ctr->id, "error", err.message);
}

int gt_network_disconnect(struct gt_engine *engine, const char *ref, const char *container, bool force, struct gt_error *err)
{
	struct nature nature;
	(void)force; /* an endpoint goes with its container here: none is left that only force would remove */
	if (!look_up(engine, ref, &nature, err))
		return -1;
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, container, err);
	if (!ctr)
		return -1;
	LOCKED(&ctr->op);
	gt_exit_settle(ctr);
	if (ctr->removed)
		return gt_fail(err, GT_NOT_FOUND, "No such container: %s", container);
	size_t index = find(ctr, nature.id);
	if (nature.host)
		return gt_fail(err, GT_DENIED, "container cannot be disconnected from host network or connected to host network");
	if (index == SIZE_MAX)
		return gt_fail(err, GT_DENIED, "container %s is not connected to network %s", ctr->name, nature.name);
	/* Stored before it is done: what a daemon finds at its start that no container owns, it removes. What is missing, it could not make again. */
	struct gt_container_endpoint endpoint = take_out(ctr, index);
	if (gt_container_save(ctr, err) < 0) {
		put_back(ctr, index, &endpoint);
		return -1;
	}
	int rc = 0;
	if (gt_container_is_running(ctr)) {
		leave_running(ctr, &endpoint);
		rc = gt_container_save(ctr, err); /* with the one that took over */
	}
	endpoint_release(&endpoint);
	return rc;
}
