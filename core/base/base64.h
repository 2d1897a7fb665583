/*
 * base64.h - base64 in its usual and its URL-safe alphabet (RFC 4648). Pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* With padding. The caller frees the text. */
char *gt_base64_encode(const void *bytes, size_t len, bool url);
/* Takes either alphabet, padded or not; -1 for anything else. Appends to out. */
int gt_base64_decode(const char *text, struct gt_buf *out);
