/* Images: in by load, import and commit; out by save; found, listed, tagged, removed; and what a crash leaves. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "image_fixture.h"

/* ---- archives that the tests share ---- */

/* Two layers with everything that makes a tar hard to rebuild: replaced files, links, pax headers, whiteouts, padding at the end. */
static void make_layers(struct layer_bytes layers[2])
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

static void free_layers(struct layer_bytes layers[2])
{
	gt_buf_free(&layers[0].tar);
	gt_buf_free(&layers[1].tar);
}

static void load_sample(struct fixture *fixture, const char *tag, char id[65])
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

static size_t layers_in_driver(struct fixture *fixture)
{
	size_t count = 0;
	struct gt_error err = { 0 };
	assert_ok(gt_layer_list(fixture->storage, count_one, &count, &err), err);
	return count;
}

static void assert_nothing_left(struct fixture *fixture)
{
	assert_int_equal(gt_images_count(fixture->images), 0);
	assert_int_equal(layers_in_driver(fixture), 0);
	assert_int_equal(count_files(fixture, "images/configs"), 0);
	assert_int_equal(count_files(fixture, "images/meta"), 0);
	assert_int_equal(count_files(fixture, "images/layers"), 0);
	assert_int_equal(count_files(fixture, "images/recipes"), 0);
	assert_int_equal(count_files(fixture, "images/spool"), 0);
}

static json_t *list(struct fixture *fixture, bool all, json_t *filters)
{
	struct gt_error err = { 0 };
	json_t *result = gt_images_list(fixture->images, all, filters, true, &err);
	json_decref(filters);
	if (!result)
		fail_msg("%s", err.message);
	return result;
}

static size_t count_listed(struct fixture *fixture, const char *key, const char *value)
{
	AUTO_JSON json_t *result = list(fixture, false, json_pack("{s:[s]}", key, value));
	return json_array_size(result);
}

static const char *text_at(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));
	return text ? text : "(none)";
}

/* Works in the view of a layer, mounted in a mount namespace of a child's. */
static void in_layer(struct fixture *fixture, const char *layer, const char *script)
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

/* ---- load ---- */

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
	assert_ok(gt_image_load(fixture->images, in, NULL, &loaded, &err), err);
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
	assert_ok(gt_image_load(fixture->images, first, &progress, NULL, &err), err);
	assert_ok(gt_image_load(fixture->images, second, &progress, NULL, &err), err);
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
	job->rc = gt_image_load(job->fixture->images, fd, NULL, NULL, &job->err);
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

/* ---- save ---- */

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
	for (int i = 0; i < 500 && (layers_in_driver(fixture) || count_files(fixture, "images/layers")); i++)
		usleep(10000);
	assert_nothing_left(fixture);
}

/* ---- import and commit ---- */

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

/* ---- lists ---- */

static void lists_and_inspect_show_what_docker_shows(void **state)
{
	struct fixture *fixture = *state;
	struct gt_error err = { 0 };
	char id[65];
	load_sample(fixture, "me/app:v1", id);
	assert_ok(gt_image_tag(fixture->images, "me/app:v1", "other", "t", &err), err);
	AUTO_JSON json_t *all = list(fixture, false, NULL);
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

/* ---- removal ---- */

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
	AUTO_JSON json_t *shown = list(fixture, false, NULL), *all = list(fixture, true, NULL);
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

/* ---- restarts and crashes ---- */

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
	assert_int_equal(open_fds(), before);
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
		T(save_and_load_give_equal_ids_and_bytes),
		T(a_saved_image_is_an_oci_layout_too),
		T(save_refuses_what_is_not_there_before_it_streams),
		T(a_reader_that_goes_away_ends_save),
		T(a_root_file_system_is_imported),
		T(commit_makes_a_layer_of_the_changes),
		T(a_commit_without_changes_adds_no_layer),
		T(lists_and_inspect_show_what_docker_shows),
		T(references_go_before_the_image),
		T(images_in_use_are_kept),
		T(releasing_the_last_holder_of_a_removed_image_frees_its_layers),
		T(children_keep_their_parents),
		T(prune_takes_what_has_no_name),
		T(everything_is_there_after_a_restart),
		T(a_damaged_config_is_put_aside),
		T(a_killed_load_leaves_nothing),
		T(the_embedded_image_comes_once),
		T(no_descriptor_is_left_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
