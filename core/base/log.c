#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

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

void gt_log_kv(enum gt_level level, const char *msg, ...)
{
	if ((int)level < atomic_load(&log_level))
		return;
	bool json = atomic_load(&log_json);
	AUTO_BUF struct gt_buf line = { 0 };
	gt_buf_str(&line, json ? "{\"time\":\"" : "");
	add_stamp(&line);
	gt_buf_printf(&line, json ? "\",\"level\":\"%s\",\"msg\":\"" : " %-5s ", level_names[level]);
	add_escaped(&line, msg);
	gt_buf_str(&line, json ? "\"" : "");

	va_list ap;
	va_start(ap, msg);
	for (const char *key; (key = va_arg(ap, const char *)) != NULL;) {
		const char *value = va_arg(ap, const char *);
		if (!value)
			continue;
		bool quote = json || !plain(value);
		gt_buf_printf(&line, json ? ",\"%s\":" : " %s=", key);
		gt_buf_str(&line, quote ? "\"" : "");
		add_escaped(&line, value);
		gt_buf_str(&line, quote ? "\"" : "");
	}
	va_end(ap);
	gt_buf_str(&line, json ? "}\n" : "\n");
	if (write(atomic_load(&log_fd), line.data, line.len) < 0)
		return; /* there is nowhere left to say so */
}
