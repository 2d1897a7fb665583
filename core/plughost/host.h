/*
 * host.h - gantry-plugin-host: one plugin in a process of its own, for the daemon (core/driver/remote).
 *
 * main.c    the process: it gives up what drivers of its kind do not need, maps the plugin, tells what it is, and makes a thread for each channel
 * serve.c   calls from a channel to the driver and back
 * diet.c    what is given up
 *
 * Descriptors: 2 the daemon's standard error, 3 the control socket, 4 the plugin's file. The process ends with the daemon's thread that started it, and
 * when the control socket is closed.
 */
#pragma once

#include <pthread.h>

#include "driver/internal.h"
#include "driver/remote/wire.h"

#define CONTROL_FD 3
#define PLUGIN_FD 4

struct host {
	struct plugin *plugin;
	struct gt_drivers all;          /* of it, cancelled alone */
	pthread_mutex_t control_lock;   /* writers of the control socket */
	pthread_mutex_t members_lock;   /* of those below; a member is open from its open() to its close() */
	struct driver **members;     /* drivers of families, by number; NULL: not open */
	size_t member_count;
};

/* ---- serve.c ---- */

/* A thread that serves the channel until it is closed. Returns -1 with errno. */
int serve_begin(struct host *host, int channel);
/* The host table's log and event: to the daemon. */
void serve_log(const struct gantry_host *table, int level, const char *message);
void serve_event(const struct gantry_host *table, const char *object, const char *action, const char *detail);

/* ---- diet.c ---- */

/* Before foreign code runs: what no driver needs. */
int diet_begin(struct gt_error *err);
/* Once it is known which kinds there are: kinds has the bit 1 << kind for each. */
int diet_finish(unsigned kinds, struct gt_error *err);
