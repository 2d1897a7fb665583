#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/map.h"
#include "base/spawn.h"
#include "base/stream.h"
#include "base/utf8.h"

/* ---- errors ---- */

static void an_error_gathers_context_and_keeps_its_kind(void **state)
{
	(void)state;
	struct gt_error err = { 0 };
	assert_int_equal(gt_fail(&err, GT_CONFLICT, "volume %s is in use", "data"), -1);
	assert_int_equal(gt_context(&err, "remove %d volumes", 2), -1);
	assert_string_equal(err.message, "remove 2 volumes: volume data is in use");
	assert_int_equal(gt_kind_http_status(err.kind), 409);
	gt_fail_errno(&err, ENOENT, "open %s", "/x");
	assert_int_equal(err.kind, GT_NOT_FOUND);
	assert_string_equal(err.message, "open /x: No such file or directory");
	gt_fail_errno(&err, EPERM, "x");
	assert_int_equal(err.kind, GT_DENIED);
	gt_fail_errno(&err, ENOSPC, "x");
	assert_int_equal(err.kind, GT_INTERNAL);
}

static void a_long_error_is_cut_between_characters(void **state)
{
	(void)state;
	struct gt_error err = { 0 };
	char text[3001];
	for (size_t i = 0; i < 3000; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	text[3000] = '\0';
	gt_fail(&err, GT_INVALID, "x%s", text);
	size_t len = strlen(err.message);
	assert_true(len < sizeof err.message && len > 1000);
	assert_int_equal(len % 2, 1);
}

/* ---- time ---- */

static void times_are_written_and_read_as_go_does(void **state)
{
	(void)state;
	static const struct { int64_t ns; const char *text; } CASES[] = {
		{ 1500000000LL * GT_SECOND, "2017-07-14T02:40:00Z" },
		{ 1500000000LL * GT_SECOND + 120000000, "2017-07-14T02:40:00.12Z" },
		{ 1709164800LL * GT_SECOND + 1, "2024-02-29T00:00:00.000000001Z" },
	};
	char text[36];
	gt_time_format(0, text);
	assert_string_equal(text, GT_TIME_ZERO);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		int64_t back = -1;
		gt_time_format(CASES[i].ns, text);
		assert_string_equal(text, CASES[i].text);
		assert_int_equal(gt_time_parse(text, &back, NULL), 0);
		assert_int_equal(back, CASES[i].ns);
	}
}

static void times_are_read_in_all_their_forms(void **state)
{
	(void)state;
	static const struct { const char *text; int64_t ns; } CASES[] = {
		{ "1500000000", 1500000000LL * GT_SECOND },
		{ "1500000000.5", 1500000000LL * GT_SECOND + 500000000 },
		{ "1500000000.000000001", 1500000000LL * GT_SECOND + 1 },
		{ "2017-07-14T04:40:00+02:00", 1500000000LL * GT_SECOND },
		{ "2017-07-14T02:40:00.1234567891234Z", 1500000000LL * GT_SECOND + 123456789 },
		{ "2017-07-14T02:40", 1500000000LL * GT_SECOND },
		{ "-1.5", -1500000000LL },
		{ "9999-12-31T23:59:59Z", INT64_MAX },
		{ "0001-01-01T00:00:00Z", INT64_MIN },
		{ "9223372036854775807", INT64_MAX },
		{ "-9223372036854775807", INT64_MIN },
	};
	int64_t ns, before = gt_now();
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		assert_int_equal(gt_time_parse(CASES[i].text, &ns, NULL), 0);
		assert_int_equal(ns, CASES[i].ns);
	}
	assert_int_equal(gt_time_parse("10m", &ns, NULL), 0);
	assert_true(ns >= before - 600 * GT_SECOND && ns <= gt_now() - 600 * GT_SECOND);
	assert_int_equal(gt_time_parse("-2500000h", &ns, NULL), 0);
	assert_int_equal(ns, INT64_MAX);
	static const char *const BAD[] = { "", "soon", "2017-13-01T00:00:00Z", "2017-07-14T25:00:00Z", "1e9", "--1", "-", "0x10", "99999999999999999999", "2017-07-14T02:40:00+2" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		struct gt_error err = { 0 };
		if (gt_time_parse(BAD[i], &ns, &err) == 0)
			fail_msg("\"%s\" was taken for a time", BAD[i]);
		assert_int_equal(err.kind, GT_INVALID);
	}
}

static void durations_are_go_durations(void **state)
{
	(void)state;
	static const struct { const char *text; int64_t ns; } CASES[] = {
		{ "0", 0 }, { "1s", GT_SECOND }, { "1h2m3.5s", 3723500 * GT_MILLISECOND }, { "500ms", 500 * GT_MILLISECOND },
		{ "10us", 10000 }, { "3ns", 3 }, { "1.5h", 5400 * GT_SECOND },
	};
	int64_t ns;
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		assert_int_equal(gt_duration_parse(CASES[i].text, &ns, NULL), 0);
		assert_int_equal(ns, CASES[i].ns);
	}
	static const char *const BAD[] = { "", "5", "s", "1x", "1h-2m", "99999999999h", "0x1p3s", "1e3s", "1.2.3s", ".s", "infs", "nans" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++)
		if (gt_duration_parse(BAD[i], &ns, NULL) == 0)
			fail_msg("\"%s\" was taken for a duration", BAD[i]);
}

/* ---- names and maps ---- */

static void names_that_could_leave_a_directory_are_refused(void **state)
{
	(void)state;
	static const char *const GOOD[] = { "web", "a1", "A.b-c_d", "0a" };
	static const char *const BAD[] = { "", ".", "..", "/a", "a/b", "-ab", ".ab", "a b", "a\nb", "\xc3\xa9t" };
	for (size_t i = 0; i < GT_COUNT(GOOD); i++)
		assert_true(gt_is_name(GOOD[i]));
	for (size_t i = 0; i < GT_COUNT(BAD); i++)
		assert_false(gt_is_name(BAD[i]));
	char id[GT_ID_LEN + 1];
	gt_id_new(id);
	assert_true(gt_is_id(id) && gt_is_id_prefix("abc") && !gt_is_id_prefix("xyz") && !gt_is_id("abc"));
}

static void a_map_finds_what_it_was_given(void **state)
{
	(void)state;
	struct gt_map map = { 0 };
	char key[16];
	static int values[1000];
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof key, "k%d", i);
		assert_null(gt_map_set(&map, key, &values[i]));
	}
	for (int i = 0; i < 1000; i += 2) {
		snprintf(key, sizeof key, "k%d", i);
		assert_ptr_equal(gt_map_remove(&map, key), &values[i]);
	}
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof key, "k%d", i);
		assert_ptr_equal(gt_map_get(&map, key), i % 2 ? &values[i] : NULL);
	}
	assert_int_equal(map.count, 500);
	size_t seen = 0;
	for (size_t i = 0; gt_map_next(&map, &i);)
		seen++;
	assert_int_equal(seen, 500);
	gt_map_free(&map);
}

/* ---- JSON ---- */

static void hostile_json_is_refused(void **state)
{
	(void)state;
	struct gt_error err = { 0 };
	assert_null(gt_json_parse("{\"a\": ]", 7, "request body", &err));
	assert_int_equal(err.kind, GT_INVALID);
	assert_non_null(strstr(err.message, "request body"));
	assert_null(gt_json_parse("{} x", 4, "body", &err));
	assert_null(gt_json_parse("", 0, "body", &err));
	assert_null(gt_json_parse("\"a\\u0000b\"", 10, "body", &err));
	size_t size = 1 << 20;
	AUTO_FREE char *deep = gt_xmalloc(size);
	memset(deep, '[', size);
	assert_null(gt_json_parse(deep, size, "body", &err));
	assert_int_equal(err.kind, GT_INVALID);
}

struct inner {
	int64_t number;
};
struct outer {
	char *text;
	bool flag;
	struct gt_opt_int maybe;
	struct gt_strings list;
	json_t *raw;
	struct inner inner;
};
static const struct gt_json_field INNER[] = { GT_JSON_FIELD(GT_JSON_INT, struct inner, number, "Number"), { 0 } };
static const struct gt_json_field OUTER[] = {
	GT_JSON_FIELD(GT_JSON_STRING, struct outer, text, "Text"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct outer, flag, "Flag"),
	GT_JSON_FIELD(GT_JSON_OPT_INT, struct outer, maybe, "Maybe"),
	GT_JSON_FIELD(GT_JSON_STRING_OR_LIST, struct outer, list, "List"),
	GT_JSON_FIELD(GT_JSON_RAW, struct outer, raw, "Raw"),
	{ .name = "Inner", .type = GT_JSON_STRUCT, .offset = offsetof(struct outer, inner), .nested = INNER },
	{ 0 },
};

static void what_is_not_utf8_is_replaced_in_json(void **state)
{
	(void)state;
	static const struct { const char *text, *repaired; } CASES[] = {
		{ "plain", "plain" },
		{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" },
		{ "a\xff" "b", "a\xef\xbf\xbd" "b" },
		{ "cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },                       /* overlong */
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },          /* a surrogate */
		{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* beyond U+10FFFF */
		{ "", "" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *json = gt_json_text(CASES[i].text);
		AUTO_FREE char *repaired = gt_utf8_repair(CASES[i].text);
		assert_string_equal(json_string_value(json), CASES[i].repaired);
		assert_string_equal(repaired, CASES[i].repaired);
	}
}

static void a_struct_goes_to_json_and_back(void **state)
{
	(void)state;
	static const char TEXT[] =
		"{\"text\":\"t\",\"Flag\":true,\"Maybe\":0,\"List\":\"one\",\"Raw\":{\"x\":[1]},\"Inner\":{\"Number\":7},\"Unknown\":1}";
	struct outer outer = { 0 };
	AUTO_JSON json_t *in = gt_json_parse(TEXT, strlen(TEXT), "test", NULL);
	assert_int_equal(gt_json_decode(in, OUTER, &outer, NULL), 0);
	assert_string_equal(outer.text, "t");
	assert_true(outer.flag && outer.maybe.set && outer.maybe.value == 0 && outer.list.set);
	assert_int_equal(outer.list.count, 1);
	assert_int_equal(outer.inner.number, 7);
	AUTO_JSON json_t *out = gt_json_encode(OUTER, &outer);
	AUTO_FREE char *text = json_dumps(out, JSON_COMPACT);
	assert_string_equal(text, "{\"Text\":\"t\",\"Flag\":true,\"Maybe\":0,\"List\":[\"one\"],\"Raw\":{\"x\":[1]},"
				  "\"Inner\":{\"Number\":7}}");
	gt_json_release(OUTER, &outer);
	assert_null(outer.text);

	struct gt_error err = { 0 };
	AUTO_JSON json_t *wrong = json_pack("{s{ss}}", "Inner", "Number", "seven");
	assert_int_equal(gt_json_decode(wrong, OUTER, &outer, &err), -1);
	assert_int_equal(err.kind, GT_INVALID);
	assert_non_null(strstr(err.message, "Number"));
	gt_json_release(OUTER, &outer);
}

static void a_brief_document_reads_as_the_whole_one(void **state)
{
	(void)state;
	static const struct { const char *whole, *brief; } CASES[] = {
		{ "{\"Text\":\"\",\"Flag\":false,\"Maybe\":null,\"List\":null,\"Raw\":null,\"Inner\":{\"Number\":0}}", "{}" },
		{ "{\"Text\":\"t\",\"Flag\":true,\"Maybe\":0,\"List\":[],\"Raw\":[],\"Inner\":{\"Number\":7}}",
		  "{\"Text\":\"t\",\"Flag\":true,\"Maybe\":0,\"List\":[],\"Raw\":[],\"Inner\":{\"Number\":7}}" },
		{ "{\"Text\":\"\",\"Flag\":false,\"Maybe\":-1,\"List\":[\"\"],\"Raw\":false,\"Inner\":{\"Number\":0}}",
		  "{\"Maybe\":-1,\"List\":[\"\"],\"Raw\":false}" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct outer outer = { 0 }, again = { 0 };
		AUTO_JSON json_t *in = gt_json_parse(CASES[i].whole, strlen(CASES[i].whole), "test", NULL);
		assert_int_equal(gt_json_decode(in, OUTER, &outer, NULL), 0);
		AUTO_JSON json_t *brief = gt_json_encode_brief(OUTER, &outer);
		AUTO_FREE char *text = json_dumps(brief, JSON_COMPACT);
		assert_string_equal(text, CASES[i].brief);
		assert_int_equal(gt_json_decode(brief, OUTER, &again, NULL), 0);
		AUTO_JSON json_t *out = gt_json_encode(OUTER, &again);
		AUTO_FREE char *whole = json_dumps(out, JSON_COMPACT);
		assert_string_equal(whole, CASES[i].whole);
		gt_json_release(OUTER, &outer);
		gt_json_release(OUTER, &again);
	}
}

/* ---- many at a time ---- */

static void count_call(void *arg, size_t i)
{
	_Atomic unsigned *calls = arg;
	calls[i]++;
}

static void each_thing_is_worked_on_once(void **state)
{
	(void)state;
	static const struct { size_t count, threads; } CASES[] = { { 0, 4 }, { 1, 4 }, { 1000, 0 }, { 1000, 1 }, { 1000, 3 }, { 1000, 1000 } };
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		_Atomic unsigned calls[1001] = { 0 };
		gt_parallel(CASES[i].count, CASES[i].threads, count_call, calls);
		for (size_t n = 0; n < GT_COUNT(calls); n++)
			assert_int_equal(calls[n], n < CASES[i].count);
	}
}

/* ---- files ---- */

static void a_document_is_replaced_whole_and_leaves_no_temporary_file(void **state)
{
	AUTO_CLOSE int dir = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_BUF struct gt_buf text = { 0 };
	assert_int_equal(gt_replace_file(dir, "doc", "one", 3, 0600, true, NULL), 0);
	assert_int_equal(gt_replace_file(dir, "doc", "two!", 4, 0600, false, NULL), 0);
	assert_int_equal(gt_read_file(dir, "doc", 100, &text, NULL), 0);
	assert_string_equal(text.data, "two!");
	struct gt_error err = { 0 };
	assert_int_equal(gt_read_file(dir, "doc", 3, &text, &err), -1);
	assert_int_equal(err.kind, GT_TOO_LARGE);
	assert_int_equal(unlinkat(dir, "doc", 0), 0);
	assert_int_equal(rmdir(*state), 0);
	mkdir(*state, 0700);
}

static void a_path_inside_a_root_cannot_leave_it(void **state)
{
	AUTO_CLOSE int dir = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat("/etc", dir, "abs"), 0);
	assert_int_equal(symlinkat("../../../../../../etc", dir, "rel"), 0);
	assert_int_equal(mkdirat(dir, "etc", 0700), 0);
	static const char *const PATHS[] = { "abs", "rel", "../../etc", "/etc" };
	struct stat inside, found;
	fstatat(dir, "etc", &inside, 0);
	for (size_t i = 0; i < GT_COUNT(PATHS); i++) {
		AUTO_CLOSE int fd = gt_openat2(dir, PATHS[i], O_PATH, 0, RESOLVE_IN_ROOT);
		assert_true(fd >= 0);
		fstat(fd, &found);
		assert_int_equal(found.st_ino, inside.st_ino);
		AUTO_CLOSE int beneath = gt_openat2(dir, PATHS[i], O_PATH, 0, RESOLVE_BENEATH);
		assert_int_equal(beneath, -1);
	}
}

static void removing_a_tree_does_not_follow_links(void **state)
{
	AUTO_CLOSE int dir = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(gt_mkdirs(dir, "keep/me", 0700, NULL), 0);
	assert_int_equal(gt_mkdirs(dir, "tree/a/b/c", 0700, NULL), 0);
	assert_int_equal(symlinkat("../../keep", dir, "tree/a/link"), 0);
	assert_int_equal(gt_remove_tree(dir, "tree", NULL), 0);
	assert_int_equal(gt_remove_tree(dir, "tree", NULL), 0);
	assert_int_equal(faccessat(dir, "tree", F_OK, 0), -1);
	assert_int_equal(faccessat(dir, "keep/me", F_OK, 0), 0);
}

static void descriptors_travel_over_a_socket(void **state)
{
	(void)state;
	int pair[2], pipe_fds[2], got[GT_MAX_FDS];
	size_t count = GT_COUNT(got);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	int before = open_fds();
	assert_int_equal(gt_send_fds(pair[0], "hello", 5, pipe_fds, 2), 5);
	char text[8] = "";
	assert_int_equal(gt_recv_fds(pair[1], text, sizeof text, got, &count), 5);
	assert_int_equal(count, 2);
	assert_string_equal(text, "hello");
	close(got[0]);
	close(got[1]);
	assert_int_equal(open_fds(), before);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(pipe_fds[i]);
	}
}

/* ---- processes ---- */

static void a_program_gets_only_the_descriptors_asked_for(void **state)
{
	(void)state;
	int out[2];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	int raised = gt_fd_raise(open("/dev/zero", O_RDONLY)); /* without O_CLOEXEC first, and far above what is wanted */
	assert_true(raised > out[1]);
	assert_int_equal(gt_fd_raise(raised), raised);
	int fds[] = { -1, out[1], -1 };
	char *argv[] = { "sh", "-c", "ls /proc/self/fd | wc -l; exit 7", NULL };
	char *envp[] = { "PATH=/usr/bin:/bin", NULL };
	struct gt_spawn how = { .path = "/bin/sh", .argv = argv, .envp = envp, .fds = fds, .nfds = 3 };
	int pidfd = -1, status = 0;
	assert_int_equal(gt_spawn(&how, NULL, &pidfd, NULL), 0);
	assert_int_equal(close(raised), 0);     /* the child's table is not ours */
	close(out[1]);
	char text[16] = "";
	assert_true(gt_read_full(out[0], text, sizeof text - 1) > 0);
	assert_int_equal(gt_reap(pidfd, &status, NULL), 0);
	close(pidfd);
	close(out[0]);
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(atoi(text), 4);        /* 0, 1, 2 and the directory that ls reads */
}

static void a_missing_program_is_an_error_of_spawn(void **state)
{
	(void)state;
	struct gt_error err = { 0 };
	char *argv[] = { "x", NULL };
	struct gt_spawn how = { .path = "/no/such/program", .argv = argv };
	assert_int_equal(gt_spawn(&how, NULL, NULL, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
}

/* ---- streams ---- */

static int produce(void *arg, struct gt_queue *queue, struct gt_error *err)
{
	char block[1000];
	memset(block, 'x', sizeof block);
	for (int i = 0; i < *(int *)arg; i++)
		if (gt_queue_write(queue, block, sizeof block, err) < 0)
			return -1;
	return gt_fail(err, GT_UNAVAILABLE, "the source dried up");
}

static void a_stream_delivers_all_bytes_and_then_the_error(void **state)
{
	(void)state;
	static int blocks = 2000;
	struct gt_error err = { 0 };
	struct gt_producers group;
	gt_producers_init(&group);
	struct gt_stream *stream = gt_stream_from_thread(&group, produce, &blocks, NULL, &err);
	char bytes[4096];
	ssize_t got, total = 0;
	while ((got = gt_stream_read(stream, bytes, sizeof bytes, 1000, &err)) > 0)
		total += got;
	assert_int_equal(total, 2000 * 1000);
	assert_int_equal(got, -1);
	assert_string_equal(err.message, "the source dried up");
	gt_stream_close(stream);
	gt_producers_end(&group);
}

static void finished(void *arg)
{
	__atomic_store_n((int *)arg, -1, __ATOMIC_RELEASE);
}

static void closing_a_stream_ends_its_producer(void **state)
{
	(void)state;
	static int blocks = 1 << 30;
	struct gt_producers group;
	gt_producers_init(&group);
	struct gt_stream *stream = gt_stream_from_thread(&group, produce, &blocks, finished, NULL);
	char byte;
	assert_int_equal(gt_stream_read(stream, &byte, 1, 1000, NULL), 1);
	gt_stream_close(stream);
	for (int i = 0; i < 1000 && __atomic_load_n(&blocks, __ATOMIC_ACQUIRE) != -1; i++)
		usleep(1000);
	assert_int_equal(__atomic_load_n(&blocks, __ATOMIC_ACQUIRE), -1);
	gt_producers_end(&group);
}

static void finished_late(void *arg)
{
	usleep(50000);
	finished(arg);
}

/* What a producer uses may go once its group has ended, even where a client still holds the stream and reads nothing. */
static void the_end_of_a_group_waits_for_its_producers(void **state)
{
	(void)state;
	static int blocks[2] = { 1 << 30, 1 << 30 };
	struct gt_producers group;
	struct gt_error err = { 0 };
	char bytes[4096];
	gt_producers_init(&group);
	struct gt_stream *held = gt_stream_from_thread(&group, produce, &blocks[0], finished_late, NULL);
	struct gt_stream *closed = gt_stream_from_thread(&group, produce, &blocks[1], finished_late, NULL);
	gt_stream_close(closed);
	gt_producers_end(&group);
	assert_int_equal(blocks[0], -1);
	assert_int_equal(blocks[1], -1);
	ssize_t got;
	while ((got = gt_stream_read(held, bytes, sizeof bytes, 1000, &err)) > 0)
		;
	assert_int_equal(got, -1);
	assert_int_equal(err.kind, GT_CANCELLED);
	gt_stream_close(held);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_gathers_context_and_keeps_its_kind),
		cmocka_unit_test(a_long_error_is_cut_between_characters),
		cmocka_unit_test(times_are_written_and_read_as_go_does),
		cmocka_unit_test(times_are_read_in_all_their_forms),
		cmocka_unit_test(durations_are_go_durations),
		cmocka_unit_test(names_that_could_leave_a_directory_are_refused),
		cmocka_unit_test(a_map_finds_what_it_was_given),
		cmocka_unit_test(hostile_json_is_refused),
		cmocka_unit_test(what_is_not_utf8_is_replaced_in_json),
		cmocka_unit_test(a_struct_goes_to_json_and_back),
		cmocka_unit_test(a_brief_document_reads_as_the_whole_one),
		cmocka_unit_test(each_thing_is_worked_on_once),
		cmocka_unit_test_setup_teardown(a_document_is_replaced_whole_and_leaves_no_temporary_file, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(a_path_inside_a_root_cannot_leave_it, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(removing_a_tree_does_not_follow_links, scratch_make, scratch_remove),
		cmocka_unit_test(descriptors_travel_over_a_socket),
		cmocka_unit_test(a_program_gets_only_the_descriptors_asked_for),
		cmocka_unit_test(a_missing_program_is_an_error_of_spawn),
		cmocka_unit_test(a_stream_delivers_all_bytes_and_then_the_error),
		cmocka_unit_test(closing_a_stream_ends_its_producer),
		cmocka_unit_test(the_end_of_a_group_waits_for_its_producers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
