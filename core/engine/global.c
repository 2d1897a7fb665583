/*
 * global.c - networks that span hosts: what their drivers hear from other hosts goes into the table of networks and into the name server.
 *
 * One thread waits for the drivers' news (gantry_network_ops.watch) and asks them then; drivers never call the engine. A network that another host made is
 * stored here like one of our own, so that it is there after a restart whoever can be reached then; one that another host removed goes, as soon as no
 * container of ours is in it. What others wrote is input like any: bounded by the driver, checked here as a document of the store's is.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dns/dns.h"
#include "engine/network.h"

#define MAX_DRIVERS 16
#define MAX_NETWORKS 4096
#define STACK (256 * 1024)

struct source {
	struct gt_driver *driver;
	struct gt_map refused;          /* ids of networks of which was said already why they are not taken up */
};

struct gt_globals {
	pthread_mutex_t lock;           /* of those who start and halt the thread; while it is halted, of all below */
	pthread_t thread;
	bool runs;
	atomic_bool stop;
	struct gt_engine *engine;
	struct source sources[MAX_DRIVERS];
	struct pollfd fds[MAX_DRIVERS + 1];     /* the sources', then the one that ends the thread */
	int wake;                       /* that one */
	size_t count;
};

/* ---- what a driver tells ---- */

struct told {
	struct row {
		char id[65];
		char *document;
		uint64_t generation;
	} *rows;
	size_t count;
};

static int take_row(void *arg, const struct gantry_global_network *network)
{
	struct told *told = arg;
	if (told->count == MAX_NETWORKS)
		return 1;
	if (!gt_is_id(network->id) || !network->document || strlen(network->document) > GANTRY_DOCUMENT_MAX)
		return 0;
	told->rows = gt_xrealloc(told->rows, (told->count + 1) * sizeof *told->rows);
	struct row *row = &told->rows[told->count++];
	memcpy(row->id, network->id, sizeof row->id);
	row->document = gt_xstrdup(network->document);
	row->generation = network->generation;
	return 0;
}

static void free_told(struct told *told)
{
	for (size_t i = 0; i < told->count; i++)
		free(told->rows[i].document);
	free(told->rows);
}

/* ---- networks ---- */

static struct network *look_up(struct gt_engine *engine, const char *id)
{
	LOCKED(&engine->networks->lock);
	return gt_map_get(&engine->networks->by_id, id);
}

static int read_row(const struct row *row, struct gt_driver *driver, struct network *network, struct gt_error *err)
{
	AUTO_JSON json_t *document = gt_json_parse(row->document, strlen(row->document), "the description of another host's network", err);
	if (!document || network_read_document(network, row->id, document, err) < 0)
		return -1;
	if (strcmp(network->driver_name, gt_driver_name(driver)) || network->builtin)
		return gt_fail(err, GT_INVALID, "network %s of another host is not one of driver %s", network->name, gt_driver_name(driver));
	network->driver = driver;
	return 0;
}

/* A network whose subnets are in use here for something else is in the table, and says why it cannot be used. */
static void check_place(struct gt_networks *networks, struct network *network)
{
	LOCKED(&networks->lock);
	for (size_t i = 0; i < network->pool_count && !network->broken; i++) {
		const char *subnet = network->pools[i].addresses.subnet;
		const struct network *other = network_overlapping(networks, network, subnet);
		if (other && !network_has(other, GANTRY_NET_GLOBAL))
			network->broken = gt_xasprintf("its subnet %s overlaps with network %s of this host", subnet, other->name);
	}
}

void network_check_places(struct gt_networks *networks)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		if (network_has(slot->value, GANTRY_NET_GLOBAL))
			check_place(networks, slot->value);
	}
}

static int adopt(struct gt_engine *engine, struct gt_driver *driver, const struct row *row, struct gt_error *err)
{
	struct gt_networks *networks = engine->networks;
	struct network *network = network_new();
	if (read_row(row, driver, network, err) < 0 || network_tell_driver(network, true, err) < 0 || network_save(networks, network, err) < 0) {
		network_free(network);
		return -1;
	}
	check_place(networks, network);
	if (network->broken)
		gt_warn("a network of other hosts cannot be used", "network", network->name, "id", network->id, "error", network->broken);
	LOCKED(&networks->lock);
	network_insert(networks, network);
	if (gt_map_get(&networks->by_name, network->name) != network)
		gt_warn("a network of other hosts has the name of one of this host's and goes by its id alone", "network", network->name, "id",
			network->id);
	return 0;
}

static void adopt_new(struct gt_engine *engine, struct source *source, const struct told *told)
{
	for (size_t i = 0; i < told->count; i++) {
		struct gt_error err = { 0 };
		if (look_up(engine, told->rows[i].id) || adopt(engine, source->driver, &told->rows[i], &err) == 0 ||
		    gt_map_get(&source->refused, told->rows[i].id))
			continue;
		gt_map_set(&source->refused, told->rows[i].id, source);
		gt_warn("a network of other hosts is not taken up", "id", told->rows[i].id, "error", err.message);
	}
}

/* A network of the driver's, without users, that is not told any more; out of the table. NULL: none. */
static struct network *withdraw_gone(struct gt_networks *networks, const struct gt_driver *driver, const struct gt_map *ids)
{
	struct gt_map_slot *slot;
	LOCKED(&networks->lock);
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		struct network *network = slot->value;
		if (network->driver != driver || network->users.count || gt_map_get(ids, network->id))
			continue;
		network_withdraw(networks, network);
		return network;
	}
	return NULL;
}

static void drop_gone(struct gt_engine *engine, const struct gt_driver *driver, const struct told *told)
{
	struct gt_map ids = { 0 };
	struct network *network;
	for (size_t i = 0; i < told->count; i++)
		gt_map_set(&ids, told->rows[i].id, &told->rows[i]);
	while ((network = withdraw_gone(engine->networks, driver, &ids)) != NULL) {
		struct gt_error err = { 0 };
		if (gt_store_remove(engine->networks->documents, network->id, &err) < 0)
			gt_warn("a network that another host removed stays stored", "network", network->name, "error", err.message);
		network_event(engine, network, "destroy", NULL);
		network_forget_abroad(engine, network);
		network_free(network);
	}
	gt_map_free(&ids);
}

/* ---- containers of other hosts ---- */

/* What is known of a member, as one text: another text, and it is entered again. */
static char *describe_member(const struct gantry_member *member)
{
	AUTO_BUF struct gt_buf text = { 0 };
	gt_buf_printf(&text, "%s %s", member->ipv4, member->ipv6);
	for (size_t i = 0; i < member->name_count; i++)
		gt_buf_printf(&text, " %s", member->names[i]);
	return gt_buf_take(&text);
}

struct hearing {
	struct gt_engine *engine;
	struct network *network;
	struct gt_map present;          /* ids of containers */
};

static int take_member(void *arg, const struct gantry_member *member)
{
	struct hearing *hearing = arg;
	struct network *network = hearing->network;
	if (!gt_is_id(member->container_id))
		return 0;
	gt_map_set(&hearing->present, member->container_id, hearing);
	char *text = describe_member(member), *before = gt_map_get(&network->abroad, member->container_id);
	if (before && strcmp(before, text) == 0) {
		free(text);
		return 0;
	}
	free(gt_map_set(&network->abroad, member->container_id, text));
	gt_dns_enter(hearing->engine->dns,
		     &(struct gt_dns_member){ .network_id = network->id, .network_name = network->name, .container_id = member->container_id,
					      .names = member->names, .name_count = member->name_count, .ipv4 = member->ipv4, .ipv6 = member->ipv6 });
	return 0;
}

/* Those of network->abroad that are not present. */
static void drop_absent(struct gt_engine *engine, struct network *network, const struct gt_map *present)
{
	struct gt_strings absent = { 0 };
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&network->abroad, &i)) != NULL;) {
		if (!present || !gt_map_get(present, slot->key))
			gt_strings_add(&absent, slot->key);
	}
	for (size_t i = 0; i < absent.count; i++) {
		gt_dns_leave(engine->dns, network->id, absent.items[i]);
		free(gt_map_remove(&network->abroad, absent.items[i]));
	}
	gt_strings_free(&absent);
}

void network_forget_abroad(struct gt_engine *engine, struct network *network)
{
	drop_absent(engine, network, NULL);
}

static void hear_members(struct gt_engine *engine, struct gt_driver *driver, struct network *network, uint64_t generation)
{
	struct hearing hearing = { .engine = engine, .network = network };
	struct gt_error err = { 0 };
	if (network->heard == generation)
		return;
	if (gt_net_members(driver, network->id, take_member, &hearing, &err) == 0) {
		drop_absent(engine, network, &hearing.present);
		network->heard = generation;
	} else {
		gt_warn("the containers of other hosts are not known", "network", network->name, "error", err.message);
	}
	gt_map_free(&hearing.present);
}

/* ---- the thread ---- */

static void take_up(struct gt_engine *engine, struct source *source)
{
	__attribute__((cleanup(free_told))) struct told told = { 0 };
	struct gt_error err = { 0 };
	LOCKED(&engine->networks->changing);
	if (gt_net_global(source->driver, take_row, &told, &err) < 0) {
		if (err.kind != GT_UNAVAILABLE)
			gt_warn("the networks of other hosts are not known", "driver", gt_driver_name(source->driver), "error", err.message);
		return;
	}
	/* Those that go first: a name may be in use again. */
	drop_gone(engine, source->driver, &told);
	adopt_new(engine, source, &told);
	for (size_t i = 0; i < told.count; i++) {
		struct network *network = look_up(engine, told.rows[i].id);
		if (network && network->driver == source->driver)
			hear_members(engine, source->driver, network, told.rows[i].generation);
	}
}

static void *run(void *arg)
{
	struct gt_globals *globals = arg;
	eventfd_t count;
	while (!atomic_load(&globals->stop)) {
		if (poll(globals->fds, globals->count + 1, -1) < 0)
			continue;
		for (size_t i = 0; i < globals->count && !atomic_load(&globals->stop); i++) {
			if (!globals->fds[i].revents)
				continue;
			if (eventfd_read(globals->fds[i].fd, &count) < 0 && errno != EAGAIN)
				globals->fds[i].fd = -1 - globals->fds[i].fd; /* poll passes it over */
			take_up(globals->engine, &globals->sources[i]);
		}
	}
	return NULL;
}

/* ---- start and halt ---- */

static void start(struct gt_globals *globals)
{
	pthread_attr_t attr;
	globals->fds[globals->count] = (struct pollfd){ .fd = globals->wake, .events = POLLIN };
	atomic_store(&globals->stop, false);
	pthread_attr_init(&attr);
#ifndef GT_SANITIZED
	pthread_attr_setstacksize(&attr, STACK);
#endif
	globals->runs = globals->count && pthread_create(&globals->thread, &attr, run, globals) == 0;
	if (globals->count && !globals->runs)
		gt_err("no thread can be made: nothing is heard of other hosts");
	pthread_attr_destroy(&attr);
}

static void halt(struct gt_globals *globals)
{
	eventfd_t count;
	if (!globals->runs)
		return;
	atomic_store(&globals->stop, true);
	eventfd_write(globals->wake, 1);
	pthread_join(globals->thread, NULL);
	eventfd_read(globals->wake, &count);
	globals->runs = false;
}

/* ---- sources ---- */

static void add_source(struct gt_globals *globals, const char *name)
{
	struct gt_error err = { 0 };
	struct gt_driver *driver = gt_driver_find(globals->engine->drivers, GANTRY_NETWORK, name, NULL);
	int fd = -1;
	if (!driver || !(gt_driver_capabilities(driver) & GANTRY_NET_GLOBAL) || globals->count == MAX_DRIVERS)
		return;
	if (gt_net_watch(driver, &fd, &err) < 0) {
		if (err.kind != GT_UNSUPPORTED)
			gt_warn("nothing is heard of other hosts", "driver", name, "error", err.message);
		return;
	}
	globals->sources[globals->count] = (struct source){ .driver = driver };
	globals->fds[globals->count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

static void drop_source(struct gt_globals *globals, size_t at)
{
	int fd = globals->fds[at].fd;
	close(fd < -1 ? -1 - fd : fd);
	gt_map_free(&globals->sources[at].refused);
	globals->count--;
	globals->sources[at] = globals->sources[globals->count];
	globals->fds[at] = globals->fds[globals->count];
}

void gt_globals_renew(struct gt_engine *engine, const char *driver)
{
	struct gt_globals *globals = engine->globals;
	LOCKED(&globals->lock);
	halt(globals);
	for (size_t i = globals->count; i-- > 0;) {
		if (strcmp(gt_driver_name(globals->sources[i].driver), driver) == 0)
			drop_source(globals, i);
	}
	size_t before = globals->count;
	add_source(globals, driver);
	/* Whatever has happened meanwhile. */
	if (globals->count > before)
		eventfd_write(globals->fds[before].fd, 1);
	start(globals);
}

/* ---- open, close ---- */

void gt_globals_open(struct gt_engine *engine)
{
	struct gt_globals *globals = engine->globals = gt_xcalloc(1, sizeof *globals);
	AUTO_JSON json_t *names = gt_driver_names(engine->drivers, GANTRY_NETWORK);
	json_t *name;
	size_t i;
	pthread_mutex_init(&globals->lock, NULL);
	globals->engine = engine;
	globals->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	json_array_foreach(names, i, name)
		add_source(globals, json_string_value(name));
	start(globals);
}

void gt_globals_close(struct gt_engine *engine)
{
	struct gt_globals *globals = engine->globals;
	if (!globals)
		return;
	halt(globals);
	while (globals->count)
		drop_source(globals, globals->count - 1);
	if (globals->wake >= 0)
		close(globals->wake);
	pthread_mutex_destroy(&globals->lock);
	free(globals);
	engine->globals = NULL;
}
