/*
 * descriptor.c - reads what a plugin exports, never past the sizes it states, and refuses what is not as <gantry/plugin.h> says.
 *
 * Everything is copied into structs of ours, zeroed before, so that members a smaller struct lacks read as 0 or NULL, and what a larger one of a newer minor
 * version has besides is left alone.
 */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "internal.h"

#define MAX_KEYS 256
#define MAX_DRIVERS 32
#define MAX_STRUCT 65536        /* no struct will ever be larger: a size beyond it is garbage */

int refuse(const struct plugin *plugin, struct gt_error *err, const char *what, const char *found, const char *wanted)
{
	return gt_fail(err, GT_INVALID, "plugin %s: %s: found %s, wanted %s", plugin->path, what, found, wanted);
}

static int refuse_number(const struct plugin *plugin, struct gt_error *err, const char *what, uint64_t found, const char *relation, uint64_t wanted)
{
	char text[32], limit[64];
	snprintf(text, sizeof text, "%llu", (unsigned long long)found);
	snprintf(limit, sizeof limit, "%s%llu", relation, (unsigned long long)wanted);
	return refuse(plugin, err, what, text, limit);
}

/* A word of the plugin's in quotes, or NULL by name. */
static int refuse_word(const struct plugin *plugin, struct gt_error *err, const char *what, const char *found, const char *wanted)
{
	char text[80] = "NULL";
	if (found)
		snprintf(text, sizeof text, "\"%.64s\"", found);
	return refuse(plugin, err, what, text, wanted);
}

const char *driver_kind_name(int kind)
{
	static const char *const NAMES[] = { [GANTRY_NETWORK] = "network", [GANTRY_VOLUME] = "volume", [GANTRY_STORAGE] = "storage" };
	return kind >= GANTRY_NETWORK && kind <= GANTRY_STORAGE ? NAMES[kind] : NULL;
}

static bool name_ok(const char *name)
{
	if (!name || !*name || *name == '-')
		return false;
	size_t len = strnlen(name, 33);
	return len <= 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool key_name_ok(const char *name)
{
	if (!name || *name < 'a' || *name > 'z')
		return false;
	size_t len = strnlen(name, 65);
	return len <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

/* Copies a struct that begins with its size. */
static void copy_sized(void *to, size_t room, const void *from, size_t size)
{
	memset(to, 0, room);
	memcpy(to, from, size < room ? size : room);
}

/* ---- the symbol ---- */

static int no_symbol(const struct plugin *plugin, struct gt_error *err)
{
	for (unsigned major = 2; major < 32; major++) {
		char symbol[32];
		snprintf(symbol, sizeof symbol, "gantry_plugin_v%u", major);
		if (dlsym(plugin->handle, symbol))
			return refuse_number(plugin, err, "ABI major", major, "", GANTRY_ABI_MAJOR);
	}
	return refuse(plugin, err, "symbol " GANTRY_PLUGIN_SYMBOL, "none", "one (GANTRY_PLUGIN_EXPORT of <gantry/plugin.h> defines it)");
}

/* How many bytes the symbol has, by the file's symbol table. */
static size_t symbol_size(const void *address)
{
	Dl_info info;
	ElfW(Sym) *entry = NULL;
	if (!dladdr1(address, &info, (void **)&entry, RTLD_DL_SYMENT) || !entry || info.dli_saddr != address)
		return 0;
	return entry->st_size;
}

/* For people, and for JSON. */
static int check_text(const struct plugin *plugin, const char *what, const char *text, struct gt_error *err)
{
	if (!text)
		return refuse(plugin, err, what, "NULL", "a text");
	AUTO_JSON json_t *json = json_string(text);
	return json ? 0 : refuse(plugin, err, what, "bytes that are not UTF-8", "a text");
}

/* The file's symbol, as large as it says. */
static const struct gantry_plugin *find_symbol(const struct plugin *plugin, struct gt_error *err)
{
	const struct gantry_plugin *info = dlsym(plugin->handle, GANTRY_PLUGIN_SYMBOL);
	if (!info) {
		no_symbol(plugin, err);
		return NULL;
	}
	size_t bytes = symbol_size(info);
	if (bytes < GANTRY_ABI_1_0_SIZE_PLUGIN)
		refuse_number(plugin, err, "bytes of symbol " GANTRY_PLUGIN_SYMBOL, bytes, "at least ", GANTRY_ABI_1_0_SIZE_PLUGIN);
	else if (info->size < GANTRY_ABI_1_0_SIZE_PLUGIN)
		refuse_number(plugin, err, "size of struct gantry_plugin", info->size, "at least ", GANTRY_ABI_1_0_SIZE_PLUGIN);
	else if (info->size > bytes)
		refuse_number(plugin, err, "size of struct gantry_plugin", info->size, "at most the symbol's ", bytes);
	else
		return info;
	return NULL;
}

static int read_info(struct plugin *plugin, const struct gantry_plugin *info, struct gt_error *err)
{
	copy_sized(&plugin->info, sizeof plugin->info, info, info->size);
	if (info->abi_major != GANTRY_ABI_MAJOR)
		return refuse_number(plugin, err, "ABI major", info->abi_major, "", GANTRY_ABI_MAJOR);
	if (!name_ok(info->name))
		return refuse_word(plugin, err, "name", info->name, DRIVER_NAME_RULE);
	if (strcmp(info->name, plugin->name) != 0) {
		char wanted[80];
		snprintf(wanted, sizeof wanted, "\"%.32s\" as the file or its section is called", plugin->name);
		return refuse_word(plugin, err, "name", info->name, wanted);
	}
	if (check_text(plugin, "version", info->version, err) < 0)
		return -1;
	return check_text(plugin, "description", info->description, err);
}

/* ---- keys ---- */

static int check_key(const struct plugin *plugin, const struct gantry_key *key, struct gt_error *err)
{
	char what[128];
	if (!key_name_ok(key->name))
		return refuse_word(plugin, err, "name of a key", key->name, KEY_NAME_RULE);
	if (setting_is_loaders(key->name))
		return refuse_word(plugin, err, "name of a key", key->name, "another one, as this is the engine's own");
	for (const struct gantry_key *other = plugin->keys; other < key; other++) {
		if (strcmp(other->name, key->name) == 0)
			return refuse_word(plugin, err, "name of a key", key->name, "each name once");
	}
	snprintf(what, sizeof what, "type of key %s", key->name);
	if (key->type < GANTRY_KEY_STRING || key->type > GANTRY_KEY_PATH)
		return refuse_number(plugin, err, what, (uint64_t)(int64_t)key->type, "one of 1 to ", GANTRY_KEY_PATH);
	snprintf(what, sizeof what, "doc of key %s", key->name);
	if (!key->doc)
		return refuse(plugin, err, what, "NULL", "a line of text");
	snprintf(what, sizeof what, "choices of key %s", key->name);
	if (key->type == GANTRY_KEY_CHOICE && (!key->choices || !key->choices[0]))
		return refuse(plugin, err, what, "none", "a list that ends with NULL");
	snprintf(what, sizeof what, "range of key %s", key->name);
	if (key->min > key->max)
		return refuse(plugin, err, what, "a minimum above the maximum", "min <= max");
	AUTO_FREE char *normal = NULL;
	AUTO_FREE char *reason = key->default_value ? setting_check(key, key->default_value, &normal) : NULL;
	snprintf(what, sizeof what, "default of key %s", key->name);
	if (reason)
		return refuse_word(plugin, err, what, key->default_value, "a value that the key itself allows");
	return 0;
}

static int read_keys(struct plugin *plugin, struct gt_error *err)
{
	const struct gantry_plugin *info = &plugin->info;
	if (info->key_count > MAX_KEYS)
		return refuse_number(plugin, err, "number of keys", info->key_count, "at most ", MAX_KEYS);
	if (info->key_count == 0)
		return 0;
	if (!info->keys)
		return refuse(plugin, err, "keys", "NULL", "an array, as key_count is not 0");
	if (info->key_size < GANTRY_ABI_1_0_SIZE_KEY || info->key_size > MAX_STRUCT)
		return refuse_number(plugin, err, "key_size", info->key_size, "at least ", GANTRY_ABI_1_0_SIZE_KEY);
	plugin->keys = gt_xcalloc(info->key_count, sizeof *plugin->keys);
	plugin->values = gt_xcalloc(info->key_count, sizeof *plugin->values);
	for (size_t i = 0; i < info->key_count; i++) {
		const struct gantry_key *key = (const void *)((const char *)info->keys + i * info->key_size);
		if (key->size < GANTRY_ABI_1_0_SIZE_KEY || key->size > info->key_size)
			return refuse_number(plugin, err, "size of struct gantry_key", key->size, "key_size, which is ", info->key_size);
		copy_sized(&plugin->keys[i], sizeof *plugin->keys, key, key->size);
		if (check_key(plugin, &plugin->keys[i], err) < 0)
			return -1;
	}
	return 0;
}

/* ---- drivers ---- */

struct needed {
	const char *name;
	size_t offset;
	uint64_t unless;        /* not needed with one of these capabilities */
	uint64_t only;          /* 0, or needed with one of these alone */
};

#define NET(op, unless, only) { #op, offsetof(struct gantry_network_ops, op), unless, only }
#define VOL(op, only) { #op, offsetof(struct gantry_volume_ops, op), 0, only }
#define STORE(op) { #op, offsetof(struct gantry_storage_ops, op), 0, 0 }

static const struct needed NETWORK_OPS[] = {
	NET(open, 0, 0), NET(close, 0, 0), NET(network_create, 0, 0), NET(network_remove, 0, 0),
	NET(endpoint_join, GANTRY_NET_HOST_NS, 0), NET(endpoint_leave, GANTRY_NET_HOST_NS, 0),
	NET(publish, 0, GANTRY_NET_PUBLISH), NET(unpublish, 0, GANTRY_NET_PUBLISH), { 0 },
};
static const struct needed VOLUME_OPS[] = {
	VOL(open, 0), VOL(close, 0), VOL(create, 0), VOL(remove, 0), VOL(mount, 0), VOL(release, 0), VOL(list, 0), VOL(inspect, 0),
	VOL(usage, GANTRY_VOL_USAGE), VOL(family, GANTRY_VOL_FAMILY), { 0 },
};
static const struct needed STORAGE_OPS[] = {
	STORE(open), STORE(close), STORE(prepare), STORE(layer_dir), STORE(commit), STORE(lookup), STORE(mount), STORE(diff), STORE(remove),
	STORE(usage), STORE(list), { 0 },
};

static const struct {
	const struct needed *needed;
	size_t least;
	size_t room;
} TABLES[] = {
	[GANTRY_NETWORK] = { NETWORK_OPS, GANTRY_ABI_1_0_SIZE_NETWORK_OPS, sizeof(struct gantry_network_ops) },
	[GANTRY_VOLUME] = { VOLUME_OPS, GANTRY_ABI_1_0_SIZE_VOLUME_OPS, sizeof(struct gantry_volume_ops) },
	[GANTRY_STORAGE] = { STORAGE_OPS, GANTRY_ABI_1_0_SIZE_STORAGE_OPS, sizeof(struct gantry_storage_ops) },
};

static int read_ops(const struct plugin *plugin, struct driver *driver, const void *ops, struct gt_error *err)
{
	char what[96];
	uint32_t size = *(const uint32_t *)ops;
	snprintf(what, sizeof what, "driver %s: size of struct gantry_%s_ops", driver->name, driver_kind_name((int)driver->kind));
	if (size < TABLES[driver->kind].least || size > MAX_STRUCT)
		return refuse_number(plugin, err, what, size, "at least ", TABLES[driver->kind].least);
	copy_sized(&driver->ops, TABLES[driver->kind].room, ops, size);
	for (const struct needed *op = TABLES[driver->kind].needed; op->name; op++) {
		void *function;
		memcpy(&function, (const char *)&driver->ops + op->offset, sizeof function);
		if (function || (driver->capabilities & op->unless) || (op->only && !(driver->capabilities & op->only)))
			continue;
		snprintf(what, sizeof what, "driver %s: op %s", driver->name, op->name);
		return refuse(plugin, err, what, "NULL", op->only ? "a function, as its capability is declared" : "a function");
	}
	return 0;
}

static int read_driver(struct plugin *plugin, const struct gantry_driver *from, struct gt_error *err)
{
	struct gantry_driver entry;
	struct driver *driver = &plugin->drivers[plugin->driver_count];
	char what[96];
	copy_sized(&entry, sizeof entry, from, from->size);
	if (!name_ok(entry.name))
		return refuse_word(plugin, err, "name of a driver", entry.name, DRIVER_NAME_RULE);
	snprintf(what, sizeof what, "driver %s: kind", entry.name);
	if (!driver_kind_name(entry.kind))
		return refuse_number(plugin, err, what, (uint64_t)(int64_t)entry.kind, "network 1, volume 2 or storage ", GANTRY_STORAGE);
	snprintf(what, sizeof what, "driver %s: ops", entry.name);
	if (!entry.ops)
		return refuse(plugin, err, what, "NULL", "a table of operations");
	for (const struct driver *other = plugin->drivers; other < driver; other++) {
		if ((int)other->kind == entry.kind && strcmp(other->name, entry.name) == 0)
			return refuse_word(plugin, err, "name of a driver", entry.name, "each name once for a kind");
	}
	driver->plugin = plugin;
	driver->index = (uint32_t)plugin->driver_count;
	driver->kind = (enum gantry_kind)entry.kind;
	driver->name = entry.name;
	driver->capabilities = entry.capabilities;
	if (read_ops(plugin, driver, entry.ops, err) < 0)
		return -1;
	plugin->driver_count++;
	return 0;
}

static int read_drivers(struct plugin *plugin, struct gt_error *err)
{
	const struct gantry_plugin *info = &plugin->info;
	if (info->driver_count == 0 || info->driver_count > MAX_DRIVERS || !info->drivers)
		return refuse_number(plugin, err, "number of drivers", info->drivers ? info->driver_count : 0, "1 to ", MAX_DRIVERS);
	if (info->driver_size < GANTRY_ABI_1_0_SIZE_DRIVER || info->driver_size > MAX_STRUCT)
		return refuse_number(plugin, err, "driver_size", info->driver_size, "at least ", GANTRY_ABI_1_0_SIZE_DRIVER);
	plugin->drivers = gt_xcalloc(info->driver_count, sizeof *plugin->drivers);
	for (size_t i = 0; i < info->driver_count; i++) {
		const struct gantry_driver *driver = (const void *)((const char *)info->drivers + i * info->driver_size);
		if (driver->size < GANTRY_ABI_1_0_SIZE_DRIVER || driver->size > info->driver_size)
			return refuse_number(plugin, err, "size of struct gantry_driver", driver->size, "driver_size, which is ",
					     info->driver_size);
		if (read_driver(plugin, driver, err) < 0)
			return -1;
	}
	return 0;
}

int descriptor_take(struct plugin *plugin, const struct gantry_plugin *info, struct gt_error *err)
{
	if (read_info(plugin, info, err) < 0 || read_keys(plugin, err) < 0)
		return -1;
	return read_drivers(plugin, err);
}

int descriptor_read(struct plugin *plugin, struct gt_error *err)
{
	const struct gantry_plugin *info = find_symbol(plugin, err);
	return info ? descriptor_take(plugin, info, err) : -1;
}
