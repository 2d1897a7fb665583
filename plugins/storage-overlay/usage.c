/*
 * usage.c - what a layer itself holds: the sizes of its files (a hard-linked one once), without directories, as `docker ps -s` counts.
 */
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

struct count {
	struct overlay *self;
	const struct gantry_call *call;
	struct gantry_usage *usage;
	void *links;            /* tsearch(3) of inode numbers of files with several names */
	unsigned entries;
	const char *why;
};

static int by_inode(const void *a, const void *b)
{
	const ino_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* True where this inode was counted before. */
static bool counted(struct count *count, const struct stat *st)
{
	if (st->st_nlink < 2)
		return false;
	ino_t *inode = malloc(sizeof *inode);
	if (!inode)
		return false;
	*inode = st->st_ino;
	ino_t **node = tsearch(inode, &count->links, by_inode);
	bool known = node && *node != inode;
	if (!node || known)
		free(inode);
	return known;
}

/* A file whose data is still the lower one's. */
static bool borrows_data(const struct count *count, int dirfd, const char *name)
{
	if (!count->self->metacopy)
		return false;
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	bool yes = fd >= 0 && fgetxattr(fd, "trusted.overlay.metacopy", NULL, 0) >= 0;
	if (fd >= 0)
		close(fd);
	return yes;
}

/* Returns -1 with errno, or count->why. */
static int walk(struct count *count, int dirfd, unsigned depth)
{
	struct names names = { 0 };
	int rc = names_read(&names, dirfd);
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		struct stat st;
		if (++count->entries % 256 == 0 && count->self->host->cancelled(count->self->host, count->call)) {
			count->why = "the time for it is up";
			rc = -1;
			break;
		}
		if (fstatat(dirfd, names.items[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* gone meanwhile */
		if (!S_ISDIR(st.st_mode)) {
			if (counted(count, &st))
				continue;
			count->usage->inodes++;
			if ((S_ISREG(st.st_mode) && !borrows_data(count, dirfd, names.items[i])) || S_ISLNK(st.st_mode))
				count->usage->bytes += st.st_size;
			continue;
		}
		count->usage->inodes++;
		int fd = openat(dirfd, names.items[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
			continue;
		if (depth == 0)
			count->why = "directories are nested too deeply in it";
		rc = fd < 0 || depth == 0 ? -1 : walk(count, fd, depth - 1);
		if (fd >= 0)
			close(fd);
	}
	names_free(&names);
	return rc;
}

int layer_usage(struct overlay *self, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err)
{
	struct count count = { .self = self, .call = call, .usage = usage };
	char path[ID_MAX + 16];
	pthread_mutex_lock(&self->lock);
	const struct layer *layer = layer_get(self, id, err);
	pthread_mutex_unlock(&self->lock);
	if (!layer)
		return -1;
	snprintf(path, sizeof path, "%s/diff", id);
	int fd = openat(self->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	usage->bytes = usage->inodes = 0;
	int rc = fd < 0 ? -1 : walk(&count, fd, MAX_DEPTH);
	if (rc < 0 && count.why)
		gantry_fail(err, GANTRY_E_UNSUPPORTED, "the size of layer %.12s cannot be told: %s", id, count.why);
	else if (rc < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "count the files of layer %.12s", id);
	if (fd >= 0)
		close(fd);
	tdestroy(count.links, free);
	return rc;
}
