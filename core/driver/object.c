/*
 * object.c - one plugin's file.
 *
 * It is opened without following a link, judged by the descriptor (a regular file that root owns and only root can write), and loaded through that
 * same descriptor, so that what was judged is what runs. The name under which the dynamic linker knows it is then /proc/self/fd/N; as it takes an
 * equal name for the same object, the descriptor stays open as long as the object is mapped.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "internal.h"
#include "remote/remote.h"

/* ---- trust ---- */

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return "a regular file";
	case S_IFDIR: return "a directory";
	case S_IFLNK: return "a symbolic link";
	case S_IFIFO: return "a fifo";
	case S_IFSOCK: return "a socket";
	default: return "a device";
	}
}

int check_owner(const char *what, const char *path, const struct stat *st, struct gt_error *err)
{
	if (st->st_uid != 0)
		return gt_fail(err, GT_DENIED, "%s %s: owner: found uid %u, wanted uid 0 (root)", what, path, st->st_uid);
	if ((st->st_mode & S_IWOTH) || ((st->st_mode & S_IWGRP) && st->st_gid != 0))
		return gt_fail(err, GT_DENIED, "%s %s: mode: found %04o, writable by %s, wanted one that only root can write (chmod go-w)", what, path,
			       st->st_mode & 07777u, st->st_mode & S_IWOTH ? "everyone" : "its group");
	return 0;
}

static int open_trusted(const char *path, struct stat *st, struct gt_error *err)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ELOOP)
		return gt_fail(err, GT_DENIED, "plugin %s: file type: found a symbolic link, wanted a regular file", path);
	if (fd < 0 || fstat(fd, st) < 0)
		return gt_fail(err, GT_NOT_FOUND, "plugin %s: file: found none to read (%s), wanted a regular file", path, strerror(errno));
	if (!S_ISREG(st->st_mode))
		return gt_fail(err, GT_DENIED, "plugin %s: file type: found %s, wanted a regular file", path, type_name(st->st_mode));
	if (check_owner("plugin", path, st, err) < 0)
		return -1;
	return take_fd(fd);
}

int object_open(struct plugin *plugin, struct gt_error *err)
{
	plugin->fd = open_trusted(plugin->path, &plugin->file, err);
	return plugin->fd < 0 ? -1 : 0;
}

/* ---- mapping ---- */

static bool same_content(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The dynamic linker knows a file by its inode, and gives again what it has mapped of it: what was written over it would never be seen whole. */
int object_share(struct plugin *plugin, const struct plugin *before, struct gt_error *err)
{
	if (!before || !before->handle || before->file.st_dev != plugin->file.st_dev || before->file.st_ino != plugin->file.st_ino)
		return 0;
	if (!same_content(&before->file, &plugin->file))
		return refuse(plugin, err, "file", "the one that is in use, written over",
			      "a new one in its place (install(1), or mv(1) from beside it): the daemon has that file mapped, and may crash now");
	close(plugin->fd);
	plugin->fd = before->fd;
	return 0;
}

int object_map(struct plugin *plugin, struct gt_error *err)
{
	char name[40];
	int len = snprintf(name, sizeof name, "/proc/self/fd/%d", plugin->fd);
	plugin->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (plugin->handle)
		return 0;
	const char *why = dlerror();
	if (why && strncmp(why, name, (size_t)len) == 0 && strncmp(why + len, ": ", 2) == 0)
		why += len + 2;
	AUTO_FREE char *found = gt_xasprintf("\"%.300s\"", why ? why : "unknown error");
	return refuse(plugin, err, "loading", found, "a shared object whose symbols and libraries are all there");
}

void object_unmap(struct plugin *plugin)
{
	char name[40];
	if (!plugin->handle)
		return;
	dlclose(plugin->handle);
	plugin->handle = NULL;
	/* An object that refuses to be unmapped keeps its name, and so the descriptor. */
	snprintf(name, sizeof name, "/proc/self/fd/%d", plugin->fd);
	void *still = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
	if (still) {
		dlclose(still);
		plugin->fd = -1;
	}
}

void plugin_free(struct plugin *plugin)
{
	if (!plugin)
		return;
	if (plugin->remote)
		remote_close(plugin);
	for (size_t i = 0; plugin->drivers && i < plugin->driver_count; i++) {
		free(plugin->drivers[i].state_dir);
		free(plugin->drivers[i].run_dir);
	}
	for (size_t i = 0; plugin->values && i < plugin->info.key_count; i++)
		free(plugin->values[i]);
	free(plugin->drivers);
	free(plugin->values);
	free(plugin->keys);
	object_unmap(plugin);
	if (plugin->fd >= 0)
		close(plugin->fd);
	free(plugin->path);
	free(plugin->name);
	free(plugin);
}
