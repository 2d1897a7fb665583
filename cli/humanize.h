/*
 * humanize.h - times, sizes and texts as people read them, in Docker's words ("3 minutes ago", "1.23MB").
 * What returns char * is the caller's to free.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

char *human_duration(int64_t seconds);          /* "About a minute", "3 days" */
char *human_ago(int64_t unix_seconds);          /* "3 minutes ago" */
char *human_size(double bytes, int digits);     /* 1000s: "4.26MB" */
char *human_bytes(double bytes);                /* 1024s: "64MiB" */
char *human_time(int64_t unix_seconds);         /* "2026-01-02 15:04:05 +0100 CET" */
char *short_id(const char *id, bool no_trunc);  /* without "sha256:", 12 digits */
char *ellipsis(const char *text, int64_t width);        /* cut to width characters, the last one "…" */
char *quoted(const char *text);                 /* as Go's %q */
