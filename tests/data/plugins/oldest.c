/* A plugin as the header of version 1.0 makes it, whatever came since: a driver of each kind. The copy of that header beside this file never changes. */
#include "v1.0/gantry/plugin.h"
#include "broken.h"

static int net_create(void *driver, const struct gantry_call *call, const struct gantry_network *network, struct gantry_error *err)
{
	if (network->size < sizeof *network || network->subnet_size < sizeof(struct gantry_subnet))
		return gantry_fail(err, GANTRY_E_INTERNAL, "the engine's structs are smaller than those of 1.0");
	/* the second subnet is where subnet_size says */
	const struct gantry_subnet *second = (const void *)((const char *)network->subnets + network->subnet_size);
	if (network->subnet_count != 2 || second->family != 6 || second->gateway[0] != 'f')
		return gantry_fail(err, GANTRY_E_INTERNAL, "the second subnet is not where it should be");
	return nothing_remove(driver, call, network->id, err);
}

static int net_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	(void)netns_fd;
	if (endpoint->size < sizeof *endpoint)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the engine's endpoint is smaller than that of 1.0");
	snprintf(endpoint->ipv4, sizeof endpoint->ipv4, "10.0.0.2/24");
	endpoint->mtu = 1400;
	return nothing_remove(driver, call, endpoint->id, err);
}

static int net_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd, struct gantry_error *err)
{
	(void)endpoint_id;
	(void)netns_fd;
	return nothing_remove(driver, call, network_id, err);
}

static int vol_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info, struct gantry_error *err)
{
	info->created_ns = 5;
	snprintf(info->mountpoint, sizeof info->mountpoint, "/oldest/%s", name);
	return nothing_remove(driver, call, name, err);
}

static int layer_prepare(void *driver, const struct gantry_call *call, int layer_kind, const char *id, const char *parent, const struct gantry_options *options,
			 struct gantry_error *err)
{
	(void)layer_kind;
	(void)parent;
	(void)options;
	return nothing_remove(driver, call, id, err);
}

static int layer_dir(void *driver, const struct gantry_call *call, const char *id, struct gantry_layer_dir *dir, struct gantry_error *err)
{
	(void)dir;
	return nothing_remove(driver, call, id, err);
}

static int layer_lookup(void *driver, const struct gantry_call *call, const char *id, int *sealed, struct gantry_error *err)
{
	*sealed = 1;
	return nothing_remove(driver, call, id, err);
}

static int layer_mount(void *driver, const struct gantry_call *call, const char *id, int read_only, struct gantry_mount *mount, struct gantry_error *err)
{
	return nothing_mount(driver, call, id, "", read_only, mount, err);
}

static int layer_diff(void *driver, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg, struct gantry_error *err)
{
	visit(arg, GANTRY_ADDED, "/new");
	return nothing_remove(driver, call, id, err);
}

static int layer_usage(void *driver, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err)
{
	usage->bytes = 7;
	return nothing_remove(driver, call, id, err);
}

static const struct gantry_network_ops network_ops = {
	.size = sizeof network_ops, .open = nothing_open, .close = nothing_close, .network_create = net_create, .network_remove = nothing_remove,
	.endpoint_join = net_join, .endpoint_leave = net_leave,
};
static const struct gantry_volume_ops volume_ops = {
	.size = sizeof volume_ops, .open = nothing_open, .close = nothing_close, .create = nothing_create, .remove = nothing_remove, .mount = nothing_mount,
	.release = nothing_release, .list = nothing_list, .inspect = vol_inspect,
};
static const struct gantry_storage_ops storage_ops = {
	.size = sizeof storage_ops, .open = nothing_open, .close = nothing_close, .prepare = layer_prepare, .layer_dir = layer_dir, .commit = nothing_remove,
	.lookup = layer_lookup, .mount = layer_mount, .diff = layer_diff, .remove = nothing_remove, .usage = layer_usage, .list = nothing_list,
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "oldest", .ops = &volume_ops },
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "oldest", .ops = &network_ops },
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_STORAGE, .name = "oldest", .ops = &storage_ops },
};
_Static_assert(GANTRY_ABI_MINOR == 0 && sizeof network_ops == 80, "this is to be built against the first header");
GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR, .name = "oldest", .version = "1",
	.description = "of the first days", .drivers = drivers, .driver_count = 3, .driver_size = sizeof drivers[0],
};
