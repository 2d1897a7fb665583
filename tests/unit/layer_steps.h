/*
 * layer_steps.h - what tests of storage drivers do with layers, whatever the driver. All of it fails the test where something does not go as it should.
 */
#pragma once

#include "driver_fixture.h"

/* A layer of an image that is being made: its directory, the caller's. */
int begin_layer(struct gt_driver *driver, const char *id, const char *parent);
void seal_layer(struct gt_driver *driver, const char *id);
/* Directories end with a slash; files hold their own names. */
void fill_layer(int dirfd, const char *const *paths);
#define PATHS(...) ((const char *const[]){ __VA_ARGS__, NULL })
void remove_all(int dirfd, const char *path);
/* For gt_layer_diff: appends "A /path" and the like, a line each, to a struct gt_buf. */
int note_change(void *arg, int kind, const char *path);
/* The driver tells exactly these changes ("A /path", "C", "D", a line each), in this order, and keeps no descriptor. */
void assert_changes(struct gt_driver *driver, const char *id, const char *wanted);
