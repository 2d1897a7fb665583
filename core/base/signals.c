#include "base/signals.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"

/* Second names of signals that the C library calls by their first. */
static const struct {
	const char *name;
	int number;
} OTHER_NAMES[] = { { "IOT", SIGABRT }, { "CLD", SIGCHLD }, { "IO", SIGIO }, { "POLL", SIGPOLL } };

/* "RTMIN", "RTMIN+3", "RTMAX-1": -1 where it is none of these. */
static int real_time(const char *name)
{
	int base = strncasecmp(name, "RTMIN", 5) == 0 ? SIGRTMIN : strncasecmp(name, "RTMAX", 5) == 0 ? SIGRTMAX : -1;
	if (base < 0)
		return -1;
	name += 5;
	if (!*name)
		return base;
	char *end;
	long offset = strtol(name, &end, 10);
	if ((*name != '+' && *name != '-') || *end || offset < SIGRTMIN - base || offset > SIGRTMAX - base)
		return -1;
	return base + (int)offset;
}

int gt_signal_parse(const char *text, int *signo, struct gt_error *err)
{
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	int number = -1;
	size_t digits = strspn(text, "0123456789");
	if (digits && digits <= 2 && !text[digits])
		number = atoi(text) <= SIGRTMAX ? atoi(text) : -1;
	for (int i = 1; number < 0 && i < SIGRTMIN; i++) {
		const char *abbreviation = sigabbrev_np(i);
		if (abbreviation && strcasecmp(abbreviation, name) == 0)
			number = i;
	}
	for (size_t i = 0; number < 0 && i < GT_COUNT(OTHER_NAMES); i++) {
		if (strcasecmp(name, OTHER_NAMES[i].name) == 0)
			number = OTHER_NAMES[i].number;
	}
	if (number < 0)
		number = real_time(name);
	if (number <= 0)
		return gt_fail(err, GT_INVALID, "Invalid signal: %.64s", text);
	*signo = number;
	return 0;
}
