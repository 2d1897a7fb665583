/* Calls through the dispatcher, and what a driver gets from the host table. */
#include "driver_fixture.h"

#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static struct gt_driver *tester(void **state, enum gantry_kind kind)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	if (!fixture->drivers) {
		plant_plugin(fixture, "tests/plugins/tester.so", "tester.so");
		start_drivers(fixture, "[plugin.tester]\nflag = ON\nroom = 2M\n[storage]\nfsync = no\n");
	}
	struct gt_driver *driver = gt_driver_find(fixture->drivers, kind, "tester", &err);
	assert_non_null(driver);
	return driver;
}

static void settings_reach_the_driver_in_one_form(void **state)
{
	static const char *const WANTED[][2] = { { "greeting", "hello" }, { "flag", "true" },   { "depth", "-3" },
						 { "room", "2097152" },   { "where", "/nowhere" }, { "color", "red" } };
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	for (size_t i = 0; i < GT_COUNT(WANTED); i++) {
		assert_ok(gt_vol_inspect(driver, WANTED[i][0], info, &err), err);
		assert_string_equal(info->mountpoint, WANTED[i][1]);
	}
	assert_fails(gt_vol_inspect(driver, "unset", info, &err), err, GT_NOT_FOUND, "driver tester: no value");
	assert_fails(gt_vol_inspect(driver, "undeclared", info, &err), err, GT_NOT_FOUND, "driver tester: no value");
}

static void each_driver_has_directories_of_its_own(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	struct stat st;
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	AUTO_FREE char *wanted = gt_xasprintf("%s/root/volumes/tester %s/run/plugins/volume-tester", fixture->dir, fixture->dir);
	assert_ok(gt_vol_inspect(driver, "dirs", info, &err), err);
	assert_string_equal(info->mountpoint, wanted);
	AUTO_FREE char *network = gt_xasprintf("%s/root/networks/tester", fixture->dir);
	assert_int_equal(stat(network, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void documents_are_kept_and_bounded(void **state)
{
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_FREE char *large = gt_xmalloc(65538);
	memset(large, 'x', 65537);
	large[65537] = '\0';
	AUTO_JSON json_t *bytes = json_pack("{s:s}", "bytes", "hello, world"), *many = json_pack("{s:s}", "bytes", large);

	assert_fails(gt_vol_mount(driver, "doc", "c", false, mount, &err), err, GT_NOT_FOUND, "driver tester: there is no state document doc");
	assert_ok(gt_vol_create(driver, "doc", bytes, &err), err);
	assert_ok(gt_vol_mount(driver, "doc", "c", true, mount, &err), err);
	assert_string_equal(mount->source, "hello, w");
	assert_string_equal(mount->options, "length=12,ro");
	assert_ok(gt_vol_remove(driver, "doc", &err), err);
	assert_ok(gt_vol_remove(driver, "doc", &err), err);
	assert_fails(gt_vol_mount(driver, "doc", "c", false, mount, &err), err, GT_NOT_FOUND, "driver tester: open doc: No such file or directory");
	assert_fails(gt_vol_create(driver, "doc", many, &err), err, GT_INVALID,
		     "driver tester: state document doc has 65537 bytes; at most 65536 are allowed");
	static const char *const BAD[] = { "..", ".", ".hidden", "a/b", "" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		assert_int_equal(gt_vol_create(driver, BAD[i], bytes, &err), -1);
		assert_non_null(strstr(err.message, "cannot name a state document"));
	}
}

static void cut_writes_are_swept_at_the_next_start(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_JSON json_t *bytes = json_pack("{s:s}", "bytes", "x");
	assert_ok(gt_vol_create(tester(state, GANTRY_VOLUME), "doc", bytes, &err), err);
	AUTO_FREE char *path = gt_xasprintf("%s/root/volumes/tester/.state", fixture->dir);
	AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(dir, ".doc.1.2.tmp", "half");
	stop_drivers(fixture);
	tester(state, GANTRY_VOLUME);
	assert_false(exists(dir, ".doc.1.2.tmp"));
	assert_true(exists(dir, "doc"));
}

static int visit_nothing(void *arg, const struct gantry_global_network *network)
{
	(void)arg;
	(void)network;
	return 0;
}

/* A driver of ABI 1.0, or one that has nothing to do with other hosts. */
static void ops_that_came_later_may_be_missing(void **state)
{
	struct gt_driver *driver = tester(state, GANTRY_NETWORK);
	struct gt_error err = { 0 };
	int fd = 5;
	assert_fails(gt_net_watch(driver, &fd, &err), err, GT_UNSUPPORTED, "driver tester: it has no op watch");
	assert_int_equal(fd, -1);
	assert_fails(gt_net_global(driver, visit_nothing, NULL, &err), err, GT_UNSUPPORTED, "driver tester: it has no op global_networks");
	assert_fails(gt_net_members(driver, "n", NULL, NULL, &err), err, GT_UNSUPPORTED, "driver tester: it has no op members");
	assert_fails(gt_net_peers(driver, "n", NULL, NULL, &err), err, GT_UNSUPPORTED, "driver tester: it has no op peers");
	assert_fails(gt_net_rename(driver, "n", "e", NULL, 0, &err), err, GT_UNSUPPORTED, "driver tester: it has no op endpoint_rename");
}

static void errors_keep_their_kind_and_name_the_driver(void **state)
{
	static const enum gt_kind KINDS[] = { GT_INTERNAL, GT_INVALID,     GT_NOT_FOUND, GT_CONFLICT, GT_DENIED, GT_UNSUPPORTED,
					      GT_UNAVAILABLE, GT_TIMEOUT, GT_INTERNAL,  GT_INTERNAL };
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(KINDS); i++) {
		char number[8];
		snprintf(number, sizeof number, "%zu", i);
		assert_fails(gt_vol_release(driver, "v", number, &err), err, KINDS[i], "driver tester: cannot let go of v: No such file or directory");
		assert_int_equal(err.errnum, 2);
	}
	assert_fails(gt_vol_release(driver, "v", "silent", &err), err, GT_INTERNAL, "driver tester: release failed without saying why");
	assert_int_equal(gt_vol_release(driver, "v", "endless", &err), -1);
	assert_int_equal(err.kind, GT_DENIED);
	assert_int_equal(strlen(err.message), strlen("driver tester: ") + 511);
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_JSON json_t *bytes = json_pack("{s:s}", "bytes", "x");
	assert_ok(gt_vol_create(driver, "doc", bytes, &err), err);
	assert_fails(gt_vol_mount(driver, "doc", "typeless", false, mount, &err), err, GT_INTERNAL,
		     "driver tester: mount described no file system type");
}

static void options_are_strings_in_bounds(void **state)
{
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	AUTO_JSON json_t *two = json_pack("{s:s, s:s}", "a", "1", "b", "2"), *number = json_pack("{s:i}", "a", 1), *list = json_pack("[s]", "a"),
			 *many = json_object();
	for (int i = 0; i < 300; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%d", i);
		json_object_set_new(many, key, json_string(""));
	}
	assert_fails(gt_vol_create(driver, "options", two, &err), err, GT_INVALID, "driver tester: 2 options");
	assert_fails(gt_vol_create(driver, "options", NULL, &err), err, GT_INVALID, "driver tester: 0 options");
	assert_fails(gt_vol_create(driver, "options", number, &err), err, GT_INVALID, "driver option a must be a string");
	assert_fails(gt_vol_create(driver, "options", list, &err), err, GT_INVALID, "driver options must be an object of strings");
	assert_fails(gt_vol_create(driver, "options", many, &err), err, GT_INVALID, "300 driver options are too many; at most 256 are allowed");
}

static void an_op_that_is_not_there_is_unsupported(void **state)
{
	struct gt_driver *driver = tester(state, GANTRY_NETWORK);
	struct gt_error err = { 0 };
	struct gantry_endpoint endpoint = { .id = "e" };
	assert_fails(gt_net_publish(driver, &endpoint, NULL, 0, &err), err, GT_UNSUPPORTED, "driver tester: it has no op publish");
	assert_fails(gt_net_reconcile(driver, NULL, 0, NULL, NULL, 0, &err), err, GT_UNSUPPORTED, "driver tester: it has no op reconcile");
	/* nor does a network driver make layers */
	assert_fails(gt_layer_commit(driver, "x", &err), err, GT_UNSUPPORTED, "driver tester: it has no op commit");
}

static void sizes_are_filled_in(void **state)
{
	struct gt_driver *driver = tester(state, GANTRY_NETWORK);
	struct gt_error err = { 0 };
	struct gantry_subnet subnets[2] = { { .family = 4 }, { .family = 6 } };
	struct gantry_network network = { .id = "n", .name = "n", .subnets = subnets, .subnet_count = 2 };
	assert_ok(gt_net_create(driver, &network, &err), err);
	assert_ok(gt_net_remove(driver, "n", &err), err);
}

static int visit_name(void *arg, const char *name)
{
	gt_buf_str(arg, name);
	return 0;
}

static int visit_once(void *arg, const char *name)
{
	gt_buf_str(arg, name);
	return 1;
}

static void lists_are_visited_until_the_visitor_stops(void **state)
{
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf all = { 0 };
	AUTO_BUF struct gt_buf first = { 0 };
	assert_ok(gt_vol_list(driver, visit_name, &all, &err), err);
	assert_ok(gt_vol_list(driver, visit_once, &first, &err), err);
	assert_string_equal(all.data, "ab");
	assert_string_equal(first.data, "a");
}

static void *cancel_soon(void *arg)
{
	usleep(50000);
	gt_drivers_cancel(arg);
	return NULL;
}

static void a_call_ends_when_the_daemon_goes_down(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	struct gantry_usage usage;
	pthread_t thread;
	int64_t begun = gt_monotonic();
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, fixture->drivers), 0);
	assert_fails(gt_vol_usage(driver, "v", &usage, &err), err, GT_TIMEOUT, "driver tester: told to stop");
	pthread_join(thread, NULL);
	assert_true(gt_monotonic() - begun < 5 * GT_SECOND);
}

static void note_event(void *arg, const char *driver, const char *object, const char *action, const char *detail)
{
	gt_buf_printf(arg, "%s %s %s %s", driver, object, action, detail);
}

static void events_are_passed_on(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf seen = { 0 };
	plant_plugin(fixture, "tests/plugins/tester.so", "tester.so");
	configure_drivers(fixture, "");
	assert_ok(gt_drivers_load(fixture->config, NULL, note_event, &seen, &fixture->drivers, &err), err);
	assert_ok(gt_vol_create(tester(state, GANTRY_VOLUME), "event", NULL, &err), err);
	assert_string_equal(seen.data, "tester thing burst into flames");
}

/* ---- network namespaces ---- */

/* A namespace that lives as long as its descriptor. */
static int new_netns(void)
{
	AUTO_CLOSE int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	return fd;
}

static void work_in_a_namespace_leaves_the_caller_where_it_was(void **state)
{
	struct gt_driver *driver = tester(state, GANTRY_NETWORK);
	struct gt_error err = { 0 };
	struct gantry_endpoint endpoint = { .id = "e" };
	struct stat there, before, after;
	AUTO_CLOSE int netns = new_netns();
	assert_int_equal(fstat(netns, &there), 0);
	assert_int_equal(stat("/proc/thread-self/ns/net", &before), 0);
	assert_ok(gt_net_join(driver, &endpoint, netns, &err), err);
	char wanted[32];
	snprintf(wanted, sizeof wanted, "%lu", (unsigned long)there.st_ino);
	assert_string_equal(endpoint.ipv4, wanted);
	assert_int_equal(stat("/proc/thread-self/ns/net", &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	AUTO_CLOSE int wrong = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(gt_net_join(driver, &endpoint, wrong, &err), -1);
	assert_non_null(strstr(err.message, "driver tester: enter the network namespace of descriptor"));
}

static bool loopback_is_up(int netns)
{
	struct ifreq request = { .ifr_name = "lo" };
	AUTO_CLOSE int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = ioctl(fd, SIOCGIFFLAGS, &request);
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	assert_int_equal(rc, 0);
	return request.ifr_flags & IFF_UP;
}

static void the_null_network_is_loopback_alone(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "plugins/net-host.so", "net-host.so");
	start_drivers(fixture, "");
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_NETWORK, "null", &err);
	assert_non_null(driver);
	struct gantry_network network = { .id = "n", .name = "none" };
	struct gantry_endpoint endpoint = { .id = "e", .ipv4 = "1.2.3.4/5" };
	AUTO_CLOSE int netns = new_netns();
	assert_false(loopback_is_up(netns));
	assert_ok(gt_net_create(driver, &network, &err), err);
	for (int i = 0; i < 2; i++)
		assert_ok(gt_net_join(driver, &endpoint, netns, &err), err);
	assert_true(loopback_is_up(netns));
	assert_string_equal(endpoint.ipv4, "");
	assert_ok(gt_net_leave(driver, "n", "e", -1, &err), err);
	assert_ok(gt_net_remove(driver, "n", &err), err);
}

static void the_host_network_takes_no_options(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "plugins/net-host.so", "net-host.so");
	start_drivers(fixture, "");
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_NETWORK, "host", &err);
	struct gantry_option option = { "mtu", "9000" };
	struct gantry_subnet subnet = { .family = 4 };
	struct gantry_network plain = { .id = "n", .name = "host" }, with_option = plain, with_subnet = plain, internal = plain;
	with_option.options = (struct gantry_options){ .count = 1, .items = &option };
	with_subnet.subnets = &subnet;
	with_subnet.subnet_count = 1;
	internal.flags = GANTRY_NETWORK_INTERNAL;
	assert_ok(gt_net_create(driver, &plain, &err), err);
	assert_fails(gt_net_create(driver, &with_option, &err), err, GT_INVALID, "driver host: network host: unknown option mtu (this driver has none)");
	assert_fails(gt_net_create(driver, &with_subnet, &err), err, GT_INVALID, "driver host: network host: this driver has no subnets");
	assert_fails(gt_net_create(driver, &internal, &err), err, GT_UNSUPPORTED, "driver host: network host: this driver has no internal networks");
	struct gantry_endpoint endpoint = { .id = "e" };
	assert_fails(gt_net_join(driver, &endpoint, -1, &err), err, GT_UNSUPPORTED, "driver host: it has no op endpoint_join");
}

static void calls_are_counted_with_time_and_failures(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_driver *driver = tester(state, GANTRY_VOLUME);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	AUTO_BUF struct gt_buf text = { 0 };
	assert_ok(gt_vol_inspect(driver, "greeting", info, &err), err);
	assert_fails(gt_vol_inspect(driver, "unset", info, &err), err, GT_NOT_FOUND, "driver tester: no value");
	assert_true(gt_net_remove(driver, "n", &err) < 0);      /* never reaches the driver: not a call */
	gt_drivers_metrics(fixture->drivers, &text);
	assert_non_null(strstr(text.data, "gantry_driver_open{kind=\"volume\",driver=\"tester\"} 1\n"));
	assert_non_null(strstr(text.data, "gantry_driver_call_failures_total{kind=\"volume\",driver=\"tester\"} 1\n"));
	assert_non_null(strstr(text.data, "gantry_driver_call_duration_seconds_count{kind=\"volume\",driver=\"tester\"} 2\n"));
	assert_non_null(strstr(text.data, "gantry_driver_call_duration_seconds_count{kind=\"network\",driver=\"tester\"} 0\n"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(settings_reach_the_driver_in_one_form),
		TEST(each_driver_has_directories_of_its_own),
		TEST(documents_are_kept_and_bounded),
		TEST(cut_writes_are_swept_at_the_next_start),
		TEST(errors_keep_their_kind_and_name_the_driver),
		TEST(options_are_strings_in_bounds),
		TEST(an_op_that_is_not_there_is_unsupported),
		TEST(ops_that_came_later_may_be_missing),
		TEST(sizes_are_filled_in),
		TEST(lists_are_visited_until_the_visitor_stops),
		TEST(a_call_ends_when_the_daemon_goes_down),
		TEST(events_are_passed_on),
		TEST(work_in_a_namespace_leaves_the_caller_where_it_was),
		TEST(the_null_network_is_loopback_alone),
		TEST(the_host_network_takes_no_options),
		TEST(calls_are_counted_with_time_and_failures),
	};
	return run_both("driver calls", tests, GT_COUNT(tests));
}
