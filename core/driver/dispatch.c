/*
 * dispatch.c - one function for each op: struct sizes and a deadline in, ours for the driver's error out.
 *
 * What a driver wrote is not trusted to be terminated: every char array that comes back gets its NUL. Structs that the engine passes as const
 * are copied to have their sizes set.
 */
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "internal.h"

#define SHORT_CALL (30 * GT_SECOND)
#define LONG_CALL (600 * GT_SECOND)     /* walks or syncs a tree of any size */
#define MAX_OPTIONS 256

/* ---- errors and calls ---- */

void driver_error(const char *driver, const char *op, struct gantry_error *from, struct gt_error *err)
{
	static const enum gt_kind KINDS[] = {
		[GANTRY_E_INVALID] = GT_INVALID,         [GANTRY_E_NOT_FOUND] = GT_NOT_FOUND,     [GANTRY_E_CONFLICT] = GT_CONFLICT,
		[GANTRY_E_DENIED] = GT_DENIED,           [GANTRY_E_UNSUPPORTED] = GT_UNSUPPORTED, [GANTRY_E_UNAVAILABLE] = GT_UNAVAILABLE,
		[GANTRY_E_TIMEOUT] = GT_TIMEOUT,         [GANTRY_E_INTERNAL] = GT_INTERNAL,
	};
	bool known = from->kind >= GANTRY_E_INVALID && from->kind <= GANTRY_E_INTERNAL;
	from->message[sizeof from->message - 1] = '\0';
	if (from->message[0])
		gt_fail(err, known ? KINDS[from->kind] : GT_INTERNAL, "driver %s: %s", driver, from->message);
	else
		gt_fail(err, known ? KINDS[from->kind] : GT_INTERNAL, "driver %s: %s failed without saying why", driver, op);
	if (err)
		err->errnum = from->errnum;
}

static struct gantry_call make_call(struct gt_drivers *drivers, int64_t time)
{
	return (struct gantry_call){
		.size = sizeof(struct gantry_call),
		.deadline_ns = gt_monotonic() + time,
		.id = atomic_fetch_add(&drivers->calls, 1) + 1,
	};
}

static int missing(const struct gt_driver *driver, const char *op, struct gt_error *err)
{
	return gt_fail(err, GT_UNSUPPORTED, "driver %s: it has no op %s", driver->name, op);
}

/* What a driver in the daemon was told; one with a process of its own has that noted in remote/call.c. */
static void note_told(const struct driver *driver, enum wire_opcode op, const struct wire_args *args, int rc)
{
	if (args && !driver->plugin->remote)
		records_note(driver, op, args, rc == 0);
}

static void note_unheard(struct gt_driver *driver, enum wire_opcode op, const struct wire_args *args)
{
	if (args)
		records_note_unheard(driver, op, args);
}

/* Calls one op of a table: CALL(driver, network, publish, SHORT_CALL, &told, endpoint, ports, count, size). The driver's context, the call and the error are
 * put around the arguments; told is what records.c is to keep of them, or NULL. A misuse of kinds is a missing op. On the start path: no more than a lock that
 * nobody holds long, two or three atomic additions, and a read of the clock. */
#define CALL(driver_, kind_, table_, op_, time_, told_, ...)                                                        \
	({                                                                                                          \
		int gt_rc = -1;                                                                                     \
		struct call_note gt_note = { .driver = (driver_), .op = #op_ };                                     \
		struct driver *gt_now = gate_enter(&gt_note, (time_), err);                                         \
		bool gt_has = gt_now && gt_now->kind == (kind_) && gt_now->ops.table_.op_;                          \
		struct gantry_error gt_why = { .size = sizeof gt_why };                                             \
		if (gt_has) {                                                                                       \
			struct gantry_call gt_call = make_call((driver_)->all, (time_));                            \
			gt_rc = gt_now->ops.table_.op_(gt_now->context, &gt_call, __VA_ARGS__, &gt_why) < 0 ? -1 : 0; \
			note_told(gt_now, WIRE_##table_##_##op_, (told_), gt_rc);                                        \
		}                                                                                                   \
		if (!gt_now)                                                                                        \
			note_unheard((driver_), WIRE_##table_##_##op_, (told_));                                    \
		if (gt_now)                                                                                         \
			gate_leave(&gt_note, gt_has ? gt_rc : 1);                                                   \
		if (gt_now && !gt_has)                                                                              \
			missing((driver_), #op_, err);                                                              \
		else if (gt_now && gt_rc < 0)                                                                       \
			driver_error((driver_)->name, #op_, &gt_why, err);                                          \
		gt_rc;                                                                                              \
	})
#define NET(driver, op, told, ...) CALL(driver, GANTRY_NETWORK, network, op, SHORT_CALL, told, __VA_ARGS__)
#define VOL(driver, op, time, told, ...) CALL(driver, GANTRY_VOLUME, volume, op, time, told, __VA_ARGS__)
#define STORE(driver, op, time, told, ...) CALL(driver, GANTRY_STORAGE, storage, op, time, told, __VA_ARGS__)
#define NOTHING ((const struct wire_args *)NULL)
#define TOLD(...) (&(const struct wire_args){ .fd = -1, __VA_ARGS__ })

#define TERMINATE(array) ((array)[sizeof(array) - 1] = '\0')

/* ---- options ---- */

/* Fills items (the caller's to free) with strings borrowed from the JSON object. */
static int read_options(const json_t *object, struct gantry_options *options, struct gantry_option **items, struct gt_error *err)
{
	const char *key;
	json_t *value;
	size_t count = json_object_size(object), at = 0;
	*options = (struct gantry_options){ .size = sizeof *options };
	if (object && !json_is_null(object) && !json_is_object(object))
		return gt_fail(err, GT_INVALID, "driver options must be an object of strings");
	if (count > MAX_OPTIONS)
		return gt_fail(err, GT_INVALID, "%zu driver options are too many; at most %d are allowed", count, MAX_OPTIONS);
	*items = gt_xcalloc(count + 1, sizeof **items);
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		if (!json_is_string(value))
			return gt_fail(err, GT_INVALID, "driver option %.64s must be a string", key);
		(*items)[at++] = (struct gantry_option){ key, json_string_value(value) };
	}
	options->count = (uint32_t)count;
	options->items = *items;
	return 0;
}

/* ---- network ---- */

static struct gantry_options sized_options(struct gantry_options options)
{
	options.size = sizeof options;
	return options;
}

int gt_net_create(struct gt_driver *driver, const struct gantry_network *network, struct gt_error *err)
{
	struct gantry_network copy = *network;
	AUTO_FREE struct gantry_subnet *subnets = gt_xcalloc(network->subnet_count + 1, sizeof *subnets);
	for (size_t i = 0; i < network->subnet_count; i++) {
		subnets[i] = network->subnets[i];
		subnets[i].size = sizeof subnets[i];
	}
	copy.size = sizeof copy;
	copy.subnets = subnets;
	copy.subnet_size = sizeof *subnets;
	copy.options = sized_options(network->options);
	return NET(driver, network_create, TOLD(.network = copy), &copy);
}

int gt_net_remove(struct gt_driver *driver, const char *network_id, struct gt_error *err)
{
	return NET(driver, network_remove, TOLD(.name = network_id), network_id);
}

int gt_net_join(struct gt_driver *driver, struct gantry_endpoint *endpoint, int netns_fd, struct gt_error *err)
{
	endpoint->size = sizeof *endpoint;
	endpoint->options = sized_options(endpoint->options);
	int rc = NET(driver, endpoint_join, TOLD(.endpoints = endpoint, .endpoint_count = 1), endpoint, netns_fd);
	TERMINATE(endpoint->mac);
	TERMINATE(endpoint->ipv4);
	TERMINATE(endpoint->ipv6);
	TERMINATE(endpoint->gateway4);
	TERMINATE(endpoint->gateway6);
	TERMINATE(endpoint->host_ifname);
	return rc;
}

int gt_net_leave(struct gt_driver *driver, const char *network_id, const char *endpoint_id, int netns_fd, struct gt_error *err)
{
	return NET(driver, endpoint_leave, TOLD(.name = network_id, .other = endpoint_id), network_id, endpoint_id, netns_fd);
}

static struct gantry_endpoint *sized_endpoints(const struct gantry_endpoint *endpoints, size_t count)
{
	struct gantry_endpoint *copy = gt_xcalloc(count + 1, sizeof *copy);
	for (size_t i = 0; i < count; i++) {
		copy[i] = endpoints[i];
		copy[i].size = sizeof copy[i];
		copy[i].options = sized_options(endpoints[i].options);
	}
	return copy;
}

static struct gantry_port *sized_ports(const struct gantry_port *ports, size_t count)
{
	struct gantry_port *copy = gt_xcalloc(count + 1, sizeof *copy);
	for (size_t i = 0; i < count; i++) {
		copy[i] = ports[i];
		copy[i].size = sizeof copy[i];
	}
	return copy;
}

int gt_net_publish(struct gt_driver *driver, const struct gantry_endpoint *endpoint, const struct gantry_port *ports, size_t count,
		   struct gt_error *err)
{
	AUTO_FREE struct gantry_endpoint *endpoint_copy = sized_endpoints(endpoint, 1);
	AUTO_FREE struct gantry_port *port_copies = sized_ports(ports, count);
	return NET(driver, publish, TOLD(.endpoints = endpoint_copy, .endpoint_count = 1, .ports = port_copies, .port_count = count), endpoint_copy, port_copies,
		   count, sizeof *port_copies);
}

int gt_net_unpublish(struct gt_driver *driver, const char *network_id, const char *endpoint_id, struct gt_error *err)
{
	return NET(driver, unpublish, TOLD(.name = network_id, .other = endpoint_id), network_id, endpoint_id);
}

int gt_net_reconcile(struct gt_driver *driver, const struct gantry_endpoint *endpoints, size_t endpoint_count, const struct gantry_port *ports,
		     const uint32_t *port_owner, size_t port_count, struct gt_error *err)
{
	AUTO_FREE struct gantry_endpoint *endpoint_copies = sized_endpoints(endpoints, endpoint_count);
	AUTO_FREE struct gantry_port *port_copies = sized_ports(ports, port_count);
	return NET(driver, reconcile,
		   TOLD(.endpoints = endpoint_copies, .endpoint_count = endpoint_count, .ports = port_copies, .owners = (uint32_t *)(uintptr_t)port_owner,
			.port_count = port_count),
		   endpoint_copies, endpoint_count, sizeof *endpoint_copies, port_copies, port_owner, port_count, sizeof *port_copies);
}

int gt_net_watch(struct gt_driver *driver, int *fd, struct gt_error *err)
{
	*fd = -1;
	return NET(driver, watch, NOTHING, fd);
}

int gt_net_global(struct gt_driver *driver, gantry_visit_network visit, void *arg, struct gt_error *err)
{
	return NET(driver, global_networks, NOTHING, visit, arg);
}

int gt_net_members(struct gt_driver *driver, const char *network_id, gantry_visit_member visit, void *arg, struct gt_error *err)
{
	return NET(driver, members, NOTHING, network_id, visit, arg);
}

int gt_net_peers(struct gt_driver *driver, const char *network_id, gantry_visit_peer visit, void *arg, struct gt_error *err)
{
	return NET(driver, peers, NOTHING, network_id, visit, arg);
}

int gt_net_rename(struct gt_driver *driver, const char *network_id, const char *endpoint_id, const char *const *names, size_t name_count,
		  struct gt_error *err)
{
	return NET(driver, endpoint_rename,
		   TOLD(.name = network_id, .other = endpoint_id, .names = (const char **)(uintptr_t)names, .name_count = name_count), network_id, endpoint_id,
		   names, name_count);
}

/* ---- mounts ---- */

/* 70 KB: the arrays are emptied, not zeroed. */
static void empty_mount(struct gantry_mount *mount)
{
	mount->size = sizeof *mount;
	mount->flags = 0;
	mount->type[0] = mount->source[0] = mount->options[0] = '\0';
}

static int finish_mount(const struct gt_driver *driver, int rc, struct gantry_mount *mount, struct gt_error *err)
{
	TERMINATE(mount->type);
	TERMINATE(mount->source);
	TERMINATE(mount->options);
	if (rc == 0 && !mount->type[0])
		return gt_fail(err, GT_INTERNAL, "driver %s: mount described no file system type", driver->name);
	return rc;
}

/* ---- volume ---- */

int gt_vol_create(struct gt_driver *driver, const char *name, const json_t *options, struct gt_error *err)
{
	struct gantry_options list;
	AUTO_FREE struct gantry_option *items = NULL;
	if (read_options(options, &list, &items, err) < 0)
		return -1;
	return VOL(driver, create, SHORT_CALL, NOTHING, name, &list);
}

int gt_vol_remove(struct gt_driver *driver, const char *name, struct gt_error *err)
{
	return VOL(driver, remove, LONG_CALL, NOTHING, name);
}

int gt_vol_mount(struct gt_driver *driver, const char *name, const char *container_id, bool read_only, struct gantry_mount *mount,
		 struct gt_error *err)
{
	empty_mount(mount);
	int rc = VOL(driver, mount, SHORT_CALL, TOLD(.name = name, .other = container_id), name, container_id, read_only, mount);
	return finish_mount(driver, rc, mount, err);
}

int gt_vol_release(struct gt_driver *driver, const char *name, const char *container_id, struct gt_error *err)
{
	return VOL(driver, release, SHORT_CALL, TOLD(.name = name, .other = container_id), name, container_id);
}

int gt_vol_list(struct gt_driver *driver, gantry_visit visit, void *arg, struct gt_error *err)
{
	return VOL(driver, list, SHORT_CALL, NOTHING, visit, arg);
}

int gt_vol_inspect(struct gt_driver *driver, const char *name, struct gantry_volume_info *info, struct gt_error *err)
{
	*info = (struct gantry_volume_info){ .size = sizeof *info };
	int rc = VOL(driver, inspect, SHORT_CALL, NOTHING, name, info);
	TERMINATE(info->mountpoint);
	TERMINATE(info->status);
	return rc;
}

int gt_vol_usage(struct gt_driver *driver, const char *name, struct gantry_usage *usage, struct gt_error *err)
{
	*usage = (struct gantry_usage){ .size = sizeof *usage, .bytes = -1, .inodes = -1 };
	return VOL(driver, usage, LONG_CALL, NOTHING, name, usage);
}

bool gt_vol_counts(struct gt_driver *driver)
{
	LOCKED(&driver->all->noting);
	return driver->kind == GANTRY_VOLUME && driver->now && driver->now->ops.volume.reconcile;
}

int gt_vol_reconcile(struct gt_driver *driver, const struct gantry_volume_use *uses, size_t count, struct gt_error *err)
{
	AUTO_FREE struct gantry_volume_use *copies = gt_xcalloc(count + 1, sizeof *copies);
	for (size_t i = 0; i < count; i++) {
		copies[i] = uses[i];
		copies[i].size = sizeof copies[i];
	}
	return VOL(driver, reconcile, LONG_CALL, TOLD(.uses = copies, .use_count = count), copies, count, sizeof *copies);
}

int family_list(struct gt_driver *driver, gantry_visit visit, void *arg, struct gt_error *err)
{
	return VOL(driver, family, SHORT_CALL, NOTHING, visit, arg);
}

/* ---- storage ---- */

int gt_layer_prepare(struct gt_driver *driver, enum gantry_layer_kind kind, const char *id, const char *parent, const json_t *options,
		     struct gt_error *err)
{
	struct gantry_options list;
	AUTO_FREE struct gantry_option *items = NULL;
	if (read_options(options, &list, &items, err) < 0)
		return -1;
	return STORE(driver, prepare, SHORT_CALL, TOLD(.name = id, .number = kind), (int)kind, id, parent, &list);
}

int gt_layer_dir(struct gt_driver *driver, const char *id, struct gantry_layer_dir *dir, struct gt_error *err)
{
	dir->size = sizeof *dir;
	dir->whiteouts = 0;
	dir->path[0] = '\0';
	int rc = STORE(driver, layer_dir, SHORT_CALL, NOTHING, id, dir);
	TERMINATE(dir->path);
	return rc;
}

int gt_layer_commit(struct gt_driver *driver, const char *id, struct gt_error *err)
{
	return STORE(driver, commit, LONG_CALL, TOLD(.name = id), id);
}

int gt_layer_lookup(struct gt_driver *driver, const char *id, bool *sealed, struct gt_error *err)
{
	int flag = 0;
	int rc = STORE(driver, lookup, SHORT_CALL, NOTHING, id, &flag);
	*sealed = rc == 0 && flag;
	return rc;
}

int gt_layer_mount(struct gt_driver *driver, const char *id, bool read_only, struct gantry_mount *mount, struct gt_error *err)
{
	empty_mount(mount);
	return finish_mount(driver, STORE(driver, mount, SHORT_CALL, NOTHING, id, read_only, mount), mount, err);
}

int gt_layer_diff(struct gt_driver *driver, const char *id, gantry_visit_change visit, void *arg, struct gt_error *err)
{
	return STORE(driver, diff, LONG_CALL, NOTHING, id, visit, arg);
}

int gt_layer_remove(struct gt_driver *driver, const char *id, struct gt_error *err)
{
	return STORE(driver, remove, LONG_CALL, TOLD(.name = id), id);
}

int gt_layer_usage(struct gt_driver *driver, const char *id, struct gantry_usage *usage, struct gt_error *err)
{
	*usage = (struct gantry_usage){ .size = sizeof *usage, .bytes = -1, .inodes = -1 };
	return STORE(driver, usage, LONG_CALL, NOTHING, id, usage);
}

int gt_layer_list(struct gt_driver *driver, gantry_visit visit, void *arg, struct gt_error *err)
{
	return STORE(driver, list, SHORT_CALL, NOTHING, visit, arg);
}

/* ---- telling ---- */

int driver_tell(struct driver *driver, enum wire_opcode op, struct wire_args *args, struct gantry_error *err)
{
	const struct gantry_network_ops *net = &driver->ops.network;
	struct gantry_call call = make_call(driver->all, op == WIRE_volume_reconcile ? LONG_CALL : SHORT_CALL);
	switch (op) {
	case WIRE_network_network_create:
		return net->network_create(driver->context, &call, &args->network, err);
	case WIRE_network_reconcile:
		return net->reconcile(driver->context, &call, args->endpoints, args->endpoint_count, sizeof *args->endpoints, args->ports, args->owners,
				      args->port_count, sizeof *args->ports, err);
	case WIRE_volume_reconcile:
		return driver->ops.volume.reconcile(driver->context, &call, args->uses, args->use_count, sizeof *args->uses, err);
	default:
		return gantry_fail(err, GANTRY_E_INTERNAL, "nobody tells %s", WIRE_OPS[op].name);
	}
}

void driver_tell_uses(struct gt_driver *driver)
{
	struct gantry_error why = { .size = sizeof why };
	struct call_note note = { .driver = driver, .op = "reconcile" };
	struct driver *now = gate_enter(&note, LONG_CALL, NULL);
	if (!now)
		return;
	int rc = records_tell_uses(now, driver_tell, &why);
	gate_leave(&note, rc);
	if (rc < 0)
		gt_warn("a driver could not look after the mounts of its volumes", "driver", driver->name, "error", why.message);
}
