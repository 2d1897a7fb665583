/*
 * testing.h - what the unit tests share: cmocka, a scratch directory that removes itself, paths of what was built.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Setup and teardown of a test or group: a fresh directory below /tmp; *state is its path (char *). */
int scratch_make(void **state);
int scratch_remove(void **state);

/* A path below $GT_BUILD (build/release where unset); freed by the caller. */
char *built(const char *relative);

/* How many descriptors this process has open: a leak shows as a difference. */
int open_fds(void);
/* The same, once it is `wanted` or 30 s have passed: threads of the engine and of drivers have descriptors open for moments. */
int open_fds_settled(int wanted);
