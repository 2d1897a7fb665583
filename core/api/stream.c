/*
 * stream.c - a gt_stream as a chunked answer.
 *
 * The connection's thread pulls from the stream. Between reads that bring nothing it looks whether the client is still there and whether the
 * daemon is going down, so that neither a quiet log nor a vanished client keeps a thread for ever.
 */
#include <string.h>

#include "api/internal.h"
#include "base/log.h"

enum { IDLE_MS = 500, FIRST_ROOM = 16 << 10, BLOCK = 32 << 10 };

struct answer_source {
	struct gt_stream *stream;
	struct request *request;        /* outlives the answer */
	struct gt_buf first;            /* bytes read ahead */
	size_t first_sent;
};

static ssize_t read_patiently(struct request *request, struct gt_stream *stream, char *bytes, size_t room, struct gt_error *err)
{
	for (;;) {
		ssize_t got = gt_stream_read(stream, bytes, room, IDLE_MS, err);
		if (got != GT_STREAM_IDLE)
			return got;
		if (atomic_load(&request->api->stopping))
			return GT_STREAM_END;
		if (req_client_gone(request))
			return gt_fail(err, GT_CANCELLED, "the client went away");
	}
}

static ssize_t source_read(void *cls, uint64_t position, char *bytes, size_t room)
{
	struct answer_source *source = cls;
	struct gt_error err = { 0 };
	(void)position;
	size_t ahead = source->first.len - source->first_sent;
	if (ahead > 0) {
		size_t part = ahead < room ? ahead : room;
		memcpy(bytes, source->first.data + source->first_sent, part);
		source->first_sent += part;
		return (ssize_t)part;
	}
	ssize_t got = read_patiently(source->request, source->stream, bytes, room, &err);
	if (got > 0)
		return got;
	if (got == GT_STREAM_END)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (err.kind != GT_CANCELLED)
		gt_warn("a stream to a client broke", "request", source->request->uri, "error", err.message);
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static void source_free(void *cls)
{
	struct answer_source *source = cls;
	gt_stream_close(source->stream);
	gt_buf_free(&source->first);
	free(source);
}

static int answer_source(struct request *request, const char *content_type, struct answer_source *source, struct gt_error *err)
{
	struct MHD_Response *response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, source_read, source, source_free);
	if (!response) {
		source_free(source);
		return gt_fail(err, GT_INTERNAL, "no memory for an answer");
	}
	answer_with(request, 200, response);
	return answer_header(request, "Content-Type", content_type);
}

int answer_stream(struct request *request, const char *content_type, struct gt_stream *stream, struct gt_error *err)
{
	if (!stream)
		return -1;
	struct answer_source *source = gt_xcalloc(1, sizeof *source);
	*source = (struct answer_source){ .stream = stream, .request = request };
	return answer_source(request, content_type, source, err);
}

int answer_stream_checked(struct request *request, const char *content_type, struct gt_stream *stream, struct gt_error *err)
{
	if (!stream)
		return -1;
	struct answer_source *source = gt_xcalloc(1, sizeof *source);
	*source = (struct answer_source){ .stream = stream, .request = request };
	ssize_t got = read_patiently(request, stream, gt_buf_reserve(&source->first, FIRST_ROOM), FIRST_ROOM, err);
	if (got < 0) {
		source_free(source);
		return -1;
	}
	source->first.len = (size_t)got;
	return answer_source(request, content_type, source, err);
}
