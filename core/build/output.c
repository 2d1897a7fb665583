/*
 * output.c - messages of a build, in the order of the Dockerfile.
 *
 * One stage is in front: what it says goes out at once. What stages behind it say waits, up to a bound, then the stage waits. The front is
 * always the first that is not done; it needs no stage behind it, so it never waits for one.
 */
#include <stdlib.h>
#include <string.h>

#include "build/internal.h"

#define WAITING_MAX (1u << 20)

void output_open(struct output *output, struct gt_progress *progress, size_t stages)
{
	*output = (struct output){ .progress = progress, .count = stages };
	pthread_mutex_init(&output->lock, NULL);
	pthread_cond_init(&output->moved, NULL);
	output->waiting = gt_xcalloc(stages + 1, sizeof *output->waiting);
	output->waiting_bytes = gt_xcalloc(stages + 1, sizeof *output->waiting_bytes);
	output->done = gt_xcalloc(stages + 1, sizeof *output->done);
	for (size_t i = 0; i < stages; i++)
		output->waiting[i] = json_array();
}

void output_close(struct output *output)
{
	for (size_t i = 0; i < output->count; i++)
		json_decref(output->waiting[i]);
	free(output->waiting);
	free(output->waiting_bytes);
	free(output->done);
	pthread_cond_destroy(&output->moved);
	pthread_mutex_destroy(&output->lock);
}

static void emit(struct output *output, json_t *message)
{
	if (output->progress && output->progress->emit)
		output->progress->emit(output->progress->arg, message);
}

static void flush(struct output *output, size_t stage)
{
	size_t i;
	json_t *message;
	json_array_foreach(output->waiting[stage], i, message)
		emit(output, message);
	json_array_clear(output->waiting[stage]);
	output->waiting_bytes[stage] = 0;
}

void output_message(struct output *output, size_t stage, json_t *message)
{
	AUTO_JSON json_t *owned = message;
	if (!message)
		return;
	AUTO_FREE char *text = json_dumps(message, JSON_COMPACT);
	size_t size = text ? strlen(text) : 0;
	LOCKED(&output->lock);
	while (!output->stop && stage > output->front && output->waiting_bytes[stage] > WAITING_MAX)
		pthread_cond_wait(&output->moved, &output->lock);
	if (output->stop && stage > output->front)
		return;
	if (stage <= output->front) {
		emit(output, message);
		return;
	}
	json_array_append(output->waiting[stage], message);
	output->waiting_bytes[stage] += size;
}

/* Output of programs is bytes, JSON is UTF-8: what is neither becomes U+FFFD. */
static void add_utf8(struct gt_buf *out, const unsigned char *p, size_t len)
{
	while (len > 0) {
		size_t size = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
		bool good = size > 0 && size <= len && *p != '\0';
		for (size_t i = 1; good && i < size; i++)
			good = (p[i] & 0xc0) == 0x80;
		if (good && size == 3)
			good = !(p[0] == 0xe0 && p[1] < 0xa0) && !(p[0] == 0xed && p[1] >= 0xa0);
		if (good && size == 4)
			good = !(p[0] == 0xf0 && p[1] < 0x90) && !(p[0] == 0xf4 && p[1] >= 0x90);
		if (good)
			gt_buf_add(out, p, size);
		else
			gt_buf_str(out, "\xef\xbf\xbd");
		p += good ? size : 1;
		len -= good ? size : 1;
	}
}

void output_bytes(struct output *output, size_t stage, const char *bytes, size_t len)
{
	AUTO_BUF struct gt_buf text = { 0 };
	gt_buf_add(&text, "", 0);
	add_utf8(&text, (const unsigned char *)bytes, len);
	output_message(output, stage, json_pack("{s:s%}", "stream", text.data, text.len));
}

void output_text(struct output *output, size_t stage, const char *fmt, ...)
{
	AUTO_BUF struct gt_buf text = { 0 };
	va_list ap;
	va_start(ap, fmt);
	gt_buf_vprintf(&text, fmt, ap);
	va_end(ap);
	output_bytes(output, stage, text.data ? text.data : "", text.len);
}

void output_end_stage(struct output *output, size_t stage)
{
	LOCKED(&output->lock);
	output->done[stage] = true;
	while (output->front < output->count && output->done[output->front]) {
		if (++output->front < output->count)
			flush(output, output->front);
	}
	pthread_cond_broadcast(&output->moved);
}

void output_stop(struct output *output, ssize_t failed)
{
	LOCKED(&output->lock);
	if (failed >= 0 && !output->stop)
		flush(output, (size_t)failed);
	output->stop = true;
	pthread_cond_broadcast(&output->moved);
}
