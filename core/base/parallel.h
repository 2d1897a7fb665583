/*
 * parallel.h - the same work on many things, by a few threads for as long as it takes.
 */
#pragma once

#include <stddef.h>

/* Calls fn(arg, i) once for each i below count, in no order, from up to `threads` threads at a time of which the caller's is one, and returns when all
 * calls have. Where threads cannot be made fewer do the work. What fn shares is fn's to guard. */
void gt_parallel(size_t count, size_t threads, void (*fn)(void *arg, size_t i), void *arg);
