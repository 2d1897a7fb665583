/* loop.c - epoll, see loop.h. */
#include "shim/loop.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"

int gt_loop_open(struct gt_loop *loop, struct gt_error *err)
{
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	return loop->epoll < 0 ? gt_fail_sys(err, GT_INTERNAL, errno, "make an epoll instance") : 0;
}

void gt_loop_close(struct gt_loop *loop)
{
	if (loop->epoll >= 0)
		close(loop->epoll);
	loop->epoll = -1;
}

int gt_loop_add(struct gt_loop *loop, struct gt_source *source, int fd, uint32_t events, struct gt_error *err)
{
	struct epoll_event event = { .events = events, .data.ptr = source };
	if (events && epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "watch a descriptor");
	source->fd = fd;
	source->events = events;
	return 0;
}

/* What this round still has to tell it is not told. */
static void forget(struct gt_loop *loop, const struct gt_source *source)
{
	for (int i = 0; i < loop->batch_count; i++) {
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
	}
}

void gt_loop_want(struct gt_loop *loop, struct gt_source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };
	if (source->fd < 0 || source->events == events)
		return;
	int op = !events ? EPOLL_CTL_DEL : !source->events ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	if (epoll_ctl(loop->epoll, op, source->fd, &event) == 0)
		source->events = events;
	if (!events)
		forget(loop, source);
}

int gt_loop_remove(struct gt_loop *loop, struct gt_source *source)
{
	int fd = source->fd;
	if (fd < 0)
		return -1;
	if (source->events)
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
	forget(loop, source);
	source->fd = -1;
	source->events = 0;
	return fd;
}

void gt_loop_drop(struct gt_loop *loop, struct gt_source *source)
{
	int fd = gt_loop_remove(loop, source);
	if (fd >= 0)
		close(fd);
}

void gt_loop_run(struct gt_loop *loop)
{
	struct epoll_event batch[32];
	int64_t last = gt_monotonic();
	while (!loop->stop) {
		int n = epoll_wait(loop->epoll, batch, GT_COUNT(batch), loop->tick_ms ? loop->tick_ms : -1);
		loop->batch = batch;
		loop->batch_count = n > 0 ? n : 0;
		for (int i = 0; i < n; i++) {
			struct gt_source *source = batch[i].data.ptr;
			if (source)
				source->ready(source, batch[i].events);
		}
		loop->batch_count = 0;
		/* A busy loop never times out, and yet somebody may be stalled. */
		if (loop->tick_ms && gt_monotonic() - last >= loop->tick_ms * GT_MILLISECOND) {
			last = gt_monotonic();
			loop->tick(loop->owner);
		}
		loop->after(loop->owner);
	}
}
