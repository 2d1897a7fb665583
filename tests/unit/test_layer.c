/* Layers from outside: gantry-fs unpacks hostile tars into a directory, and nothing lands beside it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "image_fixture.h"

struct place {
	char *dir;              /* scratch */
	char *layer;            /* scratch/a/b/layer */
	char *helper;
	int fd;                 /* of layer */
};

static int setup(void **state)
{
	void *dir = NULL;
	struct place *place = gt_xcalloc(1, sizeof *place);
	if (scratch_make(&dir) < 0)
		return -1;
	place->dir = dir;
	place->layer = gt_xasprintf("%s/a/b/layer", place->dir);
	place->helper = built("libexec/gantry-fs");
	if (gt_mkdirs(AT_FDCWD, place->layer, 0755, NULL) < 0)
		return -1;
	place->fd = open(place->layer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = place;
	return place->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	void *dir = place->dir;
	close(place->fd);
	free(place->layer);
	free(place->helper);
	free(place);
	return scratch_remove(&dir);
}

static int unpack(struct place *place, int whiteouts, const struct gt_buf *tar, int64_t *size, struct gt_error *err)
{
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	AUTO_CLOSE int in = pipe_of(tar);
	dir->whiteouts = whiteouts;
	snprintf(dir->path, sizeof dir->path, "%s", place->layer);
	return gt_fs_unpack(place->helper, dir, in, size, err);
}

#define UNPACK(place, ...)                                                                          \
	do {                                                                                        \
		AUTO_BUF struct gt_buf made = { 0 };                                                \
		struct gt_error problem = { 0 };                                                    \
		int64_t size;                                                                       \
		TAR(&made, __VA_ARGS__);                                                            \
		assert_ok(unpack(place, GANTRY_WHITEOUT_OVERLAY, &made, &size, &problem), problem); \
	} while (0)

#define REFUSE(place, kind, text, ...)                                                                               \
	do {                                                                                                         \
		AUTO_BUF struct gt_buf made = { 0 };                                                                 \
		struct gt_error problem = { 0 };                                                                     \
		int64_t size;                                                                                        \
		TAR(&made, __VA_ARGS__);                                                                             \
		assert_fails(unpack(place, GANTRY_WHITEOUT_OVERLAY, &made, &size, &problem), problem, kind, text);   \
	} while (0)

static struct stat look(struct place *place, const char *path)
{
	struct stat st;
	if (fstatat(place->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

static bool exists(struct place *place, const char *path)
{
	struct stat st;
	return fstatat(place->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_content(struct place *place, const char *path, const char *content)
{
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_error err = { 0 };
	assert_ok(gt_read_file(place->fd, path, 1 << 20, &text, &err), err);
	assert_string_equal(text.data, content);
}

static ssize_t xattr_of(struct place *place, const char *path, const char *name, char *value, size_t room)
{
	AUTO_FREE char *full = gt_xasprintf("%s/%s", place->layer, path);
	return lgetxattr(full, name, value, room);
}

static bool is_opaque(struct place *place, const char *path)
{
	char value[8];
	return xattr_of(place, path, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

static bool is_whiteout(struct place *place, const char *path)
{
	struct stat st;
	return fstatat(place->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

/* ---- staying inside ---- */

static void names_that_lead_out_are_refused(void **state)
{
	struct place *place = *state;
	REFUSE(place, GT_INVALID, "leads out", { .name = "../evil", .type = '0', .data = "x" });
	REFUSE(place, GT_INVALID, "leads out", { .name = "a/../../evil", .type = '0', .data = "x" });
	REFUSE(place, GT_INVALID, "leads out", { .name = "f", .type = '1', .link = "../../outside" });
	REFUSE(place, GT_INVALID, "whiteout", { .name = "a/.wh...", .type = '0' });
	REFUSE(place, GT_INVALID, "whiteout", { .name = "a/.wh..", .type = '0' });
	assert_int_equal(faccessat(place->fd, "../evil", F_OK, 0), -1);
}

static void absolute_names_and_links_stay_inside(void **state)
{
	struct place *place = *state;
	UNPACK(place, { .name = "/etc/", .type = '5' }, { .name = "/etc/x", .type = '0', .data = "1" },
	       { .name = "up", .type = '2', .link = "../../../.." }, { .name = "up/y", .type = '0', .data = "2" },
	       { .name = "abs", .type = '2', .link = "/etc" }, { .name = "abs/z", .type = '0', .data = "3" },
	       { .name = "etc/back", .type = '2', .link = "../../../../../../etc" },
	       { .name = "etc/back/w", .type = '0', .data = "4" }, { .name = "etc/.//./v", .type = '0', .data = "5" });
	assert_content(place, "etc/x", "1");
	assert_content(place, "y", "2");
	assert_content(place, "etc/z", "3");
	assert_content(place, "etc/w", "4");
	assert_content(place, "etc/v", "5");
	assert_int_equal(faccessat(place->fd, "../y", F_OK, 0), -1);
}

static void a_file_never_goes_through_a_link_of_its_own_name(void **state)
{
	struct place *place = *state;
	AUTO_FREE char *outside = gt_xasprintf("%s/outside", place->dir);
	UNPACK(place, { .name = "f", .type = '2', .link = outside }, { .name = "f", .type = '0', .data = "mine" },
	       { .name = "d", .type = '2', .link = place->dir }, { .name = "d", .type = '5' }, { .name = "d/g", .type = '0', .data = "g" });
	assert_content(place, "f", "mine");
	assert_true(S_ISREG(look(place, "f").st_mode));
	assert_true(S_ISDIR(look(place, "d").st_mode));
	assert_int_equal(access(outside, F_OK), -1);
}

static void a_link_that_leads_nowhere_is_no_directory(void **state)
{
	struct place *place = *state;
	REFUSE(place, GT_INVALID, "leads nowhere", { .name = "l", .type = '2', .link = "/not/there" },
	       { .name = "l/x", .type = '0', .data = "x" });
	REFUSE(place, GT_INVALID, "not a directory", { .name = "file", .type = '0', .data = "x" },
	       { .name = "file/x", .type = '0', .data = "x" });
	REFUSE(place, GT_INVALID, "links", { .name = "loop", .type = '2', .link = "loop" }, { .name = "loop/x", .type = '0' });
}

static void names_have_bounds(void **state)
{
	struct place *place = *state;
	AUTO_BUF struct gt_buf name = { 0 };
	for (int i = 0; i < 256; i++)
		gt_buf_char(&name, 'n');
	REFUSE(place, GT_INVALID, "longer than 255", { .name = name.data, .type = '0' });
	gt_buf_reset(&name);
	for (int i = 0; i < 600; i++)
		gt_buf_str(&name, "d/");
	REFUSE(place, GT_INVALID, "deeper than", { .name = name.data, .type = '5' });
	gt_buf_reset(&name);
	while (name.len < 4096)
		gt_buf_str(&name, "directory/");
	REFUSE(place, GT_INVALID, "longer than 4095", { .name = name.data, .type = '5' });
}

/* ---- fidelity ---- */

static void attributes_are_as_in_the_archive(void **state)
{
	struct place *place = *state;
	UNPACK(place, { .name = "./", .type = '5', .mode = 0751, .mtime = 77 },
	       { .name = "s", .type = '0', .mode = 04755, .uid = 1000, .gid = 50, .data = "x", .mtime = 1 },
	       { .name = "dir/", .type = '5', .mode = 03777, .uid = 7, .gid = 8, .mtime = 12345 },
	       { .name = "dir/inside", .type = '0', .mode = 0600, .data = "y" },
	       { .name = "big", .type = '0', .uid = 4000000000u, .gid = 3000000000u, .data = "z" },
	       { .name = "ns", .type = '0', .data = "t", .pax = "mtime=1700000000.123456789" },
	       { .name = "c", .type = '3', .mode = 0666, .major = 1, .minor = 3 },
	       { .name = "b", .type = '4', .mode = 0660, .major = 7, .minor = 200 }, { .name = "p", .type = '6', .mode = 0620, .uid = 5 },
	       { .name = "l", .type = '2', .link = "s", .uid = 9, .mtime = 99 });
	struct stat st = look(place, "s");
	assert_int_equal(st.st_mode, S_IFREG | 04755);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_gid, 50);
	assert_int_equal(st.st_mtime, 1);
	st = look(place, "dir");
	assert_int_equal(st.st_mode, S_IFDIR | 03777);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(st.st_mtime, 12345);
	st = look(place, "dir/inside");
	assert_int_equal(st.st_gid, 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(look(place, "big").st_uid == 4000000000u && look(place, "big").st_gid == 3000000000u);
	st = look(place, "ns");
	assert_true(st.st_mtim.tv_sec == 1700000000 && st.st_mtim.tv_nsec == 123456789);
	assert_true(S_ISCHR(look(place, "c").st_mode) && look(place, "c").st_rdev == makedev(1, 3));
	assert_true(S_ISBLK(look(place, "b").st_mode) && look(place, "b").st_rdev == makedev(7, 200));
	assert_int_equal(look(place, "p").st_mode, S_IFIFO | 0620);
	st = look(place, "l");
	assert_true(S_ISLNK(st.st_mode) && st.st_uid == 9 && st.st_mtime == 99);
	st = look(place, ".");
	assert_int_equal(st.st_mode & 07777, 0751);
	assert_int_equal(st.st_mtime, 77);
}

static void names_keep_their_bytes(void **state)
{
	struct place *place = *state;
	AUTO_BUF struct gt_buf name = { 0 };
	for (int i = 0; i < 30; i++)
		gt_buf_str(&name, "long-dir/");
	gt_buf_str(&name, "file");
	AUTO_FREE char *pax = gt_xasprintf("path=pax/%s", name.data);
	/* decomposed and composed e-acute are two names; a name need not be UTF-8 */
	UNPACK(place, { .name = name.data, .type = '0', .data = "gnu" }, { .name = "x", .type = '0', .data = "pax", .pax = pax },
	       { .name = "x", .type = '0', .data = "nfd", .pax = "path=e\xcc\x81" },
	       { .name = "x", .type = '0', .data = "nfc", .pax = "path=\xc3\xa9" },
	       { .name = "x", .type = '2', .link = "y", .pax = "path=link\nlinkpath=e\xcc\x81" },
	       { .name = "x", .type = '1', .link = "y", .pax = "path=hard\nlinkpath=e\xcc\x81" },
	       { .name = "\xff\xfe", .type = '0', .data = "raw" });
	AUTO_FREE char *long_pax = gt_xasprintf("pax/%s", name.data);
	assert_content(place, name.data, "gnu");
	assert_content(place, long_pax, "pax");
	assert_content(place, "e\xcc\x81", "nfd");
	assert_content(place, "\xc3\xa9", "nfc");
	assert_content(place, "link", "nfd");
	assert_content(place, "hard", "nfd");
	assert_content(place, "\xff\xfe", "raw");
}

static void extended_attributes_come_along_but_not_overlays(void **state)
{
	struct place *place = *state;
	char value[64];
	UNPACK(place,
	       { .name = "f", .type = '0', .data = "x", .uid = 3, .pax = "SCHILY.xattr.user.color=blue\nSCHILY.xattr.trusted.overlay.redirect=/etc\nSCHILY.xattr.trusted.mine=1" },
	       { .name = "d/", .type = '5', .pax = "SCHILY.xattr.user.kind=dir\nSCHILY.xattr.trusted.overlay.opaque=y" });
	assert_int_equal(xattr_of(place, "f", "user.color", value, sizeof value), 4);
	assert_memory_equal(value, "blue", 4);
	assert_int_equal(xattr_of(place, "f", "trusted.mine", value, sizeof value), 1);
	assert_int_equal(xattr_of(place, "f", "trusted.overlay.redirect", value, sizeof value), -1);
	assert_int_equal(xattr_of(place, "d", "user.kind", value, sizeof value), 3);
	assert_false(is_opaque(place, "d"));
}

static void sparse_files_stay_sparse(void **state)
{
	struct place *place = *state;
	AUTO_BUF struct gt_buf data = { 0 };
	gt_buf_str(&data, "2\n1048576\n5\n9437184\n0\n");
	while (data.len < 512)
		gt_buf_char(&data, '\0');
	gt_buf_str(&data, "hello");
	UNPACK(place, { .name = "GNUSparseFile.0/s", .type = '0', .data = data.data, .len = data.len,
			.pax = "GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=s\nGNU.sparse.realsize=9437184" },
	       { .name = "after", .type = '0', .data = "ok" });
	struct stat st = look(place, "s");
	assert_int_equal(st.st_size, 9437184);
	assert_true(st.st_blocks < 1000);
	AUTO_CLOSE int fd = openat(place->fd, "s", O_RDONLY);
	char text[6] = "";
	assert_int_equal(pread(fd, text, 5, 1048576), 5);
	assert_string_equal(text, "hello");
	assert_content(place, "after", "ok");
}

static void hard_links_share_an_inode(void **state)
{
	struct place *place = *state;
	UNPACK(place, { .name = "a", .type = '0', .data = "x" }, { .name = "d/b", .type = '1', .link = "a" },
	       { .name = "c", .type = '1', .link = "./d/../d/b" }, { .name = "l", .type = '2', .link = "nowhere" },
	       { .name = "m", .type = '1', .link = "l" });
	assert_int_equal(look(place, "a").st_ino, look(place, "d/b").st_ino);
	assert_int_equal(look(place, "a").st_nlink, 3);
	assert_true(S_ISLNK(look(place, "m").st_mode));
	REFUSE(place, GT_INVALID, "which is not there", { .name = "n", .type = '1', .link = "missing" });
}

static void later_entries_win(void **state)
{
	struct place *place = *state;
	UNPACK(place, { .name = "f", .type = '0', .data = "first" }, { .name = "f", .type = '0', .data = "second" },
	       { .name = "d/", .type = '5' }, { .name = "d/x/", .type = '5' }, { .name = "d/x/y", .type = '0', .data = "y" },
	       { .name = "d", .type = '0', .data = "file now" }, { .name = "g", .type = '0', .data = "g" }, { .name = "g/", .type = '5' },
	       { .name = "g/h", .type = '0', .data = "h" }, { .name = "e/", .type = '5', .mode = 0700 },
	       { .name = "e/k", .type = '0', .data = "kept" }, { .name = "e/", .type = '5', .mode = 0711 });
	assert_content(place, "f", "second");
	assert_content(place, "d", "file now");
	assert_content(place, "g/h", "h");
	assert_content(place, "e/k", "kept");
	assert_int_equal(look(place, "e").st_mode & 07777, 0711);
}

static void missing_directories_are_made(void **state)
{
	struct place *place = *state;
	UNPACK(place, { .name = "x/y/z/f", .type = '0', .data = "1" }, { .name = "x/y/g", .type = '0', .data = "2" });
	assert_content(place, "x/y/z/f", "1");
	assert_int_equal(look(place, "x/y").st_mode, S_IFDIR | 0755);
}

/* ---- whiteouts ---- */

static void whiteouts_become_overlays(void **state)
{
	struct place *place = *state;
	UNPACK(place, { .name = "d/", .type = '5', .mtime = 5 }, { .name = "d/.wh.gone", .type = '0' }, { .name = ".wh.top", .type = '0' },
	       { .name = "o/", .type = '5' }, { .name = "o/.wh..wh..opq", .type = '0' }, { .name = "o/new", .type = '0', .data = "n" },
	       { .name = "p/new", .type = '0', .data = "n" }, { .name = "p/.wh..wh..opq", .type = '0' },
	       { .name = ".wh..wh.plnk", .type = '5' }, { .name = ".wh..wh.aufs", .type = '0' });
	assert_true(is_whiteout(place, "d/gone"));
	assert_true(is_whiteout(place, "top"));
	assert_true(is_opaque(place, "o"));
	assert_true(is_opaque(place, "p"));
	assert_content(place, "o/new", "n");
	assert_content(place, "p/new", "n");
	assert_false(exists(place, ".wh..wh.plnk"));
	assert_false(exists(place, ".wh..wh.aufs"));
	assert_int_equal(look(place, "d").st_mtime, 5);
}

static void a_whiteout_hides_only_what_is_below(void **state)
{
	struct place *place = *state;
	UNPACK(place, { .name = ".wh.a", .type = '0' }, { .name = "a/", .type = '5' }, { .name = "a/x", .type = '0', .data = "x" },
	       { .name = "b/", .type = '5' }, { .name = "b/y", .type = '0', .data = "y" }, { .name = ".wh.b", .type = '0' },
	       { .name = ".wh.c", .type = '0' }, { .name = "c", .type = '0', .data = "c" }, { .name = "d", .type = '0', .data = "d" },
	       { .name = ".wh.d", .type = '0' }, { .name = ".wh.e", .type = '0' }, { .name = "e/f/g", .type = '0', .data = "g" });
	assert_true(is_opaque(place, "a"));
	assert_content(place, "a/x", "x");
	assert_true(is_opaque(place, "b"));
	assert_content(place, "b/y", "y");
	assert_content(place, "c", "c");
	assert_content(place, "d", "d");
	assert_true(is_opaque(place, "e"));
	assert_content(place, "e/f/g", "g");
}

static void whiteouts_delete_where_the_directory_shows_the_parent(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf below = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	int64_t size;
	TAR(&below, { .name = "keep", .type = '0', .data = "k" }, { .name = "gone/deep/er", .type = '0', .data = "x" },
	    { .name = "o/old", .type = '0', .data = "x" }, { .name = "o/sub/old", .type = '0', .data = "x" },
	    { .name = "r/old", .type = '0', .data = "x" });
	assert_ok(unpack(place, GANTRY_WHITEOUT_DELETE, &below, &size, &err), err);
	TAR(&tar, { .name = ".wh.gone", .type = '0' }, { .name = "o/", .type = '5' }, { .name = "o/new", .type = '0', .data = "n" },
	    { .name = "o/sub/", .type = '5' }, { .name = "o/sub/new", .type = '0', .data = "n" }, { .name = "o/.wh..wh..opq", .type = '0' },
	    { .name = "r/", .type = '5' }, { .name = "r/mine", .type = '0', .data = "m" }, { .name = ".wh.r", .type = '0' });
	assert_ok(unpack(place, GANTRY_WHITEOUT_DELETE, &tar, &size, &err), err);
	assert_content(place, "keep", "k");
	assert_false(exists(place, "gone"));
	assert_false(exists(place, "o/old"));
	assert_false(exists(place, "o/sub/old"));
	assert_content(place, "o/new", "n");
	assert_content(place, "o/sub/new", "n");
	assert_false(exists(place, "r/old"));
	assert_content(place, "r/mine", "m");
	assert_false(is_opaque(place, "o"));
}

/* ---- damage ---- */

static void damaged_archives_are_refused(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	int64_t size = -1;
	TAR(&tar, { .name = "f", .type = '0', .data = "some content that is cut" });
	tar.len = 512 + 10;
	assert_fails(unpack(place, GANTRY_WHITEOUT_OVERLAY, &tar, &size, &err), err, GT_INVALID, "f");
	tar.len = 300;
	assert_fails(unpack(place, GANTRY_WHITEOUT_OVERLAY, &tar, &size, &err), err, GT_INVALID, "archive");
	gt_buf_reset(&tar);
	for (int i = 0; i < 4096; i++)
		gt_buf_char(&tar, (char)(i * 7 + 1));
	assert_fails(unpack(place, GANTRY_WHITEOUT_OVERLAY, &tar, &size, &err), err, GT_INVALID, "archive");
}

static void an_empty_layer_is_fine(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	int64_t size = -1;
	assert_ok(unpack(place, GANTRY_WHITEOUT_OVERLAY, &tar, &size, &err), err);
	assert_int_equal(size, 0);
	tar_end(&tar);
	assert_ok(unpack(place, GANTRY_WHITEOUT_OVERLAY, &tar, &size, &err), err);
}

static void the_size_is_that_of_the_contents(void **state)
{
	struct place *place = *state;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf tar = { 0 };
	int64_t size = -1;
	TAR(&tar, { .name = "a", .type = '0', .data = "12345" }, { .name = "b", .type = '1', .link = "a" },
	    { .name = "c", .type = '0', .data = "678" });
	assert_ok(unpack(place, GANTRY_WHITEOUT_OVERLAY, &tar, &size, &err), err);
	assert_int_equal(size, 8);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(names_that_lead_out_are_refused),
		T(absolute_names_and_links_stay_inside),
		T(a_file_never_goes_through_a_link_of_its_own_name),
		T(a_link_that_leads_nowhere_is_no_directory),
		T(names_have_bounds),
		T(attributes_are_as_in_the_archive),
		T(names_keep_their_bytes),
		T(extended_attributes_come_along_but_not_overlays),
		T(sparse_files_stay_sparse),
		T(hard_links_share_an_inode),
		T(later_entries_win),
		T(missing_directories_are_made),
		T(whiteouts_become_overlays),
		T(a_whiteout_hides_only_what_is_below),
		T(whiteouts_delete_where_the_directory_shows_the_parent),
		T(damaged_archives_are_refused),
		T(an_empty_layer_is_fine),
		T(the_size_is_that_of_the_contents),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
