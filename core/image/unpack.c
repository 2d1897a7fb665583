/*
 * unpack.c - one layer's bytes into the storage driver, and out of it again.
 *
 * Two processes and two threads share the work: a feeding thread here reads the blob, takes its digest, decompresses it, takes the digest of
 * the tar (the diff id) and writes it to a pipe; gantry-fs at the other end makes the files and writes the recipe. Nothing refers to the layer before both
 * digests are checked: then the recipe is stored and layer.c seals the layer.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "internal.h"

#define PIPE_ROOM (1 << 20)
#define FEED_ROOM (256u * 1024)
#define MAX_LAYER_BYTES (1ll << 42)     /* 4 TiB */

/* ---- the feeding thread ---- */

struct feed {
	struct blob_reader *reader;
	int out;                        /* write end of the pipe; the thread closes it */
	pthread_t thread;
	int rc;
	bool reader_gone;               /* the helper stopped reading: its reply says why */
	struct gt_error err;
	char diff[65], stored[65];
	int64_t tar_size, stored_size;
	struct gt_progress *progress;   /* for the waiting thread */
	const char *label;
	bool pulled;
	int64_t total;
};

static int feed_all(struct feed *feed, struct digest *diff, char *bytes)
{
	for (;;) {
		ssize_t n = blob_read(feed->reader, bytes, FEED_ROOM, &feed->err);
		if (n < 0)
			return -1;
		if (n == 0)
			return blob_finish(feed->reader, feed->stored, &feed->stored_size, &feed->err);
		if (gt_progress_cancelled(feed->progress))
			return gt_fail(&feed->err, GT_CANCELLED, "the client went away");
		digest_add(diff, bytes, (size_t)n);
		feed->tar_size += n;
		if (gt_write_full(feed->out, bytes, (size_t)n) < 0) {
			feed->reader_gone = errno == EPIPE;
			return gt_fail_sys(&feed->err, GT_INTERNAL, errno, "feed gantry-fs");
		}
	}
}

static void *feed_main(void *arg)
{
	struct feed *feed = arg;
	sigset_t pipe_signal;
	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
	AUTO_FREE char *bytes = gt_xmalloc(FEED_ROOM);
	struct digest diff;
	digest_begin(&diff);
	feed->rc = feed_all(feed, &diff, bytes);
	digest_end(&diff, feed->diff);
	close(feed->out);
	return NULL;
}

static void show_progress(void *arg)
{
	struct feed *feed = arg;
	int64_t now = blob_position(feed->reader);
	const char *status = !feed->pulled ? "Loading layer" : now < feed->total ? "Downloading" : "Extracting";
	progress_emit(feed->progress, json_pack("{s:s, s:{s:I, s:I}, s:s}", "status", status, "progressDetail", "current",
						(json_int_t)now, "total", (json_int_t)(feed->total > 0 ? feed->total : now), "id",
						feed->label));
}

/* ---- recipes ---- */

static int recipe_name(const char *id, char name[80])
{
	return snprintf(name, 80, "%s.zst", id);
}

/* Compresses the recipe that gantry-fs wrote to raw_fd into <recipes>/<id>.zst. Durable: a layer without it cannot be saved. */
static int store_recipe(struct gt_images *images, int raw_fd, const char *id, struct gt_error *err)
{
	struct stat st;
	if (fstat(raw_fd, &st) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "look at a layer's recipe");
	char name[80], temp[96];
	recipe_name(id, name);
	snprintf(temp, sizeof temp, ".%s.tmp", name);
	AUTO_CLOSE int out = openat(images->recipes, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "store a layer's recipe");
	size_t in_room = 1u << 20, out_room = ZSTD_CStreamOutSize();
	AUTO_FREE char *in = gt_xmalloc(in_room), *packed = gt_xmalloc(out_room);
	ZSTD_CStream *stream = ZSTD_createCStream();
	ZSTD_CCtx_setParameter(stream, ZSTD_c_compressionLevel, 1);
	ZSTD_CCtx_setParameter(stream, ZSTD_c_checksumFlag, 1);
	int rc = 0;
	for (off_t at = 0; rc == 0;) {
		ssize_t n = pread(raw_fd, in, in_room, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = gt_fail_sys(err, GT_INTERNAL, errno, "read a layer's recipe");
			break;
		}
		at += n;
		ZSTD_inBuffer source = { in, (size_t)n, 0 };
		size_t left;
		do {
			ZSTD_outBuffer target = { packed, out_room, 0 };
			left = ZSTD_compressStream2(stream, &target, &source, n == 0 ? ZSTD_e_end : ZSTD_e_continue);
			if (ZSTD_isError(left))
				rc = gt_fail(err, GT_INTERNAL, "compress a layer's recipe: %s", ZSTD_getErrorName(left));
			else if (gt_write_full(out, packed, target.pos) < 0)
				rc = gt_fail_sys(err, GT_INTERNAL, errno, "store a layer's recipe");
		} while (rc == 0 && (n == 0 ? left > 0 : source.pos < source.size));
		if (n == 0)
			break;
	}
	ZSTD_freeCStream(stream);
	if (rc == 0 && ((images->config->fsync && fdatasync(out) < 0) || renameat(images->recipes, temp, images->recipes, name) < 0))
		rc = gt_fail_sys(err, GT_INTERNAL, errno, "store a layer's recipe");
	if (rc < 0)
		unlinkat(images->recipes, temp, 0);
	return rc;
}

void layer_drop_recipe(struct gt_images *images, const char *id)
{
	char name[80];
	recipe_name(id, name);
	unlinkat(images->recipes, name, 0);
}

/* A nameless file below the spool directory. */
static int spool_file(struct gt_images *images, struct gt_error *err)
{
	int fd = openat(images->spool, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		gt_fail_sys(err, GT_INTERNAL, errno, "make a temporary file below the engine's root");
	return fd;
}

/* ---- unpacking ---- */

static int start_feed(struct feed *feed, const struct layer_source *source, int pipe_out, struct gt_error *err)
{
	struct blob blob = source->blob;
	blob.progress = feed->progress;
	feed->reader = blob_open(&blob);
	feed->out = pipe_out;
	feed->total = blob.remote ? source->blob_size : blob.length;
	int rc = pthread_create(&feed->thread, NULL, feed_main, feed);
	if (rc == 0)
		return 0;
	blob_close(feed->reader);
	close(pipe_out);
	return gt_fail_sys(err, GT_INTERNAL, rc, "start a thread to unpack a layer");
}

static json_t *unpack_request(struct gt_images *images, const struct gantry_layer_dir *dir, const struct layer *parent, bool early)
{
	json_t *request = json_pack("{s:s, s:s, s:i, s:b, s:I}", "job", "unpack", "dir", dir->path, "whiteouts", (int)dir->whiteouts,
				    "recipe", 1, "max_bytes", (json_int_t)MAX_LAYER_BYTES);
	/* the view of the layers below, for what an archive takes for granted */
	AUTO_FREE struct gantry_mount *mount = parent && !early ? gt_xcalloc(1, sizeof *mount) : NULL;
	if (mount && gt_layer_mount(images->storage, parent->id, true, mount, NULL) == 0)
		json_object_set_new(request, "lower", fs_mount_json(mount, NULL));
	if (parent && early)
		json_object_set_new(request, "early", json_true());
	return request;
}

static int check_digests(const struct feed *feed, const struct layer_source *source, struct gt_error *err)
{
	if (source->blob_size >= 0 && source->blob_size != feed->stored_size)
		return gt_fail(err, GT_INVALID, "layer blob has %lld bytes where its descriptor says %lld", (long long)feed->stored_size,
			       (long long)source->blob_size);
	if (source->blob_hex && strcmp(source->blob_hex, feed->stored) != 0)
		return gt_fail(err, GT_INVALID, "layer blob is damaged: its digest is sha256:%s, expected sha256:%s", feed->stored,
			       source->blob_hex);
	if (source->diff_hex && strcmp(source->diff_hex, feed->diff) != 0)
		return gt_fail(err, GT_INVALID, "layer is damaged: its diff id is sha256:%s, the config says sha256:%s", feed->diff,
			       source->diff_hex);
	return 0;
}

/* Runs feeder and helper to their ends; fills layer's diff, sizes, recipe. */
static int run_unpack(struct gt_images *images, const struct gantry_layer_dir *dir, struct layer *layer,
		      const struct layer_source *source, struct gt_progress *progress, json_t **owed, int recipe_fd, struct gt_error *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a pipe for gantry-fs");
	AUTO_CLOSE int from = ends[0];
	fcntl(from, F_SETPIPE_SZ, PIPE_ROOM);
	char label[13];
	snprintf(label, sizeof label, "%.12s", source->diff_hex ? source->diff_hex : layer->id);
	struct feed feed = { .progress = progress, .label = source->label ? source->label : label, .pulled = source->label != NULL };
	struct fs_job job;
	if (start_feed(&feed, source, ends[1], err) < 0)
		return -1;
	AUTO_JSON json_t *reply = NULL;
	int rc = fs_job_start(&job, images->helper, unpack_request(images, dir, layer->parent, owed != NULL), from, -1, recipe_fd, err);
	close(take_fd(from)); /* the helper has its own: once it is gone, the feeder hears of it */
	if (rc == 0)
		rc = fs_job_finish(&job, &reply, progress ? show_progress : NULL, &feed, err);
	pthread_join(feed.thread, NULL);
	if (progress && rc == 0)
		show_progress(&feed);
	char format = blob_format(feed.reader);
	blob_close(feed.reader);
	/* damaged input is the feeder's to tell; that its reader went away is not */
	if (feed.rc < 0 && !feed.reader_gone) {
		if (err)
			*err = feed.err;
		return -1;
	}
	if (rc < 0)
		return -1;
	if (check_digests(&feed, source, err) < 0)
		return -1;
	memcpy(layer->diff, feed.diff, sizeof layer->diff);
	layer->tar_size = feed.tar_size;
	if (source->repository && source->blob_hex && format != '?') {
		layer->blob = (struct layer_blob){ .format = format, .size = feed.stored_size, .repository = source->repository };
		memcpy(layer->blob.hex, feed.stored, sizeof layer->blob.hex);
	}
	if (owed)
		*owed = json_incref(json_object_get(reply, "owed"));
	return gt_json_int(reply, "size", &layer->size, err) | gt_json_bool(reply, "recipe", &layer->recipe, err);
}

int layer_begin(struct gt_images *images, const struct layer *layer, struct gt_error *err)
{
	bool sealed = false;
	/* A sealed layer that we have no record of is nothing to trust, or to write into. */
	if (gt_layer_lookup(images->storage, layer->id, &sealed, NULL) == 0 && sealed &&
	    gt_layer_remove(images->storage, layer->id, err) < 0)
		return gt_context(err, "layer %.12s is in the storage driver without a record of ours, and cannot be replaced", layer->id);
	return gt_layer_prepare(images->storage, GANTRY_LAYER_IMAGE, layer->id, layer->parent ? layer->parent->id : NULL, NULL, err);
}

int layer_fill(struct gt_images *images, struct layer *layer, const struct layer_source *source, struct gt_progress *progress, json_t **owed,
	       struct gt_error *err)
{
	AUTO_CLOSE int recipe = spool_file(images, err);
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	if (recipe < 0 || gt_layer_dir(images->storage, layer->id, dir, err) < 0 ||
	    run_unpack(images, dir, layer, source, progress, owed, recipe, err) < 0)
		return -1;
	return layer->recipe ? store_recipe(images, recipe, layer->id, err) : 0;
}

int layer_settle(struct gt_images *images, struct layer *layer, const json_t *owed, struct gt_error *err)
{
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_JSON json_t *reply = NULL;
	struct fs_job job;
	int64_t size = 0;
	if (gt_layer_dir(images->storage, layer->id, dir, err) < 0 ||
	    gt_layer_mount(images->storage, layer->parent->id, true, mount, err) < 0)
		return -1;
	json_t *request = json_pack("{s:s, s:s, s:o, s:O}", "job", "settle", "dir", dir->path, "lower", fs_mount_json(mount, NULL), "owed", owed);
	if (fs_job_start(&job, images->helper, request, -1, -1, -1, err) < 0 || fs_job_finish(&job, &reply, NULL, NULL, err) < 0 ||
	    gt_json_int(reply, "size", &size, err) < 0)
		return -1;
	layer->size += size;
	return 0;
}

void layer_discard(struct gt_images *images, const struct layer *layer)
{
	struct gt_error err = { 0 };
	layer_drop_recipe(images, layer->id);
	if (gt_layer_remove(images->storage, layer->id, &err) < 0)
		gt_warn("a layer could not be removed", "layer", layer->id, "error", err.message);
}

/* ---- the way out ---- */

static int unpack_recipe(struct gt_images *images, const struct layer *layer, int out, struct gt_error *err)
{
	char name[80];
	recipe_name(layer->id, name);
	AUTO_CLOSE int in = openat(images->recipes, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	if (in < 0 || fstat(in, &st) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the recipe of layer %.12s", layer->chain);
	struct blob blob = { .fd = in, .offset = 0, .length = st.st_size };
	struct blob_reader *reader = blob_open(&blob);
	AUTO_FREE char *bytes = gt_xmalloc(FEED_ROOM);
	ssize_t n;
	while ((n = blob_read(reader, bytes, FEED_ROOM, err)) > 0) {
		if (gt_write_full(out, bytes, (size_t)n) < 0) {
			n = gt_fail_sys(err, GT_INTERNAL, errno, "unpack the recipe of layer %.12s", layer->chain);
			break;
		}
	}
	blob_close(reader);
	return n < 0 ? -1 : 0;
}

int layer_can_rebuild(const struct layer *layer, struct gt_error *err)
{
	return layer->recipe ? 0 :
			       gt_fail(err, GT_UNSUPPORTED, "layer %.12s cannot be saved: its archive replaced too many of its own files to "
							    "be rebuilt byte for byte", layer->chain);
}

int layer_rebuild_start(struct gt_images *images, const struct layer *layer, int out_fd, struct fs_job *job, struct gt_error *err)
{
	AUTO_CLOSE int recipe = layer_can_rebuild(layer, err) < 0 ? -1 : spool_file(images, err);
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	if (recipe < 0 || unpack_recipe(images, layer, recipe, err) < 0 || gt_layer_dir(images->storage, layer->id, dir, err) < 0)
		return -1;
	json_t *request = json_pack("{s:s, s:s}", "job", "rebuild", "dir", dir->path);
	return fs_job_start(job, images->helper, request, -1, out_fd, recipe, err);
}
