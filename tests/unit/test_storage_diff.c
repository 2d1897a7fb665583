/* Exactly the changes: what a container did to its files, told against the layers below, in order. */
#include "layer_steps.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

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

/* An image of one layer and a writable layer "box" on it, mounted. */
static int box_on(struct gt_driver *driver, const char *const *paths)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	fill_layer(base, paths);
	seal_layer(driver, "base");
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", "base", NULL, &err), err);
	assert_ok(gt_layer_mount(driver, "box", false, mount, &err), err);
	return perform(mount);
}

static int mount_again(struct gt_driver *driver, const char *parent)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", parent, NULL, &err), err);
	assert_ok(gt_layer_mount(driver, "box", false, mount, &err), err);
	return perform(mount);
}

static void a_layer_that_changed_nothing_has_no_changes(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("etc/", "etc/passwd"));
	AUTO_FREE char *text = get_file(box, "etc/passwd");
	assert_changes(driver, "box", "");
}

static void files_are_added_modified_and_deleted(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("etc/", "etc/group", "etc/hosts", "etc/passwd", "etc/shadow", "usr/", "usr/bin/", "usr/bin/ls", "var/"));
	put_file(box, "etc/hosts", "other");
	put_file(box, "etc/new", "new");
	assert_int_equal(unlinkat(box, "etc/passwd", 0), 0);
	assert_int_equal(fchmodat(box, "etc/shadow", 0600, 0), 0);
	assert_int_equal(linkat(box, "etc/group", box, "group", 0), 0);
	assert_int_equal(symlinkat("nowhere", box, "link"), 0);
	put_file(box, "temporary", "");
	assert_int_equal(unlinkat(box, "temporary", 0), 0);
	assert_int_equal(fchownat(box, "var", 5, 5, 0), 0);
	assert_changes(driver, "box",
		       "C /etc\nC /etc/group\nC /etc/hosts\nA /etc/new\nD /etc/passwd\nC /etc/shadow\nA /group\nA /link\nC /var\n");
}

static void parents_of_a_change_are_told_before_it(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("a/", "a/b/", "a/b/c/", "a/b/c/f", "a/x/", "a/x/y"));
	/* opened for writing: copied up with all directories above, whose own times stay */
	AUTO_CLOSE int f = openat(box, "a/b/c/f", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(f, "more", 4), 4);
	assert_changes(driver, "box", "C /a\nC /a/b\nC /a/b/c\nC /a/b/c/f\n");
}

static void a_directory_copied_up_without_a_change_is_not_told(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("a/", "a/b/"));
	struct stat st;
	assert_int_equal(fstatat(box, "a/b", &st, 0), 0);
	assert_int_equal(fchmodat(box, "a/b", 0700, 0), 0);
	assert_changes(driver, "box", "C /a\nC /a/b\n");
	assert_int_equal(fchmodat(box, "a/b", 0755, 0), 0);
	assert_changes(driver, "box", "");
	AUTO_CLOSE int b = openat(box, "a/b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fsetxattr(b, "trusted.color", "red", 3, 0), 0);
	assert_changes(driver, "box", "C /a\nC /a/b\n");
}

static void a_deleted_directory_is_one_deletion(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("a/", "a/b/", "a/b/c", "a/d"));
	remove_all(box, "a");
	assert_changes(driver, "box", "D /a\n");
}

static void a_directory_made_anew_is_compared_with_the_old_one(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("a/", "a/b/", "a/b/deep", "a/gone", "a/same", "a/sub/", "a/sub/one", "a/sub/two", "a/turned/",
						  "a/turned/x", "a/was-file"));
	remove_all(box, "a");
	fill_layer(box, PATHS("a/", "a/new", "a/same", "a/sub/", "a/sub/three", "a/sub/two", "a/turned", "a/was-file/", "a/was-file/in"));
	assert_changes(driver, "box",
		       "C /a\nD /a/b\nD /a/gone\nA /a/new\nC /a/same\nC /a/sub\nD /a/sub/one\nA /a/sub/three\nC /a/sub/two\nC /a/turned\n"
		       "C /a/was-file\nA /a/was-file/in\n");
}

static void a_file_and_a_directory_change_places(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("dir/", "dir/in", "file"));
	remove_all(box, "dir");
	assert_int_equal(unlinkat(box, "file", 0), 0);
	put_file(box, "dir", "now a file");
	put_dir(box, "file", 0755);
	put_file(box, "file/in", "");
	assert_changes(driver, "box", "C /dir\nC /file\nA /file/in\n");
}

static void a_renamed_file_is_gone_and_new(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("a/", "a/old", "b/"));
	assert_int_equal(renameat(box, "a/old", box, "b/new"), 0);
	assert_changes(driver, "box", "C /a\nD /a/old\nC /b\nA /b/new\n");
}

static void a_renamed_directory_is_refused_or_followed(void **state)
{
	static const char *const PLAIN[] = { "a/", "a/old/", "a/old/one", "a/old/sub/", "a/old/sub/two", "a/old/three", "b/", NULL };
	struct gt_driver *driver = open_overlay(state, "");
	int box = box_on(driver, PLAIN);
	assert_int_equal(renameat(box, "a/old", box, "b/new"), -1); /* EXDEV: programs copy then */
	assert_changes(driver, "box", "");
	close(box);
	stop_drivers(*state);

	driver = open_overlay(state, "redirect_dir = on\nmetacopy = yes\n");
	box = mount_again(driver, "base");
	assert_int_equal(renameat(box, "a/old", box, "b/new"), 0);
	assert_int_equal(unlinkat(box, "b/new/three", 0), 0);
	put_file(box, "b/new/sub/four", "");
	assert_changes(driver, "box",
		       "C /a\nD /a/old\nC /b\nA /b/new\nA /b/new/one\nA /b/new/sub\nA /b/new/sub/four\nA /b/new/sub/two\n");
	/* within one directory the kernel notes a relative redirect; and a new directory takes the old one's place */
	assert_int_equal(renameat(box, "b/new", box, "b/newer"), 0);
	put_dir(box, "a/old", 0755);
	put_file(box, "a/old/one", "another");
	assert_changes(driver, "box",
		       "C /a\nC /a/old\nC /a/old/one\nD /a/old/sub\nD /a/old/three\nC /b\nA /b/newer\nA /b/newer/one\nA /b/newer/sub\n"
		       "A /b/newer/sub/four\nA /b/newer/sub/two\n");
	close(box);
}

static void a_directory_renamed_in_place_is_followed(void **state)
{
	struct gt_driver *driver = open_overlay(state, "redirect_dir = on\n");
	AUTO_CLOSE int box = box_on(driver, PATHS("a/", "a/one/", "a/one/f", "a/two/", "a/two/g"));
	/* one and two change places */
	assert_int_equal(renameat(box, "a/one", box, "a/x"), 0);
	assert_int_equal(renameat(box, "a/two", box, "a/one"), 0);
	assert_int_equal(renameat(box, "a/x", box, "a/two"), 0);
	assert_changes(driver, "box", "C /a\nC /a/one\nD /a/one/f\nA /a/one/g\nC /a/two\nA /a/two/f\nD /a/two/g\n");
}

static void only_metadata_changed_with_metacopy_is_a_change(void **state)
{
	struct gt_driver *driver = open_overlay(state, "redirect_dir = on\nmetacopy = yes\n");
	struct gt_error err = { 0 };
	struct gantry_usage usage;
	AUTO_CLOSE int box = box_on(driver, PATHS("a", "b"));
	assert_int_equal(fchmodat(box, "a", 0700, 0), 0);
	assert_int_equal(renameat(box, "b", box, "c"), 0);
	assert_changes(driver, "box", "C /a\nD /b\nA /c\n");
	assert_ok(gt_layer_usage(driver, "box", &usage, &err), err);
	assert_int_equal(usage.bytes, 0);
}

/* ---- several layers below ---- */

static void whiteout(int dirfd, const char *path)
{
	assert_int_equal(mknodat(dirfd, path, S_IFCHR, makedev(0, 0)), 0);
}

static void opaque(int dirfd, const char *path)
{
	AUTO_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0), 0);
}

static void deletions_between_the_layers_count(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	fill_layer(base, PATHS("d/", "d/hidden", "d/seen", "gone", "gone-dir/", "gone-dir/x", "o/", "o/hidden", "t/", "t/x"));
	seal_layer(driver, "base");
	AUTO_CLOSE int middle = begin_layer(driver, "middle", "base");
	fill_layer(middle, PATHS("d/", "d/added", "o/", "o/seen", "t"));
	whiteout(middle, "gone");
	whiteout(middle, "gone-dir");
	whiteout(middle, "d/hidden");
	opaque(middle, "o");
	seal_layer(driver, "middle");
	AUTO_CLOSE int box = mount_again(driver, "middle");
	fill_layer(box, PATHS("gone", "gone-dir/", "gone-dir/x", "d/hidden", "d/seen", "d/added", "o/hidden", "o/seen"));
	assert_int_equal(unlinkat(box, "t", 0), 0);
	fill_layer(box, PATHS("t/", "t/x"));
	assert_changes(driver, "box",
		       "C /d\nC /d/added\nA /d/hidden\nC /d/seen\nA /gone\nA /gone-dir\nA /gone-dir/x\nC /o\nA /o/hidden\nC /o/seen\nC /t\nA /t/x\n");
	remove_all(box, "o");
	remove_all(box, "d");
	fill_layer(box, PATHS("o/", "d/"));
	/* what the middle layer hid cannot be deleted again */
	assert_changes(driver, "box",
		       "C /d\nD /d/added\nD /d/seen\nA /gone\nA /gone-dir\nA /gone-dir/x\nC /o\nD /o/seen\nC /t\nA /t/x\n");
	/* an image layer's own changes, whose whiteouts may be over nothing */
	assert_changes(driver, "middle", "C /d\nA /d/added\nD /d/hidden\nD /gone\nD /gone-dir\nC /o\nD /o/hidden\nA /o/seen\nC /t\n");
	assert_changes(driver, "base",
		       "A /d\nA /d/hidden\nA /d/seen\nA /gone\nA /gone-dir\nA /gone-dir/x\nA /o\nA /o/hidden\nA /t\nA /t/x\n");
}

static void whiteouts_over_nothing_are_no_deletions(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	fill_layer(base, PATHS("f"));
	seal_layer(driver, "base");
	AUTO_CLOSE int top = begin_layer(driver, "top", "base");
	whiteout(top, "never-there");
	assert_changes(driver, "top", "");
}

/* ---- hostile and odd ---- */

static int stop_at_third(void *arg, int kind, const char *path)
{
	(void)kind;
	(void)path;
	return ++*(int *)arg == 3;
}

static void a_visitor_can_stop(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	int seen = 0;
	AUTO_CLOSE int box = box_on(driver, PATHS("f"));
	fill_layer(box, PATHS("a/", "a/b/", "a/b/c/", "a/b/c/d", "e"));
	assert_ok(gt_layer_diff(driver, "box", stop_at_third, &seen, &err), err);
	assert_int_equal(seen, 3);
}

static void links_are_not_followed(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	AUTO_CLOSE int box = box_on(driver, PATHS("etc/", "etc/f"));
	remove_all(box, "etc");
	assert_int_equal(symlinkat("/etc", box, "etc"), 0);
	assert_changes(driver, "box", "C /etc\n");
}

static void trees_that_are_too_deep_are_refused_in_words(void **state)
{
	struct gt_driver *driver = open_overlay(state, "");
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf found = { 0 };
	int fd = begin_layer(driver, "deep", NULL);
	for (int i = 0; i < 600; i++) {
		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		int below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_int_equal(gt_layer_diff(driver, "deep", note_change, &found, &err), -1);
	assert_int_equal(err.kind, GT_UNSUPPORTED);
	assert_non_null(strstr(err.message, "directories are nested deeper than 512 levels"));
	fd = begin_layer(driver, "long", NULL);
	char name[201];
	memset(name, 'n', 200);
	name[200] = '\0';
	for (int i = 0; i < 30; i++) {
		assert_int_equal(mkdirat(fd, name, 0755), 0);
		int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_int_equal(gt_layer_diff(driver, "long", note_change, &found, &err), -1);
	assert_int_equal(err.kind, GT_UNSUPPORTED);
	assert_non_null(strstr(err.message, "a path has more than 4095 bytes"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_layer_that_changed_nothing_has_no_changes),
		TEST(files_are_added_modified_and_deleted),
		TEST(parents_of_a_change_are_told_before_it),
		TEST(a_directory_copied_up_without_a_change_is_not_told),
		TEST(a_deleted_directory_is_one_deletion),
		TEST(a_directory_made_anew_is_compared_with_the_old_one),
		TEST(a_file_and_a_directory_change_places),
		TEST(a_renamed_file_is_gone_and_new),
		TEST(a_renamed_directory_is_refused_or_followed),
		TEST(a_directory_renamed_in_place_is_followed),
		TEST(only_metadata_changed_with_metacopy_is_a_change),
		TEST(deletions_between_the_layers_count),
		TEST(whiteouts_over_nothing_are_no_deletions),
		TEST(a_visitor_can_stop),
		TEST(links_are_not_followed),
		TEST(trees_that_are_too_deep_are_refused_in_words),
	};
	return run_both("storage diff", tests, GT_COUNT(tests));
}
