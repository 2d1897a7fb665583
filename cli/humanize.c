#include "humanize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

char *human_duration(int64_t seconds)
{
	int64_t minutes = seconds / 60, hours = (seconds + 1800) / 3600;
	if (seconds < 1)
		return gt_xstrdup("Less than a second");
	if (seconds == 1)
		return gt_xstrdup("1 second");
	if (seconds < 60)
		return gt_xasprintf("%lld seconds", (long long)seconds);
	if (minutes == 1)
		return gt_xstrdup("About a minute");
	if (minutes < 60)
		return gt_xasprintf("%lld minutes", (long long)minutes);
	if (hours == 1)
		return gt_xstrdup("About an hour");
	if (hours < 48)
		return gt_xasprintf("%lld hours", (long long)hours);
	if (hours < 24LL * 7 * 2)
		return gt_xasprintf("%lld days", (long long)hours / 24);
	if (hours < 24LL * 30 * 2)
		return gt_xasprintf("%lld weeks", (long long)hours / 24 / 7);
	if (hours < 24LL * 365 * 2)
		return gt_xasprintf("%lld months", (long long)hours / 24 / 30);
	return gt_xasprintf("%lld years", (long long)seconds / 3600 / 24 / 365);
}

char *human_ago(int64_t unix_seconds)
{
	char *duration = human_duration((int64_t)time(NULL) - unix_seconds);
	char *text = gt_xasprintf("%s ago", duration);
	free(duration);
	return text;
}

static char *with_unit(double number, double base, const char *const *units, int digits)
{
	size_t i = 0;
	while (number >= base && units[i + 1]) {
		number /= base;
		i++;
	}
	return gt_xasprintf("%.*g%s", digits, number, units[i]);
}

char *human_size(double bytes, int digits)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB", NULL };
	return with_unit(bytes, 1000, units, digits);
}

char *human_bytes(double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", NULL };
	return with_unit(bytes, 1024, units, 4);
}

char *human_time(int64_t unix_seconds)
{
	char text[64];
	struct tm tm;
	time_t at = (time_t)unix_seconds;
	localtime_r(&at, &tm);
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z %Z", &tm);
	return gt_xstrdup(text);
}

char *short_id(const char *id, bool no_trunc)
{
	if (no_trunc)
		return gt_xstrdup(id);
	const char *colon = strchr(id, ':');
	const char *from = colon ? colon + 1 : id;
	size_t len = strlen(from);
	return gt_xstrndup(from, len < 12 ? len : 12);
}

char *ellipsis(const char *text, int64_t width)
{
	const char *p = text, *cut = text;
	int64_t seen = 0;
	for (; *p; p++) {
		if (((unsigned char)*p & 0xc0) == 0x80)
			continue;
		if (seen == width - 1)
			cut = p;
		seen++;
	}
	if (seen <= width)
		return gt_xstrdup(text);
	return gt_xasprintf("%.*s…", (int)(cut - text), text);
}

char *quoted(const char *text)
{
	struct gt_buf out = { 0 };
	gt_buf_char(&out, '"');
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == '"' || *p == '\\')
			gt_buf_printf(&out, "\\%c", *p);
		else if (*p == '\n')
			gt_buf_str(&out, "\\n");
		else if (*p == '\t')
			gt_buf_str(&out, "\\t");
		else if (*p == '\r')
			gt_buf_str(&out, "\\r");
		else if (*p < 0x20 || *p == 0x7f)
			gt_buf_printf(&out, "\\x%02x", *p);
		else
			gt_buf_char(&out, (char)*p);
	}
	gt_buf_char(&out, '"');
	return gt_buf_take(&out);
}
