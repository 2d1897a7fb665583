/*
 * kit.h - the conformance kit, `gantry plugin check FILE.so`: a driver is loaded as the daemon loads it, in namespaces and a directory of the kit's own,
 * and every rule of <gantry/plugin.h> that can be seen from outside is tried. No daemon is needed.
 *
 *   main.c      the command; namespaces, the configuration, one suite for each driver of the plugin
 *   report.c    TAP, version 13: a line for each rule, with the driver's words where it fails
 *   traces.c    what a driver leaves in the process: descriptors, threads, mounts, links, signal handlers, umask, directory
 *   volume.c, storage.c, network.c    the suites
 *
 * A suite works on a driver that has just been opened with empty state. It calls restart() to close the plugin and load it anew, as a daemon's restart does, and
 * reload() to do so under the feet of what is in use.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "driver/driver.h"

struct kit {
	const char *file;               /* the plugin, absolute */
	char *plugin;                   /* its name */
	const char *driver_name;
	enum gantry_kind kind;
	struct gt_config *config;
	struct gt_drivers *drivers;
	struct gt_driver *driver;       /* in use; another one after restart() */
	char *work;                     /* a directory of the suites */
	struct traces *before;          /* what there was before the plugin was loaded, or after the suite before this */
	unsigned tests, failed;
};

/* ---- report.c ---- */

/* One rule. err: what the driver said, shown where it failed; may be NULL, and is cleared. Returns ok. */
bool check(struct kit *kit, bool ok, struct gt_error *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* A rule that cannot be tried here. */
void skip(struct kit *kit, const char *why, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diagnose(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The call failed (rc < 0) with that kind, and its sentence names `word` (NULL: any). */
bool check_refused(struct kit *kit, int rc, enum gt_kind kind, const char *word, struct gt_error *err, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

/* ---- main.c ---- */

/* As a daemon's restart: close() and open() again on the same state. False where the driver does not come back. */
bool restart(struct kit *kit);
/* As gantry plugin reload while containers run: what is in use has to stay. False where the driver does not come back. */
bool reload(struct kit *kit);
/* fn(kit, number) in `threads` threads at once; true where all returned true. */
bool at_once(struct kit *kit, unsigned threads, bool (*fn)(struct kit *kit, unsigned number));

/* ---- traces.c ---- */

struct traces *traces_take(void);
/* Tells each difference as a failed rule, or their absence as a kept one. Takes `before` over and returns what is there now, to compare with next. */
struct traces *traces_check(struct kit *kit, struct traces *before);
void traces_free(struct traces *traces);

/* ---- suites ---- */
void check_volume_driver(struct kit *kit);
void check_storage_driver(struct kit *kit);
void check_network_driver(struct kit *kit);
