/*
 * conf.c - network configurations, as administrators write them: a list of plugins (.conflist), or one plugin alone (.conf, .json).
 */
#include "cni.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1 << 20)
#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

static bool name_good(const char *name)
{
	size_t len = name ? strspn(name, NAME_CHARS) : 0;
	return len > 0 && len <= 128 && !name[len] && !strchr("_.-", name[0]);
}

/* ---- reading ---- */

static char *read_file(const char *path, size_t *len, struct gantry_error *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	bool ok = fd >= 0 && fstat(fd, &st) == 0;
	char *text = NULL;
	if (!ok)
		gantry_fail_errno(err, errno == ENOENT ? GANTRY_E_NOT_FOUND : GANTRY_E_INTERNAL, errno, "the CNI configuration %.300s", path);
	else if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & (S_IWOTH | S_IWGRP) && !(st.st_gid == 0 && !(st.st_mode & S_IWOTH))))
		gantry_fail(err, GANTRY_E_DENIED, "the CNI configuration %.300s: wanted a regular file of root's that nobody else can write", path);
	else if (st.st_size >= FILE_MAX || !(text = malloc(FILE_MAX)))
		gantry_fail(err, GANTRY_E_INVALID, "the CNI configuration %.300s is longer than %d bytes", path, FILE_MAX);
	ssize_t n = 0, more = 0;
	while (text && n < FILE_MAX && (more = read(fd, text + n, (size_t)(FILE_MAX - n))) > 0)
		n += more;
	if (fd >= 0)
		close(fd);
	*len = (size_t)n;
	return text;
}

static bool version_of(const json_t *conf, int *major, int *minor)
{
	const char *text = json_string_value(json_object_get(conf, "cniVersion"));
	return text && sscanf(text, "%d.%d", major, minor) == 2;
}

bool conf_at_least(const json_t *conf, int major, int minor)
{
	int has_major = 0, has_minor = 0;
	return version_of(conf, &has_major, &has_minor) && (has_major > major || (has_major == major && has_minor >= minor));
}

static int check_plugins(const char *path, const json_t *plugins, struct gantry_error *err)
{
	size_t i, count = json_array_size(plugins);
	json_t *plugin;
	if (count == 0 || count > PLUGINS_MAX)
		return gantry_fail(err, GANTRY_E_INVALID, "the CNI configuration %.300s has %zu plugins; 1 to %d are wanted", path, count, PLUGINS_MAX);
	json_array_foreach(plugins, i, plugin) {
		const json_t *capabilities = json_object_get(plugin, "capabilities");
		if (!name_good(json_string_value(json_object_get(plugin, "type"))))
			return gantry_fail(err, GANTRY_E_INVALID, "the CNI configuration %.300s: plugin %zu has no type that could name a program", path, i + 1);
		if (capabilities && !json_is_object(capabilities))
			return gantry_fail(err, GANTRY_E_INVALID, "the CNI configuration %.300s: capabilities of plugin %zu must be an object", path, i + 1);
	}
	return 0;
}

static int check_conf(const char *path, const json_t *conf, struct gantry_error *err)
{
	int major = 0, minor = 0;
	if (!name_good(json_string_value(json_object_get(conf, "name"))))
		return gantry_fail(err, GANTRY_E_INVALID, "the CNI configuration %.300s: name must be of [a-zA-Z0-9][a-zA-Z0-9_.-]*", path);
	if (!version_of(conf, &major, &minor) || !conf_at_least(conf, 0, 3) || conf_at_least(conf, 1, 2))
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "the CNI configuration %.300s: cniVersion must be one of 0.3.0 to 1.1.0", path);
	return check_plugins(path, json_object_get(conf, "plugins"), err);
}

/* One plugin alone is a list of one. */
static json_t *as_list(json_t *conf)
{
	if (!json_is_object(conf) || json_object_get(conf, "plugins"))
		return conf;
	json_t *name = json_object_get(conf, "name"), *version = json_object_get(conf, "cniVersion");
	json_t *list = json_pack("{s:O? s:O? s:[O]}", "name", name, "cniVersion", version, "plugins", conf);
	json_decref(conf);
	return list;
}

json_t *conf_load(const char *path, struct gantry_error *err)
{
	size_t len = 0;
	json_error_t why;
	char *text = read_file(path, &len, err);
	if (!text)
		return NULL;
	json_t *conf = as_list(json_loadb(text, len, 0, &why));
	free(text);
	if (!json_is_object(conf))
		gantry_fail(err, GANTRY_E_INVALID, "the CNI configuration %.300s: line %d: %s", path, conf ? 1 : why.line, conf ? "no JSON object" : why.text);
	else if (check_conf(path, conf, err) == 0)
		return conf;
	json_decref(conf);
	return NULL;
}

int conf_check_programs(const struct cni *self, const json_t *conf, struct gantry_error *err)
{
	char path[GANTRY_PATH_MAX];
	size_t i;
	json_t *plugin;
	json_array_foreach(json_object_get(conf, "plugins"), i, plugin) {
		const char *ipam = json_string_value(json_object_get(json_object_get(plugin, "ipam"), "type"));
		if (exec_find(self, json_string_value(json_object_get(plugin, "type")), path, err) < 0)
			return -1;
		if (ipam && *ipam && (!name_good(ipam) ? gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" cannot name an ipam plugin", ipam) :
							 exec_find(self, ipam, path, err)) < 0)
			return -1;
	}
	return 0;
}

bool conf_has_capability(const json_t *plugin, const char *capability)
{
	return json_is_true(json_object_get(json_object_get(plugin, "capabilities"), capability));
}

bool conf_is_port_mapper(const json_t *conf, size_t index)
{
	return index > 0 && conf_has_capability(json_array_get(json_object_get(conf, "plugins"), index), "portMappings");
}

/* ---- finding ---- */

static bool is_conf_name(const char *file)
{
	const char *dot = strrchr(file, '.');
	return file[0] != '.' && dot && (strcmp(dot, ".conflist") == 0 || strcmp(dot, ".conf") == 0 || strcmp(dot, ".json") == 0);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_conf(const struct dirent *entry)
{
	return is_conf_name(entry->d_name);
}

static bool is_named(const char *path, const char *name)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	json_t *conf = conf_load(path, &ignored);
	const char *has = json_string_value(json_object_get(conf, "name"));
	bool same = has && strcmp(has, name) == 0;
	json_decref(conf);
	return same;
}

/* The first file, by their names, whose configuration has the name. */
static char *find_named(const char *dir, const char *name, struct gantry_error *err)
{
	struct dirent **entries = NULL;
	char path[GANTRY_PATH_MAX];
	int count = scandir(dir, &entries, is_conf, by_name), at = 0;
	for (; at < count; at++) {
		snprintf(path, sizeof path, "%.2000s/%s", dir, entries[at]->d_name);
		if (is_named(path, name))
			break;
	}
	char *found = at < count ? strdup(path) : NULL;
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
	if (!found)
		gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no CNI configuration named %.128s in %.300s", name, dir);
	return found;
}

int conf_choose(const struct cni *self, const struct gantry_network *wanted, struct network *network, struct gantry_error *err)
{
	const char *conf = gantry_option(&wanted->options, "conf"), *name = gantry_option(&wanted->options, "name");
	const char *own = self->host->config(self->host, "default_conf");
	for (uint32_t i = 0; i < wanted->options.count; i++) {
		const char *key = wanted->options.items[i].key;
		if (strcmp(key, "conf") != 0 && strcmp(key, "name") != 0)
			return gantry_fail(err, GANTRY_E_INVALID, "network %s: unknown option %.64s (there are: conf, name)", wanted->name, key);
	}
	if (conf && name)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: conf and name both say which CNI configuration it is: give one of them", wanted->name);
	if (conf && (conf[0] != '/' || strlen(conf) >= GANTRY_PATH_MAX))
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: conf: %.300s is not an absolute path", wanted->name, conf);
	if (name && !name_good(name))
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: name: \"%.128s\" cannot name a CNI configuration", wanted->name, name);
	if (!conf && !name && (!own || !*own))
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: say which CNI configuration it is: -o conf=/PATH/x.conflist, or -o name=NAME for one in %.200s",
				   wanted->name, self->host->config(self->host, "conf_dir"));
	if (name)
		snprintf(network->conf_name, sizeof network->conf_name, "%s", name);
	else if (!(network->path = strdup(conf ? conf : own)))
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	return 0;
}

char *conf_path(const struct cni *self, const struct network *network, struct gantry_error *err)
{
	return network->path ? strdup(network->path) : find_named(self->host->config(self->host, "conf_dir"), network->conf_name, err);
}
