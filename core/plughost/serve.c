/*
 * serve.c - calls as they come over a channel, made to the driver; what the driver says meanwhile.
 *
 * The daemon is trusted here: what it sends was checked there. Each channel has a thread, and a thread one call at a time.
 */
#include "host.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"

#define STACK (2u << 20)                /* bytes of a thread's: with 64 channels far from the limit on memory */

struct channel {
	struct host *host;
	int sock;
	/* where ops write to */
	struct gantry_mount mount;
	struct gantry_volume_info info;
	struct gantry_layer_dir dir;
	struct gantry_usage usage;
};

/* The channel whose call this thread is in: what is said in a call must be there before its answer. -1: none. */
static __thread int call_channel = -1;

/* ---- log lines and events ---- */

static void notify(const struct gantry_host *table, enum frame_kind kind, struct wire_notice *notice)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct wire w;
	const struct driver *driver = table->engine;
	struct host *host = (struct host *)((char *)driver->all - offsetof(struct host, all));
	notice->driver = driver->index;
	notice->member = driver->member;
	wire_write(&w, &body);
	wire_notice(&w, kind, notice);
	if (call_channel >= 0) {
		frame_send(call_channel, kind, &w, 0);
		return;
	}
	LOCKED(&host->control_lock);
	frame_send(CONTROL_FD, kind, &w, 0);
}

/* At most WIRE_LINE_MAX - 1 bytes of a text; the caller's. */
static char *bounded(const char *text)
{
	return gt_xstrndup(text ? text : "", strnlen(text ? text : "", WIRE_LINE_MAX - 1));
}

void serve_log(const struct gantry_host *table, int level, const char *message)
{
	AUTO_FREE char *line = bounded(message);
	notify(table, FRAME_LOG, &(struct wire_notice){ .level = level, .texts = { line } });
}

void serve_event(const struct gantry_host *table, const char *object, const char *action, const char *detail)
{
	AUTO_FREE char *first = bounded(object);
	AUTO_FREE char *second = bounded(action);
	AUTO_FREE char *third = bounded(detail);
	notify(table, FRAME_EVENT, &(struct wire_notice){ .texts = { first, second, third } });
}

/* ---- lists ---- */

struct listing {
	int sock;
	enum wire_visit visits;
	struct gt_buf batch;
	struct wire w;
	bool stop;
};

/* Sends what there is and asks whether to go on. */
static void flush(struct listing *listing)
{
	AUTO_BUF struct gt_buf answer = { 0 };
	enum frame_kind kind;
	int fds[GT_MAX_FDS];
	size_t fd_count;
	int32_t stop = 1;
	struct wire w;
	if (frame_send(listing->sock, FRAME_VISIT, &listing->w, 0) == 0 &&
	    frame_receive(listing->sock, &kind, &answer, sizeof stop, fds, &fd_count, 0) == 0 && kind == FRAME_GO) {
		wire_read(&w, &answer, fds, fd_count);
		WIRE(&w, stop);
		wire_done(&w);
	}
	listing->stop = stop != 0;
	wire_write(&listing->w, &listing->batch);
}

static int note(struct listing *listing, struct wire_entry *entry)
{
	if (listing->stop)
		return 1;
	wire_entry(&listing->w, listing->visits, entry);
	if (listing->batch.len > WIRE_BATCH)
		flush(listing);
	return listing->stop;
}

static int note_name(void *arg, const char *name)
{
	return note(arg, &(struct wire_entry){ .name = name });
}

static int note_change(void *arg, int change, const char *path)
{
	return note(arg, &(struct wire_entry){ .name = path, .change = change });
}

static int note_network(void *arg, const struct gantry_global_network *network)
{
	return note(arg, &(struct wire_entry){ .network = *network });
}

static int note_member(void *arg, const struct gantry_member *member)
{
	return note(arg, &(struct wire_entry){ .member = *member });
}

static int note_peer(void *arg, const char *name, const char *address)
{
	return note(arg, &(struct wire_entry){ .name = name ? name : "", .address = address ? address : "" });
}

/* ---- members of families ---- */

#define MEMBERS_MAX 4096                /* more than the daemon has */

/* The driver that a call is for. NULL: a member that is not open. */
static struct driver *driver_of(struct host *host, const struct wire_call *head)
{
	LOCKED(&host->members_lock);
	if (!head->member)
		return &host->plugin->drivers[head->driver];
	return head->member <= host->member_count ? host->members[head->member - 1] : NULL;
}

/* Puts a driver, or NULL, in the place of that number. False where another one is there already. */
static bool member_put(struct host *host, uint32_t number, struct driver *driver)
{
	LOCKED(&host->members_lock);
	if (number > host->member_count) {
		host->members = gt_xrealloc(host->members, number * sizeof(struct driver *));
		while (host->member_count < number)
			host->members[host->member_count++] = NULL;
	}
	if (driver && host->members[number - 1])
		return false;
	host->members[number - 1] = driver;
	return true;
}

static struct driver *member_new(struct host *host, const struct wire_call *head, const char *name)
{
	const struct driver *family = &host->plugin->drivers[head->driver];
	struct driver *member = gt_xcalloc(1, sizeof *member);
	member->all = family->all;
	member->plugin = family->plugin;
	member->index = family->index;
	member->member = head->member;
	member->kind = family->kind;
	member->name = gt_xstrdup(name);
	member->capabilities = family->capabilities & ~GANTRY_VOL_FAMILY;
	member->ops = family->ops;
	return member;
}

static void member_free(struct driver *member)
{
	free((char *)(uintptr_t)member->name);
	free(member->state_dir);
	free(member->run_dir);
	free(member);
}

/* ---- ops ---- */

static int open_driver(struct driver *driver, const struct wire_args *a, struct gantry_error *err)
{
	struct plugin *plugin = driver->plugin;
	free(driver->state_dir);
	free(driver->run_dir);
	driver->state_dir = gt_xstrdup(a->name);
	driver->run_dir = gt_xstrdup(a->other);
	driver->durable = a->number;
	for (size_t i = 0; i < plugin->info.key_count && i < a->name_count; i++) {
		/* A driver that is open keeps what config() gave it. */
		if (!plugin->values[i])
			plugin->values[i] = gt_xstrdup(a->names[i]);
	}
	host_fill(driver);
	driver->host.log = serve_log;
	driver->host.event = serve_event;
	switch (driver->kind) {
	case GANTRY_NETWORK: return driver->ops.network.open(&driver->host, driver->name, &driver->context, err);
	case GANTRY_VOLUME: return driver->ops.volume.open(&driver->host, driver->name, &driver->context, err);
	default: return driver->ops.storage.open(&driver->host, driver->name, &driver->context, err);
	}
}

static int close_driver(struct driver *driver)
{
	switch (driver->kind) {
	case GANTRY_NETWORK: driver->ops.network.close(driver->context); break;
	case GANTRY_VOLUME: driver->ops.volume.close(driver->context); break;
	default: driver->ops.storage.close(driver->context);
	}
	return 0;
}

static int open_member(struct host *host, const struct wire_call *head, const struct wire_args *args, struct gantry_error *err)
{
	struct driver *member = member_new(host, head, args->title);
	if (open_driver(member, args, err) < 0) {
		member_free(member);
		return -1;
	}
	if (member_put(host, head->member, member))
		return 0;
	/* Two calls at once found that it was not open. */
	close_driver(member);
	member_free(member);
	return 0;
}

static int close_member(struct host *host, struct driver *member)
{
	member_put(host, member->member, NULL);
	close_driver(member);
	member_free(member);
	return 0;
}

/* A call to an op, whichever. */
typedef int (*serve_op)(struct driver *driver, const struct gantry_call *call, struct wire_args *a, struct listing *list, struct gantry_error *err);

#define SERVE(kind, table, op, ...) \
	static int kind##_##op(struct driver *driver, const struct gantry_call *call, struct wire_args *a, struct listing *list, struct gantry_error *err) \
	{ \
		(void)a; \
		(void)list; \
		return driver->ops.table.op(driver->context, call, __VA_ARGS__, err); \
	}
#define NET(op, ...) SERVE(net, network, op, __VA_ARGS__)
#define VOL(op, ...) SERVE(vol, volume, op, __VA_ARGS__)
#define STORE(op, ...) SERVE(store, storage, op, __VA_ARGS__)

NET(network_create, &a->network)
NET(network_remove, a->name)
NET(endpoint_join, a->endpoints, a->fd)
NET(endpoint_leave, a->name, a->other, a->fd)
NET(publish, a->endpoints, a->ports, a->port_count, sizeof *a->ports)
NET(unpublish, a->name, a->other)
NET(reconcile, a->endpoints, a->endpoint_count, sizeof *a->endpoints, a->ports, a->owners, a->port_count, sizeof *a->ports)
NET(watch, &a->fd)
NET(global_networks, note_network, list)
NET(members, a->name, note_member, list)
NET(endpoint_rename, a->name, a->other, a->names, a->name_count)
NET(peers, a->name, note_peer, list)

VOL(create, a->name, &a->options)
VOL(remove, a->name)
VOL(mount, a->name, a->other, a->number, a->mount)
VOL(release, a->name, a->other)
VOL(list, note_name, list)
VOL(inspect, a->name, a->info)
VOL(usage, a->name, a->usage)
VOL(reconcile, a->uses, a->use_count, sizeof *a->uses)
VOL(family, note_name, list)

STORE(prepare, a->number, a->name, a->other, &a->options)
STORE(layer_dir, a->name, a->dir)
STORE(commit, a->name)
STORE(lookup, a->name, &a->number)
STORE(mount, a->name, a->number, a->mount)
STORE(diff, a->name, note_change, list)
STORE(remove, a->name)
STORE(usage, a->name, a->usage)
STORE(list, note_name, list)

static const serve_op OPS[WIRE_OP_COUNT] = {
#define X(op, ...) [WIRE_network_##op] = net_##op,
	WIRE_NETWORK_OPS(X)
#undef X
#define X(op, ...) [WIRE_volume_##op] = vol_##op,
	WIRE_VOLUME_OPS(X)
#undef X
#define X(op, ...) [WIRE_storage_##op] = store_##op,
	WIRE_STORAGE_OPS(X)
#undef X
};

static int run_op(struct host *host, const struct wire_call *head, const struct gantry_call *call, struct wire_args *args, struct listing *list,
		  struct gantry_error *err)
{
	struct driver *driver = driver_of(host, head);
	if (head->op == WIRE_OPEN && head->member)
		return driver ? 0 : open_member(host, head, args, err);
	if (head->op == WIRE_OPEN)
		return open_driver(driver, args, err);
	if (head->op == WIRE_CLOSE)
		return !driver ? 0 : head->member ? close_member(host, driver) : close_driver(driver);
	if (!driver)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "it is not open");
	return OPS[head->op](driver, call, args, list, err);
}

/* ---- one call ---- */

/* Structs as the dispatch gives them to a driver in the daemon: empty. */
static void empty_outputs(struct channel *channel, struct wire_args *args)
{
	channel->mount.size = sizeof channel->mount;
	channel->mount.flags = 0;
	channel->mount.type[0] = channel->mount.source[0] = channel->mount.options[0] = '\0';
	channel->info = (struct gantry_volume_info){ .size = sizeof channel->info };
	channel->dir.size = sizeof channel->dir;
	channel->dir.whiteouts = 0;
	channel->dir.path[0] = '\0';
	channel->usage = (struct gantry_usage){ .size = sizeof channel->usage, .bytes = -1, .inodes = -1 };
	args->mount = &channel->mount;
	args->info = &channel->info;
	args->dir = &channel->dir;
	args->usage = &channel->usage;
}

static int answer(const struct channel *channel, const struct wire_op *op, int32_t rc, struct wire_args *args, const struct listing *list,
		  struct gantry_error *err)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct wire w;
	wire_write(&w, &body);
	WIRE(&w, rc);
	if (rc == 0)
		wire_fields(&w, args, op->out);
	else
		wire_error(&w, err);
	gt_buf_add(&body, list->batch.data + sizeof(struct frame_head), list->batch.len - sizeof(struct frame_head));
	int sent = frame_send(channel->sock, FRAME_ANSWER, &w, 0);
	if (rc == 0 && (op->out & WIRE_FD) && args->fd >= 0)
		close(args->fd);
	return sent;
}

/* Returns -1 where the channel is of no more use. */
static int serve_call(struct channel *channel, struct wire *w)
{
	struct wire_call head = { 0 };
	struct wire_args args = { .fd = -1 };
	struct gantry_error err = { .size = sizeof err };
	struct plugin *plugin = channel->host->plugin;
	WIRE(w, head);
	if (head.op >= WIRE_OP_COUNT || head.driver >= plugin->driver_count || head.member > MEMBERS_MAX)
		return -1;
	const struct wire_op *op = &WIRE_OPS[head.op];
	wire_fields(w, &args, op->in);
	if (!wire_whole(w) || (op->kind && op->kind != (int32_t)plugin->drivers[head.driver].kind))
		return -1;
	struct gantry_call call = { .size = sizeof call, .deadline_ns = head.deadline_ns, .id = head.id };
	struct listing list = { .sock = channel->sock, .visits = op->visits };
	wire_write(&list.w, &list.batch);
	empty_outputs(channel, &args);
	int in = args.fd;
	call_channel = channel->sock;
	int32_t rc = run_op(channel->host, &head, &call, &args, &list, &err) < 0 ? -1 : 0;
	call_channel = -1;
	/* The daemon orders calls, outside of this process: who looks for a driver later, with this lock, sees what this call wrote. */
	pthread_mutex_lock(&channel->host->members_lock);
	pthread_mutex_unlock(&channel->host->members_lock);
	int sent = answer(channel, op, rc, &args, &list, &err);
	if (in >= 0)
		close(in);
	gt_buf_free(&list.batch);
	return sent;
}

static void *serve(void *arg)
{
	struct channel *channel = arg;
	struct gt_buf body = { 0 };
	enum frame_kind kind;
	int fds[GT_MAX_FDS], rc = 0;
	size_t fd_count;
	while (rc == 0 && frame_receive(channel->sock, &kind, &body, WIRE_CALL_MAX, fds, &fd_count, 0) == 0) {
		struct wire w;
		wire_read(&w, &body, fds, fd_count);
		w.trusting = true;
		rc = kind == FRAME_CALL ? serve_call(channel, &w) : -1;
		wire_done(&w);
	}
	close(channel->sock);
	gt_buf_free(&body);
	free(channel);
	return NULL;
}

int serve_begin(struct host *host, int sock)
{
	pthread_t thread;
	pthread_attr_t attr;
	struct channel *channel = gt_xcalloc(1, sizeof *channel);
	channel->host = host;
	channel->sock = sock;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
#ifndef GT_SANITIZED
	pthread_attr_setstacksize(&attr, STACK);
#endif
	int rc = pthread_create(&thread, &attr, serve, channel);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		return 0;
	close(sock);
	free(channel);
	errno = rc;
	return -1;
}
