/*
 * describe.c - finding drivers by kind and name, and telling people which there are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "internal.h"
#include "remote/remote.h"

static struct gt_driver *next_driver(const struct gt_drivers *drivers, size_t *plugin, size_t *at)
{
	for (; *plugin < drivers->plugin_count; ++*plugin, *at = 0) {
		if (*at < drivers->plugins[*plugin]->driver_count)
			return &drivers->plugins[*plugin]->drivers[(*at)++];
	}
	return NULL;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of those that are open, and those of families, sorted. gt_strings_free() is the caller's. */
static struct gt_strings sorted_names(struct gt_drivers *drivers, enum gantry_kind kind)
{
	struct gt_strings names = { 0 };
	size_t plugin = 0, at = 0;
	struct gt_driver *driver;
	while ((driver = next_driver(drivers, &plugin, &at)) != NULL) {
		if (driver->kind == kind && driver->open && !is_family(driver))
			gt_strings_add(&names, driver->name);
	}
	family_names(drivers, kind, &names);
	if (names.count)
		qsort(names.items, names.count, sizeof *names.items, by_text);
	return names;
}

struct gt_driver *gt_driver_find(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, struct gt_error *err)
{
	size_t plugin = 0, at = 0;
	struct gt_error none = { 0 };
	struct gt_driver *driver;
	while ((driver = next_driver(drivers, &plugin, &at)) != NULL) {
		if (driver->kind != kind || strcmp(driver->name, name) != 0 || is_family(driver))
			continue;
		if (driver->open)
			return driver;
		return gt_fail_null(err, GT_UNAVAILABLE, "the %s driver \"%s\" could not be opened: %s", driver_kind_name((int)kind), name,
				    driver->failure);
	}
	driver = family_find(drivers, kind, name, &none);
	if (driver)
		return driver;
	if (none.kind != GT_NOT_FOUND)
		return gt_fail_null(err, GT_UNAVAILABLE, "the %s driver \"%.64s\" could not be opened: %s", driver_kind_name((int)kind), name,
				    none.message);
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_strings names = sorted_names(drivers, kind);
	for (size_t i = 0; i < names.count; i++)
		gt_buf_printf(&text, "%s%s", i ? ", " : "", names.items[i]);
	gt_fail(err, GT_NOT_FOUND, "no %s driver named \"%.64s\" is loaded (there %s%s)", driver_kind_name((int)kind), name,
		names.count ? "are: " : "is none", names.count ? text.data : drivers->refusal_count ? "; plugins were refused, see the log" : "");
	gt_strings_free(&names);
	return NULL;
}

const char *gt_driver_name(const struct gt_driver *driver)
{
	return driver->name;
}

uint64_t gt_driver_capabilities(const struct gt_driver *driver)
{
	return driver->capabilities;
}

json_t *gt_driver_names(struct gt_drivers *drivers, enum gantry_kind kind)
{
	struct gt_strings names = sorted_names(drivers, kind);
	json_t *list = names.count ? gt_strings_to_json(&names) : json_array();
	gt_strings_free(&names);
	return list;
}

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

json_t *gt_drivers_processes(const struct gt_drivers *drivers)
{
	json_t *list = json_array();
	for (size_t i = 0; i < drivers->plugin_count; i++) {
		if (drivers->plugins[i]->remote)
			json_array_append_new(list, remote_dump(drivers->plugins[i]));
	}
	return list;
}

static json_t *capability_names(const struct gt_driver *driver)
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

static json_t *describe_plugin(const struct plugin *plugin)
{
	json_t *list = json_array(), *settings = json_object();
	for (size_t i = 0; i < plugin->driver_count; i++) {
		const struct gt_driver *driver = &plugin->drivers[i];
		json_t *entry = json_pack("{s:s, s:s, s:b, s:o}", "Kind", driver_kind_name((int)driver->kind), "Name", driver->name, "Open",
					  driver->open, "Capabilities", capability_names(driver));
		if (driver->failure)
			json_object_set_new(entry, "Error", json_string(driver->failure));
		json_array_append_new(list, entry);
	}
	for (size_t i = 0; i < plugin->info.key_count; i++)
		json_object_set_new(settings, plugin->keys[i].name, plugin->values[i] ? json_string(plugin->values[i]) : json_null());
	char abi[16];
	snprintf(abi, sizeof abi, "%u.%u", plugin->info.abi_major, plugin->info.abi_minor);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o*}", "Name", plugin->info.name, "Version", plugin->info.version, "Description",
			 plugin->info.description, "Path", plugin->path, "ABI", abi, "Drivers", list, "Settings", settings, "Process",
			 plugin->remote ? remote_describe(plugin->remote->plugin) : NULL);
}

json_t *gt_drivers_describe(struct gt_drivers *drivers)
{
	json_t *plugins = json_array(), *refused = json_array(), *disabled = gt_strings_to_json(&drivers->disabled);
	for (size_t i = 0; i < drivers->plugin_count; i++)
		json_array_append_new(plugins, describe_plugin(drivers->plugins[i]));
	for (size_t i = 0; i < drivers->refusal_count; i++)
		json_array_append_new(refused,
				      json_pack("{s:s, s:s}", "Path", drivers->refusals[i].path, "Reason", drivers->refusals[i].reason));
	if (json_is_null(disabled)) {
		json_decref(disabled);
		disabled = json_array();
	}
	return json_pack("{s:o, s:o, s:o}", "Plugins", plugins, "Refused", refused, "Disabled", disabled);
}
