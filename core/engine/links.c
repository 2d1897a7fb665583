/*
 * links.c - HostConfig.Links: names that one container has for others.
 *
 * In user-defined networks they are aliases that resolver.c hands to the name server. On the default bridge, which has no names, they are what they were
 * before there were networks: lines of /etc/hosts, written again when the other container comes back with another address, and environment variables.
 * From create on a link is kept as "ID:alias", so that the other container may be renamed; inspect shows it as Docker does.
 *
 * networks->linked (other's id -> ids of those that link to it) tells a starting container whom to tell, without a look at all containers.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/config_check.h"
#include "engine/network.h"

#define MAX_LINKS 256
#define ID_PREFIX 65    /* "ID:" */

static const char *alias_of(const char *link)
{
	return strlen(link) > ID_PREFIX ? link + ID_PREFIX : link;
}

/* NULL where that container is gone. */
static struct gt_container *target_of(struct gt_engine *engine, const char *link)
{
	char id[65];
	snprintf(id, sizeof id, "%.64s", link);
	struct gt_container *other = gt_container_get(engine, id, NULL);
	if (other && strcmp(other->id, id) == 0)
		return other;
	if (other)
		gt_container_put(other);
	return NULL;
}

/* ---- create and removal ---- */

/* "NAME", "NAME:ALIAS", and as inspect shows it: "/NAME:/OWN/ALIAS". */
static char *read_link(struct gt_engine *engine, const char *text, struct gt_error *err)
{
	const char *colon = strchr(text, ':');
	AUTO_FREE char *name = gt_xstrndup(text, colon ? (size_t)(colon - text) : strlen(text));
	const char *alias = colon ? colon + 1 : name, *slash = strrchr(alias, '/');
	alias = slash ? slash + 1 : alias;
	if (!name[0] || !alias[0] || strlen(alias) > 253 || strpbrk(alias, ":= \t\r\n"))
		return gt_fail_null(err, GT_INVALID, "bad format for links: %.255s: NAME:ALIAS is wanted", text);
	AUTO_CONTAINER struct gt_container *other = gt_container_get(engine, name, err);
	if (!other) {
		if (err && err->kind == GT_NOT_FOUND)
			err->kind = GT_INVALID; /* with 404, clients would go and pull the image */
		gt_context(err, "could not get container for %.255s", name);
		return NULL;
	}
	return gt_xasprintf("%s:%s", other->id, alias);
}

int links_read(struct gt_container *ctr, struct gt_error *err)
{
	struct gt_host_config *host = &ctr->config.host;
	if (!host->links.count)
		return 0;
	if (config_container_mode(host->network_mode) || strcmp(host->network_mode, "host") == 0 || strcmp(host->network_mode, "none") == 0)
		return gt_fail(err, GT_INVALID, "conflicting options: network mode %.255s can't be used with links", host->network_mode);
	if (host->links.count > MAX_LINKS)
		return gt_fail(err, GT_TOO_LARGE, "a container has at most %d links", MAX_LINKS);
	struct gt_strings links = { 0 };
	for (size_t i = 0; i < host->links.count; i++) {
		AUTO_FREE char *link = read_link(ctr->engine, host->links.items[i], err);
		if (!link) {
			gt_strings_free(&links);
			return -1;
		}
		gt_strings_add(&links, link);
	}
	gt_strings_free(&host->links);
	host->links = links;
	return 0;
}

void links_note(struct gt_container *ctr)
{
	LOCKED(&ctr->engine->networks->lock);
	for (size_t i = 0; i < ctr->config.host.links.count; i++) {
		char id[65];
		snprintf(id, sizeof id, "%.64s", ctr->config.host.links.items[i]);
		struct gt_strings *linking = gt_map_get(&ctr->engine->networks->linked, id);
		if (!linking) {
			linking = gt_xcalloc(1, sizeof *linking);
			gt_map_set(&ctr->engine->networks->linked, id, linking);
		}
		gt_strings_add(linking, ctr->id);
	}
}

static void drop(struct gt_strings *list, const char *text)
{
	size_t kept = 0;
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], text))
			list->items[kept++] = list->items[i];
		else
			free(list->items[i]);
	}
	list->count = kept;
	if (list->items)
		list->items[kept] = NULL;
}

void links_forget(struct gt_container *ctr)
{
	struct gt_networks *networks = ctr->engine->networks;
	LOCKED(&networks->lock);
	for (size_t i = 0; i < ctr->config.host.links.count; i++) {
		char id[65];
		snprintf(id, sizeof id, "%.64s", ctr->config.host.links.items[i]);
		struct gt_strings *linking = gt_map_get(&networks->linked, id);
		if (linking)
			drop(linking, ctr->id);
		if (!linking || linking->count)
			continue;
		gt_map_remove(&networks->linked, id);
		gt_strings_free(linking);
		free(linking);
	}
}

json_t *links_to_json(struct gt_container *ctr)
{
	const struct gt_strings *links = &ctr->config.host.links;
	json_t *list = json_array();
	pthread_mutex_lock(&ctr->lock);
	AUTO_FREE char *own = gt_xstrdup(ctr->name);
	pthread_mutex_unlock(&ctr->lock);
	for (size_t i = 0; i < links->count; i++) {
		AUTO_CONTAINER struct gt_container *other = target_of(ctr->engine, links->items[i]);
		if (!other)
			continue;
		LOCKED(&other->lock);
		json_array_append_new(list, json_sprintf("/%s:/%s/%s", other->name, own, alias_of(links->items[i])));
	}
	if (json_array_size(list))
		return list;
	json_decref(list);
	return json_null();
}

/* ---- on the default bridge: hosts ---- */

static bool on_default_bridge(const struct gt_container *ctr)
{
	if (strcmp(ctr->config.host.network_mode, "default") && strcmp(ctr->config.host.network_mode, "bridge"))
		return false; /* the links are its networks' */
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (strcmp(ctr->endpoints[i].network_name, "bridge") == 0)
			return true;
	}
	return false;
}

/* The other's place on the default bridge, copied; false where it has none now. */
static bool place_of(struct gt_container *other, char ipv4[64], char ipv6[64], char names[static 1024], const char *alias)
{
	LOCKED(&other->lock);
	const char *hostname = other->config.hostname && other->config.hostname[0] ? other->config.hostname : "";
	bool other_name = strcmp(alias, other->name) != 0;
	for (size_t i = 0; i < other->endpoint_count; i++) {
		const struct gt_container_endpoint *endpoint = &other->endpoints[i];
		if (strcmp(endpoint->network_name, "bridge") || !endpoint_joined(endpoint))
			continue;
		snprintf(ipv4, 64, "%.*s", (int)strcspn(endpoint->ipv4, "/"), endpoint->ipv4);
		snprintf(ipv6, 64, "%.*s", (int)strcspn(endpoint->ipv6, "/"), endpoint->ipv6);
		snprintf(names, 1024, "%s%s%s%s%s", alias, hostname[0] ? " " : "", hostname, other_name ? " " : "", other_name ? other->name : "");
		return true;
	}
	return false;
}

int links_add_hosts(struct gt_container *ctr, struct gt_buf *hosts, struct gt_error *err)
{
	const struct gt_strings *links = &ctr->config.host.links;
	bool starting = links->count && !gt_container_is_running(ctr);
	for (size_t i = 0; i < links->count && on_default_bridge(ctr); i++) {
		char ipv4[64], ipv6[64], names[1024];
		AUTO_CONTAINER struct gt_container *other = target_of(ctr->engine, links->items[i]);
		if (!other)
			continue;
		if (!place_of(other, ipv4, ipv6, names, alias_of(links->items[i]))) {
			if (!starting)
				continue;
			LOCKED(&other->lock);
			if (other->status == GT_RUNNING || other->status == GT_PAUSED)
				return gt_fail(err, GT_CONFLICT, "Cannot link to /%s, as it does not belong to the default network", other->name);
			return gt_fail(err, GT_CONFLICT, "Cannot link to a non running container: /%s AS /%s/%s", other->name, ctr->name,
				       alias_of(links->items[i]));
		}
		if (ipv4[0])
			gt_buf_printf(hosts, "%s\t%s\n", ipv4, names);
		if (ipv6[0])
			gt_buf_printf(hosts, "%s\t%s\n", ipv6, names);
	}
	return 0;
}

static void rewrite_hosts(void *arg)
{
	struct gt_container *ctr = arg;
	struct gt_error err = { 0 };
	pthread_mutex_lock(&ctr->op);
	if (!ctr->engine->closing && gt_container_is_running(ctr) && gt_endpoints_write_files(ctr, &err) < 0)
		gt_warn("a linked container's new address could not be written", "id", ctr->id, "error", err.message);
	pthread_mutex_unlock(&ctr->op);
	gt_container_put(ctr);
}

/* By workers, as each takes the op of the other. */
void links_tell(struct gt_container *ctr)
{
	struct gt_strings linking = { 0 };
	pthread_mutex_lock(&ctr->engine->networks->lock);
	const struct gt_strings *found = gt_map_get(&ctr->engine->networks->linked, ctr->id);
	if (found)
		gt_strings_copy(&linking, found);
	pthread_mutex_unlock(&ctr->engine->networks->lock);
	for (size_t i = 0; i < linking.count; i++) {
		struct gt_container *parent = gt_container_get(ctr->engine, linking.items[i], NULL);
		if (parent)
			gt_work(ctr->engine, rewrite_hosts, parent);
	}
	gt_strings_free(&linking);
}

/* ---- on the default bridge: environment ---- */

struct port {
	uint16_t number;
	char proto[8];
};

/* By number, and "tcp" before "udp". */
static int by_number(const void *a, const void *b)
{
	const struct port *left = a, *right = b;
	return left->number != right->number ? (int)left->number - (int)right->number : strcmp(left->proto, right->proto);
}

static struct port *ports_of(const struct gt_container *ctr, size_t *count)
{
	struct port *ports = gt_xcalloc(json_object_size(ctr->config.exposed_ports) + 1, sizeof *ports);
	const char *key;
	json_t *value;
	*count = 0;
	json_object_foreach(ctr->config.exposed_ports, key, value) {
		const char *slash = strchr(key, '/');
		uint32_t proto;
		if (port_parse(key, &ports[*count].number, &proto) == 0)
			snprintf(ports[(*count)++].proto, sizeof ports->proto, "%s", slash ? slash + 1 : "tcp");
	}
	qsort(ports, *count, sizeof *ports, by_number);
	return ports;
}

static char *upper(const char *text)
{
	char *copy = gt_xstrdup(text);
	for (char *p = copy; *p; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	return copy;
}

static void add_variable(struct gt_strings *env, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_variable(struct gt_strings *env, const char *fmt, ...)
{
	AUTO_BUF struct gt_buf text = { 0 };
	va_list ap;
	va_start(ap, fmt);
	gt_buf_vprintf(&text, fmt, ap);
	va_end(ap);
	gt_strings_add(env, text.data);
}

static void add_ports(struct gt_container *other, const char *prefix, const char *address, struct gt_strings *env)
{
	size_t count;
	AUTO_FREE struct port *ports = ports_of(other, &count);
	if (count)
		add_variable(env, "%s_PORT=%s://%s:%u", prefix, ports[0].proto, address, ports[0].number);
	for (size_t i = 0; i < count; i++) {
		AUTO_FREE char *proto = upper(ports[i].proto);
		unsigned number = ports[i].number;
		add_variable(env, "%s_PORT_%u_%s=%s://%s:%u", prefix, number, proto, ports[i].proto, address, number);
		add_variable(env, "%s_PORT_%u_%s_ADDR=%s", prefix, number, proto, address);
		add_variable(env, "%s_PORT_%u_%s_PORT=%u", prefix, number, proto, number);
		add_variable(env, "%s_PORT_%u_%s_PROTO=%s", prefix, number, proto, ports[i].proto);
	}
}

void links_add_environment(const struct gt_container *ctr, struct gt_strings *env)
{
	const struct gt_strings *links = &ctr->config.host.links;
	for (size_t i = 0; i < links->count && on_default_bridge(ctr); i++) {
		char ipv4[64], ipv6[64], names[1024];
		const char *alias = alias_of(links->items[i]);
		AUTO_CONTAINER struct gt_container *other = target_of(ctr->engine, links->items[i]);
		if (!other || !place_of(other, ipv4, ipv6, names, alias))
			continue;
		AUTO_FREE char *prefix = upper(alias);
		add_ports(other, prefix, ipv4, env);
		add_variable(env, "%s_NAME=/%s/%s", prefix, ctr->name, alias);
		for (size_t e = 0; e < other->config.env.count; e++) {
			const char *variable = other->config.env.items[e];
			if (strchr(variable, '=') && strncmp(variable, "HOME=", 5) && strncmp(variable, "PATH=", 5))
				add_variable(env, "%s_ENV_%s", prefix, variable);
		}
	}
}
