/*
 * resolver.c - containers and their networks as the name server (dns/dns.h) is to know them.
 *
 * A container in at least one user-defined network is served, from before its process runs to its end; one that leaves its last such network goes on being
 * served while it runs, as its resolv.conf says so. Callers hold the container's op.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dns/dns.h"
#include "engine/network.h"

bool endpoint_has_names(const struct gt_container_endpoint *endpoint)
{
	return strcmp(endpoint->network_name, "bridge") && strcmp(endpoint->network_name, "host") && strcmp(endpoint->network_name, "none");
}

void endpoint_names(const struct gt_container *ctr, const struct gt_container_endpoint *endpoint, struct gt_strings *names)
{
	char short_id[13];
	snprintf(short_id, sizeof short_id, "%.12s", ctr->id);
	gt_strings_add(names, ctr->name);
	for (size_t i = 0; i < endpoint->aliases.count; i++)
		gt_strings_add(names, endpoint->aliases.items[i]);
	gt_strings_add(names, short_id);
	if (ctr->config.hostname && ctr->config.hostname[0] && strncmp(ctr->id, ctr->config.hostname, 12))
		gt_strings_add(names, ctr->config.hostname);
}

bool resolver_wanted(const struct gt_container *ctr)
{
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (endpoint_has_names(&ctr->endpoints[i]))
			return true;
	}
	return false;
}

/* ---- who is in a network ---- */

void resolver_enter(struct gt_container *ctr, const struct gt_container_endpoint *endpoint)
{
	struct gt_strings names = { 0 };
	if (!endpoint_has_names(endpoint) || !endpoint_joined(endpoint))
		return;
	endpoint_names(ctr, endpoint, &names);
	gt_dns_enter(ctr->engine->dns, &(struct gt_dns_member){ .network_id = endpoint->network_id, .network_name = endpoint->network_name,
								.container_id = ctr->id, .names = (const char *const *)names.items,
								.name_count = names.count, .ipv4 = endpoint->ipv4, .ipv6 = endpoint->ipv6 });
	gt_strings_free(&names);
}

void resolver_leave(struct gt_container *ctr, const struct gt_container_endpoint *endpoint)
{
	gt_dns_leave(ctr->engine->dns, endpoint->network_id, ctr->id);
}

/* Drivers of networks that span hosts tell the others. */
static void rename_abroad(struct gt_container *ctr, const struct gt_container_endpoint *endpoint)
{
	struct gt_strings names = { 0 };
	struct gt_error err = { 0 };
	struct gt_driver *driver = endpoint_joined(endpoint) ? network_driver(ctr->engine, endpoint->network_id, NULL) : NULL;
	if (!driver || !(gt_driver_capabilities(driver) & GANTRY_NET_GLOBAL))
		return;
	endpoint_names(ctr, endpoint, &names);
	if (gt_net_rename(driver, endpoint->network_id, endpoint->id, (const char *const *)names.items, names.count, &err) < 0 &&
	    err.kind != GT_UNSUPPORTED)
		gt_warn("other hosts do not know a container's new name", "id", ctr->id, "network", endpoint->network_name, "error", err.message);
	gt_strings_free(&names);
}

void gt_resolver_renamed(struct gt_container *ctr)
{
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		resolver_enter(ctr, &ctr->endpoints[i]);
		rename_abroad(ctr, &ctr->endpoints[i]);
	}
}

/* ---- what a container sees ---- */

/* The view's arrays, as long as it is handed over. */
struct sight {
	struct gt_dns_view view;
	const char **network_ids;
	struct gt_dns_link *links;
	struct gt_strings texts;        /* of the links */
};

static bool leads_out(struct gt_engine *engine, const char *network_id)
{
	LOCKED(&engine->networks->lock);
	const struct network *network = gt_map_get(&engine->networks->by_id, network_id);
	return network && !network->internal;
}

/* "target:alias" of an endpoint, or of HostConfig.Links with an id. A target that exists is known by its id from now on, so that it may be renamed. */
static void see_link(struct gt_container *ctr, const char *network_id, const char *text, struct sight *sight)
{
	const char *colon = strchr(text, ':');
	AUTO_FREE char *target = gt_xstrndup(text, colon ? (size_t)(colon - text) : strlen(text));
	AUTO_CONTAINER struct gt_container *other = gt_container_get(ctr->engine, target, NULL);
	gt_strings_add(&sight->texts, other ? other->id : target);
	gt_strings_add(&sight->texts, colon ? colon + 1 : target);
	sight->links = gt_xrealloc(sight->links, (sight->view.link_count + 1) * sizeof *sight->links);
	sight->links[sight->view.link_count++] = (struct gt_dns_link){ .network_id = network_id, .target = sight->texts.items[sight->texts.count - 2],
								       .alias = sight->texts.items[sight->texts.count - 1] };
}

static bool sets_ndots(const struct gt_strings *options)
{
	for (size_t i = 0; i < options->count; i++) {
		if (strncmp(options->items[i], "ndots:", 6) == 0 && strcmp(options->items[i], "ndots:0"))
			return true;
	}
	return false;
}

static void look(struct gt_container *ctr, struct sight *sight)
{
	const struct gt_config *config = atomic_load(&ctr->engine->config);
	const struct gt_host_config *host = &ctr->config.host;
	const struct gt_strings *upstreams = host->dns.count ? &host->dns : &config->dns;
	*sight = (struct sight){ .network_ids = gt_xcalloc(ctr->endpoint_count + 1, sizeof(char *)) };
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		const struct gt_container_endpoint *endpoint = &ctr->endpoints[i];
		sight->view.forward = sight->view.forward || leads_out(ctr->engine, endpoint->network_id);
		if (!endpoint_has_names(endpoint))
			continue;
		sight->network_ids[sight->view.network_count++] = endpoint->network_id;
		for (size_t l = 0; l < endpoint->links.count; l++)
			see_link(ctr, endpoint->network_id, endpoint->links.items[l], sight);
		for (size_t l = 0; l < host->links.count; l++)
			see_link(ctr, endpoint->network_id, host->links.items[l], sight);
	}
	sight->view.container_id = ctr->id;
	sight->view.network_ids = sight->network_ids;
	sight->view.links = sight->links;
	sight->view.upstreams = (const char *const *)upstreams->items;
	sight->view.upstream_count = upstreams->count;
	sight->view.dotted_only = sets_ndots(&host->dns_options);
}

static void forget(struct sight *sight)
{
	free(sight->network_ids);
	free(sight->links);
	gt_strings_free(&sight->texts);
}

int resolver_serve(struct gt_container *ctr, int netns_fd, bool *opened, struct gt_error *err)
{
	struct sight sight;
	look(ctr, &sight);
	int rc = 0;
	*opened = !gt_dns_change(ctr->engine->dns, &sight.view) && resolver_wanted(ctr);
	if (*opened)
		rc = gt_dns_serve(ctr->engine->dns, &sight.view, netns_fd, err);
	forget(&sight);
	return rc;
}

void resolver_change(struct gt_container *ctr)
{
	struct sight sight;
	look(ctr, &sight);
	gt_dns_change(ctr->engine->dns, &sight.view);
	forget(&sight);
}

void resolver_stop(struct gt_container *ctr)
{
	gt_dns_stop(ctr->engine->dns, ctr->id);
}

/* ---- after a restart of the daemon ---- */

static void serve_again(struct gt_container *ctr)
{
	struct gt_error err = { 0 };
	bool opened;
	LOCKED(&ctr->op);
	if (!resolver_wanted(ctr) || !gt_container_is_running(ctr))
		return;
	AUTO_FREE char *path = gt_xasprintf("/proc/%d/ns/net", (int)ctr->pid);
	AUTO_CLOSE int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return; /* it has just ended */
	if (resolver_serve(ctr, netns, &opened, &err) < 0)
		gt_err("a container has no resolver any more", "id", ctr->id, "error", err.message);
}

static void serve_all_again(void *arg)
{
	struct gt_engine *engine = arg;
	struct gt_container **all = gt_containers_all(engine, NULL);
	for (size_t i = 0; all[i] && !engine->closing; i++)
		serve_again(all[i]);
	gt_containers_put(all);
}

void gt_resolvers_reconcile(struct gt_engine *engine)
{
	struct gt_container **all = gt_containers_all(engine, NULL);
	bool any = false;
	for (size_t c = 0; all[c]; c++) {
		LOCKED(&all[c]->op);
		for (size_t i = 0; i < all[c]->endpoint_count; i++)
			resolver_enter(all[c], &all[c]->endpoints[i]);
		any = any || resolver_wanted(all[c]);
	}
	gt_containers_put(all);
	if (any)
		gt_work(engine, serve_all_again, engine);
}
