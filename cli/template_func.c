/*
 * template_func.c - the functions of templates, and how values print (as Go prints them).
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "template_tree.h"

/* ---- printing ---- */

static void print_real(double number, struct gt_buf *out)
{
	char text[40];
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, number);
		if (strtod(text, NULL) == number)
			break;
	}
	gt_buf_str(out, text);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_json(const json_t *json, struct gt_buf *out);

static void print_object(const json_t *object, struct gt_buf *out)
{
	size_t count = json_object_size(object), i = 0;
	const char **keys = gt_xcalloc(count + 1, sizeof *keys);
	const char *key;
	json_t *item;
	json_object_foreach((json_t *)(uintptr_t)object, key, item)
	{
		keys[i++] = key;
	}
	qsort(keys, count, sizeof *keys, by_name);
	gt_buf_str(out, "map[");
	for (i = 0; i < count; i++) {
		gt_buf_printf(out, "%s%s:", i ? " " : "", keys[i]);
		print_json(json_object_get(object, keys[i]), out);
	}
	gt_buf_char(out, ']');
	free(keys);
}

static void print_json(const json_t *json, struct gt_buf *out)
{
	switch (json ? json_typeof(json) : JSON_NULL) {
	case JSON_STRING:
		gt_buf_add(out, json_string_value(json), json_string_length(json));
		break;
	case JSON_INTEGER:
		gt_buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
		break;
	case JSON_REAL:
		print_real(json_real_value(json), out);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		gt_buf_str(out, json_is_true(json) ? "true" : "false");
		break;
	case JSON_NULL:
		gt_buf_str(out, "<nil>");
		break;
	case JSON_ARRAY:
		gt_buf_char(out, '[');
		for (size_t i = 0; i < json_array_size(json); i++) {
			if (i)
				gt_buf_char(out, ' ');
			print_json(json_array_get(json, i), out);
		}
		gt_buf_char(out, ']');
		break;
	case JSON_OBJECT:
		print_object(json, out);
		break;
	}
}

void value_print(const struct value *value, struct gt_buf *out)
{
	if (value->row) {
		AUTO_JSON json_t *all = value->row->whole(value->row->row);
		print_json(all, out);
	} else if (!value->json || json_is_null(value->json)) {
		gt_buf_str(out, value->null_kind == 'a' ? "[]" : value->null_kind == 'm' ? "map[]" :
				value->null_kind == 'p' ? "<nil>" : "<no value>");
	} else {
		print_json(value->json, out);
	}
}

bool value_true(const struct value *value)
{
	const json_t *json = value->json;
	if (value->row)
		return true;
	switch (json ? json_typeof(json) : JSON_NULL) {
	case JSON_STRING: return json_string_length(json) > 0;
	case JSON_INTEGER: return json_integer_value(json) != 0;
	case JSON_REAL: return json_real_value(json) != 0;
	case JSON_ARRAY: return json_array_size(json) > 0;
	case JSON_OBJECT: return json_object_size(json) > 0;
	case JSON_TRUE: return true;
	default: return false;
	}
}

/* ---- the functions ---- */

struct context {
	const char *name;
	size_t at;
	struct value *args;
	size_t count;
	struct value *result;
	struct gt_error *err;
};

static int give_text(struct context *ctx, const char *text, size_t len)
{
	ctx->result->json = json_stringn_nocheck(text ? text : "", len);
	return 0;
}

static int give_buf(struct context *ctx, const struct gt_buf *buf)
{
	return give_text(ctx, buf->data, buf->len);
}

static int give_bool(struct context *ctx, bool yes)
{
	ctx->result->json = json_boolean(yes);
	return 0;
}

static int need_text(struct context *ctx, size_t i, const char **text)
{
	if (!json_is_string(ctx->args[i].json))
		return template_fail(ctx->err, ctx->at, "%s: argument %zu must be a string", ctx->name, i + 1);
	*text = json_string_value(ctx->args[i].json);
	return 0;
}

static int need_int(struct context *ctx, size_t i, long *number)
{
	if (!json_is_integer(ctx->args[i].json))
		return template_fail(ctx->err, ctx->at, "%s: argument %zu must be a whole number", ctx->name, i + 1);
	*number = (long)json_integer_value(ctx->args[i].json);
	return 0;
}

static int do_not(struct context *ctx)
{
	return give_bool(ctx, !value_true(&ctx->args[0]));
}

/* -1, 0, 1; -2 where the two cannot be compared. */
static int compare(const json_t *a, const json_t *b)
{
	if (json_is_string(a) && json_is_string(b)) {
		int order = strcmp(json_string_value(a), json_string_value(b));
		return (order > 0) - (order < 0);
	}
	if (json_is_number(a) && json_is_number(b)) {
		double x = json_number_value(a), y = json_number_value(b);
		return (x > y) - (x < y);
	}
	if (json_is_boolean(a) && json_is_boolean(b))
		return json_is_true(a) - json_is_true(b);
	if ((!a || json_is_null(a)) && (!b || json_is_null(b)))
		return 0;
	return -2;
}

static int do_eq(struct context *ctx)
{
	for (size_t i = 1; i < ctx->count; i++) {
		if (compare(ctx->args[0].json, ctx->args[i].json) == 0)
			return give_bool(ctx, true);
	}
	return give_bool(ctx, false);
}

static int do_order(struct context *ctx)
{
	int order = compare(ctx->args[0].json, ctx->args[1].json);
	const char *name = ctx->name;
	if (strcmp(name, "ne") == 0)
		return give_bool(ctx, order != 0);
	if (order == -2)
		return template_fail(ctx->err, ctx->at, "%s: the two values are of different types", name);
	if (strcmp(name, "lt") == 0)
		return give_bool(ctx, order < 0);
	if (strcmp(name, "le") == 0)
		return give_bool(ctx, order <= 0);
	return give_bool(ctx, strcmp(name, "gt") == 0 ? order > 0 : order >= 0);
}

static int do_len(struct context *ctx)
{
	const json_t *of = ctx->args[0].json;
	size_t len = 0;
	if (json_is_string(of))
		len = json_string_length(of);
	else if (json_is_array(of))
		len = json_array_size(of);
	else if (json_is_object(of))
		len = json_object_size(of);
	else if (of && !json_is_null(of))
		return template_fail(ctx->err, ctx->at, "len: this value has no length");
	ctx->result->json = json_integer((json_int_t)len);
	return 0;
}

static int do_index(struct context *ctx)
{
	json_t *from = ctx->args[0].json;
	for (size_t i = 1; i < ctx->count; i++) {
		const json_t *key = ctx->args[i].json;
		if (json_is_object(from) && json_is_string(key)) {
			from = json_object_get(from, json_string_value(key));
		} else if (json_is_array(from) && json_is_integer(key)) {
			json_int_t at = json_integer_value(key);
			if (at < 0 || (size_t)at >= json_array_size(from))
				return template_fail(ctx->err, ctx->at,
						     "index: %" JSON_INTEGER_FORMAT " is out of range", at);
			from = json_array_get(from, (size_t)at);
		} else if (!from || json_is_null(from)) {
			return template_fail(ctx->err, ctx->at, "index: there is nothing to index (nil)");
		} else {
			return template_fail(ctx->err, ctx->at, "index: a list takes a number, an object a string");
		}
	}
	ctx->result->json = json_incref(from);
	return 0;
}

static int do_slice(struct context *ctx)
{
	const json_t *of = ctx->args[0].json;
	size_t size = json_is_string(of) ? json_string_length(of) : json_array_size(of);
	long from = 0, to = (long)size;
	if (!json_is_string(of) && !json_is_array(of))
		return template_fail(ctx->err, ctx->at, "slice: only strings and lists can be cut");
	if ((ctx->count > 1 && need_int(ctx, 1, &from) < 0) || (ctx->count > 2 && need_int(ctx, 2, &to) < 0))
		return -1;
	if (from < 0 || to < from || (size_t)to > size)
		return template_fail(ctx->err, ctx->at, "slice: %ld to %ld is out of range", from, to);
	if (json_is_string(of))
		return give_text(ctx, json_string_value(of) + from, (size_t)(to - from));
	ctx->result->json = json_array();
	for (long i = from; i < to; i++)
		json_array_append(ctx->result->json, json_array_get(of, (size_t)i));
	return 0;
}

/* print puts spaces between operands where neither is a string; println between all. */
static int do_print(struct context *ctx)
{
	AUTO_BUF struct gt_buf out = { 0 };
	bool line = strcmp(ctx->name, "println") == 0;
	for (size_t i = 0; i < ctx->count; i++) {
		if (i && (line || (!json_is_string(ctx->args[i].json) && !json_is_string(ctx->args[i - 1].json))))
			gt_buf_char(&out, ' ');
		value_print(&ctx->args[i], &out);
	}
	if (line)
		gt_buf_char(&out, '\n');
	return give_buf(ctx, &out);
}

static void print_padded(struct gt_buf *out, const char *text, size_t len, long width, bool left)
{
	size_t fill = width > 0 && (size_t)width > len ? (size_t)width - len : 0;
	for (size_t i = 0; !left && i < fill; i++)
		gt_buf_char(out, ' ');
	gt_buf_add(out, text, len);
	for (size_t i = 0; left && i < fill; i++)
		gt_buf_char(out, ' ');
}

struct verb {
	bool left, zero;
	long width, precision;          /* precision -1: none */
	char letter;
};

static const char *read_verb(const char *p, struct verb *verb)
{
	*verb = (struct verb){ .precision = -1 };
	for (; *p == '-' || *p == '0' || *p == '+' || *p == ' ' || *p == '#'; p++) {
		verb->left |= *p == '-';
		verb->zero |= *p == '0';
	}
	for (; isdigit((unsigned char)*p); p++)
		verb->width = verb->width < 10000 ? verb->width * 10 + (*p - '0') : verb->width;
	if (*p == '.') {
		verb->precision = 0;
		for (p++; isdigit((unsigned char)*p); p++)
			verb->precision = verb->precision < 100 ? verb->precision * 10 + (*p - '0') : verb->precision;
	}
	verb->letter = *p;
	return *p ? p + 1 : p;
}

static void print_number(const struct verb *verb, const json_t *json, struct gt_buf *out)
{
	char text[512];
	int width = verb->zero && verb->width < 300 ? (int)verb->width : 0;
	int precision = verb->precision < 0 ? 6 : verb->precision > 100 ? 100 : (int)verb->precision;
	switch (verb->letter) {
	case 'd':
		snprintf(text, sizeof text, "%0*lld", width, (long long)json_integer_value(json));
		break;
	case 'x':
		snprintf(text, sizeof text, "%0*llx", width, (long long)json_integer_value(json));
		break;
	case 'g':
		snprintf(text, sizeof text, "%.*g", precision, json_number_value(json));
		break;
	default:
		snprintf(text, sizeof text, "%0*.*f", width, precision, json_number_value(json));
		break;
	}
	print_padded(out, text, strlen(text), verb->width, verb->left);
}

static int print_verb(struct context *ctx, const struct verb *verb, const struct value *value, struct gt_buf *out)
{
	AUTO_BUF struct gt_buf text = { 0 };
	switch (verb->letter) {
	case 'd':
	case 'x':
	case 'f':
	case 'g':
		if (json_is_number(value->json)) {
			print_number(verb, value->json, out);
			return 0;
		}
		return template_fail(ctx->err, ctx->at, "printf: %%%c needs a number", verb->letter);
	case 'q': {
		AUTO_FREE char *quoted = json_dumps(value->json, JSON_ENCODE_ANY | JSON_COMPACT);
		gt_buf_str(&text, quoted ? quoted : "\"\"");
		break;
	}
	case 's':
	case 'v':
	case 't':
		value_print(value, &text);
		break;
	default:
		return template_fail(ctx->err, ctx->at, "printf: %%%c is not supported", verb->letter);
	}
	size_t len = text.len;
	if (verb->precision >= 0 && (size_t)verb->precision < len)
		len = (size_t)verb->precision;
	print_padded(out, text.data ? text.data : "", len, verb->width, verb->left);
	return 0;
}

static int do_printf(struct context *ctx)
{
	const char *p = "";
	AUTO_BUF struct gt_buf out = { 0 };
	size_t next = 1;
	if (need_text(ctx, 0, &p) < 0)
		return -1;
	while (*p) {
		if (*p != '%') {
			gt_buf_char(&out, *p++);
			continue;
		}
		struct verb verb;
		p = read_verb(p + 1, &verb);
		if (verb.letter == '%') {
			gt_buf_char(&out, '%');
			continue;
		}
		if (next >= ctx->count || !verb.letter)
			return template_fail(ctx->err, ctx->at, "printf: there are fewer values than %% verbs");
		if (print_verb(ctx, &verb, &ctx->args[next++], &out) < 0)
			return -1;
	}
	if (next < ctx->count)
		return template_fail(ctx->err, ctx->at, "printf: there are more values than %% verbs");
	return give_buf(ctx, &out);
}

/* Rows escape <, > and & as Go's encoder does for whole objects. */
static int do_json(struct context *ctx)
{
	const struct value *value = &ctx->args[0];
	AUTO_JSON json_t *row = value->row ? value->row->whole(value->row->row) : NULL;
	AUTO_FREE char *text =
		json_dumps(row ? row : value->json, JSON_ENCODE_ANY | JSON_COMPACT | (row ? JSON_SORT_KEYS : 0));
	if (!row || !text)
		return give_text(ctx, text ? text : "null", text ? strlen(text) : 4);
	AUTO_BUF struct gt_buf out = { 0 };
	for (const char *p = text; *p; p++) {
		if (*p == '<' || *p == '>' || *p == '&')
			gt_buf_printf(&out, "\\u%04x", (unsigned)*p);
		else
			gt_buf_char(&out, *p);
	}
	return give_buf(ctx, &out);
}

static int do_join(struct context *ctx)
{
	const char *separator = "";
	const json_t *list = ctx->args[0].json;
	AUTO_BUF struct gt_buf out = { 0 };
	if (need_text(ctx, 1, &separator) < 0)
		return -1;
	if (list && !json_is_null(list) && !json_is_array(list))
		return template_fail(ctx->err, ctx->at, "join: the first argument must be a list");
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (i)
			gt_buf_str(&out, separator);
		print_json(json_array_get(list, i), &out);
	}
	return give_buf(ctx, &out);
}

static int do_split(struct context *ctx)
{
	const char *text = "", *separator = "";
	if (need_text(ctx, 0, &text) < 0 || need_text(ctx, 1, &separator) < 0)
		return -1;
	if (!*separator)
		return template_fail(ctx->err, ctx->at, "split: the separator is empty");
	json_t *list = ctx->result->json = json_array();
	for (;;) {
		const char *end = strstr(text, separator);
		json_array_append_new(list, json_stringn_nocheck(text, end ? (size_t)(end - text) : strlen(text)));
		if (!end)
			return 0;
		text = end + strlen(separator);
	}
}

static int do_case(struct context *ctx)
{
	const char *text = "";
	if (need_text(ctx, 0, &text) < 0)
		return -1;
	AUTO_FREE char *copy = gt_xstrdup(text);
	bool start = true;
	for (char *p = copy; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (strcmp(ctx->name, "upper") == 0 || (strcmp(ctx->name, "title") == 0 && start))
			*p = (char)toupper(c);
		else if (strcmp(ctx->name, "lower") == 0)
			*p = (char)tolower(c);
		start = !isalnum(c);
	}
	return give_text(ctx, copy, strlen(copy));
}

static int do_truncate(struct context *ctx)
{
	const char *text = "";
	long length = 0;
	if (need_text(ctx, 0, &text) < 0 || need_int(ctx, 1, &length) < 0)
		return -1;
	size_t len = strlen(text);
	if (length >= 0 && (size_t)length < len)
		len = (size_t)length;
	while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
		len--;
	return give_text(ctx, text, len);
}

static int do_pad(struct context *ctx)
{
	const char *text = "";
	long before = 0, after = 0;
	AUTO_BUF struct gt_buf out = { 0 };
	if (need_text(ctx, 0, &text) < 0 || need_int(ctx, 1, &before) < 0 || need_int(ctx, 2, &after) < 0)
		return -1;
	if (before < 0 || after < 0 || before > 10000 || after > 10000)
		return template_fail(ctx->err, ctx->at, "pad: the widths must be between 0 and 10000");
	if (*text == '\0')
		return give_text(ctx, "", 0);
	print_padded(&out, "", 0, before, true);
	gt_buf_str(&out, text);
	print_padded(&out, "", 0, after, true);
	return give_buf(ctx, &out);
}

static const struct {
	const char *name;
	size_t min, max;
	int (*run)(struct context *ctx);
} functions[] = {
	{ "and", 1, 99, NULL },		{ "or", 1, 99, NULL },
	{ "not", 1, 1, do_not },	{ "eq", 2, 99, do_eq },
	{ "ne", 2, 2, do_order },	{ "lt", 2, 2, do_order },
	{ "le", 2, 2, do_order },	{ "gt", 2, 2, do_order },
	{ "ge", 2, 2, do_order },	{ "len", 1, 1, do_len },
	{ "index", 1, 99, do_index },	{ "slice", 1, 3, do_slice },
	{ "print", 0, 99, do_print },	{ "println", 0, 99, do_print },
	{ "printf", 1, 99, do_printf }, { "json", 1, 1, do_json },
	{ "join", 2, 2, do_join },	{ "split", 2, 2, do_split },
	{ "upper", 1, 1, do_case },	{ "lower", 1, 1, do_case },
	{ "title", 1, 1, do_case },	{ "truncate", 2, 2, do_truncate },
	{ "pad", 3, 3, do_pad },
};

bool function_known(const char *name)
{
	for (size_t i = 0; i < GT_COUNT(functions); i++) {
		if (strcmp(functions[i].name, name) == 0)
			return true;
	}
	return false;
}

int function_call(const char *name, size_t at, struct value *args, size_t count, bool headers, struct value *result,
		  struct gt_error *err)
{
	size_t i = 0;
	while (strcmp(functions[i].name, name) != 0)
		i++;
	if (count < functions[i].min || count > functions[i].max || !functions[i].run)
		return template_fail(err, at, "%s: wrong number of arguments (%zu)", name, count);
	*result = (struct value){ 0 };
	if (headers && count > 0 && strcmp(name, "eq") != 0 && strcmp(name, "ne") != 0 && strcmp(name, "not") != 0) {
		*result = args[0];
		json_incref(result->json);
		return 0;
	}
	struct context ctx = { name, at, args, count, result, err };
	return functions[i].run(&ctx);
}
