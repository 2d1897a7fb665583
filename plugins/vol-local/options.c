/*
 * options.c - what a volume was created with: type, o and device as mount(8) knows them, each text bounded and without control characters, so that
 * the file that keeps them needs no quoting: one "key=value" line each.
 */
#include "local.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "options"
#define FILE_MAX ((size_t)3 * VALUE_MAX)

bool settings_plain(const struct settings *settings)
{
	return !settings->type[0];
}

bool settings_equal(const struct settings *a, const struct settings *b)
{
	return strcmp(a->type, b->type) == 0 && strcmp(a->o, b->o) == 0 && strcmp(a->device, b->device) == 0;
}

/* ---- from the user ---- */

static char *slot(struct settings *settings, const char *key, size_t *room)
{
	*room = sizeof settings->o;
	if (strcmp(key, "o") == 0)
		return settings->o;
	if (strcmp(key, "device") == 0)
		return settings->device;
	*room = sizeof settings->type;
	return strcmp(key, "type") == 0 ? settings->type : NULL;
}

static int set_value(struct settings *settings, const char *key, const char *value, struct gantry_error *err)
{
	size_t room;
	char *to = slot(settings, key, &room);
	if (!to)
		return gantry_fail(err, GANTRY_E_INVALID, "unknown volume option \"%.64s\" (there are: type, o, device)", key);
	if (strlen(value) >= room)
		return gantry_fail(err, GANTRY_E_INVALID, "volume option %s is longer than %zu bytes", key, room - 1);
	for (const char *p = value; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return gantry_fail(err, GANTRY_E_INVALID, "volume option %s has a control character", key);
	}
	snprintf(to, room, "%s", value);
	return 0;
}

static bool is_bind(const char *word, size_t len)
{
	return (len == 4 && strncmp(word, "bind", 4) == 0) || (len == 5 && strncmp(word, "rbind", 5) == 0);
}

/* Calls for each comma-separated word of o; stops where fn returns non-zero, which it returns. */
static int each_word(const char *o, int (*fn)(void *arg, const char *word, size_t len), void *arg)
{
	for (const char *p = o; *p;) {
		size_t len = strcspn(p, ",");
		int rc = len ? fn(arg, p, len) : 0;
		if (rc != 0)
			return rc;
		p += len + (p[len] == ',');
	}
	return 0;
}

static int note_bind(void *arg, const char *word, size_t len)
{
	(void)arg;
	return is_bind(word, len);
}

static int refuse_word(void *arg, const char *word, size_t len)
{
	static const char *const REFUSED[] = { "remount", "move", "loop" };
	(void)arg;
	for (size_t i = 0; i < sizeof REFUSED / sizeof REFUSED[0]; i++) {
		if (strlen(REFUSED[i]) == len && strncmp(word, REFUSED[i], len) == 0)
			return (int)i + 1;
	}
	return 0;
}

static bool bind_type(const struct settings *settings)
{
	return strcmp(settings->type, "none") == 0 || strcmp(settings->type, "bind") == 0;
}

static int check_whole(const struct settings *settings, struct gantry_error *err)
{
	bool bind = each_word(settings->o, note_bind, NULL) != 0;
	if (!settings->type[0] || !settings->device[0])
		return gantry_fail(err, GANTRY_E_INVALID, "missing volume option \"%s\": a volume with options needs type and device",
				   settings->type[0] ? "device" : "type");
	if (settings->type[strspn(settings->type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")])
		return gantry_fail(err, GANTRY_E_INVALID, "\"%s\" is not a file system type", settings->type);
	if (strcmp(settings->type, "overlay") == 0)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "volumes of type overlay are not supported");
	if (strchr(settings->o, '\\'))
		return gantry_fail(err, GANTRY_E_INVALID, "volume option o has a backslash");
	int refused = each_word(settings->o, refuse_word, NULL);
	if (refused)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "mount option %s is not supported in a volume",
				   refused == 1 ? "remount" : refused == 2 ? "move" : "loop");
	if (bind_type(settings) != bind)
		return gantry_fail(err, GANTRY_E_INVALID, "volume option type=%s does not go %s o=bind; a bind needs both type=none and o=bind", settings->type,
				   bind ? "with" : "without");
	if (bind && settings->device[0] != '/')
		return gantry_fail(err, GANTRY_E_INVALID, "device %.200s is not an absolute path", settings->device);
	return 0;
}

int settings_from_options(const struct gantry_options *options, struct settings *settings, struct gantry_error *err)
{
	*settings = (struct settings){ 0 };
	for (uint32_t i = 0; options && i < options->count; i++) {
		if (set_value(settings, options->items[i].key, options->items[i].value, err) < 0)
			return -1;
	}
	if (!settings->type[0] && !settings->o[0] && !settings->device[0])
		return 0;
	return check_whole(settings, err);
}

/* ---- in a file ---- */

int settings_save(const struct local *self, int dirfd, const struct settings *settings, struct gantry_error *err)
{
	if (settings_plain(settings))
		return 0;
	int fd = openat(dirfd, FILE_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	bool failed = !file || fprintf(file, "type=%s\no=%s\ndevice=%s\n", settings->type, settings->o, settings->device) < 0 ||
		      fflush(file) != 0 || (self->sync && fsync(fd) < 0);
	int saved = errno;
	if (file)
		failed |= fclose(file) != 0;
	else if (fd >= 0)
		close(fd);
	return failed ? gantry_fail_errno(err, GANTRY_E_INTERNAL, saved, "write the options of a volume") : 0;
}

int settings_load(int dirfd, const char *name, struct settings *settings, struct gantry_error *err)
{
	*settings = (struct settings){ 0 };
	int fd = openat(dirfd, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	char *text = fd < 0 ? NULL : malloc(FILE_MAX + 1);
	ssize_t len = text ? read(fd, text, FILE_MAX) : -1;
	if (len < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read the options of volume %s", name);
	if (fd >= 0)
		close(fd);
	int rc = len < 0 ? -1 : 0;
	if (rc == 0) {
		char *rest = text, *line;
		text[len] = '\0';
		while (rc == 0 && (line = strsep(&rest, "\n")) != NULL) {
			char *value = strchr(line, '=');
			if (value)
				*value = '\0';
			if (*line && (!value || set_value(settings, line, value + 1, err) < 0))
				rc = -1;
		}
		if (rc < 0 || !settings->type[0] || !settings->device[0])
			rc = gantry_fail(err, GANTRY_E_INTERNAL, "the options of volume %s are damaged on disk", name);
	}
	free(text);
	return rc;
}

/* ---- as a mount ---- */

struct build {
	const struct settings *settings;
	struct gantry_mount *mount;
	struct gantry_error *err;
	size_t len;
};

static int add(struct build *build, const char *word, size_t len)
{
	struct gantry_mount *mount = build->mount;
	if (build->len + len + 2 > sizeof mount->options)
		return gantry_fail(build->err, GANTRY_E_INVALID, "the mount options of the volume are too long");
	if (build->len)
		mount->options[build->len++] = ',';
	memcpy(mount->options + build->len, word, len);
	build->len += len;
	mount->options[build->len] = '\0';
	return 0;
}

static bool is_network(const char *type)
{
	return strcmp(type, "nfs") == 0 || strcmp(type, "nfs4") == 0 || strcmp(type, "cifs") == 0 || strcmp(type, "smb3") == 0;
}

/* The kernel knows no names of hosts: addr=NAME becomes addr=ADDRESS, as mount.nfs does it. */
static int add_address(struct build *build, const char *word, size_t len)
{
	char host[256], text[INET6_ADDRSTRLEN + 8] = "addr=";
	struct addrinfo *found = NULL, hints = { .ai_socktype = SOCK_STREAM };
	size_t host_len = len - 5;
	if (host_len == 0 || host_len >= sizeof host)
		return gantry_fail(build->err, GANTRY_E_INVALID, "the volume's mount option addr has no host");
	memcpy(host, word + 5, host_len);
	host[host_len] = '\0';
	int rc = getaddrinfo(host, NULL, &hints, &found);
	if (rc != 0)
		return gantry_fail(build->err, GANTRY_E_UNAVAILABLE, "the volume's server %s cannot be resolved: %s", host, gai_strerror(rc));
	rc = getnameinfo(found->ai_addr, found->ai_addrlen, text + 5, sizeof text - 5, NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(found);
	if (rc != 0)
		return gantry_fail(build->err, GANTRY_E_UNAVAILABLE, "the volume's server %s cannot be resolved: %s", host, gai_strerror(rc));
	return add(build, text, strlen(text));
}

static int add_word(void *arg, const char *word, size_t len)
{
	struct build *build = arg;
	if (is_network(build->settings->type) && len > 5 && strncmp(word, "addr=", 5) == 0)
		return add_address(build, word, len);
	return add(build, word, len);
}

int settings_describe(const struct settings *settings, const char *name, bool read_only, struct gantry_mount *mount, struct gantry_error *err)
{
	struct build build = { settings, mount, err, 0 };
	struct stat st;
	bool bind = bind_type(settings);
	if (bind && stat(settings->device, &st) < 0)
		return gantry_fail_errno(err, errno == ENOENT ? GANTRY_E_NOT_FOUND : GANTRY_E_INTERNAL, errno, "volume %s: device %.300s", name,
					 settings->device);
	snprintf(mount->type, sizeof mount->type, "%s", bind ? "bind" : settings->type);
	if ((size_t)snprintf(mount->source, sizeof mount->source, "%s", settings->device) >= sizeof mount->source)
		return gantry_fail(err, GANTRY_E_INVALID, "volume %s: device is too long", name);
	mount->options[0] = '\0';
	mount->flags = bind ? GANTRY_MOUNT_IDMAP : 0;
	if (each_word(settings->o, add_word, &build) < 0)
		return -1;
	return read_only ? add(&build, "ro", 2) : 0;
}
