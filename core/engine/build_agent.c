/*
 * build_agent.c - RUN --mount=type=ssh: a socket for the command, behind which the client's SSH agent answers.
 *
 * The agent's protocol is one answer to one message, both with their length in front (draft-miller-ssh-agent). So whole messages are passed on as questions of the
 * session; nothing is understood of them. One thread for each mount, which ends with the command.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/build_session.h"

#define MAX_CLIENTS 16
#define PIECE 4096

struct agent {
	struct build_session *session;
	char *name;
	bool (*stop)(void *arg);
	void *arg;
	pthread_t thread;
	int listener, end;              /* end: an eventfd */
	int clients[MAX_CLIENTS];       /* the thread's; -1: free */
	struct gt_buf pending[MAX_CLIENTS];     /* of each, until a message is whole */
};

static bool ended(void *arg)
{
	struct agent *agent = arg;
	struct pollfd look = { .fd = agent->end, .events = POLLIN };
	return poll(&look, 1, 0) > 0 || agent->stop(agent->arg);
}

static void drop(struct agent *agent, size_t i)
{
	close(take_fd(agent->clients[i]));
	gt_buf_free(&agent->pending[i]);
}

static void accept_client(struct agent *agent)
{
	AUTO_CLOSE int fd = accept4(agent->listener, NULL, NULL, SOCK_CLOEXEC);
	for (size_t i = 0; fd >= 0 && i < MAX_CLIENTS; i++) {
		if (agent->clients[i] < 0) {
			agent->clients[i] = take_fd(fd);
			return;
		}
	}
}

/* Length of the first message in the buffer with its own four bytes; 0: not known yet. */
static size_t message_length(const struct gt_buf *pending)
{
	uint32_t len;
	if (pending->len < sizeof len)
		return 0;
	memcpy(&len, pending->data, sizeof len);
	return (size_t)be32toh(len) + sizeof len;
}

/* False: the client is to be dropped. */
static bool answer(struct agent *agent, size_t i, size_t len)
{
	AUTO_BUF struct gt_buf reply = { 0 };
	struct gt_buf message = { .data = agent->pending[i].data, .len = len };
	struct timeval patience = { .tv_sec = 5 };
	setsockopt(agent->clients[i], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (session_ask(agent->session, 'm', agent->name, &message, SESSION_AGENT_MAX + 4, ended, agent, &reply, NULL) <= 0)
		return false;
	gt_buf_consume(&agent->pending[i], len);
	for (size_t done = 0; done < reply.len;) {
		ssize_t n = send(agent->clients[i], reply.data + done, reply.len - done, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void serve(struct agent *agent, size_t i)
{
	struct gt_buf *pending = &agent->pending[i];
	char *room = gt_buf_reserve(pending, PIECE);
	ssize_t n = recv(agent->clients[i], room, PIECE, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	bool keep = n > 0;
	pending->len += keep ? (size_t)n : 0;
	for (size_t len; keep && (len = message_length(pending)) > 0;) {
		if (len > SESSION_AGENT_MAX + 4)
			keep = false;
		else if (pending->len < len)
			break;
		else
			keep = answer(agent, i, len);
	}
	if (!keep)
		drop(agent, i);
}

static void *agent_main(void *arg)
{
	struct agent *agent = arg;
	for (;;) {
		struct pollfd look[MAX_CLIENTS + 2] = { { .fd = agent->end, .events = POLLIN }, { .fd = agent->listener, .events = POLLIN } };
		for (size_t i = 0; i < MAX_CLIENTS; i++)
			look[i + 2] = (struct pollfd){ .fd = agent->clients[i], .events = POLLIN };
		if (poll(look, GT_COUNT(look), -1) < 0 && errno != EINTR)
			break;
		if (look[0].revents)
			break;
		if (look[1].revents)
			accept_client(agent);
		for (size_t i = 0; i < MAX_CLIENTS; i++) {
			if (look[i + 2].revents)
				serve(agent, i);
		}
	}
	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		if (agent->clients[i] >= 0)
			drop(agent, i);
	}
	return NULL;
}

static void agent_free(struct agent *agent)
{
	if (agent->listener >= 0)
		close(agent->listener);
	if (agent->end >= 0)
		close(agent->end);
	free(agent->name);
	free(agent);
}

int agent_open(struct build_session *session, const char *name, const char *path, bool (*stop)(void *arg), void *arg, void **out,
	       struct gt_error *err)
{
	AUTO_BUF struct gt_buf nothing = { 0 };
	int there = session ? session_ask(session, 'a', name, NULL, 0, stop, arg, &nothing, err) : 0;
	if (there <= 0)
		return there;
	struct agent *agent = gt_xcalloc(1, sizeof *agent);
	*agent = (struct agent){ .session = session, .name = gt_xstrdup(name), .stop = stop, .arg = arg, .listener = -1 };
	for (size_t i = 0; i < MAX_CLIENTS; i++)
		agent->clients[i] = -1;
	agent->end = eventfd(0, EFD_CLOEXEC);
	agent->listener = agent->end < 0 ? -1 : gt_unix_listen(path, SOCK_STREAM, 0600, err);
	int rc = agent->end < 0 ? gt_fail_errno(err, errno, "make an event for an agent") : agent->listener < 0 ? -1 : 0;
	int failed = rc < 0 ? 0 : pthread_create(&agent->thread, NULL, agent_main, agent);
	if (failed)
		rc = gt_fail_errno(err, failed, "start a thread for an agent");
	if (rc < 0) {
		agent_free(agent);
		return -1;
	}
	*out = agent;
	return 1;
}

void agent_close(void *arg)
{
	struct agent *agent = arg;
	if (eventfd_write(agent->end, 1) < 0)
		gt_warn("the thread of an agent could not be told to end", "error", strerror(errno));
	pthread_join(agent->thread, NULL);
	agent_free(agent);
}
