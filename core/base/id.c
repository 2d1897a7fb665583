#include "base/id.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void gt_id_new(char id[static GT_ID_LEN + 1])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[GT_ID_LEN / 2];
	do {
		if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw)
			abort(); /* a kernel without randomness cannot name anything safely */
		for (size_t i = 0; i < sizeof raw; i++) {
			id[2 * i] = digits[raw[i] >> 4];
			id[2 * i + 1] = digits[raw[i] & 15];
		}
		id[GT_ID_LEN] = '\0';
	} while (strspn(id, "0123456789") >= 12);
}

static bool is_hex_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

bool gt_is_hex(const char *text, size_t len)
{
	size_t i = 0;
	while (i < len && is_hex_digit(text[i]))
		i++;
	return i == len && text[len] == '\0';
}

bool gt_is_id(const char *text)
{
	return gt_is_hex(text, GT_ID_LEN);
}

bool gt_is_id_prefix(const char *text)
{
	size_t len = strnlen(text, GT_ID_LEN + 1);
	return len >= 1 && len <= GT_ID_LEN && gt_is_hex(text, len);
}

bool gt_is_name(const char *text)
{
	if (!isascii((unsigned char)text[0]) || !isalnum((unsigned char)text[0]))
		return false;
	size_t len = 1;
	for (; len <= 255 && text[len]; len++) {
		unsigned char c = (unsigned char)text[len];
		if (!isascii(c) || (!isalnum(c) && c != '_' && c != '.' && c != '-'))
			return false;
	}
	return len >= 2 && len <= 255;
}
