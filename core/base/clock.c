#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * GT_SECOND + ts.tv_nsec;
}

int64_t gt_now(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t gt_monotonic(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

void gt_time_format_fixed(int64_t ns, char out[static 36])
{
	time_t seconds = (time_t)(ns / GT_SECOND);
	long rest = (long)(ns % GT_SECOND);
	if (rest < 0) {
		rest += GT_SECOND;
		seconds--;
	}
	struct tm tm;
	gmtime_r(&seconds, &tm);
	size_t used = strftime(out, 36, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + used, 36 - used, ".%09ldZ", rest);
}

void gt_time_format(int64_t ns, char out[static 36])
{
	if (ns == 0) {
		memcpy(out, GT_TIME_ZERO, sizeof GT_TIME_ZERO);
		return;
	}
	gt_time_format_fixed(ns, out);
	size_t end = strlen(out) - 1; /* at the Z */
	while (out[end - 1] == '0')
		end--;
	if (out[end - 1] == '.')
		end--;
	memcpy(out + end, "Z", 2);
}

/* Reads ".digits" as nanoseconds; digits past the ninth are dropped. */
static const char *parse_fraction(const char *p, int64_t *ns)
{
	int64_t unit = GT_SECOND / 10;
	*ns = 0;
	for (; isdigit((unsigned char)*p); p++, unit /= 10)
		*ns += (*p - '0') * unit;
	return p;
}

static bool parse_zone(const char *p, int64_t *offset)
{
	*offset = 0;
	if (*p == '\0' || strcmp(p, "Z") == 0 || strcmp(p, "z") == 0)
		return true;
	int hours, minutes, used = 0;
	if ((*p != '+' && *p != '-') || sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 ||
	    p[1 + used] != '\0')
		return false;
	*offset = (hours * 3600LL + minutes * 60LL) * (*p == '-' ? -1 : 1);
	return true;
}

/* What lies beyond the years that nanoseconds can count (1677 to 2262) is the last of them. */
static int64_t whole_time(int64_t seconds, int64_t fraction)
{
	int64_t last = INT64_MAX / GT_SECOND - 1;
	if (seconds > last || seconds < -last)
		return seconds > 0 ? INT64_MAX : INT64_MIN;
	return seconds * GT_SECOND + fraction;
}

static bool parse_rfc3339(const char *text, int64_t *ns)
{
	struct tm tm = { 0 };
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!p) {
		memset(&tm, 0, sizeof tm);
		p = strptime(text, "%Y-%m-%dT%H:%M", &tm);
	}
	if (!p) {
		memset(&tm, 0, sizeof tm);
		p = strptime(text, "%Y-%m-%d", &tm);
	}
	int64_t fraction = 0, offset;
	if (p && *p == '.')
		p = parse_fraction(p + 1, &fraction);
	if (!p || !parse_zone(p, &offset))
		return false;
	*ns = whole_time((int64_t)timegm(&tm) - offset, fraction);
	return true;
}

static bool parse_epoch(const char *text, int64_t *ns)
{
	char *end;
	bool negative = *text == '-';
	if (!isdigit((unsigned char)text[negative]))
		return false;
	errno = 0;
	long long seconds = strtoll(text, &end, 10);
	int64_t fraction = 0;
	if (*end == '.')
		end = (char *)parse_fraction(end + 1, &fraction);
	if (*end != '\0' || errno)
		return false;
	*ns = whole_time(seconds, negative ? -fraction : fraction);
	return true;
}

int gt_time_parse(const char *text, int64_t *ns, struct gt_error *err)
{
	int64_t back;
	if (parse_epoch(text, ns) || parse_rfc3339(text, ns))
		return 0;
	if (gt_duration_parse(text, &back, NULL) == 0) {
		if (__builtin_sub_overflow(gt_now(), back, ns))
			*ns = INT64_MAX;
		return 0;
	}
	return gt_fail(err, GT_INVALID,
		       "invalid time \"%.64s\": give RFC 3339, seconds since the epoch, or a duration such as 10m",
		       text);
}

int gt_duration_parse(const char *text, int64_t *ns, struct gt_error *err)
{
	static const struct {
		const char *unit;
		double factor;
	} units[] = { { "ns", 1 },   { "us", 1e3 }, { "\xc2\xb5s", 1e3 }, { "ms", 1e6 },
		      { "s", 1e9 }, { "m", 6e10 }, { "h", 3.6e12 } };
	const char *p = text;
	double total = 0;
	bool negative = *p == '-';
	if (*p == '-' || *p == '+')
		p++;
	if (!*p)
		goto bad;
	if (strcmp(p, "0") == 0) {
		*ns = 0;
		return 0;
	}
	while (isdigit((unsigned char)*p) || *p == '.') {
		const char *end = p + strspn(p, "0123456789.");
		char number[64];
		if (end - p >= (ptrdiff_t)sizeof number)
			goto bad;
		memcpy(number, p, (size_t)(end - p));
		number[end - p] = '\0';
		char *rest;
		double value = strtod(number, &rest);
		if (rest == number || *rest)
			goto bad;
		size_t unit = 0, len = 0;
		for (; unit < sizeof units / sizeof units[0]; unit++) {
			len = strlen(units[unit].unit);
			if (strncmp(end, units[unit].unit, len) == 0 && !isalpha((unsigned char)end[len]))
				break;
		}
		if (unit == sizeof units / sizeof units[0])
			goto bad;
		total += value * units[unit].factor;
		p = end + len;
	}
	if (*p != '\0' || total > 9.2e18)
		goto bad;
	*ns = (int64_t)(negative ? -total : total);
	return 0;
bad:
	return gt_fail(err, GT_INVALID, "invalid duration \"%.64s\": give numbers with units, such as 1m30s", text);
}
