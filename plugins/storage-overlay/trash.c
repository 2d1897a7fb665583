/*
 * trash.c - removal: one rename takes a layer out of sight, then its files go.
 *
 * A thread (the reaper, which lives from its first need until close()) deletes them, and what a crash left; nobody waits for it. Where it falls behind,
 * callers of remove() delete for a while themselves, so that making and removing cannot outrun it. Trees are hostile: links are not followed, and directories below
 * MAX_DEPTH levels are moved up into trash/, so that depth costs neither stack nor descriptors.
 */
#include "overlay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 2000000000LL        /* that a caller of remove() spends */
#define TRASH_DEPTH 128
#define BACKLOG_MAX 64                  /* removals that the reaper may be behind before callers help */

struct removal {
	struct overlay *self;
	int64_t until;          /* CLOCK_MONOTONIC; 0: as long as it takes */
	bool moved;             /* something was moved up into trash/ */
	bool late;
};

static int64_t monotonic(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int trash_put(struct overlay *self, int dirfd, const char *name, char trash_name[16], struct gantry_error *err)
{
	for (;;) {
		snprintf(trash_name, 16, "%08x", atomic_fetch_add(&self->serial, 1));
		if (renameat2(dirfd, name, self->trash_fd, trash_name, RENAME_NOREPLACE) == 0 || errno == ENOENT)
			return 0;
		if (errno != EEXIST)
			return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "move %s to %s/trash", name, self->dir);
	}
}

/* ---- deleting ---- */

static bool out_of_time(struct removal *how)
{
	if (atomic_load(&how->self->stop) || (how->until && monotonic() >= how->until))
		how->late = true;
	return how->late;
}

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
	if (unlinkat(dirfd, name, how) == 0 || errno == ENOENT)
		return 0;
	if (errno != EPERM)
		return -1;
	struct stat st;
	clear_flags(dirfd, ".");
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		clear_flags(dirfd, name);
	return unlinkat(dirfd, name, how) == 0 || errno == ENOENT ? 0 : -1;
}

static int remove_dir(struct removal *how, int dirfd, const char *name, int depth);

/* The content of an open directory, which is closed. Returns 0, or -1 with errno (ETIMEDOUT: late). */
static int remove_content(struct removal *how, int fd, int depth)
{
	DIR *dir = fdopendir(fd);
	int rc = 0, saved = errno;
	if (!dir) {
		close(fd);
		errno = saved;
		return -1;
	}
	struct dirent *entry;
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (out_of_time(how)) {
			errno = ETIMEDOUT;
			rc = -1;
		} else if (entry->d_type == DT_DIR || (unlink_stubborn(fd, entry->d_name, 0) < 0)) {
			rc = entry->d_type == DT_DIR || errno == EISDIR ? remove_dir(how, fd, entry->d_name, depth) : -1;
		}
	}
	saved = errno;
	closedir(dir);
	errno = saved;
	return rc;
}

static int remove_dir(struct removal *how, int dirfd, const char *name, int depth)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	char trash_name[16];
	if (depth == 0) {
		how->moved = true;
		return trash_put(how->self, dirfd, name, trash_name, &ignored) < 0 ? (errno = ignored.errnum, -1) : 0;
	}
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	return remove_content(how, fd, depth - 1) < 0 ? -1 : unlink_stubborn(dirfd, name, AT_REMOVEDIR);
}

static int remove_entry(struct removal *how, const char *name)
{
	if (unlink_stubborn(how->self->trash_fd, name, 0) == 0)
		return 0;
	return errno == EISDIR ? remove_dir(how, how->self->trash_fd, name, TRASH_DEPTH) : -1;
}

static void complain(struct overlay *self, const char *name)
{
	char line[256], reason[64];
	snprintf(line, sizeof line, "%s/trash/%s cannot be removed: %s", self->dir, name, strerror_r(errno, reason, sizeof reason));
	self->host->log(self->host, GANTRY_WARN, line);
}

/* ---- the reaper ---- */

/* All of trash/, until a pass moves nothing up any more. */
static void empty_trash(struct overlay *self)
{
	struct removal how = { .self = self };
	do {
		struct names names = { 0 };
		how.moved = false;
		if (names_read(&names, self->trash_fd) < 0)
			complain(self, ".");
		for (size_t i = 0; i < names.count && !out_of_time(&how); i++) {
			if (remove_entry(&how, names.items[i]) < 0 && !how.late)
				complain(self, names.items[i]);
		}
		names_free(&names);
	} while (how.moved && !how.late);
}

static void *reaper_main(void *arg)
{
	struct overlay *self = arg;
	pthread_mutex_lock(&self->lock);
	while (!atomic_load(&self->stop)) {
		if (!self->reaper_work) {
			pthread_cond_wait(&self->reaper_wake, &self->lock);
			continue;
		}
		self->reaper_work = false;
		atomic_store(&self->backlog, 0);
		pthread_mutex_unlock(&self->lock);
		empty_trash(self);
		pthread_mutex_lock(&self->lock);
	}
	pthread_mutex_unlock(&self->lock);
	return NULL;
}

static void set_to_work(struct overlay *self)
{
	pthread_mutex_lock(&self->lock);
	self->reaper_work = true;
	if (!self->reaper_runs)
		self->reaper_runs = pthread_create(&self->reaper, NULL, reaper_main, self) == 0;
	bool runs = self->reaper_runs;
	pthread_cond_signal(&self->reaper_wake);
	pthread_mutex_unlock(&self->lock);
	if (!runs)
		self->host->log(self->host, GANTRY_WARN, "no thread for removing files; what is in trash/ stays until the next start");
}

void trash_wake(struct overlay *self)
{
	struct names names = { 0 };
	if (names_read(&names, self->trash_fd) == 0 && names.count)
		set_to_work(self);
	names_free(&names);
}

void trash_stop(struct overlay *self)
{
	atomic_store(&self->stop, true);
	pthread_mutex_lock(&self->lock);
	bool runs = self->reaper_runs;
	pthread_cond_signal(&self->reaper_wake);
	pthread_mutex_unlock(&self->lock);
	if (runs)
		pthread_join(self->reaper, NULL);
}

void trash_delete(struct overlay *self, const struct gantry_call *call, const char *trash_name)
{
	struct removal how = { .self = self, .until = monotonic() + PATIENCE_NS };
	if (call && call->deadline_ns && call->deadline_ns < how.until)
		how.until = call->deadline_ns;
	int rc = remove_entry(&how, trash_name);
	if (rc < 0 && !how.late)
		complain(self, trash_name);
	else if (rc < 0 || how.moved)
		set_to_work(self);
}

void trash_remove(struct overlay *self, const struct gantry_call *call, const char *trash_name)
{
	if (atomic_fetch_add(&self->backlog, 1) < BACKLOG_MAX)
		set_to_work(self);
	else
		trash_delete(self, call, trash_name);
}
