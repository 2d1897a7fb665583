/*
 * wire.c - walks over the structs of <gantry/plugin.h>, one for each, and the table of ops.
 */
#include "wire.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/utf8.h"

#define NO_TEXT UINT32_MAX              /* the length of NULL */
#define MAX_NAMES 1024                  /* of a container, of choices, of values */
#define MAX_OPTIONS 256
#define MAX_SUBNETS 4096
#define MAX_ENDPOINTS (1u << 20)

/* ---- what the walks know ---- */

/* Ops that are in the ABI and have no row. */
#define X(...) + 1
#define CARRIES(table, first, rows) \
	_Static_assert(sizeof(struct table) == offsetof(struct table, first) + sizeof(void (*)(void)) * (0 rows(X)), "ops of " #table " that have no row in wire.h")
CARRIES(gantry_network_ops, network_create, WIRE_NETWORK_OPS);
CARRIES(gantry_volume_ops, create, WIRE_VOLUME_OPS);
CARRIES(gantry_storage_ops, prepare, WIRE_STORAGE_OPS);
#undef X

/* A struct that has grown has members that its walk does not know yet: add them there, then the new size here. */
#define KNOWS(type, bytes) _Static_assert(sizeof(struct type) == (bytes), "the walk over struct " #type " does not know all of it")
KNOWS(gantry_error, 528);
KNOWS(gantry_call, 24);         /* struct wire_call */
KNOWS(gantry_key, 56);
KNOWS(gantry_driver, 32);
KNOWS(gantry_plugin, 80);
KNOWS(gantry_option, 16);
KNOWS(gantry_options, 16);
KNOWS(gantry_mount, 69704);
KNOWS(gantry_subnet, 200);
KNOWS(gantry_network, 88);
KNOWS(gantry_endpoint, 376);
KNOWS(gantry_global_network, 32);
KNOWS(gantry_member, 72);
KNOWS(gantry_port, 80);
KNOWS(gantry_volume_info, 12304);
KNOWS(gantry_volume_use, 24);
KNOWS(gantry_usage, 24);
KNOWS(gantry_layer_dir, 4104);

/* ---- ops ---- */

const struct wire_op WIRE_OPS[WIRE_OP_COUNT] = {
	[WIRE_OPEN] = { "open", 0, WIRE_TITLE | WIRE_NAME | WIRE_OTHER | WIRE_NUMBER | WIRE_NAMES, 0, WIRE_VISITS_NOTHING, 0 },
	[WIRE_CLOSE] = { "close", 0, 0, 0, WIRE_VISITS_NOTHING, 0 },
#define X(op, in, out, visits) \
	[WIRE_network_##op] = { #op, GANTRY_NETWORK, in, out, WIRE_VISITS_##visits, offsetof(struct gantry_network_ops, op) },
	WIRE_NETWORK_OPS(X)
#undef X
#define X(op, in, out, visits) \
	[WIRE_volume_##op] = { #op, GANTRY_VOLUME, in, out, WIRE_VISITS_##visits, offsetof(struct gantry_volume_ops, op) },
	WIRE_VOLUME_OPS(X)
#undef X
#define X(op, in, out, visits) \
	[WIRE_storage_##op] = { #op, GANTRY_STORAGE, in, out, WIRE_VISITS_##visits, offsetof(struct gantry_storage_ops, op) },
	WIRE_STORAGE_OPS(X)
#undef X
};

/* ---- begin, end ---- */

void wire_write(struct wire *w, struct gt_buf *out)
{
	struct frame_head head = { 0 };
	*w = (struct wire){ .out = out };
	gt_buf_reset(out);
	gt_buf_add(out, &head, sizeof head);
}

void wire_read(struct wire *w, const struct gt_buf *body, const int *fds, size_t fd_count)
{
	*w = (struct wire){ .at = body->data ? body->data : "", .fd_count = fd_count };
	w->end = w->at + body->len;
	if (fd_count)
		memcpy(w->fds, fds, fd_count * sizeof *fds);
}

void wire_done(struct wire *w)
{
	for (size_t i = w->fd_taken; !w->out && i < w->fd_count; i++)
		close(w->fds[i]);
	for (size_t i = 0; i < w->block_count; i++)
		free(w->blocks[i]);
	free(w->blocks);
	*w = (struct wire){ 0 };
}

void wire_fault(struct wire *w, const char *what)
{
	if (!w->fault)
		w->fault = what;
	w->at = w->end;
}

bool wire_whole(struct wire *w)
{
	if (!w->fault && w->at != w->end)
		wire_fault(w, "it is longer than it should be");
	if (!w->fault && w->fd_taken != w->fd_count)
		wire_fault(w, "it brings descriptors that nobody asked for");
	return !w->fault;
}

/* ---- parts ---- */

void wire_raw(struct wire *w, void *value, size_t size)
{
	if (w->out) {
		gt_buf_add(w->out, value, size);
	} else if ((size_t)(w->end - w->at) < size) {
		memset(value, 0, size);
		wire_fault(w, "it ends too early");
	} else {
		memcpy(value, w->at, size);
		w->at += size;
	}
}

static bool is_utf8(const char *text, size_t len)
{
	for (size_t step; len; text += step, len -= step) {
		step = gt_utf8_sequence(text, len);
		if (!step)
			return false;
	}
	return true;
}

/* The bytes of a text of len, which has its NUL behind it; NULL where there is none. */
static const char *read_text(struct wire *w, size_t len, size_t max)
{
	const char *text = w->at;
	if (len >= (size_t)(w->end - w->at) || (len >= max && !w->trusting)) {
		wire_fault(w, "a text is too long");
		return NULL;
	}
	if (text[len] != '\0' || memchr(text, '\0', len)) {
		wire_fault(w, "a text does not end where it should");
		return NULL;
	}
	w->at += len + 1;
	return text;
}

/* any: whatever bytes, as names of files are. */
static void walk_text(struct wire *w, const char **text, size_t max, bool any)
{
	uint32_t len = w->out && *text ? (uint32_t)strlen(*text) : NO_TEXT;
	WIRE(w, len);
	if (w->out) {
		if (*text)
			gt_buf_add(w->out, *text, len + 1u);
		return;
	}
	*text = w->fault || len == NO_TEXT ? NULL : read_text(w, len, max);
	if (*text && !any && !w->trusting && !is_utf8(*text, len)) {
		wire_fault(w, "a text is not UTF-8");
		*text = NULL;
	}
}

void wire_text(struct wire *w, const char **text, size_t max)
{
	walk_text(w, text, max, false);
}

/* A text that must be there. */
static void wire_word(struct wire *w, const char **text, size_t max)
{
	wire_text(w, text, max);
	if (!w->out && !*text) {
		wire_fault(w, "a text is missing");
		*text = "";
	}
}

/* A text in an array of the struct's own. */
static void wire_chars(struct wire *w, char *array, size_t room)
{
	const char *text = array;
	if (w->out)
		array[room - 1] = '\0'; /* a driver may have forgotten it */
	wire_word(w, &text, room);
	if (w->out)
		return;
	size_t len = strnlen(text, room - 1);
	memcpy(array, text, len);
	array[len] = '\0';
}
#define WIRE_CHARS(w, array) wire_chars((w), (array), sizeof(array))

static void *block(struct wire *w, size_t count, size_t size)
{
	w->blocks = gt_xrealloc(w->blocks, (w->block_count + 1) * sizeof *w->blocks);
	return w->blocks[w->block_count++] = gt_xcalloc(count + 1, size);
}

/* How many there are, and when reading an array for them. Each takes at least four bytes. */
static size_t wire_array(struct wire *w, void *items, size_t *count, size_t size, size_t max)
{
	uint64_t number = *count;
	WIRE(w, number);
	if (!w->out) {
		if ((number > max && !w->trusting) || number > (size_t)(w->end - w->at) / 4) {
			wire_fault(w, "a list is too long");
			number = 0;
		}
		void *made = block(w, number, size);
		memcpy(items, &made, sizeof made);
		*count = number;
	}
	return number;
}

static void wire_fd(struct wire *w, int *fd)
{
	uint32_t there = w->out && *fd >= 0;
	WIRE(w, there);
	if (w->out) {
		if (there && w->fd_count < GT_MAX_FDS)
			w->fds[w->fd_count++] = *fd;
		return;
	}
	*fd = -1;
	if (there && w->fd_taken < w->fd_count)
		*fd = w->fds[w->fd_taken++];
	else if (there)
		wire_fault(w, "a descriptor is missing");
}

/* ---- structs ---- */

static void wire_names(struct wire *w, const char ***names, size_t *count)
{
	for (size_t i = 0, n = wire_array(w, names, count, sizeof **names, MAX_NAMES); i < n; i++)
		wire_text(w, &(*names)[i], WIRE_TEXT_MAX);
}

static void wire_const_names(struct wire *w, const char *const **names, size_t *count)
{
	const char **list = (const char **)(uintptr_t)*names;
	wire_names(w, &list, count);
	for (size_t i = 0; !w->out && i < *count; i++) {
		if (!list[i]) {
			wire_fault(w, "a text is missing");
			list[i] = "";
		}
	}
	*names = list;
}

static void wire_options(struct wire *w, struct gantry_options *options)
{
	struct gantry_option *items = (struct gantry_option *)(uintptr_t)options->items;
	size_t count = options->count;
	for (size_t i = 0, n = wire_array(w, &items, &count, sizeof *items, MAX_OPTIONS); i < n; i++) {
		wire_word(w, &items[i].key, WIRE_CALL_MAX);
		wire_word(w, &items[i].value, WIRE_CALL_MAX);
	}
	*options = (struct gantry_options){ .size = sizeof *options, .count = (uint32_t)count, .items = items };
}

static void wire_network(struct wire *w, struct gantry_network *network)
{
	struct gantry_subnet *subnets = (struct gantry_subnet *)(uintptr_t)network->subnets;
	network->size = sizeof *network;
	WIRE(w, network->flags);
	wire_word(w, &network->id, WIRE_LINE_MAX);
	wire_word(w, &network->name, WIRE_LINE_MAX);
	for (size_t i = 0, n = wire_array(w, &subnets, &network->subnet_count, sizeof *subnets, MAX_SUBNETS); i < n; i++) {
		subnets[i].size = sizeof *subnets;
		WIRE(w, subnets[i].family);
		WIRE_CHARS(w, subnets[i].subnet);
		WIRE_CHARS(w, subnets[i].gateway);
		WIRE_CHARS(w, subnets[i].range);
	}
	network->subnets = subnets;
	network->subnet_size = sizeof *subnets;
	wire_options(w, &network->options);
	wire_const_names(w, &network->reserved, &network->reserved_count);
	wire_text(w, &network->document, GANTRY_DOCUMENT_MAX + 1);
}

/* What join fills in. */
static void wire_joined(struct wire *w, struct gantry_endpoint *endpoint)
{
	static const char ADDRESS[] = "0123456789abcdefABCDEF:./";
	char *const texts[] = { endpoint->mac, endpoint->ipv4, endpoint->ipv6, endpoint->gateway4, endpoint->gateway6 };
	const size_t rooms[] = { sizeof endpoint->mac, GANTRY_ADDR_MAX, GANTRY_ADDR_MAX, GANTRY_ADDR_MAX, GANTRY_ADDR_MAX };
	for (size_t i = 0; i < GT_COUNT(texts); i++) {
		wire_chars(w, texts[i], rooms[i]);
		if (!w->out && texts[i][strspn(texts[i], ADDRESS)])
			wire_fault(w, "an address is none");
	}
	WIRE_CHARS(w, endpoint->host_ifname);
	if (!w->out && strpbrk(endpoint->host_ifname, "/ \t\n"))
		wire_fault(w, "the name of an interface is none");
	WIRE(w, endpoint->mtu);
}

static void wire_endpoint(struct wire *w, struct gantry_endpoint *endpoint)
{
	endpoint->size = sizeof *endpoint;
	WIRE(w, endpoint->flags);
	wire_word(w, &endpoint->id, WIRE_LINE_MAX);
	wire_text(w, &endpoint->network_id, WIRE_LINE_MAX);
	wire_text(w, &endpoint->container_id, WIRE_LINE_MAX);
	wire_text(w, &endpoint->ifname, WIRE_LINE_MAX);
	wire_joined(w, endpoint);
	WIRE(w, endpoint->default_route);
	wire_options(w, &endpoint->options);
	wire_const_names(w, &endpoint->names, &endpoint->name_count);
}

static void wire_ports(struct wire *w, struct wire_args *args, bool owners)
{
	size_t n = wire_array(w, &args->ports, &args->port_count, sizeof *args->ports, MAX_ENDPOINTS);
	for (size_t i = 0; i < n; i++) {
		struct gantry_port *port = &args->ports[i];
		port->size = sizeof *port;
		WIRE(w, port->proto);
		WIRE_CHARS(w, port->host_ip);
		WIRE(w, port->host_port);
		WIRE(w, port->container_port);
	}
	if (owners && !w->out)
		args->owners = block(w, n, sizeof *args->owners);
	for (size_t i = 0; owners && i < n; i++)
		WIRE(w, args->owners[i]);
}

static void wire_mount(struct wire *w, struct gantry_mount *mount)
{
	mount->size = sizeof *mount;
	WIRE(w, mount->flags);
	WIRE_CHARS(w, mount->type);
	WIRE_CHARS(w, mount->source);
	WIRE_CHARS(w, mount->options);
	if (!w->out && strcmp(mount->type, "bind") == 0 && mount->source[0] != '/')
		wire_fault(w, "the source of a bind mount is no absolute path");
}

static void wire_info(struct wire *w, struct gantry_volume_info *info)
{
	info->size = sizeof *info;
	WIRE(w, info->flags);
	WIRE(w, info->created_ns);
	WIRE_CHARS(w, info->mountpoint);
	WIRE_CHARS(w, info->status);
	if (!w->out && info->created_ns < 0)
		wire_fault(w, "a time is before 1970");
}

static void wire_usage(struct wire *w, struct gantry_usage *usage)
{
	usage->size = sizeof *usage;
	WIRE(w, usage->bytes);
	WIRE(w, usage->inodes);
	if (!w->out && (usage->bytes < -1 || usage->inodes < -1))
		wire_fault(w, "a size is negative");
}

static void wire_dir(struct wire *w, struct gantry_layer_dir *dir)
{
	dir->size = sizeof *dir;
	WIRE(w, dir->whiteouts);
	WIRE_CHARS(w, dir->path);
	if (!w->out && (dir->whiteouts < GANTRY_WHITEOUT_DELETE || dir->whiteouts > GANTRY_WHITEOUT_OVERLAY))
		wire_fault(w, "whiteouts are of no known kind");
}

static void wire_uses(struct wire *w, struct wire_args *args)
{
	for (size_t i = 0, n = wire_array(w, &args->uses, &args->use_count, sizeof *args->uses, MAX_ENDPOINTS); i < n; i++) {
		args->uses[i].size = sizeof *args->uses;
		wire_word(w, &args->uses[i].name, WIRE_LINE_MAX);
		wire_word(w, &args->uses[i].container_id, WIRE_LINE_MAX);
	}
}

void wire_fields(struct wire *w, struct wire_args *args, uint32_t fields)
{
	if (fields & WIRE_TITLE)
		wire_word(w, &args->title, WIRE_LINE_MAX);
	if (fields & WIRE_NAME)
		wire_word(w, &args->name, WIRE_LINE_MAX);
	if (fields & WIRE_OTHER)
		wire_text(w, &args->other, WIRE_LINE_MAX);
	if (fields & (WIRE_NUMBER | WIRE_SEALED))
		WIRE(w, args->number);
	if (!w->out && (fields & WIRE_SEALED) && args->number != 0 && args->number != 1)
		wire_fault(w, "a flag is neither 0 nor 1");
	if (fields & WIRE_FD)
		wire_fd(w, &args->fd);
	if (fields & WIRE_OPTIONS)
		wire_options(w, &args->options);
	if (fields & WIRE_NETWORK)
		wire_network(w, &args->network);
	if (fields & WIRE_ENDPOINTS) {
		for (size_t i = 0, n = wire_array(w, &args->endpoints, &args->endpoint_count, sizeof *args->endpoints, MAX_ENDPOINTS); i < n; i++)
			wire_endpoint(w, &args->endpoints[i]);
	}
	if (fields & WIRE_PORTS)
		wire_ports(w, args, fields & WIRE_OWNERS);
	if (fields & WIRE_NAMES)
		wire_names(w, &args->names, &args->name_count);
	if (fields & WIRE_USES)
		wire_uses(w, args);
	if (fields & WIRE_MOUNT)
		wire_mount(w, args->mount);
	if (fields & WIRE_INFO)
		wire_info(w, args->info);
	if (fields & WIRE_USAGE)
		wire_usage(w, args->usage);
	if (fields & WIRE_DIR)
		wire_dir(w, args->dir);
	if (fields & WIRE_JOINED)
		wire_joined(w, args->endpoints);
}

/* ---- answers, lists, notices ---- */

void wire_error(struct wire *w, struct gantry_error *error)
{
	const char *text = error->message;
	error->size = sizeof *error;
	WIRE(w, error->kind);
	WIRE(w, error->errnum);
	error->message[sizeof error->message - 1] = '\0';
	walk_text(w, &text, sizeof error->message, true);
	if (w->out)
		return;
	/* It may quote the name of a file. */
	AUTO_FREE char *clean = gt_utf8_repair(text ? text : "");
	size_t len = strnlen(clean, sizeof error->message - 1);
	memcpy(error->message, clean, len);
	error->message[len] = '\0';
}

static void wire_member(struct wire *w, struct gantry_member *member)
{
	member->size = sizeof *member;
	wire_word(w, &member->endpoint_id, WIRE_LINE_MAX);
	wire_word(w, &member->container_id, WIRE_LINE_MAX);
	wire_word(w, &member->host, WIRE_LINE_MAX);
	wire_word(w, &member->mac, GANTRY_ADDR_MAX);
	wire_word(w, &member->ipv4, GANTRY_ADDR_MAX);
	wire_word(w, &member->ipv6, GANTRY_ADDR_MAX);
	wire_const_names(w, &member->names, &member->name_count);
}

void wire_entry(struct wire *w, enum wire_visit visits, struct wire_entry *entry)
{
	switch (visits) {
	case WIRE_VISITS_NAMES:
		wire_word(w, &entry->name, WIRE_LINE_MAX);
		return;
	case WIRE_VISITS_CHANGES:
		WIRE(w, entry->change);
		walk_text(w, &entry->name, WIRE_TEXT_MAX, true);
		if (!w->out && (!entry->name || entry->name[0] != '/' || entry->change < GANTRY_MODIFIED || entry->change > GANTRY_DELETED))
			wire_fault(w, "a change is of no known kind, or of no absolute path");
		return;
	case WIRE_VISITS_NETWORKS:
		entry->network.size = sizeof entry->network;
		wire_word(w, &entry->network.id, WIRE_LINE_MAX);
		wire_word(w, &entry->network.document, GANTRY_DOCUMENT_MAX + 1);
		WIRE(w, entry->network.generation);
		return;
	case WIRE_VISITS_MEMBERS:
		wire_member(w, &entry->member);
		return;
	case WIRE_VISITS_PEERS:
		wire_word(w, &entry->name, WIRE_LINE_MAX);
		wire_word(w, &entry->address, WIRE_LINE_MAX);
		return;
	case WIRE_VISITS_NOTHING:
		wire_fault(w, "it lists where nothing is to be listed");
	}
}

void wire_notice(struct wire *w, enum frame_kind kind, struct wire_notice *notice)
{
	WIRE(w, notice->driver);
	WIRE(w, notice->member);
	WIRE(w, notice->level);
	for (size_t i = 0; i < (kind == FRAME_LOG ? 1u : 3u); i++)
		walk_text(w, &notice->texts[i], WIRE_LINE_MAX, true);
	if (!w->out && !notice->texts[0])
		wire_fault(w, "a text is missing");
}

/* ---- the descriptor ---- */

static void wire_key(struct wire *w, struct gantry_key *key)
{
	size_t choices = 0;
	const char **list = (const char **)(uintptr_t)key->choices;
	key->size = sizeof *key;
	WIRE(w, key->type);
	wire_text(w, &key->name, WIRE_LINE_MAX);
	wire_text(w, &key->default_value, WIRE_LINE_MAX);
	WIRE(w, key->min);
	WIRE(w, key->max);
	while (w->out && key->type == GANTRY_KEY_CHOICE && list && list[choices] && choices < MAX_NAMES)
		choices++;
	wire_names(w, &list, &choices); /* the array ends with NULL */
	key->choices = list;
	wire_text(w, &key->doc, WIRE_LINE_MAX);
}

void wire_plugin(struct wire *w, struct wire_plugin *plugin)
{
	struct gantry_plugin *info = &plugin->info;
	struct gantry_key *keys = (struct gantry_key *)(uintptr_t)info->keys;
	struct gantry_driver *drivers = (struct gantry_driver *)(uintptr_t)info->drivers;
	WIRE(w, info->abi_major);
	WIRE(w, info->abi_minor);
	wire_text(w, &info->name, WIRE_LINE_MAX);
	wire_text(w, &info->version, WIRE_LINE_MAX);
	wire_text(w, &info->description, WIRE_LINE_MAX);
	for (size_t i = 0, n = wire_array(w, &keys, &info->key_count, sizeof *keys, 4096); i < n; i++)
		wire_key(w, &keys[i]);
	size_t n = wire_array(w, &drivers, &info->driver_count, sizeof *drivers, 4096);
	if (!w->out)
		plugin->ops = block(w, n, sizeof *plugin->ops);
	for (size_t i = 0; i < n; i++) {
		drivers[i].size = sizeof *drivers;
		WIRE(w, drivers[i].kind);
		wire_text(w, &drivers[i].name, WIRE_LINE_MAX);
		WIRE(w, drivers[i].capabilities);
		WIRE(w, plugin->ops[i]);
	}
	info->size = sizeof *info;
	info->keys = keys;
	info->key_size = sizeof *keys;
	info->drivers = drivers;
	info->driver_size = sizeof *drivers;
}
