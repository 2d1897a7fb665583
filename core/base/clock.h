/*
 * clock.h - time as Docker's API writes it, and deadlines.
 * All functions are thread safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define GT_SECOND 1000000000LL          /* nanoseconds */
#define GT_MILLISECOND 1000000LL
#define GT_TIME_ZERO "0001-01-01T00:00:00Z"     /* Go's zero time: "never" */

int64_t gt_now(void);                   /* CLOCK_REALTIME, ns since the epoch */
int64_t gt_monotonic(void);             /* CLOCK_MONOTONIC, ns */

/* RFC 3339 with nanoseconds in UTC ("2026-01-02T03:04:05.123456789Z", trailing zeros
 * trimmed as Go does). 0 gives GT_TIME_ZERO. out has room for 36 bytes. */
void gt_time_format(int64_t ns, char out[static 36]);
/* The same with always nine digits, as the json-file log writes it. */
void gt_time_format_fixed(int64_t ns, char out[static 36]);

/* Accepts RFC 3339 (with or without fraction and zone), "seconds[.nanoseconds]" since the
 * epoch, and a Go duration ("10m", "1h30m"), which counts back from now. */
int gt_time_parse(const char *text, int64_t *ns, struct gt_error *err);

/* A Go duration ("1h2m3.5s", "500ms", "10us", "3ns") in ns. */
int gt_duration_parse(const char *text, int64_t *ns, struct gt_error *err);
