/* The driver "cni" with plugins that go wrong: programs of the test's own, which write down how they were called and play the faults that a test asks for. What
 * real plugins do is tried by tests/integration/test_cni.py. */
#include "bridge_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* %1$s: the scratch directory, %2$s: the program's name. A fault is a file of shell commands. */
#define PROGRAM                                                                                                                            \
	"#!/bin/sh\n"                                                                                                                      \
	"echo \"$CNI_COMMAND %2$s\" >>%1$s/calls\n"                                                                                        \
	"cat >%1$s/%2$s.$CNI_COMMAND\n"                                                                                                    \
	"[ -e %1$s/fault.%2$s.$CNI_COMMAND ] && . %1$s/fault.%2$s.$CNI_COMMAND\n"                                                          \
	"case $CNI_COMMAND in\n"                                                                                                           \
	"VERSION) echo '{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"0.3.1\", \"1.0.0\", \"1.1.0\"]}' ;;\n"                         \
	"ADD) echo '{\"cniVersion\": \"1.0.0\", \"ips\": [{\"address\": \"10.9.0.7/24\", \"gateway\": \"10.9.0.1\"}], \"by\": \"%2$s\"}' ;;\n"       \
	"esac\n"

static struct drivers_fixture *fixture_of(void **state)
{
	return *state;
}

static void put(void **state, const char *file, mode_t mode, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void put(void **state, const char *file, mode_t mode, const char *fmt, ...)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", fixture_of(state)->dir, file);
	char *text = NULL;
	va_list ap;
	va_start(ap, fmt);
	assert_true(vasprintf(&text, fmt, ap) >= 0);
	va_end(ap);
	unlink(path);
	put_file(AT_FDCWD, path, text);
	assert_int_equal(chmod(path, mode), 0);
	free(text);
}

static void fault(void **state, const char *program, const char *command, const char *script)
{
	AUTO_FREE char *file = gt_xasprintf("fault.%s.%s", program, command);
	put(state, file, 0644, "%s\n", script);
}

static void no_fault(void **state, const char *program, const char *command)
{
	AUTO_FREE char *path = gt_xasprintf("%s/fault.%s.%s", fixture_of(state)->dir, program, command);
	unlink(path);
}

/* What was called since the last look: "ADD one, ADD two". */
static char *calls(void **state)
{
	AUTO_FREE char *path = gt_xasprintf("%s/calls", fixture_of(state)->dir), *text = get_file(AT_FDCWD, path);
	struct gt_buf out = { 0 };
	char *rest = NULL;
	unlink(path);
	gt_buf_add(&out, "", 0);
	if (strcmp(text, "(none)") == 0)
		return out.data;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		gt_buf_printf(&out, "%s%s", out.len ? ", " : "", line);
	return out.data;
}

#define assert_calls(state, wanted)                                     \
	do {                                                            \
		AUTO_FREE char *gt_calls = calls(state);                \
		assert_string_equal(gt_calls, wanted);                  \
	} while (0)

static char *state_dir(void **state)
{
	return gt_xasprintf("%s/root/networks/cni", fixture_of(state)->dir);
}

static void assert_nothing_remembered(void **state)
{
	AUTO_FREE char *left = shell_in(NULL, "ls -A %s/root/networks/cni %s/run/plugins/network-cni | grep -v : | grep . ; true", fixture_of(state)->dir,
					  fixture_of(state)->dir);
	assert_string_equal(left, "");
}

static struct gt_driver *open_cni(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE char *ini = gt_xasprintf("[plugin.net-cni]\nconf_dir = %s\nbin_dirs = /nowhere::%s/bin:\ntimeout = 1\n", fixture->dir, fixture->dir);
	start_drivers(fixture, ini);
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_NETWORK, "cni", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

static struct gt_driver *cni_driver(void **state)
{
	struct gt_error err = { 0 };
	return gt_driver_find(fixture_of(state)->drivers, GANTRY_NETWORK, "cni", &err);
}

static struct gt_driver *next_life(void **state)
{
	stop_drivers(*state);
	return open_cni(state);
}

static int cni_make(void **state)
{
	static const char *const NAMES[] = { "one", "two", "map" };
	host_enter();
	own_mounts();
	if (drivers_make(state) < 0)
		return -1;
	AUTO_FREE char *bin = gt_xasprintf("%s/bin", fixture_of(state)->dir);
	mkdir(bin, 0755);
	for (size_t i = 0; i < GT_COUNT(NAMES); i++) {
		AUTO_FREE char *file = gt_xasprintf("bin/%s", NAMES[i]);
		put(state, file, 0755, PROGRAM, fixture_of(state)->dir, NAMES[i]);
	}
	plant_plugin(*state, "plugins/net-cni.so", "net-cni.so");
	open_cni(state);
	return 0;
}

static int cni_end(void **state)
{
	return drivers_remove(state);
}

static int make_network(void **state, struct gt_driver *driver, char letter, const char *file, uint32_t flags, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", fixture_of(state)->dir, file);
	struct bridge_network network = { .letter = letter, .flags = flags, .options = { "conf", path } };
	return network_make(driver, &network, err);
}

/* Network 'a' of plugins one, two and map. */
static void a_network(void **state, struct gt_driver *driver, const char *version, uint32_t flags)
{
	struct gt_error err = { 0 };
	put(state, "lan.conflist", 0644,
	    "{\"cniVersion\": \"%s\", \"name\": \"lan\", \"plugins\": [{\"type\": \"one\", \"own\": 5, \"capabilities\": {\"mac\": true}}, {\"type\": \"two\"}, "
	    "{\"type\": \"map\", \"capabilities\": {\"portMappings\": true}}]}", version);
	assert_ok(make_network(state, driver, 'a', "lan.conflist", flags, &err), err);
	free(calls(state));
}

static void box_of_cni(struct box *box, int number)
{
	box_make(box, 'a', number);
	box->endpoint.ipv4[0] = box->endpoint.gateway4[0] = '\0';
	box->endpoint.default_route = 0;
}

static int join(struct gt_driver *driver, struct box *box, struct gt_error *err)
{
	return gt_net_join(driver, &box->endpoint, box->place.netns, err);
}

static int leave(struct gt_driver *driver, const struct box *box, struct gt_error *err)
{
	return gt_net_leave(driver, box->network_id, box->id, -1, err);
}

/* ---- the order of things ---- */

static void plugins_have_their_turns(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	AUTO_FREE char *dir = gt_xstrdup(fixture_of(state)->dir);
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	snprintf(box.endpoint.mac, sizeof box.endpoint.mac, "02:42:00:00:00:09");
	assert_ok(join(driver, &box, &err), err);
	assert_string_equal(box.endpoint.ipv4, "10.9.0.7/24");
	assert_string_equal(box.endpoint.gateway4, "10.9.0.1");
	assert_calls(state, "ADD one, ADD two");
	assert_shows(shell_in(NULL, "cat %s/one.ADD", dir), "\"runtimeConfig\":{\"mac\":\"02:42:00:00:00:09\"}");
	assert_shows(shell_in(NULL, "cat %s/one.ADD", dir), "\"own\":5");
	assert_shows(shell_in(NULL, "cat %s/two.ADD", dir), "\"name\":\"lan\",\"cniVersion\":\"1.0.0\",\"prevResult\":{");
	assert_shows(shell_in(NULL, "cat %s/two.ADD", dir), "\"by\":\"one\"");
	assert_ok(publish_one(driver, &box, "tcp 0.0.0.0 8080 80", &err), err);
	assert_calls(state, "ADD map");
	assert_shows(shell_in(NULL, "cat %s/map.ADD", dir), "\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\"}]}");
	assert_ok(publish_one(driver, &box, "tcp 0.0.0.0 8080 80", &err), err);
	assert_calls(state, "");
	assert_ok(join(driver, &box, &err), err);
	assert_calls(state, "CHECK one, CHECK two");
	assert_ok(leave(driver, &box, &err), err);
	assert_calls(state, "DEL map, DEL two, DEL one");
	assert_shows(shell_in(NULL, "cat %s/one.DEL", dir), "\"by\":\"two\"");
	assert_ok(leave(driver, &box, &err), err);
	assert_calls(state, "");
	assert_nothing_remembered(state);
	box_end(&box);
}

static void a_plugin_sees_what_the_specification_says_and_no_more(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	AUTO_FREE char *script = gt_xasprintf("tr '\\0' '\\n' </proc/$$/environ >%s/environ; ls /proc/$$/fd >%s/fds; readlink /proc/$$/cwd >>%s/fds; "
					      "stat -L -c %%i $CNI_NETNS >%s/inode", fixture_of(state)->dir, fixture_of(state)->dir, fixture_of(state)->dir, fixture_of(state)->dir);
	a_network(state, driver, "1.0.0", 0);
	fault(state, "one", "ADD", script);
	box_of_cni(&box, 1);
	assert_ok(join(driver, &box, &err), err);
	AUTO_FREE char *environment = shell_in(NULL, "cut -d= -f1 %s/environ | sort | tr \"\\n\" \" \"", fixture_of(state)->dir);
	assert_string_equal(environment, "CNI_ARGS CNI_COMMAND CNI_CONTAINERID CNI_IFNAME CNI_NETNS CNI_PATH PATH ");
	assert_shows(shell_in(NULL, "cat %s/environ", fixture_of(state)->dir), "CNI_IFNAME=eth0");
	AUTO_FREE char *inode = shell_in(NULL, "cat %s/inode", fixture_of(state)->dir), *own = shell_in(NULL, "stat -L -c %%i /proc/%d/ns/net", box.place.pid);
	assert_string_equal(inode, own);
	/* From 10 on they are the shell's own, of its scripts. */
	AUTO_FREE char *fds = shell_in(NULL, "grep -v ^1.$ %s/fds | tr \"\\n\" \" \"", fixture_of(state)->dir);
	assert_true(strncmp(fds, "0 1 2 ", 6) == 0 && strstr(fds, " / "));
	assert_ok(leave(driver, &box, &err), err);
	box_end(&box);
}

/* ---- plugins that fail ---- */

static void an_add_that_fails_is_told_and_undone(void **state)
{
	static const struct {
		const char *script, *sentence;
		enum gt_kind kind;
	} CASES[] = {
		{ "printf %s '{\"code\": 11, \"msg\": \"later\", \"details\": \"no room\\nnow\"}'; exit 1", "fails ADD: later: no room now", GT_UNAVAILABLE },
		{ "echo '{\"code\": 7, \"msg\": \"bad \\u0007 word\"}'; exit 1", "fails ADD: bad   word", GT_INVALID },
		{ "echo oh dear >&2; exit 3", "fails ADD: oh dear", GT_INTERNAL },
		{ "exit 3", "fails ADD: it does not say why", GT_INTERNAL },
		{ "kill -9 $$", "was ended by signal 9 at ADD", GT_INTERNAL },
		{ "sleep 60", "did not end ADD in time and was killed", GT_TIMEOUT },
		{ "sleep 60 & exec >&- 2>&-; wait", "did not end ADD in time and was killed", GT_TIMEOUT },
		{ "yes", "did not end ADD in time and was killed", GT_TIMEOUT },
		{ "head -c 1500000 /dev/zero; exit 0", "answers ADD with more than 1048576 bytes", GT_INTERNAL },
		{ "echo hello; exit 0", "answers ADD with something that is no JSON object", GT_INTERNAL },
		{ "echo '[]'; exit 0", "answers ADD with something that is no JSON object", GT_INTERNAL },
		{ "exit 0", "answers ADD with something that is no JSON object", GT_INTERNAL },
		{ "head -c 100000 /dev/zero | tr '\\0' '['; exit 0", "answers ADD with something that is no JSON object", GT_INTERNAL },
		{ "echo '{\"ips\": [{\"address\": \"10.9.0.7\"}]}'; exit 0", "told the address \"10.9.0.7\", which is none with a prefix length", GT_INTERNAL },
		{ "echo '{\"ips\": [{\"address\": \"10.9.0.7/24\", \"gateway\": \"fd00::1\"}]}'; exit 0", "told the gateway \"fd00::1\"", GT_INTERNAL },
		{ "echo '{\"ips\": {\"address\": 5}}'; exit 0", "in no list", GT_INTERNAL },
	};
	struct gt_driver *driver = cni_driver(state);
	int fds = open_fds();
	a_network(state, driver, "1.0.0", 0);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_error err = { 0 };
		struct box box;
		if (drivers_isolated && strstr(CASES[i].script, "kill"))
			continue; /* signals are filtered there */
		fault(state, "two", "ADD", CASES[i].script);
		box_of_cni(&box, 1);
		if (join(driver, &box, &err) >= 0)
			fail_msg("%s: should have failed", CASES[i].script);
		if (!strstr(err.message, CASES[i].sentence) || !strstr(err.message, "network na: ") || err.kind != CASES[i].kind)
			fail_msg("%s: %d %s", CASES[i].script, (int)err.kind, err.message);
		assert_calls(state, "ADD one, ADD two, DEL two, DEL one");
		assert_nothing_remembered(state);
		no_fault(state, "two", "ADD");
		gt_error_clear(&err);
		assert_ok(join(driver, &box, &err), err);
		assert_ok(leave(driver, &box, &err), err);
		free(calls(state));
		box_end(&box);
	}
	assert_int_equal(open_fds_settled(fds), fds);
}

static void what_a_plugin_leaves_running_holds_up_nobody(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	a_network(state, driver, "1.0.0", 0);
	fault(state, "one", "ADD", "sleep 5 & :");
	box_of_cni(&box, 1);
	assert_ok(join(driver, &box, &err), err);
	assert_ok(leave(driver, &box, &err), err);
	box_end(&box);
}

static void what_cannot_be_written_down_is_not_done(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	AUTO_FREE char *dir = state_dir(state);
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	AUTO_FREE char *block = gt_xasprintf("%s/%s.new", dir, box.id), *script = gt_xasprintf("mkdir %s", block);
	mkdir(block, 0755);
	assert_true(join(driver, &box, &err) < 0);
	assert_non_null(strstr(err.message, "Is a directory"));
	assert_calls(state, "");
	rmdir(block);
	assert_nothing_remembered(state);
	/* The same after ADD. */
	fault(state, "two", "ADD", script);
	gt_error_clear(&err);
	assert_true(join(driver, &box, &err) < 0);
	assert_non_null(strstr(err.message, "Is a directory"));
	assert_calls(state, "ADD one, ADD two, DEL two, DEL one");
	rmdir(block);
	assert_nothing_remembered(state);
	box_end(&box);
}

/* ---- what is taken back later ---- */

static void a_del_that_fails_is_tried_again_in_the_next_life(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	assert_ok(join(driver, &box, &err), err);
	fault(state, "two", "DEL", "echo no >&2; exit 1");
	assert_true(leave(driver, &box, &err) < 0);
	assert_non_null(strstr(err.message, "the CNI plugin two fails DEL: no"));
	assert_calls(state, "ADD one, ADD two, DEL two, DEL one");
	driver = next_life(state);
	a_network(state, driver, "1.0.0", GANTRY_NETWORK_KNOWN);
	gt_error_clear(&err);
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	assert_calls(state, "DEL two, DEL one");
	no_fault(state, "two", "DEL");
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	assert_calls(state, "DEL two, DEL one");
	assert_nothing_remembered(state);
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	assert_calls(state, "");
	box_end(&box);
}

static void an_undo_that_fails_is_tried_again_too(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	fault(state, "two", "ADD", "echo no >&2; exit 1");
	fault(state, "one", "DEL", "echo never >&2; exit 1");
	assert_true(join(driver, &box, &err) < 0);
	assert_non_null(strstr(err.message, "two fails ADD: no"));
	assert_calls(state, "ADD one, ADD two, DEL two, DEL one");
	no_fault(state, "two", "ADD");
	no_fault(state, "one", "DEL");
	gt_error_clear(&err);
	assert_ok(join(driver, &box, &err), err);
	assert_calls(state, "DEL two, DEL one, ADD one, ADD two");
	assert_ok(leave(driver, &box, &err), err);
	assert_nothing_remembered(state);
	box_end(&box);
}

static void the_living_stay_and_the_dead_go(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box stays, goes;
	struct box *const boxes[] = { &stays };
	a_network(state, driver, "1.1.0", 0);
	box_of_cni(&stays, 1);
	box_of_cni(&goes, 2);
	assert_ok(join(driver, &stays, &err), err);
	assert_ok(join(driver, &goes, &err), err);
	assert_ok(publish_one(driver, &stays, "tcp 0.0.0.0 8080 80", &err), err);
	free(calls(state));
	driver = next_life(state);
	/* By what they were made with, whatever the file says by now. */
	put(state, "lan.conflist", 0644, "{\"cniVersion\": \"1.1.0\", \"name\": \"lan\", \"plugins\": [{\"type\": \"two\"}]}");
	assert_ok(make_network(state, driver, 'a', "lan.conflist", GANTRY_NETWORK_KNOWN, &err), err);
	assert_ok(reconcile_with(driver, boxes, 1, "tcp 0.0.0.0 8080 80", &err), err);
	AUTO_FREE char *done = calls(state);
	/* Several at once. A process of its own cannot keep namespaces for the next, and there is no CHECK without one. */
	static const char *const WANTED[] = { "DEL two", "DEL one", "GC two", "CHECK map" };
	for (size_t i = 0; i < GT_COUNT(WANTED) - drivers_isolated; i++)
		assert_non_null(strstr(done, WANTED[i]));
	assert_null(strstr(done, "ADD"));
	assert_shows(shell_in(NULL, "cat %s/two.GC", fixture_of(state)->dir), "\"cni.dev/valid-attachments\":[{");
	assert_shows(shell_in(NULL, "cat %s/two.GC", fixture_of(state)->dir), stays.id);
	assert_lacks(shell_in(NULL, "cat %s/two.GC", fixture_of(state)->dir), goes.id);
	/* The port is held still. */
	assert_true(publish_one(driver, &stays, "tcp 0.0.0.0 8081 80", &err) < 0);
	assert_non_null(strstr(err.message, "has published other ports"));
	gt_error_clear(&err);
	assert_ok(leave(driver, &stays, &err), err);
	assert_calls(state, "DEL map, DEL two, DEL one");
	assert_nothing_remembered(state);
	box_end(&stays);
	box_end(&goes);
}

static void mappings_that_are_gone_are_made_anew(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	struct box *const boxes[] = { &box };
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	assert_ok(join(driver, &box, &err), err);
	assert_ok(publish_one(driver, &box, "tcp 0.0.0.0 8080 80", &err), err);
	free(calls(state));
	assert_ok(reconcile_with(driver, boxes, 1, "tcp 0.0.0.0 8080 80", &err), err);
	assert_calls(state, "CHECK map");
	fault(state, "map", "CHECK", "exit 1");
	assert_ok(reconcile_with(driver, boxes, 1, "tcp 0.0.0.0 8080 80", &err), err);
	assert_calls(state, "CHECK map, ADD map");
	assert_ok(leave(driver, &box, &err), err);
	box_end(&box);
}

static void a_torn_record_is_put_aside(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	AUTO_FREE char *dir = state_dir(state);
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	AUTO_FREE char *file = gt_xasprintf("%s/%s.json", dir, box.id), *torn = gt_xasprintf("%s/%s.torn", dir, box.id);
	put_file(AT_FDCWD, file, "{\"network\": 5");
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	assert_true(exists(AT_FDCWD, torn) && !exists(AT_FDCWD, file));
	assert_ok(join(driver, &box, &err), err);
	assert_ok(leave(driver, &box, &err), err);
	unlink(torn);
	assert_nothing_remembered(state);
	box_end(&box);
}

/* ---- ports ---- */

static void ports_that_cannot_be_mapped_are_let_go(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box, other;
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	box_of_cni(&other, 2);
	assert_ok(join(driver, &box, &err), err);
	assert_ok(join(driver, &other, &err), err);
	free(calls(state));
	fault(state, "map", "ADD", "echo full >&2; exit 1");
	assert_true(publish_one(driver, &box, "tcp 0.0.0.0 8080 80", &err) < 0);
	assert_non_null(strstr(err.message, "the CNI plugin map fails ADD: full"));
	assert_calls(state, "ADD map, DEL map");
	no_fault(state, "map", "ADD");
	gt_error_clear(&err);
	assert_ok(publish_one(driver, &other, "tcp 0.0.0.0 8080 80", &err), err);
	assert_fails(publish_one(driver, &box, "tcp 0.0.0.0 8080 81", &err), err, GT_CONFLICT, "driver cni: Bind for 0.0.0.0:8080 failed: port is already allocated");
	assert_calls(state, "ADD map");
	gt_error_clear(&err);
	assert_ok(gt_net_unpublish(driver, other.network_id, other.id, &err), err);
	assert_calls(state, "DEL map");
	assert_ok(publish_one(driver, &box, "udp 127.0.0.1 8080 81", &err), err);
	assert_ok(leave(driver, &box, &err), err);
	assert_ok(leave(driver, &other, &err), err);
	assert_nothing_remembered(state);
	box_end(&box);
	box_end(&other);
}

/* ---- configurations ---- */

static void wrong_configurations_are_refused(void **state)
{
	static const struct {
		const char *text, *sentence;
	} CASES[] = {
		{ "", "line 1" },
		{ "[]", "no JSON object" },
		{ "{\"cniVersion\": \"1.0.0\", \"plugins\": [{\"type\": \"one\"}]}", "name must be of" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"a/b\", \"plugins\": [{\"type\": \"one\"}]}", "name must be of" },
		{ "{\"name\": \"x\", \"plugins\": [{\"type\": \"one\"}]}", "cniVersion must be" },
		{ "{\"cniVersion\": \"0.2.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"one\"}]}", "cniVersion must be" },
		{ "{\"cniVersion\": \"2.0.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"one\"}]}", "cniVersion must be" },
		{ "{\"cniVersion\": \"0.4.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"one\"}]}", "the CNI plugin one does not speak version 0.4.0" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": []}", "has 0 plugins" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": {\"type\": \"one\"}}", "has 0 plugins" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [{}]}", "plugin 1 has no type" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [5]}", "plugin 1 has no type" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"../one\"}]}", "plugin 1 has no type" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"one\", \"capabilities\": []}]}", "capabilities of plugin 1" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"one\", \"ipam\": {\"type\": \"/bin/sh\"}}]}", "cannot name an ipam plugin" },
		{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"none\"}]}", "there is no CNI plugin none" },
	};
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		put(state, "wrong.conflist", 0644, "%s", CASES[i].text);
		gt_error_clear(&err);
		if (make_network(state, driver, 'b', "wrong.conflist", 0, &err) >= 0 || !strstr(err.message, CASES[i].sentence))
			fail_msg("%s: %s", CASES[i].text, err.message);
	}
	AUTO_FREE char *deep = gt_xcalloc(1, 1 << 21);
	memset(deep, '[', (1 << 20) - 10);
	put(state, "wrong.conflist", 0644, "%s", deep);
	gt_error_clear(&err);
	assert_true(make_network(state, driver, 'b', "wrong.conflist", 0, &err) < 0 && strstr(err.message, "maximum parsing depth"));
	memset(deep, ' ', 1 << 20);
	put(state, "wrong.conflist", 0644, "%s", deep);
	gt_error_clear(&err);
	assert_true(make_network(state, driver, 'b', "wrong.conflist", 0, &err) < 0 && strstr(err.message, "is longer than 1048576 bytes"));
	put(state, "wrong.conflist", 0666, "{}");
	gt_error_clear(&err);
	assert_true(make_network(state, driver, 'b', "wrong.conflist", 0, &err) < 0 && strstr(err.message, "nobody else can write"));
	AUTO_FREE char *path = gt_xasprintf("%s/fifo.conf", fixture_of(state)->dir);
	mkfifo(path, 0644);
	gt_error_clear(&err);
	assert_true(make_network(state, driver, 'b', "fifo.conf", 0, &err) < 0 && strstr(err.message, "wanted a regular file"));
	/* A search goes past all of them. */
	put(state, "z.conf", 0644, "{\"cniVersion\": \"1.0.0\", \"name\": \"wanted\", \"type\": \"one\"}");
	struct bridge_network network = { .letter = 'b', .options = { "name", "wanted" } };
	gt_error_clear(&err);
	assert_ok(network_make(driver, &network, &err), err);
}

static void programs_that_others_can_write_are_not_run(void **state)
{
	struct gt_driver *driver = cni_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	a_network(state, driver, "1.0.0", 0);
	box_of_cni(&box, 1);
	AUTO_FREE char *path = gt_xasprintf("%s/bin/two", fixture_of(state)->dir);
	chmod(path, 0757);
	assert_true(join(driver, &box, &err) < 0);
	assert_non_null(strstr(err.message, "there is no CNI plugin two in /nowhere::"));
	assert_calls(state, "ADD one, DEL one");
	chmod(path, 0755);
	assert_int_equal(chown(path, 1000, 0), 0);
	gt_error_clear(&err);
	assert_true(join(driver, &box, &err) < 0);
	assert_int_equal(chown(path, 0, 0), 0);
	gt_error_clear(&err);
	assert_ok(join(driver, &box, &err), err);
	assert_ok(leave(driver, &box, &err), err);
	assert_nothing_remembered(state);
	box_end(&box);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, cni_make, cni_end)
	const struct CMUnitTest tests[] = {
		TEST(plugins_have_their_turns),
		TEST(a_plugin_sees_what_the_specification_says_and_no_more),
		TEST(an_add_that_fails_is_told_and_undone),
		TEST(what_a_plugin_leaves_running_holds_up_nobody),
		TEST(what_cannot_be_written_down_is_not_done),
		TEST(a_del_that_fails_is_tried_again_in_the_next_life),
		TEST(an_undo_that_fails_is_tried_again_too),
		TEST(the_living_stay_and_the_dead_go),
		TEST(mappings_that_are_gone_are_made_anew),
		TEST(a_torn_record_is_put_aside),
		TEST(ports_that_cannot_be_mapped_are_let_go),
		TEST(wrong_configurations_are_refused),
		TEST(programs_that_others_can_write_are_not_run),
	};
	return run_both("net cni", tests, GT_COUNT(tests));
}
