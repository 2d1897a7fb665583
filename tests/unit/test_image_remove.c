/* Lists, rmi and prune by Docker's rules. */
#include <string.h>

#include "base/id.h"
#include "image_samples.h"

static void lists_and_inspect_show_what_docker_shows(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65];
	load_sample(fixture, "me/app:v1", id);
	assert_ok(gt_image_tag(fixture->images, "me/app:v1", "other", "t", &err), err);
	AUTO_JSON json_t *all = list_images(fixture, false, NULL);
	assert_int_equal(json_array_size(all), 1);
	json_t *one = json_array_get(all, 0);
	assert_int_equal(json_array_size(json_object_get(one, "RepoTags")), 2);
	assert_string_equal(text_at(json_object_get(one, "Labels"), "color"), "blue");
	assert_int_equal(json_integer_value(json_object_get(one, "Created")), 1704164645);
	assert_int_equal(count_listed(fixture, "label", "color=blue"), 1);
	assert_int_equal(count_listed(fixture, "label", "color=red"), 0);
	assert_int_equal(count_listed(fixture, "reference", "me/*"), 1);
	assert_int_equal(count_listed(fixture, "reference", "*"), 1); /* "other": a star does not cross "/" */
	assert_int_equal(count_listed(fixture, "reference", "*/*:v2"), 0);
	assert_int_equal(count_listed(fixture, "dangling", "true"), 0);
	assert_int_equal(count_listed(fixture, "until", "2020-01-01T00:00:00Z"), 0);
	assert_int_equal(count_listed(fixture, "until", "1h"), 1);
	assert_int_equal(count_listed(fixture, "before", id), 0);
	AUTO_JSON json_t *filters = json_pack("{s:[s]}", "bogus", "x");
	assert_null(gt_images_list(fixture->images, false, filters, false, &err));
	assert_int_equal(err.kind, GT_INVALID);

	AUTO_JSON json_t *inspect = gt_image_inspect(fixture->images, id, &err);
	static const char *const fields[] = { "Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "DockerVersion", "Author", "Config",
					      "Architecture", "Os", "Size", "GraphDriver", "RootFS", "Metadata" };
	for (size_t i = 0; i < GT_COUNT(fields); i++) {
		if (!json_object_get(inspect, fields[i]))
			fail_msg("inspect lacks %s", fields[i]);
	}
	assert_string_equal(text_at(inspect, "Created"), "2024-01-02T03:04:05.678Z");
	assert_string_equal(text_at(json_object_get(inspect, "GraphDriver"), "Name"), "overlay");
	assert_int_equal(json_array_size(json_object_get(json_object_get(inspect, "RootFS"), "Layers")), 2);
	int64_t total = 0;
	AUTO_JSON json_t *usage = gt_images_usage(fixture->images, &total, &err);
	assert_true(total > 800000);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(usage, 0), "Containers")), 0);
}

static void assert_refused(struct fixture *fixture, const char *name, bool force, const char *says)
{
	struct gt_error err = { 0 };
	json_t *gone = gt_image_remove(fixture->images, name, force, false, &err);
	if (gone || err.kind != GT_CONFLICT || !strstr(err.message, says))
		fail_msg("rmi %s: %s: %s", name, gt_kind_name(err.kind), err.message);
}

static void references_go_before_the_image(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65];
	load_sample(fixture, "a:1", id);
	assert_ok(gt_image_tag(fixture->images, "a:1", "b:2", NULL, &err), err);
	assert_refused(fixture, id, false, "(must be forced) - image is referenced in multiple repositories");
	AUTO_JSON json_t *first = gt_image_remove(fixture->images, "a:1", false, false, &err);
	assert_int_equal(json_array_size(first), 1);
	assert_string_equal(text_at(json_array_get(first, 0), "Untagged"), "a:1");
	AUTO_JSON json_t *second = gt_image_remove(fixture->images, id, false, false, &err);
	assert_int_equal(json_array_size(second), 4); /* b:2, the image, two layers */
	assert_nothing_left(fixture);
	assert_null(gt_image_remove(fixture->images, "a:1", false, false, &err));
	assert_int_equal(err.kind, GT_NOT_FOUND);
}

static void images_in_use_are_kept(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65], container[65];
	load_sample(fixture, "used:1", id);
	gt_id_new(container);
	assert_ok(gt_image_hold(fixture->images, id, container, &err), err);
	assert_ok(gt_image_layer_create(fixture->images, container, id, NULL, &err), err);
	assert_int_equal(gt_image_holders(fixture->images, id), 1);
	AUTO_FREE char *by_name = gt_xasprintf("conflict: unable to remove repository reference \"used:1\" (must force) - container %.12s "
					       "is using its referenced image %.12s", container, id);
	AUTO_FREE char *by_id = gt_xasprintf("conflict: unable to delete %.12s (must be forced) - image is being used by stopped container "
					     "%.12s", id, container);
	assert_refused(fixture, "used:1", false, by_name);
	assert_refused(fixture, id, false, by_id);
	AUTO_JSON json_t *pruned = gt_images_prune(fixture->images, NULL, &err);
	assert_int_equal(json_array_size(json_object_get(pruned, "ImagesDeleted")), 0);

	/* by force the image goes, the layers stay for the container */
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "used:1", true, false, &err);
	assert_non_null(gone);
	assert_int_equal(gt_images_count(fixture->images), 0);
	assert_int_equal(layers_in_driver(fixture), 3);
	in_layer(fixture, container, "test $(cat etc/more) = more");
	/* also after a restart, when nobody can say which image it was */
	fixture_close(fixture);
	fixture_open(fixture);
	in_layer(fixture, container, "test $(cat etc/more) = more");
	assert_ok(gt_image_layer_remove(fixture->images, container, &err), err);
	assert_nothing_left(fixture);
}

static void releasing_the_last_holder_of_a_removed_image_frees_its_layers(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65], container[65];
	load_sample(fixture, "used:1", id);
	gt_id_new(container);
	assert_ok(gt_image_hold(fixture->images, id, container, &err), err);
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "used:1", true, false, &err);
	assert_int_equal(layers_in_driver(fixture), 2);
	gt_image_release(fixture->images, id, container);
	assert_nothing_left(fixture);
}

static void children_keep_their_parents(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65], child[72], container[65];
	load_sample(fixture, "base:1", id);
	gt_id_new(container);
	assert_ok(gt_image_layer_create(fixture->images, container, id, NULL, &err), err);
	in_layer(fixture, container, "echo x >x");
	struct gt_image_commit how = { .parent = id, .container_layer = container, .container_id = container, .repo = "child" };
	assert_ok(gt_image_commit(fixture->images, &how, child, &err), err);
	assert_ok(gt_image_layer_remove(fixture->images, container, &err), err);
	assert_refused(fixture, id, false, "(cannot be forced) - image has dependent child images");
	assert_refused(fixture, id, true, "(cannot be forced) - image has dependent child images");
	/* its name may go; then it is a step on the way, not shown, and goes with the child */
	AUTO_JSON json_t *untagged = gt_image_remove(fixture->images, "base:1", false, false, &err);
	assert_int_equal(json_array_size(untagged), 1);
	AUTO_JSON json_t *shown = list_images(fixture, false, NULL), *all = list_images(fixture, true, NULL);
	assert_int_equal(json_array_size(shown), 1);
	assert_int_equal(json_array_size(all), 2);
	AUTO_JSON json_t *gone = gt_image_remove(fixture->images, "child", false, false, &err);
	assert_non_null(gone);
	assert_nothing_left(fixture);
}

static void prune_takes_what_has_no_name(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65], other[65];
	struct layer_bytes layers[2];
	AUTO_BUF struct gt_buf archive = { 0 };
	make_layers(layers);
	docker_archive(&archive, layers, 1, NULL, other);
	free_layers(layers);
	load_sample(fixture, "named:1", id);
	assert_ok(load_bytes(fixture, &archive, &err), err);
	AUTO_JSON json_t *pruned = gt_images_prune(fixture->images, NULL, &err);
	assert_int_equal(json_array_size(json_object_get(pruned, "ImagesDeleted")), 1);
	assert_int_equal(gt_images_count(fixture->images), 1);
	AUTO_JSON json_t *filters = json_pack("{s:[s], s:[s]}", "dangling", "false", "label", "color=red");
	AUTO_JSON json_t *none = gt_images_prune(fixture->images, filters, &err);
	assert_int_equal(json_array_size(json_object_get(none, "ImagesDeleted")), 0);
	json_object_del(filters, "label");
	AUTO_JSON json_t *rest = gt_images_prune(fixture->images, filters, &err);
	assert_true(json_integer_value(json_object_get(rest, "SpaceReclaimed")) > 800000);
	assert_nothing_left(fixture);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_make, fixture_remove)
	const struct CMUnitTest tests[] = {
		T(lists_and_inspect_show_what_docker_shows),
		T(references_go_before_the_image),
		T(images_in_use_are_kept),
		T(releasing_the_last_holder_of_a_removed_image_frees_its_layers),
		T(children_keep_their_parents),
		T(prune_takes_what_has_no_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
