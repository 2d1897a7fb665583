/*
 * replay.c - what a network or volume driver is told when its process has been started again.
 *
 * The engine tells a driver its networks and endpoints once, at its own start and as they come. A new process knows none, so what was told is kept here, as
 * bytes of the wire: each network as network_create() had it, each endpoint as it was when join() returned, with its published ports. The new process
 * gets the networks as known ones, and then all endpoints and ports by reconcile(), as after a restart of the daemon: what a call that was cut short had made is
 * removed by that.
 *
 * A volume driver that counts its mounts is told once, by the engine's reconcile(), which of them there should be. From then on the mounts that there are
 * are noted here, and a new process is told them: what a call that was cut short had mounted is released by that.
 *
 * A driver that watches other hosts gave the engine an eventfd of its process. The engine has one of ours instead; the process' thread passes the news on.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "remote.h"

enum what {
	NETWORK,
	ENDPOINT,
	USE,                            /* a container's of a volume */
	RECONCILED,                     /* the engine has told a volume driver its mounts; without an id */
};

struct record {
	struct record *next;
	uint32_t driver, member;        /* whose it is: index and number */
	enum what what;
	char *id;                       /* of a use: the volume's name */
	char *user;                     /* of a use: the container's id; else empty */
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

/* ---- records ---- */

static void record_free(struct record *record)
{
	free(record->id);
	free(record->user);
	gt_buf_free(&record->told);
	gt_buf_free(&record->ports);
	free(record);
}

static bool is_of(const struct record *record, const struct gt_driver *driver, enum what what)
{
	return record->driver == driver->index && record->member == driver->member && record->what == what;
}

static struct record **find_use(struct remote *remote, const struct gt_driver *driver, enum what what, const char *id, const char *user)
{
	struct record **at = &remote->records;
	while (*at && (!is_of(*at, driver, what) || strcmp((*at)->id, id) != 0 || strcmp((*at)->user, user) != 0))
		at = &(*at)->next;
	return at;
}

static struct record **find(struct remote *remote, const struct gt_driver *driver, enum what what, const char *id)
{
	return find_use(remote, driver, what, id, "");
}

static void drop_at(struct record **at)
{
	struct record *record = *at;
	if (record) {
		*at = record->next;
		record_free(record);
	}
}

static void drop(struct remote *remote, const struct gt_driver *driver, enum what what, const char *id)
{
	drop_at(find(remote, driver, what, id));
}

static void drop_endpoints(struct remote *remote, const struct gt_driver *driver)
{
	for (struct record **at = &remote->records; *at;) {
		if (is_of(*at, driver, ENDPOINT))
			drop_at(at);
		else
			at = &(*at)->next;
	}
}

static struct record *record_new(const struct gt_driver *driver, enum what what, const char *id, const char *user)
{
	struct record *record = gt_xcalloc(1, sizeof *record);
	record->driver = driver->index;
	record->member = driver->member;
	record->what = what;
	record->id = gt_xstrdup(id);
	record->user = gt_xstrdup(user);
	return record;
}

/* The record of that id, made where there is none. They stay in the order in which they came. */
static struct record *get(struct remote *remote, const struct gt_driver *driver, enum what what, const char *id)
{
	struct record **at = find(remote, driver, what, id);
	if (!*at)
		*at = record_new(driver, what, id, "");
	return *at;
}

static void get_use(struct remote *remote, const struct gt_driver *driver, const char *volume, const char *user)
{
	struct record **at = find_use(remote, driver, USE, volume, user);
	if (!*at)
		*at = record_new(driver, USE, volume, user);
}

static void free_list(struct record *records)
{
	while (records) {
		struct record *record = records;
		records = record->next;
		record_free(record);
	}
}

/* The driver's records as they are now. */
static struct record *snapshot(struct remote *remote, const struct gt_driver *driver)
{
	struct record *copy = NULL, **end = &copy;
	LOCKED(&remote->lock);
	for (const struct record *record = remote->records; record; record = record->next) {
		if (record->driver != driver->index || record->member != driver->member)
			continue;
		*end = record_new(driver, record->what, record->id, record->user);
		gt_buf_add(&(*end)->told, record->told.data, record->told.len);
		gt_buf_add(&(*end)->ports, record->ports.data, record->ports.len);
		end = &(*end)->next;
	}
	return copy;
}

void replay_free(struct remote *remote)
{
	free_list(remote->records);
	for (size_t i = 0; i < GT_COUNT(remote->watches); i++) {
		if (remote->watches[i].relay > 0)
			close(remote->watches[i].relay);
		if (remote->watches[i].source > 0)
			close(remote->watches[i].source);
	}
}

/* ---- taking note ---- */

static void note_endpoint(struct remote *remote, const struct gt_driver *driver, struct gantry_endpoint *endpoint)
{
	struct wire_args args = { .endpoints = endpoint, .endpoint_count = 1 };
	write_fields(&get(remote, driver, ENDPOINT, endpoint->id)->told, &args, WIRE_ENDPOINTS);
}

static void note_all(struct remote *remote, const struct gt_driver *driver, const struct wire_args *args)
{
	drop_endpoints(remote, driver);
	for (size_t i = 0; i < args->endpoint_count; i++) {
		AUTO_FREE struct gantry_port *ports = gt_xcalloc(args->port_count + 1, sizeof *ports);
		struct wire_args own = { .ports = ports };
		note_endpoint(remote, driver, &args->endpoints[i]);
		for (size_t p = 0; p < args->port_count; p++) {
			if (args->owners[p] == i)
				ports[own.port_count++] = args->ports[p];
		}
		if (own.port_count)
			write_fields(&get(remote, driver, ENDPOINT, args->endpoints[i].id)->ports, &own, WIRE_PORTS);
	}
}

static void note_names(struct record *record, const struct wire_args *args)
{
	AUTO_BUF struct gt_buf old = record->told;
	struct wire w;
	struct wire_args told = { 0 };
	record->told = (struct gt_buf){ 0 };
	read_fields(&w, &old, &told, WIRE_ENDPOINTS);
	told.endpoints[0].names = args->names;
	told.endpoints[0].name_count = args->name_count;
	write_fields(&record->told, &told, WIRE_ENDPOINTS);
	wire_done(&w);
}

static void note_success(struct remote *remote, const struct gt_driver *driver, enum wire_opcode op, const struct wire_args *args)
{
	struct wire_args network = { .network = args->network };
	struct record *record;
	switch (op) {
	case WIRE_network_network_create:
		network.network.flags |= GANTRY_NETWORK_KNOWN;
		write_fields(&get(remote, driver, NETWORK, args->network.id)->told, &network, WIRE_NETWORK);
		break;
	case WIRE_network_network_remove:
		drop(remote, driver, NETWORK, args->name);
		break;
	case WIRE_network_endpoint_join:
		note_endpoint(remote, driver, &args->endpoints[0]);
		break;
	case WIRE_network_publish:
		if ((record = *find(remote, driver, ENDPOINT, args->endpoints[0].id)) != NULL)
			write_fields(&record->ports, args, WIRE_PORTS);
		break;
	case WIRE_network_reconcile:
		note_all(remote, driver, args);
		break;
	case WIRE_network_endpoint_rename:
		if ((record = *find(remote, driver, ENDPOINT, args->other)) != NULL)
			note_names(record, args);
		break;
	default:
		break;
	}
}

/* Of a driver that counts its mounts. The lock is held. */
static void note_volume(struct remote *remote, const struct gt_driver *driver, enum wire_opcode op, const struct wire_args *args, bool success)
{
	switch (op) {
	case WIRE_volume_mount:
		if (success)
			get_use(remote, driver, args->name, args->other);
		break;
	case WIRE_volume_release:
		drop_at(find_use(remote, driver, USE, args->name, args->other));
		break;
	case WIRE_volume_reconcile:
		/* Of those before open(); what has been mounted since is noted. One that was cut short is taken up by the next process. */
		for (size_t i = 0; i < args->use_count; i++)
			get_use(remote, driver, args->uses[i].name, args->uses[i].container_id);
		get(remote, driver, RECONCILED, "");
		break;
	default:
		break;
	}
}

void replay_note(struct gt_driver *driver, enum wire_opcode op, const struct wire_args *args, bool success)
{
	struct remote *remote = driver->plugin->remote;
	struct record *record;
	if (driver->kind == GANTRY_STORAGE || (driver->kind == GANTRY_VOLUME && !driver->ops.volume.reconcile))
		return;
	LOCKED(&remote->lock);
	if (driver->kind == GANTRY_VOLUME) {
		note_volume(remote, driver, op, args, success);
		return;
	}
	remote->changes++;
	/* What has been asked to go is not brought back, whatever came of it. */
	if (op == WIRE_network_endpoint_leave)
		drop(remote, driver, ENDPOINT, args->other);
	else if (op == WIRE_network_unpublish && (record = *find(remote, driver, ENDPOINT, args->other)) != NULL)
		gt_buf_free(&record->ports);
	else if (success)
		note_success(remote, driver, op, args);
}

/* ---- telling ---- */

static int tell_networks(struct remote *remote, struct gt_driver *driver, const struct record *records, struct gantry_error *err)
{
	int rc = 0;
	for (const struct record *record = records; rc == 0 && record; record = record->next) {
		struct wire w;
		struct wire_args args = { .fd = -1 };
		if (record->what != NETWORK)
			continue;
		read_fields(&w, &record->told, &args, WIRE_NETWORK);
		rc = remote_call_early(driver, remote->control, WIRE_network_network_create, &args, err);
		wire_done(&w);
	}
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

static int tell_endpoints(struct remote *remote, struct gt_driver *driver, const struct record *records, struct gantry_error *err)
{
	size_t count = 0, at = 0;
	if (!driver->ops.network.reconcile)
		return 0;
	for (const struct record *record = records; record; record = record->next)
		count += record->what == ENDPOINT;
	AUTO_FREE struct gantry_endpoint *endpoints = gt_xcalloc(count + 1, sizeof *endpoints);
	AUTO_FREE struct wire *wires = gt_xcalloc(2 * count + 1, sizeof *wires);
	struct wire_args all = { .endpoints = endpoints, .endpoint_count = count, .fd = -1 };
	for (const struct record *record = records; record; record = record->next) {
		struct wire_args told = { 0 };
		if (record->what != ENDPOINT)
			continue;
		read_fields(&wires[2 * at], &record->told, &told, WIRE_ENDPOINTS);
		endpoints[at] = told.endpoints[0];
		if (record->ports.len) {
			read_fields(&wires[2 * at + 1], &record->ports, &told, WIRE_PORTS);
			add_ports(&all, &told, (uint32_t)at);
		}
		at++;
	}
	int rc = remote_call_early(driver, remote->control, WIRE_network_reconcile, &all, err);
	for (size_t i = 0; i < 2 * count; i++)
		wire_done(&wires[i]);
	free(all.ports);
	free(all.owners);
	return rc;
}

static int tell_watch(struct remote *remote, struct gt_driver *driver, struct gantry_error *err)
{
	struct wire_args args = { .fd = -1 };
	struct watch *watch = &remote->watches[driver->index];
	uint64_t news = 1;
	if (watch->relay <= 0)
		return 0;
	if (remote_call_early(driver, remote->control, WIRE_network_watch, &args, err) < 0)
		return -1;
	if (watch->source > 0)
		close(watch->source);
	watch->source = args.fd;
	/* Whatever has happened meanwhile. */
	return write(watch->relay, &news, sizeof news) < 0 && errno != EAGAIN ? gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "pass on news") : 0;
}

int replay(struct gt_driver *driver, struct gantry_error *err)
{
	struct remote *remote = driver->plugin->remote;
	if (driver->kind != GANTRY_NETWORK)
		return 0;
	struct record *records = snapshot(remote, driver);
	int rc = tell_networks(remote, driver, records, err) < 0 || tell_endpoints(remote, driver, records, err) < 0 ? -1 : tell_watch(remote, driver, err);
	free_list(records);
	return rc;
}

/* ---- volumes ---- */

#define USES_TIME (600 * GT_SECOND)     /* as the engine's own reconcile() has */

static void tell_uses(struct remote *remote, struct gt_driver *driver, uint64_t life)
{
	struct gantry_error why = { .size = sizeof why };
	struct record *records = snapshot(remote, driver);
	size_t count = 0;
	bool reconciled = false;
	for (const struct record *record = records; record; record = record->next)
		count += record->what == USE;
	AUTO_FREE struct gantry_volume_use *uses = gt_xcalloc(count + 1, sizeof *uses);
	struct wire_args args = { .uses = uses, .fd = -1 };
	for (const struct record *record = records; record; record = record->next) {
		reconciled |= record->what == RECONCILED;
		if (record->what == USE)
			uses[args.use_count++] = (struct gantry_volume_use){ .size = sizeof *uses, .name = record->id, .container_id = record->user };
	}
	if (reconciled && remote_call_life(driver, life, WIRE_volume_reconcile, gt_monotonic() + USES_TIME, &args, &why) < 0)
		gt_warn("a driver could not look after the mounts of its volumes", "driver", driver->name, "error", why.message);
	free_list(records);
}

static void *tell_all_uses(void *arg)
{
	struct remote *remote = arg;
	pthread_mutex_lock(&remote->lock);
	uint64_t life = remote->life;
	pthread_mutex_unlock(&remote->lock);
	for (size_t i = 0; i < remote->plugin->driver_count; i++) {
		if (remote->plugin->drivers[i].kind == GANTRY_VOLUME)
			tell_uses(remote, &remote->plugin->drivers[i], life);
	}
	AUTO_FREE struct gt_driver **members = remote_members_open(remote);
	for (size_t i = 0; members[i]; i++)
		tell_uses(remote, members[i], life);
	return NULL;
}

void replay_uses_begin(struct remote *remote)
{
	pthread_mutex_lock(&remote->lock);
	bool any = false;
	for (const struct record *record = remote->records; record && !any; record = record->next)
		any = record->what == RECONCILED;
	pthread_mutex_unlock(&remote->lock);
	int rc = any ? pthread_create(&remote->teller, NULL, tell_all_uses, remote) : 0;
	remote->telling = any && rc == 0;
	if (rc)
		gt_warn("volume drivers are not told the mounts of their volumes", "plugin", remote->plugin->name, "error", strerror(rc));
}

void replay_uses_end(struct remote *remote)
{
	if (remote->telling)
		pthread_join(remote->teller, NULL);
	remote->telling = false;
}

/* ---- news of other hosts ---- */

int replay_watch(struct gt_driver *driver, int source, struct gantry_error *err)
{
	struct remote *remote = driver->plugin->remote;
	uint64_t one = 1;
	int relay = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), engine = relay < 0 ? -1 : fcntl(relay, F_DUPFD_CLOEXEC, 0);
	if (engine < 0) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "make an eventfd");
		if (relay >= 0)
			close(relay);
		close(source);
		return -1;
	}
	LOCKED(&remote->lock);
	struct watch *watch = &remote->watches[driver->index];
	if (watch->relay > 0)
		close(watch->relay);
	if (watch->source > 0)
		close(watch->source);
	*watch = (struct watch){ .relay = relay, .source = source };
	/* The thread is to look at it. */
	if (write(remote->wake, &one, sizeof one) < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "wake the thread of its process");
	return engine;
}

void replay_news(struct remote *remote)
{
	LOCKED(&remote->lock);
	for (size_t i = 0; i < GT_COUNT(remote->watches); i++) {
		uint64_t news;
		struct watch *watch = &remote->watches[i];
		if (watch->source > 0 && read(watch->source, &news, sizeof news) == sizeof news && write(watch->relay, &news, sizeof news) < 0)
			continue; /* it is full of news already */
	}
}
