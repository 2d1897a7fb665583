/*
 * dump.c - the engine's part of a debug dump (SIGUSR1).
 *
 * It is read while something hangs, so it waits for nothing: a lock that is not free within a moment is reported, with the thread that holds it, and what it
 * guards is left out. Who holds a mutex is read off the mutex (glibc notes it there); it may be stale by then and is for people alone.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "engine/internal.h"
#include "engine/network.h"
#include "engine/volume.h"

#define MOMENT (50 * GT_MILLISECOND)
#define PATIENCE 20             /* locks that are waited for a moment each; after that many, none is */
#define EVENTS 64

struct look {
	json_t *locks;
	int given_up;
};

static void note_lock(struct look *look, const pthread_mutex_t *mutex, const char *name, int owner)
{
	char address[32];
	snprintf(address, sizeof address, "%p", (const void *)mutex);
	json_array_append_new(look->locks, json_pack("{s:s s:s s:i}", "Name", name, "Address", address, "HeldBy", owner));
}

/* True: it is the caller's. */
static bool try_lock(struct look *look, pthread_mutex_t *mutex, const char *name)
{
	struct timespec until = gt_deadline(MOMENT);
	int owner = mutex->__data.__owner;
	int rc = look->given_up < PATIENCE ? pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until) : pthread_mutex_trylock(mutex);
	if (rc == 0)
		return true;
	look->given_up++;
	note_lock(look, mutex, name, owner);
	return false;
}

static json_t *dump_container(struct look *look, struct gt_container *ctr)
{
	json_t *row = json_pack("{s:s}", "Id", ctr->id);
	AUTO_FREE char *op = gt_xasprintf("op of container %.12s", ctr->id), *lock = gt_xasprintf("lock of container %.12s", ctr->id);
	if (pthread_mutex_trylock(&ctr->op) == 0)
		pthread_mutex_unlock(&ctr->op);
	else
		note_lock(look, &ctr->op, op, ctr->op.__data.__owner);
	if (!try_lock(look, &ctr->lock, lock))
		return row;
	json_object_update_new(row, json_pack("{s:s* s:s s:i s:i s:b s:b s:b s:b s:b s:i s:I s:I s:I}", "Name", ctr->name, "Status", gt_status_name(ctr->status),
					      "Pid", (int)ctr->pid, "ExitCode", ctr->exit_code, "Starting", ctr->starting, "StopRequested", ctr->stop_requested,
					      "Removed", ctr->removed, "ExitSeen", ctr->exit_seen, "Unsettled", ctr->unsettled, "ShimUsers", ctr->shim_users,
					      "RestartCount", (json_int_t)ctr->restart_count, "Endpoints", (json_int_t)ctr->endpoint_count, "RestartTimer",
					      (json_int_t)ctr->restart_timer));
	pthread_mutex_unlock(&ctr->lock);
	return row;
}

static json_t *dump_containers(struct gt_engine *engine, struct look *look)
{
	struct timespec until = gt_deadline(1 * GT_SECOND);
	if (pthread_rwlock_clockrdlock(&engine->lock, CLOCK_MONOTONIC, &until) != 0) {
		json_array_append_new(look->locks, json_pack("{s:s s:i}", "Name", "engine", "HeldBy", engine->lock.__data.__cur_writer));
		return json_null();
	}
	pthread_rwlock_unlock(&engine->lock);
	json_t *list = json_array();
	struct gt_container **all = gt_containers_all(engine, NULL);
	for (size_t i = 0; all[i]; i++)
		json_array_append_new(list, dump_container(look, all[i]));
	gt_containers_put(all);
	return list;
}

static json_t *dump_networks(struct gt_engine *engine, struct look *look)
{
	struct gt_networks *networks = engine->networks;
	if (pthread_mutex_trylock(&networks->changing) == 0)
		pthread_mutex_unlock(&networks->changing);
	else
		note_lock(look, &networks->changing, "change of networks", networks->changing.__data.__owner);
	if (!try_lock(look, &networks->lock, "networks"))
		return json_null();
	json_t *list = json_array();
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&networks->by_id, &i)) != NULL;) {
		const struct network *network = slot->value;
		json_array_append_new(list, json_pack("{s:s s:s s:I}", "Id", network->id, "Name", network->name, "Users", (json_int_t)network->users.count));
	}
	pthread_mutex_unlock(&networks->lock);
	return list;
}

static json_t *dump_volumes(struct gt_engine *engine, struct look *look)
{
	struct gt_volumes *volumes = engine->volumes;
	if (!try_lock(look, &volumes->lock, "volumes"))
		return json_null();
	json_t *list = json_array();
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&volumes->map, &i)) != NULL;)
		json_array_append_new(list, json_string(slot->key));
	pthread_mutex_unlock(&volumes->lock);
	return list;
}

json_t *gt_engine_dump(struct gt_engine *engine)
{
	struct look look = { .locks = json_array() };
	struct gt_work_load load = gt_workers_load(engine);
	json_t *dump = json_pack("{s:s s:b s:{s:I s:I} s:I s:i}", "Id", engine->engine_id, "Closing", (int)atomic_load(&engine->closing), "Workers", "Threads",
				 (json_int_t)load.threads, "Queue", (json_int_t)load.queued, "Timers", (json_int_t)gt_timers_count(engine), "EventListeners",
				 gt_events_listeners(engine));
	json_object_set_new(dump, "DriverCalls", gt_drivers_calls(engine->drivers));
	json_object_set_new(dump, "PluginProcesses", gt_drivers_processes(engine->drivers));
	json_object_set_new(dump, "Containers", dump_containers(engine, &look));
	json_object_set_new(dump, "Networks", dump_networks(engine, &look));
	json_object_set_new(dump, "Volumes", dump_volumes(engine, &look));
	json_t *events = gt_events_recent(engine, EVENTS);
	json_object_set_new(dump, "Events", events ? events : json_null());
	json_object_set_new(dump, "LocksHeld", look.locks);
	return dump;
}
