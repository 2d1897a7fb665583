/* Layers of the overlay driver: made, sealed, stacked, mounted, removed, and found again after a crash. */
#include "driver_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static struct gt_driver *open_overlay(void **state, const char *more)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE char *text = gt_xasprintf("[plugin.storage-overlay]\nsync = no\n%s", more);
	plant_plugin(fixture, "plugins/storage-overlay.so", "storage-overlay.so");
	start_drivers(fixture, text);
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_STORAGE, "overlay", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

static struct gt_driver *reopen(void **state, const char *more)
{
	stop_drivers(*state);
	return open_overlay(state, more);
}

/* A directory of the driver's state. */
static int state_dir(void **state, const char *below)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *path = gt_xasprintf("%s/root/storage/overlay/%s", fixture->dir, below);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int count_entries(void **state, const char *below)
{
	int count = 0;
	DIR *dir = fdopendir(state_dir(state, below));
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return count;
}

/* By a thread, soon. */
static void assert_trash_empties(void **state)
{
	for (int i = 0; i < 500 && count_entries(state, "trash"); i++)
		usleep(10000);
	assert_int_equal(count_entries(state, "trash"), 0);
}

static int begin(struct gt_driver *driver, const char *id, const char *parent)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, id, parent, NULL, &err), err);
	assert_ok(gt_layer_dir(driver, id, dir, &err), err);
	assert_int_equal(dir->whiteouts, GANTRY_WHITEOUT_OVERLAY);
	int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* A sealed layer with one file, named as the layer. */
static void image_layer(struct gt_driver *driver, const char *id, const char *parent)
{
	struct gt_error err = { 0 };
	AUTO_CLOSE int fd = begin(driver, id, parent);
	put_file(fd, id, id);
	assert_ok(gt_layer_commit(driver, id, &err), err);
}

static int mount_layer(struct gt_driver *driver, const char *id, bool read_only)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	assert_ok(gt_layer_mount(driver, id, read_only, mount, &err), err);
	assert_string_equal(mount->type, "overlay");
	assert_int_equal(mount->flags, GANTRY_MOUNT_IDMAP);
	return perform(mount);
}

static void writable(struct gt_driver *driver, const char *id, const char *parent)
{
	struct gt_error err = { 0 };
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, id, parent, NULL, &err), err);
}

static void assert_holds(int dirfd, const char *path, const char *text)
{
	AUTO_FREE char *found = get_file(dirfd, path);
	assert_string_equal(found, text);
}

static int visit_name(void *arg, const char *name)
{
	gt_buf_printf(arg, "%s ", name);
	return 0;
}

static void assert_listed(struct gt_driver *driver, const char *wanted)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf names = { 0 };
	gt_buf_str(&names, "");
	assert_ok(gt_layer_list(driver, visit_name, &names, &err), err);
	assert_string_equal(names.data ? names.data : "", wanted);
}

/* ---- the ordinary life ---- */

static void a_stack_shows_all_its_layers(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	bool sealed = false;
	image_layer(driver, "base", NULL);
	image_layer(driver, "middle", "base");
	writable(driver, "box", "middle");
	assert_ok(gt_layer_lookup(driver, "middle", &sealed, &err), err);
	assert_true(sealed);
	assert_ok(gt_layer_lookup(driver, "box", &sealed, &err), err);
	assert_false(sealed);
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_holds(box, "base", "base");
	assert_holds(box, "middle", "middle");
	put_file(box, "base", "changed");
	assert_int_equal(unlinkat(box, "middle", 0), 0);
	/* a view of it while it is mounted, and the image, which has not changed */
	AUTO_CLOSE int view = mount_layer(driver, "box", true), image = mount_layer(driver, "middle", true);
	assert_holds(view, "base", "changed");
	assert_false(exists(view, "middle"));
	assert_holds(image, "base", "base");
	assert_int_equal(openat(image, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
	assert_int_equal(errno, EROFS);
	assert_listed(driver, "base box middle ");
}

static void single_and_empty_stacks_can_be_mounted(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	image_layer(driver, "only", NULL);
	writable(driver, "scratch", NULL);
	AUTO_CLOSE int only = mount_layer(driver, "only", true), scratch = mount_layer(driver, "scratch", false),
		       view = mount_layer(driver, "scratch", true);
	assert_holds(only, "only", "only");
	put_file(scratch, "f", "x");
	assert_true(exists(scratch, "f"));
	(void)view;
}

static void a_hundred_and_thirty_layers_can_be_mounted(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	char id[32], parent[32] = "";
	for (int i = 0; i < 130; i++) {
		snprintf(id, sizeof id, "layer-%03d", i);
		image_layer(driver, id, i ? parent : NULL);
		memcpy(parent, id, sizeof parent);
	}
	writable(driver, "box", parent);
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_holds(box, "layer-000", "layer-000");
	assert_holds(box, "layer-129", "layer-129");
	/* and described in what an old kernel takes: relative to the state directory, that is less than 4095 bytes */
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *prefix = gt_xasprintf("%s/root/storage/overlay/", fixture->dir);
	assert_ok(gt_layer_mount(driver, "box", false, mount, &(struct gt_error){ 0 }), (struct gt_error){ 0 });
	assert_true(strlen(mount->options) - 132 * strlen(prefix) < 4000);
}

static void the_root_of_a_stack_keeps_its_mode_and_owner(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	struct stat st;
	AUTO_CLOSE int fd = begin(driver, "base", NULL);
	assert_int_equal(fchown(fd, 7, 8), 0);
	assert_int_equal(fchmod(fd, 01777), 0);
	assert_ok(gt_layer_commit(driver, "base", &err), err);
	for (int life = 0; life < 2; life++) {
		const char *id = life ? "second" : "first";
		writable(driver, id, "base");
		AUTO_CLOSE int box = mount_layer(driver, id, false);
		assert_int_equal(fstat(box, &st), 0);
		assert_int_equal(st.st_mode & 07777, 01777);
		assert_int_equal(st.st_uid, 7);
		assert_int_equal(st.st_gid, 8);
		driver = reopen(state, "");
	}
}

static void layers_are_filled_in_any_order_and_sealed_from_below(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	AUTO_CLOSE int base = begin(driver, "base", NULL);
	AUTO_CLOSE int top = begin(driver, "top", "base");
	put_file(top, "top", "top");
	assert_fails(gt_layer_commit(driver, "top", &err), err, GT_CONFLICT,
		     "driver overlay: layer top cannot be sealed before its parent base is");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", "top", NULL, &err), err, GT_CONFLICT,
		     "driver overlay: layer box cannot stand on top, which is not sealed");
	put_file(base, "base", "base");
	assert_ok(gt_layer_commit(driver, "base", &err), err);
	assert_ok(gt_layer_commit(driver, "top", &err), err);
	AUTO_CLOSE int view = mount_layer(driver, "top", true);
	assert_holds(view, "base", "base");
	assert_holds(view, "top", "top");
}

/* ---- repeating and refusing ---- */

static void preparing_again_begins_anew_or_changes_nothing(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	image_layer(driver, "base", NULL);
	int fd = begin(driver, "half", "base");
	put_file(fd, "junk", "junk");
	close(fd);
	AUTO_CLOSE int child = begin(driver, "child", "half");
	fd = begin(driver, "half", "base");
	assert_false(exists(fd, "junk"));
	put_file(fd, "good", "good");
	close(fd);
	assert_ok(gt_layer_commit(driver, "half", &err), err);
	assert_ok(gt_layer_commit(driver, "half", &err), err);
	fd = begin(driver, "half", "base");
	assert_true(exists(fd, "good"));
	close(fd);
	writable(driver, "box", "half");
	int box = mount_layer(driver, "box", false);
	put_file(box, "mine", "mine");
	close(box);
	writable(driver, "box", "half");
	box = mount_layer(driver, "box", false);
	assert_holds(box, "mine", "mine");
	assert_holds(box, "good", "good");
	close(box);
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", "base", NULL, &err), err, GT_CONFLICT,
		     "driver overlay: layer box exists on another parent");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, "box", "half", NULL, &err), err, GT_CONFLICT,
		     "driver overlay: layer box exists as one of another kind");
}

static void wrong_requests_are_refused_in_words(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_JSON json_t *size = json_pack("{s:s}", "size", "1G"), *odd = json_pack("{s:s}", "odd", "1");
	bool sealed;
	image_layer(driver, "base", NULL);
	writable(driver, "box", "base");
	close(begin(driver, "open", NULL));
	static const char *const BAD[] = { "", "..", "a/b", "../layers", "A", "-x", "a.b",
					   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		assert_int_equal(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, BAD[i], NULL, NULL, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		assert_int_equal(gt_layer_remove(driver, BAD[i], &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
	}
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "x", "nobody", NULL, &err), err, GT_NOT_FOUND,
		     "driver overlay: there is no layer nobody");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "x", "box", NULL, &err), err, GT_INVALID,
		     "driver overlay: layer x cannot stand on box, which is a writable layer");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "x", "base", size, &err), err, GT_UNSUPPORTED,
		     "driver overlay: storage option size: this driver has no quotas");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "x", "base", odd, &err), err, GT_INVALID,
		     "driver overlay: unknown storage option odd (this driver has none)");
	assert_fails(gt_layer_mount(driver, "base", false, mount, &err), err, GT_INVALID,
		     "driver overlay: layer base is an image layer: it can be mounted read-only alone");
	assert_fails(gt_layer_mount(driver, "open", true, mount, &err), err, GT_CONFLICT,
		     "driver overlay: layer open cannot be mounted before it is sealed");
	assert_fails(gt_layer_commit(driver, "box", &err), err, GT_INVALID, "driver overlay: layer box is a writable layer: it cannot be sealed");
	assert_fails(gt_layer_lookup(driver, "x", &sealed, &err), err, GT_NOT_FOUND, "driver overlay: there is no layer x");
	assert_int_equal(count_entries(state, "layers"), 3);
}

static void a_root_path_with_a_comma_is_refused(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE char *more = gt_xasprintf("root = %s/a:b\n", fixture->dir);
	plant_plugin(fixture, "plugins/storage-overlay.so", "storage-overlay.so");
	start_drivers(fixture, more);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_STORAGE, "overlay", &err));
	assert_non_null(strstr(err.message, "the path has a comma, colon, quote, backslash or space"));
}

static void a_file_system_that_cannot_carry_layers_is_told_at_once(void **state)
{
	if (drivers_isolated)
		skip(); /* the path is one of this process alone */
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gt_driver *driver = open_overlay(state, "");
	writable(driver, "box", NULL);
	/* overlay on overlay; the mount is reached through its descriptor, in a namespace of the test's own */
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	AUTO_FREE char *more = gt_xasprintf("root = /proc/self/fd/%d\n", box);
	stop_drivers(fixture);
	start_drivers(fixture, more);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_STORAGE, "overlay", &err));
	assert_int_equal(err.kind, GT_UNAVAILABLE);
	assert_non_null(strstr(err.message, "the file system (overlay) below /proc/self/fd/"));
	assert_non_null(strstr(err.message, "put [daemon] root on ext4, xfs, btrfs or tmpfs"));
	assert_false(exists(box, "storage/overlay/probe"));
}

static void metacopy_wants_redirects(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "plugins/storage-overlay.so", "storage-overlay.so");
	start_drivers(fixture, "[plugin.storage-overlay]\nmetacopy = yes\n");
	assert_null(gt_driver_find(fixture->drivers, GANTRY_STORAGE, "overlay", &err));
	assert_string_equal(err.message, "the storage driver \"overlay\" could not be opened: driver overlay: [plugin.storage-overlay] metacopy = yes "
					 "needs redirect_dir = on");
}

/* ---- after a crash ---- */

static void what_a_crash_left_is_removed(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	bool sealed;
	image_layer(driver, "base", NULL);
	close(begin(driver, "half", "base"));
	close(begin(driver, "half-child", "half"));
	writable(driver, "box", "base");
	int box = mount_layer(driver, "box", false);
	put_file(box, "kept", "kept");
	close(box);
	AUTO_CLOSE int layers = state_dir(state, "layers"), links = state_dir(state, "l"), trash = state_dir(state, "trash");
	put_dir(layers, "only-a-directory", 0700);
	writable(driver, "no-record", "base");
	assert_int_equal(unlinkat(layers, "no-record/about", 0), 0);
	put_dir(layers, "Not A Layer", 0700);
	assert_int_equal(symlinkat("../layers/nobody/diff", links, "stale"), 0);
	assert_int_equal(symlinkat("/etc", links, "odd"), 0);
	put_dir(trash, "00000000", 0700);

	driver = reopen(state, "");
	assert_listed(driver, "base box ");
	assert_int_equal(gt_layer_lookup(driver, "half", &sealed, NULL), -1);
	assert_int_equal(count_entries(state, "layers"), 3); /* and what is not ours */
	assert_int_equal(count_entries(state, "l"), 1);
	box = mount_layer(driver, "box", false);
	assert_holds(box, "kept", "kept");
	assert_holds(box, "base", "base");
	close(box);
	stop_drivers(*state);
	open_overlay(state, "");
	assert_trash_empties(state);
}

/* Makes, seals and removes layers until it is killed. */
static void work_until_killed(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	char id[32];
	for (int i = 0;; i++) {
		snprintf(id, sizeof id, "image-%d", i % 7);
		if (gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, id, NULL, NULL, NULL) < 0 || gt_layer_commit(driver, id, NULL) < 0)
			_exit(1);
		gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", id, NULL, NULL);
		gt_layer_remove(driver, "box", NULL);
		gt_layer_remove(driver, id, NULL);
	}
}

static int mount_any(void *arg, const char *name)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	assert_ok(gt_layer_mount(arg, name, true, mount, &err), err);
	AUTO_CLOSE int fd = perform(mount);
	return fd < 0;
}

static int count_images(void *arg, const char *name)
{
	*(int *)arg += strncmp(name, "image", 5) == 0;
	return 0;
}

static void killed_at_any_moment_it_comes_back_whole(void **state)
{
	struct gt_error err = { 0 };
	for (int round = 0; round < 25; round++) {
		pid_t pid = fork();
		if (pid == 0)
			work_until_killed(state);
		assert_true(pid > 0);
		usleep(20000 + (useconds_t)(round * 997 % 23) * 700);
		kill(pid, SIGKILL);
		int status, images = 0;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		struct gt_driver *driver = open_overlay(state, "");
		assert_ok(gt_layer_list(driver, mount_any, driver, &err), err);
		assert_ok(gt_layer_list(driver, count_images, &images, &err), err);
		assert_int_equal(count_entries(state, "l"), images);
		stop_drivers(*state);
	}
}

static void a_lost_short_name_is_made_again(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	image_layer(driver, "base", NULL);
	AUTO_CLOSE int links = state_dir(state, "l");
	DIR *dir = fdopendir(dup(links));
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] != '.')
			assert_int_equal(unlinkat(links, entry->d_name, 0), 0);
	}
	closedir(dir);
	driver = reopen(state, "");
	AUTO_CLOSE int view = mount_layer(driver, "base", true);
	assert_holds(view, "base", "base");
}

static void a_layer_that_lost_its_parent_is_kept_and_not_mounted(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	struct drivers_fixture *fixture = *state;
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	image_layer(driver, "base", NULL);
	image_layer(driver, "middle", "base");
	writable(driver, "box", "middle");
	stop_drivers(fixture);
	AUTO_FREE char *lost = gt_xasprintf("%s/root/storage/overlay/layers/base", fixture->dir);
	assert_ok(gt_remove_tree(AT_FDCWD, lost, &err), err);
	driver = open_overlay(state, "");
	assert_fails(gt_layer_mount(driver, "box", false, mount, &err), err, GT_INTERNAL,
		     "driver overlay: layer box cannot be mounted: a layer below it is lost");
	assert_ok(gt_layer_remove(driver, "box", &err), err);
	assert_ok(gt_layer_remove(driver, "middle", &err), err);
	assert_listed(driver, "");
}

static void a_volatile_layer_can_be_mounted_again(void **state)
{
	struct gt_driver *driver = open_overlay(state, "volatile = yes\n");
	writable(driver, "box", NULL);
	for (int i = 0; i < 2; i++) {
		AUTO_CLOSE int box = mount_layer(driver, "box", false);
		put_file(box, "f", "x");
	}
}

/* ---- removing ---- */

static void a_layer_is_removed_after_those_on_it(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	image_layer(driver, "base", NULL);
	writable(driver, "one", "base");
	writable(driver, "two", "base");
	assert_fails(gt_layer_remove(driver, "base", &err), err, GT_CONFLICT, "driver overlay: layer base has 2 layers on it");
	assert_ok(gt_layer_remove(driver, "one", &err), err);
	assert_ok(gt_layer_remove(driver, "one", &err), err);
	driver = reopen(state, "");
	assert_fails(gt_layer_remove(driver, "base", &err), err, GT_CONFLICT, "driver overlay: layer base has 1 layer on it");
	assert_ok(gt_layer_remove(driver, "two", &err), err);
	assert_ok(gt_layer_remove(driver, "base", &err), err);
	assert_listed(driver, "");
	assert_int_equal(count_entries(state, "layers"), 0);
	assert_int_equal(count_entries(state, "l"), 0);
	assert_trash_empties(state);
}

static void deep_and_immutable_trees_are_removed(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	int fd = begin(driver, "deep", NULL), flags = FS_IMMUTABLE_FL;
	put_dir(fd, "fixed", 0755);
	put_file(fd, "fixed/file", "x");
	AUTO_CLOSE int file = openat(fd, "fixed/file", O_RDONLY | O_CLOEXEC), dir = openat(fd, "fixed", O_RDONLY | O_CLOEXEC);
	if (ioctl(file, FS_IOC_SETFLAGS, &flags) < 0 || ioctl(dir, FS_IOC_SETFLAGS, &flags) < 0)
		print_message("this file system has no immutable files\n");
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		put_file(fd, "f", "");
		int below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = below;
	}
	close(fd);
	struct gantry_usage usage;
	assert_fails(gt_layer_usage(driver, "deep", &usage, &err), err, GT_UNSUPPORTED,
		     "driver overlay: the size of layer deep cannot be told: directories are nested too deeply in it");
	assert_ok(gt_layer_remove(driver, "deep", &err), err);
	assert_trash_empties(state);
}

static void usage_counts_files_once(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	struct gantry_usage usage;
	image_layer(driver, "base", NULL);
	AUTO_CLOSE int fd = begin(driver, "top", "base");
	put_file(fd, "ten", "0123456789");
	assert_int_equal(linkat(fd, "ten", fd, "again", 0), 0);
	put_dir(fd, "d", 0755);
	put_file(fd, "d/five", "01234");
	assert_int_equal(symlinkat("abc", fd, "link"), 0);
	assert_ok(gt_layer_usage(driver, "top", &usage, &err), err);
	assert_int_equal(usage.bytes, 18);
	assert_int_equal(usage.inodes, 4);
}

static void a_thousand_writable_layers_cost_what_one_costs(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	char id[32];
	image_layer(driver, "base", NULL);
	int64_t first = 0, last = 0, begun = 0;
	for (int i = 0; i < 1000; i++) {
		if (i % 100 == 0)
			begun = gt_monotonic();
		snprintf(id, sizeof id, "box-%d", i);
		writable(driver, id, "base");
		if (i == 99)
			first = gt_monotonic() - begun;
		if (i == 999)
			last = gt_monotonic() - begun;
	}
	/* generous: other work runs on the machine; what must not be is a cost that grows with the number of layers */
	assert_true(last < 10 * first + 500 * GT_MILLISECOND);
	for (int i = 0; i < 1000; i++) {
		snprintf(id, sizeof id, "box-%d", i);
		assert_ok(gt_layer_remove(driver, id, &err), err);
	}
}

struct worker {
	pthread_t thread;
	struct gt_driver *driver;
	int number, failures;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	char image[32], box[32];
	for (int i = 0; i < 30; i++) {
		snprintf(image, sizeof image, "image-%d-%d", worker->number, i);
		snprintf(box, sizeof box, "box-%d-%d", worker->number, i);
		worker->failures += gt_layer_prepare(worker->driver, GANTRY_LAYER_IMAGE, image, "base", NULL, NULL) < 0;
		worker->failures += gt_layer_commit(worker->driver, image, NULL) < 0;
		worker->failures += gt_layer_prepare(worker->driver, GANTRY_LAYER_WRITABLE, box, image, NULL, NULL) < 0;
		worker->failures += gt_layer_mount(worker->driver, box, false, mount, NULL) < 0;
		worker->failures += gt_layer_remove(worker->driver, image, NULL) == 0;
		worker->failures += gt_layer_remove(worker->driver, box, NULL) < 0;
		worker->failures += gt_layer_remove(worker->driver, image, NULL) < 0;
	}
	return NULL;
}

static void many_threads_work_at_once(void **state)
{
	struct worker workers[8] = { 0 };
	struct gt_driver *driver = open_overlay(state, "");
	image_layer(driver, "base", NULL);
	for (int i = 0; i < 8; i++) {
		workers[i].driver = driver;
		workers[i].number = i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].failures, 0);
	}
	assert_listed(driver, "base ");
	assert_int_equal(count_entries(state, "layers"), 1);
	assert_int_equal(count_entries(state, "l"), 1);
	assert_trash_empties(state);
}

static void no_descriptor_stays_open(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	struct gantry_usage usage;
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	int before = open_fds();
	for (int i = 0, now; i < 50; i++, usleep(2000)) /* the thread that empties the trash looks at it once */
		before = (now = open_fds()) < before ? now : before;
	image_layer(driver, "base", NULL);
	writable(driver, "box", "base");
	assert_ok(gt_layer_mount(driver, "box", false, mount, &err), err);
	assert_ok(gt_layer_usage(driver, "base", &usage, &err), err);
	assert_ok(gt_layer_remove(driver, "box", &err), err);
	assert_ok(gt_layer_remove(driver, "base", &err), err);
	assert_trash_empties(state);
	assert_int_equal(open_fds_settled(before), before); /* the thread that empties the trash may look at it once more */
	stop_drivers(*state);
}

/* ext4 alone knows the flag; a writable layer is small and stays with the others. */
static void image_layers_lie_apart(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	int flags = 0, other = 0;
	close(begin(driver, "base", NULL));
	close(begin(driver, "base", NULL)); /* anew */
	assert_int_equal(count_entries(state, "layers/base"), 2);
	image_layer(driver, "top", NULL);
	writable(driver, "c1", "top");
	AUTO_CLOSE int image = state_dir(state, "layers/base");
	AUTO_CLOSE int container = state_dir(state, "layers/c1");
	struct statfs fs;
	assert_int_equal(fstatfs(image, &fs), 0);
	if (fs.f_type != EXT4_SUPER_MAGIC)
		skip();
	assert_int_equal(ioctl(image, FS_IOC_GETFLAGS, &flags), 0);
	assert_int_equal(ioctl(container, FS_IOC_GETFLAGS, &other), 0);
	assert_true(flags & FS_TOPDIR_FL);
	assert_false(other & FS_TOPDIR_FL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(image_layers_lie_apart),
		TEST(a_stack_shows_all_its_layers),
		TEST(single_and_empty_stacks_can_be_mounted),
		TEST(a_hundred_and_thirty_layers_can_be_mounted),
		TEST(the_root_of_a_stack_keeps_its_mode_and_owner),
		TEST(layers_are_filled_in_any_order_and_sealed_from_below),
		TEST(preparing_again_begins_anew_or_changes_nothing),
		TEST(wrong_requests_are_refused_in_words),
		TEST(a_root_path_with_a_comma_is_refused),
		TEST(a_file_system_that_cannot_carry_layers_is_told_at_once),
		TEST(metacopy_wants_redirects),
		TEST(what_a_crash_left_is_removed),
		TEST(killed_at_any_moment_it_comes_back_whole),
		TEST(a_lost_short_name_is_made_again),
		TEST(a_layer_that_lost_its_parent_is_kept_and_not_mounted),
		TEST(a_volatile_layer_can_be_mounted_again),
		TEST(a_layer_is_removed_after_those_on_it),
		TEST(deep_and_immutable_trees_are_removed),
		TEST(usage_counts_files_once),
		TEST(a_thousand_writable_layers_cost_what_one_costs),
		TEST(many_threads_work_at_once),
		TEST(no_descriptor_stays_open),
	};
	return run_both("storage overlay", tests, GT_COUNT(tests));
}
