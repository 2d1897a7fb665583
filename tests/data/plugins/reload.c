/*
 * reload.c - a driver of each kind that tells what it knows: for plugins that are reloaded. Others include it with another VERSION, or a way to fail.
 *
 * Volume driver "reload":    create("slow") takes 400 ms, others are state documents; inspect("version"), ("greeting"), ("uses"), ("pid"), ("lives": how often this
 *                            mapping was opened) as mountpoint; counts its mounts; a thread of its own runs in its code until close()
 * Network driver "reload":   network_remove("tell") fails with all networks, endpoints and ports that it knows
 * Storage driver "reload":   layers that are never written
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broken.h"

#ifndef VERSION
#define VERSION "1"
#endif
#ifndef NETWORK_NAME
#define NETWORK_NAME "reload"
#endif
#ifndef NETWORK_CAPABILITIES
#define NETWORK_CAPABILITIES GANTRY_NET_PUBLISH
#endif
#ifndef OPEN_FAILS
#define OPEN_FAILS 0
#endif
#ifndef OPENS_ONCE
#define OPENS_ONCE 0
#endif
#ifndef RECONCILE_FAILS
#define RECONCILE_FAILS 0
#endif

struct known {
	char id[65], text[160];
	unsigned ports;
	struct known *next;
};

struct reload {
	const struct gantry_host *host;
	pthread_mutex_t lock;
	struct known *networks, *endpoints;
	char uses[512];
	pthread_t thread;
	atomic_bool stop;
	atomic_uint rounds;
};

static atomic_uint lives;

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

static void *spin(void *arg)
{
	struct reload *self = arg;
	while (!atomic_load(&self->stop)) {
		atomic_fetch_add(&self->rounds, 1);
		pause_ms(1);
	}
	return NULL;
}

static int reload_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	if (OPEN_FAILS)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "version " VERSION " does not open");
	if (OPENS_ONCE && atomic_load(&lives) >= 3)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "version " VERSION " opens once");
	struct reload *self = calloc(1, sizeof *self);
	if (!self)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	self->host = host;
	pthread_mutex_init(&self->lock, NULL);
	if (pthread_create(&self->thread, NULL, spin, self)) {
		free(self);
		return gantry_fail(err, GANTRY_E_INTERNAL, "no thread");
	}
	atomic_fetch_add(&lives, 1);
	*driver = self;
	return 0;
}

static void free_known(struct known **list)
{
	while (*list) {
		struct known *next = (*list)->next;
		free(*list);
		*list = next;
	}
}

static void reload_close(void *driver)
{
	struct reload *self = driver;
	atomic_store(&self->stop, 1);
	pthread_join(self->thread, NULL);
	free_known(&self->networks);
	free_known(&self->endpoints);
	pthread_mutex_destroy(&self->lock);
	free(self);
}

/* ---- what is known ---- */

static struct known **find(struct known **list, const char *id)
{
	while (*list && strcmp((*list)->id, id) != 0)
		list = &(*list)->next;
	return list;
}

static struct known *note(struct known **list, const char *id, const char *text)
{
	struct known **at = find(list, id);
	if (!*at && !(*at = calloc(1, sizeof **at)))
		abort();
	snprintf((*at)->id, sizeof (*at)->id, "%s", id);
	snprintf((*at)->text, sizeof (*at)->text, "%s", text);
	return *at;
}

static void forget(struct known **list, const char *id)
{
	struct known **at = find(list, id), *gone = *at;
	if (gone) {
		*at = gone->next;
		free(gone);
	}
}

/* In the order of their ids. */
static void tell(const struct known *list, char *out, size_t room)
{
	const char *last = "";
	for (;;) {
		const struct known *next = NULL;
		for (const struct known *known = list; known; known = known->next) {
			if (strcmp(known->id, last) > 0 && (!next || strcmp(known->id, next->id) < 0))
				next = known;
		}
		if (!next)
			return;
		last = next->id;
		size_t len = strlen(out);
		snprintf(out + len, room - len, " %s:%s", next->id, next->text);
		len = strlen(out);
		if (next->ports)
			snprintf(out + len, room - len, "+%u", next->ports);
	}
}

/* ---- networks ---- */

static int net_create(void *driver, const struct gantry_call *call, const struct gantry_network *network, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)err;
	pthread_mutex_lock(&self->lock);
	note(&self->networks, network->id, network->flags & GANTRY_NETWORK_KNOWN ? "known" : "new");
	pthread_mutex_unlock(&self->lock);
	return 0;
}

static int net_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	struct reload *self = driver;
	char text[400] = VERSION ":";
	(void)call;
	pthread_mutex_lock(&self->lock);
	tell(self->networks, text, sizeof text);
	tell(self->endpoints, text, sizeof text);
	if (strcmp(network_id, "tell") != 0)
		forget(&self->networks, network_id);
	pthread_mutex_unlock(&self->lock);
	return strcmp(network_id, "tell") != 0 ? 0 : gantry_fail(err, GANTRY_E_CONFLICT, "%s", text);
}

static void note_endpoint(struct reload *self, const struct gantry_endpoint *endpoint)
{
	char text[160];
	snprintf(text, sizeof text, "%s,%s", endpoint->ipv4, endpoint->name_count ? endpoint->names[0] : "");
	note(&self->endpoints, endpoint->id, text);
}

static int net_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)netns_fd;
	(void)err;
	pthread_mutex_lock(&self->lock);
	snprintf(endpoint->ipv4, sizeof endpoint->ipv4, "10.0.0.2/24");
	note_endpoint(self, endpoint);
	pthread_mutex_unlock(&self->lock);
	return 0;
}

static int net_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)network_id;
	(void)netns_fd;
	(void)err;
	pthread_mutex_lock(&self->lock);
	forget(&self->endpoints, endpoint_id);
	pthread_mutex_unlock(&self->lock);
	return 0;
}

static int net_publish(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoint, const struct gantry_port *ports, size_t port_count,
		       size_t port_size, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)ports;
	(void)port_size;
	pthread_mutex_lock(&self->lock);
	struct known *known = *find(&self->endpoints, endpoint->id);
	if (known)
		known->ports = (unsigned)port_count;
	pthread_mutex_unlock(&self->lock);
	return known ? 0 : gantry_fail(err, GANTRY_E_NOT_FOUND, "no such endpoint");
}

static int net_unpublish(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)network_id;
	(void)err;
	pthread_mutex_lock(&self->lock);
	struct known *known = *find(&self->endpoints, endpoint_id);
	if (known)
		known->ports = 0;
	pthread_mutex_unlock(&self->lock);
	return 0;
}

static int net_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size,
			 const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)ports;
	(void)port_size;
	if (RECONCILE_FAILS)
		return gantry_fail(err, GANTRY_E_INTERNAL, "version " VERSION " does not reconcile");
	pthread_mutex_lock(&self->lock);
	free_known(&self->endpoints);
	for (size_t i = 0; i < endpoint_count; i++) {
		const struct gantry_endpoint *endpoint = (const void *)((const char *)endpoints + i * endpoint_size);
		note_endpoint(self, endpoint);
		for (size_t p = 0; p < port_count; p++)
			(*find(&self->endpoints, endpoint->id))->ports += port_owner[p] == i;
	}
	pthread_mutex_unlock(&self->lock);
	return 0;
}

static int net_rename(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, const char *const *names, size_t name_count,
		      struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)network_id;
	(void)err;
	char text[160];
	pthread_mutex_lock(&self->lock);
	struct known *known = *find(&self->endpoints, endpoint_id);
	snprintf(text, sizeof text, "10.0.0.2/24,%s", name_count ? names[0] : "");
	if (known)
		note(&self->endpoints, endpoint_id, text);
	pthread_mutex_unlock(&self->lock);
	return 0;
}

/* ---- volumes ---- */

static int vol_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)options;
	for (int i = 0; i < 40 && strcmp(name, "slow") == 0; i++)
		pause_ms(10);
	return self->host->state_put(self->host, name, VERSION, 1, err);
}

static int vol_remove(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	return self->host->state_remove(self->host, name, err);
}

static int vol_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only, struct gantry_mount *mount,
		     struct gantry_error *err)
{
	snprintf(mount->type, sizeof mount->type, "tmpfs");
	snprintf(mount->source, sizeof mount->source, VERSION);
	return nothing_mount(driver, call, name, container_id, read_only, mount, err);
}

static int vol_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info, struct gantry_error *err)
{
	struct reload *self = driver;
	char text[512] = VERSION;
	(void)call;
	(void)err;
	if (strcmp(name, "greeting") == 0)
		snprintf(text, sizeof text, "%s", self->host->config(self->host, name));
	else if (strcmp(name, "pid") == 0)
		snprintf(text, sizeof text, "%d", (int)getpid());
	else if (strcmp(name, "lives") == 0)
		snprintf(text, sizeof text, "%u", atomic_load(&lives));
	pthread_mutex_lock(&self->lock);
	if (strcmp(name, "uses") == 0)
		memcpy(text, self->uses, sizeof text);
	pthread_mutex_unlock(&self->lock);
	snprintf(info->mountpoint, sizeof info->mountpoint, "%s", text);
	return 0;
}

static int vol_reconcile(void *driver, const struct gantry_call *call, const struct gantry_volume_use *uses, size_t count, size_t use_size,
			 struct gantry_error *err)
{
	struct reload *self = driver;
	(void)call;
	(void)err;
	pthread_mutex_lock(&self->lock);
	snprintf(self->uses, sizeof self->uses, "%zu", count);
	for (size_t i = 0; i < count; i++) {
		const struct gantry_volume_use *use = (const void *)((const char *)uses + i * use_size);
		size_t len = strlen(self->uses);
		snprintf(self->uses + len, sizeof self->uses - len, " %s=%s", use->name, use->container_id);
	}
	pthread_mutex_unlock(&self->lock);
	return 0;
}

/* ---- layers ---- */

static int store_prepare(void *driver, const struct gantry_call *call, int layer_kind, const char *id, const char *parent, const struct gantry_options *options,
			 struct gantry_error *err)
{
	(void)layer_kind;
	(void)parent;
	(void)options;
	return nothing_remove(driver, call, id, err);
}

static int store_dir(void *driver, const struct gantry_call *call, const char *id, struct gantry_layer_dir *dir, struct gantry_error *err)
{
	(void)dir;
	return nothing_remove(driver, call, id, err);
}

static int store_lookup(void *driver, const struct gantry_call *call, const char *id, int *sealed, struct gantry_error *err)
{
	*sealed = 1;
	return nothing_remove(driver, call, id, err);
}

static int store_mount(void *driver, const struct gantry_call *call, const char *id, int read_only, struct gantry_mount *mount, struct gantry_error *err)
{
	return nothing_mount(driver, call, id, "", read_only, mount, err);
}

static int store_diff(void *driver, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg, struct gantry_error *err)
{
	(void)visit;
	(void)arg;
	return nothing_remove(driver, call, id, err);
}

static int store_usage(void *driver, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err)
{
	(void)usage;
	return nothing_remove(driver, call, id, err);
}

/* ---- descriptor ---- */

static const struct gantry_network_ops network_ops = {
	.size = sizeof network_ops, .open = reload_open, .close = reload_close, .network_create = net_create, .network_remove = net_remove,
	.endpoint_join = net_join, .endpoint_leave = net_leave, .publish = net_publish, .unpublish = net_unpublish, .reconcile = net_reconcile,
	.endpoint_rename = net_rename,
};

static const struct gantry_volume_ops volume_ops = {
	.size = sizeof volume_ops, .open = reload_open, .close = reload_close, .create = vol_create, .remove = vol_remove, .mount = vol_mount,
	.release = nothing_release, .list = nothing_list, .inspect = vol_inspect, .reconcile = vol_reconcile,
};

static const struct gantry_storage_ops storage_ops = {
	.size = sizeof storage_ops, .open = reload_open, .close = reload_close, .prepare = store_prepare, .layer_dir = store_dir, .commit = nothing_remove,
	.lookup = store_lookup, .mount = store_mount, .diff = store_diff, .remove = nothing_remove, .usage = store_usage, .list = nothing_list,
};

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_STRING, .name = "greeting", .default_value = "hello", .doc = "a key" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_INT, .name = "number", .default_value = "1", .min = 1, .max = 9, .doc = "a key" },
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = NETWORK_NAME, .capabilities = NETWORK_CAPABILITIES, .ops = &network_ops },
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "reload", .ops = &volume_ops },
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_STORAGE, .name = "reload", .ops = &storage_ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR, .name = "reload", .version = VERSION,
	.description = "tells what it knows", .keys = keys, .key_count = 2, .key_size = sizeof keys[0], .drivers = drivers, .driver_count = 3,
	.driver_size = sizeof drivers[0],
};
