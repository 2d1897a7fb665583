/*
 * exec.c - more processes in running containers.
 */
#include "api/handlers.h"

HANDLER(serve_exec_create)
{
	char id[65];
	if (!request->json)
		return gt_fail(err, GT_INVALID, "No exec command specified");
	if (gt_exec_create(request->api->engine, req_segment(request, 0), request->json, id, err) < 0)
		return -1;
	return answer_json(request, 201, json_pack("{s:s}", "Id", id));
}

struct exec_wish {
	bool detach, tty;
	unsigned rows, cols;
};

/* ConsoleSize is [height, width]. */
static int console_size(const json_t *body, struct exec_wish *wish, struct gt_error *err)
{
	json_t *size = NULL;
	if (gt_json_array(body, "ConsoleSize", &size, err) < 0)
		return -1;
	if (!size || json_array_size(size) == 0)
		return 0;
	json_int_t rows = json_integer_value(json_array_get(size, 0)), cols = json_integer_value(json_array_get(size, 1));
	if (json_array_size(size) != 2 || rows < 0 || cols < 0 || rows > UINT16_MAX || cols > UINT16_MAX)
		return gt_fail(err, GT_INVALID, "ConsoleSize must be [height, width]");
	wish->rows = (unsigned)rows;
	wish->cols = (unsigned)cols;
	return 0;
}

static int exec_wish(const struct request *request, struct exec_wish *wish, struct gt_error *err)
{
	*wish = (struct exec_wish){ 0 };
	if (!request->json)
		return 0;
	if (gt_json_bool(request->json, "Detach", &wish->detach, err) < 0 || gt_json_bool(request->json, "Tty", &wish->tty, err) < 0 ||
	    console_size(request->json, wish, err) < 0)
		return -1;
	return 0;
}

static int exec_connected(struct request *request, int fd, struct gt_error *err)
{
	struct exec_wish wish;
	if (exec_wish(request, &wish, err) < 0)
		return -1;
	return gt_exec_start(request->api->engine, req_segment(request, 0), false, wish.tty, wish.rows, wish.cols, fd, err);
}

HANDLER(serve_exec_start)
{
	struct gt_engine *engine = request->api->engine;
	const char *id = req_segment(request, 0);
	struct exec_wish wish;
	if (exec_wish(request, &wish, err) < 0 || gt_exec_check(engine, id, wish.tty, err) < 0)
		return -1;
	if (!wish.detach)
		return answer_hijack(request, wish.tty, exec_connected, err);
	if (gt_exec_start(engine, id, true, wish.tty, wish.rows, wish.cols, -1, err) < 0)
		return -1;
	return answer_empty(request, 200);
}

HANDLER(serve_exec_resize)
{
	unsigned rows, cols;
	if (query_size(&request->query, &rows, &cols, err) < 0 ||
	    gt_exec_resize(request->api->engine, req_segment(request, 0), rows, cols, err) < 0)
		return -1;
	return answer_empty(request, 200);
}

HANDLER(serve_exec_inspect)
{
	return answer_json(request, 200, gt_exec_inspect(request->api->engine, req_segment(request, 0), err));
}
