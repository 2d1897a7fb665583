/*
 * stop.c - stop, kill and restart.
 *
 * stop holds the container's op while it waits, kill does not: so a kill ends a stop that is waiting. Both end in gt_exit_settle().
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "engine/internal.h"
#include "runtime/cgroup.h"

#define AFTER_KILL (10 * GT_SECOND)
#define DEFAULT_TIMEOUT 10      /* s */

static void tell_signal(struct gt_container *ctr, int signo)
{
	char number[16];
	snprintf(number, sizeof number, "%d", signo);
	gt_container_event(ctr, "kill", json_pack("{s:s}", "signal", number));
}

/* A frozen process acts on no signal but SIGKILL in v2; so it is thawed after the signal is queued. */
static void thaw_if_paused(struct gt_container *ctr)
{
	pthread_mutex_lock(&ctr->lock);
	bool paused = ctr->status == GT_PAUSED;
	if (paused)
		ctr->status = GT_RUNNING;
	pthread_mutex_unlock(&ctr->lock);
	struct gt_cgroup *cgroup = NULL;
	struct gt_error err = { 0 };
	if (!paused)
		return;
	if ((gt_container_unsettle(ctr, &err) < 0 || gt_cgroup_open(ctr->cgroup, &cgroup, &err) < 0 || gt_cgroup_thaw(cgroup, &err) < 0 ||
	     gt_container_settle(ctr, &err) < 0) &&
	    !gt_exit_await(ctr, GT_ENDING))
		gt_warn("a paused container could not be resumed for a signal", "id", ctr->id, "error", err.message);
	gt_cgroup_free(cgroup);
}

/* That it has just ended, or its shim has, is success. */
static int send_signal(struct gt_container *ctr, int signo, struct gt_error *err)
{
	struct gt_error local = { 0 };
	struct gt_shim *shim = gt_container_shim(ctr, &local);
	if (!shim)
		return 0;
	int rc = gt_shim_signal(shim, NULL, signo, &local);
	gt_container_shim_put(ctr);
	if (rc < 0 && local.kind != GT_NOT_FOUND && local.kind != GT_UNAVAILABLE) {
		if (err)
			*err = local;
		return gt_context(err, "signal container %s", ctr->id);
	}
	thaw_if_paused(ctr);
	return 0;
}

/* The last means, where SIGKILL through the shim did not help. */
static void kill_by_cgroup(struct gt_container *ctr)
{
	struct gt_error err = { 0 };
	struct gt_cgroup *cgroup = NULL;
	if ((gt_cgroup_open(ctr->cgroup, &cgroup, &err) < 0 || gt_cgroup_kill(cgroup, (int)(AFTER_KILL / GT_MILLISECOND), &err) < 0) &&
	    !gt_exit_await(ctr, GT_ENDING))
		gt_warn("a container does not die", "id", ctr->id, "error", err.message);
	gt_cgroup_free(cgroup);
}

static int stop_running(struct gt_container *ctr, int signo, int timeout, struct gt_error *err)
{
	pthread_mutex_lock(&ctr->lock);
	ctr->stop_requested = true;
	pthread_mutex_unlock(&ctr->lock);
	tell_signal(ctr, signo);
	struct gt_error signalled = { 0 };
	bool sent = send_signal(ctr, signo, &signalled) == 0;
	if (!sent)
		gt_warn("a container could not be asked to stop", "id", ctr->id, "error", signalled.message);
	if (!sent || !gt_exit_await(ctr, timeout < 0 ? -1 : timeout * GT_SECOND)) {
		if (signo != SIGKILL)
			tell_signal(ctr, SIGKILL);
		if (send_signal(ctr, SIGKILL, err) < 0 || !gt_exit_await(ctr, AFTER_KILL))
			kill_by_cgroup(ctr);
		if (!gt_exit_await(ctr, AFTER_KILL))
			return gt_fail(err, GT_TIMEOUT, "container %s does not end, even after SIGKILL: a process hangs in the kernel", ctr->id);
	}
	gt_exit_settle(ctr);
	return 0;
}

int gt_stop_locked(struct gt_container *ctr, int signo, int timeout, struct gt_error *err)
{
	gt_exit_settle(ctr);
	if (!gt_container_is_running(ctr))
		return 0;
	int64_t began = gt_monotonic();
	return gt_acted(ctr->engine, GT_ACT_STOP, began, stop_running(ctr, signo, timeout, err));
}

/* The signal and timeout of a request, else the container's, else the host's. */
static int stop_settings(struct gt_container *ctr, const char *signal, int *timeout, int *signo, struct gt_error *err)
{
	const char *own = ctr->config.stop_signal;
	*signo = SIGTERM;
	if (signal && signal[0]) {
		if (gt_signal_parse(signal, signo, err) < 0)
			return -1;
	} else if (own && own[0] && gt_signal_parse(own, signo, err) < 0) {
		return -1;
	}
	if (*timeout == -1) {
		const struct gt_config *config = atomic_load(&ctr->engine->config);
		*timeout = ctr->config.stop_timeout.set ? (int)ctr->config.stop_timeout.value :
			   config->stop_timeout >= 0    ? (int)config->stop_timeout :
							  DEFAULT_TIMEOUT;
	}
	return 0;
}

int gt_container_stop(struct gt_engine *engine, const char *ref, const char *signal, int timeout, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	int signo;
	if (!ctr || stop_settings(ctr, signal, &timeout, &signo, err) < 0)
		return -1;
	LOCKED(&ctr->op);
	gt_exit_settle(ctr);
	if (ctr->status == GT_RESTARTING) {
		ctr->stop_requested = true;
		gt_restart_cancel(ctr);
		gt_container_event(ctr, "stop", NULL);
		return gt_container_save_state(ctr, err);
	}
	if (!gt_container_is_running(ctr))
		return gt_fail(err, GT_NOT_MODIFIED, "container %s is not running", ctr->id);
	if (gt_stop_locked(ctr, signo, timeout, err) < 0)
		return gt_context(err, "cannot stop container: %s", ref);
	gt_container_event(ctr, "stop", NULL);
	return 0;
}

int gt_container_restart(struct gt_engine *engine, const char *ref, const char *signal, int timeout, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	int signo;
	if (!ctr || stop_settings(ctr, signal, &timeout, &signo, err) < 0)
		return -1;
	LOCKED(&ctr->op);
	gt_restart_cancel(ctr);
	ctr->keep_at_exit = true;
	int rc = gt_stop_locked(ctr, signo, timeout, err);
	if (rc == 0)
		rc = gt_start_locked(ctr, err);
	ctr->keep_at_exit = false;
	if (rc < 0)
		return gt_context(err, "Cannot restart container %s", ref);
	gt_container_event(ctr, "restart", NULL);
	return 0;
}

/* Until the exit is settled, by a worker or by whoever holds op. */
static void await_settled(struct gt_container *ctr)
{
	struct timespec until = gt_deadline(AFTER_KILL);
	LOCKED(&ctr->lock);
	uint64_t exits = ctr->exits;
	while ((ctr->status == GT_RUNNING || ctr->status == GT_PAUSED) && ctr->exits == exits && !ctr->engine->closing &&
	       pthread_cond_timedwait(&ctr->changed, &ctr->lock, &until) == 0)
		;
}

int gt_container_kill(struct gt_engine *engine, const char *ref, const char *signal, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	int signo = SIGKILL, stop_signal = SIGTERM;
	if (signal && signal[0] && gt_signal_parse(signal, &signo, err) < 0)
		return -1;
	if (!ctr)
		return gt_context(err, "cannot kill container: %s", ref);
	if (!gt_container_await_running(ctr))
		return gt_fail(err, GT_CONFLICT, "cannot kill container: %s: container %s is not running", ref, ctr->id);
	if (ctr->config.stop_signal && ctr->config.stop_signal[0])
		gt_signal_parse(ctr->config.stop_signal, &stop_signal, NULL);
	if (signo == SIGKILL || signo == stop_signal) {
		pthread_mutex_lock(&ctr->lock);
		ctr->stop_requested = true;
		pthread_mutex_unlock(&ctr->lock);
	}
	tell_signal(ctr, signo);
	if (send_signal(ctr, signo, err) < 0)
		return gt_context(err, "cannot kill container: %s", ref);
	if (signo == SIGKILL)
		await_settled(ctr);
	return 0;
}
