/*
 * buf.h - a growing byte buffer for building text and frames.
 *
 * The bytes are always followed by a NUL that `len` does not count, so `data`
 * is a C string whenever no NUL was appended. A zeroed struct is an empty
 * buffer; data is NULL until the first append. Growth that memory refuses
 * aborts the process (gt_xmalloc), so appends cannot fail: bound hostile input
 * before appending it. Not thread safe; belongs to one thread at a time.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

struct gt_buf {
	char *data;
	size_t len;
	size_t cap;
};

void gt_buf_add(struct gt_buf *buf, const void *bytes, size_t len);
void gt_buf_str(struct gt_buf *buf, const char *text);
void gt_buf_char(struct gt_buf *buf, char c);
void gt_buf_printf(struct gt_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gt_buf_vprintf(struct gt_buf *buf, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* Makes room for `extra` more bytes and returns where they go; follow with
 * buf->len += written. */
char *gt_buf_reserve(struct gt_buf *buf, size_t extra);

/* Drops the first n bytes. */
void gt_buf_consume(struct gt_buf *buf, size_t n);
void gt_buf_reset(struct gt_buf *buf);          /* len = 0, memory kept */
void gt_buf_free(struct gt_buf *buf);
/* Hands the bytes to the caller, who frees them; never NULL. */
char *gt_buf_take(struct gt_buf *buf);

/* Allocation that aborts with a log line instead of returning NULL. */
void *gt_xmalloc(size_t size);
void *gt_xcalloc(size_t count, size_t size);
void *gt_xrealloc(void *old, size_t size);
char *gt_xstrdup(const char *text);             /* NULL gives NULL */
char *gt_xstrndup(const char *text, size_t len);
char *gt_xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define AUTO_BUF __attribute__((cleanup(gt_buf_free)))
