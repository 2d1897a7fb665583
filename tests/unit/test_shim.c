/*
 * test_shim.c - parts of gantry-shim that need no container: log records read back, rotation, detach keys, frames, annotations.
 * The shim as a process is in test_shim_process.c.
 */
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "shim/annotations.h"
#include "shim/logformat.h"
#include "shim/shim.h"

#define TIME 1767323045123456789LL /* 2026-01-02T03:04:05.123456789Z */

static struct gt_logfile *open_log(const char *dir, enum gt_log_driver driver, int64_t max_size, unsigned max_file, bool compress, char **path)
{
	struct gt_logfile *log = NULL;
	struct gt_error err = { 0 };
	*path = gt_xasprintf("%s/log", dir);
	struct gt_log_settings settings = { driver, *path, max_size, max_file, compress, NULL, { 0 } };
	if (gt_logfile_open(&settings, &log, &err) < 0)
		fail_msg("%s", err.message);
	return log;
}

static void slurp(const char *path, struct gt_buf *out)
{
	struct gt_error err = { 0 };
	if (gt_read_file(AT_FDCWD, path, 1u << 28, out, &err) < 0)
		fail_msg("%s", err.message);
}

static void feed(struct gt_logfile *log, unsigned stream, const char *text)
{
	gt_logfile_feed(log, stream, text, strlen(text), TIME);
}

static void json_lines_are_dockers(void **state)
{
	AUTO_FREE char *path = NULL;
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_logfile *log = open_log(*state, GT_LOG_JSON_FILE, 0, 1, false, &path);
	feed(log, 1, "one\ntw");
	feed(log, 2, "err \"q\" \\ \x01\t\r\n");
	feed(log, 1, "o\n\nrest");
	gt_logfile_end(log, 1, TIME);
	gt_logfile_end(log, 2, TIME);
	gt_logfile_close(log);
	slurp(path, &text);
#define TAIL(stream) "\",\"stream\":\"" stream "\",\"time\":\"2026-01-02T03:04:05.123456789Z\"}\n"
	assert_string_equal(text.data, "{\"log\":\"one\\n" TAIL("stdout")
			    "{\"log\":\"err \\\"q\\\" \\\\ \\u0001\\t\\r\\n" TAIL("stderr")
			    "{\"log\":\"two\\n" TAIL("stdout") "{\"log\":\"\\n" TAIL("stdout") "{\"log\":\"rest" TAIL("stdout"));
}

static void text_that_is_not_utf8_is_replaced_and_the_rest_kept(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "plain text of more than sixteen bytes", "plain text of more than sixteen bytes" },
		{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
		{ "\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "a\xff" "b", "a\xef\xbf\xbd" "b" },
		{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },                     /* overlong */
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },     /* a surrogate */
		{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },                     /* cut off */
		{ "1234567\x7f\x1f", "1234567\x7f\x1f" },
		{ "12345678\"\\", "12345678\"\\" },
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_BUF struct gt_buf out = { 0 }, tail = { 0 };
		struct gt_error err = { 0 };
		gt_log_json_stamp(&tail, 1, NULL, TIME);
		gt_log_json_record(&out, &tail, cases[i].in, strlen(cases[i].in), true);
		AUTO_JSON json_t *json = gt_json_parse(out.data, out.len, "record", &err);
		if (!json)
			fail_msg("case %zu: %s", i, err.message);
		AUTO_FREE char *wanted = gt_xasprintf("%s\n", cases[i].out);
		assert_string_equal(json_string_value(json_object_get(json, "log")), wanted);
		gt_buf_free(&tail);
	}
}

static void every_byte_reads_back_as_json(void **state)
{
	AUTO_BUF struct gt_buf out = { 0 }, tail = { 0 };
	(void)state;
	gt_log_json_stamp(&tail, 2, NULL, TIME);
	for (int c = 1; c < 256; c++) {
		char text[24];
		for (size_t at = 0; at < sizeof text; at++) {
			memset(text, 'x', sizeof text);
			text[at] = (char)c;
			gt_buf_reset(&out);
			gt_log_json_record(&out, &tail, text, sizeof text, false);
			AUTO_JSON json_t *json = gt_json_parse(out.data, out.len, "record", NULL);
			assert_non_null(json);
			size_t len = json_string_length(json_object_get(json, "log"));
			assert_int_equal(len, sizeof text + (c >= 0x80 ? 2 : 0));
		}
	}
	gt_buf_free(&tail);
}

static void a_long_line_is_cut_between_characters(void **state)
{
	AUTO_FREE char *path = NULL;
	AUTO_BUF struct gt_buf line = { 0 }, text = { 0 }, whole = { 0 };
	struct gt_logfile *log = open_log(*state, GT_LOG_JSON_FILE, 0, 1, false, &path);
	gt_buf_char(&line, 'a'); /* so that no cut falls between two characters by chance */
	while (line.len < 3 * GT_LOG_CHUNK)
		gt_buf_str(&line, "\xe2\x82\xac");
	gt_buf_char(&line, '\n');
	for (size_t at = 0; at < line.len; at += 1000) /* also cut by the portions it comes in */
		gt_logfile_feed(log, 1, line.data + at, line.len - at < 1000 ? line.len - at : 1000, TIME);
	gt_logfile_feed(log, 1, line.data, line.len, TIME);
	gt_logfile_close(log);
	slurp(path, &text);
	int records = 0;
	for (char *at = text.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, records++) {
		AUTO_JSON json_t *json = gt_json_parse(at, (size_t)(end - at), "record", NULL);
		assert_non_null(json);
		const char *piece = json_string_value(json_object_get(json, "log"));
		assert_true(strlen(piece) <= GT_LOG_CHUNK + 1);
		gt_buf_str(&whole, piece);
	}
	assert_int_equal(records, 8);
	assert_int_equal(whole.len, 2 * line.len);
	assert_memory_equal(whole.data, line.data, line.len);
	assert_memory_equal(whole.data + line.len, line.data, line.len);
}

static void local_records_read_back(void **state)
{
	AUTO_FREE char *path = NULL;
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_logfile *log = open_log(*state, GT_LOG_LOCAL, 0, 1, false, &path);
	feed(log, 1, "one\n\xff\n");
	feed(log, 2, "tail");
	gt_logfile_end(log, 2, TIME + 1);
	gt_logfile_close(log);
	slurp(path, &text);
	static const struct {
		const char *text;
		int stream, flags;
		int64_t time;
	} wanted[] = { { "one", 1, 0, TIME }, { "\xff", 1, 0, TIME }, { "tail", 2, GT_LOG_PARTIAL, TIME + 1 } };
	size_t at = 0;
	for (size_t i = 0; i < GT_COUNT(wanted); i++) {
		struct gt_log_record record;
		assert_true(at + sizeof record <= text.len);
		memcpy(&record, text.data + at, sizeof record);
		at += sizeof record;
		assert_int_equal(record.magic, GT_LOG_MAGIC);
		assert_int_equal(record.stream, wanted[i].stream);
		assert_int_equal(record.flags, wanted[i].flags);
		assert_int_equal(record.time, wanted[i].time);
		assert_int_equal(record.len, strlen(wanted[i].text));
		assert_memory_equal(text.data + at, wanted[i].text, record.len);
		at += record.len;
	}
	assert_int_equal(at, text.len);
}

/* Numbered lines, so that what is where can be told from the text. */
static void feed_numbers(struct gt_logfile *log, int from, int to)
{
	for (int i = from; i < to; i++) {
		char line[32];
		snprintf(line, sizeof line, "line %08d\n", i);
		feed(log, 1, line);
	}
}

static int first_number(const struct gt_buf *text)
{
	const char *found = text->data ? strstr(text->data, "line ") : NULL;
	assert_non_null(found);
	return atoi(found + 5);
}

static void rotation_keeps_the_newest_files_whole(void **state)
{
	AUTO_FREE char *path = NULL;
	struct gt_logfile *log = open_log(*state, GT_LOG_JSON_FILE, 4096, 3, false, &path);
	feed_numbers(log, 0, 1000);
	gt_logfile_close(log);
	int next = 1000;
	for (int n = 0; n < 3; n++) {
		AUTO_FREE char *name = n ? gt_xasprintf("%s.%d", path, n) : gt_xstrdup(path);
		AUTO_BUF struct gt_buf text = { 0 };
		slurp(name, &text);
		assert_true(text.len < 4096 + 100);
		assert_int_equal(text.data[text.len - 1], '\n');
		int first = first_number(&text), lines = 0;
		for (const char *at = text.data; (at = strchr(at, '\n')) != NULL; at++)
			lines++;
		assert_int_equal(first + lines, next);
		next = first;
	}
	AUTO_FREE char *fourth = gt_xasprintf("%s.3", path);
	assert_int_equal(access(fourth, F_OK), -1);
}

static void one_file_is_emptied(void **state)
{
	AUTO_FREE char *path = NULL;
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_logfile *log = open_log(*state, GT_LOG_LOCAL, 2000, 1, false, &path);
	feed_numbers(log, 0, 1000);
	gt_logfile_close(log);
	AUTO_FREE char *second = gt_xasprintf("%s.1", path);
	assert_int_equal(access(second, F_OK), -1);
	slurp(path, &text);
	assert_true(text.len < 2100);
}

static void rotated_files_are_compressed(void **state)
{
	AUTO_FREE char *path = NULL;
	struct gt_logfile *log = open_log(*state, GT_LOG_JSON_FILE, 20000, 3, true, &path);
	feed_numbers(log, 0, 600); /* 93 bytes each: two rotations */
	AUTO_FREE char *packed = gt_xasprintf("%s.1.gz", path);
	AUTO_FREE char *plain = gt_xasprintf("%s.1", path);
	AUTO_FREE char *oldest = gt_xasprintf("%s.2.gz", path);
	for (int i = 0; i < 500 && (access(packed, F_OK) < 0 || access(plain, F_OK) == 0); i++)
		usleep(10000);
	gt_logfile_close(log);
	assert_int_equal(access(plain, F_OK), -1);
	assert_int_equal(access(oldest, F_OK), 0);
	gzFile gz = gzopen(packed, "rb");
	assert_non_null(gz);
	char text[65536];
	int n = gzread(gz, text, sizeof text - 1);
	assert_true(n >= 20000 && n < 20100);
	text[n] = '\0';
	assert_int_equal(gzclose(gz), Z_OK);
	assert_non_null(strstr(text, "line 00000300"));
}

static void a_full_disk_loses_records_but_tears_none(void **state)
{
	struct gt_error err = { 0 };
	struct gt_logfile *log = NULL;
	struct gt_log_settings settings = { GT_LOG_JSON_FILE, "/dev/full", 0, 1, false, NULL, { 0 } };
	(void)state;
	assert_int_equal(gt_logfile_open(&settings, &log, &err), 0);
	feed_numbers(log, 0, 10);
	gt_logfile_close(log);
}

static void a_log_is_opened_anew_where_it_was_moved_away(void **state)
{
	AUTO_FREE char *path = NULL;
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_error err = { 0 };
	struct gt_logfile *log = open_log(*state, GT_LOG_JSON_FILE, 0, 1, false, &path);
	feed(log, 1, "before\n");
	AUTO_FREE char *away = gt_xasprintf("%s.away", path);
	assert_int_equal(rename(path, away), 0);
	struct gt_log_settings settings = { GT_LOG_JSON_FILE, path, 0, 1, false, NULL, { 0 } };
	assert_int_equal(gt_logfile_reopen(log, &settings, &err), 0);
	feed(log, 1, "after\n");
	settings.path = "/no/such/directory/log";
	assert_int_equal(gt_logfile_reopen(log, &settings, &err), -1);
	feed(log, 1, "still\n");
	gt_logfile_close(log);
	slurp(path, &text);
	assert_non_null(strstr(text.data, "after"));
	assert_non_null(strstr(text.data, "still"));
	assert_null(strstr(text.data, "before"));
}

static void two_hundred_megabytes_of_short_lines_are_cheap(void **state)
{
	AUTO_FREE char *path = NULL;
	struct gt_logfile *log = open_log(*state, GT_LOG_JSON_FILE, 8 << 20, 2, false, &path);
	char *portion = gt_xmalloc(65536);
	for (size_t i = 0; i < 65536; i++)
		portion[i] = i % 64 == 63 ? '\n' : 'x';
	int64_t before = gt_monotonic();
	for (int i = 0; i < 200 * 16; i++)
		gt_logfile_feed(log, 1, portion, 65536, TIME);
	int64_t took = gt_monotonic() - before;
	gt_logfile_close(log);
	free(portion);
	print_message("200 MB in %lld ms\n", (long long)(took / GT_MILLISECOND));
	assert_true(took < 30 * GT_SECOND); /* a sanitizer on a slow disk; else well below one */
}

static void detach_keys_are_found_and_beginnings_pass_on(void **state)
{
	static const struct {
		const char *keys, *in, *out;
		bool found;
	} cases[] = {
		{ "\x10\x11", "hello", "hello", false },
		{ "\x10\x11", "a\x10\x11zz", "a", true },
		{ "\x10\x11", "a\x10z", "a\x10z", false },
		{ "\x10\x11", "\x10\x10\x11", "\x10", true },
		{ "\x10\x11", "end\x10", "end", false },        /* held */
		{ "aab", "aaab", "a", true },
		{ "abac", "ababac", "ab", true },
		{ "abac", "abab!", "abab!", false },
		{ "x", "wx", "w", true },
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		for (size_t portion = 1; portion <= 8; portion++) {
			AUTO_BUF struct gt_buf out = { 0 };
			size_t seen = 0, len = strlen(cases[i].in);
			bool found = false;
			for (size_t at = 0; at < len && !found; at += portion)
				found = gt_keys_filter(cases[i].keys, strlen(cases[i].keys), &seen, cases[i].in + at,
						       len - at < portion ? len - at : portion, &out);
			assert_int_equal(found, cases[i].found);
			assert_int_equal(out.len, strlen(cases[i].out));
			assert_memory_equal(out.data ? out.data : "", cases[i].out, out.len);
		}
	}
}

static void frames_have_dockers_header(void **state)
{
	unsigned char header[8];
	(void)state;
	gt_mux_header(header, 2, 0x01020304);
	assert_memory_equal(header, ((unsigned char[]){ 2, 0, 0, 0, 1, 2, 3, 4 }), 8);
}

static void annotations_are_checked(void **state)
{
	static const struct {
		const char *json, *error;
	} cases[] = {
		{ "{}", NULL },
		{ "{\"annotations\":{}}", NULL },
		{ "{\"annotations\":{\"org.gantry.log.driver\":\"json-file\",\"org.gantry.log.path\":\"/x\",\"org.gantry.log.max-size\":\"10\","
		  "\"org.gantry.log.max-file\":\"3\",\"org.gantry.log.compress\":\"true\",\"org.gantry.stdin\":\"once\"}}", NULL },
		{ "{\"annotations\":{\"org.gantry.log.driver\":\"json-file\"}}", "absolute path" },
		{ "{\"annotations\":{\"org.gantry.log.driver\":\"syslog\"}}", "syslog" },
		{ "{\"annotations\":{\"org.gantry.log.max-size\":\"10m\"}}", "max-size" },
		{ "{\"annotations\":{\"org.gantry.log.max-file\":\"0\"}}", "max-file" },
		{ "{\"annotations\":{\"org.gantry.log.compress\":\"yes\"}}", "compress" },
		{ "{\"annotations\":{\"org.gantry.stdin\":\"always\"}}", "stdin" },
		{ "{\"annotations\":[]}", "annotations" },
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_annotations notes;
		struct gt_error err = { 0 };
		AUTO_JSON json_t *config = json_loads(cases[i].json, 0, NULL);
		int rc = gt_annotations_read(config, &notes, &err);
		assert_int_equal(rc, cases[i].error ? -1 : 0);
		if (cases[i].error)
			assert_non_null(strstr(err.message, cases[i].error));
	}
}

int main(void)
{
#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(json_lines_are_dockers),
		cmocka_unit_test(text_that_is_not_utf8_is_replaced_and_the_rest_kept),
		cmocka_unit_test(every_byte_reads_back_as_json),
		IN_SCRATCH(a_long_line_is_cut_between_characters),
		IN_SCRATCH(local_records_read_back),
		IN_SCRATCH(rotation_keeps_the_newest_files_whole),
		IN_SCRATCH(one_file_is_emptied),
		IN_SCRATCH(rotated_files_are_compressed),
		cmocka_unit_test(a_full_disk_loses_records_but_tears_none),
		IN_SCRATCH(a_log_is_opened_anew_where_it_was_moved_away),
		IN_SCRATCH(two_hundred_megabytes_of_short_lines_are_cheap),
		cmocka_unit_test(detach_keys_are_found_and_beginnings_pass_on),
		cmocka_unit_test(frames_have_dockers_header),
		cmocka_unit_test(annotations_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
