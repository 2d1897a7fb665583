#include "progress.h"

#include <string.h>
#include <sys/ioctl.h>

#include "humanize.h"

enum { MAX_LINE = 4 << 20, MAX_BARS = 512 };

struct show {
	FILE *out;
	bool terminal, quiet;
	int columns;
	char *ids[MAX_BARS];            /* the lines on the screen, top to bottom */
	int count;
	json_t *aux;
	struct gt_error *err;
};

/* "[====>    ]  1.2MB/3.4MB" */
static char *bar_text(const struct show *show, const json_t *detail)
{
	double current = jd(detail, "current"), total = jd(detail, "total");
	if (current <= 0 && total <= 0)
		return gt_xstrdup("");
	AUTO_FREE char *have = human_size(current, 4);
	if (total <= 0 || current > total)
		return gt_xasprintf("%8s", have);
	AUTO_FREE char *all = human_size(total, 4);
	if (show->columns < 110)
		return gt_xasprintf("%8s/%s", have, all);
	char bar[51];
	int filled = (int)(current / total * 50);
	memset(bar, '=', (size_t)filled);
	memset(bar + filled, ' ', (size_t)(50 - filled));
	bar[50] = '\0';
	if (filled < 50)
		bar[filled] = '>';
	return gt_xasprintf("[%s]  %8s/%s", bar, have, all);
}

/* The line of id, counted from the bottom (1: the last). A new id gets a new line. */
static int line_of(struct show *show, const char *id)
{
	for (int i = 0; i < show->count; i++) {
		if (strcmp(show->ids[i], id) == 0)
			return show->count - i;
	}
	if (show->count == MAX_BARS)
		return 0;
	show->ids[show->count++] = gt_xstrdup(id);
	fputc('\n', show->out);
	return 1;
}

static void forget_lines(struct show *show)
{
	while (show->count > 0)
		free(show->ids[--show->count]);
}

/* Text from a registry or an image must not steer the terminal. */
static void put_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == 0x7f || (c < 0x20 && c != '\n' && c != '\t' && c != '\r'))
			fputc('?', out);
		else
			fputc(c, out);
	}
}

static void show_status(struct show *show, const json_t *message)
{
	const char *id = js(message, "id"), *status = js(message, "status");
	const json_t *detail = jo(message, "progressDetail");
	bool moving = json_object_size(detail) > 0;
	if (!show->terminal) {
		if (moving)
			return;
		if (*id)
			fprintf(show->out, "%s: ", id);
		put_text(show->out, status);
		fputc('\n', show->out);
		return;
	}
	if (!*id) {
		forget_lines(show);
		put_text(show->out, status);
		fputc('\n', show->out);
		return;
	}
	AUTO_FREE char *bar = bar_text(show, detail);
	int up = line_of(show, id);
	if (up > 0)
		fprintf(show->out, "\033[%dA\r\033[2K", up);
	fprintf(show->out, "%s: ", id);
	put_text(show->out, status);
	fprintf(show->out, " %s", bar);
	if (up > 0)
		fprintf(show->out, "\033[%dB\r", up);
	else
		fputc('\n', show->out);
}

static int show_message(struct show *show, const json_t *message)
{
	const json_t *detail = jo(message, "errorDetail");
	const char *error = *js(detail, "message") ? js(detail, "message") : js(message, "error");
	if (*error) {
		json_decref(show->aux);
		show->aux = json_incref((json_t *)detail);
		return gt_fail(show->err, GT_INTERNAL, "%s", error);
	}
	json_t *aux = jo(message, "aux");
	if (aux) {
		json_decref(show->aux);
		show->aux = json_incref(aux);
	}
	if (show->quiet)
		return 0;
	if (*js(message, "stream")) {
		forget_lines(show);
		put_text(show->out, js(message, "stream"));
	} else if (*js(message, "status")) {
		show_status(show, message);
	}
	fflush(show->out);
	return 0;
}

static int show_line(struct show *show, const char *line, size_t len)
{
	if (len == 0 || (len == 1 && *line == '\r'))
		return 0;
	AUTO_JSON json_t *message = gt_json_parse(line, len, "the daemon's progress message", show->err);
	return message ? show_message(show, message) : -1;
}

static int show_all(struct show *show, struct http_response *response)
{
	AUTO_BUF struct gt_buf pending = { 0 };
	const char *bytes;
	ssize_t got;
	while ((got = http_next(response, &bytes, show->err)) > 0) {
		gt_buf_add(&pending, bytes, (size_t)got);
		char *from = pending.data, *end;
		while ((end = memchr(from, '\n', (size_t)(pending.data + pending.len - from)))) {
			if (show_line(show, from, (size_t)(end - from)) < 0)
				return -1;
			from = end + 1;
		}
		gt_buf_consume(&pending, (size_t)(from - pending.data));
		if (pending.len > MAX_LINE)
			return gt_fail(show->err, GT_TOO_LARGE, "the daemon's progress message is larger than %d bytes",
				       MAX_LINE);
	}
	return got < 0 ? -1 : show_line(show, pending.data, pending.len);
}

int progress_show(struct http_response *response, FILE *out, bool quiet, json_t **aux, struct gt_error *err)
{
	struct show *show = gt_xcalloc(1, sizeof *show);
	struct winsize size = { .ws_col = 80 };
	show->out = out;
	show->quiet = quiet;
	show->terminal = isatty(fileno(out));
	show->err = err;
	if (show->terminal)
		ioctl(fileno(out), TIOCGWINSZ, &size);
	show->columns = size.ws_col;
	int done = show_all(show, response);
	forget_lines(show);
	if (aux)
		*aux = take(show->aux);
	json_decref(show->aux);
	free(show);
	return done;
}
