/*
 * api.h - calls of the Docker Engine API: paths with escaped parts, queries, JSON in and out, the daemon's errors.
 */
#pragma once

#include "cli.h"

/* url_path(&url, "/containers/", name, "/json"): literal and escaped parts in turn. An escaped part keeps no slash. */
#define url_path(...) url_path_parts(__VA_ARGS__, (const char *)0)
void url_path_parts(struct gt_buf *url, ...) __attribute__((sentinel));
/* The same; slashes and colons of image references are kept. */
void url_image(struct gt_buf *url, const char *before, const char *reference, const char *after);
void url_param(struct gt_buf *url, const char *name, const char *value);
void url_text(struct gt_buf *url, const char *name, const char *value);         /* left out where "" */
/* "linux/arm64/v8" as the parameter platform, in the API's JSON; left out where "". */
int url_platform(struct gt_buf *url, const char *platform, struct gt_error *err);
void url_int(struct gt_buf *url, const char *name, int64_t value);
void url_flag(struct gt_buf *url, const char *name, bool value);                /* left out where false */
/* The API takes seconds since the epoch; people also write "10m" and dates. The parameter is named as the flag. */
int url_time(struct gt_buf *url, const char *name, const char *text, struct gt_error *err);
/* --filter key=value ... as the filters parameter. Left out where there are none. */
void url_filters(struct gt_buf *url, const struct gt_strings *filters);
void url_filters_json(struct gt_buf *url, const json_t *filters);
json_t *filters_json(const struct gt_strings *filters);

/* Sends; an answer of status 400 and above becomes err ("Error response from daemon: ..."). */
struct http_response *api_open(struct cli *cli, const struct http_request *request, struct gt_error *err);
/* One exchange of JSON. body is borrowed and may be NULL; answer may be NULL; *answer may become NULL (no content). */
int api_call(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **answer,
	     struct gt_error *err);
json_t *api_get(struct cli *cli, const char *path, struct gt_error *err);
/* Copies an answer's body to a descriptor. */
int api_copy_body(struct http_response *response, int fd, struct gt_error *err);
