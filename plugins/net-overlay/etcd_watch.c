/*
 * etcd_watch.c - the stream of changes: one request whose answer does not end, a line of JSON for each batch.
 */
#include "etcd_internal.h"

#include <stdlib.h>
#include <string.h>

#define POLL_MS 1000

struct stream {
	struct etcd_body body;          /* the line that is not whole yet */
	int (*fn)(void *arg, const struct etcd_news *news);
	void *arg;
	int64_t after;
	enum etcd_end end;
	bool ended;
	struct gantry_error *err;
};

static void finish(struct stream *stream, enum etcd_end end)
{
	stream->ended = true;
	stream->end = end;
}

static void take_line(struct stream *stream, const char *line, size_t len)
{
	struct etcd_news news;
	if (etcd_read_news(line, len, &news, stream->err) < 0) {
		finish(stream, ETCD_FAILED);
		return;
	}
	/* A store that is behind what was heard already is another one, or was restored from a backup. */
	if (news.created && news.revision < stream->after) {
		finish(stream, ETCD_ANOTHER);
	} else if (news.compacted) {
		finish(stream, ETCD_COMPACTED);
	} else if (news.ended) {
		gantry_fail(stream->err, GANTRY_E_UNAVAILABLE, "etcd ended the watch: %s", news.reason[0] ? news.reason : "it does not say why");
		finish(stream, ETCD_FAILED);
	} else if (stream->fn(stream->arg, &news)) {
		finish(stream, ETCD_WOKEN);
	}
	etcd_pairs_free(&news.pairs);
}

static size_t take_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct stream *stream = arg;
	struct etcd_body *body = &stream->body;
	if (etcd_body_take(bytes, size, count, body) != size * count) {
		gantry_fail(stream->err, GANTRY_E_INTERNAL, "a line of etcd's watch has more than %zu bytes", ETCD_ANSWER_MAX);
		finish(stream, ETCD_FAILED);
		return 0;
	}
	char *from = body->bytes, *end;
	while (!stream->ended && (end = memchr(from, '\n', body->len - (size_t)(from - body->bytes))) != NULL) {
		*end = '\0';
		if (end > from)
			take_line(stream, from, (size_t)(end - from));
		from = end + 1;
	}
	body->len -= (size_t)(from - body->bytes);
	memmove(body->bytes, from, body->len);
	return stream->ended ? 0 : size * count;
}

static char *make_request(const char *prefix, int64_t revision)
{
	char *end = etcd_range_end(prefix), *key64 = etcd_encode(prefix, strlen(prefix)), *end64 = end ? etcd_encode(end, strlen(end)) : NULL;
	json_t *body = key64 && end64 ? json_pack("{s:{s:s s:s s:o}}", "create_request", "key", key64, "range_end", end64, "start_revision",
						  json_sprintf("%lld", (long long)revision + 1)) :
					NULL;
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	free(end);
	free(key64);
	free(end64);
	return text;
}

/* Until the transfer or the stream has ended, or wake_fd is readable. */
static void transfer(struct etcd *etcd, CURLM *multi, CURL *handle, struct stream *stream, int wake_fd)
{
	const struct curl_calls *curl = etcd->curl;
	int running = 1, left;
	while (!stream->ended && !atomic_load(&etcd->stopped)) {
		struct curl_waitfd wake = { .fd = wake_fd, .events = CURL_WAIT_POLLIN };
		if (curl->curl_multi_perform(multi, &running) != CURLM_OK || stream->ended)
			break;
		if (!running) {
			long status = 0;
			const CURLMsg *message = curl->curl_multi_info_read(multi, &left);
			curl->curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
			if (message && message->data.result != CURLE_OK)
				gantry_fail(stream->err, GANTRY_E_UNAVAILABLE, "etcd's watch broke off: %s",
					    curl->curl_easy_strerror(message->data.result));
			else
				gantry_fail(stream->err, GANTRY_E_UNAVAILABLE, "etcd's watch ended with HTTP status %ld", status);
			finish(stream, ETCD_FAILED);
			break;
		}
		curl->curl_multi_poll(multi, &wake, 1, POLL_MS, NULL);
		if (wake.revents)
			finish(stream, ETCD_WOKEN);
	}
}

static void run(struct etcd *etcd, const char *body, struct stream *stream, int wake_fd)
{
	const struct curl_calls *curl = etcd->curl;
	char url[512];
	struct curl_slist *headers = NULL;
	unsigned turn = atomic_load(&etcd->turn);
	CURLM *multi = curl->curl_multi_init();
	CURL *handle = curl->curl_easy_init();
	snprintf(url, sizeof url, "%s/v3/watch", etcd->endpoints[turn % etcd->count]);
	if (multi && handle && etcd_prepare(etcd, handle, url, body, &headers) == 0) {
		curl->curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_bytes);
		curl->curl_easy_setopt(handle, CURLOPT_WRITEDATA, stream);
		curl->curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
		curl->curl_easy_setopt(handle, CURLOPT_TCP_KEEPIDLE, 5L);
		curl->curl_easy_setopt(handle, CURLOPT_TCP_KEEPINTVL, 2L);
		if (curl->curl_multi_add_handle(multi, handle) == CURLM_OK) {
			transfer(etcd, multi, handle, stream, wake_fd);
			curl->curl_multi_remove_handle(multi, handle);
		}
	} else {
		gantry_fail(stream->err, GANTRY_E_INTERNAL, "out of memory");
	}
	if (stream->end == ETCD_FAILED)
		atomic_compare_exchange_strong(&etcd->turn, &turn, turn + 1);
	if (handle)
		curl->curl_easy_cleanup(handle);
	if (multi)
		curl->curl_multi_cleanup(multi);
	curl->curl_slist_free_all(headers);
}

enum etcd_end etcd_watch(struct etcd *etcd, const char *prefix, int64_t revision, int (*fn)(void *arg, const struct etcd_news *news), void *arg,
			 int wake_fd, struct gantry_error *err)
{
	struct stream stream = { .body = { .etcd = etcd }, .fn = fn, .arg = arg, .after = revision, .end = ETCD_FAILED, .err = err };
	char *body = make_request(prefix, revision);
	gantry_fail(err, GANTRY_E_UNAVAILABLE, "the watch was stopped");
	if (body)
		run(etcd, body, &stream, wake_fd);
	free(stream.body.bytes);
	free(body);
	return stream.end;
}
