/*
 * @NAME@.c - volumes as directories below this driver's own state directory.
 *
 * A start to build on: it keeps every rule of <gantry/plugin.h>, as `make check` shows. What it keeps in a directory you may keep wherever you like;
 * mount() is where containers are told how to reach it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gantry/plugin.h>

struct driver {
	const struct gantry_host *host;
	int volumes;            /* the directory that holds them, open */
};

/* ---- open and close ---- */

static void driver_close(void *context)
{
	struct driver *driver = context;
	close(driver->volumes);
	free(driver);
}

static int driver_open(const struct gantry_host *host, const char *name, void **context, struct gantry_error *err)
{
	struct driver *driver = calloc(1, sizeof *driver);
	(void)name;
	if (!driver)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "memory for the driver");
	driver->host = host;
	driver->volumes = open(host->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (driver->volumes < 0) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", host->state_dir);
		free(driver);
		return -1;
	}
	*context = driver;
	return 0;
}

/* ---- one volume ---- */

static int find(const struct driver *driver, const char *name, struct gantry_error *err)
{
	struct stat info;
	if (fstatat(driver->volumes, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode))
		return 0;
	return gantry_fail(err, GANTRY_E_NOT_FOUND, "volume %s: there is none of that name", name);
}

static int volume_create(void *context, const struct gantry_call *call, const char *name, const struct gantry_options *options,
			 struct gantry_error *err)
{
	struct driver *driver = context;
	(void)call;
	for (uint32_t i = 0; options && i < options->count; i++)
		return gantry_fail(err, GANTRY_E_INVALID, "volume %s: unknown option \"%s\" (there are none)", name, options->items[i].key);
	if (mkdirat(driver->volumes, name, 0755) < 0 && errno != EEXIST)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: make its directory", name);
	return 0;
}

/* Empties and removes a directory, by descriptors: what a container left in it is never followed. */
static int remove_tree(int parent, const char *name)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return errno == ENOENT ? 0 : -1;
	}
	int rc = 0;
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir));) {
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			rc = remove_tree(fd, entry->d_name);
	}
	closedir(dir);
	return rc == 0 && (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) ? 0 : -1;
}

static int volume_remove(void *context, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	struct driver *driver = context;
	(void)call;
	if (remove_tree(driver->volumes, name) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: remove its directory", name);
	return 0;
}

/* ---- for containers ---- */

static int volume_mount(void *context, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
			struct gantry_mount *mount, struct gantry_error *err)
{
	struct driver *driver = context;
	(void)call, (void)container_id;
	if (find(driver, name, err) < 0)
		return -1;
	snprintf(mount->type, sizeof mount->type, "bind");
	if (snprintf(mount->source, sizeof mount->source, "%s/%s", driver->host->state_dir, name) >= (int)sizeof mount->source)
		return gantry_fail(err, GANTRY_E_INVALID, "volume %s: its path is too long", name);
	snprintf(mount->options, sizeof mount->options, "%s", read_only ? "bind,ro" : "bind");
	return 0;
}

static int volume_release(void *context, const struct gantry_call *call, const char *name, const char *container_id, struct gantry_error *err)
{
	(void)context, (void)call, (void)name, (void)container_id, (void)err;
	return 0; /* a bind mount needs nothing undone */
}

/* ---- for people ---- */

static int volume_list(void *context, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct driver *driver = context;
	int fd = openat(driver->volumes, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	(void)call;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "list the volumes");
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (entry->d_name[0] != '.' && visit(arg, entry->d_name))
			break;
	}
	closedir(dir);
	return 0;
}

static int volume_inspect(void *context, const struct gantry_call *call, const char *name, struct gantry_volume_info *info, struct gantry_error *err)
{
	struct driver *driver = context;
	(void)call;
	if (find(driver, name, err) < 0)
		return -1;
	snprintf(info->mountpoint, sizeof info->mountpoint, "%s/%s", driver->host->state_dir, name);
	return 0;
}

/* ---- what the engine sees ---- */

static const struct gantry_volume_ops OPS = {
	.size = sizeof OPS, .open = driver_open, .close = driver_close, .create = volume_create, .remove = volume_remove, .mount = volume_mount,
	.release = volume_release, .list = volume_list, .inspect = volume_inspect,
};
static const struct gantry_driver DRIVERS[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "@NAME@", .ops = &OPS },
};
GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR,
	.name = "@NAME@", .version = "0.1", .description = "volumes as directories",
	.drivers = DRIVERS, .driver_count = 1, .driver_size = sizeof DRIVERS[0],
};
