/*
 * timer.c - things to do later: one thread sleeps until the earliest and hands it to a worker.
 *
 * A binary heap by time; ids are found by walking it, as timers are few (restarts, health checks, finished execs) and cancelled rarely. The thread
 * is made with the first timer: an idle daemon has none and does not poll.
 */
#include <stdlib.h>
#include <time.h>

#include "engine/internal.h"

struct timer {
	int64_t at;             /* CLOCK_MONOTONIC, ns */
	uint64_t id;
	void (*fn)(void *arg);
	void *arg;
};

struct gt_timers {
	pthread_mutex_t lock;           /* guards all below */
	pthread_cond_t changed;
	struct timer *heap;
	size_t count, room;
	uint64_t next_id;
	bool closing, started;
	pthread_t thread;
};

size_t gt_timers_count(struct gt_engine *engine)
{
	LOCKED(&engine->timers->lock);
	return engine->timers->count;
}

static void swap(struct timer *a, struct timer *b)
{
	struct timer other = *a;
	*a = *b;
	*b = other;
}

static void sift_up(struct gt_timers *timers, size_t i)
{
	while (i > 0 && timers->heap[i].at < timers->heap[(i - 1) / 2].at) {
		swap(&timers->heap[i], &timers->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
}

static void sift_down(struct gt_timers *timers, size_t i)
{
	for (;;) {
		size_t least = i, left = 2 * i + 1, right = left + 1;
		if (left < timers->count && timers->heap[left].at < timers->heap[least].at)
			least = left;
		if (right < timers->count && timers->heap[right].at < timers->heap[least].at)
			least = right;
		if (least == i)
			return;
		swap(&timers->heap[i], &timers->heap[least]);
		i = least;
	}
}

static struct timer take_at(struct gt_timers *timers, size_t i)
{
	struct timer taken = timers->heap[i];
	timers->heap[i] = timers->heap[--timers->count];
	if (i < timers->count) {
		sift_up(timers, i);
		sift_down(timers, i);
	}
	return taken;
}

static void *run(void *arg)
{
	struct gt_engine *engine = arg;
	struct gt_timers *timers = engine->timers;
	LOCKED(&timers->lock);
	while (!timers->closing) {
		int64_t now = gt_monotonic();
		if (!timers->count) {
			pthread_cond_wait(&timers->changed, &timers->lock);
		} else if (timers->heap[0].at > now) {
			struct timespec until = gt_deadline(timers->heap[0].at - now);
			pthread_cond_timedwait(&timers->changed, &timers->lock, &until);
		} else {
			struct timer due = take_at(timers, 0);
			gt_work(engine, due.fn, due.arg);
		}
	}
	return NULL;
}

uint64_t gt_timer_after(struct gt_engine *engine, int64_t delay, void (*fn)(void *arg), void *arg)
{
	struct gt_timers *timers = engine->timers;
	LOCKED(&timers->lock);
	if (!timers->started && !timers->closing)
		timers->started = pthread_create(&timers->thread, NULL, run, engine) == 0;
	if (timers->count == timers->room) {
		timers->room = timers->room ? timers->room * 2 : 32;
		timers->heap = gt_xrealloc(timers->heap, timers->room * sizeof *timers->heap);
	}
	int64_t now = gt_monotonic();
	timers->heap[timers->count] = (struct timer){ .at = delay > INT64_MAX - now ? INT64_MAX : now + delay, .id = ++timers->next_id, .fn = fn,
						      .arg = arg };
	sift_up(timers, timers->count++);
	pthread_cond_signal(&timers->changed);
	return timers->next_id;
}

bool gt_timer_cancel(struct gt_engine *engine, uint64_t id)
{
	struct gt_timers *timers = engine->timers;
	LOCKED(&timers->lock);
	for (size_t i = 0; id && i < timers->count; i++) {
		if (timers->heap[i].id == id) {
			take_at(timers, i);
			return true;
		}
	}
	return false;
}

int gt_timers_new(struct gt_engine *engine, struct gt_error *err)
{
	(void)err;
	engine->timers = gt_xcalloc(1, sizeof *engine->timers);
	pthread_mutex_init(&engine->timers->lock, NULL);
	gt_cond_init(&engine->timers->changed);
	return 0;
}

void gt_timers_stop(struct gt_engine *engine)
{
	struct gt_timers *timers = engine->timers;
	if (!timers)
		return;
	pthread_mutex_lock(&timers->lock);
	timers->closing = true;
	bool started = timers->started;
	pthread_cond_signal(&timers->changed);
	pthread_mutex_unlock(&timers->lock);
	if (started)
		pthread_join(timers->thread, NULL);
}

/* What is still waiting runs at once, so that arguments are freed by those who know how: they see engine->closing. */
void gt_timers_free(struct gt_engine *engine)
{
	struct gt_timers *timers = engine->timers;
	if (!timers)
		return;
	while (timers->count) {
		struct timer due = take_at(timers, timers->count - 1); /* first out: it is not to be cancelled by its own function */
		due.fn(due.arg);
	}
	free(timers->heap);
	pthread_mutex_destroy(&timers->lock);
	pthread_cond_destroy(&timers->changed);
	free(timers);
	engine->timers = NULL;
}
