/* log.c - from portions of two streams to records in a file, see log.h. */
#include "shim/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/log.h"
#include "shim/logformat.h"

#define FLUSH_AT ((size_t)96 * 1024)
#define WORST (6 * (size_t)GT_LOG_CHUNK + 256)  /* a record of control characters alone */

struct gt_logfile {
	struct gt_log_settings settings;        /* path and attrs are owned */
	int fd;                                 /* -1: none is written */
	int64_t size;                           /* of the file, without what waits in out */
	int64_t rotate_at;                      /* 0: never */
	struct gt_buf out;                      /* whole records */
	struct gt_buf tail;                     /* json: what the records of a portion end with */
	struct gt_buf part[2];                  /* a line that is not finished, for stdout and stderr */
	int compressing;                        /* pidfd of the process that compresses PATH.1, -1 */
	bool failing;                           /* said so already */
	struct gt_forward *forward;             /* NULL: none */
};

static int open_file(const char *path, int64_t *size, struct gt_error *err)
{
	struct stat st;
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
	if (fd < 0 || fstat(fd, &st) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the log %s", path);
	*size = st.st_size;
	return take_fd(fd);
}

static void adopt(struct gt_logfile *log, const struct gt_log_settings *settings, int fd, int64_t size)
{
	char *path = gt_xstrdup(settings->path), *attrs = gt_xstrdup(settings->attrs);
	free((char *)(uintptr_t)log->settings.path);
	free((char *)(uintptr_t)log->settings.attrs);
	if (log->fd >= 0)
		close(log->fd);
	log->settings = *settings;
	log->settings.path = path;
	log->settings.attrs = attrs;
	log->fd = fd;
	log->size = size;
	log->rotate_at = settings->max_size;
}

int gt_logfile_open(const struct gt_log_settings *settings, struct gt_logfile **log, struct gt_error *err)
{
	int64_t size = 0;
	int fd = settings->driver == GT_LOG_NONE ? -1 : open_file(settings->path, &size, err);
	if (fd < 0 && settings->driver != GT_LOG_NONE)
		return -1;
	*log = gt_xcalloc(1, sizeof **log);
	(*log)->fd = -1;
	(*log)->compressing = -1;
	adopt(*log, settings, fd, size);
	(*log)->forward = gt_forward_new(&settings->forward);
	return 0;
}

static void complain(struct gt_logfile *log, const char *message)
{
	if (!log->failing)
		gt_err("output of the container is lost", "log", log->settings.path, "error", message);
	log->failing = true;
}

/* A record that the disk has no room for leaves no torn end behind. */
static void flush(struct gt_logfile *log)
{
	if (log->out.len && log->fd >= 0) {
		if (gt_write_full(log->fd, log->out.data, log->out.len) == 0) {
			log->size += (int64_t)log->out.len;
			log->failing = false;
		} else {
			int saved = errno;
			struct stat st;
			if (fstat(log->fd, &st) == 0 && st.st_size > log->size && ftruncate(log->fd, log->size) < 0)
				log->size = st.st_size;
			complain(log, strerror(saved));
		}
	}
	gt_buf_reset(&log->out);
}

static int rotate(struct gt_logfile *log, struct gt_error *err)
{
	const struct gt_log_settings *settings = &log->settings;
	if (settings->max_file < 2) {
		if (ftruncate(log->fd, 0) < 0)
			return gt_fail_sys(err, GT_INTERNAL, errno, "empty the log %s", settings->path);
		log->size = 0;
		return 0;
	}
	if (log->compressing >= 0)
		gt_log_compress_wait(take_fd(log->compressing), settings->path, false);
	if (gt_log_shift(settings->path, settings->max_file, err) < 0)
		return -1;
	int64_t size = 0;
	int fd = open_file(settings->path, &size, err);
	if (fd < 0)
		return -1;
	close(log->fd);
	log->fd = fd;
	log->size = size;
	return settings->compress ? gt_log_compress(settings->path, &log->compressing, err) : 0;
}

/* Before a record: is there room? */
static void make_room(struct gt_logfile *log)
{
	struct gt_error err = { 0 };
	if (log->out.len >= FLUSH_AT)
		flush(log);
	if (log->rotate_at == 0 || log->size + (int64_t)log->out.len < log->rotate_at)
		return;
	flush(log);
	if (log->size < log->rotate_at)
		return;
	if (rotate(log, &err) < 0)
		gt_err("the log could not be rotated", "log", log->settings.path, "error", err.message);
	/* Where that failed the file grows on, and the next try is one size later. */
	log->rotate_at = log->size + log->settings.max_size;
	if (log->size == 0)
		log->rotate_at = log->settings.max_size;
}

static void emit(struct gt_logfile *log, unsigned stream, int64_t time, const char *text, size_t len, bool whole)
{
	if (log->forward)
		gt_forward_record(log->forward, stream, time, text, len, whole);
	if (log->fd < 0)
		return;
	make_room(log);
	if (log->settings.driver == GT_LOG_JSON_FILE)
		gt_log_json_record(&log->out, &log->tail, text, len, whole);
	else
		gt_log_local_record(&log->out, stream, time, text, len, whole);
}

/* Where to cut len bytes so that no UTF-8 sequence is torn. */
static size_t cut(const char *text, size_t len)
{
	for (size_t back = 1; back <= 3 && back < len; back++) {
		unsigned char c = (unsigned char)text[len - back];
		if (c < 0x80)
			break;
		if (c >= 0xc0) {
			size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
			return need > back ? len - back : len;
		}
	}
	return len;
}

static void begin(struct gt_logfile *log, unsigned stream, int64_t time)
{
	if (log->settings.driver == GT_LOG_JSON_FILE)
		gt_log_json_stamp(&log->tail, stream, log->settings.attrs, time);
	if (!log->out.cap && log->fd >= 0) /* once, so that it never moves */
		gt_buf_reserve(&log->out, FLUSH_AT + WORST);
}

void gt_logfile_feed(struct gt_logfile *log, unsigned stream, const char *bytes, size_t len, int64_t time)
{
	if (log->fd < 0 && !log->forward)
		return;
	struct gt_buf *part = &log->part[stream == 2];
	begin(log, stream, time);
	while (len) {
		size_t room = GT_LOG_CHUNK - part->len;
		const char *newline = memchr(bytes, '\n', len < room + 1 ? len : room + 1);
		size_t n = newline ? (size_t)(newline - bytes) : len < room ? len : room;
		if (!newline && len <= room) {
			gt_buf_add(part, bytes, n);
			break;
		}
		if (part->len) {
			gt_buf_add(part, bytes, n);
			size_t take_now = newline ? part->len : cut(part->data, part->len);
			emit(log, stream, time, part->data, take_now, newline != NULL);
			gt_buf_consume(part, take_now);
		} else {
			if (!newline)
				n = cut(bytes, n);
			emit(log, stream, time, bytes, n, newline != NULL);
		}
		n += newline != NULL;
		bytes += n;
		len -= n;
	}
	flush(log);
}

void gt_logfile_end(struct gt_logfile *log, unsigned stream, int64_t time)
{
	struct gt_buf *part = &log->part[stream == 2];
	if ((log->fd >= 0 || log->forward) && part->len) {
		begin(log, stream, time);
		emit(log, stream, time, part->data, part->len, false);
		flush(log);
	}
	gt_buf_free(part);
}

int gt_logfile_reopen(struct gt_logfile *log, const struct gt_log_settings *settings, struct gt_error *err)
{
	int64_t size = 0;
	int fd = settings->driver == GT_LOG_NONE ? -1 : open_file(settings->path, &size, err);
	if (fd < 0 && settings->driver != GT_LOG_NONE)
		return -1;
	if (log->compressing >= 0 && strcmp(settings->path, log->settings.path) != 0)
		gt_log_compress_wait(take_fd(log->compressing), log->settings.path, true);
	adopt(log, settings, fd, size);
	return 0;
}

void gt_logfile_close(struct gt_logfile *log)
{
	if (!log)
		return;
	if (log->compressing >= 0)
		gt_log_compress_wait(log->compressing, log->settings.path, true);
	if (log->fd >= 0)
		close(log->fd);
	free((char *)(uintptr_t)log->settings.path);
	free((char *)(uintptr_t)log->settings.attrs);
	gt_forward_free(log->forward);
	gt_buf_free(&log->out);
	gt_buf_free(&log->tail);
	gt_buf_free(&log->part[0]);
	gt_buf_free(&log->part[1]);
	free(log);
}
