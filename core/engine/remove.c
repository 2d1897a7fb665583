/*
 * remove.c - the end of a container.
 *
 * The stored state says "removing" first, so that a daemon killed on the way finishes at its next start; the documents go last. (A full
 * disk: record().)
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "engine/internal.h"

static int check_removable(struct gt_container *ctr, bool force, struct gt_error *err)
{
	LOCKED(&ctr->lock);
	if (ctr->status == GT_PAUSED && !force)
		return gt_fail(err, GT_CONFLICT,
			       "cannot remove container \"/%s\": container is paused and must be unpaused first", ctr->name);
	if ((ctr->status == GT_RUNNING || ctr->status == GT_RESTARTING) && !force)
		return gt_fail(err, GT_CONFLICT,
			       "cannot remove container \"/%s\": container is %s: stop the container before removing or force remove", ctr->name,
			       gt_status_name(ctr->status));
	return 0;
}

static void mark(struct gt_container *ctr, enum gt_status status)
{
	LOCKED(&ctr->lock);
	ctr->status = status;
	pthread_cond_broadcast(&ctr->changed);
}

/* Everything outside the tables. Each step may be repeated. */
static int dismantle(struct gt_container *ctr, bool volumes, struct gt_error *err)
{
	struct gt_engine *engine = ctr->engine;
	gt_attach_waiting_drop(ctr);
	gt_execs_drop(ctr);
	gt_endpoints_release(ctr);
	gt_mounts_remove(ctr, volumes);
	if (gt_image_layer_remove(engine->images, ctr->id, err) < 0)
		return gt_context(err, "remove the writable layer of container %s", ctr->id);
	if (gt_remove_tree(AT_FDCWD, ctr->dir, err) < 0 || gt_remove_tree(AT_FDCWD, ctr->bundle, err) < 0)
		return gt_context(err, "remove the files of container %s", ctr->id);
	if (gt_container_forget(ctr, err) < 0)
		return gt_context(err, "forget container %s", ctr->id);
	if (ctr->image_id && ctr->image_id[0])
		gt_image_release(engine->images, ctr->image_id, ctr->id);
	return 0;
}

/* So that a removal that is cut short goes on at the next start. A full disk has no room for the word, and a removal is what gives room: the documents
 * go first then, and what is left is swept as nobody's. */
static int record(struct gt_container *ctr, struct gt_error *err)
{
	struct gt_error why = { 0 };
	if (gt_container_save_state(ctr, &why) == 0)
		return 0;
	if (why.errnum == ENOSPC || why.errnum == EDQUOT)
		return gt_container_forget(ctr, err);
	return gt_fail(err, why.kind, "%s", why.message);
}

static int remove_settled(struct gt_container *ctr, bool volumes, struct gt_error *err)
{
	gt_restart_cancel(ctr);
	ctr->keep_at_exit = true; /* not twice, where AutoRemove is on */
	if (gt_stop_locked(ctr, SIGKILL, 10, err) < 0) {
		ctr->keep_at_exit = false;
		return gt_context(err, "cannot remove container \"/%s\": could not kill container", ctr->name);
	}
	enum gt_status before = ctr->status;
	mark(ctr, GT_REMOVING);
	if (!ctr->config.host.auto_remove && record(ctr, err) < 0) {
		mark(ctr, before);
		return -1;
	}
	if (dismantle(ctr, volumes, err) < 0) {
		mark(ctr, GT_DEAD);
		return -1;
	}
	gt_container_event(ctr, "destroy", NULL);
	gt_container_withdraw(ctr);
	return 0;
}

int gt_remove_locked(struct gt_container *ctr, bool force, bool volumes, struct gt_error *err)
{
	gt_exit_settle(ctr);
	if (ctr->removed)
		return 0;
	if (check_removable(ctr, force, err) < 0)
		return -1;
	int64_t began = gt_monotonic();
	return gt_acted(ctr->engine, GT_ACT_REMOVE, began, remove_settled(ctr, volumes, err));
}

int gt_container_remove(struct gt_engine *engine, const char *ref, bool force, bool volumes, bool link, struct gt_error *err)
{
	if (link)
		return gt_fail(err, GT_UNSUPPORTED, "removal of legacy links is not supported: remove the container, or disconnect it from its network");
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	if (pthread_mutex_trylock(&ctr->op) != 0) {
		LOCKED(&ctr->lock);
		if (ctr->status == GT_REMOVING)
			return gt_fail(err, GT_CONFLICT, "removal of container %s is already in progress", ref);
	} else {
		pthread_mutex_unlock(&ctr->op);
	}
	LOCKED(&ctr->op);
	if (ctr->removed)
		return gt_fail(err, GT_NOT_FOUND, "No such container: %s", ref);
	return gt_remove_locked(ctr, force, volumes, err);
}
