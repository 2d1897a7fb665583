#include "base/json.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/utf8.h"

/* jansson's own limit on depth is far above ours and costs C stack: count brackets first. */
static int check_depth(const char *text, size_t len, const char *what, struct gt_error *err)
{
	int depth = 0;
	bool quoted = false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (quoted) {
			if (c == '\\')
				i++;
			else if (c == '"')
				quoted = false;
		} else if (c == '"') {
			quoted = true;
		} else if (c == '{' || c == '[') {
			if (++depth > GT_JSON_MAX_DEPTH)
				return gt_fail(err, GT_INVALID, "%s: JSON is nested deeper than %d levels", what,
					       GT_JSON_MAX_DEPTH);
		} else if (c == '}' || c == ']') {
			depth--;
		}
	}
	return 0;
}

json_t *gt_json_parse(const char *text, size_t len, const char *what, struct gt_error *err)
{
	if (check_depth(text, len, what, err) < 0)
		return NULL;
	json_error_t reason;
	json_t *value = json_loadb(text, len, JSON_DECODE_ANY, &reason);
	if (!value)
		gt_fail(err, GT_INVALID, "%s is not valid JSON: line %d, column %d: %s", what, reason.line,
			reason.column, reason.text);
	return value;
}

json_t *gt_json_get(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);
	if (value)
		return value;
	const char *key;
	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		if (strcasecmp(key, name) == 0)
			return value;
	}
	return NULL;
}

/* Returns the field, or NULL where it is absent or null. */
static json_t *present(const json_t *object, const char *name)
{
	json_t *value = gt_json_get(object, name);
	return json_is_null(value) ? NULL : value;
}

static int wrong_type(struct gt_error *err, const char *name, const char *wanted)
{
	return gt_fail(err, GT_INVALID, "field %s must be %s", name, wanted);
}

int gt_json_string(const json_t *object, const char *name, const char **out, struct gt_error *err)
{
	json_t *value = present(object, name);
	if (value && !json_is_string(value))
		return wrong_type(err, name, "a string");
	if (value)
		*out = json_string_value(value);
	return 0;
}

int gt_json_int(const json_t *object, const char *name, int64_t *out, struct gt_error *err)
{
	json_t *value = present(object, name);
	if (value && !json_is_integer(value))
		return wrong_type(err, name, "a whole number");
	if (value)
		*out = json_integer_value(value);
	return 0;
}

int gt_json_bool(const json_t *object, const char *name, bool *out, struct gt_error *err)
{
	json_t *value = present(object, name);
	if (value && !json_is_boolean(value))
		return wrong_type(err, name, "true or false");
	if (value)
		*out = json_is_true(value);
	return 0;
}

int gt_json_object(const json_t *object, const char *name, json_t **out, struct gt_error *err)
{
	json_t *value = present(object, name);
	if (value && !json_is_object(value))
		return wrong_type(err, name, "an object");
	if (value)
		*out = value;
	return 0;
}

int gt_json_check_string_map(const json_t *map, const char *name, size_t most, struct gt_error *err)
{
	const char *key;
	json_t *value;
	if (!map || json_is_null(map))
		return 0;
	if (!json_is_object(map))
		return wrong_type(err, name, "an object of strings");
	if (json_object_size(map) > most)
		return gt_fail(err, GT_TOO_LARGE, "%s has more than %zu entries", name, most);
	json_object_foreach((json_t *)map, key, value) {
		if (!json_is_string(value))
			return gt_fail(err, GT_INVALID, "%s: the value of %.64s is not a string", name, key);
	}
	return 0;
}

int gt_json_string_map(const json_t *object, const char *name, size_t most, json_t **out, struct gt_error *err)
{
	return gt_json_object(object, name, out, err) < 0 ? -1 : gt_json_check_string_map(*out, name, most, err);
}

int gt_json_array(const json_t *object, const char *name, json_t **out, struct gt_error *err)
{
	json_t *value = present(object, name);
	if (value && !json_is_array(value))
		return wrong_type(err, name, "a list");
	if (value)
		*out = value;
	return 0;
}

void gt_strings_add(struct gt_strings *list, const char *text)
{
	list->items = gt_xrealloc(list->items, (list->count + 2) * sizeof *list->items);
	list->items[list->count++] = gt_xstrdup(text);
	list->items[list->count] = NULL;
	list->set = true;
}

void gt_strings_free(struct gt_strings *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct gt_strings){ 0 };
}

int gt_strings_copy(struct gt_strings *to, const struct gt_strings *from)
{
	gt_strings_free(to);
	to->set = from->set;
	for (size_t i = 0; i < from->count; i++)
		gt_strings_add(to, from->items[i]);
	return 0;
}

json_t *gt_json_text(const char *text)
{
	json_t *string = json_string(text);
	if (string)
		return string;
	AUTO_FREE char *repaired = gt_utf8_repair(text);
	return json_string(repaired);
}

json_t *gt_strings_to_json(const struct gt_strings *list)
{
	if (!list->set && !list->count)
		return json_null();
	json_t *array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, gt_json_text(list->items[i]));
	return array;
}

static int decode_strings(const json_t *value, const struct gt_json_field *field, struct gt_strings *list,
			  struct gt_error *err)
{
	gt_strings_free(list);
	if (json_is_string(value) && field->type == GT_JSON_STRING_OR_LIST) {
		gt_strings_add(list, json_string_value(value));
		return 0;
	}
	if (!json_is_array(value))
		return wrong_type(err, field->name, "a list of strings");
	list->set = true;
	for (size_t i = 0; i < json_array_size(value); i++) {
		const char *text = json_string_value(json_array_get(value, i));
		if (!text)
			return wrong_type(err, field->name, "a list of strings");
		gt_strings_add(list, text);
	}
	return 0;
}

static int decode_field(json_t *value, const struct gt_json_field *field, void *member, struct gt_error *err)
{
	switch (field->type) {
	case GT_JSON_STRING:
	case GT_JSON_OPT_STRING:
		if (!json_is_string(value))
			return wrong_type(err, field->name, "a string");
		free(*(char **)member);
		*(char **)member = gt_xstrdup(json_string_value(value));
		return 0;
	case GT_JSON_INT:
		if (!json_is_integer(value))
			return wrong_type(err, field->name, "a whole number");
		*(int64_t *)member = json_integer_value(value);
		return 0;
	case GT_JSON_BOOL:
		if (!json_is_boolean(value))
			return wrong_type(err, field->name, "true or false");
		*(bool *)member = json_is_true(value);
		return 0;
	case GT_JSON_OPT_INT:
		if (!json_is_integer(value))
			return wrong_type(err, field->name, "a whole number");
		*(struct gt_opt_int *)member = (struct gt_opt_int){ json_integer_value(value), true };
		return 0;
	case GT_JSON_OPT_BOOL:
		if (!json_is_boolean(value))
			return wrong_type(err, field->name, "true or false");
		*(struct gt_opt_int *)member = (struct gt_opt_int){ json_is_true(value), true };
		return 0;
	case GT_JSON_STRINGS:
	case GT_JSON_STRING_OR_LIST:
		return decode_strings(value, field, member, err);
	case GT_JSON_RAW:
		json_decref(*(json_t **)member);
		*(json_t **)member = json_deep_copy(value);
		return 0;
	case GT_JSON_STRUCT:
		if (!json_is_object(value))
			return wrong_type(err, field->name, "an object");
		if (gt_json_decode(value, field->nested, member, err) < 0)
			return gt_context(err, "%s", field->name);
		return 0;
	}
	return 0;
}

int gt_json_decode(const json_t *object, const struct gt_json_field *fields, void *base, struct gt_error *err)
{
	if (!json_is_object(object))
		return gt_fail(err, GT_INVALID, "a JSON object is wanted");
	/* Where each member is a row's to the letter there is none to look for without regard to case: our own documents. */
	size_t exact = 0;
	for (const struct gt_json_field *field = fields; field->name; field++)
		exact += json_object_get(object, field->name) != NULL;
	bool all = exact == json_object_size(object);
	for (const struct gt_json_field *field = fields; field->name; field++) {
		json_t *value = all ? json_object_get(object, field->name) : gt_json_get(object, field->name);
		if (value && !json_is_null(value) && decode_field(value, field, (char *)base + field->offset, err) < 0)
			return -1;
	}
	return 0;
}

static json_t *encode(const struct gt_json_field *fields, const void *base, bool brief);

static json_t *encode_field(const struct gt_json_field *field, const void *member, bool brief)
{
	switch (field->type) {
	case GT_JSON_STRING: {
		const char *text = *(char *const *)member;
		return text || !field->omit_empty ? gt_json_text(text ? text : "") : NULL;
	}
	case GT_JSON_OPT_STRING: {
		const char *text = *(char *const *)member;
		return text ? gt_json_text(text) : json_null();
	}
	case GT_JSON_INT:
		return json_integer(*(const int64_t *)member);
	case GT_JSON_BOOL:
		return json_boolean(*(const bool *)member);
	case GT_JSON_OPT_INT: {
		const struct gt_opt_int *opt = member;
		return opt->set ? json_integer(opt->value) : json_null();
	}
	case GT_JSON_OPT_BOOL: {
		const struct gt_opt_int *opt = member;
		return opt->set ? json_boolean(opt->value != 0) : json_null();
	}
	case GT_JSON_STRINGS:
	case GT_JSON_STRING_OR_LIST:
		return gt_strings_to_json(member);
	case GT_JSON_RAW: {
		json_t *value = *(json_t *const *)member;
		return value ? json_deep_copy(value) : json_null();
	}
	case GT_JSON_STRUCT:
		return encode(field->nested, member, brief);
	}
	return NULL;
}

/* What may be not set at all is not zero once it is set, to false or 0 as well. */
static bool is_zero(enum gt_json_type type, const json_t *value)
{
	if (type == GT_JSON_OPT_INT || type == GT_JSON_OPT_BOOL)
		return json_is_null(value);
	return json_is_null(value) || json_is_false(value) ||
	       (json_is_string(value) && json_string_length(value) == 0) ||
	       (json_is_integer(value) && json_integer_value(value) == 0) ||
	       (json_is_array(value) && json_array_size(value) == 0) ||
	       (json_is_object(value) && json_object_size(value) == 0);
}

/* What a zeroed struct reads from nothing as well; [] is not, being set. */
static bool goes_without_saying(enum gt_json_type type, const json_t *value)
{
	switch (type) {
	case GT_JSON_STRING:
		return json_string_length(value) == 0;
	case GT_JSON_INT:
		return json_integer_value(value) == 0;
	case GT_JSON_BOOL:
		return json_is_false(value);
	case GT_JSON_STRUCT:
		return json_object_size(value) == 0;
	default:
		return json_is_null(value);
	}
}

static json_t *encode(const struct gt_json_field *fields, const void *base, bool brief)
{
	json_t *object = json_object();
	for (const struct gt_json_field *field = fields; field->name; field++) {
		json_t *value = encode_field(field, (const char *)base + field->offset, brief);
		if (!value || (field->omit_empty && is_zero(field->type, value)) || (brief && goes_without_saying(field->type, value)))
			json_decref(value);
		else
			json_object_set_new_nocheck(object, field->name, value);
	}
	return object;
}

json_t *gt_json_encode(const struct gt_json_field *fields, const void *base)
{
	return encode(fields, base, false);
}

json_t *gt_json_encode_brief(const struct gt_json_field *fields, const void *base)
{
	return encode(fields, base, true);
}

void gt_json_release(const struct gt_json_field *fields, void *base)
{
	for (const struct gt_json_field *field = fields; field->name; field++) {
		void *member = (char *)base + field->offset;
		switch (field->type) {
		case GT_JSON_STRING:
		case GT_JSON_OPT_STRING:
			free(*(char **)member);
			*(char **)member = NULL;
			break;
		case GT_JSON_STRINGS:
		case GT_JSON_STRING_OR_LIST:
			gt_strings_free(member);
			break;
		case GT_JSON_RAW:
			json_decref(*(json_t **)member);
			*(json_t **)member = NULL;
			break;
		case GT_JSON_STRUCT:
			gt_json_release(field->nested, member);
			break;
		default:
			break;
		}
	}
}
