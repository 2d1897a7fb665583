/*
 * reconcile.c - at start-up: what is stored against what really runs.
 *
 * A container whose shim lives is taken up again. One whose shim has ended meanwhile left exit.json and is settled as if the monitor had just heard.
 * Removals that were cut short are finished. Then what no container owns goes: bundles with their processes and cgroups, directories,
 * states, writable layers. All by our own directories: a bundle is there before its cgroup and goes after it, so that nothing of another daemon's is touched.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/parallel.h"
#include "engine/internal.h"
#include "runtime/cgroup.h"

#define KILL_TIMEOUT_MS 10000
#define AGAIN (5 * GT_SECOND)
#define THREADS 8       /* that ask shims: each waits for another process, or for one that does not answer */
#define FEW 8           /* containers for which a thread is not worth its making */

/* ---- containers ---- */

/* A daemon died while it changed the cgroup: what is stored is put in force again. */
static int resettle(struct gt_container *ctr, struct gt_error *err)
{
	struct gt_cgroup *cgroup = NULL;
	if (gt_update_apply(ctr, err) < 0 || gt_cgroup_open(ctr->cgroup, &cgroup, err) < 0)
		return -1;
	int rc = ctr->status == GT_PAUSED ? gt_cgroup_freeze(cgroup, err) : gt_cgroup_thaw(cgroup, err);
	gt_cgroup_free(cgroup);
	return rc < 0 ? -1 : gt_container_settle(ctr, err);
}

static int take_up(struct gt_container *ctr, struct gt_shim *shim, const struct gt_shim_state *state, struct gt_error *err)
{
	pthread_mutex_lock(&ctr->lock);
	ctr->shim = shim;
	ctr->pid = state->pid;
	if (!ctr->started) /* else it was stored before the process ran, and has been shown */
		ctr->started = state->started;
	if (ctr->status != GT_PAUSED)
		ctr->status = GT_RUNNING;
	pthread_mutex_unlock(&ctr->lock);
	struct gt_error unsettled = { 0 };
	if (ctr->unsettled && resettle(ctr, &unsettled) < 0)
		gt_warn("what a container's cgroup should be could not be restored", "id", ctr->id, "error", unsettled.message);
	if (gt_monitor_add(ctr, err) < 0)
		return -1;
	gt_health_started(ctr);
	gt_info("a running container was taken up again", "id", ctr->id, "name", ctr->name);
	return 0;
}

static bool left_exit(const struct gt_container *ctr)
{
	AUTO_FREE char *path = gt_xasprintf("%s/exit.json", ctr->bundle);
	return access(path, F_OK) == 0;
}

static void settle_absent(struct gt_container *ctr)
{
	pthread_mutex_lock(&ctr->lock);
	bool ran = ctr->status == GT_RUNNING || ctr->status == GT_PAUSED || left_exit(ctr);
	if (ran) {
		ctr->status = GT_RUNNING;
		ctr->exit = (struct gt_shim_event){ .type = GT_SHIM_GONE };
		ctr->exit_seen = true;
	} else if (ctr->status == GT_RESTARTING) {
		ctr->status = GT_EXITED;
	}
	pthread_mutex_unlock(&ctr->lock);
	gt_exit_settle(ctr);
}

static int reconcile_one(struct gt_container *ctr, struct gt_error *err);

static void try_again(void *arg)
{
	struct gt_container *ctr = arg;
	struct gt_error err = { 0 };
	pthread_mutex_lock(&ctr->op);
	if (!ctr->engine->closing && !ctr->removed && !ctr->shim && reconcile_one(ctr, &err) < 0)
		gt_err("a container could not be taken up again", "id", ctr->id, "error", err.message);
	pthread_mutex_unlock(&ctr->op);
	gt_container_put(ctr);
}

/* Caller holds op. */
static int reconcile_one(struct gt_container *ctr, struct gt_error *err)
{
	struct gt_shim *shim = NULL;
	struct gt_shim_state state = { 0 };
	struct gt_error local = { 0 };
	/* the build that a step belonged to has ended with its daemon */
	bool half_removed = ctr->status == GT_REMOVING || ctr->status == GT_DEAD || ctr->build_step;
	if (gt_shim_connect(ctr->bundle, &shim, &state, &local) == 0) {
		if (take_up(ctr, shim, &state, err) < 0)
			return -1;
		return half_removed ? gt_remove_locked(ctr, true, false, err) : 0;
	}
	if (local.kind == GT_TIMEOUT) { /* stopped, or short of everything: no reason to kill a container */
		gt_warn("the shim of a container does not answer; it is asked again later", "id", ctr->id, "error", local.message);
		gt_timer_after(ctr->engine, AGAIN, try_again, gt_container_ref(ctr));
		return 0;
	}
	if (local.kind != GT_NOT_FOUND && local.kind != GT_UNAVAILABLE)
		gt_warn("the shim of a container cannot be asked", "id", ctr->id, "error", local.message);
	settle_absent(ctr);
	if (!ctr->removed && (half_removed || ctr->config.host.auto_remove))
		return gt_remove_locked(ctr, true, ctr->config.host.auto_remove, err);
	return 0;
}

/* ---- what nobody owns ---- */

/* Calls fn for each id-like name in a directory. */
static void each_id(const char *dir, void (*fn)(struct gt_engine *engine, const char *dir, const char *id), struct gt_engine *engine)
{
	DIR *stream = opendir(dir);
	if (!stream)
		return;
	for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
		if (gt_is_id(entry->d_name))
			fn(engine, dir, entry->d_name);
	}
	closedir(stream);
}

static struct gt_container *known(struct gt_engine *engine, const char *id)
{
	pthread_rwlock_rdlock(&engine->lock);
	struct gt_container *ctr = gt_map_get(&engine->containers, id);
	pthread_rwlock_unlock(&engine->lock);
	return ctr;
}

/* Of a container, known or not readable. */
static bool owned(struct gt_engine *engine, const char *id)
{
	return known(engine, id) || gt_map_get(&engine->spared, id);
}

static void sweep_bundle(struct gt_engine *engine, const char *dir, const char *id)
{
	const struct gt_config *config = atomic_load(&engine->config);
	struct gt_container *ctr = known(engine, id);
	struct gt_error err = { 0 };
	if (ctr ? gt_container_is_running(ctr) : owned(engine, id)) /* with a shim, or with one that has yet to answer */
		return;
	AUTO_FREE char *bundle = gt_xasprintf("%s/%s", dir, id);
	AUTO_FREE char *path = ctr ? gt_xstrdup(ctr->cgroup) : gt_xasprintf("%s/%s", config->cgroup_parent, id);
	struct gt_shim *shim = NULL;
	struct gt_shim_state state;
	if (!ctr && gt_shim_connect(bundle, &shim, &state, NULL) == 0) {
		gt_shim_signal(shim, NULL, SIGKILL, NULL);
		gt_shim_free(shim);
	}
	struct gt_cgroup *cgroup = NULL;
	if (gt_cgroup_open(path, &cgroup, NULL) == 0 && gt_cgroup_kill(cgroup, KILL_TIMEOUT_MS, &err) < 0)
		gt_warn("leftover processes could not be killed", "cgroup", path, "error", err.message);
	gt_cgroup_free(cgroup);
	if (gt_cgroup_remove(path, &err) < 0 || gt_remove_tree(AT_FDCWD, bundle, &err) < 0)
		gt_warn("a leftover bundle could not be removed", "id", id, "error", err.message);
}

static void sweep_directory(struct gt_engine *engine, const char *dir, const char *id)
{
	struct gt_error err = { 0 };
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, id);
	if (owned(engine, id))
		return;
	if (gt_remove_tree(AT_FDCWD, path, &err) < 0)
		gt_warn("a leftover directory could not be removed", "path", path, "error", err.message);
}

static int sweep_state(void *arg, const char *id)
{
	struct gt_engine *engine = arg;
	if (!owned(engine, id))
		gt_store_remove(engine->states, id, NULL);
	return 0;
}

/* Layers cannot be removed while the driver lists them: their names are gathered first. */
static int note_layer(void *arg, const char *name)
{
	gt_strings_add(arg, name);
	return 0;
}

static void sweep_layers(struct gt_engine *engine)
{
	struct gt_driver *storage = gt_images_storage(engine->images);
	struct gt_strings layers = { 0 };
	struct gt_error err = { 0 };
	if (gt_layer_list(storage, note_layer, &layers, &err) < 0)
		gt_warn("layers cannot be listed", "error", err.message);
	for (size_t i = 0; i < layers.count; i++) {
		bool sealed = true;
		if (owned(engine, layers.items[i]) || gt_layer_lookup(storage, layers.items[i], &sealed, NULL) < 0 || sealed)
			continue;
		if (gt_image_layer_remove(engine->images, layers.items[i], &err) < 0)
			gt_warn("a leftover layer could not be removed", "layer", layers.items[i], "error", err.message);
	}
	gt_strings_free(&layers);
}

static void reconcile_ith(void *arg, size_t i)
{
	struct gt_container *ctr = ((struct gt_container **)arg)[i];
	struct gt_error err = { 0 };
	LOCKED(&ctr->op);
	if (reconcile_one(ctr, &err) < 0)
		gt_err("a container could not be taken up again", "id", ctr->id, "error", err.message);
}

int gt_reconcile(struct gt_engine *engine, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	size_t count;
	struct gt_container **all = gt_containers_all(engine, &count);
	gt_parallel(count, count > FEW ? THREADS : 1, reconcile_ith, all);
	gt_containers_put(all);
	AUTO_FREE char *bundles = gt_xasprintf("%s/containers", config->run);
	AUTO_FREE char *directories = gt_xasprintf("%s/containers", config->root);
	each_id(bundles, sweep_bundle, engine);
	each_id(directories, sweep_directory, engine);
	sweep_layers(engine);
	return gt_store_each_id(engine->states, sweep_state, engine, err);
}
