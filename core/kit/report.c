/*
 * report.c - what the kit tells: TAP (testanything.org), which every test runner reads.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kit.h"

static void print_line(struct kit *kit, bool ok, const char *fmt, va_list ap)
{
	kit->tests++;
	kit->failed += !ok;
	printf("%sok %u - %s: ", ok ? "" : "not ", kit->tests, kit->driver_name);
	vprintf(fmt, ap);
}

bool check(struct kit *kit, bool ok, struct gt_error *err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	print_line(kit, ok, fmt, ap);
	va_end(ap);
	printf("\n");
	if (!ok && err && err->message[0])
		diagnose("the driver says: %s", err->message);
	if (err)
		gt_error_clear(err);
	return ok;
}

void skip(struct kit *kit, const char *why, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	print_line(kit, true, fmt, ap);
	va_end(ap);
	printf(" # SKIP %s\n", why);
}

void diagnose(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
}

bool check_refused(struct kit *kit, int rc, enum gt_kind kind, const char *word, struct gt_error *err, const char *fmt, ...)
{
	bool ok = rc < 0 && err->kind == kind && err->message[0] && (!word || strstr(err->message, word));
	va_list ap;
	va_start(ap, fmt);
	print_line(kit, ok, fmt, ap);
	va_end(ap);
	printf("\n");
	if (!ok && rc >= 0)
		diagnose("it was done");
	else if (!ok && err->kind != kind)
		diagnose("wanted an error of kind \"%s\", got \"%s\": %s", gt_kind_name(kind), gt_kind_name(err->kind), err->message);
	else if (!ok)
		diagnose("the sentence does not name \"%s\": %s", word ? word : "", err->message);
	gt_error_clear(err);
	return ok;
}
