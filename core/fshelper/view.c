/*
 * view.c - the root that a job works below.
 *
 * A running container: /proc/PID/root as a directory descriptor, which sees the container's own mounts whatever namespace we are in; where the
 * container has a user namespace we enter it, so that owners are the container's and our privileges end at its border. A stopped one: the
 * described mounts, the first of them as root, in a private mount namespace.
 */
#include <errno.h>
#include <grp.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/syscall.h>

#include "base/json.h"
#include "fs.h"

static int mount_id(int fd, uint64_t *id, struct gt_error *err)
{
	struct statx sx;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & STATX_MNT_ID))
		return gt_fail_sys(err, GT_INTERNAL, errno, "look at the root's mount");
	*id = sx.stx_mnt_id;
	return 0;
}

/* By ESRCH the engine knows that it may look at the container as a stopped one. */
static int has_ended(struct gt_error *err)
{
	gt_fail(err, GT_CONFLICT, "the container's process has ended");
	if (err)
		err->errnum = ESRCH;
	return -1;
}

static int enter_user_namespace(int pidfd, int procfd, struct gt_error *err)
{
	struct stat theirs, ours;
	if (fstatat(procfd, "ns/user", &theirs, 0) < 0)
		return errno == ENOENT || errno == ESRCH ? has_ended(err) :
							   gt_fail_sys(err, GT_INTERNAL, errno, "look at the container's user namespace");
	if (stat("/proc/self/ns/user", &ours) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "look at the own user namespace");
	if (theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev)
		return 0;
	if (setns(pidfd, CLONE_NEWUSER) < 0)
		return errno == ESRCH ? has_ended(err) : gt_fail_sys(err, GT_INTERNAL, errno, "enter the container's user namespace");
	/* plain system calls: there is one thread */
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "become root of the container's user namespace");
	return 0;
}

static int open_running(int64_t pid, struct fs_view *view, struct gt_error *err)
{
	AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (pidfd < 0)
		return has_ended(err);
	char path[64];
	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	AUTO_CLOSE int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int root = proc < 0 ? -1 : openat(proc, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* What ends has no root left, which reads as ENOENT, before it is reaped. */
	if (root < 0)
		return errno == ENOENT || errno == ESRCH ? has_ended(err) : gt_fail_sys(err, GT_CONFLICT, errno, "open the root of the container's process");
	/* The pid was not reused between: the process behind the pidfd is still there. */
	if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
		return has_ended(err);
	if (enter_user_namespace(pidfd, proc, err) < 0)
		return -1;
	view->root = take_fd(root);
	return 0;
}

/* A file's mount point is a file. */
static int make_mount_point(int root, const char *path, bool directory, struct gt_error *err)
{
	int fd = fs_open(root, path, O_PATH);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (directory)
		return fs_make_dirs(root, path, err);
	char parent[FS_PATH_MAX];
	const char *base = fs_split(path, parent);
	AUTO_CLOSE int dir = fs_make_dirs(root, parent, err);
	if (dir < 0)
		return -1;
	AUTO_CLOSE int made = openat(dir, base, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (made < 0 && errno != EEXIST)
		return -1;
	return fs_open(root, path, O_PATH);
}

static int mount_volume(int root, const json_t *spec, struct gt_error *err)
{
	const char *destination = "";
	if (gt_json_string(spec, "destination", &destination, err) < 0)
		return -1;
	AUTO_FREE char *path = fs_clean_path(destination, true, err);
	if (!path)
		return -1;
	AUTO_CLOSE int fd = fs_mount(spec, err);
	if (fd < 0)
		return gt_context(err, "volume at %s", destination);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return gt_fail_errno(err, errno, "volume at %s", destination);
	struct gt_error ignored;
	AUTO_CLOSE int target = make_mount_point(root, path, S_ISDIR(st.st_mode), &ignored);
	if (target < 0)
		return 0; /* a read-only root without that directory: nobody can name a path in it */
	if (syscall(SYS_move_mount, fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "attach the volume at %s", destination);
	return 0;
}

static int open_mounts(const json_t *mounts, struct fs_view *view, struct gt_error *err)
{
	if (json_array_size(mounts) == 0)
		return gt_fail(err, GT_INVALID, "the job names no root");
	if (fs_private_namespace(err) < 0)
		return -1;
	AUTO_CLOSE int root = fs_mount(json_array_get(mounts, 0), err);
	if (root < 0)
		return gt_context(err, "root file system");
	/* Other mounts can only be put on an attached one. It goes on top of "/", where this process's own root does not see it. */
	if (syscall(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "attach the root file system");
	for (size_t i = 1; i < json_array_size(mounts); i++) {
		if (mount_volume(root, json_array_get(mounts, i), err) < 0)
			return -1;
	}
	view->root = take_fd(root);
	return 0;
}

int fs_view_open(const json_t *spec, struct fs_view *view, struct gt_error *err)
{
	int64_t pid = 0;
	json_t *mounts = NULL;
	view->root = -1;
	if (gt_json_int(spec, "pid", &pid, err) < 0 || gt_json_array(spec, "mounts", &mounts, err) < 0)
		return -1;
	if ((pid > 0 ? open_running(pid, view, err) : open_mounts(mounts, view, err)) < 0)
		return -1;
	return mount_id(view->root, &view->mount_id, err);
}

int fs_drop_privileges(bool trusted_xattrs, struct gt_error *err)
{
	static const cap_value_t needed[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID,
					      CAP_MKNOD, CAP_SETFCAP, CAP_SYS_ADMIN };
	int count = (int)GT_COUNT(needed) - !trusted_xattrs;
	cap_t have = cap_get_proc(), caps = cap_init();
	int rc = have && caps ? 0 : -1;
	for (int i = 0; rc == 0 && i < count; i++) {
		cap_flag_value_t permitted = CAP_CLEAR;
		if (cap_get_flag(have, needed[i], CAP_PERMITTED, &permitted) == 0 && permitted == CAP_SET)
			rc = cap_set_flag(caps, CAP_PERMITTED, 1, &needed[i], CAP_SET) |
			     cap_set_flag(caps, CAP_EFFECTIVE, 1, &needed[i], CAP_SET);
	}
	if (rc == 0)
		rc = cap_set_proc(caps);
	int saved = errno;
	cap_free(have);
	cap_free(caps);
	return rc == 0 ? 0 : gt_fail_sys(err, GT_INTERNAL, saved, "give up privileges");
}
