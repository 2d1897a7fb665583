/*
 * common/later.h - looks at what the kernel should have removed by itself a while ago: one thread, begun when it is first needed.
 *
 * The kernel removes a namespace's links by itself within milliseconds, many at a time. Removing one by hand costs more than that (the kernel waits for
 * all its readers, each time, with everybody's link changes held up), so a container's end does not wait for it: the thread looks a while later, and removes
 * what is still there because something else keeps the namespace alive.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <gantry/plugin.h>

struct later_look;
/* What is looked for: a driver fills in what it knows it by. */
struct later_what {
	int ifindex;                    /* of the link */
	int nsid;                       /* of the namespace it is in, -1: the host's */
	char id[65];                    /* of its endpoint */
};

struct later {
	const struct gantry_host *host;
	/* Called by the thread, a while after later_expect(): removes what is still there. Errors are logged. */
	int (*look)(const struct later_what *what, struct gantry_error *err);
	pthread_mutex_t lock;           /* guards what follows */
	pthread_cond_t wake;
	struct later_look *first;       /* oldest first */
	pthread_t thread;
	bool runs, stop;
};

int later_open(struct later *later, const struct gantry_host *host, int (*look)(const struct later_what *what, struct gantry_error *err),
	       struct gantry_error *err);
/* What waits still is left to the next start's sweep. */
void later_close(struct later *later);
/* Returns at once; where there is no thread or memory to be had, it looks now. */
int later_expect(struct later *later, const struct later_what *what, struct gantry_error *err);
