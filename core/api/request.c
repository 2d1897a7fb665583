/*
 * request.c - one request from its first line to its end, as MHD tells it.
 *
 * MHD calls request_uri() with the request line, request_handle() once with the headers, then with pieces of the body, once more at its end, and
 * request_completed() whatever happened. A request that is refused before its body came is answered at once only where the client waits for
 * a go-ahead or the body is huge; else the body is read and dropped first, so that simple clients, which send all before they listen,
 * see the answer.
 *
 * The idle timeout of a connection is off while a request is served: MHD would count the time that a handler waits. What the client may take over
 * its part is patience.c's.
 */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "api/internal.h"
#include "base/clock.h"
#include "base/log.h"

const char *req_header(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

int req_fd(const struct request *request)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	return info ? info->connect_fd : -1;
}

static struct wait *wait_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return info ? info->socket_context : NULL;
}

bool req_client_gone(const struct request *request)
{
	struct pollfd look = { .fd = req_fd(request), .events = POLLRDHUP };
	return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

void *request_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
	struct request *request = gt_xcalloc(1, sizeof *request);
	request->api = cls;
	request->connection = connection;
	request->uri = gt_xstrdup(uri);
	return request;
}

/* ---- the headers ---- */

static int begin(struct request *request, struct gt_error *err)
{
	struct gt_api *api = request->api;
	request->begun = gt_monotonic();
	request->thread = gettid();
	pthread_mutex_lock(&api->lock);
	api->active++;
	request->next = api->under_way;
	request->slot = &api->under_way;
	if (request->next)
		request->next->slot = &request->next;
	api->under_way = request;
	pthread_mutex_unlock(&api->lock);
	if (atomic_load(&api->stopping))
		return gt_fail(err, GT_UNAVAILABLE, "the daemon is going down");
	if (route_find(request->method, request->uri, &request->match, request->allow, err) < 0)
		return -1;
	const char *question = strchr(request->uri, '?');
	if (query_parse(question ? question + 1 : NULL, &request->query, err) < 0 || body_check(request, err) < 0)
		return -1;
	if (request->match.route->body == BODY_STREAM)
		return request->match.route->handler(request, err);
	return 0;
}

static void set_failure(struct request *request)
{
	answer_error(request, &request->error);
	if (*request->allow) {
		request->status = 405;
		answer_header(request, "Allow", request->allow);
	}
}

static enum MHD_Result queue(struct request *request)
{
	if (request->taken)
		return MHD_NO;
	if (!request->response)
		return MHD_NO; /* no memory */
	enum MHD_Result queued = MHD_queue_response(request->connection, request->status, request->response);
	MHD_destroy_response(request->response);
	request->response = NULL;
	return queued;
}

/* Whether a refusal cannot wait for the body's end. */
static bool answer_now(const struct request *request)
{
	int64_t length = body_length(request);
	return length > BODY_DRAIN_MAX || (length != 0 && req_header(request, "Expect"));
}

static enum MHD_Result on_headers(struct request *request)
{
	patience_begin(request->api->patience, wait_of(request->connection), PATIENCE_REQUEST);
	if (begin(request, &request->error) < 0) {
		request->failed = true;
		if (answer_now(request)) {
			set_failure(request);
			return queue(request);
		}
	}
	if (request->match.route && request->match.route->body == BODY_STREAM) {
		MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
		patience_end(request->api->patience, wait_of(request->connection));
	}
	return MHD_YES;
}

/* ---- the body and its end ---- */

static enum MHD_Result on_body(struct request *request, const char *bytes, size_t len)
{
	request->body_bytes += len;
	if (request->failed || (request->match.route->body == BODY_NONE && !request->upload))
		return request->body_bytes > BODY_DRAIN_MAX ? MHD_NO : MHD_YES;
	if (request->upload)
		upload_take(request->upload, bytes, len);
	else if (body_take(request, bytes, len, &request->error) < 0)
		request->failed = true;
	return MHD_YES;
}

static int serve(struct request *request, struct gt_error *err)
{
	if (request->upload)
		return upload_end(request->upload, err);
	if (request->response)
		return 0; /* a stream handler that wanted no body */
	if (body_parse(request, err) < 0)
		return -1;
	return request->match.route->handler(request, err);
}

static enum MHD_Result on_end(struct request *request)
{
	patience_end(request->api->patience, wait_of(request->connection));
	MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	if (request->failed || serve(request, &request->error) < 0) {
		request->failed = true;
		set_failure(request);
	}
	return queue(request);
}

enum MHD_Result request_handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
			       const char *version, const char *upload, size_t *upload_size, void **slot)
{
	struct request *request = *slot;
	(void)cls;
	(void)connection;
	(void)url;
	if (!request)
		return MHD_NO;
	request->method = method;
	request->http_1_1 = strcmp(version, MHD_HTTP_VERSION_1_1) == 0;
	if (!request->begun)
		return on_headers(request);
	if (*upload_size > 0) {
		size_t len = *upload_size;
		*upload_size = 0;
		return on_body(request, upload, len);
	}
	return on_end(request);
}

/* ---- afterwards ---- */

static void log_request(const struct request *request)
{
	if (gt_log_level() > GT_DEBUG)
		return;
	char status[16], ms[24];
	snprintf(status, sizeof status, "%u", request->status);
	snprintf(ms, sizeof ms, "%.3f", (double)(gt_monotonic() - request->begun) / 1e6);
	gt_debug("request", "method", request->method, "uri", request->uri, "status", status, "ms", ms, "error",
		 request->failed ? request->error.message : NULL);
}

static void forget(struct gt_api *api, struct request *request)
{
	LOCKED(&api->lock);
	*request->slot = request->next;
	if (request->next)
		request->next->slot = request->slot;
}

json_t *gt_api_requests(struct gt_api *api)
{
	int64_t now = gt_monotonic();
	json_t *list = json_array();
	LOCKED(&api->lock);
	for (const struct request *request = api->under_way; request; request = request->next) {
		AUTO_FREE char *uri = gt_xstrndup(request->uri, strnlen(request->uri, 512));
		json_array_append_new(list, json_pack("{s:s s:s* s:i s:f}", "Method", request->method, "Uri", uri, "Thread", request->thread, "Seconds",
						      (double)(now - request->begun) / (double)GT_SECOND));
	}
	return list;
}

void request_completed(void *cls, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode why)
{
	struct gt_api *api = cls;
	struct request *request = *slot;
	*slot = NULL;
	if (!request)
		return;
	upload_free(request->upload);
	gt_attach_end(request->attach);
	if (request->begun) {
		log_request(request);
		metrics_count_request(request);
		forget(api, request);
	}
	if (request->response)
		MHD_destroy_response(request->response);
	bool counted = request->begun != 0;
	route_match_free(&request->match);
	query_free(&request->query);
	gt_buf_free(&request->body);
	json_decref(request->json);
	free(request->uri);
	free(request);
	if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK) {
		MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)IDLE_TIMEOUT);
		patience_begin(api->patience, wait_of(connection), PATIENCE_IDLE);
	}
	if (!counted)
		return;
	LOCKED(&api->lock);
	if (--api->active == 0)
		pthread_cond_broadcast(&api->calm);
}
