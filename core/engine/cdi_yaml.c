/*
 * cdi_yaml.c - a YAML document as JSON: libyaml's events, put together. Anchors and aliases are refused, as by these a small file can stand for a huge one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "engine/cdi.h"

#define MAX_DEPTH 32

/* Plain scalars have a type by what they look like (YAML 1.2, core schema). */
static json_t *scalar(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	char *end;
	if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return json_string(text);
	if (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)
		return json_null();
	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
		return json_boolean(text[0] == 't');
	errno = 0;
	bool octal = strncmp(text, "0o", 2) == 0;
	long long number = strtoll(text + (octal ? 2 : 0), &end, octal ? 8 : 10);
	return *end || errno ? json_string(text) : json_integer(number);
}

static int next(yaml_parser_t *parser, yaml_event_t *event, struct gt_error *err)
{
	if (yaml_parser_parse(parser, event))
		return 0;
	return gt_fail(err, GT_INVALID, "line %zu: %s", parser->problem_mark.line + 1, parser->problem ? parser->problem : "not YAML");
}

static json_t *value_of(yaml_parser_t *parser, yaml_event_t *event, int depth, struct gt_error *err);

/* Up to the end of a list or map. */
static json_t *collection(yaml_parser_t *parser, bool map, int depth, struct gt_error *err)
{
	AUTO_JSON json_t *out = map ? json_object() : json_array();
	AUTO_FREE char *key = NULL;
	yaml_event_t event;
	for (;;) {
		if (next(parser, &event, err) < 0)
			return NULL;
		bool end = event.type == (map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT);
		if (end) {
			yaml_event_delete(&event);
			return take(out);
		}
		if (map && !key) {
			if (event.type == YAML_SCALAR_EVENT)
				key = gt_xstrdup((const char *)event.data.scalar.value);
			yaml_event_delete(&event);
			if (!key)
				return gt_fail_null(err, GT_INVALID, "line %zu: a key is not a word", parser->mark.line + 1);
			continue;
		}
		json_t *value = value_of(parser, &event, depth + 1, err);
		if (!value)
			return NULL;
		if (map)
			json_object_set_new(out, key, value);
		else
			json_array_append_new(out, value);
		free(take(key));
	}
}

/* Consumes the event. */
static json_t *value_of(yaml_parser_t *parser, yaml_event_t *event, int depth, struct gt_error *err)
{
	json_t *out = NULL;
	yaml_event_type_t type = event->type;
	bool anchored = (type == YAML_SCALAR_EVENT && event->data.scalar.anchor) || (type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.anchor) ||
			(type == YAML_MAPPING_START_EVENT && event->data.mapping_start.anchor);
	if (anchored || type == YAML_ALIAS_EVENT)
		gt_fail(err, GT_UNSUPPORTED, "line %zu: anchors and aliases are not supported", event->start_mark.line + 1);
	else if (depth > MAX_DEPTH)
		gt_fail(err, GT_INVALID, "line %zu: nested too deeply", event->start_mark.line + 1);
	else if (type == YAML_SCALAR_EVENT)
		out = scalar(event) ?: gt_fail_null(err, GT_INVALID, "line %zu: not UTF-8", event->start_mark.line + 1);
	else if (type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT)
		out = collection(parser, type == YAML_MAPPING_START_EVENT, depth, err);
	else
		gt_fail(err, GT_INVALID, "line %zu: a value is missing", event->start_mark.line + 1);
	yaml_event_delete(event);
	return out;
}

json_t *cdi_yaml_parse(const char *text, size_t len, struct gt_error *err)
{
	yaml_parser_t parser;
	yaml_event_t event;
	json_t *out = NULL;
	if (!yaml_parser_initialize(&parser))
		return gt_fail_null(err, GT_INTERNAL, "no memory to read YAML");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (!out && next(&parser, &event, err) == 0) {
		if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_START_EVENT) {
			yaml_event_delete(&event);
			continue;
		}
		out = value_of(&parser, &event, 0, err);
		break;
	}
	yaml_parser_delete(&parser);
	return out;
}
