/*
 * server.c - starts and stops the HTTP server.
 *
 * Each plain socket has an MHD daemon that accepts on it; TLS sockets share one that is fed by the front (tls.c). Each connection is a thread:
 * handlers block in the engine, and a pool would have to be as large as the number of waiting clients. Their stacks are touched only as far as
 * they are used.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/internal.h"
#include "api/listen.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	STACK = 1 << 20,
	MEMORY = 64 << 10,      /* of a connection: bounds the request's line and headers (414 and 431 beyond) */
	READ_STEP = 16 << 10,
};

#define TELL_EVERY (60 * GT_SECOND)

static void __attribute__((format(printf, 2, 0))) log_mhd(void *arg, const char *fmt, va_list ap)
{
	char text[512];
	(void)arg;
	if (gt_log_level() > GT_DEBUG)
		return;
	vsnprintf(text, sizeof text, fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	gt_debug("http server", "said", text);
}

/* MHD would refuse without a word, and by listener. */
static enum MHD_Result admit(void *arg, const struct sockaddr *address, socklen_t len)
{
	struct gt_api *api = arg;
	(void)address;
	(void)len;
	if (atomic_load(&api->connections) < api->config->max_connections)
		return MHD_YES;
	int64_t now = gt_monotonic(), told = atomic_load(&api->refusal_told);
	if ((!told || now - told > TELL_EVERY) && atomic_compare_exchange_strong(&api->refusal_told, &told, now))
		gt_warn("clients are refused: there are as many connections as [daemon] max_connections allows");
	return MHD_NO;
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **slot, enum MHD_ConnectionNotificationCode what)
{
	struct gt_api *api = arg;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		patience_forget(api->patience, *slot);
		atomic_fetch_sub(&api->connections, 1);
		return;
	}
	atomic_fetch_add(&api->connections, 1);
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	*slot = patience_new(info ? info->connect_fd : -1);
	patience_begin(api->patience, *slot, PATIENCE_REQUEST);
	struct sockaddr_storage self = { 0 };
	socklen_t len = sizeof self;
	if (!info || getsockname(info->connect_fd, (struct sockaddr *)&self, &len) < 0 || self.ss_family == AF_UNIX)
		return;
	int one = 1;
	setsockopt(info->connect_fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

/* listen_fd -1: connections are handed in by the TLS front. */
static struct MHD_Daemon *start_daemon(struct gt_api *api, int listen_fd)
{
	unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC |
			 MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem options[] = {
		{ MHD_OPTION_CONNECTION_LIMIT, (intptr_t)api->config->max_connections + 1, NULL },
		{ MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY, NULL },
		{ MHD_OPTION_CONNECTION_MEMORY_INCREMENT, READ_STEP, NULL },
		{ MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT, NULL },
		{ MHD_OPTION_THREAD_STACK_SIZE, STACK, NULL },
		{ MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL },
		{ listen_fd >= 0 ? MHD_OPTION_LISTEN_SOCKET : MHD_OPTION_END, listen_fd, NULL },
		{ MHD_OPTION_END, 0, NULL },
	};
	if (listen_fd < 0)
		flags |= MHD_USE_NO_LISTEN_SOCKET;
	return MHD_start_daemon(flags, 0, admit, api, request_handle, api, MHD_OPTION_EXTERNAL_LOGGER, log_mhd, api,
				MHD_OPTION_URI_LOG_CALLBACK, request_uri, api, MHD_OPTION_NOTIFY_COMPLETED, request_completed, api,
				MHD_OPTION_NOTIFY_CONNECTION, on_connection, api, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

static int add_daemon(struct gt_api *api, int listen_fd, const char *name, struct gt_error *err)
{
	struct MHD_Daemon *daemon = start_daemon(api, listen_fd);
	if (!daemon)
		return gt_fail_errno(err, errno, "start the HTTP server for %s", name);
	api->daemons[api->daemon_count++] = daemon;
	return 0;
}

static int start_all(struct gt_api *api, struct gt_error *err)
{
	bool tls = false;
	for (size_t i = 0; i < api->listener_count; i++) {
		const struct listener *listener = &api->listeners[i];
		fcntl(listener->fd, F_SETFL, fcntl(listener->fd, F_GETFL) | O_NONBLOCK);
		tls |= listener->tls;
		if (!listener->tls && add_daemon(api, listener->fd, listener->name, err) < 0)
			return -1;
	}
	if (!tls)
		return 0;
	if (add_daemon(api, -1, "TLS", err) < 0)
		return -1;
	return front_start(api, api->daemons[api->daemon_count - 1], &api->front, err);
}

/* MHD must not close the listening sockets: they are the listeners'. */
static void refuse_connections(struct gt_api *api)
{
	front_refuse(api->front);
	for (size_t i = 0; i < api->daemon_count; i++)
		MHD_quiesce_daemon(api->daemons[i]);
}

static void free_api(struct gt_api *api)
{
	front_stop(api->front);
	for (size_t i = 0; i < api->daemon_count; i++)
		MHD_stop_daemon(api->daemons[i]);
	patience_stop(api->patience);
	listeners_close(api->listeners, api->listener_count);
	listeners_close(api->metrics_listeners, api->metrics_count);
	pthread_cond_destroy(&api->calm);
	pthread_mutex_destroy(&api->lock);
	free(api);
}

int gt_api_start(struct gt_engine *engine, const struct gt_config *config, struct gt_api **out, struct gt_error *err)
{
	struct gt_api *api = gt_xcalloc(1, sizeof *api);
	api->engine = engine;
	api->config = config;
	pthread_mutex_init(&api->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&api->calm, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (patience_start(config->request_timeout, &api->patience, err) < 0 ||
	    listeners_open(config, API_MAX_LISTENERS, &api->listeners, &api->listener_count, err) < 0 || start_all(api, err) < 0 ||
	    metrics_start(api, err) < 0) {
		refuse_connections(api);
		free_api(api);
		return -1;
	}
	for (size_t i = 0; i < api->listener_count; i++)
		gt_info("the API is served", "listen", api->listeners[i].name, "tls", api->listeners[i].tls ? "yes" : "no");
	*out = api;
	return 0;
}

/* True once no request is under way. */
static bool calm_down(struct gt_api *api)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += api->config->shutdown_timeout;
	int rc = 0;
	LOCKED(&api->lock);
	while (api->active > 0 && rc == 0)
		rc = pthread_cond_timedwait(&api->calm, &api->lock, &until);
	return api->active == 0;
}

void gt_api_stop(struct gt_api *api)
{
	atomic_store(&api->stopping, true);
	refuse_connections(api);
	if (!calm_down(api)) {
		gt_warn("requests did not end within shutdown_timeout: leaving without them");
		listeners_close(api->listeners, api->listener_count);
		_exit(0);
	}
	free_api(api);
}
