#include "session.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#include "api.h"
#include "base/fd.h"

enum { ROOM = 128 << 10 };

void session_init(struct session *session, struct cli *cli, bool tty, bool in, bool out, bool err)
{
	*session = (struct session){ .cli = cli, .tty = tty, .in = in, .out = out, .err = err, .signals = -1 };
	session->conn.fd = -1;
	session->detach_keys = "";
}

int session_check_tty(const struct session *session, struct gt_error *err)
{
	if (session->tty && session->in && !isatty(0))
		return gt_fail(err, GT_INVALID, "the input device is not a TTY");
	return 0;
}

const char *session_keys(struct cli *cli, const struct args *args)
{
	if (arg_given(args, "detach-keys"))
		return arg_string(args, "detach-keys");
	return js(config_load(cli, NULL), "detachKeys");
}

char *session_attach_path(const struct session *session, const char *container, bool logs)
{
	struct gt_buf path = { 0 };
	url_path(&path, "/containers/", container, "/attach");
	url_param(&path, "stream", "1");
	url_flag(&path, "stdin", session->in);
	url_flag(&path, "stdout", session->out);
	url_flag(&path, "stderr", session->err);
	url_flag(&path, "logs", logs);
	url_text(&path, "detachKeys", session->detach_keys);
	return gt_buf_take(&path);
}

void session_target(struct session *session, const char *container)
{
	struct gt_buf kill = { 0 }, resize = { 0 };
	url_path(&kill, "/containers/", container, "/kill");
	url_path(&resize, "/containers/", container, "/resize");
	session->kill_path = gt_buf_take(&kill);
	session->resize_path = gt_buf_take(&resize);
}

int session_open(struct session *session, const char *path, const json_t *body, struct gt_error *err)
{
	struct http_request request = { .method = "POST", .path = path, .json = body, .upgrade = true };
	const char *keys = *session->detach_keys ? session->detach_keys : DEFAULT_DETACH_KEYS;
	if (keys_parse(&session->keys, keys, err) < 0)
		return -1;
	struct http_response *response = api_open(session->cli, &request, err);
	if (!response)
		return -1;
	session->conn = http_hijack(response, &session->early);
	session->open = true;
	http_close(response);
	return 0;
}

static void send_size(struct session *session, unsigned rows, unsigned cols)
{
	AUTO_BUF struct gt_buf path = { 0 };
	gt_buf_str(&path, session->resize_path);
	url_int(&path, "h", rows);
	url_int(&path, "w", cols);
	api_call(session->cli, "POST", path.data, NULL, NULL, NULL);
}

void session_resize(struct session *session)
{
	unsigned rows, cols;
	if (session->tty && session->resize_path && terminal_size(1, &rows, &cols))
		send_size(session, rows, cols);
}

void session_redraw(struct session *session)
{
	unsigned rows, cols;
	if (!session->tty || !session->resize_path || !terminal_size(1, &rows, &cols))
		return;
	send_size(session, rows + 1, cols + 1);
	send_size(session, rows, cols);
}

int session_detached(void)
{
	fputs("read escape sequence\n", stderr);
	return 1;
}

int session_begin(struct session *session, struct gt_error *err)
{
	bool raw = session->tty && session->in && isatty(0);
	int wanted = session->tty && isatty(1) ? SIGNALS_WINCH : 0;
	if (session->sig_proxy && session->kill_path)
		wanted |= SIGNALS_ALL;
	else if (raw)
		wanted |= SIGNALS_END;
	if (wanted)
		session->signals = signals_catch(wanted, err);
	if (wanted && session->signals < 0)
		return -1;
	return raw ? terminal_raw(&session->terminal, 0, err) : 0;
}

static void send_signal(struct session *session, int number)
{
	AUTO_BUF struct gt_buf path = { 0 };
	const char *name = sigabbrev_np(number);
	gt_buf_str(&path, session->kill_path);
	if (name)
		url_param(&path, "signal", name);
	else
		url_int(&path, "signal", number);
	api_call(session->cli, "POST", path.data, NULL, NULL, NULL);
}

static void take_signals(struct session *session)
{
	unsigned char number;
	while (session->signals >= 0 && read(session->signals, &number, 1) == 1) {
		if (number == SIGWINCH)
			session_resize(session);
		else if (session->sig_proxy && session->kill_path)
			send_signal(session, number);
		else
			session->ended_by = number;
	}
}

/* Writes output. A signal interrupts a write that blocks, and is passed on before it goes on. */
static int write_output(void *arg, int fd, const void *bytes, size_t len)
{
	struct session *session = arg;
	const char *p = bytes;
	while (len > 0) {
		ssize_t put = write(fd, p, len);
		if (put < 0 && errno == EAGAIN) {
			struct pollfd look[] = { { .fd = fd, .events = POLLOUT },
						 { .fd = session->signals, .events = POLLIN } };
			poll(look, 2, -1);
		} else if (put < 0 && errno != EINTR) {
			return -1;
		}
		if (put > 0) {
			p += put;
			len -= (size_t)put;
		}
		if (len > 0)
			take_signals(session);
		if (session->ended_by) {
			errno = EINTR;
			return -1;
		}
	}
	return 0;
}

/* Standard input to the buffer of what is to be sent. True: the detach keys were typed. */
static bool take_input(struct session *session)
{
	char bytes[32 << 10];
	ssize_t got = read(0, bytes, sizeof bytes);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return false;
	if (got <= 0) {
		session->input_ended = true;
		return false;
	}
	if (!session->tty) {
		gt_buf_add(&session->outgoing, bytes, (size_t)got);
		return false;
	}
	return keys_filter(&session->keys, bytes, (size_t)got, &session->outgoing);
}

static void send_input(struct session *session)
{
	ssize_t put = conn_write(&session->conn, session->outgoing.data, session->outgoing.len);
	if (put > 0) {
		gt_buf_consume(&session->outgoing, (size_t)put);
	} else if (put < 0 && errno != EAGAIN) {
		/* The process reads no more; its output may still come. */
		gt_buf_reset(&session->outgoing);
		session->in = false;
	}
}

/* 1: the stream ended. */
static int take_output(struct session *session, char *room, struct gt_error *err)
{
	ssize_t got = conn_read(&session->conn, room, ROOM);
	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got < 0 && errno != ECONNRESET)
		return gt_fail_sys(err, GT_UNAVAILABLE, errno, "the stream from the daemon broke");
	if (got <= 0)
		return 1;
	return demux_feed(&session->demux, room, (size_t)got, err);
}

/* One turn: -1, or an enum session_end plus 1, or 0 to go on. */
static int turn(struct session *session, char *room, bool *closed, struct gt_error *err)
{
	bool read_input = session->in && !session->input_ended && session->outgoing.len == 0;
	struct pollfd look[3] = {
		{ .fd = session->conn.fd, .events = (short)(POLLIN | (session->outgoing.len > 0 ? POLLOUT : 0)) },
		{ .fd = read_input ? 0 : -1, .events = POLLIN },
		{ .fd = session->signals, .events = POLLIN },
	};
	if (poll(look, 3, conn_pending(&session->conn) ? 0 : -1) < 0 && errno != EINTR)
		return gt_fail_errno(err, errno, "poll");
	take_signals(session);
	if (session->ended_by)
		return SESSION_SIGNALLED + 1;
	if (look[1].revents && take_input(session))
		return SESSION_DETACHED + 1;
	if (session->outgoing.len > 0)
		send_input(session);
	if (session->in && session->input_ended && session->outgoing.len == 0 && !*closed) {
		conn_half_close(&session->conn);
		*closed = true;
	}
	if (look[0].revents & (POLLIN | POLLHUP | POLLERR) || conn_pending(&session->conn)) {
		int over = take_output(session, room, err);
		if (over < 0 && session->ended_by)
			return SESSION_SIGNALLED + 1;
		return over;
	}
	return 0;
}

int session_run(struct session *session, struct gt_error *err)
{
	AUTO_FREE char *room = gt_xmalloc(ROOM);
	bool closed = false;
	int state = 0;
	session->demux = (struct demux){ .raw = session->tty, .out = session->out ? 1 : -1, .err = session->err ? 2 : -1,
					 .write = write_output, .arg = session };
	fflush(stdout);
	conn_set_blocking(&session->conn, false);
	if (session->early.len > 0)
		state = demux_feed(&session->demux, session->early.data, session->early.len, err);
	while (state == 0)
		state = turn(session, room, &closed, err);
	return state < 0 ? -1 : state - 1;
}

void session_end(struct session *session)
{
	terminal_restore(&session->terminal);
	signals_release(session->signals);
	session->signals = -1;
	if (session->open)
		conn_close(&session->conn);
	session->open = false;
}

void session_free(struct session *session)
{
	session_end(session);
	demux_free(&session->demux);
	gt_buf_free(&session->early);
	gt_buf_free(&session->outgoing);
	free(session->kill_path);
	free(session->resize_path);
}

/* ---- the exit ---- */

struct http_response *exit_wait(struct cli *cli, const char *container, const char *condition, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/containers/", container, "/wait");
	url_text(&path, "condition", condition);
	struct http_request request = { .method = "POST", .path = path.data };
	return api_open(cli, &request, err);
}

int exit_status_of(struct http_response *waiting, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (http_read_all(waiting, 1 << 20, &text, err) < 0)
		return -1;
	AUTO_JSON json_t *answer = gt_json_parse(text.data ? text.data : "", text.len, "the daemon's answer", err);
	if (!answer)
		return -1;
	const char *message = js(jo(answer, "Error"), "Message");
	if (*message)
		return gt_fail(err, GT_INTERNAL, DAEMON_SAYS "%s", message);
	return (int)ji(answer, "StatusCode");
}
