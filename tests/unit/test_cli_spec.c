/*
 * test_cli_spec.c - the small languages in the values of `run`: ports, volumes, mounts, networks, devices, files of
 * variables.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../cli/spec.h"
#include "base/auto.h"
#include "base/buf.h"

static void assert_json(const json_t *value, const char *expected)
{
	AUTO_JSON json_t *wanted = json_loads(expected, JSON_DECODE_ANY, NULL);
	assert_non_null(wanted);
	if (json_equal((json_t *)(uintptr_t)value, wanted))
		return;
	AUTO_FREE char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	fail_msg("got %s, expected %s", text ? text : "nothing", expected);
}

static void ports_are_published(void **state)
{
	(void)state;
	static const struct {
		const char *text, *bindings;
	} cases[] = {
		{ "80", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"\"}]}" },
		{ "8080:80", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8080\"}]}" },
		{ "8080:80/UDP", "{\"80/udp\":[{\"HostIp\":\"\",\"HostPort\":\"8080\"}]}" },
		{ "127.0.0.1:8080:80", "{\"80/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"8080\"}]}" },
		{ "127.0.0.1::80", "{\"80/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"\"}]}" },
		{ "[::1]:8080:80", "{\"80/tcp\":[{\"HostIp\":\"::1\",\"HostPort\":\"8080\"}]}" },
		{ "8080-8081:80-81", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8080\"}],\"81/"
				     "tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8081\"}]}" },
		{ "8000-8010:80", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8000-8010\"}]}" },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_JSON json_t *exposed = json_object();
		AUTO_JSON json_t *bindings = json_object();
		assert_int_equal(spec_publish(cases[i].text, exposed, bindings, NULL), 0);
		assert_json(bindings, cases[i].bindings);
		assert_int_equal(json_object_size(exposed), json_object_size(bindings));
	}
}

static void bad_ports_are_refused_with_the_text(void **state)
{
	(void)state;
	static const char *const cases[] = { "",	   ":",		"a:b",	 "80:",		"99999",
					     "80:99999",   "1-3:80-81", "80-79", "80/http",	"1.2.3:80:80",
					     "[::1:80:80", "x:80:80",	"-1",	 "80:80:80:80", "1:2/",
					     "+5",	   " 80" };
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_JSON json_t *exposed = json_object();
		AUTO_JSON json_t *bindings = json_object();
		struct gt_error err = { 0 };
		if (spec_publish(cases[i], exposed, bindings, &err) == 0)
			fail_msg("\"%s\" was accepted", cases[i]);
		assert_non_null(strstr(err.message, cases[i]));
	}
}

static void volumes_are_binds_or_anonymous(void **state)
{
	(void)state;
	AUTO_JSON json_t *binds = json_array();
	AUTO_JSON json_t *volumes = json_object();
	char here[4096];
	assert_int_equal(spec_volume("/a:/b:ro,z", binds, volumes, NULL), 0);
	assert_int_equal(spec_volume("name:/c", binds, volumes, NULL), 0);
	assert_int_equal(spec_volume("/anonymous", binds, volumes, NULL), 0);
	assert_json(binds, "[\"/a:/b:ro,z\",\"name:/c\"]");
	assert_json(volumes, "{\"/anonymous\":{}}");
	assert_int_equal(spec_volume("./no-such-thing:/d", binds, volumes, NULL), 0);
	assert_non_null(getcwd(here, sizeof here));
	const char *last = json_string_value(json_array_get(binds, 2));
	assert_memory_equal(last, here, strlen(here));
	assert_string_equal(last + strlen(here), "/no-such-thing:/d");
	static const char *const bad[] = { "relative", "a:b:c:d", ":/x", "/x:", "a::ro", "" };
	for (size_t i = 0; i < GT_COUNT(bad); i++)
		assert_int_equal(spec_volume(bad[i], binds, volumes, NULL), -1);
}

static void mounts_are_parsed_key_by_key(void **state)
{
	(void)state;
	static const struct {
		const char *text, *mount;
	} cases[] = {
		{ "type=bind,source=/tmp,target=/x,readonly",
		  "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/x\",\"ReadOnly\":true}" },
		{ "type=bind,src=/tmp,dst=/x,ro=false,bind-propagation=rslave",
		  "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/"
		  "x\",\"ReadOnly\":false,\"BindOptions\":{\"Propagation\":\"rslave\"}}" },
		{ "target=/x", "{\"Type\":\"volume\",\"Target\":\"/x\"}" },
		{ "source=v,target=/x,volume-nocopy,volume-label=a=b,volume-driver=d,\"volume-opt=o=x,y\"",
		  "{\"Type\":\"volume\",\"Source\":\"v\",\"Target\":\"/"
		  "x\",\"VolumeOptions\":{\"NoCopy\":true,\"Labels\":{\"a\":\"b\"},"
		  "\"DriverConfig\":{\"Name\":\"d\",\"Options\":{\"o\":\"x,y\"}}}}" },
		{ "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1777",
		  "{\"Type\":\"tmpfs\",\"Target\":\"/t\",\"TmpfsOptions\":{\"SizeBytes\":67108864,\"Mode\":1023}}" },
	};
	static const char *const bad[] = { "",
					   "type=bind,target=/x",
					   "type=bind,source=/a",
					   "type=what,target=/x",
					   "target=/x,nonsense=1",
					   "target=/x,nonsense",
					   "type=tmpfs,target=/x,tmpfs-size=x",
					   "type=tmpfs,target=/x,tmpfs-mode=9",
					   "target=/x,readonly=maybe",
					   "type=bind,source=/a,target=/x,volume-nocopy",
					   "target=/x,volume-label==b" };
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_error err = { 0 };
		AUTO_JSON json_t *mount = spec_mount(cases[i].text, &err);
		assert_string_equal(err.message, "");
		assert_json(mount, cases[i].mount);
	}
	for (size_t i = 0; i < GT_COUNT(bad); i++) {
		struct gt_error err = { 0 };
		assert_null(spec_mount(bad[i], &err));
		assert_non_null(strstr(err.message, "invalid mount"));
	}
}

static void networks_have_names_or_keys(void **state)
{
	(void)state;
	static const struct {
		const char *text, *name, *endpoint;
	} cases[] = {
		{ "host", "host", "{}" },
		{ "container:a=b", "container:a=b", "{}" },
		{ "name=n,alias=a,alias=b,ip=1.2.3.4,ip6=::1,mac-address=aa,driver-opt=k=v,gw-priority=3", "n",
		  "{\"Aliases\":[\"a\",\"b\"],\"IPAMConfig\":{\"IPv4Address\":\"1.2.3.4\",\"IPv6Address\":\"::1\"},"
		  "\"MacAddress\":\"aa\","
		  "\"DriverOpts\":{\"k\":\"v\"},\"GwPriority\":3}" },
	};
	static const char *const bad[] = {
		"alias=a", "name=n,what=x", "name=n,driver-opt=k", "name=n,gw-priority=x", "name=,alias=a", "name=n,x"
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		AUTO_FREE char *name = NULL;
		json_t *endpoint = NULL;
		assert_int_equal(spec_network(cases[i].text, &name, &endpoint, NULL), 0);
		assert_string_equal(name, cases[i].name);
		assert_json(endpoint, cases[i].endpoint);
		json_decref(endpoint);
	}
	for (size_t i = 0; i < GT_COUNT(bad); i++) {
		AUTO_FREE char *name = NULL;
		json_t *endpoint = NULL;
		assert_int_equal(spec_network(bad[i], &name, &endpoint, NULL), -1);
		assert_null(name);
		assert_null(endpoint);
	}
}

static json_t *rate_bytes(const char *text, struct gt_error *err)
{
	return spec_rate_device(text, true, err);
}

static void devices_and_limits(void **state)
{
	(void)state;
	static const struct {
		json_t *(*parse)(const char *text, struct gt_error *err);
		const char *text, *expected;    /* NULL: refused */
	} cases[] = {
		{ spec_device, "/dev/a",
		  "{\"PathOnHost\":\"/dev/a\",\"PathInContainer\":\"/dev/a\",\"CgroupPermissions\":\"rwm\"}" },
		{ spec_device, "/dev/a:r",
		  "{\"PathOnHost\":\"/dev/a\",\"PathInContainer\":\"/dev/a\",\"CgroupPermissions\":\"r\"}" },
		{ spec_device, "/dev/a:/dev/b:rw",
		  "{\"PathOnHost\":\"/dev/a\",\"PathInContainer\":\"/dev/b\",\"CgroupPermissions\":\"rw\"}" },
		{ spec_device, "dev", NULL },
		{ spec_device, "/dev/a:/dev/b:x", NULL },
		{ spec_device, "/dev/a:b", NULL },
		{ spec_ulimit, "nofile=100:200", "{\"Name\":\"nofile\",\"Soft\":100,\"Hard\":200}" },
		{ spec_ulimit, "nproc=5", "{\"Name\":\"nproc\",\"Soft\":5,\"Hard\":5}" },
		{ spec_ulimit, "core=-1", "{\"Name\":\"core\",\"Soft\":-1,\"Hard\":-1}" },
		{ spec_ulimit, "nofile=200:100", NULL },
		{ spec_ulimit, "nofile", NULL },
		{ spec_ulimit, "=5", NULL },
		{ spec_ulimit, "nofile=x", NULL },
		{ spec_restart, "on-failure:3", "{\"Name\":\"on-failure\",\"MaximumRetryCount\":3}" },
		{ spec_restart, "always", "{\"Name\":\"always\",\"MaximumRetryCount\":0}" },
		{ spec_restart, "on-failure:x", NULL },
		{ spec_weight_device, "/dev/sda:200", "{\"Path\":\"/dev/sda\",\"Weight\":200}" },
		{ spec_weight_device, "/dev/sda:5", NULL },
		{ rate_bytes, "/dev/sda:1mb", "{\"Path\":\"/dev/sda\",\"Rate\":1048576}" },
		{ rate_bytes, "sda:1mb", NULL },
		{ rate_bytes, "/dev/sda", NULL },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_error err = { 0 };
		AUTO_JSON json_t *value = cases[i].parse(cases[i].text, &err);
		if (cases[i].expected)
			assert_json(value, cases[i].expected);
		else if (value || !strstr(err.message, cases[i].text))
			fail_msg("\"%s\" gave \"%s\"", cases[i].text, err.message);
	}
}

static char *write_file(const char *dir, const char *name, const char *text)
{
	char *path = gt_xasprintf("%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

static void environment_comes_from_files_flags_and_the_caller(void **state)
{
	AUTO_FREE char *path = write_file(
		*state, "env", "\xef\xbb\xbf# comment\nA=1\r\n\n  B=two words \nGT_TEST_SET\nGT_TEST_UNSET\nC=");
	struct gt_strings files = { 0 }, given = { 0 }, out = { 0 };
	setenv("GT_TEST_SET", "yes", 1);
	unsetenv("GT_TEST_UNSET");
	gt_strings_add(&files, path);
	gt_strings_add(&given, "D=4");
	gt_strings_add(&given, "GT_TEST_SET");
	gt_strings_add(&given, "GT_TEST_UNSET");
	static const char *const expected[] = { "A=1", "B=two words ",	  "GT_TEST_SET=yes", "C=",
						"D=4", "GT_TEST_SET=yes", "GT_TEST_UNSET" };
	assert_int_equal(spec_environment(&files, &given, &out, NULL), 0);
	assert_int_equal(out.count, GT_COUNT(expected));
	for (size_t i = 0; i < out.count; i++)
		assert_string_equal(out.items[i], expected[i]);
	gt_strings_free(&files);
	gt_strings_free(&given);
	gt_strings_free(&out);
}

static void bad_lines_of_files_are_named(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = { { "A=1\nx y=2\n", "line 2: variable 'x y' contains whitespaces" },
		      { "=2\n", "line 1: no variable name" } };
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_error err = { 0 };
		struct gt_strings out = { 0 };
		AUTO_FREE char *path = write_file(*state, "bad", cases[i].text);
		assert_int_equal(spec_read_file(path, true, &out, &err), -1);
		assert_non_null(strstr(err.message, cases[i].words));
		gt_strings_free(&out);
	}
	struct gt_strings out = { 0 };
	assert_int_equal(spec_read_file("/no/such/file", true, &out, NULL), -1);
}

static void security_options_read_profiles(void **state)
{
	AUTO_FREE char *path = write_file(*state, "seccomp.json", "{\n \"defaultAction\" : \"SCMP_ACT_ALLOW\"\n}");
	AUTO_FREE char *option = gt_xasprintf("seccomp=%s", path);
	AUTO_JSON json_t *list = json_array();
	AUTO_JSON json_t *host = json_object();
	assert_int_equal(spec_security(option, list, host, NULL), 0);
	assert_int_equal(spec_security("no-new-privileges", list, host, NULL), 0);
	assert_int_equal(spec_security("seccomp=unconfined", list, host, NULL), 0);
	assert_int_equal(spec_security("systempaths=unconfined", list, host, NULL), 0);
	assert_json(list, "[\"seccomp={\\\"defaultAction\\\":\\\"SCMP_ACT_ALLOW\\\"}\",\"no-new-privileges\",\"seccomp="
			  "unconfined\"]");
	assert_json(host, "{\"MaskedPaths\":[],\"ReadonlyPaths\":[]}");
	assert_int_equal(spec_security("seccomp=/no/such", list, host, NULL), -1);
	assert_int_equal(spec_security("nonsense", list, host, NULL), -1);
}

static void hosts_lines_and_gpus(void **state)
{
	(void)state;
	AUTO_JSON json_t *list = json_array();
	assert_int_equal(spec_add_host("a:1.2.3.4", list, NULL), 0);
	assert_int_equal(spec_add_host("b=host-gateway", list, NULL), 0);
	assert_int_equal(spec_add_host("c:[::1]", list, NULL), 0);
	assert_json(list, "[\"a:1.2.3.4\",\"b:host-gateway\",\"c:::1\"]");
	assert_int_equal(spec_add_host("a", list, NULL), -1);
	assert_int_equal(spec_add_host("a:", list, NULL), -1);
	AUTO_JSON json_t *gpus = spec_gpus("\"device=0,1\"", NULL);
	assert_json(json_object_get(gpus, "DeviceIDs"), "[\"0\",\"1\"]");
	assert_null(spec_gpus("what=1", NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_are_published),
		cmocka_unit_test(bad_ports_are_refused_with_the_text),
		cmocka_unit_test(volumes_are_binds_or_anonymous),
		cmocka_unit_test(mounts_are_parsed_key_by_key),
		cmocka_unit_test(networks_have_names_or_keys),
		cmocka_unit_test(devices_and_limits),
		cmocka_unit_test_setup_teardown(environment_comes_from_files_flags_and_the_caller, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(bad_lines_of_files_are_named, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(security_options_read_profiles, scratch_make, scratch_remove),
		cmocka_unit_test(hosts_lines_and_gpus),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
