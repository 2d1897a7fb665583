/*
 * ignore.h - .dockerignore and --exclude: which files of a build context are left out.
 *
 * Lines are patterns (* ? [a-z] ** and \ escapes) relative to the context; "!" takes back; "#" comments; the last line
 * that matches a path or one of its directories decides.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/json.h"

struct ignore {
	struct gt_strings patterns;     /* cleaned; those taken back begin with "!" */
	bool exceptions;
};

/* A file of patterns, below dirfd or AT_FDCWD. No file: nothing is ignored. */
int ignore_read(struct ignore *ignore, int dirfd, const char *name, struct gt_error *err);
void ignore_add(struct ignore *ignore, const char *line);
bool ignore_matches(const struct ignore *ignore, const char *path);
void ignore_free(struct ignore *ignore);
