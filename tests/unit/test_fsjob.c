/* Work on files of containers: stat, archive, extract, export, copy_up, diff_tar, on roots that are mounted privately or belong to a process. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/overlay.h"
#include "image_fixture.h"

/* A scratch directory with lower/, upper/, work/, volume/, and an overlay of them. */
struct place {
	char *dir, *helper;
	int fd;
	struct gantry_mount *root, *volume;
	const struct gantry_mount *mounts[2];
	const char *destinations[2];
	struct gt_fsroot fs;
};

static int setup(void **state)
{
	void *dir = NULL;
	struct place *place = gt_xcalloc(1, sizeof *place);
	if (scratch_make(&dir) < 0)
		return -1;
	place->dir = dir;
	place->helper = built("libexec/gantry-fs");
	place->fd = open(place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	place->root = gt_xcalloc(1, sizeof *place->root);
	place->volume = gt_xcalloc(1, sizeof *place->volume);
	static const char *const dirs[] = { "lower", "lower2", "upper", "work", "volume" };
	for (size_t i = 0; i < GT_COUNT(dirs); i++)
		mkdirat(place->fd, dirs[i], 0755);
	strcpy(place->root->type, "overlay");
	strcpy(place->root->source, "overlay");
	snprintf(place->root->options, sizeof place->root->options, "lowerdir=%s/lower:%s/lower2,upperdir=%s/upper,workdir=%s/work", place->dir,
		 place->dir, place->dir, place->dir);
	strcpy(place->volume->type, "bind");
	snprintf(place->volume->source, sizeof place->volume->source, "%s/volume", place->dir);
	place->mounts[0] = place->root;
	place->mounts[1] = place->volume;
	place->destinations[0] = "/";
	place->destinations[1] = "/data";
	place->fs = (struct gt_fsroot){ .helper = place->helper, .mounts = place->mounts, .destinations = place->destinations, .count = 2 };
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	void *dir = place->dir;
	close(place->fd);
	free(place->helper);
	free(place->root);
	free(place->volume);
	free(place);
	return scratch_remove(&dir);
}

#define DO(call) assert_int_equal((call), 0)

static void put(struct place *place, const char *path, const char *text, mode_t mode)
{
	AUTO_CLOSE int fd = openat(place->fd, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true(fd >= 0);
	assert_int_equal(gt_write_full(fd, text, strlen(text)), 0);
	fchmod(fd, mode);
}

static void assert_content(struct place *place, const char *path, const char *content)
{
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_error err = { 0 };
	assert_ok(gt_read_file(place->fd, path, 1 << 20, &text, &err), err);
	assert_string_equal(text.data, content);
}

/* What tar(1) says of an archive. */
static void list_tar(const struct gt_buf *tar, struct gt_buf *out)
{
	AUTO_CLOSE int in = fd_of(tar);
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(in, 0);
		dup2(ends[1], 1);
		close(ends[0]);
		execlp("tar", "tar", "--quoting-style=literal", "-tf", "-", NULL);
		_exit(127);
	}
	close(ends[1]);
	AUTO_CLOSE int from = ends[0];
	for (ssize_t n = 1; n > 0;) {
		n = gt_read_full(from, gt_buf_reserve(out, 4096), 4096);
		out->len += n > 0 ? (size_t)n : 0;
	}
	gt_buf_str(out, "");
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static int memory(void)
{
	int fd = memfd_create("out", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void read_back(int fd, struct gt_buf *out)
{
	char path[64];
	struct gt_error err = { 0 };
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	assert_ok(gt_read_file(AT_FDCWD, path, 64 << 20, out, &err), err);
}

static void archive_names(struct place *place, const char *path, struct gt_buf *names)
{
	AUTO_CLOSE int out = memory();
	AUTO_BUF struct gt_buf tar = { 0 };
	struct gt_error err = { 0 };
	assert_ok(gt_fs_archive(&place->fs, path, out, &err), err);
	read_back(out, &tar);
	list_tar(&tar, names);
}

static void assert_archive(struct place *place, const char *path, const char *expected)
{
	AUTO_BUF struct gt_buf names = { 0 };
	archive_names(place, path, &names);
	assert_string_equal(names.data, expected);
}

/* ---- stat ---- */

static void stat_answers_as_docker_does(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	put(place, "lower/file", "12345", 04755);
	DO(mkdirat(place->fd, "lower/dir", 01777));
	DO(fchmodat(place->fd, "lower/dir", 01777, 0));
	DO(symlinkat("/dir/target", place->fd, "lower/link"));
	DO(symlinkat("dir", place->fd, "lower/to-dir"));
	DO(symlinkat("../../../../file", place->fd, "lower/up"));
	static const struct {
		const char *path, *name, *link;
		uint32_t mode;
	} cases[] = {
		{ "/file", "file", "", 1u << 23 | 0755 },
		{ "file", "file", "", 1u << 23 | 0755 },
		{ "/x/../file", "file", "", 1u << 23 | 0755 },
		{ "/../../file", "file", "", 1u << 23 | 0755 },
		{ "/dir", "dir", "", 1u << 31 | 1u << 20 | 0777 },
		{ "/dir/", "dir", "", 1u << 31 | 1u << 20 | 0777 },
		{ "/dir/.", ".", "", 1u << 31 | 1u << 20 | 0777 },
		{ "/", "/", "", 1u << 31 | 0755 },
		{ "/link", "link", "/dir/target", 1u << 27 | 0777 },
		{ "/to-dir", "to-dir", "/dir", 1u << 27 | 0777 },
		{ "/to-dir/", "to-dir", "", 1u << 31 | 1u << 20 | 0777 },
		{ "/up", "up", "/file", 1u << 27 | 0777 },
		{ "/data", "data", "", 1u << 31 | 0755 },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct gt_fs_stat st;
		if (gt_fs_stat(&place->fs, cases[i].path, &st, &err) < 0)
			fail_msg("%s: %s", cases[i].path, err.message);
		assert_string_equal(st.name, cases[i].name);
		assert_string_equal(st.link_target, cases[i].link);
		if (st.mode != cases[i].mode)
			fail_msg("%s: mode %x, not %x", cases[i].path, st.mode, cases[i].mode);
		gt_fs_stat_free(&st);
	}
	struct gt_fs_stat st;
	assert_fails(gt_fs_stat(&place->fs, "/none/x", &st, &err), err, GT_NOT_FOUND, "Could not find the file /none/x in container");
	assert_fails(gt_fs_stat(&place->fs, "/none", &st, &err), err, GT_NOT_FOUND, "Could not find the file");
	assert_fails(gt_fs_stat(&place->fs, "/file/", &st, &err), err, GT_INVALID, "not a directory");
	assert_fails(gt_fs_stat(&place->fs, "", &st, &err), err, GT_INVALID, "empty");
}

/* ---- archive ---- */

static void archives_are_named_as_docker_names_them(void **state)
{
	struct place *place = *state;
	put(place, "lower/top", "t", 0644);
	DO(mkdirat(place->fd, "lower2/d", 0755));
	put(place, "lower2/d/f", "f", 0644);
	put(place, "lower2/d/a", "a", 0644);
	put(place, "volume/in-volume", "v", 0644);
	DO(symlinkat("d", place->fd, "lower/l"));
	assert_archive(place, "/d", "d/\nd/a\nd/f\n");
	assert_archive(place, "/d/", "d/\nd/a\nd/f\n");
	assert_archive(place, "/d/.", "./\n./a\n./f\n");
	assert_archive(place, "/d/f", "f\n");
	assert_archive(place, "/l", "l\n");
	assert_archive(place, "/l/", "l/\nl/a\nl/f\n");
	assert_archive(place, "/data", "data/\ndata/in-volume\n");
	assert_archive(place, "/", "/\n/d/\n/d/a\n/d/f\n/data/\n/data/in-volume\n/l\n/top\n");
	struct gt_error err = { 0 };
	AUTO_CLOSE int out = memory();
	assert_fails(gt_fs_archive(&place->fs, "/nope", out, &err), err, GT_NOT_FOUND, "Could not find the file /nope");
}

static void what_goes_out_comes_in_again(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	DO(mkdirat(place->fd, "lower/src", 0755));
	DO(mkdirat(place->fd, "lower/dst", 0755));
	put(place, "lower/src/f", "content", 0751);
	put(place, "lower/src/e\xcc\x81", "nfd", 0600);
	put(place, "lower/src/\xff", "raw", 0600);
	DO(linkat(place->fd, "lower/src/f", place->fd, "lower/src/g", 0));
	DO(symlinkat("/etc/passwd", place->fd, "lower/src/l"));
	DO(mknodat(place->fd, "lower/src/p", S_IFIFO | 0640, 0));
	DO(fchownat(place->fd, "lower/src/f", 4000000, 77, 0));
	AUTO_FREE char *file = gt_xasprintf("%s/lower/src/f", place->dir);
	assert_int_equal(setxattr(file, "user.a", "b", 1, 0), 0);
	AUTO_FREE char *long_name = gt_xasprintf("lower/src/%0200d", 7);
	put(place, long_name, "long", 0600);
	AUTO_CLOSE int tar = memory();
	assert_ok(gt_fs_archive(&place->fs, "/src/.", tar, &err), err);
	assert_int_equal(lseek(tar, 0, SEEK_SET), 0);
	assert_ok(gt_fs_extract(&place->fs, "/dst", tar, true, -1, -1, &err), err);
	assert_content(place, "upper/dst/f", "content");
	assert_content(place, "upper/dst/e\xcc\x81", "nfd");
	assert_content(place, "upper/dst/\xff", "raw");
	AUTO_FREE char *long_copy = gt_xasprintf("upper/dst/%0200d", 7);
	assert_content(place, long_copy, "long");
	struct stat f, g;
	assert_int_equal(fstatat(place->fd, "upper/dst/f", &f, 0), 0);
	assert_int_equal(fstatat(place->fd, "upper/dst/g", &g, 0), 0);
	assert_int_equal(f.st_ino, g.st_ino);
	assert_int_equal(f.st_uid, 4000000);
	assert_int_equal(f.st_gid, 77);
	assert_int_equal(f.st_mode & 07777, 0751);
	AUTO_FREE char *copy = gt_xasprintf("%s/upper/dst/f", place->dir);
	char value[2];
	assert_int_equal(getxattr(copy, "user.a", value, sizeof value), 1);
	assert_int_equal(fstatat(place->fd, "upper/dst/p", &g, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(g.st_mode, S_IFIFO | 0640);
}

/* ---- extract ---- */

static int extract(struct place *place, const char *path, const struct gt_buf *tar, bool no_overwrite, struct gt_error *err)
{
	AUTO_CLOSE int in = pipe_of(tar);
	return gt_fs_extract(&place->fs, path, in, no_overwrite, -1, -1, err);
}

static void extract_stays_in_the_container(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	AUTO_FREE char *outside = gt_xasprintf("%s/outside", place->dir);
	DO(mkdirat(place->fd, "lower/in", 0755));
	DO(mkdirat(place->fd, "lower/etc", 0755));
	DO(symlinkat("/etc", place->fd, "lower/in/abs"));
	DO(symlinkat("../../../../../../../etc", place->fd, "lower/in/up"));
	DO(symlinkat(outside, place->fd, "lower/in/target"));
	DO(symlinkat("/in", place->fd, "lower/entry"));
	TAR(&tar, { .name = "abs/a", .type = '0', .data = "1" }, { .name = "up/b", .type = '0', .data = "2" },
	    { .name = "target", .type = '0', .data = "3" }, { .name = "/c", .type = '0', .data = "4" });
	assert_ok(extract(place, "/entry", &tar, false, &err), err);
	assert_content(place, "upper/etc/a", "1");
	assert_content(place, "upper/etc/b", "2");
	assert_content(place, "upper/in/target", "3");
	assert_content(place, "upper/in/c", "4");
	assert_int_equal(access(outside, F_OK), -1);
	AUTO_BUF struct gt_buf evil = { 0 };
	TAR(&evil, { .name = "../../evil", .type = '0', .data = "x" });
	assert_fails(extract(place, "/entry", &evil, false, &err), err, GT_INVALID, "leads out");
}

static void extract_checks_its_target(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	AUTO_BUF struct gt_buf dir = { 0 };
	put(place, "lower/file", "x", 0644);
	DO(mkdirat(place->fd, "lower/sub", 0755));
	DO(mkdirat(place->fd, "lower/sub/f", 0755));
	TAR(&tar, { .name = "f", .type = '0', .data = "new" });
	TAR(&dir, { .name = "file/", .type = '5' });
	assert_fails(extract(place, "/none", &tar, false, &err), err, GT_NOT_FOUND, "Could not find the file /none in container");
	assert_fails(extract(place, "/file", &tar, false, &err), err, GT_INVALID, "extraction point is not a directory");
	assert_fails(extract(place, "/sub", &tar, true, &err), err, GT_INVALID, "cannot overwrite directory");
	assert_fails(extract(place, "/", &dir, true, &err), err, GT_INVALID, "cannot overwrite non-directory");
	assert_ok(extract(place, "/sub", &tar, false, &err), err);
	assert_content(place, "upper/sub/f", "new");
	/* compressed, and given to one owner */
	AUTO_BUF struct gt_buf packed = { 0 };
	gzip_of(&tar, &packed);
	AUTO_CLOSE int in = pipe_of(&packed);
	assert_ok(gt_fs_extract(&place->fs, "/data", in, false, 12, 34, &err), err);
	assert_content(place, "volume/f", "new");
	struct stat st;
	assert_int_equal(fstatat(place->fd, "volume/f", &st, 0), 0);
	assert_true(st.st_uid == 12 && st.st_gid == 34);
}

static void read_only_places_are_refused(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	TAR(&tar, { .name = "f", .type = '0', .data = "new" });
	DO(mkdirat(place->fd, "lower/data", 0755));
	AUTO_FREE char *options = gt_xasprintf("ro,%s", place->root->options);
	snprintf(place->root->options, sizeof place->root->options, "%s", options);
	assert_fails(extract(place, "/", &tar, false, &err), err, GT_DENIED, "container rootfs is marked read-only");
	assert_ok(extract(place, "/data", &tar, false, &err), err);
	strcpy(place->volume->options, "ro");
	assert_fails(extract(place, "/data", &tar, false, &err), err, GT_DENIED, "mounted volume is marked read-only");
	/* a volume whose place is missing in a read-only root is not seen, and no failure */
	place->destinations[1] = "/missing";
	struct gt_fs_stat st;
	assert_ok(gt_fs_stat(&place->fs, "/data", &st, &err), err);
	gt_fs_stat_free(&st);
}

/* ---- export ---- */

static void export_has_the_root_without_what_is_mounted_in_it(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_CLOSE int out = memory();
	AUTO_BUF struct gt_buf tar = { 0 };
	AUTO_BUF struct gt_buf names = { 0 };
	put(place, "lower/a", "a", 0644);
	DO(mkdirat(place->fd, "lower/d", 0755));
	put(place, "lower/d/b", "b", 0644);
	put(place, "volume/v", "v", 0644);
	assert_ok(gt_fs_export(&place->fs, out, &err), err);
	read_back(out, &tar);
	list_tar(&tar, &names);
	assert_string_equal(names.data, "a\nd/\nd/b\ndata/\n");
}

/* ---- copy up ---- */

static void an_empty_volume_is_filled_from_the_image(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	place->fs.count = 1;
	DO(mkdirat(place->fd, "lower/seed", 0755));
	put(place, "lower/seed/f", "seed", 0604);
	DO(linkat(place->fd, "lower/seed/f", place->fd, "lower/seed/g", 0));
	DO(symlinkat("f", place->fd, "lower/seed/l"));
	DO(mkdirat(place->fd, "lower/seed/sub", 0755));
	put(place, "lower/seed/sub/x", "deep", 0600);
	DO(fchownat(place->fd, "lower/seed", 55, 66, 0));
	DO(fchmodat(place->fd, "lower/seed", 0710, 0));
	DO(symlinkat("/seed", place->fd, "lower/alias"));
	assert_ok(gt_fs_copy_up(&place->fs, "/nothing", place->volume, &err), err);
	assert_ok(gt_fs_copy_up(&place->fs, "/alias", place->volume, &err), err);
	assert_content(place, "volume/f", "seed");
	assert_content(place, "volume/sub/x", "deep");
	struct stat f, g;
	assert_int_equal(fstatat(place->fd, "volume", &f, 0), 0);
	assert_true(f.st_uid == 55 && f.st_gid == 66 && (f.st_mode & 07777) == 0710);
	fstatat(place->fd, "volume/f", &f, 0);
	fstatat(place->fd, "volume/g", &g, 0);
	assert_int_equal(f.st_ino, g.st_ino);
	assert_int_equal(f.st_mode & 07777, 0604);
	/* what is there is kept */
	put(place, "volume/f", "mine", 0600);
	assert_ok(gt_fs_copy_up(&place->fs, "/seed", place->volume, &err), err);
	assert_content(place, "volume/f", "mine");
}

/* ---- diff_tar ---- */

static void changes_become_a_layer(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_CLOSE int out = memory();
	AUTO_BUF struct gt_buf tar = { 0 };
	AUTO_BUF struct gt_buf names = { 0 };
	DO(mkdirat(place->fd, "lower/d", 0755));
	put(place, "lower/d/f", "f", 0644);
	put(place, "lower/d/untouched", "f", 0644);
	put(place, "upper/new", "n", 0644);
	AUTO_JSON json_t *changes = json_pack("[[i,s],[i,s],[i,s],[i,s],[i,s],[i,n,s]]", 0, "/d", 1, "/d/f", 2, "/d/gone", 1, "/new", 1,
					      "/vanished", 2, "2fff");
	assert_ok(gt_fs_diff_tar(&place->fs, changes, out, &err), err);
	read_back(out, &tar);
	list_tar(&tar, &names);
	assert_string_equal(names.data, "d/\nd/f\nd/.wh.gone\nnew\n.wh.\xff\n");
	AUTO_JSON json_t *evil = json_pack("[[i,s]]", 1, "/../../etc/passwd");
	assert_fails(gt_fs_diff_tar(&place->fs, evil, out, &err), err, GT_INVALID, "leads out");
}

/* ---- a running container ---- */

static pid_t run_container(struct place *place, bool user_namespace)
{
	int ready[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char byte = 'x';
		if (unshare(CLONE_NEWNS | (user_namespace ? CLONE_NEWUSER : 0)) < 0)
			_exit(1);
		if (user_namespace) { /* the parent writes the maps */
			if (write(ready[1], &byte, 1) != 1 || read(ready[1], &byte, 1) != 1)
				_exit(1);
		}
		AUTO_FREE char *lower = gt_xasprintf("%s/lower", place->dir);
		if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 || mount(lower, lower, NULL, MS_BIND | MS_REC, NULL) < 0 ||
		    chdir(lower) < 0 || mkdir("proc", 0755) < 0 || (!user_namespace && mount("proc", "proc", "proc", 0, NULL) < 0) ||
		    mkdir("tmp", 0755) < 0 || mount("tmpfs", "tmp", "tmpfs", 0, NULL) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
			_exit(2);
		close(open("/tmp/inside", O_WRONLY | O_CREAT, 0600));
		if (write(ready[1], &byte, 1) != 1)
			_exit(3);
		for (;;)
			pause();
	}
	char byte;
	close(ready[1]);
	if (user_namespace) {
		assert_int_equal(read(ready[0], &byte, 1), 1);
		AUTO_FREE char *uid = gt_xasprintf("/proc/%d/uid_map", pid), *gid = gt_xasprintf("/proc/%d/gid_map", pid);
		assert_int_equal(gt_write_control(AT_FDCWD, uid, "0 100000 1000", NULL), 0);
		assert_int_equal(gt_write_control(AT_FDCWD, gid, "0 100000 1000", NULL), 0);
		assert_int_equal(write(ready[0], &byte, 1), 1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void stop_container(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void a_running_containers_own_mounts_are_seen(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	put(place, "lower/f", "f", 0644);
	pid_t pid = run_container(place, false);
	place->fs = (struct gt_fsroot){ .helper = place->helper, .pid = pid };
	assert_archive(place, "/tmp", "tmp/\ntmp/inside\n");
	/* what the kernel mounts in every container is no content of it */
	assert_archive(place, "/", "/\n/f\n/proc/\n/tmp/\n/tmp/inside\n");
	TAR(&tar, { .name = "g", .type = '0', .data = "g" });
	assert_ok(extract(place, "/", &tar, false, &err), err);
	assert_content(place, "lower/g", "g");
	AUTO_CLOSE int out = memory();
	AUTO_BUF struct gt_buf exported = { 0 };
	AUTO_BUF struct gt_buf names = { 0 };
	assert_ok(gt_fs_export(&place->fs, out, &err), err);
	read_back(out, &exported);
	list_tar(&exported, &names);
	assert_string_equal(names.data, "f\ng\nproc/\ntmp/\n");
	/* no way to the host through the kernel's links */
	struct gt_fs_stat st;
	AUTO_FREE char *root = gt_xasprintf("/proc/%d/root/etc", pid);
	assert_int_equal(gt_fs_stat(&place->fs, root, &st, &err), -1);
	stop_container(pid);
	gt_error_clear(&err);
	assert_fails(gt_fs_stat(&place->fs, "/f", &st, &err), err, GT_CONFLICT, "process has ended");
}

static void owners_are_those_of_the_containers_user_namespace(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
#ifdef __SANITIZE_THREAD__
	skip(); /* a process makes a user namespace while it has one thread; this sanitizer has one of its own */
#endif
	/* the daemon's directories are not open to all, and a container is inside them by its mount */
	DO(fchmodat(AT_FDCWD, place->dir, 0755, 0));
	DO(fchownat(place->fd, "lower", 100000, 100000, 0));
	pid_t pid = run_container(place, true);
	place->fs = (struct gt_fsroot){ .helper = place->helper, .pid = pid };
	TAR(&tar, { .name = "mine", .type = '0', .data = "g", .uid = 5, .gid = 6 });
	int rc = extract(place, "/", &tar, false, &err);
	stop_container(pid);
	assert_ok(rc, err);
	struct stat st;
	assert_int_equal(fstatat(place->fd, "lower/mine", &st, 0), 0);
	assert_int_equal(st.st_uid, 100005);
	assert_int_equal(st.st_gid, 100006);
}

static void a_missing_helper_is_told(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	struct gt_fs_stat st;
	place->fs.helper = "/not/there";
	assert_fails(gt_fs_stat(&place->fs, "/f", &st, &err), err, GT_INTERNAL, "/not/there");
	place->fs.helper = "/bin/false";
	assert_fails(gt_fs_stat(&place->fs, "/f", &st, &err), err, GT_INTERNAL, "without a reply");
}

static void jobs_leave_no_mount_and_no_descriptor(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	struct gt_fs_stat st;
	AUTO_BUF struct gt_buf before = { 0 };
	AUTO_BUF struct gt_buf after = { 0 };
	put(place, "lower/f", "f", 0644);
	int fds = open_fds();
	assert_ok(gt_read_file(AT_FDCWD, "/proc/self/mounts", 4 << 20, &before, &err), err);
	assert_ok(gt_fs_stat(&place->fs, "/f", &st, &err), err);
	gt_fs_stat_free(&st);
	assert_ok(gt_read_file(AT_FDCWD, "/proc/self/mounts", 4 << 20, &after, &err), err);
	assert_null(strstr(after.data, place->dir));
	assert_int_equal(open_fds(), fds);
}

/* In a namespace of a child's own, as the callers have one. */
static void an_overlay_by_mount_is_detached_and_leaves_its_place(void **state)
{
	struct place *place = *state;
	put(place, "lower/a", "one", 0644);
	put(place, "lower2/b", "two", 0644);
	pid_t pid = fork();
	if (pid == 0) {
		struct gt_error err = { 0 };
		struct gt_strings options = { 0 };
		AUTO_FREE char *lower = gt_xasprintf("lowerdir=%s/lower:%s/lower2", place->dir, place->dir);
		AUTO_FREE char *upper = gt_xasprintf("upperdir=%s/upper", place->dir), *work = gt_xasprintf("workdir=%s/work", place->dir);
		gt_strings_add(&options, upper);
		gt_strings_add(&options, lower);
		gt_strings_add(&options, work);
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(1);
		int fd = gt_overlay_mount_classic(&options, &err);
		if (fd < 0)
			_exit(2);
		bool both = faccessat(fd, "a", F_OK, 0) == 0 && faccessat(fd, "b", F_OK, 0) == 0;
		bool left = faccessat(place->fd, "lower/b", F_OK, 0) == 0;
		AUTO_FREE char *through = gt_xasprintf("%s/lower/b", place->dir);
		left = left || access(through, F_OK) == 0;
		_exit(both && !left ? 0 : 3);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void options_that_fill_a_page_are_refused(void **state)
{
	struct gt_error err = { 0 };
	struct gt_strings options = { 0 };
	AUTO_FREE char *long_one = gt_xasprintf("lowerdir=/%04200d", 0);
	(void)state;
	gt_strings_add(&options, long_one);
	assert_int_equal(gt_overlay_mount_classic(&options, &err), -1);
	assert_int_equal(err.kind, GT_UNSUPPORTED);
	gt_strings_free(&options);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(stat_answers_as_docker_does),
		T(archives_are_named_as_docker_names_them),
		T(what_goes_out_comes_in_again),
		T(extract_stays_in_the_container),
		T(extract_checks_its_target),
		T(read_only_places_are_refused),
		T(export_has_the_root_without_what_is_mounted_in_it),
		T(an_empty_volume_is_filled_from_the_image),
		T(changes_become_a_layer),
		T(a_running_containers_own_mounts_are_seen),
		T(an_overlay_by_mount_is_detached_and_leaves_its_place),
		T(options_that_fill_a_page_are_refused),
		T(owners_are_those_of_the_containers_user_namespace),
		T(a_missing_helper_is_told),
		T(jobs_leave_no_mount_and_no_descriptor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
