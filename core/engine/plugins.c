/*
 * plugins.c - GET /plugins: the loaded plugins in the shape of Docker's plugin list.
 */
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

json_t *gt_plugins_describe(struct gt_engine *engine)
{
	AUTO_JSON json_t *all = gt_drivers_describe(engine->drivers);
	json_t *rows = json_array();
	size_t i;
	json_t *plugin;
	json_array_foreach(json_object_get(all, "Plugins"), i, plugin)
		json_array_append_new(rows, plugin_row(plugin));
	return rows;
}
