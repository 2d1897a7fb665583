/*
 * layer_steps.c - see layer_steps.h.
 */
#include "layer_steps.h"

#include <fcntl.h>
#include <string.h>

int begin_layer(struct gt_driver *driver, const char *id, const char *parent)
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

void seal_layer(struct gt_driver *driver, const char *id)
{
	struct gt_error err = { 0 };
	assert_ok(gt_layer_commit(driver, id, &err), err);
}

void fill_layer(int dirfd, const char *const *paths)
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

void remove_all(int dirfd, const char *path)
{
	struct gt_error err = { 0 };
	assert_ok(gt_remove_tree(dirfd, path, &err), err);
}

int note_change(void *arg, int kind, const char *path)
{
	gt_buf_printf(arg, "%c %s\n", "CAD"[kind], path);
	return 0;
}

void assert_changes(struct gt_driver *driver, const char *id, const char *wanted)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf found = { 0 };
	gt_buf_str(&found, "");
	int before = open_fds();
	assert_ok(gt_layer_diff(driver, id, note_change, &found, &err), err);
	assert_int_equal(open_fds(), before);
	assert_string_equal(found.data ? found.data : "", wanted);
}
