/*
 * log_config.c - a container's log: which drivers and options there are, and what the shim is told of them.
 *
 * json-file and local are files of the shim's. journald and syslog are sockets of the host that it sends to; a local file beside keeps what `docker logs`
 * reads, as Docker's dual logging does (cache-disabled turns it off). The shim has no network code: of syslog's addresses those of unix sockets alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/journal.h"
#include "engine/config_check.h"

#define MAX_HEAD (32 * 1024)
#define SYSLOG_SOCKET "/dev/log"
#define DEFAULT_TAG "{{.ID}}"

enum check { SIZE, COUNT, FLAG, TEXT, MODE, ADDRESS, FACILITY, FORMAT, TAG };

static const struct option {
	const char *driver, *name;
	enum check check;
} OPTIONS[] = {
	{ "json-file", "max-size", SIZE },        { "json-file", "max-file", COUNT },          { "json-file", "compress", FLAG },
	{ "json-file", "labels", TEXT },          { "json-file", "env", TEXT },                { "json-file", "tag", TAG },
	{ "local", "max-size", SIZE },            { "local", "max-file", COUNT },              { "local", "compress", FLAG },
	{ "journald", "tag", TAG },               { "journald", "labels", TEXT },              { "journald", "env", TEXT },
	{ "journald", "mode", MODE },             { "journald", "cache-disabled", FLAG },      { "journald", "cache-max-size", SIZE },
	{ "journald", "cache-max-file", COUNT },  { "journald", "cache-compress", FLAG },      { "syslog", "syslog-address", ADDRESS },
	{ "syslog", "syslog-facility", FACILITY }, { "syslog", "syslog-format", FORMAT },      { "syslog", "tag", TAG },
	{ "syslog", "mode", MODE },               { "syslog", "cache-disabled", FLAG },        { "syslog", "cache-max-size", SIZE },
	{ "syslog", "cache-max-file", COUNT },    { "syslog", "cache-compress", FLAG },
};

static const char *const FACILITIES[] = { "kern", "user", "mail", "daemon", "auth",   "syslog", "lpr",    "news",   "uucp",   "cron",   "authpriv", "ftp",
					  NULL,   NULL,   NULL,   NULL,     "local0", "local1", "local2", "local3", "local4", "local5", "local6",   "local7" };

static const struct {
	const char *name, *time;
} FORMATS[] = { { "", "stamp" }, { "rfc3164", "stamp" }, { "rfc5424", "seconds" }, { "rfc5424micro", "micro" } };

bool gt_log_driver_known(const char *name)
{
	static const char *const DRIVERS[] = { "json-file", "local", "none", "journald", "syslog" };
	for (size_t i = 0; i < GT_COUNT(DRIVERS); i++) {
		if (strcmp(name, DRIVERS[i]) == 0)
			return true;
	}
	return false;
}

static bool is_forwarded(const char *driver)
{
	return strcmp(driver, "journald") == 0 || strcmp(driver, "syslog") == 0;
}

/* ---- tags ---- */

/* What a tag's template may name. Without a container (at the check) all are empty. */
static const char *tag_value(const struct gt_container *ctr, const char *name, size_t len, char room[16])
{
	static const char *const NAMES[] = { "ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName" };
	size_t i = 0;
	while (i < GT_COUNT(NAMES) && (strlen(NAMES[i]) != len || memcmp(NAMES[i], name, len)))
		i++;
	if (i == GT_COUNT(NAMES))
		return NULL;
	if (!ctr)
		return "";
	const char *image = ctr->image_id && strchr(ctr->image_id, ':') ? strchr(ctr->image_id, ':') + 1 : "";
	const char *values[] = { ctr->id, ctr->id, ctr->name, image, ctr->image_id, ctr->image_name, "gantry" };
	if (i != 0 && i != 3)
		return values[i] ? values[i] : "";
	snprintf(room, 16, "%.12s", values[i]);
	return room;
}

/* "{{.Name}}/{{ .ID }}": fields alone, no functions. */
static int render_tag(const struct gt_container *ctr, const char *template, struct gt_buf *out, struct gt_error *err)
{
	for (const char *p = template; *p;) {
		if (strncmp(p, "{{", 2)) {
			gt_buf_char(out, *p++);
			continue;
		}
		const char *name = p + 2 + strspn(p + 2, " ");
		size_t len = *name == '.' ? strcspn(name + 1, " }") : 0;
		const char *end = name + 1 + len;
		char room[16];
		const char *value = len ? tag_value(ctr, name + 1, len, room) : NULL;
		end += strspn(end, " ");
		if (!value || strncmp(end, "}}", 2))
			return gt_fail(err, GT_UNSUPPORTED,
				       "log opt tag=%.128s: a tag knows {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, {{.ImageName}} and "
				       "{{.DaemonName}}",
				       template);
		gt_buf_str(out, value);
		p = end + 2;
	}
	return 0;
}

/* ---- checks ---- */

/* The socket of "unix:///p" or "unixgram:///p"; *stream tells which. */
static const char *address_path(const char *text, bool *stream)
{
	*stream = strncmp(text, "unix://", 7) == 0;
	const char *path = *stream ? text + 7 : strncmp(text, "unixgram://", 11) == 0 ? text + 11 : NULL;
	return path && path[0] == '/' && strlen(path) < 108 ? path : NULL;
}

static int facility_number(const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);
	if (*text && !*end)
		return number >= 0 && number < (long)GT_COUNT(FACILITIES) ? (int)number : -1;
	for (size_t i = 0; i < GT_COUNT(FACILITIES); i++) {
		if (FACILITIES[i] && strcmp(FACILITIES[i], text) == 0)
			return (int)i;
	}
	return -1;
}

static int format_index(const char *text)
{
	for (size_t i = 0; i < GT_COUNT(FORMATS); i++) {
		if (strcmp(FORMATS[i].name, text) == 0)
			return (int)i;
	}
	return -1;
}

static bool is_count(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	return *text && !*end && value >= 1 && value <= 1000;
}

static int check_value(const struct option *option, const char *text, struct gt_error *err)
{
	AUTO_BUF struct gt_buf tag = { 0 };
	int64_t size;
	bool stream, good = true;
	const char *wanted = "";
	switch (option->check) {
	case SIZE:
		good = strcmp(text, "-1") == 0 || (gt_size_parse(text, &size) == 0 && size > 0);
		wanted = "a size like 10m";
		break;
	case COUNT:
		good = is_count(text);
		wanted = "a number from 1 to 1000";
		break;
	case FLAG:
		good = strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
		wanted = "true or false";
		break;
	case MODE:
		good = strcmp(text, "blocking") == 0 || strcmp(text, "non-blocking") == 0;
		wanted = "blocking or non-blocking";
		break;
	case ADDRESS:
		good = address_path(text, &stream) != NULL;
		wanted = "unix:///PATH or unixgram:///PATH (for a log server elsewhere, let the host's syslog daemon forward)";
		break;
	case FACILITY:
		good = facility_number(text) >= 0;
		wanted = "a facility's name or number";
		break;
	case FORMAT:
		good = format_index(text) >= 0;
		wanted = "rfc3164, rfc5424 or rfc5424micro";
		break;
	case TAG:
		return render_tag(NULL, text, &tag, err);
	case TEXT:
		break;
	}
	return good ? 0 : gt_fail(err, GT_INVALID, "log driver %s: %s=%.128s is not %s", option->driver, option->name, text, wanted);
}

static int check_option(const char *driver, const char *name, const char *text, struct gt_error *err)
{
	AUTO_BUF struct gt_buf known = { 0 };
	if (strcmp(driver, "none") == 0)
		return gt_fail(err, GT_INVALID, "log driver none takes no options, so not %.64s", name);
	for (size_t i = 0; i < GT_COUNT(OPTIONS); i++) {
		if (strcmp(OPTIONS[i].driver, driver))
			continue;
		if (strcmp(OPTIONS[i].name, name) == 0)
			return check_value(&OPTIONS[i], text, err);
		gt_buf_printf(&known, "%s%s", known.len ? ", " : "", OPTIONS[i].name);
	}
	return gt_fail(err, GT_INVALID, "unknown log opt '%.64s' for %s log driver: it knows %s", name, driver, known.data);
}

int config_check_log(struct gt_engine *engine, struct gt_host_config *host, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	const char *type = NULL, *name;
	json_t *options = NULL, *value;
	if (!json_is_object(host->log_config)) {
		json_decref(host->log_config);
		host->log_config = json_pack("{s:s s:{}}", "Type", "", "Config");
	}
	if (gt_json_string(host->log_config, "Type", &type, err) < 0 || gt_json_object(host->log_config, "Config", &options, err) < 0)
		return -1;
	if (!type || !type[0]) {
		type = config->log_driver;
		json_object_set_new(host->log_config, "Type", json_string(type));
	}
	if (!options)
		json_object_set_new(host->log_config, "Config", json_object());
	if (!gt_log_driver_known(type))
		return gt_fail(err, GT_INVALID, "logger: no log driver named '%.64s' is registered: there are json-file, local, journald, syslog and none", type);
	json_object_foreach(options, name, value) {
		if (!json_is_string(value))
			return gt_fail(err, GT_INVALID, "LogConfig.Config: the value of %.64s is not a string", name);
		if (check_option(type, name, json_string_value(value), err) < 0)
			return -1;
	}
	return 0;
}

/* ---- where it is ---- */

static const char *option_of(const struct gt_container *ctr, const char *name)
{
	return json_string_value(json_object_get(gt_json_get(ctr->config.host.log_config, "Config"), name));
}

static const char *driver_of(const struct gt_container *ctr)
{
	return json_string_value(gt_json_get(ctr->config.host.log_config, "Type"));
}

static bool is_true(const char *text)
{
	return text && strcmp(text, "true") == 0;
}

bool gt_log_is_local(const char *driver)
{
	return strcmp(driver, "local") == 0 || is_forwarded(driver);
}

char *gt_log_path(const struct gt_container *ctr)
{
	const char *driver = driver_of(ctr);
	if (strcmp(driver, "json-file") == 0)
		return gt_xasprintf("%s/%s-json.log", ctr->dir, ctr->id);
	if (!gt_log_is_local(driver) || is_true(option_of(ctr, "cache-disabled")))
		return gt_xstrdup("");
	return gt_xasprintf("%s/local-logs/container.log", ctr->dir);
}

/* ---- for the shim ---- */

static void annotate(json_t *annotations, const char *name, const char *value)
{
	AUTO_FREE char *key = gt_xasprintf("org.gantry.log.%s", name);
	json_object_set_new(annotations, key, json_string(value));
}

static void annotate_number(json_t *annotations, const char *name, int64_t value)
{
	char text[32];
	snprintf(text, sizeof text, "%lld", (long long)value);
	annotate(annotations, name, text);
}

/* The labels and variables that are to go with each line, by name. */
static json_t *extras_of(const struct gt_container *ctr)
{
	json_t *extras = json_object();
	AUTO_FREE char *labels = gt_xstrdup(option_of(ctr, "labels") ? option_of(ctr, "labels") : "");
	AUTO_FREE char *env = gt_xstrdup(option_of(ctr, "env") ? option_of(ctr, "env") : "");
	char *rest = labels, *name;
	while ((name = strsep(&rest, ",")) != NULL) {
		json_t *value = json_object_get(ctr->config.labels, name);
		if (json_is_string(value))
			json_object_set(extras, name, value);
	}
	rest = env;
	while ((name = strsep(&rest, ",")) != NULL) {
		size_t len = strlen(name);
		for (size_t i = 0; len && i < ctr->config.env.count; i++) {
			const char *variable = ctr->config.env.items[i];
			if (strncmp(variable, name, len) == 0 && variable[len] == '=')
				json_object_set_new(extras, name, gt_json_text(variable + len + 1));
		}
	}
	return extras;
}

json_t *gt_log_attrs(const struct gt_container *ctr)
{
	if (strcmp(driver_of(ctr), "json-file") != 0)
		return NULL;
	AUTO_BUF struct gt_buf tag = { 0 };
	AUTO_JSON json_t *attrs = extras_of(ctr);
	const char *template = option_of(ctr, "tag");
	if (template && render_tag(ctr, template, &tag, NULL) == 0 && tag.len)
		json_object_set_new(attrs, "tag", gt_json_text(tag.data));
	return json_object_size(attrs) ? json_incref(attrs) : NULL;
}

static void annotate_file(const struct gt_container *ctr, json_t *annotations)
{
	const struct gt_config *config = atomic_load(&ctr->engine->config);
	const char *driver = driver_of(ctr);
	bool local = gt_log_is_local(driver), cache = is_forwarded(driver);
	const char *size_text = option_of(ctr, cache ? "cache-max-size" : "max-size"), *files = option_of(ctr, cache ? "cache-max-file" : "max-file");
	const char *compress = option_of(ctr, cache ? "cache-compress" : "compress");
	int64_t size = local ? 20 << 20 : config->log_max_size, count = local ? 5 : config->log_max_file;
	if (!ctr->log_path || !ctr->log_path[0]) {
		annotate(annotations, "driver", "none");
		return;
	}
	if (size_text && strcmp(size_text, "-1") == 0)
		size = 0;
	else if (size_text)
		gt_size_parse(size_text, &size);
	annotate(annotations, "driver", local ? "local" : driver);
	annotate(annotations, "path", ctr->log_path);
	annotate_number(annotations, "max-size", size);
	annotate_number(annotations, "max-file", files ? strtoll(files, NULL, 10) : count);
	annotate(annotations, "compress", compress ? compress : local ? "true" : "false");
}

static int annotate_attrs(const struct gt_container *ctr, json_t *annotations, struct gt_error *err)
{
	AUTO_JSON json_t *attrs = gt_log_attrs(ctr);
	if (!attrs)
		return 0;
	AUTO_FREE char *text = json_dumps(attrs, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text || strlen(text) > MAX_HEAD)
		return gt_fail(err, GT_TOO_LARGE, "log driver json-file: tag, labels and env have more than %d bytes", MAX_HEAD);
	annotate(annotations, "attrs", text);
	return 0;
}

/* journald's fields: [A-Z0-9_], not at first a digit or "_". */
static void add_extra(struct gt_buf *out, const char *name, const char *value)
{
	gt_buf_str(out, (name[0] >= '0' && name[0] <= '9') || name[0] == '_' ? "X" : "");
	for (const char *p = name; *p; p++) {
		char c = *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
		gt_buf_char(out, (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_');
	}
	gt_buf_char(out, '=');
	for (const char *p = value; *p; p++)
		gt_buf_char(out, *p == '\n' ? ' ' : *p); /* a newline would need the binary form, which a JSON string cannot carry */
	gt_buf_char(out, '\n');
}

static void add_extras(const struct gt_container *ctr, struct gt_buf *out)
{
	AUTO_JSON json_t *extras = extras_of(ctr);
	const char *name;
	json_t *value;
	json_object_foreach(extras, name, value)
		add_extra(out, name, json_string_value(value));
}

static void journal_head(const struct gt_container *ctr, const char *tag, struct gt_buf *out)
{
	gt_buf_printf(out, "CONTAINER_ID=%.12s\nCONTAINER_ID_FULL=%s\nCONTAINER_NAME=%s\nCONTAINER_TAG=%s\nIMAGE_NAME=%s\nSYSLOG_IDENTIFIER=%s\n", ctr->id,
		      ctr->id, ctr->name, tag, ctr->image_name ? ctr->image_name : "", tag);
	add_extras(ctr, out);
}

/* What stands between the time and the text. */
static void syslog_head(int format, const char *tag, struct gt_buf *out)
{
	char host[256] = "localhost";
	int pid = (int)getpid();
	gethostname(host, sizeof host - 1);
	if (format == 0)
		gt_buf_printf(out, " %s[%d]: ", tag, pid);
	else if (format == 1)
		gt_buf_printf(out, " %s %s[%d]: ", host, tag, pid);
	else
		gt_buf_printf(out, " %s %s %d %s - ", host, tag, pid, tag);
}

static int annotate_forward(const struct gt_container *ctr, json_t *annotations, struct gt_error *err)
{
	AUTO_BUF struct gt_buf tag = { 0 };
	AUTO_BUF struct gt_buf head = { 0 };
	const char *driver = driver_of(ctr), *template = option_of(ctr, "tag"), *mode = option_of(ctr, "mode"), *to = GT_JOURNAL_SOCKET;
	bool stream = false;
	if (render_tag(ctr, template && template[0] ? template : DEFAULT_TAG, &tag, err) < 0)
		return -1;
	for (size_t i = 0; i < tag.len; i++) {
		if ((unsigned char)tag.data[i] < ' ')
			tag.data[i] = '?';
	}
	if (strcmp(driver, "journald") == 0) {
		journal_head(ctr, tag.data ? tag.data : "", &head);
	} else {
		const char *address = option_of(ctr, "syslog-address"), *facility = option_of(ctr, "syslog-facility"), *name = option_of(ctr, "syslog-format");
		int format = format_index(name ? name : "");
		to = address ? address_path(address, &stream) : SYSLOG_SOCKET;
		syslog_head(format, tag.data ? tag.data : "", &head);
		annotate_number(annotations, "forward.facility", facility_number(facility ? facility : "daemon"));
		annotate(annotations, "forward.time", FORMATS[format].time);
		annotate(annotations, "forward.version", format >= 2 ? "1 " : "");
	}
	if (head.len > MAX_HEAD)
		return gt_fail(err, GT_TOO_LARGE, "log driver %s: tag, labels and env have more than %d bytes", driver, MAX_HEAD);
	annotate(annotations, "forward", driver);
	annotate(annotations, "forward.to", to);
	annotate(annotations, "forward.stream", stream ? "true" : "false");
	annotate(annotations, "forward.wait", mode && strcmp(mode, "non-blocking") == 0 ? "false" : "true");
	annotate(annotations, "forward.head", head.data);
	return 0;
}

int gt_log_annotate(const struct gt_container *ctr, json_t *annotations, struct gt_error *err)
{
	annotate_file(ctr, annotations);
	if (annotate_attrs(ctr, annotations, err) < 0)
		return -1;
	return is_forwarded(driver_of(ctr)) ? annotate_forward(ctr, annotations, err) : 0;
}
