/*
 * docker.c - the family of volume drivers that are plugins of Docker's volume plugin protocol: each plugin is a driver of its own name.
 *
 * The plugin makes and mounts volumes on the host, in its own way; the container gets what it mounted as a bind. A plugin counts mounts by the ids of those who
 * asked; here these are the ids of containers.
 */
#include "docker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UNDO_NS 5000000000ll

/* ---- open, close ---- */

static int seen(void *arg, const char *name)
{
	(void)name;
	*(bool *)arg = true;
	return 1;
}

/* Its socket, or volumes of it that are remembered. */
static int check_there(const struct docker *self, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	struct address address;
	bool remembered = false;
	if (discover(self->host, self->name, &address, err) == 0)
		return 0;
	record_each(self, seen, &remembered, &ignored);
	return remembered ? 0 : -1;
}

static void docker_close(void *driver)
{
	struct docker *self = driver;
	if (self->fd >= 0)
		close(self->fd);
	pthread_cond_destroy(&self->freed);
	pthread_mutex_destroy(&self->lock);
	free(self->name);
	free(self);
}

static int docker_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	uint64_t life = 0;
	struct docker *self = calloc(1, sizeof *self);
	if (!self)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	pthread_mutex_init(&self->lock, NULL);
	pthread_cond_init(&self->freed, NULL);
	self->host = host;
	self->name = strdup(driver_name);
	self->fd = open(host->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	self->family = strcmp(driver_name, FAMILY_NAME) == 0;
	int rc = 0;
	if (!self->name || self->fd < 0 || getrandom(&life, sizeof life, 0) != sizeof life)
		rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", host->state_dir);
	else if (!self->family && (check_there(self, err) < 0 || !(self->curl = curl_load("a volume plugin", err))))
		rc = -1;
	if (rc < 0) {
		docker_close(self);
		return -1;
	}
	snprintf(self->life, sizeof self->life, "%016llx", (unsigned long long)life);
	*driver = self;
	return 0;
}

static int docker_family(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct docker *self = driver;
	(void)call;
	return discover_all(self->host, visit, arg, err);
}

/* ---- requests ---- */

static int ask(struct docker *self, const struct gantry_call *call, enum patience patience, const char *method, json_t *body, json_t **reply,
	       struct gantry_error *err)
{
	int rc = body ? plugin_call(self, call, patience, method, body, reply, err) : gantry_fail(err, GANTRY_E_INVALID, "a name is not UTF-8");
	json_decref(body);
	return rc;
}

static int get(struct docker *self, const struct gantry_call *call, enum patience patience, const char *name, json_t **volume, struct gantry_error *err)
{
	json_t *reply = NULL;
	*volume = NULL;
	if (ask(self, call, patience, "VolumeDriver.Get", json_pack("{s:s}", "Name", name), &reply, err) < 0) {
		if (err->kind == GANTRY_E_INTERNAL)
			err->kind = GANTRY_E_NOT_FOUND; /* the protocol has no other word for it */
		return -1;
	}
	json_t *found = json_object_get(reply, "Volume");
	if (json_is_object(found))
		*volume = json_incref(found);
	json_decref(reply);
	return *volume ? 0 : gantry_fail(err, GANTRY_E_NOT_FOUND, "the plugin %s has no volume %s", self->name, name);
}

/* A plugin from before Get was: what is remembered counts. */
static int exists(struct docker *self, const struct gantry_call *call, const char *name, const json_t *record, struct gantry_error *err)
{
	json_t *volume = NULL;
	int rc = get(self, call, PATIENT, name, &volume, err);
	json_decref(volume);
	if (rc < 0 && err->kind == GANTRY_E_UNSUPPORTED)
		rc = record ? 0 : gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no volume %s", name);
	return rc;
}

/* For undoing what a call that has no time left has begun. */
static struct gantry_call short_call(const struct gantry_call *call)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (struct gantry_call){ .size = sizeof *call, .id = call->id, .deadline_ns = time.tv_sec * 1000000000ll + time.tv_nsec + UNDO_NS };
}

/* ---- create, remove ---- */

static int make(struct docker *self, const struct gantry_call *call, const char *name, const json_t *record, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	json_t *body = json_pack("{s:s s:O}", "Name", name, "Opts", json_object_get(record, "Options"));
	if (record_save(self, name, record, err) < 0) {
		json_decref(body);
		return -1;
	}
	if (ask(self, call, PATIENT, "VolumeDriver.Create", body, NULL, err) == 0)
		return 0;
	/* One that was made after all is found when it is asked for again. */
	record_remove(self, name, &ignored);
	if (err->kind == GANTRY_E_INTERNAL)
		err->kind = GANTRY_E_INVALID; /* it refused the name or the options, most likely */
	return -1;
}

static int create_locked(struct docker *self, const struct gantry_call *call, const char *name, const struct gantry_options *options, struct gantry_error *err)
{
	json_t *fresh = record_new(options), *record = record_load(self, name, err);
	int rc;
	if (!fresh || json_object_size(json_object_get(fresh, "Options")) != (options ? options->count : 0))
		rc = gantry_fail(err, GANTRY_E_INVALID, "volume %s: an option is not UTF-8", name);
	else if (record && !json_equal(json_object_get(record, "Options"), json_object_get(fresh, "Options")))
		rc = gantry_fail(err, GANTRY_E_CONFLICT, "volume %s exists with other options", name);
	else if ((record || err->kind == GANTRY_E_NOT_FOUND) && exists(self, call, name, record, err) == 0)
		rc = record ? 0 : record_save(self, name, fresh, err); /* made by another host, or before: adopted */
	else
		rc = err->kind == GANTRY_E_NOT_FOUND ? make(self, call, name, record ? record : fresh, err) : -1;
	json_decref(record);
	json_decref(fresh);
	return rc;
}

static int docker_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options, struct gantry_error *err)
{
	struct docker *self = driver;
	if (lock_volume(self, call, name, err) < 0)
		return -1;
	int rc = create_locked(self, call, name, options, err);
	unlock_volume(self, name);
	return rc;
}

static int unmount(struct docker *self, const struct gantry_call *call, const char *name, const char *user, struct gantry_error *err)
{
	return ask(self, call, PATIENT, "VolumeDriver.Unmount", json_pack("{s:s s:s}", "Name", name, "ID", user), NULL, err);
}

static int remove_locked(struct docker *self, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	struct gantry_error other = { .size = sizeof other };
	json_t *record = record_load(self, name, err);
	const char *user;
	json_t *life;
	/* What could not be released when it was time. */
	json_object_foreach(json_object_get(record, "Mounts"), user, life) {
		if (unmount(self, call, name, user, err) < 0 && err->kind != GANTRY_E_INTERNAL)
			break;
	}
	int rc = ask(self, call, PATIENT, "VolumeDriver.Remove", json_pack("{s:s}", "Name", name), NULL, err);
	if (rc < 0 && err->kind == GANTRY_E_INTERNAL && exists(self, call, name, NULL, &other) < 0 && other.kind == GANTRY_E_NOT_FOUND)
		rc = 0;
	json_decref(record);
	return rc < 0 ? -1 : record_remove(self, name, err);
}

static int docker_remove(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	struct docker *self = driver;
	if (lock_volume(self, call, name, err) < 0)
		return -1;
	int rc = remove_locked(self, call, name, err);
	unlock_volume(self, name);
	return rc;
}

/* ---- mount, release ---- */

/* The path that Mount or Path told. It is the host's, and has to be there. */
static int read_mountpoint(const struct docker *self, const char *name, const json_t *reply, struct gantry_mount *mount, struct gantry_error *err)
{
	const char *path = json_string_value(json_object_get(reply, "Mountpoint"));
	struct stat st;
	if (!path || path[0] != '/' || strlen(path) >= sizeof mount->source || strstr(path, "/../"))
		return gantry_fail(err, GANTRY_E_INTERNAL, "the plugin %s mounts volume %s on \"%.200s\", which is no absolute path", self->name, name,
				   path ? path : "");
	if (stat(path, &st) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "the plugin %s mounts volume %s on %.200s, which is not there on this host", self->name,
					 name, path);
	snprintf(mount->source, sizeof mount->source, "%s", path);
	return 0;
}

static int mount_anew(struct docker *self, const struct gantry_call *call, const char *name, const char *user, struct gantry_mount *mount,
		      struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	json_t *reply = NULL;
	int rc = ask(self, call, PATIENT, "VolumeDriver.Mount", json_pack("{s:s s:s}", "Name", name, "ID", user), &reply, err);
	bool refused = rc < 0 && (err->kind == GANTRY_E_INTERNAL || err->kind == GANTRY_E_UNSUPPORTED);
	if (rc == 0)
		rc = read_mountpoint(self, name, reply, mount, err);
	json_decref(reply);
	if (rc < 0 && !refused) {
		struct gantry_call undo = short_call(call);
		unmount(self, &undo, name, user, &ignored);
	}
	return rc;
}

/* Where the plugin has it mounted. Empty: it has not, whatever is remembered: it began anew. */
static int mounted_on(struct docker *self, const struct gantry_call *call, const char *name, struct gantry_mount *mount, struct gantry_error *err)
{
	json_t *reply = NULL;
	mount->source[0] = '\0';
	if (ask(self, call, PATIENT, "VolumeDriver.Path", json_pack("{s:s}", "Name", name), &reply, err) < 0)
		return err->kind == GANTRY_E_INTERNAL || err->kind == GANTRY_E_UNSUPPORTED ? 0 : -1;
	const char *path = json_string_value(json_object_get(reply, "Mountpoint"));
	int rc = path && *path ? read_mountpoint(self, name, reply, mount, err) : 0;
	json_decref(reply);
	return rc;
}

static int mount_locked(struct docker *self, const struct gantry_call *call, const char *name, const char *user, json_t *record, struct gantry_mount *mount,
			struct gantry_error *err)
{
	struct gantry_error other = { .size = sizeof other };
	json_t *mounts = json_object_get(record, "Mounts");
	bool known = json_object_get(mounts, user) != NULL;
	if (!known && json_object_size(mounts) >= MOUNTS_MAX)
		return gantry_fail(err, GANTRY_E_CONFLICT, "volume %s is mounted %d times already", name, MOUNTS_MAX);
	if (json_object_set_new(mounts, user, json_string(self->life)) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "a name is not UTF-8");
	if (record_save(self, name, record, err) < 0)
		return -1;
	mount->source[0] = '\0';
	if (known && mounted_on(self, call, name, mount, err) < 0)
		return -1;
	if (mount->source[0] || mount_anew(self, call, name, user, mount, err) == 0)
		return 0;
	if (err->kind == GANTRY_E_INTERNAL && exists(self, call, name, record, &other) < 0 && other.kind == GANTRY_E_NOT_FOUND)
		err->kind = GANTRY_E_NOT_FOUND;
	json_object_del(mounts, user);
	record_save(self, name, record, &other);
	return -1;
}

static int docker_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only, struct gantry_mount *mount,
			struct gantry_error *err)
{
	struct docker *self = driver;
	if (lock_volume(self, call, name, err) < 0)
		return -1;
	json_t *record = record_load(self, name, err);
	/* It may be there without a record: restored from another host's state, or the record was torn. */
	if (!record && err->kind == GANTRY_E_NOT_FOUND && exists(self, call, name, NULL, err) == 0)
		record = record_new(NULL);
	int rc = record ? mount_locked(self, call, name, container_id, record, mount, err) : -1;
	if (rc == 0) {
		snprintf(mount->type, sizeof mount->type, "bind");
		snprintf(mount->options, sizeof mount->options, "rbind%s", read_only ? ",ro" : "");
	}
	json_decref(record);
	unlock_volume(self, name);
	return rc;
}

/* Takes back one mount; a volume that is gone has none. */
static int release_locked(struct docker *self, const struct gantry_call *call, const char *name, const char *user, json_t *record, struct gantry_error *err)
{
	struct gantry_error other = { .size = sizeof other };
	json_t *mounts = json_object_get(record, "Mounts");
	if (!json_object_get(mounts, user))
		return 0;
	if (unmount(self, call, name, user, err) < 0 &&
	    !(err->kind == GANTRY_E_INTERNAL && exists(self, call, name, NULL, &other) < 0 && other.kind == GANTRY_E_NOT_FOUND))
		return -1;
	json_object_del(mounts, user);
	return record_save(self, name, record, err);
}

static int docker_release(void *driver, const struct gantry_call *call, const char *name, const char *container_id, struct gantry_error *err)
{
	struct docker *self = driver;
	if (lock_volume(self, call, name, err) < 0)
		return -1;
	json_t *record = record_load(self, name, err);
	int rc = record ? release_locked(self, call, name, container_id, record, err) : err->kind == GANTRY_E_NOT_FOUND ? 0 : -1;
	json_decref(record);
	unlock_volume(self, name);
	return rc;
}

/* ---- looking ---- */

static int docker_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct docker *self = driver;
	json_t *reply = NULL, *volume;
	size_t i;
	if (plugin_call(self, call, HASTY, "VolumeDriver.List", NULL, &reply, err) < 0)
		return err->kind == GANTRY_E_UNSUPPORTED ? record_each(self, visit, arg, err) : -1;
	json_array_foreach(json_object_get(reply, "Volumes"), i, volume) {
		const char *name = json_string_value(json_object_get(volume, "Name"));
		if (name && name_is_good(name) && visit(arg, name))
			break;
	}
	json_decref(reply);
	return 0;
}

/* RFC 3339, to the second. 0: it is none. */
static int64_t read_time(const char *text)
{
	struct tm time = { 0 };
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &time) : NULL;
	if (!rest)
		return 0;
	rest += *rest == '.' ? 1 + strspn(rest + 1, "0123456789") : 0;
	int hours = 0, minutes = 0;
	if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d", &hours, &minutes) == 2)
		hours = *rest == '-' ? -hours : hours, minutes = *rest == '-' ? -minutes : minutes;
	int64_t at = (int64_t)timegm(&time) - hours * 3600 - minutes * 60;
	return at > 0 && at < INT64_MAX / 1000000000 ? at * 1000000000 : 0;
}

static int docker_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info, struct gantry_error *err)
{
	struct docker *self = driver;
	json_t *volume = NULL;
	if (!name_is_good(name))
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no volume %.64s", name);
	if (get(self, call, HASTY, name, &volume, err) < 0) {
		json_t *record = err->kind == GANTRY_E_UNSUPPORTED ? record_load(self, name, err) : NULL;
		json_decref(record);
		return record ? 0 : -1;
	}
	const char *path = json_string_value(json_object_get(volume, "Mountpoint"));
	if (path && path[0] == '/' && strlen(path) < sizeof info->mountpoint)
		snprintf(info->mountpoint, sizeof info->mountpoint, "%s", path);
	info->created_ns = read_time(json_string_value(json_object_get(volume, "CreatedAt")));
	json_t *status = json_object_get(volume, "Status");
	char *text = json_is_object(status) ? json_dumps(status, JSON_COMPACT) : NULL;
	pthread_mutex_lock(&self->lock);
	bool global = self->global;
	pthread_mutex_unlock(&self->lock);
	/* An engine of before 1.2 has no room for these. */
	if (info->size >= sizeof *info) {
		info->flags = global ? GANTRY_VOLUME_GLOBAL : 0;
		if (text && strlen(text) < sizeof info->status)
			snprintf(info->status, sizeof info->status, "%s", text);
	}
	free(text);
	json_decref(volume);
	return 0;
}

/* ---- after a restart ---- */

struct reconciliation {
	struct docker *self;
	const struct gantry_call *call;
	const char *uses;               /* an array of struct gantry_volume_use */
	size_t count, use_size;
};

static bool in_use(const struct reconciliation *all, const char *name, const char *user)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct gantry_volume_use *use = (const void *)(all->uses + i * all->use_size);
		if (strcmp(use->name, name) == 0 && strcmp(use->container_id, user) == 0)
			return true;
	}
	return false;
}

/* A container has the volume, so the plugin shall count it: one that began anew does not know. Its files are the container's all the same. */
static int restore(struct reconciliation *all, const char *name, const char *user, struct gantry_error *err)
{
	struct gantry_mount *mount = calloc(1, sizeof *mount);
	if (!mount)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	int rc = mounted_on(all->self, all->call, name, mount, err);
	if (rc == 0 && !mount->source[0])
		rc = mount_anew(all->self, all->call, name, user, mount, err);
	free(mount);
	return rc;
}

static void reconcile_volume(struct reconciliation *all, const char *name, json_t *record)
{
	struct docker *self = all->self;
	char line[700];
	const char *user;
	json_t *life;
	void *next;
	json_t *mounts = json_object_get(record, "Mounts");
	json_object_foreach_safe(mounts, next, user, life) {
		struct gantry_error err = { .size = sizeof err };
		if (strcmp(json_string_value(life), self->life) == 0)
			continue;
		bool used = in_use(all, name, user);
		if ((used ? restore(all, name, user, &err) : release_locked(self, all->call, name, user, record, &err)) == 0)
			continue;
		snprintf(line, sizeof line, "volume %s is %s: %.500s", name, used ? "in use, but not known to be mounted" : "still mounted for nobody", err.message);
		self->host->log(self->host, GANTRY_WARN, line);
	}
}

static int visit_record(void *arg, const char *name)
{
	struct reconciliation *all = arg;
	struct gantry_error err = { .size = sizeof err };
	if (lock_volume(all->self, all->call, name, &err) < 0) {
		all->self->host->log(all->self->host, GANTRY_WARN, err.message);
		return all->self->host->cancelled(all->self->host, all->call);
	}
	json_t *record = record_load(all->self, name, &err);
	if (record)
		reconcile_volume(all, name, record);
	json_decref(record);
	unlock_volume(all->self, name);
	return all->self->host->cancelled(all->self->host, all->call);
}

static int docker_reconcile(void *driver, const struct gantry_call *call, const struct gantry_volume_use *uses, size_t count, size_t use_size,
			    struct gantry_error *err)
{
	struct reconciliation all = { driver, call, (const char *)uses, count, use_size };
	return record_each(driver, visit_record, &all, err);
}

/* ---- the descriptor ---- */

static const struct gantry_volume_ops ops = {
	.size = sizeof ops, .open = docker_open, .close = docker_close, .create = docker_create, .remove = docker_remove, .mount = docker_mount,
	.release = docker_release, .list = docker_list, .inspect = docker_inspect, .reconcile = docker_reconcile, .family = docker_family,
};

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_PATH, .name = "sockets", .default_value = "/run/docker/plugins",
	  .doc = "directory of NAME.sock, where plugins listen" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_STRING, .name = "specs", .default_value = "/etc/docker/plugins:/usr/lib/docker/plugins",
	  .doc = "directories of NAME.spec and NAME.json, which tell where plugins listen, separated by \":\"" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_INT, .name = "timeout", .default_value = "30", .min = 1, .max = 600,
	  .doc = "seconds for one request to a plugin" },
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_INT, .name = "connect_timeout", .default_value = "5", .min = 0, .max = 60,
	  .doc = "seconds to wait for a plugin that is not there" },
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = FAMILY_NAME, .capabilities = GANTRY_VOL_FAMILY, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR,
	.name = "vol-docker", .version = "1.0", .description = "volumes of plugins that speak Docker's volume plugin protocol",
	.keys = keys, .key_count = sizeof keys / sizeof keys[0], .key_size = sizeof keys[0],
	.drivers = drivers, .driver_count = 1, .driver_size = sizeof drivers[0],
};
