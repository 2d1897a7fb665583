/* import and commit: images made here. */
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "image_samples.h"

static void a_root_file_system_is_imported(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gt_image image;
	char id[72], second[72];
	AUTO_BUF struct gt_buf tar = { 0 };
	AUTO_BUF struct gt_buf packed = { 0 };
	struct gt_strings changes = { 0 };
	TAR(&tar, { .name = "./", .type = '5' }, { .name = "./bin/sh", .type = '0', .mode = 0755, .data = "sh" });
	gzip_of(&tar, &packed);
	gt_strings_add(&changes, "CMD [\"/bin/sh\"]");
	AUTO_CLOSE int plain = pipe_of(&tar), gz = pipe_of(&packed);
	assert_ok(gt_image_import(fixture->images, gz, "me/root", "v2", "from a test", &changes, NULL, NULL, id, &err), err);
	assert_ok(gt_image_import(fixture->images, plain, NULL, NULL, NULL, NULL, "linux/arm64", NULL, second, &err), err);
	gt_strings_free(&changes);
	assert_ok(gt_image_find(fixture->images, "me/root:v2", &image, &err), err);
	assert_string_equal(image.id, id);
	assert_string_equal(image.config.cmd.items[0], "/bin/sh");
	assert_string_equal(text_at(image.document, "comment"), "from a test");
	gt_image_free(&image);
	assert_ok(gt_image_find(fixture->images, second, &image, &err), err);
	assert_string_equal(image.architecture, "arm64");
	gt_image_free(&image);
	assert_int_equal(layers_in_driver(fixture), 1); /* the same tar is the same layer */

	AUTO_CLOSE int in = pipe_of(&tar);
	assert_fails(gt_image_import(fixture->images, in, "UPPER", NULL, NULL, NULL, NULL, NULL, id, &err), err, GT_INVALID, "lowercase");
	packed.len -= 12;
	AUTO_CLOSE int cut = pipe_of(&packed);
	assert_fails(gt_image_import(fixture->images, cut, "x", NULL, NULL, NULL, NULL, NULL, id, &err), err, GT_INVALID, "too early");
	assert_int_equal(layers_in_driver(fixture), 1);
}

static void commit_makes_a_layer_of_the_changes(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gt_image image;
	char id[65], made[72], container[65], other[65];
	AUTO_BUF struct gt_buf saved = { 0 };
	load_sample(fixture, "base:1", id);
	gt_id_new(container);
	gt_id_new(other);
	assert_ok(gt_image_layer_create(fixture->images, container, id, NULL, &err), err);
	in_layer(fixture, container, "echo new >new; chmod 4711 new; rm big; echo changed >etc/conf; mkdir -p d/e; ln new d/link; "
				     "rm -r bin; mkdir bin; echo only >bin/only");
	struct gt_image_commit how = { .parent = id, .container_layer = container, .container_id = container, .author = "me",
				       .message = "msg", .repo = "committed", .tag = "1" };
	struct gt_strings command = { 0 };
	gt_strings_add(&how.config.cmd, "/bin/only");
	gt_strings_add(&command, "make");
	gt_strings_add(&command, "only");
	how.command = &command;
	assert_ok(gt_image_commit(fixture->images, &how, made, &err), err);
	gt_strings_free(&command);
	gt_json_release(gt_image_config_fields, &how.config);
	assert_ok(gt_image_find(fixture->images, "committed:1", &image, &err), err);
	assert_int_equal(image.diff_ids.count, 3);
	assert_string_equal(text_at(image.document, "author"), "me");
	gt_image_free(&image);

	/* a container of it sees what was changed */
	assert_ok(gt_image_layer_create(fixture->images, other, made, NULL, &err), err);
	in_layer(fixture, other, "test ! -e big; test $(cat new) = new; test $(stat -c %a new) = 4711; test $(cat etc/conf) = changed; "
				 "test $(stat -c %i new) = $(stat -c %i d/link); test -d d/e; test $(ls bin) = only; test -e etc/more");
	assert_ok(gt_image_layer_remove(fixture->images, other, &err), err);
	assert_ok(gt_image_layer_remove(fixture->images, container, &err), err);

	struct gt_strings names = { 0 };
	gt_strings_add(&names, "committed:1");
	assert_ok(drain(gt_image_save(fixture->images, &names, &err), &saved, &err), err);
	gt_strings_free(&names);
	AUTO_JSON json_t *history = gt_image_history(fixture->images, "committed:1", &err);
	assert_int_equal(json_array_size(history), 5);
	assert_string_equal(text_at(json_array_get(history, 0), "Id"), made);
	assert_string_equal(text_at(json_array_get(history, 0), "CreatedBy"), "make only");
	assert_string_equal(text_at(json_array_get(history, 1), "Id") + 7, id);
	assert_string_equal(text_at(json_array_get(history, 2), "Id"), "<missing>");
}

static void a_commit_without_changes_adds_no_layer(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65], made[72], container[65];
	struct gt_image image;
	load_sample(fixture, "base:1", id);
	gt_id_new(container);
	assert_ok(gt_image_layer_create(fixture->images, container, id, NULL, &err), err);
	struct gt_image_commit how = { .parent = id, .container_layer = container, .container_id = container };
	assert_ok(gt_image_commit(fixture->images, &how, made, &err), err);
	assert_ok(gt_image_find(fixture->images, made, &image, &err), err);
	assert_int_equal(image.diff_ids.count, 2);
	gt_image_free(&image);
	assert_ok(gt_image_layer_remove(fixture->images, container, &err), err);
	assert_int_equal(layers_in_driver(fixture), 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_make, fixture_remove)
	const struct CMUnitTest tests[] = {
		T(a_root_file_system_is_imported),
		T(commit_makes_a_layer_of_the_changes),
		T(a_commit_without_changes_adds_no_layer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
