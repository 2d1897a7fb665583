#include "base/stream.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"

ssize_t gt_stream_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	return stream->read(stream, bytes, room, timeout_ms, err);
}

void gt_stream_close(struct gt_stream *stream)
{
	if (stream)
		stream->close(stream);
}

/* ---- from a descriptor ---- */

struct fd_stream {
	struct gt_stream base;
	int fd;
};

static ssize_t fd_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	struct fd_stream *self = (struct fd_stream *)stream;
	struct pollfd waiting = { .fd = self->fd, .events = POLLIN };
	int ready = poll(&waiting, 1, timeout_ms);
	if (ready == 0 || (ready < 0 && errno == EINTR))
		return GT_STREAM_IDLE;
	ssize_t got = read(self->fd, bytes, room);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return GT_STREAM_IDLE;
	if (got < 0)
		return gt_fail_errno(err, errno, "read a stream");
	return got;
}

static void fd_close(struct gt_stream *stream)
{
	struct fd_stream *self = (struct fd_stream *)stream;
	close(self->fd);
	free(self);
}

struct gt_stream *gt_stream_from_fd(int fd)
{
	struct fd_stream *self = gt_xcalloc(1, sizeof *self);
	self->base = (struct gt_stream){ .read = fd_read, .close = fd_close };
	self->fd = fd;
	return &self->base;
}

/* ---- from a thread ---- */

#define QUEUE_ROOM (256u * 1024)

struct gt_queue {
	struct gt_stream base;          /* the consumer's side */
	pthread_mutex_t lock;           /* guards all below */
	pthread_cond_t changed;
	size_t begin, len;              /* a ring in bytes[] */
	bool consumer_gone, producer_done;
	bool cancelled;                 /* by the end of the group */
	int failed;
	struct gt_error error;
	int refs;                       /* the consumer's and the producer's */
	int (*produce)(void *arg, struct gt_queue *queue, struct gt_error *err);
	void (*free_arg)(void *arg);
	void *arg;
	struct gt_producers *group;
	struct gt_queue *next;          /* guarded by group->lock */
	char bytes[QUEUE_ROOM];
};

static void queue_unref(struct gt_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	bool last = --queue->refs == 0;
	pthread_mutex_unlock(&queue->lock);
	if (!last)
		return;
	pthread_cond_destroy(&queue->changed);
	pthread_mutex_destroy(&queue->lock);
	free(queue);
}

int gt_queue_write(struct gt_queue *queue, const void *bytes, size_t len, struct gt_error *err)
{
	const char *from = bytes;
	LOCKED(&queue->lock);
	while (len > 0) {
		while (queue->len == QUEUE_ROOM && !queue->consumer_gone && !queue->cancelled)
			pthread_cond_wait(&queue->changed, &queue->lock);
		if (queue->consumer_gone || queue->cancelled)
			return gt_fail(err, GT_CANCELLED, "the client went away");
		size_t end = (queue->begin + queue->len) % QUEUE_ROOM;
		size_t room = end >= queue->begin ? QUEUE_ROOM - end : queue->begin - end;
		size_t part = len < room ? len : room;
		memcpy(queue->bytes + end, from, part);
		queue->len += part;
		from += part;
		len -= part;
		pthread_cond_signal(&queue->changed);
	}
	return 0;
}

bool gt_queue_closed(struct gt_queue *queue)
{
	LOCKED(&queue->lock);
	return queue->consumer_gone || queue->cancelled;
}

static ssize_t queue_read_now(struct gt_queue *queue, void *bytes, size_t room)
{
	size_t part = queue->len < room ? queue->len : room;
	if (part > QUEUE_ROOM - queue->begin)
		part = QUEUE_ROOM - queue->begin;
	memcpy(bytes, queue->bytes + queue->begin, part);
	queue->begin = (queue->begin + part) % QUEUE_ROOM;
	queue->len -= part;
	pthread_cond_signal(&queue->changed);
	return (ssize_t)part;
}

static ssize_t queue_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	struct gt_queue *queue = (struct gt_queue *)stream;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	LOCKED(&queue->lock);
	while (queue->len == 0) {
		if (queue->producer_done && queue->failed) {
			queue->failed = 0;
			if (err)
				*err = queue->error;
			return -1;
		}
		if (queue->producer_done)
			return GT_STREAM_END;
		if (timeout_ms < 0)
			pthread_cond_wait(&queue->changed, &queue->lock);
		else if (pthread_cond_timedwait(&queue->changed, &queue->lock, &until) == ETIMEDOUT)
			return queue->len > 0 ? queue_read_now(queue, bytes, room) : GT_STREAM_IDLE;
	}
	return queue_read_now(queue, bytes, room);
}

static void queue_close(struct gt_stream *stream)
{
	struct gt_queue *queue = (struct gt_queue *)stream;
	pthread_mutex_lock(&queue->lock);
	queue->consumer_gone = true;
	pthread_cond_signal(&queue->changed);
	pthread_mutex_unlock(&queue->lock);
	queue_unref(queue);
}

void gt_producers_init(struct gt_producers *group)
{
	pthread_mutex_init(&group->lock, NULL);
	pthread_cond_init(&group->ended, NULL);
	group->first = NULL;
}

void gt_producers_end(struct gt_producers *group)
{
	pthread_mutex_lock(&group->lock);
	for (struct gt_queue *queue = group->first; queue; queue = queue->next) {
		LOCKED(&queue->lock);
		queue->cancelled = true;
		pthread_cond_broadcast(&queue->changed);
	}
	while (group->first)
		pthread_cond_wait(&group->ended, &group->lock);
	pthread_mutex_unlock(&group->lock);
	pthread_cond_destroy(&group->ended);
	pthread_mutex_destroy(&group->lock);
}

static void group_enter(struct gt_queue *queue)
{
	LOCKED(&queue->group->lock);
	queue->next = queue->group->first;
	queue->group->first = queue;
}

static void group_leave(struct gt_queue *queue)
{
	struct gt_producers *group = queue->group;
	LOCKED(&group->lock);
	struct gt_queue **slot = &group->first;
	while (*slot != queue)
		slot = &(*slot)->next;
	*slot = queue->next;
	pthread_cond_broadcast(&group->ended);
}

static void *queue_producer(void *slot)
{
	struct gt_queue *queue = slot;
	struct gt_error err = { 0 };
	int failed = queue->produce(queue->arg, queue, &err);
	if (queue->free_arg)
		queue->free_arg(queue->arg);
	group_leave(queue);
	pthread_mutex_lock(&queue->lock);
	queue->failed = failed;
	queue->error = err;
	queue->producer_done = true;
	pthread_cond_signal(&queue->changed);
	pthread_mutex_unlock(&queue->lock);
	queue_unref(queue);
	return NULL;
}

struct gt_stream *gt_stream_from_thread(struct gt_producers *group, int (*produce)(void *arg, struct gt_queue *queue, struct gt_error *err),
					void *arg, void (*free_arg)(void *arg), struct gt_error *err)
{
	struct gt_queue *queue = gt_xmalloc(sizeof *queue);
	memset(queue, 0, offsetof(struct gt_queue, bytes));
	queue->base = (struct gt_stream){ .read = queue_read, .close = queue_close };
	pthread_mutex_init(&queue->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&queue->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	queue->refs = 2;
	queue->group = group;
	queue->produce = produce;
	queue->free_arg = free_arg;
	queue->arg = arg;

	pthread_attr_t detached;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&detached, 256 * 1024);
	pthread_t thread;
	group_enter(queue);
	int rc = pthread_create(&thread, &detached, queue_producer, queue);
	pthread_attr_destroy(&detached);
	if (rc == 0)
		return &queue->base;
	group_leave(queue);
	if (free_arg)
		free_arg(arg);
	pthread_cond_destroy(&queue->changed);
	pthread_mutex_destroy(&queue->lock);
	free(queue);
	gt_fail_errno(err, rc, "start a stream's thread");
	return NULL;
}
