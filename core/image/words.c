/*
 * words.c - see words.h. Two halves: patterns of ${v#p} and its kin, and the reader of words.
 */
#include "image/words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"

#define MAX_DEPTH 16            /* of ${a:-${b:-...}} */
#define MAX_PATTERN 256
#define MAX_WORK 20000000       /* steps of one replacement */

const char *gt_skip_space(const char *p)
{
	while (isspace((unsigned char)*p))
		p++;
	return p;
}

/* ---- patterns ---- */

struct pattern {
	size_t len;
	char kind[MAX_PATTERN];         /* '*', '?', or 0: text[i] itself */
	char text[MAX_PATTERN];
};

static int pattern_read(struct pattern *pattern, const char *text, char escape, struct gt_error *err)
{
	pattern->len = 0;
	for (const char *p = text; *p; p++) {
		if (pattern->len == MAX_PATTERN)
			return gt_fail(err, GT_TOO_LARGE, "the pattern \"%.40s...\" is longer than %d characters", text, MAX_PATTERN);
		bool literal = *p == escape && p[1];
		p += literal;
		pattern->kind[pattern->len] = !literal && (*p == '*' || *p == '?') ? *p : '\0';
		pattern->text[pattern->len++] = *p;
	}
	return 0;
}

static void pattern_reverse(struct pattern *pattern)
{
	for (size_t i = 0, j = pattern->len; i + 1 < j--; i++) {
		char kind = pattern->kind[i], text = pattern->text[i];
		pattern->kind[i] = pattern->kind[j];
		pattern->text[i] = pattern->text[j];
		pattern->kind[j] = kind;
		pattern->text[j] = text;
	}
}

/* Length of the shortest or longest beginning of text that matches, or -1. All states of the pattern are followed at once, so that no
 * pattern is slow. step: 1 forwards, -1 backwards from text + len. */
static ssize_t pattern_match(const struct pattern *pattern, const char *text, size_t len, int step, bool longest, int64_t *work)
{
	bool now[MAX_PATTERN + 1] = { true }, next[MAX_PATTERN + 1];
	ssize_t found = -1;
	for (size_t at = 0;; at++) {
		bool any = false;
		for (size_t i = 0; i < pattern->len; i++) {
			if (now[i] && pattern->kind[i] == '*')
				now[i + 1] = true;
			any |= now[i];
		}
		if (now[pattern->len]) {
			found = (ssize_t)at;
			if (!longest)
				return found;
		}
		*work -= (int64_t)pattern->len + 1;
		if (at == len || !any || *work < 0)
			return found;
		char c = step > 0 ? text[at] : text[len - 1 - at];
		memset(next, 0, sizeof next);
		for (size_t i = 0; i < pattern->len; i++) {
			if (!now[i])
				continue;
			if (pattern->kind[i] == '*')
				next[i] = true;
			else if (pattern->kind[i] == '?' || pattern->text[i] == c)
				next[i + 1] = true;
		}
		memcpy(now, next, sizeof now);
	}
}

static int trim(const char *value, const char *text, char escape, bool suffix, bool longest, struct gt_buf *out, struct gt_error *err)
{
	struct pattern pattern;
	int64_t work = MAX_WORK;
	size_t len = strlen(value);
	if (pattern_read(&pattern, text, escape, err) < 0)
		return -1;
	if (suffix)
		pattern_reverse(&pattern);
	ssize_t found = pattern_match(&pattern, value, len, suffix ? -1 : 1, longest, &work);
	if (work < 0)
		return gt_fail(err, GT_TOO_LARGE, "the pattern \"%.40s\" takes too much work on a value of %zu bytes", text, len);
	size_t cut = found > 0 ? (size_t)found : 0;
	gt_buf_add(out, value + (suffix ? 0 : cut), len - cut);
	return 0;
}

static int replace(const char *value, const char *text, const char *with, char escape, bool all, struct gt_buf *out, struct gt_error *err)
{
	struct pattern pattern;
	int64_t work = MAX_WORK;
	size_t len = strlen(value), at = 0;
	bool done = false;
	if (pattern_read(&pattern, text, escape, err) < 0)
		return -1;
	while (at < len) {
		ssize_t found = done ? -1 : pattern_match(&pattern, value + at, len - at, 1, true, &work);
		if (work < 0)
			return gt_fail(err, GT_TOO_LARGE, "the pattern \"%.40s\" takes too much work on a value of %zu bytes", text, len);
		if (found > 0) {
			gt_buf_str(out, with);
			at += (size_t)found;
			done = !all;
		} else {
			gt_buf_char(out, value[at++]);
		}
		if (out->len > GT_WORD_MAX)
			return gt_fail(err, GT_TOO_LARGE, "a value is longer than %u bytes", GT_WORD_MAX);
	}
	return 0;
}

/* ---- words ---- */

struct reader {
	const struct gt_scope *scope;
	const char *p, *begin;
	int depth;
	bool raw;               /* quotes are text: here-documents */
	bool pattern;           /* escapes stay, for the pattern's own reader */
};

static int read_until(struct reader *reader, const char *stops, bool blanks, struct gt_buf *out, struct gt_error *err);

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static size_t name_length(const char *p)
{
	size_t len = 0;
	if (strchr("@*#", *p) && *p)
		return 1; /* special parameters of a shell, never set here */
	if (isdigit((unsigned char)*p)) {
		while (isdigit((unsigned char)p[len]))
			len++;
		return len;
	}
	while (is_name(p[len]))
		len++;
	return len;
}

static int bad(const struct reader *reader, const char *why, struct gt_error *err)
{
	return gt_fail(err, GT_INVALID, "%s in \"%.100s\"", why, reader->begin);
}

/* A word inside ${...}, up to one of stops, which is passed over. */
static int nested(struct reader *reader, const char *stops, bool pattern, struct gt_buf *out, struct gt_error *err)
{
	bool outer = reader->pattern;
	if (++reader->depth > MAX_DEPTH)
		return gt_fail(err, GT_TOO_LARGE, "\"${\" is nested more than %d deep in \"%.60s...\"", MAX_DEPTH, reader->begin);
	reader->pattern = pattern;
	if (read_until(reader, stops, true, out, err) < 0)
		return -1;
	reader->pattern = outer;
	reader->depth--;
	gt_buf_add(out, "", 0);
	if (!*reader->p)
		return bad(reader, "\"${\" is not closed", err);
	reader->p++;
	return 0;
}

/* reader->p stands behind the name, on the modifier. */
static int modify(struct reader *reader, const char *name, size_t name_len, const char *value, struct gt_buf *out, struct gt_error *err)
{
	AUTO_BUF struct gt_buf word = { 0 };
	AUTO_BUF struct gt_buf with = { 0 };
	char escape = reader->scope->escape;
	bool colon = *reader->p == ':';
	reader->p += colon;
	char op = *reader->p++;
	bool twice = (op == '#' || op == '%' || op == '/') && *reader->p == op;
	reader->p += twice;
	bool set = value && (!colon || *value);
	switch (op) {
	case '-':
	case '+':
	case '?':
		if (nested(reader, "}", false, &word, err) < 0)
			return -1;
		if (op == '?' && !set)
			return gt_fail(err, GT_INVALID, "%.*s: %s", (int)name_len, name, word.len ? word.data : "parameter is not set");
		gt_buf_str(out, op == '+' ? (set ? word.data : "") : op == '-' && !set ? word.data : value);
		return 0;
	case '#':
	case '%':
		if (colon)
			break;
		if (nested(reader, "}", true, &word, err) < 0)
			return -1;
		return value ? trim(value, word.data, escape, op == '%', twice, out, err) : 0;
	case '/':
		if (colon)
			break;
		if (nested(reader, "/}", true, &word, err) < 0)
			return -1;
		if (reader->p[-1] == '/' && nested(reader, "}", false, &with, err) < 0)
			return -1;
		return value ? replace(value, word.data, with.data ? with.data : "", escape, twice, out, err) : 0;
	default:
		break;
	}
	return bad(reader, "an unknown modifier of \"${\"", err);
}

/* reader->p stands on "$". */
static int variable(struct reader *reader, struct gt_buf *out, struct gt_error *err)
{
	bool braces = reader->p[1] == '{';
	const char *name = reader->p + 1 + braces;
	size_t len = name_length(name);
	if (len == 0) {
		if (braces)
			return bad(reader, "\"${\" without a name", err);
		gt_buf_char(out, '$');
		reader->p++;
		return 0;
	}
	const char *value = reader->scope->value(reader->scope->arg, name, len);
	reader->p = name + len;
	if (braces && *reader->p == '\0')
		return bad(reader, "\"${\" is not closed", err);
	if (braces && *reader->p != '}') {
		if (modify(reader, name, len, value, out, err) < 0)
			return -1;
	} else {
		reader->p += braces;
		gt_buf_str(out, value ? value : "");
	}
	return out->len > GT_WORD_MAX ? gt_fail(err, GT_TOO_LARGE, "a value is longer than %u bytes", GT_WORD_MAX) : 0;
}

/* Up to white space (unless `blanks`), or an unquoted character of `stops`. */
static int read_until(struct reader *reader, const char *stops, bool blanks, struct gt_buf *out, struct gt_error *err)
{
	char quote = '\0', escape = reader->scope->escape;
	for (char c; (c = *reader->p) && (quote || ((blanks || !isspace((unsigned char)c)) && !strchr(stops, c)));) {
		if (c == escape && quote != '\'' && reader->p[1]) {
			/* inside double quotes only \" \$ and \\ lose their backslash; in raw text only \$ does */
			char kept = reader->p[1];
			bool special = kept == '$' || kept == escape || (kept == '"' && !reader->raw);
			if (((quote || reader->raw) && !special) || reader->pattern)
				gt_buf_char(out, escape);
			gt_buf_char(out, kept);
			reader->p += 2;
		} else if (!reader->raw && (quote ? c == quote : c == '"' || c == '\'')) {
			quote = quote ? '\0' : c;
			reader->p++;
		} else if (c == '$' && quote != '\'') {
			if (variable(reader, out, err) < 0)
				return -1;
		} else {
			gt_buf_char(out, c);
			reader->p++;
		}
	}
	return quote ? bad(reader, "a quote is not closed", err) : 0;
}

int gt_word_take(const struct gt_scope *scope, const char **p, char stop, struct gt_buf *out, struct gt_error *err)
{
	struct reader reader = { .scope = scope, .p = *p, .begin = *p };
	char stops[2] = { stop, '\0' };
	gt_buf_add(out, "", 0);
	if (read_until(&reader, stops, false, out, err) < 0)
		return -1;
	*p = reader.p;
	return 0;
}

static char *whole(const struct gt_scope *scope, const char *text, bool raw, struct gt_error *err)
{
	AUTO_BUF struct gt_buf out = { 0 };
	struct reader reader = { .scope = scope, .p = text, .begin = text, .raw = raw };
	if (read_until(&reader, "", true, &out, err) < 0)
		return NULL;
	while (!raw && out.len && isspace((unsigned char)out.data[out.len - 1]))
		out.data[--out.len] = '\0';
	return gt_buf_take(&out);
}

char *gt_words_value(const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	return whole(scope, text, false, err);
}

char *gt_words_expand(const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	return whole(scope, text, true, err);
}

int gt_words_split(const struct gt_scope *scope, const char *text, struct gt_strings *words, struct gt_error *err)
{
	while (*(text = gt_skip_space(text))) {
		AUTO_BUF struct gt_buf word = { 0 };
		if (gt_word_take(scope, &text, '\0', &word, err) < 0)
			return -1;
		gt_strings_add(words, word.data);
	}
	return 0;
}

bool gt_words_json(const char *text, struct gt_strings *list)
{
	if (text[0] != '[')
		return false;
	AUTO_JSON json_t *json = gt_json_parse(text, strlen(text), "instruction", NULL);
	if (!json_is_array(json))
		return false;
	for (size_t i = 0; i < json_array_size(json); i++) {
		if (!json_is_string(json_array_get(json, i)))
			return false;
	}
	for (size_t i = 0; i < json_array_size(json); i++)
		gt_strings_add(list, json_string_value(json_array_get(json, i)));
	list->set = true;
	return true;
}
