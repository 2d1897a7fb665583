/*
 * signals.h - signals by name or number, as users write them: "TERM", "SIGTERM", "15", "RTMIN+3". Pure; thread safe.
 */
#pragma once

#include "base/error.h"

int gt_signal_parse(const char *text, int *signo, struct gt_error *err);
