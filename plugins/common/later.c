/*
 * common/later.c - see later.h.
 */
#include "common/later.h"

#include <stdlib.h>
#include <time.h>

#include "common/values.h"

#define PATIENCE_NS 300000000LL
#define STACK_SIZE ((size_t)256 * 1024)

struct later_look {
	struct later_look *next;
	struct later_what what;
	int64_t due_ns;                 /* CLOCK_MONOTONIC */
};

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void look_now(const struct later *later, const struct later_what *what)
{
	struct gantry_error err = { .size = sizeof err };
	if (later->look(what, &err) < 0)
		log_line(later->host, GANTRY_WARN, "a container's link is left: %s", err.message);
}

static void *look_after(void *arg)
{
	struct later *later = arg;
	pthread_mutex_lock(&later->lock);
	while (!later->stop) {
		struct later_look *first = later->first;
		if (!first) {
			pthread_cond_wait(&later->wake, &later->lock);
		} else if (first->due_ns > now_ns()) {
			struct timespec due = { .tv_sec = first->due_ns / 1000000000, .tv_nsec = first->due_ns % 1000000000 };
			pthread_cond_timedwait(&later->wake, &later->lock, &due);
		} else {
			later->first = first->next;
			pthread_mutex_unlock(&later->lock);
			look_now(later, &first->what);
			free(first);
			pthread_mutex_lock(&later->lock);
		}
	}
	pthread_mutex_unlock(&later->lock);
	return NULL;
}

int later_open(struct later *later, const struct gantry_host *host, int (*look)(const struct later_what *what, struct gantry_error *err),
	       struct gantry_error *err)
{
	pthread_condattr_t attributes;
	*later = (struct later){ .host = host, .look = look };
	pthread_mutex_init(&later->lock, NULL);
	pthread_condattr_init(&attributes);
	int rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&later->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	return rc ? gantry_fail_errno(err, GANTRY_E_INTERNAL, rc, "use the monotonic clock") : 0;
}

void later_close(struct later *later)
{
	pthread_mutex_lock(&later->lock);
	later->stop = true;
	pthread_cond_signal(&later->wake);
	pthread_mutex_unlock(&later->lock);
	if (later->runs)
		pthread_join(later->thread, NULL);
	for (struct later_look *next, *each = later->first; each; each = next) {
		next = each->next;
		free(each);
	}
	pthread_cond_destroy(&later->wake);
	pthread_mutex_destroy(&later->lock);
}

/* With the lock held. */
static int start_thread(struct later *later)
{
	pthread_attr_t attributes;
	if (later->runs)
		return 0;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	int rc = pthread_create(&later->thread, &attributes, look_after, later);
	pthread_attr_destroy(&attributes);
	later->runs = rc == 0;
	return rc;
}

int later_expect(struct later *later, const struct later_what *what, struct gantry_error *err)
{
	struct later_look *entry = malloc(sizeof *entry);
	if (!entry)
		return later->look(what, err);
	*entry = (struct later_look){ .what = *what, .due_ns = now_ns() + PATIENCE_NS };
	pthread_mutex_lock(&later->lock);
	int rc = start_thread(later);
	if (rc == 0) {
		struct later_look **end = &later->first;
		while (*end)
			end = &(*end)->next;
		*end = entry;
		pthread_cond_signal(&later->wake);
	}
	pthread_mutex_unlock(&later->lock);
	if (rc == 0)
		return 0;
	free(entry);
	return later->look(what, err);
}
