#include "base/parallel.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/auto.h"

#define MAX_THREADS 16
#define STACK (512 * 1024)

struct work {
	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t count;
	_Atomic size_t next;
};

static void *run(void *arg)
{
	struct work *work = arg;
	for (size_t i; (i = atomic_fetch_add(&work->next, 1)) < work->count;)
		work->fn(work->arg, i);
	return NULL;
}

void gt_parallel(size_t count, size_t threads, void (*fn)(void *arg, size_t i), void *arg)
{
	struct work work = { .fn = fn, .arg = arg, .count = count };
	pthread_t others[MAX_THREADS];
	size_t most = threads < count ? threads : count, started = 0;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
#ifndef GT_SANITIZED
	pthread_attr_setstacksize(&attr, STACK);
#endif
	while (started + 1 < most && started < MAX_THREADS && pthread_create(&others[started], &attr, run, &work) == 0)
		started++;
	pthread_attr_destroy(&attr);
	run(&work);
	for (size_t i = 0; i < started; i++)
		pthread_join(others[i], NULL);
}
