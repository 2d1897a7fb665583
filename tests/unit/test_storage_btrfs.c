/*
 * test_storage_btrfs.c - layers of the btrfs driver: their life, sizes, removal, and many at once.
 */
#include "btrfs_disk.h"

#include <btrfsutil.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the ordinary life ---- */

static void a_layer_shows_all_those_below(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	bool sealed = false;
	image_layer(driver, "base", NULL);
	image_layer(driver, "middle", "base");
	writable_layer(driver, "box", "middle");
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
	assert_layers(driver, "base box middle ");
	assert_int_equal(count_subvolumes(state), 3);
}

static void a_sealed_layer_is_not_changed_by_anybody(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	put_file(base, "f", "x");
	seal_layer(driver, "base");
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
	writable_layer(driver, "box", id);
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_holds(box, "layer-000", "layer-000");
	assert_holds(box, "layer-199", "layer-199");
}

static void the_root_keeps_its_mode_and_owner(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct stat st;
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	assert_int_equal(fstat(base, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fchmod(base, 01777), 0);
	assert_int_equal(fchown(base, 7, 8), 0);
	seal_layer(driver, "base");
	writable_layer(driver, "box", "base");
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
	writable_layer(driver, "box", "base");
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
	int fd = begin_layer(driver, "top", "base");
	put_file(fd, "half", "");
	assert_int_equal(unlinkat(fd, "base", 0), 0);
	close(fd);
	fd = begin_layer(driver, "top", "base");
	assert_false(exists(fd, "half"));
	assert_holds(fd, "base", "base");
	close(fd);
	seal_layer(driver, "top");
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_IMAGE, "top", "base", NULL, &err), err);
	writable_layer(driver, "box", "top");
	int box = mount_layer(driver, "box", false);
	put_file(box, "own", "own");
	close(box);
	writable_layer(driver, "box", "top");
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
	writable_layer(driver, "box", "base");
	close(begin_layer(driver, "open", NULL));
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
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	put_bytes(base, "big", 1000000);
	put_file(base, "small", "small");
	assert_int_equal(linkat(base, "big", base, "again", 0), 0);
	seal_layer(driver, "base");
	assert_usage_of(driver, "base", 1000005, 2);
	writable_layer(driver, "box", "base");
	assert_usage_of(driver, "box", 0, 0);
	assert_usage_of(driver, "base", 1000005, 2); /* all of it shared now */
	AUTO_CLOSE int box = mount_layer(driver, "box", false);
	assert_int_equal(fchmodat(box, "big", 0600, 0), 0);
	assert_usage_of(driver, "box", 0, 1); /* big and again are one */
	put_bytes(box, "own", 300000);
	assert_int_equal(symlinkat("own", box, "link"), 0);
	assert_usage_of(driver, "box", 300003, 3);
	AUTO_CLOSE int big = openat(box, "big", O_WRONLY | O_CLOEXEC);
	AUTO_FREE char *page = gt_xcalloc(1, 8192);
	assert_int_equal(pwrite(big, page, 8192, 4096), 8192);
	assert_int_equal(fsync(big), 0);
	assert_usage_of(driver, "box", 308195, 3);
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
	driver = reopen_btrfs(state);
	assert_usage_of(driver, "base", 1000005, 2);
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
	AUTO_CLOSE int base = begin_layer(driver, "base", NULL);
	put_bytes(base, "big", 30000000); /* the image's bytes do not count */
	seal_layer(driver, "base");
	assert_ok(gt_layer_prepare(driver, GANTRY_LAYER_WRITABLE, "box", "base", size, &err), err);
	writable_layer(driver, "free", "base");
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
	assert_layers(driver, "");
}

/* ---- removing ---- */

static void a_layer_is_removed_after_those_on_it(void **state)
{
	struct gt_driver *driver = open_btrfs(state, "");
	struct gt_error err = { 0 };
	image_layer(driver, "base", NULL);
	writable_layer(driver, "one", "base");
	writable_layer(driver, "two", "base");
	assert_fails(gt_layer_remove(driver, "base", &err), err, GT_CONFLICT, "driver btrfs: layer base has 2 layers on it");
	AUTO_CLOSE int one = mount_layer(driver, "one", false); /* a container that still ends does not matter */
	remove_layer(driver, "one");
	remove_layer(driver, "one");
	remove_layer(driver, "two");
	remove_layer(driver, "base");
	assert_layers(driver, "");
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
	writable_layer(driver, "box", NULL);
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
	assert_layers(driver, "base ");
	assert_int_equal(count_subvolumes(state), 1);
	assert_int_equal(count_entries(state, "trash"), 0);
	assert_int_equal(open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_ON_BTRFS(a_layer_shows_all_those_below),
		TEST_ON_BTRFS(a_sealed_layer_is_not_changed_by_anybody),
		TEST_ON_BTRFS(two_hundred_layers_are_no_matter),
		TEST_ON_BTRFS(the_root_keeps_its_mode_and_owner),
		TEST_ON_BTRFS(ids_of_a_layer_can_be_mapped),
		TEST_ON_BTRFS(preparing_again_begins_anew_or_changes_nothing),
		TEST_ON_BTRFS(wrong_requests_are_refused_in_words),
		TEST_ON_BTRFS(another_file_system_is_refused_in_a_sentence),
		TEST_ON_BTRFS(usage_is_what_a_layer_has_for_itself),
		TEST_ON_BTRFS(a_size_is_kept),
		TEST_ON_BTRFS(a_size_is_kept_by_simple_quotas),
		TEST_ON_BTRFS(sizes_are_read_or_refused),
		TEST_ON_BTRFS(a_layer_is_removed_after_those_on_it),
		TEST_ON_BTRFS(stubborn_subvolumes_inside_are_removed),
		TEST_ON_BTRFS(many_threads_work_at_once),
	};
	return cmocka_run_group_tests_name("storage btrfs", tests, NULL, NULL);
}
