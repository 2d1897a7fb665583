/*
 * record.c - what is remembered of each volume: files that are replaced whole, and a list of those that an op works on.
 */
#include "docker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX (1 << 20)
#define SUFFIX ".json"

struct busy {
	const char *name;               /* of the op's caller, who waits until it is freed */
	struct busy *next;
};

bool name_is_good(const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
	return len > 0 && len <= VOLUME_NAME_MAX && !name[len] && !strchr("_.-", name[0]);
}

/* ---- who works on what ---- */

static bool is_busy(const struct docker *self, const char *name)
{
	const struct busy *busy = self->busy;
	while (busy && strcmp(busy->name, name) != 0)
		busy = busy->next;
	return busy != NULL;
}

int lock_volume(struct docker *self, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	if (!name_is_good(name))
		return gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" cannot name a volume: use [a-zA-Z0-9][a-zA-Z0-9_.-]*", name);
	struct busy *own = malloc(sizeof *own);
	if (!own)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	struct timespec until = { .tv_sec = call->deadline_ns / 1000000000, .tv_nsec = call->deadline_ns % 1000000000 };
	int rc = 0;
	pthread_mutex_lock(&self->lock);
	while (rc != ETIMEDOUT && is_busy(self, name))
		rc = call->deadline_ns ? pthread_cond_clockwait(&self->freed, &self->lock, CLOCK_MONOTONIC, &until) :
					 pthread_cond_wait(&self->freed, &self->lock);
	if (rc != ETIMEDOUT) {
		*own = (struct busy){ name, self->busy };
		self->busy = own;
	}
	pthread_mutex_unlock(&self->lock);
	if (rc != ETIMEDOUT)
		return 0;
	free(own);
	return gantry_fail(err, GANTRY_E_UNAVAILABLE, "the plugin %s is still at work on volume %s: try again later", self->name, name);
}

void unlock_volume(struct docker *self, const char *name)
{
	pthread_mutex_lock(&self->lock);
	for (struct busy **at = &self->busy; *at; at = &(*at)->next) {
		struct busy *found = *at;
		if (strcmp(found->name, name) != 0)
			continue;
		*at = found->next;
		free(found);
		break;
	}
	pthread_cond_broadcast(&self->freed);
	pthread_mutex_unlock(&self->lock);
}

/* ---- files ---- */

static void file_name(const char *name, const char *suffix, char file[256])
{
	snprintf(file, 256, "%s%s", name, suffix);
}

static bool well_formed(const json_t *record)
{
	const char *key;
	json_t *value;
	const json_t *mounts = json_object_get(record, "Mounts"), *options = json_object_get(record, "Options");
	if (!json_is_object(mounts) || !json_is_object(options) || json_object_size(mounts) > MOUNTS_MAX)
		return false;
	json_object_foreach((json_t *)(uintptr_t)mounts, key, value) {
		if (!json_is_string(value))
			return false;
	}
	return true;
}

/* Kept for a person to look at, out of the way. */
static void set_aside(const struct docker *self, const char *name)
{
	char file[256], aside[256], line[400];
	file_name(name, SUFFIX, file);
	file_name(name, ".torn", aside);
	renameat(self->fd, file, self->fd, aside);
	snprintf(line, sizeof line, "what is remembered of volume %s cannot be read and is kept as %s/%s", name, self->host->state_dir, aside);
	self->host->log(self->host, GANTRY_WARN, line);
}

json_t *record_load(const struct docker *self, const char *name, struct gantry_error *err)
{
	char file[256];
	json_error_t why;
	file_name(name, SUFFIX, file);
	int fd = openat(self->fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		if (errno == ENOENT)
			gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no volume %s", name);
		else
			gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s/%s", self->host->state_dir, file);
		return NULL;
	}
	char *text = malloc(RECORD_MAX);
	ssize_t len = text ? 0 : -1, more = 1;
	while (len >= 0 && len < RECORD_MAX && (more = read(fd, text + len, (size_t)(RECORD_MAX - len))) > 0)
		len += more;
	close(fd);
	json_t *record = len > 0 && more == 0 ? json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES, &why) : NULL;
	free(text);
	if (well_formed(record))
		return record;
	json_decref(record);
	set_aside(self, name);
	gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no volume %s", name);
	return NULL;
}

json_t *record_new(const struct gantry_options *options)
{
	json_t *values = json_object();
	for (uint32_t i = 0; options && i < options->count; i++)
		json_object_set_new(values, options->items[i].key, json_string(options->items[i].value));
	return json_pack("{s:o s:{}}", "Options", values, "Mounts");
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

int record_save(const struct docker *self, const char *name, const json_t *record, struct gantry_error *err)
{
	char file[256], fresh[256];
	file_name(name, SUFFIX, file);
	file_name(name, ".new", fresh);
	char *text = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text || strlen(text) >= RECORD_MAX) {
		free(text);
		return gantry_fail(err, GANTRY_E_INVALID, "volume %s has options or mounts that are too long to be remembered", name);
	}
	int fd = openat(self->fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write_all(fd, text, strlen(text)) == 0 && fsync(fd) == 0;
	int errnum = errno;
	free(text);
	if (fd >= 0)
		close(fd);
	if (ok && renameat(self->fd, fresh, self->fd, file) == 0 && fsync(self->fd) == 0)
		return 0;
	errnum = ok ? errno : errnum;
	unlinkat(self->fd, fresh, 0);
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, errnum, "write %s/%s", self->host->state_dir, file);
}

int record_remove(const struct docker *self, const char *name, struct gantry_error *err)
{
	char file[256];
	file_name(name, SUFFIX, file);
	if ((unlinkat(self->fd, file, 0) < 0 && errno != ENOENT) || fsync(self->fd) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "remove %s/%s", self->host->state_dir, file);
	return 0;
}

int record_each(const struct docker *self, gantry_visit visit, void *arg, struct gantry_error *err)
{
	int fd = openat(self->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), stop = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read %s", self->host->state_dir);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (struct dirent *entry; !stop && (entry = readdir(dir)) != NULL;) {
		size_t len = strlen(entry->d_name), end = sizeof SUFFIX - 1;
		if (len <= end || strcmp(entry->d_name + len - end, SUFFIX) != 0)
			continue;
		entry->d_name[len - end] = '\0';
		if (name_is_good(entry->d_name))
			stop = visit(arg, entry->d_name);
	}
	closedir(dir);
	return 0;
}
