/*
 * json.h - JSON at the edge: bounded parsing, typed getters that name the field, and a
 * table-driven codec between a struct and its JSON object.
 *
 * jansson is the library; these helpers add bounds and Docker's (Go's) habits: an absent field and
 * null are the zero value, unknown fields are ignored unless asked, field names match exactly or,
 * as Go's decoder does, without regard to case.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define GT_JSON_MAX_DEPTH 128

/* Parses one JSON value. Refuses depth over GT_JSON_MAX_DEPTH, NUL in strings, and trailing bytes,
 * naming line and column. `what` starts the message ("request body"). The caller owns the result. */
json_t *gt_json_parse(const char *text, size_t len, const char *what, struct gt_error *err);

/* json_object_get, falling back on a look-up without regard to case. Borrowed. */
json_t *gt_json_get(const json_t *object, const char *name);

/* Field readers: absent or null leave *out as it is and return 0; another type fails with GT_INVALID
 * naming the field. Strings are borrowed from the object. */
int gt_json_string(const json_t *object, const char *name, const char **out, struct gt_error *err);
int gt_json_int(const json_t *object, const char *name, int64_t *out, struct gt_error *err);
int gt_json_bool(const json_t *object, const char *name, bool *out, struct gt_error *err);
int gt_json_object(const json_t *object, const char *name, json_t **out, struct gt_error *err);
int gt_json_array(const json_t *object, const char *name, json_t **out, struct gt_error *err);
/* As gt_json_object, for an object of at most `most` strings: labels, options. check_ judges a value that was read before (NULL and null pass). */
int gt_json_check_string_map(const json_t *map, const char *name, size_t most, struct gt_error *err);
int gt_json_string_map(const json_t *object, const char *name, size_t most, json_t **out, struct gt_error *err);

/* A JSON string, with U+FFFD for each byte that is not UTF-8, as Go writes it: nothing is lost silently. The caller's. */
json_t *gt_json_text(const char *text);

/* A list of strings owned by a struct: items[count] is NULL; items is NULL where the JSON was null or
 * absent (Docker tells null from []: `set` is true for []). */
struct gt_strings {
	char **items;
	size_t count;
	bool set;
};
void gt_strings_add(struct gt_strings *list, const char *text);         /* copies */
void gt_strings_free(struct gt_strings *list);
int gt_strings_copy(struct gt_strings *to, const struct gt_strings *from);
json_t *gt_strings_to_json(const struct gt_strings *list);              /* null where !set and empty */

/* The codec: one row per field. */
enum gt_json_type {
	GT_JSON_STRING,         /* char * (owned; NULL reads as "" and writes as "") */
	GT_JSON_OPT_STRING,     /* char * (owned): NULL <-> null */
	GT_JSON_INT,            /* int64_t */
	GT_JSON_BOOL,           /* bool */
	GT_JSON_OPT_INT,        /* struct gt_opt_int: null <-> not set */
	GT_JSON_OPT_BOOL,       /* struct gt_opt_int: null <-> not set, else true/false */
	GT_JSON_STRINGS,        /* struct gt_strings */
	GT_JSON_STRING_OR_LIST, /* struct gt_strings; a single string reads as a list of one */
	GT_JSON_RAW,            /* json_t * (owned; any value; NULL <-> null) */
	GT_JSON_STRUCT,         /* nested struct by value; fields in .nested */
};

struct gt_opt_int {
	int64_t value;
	bool set;
};

struct gt_json_field {
	const char *name;
	enum gt_json_type type;
	size_t offset;
	bool omit_empty;                        /* do not write the zero value */
	const struct gt_json_field *nested;     /* GT_JSON_STRUCT; ends with name == NULL */
};

#define GT_JSON_FIELD(type_, struct_, member_, name_)                                     \
	{ .name = (name_), .type = (type_), .offset = offsetof(struct_, member_) }
#define GT_JSON_OPTIONAL(type_, struct_, member_, name_)                                  \
	{ .name = (name_), .type = (type_), .offset = offsetof(struct_, member_), .omit_empty = true }

/* Fills the struct at `base` from object by the rows of `fields` (closed by name == NULL). Members named by
 * absent fields keep their value. On failure members read so far are kept: free the struct. */
int gt_json_decode(const json_t *object, const struct gt_json_field *fields, void *base, struct gt_error *err);
json_t *gt_json_encode(const struct gt_json_field *fields, const void *base);
/* The same without what gt_json_decode leaves as it is in a zeroed struct: for documents of our own, which nobody else reads. */
json_t *gt_json_encode_brief(const struct gt_json_field *fields, const void *base);
/* Frees what the rows own and zeroes those members. */
void gt_json_release(const struct gt_json_field *fields, void *base);
