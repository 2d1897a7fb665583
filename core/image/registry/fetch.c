/*
 * fetch.c - a blob of a registry as a stream of bytes. Where the connection breaks, it goes on at that byte (Range), so what the reader has
 * made of the bytes before it (digest, decompression, files) stays good; a registry that knows no ranges sends again, and what is known is skipped.
 *
 * Number of bytes and pace are checked here; the digest is the reader's to check.
 */
#include <stdlib.h>
#include <string.h>

#include "registry.h"

#define MAX_TRIES 6             /* without progress in between */
#define PROGRESS (64 << 10)     /* bytes that count as such */

struct fetch {
	const struct fetch_source *source;
	struct gt_progress *progress;
	struct http_exchange *exchange;
	int64_t at, broke_at;
	unsigned tries;
};

static void *fetch_open(const void *arg, struct gt_progress *progress)
{
	struct fetch *fetch = gt_xcalloc(1, sizeof *fetch);
	fetch->source = arg;
	fetch->progress = progress ? progress : fetch->source->registry->progress;
	return fetch;
}

static void fetch_close(void *handle)
{
	struct fetch *fetch = handle;
	exchange_close(fetch->exchange);
	free(fetch);
}

static int wrong_size(const struct fetch *fetch, int64_t size, struct gt_error *err)
{
	return gt_fail(err, GT_INVALID, "blob %s has %lld bytes where its descriptor says %lld", fetch->source->digest, (long long)size,
		       (long long)fetch->source->size);
}

static int skip(struct fetch *fetch, bool *again, struct gt_error *err)
{
	char bytes[16384];
	for (int64_t left = fetch->at; left > 0;) {
		size_t room = left < (int64_t)sizeof bytes ? (size_t)left : sizeof bytes;
		ssize_t got = exchange_read(fetch->exchange, bytes, room, again, err);
		if (got == 0)
			gt_fail(err, GT_INVALID, "blob %s is cut short", fetch->source->digest);
		if (got <= 0)
			return -1;
		left -= got;
	}
	return 0;
}

/* "bytes START-END/TOTAL" */
static int check_range(const struct fetch *fetch, const struct http_reply *reply, struct gt_error *err)
{
	const char *text = reply->content_range;
	if (!text || strncmp(text, "bytes ", 6) != 0 || strtoll(text + 6, NULL, 10) != fetch->at)
		return gt_fail(err, GT_INVALID, "blob %s: asked for what follows byte %lld, the registry sends another part",
			       fetch->source->digest, (long long)fetch->at);
	return 0;
}

static int begin(struct fetch *fetch, bool *again, struct gt_error *err)
{
	const struct fetch_source *source = fetch->source;
	AUTO_FREE char *path = gt_xasprintf("/v2/%s/blobs/%s", source->path, source->digest);
	AUTO_FREE char *what = gt_xasprintf("blob %s", source->digest);
	struct call call = { .path = path, .scope = source->scope, .range_from = fetch->at, .once = true, .again = again,
			     .progress = fetch->progress };
	*again = false;
	fetch->exchange = registry_call(source->registry, &call, err);
	if (!fetch->exchange)
		return -1;
	const struct http_reply *reply = exchange_reply(fetch->exchange);
	bool part = reply->status == 206 && fetch->at > 0;
	if (reply->status != 200 && !part)
		return registry_refused(source->registry, fetch->exchange, what, err);
	if (part && check_range(fetch, reply, err) < 0)
		return -1;
	int64_t from = part ? fetch->at : 0;
	if (reply->length >= 0 && reply->length + from != source->size)
		return wrong_size(fetch, reply->length + from, err);
	return part ? 0 : skip(fetch, again, err);
}

/* After trouble: waits for another try, or gives up. */
static int recover(struct fetch *fetch, bool again, struct gt_error *err)
{
	exchange_close(fetch->exchange);
	fetch->exchange = NULL;
	if (fetch->at - fetch->broke_at >= PROGRESS)
		fetch->tries = 0;
	fetch->broke_at = fetch->at;
	if (!again || fetch->tries == MAX_TRIES || gt_progress_cancelled(fetch->progress))
		return -1;
	return registry_pause(fetch->source->registry, registry_backoff(fetch->tries++), err);
}

/* The layers below are told by GT_UNAVAILABLE what it does not mean here. */
static int final(struct gt_error *err)
{
	if (err && err->kind == GT_UNAVAILABLE)
		err->kind = GT_INTERNAL;
	return -1;
}

static ssize_t fetch_read(void *handle, void *bytes, size_t room, struct gt_error *err)
{
	struct fetch *fetch = handle;
	int64_t size = fetch->source->size;
	for (;;) {
		bool again = false;
		ssize_t got = -1;
		if (fetch->at == size && (size == 0 || !fetch->exchange))
			return 0;
		if (fetch->exchange || begin(fetch, &again, err) == 0)
			got = exchange_read(fetch->exchange, bytes, room, &again, err);
		if (fetch->at == size && got <= 0)
			return 0; /* all was there, however the connection ended */
		if (got > 0 && fetch->at + got > size)
			return wrong_size(fetch, fetch->at + got, err);
		if (got > 0) {
			fetch->at += got;
			if (fetch->source->registry->received)
				gt_counter_add(fetch->source->registry->received, (uint64_t)got);
			return got;
		}
		if (got == 0) {
			again = true;
			gt_fail(err, GT_INVALID, "blob %s is cut short: %lld of %lld bytes came", fetch->source->digest,
				(long long)fetch->at, (long long)size);
		}
		if (recover(fetch, again, err) < 0)
			return final(err);
	}
}

const struct blob_remote fetch_remote = { fetch_open, fetch_read, fetch_close };

int fetch_whole(const struct fetch_source *source, size_t max, const char *what, struct gt_buf *out, struct gt_error *err)
{
	char hex[65];
	if (source->size < 0 || source->size > (int64_t)max)
		return gt_fail(err, GT_TOO_LARGE, "%s is larger than %zu bytes", what, max);
	void *fetch = fetch_open(source, NULL);
	ssize_t got;
	do {
		char *room = gt_buf_reserve(out, 16385);
		got = fetch_read(fetch, room, 16384, err);
		if (got > 0)
			out->len += (size_t)got;
		out->data[out->len] = '\0';
	} while (got > 0);
	fetch_close(fetch);
	if (got < 0)
		return gt_context(err, "%s", what);
	digest_of(out->data, out->len, hex);
	if (strcmp(hex, source->digest + 7) != 0)
		return gt_fail(err, GT_INVALID, "%s is damaged: its digest is sha256:%s, expected %s", what, hex, source->digest);
	return 0;
}
