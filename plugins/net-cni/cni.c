/*
 * cni.c - the network driver "cni": a network is a CNI configuration, an endpoint an attachment to it.
 *
 * The plugins do all there is to do to the kernel, addresses and rules included; here is the order of things, what is remembered, and what is undone. Plugins
 * that map ports for others (capability portMappings, not the first of the list) have their turn when ports are published, not at join.
 */
#include "cni.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND 1000000000ll

/* ---- open, close ---- */

static int cni_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	struct cni *self = calloc(1, sizeof *self);
	if (!self)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	self->host = host;
	self->fd = open(host->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (self->fd < 0) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", host->state_dir);
		free(self);
		return -1;
	}
	pthread_mutex_init(&self->lock, NULL);
	*driver = self;
	return 0;
}

static void network_free(struct network *network)
{
	free(network->path);
	free(network);
}

static void forget(struct cni *self, const char *network_id)
{
	for (struct network **at = &self->networks; *at;) {
		struct network *network = *at;
		if (network_id && strcmp(network->id, network_id) != 0) {
			at = &network->next;
			continue;
		}
		*at = network->next;
		network_free(network);
	}
}

static void cni_close(void *driver)
{
	struct cni *self = driver;
	forget(self, NULL);
	netns_close_all(self);
	ports_let_all_go(self);
	pthread_mutex_destroy(&self->lock);
	close(self->fd);
	free(self);
}

/* ---- networks ---- */

static int check_wishes(const struct gantry_network *network, struct gantry_error *err)
{
	if (!id_valid(network->id))
		return gantry_fail(err, GANTRY_E_INVALID, "a network's id must be 64 hexadecimal digits");
	if (network->subnet_count)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: a subnet cannot be given: addresses are those of the CNI configuration", network->name);
	if (network->flags & GANTRY_NETWORK_INTERNAL)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: whether it leads out of the host is said by its CNI configuration, not by internal", network->name);
	return 0;
}

static int check_conf(struct cni *self, const struct gantry_call *call, const struct network *network, bool versions, struct gantry_error *err)
{
	char *path = conf_path(self, network, err);
	json_t *conf = path ? conf_load(path, err) : NULL;
	int rc = conf ? conf_check_programs(self, conf, err) : -1;
	if (rc == 0 && versions) {
		json_t *record = json_pack("{s:s s:O s:{}}", "network", network->name, "conf", conf, "args");
		struct attachment at = cni_attach(self, call, record, NULL);
		rc = chain_versions(&at, err);
		json_decref(record);
	}
	json_decref(conf);
	free(path);
	return rc;
}

/* A network of before, whose file or programs are away, stays: joins say what is missing. */
static int check_network(struct cni *self, const struct gantry_call *call, const struct gantry_network *wanted, const struct network *network, struct gantry_error *err)
{
	bool known = wanted->flags & GANTRY_NETWORK_KNOWN;
	char line[600];
	if (check_conf(self, call, network, !known, err) == 0)
		return 0;
	if (known) {
		snprintf(line, sizeof line, "network %.64s: %.500s", network->name, err->message);
		self->host->log(self->host, GANTRY_WARN, line);
		return 0;
	}
	if (err->kind == GANTRY_E_NOT_FOUND)
		err->kind = GANTRY_E_INVALID;
	return -1;
}

static int cni_network_create(void *driver, const struct gantry_call *call, const struct gantry_network *wanted, struct gantry_error *err)
{
	struct cni *self = driver;
	if (check_wishes(wanted, err) < 0)
		return -1;
	struct network *network = calloc(1, sizeof *network);
	if (!network)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	snprintf(network->id, sizeof network->id, "%s", wanted->id);
	snprintf(network->name, sizeof network->name, "%s", wanted->name);
	if (conf_choose(self, wanted, network, err) < 0 || check_network(self, call, wanted, network, err) < 0) {
		network_free(network);
		return -1;
	}
	pthread_mutex_lock(&self->lock);
	forget(self, wanted->id);
	network->next = self->networks;
	self->networks = network;
	pthread_mutex_unlock(&self->lock);
	return 0;
}

/* Another network of the same configuration, or an empty id. The lock is held. */
static void find_heir(const struct cni *self, const char *network_id, char heir_id[ID_LEN + 1])
{
	struct gantry_error ignored = { .size = sizeof ignored };
	const struct network *own = self->networks;
	while (own && strcmp(own->id, network_id) != 0)
		own = own->next;
	char *path = own ? conf_path(self, own, &ignored) : NULL;
	for (const struct network *at = self->networks; path && at && !heir_id[0]; at = at->next) {
		char *other = at != own ? conf_path(self, at, &ignored) : NULL;
		if (other && strcmp(other, path) == 0)
			snprintf(heir_id, ID_LEN + 1, "%s", at->id);
		free(other);
	}
	free(path);
}

static int cni_network_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	struct cni *self = driver;
	char heir_id[ID_LEN + 1] = "";
	(void)call;
	if (!id_valid(network_id))
		return gantry_fail(err, GANTRY_E_INVALID, "a network's id must be 64 hexadecimal digits");
	pthread_mutex_lock(&self->lock);
	find_heir(self, network_id, heir_id);
	pthread_mutex_unlock(&self->lock);
	if (bridges_remove(self, network_id, heir_id[0] ? heir_id : NULL, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	forget(self, network_id);
	pthread_mutex_unlock(&self->lock);
	return 0;
}

/* A network's configuration as it is now, and a copy of its name. The caller's. */
static json_t *load_conf_of(struct cni *self, const char *network_id, char name[256], struct gantry_error *err)
{
	char *path = NULL;
	bool found = false;
	pthread_mutex_lock(&self->lock);
	for (const struct network *network = self->networks; network && !found; network = network->next) {
		found = strcmp(network->id, network_id) == 0;
		if (found) {
			snprintf(name, 256, "%s", network->name);
			path = conf_path(self, network, err);
		}
	}
	pthread_mutex_unlock(&self->lock);
	if (!found) {
		gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no network %.12s", network_id);
		return NULL;
	}
	json_t *conf = path ? conf_load(path, err) : NULL;
	if (!conf && err->kind == GANTRY_E_NOT_FOUND)
		err->kind = GANTRY_E_UNAVAILABLE; /* the network is there, its configuration is not */
	free(path);
	return conf;
}

/* ---- attachments ---- */

struct attachment cni_attach(struct cni *self, const struct gantry_call *call, const json_t *record, const char *endpoint_id)
{
	int64_t until = chain_now() + strtoll(self->host->config(self->host, "timeout"), NULL, 10) * SECOND;
	struct attachment at = { .self = self, .call = call, .record = record, .network = json_string_value(json_object_get(record, "network")),
				 .until = call->deadline_ns && call->deadline_ns < until ? call->deadline_ns : until };
	if (!endpoint_id || !netns_path(self, endpoint_id, at.netns))
		at.netns[0] = '\0';
	return at;
}

static json_t *new_record(struct cni *self, const struct gantry_endpoint *endpoint, struct gantry_error *err)
{
	char name[256];
	if (!id_valid(endpoint->id) || !id_valid(endpoint->container_id)) {
		gantry_fail(err, GANTRY_E_INVALID, "an endpoint's and a container's id must be 64 hexadecimal digits");
		return NULL;
	}
	json_t *conf = load_conf_of(self, endpoint->network_id, name, err);
	json_t *args = conf ? json_object() : NULL;
	if (!conf || args_add_wishes(conf, name, endpoint, args, err) < 0) {
		json_decref(conf);
		json_decref(args);
		return NULL;
	}
	return json_pack("{s:s s:s s:s s:s s:o s:o}", "network", name, "network_id", endpoint->network_id, "container", endpoint->container_id, "ifname",
			 endpoint->ifname, "conf", conf, "args", args);
}

/* What is left of a join that failed. Where plugins do not take it back, the record stays: the next life tries again. */
static void undo_join(struct cni *self, const struct gantry_call *call, const char *endpoint_id, const json_t *record)
{
	struct gantry_error why = { .size = sizeof why };
	struct attachment at = cni_attach(self, call, record, endpoint_id);
	if (chain_undo(&at, MAKERS, &why) < 0)
		self->host->log(self->host, GANTRY_WARN, why.message);
	else
		record_remove(self, endpoint_id, &why);
	netns_let_go(self, endpoint_id);
}

static int join_anew(struct cni *self, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	json_t *result = NULL, *record = new_record(self, endpoint, err);
	if (!record || netns_hold(self, endpoint->id, netns_fd, err) < 0 || bridges_note(self, endpoint->network_id, json_object_get(record, "conf"), err) < 0 ||
	    record_save(self, endpoint->id, record, err) < 0) {
		netns_let_go(self, endpoint->id);
		json_decref(record);
		return -1;
	}
	struct attachment at = cni_attach(self, call, record, endpoint->id);
	int rc = chain_add(&at, MAKERS, &result, err);
	if (rc == 0)
		rc = result_read(result, at.network, endpoint, err);
	if (rc == 0)
		rc = routes_settle(self, endpoint, result, netns_fd, err);
	if (rc == 0) {
		json_object_set(record, "result", result);
		rc = record_save(self, endpoint->id, record, err);
	}
	if (rc < 0)
		undo_join(self, call, endpoint->id, record);
	json_decref(result);
	json_decref(record);
	return rc;
}

/* Once more, for an endpoint that is joined: nothing is done but to look, and to move the default route. */
static int join_again(struct cni *self, const struct gantry_call *call, struct gantry_endpoint *endpoint, const json_t *record, int netns_fd, struct gantry_error *err)
{
	struct gantry_error why = { .size = sizeof why };
	if (netns_hold(self, endpoint->id, netns_fd, err) < 0)
		return -1;
	struct attachment at = cni_attach(self, call, record, endpoint->id);
	if (chain_check(&at, MAKERS, &why) < 0)
		self->host->log(self->host, GANTRY_WARN, why.message);
	if (result_read(json_object_get(record, "result"), at.network, endpoint, err) < 0)
		return -1;
	return routes_settle(self, endpoint, json_object_get(record, "result"), netns_fd, err);
}

static int cni_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct cni *self = driver;
	json_t *record = id_valid(endpoint->id) ? record_load(self, endpoint->id, err) : NULL;
	if (record && json_object_get(record, "result")) {
		int rc = join_again(self, call, endpoint, record, netns_fd, err);
		json_decref(record);
		return rc;
	}
	if (record && netns_hold(self, endpoint->id, netns_fd, err) == 0) /* a life that ended within ADD */
		undo_join(self, call, endpoint->id, record);
	json_decref(record);
	return join_anew(self, call, endpoint, netns_fd, err);
}

int cni_detach(struct cni *self, const struct gantry_call *call, const char *endpoint_id, int netns_fd, struct gantry_error *err)
{
	json_t *record = record_load(self, endpoint_id, err);
	ports_let_go(self, endpoint_id);
	if (!record) {
		netns_let_go(self, endpoint_id);
		return err->kind == GANTRY_E_NOT_FOUND ? 0 : -1;
	}
	if (netns_fd >= 0)
		netns_hold(self, endpoint_id, netns_fd, err);
	struct attachment at = cni_attach(self, call, record, endpoint_id);
	bool mapped = json_object_get(json_object_get(record, "args"), "portMappings") != NULL;
	int rc = chain_del(&at, mapped ? BOTH : MAKERS, err);
	json_decref(record);
	netns_let_go(self, endpoint_id);
	return rc < 0 ? -1 : record_remove(self, endpoint_id, err);
}

static int cni_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd, struct gantry_error *err)
{
	(void)network_id;
	if (!id_valid(endpoint_id))
		return gantry_fail(err, GANTRY_E_INVALID, "an endpoint's id must be 64 hexadecimal digits");
	return cni_detach(driver, call, endpoint_id, netns_fd, err);
}

/* ---- ports ---- */

static bool has_mapper(const json_t *conf)
{
	for (size_t i = 0; i < json_array_size(json_object_get(conf, "plugins")); i++) {
		if (conf_is_port_mapper(conf, i))
			return true;
	}
	return false;
}

/* The record tells of the ports before plugins map them, and as long as plugins do not take them back: endpoint_leave then tries again. */
static int map_ports(struct cni *self, const struct gantry_call *call, const char *endpoint_id, json_t *record, json_t *mappings, struct gantry_error *err)
{
	struct gantry_error why = { .size = sizeof why };
	json_t *args = json_object_get(record, "args");
	if (ports_hold(self, endpoint_id, record, mappings, err) < 0)
		return -1;
	json_object_set(args, "portMappings", mappings);
	struct attachment at = cni_attach(self, call, record, endpoint_id);
	if (record_save(self, endpoint_id, record, err) == 0) {
		if (chain_add(&at, MAPPERS, NULL, err) == 0)
			return 0;
		if (chain_undo(&at, MAPPERS, &why) == 0) {
			json_object_del(args, "portMappings");
			record_save(self, endpoint_id, record, &why);
		} else {
			self->host->log(self->host, GANTRY_WARN, why.message);
		}
	}
	ports_let_go(self, endpoint_id);
	return -1;
}

static int cni_publish(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoint, const struct gantry_port *ports, size_t port_count,
		       size_t port_size, struct gantry_error *err)
{
	struct cni *self = driver;
	json_t *record = id_valid(endpoint->id) ? record_load(self, endpoint->id, err) : NULL;
	if (!record)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "endpoint %.12s is not joined", endpoint->id);
	const json_t *has = json_object_get(json_object_get(record, "args"), "portMappings");
	json_t *mappings = ports_to_json(ports, port_count, port_size, err);
	int rc = -1;
	if (mappings && has && json_equal(has, mappings))
		rc = 0;
	else if (mappings && has)
		rc = gantry_fail(err, GANTRY_E_CONFLICT, "endpoint %.12s has published other ports", endpoint->id);
	else if (mappings && !has_mapper(json_object_get(record, "conf")))
		rc = gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %.64s: no ports can be published: its CNI configuration has no plugin after the first with the capability "
				 "portMappings (such as {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}})", json_string_value(json_object_get(record, "network")));
	else if (mappings)
		rc = map_ports(self, call, endpoint->id, record, mappings, err);
	json_decref(mappings);
	json_decref(record);
	return rc;
}

static int cni_unpublish(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, struct gantry_error *err)
{
	struct cni *self = driver;
	(void)network_id;
	json_t *record = id_valid(endpoint_id) ? record_load(self, endpoint_id, err) : NULL;
	json_t *args = json_object_get(record, "args");
	int rc = 0;
	if (json_object_get(args, "portMappings")) {
		struct attachment at = cni_attach(self, call, record, endpoint_id);
		rc = chain_del(&at, MAPPERS, err);
		if (rc == 0) {
			json_object_del(args, "portMappings");
			rc = record_save(self, endpoint_id, record, err);
		}
	}
	if (rc == 0)
		ports_let_go(self, endpoint_id);
	json_decref(record);
	return rc;
}

/* ---- the descriptor ---- */

static const struct gantry_network_ops ops = {
	.size = sizeof ops, .open = cni_open, .close = cni_close, .network_create = cni_network_create, .network_remove = cni_network_remove,
	.endpoint_join = cni_join, .endpoint_leave = cni_leave, .publish = cni_publish, .unpublish = cni_unpublish, .reconcile = cni_reconcile,
};

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_PATH, .name = "conf_dir", .default_value = "/etc/cni/net.d",
	  .doc = "directory of CNI configurations, for networks with -o name=" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_STRING, .name = "bin_dirs", .default_value = "/usr/lib/cni:/opt/cni/bin",
	  .doc = "directories of CNI plugins, separated by \":\"" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_PATH, .name = "default_conf", .default_value = NULL,
	  .doc = "the CNI configuration of networks that name none" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_INT, .name = "timeout", .default_value = "20", .min = 1, .max = 600,
	  .doc = "seconds for the plugins of a configuration, together" },
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "cni", .capabilities = GANTRY_NET_OWN_IPAM | GANTRY_NET_PUBLISH, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR,
	.name = "net-cni", .version = "1.0", .description = "networks that CNI plugins make",
	.keys = keys, .key_count = sizeof keys / sizeof keys[0], .key_size = sizeof keys[0],
	.drivers = drivers, .driver_count = 1, .driver_size = sizeof drivers[0],
};
