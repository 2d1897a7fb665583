/* References: the distribution grammar and Docker's familiar names. */
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/json.h"
#include "image/image.h"
#include "testing.h"

static const struct {
	const char *text, *domain, *path, *tag, *familiar;
} good[] = {
	{ "busybox", "docker.io", "library/busybox", NULL, "busybox:latest" },
	{ "busybox:1.36", "docker.io", "library/busybox", "1.36", "busybox:1.36" },
	{ "library/busybox", "docker.io", "library/busybox", NULL, "busybox:latest" },
	{ "docker.io/busybox", "docker.io", "library/busybox", NULL, "busybox:latest" },
	{ "index.docker.io/library/busybox:a", "docker.io", "library/busybox", "a", "busybox:a" },
	{ "me/tool", "docker.io", "me/tool", NULL, "me/tool:latest" },
	{ "docker.io/a.b/c:1", "docker.io", "a.b/c", "1", "docker.io/a.b/c:1" },
	{ "docker.io/localhost/c", "docker.io", "localhost/c", NULL, "docker.io/localhost/c:latest" },
	{ "library/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "docker.io",
	  "library/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", NULL,
	  "library/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855:latest" },
	{ "localhost/a/b:t", "localhost", "a/b", "t", "localhost/a/b:t" },
	{ "localhost:5000/a", "localhost:5000", "a", NULL, "localhost:5000/a:latest" },
	{ "registry.example.com:443/x/y__z/w-1.2", "registry.example.com:443", "x/y__z/w-1.2", NULL,
	  "registry.example.com:443/x/y__z/w-1.2:latest" },
	{ "[2001:db8::1]:5000/a", "[2001:db8::1]:5000", "a", NULL, "[2001:db8::1]:5000/a:latest" },
	{ "Foo/bar", "Foo", "bar", NULL, "Foo/bar:latest" },
	{ "a_b:_x.Y-z", "docker.io", "library/a_b", "_x.Y-z", "a_b:_x.Y-z" },
	{ "a---b", "docker.io", "library/a---b", NULL, "a---b:latest" },
	{ "busybox@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "docker.io", "library/busybox", NULL,
	  "busybox@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ "x:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "docker.io", "library/x", "1",
	  "x:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
};

static void good_references_are_taken_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < GT_COUNT(good); i++) {
		struct gt_reference ref;
		struct gt_error err = { 0 };
		if (gt_reference_parse(good[i].text, &ref, &err) < 0)
			fail_msg("%s: %s", good[i].text, err.message);
		AUTO_FREE char *familiar = gt_reference_familiar(&ref, true);
		assert_string_equal(ref.domain, good[i].domain);
		assert_string_equal(ref.path, good[i].path);
		assert_string_equal(ref.tag ? ref.tag : "-", good[i].tag ? good[i].tag : "-");
		assert_string_equal(familiar, good[i].familiar);
		gt_reference_free(&ref);
	}
}

static void bad_references_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",      "UPPER",    "a:",      "a@",   "a@sha256:12", "a@md5:d41d8cd98f00b204e9800998ecf8427e", "/a", "a/", "a//b", "-a", "a-",
		"a..b",  "a.-b",     "a___b",   "a:b:c", "a:.t",       "a b",  "a\n",  "a/../b", "../a", "..",   ".",
		"x.y:z/a", "[::1/a", "[]/a",    "-h.com/a", "h..com/a", "a:\xc3\xa9", "\xc3\xa9", "http://x/y", "x.com/UP", "a?b", "a;b",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};
	for (size_t i = 0; i < GT_COUNT(bad); i++) {
		struct gt_reference ref;
		struct gt_error err = { 0 };
		if (gt_reference_parse(bad[i], &ref, &err) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(err.kind, GT_INVALID);
		assert_true(strlen(err.message) > 0);
	}
}

static void lengths_are_bounded(void **state)
{
	(void)state;
	struct gt_reference ref;
	char text[4096];
	memset(text, 'a', sizeof text);
	text[247] = '\0'; /* library/ and 247 make 255 */
	assert_int_equal(gt_reference_parse(text, &ref, NULL), 0);
	gt_reference_free(&ref);
	memset(text, 'a', 248);
	text[248] = '\0';
	assert_int_equal(gt_reference_parse(text, &ref, NULL), -1);
	memset(text, 'a', sizeof text);
	text[1] = ':';
	text[130] = '\0';
	assert_int_equal(gt_reference_parse(text, &ref, NULL), 0);
	gt_reference_free(&ref);
	text[130] = 'a';
	text[131] = '\0';
	assert_int_equal(gt_reference_parse(text, &ref, NULL), -1);
	memset(text, 'a', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_int_equal(gt_reference_parse(text, &ref, NULL), -1);
}

/* ---- Dockerfile instructions ---- */

static void instructions_change_the_config(void **state)
{
	(void)state;
	static const char *const changes[] = {
		"CMD [\"a\", \"b c\"]", "ENV A=1 B=\"two words\" C='$A'", "ENV OLD the old form  ", "env D=${A}x${NONE:-def}${A:+set}",
		"EXPOSE 80 53/udp 8000-8002", "LABEL a=b \"c d\"=e\\ f", "USER me:us", "VOLUME [\"/data\"]", "VOLUME /x /y", "WORKDIR /a",
		"WORKDIR b/../c", "STOPSIGNAL SIGQUIT", "ONBUILD RUN make", "HEALTHCHECK --interval=5s --retries=2 CMD curl -f x",
		"ENTRYPOINT run it", "VOLUME \v/x\v\f/y\r",
	};
	struct gt_image_config config = { 0 };
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(changes); i++) {
		if (gt_image_config_change(&config, changes[i], &err) < 0)
			fail_msg("%s: %s", changes[i], err.message);
	}
	AUTO_JSON json_t *json = gt_json_encode(gt_image_config_fields, &config);
	AUTO_FREE char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(
		text,
		"{\"Cmd\":[\"a\",\"b c\"],\"Entrypoint\":[\"/bin/sh\",\"-c\",\"run it\"],"
		"\"Env\":[\"A=1\",\"B=two words\",\"C=$A\",\"OLD=the old form\",\"D=1xdefset\"],"
		"\"ExposedPorts\":{\"53/udp\":{},\"80/tcp\":{},\"8000/tcp\":{},\"8001/tcp\":{},\"8002/tcp\":{}},"
		"\"Healthcheck\":{\"Interval\":5000000000,\"Retries\":2,\"Test\":[\"CMD-SHELL\",\"curl -f x\"]},"
		"\"Labels\":{\"a\":\"b\",\"c d\":\"e f\"},\"OnBuild\":[\"RUN make\"],\"StopSignal\":\"SIGQUIT\",\"User\":\"me:us\","
		"\"Volumes\":{\"/data\":{},\"/x\":{},\"/y\":{}},\"WorkingDir\":\"/a/c\"}");
	gt_json_release(gt_image_config_fields, &config);
}

static void a_new_entry_point_drops_the_base_images_command(void **state)
{
	(void)state;
	struct gt_image_config config = { 0 };
	gt_strings_add(&config.cmd, "sh");
	assert_int_equal(gt_image_config_change(&config, "ENTRYPOINT [\"/x\"]", NULL), 0);
	assert_int_equal(config.cmd.count, 0);
	gt_json_release(gt_image_config_fields, &config);
}

static void bad_instructions_are_refused_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "RUN rm -rf /", "RUN is not a valid change command" }, { "", "not a valid change command" }, { "CMD", "CMD requires" },
		{ "ENV =x", "KEY=VALUE" }, { "ENV A=\"x", "quote" }, { "EXPOSE 0", "EXPOSE" }, { "EXPOSE 80/icmp", "EXPOSE" },
		{ "EXPOSE 9-5", "EXPOSE" }, { "LABEL a=${x", "${" }, { "HEALTHCHECK --bogus=1 CMD x", "--bogus" },
		{ "HEALTHCHECK maybe", "HEALTHCHECK wants" }, { "ONBUILD ONBUILD x", "ONBUILD" }, { "VOLUME [\"\"]", "empty path" },
		{ "USER \xff", "UTF-8" },
	};
	for (size_t i = 0; i < GT_COUNT(bad); i++) {
		struct gt_image_config config = { 0 };
		struct gt_error err = { 0 };
		assert_int_equal(gt_image_config_change(&config, bad[i].text, &err), -1);
		if (!strstr(err.message, bad[i].says))
			fail_msg("%s: %s", bad[i].text, err.message);
		gt_json_release(gt_image_config_fields, &config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_references_are_taken_apart),
		cmocka_unit_test(bad_references_are_refused),
		cmocka_unit_test(lengths_are_bounded),
		cmocka_unit_test(instructions_change_the_config),
		cmocka_unit_test(a_new_entry_point_drops_the_base_images_command),
		cmocka_unit_test(bad_instructions_are_refused_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
