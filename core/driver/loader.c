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

int check_free_names(struct gt_drivers *drivers, const struct plugin *plugin, struct gt_error *err)
{
	int rc = 0;
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count && rc == 0; i++) {
		const struct plugin *other = drivers->slots[i]->plugin;
		if (!other || strcmp(other->name, plugin->name) == 0)
			continue;
		for (size_t a = 0; a < other->driver_count * plugin->driver_count && rc == 0; a++) {
			const struct driver *theirs = &other->drivers[a / plugin->driver_count], *ours = &plugin->drivers[a % plugin->driver_count];
			if (theirs->kind != ours->kind || strcmp(theirs->name, ours->name) != 0)
				continue;
			AUTO_FREE char *what = gt_xasprintf("%s driver %s", driver_kind_name((int)ours->kind), ours->name);
			AUTO_FREE char *found = gt_xasprintf("a second one (the first is in %s)", other->path);
			rc = refuse(plugin, err, what, found, "one");
		}
	}
	pthread_rwlock_unlock(&drivers->table);
	return rc;
}

/* From the file itself, or from the process that loads it. */
static int read_file(struct plugin *plugin, const char *libexec_dir, const struct plugin *before, bool isolated, struct gt_error *err)
{
	if (object_open(plugin, err) < 0)
		return -1;
	if (isolated)
		return remote_open(plugin, libexec_dir, err);
	if (object_share(plugin, before, err) < 0)
		return -1;
	if (object_map(plugin, err) == 0)
		return descriptor_read(plugin, err);
	if (before && plugin->fd == before->fd)
		plugin->fd = -1;
	return -1;
}

/* Its file is read; its settings are not. */
static struct plugin *load_file(const struct gt_drivers *drivers, const char *name, const struct placing *placing, const struct plugin *before,
				struct gt_error *err)
{
	struct plugin *plugin = gt_xcalloc(1, sizeof *plugin);
	plugin->fd = -1;
	plugin->path = gt_xstrdup(placing->file);
	plugin->name = gt_xstrdup(name);
	if (read_file(plugin, drivers->libexec_dir, before, placing->isolated, err) == 0)
		return plugin;
	plugin_free(plugin);
	return NULL;
}

/* ---- one section ---- */

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

void placing_read(const struct gt_drivers *drivers, const struct gt_config *config, const char *name, struct placing *placing, struct gt_buf *complaints)
{
	const struct gt_plugin_setting *enabled = own_setting(config, name, "enabled"), *path = own_setting(config, name, "path"),
					       *isolate = own_setting(config, name, "isolate");
	bool flag = true, elsewhere = path && *path->value;
	*placing = (struct placing){ .isolated = isolate && strcmp(isolate->value, "process") == 0 };
	if (isolate && !placing->isolated && strcmp(isolate->value, "none") != 0)
		complain(complaints, isolate, "%s is neither none nor process", isolate->value);
	if (enabled && !setting_flag(enabled->value, &flag))
		complain(complaints, enabled, "%s is neither yes nor no", enabled->value);
	placing->enabled = flag;
	placing->off = flag ? NULL : enabled;
	if (flag && elsewhere && *path->value != '/')
		complain(complaints, path, "%s is not an absolute path", path->value);
	else
		placing->file = elsewhere ? gt_xstrdup(path->value) : gt_xasprintf("%s/%s.so", drivers->plugin_dir, name);
}

struct plugin *plugin_load(const struct gt_drivers *drivers, const struct gt_config *config, const char *name, const struct placing *placing,
			   const struct plugin *before, struct gt_error *err)
{
	AUTO_BUF struct gt_buf complaints = { 0 };
	struct plugin *plugin = load_file(drivers, name, placing, before, err);
	if (!plugin)
		return NULL;
	settings_apply(plugin, config, &complaints);
	if (!complaints.len)
		return plugin;
	gt_fail(err, GT_INVALID, "%s", complaints.data);
	plugin_free(plugin);
	return NULL;
}

/* ---- all of them ---- */

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
		refusal_note(drivers, config->plugin_dir, err.message);
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
	struct gt_error err = { 0 };
	struct placing placing;
	struct slot *slot = slot_get(drivers, name);
	placing_read(drivers, config, name, &placing, complaints);
	AUTO_FREE char *file = placing.file;
	if (slot->off || !placing.enabled || !file)
		return;
	struct plugin *plugin = load_file(drivers, name, &placing, NULL, &err);
	if (!plugin || check_free_names(drivers, plugin, &err) < 0) {
		refusal_note(drivers, file, err.message);
		plugin_free(plugin);
		return;
	}
	settings_apply(plugin, config, complaints);
	slot_attach(slot, drivers, plugin);
}

static struct gt_drivers *load_all(const struct gt_config *config, const struct gt_strings *off, struct gt_strings *names, struct gt_buf *complaints)
{
	struct gt_drivers *drivers = gt_xcalloc(1, sizeof *drivers);
	pthread_condattr_t attr;
	pthread_mutex_init(&drivers->changing, NULL);
	pthread_mutex_init(&drivers->opening, NULL);
	pthread_mutex_init(&drivers->noting, NULL);
	pthread_rwlock_init(&drivers->table, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&drivers->moved, &attr);
	pthread_condattr_destroy(&attr);
	drivers->root = gt_xstrdup(config->root);
	drivers->run = gt_xstrdup(config->run);
	drivers->plugin_dir = gt_xstrdup(config->plugin_dir);
	drivers->libexec_dir = gt_xstrdup(config->libexec_dir);
	drivers->storage = gt_xstrdup(config->storage_driver);
	drivers->fsync = config->fsync;
	find_names(drivers, config, names);
	for (size_t i = 0; i < names->count; i++) {
		slot_get(drivers, names->items[i])->off = off && listed(off, names->items[i]);
		load_name(drivers, config, names->items[i], complaints);
	}
	return drivers;
}

/* Sections whose plugin was not loaded: no file, or a refused one. Calls fn for the first line of each. */
static void each_idle_section(const struct gt_drivers *drivers, const struct gt_config *config, const struct gt_strings *names,
			      void (*fn)(void *arg, const struct gt_plugin_setting *setting, const char *why), void *arg)
{
	struct gt_strings seen = { 0 };
	for (size_t i = 0; i < config->plugin_setting_count; i++) {
		const struct gt_plugin_setting *setting = &config->plugin_settings[i];
		const struct slot *slot = slot_find(drivers, setting->plugin);
		const struct gt_plugin_setting *enabled = own_setting(config, setting->plugin, "enabled");
		bool flag = true, off = slot && (slot->off || (enabled && setting_flag(enabled->value, &flag) && !flag));
		if (listed(&seen, setting->plugin) || (slot && slot->plugin) || off)
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

static int call_open(struct driver *driver, struct gantry_error *why)
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

void driver_close(struct driver *driver)
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

int driver_open(struct driver *driver, struct gt_error *err)
{
	struct gantry_error why = { .size = sizeof why };
	if (host_prepare(driver, err) < 0)
		return -1;
	if (call_open(driver, &why) < 0) {
		driver_error(driver->name, "open", &why, err);
		return -1;
	}
	driver->open = true;
	return 0;
}

/* A storage driver that is not the one in use wants another file system, as a rule: nobody misses it. */
static bool is_idle(const struct driver *driver)
{
	return driver->kind == GANTRY_STORAGE && strcmp(driver->name, driver->all->storage) != 0;
}

int driver_open_first(struct gt_driver *driver, struct driver *now, struct gt_error *err)
{
	struct gt_error local = { 0 };
	if (driver_open(now, &local) == 0) {
		gate_set(driver, now, NULL);
		return 0;
	}
	gate_set(driver, NULL, local.message);
	gt_log_kv(is_idle(now) ? GT_DEBUG : GT_WARN, "a driver could not be opened", "kind", driver_kind_name((int)now->kind), "driver", now->name, "plugin",
		  now->plugin->path, "error", local.message, NULL);
	if (err)
		*err = local;
	return -1;
}

int gt_drivers_load(const struct gt_config *config, const struct gt_strings *off, gt_driver_event event, void *event_arg, struct gt_drivers **out,
		    struct gt_error *err)
{
	AUTO_BUF struct gt_buf complaints = { 0 };
	struct gt_strings names = { 0 };
	struct gt_drivers *drivers = load_all(config, off, &names, &complaints);
	drivers->event = event;
	drivers->event_arg = event_arg;
	for (size_t i = 0; i < drivers->refusal_count; i++)
		gt_warn("a plugin was refused", "path", drivers->refusals[i].path, "reason", drivers->refusals[i].reason);
	each_idle_section(drivers, config, &names, warn_idle, NULL);
	gt_strings_free(&names);
	if (complaints.len) {
		gt_drivers_free(drivers);
		return gt_fail(err, GT_INVALID, "%s", complaints.data);
	}
	for (size_t i = 0; i < drivers->slot_count; i++) {
		struct plugin *plugin = drivers->slots[i]->plugin;
		for (size_t d = 0; plugin && d < plugin->driver_count; d++)
			driver_open_first(slot_driver(drivers->slots[i], (int)plugin->drivers[d].kind, plugin->drivers[d].name), &plugin->drivers[d], NULL);
	}
	*out = drivers;
	return 0;
}

/* What is open is closed, the last one first. Nobody calls any more. */
static void close_all(struct gt_drivers *drivers)
{
	for (size_t i = drivers->member_count; i-- > 0;) {
		if (drivers->members[i]->now)
			member_driver_free(take(drivers->members[i]->now));
	}
	for (size_t i = drivers->slot_count; i-- > 0;) {
		struct plugin *plugin = drivers->slots[i]->plugin;
		for (size_t d = plugin ? plugin->driver_count : 0; d-- > 0;)
			driver_close(&plugin->drivers[d]);
	}
	for (size_t i = drivers->slot_count; i-- > 0;)
		plugin_free(take(drivers->slots[i]->plugin));
}

void gt_drivers_free(struct gt_drivers *drivers)
{
	if (!drivers)
		return;
	close_all(drivers);
	for (size_t i = 0; i < drivers->member_count; i++)
		gt_driver_free(drivers->members[i]);
	for (size_t i = 0; i < drivers->slot_count; i++)
		slot_free(drivers->slots[i]);
	for (size_t i = 0; i < drivers->refusal_count; i++) {
		free(drivers->refusals[i].path);
		free(drivers->refusals[i].reason);
	}
	free(drivers->slots);
	free(drivers->members);
	free(drivers->refusals);
	pthread_cond_destroy(&drivers->moved);
	pthread_mutex_destroy(&drivers->noting);
	pthread_mutex_destroy(&drivers->opening);
	pthread_mutex_destroy(&drivers->changing);
	pthread_rwlock_destroy(&drivers->table);
	free(drivers->root);
	free(drivers->run);
	free(drivers->plugin_dir);
	free(drivers->libexec_dir);
	free(drivers->storage);
	free(drivers);
}

void gt_drivers_cancel(struct gt_drivers *drivers)
{
	atomic_store(&drivers->cancelled, true);
	gates_wake(drivers);
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count; i++) {
		struct plugin *plugin = drivers->slots[i]->plugin;
		if (plugin && plugin->remote)
			remote_cancel(plugin);
	}
	pthread_rwlock_unlock(&drivers->table);
}

json_t *gt_drivers_look(const struct gt_config *config, struct gt_error *err)
{
	AUTO_BUF struct gt_buf complaints = { 0 };
	struct gt_strings names = { 0 };
	struct gt_drivers *drivers = load_all(config, NULL, &names, &complaints);
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
