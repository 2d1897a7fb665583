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
		{ "[daemon]\nlisten = unix://rel\n", ":2: [daemon] listen: unix://rel is not unix:///PATH" },
		{ "[daemon]\nlisten = unix:///a, tcp://host\n", "tcp://host is not" },
		{ "[daemon]\nlisten = tcp://host:70000\n", "tcp://host:70000 is not" },
		{ "[daemon]\nlisten = http://x:1\n", "http://x:1 is not" },
		{ "[daemon]\nmetrics_addr = 9323\n", ":2: [daemon] metrics_addr: 9323 is not HOST:PORT" },
		{ "[daemon]\nmetrics_addr = localhost:70000\n", "localhost:70000 is not HOST:PORT" },
		{ "[daemon]\nmetrics_addr = ::1:9323\n", "::1:9323 is not HOST:PORT" },
		{ "[daemon]\nmetrics_addr = tcp://127.0.0.1:9323\n", "is not HOST:PORT" },
		{ "[daemon]\nmetrics_addr = 127.0.0.1:\n", "is not HOST:PORT" },
		{ "[daemon]\nlabels = a=b, c\n", ":2: [daemon] labels: c is not key=value" },
		{ "[runtime]\ncgroup_parent = /\n", "/ is not a cgroup of this engine's own" },
		{ "[runtime]\ncgroup_parent = /a/../b\n", "is not a cgroup" },
		{ "[runtime]\ncgroup_parent = /a//b\n", "is not a cgroup" },
		{ "[runtime]\ncgroup_parent = rel\n", "is not an absolute path" },
		{ "[runtime]\nuserns_remap = 100000\n", "is not START:COUNT" },
		{ "[runtime]\nuserns_remap = 0:65536\n", "is not START:COUNT" },
		{ "[runtime]\nuserns_remap = 1:0\n", "is not START:COUNT" },
		{ "[runtime]\nuserns_remap = 1:-1\n", "is not START:COUNT" },
		{ "[runtime]\nuserns_remap = 4294967295:2\n", "is not START:COUNT" },
		{ "[runtime]\nuserns_remap = 1:2:3\n", "is not START:COUNT" },
		{ "[runtime]\ndefault_ulimits = files=5\n", "is not NAME=SOFT" },
		{ "[runtime]\ndefault_ulimits = nofile\n", "is not NAME=SOFT" },
		{ "[runtime]\ndefault_ulimits = nofile=\n", "is not NAME=SOFT" },
		{ "[runtime]\ndefault_ulimits = nofile=5:6x\n", "is not NAME=SOFT" },
		{ "[runtime]\ndefault_ulimits = core=0, nofile=7:6\n", "nofile=7:6: the soft limit is above" },
		{ "[runtime]\ndefault_ulimits = nofile=-1:6\n", "the soft limit is above" },
		{ "[log]\ndriver = splunk\n", ":2: [log] driver: splunk is not one of json-file, local, journald, syslog, none" },
		{ "[network]\nbridge_subnet = 172.17.0.0\n", "is not an IPv4 subnet" },
		{ "[network]\nbridge_subnet = fd00::/64\n", "is not an IPv4 subnet" },
		{ "[network]\nbridge_subnet = 172.17.0.0/33\n", "is not an IPv4 subnet" },
		{ "[network]\nbridge_subnet6 = 172.17.0.0/16\n", "is not an IPv6 subnet" },
		{ "[network]\naddress_pools = 172.17.0.0/12\n", "is not SUBNET size PREFIX" },
		{ "[network]\naddress_pools = 172.17.0.0/12 size 11\n", "is not SUBNET size PREFIX" },
		{ "[network]\naddress_pools = 172.17.0.0/12 size 31\n", "is not SUBNET size PREFIX" },
		{ "[network]\naddress_pools = 172.17.0.0/12 size 16x\n", "is not SUBNET size PREFIX" },
		{ "[network]\ndns = 1.1.1.1, example.org\n", "example.org is not an IPv4 or IPv6 address" },
		{ "[network]\nhost_gateway = gw\n", "gw is not an IPv4 or IPv6 address" },
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

static void values_of_every_form_are_taken(void **state)
{
	AUTO_FREE char *path = write_file(*state, "good.ini",
					  "[daemon]\nlisten = unix:///a, tcp://127.0.0.1:2376, tcp://[::1]:0, fd://\nlabels = a=b, c=\nmetrics_addr = [::1]:9323\n"
					  "[runtime]\ncgroup_parent = /a/b.c\nuserns_remap = 100000:65536\ndefault_ulimits = nofile=1024, core=-1, nproc=5:-1, stack=1:2\n"
					  "[log]\ndriver = local\n[network]\nbridge_subnet = 10.9.0.0/16\nbridge_subnet6 = fd00:9::/64\n"
					  "address_pools = 10.10.0.0/16 size 24, fd00::/8 size 64\ndns = 1.1.1.1, ::1\nhost_gateway = 10.0.0.1\n");
	struct gt_config *config = NULL;
	struct gt_error err = { 0 };
	if (gt_config_load(path, true, &config, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(config->listen.count, 4);
	assert_int_equal(config->default_ulimits.count, 4);
	assert_int_equal(config->address_pools.count, 2);
	gt_config_free(config);
}

static void hostile_files_are_bounded(void **state)
{
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_config *config = NULL;
	struct gt_error err = { 0 };
	gt_buf_str(&text, "[daemon]\nlabels = ");
	for (int i = 0; i < 100000; i++)
		gt_buf_char(&text, 'x');
	gt_buf_str(&text, "\n");
	AUTO_FREE char *path = write_file(*state, "long.ini", text.data);
	assert_int_equal(gt_config_load(path, true, &config, &err), -1);
	assert_non_null(strstr(err.message, ":2: the line is longer than"));
	gt_buf_reset(&text);
	gt_buf_str(&text, "[daemon]\n");
	for (int i = 0; i < 2000; i++)
		gt_buf_printf(&text, "unknown_key_%d = 1\n", i);
	AUTO_FREE char *many = write_file(*state, "many.ini", text.data);
	assert_int_equal(gt_config_load(many, true, &config, &err), -1);
	assert_true(strlen(err.message) < sizeof err.message);
	AUTO_FREE char *missing = gt_xasprintf("%s/no/such/dir/x.ini", (char *)*state);
	assert_int_equal(gt_config_load(missing, true, &config, &err), -1);
	assert_int_equal(gt_config_load(*state, true, &config, &err), -1); /* a directory */
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
		cmocka_unit_test_setup_teardown(values_of_every_form_are_taken, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(hostile_files_are_bounded, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(all_mistakes_of_a_file_are_told_at_once, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(what_is_printed_can_be_read_again, scratch_make, scratch_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
