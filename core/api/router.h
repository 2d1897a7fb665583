/*
 * router.h - from a method and a path to a row of the route table.
 *
 * A path may begin with /vX.YY. Patterns are "/containers/{id}/json"; {id} takes one segment, {name...} one or more (image names have
 * slashes). Segments are decoded after the split. Pure: no state.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define GT_API_VERSION "1.50"
#define GT_API_VERSION_MINOR 50
#define GT_API_VERSION_MIN "1.24"
#define GT_API_VERSION_MIN_MINOR 24

struct request;

enum route_body {
	BODY_NONE,      /* what comes is read and dropped */
	BODY_JSON,      /* parsed into request->json; an empty body leaves NULL */
	BODY_STREAM,    /* the handler runs first and calls upload_begin() */
};

struct route {
	const char *method;
	const char *pattern;
	int (*handler)(struct request *request, struct gt_error *err);
	enum route_body body;
	int since;      /* minor version of the API, 0: always */
};

#define ROUTE_MAX_SEGMENTS 2

struct route_match {
	const struct route *route;
	int version;                            /* minor */
	char *segments[ROUTE_MAX_SEGMENTS];     /* owned; in the pattern's order */
};

/* path ends at NUL or '?'. GT_NOT_FOUND "page not found"; GT_INVALID for versions outside the range. Where the path exists with other
 * methods alone (405), allow names them; else it is "". */
#define ROUTE_ALLOW_ROOM 40
int route_find(const char *method, const char *path, struct route_match *match, char allow[ROUTE_ALLOW_ROOM], struct gt_error *err);
void route_match_free(struct route_match *match);
