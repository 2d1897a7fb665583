#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/auto.h"
#include "base/clock.h"
#include "curl.h"

#define HEADERS_MAX (64u << 10)
#define HEADER_MAX (16u << 10)
#define BUFFER (512u << 10)             /* of the body, before the sender is stopped */
#define TRANSFER_BUFFER (256l << 10)
#define POLL_MS 200
#define CONNECT_SECONDS 30l
#define SPEED_WINDOW (60 * GT_SECOND)   /* of waiting ... */
#define SPEED_BYTES 1024                /* ... in which at least so much must come */
#define REST_BYTES (64 << 10)           /* of a reply that nobody reads: so much is worth a connection */
#define REST_TIME (250 * GT_MILLISECOND)

struct connection {
	CURLM *multi;
	CURL *easy;
	struct connection *next;
};

struct http_pool {
	const struct curl_calls *curl;
	pthread_mutex_t lock;           /* guards idle */
	struct connection *idle;
};

struct http_exchange {
	struct http_pool *pool;
	const struct curl_calls *curl;
	struct connection *connection;
	struct http_request request;    /* its pointers are good until exchange_open() returns, but for progress */
	struct curl_slist *headers;
	struct http_reply reply;
	size_t header_bytes, body_sent;
	int64_t body_come;
	bool head_done, finished, paused, sending;
	CURLcode result;
	struct gt_buf body;             /* come, not read yet: from body_at on */
	size_t body_at;
	int64_t moved, waited;          /* bytes in the current window; time spent waiting in it */
	struct gt_error failure;        /* of the source, or of a bound */
	char host[256];
	char reason[CURL_ERROR_SIZE];
};

/* ---- connections ---- */

struct http_pool *http_pool_new(struct gt_error *err)
{
	const struct curl_calls *curl = curl_load(err);
	if (!curl)
		return NULL;
	struct http_pool *pool = gt_xcalloc(1, sizeof *pool);
	pool->curl = curl;
	pthread_mutex_init(&pool->lock, NULL);
	return pool;
}

static void connection_free(const struct curl_calls *curl, struct connection *connection)
{
	if (connection->easy)
		curl->curl_easy_cleanup(connection->easy);
	if (connection->multi)
		curl->curl_multi_cleanup(connection->multi);
	free(connection);
}

void http_pool_free(struct http_pool *pool)
{
	if (!pool)
		return;
	while (pool->idle) {
		struct connection *connection = pool->idle;
		pool->idle = connection->next;
		connection_free(pool->curl, connection);
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static struct connection *connection_get(struct http_pool *pool, struct gt_error *err)
{
	pthread_mutex_lock(&pool->lock);
	struct connection *connection = pool->idle;
	if (connection)
		pool->idle = connection->next;
	pthread_mutex_unlock(&pool->lock);
	if (connection)
		return connection;
	connection = gt_xcalloc(1, sizeof *connection);
	connection->multi = pool->curl->curl_multi_init();
	connection->easy = pool->curl->curl_easy_init();
	if (connection->multi && connection->easy)
		return connection;
	connection_free(pool->curl, connection);
	return gt_fail_null(err, GT_INTERNAL, "libcurl has no memory");
}

static void connection_put(struct http_pool *pool, struct connection *connection)
{
	pool->curl->curl_easy_reset(connection->easy);
	LOCKED(&pool->lock);
	connection->next = pool->idle;
	pool->idle = connection;
}

/* ---- the reply's head ---- */

static void keep(char **slot, const char *value, size_t len)
{
	free(*slot);
	*slot = gt_xstrndup(value, len);
}

static void reply_reset(struct http_reply *reply)
{
	char **texts[] = { &reply->content_type, &reply->location, &reply->digest, &reply->link, &reply->retry_after,
			   &reply->content_range, &reply->range };
	for (size_t i = 0; i < GT_COUNT(texts); i++) {
		free(*texts[i]);
		*texts[i] = NULL;
	}
	gt_buf_free(&reply->challenges);
	reply->status = 0;
	reply->length = -1;
}

static void take_header(struct http_reply *reply, const char *name, size_t name_len, const char *value, size_t len)
{
	const struct {
		const char *name;
		char **slot;
	} known[] = {
		{ "content-type", &reply->content_type }, { "location", &reply->location },
		{ "docker-content-digest", &reply->digest }, { "link", &reply->link },
		{ "retry-after", &reply->retry_after },   { "content-range", &reply->content_range },
		{ "range", &reply->range },
	};
	for (size_t i = 0; i < GT_COUNT(known); i++) {
		if (strlen(known[i].name) == name_len && strncasecmp(name, known[i].name, name_len) == 0)
			keep(known[i].slot, value, len);
	}
	if (name_len == strlen("www-authenticate") && strncasecmp(name, "www-authenticate", name_len) == 0) {
		gt_buf_add(&reply->challenges, value, len);
		gt_buf_char(&reply->challenges, '\n');
	}
	if (name_len == strlen("content-length") && strncasecmp(name, "content-length", name_len) == 0) {
		AUTO_FREE char *text = gt_xstrndup(value, len);
		char *end;
		errno = 0;
		long long number = strtoll(text, &end, 10);
		if (end != text && !*end && !errno && number >= 0)
			reply->length = number;
	}
}

static size_t on_header(char *bytes, size_t one, size_t len, void *arg)
{
	struct http_exchange *exchange = arg;
	struct http_reply *reply = &exchange->reply;
	(void)one;
	exchange->moved += (int64_t)len;
	exchange->header_bytes += len;
	if (exchange->header_bytes > HEADERS_MAX || len > HEADER_MAX || memchr(bytes, '\0', len)) {
		gt_fail(&exchange->failure, GT_INVALID, "%s: the headers of the reply are too large or damaged", exchange->host);
		return 0;
	}
	size_t text = len;
	while (text > 0 && (bytes[text - 1] == '\n' || bytes[text - 1] == '\r'))
		text--;
	if (text > 5 && strncmp(bytes, "HTTP/", 5) == 0) {
		const char *blank = memchr(bytes, ' ', text);
		reply_reset(reply);
		reply->status = blank ? strtol(blank + 1, NULL, 10) : 0;
		return len;
	}
	if (text == 0) {
		exchange->head_done = reply->status >= 200;
		return len;
	}
	const char *colon = memchr(bytes, ':', text);
	if (!colon)
		return len;
	const char *value = colon + 1, *end = bytes + text;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	take_header(reply, bytes, (size_t)(colon - bytes), value, (size_t)(end - value));
	return len;
}

static size_t on_body(char *bytes, size_t one, size_t len, void *arg)
{
	struct http_exchange *exchange = arg;
	(void)one;
	if (exchange->body.len - exchange->body_at >= BUFFER) {
		exchange->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	exchange->moved += (int64_t)len;
	exchange->body_come += (int64_t)len;
	gt_buf_add(&exchange->body, bytes, len);
	return len;
}

static size_t on_send(char *bytes, size_t one, size_t room, void *arg)
{
	struct http_exchange *exchange = arg;
	(void)one;
	if (exchange->request.source) {
		ssize_t got = exchange->request.source(exchange->request.source_arg, bytes, room, &exchange->failure);
		if (got < 0)
			return CURL_READFUNC_ABORT;
		exchange->moved += got;
		return (size_t)got;
	}
	size_t left = exchange->request.body_len - exchange->body_sent, part = left < room ? left : room;
	if (part > 0)
		memcpy(bytes, exchange->request.body + exchange->body_sent, part);
	exchange->body_sent += part;
	exchange->moved += (int64_t)part;
	return part;
}

/* A reply to a request that was sent before on a kept connection may ask for the body again. */
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
	struct http_exchange *exchange = arg;
	if (exchange->request.source || origin != SEEK_SET || offset < 0 || (size_t)offset > exchange->request.body_len)
		return CURL_SEEKFUNC_FAIL;
	exchange->body_sent = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* ---- set-up ---- */

static void add_header(struct http_exchange *exchange, const char *name, const char *value)
{
	if (!value)
		return;
	AUTO_FREE char *line = gt_xasprintf("%s: %s", name, value);
	exchange->headers = exchange->curl->curl_slist_append(exchange->headers, line);
}

static void set_route(struct http_exchange *exchange, const struct http_route *route)
{
	const struct curl_calls *curl = exchange->curl;
	CURL *easy = exchange->connection->easy;
	curl->curl_easy_setopt(easy, CURLOPT_PROXY, route->proxy ? route->proxy : "");
	if (route->no_proxy)
		curl->curl_easy_setopt(easy, CURLOPT_NOPROXY, route->no_proxy);
	curl->curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1l);
	if (route->insecure) {
		curl->curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0l);
		curl->curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0l);
	}
	if (route->ca) { /* besides CURLOPT_CAPATH, the system's own */
		struct curl_blob blob = { route->ca, strlen(route->ca), CURL_BLOB_COPY };
		curl->curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
		curl->curl_easy_setopt(easy, CURLOPT_CAPATH, "/etc/ssl/certs");
	}
	if (route->cert) {
		curl->curl_easy_setopt(easy, CURLOPT_SSLCERT, route->cert);
		curl->curl_easy_setopt(easy, CURLOPT_SSLKEY, route->key);
	}
}

static void set_method(struct http_exchange *exchange, const struct http_request *request)
{
	const struct curl_calls *curl = exchange->curl;
	CURL *easy = exchange->connection->easy;
	exchange->sending = request->source || request->body;
	if (strcmp(request->method, "HEAD") == 0) {
		curl->curl_easy_setopt(easy, CURLOPT_NOBODY, 1l);
	} else if (exchange->sending || strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0) {
		curl->curl_easy_setopt(easy, CURLOPT_UPLOAD, 1l);
		curl->curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
		if (!request->source)
			curl->curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_len);
		curl->curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
		curl->curl_easy_setopt(easy, CURLOPT_READDATA, exchange);
		curl->curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_rewind);
		curl->curl_easy_setopt(easy, CURLOPT_SEEKDATA, exchange);
		curl->curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, TRANSFER_BUFFER);
	} else if (strcmp(request->method, "GET") != 0) {
		curl->curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	}
}

static void set_up(struct http_exchange *exchange, const struct http_request *request)
{
	const struct curl_calls *curl = exchange->curl;
	CURL *easy = exchange->connection->easy;
	curl->curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl->curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl->curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1l);
	curl->curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0l);
	curl->curl_easy_setopt(easy, CURLOPT_HTTP_TRANSFER_DECODING, 1l);
	curl->curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl->curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, TRANSFER_BUFFER);
	curl->curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->reason);
	curl->curl_easy_setopt(easy, CURLOPT_USERAGENT, HTTP_USER_AGENT);
	curl->curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl->curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
	curl->curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl->curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
	curl->curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	set_route(exchange, request->route);
	set_method(exchange, request);
	add_header(exchange, "Accept", request->accept ? request->accept : "*/*");
	add_header(exchange, "Authorization", request->authorization);
	add_header(exchange, "Content-Type", request->content_type);
	exchange->headers = curl->curl_slist_append(exchange->headers, "Expect:");
	if (request->range_from > 0) {
		AUTO_FREE char *range = gt_xasprintf("bytes=%lld-", (long long)request->range_from);
		add_header(exchange, "Range", range);
	}
	curl->curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->headers);
}

/* ---- driving ---- */

static bool worth_another_try(CURLcode code)
{
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_ABORTED_BY_CALLBACK:
	case CURLE_WRITE_ERROR:
		return false;
	default:
		return true;
	}
}

static int failed(struct http_exchange *exchange, bool *again, struct gt_error *err)
{
	if (exchange->failure.kind) {
		if (again)
			*again = false;
		if (err)
			*err = exchange->failure;
		return -1;
	}
	if (again)
		*again = worth_another_try(exchange->result);
	const char *reason = exchange->reason[0] ? exchange->reason : exchange->curl->curl_easy_strerror(exchange->result);
	return gt_fail(err, GT_INTERNAL, "%s: %.300s", exchange->host, reason);
}

static void look_for_end(struct http_exchange *exchange)
{
	int left;
	CURLMsg *message;
	while ((message = exchange->curl->curl_multi_info_read(exchange->connection->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE)
			continue;
		exchange->finished = true;
		exchange->result = message->data.result;
	}
}

/* Time counts only while the other side is waited for. */
static int check_speed(struct http_exchange *exchange, int64_t waited, bool *again, struct gt_error *err)
{
	exchange->waited += waited;
	if (exchange->waited < SPEED_WINDOW)
		return 0;
	bool alive = exchange->moved >= SPEED_BYTES;
	exchange->waited = exchange->moved = 0;
	if (alive)
		return 0;
	if (again)
		*again = true;
	return gt_fail(err, GT_TIMEOUT, "%s: no answer: less than %d bytes came in %d seconds", exchange->host, SPEED_BYTES,
		       (int)(SPEED_WINDOW / GT_SECOND));
}

/* Lets bytes move once; waits for the network where none did. */
static int drive(struct http_exchange *exchange, bool *again, struct gt_error *err)
{
	const struct curl_calls *curl = exchange->curl;
	struct gt_progress *progress = exchange->request.progress;
	int running;
	int64_t moved = exchange->moved;
	if (exchange->paused) {
		exchange->paused = false;
		curl->curl_easy_pause(exchange->connection->easy, CURLPAUSE_CONT);
	}
	curl->curl_multi_perform(exchange->connection->multi, &running);
	look_for_end(exchange);
	if (exchange->finished || exchange->moved != moved)
		return 0;
	if (gt_progress_cancelled(progress))
		return gt_fail(err, GT_CANCELLED, "the client went away");
	int64_t before = gt_monotonic();
	curl->curl_multi_poll(exchange->connection->multi, NULL, 0, POLL_MS, NULL);
	return check_speed(exchange, gt_monotonic() - before, again, err);
}

struct http_exchange *exchange_open(struct http_pool *pool, const struct http_request *request, bool *again, struct gt_error *err)
{
	if (again)
		*again = false;
	struct connection *connection = connection_get(pool, err);
	if (!connection)
		return NULL;
	struct http_exchange *exchange = gt_xcalloc(1, sizeof *exchange);
	exchange->pool = pool;
	exchange->curl = pool->curl;
	exchange->connection = connection;
	exchange->request = *request;
	exchange->reply.length = -1;
	AUTO_FREE char *host = url_host(request->url);
	snprintf(exchange->host, sizeof exchange->host, "%s", host);
	set_up(exchange, request);
	pool->curl->curl_multi_add_handle(connection->multi, connection->easy);
	/* a reply that comes before all is sent waits for the rest: the connection may be of use after it */
	while (!exchange->finished && !exchange->paused && (!exchange->head_done || exchange->sending)) {
		if (drive(exchange, again, err) < 0) {
			exchange_close(exchange);
			return NULL;
		}
		if (exchange->head_done && exchange->reply.status >= 300)
			break;
	}
	bool cut = exchange->sending && exchange->finished && exchange->result != CURLE_OK && exchange->reply.status < 300;
	if (!exchange->head_done || exchange->failure.kind || cut) {
		failed(exchange, again, err);
		exchange_close(exchange);
		return NULL;
	}
	return exchange;
}

const struct http_reply *exchange_reply(const struct http_exchange *exchange)
{
	return &exchange->reply;
}

ssize_t exchange_read(struct http_exchange *exchange, void *bytes, size_t room, bool *again, struct gt_error *err)
{
	struct gt_buf *body = &exchange->body;
	if (again)
		*again = false;
	while (exchange->body_at == body->len) {
		gt_buf_reset(body);
		exchange->body_at = 0;
		if (exchange->finished)
			return exchange->result == CURLE_OK ? 0 : failed(exchange, again, err);
		if (drive(exchange, again, err) < 0)
			return -1;
	}
	size_t left = body->len - exchange->body_at, part = left < room ? left : room;
	memcpy(bytes, body->data + exchange->body_at, part);
	exchange->body_at += part;
	return (ssize_t)part;
}

/* A connection can be used again once its reply has come to an end: what little is on its way is waited for (the body of a redirect, of a refusal). */
static void take_rest(struct http_exchange *exchange)
{
	int64_t rest = exchange->reply.length - exchange->body_come, until = gt_monotonic() + REST_TIME;
	if (exchange->sending || exchange->failure.kind || !exchange->head_done || rest < 0 || rest > REST_BYTES)
		return;
	while (!exchange->finished && !gt_progress_cancelled(exchange->request.progress) && gt_monotonic() < until) {
		if (drive(exchange, NULL, NULL) < 0)
			return;
	}
}

void exchange_close(struct http_exchange *exchange)
{
	if (!exchange)
		return;
	const struct curl_calls *curl = exchange->curl;
	take_rest(exchange);
	curl->curl_multi_remove_handle(exchange->connection->multi, exchange->connection->easy);
	connection_put(exchange->pool, exchange->connection);
	curl->curl_slist_free_all(exchange->headers);
	reply_reset(&exchange->reply);
	gt_buf_free(&exchange->body);
	free(exchange);
}

int exchange_slurp(struct http_exchange *exchange, size_t max, struct gt_buf *out, bool *again, struct gt_error *err)
{
	for (;;) {
		char *room = gt_buf_reserve(out, 16384);
		ssize_t got = exchange_read(exchange, room, 16384, again, err);
		if (got <= 0)
			return (int)got;
		out->len += (size_t)got;
		out->data[out->len] = '\0';
		if (out->len > max)
			return gt_fail(err, GT_TOO_LARGE, "%s: the reply is larger than %zu bytes", exchange->host, max);
	}
}

/* ---- URLs ---- */

static char *part_of(const struct curl_calls *curl, CURLU *url, CURLUPart part, unsigned flags)
{
	char *text = NULL;
	if (curl->curl_url_get(url, part, &text, flags) != CURLUE_OK)
		return gt_xstrdup("");
	char *copy = gt_xstrdup(text);
	curl->curl_free(text);
	return copy;
}

/* scheme://host:port, the port always there. */
static char *origin_of(const struct curl_calls *curl, CURLU *url)
{
	AUTO_FREE char *scheme = part_of(curl, url, CURLUPART_SCHEME, 0), *host = part_of(curl, url, CURLUPART_HOST, 0);
	AUTO_FREE char *port = part_of(curl, url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	return gt_xasprintf("%s://%s:%s", scheme, host, port);
}

static char *resolve(const struct curl_calls *curl, CURLU *url, const char *location, bool *same_host, struct gt_error *err)
{
	AUTO_FREE char *before = origin_of(curl, url);
	if (curl->curl_url_set(url, CURLUPART_URL, location, 0) != CURLUE_OK)
		return gt_fail_null(err, GT_INVALID, "redirected to \"%.200s\", which is no URL", location);
	AUTO_FREE char *after = origin_of(curl, url);
	AUTO_FREE char *user = part_of(curl, url, CURLUPART_USER, 0), *text = part_of(curl, url, CURLUPART_URL, 0);
	if (strncmp(after, "http://", 7) != 0 && strncmp(after, "https://", 8) != 0)
		return gt_fail_null(err, GT_DENIED, "redirected to %.200s: only http and https are followed", location);
	if (strncmp(before, "https://", 8) == 0 && strncmp(after, "https://", 8) != 0)
		return gt_fail_null(err, GT_DENIED, "redirected from https to %.200s, which is not encrypted: refused", location);
	if (user[0])
		return gt_fail_null(err, GT_DENIED, "redirected to a URL with a user name in it: refused");
	if (same_host)
		*same_host = strcasecmp(before, after) == 0;
	return take(text);
}

char *url_resolve(const char *base, const char *location, bool *same_host, struct gt_error *err)
{
	const struct curl_calls *curl = curl_load(err);
	if (!curl)
		return NULL;
	CURLU *url = curl->curl_url();
	char *result = NULL;
	if (curl->curl_url_set(url, CURLUPART_URL, base, 0) != CURLUE_OK)
		gt_fail(err, GT_INVALID, "%.200s is no URL", base);
	else
		result = resolve(curl, url, location, same_host, err);
	curl->curl_url_cleanup(url);
	return result;
}

char *url_host(const char *url)
{
	const char *from = strstr(url, "://");
	from = from ? from + 3 : url;
	return gt_xstrndup(from, strcspn(from, "/?#"));
}

void url_add_query(struct gt_buf *url, const char *name, const char *value)
{
	gt_buf_printf(url, "%c%s=", url->data && strchr(url->data, '?') ? '&' : '?', name);
	for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._~/:", *p);
		if (plain)
			gt_buf_char(url, (char)*p);
		else
			gt_buf_printf(url, "%%%02X", *p);
	}
}

int64_t http_retry_after(const char *value, int64_t now)
{
	if (!value)
		return -1;
	char *end;
	long long seconds = strtoll(value, &end, 10);
	if (end != value && !*end)
		return seconds < 0 ? -1 : seconds > 86400 * 365 ? 86400 * 365 : seconds;
	struct tm tm = { 0 };
	const char *rest = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	if (!rest || *rest)
		return -1;
	int64_t at = (int64_t)timegm(&tm) - now / GT_SECOND;
	return at < 0 ? 0 : at;
}
