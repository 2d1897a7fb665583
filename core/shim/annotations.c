/*
 * annotations.c - org.gantry.* of a bundle. The daemon wrote them; what it may not have meant is refused by name rather than guessed.
 */
#include "shim/annotations.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define MAX_FILES 10000

static int read_number(const json_t *notes, const char *name, int64_t min, int64_t max, int64_t *out, struct gt_error *err)
{
	const char *text = NULL;
	if (gt_json_string(notes, name, &text, err) < 0)
		return -1;
	if (!text)
		return 0;
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno || end == text || *end || value < min || value > max)
		return gt_fail(err, GT_INVALID, "annotation %s: \"%.64s\" is not a number from %lld to %lld", name, text, (long long)min,
			       (long long)max);
	*out = value;
	return 0;
}

static int read_word(const json_t *notes, const char *name, const char *const *words, size_t count, int *index, struct gt_error *err)
{
	const char *text = words[0];
	if (gt_json_string(notes, name, &text, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0) {
			*index = (int)i;
			return 0;
		}
	}
	return gt_fail(err, GT_INVALID, "annotation %s: \"%.64s\" is not known", name, text);
}

static int read_forward(const json_t *notes, struct gt_forward_settings *forward, struct gt_error *err)
{
	static const char *const KINDS[] = { "none", "journald", "syslog" }, *const TIMES[] = { "stamp", "seconds", "micro" }, *const FLAGS[] = { "false", "true" };
	int kind = 0, time = 0, stream = 0, wait = 0;
	if (read_word(notes, "org.gantry.log.forward", KINDS, 3, &kind, err) < 0 || read_word(notes, "org.gantry.log.forward.time", TIMES, 3, &time, err) < 0 ||
	    read_word(notes, "org.gantry.log.forward.stream", FLAGS, 2, &stream, err) < 0 ||
	    read_word(notes, "org.gantry.log.forward.wait", FLAGS, 2, &wait, err) < 0 ||
	    read_number(notes, "org.gantry.log.forward.facility", 0, 23, &forward->facility, err) < 0 ||
	    gt_json_string(notes, "org.gantry.log.forward.to", &forward->to, err) < 0 ||
	    gt_json_string(notes, "org.gantry.log.forward.head", &forward->head, err) < 0 ||
	    gt_json_string(notes, "org.gantry.log.forward.version", &forward->version, err) < 0)
		return -1;
	forward->kind = (enum gt_forward_kind)kind;
	forward->time = (enum gt_forward_time)time;
	forward->stream = stream;
	forward->wait = wait;
	if (kind && (!forward->to || forward->to[0] != '/'))
		return gt_fail(err, GT_INVALID, "annotation org.gantry.log.forward.to must be an absolute path");
	return 0;
}

static int read_log(const json_t *notes, struct gt_log_settings *log, struct gt_error *err)
{
	const char *driver = "none", *compress = "false";
	int64_t files = 1;
	if (gt_json_string(notes, "org.gantry.log.driver", &driver, err) < 0 ||
	    gt_json_string(notes, "org.gantry.log.path", &log->path, err) < 0 ||
	    gt_json_string(notes, "org.gantry.log.compress", &compress, err) < 0 ||
	    gt_json_string(notes, "org.gantry.log.attrs", &log->attrs, err) < 0 ||
	    read_number(notes, "org.gantry.log.max-size", 0, INT64_MAX / 4, &log->max_size, err) < 0 ||
	    read_number(notes, "org.gantry.log.max-file", 1, MAX_FILES, &files, err) < 0)
		return -1;
	log->max_file = (unsigned)files;
	log->compress = strcmp(compress, "true") == 0;
	if (!log->compress && strcmp(compress, "false") != 0)
		return gt_fail(err, GT_INVALID, "annotation org.gantry.log.compress: \"%.64s\" is neither true nor false", compress);
	if (strcmp(driver, "json-file") == 0)
		log->driver = GT_LOG_JSON_FILE;
	else if (strcmp(driver, "local") == 0)
		log->driver = GT_LOG_LOCAL;
	else if (strcmp(driver, "none") != 0)
		return gt_fail(err, GT_INVALID, "annotation org.gantry.log.driver: \"%.64s\" is none of json-file, local, none", driver);
	if (log->driver != GT_LOG_NONE && (!log->path || log->path[0] != '/'))
		return gt_fail(err, GT_INVALID, "annotation org.gantry.log.path must be an absolute path");
	return read_forward(notes, &log->forward, err);
}

int gt_annotations_read(const json_t *config, struct gt_annotations *out, struct gt_error *err)
{
	json_t *notes = NULL;
	const char *mode = NULL;
	*out = (struct gt_annotations){ .log = { .max_file = 1 } };
	if (gt_json_object(config, "annotations", &notes, err) < 0)
		return -1;
	if (!notes)
		return 0;
	if (gt_json_string(notes, "org.gantry.stdin", &mode, err) < 0)
		return -1;
	if (mode && strcmp(mode, "open") == 0)
		out->stdin_mode = GT_STDIN_OPEN;
	else if (mode && strcmp(mode, "once") == 0)
		out->stdin_mode = GT_STDIN_ONCE;
	else if (mode && *mode)
		return gt_fail(err, GT_INVALID, "annotation org.gantry.stdin: \"%.64s\" is neither open nor once", mode);
	return read_log(notes, &out->log, err);
}
