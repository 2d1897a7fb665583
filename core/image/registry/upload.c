/*
 * upload.c - blobs into a registry (OCI distribution-spec, "Pushing blobs"): is it there, can it be mounted from another repository, else
 * uploaded: small ones whole, layers as a stream that is rebuilt and compressed while it is sent, so that its digest is known at the end.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gzip.h"
#include "push.h"

#define MAX_TRIES 3

int upload_exists(struct push *push, const char *digest, bool *there, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("/v2/%s/blobs/%s", push->path, digest);
	AUTO_FREE char *what = gt_xasprintf("look for blob %s", digest);
	struct call call = { .method = "HEAD", .path = path, .scope = push->scope };
	struct http_exchange *exchange = registry_call(push->registry, &call, err);
	if (!exchange)
		return -1;
	long status = exchange_reply(exchange)->status;
	*there = status == 200;
	int rc = status == 200 || status == 404 ? 0 : registry_refused(push->registry, exchange, what, err);
	exchange_close(exchange);
	return rc;
}

/* Asks for a place to send a blob to. *location stays NULL where the blob was mounted instead. */
static int begin_upload(struct push *push, const char *query, const char *scope, char **location, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("/v2/%s/blobs/uploads/%s", push->path, query);
	struct call call = { .method = "POST", .path = path, .scope = scope };
	struct http_exchange *exchange = registry_expect(push->registry, &call, 0, "begin an upload", err);
	if (!exchange)
		return -1;
	*location = NULL;
	int rc = 0;
	if (exchange_reply(exchange)->status != 201)
		rc = (*location = registry_location(push->registry, exchange_reply(exchange), err)) ? 0 : -1;
	exchange_close(exchange);
	return rc;
}

static void give_up(struct push *push, const char *location)
{
	struct call call = { .method = "DELETE", .path = location, .scope = push->scope, .once = true };
	exchange_close(registry_call(push->registry, &call, NULL));
}

int upload_mount(struct push *push, const char *digest, const char *from, bool *mounted, struct gt_error *err)
{
	AUTO_FREE char *query = gt_xasprintf("?mount=%s&from=%s", digest, from);
	AUTO_FREE char *scope = gt_xasprintf("%s repository:%s:pull", push->scope, from);
	AUTO_FREE char *location = NULL;
	struct gt_error refused = { 0 };
	*mounted = false;
	if (begin_upload(push, query, scope, &location, &refused) < 0) {
		/* not being allowed to read the other repository is no reason not to push */
		if (refused.kind != GT_CANCELLED)
			return 0;
		if (err)
			*err = refused;
		return -1;
	}
	*mounted = !location;
	if (location)
		give_up(push, location);
	return 0;
}

/* The last request: names the digest, and maybe brings the bytes. */
static int finish_upload(struct push *push, const char *location, const char *digest, const struct gt_buf *bytes, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	AUTO_FREE char *what = gt_xasprintf("upload blob %s", digest);
	gt_buf_str(&url, location);
	url_add_query(&url, "digest", digest);
	struct call call = { .method = "PUT", .path = url.data, .scope = push->scope, .content_type = "application/octet-stream",
			     .body = bytes ? bytes->data : "", .body_len = bytes ? bytes->len : 0, .once = true };
	struct http_exchange *exchange = registry_expect(push->registry, &call, 0, what, err);
	exchange_close(exchange);
	return exchange ? 0 : -1;
}

int upload_bytes(struct push *push, const char *digest, const struct gt_buf *bytes, struct gt_error *err)
{
	for (unsigned tries = 1;; tries++) {
		AUTO_FREE char *location = NULL;
		struct gt_error failure = { 0 };
		if (begin_upload(push, "", push->scope, &location, &failure) == 0 && location &&
		    finish_upload(push, location, digest, bytes, &failure) == 0)
			return 0;
		if (failure.kind != GT_INTERNAL || tries == MAX_TRIES ||
		    registry_pause(push->registry, registry_backoff(tries), &failure) < 0) {
			if (err)
				*err = failure;
			return -1;
		}
	}
}

/* ---- a layer ---- */

struct stream {
	struct push *push;
	const struct layer *layer;
	const char *label;
	struct packer *packer;
	struct digest digest;
	int64_t sent, told;
	bool whole;
};

static void show(struct stream *stream, int64_t now)
{
	if (now - stream->told < 100 * GT_MILLISECOND)
		return;
	stream->told = now;
	push_tell(stream->push, stream->label, "Pushing", packer_position(stream->packer), stream->layer->tar_size);
}

static ssize_t give(void *arg, void *bytes, size_t room, struct gt_error *err)
{
	struct stream *stream = arg;
	if (gt_progress_cancelled(stream->push->progress))
		return gt_fail(err, GT_CANCELLED, "the client went away");
	ssize_t got = packer_read(stream->packer, bytes, room, err);
	if (got > 0) {
		digest_add(&stream->digest, bytes, (size_t)got);
		stream->sent += got;
		gt_counter_add(&stream->push->images->figures.pushed_bytes, (uint64_t)got);
	}
	stream->whole = got == 0;
	show(stream, gt_monotonic());
	return got;
}

static char *send_stream(struct stream *stream, const char *location, bool *again, struct gt_error *err)
{
	struct push *push = stream->push;
	struct call call = { .method = "PATCH", .path = location, .scope = push->scope, .content_type = "application/octet-stream",
			     .source = give, .source_arg = stream, .once = true, .again = again };
	struct http_exchange *exchange = registry_call(push->registry, &call, err);
	if (!exchange)
		return NULL;
	char *next = NULL;
	if (exchange_reply(exchange)->status >= 300)
		registry_refused(push->registry, exchange, "upload a layer", err);
	else
		next = exchange_reply(exchange)->location ? registry_location(push->registry, exchange_reply(exchange), err) :
							    gt_xstrdup(location);
	exchange_close(exchange);
	return next;
}

static int check_rebuilt(struct stream *stream, struct gt_error *err)
{
	char hex[65];
	packer_plain(stream->packer, hex);
	if (strcmp(hex, stream->layer->diff) != 0)
		return gt_fail(err, GT_CONFLICT, "layer %.12s cannot be rebuilt: its files were changed, the digest is now sha256:%s",
			       stream->layer->diff, hex);
	return 0;
}

static int send_layer(struct stream *stream, int from, struct layer_blob *blob, bool *again, struct gt_error *err)
{
	AUTO_FREE char *location = NULL;
	AUTO_FREE char *next = NULL;
	char digest[72];
	*again = false;
	if (begin_upload(stream->push, "", stream->push->scope, &location, err) < 0)
		return -1;
	stream->packer = packer_open(from, err);
	digest_begin(&stream->digest);
	next = stream->packer ? send_stream(stream, location, again, err) : NULL;
	int rc = next ? 0 : -1;
	if (rc == 0 && !stream->whole)
		rc = gt_fail(err, GT_INTERNAL, "%s took an upload as done before it was", stream->push->domain);
	if (rc == 0)
		rc = check_rebuilt(stream, err);
	packer_close(stream->packer);
	if (rc == 0) {
		*blob = (struct layer_blob){ .format = 'g', .size = stream->sent };
		digest_end(&stream->digest, blob->hex);
		snprintf(digest, sizeof digest, "sha256:%s", blob->hex);
		rc = finish_upload(stream->push, next, digest, NULL, err);
	}
	if (rc < 0)
		give_up(stream->push, next ? next : location);
	return rc;
}

/* With gantry-fs at the other end of a pipe. */
static int try_layer(struct push *push, const struct layer *layer, const char *label, struct layer_blob *blob, bool *again,
		     struct gt_error *err)
{
	struct stream stream = { .push = push, .layer = layer, .label = label };
	struct fs_job job;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a pipe for gantry-fs");
	AUTO_CLOSE int from = ends[0], to = ends[1];
	fcntl(from, F_SETPIPE_SZ, 1 << 20);
	if (layer_rebuild_start(push->images, layer, to, &job, err) < 0)
		return -1;
	close(take_fd(to));
	struct gt_error helper = { 0 };
	int rc = send_layer(&stream, from, blob, again, err);
	close(take_fd(from)); /* ends a helper that is not done */
	if (fs_job_finish(&job, NULL, NULL, NULL, &helper) < 0 && helper.kind != GT_CANCELLED && rc < 0 && err && err->kind == GT_CONFLICT)
		*err = helper; /* it knows best why the bytes are not what they were */
	return rc;
}

int upload_layer(struct push *push, const struct layer *layer, const char *label, struct layer_blob *blob, struct gt_error *err)
{
	if (layer_can_rebuild(layer, err) < 0)
		return -1;
	for (unsigned tries = 1;; tries++) {
		bool again = false;
		struct gt_error failure = { 0 };
		if (try_layer(push, layer, label, blob, &again, &failure) == 0)
			return 0;
		if (!again || tries == MAX_TRIES || registry_pause(push->registry, registry_backoff(tries), &failure) < 0) {
			if (err)
				*err = failure;
			return -1;
		}
	}
}
