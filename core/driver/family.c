/*
 * family.c - volume drivers that come into being while the daemon runs: the members of a driver with GANTRY_VOL_FAMILY.
 *
 * A member has the operations, keys and capabilities of its family, and a name, a host table and directories of its own. It is opened when its name is first
 * asked for and stays until the drivers are freed. One lock guards the list and is held while a member is opened, which asks no server for anything.
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
	return driver->kind == GANTRY_VOLUME && (driver->capabilities & GANTRY_VOL_FAMILY);
}

/* A path component that no document of the same directory has: they end with ".json". */
static bool name_ok(const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
	return len > 0 && len <= MAX_MEMBER_NAME && !name[len] && name[0] != '_' && name[0] != '-';
}

static void member_free(struct gt_driver *member)
{
	driver_close(member);
	free((char *)(uintptr_t)member->name);
	free(member->state_dir);
	free(member->run_dir);
	free(member);
}

/* With the lock held. */
static struct gt_driver *open_member(const struct gt_driver *family, const char *name, struct gt_error *err)
{
	struct gt_drivers *drivers = family->all;
	struct gt_config places = { .root = drivers->root, .run = drivers->run, .fsync = drivers->fsync };
	struct gt_driver *member = gt_xcalloc(1, sizeof *member);
	member->all = drivers;
	member->plugin = family->plugin;
	member->index = family->index;
	member->is_member = true;
	member->kind = family->kind;
	member->name = gt_xstrdup(name);
	member->capabilities = family->capabilities & ~GANTRY_VOL_FAMILY;
	member->ops = family->ops;
	if (driver_open(member, &places, err) == 0) {
		drivers->members = gt_xrealloc(drivers->members, (drivers->member_count + 1) * sizeof *drivers->members);
		drivers->members[drivers->member_count++] = member;
		return member;
	}
	/* Nothing is left of a name that nobody has. */
	if (member->state_dir)
		rmdir(member->state_dir);
	if (member->run_dir)
		rmdir(member->run_dir);
	member_free(member);
	return NULL;
}

/* With the lock held. */
static struct gt_driver *known_member(const struct gt_drivers *drivers, enum gantry_kind kind, const char *name)
{
	for (size_t i = 0; i < drivers->member_count; i++) {
		if (drivers->members[i]->kind == kind && strcmp(drivers->members[i]->name, name) == 0)
			return drivers->members[i];
	}
	return NULL;
}

/* The next family that is open; *plugin and *at begin with 0. */
static struct gt_driver *next_family(const struct gt_drivers *drivers, enum gantry_kind kind, size_t *plugin, size_t *at)
{
	for (; *plugin < drivers->plugin_count; ++*plugin, *at = 0) {
		while (*at < drivers->plugins[*plugin]->driver_count) {
			struct gt_driver *driver = &drivers->plugins[*plugin]->drivers[(*at)++];
			if (driver->kind == kind && driver->open && is_family(driver))
				return driver;
		}
	}
	return NULL;
}

struct gt_driver *family_find(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, struct gt_error *err)
{
	size_t plugin = 0, at = 0;
	struct gt_driver *family;
	gt_fail(err, GT_NOT_FOUND, "no family has a driver of that name");
	if (kind != GANTRY_VOLUME || !name_ok(name))
		return NULL;
	pthread_mutex_lock(&drivers->members_lock);
	struct gt_driver *member = known_member(drivers, kind, name);
	while (!member && (family = next_family(drivers, kind, &plugin, &at)) != NULL) {
		if (strcmp(family->name, name) == 0)
			continue; /* that is the family itself */
		if (drivers->member_count >= MAX_MEMBERS)
			gt_fail(err, GT_TOO_LARGE, "there are %d drivers of families already", MAX_MEMBERS);
		else
			member = open_member(family, name, err);
		if (!member && err->kind != GT_NOT_FOUND)
			break;
	}
	pthread_mutex_unlock(&drivers->members_lock);
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
	size_t plugin = 0, at = 0;
	struct gt_driver *family;
	pthread_mutex_lock(&drivers->members_lock);
	for (size_t i = 0; i < drivers->member_count; i++) {
		if (drivers->members[i]->kind == kind)
			note_name(names, drivers->members[i]->name);
	}
	pthread_mutex_unlock(&drivers->members_lock);
	while ((family = next_family(drivers, kind, &plugin, &at)) != NULL)
		family_list(family, note_name, names, NULL);
}

void family_free(struct gt_drivers *drivers)
{
	for (size_t i = drivers->member_count; i-- > 0;)
		member_free(drivers->members[i]);
	free(drivers->members);
	drivers->members = NULL;
	drivers->member_count = 0;
	pthread_mutex_destroy(&drivers->members_lock);
}
