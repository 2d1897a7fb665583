/*
 * reconcile.c - after a start of the engine: attachments of containers that are gone are taken back, published ports are held again and their rules looked at, and
 * plugins that can are told what there should be (GC). Programs are slow and start-up waits, so several run at once.
 */
#include "cni.h"

#include <stdlib.h>
#include <string.h>

#define THREADS 4

struct work {
	struct cni *self;
	const struct gantry_call *call;
	const char *endpoints;
	size_t count, size;             /* of endpoints */
	pthread_mutex_t lock;
	json_t *ids;                    /* of records */
	size_t next;
};

static bool is_alive(const struct work *work, const char *endpoint_id)
{
	for (size_t i = 0; i < work->count; i++) {
		if (strcmp(((const struct gantry_endpoint *)(const void *)(work->endpoints + i * work->size))->id, endpoint_id) == 0)
			return true;
	}
	return false;
}

/* Rules that somebody flushed meanwhile come back; a live link is left alone. */
static int look_at_ports(struct cni *self, const struct gantry_call *call, const char *endpoint_id, struct gantry_error *err)
{
	struct gantry_error why = { .size = sizeof why };
	json_t *record = record_load(self, endpoint_id, err);
	const json_t *mappings = json_object_get(json_object_get(record, "args"), "portMappings");
	int rc = record ? 0 : -1;
	if (mappings) {
		struct attachment at = cni_attach(self, call, record, endpoint_id);
		rc = ports_hold(self, endpoint_id, record, mappings, err);
		if (rc == 0 && at.netns[0] && chain_check(&at, MAPPERS, &why) < 0)
			rc = chain_add(&at, MAPPERS, NULL, err);
	}
	json_decref(record);
	return rc;
}

static const char *next_id(struct work *work)
{
	pthread_mutex_lock(&work->lock);
	const char *id = json_string_value(json_array_get(work->ids, work->next));
	work->next += id != NULL;
	pthread_mutex_unlock(&work->lock);
	return id;
}

static void *settle(void *arg)
{
	struct work *work = arg;
	struct cni *self = work->self;
	for (const char *id; (id = next_id(work)) != NULL && !self->host->cancelled(self->host, work->call);) {
		struct gantry_error why = { .size = sizeof why };
		int rc = is_alive(work, id) ? look_at_ports(self, work->call, id, &why) : cni_detach(self, work->call, id, -1, &why);
		if (rc < 0)
			self->host->log(self->host, GANTRY_WARN, why.message);
	}
	return NULL;
}

static int note_id(void *arg, const char *endpoint_id)
{
	json_t *ids = arg;
	return json_array_append_new(ids, json_string(endpoint_id));
}

static int settle_all(struct work *work, struct gantry_error *err)
{
	pthread_t threads[THREADS];
	size_t started = 0;
	if (record_each(work->self, note_id, work->ids, err) < 0)
		return -1;
	while (started < THREADS && started + 1 < json_array_size(work->ids) && pthread_create(&threads[started], NULL, settle, work) == 0)
		started++;
	settle(work);
	while (started > 0)
		pthread_join(threads[--started], NULL);
	return 0;
}

/* A namespace that is kept, and no record says why. */
static int sweep_netns(void *arg, const char *endpoint_id)
{
	struct work *work = arg;
	if (!record_exists(work->self, endpoint_id))
		netns_let_go(work->self, endpoint_id);
	return 0;
}

/* ---- garbage collection ---- */

struct gathering {
	struct cni *self;
	const char *conf_name;
	json_t *keep;
};
static int gather(void *arg, const char *endpoint_id)
{
	struct gathering *into = arg;
	struct gantry_error ignored = { .size = sizeof ignored };
	json_t *record = record_load(into->self, endpoint_id, &ignored);
	const char *name = json_string_value(json_object_get(json_object_get(record, "conf"), "name"));
	if (name && strcmp(name, into->conf_name) == 0)
		json_array_append_new(into->keep, json_pack("{s:O s:O}", "containerID", json_object_get(record, "container"), "ifname", json_object_get(record, "ifname")));
	json_decref(record);
	return 0;
}

/* Plugins of 1.1.0 are told what there is, and remove what else they know. */
static void collect_garbage(struct cni *self, const struct gantry_call *call, const char *path, const char *network)
{
	struct gantry_error why = { .size = sizeof why };
	json_t *conf = conf_load(path, &why);
	if (conf && conf_at_least(conf, 1, 1)) {
		struct gathering into = { self, json_string_value(json_object_get(conf, "name")), json_array() };
		json_t *record = json_pack("{s:s s:O s:{}}", "network", network, "conf", conf, "args");
		struct attachment at = cni_attach(self, call, record, NULL);
		if (record_each(self, gather, &into, &why) < 0 || chain_gc(&at, into.keep, &why) < 0)
			self->host->log(self->host, GANTRY_WARN, why.message);
		json_decref(record);
		json_decref(into.keep);
	}
	json_decref(conf);
}

static void collect_all(struct cni *self, const struct gantry_call *call)
{
	json_t *list = json_array(), *entry;
	size_t i;
	pthread_mutex_lock(&self->lock);
	for (const struct network *network = self->networks; network; network = network->next) {
		struct gantry_error ignored = { .size = sizeof ignored };
		char *path = conf_path(self, network, &ignored);
		if (path)
			json_array_append_new(list, json_pack("[ss]", path, network->name));
		free(path);
	}
	pthread_mutex_unlock(&self->lock);
	json_array_foreach(list, i, entry)
		collect_garbage(self, call, json_string_value(json_array_get(entry, 0)), json_string_value(json_array_get(entry, 1)));
	json_decref(list);
}

/* ---- the op ---- */

int cni_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size,
		  const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err)
{
	struct cni *self = driver;
	struct work work = { .self = self, .call = call, .endpoints = (const char *)endpoints, .count = endpoint_count, .size = endpoint_size,
			     .lock = PTHREAD_MUTEX_INITIALIZER, .ids = json_array() };
	(void)ports, (void)port_owner, (void)port_count, (void)port_size;
	int rc = settle_all(&work, err);
	if (rc == 0)
		rc = netns_each(self, sweep_netns, &work, err);
	if (rc == 0)
		collect_all(self, call);
	json_decref(work.ids);
	pthread_mutex_destroy(&work.lock);
	return rc;
}
