/*
 * records.c - what a driver has been told and has to be told again when another one comes in its place: a new process, or a new file.
 *
 * The engine tells a driver its networks and endpoints once, at its own start and as they come. What was told is kept here, as bytes of the wire: each network as
 * network_create() had it, each endpoint as it was when join() returned, with its published ports. A driver that comes gets the networks as known ones, and then
 * all endpoints and ports by reconcile(), as after a restart of the daemon: what a call that was cut short had made is removed by that.
 *
 * A volume driver that counts its mounts is told once, by the engine's reconcile(), which of them there should be. From then on the mounts that there are
 * are noted here, and one that comes is told them.
 *
 * Of a storage driver, the image layers that are begun and not sealed: they would not outlive its open().
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "internal.h"

enum what {
	NETWORK,
	ENDPOINT,
	USE,                            /* a container's of a volume */
	LAYER,                          /* an image's, in the making */
};

struct record {
	enum what what;
	uint64_t number;                /* in the order in which they came */
	char *id;                       /* of a use: the volume's name */
	char *user;                     /* of a use: the container's id; else NULL */
	struct gt_buf told;             /* WIRE_NETWORK, or WIRE_ENDPOINTS */
	struct gt_buf ports;            /* WIRE_PORTS of an endpoint; empty: none are published */
};

/* ---- bytes ---- */

static void write_fields(struct gt_buf *out, const struct wire_args *args, uint32_t fields)
{
	struct wire w;
	struct wire_args copy = *args;
	wire_write(&w, out);
	wire_fields(&w, &copy, fields);
	wire_done(&w);
}

/* w owns the arrays of what was read, from is to outlive it. */
static void read_fields(struct wire *w, const struct gt_buf *from, struct wire_args *args, uint32_t fields)
{
	wire_read(w, from, NULL, 0);
	w->at += sizeof(struct frame_head);
	w->trusting = true;
	wire_fields(w, args, fields);
}

/* ---- the map ---- */

void records_init(struct records *records)
{
	pthread_mutex_init(&records->lock, NULL);
}

static void record_free(struct record *record)
{
	if (!record)
		return;
	free(record->id);
	free(record->user);
	gt_buf_free(&record->told);
	gt_buf_free(&record->ports);
	free(record);
}

void records_clear(struct records *records)
{
	struct gt_map_slot *slot;
	LOCKED(&records->lock);
	for (size_t i = 0; (slot = gt_map_next(&records->map, &i)) != NULL;)
		record_free(slot->value);
	gt_map_free(&records->map);
	records->map = (struct gt_map){ 0 };
	atomic_store(&records->making, 0);
	atomic_store(&records->reconciled, false);
}

void records_free(struct records *records)
{
	records_clear(records);
	pthread_mutex_destroy(&records->lock);
}

/* No id and no name has a slash. */
static char *key_of(enum what what, const char *id, const char *user)
{
	return gt_xasprintf("%c/%s/%s", "neul"[what], id, user ? user : "");
}

static struct record *find(struct records *records, enum what what, const char *id)
{
	AUTO_FREE char *key = key_of(what, id, NULL);
	return gt_map_get(&records->map, key);
}

/* The record of that id, made where there is none. */
static struct record *get(struct records *records, enum what what, const char *id, const char *user)
{
	AUTO_FREE char *key = key_of(what, id, user);
	struct record *record = gt_map_get(&records->map, key);
	if (record)
		return record;
	record = gt_xcalloc(1, sizeof *record);
	record->what = what;
	record->number = ++records->last;
	record->id = gt_xstrdup(id);
	record->user = gt_xstrdup(user);
	gt_map_set(&records->map, key, record);
	if (what == LAYER)
		atomic_fetch_add(&records->making, 1);
	return record;
}

static void drop(struct records *records, enum what what, const char *id, const char *user)
{
	AUTO_FREE char *key = key_of(what, id, user);
	struct record *record = gt_map_remove(&records->map, key);
	if (record && what == LAYER)
		atomic_fetch_sub(&records->making, 1);
	record_free(record);
}

static void drop_endpoints(struct records *records)
{
	struct gt_strings ids = { 0 };
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&records->map, &i)) != NULL;) {
		const struct record *record = slot->value;
		if (record->what == ENDPOINT)
			gt_strings_add(&ids, record->id);
	}
	for (size_t i = 0; i < ids.count; i++)
		drop(records, ENDPOINT, ids.items[i], NULL);
	gt_strings_free(&ids);
}

/* ---- taking note ---- */

static void note_endpoint(struct records *records, struct gantry_endpoint *endpoint)
{
	struct wire_args args = { .endpoints = endpoint, .endpoint_count = 1 };
	write_fields(&get(records, ENDPOINT, endpoint->id, NULL)->told, &args, WIRE_ENDPOINTS);
}

static void note_all(struct records *records, const struct wire_args *args)
{
	drop_endpoints(records);
	for (size_t i = 0; i < args->endpoint_count; i++) {
		AUTO_FREE struct gantry_port *ports = gt_xcalloc(args->port_count + 1, sizeof *ports);
		struct wire_args own = { .ports = ports };
		note_endpoint(records, &args->endpoints[i]);
		for (size_t p = 0; p < args->port_count; p++) {
			if (args->owners[p] == i)
				ports[own.port_count++] = args->ports[p];
		}
		if (own.port_count)
			write_fields(&get(records, ENDPOINT, args->endpoints[i].id, NULL)->ports, &own, WIRE_PORTS);
	}
}

static void note_names(struct record *record, const struct wire_args *args)
{
	AUTO_BUF struct gt_buf old = record->told;
	struct wire w;
	struct wire_args told = { 0 };
	record->told = (struct gt_buf){ 0 };
	read_fields(&w, &old, &told, WIRE_ENDPOINTS);
	if (told.endpoint_count == 1) {
		told.endpoints[0].names = args->names;
		told.endpoints[0].name_count = args->name_count;
		write_fields(&record->told, &told, WIRE_ENDPOINTS);
	}
	wire_done(&w);
}

static void note_success(struct records *records, enum wire_opcode op, const struct wire_args *args)
{
	struct wire_args network = { .network = args->network };
	struct record *record;
	switch (op) {
	case WIRE_network_network_create:
		network.network.flags |= GANTRY_NETWORK_KNOWN;
		write_fields(&get(records, NETWORK, args->network.id, NULL)->told, &network, WIRE_NETWORK);
		break;
	case WIRE_network_network_remove:
		drop(records, NETWORK, args->name, NULL);
		break;
	case WIRE_network_endpoint_join:
		note_endpoint(records, &args->endpoints[0]);
		break;
	case WIRE_network_publish:
		if ((record = find(records, ENDPOINT, args->endpoints[0].id)) != NULL)
			write_fields(&record->ports, args, WIRE_PORTS);
		break;
	case WIRE_network_reconcile:
		note_all(records, args);
		break;
	case WIRE_network_endpoint_rename:
		if ((record = find(records, ENDPOINT, args->other)) != NULL)
			note_names(record, args);
		break;
	default:
		break;
	}
}

static void note_network(struct records *records, enum wire_opcode op, const struct wire_args *args, bool success)
{
	struct record *record;
	atomic_fetch_add(&records->changes, 1);
	/* What has been asked to go is not brought back, whatever came of it. */
	if (op == WIRE_network_endpoint_leave)
		drop(records, ENDPOINT, args->other, NULL);
	else if (op == WIRE_network_unpublish && (record = find(records, ENDPOINT, args->other)) != NULL)
		gt_buf_free(&record->ports);
	else if (success)
		note_success(records, op, args);
}

static void note_volume(struct records *records, enum wire_opcode op, const struct wire_args *args, bool success)
{
	switch (op) {
	case WIRE_volume_mount:
		if (success)
			get(records, USE, args->name, args->other);
		break;
	case WIRE_volume_release:
		drop(records, USE, args->name, args->other);
		break;
	case WIRE_volume_reconcile:
		/* The engine's own comes once. It is of mounts before open(); what has been mounted since is noted. One that was cut short is taken up by
		 * the driver that comes next. */
		if (atomic_exchange(&records->reconciled, true))
			break;
		for (size_t i = 0; i < args->use_count; i++)
			get(records, USE, args->uses[i].name, args->uses[i].container_id);
		break;
	default:
		break;
	}
}

static void note_layer(struct records *records, enum wire_opcode op, const struct wire_args *args, bool success)
{
	if (op == WIRE_storage_prepare && success && args->number == GANTRY_LAYER_IMAGE)
		get(records, LAYER, args->name, NULL);
	else if (op == WIRE_storage_remove || (op == WIRE_storage_commit && success))
		drop(records, LAYER, args->name, NULL);
}

void records_note(const struct driver *driver, enum wire_opcode op, const struct wire_args *args, bool success)
{
	struct records *records = driver->records;
	if (!records)
		return;
	LOCKED(&records->lock);
	if (driver->kind == GANTRY_NETWORK)
		note_network(records, op, args, success);
	else if (driver->kind == GANTRY_STORAGE)
		note_layer(records, op, args, success);
	else if (driver->ops.volume.reconcile)
		note_volume(records, op, args, success);
}

void records_note_unheard(struct gt_driver *driver, enum wire_opcode op, const struct wire_args *args)
{
	struct records *records = &driver->records;
	LOCKED(&records->lock);
	if (driver->kind == GANTRY_NETWORK)
		note_network(records, op, args, false);
	else if (driver->kind == GANTRY_STORAGE)
		note_layer(records, op, args, false);
	else if (op == WIRE_volume_release)
		note_volume(records, op, args, false);
}

/* ---- telling ---- */

static int by_number(const void *a, const void *b)
{
	const struct record *const *x = a, *const *y = b;
	return ((*x)->number > (*y)->number) - ((*x)->number < (*y)->number);
}

/* Copies of all of one sort, in the order in which they came, which are the caller's: an array that ends with NULL. */
static struct record **snapshot(struct records *records, enum what what)
{
	struct gt_map_slot *slot;
	size_t at = 0;
	LOCKED(&records->lock);
	struct record **list = gt_xcalloc(records->map.count + 1, sizeof *list);
	for (size_t i = 0; (slot = gt_map_next(&records->map, &i)) != NULL;) {
		const struct record *record = slot->value;
		if (record->what != what)
			continue;
		struct record *copy = list[at++] = gt_xcalloc(1, sizeof *copy);
		copy->what = what;
		copy->number = record->number;
		copy->id = gt_xstrdup(record->id);
		copy->user = gt_xstrdup(record->user);
		gt_buf_add(&copy->told, record->told.data, record->told.len);
		gt_buf_add(&copy->ports, record->ports.data, record->ports.len);
	}
	qsort(list, at, sizeof *list, by_number);
	return list;
}

static void free_snapshot(struct record **list)
{
	for (size_t i = 0; list[i]; i++)
		record_free(list[i]);
	free(list);
}

static int tell_networks(struct driver *driver, records_tell tell, struct gantry_error *err)
{
	int rc = 0;
	struct record **list = snapshot(driver->records, NETWORK);
	for (size_t i = 0; rc == 0 && list[i]; i++) {
		struct wire w;
		struct wire_args args = { .fd = -1 };
		read_fields(&w, &list[i]->told, &args, WIRE_NETWORK);
		rc = tell(driver, WIRE_network_network_create, &args, err);
		wire_done(&w);
	}
	free_snapshot(list);
	return rc;
}

/* Appends the ports of endpoint number `owner` to all. */
static void add_ports(struct wire_args *all, const struct wire_args *own, uint32_t owner)
{
	size_t count = all->port_count + own->port_count;
	if (!own->port_count)
		return;
	all->ports = gt_xrealloc(all->ports, count * sizeof *all->ports);
	all->owners = gt_xrealloc(all->owners, count * sizeof *all->owners);
	memcpy(all->ports + all->port_count, own->ports, own->port_count * sizeof *own->ports);
	while (all->port_count < count)
		all->owners[all->port_count++] = owner;
}

static int tell_endpoints(struct driver *driver, records_tell tell, struct gantry_error *err)
{
	size_t count = 0;
	struct record **list = snapshot(driver->records, ENDPOINT);
	while (list[count])
		count++;
	AUTO_FREE struct gantry_endpoint *endpoints = gt_xcalloc(count + 1, sizeof *endpoints);
	AUTO_FREE struct wire *wires = gt_xcalloc(2 * count + 1, sizeof *wires);
	struct wire_args all = { .endpoints = endpoints, .fd = -1 };
	for (size_t i = 0; i < count; i++) {
		struct wire_args told = { 0 };
		read_fields(&wires[2 * i], &list[i]->told, &told, WIRE_ENDPOINTS);
		if (told.endpoint_count != 1)
			continue; /* a driver wrote into it what is no endpoint */
		endpoints[all.endpoint_count] = told.endpoints[0];
		if (list[i]->ports.len) {
			read_fields(&wires[2 * i + 1], &list[i]->ports, &told, WIRE_PORTS);
			add_ports(&all, &told, (uint32_t)all.endpoint_count);
		}
		all.endpoint_count++;
	}
	int rc = tell(driver, WIRE_network_reconcile, &all, err);
	for (size_t i = 0; i < 2 * count; i++)
		wire_done(&wires[i]);
	free(all.ports);
	free(all.owners);
	free_snapshot(list);
	return rc;
}

int records_tell_networks(struct driver *driver, records_tell tell, struct gantry_error *err)
{
	if (driver->kind != GANTRY_NETWORK || !driver->records)
		return 0;
	if (tell_networks(driver, tell, err) < 0)
		return -1;
	return driver->ops.network.reconcile ? tell_endpoints(driver, tell, err) : 0;
}

int records_tell_uses(struct driver *driver, records_tell tell, struct gantry_error *err)
{
	struct records *records = driver->records;
	if (driver->kind != GANTRY_VOLUME || !records || !driver->ops.volume.reconcile || !atomic_load(&records->reconciled))
		return 0;
	size_t count = 0;
	struct record **list = snapshot(records, USE);
	while (list[count])
		count++;
	AUTO_FREE struct gantry_volume_use *uses = gt_xcalloc(count + 1, sizeof *uses);
	struct wire_args args = { .uses = uses, .use_count = count, .fd = -1 };
	for (size_t i = 0; i < count; i++)
		uses[i] = (struct gantry_volume_use){ .size = sizeof *uses, .name = list[i]->id, .container_id = list[i]->user };
	int rc = tell(driver, WIRE_volume_reconcile, &args, err);
	free_snapshot(list);
	return rc;
}
