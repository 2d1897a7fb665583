#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/buf.h"
#include "config/config.h"

static char *write_file(const char *dir, const char *name, const char *text)
{
	char *path = gt_xasprintf("%s/%s", dir, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return path;
}

static void defaults_hold_without_any_file(void **state)
{
	AUTO_FREE char *path = gt_xasprintf("%s/none.ini", (char *)*state);
	struct gt_config *config = NULL;
	assert_int_equal(gt_config_load(path, false, &config, NULL), 0);
	assert_string_equal(config->root, "/var/lib/gantry");
	assert_int_equal(config->shm_size, 64 << 20);
	assert_int_equal(config->listen.count, 1);
	assert_true(config->fsync && !config->insecure_tcp);
	gt_config_free(config);
	struct gt_error err = { 0 };
	assert_int_equal(gt_config_load(path, true, &config, &err), -1);
	assert_non_null(strstr(err.message, "none.ini"));
}

static void drop_ins_follow_in_name_order_and_replace_lists(void **state)
{
	AUTO_FREE char *path = write_file(*state, "gantryd.ini", "[daemon]\nlisten = unix:///a, unix:///b\nlog_level = debug\n");
	AUTO_FREE char *drop = gt_xasprintf("%s/conf.d", (char *)*state);
	mkdir(drop, 0700);
	AUTO_FREE char *second = write_file(drop, "20-b.ini", "[daemon]\nlisten = unix:///d\nlisten = unix:///e\n[plugin.bridge]\nmtu = 1400\n");
	AUTO_FREE char *first = write_file(drop, "10-a.ini", "[daemon]\nlisten = unix:///c\n[runtime]\nshm_size = 1g\n");
	AUTO_FREE char *ignored = write_file(drop, "30-c.ini.bak", "rubbish\n");
	struct gt_config *config = NULL;
	assert_int_equal(gt_config_load(path, true, &config, NULL), 0);
	assert_int_equal(config->listen.count, 2);
	assert_string_equal(config->listen.items[0], "unix:///d");
	assert_string_equal(config->listen.items[1], "unix:///e");
	assert_int_equal(config->log_level, GT_DEBUG);
	assert_int_equal(config->shm_size, 1 << 30);
	assert_int_equal(config->plugin_setting_count, 1);
	assert_string_equal(config->plugin_settings[0].plugin, "bridge");
	assert_int_equal(config->plugin_settings[0].line, 5);
	gt_config_free(config);
}

static void every_mistake_is_told_with_its_line(void **state)
{
	static const struct { const char *text, *complaint; } CASES[] = {
		{ "[daemon]\nrot = /x\n", ":2: unknown key rot in section [daemon]" },
		{ "[demon]\nroot = /x\n", ":2: unknown section [demon]" },
		{ "root = /x\n", ":1: key root stands before the first [section]" },
		{ "\n\n[daemon]\nroot = x\n", ":4: [daemon] root: x is not an absolute path" },
		{ "[daemon]\ninsecure_tcp = maybe\n", ":2: [daemon] insecure_tcp: maybe is neither yes nor no" },
		{ "[daemon]\nlog_level = loud\n", ":2: [daemon] log_level: loud is not one of debug, info, warn, error" },
		{ "[runtime]\nshm_size = 12x\n", ":2: [runtime] shm_size: 12x is not a size" },
		{ "[runtime]\nshm_size = 99999999999g\n", ":2: [runtime] shm_size" },
		{ "[daemon]\nmax_connections = 1\n", ":2: [daemon] max_connections: 1 is out of range 8 to 65536" },
		{ "[daemon]\nnonsense\n", ":2: this is neither [section], key = value, nor a comment" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_FREE char *path = write_file(*state, "bad.ini", CASES[i].text);
		struct gt_config *config = NULL;
		struct gt_error err = { 0 };
		assert_int_equal(gt_config_load(path, true, &config, &err), -1);
		assert_int_equal(err.kind, GT_INVALID);
		if (!strstr(err.message, CASES[i].complaint))
			fail_msg("wanted \"%s\" in \"%s\"", CASES[i].complaint, err.message);
	}
}

static void all_mistakes_of_a_file_are_told_at_once(void **state)
{
	AUTO_FREE char *path = write_file(*state, "bad.ini", "[daemon]\na = 1\nb = 2\n");
	struct gt_config *config = NULL;
	struct gt_error err = { 0 };
	assert_int_equal(gt_config_load(path, true, &config, &err), -1);
	assert_non_null(strstr(err.message, ":2: unknown key a"));
	assert_non_null(strstr(err.message, ":3: unknown key b"));
}

static void what_is_printed_can_be_read_again(void **state)
{
	AUTO_FREE char *path = write_file(*state, "gantryd.ini",
					  "[daemon]\nlabels = a=b, c=d\n[runtime]\ninit = on\n[plugin.x]\nkey = value\n");
	struct gt_config *config = NULL;
	assert_int_equal(gt_config_load(path, true, &config, NULL), 0);
	AUTO_BUF struct gt_buf first = { 0 }, second = { 0 };
	gt_config_print(config, &first);
	gt_config_free(config);
	assert_non_null(strstr(first.data, "labels = a=b, c=d\n"));
	assert_non_null(strstr(first.data, "# run gantry-init as PID 1 of every container"));
	AUTO_FREE char *again = write_file(*state, "again.ini", first.data);
	assert_int_equal(gt_config_load(again, true, &config, NULL), 0);
	gt_config_print(config, &second);
	gt_config_free(config);
	assert_string_equal(first.data, second.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(defaults_hold_without_any_file, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(drop_ins_follow_in_name_order_and_replace_lists, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(every_mistake_is_told_with_its_line, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(all_mistakes_of_a_file_are_told_at_once, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(what_is_printed_can_be_read_again, scratch_make, scratch_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
