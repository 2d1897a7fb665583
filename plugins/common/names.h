/*
 * common/names.h - directory listings in memory, for those who look at what a container has left: sorted, so that what is told comes in one order.
 */
#pragma once

#include <stddef.h>

struct names {
	char **items;
	size_t count, room;
};

/* Adds the names in a directory (not taken over). Returns -1 with errno. */
int names_read(struct names *names, int dirfd);
void names_sort(struct names *names);           /* and drops doubles */
void names_free(struct names *names);
