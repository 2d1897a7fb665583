/*
 * logs.h - private to the log reader: files in the order in which they are read, and records out of their bytes.
 */
#pragma once

#include <sys/types.h>
#include <zlib.h>

#include "engine/internal.h"
#include "shim/logformat.h"

/* ---- logs_files.c ---- */

struct log_file {
	int fd;                 /* -1 where gz reads it */
	gzFile gz;
	dev_t dev;
	ino_t ino;
};

/* The files of one log that are still to be read, oldest first. */
struct log_files {
	char *path;
	bool local;             /* format */
	struct log_file *items;
	size_t count, at;       /* items[at] is being read */
	uint64_t skip;          /* records of items[at] that are not wanted (tail) */
};

/* tail: records wanted from the end, -1: all. A log that is not there yet has no files. */
int log_files_open(struct log_files *files, const char *path, bool local, int64_t tail, struct gt_error *err);
/* Bytes of the file at hand, 0 at its end, -1 with errno. */
ssize_t log_files_read(struct log_files *files, void *bytes, size_t room);
/* At the end of a file: on to the next. While following, the newest is looked for anew. False: there is none now. */
bool log_files_next(struct log_files *files, bool follow);
void log_files_close(struct log_files *files);

/* ---- logs_record.c ---- */

struct log_record {
	int stream;             /* 1 stdout, 2 stderr */
	bool ends_line;
	const char *text;       /* borrowed from the bytes, or from scratch */
	size_t len;
	char time[36];          /* as written; "" where it was not asked for */
	int64_t at;             /* ns; 0 where it was not asked for */
};

/* Takes one record from the beginning of bytes. Returns how many bytes it was, 0 where it is not complete yet; record->stream is 0 for damaged bytes, which
 * are passed over. */
size_t log_record_take(bool local, const char *bytes, size_t len, bool want_at, struct log_record *record, struct gt_buf *scratch);
#define LOG_RECORD_MAX (1u << 20)
