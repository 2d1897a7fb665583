/*
 * What came with ABI 1.2: members of families of volume drivers, mounts that drivers count, peers of networks; in the daemon, and in a process of their own.
 */
#include "driver_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "driver/internal.h"
#include "driver/remote/remote.h"

static struct gt_driver *member(void **state, const char *name)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	if (!fixture->drivers) {
		plant_plugin(fixture, "tests/plugins/family.so", "family.so");
		start_drivers(fixture, "");
	}
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_VOLUME, name, &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

/* A state document of a member's. */
static char *document(void **state, const char *driver, const char *name)
{
	AUTO_FREE char *path = gt_xasprintf("%s/root/volumes/%s/.state/%s", ((struct drivers_fixture *)*state)->dir, driver, name);
	return get_file(AT_FDCWD, path);
}

static void await_document(void **state, const char *driver, const char *name, const char *wanted)
{
	for (int i = 0; i < 2000; i++) {
		AUTO_FREE char *text = document(state, driver, name);
		if (strcmp(text, wanted) == 0)
			return;
		usleep(10000);
	}
	AUTO_FREE char *text = document(state, driver, name);
	assert_string_equal(text, wanted);
}

static void members_have_names_and_directories_of_their_own(void **state)
{
	struct gt_driver *alpha = member(state, "alpha"), *beta = member(state, "beta");
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	assert_ptr_equal(member(state, "alpha"), alpha);
	assert_ptr_not_equal(alpha, beta);
	assert_ok(gt_vol_create(alpha, "vol", NULL, &err), err);
	AUTO_FREE char *theirs = document(state, "beta", "vol");
	assert_string_equal(theirs, "(none)");
	assert_ok(gt_vol_inspect(beta, "vol", info, &err), err);
	AUTO_FREE char *dir = gt_xasprintf("%s/root/volumes/beta", fixture->dir);
	assert_string_equal(info->mountpoint, dir);
	assert_string_equal(info->status, "{\"driver\": \"beta\", \"volume\": \"vol\"}");
	assert_int_equal(info->flags, GANTRY_VOLUME_GLOBAL);
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "other", &err));
	assert_string_equal(err.message, "no volume driver named \"other\" is loaded (there are: alpha, beta)");
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "family", &err));
}

struct heard {
	pthread_mutex_t lock;
	char text[256];
};

static void hear(void *arg, const char *driver, const char *object, const char *action, const char *detail)
{
	struct heard *heard = arg;
	LOCKED(&heard->lock);
	snprintf(heard->text, sizeof heard->text, "%s %s %s %s", driver, object, action, detail);
}

static void events_are_the_members(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	struct heard heard = { .lock = PTHREAD_MUTEX_INITIALIZER };
	plant_plugin(fixture, "tests/plugins/family.so", "family.so");
	configure_drivers(fixture, "");
	assert_ok(gt_drivers_load(fixture->config, NULL, hear, &heard, &fixture->drivers, &err), err);
	assert_ok(gt_vol_create(member(state, "beta"), "vol", NULL, &err), err);
	LOCKED(&heard.lock);
	assert_string_equal(heard.text, "beta vol create beta");
}

static void uses_arrive_whole(void **state)
{
	struct gt_driver *alpha = member(state, "alpha");
	struct gt_error err = { 0 };
	struct gantry_volume_use uses[] = { { .name = "one", .container_id = "c1" }, { .name = "two", .container_id = "c2" } };
	assert_true(gt_vol_counts(alpha));
	assert_ok(gt_vol_reconcile(alpha, uses, 2, &err), err);
	AUTO_FREE char *told = document(state, "alpha", "uses");
	assert_string_equal(told, "one=c1;two=c2;");
	assert_ok(gt_vol_reconcile(alpha, NULL, 0, &err), err);
	AUTO_FREE char *none = document(state, "alpha", "uses");
	assert_string_equal(none, "");
}

static int note_peer(void *arg, const char *name, const char *address)
{
	char *text = arg;
	snprintf(text + strlen(text), 128 - strlen(text), "%s=%s ", name, address);
	return strlen(text) > 100;
}

static int first_peer(void *arg, const char *name, const char *address)
{
	note_peer(arg, name, address);
	return 1;
}

static void peers_are_visited(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	char text[128] = "";
	member(state, "alpha");
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_NETWORK, "peers", &err);
	assert_non_null(driver);
	assert_ok(gt_net_peers(driver, "net", note_peer, text, &err), err);
	assert_string_equal(text, "one=10.0.0.1 two=10.0.0.2 ");
	text[0] = '\0';
	assert_ok(gt_net_peers(driver, "net", first_peer, text, &err), err);
	assert_string_equal(text, "one=10.0.0.1 ");
	assert_fails(gt_net_peers(driver, "none", note_peer, text, &err), err, GT_UNAVAILABLE, "driver peers: nothing is known");
}

/* ---- with a process alone ---- */

static json_int_t process_number(void **state, const char *key)
{
	AUTO_JSON json_t *all = gt_drivers_describe(((struct drivers_fixture *)*state)->drivers);
	json_t *process = json_object_get(json_array_get(json_object_get(all, "Plugins"), 0), "Process");
	return json_integer_value(json_object_get(process, key));
}

/* Ends the process, and returns when another one takes calls. */
static void end_process(void **state, struct gt_driver *driver)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	json_int_t starts = process_number(state, "Starts");
	pid_t pid = (pid_t)process_number(state, "Pid");
	assert_true(pid > 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	for (int i = 0; i < 2000 && process_number(state, "Starts") == starts; i++)
		usleep(10000);
	assert_ok(gt_vol_inspect(driver, "x", info, &err), err);
}

static void members_outlive_their_process(void **state)
{
	struct gt_driver *alpha = member(state, "alpha"), *beta = member(state, "beta");
	struct gt_error err = { 0 };
	if (!drivers_isolated)
		skip();
	end_process(state, alpha);
	assert_ok(gt_vol_create(beta, "vol", NULL, &err), err);
	assert_ok(gt_vol_create(alpha, "vol", NULL, &err), err);
	AUTO_FREE char *kept = document(state, "beta", "vol");
	assert_string_equal(kept, "x");
}

/* What the daemon would tell the driver after a restart of its own is what it is told after one of its process. */
static void a_new_process_is_told_the_mounts_that_there_are(void **state)
{
	struct gt_driver *alpha = member(state, "alpha"), *beta = member(state, "beta");
	struct gt_error err = { 0 };
	struct gantry_volume_use uses[] = { { .name = "one", .container_id = "c1" }, { .name = "one", .container_id = "c2" } };
	if (!drivers_isolated)
		skip();
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	assert_ok(gt_vol_mount(alpha, "early", "c0", false, mount, &err), err);
	/* the engine has not told yet: nor does anyone else */
	end_process(state, beta);
	AUTO_FREE char *nothing = document(state, "alpha", "uses");
	assert_string_equal(nothing, "(none)");
	assert_ok(gt_vol_reconcile(alpha, uses, 2, &err), err);
	assert_ok(gt_vol_mount(alpha, "two", "c3", false, mount, &err), err);
	assert_ok(gt_vol_mount(alpha, "two", "c4", false, mount, &err), err);
	assert_ok(gt_vol_mount(alpha, "two", "c4", false, mount, &err), err);
	assert_ok(gt_vol_release(alpha, "one", "c1", &err), err);
	assert_ok(gt_vol_release(alpha, "two", "c3", &err), err);
	end_process(state, alpha);
	await_document(state, "alpha", "uses", "early=c0;one=c2;two=c4;");
	/* a mount that was cut short is none */
	assert_int_equal(gt_vol_mount(alpha, "crash", "c5", false, mount, &err), -1);
	assert_ok(gt_vol_release(alpha, "two", "c4", &err), err);
	end_process(state, beta);
	await_document(state, "alpha", "uses", "early=c0;one=c2;");
	AUTO_FREE char *theirs = document(state, "beta", "uses");
	assert_string_equal(theirs, "(none)");
}

static void a_member_that_went_away_takes_nobody_with_it(void **state)
{
	struct gt_driver *alpha = member(state, "alpha"), *gone = member(state, "gone");
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	if (!drivers_isolated)
		skip();
	assert_ok(gt_vol_create(gone, "away", NULL, &err), err);
	end_process(state, alpha);
	assert_fails(gt_vol_create(gone, "vol", NULL, &err), err, GT_NOT_FOUND, "driver gone: it went away");
	assert_ok(gt_vol_create(alpha, "vol", NULL, &err), err);
	/* and is back as soon as it is there again */
	AUTO_FREE char *path = gt_xasprintf("%s/root/volumes/gone/.state/away", fixture->dir);
	assert_int_equal(unlink(path), 0);
	assert_ok(gt_vol_create(gone, "vol", NULL, &err), err);
}

/* ---- the tables ---- */

static void every_op_has_a_proxy(void **state)
{
	void *table[TABLE_ROOM / sizeof(void *)];
	const size_t sizes[] = { [GANTRY_NETWORK] = sizeof(struct gantry_network_ops), [GANTRY_VOLUME] = sizeof(struct gantry_volume_ops),
				 [GANTRY_STORAGE] = sizeof(struct gantry_storage_ops) };
	(void)state;
	for (int kind = GANTRY_NETWORK; kind <= GANTRY_STORAGE; kind++) {
		proxy_table(kind, ~0ull, table);
		assert_int_equal(*(uint32_t *)table, sizes[kind]);
		for (size_t i = 1; i < sizes[kind] / sizeof(void *); i++)
			assert_non_null(table[i]);
		proxy_table(kind, 0, table);
		for (size_t i = 3; i < sizes[kind] / sizeof(void *); i++)
			assert_null(table[i]); /* all but open and close */
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, drivers_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(members_have_names_and_directories_of_their_own),
		TEST(events_are_the_members),
		TEST(uses_arrive_whole),
		TEST(peers_are_visited),
		TEST(members_outlive_their_process),
		TEST(a_new_process_is_told_the_mounts_that_there_are),
		TEST(a_member_that_went_away_takes_nobody_with_it),
		cmocka_unit_test(every_op_has_a_proxy),
	};
	return run_both("families", tests, GT_COUNT(tests));
}
