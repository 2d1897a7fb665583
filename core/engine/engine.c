/*
 * engine.c - the engine put together and taken apart.
 *
 * Order of opening: store, drivers, images, events, threads, networks, volumes, containers; then what is stored is held against what runs (reconcile.c).
 * Closing goes the other way; containers run on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dns/dns.h"
#include "engine/apparmor.h"
#include "engine/internal.h"
#include "engine/seccomp.h"

#define ID_FILE "engine-id"

/* The same for the life of the state directory; a damaged file is replaced. */
static int read_engine_id(struct gt_engine *engine, struct gt_error *err)
{
	int root = gt_store_dirfd(engine->store);
	AUTO_BUF struct gt_buf text = { 0 };
	gt_store_check_file(engine->store, ID_FILE);
	if (gt_read_file(root, ID_FILE, 256, &text, NULL) == 0 && text.len == GT_ID_LEN && gt_is_id(text.data)) {
		engine->engine_id = gt_buf_take(&text);
		return 0;
	}
	char id[GT_ID_LEN + 1];
	gt_id_new(id);
	if (gt_replace_file(root, ID_FILE, id, GT_ID_LEN, 0600, true, err) < 0)
		return -1;
	engine->engine_id = gt_xstrdup(id);
	return 0;
}

static void driver_event(void *arg, const char *driver, const char *object, const char *action, const char *detail)
{
	struct gt_engine *engine = arg;
	if (engine->events)
		gt_event(engine, "plugin", action, driver, json_pack("{s:s s:s}", "object", object ? object : "", "detail", detail ? detail : ""));
}

static int open_store(struct gt_engine *engine, const struct gt_config *config, struct gt_error *err)
{
	engine->shim_path = gt_xasprintf("%s/gantry-shim", config->libexec_dir);
	engine->init_path = gt_xasprintf("%s/gantry-init", config->libexec_dir);
	engine->fs_helper = gt_xasprintf("%s/gantry-fs", config->libexec_dir);
	const char *const programs[] = { engine->shim_path, engine->init_path, engine->fs_helper };
	for (size_t i = 0; i < GT_COUNT(programs); i++) {
		if (access(programs[i], X_OK) < 0)
			return gt_fail_errno(err, errno, "the program %s cannot be run; check [daemon] libexec_dir", programs[i]);
	}
	if (gt_store_open(config->root, config->fsync, &engine->store, err) < 0 || read_engine_id(engine, err) < 0 ||
	    !(engine->definitions = gt_store_collection(engine->store, "containers", err)) ||
	    !(engine->states = gt_store_collection(engine->store, "states", err)))
		return -1;
	AUTO_FREE char *bundles = gt_xasprintf("%s/containers", config->run);
	return gt_mkdirs(AT_FDCWD, bundles, 0711, err);
}

static int load_drivers(struct gt_engine *engine, const struct gt_config *config, struct gt_error *err)
{
	struct gt_strings off = { 0 };
	int rc = gt_events_new(engine, err) < 0 || gt_plugins_open(engine, &off, err) < 0 ? -1 :
		 gt_drivers_load(config, &off, driver_event, engine, &engine->drivers, err);
	gt_strings_free(&off);
	return rc;
}

static int open_parts(struct gt_engine *engine, const struct gt_config *config, struct gt_error *err)
{
	if (load_drivers(engine, config, err) < 0)
		return -1;
	struct gt_driver *storage = gt_driver_find(engine->drivers, GANTRY_STORAGE, config->storage_driver, err);
	if (!storage)
		return gt_context(err, "[storage] driver");
	if (gt_images_open(config, engine->store, storage, &engine->images, err) < 0 || gt_seccomp_cache_new(engine, err) < 0 ||
	    gt_workers_new(engine, err) < 0 || gt_timers_new(engine, err) < 0 || gt_monitor_new(engine, err) < 0 || gt_dns_open(&engine->dns, err) < 0)
		return -1;
	return gt_networks_open(engine, err) < 0 || gt_volumes_open(engine, err) < 0 || gt_containers_load(engine, err) < 0 ||
			       gt_builds_open(engine, err) < 0 ? -1 : 0;
}

static void load_embedded(struct gt_engine *engine, const struct gt_config *config)
{
	struct gt_error err = { 0 };
	if (config->embedded_image && config->embedded_image[0] &&
	    gt_images_load_embedded(engine->images, config->embedded_image, &err) < 0)
		gt_warn("the embedded image could not be loaded", "error", err.message);
}

/* Before anything starts. Without it the rest works: containers that need it say so. */
static void load_apparmor(void)
{
	struct gt_error err = { 0 };
	if (gt_apparmor_load(true, &err) < 0)
		gt_warn("AppArmor: containers of the default profile cannot start", "error", err.message);
}

int gt_engine_open(const struct gt_config *config, struct gt_engine **out, struct gt_error *err)
{
	int64_t began = gt_monotonic();
	struct gt_engine *engine = gt_xcalloc(1, sizeof *engine);
	atomic_store(&engine->config, config);
	pthread_rwlock_init(&engine->lock, NULL);
	gt_producers_init(&engine->archives);
	load_apparmor();
	if (open_store(engine, config, err) < 0 || open_parts(engine, config, err) < 0 || gt_reconcile(engine, err) < 0) {
		gt_engine_close(engine);
		return -1;
	}
	gt_networks_reconcile(engine);
	gt_volumes_reconcile(engine);
	gt_resolvers_reconcile(engine);
	gt_globals_open(engine);
	load_embedded(engine, config);
	engine->figures.opening = gt_monotonic() - began;
	*out = engine;
	return 0;
}

void gt_engine_reload(struct gt_engine *engine, const struct gt_config *config)
{
	atomic_store(&engine->config, config);
	gt_event(engine, "daemon", "reload", engine->engine_id, NULL);
}

/* Wakes everyone who waits for a container: they see engine->closing. */
static void wake_waiters(struct gt_engine *engine)
{
	struct gt_container **all = gt_containers_all(engine, NULL);
	for (size_t i = 0; all[i]; i++) {
		LOCKED(&all[i]->lock);
		pthread_cond_broadcast(&all[i]->changed);
	}
	gt_containers_put(all);
}

/* The tables' references, and those of the monitor, whose thread is gone. */
static void free_containers(struct gt_engine *engine)
{
	for (size_t i = 0; i < engine->by_id_count; i++) {
		struct gt_container *ctr = engine->by_id[i];
		gt_health_stopped(ctr);
		gt_execs_drop(ctr);
		gt_attach_waiting_drop(ctr);
		if (ctr->shim && !ctr->exit_seen)
			gt_container_put(ctr);
		gt_container_put(ctr);
	}
	free(engine->by_id);
	gt_map_free(&engine->containers);
	gt_map_free(&engine->spared);
	gt_map_free(&engine->names);
	gt_map_free(&engine->execs);
}

void gt_engine_close(struct gt_engine *engine)
{
	atomic_store(&engine->closing, true);
	wake_waiters(engine);
	if (engine->drivers)
		gt_drivers_cancel(engine->drivers);
	gt_globals_close(engine);
	gt_builds_end(engine);
	gt_producers_end(&engine->archives);
	gt_monitor_free(engine);
	gt_timers_stop(engine);
	gt_workers_free(engine);
	gt_timers_free(engine);
	free_containers(engine);
	gt_dns_close(engine->dns);
	gt_networks_close(engine);
	gt_volumes_close(engine);
	gt_seccomp_cache_free(engine);
	gt_builds_close(engine);
	if (engine->images)
		gt_images_close(engine->images);
	if (engine->drivers)
		gt_drivers_free(engine->drivers);
	gt_events_free(engine);
	if (engine->store)
		gt_store_close(engine->store);
	pthread_rwlock_destroy(&engine->lock);
	free(engine->shim_path);
	free(engine->init_path);
	free(engine->fs_helper);
	free(engine->engine_id);
	free(engine);
}
