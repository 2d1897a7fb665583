/*
 * logs_record.c - one record out of a log's bytes; the formats are told in shim/logformat.h.
 *
 * Lines of json-file as the shim writes them are read by hand, as a log may have millions; a line of another shape goes through the JSON parser.
 */
#include <stdio.h>
#include <string.h>

#include "engine/logs.h"

static void put_utf8(struct gt_buf *out, unsigned code)
{
	if (code < 0x80) {
		gt_buf_char(out, (char)code);
	} else if (code < 0x800) {
		gt_buf_char(out, (char)(0xc0 | code >> 6));
		gt_buf_char(out, (char)(0x80 | (code & 0x3f)));
	} else if (code < 0x10000) {
		gt_buf_char(out, (char)(0xe0 | code >> 12));
		gt_buf_char(out, (char)(0x80 | (code >> 6 & 0x3f)));
		gt_buf_char(out, (char)(0x80 | (code & 0x3f)));
	} else {
		gt_buf_char(out, (char)(0xf0 | code >> 18));
		gt_buf_char(out, (char)(0x80 | (code >> 12 & 0x3f)));
		gt_buf_char(out, (char)(0x80 | (code >> 6 & 0x3f)));
		gt_buf_char(out, (char)(0x80 | (code & 0x3f)));
	}
}

static bool read_hex4(const char *p, const char *end, unsigned *code)
{
	*code = 0;
	if (end - p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) :
				 c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10) : 16;
		if (digit == 16)
			return false;
		*code = *code << 4 | digit;
	}
	return true;
}

/* After a backslash; returns where to go on, or NULL. */
static const char *unescape(const char *p, const char *end, struct gt_buf *out)
{
	static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
	if (p == end)
		return NULL;
	const char *found = *p ? strchr(FROM, *p) : NULL;
	if (found) {
		gt_buf_char(out, TO[found - FROM]);
		return p + 1;
	}
	unsigned code, low;
	if (*p != 'u' || !read_hex4(p + 1, end, &code))
		return NULL;
	p += 5;
	if (code >= 0xd800 && code < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' && read_hex4(p + 2, end, &low) && low >= 0xdc00 &&
	    low < 0xe000) {
		code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
		p += 6;
	} else if (code >= 0xd800 && code < 0xe000) {
		code = 0xfffd; /* half of a pair, as Go reads it */
	}
	put_utf8(out, code);
	return p;
}

/* The string that begins at p, after its quote. *text is borrowed where nothing was escaped but a newline at the end. Returns what follows the closing quote. */
static const char *read_text(const char *p, const char *end, struct log_record *record, struct gt_buf *scratch)
{
	const char *begin = p;
	gt_buf_reset(scratch);
	for (;;) {
		const char *plain = p;
		while (p < end && *p != '"' && *p != '\\')
			p++;
		if (p == end)
			return NULL;
		bool borrowed = plain == begin && *p == '"';
		if (!borrowed)
			gt_buf_add(scratch, plain, (size_t)(p - plain));
		if (*p == '"') {
			record->text = borrowed ? begin : scratch->data;
			record->len = borrowed ? (size_t)(p - begin) : scratch->len;
			return p + 1;
		}
		p = unescape(p + 1, end, scratch);
		if (!p)
			return NULL;
	}
}

static bool skip_word(const char **p, const char *end, const char *word)
{
	size_t len = strlen(word);
	if ((size_t)(end - *p) < len || memcmp(*p, word, len))
		return false;
	*p += len;
	return true;
}

/* The shim's own shape. */
static bool read_fast(const char *p, const char *end, struct log_record *record, struct gt_buf *scratch)
{
	if (!skip_word(&p, end, "{\"log\":\"") || !(p = read_text(p, end, record, scratch)) || !skip_word(&p, end, ",\"stream\":\"std"))
		return false;
	record->stream = skip_word(&p, end, "out\"") ? 1 : skip_word(&p, end, "err\"") ? 2 : 0;
	if (!record->stream)
		return false;
	if (skip_word(&p, end, ",\"attrs\":{")) {
		if (end - p < GT_LOG_JSON_TIME)
			return false;
		p = end - GT_LOG_JSON_TIME;
	}
	if (!skip_word(&p, end, ",\"time\":\""))
		return false;
	const char *quote = memchr(p, '"', (size_t)(end - p));
	if (!quote || (size_t)(quote - p) >= sizeof record->time)
		return false;
	memcpy(record->time, p, (size_t)(quote - p));
	record->time[quote - p] = '\0';
	return quote + 2 == end && quote[1] == '}';
}

static bool read_slow(const char *p, const char *end, struct log_record *record, struct gt_buf *scratch)
{
	AUTO_JSON json_t *line = gt_json_parse(p, (size_t)(end - p), "log", NULL);
	const json_t *text = json_object_get(line, "log");
	const char *stream = json_string_value(json_object_get(line, "stream")), *time = json_string_value(json_object_get(line, "time"));
	if (!json_is_string(text) || !stream || !time || strlen(time) >= sizeof record->time)
		return false;
	gt_buf_reset(scratch);
	gt_buf_add(scratch, json_string_value(text), json_string_length(text));
	record->text = scratch->data ? scratch->data : "";
	record->len = scratch->len;
	record->stream = strcmp(stream, "stderr") == 0 ? 2 : 1;
	snprintf(record->time, sizeof record->time, "%s", time);
	return true;
}

static size_t take_json(const char *bytes, size_t len, bool want_at, struct log_record *record, struct gt_buf *scratch)
{
	const char *newline = memchr(bytes, '\n', len);
	if (!newline)
		return len > LOG_RECORD_MAX ? len : 0;
	if (!read_fast(bytes, newline, record, scratch) && !read_slow(bytes, newline, record, scratch))
		record->stream = 0;
	record->ends_line = record->len && record->text[record->len - 1] == '\n';
	if (record->stream && want_at && gt_time_parse(record->time, &record->at, NULL) < 0)
		record->stream = 0;
	return (size_t)(newline - bytes) + 1;
}

static size_t take_local(const char *bytes, size_t len, struct log_record *record, struct gt_buf *scratch)
{
	struct gt_log_record head;
	if (len < sizeof head)
		return 0;
	memcpy(&head, bytes, sizeof head);
	if (head.magic != GT_LOG_MAGIC || head.len > LOG_RECORD_MAX)
		return 1; /* damaged: look for the next head */
	if (len < sizeof head + head.len)
		return 0;
	record->stream = head.stream == 2 ? 2 : 1;
	record->ends_line = !(head.flags & GT_LOG_PARTIAL);
	record->at = head.time;
	record->text = bytes + sizeof head;
	record->len = head.len;
	if (record->ends_line) {
		gt_buf_reset(scratch);
		gt_buf_add(scratch, record->text, record->len);
		gt_buf_char(scratch, '\n');
		record->text = scratch->data;
		record->len = scratch->len;
	}
	gt_time_format_fixed(head.time, record->time);
	return sizeof head + head.len;
}

size_t log_record_take(bool local, const char *bytes, size_t len, bool want_at, struct log_record *record, struct gt_buf *scratch)
{
	*record = (struct log_record){ 0 };
	return local ? take_local(bytes, len, record, scratch) : take_json(bytes, len, want_at, record, scratch);
}
