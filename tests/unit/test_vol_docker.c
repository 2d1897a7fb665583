/* Drivers that come into being at run time, and how vol-docker finds plugins. What plugins answer is tried by tests/integration/test_volume_plugins.py. */
#include "driver_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void start(struct drivers_fixture *fixture)
{
	AUTO_FREE char *sockets = gt_xasprintf("%s/sockets", fixture->dir), *specs = gt_xasprintf("%s/specs", fixture->dir);
	mkdir(sockets, 0755);
	mkdir(specs, 0755);
	plant_plugin(fixture, "plugins/vol-docker.so", "vol-docker.so");
	plant_plugin(fixture, "plugins/vol-local.so", "vol-local.so");
	AUTO_FREE char *ini = gt_xasprintf("[plugin.vol-docker]\nsockets = %s\nspecs = /nowhere::%s:\ntimeout = 1\nconnect_timeout = 0\n", sockets, specs);
	start_drivers(fixture, ini);
}

/* A socket that answers nothing: -1 listens to nobody, else its descriptor. */
static int plant_socket(struct drivers_fixture *fixture, const char *file, bool listening)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, "%s/sockets/%s", fixture->dir, file);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	if (listening && listen(fd, 8) == 0)
		return fd;
	close(fd);
	return -1;
}

static void plant_spec(struct drivers_fixture *fixture, const char *file, const char *text)
{
	AUTO_FREE char *path = gt_xasprintf("%s/specs/%s", fixture->dir, file);
	put_file(AT_FDCWD, path, text);
}

static char *names(struct drivers_fixture *fixture)
{
	AUTO_JSON json_t *list = gt_driver_names(fixture->drivers, GANTRY_VOLUME);
	return json_dumps(list, JSON_COMPACT);
}

static void a_name_that_nobody_has_leaves_nothing(void **state)
{
	static const char *const NAMES[] = { "nobody", "docker-plugins", "", ".", "..", "../x", "a/b", "-a", "_a", "a.b" };
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start(fixture);
	for (size_t i = 0; i < GT_COUNT(NAMES); i++) {
		AUTO_FREE char *sentence = gt_xasprintf("no volume driver named \"%s\" is loaded (there are: local)", NAMES[i]);
		assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, NAMES[i], &err));
		assert_int_equal(err.kind, GT_NOT_FOUND);
		assert_string_equal(err.message, sentence);
	}
	AUTO_FREE char *dir = gt_xasprintf("%s/root/volumes/nobody", fixture->dir), *run = gt_xasprintf("%s/run/plugins/volume-nobody", fixture->dir);
	assert_false(exists(AT_FDCWD, dir) || exists(AT_FDCWD, run));
	assert_null(gt_driver_find(fixture->drivers, GANTRY_NETWORK, "nobody", &err));
}

static void a_plugin_is_a_driver_as_soon_as_its_socket_is_there(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	start(fixture);
	AUTO_FREE char *deep = gt_xasprintf("%s/sockets/deep", fixture->dir);
	mkdir(deep, 0755);
	plant_socket(fixture, "one.sock", false);
	plant_socket(fixture, "deep/deep.sock", false);
	AUTO_FREE char *all = names(fixture);
	assert_string_equal(all, "[\"deep\",\"local\",\"one\"]");
	struct gt_driver *one = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "one", &err);
	assert_non_null(one);
	assert_ptr_equal(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "one", &err), one);
	assert_string_equal(gt_driver_name(one), "one");
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "deep", &err));
	assert_true(gt_vol_counts(one));
	assert_int_equal(gt_vol_inspect(one, "data", info, &err), -1);
	assert_int_equal(err.kind, GT_UNAVAILABLE);
	free(info);
}

static void a_plugin_that_is_not_there_or_says_nothing_is_unavailable(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start(fixture);
	plant_socket(fixture, "dead.sock", false);
	AUTO_CLOSE int fd = plant_socket(fixture, "mute.sock", true);
	struct gt_driver *dead = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "dead", &err), *mute = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "mute", &err);
	assert_int_equal(gt_vol_create(dead, "data", NULL, &err), -1);
	assert_int_equal(err.kind, GT_UNAVAILABLE);
	assert_non_null(strstr(err.message, "the plugin dead cannot be reached"));
	assert_fails(gt_vol_create(mute, "data", NULL, &err), err, GT_TIMEOUT, "driver mute: the plugin mute does not answer Plugin.Activate");
	assert_fails(gt_vol_list(mute, NULL, NULL, &err), err, GT_UNAVAILABLE, "driver mute: the plugin mute did not answer a moment ago; it is asked again soon");
	assert_ok(gt_vol_release(mute, "data", "container", &err), err);
	AUTO_FREE char *dir = gt_xasprintf("%s/root/volumes/mute/data.json", fixture->dir);
	assert_false(exists(AT_FDCWD, dir));
}

static void files_that_tell_of_plugins_are_checked(void **state)
{
	static const struct {
		const char *file, *text, *words;
	} CASES[] = {
		{ "a1.spec", "unix:///run/x.sock\n", NULL }, { "a2.spec", " tcp://127.0.0.1:1 \n", NULL }, { "a3.json", "{\"Addr\":\"https://[::1]:1/\"}", NULL },
		{ "a4.json", "{\"Addr\":\"tcp://h:1\",\"TLSConfig\":{\"InsecureSkipVerify\":true,\"CAFile\":\"/ca\",\"CertFile\":\"\",\"KeyFile\":null}}", NULL },
		{ "b1.spec", "", "\"\" is no address" }, { "b2.spec", "x", "\"x\" is no address" }, { "b3.spec", "unix://x", "no absolute path" },
		{ "b4.spec", "unix:///a b", "is no address" }, { "b5.spec", "ftp://x", "ftp is no known scheme" }, { "b6.spec", "tcp://x@y", "is no address" },
		{ "c1.json", "", "line 1" }, { "c2.json", "[]", "no JSON object" }, { "c3.json", "{}", "Addr is missing" }, { "c4.json", "{\"Addr\":1}", "Addr is missing" },
		{ "c5.json", "{\"Addr\":\"tcp://h\",\"TLSConfig\":{\"CAFile\":\"ca\"}}", "TLSConfig.CAFile must be an absolute path" },
		{ "c6.json", "{\"Addr\":\"tcp://h\",\"TLSConfig\":{\"KeyFile\":7}}", "TLSConfig.KeyFile must be an absolute path" },
	};
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start(fixture);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		char name[3] = { CASES[i].file[0], CASES[i].file[1] };
		plant_spec(fixture, CASES[i].file, CASES[i].text);
		struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_VOLUME, name, &err);
		if ((driver != NULL) != (CASES[i].words == NULL))
			fail_msg("%s: %s", CASES[i].file, driver ? "was taken" : err.message);
		if (CASES[i].words && (!strstr(err.message, CASES[i].words) || !strstr(err.message, CASES[i].file)))
			fail_msg("%s: %s", CASES[i].file, err.message);
	}
	AUTO_BUF struct gt_buf long_path = { 0 };
	gt_buf_str(&long_path, "unix:///");
	for (int i = 0; i < 200; i++)
		gt_buf_str(&long_path, "x");
	plant_spec(fixture, "d1.spec", long_path.data);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "d1", &err));
}

static void a_directory_that_others_can_write_is_passed_over(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start(fixture);
	AUTO_FREE char *sockets = gt_xasprintf("%s/sockets", fixture->dir);
	plant_socket(fixture, "one.sock", false);
	chmod(sockets, 0777);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "one", &err));
	assert_int_equal(err.kind, GT_NOT_FOUND);
	chmod(sockets, 0755);
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "one", &err));
}

static void a_plugin_is_known_by_its_volumes_while_it_is_away(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start(fixture);
	AUTO_FREE char *dir = gt_xasprintf("%s/root/volumes/away", fixture->dir), *record = gt_xasprintf("%s/data.json", dir);
	put_dir(AT_FDCWD, dir, 0700);
	put_file(AT_FDCWD, record, "{\"Options\":{},\"Mounts\":{\"c1\":\"0\"}}");
	struct gt_driver *away = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "away", &err);
	assert_non_null(away);
	assert_int_equal(gt_vol_release(away, "data", "c1", &err), -1);
	assert_int_equal(err.kind, GT_UNAVAILABLE);
	assert_non_null(strstr(err.message, "there is no plugin away: no away.sock in "));
	AUTO_FREE char *kept = get_file(AT_FDCWD, record);
	assert_non_null(strstr(kept, "c1"));
	assert_ok(gt_vol_reconcile(away, NULL, 0, &err), err);
	/* Torn, or with something else in it: set aside, and there is no such volume. */
	static const char *const TORN[] = { "", "{", "[]", "{\"Options\":{},\"Mounts\":[]}", "{\"Options\":{},\"Mounts\":{\"c\":1}}", "{\"Options\":1,\"Mounts\":{}}" };
	AUTO_FREE char *aside = gt_xasprintf("%s/data.torn", dir);
	for (size_t i = 0; i < GT_COUNT(TORN); i++) {
		unlink(aside);
		put_file(AT_FDCWD, record, TORN[i]);
		assert_ok(gt_vol_release(away, "data", "c1", &err), err);
		assert_true(exists(AT_FDCWD, aside) && !exists(AT_FDCWD, record));
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_name_that_nobody_has_leaves_nothing),
		TEST(a_plugin_is_a_driver_as_soon_as_its_socket_is_there),
		TEST(a_plugin_that_is_not_there_or_says_nothing_is_unavailable),
		TEST(files_that_tell_of_plugins_are_checked),
		TEST(a_directory_that_others_can_write_is_passed_over),
		TEST(a_plugin_is_known_by_its_volumes_while_it_is_away),
	};
	return cmocka_run_group_tests_name("volume plugins", tests, NULL, NULL);
}
