/*
 * container_io.c - what goes in and comes out of containers: attach, logs, wait, stats, top, terminal size.
 */
#include <string.h>

#include "api/handlers.h"

enum { WEBSOCKET_CHOICE_SINCE = 42 };

/* ---- attach ---- */

static int attach_connected(struct request *request, int fd, struct gt_error *err)
{
	return gt_attach_connect(request->attach, fd, err);
}

static int attach_begin(struct request *request, struct gt_attach_query *wish, bool *tty, struct gt_error *err)
{
	const struct query *query = &request->query;
	wish->logs = query_bool(query, "logs", false);
	wish->stream = query_bool(query, "stream", false);
	wish->detach_keys = query_text(query, "detachKeys");
	request->attach = gt_attach_begin(request->api->engine, req_segment(request, 0), wish, tty, err);
	return request->attach ? 0 : -1;
}

HANDLER(serve_container_attach)
{
	const struct query *query = &request->query;
	struct gt_attach_query wish = { .stdin = query_bool(query, "stdin", false), .stdout = query_bool(query, "stdout", false),
					.stderr = query_bool(query, "stderr", false) };
	bool tty = false;
	return attach_begin(request, &wish, &tty, err) < 0 ? -1 : answer_hijack(request, tty, attach_connected, err);
}

/* Before API 1.42 a websocket had all three streams, whatever the request said. */
HANDLER(serve_container_attach_ws)
{
	const struct query *query = &request->query;
	bool all = request->match.version < WEBSOCKET_CHOICE_SINCE, tty;
	struct gt_attach_query wish = { .stdin = all || query_bool(query, "stdin", false), .stdout = all || query_bool(query, "stdout", false),
					.stderr = all || query_bool(query, "stderr", false), .raw = true };
	return websocket_check(request, err) < 0 || attach_begin(request, &wish, &tty, err) < 0 ? -1 : answer_websocket(request, err);
}

/* ---- streams ---- */

/* "all", and as in Docker whatever else is no number: all. */
static int64_t tail_lines(const struct query *query)
{
	struct gt_error ignored = { 0 };
	int64_t tail = -1;
	return query_int(query, "tail", &tail, &ignored) < 0 || tail < 0 ? -1 : tail;
}

HANDLER(serve_container_logs)
{
	const struct query *query = &request->query;
	struct gt_logs_query logs = {
		.follow = query_bool(query, "follow", false),
		.stdout = query_bool(query, "stdout", false),
		.stderr = query_bool(query, "stderr", false),
		.timestamps = query_bool(query, "timestamps", false),
		.details = query_bool(query, "details", false),
		.tail = tail_lines(query),
	};
	bool tty = false;
	if (!logs.stdout && !logs.stderr)
		return gt_fail(err, GT_INVALID, "Bad parameters: you must choose at least one stream");
	if (query_time(query, "since", &logs.since, err) < 0 || query_time(query, "until", &logs.until, err) < 0)
		return -1;
	struct gt_stream *stream = gt_container_logs(request->api->engine, req_segment(request, 0), &logs, &tty, err);
	return answer_stream(request, stream_content_type(request, tty), stream, err);
}

HANDLER(serve_container_wait)
{
	const char *condition = query_text(&request->query, "condition");
	struct gt_stream *stream =
		gt_container_wait(request->api->engine, req_segment(request, 0), condition ? condition : "not-running", err);
	return answer_stream(request, "application/json", stream, err);
}

HANDLER(serve_container_stats)
{
	const struct query *query = &request->query;
	bool stream = query_bool(query, "stream", true), one_shot = query_bool(query, "one-shot", false);
	if (stream && one_shot)
		return gt_fail(err, GT_INVALID, "cannot have stream=true and one-shot=true");
	return answer_stream(request, "application/json",
			     gt_container_stats(request->api->engine, req_segment(request, 0), stream, one_shot, err), err);
}

/* ---- the rest ---- */

HANDLER(serve_container_top)
{
	const char *args = query_text(&request->query, "ps_args");
	return answer_json(request, 200,
			   gt_container_top(request->api->engine, req_segment(request, 0), args ? args : "-ef", err));
}

HANDLER(serve_container_resize)
{
	unsigned rows, cols;
	if (query_size(&request->query, &rows, &cols, err) < 0 ||
	    gt_container_resize(request->api->engine, req_segment(request, 0), rows, cols, err) < 0)
		return -1;
	return answer_empty(request, 200);
}
