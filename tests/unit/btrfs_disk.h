/*
 * btrfs_disk.h - for the tests of the btrfs driver: a file system of the test's own (an image file, made and mounted for each test in the test's mount
 * namespace, so that it goes with the process whatever happens), the driver on it, and what tests do with layers.
 *
 * All of it fails the test where something does not go as it should; descriptors are the caller's.
 */
#pragma once

#include "layer_steps.h"

/* Set-up and teardown of each test. */
int btrfs_disk_make(void **state);
int btrfs_disk_remove(void **state);
#define TEST_ON_BTRFS(name) cmocka_unit_test_setup_teardown(name, btrfs_disk_make, btrfs_disk_remove)

bool btrfs_is_here(void);
/* Runs a program, silently: its exit status, or -1. */
int run_program(const char *const *words);
#define RUN(...) run_program((const char *const[]){ __VA_ARGS__, NULL })

/* The driver, with lines of its INI section; the test is skipped where there is no btrfs. */
struct gt_driver *open_btrfs(void **state, const char *more);
struct gt_driver *reopen_btrfs(void **state);
/* A directory of the driver's state, and the number of its entries. */
int state_dir(void **state, const char *below);
int count_entries(void **state, const char *below);
/* All subvolumes of the file system, as `btrfs subvolume list` tells them. */
int count_subvolumes(void **state);
/* As a privileged container may make one. */
void make_subvolume(int dirfd, const char *name);

/* A sealed layer with one file, named as the layer. */
void image_layer(struct gt_driver *driver, const char *id, const char *parent);
void writable_layer(struct gt_driver *driver, const char *id, const char *parent);
int mount_layer(struct gt_driver *driver, const char *id, bool read_only);
void remove_layer(struct gt_driver *driver, const char *id);

void assert_holds(int dirfd, const char *path, const char *text);
/* The driver's list: each name followed by a space. */
void assert_layers(struct gt_driver *driver, const char *wanted);
void assert_usage_of(struct gt_driver *driver, const char *id, int64_t bytes, int64_t inodes);
