/*
 * wait.c - POST /containers/{id}/wait as a stream: armed when it is opened, one JSON document when the condition holds.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

enum condition { NOT_RUNNING, NEXT_EXIT, REMOVED };

struct wait {
	struct gt_stream stream;        /* first */
	struct gt_container *ctr;
	enum condition condition;
	uint64_t exits;                 /* when it was opened */
	bool met, running_then;
	struct gt_buf answer;
	size_t sent;
};

/* With the container's lock held. A start that failed ends a wait as well: there will be no exit. */
static bool holds(const struct wait *wait)
{
	const struct gt_container *ctr = wait->ctr;
	if (ctr->removed || ctr->engine->closing)
		return true;
	if (wait->condition == REMOVED)
		return ctr->status == GT_DEAD; /* it should have been, and could not */
	if (ctr->exits != wait->exits)
		return true;
	bool running = ctr->status == GT_RUNNING || ctr->status == GT_PAUSED || ctr->status == GT_RESTARTING;
	return wait->condition == NOT_RUNNING && !running;
}

static void answer(struct wait *wait)
{
	const struct gt_container *ctr = wait->ctr;
	json_t *document = json_pack("{s:i}", "StatusCode", ctr->exit_code);
	if (wait->condition == REMOVED && ctr->status == GT_DEAD)
		json_object_set_new(document, "Error", json_pack("{s:s}", "Message", ctr->error ? ctr->error : "the container could not be removed"));
	AUTO_FREE char *text = json_dumps(document, JSON_COMPACT);
	json_decref(document);
	gt_buf_printf(&wait->answer, "%s\n", text);
	wait->met = true;
}

static ssize_t wait_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	(void)err;
	struct wait *wait = (struct wait *)stream;
	if (!wait->met) {
		struct timespec until = gt_deadline(timeout_ms * GT_MILLISECOND);
		LOCKED(&wait->ctr->lock);
		while (!holds(wait)) {
			if (pthread_cond_timedwait(&wait->ctr->changed, &wait->ctr->lock, &until) != 0 && !holds(wait))
				return GT_STREAM_IDLE;
		}
		answer(wait);
	}
	size_t left = wait->answer.len - wait->sent;
	if (left > room)
		left = room;
	memcpy(bytes, wait->answer.data + wait->sent, left);
	wait->sent += left;
	return (ssize_t)left; /* 0: GT_STREAM_END */
}

static void wait_close(struct gt_stream *stream)
{
	struct wait *wait = (struct wait *)stream;
	gt_container_put(wait->ctr);
	gt_buf_free(&wait->answer);
	free(wait);
}

struct gt_stream *gt_container_wait(struct gt_engine *engine, const char *ref, const char *condition, struct gt_error *err)
{
	static const char *const NAMES[] = { "not-running", "next-exit", "removed" };
	size_t which = 0;
	while (condition && condition[0] && which < GT_COUNT(NAMES) && strcmp(condition, NAMES[which]))
		which++;
	if (which == GT_COUNT(NAMES))
		return gt_fail_null(err, GT_INVALID, "invalid condition: \"%.64s\"; it is one of not-running, next-exit, removed", condition);
	struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return NULL;
	struct wait *wait = gt_xcalloc(1, sizeof *wait);
	wait->stream = (struct gt_stream){ .read = wait_read, .close = wait_close };
	wait->ctr = ctr;
	wait->condition = (enum condition)which;
	LOCKED(&ctr->lock);
	wait->exits = ctr->exits;
	if (holds(wait))
		answer(wait); /* the code of now, not of a later run */
	return &wait->stream;
}
