/*
 * internal.h - private to core/api: one request and the ways to answer it.
 */
#pragma once

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"
#include "api/query.h"
#include "api/router.h"
#include "base/auto.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/metrics.h"
#include "base/stream.h"
#include "config/config.h"
#include "engine/engine.h"

struct upload;  /* upload.c */
struct front;   /* tls.c */
struct patience; /* patience.c */
struct wait;

#define API_MAX_LISTENERS 32
#define API_MAX_METRICS 8

/* Requests that were answered, by method and by the status' first digit. */
enum { API_METHODS = 6, API_CLASSES = 5 };

struct gt_api {
	struct gt_engine *engine;
	const struct gt_config *config;
	struct listener *listeners;             /* listen.h */
	size_t listener_count;
	struct MHD_Daemon *daemons[API_MAX_LISTENERS + 1 + API_MAX_METRICS];
	size_t daemon_count;
	struct front *front;                    /* TLS; NULL where no listener wants it */
	struct patience *patience;
	_Atomic int64_t connections;            /* those that MHD has, of all listeners */
	_Atomic int64_t refusal_told;           /* monotonic ns: when the log was last told that there are too many */
	atomic_bool stopping;
	pthread_mutex_t lock;                   /* guards `active` and `under_way` */
	pthread_cond_t calm;                    /* signalled as `active` falls to 0 while stopping */
	unsigned active;                        /* requests begun and not completed */
	struct request *under_way;              /* the same ones; under lock */
	struct gt_counter requests[API_METHODS][API_CLASSES];
	struct listener *metrics_listeners;     /* metrics.c */
	size_t metrics_count;
};

/* One request, owned by its connection's thread. */
struct request {
	struct gt_api *api;
	struct MHD_Connection *connection;
	char *uri;                              /* as it came */
	const char *method;                     /* MHD's */
	bool http_1_1;
	struct request *next, **slot;           /* of those under way; guarded by api->lock */
	pid_t thread;
	int64_t begun;                          /* monotonic ns; 0: the handler has not been called yet */
	struct route_match match;
	struct query query;
	struct gt_buf body;
	uint64_t body_bytes;                    /* come so far */
	json_t *json;                           /* the parsed body, NULL where empty */
	bool failed;                            /* while the body was still to come: `error` is answered after it */
	char allow[ROUTE_ALLOW_ROOM];           /* not "": the failure is a 405 */
	struct gt_error error;
	struct upload *upload;
	struct MHD_Response *response;          /* the answer, until it is queued */
	unsigned status;
	int (*serve)(struct request *request, int fd, struct gt_error *err);    /* hijack.c */
	struct gt_attach *attach;               /* container_io.c */
	bool tty;
	bool taken;                             /* the connection is out of MHD's hands: nothing is queued */
};

static inline const char *req_segment(const struct request *request, size_t i)
{
	return request->match.segments[i];
}
const char *req_header(const struct request *request, const char *name);
int req_fd(const struct request *request);
/* The client has hung up, or at least says nothing more: its side of the connection is shut. */
bool req_client_gone(const struct request *request);

/* ---- patience.c ---- */
enum { IDLE_TIMEOUT = 600 };    /* s between an answer and the head of the connection's next request */
enum patience_kind { PATIENCE_REQUEST, PATIENCE_IDLE, PATIENCE_KINDS };
int patience_start(int64_t request_seconds, struct patience **patience, struct gt_error *err);
void patience_stop(struct patience *patience);          /* when there is no connection any more; NULL is fine */
/* All below may come from any thread, for one connection from one at a time. fd stays the connection's, open until patience_forget(). */
struct wait *patience_new(int fd);
/* The connection's time begins, in place of what ran before. */
void patience_begin(struct patience *patience, struct wait *wait, enum patience_kind kind);
void patience_end(struct patience *patience, struct wait *wait);        /* nothing is awaited of the client */
void patience_forget(struct patience *patience, struct wait *wait);     /* the connection ends; frees wait */

/* ---- request.c: MHD's callbacks ---- */
void *request_uri(void *api, const char *uri, struct MHD_Connection *connection);
enum MHD_Result request_handle(void *api, struct MHD_Connection *connection, const char *url, const char *method,
			       const char *version, const char *upload, size_t *upload_size, void **slot);
void request_completed(void *api, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode why);

/* ---- metrics.c ---- */
void metrics_count_request(struct request *request);
/* Serves config->metrics_addr, where there is one: adds its daemons to api->daemons. */
int metrics_start(struct gt_api *api, struct gt_error *err);

/* ---- body.c ---- */
enum { BODY_DRAIN_MAX = 1 << 30 };     /* what is read and dropped of a refused request, so that its answer is seen */
/* Before the body: Content-Type and size. */
int body_check(struct request *request, struct gt_error *err);
int body_take(struct request *request, const char *bytes, size_t len, struct gt_error *err);
int body_parse(struct request *request, struct gt_error *err);
/* Content-Length, or -1 for a chunked body, 0 where there is none. */
int64_t body_length(const struct request *request);

/* ---- response.c: each sets the answer and returns 0 ---- */
int answer_json(struct request *request, unsigned status, json_t *json);        /* json is stolen; NULL: -1 (err is the engine's) */
int answer_json_text(struct request *request, unsigned status, struct gt_buf *text);    /* text is taken */
int answer_empty(struct request *request, unsigned status);
int answer_text(struct request *request, unsigned status, const char *text);
int answer_error(struct request *request, const struct gt_error *err);
int answer_with(struct request *request, unsigned status, struct MHD_Response *response);     /* response is stolen */
/* After an answer was set: one more header. */
int answer_header(struct request *request, const char *name, const char *value);
/* The headers that every answer has, as text lines, for answers that go past MHD. */
void answer_common_headers(struct gt_buf *out);
/* registry.c: a header that is base64 (either alphabet) of a JSON object; absent, empty and null give NULL. *value: the caller's. */
int header_json(const struct request *request, const char *name, json_t **value, struct gt_error *err);
/* {"message": text} */
json_t *answer_message(const char *text);

/* ---- stream.c ---- */
/* The stream becomes a chunked answer; it is closed at the end or as the client goes. Headers go out at once. */
int answer_stream(struct request *request, const char *content_type, struct gt_stream *stream, struct gt_error *err);
/* As answer_stream, but waits for the first bytes, so that a failure at the start is an answer of its own. */
int answer_stream_checked(struct request *request, const char *content_type, struct gt_stream *stream, struct gt_error *err);

/* ---- hijack.c ---- */
/* 101 (or 200 for clients that do not ask for an upgrade), then serve(request, fd) with the connection's socket; serve does not keep fd itself.
 * serve's error is told to the client on the raw stream. */
int answer_hijack(struct request *request, bool tty, int (*serve)(struct request *request, int fd, struct gt_error *err),
		  struct gt_error *err);
/* What Docker calls a raw stream, by tty and the request's version. */
const char *stream_content_type(const struct request *request, bool tty);
/* Does what the upgrade of the connection asks for; MHD's callback. */
void hijack_upgraded(void *cls, struct MHD_Connection *connection, void *slot, const char *extra, size_t extra_size, MHD_socket sock,
		     struct MHD_UpgradeResponseHandle *urh);

/* ---- websocket.c ---- */
/* Whether the request is a websocket's handshake; before anything is begun. */
int websocket_check(const struct request *request, struct gt_error *err);
/* 101, then request->attach is connected with the client's messages as a stream. */
int answer_websocket(struct request *request, struct gt_error *err);

/* ---- upload.c ---- */
typedef int (*upload_work)(struct request *request, int in_fd, struct gt_progress *progress, struct gt_error *err);
/* Runs work in a thread that reads the body from in_fd as it comes. lines: the answer is JSON lines of progress (quiet: without those that are
 * mere progress), else an empty 200. */
int upload_begin(struct request *request, upload_work work, bool lines, bool quiet, struct gt_error *err);
void upload_take(struct upload *upload, const char *bytes, size_t len);
/* The body is whole: sets the answer. */
int upload_end(struct upload *upload, struct gt_error *err);
void upload_free(struct upload *upload);        /* waits for the thread; NULL is fine */

/* ---- relay.c ---- */
struct relay_end {
	int fd;
	void *tls;      /* gnutls_session_t or NULL */
};
/* Carries bytes both ways until both sides are done or one breaks; a half-close is passed on. `first` goes to b before all else. Closes
 * nothing. */
void relay_run(struct relay_end *a, struct relay_end *b, const char *first, size_t first_len);
/* A socket that reads `first` and then what fd reads; takes fd over. A thread carries the bytes. -1 with errno. */
int relay_prepend(int fd, const char *first, size_t first_len);

/* ---- tls.c ---- */
/* A TLS front: accepts on listen fds, checks client certificates, and hands the clear connection to daemon. */
int front_start(struct gt_api *api, struct MHD_Daemon *daemon, struct front **front, struct gt_error *err);
void front_refuse(struct front *front);         /* no more connections */
void front_stop(struct front *front);           /* ends the connections; NULL is fine */
