#include "template.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "template_tree.h"

enum { MAX_DEPTH = 64 };

struct parser {
	const char *text;
	const char *p;                  /* where we are */
	int depth;
	struct gt_error *err;
};

int template_fail(struct gt_error *err, size_t at, const char *fmt, ...)
{
	char what[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	return gt_fail(err, GT_INVALID, "template error at column %zu: %s", at + 1, what);
}

static size_t at(const struct parser *parser)
{
	return (size_t)(parser->p - parser->text);
}

/* ---- freeing ---- */

static void pipeline_free(struct pipeline *pipeline);

static void term_free(struct term *term)
{
	free(term->name);
	json_decref(term->literal);
	pipeline_free(term->pipeline);
	gt_strings_free(&term->fields);
}

static void pipeline_free(struct pipeline *pipeline)
{
	if (!pipeline)
		return;
	for (size_t i = 0; i < pipeline->count; i++) {
		for (size_t j = 0; j < pipeline->calls[i].count; j++)
			term_free(&pipeline->calls[i].terms[j]);
		free(pipeline->calls[i].terms);
	}
	free(pipeline->calls);
	free(pipeline->declare[0]);
	free(pipeline->declare[1]);
	free(pipeline);
}

static void nodes_free(struct nodes *nodes)
{
	for (size_t i = 0; i < nodes->count; i++) {
		free(nodes->items[i].text);
		pipeline_free(nodes->items[i].pipeline);
		nodes_free(&nodes->items[i].body);
		nodes_free(&nodes->items[i].otherwise);
	}
	free(nodes->items);
	*nodes = (struct nodes){ 0 };
}

void template_free(struct template *template)
{
	if (!template)
		return;
	nodes_free(&template->nodes);
	free(template);
}

/* ---- terms and pipelines ---- */

static bool word_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static void skip_space(struct parser *parser)
{
	while (isspace((unsigned char)*parser->p))
		parser->p++;
}

static char *read_word(struct parser *parser)
{
	const char *from = parser->p;
	while (word_char(*parser->p))
		parser->p++;
	return gt_xstrndup(from, (size_t)(parser->p - from));
}

static bool closes(const struct parser *parser)
{
	const char *p = parser->p;
	if (*p == '-' && p[1] == '}' && p[2] == '}')
		return true;
	return p[0] == '}' && p[1] == '}';
}

static int read_escape(struct parser *parser, struct gt_buf *out)
{
	static const char names[] = "abfnrtv\\\"'", bytes[] = "\a\b\f\n\r\t\v\\\"'";
	const char *at_name = *parser->p ? strchr(names, *parser->p) : NULL;
	if (!at_name)
		return template_fail(parser->err, at(parser), "unknown escape \\%c in a string", *parser->p);
	gt_buf_char(out, bytes[at_name - names]);
	parser->p++;
	return 0;
}

static int read_string(struct parser *parser, struct term *term)
{
	AUTO_BUF struct gt_buf out = { 0 };
	char quote = *parser->p++;
	while (*parser->p != quote) {
		if (*parser->p == '\0' || (*parser->p == '\n' && quote == '"'))
			return template_fail(parser->err, term->at, "unterminated string");
		if (*parser->p == '\\' && quote == '"') {
			parser->p++;
			if (read_escape(parser, &out) < 0)
				return -1;
		} else {
			gt_buf_char(&out, *parser->p++);
		}
	}
	parser->p++;
	term->literal = json_stringn(out.data ? out.data : "", out.len);
	if (!term->literal)
		return template_fail(parser->err, term->at, "the string is not UTF-8");
	return 0;
}

static int read_number(struct parser *parser, struct term *term)
{
	char *end;
	long long whole = strtoll(parser->p, &end, 0);
	if (*end == '.' || *end == 'e' || *end == 'E')
		term->literal = json_real(strtod(parser->p, &end));
	else
		term->literal = json_integer(whole);
	if (end == parser->p || word_char(*end))
		return template_fail(parser->err, term->at, "bad number");
	parser->p = end;
	return 0;
}

static struct pipeline *parse_pipeline(struct parser *parser, bool in_parens);

static int read_fields(struct parser *parser, struct term *term)
{
	while (*parser->p == '.') {
		parser->p++;
		if (!word_char(*parser->p))
			return template_fail(parser->err, at(parser), "a field's name must follow '.'");
		AUTO_FREE char *name = read_word(parser);
		gt_strings_add(&term->fields, name);
	}
	return 0;
}

static int read_word_term(struct parser *parser, struct term *term)
{
	term->kind = TERM_LITERAL;
	AUTO_FREE char *word = read_word(parser);
	if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
		term->literal = json_boolean(*word == 't');
	} else if (strcmp(word, "nil") == 0) {
		term->literal = json_null();
	} else if (function_known(word)) {
		term->kind = TERM_FUNCTION;
		term->name = take(word);
	} else {
		return template_fail(parser->err, term->at, "function \"%.100s\" not defined", word);
	}
	return 0;
}

static int parse_term(struct parser *parser, struct term *term)
{
	*term = (struct term){ .at = at(parser), .kind = TERM_LITERAL };
	char c = *parser->p;
	if (c == '"' || c == '`')
		return read_string(parser, term);
	if (isdigit((unsigned char)c) || ((c == '-' || c == '+') && isdigit((unsigned char)parser->p[1])))
		return read_number(parser, term);
	if (c == '.') {
		term->kind = TERM_DOT;
		if (word_char(parser->p[1]))
			return read_fields(parser, term);
		parser->p++;
		return 0;
	}
	if (c == '$') {
		parser->p++;
		term->kind = TERM_VARIABLE;
		term->name = read_word(parser);
		return read_fields(parser, term);
	}
	if (c == '(') {
		parser->p++;
		term->kind = TERM_PIPELINE;
		term->pipeline = parse_pipeline(parser, true);
		if (!term->pipeline)
			return -1;
		return read_fields(parser, term);
	}
	if (word_char(c))
		return read_word_term(parser, term);
	if (c == '\0')
		return template_fail(parser->err, at(parser), "unclosed action: \"}}\" is missing");
	return template_fail(parser->err, at(parser), "unexpected '%c'", c);
}

static int parse_call(struct parser *parser, struct call *call, bool in_parens)
{
	for (;;) {
		skip_space(parser);
		if (closes(parser) || *parser->p == '|' || (in_parens && *parser->p == ')'))
			break;
		call->terms = gt_xrealloc(call->terms, (call->count + 1) * sizeof *call->terms);
		if (parse_term(parser, &call->terms[call->count++]) < 0)
			return -1;
		if (!isspace((unsigned char)*parser->p) && !closes(parser) && !strchr("|)", *parser->p))
			return template_fail(parser->err, at(parser), *parser->p ? "unexpected '%c'" : "unclosed action",
					     *parser->p);
	}
	if (call->count == 0)
		return template_fail(parser->err, at(parser), "a value is missing");
	return 0;
}

/* "$x :=", "$k, $v :=", "$x =" at the beginning of a pipeline. */
static int parse_declaration(struct parser *parser, struct pipeline *pipeline)
{
	const char *back = parser->p;
	int count = 0;
	char *names[2] = { NULL, NULL };
	while (*parser->p == '$' && count < 2) {
		parser->p++;
		names[count++] = read_word(parser);
		skip_space(parser);
		if (*parser->p != ',')
			break;
		parser->p++;
		skip_space(parser);
	}
	bool declared = count > 0 && strncmp(parser->p, ":=", 2) == 0;
	bool assigned = count == 1 && *parser->p == '=';
	if (!declared && !assigned) {
		free(names[0]);
		free(names[1]);
		parser->p = back;
		return 0;
	}
	parser->p += declared ? 2 : 1;
	pipeline->assign = assigned;
	pipeline->declare[0] = names[0];
	pipeline->declare[1] = names[1];
	return 0;
}

static struct pipeline *parse_pipeline(struct parser *parser, bool in_parens)
{
	struct pipeline *pipeline = gt_xcalloc(1, sizeof *pipeline);
	pipeline->at = at(parser);
	if (++parser->depth > MAX_DEPTH) {
		template_fail(parser->err, at(parser), "nested deeper than %d levels", MAX_DEPTH);
		goto bad;
	}
	skip_space(parser);
	if (!in_parens)
		parse_declaration(parser, pipeline);
	for (;;) {
		pipeline->calls = gt_xrealloc(pipeline->calls, (pipeline->count + 1) * sizeof *pipeline->calls);
		struct call *call = &pipeline->calls[pipeline->count++];
		*call = (struct call){ 0 };
		if (parse_call(parser, call, in_parens) < 0)
			goto bad;
		if (*parser->p != '|')
			break;
		parser->p++;
	}
	if (in_parens) {
		if (*parser->p != ')') {
			template_fail(parser->err, at(parser), "')' is missing");
			goto bad;
		}
		parser->p++;
	}
	parser->depth--;
	return pipeline;
bad:
	pipeline_free(pipeline);
	return NULL;
}

/* ---- nodes ---- */

static struct node *add_node(struct nodes *nodes, enum node_kind kind)
{
	nodes->items = gt_xrealloc(nodes->items, (nodes->count + 1) * sizeof *nodes->items);
	struct node *node = &nodes->items[nodes->count++];
	*node = (struct node){ .kind = kind };
	return node;
}

/* Text up to the next action; trims where the action before or after asks for it. */
static void parse_text(struct parser *parser, struct nodes *nodes, bool trim_left)
{
	const char *from = parser->p;
	const char *end = strstr(from, "{{");
	if (!end)
		end = from + strlen(from);
	parser->p = end;
	if (trim_left) {
		while (from < end && isspace((unsigned char)*from))
			from++;
	}
	if (strncmp(end, "{{-", 3) == 0 && isspace((unsigned char)end[3])) {
		while (end > from && isspace((unsigned char)end[-1]))
			end--;
	}
	if (end > from) {
		struct node *node = add_node(nodes, NODE_TEXT);
		node->text = gt_xstrndup(from, (size_t)(end - from));
		node->len = (size_t)(end - from);
	}
}

static int end_action(struct parser *parser, bool *trim)
{
	skip_space(parser);
	*trim = *parser->p == '-';
	if (*trim)
		parser->p++;
	if (strncmp(parser->p, "}}", 2) != 0)
		return template_fail(parser->err, at(parser), *parser->p ? "unexpected '%c' in an action" : "unclosed action",
				     *parser->p);
	parser->p += 2;
	return 0;
}

static bool keyword(struct parser *parser, const char *word)
{
	size_t len = strlen(word);
	if (strncmp(parser->p, word, len) != 0 || word_char(parser->p[len]))
		return false;
	parser->p += len;
	return true;
}

static int skip_comment(struct parser *parser)
{
	const char *end = strstr(parser->p, "*/");
	if (!end)
		return template_fail(parser->err, at(parser), "unclosed comment");
	parser->p = end + 2;
	return 0;
}

enum stop { STOP_END_OF_TEXT, STOP_END, STOP_ELSE };

static int parse_nodes(struct parser *parser, struct nodes *nodes, bool *trim, enum stop *stop);

static int parse_block(struct parser *parser, struct nodes *nodes, enum node_kind kind, bool *trim)
{
	size_t began = at(parser);
	/* Nodes move while the list grows: fill a local one, then store it. */
	struct node node = { .kind = kind };
	enum stop stop = STOP_END_OF_TEXT;
	int done = -1;
	node.pipeline = parse_pipeline(parser, false);
	if (node.pipeline && end_action(parser, trim) == 0)
		done = parse_nodes(parser, &node.body, trim, &stop);
	if (done == 0 && stop == STOP_ELSE) {
		skip_space(parser);
		if (kind != NODE_RANGE && keyword(parser, kind == NODE_IF ? "if" : "with")) {
			done = parse_block(parser, &node.otherwise, kind, trim);
			stop = STOP_END;
		} else {
			done = end_action(parser, trim);
			if (done == 0)
				done = parse_nodes(parser, &node.otherwise, trim, &stop);
		}
	}
	*add_node(nodes, kind) = node;
	if (done == 0 && stop == STOP_END_OF_TEXT)
		return template_fail(parser->err, began, "{{end}} is missing");
	if (done == 0 && stop == STOP_ELSE)
		return template_fail(parser->err, at(parser), "unexpected {{else}}");
	return done;
}

static int parse_action(struct parser *parser, struct nodes *nodes, bool *trim, enum stop *stop)
{
	static const char *const refused[] = { "define", "template", "block", "break", "continue" };
	if (keyword(parser, "if"))
		return parse_block(parser, nodes, NODE_IF, trim);
	if (keyword(parser, "range"))
		return parse_block(parser, nodes, NODE_RANGE, trim);
	if (keyword(parser, "with"))
		return parse_block(parser, nodes, NODE_WITH, trim);
	if (keyword(parser, "else")) {
		*stop = STOP_ELSE;
		return 0;
	}
	if (keyword(parser, "end")) {
		*stop = STOP_END;
		return end_action(parser, trim);
	}
	for (size_t i = 0; i < GT_COUNT(refused); i++) {
		if (keyword(parser, refused[i]))
			return template_fail(parser->err, at(parser), "{{%s}} is not supported", refused[i]);
	}
	struct pipeline *pipeline = parse_pipeline(parser, false);
	if (!pipeline)
		return -1;
	add_node(nodes, NODE_ACTION)->pipeline = pipeline;
	return end_action(parser, trim);
}

static int parse_nodes(struct parser *parser, struct nodes *nodes, bool *trim, enum stop *stop)
{
	*stop = STOP_END_OF_TEXT;
	if (++parser->depth > MAX_DEPTH)
		return template_fail(parser->err, at(parser), "nested deeper than %d levels", MAX_DEPTH);
	for (;;) {
		parse_text(parser, nodes, *trim);
		*trim = false;
		if (*parser->p == '\0')
			break;
		parser->p += 2;
		if (*parser->p == '-' && isspace((unsigned char)parser->p[1]))
			parser->p++;
		skip_space(parser);
		if (strncmp(parser->p, "/*", 2) == 0) {
			if (skip_comment(parser) < 0 || end_action(parser, trim) < 0)
				return -1;
			continue;
		}
		if (parse_action(parser, nodes, trim, stop) < 0)
			return -1;
		if (*stop != STOP_END_OF_TEXT)
			break;
	}
	parser->depth--;
	return 0;
}

struct template *template_parse(const char *text, struct gt_error *err)
{
	struct parser parser = { .text = text, .p = text, .err = err };
	struct template *template = gt_xcalloc(1, sizeof *template);
	bool trim = false;
	enum stop stop;
	if (parse_nodes(&parser, &template->nodes, &trim, &stop) == 0) {
		if (stop == STOP_END_OF_TEXT)
			return template;
		template_fail(err, at(&parser), "unexpected {{%s}}", stop == STOP_END ? "end" : "else");
	}
	template_free(template);
	return NULL;
}
