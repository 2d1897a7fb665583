/*
 * exit.c - what follows when a container's init has ended.
 *
 * The monitor records the exit (exit_seen); whoever holds the container's op next settles it: the worker that the monitor asked, or a stop, removal or
 * restart that was waiting for it. Only when networks are left and mounts released does the status change, so that who waits for the exit finds ports
 * and volumes free. exit.json stays in the bundle until the state is stored: a daemon killed anywhere here settles again at its next start.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/internal.h"
#include "runtime/cgroup.h"

#define KILL_TIMEOUT_MS 10000

bool gt_exit_await(struct gt_container *ctr, int64_t timeout)
{
	struct timespec until = gt_deadline(timeout < 0 ? INT64_MAX : timeout);
	LOCKED(&ctr->lock);
	while (!ctr->exit_seen && (ctr->status == GT_RUNNING || ctr->status == GT_PAUSED) && !ctr->engine->closing) {
		if (timeout < 0)
			pthread_cond_wait(&ctr->changed, &ctr->lock);
		else if (pthread_cond_timedwait(&ctr->changed, &ctr->lock, &until) != 0)
			break;
	}
	return ctr->exit_seen || (ctr->status != GT_RUNNING && ctr->status != GT_PAUSED);
}

void gt_exit_bury(struct gt_container *ctr)
{
	struct gt_error err = { 0 };
	struct gt_cgroup *cgroup = NULL;
	if (gt_cgroup_open(ctr->cgroup, &cgroup, &err) == 0 && gt_cgroup_kill(cgroup, KILL_TIMEOUT_MS, &err) < 0)
		gt_warn("processes of a container whose shim died could not be killed", "id", ctr->id, "error", err.message);
	gt_cgroup_free(cgroup);
	if (gt_cgroup_remove(ctr->cgroup, &err) < 0)
		gt_warn("a cgroup is left behind", "id", ctr->id, "error", err.message);
}

/* The shim died without a word: what it left behind is killed, and what it wrote is read. */
static void bury_without_shim(struct gt_container *ctr, struct gt_shim_event *exit)
{
	struct gt_error err = { 0 };
	gt_exit_bury(ctr);
	if (gt_shim_read_exit(ctr->bundle, exit, &err) == 0)
		return;
	gt_warn("a container ended and left no exit status", "id", ctr->id, "error", err.message);
	exit->code = access(ctr->bundle, F_OK) == 0 ? 137 : 255; /* without a bundle the machine went down with it */
	exit->at = gt_now();
}

static void free_shim(struct gt_container *ctr)
{
	pthread_mutex_lock(&ctr->lock);
	struct gt_shim *shim = take(ctr->shim);
	while (ctr->shim_users > 0)
		pthread_cond_wait(&ctr->changed, &ctr->lock);
	pthread_mutex_unlock(&ctr->lock);
	gt_shim_free(shim);
}

static void tell(struct gt_container *ctr, int code, int64_t ran)
{
	char code_text[16], duration[32];
	snprintf(code_text, sizeof code_text, "%d", code);
	snprintf(duration, sizeof duration, "%lld", (long long)(ran / GT_SECOND));
	gt_container_event(ctr, "die", json_pack("{s:s s:s}", "execDuration", duration, "exitCode", code_text));
}

void gt_exit_settle(struct gt_container *ctr)
{
	struct gt_error err = { 0 };
	pthread_mutex_lock(&ctr->lock);
	bool seen = ctr->exit_seen;
	struct gt_shim_event exit = ctr->exit;
	pthread_mutex_unlock(&ctr->lock);
	if (!seen)
		return;
	if (exit.type == GT_SHIM_GONE)
		bury_without_shim(ctr, &exit);
	gt_health_stopped(ctr);
	gt_execs_drop(ctr);
	gt_endpoints_leave(ctr, -1);
	gt_mounts_release(ctr);
	free_shim(ctr);

	int64_t ran = exit.at > ctr->started ? exit.at - ctr->started : 0;
	pthread_mutex_lock(&ctr->lock);
	ctr->exit_seen = false;
	ctr->status = GT_EXITED;
	ctr->pid = 0;
	ctr->exit_code = exit.code;
	ctr->oom = ctr->oom || exit.oom;
	ctr->finished = exit.at;
	pthread_mutex_unlock(&ctr->lock);
	tell(ctr, exit.code, ran);
	bool again = gt_restart_arrange(ctr, ran);
	bool remove = !again && ctr->config.host.auto_remove && !ctr->keep_at_exit;
	if (!remove && gt_container_save_state(ctr, &err) < 0)
		gt_warn("the exit of a container could not be stored", "id", ctr->id, "error", err.message);
	else if (gt_remove_tree(AT_FDCWD, ctr->bundle, &err) < 0)
		gt_warn("a bundle could not be removed", "id", ctr->id, "error", err.message);
	pthread_mutex_lock(&ctr->lock);
	ctr->exits++;
	pthread_cond_broadcast(&ctr->changed);
	pthread_mutex_unlock(&ctr->lock);
	if (remove && gt_remove_locked(ctr, true, true, &err) < 0)
		gt_warn("a container with AutoRemove could not be removed", "id", ctr->id, "error", err.message);
}
