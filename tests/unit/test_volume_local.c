/* Named volumes: made, described, found again, removed; Docker's options; hostile names and contents. */
#include "driver_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static struct gt_driver *open_local(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "plugins/vol-local.so", "vol-local.so");
	start_drivers(fixture, "");
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "local", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

static int state_dir(void **state)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *path = gt_xasprintf("%s/root/volumes/local", fixture->dir);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int count_entries(void **state)
{
	int count = 0;
	DIR *dir = fdopendir(state_dir(state));
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return count;
}

static int visit_name(void *arg, const char *name)
{
	gt_strings_add(arg, name);
	return 0;
}

static void a_plain_volume_is_a_directory(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	AUTO_FREE char *data = gt_xasprintf("%s/root/volumes/local/data/_data", fixture->dir);
	struct gantry_usage usage;
	struct stat st;
	int64_t before = gt_now() - GT_SECOND;
	assert_ok(gt_vol_create(driver, "data", NULL, &err), err);
	assert_ok(gt_vol_create(driver, "data", NULL, &err), err);
	assert_ok(gt_vol_mount(driver, "data", "c", false, mount, &err), err);
	assert_string_equal(mount->type, "bind");
	assert_string_equal(mount->source, data);
	assert_string_equal(mount->options, "rbind");
	assert_int_equal(stat(data, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	AUTO_CLOSE int fd = perform(mount);
	put_file(fd, "f", "12345");
	assert_int_equal(linkat(fd, "f", fd, "g", 0), 0);
	assert_ok(gt_vol_mount(driver, "data", "c", true, mount, &err), err);
	assert_string_equal(mount->options, "rbind,ro");
	assert_ok(gt_vol_inspect(driver, "data", info, &err), err);
	assert_string_equal(info->mountpoint, data);
	assert_true(info->created_ns > before && info->created_ns < gt_now() + GT_SECOND);
	assert_ok(gt_vol_usage(driver, "data", &usage, &err), err);
	assert_int_equal(usage.bytes, 5);
	assert_int_equal(usage.inodes, 1);
	assert_ok(gt_vol_release(driver, "data", "c", &err), err);
	assert_ok(gt_vol_remove(driver, "data", &err), err);
	assert_ok(gt_vol_remove(driver, "data", &err), err);
	assert_fails(gt_vol_inspect(driver, "data", info, &err), err, GT_NOT_FOUND, "driver local: there is no volume data");
	assert_int_equal(count_entries(state), 0);
}

static void volumes_outlive_the_daemon(void **state)
{
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_JSON json_t *options = json_pack("{s:s, s:s, s:s}", "type", "tmpfs", "device", "tmpfs", "o", "size=1m,mode=0700,nosuid");
	assert_ok(gt_vol_create(driver, "memory", options, &err), err);
	assert_ok(gt_vol_create(driver, "plain", NULL, &err), err);
	stop_drivers(*state);
	driver = open_local(state);
	struct gt_strings names = { 0 };
	assert_ok(gt_vol_list(driver, visit_name, &names, &err), err);
	assert_int_equal(names.count, 2);
	gt_strings_free(&names);
	assert_ok(gt_vol_create(driver, "memory", options, &err), err);
	assert_fails(gt_vol_create(driver, "memory", NULL, &err), err, GT_CONFLICT, "driver local: volume memory exists with other options");
	assert_fails(gt_vol_create(driver, "plain", options, &err), err, GT_CONFLICT, "driver local: volume plain exists with other options");
	assert_ok(gt_vol_mount(driver, "memory", "c", true, mount, &err), err);
	assert_string_equal(mount->type, "tmpfs");
	assert_string_equal(mount->source, "tmpfs");
	assert_string_equal(mount->options, "size=1m,mode=0700,nosuid,ro");
	assert_ok(gt_vol_mount(driver, "memory", "c", false, mount, &err), err);
	AUTO_CLOSE int fd = perform(mount);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	struct gantry_usage usage;
	assert_ok(gt_vol_usage(driver, "memory", &usage, &err), err);
	assert_int_equal(usage.bytes, -1);
}

static void a_bind_volume_shows_its_device(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_FREE char *device = gt_xasprintf("%s/shared", fixture->dir);
	AUTO_JSON json_t *options = json_pack("{s:s, s:s, s:s}", "type", "none", "device", device, "o", "bind");
	assert_ok(gt_vol_create(driver, "shared", options, &err), err);
	AUTO_FREE char *missing = gt_xasprintf("driver local: volume shared: device %s: No such file or directory", device);
	assert_fails(gt_vol_mount(driver, "shared", "c", false, mount, &err), err, GT_NOT_FOUND, missing);
	assert_int_equal(mkdir(device, 0755), 0);
	assert_ok(gt_vol_mount(driver, "shared", "c", false, mount, &err), err);
	assert_string_equal(mount->type, "bind");
	assert_string_equal(mount->source, device);
	assert_string_equal(mount->options, "bind");
	/* removing the volume leaves the device alone */
	assert_ok(gt_vol_remove(driver, "shared", &err), err);
	assert_int_equal(access(device, F_OK), 0);
}

static void a_server_name_becomes_an_address(void **state)
{
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_JSON json_t *options = json_pack("{s:s, s:s, s:s}", "type", "nfs", "device", ":/export", "o", "addr=192.0.2.7,rw,nfsvers=4");
	assert_ok(gt_vol_create(driver, "nfs", options, &err), err);
	assert_ok(gt_vol_mount(driver, "nfs", "c", false, mount, &err), err);
	assert_string_equal(mount->type, "nfs");
	assert_string_equal(mount->source, ":/export");
	assert_string_equal(mount->options, "addr=192.0.2.7,rw,nfsvers=4");
	AUTO_JSON json_t *local = json_pack("{s:s, s:s, s:s}", "type", "nfs", "device", ":/export", "o", "addr=localhost");
	assert_ok(gt_vol_create(driver, "near", local, &err), err);
	assert_ok(gt_vol_mount(driver, "near", "c", false, mount, &err), err);
	assert_true(strcmp(mount->options, "addr=127.0.0.1") == 0 || strcmp(mount->options, "addr=::1") == 0);
}

static void wrong_options_are_refused_by_name(void **state)
{
	static const struct {
		const char *key[3], *value[3];
		const char *reason;
	} CASES[] = {
		{ { "nonsense" }, { "1" }, "unknown volume option \"nonsense\" (there are: type, o, device)" },
		{ { "type" }, { "tmpfs" }, "missing volume option \"device\": a volume with options needs type and device" },
		{ { "device" }, { "/x" }, "missing volume option \"type\": a volume with options needs type and device" },
		{ { "o" }, { "bind" }, "missing volume option \"type\": a volume with options needs type and device" },
		{ { "type", "device" }, { "none", "/x" }, "volume option type=none does not go without o=bind; a bind needs both type=none and o=bind" },
		{ { "type", "device", "o" }, { "tmpfs", "x", "ro,bind" },
		  "volume option type=tmpfs does not go with o=bind; a bind needs both type=none and o=bind" },
		{ { "type", "device", "o" }, { "none", "x", "bind" }, "device x is not an absolute path" },
		{ { "type", "device", "o" }, { "ext4", "/dev/x", "loop" }, "mount option loop is not supported in a volume" },
		{ { "type", "device", "o" }, { "ext4", "/dev/x", "a\nb" }, "volume option o has a control character" },
		{ { "type", "device", "o" }, { "ext4", "/dev/x", "a\\,b" }, "volume option o has a backslash" },
		{ { "type", "device" }, { "ex t4", "/dev/x" }, "\"ex t4\" is not a file system type" },
	};
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *options = json_object();
		for (size_t k = 0; k < 3 && CASES[i].key[k]; k++)
			json_object_set_new(options, CASES[i].key[k], json_string(CASES[i].value[k]));
		AUTO_FREE char *wanted = gt_xasprintf("driver local: %s", CASES[i].reason);
		assert_int_equal(gt_vol_create(driver, "v", options, &err), -1);
		assert_string_equal(err.message, wanted);
	}
	assert_int_equal(count_entries(state), 0);
}

static void hostile_names_reach_no_path(void **state)
{
	static const char *const BAD[] = { "", ".", "..", "../up", "a/b", "/etc", "-x", ".hidden", "_x", "a b", "a\nb", "a%s\xff" };
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_FREE char *long_name = gt_xmalloc(257);
	memset(long_name, 'a', 256);
	long_name[256] = '\0';
	for (size_t i = 0; i <= GT_COUNT(BAD); i++) {
		const char *name = i < GT_COUNT(BAD) ? BAD[i] : long_name;
		gt_error_clear(&err);
		assert_int_equal(gt_vol_create(driver, name, NULL, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		assert_int_equal(gt_vol_remove(driver, name, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		assert_int_equal(gt_vol_mount(driver, name, "c", false, mount, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
	}
	assert_int_equal(count_entries(state), 0);
}

static void what_a_crash_left_is_removed(void **state)
{
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	assert_ok(gt_vol_create(driver, "kept", NULL, &err), err);
	AUTO_CLOSE int dir = state_dir(state);
	put_dir(dir, ".new-0123456789abcdef-0", 0700);
	put_dir(dir, ".gone-0123456789abcdef-1", 0700);
	put_file(dir, ".gone-0123456789abcdef-1/f", "");
	put_dir(dir, "no-data-in-it", 0700);
	stop_drivers(*state);
	driver = open_local(state);
	for (int i = 0; i < 200 && count_entries(state) > 2; i++)
		usleep(10000);
	assert_int_equal(count_entries(state), 2);
	struct gt_strings names = { 0 };
	assert_ok(gt_vol_list(driver, visit_name, &names, &err), err);
	assert_int_equal(names.count, 1);
	assert_string_equal(names.items[0], "kept");
	gt_strings_free(&names);
}

static void damaged_options_are_told(void **state)
{
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	assert_ok(gt_vol_create(driver, "v", NULL, &err), err);
	AUTO_CLOSE int dir = state_dir(state);
	put_file(dir, "v/options", "type=tmp");
	assert_fails(gt_vol_mount(driver, "v", "c", false, mount, &err), err, GT_INTERNAL, "driver local: the options of volume v are damaged on disk");
	put_file(dir, "v/options", "garbage");
	assert_fails(gt_vol_mount(driver, "v", "c", false, mount, &err), err, GT_INTERNAL, "driver local: the options of volume v are damaged on disk");
	assert_ok(gt_vol_remove(driver, "v", &err), err);
}

static void deep_trees_are_removed_and_links_stay(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	AUTO_CLOSE int scratch = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_dir(scratch, "outside", 0755);
	put_file(scratch, "outside/f", "precious");
	AUTO_FREE char *outside = gt_xasprintf("%s/outside", fixture->dir);
	assert_ok(gt_vol_create(driver, "v", NULL, &err), err);
	AUTO_CLOSE int dir = state_dir(state);
	int fd = openat(dir, "v/_data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat(outside, fd, "link"), 0);
	for (int i = 0; i < 700; i++) {
		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		int below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_ok(gt_vol_remove(driver, "v", &err), err);
	assert_int_equal(count_entries(state), 0);
	assert_true(exists(scratch, "outside/f"));
}

static void a_mount_point_inside_is_not_crossed(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_driver *driver = open_local(state);
	struct gt_error err = { 0 };
	struct gantry_usage usage;
	own_mounts();
	assert_ok(gt_vol_create(driver, "v", NULL, &err), err);
	AUTO_FREE char *inside = gt_xasprintf("%s/root/volumes/local/v/_data/m", fixture->dir), *outside = gt_xasprintf("%s/outside", fixture->dir);
	assert_int_equal(mkdir(inside, 0755), 0);
	assert_int_equal(mkdir(outside, 0755), 0);
	AUTO_CLOSE int fd = open(outside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(fd, "f", "precious");
	assert_int_equal(mount(outside, inside, NULL, MS_BIND, NULL), 0);
	assert_ok(gt_vol_usage(driver, "v", &usage, &err), err);
	int rc = gt_vol_remove(driver, "v", &err);
	AUTO_CLOSE int dir = state_dir(state);
	DIR *listing = fdopendir(dup(dir));
	for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
		AUTO_FREE char *moved = gt_xasprintf("%s/root/volumes/local/%s/_data/m", fixture->dir, entry->d_name);
		if (entry->d_name[0] == '.' && strlen(entry->d_name) > 2)
			umount2(moved, MNT_DETACH);
	}
	closedir(listing);
	umount2(inside, MNT_DETACH);
	assert_int_equal(rc, -1);
	assert_int_equal(err.kind, GT_CONFLICT);
	assert_true(exists(fd, "f"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_plain_volume_is_a_directory),
		TEST(volumes_outlive_the_daemon),
		TEST(a_bind_volume_shows_its_device),
		TEST(a_server_name_becomes_an_address),
		TEST(wrong_options_are_refused_by_name),
		TEST(hostile_names_reach_no_path),
		TEST(what_a_crash_left_is_removed),
		TEST(damaged_options_are_told),
		TEST(deep_trees_are_removed_and_links_stay),
		TEST(a_mount_point_inside_is_not_crossed),
	};
	return run_both("volume local", tests, GT_COUNT(tests));
}
