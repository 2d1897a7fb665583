#include "http.h"

#include <ctype.h>
#include <errno.h>
#include <http_parser.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"

enum { RAW_ROOM = 128 << 10, MAX_HEADERS = 200, MAX_HEADER_BYTES = 256 << 10 };

struct http_client {
	char *address;                  /* as the user wrote it */
	char *unix_path;                /* or NULL */
	char *host, *port;
	char *api_version;
	bool tls;
	char *ca, *cert, *key;
	bool verify;
	struct conn idle;
};

struct header {
	struct gt_buf name, value;
};

struct http_response {
	struct http_client *client;
	struct conn conn;
	http_parser parser;
	bool upgrade_asked, head;
	bool headers_done, done, reusable;
	struct header *headers;
	size_t header_count, header_bytes;
	bool in_value;                  /* of a header, while parsing */
	struct gt_buf body;             /* parsed */
	bool handed;                    /* body was handed out: drop it before the next piece */
	struct gt_buf early;            /* raw bytes after an upgrade */
	char raw[RAW_ROOM];
};

/* ---- the address ---- */

static int set_tcp(struct http_client *client, const char *rest, struct gt_error *err)
{
	const char *end = strchr(rest, '/');
	AUTO_FREE char *text = end ? gt_xstrndup(rest, (size_t)(end - rest)) : gt_xstrdup(rest);
	char *host = text, *port = NULL;
	if (end && end[1] != '\0')
		return gt_fail(err, GT_INVALID, "invalid host \"%s\": a path is not supported", client->address);
	if (*text == '[') {
		char *close = strchr(text, ']');
		if (!close)
			return gt_fail(err, GT_INVALID, "invalid host \"%s\": ']' is missing", client->address);
		*close = '\0';
		host = text + 1;
		if (close[1] == ':')
			port = close + 2;
	} else if ((port = strrchr(text, ':'))) {
		*port++ = '\0';
	}
	client->host = gt_xstrdup(*host ? host : "localhost");
	client->port = gt_xstrdup(port && *port ? port : client->tls ? "2376" : "2375");
	return 0;
}

static int set_address(struct http_client *client, struct gt_error *err)
{
	const char *text = client->address;
	if (strncmp(text, "unix://", 7) == 0) {
		client->tls = false;
		client->unix_path = gt_xstrdup(text[7] ? text + 7 : "/run/gantry/gantry.sock");
		return 0;
	}
	if (strncmp(text, "tcp://", 6) == 0)
		return set_tcp(client, text + 6, err);
	if (strncmp(text, "http://", 7) == 0)
		return set_tcp(client, text + 7, err);
	if (strncmp(text, "https://", 8) == 0) {
		client->tls = true;
		return set_tcp(client, text + 8, err);
	}
	if (strstr(text, "://"))
		return gt_fail(err, GT_INVALID, "invalid host \"%s\": give unix://PATH or tcp://HOST:PORT", text);
	if (*text == '/') {
		client->tls = false;
		client->unix_path = gt_xstrdup(text);
		return 0;
	}
	return set_tcp(client, text, err);
}

struct http_client *http_client_new(const struct http_address *address, struct gt_error *err)
{
	struct http_client *client = gt_xcalloc(1, sizeof *client);
	client->address = gt_xstrdup(address->host);
	client->api_version = gt_xstrdup(address->api_version);
	client->tls = address->tls;
	client->ca = gt_xstrdup(address->files.ca);
	client->cert = gt_xstrdup(address->files.cert);
	client->key = gt_xstrdup(address->files.key);
	client->verify = address->files.verify;
	client->idle.fd = -1;
	if (set_address(client, err) < 0) {
		http_client_free(client);
		return NULL;
	}
	return client;
}

void http_client_free(struct http_client *client)
{
	if (!client)
		return;
	conn_close(&client->idle);
	free(client->address);
	free(client->unix_path);
	free(client->host);
	free(client->port);
	free(client->api_version);
	free(client->ca);
	free(client->cert);
	free(client->key);
	free(client);
}

const char *http_client_host(const struct http_client *client)
{
	return client->address;
}

static int no_daemon(const struct http_client *client, struct gt_error *err)
{
	struct gt_error why = *err;
	const char *remedy =
		"Is gantryd running? Start it with 'systemctl start gantryd', or name another with -H or GANTRY_HOST.";
	if (client->unix_path && (why.errnum == EACCES || why.errnum == EPERM))
		remedy = "Run as root, or as a member of the group that owns the socket.";
	else if (client->tls && why.errnum == 0)
		remedy = "Check --tlscacert, --tlscert and --tlskey.";
	return gt_fail(err, GT_UNAVAILABLE, "Cannot connect to the gantry daemon at %s. %s (%s)", client->address, remedy,
		       why.message);
}

static int dial(struct http_client *client, struct conn *conn, struct gt_error *err)
{
	int done;
	if (client->unix_path) {
		done = conn_unix(conn, client->unix_path, err);
	} else {
		struct tls_files files = { client->ca, client->cert, client->key, client->verify };
		done = conn_tcp(conn, client->host, client->port, client->tls ? &files : NULL, err);
	}
	return done < 0 ? no_daemon(client, err) : 0;
}

/* The idle connection, where the daemon has not closed it meanwhile. */
static bool take_idle(struct http_client *client, struct conn *conn)
{
	if (client->idle.fd < 0)
		return false;
	*conn = client->idle;
	client->idle = (struct conn){ .fd = -1 };
	struct pollfd look = { .fd = conn->fd, .events = POLLIN };
	if (poll(&look, 1, 0) == 0)
		return true;
	conn_close(conn);
	return false;
}

/* ---- the answer ---- */

static struct http_response *of(http_parser *parser)
{
	return parser->data;
}

static int on_field(http_parser *parser, const char *at, size_t len)
{
	struct http_response *response = of(parser);
	response->header_bytes += len;
	if (response->header_bytes > MAX_HEADER_BYTES)
		return 1;
	if (response->in_value || response->header_count == 0) {
		if (response->header_count == MAX_HEADERS)
			return 1;
		response->headers = gt_xrealloc(response->headers,
						(response->header_count + 1) * sizeof *response->headers);
		response->headers[response->header_count++] = (struct header){ 0 };
		response->in_value = false;
	}
	gt_buf_add(&response->headers[response->header_count - 1].name, at, len);
	return 0;
}

static int on_value(http_parser *parser, const char *at, size_t len)
{
	struct http_response *response = of(parser);
	response->header_bytes += len;
	if (response->header_bytes > MAX_HEADER_BYTES || response->header_count == 0)
		return 1;
	response->in_value = true;
	gt_buf_add(&response->headers[response->header_count - 1].value, at, len);
	return 0;
}

static int on_headers_complete(http_parser *parser)
{
	struct http_response *response = of(parser);
	response->headers_done = true;
	if (response->upgrade_asked && (parser->status_code == 101 || parser->status_code == 200))
		return 2; /* what follows is a raw stream */
	return response->head ? 1 : 0;
}

static int on_body(http_parser *parser, const char *at, size_t len)
{
	gt_buf_add(&of(parser)->body, at, len);
	return 0;
}

static int on_complete(http_parser *parser)
{
	struct http_response *response = of(parser);
	response->done = true;
	response->reusable = !parser->upgrade && http_should_keep_alive(parser);
	return 0;
}

static const http_parser_settings settings = {
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

/* Reads once from the connection and parses what came. */
static int feed(struct http_response *response, struct gt_error *err)
{
	ssize_t got = conn_read(&response->conn, response->raw, sizeof response->raw);
	if (got < 0)
		return gt_fail_sys(err, GT_UNAVAILABLE, errno, "the connection to the daemon broke");
	size_t used = http_parser_execute(&response->parser, &settings, response->raw, (size_t)got);
	if (response->parser.upgrade) {
		gt_buf_add(&response->early, response->raw + used, (size_t)got - used);
		return 0;
	}
	enum http_errno bad = HTTP_PARSER_ERRNO(&response->parser);
	if (got == 0 && !response->done)
		return gt_fail(err, GT_UNAVAILABLE, "the daemon closed the connection in the middle of its answer");
	if (bad != HPE_OK && !response->done)
		return gt_fail(err, GT_INTERNAL, "what the daemon at %s answered is not HTTP: %s",
			       response->client->address, http_errno_description(bad));
	if (used < (size_t)got)
		response->reusable = false; /* bytes beyond the answer */
	return 0;
}

int http_status(const struct http_response *response)
{
	return (int)response->parser.status_code;
}

const char *http_header(const struct http_response *response, const char *name)
{
	for (size_t i = 0; i < response->header_count; i++) {
		if (response->headers[i].name.data && strcasecmp(response->headers[i].name.data, name) == 0)
			return response->headers[i].value.data ? response->headers[i].value.data : "";
	}
	return NULL;
}

int http_poll_fd(struct http_response *response)
{
	if (response->done || (response->body.len > 0 && !response->handed) || conn_pending(&response->conn))
		return -1;
	return response->conn.fd;
}

ssize_t http_next_timed(struct http_response *response, const char **bytes, int timeout_ms, bool *idle,
			struct gt_error *err)
{
	*idle = false;
	if (response->parser.upgrade)
		return 0;
	if (response->handed)
		gt_buf_reset(&response->body);
	response->handed = false;
	while (response->body.len == 0 && !response->done) {
		struct pollfd look = { .fd = http_poll_fd(response), .events = POLLIN };
		if (timeout_ms >= 0 && look.fd >= 0 && poll(&look, 1, timeout_ms) == 0) {
			*idle = true;
			return 0;
		}
		if (feed(response, err) < 0)
			return -1;
	}
	*bytes = response->body.data;
	response->handed = response->body.len > 0;
	return (ssize_t)response->body.len;
}

ssize_t http_next(struct http_response *response, const char **bytes, struct gt_error *err)
{
	bool idle;
	return http_next_timed(response, bytes, -1, &idle, err);
}

int http_read_all(struct http_response *response, size_t max, struct gt_buf *out, struct gt_error *err)
{
	const char *bytes;
	ssize_t got;
	while ((got = http_next(response, &bytes, err)) > 0) {
		if (out->len + (size_t)got > max)
			return gt_fail(err, GT_TOO_LARGE, "the daemon's answer is larger than %zu bytes", max);
		gt_buf_add(out, bytes, (size_t)got);
	}
	return got < 0 ? -1 : 0;
}

struct conn http_hijack(struct http_response *response, struct gt_buf *early)
{
	struct conn conn = response->conn;
	response->conn = (struct conn){ .fd = -1 };
	if (response->early.len > 0)
		gt_buf_add(early, response->early.data, response->early.len);
	return conn;
}

void http_close(struct http_response *response)
{
	if (!response)
		return;
	if (response->done && response->reusable && response->client->idle.fd < 0)
		response->client->idle = response->conn;
	else
		conn_close(&response->conn);
	for (size_t i = 0; i < response->header_count; i++) {
		gt_buf_free(&response->headers[i].name);
		gt_buf_free(&response->headers[i].value);
	}
	free(response->headers);
	gt_buf_free(&response->body);
	gt_buf_free(&response->early);
	free(response);
}

/* ---- the request ---- */

static void write_head(struct gt_buf *out, const struct http_client *client, const struct http_request *request,
		       size_t json_len)
{
	gt_buf_printf(out, "%s /v%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: gantry/%s\r\n", request->method,
		      client->api_version, request->path, client->host ? client->host : "gantry", GANTRY_VERSION);
	for (size_t i = 0; request->headers && i < request->headers->count; i++)
		gt_buf_printf(out, "%s\r\n", request->headers->items[i]);
	if (request->upgrade)
		gt_buf_str(out, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
	if (request->source)
		gt_buf_printf(out, "Content-Type: %s\r\nTransfer-Encoding: chunked\r\n",
			      request->content_type ? request->content_type : "application/x-tar");
	else if (request->json)
		gt_buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", json_len);
	else if (strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0)
		gt_buf_str(out, "Content-Length: 0\r\n");
	gt_buf_str(out, "\r\n");
}

/* Sends the body piece by piece; stops early where the daemon answers before its end (it refuses). */
static int send_source(struct http_response *response, const struct http_request *request, struct gt_error *err)
{
	for (;;) {
		const char *bytes;
		ssize_t len = request->source(request->source_arg, &bytes, err);
		if (len < 0)
			return -1;
		struct pollfd look = { .fd = response->conn.fd, .events = POLLIN };
		if (len > 0 && poll(&look, 1, 0) > 0 && !response->conn.tls)
			return 0;
		char size[24];
		int used = snprintf(size, sizeof size, "%zx\r\n", (size_t)len);
		if (conn_write_all(&response->conn, size, (size_t)used) < 0 ||
		    (len > 0 && conn_write_all(&response->conn, bytes, (size_t)len) < 0) ||
		    conn_write_all(&response->conn, "\r\n", 2) < 0) {
			/* It hung up; perhaps it said why. */
			if (errno == EPIPE || errno == ECONNRESET)
				return 0;
			return gt_fail_sys(err, GT_UNAVAILABLE, errno, "cannot send to the daemon");
		}
		if (len == 0)
			return 0;
	}
}

/* A daemon that hangs up without an answer, on tcp, most often wanted TLS or a certificate. */
static int hung_up(const struct http_client *client, struct gt_error *err)
{
	const char *remedy = client->tls ? "Does it want a client certificate (--tlscert, --tlskey)?"
					 : "Does it want TLS (--tlsverify)?";
	struct gt_error why = *err;
	if (client->unix_path)
		return -1;
	return gt_fail(err, why.kind, "the daemon at %s gave no answer (%s). %s", client->address, why.message, remedy);
}

static int exchange(struct http_response *response, const struct http_request *request, const struct gt_buf *head,
		    struct gt_error *err)
{
	if (conn_write_all(&response->conn, head->data, head->len) < 0) {
		gt_fail_sys(err, GT_UNAVAILABLE, errno, "cannot send to the daemon");
		return hung_up(response->client, err);
	}
	if (request->source && send_source(response, request, err) < 0)
		return -1;
	while (!response->headers_done) {
		if (feed(response, err) < 0)
			return response->parser.nread == 0 ? hung_up(response->client, err) : -1;
	}
	return 0;
}

static struct http_response *send_once(struct http_client *client, const struct http_request *request,
				       struct gt_error *err)
{
	AUTO_FREE char *json = request->json ? json_dumps(request->json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	AUTO_BUF struct gt_buf head = { 0 };
	write_head(&head, client, request, json ? strlen(json) : 0);
	if (json)
		gt_buf_str(&head, json);
	for (;;) {
		struct http_response *response = gt_xcalloc(1, sizeof *response);
		response->client = client;
		response->upgrade_asked = request->upgrade;
		response->head = strcmp(request->method, "HEAD") == 0;
		http_parser_init(&response->parser, HTTP_RESPONSE);
		response->parser.data = response;
		bool reused = take_idle(client, &response->conn);
		if (!reused && dial(client, &response->conn, err) < 0) {
			response->conn.fd = -1;
			http_close(response);
			return NULL;
		}
		if (exchange(response, request, &head, err) == 0)
			return response;
		bool answered = response->parser.nread > 0 || response->headers_done;
		conn_close(&response->conn);
		response->done = false;
		http_close(response);
		/* A kept connection may have been closed under us: ask once more on a fresh one. */
		if (!reused || answered || request->source)
			return NULL;
	}
}

static bool parse_version(const char *text, long *major, long *minor)
{
	char *end;
	*major = strtol(text, &end, 10);
	if (end == text || *end != '.')
		return false;
	text = end + 1;
	*minor = strtol(text, &end, 10);
	return end != text && *end == '\0';
}

/* The version the daemon offers, where it refused ours as too new: "1.41". */
static bool older_version(struct http_client *client, struct http_response *response)
{
	const char *version = http_header(response, "Api-Version");
	long major, minor, ours_major, ours_minor;
	if (http_status(response) != 400 || !version || !parse_version(version, &major, &minor) ||
	    !parse_version(client->api_version, &ours_major, &ours_minor))
		return false;
	if (major > ours_major || (major == ours_major && minor >= ours_minor))
		return false;
	free(client->api_version);
	client->api_version = gt_xasprintf("%ld.%ld", major, minor);
	return true;
}

struct http_response *http_send(struct http_client *client, const struct http_request *request, struct gt_error *err)
{
	struct gt_error unasked = { 0 };
	if (!err)
		err = &unasked;
	struct http_response *response = send_once(client, request, err);
	if (response && !request->source && older_version(client, response)) {
		http_close(response);
		return send_once(client, request, err);
	}
	return response;
}
