/*
 * Drivers with a process of their own: what a crash, a hang and nonsense cost.
 *
 * Called as gantry-plugin-host this program is a process that tells the daemon nonsense, of the sort that GT_NONSENSE names.
 */
#include "driver_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "driver/internal.h"
#include "driver/remote/remote.h"

/* ---- a process that tells nonsense ---- */

#define CONTROL 3

static const char *nonsense;

static bool is(const char *sort)
{
	return strcmp(nonsense, sort) == 0;
}

static void send_raw(int sock, uint32_t len, uint32_t kind, const void *bytes, size_t size, int fd)
{
	struct frame_head head = { len, kind };
	gt_send_fds(sock, &head, sizeof head, &fd, fd >= 0);
	if (size)
		gt_write_full(sock, bytes, size);
}

static void say_hello(void)
{
	struct gt_buf body = { 0 };
	struct wire w;
	uint64_t ops = is("hello-op") ? 0 : ~0ull;
	struct gantry_driver driver = { .kind = is("hello-kind") ? 9 : GANTRY_VOLUME, .name = "plain" };
	struct wire_plugin said = { .info = { .abi_major = 1, .name = is("hello-name") ? "other" : "plain", .version = is("hello-text") ? "\xff" : "1",
					      .description = "", .drivers = &driver, .driver_count = 1 }, .ops = &ops };
	if (is("hello-exit"))
		_exit(5);
	if (is("hello-frame"))
		return send_raw(CONTROL, 4, 77, "abcd", 4, -1);
	if (is("hello-huge"))
		return send_raw(CONTROL, 1u << 30, FRAME_HELLO, "abcd", 4, -1);
	if (is("hello-short"))
		return send_raw(CONTROL, 4, FRAME_HELLO, "abcd", 4, -1);
	wire_write(&w, &body);
	wire_plugin(&w, &said);
	if (is("hello-list")) /* many drivers, of which there is no sign */
		memset(body.data + body.len - 40, 0x7f, 24);
	frame_send(CONTROL, FRAME_HELLO, &w, 0);
}

/* The answer to anything but open and close. */
static void answer_nonsense(int sock)
{
	struct gt_buf body = { 0 };
	struct wire w;
	int32_t rc = is("result") ? 7 : is("error") ? -1 : 0;
	struct gantry_mount *mount = calloc(1, sizeof *mount);
	struct wire_args args = { .mount = mount };
	struct wire_notice notice = { .driver = 40, .texts = { "x" } };
	snprintf(mount->type, sizeof mount->type, "bind");
	snprintf(mount->source, sizeof mount->source, is("relative") ? "here" : is("text") ? "/\xfe" : "/");
	if (is("empty"))
		return send_raw(sock, 0, FRAME_ANSWER, NULL, 0, -1);
	if (is("kind"))
		return send_raw(sock, 4, 99, &rc, 4, -1);
	if (is("huge"))
		return send_raw(sock, 1u << 30, FRAME_ANSWER, NULL, 0, -1);
	if (is("half")) {
		send_raw(sock, 100, FRAME_ANSWER, &rc, 4, -1);
		_exit(4);
	}
	if (is("hang-up")) {
		close(sock);
		return;
	}
	if (is("visit"))
		return send_raw(sock, 4, FRAME_VISIT, &rc, 4, -1);
	wire_write(&w, &body);
	if (is("notice")) {
		wire_notice(&w, FRAME_LOG, &notice);
		frame_send(sock, FRAME_LOG, &w, 0);
		return;
	}
	WIRE(&w, rc);
	if (is("error")) {
		static const uint32_t ERROR[] = { 99, 0, 5 };
		gt_buf_add(&body, ERROR, sizeof ERROR);
		gt_buf_add(&body, "a\xff\xfe\x1b\n", 6);
	} else {
		wire_fields(&w, &args, WIRE_MOUNT);
	}
	if (is("longer"))
		gt_buf_add(&body, "more", 4);
	if (is("length"))
		memset(body.data + 16, 0xf0, 4); /* of the type */
	if (is("nul"))
		body.data[22] = '\0';
	if (is("unended"))
		body.data[24] = 'x';
	if (is("descriptor"))
		w.fds[w.fd_count++] = CONTROL;
	frame_send(sock, FRAME_ANSWER, &w, 0);
}

static void *serve(void *arg)
{
	int sock = *(int *)arg, fds[GT_MAX_FDS];
	struct gt_buf body = { 0 };
	enum frame_kind kind;
	size_t fd_count;
	while (frame_receive(sock, &kind, &body, WIRE_CALL_MAX, fds, &fd_count, 0) == 0) {
		struct wire w;
		struct wire_call call;
		int32_t rc = 0;
		wire_read(&w, &body, fds, fd_count);
		WIRE(&w, call);
		wire_done(&w);
		if (call.op == WIRE_OPEN || call.op == WIRE_CLOSE)
			send_raw(sock, 4, FRAME_ANSWER, &rc, 4, -1);
		else
			answer_nonsense(sock);
	}
	return NULL;
}

static int tell_nonsense(void)
{
	struct gt_buf body = { 0 };
	enum frame_kind kind;
	int fds[GT_MAX_FDS];
	size_t fd_count;
	nonsense = getenv("GT_NONSENSE");
	say_hello();
	while (frame_receive(CONTROL, &kind, &body, WIRE_LINE_MAX, fds, &fd_count, 0) == 0 && kind == FRAME_CHANNEL) {
		pthread_t thread;
		int *sock = malloc(sizeof *sock);
		*sock = fds[0];
		pthread_create(&thread, NULL, serve, sock);
	}
	_exit(0);
}

/* ---- set-up ---- */

static int isolated_make(void **state)
{
	drivers_isolated = true;
	return drivers_make(state);
}

/* This program in place of gantry-plugin-host. */
static void use_nonsense(struct drivers_fixture *fixture, const char *sort)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf self = { 0 };
	AUTO_CLOSE int dir = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!exists(dir, "gantry-plugin-host")) {
		assert_ok(gt_read_file(AT_FDCWD, "/proc/self/exe", 1u << 30, &self, &err), err);
		assert_ok(gt_replace_file(dir, "gantry-plugin-host", self.data, self.len, 0755, false, &err), err);
	}
	fixture->programs = fixture->dir;
	assert_int_equal(setenv("GT_NONSENSE", sort, 1), 0);
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
}

static struct gt_driver *trouble(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	plant_plugin(fixture, "tests/plugins/trouble.so", "trouble.so");
	start_drivers(fixture, "");
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "trouble", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

static pid_t pid_of(struct gt_driver *driver)
{
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_volume_info *info = gt_xcalloc(1, sizeof *info);
	assert_ok(gt_vol_inspect(driver, "x", info, &err), err);
	return (pid_t)atoi(info->mountpoint + 1);
}

static void assert_works(struct gt_driver *driver)
{
	struct gt_error err = { 0 };
	assert_ok(gt_vol_create(driver, "fine", NULL, &err), err);
	assert_ok(gt_vol_remove(driver, "fine", &err), err);
}

/* One create with little time. */
static int create_within(struct gt_driver *driver, const char *name, int64_t time, struct gantry_error *why)
{
	struct gantry_call call = { .size = sizeof call, .deadline_ns = gt_monotonic() + time, .id = 1 };
	struct gantry_options none = { .size = sizeof none };
	return driver->now->ops.volume.create(driver->now->context, &call, name, &none, why);
}

static json_int_t starts_of(struct drivers_fixture *fixture)
{
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	json_t *process = json_object_get(json_array_get(json_object_get(all, "Plugins"), 0), "Process");
	return json_integer_value(json_object_get(process, "Starts"));
}

/* ---- life ---- */

static void a_driver_lives_in_another_process(void **state)
{
	struct gt_driver *driver = trouble(state);
	pid_t pid = pid_of(driver);
	char path[64], exe[256] = "";
	assert_true(pid > 0 && pid != getpid());
	snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
	assert_true(readlink(path, exe, sizeof exe - 1) > 0);
	assert_non_null(strstr(exe, "gantry-plugin-host"));
	assert_works(driver);
	stop_drivers(*state);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static int count_name(void *arg, const char *name)
{
	int *count = arg;
	char wanted[64];
	snprintf(wanted, sizeof wanted, "a-volume-with-a-name-of-some-length-%d", *count);
	assert_string_equal(name, wanted);
	++*count;
	return 0;
}

static int stop_soon(void *arg, const char *name)
{
	(void)name;
	return ++*(int *)arg == 2500;
}

static void long_lists_come_in_parts(void **state)
{
	struct gt_driver *driver = trouble(state);
	struct gt_error err = { 0 };
	int count = 0;
	assert_ok(gt_vol_list(driver, count_name, &count, &err), err);
	assert_int_equal(count, 3000);
	count = 0;
	assert_ok(gt_vol_list(driver, stop_soon, &count, &err), err);
	assert_int_equal(count, 2500);
	assert_works(driver);
}

static void *call_often(void *arg)
{
	struct gt_driver *driver = arg;
	struct gt_error err = { 0 };
	char name[64];
	snprintf(name, sizeof name, "v-%lx", (unsigned long)pthread_self());
	for (int i = 0; i < 50; i++) {
		int count = 0;
		if (gt_vol_create(driver, name, NULL, &err) < 0 || gt_vol_list(driver, count_name, &count, &err) < 0 || gt_vol_remove(driver, name, &err) < 0)
			return gt_xstrdup(err.message);
	}
	return NULL;
}

static void more_threads_than_channels_take_turns(void **state)
{
	struct gt_driver *driver = trouble(state);
	pthread_t threads[CHANNELS_MAX + 16];
	int before = open_fds();
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_often, driver), 0);
	for (size_t i = 0; i < GT_COUNT(threads); i++) {
		void *message;
		pthread_join(threads[i], &message);
		if (message)
			fail_msg("%s", (char *)message);
	}
	assert_true(open_fds() <= before + CHANNELS_MAX);
}

/* ---- trouble ---- */

static void the_end_of_a_process_is_an_error(void **state)
{
	static const struct {
		const char *name, *text;
	} ENDS[] = {
#ifndef GT_SANITIZED
		{ "crash", "driver trouble: its process was killed by signal 11 (Segmentation fault) during create" },
		{ "abort", "driver trouble: its process was killed by signal 6 (Aborted) during create" },
#endif
		{ "exit", "driver trouble: its process exited with status 3 during create" },
	};
	struct gt_driver *driver = trouble(state);
	struct gt_error err = { 0 };
	int fds = 0;
	for (size_t i = 0; i < GT_COUNT(ENDS); i++) {
		assert_works(driver);
		assert_fails(gt_vol_create(driver, ENDS[i].name, NULL, &err), err, GT_UNAVAILABLE, ENDS[i].text);
		assert_works(driver);
		if (i == 0)
			fds = open_fds();
	}
	assert_int_equal(open_fds(), fds);
	/* each was tried twice */
	assert_int_equal(starts_of(*state), 2 * GT_COUNT(ENDS) + 1);
}

static void a_killed_process_comes_back_with_the_drivers_state(void **state)
{
	struct gt_driver *driver = trouble(state);
	struct gt_error err = { 0 };
	for (int i = 0; i < 5; i++) {
		pid_t pid = pid_of(driver);
		assert_int_equal(kill(pid, SIGKILL), 0);
		while (kill(pid, 0) == 0)
			usleep(1000);
		/* between calls: the next one waits for the new process */
		while (gt_vol_create(driver, "kept", NULL, &err) < 0 && err.kind == GT_UNAVAILABLE)
			usleep(10000);
		assert_true(pid_of(driver) != pid);
	}
	AUTO_FREE char *path = gt_xasprintf("%s/root/volumes/trouble/.state", ((struct drivers_fixture *)*state)->dir);
	AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(exists(dir, "kept"));
}

static void a_hang_ends_at_the_deadline(void **state)
{
	struct gt_driver *driver = trouble(state);
	struct gantry_error why = { .size = sizeof why };
	pid_t pid = pid_of(driver);
	assert_int_equal(create_within(driver, "hang", GT_SECOND / 10, &why), -1);
	assert_int_equal(why.kind, GANTRY_E_TIMEOUT);
	assert_string_equal(why.message, "create did not return in time, so its process was killed");
	assert_works(driver);
	assert_true(pid_of(driver) != pid);
}

static void a_stopped_process_is_a_hang(void **state)
{
	struct gt_driver *driver = trouble(state);
	struct gantry_error why = { .size = sizeof why };
	assert_int_equal(kill(pid_of(driver), SIGSTOP), 0);
	assert_int_equal(create_within(driver, "fine", GT_SECOND / 10, &why), -1);
	assert_int_equal(why.kind, GANTRY_E_TIMEOUT);
	assert_works(driver);
}

static void *hang(void *arg)
{
	struct gt_error *err = gt_xcalloc(1, sizeof *err);
	gt_vol_create(arg, "hang", NULL, err);
	return err;
}

static void a_daemon_that_goes_down_does_not_wait_for_a_hang(void **state)
{
	struct gt_driver *driver = trouble(state);
	pthread_t thread;
	void *result;
	assert_int_equal(pthread_create(&thread, NULL, hang, driver), 0);
	usleep(50000);
	gt_drivers_cancel(((struct drivers_fixture *)*state)->drivers);
	pthread_join(thread, &result);
	assert_int_equal(((struct gt_error *)result)->kind, GT_TIMEOUT);
	free(result);
}

static void a_leak_costs_the_process_alone(void **state)
{
#ifdef GT_SANITIZED
	skip();
#endif
	struct gt_driver *driver = trouble(state);
	struct gt_error err = { 0 };
	assert_fails(gt_vol_create(driver, "leak", NULL, &err), err, GT_UNAVAILABLE, "driver trouble: out of memory");
}

static void a_driver_can_do_little_harm(void **state)
{
	struct gt_driver *driver = trouble(state);
	struct gt_error err = { 0 };
	assert_fails(gt_vol_create(driver, "harm", NULL, &err), err, GT_DENIED, "driver trouble: I can do no harm");
}

static void crashes_in_a_row_are_rested_from_and_told(void **state)
{
	struct gt_driver *driver = trouble(state);
	struct gt_error err = { 0 };
	struct drivers_fixture *fixture = *state;
	bool rested = false;
	for (int i = 0; i < 12 && !rested; i++) {
		gt_vol_create(driver, "exit", NULL, &err);
		rested = strstr(err.message, "its process exited with status 3, ") && strstr(err.message, " times in a row; it is started again in ");
	}
	assert_true(rested);
	AUTO_JSON json_t *all = gt_drivers_describe(fixture->drivers);
	json_t *process = json_object_get(json_array_get(json_object_get(all, "Plugins"), 0), "Process");
	assert_string_equal(json_string_value(json_object_get(process, "State")), "waiting to be started again");
	assert_string_equal(json_string_value(json_object_get(process, "LastEnd")), "exited with status 3");
}

static void a_crash_while_loading_is_a_refusal(void **state)
{
	struct drivers_fixture *fixture = *state;
	plant_plugin(fixture, "tests/plugins/crash-at-load.so", "crash-at-load.so");
	start_drivers(fixture, "");
	AUTO_FREE char *reason = refusal_of(fixture, "crash-at-load.so");
	AUTO_FREE char *wanted = gt_xasprintf("plugin %s/plugins/crash-at-load.so: loading: found a process that went away, wanted one that says what "
					      "the plugin is", fixture->dir);
	assert_string_equal(reason, wanted);
}

static void a_missing_program_is_a_refusal(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	fixture->programs = "/nowhere";
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	start_drivers(fixture, "");
	AUTO_FREE char *reason = refusal_of(fixture, "plain.so");
	assert_string_equal(reason, "start /nowhere/gantry-plugin-host: No such file or directory");
	assert_null(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err));
}

static void other_words_than_none_and_process_are_told(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	drivers_isolated = false;
	plant_plugin(fixture, "tests/plugins/plain.so", "plain.so");
	configure_drivers(fixture, "[plugin.plain]\nisolate = yes\n");
	AUTO_FREE char *wanted = gt_xasprintf("%s/gantryd.ini:6: [plugin.plain] isolate: yes is neither none nor process", fixture->dir);
	assert_fails(gt_drivers_check(fixture->config, &err), err, GT_INVALID, wanted);
	configure_drivers(fixture, "[plugin.plain]\nisolate = none\n");
	assert_ok(gt_drivers_check(fixture->config, &err), err);
}

/* The thread that started the process is gone with this child, as a killed daemon's is. */
static void a_process_does_not_outlive_its_daemon(void **state)
{
	int pipe_fds[2], status;
	pid_t host = 0;
	assert_int_equal(pipe(pipe_fds), 0);
	pid_t child = fork();
	if (child == 0) {
		struct gt_driver *driver = trouble(state);
		pid_t pid = pid_of(driver);
		kill(pid, SIGSTOP); /* it cannot see that its socket is closed */
		_exit(write(pipe_fds[1], &pid, sizeof pid) == sizeof pid ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(read(pipe_fds[0], &host, sizeof host), sizeof host);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	char path[64], line[256] = "";
	snprintf(path, sizeof path, "/proc/%d/stat", (int)host);
	/* it may be a zombie until the machine's init looks */
	for (int i = 0; i < 3000 && kill(host, 0) == 0; i++) {
		AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t len = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
		line[len > 0 ? len : 0] = '\0';
		if (len <= 0 || strstr(line, ") Z "))
			return;
		usleep(10000);
	}
	assert_int_equal(kill(host, 0), -1);
}

/* ---- nonsense ---- */

static void odd_answers_of_a_driver_are_taken_for_what_they_are(void **state)
{
	struct gt_driver *driver = trouble(state);
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	assert_ok(gt_vol_mount(driver, "fine", "c", false, mount, &err), err);
	assert_fails(gt_vol_mount(driver, "relative", "c", false, mount, &err), err, GT_INTERNAL,
		     "driver trouble: its process was killed, as it answered mount with nonsense: the source of a bind mount is no absolute path");
	assert_fails(gt_vol_mount(driver, "bytes", "c", false, mount, &err), err, GT_INTERNAL,
		     "driver trouble: its process was killed, as it answered mount with nonsense: a text is not UTF-8");
	/* a text without its end is cut, as in the daemon */
	assert_ok(gt_vol_mount(driver, "endless", "c", false, mount, &err), err);
	assert_int_equal(strlen(mount->options), sizeof mount->options - 1);
	/* words of users' are the driver's to judge */
	AUTO_FREE char *name = gt_xmalloc(300000);
	memset(name, 'x', 299999);
	name[299999] = '\0';
	assert_int_equal(gt_vol_create(driver, name, NULL, &err), -1);
	assert_int_equal(err.kind, GT_INVALID);
	assert_int_equal(gt_vol_create(driver, "\xff\xfe", NULL, &err), -1);
	assert_int_equal(err.kind, GT_INVALID);
}

static void nonsense_at_the_start_is_a_refusal(void **state)
{
	static const char *const SORTS[][2] = {
		{ "hello-exit", "loading: found a process that went away, wanted one that says what the plugin is" },
		{ "hello-frame", "loading: found a process that speaks nonsense, wanted one that says what the plugin is" },
		{ "hello-huge", "loading: found a process that speaks nonsense, wanted one that says what the plugin is" },
		{ "hello-short", "descriptor: found it ends too early, wanted one that makes sense" },
		{ "hello-list", "descriptor: found a list is too long, wanted one that makes sense" },
		{ "hello-text", "descriptor: found a text is not UTF-8, wanted one that makes sense" },
		{ "hello-name", "name: found \"other\", wanted \"plain\" as the file or its section is called" },
		{ "hello-kind", "driver plain: kind: found 9, wanted network 1, volume 2 or storage 3" },
		{ "hello-op", "driver plain: op create: found NULL, wanted a function" },
	};
	struct drivers_fixture *fixture = *state;
	for (size_t i = 0; i < GT_COUNT(SORTS); i++) {
		use_nonsense(fixture, SORTS[i][0]);
		start_drivers(fixture, "");
		AUTO_FREE char *reason = refusal_of(fixture, "plain.so");
		AUTO_FREE char *wanted = gt_xasprintf("plugin %s/plugins/plain.so: %s", fixture->dir, SORTS[i][1]);
		assert_non_null(reason);
		assert_string_equal(reason, wanted);
		stop_drivers(fixture);
	}
}

static void nonsense_for_an_answer_is_an_error(void **state)
{
	static const char *const SORTS[][2] = {
		{ "empty", "it ends too early" },
		{ "kind", "it is a message of another kind" },
		{ "huge", "it is not a message, or too long a one" },
		{ "visit", "it is a message of another kind" },
		{ "notice", "it speaks of a driver that is not there" },
		{ "result", "a result is neither 0 nor -1" },
		{ "relative", "the source of a bind mount is no absolute path" },
		{ "text", "a text is not UTF-8" },
		{ "longer", "it is longer than it should be" },
		{ "length", "a text is too long" },
		{ "nul", "a text does not end where it should" },
		{ "unended", "a text does not end where it should" },
		{ "descriptor", "it brings descriptors that nobody asked for" },
	};
	struct drivers_fixture *fixture = *state;
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	int fds = 0;
	for (size_t i = 0; i < GT_COUNT(SORTS); i++) {
		struct gt_error err = { 0 };
		use_nonsense(fixture, SORTS[i][0]);
		start_drivers(fixture, "");
		struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err);
		assert_non_null(driver);
		AUTO_FREE char *wanted = gt_xasprintf("driver plain: its process was killed, as it answered mount with nonsense: %s", SORTS[i][1]);
		assert_fails(gt_vol_mount(driver, "v", "c", false, mount, &err), err, GT_INTERNAL, wanted);
		stop_drivers(fixture);
		fds = fds ? fds : open_fds();
		assert_int_equal(open_fds(), fds);
	}
}

static void a_broken_connection_is_an_error(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	use_nonsense(fixture, "half");
	start_drivers(fixture, "");
	assert_fails(gt_vol_mount(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err), "v", "c", false, mount, &err), err, GT_UNAVAILABLE,
		     "driver plain: its process exited with status 4 during mount");
	stop_drivers(fixture);
	use_nonsense(fixture, "hang-up");
	start_drivers(fixture, "");
	assert_int_equal(gt_vol_mount(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err), "v", "c", false, mount, &err), -1);
	assert_int_equal(err.kind, GT_UNAVAILABLE);
	stop_drivers(fixture);
	/* an error whose words are odd is one whose words are odd */
	use_nonsense(fixture, "error");
	start_drivers(fixture, "");
	assert_fails(gt_vol_mount(gt_driver_find(fixture->drivers, GANTRY_VOLUME, "plain", &err), "v", "c", false, mount, &err), err, GT_INTERNAL,
		     "driver plain: a\xef\xbf\xbd\xef\xbf\xbd\x1b\n");
}

int main(int argc, char **argv)
{
	(void)argc;
	if (strstr(argv[0], "gantry-plugin-host"))
		return tell_nonsense();
#define TEST(name) cmocka_unit_test_setup_teardown(name, isolated_make, drivers_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_driver_lives_in_another_process),
		TEST(long_lists_come_in_parts),
		TEST(more_threads_than_channels_take_turns),
		TEST(the_end_of_a_process_is_an_error),
		TEST(a_killed_process_comes_back_with_the_drivers_state),
		TEST(a_hang_ends_at_the_deadline),
		TEST(a_stopped_process_is_a_hang),
		TEST(a_daemon_that_goes_down_does_not_wait_for_a_hang),
		TEST(a_leak_costs_the_process_alone),
		TEST(a_driver_can_do_little_harm),
		TEST(crashes_in_a_row_are_rested_from_and_told),
		TEST(a_crash_while_loading_is_a_refusal),
		TEST(a_missing_program_is_a_refusal),
		TEST(other_words_than_none_and_process_are_told),
		TEST(a_process_does_not_outlive_its_daemon),
		TEST(odd_answers_of_a_driver_are_taken_for_what_they_are),
		TEST(nonsense_at_the_start_is_a_refusal),
		TEST(nonsense_for_an_answer_is_an_error),
		TEST(a_broken_connection_is_an_error),
	};
	return cmocka_run_group_tests_name("isolate", tests, NULL, NULL);
}
