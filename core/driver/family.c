/*
 * family.c - volume drivers that come into being while the daemon runs: the members of a driver with GANTRY_VOL_FAMILY.
 *
 * A member has the operations, keys and capabilities of its family, and a name, a host table and directories of its own. It is opened when its name is first
 * asked for and stays until the drivers are freed. One lock, `opening`, is held while a member is opened, which asks no server for anything.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "internal.h"

#define MAX_MEMBERS 1024
#define MAX_MEMBER_NAME 64

bool is_family(const struct gt_driver *driver)
{
	return driver->kind == GANTRY_VOLUME && !driver->is_member && (atomic_load(&driver->capabilities) & GANTRY_VOL_FAMILY);
}

/* A path component that no document of the same directory has: they end with ".json". */
static bool name_ok(const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
	return len > 0 && len <= MAX_MEMBER_NAME && !name[len] && name[0] != '_' && name[0] != '-';
}

struct driver *member_driver(const struct driver *family, struct gt_driver *member)
{
	struct driver *driver = gt_xcalloc(1, sizeof *driver);
	driver->all = family->all;
	driver->plugin = family->plugin;
	driver->index = family->index;
	driver->is_member = true;
	driver->kind = family->kind;
	driver->name = gt_xstrdup(member->name);
	driver->capabilities = family->capabilities & ~GANTRY_VOL_FAMILY;
	driver->ops = family->ops;
	driver->records = &member->records;
	return driver;
}

void member_driver_free(struct driver *member)
{
	driver_close(member);
	free((char *)(uintptr_t)member->name);
	free(member->state_dir);
	free(member->run_dir);
	free(member);
}

/* What the family's gate leads to. With `opening`, which keeps it as it is. */
static struct driver *current(struct gt_driver *family)
{
	LOCKED(&family->all->noting);
	return family->now;
}

/* Opens it for the first time, or again. With `opening`. */
static int open_member(struct gt_driver *family, struct gt_driver *member, struct gt_error *err)
{
	struct driver *now = current(family), *driver = now ? member_driver(now, member) : NULL;
	if (!driver)
		return gt_fail(err, GT_NOT_FOUND, "the family is not open");
	if (driver_open(driver, err) == 0) {
		gate_set(member, driver, NULL);
		return 0;
	}
	/* Nothing is left of a name that nobody has. */
	if (driver->state_dir)
		rmdir(driver->state_dir);
	if (driver->run_dir)
		rmdir(driver->run_dir);
	member_driver_free(driver);
	return -1;
}

static struct gt_driver *new_member(struct gt_driver *family, const char *name, struct gt_error *err)
{
	struct gt_drivers *drivers = family->all;
	if (drivers->member_count >= MAX_MEMBERS) {
		gt_fail(err, GT_TOO_LARGE, "there are %d drivers of families already", MAX_MEMBERS);
		return NULL;
	}
	struct gt_driver *member = gt_driver_new(drivers, family->slot, family->kind, name);
	member->is_member = true;
	if (open_member(family, member, err) < 0) {
		gt_driver_free(member);
		return NULL;
	}
	pthread_rwlock_wrlock(&drivers->table);
	drivers->members = gt_xrealloc(drivers->members, (drivers->member_count + 1) * sizeof *drivers->members);
	drivers->members[drivers->member_count++] = member;
	pthread_rwlock_unlock(&drivers->table);
	return member;
}

/* Families that are open, in an array that ends with NULL and is the caller's. */
static struct gt_driver **families(struct gt_drivers *drivers, enum gantry_kind kind)
{
	size_t count = 0;
	struct gt_driver **list = gt_xcalloc(1, sizeof(struct gt_driver *));
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count; i++) {
		for (size_t d = 0; d < drivers->slots[i]->driver_count; d++) {
			struct gt_driver *driver = drivers->slots[i]->drivers[d];
			if (driver->kind != kind || !is_family(driver) || drivers->slots[i]->off || !gate_is_open(driver))
				continue;
			list = gt_xrealloc(list, (count + 2) * sizeof(struct gt_driver *));
			list[count++] = driver;
			list[count] = NULL;
		}
	}
	pthread_rwlock_unlock(&drivers->table);
	return list;
}

/* One that was opened before; open, where that can be. With `opening`. */
static struct gt_driver *known_member(struct gt_drivers *drivers, struct gt_driver **all, enum gantry_kind kind, const char *name, struct gt_error *err)
{
	for (size_t i = 0; i < drivers->member_count; i++) {
		struct gt_driver *member = drivers->members[i];
		if (member->kind != kind || strcmp(member->name, name) != 0)
			continue;
		for (size_t f = 0; all[f]; f++) {
			if (all[f]->slot == member->slot && (gate_is_open(member) || open_member(all[f], member, err) == 0))
				return member;
		}
	}
	return NULL;
}

struct gt_driver *family_find(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, struct gt_error *err)
{
	gt_fail(err, GT_NOT_FOUND, "no family has a driver of that name");
	if (kind != GANTRY_VOLUME || !name_ok(name))
		return NULL;
	LOCKED(&drivers->opening);
	AUTO_FREE struct gt_driver **all = families(drivers, kind);
	struct gt_driver *member = known_member(drivers, all, kind, name, err);
	for (size_t i = 0; !member && err->kind == GT_NOT_FOUND && all[i]; i++) {
		if (strcmp(all[i]->name, name) != 0) /* else that is the family itself */
			member = new_member(all[i], name, err);
	}
	return member;
}

static int note_name(void *arg, const char *name)
{
	struct gt_strings *names = arg;
	if (!name_ok(name) || names->count >= MAX_MEMBERS)
		return 0;
	for (size_t i = 0; i < names->count; i++) {
		if (strcmp(names->items[i], name) == 0)
			return 0;
	}
	gt_strings_add(names, name);
	return 0;
}

void family_names(struct gt_drivers *drivers, enum gantry_kind kind, struct gt_strings *names)
{
	AUTO_FREE struct gt_driver **all = families(drivers, kind);
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->member_count; i++) {
		if (drivers->members[i]->kind == kind && !drivers->members[i]->slot->off && gate_is_open(drivers->members[i]))
			note_name(names, drivers->members[i]->name);
	}
	pthread_rwlock_unlock(&drivers->table);
	for (size_t i = 0; all[i]; i++)
		family_list(all[i], note_name, names, NULL);
}
