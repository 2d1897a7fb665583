/* annotations.h - what config.json asks of the shim itself, see client.h. */
#pragma once

#include <jansson.h>

#include "shim/log.h"

enum gt_stdin_mode { GT_STDIN_NONE, GT_STDIN_OPEN, GT_STDIN_ONCE };

struct gt_annotations {
	struct gt_log_settings log;     /* path and attrs are borrowed from the configuration */
	enum gt_stdin_mode stdin_mode;
};

int gt_annotations_read(const json_t *config, struct gt_annotations *out, struct gt_error *err);
