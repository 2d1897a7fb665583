/*
 * test_engine_words.c - small things users write: signals, sizes, filters, detach keys; and the names made for those who give none.
 */
#include "testing.h"

#include <signal.h>
#include <string.h>

#include "engine/internal.h"

static void signals_are_names_and_numbers(void **state)
{
	(void)state;
	const struct {
		const char *text;
		int signo; /* 0: refused */
	} CASES[] = {
		{ "TERM", SIGTERM },   { "SIGTERM", SIGTERM }, { "sigterm", SIGTERM }, { "Kill", SIGKILL },     { "15", 15 },         { "9", 9 },
		{ "64", 64 },          { "01", 1 },            { "CHLD", SIGCHLD },    { "CLD", SIGCHLD },      { "ABRT", SIGABRT },  { "SIGIOT", SIGABRT },
		{ "IO", SIGIO },       { "POLL", SIGIO },      { "SIGWINCH", SIGWINCH }, { "USR1", SIGUSR1 },   { "STKFLT", SIGSTKFLT },
		{ "RTMIN", SIGRTMIN }, { "SIGRTMIN+3", SIGRTMIN + 3 }, { "RTMAX-1", SIGRTMAX - 1 }, { "rtmax", SIGRTMAX },
		{ "", 0 },             { "0", 0 },             { "65", 0 },            { "-1", 0 },             { "+9", 0 },           { "9x", 0 },
		{ "SIG", 0 },          { "SIGSIGTERM", 0 },    { "TERM ", 0 },         { "TERMX", 0 },          { "999999999999", 0 }, { "1.5", 0 },
		{ "RTMIN-1", 0 },      { "RTMAX+1", 0 },       { "RTMIN+31", 0 },      { "RTMIN+", 0 },         { "RTMIN+x", 0 },     { "RTMINX", 0 },
		{ "RTMIN+99999999999999999999", 0 },           { "RTMAX-99999999999999999999", 0 },
		{ "RTMIN+9223372036854775807", 0 },            { "RTMAX-9223372036854775808", 0 },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_error err = { 0 };
		int signo = 0, rc = gt_signal_parse(CASES[i].text, &signo, &err);
		if ((rc == 0) != (CASES[i].signo != 0) || signo != CASES[i].signo || (rc < 0 && (err.kind != GT_INVALID || !strstr(err.message, "Invalid signal: "))))
			fail_msg("%s: %d, %d %s", CASES[i].text, rc, signo, err.message);
	}
}

static void sizes_have_units_of_1024(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t bytes; /* -1: refused */
	} CASES[] = {
		{ "0", 0 },           { "4096", 4096 },       { "1b", 1 },          { "1k", 1024 },         { "1K", 1024 },        { "1kb", 1024 },
		{ "1KiB", 1024 },     { "1.5k", 1536 },       { "10m", 10 << 20 },  { "2 g", 2ll << 30 },   { "1g", 1 << 30 },     { "1GB", 1 << 30 },
		{ "1t", 1ll << 40 },  { "1p", 1ll << 50 },    { "0.5", 0 },         { "7000p", 7000ll << 50 },
		{ "", -1 },           { "m", -1 },            { "-1", -1 },         { "-1m", -1 },          { "+1", -1 },          { " 1", -1 },
		{ "1x", -1 },         { "1kk", -1 },          { "1kx", -1 },        { "1ki", -1 },          { "1bb", -1 },         { "0x10", -1 },
		{ "1e3", -1 },        { "nan", -1 },          { "inf", -1 },        { ".5k", -1 },          { "1,5k", -1 },        { "1  k", -1 },
		{ "99999p", -1 },     { "99999999999999999999", -1 }, { "9223372036854775807p", -1 }, { "1 ", 1 },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		int64_t bytes = -1;
		int rc = gt_size_parse(CASES[i].text, &bytes);
		if (bytes != CASES[i].bytes || (rc == 0) != (CASES[i].bytes >= 0))
			fail_msg("\"%s\": %d, %lld", CASES[i].text, rc, (long long)bytes);
	}
}

static void names_are_names(void **state)
{
	(void)state;
	char first[64], name[64];
	int same = 0;
	gt_name_new(first);
	for (int i = 0; i < 1000; i++) {
		gt_name_new(name);
		assert_true(gt_is_name(name));
		assert_non_null(strchr(name, '_'));
		same += strcmp(first, name) == 0;
	}
	assert_true(same < 10);
}

static void detach_keys_are_bytes(void **state)
{
	(void)state;
	static const struct {
		const char *text, *keys; /* NULL: refused */
	} CASES[] = {
		{ "", "" },
		{ "ctrl-p,ctrl-q", "\x10\x11" },
		{ "ctrl-a", "\x01" },
		{ "a", "a" },
		{ "a,b,ctrl-z", "ab\x1a" },
		{ "ctrl-[", "\x1b" },
		{ "ctrl-\\", "\x1c" },
		{ "ctrl-]", "\x1d" },
		{ "ctrl-^", "\x1e" },
		{ "ctrl-_", "\x1f" },
		{ "ctrl-", NULL },
		{ "ctrl-1", NULL },
		{ "ctrl-aa", NULL },
		{ "ab", NULL },
		{ "a,,b", NULL },
		{ "a,", NULL },
		{ ",", NULL },
		{ "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", NULL },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_BUF struct gt_buf keys = { 0 };
		struct gt_error err = { 0 };
		int rc = gt_detach_keys_parse(CASES[i].text, &keys, &err);
		if ((rc == 0) != (CASES[i].keys != NULL) || (rc == 0 && strcmp(keys.len ? keys.data : "", CASES[i].keys)) || (rc < 0 && err.kind != GT_INVALID))
			fail_msg("%s: %d %s", CASES[i].text, rc, err.message);
	}
}

/* ---- filters ---- */

static void filters_are_checked(void **state)
{
	(void)state;
	static const char *const KNOWN[] = { "name", "label", NULL };
	static const struct {
		const char *filters, *complaint; /* NULL: fine */
	} CASES[] = {
		{ "{}", NULL },
		{ "{\"name\":[]}", NULL },
		{ "{\"name\":[\"a\",\"b\"],\"label\":[\"x=y\"]}", NULL },
		{ "{\"nam\":[\"a\"]}", "invalid filter 'nam'" },
		{ "{\"Name\":[\"a\"]}", "invalid filter 'Name'" },
		{ "{\"\":[]}", "invalid filter ''" },
		{ "{\"name\":\"a\"}", "filter 'name' is not a list" },
		{ "{\"name\":{\"a\":true}}", "filter 'name' is not a list" },
		{ "{\"name\":[1]}", "not a string" },
		{ "{\"name\":[null]}", "not a string" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *filters = gt_json_parse(CASES[i].filters, strlen(CASES[i].filters), "filters", NULL);
		struct gt_error err = { 0 };
		int rc = gt_filter_check(filters, KNOWN, &err);
		if ((rc == 0) != !CASES[i].complaint || (rc < 0 && !strstr(err.message, CASES[i].complaint)))
			fail_msg("%s: %d %s", CASES[i].filters, rc, err.message);
	}
	assert_int_equal(gt_filter_check(NULL, KNOWN, NULL), 0);
	json_t *many = json_array();
	for (int i = 0; i < 1025; i++)
		json_array_append_new(many, json_string("a"));
	AUTO_JSON json_t *filters = json_pack("{s:o}", "name", many);
	assert_int_equal(gt_filter_check(filters, KNOWN, NULL), -1);
}

static void one_value_of_a_filter_is_enough_but_all_labels_are_needed(void **state)
{
	(void)state;
	AUTO_JSON json_t *filters = json_pack("{s:[ss] s:[]}", "status", "a", "b", "empty");
	assert_true(gt_filter_match(filters, "status", "a") && gt_filter_match(filters, "status", "b"));
	assert_false(gt_filter_match(filters, "status", "c") || gt_filter_match(filters, "status", "") || gt_filter_match(filters, "status", NULL));
	assert_true(gt_filter_match(filters, "empty", "x") && gt_filter_match(filters, "other", "x") && gt_filter_match(NULL, "status", "x"));
	assert_true(gt_filter_has(filters, "status") && !gt_filter_has(filters, "empty") && !gt_filter_has(NULL, "status"));

	static const struct {
		const char *wanted[2];
		bool holds;
	} CASES[] = {
		{ { "a" }, true },        { { "a=1" }, true },        { { "a=2" }, false },       { { "a=" }, false },         { { "b=" }, true },
		{ { "c" }, false },       { { "a", "c" }, false },    { { "a=1", "b" }, true },   { { "d=x=y" }, true },       { { "d=x" }, false },
		{ { "" }, false },        { { "=1" }, false },
	};
	AUTO_JSON json_t *labels = json_pack("{s:s s:s s:s}", "a", "1", "b", "", "d", "x=y");
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *label = json_pack("{s:[s]}", "label", CASES[i].wanted[0]);
		if (CASES[i].wanted[1])
			json_array_append_new(json_object_get(label, "label"), json_string(CASES[i].wanted[1]));
		if (gt_filter_match_labels(label, "label", labels) != CASES[i].holds)
			fail_msg("%s", CASES[i].wanted[0]);
		assert_false(gt_filter_match_labels(label, "label", NULL));
	}
	assert_true(gt_filter_match_labels(NULL, "label", NULL));
}

static void flags_are_true_false_or_absent(void **state)
{
	(void)state;
	static const struct {
		const char *value;
		int rc, flag;
	} CASES[] = { { "true", 0, 1 }, { "1", 0, 1 }, { "false", 0, 0 }, { "0", 0, 0 }, { "", -1, -1 }, { "True", -1, -1 }, { "yes", -1, -1 }, { "01", -1, -1 } };
	int flag = 7;
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *filters = json_pack("{s:[s]}", "dangling", CASES[i].value);
		struct gt_error err = { 0 };
		int rc = gt_filter_bool(filters, "dangling", &flag, &err);
		if (rc != CASES[i].rc || flag != CASES[i].flag || (rc < 0 && !strstr(err.message, "invalid filter 'dangling=")))
			fail_msg("\"%s\": %d, %d, %s", CASES[i].value, rc, flag, err.message);
	}
	AUTO_JSON json_t *other = json_pack("{s:[s] s:[]}", "name", "x", "dangling");
	assert_int_equal(gt_filter_bool(other, "dangling", &flag, NULL), 0);
	assert_int_equal(flag, -1);
	assert_int_equal(gt_filter_bool(NULL, "dangling", &flag, NULL), 0);
	assert_int_equal(flag, -1);
}

static void prunes_take_labels_and_spare_labels(void **state)
{
	(void)state;
	AUTO_JSON json_t *labels = json_pack("{s:s s:s}", "a", "1", "b", "2");
	AUTO_JSON json_t *spare_one = json_pack("{s:[s] s:[s]}", "label", "a", "label!", "b");
	AUTO_JSON json_t *spare_none = json_pack("{s:[s] s:[s]}", "label", "a", "label!", "c");
	AUTO_JSON json_t *spare_both = json_pack("{s:[ss]}", "label!", "b", "c");
	assert_false(gt_filter_match_prune(spare_one, labels));
	assert_true(gt_filter_match_prune(spare_none, labels));
	assert_true(gt_filter_match_prune(spare_both, labels));
	assert_true(gt_filter_match_prune(NULL, labels));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals_are_names_and_numbers),
		cmocka_unit_test(sizes_have_units_of_1024),
		cmocka_unit_test(names_are_names),
		cmocka_unit_test(detach_keys_are_bytes),
		cmocka_unit_test(filters_are_checked),
		cmocka_unit_test(one_value_of_a_filter_is_enough_but_all_labels_are_needed),
		cmocka_unit_test(flags_are_true_false_or_absent),
		cmocka_unit_test(prunes_take_labels_and_spare_labels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
