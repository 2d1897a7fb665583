/*
 * netns.h - work inside another network namespace.
 */
#pragma once

#include "base/error.h"

/* Runs fn(arg) on a thread of its own that has entered the namespace, and returns what fn returns. The caller's thread stays where it is. Fails with err
 * filled where the thread or the namespace cannot be had; fn's own failures are fn's to tell. Thread safe. */
int gt_in_netns(int netns_fd, int (*fn)(void *arg), void *arg, struct gt_error *err);
