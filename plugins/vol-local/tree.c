/*
 * tree.c - removing and counting what is in a volume. Its content is hostile: links are not followed, mount points are not crossed, and depth costs
 * neither stack nor descriptors (what lies too deep is moved up and removed from there).
 */
#include "local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 128
#define COUNT_DEPTH 512

struct removal {
	struct local *self;
	const struct gantry_call *call;
	unsigned entries;
	bool moved;
};

/* A real sub-directory on the same mount. */
static int open_subdir(int dirfd, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
	};
	return (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
}

static bool stopped(struct local *self, const struct gantry_call *call, unsigned *entries)
{
	return ++*entries % 64 == 0 && (atomic_load(&self->stop) || (call && self->host->cancelled(self->host, call)));
}

/* ---- removing ---- */

/* chattr +i and +a, which a privileged container may have set. */
static void clear_flags(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), flags;
	if (fd < 0)
		return;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL))) {
		flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
		if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0)
			flags = 0; /* the removal will say so */
	}
	close(fd);
}

static int unlink_stubborn(int dirfd, const char *name, int how)
{
	struct stat st;
	if (unlinkat(dirfd, name, how) == 0 || errno == ENOENT)
		return 0;
	if (errno != EPERM)
		return -1;
	clear_flags(dirfd, ".");
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		clear_flags(dirfd, name);
	return unlinkat(dirfd, name, how) == 0 || errno == ENOENT ? 0 : -1;
}

static int remove_dir(struct removal *how, int dirfd, const char *name, int depth)
{
	if (depth == 0) {
		char up[64];
		temporary_name(how->self, ".gone", up);
		how->moved = true;
		return renameat2(dirfd, name, how->self->fd, up, RENAME_NOREPLACE);
	}
	int fd = open_subdir(dirfd, name), rc = 0, saved;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		saved = errno;
		if (fd >= 0)
			close(fd);
		errno = saved;
		return saved == ENOENT ? 0 : -1;
	}
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (stopped(how->self, how->call, &how->entries)) {
			errno = ECANCELED;
			rc = -1;
		} else if (entry->d_type == DT_DIR || unlink_stubborn(fd, entry->d_name, 0) < 0) {
			rc = entry->d_type == DT_DIR || errno == EISDIR ? remove_dir(how, fd, entry->d_name, depth - 1) : -1;
		}
	}
	saved = errno;
	closedir(dir);
	errno = saved;
	return rc < 0 ? -1 : unlink_stubborn(dirfd, name, AT_REMOVEDIR);
}

/* What was moved up, until nothing is any more. Only names of this life are looked at; removals by other threads do no harm. */
static int remove_moved(struct removal *how)
{
	int rc = 0;
	while (rc == 0 && how->moved) {
		how->moved = false;
		int fd = openat(how->self->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *dir = fd < 0 ? NULL : fdopendir(fd);
		for (struct dirent *entry; dir && rc == 0 && (entry = readdir(dir)) != NULL;) {
			if (strncmp(entry->d_name, ".gone-", 6) == 0 && of_this_life(how->self, entry->d_name))
				rc = remove_dir(how, how->self->fd, entry->d_name, DEPTH);
		}
		int saved = errno;
		if (dir)
			closedir(dir);
		else if (fd >= 0)
			close(fd);
		errno = saved;
		rc = dir ? rc : -1;
	}
	return rc;
}

int tree_remove(struct local *self, const struct gantry_call *call, const char *name)
{
	struct removal how = { .self = self, .call = call };
	if (remove_dir(&how, self->fd, name, DEPTH) < 0)
		return -1;
	return how.moved ? remove_moved(&how) : 0;
}

/* ---- counting ---- */

struct count {
	struct local *self;
	const struct gantry_call *call;
	struct gantry_usage *usage;
	void *links;            /* tsearch(3) of inode numbers of files with several names */
	unsigned entries;
};

static int by_inode(const void *a, const void *b)
{
	const ino_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static bool counted(struct count *count, const struct stat *st)
{
	ino_t *inode = st->st_nlink < 2 ? NULL : malloc(sizeof *inode);
	if (!inode)
		return false;
	*inode = st->st_ino;
	ino_t **node = tsearch(inode, &count->links, by_inode);
	bool known = node && *node != inode;
	if (!node || known)
		free(inode);
	return known;
}

static int count_dir(struct count *count, int dirfd, const char *name, int depth)
{
	int fd = open_subdir(dirfd, name), rc = 0, saved;
	if (fd < 0)
		return errno == ENOENT || errno == EXDEV ? 0 : -1; /* gone meanwhile, or another file system */
	DIR *dir = depth > 0 ? fdopendir(fd) : (errno = ELOOP, NULL);
	if (!dir) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;) {
		struct stat st;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (!S_ISDIR(st.st_mode) && counted(count, &st)))
			continue;
		count->usage->inodes++;
		if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
			count->usage->bytes += st.st_size;
		else if (S_ISDIR(st.st_mode))
			rc = count_dir(count, fd, entry->d_name, depth - 1);
		if (rc == 0 && stopped(count->self, count->call, &count->entries)) {
			errno = ECANCELED;
			rc = -1;
		}
	}
	saved = errno;
	closedir(dir);
	errno = saved;
	return rc;
}

int tree_usage(struct local *self, const struct gantry_call *call, int dirfd, struct gantry_usage *usage)
{
	struct count count = { .self = self, .call = call, .usage = usage };
	int rc = count_dir(&count, dirfd, ".", COUNT_DEPTH), saved = errno;
	tdestroy(count.links, free);
	errno = saved;
	return rc;
}
