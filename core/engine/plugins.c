/*
 * plugins.c - GET /plugins: the loaded plugins in the shape of Docker's plugin list.
 */
#include "engine/internal.h"

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
	return json_pack("{s:O? s:O? s:s s:b s:{s:O? s:o s:O? s:O?} s:{s:O?}}", "Id", json_object_get(plugin, "Name"), "Name",
			 json_object_get(plugin, "Name"), "PluginReference", "", "Enabled", open, "Config", "Description",
			 json_object_get(plugin, "Description"), "Interface", json_pack("{s:o s:s}", "Types", types, "Socket", ""), "Version",
			 json_object_get(plugin, "Version"), "Path", json_object_get(plugin, "Path"), "Settings", "Values",
			 json_object_get(plugin, "Settings"));
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
