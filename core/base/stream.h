/*
 * stream.h - a stream of bytes that a consumer pulls: logs, events, archives, progress.
 *
 * The producer makes a struct gt_stream; the HTTP server (or any consumer) reads until the end and closes
 * it. Reads wait at most timeout_ms, so that a consumer can look in between whether its client is still
 * there. A stream belongs to one consumer thread at a time.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

#define GT_STREAM_END 0
#define GT_STREAM_IDLE (-2)     /* nothing came within timeout_ms; try again */

struct gt_stream {
	/* Returns bytes written to `bytes` (at most room), GT_STREAM_END, GT_STREAM_IDLE, or -1 with err. */
	ssize_t (*read)(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err);
	/* Ends production where it is still going on, frees the stream. */
	void (*close)(struct gt_stream *stream);
};

ssize_t gt_stream_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err);
void gt_stream_close(struct gt_stream *stream);         /* NULL is fine */

/* Reads from an fd (owned by the stream from now on). */
struct gt_stream *gt_stream_from_fd(int fd);

/* A bounded byte queue between a producer thread and a consumer. */
struct gt_queue;

/* Blocks while the queue is full. Returns -1 (GT_CANCELLED) once the consumer has closed its side. Thread safe. */
int gt_queue_write(struct gt_queue *queue, const void *bytes, size_t len, struct gt_error *err);
/* True once the consumer has gone: the producer should stop. */
bool gt_queue_closed(struct gt_queue *queue);

/* The producers that use one object: its owner ends them before it goes away. */
struct gt_producers {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	struct gt_queue *first;
};
void gt_producers_init(struct gt_producers *group);
/* Fails all writes with GT_CANCELLED, waits until every producer has returned and its argument is freed; then the group is gone. */
void gt_producers_end(struct gt_producers *group);

/* Runs produce(arg, queue, err) in a thread of its own; what it writes comes out of the stream. Where it
 * fails, the stream's last read fails with its error. free_arg(arg) (may be NULL) runs when produce has
 * returned. gt_stream_close() wakes the producer with GT_CANCELLED and does not wait for it: what produce and
 * free_arg use has to outlive them, which the group is for. */
struct gt_stream *gt_stream_from_thread(struct gt_producers *group, int (*produce)(void *arg, struct gt_queue *queue, struct gt_error *err),
					void *arg, void (*free_arg)(void *arg), struct gt_error *err);
