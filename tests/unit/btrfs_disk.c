/*
 * btrfs_disk.c - see btrfs_disk.h.
 */
#include "btrfs_disk.h"

#include <btrfsutil.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK_SIZE (512ll << 20)

/* ---- the file system ---- */

int run_program(const char *const *words)
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

static bool have_btrfs;

bool btrfs_is_here(void)
{
	return have_btrfs;
}

/* The driver's root directory becomes a btrfs file system. */
int btrfs_disk_make(void **state)
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

int btrfs_disk_remove(void **state)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *root = gt_xasprintf("%s/root", fixture->dir);
	stop_drivers(fixture);
	int rc = have_btrfs ? umount2(root, MNT_DETACH) : 0;
	return drivers_remove(state) < 0 ? -1 : rc;
}

/* ---- what the tests do ---- */

struct gt_driver *open_btrfs(void **state, const char *more)
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

struct gt_driver *reopen_btrfs(void **state)
{
	stop_drivers(*state);
	return open_btrfs(state, "");
}

/* A directory of the driver's state. */
int state_dir(void **state, const char *below)
{
	struct drivers_fixture *fixture = *state;
	AUTO_FREE char *path = gt_xasprintf("%s/root/storage/btrfs/%s", fixture->dir, below);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

int count_entries(void **state, const char *below)
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
int count_subvolumes(void **state)
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
void make_subvolume(int dirfd, const char *name)
{
	if (btrfs_util_create_subvolume_fd(dirfd, name, 0, NULL, NULL) != BTRFS_UTIL_OK)
		fail_msg("make subvolume %s: %s", name, strerror(errno));
}

/* A sealed layer with one file, named as the layer. */
void image_layer(struct gt_driver *driver, const char *id, const char *parent)
{
	AUTO_CLOSE int fd = begin_layer(driver, id, parent);
	put_file(fd, id, id);
	seal_layer(driver, id);
}

int mount_layer(struct gt_driver *driver, const char *id, bool read_only)
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

void writable_layer(struct gt_driver *driver, const char *id, const char *parent)
{
	struct gt_error err = { 0 };
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, id, parent, NULL, &err), err);
}

void remove_layer(struct gt_driver *driver, const char *id)
{
	struct gt_error err = { 0 };
	assert_ok(gt_layer_remove(driver, id, &err), err);
}

void assert_holds(int dirfd, const char *path, const char *text)
{
	AUTO_FREE char *found = get_file(dirfd, path);
	assert_string_equal(found, text);
}

static int visit_name(void *arg, const char *name)
{
	gt_buf_printf(arg, "%s ", name);
	return 0;
}

void assert_layers(struct gt_driver *driver, const char *wanted)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf names = { 0 };
	gt_buf_str(&names, "");
	assert_ok(gt_layer_list(driver, visit_name, &names, &err), err);
	assert_string_equal(names.data ? names.data : "", wanted);
}

void assert_usage_of(struct gt_driver *driver, const char *id, int64_t bytes, int64_t inodes)
{
	struct gt_error err = { 0 };
	struct gantry_usage usage = { .size = sizeof usage };
	assert_ok(gt_layer_usage(driver, id, &usage, &err), err);
	assert_int_equal(usage.bytes, bytes);
	assert_int_equal(usage.inodes, inodes);
}
