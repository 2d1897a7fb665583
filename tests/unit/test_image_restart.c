/* What is there after a restart, and what a crash leaves. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "image_samples.h"

static void everything_is_there_after_a_restart(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65];
	AUTO_BUF struct gt_buf saved = { 0 };
	load_sample(fixture, "kept:1", id);
	AUTO_JSON json_t *before = gt_image_inspect(fixture->images, "kept:1", &err);
	fixture_close(fixture);
	fixture_open(fixture);
	AUTO_JSON json_t *after = gt_image_inspect(fixture->images, "kept:1", &err);
	assert_true(json_equal(before, after));
	struct gt_strings names = { 0 };
	gt_strings_add(&names, "kept:1");
	assert_ok(drain(gt_image_save(fixture->images, &names, &err), &saved, &err), err);
	gt_strings_free(&names);
}

static void a_damaged_config_is_put_aside(void **state)
{
	struct fixture *fixture = *state;
	char id[65], good[65];
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf archive = { 0 };
	load_sample(fixture, "bad:1", id);
	docker_archive(&archive, NULL, 0, "good:1", good);
	assert_ok(load_bytes(fixture, &archive, &err), err);
	fixture_close(fixture);
	AUTO_FREE char *path = gt_xasprintf("%s/root/images/configs/%s.json", fixture->dir, id);
	AUTO_CLOSE int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "#", 1, 20), 1);
	fixture_open(fixture);
	assert_int_equal(gt_images_count(fixture->images), 1);
	assert_int_equal(count_files(fixture, "quarantine"), 1);
	assert_int_equal(layers_in_driver(fixture), 0);
	struct gt_image image;
	assert_fails(gt_image_find(fixture->images, "bad:1", &image, &err), err, GT_NOT_FOUND, "No such image");
	assert_ok(gt_image_find(fixture->images, "good:1", &image, &err), err);
	gt_image_free(&image);
}

/* A daemon that is killed while the second layer is on its way. */
static void a_killed_load_leaves_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	char id[65];
	make_layers(layers);
	for (int i = 0; i < 400; i++) { /* long enough to be caught in the middle */
		AUTO_FREE char *name = gt_xasprintf("many/%d", i);
		struct gt_buf tar = { 0 };
		tar_add(&tar, &(struct entry){ .name = name, .type = '0', .data = "x" });
		gt_buf_add(&tar, layers[1].tar.data, layers[1].tar.len);
		gt_buf_free(&layers[1].tar);
		layers[1].tar = tar;
	}
	docker_archive(&archive, layers, 2, "half:1", id);
	free_layers(layers);
	fixture_close(fixture);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (int delay = 0; delay < 30; delay += 3) {
		pid_t pid = fork();
		if (pid == 0) {
			struct gt_error err = { 0 };
			fixture_open(fixture);
			_exit(load_bytes(fixture, &archive, &err) < 0 ? 1 : 0);
		}
		usleep((useconds_t)delay * 1000);
		kill(pid, SIGKILL);
		int status;
		waitpid(pid, &status, 0);
		while (waitpid(-1, NULL, 0) > 0) /* its helpers die with it */
			;
		fixture_open(fixture);
		if (gt_images_count(fixture->images) == 0) {
			assert_nothing_left(fixture);
		} else {
			struct gt_error err = { 0 };
			AUTO_JSON json_t *gone = gt_image_remove(fixture->images, id, true, false, &err);
			assert_non_null(gone);
			assert_nothing_left(fixture);
		}
		fixture_close(fixture);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	fixture_open(fixture);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_make, fixture_remove)
	const struct CMUnitTest tests[] = {
		T(everything_is_there_after_a_restart),
		T(a_damaged_config_is_put_aside),
		T(a_killed_load_leaves_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
