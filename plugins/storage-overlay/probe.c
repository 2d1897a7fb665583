/*
 * probe.c - can the file system below state_dir carry overlayfs? Asked once, by trying: whiteouts, opaque marks, file types in listings, and an
 * overlay with the configured options that is created and never attached to any tree.
 */
#include "overlay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PROBE "probe"
#define XFS_MAGIC 0x58465342

static const char *fs_name(const struct overlay *self)
{
	static const struct {
		long magic;
		const char *name;
	} NAMES[] = {
		{ EXT4_SUPER_MAGIC, "ext4" }, { XFS_MAGIC, "xfs" },         { BTRFS_SUPER_MAGIC, "btrfs" }, { TMPFS_MAGIC, "tmpfs" },
		{ OVERLAYFS_SUPER_MAGIC, "overlay" }, { NFS_SUPER_MAGIC, "nfs" }, { MSDOS_SUPER_MAGIC, "vfat" }, { FUSE_SUPER_MAGIC, "fuse" },
		{ ECRYPTFS_SUPER_MAGIC, "ecryptfs" }, { RAMFS_MAGIC, "ramfs" },
	};
	struct statfs st;
	if (fstatfs(self->fd, &st) < 0)
		return "unknown";
	for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
		if (NAMES[i].magic == (long)st.f_type)
			return NAMES[i].name;
	}
	return "unknown";
}

static int unfit(const struct overlay *self, const char *why, int errnum, struct gantry_error *err)
{
	return gantry_fail_errno(err, GANTRY_E_UNSUPPORTED, errnum,
				 "the file system (%s) below %s cannot hold overlay layers; put [daemon] root on ext4, xfs, btrfs or tmpfs: %s", fs_name(self),
				 self->dir, why);
}

/* Listings must tell directories from files. */
static int check_types(const struct overlay *self, struct gantry_error *err)
{
	int fd = openat(self->fd, PROBE, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read %s/" PROBE, self->dir);
	}
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;) {
		if (entry->d_type == DT_UNKNOWN)
			rc = unfit(self, "its directory listings have no file types (xfs made with ftype=0?)", EOPNOTSUPP, err);
	}
	closedir(dir);
	return rc;
}

static int check_marks(const struct overlay *self, struct gantry_error *err)
{
	if (mknodat(self->fd, PROBE "/upper/whiteout", S_IFCHR, makedev(0, 0)) < 0)
		return unfit(self, "make a whiteout (character device 0:0)", errno, err);
	int fd = openat(self->fd, PROBE "/upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -1 : fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0);
	if (rc < 0)
		unfit(self, "set the attribute trusted.overlay.opaque", errno, err);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* What the kernel says about a failed mount: "e overlay: ...". */
static int explain(const struct overlay *self, int context, const char *step, int errnum, struct gantry_error *err)
{
	char log[300], why[400];
	ssize_t len = read(context, log, sizeof log - 1);
	log[len > 0 ? len : 0] = '\0';
	log[strcspn(log, "\n")] = '\0';
	snprintf(why, sizeof why, "overlayfs refuses %s%s%s", step, len > 2 ? ": " : "", len > 2 ? log + 2 : "");
	return unfit(self, why, errnum, err);
}

/* ",a=b,c": each to the context. */
static int set_each(int context, const char *options)
{
	char copy[sizeof((struct overlay *)0)->rw_options], *rest = copy, *word;
	snprintf(copy, sizeof copy, "%s", options);
	while ((word = strsep(&rest, ",")) != NULL) {
		char *value = strchr(word, '=');
		if (!*word)
			continue;
		if (value)
			*value++ = '\0';
		if (fsconfig(context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, word, value, 0) < 0)
			return -1;
	}
	return 0;
}

static int set_dir(const struct overlay *self, int context, const char *key, const char *name)
{
	char path[512];
	if ((size_t)snprintf(path, sizeof path, "%s/" PROBE "/%s", self->dir, name) >= sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return fsconfig(context, FSCONFIG_SET_STRING, key, path, 0);
}

static int check_overlay(const struct overlay *self, struct gantry_error *err)
{
	int context = fsopen("overlay", FSOPEN_CLOEXEC), rc = -1;
	if (context < 0 && errno == ENODEV)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "this kernel has no overlay file system (module overlay)");
	if (context < 0)
		return gantry_fail_errno(err, GANTRY_E_UNSUPPORTED, errno, "open the overlay file system");
	if (set_dir(self, context, "lowerdir", "lower") < 0 || set_dir(self, context, "upperdir", "upper") < 0 ||
	    set_dir(self, context, "workdir", "work") < 0)
		explain(self, context, "its directories", errno, err);
	else if (set_each(context, self->options) < 0 || set_each(context, self->rw_options) < 0)
		explain(self, context, "an option of [plugin.storage-overlay]", errno, err);
	else if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		explain(self, context, "to work there", errno, err);
	else
		rc = 0;
	close(context);
	return rc;
}

static int clear_away(struct overlay *self, struct gantry_error *err)
{
	char trash_name[16];
	if (trash_put(self, self->fd, PROBE, trash_name, err) < 0)
		return -1;
	trash_delete(self, NULL, trash_name);
	return 0;
}

int probe(struct overlay *self, struct gantry_error *err)
{
	static const char *const DIRS[] = { PROBE, PROBE "/lower", PROBE "/upper", PROBE "/work" };
	/* Layers' paths are longer by their ids; old kernels take 255 bytes for a directory. */
	if (strlen(self->dir) > 160)
		return gantry_fail(err, GANTRY_E_INVALID, "%s is too long a path for overlayfs' options: at most 160 bytes", self->dir);
	if (clear_away(self, err) < 0)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		if (mkdirat(self->fd, DIRS[i], 0700) < 0)
			return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "create %s/%s", self->dir, DIRS[i]);
	}
	int rc = check_types(self, err) < 0 || check_marks(self, err) < 0 || check_overlay(self, err) < 0 ? -1 : 0;
	struct gantry_error ignored = { .size = sizeof ignored };
	clear_away(self, &ignored);
	return rc;
}
