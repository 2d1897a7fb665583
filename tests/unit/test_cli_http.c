/*
 * test_cli_http.c - the HTTP client against a scripted daemon: bodies however they are cut, kept connections that died,
 * upgrades, refused uploads, and answers that are no HTTP.
 */
#include "testing.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../cli/http.h"
#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"

/* One exchange of the script. */
struct exchange {
	const char *answer;
	size_t piece;                   /* sent in pieces of so many bytes; 0: at once */
	bool hang_up;                   /* the connection ends after it */
	bool refuse;                    /* answer before the body is read */
	bool echo;                      /* after an upgrade: send back what comes, until its end */
};

struct script {
	const struct exchange *exchanges;
	size_t count;
	int listener;
	struct gt_buf requests;         /* what came */
	int connections;
	pthread_t thread;
	char *path, *host;
};

static bool read_head(int fd, struct gt_buf *head)
{
	char c;
	while (head->len < 4 || memcmp(head->data + head->len - 4, "\r\n\r\n", 4) != 0) {
		if (read(fd, &c, 1) != 1)
			return false;
		gt_buf_char(head, c);
	}
	return true;
}

static void play(int fd, const struct exchange *exchange)
{
	size_t len = strlen(exchange->answer), piece = exchange->piece ? exchange->piece : len;
	for (size_t at = 0; at < len; at += piece) {
		size_t part = len - at < piece ? len - at : piece;
		if (send(fd, exchange->answer + at, part, MSG_NOSIGNAL) < 0)
			return;
		if (exchange->piece)
			usleep(200);
	}
	char bytes[512];
	ssize_t got;
	while (exchange->echo && (got = read(fd, bytes, sizeof bytes)) > 0)
		(void)!send(fd, bytes, (size_t)got, MSG_NOSIGNAL);
}

static void *serve(void *arg)
{
	struct script *script = arg;
	size_t next = 0;
	while (next < script->count) {
		AUTO_CLOSE int fd = accept4(script->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return NULL;
		script->connections++;
		while (next < script->count) {
			AUTO_BUF struct gt_buf head = { 0 };
			if (!read_head(fd, &head))
				break;
			gt_buf_add(&script->requests, head.data, head.len);
			const struct exchange *exchange = &script->exchanges[next++];
			play(fd, exchange);
			if (exchange->refuse)
				shutdown(fd, SHUT_WR);
			if (exchange->hang_up || exchange->echo)
				break;
		}
	}
	return NULL;
}

static struct http_client *begin(struct script *script, const char *dir, const struct exchange *exchanges, size_t count)
{
	*script = (struct script){ .exchanges = exchanges, .count = count };
	script->path = gt_xasprintf("%s/socket", dir);
	script->host = gt_xasprintf("unix://%s", script->path);
	unlink(script->path);
	script->listener = gt_unix_listen(script->path, SOCK_STREAM, 0600, NULL);
	assert_true(script->listener >= 0);
	assert_int_equal(pthread_create(&script->thread, NULL, serve, script), 0);
	struct http_address address = { .host = script->host, .api_version = "1.50" };
	struct http_client *client = http_client_new(&address, NULL);
	assert_non_null(client);
	return client;
}

static void end(struct script *script, struct http_client *client)
{
	http_client_free(client);
	shutdown(script->listener, SHUT_RDWR);
	pthread_join(script->thread, NULL);
	close(script->listener);
	gt_buf_free(&script->requests);
	free(script->path);
	free(script->host);
}

/* GET path; the body, or NULL with err. */
static char *get(struct http_client *client, const char *path, int *status, struct gt_error *err)
{
	struct http_request request = { .method = "GET", .path = path };
	AUTO_RESPONSE struct http_response *response = http_send(client, &request, err);
	AUTO_BUF struct gt_buf body = { 0 };
	if (!response || http_read_all(response, 1 << 20, &body, err) < 0)
		return NULL;
	*status = http_status(response);
	return gt_buf_take(&body);
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void bodies_arrive_whole_however_they_are_cut(void **state)
{
	static const char *const answers[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
		CHUNKED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world",
	};
	for (size_t i = 0; i < GT_COUNT(answers); i++) {
		for (size_t piece = 0; piece < 4; piece++) {
			struct exchange exchange = { .answer = answers[i], .piece = piece, .hang_up = true };
			struct script script;
			struct http_client *client = begin(&script, *state, &exchange, 1);
			int status = 0;
			AUTO_FREE char *body = get(client, "/x?a=b", &status, NULL);
			assert_string_equal(body, "hello world");
			assert_int_equal(status, 200);
			end(&script, client);
		}
	}
}

static void a_connection_is_kept_and_one_that_died_is_replaced(void **state)
{
	static const struct exchange exchanges[] = {
		{ .answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" },
		{ .answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", .hang_up = true },
		{ .answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc" },
	};
	struct script script;
	struct http_client *client = begin(&script, *state, exchanges, 3);
	for (int i = 0; i < 3; i++) {
		int status;
		AUTO_FREE char *body = get(client, "/", &status, NULL);
		assert_non_null(body);
		assert_int_equal(body[0], 'a' + i);
		if (i == 1)
			usleep(20000);
	}
	assert_int_equal(script.connections, 2);
	end(&script, client);
}

static void an_older_daemon_is_asked_in_its_version(void **state)
{
	static const struct exchange exchanges[] = {
		{ .answer = "HTTP/1.1 400 Bad Request\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n" },
		{ .answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" },
	};
	struct script script;
	struct http_client *client = begin(&script, *state, exchanges, 2);
	int status;
	AUTO_FREE char *body = get(client, "/info", &status, NULL);
	assert_string_equal(body, "ok");
	assert_non_null(strstr(script.requests.data, "GET /v1.50/info"));
	assert_non_null(strstr(script.requests.data, "GET /v1.41/info"));
	end(&script, client);
}

static void an_upgrade_gives_a_stream_both_ways_with_what_came_early(void **state)
{
	static const struct exchange exchange = {
		.answer = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ", .echo = true
	};
	struct script script;
	struct http_client *client = begin(&script, *state, &exchange, 1);
	struct http_request request = { .method = "POST", .path = "/attach", .upgrade = true };
	struct http_response *response = http_send(client, &request, NULL);
	assert_non_null(response);
	AUTO_BUF struct gt_buf all = { 0 };
	struct conn conn = http_hijack(response, &all);
	http_close(response);
	assert_int_equal(conn_write_all(&conn, "late", 4), 0);
	conn_half_close(&conn);
	char bytes[64];
	ssize_t got;
	while ((got = conn_read(&conn, bytes, sizeof bytes)) > 0)
		gt_buf_add(&all, bytes, (size_t)got);
	assert_string_equal(all.data, "early late");
	conn_close(&conn);
	end(&script, client);
}

static void a_refused_upgrade_is_a_plain_answer(void **state)
{
	static const struct exchange exchange = { .answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone" };
	struct script script;
	struct http_client *client = begin(&script, *state, &exchange, 1);
	struct http_request request = { .method = "POST", .path = "/attach", .upgrade = true };
	struct http_response *response = http_send(client, &request, NULL);
	AUTO_BUF struct gt_buf body = { 0 };
	assert_int_equal(http_status(response), 404);
	assert_int_equal(http_read_all(response, 100, &body, NULL), 0);
	assert_string_equal(body.data, "none");
	http_close(response);
	end(&script, client);
}

static ssize_t endless(void *arg, const char **bytes, struct gt_error *err)
{
	static const char zeros[64 << 10];
	size_t *sent = arg;
	(void)err;
	*bytes = zeros;
	*sent += sizeof zeros;
	return *sent < (1U << 30) ? (ssize_t)sizeof zeros : 0;
}

static void an_upload_that_is_refused_ends_early_with_the_reason(void **state)
{
	static const struct exchange exchange = {
		.answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", .refuse = true, .hang_up = true
	};
	struct script script;
	struct http_client *client = begin(&script, *state, &exchange, 1);
	size_t sent = 0;
	struct http_request request = { .method = "PUT", .path = "/archive", .source = endless, .source_arg = &sent };
	struct gt_error err = { 0 };
	struct http_response *response = http_send(client, &request, &err);
	/* The daemon may be gone before its words are read; then the broken connection is told. */
	if (response)
		assert_int_equal(http_status(response), 413);
	else
		assert_int_equal(err.kind, GT_UNAVAILABLE);
	assert_true(sent < (1U << 30));
	http_close(response);
	end(&script, client);
}

static void answers_that_are_no_http_or_end_too_soon_are_errors(void **state)
{
	static const char *const answers[] = {
		"", "\1\2\3", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", CHUNKED "5\r\nhel", CHUNKED "xyz\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\n",
	};
	for (size_t i = 0; i < GT_COUNT(answers); i++) {
		struct exchange exchange = { .answer = answers[i], .hang_up = true };
		struct script script;
		struct http_client *client = begin(&script, *state, &exchange, 1);
		struct gt_error err = { 0 };
		int status;
		AUTO_FREE char *body = get(client, "/", &status, &err);
		assert_null(body);
		assert_true(err.message[0] != '\0');
		end(&script, client);
	}
}

static void headers_are_bounded(void **state)
{
	AUTO_BUF struct gt_buf answer = { 0 };
	gt_buf_str(&answer, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 1000; i++)
		gt_buf_printf(&answer, "X-%d: y\r\n", i);
	gt_buf_str(&answer, "\r\n");
	struct exchange exchange = { .answer = answer.data, .hang_up = true };
	struct script script;
	struct http_client *client = begin(&script, *state, &exchange, 1);
	int status;
	assert_null(get(client, "/", &status, NULL));
	end(&script, client);
}

static void addresses_are_checked(void **state)
{
	(void)state;
	static const struct {
		const char *host;
		bool good;
	} cases[] = {
		{ "unix:///x", true }, { "unix://", true }, { "tcp://h:1", true }, { "tcp://[::1]:2", true }, { "tcp://h", true }, { "/run/x", true },
		{ "h:2375", true }, { "https://h:1/", true }, { "ftp://x", false }, { "tcp://[::1:2", false }, { "tcp://h:1/path", false },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct http_address address = { .host = cases[i].host, .api_version = "1.50" };
		struct http_client *client = http_client_new(&address, NULL);
		assert_int_equal(client != NULL, cases[i].good);
		http_client_free(client);
	}
}

static void no_daemon_is_told_with_the_address(void **state)
{
	(void)state;
	struct gt_error err = { 0 };
	struct http_address address = { .host = "unix:///no/such/socket", .api_version = "1.50" };
	struct http_client *client = http_client_new(&address, NULL);
	int status;
	assert_null(get(client, "/", &status, &err));
	assert_non_null(strstr(err.message, "/no/such/socket"));
	assert_non_null(strstr(err.message, "gantryd"));
	http_client_free(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_arrive_whole_however_they_are_cut),
		cmocka_unit_test(a_connection_is_kept_and_one_that_died_is_replaced),
		cmocka_unit_test(an_older_daemon_is_asked_in_its_version),
		cmocka_unit_test(an_upgrade_gives_a_stream_both_ways_with_what_came_early),
		cmocka_unit_test(a_refused_upgrade_is_a_plain_answer),
		cmocka_unit_test(an_upload_that_is_refused_ends_early_with_the_reason),
		cmocka_unit_test(answers_that_are_no_http_or_end_too_soon_are_errors),
		cmocka_unit_test(headers_are_bounded),
		cmocka_unit_test(addresses_are_checked),
		cmocka_unit_test(no_daemon_is_told_with_the_address),
	};
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
