/*
 * change.c - plugins that are enabled, disabled and reloaded while the daemon runs and containers use them.
 *
 * A reload loads and checks the new file, or the same one with other settings, beside the one in use. Then the gates are shut: calls that come wait, those
 * that are in end. The drivers are closed, those of the new file opened, and told what the old ones had been told (records.c), as after a restart of the daemon.
 * Then the gates open. What fails on the way leads back to the drivers as they were, which are opened and told the same. The old file goes last, when
 * nothing of it runs any more.
 *
 * A crash in between is one of the daemon's like any other: nothing of this is on disk.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "internal.h"

/* What makes a network or a volume another thing: it cannot change under those that there are. */
#define NETWORK_NATURE (GANTRY_NET_GLOBAL | GANTRY_NET_OWN_IPAM | GANTRY_NET_HOST_NS | GANTRY_NET_NONE)
#define VOLUME_NATURE GANTRY_VOL_FAMILY

/* One driver through a change. */
struct step {
	struct gt_driver *held;
	struct driver *before, *after;  /* what it calls; NULL: nothing */
};

struct change {
	struct gt_drivers *drivers;
	struct slot *slot;
	struct plugin *old, *fresh;
	struct step *steps;             /* the plugin's drivers, and then the members of its families */
	struct gt_driver **gates;       /* the same */
	size_t count;
};

/* ---- names ---- */

static bool name_ok(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
	return len > 0 && len <= 32 && !name[len] && name[0] != '-';
}

/* Who takes a driver's name for that of its plugin is told. */
static int fail_unknown(struct gt_drivers *drivers, const char *name, struct gt_error *err)
{
	const char *plugin = NULL;
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count && !plugin; i++) {
		for (size_t d = 0; d < drivers->slots[i]->driver_count && !plugin; d++)
			plugin = strcmp(drivers->slots[i]->drivers[d]->name, name) == 0 ? drivers->slots[i]->name : NULL;
	}
	if (plugin)
		gt_fail(err, GT_NOT_FOUND, "plugin \"%s\" not found: the driver of that name is of plugin %s", name, plugin);
	else
		gt_fail(err, GT_NOT_FOUND, "plugin \"%.64s\" not found", name);
	pthread_rwlock_unlock(&drivers->table);
	return -1;
}

/* A slot lives on. */
static struct slot *find(struct gt_drivers *drivers, const char *name, struct gt_error *err)
{
	pthread_rwlock_rdlock(&drivers->table);
	struct slot *slot = slot_find(drivers, name);
	pthread_rwlock_unlock(&drivers->table);
	if (!slot)
		fail_unknown(drivers, name, err);
	return slot;
}

static struct slot *find_loaded(struct gt_drivers *drivers, const char *name, struct gt_error *err)
{
	struct slot *slot = find(drivers, name, err);
	if (slot && !slot->plugin)
		return gt_fail_null(err, GT_CONFLICT, "plugin %s is disabled: gantry plugin enable %s", name, name);
	return slot;
}

json_t *gt_plugin_drivers(struct gt_drivers *drivers, const char *name, struct gt_error *err)
{
	struct slot *slot = find(drivers, name, err);
	json_t *list = slot ? json_array() : NULL;
	if (!slot)
		return NULL;
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < slot->driver_count + drivers->member_count; i++) {
		const struct gt_driver *driver = i < slot->driver_count ? slot->drivers[i] : drivers->members[i - slot->driver_count];
		if (driver->slot == slot)
			json_array_append_new(list, json_pack("{s:s, s:s}", "Kind", driver_kind_name((int)driver->kind), "Name", driver->name));
	}
	pthread_rwlock_unlock(&drivers->table);
	return list;
}

/* ---- what goes together ---- */

static struct driver *counterpart(const struct plugin *plugin, const struct driver *driver)
{
	for (size_t i = 0; i < plugin->driver_count; i++) {
		if (plugin->drivers[i].kind == driver->kind && strcmp(plugin->drivers[i].name, driver->name) == 0)
			return &plugin->drivers[i];
	}
	return NULL;
}

static int check_same(const struct plugin *fresh, const struct driver *before, const struct driver *after, struct gt_error *err)
{
	static const uint64_t NATURE[] = { [GANTRY_NETWORK] = NETWORK_NATURE, [GANTRY_VOLUME] = VOLUME_NATURE, [GANTRY_STORAGE] = 0 };
	AUTO_FREE char *what = gt_xasprintf("%s driver %s", driver_kind_name((int)before->kind), before->name);
	const char *remedy = "the same as in the one in use; a restart of gantryd, which stops no container, takes up any";
	if (!after)
		return refuse(fresh, err, what, "none", remedy);
	if ((before->capabilities ^ after->capabilities) & NATURE[before->kind])
		return refuse(fresh, err, what, "other capabilities (where networks are, who gives addresses, families)", remedy);
	if (before->kind == GANTRY_VOLUME && !before->ops.volume.reconcile && after->ops.volume.reconcile)
		return refuse(fresh, err, what, "one that counts its mounts (op reconcile), of which nobody has kept account", remedy);
	return 0;
}

/* The drivers of the new file are those of the old one. */
static int check_drivers(const struct plugin *old, const struct plugin *fresh, struct gt_error *err)
{
	for (size_t i = 0; i < old->driver_count; i++) {
		if (check_same(fresh, &old->drivers[i], counterpart(fresh, &old->drivers[i]), err) < 0)
			return -1;
	}
	for (size_t i = 0; i < fresh->driver_count; i++) {
		const struct driver *driver = &fresh->drivers[i];
		if (counterpart(old, driver))
			continue;
		AUTO_FREE char *what = gt_xasprintf("%s driver %s", driver_kind_name((int)driver->kind), driver->name);
		return refuse(fresh, err, what, "one that the file in use does not have", "the same ones; a restart of gantryd, which stops no container, takes up any");
	}
	return 0;
}

/* What the section says, where the plugin may be used. The file is the caller's. */
static int place(const struct gt_drivers *drivers, const struct gt_config *config, const char *name, struct placing *placing, struct gt_error *err)
{
	AUTO_BUF struct gt_buf complaints = { 0 };
	placing_read(drivers, config, name, placing, &complaints);
	if (!complaints.len && placing->enabled)
		return 0;
	free(take(placing->file));
	if (complaints.len)
		return gt_fail(err, GT_INVALID, "%s", complaints.data);
	return gt_fail(err, GT_CONFLICT, "%s:%d: [plugin.%s] enabled: the configuration switches the plugin off", placing->off->file, placing->off->line, name);
}

static struct plugin *load(struct gt_drivers *drivers, const struct gt_config *config, const char *name, const struct plugin *before, struct gt_error *err)
{
	struct placing placing;
	if (place(drivers, config, name, &placing, err) < 0)
		return NULL;
	AUTO_FREE char *file = placing.file;
	struct plugin *plugin = plugin_load(drivers, config, name, &placing, before, err);
	if (plugin && (check_free_names(drivers, plugin, err) < 0 || (before && check_drivers(before, plugin, err) < 0))) {
		plugin_free(plugin);
		return NULL;
	}
	return plugin;
}

/* ---- steps ---- */

static void add_step(struct change *change, struct gt_driver *held)
{
	change->steps = gt_xrealloc(change->steps, (change->count + 1) * sizeof *change->steps);
	change->gates = gt_xrealloc(change->gates, (change->count + 1) * sizeof *change->gates);
	change->gates[change->count] = held;
	change->steps[change->count++] = (struct step){ .held = held };
}

/* With `changing` and `opening`, so that none comes in addition. */
static void gather(struct change *change)
{
	struct gt_drivers *drivers = change->drivers;
	for (size_t i = 0; i < change->slot->driver_count; i++)
		add_step(change, change->slot->drivers[i]);
	for (size_t i = 0; i < drivers->member_count; i++) {
		if (drivers->members[i]->slot == change->slot)
			add_step(change, drivers->members[i]);
	}
	LOCKED(&drivers->noting);
	for (size_t i = 0; i < change->count; i++)
		change->steps[i].before = change->steps[i].held->now;
}

static void free_steps(struct change *change)
{
	free(change->steps);
	free(change->gates);
}

/* Members before their families. */
static void close_before(struct change *change)
{
	for (size_t i = change->count; i-- > 0;) {
		if (change->steps[i].before)
			driver_close(change->steps[i].before);
	}
}

static void close_after(struct change *change)
{
	for (size_t i = change->count; i-- > 0;) {
		struct driver *after = take(change->steps[i].after);
		if (after && after->is_member)
			member_driver_free(after);
		else if (after)
			driver_close(after);
	}
}

/* With what it is to know. */
static int open_and_tell(struct driver *driver, struct gt_error *err)
{
	struct gantry_error why = { .size = sizeof why };
	if (driver_open(driver, err) < 0)
		return -1;
	if (records_tell_networks(driver, driver_tell, &why) == 0)
		return 0;
	driver_error(driver->name, "reconcile", &why, err);
	driver_close(driver);
	return -1;
}

/* A member may be of a server that is away, and is opened again when it is asked for. */
static void open_member_after(struct change *change, struct step *step)
{
	struct gt_error err = { 0 };
	if (!step->before)
		return;
	struct driver *member = member_driver(counterpart(change->fresh, &change->old->drivers[step->before->index]), step->held);
	if (driver_open(member, &err) == 0) {
		step->after = member;
		return;
	}
	gt_warn("a driver could not be opened again", "driver", step->held->name, "error", err.message);
	member_driver_free(member);
}

/* What was open has to be open again. */
static int open_after(struct change *change, struct gt_error *err)
{
	for (size_t i = 0; i < change->count; i++) {
		struct step *step = &change->steps[i];
		struct gt_error local = { 0 };
		if (step->held->is_member) {
			open_member_after(change, step);
			continue;
		}
		for (size_t d = 0; d < change->fresh->driver_count && !step->after; d++) {
			struct driver *driver = &change->fresh->drivers[d];
			if (driver->kind == step->held->kind && strcmp(driver->name, step->held->name) == 0)
				step->after = driver;
		}
		if (!step->after || open_and_tell(step->after, &local) == 0)
			continue;
		step->after = NULL;
		if (step->before) {
			*err = local;
			return -1;
		}
		gate_set(step->held, NULL, local.message);
	}
	return 0;
}

/* False where that cannot be, either. */
static bool go_back(struct change *change, struct gt_error *err)
{
	bool whole = true;
	for (size_t i = 0; i < change->count; i++) {
		struct step *step = &change->steps[i];
		struct gt_error local = { 0 };
		if (!step->before || open_and_tell(step->before, &local) == 0)
			continue;
		gt_err("a driver could not be taken into use again", "driver", step->held->name, "error", local.message);
		gate_set(step->held, NULL, local.message);
		if (step->before->is_member)
			member_driver_free(take(step->before));
		gt_context(err, "driver %s cannot be opened again from the old file (%s), nor from the new one", step->held->name, local.message);
		whole = false;
	}
	return whole;
}

/* The gates are shut. -1: all is as it was; -2: it could not be put back. */
static int replace(struct change *change, struct gt_error *err)
{
	struct gt_drivers *drivers = change->drivers;
	close_before(change);
	if (open_after(change, err) < 0) {
		close_after(change);
		return go_back(change, err) ? -1 : -2;
	}
	pthread_rwlock_wrlock(&drivers->table);
	slot_attach(change->slot, drivers, change->fresh);
	pthread_rwlock_unlock(&drivers->table);
	for (size_t i = 0; i < change->count; i++) {
		struct step *step = &change->steps[i];
		if (step->after || step->before)
			gate_set(step->held, step->after, step->after ? NULL : "it is not there at the moment");
		if (step->before && step->before->is_member)
			member_driver_free(step->before);
		gt_counter_add(&step->held->reloads, 1);
	}
	return 0;
}

/* The drivers that the engine holds, before anything is called. */
static void adopt(struct change *change)
{
	for (size_t i = 0; i < change->fresh->driver_count; i++) {
		struct driver *driver = &change->fresh->drivers[i];
		driver->all = change->drivers;
		driver->records = &slot_driver(change->slot, (int)driver->kind, driver->name)->records;
	}
}

int gt_plugin_reload(struct gt_drivers *drivers, const struct gt_config *config, const char *name, int64_t patience, bool *disturbed, struct gt_error *err)
{
	struct change change = { .drivers = drivers };
	*disturbed = false;
	LOCKED(&drivers->changing);
	if (!(change.slot = find_loaded(drivers, name, err)))
		return -1;
	change.old = change.slot->plugin;
	if (!(change.fresh = load(drivers, config, name, change.old, err)))
		return gt_context(err, "plugin %s goes on as it was", name);
	adopt(&change);
	pthread_mutex_lock(&drivers->opening);
	gather(&change);
	int rc = gates_shut(drivers, change.gates, change.count, patience, err);
	if (rc == 0) {
		*disturbed = true;
		rc = replace(&change, err);
		gates_open(drivers, change.gates, change.count);
	}
	pthread_mutex_unlock(&drivers->opening);
	plugin_free(rc == 0 ? change.old : change.fresh);
	free_steps(&change);
	if (rc == -2)
		return gt_context(err, "plugin %s was not reloaded", name);
	return rc < 0 ? gt_context(err, "plugin %s goes on as it was", name) : 0;
}

void gt_plugin_tell_uses(struct gt_drivers *drivers, const char *name)
{
	struct gt_driver **list = NULL;
	size_t count = 0;
	pthread_rwlock_rdlock(&drivers->table);
	const struct slot *slot = slot_find(drivers, name);
	for (size_t i = 0; slot && i < slot->driver_count + drivers->member_count; i++) {
		struct gt_driver *driver = i < slot->driver_count ? slot->drivers[i] : drivers->members[i - slot->driver_count];
		if (driver->slot != slot || driver->kind != GANTRY_VOLUME)
			continue;
		list = gt_xrealloc(list, (count + 1) * sizeof(struct gt_driver *));
		list[count++] = driver;
	}
	pthread_rwlock_unlock(&drivers->table);
	for (size_t i = 0; i < count; i++)
		driver_tell_uses(list[i]);
	free(list);
}

/* ---- disable, enable ---- */

int gt_plugin_mark(struct gt_drivers *drivers, const char *name, bool off, struct gt_error *err)
{
	struct slot *slot = find(drivers, name, err);
	if (!slot)
		return -1;
	pthread_rwlock_wrlock(&drivers->table);
	bool already = off && (!slot->plugin || slot->off);
	if (!already)
		slot->off = off;
	pthread_rwlock_unlock(&drivers->table);
	return already ? gt_fail(err, GT_CONFLICT, "plugin is already disabled: plugin %s is disabled", name) : 0;
}

/* Nothing is called there any more. With the gates shut. */
static void empty(struct change *change)
{
	close_before(change);
	for (size_t i = 0; i < change->count; i++) {
		struct step *step = &change->steps[i];
		gate_set(step->held, NULL, "its plugin is disabled");
		records_clear(&step->held->records);
		if (step->before && step->before->is_member)
			member_driver_free(step->before);
	}
	pthread_rwlock_wrlock(&change->drivers->table);
	change->slot->plugin = NULL;
	pthread_rwlock_unlock(&change->drivers->table);
}

int gt_plugin_disable(struct gt_drivers *drivers, const char *name, int64_t patience, struct gt_error *err)
{
	struct change change = { .drivers = drivers };
	LOCKED(&drivers->changing);
	if (!(change.slot = find_loaded(drivers, name, err)))
		return -1;
	change.old = change.slot->plugin;
	pthread_mutex_lock(&drivers->opening);
	gather(&change);
	int rc = gates_shut(drivers, change.gates, change.count, patience, err);
	if (rc == 0) {
		empty(&change);
		gates_open(drivers, change.gates, change.count);
	}
	pthread_mutex_unlock(&drivers->opening);
	free_steps(&change);
	if (rc < 0)
		return gt_context(err, "plugin %s stays enabled", name);
	plugin_free(change.old);
	return 0;
}

/* Into its place, and open. Fails where none of its drivers can be opened. */
static int settle(struct gt_drivers *drivers, const char *name, struct plugin *plugin, struct gt_error *err)
{
	size_t opened = 0;
	LOCKED(&drivers->opening);
	pthread_rwlock_wrlock(&drivers->table);
	struct slot *slot = slot_get(drivers, name);
	slot_attach(slot, drivers, plugin);
	pthread_rwlock_unlock(&drivers->table);
	for (size_t i = 0; i < plugin->driver_count; i++)
		opened += driver_open_first(slot_driver(slot, (int)plugin->drivers[i].kind, plugin->drivers[i].name), &plugin->drivers[i], err) == 0;
	pthread_rwlock_wrlock(&drivers->table);
	if (opened)
		refusal_forget(drivers, plugin->path);
	else
		slot->plugin = NULL;
	slot->off = slot->off && !opened;
	pthread_rwlock_unlock(&drivers->table);
	return opened ? 0 : -1;
}

static bool is_open(const struct slot *slot)
{
	bool any = false;
	for (size_t i = 0; i < slot->driver_count; i++)
		any |= gate_is_open(slot->drivers[i]);
	return any;
}

/* One of which no driver could be opened, so that it can be tried once more. */
static void unload_idle(struct gt_drivers *drivers, struct slot *slot)
{
	struct plugin *plugin = slot->plugin;
	pthread_rwlock_wrlock(&drivers->table);
	slot->plugin = NULL;
	pthread_rwlock_unlock(&drivers->table);
	plugin_free(plugin);
}

int gt_plugin_enable(struct gt_drivers *drivers, const struct gt_config *config, const char *name, struct gt_error *err)
{
	if (!name_ok(name))
		return fail_unknown(drivers, name, err);
	LOCKED(&drivers->changing);
	pthread_rwlock_rdlock(&drivers->table);
	struct slot *slot = slot_find(drivers, name);
	pthread_rwlock_unlock(&drivers->table);
	if (slot && slot->plugin && is_open(slot))
		return gt_fail(err, GT_CONFLICT, "plugin already enabled: plugin %s is enabled", name);
	if (slot && slot->plugin)
		unload_idle(drivers, slot);
	struct gt_error local = { 0 };
	struct plugin *plugin = load(drivers, config, name, NULL, &local);
	if (!plugin && !slot && local.kind == GT_NOT_FOUND)
		return fail_unknown(drivers, name, err);
	if (!plugin || settle(drivers, name, plugin, &local) < 0) {
		plugin_free(plugin);
		*err = local;
		return gt_context(err, "plugin %s was not enabled", name);
	}
	return 0;
}
