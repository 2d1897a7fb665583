/*
 * host.c - the host table: what a driver may call.
 *
 * The table stands first in struct driver, so a driver's `host` finds the rest through host->engine. All functions are thread safe: they read what
 * was set while loading, and files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/netns.h"
#include "internal.h"

#define DOCUMENT_MAX 65536
#define STATE_DIR ".state"

static struct driver *driver_of(const struct gantry_host *host)
{
	return host->engine;
}

static int enum_to_level(int level)
{
	return level <= GANTRY_DEBUG ? GT_DEBUG : level == GANTRY_INFO ? GT_INFO : level == GANTRY_WARN ? GT_WARN : GT_ERROR;
}

static void host_log(const struct gantry_host *host, int level, const char *message)
{
	const struct driver *driver = driver_of(host);
	gt_log_kv((enum gt_level)enum_to_level(level), message, "kind", driver_kind_name((int)driver->kind), "driver", driver->name, NULL);
}

static const char *host_config(const struct gantry_host *host, const char *key)
{
	const struct plugin *plugin = driver_of(host)->plugin;
	for (size_t i = 0; i < plugin->info.key_count; i++) {
		if (strcmp(plugin->keys[i].name, key) == 0)
			return plugin->values[i];
	}
	return NULL;
}

static int host_cancelled(const struct gantry_host *host, const struct gantry_call *call)
{
	return atomic_load(&driver_of(host)->all->cancelled) || (call && call->deadline_ns && gt_monotonic() >= call->deadline_ns);
}

static void host_event(const struct gantry_host *host, const char *object, const char *action, const char *detail)
{
	const struct driver *driver = driver_of(host);
	if (driver->all->event)
		driver->all->event(driver->all->event_arg, driver->name, object, action, detail);
}

/* ---- state documents ---- */

static int to_gantry(struct gantry_error *to, const struct gt_error *from)
{
	int kind = from->kind == GT_NOT_FOUND ? GANTRY_E_NOT_FOUND :
		   from->kind == GT_INVALID || from->kind == GT_TOO_LARGE ? GANTRY_E_INVALID : GANTRY_E_INTERNAL;
	gantry_fail(to, kind, "%s", from->message);
	to->errnum = from->errnum;
	return -1;
}

static int check_document_name(const char *name, struct gantry_error *err)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	if (len == 0 || len > 200 || name[len] || name[0] == '.')
		return gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" cannot name a state document: use [A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", name);
	return 0;
}

/* The directory of documents; made by the first state_put(). Returns -1 with errno. */
static int open_state(const struct driver *driver, bool make)
{
	AUTO_FREE char *path = gt_xasprintf("%s/" STATE_DIR, driver->state_dir);
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int host_state_put(const struct gantry_host *host, const char *name, const void *bytes, size_t len, struct gantry_error *err)
{
	const struct driver *driver = driver_of(host);
	struct gt_error why = { 0 };
	if (check_document_name(name, err) < 0)
		return -1;
	if (len > DOCUMENT_MAX)
		return gantry_fail(err, GANTRY_E_INVALID, "state document %s has %zu bytes; at most %d are allowed", name, len, DOCUMENT_MAX);
	AUTO_CLOSE int dir = open_state(driver, true);
	if (dir < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s/" STATE_DIR, driver->state_dir);
	if (gt_replace_file(dir, name, bytes, len, 0600, driver->durable, &why) < 0)
		return to_gantry(err, &why);
	return 0;
}

static int64_t host_state_get(const struct gantry_host *host, const char *name, void *bytes, size_t room, struct gantry_error *err)
{
	const struct driver *driver = driver_of(host);
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_error why = { 0 };
	if (check_document_name(name, err) < 0)
		return -1;
	AUTO_CLOSE int dir = open_state(driver, false);
	if (dir < 0 && errno == ENOENT)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no state document %s", name);
	if (dir < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s/" STATE_DIR, driver->state_dir);
	if (gt_read_file(dir, name, DOCUMENT_MAX, &text, &why) < 0)
		return to_gantry(err, &why);
	if (text.len && room)
		memcpy(bytes, text.data, text.len < room ? text.len : room);
	return (int64_t)text.len;
}

static int host_state_remove(const struct gantry_host *host, const char *name, struct gantry_error *err)
{
	const struct driver *driver = driver_of(host);
	if (check_document_name(name, err) < 0)
		return -1;
	AUTO_CLOSE int dir = open_state(driver, false);
	if (dir < 0 && errno == ENOENT)
		return 0;
	if (dir < 0 || (unlinkat(dir, name, 0) < 0 && errno != ENOENT))
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "remove state document %s", name);
	return 0;
}

/* ---- network namespaces ---- */

static int host_in_netns(const struct gantry_host *host, int netns_fd, int (*fn)(void *arg), void *arg, struct gantry_error *err)
{
	(void)host;
	struct gt_error why = { 0 };
	int rc = gt_in_netns(netns_fd, fn, arg, &why);
	return why.kind == GT_OK ? rc : to_gantry(err, &why);
}

/* ---- set-up ---- */

/* Temporary files of writes that a crash cut. No document's name begins with a dot. */
static void sweep_state(const struct driver *driver)
{
	int fd = open_state(driver, false);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.' && entry->d_type == DT_REG)
			unlinkat(fd, entry->d_name, 0);
	}
	closedir(dir);
}

int host_prepare(struct driver *driver, struct gt_error *err)
{
	static const char *const STATE[] = { [GANTRY_NETWORK] = "networks", [GANTRY_VOLUME] = "volumes", [GANTRY_STORAGE] = "storage" };
	const struct gt_drivers *all = driver->all;
	free(driver->state_dir);
	free(driver->run_dir);
	driver->state_dir = gt_xasprintf("%s/%s/%s", all->root, STATE[driver->kind], driver->name);
	driver->run_dir = gt_xasprintf("%s/plugins/%s-%s", all->run, driver_kind_name((int)driver->kind), driver->name);
	driver->durable = all->fsync;
	host_fill(driver);
	if (gt_mkdirs(AT_FDCWD, driver->state_dir, 0700, err) < 0 || gt_mkdirs(AT_FDCWD, driver->run_dir, 0700, err) < 0)
		return gt_context(err, "driver %s", driver->name);
	sweep_state(driver);
	return 0;
}

void host_fill(struct driver *driver)
{
	driver->host = (struct gantry_host){
		.size = sizeof driver->host, .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR,
		.engine_version = GANTRY_VERSION, .state_dir = driver->state_dir, .run_dir = driver->run_dir,
		.log = host_log, .config = host_config, .cancelled = host_cancelled, .event = host_event,
		.state_put = host_state_put, .state_get = host_state_get, .state_remove = host_state_remove,
		.in_netns = host_in_netns, .engine = driver,
	};
}
