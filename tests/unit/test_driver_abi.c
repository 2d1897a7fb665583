/* Drivers of other minor versions: those of the first header go on to work, and of those of a newer one what nobody knows yet is left alone. */
#include "driver_fixture.h"

#include <string.h>

static struct gt_driver *find(void **state, enum gantry_kind kind, const char *plugin, const char *name)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	if (!fixture->drivers) {
		AUTO_FREE char *from = gt_xasprintf("tests/plugins/%s.so", plugin), *to = gt_xasprintf("%s.so", plugin);
		plant_plugin(fixture, from, to);
		start_drivers(fixture, "");
	}
	struct gt_driver *driver = gt_driver_find(fixture->drivers, kind, name, &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

static void a_network_driver_of_the_first_header_works(void **state)
{
	struct gt_driver *driver = find(state, GANTRY_NETWORK, "oldest", "oldest");
	struct gt_error err = { 0 };
	struct gantry_subnet subnets[] = {
		{ .family = 4, .subnet = "10.0.0.0/24", .gateway = "10.0.0.1", .range = "10.0.0.128/25" },
		{ .family = 6, .subnet = "fd00::/64", .gateway = "fd00::1", .range = "fd00::/80" },
	};
	const char *names[] = { "one" };
	struct gantry_network network = { .id = "n", .name = "net", .subnets = subnets, .subnet_count = 2, .reserved = names, .reserved_count = 1, .document = "{}" };
	struct gantry_endpoint endpoint = { .id = "e", .network_id = "n", .container_id = "c", .ifname = "eth0", .names = names, .name_count = 1 };
	assert_ok(gt_net_create(driver, &network, &err), err);
	assert_ok(gt_net_join(driver, &endpoint, -1, &err), err);
	assert_string_equal(endpoint.ipv4, "10.0.0.2/24");
	assert_int_equal(endpoint.mtu, 1400);
	assert_ok(gt_net_leave(driver, "n", "e", -1, &err), err);
	assert_ok(gt_net_remove(driver, "n", &err), err);
	assert_fails(gt_net_rename(driver, "n", "e", names, 1, &err), err, GT_UNSUPPORTED, "driver oldest: it has no op endpoint_rename");
}

static void a_volume_driver_of_the_first_header_works(void **state)
{
	struct gt_driver *driver = find(state, GANTRY_VOLUME, "oldest", "oldest");
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	assert_ok(gt_vol_create(driver, "vol", NULL, &err), err);
	assert_ok(gt_vol_inspect(driver, "vol", info, &err), err);
	assert_string_equal(info->mountpoint, "/oldest/vol");
	assert_string_equal(info->status, "");
	assert_int_equal(info->flags, 0);
	assert_int_equal(info->created_ns, 5);
	assert_false(gt_vol_counts(driver));
	assert_ok(gt_vol_remove(driver, "vol", &err), err);
}

static int note_change(void *arg, int kind, const char *path)
{
	assert_int_equal(kind, GANTRY_ADDED);
	assert_string_equal(path, "/new");
	++*(int *)arg;
	return 0;
}

static void a_storage_driver_of_the_first_header_works(void **state)
{
	struct gt_driver *driver = find(state, GANTRY_STORAGE, "oldest", "oldest");
	struct gt_error err = { 0 };
	struct gantry_usage usage;
	int changes = 0;
	bool sealed = false;
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, "layer", NULL, NULL, &err), err);
	assert_ok(gt_layer_commit(driver, "layer", &err), err);
	assert_ok(gt_layer_lookup(driver, "layer", &sealed, &err), err);
	assert_true(sealed);
	assert_ok(gt_layer_diff(driver, "layer", note_change, &changes, &err), err);
	assert_int_equal(changes, 1);
	assert_ok(gt_layer_usage(driver, "layer", &usage, &err), err);
	assert_int_equal(usage.bytes, 7);
	assert_ok(gt_layer_remove(driver, "layer", &err), err);
}

static void of_a_newer_minor_what_is_not_known_is_left_alone(void **state)
{
	struct gt_driver *driver = find(state, GANTRY_VOLUME, "newer-minor", "newer-minor");
	struct gt_driver *second = find(state, GANTRY_VOLUME, "newer-minor", "newer-second");
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	assert_ok(gt_vol_create(driver, "vol", NULL, &err), err);
	assert_ok(gt_vol_create(second, "vol", NULL, &err), err);
	assert_ok(gt_vol_remove(driver, "vol", &err), err);
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	AUTO_JSON json_t *settings = json_pack("{s:s, s:s}", "one", "1", "two", "b");
	assert_int_equal(json_array_size(json_object_get(all, "Refused")), 0);
	json_t *plugin = json_array_get(json_object_get(all, "Plugins"), 0);
	assert_string_equal(json_string_value(json_object_get(plugin, "ABI")), "1.11");
	assert_true(json_equal(json_object_get(plugin, "Settings"), settings));
	json_t *row = json_array_get(json_object_get(plugin, "Drivers"), 0);
	assert_int_equal(json_array_size(json_object_get(row, "Capabilities")), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_network_driver_of_the_first_header_works),
		TEST(a_volume_driver_of_the_first_header_works),
		TEST(a_storage_driver_of_the_first_header_works),
		TEST(of_a_newer_minor_what_is_not_known_is_left_alone),
	};
	return run_both("ABI", tests, GT_COUNT(tests));
}
