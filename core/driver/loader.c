/*
 * loader.c - which shared objects become plugins.
 *
 * A plugin is NAME.so in plugin_dir, or the file that [plugin.NAME] path names. With isolate = process its own process loads it.
 *
 * What is refused is remembered for `describe` and logged as a warning; the others go on. A wrong setting of a plugin that is there is an error,
 * as in every other section of the configuration.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"
#include "internal.h"
#include "remote/remote.h"

/* ---- one file ---- */

static int check_free_names(const struct gt_drivers *drivers, const struct plugin *plugin, struct gt_error *err)
{
	for (size_t i = 0; i < drivers->plugin_count; i++) {
		const struct plugin *other = drivers->plugins[i];
		for (size_t a = 0; a < other->driver_count; a++) {
			for (size_t b = 0; b < plugin->driver_count; b++) {
				const struct gt_driver *theirs = &other->drivers[a], *ours = &plugin->drivers[b];
				if (theirs->kind != ours->kind || strcmp(theirs->name, ours->name) != 0)
					continue;
				AUTO_FREE char *what = gt_xasprintf("%s driver %s", driver_kind_name((int)ours->kind), ours->name);
				AUTO_FREE char *found = gt_xasprintf("a second one (the first is in %s)", other->path);
				return refuse(plugin, err, what, found, "one");
			}
		}
	}
	return 0;
}

static void remember_refusal(struct gt_drivers *drivers, const char *path, const char *reason)
{
	drivers->refusals = gt_xrealloc(drivers->refusals, (drivers->refusal_count + 1) * sizeof *drivers->refusals);
	drivers->refusals[drivers->refusal_count++] = (struct refusal){ gt_xstrdup(path), gt_xstrdup(reason) };
}

/* From the file itself, or from the process that loads it. */
static int read_file(struct plugin *plugin, const struct gt_config *config, bool isolated, struct gt_error *err)
{
	if (object_open(plugin, err) < 0)
		return -1;
	if (isolated)
		return remote_open(plugin, config, err);
	return object_map(plugin, err) < 0 ? -1 : descriptor_read(plugin, err);
}

static void load_file(struct gt_drivers *drivers, const struct gt_config *config, const char *name, const char *path, bool isolated)
{
	struct gt_error err = { 0 };
	struct plugin *plugin = gt_xcalloc(1, sizeof *plugin);
	plugin->fd = -1;
	plugin->path = gt_xstrdup(path);
	plugin->name = gt_xstrdup(name);
	if (read_file(plugin, config, isolated, &err) < 0 || check_free_names(drivers, plugin, &err) < 0) {
		remember_refusal(drivers, path, err.message);
		plugin_free(plugin);
		return;
	}
	drivers->plugins = gt_xrealloc(drivers->plugins, (drivers->plugin_count + 1) * sizeof(struct plugin *));
	drivers->plugins[drivers->plugin_count++] = plugin;
}

/* ---- all of them ---- */

/* The loader's own key of a section; the last line counts. */
static const struct gt_plugin_setting *own_setting(const struct gt_config *config, const char *plugin, const char *key)
{
	for (size_t i = config->plugin_setting_count; i-- > 0;) {
		const struct gt_plugin_setting *setting = &config->plugin_settings[i];
		if (strcmp(setting->plugin, plugin) == 0 && strcmp(setting->key, key) == 0)
			return setting;
	}
	return NULL;
}

static bool listed(const struct gt_strings *list, const char *text)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], text) == 0)
			return true;
	}
	return false;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of plugin_dir's *.so files. */
static int read_plugin_dir(const char *path, struct gt_strings *names, struct gt_error *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "plugin directory %s", path);
	DIR *dir = fstat(fd, &st) == 0 && check_owner("plugin directory", path, &st, err) == 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		close(fd);
		return -1;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		size_t len = strlen(entry->d_name);
		if (len > 3 && entry->d_name[0] != '.' && strcmp(entry->d_name + len - 3, ".so") == 0) {
			entry->d_name[len - 3] = '\0';
			gt_strings_add(names, entry->d_name);
		}
	}
	closedir(dir);
	return 0;
}

/* Files of plugin_dir and sections with a path, sorted, each name once. */
static void find_names(struct gt_drivers *drivers, const struct gt_config *config, struct gt_strings *names)
{
	struct gt_error err = { 0 };
	if (read_plugin_dir(config->plugin_dir, names, &err) < 0)
		remember_refusal(drivers, config->plugin_dir, err.message);
	for (size_t i = 0; i < config->plugin_setting_count; i++) {
		const struct gt_plugin_setting *setting = &config->plugin_settings[i];
		if (strcmp(setting->key, "path") == 0 && *setting->value && !listed(names, setting->plugin))
			gt_strings_add(names, setting->plugin);
	}
	if (names->count)
		qsort(names->items, names->count, sizeof *names->items, by_name);
}

static void load_name(struct gt_drivers *drivers, const struct gt_config *config, const char *name, struct gt_buf *complaints)
{
	const struct gt_plugin_setting *enabled = own_setting(config, name, "enabled"), *path = own_setting(config, name, "path"),
				       *isolate = own_setting(config, name, "isolate");
	bool flag = true, isolated = isolate && strcmp(isolate->value, "process") == 0;
	if (isolate && !isolated && strcmp(isolate->value, "none") != 0)
		complain(complaints, isolate, "%s is neither none nor process", isolate->value);
	if (enabled && !setting_flag(enabled->value, &flag))
		complain(complaints, enabled, "%s is neither yes nor no", enabled->value);
	if (!flag) {
		gt_strings_add(&drivers->disabled, name);
		return;
	}
	if (path && *path->value && *path->value != '/') {
		complain(complaints, path, "%s is not an absolute path", path->value);
		return;
	}
	AUTO_FREE char *file = path && *path->value ? gt_xstrdup(path->value) : gt_xasprintf("%s/%s.so", config->plugin_dir, name);
	size_t before = drivers->plugin_count;
	load_file(drivers, config, name, file, isolated);
	if (drivers->plugin_count > before)
		settings_apply(drivers->plugins[before], config, complaints);
}

static struct gt_drivers *load_all(const struct gt_config *config, struct gt_strings *names, struct gt_buf *complaints)
{
	struct gt_drivers *drivers = gt_xcalloc(1, sizeof *drivers);
	pthread_mutex_init(&drivers->noting, NULL);
	pthread_mutex_init(&drivers->members_lock, NULL);
	find_names(drivers, config, names);
	for (size_t i = 0; i < names->count; i++)
		load_name(drivers, config, names->items[i], complaints);
	return drivers;
}

/* Sections whose plugin was not loaded: no file, or a refused one. Calls fn for the first line of each. */
static void each_idle_section(const struct gt_drivers *drivers, const struct gt_config *config, const struct gt_strings *names,
			      void (*fn)(void *arg, const struct gt_plugin_setting *setting, const char *why), void *arg)
{
	struct gt_strings seen = { 0 };
	for (size_t i = 0; i < config->plugin_setting_count; i++) {
		const struct gt_plugin_setting *setting = &config->plugin_settings[i];
		bool loaded = listed(&seen, setting->plugin) || listed(&drivers->disabled, setting->plugin);
		for (size_t p = 0; !loaded && p < drivers->plugin_count; p++)
			loaded = strcmp(drivers->plugins[p]->name, setting->plugin) == 0;
		if (loaded)
			continue;
		gt_strings_add(&seen, setting->plugin);
		fn(arg, setting, listed(names, setting->plugin) ? "its plugin was refused, so its keys cannot be checked" :
								  "there is no such plugin in plugin_dir, and the section has no path");
	}
	gt_strings_free(&seen);
}

static void warn_idle(void *arg, const struct gt_plugin_setting *setting, const char *why)
{
	(void)arg;
	char line[32];
	snprintf(line, sizeof line, "%d", setting->line);
	gt_warn("a plugin's section is not used", "file", setting->file, "line", line, "plugin", setting->plugin, "reason", why);
}

static void complain_idle(void *arg, const struct gt_plugin_setting *setting, const char *why)
{
	complain(arg, setting, "%s", why);
}

/* ---- opening ---- */

static int call_open(struct gt_driver *driver, struct gantry_error *why)
{
	switch (driver->kind) {
	case GANTRY_NETWORK:
		return driver->ops.network.open(&driver->host, driver->name, &driver->context, why);
	case GANTRY_VOLUME:
		return driver->ops.volume.open(&driver->host, driver->name, &driver->context, why);
	default:
		return driver->ops.storage.open(&driver->host, driver->name, &driver->context, why);
	}
}

void driver_close(struct gt_driver *driver)
{
	if (!driver->open)
		return;
	driver->open = false;
	if (driver->kind == GANTRY_NETWORK)
		driver->ops.network.close(driver->context);
	else if (driver->kind == GANTRY_VOLUME)
		driver->ops.volume.close(driver->context);
	else
		driver->ops.storage.close(driver->context);
}

int driver_open(struct gt_driver *driver, const struct gt_config *config, struct gt_error *err)
{
	struct gantry_error why = { .size = sizeof why };
	if (host_prepare(driver, config, err) < 0)
		return -1;
	if (call_open(driver, &why) < 0) {
		driver_error(driver, "open", &why, err);
		return -1;
	}
	driver->open = true;
	return 0;
}

static void open_driver(struct gt_driver *driver, const struct gt_config *config)
{
	struct gt_error err = { 0 };
	if (driver_open(driver, config, &err) == 0)
		return;
	driver->failure = gt_xstrdup(err.message);
	/* A storage driver that is not the one in use wants another file system, as a rule: nobody misses it. */
	bool idle = driver->kind == GANTRY_STORAGE && strcmp(driver->name, config->storage_driver) != 0;
	gt_log_kv(idle ? GT_DEBUG : GT_WARN, "a driver could not be opened", "kind", driver_kind_name((int)driver->kind), "driver", driver->name, "plugin",
		  driver->plugin->path, "error", err.message, NULL);
}

int gt_drivers_load(const struct gt_config *config, gt_driver_event event, void *event_arg, struct gt_drivers **out, struct gt_error *err)
{
	AUTO_BUF struct gt_buf complaints = { 0 };
	struct gt_strings names = { 0 };
	struct gt_drivers *drivers = load_all(config, &names, &complaints);
	drivers->event = event;
	drivers->event_arg = event_arg;
	drivers->root = gt_xstrdup(config->root);
	drivers->run = gt_xstrdup(config->run);
	drivers->fsync = config->fsync;
	for (size_t i = 0; i < drivers->refusal_count; i++)
		gt_warn("a plugin was refused", "path", drivers->refusals[i].path, "reason", drivers->refusals[i].reason);
	each_idle_section(drivers, config, &names, warn_idle, NULL);
	gt_strings_free(&names);
	if (complaints.len) {
		gt_drivers_free(drivers);
		return gt_fail(err, GT_INVALID, "%s", complaints.data);
	}
	for (size_t i = 0; i < drivers->plugin_count; i++) {
		for (size_t d = 0; d < drivers->plugins[i]->driver_count; d++) {
			drivers->plugins[i]->drivers[d].all = drivers;
			open_driver(&drivers->plugins[i]->drivers[d], config);
		}
	}
	*out = drivers;
	return 0;
}

void gt_drivers_free(struct gt_drivers *drivers)
{
	if (!drivers)
		return;
	family_free(drivers);
	for (size_t i = drivers->plugin_count; i-- > 0;) {
		for (size_t d = drivers->plugins[i]->driver_count; d-- > 0;)
			driver_close(&drivers->plugins[i]->drivers[d]);
	}
	for (size_t i = drivers->plugin_count; i-- > 0;)
		plugin_free(drivers->plugins[i]);
	for (size_t i = 0; i < drivers->refusal_count; i++) {
		free(drivers->refusals[i].path);
		free(drivers->refusals[i].reason);
	}
	free(drivers->plugins);
	free(drivers->refusals);
	gt_strings_free(&drivers->disabled);
	pthread_mutex_destroy(&drivers->noting);
	free(drivers->root);
	free(drivers->run);
	free(drivers);
}

void gt_drivers_cancel(struct gt_drivers *drivers)
{
	atomic_store(&drivers->cancelled, true);
	for (size_t i = 0; i < drivers->plugin_count; i++) {
		if (drivers->plugins[i]->remote)
			remote_cancel(drivers->plugins[i]);
	}
}

json_t *gt_drivers_look(const struct gt_config *config, struct gt_error *err)
{
	AUTO_BUF struct gt_buf complaints = { 0 };
	struct gt_strings names = { 0 };
	struct gt_drivers *drivers = load_all(config, &names, &complaints);
	each_idle_section(drivers, config, &names, complain_idle, &complaints);
	json_t *seen = complaints.len ? gt_fail_null(err, GT_INVALID, "%s", complaints.data) : gt_drivers_describe(drivers);
	gt_strings_free(&names);
	gt_drivers_free(drivers);
	return seen;
}

int gt_drivers_check(const struct gt_config *config, struct gt_error *err)
{
	AUTO_JSON json_t *seen = gt_drivers_look(config, err);
	return seen ? 0 : -1;
}
