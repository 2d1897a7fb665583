/*
 * keys.c - the keys that let a client go, as users write them: "ctrl-p,ctrl-q".
 */
#include <ctype.h>
#include <string.h>

#include "engine/internal.h"

/* One key of "ctrl-p" or "x"; -1 where it is neither. */
static int parse_key(const char *text, size_t len)
{
	if (len == 1)
		return (unsigned char)text[0];
	if (len != 6 || strncmp(text, "ctrl-", 5))
		return -1;
	char c = (char)tolower((unsigned char)text[5]);
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 1;
	static const char OTHERS[] = "@[\\]^_";
	static const char CODES[] = { 0, 27, 28, 29, 30, 31 };
	const char *found = c ? strchr(OTHERS, c) : NULL;
	return found ? CODES[found - OTHERS] : -1;
}

int gt_detach_keys_parse(const char *text, struct gt_buf *keys, struct gt_error *err)
{
	if (!*text)
		return 0;
	for (const char *at = text;; at++) {
		size_t len = strcspn(at, ",");
		int key = parse_key(at, len);
		if (key <= 0 || keys->len >= 32)
			return gt_fail(err, GT_INVALID,
				       "Invalid detach keys (%.64s) provided: write one character or ctrl-<a-z, [, \\, ], ^ or _>, comma separated", text);
		gt_buf_char(keys, (char)key);
		at += len;
		if (!*at)
			return 0;
	}
}
