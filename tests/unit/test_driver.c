/* Which files become plugins, and the exact words for those that do not. */
#include "driver_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gantry/abi_check.h"

static void assert_refused(struct drivers_fixture *fixture, const char *file, const char *rest)
{
	AUTO_FREE char *reason = refusal_of(fixture, file), *wanted = gt_xasprintf("plugin %s/plugins/%s: %s", fixture->dir, file, rest);
	assert_non_null(reason);
	assert_string_equal(reason, wanted);
}

static void each_fault_of_a_descriptor_has_its_words(void **state)
{
	static const struct {
		const char *file, *reason;
	} FAULTS[] = {
		{ "no-symbol", "symbol gantry_plugin_v1: found none, wanted one (GANTRY_PLUGIN_EXPORT of <gantry/plugin.h> defines it)" },
		{ "next-major", "ABI major: found 2, wanted 1" },
		{ "wrong-major", "ABI major: found 7, wanted 1" },
		{ "short-struct", "size of struct gantry_plugin: found 40, wanted at least 80" },
		{ "tiny-symbol", "bytes of symbol gantry_plugin_v1: found 4, wanted at least 80" },
		{ "bad-name", "name: found \"Bad_Name\", wanted [a-z0-9][a-z0-9-]{0,31}" },
		{ "other-name", "name: found \"somebody-else\", wanted \"other-name\" as the file or its section is called" },
		{ "missing-op", "driver missing-op: op remove: found NULL, wanted a function" },
		{ "missing-usage", "driver missing-usage: op usage: found NULL, wanted a function, as its capability is declared" },
		{ "short-ops", "driver short-ops: size of struct gantry_volume_ops: found 24, wanted at least 80" },
		{ "bad-kind", "driver bad-kind: kind: found 9, wanted network 1, volume 2 or storage 3" },
		{ "no-drivers", "number of drivers: found 0, wanted 1 to 32" },
		{ "bad-default", "default of key depth: found \"12\", wanted a value that the key itself allows" },
		{ "reserved-key", "name of a key: found \"enabled\", wanted another one, as this is the engine's own" },
	};
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(FAULTS); i++) {
		AUTO_FREE char *from = gt_xasprintf("tests/plugins/%s.so", FAULTS[i].file), *to = gt_xasprintf("%s.so", FAULTS[i].file);
		plant_plugin(fixture, from, to);
	}
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	start_drivers(fixture, "");
	for (size_t i = 0; i < GT_COUNT(FAULTS); i++) {
		AUTO_FREE char *file = gt_xasprintf("%s.so", FAULTS[i].file);
		assert_refused(fixture, file, FAULTS[i].reason);
	}
	/* the good one among them is there */
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err));
	AUTO_JSON json_t *names = gt_driver_names(fixture->drivers, GANTRY_VOLUME);
	assert_int_equal(json_array_size(names), 1);
}

static void files_that_others_can_write_are_refused(void **state)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *plugins = gt_xasprintf("%s/plugins", fixture->dir);
	AUTO_CLOSE int dir = open(plugins, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	static const char *const NAMES[] = { "world.so", "group.so", "foreign.so", "plain.so" };
	for (size_t i = 0; i < GT_COUNT(NAMES); i++)
		plant_plugin(fixture, "tests/plugins/plain.so", NAMES[i]);
	assert_int_equal(fchmodat(dir, "world.so", 0666, 0), 0);
	assert_int_equal(fchownat(dir, "group.so", 0, 1234, 0), 0);
	assert_int_equal(fchmodat(dir, "group.so", 0664, 0), 0);
	assert_int_equal(fchownat(dir, "foreign.so", 1234, 0, 0), 0);
	assert_int_equal(symlinkat("plain.so", dir, "link.so"), 0);
	assert_int_equal(mkdirat(dir, "directory.so", 0755), 0);
	assert_int_equal(mkfifoat(dir, "fifo.so", 0600), 0);
	assert_int_equal(fchmodat(dir, "plain.so", 0664, 0), 0); /* root's group may */
	put_file(dir, "text.so", "not an object");
	put_file(dir, "ignored.txt", "");
	start_drivers(fixture, "");
	assert_refused(fixture, "world.so", "mode: found 0666, writable by everyone, wanted one that only root can write (chmod go-w)");
	assert_refused(fixture, "group.so", "mode: found 0664, writable by its group, wanted one that only root can write (chmod go-w)");
	assert_refused(fixture, "foreign.so", "owner: found uid 1234, wanted uid 0 (root)");
	assert_refused(fixture, "link.so", "file type: found a symbolic link, wanted a regular file");
	assert_refused(fixture, "directory.so", "file type: found a directory, wanted a regular file");
	assert_refused(fixture, "fifo.so", "file type: found a fifo, wanted a regular file");
	assert_refused(fixture, "text.so",
		       "loading: found \"file too short\", wanted a shared object whose symbols and libraries are all there");
	assert_null(refusal_of(fixture, "plain.so"));
	assert_null(refusal_of(fixture, "ignored.txt"));
}

static void an_object_with_a_missing_symbol_is_refused_by_its_name(void **state)
{
	struct drivers_fixture *fixture = *state;
	plant_plugin(fixture, "tests/plugins/unresolved.so", "unresolved.so");
	start_drivers(fixture, "");
	assert_refused(fixture, "unresolved.so",
		       "loading: found \"undefined symbol: gantry_test_nobody_has_this\", wanted a shared object whose symbols and libraries are all "
		       "there");
}

static void a_driver_name_is_taken_once(void **state)
{
	struct drivers_fixture *fixture = *state;
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	plant_plugin(fixture, "tests/plugins/same-driver.so", "same-driver.so");
	start_drivers(fixture, "");
	AUTO_FREE char *reason = gt_xasprintf("volume driver plain: found a second one (the first is in %s/plugins/plain.so), wanted one", fixture->dir);
	assert_refused(fixture, "same-driver.so", reason);
}

static void a_writable_plugin_directory_is_not_read(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE char *plugins = gt_xasprintf("%s/plugins", fixture->dir);
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	assert_int_equal(chmod(plugins, 0777), 0);
	start_drivers(fixture, "");
	assert_fails(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err) ? 0 : -1, err, GT_NOT_FOUND,
		     "no volume driver named \"plain\" is loaded (there is none; plugins were refused, see the log)");
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	AUTO_FREE char *wanted = gt_xasprintf("plugin directory %s: mode: found 0777, writable by everyone, wanted one that only root can write "
					      "(chmod go-w)", plugins);
	json_t *refused = json_array_get(json_object_get(all, "Refused"), 0);
	assert_string_equal(json_string_value(json_object_get(refused, "Reason")), wanted);
}

static void a_missing_plugin_directory_stops_nothing(void **state)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *plugins = gt_xasprintf("%s/plugins", fixture->dir);
	assert_int_equal(rmdir(plugins), 0);
	start_drivers(fixture, "");
	AUTO_JSON json_t *names = gt_driver_names(fixture->drivers, GANTRY_STORAGE);
	assert_int_equal(json_array_size(names), 0);
}

static void a_driver_that_cannot_open_is_named_with_the_reason(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "tests/plugins/cannot-open.so", "cannot-open.so");
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	start_drivers(fixture, "");
	assert_fails(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "cannot-open", &err) ? 0 : -1, err, GT_UNAVAILABLE,
		     "the volume driver \"cannot-open\" could not be opened: driver cannot-open: this kernel has no flux capacitor");
	assert_fails(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "nobody", &err) ? 0 : -1, err, GT_NOT_FOUND,
		     "no volume driver named \"nobody\" is loaded (there are: plain)");
	assert_fails(gt_driver_find(fixture->drivers, GANTRY_NETWORK, "plain", &err) ? 0 : -1, err, GT_NOT_FOUND,
		     "no network driver named \"plain\" is loaded (there is none)");
}

/* ---- settings ---- */

static void wrong_settings_are_told_with_file_and_line(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "tests/plugins/tester.so", "tester.so");
	configure_drivers(fixture, "[plugin.tester]\n"        /* line 5 */
			   "flag = perhaps\n"         /* 6 */
			   "depth = 9\n"              /* 7 */
			   "depth = x\n"              /* 8 */
			   "room = 12q\n"             /* 9 */
			   "where = here\n"           /* 10 */
			   "color = blue\n"           /* 11 */
			   "colour = red\n"           /* 12 */
			   "enabled = maybe\n");      /* 13 */
	AUTO_BUF struct gt_buf wanted = { 0 };
	static const char *const LINES[] = {
		"13: [plugin.tester] enabled: maybe is neither yes nor no",
		"6: [plugin.tester] flag: perhaps is neither yes nor no",
		"7: [plugin.tester] depth: 9 is out of range -5 to 8",
		"8: [plugin.tester] depth: x is not a whole number",
		"9: [plugin.tester] room: 12q is not a size (such as 512k, 64m, 2g)",
		"10: [plugin.tester] where: here is not an absolute path",
		"11: [plugin.tester] color: blue is not one of red, green",
		"12: [plugin.tester] colour: unknown key (there are: greeting, unset, flag, depth, room, where, color, enabled, path, isolate)",
	};
	for (size_t i = 0; i < GT_COUNT(LINES); i++)
		gt_buf_printf(&wanted, "%s%s/gantryd.ini:%s", i ? "\n" : "", fixture->dir, LINES[i]);
	assert_fails(gt_drivers_check(fixture->config, &err), err, GT_INVALID, wanted.data);
	assert_fails(load_drivers(fixture, &err), err, GT_INVALID, wanted.data);
	assert_null(fixture->drivers);
}

static void sections_without_a_plugin_fail_the_check_alone(void **state)
{
	if (drivers_isolated)
		skip(); /* there is a section more */
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "tests/plugins/no-symbol.so", "no-symbol.so");
	configure_drivers(fixture, "[plugin.nobody]\na = b\nc = d\n[plugin.no-symbol]\nx = y\n[plugin.off]\nenabled = no\nz = 1\n");
	AUTO_FREE char *wanted = gt_xasprintf("%s/gantryd.ini:6: [plugin.nobody] a: there is no such plugin in plugin_dir, and the section has no path\n"
					      "%s/gantryd.ini:9: [plugin.no-symbol] x: its plugin was refused, so its keys cannot be checked\n"
					      "%s/gantryd.ini:11: [plugin.off] enabled: there is no such plugin in plugin_dir, and the section has "
					      "no path", fixture->dir, fixture->dir, fixture->dir);
	assert_fails(gt_drivers_check(fixture->config, &err), err, GT_INVALID, wanted);
	assert_ok(load_drivers(fixture, &err), err);
}

static void a_plugin_can_be_switched_off_or_live_elsewhere(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE char *elsewhere = built("tests/plugins/oldest.so"), *more = gt_xasprintf("[plugin.plain]\nenabled = no\n[plugin.oldest]\npath = %s\n", elsewhere);
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	if (elsewhere[0] != '/')
		skip();
	start_drivers(fixture, more);
	assert_ok(gt_drivers_check(fixture->config, &err), err);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err));
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "oldest", &err));
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	json_t *plain = json_array_get(json_object_get(all, "Absent"), 0);
	assert_string_equal(json_string_value(json_object_get(plain, "Name")), "plain");
	assert_false(json_is_true(json_object_get(plain, "Off")));
	json_t *oldest = json_array_get(json_object_get(all, "Plugins"), 0);
	assert_string_equal(json_string_value(json_object_get(oldest, "Path")), elsewhere);
	assert_string_equal(json_string_value(json_object_get(oldest, "ABI")), "1.0");
}

static void the_real_drivers_load(void **state)
{
	static const char *const FILES[] = { "net-cni.so", "net-host.so", "storage-overlay.so", "vol-docker.so", "vol-local.so" };
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(FILES); i++) {
		AUTO_FREE char *from = gt_xasprintf("plugins/%s", FILES[i]);
		plant_plugin(fixture, from, FILES[i]);
	}
	start_drivers(fixture, "");
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	assert_int_equal(json_array_size(json_object_get(all, "Refused")), 0);
	assert_int_equal(json_array_size(json_object_get(all, "Plugins")), 5);
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_STORAGE, "overlay", &err));
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "local", &err));
	assert_int_equal(gt_driver_capabilities(gt_driver_find(fixture->drivers, GANTRY_NETWORK, "host", &err)), GANTRY_NET_HOST_NS);
	assert_int_equal(gt_driver_capabilities(gt_driver_find(fixture->drivers, GANTRY_NETWORK, "null", &err)), GANTRY_NET_NONE);
}

static void loading_again_and_again_leaves_nothing_open(void **state)
{
	struct drivers_fixture *fixture = *state;
	static const char *const FILES[] = { "tests/plugins/plain.so", "tests/plugins/tester.so", "plugins/vol-local.so", "tests/plugins/bad-kind.so" };
	for (size_t i = 0; i < GT_COUNT(FILES); i++)
		plant_plugin(fixture, FILES[i], strrchr(FILES[i], '/') + 1);
	start_drivers(fixture, "");
	stop_drivers(fixture);
	int before = open_fds();
	for (int i = 0; i < 5; i++) {
		start_drivers(fixture, "");
		AUTO_JSON json_t *names = gt_driver_names(fixture->drivers, GANTRY_VOLUME);
		AUTO_FREE char *text = json_dumps(names, JSON_COMPACT);
		assert_string_equal(text, "[\"local\",\"plain\",\"tester\"]");
		stop_drivers(fixture);
	}
	assert_int_equal(open_fds(), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(each_fault_of_a_descriptor_has_its_words),
		TEST(files_that_others_can_write_are_refused),
		TEST(an_object_with_a_missing_symbol_is_refused_by_its_name),
		TEST(a_driver_name_is_taken_once),
		TEST(a_writable_plugin_directory_is_not_read),
		TEST(a_missing_plugin_directory_stops_nothing),
		TEST(a_driver_that_cannot_open_is_named_with_the_reason),
		TEST(wrong_settings_are_told_with_file_and_line),
		TEST(sections_without_a_plugin_fail_the_check_alone),
		TEST(a_plugin_can_be_switched_off_or_live_elsewhere),
		TEST(the_real_drivers_load),
		TEST(loading_again_and_again_leaves_nothing_open),
	};
	return run_both("driver", tests, GT_COUNT(tests));
}
