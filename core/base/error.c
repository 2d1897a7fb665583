#define GT_ERROR_C
#include "base/error.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int http_status;
} kinds[GT_KIND_COUNT] = {
	[GT_OK] = { "ok", 200 },
	[GT_INVALID] = { "invalid", 400 },
	[GT_NOT_FOUND] = { "not found", 404 },
	[GT_CONFLICT] = { "conflict", 409 },
	[GT_DENIED] = { "denied", 403 },
	[GT_UNAUTHORIZED] = { "unauthorized", 401 },
	[GT_TOO_LARGE] = { "too large", 413 },
	[GT_NOT_MODIFIED] = { "not modified", 304 },
	[GT_UNSUPPORTED] = { "unsupported", 501 },
	[GT_UNAVAILABLE] = { "unavailable", 503 },
	[GT_TIMEOUT] = { "timeout", 500 },
	[GT_CANCELLED] = { "cancelled", 499 },
	[GT_INTERNAL] = { "internal", 500 },
};

/* Drops the tail of a UTF-8 sequence that vsnprintf may have cut in two. */
static void trim_utf8(char *text, size_t size, int wanted)
{
	if (wanted < 0 || (size_t)wanted < size)
		return;
	size_t len = size - 1, back = 0;
	while (back < 4 && back < len && ((unsigned char)text[len - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back < len && ((unsigned char)text[len - 1 - back] & 0xc0) == 0xc0)
		text[len - 1 - back] = '\0';
}

static void fill(struct gt_error *err, enum gt_kind kind, int errnum, const char *fmt, va_list ap) __attribute__((format(printf, 4, 0)));
static void fill(struct gt_error *err, enum gt_kind kind, int errnum, const char *fmt, va_list ap)
{
	err->kind = kind;
	err->errnum = errnum;
	trim_utf8(err->message, sizeof err->message,
		  vsnprintf(err->message, sizeof err->message, fmt, ap));
}

static void append_errno(struct gt_error *err)
{
	char reason[128];
	size_t used = strlen(err->message);
	snprintf(err->message + used, sizeof err->message - used, ": %s",
		 strerror_r(err->errnum, reason, sizeof reason));
}

static enum gt_kind kind_of_errno(int errnum)
{
	switch (errnum) {
	case ENOENT:
		return GT_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return GT_DENIED;
	case EEXIST:
	case EBUSY:
		return GT_CONFLICT;
	case EINVAL:
	case ENAMETOOLONG:
	case ELOOP:
		return GT_INVALID;
	case ETIMEDOUT:
		return GT_TIMEOUT;
	case ECANCELED:
		return GT_CANCELLED;
	default:
		return GT_INTERNAL;
	}
}

int gt_fail(struct gt_error *err, enum gt_kind kind, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	fill(err, kind, 0, fmt, ap);
	va_end(ap);
	return -1;
}

int gt_fail_errno(struct gt_error *err, int errnum, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	fill(err, kind_of_errno(errnum), errnum, fmt, ap);
	va_end(ap);
	append_errno(err);
	return -1;
}

int gt_fail_sys(struct gt_error *err, enum gt_kind kind, int errnum, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	fill(err, kind, errnum, fmt, ap);
	va_end(ap);
	append_errno(err);
	return -1;
}

void *gt_fail_null(struct gt_error *err, enum gt_kind kind, const char *fmt, ...)
{
	if (!err)
		return NULL;
	va_list ap;
	va_start(ap, fmt);
	fill(err, kind, 0, fmt, ap);
	va_end(ap);
	return NULL;
}

int gt_context(struct gt_error *err, const char *fmt, ...)
{
	if (!err)
		return -1;
	char inner[sizeof err->message];
	memcpy(inner, err->message, sizeof inner);
	va_list ap;
	va_start(ap, fmt);
	int used = vsnprintf(err->message, sizeof err->message, fmt, ap);
	va_end(ap);
	if (used < 0 || (size_t)used >= sizeof err->message)
		return -1;
	size_t room = sizeof err->message - (size_t)used;
	trim_utf8(err->message + used, room, snprintf(err->message + used, room, ": %s", inner));
	return -1;
}

void gt_error_clear(struct gt_error *err)
{
	if (err)
		*err = (struct gt_error){ 0 };
}

int gt_kind_http_status(enum gt_kind kind)
{
	return (unsigned)kind < GT_KIND_COUNT ? kinds[kind].http_status : 500;
}

const char *gt_kind_name(enum gt_kind kind)
{
	return (unsigned)kind < GT_KIND_COUNT ? kinds[kind].name : "unknown";
}
