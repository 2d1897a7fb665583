/*
 * check.h - private to core/config: what a value has to look like beyond its type.
 */
#pragma once

#include "base/error.h"

/* One value (of a list: one item), not empty. Keys without a check of their own take anything. */
int config_check_value(const char *section, const char *name, const char *value, struct gt_error *err);
