/*
 * log.h - the container's log on disk: complete records, cut lines, rotation. See logformat.h for what it looks like.
 *
 * Bytes come in as the pipes deliver them, each portion with one reading of the clock; what goes out is one write(2) per portion or per 128 KiB.
 * Of a line that is not finished up to GT_LOG_CHUNK bytes wait in memory. A log that cannot be written loses those records and says so once in
 * shim.log; the container goes on. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "shim/log_forward.h"

enum gt_log_driver { GT_LOG_NONE, GT_LOG_JSON_FILE, GT_LOG_LOCAL };

struct gt_log_settings {
	enum gt_log_driver driver;
	const char *path;               /* absolute */
	int64_t max_size;               /* bytes; 0: no rotation */
	unsigned max_file;              /* files in all, at least 1 */
	bool compress;
	const char *attrs;              /* json-file: a JSON object that each record has as "attrs"; NULL: none */
	struct gt_forward_settings forward;     /* besides the file, or instead of it */
};

struct gt_logfile;

/* settings are copied. With GT_LOG_NONE a struct that takes everything and writes nothing. */
int gt_logfile_open(const struct gt_log_settings *settings, struct gt_logfile **log, struct gt_error *err);
/* After gt_logfile_end() of both streams. Waits for nothing: a compression under way is given up, the file stays as it is. NULL is fine. */
void gt_logfile_close(struct gt_logfile *log);
/* stream: 1 stdout, 2 stderr. */
void gt_logfile_feed(struct gt_logfile *log, unsigned stream, const char *bytes, size_t len, int64_t time);
/* End of the stream: an unfinished line is written. */
void gt_logfile_end(struct gt_logfile *log, unsigned stream, int64_t time);
/* Opens the path anew, with other settings; what is forwarded stays as it was. On failure the old one goes on. */
int gt_logfile_reopen(struct gt_logfile *log, const struct gt_log_settings *settings, struct gt_error *err);

/* ---- private to the log's files ---- */

/* Begins a portion: what its records share. attrs may be NULL. */
void gt_log_json_stamp(struct gt_buf *tail, unsigned stream, const char *attrs, int64_t time);
/* Appends one record. text without its newline; `whole`: a newline followed. */
void gt_log_json_record(struct gt_buf *out, const struct gt_buf *tail, const char *text, size_t len, bool whole);
void gt_log_local_record(struct gt_buf *out, unsigned stream, int64_t time, const char *text, size_t len, bool whole);

/* Moves PATH to PATH.1 and so on (max_file is at least 2); what would be one too many is removed. */
int gt_log_shift(const char *path, unsigned max_file, struct gt_error *err);
/* Starts a process that makes PATH.1.gz of PATH.1. *pidfd: to wait for it, the caller's; -1 where none was started. */
int gt_log_compress(const char *path, int *pidfd, struct gt_error *err);
void gt_log_compress_wait(int pidfd, const char *path, bool give_up);
