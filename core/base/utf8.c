#include "base/utf8.h"

#include <string.h>

#include "base/buf.h"

size_t gt_utf8_sequence(const char *bytes, size_t len)
{
	const unsigned char *text = (const unsigned char *)bytes;
	unsigned char c = text[0], low = 0x80, high = 0xbf;
	if (c < 0x80)
		return 1;
	size_t need = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
	if (need == 0 || need > len)
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++) {
		if (text[i] < 0x80 || text[i] > 0xbf)
			return 0;
	}
	return need;
}

char *gt_utf8_repair(const char *text)
{
	struct gt_buf out = { 0 };
	for (size_t len = strlen(text); len > 0;) {
		size_t n = gt_utf8_sequence(text, len);
		if (n)
			gt_buf_add(&out, text, n);
		else
			gt_buf_str(&out, "\xef\xbf\xbd");
		n = n ? n : 1;
		text += n;
		len -= n;
	}
	return gt_buf_take(&out);
}
