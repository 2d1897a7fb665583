/*
 * mount.c - one OCI mount as a detached mount (fsopen, open_tree), and the place it goes to, found in jail.
 *
 * Nothing is mounted by a path string: sources are opened once, destinations are O_PATH descriptors found by openat2 below the container's root, so a
 * symbolic link in an image leads nowhere else. Overlay: layers one by one where the kernel takes them so (base/overlay.h), else in one piece.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/overlay.h"
#include "runtime/internal.h"

#define MS_REC_ 16384ul
#define MS_PRIVATE_ (1ul << 18)

int sys_open_tree(int dir, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dir, path, flags | OPEN_TREE_CLOEXEC);
}

int sys_mount_setattr(int fd, const char *path, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation, int userns)
{
	struct mount_attr attr = { .attr_set = set, .attr_clr = clear, .propagation = propagation };
	if (userns >= 0) {
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (uint64_t)userns;
	}
	return (int)syscall(SYS_mount_setattr, fd, path, flags | (*path ? 0 : AT_EMPTY_PATH), &attr, sizeof attr);
}

/* ---- bind ---- */

/* Below the source, where only names that stay below it lead. */
static int open_subpath(int source, const struct spec_mount *mount, struct gt_error *err)
{
	int fd = gt_openat2(source, mount->subpath, O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return gt_fail_errno(err, errno, "mount on %s: the subpath %s of %s", mount->destination, mount->subpath, mount->source);
	return fd;
}

/* Another container's mount. Its names lead nowhere but to what it sees itself. The caller's root and directory become those of its namespace. */
static int foreign_source(const struct spec_mount *mount, struct gt_error *err)
{
	AUTO_CLOSE int theirs = open(mount->namespace, O_RDONLY | O_CLOEXEC);
	AUTO_CLOSE int ours = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (theirs < 0 || ours < 0 || setns(theirs, CLONE_NEWNS) < 0)
		return gt_fail_errno(err, errno, "enter the mount namespace %s", mount->namespace);
	AUTO_CLOSE int source = gt_openat2(AT_FDCWD, mount->source, O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	AUTO_CLOSE int fd = source < 0 ? -1 : sys_open_tree(source, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
	int errnum = errno;
	if (setns(ours, CLONE_NEWNS) < 0)
		return gt_fail_errno(err, errno, "return to the mount namespace");
	return fd >= 0 ? take_fd(fd) : gt_fail_errno(err, errnum, "bind %s of another container on %s", mount->source, mount->destination);
}

static int bind_source(const struct spec_mount *mount, struct gt_error *err)
{
	unsigned flags = OPEN_TREE_CLONE | (mount->recursive ? AT_RECURSIVE : 0);
	if (mount->namespace)
		return foreign_source(mount, err);
	if (!mount->subpath) {
		int fd = sys_open_tree(AT_FDCWD, mount->source, flags);
		if (fd < 0 && errno == ENOENT)
			return gt_fail(err, GT_INVALID, "bind source path does not exist: %s", mount->source);
		return fd >= 0 ? fd : gt_fail_errno(err, errno, "bind %s on %s", mount->source, mount->destination);
	}
	AUTO_CLOSE int source = open(mount->source, O_PATH | O_CLOEXEC);
	if (source < 0)
		return gt_fail_errno(err, errno, "bind %s on %s", mount->source, mount->destination);
	AUTO_CLOSE int below = open_subpath(source, mount, err);
	if (below < 0)
		return -1;
	int fd = sys_open_tree(below, "", flags | AT_EMPTY_PATH);
	return fd >= 0 ? fd : gt_fail_errno(err, errno, "bind %s/%s on %s", mount->source, mount->subpath, mount->destination);
}

/* ---- file systems ---- */

static int explain(int context, const struct spec_mount *mount, int errnum, const char *what, struct gt_error *err)
{
	char log[256];
	ssize_t n = read(context, log, sizeof log - 1);
	if (n <= 2)
		return gt_fail_sys(err, GT_INTERNAL, errnum, "mount %s on %s: %s", mount->type, mount->destination, what);
	log[n] = '\0';
	log[strcspn(log, "\n")] = '\0';
	return gt_fail_sys(err, GT_INTERNAL, errnum, "mount %s on %s: %s: %s", mount->type, mount->destination, what, log + 2);
}

static int set_string(int context, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0);
}

static int set_fd(int context, const char *key, int fd)
{
	return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_FD, key, NULL, fd);
}

/* ---- overlay on id-mapped layers ---- */

/* What an overlay is made of as the container's ids see it. A detached mount ends with its last descriptor: they are kept until the overlay is made. */
struct mapped {
	const struct remap *remap;      /* NULL: the layers are taken as they are */
	int *fds;
	size_t count;
};

static void mapped_release(struct mapped *mapped)
{
	for (size_t i = 0; i < mapped->count; i++)
		close(mapped->fds[i]);
	free(mapped->fds);
}

/* A directory's detached, id-mapped copy; mapped owns it. */
static int mapped_dir(struct mapped *mapped, const char *path, struct gt_error *err)
{
	AUTO_CLOSE int fd = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
	if (fd < 0 || sys_mount_setattr(fd, "", 0, 0, 0, 0, mapped->remap->userns) < 0)
		return gt_fail_sys(err, GT_UNSUPPORTED, errno, "id-map the layer %s", path);
	mapped->fds = gt_xrealloc(mapped->fds, (mapped->count + 1) * sizeof *mapped->fds);
	return mapped->fds[mapped->count++] = take_fd(fd);
}

/* upperdir and workdir have to be on one mount: that of the directory both are in. */
static int set_mapped_pair(int context, const char *upper, const char *work, struct mapped *mapped, struct gt_error *err)
{
	const char *slash = strrchr(upper, '/'), *other = strrchr(work, '/');
	if (!slash || !other || slash - upper != other - work || strncmp(upper, work, (size_t)(slash - upper)))
		return gt_fail(err, GT_UNSUPPORTED, "id-mapped overlay: %s and %s are not in one directory", upper, work);
	AUTO_FREE char *parent = gt_xstrndup(upper, (size_t)(slash - upper));
	int dir = mapped_dir(mapped, parent, err);
	if (dir < 0)
		return -1;
	AUTO_CLOSE int upper_fd = openat(dir, slash + 1, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int work_fd = openat(dir, other + 1, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (upper_fd < 0 || work_fd < 0 || set_fd(context, "upperdir", upper_fd) < 0 || set_fd(context, "workdir", work_fd) < 0)
		return gt_fail_sys(err, GT_UNSUPPORTED, errno, "id-mapped overlay (it needs Linux 6.13 or newer)");
	return 0;
}

/* One layer after the other. Returns 1 where the kernel knows no "lowerdir+". */
static int add_lower_dirs(int context, const char *list, struct mapped *mapped, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(list);
	char *from = copy;
	for (char *p = copy;; p++) {
		if (p[0] == '\\' && p[1]) {
			p++;
			continue;
		}
		if (*p != ':' && *p != '\0')
			continue;
		bool last = *p == '\0';
		*p = '\0';
		char *to = from; /* here a path stands alone: the escapes of the list form go */
		for (char *q = from; *q; q++) {
			if (q[0] == '\\' && q[1])
				q++;
			*to++ = *q;
		}
		*to = '\0';
		if (mapped->remap) {
			int fd = mapped_dir(mapped, from, err);
			if (fd < 0)
				return -1;
			if (set_fd(context, "lowerdir+", fd) < 0)
				return gt_fail_sys(err, GT_UNSUPPORTED, errno, "id-mapped overlay (it needs Linux 6.13 or newer)");
		} else if (set_string(context, "lowerdir+", from) < 0) {
			if (from == copy && errno == EINVAL)
				return 1;
			return gt_fail_sys(err, GT_INTERNAL, errno, "overlay: layer %s", from);
		}
		if (last)
			return 0;
		from = p + 1;
	}
}

static const char *option_value(const struct gt_strings *data, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; i < data->count; i++) {
		if (strncmp(data->items[i], name, len) == 0 && data->items[i][len] == '=')
			return data->items[i] + len + 1;
	}
	return NULL;
}

/* Returns 1 where a list of layers does not fit this way. */
static int set_option(int context, const struct spec_mount *mount, const char *option, struct mapped *mapped, struct gt_error *err)
{
	AUTO_FREE char *key = gt_xstrdup(option);
	char *value = strchr(key, '=');
	if (!value)
		return syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, NULL, 0) < 0 ? explain(context, mount, errno, key, err) : 0;
	*value++ = '\0';
	if (strcmp(mount->type, "overlay") == 0) {
		if (strcmp(key, "lowerdir") == 0) {
			int rc = mapped->remap || gt_overlay_checks_options() ? add_lower_dirs(context, value, mapped, err) : 1;
			if (rc <= 0)
				return rc;
			if (strlen(value) > GT_OVERLAY_LIST_MAX)
				return 1;
		} else if (mapped->remap && (strcmp(key, "upperdir") == 0 || strcmp(key, "workdir") == 0)) {
			const char *work = option_value(&mount->data, "workdir");
			return key[0] == 'u' && work ? set_mapped_pair(context, value, work, mapped, err) : 0;
		}
	}
	return set_string(context, key, value) < 0 ? explain(context, mount, errno, key, err) : 0;
}

/* A long list of layers, on an older kernel. */
static int classic_overlay(const struct spec_mount *mount, bool own_namespace, struct gt_error *err)
{
	if (!own_namespace)
		return gt_fail(err, GT_UNSUPPORTED, "an image of so many layers in a user namespace needs Linux 6.8 or newer");
	if (mounts_keep_from_host(err) < 0)
		return -1;
	AUTO_CLOSE int fd = gt_overlay_mount_classic(&mount->data, err);
	if (fd >= 0 && mount->attr_set && sys_mount_setattr(fd, "", 0, mount->attr_set, 0, 0, -1) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "set the flags of the mount on %s", mount->destination);
	return fd < 0 ? -1 : take_fd(fd);
}

/* An overlay works as whoever made it, and on an id-mapped layer only those make files who are in the map: it is made as the container's root, with all
 * of the caller's capabilities. */
static int create_as_root_of(const struct remap *remap, int context)
{
	int bits = prctl(PR_GET_SECUREBITS);
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
		return -1;
	uid_t uid = (uid_t)setfsuid((uid_t)remap->uid);
	gid_t gid = (gid_t)setfsgid((gid_t)remap->gid);
	int rc = (int)syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), kept = errno;
	setfsuid(uid);
	setfsgid(gid);
	prctl(PR_SET_SECUREBITS, bits);
	errno = kept;
	return rc;
}

/* mapped: empty; released by the caller. own_namespace: the caller's mount namespace is not the host's. */
static int make_file_system(const struct spec_mount *mount, struct mapped *mapped, bool own_namespace, struct gt_error *err)
{
	AUTO_CLOSE int context = (int)syscall(SYS_fsopen, mount->type, FSOPEN_CLOEXEC);
	if (context < 0)
		return gt_fail_sys(err, GT_INVALID, errno, "mount on %s: file system type %s", mount->destination, mount->type);
	if (mount->source[0] && set_string(context, "source", mount->source) < 0)
		return explain(context, mount, errno, "source", err);
	AUTO_CLOSE int claim = gt_overlay_claim(&mount->data);
	for (size_t i = 0; i < mount->data.count; i++) {
		int rc = set_option(context, mount, mount->data.items[i], mapped, err);
		if (rc != 0)
			return rc < 0 ? -1 : classic_overlay(mount, own_namespace, err);
	}
	if ((mapped->remap ? create_as_root_of(mapped->remap, context) : (int)syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) < 0)
		return explain(context, mount, errno, "create", err);
	int fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, (unsigned)mount->attr_set);
	return fd >= 0 ? fd : explain(context, mount, errno, "mount", err);
}

static int new_file_system(const struct spec_mount *mount, const struct remap *remap, bool own_namespace, struct gt_error *err)
{
	struct mapped mapped = { .remap = remap };
	int fd = make_file_system(mount, &mapped, own_namespace, err);
	mapped_release(&mapped);
	return fd;
}

/* ---- both ---- */

bool mount_needs_host(const struct spec_mount *mount)
{
	static const char *const OWN[] = { "proc", "sysfs", "devpts", "mqueue", "tmpfs", "cgroup", "cgroup2" };
	for (size_t i = 0; i < GT_COUNT(OWN); i++) {
		if (!mount->bind && strcmp(mount->type, OWN[i]) == 0)
			return false;
	}
	return true;
}

static int set_attributes(int fd, const struct spec_mount *mount, const struct remap *remap, struct gt_error *err)
{
	uint64_t propagation = mount->propagation ? mount->propagation : mount->bind ? MS_PRIVATE_ | MS_REC_ : 0;
	unsigned all = propagation & MS_REC_ ? AT_RECURSIVE : 0;
	if ((mount->bind && (mount->attr_set || mount->attr_clear)) &&
	    sys_mount_setattr(fd, "", 0, mount->attr_set, mount->attr_clear, 0, -1) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "set the flags of the mount on %s", mount->destination);
	if ((mount->attr_set_all || mount->attr_clear_all) &&
	    sys_mount_setattr(fd, "", AT_RECURSIVE, mount->attr_set_all, mount->attr_clear_all, 0, -1) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "set the recursive flags of the mount on %s", mount->destination);
	if (propagation && sys_mount_setattr(fd, "", all, 0, 0, propagation & ~MS_REC_, -1) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "set the propagation of the mount on %s", mount->destination);
	/* an overlay's layers are mapped, not itself */
	if (mount->idmap && remap && strcmp(mount->type, "overlay") != 0 && sys_mount_setattr(fd, "", mount->recursive ? AT_RECURSIVE : 0, 0, 0, 0, remap->userns) < 0)
		return gt_fail_sys(err, GT_UNSUPPORTED, errno, "id-map the mount of %s on %s: its file system cannot do it", mount->source,
				   mount->destination);
	return 0;
}

/* A part of a file system that is mounted nowhere. Takes whole over. */
static int below_mount(int whole, const struct spec_mount *mount, struct gt_error *err)
{
	AUTO_CLOSE int root = whole;
	AUTO_CLOSE int below = open_subpath(root, mount, err);
	if (below < 0)
		return -1;
	int fd = sys_open_tree(below, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
	if (fd < 0 && errno == EINVAL)
		return gt_fail(err, GT_UNSUPPORTED, "mount on %s: a subpath of an image needs Linux 6.15 or newer", mount->destination);
	return fd >= 0 ? fd : gt_fail_errno(err, errno, "mount on %s: the subpath %s", mount->destination, mount->subpath);
}

int mount_detached(const struct spec_mount *mount, const struct remap *remap, bool idmap_layers, struct gt_error *err)
{
	AUTO_CLOSE int fd = mount->bind ? bind_source(mount, err) : new_file_system(mount, idmap_layers ? remap : NULL, !remap, err);
	if (fd >= 0 && !mount->bind && mount->subpath)
		fd = below_mount(take_fd(fd), mount, err);
	if (fd < 0 || set_attributes(fd, mount, remap, err) < 0)
		return -1;
	return take_fd(fd);
}

/* ---- places, in jail ---- */

static int jail_open(const char *path, int flags)
{
	return gt_openat2(AT_FDCWD, path, flags | O_CLOEXEC, flags & O_CREAT ? 0644 : 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* An empty file or directory. The directory that it is in keeps its time: for `diff` and commits it has not changed, as the container did nothing to it. */
static int make_point(int parent, const char *name, bool directory, const char *path, struct gt_error *err)
{
	struct stat st;
	bool known = fstat(parent, &st) == 0;
	int rc = directory ? mkdirat(parent, name, 0755) : openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (rc < 0 && errno != EEXIST)
		return gt_fail_errno(err, errno, "make the mount point %s", path);
	if (rc >= 0 && !directory)
		close(rc);
	if (rc >= 0 && known)
		(void)utimensat(parent, "", (const struct timespec[]){ st.st_atim, st.st_mtim }, AT_EMPTY_PATH);
	return 0;
}

/* openat2 with RESOLVE_IN_ROOT starts at the directory it is given: the process's root. */
int mount_place(const char *path, bool directory, struct gt_error *err)
{
	int fd = jail_open(path, O_PATH);
	if (fd >= 0 || errno != ENOENT)
		return fd >= 0 ? fd : gt_fail_errno(err, errno, "the mount point %s", path);
	AUTO_FREE char *parent_path = gt_xstrdup(path);
	size_t len = strlen(parent_path);
	while (len > 1 && parent_path[len - 1] == '/')
		parent_path[--len] = '\0';
	char *slash = strrchr(parent_path, '/');
	if (!slash || !slash[1])
		return gt_fail(err, GT_INVALID, "the mount point %s cannot be made", path);
	AUTO_FREE char *name = gt_xstrdup(slash + 1);
	slash[slash == parent_path] = '\0';
	AUTO_CLOSE int parent = mount_place(parent_path, true, err);
	if (parent < 0)
		return -1;
	if (make_point(parent, name, directory, path, err) < 0)
		return -1;
	fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 ? fd : gt_fail_errno(err, errno, "the mount point %s", path);
}

int mount_attach(int mount, int place, const char *path, struct gt_error *err)
{
	if (syscall(SYS_move_mount, mount, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0)
		return 0;
	if (errno == ENOTDIR)
		return gt_fail(err, GT_INVALID,
			       "cannot mount on %s: are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists "
			       "and is the expected type: not a directory",
			       path);
	return gt_fail_sys(err, GT_INTERNAL, errno, "put the mount on %s", path);
}
