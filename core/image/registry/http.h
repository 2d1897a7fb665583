/*
 * http.h - private to core/image: one HTTP exchange with a host that is not trusted.
 *
 * An exchange is driven by the thread that reads it: nothing moves between reads, so a slow reader slows the sender, and no more than a
 * buffer is held. Bounded: header bytes, time without progress, the speed below which a transfer counts as dead. Redirects are not followed
 * here. Connections are kept by the pool for the next exchange; a pool serves several threads, an exchange one.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "image/image.h"

#define HTTP_USER_AGENT "gantry/" GANTRY_VERSION

struct http_pool;
struct http_pool *http_pool_new(struct gt_error *err);
void http_pool_free(struct http_pool *pool);    /* NULL is fine; no exchange may be open */

/* How to reach a host: decided by endpoint.c. */
struct http_route {
	bool insecure;                  /* certificates are not checked */
	char *ca;                       /* PEM of CAs besides the system's, or NULL */
	char *cert, *key;               /* paths of a client certificate, or NULL */
	char *proxy, *no_proxy;         /* "" : none */
};

struct http_request {
	const char *method;
	const char *url;
	const struct http_route *route;
	const char *accept, *authorization, *content_type;      /* headers; NULL: left out */
	int64_t range_from;             /* > 0: from this byte on */
	const char *body;               /* NULL: none */
	size_t body_len;
	/* In place of body: bytes of unknown number, sent in chunks. Returns 0 at the end, -1 with err. */
	ssize_t (*source)(void *arg, void *bytes, size_t room, struct gt_error *err);
	void *source_arg;
	struct gt_progress *progress;   /* asked for cancellation; may be NULL */
};

struct http_reply {
	long status;
	int64_t length;                 /* Content-Length, -1: not told */
	char *content_type, *location, *digest, *link, *retry_after, *content_range, *range;    /* NULL: not there */
	struct gt_buf challenges;       /* WWW-Authenticate headers, one a line */
};

struct http_exchange;
/* Sends the request and waits for the reply's headers. *again (may be NULL): another try may do better. */
struct http_exchange *exchange_open(struct http_pool *pool, const struct http_request *request, bool *again, struct gt_error *err);
const struct http_reply *exchange_reply(const struct http_exchange *exchange);
/* Bytes of the body; 0 at its end. After a failure *again tells as above. */
ssize_t exchange_read(struct http_exchange *exchange, void *bytes, size_t room, bool *again, struct gt_error *err);
void exchange_close(struct http_exchange *exchange);        /* NULL is fine */
/* The rest of the body; more than max bytes are refused. */
int exchange_slurp(struct http_exchange *exchange, size_t max, struct gt_buf *out, bool *again, struct gt_error *err);

/* ---- URLs ---- */

/* `location` as seen from `base`, checked: http or https, no user, no fragment; https never leads to http. *same_host: scheme, host and port are
 * base's. The caller frees the result. */
char *url_resolve(const char *base, const char *location, bool *same_host, struct gt_error *err);
/* Adds name=value to a URL's query, encoded. */
void url_add_query(struct gt_buf *url, const char *name, const char *value);
/* "host[:port]" of a URL, for messages and certs.d; "" where there is none. */
char *url_host(const char *url);
/* Seconds of a Retry-After header (a number or an HTTP date); -1 where it makes no sense. */
int64_t http_retry_after(const char *value, int64_t now);
