#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/journal.h"

static _Atomic int log_level = GT_INFO;
static _Atomic bool log_json;
static _Atomic int log_fd = STDERR_FILENO;

static const char *const level_names[] = { "debug", "info", "warn", "error" };

void gt_log_set_level(enum gt_level level)
{
	atomic_store(&log_level, (int)level);
}

enum gt_level gt_log_level(void)
{
	return (enum gt_level)atomic_load(&log_level);
}

void gt_log_set_json(bool json)
{
	atomic_store(&log_json, json);
}

void gt_log_set_fd(int fd)
{
	atomic_store(&log_fd, fd);
}

int gt_log_level_parse(const char *word, enum gt_level *level)
{
	for (int i = GT_DEBUG; i <= GT_ERROR; i++) {
		if (strcmp(word, level_names[i]) == 0) {
			*level = (enum gt_level)i;
			return 0;
		}
	}
	return -1;
}

static void add_escaped(struct gt_buf *line, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			gt_buf_printf(line, "\\%c", *c);
		else if (*c == '\n')
			gt_buf_str(line, "\\n");
		else if (*c < 0x20 || *c == 0x7f)
			gt_buf_printf(line, "\\u%04x", *c);
		else
			gt_buf_char(line, (char)*c);
	}
}

/* A text value needs quotes where it could be taken for something else. */
static bool plain(const char *text)
{
	return *text && !strpbrk(text, " \"\\=\n\t\r") && strspn(text, "\x01\x02\x03\x1b\x7f") == 0;
}

static void add_stamp(struct gt_buf *line)
{
	struct timespec now;
	struct tm tm;
	char text[32];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	gt_buf_printf(line, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

/* ---- the journal ---- */

#define FIELD_NAME_MAX 64
#define JOURNAL_PATIENCE 2      /* s that a line waits for a journal that is behind; those after it do not wait */

/* Whether fd is the one that systemd connected to the journal: systemd.exec(5), $JOURNAL_STREAM. */
static bool is_journal(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static int journal_fd = -1;
static _Atomic bool journal_behind;

/* Once, at the first line. The socket is not connected: a journal that is started anew is found again. */
static void find_journal(void)
{
	if (!is_journal(atomic_load(&log_fd)))
		return;
	struct timeval patience = { .tv_sec = JOURNAL_PATIENCE };
	journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (journal_fd >= 0)
		setsockopt(journal_fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

/* "driver" -> "GANTRY_DRIVER": fields are [A-Z0-9_]. */
static void field_name(const char *key, char out[static FIELD_NAME_MAX + 1])
{
	size_t len = (size_t)snprintf(out, FIELD_NAME_MAX + 1, "GANTRY_%s", key);
	for (size_t i = 0; i < len && i < FIELD_NAME_MAX; i++) {
		char c = out[i] >= 'a' && out[i] <= 'z' ? (char)(out[i] - 32) : out[i];
		out[i] = (char)((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_');
	}
}

static void add_pairs(struct gt_buf *line, bool json, va_list ap)
{
	for (const char *key; (key = va_arg(ap, const char *)) != NULL;) {
		const char *value = va_arg(ap, const char *);
		if (!value)
			continue;
		bool quote = json || !plain(value);
		gt_buf_printf(line, json ? ",\"%s\":" : " %s=", key);
		gt_buf_str(line, quote ? "\"" : "");
		add_escaped(line, value);
		gt_buf_str(line, quote ? "\"" : "");
	}
}

/* One entry: MESSAGE is the line that a terminal would show, without time and level; each pair is a field beside it. False: it could not be sent. */
static bool send_to_journal(enum gt_level level, const char *msg, va_list ap)
{
	static const int PRIORITIES[] = { 7, 6, 4, 3 };
	AUTO_BUF struct gt_buf entry = { 0 };
	AUTO_BUF struct gt_buf line = { 0 };
	char name[FIELD_NAME_MAX + 1];
	va_list again;
	va_copy(again, ap);
	gt_buf_printf(&entry, "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\n", PRIORITIES[level], program_invocation_short_name);
	for (const char *key; (key = va_arg(again, const char *)) != NULL;) {
		const char *value = va_arg(again, const char *);
		if (!value)
			continue;
		field_name(key, name);
		gt_journal_field(&entry, name, value, strlen(value));
	}
	va_end(again);
	add_escaped(&line, msg);
	add_pairs(&line, false, ap);
	gt_journal_field(&entry, "MESSAGE", line.data ? line.data : "", line.len);
	bool sent = gt_journal_send(journal_fd, &entry, !atomic_load(&journal_behind)) == 0;
	atomic_store(&journal_behind, !sent);
	return sent;
}

/* ---- lines ---- */

void gt_log_kv(enum gt_level level, const char *msg, ...)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	va_list ap;
	if ((int)level < atomic_load(&log_level))
		return;
	bool json = atomic_load(&log_json);
	pthread_once(&once, find_journal);
	if (journal_fd >= 0 && !json) {
		va_start(ap, msg);
		bool sent = send_to_journal(level, msg, ap);
		va_end(ap);
		if (sent)
			return;
	}
	AUTO_BUF struct gt_buf line = { 0 };
	gt_buf_str(&line, json ? "{\"time\":\"" : "");
	add_stamp(&line);
	gt_buf_printf(&line, json ? "\",\"level\":\"%s\",\"msg\":\"" : " %-5s ", level_names[level]);
	add_escaped(&line, msg);
	gt_buf_str(&line, json ? "\"" : "");

	va_start(ap, msg);
	add_pairs(&line, json, ap);
	va_end(ap);
	gt_buf_str(&line, json ? "}\n" : "\n");
	if (write(atomic_load(&log_fd), line.data, line.len) < 0)
		return; /* there is nowhere left to say so */
}
