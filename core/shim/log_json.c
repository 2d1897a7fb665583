/*
 * log_json.c - records of the json-file format.
 *
 * The text of a container is bytes; JSON is UTF-8. Runs of plain characters are found eight at a time and copied as they are; quotes, backslashes and
 * control characters are escaped; what is not UTF-8 (also surrogates, overlong forms and beyond U+10FFFF) becomes one U+FFFD for each byte, as
 * Docker writes it.
 */
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "shim/log.h"

#define ONES 0x0101010101010101ull
#define HIGHS 0x8080808080808080ull
#define HAS_ZERO(v) (((v) - ONES) & ~(v) & HIGHS)

/* Not 0 where a byte of w is below 0x20, above 0x7f, a quote or a backslash. (Exact up to and including the first such byte.) */
static uint64_t special(uint64_t w)
{
	return (((w - ONES * 0x20) & ~w) | w) & HIGHS ? 1 : HAS_ZERO(w ^ ONES * '"') | HAS_ZERO(w ^ ONES * '\\');
}

static bool plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static size_t plain_run(const unsigned char *text, size_t len)
{
	size_t n = 0;
	for (uint64_t w; n + sizeof w <= len; n += sizeof w) {
		memcpy(&w, text + n, sizeof w);
		if (special(w))
			break;
	}
	while (n < len && plain(text[n]))
		n++;
	return n;
}

/* One byte that cannot stand for itself; returns how many bytes of out it took, at most 6. */
static size_t escape(char *out, unsigned char c)
{
	static const char HEX[] = "0123456789abcdef";
	const char *two = c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : NULL;
	if (two) {
		memcpy(out, two, 2);
		return 2;
	}
	memcpy(out, c < 0x20 ? "\\u00" : "\\ufffd", c < 0x20 ? 4 : 6);
	if (c < 0x20) {
		out[4] = HEX[c >> 4];
		out[5] = HEX[c & 15];
	}
	return 6;
}

/* out has room for 6 * len. */
static size_t quote(char *out, const unsigned char *text, size_t len)
{
	char *start = out;
	for (size_t at = 0; at < len;) {
		size_t n = plain_run(text + at, len - at);
		memcpy(out, text + at, n);
		out += n;
		at += n;
		if (at == len)
			break;
		n = text[at] >= 0x80 ? gt_utf8_sequence((const char *)text + at, len - at) : 0;
		if (n) {
			memcpy(out, text + at, n);
			out += n;
			at += n;
		} else {
			out += escape(out, text[at++]);
		}
	}
	return (size_t)(out - start);
}

void gt_log_json_stamp(struct gt_buf *tail, unsigned stream, const char *attrs, int64_t time)
{
	char stamp[36];
	gt_time_format_fixed(time, stamp);
	gt_buf_reset(tail);
	gt_buf_printf(tail, "\",\"stream\":\"%s\"%s%s,\"time\":\"%s\"}\n", stream == 2 ? "stderr" : "stdout", attrs ? ",\"attrs\":" : "", attrs ? attrs : "",
		      stamp);
}

void gt_log_json_record(struct gt_buf *out, const struct gt_buf *tail, const char *text, size_t len, bool whole)
{
	static const char HEAD[] = "{\"log\":\"";
	char *at = gt_buf_reserve(out, sizeof HEAD + 6 * len + 2 + tail->len), *start = at;
	memcpy(at, HEAD, sizeof HEAD - 1);
	at += sizeof HEAD - 1;
	at += quote(at, (const unsigned char *)text, len);
	if (whole) {
		memcpy(at, "\\n", 2);
		at += 2;
	}
	memcpy(at, tail->data, tail->len);
	at += tail->len;
	out->len += (size_t)(at - start);
}
