/*
 * test_storage_btrfs_diff.c - what a layer of the btrfs driver changes, told as the overlay driver tells it.
 */
#include "btrfs_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- what a layer changes ---- */

static void rename_to(int dirfd, const char *from, const char *to)
{
	assert_int_equal(renameat(dirfd, from, dirfd, to), 0);
}

static void change_nothing(int box)
{
	AUTO_FREE char *text = get_file(box, "etc/passwd");
}

static void change_files(int box)
{
	put_file(box, "etc/hosts", "other");
	put_file(box, "etc/new", "new");
	assert_int_equal(unlinkat(box, "etc/passwd", 0), 0);
	assert_int_equal(fchmodat(box, "etc/shadow", 0600, 0), 0);
	assert_int_equal(fchownat(box, "usr", 5, 5, 0), 0);
	put_file(box, "temporary", "");
	assert_int_equal(unlinkat(box, "temporary", 0), 0);
}

static void append_deep_down(int box)
{
	AUTO_CLOSE int f = openat(box, "usr/share/doc/deep", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(f, "more", 4), 4);
}

static void change_and_change_back(int box)
{
	assert_int_equal(fchmodat(box, "usr/share", 0700, 0), 0);
	assert_int_equal(fchmodat(box, "usr/share", 0755, 0), 0);
}

static void set_attributes(int box)
{
	AUTO_CLOSE int dir = openat(box, "usr/share", O_RDONLY | O_DIRECTORY | O_CLOEXEC), file = openat(box, "etc/hosts", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fsetxattr(dir, "trusted.color", "red", 3, 0), 0);
	assert_int_equal(fsetxattr(file, "user.color", "red", 3, 0), 0);
}

static void link_and_make_nodes(int box)
{
	assert_int_equal(linkat(box, "etc/group", box, "group", 0), 0);
	assert_int_equal(symlinkat("nowhere", box, "link"), 0);
	assert_int_equal(mknodat(box, "etc/zero", S_IFCHR | 0600, makedev(1, 5)), 0);
	assert_int_equal(mknodat(box, "etc/pipe", S_IFIFO | 0600, 0), 0);
}

static void delete_a_tree(int box)
{
	remove_all(box, "usr");
}

static void make_a_tree_anew(int box)
{
	remove_all(box, "usr");
	fill_layer(box, PATHS("usr/", "usr/bin", "usr/new", "usr/share/", "usr/share/other", "usr/was-file/", "usr/was-file/in"));
}

static void let_files_and_directories_change_places(int box)
{
	remove_all(box, "usr");
	assert_int_equal(unlinkat(box, "etc/hosts", 0), 0);
	fill_layer(box, PATHS("usr", "etc/hosts/", "etc/hosts/in"));
}

static void rename_files(int box)
{
	rename_to(box, "etc/hosts", "usr/hosts");
	rename_to(box, "etc/group", "etc/passwd");
	rename_to(box, "etc/shadow", "etc/x");
	rename_to(box, "etc/x", "etc/shadow");
}

static void replace_by_a_link(int box)
{
	remove_all(box, "etc");
	assert_int_equal(symlinkat("/etc", box, "etc"), 0);
}

static const char *const IMAGE[] = { "etc/", "etc/group", "etc/hosts", "etc/passwd", "etc/shadow", "usr/", "usr/bin/", "usr/bin/ls", "usr/share/", "usr/share/doc/",
				     "usr/share/doc/deep", "usr/was-file", NULL };

static const struct {
	void (*fn)(int box);
	const char *wanted;
} CHANGES[] = {
	{ change_nothing, "" },
	{ change_files, "C /etc\nC /etc/hosts\nA /etc/new\nD /etc/passwd\nC /etc/shadow\nC /usr\n" },
	{ append_deep_down, "C /usr\nC /usr/share\nC /usr/share/doc\nC /usr/share/doc/deep\n" },
	{ change_and_change_back, "" },
	{ set_attributes, "C /etc\nC /etc/hosts\nC /usr\nC /usr/share\n" },
	{ link_and_make_nodes, "C /etc\nC /etc/group\nA /etc/pipe\nA /etc/zero\nA /group\nA /link\n" },
	{ delete_a_tree, "D /usr\n" },
	{ make_a_tree_anew, "C /usr\nC /usr/bin\nA /usr/new\nC /usr/share\nD /usr/share/doc\nA /usr/share/other\nC /usr/was-file\nA /usr/was-file/in\n" },
	{ let_files_and_directories_change_places, "C /etc\nC /etc/hosts\nA /etc/hosts/in\nC /usr\n" },
	{ rename_files, "C /etc\nD /etc/group\nD /etc/hosts\nC /etc/passwd\nC /etc/shadow\nC /usr\nA /usr/hosts\n" },
	{ replace_by_a_link, "C /etc\n" },
};

static void try_change(struct gt_driver *driver, size_t i)
{
	char id[32];
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	mount->size = sizeof *mount;
	snprintf(id, sizeof id, "box-%zu", i);
	writable_layer(driver, id, "base");
	assert_ok(gt_layer_mount(driver, id, false, mount, &err), err);
	AUTO_CLOSE int box = perform(mount);
	CHANGES[i].fn(box);
	assert_changes(driver, id, CHANGES[i].wanted); /* mounted still */
}

/* The same acts on both drivers; both are to say the same. */
static void changes_are_told_as_the_overlay_driver_tells_them(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gt_driver *drivers[] = { open_btrfs(state, ""), gt_driver_find(fixture->drivers, GANTRY_STORAGE, "overlay", &err) };
	for (size_t d = 0; d < 2; d++) {
		if (!drivers[d])
			fail_msg("%s", err.message);
		AUTO_CLOSE int base = begin_layer(drivers[d], "base", NULL);
		fill_layer(base, IMAGE);
		seal_layer(drivers[d], "base");
		for (size_t i = 0; i < GT_COUNT(CHANGES); i++)
			try_change(drivers[d], i);
	}
}

static void a_renamed_directory_is_gone_and_new_with_all_in_it(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	fill_layer(base, PATHS("a/", "a/one/", "a/one/f", "a/two/", "a/two/g", "b/", "b/c/", "b/c/h"));
	seal_layer(driver, "base");
	writable_layer(driver, "box", "base");
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	rename_to(box, "a/one", "a/x");
	rename_to(box, "a/two", "a/one");
	rename_to(box, "a/x", "a/two");
	rename_to(box, "b/c", "d");
	assert_changes(driver, "box", "C /a\nC /a/one\nD /a/one/f\nA /a/one/g\nC /a/two\nA /a/two/f\nD /a/two/g\nC /b\nD /b/c\nA /d\nA /d/h\n");
}

static void an_image_layer_tells_its_own_changes(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	fill_layer(base, PATHS("d/", "d/gone", "d/stays", "f"));
	seal_layer(driver, "base");
	AUTO_CLOSE int top = begin_layer(driver, "top", "base");
	assert_int_equal(unlinkat(top, "d/gone", 0), 0);
	put_file(top, "d/new", "new");
	seal_layer(driver, "top");
	assert_changes(driver, "base", "A /d\nA /d/gone\nA /d/stays\nA /f\n");
	assert_changes(driver, "top", "C /d\nD /d/gone\nA /d/new\n");
}

static void a_subvolume_inside_is_told_with_all_in_it(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	image_layer(driver, "base", NULL);
	writable_layer(driver, "box", "base");
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	make_subvolume(box, "own");
	put_file(box, "own/f", "");
	assert_changes(driver, "box", "A /own\nA /own/f\n");
}

static int stop_at_second(void *arg, int kind, const char *path)
{
	(void)kind;
	(void)path;
	return ++*(int *)arg == 2;
}

static void a_visitor_can_stop_and_depth_is_bounded(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	int seen = 0;
	writable_layer(driver, "box", NULL);
	int at = mount_layer(driver, "box", false);
	for (int i = 0; i < 520; i++) {
		put_dir(at, "d", 0755);
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	close(at);
	assert_ok(gt_layer_diff(driver, "box", stop_at_second, &seen, &err), err);
	assert_int_equal(seen, 2);
	assert_int_equal(gt_layer_diff(driver, "box", stop_at_second, &seen, &err), -1);
	assert_int_equal(err.kind, GT_UNSUPPORTED);
	assert_non_null(strstr(err.message, "nested deeper than 512 levels"));
	remove_layer(driver, "box");
	assert_int_equal(count_subvolumes(state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_ON_BTRFS(changes_are_told_as_the_overlay_driver_tells_them),
		TEST_ON_BTRFS(a_renamed_directory_is_gone_and_new_with_all_in_it),
		TEST_ON_BTRFS(an_image_layer_tells_its_own_changes),
		TEST_ON_BTRFS(a_subvolume_inside_is_told_with_all_in_it),
		TEST_ON_BTRFS(a_visitor_can_stop_and_depth_is_bounded),
	};
	return cmocka_run_group_tests_name("storage btrfs diff", tests, NULL, NULL);
}
