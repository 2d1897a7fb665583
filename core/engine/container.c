/*
 * container.c - containers as objects: references, the tables by id and name, and what they share with everyone.
 *
 * A container is in three tables of the engine, all guarded by engine->lock: id -> container, name -> container, and an array sorted by id in
 * which prefixes are found by bisection. The tables hold one reference; whoever uses a container holds another.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/network.h"
#include "runtime/cgroup.h"

#define START_PATIENCE (30 * GT_SECOND)

const char *gt_status_name(enum gt_status status)
{
	static const char *const NAMES[] = { "created", "running", "paused", "restarting", "removing", "exited", "dead" };
	return NAMES[status];
}

void gt_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

struct timespec gt_deadline(int64_t ns)
{
	int64_t at = gt_monotonic();
	at = ns > INT64_MAX - at ? INT64_MAX : at + ns;
	return (struct timespec){ .tv_sec = at / GT_SECOND, .tv_nsec = at % GT_SECOND };
}

/* ---- birth and end ---- */

struct gt_container *gt_container_new(struct gt_engine *engine, const char *id)
{
	const struct gt_config *config = atomic_load(&engine->config);
	struct gt_container *ctr = gt_xcalloc(1, sizeof *ctr);
	memcpy(ctr->id, id, GT_ID_LEN);
	ctr->engine = engine;
	ctr->refs = 1;
	ctr->bundle = gt_xasprintf("%s/containers/%s", config->run, id);
	ctr->dir = gt_xasprintf("%s/containers/%s", config->root, id);
	ctr->cgroup = gt_xasprintf("%s/%s", config->cgroup_parent, id);
	pthread_mutex_init(&ctr->op, NULL);
	pthread_mutex_init(&ctr->saving, NULL);
	pthread_mutex_init(&ctr->lock, NULL);
	gt_cond_init(&ctr->changed);
	return ctr;
}

static void free_mount(struct gt_container_mount *mount)
{
	free(mount->type);
	free(mount->name);
	free(mount->driver);
	free(mount->source);
	free(mount->destination);
	free(mount->mode);
	free(mount->propagation);
	free(mount->subpath);
	free(mount->tmpfs_options);
}

static void container_free(struct gt_container *ctr)
{
	for (size_t i = 0; i < ctr->endpoint_count; i++)
		endpoint_release(&ctr->endpoints[i]);
	free(ctr->endpoints);
	for (size_t i = 0; i < ctr->mount_count; i++)
		free_mount(&ctr->mounts[i]);
	free(ctr->mounts);
	gt_container_config_release(&ctr->config);
	gt_shim_free(ctr->shim);
	free(ctr->image_id);
	free(ctr->image_name);
	free(ctr->path);
	gt_strings_free(&ctr->args);
	for (size_t i = 0; i < ctr->secret_env.count; i++)
		explicit_bzero(ctr->secret_env.items[i], strlen(ctr->secret_env.items[i]));
	gt_strings_free(&ctr->secret_env);
	free(ctr->bundle);
	free(ctr->dir);
	free(ctr->log_path);
	free(ctr->cgroup);
	free(ctr->name);
	free(ctr->row);
	free(ctr->error);
	json_decref(ctr->networking);
	json_decref(ctr->health);
	pthread_mutex_destroy(&ctr->op);
	pthread_mutex_destroy(&ctr->saving);
	pthread_mutex_destroy(&ctr->lock);
	pthread_cond_destroy(&ctr->changed);
	free(ctr);
}

struct gt_container *gt_container_ref(struct gt_container *ctr)
{
	__atomic_add_fetch(&ctr->refs, 1, __ATOMIC_RELAXED);
	return ctr;
}

void gt_container_put(struct gt_container *ctr)
{
	if (__atomic_sub_fetch(&ctr->refs, 1, __ATOMIC_ACQ_REL) == 0)
		container_free(ctr);
}

/* ---- tables ---- */

/* The first place in by_id whose id is not less than `prefix`. With the lock held. */
static size_t lower_bound(const struct gt_engine *engine, const char *prefix)
{
	size_t low = 0, high = engine->by_id_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(engine->by_id[middle]->id, prefix) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void set_name(struct gt_container *ctr, const char *name)
{
	LOCKED(&ctr->lock);
	gt_container_row_changed(ctr);
	free(ctr->name);
	ctr->name = gt_xstrdup(name);
}

int gt_container_name_taken(const char *name, const struct gt_container *other, struct gt_error *err)
{
	return gt_fail(err, GT_CONFLICT,
		       "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove (or rename) that container to "
		       "be able to reuse that name.",
		       name, other->id);
}

int gt_container_insert(struct gt_container *ctr, const char *name, struct gt_error *err)
{
	struct gt_engine *engine = ctr->engine;
	int rc = 0;
	pthread_rwlock_wrlock(&engine->lock);
	struct gt_container *other = gt_map_get(&engine->names, name);
	if (other) {
		rc = gt_container_name_taken(name, other, err);
	} else {
		if (engine->by_id_count == engine->by_id_room) {
			engine->by_id_room = engine->by_id_room ? engine->by_id_room * 2 : 64;
			engine->by_id = gt_xrealloc(engine->by_id, engine->by_id_room * sizeof(struct gt_container *));
		}
		size_t at = lower_bound(engine, ctr->id);
		memmove(engine->by_id + at + 1, engine->by_id + at, (engine->by_id_count - at) * sizeof(struct gt_container *));
		engine->by_id[at] = gt_container_ref(ctr);
		engine->by_id_count++;
		gt_map_set(&engine->containers, ctr->id, ctr);
		gt_map_set(&engine->names, name, ctr);
		set_name(ctr, name);
	}
	pthread_rwlock_unlock(&engine->lock);
	return rc;
}

void gt_container_withdraw(struct gt_container *ctr)
{
	struct gt_engine *engine = ctr->engine;
	pthread_rwlock_wrlock(&engine->lock);
	bool there = gt_map_remove(&engine->containers, ctr->id) != NULL;
	if (there) {
		size_t at = lower_bound(engine, ctr->id);
		engine->by_id_count--;
		memmove(engine->by_id + at, engine->by_id + at + 1, (engine->by_id_count - at) * sizeof(struct gt_container *));
		if (gt_map_get(&engine->names, ctr->name) == ctr)
			gt_map_remove(&engine->names, ctr->name);
	}
	pthread_rwlock_unlock(&engine->lock);
	pthread_mutex_lock(&ctr->lock);
	ctr->removed = true;
	pthread_cond_broadcast(&ctr->changed);
	pthread_mutex_unlock(&ctr->lock);
	if (there)
		gt_container_put(ctr);
}

/* By the beginning of an id. With the lock held. */
static struct gt_container *find_prefix(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	size_t len = strlen(ref), at = lower_bound(engine, ref);
	if (at >= engine->by_id_count || strncmp(engine->by_id[at]->id, ref, len))
		return gt_fail_null(err, GT_NOT_FOUND, "No such container: %s", ref);
	if (at + 1 < engine->by_id_count && strncmp(engine->by_id[at + 1]->id, ref, len) == 0)
		return gt_fail_null(err, GT_INVALID, "multiple IDs found with provided prefix: %s", ref);
	return engine->by_id[at];
}

struct gt_container *gt_container_get(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	if (ref[0] == '/')
		ref++;
	if (!ref[0] || strlen(ref) > 255)
		return gt_fail_null(err, GT_INVALID, "a container's name or id has 1 to 255 characters");
	pthread_rwlock_rdlock(&engine->lock);
	struct gt_container *ctr = gt_map_get(&engine->containers, ref);
	if (!ctr)
		ctr = gt_map_get(&engine->names, ref);
	if (!ctr && gt_is_id_prefix(ref))
		ctr = find_prefix(engine, ref, err);
	else if (!ctr)
		gt_fail(err, GT_NOT_FOUND, "No such container: %s", ref);
	if (ctr)
		gt_container_ref(ctr);
	pthread_rwlock_unlock(&engine->lock);
	return ctr;
}

static int newest_first(const void *a, const void *b)
{
	const struct gt_container *x = *(struct gt_container *const *)a, *y = *(struct gt_container *const *)b;
	return x->created < y->created ? 1 : x->created > y->created ? -1 : strcmp(x->id, y->id);
}

struct gt_container **gt_containers_all(struct gt_engine *engine, size_t *count)
{
	pthread_rwlock_rdlock(&engine->lock);
	size_t n = engine->by_id_count;
	struct gt_container **list = gt_xcalloc(n + 1, sizeof *list);
	for (size_t i = 0; i < n; i++)
		list[i] = gt_container_ref(engine->by_id[i]);
	pthread_rwlock_unlock(&engine->lock);
	qsort(list, n, sizeof *list, newest_first);
	if (count)
		*count = n;
	return list;
}

void gt_containers_put(struct gt_container **list)
{
	for (size_t i = 0; list && list[i]; i++)
		gt_container_put(list[i]);
	free(list);
}

static void give_up_name(struct gt_engine *engine, const char *name)
{
	pthread_rwlock_wrlock(&engine->lock);
	gt_map_remove(&engine->names, name);
	pthread_rwlock_unlock(&engine->lock);
}

/* Takes the new name; the old one is kept as well until the new one is stored, so that a crash leaves no two of one name. */
static int take_name(struct gt_container *ctr, const char *name, struct gt_error *err)
{
	struct gt_engine *engine = ctr->engine;
	int rc = 0;
	pthread_rwlock_wrlock(&engine->lock);
	struct gt_container *other = gt_map_get(&engine->names, name);
	if (other) {
		gt_container_name_taken(name, other, err);
		rc = gt_context(err, "Error when allocating new name");
	} else {
		gt_map_set(&engine->names, name, ctr);
		set_name(ctr, name);
	}
	pthread_rwlock_unlock(&engine->lock);
	return rc;
}

int gt_container_rename(struct gt_engine *engine, const char *ref, const char *name, struct gt_error *err)
{
	if (name && name[0] == '/')
		name++;
	if (!name || !name[0])
		return gt_fail(err, GT_INVALID, "Neither old nor new names may be empty");
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	if (!gt_is_name(name))
		return gt_fail(err, GT_INVALID, "Error when allocating new name: Invalid container name (/%.255s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			       name);
	LOCKED(&ctr->op);
	if (ctr->removed)
		return gt_fail(err, GT_NOT_FOUND, "No such container: %s", ref);
	if (strcmp(ctr->name, name) == 0)
		return gt_fail(err, GT_INVALID, "Renaming a container with the same name as its current name");
	AUTO_FREE char *old = gt_xstrdup(ctr->name);
	if (take_name(ctr, name, err) < 0)
		return -1;
	if (gt_container_save(ctr, err) < 0) {
		set_name(ctr, old);
		give_up_name(engine, name);
		return gt_context(err, "rename container %s", old);
	}
	give_up_name(engine, old);
	gt_resolver_renamed(ctr);
	gt_container_event(ctr, "rename", json_pack("{s:s+}", "oldName", "/", old));
	return 0;
}

/* ---- the shim of a running container ---- */

bool gt_container_is_running(struct gt_container *ctr)
{
	LOCKED(&ctr->lock);
	return ctr->status == GT_RUNNING || ctr->status == GT_PAUSED;
}

bool gt_container_await_running(struct gt_container *ctr)
{
	struct timespec until = gt_deadline(START_PATIENCE);
	LOCKED(&ctr->lock);
	while (ctr->starting && !ctr->engine->closing && pthread_cond_timedwait(&ctr->changed, &ctr->lock, &until) == 0)
		;
	return ctr->status == GT_RUNNING || ctr->status == GT_PAUSED;
}

struct gt_shim *gt_container_shim(struct gt_container *ctr, struct gt_error *err)
{
	LOCKED(&ctr->lock);
	if (!ctr->shim || (ctr->status != GT_RUNNING && ctr->status != GT_PAUSED))
		return gt_fail_null(err, GT_CONFLICT, "container %s is not running", ctr->id);
	ctr->shim_users++;
	return ctr->shim;
}

void gt_container_shim_put(struct gt_container *ctr)
{
	LOCKED(&ctr->lock);
	if (--ctr->shim_users == 0)
		pthread_cond_broadcast(&ctr->changed);
}
