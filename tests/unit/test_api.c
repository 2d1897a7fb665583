#include "testing.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/internal.h"
#include "api/query.h"
#include "api/router.h"
#include "base/auto.h"
#include "base/fd.h"

/* ---- paths ---- */

static void paths_lead_to_rows(void **state)
{
	(void)state;
	static const struct {
		const char *method, *path, *pattern, *segment;
		int version;
	} CASES[] = {
		{ "GET", "/_ping", "/_ping", NULL, 50 },
		{ "HEAD", "/v1.24/_ping", "/_ping", NULL, 24 },
		{ "GET", "/version", "/version", NULL, 50 },
		{ "GET", "/v1.41/version?x=/y", "/version", NULL, 41 },
		{ "GET", "/containers/json?all=1", "/containers/json", NULL, 50 },
		{ "GET", "/containers/web/json", "/containers/{id}/json", "web", 50 },
		{ "DELETE", "/containers/json", "/containers/{id}", "json", 50 },
		{ "DELETE", "/v1.50/containers/a%20b", "/containers/{id}", "a b", 50 },
		{ "POST", "/containers/prune", "/containers/prune", NULL, 50 },
		{ "GET", "/images/busybox/json", "/images/{name...}/json", "busybox", 50 },
		{ "GET", "/images/localhost:5000/a/b:1/json", "/images/{name...}/json", "localhost:5000/a/b:1", 50 },
		{ "GET", "/images/json", "/images/json", NULL, 50 },
		{ "GET", "/images/json/json", "/images/{name...}/json", "json", 50 },
		{ "GET", "/images/a%2Fb%3A1/history", "/images/{name...}/history", "a/b:1", 50 },
		{ "DELETE", "/images/a/json", "/images/{name...}", "a/json", 50 },
		{ "DELETE", "/images/load", "/images/{name...}", "load", 50 },
		{ "GET", "/images/get?names=a", "/images/get", NULL, 50 },
		{ "GET", "/images/a/get", "/images/{name...}/get", "a", 50 },
		{ "POST", "/networks/create", "/networks/create", NULL, 50 },
		{ "GET", "/networks/create", "/networks/{id}", "create", 50 },
		{ "PUT", "/containers/a/archive?path=/", "/containers/{id}/archive", "a", 50 },
		{ "GET", "/distribution/a/b/json", "/distribution/{name...}/json", "a/b", 50 },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct route_match match;
		char allow[ROUTE_ALLOW_ROOM];
		struct gt_error err = { 0 };
		if (route_find(CASES[i].method, CASES[i].path, &match, allow, &err) < 0)
			fail_msg("%s %s: %s", CASES[i].method, CASES[i].path, err.message);
		assert_string_equal(match.route->pattern, CASES[i].pattern);
		assert_string_equal(match.route->method, CASES[i].method);
		assert_int_equal(match.version, CASES[i].version);
		if (CASES[i].segment)
			assert_string_equal(match.segments[0], CASES[i].segment);
		else
			assert_null(match.segments[0]);
		route_match_free(&match);
	}
}

static void paths_that_lead_nowhere_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *method, *path, *allow, *message;
		enum gt_kind kind;
	} CASES[] = {
		{ "GET", "", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/", "", "page not found", GT_NOT_FOUND },
		{ "GET", "*", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/nothing", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/containers/json/", "", "page not found", GT_NOT_FOUND },
		{ "GET", "//containers/json", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/containers//json", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/images//json", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/images//a/json", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/containers/a/b/json", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/v1/info", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/v1.x/info", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/v1.50info", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/v1.9999999999/info", "", "page not found", GT_NOT_FOUND },
		{ "GET", "/v1.50/v1.50/info", "", "page not found", GT_NOT_FOUND },
		{ "POST", "/_ping", "HEAD, GET", "method not allowed", GT_INVALID },
		{ "HEAD", "/containers/json", "GET, DELETE", "method not allowed", GT_INVALID },
		{ "get", "/info", "GET", "method not allowed", GT_INVALID },
		{ "GET", "/containers/%zz/json", "", "invalid URL escape in the request", GT_INVALID },
		{ "GET", "/containers/a%00b/json", "", "the request's URL holds a NUL byte", GT_INVALID },
		{ "GET", "/v1.51/info", "", "client version 1.51 is too new. Maximum supported API version is 1.50", GT_INVALID },
		{ "GET", "/v2.0/nothing", "", "client version 2.0 is too new. Maximum supported API version is 1.50", GT_INVALID },
		{ "GET", "/v1.23/info", "",
		  "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		  GT_INVALID },
		{ "GET", "/v0.99/info", "",
		  "client version 0.99 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		  GT_INVALID },
		{ "POST", "/v1.24/containers/prune", "",
		  "\"POST /containers/prune\" requires API version 1.25, but the client asked for version 1.24", GT_INVALID },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct route_match match;
		char allow[ROUTE_ALLOW_ROOM];
		struct gt_error err = { 0 };
		if (route_find(CASES[i].method, CASES[i].path, &match, allow, &err) == 0)
			fail_msg("%s %s was found", CASES[i].method, CASES[i].path);
		assert_string_equal(err.message, CASES[i].message);
		assert_int_equal(err.kind, CASES[i].kind);
		assert_string_equal(allow, CASES[i].allow);
		assert_null(match.segments[0]);
	}
}

/* ---- queries ---- */

static void parameters_are_decoded(void **state)
{
	(void)state;
	struct query query;
	struct gt_error err = { 0 };
	assert_int_equal(query_parse("a=1&b=x%20y+z&&c&d=%E2%82%AC&a=2&e==&%66=g", &query, &err), 0);
	assert_int_equal(query.count, 7);
	assert_string_equal(query_get(&query, "a"), "1");
	assert_string_equal(query_get(&query, "b"), "x y z");
	assert_string_equal(query_get(&query, "c"), "");
	assert_null(query_text(&query, "c"));
	assert_string_equal(query_get(&query, "d"), "\xe2\x82\xac");
	assert_string_equal(query_get(&query, "e"), "=");
	assert_string_equal(query_get(&query, "f"), "g");
	assert_null(query_get(&query, "A"));
	struct gt_strings all = { 0 };
	query_list(&query, "a", &all);
	assert_int_equal(all.count, 2);
	assert_string_equal(all.items[1], "2");
	gt_strings_free(&all);
	query_free(&query);

	assert_int_equal(query_parse(NULL, &query, &err), 0);
	assert_int_equal(query.count, 0);
	query_free(&query);
}

static void broken_queries_are_refused(void **state)
{
	(void)state;
	static const char *const BAD[] = { "a=%", "a=%4", "a=%4g", "%=1", "a=1&b=%00", "%00" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		struct query query;
		struct gt_error err = { 0 };
		assert_int_equal(query_parse(BAD[i], &query, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		query_free(&query);
	}
	struct gt_buf many = { 0 };
	for (int i = 0; i <= GT_QUERY_MAX; i++)
		gt_buf_str(&many, "a=1&");
	struct query query;
	struct gt_error err = { 0 };
	assert_int_equal(query_parse(many.data, &query, &err), -1);
	assert_non_null(strstr(err.message, "256"));
	query_free(&query);
	gt_buf_free(&many);
}

static void booleans_are_read_as_docker_does(void **state)
{
	(void)state;
	struct query query;
	struct gt_error err = { 0 };
	assert_int_equal(query_parse("a=1&b=true&c=True&d=yes&e=0&f=false&g=False&h=no&i=none&j=&k=x&l", &query, &err), 0);
	for (const char *name = "abcdk"; *name; name++)
		assert_true(query_bool(&query, (char[2]){ *name }, false));
	for (const char *name = "efghijl"; *name; name++)
		assert_false(query_bool(&query, (char[2]){ *name }, true));
	assert_true(query_bool(&query, "absent", true));
	assert_false(query_bool(&query, "absent", false));
	query_free(&query);
}

static void numbers_and_times_are_checked(void **state)
{
	(void)state;
	struct query query;
	struct gt_error err = { 0 };
	assert_int_equal(query_parse("a=12&b=-3&c=1x&d=&e=99999999999999999999&f=+1&h=24&w=80&s=5.5&t=0&u=never", &query, &err), 0);
	int64_t value = 7;
	assert_int_equal(query_int(&query, "a", &value, &err), 0);
	assert_int_equal(value, 12);
	assert_int_equal(query_int(&query, "b", &value, &err), 0);
	assert_int_equal(value, -3);
	assert_int_equal(query_int(&query, "d", &value, &err), 0);
	assert_int_equal(query_int(&query, "absent", &value, &err), 0);
	assert_int_equal(value, -3);
	for (const char *name = "cef"; *name; name++) {
		assert_int_equal(query_int(&query, (char[2]){ *name }, &value, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
	}
	unsigned rows, cols;
	assert_int_equal(query_size(&query, &rows, &cols, &err), 0);
	assert_int_equal(rows, 24);
	assert_int_equal(cols, 80);
	assert_int_equal(query_time(&query, "s", &value, &err), 0);
	assert_int_equal(value, 5500000000);
	assert_int_equal(query_time(&query, "t", &value, &err), 0);
	assert_int_equal(value, 0);
	assert_int_equal(query_time(&query, "u", &value, &err), -1);
	query_free(&query);

	assert_int_equal(query_parse("h=24", &query, &err), 0);
	assert_int_equal(query_size(&query, &rows, &cols, &err), -1);
	query_free(&query);
}

static void what_is_not_offered_is_refused_by_name(void **state)
{
	(void)state;
	struct query query;
	struct gt_error err = { 0 };
	assert_int_equal(query_parse("manifests=0&platform=linux%2Farm", &query, &err), 0);
	assert_int_equal(query_refuse(&query, NAMES("manifests", "squash"), &err), 0);
	assert_int_equal(query_refuse(&query, NAMES("manifests", "platform"), &err), -1);
	assert_int_equal(err.kind, GT_UNSUPPORTED);
	assert_non_null(strstr(err.message, "platform"));
	query_free(&query);
}

static void filters_come_in_two_forms(void **state)
{
	(void)state;
	static const struct {
		const char *given, *expected;   /* NULL: no filters */
	} CASES[] = {
		{ "{\"label\":[\"a=b\",\"c\"]}", "{\"label\":[\"a=b\",\"c\"]}" },
		{ "{\"label\":{\"a=b\":true,\"c\":false}}", "{\"label\":[\"a=b\"]}" },
		{ "{\"a\":[],\"b\":{\"x\":true}}", "{\"a\":[],\"b\":[\"x\"]}" },
		{ "{}", NULL },
		{ "null", NULL },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *filters = NULL;
		struct gt_error err = { 0 };
		assert_int_equal(query_filters_parse(CASES[i].given, &filters, &err), 0);
		AUTO_FREE char *text = filters ? json_dumps(filters, JSON_COMPACT) : NULL;
		if (CASES[i].expected)
			assert_string_equal(text, CASES[i].expected);
		else
			assert_null(filters);
	}
	static const char *const BAD[] = { "", "x", "[]", "\"a\"", "{\"a\":\"b\"}", "{\"a\":[1]}", "{\"a\":{\"b\":1}}", "{\"a\":[\"b\"]", "{\"a\":1}" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		json_t *filters = NULL;
		struct gt_error err = { 0 };
		assert_int_equal(query_filters_parse(BAD[i], &filters, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		assert_null(filters);
	}
}

static void filters_are_bounded(void **state)
{
	(void)state;
	struct gt_buf keys = { 0 }, values = { 0 };
	struct gt_error err = { 0 };
	json_t *filters = NULL;
	gt_buf_char(&keys, '{');
	gt_buf_str(&values, "{\"a\":[");
	for (int i = 0; i < 65; i++)
		gt_buf_printf(&keys, "%s\"k%d\":[]", i ? "," : "", i);
	for (int i = 0; i < 1025; i++)
		gt_buf_printf(&values, "%s\"v%d\"", i ? "," : "", i);
	gt_buf_char(&keys, '}');
	gt_buf_str(&values, "]}");
	assert_int_equal(query_filters_parse(keys.data, &filters, &err), -1);
	assert_int_equal(query_filters_parse(values.data, &filters, &err), -1);
	gt_buf_free(&keys);
	gt_buf_free(&values);
}

/* ---- the relay ---- */

static void *relay_thread(void *arg)
{
	struct relay_end *ends = arg;
	relay_run(&ends[0], &ends[1], NULL, 0);
	close(ends[0].fd);
	close(ends[1].fd);
	return NULL;
}

static void a_half_close_is_passed_on_and_the_other_way_stays_open(void **state)
{
	(void)state;
	int left[2], right[2];
	char bytes[16];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, left), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, right), 0);
	struct relay_end ends[2] = { { .fd = left[1] }, { .fd = right[0] } };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, relay_thread, ends), 0);
	assert_int_equal(write(left[0], "stdin", 5), 5);
	shutdown(left[0], SHUT_WR);
	assert_int_equal(gt_read_full(right[1], bytes, sizeof bytes), 5);
	assert_int_equal(write(right[1], "late", 4), 4);
	close(right[1]);
	assert_int_equal(gt_read_full(left[0], bytes, sizeof bytes), 4);
	assert_memory_equal(bytes, "late", 4);
	pthread_join(thread, NULL);
	close(left[0]);
}

static void a_relay_delivers_much_to_a_slow_reader_before_it_ends(void **state)
{
	(void)state;
	enum { MUCH = 3 << 20 };
	int left[2], right[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, left), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, right), 0);
	struct relay_end ends[2] = { { .fd = left[1] }, { .fd = right[0] } };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, relay_thread, ends), 0);
	/* Fill what fits, hang up altogether, and only then read. */
	char *bytes = gt_xcalloc(1, MUCH);
	ssize_t sent = 0, part;
	while (sent < MUCH && (part = send(left[0], bytes + sent, (size_t)(MUCH - sent), MSG_DONTWAIT)) > 0)
		sent += part;
	assert_true(sent > 0);
	close(left[0]);
	usleep(20000);
	ssize_t got = gt_read_full(right[1], bytes, MUCH);
	assert_int_equal(got, sent);
	pthread_join(thread, NULL);
	close(right[1]);
	free(bytes);
}

static void bytes_read_too_early_come_first(void **state)
{
	(void)state;
	int pair[2], before = open_fds();
	char bytes[16] = { 0 };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	int fd = relay_prepend(pair[1], "early ", 6);
	assert_true(fd >= 0);
	assert_int_equal(write(pair[0], "late", 4), 4);
	shutdown(pair[0], SHUT_WR);
	assert_int_equal(gt_read_full(fd, bytes, sizeof bytes), 10);
	assert_memory_equal(bytes, "early late", 10);
	assert_int_equal(write(fd, "answer", 6), 6);
	close(fd);
	assert_int_equal(gt_read_full(pair[0], bytes, sizeof bytes), 6);
	close(pair[0]);
	assert_int_equal(open_fds_settled(before), before); /* its thread ends */
}

int main(void)
{
	static const struct CMUnitTest TESTS[] = {
		cmocka_unit_test(paths_lead_to_rows),
		cmocka_unit_test(paths_that_lead_nowhere_are_refused),
		cmocka_unit_test(parameters_are_decoded),
		cmocka_unit_test(broken_queries_are_refused),
		cmocka_unit_test(booleans_are_read_as_docker_does),
		cmocka_unit_test(numbers_and_times_are_checked),
		cmocka_unit_test(what_is_not_offered_is_refused_by_name),
		cmocka_unit_test(filters_come_in_two_forms),
		cmocka_unit_test(filters_are_bounded),
		cmocka_unit_test(a_half_close_is_passed_on_and_the_other_way_stays_open),
		cmocka_unit_test(a_relay_delivers_much_to_a_slow_reader_before_it_ends),
		cmocka_unit_test(bytes_read_too_early_come_first),
	};
	return cmocka_run_group_tests(TESTS, NULL, NULL);
}
