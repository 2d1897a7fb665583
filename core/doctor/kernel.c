/*
 * kernel.c - system calls, namespaces, overlayfs, seccomp, idmapped mounts, AppArmor, cgroups. What can be asked of the kernel is asked of it: versions and
 * lists of modules say less.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"
#include "runtime/cgroup.h"

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

/* ---- system calls ---- */

/* Each with arguments that it must refuse: ENOSYS tells that it is not there at all. */
static void check_calls(struct report *report)
{
	static const struct {
		long number;
		const char *name, *since;
	} CALLS[] = {
		{ SYS_fsopen, "fsopen", "5.2" },           { SYS_move_mount, "move_mount", "5.2" },   { SYS_pidfd_open, "pidfd_open", "5.3" },
		{ SYS_openat2, "openat2", "5.6" },         { SYS_close_range, "close_range", "5.9" }, { SYS_mount_setattr, "mount_setattr", "5.12" },
		{ SYS_clone3, "clone3", "5.3" },
	};
	AUTO_BUF struct gt_buf missing = { 0 };
	struct utsname uts;
	uname(&uts);
	for (size_t i = 0; i < GT_COUNT(CALLS); i++) {
		if (syscall(CALLS[i].number, -1, NULL, -1, NULL, 0) >= 0 || errno != ENOSYS)
			continue;
		AUTO_FREE char *text = gt_xasprintf("%s (Linux %s)", CALLS[i].name, CALLS[i].since);
		add_word(&missing, text);
	}
	if (missing.len)
		found(report, "kernel.calls", FAILED, "run a newer kernel, or let the sandbox that this runs in pass these calls",
		      "kernel %s lacks system calls: %s", uts.release, missing.data);
	else
		found(report, "kernel.calls", FINE, "", "kernel %s has the system calls that containers are made with", uts.release);
}

/* ---- namespaces ---- */

static bool has_namespace(const char *file, const char *limit)
{
	AUTO_FREE char *path = gt_xasprintf("/proc/self/ns/%s", file);
	AUTO_FREE char *sysctl = gt_xasprintf("/proc/sys/user/max_%s_namespaces", limit);
	return access(path, F_OK) == 0 && number_in(sysctl, 1) > 0;
}

static void check_namespaces(struct report *report)
{
	static const char *const NAMES[][2] = { { "mnt", "mnt" }, { "pid", "pid" }, { "net", "net" }, { "ipc", "ipc" }, { "uts", "uts" }, { "cgroup", "cgroup" } };
	AUTO_BUF struct gt_buf missing = { 0 };
	for (size_t i = 0; i < GT_COUNT(NAMES); i++) {
		if (!has_namespace(NAMES[i][0], NAMES[i][1]))
			add_word(&missing, NAMES[i][0]);
	}
	if (missing.len)
		found(report, "kernel.namespaces", FAILED, "raise /proc/sys/user/max_*_namespaces, or run a kernel that has them (CONFIG_NAMESPACES)",
		      "no namespaces of these kinds can be made: %s", missing.data);
	else
		found(report, "kernel.namespaces", FINE, "", "namespaces of all kinds can be made");
	bool wanted = *report->config->userns_remap;
	if (has_namespace("user", "user"))
		found(report, "kernel.userns", FINE, "", "user namespaces can be made%s", wanted ? "" : " ([runtime] userns_remap is off)");
	else
		found(report, "kernel.userns", wanted ? FAILED : WARNING, "raise /proc/sys/user/max_user_namespaces, or set no [runtime] userns_remap",
		      "no user namespaces can be made");
}

/* A child in a user namespace of its own with these ids, for as long as it takes to open that. -1 where it cannot be. */
static int open_user_namespace(void)
{
	int end[2], fd = -1;
	if (pipe2(end, O_CLOEXEC) < 0)
		return -1;
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		char byte;
		close(end[1]);
		_exit(read(end[0], &byte, 1) < 0);
	}
	close(end[0]);
	if (pid > 0) {
		AUTO_FREE char *map = gt_xasprintf("/proc/%d/uid_map", pid), *groups = gt_xasprintf("/proc/%d/gid_map", pid);
		AUTO_FREE char *ns = gt_xasprintf("/proc/%d/ns/user", pid);
		if (gt_write_control(AT_FDCWD, map, "0 100000 65536", NULL) == 0 && gt_write_control(AT_FDCWD, groups, "0 100000 65536", NULL) == 0)
			fd = open(ns, O_RDONLY | O_CLOEXEC);
	}
	close(end[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return fd;
}

/* Tried on a mount of the state directory that nobody sees. */
static void check_idmap(struct report *report)
{
	bool wanted = *report->config->userns_remap;
	if (!report->root)
		return;
	const char *root = access(report->config->root, F_OK) == 0 ? report->config->root : "/";
	AUTO_CLOSE int ns = open_user_namespace();
	AUTO_CLOSE int tree = (int)syscall(SYS_open_tree, AT_FDCWD, root, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = ns < 0 ? 0 : (unsigned)ns };
	if (ns >= 0 && tree >= 0 && syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0)
		found(report, "kernel.idmap", FINE, "", "mounts of %s can map ids for user namespaces", root);
	else
		found(report, "kernel.idmap", wanted ? FAILED : WARNING, "put [daemon] root on a file system with idmapped mounts (ext4, xfs, btrfs), or set no userns_remap",
		      "mounts of %s cannot map ids, which [runtime] userns_remap needs: %s", root, strerror(errno));
}

/* ---- others ---- */

static void check_overlay(struct report *report)
{
	bool wanted = strcmp(report->config->storage_driver, "overlay") == 0;
	if (!report->root)
		return;
	AUTO_CLOSE int fd = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
	if (fd >= 0)
		found(report, "kernel.overlayfs", FINE, "", "the kernel has overlayfs");
	else
		found(report, "kernel.overlayfs", wanted ? FAILED : WARNING, "load the module (modprobe overlay), or set another [storage] driver",
		      "overlayfs cannot be used: %s", strerror(errno));
}

static void check_seccomp(struct report *report)
{
	uint32_t action = SECCOMP_RET_ERRNO;
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0)
		found(report, "kernel.seccomp", FINE, "", "the kernel filters system calls (seccomp)");
	else
		found(report, "kernel.seccomp", FAILED, "run a kernel with CONFIG_SECCOMP_FILTER; until then containers start only with --security-opt seccomp=unconfined",
		      "system calls cannot be filtered (seccomp): %s", strerror(errno));
}

static void check_apparmor(struct report *report)
{
	AUTO_BUF struct gt_buf enabled = { 0 };
	AUTO_BUF struct gt_buf profile = { 0 };
	bool on = gt_read_file(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 64, &enabled, NULL) == 0 && enabled.len && enabled.data[0] == 'Y';
	if (!on) {
		found(report, "kernel.apparmor", FINE, "", "AppArmor is off: containers are held by capabilities, seccomp and namespaces");
		return;
	}
	if (access("/sys/kernel/security/apparmor", F_OK) < 0) {
		found(report, "kernel.apparmor", WARNING, "mount -t securityfs securityfs /sys/kernel/security, and restart gantryd",
		      "AppArmor is on, but its files are not mounted: containers get no profile");
		return;
	}
	gt_read_file(AT_FDCWD, "/proc/self/attr/apparmor/current", 4096, &profile, NULL);
	if (profile.len)
		profile.data[strcspn(profile.data, "\n")] = '\0';
	if (profile.len && strncmp(profile.data, "unconfined", 10) != 0)
		found(report, "kernel.apparmor", WARNING, "take the daemon's profile away (aa-disable), or let it mount, pivot_root and signal",
		      "AppArmor holds this process itself by profile %s", profile.data);
	else
		found(report, "kernel.apparmor", FINE, "", "AppArmor is on: containers get the profile gantry-default");
}

void check_kernel(struct report *report)
{
	check_calls(report);
	check_namespaces(report);
	check_idmap(report);
	check_overlay(report);
	check_seccomp(report);
	check_apparmor(report);
}

/* ---- cgroups ---- */

void check_cgroups(struct report *report)
{
	static const char *const RESOURCES[] = { "memory", "cpu", "pids", "cpuset", "blkio", "freezer" };
	const char *version = gt_cgroup_world() == GT_CGROUP_V2 ? "v2" : gt_cgroup_world() == GT_CGROUP_V1 ? "v1" : "v1 with v2 beside";
	AUTO_BUF struct gt_buf missing = { 0 };
	struct statvfs vfs;
	size_t count = 0;
	for (size_t i = 0; i < GT_COUNT(RESOURCES); i++) {
		if (gt_cgroup_has(RESOURCES[i]))
			continue;
		add_word(&missing, RESOURCES[i]);
		count++;
	}
	if (count == GT_COUNT(RESOURCES))
		found(report, "cgroup", FAILED, "mount them at /sys/fs/cgroup, as systemd does", "no control groups are mounted");
	else if (statvfs("/sys/fs/cgroup", &vfs) == 0 && (vfs.f_flag & ST_RDONLY) && gt_cgroup_world() == GT_CGROUP_V2)
		found(report, "cgroup", FAILED, "mount /sys/fs/cgroup writable", "/sys/fs/cgroup is read-only: containers cannot get control groups");
	else if (count)
		found(report, "cgroup", WARNING, "boot with these controllers on (kernel options cgroup_enable=, cgroup_no_v1=), or do not use their limits",
		      "control groups (%s) lack controllers: %s", version, missing.data);
	else
		found(report, "cgroup", FINE, "", "control groups are %s, with all controllers", version);
	if (!gt_cgroup_has("swap"))
		found(report, "cgroup.swap", WARNING, "boot with swapaccount=1, where --memory-swap is to hold", "swap cannot be limited");
}
