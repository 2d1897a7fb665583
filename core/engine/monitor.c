/*
 * monitor.c - one thread that hears from all shims.
 *
 * It only records: an exit goes under the container's lock, and a worker is asked to settle it. It never takes `op`, never calls a driver, never
 * waits. Each watched container is referenced until its shim's line closes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/internal.h"

struct gt_monitor {
	int epoll, wake;
	pthread_t thread;
};

static void settle_job(void *arg)
{
	struct gt_container *ctr = arg;
	pthread_mutex_lock(&ctr->op);
	if (!ctr->engine->closing)
		gt_exit_settle(ctr);
	pthread_mutex_unlock(&ctr->op);
	gt_container_put(ctr);
}

static void record_exit(struct gt_container *ctr, const struct gt_shim_event *event)
{
	pthread_mutex_lock(&ctr->lock);
	ctr->exit = *event;
	ctr->exit_seen = true;
	if (event->oom)
		ctr->oom = true;
	pthread_cond_broadcast(&ctr->changed);
	pthread_mutex_unlock(&ctr->lock);
	gt_work(ctr->engine, settle_job, gt_container_ref(ctr));
}

static void record_oom(struct gt_container *ctr)
{
	pthread_mutex_lock(&ctr->lock);
	ctr->oom = true;
	pthread_mutex_unlock(&ctr->lock);
	gt_container_event(ctr, "oom", NULL);
}

/* Everything that waits on one shim's line. After its exit the line is not watched any more. */
static void hear(struct gt_monitor *monitor, struct gt_container *ctr)
{
	struct gt_shim_event event = { 0 };
	while (gt_shim_event(ctr->shim, &event) == 1) {
		switch (event.type) {
		case GT_SHIM_EXEC_EXIT:
			gt_exec_exited(ctr, &event);
			break;
		case GT_SHIM_OOM:
			record_oom(ctr);
			break;
		case GT_SHIM_EXIT:
		case GT_SHIM_GONE:
			epoll_ctl(monitor->epoll, EPOLL_CTL_DEL, gt_shim_event_fd(ctr->shim), NULL);
			record_exit(ctr, &event);
			gt_container_put(ctr);
			return;
		}
		event = (struct gt_shim_event){ 0 };
	}
}

static void *run(void *arg)
{
	struct gt_engine *engine = arg;
	struct epoll_event ready[64];
	for (;;) {
		int n = epoll_wait(engine->monitor->epoll, ready, GT_COUNT(ready), -1);
		for (int i = 0; i < n; i++) {
			if (!ready[i].data.ptr)
				return NULL;
			hear(engine->monitor, ready[i].data.ptr);
		}
	}
}

int gt_monitor_add(struct gt_container *ctr, struct gt_error *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = gt_container_ref(ctr) };
	if (epoll_ctl(ctr->engine->monitor->epoll, EPOLL_CTL_ADD, gt_shim_event_fd(ctr->shim), &event) == 0)
		return 0;
	int errnum = errno;
	gt_container_put(ctr);
	return gt_fail_errno(err, errnum, "watch the shim of container %s", ctr->id);
}

int gt_monitor_new(struct gt_engine *engine, struct gt_error *err)
{
	struct gt_monitor *monitor = gt_xcalloc(1, sizeof *monitor);
	monitor->epoll = epoll_create1(EPOLL_CLOEXEC);
	monitor->wake = eventfd(0, EFD_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	engine->monitor = monitor;
	if (monitor->epoll < 0 || monitor->wake < 0 || epoll_ctl(monitor->epoll, EPOLL_CTL_ADD, monitor->wake, &event) < 0 ||
	    (errno = pthread_create(&monitor->thread, NULL, run, engine)) != 0) {
		int errnum = errno;
		close(monitor->epoll);
		close(monitor->wake);
		free(monitor);
		engine->monitor = NULL;
		return gt_fail_errno(err, errnum, "start the monitor of containers");
	}
	return 0;
}

void gt_monitor_free(struct gt_engine *engine)
{
	struct gt_monitor *monitor = engine->monitor;
	if (!monitor)
		return;
	uint64_t one = 1;
	if (write(monitor->wake, &one, sizeof one) == sizeof one)
		pthread_join(monitor->thread, NULL);
	close(monitor->epoll);
	close(monitor->wake);
	free(monitor);
	engine->monitor = NULL;
}
