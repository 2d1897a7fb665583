/*
 * loop.h - the shim's one event loop: descriptors and a coarse tick.
 *
 * A struct gt_source is part of its owner, who takes it out of the loop before freeing it; that is safe inside any callback, also one of another
 * source. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/error.h"

struct gt_source {
	int fd;                         /* -1: not in the loop */
	uint32_t events;                /* what the kernel was told last */
	void (*ready)(struct gt_source *source, uint32_t events);
	void *owner;
};

struct gt_loop {
	int epoll;
	bool stop;
	int tick_ms;                    /* 0: no tick is wanted */
	void (*tick)(void *owner);
	void (*after)(void *owner);     /* after each round: what must not happen inside a callback */
	void *owner;
	struct epoll_event *batch;      /* what is being dispatched */
	int batch_count;
};

int gt_loop_open(struct gt_loop *loop, struct gt_error *err);
void gt_loop_close(struct gt_loop *loop);

/* Sets fd and events and enters the source. */
int gt_loop_add(struct gt_loop *loop, struct gt_source *source, int fd, uint32_t events, struct gt_error *err);
/* events 0: nothing is told, not even a hang-up (epoll would tell of that again and again); EPOLLERR alone: only errors and hang-ups. */
void gt_loop_want(struct gt_loop *loop, struct gt_source *source, uint32_t events);
/* Takes it out; returns its fd, now the caller's, -1 where it was not in. */
int gt_loop_remove(struct gt_loop *loop, struct gt_source *source);
/* The same, and closes the fd. */
void gt_loop_drop(struct gt_loop *loop, struct gt_source *source);

/* Until loop->stop. */
void gt_loop_run(struct gt_loop *loop);
