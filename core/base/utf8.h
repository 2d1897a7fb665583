/*
 * utf8.h - what is UTF-8 and what is not. Pure; thread safe.
 */
#pragma once

#include <stddef.h>

/* Length of the valid sequence at text: 1 for ASCII, up to 4; 0 where there is none (Unicode 15, table 3-7). len is at least 1. */
size_t gt_utf8_sequence(const char *text, size_t len);
/* As Go writes what is not UTF-8: each such byte becomes U+FFFD. The caller's. */
char *gt_utf8_repair(const char *text);
