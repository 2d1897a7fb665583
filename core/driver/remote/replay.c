/*
 * replay.c - what a network or volume driver is told when its process has been started again: what driver/records.c has kept.
 *
 * A driver that watches other hosts gave the engine an eventfd of its process. The engine has one of ours instead; the process' thread passes the news on.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "remote.h"

void replay_free(struct remote *remote)
{
	for (size_t i = 0; i < GT_COUNT(remote->watches); i++) {
		if (remote->watches[i].relay > 0)
			close(remote->watches[i].relay);
		if (remote->watches[i].source > 0)
			close(remote->watches[i].source);
	}
}

/* ---- telling ---- */

/* To a process that nobody else calls yet. */
static int tell_early(struct driver *driver, enum wire_opcode op, struct wire_args *args, struct gantry_error *err)
{
	return remote_call_early(driver, driver->plugin->remote->control, op, args, err);
}

static int tell_watch(struct remote *remote, struct driver *driver, struct gantry_error *err)
{
	struct wire_args args = { .fd = -1 };
	struct watch *watch = &remote->watches[driver->index];
	uint64_t news = 1;
	if (watch->relay <= 0)
		return 0;
	if (remote_call_early(driver, remote->control, WIRE_network_watch, &args, err) < 0)
		return -1;
	if (watch->source > 0)
		close(watch->source);
	watch->source = args.fd;
	/* Whatever has happened meanwhile. */
	return write(watch->relay, &news, sizeof news) < 0 && errno != EAGAIN ? gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "pass on news") : 0;
}

int replay(struct driver *driver, struct gantry_error *err)
{
	if (driver->kind != GANTRY_NETWORK)
		return 0;
	return records_tell_networks(driver, tell_early, err) < 0 ? -1 : tell_watch(driver->plugin->remote, driver, err);
}

/* ---- volumes ---- */

#define USES_TIME (600 * GT_SECOND)     /* as the engine's own reconcile() has */

/* To the process that runs as the thread begins, and no other. */
static int tell_living(struct driver *driver, enum wire_opcode op, struct wire_args *args, struct gantry_error *err)
{
	struct remote *remote = driver->plugin->remote;
	return remote_call_life(driver, remote->told_life, op, gt_monotonic() + USES_TIME, args, err);
}

static void tell_uses(struct driver *driver)
{
	struct gantry_error why = { .size = sizeof why };
	if (records_tell_uses(driver, tell_living, &why) < 0)
		gt_warn("a driver could not look after the mounts of its volumes", "driver", driver->name, "error", why.message);
}

static void *tell_all_uses(void *arg)
{
	struct remote *remote = arg;
	for (size_t i = 0; i < remote->plugin->driver_count; i++)
		tell_uses(&remote->plugin->drivers[i]);
	AUTO_FREE struct driver **members = remote_members_open(remote);
	for (size_t i = 0; members[i]; i++)
		tell_uses(members[i]);
	return NULL;
}

/* Whether any of its volume drivers has been told its mounts. Before the first open() there is nothing to look at. */
static bool has_uses(struct remote *remote)
{
	AUTO_FREE struct driver **members = remote_members_open(remote);
	bool any = false;
	for (size_t i = 0; members[i] && !any; i++)
		any = atomic_load(&members[i]->records->reconciled);
	pthread_mutex_lock(&remote->lock);
	uint64_t opened = remote->opened;
	pthread_mutex_unlock(&remote->lock);
	for (size_t i = 0; opened >> i && !any; i++)
		any = (opened >> i & 1) && atomic_load(&remote->plugin->drivers[i].records->reconciled);
	return any;
}

void replay_uses_begin(struct remote *remote)
{
	if (!has_uses(remote))
		return;
	pthread_mutex_lock(&remote->lock);
	remote->told_life = remote->life;
	pthread_mutex_unlock(&remote->lock);
	int rc = pthread_create(&remote->teller, NULL, tell_all_uses, remote);
	remote->telling = rc == 0;
	if (rc)
		gt_warn("volume drivers are not told the mounts of their volumes", "plugin", remote->plugin->name, "error", strerror(rc));
}

void replay_uses_end(struct remote *remote)
{
	if (remote->telling)
		pthread_join(remote->teller, NULL);
	remote->telling = false;
}

/* ---- news of other hosts ---- */

int replay_watch(struct driver *driver, int source, struct gantry_error *err)
{
	struct remote *remote = driver->plugin->remote;
	uint64_t one = 1;
	int relay = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), engine = relay < 0 ? -1 : fcntl(relay, F_DUPFD_CLOEXEC, 0);
	if (engine < 0) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "make an eventfd");
		if (relay >= 0)
			close(relay);
		close(source);
		return -1;
	}
	LOCKED(&remote->lock);
	struct watch *watch = &remote->watches[driver->index];
	if (watch->relay > 0)
		close(watch->relay);
	if (watch->source > 0)
		close(watch->source);
	*watch = (struct watch){ .relay = relay, .source = source };
	/* The thread is to look at it. */
	if (write(remote->wake, &one, sizeof one) < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "wake the thread of its process");
	return engine;
}

void replay_news(struct remote *remote)
{
	LOCKED(&remote->lock);
	for (size_t i = 0; i < GT_COUNT(remote->watches); i++) {
		uint64_t news;
		struct watch *watch = &remote->watches[i];
		if (watch->source > 0 && read(watch->source, &news, sizeof news) == sizeof news && write(watch->relay, &news, sizeof news) < 0)
			continue; /* it is full of news already */
	}
}
