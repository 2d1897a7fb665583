/* load: Docker archives and OCI layouts, whole, damaged and wrong; several loads at once. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "image_samples.h"

static void a_docker_archive_is_loaded_with_its_id(void **state)
{
	struct fixture *fixture = *state;
	char id[65], prefix[13];
	struct gt_image image;
	struct gt_error err = { 0 };
	load_sample(fixture, "registry.test:5000/me/app:v1", id);
	snprintf(prefix, sizeof prefix, "%.12s", id);
	const char *const names[] = { id, prefix, "registry.test:5000/me/app:v1" };
	for (size_t i = 0; i < GT_COUNT(names); i++) {
		assert_ok(gt_image_find(fixture->images, names[i], &image, &err), err);
		assert_string_equal(image.id + 7, id);
		assert_string_equal(image.architecture, "amd64");
		assert_string_equal(image.config.cmd.items[0], "/bin/x");
		assert_int_equal(image.diff_ids.count, 2);
		assert_true(image.size > 800000);
		gt_image_free(&image);
	}
	assert_fails(gt_image_find(fixture->images, "nothing", &image, &err), err, GT_NOT_FOUND, "No such image: nothing:latest");
	assert_fails(gt_image_find(fixture->images, "Bad Name", &image, &err), err, GT_INVALID, "invalid reference format");
	assert_int_equal(layers_in_driver(fixture), 2);
}

static void a_stream_is_spooled_and_loaded(void **state)
{
	struct fixture *fixture = *state;
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	AUTO_BUF struct gt_buf packed = { 0 };
	AUTO_JSON json_t *loaded = NULL;
	struct gt_error err = { 0 };
	char id[65];
	make_layers(layers);
	layers[0].pack = GZIP;
	layers[1].pack = ZSTD;
	docker_archive(&archive, layers, 2, "a:b", id);
	free_layers(layers);
	gzip_of(&archive, &packed);
	AUTO_CLOSE int in = pipe_of(&packed);
	assert_ok(gt_image_load(fixture->images, in, NULL, NULL, &loaded, &err), err);
	assert_string_equal(json_string_value(json_array_get(loaded, 0)), "a:b");
	assert_int_equal(layers_in_driver(fixture), 2);
	assert_int_equal(count_files(fixture, "images/spool"), 0);
}

static void an_oci_layout_with_nested_indexes_is_loaded(void **state)
{
	struct fixture *fixture = *state;
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	struct gt_error err = { 0 };
	struct gt_image image;
	char id[65];
	make_layers(layers);
	layers[0].pack = ZSTD;
	layers[1].pack = GZIP;
	oci_layout(&archive, layers, 2, "example.com/x:y", id);
	free_layers(layers);
	assert_ok(load_bytes(fixture, &archive, &err), err);
	assert_ok(gt_image_find(fixture->images, "example.com/x:y", &image, &err), err);
	assert_string_equal(image.id + 7, id);
	gt_image_free(&image);
}

static void note(void *arg, json_t *message)
{
	const char *text = json_string_value(json_object_get(message, "stream"));
	if (text)
		gt_buf_str(arg, text);
}

static void load_tells_what_docker_tells(void **state)
{
	struct fixture *fixture = *state;
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	AUTO_BUF struct gt_buf other = { 0 };
	AUTO_BUF struct gt_buf told = { 0 };
	struct gt_progress progress = { .emit = note, .arg = &told };
	struct gt_error err = { 0 };
	char id[65], old[65];
	make_layers(layers);
	docker_archive(&archive, layers, 2, "app:1", old);
	docker_archive(&other, layers, 1, "app:1", id);
	free_layers(layers);
	AUTO_CLOSE int first = fd_of(&archive), second = fd_of(&other);
	assert_ok(gt_image_load(fixture->images, first, NULL, &progress, NULL, &err), err);
	assert_ok(gt_image_load(fixture->images, second, NULL, &progress, NULL, &err), err);
	AUTO_FREE char *expected = gt_xasprintf("Loaded image: app:1\nThe image app:1 already exists, renaming the old one with ID "
						"sha256:%s to empty string\nLoaded image: app:1\n", old);
	assert_string_equal(told.data, expected);
	assert_int_equal(gt_images_count(fixture->images), 2);
	assert_int_equal(count_listed(fixture, "dangling", "true"), 1);
	assert_int_equal(layers_in_driver(fixture), 2); /* the first layer is shared */
}

static void a_damaged_layer_is_refused_and_nothing_is_left(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	for (int pack = PLAIN; pack <= ZSTD; pack++) {
		struct layer_bytes layers[2];
		AUTO_BUF struct gt_buf archive = { 0 };
		char id[65];
		make_layers(layers);
		layers[1].pack = (enum pack)pack;
		oci_layout(&archive, layers, 2, "x:y", id);
		free_layers(layers);
		/* a byte of the second layer's blob: behind the first blob's header, content and padding */
		size_t at = 512 + 512, blobs = 0;
		for (size_t block = 0; block + 512 < archive.len && blobs < 3; block += 512) {
			if (memcmp(archive.data + block, "blobs/sha256/", 13) == 0 && ++blobs == 2)
				at = block + 512 + 140;
		}
		archive.data[at] ^= 0x40;
		gt_error_clear(&err);
		assert_int_equal(load_bytes(fixture, &archive, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		assert_nothing_left(fixture);
	}
}

static void wrong_archives_are_refused_with_a_reason(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	static const struct {
		const char *manifest, *config, *says;
	} bad[] = {
		{ "[{\"Config\":\"c\",\"Layers\":[\"missing\"]}]", "{\"rootfs\":{\"diff_ids\":[]}}", "lacks layer \"missing\"" },
		{ "[{\"Config\":\"nope\",\"Layers\":[]}]", "{}", "no file \"nope\"" },
		{ "[{\"Config\":\"../../etc/passwd\",\"Layers\":[]}]", "{}", "no file" },
		{ "{}", "{}", "not a list" },
		{ "[7]", "{}", "no file" },
		{ "[{\"Config\":\"c\",\"Layers\":[\"c\"]}]", "{\"rootfs\":{\"diff_ids\":[]}}", "1 layers, the config 0" },
		{ "[{\"Config\":\"c\",\"Layers\":[\"c\"]}]", "{\"rootfs\":{\"diff_ids\":[\"sha256:xyz\"]}}", "not a sha256" },
		{ "[{\"Config\":\"c\",\"Layers\":[]}]", "[]", "not a JSON object" },
		{ "[{\"Config\":\"c\",\"Layers\":[]}]", "{\"config\":{\"Env\":{\"a\":1}}}", "Env" },
		{ "[{\"Config\":\"c\",\"Layers\":[]}]", "{\"config\":7}", "config" },
		{ "[{\"Config\":\"c\",\"Layers\":[]}]", "{\"history\":[1]}", "history" },
		{ "[{\"Config\":\"c\",\"RepoTags\":[\"UP\"],\"Layers\":[]}]", "{}", "lowercase" },
		{ "[{\"Config\":\"c\",\"RepoTags\":[1],\"Layers\":[]}]", "{}", "RepoTags" },
		{ "not json", "{}", "JSON" },
	};
	for (size_t i = 0; i < GT_COUNT(bad); i++) {
		AUTO_BUF struct gt_buf archive = { 0 };
		TAR(&archive, { .name = "c", .type = '0', .data = bad[i].config },
		    { .name = "manifest.json", .type = '0', .data = bad[i].manifest });
		gt_error_clear(&err);
		assert_int_equal(load_bytes(fixture, &archive, &err), -1);
		if (!strstr(err.message, bad[i].says))
			fail_msg("%s: %s", bad[i].manifest, err.message);
	}
	AUTO_BUF struct gt_buf rootfs = { 0 };
	TAR(&rootfs, { .name = "etc/passwd", .type = '0', .data = "x" });
	assert_fails(load_bytes(fixture, &rootfs, &err), err, GT_INVALID, "import");
	AUTO_BUF struct gt_buf old = { 0 };
	TAR(&old, { .name = "repositories", .type = '0', .data = "{}" });
	assert_fails(load_bytes(fixture, &old, &err), err, GT_UNSUPPORTED, "before 1.10");
	AUTO_BUF struct gt_buf out = { 0 };
	TAR(&out, { .name = "../manifest.json", .type = '0', .data = "[]" });
	assert_fails(load_bytes(fixture, &out, &err), err, GT_INVALID, "leads out");
}

static void an_image_without_layers_is_allowed(void **state)
{
	struct fixture *fixture = *state;
	AUTO_BUF struct gt_buf archive = { 0 };
	AUTO_BUF struct gt_buf saved = { 0 };
	struct gt_error err = { 0 };
	struct gt_image image;
	char id[65], container[65];
	docker_archive(&archive, NULL, 0, "scratchy", id);
	assert_ok(load_bytes(fixture, &archive, &err), err);
	assert_ok(gt_image_find(fixture->images, "scratchy", &image, &err), err);
	assert_string_equal(image.top_layer, "");
	gt_id_new(container);
	assert_ok(gt_image_hold(fixture->images, image.id, container, &err), err);
	assert_ok(gt_image_layer_create(fixture->images, container, image.id, NULL, &err), err);
	assert_ok(gt_image_layer_remove(fixture->images, container, &err), err);
	gt_image_release(fixture->images, image.id, container);
	gt_image_free(&image);
	struct gt_strings names = { 0 };
	gt_strings_add(&names, "scratchy");
	assert_ok(drain(gt_image_save(fixture->images, &names, &err), &saved, &err), err);
	gt_strings_free(&names);
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "scratchy", false, false, &err);
	assert_int_equal(json_array_size(gone), 2);
	assert_nothing_left(fixture);
}

/* Neither a directory that a layer takes for granted nor a hard link's target need be in the layer itself. */
static void a_layer_may_lean_on_those_below(void **state)
{
	struct fixture *fixture = *state;
	struct layer_bytes layers[3] = { 0 };
	AUTO_BUF struct gt_buf archive = { 0 };
	AUTO_BUF struct gt_buf saved = { 0 };
	struct gt_error err = { 0 };
	char id[65], container[65];
	TAR(&layers[0].tar, { .name = "opt/", .type = '5', .mode = 01770, .uid = 5, .gid = 6, .pax = "SCHILY.xattr.user.k=v" },
	    { .name = "opt/f", .type = '0', .mode = 0640, .uid = 7, .data = "below" });
	TAR(&layers[1].tar, { .name = "opt/new", .type = '0', .data = "n" });
	TAR(&layers[2].tar, { .name = "link", .type = '1', .link = "opt/f" }, { .name = "opt/sub/x", .type = '0', .data = "x" });
	docker_archive(&archive, layers, 3, "lean:1", id);
	for (size_t i = 0; i < 3; i++)
		gt_buf_free(&layers[i].tar);
	assert_ok(load_bytes(fixture, &archive, &err), err);
	gt_id_new(container);
	assert_ok(gt_image_layer_create(fixture->images, container, id, NULL, &err), err);
	in_layer(fixture, container, "test $(stat -c %a:%u:%g opt) = 1770:5:6; test $(cat link) = below; test $(stat -c %a:%u link) = 640:7; "
				     "test $(stat -c %a opt/sub) = 755; test $(cat opt/new) = n; test $(cat opt/f) = below");
	assert_ok(gt_image_layer_remove(fixture->images, container, &err), err);
	struct gt_strings names = { 0 };
	gt_strings_add(&names, "lean:1");
	assert_ok(drain(gt_image_save(fixture->images, &names, &err), &saved, &err), err);
	gt_strings_free(&names);
}

struct parallel {
	struct fixture *fixture;
	const struct gt_buf *archive;
	struct gt_error err;
	int rc;
};

static void *load_in_thread(void *arg)
{
	struct parallel *job = arg;
	AUTO_CLOSE int fd = fd_of(job->archive);
	job->rc = gt_image_load(job->fixture->images, fd, NULL, NULL, NULL, &job->err);
	return NULL;
}

static void loads_of_one_layer_meet(void **state)
{
	struct fixture *fixture = *state;
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	char id[65];
	make_layers(layers);
	docker_archive(&archive, layers, 2, "same:1", id);
	free_layers(layers);
	struct parallel jobs[4] = { 0 };
	pthread_t threads[4];
	for (size_t i = 0; i < 4; i++) {
		jobs[i] = (struct parallel){ .fixture = fixture, .archive = &archive };
		pthread_create(&threads[i], NULL, load_in_thread, &jobs[i]);
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < 4; i++)
		assert_ok(jobs[i].rc, jobs[i].err);
	assert_int_equal(gt_images_count(fixture->images), 1);
	assert_int_equal(layers_in_driver(fixture), 2);
	struct gt_error err = { 0 };
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "same:1", false, false, &err);
	assert_non_null(gone);
	assert_nothing_left(fixture);
}

static void the_embedded_image_comes_once(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct gt_image image;
	AUTO_FREE char *path = built("share/busybox.tar");
	assert_fails(gt_images_load_embedded(fixture->images, "/not/there", &err), err, GT_NOT_FOUND, "/not/there");
	assert_ok(gt_images_load_embedded(fixture->images, path, &err), err);
	assert_ok(gt_image_find(fixture->images, "gantry/busybox", &image, &err), err);
	assert_string_equal(image.config.cmd.items[0], "sh");
	gt_image_free(&image);
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "gantry/busybox", false, false, &err);
	assert_non_null(gone);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_ok(gt_images_load_embedded(fixture->images, path, &err), err);
	assert_fails(gt_image_find(fixture->images, "gantry/busybox", &image, &err), err, GT_NOT_FOUND, "No such image");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_make, fixture_remove)
	const struct CMUnitTest tests[] = {
		T(a_docker_archive_is_loaded_with_its_id),
		T(a_stream_is_spooled_and_loaded),
		T(an_oci_layout_with_nested_indexes_is_loaded),
		T(load_tells_what_docker_tells),
		T(a_damaged_layer_is_refused_and_nothing_is_left),
		T(wrong_archives_are_refused_with_a_reason),
		T(an_image_without_layers_is_allowed),
		T(a_layer_may_lean_on_those_below),
		T(loads_of_one_layer_meet),
		T(the_embedded_image_comes_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
