/*
 * attach.c - clients' sockets on their way to the shim.
 *
 * A running container's shim gets the socket at once. Before start it waits here, under the container's lock, and is handed over when the shim exists
 * and before the process runs, so that no byte is lost. Where the client also wants what is in the log, that is written first.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/internal.h"

#define MAX_WAITING 64
#define PATIENCE GT_SECOND

struct gt_waiting_attach {
	struct gt_waiting_attach *next;
	int fd;                         /* ours */
	bool stdin, stdout, stderr, mux;
	char *keys;                     /* NULL: the default ones */
};

/* ---- the first step ---- */

struct gt_attach {
	struct gt_container *ctr;
	struct gt_attach_query query;   /* without detach_keys */
	char *keys;                     /* NULL: the default ones */
	bool announced;                 /* counted in ctr->attaching */
};

/* With the lock held. */
static int check_attachable(const struct gt_container *ctr, struct gt_error *err)
{
	switch (ctr->status) {
	case GT_PAUSED:
		return gt_fail(err, GT_CONFLICT, "container %s is paused, unpause the container before attach", ctr->id);
	case GT_RESTARTING:
		return gt_fail(err, GT_CONFLICT, "container %s is restarting, wait until the container is running", ctr->id);
	case GT_REMOVING:
	case GT_DEAD:
		return gt_fail(err, GT_CONFLICT, "container %s is being removed", ctr->id);
	default:
		return 0;
	}
}

struct gt_attach *gt_attach_begin(struct gt_engine *engine, const char *ref, const struct gt_attach_query *query, bool *tty, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	AUTO_BUF struct gt_buf keys = { 0 };
	if (!ctr || (query->detach_keys && gt_detach_keys_parse(query->detach_keys, &keys, err) < 0))
		return NULL;
	LOCKED(&ctr->lock);
	if (check_attachable(ctr, err) < 0)
		return NULL;
	*tty = ctr->config.tty;
	struct gt_attach *attach = gt_xcalloc(1, sizeof *attach);
	*attach = (struct gt_attach){ .ctr = gt_container_ref(ctr), .query = *query, .keys = keys.len ? gt_buf_take(&keys) : NULL,
				      .announced = query->stream };
	attach->query.detach_keys = NULL;
	if (attach->announced)
		ctr->attaching++;
	return attach;
}

static void arrived(struct gt_attach *attach)
{
	struct gt_container *ctr = attach->ctr;
	LOCKED(&ctr->lock);
	if (attach->announced && --ctr->attaching == 0)
		pthread_cond_broadcast(&ctr->changed);
	attach->announced = false;
}

void gt_attach_end(struct gt_attach *attach)
{
	if (!attach)
		return;
	arrived(attach);
	gt_container_put(attach->ctr);
	free(attach->keys);
	free(attach);
}

/* ---- the second ---- */

/* Writes the log so far, framed as the client expects it. */
static int replay(struct gt_container *ctr, const struct gt_attach_query *query, int fd, struct gt_error *err)
{
	struct gt_logs_query logs = { .stdout = query->stdout, .stderr = query->stderr, .raw = query->raw, .tail = -1 };
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

static void free_one(struct gt_waiting_attach *waiting)
{
	if (waiting->fd >= 0)
		close(waiting->fd);
	free(waiting->keys);
	free(waiting);
}

static void drop_one(struct gt_waiting_attach *waiting)
{
	shutdown(waiting->fd, SHUT_RDWR);
	free_one(waiting);
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

static int hand_over(struct gt_shim *shim, const struct gt_waiting_attach *waiting, struct gt_error *err)
{
	struct gt_shim_attach how = { .stdin = waiting->stdin, .stdout = waiting->stdout, .stderr = waiting->stderr, .mux = waiting->mux,
				      .detach_keys = waiting->keys };
	return gt_shim_attach(shim, &how, waiting->fd, err);
}

static int attach_live(struct gt_attach *attach, int fd, struct gt_error *err)
{
	struct gt_container *ctr = attach->ctr;
	const struct gt_attach_query *query = &attach->query;
	struct gt_waiting_attach *waiting = gt_xcalloc(1, sizeof *waiting);
	*waiting = (struct gt_waiting_attach){ .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .stdin = query->stdin && ctr->config.open_stdin,
					       .stdout = query->stdout, .stderr = query->stderr, .mux = !ctr->config.tty && !query->raw };
	waiting->keys = take(attach->keys);
	int rc = waiting->fd < 0 ? gt_fail_errno(err, errno, "keep a client's socket") : 0;
	pthread_mutex_lock(&ctr->lock);
	struct gt_shim *shim = ctr->status == GT_RUNNING || ctr->status == GT_PAUSED ? ctr->shim : NULL;
	if (rc == 0 && shim)
		ctr->shim_users++;
	else if (rc == 0 && ctr->removed)
		rc = gt_fail(err, GT_NOT_FOUND, "No such container: %s", ctr->id);
	else if (rc == 0 && (rc = enqueue(ctr, waiting, err)) == 0)
		waiting = NULL;
	pthread_mutex_unlock(&ctr->lock);
	if (rc == 0 && waiting) {
		rc = hand_over(shim, waiting, err);
		gt_container_shim_put(ctr);
	}
	if (waiting)
		free_one(waiting);
	return rc;
}

int gt_attach_connect(struct gt_attach *attach, int fd, struct gt_error *err)
{
	const struct gt_attach_query *query = &attach->query;
	int rc = query->logs ? replay(attach->ctr, query, fd, err) : 0;
	if (rc == 0) {
		gt_container_event(attach->ctr, "attach", NULL);
		rc = query->stream ? attach_live(attach, fd, err) : 0;
	}
	arrived(attach);
	if (rc < 0 || !query->stream)
		shutdown(fd, SHUT_RDWR); /* nothing more will come */
	return rc;
}

/* ---- the start ---- */

void gt_attach_await(struct gt_container *ctr)
{
	struct timespec until = gt_deadline(PATIENCE);
	LOCKED(&ctr->lock);
	while (ctr->attaching > 0 && pthread_cond_timedwait(&ctr->changed, &ctr->lock, &until) == 0)
		;
}

void gt_attach_waiting_start(struct gt_container *ctr, struct gt_shim *shim)
{
	struct gt_error err = { 0 };
	pthread_mutex_lock(&ctr->lock);
	struct gt_waiting_attach *list = take(ctr->waiting_attach);
	pthread_mutex_unlock(&ctr->lock);
	while (list) {
		struct gt_waiting_attach *next = list->next;
		if (hand_over(shim, list, &err) < 0) {
			gt_warn("a client could not be attached", "id", ctr->id, "error", err.message);
			drop_one(list);
		} else {
			free_one(list);
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
