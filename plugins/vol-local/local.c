/*
 * local.c - the volume driver "local": directories of this host, and file systems that are mounted for a container on demand.
 *
 * A volume without options is a directory. One with the options type, o and device (as Docker's local driver takes them) is a description of a mount, which
 * the container's own process performs: nothing is ever mounted on the host.
 */
#include "local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

void temporary_name(struct local *self, const char *prefix, char name[64])
{
	snprintf(name, 64, "%s-%016llx-%u", prefix, (unsigned long long)self->life, atomic_fetch_add(&self->serial, 1));
}

bool of_this_life(const struct local *self, const char *name)
{
	char life[32];
	snprintf(life, sizeof life, "-%016llx-", (unsigned long long)self->life);
	return strstr(name, life) != NULL;
}

static int check_name(const char *name, struct gantry_error *err)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
	if (len == 0 || len > NAME_MAX_LEN || name[len] || strchr("_.-", name[0]))
		return gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" cannot name a volume: use [a-zA-Z0-9][a-zA-Z0-9_.-]*", name);
	return 0;
}

/* Returns the volume's directory, or -1 with err. */
static int open_volume(const struct local *self, const char *name, struct gantry_error *err)
{
	if (check_name(name, err) < 0)
		return -1;
	int fd = openat(self->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no volume %s", name);
	return fd < 0 ? gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open volume %s", name) : fd;
}

/* ---- open, close ---- */

static bool is_leftover(const char *name)
{
	return strncmp(name, ".new-", 5) == 0 || strncmp(name, ".gone-", 6) == 0;
}

static void *clean(void *arg)
{
	struct local *self = arg;
	char line[300], reason[64];
	int fd = openat(self->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *entry; dir && !atomic_load(&self->stop) && (entry = readdir(dir)) != NULL;) {
		if (!is_leftover(entry->d_name) || of_this_life(self, entry->d_name) || tree_remove(self, NULL, entry->d_name) == 0 ||
		    errno == ECANCELED)
			continue;
		snprintf(line, sizeof line, "%s/%.100s cannot be removed: %s", self->dir, entry->d_name, strerror_r(errno, reason, sizeof reason));
		self->host->log(self->host, GANTRY_WARN, line);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return NULL;
}

static int local_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	struct local *self = calloc(1, sizeof *self);
	if (!self || !(self->dir = strdup(host->state_dir))) {
		free(self);
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	self->host = host;
	self->sync = strcmp(host->config(host, "sync"), "true") == 0;
	self->fd = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (self->fd < 0 || getrandom(&self->life, sizeof self->life, 0) < 0) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", self->dir);
		if (self->fd >= 0)
			close(self->fd);
		free(self->dir);
		free(self);
		return -1;
	}
	self->cleaner_runs = pthread_create(&self->cleaner, NULL, clean, self) == 0;
	*driver = self;
	return 0;
}

static void local_close(void *driver)
{
	struct local *self = driver;
	atomic_store(&self->stop, true);
	if (self->cleaner_runs)
		pthread_join(self->cleaner, NULL);
	close(self->fd);
	free(self->dir);
	free(self);
}

/* ---- create, remove ---- */

static int check_same(const struct local *self, const char *name, const struct settings *wanted, struct gantry_error *err)
{
	struct settings *there = calloc(1, sizeof *there);
	int fd = there ? open_volume(self, name, err) : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	int rc = fd < 0 ? -1 : settings_load(fd, name, there, err);
	if (rc == 0 && !settings_equal(there, wanted))
		rc = gantry_fail(err, GANTRY_E_CONFLICT, "volume %s exists with other options", name);
	if (fd >= 0)
		close(fd);
	free(there);
	return rc;
}

/* Under a name of its own until it is complete. */
static int make_volume(const struct local *self, const char *temporary, const struct settings *settings, struct gantry_error *err)
{
	if (mkdirat(self->fd, temporary, 0700) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "create a directory below %s", self->dir);
	int fd = openat(self->fd, temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc = 0;
	/* The mode holds whatever the umask is. */
	if (fd < 0 || mkdirat(fd, "_data", 0755) < 0 || fchmodat(fd, "_data", 0755, 0) < 0)
		rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "create _data below %s", self->dir);
	if (rc == 0)
		rc = settings_save(self, fd, settings, err);
	if (rc == 0 && self->sync && fsync(fd) < 0)
		rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "sync a directory below %s", self->dir);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int create(struct local *self, const char *name, const struct settings *settings, struct gantry_error *err)
{
	char temporary[64];
	struct stat st;
	if (fstatat(self->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return check_same(self, name, settings, err);
	temporary_name(self, ".new", temporary);
	int rc = make_volume(self, temporary, settings, err);
	if (rc == 0 && renameat2(self->fd, temporary, self->fd, name, RENAME_NOREPLACE) < 0)
		rc = gantry_fail_errno(err, errno == EEXIST ? GANTRY_E_CONFLICT : GANTRY_E_INTERNAL, errno, "create volume %s", name);
	if (rc < 0) {
		(void)tree_remove(self, NULL, temporary); /* else the next start does */
		return -1;
	}
	if (self->sync && fsync(self->fd) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "sync %s", self->dir);
	return 0;
}

static int local_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options,
			struct gantry_error *err)
{
	(void)call;
	if (check_name(name, err) < 0)
		return -1;
	struct settings *settings = calloc(1, sizeof *settings);
	if (!settings)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	int rc = settings_from_options(options, settings, err);
	if (rc == 0)
		rc = create(driver, name, settings, err);
	free(settings);
	return rc;
}

static int local_remove(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	struct local *self = driver;
	char gone[64];
	if (check_name(name, err) < 0)
		return -1;
	temporary_name(self, ".gone", gone);
	if (renameat2(self->fd, name, self->fd, gone, RENAME_NOREPLACE) < 0)
		return errno == ENOENT ? 0 : gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "remove volume %s", name);
	if (self->sync && fsync(self->fd) < 0)
		self->host->log(self->host, GANTRY_WARN, "a removal is not on disk yet; after a power cut the volume may be back");
	if (tree_remove(self, call, gone) == 0)
		return 0;
	if (errno == EXDEV || errno == EBUSY)
		return gantry_fail_errno(err, GANTRY_E_CONFLICT, errno, "volume %s is gone, but something is mounted in its files, which are kept in %s/%s",
					 name, self->dir, gone);
	/* It is no volume any more; the next start goes on with its files. */
	char line[400], reason[64];
	snprintf(line, sizeof line, "files of the removed volume %.100s are left in %s/%s: %s", name, self->dir, gone,
		 strerror_r(errno, reason, sizeof reason));
	self->host->log(self->host, GANTRY_WARN, line);
	return 0;
}

/* ---- mount ---- */

static int local_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
		       struct gantry_mount *mount, struct gantry_error *err)
{
	struct local *self = driver;
	(void)call;
	(void)container_id;
	int fd = open_volume(self, name, err);
	if (fd < 0)
		return -1;
	struct settings *settings = calloc(1, sizeof *settings);
	int rc = settings ? settings_load(fd, name, settings, err) : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (rc == 0 && !settings_plain(settings)) {
		rc = settings_describe(settings, name, read_only, mount, err);
	} else if (rc == 0) {
		struct stat st;
		int len = snprintf(mount->source, sizeof mount->source, "%s/%s/_data", self->dir, name);
		if (len < 0 || (size_t)len >= sizeof mount->source)
			rc = gantry_fail(err, GANTRY_E_INTERNAL, "the path of volume %s is too long", name);
		else if (fstatat(fd, "_data", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			rc = gantry_fail(err, GANTRY_E_INTERNAL, "volume %s has lost its directory %s", name, mount->source);
		snprintf(mount->type, sizeof mount->type, "bind");
		snprintf(mount->options, sizeof mount->options, "rbind%s", read_only ? ",ro" : "");
		mount->flags = GANTRY_MOUNT_IDMAP;
	}
	free(settings);
	close(fd);
	return rc;
}

/* A mount lives and dies with the container's mount namespace. */
static int local_release(void *driver, const struct gantry_call *call, const char *name, const char *container_id, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)name;
	(void)container_id;
	(void)err;
	return 0;
}

/* ---- looking ---- */

static int local_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct local *self = driver;
	struct gantry_error ignored;
	(void)call;
	int fd = openat(self->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read %s", self->dir);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		struct stat st;
		char data[NAME_MAX_LEN + 8];
		snprintf(data, sizeof data, "%s/_data", entry->d_name);
		if (check_name(entry->d_name, &ignored) == 0 && fstatat(fd, data, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
		    visit(arg, entry->d_name) != 0)
			break;
	}
	closedir(dir);
	return 0;
}

static int local_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info,
			 struct gantry_error *err)
{
	struct local *self = driver;
	struct stat st;
	(void)call;
	int fd = open_volume(self, name, err);
	if (fd < 0)
		return -1;
	/* Nothing is added to or taken from this directory after it was made. */
	if (fstat(fd, &st) == 0)
		info->created_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
	close(fd);
	if ((size_t)snprintf(info->mountpoint, sizeof info->mountpoint, "%s/%s/_data", self->dir, name) >= sizeof info->mountpoint)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the path of volume %s is too long", name);
	return 0;
}

static int local_usage(void *driver, const struct gantry_call *call, const char *name, struct gantry_usage *usage, struct gantry_error *err)
{
	struct local *self = driver;
	struct settings *settings = calloc(1, sizeof *settings);
	int fd = settings ? open_volume(self, name, err) : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	int rc = fd < 0 ? -1 : settings_load(fd, name, settings, err);
	/* What is mounted on demand cannot be counted from here. */
	usage->bytes = usage->inodes = -1;
	if (rc == 0 && settings_plain(settings)) {
		int data = openat(fd, "_data", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		usage->bytes = usage->inodes = 0;
		if (data < 0 || tree_usage(self, call, data, usage) < 0)
			rc = gantry_fail_errno(err, errno == ECANCELED ? GANTRY_E_TIMEOUT : GANTRY_E_INTERNAL, errno, "count the files of volume %s",
					       name);
		if (data >= 0)
			close(data);
	}
	if (fd >= 0)
		close(fd);
	free(settings);
	return rc;
}

/* ---- descriptor ---- */

static const struct gantry_volume_ops ops = {
	.size = sizeof(struct gantry_volume_ops),
	.open = local_open,
	.close = local_close,
	.create = local_create,
	.remove = local_remove,
	.mount = local_mount,
	.release = local_release,
	.list = local_list,
	.inspect = local_inspect,
	.usage = local_usage,
};

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_BOOL, .name = "sync", .default_value = "yes",
	  .doc = "wait for the disk when a volume is made or removed; no: for throw-away machines" },
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "local", .capabilities = GANTRY_VOL_USAGE, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin),
	.abi_major = GANTRY_ABI_MAJOR,
	.abi_minor = GANTRY_ABI_MINOR,
	.name = "vol-local",
	.version = GANTRY_VERSION,
	.description = "volumes on this host: directories, tmpfs, NFS and other mounts",
	.keys = keys,
	.key_count = sizeof keys / sizeof keys[0],
	.key_size = sizeof keys[0],
	.drivers = drivers,
	.driver_count = 1,
	.driver_size = sizeof drivers[0],
};
