/*
 * start.c - from a created container to a running one, and pause, resume and resize.
 *
 *   files, spec            hosts, resolv.conf, hostname; the bundle with config.json
 *   spawn                  the shim clones the sandbox and goes on with mounts by itself
 *   join                   meanwhile the network drivers work on the sandbox's namespace; addresses go into hosts
 *   state, attach          what a later daemon needs to know is stored; clients that came early are handed over
 *   start                  the process is exec'd, or the reason why not
 * Each step has its undo below, newest first. Before "start" a shim that loses its daemon undoes the container by itself.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/internal.h"
#include "runtime/cgroup.h"

/* As Docker's clients map the phrases: 127 not found, 126 not executable, 128 anything else. */
static int exit_code_of(const struct gt_error *err)
{
	if (strstr(err->message, "executable file not found") || strstr(err->message, "no such file or directory"))
		return 127;
	if (strstr(err->message, "permission denied") || strstr(err->message, "is a directory"))
		return 126;
	return 128;
}

static int check_startable(struct gt_container *ctr, struct gt_error *err)
{
	LOCKED(&ctr->lock);
	if (ctr->removed)
		return gt_fail(err, GT_NOT_FOUND, "No such container: %s", ctr->id);
	switch (ctr->status) {
	case GT_RUNNING:
		return gt_fail(err, GT_NOT_MODIFIED, "container %s is running already", ctr->id);
	case GT_PAUSED:
		return gt_fail(err, GT_CONFLICT, "cannot start a paused container, try unpause instead");
	case GT_REMOVING:
	case GT_DEAD:
		return gt_fail(err, GT_CONFLICT, "container is marked for removal and cannot be started");
	default:
		return 0;
	}
}

static int make_bundle(struct gt_container *ctr, struct gt_error *err)
{
	if (gt_remove_tree(AT_FDCWD, ctr->bundle, err) < 0 || gt_mkdirs(AT_FDCWD, ctr->bundle, 0711, err) < 0)
		return gt_context(err, "make the bundle of container %s", ctr->id);
	if (gt_endpoints_write_files(ctr, err) == 0 && gt_spec_write(ctr, err) == 0)
		return 0;
	gt_mounts_release(ctr);
	gt_remove_tree(AT_FDCWD, ctr->bundle, NULL);
	return -1;
}

/* The sandbox exists: networks, and what has to be known before the process runs. */
static int plumb(struct gt_container *ctr, struct gt_shim *shim, const struct gt_shim_created *created, struct gt_error *err)
{
	if (gt_endpoints_join(ctr, created->netns_fd, err) < 0)
		return -1;
	pthread_mutex_lock(&ctr->lock);
	ctr->pid = created->pid;
	ctr->started = gt_now();
	ctr->oom = false;
	ctr->stop_requested = false;
	ctr->unsettled = false;
	free(take(ctr->error));
	json_decref(take(ctr->health));
	ctr->starting = true;
	pthread_mutex_unlock(&ctr->lock);
	if (gt_endpoints_write_files(ctr, err) == 0 && gt_container_save_state(ctr, err) == 0) {
		gt_attach_await(ctr);
		gt_attach_waiting_start(ctr, shim);
		if (gt_shim_start(shim, err) == 0)
			return 0;
	} else {
		gt_shim_abort(shim);
	}
	pthread_mutex_lock(&ctr->lock);
	ctr->starting = false;
	if (ctr->status == GT_RESTARTING)
		ctr->status = GT_EXITED;
	ctr->pid = 0;
	pthread_cond_broadcast(&ctr->changed);
	pthread_mutex_unlock(&ctr->lock);
	gt_endpoints_leave(ctr, created->netns_fd);
	return -1;
}

static int launch(struct gt_container *ctr, struct gt_error *err)
{
	struct gt_shim *shim = NULL;
	struct gt_shim_created created = { .netns_fd = -1 };
	if (make_bundle(ctr, err) < 0)
		return -1;
	if (gt_shim_spawn(ctr->engine->shim_path, ctr->bundle, &shim, &created, err) < 0)
		goto unprepare;
	if (plumb(ctr, shim, &created, err) < 0)
		goto unspawn;
	if (created.netns_fd >= 0)
		close(created.netns_fd);
	pthread_mutex_lock(&ctr->lock);
	ctr->shim = shim;
	ctr->starting = false;
	ctr->status = GT_RUNNING;
	pthread_cond_broadcast(&ctr->changed);
	pthread_mutex_unlock(&ctr->lock);
	gt_attach_waiting_start(ctr, shim); /* those that came while it started */
	if (gt_monitor_add(ctr, err) == 0)
		return 0;
	gt_shim_signal(shim, NULL, SIGKILL, NULL);
	pthread_mutex_lock(&ctr->lock);
	ctr->exit = (struct gt_shim_event){ .type = GT_SHIM_GONE, .at = gt_now() };
	ctr->exit_seen = true;
	pthread_mutex_unlock(&ctr->lock);
	gt_exit_settle(ctr);
	return -1;
unspawn:
	gt_shim_abort(shim);
	gt_shim_free(shim);
	if (created.netns_fd >= 0)
		close(created.netns_fd);
unprepare:
	gt_exit_bury(ctr); /* the shim undoes what it did, unless it was killed */
	gt_mounts_release(ctr);
	gt_remove_tree(AT_FDCWD, ctr->bundle, NULL);
	return -1;
}

/* The container keeps the reason; clients that wait for its start or end are woken. */
static void note_failure(struct gt_container *ctr, const struct gt_error *why)
{
	struct gt_error err = { 0 };
	gt_attach_waiting_drop(ctr);
	pthread_mutex_lock(&ctr->lock);
	ctr->exit_code = exit_code_of(why);
	free(ctr->error);
	ctr->error = gt_xstrdup(why->message);
	if (ctr->status == GT_RESTARTING)
		ctr->status = GT_EXITED;
	pthread_cond_broadcast(&ctr->changed);
	pthread_mutex_unlock(&ctr->lock);
	if (gt_container_save_state(ctr, &err) < 0)
		gt_warn("the state of a container could not be stored", "id", ctr->id, "error", err.message);
	if (ctr->config.host.auto_remove && !ctr->keep_at_exit && gt_remove_locked(ctr, true, true, &err) < 0)
		gt_warn("a container with AutoRemove could not be removed", "id", ctr->id, "error", err.message);
}

int gt_start_locked(struct gt_container *ctr, struct gt_error *err)
{
	struct gt_error local = { 0 };
	if (!err)
		err = &local;
	gt_exit_settle(ctr);
	if (check_startable(ctr, err) < 0)
		return -1;
	int64_t began = gt_monotonic();
	if (gt_acted(ctr->engine, GT_ACT_START, began, launch(ctr, err)) < 0) {
		note_failure(ctr, err);
		return -1;
	}
	gt_container_event(ctr, "start", NULL);
	gt_health_started(ctr);
	return 0;
}

int gt_container_start(struct gt_engine *engine, const char *ref, const char *detach_keys, struct gt_error *err)
{
	(void)detach_keys; /* belongs to the attach request that comes with it */
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	LOCKED(&ctr->op);
	gt_exit_settle(ctr);
	pthread_mutex_lock(&ctr->lock);
	bool restarting = ctr->status == GT_RESTARTING;
	if (!restarting)
		ctr->restart_count = 0;
	pthread_mutex_unlock(&ctr->lock);
	if (restarting)
		return gt_fail(err, GT_NOT_MODIFIED, "container %s is restarting already", ctr->id);
	return gt_start_locked(ctr, err);
}

/* ---- pause and resume ---- */

static int set_frozen(struct gt_container *ctr, bool frozen, struct gt_error *err)
{
	struct gt_cgroup *cgroup = NULL;
	struct gt_error ignored = { 0 };
	if (gt_container_unsettle(ctr, err) < 0)
		return -1;
	int rc = gt_cgroup_open(ctr->cgroup, &cgroup, err);
	if (rc == 0)
		rc = frozen ? gt_cgroup_freeze(cgroup, err) : gt_cgroup_thaw(cgroup, err);
	gt_cgroup_free(cgroup);
	if (rc == 0) {
		LOCKED(&ctr->lock);
		ctr->status = frozen ? GT_PAUSED : GT_RUNNING;
		pthread_cond_broadcast(&ctr->changed);
	}
	if (rc < 0 && gt_exit_await(ctr, GT_ENDING))
		return gt_fail(err, GT_CONFLICT, "Container %s is not running", ctr->id);
	if (gt_container_settle(ctr, rc == 0 ? err : &ignored) < 0 || rc < 0)
		return gt_context(err, "%s container %s", frozen ? "pause" : "unpause", ctr->id);
	gt_container_event(ctr, frozen ? "pause" : "unpause", NULL);
	return 0;
}

int gt_container_pause(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	LOCKED(&ctr->op);
	gt_exit_settle(ctr);
	if (ctr->status == GT_PAUSED)
		return gt_fail(err, GT_CONFLICT, "Container %s is already paused", ctr->id);
	if (ctr->status == GT_RESTARTING)
		return gt_fail(err, GT_CONFLICT, "Container %s is restarting, wait until the container is running", ctr->id);
	if (ctr->status != GT_RUNNING)
		return gt_fail(err, GT_CONFLICT, "Container %s is not running", ctr->id);
	return set_frozen(ctr, true, err);
}

int gt_container_unpause(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	LOCKED(&ctr->op);
	gt_exit_settle(ctr);
	if (ctr->status != GT_PAUSED)
		return gt_fail(err, GT_CONFLICT, "Container %s is not paused", ctr->id);
	return set_frozen(ctr, false, err);
}

int gt_container_resize(struct gt_engine *engine, const char *ref, unsigned rows, unsigned cols, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (ctr)
		gt_container_await_running(ctr);
	struct gt_shim *shim = ctr ? gt_container_shim(ctr, err) : NULL;
	if (!shim)
		return -1;
	int rc = gt_shim_resize(shim, NULL, rows, cols, err);
	gt_container_shim_put(ctr);
	if (rc == 0) {
		char height[16], width[16];
		snprintf(height, sizeof height, "%u", rows);
		snprintf(width, sizeof width, "%u", cols);
		gt_container_event(ctr, "resize", json_pack("{s:s s:s}", "height", height, "width", width));
	}
	return rc;
}
