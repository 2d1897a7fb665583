/*
 * upload.c - streamed bodies: the engine reads them from a pipe, in a thread of its own, while they come in.
 *
 * MHD takes an answer only before or after the body. Progress that comes up meanwhile is therefore written past it, straight to the
 * connection, as the head and chunks of the one answer; the connection ends with that answer. Such writes never wait: a client that
 * reads nothing until it has sent all must not stand still. Where nothing came up by the end of the body, MHD sends the answer.
 *
 * The connection's thread and the worker share `text`, `done` and `failed` under `lock`. The worker ends when the pipe does, so upload_free()
 * can wait for it; one that works on without the body (a pull) asks whether it is cancelled.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/internal.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	PIPE_ROOM = 1 << 20,
	TEXT_SOFT = 1 << 20,    /* beyond this, mere progress is dropped */
	TEXT_HARD = 4 << 20,    /* beyond this the worker waits for the client, if it has sent all; else all is dropped */
	LOOK_MS = 200,
	STACK = 1 << 20,
};

struct upload {
	struct request *request;
	upload_work work;
	bool lines, quiet;
	int in_fd;                      /* the worker's */
	int out_fd;                     /* non-blocking; -1 once the worker wants no more, or the body is whole */
	pthread_t thread;
	atomic_bool cancelled;          /* nobody waits for the outcome any more */
	pthread_mutex_t lock;           /* guards the five below */
	pthread_cond_t changed;
	struct gt_buf text;             /* lines that the client has not got yet */
	bool whole;                     /* the body has come: the client has nothing to do but to listen */
	bool done;
	int failed;
	struct gt_error error;
	bool direct;                    /* the answer has begun, past MHD */
	bool deaf;                      /* the client takes no more of it */
	struct gt_buf unsent;           /* of the direct answer */
};

/* ---- the worker ---- */

static bool cancelled(void *arg)
{
	struct upload *upload = arg;
	return atomic_load(&upload->cancelled) || atomic_load(&upload->request->api->stopping);
}

static struct timespec soon(int timeout_ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * GT_MILLISECOND;
	if (until.tv_nsec >= GT_SECOND) {
		until.tv_sec++;
		until.tv_nsec -= GT_SECOND;
	}
	return until;
}

static void add_line(struct upload *upload, const json_t *message)
{
	AUTO_FREE char *line = json_dumps(message, JSON_COMPACT);
	if (!line)
		return;
	LOCKED(&upload->lock);
	bool mere_progress = json_object_get(message, "progressDetail") != NULL;
	while (upload->text.len > TEXT_HARD && upload->whole && !cancelled(upload)) {
		struct timespec until = soon(LOOK_MS);
		pthread_cond_timedwait(&upload->changed, &upload->lock, &until);
	}
	if (upload->text.len > TEXT_HARD || (upload->text.len > TEXT_SOFT && mere_progress))
		return;
	gt_buf_str(&upload->text, line);
	gt_buf_str(&upload->text, "\r\n");
	pthread_cond_signal(&upload->changed);
}

static void emit(void *arg, json_t *message)
{
	struct upload *upload = arg;
	if (!upload->quiet || !json_object_get(message, "progressDetail"))
		add_line(upload, message);
}

static void *worker(void *arg)
{
	struct upload *upload = arg;
	struct gt_error err = { 0 };
	struct gt_progress progress = { .emit = emit, .arg = upload, .cancelled = cancelled };
	int failed = upload->work(upload->request, upload->in_fd, upload->lines ? &progress : NULL, &err);
	close(upload->in_fd);
	LOCKED(&upload->lock);
	upload->failed = failed;
	upload->error = err;
	upload->done = true;
	pthread_cond_signal(&upload->changed);
	return NULL;
}

int upload_begin(struct request *request, upload_work work, bool lines, bool quiet, struct gt_error *err)
{
	int pipes[2];
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return gt_fail_errno(err, errno, "make a pipe for the request body");
	fcntl(pipes[1], F_SETPIPE_SZ, PIPE_ROOM); /* the default does where this is refused */
	fcntl(pipes[1], F_SETFL, O_NONBLOCK);

	struct upload *upload = gt_xcalloc(1, sizeof *upload);
	*upload = (struct upload){ .request = request, .work = work, .lines = lines, .quiet = quiet, .in_fd = pipes[0],
				   .out_fd = pipes[1] };
	pthread_mutex_init(&upload->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&upload->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	int rc = pthread_create(&upload->thread, &attr, worker, upload);
	pthread_attr_destroy(&attr);
	if (rc == 0) {
		request->upload = upload;
		return 0;
	}
	close(pipes[0]);
	close(pipes[1]);
	pthread_cond_destroy(&upload->changed);
	pthread_mutex_destroy(&upload->lock);
	free(upload);
	return gt_fail_errno(err, rc, "start a thread for the request body");
}

void upload_free(struct upload *upload)
{
	if (!upload)
		return;
	if (upload->out_fd >= 0)
		close(upload->out_fd);
	atomic_store(&upload->cancelled, true);
	pthread_join(upload->thread, NULL);
	pthread_cond_destroy(&upload->changed);
	pthread_mutex_destroy(&upload->lock);
	gt_buf_free(&upload->text);
	gt_buf_free(&upload->unsent);
	free(upload);
}

/* ---- the answer past MHD ---- */

static void begin_direct(struct upload *upload)
{
	upload->direct = true;
	gt_buf_str(&upload->unsent, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n"
				    "Transfer-Encoding: chunked\r\n");
	answer_common_headers(&upload->unsent);
	gt_buf_str(&upload->unsent, "\r\n");
}

static void add_chunk(struct upload *upload, const char *bytes, size_t len)
{
	gt_buf_printf(&upload->unsent, "%zx\r\n", len);
	gt_buf_add(&upload->unsent, bytes, len);
	gt_buf_str(&upload->unsent, "\r\n");
}

/* As much as the client takes within timeout_ms (0: now). */
static void send_direct(struct upload *upload, int timeout_ms)
{
	int fd = req_fd(upload->request);
	while (upload->unsent.len > 0 && !upload->deaf) {
		ssize_t put = send(fd, upload->unsent.data, upload->unsent.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (put > 0) {
			gt_buf_consume(&upload->unsent, (size_t)put);
		} else if (put < 0 && errno == EAGAIN) {
			struct pollfd look = { .fd = fd, .events = POLLOUT };
			if (timeout_ms == 0 || poll(&look, 1, timeout_ms) == 0)
				return;
		} else if (errno != EINTR) {
			upload->deaf = true;
		}
	}
	if (upload->deaf)
		gt_buf_reset(&upload->unsent);
}

/* What has come up meanwhile goes out. HTTP/1.0 knows no chunks: its clients get it at the end. */
static void send_text(struct upload *upload)
{
	if (!upload->lines || upload->unsent.len > 0) {
		send_direct(upload, 0);
		return;
	}
	struct gt_buf text = { 0 };
	pthread_mutex_lock(&upload->lock);
	bool refused = upload->done && upload->failed && !upload->direct;
	if (!refused) {
		text = upload->text;
		upload->text = (struct gt_buf){ 0 };
	}
	pthread_mutex_unlock(&upload->lock);
	if (text.len > 0 && !upload->direct)
		begin_direct(upload);
	if (text.len > 0)
		add_chunk(upload, text.data, text.len);
	gt_buf_free(&text);
	send_direct(upload, 0);
}

/* ---- the body ---- */

void upload_take(struct upload *upload, const char *bytes, size_t len)
{
	bool may_answer = upload->lines && upload->request->http_1_1;
	while (len > 0 && upload->out_fd >= 0) {
		if (may_answer)
			send_text(upload);
		ssize_t put = write(upload->out_fd, bytes, len);
		if (put > 0) {
			bytes += put;
			len -= (size_t)put;
		} else if (put < 0 && errno == EAGAIN) {
			struct pollfd look = { .fd = upload->out_fd, .events = POLLOUT };
			poll(&look, 1, LOOK_MS);
		} else if (put < 0 && errno != EINTR) {
			/* EPIPE: the engine has read all it wanted, or failed. The rest is dropped. */
			close(take_fd(upload->out_fd));
		}
	}
}

/* ---- the end ---- */

static void failure_line(struct upload *upload)
{
	AUTO_JSON json_t *named = answer_message(upload->error.message);
	json_t *text = json_incref(json_object_get(named, "message"));
	AUTO_JSON json_t *line = json_pack("{s:O, s:o}", "errorDetail", named, "error", text);
	AUTO_FREE char *dumped = json_dumps(line, JSON_COMPACT);
	gt_buf_str(&upload->text, dumped);
	gt_buf_str(&upload->text, "\r\n");
	upload->failed = 0;
}

/* Waits for text or the worker's end. True: there is text in hand, or all is done. Caller holds lock. */
static bool wait_locked(struct upload *upload, int timeout_ms)
{
	struct timespec until = soon(timeout_ms);
	while (upload->text.len == 0 && !upload->done) {
		if (pthread_cond_timedwait(&upload->changed, &upload->lock, &until) == ETIMEDOUT)
			break;
	}
	return upload->text.len > 0 || upload->done;
}

static ssize_t take_text(struct upload *upload, void *bytes, size_t room, int timeout_ms)
{
	LOCKED(&upload->lock);
	if (!wait_locked(upload, timeout_ms))
		return GT_STREAM_IDLE;
	if (upload->done && upload->failed)
		failure_line(upload);
	if (upload->text.len == 0)
		return GT_STREAM_END;
	size_t part = upload->text.len < room ? upload->text.len : room;
	memcpy(bytes, upload->text.data, part);
	gt_buf_consume(&upload->text, part);
	pthread_cond_signal(&upload->changed); /* worker and reader never wait at the same time */
	return (ssize_t)part;
}

/* `text` as a stream, for the answer that MHD sends. MHD closes it after the request, and the upload with it, has ended. */
struct text_stream {
	struct gt_stream base;
	struct upload *upload;
};

static ssize_t text_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	(void)err;
	return take_text(((struct text_stream *)stream)->upload, bytes, room, timeout_ms);
}

static void text_close(struct gt_stream *stream)
{
	free(stream);
}

static struct gt_stream *text_stream(struct upload *upload)
{
	struct text_stream *stream = gt_xcalloc(1, sizeof *stream);
	*stream = (struct text_stream){ { text_read, text_close }, upload };
	return &stream->base;
}

/* The rest of an answer that has begun past MHD. */
static void end_direct(struct upload *upload)
{
	char bytes[16 << 10];
	ssize_t got;
	while ((got = take_text(upload, bytes, sizeof bytes, LOOK_MS)) != GT_STREAM_END) {
		if (got > 0)
			add_chunk(upload, bytes, (size_t)got);
		send_direct(upload, upload->unsent.len > TEXT_SOFT ? LOOK_MS : 0);
		if (got == GT_STREAM_IDLE && (upload->deaf || atomic_load(&upload->request->api->stopping)))
			return;
	}
	gt_buf_str(&upload->unsent, "0\r\n\r\n");
	while (upload->unsent.len > 0 && !upload->deaf && !atomic_load(&upload->request->api->stopping))
		send_direct(upload, LOOK_MS);
}

int upload_end(struct upload *upload, struct gt_error *err)
{
	struct request *request = upload->request;
	if (upload->out_fd >= 0)
		close(take_fd(upload->out_fd));
	pthread_mutex_lock(&upload->lock);
	upload->whole = true;
	pthread_mutex_unlock(&upload->lock);
	if (upload->direct) {
		end_direct(upload);
		request->taken = true;
		request->status = 200;
		return 0;
	}
	pthread_mutex_lock(&upload->lock);
	/* Without lines the answer is the result; with lines a failure before the first of them is. */
	while (!upload->done && !(upload->lines && upload->text.len > 0)) {
		if (!wait_locked(upload, LOOK_MS) && req_client_gone(request))
			atomic_store(&upload->cancelled, true);
	}
	bool refused = upload->done && upload->failed && upload->text.len == 0;
	if (refused)
		*err = upload->error;
	pthread_mutex_unlock(&upload->lock);
	if (refused)
		return -1;
	if (!upload->lines)
		return answer_empty(request, 200);
	return answer_stream(request, "application/json", text_stream(upload), err);
}
