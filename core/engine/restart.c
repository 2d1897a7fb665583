/*
 * restart.c - restart policies: no, on-failure[:max], always, unless-stopped.
 *
 * The pause before a restart begins with 100 ms and doubles up to a minute; a container that ran for 10 s starts over with 100 ms. A container that
 * its user stopped stays stopped, until (policy always) the daemon starts again.
 */
#include <string.h>

#include "engine/internal.h"

#define FIRST_DELAY (100 * GT_MILLISECOND)
#define LAST_DELAY (60 * GT_SECOND)
#define LONG_ENOUGH (10 * GT_SECOND)

struct policy {
	const char *name;
	int64_t max;
};

static struct policy policy_of(const struct gt_container *ctr)
{
	struct policy policy = { .name = "no" };
	gt_json_string(ctr->config.host.restart_policy, "Name", &policy.name, NULL);
	gt_json_int(ctr->config.host.restart_policy, "MaximumRetryCount", &policy.max, NULL);
	return policy;
}

static void restart_job(void *arg)
{
	struct gt_container *ctr = arg;
	struct gt_error err = { 0 };
	pthread_mutex_lock(&ctr->op);
	if (!ctr->engine->closing && !ctr->removed && ctr->status == GT_RESTARTING && gt_start_locked(ctr, &err) < 0)
		gt_warn("a restart failed", "id", ctr->id, "error", err.message);
	pthread_mutex_unlock(&ctr->op);
	gt_container_put(ctr);
}

bool gt_restart_arrange(struct gt_container *ctr, int64_t ran)
{
	struct policy policy = policy_of(ctr);
	LOCKED(&ctr->lock);
	bool wanted = strcmp(policy.name, "always") == 0 || strcmp(policy.name, "unless-stopped") == 0 ||
		      (strcmp(policy.name, "on-failure") == 0 && ctr->exit_code != 0 &&
		       (policy.max <= 0 || ctr->restart_count < policy.max));
	if (!wanted || ctr->stop_requested || ctr->keep_at_exit || ctr->engine->closing)
		return false;
	if (ran >= LONG_ENOUGH || !ctr->restart_delay)
		ctr->restart_delay = FIRST_DELAY;
	else
		ctr->restart_delay = ctr->restart_delay * 2 < LAST_DELAY ? ctr->restart_delay * 2 : LAST_DELAY;
	ctr->restart_count++;
	ctr->status = GT_RESTARTING;
	ctr->restart_timer = gt_timer_after(ctr->engine, ctr->restart_delay, restart_job, gt_container_ref(ctr));
	return true;
}

void gt_restart_cancel(struct gt_container *ctr)
{
	if (ctr->restart_timer && gt_timer_cancel(ctr->engine, ctr->restart_timer))
		gt_container_put(ctr);
	LOCKED(&ctr->lock);
	ctr->restart_timer = 0;
	if (ctr->status == GT_RESTARTING)
		ctr->status = GT_EXITED;
	pthread_cond_broadcast(&ctr->changed);
}

static bool wanted_at_boot(struct gt_container *ctr)
{
	struct policy policy = policy_of(ctr);
	LOCKED(&ctr->lock);
	if (!ctr->started || (ctr->status != GT_EXITED && ctr->status != GT_RESTARTING))
		return false;
	if (strcmp(policy.name, "always") == 0)
		return true;
	if (ctr->stop_requested)
		return false;
	return strcmp(policy.name, "unless-stopped") == 0 ||
	       (strcmp(policy.name, "on-failure") == 0 && ctr->exit_code != 0 && (policy.max <= 0 || ctr->restart_count < policy.max));
}

static void boot_job(void *arg)
{
	struct gt_container *ctr = arg;
	struct gt_error err = { 0 };
	pthread_mutex_lock(&ctr->op);
	if (!ctr->engine->closing && !ctr->removed && (ctr->status == GT_EXITED || ctr->status == GT_RESTARTING) &&
	    gt_start_locked(ctr, &err) < 0)
		gt_warn("a container could not be started with the daemon", "id", ctr->id, "name", ctr->name, "error", err.message);
	pthread_mutex_unlock(&ctr->op);
	gt_container_put(ctr);
}

void gt_engine_start_restarts(struct gt_engine *engine)
{
	struct gt_container **all = gt_containers_all(engine, NULL);
	for (size_t i = 0; all[i]; i++) {
		if (wanted_at_boot(all[i]))
			gt_work(engine, boot_job, gt_container_ref(all[i]));
	}
	gt_containers_put(all);
}
