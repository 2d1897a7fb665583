/*
 * slot.c - the places of plugins: which there are, and which drivers they have or had; and finding a driver by kind and name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "internal.h"

/* ---- drivers ---- */

struct gt_driver *gt_driver_new(struct gt_drivers *drivers, struct slot *slot, enum gantry_kind kind, const char *name)
{
	struct gt_driver *driver = gt_xcalloc(1, sizeof *driver);
	driver->all = drivers;
	driver->slot = slot;
	driver->kind = kind;
	driver->name = gt_xstrdup(name);
	records_init(&driver->records);
	return driver;
}

void gt_driver_free(struct gt_driver *driver)
{
	records_free(&driver->records);
	free(driver->name);
	free(driver->why);
	free(driver);
}

/* ---- slots ---- */

struct slot *slot_find(const struct gt_drivers *drivers, const char *name)
{
	for (size_t i = 0; i < drivers->slot_count; i++) {
		if (strcmp(drivers->slots[i]->name, name) == 0)
			return drivers->slots[i];
	}
	return NULL;
}

struct slot *slot_get(struct gt_drivers *drivers, const char *name)
{
	struct slot *slot = slot_find(drivers, name);
	if (slot)
		return slot;
	slot = gt_xcalloc(1, sizeof *slot);
	slot->name = gt_xstrdup(name);
	drivers->slots = gt_xrealloc(drivers->slots, (drivers->slot_count + 1) * sizeof(struct slot *));
	drivers->slots[drivers->slot_count++] = slot;
	return slot;
}

void slot_free(struct slot *slot)
{
	for (size_t i = 0; i < slot->driver_count; i++)
		gt_driver_free(slot->drivers[i]);
	free(slot->drivers);
	free(slot->name);
	free(slot->path);
	free(slot->version);
	free(slot->description);
	free(slot);
}

struct gt_driver *slot_driver(const struct slot *slot, int kind, const char *name)
{
	for (size_t i = 0; i < slot->driver_count; i++) {
		if ((int)slot->drivers[i]->kind == kind && strcmp(slot->drivers[i]->name, name) == 0)
			return slot->drivers[i];
	}
	return NULL;
}

static void set_text(char **slot, const char *text)
{
	free(*slot);
	*slot = gt_xstrdup(text);
}

void slot_attach(struct slot *slot, struct gt_drivers *drivers, struct plugin *plugin)
{
	slot->plugin = plugin;
	set_text(&slot->path, plugin->path);
	set_text(&slot->version, plugin->info.version);
	set_text(&slot->description, plugin->info.description);
	for (size_t i = 0; i < plugin->driver_count; i++) {
		struct driver *now = &plugin->drivers[i];
		struct gt_driver *driver = slot_driver(slot, (int)now->kind, now->name);
		if (!driver) {
			driver = gt_driver_new(drivers, slot, now->kind, now->name);
			slot->drivers = gt_xrealloc(slot->drivers, (slot->driver_count + 1) * sizeof(struct gt_driver *));
			slot->drivers[slot->driver_count++] = driver;
		}
		atomic_store(&driver->capabilities, now->capabilities);
		now->all = drivers;
		now->records = &driver->records;
	}
}

/* ---- refusals ---- */

void refusal_forget(struct gt_drivers *drivers, const char *path)
{
	size_t kept = 0;
	for (size_t i = 0; i < drivers->refusal_count; i++) {
		if (strcmp(drivers->refusals[i].path, path) != 0) {
			drivers->refusals[kept++] = drivers->refusals[i];
			continue;
		}
		free(drivers->refusals[i].path);
		free(drivers->refusals[i].reason);
	}
	drivers->refusal_count = kept;
}

void refusal_note(struct gt_drivers *drivers, const char *path, const char *reason)
{
	refusal_forget(drivers, path);
	drivers->refusals = gt_xrealloc(drivers->refusals, (drivers->refusal_count + 1) * sizeof *drivers->refusals);
	drivers->refusals[drivers->refusal_count++] = (struct refusal){ gt_xstrdup(path), gt_xstrdup(reason) };
}

/* ---- finding ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of those that are open, and those of families, sorted. gt_strings_free() is the caller's. */
static struct gt_strings sorted_names(struct gt_drivers *drivers, enum gantry_kind kind)
{
	struct gt_strings names = { 0 };
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count; i++) {
		for (size_t d = 0; d < drivers->slots[i]->driver_count; d++) {
			struct gt_driver *driver = drivers->slots[i]->drivers[d];
			if (driver->kind == kind && !is_family(driver) && gate_is_open(driver))
				gt_strings_add(&names, driver->name);
		}
	}
	pthread_rwlock_unlock(&drivers->table);
	family_names(drivers, kind, &names);
	if (names.count)
		qsort(names.items, names.count, sizeof *names.items, by_text);
	return names;
}

static int fail_disabled(const struct gt_driver *driver, struct gt_error *err)
{
	return gt_fail(err, GT_UNAVAILABLE, "the %s driver \"%.64s\" is disabled: gantry plugin enable %s", driver_kind_name((int)driver->kind), driver->name,
		       driver->slot->name);
}

/* A driver that a plugin lists. *known: there is one, whatever became of it. */
static struct gt_driver *find_listed(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, bool *known, struct gt_error *err)
{
	struct gt_driver *found = NULL;
	*known = false;
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count && !found; i++) {
		const struct slot *slot = drivers->slots[i];
		struct gt_driver *driver = slot_driver(slot, (int)kind, name);
		if (!driver || is_family(driver))
			continue;
		*known = true;
		if (gate_is_open(driver) && !slot->off) {
			found = driver;
		} else if (slot->off) {
			fail_disabled(driver, err);
		} else {
			AUTO_FREE char *why = gate_why(driver);
			gt_fail(err, GT_UNAVAILABLE, "the %s driver \"%s\" could not be opened: %s", driver_kind_name((int)kind), name, why ? why : "it is not loaded");
		}
	}
	pthread_rwlock_unlock(&drivers->table);
	return found;
}

/* "; plugin vol-local is disabled": whose drivers these are may not be known. none: no driver is there at all. */
static void tell_absent(struct gt_drivers *drivers, bool none, struct gt_buf *out)
{
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count; i++) {
		if (drivers->slots[i]->off)
			gt_buf_printf(out, "; plugin %s is disabled", drivers->slots[i]->name);
	}
	if (none && drivers->refusal_count)
		gt_buf_str(out, "; plugins were refused, see the log");
	pthread_rwlock_unlock(&drivers->table);
}

struct gt_driver *gt_driver_find(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, struct gt_error *err)
{
	struct gt_error none = { 0 };
	bool known;
	struct gt_driver *driver = find_listed(drivers, kind, name, &known, err);
	if (known)
		return driver;
	driver = family_find(drivers, kind, name, &none);
	if (driver)
		return driver;
	if (none.kind == GT_CONFLICT)
		return gt_fail_null(err, GT_UNAVAILABLE, "%s", none.message);
	if (none.kind != GT_NOT_FOUND)
		return gt_fail_null(err, GT_UNAVAILABLE, "the %s driver \"%.64s\" could not be opened: %s", driver_kind_name((int)kind), name,
				    none.message);
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_strings names = sorted_names(drivers, kind);
	gt_buf_str(&text, names.count ? "are: " : "is none");
	for (size_t i = 0; i < names.count; i++)
		gt_buf_printf(&text, "%s%s", i ? ", " : "", names.items[i]);
	tell_absent(drivers, !names.count, &text);
	gt_fail(err, GT_NOT_FOUND, "no %s driver named \"%.64s\" is loaded (there %s)", driver_kind_name((int)kind), name, text.data);
	gt_strings_free(&names);
	return NULL;
}

const char *gt_driver_name(const struct gt_driver *driver)
{
	return driver->name;
}

uint64_t gt_driver_capabilities(const struct gt_driver *driver)
{
	return atomic_load(&driver->capabilities);
}

json_t *gt_driver_names(struct gt_drivers *drivers, enum gantry_kind kind)
{
	struct gt_strings names = sorted_names(drivers, kind);
	json_t *list = names.count ? gt_strings_to_json(&names) : json_array();
	gt_strings_free(&names);
	return list;
}
