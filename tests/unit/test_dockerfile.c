/*
 * Tests of the Dockerfile parser and of words: cases from Docker's Dockerfile reference, mistakes and hostile input.
 */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "build/dockerfile.h"
#include "image/words.h"
#include "testing.h"

/* ---- words ---- */

static const char *value_of(const void *arg, const char *name, size_t len)
{
	static const char *const variables[][2] = { { "foo", "bar" },   { "empty", "" },        { "str", "foobarbaz" }, { "path", "/a/b/c.tar.gz" },
						    { "star", "a*b" }, { "1", "one" },         { "long_NAME9", "x y" } };
	(void)arg;
	for (size_t i = 0; i < GT_COUNT(variables); i++) {
		if (strlen(variables[i][0]) == len && strncmp(variables[i][0], name, len) == 0)
			return variables[i][1];
	}
	return NULL;
}

static const struct gt_scope scope = { value_of, NULL, '\\' };

static void variables_are_replaced_with_their_modifiers(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "hello", "hello" },
		{ "$foo", "bar" },
		{ "${foo}", "bar" },
		{ "a${foo}b", "abarb" },
		{ "$foo/baz", "bar/baz" },
		{ "${foo}_bar", "bar_bar" },
		{ "\\$foo", "$foo" },
		{ "\\${foo}", "${foo}" },
		{ "'$foo'", "$foo" },
		{ "\"$foo\"", "bar" },
		{ "\"\\$foo\"", "$foo" },
		{ "\"a\\b\"", "a\\b" },
		{ "\"\\\"\"", "\"" },
		{ "a' 'b\" \"c", "a b c" },
		{ "$unset", "" },
		{ "$", "$" },
		{ "a$", "a$" },
		{ "$1", "one" },
		{ "$long_NAME9", "x y" },
		{ "${foo:-word}", "bar" },
		{ "${unset:-word}", "word" },
		{ "${empty:-word}", "word" },
		{ "${empty-word}", "" },
		{ "${unset-word}", "word" },
		{ "${foo:+word}", "word" },
		{ "${empty:+word}", "" },
		{ "${empty+word}", "word" },
		{ "${unset+word}", "" },
		{ "${unset:-$foo}", "bar" },
		{ "${unset:-${empty:-${foo}}}", "bar" },
		{ "${unset:-'}'}", "}" },
		{ "${foo:?message}", "bar" },
		{ "${str#f*b}", "arbaz" },
		{ "${str##f*b}", "az" },
		{ "${str%b*}", "foobar" },
		{ "${str%%b*}", "foo" },
		{ "${str#x}", "foobarbaz" },
		{ "${path##*/}", "c.tar.gz" },
		{ "${path%.*}", "/a/b/c.tar" },
		{ "${path%%.*}", "/a/b/c" },
		{ "${str/ba/fo}", "fooforbaz" },
		{ "${str//ba/fo}", "fooforfoz" },
		{ "${str//b?/x}", "fooxrxz" },
		{ "${str/bar}", "foobaz" },
		{ "${str/f*z/all}", "all" },
		{ "${star/\\*/+}", "a+b" },
		{ "${unset/a/b}", "" },
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_error err = { 0 };
		AUTO_FREE char *got = gt_words_value(&scope, cases[i].text, &err);
		if (!got || strcmp(got, cases[i].want) != 0)
			fail_msg("%s: got \"%s\" (%s), want \"%s\"", cases[i].text, got ? got : "", err.message, cases[i].want);
	}
}

static void what_is_no_word_is_refused(void **state)
{
	static const char *const cases[] = { "${", "${foo", "${}", "${foo!x}", "'open", "\"open", "${unset:?must be set}", "${foo:-", "${foo/a",
					     "${foo:", "${foo:#x}" };
	(void)state;
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_error err = { 0 };
		AUTO_FREE char *got = gt_words_value(&scope, cases[i], &err);
		if (got)
			fail_msg("%s: \"%s\" came of it", cases[i], got);
		assert_int_equal(err.kind, GT_INVALID);
	}
}

static void hostile_words_cost_little(void **state)
{
	AUTO_BUF struct gt_buf deep = { 0 };
	AUTO_BUF struct gt_buf wide = { 0 };
	(void)state;
	for (int i = 0; i < 10000; i++)
		gt_buf_str(&deep, "${x:-");
	struct gt_error err = { 0 };
	assert_null(gt_words_value(&scope, deep.data, &err));
	assert_int_equal(err.kind, GT_TOO_LARGE);
	gt_buf_str(&wide, "${str#");
	for (int i = 0; i < 1000; i++)
		gt_buf_str(&wide, "*");
	gt_buf_str(&wide, "}");
	assert_null(gt_words_value(&scope, wide.data, &err));
	assert_int_equal(err.kind, GT_TOO_LARGE);
}

/* ---- Dockerfiles ---- */

static void parse(const char *text, struct dockerfile *file)
{
	struct gt_error err = { 0 };
	if (dockerfile_parse("Dockerfile", text, strlen(text), file, &err) < 0)
		fail_msg("%s\n%s", err.message, text);
}

static void lines_become_instructions(void **state)
{
	struct dockerfile file;
	(void)state;
	parse("\xef\xbb\xbf# escape=`\n# comment\n\nfrom a as B\r\n"
	      "RUN one `\n  # inside\n\n  two `  \n three\n"
	      "  CMD [\"x\", \"y\"]\nENV a=C:`\n",
	      &file);
	assert_int_equal(file.escape, '`');
	assert_int_equal(file.count, 4);
	assert_int_equal(file.items[0].keyword, KW_FROM);
	assert_string_equal(file.items[0].args, "a as B");
	assert_string_equal(file.items[1].args, "one   two  three");
	assert_int_equal(file.items[1].line, 5);
	assert_int_equal(file.items[1].last_line, 9);
	assert_int_equal(file.empty_count, 1);
	assert_string_equal(file.items[2].shown, "CMD [\"x\", \"y\"]");
	assert_int_equal(file.items[3].line, 11);
	dockerfile_free(&file);
}

static void directives_end_with_the_first_other_line(void **state)
{
	struct dockerfile file;
	(void)state;
	parse("# syntax=docker/dockerfile:1.7\n# check=skip=all\n# unknown=1\n# escape=`\nFROM a\nRUN x \\\n y\n", &file);
	assert_int_equal(file.escape, '\\');
	assert_string_equal(file.items[1].args, "x  y");
	dockerfile_free(&file);
}

static void flags_are_taken_off(void **state)
{
	struct dockerfile file;
	(void)state;
	parse("FROM --platform=$P a\nCOPY --from=b --chown=\"1 2\":3 --link --exclude=x --exclude=y -- --a b\n"
	      "HEALTHCHECK --interval=1s CMD x\nRUN --mount=type=cache,target=/x --network=none a --b\n",
	      &file);
	assert_string_equal(instruction_flag(&file.items[0], "platform"), "$P");
	assert_string_equal(instruction_flag(&file.items[1], "chown"), "1 2:3");
	assert_string_equal(instruction_flag(&file.items[1], "link"), "");
	assert_int_equal(file.items[1].flag_count, 5);
	assert_string_equal(file.items[1].args, "--a b");
	assert_string_equal(file.items[2].args, "--interval=1s CMD x");
	assert_string_equal(file.items[3].args, "a --b");
	dockerfile_free(&file);
}

static void here_documents_are_gathered(void **state)
{
	struct dockerfile file;
	(void)state;
	parse("FROM a\nRUN <<EOF\n# not a comment\nx \\\n\nEOF\nCOPY <<-\"A\" 3<<b /x/\n\tone\n\tA\ntwo\nb\nRUN cat <<<word\nRUN a << b\nUSER u\n", &file);
	assert_int_equal(file.count, 6);
	assert_string_equal(file.items[1].heredocs[0].content, "# not a comment\nx \\\n\n");
	assert_true(file.items[1].heredocs[0].expand);
	assert_int_equal(file.items[2].heredoc_count, 2);
	assert_string_equal(file.items[2].heredocs[0].content, "one\n");
	assert_false(file.items[2].heredocs[0].expand);
	assert_string_equal(file.items[2].heredocs[1].content, "two\n");
	assert_int_equal(file.items[3].heredoc_count, 0);
	assert_int_equal(file.items[4].heredoc_count, 0);
	dockerfile_free(&file);
}

static void mistakes_are_told_with_file_line_and_words(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "FROM a\nRNU x\n", "Dockerfile:2: unknown instruction: RNU (did you mean RUN?)\n    2 | RNU x" },
		{ "FROM a\n\nCOPY x\n", "Dockerfile:3: COPY requires at least two arguments" },
		{ "FROM a\nCOPY [\"x\"]\n", "Dockerfile:2: COPY requires at least two arguments" },
		{ "FROM a b\n", "Dockerfile:1: FROM requires either one or three arguments" },
		{ "FROM a AS 1x\n", "invalid name for build stage" },
		{ "FROM a\nRUN\n", "Dockerfile:2: RUN requires a command" },
		{ "FROM a\nENV\n", "ENV requires at least one argument" },
		{ "FROM a\nRUN --mont=x y\n", "unknown flag: --mont for RUN" },
		{ "FROM a\nCOPY --chown x y\n", "missing a value on flag: --chown" },
		{ "FROM a\nCOPY --from=x --from=y a b\n", "duplicate flag specified: --from" },
		{ "FROM a\nCOPY --link=maybe a b\n", "--link=maybe: expecting boolean value" },
		{ "FROM a\nONBUILD ONBUILD RUN x\n", "ONBUILD ONBUILD" },
		{ "FROM a\nONBUILD FROM x\n", "FROM isn't allowed as an ONBUILD trigger" },
		{ "FROM a\nRUN <<EOF\nx\n", "Dockerfile:2: unterminated heredoc" },
		{ "# escape=x\nFROM a\n", "Dockerfile:1: invalid escape token 'x'" },
		{ "# escape=`\n# escape=`\nFROM a\n", "only one escape parser directive" },
		{ "# syntax=evil/frontend\nFROM a\n", "only docker/dockerfile is built here" },
		{ "", "file with no instructions" },
		{ "# nothing\n\n", "file with no instructions" },
		{ "ARG x\n", "no FROM" },
		{ "ARG x\nRUN y\nFROM z\n", "Dockerfile:2: no build stage in current context" },
		{ "FROM a\nARG =x\n", "a name is missing" },
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct dockerfile file;
		struct gt_error err = { 0 };
		if (dockerfile_parse("Dockerfile", cases[i].text, strlen(cases[i].text), &file, &err) == 0)
			fail_msg("was taken: %s", cases[i].text);
		if (!strstr(err.message, cases[i].want))
			fail_msg("%s\ngot:  %s\nwant: %s", cases[i].text, err.message, cases[i].want);
	}
}

static void hostile_files_are_bounded(void **state)
{
	AUTO_BUF struct gt_buf text = { 0 };
	struct dockerfile file;
	struct gt_error err = { 0 };
	(void)state;
	gt_buf_str(&text, "FROM a\n");
	for (int i = 0; i <= DOCKERFILE_MAX_INSTRUCTIONS; i++)
		gt_buf_str(&text, "RUN x\n");
	assert_int_equal(dockerfile_parse("D", text.data, text.len, &file, &err), -1);
	assert_int_equal(err.kind, GT_TOO_LARGE);
	gt_buf_reset(&text);
	gt_buf_str(&text, "FROM a\nRUN ");
	for (int i = 0; i < 300000; i++)
		gt_buf_str(&text, "xxxx\\\n");
	assert_int_equal(dockerfile_parse("D", text.data, text.len, &file, &err), -1);
	assert_int_equal(err.kind, GT_TOO_LARGE);
	assert_int_equal(dockerfile_parse("D", "FROM a\0b", 8, &file, &err), -1);
	AUTO_FREE char *large = gt_xcalloc(1, DOCKERFILE_MAX + 2);
	assert_int_equal(dockerfile_parse("D", large, DOCKERFILE_MAX + 1, &file, &err), -1);
	assert_int_equal(err.kind, GT_TOO_LARGE);
}

/* Every beginning of a file, and every file with one byte changed, is parsed or refused. */
static void damaged_files_do_no_harm(void **state)
{
	static const char text[] = "# escape=\\\nARG A=1\nFROM --platform=x a AS b\nRUN <<-E cat <<'F'\n\tx\n\tE\ny\nF\nCOPY --chown=a:b [\"x\", \"y\"]\n"
				   "ONBUILD RUN z\nHEALTHCHECK --interval=1s CMD x\nENV a=\"b c\" \\\n d='e'\n";
	(void)state;
	for (size_t i = 0; i < sizeof text; i++) {
		struct dockerfile file;
		char copy[sizeof text];
		if (dockerfile_parse("D", text, i, &file, NULL) == 0)
			dockerfile_free(&file);
		for (int c = 1; c < 256; c += 3) {
			memcpy(copy, text, sizeof text);
			copy[i] = (char)c;
			if (dockerfile_parse("D", copy, sizeof text - 1, &file, NULL) == 0)
				dockerfile_free(&file);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(variables_are_replaced_with_their_modifiers),
		cmocka_unit_test(what_is_no_word_is_refused),
		cmocka_unit_test(hostile_words_cost_little),
		cmocka_unit_test(lines_become_instructions),
		cmocka_unit_test(directives_end_with_the_first_other_line),
		cmocka_unit_test(flags_are_taken_off),
		cmocka_unit_test(here_documents_are_gathered),
		cmocka_unit_test(mistakes_are_told_with_file_line_and_words),
		cmocka_unit_test(hostile_files_are_bounded),
		cmocka_unit_test(damaged_files_do_no_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
