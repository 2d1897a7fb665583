/*
 * storage.c - the daemon's directories and programs: is there room, and are they of the right kind.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "internal.h"

#define MIB (1024ull * 1024)
#define FUSE_MAGIC 0x65735546

/* The directory, or where it would be made. The caller's. */
static char *nearest(const char *path)
{
	char *at = gt_xstrdup(path);
	while (access(at, F_OK) < 0) {
		char *slash = strrchr(at, '/');
		if (!slash || slash == at) {
			free(at);
			return gt_xstrdup("/");
		}
		*slash = '\0';
	}
	return at;
}

/* least: bytes without which nothing goes on. */
static void check_room(struct report *report, const char *name, const char *path, unsigned long long least)
{
	struct statvfs vfs;
	AUTO_FREE char *files = gt_xasprintf("%s.inodes", name);
	if (statvfs(path, &vfs) < 0) {
		found(report, name, FAILED, "make it readable for the daemon", "%s cannot be looked at: %s", path, strerror(errno));
		return;
	}
	unsigned long long left = (unsigned long long)vfs.f_bavail * vfs.f_frsize, all = (unsigned long long)vfs.f_blocks * vfs.f_frsize;
	unsigned percent = all ? (unsigned)(left * 100 / all) : 100;
	enum finding finding = left < least ? FAILED : left < 8 * least && percent < 20 ? WARNING : FINE;
	if (vfs.f_flag & ST_RDONLY)
		found(report, name, FAILED, "mount it writable, and look into the kernel's log for why it is not", "%s is on a read-only file system", path);
	else
		found(report, name, finding, "free some: gantry system df tells where it went, gantry system prune takes what is unused",
		      "%s has %llu MiB left (%u %%)", path, left / MIB, percent);
	if (!vfs.f_files)
		return; /* made as they are needed */
	unsigned long long inodes = vfs.f_favail;
	percent = (unsigned)(inodes * 100 / vfs.f_files);
	finding = inodes < 100 ? FAILED : percent < 5 ? WARNING : FINE;
	found(report, files, finding, "remove images that are not used, or make the file system anew with more inodes", "%s has %llu inodes left (%u %%)", path,
	      inodes, percent);
}

static void check_root_kind(struct report *report, const char *path)
{
	struct statfs fs;
	if (statfs(path, &fs) < 0 || strcmp(report->config->storage_driver, "overlay") != 0)
		return;
	const char *kind = fs.f_type == OVERLAYFS_SUPER_MAGIC ? "an overlay" : fs.f_type == NFS_SUPER_MAGIC ? "NFS" : fs.f_type == FUSE_MAGIC ? "a FUSE file system" : NULL;
	if (kind)
		found(report, "storage.root.kind", FAILED, "put [daemon] root on a local disk file system such as ext4 or xfs",
		      "%s is on %s, which cannot hold the layers of overlayfs", path, kind);
}

static void check_run_kind(struct report *report, const char *path)
{
	struct statfs fs;
	if (statfs(path, &fs) < 0)
		return;
	bool memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
	found(report, "storage.run.kind", memory ? FINE : WARNING, "put [daemon] run on a tmpfs: what is in it is of running containers, and each start writes there",
	      memory ? "%s is in memory" : "%s is on a disk", path);
}

static void check_programs(struct report *report)
{
	static const char *const PROGRAMS[] = { "gantry-shim", "gantry-init", "gantry-fs", "gantry-plugin-host" };
	AUTO_BUF struct gt_buf missing = { 0 };
	for (size_t i = 0; i < GT_COUNT(PROGRAMS); i++) {
		AUTO_FREE char *path = gt_xasprintf("%s/%s", report->config->libexec_dir, PROGRAMS[i]);
		if (access(path, X_OK) < 0)
			add_word(&missing, PROGRAMS[i]);
	}
	if (missing.len)
		found(report, "programs", FAILED, "install gantry whole, or set [daemon] libexec_dir", "%s lacks programs: %s", report->config->libexec_dir, missing.data);
	else
		found(report, "programs", FINE, "", "the helper programs are in %s", report->config->libexec_dir);
}

void check_storage(struct report *report)
{
	AUTO_FREE char *root = nearest(report->config->root), *run = nearest(report->config->run);
	check_room(report, "storage.root", root, 64 * MIB);
	check_root_kind(report, root);
	check_room(report, "storage.run", run, 2 * MIB);
	check_run_kind(report, run);
	check_programs(report);
}
