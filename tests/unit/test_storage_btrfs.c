/* Layers of the btrfs driver, on a file system of the test's own: an image file, made and mounted for each test in the test's mount namespace, so that it
 * goes with the process whatever happens. */
#include "driver_fixture.h"

#include <btrfsutil.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DISK_SIZE (512ll << 20)

/* ---- the file system ---- */

static int run(const char *const *words)
{
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		dup2(null, 2);
		execvp(words[0], (char *const *)(uintptr_t)words);
		_exit(127);
	}
	int status = -1;
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define RUN(...) run((const char *const[]){ __VA_ARGS__, NULL })

static bool have_btrfs;

/* The driver's root directory becomes a btrfs file system. */
static int disk_make(void **state)
{
	if (drivers_make(state) < 0)
		return -1;
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *image = gt_xasprintf("%s/disk", fixture->dir), *root = gt_xasprintf("%s/root", fixture->dir);
	own_mounts();
	AUTO_CLOSE int fd = open(image, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	have_btrfs = fd >= 0 && ftruncate(fd, DISK_SIZE) == 0 && mkdir(root, 0711) == 0 && RUN("mkfs.btrfs", "-q", image) == 0 &&
		     RUN("mount", "-o", "loop", image, root) == 0;
	return 0;
}

static int disk_remove(void **state)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *root = gt_xasprintf("%s/root", fixture->dir);
	stop_drivers(fixture);
	int rc = have_btrfs ? umount2(root, MNT_DETACH) : 0;
	return drivers_remove(state) < 0 ? -1 : rc;
}

/* ---- what the tests do ---- */

static struct gt_driver *open_btrfs(void **state, const char *more)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	if (!have_btrfs) {
		print_message("no btrfs here: mkfs.btrfs, loop devices and the kernel's btrfs are needed\n");
		skip();
	}
	AUTO_FREE char *text = gt_xasprintf("[storage]\ndriver = btrfs\n[plugin.storage-overlay]\nsync = no\n[plugin.storage-btrfs]\n%s", more);
	plant_plugin(fixture, "plugins/storage-btrfs.so", "storage-btrfs.so");
	plant_plugin(fixture, "plugins/storage-overlay.so", "storage-overlay.so");
	start_drivers(fixture, text);
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_STORAGE, "btrfs", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

static struct gt_driver *reopen(void **state)
{
	stop_drivers(*state);
	return open_btrfs(state, "");
}

/* A directory of the driver's state. */
static int state_dir(void **state, const char *below)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *path = gt_xasprintf("%s/root/storage/btrfs/%s", fixture->dir, below);
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

/* All subvolumes of the file system, as `btrfs subvolume list` tells them. */
static int count_subvolumes(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct btrfs_util_subvolume_iterator *all;
	AUTO_FREE char *root = gt_xasprintf("%s/root", fixture->dir);
	int count = 0;
	assert_int_equal(btrfs_util_create_subvolume_iterator(root, 5, 0, &all), BTRFS_UTIL_OK);
	while (btrfs_util_subvolume_iterator_next(all, NULL, NULL) == BTRFS_UTIL_OK)
		count++;
	btrfs_util_destroy_subvolume_iterator(all);
	return count;
}

/* As a privileged container may make one. */
static void make_subvolume(int dirfd, const char *name)
{
	if (btrfs_util_create_subvolume_fd(dirfd, name, 0, NULL, NULL) != BTRFS_UTIL_OK)
		fail_msg("make subvolume %s: %s", name, strerror(errno));
}

static int begin(struct gt_driver *driver, const char *id, const char *parent)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	dir->size = sizeof *dir;
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, id, parent, NULL, &err), err);
	assert_ok(gt_layer_dir(driver, id, dir, &err), err);
	int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void seal(struct gt_driver *driver, const char *id)
{
	struct gt_error err = { 0 };
	assert_ok(gt_layer_commit(driver, id, &err), err);
}

/* A sealed layer with one file, named as the layer. */
static void image_layer(struct gt_driver *driver, const char *id, const char *parent)
{
	AUTO_CLOSE int fd = begin(driver, id, parent);
	put_file(fd, id, id);
	seal(driver, id);
}

static int mount_layer(struct gt_driver *driver, const char *id, bool read_only)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	mount->size = sizeof *mount;
	assert_ok(gt_layer_mount(driver, id, read_only, mount, &err), err);
	assert_int_equal(mount->flags, GANTRY_MOUNT_IDMAP);
	AUTO_CLOSE int top = perform(mount);
	int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* what performs it gives a path alone */
	assert_true(fd >= 0);
	return fd;
}

static void writable(struct gt_driver *driver, const char *id, const char *parent)
{
	struct gt_error err = { 0 };
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, id, parent, NULL, &err), err);
}

static void remove_layer(struct gt_driver *driver, const char *id)
{
	struct gt_error err = { 0 };
	assert_ok(gt_layer_remove(driver, id, &err), err);
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

static void assert_usage(struct gt_driver *driver, const char *id, int64_t bytes, int64_t inodes)
{
	struct gt_error err = { 0 };
	struct gantry_usage usage = { .size = sizeof usage };
	assert_ok(gt_layer_usage(driver, id, &usage, &err), err);
	assert_int_equal(usage.bytes, bytes);
	assert_int_equal(usage.inodes, inodes);
}

/* ---- the ordinary life ---- */

static void a_layer_shows_all_those_below(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	bool sealed = false;
	image_layer(driver, "base", NULL);
	image_layer(driver, "middle", "base");
	writable(driver, "box", "middle");
	assert_ok(gt_layer_lookup(driver, "middle", &sealed, &err), err);
	assert_true(sealed);
	assert_ok(gt_layer_lookup(driver, "box", &sealed, &err), err);
	assert_false(sealed);
	AUTO_CLOSE int box = mount_layer(driver, "box", false), view = mount_layer(driver, "middle", true), again = mount_layer(driver, "box", true);
	put_file(box, "own", "own");
	assert_holds(box, "base", "base");
	assert_holds(box, "middle", "middle");
	assert_holds(view, "own", "(none)");
	assert_holds(again, "own", "own");
	assert_int_equal(openat(view, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
	assert_int_equal(openat(again, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
	assert_int_equal(errno, EROFS);
	assert_listed(driver, "base box middle ");
	assert_int_equal(count_subvolumes(state), 3);
}

static void a_sealed_layer_is_not_changed_by_anybody(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	AUTO_CLOSE int base = begin(driver, "base", NULL);
	put_file(base, "f", "x");
	seal(driver, "base");
	assert_int_equal(unlinkat(base, "f", 0), -1);
	assert_int_equal(errno, EROFS);
}

static void two_hundred_layers_are_no_matter(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "sync = no\n");
	char id[32], below[32] = "";
	for (int i = 0; i < 200; i++) {
		snprintf(id, sizeof id, "layer-%03d", i);
		image_layer(driver, id, below[0] ? below : NULL);
		memcpy(below, id, sizeof below);
	}
	writable(driver, "box", id);
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_holds(box, "layer-000", "layer-000");
	assert_holds(box, "layer-199", "layer-199");
}

static void the_root_keeps_its_mode_and_owner(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct stat st;
	AUTO_CLOSE int base = begin(driver, "base", NULL);
	assert_int_equal(fstat(base, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fchmod(base, 01777), 0);
	assert_int_equal(fchown(base, 7, 8), 0);
	seal(driver, "base");
	writable(driver, "box", "base");
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_int_equal(fstat(box, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01777);
	assert_int_equal(st.st_uid * 10 + st.st_gid, 78);
}

/* A process in a user namespace where 0 is 100000; it goes when the other end of the pipe is closed. */
static int mapped_namespace(pid_t *pid, int *hold)
{
	int ends[2], ready[2];
	char path[64], byte;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	*pid = fork();
	if (*pid == 0) {
		close(ends[1]);
		if (unshare(CLONE_NEWUSER) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		_exit(read(ends[0], &byte, 1) != 0);
	}
	close(ends[0]);
	close(ready[1]);
	*hold = ends[1];
	bool made = read(ready[0], &byte, 1) == 1;
	close(ready[0]);
	if (!made)
		return -1;
	for (int group = 0; group < 2; group++) {
		snprintf(path, sizeof path, "/proc/%d/%s", (int)*pid, group ? "gid_map" : "uid_map");
		AUTO_CLOSE int map = open(path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(write(map, "0 100000 1000\n", 14), 14);
	}
	snprintf(path, sizeof path, "/proc/%d/ns/user", (int)*pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* What userns_remap does to the root file system of a container. */
static void ids_of_a_layer_can_be_mapped(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	struct stat st;
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	pid_t pid;
	int hold;
	mount->size = sizeof *mount;
	image_layer(driver, "base", NULL);
	writable(driver, "box", "base");
	assert_ok(gt_layer_mount(driver, "box", false, mount, &err), err);
	AUTO_CLOSE int box = perform(mount);
	int userns = mapped_namespace(&pid, &hold);
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = userns < 0 ? 0 : (uint64_t)userns };
	int rc = userns < 0 ? 0 : (int)syscall(SYS_mount_setattr, box, "", AT_EMPTY_PATH, &attr, sizeof attr), why = errno;
	close(hold);
	waitpid(pid, NULL, 0);
	if (userns < 0)
		skip(); /* no user namespaces here */
	close(userns);
	if (rc < 0)
		fail_msg("map the ids of the layer's mount: %s", strerror(why));
	assert_int_equal(fstatat(box, "base", &st, 0), 0);
	assert_int_equal(st.st_uid, 100000);
}

static void preparing_again_begins_anew_or_changes_nothing(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	image_layer(driver, "base", NULL);
	int fd = begin(driver, "top", "base");
	put_file(fd, "half", "");
	assert_int_equal(unlinkat(fd, "base", 0), 0);
	close(fd);
	fd = begin(driver, "top", "base");
	assert_false(exists(fd, "half"));
	assert_holds(fd, "base", "base");
	close(fd);
	seal(driver, "top");
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, "top", "base", NULL, &err), err);
	writable(driver, "box", "top");
	int box = mount_layer(driver, "box", false);
	put_file(box, "own", "own");
	close(box);
	writable(driver, "box", "top");
	box = mount_layer(driver, "box", false);
	assert_holds(box, "own", "own");
	close(box);
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", "base", NULL, &err), err, GT_CONFLICT,
		     "driver btrfs: layer box exists on another parent");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, "box", "top", NULL, &err), err, GT_CONFLICT,
		     "driver btrfs: layer box exists as one of another kind");
	assert_int_equal(count_subvolumes(state), 3);
	assert_int_equal(count_entries(state, "trash"), 0);
}

static void wrong_requests_are_refused_in_words(void **state)
{
	static const char *const BAD[] = { "", "..", "a/b", "../layers", "A", "-x", "a.b" };
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_JSON json_t *odd = json_pack("{s:s}", "odd", "1"), *size = json_pack("{s:s}", "size", "1g");
	image_layer(driver, "base", NULL);
	writable(driver, "box", "base");
	close(begin(driver, "open", NULL));
	mount->size = sizeof *mount;
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		assert_int_equal(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, BAD[i], NULL, NULL, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		assert_int_equal(gt_layer_remove(driver, BAD[i], &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
	}
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "x", "nobody", NULL, &err), err, GT_NOT_FOUND, "driver btrfs: there is no layer nobody");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "x", "box", NULL, &err), err, GT_INVALID,
		     "driver btrfs: layer x cannot stand on box, which is a writable layer");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, "x", "open", NULL, &err), err, GT_CONFLICT,
		     "driver btrfs: layer x cannot stand on open, which is not sealed");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "x", "base", odd, &err), err, GT_INVALID,
		     "driver btrfs: unknown storage option odd (there is only size)");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, "x", "base", size, &err), err, GT_INVALID,
		     "driver btrfs: storage option size: an image layer has no limit");
	assert_fails(gt_layer_mount(driver, "base", false, mount, &err), err, GT_INVALID,
		     "driver btrfs: layer base is an image layer: it can be mounted read-only alone");
	assert_fails(gt_layer_mount(driver, "open", true, mount, &err), err, GT_CONFLICT, "driver btrfs: layer open cannot be mounted before it is sealed");
	assert_fails(gt_layer_commit(driver, "box", &err), err, GT_INVALID, "driver btrfs: layer box is a writable layer: it cannot be sealed");
	assert_int_equal(count_entries(state, "layers"), 3);
	assert_int_equal(count_subvolumes(state), 3);
}

static void another_file_system_is_refused_in_a_sentence(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE char *more = gt_xasprintf("root = %s/elsewhere\n[storage]\ndriver = btrfs\n", fixture->dir);
	AUTO_FREE char *wanted = gt_xasprintf("the storage driver \"btrfs\" could not be opened: driver btrfs: %s/elsewhere/storage/btrfs is not on btrfs, which the "
					      "storage driver btrfs needs; put [daemon] root on a btrfs file system, or set [storage] driver = overlay",
					      fixture->dir);
	plant_plugin(fixture, "plugins/storage-btrfs.so", "storage-btrfs.so");
	start_drivers(fixture, more);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_STORAGE, "btrfs", &err));
	assert_string_equal(err.message, wanted);
}

/* ---- what a layer changes ---- */

/* Directories end with a slash; files hold their own names. */
static void fill(int dirfd, const char *const *paths)
{
	for (; *paths; paths++) {
		AUTO_FREE char *path = gt_xstrdup(*paths);
		size_t len = strlen(path);
		if (path[len - 1] != '/') {
			put_file(dirfd, path, path);
			continue;
		}
		path[len - 1] = '\0';
		put_dir(dirfd, path, 0755);
	}
}

#define PATHS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void remove_all(int dirfd, const char *path)
{
	struct gt_error err = { 0 };
	assert_ok(gt_remove_tree(dirfd, path, &err), err);
}

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
	fill(box, PATHS("usr/", "usr/bin", "usr/new", "usr/share/", "usr/share/other", "usr/was-file/", "usr/was-file/in"));
}

static void let_files_and_directories_change_places(int box)
{
	remove_all(box, "usr");
	assert_int_equal(unlinkat(box, "etc/hosts", 0), 0);
	fill(box, PATHS("usr", "etc/hosts/", "etc/hosts/in"));
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

static int note_change(void *arg, int kind, const char *path)
{
	gt_buf_printf(arg, "%c %s\n", "CAD"[kind], path);
	return 0;
}

static void assert_changes(struct gt_driver *driver, const char *id, const char *wanted)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf found = { 0 };
	gt_buf_str(&found, "");
	int before = open_fds();
	assert_ok(gt_layer_diff(driver, id, note_change, &found, &err), err);
	assert_int_equal(open_fds(), before);
	assert_string_equal(found.data ? found.data : "", wanted);
}

static void try_change(struct gt_driver *driver, size_t i)
{
	char id[32];
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	mount->size = sizeof *mount;
	snprintf(id, sizeof id, "box-%zu", i);
	writable(driver, id, "base");
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
		AUTO_CLOSE int base = begin(drivers[d], "base", NULL);
		fill(base, IMAGE);
		seal(drivers[d], "base");
		for (size_t i = 0; i < GT_COUNT(CHANGES); i++)
			try_change(drivers[d], i);
	}
}

static void a_renamed_directory_is_gone_and_new_with_all_in_it(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	AUTO_CLOSE int base = begin(driver, "base", NULL);
	fill(base, PATHS("a/", "a/one/", "a/one/f", "a/two/", "a/two/g", "b/", "b/c/", "b/c/h"));
	seal(driver, "base");
	writable(driver, "box", "base");
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
	AUTO_CLOSE int base = begin(driver, "base", NULL);
	fill(base, PATHS("d/", "d/gone", "d/stays", "f"));
	seal(driver, "base");
	AUTO_CLOSE int top = begin(driver, "top", "base");
	assert_int_equal(unlinkat(top, "d/gone", 0), 0);
	put_file(top, "d/new", "new");
	seal(driver, "top");
	assert_changes(driver, "base", "A /d\nA /d/gone\nA /d/stays\nA /f\n");
	assert_changes(driver, "top", "C /d\nD /d/gone\nA /d/new\n");
}

static void a_subvolume_inside_is_told_with_all_in_it(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	image_layer(driver, "base", NULL);
	writable(driver, "box", "base");
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
	writable(driver, "box", NULL);
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

/* ---- usage and limits ---- */

static void put_bytes(int dirfd, const char *name, size_t count)
{
	AUTO_FREE char *bytes = gt_xcalloc(1, count);
	AUTO_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	memset(bytes, 'x', count);
	assert_int_equal(gt_write_full(fd, bytes, count), 0);
}

static void usage_is_what_a_layer_has_for_itself(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	AUTO_CLOSE int base = begin(driver, "base", NULL);
	put_bytes(base, "big", 1000000);
	put_file(base, "small", "small");
	assert_int_equal(linkat(base, "big", base, "again", 0), 0);
	seal(driver, "base");
	assert_usage(driver, "base", 1000005, 2);
	writable(driver, "box", "base");
	assert_usage(driver, "box", 0, 0);
	assert_usage(driver, "base", 1000005, 2); /* all of it shared now */
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_int_equal(fchmodat(box, "big", 0600, 0), 0);
	assert_usage(driver, "box", 0, 1); /* big and again are one */
	put_bytes(box, "own", 300000);
	assert_int_equal(symlinkat("own", box, "link"), 0);
	assert_usage(driver, "box", 300003, 3);
	AUTO_CLOSE int big = openat(box, "big", O_WRONLY | O_CLOEXEC);
	AUTO_FREE char *page = gt_xcalloc(1, 8192);
	assert_int_equal(pwrite(big, page, 8192, 4096), 8192);
	assert_int_equal(fsync(big), 0);
	assert_usage(driver, "box", 308195, 3);
	/* data in common: with the image it is the image's, within the layer it counts once */
	AUTO_CLOSE int own = openat(box, "own", O_RDONLY | O_CLOEXEC), clone = openat(box, "clone", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(fsync(own), 0);
	assert_int_equal(ioctl(clone, FICLONE, own), 0);
	AUTO_CLOSE int image = openat(base, "big", O_RDONLY | O_CLOEXEC), copy = openat(box, "copy", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ioctl(copy, FICLONE, image), 0);
	struct gt_error err = { 0 };
	struct gantry_usage usage = { .size = sizeof usage };
	assert_ok(gt_layer_usage(driver, "box", &usage, &err), err);
	assert_true(usage.bytes >= 308195 && usage.bytes < 308195 + 4096); /* whole blocks */
	driver = reopen(state);
	assert_usage(driver, "base", 1000005, 2);
}

static int write_until_full(int dirfd, const char *name, size_t *written)
{
	static const char block[65536] = { 1 };
	AUTO_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	for (*written = 0; *written < (256u << 20);) {
		ssize_t len = write(fd, block, sizeof block);
		if (len < 0 || (*written % (1u << 20) == 0 && fsync(fd) < 0))
			return errno;
		*written += (size_t)len;
	}
	return 0;
}

static void limited_to(void **state, const char *more)
{
	struct gt_driver *driver = open_btrfs(state, more);
	struct gt_error err = { 0 };
	size_t written;
	AUTO_JSON json_t *size = json_pack("{s:s}", "size", "20m");
	AUTO_CLOSE int base = begin(driver, "base", NULL);
	put_bytes(base, "big", 30000000); /* the image's bytes do not count */
	seal(driver, "base");
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", "base", size, &err), err);
	writable(driver, "free", "base");
	int box = mount_layer(driver, "box", false);
	assert_int_equal(write_until_full(box, "f", &written), EDQUOT);
	assert_true(written > (18u << 20) && written <= (20u << 20));
	assert_int_equal(unlinkat(box, "f", 0), 0);
	close(box);
	AUTO_CLOSE int other = mount_layer(driver, "free", false);
	put_bytes(other, "f", 40000000);
	assert_int_equal(syncfs(other), 0);
	/* another life, after an administrator turned quotas off */
	stop_drivers(*state);
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *root = gt_xasprintf("%s/root", fixture->dir);
	assert_int_equal(RUN("btrfs", "quota", "disable", root), 0);
	driver = open_btrfs(state, more);
	box = mount_layer(driver, "box", false);
	assert_int_equal(write_until_full(box, "g", &written), EDQUOT);
	assert_true(written <= (20u << 20));
	close(box);
	remove_layer(driver, "box");
}

static void a_size_is_kept(void **state)
{
	limited_to(state, "");
}

static void a_size_is_kept_by_simple_quotas(void **state)
{
	limited_to(state, "quotas = simple\n");
}

static void sizes_are_read_or_refused(void **state)
{
	static const char *const GOOD[] = { "1048576", "1m", "2M", "3MB", "4MiB", "1g", "1024k", "1t", "5Gb" };
	static const char *const BAD[] = { "", "g", "1x", "-1m", "1.5g", "1mm", "1mi", " 1m", "99999999999999999999", "9999999999t", "1mbb" };
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(GOOD); i++) {
		AUTO_JSON json_t *size = json_pack("{s:s}", "size", GOOD[i]);
		assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", NULL, size, &err), err);
		remove_layer(driver, "box");
	}
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		AUTO_JSON json_t *size = json_pack("{s:s}", "size", BAD[i]);
		AUTO_FREE char *words = gt_xasprintf("driver btrfs: storage option size: \"%s\" is no size; say a whole number of bytes, or one with k, m, g or t", BAD[i]);
		assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", NULL, size, &err), err, GT_INVALID, words);
	}
	AUTO_JSON json_t *little = json_pack("{s:s}", "size", "1023k");
	assert_fails(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", NULL, little, &err), err, GT_INVALID,
		     "driver btrfs: storage option size: 1023k is too little for a layer; it needs 1m at least");
	assert_int_equal(count_subvolumes(state), 0);
	assert_listed(driver, "");
}

/* ---- after a crash ---- */

static void what_a_crash_left_is_removed(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	bool sealed;
	image_layer(driver, "base", NULL);
	close(begin(driver, "half", "base"));
	writable(driver, "box", "base");
	int box = mount_layer(driver, "box", false);
	put_file(box, "kept", "kept");
	close(box);
	AUTO_CLOSE int layers = state_dir(state, "layers"), trash = state_dir(state, "trash");
	put_dir(layers, "only-a-directory", 0700);
	writable(driver, "no-record", "base");
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

	driver = reopen(state);
	assert_listed(driver, "base box ");
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
	if (!have_btrfs)
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

static void a_layer_that_lost_its_parent_is_kept_whole(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	int changes = 0;
	image_layer(driver, "base", NULL);
	image_layer(driver, "middle", "base");
	writable(driver, "box", "middle");
	AUTO_CLOSE int layers = state_dir(state, "layers");
	assert_int_equal(unlinkat(layers, "base/sealed", 0), 0);
	driver = reopen(state);
	assert_listed(driver, "box middle ");
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
	writable(driver, "box", "base");
}

/* ---- removing ---- */

static void a_layer_is_removed_after_those_on_it(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	image_layer(driver, "base", NULL);
	writable(driver, "one", "base");
	writable(driver, "two", "base");
	assert_fails(gt_layer_remove(driver, "base", &err), err, GT_CONFLICT, "driver btrfs: layer base has 2 layers on it");
	AUTO_CLOSE int one = mount_layer(driver, "one", false); /* a container that still ends does not matter */
	remove_layer(driver, "one");
	remove_layer(driver, "one");
	remove_layer(driver, "two");
	remove_layer(driver, "base");
	assert_listed(driver, "");
	assert_int_equal(count_subvolumes(state), 0);
	assert_int_equal(count_entries(state, "layers") + count_entries(state, "trash"), 0);
}

static void set_flags(int dirfd, const char *path, int flags)
{
	AUTO_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
}

static void stubborn_subvolumes_inside_are_removed(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	writable(driver, "box", NULL);
	int box = mount_layer(driver, "box", false);
	make_subvolume(box, "a");
	put_dir(box, "a/dir", 0755);
	put_dir(box, "plain", 0755);
	AUTO_CLOSE int dir = openat(box, "a/dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC), plain = openat(box, "plain", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_subvolume(dir, "b");
	make_subvolume(plain, "c");
	AUTO_CLOSE int a = openat(box, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(btrfs_util_set_subvolume_read_only_fd(a, true), BTRFS_UTIL_OK);
	set_flags(box, "plain/c", FS_IMMUTABLE_FL);
	set_flags(box, "plain", FS_IMMUTABLE_FL);
	set_flags(box, ".", FS_APPEND_FL);
	close(box);
	assert_int_equal(count_subvolumes(state), 4);
	remove_layer(driver, "box");
	assert_int_equal(count_subvolumes(state), 0);
	assert_int_equal(count_entries(state, "trash"), 0);
}

/* ---- many at once ---- */

struct worker {
	pthread_t thread;
	struct gt_driver *driver;
	int number, failures;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	AUTO_JSON json_t *size = json_pack("{s:s}", "size", "10m");
	char image[32], box[32];
	mount->size = sizeof *mount;
	for (int i = 0; i < 10; i++) {
		snprintf(image, sizeof image, "image-%d-%d", worker->number, i);
		snprintf(box, sizeof box, "box-%d-%d", worker->number, i);
		worker->failures += gt_layer_prepare(worker->driver, GANTRY_LAYER_IMAGE, image, "base", NULL, NULL) < 0;
		worker->failures += gt_layer_commit(worker->driver, image, NULL) < 0;
		worker->failures += gt_layer_prepare(worker->driver, GANTRY_LAYER_WRITABLE, box, image, worker->number % 2 ? size : NULL, NULL) < 0;
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
	struct gt_driver *driver = open_btrfs(state, "sync = no\n");
	int before = open_fds();
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
	assert_int_equal(count_subvolumes(state), 1);
	assert_int_equal(count_entries(state, "trash"), 0);
	assert_int_equal(open_fds(), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, disk_make, disk_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_layer_shows_all_those_below),
		TEST(a_sealed_layer_is_not_changed_by_anybody),
		TEST(two_hundred_layers_are_no_matter),
		TEST(the_root_keeps_its_mode_and_owner),
		TEST(ids_of_a_layer_can_be_mapped),
		TEST(preparing_again_begins_anew_or_changes_nothing),
		TEST(wrong_requests_are_refused_in_words),
		TEST(another_file_system_is_refused_in_a_sentence),
		TEST(changes_are_told_as_the_overlay_driver_tells_them),
		TEST(a_renamed_directory_is_gone_and_new_with_all_in_it),
		TEST(an_image_layer_tells_its_own_changes),
		TEST(a_subvolume_inside_is_told_with_all_in_it),
		TEST(a_visitor_can_stop_and_depth_is_bounded),
		TEST(usage_is_what_a_layer_has_for_itself),
		TEST(a_size_is_kept),
		TEST(a_size_is_kept_by_simple_quotas),
		TEST(sizes_are_read_or_refused),
		TEST(what_a_crash_left_is_removed),
		TEST(killed_at_any_moment_it_comes_back_whole),
		TEST(a_layer_that_lost_its_parent_is_kept_whole),
		TEST(what_cannot_be_made_leaves_nothing),
		TEST(a_layer_is_removed_after_those_on_it),
		TEST(stubborn_subvolumes_inside_are_removed),
		TEST(many_threads_work_at_once),
	};
	return cmocka_run_group_tests_name("storage btrfs", tests, NULL, NULL);
}
