/*
 * test_cli_text.c - what people read: times, sizes, cut texts; and bytes on the way: detach keys, framed output,
 * .dockerignore, base64, references.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#include "../../cli/cli.h"
#include "base/base64.h"
#include "../../cli/demux.h"
#include "../../cli/humanize.h"
#include "base/ignore.h"
#include "../../cli/image.h"
#include "../../cli/term.h"

static void durations_in_dockers_words(void **state)
{
	(void)state;
	static const struct {
		int64_t seconds;
		const char *words;
	} cases[] = {
		{ -5, "Less than a second" }, { 0, "Less than a second" }, { 1, "1 second" },
		{ 59, "59 seconds" },	      { 60, "About a minute" },	   { 119, "About a minute" },
		{ 120, "2 minutes" },	      { 3540, "59 minutes" },	   { 3600, "About an hour" },
		{ 5399, "About an hour" },    { 5400, "2 hours" },	   { 47 * 3600, "47 hours" },
		{ 48 * 3600, "2 days" },      { 13 * 86400, "13 days" },   { 14 * 86400, "2 weeks" },
		{ 59 * 86400, "8 weeks" },    { 60 * 86400, "2 months" },  { 729LL * 86400, "24 months" },
		{ 730LL * 86400, "2 years" },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_FREE char *words = human_duration(cases[i].seconds);
		assert_string_equal(words, cases[i].words);
	}
}

static void sizes_in_dockers_units(void **state)
{
	(void)state;
	static const struct {
		double bytes;
		const char *size, *exact, *binary;
	} cases[] = {
		{ 0, "0B", "0B", "0B" },
		{ 999, "999B", "999B", "999B" },
		{ 1000, "1kB", "1kB", "1000B" },
		{ 12345, "12.3kB", "12.35kB", "12.06KiB" },
		{ 4260000, "4.26MB", "4.26MB", "4.063MiB" },
		{ 123456789, "123MB", "123.5MB", "117.7MiB" },
		{ 64 << 20, "67.1MB", "67.11MB", "64MiB" },
		{ 1e12, "1TB", "1TB", "931.3GiB" },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_FREE char *size = human_size(cases[i].bytes, 3);
		AUTO_FREE char *exact = human_size(cases[i].bytes, 4);
		AUTO_FREE char *binary = human_bytes(cases[i].bytes);
		assert_string_equal(size, cases[i].size);
		assert_string_equal(exact, cases[i].exact);
		assert_string_equal(binary, cases[i].binary);
	}
}

static void texts_are_cut_by_characters_and_quoted(void **state)
{
	(void)state;
	AUTO_FREE char *whole = ellipsis("12345678901234567890", 20);
	AUTO_FREE char *cut = ellipsis("123456789012345678901", 20);
	AUTO_FREE char *wide = ellipsis("ääääää", 4);
	AUTO_FREE char *quote = quoted("a\"b\\c\n\x01");
	AUTO_FREE char *id = short_id("sha256:0123456789abcdef", false);
	AUTO_FREE char *brief = short_id("abc", false);
	assert_string_equal(whole, "12345678901234567890");
	assert_string_equal(cut, "1234567890123456789…");
	assert_string_equal(wide, "äää…");
	assert_string_equal(quote, "\"a\\\"b\\\\c\\n\\x01\"");
	assert_string_equal(id, "0123456789ab");
	assert_string_equal(brief, "abc");
}

static void references_are_split(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{ "busybox", "busybox", NULL },
		{ "busybox:1.36", "busybox", "1.36" },
		{ "host:5000/a/b", "host:5000/a/b", NULL },
		{ "host:5000/a/b:v1", "host:5000/a/b", "v1" },
		{ "a@sha256:00", "a", "sha256:00" },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_FREE char *name = NULL, *tag = NULL;
		split_reference(cases[i][0], &name, &tag);
		assert_string_equal(name, cases[i][1]);
		if (cases[i][2])
			assert_string_equal(tag, cases[i][2]);
		else
			assert_null(tag);
	}
	AUTO_FREE char *hub = registry_of("library/busybox");
	AUTO_FREE char *own = registry_of("localhost/x");
	assert_string_equal(hub, "https://index.docker.io/v1/");
	assert_string_equal(own, "localhost");
}

static void base64_both_ways(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "user:pass", "dXNlcjpwYXNz" }
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_FREE char *encoded = gt_base64_encode(cases[i][0], strlen(cases[i][0]), false);
		AUTO_BUF struct gt_buf decoded = { 0 };
		assert_string_equal(encoded, cases[i][1]);
		assert_int_equal(gt_base64_decode(encoded, &decoded), 0);
		assert_string_equal(decoded.data ? decoded.data : "", cases[i][0]);
	}
	AUTO_BUF struct gt_buf out = { 0 };
	assert_int_equal(gt_base64_decode("a b", &out), -1);
}

/* ---- detach keys ---- */

static void detach_keys_are_parsed(void **state)
{
	(void)state;
	struct keys keys;
	assert_int_equal(keys_parse(&keys, "ctrl-p,ctrl-q", NULL), 0);
	assert_int_equal(keys.count, 2);
	assert_int_equal(keys.sequence[0], 16);
	assert_int_equal(keys.sequence[1], 17);
	assert_int_equal(keys_parse(&keys, "ctrl-X,x,ctrl-@,ctrl-_", NULL), 0);
	assert_int_equal(keys.sequence[0], 24);
	assert_int_equal(keys.sequence[2], 0);
	static const char *const bad[] = { "ctrl-", "ctrl-1", "ab", "ctrl-p,,x", "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a" };
	for (size_t i = 0; i < GT_COUNT(bad); i++)
		assert_int_equal(keys_parse(&keys, bad[i], NULL), -1);
}

static void a_broken_sequence_of_keys_goes_on_to_the_process(void **state)
{
	(void)state;
	struct keys keys;
	AUTO_BUF struct gt_buf out = { 0 };
	keys_parse(&keys, "ctrl-p,ctrl-q", NULL);
	assert_false(keys_filter(&keys, "ab\x10", 3, &out));
	assert_int_equal(out.len, 2);
	assert_false(keys_filter(&keys, "c", 1, &out));
	assert_memory_equal(out.data, "ab\x10" "c", 4);
	gt_buf_reset(&out);
	assert_false(keys_filter(&keys, "\x10\x10", 2, &out));
	assert_int_equal(out.len, 1);
	assert_true(keys_filter(&keys, "\x11" "rest", 5, &out));
	assert_int_equal(out.len, 1);
	keys_parse(&keys, "x", NULL);
	assert_true(keys_filter(&keys, "ax", 2, &out));
}

/* ---- framed output ---- */

struct sink {
	struct gt_buf streams[3];
	int writes;
};

static int sink_write(void *arg, int fd, const void *bytes, size_t len)
{
	struct sink *sink = arg;
	gt_buf_add(&sink->streams[fd], bytes, len);
	sink->writes++;
	return 0;
}

static void frames_reach_their_streams_however_they_are_cut(void **state)
{
	(void)state;
	static const char bytes[] =
		"\1\0\0\0\0\0\0\4one\n\1\0\0\0\0\0\0\2x\n\2\0\0\0\0\0\0\4two\n\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\3end";
	for (size_t piece = 1; piece < sizeof bytes; piece++) {
		struct sink sink = { 0 };
		struct demux demux = { .out = 1, .err = 2, .write = sink_write, .arg = &sink };
		for (size_t at = 0; at < sizeof bytes - 1; at += piece) {
			size_t len = sizeof bytes - 1 - at < piece ? sizeof bytes - 1 - at : piece;
			assert_int_equal(demux_feed(&demux, bytes + at, len, NULL), 0);
		}
		assert_string_equal(sink.streams[1].data, "one\nx\nend");
		assert_string_equal(sink.streams[2].data, "two\n");
		if (piece == sizeof bytes - 1)
			assert_int_equal(sink.writes, 3);
		demux_free(&demux);
		gt_buf_free(&sink.streams[1]);
		gt_buf_free(&sink.streams[2]);
	}
}

static void what_is_no_frame_is_refused(void **state)
{
	(void)state;
	struct sink sink = { 0 };
	struct demux demux = { .out = 1, .err = 2, .write = sink_write, .arg = &sink };
	assert_int_equal(demux_feed(&demux, "HTTP/1.1 200 OK", 15, NULL), -1);
	demux_free(&demux);
}

/* ---- .dockerignore ---- */

static void dockerignore_matches_like_docker(void **state)
{
	(void)state;
	static const struct {
		const char *patterns, *path;
		bool ignored;
	} cases[] = {
		{ "*.log", "a.log", true },
		{ "*.log", "d/a.log", false },
		{ "**/*.log", "d/e/a.log", true },
		{ "**/*.log", "a.log", true },
		{ "dir", "dir", true },
		{ "dir", "dir/x/y", true },
		{ "dir", "dirx", false },
		{ "/dir/", "dir/x", true },
		{ "dir/*", "dir/x", true },
		{ "dir/*", "dir", false },
		{ "a?c", "abc", true },
		{ "a?c", "a/c", false },
		{ "[a-c]x", "bx", true },
		{ "[^a-c]x", "bx", false },
		{ "*|!keep", "keep", false },
		{ "*|!keep", "other", true },
		{ "*|!d/keep", "d/keep", false },
		{ "!x|x", "x", true },
		{ "x|!x|x", "x", true },
		{ "**", "any/thing", true },
		{ "a/**/b", "a/x/y/b", true },
		{ "a/**/b", "a/b", true },
		{ "a/**/b", "a/x/c", false },
		{ "a/**", "a/x", true },
		{ "./x", "x", true },
		{ "", "x", false },
		{ ".", "x", false },
		{ "\\*", "*", true },
		{ "\\*", "x", false },
		{ " sp ", "sp", true },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct ignore ignore = { 0 };
		AUTO_FREE char *patterns = gt_xstrdup(cases[i].patterns);
		char *rest = NULL;
		for (char *one = strtok_r(patterns, "|", &rest); one; one = strtok_r(NULL, "|", &rest))
			ignore_add(&ignore, one);
		if (ignore_matches(&ignore, cases[i].path) != cases[i].ignored)
			fail_msg("%s on %s", cases[i].patterns, cases[i].path);
		ignore_free(&ignore);
	}
}

static void a_hostile_pattern_ends_in_time(void **state)
{
	(void)state;
	struct ignore ignore = { 0 };
	ignore_add(&ignore, "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b");
	assert_false(ignore_matches(&ignore,
				    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	ignore_free(&ignore);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_in_dockers_words),
		cmocka_unit_test(sizes_in_dockers_units),
		cmocka_unit_test(texts_are_cut_by_characters_and_quoted),
		cmocka_unit_test(references_are_split),
		cmocka_unit_test(base64_both_ways),
		cmocka_unit_test(detach_keys_are_parsed),
		cmocka_unit_test(a_broken_sequence_of_keys_goes_on_to_the_process),
		cmocka_unit_test(frames_reach_their_streams_however_they_are_cut),
		cmocka_unit_test(what_is_no_frame_is_refused),
		cmocka_unit_test(dockerignore_matches_like_docker),
		cmocka_unit_test(a_hostile_pattern_ends_in_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
