/*
 * volume.c - the rules for drivers of volumes.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "kit.h"

enum { THREADS = 8, ROUNDS = 16 };

static int count_named(void *arg, const char *name)
{
	const char **wanted = arg;
	if (strcmp(name, wanted[0]) == 0)
		wanted[1] = wanted[1] ? "twice" : "once";
	return 0;
}

/* How often the list has the name: 0, 1, 2 for more; -1: it fails. */
static int listed(struct kit *kit, const char *name, struct gt_error *err)
{
	const char *wanted[2] = { name, NULL };
	if (gt_vol_list(kit->driver, count_named, wanted, err) < 0)
		return -1;
	return !wanted[1] ? 0 : strcmp(wanted[1], "once") == 0 ? 1 : 2;
}

static void creation(struct kit *kit, struct gt_error *err)
{
	AUTO_JSON json_t *odd = json_pack("{s:s}", "no-such-option", "x");
	check(kit, gt_vol_create(kit->driver, "kit-a", NULL, err) == 0, err, "create makes a volume");
	check(kit, gt_vol_create(kit->driver, "kit-a", NULL, err) == 0, err, "create of what is there with the same options is success");
	check(kit, listed(kit, "kit-a", err) == 1, err, "list has it once");
	check_refused(kit, gt_vol_create(kit->driver, "kit-odd", odd, err), GT_INVALID, "no-such-option", err, "create refuses an unknown option by name");
	check(kit, listed(kit, "kit-odd", err) == 0, err, "what was refused is not there");
}

static void looking(struct kit *kit, struct gt_error *err)
{
	struct gantry_volume_info info = { .size = sizeof info };
	struct gantry_usage usage = { .size = sizeof usage };
	check(kit, gt_vol_inspect(kit->driver, "kit-a", &info, err) == 0 && (!info.mountpoint[0] || info.mountpoint[0] == '/'), err,
	      "inspect tells of it, with an absolute mountpoint or none");
	check_refused(kit, gt_vol_inspect(kit->driver, "kit-unknown", &info, err), GT_NOT_FOUND, NULL, err, "inspect of an unknown volume: not found");
	if (!(gt_driver_capabilities(kit->driver) & GANTRY_VOL_USAGE)) {
		skip(kit, "the capability is not declared", "usage");
		return;
	}
	check(kit, gt_vol_usage(kit->driver, "kit-a", &usage, err) == 0 && usage.bytes >= -1, err, "usage tells bytes, or that they are unknown");
	check_refused(kit, gt_vol_usage(kit->driver, "kit-unknown", &usage, err), GT_NOT_FOUND, NULL, err, "usage of an unknown volume: not found");
}

static bool is_disk(const char *path)
{
	struct stat info;
	return stat(path, &info) == 0 && S_ISBLK(info.st_mode);
}

/* What is described can be mounted: tried for what needs nothing outside this host. */
static void try_mount(struct kit *kit, const struct gantry_mount *described)
{
	AUTO_FREE char *target = gt_xasprintf("%s/target", kit->work);
	bool bind = strcmp(described->type, "bind") == 0;
	if (!bind && strcmp(described->type, "tmpfs") != 0 && !is_disk(described->source)) {
		skip(kit, "only bind, tmpfs and what is on a block device are tried", "what mount describes can be mounted");
		return;
	}
	mkdir(target, 0700);
	bool ok = mount(described->source, target, bind ? NULL : described->type, bind ? MS_BIND : 0, bind ? NULL : described->options) == 0;
	if (ok)
		umount2(target, 0);
	if (!check(kit, ok, NULL, "what mount describes can be mounted"))
		diagnose("type %s, source %s, options %s", described->type, described->source, described->options);
	rmdir(target);
}

static void mounting(struct kit *kit, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount), *again = gt_xcalloc(1, sizeof *again);
	mount->size = again->size = sizeof *mount;
	if (!check(kit, gt_vol_mount(kit->driver, "kit-a", "kit-container-1", false, mount, err) == 0 && mount->type[0], err, "mount describes a mount"))
		return;
	check(kit, gt_vol_mount(kit->driver, "kit-a", "kit-container-1", false, again, err) == 0 && strcmp(mount->source, again->source) == 0, err,
	      "mount again for the same container describes the same");
	try_mount(kit, mount);
	check(kit, gt_vol_mount(kit->driver, "kit-a", "kit-container-2", true, again, err) == 0, err, "mount for a second container, read-only");
	check(kit, gt_vol_release(kit->driver, "kit-a", "kit-container-2", err) == 0, err, "release");
	check(kit, gt_vol_release(kit->driver, "kit-a", "kit-container-2", err) == 0, err, "release of what is released is success");
	check(kit, gt_vol_release(kit->driver, "kit-a", "kit-container-3", err) == 0, err, "release without mount is success");
	check_refused(kit, gt_vol_mount(kit->driver, "kit-unknown", "kit-container-1", false, again, err), GT_NOT_FOUND, NULL, err,
		      "mount of an unknown volume: not found");
}

/* As at a start of the daemon, whose containers live on. */
static void telling_uses(struct kit *kit, struct gt_error *err)
{
	const struct gantry_volume_use use = { .size = sizeof use, .name = "kit-a", .container_id = "kit-container-1" };
	if (!gt_vol_counts(kit->driver)) {
		skip(kit, "the driver does not count", "reconcile with a container that lives");
		return;
	}
	check(kit, gt_vol_reconcile(kit->driver, &use, 1, err) == 0, err, "reconcile with a container that lives");
}

static void restarting(struct kit *kit, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	mount->size = sizeof *mount;
	if (!restart(kit))
		return;
	check(kit, listed(kit, "kit-a", err) == 1, err, "after a restart the volume is there");
	telling_uses(kit, err);
	check(kit, gt_vol_create(kit->driver, "kit-a", NULL, err) == 0, err, "create of it is success still");
	check(kit, gt_vol_mount(kit->driver, "kit-a", "kit-container-1", false, mount, err) == 0, err, "it can be mounted");
	check(kit, gt_vol_release(kit->driver, "kit-a", "kit-container-1", err) == 0, err, "what was mounted before the restart can be released");
}

/* With a container that has it mounted. */
static void reloading(struct kit *kit, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	mount->size = sizeof *mount;
	check(kit, gt_vol_mount(kit->driver, "kit-a", "kit-container-1", false, mount, err) == 0, err, "mount before a reload");
	if (!reload(kit))
		return;
	check(kit, listed(kit, "kit-a", err) == 1, err, "after a reload the volume is there");
	check(kit, gt_vol_mount(kit->driver, "kit-a", "kit-container-2", true, mount, err) == 0, err, "it can be mounted for another container");
	check(kit, gt_vol_release(kit->driver, "kit-a", "kit-container-2", err) == 0 && gt_vol_release(kit->driver, "kit-a", "kit-container-1", err) == 0, err,
	      "and released for both");
}

static void removal(struct kit *kit, struct gt_error *err)
{
	struct gantry_volume_info info = { .size = sizeof info };
	check(kit, gt_vol_remove(kit->driver, "kit-a", err) == 0, err, "remove");
	check(kit, gt_vol_remove(kit->driver, "kit-a", err) == 0, err, "remove of what is gone is success");
	check(kit, gt_vol_remove(kit->driver, "kit-unknown", err) == 0, err, "remove of what never was is success");
	check(kit, listed(kit, "kit-a", err) == 0, err, "list has it no more");
	check_refused(kit, gt_vol_inspect(kit->driver, "kit-a", &info, err), GT_NOT_FOUND, NULL, err, "inspect of it: not found");
}

static bool one_life(struct kit *kit, unsigned number)
{
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_FREE char *name = gt_xasprintf("kit-t%u", number);
	struct gt_error err = { 0 };
	mount->size = sizeof *mount;
	for (int round = 0; round < ROUNDS; round++) {
		if (gt_vol_create(kit->driver, name, NULL, &err) < 0 || gt_vol_mount(kit->driver, name, "kit-container-1", false, mount, &err) < 0 ||
		    listed(kit, name, &err) != 1 || gt_vol_release(kit->driver, name, "kit-container-1", &err) < 0 ||
		    gt_vol_remove(kit->driver, name, &err) < 0) {
			diagnose("volume %s, round %d: %s", name, round, err.message[0] ? err.message : "it is not listed once");
			return false;
		}
	}
	return true;
}

void check_volume_driver(struct kit *kit)
{
	struct gt_error err = { 0 };
	check(kit, listed(kit, "kit-a", &err) == 0, &err, "a new driver has no volumes of ours");
	creation(kit, &err);
	looking(kit, &err);
	mounting(kit, &err);
	restarting(kit, &err);
	reloading(kit, &err);
	check(kit, at_once(kit, THREADS, one_life), NULL, "%d threads with a volume each do not disturb one another", THREADS);
	removal(kit, &err);
}
