/*
 * worker.c - threads for what must not hold up the monitor or a timer: clean-up after exits, restarts, health probes.
 *
 * A job may wait long for a container's `op`, so the pool grows: a job that finds no idle thread gets a new one (at most MAX_THREADS; then it
 * queues). A thread that has been idle for IDLE ends.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "engine/internal.h"

#define MAX_THREADS 256
#define IDLE (10 * GT_SECOND)
#define STACK (512 * 1024)

struct job {
	void (*fn)(void *arg);
	void *arg;
	struct job *next;
};

struct gt_workers {
	pthread_mutex_t lock;           /* guards all below */
	pthread_cond_t work, ended;
	struct job *first, **last;
	size_t threads, idle, queued;
	bool closing;
};

/* With the lock held: the next job, or NULL where the thread is to end. */
static struct job *next_job(struct gt_workers *workers)
{
	struct timespec until = gt_deadline(IDLE);
	while (!workers->first) {
		if (workers->closing)
			return NULL;
		workers->idle++;
		int rc = pthread_cond_timedwait(&workers->work, &workers->lock, &until);
		workers->idle--;
		if (rc == ETIMEDOUT && !workers->first)
			return NULL;
	}
	struct job *job = workers->first;
	workers->first = job->next;
	if (!workers->first)
		workers->last = &workers->first;
	workers->queued--;
	return job;
}

static void *work(void *arg)
{
	struct gt_workers *workers = arg;
	struct job *job;
	pthread_mutex_lock(&workers->lock);
	while ((job = next_job(workers)) != NULL) {
		pthread_mutex_unlock(&workers->lock);
		job->fn(job->arg);
		free(job);
		pthread_mutex_lock(&workers->lock);
	}
	if (--workers->threads == 0)
		pthread_cond_broadcast(&workers->ended);
	pthread_mutex_unlock(&workers->lock);
	return NULL;
}

/* With the lock held. */
static void grow(struct gt_workers *workers)
{
	pthread_t thread;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
#ifndef GT_SANITIZED
	pthread_attr_setstacksize(&attr, STACK);
#endif
	if (pthread_create(&thread, &attr, work, workers) == 0)
		workers->threads++;
	else if (!workers->threads)
		gt_err("no thread can be made: work waits until one can");
	pthread_attr_destroy(&attr);
}

void gt_work(struct gt_engine *engine, void (*fn)(void *arg), void *arg)
{
	struct gt_workers *workers = engine->workers;
	struct job *job = gt_xmalloc(sizeof *job);
	*job = (struct job){ .fn = fn, .arg = arg };
	LOCKED(&workers->lock);
	*workers->last = job;
	workers->last = &job->next;
	workers->queued++;
	if (workers->queued > workers->idle && workers->threads < MAX_THREADS)
		grow(workers);
	pthread_cond_signal(&workers->work);
}

struct gt_work_load gt_workers_load(struct gt_engine *engine)
{
	struct gt_workers *workers = engine->workers;
	LOCKED(&workers->lock);
	return (struct gt_work_load){ .threads = workers->threads, .queued = workers->queued };
}

int gt_workers_new(struct gt_engine *engine, struct gt_error *err)
{
	(void)err;
	struct gt_workers *workers = engine->workers = gt_xcalloc(1, sizeof *workers);
	pthread_mutex_init(&workers->lock, NULL);
	gt_cond_init(&workers->work);
	gt_cond_init(&workers->ended);
	workers->last = &workers->first;
	return 0;
}

void gt_workers_free(struct gt_engine *engine)
{
	struct gt_workers *workers = engine->workers;
	if (!workers)
		return;
	pthread_mutex_lock(&workers->lock);
	workers->closing = true;
	pthread_cond_broadcast(&workers->work);
	while (workers->threads > 0)
		pthread_cond_wait(&workers->ended, &workers->lock);
	pthread_mutex_unlock(&workers->lock);
	pthread_mutex_destroy(&workers->lock);
	pthread_cond_destroy(&workers->work);
	pthread_cond_destroy(&workers->ended);
	free(workers);
	engine->workers = NULL;
}
