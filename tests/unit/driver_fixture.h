/*
 * driver_fixture.h - drivers in a scratch directory: a configuration of its own, a plugin directory that tests fill, and mounts performed in the
 * test's own mount namespace.
 */
#pragma once

#include "base/auto.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/fd.h"
#include "config/config.h"
#include "driver/driver.h"
#include "testing.h"

struct drivers_fixture {
	char *dir;                      /* scratch; below it root/, run/, plugins/, gantryd.ini */
	struct gt_config *config;
	struct gt_drivers *drivers;
	struct gt_strings planted;      /* names */
	const char *programs;           /* libexec_dir; NULL: what was built */
};

/* Plugins get processes of their own: isolate = process. Set by run_both(). */
extern bool drivers_isolated;
/* Runs the tests with drivers in this process, and then in processes of their own. Returns what main() returns. */
int run_both(const char *name, const struct CMUnitTest *tests, size_t count);

/* Setup and teardown; *state is a struct drivers_fixture *. Logs are silenced below errors. */
int drivers_make(void **state);
int drivers_remove(void **state);

/* Copies a built file ("plugins/net-host.so", "tests/plugins/plain.so") to plugins/<as>, owned by root, mode 0644. */
void plant_plugin(struct drivers_fixture *fixture, const char *built_file, const char *as);
/* Writes gantryd.ini with [daemon] paths and `more` after them, and loads it. The [daemon] section has 4 lines. */
void configure_drivers(struct drivers_fixture *fixture, const char *more);
int load_drivers(struct drivers_fixture *fixture, struct gt_error *err);
/* configure_drivers() and load_drivers(), which must work. */
void start_drivers(struct drivers_fixture *fixture, const char *more);
void stop_drivers(struct drivers_fixture *fixture);

/* The reason why plugins/<file> was refused, NULL where it was not. Freed by the caller. */
char *refusal_of(struct drivers_fixture *fixture, const char *file);

#define assert_ok(call, err)                                                                    \
	do {                                                                                    \
		if ((call) < 0)                                                                 \
			fail_msg("%s: %s", #call, (err).message);                               \
	} while (0)
#define assert_fails(call, err, kind_, text)                                                    \
	do {                                                                                    \
		gt_error_clear(&(err));                                                         \
		if ((call) >= 0)                                                                \
			fail_msg("%s: should have failed", #call);                              \
		assert_string_equal((err).message, text);                                       \
		assert_int_equal((err).kind, kind_);                                            \
	} while (0)

/* Makes a mount namespace of the test's own (once for each process). */
void own_mounts(void);
/* Performs a description; returns a directory descriptor of the detached mount, which closing unmounts. */
int perform(const struct gantry_mount *mount);

/* Small files below a directory descriptor. */
void put_file(int dirfd, const char *path, const char *text);
void put_dir(int dirfd, const char *path, mode_t mode);
char *get_file(int dirfd, const char *path);            /* "(none)" where it is missing */
bool exists(int dirfd, const char *path);
