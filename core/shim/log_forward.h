/*
 * log_forward.h - records to a log daemon of the host, on a unix socket: systemd's journal (its native protocol) or syslog.
 *
 * The daemon has written all that does not change into `head`; here come priority, time and text. A log daemon that takes nothing is waited for a moment
 * where that was asked for, then its records are lost until it takes some again, and shim.log says so once: the container goes on. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gt_forward_kind { GT_FORWARD_NONE, GT_FORWARD_JOURNALD, GT_FORWARD_SYSLOG };
enum gt_forward_time { GT_TIME_STAMP, GT_TIME_SECONDS, GT_TIME_MICRO };

/* Strings are borrowed from the configuration. */
struct gt_forward_settings {
	enum gt_forward_kind kind;
	const char *to;                 /* the socket's path */
	const char *head;               /* journald: fields, each with its newline; syslog: what stands between time and text */
	const char *version;            /* syslog: what stands before the time */
	bool stream, wait;
	int64_t facility;
	enum gt_forward_time time;
};

struct gt_forward;

/* settings are copied. Connects when the first record comes. NULL for GT_FORWARD_NONE. */
struct gt_forward *gt_forward_new(const struct gt_forward_settings *settings);
void gt_forward_record(struct gt_forward *forward, unsigned stream, int64_t time, const char *text, size_t len, bool whole);
void gt_forward_free(struct gt_forward *forward);       /* NULL is fine */
