/*
 * id.h - identifiers: random hex ids, and the checks that stand before any
 * user's word reaches a path. All functions are thread safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define GT_ID_LEN 64

/* 64 lower-case hex digits from getrandom(2). Never all decimal in the first 12, as such a short
 * id would read as a number. */
void gt_id_new(char id[static GT_ID_LEN + 1]);

bool gt_is_hex(const char *text, size_t len);           /* exactly len lower-case hex digits */
bool gt_is_id(const char *text);                        /* exactly 64 of them */
bool gt_is_id_prefix(const char *text);                 /* 1 to 64 of them */

/* Docker's rule for container, volume and network names: [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most
 * 255 bytes (so never ".", "..", or anything with a slash). */
bool gt_is_name(const char *text);
