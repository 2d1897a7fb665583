/*
 * websocket.c - attach through a websocket (RFC 6455), for browsers, which have no other way to a stream in both directions.
 *
 * wslay does the framing; here are the handshake and a thread for each session that carries bytes between the client's messages and a socket of our own,
 * whose other end the engine takes like any client's. Messages have no meaning of their own: their bytes are a stream, as with Docker. A session ends
 * with this process, unlike a hijacked one, as somebody has to do the framing.
 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

#include "api/internal.h"
#include "base/fd.h"

enum {
	STACK = 256 << 10,
	ROOM = 16 << 10,
	BINARY_SINCE = 28,
	MAX_FRAME = 1 << 24,
	MAX_REASON = 120,       /* of a close frame: 125 with the code */
	CLOSE_PATIENCE = 2000,  /* ms for the client to answer our close frame */
};

struct session {
	wslay_event_context_ptr events;
	int client, inner;              /* inner: our end of the pair that the engine has the other end of; -1: said all */
	uint8_t opcode;                 /* of messages to the client */
	bool may_read;                  /* one recv() for each look, so that no client keeps us from the other direction */
	bool data_frame;                /* the frame that is coming in is no control frame */
	struct gt_buf input;            /* from the client, not taken by the container yet; at most what one look brings */
};

/* ---- wslay's callbacks ---- */

static ssize_t on_recv(wslay_event_context_ptr events, uint8_t *bytes, size_t room, int flags, void *arg)
{
	struct session *session = arg;
	(void)flags;
	ssize_t got = -1;
	if (session->may_read)
		got = recv(session->client, bytes, room, MSG_DONTWAIT);
	else
		errno = EAGAIN;
	session->may_read = false;
	if (got > 0)
		return got;
	wslay_event_set_error(events, got < 0 && (errno == EAGAIN || errno == EINTR) ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t on_send(wslay_event_context_ptr events, const uint8_t *bytes, size_t len, int flags, void *arg)
{
	struct session *session = arg;
	(void)flags;
	ssize_t put = send(session->client, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (put >= 0)
		return put;
	wslay_event_set_error(events, errno == EAGAIN || errno == EINTR ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static void on_frame(wslay_event_context_ptr events, const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
	struct session *session = arg;
	(void)events;
	session->data_frame = !wslay_is_ctrl_frame(frame->opcode);
}

static void on_chunk(wslay_event_context_ptr events, const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
	struct session *session = arg;
	(void)events;
	if (session->data_frame)
		gt_buf_add(&session->input, chunk->data, chunk->data_length);
}

/* ---- the session ---- */

static void say_close(struct session *session, uint16_t code, const char *reason)
{
	size_t len = strlen(reason);
	wslay_event_queue_close(session->events, code, (const uint8_t *)reason, len < MAX_REASON ? len : MAX_REASON);
}

/* The container, or who speaks for it, has said all. */
static void inner_ended(struct session *session)
{
	close(take_fd(session->inner));
	say_close(session, WSLAY_CODE_NORMAL_CLOSURE, "");
}

static void from_container(struct session *session)
{
	char bytes[ROOM];
	ssize_t got = recv(session->inner, bytes, sizeof bytes, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		inner_ended(session);
		return;
	}
	struct wslay_event_msg message = { .opcode = session->opcode, .msg = (const uint8_t *)bytes, .msg_length = (size_t)got };
	wslay_event_queue_msg(session->events, &message);
}

static void to_container(struct session *session)
{
	ssize_t put = session->inner < 0 ? (ssize_t)session->input.len :
					   send(session->inner, session->input.data, session->input.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (put > 0)
		gt_buf_consume(&session->input, (size_t)put);
	else if (errno != EAGAIN && errno != EINTR)
		gt_buf_reset(&session->input); /* nobody reads it: output may still come */
}

/* One look at both sockets. False: the session is over. */
static bool step(struct session *session)
{
	bool sending = wslay_event_want_write(session->events), reading = wslay_event_want_read(session->events);
	bool input = session->input.len > 0;
	struct pollfd look[2] = {
		{ .fd = session->client, .events = (short)((sending ? POLLOUT : 0) | (reading && !input ? POLLIN : 0)) },
		{ .fd = session->inner, .events = (short)((input ? POLLOUT : 0) | (sending || !reading ? 0 : POLLIN)) },
	};
	if (look[1].events == 0)
		look[1].fd = -1;
	if (!sending && !reading)
		return false;
	/* After our close frame the client has some time to send its own. */
	int ready = poll(look, 2, session->inner < 0 ? CLOSE_PATIENCE : -1);
	if (ready < 0 && errno != EINTR)
		return false;
	if (ready == 0)
		return false;
	if (look[1].revents & POLLOUT)
		to_container(session);
	if (look[1].revents & (POLLIN | POLLHUP | POLLERR) && !sending)
		from_container(session);
	session->may_read = true;
	if (look[0].revents & (POLLIN | POLLHUP | POLLERR) && reading && !input && wslay_event_recv(session->events) != 0)
		return false;
	return wslay_event_send(session->events) == 0 && !(look[0].revents & POLLERR);
}

static void *session_thread(void *arg)
{
	struct session *session = arg;
	while (step(session))
		;
	while (session->inner >= 0 && session->input.len > 0) { /* said before the close */
		struct pollfd look = { .fd = session->inner, .events = POLLOUT };
		if (poll(&look, 1, CLOSE_PATIENCE) <= 0)
			break;
		to_container(session);
	}
	wslay_event_context_free(session->events);
	gt_buf_free(&session->input);
	if (session->inner >= 0)
		close(session->inner);
	close(session->client);
	free(session);
	return NULL;
}

/* A session that speaks with the client on client_fd (duplicated). Returns the engine's end; -1 with err. */
static int session_start(struct request *request, int client_fd, struct gt_error *err)
{
	static const struct wslay_event_callbacks CALLBACKS = { .recv_callback = on_recv, .send_callback = on_send,
								 .on_frame_recv_start_callback = on_frame, .on_frame_recv_chunk_callback = on_chunk };
	int pair[2];
	AUTO_CLOSE int client = fcntl(client_fd, F_DUPFD_CLOEXEC, 0);
	if (client < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_errno(err, errno, "make the sockets of a websocket session");
	struct session *session = gt_xcalloc(1, sizeof *session);
	*session = (struct session){ .client = take_fd(client), .inner = pair[0],
				     .opcode = request->match.version >= BINARY_SINCE ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME };
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_t thread;
	int rc = wslay_event_context_server_init(&session->events, &CALLBACKS, session);
	if (rc == 0) {
		wslay_event_config_set_no_buffering(session->events, 1);
		wslay_event_config_set_max_recv_msg_length(session->events, MAX_FRAME);
		rc = pthread_create(&thread, &attr, session_thread, session);
		if (rc)
			wslay_event_context_free(session->events);
	}
	pthread_attr_destroy(&attr);
	if (rc == 0)
		return pair[1];
	close(session->client);
	close(pair[0]);
	close(pair[1]);
	free(session);
	return gt_fail(err, GT_INTERNAL, "a websocket session cannot be started: no memory or no thread");
}

static int connected(struct request *request, int fd, struct gt_error *err)
{
	struct gt_error why = { 0 };
	AUTO_CLOSE int inner = session_start(request, fd, err);
	if (inner < 0)
		return -1;
	if (gt_attach_connect(request->attach, inner, &why) < 0) { /* told where output is awaited */
		AUTO_FREE char *line = gt_xasprintf("%s\r\n", why.message);
		send(inner, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
		shutdown(inner, SHUT_RDWR);
	}
	return 0;
}

/* ---- the handshake ---- */

/* Whether a word is among those of a header like "keep-alive, Upgrade". */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	while (list && *list) {
		list += strspn(list, ", \t");
		size_t n = strcspn(list, ", \t");
		if (n == len && strncasecmp(list, word, n) == 0)
			return true;
		list += n;
	}
	return false;
}

static void accept_key(const char *key, char accept[BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE) + 1])
{
	static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	struct sha1_ctx hash;
	uint8_t digest[SHA1_DIGEST_SIZE];
	sha1_init(&hash);
	sha1_update(&hash, strlen(key), (const uint8_t *)key);
	sha1_update(&hash, sizeof GUID - 1, (const uint8_t *)GUID);
	sha1_digest(&hash, sizeof digest, digest);
	base64_encode_raw(accept, sizeof digest, digest);
	accept[BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE)] = '\0';
}

int websocket_check(const struct request *request, struct gt_error *err)
{
	const char *version = req_header(request, "Sec-WebSocket-Version"), *key = req_header(request, "Sec-WebSocket-Key");
	if (!request->http_1_1 || !has_word(req_header(request, "Upgrade"), "websocket") || !has_word(req_header(request, "Connection"), "upgrade"))
		return gt_fail(err, GT_INVALID, "not a websocket handshake: it needs the headers Upgrade: websocket and Connection: Upgrade");
	if (!version || strcmp(version, "13"))
		return gt_fail(err, GT_INVALID, "the websocket protocol's version is 13, not %.16s", version ? version : "missing");
	if (!key || strlen(key) != 24)
		return gt_fail(err, GT_INVALID, "the websocket handshake's Sec-WebSocket-Key is not 16 bytes in base64");
	return 0;
}

int answer_websocket(struct request *request, struct gt_error *err)
{
	char accept[BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE) + 1];
	accept_key(req_header(request, "Sec-WebSocket-Key"), accept);
	struct MHD_Response *response = MHD_create_response_for_upgrade(hijack_upgraded, NULL);
	if (!response)
		return gt_fail(err, GT_INTERNAL, "no memory for an answer");
	request->tty = true; /* no frames of Docker's within those of the websocket */
	request->serve = connected;
	answer_with(request, MHD_HTTP_SWITCHING_PROTOCOLS, response);
	answer_header(request, "Upgrade", "websocket");
	return answer_header(request, "Sec-WebSocket-Accept", accept);
}
