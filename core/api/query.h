/*
 * query.h - a request's query string: decoded once, read by type.
 *
 * The raw string is bounded by the HTTP server's header limit and here by GT_QUERY_MAX parameters. A NUL or a broken escape is refused, so every
 * value is a whole C string. Belongs to one thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

#define GT_QUERY_MAX 256

struct query_param {
	char *name, *value;
};

struct query {
	struct query_param *params;
	size_t count;
};

/* text: what stands after '?', or NULL. */
int query_parse(const char *text, struct query *query, struct gt_error *err);
void query_free(struct query *query);

/* Decodes %XX (and '+' as a blank where plus is set). The caller's; NULL with err for broken escapes and NUL. */
char *query_unescape(const char *text, size_t len, bool plus, struct gt_error *err);

const char *query_get(const struct query *query, const char *name);             /* the first one; NULL where absent */
const char *query_text(const struct query *query, const char *name);            /* NULL where absent or empty */
/* As Docker reads them: "", 0, no, false and none are false, all else is true. */
bool query_bool(const struct query *query, const char *name, bool absent);
/* Absent or empty leaves *value; what is not a whole number is GT_INVALID. */
int query_int(const struct query *query, const char *name, int64_t *value, struct gt_error *err);
/* The h and w of a terminal: both must be there. */
int query_size(const struct query *query, unsigned *rows, unsigned *cols, struct gt_error *err);
/* A time (RFC 3339, seconds, or a duration before now) in ns; absent, empty and "0" give 0. */
int query_time(const struct query *query, const char *name, int64_t *ns, struct gt_error *err);
/* All values of a repeated parameter, added to list. */
void query_list(const struct query *query, const char *name, struct gt_strings *list);
/* `filters`: {"k":["v"]} or the old {"k":{"v":true}}, given as {"k":["v"]}; *filters stays NULL where there are none. */
int query_filters(const struct query *query, json_t **filters, struct gt_error *err);
int query_filters_parse(const char *text, json_t **filters, struct gt_error *err);
/* Parameters that are not offered, closed by NULL: GT_UNSUPPORTED by name where one is given and not false. */
int query_refuse(const struct query *query, const char *const *names, struct gt_error *err);
#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })
