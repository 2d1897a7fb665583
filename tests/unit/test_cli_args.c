/*
 * test_cli_args.c - command lines: the grammar of flags, checked values, and a table of commands that is sound.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#include "../../cli/args.h"
#include "base/auto.h"
#include "base/buf.h"

static const struct flag flags[] = {
	{ .name = "all", .letter = 'a', .type = FLAG_BOOL },
	{ .name = "interactive", .letter = 'i', .type = FLAG_BOOL },
	{ .name = "sig-proxy", .type = FLAG_BOOL, .initial = "true" },
	{ .name = "name", .letter = 'n', .type = FLAG_STRING },
	{ .name = "env", .letter = 'e', .type = FLAG_LIST },
	{ .name = "subnet", .type = FLAG_CSV },
	{ .name = "opt", .letter = 'o', .type = FLAG_MAP },
	{ .name = "filter", .letter = 'f', .type = FLAG_FILTER },
	{ .name = "memory", .letter = 'm', .type = FLAG_BYTES },
	{ .name = "last", .type = FLAG_INT, .initial = "-1" },
	{ .name = "weight", .type = FLAG_UINT16 },
	{ .name = "interval", .type = FLAG_DURATION },
	{ .name = "cpus", .type = FLAG_DECIMAL },
	{ .name = "isolation", .type = FLAG_STRING, .refuse = "it is for others" },
	{ .name = "net", .alias = "name" },
	{ .name = NULL },
};

/* Parses words separated by blanks. */
static int parse(struct args *args, bool flags_first, const char *line, char **owned, struct gt_error *err)
{
	char *words[64];
	int count = 0;
	*args = (struct args){ .path = "test" };
	*owned = gt_xstrdup(line);
	char *rest = NULL;
	for (char *word = strtok_r(*owned, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		words[count++] = word;
	return args_parse(args, flags, flags_first, count, words, err);
}

#define WITH(line, flags_first, ...)                                                       \
	do {                                                                               \
		struct args args;                                                          \
		struct gt_error err = { 0 };                                               \
		char *owned;                                                               \
		int done = parse(&args, flags_first, line, &owned, &err);                  \
		(void)done;                                                                \
		__VA_ARGS__                                                                \
		args_free(&args);                                                          \
		free(owned);                                                               \
	} while (0)

static void a_flag_is_given_in_each_of_its_spellings(void **state)
{
	(void)state;
	static const char *const lines[] = { "--name x", "--name=x", "-n x",	"-nx",	  "-n=x",
					     "-ain x",	 "-ainx",    "--net x", "--net=x" };
	for (size_t i = 0; i < GT_COUNT(lines); i++)
		WITH(lines[i], false, assert_int_equal(done, 0); assert_string_equal(arg_string(&args, "name"), "x"););
}

static void switches_join_and_take_words(void **state)
{
	(void)state;
	WITH("-ai", false, assert_true(arg_bool(&args, "all")); assert_true(arg_bool(&args, "interactive")););
	WITH("--all=false --sig-proxy=0", false, assert_false(arg_bool(&args, "all"));
	     assert_false(arg_bool(&args, "sig-proxy")); assert_true(arg_given(&args, "all")););
	WITH("x", false, assert_true(arg_bool(&args, "sig-proxy")); assert_false(arg_given(&args, "sig-proxy")););
	WITH("--all=maybe", false, assert_int_equal(done, -1););
}

static void lists_gather_and_commas_split_where_they_may(void **state)
{
	(void)state;
	WITH("-e A=1 -e B=2,3 --env C", false, assert_int_equal(arg_list(&args, "env")->count, 3);
	     assert_string_equal(arg_list(&args, "env")->items[1], "B=2,3"););
	WITH("--subnet a,b --subnet c", false, assert_int_equal(arg_list(&args, "subnet")->count, 3););
	WITH("--subnet \"a,b\",c", false, assert_int_equal(arg_list(&args, "subnet")->count, 2);
	     assert_string_equal(arg_list(&args, "subnet")->items[0], "a,b"););
}

static void the_first_operand_ends_the_flags_where_a_command_follows(void **state)
{
	(void)state;
	WITH("-a image -n x --all", true, assert_int_equal(done, 0); assert_int_equal(args.count, 4);
	     assert_string_equal(args.operands[1], "-n"); assert_false(arg_given(&args, "name")););
	WITH("image -n x y", false, assert_int_equal(args.count, 2); assert_string_equal(args.operands[1], "y"););
	WITH("-- -n x", false, assert_int_equal(args.count, 2); assert_string_equal(args.operands[0], "-n"););
	WITH("- x", false, assert_int_equal(args.count, 2););
}

static void mistakes_are_named(void **state)
{
	(void)state;
	static const struct {
		const char *line, *words;
	} cases[] = {
		{ "--nope", "unknown flag: --nope" },
		{ "--nope=3", "unknown flag: --nope" },
		{ "-x", "unknown shorthand flag: 'x' in -x" },
		{ "-ax", "unknown shorthand flag: 'x' in -ax" },
		{ "--name", "flag needs an argument: --name" },
		{ "-n", "flag needs an argument: 'n' in -n" },
		{ "--last x", "\"--last\" flag" },
		{ "--last 99999999999999999999", "\"--last\" flag" },
		{ "-m 12x", "\"-m, --memory\" flag" },
		{ "-m -5", "\"-m, --memory\" flag" },
		{ "--weight 70000", "65535" },
		{ "--interval 5", "duration" },
		{ "--cpus nan", "number" },
		{ "--cpus x", "number" },
		{ "-f x", "KEY=VALUE" },
		{ "-f =x", "KEY=VALUE" },
		{ "-o =x", "KEY=VALUE" },
		{ "--isolation x", "--isolation is not supported: it is for others" },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++)
		WITH(cases[i].line, false, assert_int_equal(done, -1); assert_non_null(strstr(err.message, cases[i].words)););
}

static void values_are_read_by_their_type(void **state)
{
	(void)state;
	WITH("-m 64m --last -3 --interval 1m30s --cpus 1.5 --weight 10", false,
	     assert_int_equal(arg_int(&args, "memory"), 64 << 20);
	     assert_int_equal(arg_int(&args, "last"), -3); assert_int_equal(arg_int(&args, "interval"), 90000000000LL);
	     assert_true(arg_decimal(&args, "cpus") == 1.5); assert_int_equal(arg_int(&args, "weight"), 10););
	WITH("", false, assert_int_equal(arg_int(&args, "last"), -1); assert_string_equal(arg_string(&args, "name"), ""););
}

static void sizes_have_units_of_1024(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t bytes;
	} cases[] = {
		{ "0", 0 },
		{ "10", 10 },
		{ "10b", 10 },
		{ "1k", 1024 },
		{ "1K", 1024 },
		{ "1kb", 1024 },
		{ "1KiB", 1024 },
		{ "1.5m", 1572864 },
		{ "2g", 2147483648LL },
		{ "1t", 1099511627776LL },
		{ "-1", -1 },
		{ "5 mb", 5242880 },
	};
	static const char *const bad[] = { "", "x", "1x", "1mm", "-2", "1e300", "k", "--1", "9999999p" };
	int64_t bytes;
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		assert_int_equal(parse_bytes(cases[i].text, &bytes), 0);
		assert_int_equal(bytes, cases[i].bytes);
	}
	for (size_t i = 0; i < GT_COUNT(bad); i++)
		assert_int_equal(parse_bytes(bad[i], &bytes), -1);
}

static void help_is_understood_anywhere_among_the_flags(void **state)
{
	(void)state;
	WITH("--help", false, assert_true(args.help););
	WITH("-a -h", false, assert_true(args.help););
	WITH("image --help", true, assert_false(args.help););
}

/* ---- the table ---- */

static void every_command_is_complete_and_its_flags_do_not_collide(void **state)
{
	(void)state;
	for (const struct command *command = commands; command->path; command++) {
		assert_non_null(command->usage);
		assert_non_null(command->summary);
		assert_ptr_equal(command_find(command->path), command);
		for (const struct flag *a = command->flags; a && a->name; a++) {
			assert_true(a->alias || a->refuse || a->doc);
			for (const struct flag *b = a + 1; b->name; b++) {
				assert_string_not_equal(a->name, b->name);
				assert_false(a->letter && a->letter == b->letter);
			}
		}
	}
}

static void every_commands_defaults_parse(void **state)
{
	(void)state;
	for (const struct command *command = commands; command->path; command++) {
		struct args args = { .path = command->path };
		struct gt_error err = { 0 };
		assert_int_equal(args_parse(&args, command->flags, command->flags_first, 0, NULL, &err), 0);
		args_free(&args);
	}
}

static void aliases_lead_to_the_same_command(void **state)
{
	(void)state;
	static const char *const same[][2] = {
		{ "ps", "container ls" },	  { "rmi", "image rm" },	{ "images", "image ls" },
		{ "container ps", "ps" },	  { "info", "system info" },	{ "run", "container run" },
		{ "volume remove", "volume rm" }, { "builder build", "build" },
	};
	for (size_t i = 0; i < GT_COUNT(same); i++) {
		assert_non_null(command_find(same[i][0]));
		assert_ptr_equal(command_find(same[i][0]), command_find(same[i][1]));
	}
	assert_null(command_find("container nothing"));
	assert_null(command_find("p"));
}

static void the_nearest_command_is_suggested(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{ "", "rnu", "run" },
		{ "", "iamges", "images" },
		{ "", "inspct", "inspect" },
		{ "network", "creat", "create" },
		{ "", "contaner", "container" },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		char *near = command_nearest(cases[i][0], cases[i][1]);
		assert_non_null(near);
		assert_string_equal(near, cases[i][2]);
		free(near);
	}
	assert_null(command_nearest("", "xylophone"));
	assert_null(command_nearest("", "a-very-very-very-very-very-very-long-word-that-is-none"));
}

static void the_number_of_operands_is_checked(void **state)
{
	(void)state;
	static const struct {
		int min, max, count;
		const char *words;
	} cases[] = {
		{ 0, 0, 1, "accepts no arguments" },
		{ 1, 1, 0, "requires 1 argument" },
		{ 2, 2, 1, "requires 2 arguments" },
		{ 1, ANY_NUMBER, 0, "requires at least 1 argument" },
		{ 1, 2, 3, "requires at most 2 arguments" },
		{ 1, 2, 2, NULL },
		{ 0, ANY_NUMBER, 9, NULL },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_error err = { 0 };
		struct command command = { .min = cases[i].min, .max = cases[i].max };
		struct args args = { .command = &command, .path = "x", .count = cases[i].count };
		assert_int_equal(args_check_count(&args, &err), cases[i].words ? -1 : 0);
		if (cases[i].words)
			assert_non_null(strstr(err.message, cases[i].words));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flag_is_given_in_each_of_its_spellings),
		cmocka_unit_test(switches_join_and_take_words),
		cmocka_unit_test(lists_gather_and_commas_split_where_they_may),
		cmocka_unit_test(the_first_operand_ends_the_flags_where_a_command_follows),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(values_are_read_by_their_type),
		cmocka_unit_test(sizes_have_units_of_1024),
		cmocka_unit_test(help_is_understood_anywhere_among_the_flags),
		cmocka_unit_test(every_command_is_complete_and_its_flags_do_not_collide),
		cmocka_unit_test(every_commands_defaults_parse),
		cmocka_unit_test(aliases_lead_to_the_same_command),
		cmocka_unit_test(the_nearest_command_is_suggested),
		cmocka_unit_test(the_number_of_operands_is_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
