/*
 * rootfs.c - the sandbox's file system: what the host gives is taken first, as detached mounts; then the root is put in place and pivoted to; then
 * everything else is mounted in jail.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"
#include "runtime/internal.h"

int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
#define MS_REC_ 16384ul
#define MS_SLAVE_ (1ul << 19)
#define MNT_DETACH_ 2

static const struct {
	const char *path;
	unsigned major, minor;
} DEFAULT_DEVICES[] = { { "/dev/null", 1, 3 },   { "/dev/zero", 1, 5 },    { "/dev/full", 1, 7 },
			{ "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 } };

#define DEFAULT_COUNT GT_COUNT(DEFAULT_DEVICES)

/* ---- before the pivot ---- */

/* The directory name of a v1 hierarchy below /sys/fs/cgroup; NULL where it is not there or stands for one before it. */
static const char *hierarchy_name(int hierarchy)
{
	const struct world *world = cgroup_world();
	if (!world->mount[hierarchy])
		return NULL;
	for (int i = 0; i < hierarchy; i++) {
		if (world->mount[i] && strcmp(world->mount[i], world->mount[hierarchy]) == 0)
			return NULL;
	}
	return strrchr(world->mount[hierarchy], '/') + 1;
}

/* v2, and the host's cgroup namespace: its own mount is shown. A new mount from there would set the options of all (nsdelegate, memory_recursiveprot). */
static int prepare_cgroup_v2(const struct spec *spec, const struct spec_mount *mount, struct prepared *prepared, struct gt_error *err)
{
	const char *path = cgroup_world()->mount[UNIFIED];
	if (!path || spec_namespace(spec, CLONE_NEWCGROUP))
		return 0;
	AUTO_CLOSE int fd = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
	if (fd < 0 || sys_mount_setattr(fd, "", 0, mount->attr_set, 0, 0, -1) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "take the cgroups %s", path);
	prepared->cgroups[UNIFIED] = take_fd(fd);
	return 0;
}

/* v1: the container's own directory of each controller, to be shown below /sys/fs/cgroup. */
static int prepare_cgroups(const struct spec *spec, const struct spec_mount *mount, struct prepared *prepared, struct gt_error *err)
{
	if (strcmp(mount->type, "cgroup") || !spec->cgroup)
		return 0;
	if (cgroup_world()->kind == GT_CGROUP_V2)
		return prepare_cgroup_v2(spec, mount, prepared, err);
	for (int i = 0; i < HIERARCHIES; i++) {
		if (!hierarchy_name(i))
			continue;
		AUTO_FREE char *path = gt_xasprintf("%s%s", cgroup_world()->mount[i], spec->cgroup);
		AUTO_CLOSE int fd = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
		if (fd < 0 && errno == ENOENT)
			continue; /* no limit asked for this controller */
		if (fd < 0 || sys_mount_setattr(fd, "", 0, mount->attr_set, 0, 0, -1) < 0)
			return gt_fail_sys(err, GT_INTERNAL, errno, "take the cgroup %s", path);
		prepared->cgroups[i] = take_fd(fd);
	}
	return 0;
}

static int prepare_devices(const struct spec *spec, struct prepared *prepared, struct gt_error *err)
{
	for (size_t i = 0; i < DEFAULT_COUNT + spec->device_count; i++) {
		const char *path = i < DEFAULT_COUNT ? DEFAULT_DEVICES[i].path : spec->devices[i - DEFAULT_COUNT].path;
		prepared->devices[i] = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
		if (prepared->devices[i] < 0 && errno != ENOENT)
			return gt_fail_errno(err, errno, "take the device %s", path);
	}
	return 0;
}

static void prepared_clear(struct prepared *prepared)
{
	*prepared = (struct prepared){ .init = -1 };
	memset(prepared->cgroups, 0xff, sizeof prepared->cgroups);
}

void prepared_empty(const struct spec *spec, struct prepared *prepared)
{
	prepared_clear(prepared);
	prepared->mounts = gt_xcalloc(spec->mount_count, sizeof(int));
	prepared->devices = gt_xcalloc(DEFAULT_COUNT + spec->device_count, sizeof(int));
	memset(prepared->mounts, 0xff, spec->mount_count * sizeof(int));
	memset(prepared->devices, 0xff, (DEFAULT_COUNT + spec->device_count) * sizeof(int));
}

int *prepared_slot(const struct spec *spec, struct prepared *prepared, size_t i)
{
	size_t devices = DEFAULT_COUNT + spec->device_count;
	if (i < spec->mount_count)
		return &prepared->mounts[i];
	i -= spec->mount_count;
	if (i < devices)
		return &prepared->devices[i];
	i -= devices;
	if (i < MAX_CGROUPS)
		return &prepared->cgroups[i];
	return i == MAX_CGROUPS ? &prepared->init : NULL;
}

/* A file system on a device of the host. */
static bool is_on_device(const struct spec_mount *mount)
{
	struct stat info;
	return !mount->bind && mount_needs_host(mount) && strcmp(mount->type, "overlay") != 0 && mount->source[0] == '/' &&
	       stat(mount->source, &info) == 0 && S_ISBLK(info.st_mode);
}

int rootfs_prepare_disks(const struct spec *spec, struct prepared *prepared, struct gt_error *err)
{
	prepared_empty(spec, prepared);
	for (size_t i = 0; i < spec->mount_count; i++) {
		if (is_on_device(&spec->mounts[i]) && (prepared->mounts[i] = mount_detached(&spec->mounts[i], NULL, false, err)) < 0) {
			prepared_release(spec, prepared);
			return -1;
		}
	}
	return 0;
}

int rootfs_prepare(const struct spec *spec, const struct remap *remap, struct prepared *prepared, struct gt_error *err)
{
	for (size_t i = 0; i < spec->mount_count; i++) {
		const struct spec_mount *mount = &spec->mounts[i];
		if (prepare_cgroups(spec, mount, prepared, err) < 0)
			goto fail;
		if (!mount_needs_host(mount) || prepared->mounts[i] >= 0)
			continue;
		prepared->mounts[i] = mount_detached(mount, remap, i == 0 ? spec->idmap_root : mount->idmap && strcmp(mount->type, "overlay") == 0, err);
		if (prepared->mounts[i] < 0)
			goto fail;
	}
	if (remap && prepare_devices(spec, prepared, err) < 0)
		goto fail;
	if (spec->init) {
		prepared->init = sys_open_tree(AT_FDCWD, spec->init, OPEN_TREE_CLONE);
		if (prepared->init < 0 || sys_mount_setattr(prepared->init, "", 0, MOUNT_ATTR_RDONLY, 0, 0, -1) < 0) {
			gt_fail_sys(err, GT_INTERNAL, errno, "take the init program %s", spec->init);
			goto fail;
		}
	}
	return 0;
fail:
	prepared_release(spec, prepared);
	return -1;
}

int rootfs_prepare_views(const struct spec *spec, struct prepared *prepared, struct gt_error *err)
{
	for (size_t i = 1; i < spec->mount_count; i++) {
		const struct spec_mount *mount = &spec->mounts[i];
		if (mount->bind || prepared->mounts[i] >= 0 || (strcmp(mount->type, "proc") != 0 && strcmp(mount->type, "sysfs") != 0))
			continue;
		if ((prepared->mounts[i] = mount_detached(mount, NULL, false, err)) < 0)
			return -1;
	}
	return 0;
}

void prepared_release(const struct spec *spec, struct prepared *prepared)
{
	int *slot;
	if (!prepared->mounts)
		return;
	for (size_t i = 0; (slot = prepared_slot(spec, prepared, i)) != NULL; i++) {
		if (*slot >= 0)
			close(*slot);
	}
	free(prepared->mounts);
	free(prepared->devices);
	prepared_clear(prepared);
}

/* ---- the pivot ---- */

int mounts_keep_from_host(struct gt_error *err)
{
	if (mount(NULL, "/", NULL, MS_REC_ | MS_SLAVE_, NULL) == 0)
		return 0;
	return errno == EINVAL ? gt_fail(err, GT_INTERNAL, "the root directory is no mount point (chroot?): a container cannot be given another") :
				 gt_fail_sys(err, GT_INTERNAL, errno, "keep mounts from the host");
}

static int pivot(int mount_fd, int place, struct gt_error *err)
{
	if (mounts_keep_from_host(err) < 0)
		return -1;
	if (mount_attach(mount_fd, place, "rootfs", err) < 0)
		return -1;
	if (fchdir(mount_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make the container's root the root");
	if (umount2(".", MNT_DETACH_) < 0 || chdir("/") < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "leave the host's root");
	return 0;
}

/* ---- mounts in jail ---- */

static int mount_cgroups_v1(const struct spec_mount *mount, struct prepared *prepared, struct gt_error *err)
{
	struct spec_mount base = { .destination = mount->destination, .type = "tmpfs", .source = "tmpfs",
				   .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	gt_strings_add(&base.data, "mode=755");
	AUTO_CLOSE int place = mount_place(mount->destination, true, err);
	AUTO_CLOSE int fd = place < 0 ? -1 : mount_detached(&base, NULL, false, err);
	gt_strings_free(&base.data);
	if (fd < 0 || mount_attach(fd, place, mount->destination, err) < 0)
		return -1;
	for (int i = 0; i < HIERARCHIES; i++) {
		const char *name = hierarchy_name(i);
		if (prepared->cgroups[i] < 0 || !name)
			continue;
		AUTO_CLOSE int dir = mkdirat(fd, name, 0755) < 0 ? -1 : openat(fd, name, O_PATH | O_CLOEXEC);
		if (dir < 0)
			return gt_fail_errno(err, errno, "make %s/%s", mount->destination, name);
		if (mount_attach(prepared->cgroups[i], dir, name, err) < 0)
			return -1;
		/* controllers that are mounted together are found by each one's name as well */
		AUTO_FREE char *copy = gt_xstrdup(name);
		char *rest = copy, *word;
		while (strchr(name, ',') && (word = strsep(&rest, ",")) != NULL) {
			if (symlinkat(name, fd, word) < 0 && errno != EEXIST)
				return gt_fail_errno(err, errno, "make the link %s/%s", mount->destination, word);
		}
	}
	if (mount->attr_set & MOUNT_ATTR_RDONLY && sys_mount_setattr(fd, "", 0, MOUNT_ATTR_RDONLY, 0, 0, -1) < 0)
		return gt_fail_errno(err, errno, "make %s read-only", mount->destination);
	return 0;
}

static int mount_one(const struct spec_mount *mount, int *prepared_fd, struct prepared *prepared, struct gt_error *err)
{
	bool directory = true;
	if (strcmp(mount->type, "cgroup") == 0 && !mount->bind) {
		if (cgroup_world()->kind != GT_CGROUP_V2)
			return mount_cgroups_v1(mount, prepared, err);
		if (prepared->cgroups[UNIFIED] >= 0)
			return mount_one(&(struct spec_mount){ .destination = mount->destination, .type = "none" }, &prepared->cgroups[UNIFIED], prepared, err);
		struct spec_mount v2 = *mount;
		v2.type = "cgroup2";
		return mount_one(&v2, prepared_fd, prepared, err);
	}
	AUTO_CLOSE int fd = *prepared_fd >= 0 ? take_fd(*prepared_fd) : mount_detached(mount, NULL, false, err);
	if (fd < 0)
		return -1;
	struct stat info;
	if ((mount->bind || mount->subpath) && fstat(fd, &info) == 0)
		directory = S_ISDIR(info.st_mode);
	AUTO_CLOSE int place = mount_place(mount->destination, directory, err);
	return place < 0 ? -1 : mount_attach(fd, place, mount->destination, err);
}

/* ---- /dev ---- */

static int make_device(const char *path, mode_t mode, dev_t device, uid_t uid, gid_t gid, int host, struct gt_error *err)
{
	AUTO_FREE char *parent_path = gt_xstrdup(path);
	char *slash = strrchr(parent_path, '/');
	AUTO_FREE char *name = gt_xstrdup(slash + 1);
	slash[slash == parent_path] = '\0';
	AUTO_CLOSE int parent = mount_place(parent_path, true, err);
	if (parent < 0)
		return -1;
	if (host >= 0) { /* mknod is not for user namespaces */
		AUTO_CLOSE int place = mount_place(path, false, err);
		return place < 0 ? -1 : mount_attach(host, place, path, err);
	}
	if (mknodat(parent, name, mode, device) < 0) {
		struct stat info;
		if (errno != EEXIST)
			return gt_fail_errno(err, errno, "make the device %s", path);
		if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_rdev == device && (info.st_mode & S_IFMT) == (mode & S_IFMT))
			return 0; /* the host's /dev */
		unlinkat(parent, name, 0);
		if (mknodat(parent, name, mode, device) < 0)
			return gt_fail_errno(err, errno, "make the device %s", path);
	}
	if (fchmodat(parent, name, mode & 07777, 0) < 0 || ((uid || gid) && fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0))
		return gt_fail_errno(err, errno, "set the owner and mode of the device %s", path);
	return 0;
}

static bool has_mount(const struct spec *spec, const char *destination)
{
	for (size_t i = 1; i < spec->mount_count; i++) {
		if (strcmp(spec->mounts[i].destination, destination) == 0 && !spec->mounts[i].bind)
			return true;
	}
	return false;
}

/* As the OCI runtime-spec wants them (config-linux.md, "Default Devices" and "/dev symbolic links"), where /dev is the container's own. */
static int fill_dev(const struct spec *spec, struct prepared *prepared, struct gt_error *err)
{
	static const char *const LINKS[][2] = { { "/proc/self/fd", "/dev/fd" },         { "/proc/self/fd/0", "/dev/stdin" }, { "/proc/self/fd/1", "/dev/stdout" },
						{ "/proc/self/fd/2", "/dev/stderr" }, { "/proc/kcore", "/dev/core" },      { "pts/ptmx", "/dev/ptmx" } };
	if (has_mount(spec, "/dev")) {
		for (size_t i = 0; i < DEFAULT_COUNT; i++) {
			dev_t device = makedev(DEFAULT_DEVICES[i].major, DEFAULT_DEVICES[i].minor);
			if (make_device(DEFAULT_DEVICES[i].path, S_IFCHR | 0666, device, 0, 0, prepared->devices[i], err) < 0)
				return -1;
		}
		for (size_t i = 0; i < GT_COUNT(LINKS); i++) {
			if (symlink(LINKS[i][0], LINKS[i][1]) < 0 && errno != EEXIST)
				return gt_fail_errno(err, errno, "make the link %s", LINKS[i][1]);
		}
	}
	for (size_t i = 0; i < spec->device_count; i++) {
		const struct spec_device *device = &spec->devices[i];
		if (make_device(device->path, device->mode, makedev((unsigned)device->major, (unsigned)device->minor), device->uid, device->gid,
				prepared->devices[DEFAULT_COUNT + i], err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the kernel's parameters ---- */

/* Through /proc as the caller sees it. */
static int set_sysctls(const struct spec *spec, struct gt_error *err)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)spec->sysctl, name, value) {
		if (!json_is_string(value) || strstr(name, "..") || strlen(name) > 128)
			return gt_fail(err, GT_INVALID, "the sysctl %.128s is not a name with a string", name);
		AUTO_FREE char *path = gt_xasprintf("/proc/sys/%s", name);
		for (char *p = path + 10; *p; p++) {
			if (*p == '.')
				*p = '/';
			else if (*p == '/')
				*p = '.';
		}
		if (gt_write_control(AT_FDCWD, path, json_string_value(value), err) < 0)
			return gt_context(err, "set the sysctl %s", name);
	}
	return 0;
}

/* Where the container's own procfs will be, before anything else is mounted on it; 0 where there is none. In the host's, the kernel would go through
 * an entry for each network namespace that ever wrote there. */
static size_t own_proc(const struct spec *spec)
{
	for (size_t i = 1; i < spec->mount_count; i++) {
		const struct spec_mount *mount = &spec->mounts[i];
		if (!mount->bind && strcmp(mount->type, "proc") == 0 && strcmp(mount->destination, "/proc") == 0)
			return mount->attr_set & MOUNT_ATTR_RDONLY ? 0 : i;
	}
	return 0;
}

int rootfs_enter(const struct spec *spec, struct prepared *prepared, int root_fd, struct gt_error *err)
{
	size_t proc = own_proc(spec);
	if (!proc && set_sysctls(spec, err) < 0)
		return -1;
	if (pivot(prepared->mounts[0], root_fd, err) < 0)
		return -1;
	mode_t before = umask(0);
	int rc = 0;
	bool dev_done = false;
	for (size_t i = 1; rc == 0 && i < spec->mount_count; i++) {
		rc = mount_one(&spec->mounts[i], &prepared->mounts[i], prepared, err);
		if (rc == 0 && i == proc)
			rc = set_sysctls(spec, err);
		/* nodes first: later mounts may go on top of what is in /dev */
		if (rc == 0 && !dev_done && strcmp(spec->mounts[i].destination, "/dev") == 0) {
			dev_done = true;
			rc = fill_dev(spec, prepared, err);
		}
	}
	if (rc == 0 && !dev_done)
		rc = fill_dev(spec, prepared, err);
	umask(before);
	return rc;
}

/* ---- the end ---- */

/* Directories are covered by one empty tmpfs (*empty, -1 until the first) and clones of it: the kernel walks all file systems when a cgroup ends. */
static int mask(const char *path, int *empty, struct gt_error *err)
{
	struct stat info;
	AUTO_CLOSE int place = open(path, O_PATH | O_CLOEXEC);
	if (place < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gt_fail_errno(err, errno, "mask %s", path);
	if (fstat(place, &info) < 0)
		return gt_fail_errno(err, errno, "mask %s", path);
	if (S_ISDIR(info.st_mode) && *empty < 0) {
		struct spec_mount tmpfs = { .destination = path, .type = "tmpfs", .source = "tmpfs", .attr_set = MOUNT_ATTR_RDONLY };
		*empty = mount_detached(&tmpfs, NULL, false, err);
		return *empty < 0 ? -1 : mount_attach(*empty, place, path, err);
	}
	AUTO_CLOSE int cover = S_ISDIR(info.st_mode) ? sys_open_tree(*empty, "", OPEN_TREE_CLONE | AT_EMPTY_PATH) :
						       sys_open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE);
	return cover < 0 ? gt_fail_errno(err, errno, "mask %s", path) : mount_attach(cover, place, path, err);
}

static int make_read_only(const char *path, struct gt_error *err)
{
	AUTO_CLOSE int place = open(path, O_PATH | O_CLOEXEC);
	if (place < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gt_fail_errno(err, errno, "make %s read-only", path);
	AUTO_CLOSE int fd = sys_open_tree(place, "", OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH);
	if (fd < 0 || sys_mount_setattr(fd, "", 0, MOUNT_ATTR_RDONLY, 0, 0, -1) < 0)
		return gt_fail_errno(err, errno, "make %s read-only", path);
	return mount_attach(fd, place, path, err);
}

int rootfs_finish(const struct spec *spec, struct gt_error *err)
{
	for (size_t i = 0; i < spec->readonly.count; i++) {
		if (make_read_only(spec->readonly.items[i], err) < 0)
			return -1;
	}
	AUTO_CLOSE int empty = -1;
	for (size_t i = 0; i < spec->masked.count; i++) {
		if (mask(spec->masked.items[i], &empty, err) < 0)
			return -1;
	}
	if (spec->read_only && sys_mount_setattr(AT_FDCWD, "/", 0, MOUNT_ATTR_RDONLY, 0, 0, -1) < 0)
		return gt_fail_errno(err, errno, "make the root file system read-only");
	if (spec->root_propagation && sys_mount_setattr(AT_FDCWD, "/", spec->root_propagation & MS_REC_ ? AT_RECURSIVE : 0, 0, 0,
							spec->root_propagation & ~MS_REC_, -1) < 0)
		return gt_fail_errno(err, errno, "set the propagation of the root file system");
	return 0;
}
