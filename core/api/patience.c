/*
 * patience.c - how long a client may take over a request's head, and over its body where that is JSON.
 *
 * MHD's own timeout begins anew with each byte: a client that sends one now and then would keep its connection, with a thread and memory, for ever. Here
 * time runs from the connection's beginning, from the end of the head, and from the end of the last answer. A connection whose time is up is
 * shut down, and MHD ends it as one whose client hung up. Bodies that are streams have no such end: who feeds them may wait for somebody else.
 *
 * A list for each kind of wait, in the order of their ends, as the waits of a kind are equally long. The thread sleeps until the first that it knew of
 * when it fell asleep; nobody wakes it but one that ends before. So a daemon that nobody talks to does nothing.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "api/internal.h"
#include "base/clock.h"
#include "base/log.h"

enum { STACK = 128 << 10 };

/* One connection. All is guarded by the lock of struct patience. */
struct wait {
	int fd;                         /* open until patience_forget() */
	int64_t until;
	struct wait *next, **slot;      /* slot NULL: nothing is waited for */
	enum patience_kind kind;
};

struct list {
	int64_t patience;               /* ns */
	struct wait *first, **last;
};

struct patience {
	pthread_mutex_t lock;           /* guards all below */
	pthread_cond_t changed;
	struct list lists[PATIENCE_KINDS];
	int64_t wakes;                  /* when the thread looks next; INT64_MAX: when it is told to */
	bool stopping;
	pthread_t thread;
};

static void unlink_wait(struct patience *patience, struct wait *wait)
{
	if (!wait->slot)
		return;
	*wait->slot = wait->next;
	if (wait->next)
		wait->next->slot = wait->slot;
	else
		patience->lists[wait->kind].last = wait->slot;
	wait->slot = NULL;
}

/* Ends those whose time is up. Returns when the next one's is. */
static int64_t end_late(struct patience *patience)
{
	int64_t now = gt_monotonic(), next = INT64_MAX;
	for (size_t i = 0; i < PATIENCE_KINDS; i++) {
		struct wait *wait;
		while ((wait = patience->lists[i].first) != NULL && wait->until <= now) {
			unlink_wait(patience, wait);
			shutdown(wait->fd, SHUT_RDWR);
			gt_debug("a client took too long over a request: its connection is ended");
		}
		if (wait && wait->until < next)
			next = wait->until;
	}
	return next;
}

static void *run(void *arg)
{
	struct patience *patience = arg;
	LOCKED(&patience->lock);
	while (!patience->stopping) {
		patience->wakes = end_late(patience);
		struct timespec until = { .tv_sec = patience->wakes / GT_SECOND, .tv_nsec = patience->wakes % GT_SECOND };
		if (patience->wakes == INT64_MAX)
			pthread_cond_wait(&patience->changed, &patience->lock);
		else
			pthread_cond_timedwait(&patience->changed, &patience->lock, &until);
	}
	return NULL;
}

int patience_start(int64_t request_seconds, struct patience **out, struct gt_error *err)
{
	struct patience *patience = gt_xcalloc(1, sizeof *patience);
	patience->lists[PATIENCE_REQUEST].patience = request_seconds * GT_SECOND;
	patience->lists[PATIENCE_IDLE].patience = IDLE_TIMEOUT * GT_SECOND;
	for (size_t i = 0; i < PATIENCE_KINDS; i++)
		patience->lists[i].last = &patience->lists[i].first;
	patience->wakes = INT64_MAX;
	pthread_mutex_init(&patience->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&patience->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
#ifndef GT_SANITIZED
	pthread_attr_setstacksize(&attr, STACK);
#endif
	int rc = pthread_create(&patience->thread, &attr, run, patience);
	pthread_attr_destroy(&attr);
	if (rc == 0) {
		*out = patience;
		return 0;
	}
	pthread_cond_destroy(&patience->changed);
	pthread_mutex_destroy(&patience->lock);
	free(patience);
	return gt_fail_errno(err, rc, "start the thread that ends slow clients");
}

void patience_stop(struct patience *patience)
{
	if (!patience)
		return;
	pthread_mutex_lock(&patience->lock);
	patience->stopping = true;
	pthread_cond_signal(&patience->changed);
	pthread_mutex_unlock(&patience->lock);
	pthread_join(patience->thread, NULL);
	pthread_cond_destroy(&patience->changed);
	pthread_mutex_destroy(&patience->lock);
	free(patience);
}

/* ---- by connections' threads ---- */

struct wait *patience_new(int fd)
{
	struct wait *wait = gt_xcalloc(1, sizeof *wait);
	wait->fd = fd;
	return wait;
}

void patience_begin(struct patience *patience, struct wait *wait, enum patience_kind kind)
{
	struct list *list = &patience->lists[kind];
	LOCKED(&patience->lock);
	unlink_wait(patience, wait);
	wait->kind = kind;
	wait->until = gt_monotonic() + list->patience;
	wait->next = NULL;
	wait->slot = list->last;
	*list->last = wait;
	list->last = &wait->next;
	if (wait->until < patience->wakes) {
		patience->wakes = wait->until;
		pthread_cond_signal(&patience->changed);
	}
}

void patience_end(struct patience *patience, struct wait *wait)
{
	LOCKED(&patience->lock);
	unlink_wait(patience, wait);
}

void patience_forget(struct patience *patience, struct wait *wait)
{
	patience_end(patience, wait);
	free(wait);
}
