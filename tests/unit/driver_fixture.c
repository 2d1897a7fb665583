#include "driver_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fshelper/fs.h"

bool drivers_isolated;

int run_both(const char *name, const struct CMUnitTest *tests, size_t count)
{
	AUTO_FREE char *isolated = gt_xasprintf("%s, isolated", name);
	int failed = _cmocka_run_group_tests(name, tests, count, NULL, NULL);
	drivers_isolated = true;
	return failed + _cmocka_run_group_tests(isolated, tests, count, NULL, NULL);
}

int drivers_make(void **state)
{
	struct drivers_fixture *fixture = gt_xcalloc(1, sizeof *fixture);
	void *dir = NULL;
	gt_log_set_level(GT_ERROR);
	if (scratch_make(&dir) < 0) {
		free(fixture);
		return -1;
	}
	fixture->dir = dir;
	AUTO_FREE char *plugins = gt_xasprintf("%s/plugins", fixture->dir);
	*state = fixture;
	return mkdir(plugins, 0755);
}

int drivers_remove(void **state)
{
	struct drivers_fixture *fixture = *state;
	stop_drivers(fixture);
	void *dir = fixture->dir;
	int rc = scratch_remove(&dir);
	gt_strings_free(&fixture->planted);
	free(fixture);
	*state = NULL;
	return rc;
}

void plant_plugin(struct drivers_fixture *fixture, const char *built_file, const char *as)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf bytes = { 0 };
	AUTO_FREE char *from = built(built_file), *to = gt_xasprintf("%s/plugins", fixture->dir);
	AUTO_CLOSE int dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(gt_read_file(AT_FDCWD, from, 64u << 20, &bytes, &err), err);
	assert_ok(gt_replace_file(dir, as, bytes.data, bytes.len, 0644, false, &err), err);
	AUTO_FREE char *name = gt_xstrndup(as, strcspn(as, "."));
	for (size_t i = 0; i < fixture->planted.count; i++) {
		if (strcmp(fixture->planted.items[i], name) == 0)
			return;
	}
	gt_strings_add(&fixture->planted, name);
}

void configure_drivers(struct drivers_fixture *fixture, const char *more)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf text = { 0 };
	AUTO_FREE char *path = gt_xasprintf("%s/gantryd.ini", fixture->dir);
	gt_buf_printf(&text, "[daemon]\nroot = %s/root\nrun = %s/run\nplugin_dir = %s/plugins\n%s", fixture->dir, fixture->dir, fixture->dir, more);
	AUTO_FREE char *programs = fixture->programs ? gt_xstrdup(fixture->programs) : built("libexec");
	gt_buf_printf(&text, "\n[daemon]\nlibexec_dir = %s\n", programs);
	for (size_t i = 0; drivers_isolated && i < fixture->planted.count; i++)
		gt_buf_printf(&text, "[plugin.%s]\nisolate = process\n", fixture->planted.items[i]);
	AUTO_CLOSE int dir = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(gt_replace_file(dir, "gantryd.ini", text.data, text.len, 0644, false, &err), err);
	if (fixture->config)
		gt_config_free(take(fixture->config));
	assert_ok(gt_config_load(path, true, &fixture->config, &err), err);
}

int load_drivers(struct drivers_fixture *fixture, struct gt_error *err)
{
	return gt_drivers_load(fixture->config, NULL, NULL, NULL, &fixture->drivers, err);
}

void start_drivers(struct drivers_fixture *fixture, const char *more)
{
	struct gt_error err = { 0 };
	configure_drivers(fixture, more);
	assert_ok(load_drivers(fixture, &err), err);
}

void stop_drivers(struct drivers_fixture *fixture)
{
	if (fixture->drivers)
		gt_drivers_free(take(fixture->drivers));
	if (fixture->config)
		gt_config_free(take(fixture->config));
}

char *refusal_of(struct drivers_fixture *fixture, const char *file)
{
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	AUTO_FREE char *path = gt_xasprintf("%s/plugins/%s", fixture->dir, file);
	size_t i;
	json_t *entry;
	json_array_foreach(json_object_get(all, "Refused"), i, entry) {
		if (strcmp(json_string_value(json_object_get(entry, "Path")), path) == 0)
			return gt_xstrdup(json_string_value(json_object_get(entry, "Reason")));
	}
	return NULL;
}

void own_mounts(void)
{
	static bool done;
	struct gt_error err = { 0 };
	if (!done)
		assert_ok(fs_private_namespace(&err), err);
	done = true;
}

int perform(const struct gantry_mount *mount)
{
	struct gt_error err = { 0 };
	own_mounts();
	AUTO_JSON json_t *spec = json_pack("{s:s, s:s, s:s}", "type", mount->type, "source", mount->source, "options", mount->options);
	int fd = fs_mount(spec, &err);
	assert_ok(fd, err);
	return fd;
}

void put_file(int dirfd, const char *path, const char *text)
{
	AUTO_CLOSE int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || gt_write_full(fd, text, strlen(text)) < 0)
		fail_msg("write %s: %s", path, strerror(errno));
}

void put_dir(int dirfd, const char *path, mode_t mode)
{
	if (mkdirat(dirfd, path, mode) < 0 || fchmodat(dirfd, path, mode, 0) < 0)
		fail_msg("mkdir %s: %s", path, strerror(errno));
}

char *get_file(int dirfd, const char *path)
{
	struct gt_buf text = { 0 };
	if (gt_read_file(dirfd, path, 1 << 20, &text, NULL) < 0) {
		gt_buf_free(&text);
		return gt_xstrdup("(none)");
	}
	return gt_buf_take(&text);
}

bool exists(int dirfd, const char *path)
{
	struct stat st;
	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
