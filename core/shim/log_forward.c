#include "shim/log_forward.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/journal.h"
#include "base/log.h"

#define PATIENCE_MS 1000
#define SYSLOG_INFO 6
#define SYSLOG_ERR 3
#define STREAMS 3

/* A line that comes in pieces, as it is too long. */
struct partial {
	char id[GT_ID_LEN + 1];
	unsigned ordinal;                       /* of the last piece; 0: none has come */
	int64_t time;                           /* of the first */
};

struct gt_forward {
	struct gt_forward_settings settings;    /* strings are owned */
	int fd;                                 /* -1: not connected */
	struct gt_buf out;
	struct partial partials[STREAMS];
	bool failing;                           /* said so already; nothing is waited for */
};

struct gt_forward *gt_forward_new(const struct gt_forward_settings *settings)
{
	if (settings->kind == GT_FORWARD_NONE)
		return NULL;
	struct gt_forward *forward = gt_xcalloc(1, sizeof *forward);
	forward->settings = *settings;
	forward->settings.to = gt_xstrdup(settings->to);
	forward->settings.head = gt_xstrdup(settings->head ? settings->head : "");
	forward->settings.version = gt_xstrdup(settings->version ? settings->version : "");
	forward->fd = -1;
	return forward;
}

void gt_forward_free(struct gt_forward *forward)
{
	if (!forward)
		return;
	free((char *)(uintptr_t)forward->settings.to);
	free((char *)(uintptr_t)forward->settings.head);
	free((char *)(uintptr_t)forward->settings.version);
	if (forward->fd >= 0)
		close(forward->fd);
	gt_buf_free(&forward->out);
	free(forward);
}

static void complain(struct gt_forward *forward, int errnum)
{
	if (!forward->failing)
		gt_err("output of the container is lost", "log", forward->settings.to, "error", strerror(errnum));
	forward->failing = true;
}

static int connect_now(const struct gt_forward *forward)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strlen(forward->settings.to) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, forward->settings.to, strlen(forward->settings.to) + 1);
	AUTO_CLOSE int fd = socket(AF_UNIX, (forward->settings.stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
		return -1;
	return take_fd(fd);
}

/* All of it, or -1: of a stream that took a part no more is sent before it is opened anew. */
static int send_all(struct gt_forward *forward)
{
	const char *bytes = forward->out.data;
	size_t len = forward->out.len;
	int patience = forward->settings.wait && !forward->failing ? PATIENCE_MS : 0;
	while (len) {
		ssize_t n = send(forward->fd, bytes, len, MSG_NOSIGNAL);
		if (n >= 0) {
			bytes += n;
			len -= (size_t)n;
			continue;
		}
		struct pollfd look = { .fd = forward->fd, .events = POLLOUT };
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN || poll(&look, 1, patience) <= 0)
			return -1;
	}
	return 0;
}

/* A log daemon may have been restarted since the last record: one more try with a connection of its own. */
static void deliver(struct gt_forward *forward)
{
	for (int tries = 0; tries < 2; tries++) {
		bool fresh = forward->fd < 0;
		if (fresh)
			forward->fd = connect_now(forward);
		if (forward->fd >= 0 && send_all(forward) == 0) {
			forward->failing = false;
			return;
		}
		int errnum = errno;
		bool full = errnum == EAGAIN && !forward->settings.stream;
		if (forward->fd >= 0 && !full)
			close(take_fd(forward->fd));
		if (fresh || full) {
			complain(forward, errnum);
			return;
		}
	}
}

/* Pieces have an id in common, count from 1, and all have the time of the first. */
static void put_partial(struct gt_buf *out, struct partial *partial, int64_t *time, bool whole)
{
	if (partial->ordinal++ == 0) {
		gt_id_new(partial->id);
		partial->time = *time;
	}
	*time = partial->time;
	gt_buf_printf(out, "%sCONTAINER_PARTIAL_ID=%s\nCONTAINER_PARTIAL_ORDINAL=%u\nCONTAINER_PARTIAL_LAST=%s\n",
		      whole ? "" : "CONTAINER_PARTIAL_MESSAGE=true\n", partial->id, partial->ordinal, whole ? "true" : "false");
	if (whole)
		partial->ordinal = 0;
}

static void put_journald(struct gt_forward *forward, unsigned stream, int64_t time, const char *text, size_t len, bool whole)
{
	struct gt_buf *out = &forward->out;
	struct partial *partial = &forward->partials[stream < STREAMS ? stream : 0];
	char stamp[36];
	gt_buf_printf(out, "PRIORITY=%d\n", stream == 2 ? SYSLOG_ERR : SYSLOG_INFO);
	if (!whole || partial->ordinal)
		put_partial(out, partial, &time, whole);
	gt_time_format(time, stamp);
	gt_buf_printf(out, "SYSLOG_TIMESTAMP=%s\n", stamp);
	gt_buf_str(out, forward->settings.head);
	gt_journal_field(out, "MESSAGE", text, len);
}

static void put_time(struct gt_buf *out, enum gt_forward_time how, int64_t ns)
{
	static const char MONTHS[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	if (how == GT_TIME_STAMP) { /* the old formats tell no zone: local time is understood */
		localtime_r(&seconds, &tm);
		gt_buf_printf(out, "%s %2d %02d:%02d:%02d", MONTHS[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
		return;
	}
	gmtime_r(&seconds, &tm);
	gt_buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	if (how == GT_TIME_MICRO)
		gt_buf_printf(out, ".%06d", (int)(ns % 1000000000 / 1000));
	gt_buf_char(out, 'Z');
}

/* RFC 5424, RFC 3164, or what syslog(3) sends. */
static void put_syslog(struct gt_forward *forward, int priority, int64_t time, const char *text, size_t len)
{
	struct gt_buf *out = &forward->out;
	gt_buf_printf(out, "<%d>%s", (int)forward->settings.facility * 8 + priority, forward->settings.version);
	put_time(out, forward->settings.time, time);
	gt_buf_str(out, forward->settings.head);
	gt_buf_add(out, text, len);
	if (forward->settings.stream)
		gt_buf_char(out, '\n');
}

void gt_forward_record(struct gt_forward *forward, unsigned stream, int64_t time, const char *text, size_t len, bool whole)
{
	int priority = stream == 2 ? SYSLOG_ERR : SYSLOG_INFO;
	if (!len) { /* as Docker: an empty line is no message */
		if (whole)
			forward->partials[stream < STREAMS ? stream : 0].ordinal = 0;
		return;
	}
	gt_buf_reset(&forward->out);
	if (forward->settings.kind == GT_FORWARD_JOURNALD)
		put_journald(forward, stream, time, text, len, whole);
	else
		put_syslog(forward, priority, time, text, len);
	deliver(forward);
}
