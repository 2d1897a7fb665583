/*
 * family.c - what came with ABI 1.2: a family of volume drivers that count their mounts, and a network driver that tells its peers.
 *
 * Volume driver "family":    stands for alpha, beta, and "gone", which is there as long as its state_dir has a document "there" or has no document "away"
 *                            create(NAME) state_put; create("crash") ends the process; create("away") makes "gone" go
 *                            inspect(NAME) its flags and a status; reconcile(USES) keeps them in the document "uses"; mount(NAME) a tmpfs
 * Network driver "peers":    two peers in each network
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broken.h"

struct family {
	const struct gantry_host *host;
	char name[65];
};

static int family_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	if (strcmp(driver_name, "gone") == 0 && host->state_get(host, "away", NULL, 0, &ignored) >= 0)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "it went away");
	if (strcmp(driver_name, "family") && strcmp(driver_name, "alpha") && strcmp(driver_name, "beta") && strcmp(driver_name, "gone"))
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "nobody is called so");
	struct family *self = calloc(1, sizeof *self);
	if (!self)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	self->host = host;
	snprintf(self->name, sizeof self->name, "%s", driver_name);
	*driver = self;
	return 0;
}

static void family_close(void *driver)
{
	free(driver);
}

static int family_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options, struct gantry_error *err)
{
	struct family *self = driver;
	(void)call;
	(void)options;
	if (strcmp(name, "crash") == 0)
		_exit(3);
	self->host->event(self->host, name, "create", self->name);
	return self->host->state_put(self->host, name, "x", 1, err);
}

static int family_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only, struct gantry_mount *mount,
			struct gantry_error *err)
{
	if (strcmp(name, "crash") == 0)
		_exit(3);
	snprintf(mount->type, sizeof mount->type, "tmpfs");
	snprintf(mount->source, sizeof mount->source, "tmpfs");
	return nothing_mount(driver, call, name, container_id, read_only, mount, err);
}

static int family_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info, struct gantry_error *err)
{
	struct family *self = driver;
	(void)call;
	(void)err;
	info->flags = GANTRY_VOLUME_GLOBAL;
	snprintf(info->mountpoint, sizeof info->mountpoint, "%s", self->host->state_dir);
	snprintf(info->status, sizeof info->status, "{\"driver\": \"%s\", \"volume\": \"%s\"}", self->name, name);
	return 0;
}

static int family_reconcile(void *driver, const struct gantry_call *call, const struct gantry_volume_use *uses, size_t count, size_t use_size,
			    struct gantry_error *err)
{
	struct family *self = driver;
	char text[4096] = "";
	(void)call;
	for (size_t i = 0; i < count; i++) {
		const struct gantry_volume_use *use = (const void *)((const char *)uses + i * use_size);
		size_t len = strlen(text);
		snprintf(text + len, sizeof text - len, "%s=%s;", use->name, use->container_id);
	}
	return self->host->state_put(self->host, "uses", text, strlen(text), err);
}

static int family_family(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)err;
	return visit(arg, "alpha") == 0 ? (visit(arg, "beta"), 0) : 0;
}

static int peers_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	return nothing_open(host, driver_name, driver, err);
}

static int peers_create(void *driver, const struct gantry_call *call, const struct gantry_network *network, struct gantry_error *err)
{
	return nothing_remove(driver, call, network->id, err);
}

static int peers_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	(void)netns_fd;
	return nothing_remove(driver, call, endpoint->id, err);
}

static int peers_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd, struct gantry_error *err)
{
	(void)endpoint_id;
	(void)netns_fd;
	return nothing_remove(driver, call, network_id, err);
}

static int peers_peers(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_peer visit, void *arg, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	if (strcmp(network_id, "none") == 0)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "nothing is known");
	return visit(arg, "one", "10.0.0.1") == 0 ? (visit(arg, "two", "10.0.0.2"), 0) : 0;
}

static const struct gantry_volume_ops volume_ops = {
	.size = sizeof volume_ops, .open = family_open, .close = family_close, .create = family_create, .remove = nothing_remove, .mount = family_mount,
	.release = nothing_release, .list = nothing_list, .inspect = family_inspect, .reconcile = family_reconcile, .family = family_family,
};

static const struct gantry_network_ops network_ops = {
	.size = sizeof network_ops, .open = peers_open, .close = nothing_close, .network_create = peers_create, .network_remove = nothing_remove,
	.endpoint_join = peers_join, .endpoint_leave = peers_leave, .peers = peers_peers,
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "peers", .ops = &network_ops },
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "family", .capabilities = GANTRY_VOL_FAMILY, .ops = &volume_ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR, .name = "family", .version = "1",
	.description = "what came with 1.2", .drivers = drivers, .driver_count = 2, .driver_size = sizeof drivers[0],
};
