/*
 * logs.c - a container's log as a client reads it: since, until, tail, timestamps, streams, follow.
 *
 * A follower sleeps on inotify: the log's directory tells of growth and rotation, the bundle's removal of the container's end. A log that was rotated while it
 * is followed is finished first: the file is held open.
 */
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "engine/logs.h"

#define READ_SIZE (256u * 1024)
#define WITHOUT_INOTIFY_MS 100

struct logs {
	struct gt_stream stream;        /* first */
	struct gt_container *ctr;
	struct gt_logs_query query;
	struct log_files files;
	int inotify;                    /* -1: none; then growth is looked for now and then */
	bool mux, ended;                /* ended: the container had ended before the last look */
	bool past;                      /* a record past `until` was seen: all is told */
	bool within[3];                 /* by stream: the next record goes on with a line */
	struct gt_buf in, out, scratch;
	struct gt_buf details;          /* what each line begins with */
	size_t sent;
};

/* ---- records to bytes ---- */

static bool wanted(const struct logs *logs, const struct log_record *record)
{
	if (!record->stream || (record->stream == 1 ? !logs->query.stdout : !logs->query.stderr))
		return false;
	return !logs->query.since || record->at >= logs->query.since;
}

static void put_record(struct logs *logs, const struct log_record *record)
{
	bool stamp = logs->query.timestamps && !logs->within[record->stream];
	size_t stamp_len = stamp ? strlen(record->time) + 1 : 0, details_len = logs->within[record->stream] ? 0 : logs->details.len;
	size_t len = stamp_len + details_len + record->len;
	char *to = gt_buf_reserve(&logs->out, 8 + len);
	if (logs->mux) {
		uint32_t size = htobe32((uint32_t)len);
		memcpy(to, (const char[4]){ (char)record->stream }, 4);
		memcpy(to + 4, &size, 4);
		to += 8;
	}
	if (stamp) {
		memcpy(to, record->time, stamp_len - 1);
		to[stamp_len - 1] = ' ';
	}
	if (details_len)
		memcpy(to + stamp_len, logs->details.data, details_len);
	memcpy(to + stamp_len + details_len, record->text, record->len);
	logs->out.len += (logs->mux ? 8 : 0) + len;
	logs->within[record->stream] = !record->ends_line;
}

static void convert(struct logs *logs)
{
	bool want_at = logs->query.since || logs->query.until;
	size_t done = 0, taken;
	struct log_record record;
	while ((taken = log_record_take(logs->files.local, logs->in.data + done, logs->in.len - done, want_at, &record, &logs->scratch)) > 0) {
		done += taken;
		if (record.stream && logs->files.skip) {
			logs->files.skip--;
			continue;
		}
		if (record.stream && logs->query.until && record.at >= logs->query.until) {
			logs->past = true;
			return;
		}
		if (wanted(logs, &record))
			put_record(logs, &record);
	}
	gt_buf_consume(&logs->in, done);
}

/* ---- waiting for more ---- */

static void watch(struct logs *logs)
{
	AUTO_FREE char *dir = gt_xstrdup(logs->files.path);
	char *slash = strrchr(dir, '/');
	logs->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (logs->inotify < 0 || !slash)
		return;
	*slash = '\0';
	if (inotify_add_watch(logs->inotify, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
		close(logs->inotify);
		logs->inotify = -1;
		return;
	}
	inotify_add_watch(logs->inotify, logs->ctr->bundle, IN_DELETE_SELF | IN_ONLYDIR);
}

static void wait_for_growth(const struct logs *logs, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = logs->inotify, .events = POLLIN };
	char events[4096];
	if (logs->inotify < 0)
		poll(NULL, 0, timeout_ms < WITHOUT_INOTIFY_MS ? timeout_ms : WITHOUT_INOTIFY_MS);
	else if (poll(&poll_fd, 1, timeout_ms) > 0)
		while (read(logs->inotify, events, sizeof events) > 0)
			;
}

static bool has_ended(struct gt_container *ctr)
{
	LOCKED(&ctr->lock);
	bool live = ctr->starting || ctr->status == GT_RUNNING || ctr->status == GT_PAUSED || ctr->status == GT_RESTARTING;
	return ctr->removed || ctr->engine->closing || !live;
}

/* ---- the stream ---- */

static ssize_t deliver(struct logs *logs, void *bytes, size_t room)
{
	size_t n = logs->out.len - logs->sent;
	if (n > room)
		n = room;
	memcpy(bytes, logs->out.data + logs->sent, n);
	logs->sent += n;
	if (logs->sent == logs->out.len) {
		gt_buf_reset(&logs->out);
		logs->sent = 0;
	}
	return (ssize_t)n;
}

static ssize_t logs_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	struct logs *logs = (struct logs *)stream;
	bool waited = false;
	while (!logs->out.len) {
		if (logs->past)
			return GT_STREAM_END;
		ssize_t n = log_files_read(&logs->files, gt_buf_reserve(&logs->in, READ_SIZE), READ_SIZE);
		if (n < 0)
			return gt_fail_errno(err, errno, "read the log of container %s", logs->ctr->id);
		logs->in.len += (size_t)n;
		if (n > 0) {
			convert(logs);
			continue;
		}
		if (log_files_next(&logs->files, logs->query.follow)) {
			gt_buf_reset(&logs->in); /* what is torn at the end of a finished file stays torn */
			continue;
		}
		if (!logs->query.follow || logs->ended || (logs->query.until && gt_now() >= logs->query.until))
			return GT_STREAM_END;
		if (has_ended(logs->ctr)) {
			logs->ended = true; /* one more look: the last lines may have come since the last read */
			continue;
		}
		if (waited)
			return GT_STREAM_IDLE;
		wait_for_growth(logs, timeout_ms);
		waited = true;
	}
	return deliver(logs, bytes, room);
}

static void logs_close(struct gt_stream *stream)
{
	struct logs *logs = (struct logs *)stream;
	log_files_close(&logs->files);
	if (logs->inotify >= 0)
		close(logs->inotify);
	gt_buf_free(&logs->in);
	gt_buf_free(&logs->out);
	gt_buf_free(&logs->scratch);
	gt_buf_free(&logs->details);
	gt_container_put(logs->ctr);
	free(logs);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_escaped(struct gt_buf *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool plain = isalnum(*p) || strchr("-_.~", *p);
		gt_buf_printf(out, plain ? "%c" : *p == ' ' ? "+" : "%%%02X", *p);
	}
}

/* "name=value,name=value " as of a URL's query, sorted; a blank alone where there is nothing to tell. */
static void put_details(struct gt_container *ctr, struct gt_buf *out)
{
	pthread_mutex_lock(&ctr->lock);
	AUTO_JSON json_t *attrs = gt_log_attrs(ctr);
	pthread_mutex_unlock(&ctr->lock);
	size_t count = json_object_size(attrs), i = 0;
	AUTO_FREE const char **names = gt_xcalloc(count + 1, sizeof *names);
	const char *name;
	json_t *value;
	json_object_foreach(attrs, name, value)
		names[i++] = name;
	qsort(names, count, sizeof *names, by_name);
	for (i = 0; i < count; i++) {
		gt_buf_str(out, i ? "," : "");
		put_escaped(out, names[i]);
		gt_buf_char(out, '=');
		put_escaped(out, json_string_value(json_object_get(attrs, names[i])));
	}
	gt_buf_char(out, ' ');
}

struct gt_stream *gt_container_logs(struct gt_engine *engine, const char *ref, const struct gt_logs_query *query, bool *tty,
				    struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return NULL;
	if (!query->stdout && !query->stderr)
		return gt_fail_null(err, GT_INVALID, "Bad parameters: you must choose at least one stream");
	const char *driver = json_string_value(gt_json_get(ctr->config.host.log_config, "Type"));
	if (!driver || !driver[0])
		driver = ((const struct gt_config *)atomic_load(&engine->config))->log_driver;
	if (strcmp(driver, "none") == 0 || !ctr->log_path || !ctr->log_path[0])
		return gt_fail_null(err, GT_UNSUPPORTED, "configured logging driver does not support reading");
	struct logs *logs = gt_xcalloc(1, sizeof *logs);
	logs->stream = (struct gt_stream){ .read = logs_read, .close = logs_close };
	logs->query = *query;
	logs->inotify = -1;
	*tty = ctr->config.tty;
	logs->mux = !*tty && !query->raw;
	if (log_files_open(&logs->files, ctr->log_path, gt_log_is_local(driver), query->tail, err) < 0) {
		free(logs);
		return NULL;
	}
	logs->ctr = take(ctr);
	if (query->details)
		put_details(logs->ctr, &logs->details);
	if (query->follow)
		watch(logs);
	return &logs->stream;
}
