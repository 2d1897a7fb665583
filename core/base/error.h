/*
 * error.h - the one error idiom of the house.
 *
 * A function that can fail returns int (0, or -1) or a pointer (NULL) and fills
 * its last argument, `struct gt_error *err`: a kind, an errno, and a sentence for
 * a person that names the thing, the reason and, where it helps, the remedy.
 * Each layer adds context at most once. Nothing is logged *and* returned.
 *
 * `err` may be NULL where the caller does not care. All functions here are
 * thread safe; a struct gt_error belongs to one thread at a time.
 */
#pragma once

#include <stdarg.h>

enum gt_kind {
	GT_OK = 0,
	GT_INVALID,        /* the caller's input is wrong: HTTP 400 */
	GT_NOT_FOUND,      /* HTTP 404 */
	GT_CONFLICT,       /* name in use, wrong state: HTTP 409 */
	GT_DENIED,         /* not allowed: HTTP 403 */
	GT_UNAUTHORIZED,   /* credentials missing or refused: HTTP 401 */
	GT_TOO_LARGE,      /* over a bound: HTTP 413 */
	GT_NOT_MODIFIED,   /* already so: HTTP 304 */
	GT_UNSUPPORTED,    /* not offered here, refused by name: HTTP 501 */
	GT_UNAVAILABLE,    /* a part is away, try again: HTTP 503 */
	GT_TIMEOUT,        /* a deadline passed: HTTP 504 (500 for Docker clients) */
	GT_CANCELLED,      /* the caller went away */
	GT_INTERNAL,       /* our fault, or the kernel said no: HTTP 500 */
	GT_KIND_COUNT
};

struct gt_error {
	enum gt_kind kind;
	int errnum;             /* an errno value, 0 where none applies */
	char message[1024];     /* always NUL-terminated; cut at a UTF-8 border */
};

/* Fills err and returns -1, so that `return gt_fail(...)` reads well. */
int gt_fail(struct gt_error *err, enum gt_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As gt_fail, appending ": strerror(errnum)". The kind is derived from errnum
 * (ENOENT: not found, EACCES/EPERM: denied, ENOSPC and others: internal). */
int gt_fail_errno(struct gt_error *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As gt_fail_errno with a kind of the caller's choice. */
int gt_fail_sys(struct gt_error *err, enum gt_kind kind, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The pointer-returning twin: fills err, returns NULL. */
void *gt_fail_null(struct gt_error *err, enum gt_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Prefixes err's message with "context: " and returns -1. */
int gt_context(struct gt_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

void gt_error_clear(struct gt_error *err);

/* The static analyzer looks into no other file: it is told what these give back. */
#if defined __clang_analyzer__ && !defined GT_ERROR_C
#define gt_fail(...) (gt_fail(__VA_ARGS__), -1)
#define gt_fail_errno(...) (gt_fail_errno(__VA_ARGS__), -1)
#define gt_fail_sys(...) (gt_fail_sys(__VA_ARGS__), -1)
#define gt_fail_null(...) (gt_fail_null(__VA_ARGS__), NULL)
#define gt_context(...) (gt_context(__VA_ARGS__), -1)
#endif

int gt_kind_http_status(enum gt_kind kind);
const char *gt_kind_name(enum gt_kind kind);
