#include "image_samples.h"

#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

void make_layers(struct layer_bytes layers[2])
{
	AUTO_BUF struct gt_buf big = { 0 };
	for (int i = 0; i < 100000; i++)
		gt_buf_printf(&big, "line %d\n", i);
	memset(layers, 0, 2 * sizeof *layers);
	TAR(&layers[0].tar, { .name = "./", .type = '5' }, { .name = "./bin/", .type = '5', .mtime = 1000 },
	    { .name = "./bin/x", .type = '0', .mode = 0755, .data = "program" }, { .name = "bin/y", .type = '1', .link = "./bin/x" },
	    { .name = "etc/conf", .type = '0', .data = "first", .mtime = 5 }, { .name = "etc/conf", .type = '0', .data = "second, longer" },
	    { .name = "etc/conf", .type = '0', .data = "third" }, { .name = "empty", .type = '0' },
	    { .name = "big", .type = '0', .data = big.data, .len = big.len, .uid = 12, .pax = "mtime=7.5\nSCHILY.xattr.user.a=b" },
	    { .name = "l", .type = '2', .link = "etc/conf" }, { .name = "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3 },
	    { .name = "e\xcc\x81", .type = '0', .data = "d" }, { .name = "gone", .type = '0', .data = "to be hidden" });
	for (int i = 0; i < 5000; i++)
		gt_buf_char(&layers[0].tar, i == 4999 ? 'x' : '\0');
	TAR(&layers[1].tar, { .name = "etc/", .type = '5' }, { .name = "etc/more", .type = '0', .data = "more" },
	    { .name = ".wh.gone", .type = '0' }, { .name = "bin/", .type = '5' }, { .name = "bin/z", .type = '0', .data = "z" });
}

void free_layers(struct layer_bytes layers[2])
{
	gt_buf_free(&layers[0].tar);
	gt_buf_free(&layers[1].tar);
}

void load_sample(struct fixture *fixture, const char *tag, char id[65])
{
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	struct gt_error err = { 0 };
	make_layers(layers);
	docker_archive(&archive, layers, 2, tag, id);
	free_layers(layers);
	assert_ok(load_bytes(fixture, &archive, &err), err);
}

static int count_one(void *arg, const char *name)
{
	(void)name;
	(*(size_t *)arg)++;
	return 0;
}

size_t layers_in_driver(struct fixture *fixture)
{
	size_t count = 0;
	struct gt_error err = { 0 };
	assert_ok(gt_layer_list(fixture->storage, count_one, &count, &err), err);
	return count;
}

void assert_nothing_left(struct fixture *fixture)
{
	assert_int_equal(gt_images_count(fixture->images), 0);
	assert_int_equal(layers_in_driver(fixture), 0);
	assert_int_equal(count_files(fixture, "images/configs"), 0);
	assert_int_equal(count_files(fixture, "images/meta"), 0);
	assert_int_equal(count_files(fixture, "images/layers"), 0);
	assert_int_equal(count_files(fixture, "images/recipes"), 0);
	assert_int_equal(count_files(fixture, "images/spool"), 0);
}

json_t *list_images(struct fixture *fixture, bool all, json_t *filters)
{
	struct gt_error err = { 0 };
	json_t *result = gt_images_list(fixture->images, all, filters, true, &err);
	json_decref(filters);
	if (!result)
		fail_msg("%s", err.message);
	return result;
}

size_t count_listed(struct fixture *fixture, const char *key, const char *value)
{
	AUTO_JSON json_t *result = list_images(fixture, false, json_pack("{s:[s]}", key, value));
	return json_array_size(result);
}

const char *text_at(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));
	return text ? text : "(none)";
}

void in_layer(struct fixture *fixture, const char *layer, const char *script)
{
	AUTO_FREE struct gantry_mount *mnt = gt_xcalloc(1, sizeof *mnt);
	AUTO_FREE char *target = gt_xasprintf("%s/view", fixture->dir);
	struct gt_error err = { 0 };
	assert_ok(gt_layer_mount(fixture->storage, layer, false, mnt, &err), err);
	mkdir(target, 0755);
	pid_t pid = fork();
	if (pid == 0) {
		bool bind = strcmp(mnt->type, "bind") == 0;
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount(mnt->source, target, bind ? NULL : mnt->type, bind ? MS_BIND : 0, bind ? NULL : mnt->options) < 0 ||
		    chdir(target) < 0)
			_exit(100);
		execl("/bin/sh", "sh", "-ec", script, NULL);
		_exit(101);
	}
	int status = -1;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}
