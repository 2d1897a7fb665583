#include "base/netns.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

struct visit {
	int netns;
	int (*fn)(void *arg);
	void *arg;
	int rc, errnum;
};

static void *visit_main(void *arg)
{
	struct visit *visit = arg;
	/* This thread alone moves, and it ends there. */
	if (setns(visit->netns, CLONE_NEWNET) < 0)
		visit->errnum = errno;
	else
		visit->rc = visit->fn(visit->arg);
	return NULL;
}

int gt_in_netns(int netns_fd, int (*fn)(void *arg), void *arg, struct gt_error *err)
{
	struct visit visit = { .netns = netns_fd, .fn = fn, .arg = arg };
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, visit_main, &visit);
	if (rc)
		return gt_fail_sys(err, GT_INTERNAL, rc, "start a thread for a network namespace");
	pthread_join(thread, NULL);
	if (visit.errnum)
		return gt_fail_sys(err, GT_INTERNAL, visit.errnum, "enter the network namespace of descriptor %d", netns_fd);
	return visit.rc;
}
