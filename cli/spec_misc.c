/*
 * spec_misc.c - environment and label files, devices, limits, networks, security options.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "base/fd.h"
#include "cli.h"
#include "spec.h"

enum { MAX_FILE = 16 << 20 };

/* ---- files of lines ---- */

static int read_line(const char *path, int number, char *line, bool from_environment, struct gt_strings *out,
		     struct gt_error *err)
{
	while (isspace((unsigned char)*line))
		line++;
	if (*line == '\0' || *line == '#')
		return 0;
	size_t len = strcspn(line, "=");
	if (len == 0)
		return gt_fail(err, GT_INVALID, "%s, line %d: no variable name before '='", path, number);
	for (size_t i = 0; i < len; i++) {
		if (isspace((unsigned char)line[i]))
			return gt_fail(err, GT_INVALID, "%s, line %d: variable '%.*s' contains whitespaces", path,
				       number, (int)len, line);
	}
	if (line[len] == '=' || !from_environment) {
		gt_strings_add(out, line);
		return 0;
	}
	const char *value = getenv(line);
	if (value) {
		AUTO_FREE char *pair = gt_xasprintf("%s=%s", line, value);
		gt_strings_add(out, pair);
	}
	return 0;
}

int spec_read_file(const char *path, bool from_environment, struct gt_strings *out, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(AT_FDCWD, path, MAX_FILE, &text, err) < 0)
		return -1;
	char *line = text.data;
	if (text.len == 0)
		return 0;
	if (strlen(line) != text.len)
		return gt_fail(err, GT_INVALID, "%s: the file holds NUL bytes", path);
	if (strncmp(line, "\xef\xbb\xbf", 3) == 0)
		line += 3; /* a byte order mark */
	int done = 0;
	for (int number = 1; *line && done == 0; number++) {
		size_t len = strcspn(line, "\n");
		bool last = line[len] == '\0';
		line[len] = '\0';
		if (len > 0 && line[len - 1] == '\r')
			line[len - 1] = '\0';
		done = read_line(path, number, line, from_environment, out, err);
		line += last ? len : len + 1;
	}
	return done;
}

int spec_environment(const struct gt_strings *files, const struct gt_strings *given, struct gt_strings *out,
		     struct gt_error *err)
{
	for (size_t i = 0; i < files->count; i++) {
		if (spec_read_file(files->items[i], true, out, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < given->count; i++) {
		const char *text = given->items[i], *value = NULL;
		if (*text == '=' || *text == '\0')
			return gt_fail(err, GT_INVALID, "invalid environment variable: %.200s", text);
		if (!strchr(text, '='))
			value = getenv(text);
		AUTO_FREE char *pair = value ? gt_xasprintf("%s=%s", text, value) : gt_xstrdup(text);
		gt_strings_add(out, pair);
	}
	return 0;
}

int spec_labels(const struct gt_strings *files, const struct gt_strings *given, json_t *labels, struct gt_error *err)
{
	struct gt_strings lines = { 0 };
	int done = 0;
	for (size_t i = 0; i < files->count && done == 0; i++)
		done = spec_read_file(files->items[i], false, &lines, err);
	for (size_t i = 0; i < given->count && done == 0; i++) {
		if (*given->items[i] == '=' || *given->items[i] == '\0')
			done = gt_fail(err, GT_INVALID, "invalid label \"%.200s\": it reads KEY=VALUE", given->items[i]);
		gt_strings_add(&lines, given->items[i]);
	}
	AUTO_JSON json_t *all = jmap(&lines);
	if (done == 0 && all)
		json_object_update(labels, all);
	gt_strings_free(&lines);
	return done;
}

/* ---- networks ---- */

static void append_to(json_t *object, const char *name, const char *text)
{
	json_t *list = json_object_get(object, name);
	if (!list) {
		list = json_array();
		json_object_set_new(object, name, list);
	}
	json_array_append_new(list, json_string(text));
}

static json_t *ipam_of(json_t *endpoint)
{
	json_t *ipam = json_object_get(endpoint, "IPAMConfig");
	if (!ipam) {
		ipam = json_object();
		json_object_set_new(endpoint, "IPAMConfig", ipam);
	}
	return ipam;
}

static int set_network_key(const char *text, json_t *endpoint, char **name, const char *key, const char *value,
			   struct gt_error *err)
{
	if (strcmp(key, "name") == 0) {
		free(*name);
		*name = gt_xstrdup(value);
	} else if (strcmp(key, "alias") == 0) {
		append_to(endpoint, "Aliases", value);
	} else if (strcmp(key, "ip") == 0) {
		jset_str(ipam_of(endpoint), "IPv4Address", value);
	} else if (strcmp(key, "ip6") == 0) {
		jset_str(ipam_of(endpoint), "IPv6Address", value);
	} else if (strcmp(key, "link-local-ip") == 0) {
		append_to(ipam_of(endpoint), "LinkLocalIPs", value);
	} else if (strcmp(key, "mac-address") == 0) {
		jset_str(endpoint, "MacAddress", value);
	} else if (strcmp(key, "gw-priority") == 0) {
		int64_t priority;
		if (parse_int(value, &priority) < 0)
			return gt_fail(err, GT_INVALID, "invalid network \"%.200s\": gw-priority is a whole number", text);
		json_object_set_new(endpoint, "GwPriority", json_integer(priority));
	} else if (strcmp(key, "driver-opt") == 0) {
		size_t len = strcspn(value, "=");
		AUTO_FREE char *option = gt_xstrndup(value, len);
		if (!value[len] || len == 0)
			return gt_fail(err, GT_INVALID, "invalid network \"%.200s\": driver-opt reads NAME=VALUE", text);
		json_t *options = json_object_get(endpoint, "DriverOpts");
		if (!options) {
			options = json_object();
			json_object_set_new(endpoint, "DriverOpts", options);
		}
		json_object_set_new(options, option, json_string(value + len + 1));
	} else {
		return gt_fail(err, GT_INVALID, "invalid network \"%.200s\": unknown key \"%s\"", text, key);
	}
	return 0;
}

int spec_network(const char *text, char **name, json_t **endpoint, struct gt_error *err)
{
	*endpoint = json_object();
	*name = NULL;
	if (!strchr(text, '=') || strncmp(text, "container:", 10) == 0) {
		*name = gt_xstrdup(text);
		return 0;
	}
	struct gt_strings fields = { 0 };
	args_split_csv(text, &fields);
	int done = 0;
	for (size_t i = 0; i < fields.count && done == 0; i++) {
		char *equals = strchr(fields.items[i], '=');
		if (!equals) {
			done = gt_fail(err, GT_INVALID, "invalid network \"%.200s\": \"%s\" is not KEY=VALUE", text,
				       fields.items[i]);
			break;
		}
		*equals = '\0';
		done = set_network_key(text, *endpoint, name, fields.items[i], equals + 1, err);
	}
	gt_strings_free(&fields);
	if (done == 0 && (!*name || !**name))
		done = gt_fail(err, GT_INVALID, "invalid network \"%.200s\": name= is missing", text);
	if (done < 0) {
		json_decref(*endpoint);
		*endpoint = NULL;
		free(*name);
		*name = NULL;
	}
	return done;
}

/* ---- devices and limits ---- */

static bool is_device_mode(const char *text)
{
	return *text && strlen(text) <= 3 && strspn(text, "rwm") == strlen(text);
}

json_t *spec_device(const char *text, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(text);
	char *parts[3] = { copy, NULL, NULL };
	for (int i = 1; i < 3 && parts[i - 1]; i++) {
		parts[i] = strchr(parts[i - 1], ':');
		if (parts[i])
			*parts[i]++ = '\0';
	}
	const char *inside = parts[1], *mode = parts[2];
	if (inside && !mode && is_device_mode(inside)) {
		mode = inside;
		inside = NULL;
	}
	if (*text != '/' || (mode && !is_device_mode(mode)) || (inside && *inside != '/'))
		return gt_fail_null(err, GT_INVALID,
				    "invalid device \"%.200s\": it reads /dev/HOST[:/dev/CONTAINER][:rwm] or VENDOR/CLASS=NAME", text);
	return json_pack("{s:s,s:s,s:s}", "PathOnHost", copy, "PathInContainer", inside ? inside : copy, "CgroupPermissions",
			 mode ? mode : "rwm");
}

json_t *spec_ulimit(const char *text, struct gt_error *err)
{
	size_t len = strcspn(text, "=");
	AUTO_FREE char *name = gt_xstrndup(text, len);
	AUTO_FREE char *soft = gt_xstrdup(text[len] ? text + len + 1 : "");
	char *hard = strchr(soft, ':');
	int64_t low, high;
	if (hard)
		*hard++ = '\0';
	if (len == 0 || parse_int(soft, &low) < 0 || (hard && parse_int(hard, &high) < 0) || low < -1)
		return gt_fail_null(err, GT_INVALID, "invalid ulimit \"%.200s\": it reads NAME=SOFT[:HARD]", text);
	if (!hard)
		high = low;
	if (high != -1 && (low > high || low == -1))
		return gt_fail_null(err, GT_INVALID,
				    "invalid ulimit \"%.200s\": the soft limit is above the hard limit", text);
	return json_pack("{s:s,s:I,s:I}", "Name", name, "Soft", (json_int_t)low, "Hard", (json_int_t)high);
}

json_t *spec_restart(const char *text, struct gt_error *err)
{
	size_t len = strcspn(text, ":");
	AUTO_FREE char *name = gt_xstrndup(text, len);
	int64_t count = 0;
	if (text[len] && (parse_int(text + len + 1, &count) < 0 || count < 0))
		return gt_fail_null(err, GT_INVALID, "invalid restart policy \"%.200s\": the retry count is a number", text);
	return json_pack("{s:s,s:I}", "Name", name, "MaximumRetryCount", (json_int_t)count);
}

static const char *split_device(const char *text, char **path)
{
	const char *colon = strrchr(text, ':');
	if (*text != '/' || !colon || !colon[1])
		return NULL;
	*path = gt_xstrndup(text, (size_t)(colon - text));
	return colon + 1;
}

json_t *spec_weight_device(const char *text, struct gt_error *err)
{
	AUTO_FREE char *path = NULL;
	const char *value = split_device(text, &path);
	int64_t weight;
	if (!value || parse_int(value, &weight) < 0 || (weight != 0 && (weight < 10 || weight > 1000)))
		return gt_fail_null(err, GT_INVALID,
				    "invalid weight \"%.200s\": it reads /dev/NAME:WEIGHT, from 10 to 1000", text);
	return json_pack("{s:s,s:I}", "Path", path, "Weight", (json_int_t)weight);
}

json_t *spec_rate_device(const char *text, bool bytes, struct gt_error *err)
{
	AUTO_FREE char *path = NULL;
	const char *value = split_device(text, &path);
	int64_t rate;
	if (!value || (bytes ? parse_bytes(value, &rate) : parse_int(value, &rate)) < 0 || rate < 0)
		return gt_fail_null(err, GT_INVALID, "invalid rate \"%.200s\": it reads /dev/NAME:%s", text,
				    bytes ? "RATE, such as /dev/sda:1mb" : "OPERATIONS, a whole number");
	return json_pack("{s:s,s:I}", "Path", path, "Rate", (json_int_t)rate);
}

static void add_devices(json_t *list, const char *text)
{
	struct gt_strings ids = { 0 };
	args_split_csv(text, &ids);
	for (size_t i = 0; i < ids.count; i++)
		json_array_append_new(list, json_string(ids.items[i]));
	gt_strings_free(&ids);
}

json_t *spec_gpus(const char *text, struct gt_error *err)
{
	AUTO_JSON json_t *request = json_pack("{s:s,s:i,s:[],s:[[s]],s:{}}", "Driver", "", "Count", 0, "DeviceIDs",
					      "Capabilities", "gpu", "Options");
	struct gt_strings fields = { 0 };
	args_split_csv(text, &fields);
	bool listing = false, bad = false;
	for (size_t i = 0; i < fields.count && !bad; i++) {
		const char *field = fields.items[i];
		int64_t count;
		if (strncmp(field, "count=", 6) == 0)
			field += 6;
		if (strcmp(field, "all") == 0) {
			json_object_set_new(request, "Count", json_integer(-1));
		} else if (strncmp(field, "device=", 7) == 0) {
			listing = true;
			add_devices(json_object_get(request, "DeviceIDs"), field + 7);
		} else if (strncmp(field, "driver=", 7) == 0) {
			json_object_set_new(request, "Driver", json_string(field + 7));
		} else if (strncmp(field, "capabilities=", 13) == 0) {
			json_array_append_new(json_array_get(json_object_get(request, "Capabilities"), 0),
					      json_string(field + 13));
		} else if (listing && !strchr(field, '=')) {
			json_array_append_new(json_object_get(request, "DeviceIDs"), json_string(field));
		} else if (parse_int(field, &count) == 0) {
			json_object_set_new(request, "Count", json_integer(count));
		} else {
			bad = true;
		}
	}
	gt_strings_free(&fields);
	if (bad)
		return gt_fail_null(err, GT_INVALID, "invalid --gpus \"%.200s\": give all, a number, or device=ID[,ID]",
				    text);
	return json_incref(request);
}

/* ---- security ---- */

static int add_seccomp(const char *path, json_t *list, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(AT_FDCWD, path, MAX_FILE, &text, err) < 0)
		return gt_context(err, "opening seccomp profile");
	AUTO_JSON json_t *profile = gt_json_parse(text.data ? text.data : "", text.len, path, err);
	if (!profile)
		return gt_context(err, "seccomp profile");
	AUTO_FREE char *compact = json_dumps(profile, JSON_COMPACT);
	AUTO_FREE char *option = gt_xasprintf("seccomp=%s", compact);
	json_array_append_new(list, json_string(option));
	return 0;
}

int spec_security(const char *text, json_t *list, json_t *host, struct gt_error *err)
{
	size_t len = strcspn(text, "=:");
	const char *value = text[len] ? text + len + 1 : NULL;
	if (strncmp(text, "no-new-privileges", 17) == 0 && len == 17) {
		json_array_append_new(list, json_string(text));
		return 0;
	}
	if (!value)
		return gt_fail(err, GT_INVALID, "invalid --security-opt: \"%.200s\"", text);
	if (strcmp(text, "systempaths=unconfined") == 0) {
		json_object_set_new(host, "MaskedPaths", json_array());
		json_object_set_new(host, "ReadonlyPaths", json_array());
		return 0;
	}
	if (len == 7 && strncmp(text, "seccomp", 7) == 0 && strcmp(value, "unconfined") != 0 && strcmp(value, "builtin") != 0)
		return add_seccomp(value, list, err);
	json_array_append_new(list, json_string(text));
	return 0;
}

int spec_add_host(const char *text, json_t *list, struct gt_error *err)
{
	size_t len = strcspn(text, "=:");
	if (len == 0 || !text[len] || !text[len + 1])
		return gt_fail(err, GT_INVALID, "bad format for add-host: \"%.200s\": it reads HOST:ADDRESS", text);
	const char *address = text + len + 1;
	size_t size = strlen(address);
	/* An IPv6 address may stand in brackets. */
	if (size > 2 && *address == '[' && address[size - 1] == ']') {
		address++;
		size -= 2;
	}
	AUTO_FREE char *entry = gt_xasprintf("%.*s:%.*s", (int)len, text, (int)size, address);
	json_array_append_new(list, json_string(entry));
	return 0;
}
