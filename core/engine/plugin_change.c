/*
 * plugin_change.c - plugins that are enabled, disabled and reloaded by users.
 *
 * That one is disabled is a document (plugins/<name>.json), read before drivers are loaded at start-up. It is written before the plugin is closed and goes after
 * the plugin is open: a daemon that dies in between starts with the one or the other, and nothing uses the plugin meanwhile.
 */
#include <string.h>

#include "engine/network.h"
#include "engine/volume.h"

#define PATIENCE (10 * GT_SECOND)       /* for calls that are under way */
#define MAX_TIMEOUT 600
#define MAX_TOLD 8

/* ---- what is kept ---- */

static int note_one(void *arg, const char *id, json_t *document)
{
	bool enabled = true;
	const char *name = NULL;
	if (gt_json_string(document, "Name", &name, NULL) < 0 || !name || strcmp(name, id) || gt_json_bool(document, "Enabled", &enabled, NULL) < 0 || enabled)
		gt_warn("a document that would disable a plugin is none and is passed over", "document", id);
	else
		gt_strings_add(arg, id);
	return 0;
}

int gt_plugins_open(struct gt_engine *engine, struct gt_strings *off, struct gt_error *err)
{
	engine->disabled = gt_store_collection(engine->store, "plugins", err);
	return engine->disabled ? gt_store_each(engine->disabled, note_one, off, err) : -1;
}

/* ---- what uses it ---- */

struct uses {
	struct gt_buf text;
	size_t count;
};

static void add_use(struct uses *uses, const char *what, const char *name, const struct gt_map *containers, const char *remark)
{
	struct gt_map_slot *slot;
	if (uses->count++ >= MAX_TOLD)
		return;
	gt_buf_printf(&uses->text, "%s%s %s%s", uses->text.len ? ", " : "", what, name, remark);
	for (size_t i = 0, n = 0; containers && n < 4 && (slot = gt_map_next(containers, &i)) != NULL; n++)
		gt_buf_printf(&uses->text, "%s%.12s", n ? ", " : " (containers ", slot->key);
	if (containers && containers->count)
		gt_buf_printf(&uses->text, "%s)", containers->count > 4 ? ", ..." : "");
}

/* With the locks of networks and volumes. */
static void count_uses(struct gt_engine *engine, const char *kind, const char *name, struct uses *uses)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; strcmp(kind, "network") == 0 && (slot = gt_map_next(&engine->networks->by_id, &i)) != NULL;) {
		const struct network *network = slot->value;
		if (!network->config_only && strcmp(network->driver_name, name) == 0)
			add_use(uses, "network", network->name, &network->users, network->builtin ? ", which is always there" : "");
	}
	for (size_t i = 0; strcmp(kind, "volume") == 0 && (slot = gt_map_next(&engine->volumes->map, &i)) != NULL;) {
		const struct volume *volume = slot->value;
		if (strcmp(volume->driver, name) == 0)
			add_use(uses, "volume", volume->name, &volume->users, "");
	}
	if (strcmp(kind, "storage") == 0 && strcmp(gt_driver_name(gt_images_storage(engine->images)), name) == 0)
		add_use(uses, "storage driver", name, NULL, " of all images and containers");
}

/* From then on nothing comes that would use it: a network is made with the first lock held, and a volume is in the table before its driver is looked for. */
static int mark_unused(struct gt_engine *engine, const char *name, bool force, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	struct uses uses = { 0 };
	size_t i;
	json_t *driver;
	LOCKED(&engine->networks->changing);
	LOCKED(&engine->networks->lock);
	LOCKED(&engine->volumes->lock);
	AUTO_JSON json_t *drivers = gt_plugin_drivers(engine->drivers, name, err);
	if (!drivers)
		return -1;
	json_array_foreach(drivers, i, driver)
		count_uses(engine, json_string_value(json_object_get(driver, "Kind")), json_string_value(json_object_get(driver, "Name")), &uses);
	text = uses.text;
	if (!uses.count)
		return gt_plugin_mark(engine->drivers, name, true, err);
	if (uses.count > MAX_TOLD)
		gt_buf_printf(&text, " and %zu more", uses.count - MAX_TOLD);
	return gt_fail(err, GT_CONFLICT, "plugin %s is in use: %s%s", name, text.data,
		       force ? "; force does not disable what is in use: remove these first" : "");
}

/* ---- disable, enable ---- */

static void tell(struct gt_engine *engine, const char *name, const char *action)
{
	gt_info("a plugin was changed", "plugin", name, "action", action);
	gt_event(engine, "plugin", action, name, json_pack("{s:s}", "name", name));
}

/* Drivers that hear of other hosts are watched anew, or no more. */
static void watch_again(struct gt_engine *engine, const char *name)
{
	AUTO_JSON json_t *drivers = gt_plugin_drivers(engine->drivers, name, NULL);
	size_t i;
	json_t *driver;
	json_array_foreach(drivers, i, driver) {
		if (strcmp(json_string_value(json_object_get(driver, "Kind")), "network") == 0)
			gt_globals_renew(engine, json_string_value(json_object_get(driver, "Name")));
	}
}

int gt_plugins_disable(struct gt_engine *engine, const char *name, bool force, struct gt_error *err)
{
	AUTO_JSON json_t *document = json_pack("{s:i s:s s:b}", "Version", 1, "Name", name, "Enabled", 0);
	if (mark_unused(engine, name, force, err) < 0)
		return -1;
	if (gt_store_put(engine->disabled, name, document, true, err) < 0 || gt_plugin_disable(engine->drivers, name, PATIENCE, err) < 0) {
		gt_store_remove(engine->disabled, name, NULL);
		gt_plugin_mark(engine->drivers, name, false, NULL);
		return -1;
	}
	watch_again(engine, name);
	tell(engine, name, "disable");
	return 0;
}

/* The configuration as the files have it now. */
static struct gt_config *read_config(struct gt_engine *engine, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	struct gt_config *fresh = NULL;
	return gt_config_load(config->file, config->file_given, &fresh, err) < 0 ? NULL : fresh;
}

/* Networks, and volumes in use, that were there before their driver. */
static void take_up(struct gt_engine *engine, const char *name)
{
	AUTO_JSON json_t *drivers = gt_plugin_drivers(engine->drivers, name, NULL);
	size_t i;
	json_t *driver;
	json_array_foreach(drivers, i, driver) {
		const char *kind = json_string_value(json_object_get(driver, "Kind")), *driver_name = json_string_value(json_object_get(driver, "Name"));
		if (strcmp(kind, "network") == 0)
			gt_networks_take_up(engine, driver_name);
		else if (strcmp(kind, "volume") == 0)
			gt_volumes_tell(engine, driver_name);
	}
}

int gt_plugins_enable(struct gt_engine *engine, const char *name, struct gt_error *err)
{
	struct gt_config *fresh = read_config(engine, err);
	int rc = fresh ? gt_plugin_enable(engine->drivers, fresh, name, err) : -1;
	gt_config_free(fresh);
	if (rc < 0)
		return -1;
	if (gt_store_remove(engine->disabled, name, err) < 0)
		return gt_context(err, "plugin %s is enabled, but will not be after a restart", name);
	take_up(engine, name);
	watch_again(engine, name);
	tell(engine, name, "enable");
	return 0;
}

/* ---- reload ---- */

struct telling {
	struct gt_engine *engine;
	char *name;
};

static void tell_uses(void *arg)
{
	struct telling *telling = arg;
	gt_plugin_tell_uses(telling->engine->drivers, telling->name);
	free(telling->name);
	free(telling);
}

int gt_plugins_reload(struct gt_engine *engine, const char *name, int64_t timeout, struct gt_error *err)
{
	AUTO_JSON json_t *drivers = gt_plugin_drivers(engine->drivers, name, err);
	bool disturbed = false;
	if (!drivers)
		return -1;
	if (timeout < 0 || timeout > MAX_TIMEOUT)
		return gt_fail(err, GT_INVALID, "timeout must be from 0 to %d seconds", MAX_TIMEOUT);
	struct gt_config *fresh = read_config(engine, err);
	if (!fresh)
		return gt_context(err, "plugin %s goes on as it was", name);
	int rc = gt_plugin_reload(engine->drivers, fresh, name, timeout * GT_SECOND, &disturbed, err);
	gt_config_free(fresh);
	if (disturbed) {
		struct telling *telling = gt_xmalloc(sizeof *telling);
		*telling = (struct telling){ engine, gt_xstrdup(name) };
		watch_again(engine, name);
		gt_work(engine, tell_uses, telling);
	}
	if (rc == 0)
		tell(engine, name, "reload");
	return rc;
}
