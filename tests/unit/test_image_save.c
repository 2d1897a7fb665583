/* save: the bytes that were loaded come out again; readers that go away; nothing stays open. */
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "image_samples.h"

static void save_and_load_give_equal_ids_and_bytes(void **state)
{
	struct fixture *fixture = *state;
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	AUTO_BUF struct gt_buf saved = { 0 };
	AUTO_BUF struct gt_buf again = { 0 };
	struct gt_error err = { 0 };
	struct gt_image image;
	char id[65];
	make_layers(layers);
	docker_archive(&archive, layers, 2, "round:trip", id);
	assert_ok(load_bytes(fixture, &archive, &err), err);
	struct gt_strings names = { 0 };
	gt_strings_add(&names, "round");
	assert_ok(drain(gt_image_save(fixture->images, &names, &err), &saved, &err), err);
	/* both layers are in it byte for byte */
	for (size_t i = 0; i < 2; i++)
		assert_non_null(memmem(saved.data, saved.len, layers[i].tar.data, layers[i].tar.len));
	free_layers(layers);

	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "round:trip", false, false, &err);
	assert_non_null(gone);
	assert_nothing_left(fixture);
	assert_ok(load_bytes(fixture, &saved, &err), err);
	assert_ok(gt_image_find(fixture->images, "round:trip", &image, &err), err);
	assert_string_equal(image.id + 7, id);
	gt_image_free(&image);
	assert_ok(drain(gt_image_save(fixture->images, &names, &err), &again, &err), err);
	assert_int_equal(saved.len, again.len);
	assert_memory_equal(saved.data, again.data, saved.len);
	gt_strings_free(&names);
}

/* The same stream is an OCI layout: without manifest.json it still loads. */
static void a_saved_image_is_an_oci_layout_too(void **state)
{
	struct fixture *fixture = *state;
	AUTO_BUF struct gt_buf saved = { 0 };
	struct gt_error err = { 0 };
	struct gt_image image;
	char id[65];
	load_sample(fixture, "both:1", id);
	struct gt_strings names = { 0 };
	gt_strings_add(&names, "both:1");
	assert_ok(drain(gt_image_save(fixture->images, &names, &err), &saved, &err), err);
	gt_strings_free(&names);
	char *manifest = memmem(saved.data, saved.len, "manifest.json\0\0", 15);
	assert_non_null(manifest);
	unsigned char *sum = (unsigned char *)manifest + 148;
	manifest[0] = 'n'; /* the checksum's last digit follows */
	for (int i = 5; i >= 0; i--) {
		if (sum[i] == '7') {
			sum[i] = '0';
			continue;
		}
		sum[i]++;
		break;
	}
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, id, false, false, &err);
	assert_non_null(gone);
	assert_ok(load_bytes(fixture, &saved, &err), err);
	assert_ok(gt_image_find(fixture->images, "both:1", &image, &err), err);
	assert_string_equal(image.id + 7, id);
	gt_image_free(&image);
}

static void save_refuses_what_is_not_there_before_it_streams(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gt_strings names = { 0 };
	gt_strings_add(&names, "nothing");
	assert_null(gt_image_save(fixture->images, &names, &err));
	assert_int_equal(err.kind, GT_NOT_FOUND);
	gt_strings_free(&names);
}

static void a_reader_that_goes_away_ends_save(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65], bytes[100];
	load_sample(fixture, "left:1", id);
	struct gt_strings names = { 0 };
	gt_strings_add(&names, "left:1");
	struct gt_stream *stream = gt_image_save(fixture->images, &names, &err);
	gt_strings_free(&names);
	assert_non_null(stream);
	assert_true(gt_stream_read(stream, bytes, sizeof bytes, 10000, &err) > 0);
	gt_stream_close(stream);
	/* the thread gives its layers back soon */
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "left:1", false, false, &err);
	assert_non_null(gone);
	for (int i = 0; i < 3000 && (layers_in_driver(fixture) || count_files(fixture, "images/layers")); i++)
		usleep(10000);
	assert_nothing_left(fixture);
}

static void no_descriptor_is_left_open(void **state)
{
	struct fixture *fixture = *state;
	char id[65];
	struct gt_error err = { 0 };
	load_sample(fixture, "x:1", id);
	int before = open_fds();
	for (int i = 0; i < 3; i++) {
		AUTO_BUF struct gt_buf saved = { 0 };
		struct gt_strings names = { 0 };
		gt_strings_add(&names, "x:1");
		assert_ok(drain(gt_image_save(fixture->images, &names, &err), &saved, &err), err);
		gt_strings_free(&names);
		AUTO_JSON json_t *gone = gt_image_remove(fixture->images, id, false, false, &err);
		assert_ok(load_bytes(fixture, &saved, &err), err);
	}
	/* the storage driver removes files on the side, and has directories open meanwhile */
	assert_int_equal(open_fds_settled(before), before);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_make, fixture_remove)
	const struct CMUnitTest tests[] = {
		T(save_and_load_give_equal_ids_and_bytes),
		T(a_saved_image_is_an_oci_layout_too),
		T(save_refuses_what_is_not_there_before_it_streams),
		T(a_reader_that_goes_away_ends_save),
		T(no_descriptor_is_left_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
