/*
 * record.c - what is remembered of each endpoint: a file that is replaced whole.
 */
#include "cni.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_MAX (2 << 20)
#define SUFFIX ".json"

static void file_name(const char *id, const char *suffix, char file[96])
{
	snprintf(file, 96, "%.64s%s", id, suffix);
}

bool record_well_formed(const json_t *record)
{
	const json_t *conf = json_object_get(record, "conf");
	return json_is_string(json_object_get(record, "network")) && json_is_string(json_object_get(record, "container")) &&
	       json_is_string(json_object_get(record, "ifname")) && json_is_string(json_object_get(conf, "name")) &&
	       json_is_array(json_object_get(conf, "plugins")) && json_is_object(json_object_get(record, "args"));
}

static char *read_whole(int fd, size_t *len)
{
	char *text = malloc(RECORD_MAX);
	ssize_t n = text ? 0 : -1, more = 1;
	while (n >= 0 && n < RECORD_MAX && (more = read(fd, text + n, (size_t)(RECORD_MAX - n))) > 0)
		n += more;
	if (n < 0 || more != 0) {
		free(text);
		return NULL;
	}
	*len = (size_t)n;
	return text;
}

json_t *record_load(const struct cni *self, const char *endpoint_id, struct gantry_error *err)
{
	char file[96], aside[96], line[300];
	size_t len = 0;
	file_name(endpoint_id, SUFFIX, file);
	int fd = openat(self->fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		if (errno == ENOENT)
			gantry_fail(err, GANTRY_E_NOT_FOUND, "endpoint %.12s is not joined", endpoint_id);
		else
			gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s/%s", self->host->state_dir, file);
		return NULL;
	}
	char *text = read_whole(fd, &len);
	close(fd);
	json_t *record = text ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	free(text);
	if (record_well_formed(record))
		return record;
	json_decref(record);
	file_name(endpoint_id, ".torn", aside);
	renameat(self->fd, file, self->fd, aside);
	snprintf(line, sizeof line, "what is remembered of endpoint %.12s cannot be read: what CNI plugins did for it may stay (%.180s)", endpoint_id, aside);
	self->host->log(self->host, GANTRY_WARN, line);
	gantry_fail(err, GANTRY_E_NOT_FOUND, "endpoint %.12s is not joined", endpoint_id);
	return NULL;
}

bool record_exists(const struct cni *self, const char *endpoint_id)
{
	char file[96];
	file_name(endpoint_id, SUFFIX, file);
	return faccessat(self->fd, file, F_OK, 0) == 0;
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

/* After a power cut there are no namespaces and no links, so the disk is not waited for. */
int record_save(const struct cni *self, const char *endpoint_id, const json_t *record, struct gantry_error *err)
{
	char file[96], fresh[96];
	file_name(endpoint_id, SUFFIX, file);
	file_name(endpoint_id, ".new", fresh);
	char *text = json_dumps(record, JSON_COMPACT);
	if (!text || strlen(text) >= RECORD_MAX) {
		free(text);
		return gantry_fail(err, GANTRY_E_INTERNAL, "endpoint %.12s: what CNI plugins told is too long to be remembered", endpoint_id);
	}
	int fd = openat(self->fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write_all(fd, text, strlen(text)) == 0;
	int errnum = errno;
	free(text);
	if (fd >= 0)
		close(fd);
	if (ok && renameat(self->fd, fresh, self->fd, file) == 0)
		return 0;
	errnum = ok ? errno : errnum;
	unlinkat(self->fd, fresh, 0);
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, errnum, "write %s/%s", self->host->state_dir, file);
}

int record_remove(const struct cni *self, const char *endpoint_id, struct gantry_error *err)
{
	char file[96];
	file_name(endpoint_id, SUFFIX, file);
	if (unlinkat(self->fd, file, 0) < 0 && errno != ENOENT)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "remove %s/%s", self->host->state_dir, file);
	return 0;
}

int record_each(const struct cni *self, gantry_visit visit, void *arg, struct gantry_error *err)
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
		if (strlen(entry->d_name) != ID_LEN + sizeof SUFFIX - 1 || strcmp(entry->d_name + ID_LEN, SUFFIX) != 0)
			continue;
		entry->d_name[ID_LEN] = '\0';
		if (id_valid(entry->d_name))
			stop = visit(arg, entry->d_name);
	}
	closedir(dir);
	return 0;
}
