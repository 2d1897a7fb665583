/*
 * words.h - the words of Dockerfile instructions: quotes, escapes, and variables with their modifiers.
 *
 * Text is split as Docker's documentation of the Dockerfile says: single quotes keep everything, double quotes keep blanks, the escape
 * character keeps one character; $name and ${name} stand for variables, with the modifiers
 *
 *   ${v:-w} ${v-w}   w where v is empty or unset (without colon: unset)     ${v#p} ${v##p}   without the shortest / longest prefix that matches p
 *   ${v:+w} ${v+w}   w where v is set                                       ${v%p} ${v%%p}   without the suffix
 *   ${v:?w} ${v?w}   an error with the text w where v is not set            ${v/p/r} ${v//p/r}   the first / every match of p replaced
 *
 * Patterns know * and ?. The text is hostile: depth, length of results and the work of patterns are bounded. Pure work on memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

#define GT_WORD_MAX (1u << 20)          /* bytes of one result */

/* What variables stand for. */
struct gt_scope {
	const char *(*value)(const void *arg, const char *name, size_t len);    /* NULL: not set */
	const void *arg;
	char escape;                    /* '\\' or '`' */
};

/* One word: quotes off and variables replaced, up to white space, or up to `stop` where that is not 0. *p moves behind it. */
int gt_word_take(const struct gt_scope *scope, const char **p, char stop, struct gt_buf *out, struct gt_error *err);
/* The whole text as one value; white space at the end is dropped. The caller's. */
char *gt_words_value(const struct gt_scope *scope, const char *text, struct gt_error *err);
/* All words of the text, appended. */
int gt_words_split(const struct gt_scope *scope, const char *text, struct gt_strings *words, struct gt_error *err);
/* Variables replaced, all else (quotes too) left as it is: the content of here-documents. */
char *gt_words_expand(const struct gt_scope *scope, const char *text, struct gt_error *err);
/* ["a", "b"]: the JSON form of an instruction. False where the text is anything else. */
bool gt_words_json(const char *text, struct gt_strings *list);
const char *gt_skip_space(const char *p);
