/*
 * vol-loop - volumes with a hard size: each is an image file with ext4 in it, which containers reach through a loop device.
 *
 * Where things are, and who cleans them up when the daemon dies at any point:
 *
 *     <state_dir>/NAME    the image, which is all there is of a volume: its size is the volume's. It appears whole, by one linkat() (disk.c).
 *     /dev/loopN          from the first mount() of a volume to its last release(). It outlives the daemon, as the containers do. After a crash reconcile()
 *                         is told who has volumes still, and gives back the devices of the others.
 *     mounts              none on the host. mount() describes "ext4 on /dev/loopN", and the engine mounts that in the container's namespace. So
 *                         the kernel counts for us: a device that is given back while it is mounted goes with the last of these namespaces.
 *
 * Two loop devices on one image would be two writers that know nothing of each other, and destroy the file system. So a volume has one device, which its
 * containers share, and before one is made the kernel is asked whether there is one: that needs no record that could be wrong after a crash.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gantry/plugin.h>

#include "disk.h"

/* A volume in use by a container. */
struct use {
	struct use *next;
	char *volume, *container;
};

struct driver {
	const struct gantry_host *host;
	int images;                     /* the state directory, open */
	uint64_t default_size;
	const char *mount_options;
	pthread_mutex_t lock;           /* of what follows, and of all loop devices of ours: held from a look at them to the change */
	struct use *uses;
	bool reconciled;                /* `uses` tells all: those of an earlier life are known */
};

/* ---- who uses what; under the lock ------------------------------------------------------ */

static struct use **find_use(struct driver *driver, const char *volume, const char *container)
{
	struct use **use = &driver->uses;
	while (*use && (strcmp((*use)->volume, volume) || (container && strcmp((*use)->container, container))))
		use = &(*use)->next;
	return use;
}

static bool is_used(struct driver *driver, const char *volume)
{
	return *find_use(driver, volume, NULL) != NULL;
}

/* container NULL: any one. */
static void drop_use(struct driver *driver, const char *volume, const char *container)
{
	struct use **at = find_use(driver, volume, container), *use = *at;
	if (!use)
		return;
	*at = use->next;
	free(use->volume);
	free(use->container);
	free(use);
}

/* Mounts of one volume for one container are one use, however many there are: the first release() ends all. */
static int add_use(struct driver *driver, const char *volume, const char *container, struct gantry_error *err)
{
	struct use *use = NULL;
	if (*find_use(driver, volume, container))
		return 0;
	use = calloc(1, sizeof *use);
	if (use && (use->volume = strdup(volume)) && (use->container = strdup(container))) {
		use->next = driver->uses;
		driver->uses = use;
		return 0;
	}
	if (use)
		free(use->volume);
	free(use);
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, ENOMEM, "volume %s: remember its container", volume);
}

static uint64_t round_up(uint64_t bytes)
{
	return (bytes + DISK_STEP - 1) / DISK_STEP * DISK_STEP;
}

/* ---- open and close ----------------------------------------------------------------------- */

static void driver_close(void *context)
{
	struct driver *driver = context;
	while (driver->uses)            /* forgotten only: the containers live on, and so do their devices */
		drop_use(driver, driver->uses->volume, driver->uses->container);
	pthread_mutex_destroy(&driver->lock);
	close(driver->images);
	free(driver);
}

static int driver_open(const struct gantry_host *host, const char *name, void **context, struct gantry_error *err)
{
	(void)name;
	if (access("/dev/loop-control", R_OK | W_OK) < 0)
		return gantry_fail_errno(err, GANTRY_E_UNSUPPORTED, errno, "/dev/loop-control (is the module loop loaded?)");
	struct driver *driver = calloc(1, sizeof *driver);
	if (!driver)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "memory for the driver");
	driver->host = host;
	driver->default_size = round_up(strtoull(host->config(host, "size"), NULL, 10));       /* the engine has checked it: plain bytes, within KEYS' range */
	driver->mount_options = strcmp(host->config(host, "discard"), "true") == 0 ? "discard" : "";
	/* An engine before 1.2 never calls reconcile(). */
	driver->reconciled = host->abi_minor < 2;
	driver->images = open(host->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (driver->images < 0) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", host->state_dir);
		free(driver);
		return -1;
	}
	pthread_mutex_init(&driver->lock, NULL);
	*context = driver;
	return 0;
}

/* ---- create and remove ---------------------------------------------------------------------- */

/* The engine has checked names. What is listed here too is ".state", which is its own (plugin.h). */
static bool is_name(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/');
}

static int find_image(const struct driver *driver, const char *name, struct stat *image, struct gantry_error *err)
{
	if (is_name(name) && fstatat(driver->images, name, image, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(image->st_mode))
		return 0;
	return gantry_fail(err, GANTRY_E_NOT_FOUND, "volume %s: there is none of that name", name);
}

/* "64m": bytes, or with a suffix k, m, g, t. */
static bool parse_size(const char *text, uint64_t *bytes)
{
	static const char SUFFIXES[] = "kmgt";
	char *end = NULL;
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (errno)
		return false;
	const char *suffix = *end ? strchr(SUFFIXES, *end | 0x20) : NULL;
	if (*end && (!suffix || end[1]))
		return false;
	unsigned shift = suffix ? 10 * (unsigned)(suffix - SUFFIXES + 1) : 0;
	if (*bytes > UINT64_MAX >> shift)
		return false;
	*bytes <<= shift;
	return true;
}

/* *bytes is 0 where no size is asked for. */
static int read_options(const char *name, const struct gantry_options *options, uint64_t *bytes, struct gantry_error *err)
{
	*bytes = 0;
	for (uint32_t i = 0; options && i < options->count; i++) {
		const char *key = options->items[i].key, *value = options->items[i].value;
		if (strcmp(key, "size"))
			return gantry_fail(err, GANTRY_E_INVALID, "volume %s: unknown option \"%s\" (there is \"size\")", name, key);
		if (!parse_size(value, bytes) || *bytes < DISK_MIN || *bytes > DISK_MAX)
			return gantry_fail(err, GANTRY_E_INVALID, "volume %s: size %s: wanted %lluM to %lluT", name, value, DISK_MIN >> 20, DISK_MAX >> 40);
		*bytes = round_up(*bytes);
	}
	return 0;
}

static int volume_create(void *context, const struct gantry_call *call, const char *name, const struct gantry_options *options,
			 struct gantry_error *err)
{
	struct driver *driver = context;
	struct stat image = { 0 };
	struct gantry_error ignored = { .size = sizeof ignored };
	uint64_t bytes;
	(void)call;
	if (read_options(name, options, &bytes, err) < 0)
		return -1;
	if (!is_name(name))
		return gantry_fail(err, GANTRY_E_INVALID, "volume %s: its name cannot be a file's", name);
	if (find_image(driver, name, &image, &ignored) < 0)
		return disk_make(driver->images, name, bytes ? bytes : driver->default_size, err);
	/* Who asks for no size takes what there is, so the default may change under existing volumes. */
	if (bytes && bytes != (uint64_t)image.st_size)
		return gantry_fail(err, GANTRY_E_CONFLICT, "volume %s: it is there already, with a size of %jd bytes", name, (intmax_t)image.st_size);
	return 0;
}

static int volume_remove(void *context, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	struct driver *driver = context;
	(void)call;
	if (!is_name(name))
		return 0;
	pthread_mutex_lock(&driver->lock);
	/* The device first: once the image has no name, nobody would find it. */
	int rc = disk_detach(driver->images, name, err);
	if (rc == 0 && unlinkat(driver->images, name, 0) < 0 && errno != ENOENT)
		rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: remove its image", name);
	while (rc == 0 && is_used(driver, name))        /* nothing of it is to be held against the next one of that name */
		drop_use(driver, name, NULL);
	pthread_mutex_unlock(&driver->lock);
	return rc;
}

/* ---- for containers --------------------------------------------------------------------------- */

static int volume_mount(void *context, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
			struct gantry_mount *mount, struct gantry_error *err)
{
	struct driver *driver = context;
	struct stat image;
	char device[DISK_DEVICE_MAX] = "";
	/* Not "ro": that would be said of the file system, which other containers may write to. The engine makes the container's mount read-only. */
	(void)call, (void)read_only;
	if (find_image(driver, name, &image, err) < 0)
		return -1;
	pthread_mutex_lock(&driver->lock);
	bool was_used = *find_use(driver, name, container_id);
	int rc = add_use(driver, name, container_id, err);
	if (rc == 0 && (rc = disk_attach(driver->images, name, device, err)) < 0 && !was_used)
		drop_use(driver, name, container_id);
	pthread_mutex_unlock(&driver->lock);
	if (rc < 0)
		return -1;
	mount->flags = GANTRY_MOUNT_IDMAP;
	snprintf(mount->type, sizeof mount->type, "ext4");
	snprintf(mount->source, sizeof mount->source, "%s", device);
	snprintf(mount->options, sizeof mount->options, "%s", driver->mount_options);
	return 0;
}

static int volume_release(void *context, const struct gantry_call *call, const char *name, const char *container_id, struct gantry_error *err)
{
	struct driver *driver = context;
	int rc = 0;
	(void)call;
	if (!is_name(name))
		return 0;
	pthread_mutex_lock(&driver->lock);
	drop_use(driver, name, container_id);
	/* Before reconcile() a container of an earlier life may be about to mount the device. */
	if (driver->reconciled && !is_used(driver, name))
		rc = disk_detach(driver->images, name, err);
	pthread_mutex_unlock(&driver->lock);
	return rc;
}

/* ---- for people ---------------------------------------------------------------------------------- */

static int volume_list(void *context, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct driver *driver = context;
	struct stat image;
	struct gantry_error ignored = { .size = sizeof ignored };
	int fd = openat(driver->images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	(void)call;
	if (!dir) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "list the volumes");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (find_image(driver, entry->d_name, &image, &ignored) == 0 && visit(arg, entry->d_name))
			break;
	}
	closedir(dir);
	return 0;
}

static int volume_inspect(void *context, const struct gantry_call *call, const char *name, struct gantry_volume_info *info, struct gantry_error *err)
{
	struct driver *driver = context;
	struct stat image = { 0 };
	struct statx times;
	char device[DISK_DEVICE_MAX];
	(void)call;
	if (find_image(driver, name, &image, err) < 0)
		return -1;
	if (statx(driver->images, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &times) == 0 && times.stx_mask & STATX_BTIME)
		info->created_ns = times.stx_btime.tv_sec * 1000000000ll + times.stx_btime.tv_nsec;
	/* No mountpoint: the host has none. `status` is of 1.2, which an older engine's struct has not. */
	if (info->size < offsetof(struct gantry_volume_info, status) + sizeof info->status)
		return 0;
	pthread_mutex_lock(&driver->lock);
	bool attached = disk_device(&image, name, device);
	pthread_mutex_unlock(&driver->lock);
	if (attached)
		snprintf(info->status, sizeof info->status, "{\"size\":%jd,\"device\":\"%s\"}", (intmax_t)image.st_size, device);
	else
		snprintf(info->status, sizeof info->status, "{\"size\":%jd}", (intmax_t)image.st_size);
	return 0;
}

/* What the image takes on the host. With discard that follows what is in the volume. */
static int volume_usage(void *context, const struct gantry_call *call, const char *name, struct gantry_usage *usage, struct gantry_error *err)
{
	struct driver *driver = context;
	struct stat image = { 0 };
	(void)call;
	if (find_image(driver, name, &image, err) < 0)
		return -1;
	usage->bytes = image.st_blocks * 512;
	usage->inodes = 1;
	return 0;
}

/* ---- after a crash -------------------------------------------------------------------------------- */

static int detach_unused(struct driver *driver, struct gantry_error *err)
{
	struct dirent **entries = NULL;
	struct stat image;
	struct gantry_error ignored = { .size = sizeof ignored };
	int count = scandirat(driver->images, ".", &entries, NULL, NULL), rc = 0;
	if (count < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "list the volumes");
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		if (find_image(driver, name, &image, &ignored) == 0 && !is_used(driver, name) && disk_detach(driver->images, name, err) < 0)
			rc = -1;        /* the others all the same */
		free(entries[i]);
	}
	free(entries);
	return rc;
}

/* Runs beside other ops. What these mounted is in the list of uses already, and stays. Nothing is to be restored: a running container has its volume mounted,
 * which keeps the device. */
static int driver_reconcile(void *context, const struct gantry_call *call, const struct gantry_volume_use *uses, size_t count, size_t use_size,
			    struct gantry_error *err)
{
	struct driver *driver = context;
	int rc = 0;
	(void)call;
	pthread_mutex_lock(&driver->lock);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		const struct gantry_volume_use *use = (const void *)((const char *)uses + i * use_size);
		rc = add_use(driver, use->name, use->container_id, err);
	}
	if (rc == 0)
		rc = detach_unused(driver, err);
	driver->reconciled |= rc == 0;
	pthread_mutex_unlock(&driver->lock);
	return rc;
}

/* ---- what the engine sees --------------------------------------------------------------------------- */

static const struct gantry_volume_ops OPS = {
	.size = sizeof OPS, .open = driver_open, .close = driver_close, .create = volume_create, .remove = volume_remove, .mount = volume_mount,
	.release = volume_release, .list = volume_list, .inspect = volume_inspect, .usage = volume_usage, .reconcile = driver_reconcile,
};
static const struct gantry_key KEYS[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_SIZE, .name = "size", .default_value = "1g", .min = DISK_MIN, .max = DISK_MAX,
	  .doc = "size of volumes that are made without option size" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_BOOL, .name = "discard", .default_value = "yes",
	  .doc = "give the space of deleted files back to the host at once" },
};
static const struct gantry_driver DRIVERS[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "loop", .capabilities = GANTRY_VOL_USAGE, .ops = &OPS },
};
GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR,
	.name = "vol-loop", .version = "1.0", .description = "volumes with a hard size, as ext4 images on loop devices",
	.keys = KEYS, .key_count = sizeof KEYS / sizeof KEYS[0], .key_size = sizeof KEYS[0],
	.drivers = DRIVERS, .driver_count = 1, .driver_size = sizeof DRIVERS[0],
};
