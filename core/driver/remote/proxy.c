/*
 * proxy.c - tables of ops that carry their arguments to the plugin's process. The context of a driver is its struct driver.
 */
#include <string.h>

#include "remote.h"

#define CALL(op, ...) \
	struct wire_args args = { .fd = -1, __VA_ARGS__ }; \
	return remote_call(driver, WIRE_##op, call, &args, NULL, err)

/* ---- open, close ---- */

void proxy_open_args(struct driver *driver, struct wire_args *args)
{
	const struct plugin *plugin = driver->plugin;
	*args = (struct wire_args){ .title = driver->name, .name = driver->state_dir, .other = driver->run_dir, .number = driver->durable, .fd = -1,
				    .name_count = plugin->info.key_count };
	args->names = gt_xcalloc(args->name_count + 1, sizeof *args->names);
	for (size_t i = 0; i < args->name_count; i++)
		args->names[i] = plugin->values[i];
}

static int proxy_open(const struct gantry_host *host, const char *driver_name, void **context, struct gantry_error *err)
{
	struct driver *driver = host->engine;
	struct wire_args args;
	(void)driver_name;
	proxy_open_args(driver, &args);
	if (driver->is_member)
		remote_member_add(driver->plugin->remote, driver);
	int rc = remote_call(driver, WIRE_OPEN, NULL, &args, NULL, err);
	free(args.names);
	if (rc < 0 && driver->is_member)
		remote_member_drop(driver->plugin->remote, driver);
	*context = driver;
	return rc;
}

int proxy_reopen(struct driver *driver, struct gantry_error *err)
{
	struct wire_args args;
	proxy_open_args(driver, &args);
	int rc = remote_call(driver, WIRE_OPEN, NULL, &args, NULL, err);
	free(args.names);
	return rc;
}

static void proxy_close(void *context)
{
	struct driver *driver = context;
	struct gantry_error ignored = { .size = sizeof ignored };
	struct wire_args args = { .fd = -1 };
	remote_call(driver, WIRE_CLOSE, NULL, &args, NULL, &ignored);
	if (driver->is_member)
		remote_member_drop(driver->plugin->remote, driver);
}

/* ---- network ---- */

static int net_network_create(void *driver, const struct gantry_call *call, const struct gantry_network *network, struct gantry_error *err)
{
	CALL(network_network_create, .network = *network);
}

static int net_network_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	CALL(network_network_remove, .name = network_id);
}

static int net_endpoint_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct wire_args args = { .endpoints = endpoint, .endpoint_count = 1, .fd = netns_fd };
	return remote_call(driver, WIRE_network_endpoint_join, call, &args, NULL, err);
}

static int net_endpoint_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd,
		     struct gantry_error *err)
{
	struct wire_args args = { .name = network_id, .other = endpoint_id, .fd = netns_fd };
	return remote_call(driver, WIRE_network_endpoint_leave, call, &args, NULL, err);
}

/* Nothing writes to these, const or not: they are on their way out. */
#define UNCONST(type, pointer) ((type *)(uintptr_t)(pointer))

static int net_publish(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoint, const struct gantry_port *ports,
		       size_t port_count, size_t port_size, struct gantry_error *err)
{
	(void)port_size;
	CALL(network_publish, .endpoints = UNCONST(struct gantry_endpoint, endpoint), .endpoint_count = 1,
	     .ports = UNCONST(struct gantry_port, ports), .port_count = port_count);
}

static int net_unpublish(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, struct gantry_error *err)
{
	CALL(network_unpublish, .name = network_id, .other = endpoint_id);
}

static int net_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count,
			 size_t endpoint_size, const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size,
			 struct gantry_error *err)
{
	(void)endpoint_size;
	(void)port_size;
	CALL(network_reconcile, .endpoints = UNCONST(struct gantry_endpoint, endpoints), .endpoint_count = endpoint_count,
	     .ports = UNCONST(struct gantry_port, ports), .port_count = port_count, .owners = UNCONST(uint32_t, port_owner));
}

static int net_watch(void *driver, const struct gantry_call *call, int *fd, struct gantry_error *err)
{
	struct wire_args args = { .fd = -1 };
	if (remote_call(driver, WIRE_network_watch, call, &args, NULL, err) < 0)
		return -1;
	*fd = replay_watch(driver, args.fd, err);
	return *fd < 0 ? -1 : 0;
}

static int net_global_networks(void *driver, const struct gantry_call *call, gantry_visit_network visit, void *arg, struct gantry_error *err)
{
	struct wire_args args = { .fd = -1 };
	struct listener listener = { .network = visit, .arg = arg };
	return remote_call(driver, WIRE_network_global_networks, call, &args, &listener, err);
}

static int net_members(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_member visit, void *arg,
		       struct gantry_error *err)
{
	struct wire_args args = { .name = network_id, .fd = -1 };
	struct listener listener = { .member = visit, .arg = arg };
	return remote_call(driver, WIRE_network_members, call, &args, &listener, err);
}

static int net_endpoint_rename(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, const char *const *names,
		      size_t name_count, struct gantry_error *err)
{
	CALL(network_endpoint_rename, .name = network_id, .other = endpoint_id, .names = UNCONST(const char *, names), .name_count = name_count);
}

static int net_peers(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_peer visit, void *arg, struct gantry_error *err)
{
	struct wire_args args = { .name = network_id, .fd = -1 };
	struct listener listener = { .peer = visit, .arg = arg };
	return remote_call(driver, WIRE_network_peers, call, &args, &listener, err);
}

/* ---- volume ---- */

static int vol_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options, struct gantry_error *err)
{
	CALL(volume_create, .name = name, .options = *options);
}

static int vol_remove(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	CALL(volume_remove, .name = name);
}

static int vol_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
		     struct gantry_mount *mount, struct gantry_error *err)
{
	CALL(volume_mount, .name = name, .other = container_id, .number = read_only, .mount = mount);
}

static int vol_release(void *driver, const struct gantry_call *call, const char *name, const char *container_id, struct gantry_error *err)
{
	CALL(volume_release, .name = name, .other = container_id);
}

static int vol_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct wire_args args = { .fd = -1 };
	struct listener listener = { .name = visit, .arg = arg };
	return remote_call(driver, WIRE_volume_list, call, &args, &listener, err);
}

static int vol_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info, struct gantry_error *err)
{
	CALL(volume_inspect, .name = name, .info = info);
}

static int vol_usage(void *driver, const struct gantry_call *call, const char *name, struct gantry_usage *usage, struct gantry_error *err)
{
	CALL(volume_usage, .name = name, .usage = usage);
}

static int vol_reconcile(void *driver, const struct gantry_call *call, const struct gantry_volume_use *uses, size_t count, size_t use_size,
			 struct gantry_error *err)
{
	(void)use_size;
	CALL(volume_reconcile, .uses = UNCONST(struct gantry_volume_use, uses), .use_count = count);
}

static int vol_family(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct wire_args args = { .fd = -1 };
	struct listener listener = { .name = visit, .arg = arg };
	return remote_call(driver, WIRE_volume_family, call, &args, &listener, err);
}

/* ---- storage ---- */

static int store_prepare(void *driver, const struct gantry_call *call, int layer_kind, const char *id, const char *parent,
			 const struct gantry_options *options, struct gantry_error *err)
{
	CALL(storage_prepare, .number = layer_kind, .name = id, .other = parent, .options = *options);
}

static int store_layer_dir(void *driver, const struct gantry_call *call, const char *id, struct gantry_layer_dir *dir, struct gantry_error *err)
{
	CALL(storage_layer_dir, .name = id, .dir = dir);
}

static int store_commit(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	CALL(storage_commit, .name = id);
}

static int store_lookup(void *driver, const struct gantry_call *call, const char *id, int *sealed, struct gantry_error *err)
{
	struct wire_args args = { .name = id, .fd = -1 };
	int rc = remote_call(driver, WIRE_storage_lookup, call, &args, NULL, err);
	*sealed = args.number;
	return rc;
}

static int store_mount(void *driver, const struct gantry_call *call, const char *id, int read_only, struct gantry_mount *mount,
		       struct gantry_error *err)
{
	CALL(storage_mount, .name = id, .number = read_only, .mount = mount);
}

static int store_diff(void *driver, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg, struct gantry_error *err)
{
	struct wire_args args = { .name = id, .fd = -1 };
	struct listener listener = { .change = visit, .arg = arg };
	return remote_call(driver, WIRE_storage_diff, call, &args, &listener, err);
}

static int store_remove(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	CALL(storage_remove, .name = id);
}

static int store_usage(void *driver, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err)
{
	CALL(storage_usage, .name = id, .usage = usage);
}

static int store_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct wire_args args = { .fd = -1 };
	struct listener listener = { .name = visit, .arg = arg };
	return remote_call(driver, WIRE_storage_list, call, &args, &listener, err);
}

/* ---- tables ---- */

#define X(op, ...) .op = net_##op,
static const struct gantry_network_ops NETWORK = { .size = sizeof NETWORK, .open = proxy_open, .close = proxy_close, WIRE_NETWORK_OPS(X) };
#undef X
#define X(op, ...) .op = vol_##op,
static const struct gantry_volume_ops VOLUME = { .size = sizeof VOLUME, .open = proxy_open, .close = proxy_close, WIRE_VOLUME_OPS(X) };
#undef X
#define X(op, ...) .op = store_##op,
static const struct gantry_storage_ops STORAGE = { .size = sizeof STORAGE, .open = proxy_open, .close = proxy_close, WIRE_STORAGE_OPS(X) };
#undef X

uint64_t proxy_bit(enum wire_opcode op)
{
	enum wire_opcode first = op;
	while (first > 0 && WIRE_OPS[first - 1].kind == WIRE_OPS[op].kind)
		first--;
	return 1ull << (op - first);
}

void proxy_table(int kind, uint64_t ops, void *table)
{
	memset(table, 0, TABLE_ROOM);
	switch (kind) {
	case GANTRY_NETWORK: memcpy(table, &NETWORK, sizeof NETWORK); break;
	case GANTRY_VOLUME: memcpy(table, &VOLUME, sizeof VOLUME); break;
	case GANTRY_STORAGE: memcpy(table, &STORAGE, sizeof STORAGE); break;
	default: return;
	}
	for (enum wire_opcode op = 0; op < WIRE_OP_COUNT; op++) {
		if (WIRE_OPS[op].kind == kind && !(ops & proxy_bit(op)))
			memset((char *)table + WIRE_OPS[op].slot, 0, sizeof(void (*)(void)));
	}
}
