/*
 * dockerfile.c - lines into instructions: directives, comments, continued lines, keywords, flags, and the contents of here-documents.
 */
#include "build/dockerfile.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/buf.h"

#define MAX_FLAGS 64
#define MAX_LINE (1u << 20)     /* of one instruction, joined */
#define SHOWN_LINE 120          /* of a line in a message */

struct parser {
	struct dockerfile *file;
	size_t at;                      /* index of the next line */
	size_t room;
	bool directives[3];             /* seen: syntax, escape, check */
};

/* ---- errors ---- */

int dockerfile_blame(const struct dockerfile *file, int line, struct gt_error *err)
{
	if (!err || line < 1)
		return -1;
	const char *text = (size_t)line <= file->line_count ? file->lines[line - 1] : "";
	struct gt_error was = *err;
	gt_fail(err, was.kind, "%s:%d: %.*s\n%5d | %.*s", file->name, line, 700, was.message, line, SHOWN_LINE, text);
	err->errnum = was.errnum;
	return -1;
}

static int fail_at(struct parser *parser, size_t index, struct gt_error *err)
{
	return dockerfile_blame(parser->file, (int)index + 1, err);
}

/* ---- lines ---- */

static int split_lines(struct dockerfile *file, const char *text, size_t len, struct gt_error *err)
{
	size_t room = 0;
	if (len > DOCKERFILE_MAX)
		return gt_fail(err, GT_TOO_LARGE, "%s is larger than %u bytes", file->name, DOCKERFILE_MAX);
	if (memchr(text, '\0', len))
		return gt_fail(err, GT_INVALID, "%s: a NUL byte is in the text: it is no Dockerfile", file->name);
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	for (const char *end = text + len; text < end;) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline ? newline : end;
		if (file->line_count == room) {
			room = room ? room * 2 : 64;
			file->lines = gt_xrealloc(file->lines, room * sizeof *file->lines);
		}
		size_t size = (size_t)(stop - text);
		if (size > 0 && text[size - 1] == '\r')
			size--;
		file->lines[file->line_count++] = gt_xstrndup(text, size);
		text = newline ? newline + 1 : end;
	}
	return 0;
}

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\v' || *p == '\f' || *p == '\r')
		p++;
	return p;
}

static bool is_comment(const char *line)
{
	return *skip_blanks(line) == '#';
}

/* ---- directives ---- */

/* Frontends other than Docker's own are programs that build something else. */
static int check_syntax(const char *value, struct gt_error *err)
{
	static const char *const own[] = { "docker/dockerfile", "docker.io/docker/dockerfile", "docker/dockerfile-upstream",
					   "docker.io/docker/dockerfile-upstream" };
	size_t len = strcspn(value, ":@");
	for (size_t i = 0; i < GT_COUNT(own); i++) {
		if (strlen(own[i]) == len && strncmp(own[i], value, len) == 0)
			return 0;
	}
	return gt_fail(err, GT_UNSUPPORTED, "syntax=%.100s: only docker/dockerfile is built here", value);
}

static int take_directive(struct parser *parser, size_t which, const char *value, struct gt_error *err)
{
	static const char *const names[] = { "syntax", "escape", "check" };
	if (parser->directives[which])
		return gt_fail(err, GT_INVALID, "only one %s parser directive can be used", names[which]);
	parser->directives[which] = true;
	if (which == 0)
		return check_syntax(value, err);
	if (which == 1 && (strlen(value) != 1 || (*value != '\\' && *value != '`')))
		return gt_fail(err, GT_INVALID, "invalid escape token '%.20s' does not match ` or \\", value);
	if (which == 1)
		parser->file->escape = *value;
	if (which == 2)
		parser->file->check = gt_xstrdup(value);
	return 0;
}

/* "# name = value" before anything else; the first line that is not of this form ends them. */
static int read_directives(struct parser *parser, struct gt_error *err)
{
	static const char *const names[] = { "syntax", "escape", "check" };
	struct dockerfile *file = parser->file;
	for (size_t i = 0; i < file->line_count; i++) {
		const char *p = skip_blanks(file->lines[i]);
		if (i == 0 && strncmp(p, "#!", 2) == 0)
			continue; /* a file that executes itself */
		if (*p != '#')
			return 0;
		p = skip_blanks(p + 1);
		size_t len = 0, which = 0;
		while (isalnum((unsigned char)p[len]) || p[len] == '-' || p[len] == '_')
			len++;
		const char *equals = skip_blanks(p + len);
		while (which < GT_COUNT(names) && (strlen(names[which]) != len || strncasecmp(names[which], p, len) != 0))
			which++;
		if (*equals != '=' || which == GT_COUNT(names))
			return 0;
		AUTO_FREE char *value = gt_xstrdup(skip_blanks(equals + 1));
		for (size_t end = strlen(value); end > 0 && isspace((unsigned char)value[end - 1]);)
			value[--end] = '\0';
		if (take_directive(parser, which, value, err) < 0)
			return fail_at(parser, i, err);
	}
	return 0;
}

/* ---- one instruction ---- */

/* Where the line ends in the escape character (and blanks), which is not itself escaped: its length without it; else -1. */
static ssize_t continued(const char *line, char escape)
{
	size_t len = strlen(line);
	while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	if (len == 0 || line[len - 1] != escape || (len > 1 && line[len - 2] == escape))
		return -1;
	return (ssize_t)len - 1;
}

static void note_empty(struct dockerfile *file, int line)
{
	file->empty_lines = gt_xrealloc(file->empty_lines, (file->empty_count + 1) * sizeof *file->empty_lines);
	file->empty_lines[file->empty_count++] = line;
}

/* Joins the lines of one instruction; parser->at moves behind it. Comments between them are dropped, and empty lines with a warning. */
static int join_lines(struct parser *parser, struct gt_buf *out, struct gt_error *err)
{
	struct dockerfile *file = parser->file;
	size_t first = parser->at;
	bool warned = false;
	while (parser->at < file->line_count) {
		const char *line = file->lines[parser->at++];
		bool more = parser->at - 1 > first;
		if (more && is_comment(line))
			continue;
		if (more && *skip_blanks(line) == '\0') {
			if (!warned)
				note_empty(file, (int)parser->at);
			warned = true;
			continue;
		}
		ssize_t len = continued(line, file->escape);
		gt_buf_add(out, line, len < 0 ? strlen(line) : (size_t)len);
		if (out->len > MAX_LINE)
			return gt_fail(err, GT_TOO_LARGE, "an instruction is longer than %u bytes", MAX_LINE);
		if (len < 0)
			return 0;
	}
	return 0;
}

/* One word of "--name=value", quotes and escapes off. *p moves behind it. */
static void take_flag_word(const char **p, char escape, struct gt_buf *word)
{
	char quote = '\0';
	for (; **p && (quote || !isspace((unsigned char)**p)); (*p)++) {
		if (**p == quote)
			quote = '\0';
		else if (!quote && (**p == '"' || **p == '\''))
			quote = **p;
		else if (**p == escape && (*p)[1] && quote != '\'')
			gt_buf_char(word, *++*p);
		else
			gt_buf_char(word, **p);
	}
}

static int take_flags(const char **p, char escape, struct instruction *item, struct gt_error *err)
{
	while (strncmp(*p, "--", 2) == 0) {
		AUTO_BUF struct gt_buf word = { 0 };
		take_flag_word(p, escape, &word);
		*p = skip_blanks(*p);
		if (word.len == 2)
			return 0; /* "--" ends them */
		if (item->flag_count == MAX_FLAGS)
			return gt_fail(err, GT_TOO_LARGE, "%s has more than %d flags", keyword_name(item->keyword), MAX_FLAGS);
		item->flags = gt_xrealloc(item->flags, (item->flag_count + 1) * sizeof *item->flags);
		char *equals = strchr(word.data, '=');
		item->flags[item->flag_count++] = (struct flag){
			.name = equals ? gt_xstrndup(word.data + 2, (size_t)(equals - word.data - 2)) : gt_xstrdup(word.data + 2),
			.value = gt_xstrdup(equals ? equals + 1 : ""),
		};
	}
	return 0;
}

static int read_heredoc(struct parser *parser, struct heredoc *doc, bool chomp, struct gt_error *err)
{
	struct dockerfile *file = parser->file;
	struct gt_buf content = { 0 };
	gt_buf_add(&content, "", 0);
	while (parser->at < file->line_count) {
		const char *line = file->lines[parser->at++];
		while (chomp && *line == '\t')
			line++;
		if (strcmp(line, doc->name) == 0) {
			doc->content = gt_buf_take(&content);
			return 0;
		}
		gt_buf_str(&content, line);
		gt_buf_char(&content, '\n');
	}
	gt_buf_free(&content);
	return gt_fail(err, GT_INVALID, "unterminated heredoc: no line is \"%.60s\"", doc->name);
}

static int read_heredocs(struct parser *parser, struct instruction *item, struct gt_error *err)
{
	AUTO_FREE bool *chomp = NULL;
	bool trigger = item->keyword == KW_ONBUILD;
	if (item->keyword != KW_RUN && item->keyword != KW_COPY && item->keyword != KW_ADD && !trigger)
		return 0;
	if (heredocs_find(item->args, parser->file->escape, item, &chomp, err) < 0)
		return -1;
	if (trigger && item->heredoc_count)
		return gt_fail(err, GT_UNSUPPORTED, "ONBUILD with a here-document is not supported: an image's configuration has no place for it");
	for (size_t i = 0; i < item->heredoc_count; i++) {
		if (read_heredoc(parser, &item->heredocs[i], chomp[i], err) < 0)
			return -1;
	}
	return 0;
}

static void drop_instruction(struct instruction *item)
{
	for (size_t i = 0; i < item->flag_count; i++) {
		free(item->flags[i].name);
		free(item->flags[i].value);
	}
	for (size_t i = 0; i < item->heredoc_count; i++) {
		free(item->heredocs[i].name);
		free(item->heredocs[i].content);
	}
	free(item->flags);
	free(item->heredocs);
	free(item->args);
	free(item->shown);
}

static char *trimmed(const char *text)
{
	size_t len = strlen(text);
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	return gt_xstrndup(text, len);
}

static int parse_instruction(struct parser *parser, struct instruction *item, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (join_lines(parser, &text, err) < 0)
		return -1;
	const char *p = skip_blanks(text.data);
	size_t len = strcspn(p, " \t\v\f\r");
	if (keyword_find(p, len, &item->keyword, err) < 0)
		return -1;
	p = skip_blanks(p + len);
	AUTO_FREE char *all = trimmed(p);
	item->shown = *all ? gt_xasprintf("%s %s", keyword_name(item->keyword), all) : gt_xstrdup(keyword_name(item->keyword));
	/* the flags of HEALTHCHECK belong to its arguments, those of ONBUILD to its trigger */
	if (item->keyword != KW_HEALTHCHECK && item->keyword != KW_ONBUILD && take_flags(&p, parser->file->escape, item, err) < 0)
		return -1;
	item->args = trimmed(p);
	if (read_heredocs(parser, item, err) < 0)
		return -1;
	item->last_line = (int)parser->at;
	return instruction_check(item, err);
}

static int add_instruction(struct parser *parser, struct gt_error *err)
{
	struct dockerfile *file = parser->file;
	struct instruction item = { .line = (int)parser->at + 1 };
	size_t first = parser->at;
	if (file->count == DOCKERFILE_MAX_INSTRUCTIONS)
		return gt_fail(err, GT_TOO_LARGE, "%s has more than %d instructions", file->name, DOCKERFILE_MAX_INSTRUCTIONS);
	if (parse_instruction(parser, &item, err) < 0) {
		drop_instruction(&item);
		return fail_at(parser, first, err);
	}
	if (file->count == parser->room) {
		parser->room = parser->room ? parser->room * 2 : 32;
		file->items = gt_xrealloc(file->items, parser->room * sizeof *file->items);
	}
	file->items[file->count++] = item;
	return 0;
}

/* ---- the whole ---- */

/* FROM begins a stage; only ARG may stand before the first one. */
static int check_order(const struct dockerfile *file, struct gt_error *err)
{
	for (size_t i = 0; i < file->count; i++) {
		if (file->items[i].keyword == KW_FROM)
			return 0;
		if (file->items[i].keyword == KW_ARG)
			continue;
		gt_fail(err, GT_INVALID, "no build stage in current context: the first instruction must be FROM or ARG, not %s",
			keyword_name(file->items[i].keyword));
		return dockerfile_blame(file, file->items[i].line, err);
	}
	if (file->count == 0)
		return gt_fail(err, GT_INVALID, "%s: file with no instructions", file->name);
	return gt_fail(err, GT_INVALID, "%s: no FROM: there is nothing to build", file->name);
}

static int parse(struct parser *parser, struct gt_error *err)
{
	struct dockerfile *file = parser->file;
	while (parser->at < file->line_count) {
		const char *line = file->lines[parser->at];
		if (is_comment(line) || *skip_blanks(line) == '\0')
			parser->at++;
		else if (add_instruction(parser, err) < 0)
			return -1;
	}
	return 0;
}

int dockerfile_parse(const char *name, const char *text, size_t len, struct dockerfile *file, struct gt_error *err)
{
	*file = (struct dockerfile){ .name = gt_xstrdup(name), .escape = '\\' };
	struct parser parser = { .file = file };
	if (split_lines(file, text, len, err) == 0 && read_directives(&parser, err) == 0 && parse(&parser, err) == 0 &&
	    check_order(file, err) == 0)
		return 0;
	dockerfile_free(file);
	return -1;
}

int dockerfile_parse_trigger(const char *text, char escape, struct dockerfile *file, struct gt_error *err)
{
	*file = (struct dockerfile){ .name = gt_xstrdup("ONBUILD"), .escape = escape };
	struct parser parser = { .file = file };
	if (split_lines(file, text, strlen(text), err) == 0 && parse(&parser, err) == 0) {
		if (file->count == 1)
			return 0;
		gt_fail(err, GT_INVALID, "ONBUILD: \"%.100s\" is not one instruction", text);
	}
	dockerfile_free(file);
	return -1;
}

void dockerfile_free(struct dockerfile *file)
{
	for (size_t i = 0; i < file->count; i++)
		drop_instruction(&file->items[i]);
	for (size_t i = 0; i < file->line_count; i++)
		free(file->lines[i]);
	free(file->items);
	free(file->lines);
	free(file->name);
	free(file->check);
	free(file->empty_lines);
	gt_strings_free(&file->warnings);
	*file = (struct dockerfile){ 0 };
}
