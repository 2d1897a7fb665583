#include "base/base64.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *gt_base64_encode(const void *bytes, size_t len, bool url)
{
	const unsigned char *in = bytes;
	struct gt_buf out = { 0 };
	for (size_t i = 0; i < len; i += 3) {
		unsigned word = (unsigned)in[i] << 16 | (i + 1 < len ? in[i + 1] : 0U) << 8 | (i + 2 < len ? in[i + 2] : 0U);
		for (int j = 0; j < 4; j++) {
			char c = i + (size_t)j > len ? '=' : digits[word >> (18 - 6 * j) & 63];
			gt_buf_char(&out, url && c == '+' ? '-' : url && c == '/' ? '_' : c);
		}
	}
	return gt_buf_take(&out);
}

int gt_base64_decode(const char *text, struct gt_buf *out)
{
	unsigned word = 0;
	int bits = 0;
	for (; *text && *text != '='; text++) {
		char c = *text == '-' ? '+' : *text == '_' ? '/' : *text;
		const char *at = strchr(digits, c);
		if (!at)
			return -1;
		word = word << 6 | (unsigned)(at - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			gt_buf_char(out, (char)(word >> bits & 0xff));
		}
	}
	return bits < 6 && strspn(text, "=") == strlen(text) ? 0 : -1;
}
