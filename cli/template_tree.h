/*
 * template_tree.h - a parsed template, between the parser (template.c) and the evaluator (template_eval.c).
 */
#pragma once

#include "base/json.h"
#include "template.h"

struct pipeline;

enum operand_kind { TERM_DOT, TERM_VARIABLE, TERM_LITERAL, TERM_FUNCTION, TERM_PIPELINE };

struct term {
	enum operand_kind kind;
	char *name;                     /* VARIABLE ("" is $), FUNCTION */
	json_t *literal;
	struct pipeline *pipeline;
	struct gt_strings fields;       /* .A.B after it */
	size_t at;
};

struct call {
	struct term *terms;
	size_t count;
};

struct pipeline {
	struct call *calls;
	size_t count;
	char *declare[2];               /* "$k, $v :=" */
	bool assign;                    /* "=" instead of ":=" */
	size_t at;
};

enum node_kind { NODE_TEXT, NODE_ACTION, NODE_IF, NODE_RANGE, NODE_WITH };

struct nodes {
	struct node *items;
	size_t count;
};

struct node {
	enum node_kind kind;
	char *text;
	size_t len;
	struct pipeline *pipeline;
	struct nodes body, otherwise;
};

struct template {
	struct nodes nodes;
};

int template_fail(struct gt_error *err, size_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A value while evaluating: JSON (owned), or the row. */
struct value {
	json_t *json;                   /* NULL: no value */
	const struct template_root *row;
	char null_kind;                 /* how null prints: 'a' [], 'm' map[], 'p' <nil>, 0 <no value> */
	bool is_map;                    /* an object whose keys are data: a missing one is no mistake */
};

void value_print(const struct value *value, struct gt_buf *out);
bool value_true(const struct value *value);
/* Runs a function by name; *result is new. */
int function_call(const char *name, size_t at, struct value *args, size_t count, bool headers, struct value *result,
		  struct gt_error *err);
bool function_known(const char *name);
