/*
 * netns.c - containers' network namespaces, from join to leave. Plugins take back what they did with the namespace at hand (masquerading that goes by its addresses,
 * for one), so it is kept alive until DEL has run, whatever becomes of the container: by a descriptor, and by a mount on run_dir/<endpoint id>, which a later life
 * of the daemon finds. The path is the same in every call for an endpoint, as CHECK compares it with what ADD was told.
 *
 * Where mounts are not allowed (isolate = process) the descriptor is all there is.
 */
#include "cni.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

struct held {
	char endpoint_id[ID_LEN + 1];
	int fd;
	struct held *next;
};

static void pin_path(const struct cni *self, const char *endpoint_id, char path[GANTRY_PATH_MAX])
{
	snprintf(path, GANTRY_PATH_MAX, "%.3900s/%.64s", self->host->run_dir, endpoint_id);
}

static bool is_pinned(const struct cni *self, const char *endpoint_id)
{
	char path[GANTRY_PATH_MAX];
	struct statfs fs;
	pin_path(self, endpoint_id, path);
	return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

static void unpin(const struct cni *self, const char *endpoint_id)
{
	char path[GANTRY_PATH_MAX];
	pin_path(self, endpoint_id, path);
	if (is_pinned(self, endpoint_id))
		umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	unlink(path);
}

static bool pin(const struct cni *self, const char *endpoint_id, int netns_fd)
{
	char path[GANTRY_PATH_MAX], source[64];
	unpin(self, endpoint_id);
	pin_path(self, endpoint_id, path);
	snprintf(source, sizeof source, "/proc/self/fd/%d", netns_fd);
	int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (fd < 0)
		return false;
	close(fd);
	if (mount(source, path, NULL, MS_BIND, NULL) == 0)
		return true;
	unlink(path);
	return false;
}

/* The entry is the caller's. */
static struct held *take_out(struct cni *self, const char *endpoint_id)
{
	struct held *found = NULL;
	pthread_mutex_lock(&self->lock);
	for (struct held **at = &self->held; *at && !found;) {
		if (strcmp((*at)->endpoint_id, endpoint_id) == 0) {
			found = *at;
			*at = found->next;
		} else {
			at = &(*at)->next;
		}
	}
	pthread_mutex_unlock(&self->lock);
	return found;
}

static void release(struct held *held)
{
	if (!held)
		return;
	close(held->fd);
	free(held);
}

bool netns_path(struct cni *self, const char *endpoint_id, char path[GANTRY_PATH_MAX])
{
	bool found = is_pinned(self, endpoint_id);
	if (found) {
		pin_path(self, endpoint_id, path);
		return true;
	}
	pthread_mutex_lock(&self->lock);
	for (const struct held *held = self->held; held && !found; held = held->next) {
		found = strcmp(held->endpoint_id, endpoint_id) == 0;
		if (found) /* good in children of the plugin's too */
			snprintf(path, GANTRY_PATH_MAX, "/proc/%d/fd/%d", (int)getpid(), held->fd);
	}
	pthread_mutex_unlock(&self->lock);
	return found;
}

static bool is_held(struct cni *self, const char *endpoint_id, int netns_fd)
{
	char path[GANTRY_PATH_MAX];
	struct stat held, wanted;
	return netns_path(self, endpoint_id, path) && stat(path, &held) == 0 && fstat(netns_fd, &wanted) == 0 && held.st_dev == wanted.st_dev &&
	       held.st_ino == wanted.st_ino;
}

int netns_hold(struct cni *self, const char *endpoint_id, int netns_fd, struct gantry_error *err)
{
	if (is_held(self, endpoint_id, netns_fd))
		return 0;
	struct held *held = calloc(1, sizeof *held);
	if (!held || (held->fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 3)) < 0) {
		free(held);
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "keep the namespace of endpoint %.12s", endpoint_id);
	}
	snprintf(held->endpoint_id, sizeof held->endpoint_id, "%s", endpoint_id);
	release(take_out(self, endpoint_id));
	pin(self, endpoint_id, held->fd);
	pthread_mutex_lock(&self->lock);
	held->next = self->held;
	self->held = held;
	pthread_mutex_unlock(&self->lock);
	return 0;
}

void netns_let_go(struct cni *self, const char *endpoint_id)
{
	unpin(self, endpoint_id);
	release(take_out(self, endpoint_id));
}

void netns_close_all(struct cni *self)
{
	while (self->held) {
		struct held *next = self->held->next;
		release(self->held);
		self->held = next;
	}
}

int netns_each(const struct cni *self, gantry_visit visit, void *arg, struct gantry_error *err)
{
	int stop = 0;
	DIR *dir = opendir(self->host->run_dir);
	if (!dir)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read %.300s", self->host->run_dir);
	for (struct dirent *entry; !stop && (entry = readdir(dir)) != NULL;) {
		if (id_valid(entry->d_name))
			stop = visit(arg, entry->d_name);
	}
	closedir(dir);
	return 0;
}
