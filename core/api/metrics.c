/*
 * metrics.c - GET /metrics for Prometheus, on sockets of its own ([daemon] metrics_addr): whoever may read figures is not to reach the API.
 *
 * One thread answers one scrape after the other, so that no number of them costs more than that; few connections, each for a short time. The text is
 * made whole in memory before the first byte goes out.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "api/internal.h"
#include "api/listen.h"
#include "base/log.h"

enum {
	CONNECTIONS = 16,
	TIMEOUT = 10,           /* s, of a connection that says or takes nothing */
	MEMORY = 8 << 10,       /* of a connection: request line and headers */
};

static const char *const METHODS[API_METHODS] = { "GET", "HEAD", "POST", "PUT", "DELETE", "other" };
static const char *const CLASSES[API_CLASSES] = { "1xx", "2xx", "3xx", "4xx", "5xx" };

void metrics_count_request(struct request *request)
{
	size_t method = 0, group = request->status / 100;
	while (method < API_METHODS - 1 && strcmp(request->method, METHODS[method]) != 0)
		method++;
	if (group >= 1 && group <= API_CLASSES)
		gt_counter_add(&request->api->requests[method][group - 1], 1);
}

static void write_requests(struct gt_api *api, struct gt_buf *out)
{
	pthread_mutex_lock(&api->lock);
	unsigned active = api->active;
	pthread_mutex_unlock(&api->lock);
	gt_metric_family(out, "gantry_api_requests_total", "counter", "Requests of the API that were answered, by method and class of the status.");
	for (size_t m = 0; m < API_METHODS; m++) {
		for (size_t c = 0; c < API_CLASSES; c++) {
			const struct gt_label labels[] = { { "method", METHODS[m] }, { "code", CLASSES[c] }, { NULL, NULL } };
			gt_metric_sample(out, "gantry_api_requests_total", labels, gt_counter_read(&api->requests[m][c]));
		}
	}
	gt_metric_gauge(out, "gantry_api_requests_active", "Requests of the API that are being served, streams and attached sessions too.", active);
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, struct gt_buf *text, const char *type)
{
	size_t len = text->len;
	struct MHD_Response *response = MHD_create_response_from_buffer(len, gt_buf_take(text), MHD_RESPMEM_MUST_FREE);
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, "Allow", "GET");
	enum MHD_Result queued = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return queued;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *why)
{
	AUTO_BUF struct gt_buf text = { 0 };
	gt_buf_printf(&text, "%s\n", why);
	return answer(connection, status, &text, "text/plain; charset=utf-8");
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
				  const char *upload, size_t *upload_size, void **slot)
{
	struct gt_api *api = cls;
	AUTO_BUF struct gt_buf text = { 0 };
	(void)version;
	(void)upload;
	(void)upload_size;
	(void)slot;
	if (strcmp(url, "/metrics") != 0)
		return refuse(connection, MHD_HTTP_NOT_FOUND, "only /metrics is here");
	if (strcmp(method, "GET") != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "/metrics knows GET alone");
	gt_engine_metrics(api->engine, &text);
	write_requests(api, &text);
	gt_metric_process(&text);
	return answer(connection, MHD_HTTP_OK, &text, "text/plain; version=0.0.4; charset=utf-8");
}

static int serve_on(struct gt_api *api, const struct listener *listener, struct gt_error *err)
{
	fcntl(listener->fd, F_SETFL, fcntl(listener->fd, F_GETFL) | O_NONBLOCK);
	struct MHD_Daemon *daemon =
		MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL, on_request, api, MHD_OPTION_LISTEN_SOCKET,
				 listener->fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT,
				 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	if (!daemon)
		return gt_fail_errno(err, errno, "start the HTTP server for metrics on %s", listener->name);
	api->daemons[api->daemon_count++] = daemon;
	return 0;
}

int metrics_start(struct gt_api *api, struct gt_error *err)
{
	const char *address = api->config->metrics_addr;
	if (!*address)
		return 0;
	if (listeners_open_plain("metrics_addr", address, API_MAX_METRICS, &api->metrics_listeners, &api->metrics_count, err) < 0)
		return -1;
	for (size_t i = 0; i < api->metrics_count; i++) {
		if (serve_on(api, &api->metrics_listeners[i], err) < 0)
			return -1;
	}
	gt_info("metrics are served", "address", address);
	return 0;
}
