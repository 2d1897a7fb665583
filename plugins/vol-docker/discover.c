/*
 * discover.c - which plugins there are. As Docker looks for them: first NAME.sock or NAME/NAME.sock in the directory of sockets, then NAME.spec (a line with
 * unix://PATH or tcp://HOST:PORT) and NAME.json (Name, Addr, TLSConfig) in the directories of files.
 *
 * Whoever may write there decides what runs as root's volumes: a directory that others than root can write is passed over, with a line in the log.
 */
#include "docker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX 65536

/* The same rule as the engine's for names of a family's drivers: it is a path component. */
static bool plugin_name(const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
	return len > 0 && len <= 64 && !name[len] && name[0] != '_' && name[0] != '-';
}

/* ---- directories ---- */

static bool only_roots(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && st.st_uid == 0 && !(st.st_mode & S_IWOTH) && !((st.st_mode & S_IWGRP) && st.st_gid != 0);
}

/* -1 where it is not there, or not to be trusted. */
static int open_directory(const struct gantry_host *host, const char *path)
{
	char line[400];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || only_roots(fd))
		return fd;
	snprintf(line, sizeof line, "%.250s is passed over: others than root can put plugins there (chown root, chmod go-w)", path);
	host->log(host, GANTRY_WARN, line);
	close(fd);
	return -1;
}

/* The next path of a list that ":" separates; NULL at its end. */
static const char *next_path(const char **list, char path[1024])
{
	while (**list == ':')
		++*list;
	size_t len = strcspn(*list, ":");
	if (len == 0)
		return NULL;
	snprintf(path, 1024, "%.*s", (int)(len < 1023 ? len : 1023), *list);
	*list += len;
	return path;
}

/* ---- sockets ---- */

static bool is_socket(int dirfd, const char *name)
{
	struct stat st;
	return fstatat(dirfd, name, &st, 0) == 0 && S_ISSOCK(st.st_mode);
}

/* "NAME.sock" or "NAME/NAME.sock", whichever is there. */
static bool socket_of(int dirfd, const char *name, char file[160])
{
	snprintf(file, 160, "%.64s.sock", name);
	if (is_socket(dirfd, file))
		return true;
	snprintf(file, 160, "%.64s/%.64s.sock", name, name);
	return is_socket(dirfd, file);
}

static int find_socket(const struct gantry_host *host, const char *name, struct address *address, struct gantry_error *err)
{
	const char *dir = host->config(host, "sockets");
	char file[160];
	int fd = open_directory(host, dir);
	bool found = fd >= 0 && socket_of(fd, name, file);
	if (fd >= 0)
		close(fd);
	if (!found)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no plugin %s", name);
	if ((size_t)snprintf(address->socket, sizeof address->socket, "%s/%s", dir, file) >= sizeof address->socket)
		return gantry_fail(err, GANTRY_E_INVALID, "the path of the socket %.64s in %.200s is longer than a socket's may be", file, dir);
	snprintf(address->url, sizeof address->url, "http://plugin");
	return 0;
}

/* ---- files ---- */

static char *read_text(int dirfd, const char *file, size_t *len)
{
	int fd = openat(dirfd, file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	char *text = fd < 0 ? NULL : malloc(FILE_MAX + 1);
	ssize_t n = text ? 0 : -1, more = 0;
	while (n >= 0 && n < FILE_MAX && (more = read(fd, text + n, (size_t)(FILE_MAX - n))) > 0)
		n += more;
	if (fd >= 0)
		close(fd);
	if (n < 0 || more != 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	*len = (size_t)n;
	return text;
}

/* unix://PATH, tcp://HOST:PORT, http://..., https://...; tcp is https where TLS is configured. */
static int read_url(const char *file, const char *text, bool tls, struct address *address, struct gantry_error *err)
{
	const char *rest = strstr(text, "://");
	size_t scheme = rest ? (size_t)(rest - text) : 0, len = rest ? strlen(rest + 3) : 0;
	while (len && rest[3 + len - 1] == '/')
		len--;
	if (!len || strcspn(text, " \t\r\n?#@%\\") != strlen(text))
		return gantry_fail(err, GANTRY_E_INVALID, "%s: \"%.200s\" is no address: write unix:///PATH or tcp://HOST:PORT", file, text);
	if (scheme == 4 && strncmp(text, "unix", 4) == 0) {
		if (rest[3] != '/' || len >= sizeof address->socket)
			return gantry_fail(err, GANTRY_E_INVALID, "%s: \"%.200s\" is no absolute path that fits a socket's name (%zu bytes)", file, rest + 3,
					   sizeof address->socket - 1);
		snprintf(address->socket, sizeof address->socket, "%.*s", (int)len, rest + 3);
		snprintf(address->url, sizeof address->url, "http://plugin");
		return 0;
	}
	bool https = scheme == 5 && strncmp(text, "https", 5) == 0, plain = scheme == 4 && strncmp(text, "http", 4) == 0;
	if (!https && !plain && !(scheme == 3 && strncmp(text, "tcp", 3) == 0))
		return gantry_fail(err, GANTRY_E_INVALID, "%s: %.*s is no known scheme: use unix, tcp, http or https", file, (int)(scheme < 32 ? scheme : 32), text);
	if ((size_t)snprintf(address->url, sizeof address->url, "http%s://%.*s", https || (tls && !plain) ? "s" : "", (int)len, rest + 3) >=
	    sizeof address->url)
		return gantry_fail(err, GANTRY_E_INVALID, "%s: the address is too long", file);
	return 0;
}

static int read_spec(const char *file, char *text, size_t len, struct address *address, struct gantry_error *err)
{
	while (len && strchr(" \t\r\n", text[len - 1]))
		text[--len] = '\0';
	text += strspn(text, " \t\r\n");
	return read_url(file, text, false, address, err);
}

static int copy_path(const char *file, const json_t *tls, const char *key, char path[1024], struct gantry_error *err)
{
	const json_t *value = json_object_get(tls, key);
	const char *text = json_string_value(value);
	if (!value || json_is_null(value) || (text && !*text))
		return 0;
	if (!text || text[0] != '/' || strlen(text) >= 1024)
		return gantry_fail(err, GANTRY_E_INVALID, "%s: TLSConfig.%s must be an absolute path", file, key);
	snprintf(path, 1024, "%s", text);
	return 0;
}

static int read_json(const char *file, const char *text, size_t len, struct address *address, struct gantry_error *err)
{
	json_error_t why;
	json_t *json = json_loadb(text, len, 0, &why);
	const json_t *tls = json_object_get(json, "TLSConfig");
	const char *url = json_string_value(json_object_get(json, "Addr"));
	int rc;
	if (!json_is_object(json))
		rc = gantry_fail(err, GANTRY_E_INVALID, "%s: line %d: %s", file, json ? 1 : why.line, json ? "no JSON object" : why.text);
	else if (!url)
		rc = gantry_fail(err, GANTRY_E_INVALID, "%s: Addr is missing: write \"Addr\": \"tcp://HOST:PORT\"", file);
	else
		rc = read_url(file, url, json_is_object(tls), address, err);
	if (rc == 0 && json_is_object(tls)) {
		address->insecure = json_is_true(json_object_get(tls, "InsecureSkipVerify"));
		rc = copy_path(file, tls, "CAFile", address->ca, err) < 0 || copy_path(file, tls, "CertFile", address->cert, err) < 0 ||
				     copy_path(file, tls, "KeyFile", address->key, err) < 0 ? -1 : 0;
	}
	json_decref(json);
	return rc;
}

static int find_file(const struct gantry_host *host, const char *name, struct address *address, struct gantry_error *err)
{
	const char *list = host->config(host, "specs");
	char path[1024], file[80], whole[1200];
	while (next_path(&list, path)) {
		int fd = open_directory(host, path);
		for (int json = 0; fd >= 0 && json < 2; json++) {
			size_t len = 0;
			snprintf(file, sizeof file, "%.64s.%s", name, json ? "json" : "spec");
			snprintf(whole, sizeof whole, "%s/%s", path, file);
			char *text = read_text(fd, file, &len);
			if (!text)
				continue;
			int rc = json ? read_json(whole, text, len, address, err) : read_spec(whole, text, len, address, err);
			free(text);
			close(fd);
			return rc;
		}
		if (fd >= 0)
			close(fd);
	}
	return gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no plugin %s: no %s.sock in %.200s, and neither %s.spec nor %s.json in %.200s", name, name,
			   host->config(host, "sockets"), name, name, host->config(host, "specs"));
}

int discover(const struct gantry_host *host, const char *name, struct address *address, struct gantry_error *err)
{
	*address = (struct address){ 0 };
	if (!plugin_name(name))
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "\"%.64s\" cannot name a plugin", name);
	if (find_socket(host, name, address, err) == 0)
		return 0;
	return err->kind != GANTRY_E_NOT_FOUND ? -1 : find_file(host, name, address, err);
}

/* ---- all of them ---- */

/* Names of a directory's entries that end with one of the suffixes; of a directory NAME, where it has NAME.sock. */
static int visit_directory(const struct gantry_host *host, const char *path, const char *const *suffixes, bool sockets, gantry_visit visit, void *arg)
{
	int fd = open_directory(host, path), stop = 0;
	char file[160];
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	for (struct dirent *entry; !stop && (entry = readdir(dir)) != NULL;) {
		size_t len = strlen(entry->d_name);
		for (const char *const *suffix = suffixes; *suffix; suffix++) {
			size_t end = strlen(*suffix);
			if (len > end && strcmp(entry->d_name + len - end, *suffix) == 0) {
				entry->d_name[len - end] = '\0';
				break;
			}
		}
		bool cut = strlen(entry->d_name) < len;
		if (plugin_name(entry->d_name) && (sockets ? socket_of(fd, entry->d_name, file) : cut))
			stop = visit(arg, entry->d_name);
	}
	closedir(dir);
	return stop;
}

int discover_all(const struct gantry_host *host, gantry_visit visit, void *arg, struct gantry_error *err)
{
	static const char *const SOCKETS[] = { ".sock", NULL }, *const FILES[] = { ".spec", ".json", NULL };
	const char *list = host->config(host, "specs");
	char path[1024];
	(void)err;
	int stop = visit_directory(host, host->config(host, "sockets"), SOCKETS, true, visit, arg);
	while (!stop && next_path(&list, path))
		stop = visit_directory(host, path, FILES, false, visit, arg);
	return 0;
}
