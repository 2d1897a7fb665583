/*
 * layer.c - the layers that are there, those on their way in, and how they are counted.
 *
 * unpack.c does the work on one layer; here its chain id is claimed meanwhile, so that two loads of one layer meet: the second waits for the first.
 * A layer enters the table when its files are verified, the driver has sealed it and its document is written. A crash on the way leaves an
 * unsealed layer (the driver removes it when it opens), a stray recipe, or a sealed layer without a document (store.c removes these).
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define MAX_WORKERS 4           /* that fill layers of one image at the same time, where their bytes are here already */
#define MAX_DOWNLOADS 16        /* the same where they are fetched; [registry] max_downloads */

void chain_id(const char *parent_chain, const char *diff, char chain[65])
{
	if (!parent_chain) {
		memcpy(chain, diff, 65);
		return;
	}
	char text[2 * 72];
	int len = snprintf(text, sizeof text, "sha256:%s sha256:%s", parent_chain, diff);
	digest_of(text, (size_t)len, chain);
}

/* What becomes of a pulled layer, in Docker's words. */
static void tell(struct gt_progress *progress, const struct layer_source *source, const char *status)
{
	if (source->label)
		progress_emit(progress, json_pack("{s:s, s:{}, s:s}", "status", status, "progressDetail", "id", source->label));
}

/* ---- table and claims ---- */

static void claim(struct gt_images *images, const char *chain)
{
	gt_map_set(&images->claims, chain, images);
}

static void unclaim(struct gt_images *images, const char *chain)
{
	gt_map_remove(&images->claims, chain);
	pthread_cond_broadcast(&images->changed);
}

struct layer *layer_count(struct gt_images *images, struct layer *layer)
{
	if (layer && layer->refs++ == 0)
		images->idle_layers--;
	return layer;
}

/* With the lock held. */
static struct layer *find_counted(struct gt_images *images, const char *chain)
{
	while (gt_map_get(&images->claims, chain))
		pthread_cond_wait(&images->changed, &images->lock);
	return layer_count(images, gt_map_get(&images->layers, chain));
}

/* With the lock held: the finished layer enters the table with one count, or gives way to one that is there. */
static struct layer *enter(struct gt_images *images, struct layer *layer)
{
	layer->refs = 1;
	gt_map_set(&images->layers, layer->chain, layer);
	layer_count(images, layer->parent);
	return layer;
}

/* Makes the layer in the storage driver: prepared, filled, verified, and sealed, or not there. */
static int make_layer(struct gt_images *images, struct layer *layer, const struct layer_source *source, struct gt_progress *progress,
		      struct gt_error *err)
{
	if (layer_begin(images, layer, err) < 0)
		return -1;
	if (layer_fill(images, layer, source, progress, NULL, err) == 0 && gt_layer_commit(images->storage, layer->id, err) == 0)
		return 0;
	layer_discard(images, layer);
	return -1;
}

/* import, commit: the chain id is known only once the layer is there. */
static struct layer *acquire_unknown(struct gt_images *images, struct layer *parent, const struct layer_source *source,
				     struct gt_progress *progress, struct gt_error *err)
{
	AUTO_FREE struct layer *layer = gt_xcalloc(1, sizeof *layer);
	layer->parent = parent;
	gt_id_new(layer->id);
	if (make_layer(images, layer, source, progress, err) < 0)
		return NULL;
	chain_id(parent ? parent->chain : NULL, layer->diff, layer->chain);
	pthread_mutex_lock(&images->lock);
	struct layer *known = find_counted(images, layer->chain);
	if (!known)
		claim(images, layer->chain);
	pthread_mutex_unlock(&images->lock);
	if (known) {
		layer_discard(images, layer);
		return known;
	}
	int rc = store_put_layer(images, layer, err);
	pthread_mutex_lock(&images->lock);
	struct layer *result = rc == 0 ? enter(images, layer) : NULL;
	unclaim(images, layer->chain);
	pthread_mutex_unlock(&images->lock);
	if (!result)
		layer_discard(images, layer);
	else
		(void)take(layer);
	return result;
}

struct layer *layer_acquire(struct gt_images *images, struct layer *parent, const struct layer_source *source,
			    struct gt_progress *progress, struct gt_error *err)
{
	if (!source->diff_hex)
		return acquire_unknown(images, parent, source, progress, err);
	AUTO_FREE struct layer *layer = gt_xcalloc(1, sizeof *layer);
	layer->parent = parent;
	chain_id(parent ? parent->chain : NULL, source->diff_hex, layer->chain);
	memcpy(layer->id, layer->chain, sizeof layer->id);
	pthread_mutex_lock(&images->lock);
	struct layer *known = find_counted(images, layer->chain);
	if (!known)
		claim(images, layer->chain);
	pthread_mutex_unlock(&images->lock);
	tell(progress, source, known ? "Already exists" : "Pulling fs layer");
	if (known)
		return known;

	int rc = make_layer(images, layer, source, progress, err);
	bool sealed = rc == 0;
	if (rc == 0)
		rc = store_put_layer(images, layer, err);
	if (rc < 0 && sealed)
		layer_discard(images, layer);
	pthread_mutex_lock(&images->lock);
	struct layer *result = rc == 0 ? enter(images, layer) : NULL;
	unclaim(images, layer->chain);
	pthread_mutex_unlock(&images->lock);
	if (!result)
		return NULL;
	(void)take(layer);
	tell(progress, source, "Pull complete");
	return result;
}

/* ---- several layers at once ---- */

/*
 * Layers of one image that are all missing are filled by a few workers at a time, where the driver can (GANTRY_STORAGE_PARALLEL), and sealed from the
 * base up as they are done, while others are still on their way: so the disk has its share of the work early. What a layer needs of those below it is
 * fetched when its turn to be sealed comes; in odd cases it is filled again then.
 */
struct batch {
	struct gt_images *images;
	const struct layer_source *sources;
	struct layer **layers;
	size_t count;
	size_t *order;                  /* indexes, largest blob first */
	atomic_size_t next;             /* of order */
	atomic_bool stop;
	struct gt_progress *progress;
	pthread_mutex_t progress_lock;

	pthread_mutex_t lock;           /* guards what follows; results and errors of a layer are its worker's until it is done */
	int *results;                   /* 1: filled, 0: not done, -1: failed with errors[i] */
	struct gt_error *errors;
	json_t **owed;                  /* what a filled layer lacks of those below; NULL: nothing */
	bool sealing;                   /* a worker is at it */
	size_t done;                    /* layers sealed */
	struct layer *top;              /* the last of them, or what they stand on: counted */
};

static void emit_locked(void *arg, json_t *message)
{
	struct batch *batch = arg;
	LOCKED(&batch->progress_lock);
	batch->progress->emit(batch->progress->arg, message);
}

/* One layer's failure ends the others. */
static bool batch_cancelled(void *arg)
{
	struct batch *batch = arg;
	return atomic_load(&batch->stop) || gt_progress_cancelled(batch->progress);
}

/* Seals layer i, whose parent is sealed, and puts it into the table. */
static int seal_one(struct batch *batch, size_t i, struct gt_progress *progress, struct gt_error *err)
{
	struct gt_images *images = batch->images;
	struct layer *layer = batch->layers[i];
	int rc = batch->results[i] > 0 ? 0 : -1;
	if (rc == 0 && batch->owed[i])
		rc = layer_settle(images, layer, batch->owed[i], err);
	if (rc < 0 && err->kind == GT_UNAVAILABLE) {
		gt_error_clear(err);
		rc = layer_begin(images, layer, err) < 0 ? -1 : layer_fill(images, layer, &batch->sources[i], progress, NULL, err);
	}
	if (rc < 0 || gt_layer_commit(images->storage, layer->id, err) < 0 || store_put_layer(images, layer, err) < 0)
		return -1;
	pthread_mutex_lock(&images->lock);
	enter(images, layer);
	if (batch->top)
		batch->top->refs--; /* ours; the new one counts it too */
	batch->top = layer;
	unclaim(images, layer->chain);
	pthread_mutex_unlock(&images->lock);
	tell(progress, &batch->sources[i], "Pull complete");
	return 0;
}

/* Layer i is filled, or not; seals what can be sealed, where nobody else is at it. */
static void note_result(struct batch *batch, size_t i, int result, struct gt_progress *progress)
{
	pthread_mutex_lock(&batch->lock);
	batch->results[i] = result;
	if (result < 0 && batch->errors[i].kind != GT_UNAVAILABLE)
		atomic_store(&batch->stop, true);
	bool mine = !batch->sealing;
	while (mine && batch->done < batch->count && batch->results[batch->done] && !atomic_load(&batch->stop)) {
		size_t at = batch->done;
		batch->sealing = true;
		pthread_mutex_unlock(&batch->lock);
		int rc = seal_one(batch, at, progress, &batch->errors[at]);
		pthread_mutex_lock(&batch->lock);
		batch->sealing = false;
		batch->done += rc == 0;
		if (rc < 0) {
			batch->results[at] = -1;
			atomic_store(&batch->stop, true);
		}
	}
	pthread_mutex_unlock(&batch->lock);
}

static void *batch_worker(void *arg)
{
	struct batch *batch = arg;
	struct gt_progress locked = { emit_locked, batch, batch_cancelled }, *progress = batch->progress ? &locked : NULL;
	for (;;) {
		size_t turn = atomic_fetch_add(&batch->next, 1);
		if (turn >= batch->count || atomic_load(&batch->stop))
			return NULL;
		size_t i = batch->order[turn];
		/* below the first of them all is there already */
		int rc = layer_fill(batch->images, batch->layers[i], &batch->sources[i], progress, i > 0 ? &batch->owed[i] : NULL,
				    &batch->errors[i]);
		note_result(batch, i, rc < 0 ? -1 : 1, progress);
	}
}

static size_t worker_count(const struct batch *batch)
{
	if (batch->sources[0].blob.remote)
		return (size_t)batch->images->config->max_downloads;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return cpus < 1 ? 1 : cpus > MAX_WORKERS ? MAX_WORKERS : (size_t)cpus;
}

static int64_t stored_size(const struct layer_source *source)
{
	return source->blob.remote ? source->blob_size : source->blob.length;
}

static void fill_all(struct batch *batch)
{
	size_t wanted = worker_count(batch), started = 0;
	pthread_t threads[MAX_DOWNLOADS];
	for (size_t i = 0; i < batch->count; i++) { /* insertion sort: there are few */
		size_t at = i;
		for (; at > 0 && stored_size(&batch->sources[batch->order[at - 1]]) < stored_size(&batch->sources[i]); at--)
			batch->order[at] = batch->order[at - 1];
		batch->order[at] = i;
	}
	/* the calling thread is one of them */
	while (started + 1 < wanted && started + 1 < batch->count &&
	       pthread_create(&threads[started], NULL, batch_worker, batch) == 0)
		started++;
	batch_worker(batch);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
}

/* The failure that made the workers stop comes before those that it caused. */
static void first_failure(const struct batch *batch, struct gt_error *err)
{
	const struct gt_error *first = NULL;
	for (size_t i = 0; i < batch->count; i++) {
		const struct gt_error *error = &batch->errors[i];
		if (batch->results[i] < 0 && error->kind != GT_UNAVAILABLE && (!first || (first->kind == GT_CANCELLED && error->kind != GT_CANCELLED)))
			first = error;
	}
	if (err && first)
		*err = *first;
}

/* Returns the new top, counted, whose count on parent's is taken over; or NULL with everything undone, parent's count too. */
static struct layer *run_batch(struct batch *batch, struct layer *parent, struct gt_error *err)
{
	struct gt_images *images = batch->images;
	size_t begun = 0;
	int rc = 0;
	batch->top = parent;
	for (; rc == 0 && begun < batch->count; begun += rc == 0)
		rc = layer_begin(images, batch->layers[begun], err);
	if (rc == 0) {
		fill_all(batch);
		if (batch->done == batch->count)
			return batch->top;
		first_failure(batch, err);
	}
	for (size_t i = begun; i-- > batch->done;)
		layer_discard(images, batch->layers[i]);
	pthread_mutex_lock(&images->lock);
	for (size_t i = batch->done; i < batch->count; i++) {
		unclaim(images, batch->layers[i]->chain);
		free(batch->layers[i]);
	}
	pthread_mutex_unlock(&images->lock);
	layer_release(images, batch->top);
	return NULL;
}

/* With the lock held: those of the chain that are there already; moves *top, counted, up to the last of them. */
static size_t skip_known(struct gt_images *images, const struct layer_source *sources, size_t count, struct layer **top)
{
	size_t i = 0;
	for (; i < count; i++) {
		char chain[65];
		chain_id(*top ? (*top)->chain : NULL, sources[i].diff_hex, chain);
		struct layer *known = find_counted(images, chain);
		if (!known)
			break;
		if (*top)
			(*top)->refs--;
		*top = known;
	}
	return i;
}

static struct layer *acquire_in_turn(struct gt_images *images, const struct layer_source *sources, size_t count,
				     struct gt_progress *progress, struct gt_error *err)
{
	struct layer *top = NULL;
	for (size_t i = 0; i < count; i++) {
		struct layer *next = layer_acquire(images, top, &sources[i], progress, err);
		layer_release(images, top); /* next counts it */
		if (!next)
			return NULL;
		top = next;
	}
	return top;
}

struct layer *layers_acquire(struct gt_images *images, const struct layer_source *sources, size_t count, struct gt_progress *progress,
			     struct gt_error *err)
{
	if (count < 2 || !(gt_driver_capabilities(images->storage) & GANTRY_STORAGE_PARALLEL))
		return acquire_in_turn(images, sources, count, progress, err);
	AUTO_FREE struct layer **layers = gt_xcalloc(count, sizeof *layers);
	AUTO_FREE size_t *order = gt_xcalloc(count, sizeof *order);
	AUTO_FREE int *results = gt_xcalloc(count, sizeof *results);
	AUTO_FREE json_t **owed = gt_xcalloc(count, sizeof *owed);
	AUTO_FREE struct gt_error *errors = gt_xcalloc(count, sizeof *errors);
	struct layer *top = NULL;
	pthread_mutex_lock(&images->lock);
	size_t known = skip_known(images, sources, count, &top);
	for (size_t i = known; i < count; i++) {
		struct layer *layer = layers[i - known] = gt_xcalloc(1, sizeof *layer);
		layer->parent = i > known ? layers[i - known - 1] : top;
		chain_id(layer->parent ? layer->parent->chain : NULL, sources[i].diff_hex, layer->chain);
		memcpy(layer->id, layer->chain, sizeof layer->id);
		claim(images, layer->chain); /* nobody else has: the first of them was free, and the rest stand on it */
	}
	pthread_mutex_unlock(&images->lock);
	for (size_t i = 0; i < count; i++)
		tell(progress, &sources[i], i < known ? "Already exists" : "Pulling fs layer");
	if (known == count)
		return top;
	struct batch batch = { .images = images, .sources = sources + known, .layers = layers, .count = count - known, .order = order,
			       .results = results, .owed = owed, .errors = errors, .progress = progress };
	pthread_mutex_init(&batch.progress_lock, NULL);
	pthread_mutex_init(&batch.lock, NULL);
	struct layer *made = run_batch(&batch, top, err);
	pthread_mutex_destroy(&batch.progress_lock);
	pthread_mutex_destroy(&batch.lock);
	for (size_t i = 0; i < count; i++)
		json_decref(owed[i]);
	return made;
}

/* ---- counting down ---- */

/* With the lock held, for a layer that counts 0: removes it (the lock is given up meanwhile). Returns the parent, whose count it held, or NULL. */
static struct layer *remove_idle(struct gt_images *images, struct layer *layer)
{
	if (gt_map_get(&images->claims, layer->chain))
		return NULL; /* another thread is at it */
	claim(images, layer->chain);
	pthread_mutex_unlock(&images->lock);
	struct gt_error err = { 0 };
	int rc = gt_layer_remove(images->storage, layer->id, &err);
	if (rc == 0) {
		layer_drop_recipe(images, layer->id);
		store_drop_layer(images, layer);
	}
	pthread_mutex_lock(&images->lock);
	unclaim(images, layer->chain);
	if (rc < 0) {
		if (err.kind != GT_CONFLICT)
			gt_warn("a layer could not be removed", "layer", layer->id, "error", err.message);
		return NULL;
	}
	struct layer *parent = layer->parent;
	gt_map_remove(&images->layers, layer->chain);
	images->idle_layers--;
	free(layer);
	return parent;
}

static void release_locked(struct gt_images *images, struct layer *layer)
{
	while (layer && --layer->refs == 0) {
		images->idle_layers++;
		layer = remove_idle(images, layer);
	}
}

void layer_release(struct gt_images *images, struct layer *layer)
{
	LOCKED(&images->lock);
	release_locked(images, layer);
}

void layers_sweep(struct gt_images *images)
{
	LOCKED(&images->lock);
	bool again = images->idle_layers > 0;
	while (again) {
		struct gt_map_slot *slot;
		again = false;
		for (size_t i = 0; !again && (slot = gt_map_next(&images->layers, &i)) != NULL;) {
			struct layer *layer = slot->value;
			if (layer->refs > 0)
				continue;
			size_t before = images->idle_layers;
			struct layer *parent = remove_idle(images, layer);
			if (parent)
				release_locked(images, parent);
			again = images->idle_layers < before || parent; /* the map changed: begin anew */
		}
	}
}
