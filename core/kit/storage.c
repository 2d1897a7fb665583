/*
 * storage.c - the rules for drivers of storage.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "kit.h"

enum { THREADS = 8, ROUNDS = 8 };

struct changes {
	char text[512];
};

static int note_change(void *arg, int kind, const char *path)
{
	static const char LETTERS[] = "CAD"; /* Docker's numbers: 0 changed, 1 added, 2 deleted */
	struct changes *changes = arg;
	size_t len = strlen(changes->text);
	snprintf(changes->text + len, sizeof changes->text - len, "%c %s;", kind >= 0 && kind < 3 ? LETTERS[kind] : '?', path);
	return 0;
}

static int count_named(void *arg, const char *name)
{
	const char **wanted = arg;
	if (strcmp(name, wanted[0]) == 0)
		wanted[1] = wanted[1] ? "twice" : "once";
	return 0;
}

static int listed(struct kit *kit, const char *id, struct gt_error *err)
{
	const char *wanted[2] = { id, NULL };
	if (gt_layer_list(kit->driver, count_named, wanted, err) < 0)
		return -1;
	return !wanted[1] ? 0 : strcmp(wanted[1], "once") == 0 ? 1 : 2;
}

static bool write_file(const char *directory, const char *name, const char *text)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", directory, name);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static bool is_sealed(struct kit *kit, const char *id, struct gt_error *err)
{
	bool sealed = false;
	return gt_layer_lookup(kit->driver, id, &sealed, err) == 0 && sealed;
}

/* An image layer with two files. */
static bool base_layer(struct kit *kit, struct gt_error *err)
{
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	bool sealed = true;
	dir->size = sizeof *dir;
	check(kit, gt_layer_prepare(kit->driver, GANTRY_LAYER_IMAGE, "kit-base", NULL, NULL, err) == 0, err, "prepare an image layer");
	check(kit, gt_layer_lookup(kit->driver, "kit-base", &sealed, err) == 0 && !sealed, err, "lookup: it is there and not sealed");
	if (!check(kit, gt_layer_dir(kit->driver, "kit-base", dir, err) == 0 && dir->path[0] == '/', err, "layer_dir gives an absolute path"))
		return false;
	check(kit, dir->whiteouts == GANTRY_WHITEOUT_DELETE || dir->whiteouts == GANTRY_WHITEOUT_OVERLAY, NULL, "layer_dir says how deletions are written");
	if (!check(kit, write_file(dir->path, "stays", "old") && write_file(dir->path, "goes", "old"), NULL, "files can be written there"))
		return false;
	check(kit, gt_layer_prepare(kit->driver, GANTRY_LAYER_IMAGE, "kit-base", NULL, NULL, err) == 0, err, "prepare again, before it is sealed, is success");
	AUTO_FREE char *left = gt_xasprintf("%s/stays", dir->path);
	if (gt_layer_dir(kit->driver, "kit-base", dir, err) == 0)
		check(kit, access(left, F_OK) < 0, NULL, "and empties it");
	if (!write_file(dir->path, "stays", "old") || !write_file(dir->path, "goes", "old"))
		return false;
	check(kit, gt_layer_commit(kit->driver, "kit-base", err) == 0, err, "commit seals it");
	check(kit, gt_layer_commit(kit->driver, "kit-base", err) == 0, err, "commit of what is sealed is success");
	check(kit, is_sealed(kit, "kit-base", err), err, "lookup: it is sealed");
	return check(kit, gt_layer_prepare(kit->driver, GANTRY_LAYER_IMAGE, "kit-base", NULL, NULL, err) == 0 && is_sealed(kit, "kit-base", err), err,
		     "prepare of what is sealed is success and leaves it sealed");
}

static bool mount_described(const struct gantry_mount *mount_, const char *target)
{
	bool bind = strcmp(mount_->type, "bind") == 0;
	return mount(mount_->source[0] ? mount_->source : mount_->type, target, bind ? NULL : mount_->type, bind ? MS_BIND : 0,
		     bind ? NULL : mount_->options) == 0;
}

/* Writes, changes and deletes through the described mount, then compares what diff tells. */
static void changing(struct kit *kit, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *described = gt_xcalloc(1, sizeof *described);
	AUTO_FREE char *target = gt_xasprintf("%s/target", kit->work);
	AUTO_FREE char *goes = gt_xasprintf("%s/goes", target);
	struct changes changes = { 0 };
	described->size = sizeof *described;
	if (!check(kit, gt_layer_mount(kit->driver, "kit-own", false, described, err) == 0 && described->type[0], err, "mount describes a mount"))
		return;
	mkdir(target, 0700);
	if (!check(kit, mount_described(described, target), NULL, "what mount describes can be mounted")) {
		diagnose("type %s, source %s, options %.300s", described->type, described->source, described->options);
		return;
	}
	check(kit, access(goes, F_OK) == 0, NULL, "it shows the parent's files");
	bool written = write_file(target, "new", "new") && write_file(target, "stays", "changed") && unlink(goes) == 0;
	umount2(target, 0);
	check(kit, written, NULL, "it can be written to");
	check(kit, gt_layer_diff(kit->driver, "kit-own", note_change, &changes, err) == 0 && strcmp(changes.text, "D /goes;A /new;C /stays;") == 0, err,
	      "diff tells what was deleted, added and changed, in order of names");
	if (changes.text[0])
		diagnose("diff: %s", changes.text);
	rmdir(target);
}

static void writable_layer(struct kit *kit, struct gt_error *err)
{
	struct changes changes = { 0 };
	struct gantry_usage usage = { .size = sizeof usage };
	check(kit, gt_layer_prepare(kit->driver, GANTRY_LAYER_WRITABLE, "kit-own", "kit-base", NULL, err) == 0, err, "prepare a writable layer");
	check(kit, gt_layer_prepare(kit->driver, GANTRY_LAYER_WRITABLE, "kit-own", "kit-base", NULL, err) == 0, err, "prepare of it again is success");
	check_refused(kit, gt_layer_prepare(kit->driver, GANTRY_LAYER_WRITABLE, "kit-own", NULL, NULL, err), GT_CONFLICT, NULL, err,
		      "prepare of it with another parent: conflict");
	check_refused(kit, gt_layer_prepare(kit->driver, GANTRY_LAYER_WRITABLE, "kit-orphan", "kit-unknown", NULL, err), GT_NOT_FOUND, NULL, err,
		      "prepare with an unknown parent: not found");
	check(kit, listed(kit, "kit-orphan", err) == 0, err, "what was refused is not there");
	check(kit, gt_layer_diff(kit->driver, "kit-own", note_change, &changes, err) == 0 && !changes.text[0], err, "diff of a new layer is empty");
	changing(kit, err);
	check(kit, gt_layer_usage(kit->driver, "kit-own", &usage, err) == 0 && usage.bytes >= -1, err, "usage tells bytes, or that they are unknown");
}

static void unknown_layers(struct kit *kit, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *described = gt_xcalloc(1, sizeof *described);
	struct changes changes = { 0 };
	struct gantry_usage usage = { .size = sizeof usage };
	bool sealed;
	described->size = sizeof *described;
	check_refused(kit, gt_layer_lookup(kit->driver, "kit-unknown", &sealed, err), GT_NOT_FOUND, NULL, err, "lookup of an unknown layer: not found");
	check_refused(kit, gt_layer_mount(kit->driver, "kit-unknown", false, described, err), GT_NOT_FOUND, NULL, err, "mount of one: not found");
	check_refused(kit, gt_layer_diff(kit->driver, "kit-unknown", note_change, &changes, err), GT_NOT_FOUND, NULL, err, "diff of one: not found");
	check_refused(kit, gt_layer_usage(kit->driver, "kit-unknown", &usage, err), GT_NOT_FOUND, NULL, err, "usage of one: not found");
	check(kit, gt_layer_remove(kit->driver, "kit-unknown", err) == 0, err, "remove of one is success");
}

static void restarting(struct kit *kit, struct gt_error *err)
{
	struct changes changes = { 0 };
	if (!restart(kit))
		return;
	check(kit, is_sealed(kit, "kit-base", err), err, "after a restart the sealed layer is sealed");
	check(kit, listed(kit, "kit-base", err) == 1 && listed(kit, "kit-own", err) == 1, err, "list has both layers once");
	check(kit, gt_layer_diff(kit->driver, "kit-own", note_change, &changes, err) == 0, err, "the writable layer's changes can be told");
}

static void reloading(struct kit *kit, struct gt_error *err)
{
	AUTO_FREE struct gantry_mount *described = gt_xcalloc(1, sizeof *described);
	described->size = sizeof *described;
	if (!reload(kit))
		return;
	check(kit, is_sealed(kit, "kit-base", err) && listed(kit, "kit-own", err) == 1, err, "after a reload the layers are as they were");
	check(kit, gt_layer_mount(kit->driver, "kit-own", false, described, err) == 0, err, "the writable layer can be mounted");
}

static bool one_life(struct kit *kit, unsigned number)
{
	AUTO_FREE char *id = gt_xasprintf("kit-t%u", number);
	AUTO_FREE struct gantry_mount *described = gt_xcalloc(1, sizeof *described);
	struct gt_error err = { 0 };
	described->size = sizeof *described;
	for (int round = 0; round < ROUNDS; round++) {
		if (gt_layer_prepare(kit->driver, GANTRY_LAYER_WRITABLE, id, "kit-base", NULL, &err) < 0 ||
		    gt_layer_mount(kit->driver, id, false, described, &err) < 0 || listed(kit, id, &err) != 1 ||
		    gt_layer_remove(kit->driver, id, &err) < 0) {
			diagnose("layer %s, round %d: %s", id, round, err.message[0] ? err.message : "it is not listed once");
			return false;
		}
	}
	return true;
}

static void removal(struct kit *kit, struct gt_error *err)
{
	check_refused(kit, gt_layer_remove(kit->driver, "kit-base", err), GT_CONFLICT, NULL, err, "remove of a layer that is another's parent: conflict");
	check(kit, gt_layer_remove(kit->driver, "kit-own", err) == 0, err, "remove the writable layer");
	check(kit, gt_layer_remove(kit->driver, "kit-own", err) == 0, err, "remove of what is gone is success");
	check(kit, gt_layer_remove(kit->driver, "kit-base", err) == 0, err, "remove the image layer");
	check(kit, listed(kit, "kit-base", err) == 0 && listed(kit, "kit-own", err) == 0, err, "list has them no more");
}

void check_storage_driver(struct kit *kit)
{
	struct gt_error err = { 0 };
	check(kit, listed(kit, "kit-base", &err) == 0, &err, "a new driver has no layers of ours");
	if (!base_layer(kit, &err))
		return;
	writable_layer(kit, &err);
	unknown_layers(kit, &err);
	restarting(kit, &err);
	reloading(kit, &err);
	check(kit, at_once(kit, THREADS, one_life), NULL, "%d threads with a layer each do not disturb one another", THREADS);
	removal(kit, &err);
}
