#include "engine/build_session.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_OPEN 64
#define PATIENCE (5 * GT_SECOND)        /* a client may know of the stream's beginning before we do */
#define UNUSED_FOR (60 * GT_SECOND)
#define LOOK_MS 200
#define MAX_NAME 256
#define MAX_SENTENCE 512

struct build_session {
	int fd;
	int64_t since;                  /* monotonic ns */
	pthread_mutex_t lock;           /* one question at a time */
	bool broken;                    /* an answer was cut short; under lock */
};

/* ---- those that wait for their build ---- */

void sessions_init(struct build_sessions *sessions)
{
	pthread_mutex_init(&sessions->lock, NULL);
}

void session_close(struct build_session *session)
{
	if (!session)
		return;
	shutdown(session->fd, SHUT_RDWR);
	close(session->fd);
	pthread_mutex_destroy(&session->lock);
	free(session);
}

void sessions_free(struct build_sessions *sessions)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&sessions->open, &i)) != NULL;)
		session_close(slot->value);
	gt_map_free(&sessions->open);
	pthread_mutex_destroy(&sessions->lock);
}

/* Those whose client went away, or asked for no build in time. With the lock held. */
static void sweep(struct build_sessions *sessions)
{
	struct gt_strings gone = { 0 };
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&sessions->open, &i)) != NULL;) {
		const struct build_session *session = slot->value;
		struct pollfd look = { .fd = session->fd, .events = POLLRDHUP };
		if (gt_monotonic() - session->since > UNUSED_FOR || (poll(&look, 1, 0) > 0 && look.revents))
			gt_strings_add(&gone, slot->key);
	}
	for (size_t i = 0; i < gone.count; i++)
		session_close(gt_map_remove(&sessions->open, gone.items[i]));
	gt_strings_free(&gone);
}

int session_put(struct build_sessions *sessions, const char *id, int fd, struct gt_error *err)
{
	if (strlen(id) != GT_ID_LEN || !gt_is_hex(id, GT_ID_LEN))
		return gt_fail(err, GT_INVALID, "the id of a build's session is %d hex digits", GT_ID_LEN);
	AUTO_CLOSE int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return gt_fail_errno(err, errno, "keep the session of a build");
	LOCKED(&sessions->lock);
	sweep(sessions);
	if (sessions->open.count >= MAX_OPEN)
		return gt_fail(err, GT_UNAVAILABLE, "%d sessions wait for their builds already", MAX_OPEN);
	if (gt_map_get(&sessions->open, id))
		return gt_fail(err, GT_CONFLICT, "there is a session of this id");
	struct build_session *session = gt_xcalloc(1, sizeof *session);
	*session = (struct build_session){ .fd = take_fd(own), .since = gt_monotonic() };
	pthread_mutex_init(&session->lock, NULL);
	gt_map_set(&sessions->open, id, session);
	return 0;
}

struct build_session *session_take(struct build_sessions *sessions, const char *id, struct gt_error *err)
{
	struct build_session *session = NULL;
	for (int64_t until = gt_monotonic() + PATIENCE; !session && gt_monotonic() < until;) {
		pthread_mutex_lock(&sessions->lock);
		session = gt_map_remove(&sessions->open, id);
		pthread_mutex_unlock(&sessions->lock);
		if (!session)
			usleep(5000);
	}
	return session ? session : gt_fail_null(err, GT_NOT_FOUND, "no session of a build has this id: POST /build/session opens one");
}

/* ---- questions ---- */

static int await(struct build_session *session, short events, bool (*stop)(void *arg), void *arg, struct gt_error *err)
{
	struct pollfd look = { .fd = session->fd, .events = events };
	while (poll(&look, 1, LOOK_MS) <= 0) {
		if (stop(arg))
			return gt_fail(err, GT_CANCELLED, "the build was stopped");
	}
	return 0;
}

static int put(struct build_session *session, const struct gt_buf *question, bool (*stop)(void *arg), void *arg, struct gt_error *err)
{
	for (size_t done = 0; done < question->len;) {
		if (await(session, POLLOUT, stop, arg, err) < 0)
			return -1;
		ssize_t n = send(session->fd, question->data + done, question->len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return gt_fail(err, GT_CANCELLED, "the client has closed the session of the build");
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int get(struct build_session *session, void *bytes, size_t len, bool (*stop)(void *arg), void *arg, struct gt_error *err)
{
	for (size_t done = 0; done < len;) {
		if (await(session, POLLIN, stop, arg, err) < 0)
			return -1;
		ssize_t n = recv(session->fd, (char *)bytes + done, len - done, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return gt_fail(err, GT_CANCELLED, "the client has closed the session of the build");
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int take_answer(struct build_session *session, size_t max, bool (*stop)(void *arg), void *arg, struct gt_buf *answer, struct gt_error *err)
{
	uint8_t head[5];
	uint32_t len;
	if (get(session, head, sizeof head, stop, arg, err) < 0)
		return -1;
	memcpy(&len, head + 1, sizeof len);
	len = be32toh(len);
	if (head[0] > 2 || len > (head[0] == 2 ? MAX_SENTENCE : max))
		return gt_fail(err, GT_TOO_LARGE, "the client's answer makes no sense, or is larger than %zu bytes", max);
	char *bytes = gt_buf_reserve(answer, len + 1);
	if (get(session, bytes, len, stop, arg, err) < 0)
		return -1;
	bytes[len] = '\0';
	answer->len += len;
	return head[0];
}

int session_ask(struct build_session *session, char kind, const char *name, const struct gt_buf *message, size_t max, bool (*stop)(void *arg),
		void *arg, struct gt_buf *answer, struct gt_error *err)
{
	AUTO_BUF struct gt_buf question = { 0 };
	size_t name_len = strlen(name), message_len = message ? message->len : 0;
	if (name_len > MAX_NAME)
		return gt_fail(err, GT_INVALID, "the id \"%.40s...\" is longer than %d bytes", name, MAX_NAME);
	uint16_t name_size = htobe16((uint16_t)name_len);
	uint32_t message_size = htobe32((uint32_t)message_len);
	gt_buf_char(&question, kind);
	gt_buf_add(&question, &name_size, sizeof name_size);
	gt_buf_add(&question, &message_size, sizeof message_size);
	gt_buf_add(&question, name, name_len);
	if (message_len)
		gt_buf_add(&question, message->data, message_len);
	LOCKED(&session->lock);
	if (session->broken)
		return gt_fail(err, GT_CANCELLED, "the session of the build was cut short");
	session->broken = true; /* until the answer is whole */
	if (put(session, &question, stop, arg, err) < 0)
		return -1;
	int status = take_answer(session, max, stop, arg, answer, err);
	session->broken = status < 0;
	return status == 2 ? gt_fail(err, GT_INVALID, "the client says: %.400s", answer->data) : status < 0 ? -1 : status == 0;
}

int session_secret(struct build_session *session, const char *name, bool (*stop)(void *arg), void *arg, struct gt_buf *value, struct gt_error *err)
{
	return session ? session_ask(session, 's', name, NULL, SESSION_SECRET_MAX, stop, arg, value, err) : 0;
}
