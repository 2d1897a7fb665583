#include "config/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "config/check.h"

enum key_type { TEXT, PATH, FLAG, NUMBER, SIZE, LEVEL, FORMAT, LIST };

struct key {
	const char *section, *name;
	enum key_type type;
	size_t offset;
	const char *fallback;
	int64_t min, max;               /* NUMBER and SIZE */
	const char *doc;
};

#define BLANKS " \t\v\f\r"       /* what the INI reader drops around a value */
#define AT(member) offsetof(struct gt_config, member)

/* Every key there is, in the order of --print-config. Lists are separated by commas or by repeating the key. */
static const struct key KEYS[] = {
	{ "daemon", "listen", LIST, AT(listen), "unix:///run/gantry/gantry.sock", 0, 0,
	  "where the API is served: unix:///PATH, tcp://HOST:PORT, fd:// (socket activation)" },
	{ "daemon", "socket_group", TEXT, AT(socket_group), "gantry", 0, 0,
	  "group that may use the unix socket (mode 0660), where such a group exists; being in it is being root" },
	{ "daemon", "tls_cert", PATH, AT(tls_cert), "", 0, 0, "server certificate for tcp listeners (PEM)" },
	{ "daemon", "tls_key", PATH, AT(tls_key), "", 0, 0, "key of the server certificate (PEM)" },
	{ "daemon", "tls_ca", PATH, AT(tls_ca), "", 0, 0, "CA that client certificates must be signed by (PEM)" },
	{ "daemon", "insecure_tcp", FLAG, AT(insecure_tcp), "no", 0, 0,
	  "serve tcp without TLS: anyone who reaches the port is root on this host" },
	{ "daemon", "root", PATH, AT(root), "/var/lib/gantry", 0, 0, "state that outlives a reboot" },
	{ "daemon", "run", PATH, AT(run), "/run/gantry", 0, 0, "state of running containers; best on a tmpfs" },
	{ "daemon", "plugin_dir", PATH, AT(plugin_dir), GANTRY_LIBEXEC "/plugins", 0, 0, "drivers: every *.so in it is loaded" },
	{ "daemon", "libexec_dir", PATH, AT(libexec_dir), GANTRY_LIBEXEC, 0, 0, "gantry-shim, gantry-init, gantry-fs and gantry-plugin-host" },
	{ "daemon", "log_level", LEVEL, AT(log_level), "info", 0, 0, "debug, info, warn or error (reloadable)" },
	{ "daemon", "log_format", FORMAT, AT(log_json), "text", 0, 0, "text or json (reloadable); text goes to systemd's journal as fields where standard error is the journal" },
	{ "daemon", "max_body", SIZE, AT(max_body), "4m", 4096, 1 << 30, "largest JSON request body" },
	{ "daemon", "max_connections", NUMBER, AT(max_connections), "1024", 8, 65536, "clients at one time" },
	{ "daemon", "request_timeout", NUMBER, AT(request_timeout), "60", 1, 3600,
	  "seconds that a client may take over the head of a request, and again over its JSON body; then the connection is ended" },
	{ "daemon", "shutdown_timeout", NUMBER, AT(shutdown_timeout), "15", 0, 3600, "seconds that requests get to end at SIGTERM" },
	{ "daemon", "labels", LIST, AT(labels), "", 0, 0, "key=value labels of this engine, shown by info" },
	{ "daemon", "metrics_addr", TEXT, AT(metrics_addr), "", 0, 0,
	  "HOST:PORT where GET /metrics tells Prometheus this daemon's figures, to anyone who reaches it; no HOST: 127.0.0.1; empty: nowhere" },

	{ "runtime", "cgroup_parent", PATH, AT(cgroup_parent), "/gantry", 0, 0, "cgroup below which containers get theirs" },
	{ "runtime", "seccomp_profile", PATH, AT(seccomp_profile), "", 0, 0, "seccomp profile in Docker's format; empty: the built-in one" },
	{ "runtime", "userns_remap", TEXT, AT(userns_remap), "", 0, 0, "START:COUNT of host ids for containers' users; empty: no user namespace" },
	{ "runtime", "no_new_privileges", FLAG, AT(no_new_privileges), "no", 0, 0, "set no_new_privs in every container" },
	{ "runtime", "init", FLAG, AT(init), "no", 0, 0, "run gantry-init as PID 1 of every container" },
	{ "runtime", "stop_timeout", NUMBER, AT(stop_timeout), "10", 0, 86400, "seconds between a stop's signal and SIGKILL" },
	{ "runtime", "shm_size", SIZE, AT(shm_size), "64m", 4096, INT64_MAX, "size of /dev/shm" },
	{ "runtime", "default_ulimits", LIST, AT(default_ulimits), "", 0, 0, "NAME=SOFT[:HARD] for every container" },
	{ "runtime", "cdi_spec_dirs", LIST, AT(cdi_spec_dirs), "/etc/cdi, /var/run/cdi", 0, 0,
	  "directories with CDI files, which describe devices; a later one outweighs an earlier one" },

	{ "storage", "driver", TEXT, AT(storage_driver), "overlay", 0, 0, "storage driver for images and containers" },
	{ "storage", "fsync", FLAG, AT(fsync), "yes", 0, 0, "make documents durable; no: for tests and throw-away hosts (of layers: sync of the storage driver)" },
	{ "storage", "embedded_image", PATH, AT(embedded_image), GANTRY_SHARE "/busybox.tar", 0, 0,
	  "image archive that is loaded once into a new store; empty: none" },

	{ "registry", "insecure", LIST, AT(registry_insecure), "", 0, 0,
	  "HOST, HOST:PORT or SUBNET of registries without TLS, or with certificates that nobody vouches for; loopback addresses always are" },
	{ "registry", "mirrors", LIST, AT(registry_mirrors), "", 0, 0,
	  "URL of a mirror of docker.io, or HOST=URL for another registry's; asked first, without credentials" },
	{ "registry", "certs", LIST, AT(registry_certs), GANTRY_SYSCONF "/certs.d, /etc/docker/certs.d", 0, 0,
	  "directories with HOST[:PORT]/*.crt (CAs), *.cert and *.key (client certificates)" },
	{ "registry", "http_proxy", TEXT, AT(http_proxy), "", 0, 0, "proxy for http; empty: HTTP_PROXY of the daemon's environment" },
	{ "registry", "https_proxy", TEXT, AT(https_proxy), "", 0, 0, "proxy for https; empty: HTTPS_PROXY of the daemon's environment" },
	{ "registry", "no_proxy", TEXT, AT(no_proxy), "", 0, 0,
	  "hosts that are reached without a proxy; empty: NO_PROXY of the daemon's environment; loopback addresses always are" },
	{ "registry", "max_downloads", NUMBER, AT(max_downloads), "3", 1, 16, "layers of one pull that are fetched at a time" },

	{ "log", "driver", TEXT, AT(log_driver), "json-file", 0, 0, "default log driver of containers: json-file, local, journald, syslog, none" },
	{ "log", "max_size", SIZE, AT(log_max_size), "0", 0, INT64_MAX, "rotate a container's log at this size; 0: never" },
	{ "log", "max_file", NUMBER, AT(log_max_file), "1", 1, 1000, "files kept of a rotated log" },

	{ "network", "default_driver", TEXT, AT(default_network_driver), "bridge", 0, 0, "driver of networks made without --driver" },
	{ "network", "bridge_subnet", TEXT, AT(bridge_subnet), "", 0, 0, "subnet of the default bridge; empty: the first free pool" },
	{ "network", "bridge_subnet6", TEXT, AT(bridge_subnet6), "", 0, 0, "IPv6 subnet of the default bridge; empty: no IPv6" },
	{ "network", "global_address_pools", LIST, AT(global_address_pools), "10.0.0.0/8 size 24", 0, 0,
	  "the same for networks that span hosts (driver overlay); the same on all of them, and not used on any" },
	{ "network", "address_pools", LIST, AT(address_pools), "172.17.0.0/12 size 16, 192.168.0.0/16 size 20", 0, 0,
	  "SUBNET size PREFIX: where subnets of new networks come from" },
	{ "network", "dns", LIST, AT(dns), "", 0, 0, "name servers of containers; empty: the host's" },
	{ "network", "dns_search", LIST, AT(dns_search), "", 0, 0, "search domains of containers" },
	{ "network", "dns_options", LIST, AT(dns_options), "", 0, 0, "resolver options of containers" },
	{ "network", "host_gateway", TEXT, AT(host_gateway), "", 0, 0, "address behind host-gateway; empty: the bridge's gateway" },
};

/* ---- values ---- */

static int parse_flag(const char *text, bool *flag)
{
	static const char *const YES[] = { "yes", "true", "on", "1" }, *const NO[] = { "no", "false", "off", "0" };
	for (size_t i = 0; i < GT_COUNT(YES); i++) {
		if (!strcasecmp(text, YES[i]) || !strcasecmp(text, NO[i])) {
			*flag = !strcasecmp(text, YES[i]);
			return 0;
		}
	}
	return -1;
}

/* Digits, then for sizes one of k m g t (powers of 1024), then maybe b. */
static int parse_number(const char *text, bool size, int64_t *number)
{
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (end == text || errno || value < 0)
		return -1;
	if (size && *end) {
		const char *units = "kmgt", *unit = strchr(units, *end | 0x20);
		if (unit) {
			int shift = 10 * (int)(unit - units + 1);
			if (value > (INT64_MAX >> shift))
				return -1;
			value <<= shift;
			end++;
		}
		if (*end == 'b' || *end == 'B')
			end++;
	}
	*number = value;
	return *end ? -1 : 0;
}

/* Behind a blank it would begin a comment: it could not be printed. */
static int refuse_comment(const char *value, struct gt_error *err)
{
	return *value == ';' ? gt_fail(err, GT_INVALID, "%s begins with \";\", as comments do", value) : 0;
}

static int add_list_items(const struct key *key, struct gt_strings *list, const char *text, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(text);
	char *rest = copy, *item;
	while ((item = strsep(&rest, ",")) != NULL) {
		item += strspn(item, BLANKS);
		size_t len = strlen(item);
		while (len > 0 && strchr(BLANKS, item[len - 1]))
			item[--len] = '\0';
		if (refuse_comment(item, err) < 0)
			return -1;
		if (len > 0 && config_check_value(key->section, key->name, item, err) < 0)
			return -1;
		if (len > 0)
			gt_strings_add(list, item);
	}
	return 0;
}

static int set_number(const struct key *key, const char *value, int64_t *slot, struct gt_error *err)
{
	bool size = key->type == SIZE;
	if (parse_number(value, size, slot) < 0)
		return gt_fail(err, GT_INVALID, "%s is not %s", value,
			       size ? "a size (such as 512k, 64m, 2g)" : "a whole number");
	if (*slot < key->min || *slot > key->max)
		return gt_fail(err, GT_INVALID, "%s is out of range %lld to %lld", value, (long long)key->min, (long long)key->max);
	return 0;
}

static int set_value(struct gt_config *config, const struct key *key, const char *value, struct gt_error *err)
{
	char *slot = (char *)config + key->offset;
	switch (key->type) {
	case PATH:
		if (*value && *value != '/')
			return gt_fail(err, GT_INVALID, "%s is not an absolute path", value);
		/* fall through */
	case TEXT:
		if (refuse_comment(value, err) < 0)
			return -1;
		if (*value && config_check_value(key->section, key->name, value, err) < 0)
			return -1;
		free(*(char **)slot);
		*(char **)slot = gt_xstrdup(value);
		return 0;
	case FLAG:
		if (parse_flag(value, (bool *)slot) < 0)
			return gt_fail(err, GT_INVALID, "%s is neither yes nor no", value);
		return 0;
	case NUMBER:
	case SIZE:
		return set_number(key, value, (int64_t *)slot, err);
	case LEVEL:
		if (gt_log_level_parse(value, (enum gt_level *)slot) < 0)
			return gt_fail(err, GT_INVALID, "%s is not one of debug, info, warn, error", value);
		return 0;
	case FORMAT:
		if (strcmp(value, "json") && strcmp(value, "text"))
			return gt_fail(err, GT_INVALID, "%s is neither text nor json", value);
		*(bool *)slot = !strcmp(value, "json");
		return 0;
	case LIST:
		return add_list_items(key, (struct gt_strings *)slot, value, err);
	}
	return 0;
}

/* ---- files ---- */

/* What the INI parser's callbacks share. inih gives no line numbers to handlers; the line reader counts them. */
struct reading {
	struct gt_config *config;
	const char *file;
	FILE *stream;
	int line;
	struct gt_buf complaints;
	bool seen[GT_COUNT(KEYS)];      /* lists of a later file replace those of an earlier one */
};

static void complain(struct reading *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct reading *in, const char *fmt, ...)
{
	va_list ap;
	gt_buf_printf(&in->complaints, "%s%s:%d: ", in->complaints.len ? "\n" : "", in->file, in->line);
	va_start(ap, fmt);
	gt_buf_vprintf(&in->complaints, fmt, ap);
	va_end(ap);
}

static char *read_line(char *line, int room, void *context)
{
	struct reading *in = context;
	if (!fgets(line, room, in->stream))
		return NULL;
	in->line++;
	size_t len = strlen(line);
	if (len > 0 && line[len - 1] != '\n' && !feof(in->stream)) {
		complain(in, "the line is longer than %d bytes: go on with an indented line", room - 2);
		int c;
		while ((c = fgetc(in->stream)) != EOF && c != '\n')
			;
		line[0] = '\0';
	}
	return line;
}

static void plugin_line(struct reading *in, const char *plugin, const char *name, const char *value)
{
	struct gt_config *config = in->config;
	config->plugin_settings = gt_xrealloc(config->plugin_settings,
					      (config->plugin_setting_count + 1) * sizeof *config->plugin_settings);
	config->plugin_settings[config->plugin_setting_count++] = (struct gt_plugin_setting){
		.plugin = gt_xstrdup(plugin), .key = gt_xstrdup(name), .value = gt_xstrdup(value),
		.file = gt_xstrdup(in->file), .line = in->line,
	};
}

static int on_line(void *context, const char *section, const char *name, const char *value)
{
	struct reading *in = context;
	bool section_known = false;
	if (!strncmp(section, "plugin.", 7) && section[7]) {
		plugin_line(in, section + 7, name, value);
		return 1;
	}
	for (size_t i = 0; i < GT_COUNT(KEYS); i++) {
		const struct key *key = &KEYS[i];
		if (strcmp(section, key->section))
			continue;
		section_known = true;
		if (strcmp(name, key->name))
			continue;
		if (key->type == LIST && !in->seen[i])
			gt_strings_free((struct gt_strings *)((char *)in->config + key->offset));
		in->seen[i] = true;
		struct gt_error err = { 0 };
		if (set_value(in->config, key, value, &err) < 0)
			complain(in, "[%s] %s: %s", section, name, err.message);
		return 1;
	}
	if (!*section)
		complain(in, "key %s stands before the first [section]", name);
	else if (section_known)
		complain(in, "unknown key %s in section [%s]", name, section);
	else
		complain(in, "unknown section [%s] (there are: daemon, runtime, storage, registry, log, network, plugin.NAME)", section);
	return 1;
}

static int read_one(struct gt_config *config, int dirfd, const char *path, const char *shown, bool must_exist,
		    struct gt_buf *complaints, struct gt_error *err)
{
	AUTO_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno == ENOENT && !must_exist)
		return 0;
	if (fd < 0)
		return gt_fail_errno(err, errno, "open configuration file %s", shown);
	AUTO_FCLOSE FILE *stream = fdopen(fd, "r");
	if (!stream)
		return gt_fail_errno(err, errno, "read configuration file %s", shown);
	take_fd(fd);
	struct reading in = { .config = config, .file = shown, .stream = stream, .complaints = *complaints };
	int bad_line = ini_parse_stream(read_line, &in, on_line, &in);
	if (bad_line > 0) {
		in.line = bad_line;
		complain(&in, "this is neither [section], key = value, nor a comment");
	}
	*complaints = in.complaints;
	if (ferror(stream))
		return gt_fail_errno(err, errno, "read configuration file %s", shown);
	return 0;
}

static int only_ini(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');
	return entry->d_name[0] != '.' && dot && !strcmp(dot, ".ini");
}

/* conf.d stands beside the main file. */
static int read_drop_ins(struct gt_config *config, const char *path, struct gt_buf *complaints, struct gt_error *err)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *dir = slash ? gt_xasprintf("%.*s/conf.d", (int)(slash - path), path) : gt_xstrdup("conf.d");
	struct dirent **entries = NULL;
	int count = scandir(dir, &entries, only_ini, alphasort);
	if (count < 0 && errno == ENOENT)
		return 0;
	if (count < 0 && errno == ENOTDIR)
		return 0;
	if (count < 0)
		return gt_fail_errno(err, errno, "read configuration directory %s", dir);
	int rc = 0;
	for (int i = 0; i < count; i++) {
		AUTO_FREE char *file = gt_xasprintf("%s/%s", dir, entries[i]->d_name);
		if (rc == 0)
			rc = read_one(config, AT_FDCWD, file, file, true, complaints, err);
		free(entries[i]);
	}
	free(entries);
	return rc;
}

int gt_config_load(const char *path, bool must_exist, struct gt_config **out, struct gt_error *err)
{
	struct gt_config *config = gt_xcalloc(1, sizeof *config);
	for (size_t i = 0; i < GT_COUNT(KEYS); i++)
		set_value(config, &KEYS[i], KEYS[i].fallback, NULL);
	config->file = gt_xstrdup(path);
	config->file_given = must_exist;

	AUTO_BUF struct gt_buf complaints = { 0 };
	if (path && (read_one(config, AT_FDCWD, path, path, must_exist, &complaints, err) < 0 ||
		     read_drop_ins(config, path, &complaints, err) < 0)) {
		gt_config_free(config);
		return -1;
	}
	if (complaints.len > 0) {
		gt_config_free(config);
		return gt_fail(err, GT_INVALID, "%s", complaints.data);
	}
	*out = config;
	return 0;
}

void gt_config_free(struct gt_config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < GT_COUNT(KEYS); i++) {
		char *slot = (char *)config + KEYS[i].offset;
		if (KEYS[i].type == TEXT || KEYS[i].type == PATH)
			free(*(char **)slot);
		else if (KEYS[i].type == LIST)
			gt_strings_free((struct gt_strings *)slot);
	}
	for (size_t i = 0; i < config->plugin_setting_count; i++) {
		struct gt_plugin_setting *setting = &config->plugin_settings[i];
		free(setting->plugin);
		free(setting->key);
		free(setting->value);
		free(setting->file);
	}
	free(config->plugin_settings);
	free(config->file);
	free(config);
}

/* ---- printing ---- */

static void print_value(const struct key *key, const char *slot, struct gt_buf *out)
{
	static const char *const LEVELS[] = { "debug", "info", "warn", "error" };
	const struct gt_strings *list;
	switch (key->type) {
	case TEXT:
	case PATH:
		gt_buf_str(out, *(char *const *)slot);
		break;
	case FLAG:
		gt_buf_str(out, *(const bool *)slot ? "yes" : "no");
		break;
	case FORMAT:
		gt_buf_str(out, *(const bool *)slot ? "json" : "text");
		break;
	case NUMBER:
	case SIZE:
		gt_buf_printf(out, "%lld", (long long)*(const int64_t *)slot);
		break;
	case LEVEL:
		gt_buf_str(out, LEVELS[*(const enum gt_level *)slot]);
		break;
	case LIST:
		list = (const struct gt_strings *)slot;
		for (size_t i = 0; i < list->count; i++)
			gt_buf_printf(out, "%s%s", i ? ", " : "", list->items[i]);
		break;
	}
}

void gt_config_print(const struct gt_config *config, struct gt_buf *out)
{
	const char *section = "";
	for (size_t i = 0; i < GT_COUNT(KEYS); i++) {
		const struct key *key = &KEYS[i];
		if (strcmp(section, key->section))
			gt_buf_printf(out, "%s[%s]\n", i ? "\n" : "", key->section);
		section = key->section;
		gt_buf_printf(out, "# %s", key->doc);
		if (*key->fallback)
			gt_buf_printf(out, " (default: %s)", key->fallback);
		gt_buf_printf(out, "\n%s = ", key->name);
		print_value(key, (const char *)config + key->offset, out);
		gt_buf_char(out, '\n');
	}
	section = "";
	for (size_t i = 0; i < config->plugin_setting_count; i++) {
		const struct gt_plugin_setting *setting = &config->plugin_settings[i];
		if (strcmp(section, setting->plugin))
			gt_buf_printf(out, "\n[plugin.%s]\n", setting->plugin);
		section = setting->plugin;
		gt_buf_printf(out, "%s = %s\n", setting->key, setting->value);
	}
}
