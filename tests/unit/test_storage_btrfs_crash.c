/*
 * test_storage_btrfs_crash.c - layers of the btrfs driver after a crash, and what cannot be made.
 */
#include "btrfs_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- after a crash ---- */

static void what_a_crash_left_is_removed(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	bool sealed;
	image_layer(driver, "base", NULL);
	close(begin_layer(driver, "half", "base"));
	writable_layer(driver, "box", "base");
	int box = mount_layer(driver, "box", false);
	put_file(box, "kept", "kept");
	close(box);
	AUTO_CLOSE int layers = state_dir(state, "layers"), trash = state_dir(state, "trash");
	put_dir(layers, "only-a-directory", 0700);
	writable_layer(driver, "no-record", "base");
	assert_int_equal(unlinkat(layers, "no-record/about", 0), 0);
	put_dir(layers, "no-subvolume", 0700);
	assert_int_equal(symlinkat("writable base 0", layers, "no-subvolume/about"), 0);
	put_dir(layers, "no-subvolume/tree", 0700);
	put_dir(layers, "Not A Layer", 0700);
	put_dir(trash, "00000000", 0700);
	put_dir(trash, "00000001", 0700);
	AUTO_CLOSE int second = openat(trash, "00000001", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_subvolume(second, "tree");
	assert_int_equal(symlinkat("image base", second, "about"), 0);

	driver = reopen_btrfs(state);
	assert_layers(driver, "base box ");
	assert_int_equal(gt_layer_lookup(driver, "half", &sealed, NULL), -1);
	assert_int_equal(count_entries(state, "layers"), 3); /* and what is not ours */
	assert_int_equal(count_entries(state, "trash"), 0);
	assert_int_equal(count_subvolumes(state), 2);
	box = mount_layer(driver, "box", false);
	assert_holds(box, "kept", "kept");
	assert_holds(box, "base", "base");
	close(box);
}

/* Makes, seals and removes layers until it is killed. */
static void work_until_killed(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	char id[32];
	for (int i = 0;; i++) {
		snprintf(id, sizeof id, "image-%d", i % 7);
		if (gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, id, NULL, NULL, NULL) < 0 || gt_layer_commit(driver, id, NULL) < 0)
			_exit(1);
		gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", id, NULL, NULL);
		gt_layer_remove(driver, "box", NULL);
		if (i % 3)
			gt_layer_remove(driver, id, NULL);
	}
}

static int mount_any(void *arg, const char *name)
{
	AUTO_CLOSE int fd = mount_layer(arg, name, true);
	return fd < 0;
}

static int count_one(void *arg, const char *name)
{
	(void)name;
	++*(int *)arg;
	return 0;
}

static void killed_at_any_moment_it_comes_back_whole(void **state)
{
	struct gt_error err = { 0 };
	if (!btrfs_is_here())
		skip();
	for (int round = 0; round < 25; round++) {
		pid_t pid = fork();
		if (pid == 0)
			work_until_killed(state);
		assert_true(pid > 0);
		usleep(30000 + (useconds_t)(round * 997 % 23) * 1700);
		kill(pid, SIGKILL);
		int status, layers = 0;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		struct gt_driver *driver = open_btrfs(state, "");
		assert_ok(gt_layer_list(driver, mount_any, driver, &err), err);
		assert_ok(gt_layer_list(driver, count_one, &layers, &err), err);
		assert_int_equal(count_subvolumes(state), layers);
		assert_int_equal(count_entries(state, "layers"), layers);
		assert_int_equal(count_entries(state, "trash"), 0);
		stop_drivers(*state);
	}
}

static int stop_at_second(void *arg, int kind, const char *path)
{
	(void)kind;
	(void)path;
	return ++*(int *)arg == 2;
}

static void a_layer_that_lost_its_parent_is_kept_whole(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	int changes = 0;
	image_layer(driver, "base", NULL);
	image_layer(driver, "middle", "base");
	writable_layer(driver, "box", "middle");
	AUTO_CLOSE int layers = state_dir(state, "layers");
	assert_int_equal(unlinkat(layers, "base/sealed", 0), 0);
	driver = reopen_btrfs(state);
	assert_layers(driver, "box middle ");
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_holds(box, "base", "base");
	assert_ok(gt_layer_diff(driver, "box", stop_at_second, &changes, &err), err);
	assert_fails(gt_layer_diff(driver, "middle", stop_at_second, &changes, &err), err, GT_INTERNAL,
		     "driver btrfs: layer middle cannot be compared: the layer below it is lost");
	remove_layer(driver, "box");
	remove_layer(driver, "middle");
	assert_int_equal(count_subvolumes(state), 0);
}

/* A layer that cannot be made leaves nothing: here its snapshot fails, as the parent's subvolume is gone. */
static void what_cannot_be_made_leaves_nothing(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	bool sealed;
	image_layer(driver, "base", NULL);
	AUTO_CLOSE int base = state_dir(state, "layers/base");
	assert_int_equal(renameat(base, "tree", base, "moved"), 0);
	assert_int_equal(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", "base", NULL, &err), -1);
	assert_non_null(strstr(err.message, "open the directory of layer base"));
	assert_int_equal(gt_layer_lookup(driver, "box", &sealed, NULL), -1);
	assert_int_equal(count_entries(state, "layers"), 1);
	assert_int_equal(count_entries(state, "trash"), 0);
	assert_int_equal(renameat(base, "moved", base, "tree"), 0);
	writable_layer(driver, "box", "base");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_ON_BTRFS(what_a_crash_left_is_removed),
		TEST_ON_BTRFS(killed_at_any_moment_it_comes_back_whole),
		TEST_ON_BTRFS(a_layer_that_lost_its_parent_is_kept_whole),
		TEST_ON_BTRFS(what_cannot_be_made_leaves_nothing),
	};
	return cmocka_run_group_tests_name("storage btrfs crash", tests, NULL, NULL);
}
