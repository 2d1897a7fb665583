/*
 * describe.c - telling people which plugins and drivers there are, and what they are doing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "internal.h"
#include "remote/remote.h"

json_t *gt_drivers_calls(struct gt_drivers *drivers)
{
	int64_t now = gt_monotonic();
	json_t *list = json_array();
	LOCKED(&drivers->noting);
	for (const struct call_note *note = drivers->under_way; note; note = note->next)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:f}", "Kind", driver_kind_name((int)note->driver->kind), "Driver",
						      note->driver->name, "Op", note->op, "Thread", note->thread, "Seconds",
						      (double)(now - note->began) / (double)GT_SECOND));
	return list;
}

json_t *gt_drivers_processes(struct gt_drivers *drivers)
{
	json_t *list = json_array();
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count; i++) {
		struct plugin *plugin = drivers->slots[i]->plugin;
		if (plugin && plugin->remote)
			json_array_append_new(list, remote_dump(plugin));
	}
	pthread_rwlock_unlock(&drivers->table);
	return list;
}

static json_t *capability_names(const struct driver *driver)
{
	static const char *const NAMES[][6] = {
		[GANTRY_NETWORK] = { "publish", "global", "own-ipam", "host-ns", "none", "internal" },
		[GANTRY_VOLUME] = { "global", "usage", "family" },
		[GANTRY_STORAGE] = { "quota", "parallel", "idmap" },
	};
	json_t *list = json_array();
	for (size_t bit = 0; bit < 6; bit++) {
		if (NAMES[driver->kind][bit] && (driver->capabilities >> bit & 1))
			json_array_append_new(list, json_string(NAMES[driver->kind][bit]));
	}
	return list;
}

static json_t *describe_driver(const struct slot *slot, const struct driver *driver)
{
	struct gt_driver *held = slot_driver(slot, (int)driver->kind, driver->name);
	AUTO_FREE char *why = gate_why(held);
	json_t *entry = json_pack("{s:s, s:s, s:b, s:o}", "Kind", driver_kind_name((int)driver->kind), "Name", driver->name, "Open", gate_is_open(held),
				  "Capabilities", capability_names(driver));
	if (why)
		json_object_set_new(entry, "Error", json_string(why));
	return entry;
}

static json_t *describe_plugin(const struct slot *slot)
{
	struct plugin *plugin = slot->plugin;
	json_t *list = json_array(), *settings = json_object();
	for (size_t i = 0; i < plugin->driver_count; i++)
		json_array_append_new(list, describe_driver(slot, &plugin->drivers[i]));
	for (size_t i = 0; i < plugin->info.key_count; i++)
		json_object_set_new(settings, plugin->keys[i].name, plugin->values[i] ? json_string(plugin->values[i]) : json_null());
	char abi[16];
	snprintf(abi, sizeof abi, "%u.%u", plugin->info.abi_major, plugin->info.abi_minor);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o*}", "Name", plugin->info.name, "Version", plugin->info.version, "Description",
			 plugin->info.description, "Path", plugin->path, "ABI", abi, "Drivers", list, "Settings", settings, "Process",
			 plugin->remote ? remote_describe(plugin) : NULL);
}

/* One that is not loaded: as far as it is known. */
static json_t *describe_absent(const struct slot *slot)
{
	return json_pack("{s:s, s:b, s:s, s:s, s:s}", "Name", slot->name, "Off", slot->off, "Version", slot->version ? slot->version : "", "Description",
			 slot->description ? slot->description : "", "Path", slot->path ? slot->path : "");
}

json_t *gt_drivers_describe(struct gt_drivers *drivers)
{
	json_t *plugins = json_array(), *refused = json_array(), *absent = json_array();
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count; i++)
		json_array_append_new(drivers->slots[i]->plugin ? plugins : absent,
				      drivers->slots[i]->plugin ? describe_plugin(drivers->slots[i]) : describe_absent(drivers->slots[i]));
	for (size_t i = 0; i < drivers->refusal_count; i++)
		json_array_append_new(refused,
				      json_pack("{s:s, s:s}", "Path", drivers->refusals[i].path, "Reason", drivers->refusals[i].reason));
	pthread_rwlock_unlock(&drivers->table);
	return json_pack("{s:o, s:o, s:o}", "Plugins", plugins, "Refused", refused, "Absent", absent);
}
