/*
 * progress.h - streams of progress messages (pull, push, load, build, import) as lines or, on a terminal, as bars that
 * move: one line for each layer, rewritten in place.
 */
#pragma once

#include "cli.h"

/* Shows the answer's body on `out`; quiet: nothing but errors. An error in the stream becomes err. aux, if not NULL, receives
 * the last "aux" object, after an error in the stream its "errorDetail" (owned by the caller). */
int progress_show(struct http_response *response, FILE *out, bool quiet, json_t **aux, struct gt_error *err);
