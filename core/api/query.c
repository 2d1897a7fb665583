#include "query.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"

enum { MAX_FILTERS = 64, MAX_FILTER_VALUES = 1024 };

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *query_unescape(const char *text, size_t len, bool plus, struct gt_error *err)
{
	AUTO_FREE char *out = gt_xmalloc(len + 1);
	size_t used = 0;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (c == '%') {
			int high = len - i > 2 ? hex_digit(text[i + 1]) : -1;
			int low = high < 0 ? -1 : hex_digit(text[i + 2]);
			if (high < 0 || low < 0)
				return gt_fail_null(err, GT_INVALID, "invalid URL escape in the request");
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c == '\0')
			return gt_fail_null(err, GT_INVALID, "the request's URL holds a NUL byte");
		out[used++] = c;
	}
	out[used] = '\0';
	return take(out);
}

static int add_param(struct query *query, const char *text, size_t len, struct gt_error *err)
{
	if (query->count == GT_QUERY_MAX)
		return gt_fail(err, GT_INVALID, "the request has more than %d query parameters", GT_QUERY_MAX);
	const char *equals = memchr(text, '=', len);
	size_t name_len = equals ? (size_t)(equals - text) : len;
	AUTO_FREE char *name = query_unescape(text, name_len, true, err);
	AUTO_FREE char *value = !name	  ? NULL
				: equals ? query_unescape(equals + 1, len - name_len - 1, true, err)
					 : gt_xstrdup("");
	if (!name || !value)
		return -1;
	if ((query->count & (query->count - 1)) == 0)
		query->params = gt_xrealloc(query->params, (query->count ? query->count * 2 : 1) * sizeof *query->params);
	query->params[query->count++] = (struct query_param){ take(name), take(value) };
	return 0;
}

int query_parse(const char *text, struct query *query, struct gt_error *err)
{
	*query = (struct query){ 0 };
	while (text && *text) {
		size_t len = strcspn(text, "&");
		if (len > 0 && add_param(query, text, len, err) < 0)
			return -1;
		text += len + (text[len] == '&');
	}
	return 0;
}

void query_free(struct query *query)
{
	for (size_t i = 0; i < query->count; i++) {
		free(query->params[i].name);
		free(query->params[i].value);
	}
	free(query->params);
	*query = (struct query){ 0 };
}

const char *query_get(const struct query *query, const char *name)
{
	for (size_t i = 0; i < query->count; i++) {
		if (strcmp(query->params[i].name, name) == 0)
			return query->params[i].value;
	}
	return NULL;
}

const char *query_text(const struct query *query, const char *name)
{
	const char *value = query_get(query, name);
	return value && *value ? value : NULL;
}

static bool is_true(const char *value)
{
	static const char *const FALSE_WORDS[] = { "", "0", "no", "false", "none" };
	value += strspn(value, " \t");
	size_t len = strcspn(value, " \t");
	for (size_t i = 0; i < GT_COUNT(FALSE_WORDS); i++) {
		if (strlen(FALSE_WORDS[i]) == len && strncasecmp(value, FALSE_WORDS[i], len) == 0)
			return false;
	}
	return true;
}

bool query_bool(const struct query *query, const char *name, bool absent)
{
	const char *value = query_get(query, name);
	return value ? is_true(value) : absent;
}

int query_int(const struct query *query, const char *name, int64_t *value, struct gt_error *err)
{
	const char *text = query_text(query, name);
	if (!text)
		return 0;
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (errno || end == text || *end || isspace((unsigned char)*text))
		return gt_fail(err, GT_INVALID, "invalid value \"%s\" of the query parameter %s: it must be a whole number", text, name);
	*value = number;
	return 0;
}

int query_size(const struct query *query, unsigned *rows, unsigned *cols, struct gt_error *err)
{
	int64_t height = -1, width = -1;
	if (query_int(query, "h", &height, err) < 0 || query_int(query, "w", &width, err) < 0)
		return -1;
	if (height < 0 || width < 0 || height > UINT16_MAX || width > UINT16_MAX)
		return gt_fail(err, GT_INVALID, "a terminal's size needs the query parameters h and w, from 0 to %d", UINT16_MAX);
	*rows = (unsigned)height;
	*cols = (unsigned)width;
	return 0;
}

int query_time(const struct query *query, const char *name, int64_t *ns, struct gt_error *err)
{
	const char *text = query_text(query, name);
	*ns = 0;
	if (!text || strcmp(text, "0") == 0)
		return 0;
	if (gt_time_parse(text, ns, err) < 0)
		return gt_context(err, "invalid value of the query parameter %s", name);
	return 0;
}

void query_list(const struct query *query, const char *name, struct gt_strings *list)
{
	for (size_t i = 0; i < query->count; i++) {
		if (strcmp(query->params[i].name, name) == 0)
			gt_strings_add(list, query->params[i].value);
	}
}

/* ---- filters ---- */

/* One key's values, in either form, as an array. */
static json_t *filter_values(const char *key, json_t *given, struct gt_error *err)
{
	AUTO_JSON json_t *values = json_array();
	const char *name;
	json_t *value;
	size_t i;
	if (json_array_size(given) > MAX_FILTER_VALUES || json_object_size(given) > MAX_FILTER_VALUES)
		return gt_fail_null(err, GT_INVALID, "invalid filter '%s': more than %d values", key, MAX_FILTER_VALUES);
	if (json_is_array(given)) {
		json_array_foreach(given, i, value) {
			if (!json_is_string(value))
				return gt_fail_null(err, GT_INVALID, "invalid filter '%s': its values must be strings", key);
			json_array_append(values, value);
		}
	} else if (json_is_object(given)) {
		json_object_foreach(given, name, value) {
			if (!json_is_boolean(value))
				return gt_fail_null(err, GT_INVALID, "invalid filter '%s': its values must be booleans", key);
			if (json_is_true(value))
				json_array_append_new(values, json_string(name));
		}
	} else {
		return gt_fail_null(err, GT_INVALID, "invalid filter '%s': it must be a list or a map", key);
	}
	return take(values);
}

int query_filters_parse(const char *text, json_t **filters, struct gt_error *err)
{
	AUTO_JSON json_t *given = gt_json_parse(text, strlen(text), "the query parameter filters", err);
	if (!given)
		return -1;
	if (json_is_null(given))
		return 0;
	if (!json_is_object(given))
		return gt_fail(err, GT_INVALID, "invalid filter: it must be a JSON object");
	if (json_object_size(given) > MAX_FILTERS)
		return gt_fail(err, GT_INVALID, "invalid filter: more than %d of them", MAX_FILTERS);
	AUTO_JSON json_t *out = json_object();
	const char *key;
	json_t *value;
	json_object_foreach(given, key, value) {
		json_t *values = filter_values(key, value, err);
		if (!values)
			return -1;
		json_object_set_new(out, key, values);
	}
	if (json_object_size(out) > 0)
		*filters = take(out);
	return 0;
}

int query_filters(const struct query *query, json_t **filters, struct gt_error *err)
{
	const char *text = query_text(query, "filters");
	*filters = NULL;
	return text ? query_filters_parse(text, filters, err) : 0;
}

int query_refuse(const struct query *query, const char *const *names, struct gt_error *err)
{
	for (; *names; names++) {
		if (query_bool(query, *names, false))
			return gt_fail(err, GT_UNSUPPORTED, "the query parameter %s is not supported: leave it out", *names);
	}
	return 0;
}
