/*
 * attach.c - clients' sockets on their way to the shim.
 *
 * A running container's shim gets the socket at once. Before start it waits here, under the container's lock, and is handed over when the shim exists
 * and before the process runs, so that no byte is lost. Where the client also wants what is in the log, that is written first.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/internal.h"

#define MAX_WAITING 64

struct gt_waiting_attach {
	struct gt_waiting_attach *next;
	int fd;                         /* ours */
	bool stdin, stdout, stderr;
	struct gt_buf keys;
	bool keys_given;
};

/* One key of "ctrl-p" or "x"; -1 where it is neither. */
static int parse_key(const char *text, size_t len)
{
	if (len == 1)
		return (unsigned char)text[0];
	if (len != 6 || strncmp(text, "ctrl-", 5))
		return -1;
	char c = (char)tolower((unsigned char)text[5]);
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 1;
	static const char OTHERS[] = "@[\\]^_";
	static const char CODES[] = { 0, 27, 28, 29, 30, 31 };
	const char *found = c ? strchr(OTHERS, c) : NULL;
	return found ? CODES[found - OTHERS] : -1;
}

int gt_detach_keys_parse(const char *text, struct gt_buf *keys, struct gt_error *err)
{
	if (!*text)
		return 0;
	for (const char *at = text;; at++) {
		size_t len = strcspn(at, ",");
		int key = parse_key(at, len);
		if (key <= 0 || keys->len >= 32)
			return gt_fail(err, GT_INVALID,
				       "Invalid detach keys (%.64s) provided: write one character or ctrl-<a-z, [, \\, ], ^ or _>, comma separated", text);
		gt_buf_char(keys, (char)key);
		at += len;
		if (!*at)
			return 0;
	}
}

int gt_container_attach_check(struct gt_engine *engine, const char *ref, const struct gt_attach_query *query, bool *tty,
			      struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	AUTO_BUF struct gt_buf keys = { 0 };
	if (!ctr || (query->detach_keys && gt_detach_keys_parse(query->detach_keys, &keys, err) < 0))
		return -1;
	*tty = ctr->config.tty;
	LOCKED(&ctr->lock);
	if (ctr->status == GT_PAUSED)
		return gt_fail(err, GT_CONFLICT, "container %s is paused, unpause the container before attach", ctr->id);
	if (ctr->status == GT_RESTARTING)
		return gt_fail(err, GT_CONFLICT, "container %s is restarting, wait until the container is running", ctr->id);
	if (ctr->status == GT_REMOVING || ctr->status == GT_DEAD)
		return gt_fail(err, GT_CONFLICT, "container %s is being removed", ctr->id);
	return 0;
}

/* Writes the log so far, framed as the client expects it. */
static int replay(struct gt_container *ctr, const struct gt_attach_query *query, int fd, struct gt_error *err)
{
	struct gt_logs_query logs = { .stdout = query->stdout, .stderr = query->stderr, .tail = -1 };
	bool tty;
	char bytes[16384];
	struct gt_stream *stream = gt_container_logs(ctr->engine, ctr->id, &logs, &tty, err);
	if (!stream)
		return -1;
	ssize_t n;
	while ((n = gt_stream_read(stream, bytes, sizeof bytes, 1000, err)) > 0 || n == GT_STREAM_IDLE) {
		if (n > 0 && gt_write_full(fd, bytes, (size_t)n) < 0) {
			n = gt_fail_errno(err, errno, "send the log of container %s", ctr->id);
			break;
		}
	}
	gt_stream_close(stream);
	return n < 0 ? -1 : 0;
}

static void drop_one(struct gt_waiting_attach *waiting)
{
	shutdown(waiting->fd, SHUT_RDWR);
	close(waiting->fd);
	gt_buf_free(&waiting->keys);
	free(waiting);
}

static bool hung_up(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = 0 };
	return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLERR | POLLNVAL));
}

/* With the container's lock held. Forgets those whose clients have gone. */
static int enqueue(struct gt_container *ctr, struct gt_waiting_attach *waiting, struct gt_error *err)
{
	size_t count = 0;
	struct gt_waiting_attach **slot = &ctr->waiting_attach;
	while (*slot) {
		if (hung_up((*slot)->fd)) {
			struct gt_waiting_attach *gone = *slot;
			*slot = gone->next;
			drop_one(gone);
			continue;
		}
		count++;
		slot = &(*slot)->next;
	}
	if (count >= MAX_WAITING)
		return gt_fail(err, GT_TOO_LARGE, "%d clients wait for container %s to start already", MAX_WAITING, ctr->id);
	*slot = waiting;
	return 0;
}

static int hand_over(struct gt_shim *shim, const struct gt_waiting_attach *waiting, bool mux, struct gt_error *err)
{
	struct gt_shim_attach how = { .stdin = waiting->stdin, .stdout = waiting->stdout, .stderr = waiting->stderr, .mux = mux,
				      .detach_keys = waiting->keys_given ? (waiting->keys.data ? waiting->keys.data : "") : NULL };
	return gt_shim_attach(shim, &how, waiting->fd, err);
}

static int attach_live(struct gt_container *ctr, const struct gt_attach_query *query, int fd, struct gt_error *err)
{
	struct gt_waiting_attach *waiting = gt_xcalloc(1, sizeof *waiting);
	*waiting = (struct gt_waiting_attach){ .fd = -1, .stdin = query->stdin && ctr->config.open_stdin, .stdout = query->stdout,
					       .stderr = query->stderr, .keys_given = query->detach_keys && query->detach_keys[0] };
	int rc = -1;
	if (waiting->keys_given && gt_detach_keys_parse(query->detach_keys, &waiting->keys, err) < 0)
		goto out;
	waiting->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (waiting->fd < 0) {
		gt_fail_errno(err, errno, "keep a client's socket");
		goto out;
	}
	pthread_mutex_lock(&ctr->lock);
	bool live = ctr->shim && (ctr->status == GT_RUNNING || ctr->status == GT_PAUSED);
	if (live)
		ctr->shim_users++;
	else if (ctr->removed)
		gt_fail(err, GT_NOT_FOUND, "No such container: %s", ctr->id);
	else if ((rc = enqueue(ctr, waiting, err)) == 0)
		waiting = NULL;
	struct gt_shim *shim = ctr->shim;
	pthread_mutex_unlock(&ctr->lock);
	if (live) {
		rc = hand_over(shim, waiting, !ctr->config.tty, err);
		gt_container_shim_put(ctr);
	}
out:
	if (waiting) {
		if (waiting->fd >= 0)
			close(waiting->fd);
		gt_buf_free(&waiting->keys);
		free(waiting);
	}
	return rc;
}

int gt_container_attach(struct gt_engine *engine, const char *ref, const struct gt_attach_query *query, int fd, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	int rc = ctr ? 0 : -1;
	if (rc == 0 && query->logs)
		rc = replay(ctr, query, fd, err);
	if (rc == 0 && query->stream)
		rc = attach_live(ctr, query, fd, err);
	if (rc < 0 || !query->stream)
		shutdown(fd, SHUT_RDWR); /* nothing more will come */
	return rc;
}

void gt_attach_waiting_start(struct gt_container *ctr, struct gt_shim *shim)
{
	struct gt_error err = { 0 };
	pthread_mutex_lock(&ctr->lock);
	struct gt_waiting_attach *list = take(ctr->waiting_attach);
	pthread_mutex_unlock(&ctr->lock);
	while (list) {
		struct gt_waiting_attach *next = list->next;
		if (hand_over(shim, list, !ctr->config.tty, &err) < 0) {
			gt_warn("a client could not be attached", "id", ctr->id, "error", err.message);
			drop_one(list);
		} else {
			close(list->fd);
			gt_buf_free(&list->keys);
			free(list);
		}
		list = next;
	}
}

void gt_attach_waiting_drop(struct gt_container *ctr)
{
	pthread_mutex_lock(&ctr->lock);
	struct gt_waiting_attach *list = take(ctr->waiting_attach);
	pthread_mutex_unlock(&ctr->lock);
	while (list) {
		struct gt_waiting_attach *next = list->next;
		drop_one(list);
		list = next;
	}
}
