/*
 * volume.c - volumes: what a driver keeps, under a name that containers use.
 *
 * A volume's document (volumes/<name>.json) tells driver, options and labels; its data are the driver's. Users are containers, living or not; they are gathered
 * again from the containers at start-up.
 *
 * The table is not locked while a driver works, so that one that takes its time holds up nobody but who wants that very volume: a volume that is being made
 * or removed is in the table as such, and whoever asks for it by name waits until it is settled.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/volume.h"

#define MAX_VOLUMES 100000
#define MAX_STRINGS 1024

static void volume_free(struct volume *volume)
{
	free(volume->name);
	free(volume->driver);
	json_decref(volume->options);
	json_decref(volume->labels);
	gt_map_free(&volume->users);
	free(volume);
}

static json_t *object_or_empty(const json_t *object)
{
	return json_is_object(object) ? json_deep_copy(object) : json_object();
}

static struct volume *volume_new(const char *name, const char *driver, const json_t *options, const json_t *labels)
{
	struct volume *volume = gt_xcalloc(1, sizeof *volume);
	volume->name = gt_xstrdup(name);
	volume->driver = gt_xstrdup(driver);
	volume->options = object_or_empty(options);
	volume->labels = object_or_empty(labels);
	volume->created = gt_now();
	return volume;
}

/* ---- on disk ---- */

/* pending: "create" or "remove" while the driver does it, for a daemon that has to go on with it; NULL: done, and to be kept. */
static int save(struct gt_volumes *volumes, const struct volume *volume, const char *pending, struct gt_error *err)
{
	AUTO_JSON json_t *document = json_pack("{s:s s:s s:O s:O s:I s:b s:s?}", "Name", volume->name, "Driver", volume->driver, "Options", volume->options,
					       "Labels", volume->labels, "Created", (json_int_t)volume->created, "Anonymous", volume->anonymous, "Pending",
					       pending);
	if (!document)
		return gt_fail(err, GT_INVALID, "volume %s cannot be written as JSON", volume->name);
	return gt_store_put(volumes->documents, volume->name, document, !pending, err);
}

/* What a daemon had begun is brought to its end; drivers allow for the repetition. Where that fails, the volume is there as it is, and can be removed. */
static bool complete(struct gt_engine *engine, struct volume *volume, const char *pending)
{
	struct gt_volumes *volumes = engine->volumes;
	struct gt_error err = { 0 };
	struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_VOLUME, volume->driver, &err);
	bool create = strcmp(pending, "create") == 0;
	int rc = !driver ? -1 : create ? gt_vol_create(driver, volume->name, volume->options, &err) : gt_vol_remove(driver, volume->name, &err);
	if (rc == 0)
		rc = create ? save(volumes, volume, NULL, &err) : gt_store_remove(volumes->documents, volume->name, &err);
	if (rc < 0)
		gt_warn("a volume that was half made or half removed stays", "volume", volume->name, "error", err.message);
	return create || rc < 0;
}

static int load_one(void *arg, const char *id, json_t *document)
{
	struct gt_engine *engine = arg;
	const char *name = NULL, *driver = NULL, *pending = NULL;
	gt_json_string(document, "Name", &name, NULL);
	gt_json_string(document, "Pending", &pending, NULL);
	if (gt_map_get(&engine->volumes->map, id))
		return 0; /* the directory is read while documents are replaced in it */
	gt_json_string(document, "Driver", &driver, NULL);
	if (!name || !driver || strcmp(name, id) || !gt_is_name(name)) {
		gt_warn("a volume's document is not one and is passed over", "document", id);
		return 0;
	}
	struct volume *volume = volume_new(name, driver, json_object_get(document, "Options"), json_object_get(document, "Labels"));
	gt_json_int(document, "Created", &volume->created, NULL);
	gt_json_bool(document, "Anonymous", &volume->anonymous, NULL);
	volume->state = VOLUME_THERE;
	if (pending && !complete(engine, volume, pending))
		volume_free(volume);
	else
		gt_map_set(&engine->volumes->map, volume->name, volume);
	return 0;
}

int gt_volumes_open(struct gt_engine *engine, struct gt_error *err)
{
	struct gt_volumes *volumes = engine->volumes = gt_xcalloc(1, sizeof *volumes);
	pthread_mutex_init(&volumes->lock, NULL);
	pthread_cond_init(&volumes->settled, NULL);
	volumes->documents = gt_store_collection(engine->store, "volumes", err);
	if (!volumes->documents || gt_store_each(volumes->documents, load_one, engine, err) < 0)
		return -1;
	engine->figures.volumes = volumes->map.count;
	return 0;
}

void gt_volumes_close(struct gt_engine *engine)
{
	struct gt_volumes *volumes = engine->volumes;
	struct gt_map_slot *slot;
	if (!volumes)
		return;
	for (size_t i = 0; (slot = gt_map_next(&volumes->map, &i)) != NULL;)
		volume_free(slot->value);
	gt_map_free(&volumes->map);
	pthread_cond_destroy(&volumes->settled);
	pthread_mutex_destroy(&volumes->lock);
	free(volumes);
	engine->volumes = NULL;
}

/* ---- create ---- */

static int check_name(const char *name, struct gt_error *err)
{
	if (strlen(name) <= 128 && gt_is_name(name) && strlen(name) > 1)
		return 0;
	return gt_fail(err, GT_INVALID,
		       "create %.255s: \"%.255s\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you "
		       "intended to pass a host directory, use absolute path",
		       name, name);
}

/* One that is there has to be what was asked for; nothing asked for fits everything. */
static int check_same(const struct volume *volume, const char *driver, const json_t *options, struct gt_error *err)
{
	if (driver && driver[0] && strcmp(driver, volume->driver))
		return gt_fail(err, GT_CONFLICT, "create %s: a volume with the name %s already exists with driver %s", volume->name, volume->name, volume->driver);
	if (json_object_size(options) && !json_equal(options, volume->options))
		return gt_fail(err, GT_CONFLICT, "create %s: a volume with the name %s already exists with different options", volume->name, volume->name);
	return 0;
}

/* The driver's part: all of it, or nothing. */
static int make_with_driver(struct gt_engine *engine, const struct volume *volume, struct gt_error *err)
{
	struct gt_volumes *volumes = engine->volumes;
	struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_VOLUME, volume->driver, err);
	if (!driver)
		return -1;
	bool made = false;
	if (save(volumes, volume, "create", err) == 0 && (made = gt_vol_create(driver, volume->name, volume->options, err) == 0) &&
	    save(volumes, volume, NULL, err) == 0)
		return 0;
	if (made)
		gt_vol_remove(driver, volume->name, NULL);
	gt_store_remove(volumes->documents, volume->name, NULL);
	return gt_context(err, "create %s", volume->name);
}

/* With the lock held: it is in the table and settled, or gone. */
static void settle(struct gt_engine *engine, struct volume *volume, bool there)
{
	struct gt_volumes *volumes = engine->volumes;
	volume->state = VOLUME_THERE;
	if (!there) {
		gt_map_remove(&volumes->map, volume->name);
		volume_free(volume);
	}
	engine->figures.volumes = volumes->map.count;
	pthread_cond_broadcast(&volumes->settled);
}

/* With the lock held, which is let go while the driver works. */
static struct volume *make(struct gt_engine *engine, const char *name, const char *driver, const json_t *options, const json_t *labels,
			   bool anonymous, struct gt_error *err)
{
	struct gt_volumes *volumes = engine->volumes;
	if (check_name(name, err) < 0)
		return NULL;
	if (volumes->map.count >= MAX_VOLUMES)
		return gt_fail_null(err, GT_TOO_LARGE, "there are %d volumes already: prune those that are not used", MAX_VOLUMES);
	struct volume *volume = volume_new(name, driver, options, labels);
	volume->anonymous = anonymous;
	volume->state = VOLUME_MAKING;
	gt_map_set(&volumes->map, name, volume);
	pthread_mutex_unlock(&volumes->lock);
	int rc = make_with_driver(engine, volume, err);
	pthread_mutex_lock(&volumes->lock);
	settle(engine, volume, rc == 0);
	if (rc < 0)
		return NULL;
	gt_event(engine, "volume", "create", name, json_pack("{s:s}", "driver", driver));
	return volume;
}

/* With the lock held, which is let go while one of that name is being made or removed. */
static struct volume *find_settled(struct gt_volumes *volumes, const char *name)
{
	struct volume *volume;
	while ((volume = gt_map_get(&volumes->map, name)) != NULL && volume->state != VOLUME_THERE)
		pthread_cond_wait(&volumes->settled, &volumes->lock);
	return volume;
}

int volume_use(struct gt_engine *engine, const char *name, const char *driver, const json_t *options, const json_t *labels, const char *user,
	       char **out_name, char **out_driver, struct gt_error *err)
{
	struct gt_volumes *volumes = engine->volumes;
	char fresh[GT_ID_LEN + 1];
	bool anonymous = !name || !name[0];
	if (anonymous) {
		gt_id_new(fresh);
		name = fresh;
	}
	LOCKED(&volumes->lock);
	struct volume *volume = find_settled(volumes, name);
	if (volume && check_same(volume, driver, options, err) < 0)
		return -1;
	AUTO_JSON json_t *own_labels = anonymous ? object_or_empty(labels) : NULL;
	if (anonymous && !json_object_get(own_labels, "com.docker.volume.anonymous"))
		json_object_set_new(own_labels, "com.docker.volume.anonymous", json_string(""));
	if (!volume)
		volume = make(engine, name, driver && driver[0] ? driver : "local", options, anonymous ? own_labels : labels, anonymous, err);
	if (!volume)
		return -1;
	if (user)
		gt_map_set(&volume->users, user, volume);
	*out_name = gt_xstrdup(volume->name);
	*out_driver = gt_xstrdup(volume->driver);
	return 0;
}

/* ---- users ---- */

void volume_note_user(struct gt_engine *engine, const char *name, const char *user)
{
	LOCKED(&engine->volumes->lock);
	struct volume *volume = gt_map_get(&engine->volumes->map, name);
	if (volume)
		gt_map_set(&volume->users, user, volume);
}

void volume_drop_user(struct gt_engine *engine, const char *name, const char *user)
{
	LOCKED(&engine->volumes->lock);
	struct volume *volume = gt_map_get(&engine->volumes->map, name);
	if (volume)
		gt_map_remove(&volume->users, user);
}

bool volume_claim_fill(struct gt_engine *engine, const char *name)
{
	LOCKED(&engine->volumes->lock);
	struct volume *volume = gt_map_get(&engine->volumes->map, name);
	if (!volume || volume->filled)
		return false;
	volume->filled = true;
	return true;
}

void volume_unclaim_fill(struct gt_engine *engine, const char *name)
{
	LOCKED(&engine->volumes->lock);
	struct volume *volume = gt_map_get(&engine->volumes->map, name);
	if (volume)
		volume->filled = false;
}

/* ---- drivers that count ---- */

struct tally {
	struct gt_driver *driver;
	struct gantry_volume_use *uses;
	size_t count;
};

static void run_tally(void *arg)
{
	struct tally *tally = arg;
	struct gt_error err = { 0 };
	if (gt_vol_reconcile(tally->driver, tally->uses, tally->count, &err) < 0)
		gt_warn("a volume driver's mounts may not be those of the containers that run", "driver", gt_driver_name(tally->driver), "error", err.message);
	for (size_t i = 0; i < tally->count; i++) {
		free((char *)(uintptr_t)tally->uses[i].name);
		free((char *)(uintptr_t)tally->uses[i].container_id);
	}
	free(tally->uses);
	free(tally);
}

static void count_uses(struct tally *tally, struct gt_container *ctr)
{
	for (size_t i = 0; i < ctr->mount_count; i++) {
		const struct gt_container_mount *own = &ctr->mounts[i];
		if (strcmp(own->type, "volume") || !own->driver || strcmp(own->driver, gt_driver_name(tally->driver)))
			continue;
		tally->uses = gt_xrealloc(tally->uses, (tally->count + 1) * sizeof *tally->uses);
		tally->uses[tally->count++] = (struct gantry_volume_use){ .name = gt_xstrdup(own->name), .container_id = gt_xstrdup(ctr->id) };
	}
}

static bool is_family(const json_t *driver)
{
	size_t i;
	json_t *capability;
	json_array_foreach(json_object_get(driver, "Capabilities"), i, capability) {
		if (strcmp(json_string_value(capability), "family") == 0)
			return true;
	}
	return false;
}

/* Drivers that are open, with volumes or without, and those of families that have volumes: each once. Another one of a family has nothing to count as long as
 * nobody asks for it. */
static json_t *drivers_to_tell(struct gt_engine *engine)
{
	json_t *names = json_object();
	AUTO_JSON json_t *all = gt_drivers_describe(engine->drivers);
	struct gt_map_slot *slot;
	size_t i, j;
	json_t *plugin, *driver;
	json_array_foreach(json_object_get(all, "Plugins"), i, plugin) {
		json_array_foreach(json_object_get(plugin, "Drivers"), j, driver) {
			if (strcmp(json_string_value(json_object_get(driver, "Kind")), "volume") == 0 && json_is_true(json_object_get(driver, "Open")) &&
			    !is_family(driver))
				json_object_set_new(names, json_string_value(json_object_get(driver, "Name")), json_true());
		}
	}
	LOCKED(&engine->volumes->lock);
	for (i = 0; (slot = gt_map_next(&engine->volumes->map, &i)) != NULL;)
		json_object_set_new(names, ((struct volume *)slot->value)->driver, json_true());
	return names;
}

void gt_volumes_tell(struct gt_engine *engine, const char *name)
{
	struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_VOLUME, name, NULL);
	if (!driver || !gt_vol_counts(driver))
		return; /* a volume says when it is used that its driver is not there */
	struct gt_container **all = gt_containers_all(engine, NULL);
	struct tally *tally = gt_xcalloc(1, sizeof *tally);
	*tally = (struct tally){ .driver = driver };
	for (size_t i = 0; all[i]; i++) {
		if (gt_container_is_running(all[i]))
			count_uses(tally, all[i]);
	}
	gt_containers_put(all);
	gt_work(engine, run_tally, tally);
}

void gt_volumes_reconcile(struct gt_engine *engine)
{
	AUTO_JSON json_t *names = drivers_to_tell(engine);
	const char *name;
	json_t *value;
	json_object_foreach(names, name, value)
		gt_volumes_tell(engine, name);
}

/* ---- removal ---- */

/* force: it is forgotten even where its driver is away or cannot remove it. */
static int remove_with_driver(struct gt_engine *engine, const struct volume *volume, bool force, struct gt_error *err)
{
	struct gt_volumes *volumes = engine->volumes;
	struct gt_error why = { 0 };
	struct gt_driver *driver = gt_driver_find(engine->drivers, GANTRY_VOLUME, volume->driver, &why);
	if (!driver || save(volumes, volume, "remove", &why) < 0 || gt_vol_remove(driver, volume->name, &why) < 0) {
		if (!force) {
			save(volumes, volume, NULL, NULL); /* it stays, and may be used again */
			*err = why;
			return gt_context(err, "remove %s", volume->name);
		}
		gt_warn("a volume is forgotten that its driver did not remove", "volume", volume->name, "error", why.message);
	}
	return gt_store_remove(volumes->documents, volume->name, err) < 0 ? gt_context(err, "remove %s", volume->name) : 0;
}

/* With the lock held, which is let go while the driver works; of a volume that is there and has no users. */
static int unmake(struct gt_engine *engine, struct volume *volume, bool force, struct gt_error *err)
{
	struct gt_volumes *volumes = engine->volumes;
	volume->state = VOLUME_REMOVING;
	pthread_mutex_unlock(&volumes->lock);
	int rc = remove_with_driver(engine, volume, force, err);
	pthread_mutex_lock(&volumes->lock);
	if (rc == 0)
		gt_event(engine, "volume", "destroy", volume->name, json_pack("{s:s}", "driver", volume->driver));
	settle(engine, volume, rc < 0);
	return rc;
}

static int fail_in_use(const struct volume *volume, struct gt_error *err)
{
	AUTO_BUF struct gt_buf users = { 0 };
	struct gt_map_slot *slot;
	for (size_t i = 0, n = 0; n < 8 && (slot = gt_map_next(&volume->users, &i)) != NULL; n++)
		gt_buf_printf(&users, "%s%s", users.len ? ", " : "", slot->key);
	return gt_fail(err, GT_CONFLICT, "remove %s: volume is in use - [%s]", volume->name, users.data);
}

int gt_volume_remove(struct gt_engine *engine, const char *name, bool force, struct gt_error *err)
{
	LOCKED(&engine->volumes->lock);
	struct volume *volume = find_settled(engine->volumes, name);
	if (!volume)
		return force ? 0 : gt_fail(err, GT_NOT_FOUND, "get %.255s: no such volume", name);
	if (volume->users.count)
		return fail_in_use(volume, err);
	return unmake(engine, volume, force, err);
}

void volume_remove_unused(struct gt_engine *engine, const char *name)
{
	struct gt_error err = { 0 };
	LOCKED(&engine->volumes->lock);
	struct volume *volume = find_settled(engine->volumes, name);
	if (volume && !volume->users.count && unmake(engine, volume, false, &err) < 0)
		gt_warn("an anonymous volume could not be removed", "volume", name, "error", err.message);
}

int volume_remove_if(struct gt_engine *engine, const char *name, bool (*wanted)(const struct volume *volume, void *arg), void *arg, struct gt_error *err)
{
	LOCKED(&engine->volumes->lock);
	struct volume *volume = find_settled(engine->volumes, name);
	if (!volume || volume->users.count || !wanted(volume, arg))
		return 0;
	return unmake(engine, volume, false, err) < 0 ? -1 : 1;
}

/* ---- create for the API ---- */

json_t *gt_volume_create(struct gt_engine *engine, const json_t *body, struct gt_error *err)
{
	const char *name = NULL, *driver = NULL;
	json_t *options = NULL, *labels = NULL;
	if (gt_json_string(body, "Name", &name, err) < 0 || gt_json_string(body, "Driver", &driver, err) < 0 ||
	    gt_json_string_map(body, "DriverOpts", MAX_STRINGS, &options, err) < 0 || gt_json_string_map(body, "Labels", MAX_STRINGS, &labels, err) < 0)
		return NULL;
	if (gt_json_get(body, "ClusterVolumeSpec") && !json_is_null(gt_json_get(body, "ClusterVolumeSpec")))
		return gt_fail_null(err, GT_UNSUPPORTED, "cluster volumes (ClusterVolumeSpec) are not supported");
	AUTO_FREE char *made = NULL;
	AUTO_FREE char *made_driver = NULL;
	if (volume_use(engine, name, driver, options, labels, NULL, &made, &made_driver, err) < 0)
		return NULL;
	return gt_volume_inspect(engine, made, err);
}
