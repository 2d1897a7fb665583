/*
 * template.h - the templates of --format: a subset of Go's text/template, as Docker's command line offers it.
 *
 * Actions: {{.Field.Sub}}, {{$x := ...}}, {{if}} {{else if}} {{else}} {{end}}, {{range $k, $v := .}}, {{with}}, comments,
 * trim markers {{- -}}, pipelines, parentheses, literals. Functions: and or not eq ne lt le gt ge index slice len
 * print printf println json join split lower upper title truncate pad. What is missing is refused by name,
 * with the column where it stands.
 *
 * Data are JSON values, or rows of a list (list.h), whose fields are made when they are asked for.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

struct template;

/* What "." is. */
struct template_root {
	const json_t *json;             /* a value; or, where field is set, a row: */
	/* A field of the row, a new value; argument is that of {{.Label "x"}}, else NULL. NULL: no such field. */
	json_t *(*field)(const void *row, const char *name, const char *argument);
	json_t *(*whole)(const void *row);      /* all fields, for {{json .}} */
	const void *row;
	bool headers;                   /* the pass that makes a table's headers: functions give back their argument */
};

struct template *template_parse(const char *text, struct gt_error *err);
int template_execute(const struct template *template, const struct template_root *root, struct gt_buf *out,
		     struct gt_error *err);
void template_free(struct template *template);
