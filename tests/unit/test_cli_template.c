/*
 * test_cli_template.c - the templates of --format, on JSON and on rows of a list.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#include "../../cli/template.h"
#include "base/auto.h"
#include "base/buf.h"

static const char data[] =
	"{\"Name\":\"/web\",\"Id\":\"abc\",\"State\":{\"Pid\":42,\"Running\":true,\"Status\":\"running\"},"
	"\"Config\":{\"Env\":[\"A=1\",\"B=2\"],\"Labels\":{\"z\":\"26\",\"a.b/"
	"c\":\"1\"},\"Cmd\":[\"sleep\",\"100\"],\"Entrypoint\":null},"
	"\"HostConfig\":{\"Binds\":null,\"CpuShares\":0},\"Empty\":\"\",\"Half\":0.5,\"Mounts\":[{\"Name\":\"v\","
	"\"Destination\":\"/d\"}],"
	"\"NetworkSettings\":{\"Ports\":{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8080\"}]}}}";

/* The template's output on the data above, or the error's message. */
static char *run(const char *text)
{
	struct gt_error err = { 0 };
	struct gt_buf out = { 0 };
	AUTO_JSON json_t *json = json_loads(data, 0, NULL);
	struct template_root root = { .json = json };
	assert_non_null(json);
	struct template *template = template_parse(text, &err);
	int done = template ? template_execute(template, &root, &out, &err) : -1;
	template_free(template);
	if (done < 0) {
		gt_buf_free(&out);
		return gt_xstrdup(err.message);
	}
	return gt_buf_take(&out);
}

struct pair {
	const char *text, *expected;
};

static void check(const struct pair *pairs, size_t count, bool exact)
{
	for (size_t i = 0; i < count; i++) {
		AUTO_FREE char *out = run(pairs[i].text);
		if (exact)
			assert_string_equal(out, pairs[i].expected);
		else if (!strstr(out, pairs[i].expected) || strncmp(out, "template error", 14) != 0)
			fail_msg("%s gave: %s", pairs[i].text, out);
	}
}

static void fields_and_values_print_as_in_go(void **state)
{
	(void)state;
	static const struct pair pairs[] = {
		{ "plain", "plain" },
		{ "", "" },
		{ "{{.Name}}|{{ .State.Pid }}|{{.State.Running}}", "/web|42|true" },
		{ "{{.Config.Cmd}}", "[sleep 100]" },
		{ "{{.Config.Labels}}", "map[a.b/c:1 z:26]" },
		{ "{{.Config.Entrypoint}} {{.HostConfig.Binds}}", "[] []" },
		{ "{{.State.Health}}", "<nil>" },
		{ "{{.Config.Labels.none}}", "<no value>" },
		{ "{{.Config.Labels.z}}", "26" },
		{ "{{.Half}}", "0.5" },
		{ "{{.ID}}", "abc" },
		{ "{{json .Config.Cmd}} {{json .Name}}", "[\"sleep\",\"100\"] \"/web\"" },
		{ "{{\"a\\tb\"}}{{`c\\t`}}{{3}}{{-2}}{{1.5}}{{true}}", "a\tbc\\t3-21.5true" },
		{ "{{/* a comment */}}x", "x" },
		{ "a {{- .Id -}} b", "aabcb" },
		{ "a {{- /* c */ -}} b", "ab" },
	};
	check(pairs, GT_COUNT(pairs), true);
}

static void blocks_choose_and_repeat(void **state)
{
	(void)state;
	static const struct pair pairs[] = {
		{ "{{if .State.Running}}yes{{else}}no{{end}}", "yes" },
		{ "{{if .Empty}}yes{{else if .Id}}id{{else}}no{{end}}", "id" },
		{ "{{if .State.Health}}h{{else}}-{{end}}", "-" },
		{ "{{if .HostConfig.CpuShares}}n{{end}}", "" },
		{ "{{range .Config.Env}}[{{.}}]{{end}}", "[A=1][B=2]" },
		{ "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;" },
		{ "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}", "a.b/c:1 z:26 " },
		{ "{{range .HostConfig.Binds}}x{{else}}none{{end}}", "none" },
		{ "{{range .Mounts}}{{.Name}}:{{.Destination}} {{$.Id}}{{end}}", "v:/d abc" },
		{ "{{with .State}}{{.Pid}}{{end}}{{with .Empty}}x{{else}}e{{end}}", "42e" },
		{ "{{$x := .Id}}{{$x}}{{$x = \"y\"}}{{$x}}", "abcy" },
		{ "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{(index $c 0).HostPort}}{{end}}", "80/tcp 8080" },
		{ "{{with $s := .State}}{{$s.Pid}}{{end}}", "42" },
	};
	check(pairs, GT_COUNT(pairs), true);
}

static void functions_do_what_dockers_do(void **state)
{
	(void)state;
	static const struct pair pairs[] = {
		{ "{{len .Config.Env}}{{len .Name}}{{len .Config.Labels}}{{len .HostConfig.Binds}}", "2420" },
		{ "{{index .Config.Env 1}} {{index .Config.Labels \"a.b/c\"}}", "B=2 1" },
		{ "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080" },
		{ "{{join .Config.Env \",\"}} {{.Config.Env | len}}", "A=1,B=2 2" },
		{ "{{split \"a,b,c\" \",\"}}", "[a b c]" },
		{ "{{upper .Id}}{{lower \"ABC\"}}{{title \"hello\"}}", "ABCabcHello" },
		{ "{{printf \"%s-%d-%5s|%-5s|%05d|%q|%v|%.2f|%t|%%\" .Id .State.Pid \"r\" \"l\" 7 \"q\" .Config.Cmd "
		  ".Half true}}",
		  "abc-42-    r|l    |00007|\"q\"|[sleep 100]|0.50|true|%" },
		{ "{{println .Id 1}}", "abc 1\n" },
		{ "{{print 1 2 \"a\" \"b\" 3}}", "1 2a"
						 "b3" },
		{ "{{eq .Id \"x\" \"abc\"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 1 2}}",
		  "true true true true false false" },
		{ "{{and .Id .Empty}}|{{or .Empty \"d\"}}|{{not .Empty}}", "|d|true" },
		{ "{{slice \"abcdef\" 1 3}}{{slice .Config.Env 1}}", "bc[B=2]" },
		{ "{{truncate \"abcdef\" 3}}[{{pad \"x\" 1 2}}]", "abc[ x  ]" },
		{ "{{.Id | printf \"%s-%s\" \"y\" | upper}}", "Y-ABC" },
	};
	check(pairs, GT_COUNT(pairs), true);
}

static void mistakes_are_told_with_their_column(void **state)
{
	(void)state;
	static const struct pair pairs[] = {
		{ "{{.Nope", "column 8: unclosed action" },
		{ "{{.Nope}}", "column 3: there is no field \"Nope\"" },
		{ "{{.State.Nope}}", "there is no field \"Nope\"" },
		{ "{{.Name.X}}", "not an object" },
		{ "{{nope}}", "function \"nope\" not defined" },
		{ "{{if .Id}}x", "{{end}} is missing" },
		{ "x{{end}}", "unexpected {{end}}" },
		{ "{{else}}", "unexpected {{else}}" },
		{ "{{if .Id}}{{else}}{{else}}{{end}}", "unexpected {{else}}" },
		{ "{{\"abc}}", "unterminated string" },
		{ "{{range .Id}}{{end}}", "range" },
		{ "{{index .Config.Env 5}}", "out of range" },
		{ "{{index .Config.Env \"x\"}}", "index" },
		{ "{{join .Config.Env}}", "wrong number of arguments" },
		{ "{{join .Id \",\"}}", "must be a list" },
		{ "{{$y}}", "undefined variable \"$y\"" },
		{ "{{printf \"%d\" .Id}}", "%d needs a number" },
		{ "{{printf \"%s\"}}", "fewer values" },
		{ "{{printf \"x\" 1}}", "more values" },
		{ "{{.Id 1}}", "takes no arguments" },
		{ "{{(.Id}}", "')' is missing" },
		{ "{{}}", "value is missing" },
		{ "{{|}}", "value is missing" },
		{ "{{.Id |}}", "value is missing" },
		{ "{{template \"x\"}}", "{{template}} is not supported" },
		{ "{{/* x }}", "unclosed comment" },
		{ "{{.}", "unexpected" },
		{ "{{.Id}", "unexpected" },
		{ "{{1x}}", "bad number" },
		{ "{{slice \"abc\" 2 1}}", "out of range" },
		{ "{{pad \"x\" 99999 1}}", "pad" },
	};
	check(pairs, GT_COUNT(pairs), false);
}

static void deep_nesting_is_refused(void **state)
{
	(void)state;
	struct gt_buf text = { 0 };
	for (int i = 0; i < 100000; i++)
		gt_buf_str(&text, "{{if .Id}}");
	AUTO_FREE char *out = run(text.data);
	assert_non_null(strstr(out, "nested deeper"));
	gt_buf_reset(&text);
	gt_buf_str(&text, "{{");
	for (int i = 0; i < 100000; i++)
		gt_buf_char(&text, '(');
	AUTO_FREE char *parens = run(text.data);
	assert_non_null(strstr(parens, "nested deeper"));
	gt_buf_free(&text);
}

/* ---- rows ---- */

static json_t *row_field(const void *row, const char *name, const char *argument)
{
	if (argument)
		return strcmp(name, "Label") == 0 ? json_sprintf("label %s", argument) : NULL;
	return strcmp(name, "Ports") == 0 ? json_string("80->81") : strcmp(name, "ID") == 0 ? json_string(row) : NULL;
}

static json_t *row_whole(const void *row)
{
	return json_pack("{s:s,s:s}", "Ports", "80->81", "ID", row);
}

static void rows_have_fields_labels_and_json(void **state)
{
	(void)state;
	static const struct pair pairs[] = {
		{ "{{.ID}} {{.Ports}}", "x 80->81" },
		{ "{{.Label \"a\"}} {{\"b\" | .Label}}", "label a label b" },
		{ "{{json .}}", "{\"ID\":\"x\",\"Ports\":\"80-\\u003e81\"}" },
		{ "{{json .Ports}}", "\"80->81\"" },
		{ "{{upper .ID}}{{len .ID}}{{if .ID}}y{{end}}", "X1y" },
	};
	struct template_root root = { .field = row_field, .whole = row_whole, .row = "x" };
	for (size_t i = 0; i < GT_COUNT(pairs); i++) {
		AUTO_BUF struct gt_buf out = { 0 };
		struct gt_error err = { 0 };
		struct template *template = template_parse(pairs[i].text, &err);
		assert_non_null(template);
		assert_int_equal(template_execute(template, &root, &out, &err), 0);
		assert_string_equal(out.data, pairs[i].expected);
		template_free(template);
	}
}

static void mistakes_on_rows_leave_nothing(void **state)
{
	(void)state;
	static const char *const texts[] = { "{{.Label .ID.x}}", "{{.Label (.ID | .Nothing)}}", "{{.Label 1}}", "{{.Label \"a\" \"b\"}}", "{{1 | .Label}}" };
	struct template_root root = { .field = row_field, .whole = row_whole, .row = "x" };
	for (size_t i = 0; i < GT_COUNT(texts); i++) {
		AUTO_BUF struct gt_buf out = { 0 };
		struct gt_error err = { 0 };
		struct template *template = template_parse(texts[i], &err);
		assert_non_null(template);
		assert_int_equal(template_execute(template, &root, &out, &err), -1);
		assert_string_not_equal(err.message, "");
		template_free(template);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_and_values_print_as_in_go), cmocka_unit_test(blocks_choose_and_repeat),
		cmocka_unit_test(functions_do_what_dockers_do),     cmocka_unit_test(mistakes_are_told_with_their_column),
		cmocka_unit_test(deep_nesting_is_refused),          cmocka_unit_test(rows_have_fields_labels_and_json),
		cmocka_unit_test(mistakes_on_rows_leave_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
