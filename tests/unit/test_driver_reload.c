/*
 * Plugins that are reloaded, disabled and enabled while they are in use; in the daemon, and in processes of their own.
 */
#include "driver_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "driver/internal.h"

#define PATIENCE (20 * GT_SECOND)

static void start_with(void **state, const char *file, const char *settings)
{
	struct drivers_fixture *fixture = *state;
	plant_plugin(fixture, file, "reload.so");
	start_drivers(fixture, settings);
}

static struct gt_driver *found(void **state, enum gantry_kind kind)
{
	struct gt_error err = { 0 };
	struct gt_driver *driver = gt_driver_find(((struct drivers_fixture *)*state)->drivers, kind, "reload", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

/* *disturbed as gt_plugin_reload() tells it; NULL: whatever it is. */
static int reload_within(void **state, int64_t patience, bool *disturbed, struct gt_error *err)
{
	struct drivers_fixture *fixture = *state;
	bool ignored;
	return gt_plugin_reload(fixture->drivers, fixture->config, "reload", patience, disturbed ? disturbed : &ignored, err);
}

static void reload(void **state)
{
	struct gt_error err = { 0 };
	bool disturbed = false;
	assert_ok(reload_within(state, PATIENCE, &disturbed, &err), err);
	assert_true(disturbed);
}

static void assert_says(struct gt_driver *driver, const char *what, const char *wanted)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	assert_ok(gt_vol_inspect(driver, what, info, &err), err);
	assert_string_equal(info->mountpoint, wanted);
}

static char *version_of(void **state)
{
	AUTO_JSON json_t *all = gt_drivers_describe(((struct drivers_fixture *)*state)->drivers);
	return gt_xstrdup(json_string_value(json_object_get(json_array_get(json_object_get(all, "Plugins"), 0), "Version")));
}

static void assert_version(void **state, const char *wanted)
{
	AUTO_FREE char *version = version_of(state);
	assert_string_equal(version, wanted);
	assert_says(found(state, GANTRY_VOLUME), "version", wanted);
}

/* The reason has the path of the plugin in the place of %s. */
static void assert_reload_fails(void **state, bool disturbs, enum gt_kind kind, const char *reason)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	bool disturbed = !disturbs;
	AUTO_FREE char *place = gt_xasprintf("plugin %s/plugins/reload.so", fixture->dir);
	AUTO_BUF struct gt_buf wanted = { 0 };
	const char *gap = strstr(reason, "%s");
	gt_buf_printf(&wanted, "plugin reload goes on as it was: %.*s%s%s", gap ? (int)(gap - reason) : (int)strlen(reason), reason, gap ? place : "",
		      gap ? gap + 2 : "");
	assert_fails(reload_within(state, 50 * GT_MILLISECOND, &disturbed, &err), err, kind, wanted.data);
	assert_int_equal(disturbed, disturbs);
}

/* ---- what a reload takes into use ---- */

static void a_new_file_and_new_settings_are_taken_into_use(void **state)
{
	struct drivers_fixture *fixture = *state;
	start_with(state, "tests/plugins/reload.so", "[plugin.reload]\ngreeting = one\n");
	struct gt_driver *volume = found(state, GANTRY_VOLUME);
	assert_version(state, "1");
	assert_says(volume, "greeting", "one");
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	assert_says(volume, "version", "1");
	configure_drivers(fixture, "[plugin.reload]\ngreeting = two\n");
	reload(state);
	assert_ptr_equal(found(state, GANTRY_VOLUME), volume);
	assert_version(state, "2");
	assert_says(volume, "greeting", "two");
	configure_drivers(fixture, "");
	reload(state);
	assert_says(volume, "greeting", "hello");
	AUTO_BUF struct gt_buf figures = { 0 };
	gt_drivers_metrics(fixture->drivers, &figures);
	assert_non_null(strstr(figures.data, "gantry_driver_reloads_total{kind=\"volume\",driver=\"reload\"} 2\n"));
	assert_non_null(strstr(figures.data, "gantry_driver_open{kind=\"network\",driver=\"reload\"} 1\n"));
}

static void the_same_file_is_opened_anew(void **state)
{
	start_with(state, "tests/plugins/reload.so", "");
	struct gt_driver *volume = found(state, GANTRY_VOLUME);
	assert_says(volume, "lives", "3");
	reload(state);
	assert_says(volume, "lives", drivers_isolated ? "3" : "6");
	reload(state);
	assert_version(state, "1");
}

/* ---- what the next one knows ---- */

static void assert_knows(void **state, const char *wanted)
{
	struct gt_error err = { 0 };
	AUTO_FREE char *message = gt_xasprintf("driver reload: %s", wanted);
	assert_fails(gt_net_remove(found(state, GANTRY_NETWORK), "tell", &err), err, GT_CONFLICT, message);
}

static void make_networks(struct gt_driver *net)
{
	struct gt_error err = { 0 };
	const char *const names[] = { "alice" }, *const others[] = { "bob" };
	struct gantry_port ports[2] = { { .proto = 6, .host_port = 80, .container_port = 80 }, { .proto = 6, .host_port = 81, .container_port = 81 } };
	for (int i = 0; i < 3; i++) {
		char id[8];
		snprintf(id, sizeof id, "n%d", i);
		struct gantry_network network = { .id = id, .name = id };
		assert_ok(gt_net_create(net, &network, &err), err);
	}
	for (int i = 0; i < 4; i++) {
		char id[8];
		snprintf(id, sizeof id, "x%d", i);
		struct gantry_endpoint endpoint = { .id = id, .network_id = "n1", .container_id = "c", .ifname = "eth0", .names = names, .name_count = 1 };
		assert_ok(gt_net_join(net, &endpoint, -1, &err), err);
		assert_ok(gt_net_publish(net, &endpoint, ports, 2, &err), err);
	}
	assert_ok(gt_net_remove(net, "n2", &err), err);
	assert_ok(gt_net_leave(net, "n1", "x1", -1, &err), err);
	assert_ok(gt_net_unpublish(net, "n1", "x2", &err), err);
	assert_ok(gt_net_rename(net, "n1", "x3", others, 1, &err), err);
}

static void networks_endpoints_and_ports_are_told_again(void **state)
{
	struct drivers_fixture *fixture = *state;
	start_with(state, "tests/plugins/reload.so", "");
	make_networks(found(state, GANTRY_NETWORK));
	assert_knows(state, "1: n0:new n1:new x0:10.0.0.2/24,alice+2 x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob+2");
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	reload(state);
	assert_knows(state, "2: n0:known n1:known x0:10.0.0.2/24,alice+2 x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob+2");
	struct gt_error err = { 0 };
	assert_ok(gt_net_leave(found(state, GANTRY_NETWORK), "n1", "x0", -1, &err), err);
	reload(state);
	assert_knows(state, "2: n0:known n1:known x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob+2");
}

static void mounts_are_told_again_once_the_engine_has_told_them(void **state)
{
	start_with(state, "tests/plugins/reload.so", "");
	struct drivers_fixture *fixture = *state;
	struct gt_driver *volume = found(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	struct gantry_volume_use uses[] = { { .name = "old", .container_id = "c0" } };
	assert_ok(gt_vol_mount(volume, "new", "c1", false, mount, &err), err);
	reload(state);
	gt_plugin_tell_uses(fixture->drivers, "reload");
	assert_says(volume, "uses", "");
	assert_ok(gt_vol_reconcile(volume, uses, 1, &err), err);
	assert_ok(gt_vol_mount(volume, "gone", "c2", false, mount, &err), err);
	assert_ok(gt_vol_release(volume, "gone", "c2", &err), err);
	reload(state);
	gt_plugin_tell_uses(fixture->drivers, "reload");
	assert_says(volume, "uses", "2 new=c1 old=c0");
	assert_ok(gt_vol_release(volume, "old", "c0", &err), err);
	reload(state);
	gt_plugin_tell_uses(fixture->drivers, "reload");
	assert_says(volume, "uses", "1 new=c1");
}

static void members_of_families_stay(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	bool disturbed;
	plant_plugin(fixture, "tests/plugins/family.so", "family.so");
	start_drivers(fixture, "");
	struct gt_driver *alpha = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "alpha", &err);
	struct gantry_volume_use uses[] = { { .name = "vol", .container_id = "c1" } };
	assert_non_null(alpha);
	assert_ok(gt_vol_reconcile(alpha, uses, 1, &err), err);
	AUTO_FREE char *path = gt_xasprintf("%s/root/volumes/alpha/.state/uses", fixture->dir);
	assert_int_equal(unlink(path), 0);
	plant_plugin(fixture, "tests/plugins/family.so", "family.so");
	assert_ok(gt_plugin_reload(fixture->drivers, fixture->config, "family", PATIENCE, &disturbed, &err), err);
	assert_ptr_equal(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "alpha", &err), alpha);
	gt_plugin_tell_uses(fixture->drivers, "family");
	AUTO_FREE char *told = get_file(AT_FDCWD, path);
	assert_string_equal(told, "vol=c1;");
	assert_ok(gt_vol_create(alpha, "more", NULL, &err), err);
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "beta", &err));
	AUTO_JSON json_t *drivers = gt_plugin_drivers(fixture->drivers, "family", &err);
	assert_int_equal(json_array_size(drivers), 4);
}

/* ---- calls that come meanwhile ---- */

struct crowd {
	struct gt_driver *volume, *network;
	atomic_bool over;
	atomic_uint calls, failures;
	char first[1024];
};

static void *call_on(void *arg)
{
	struct crowd *crowd = arg;
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	char name[32];
	for (unsigned i = 0; !atomic_load(&crowd->over); i++) {
		snprintf(name, sizeof name, "v%d-%u", (int)gettid(), i % 8);
		struct gantry_endpoint endpoint = { .id = name, .network_id = "n0", .container_id = "c", .ifname = "eth0" };
		int rc = gt_vol_create(crowd->volume, name, NULL, &err) < 0 || gt_vol_inspect(crowd->volume, "version", info, &err) < 0 ||
			 gt_net_join(crowd->network, &endpoint, -1, &err) < 0 || gt_net_leave(crowd->network, "n0", name, -1, &err) < 0 ||
			 gt_vol_remove(crowd->volume, name, &err) < 0 ? -1 : 0;
		atomic_fetch_add(&crowd->calls, 5);
		if (rc < 0 && atomic_fetch_add(&crowd->failures, 1) == 0)
			snprintf(crowd->first, sizeof crowd->first, "%s", err.message);
	}
	return NULL;
}

static void no_call_fails_while_files_change(void **state)
{
	struct drivers_fixture *fixture = *state;
	pthread_t threads[6];
	start_with(state, "tests/plugins/reload.so", "");
	struct crowd crowd = { .volume = found(state, GANTRY_VOLUME), .network = found(state, GANTRY_NETWORK) };
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_on, &crowd), 0);
	for (int i = 0; i < 12; i++) {
		plant_plugin(fixture, i % 2 ? "tests/plugins/reload.so" : "tests/plugins/reload-2.so", "reload.so");
		unsigned before = atomic_load(&crowd.calls);
		reload(state);
		while (atomic_load(&crowd.calls) < before + 50)
			usleep(1000);
	}
	atomic_store(&crowd.over, true);
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	if (atomic_load(&crowd.failures))
		fail_msg("%u calls failed: %s", atomic_load(&crowd.failures), crowd.first);
	assert_version(state, "1");
	assert_knows(state, "1:");
}

static void *call_slowly(void *arg)
{
	struct gt_error err = { 0 };
	return gt_vol_create(arg, "slow", NULL, &err) == 0 ? NULL : arg;
}

static void await_call(struct drivers_fixture *fixture)
{
	for (;;) {
		AUTO_JSON json_t *calls = gt_drivers_calls(fixture->drivers);
		if (json_array_size(calls))
			return;
		usleep(1000);
	}
}

static void a_call_that_does_not_end_keeps_the_old_one(void **state)
{
	struct drivers_fixture *fixture = *state;
	pthread_t thread;
	void *failed;
	start_with(state, "tests/plugins/reload.so", "");
	struct gt_driver *volume = found(state, GANTRY_VOLUME);
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	pthread_create(&thread, NULL, call_slowly, volume);
	await_call(fixture);
	assert_reload_fails(state, false, GT_CONFLICT, "calls are still under way: create of driver reload for 0 s; try again, or with a longer timeout");
	assert_version(state, "1");
	/* With patience it is awaited. */
	reload(state);
	pthread_join(thread, &failed);
	assert_null(failed);
	assert_version(state, "2");
}

static void layers_in_the_making_are_awaited(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start_with(state, "tests/plugins/reload.so", "");
	struct gt_driver *storage = found(state, GANTRY_STORAGE);
	static const char REASON[] = "1 layer of an image is being written (pulls, builds or loads are under way): try again when that is done";
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	assert_ok(gt_layer_prepare(storage, GANTRY_LAYER_WRITABLE, "container", NULL, NULL, &err), err);
	assert_ok(gt_layer_prepare(storage, GANTRY_LAYER_IMAGE, "base", NULL, NULL, &err), err);
	assert_ok(gt_layer_prepare(storage, GANTRY_LAYER_IMAGE, "base", NULL, NULL, &err), err);
	assert_reload_fails(state, false, GT_CONFLICT, REASON);
	assert_ok(gt_layer_commit(storage, "base", &err), err);
	reload(state);
	assert_ok(gt_layer_prepare(storage, GANTRY_LAYER_IMAGE, "next", "base", NULL, &err), err);
	assert_reload_fails(state, false, GT_CONFLICT, REASON);
	assert_ok(gt_layer_remove(storage, "next", &err), err);
	reload(state);
	assert_version(state, "2");
}

/* ---- what is refused ---- */

static void a_bad_file_is_refused_and_the_old_one_goes_on(void **state)
{
	struct drivers_fixture *fixture = *state;
	start_with(state, "tests/plugins/reload.so", "");
	make_networks(found(state, GANTRY_NETWORK));
	AUTO_FREE char *path = gt_xasprintf("%s/plugins/reload.so", fixture->dir);
	plant_plugin(fixture, "tests/plugins/plain.so", "reload.so");
	assert_reload_fails(state, false, GT_INVALID, "%s: name: found \"plain\", wanted \"reload\" as the file or its section is called");
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	assert_int_equal(chmod(path, 0666), 0);
	assert_reload_fails(state, false, GT_DENIED, "%s: mode: found 0666, writable by everyone, wanted one that only root can write (chmod go-w)");
	assert_int_equal(unlink(path), 0);
	assert_reload_fails(state, false, GT_NOT_FOUND, "%s: file: found none to read (No such file or directory), wanted a regular file");
	plant_plugin(fixture, "tests/plugins/reload-renamed.so", "reload.so");
	assert_reload_fails(state, false, GT_INVALID, "%s: network driver reload: found none, wanted the same as in the one in use; a restart of gantryd, which "
						      "stops no container, takes up any");
	plant_plugin(fixture, "tests/plugins/reload-own-ipam.so", "reload.so");
	assert_reload_fails(state, false, GT_INVALID, "%s: network driver reload: found other capabilities (where networks are, who gives addresses, families), "
						      "wanted the same as in the one in use; a restart of gantryd, which stops no container, takes up any");
	assert_version(state, "1");
	assert_knows(state, "1: n0:new n1:new x0:10.0.0.2/24,alice+2 x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob+2");
}

static void bad_settings_are_refused_with_file_and_line(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start_with(state, "tests/plugins/reload.so", "");
	configure_drivers(fixture, "[plugin.reload]\nnumber = 10\n");
	AUTO_FREE char *wanted = gt_xasprintf("plugin reload goes on as it was: %s/gantryd.ini:6: [plugin.reload] number: 10 is out of range 1 to 9", fixture->dir);
	assert_fails(reload_within(state, PATIENCE, NULL, &err), err, GT_INVALID, wanted);
	configure_drivers(fixture, "[plugin.reload]\nenabled = no\n");
	AUTO_FREE char *off = gt_xasprintf("plugin reload goes on as it was: %s/gantryd.ini:6: [plugin.reload] enabled: the configuration switches the plugin off",
					   fixture->dir);
	assert_fails(reload_within(state, PATIENCE, NULL, &err), err, GT_CONFLICT, off);
	assert_version(state, "1");
}

static void what_does_not_open_leads_back(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start_with(state, "tests/plugins/reload.so", "");
	make_networks(found(state, GANTRY_NETWORK));
	plant_plugin(fixture, "tests/plugins/reload-closed.so", "reload.so");
	assert_reload_fails(state, true, GT_UNSUPPORTED, "driver reload: version 3 does not open");
	assert_version(state, "1");
	assert_knows(state, "1: n0:known n1:known x0:10.0.0.2/24,alice+2 x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob+2");
	plant_plugin(fixture, "tests/plugins/reload-deaf.so", "reload.so");
	assert_reload_fails(state, true, GT_INTERNAL, "driver reload: version 4 does not reconcile");
	assert_knows(state, "1: n0:known n1:known x0:10.0.0.2/24,alice+2 x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob+2");
	assert_ok(gt_vol_create(found(state, GANTRY_VOLUME), "vol", NULL, &err), err);
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	reload(state);
	assert_version(state, "2");
}

static void one_that_cannot_go_back_is_mended_by_another(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	bool disturbed = false;
	start_with(state, "tests/plugins/reload-once.so", "");
	struct gt_driver *volume = found(state, GANTRY_VOLUME), *network = found(state, GANTRY_NETWORK);
	make_networks(network);
	plant_plugin(fixture, "tests/plugins/reload-closed.so", "reload.so");
	gt_log_set_level(GT_ERROR + 1);
	assert_int_equal(reload_within(state, PATIENCE, &disturbed, &err), -1);
	gt_log_set_level(GT_ERROR);
	assert_true(disturbed);
	assert_non_null(strstr(err.message, "plugin reload was not reloaded: "));
	assert_non_null(strstr(err.message, "driver reload cannot be opened again from the old file (driver reload: version 7 opens once), nor from the new one: "));
	assert_non_null(strstr(err.message, "driver reload: version 3 does not open"));
	assert_fails(gt_vol_create(volume, "vol", NULL, &err), err, GT_UNAVAILABLE, "driver reload: it cannot be used: driver reload: version 7 opens once");
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "reload", &err));
	assert_string_equal(err.message, "the volume driver \"reload\" could not be opened: driver reload: version 7 opens once");
	/* What goes meanwhile does not come back. */
	gt_error_clear(&err);
	assert_int_equal(gt_net_leave(network, "n1", "x0", -1, &err), -1);
	assert_int_equal(gt_net_unpublish(network, "n1", "x3", &err), -1);
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	reload(state);
	assert_ok(gt_vol_create(volume, "vol", NULL, &err), err);
	assert_knows(state, "2: n0:known n1:known x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob");
}

static void a_file_that_was_written_over_is_refused(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf bytes = { 0 };
	start_with(state, "tests/plugins/reload.so", "");
	AUTO_FREE char *path = gt_xasprintf("%s/plugins/reload.so", fixture->dir);
	assert_ok(gt_read_file(AT_FDCWD, path, 64u << 20, &bytes, &err), err);
	/* The same bytes, so that what is mapped stays as it is. */
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, bytes.data, bytes.len, 0), (ssize_t)bytes.len);
	if (drivers_isolated) {
		reload(state);
		return;
	}
	assert_reload_fails(state, false, GT_INVALID, "%s: file: found the one that is in use, written over, wanted a new one in its place (install(1), or mv(1) from "
						      "beside it): the daemon has that file mapped, and may crash now");
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	reload(state);
	assert_version(state, "2");
}

static void unknown_names_are_told_apart(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	bool disturbed;
	plant_plugin(fixture, "tests/plugins/family.so", "family.so");
	start_drivers(fixture, "");
	assert_fails(gt_plugin_reload(fixture->drivers, fixture->config, "peers", PATIENCE, &disturbed, &err), err, GT_NOT_FOUND,
		     "plugin \"peers\" not found: the driver of that name is of plugin family");
	assert_fails(gt_plugin_reload(fixture->drivers, fixture->config, "../family", PATIENCE, &disturbed, &err), err, GT_NOT_FOUND,
		     "plugin \"../family\" not found");
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "../family", &err), err, GT_NOT_FOUND, "plugin \"../family\" not found");
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "nobody", &err), err, GT_NOT_FOUND, "plugin \"nobody\" not found");
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "family", &err), err, GT_CONFLICT, "plugin already enabled: plugin family is enabled");
}

static void one_that_could_not_be_opened_is_tried_again(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start_with(state, "tests/plugins/reload-closed.so", "");
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "reload", &err));
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err, GT_UNSUPPORTED,
		     "plugin reload was not enabled: driver reload: version 3 does not open");
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	assert_ok(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err);
	assert_version(state, "2");
}

/* ---- where it runs ---- */

static void a_plugin_moves_into_a_process_and_back(void **state)
{
	struct drivers_fixture *fixture = *state;
	char here[16];
	snprintf(here, sizeof here, "%d", (int)getpid());
	start_with(state, "tests/plugins/reload.so", "");
	make_networks(found(state, GANTRY_NETWORK));
	bool was = drivers_isolated;
	for (int i = 0; i < 2; i++) {
		drivers_isolated = !drivers_isolated;
		configure_drivers(fixture, "");
		reload(state);
		AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
		gt_vol_inspect(found(state, GANTRY_VOLUME), "pid", info, NULL);
		bool apart = strcmp(info->mountpoint, here) != 0, wanted = drivers_isolated;
		drivers_isolated = i == 1 ? was : drivers_isolated;
		assert_int_equal(apart, wanted);
		assert_knows(state, "1: n0:known n1:known x0:10.0.0.2/24,alice+2 x2:10.0.0.2/24,alice x3:10.0.0.2/24,bob+2");
	}
}

static unsigned count_descriptors(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void reloads_leave_nothing_open(void **state)
{
	struct drivers_fixture *fixture = *state;
	start_with(state, "tests/plugins/reload.so", "");
	reload(state);
	unsigned before = count_descriptors();
	for (int i = 0; i < 10; i++) {
		if (i % 3 == 1)
			plant_plugin(fixture, i % 2 ? "tests/plugins/reload-2.so" : "tests/plugins/reload.so", "reload.so");
		if (i == 8)
			plant_plugin(fixture, "tests/plugins/reload-closed.so", "reload.so");
		struct gt_error err = { 0 };
		assert_int_equal(reload_within(state, PATIENCE, NULL, &err), i >= 8 ? -1 : 0);
	}
	assert_int_equal(count_descriptors(), before);
}

/* ---- disable, enable ---- */

static void disable(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	assert_ok(gt_plugin_mark(fixture->drivers, "reload", true, &err), err);
	assert_ok(gt_plugin_disable(fixture->drivers, "reload", PATIENCE, &err), err);
}

static void what_is_disabled_is_closed_and_comes_back(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start_with(state, "tests/plugins/reload.so", "");
	struct gt_driver *volume = found(state, GANTRY_VOLUME);
	disable(state);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "reload", &err));
	assert_string_equal(err.message, "the volume driver \"reload\" is disabled: gantry plugin enable reload");
	assert_int_equal(err.kind, GT_UNAVAILABLE);
	assert_fails(gt_vol_create(volume, "vol", NULL, &err), err, GT_UNAVAILABLE, "driver reload: it cannot be used: its plugin is disabled");
	assert_fails(gt_plugin_mark(fixture->drivers, "reload", true, &err), err, GT_CONFLICT, "plugin is already disabled: plugin reload is disabled");
	assert_fails(reload_within(state, PATIENCE, NULL, &err), err, GT_CONFLICT, "plugin reload is disabled: gantry plugin enable reload");
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	json_t *absent = json_array_get(json_object_get(all, "Absent"), 0);
	assert_int_equal(json_array_size(json_object_get(all, "Plugins")), 0);
	assert_string_equal(json_string_value(json_object_get(absent, "Description")), "tells what it knows");
	assert_true(json_is_true(json_object_get(absent, "Off")));
	plant_plugin(fixture, "tests/plugins/reload-2.so", "reload.so");
	assert_ok(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err);
	assert_ptr_equal(found(state, GANTRY_VOLUME), volume);
	assert_version(state, "2");
	assert_ok(gt_vol_create(volume, "vol", NULL, &err), err);
}

static void what_is_disabled_is_not_loaded_at_the_next_start(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gt_strings off = { 0 };
	gt_strings_add(&off, "reload");
	gt_strings_add(&off, "nobody");
	plant_plugin(fixture, "tests/plugins/reload.so", "reload.so");
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	configure_drivers(fixture, "");
	assert_ok(gt_drivers_load(fixture->config, &off, NULL, NULL, &fixture->drivers, &err), err);
	gt_strings_free(&off);
	assert_fails(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "reload", &err) ? 0 : -1, err, GT_NOT_FOUND,
		     "no volume driver named \"reload\" is loaded (there are: plain; plugin reload is disabled)");
	assert_ok(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err);
	assert_says(found(state, GANTRY_VOLUME), "version", "1");
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err, GT_CONFLICT, "plugin already enabled: plugin reload is enabled");
}

static void what_cannot_be_enabled_stays_disabled(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start_with(state, "tests/plugins/reload.so", "");
	disable(state);
	plant_plugin(fixture, "tests/plugins/reload-closed.so", "reload.so");
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err, GT_UNSUPPORTED,
		     "plugin reload was not enabled: driver reload: version 3 does not open");
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "reload", &err));
	assert_string_equal(err.message, "the volume driver \"reload\" is disabled: gantry plugin enable reload");
	plant_plugin(fixture, "tests/plugins/reload.so", "reload.so");
	configure_drivers(fixture, "[plugin.reload]\nenabled = no\n");
	AUTO_FREE char *wanted = gt_xasprintf("plugin reload was not enabled: %s/gantryd.ini:6: [plugin.reload] enabled: the configuration switches the plugin off",
					      fixture->dir);
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err, GT_CONFLICT, wanted);
	configure_drivers(fixture, "");
	assert_ok(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err);
}

static void what_is_new_or_was_refused_can_be_enabled(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "tests/plugins/no-symbol.so", "reload.so");
	start_drivers(fixture, "");
	AUTO_FREE char *before = refusal_of(fixture, "reload.so");
	assert_non_null(before);
	plant_plugin(fixture, "tests/plugins/reload.so", "reload.so");
	assert_ok(gt_plugin_enable(fixture->drivers, fixture->config, "reload", &err), err);
	AUTO_FREE char *after = refusal_of(fixture, "reload.so");
	assert_null(after);
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	configure_drivers(fixture, "");
	assert_ok(gt_plugin_enable(fixture->drivers, fixture->config, "plain", &err), err);
	assert_non_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err));
	plant_plugin(fixture, "tests/plugins/same-driver.so", "same-driver.so");
	AUTO_FREE char *wanted = gt_xasprintf("plugin same-driver was not enabled: plugin %s/plugins/same-driver.so: volume driver plain: found a second one (the first "
					      "is in %s/plugins/plain.so), wanted one", fixture->dir, fixture->dir);
	assert_fails(gt_plugin_enable(fixture->drivers, fixture->config, "same-driver", &err), err, GT_INVALID, wanted);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_new_file_and_new_settings_are_taken_into_use),
		TEST(the_same_file_is_opened_anew),
		TEST(networks_endpoints_and_ports_are_told_again),
		TEST(mounts_are_told_again_once_the_engine_has_told_them),
		TEST(members_of_families_stay),
		TEST(no_call_fails_while_files_change),
		TEST(a_call_that_does_not_end_keeps_the_old_one),
		TEST(layers_in_the_making_are_awaited),
		TEST(a_bad_file_is_refused_and_the_old_one_goes_on),
		TEST(bad_settings_are_refused_with_file_and_line),
		TEST(what_does_not_open_leads_back),
		TEST(one_that_cannot_go_back_is_mended_by_another),
		TEST(a_file_that_was_written_over_is_refused),
		TEST(unknown_names_are_told_apart),
		TEST(one_that_could_not_be_opened_is_tried_again),
		TEST(a_plugin_moves_into_a_process_and_back),
		TEST(reloads_leave_nothing_open),
		TEST(what_is_disabled_is_closed_and_comes_back),
		TEST(what_is_disabled_is_not_loaded_at_the_next_start),
		TEST(what_cannot_be_enabled_stays_disabled),
		TEST(what_is_new_or_was_refused_can_be_enabled),
	};
	return run_both("driver reload", tests, GT_COUNT(tests));
}
