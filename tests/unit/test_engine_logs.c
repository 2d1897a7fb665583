/*
 * test_engine_logs.c - records out of a log's bytes, whoever wrote them, and the streams that clients read. Sources: Docker Engine API v1.50 (ContainerLogs,
 * ContainerAttach for the frames), docs of docker logs.
 */
#include "testing.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "engine/logs.h"
#include "shim/log.h"

/* ---- records ---- */

static void json_records_are_read_in_any_shape(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		int stream; /* 0: damaged */
		const char *text;
		bool ends;
	} CASES[] = {
		{ "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.000000000Z\"}\n", 1, "hello\n", true },
		{ "{\"log\":\"part\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 2, "part", false },
		{ "{\"log\":\"\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 1, "", false },
		{ "{\"log\":\"a\\\"b\\\\c\\/\\b\\f\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 1,
		  "a\"b\\c/\b\f\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\n", true },
		{ "{\"log\":\"x\\ud83dy\\ude00\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 1, "x\xef\xbf\xbdy\xef\xbf\xbd", false },
		{ "{\"log\":\"\\u003cb\\u003E\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 1, "<b>", false },
		/* other shapes of the same, as other engines or people write them */
		{ "{ \"time\" : \"2026-01-02T03:04:05Z\", \"stream\":\"stderr\", \"log\":\"x\\n\" }\n", 2, "x\n", true },
		{ "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"b\"},\"time\":\"2026-01-02T03:04:05Z\"}\n", 1, "x\n", true },
		{ "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\r\n", 1, "x\n", true },
		/* damaged */
		{ "\n", 0, NULL, false },
		{ "rubbish\n", 0, NULL, false },
		{ "{}\n", 0, NULL, false },
		{ "{\"log\":\"x\n", 0, NULL, false },
		{ "{\"log\":\"x\\\n", 0, NULL, false },
		{ "{\"log\":\"x\\u12\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 0, NULL, false },
		{ "{\"log\":\"x\\q\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 0, NULL, false },
		{ "{\"log\":7,\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n", 0, NULL, false },
		{ "{\"log\":\"x\",\"stream\":\"stdout\"}\n", 0, NULL, false },
		{ "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"soon\"}\n", 0, NULL, false },
		{ "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.00000000000000000000000000000000000Z\"}\n", 0, NULL, false },
		{ "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}{}\n", 0, NULL, false },
	};
	AUTO_BUF struct gt_buf scratch = { 0 };
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct log_record record;
		size_t len = strlen(CASES[i].line);
		for (size_t cut = 0; cut < len; cut++) /* not complete yet */
			assert_int_equal(log_record_take(false, CASES[i].line, cut, true, &record, &scratch), 0);
		size_t taken = log_record_take(false, CASES[i].line, len, true, &record, &scratch);
		if (taken != len || record.stream != CASES[i].stream)
			fail_msg("%s took %zu, stream %d", CASES[i].line, taken, record.stream);
		if (record.stream && (record.len != strlen(CASES[i].text) || memcmp(record.text, CASES[i].text, record.len) || record.ends_line != CASES[i].ends ||
				      record.at != 1767323045ll * GT_SECOND))
			fail_msg("%s: \"%.*s\" at %lld", CASES[i].line, (int)record.len, record.text, (long long)record.at);
	}
	struct log_record record;
	static const char ZERO[] = "{\"log\":\"a\\u0000b\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n";
	assert_true(log_record_take(false, ZERO, strlen(ZERO), false, &record, &scratch) > 0);
	assert_int_equal(record.len, 3);
	assert_memory_equal(record.text, "a\0b", 3);
}

static void a_line_without_end_is_passed_over(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf line = { 0 };
	AUTO_BUF struct gt_buf scratch = { 0 };
	struct log_record record;
	memset(gt_buf_reserve(&line, LOG_RECORD_MAX + 1), 'x', LOG_RECORD_MAX + 1);
	assert_int_equal(log_record_take(false, line.data, LOG_RECORD_MAX, false, &record, &scratch), 0);
	assert_int_equal(log_record_take(false, line.data, LOG_RECORD_MAX + 1, false, &record, &scratch), LOG_RECORD_MAX + 1);
	assert_int_equal(record.stream, 0);
}

/* Whatever bytes a container writes come back, in both formats (what is not UTF-8 as U+FFFD in JSON). */
static void what_the_shim_writes_is_read_again(void **state)
{
	(void)state;
	unsigned seed = 12345;
	AUTO_BUF struct gt_buf tail = { 0 };
	AUTO_BUF struct gt_buf json = { 0 };
	AUTO_BUF struct gt_buf local = { 0 };
	AUTO_BUF struct gt_buf scratch = { 0 };
	for (int round = 0; round < 2000; round++) {
		char text[64];
		size_t len = (size_t)rand_r(&seed) % sizeof text;
		bool whole = rand_r(&seed) % 2, plain = true;
		for (size_t i = 0; i < len; i++) {
			text[i] = (char)(round % 2 ? rand_r(&seed) : rand_r(&seed) % 128);
			text[i] = (char)(text[i] == '\n' ? ' ' : text[i]);
			plain = plain && (unsigned char)text[i] < 128;
		}
		int64_t time = 1767323045ll * GT_SECOND + round;
		unsigned stream = 1 + (unsigned)rand_r(&seed) % 2;
		gt_buf_reset(&json);
		gt_buf_reset(&local);
		gt_log_json_stamp(&tail, stream, round % 3 ? NULL : "{\"a\":\"}\\\"\",\"time\":\"x\"}", time);
		gt_log_json_record(&json, &tail, text, len, whole);
		gt_log_local_record(&local, stream, time, text, len, whole);
		for (int l = 0; l < 2; l++) {
			const struct gt_buf *bytes = l ? &local : &json;
			struct log_record record;
			for (size_t cut = 0; cut < bytes->len; cut += 7)
				assert_int_equal(log_record_take(l, bytes->data, cut, true, &record, &scratch), 0);
			assert_int_equal(log_record_take(l, bytes->data, bytes->len, true, &record, &scratch), bytes->len);
			assert_int_equal(record.stream, stream);
			assert_int_equal(record.at, time);
			assert_int_equal(record.ends_line, whole);
			if (l || plain) {
				assert_int_equal(record.len, len + whole);
				assert_memory_equal(record.text, text, len);
			}
		}
	}
}

static void damaged_local_records_are_passed_over(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf bytes = { 0 };
	AUTO_BUF struct gt_buf scratch = { 0 };
	struct log_record record;
	gt_buf_add(&bytes, "rubbish", 7);
	gt_log_local_record(&bytes, 1, GT_SECOND, "good", 4, true);
	size_t at = 0, taken;
	while ((taken = log_record_take(true, bytes.data + at, bytes.len - at, true, &record, &scratch)) > 0 && !record.stream)
		at += taken;
	assert_int_equal(at, 7);
	assert_int_equal(record.len, 5);
	assert_memory_equal(record.text, "good\n", 5);
	struct gt_log_record huge = { .len = UINT32_MAX, .stream = 1, .magic = GT_LOG_MAGIC };
	assert_int_equal(log_record_take(true, (const char *)&huge, sizeof huge, true, &record, &scratch), 1);
	assert_int_equal(record.stream, 0);
}

/* ---- streams ---- */

struct fixture {
	char *dir;
	struct gt_engine engine;
	struct gt_config *config;
	struct gt_container *ctr;
};

static int make(void **state)
{
	struct fixture *fixture = gt_xcalloc(1, sizeof *fixture);
	*state = fixture;
	if (scratch_make((void **)&fixture->dir) < 0 || gt_config_load(NULL, false, &fixture->config, NULL) < 0)
		return -1;
	char id[GT_ID_LEN + 1];
	gt_id_new(id);
	atomic_store(&fixture->engine.config, fixture->config);
	pthread_rwlock_init(&fixture->engine.lock, NULL);
	fixture->ctr = gt_container_new(&fixture->engine, id);
	fixture->ctr->log_path = gt_xasprintf("%s/c.log", fixture->dir);
	fixture->ctr->config.host.log_config = json_pack("{s:s}", "Type", "json-file");
	fixture->ctr->status = GT_EXITED;
	return gt_container_insert(fixture->ctr, "web", NULL);
}

static int unmake(void **state)
{
	struct fixture *fixture = *state;
	gt_container_withdraw(fixture->ctr);
	gt_container_put(fixture->ctr);
	free(fixture->engine.by_id);
	gt_map_free(&fixture->engine.containers);
	gt_map_free(&fixture->engine.names);
	pthread_rwlock_destroy(&fixture->engine.lock);
	gt_config_free(fixture->config);
	int rc = scratch_remove((void **)&fixture->dir);
	free(fixture);
	return rc;
}

static void append(const char *path, const void *bytes, size_t len)
{
	FILE *file = fopen(path, "a");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	fclose(file);
}

/* Lines "line N\n" for N from `from` up to and without `to`, N seconds after the epoch plus 1000000; odd ones on stderr. */
static void write_lines(const char *path, bool local, int from, int to)
{
	AUTO_BUF struct gt_buf out = { 0 };
	AUTO_BUF struct gt_buf tail = { 0 };
	for (int i = from; i < to; i++) {
		char text[32];
		int len = snprintf(text, sizeof text, "line %d", i);
		int64_t time = (1000000ll + i) * GT_SECOND;
		gt_log_json_stamp(&tail, 1 + (unsigned)i % 2, NULL, time);
		if (local)
			gt_log_local_record(&out, 1 + (unsigned)i % 2, time, text, (size_t)len, true);
		else
			gt_log_json_record(&out, &tail, text, (size_t)len, true);
	}
	append(path, out.data, out.len);
}

static void compress_file(const char *path)
{
	AUTO_BUF struct gt_buf bytes = { 0 };
	AUTO_FREE char *gz = gt_xasprintf("%s.gz", path);
	assert_int_equal(gt_read_file(AT_FDCWD, path, 64 << 20, &bytes, NULL), 0);
	gzFile file = gzopen(gz, "wb");
	assert_int_equal(gzwrite(file, bytes.data, (unsigned)bytes.len), bytes.len);
	gzclose(file);
	unlink(path);
}

static struct gt_stream *open_logs(struct fixture *fixture, struct gt_logs_query query)
{
	struct gt_error err = { 0 };
	bool tty;
	struct gt_stream *stream = gt_container_logs(&fixture->engine, "web", &query, &tty, &err);
	if (!stream)
		fail_msg("%s", err.message);
	assert_int_equal(tty, fixture->ctr->config.tty);
	return stream;
}

/* All that a client gets, in reads of an odd size. */
static void read_logs(struct fixture *fixture, struct gt_logs_query query, struct gt_buf *out)
{
	struct gt_stream *stream = open_logs(fixture, query);
	struct gt_error err = { 0 };
	ssize_t n;
	gt_buf_reset(out);
	while ((n = gt_stream_read(stream, gt_buf_reserve(out, 1021), 1021, 100, &err)) > 0)
		out->len += (size_t)n;
	if (n != GT_STREAM_END)
		fail_msg("%zd: %s", n, err.message);
	gt_buf_char(out, '\0');
	gt_stream_close(stream);
}

static void assert_lines(const struct gt_buf *out, int from, int to, int step)
{
	AUTO_BUF struct gt_buf wanted = { 0 };
	for (int i = from; i < to; i += step)
		gt_buf_printf(&wanted, "line %d\n", i);
	if (strcmp(out->data, wanted.len ? wanted.data : ""))
		fail_msg("lines %d to %d: got %zu bytes that begin with %.60s and end with %s", from, to, out->len, out->data,
			 out->len > 60 ? out->data + out->len - 60 : out->data);
}

#define BOTH .stdout = true, .stderr = true

static void queries_select_lines(struct fixture *fixture, bool local)
{
	AUTO_BUF struct gt_buf out = { 0 };
	fixture->ctr->config.tty = true; /* bytes without frames */
	json_object_set_new(fixture->ctr->config.host.log_config, "Type", json_string(local ? "local" : "json-file"));
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1 }, &out);
	assert_lines(&out, 0, 0, 1); /* no log yet */
	AUTO_FREE char *first = gt_xasprintf("%s.2", fixture->ctr->log_path), *second = gt_xasprintf("%s.1", fixture->ctr->log_path);
	write_lines(first, local, 0, 10000);
	compress_file(first);
	write_lines(second, local, 10000, 20000);
	write_lines(fixture->ctr->log_path, local, 20000, 30000);
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1 }, &out);
	assert_lines(&out, 0, 30000, 1);
	static const int TAILS[] = { 0, 1, 2, 777, 9999, 10000, 10001, 19999, 20001, 29999, 30000, 40000 };
	for (size_t i = 0; i < GT_COUNT(TAILS); i++) {
		read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = TAILS[i] }, &out);
		assert_lines(&out, TAILS[i] > 30000 ? 0 : 30000 - TAILS[i], 30000, 1);
	}
	read_logs(fixture, (struct gt_logs_query){ .stdout = true, .tail = -1 }, &out);
	assert_lines(&out, 0, 30000, 2);
	read_logs(fixture, (struct gt_logs_query){ .stderr = true, .tail = -1 }, &out);
	assert_lines(&out, 1, 30000, 2);
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1, .since = (1000000 + 25000) * GT_SECOND }, &out);
	assert_lines(&out, 25000, 30000, 1);
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1, .until = (1000000 + 100) * GT_SECOND }, &out);
	assert_lines(&out, 0, 100, 1);
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1, .since = (1000000 + 9990) * GT_SECOND, .until = (1000000 + 10010) * GT_SECOND }, &out);
	assert_lines(&out, 9990, 10010, 1);
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = 10, .until = (1000000 + 29995) * GT_SECOND, .follow = true }, &out);
	assert_lines(&out, 29990, 29995, 1);
}

static void queries_select_lines_of_json_logs(void **state)
{
	queries_select_lines(*state, false);
}

static void queries_select_lines_of_local_logs(void **state)
{
	queries_select_lines(*state, true);
}

static void frames_and_timestamps_are_dockers(void **state)
{
	struct fixture *fixture = *state;
	AUTO_BUF struct gt_buf out = { 0 };
	static const char LOG[] = "{\"log\":\"out\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.000000001Z\"}\n"
				  "{\"log\":\"long\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.000000002Z\"}\n"
				  "rubbish\n"
				  "{\"log\":\" line\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.000000003Z\"}\n"
				  "{\"log\":\"torn";
	append(fixture->ctr->log_path, LOG, strlen(LOG));
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1 }, &out);
	static const char FRAMES[] = "\1\0\0\0\0\0\0\4out\n\2\0\0\0\0\0\0\4long\2\0\0\0\0\0\0\6 line\n";
	assert_int_equal(out.len, sizeof FRAMES);
	assert_memory_equal(out.data, FRAMES, sizeof FRAMES);
	/* a line is stamped once, however many records it has */
	fixture->ctr->config.tty = true;
	read_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1, .timestamps = true }, &out);
	assert_string_equal(out.data, "2026-01-02T03:04:05.000000001Z out\n2026-01-02T03:04:05.000000002Z long line\n");
}

/* Reads until `wanted` has come, at most 5 s. */
static void await_text(struct gt_stream *stream, struct gt_buf *got, const char *wanted)
{
	int64_t end = gt_monotonic() + 5 * GT_SECOND;
	struct gt_error err = { 0 };
	while (gt_monotonic() < end && (!got->len || !strstr(got->data, wanted))) {
		ssize_t n = gt_stream_read(stream, gt_buf_reserve(got, 4096), 4096, 100, &err);
		if (n > 0)
			got->len += (size_t)n;
		else if (n != GT_STREAM_IDLE)
			break;
		if (got->data)
			got->data[got->len] = '\0';
	}
	if (!got->len || !strstr(got->data, wanted))
		fail_msg("%s did not come: %s", wanted, got->len ? got->data : "");
}

static void followers_see_growth_rotation_and_the_end(void **state)
{
	struct fixture *fixture = *state;
	struct gt_container *ctr = fixture->ctr;
	AUTO_BUF struct gt_buf got = { 0 };
	AUTO_FREE char *rotated = gt_xasprintf("%s.1", ctr->log_path);
	ctr->config.tty = true;
	ctr->status = GT_RUNNING;
	struct gt_stream *stream = open_logs(fixture, (struct gt_logs_query){ BOTH, .tail = -1, .follow = true });
	assert_int_equal(gt_stream_read(stream, gt_buf_reserve(&got, 64), 64, 20, NULL), GT_STREAM_IDLE);
	write_lines(ctr->log_path, false, 0, 3);
	await_text(stream, &got, "line 2\n");
	write_lines(ctr->log_path, false, 3, 5);
	assert_int_equal(rename(ctr->log_path, rotated), 0);
	write_lines(ctr->log_path, false, 5, 7);
	await_text(stream, &got, "line 6\n");
	write_lines(ctr->log_path, false, 7, 8);
	pthread_mutex_lock(&ctr->lock);
	ctr->status = GT_EXITED;
	pthread_mutex_unlock(&ctr->lock);
	ssize_t n;
	while ((n = gt_stream_read(stream, gt_buf_reserve(&got, 64), 64, 5000, NULL)) > 0)
		got.len += (size_t)n;
	assert_int_equal(n, GT_STREAM_END);
	gt_buf_char(&got, '\0');
	assert_lines(&got, 0, 8, 1);
	gt_stream_close(stream);
}

static void what_cannot_be_read_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	bool tty;
	assert_null(gt_container_logs(&fixture->engine, "nobody", &(struct gt_logs_query){ BOTH }, &tty, &err));
	assert_int_equal(err.kind, GT_NOT_FOUND);
	assert_null(gt_container_logs(&fixture->engine, "web", &(struct gt_logs_query){ 0 }, &tty, &err));
	assert_non_null(strstr(err.message, "you must choose at least one stream"));
	json_object_set_new(fixture->ctr->config.host.log_config, "Type", json_string("none"));
	assert_null(gt_container_logs(&fixture->engine, "web", &(struct gt_logs_query){ BOTH }, &tty, &err));
	assert_non_null(strstr(err.message, "does not support reading"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_records_are_read_in_any_shape),
		cmocka_unit_test(a_line_without_end_is_passed_over),
		cmocka_unit_test(what_the_shim_writes_is_read_again),
		cmocka_unit_test(damaged_local_records_are_passed_over),
		cmocka_unit_test_setup_teardown(queries_select_lines_of_json_logs, make, unmake),
		cmocka_unit_test_setup_teardown(queries_select_lines_of_local_logs, make, unmake),
		cmocka_unit_test_setup_teardown(frames_and_timestamps_are_dockers, make, unmake),
		cmocka_unit_test_setup_teardown(followers_see_growth_rotation_and_the_end, make, unmake),
		cmocka_unit_test_setup_teardown(what_cannot_be_read_is_told, make, unmake),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
