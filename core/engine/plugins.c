/*
 * plugins.c - the plugins in the shape of Docker's plugin list.
 */
#include <string.h>

#include "engine/internal.h"

/* The INI values in force, as Docker shows a plugin's environment. */
static json_t *settings_of(const json_t *plugin)
{
	const json_t *values = json_object_get(plugin, "Settings");
	json_t *env = json_array(), *value;
	const char *key;
	json_object_foreach((json_t *)values, key, value)
		json_array_append_new(env, json_sprintf("%s=%s", key, json_is_string(value) ? json_string_value(value) : ""));
	return json_pack("{s:[] s:o s:[] s:[] s:O?}", "Mounts", "Env", env, "Args", "Devices", "Values", values);
}

/* What a driver is in the words of Docker's managed plugins: it has no root file system, socket or privileges of its own, so these are empty. */
static json_t *config_of(const json_t *plugin, json_t *types)
{
	return json_pack("{s:O? s:s s:{s:o s:s s:s} s:[] s:s s:{s:s} s:{s:[] s:b s:[]} s:s s:b s:b s:[] s:[] s:{s:s s:s s:[] s:[]} s:O? s:O?}",
			 "Description", json_object_get(plugin, "Description"), "Documentation", "", "Interface", "Types", types, "Socket", "",
			 "ProtocolScheme", "", "Entrypoint", "WorkDir", "", "Network", "Type", "host", "Linux", "Capabilities", "AllowAllDevices", 0, "Devices",
			 "PropagatedMount", "", "IpcHost", 1, "PidHost", 1, "Mounts", "Env", "Args", "Name", "", "Description", "", "Settable", "Value",
			 "Version", json_object_get(plugin, "Version"), "Path", json_object_get(plugin, "Path"));
}

static json_t *plugin_row(const json_t *plugin)
{
	json_t *types = json_array();
	size_t i;
	json_t *driver;
	bool open = true;
	json_array_foreach(json_object_get(plugin, "Drivers"), i, driver) {
		const char *kind = json_string_value(json_object_get(driver, "Kind"));
		const char *name = json_string_value(json_object_get(driver, "Name"));
		json_array_append_new(types, json_sprintf("gantry.%s/%s", kind ? kind : "", name ? name : ""));
		open = open && json_is_true(json_object_get(driver, "Open"));
	}
	/* Process is ours: where the drivers have one of their own. */
	return json_pack("{s:O? s:O? s:s s:b s:o s:o s:O*}", "Id", json_object_get(plugin, "Name"), "Name", json_object_get(plugin, "Name"),
			 "PluginReference", "", "Enabled", open, "Config", config_of(plugin, types), "Settings", settings_of(plugin), "Process",
			 json_object_get(plugin, "Process"));
}

/* One that is disabled, or was refused: what is known of it. */
static json_t *absent_row(const json_t *absent)
{
	AUTO_JSON json_t *plugin = json_pack("{s:O s:O s:O s:O s:{}}", "Name", json_object_get(absent, "Name"), "Description", json_object_get(absent, "Description"),
					     "Version", json_object_get(absent, "Version"), "Path", json_object_get(absent, "Path"), "Settings");
	json_t *row = plugin_row(plugin);
	json_object_set_new(row, "Enabled", json_false());
	return row;
}

static json_t *all_rows(struct gt_engine *engine)
{
	AUTO_JSON json_t *all = gt_drivers_describe(engine->drivers);
	json_t *rows = json_array(), *plugin;
	size_t i;
	json_array_foreach(json_object_get(all, "Plugins"), i, plugin)
		json_array_append_new(rows, plugin_row(plugin));
	json_array_foreach(json_object_get(all, "Absent"), i, plugin)
		json_array_append_new(rows, absent_row(plugin));
	return rows;
}

/* ---- filters ---- */

/* "network" and Docker's "networkdriver" are one. */
static const char *kind_of(const char *capability)
{
	static const char *const KINDS[][2] = { { "network", "networkdriver" }, { "volume", "volumedriver" }, { "storage", "graphdriver" } };
	for (size_t i = 0; i < GT_COUNT(KINDS); i++) {
		if (strcmp(capability, KINDS[i][0]) == 0 || strcmp(capability, KINDS[i][1]) == 0)
			return KINDS[i][0];
	}
	return capability;
}

static bool has_capability(const json_t *row, const char *capability)
{
	AUTO_FREE char *prefix = gt_xasprintf("gantry.%s/", kind_of(capability));
	size_t i;
	json_t *type;
	json_array_foreach(json_object_get(json_object_get(json_object_get(row, "Config"), "Interface"), "Types"), i, type) {
		if (strncmp(json_string_value(type), prefix, strlen(prefix)) == 0)
			return true;
	}
	return false;
}

static bool wanted(const json_t *row, const json_t *filters)
{
	const char *enabled = json_is_true(json_object_get(row, "Enabled")) ? "true" : "false";
	json_t *capability;
	size_t i;
	json_array_foreach(json_object_get(filters, "capability"), i, capability) {
		if (!has_capability(row, json_string_value(capability)))
			return false;
	}
	return gt_filter_match(filters, "enabled", enabled) && gt_filter_match(filters, "enable", enabled);
}

json_t *gt_plugins_list(struct gt_engine *engine, const json_t *filters, struct gt_error *err)
{
	static const char *const KNOWN[] = { "capability", "enabled", "enable", NULL }, *const FLAGS[] = { "true", "false", NULL };
	if (gt_filter_check(filters, KNOWN, err) < 0 || gt_filter_check_values(filters, "enabled", FLAGS, err) < 0 ||
	    gt_filter_check_values(filters, "enable", FLAGS, err) < 0)
		return NULL;
	AUTO_JSON json_t *all = all_rows(engine);
	json_t *rows = json_array(), *row;
	size_t i;
	json_array_foreach(all, i, row) {
		if (wanted(row, filters))
			json_array_append(rows, row);
	}
	return rows;
}

json_t *gt_plugins_inspect(struct gt_engine *engine, const char *name, struct gt_error *err)
{
	AUTO_JSON json_t *all = all_rows(engine);
	json_t *row;
	size_t i;
	json_array_foreach(all, i, row) {
		if (strcmp(json_string_value(json_object_get(row, "Name")), name) == 0)
			return json_incref(row);
	}
	AUTO_JSON json_t *none = gt_plugin_drivers(engine->drivers, name, err); /* says why */
	return none ? gt_fail_null(err, GT_NOT_FOUND, "plugin \"%.64s\" not found", name) : NULL;
}
