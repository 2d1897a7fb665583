/*
 * gate.c - the way into a driver, which is shut while the driver is changed.
 *
 * A call is counted in and out under one lock that nobody holds for longer than a few instructions, and which the list of calls under way needs anyway. What is
 * called is read under it too, so a driver that no call is in can be replaced.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "internal.h"

/* Waits for `moved`, until a time on CLOCK_MONOTONIC; noting is held. */
static void wait_until(struct gt_drivers *drivers, int64_t until)
{
	struct timespec time = { .tv_sec = until / GT_SECOND, .tv_nsec = until % GT_SECOND };
	pthread_cond_timedwait(&drivers->moved, &drivers->noting, &time);
}

/* ---- calls ---- */

/* A call that is made from within another one of the same driver is part of that. */
static bool is_within(const struct call_note *note)
{
	for (const struct call_note *other = note->driver->all->under_way; other; other = other->next) {
		if (other->driver == note->driver && other->thread == note->thread)
			return true;
	}
	return false;
}

static int wait_outside(const struct call_note *note, int64_t until, struct gt_error *err)
{
	struct gt_driver *driver = note->driver;
	while (driver->shut && !is_within(note)) {
		if (atomic_load(&driver->all->cancelled))
			return gt_fail(err, GT_UNAVAILABLE, "driver %s: the daemon goes down", driver->name);
		if (gt_monotonic() >= until)
			return gt_fail(err, GT_UNAVAILABLE, "driver %s: it is being reloaded, which takes long; try %s again later", driver->name, note->op);
		wait_until(driver->all, until);
	}
	return 0;
}

struct driver *gate_enter(struct call_note *note, int64_t time, struct gt_error *err)
{
	struct gt_driver *driver = note->driver;
	struct gt_drivers *drivers = driver->all;
	note->thread = gettid();
	LOCKED(&drivers->noting);
	if (driver->shut && wait_outside(note, gt_monotonic() + time, err) < 0)
		return NULL;
	if (!driver->now)
		return gt_fail_null(err, GT_UNAVAILABLE, "driver %s: it cannot be used: %s", driver->name, driver->why ? driver->why : "it is not open");
	driver->inside++;
	note->began = gt_monotonic();
	note->next = drivers->under_way;
	note->slot = &drivers->under_way;
	if (note->next)
		note->next->slot = &note->next;
	drivers->under_way = note;
	return driver->now;
}

void gate_leave(struct call_note *note, int rc)
{
	struct gt_driver *driver = note->driver;
	struct gt_drivers *drivers = driver->all;
	pthread_mutex_lock(&drivers->noting);
	*note->slot = note->next;
	if (note->next)
		note->next->slot = note->slot;
	driver->inside--;
	if (driver->awaited)
		pthread_cond_broadcast(&drivers->moved);
	pthread_mutex_unlock(&drivers->noting);
	if (rc > 0)
		return;
	gt_histogram_observe(&driver->time, gt_monotonic() - note->began);
	if (rc < 0)
		gt_counter_add(&driver->failures, 1);
}

/* ---- shut and open ---- */

static void set_all(struct gt_driver *const *list, size_t count, bool shut, bool awaited)
{
	for (size_t i = 0; i < count; i++) {
		list[i]->shut = shut;
		list[i]->awaited = awaited;
	}
}

static unsigned calls_in(struct gt_driver *const *list, size_t count)
{
	unsigned inside = 0;
	for (size_t i = 0; i < count; i++)
		inside += list[i]->inside;
	return inside;
}

static size_t layers_in(struct gt_driver *const *list, size_t count)
{
	size_t making = 0;
	for (size_t i = 0; i < count; i++)
		making += atomic_load(&list[i]->records.making);
	return making;
}

/* Until nothing is counted any more; false where it is too late. noting is held. */
static bool await_calls(struct gt_drivers *drivers, struct gt_driver *const *list, size_t count, int64_t until)
{
	while (calls_in(list, count)) {
		if (gt_monotonic() >= until || atomic_load(&drivers->cancelled))
			return false;
		wait_until(drivers, until);
	}
	return true;
}

static bool await_layers(struct gt_drivers *drivers, struct gt_driver *const *list, size_t count, int64_t until)
{
	while (layers_in(list, count)) {
		if (gt_monotonic() >= until || atomic_load(&drivers->cancelled))
			return false;
		wait_until(drivers, until);
	}
	return true;
}

/* "remove for 35 s, usage for 2 s", at most eight. noting is held. */
static void tell_calls(const struct gt_drivers *drivers, struct gt_driver *const *list, size_t count, struct gt_buf *out)
{
	int64_t now = gt_monotonic();
	unsigned told = 0;
	for (const struct call_note *note = drivers->under_way; note; note = note->next) {
		bool ours = false;
		for (size_t i = 0; i < count && !ours; i++)
			ours = note->driver == list[i];
		if (ours && told++ < 8)
			gt_buf_printf(out, "%s%s of driver %s for %lld s", out->len ? ", " : "", note->op, note->driver->name,
				      (long long)((now - note->began) / GT_SECOND));
	}
	if (told > 8)
		gt_buf_printf(out, " and %u more", told - 8);
}

static int fail_busy(const struct gt_drivers *drivers, struct gt_driver *const *list, size_t count, struct gt_error *err)
{
	AUTO_BUF struct gt_buf calls = { 0 };
	size_t layers = layers_in(list, count);
	tell_calls(drivers, list, count, &calls);
	if (!calls.len && layers)
		return gt_fail(err, GT_CONFLICT, "%zu %s being written (pulls, builds or loads are under way): try again when that is done", layers,
			       layers == 1 ? "layer of an image is" : "layers of images are");
	return gt_fail(err, GT_CONFLICT, "calls are still under way: %s; try again, or with a longer timeout", calls.len ? calls.data : "more and more");
}

/* An image layer that is begun is not sealed by one call: a moment is looked for in which there is none. */
int gates_shut(struct gt_drivers *drivers, struct gt_driver *const *list, size_t count, int64_t patience, struct gt_error *err)
{
	int64_t until = gt_monotonic() + patience;
	LOCKED(&drivers->noting);
	for (;;) {
		set_all(list, count, false, true);
		if (!await_layers(drivers, list, count, until))
			break;
		set_all(list, count, true, true);
		if (!await_calls(drivers, list, count, until))
			break;
		if (!layers_in(list, count)) {
			set_all(list, count, true, false);
			return 0;
		}
		set_all(list, count, false, true);
		pthread_cond_broadcast(&drivers->moved);
	}
	set_all(list, count, false, false);
	pthread_cond_broadcast(&drivers->moved);
	return atomic_load(&drivers->cancelled) ? gt_fail(err, GT_UNAVAILABLE, "the daemon goes down") : fail_busy(drivers, list, count, err);
}

void gates_open(struct gt_drivers *drivers, struct gt_driver *const *list, size_t count)
{
	LOCKED(&drivers->noting);
	set_all(list, count, false, false);
	pthread_cond_broadcast(&drivers->moved);
}

void gates_wake(struct gt_drivers *drivers)
{
	LOCKED(&drivers->noting);
	pthread_cond_broadcast(&drivers->moved);
}

/* ---- what is behind it ---- */

void gate_set(struct gt_driver *driver, struct driver *now, const char *why)
{
	LOCKED(&driver->all->noting);
	driver->now = now;
	free(driver->why);
	driver->why = why ? gt_xstrdup(why) : NULL;
	if (now)
		atomic_store(&driver->capabilities, now->capabilities);
}

bool gate_is_open(struct gt_driver *driver)
{
	LOCKED(&driver->all->noting);
	return driver->now != NULL;
}

char *gate_why(struct gt_driver *driver)
{
	LOCKED(&driver->all->noting);
	return driver->why ? gt_xstrdup(driver->why) : NULL;
}
