#include "api.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"

enum { MAX_JSON = 256 << 20 };

static void escape(struct gt_buf *out, const char *text, const char *keep)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (isalnum(*p) || strchr("-_.~", *p) || strchr(keep, *p))
			gt_buf_char(out, (char)*p);
		else
			gt_buf_printf(out, "%%%02X", *p);
	}
}

void url_path_parts(struct gt_buf *url, ...)
{
	va_list ap;
	va_start(ap, url);
	bool literal = true;
	for (const char *part; (part = va_arg(ap, const char *)); literal = !literal) {
		if (literal)
			gt_buf_str(url, part);
		else
			escape(url, part, ":");
	}
	va_end(ap);
}

void url_image(struct gt_buf *url, const char *before, const char *reference, const char *after)
{
	gt_buf_str(url, before);
	escape(url, reference, "/:@");
	gt_buf_str(url, after);
}

void url_param(struct gt_buf *url, const char *name, const char *value)
{
	gt_buf_char(url, strchr(url->data, '?') ? '&' : '?');
	gt_buf_str(url, name);
	gt_buf_char(url, '=');
	escape(url, value, "");
}

void url_text(struct gt_buf *url, const char *name, const char *value)
{
	if (value && *value)
		url_param(url, name, value);
}

int url_platform(struct gt_buf *url, const char *platform, struct gt_error *err)
{
	char os[32], architecture[32], variant[32];
	int end = 0;
	if (!*platform)
		return 0;
	int parts = sscanf(platform, "%31[a-z0-9]/%31[a-z0-9_]%n/%31[a-z0-9.]%n", os, architecture, &end, variant, &end);
	if (parts < 2 || platform[end])
		return gt_fail(err, GT_INVALID, "--platform %.100s: a platform is OS/ARCHITECTURE[/VARIANT], such as linux/arm64", platform);
	AUTO_JSON json_t *json = json_pack("{s:s, s:s}", "os", os, "architecture", architecture);
	if (parts == 3)
		json_object_set_new(json, "variant", json_string(variant));
	AUTO_FREE char *text = json_dumps(json, JSON_COMPACT);
	url_param(url, "platform", text);
	return 0;
}

void url_int(struct gt_buf *url, const char *name, int64_t value)
{
	char text[24];
	snprintf(text, sizeof text, "%lld", (long long)value);
	url_param(url, name, text);
}

void url_flag(struct gt_buf *url, const char *name, bool value)
{
	if (value)
		url_param(url, name, "1");
}

int url_time(struct gt_buf *url, const char *name, const char *text, struct gt_error *err)
{
	int64_t ns;
	if (!*text)
		return 0;
	if (gt_time_parse(text, &ns, err) < 0)
		return gt_context(err, "--%s", name);
	AUTO_FREE char *value = gt_xasprintf("%lld.%09lld", (long long)(ns / GT_SECOND), (long long)(ns % GT_SECOND));
	url_param(url, name, value);
	return 0;
}

json_t *filters_json(const struct gt_strings *filters)
{
	json_t *all = json_object();
	for (size_t i = 0; i < filters->count; i++) {
		const char *equals = strchr(filters->items[i], '=');
		AUTO_FREE char *key = gt_xstrndup(filters->items[i], (size_t)(equals - filters->items[i]));
		for (char *p = key; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		json_t *values = json_object_get(all, key);
		if (!values) {
			values = json_object();
			json_object_set_new(all, key, values);
		}
		json_object_set_new(values, equals + 1, json_true());
	}
	return all;
}

void url_filters_json(struct gt_buf *url, const json_t *filters)
{
	if (json_object_size(filters) == 0)
		return;
	AUTO_FREE char *text = json_dumps(filters, JSON_COMPACT);
	url_param(url, "filters", text ? text : "{}");
}

void url_filters(struct gt_buf *url, const struct gt_strings *filters)
{
	AUTO_JSON json_t *all = filters_json(filters);
	url_filters_json(url, all);
}

static enum gt_kind kind_of(int status)
{
	switch (status) {
	case 400: return GT_INVALID;
	case 401: return GT_UNAUTHORIZED;
	case 403: return GT_DENIED;
	case 404: return GT_NOT_FOUND;
	case 409: return GT_CONFLICT;
	case 413: return GT_TOO_LARGE;
	case 501: return GT_UNSUPPORTED;
	case 503: return GT_UNAVAILABLE;
	default: return GT_INTERNAL;
	}
}

/* Turns an error answer's body, {"message":"..."} or plain text, into err. */
static void read_error(struct http_response *response, struct gt_error *err)
{
	int status = http_status(response);
	AUTO_BUF struct gt_buf body = { 0 };
	if (http_read_all(response, 1 << 20, &body, NULL) < 0 || body.len == 0) {
		gt_fail(err, kind_of(status), DAEMON_SAYS "status %d without a message", status);
		return;
	}
	AUTO_JSON json_t *answer = gt_json_parse(body.data, body.len, "answer", NULL);
	const char *message = json_string_value(json_object_get(answer, "message"));
	gt_fail(err, kind_of(status), DAEMON_SAYS "%s", message ? message : body.data);
}

struct http_response *api_open(struct cli *cli, const struct http_request *request, struct gt_error *err)
{
	struct http_response *response = http_send(cli->http, request, err);
	if (!response || http_status(response) < 400)
		return response;
	read_error(response, err);
	http_close(response);
	return NULL;
}

int api_call(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **answer,
	     struct gt_error *err)
{
	struct http_request request = { .method = method, .path = path, .json = body };
	if (answer)
		*answer = NULL;
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	if (!response)
		return -1;
	AUTO_BUF struct gt_buf text = { 0 };
	if (http_read_all(response, MAX_JSON, &text, err) < 0)
		return -1;
	if (!answer || text.len == 0)
		return 0;
	*answer = gt_json_parse(text.data, text.len, "the daemon's answer", err);
	return *answer ? 0 : -1;
}

json_t *api_get(struct cli *cli, const char *path, struct gt_error *err)
{
	json_t *answer;
	if (api_call(cli, "GET", path, NULL, &answer, err) < 0)
		return NULL;
	if (!answer)
		gt_fail(err, GT_INTERNAL, "the daemon answered %s with nothing", path);
	return answer;
}

int api_copy_body(struct http_response *response, int fd, struct gt_error *err)
{
	const char *bytes;
	ssize_t got;
	while ((got = http_next(response, &bytes, err)) > 0) {
		if (gt_write_full(fd, bytes, (size_t)got) < 0)
			return gt_fail_errno(err, errno, "cannot write the output");
	}
	return got < 0 ? -1 : 0;
}
