/*
 * test_engine_events.c - events: their shape, filters, replay, and listeners that are slow or go away. Source: Docker Engine API v1.50 (SystemEvents).
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

static int make(void **state)
{
	struct gt_engine *engine = gt_xcalloc(1, sizeof *engine);
	*state = engine;
	return gt_events_new(engine, NULL);
}

static int unmake(void **state)
{
	gt_events_free(*state);
	free(*state);
	return 0;
}

static void emit_some(struct gt_engine *engine)
{
	gt_event(engine, "container", "create", "c1aaaa", json_pack("{s:s s:s s:s}", "name", "web", "image", "busybox", "tier", "front"));
	gt_event(engine, "container", "start", "c1aaaa", json_pack("{s:s s:s s:s}", "name", "web", "image", "busybox", "tier", "front"));
	gt_event(engine, "container", "exec_create: ls -l", "c2bbbb", json_pack("{s:s s:s}", "name", "db", "image", "etcd"));
	gt_event(engine, "container", "health_status: healthy", "c2bbbb", json_pack("{s:s s:s}", "name", "db", "image", "etcd"));
	gt_event(engine, "image", "tag", "sha256:1234", json_pack("{s:s}", "name", "busybox:latest"));
	gt_event(engine, "network", "connect", "n1", json_pack("{s:s s:s}", "name", "bridge", "container", "c1aaaa"));
	gt_event(engine, "volume", "create", "data", NULL);
	gt_event(engine, "daemon", "reload", "engine-id", json_pack("{s:s}", "name", "host"));
}

/* "type action, type action" of what a stream gives at once. */
static char *told(struct gt_stream *stream)
{
	struct gt_buf bytes = { 0 }, words = { 0 };
	ssize_t n;
	while ((n = gt_stream_read(stream, gt_buf_reserve(&bytes, 100), 100, 0, NULL)) > 0)
		bytes.len += (size_t)n;
	gt_buf_char(&bytes, '\0');
	char *rest = bytes.data;
	for (char *line; (line = strsep(&rest, "\n")) != NULL && *line;) {
		AUTO_JSON json_t *event = gt_json_parse(line, strlen(line), "event", NULL);
		assert_non_null(event);
		gt_buf_printf(&words, "%s%s %s", words.len ? ", " : "", json_string_value(json_object_get(event, "Type")),
			      json_string_value(json_object_get(event, "Action")));
	}
	gt_buf_free(&bytes);
	return words.len ? gt_buf_take(&words) : gt_xstrdup("");
}

static void filters_choose(void **state)
{
	struct gt_engine *engine = *state;
	static const struct {
		const char *filters, *events;
	} CASES[] = {
		{ "{\"type\":[\"container\"]}", "container create, container start, container exec_create: ls -l, container health_status: healthy" },
		{ "{\"type\":[\"image\",\"volume\"]}", "image tag, volume create" },
		{ "{\"event\":[\"create\"]}", "container create, volume create" },
		{ "{\"event\":[\"exec_create\"]}", "container exec_create: ls -l" },
		{ "{\"event\":[\"exec_create: ls -l\"]}", "container exec_create: ls -l" },
		{ "{\"event\":[\"health_status\"]}", "container health_status: healthy" },
		{ "{\"event\":[\"crea\"]}", "" },
		{ "{\"container\":[\"web\"]}", "container create, container start" },
		{ "{\"container\":[\"c1aa\"]}", "container create, container start" },
		{ "{\"container\":[\"c1aaaa\",\"db\"],\"event\":[\"start\",\"health_status\"]}", "container start, container health_status: healthy" },
		{ "{\"container\":[\"we\"]}", "" },
		{ "{\"image\":[\"busybox\"]}", "container create, container start" },
		{ "{\"image\":[\"busybox:latest\"]}", "image tag" },
		{ "{\"image\":[\"sha256:12\"]}", "image tag" },
		{ "{\"network\":[\"bridge\"]}", "network connect" },
		{ "{\"volume\":[\"data\"]}", "volume create" },
		{ "{\"daemon\":[\"host\"]}", "daemon reload" },
		{ "{\"label\":[\"tier\"]}", "container create, container start" },
		{ "{\"label\":[\"tier=front\",\"name=web\"]}", "container create, container start" },
		{ "{\"label\":[\"tier=back\"]}", "" },
		{ "{\"scope\":[\"swarm\"]}", "" },
		{ "{\"scope\":[\"local\"],\"type\":[\"daemon\"]}", "daemon reload" },
		{ "{\"container\":[\"web\"],\"network\":[\"bridge\"]}", "" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *filters = gt_json_parse(CASES[i].filters, strlen(CASES[i].filters), "filters", NULL);
		struct gt_stream *stream = gt_events_open(engine, 0, 0, filters, NULL);
		assert_non_null(stream);
		emit_some(engine);
		AUTO_FREE char *got = told(stream);
		if (strcmp(got, CASES[i].events))
			fail_msg("%s: %s", CASES[i].filters, got);
		gt_stream_close(stream);
	}
	struct gt_error err = { 0 };
	AUTO_JSON json_t *unknown = json_pack("{s:[s]}", "colour", "red");
	assert_null(gt_events_open(engine, 0, 0, unknown, &err));
	assert_non_null(strstr(err.message, "invalid filter 'colour'"));
	assert_int_equal(gt_events_listeners(engine), 0);
}

static void events_have_dockers_shape(void **state)
{
	struct gt_engine *engine = *state;
	int64_t before = gt_now();
	struct gt_stream *stream = gt_events_open(engine, 0, 0, NULL, NULL);
	char bytes[4096];
	gt_event(engine, "container", "start", "c1", json_pack("{s:s s:s}", "name", "web\n\"x", "image", "busybox"));
	ssize_t n = gt_stream_read(stream, bytes, sizeof bytes, 0, NULL);
	assert_true(n > 0 && bytes[n - 1] == '\n' && !memchr(bytes, '\n', (size_t)n - 1));
	AUTO_JSON json_t *event = gt_json_parse(bytes, (size_t)n, "event", NULL);
	const char *status = NULL, *id = NULL, *from = NULL, *type = NULL, *action = NULL, *actor = NULL, *name = NULL, *scope = NULL;
	json_int_t time, nano;
	assert_int_equal(json_unpack(event, "{s:s s:s s:s s:s s:s s:s s:I s:I s:{s:s s:{s:s}}}", "status", &status, "id", &id, "from", &from, "Type", &type,
				     "Action", &action, "scope", &scope, "time", &time, "timeNano", &nano, "Actor", "ID", &actor, "Attributes", "name", &name),
			 0);
	assert_string_equal(status, "start");
	assert_string_equal(from, "busybox");
	assert_string_equal(actor, "c1");
	assert_string_equal(name, "web\n\"x");
	assert_true(nano >= before && nano <= gt_now() && time == nano / GT_SECOND);
	gt_stream_close(stream);
	/* what is no text makes no event, and no crash */
	gt_event(engine, "container", "start", "\xff\xfe", NULL);
}

static void what_was_is_replayed(void **state)
{
	struct gt_engine *engine = *state;
	emit_some(engine);
	int64_t middle = gt_now();
	gt_event(engine, "container", "stop", "c1aaaa", NULL);
	int64_t end = gt_now() + 1;
	struct gt_stream *stream = gt_events_open(engine, middle, end, NULL, NULL);
	AUTO_FREE char *late = told(stream);
	assert_string_equal(late, "container stop");
	assert_int_equal(gt_stream_read(stream, &(char){ 0 }, 1, 100, NULL), GT_STREAM_END);
	gt_stream_close(stream);
	stream = gt_events_open(engine, 1, middle, NULL, NULL);
	AUTO_FREE char *early = told(stream);
	assert_true(strncmp(early, "container create, container start, ", 35) == 0 && strstr(early, "daemon reload") && !strstr(early, "stop"));
	gt_stream_close(stream);
	/* 256 are kept */
	for (int i = 0; i < 300; i++)
		gt_event(engine, "image", "pull", "x", NULL);
	stream = gt_events_open(engine, 1, 0, NULL, NULL);
	char bytes[1 << 17];
	int lines = 0;
	for (ssize_t n; (n = gt_stream_read(stream, bytes, sizeof bytes, 0, NULL)) > 0;) {
		for (ssize_t i = 0; i < n; i++)
			lines += bytes[i] == '\n';
	}
	assert_int_equal(lines, 256);
	gt_stream_close(stream);
	/* an end in the future is kept as well */
	stream = gt_events_open(engine, 0, gt_now() + 50 * GT_MILLISECOND, NULL, NULL);
	ssize_t n;
	while ((n = gt_stream_read(stream, bytes, sizeof bytes, 1000, NULL)) == GT_STREAM_IDLE)
		;
	assert_int_equal(n, GT_STREAM_END);
	gt_stream_close(stream);
}

static void a_slow_listener_is_cut_off_and_costs_nobody(void **state)
{
	struct gt_engine *engine = *state;
	struct gt_error err = { 0 };
	struct gt_stream *slow = gt_events_open(engine, 0, 0, NULL, NULL), *quick = gt_events_open(engine, 0, 0, NULL, NULL);
	char bytes[1 << 16];
	assert_int_equal(gt_events_listeners(engine), 2);
	for (int i = 0; i < 5000; i++) {
		gt_event(engine, "image", "pull", "x", NULL);
		if (i % 100 == 0)
			assert_true(gt_stream_read(quick, bytes, sizeof bytes, 0, NULL) > 0);
	}
	ssize_t n;
	while ((n = gt_stream_read(slow, bytes, sizeof bytes, 0, &err)) > 0)
		;
	assert_int_equal(n, -1);
	assert_non_null(strstr(err.message, "too slowly"));
	while ((n = gt_stream_read(quick, bytes, sizeof bytes, 0, &err)) > 0)
		;
	assert_int_equal(n, GT_STREAM_IDLE);
	gt_stream_close(slow);
	gt_stream_close(quick);
	assert_int_equal(gt_events_listeners(engine), 0);
}

static void *emit_thread(void *engine)
{
	for (int i = 0; i < 1000; i++)
		gt_event(engine, "container", i % 2 ? "start" : "die", "c1", json_pack("{s:s}", "name", "web"));
	return NULL;
}

static void threads_emit_while_others_listen_and_leave(void **state)
{
	struct gt_engine *engine = *state;
	pthread_t threads[4];
	struct gt_stream *stream = gt_events_open(engine, 0, 0, NULL, NULL);
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, emit_thread, engine), 0);
	char bytes[1 << 16];
	int lines = 0;
	for (ssize_t n; lines < 4000 && ((n = gt_stream_read(stream, bytes, sizeof bytes, 2000, NULL)) > 0 || n == GT_STREAM_IDLE);) {
		for (ssize_t i = 0; i < n; i++)
			lines += bytes[i] == '\n';
		gt_stream_close(gt_events_open(engine, 1, 0, NULL, NULL));
	}
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(lines, 4000);
	gt_stream_close(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(filters_choose, make, unmake),
		cmocka_unit_test_setup_teardown(events_have_dockers_shape, make, unmake),
		cmocka_unit_test_setup_teardown(what_was_is_replayed, make, unmake),
		cmocka_unit_test_setup_teardown(a_slow_listener_is_cut_off_and_costs_nobody, make, unmake),
		cmocka_unit_test_setup_teardown(threads_emit_while_others_listen_and_leave, make, unmake),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
