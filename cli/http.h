/*
 * http.h - the HTTP/1.1 client of the Docker Engine API.
 *
 * One client is one daemon's address. A request takes the idle connection of the request before it, or dials a new
 * one. An answer's body is pulled piece by piece, so that endless answers (logs, events) need no memory. An upgraded
 * answer (attach, exec, 101) hands its connection over as a stream of raw bytes.
 * Responses are parsed by libhttp_parser. One thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "conn.h"

struct http_client;
struct http_response;

struct http_address {
	const char *host;               /* "unix:///run/gantry/gantry.sock", "tcp://host:2376" */
	const char *api_version;        /* "1.50" */
	bool tls;
	struct tls_files files;
};

struct http_request {
	const char *method;
	const char *path;               /* after the version: "/containers/json?all=1" */
	const json_t *json;             /* the body, or NULL */
	/* A body of unknown length: returns the bytes of the next piece, 0 at the end, -1 with err. */
	ssize_t (*source)(void *arg, const char **bytes, struct gt_error *err);
	void *source_arg;
	const char *content_type;       /* of source; NULL: application/x-tar */
	const struct gt_strings *headers;       /* "Name: value" lines */
	bool upgrade;                   /* ask for a raw stream */
};

/* The strings of address are copied. */
struct http_client *http_client_new(const struct http_address *address, struct gt_error *err);
void http_client_free(struct http_client *client);
const char *http_client_host(const struct http_client *client);

/* Sends the request and reads the answer's headers. A daemon of an older API version is asked again in its version. */
struct http_response *http_send(struct http_client *client, const struct http_request *request, struct gt_error *err);
int http_status(const struct http_response *response);
const char *http_header(const struct http_response *response, const char *name);        /* NULL where absent */
/* The next piece of the body, valid until the next call; 0 at the end, -1 with err. */
ssize_t http_next(struct http_response *response, const char **bytes, struct gt_error *err);
/* The same, waiting at most timeout_ms: 0 with *idle = true where nothing came. */
ssize_t http_next_timed(struct http_response *response, const char **bytes, int timeout_ms, bool *idle,
			struct gt_error *err);
/* The whole body; more than max bytes is an error. */
int http_read_all(struct http_response *response, size_t max, struct gt_buf *out, struct gt_error *err);
/* The descriptor to poll while waiting for http_next, -1 where bytes are ready already. */
int http_poll_fd(struct http_response *response);
/* After an upgrade: the connection is the caller's, with the bytes that came already appended to early. */
struct conn http_hijack(struct http_response *response, struct gt_buf *early);
/* Ends the exchange; keeps the connection for the next request where the answer was read to its end. NULL is fine. */
void http_close(struct http_response *response);

static inline void http_auto_close(struct http_response **slot)
{
	http_close(*slot);
}
#define AUTO_RESPONSE __attribute__((cleanup(http_auto_close)))
