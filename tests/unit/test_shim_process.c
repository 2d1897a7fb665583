/*
 * test_shim_process.c - gantry-shim as a process, through core/shim/client.h: a busybox root directory, a bundle, a real container.
 * Each test has a bundle of its own below its scratch directory and a cgroup below /gantry-test-shim-<pid>.
 */
#include "shim_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/cgroup.h"
#include "shim/client_call.h"

static void exit_code_log_and_exit_file_agree(void **state)
{
	struct place *place = *state;
	int fds = open_fds();
	struct gt_shim *shim = shim_start(place, "echo out; echo err >&2; printf tail; exit 42", false, "");
	struct gt_shim_event event = shim_finish(shim), again;
	assert_int_equal(event.code, 42);
	assert_int_equal(event.signal, 0);
	assert_false(event.oom);
	MUST(gt_shim_read_exit(place->bundle, &again, &why));
	assert_int_equal(again.code, 42);
	assert_int_equal(again.at, event.at);
	AUTO_BUF struct gt_buf log = { 0 };
	read_log(place, &log);
	assert_non_null(strstr(log.data, "out\n"));
	assert_non_null(strstr(log.data, "err\n"));
	assert_non_null(strstr(log.data, "tail"));
	assert_false(file_exists(place->bundle, "shim.sock"));
	assert_int_equal(open_fds_settled(fds), fds); /* the reaper's thread may still be at work */
}

static void no_such_program_is_dockers_phrase(void **state)
{
	struct place *place = *state;
	struct gt_shim_created created;
	AUTO_FREE char *path = gt_xasprintf("%s/config.json", place->bundle);
	write_bundle(place, "true", false, "");
	AUTO_JSON json_t *config = json_load_file(path, 0, NULL);
	json_object_set_new(json_object_get(config, "process"), "args", json_pack("[s]", "no-such-program"));
	assert_int_equal(json_dump_file(config, path, 0), 0);
	struct gt_shim *shim = NULL;
	if (gt_shim_spawn(place->shim, place->bundle, &shim, &created, &why) == 0) { /* else the child was quicker than its shim */
		close(created.netns_fd);
		assert_int_equal(gt_shim_start(shim, &why), -1);
		gt_shim_free(shim);
	}
	assert_int_equal(why.kind, GT_INVALID);
	assert_non_null(strstr(why.message, "executable file not found in $PATH"));
	assert_false(file_exists(place->bundle, "shim.sock"));
	assert_false(file_exists(place->bundle, "exit.json"));
}

static void a_broken_bundle_is_refused_with_its_reason(void **state)
{
	struct place *place = *state;
	struct gt_shim *shim = NULL;
	struct gt_shim_created created;
	AUTO_FREE char *path = gt_xasprintf("%s/config.json", place->bundle);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	say(fd, "{ \"process\": ");
	assert_int_equal(gt_shim_spawn(place->shim, place->bundle, &shim, &created, &why), -1);
	assert_non_null(strstr(why.message, "config.json"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void a_client_attached_before_the_start_misses_nothing(void **state)
{
	struct place *place = *state;
	struct gt_shim_created created;
	AUTO_BUF struct gt_buf out = { 0 };
	write_bundle(place, "read line; echo got $line; cat; echo done", false, "once");
	struct gt_shim *shim = shim_spawn(place, &created);
	AUTO_CLOSE int client = shim_attach(shim, true, true, false, false, NULL);
	say(client, "hello\nmore\n");
	shutdown(client, SHUT_WR);
	MUST(gt_shim_start(shim, &why));
	read_client(client, NULL, &out);
	assert_string_equal(out.data, "got hello\nmore\ndone\n");
	assert_int_equal(shim_finish(shim).code, 0);
}

static void stdin_stays_open_for_the_next_client_unless_once(void **state)
{
	struct place *place = *state;
	AUTO_BUF struct gt_buf out = { 0 };
	struct gt_shim *shim = shim_start(place, "while read line; do echo got $line; [ $line = end ] && exit 3; done; exit 4", false, "open");
	int first = shim_attach(shim, true, true, false, false, NULL);
	say(first, "one\n");
	read_client(first, "got one\n", &out);
	close(first);
	AUTO_CLOSE int second = shim_attach(shim, true, true, false, false, NULL);
	say(second, "end\n");
	gt_buf_reset(&out);
	read_client(second, NULL, &out);
	assert_string_equal(out.data, "got end\n");
	assert_int_equal(shim_finish(shim).code, 3);
}

static void output_is_framed_where_asked(void **state)
{
	struct place *place = *state;
	struct gt_shim_created created;
	AUTO_BUF struct gt_buf out = { 0 };
	write_bundle(place, "echo a; sleep 0.2; echo b >&2", false, "");
	struct gt_shim *shim = shim_spawn(place, &created);
	AUTO_CLOSE int client = shim_attach(shim, false, true, true, true, NULL);
	MUST(gt_shim_start(shim, &why));
	read_client(client, NULL, &out);
	assert_int_equal(out.len, 20);
	assert_memory_equal(out.data, "\1\0\0\0\0\0\0\2a\n\2\0\0\0\0\0\0\2b\n", 20);
	shim_finish(shim);
}

static void a_terminal_echoes_resizes_and_detaches(void **state)
{
	struct place *place = *state;
	AUTO_BUF struct gt_buf out = { 0 };
	struct gt_shim *shim = shim_start(place, "stty size; read a; stty size; read b; exit 5", true, "open");
	int client = shim_attach(shim, true, true, true, false, NULL);
	MUST(gt_shim_resize(shim, NULL, 43, 132, &why));
	say(client, "x\n");
	read_client(client, "43 132", &out);
	say(client, "\x10\x11");
	gt_buf_reset(&out);
	read_client(client, NULL, &out);
	close(client);
	AUTO_CLOSE int again = shim_attach(shim, true, true, true, false, "q");
	say(again, "\x10\x11\n");
	gt_buf_reset(&out);
	read_client(again, NULL, &out);
	assert_int_equal(shim_finish(shim).code, 5);
}

static void signals_reach_init_and_say_so(void **state)
{
	struct place *place = *state;
	struct gt_shim *shim = shim_start(place, "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done", false, "");
	AUTO_CLOSE int client = shim_attach(shim, false, true, false, false, NULL);
	await_log(place, "up");
	assert_int_equal(gt_shim_signal(shim, NULL, 99, &why), -1);
	assert_int_equal(why.kind, GT_INVALID);
	MUST(gt_shim_signal(shim, NULL, SIGTERM, &why));
	assert_int_equal(shim_finish(shim).code, 7);
	shim = shim_start(place, "sleep 100", false, "");
	MUST(gt_shim_signal(shim, NULL, SIGKILL, &why));
	struct gt_shim_event event = shim_finish(shim);
	assert_int_equal(event.code, 137);
	assert_int_equal(event.signal, SIGKILL);
}

static void an_exec_has_streams_and_a_code_of_its_own(void **state)
{
	struct place *place = *state;
	int client;
	AUTO_BUF struct gt_buf out = { 0 };
	struct gt_shim *shim = shim_start(place, "sleep 100", false, "");
	MUST(shim_exec(shim, "e1", "tr a-z A-Z; echo err >&2; exit 9", false, true, &client));
	say(client, "shout\n");
	shutdown(client, SHUT_WR);
	struct gt_shim_event event = next_event(shim);
	assert_int_equal(event.type, GT_SHIM_EXEC_EXIT);
	assert_string_equal(event.exec_id, "e1");
	assert_int_equal(event.code, 9);
	/* The stream stays open until the event has been dealt with: until the next is asked for. */
	read_client(client, "SHOUT\nerr\n", &out);
	struct pollfd poll_fd = { .fd = client, .events = POLLIN };
	assert_int_equal(poll(&poll_fd, 1, 100), 0);
	assert_int_equal(gt_shim_event(shim, &event), 0);
	gt_buf_reset(&out);
	read_client(client, NULL, &out);
	assert_int_equal(out.len, 0);
	close(client);
	assert_int_equal(gt_shim_signal(shim, "e1", SIGTERM, &why), -1);
	assert_int_equal(why.kind, GT_NOT_FOUND);

	MUST(shim_exec(shim, "e2", "sleep 100", false, false, NULL));
	assert_int_equal(shim_exec(shim, "e2", "true", false, false, NULL), -1);
	assert_int_equal(why.kind, GT_CONFLICT);
	MUST(gt_shim_signal(shim, "e2", SIGTERM, &why));
	event = next_event(shim);
	assert_int_equal(event.code, 128 + SIGTERM);
	MUST(gt_shim_signal(shim, NULL, SIGKILL, &why));
	shim_finish(shim);
}

static void an_exec_on_a_terminal_resizes(void **state)
{
	struct place *place = *state;
	int client;
	AUTO_BUF struct gt_buf out = { 0 };
	struct gt_shim *shim = shim_start(place, "sleep 100", false, "");
	MUST(shim_exec(shim, "t1", "read x; stty size", true, true, &client));
	MUST(gt_shim_resize(shim, "t1", 11, 22, &why));
	say(client, "go\n");
	assert_int_equal(next_event(shim).type, GT_SHIM_EXEC_EXIT);
	struct gt_shim_event event;
	gt_shim_event(shim, &event);
	read_client(client, NULL, &out);
	assert_non_null(strstr(out.data, "11 22"));
	close(client);
	MUST(gt_shim_signal(shim, NULL, SIGKILL, &why));
	shim_finish(shim);
}

static void an_exec_that_cannot_run_leaves_the_client_to_the_daemon(void **state)
{
	struct place *place = *state;
	int client;
	struct gt_shim *shim = shim_start(place, "sleep 100", false, "");
	int pair[2];
	const char *process = "{\"terminal\":false,\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"no-such\"],\"env\":[\"PATH=/bin\"],\"cwd\":\"/\"}";
	struct gt_shim_attach how = { .stdout = true };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(gt_shim_exec(shim, "e1", process, strlen(process), false, &how, pair[1], NULL, &why), -1);
	assert_non_null(strstr(why.message, "executable file not found in $PATH"));
	say(pair[1], "the reason"); /* the connection is as it was */
	AUTO_BUF struct gt_buf out = { 0 };
	read_client(pair[0], "the reason", &out);
	close(pair[0]);
	close(pair[1]);
	MUST(shim_exec(shim, "e1", "echo fine", false, false, &client)); /* the id is free again */
	read_client(client, "fine\n", &out);
	close(client);
	assert_int_equal(next_event(shim).type, GT_SHIM_EXEC_EXIT);
	MUST(gt_shim_signal(shim, NULL, SIGKILL, &why));
	shim_finish(shim);
}

/* Asks for an exec and does not wait. Returns the line on which the answer would come. */
static int ask_exec(struct gt_shim *shim, const char *id, const char *script)
{
	struct gt_shim_request request = { .magic = GT_SHIM_MAGIC, .type = GT_SHIM_MSG_EXEC };
	AUTO_JSON json_t *process = process_of(script, false);
	AUTO_FREE char *text = json_dumps(process, 0);
	AUTO_CLOSE int file = memfd_create("process", MFD_CLOEXEC);
	int line = gt_shim_dial(shim->socket, gt_monotonic() + GT_SHIM_SHORT, &why);
	snprintf(request.exec_id, sizeof request.exec_id, "%s", id);
	request.process_len = (uint32_t)strlen(text);
	assert_int_equal(gt_write_full(file, text, strlen(text)), 0);
	MUST(gt_shim_send(line, &request, &file, 1, &why));
	return line;
}

static void an_exec_in_a_frozen_container_waits_alone_and_only_for_who_waits_for_it(void **state)
{
	struct place *place = *state;
	struct gt_shim_state found;
	struct gt_cgroup *cgroup = NULL;
	struct gt_shim *shim = shim_start(place, "sleep 100", false, ""), *again = NULL;
	AUTO_FREE char *path = cgroup_path(place);
	MUST(gt_cgroup_open(path, &cgroup, &why));
	MUST(gt_cgroup_freeze(cgroup, &why));
	int given_up = ask_exec(shim, "e1", "touch /given-up"), waited_for = ask_exec(shim, "e2", "touch /waited-for");
	usleep(100000);
	MUST(gt_shim_signal(shim, NULL, SIGCONT, &why)); /* the shim does not wait */
	close(given_up);
	usleep(1600000);
	MUST(gt_cgroup_thaw(cgroup, &why));
	struct gt_shim_reply reply;
	MUST(gt_shim_receive(waited_for, gt_monotonic() + GT_SHIM_SHORT, GT_SHIM_MSG_REPLY, &reply, NULL, &why));
	assert_string_equal(next_event(shim).exec_id, "e2");
	MUST(gt_cgroup_freeze(cgroup, &why));
	int orphan = ask_exec(shim, "e3", "exit 9"); /* its daemon dies */
	usleep(100000);
	close(orphan);
	gt_shim_free(shim);
	MUST(gt_shim_connect(place->bundle, &again, &found, &why));
	usleep(1600000);
	MUST(gt_cgroup_thaw(cgroup, &why));
	assert_int_equal(next_event(again).code, 9);
	assert_true(file_exists(place->dir, "root/waited-for"));
	assert_false(file_exists(place->dir, "root/given-up"));
	close(waited_for);
	gt_cgroup_free(cgroup);
	MUST(gt_shim_signal(again, NULL, SIGKILL, &why));
	shim_finish(again);
}

static void a_daemon_that_comes_back_hears_what_it_missed(void **state)
{
	struct place *place = *state;
	struct gt_shim_state found;
	struct gt_shim *shim = shim_start(place, "read x; exit 6", false, "open"), *again = NULL;
	MUST(shim_exec(shim, "e1", "sleep 0.3; exit 8", false, false, NULL));
	gt_shim_free(shim);
	usleep(600000);
	MUST(gt_shim_connect(place->bundle, &again, &found, &why));
	assert_true(found.pid > 0 && found.started > 0);
	assert_false(found.exited);
	struct gt_shim_event event = next_event(again);
	assert_int_equal(event.type, GT_SHIM_EXEC_EXIT);
	assert_string_equal(event.exec_id, "e1");
	assert_int_equal(event.code, 8);
	AUTO_CLOSE int client = shim_attach(again, true, false, false, false, NULL);
	say(client, "bye\n");
	assert_int_equal(shim_finish(again).code, 6);
	assert_int_equal(gt_shim_connect(place->bundle, &again, &found, &why), -1);
	assert_int_equal(why.kind, GT_NOT_FOUND);
}

static void without_a_daemon_the_shim_ends_by_itself(void **state)
{
	struct place *place = *state;
	struct gt_shim_event event;
	struct gt_shim *shim = shim_start(place, "sleep 0.2; exit 11", false, "");
	gt_shim_free(shim);
	for (int i = 0; i < 500 && (gt_shim_read_exit(place->bundle, &event, NULL) < 0 || file_exists(place->bundle, "shim.sock")); i++)
		usleep(10000);
	MUST(gt_shim_read_exit(place->bundle, &event, &why));
	assert_int_equal(event.code, 11);
	for (int i = 0; i < 500 && waitpid(-1, NULL, WNOHANG) == 0; i++) /* the reaper's thread takes it */
		usleep(10000);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void a_daemon_that_goes_before_the_start_leaves_nothing(void **state)
{
	struct place *place = *state;
	struct gt_shim_created created;
	write_bundle(place, "echo never", false, "");
	struct gt_shim *shim = shim_spawn(place, &created);
	assert_true(file_exists(place->bundle, "shim.sock"));
	gt_shim_free(shim); /* as when the daemon dies: the line closes */
	for (int i = 0; i < 500 && kill(created.pid, 0) == 0; i++)
		usleep(10000);
	assert_int_equal(kill(created.pid, 0), -1);
	for (int i = 0; i < 500 && file_exists(place->bundle, "shim.sock"); i++)
		usleep(10000);
	assert_false(file_exists(place->bundle, "shim.sock"));
	assert_false(file_exists(place->bundle, "exit.json"));

	shim = shim_spawn(place, &created);
	gt_shim_abort(shim); /* the same, and waited for */
	assert_int_equal(kill(created.pid, 0), -1);
	assert_false(file_exists(place->bundle, "shim.sock"));
	gt_shim_abort(shim);
	gt_shim_free(shim);
	AUTO_FREE char *cgroup = cgroup_path(place);
	struct gt_cgroup *left = NULL;
	assert_int_equal(gt_cgroup_open(cgroup, &left, &why), -1);
}

static void a_lot_of_output_reaches_log_and_a_slow_client_whole(void **state)
{
	struct place *place = *state;
	struct gt_shim_created created;
	AUTO_BUF struct gt_buf out = { 0 }, log = { 0 };
	write_bundle(place, "yes 0123456789abcdef0123456789abcdef | head -n 200000", false, "");
	struct gt_shim *shim = shim_spawn(place, &created);
	AUTO_CLOSE int client = shim_attach(shim, false, true, true, false, NULL);
	MUST(gt_shim_start(shim, &why));
	usleep(500000); /* by now the shim holds as much as it may for us, and the container waits */
	read_client(client, NULL, &out);
	assert_int_equal(out.len, 200000 * 33);
	assert_int_equal(shim_finish(shim).code, 0);
	read_log(place, &log);
	assert_int_equal(log.len, out.len);
	assert_memory_equal(log.data, out.data, out.len);
}

static void a_lot_of_input_waits_for_a_slow_process(void **state)
{
	struct place *place = *state;
	AUTO_BUF struct gt_buf out = { 0 };
	struct gt_shim *shim = shim_start(place, "sleep 0.5; wc -c", false, "once");
	AUTO_CLOSE int client = shim_attach(shim, true, true, false, false, NULL);
	AUTO_FREE char *bytes = gt_xcalloc(1, 4 << 20);
	assert_int_equal(gt_write_full(client, bytes, 4 << 20), 0);
	shutdown(client, SHUT_WR);
	read_client(client, NULL, &out);
	assert_int_equal(atoi(out.data), 4 << 20);
	shim_finish(shim);
}

static void a_moved_log_is_reopened(void **state)
{
	struct place *place = *state;
	AUTO_FREE char *away = gt_xasprintf("%s.away", place->log);
	struct gt_shim *shim = shim_start(place, "echo before; read x; echo after", false, "open");
	AUTO_CLOSE int client = shim_attach(shim, true, true, false, false, NULL);
	await_log(place, "before");
	assert_int_equal(rename(place->log, away), 0);
	MUST(gt_shim_reopen_log(shim, &why));
	say(client, "go\n");
	shim_finish(shim);
	AUTO_BUF struct gt_buf log = { 0 };
	read_log(place, &log);
	assert_string_equal(log.data, "after\n");
}

/* Anonymous memory is what each further container costs; the program's own pages are shared by all shims. */
static void a_shim_is_small(void **state)
{
	struct place *place = *state;
	struct gt_shim *shim = shim_start(place, "yes 01234567 | head -n 100000; echo up; sleep 100", false, "");
	AUTO_BUF struct gt_buf children = { 0 }, rollup = { 0 };
	await_log(place, "up");
	AUTO_FREE char *list = gt_xasprintf("/proc/self/task/%d/children", (int)getpid());
	MUST(gt_read_file(AT_FDCWD, list, 4096, &children, &why));
	AUTO_FREE char *path = gt_xasprintf("/proc/%d/smaps_rollup", atoi(children.data));
	MUST(gt_read_file(AT_FDCWD, path, 65536, &rollup, &why));
	const char *found = strstr(rollup.data, "Anonymous:");
	assert_non_null(found);
	long total = atol(found + strlen("Anonymous:"));
	print_message("memory of one shim: %ld kB\n", total);
#ifndef GT_SANITIZED
	assert_true(total < 1024);
#endif
	MUST(gt_shim_signal(shim, NULL, SIGKILL, &why));
	shim_finish(shim);
}

static void the_oom_killer_is_heard(void **state)
{
	struct place *place = *state;
	struct gt_shim_created created;
	struct gt_shim_event event;
	if (!gt_cgroup_has("memory"))
		skip();
	write_bundle(place, "x=0123456789abcdef; while :; do x=$x$x; done", false, "");
	change_bundle(place, "linux", "resources", json_pack("{s:{s:i s:i}}", "memory", "limit", 16 << 20, "swap", 16 << 20));
	struct gt_shim *shim = shim_spawn(place, &created);
	MUST(gt_shim_start(shim, &why));
	assert_int_equal(next_event(shim).type, GT_SHIM_OOM);
	event = shim_finish(shim);
	assert_int_equal(event.code, 137);
	assert_true(event.oom);
	MUST(gt_shim_read_exit(place->bundle, &event, &why));
	assert_true(event.oom);
}

static void with_the_hosts_pids_orphans_are_reaped_and_die_with_init(void **state)
{
	struct place *place = *state;
	struct gt_shim_created created;
	AUTO_BUF struct gt_buf out = { 0 };
	write_bundle(place, "(sh -c 'sleep 0.1' &) ; (sh -c 'echo $$; exec sleep 1000' &) ; sleep 0.4; exit 3", false, "");
	change_bundle(place, "linux", "namespaces", json_pack("[{s:s} {s:s}]", "type", "mount", "type", "network"));
	struct gt_shim *shim = shim_spawn(place, &created);
	AUTO_CLOSE int client = shim_attach(shim, false, true, true, false, NULL);
	MUST(gt_shim_start(shim, &why));
	read_client(client, NULL, &out); /* to its end, though the orphan held the pipe */
	assert_int_equal(shim_finish(shim).code, 3);
	assert_true(atoi(out.data) > 0);
	for (int i = 0; i < 500 && kill(atoi(out.data), 0) == 0; i++) /* dead, and reaped with the shim */
		usleep(10000);
	assert_int_equal(kill(atoi(out.data), 0), -1);
}

static void a_process_starts_with_plain_signals(void **state)
{
	struct place *place = *state;
	AUTO_BUF struct gt_buf out = { 0 };
	int client;
	struct gt_shim *shim = shim_start(place, "sleep 100", false, "");
	MUST(shim_exec(shim, "e1", "exec cat /proc/self/status", false, false, &client));
	assert_int_equal(next_event(shim).type, GT_SHIM_EXEC_EXIT);
	struct gt_shim_event event;
	gt_shim_event(shim, &event);
	read_client(client, NULL, &out);
	assert_non_null(strstr(out.data, "SigBlk:\t0000000000000000"));
	assert_null(strstr(out.data, "SigIgn:\t0000000000001")); /* SIGPIPE */
	close(client);
	MUST(gt_shim_signal(shim, NULL, SIGKILL, &why));
	shim_finish(shim);
}

static void many_execs_at_one_time_each_get_their_own(void **state)
{
	struct place *place = *state;
	struct gt_shim *shim = shim_start(place, "sleep 100", false, "");
	int clients[20];
	for (int i = 0; i < 20; i++) {
		AUTO_FREE char *id = gt_xasprintf("e%d", i);
		AUTO_FREE char *script = gt_xasprintf("read x; echo $x %d; exit %d", i, i);
		MUST(shim_exec(shim, id, script, i % 2, true, &clients[i]));
	}
	for (int i = 0; i < 20; i++)
		say(clients[i], "hey\n");
	for (int i = 0; i < 20; i++) {
		struct gt_shim_event event = next_event(shim);
		assert_int_equal(event.type, GT_SHIM_EXEC_EXIT);
		assert_int_equal(event.code, atoi(event.exec_id + 1));
	}
	struct gt_shim_event event;
	gt_shim_event(shim, &event);
	for (int i = 0; i < 20; i++) {
		AUTO_BUF struct gt_buf out = { 0 };
		AUTO_FREE char *wanted = gt_xasprintf("hey %d", i);
		read_client(clients[i], NULL, &out);
		assert_non_null(strstr(out.data, wanted));
		close(clients[i]);
	}
	MUST(gt_shim_signal(shim, NULL, SIGKILL, &why));
	shim_finish(shim);
}

static void starts_are_quick(void **state)
{
	struct place *place = *state;
	int64_t made = 0, started = 0;
	enum { ROUNDS = 20 };
	for (int i = 0; i < ROUNDS; i++) {
		struct gt_shim_created created;
		write_bundle(place, "exit 0", false, "");
		int64_t t0 = gt_monotonic();
		struct gt_shim *shim = shim_spawn(place, &created);
		int64_t t1 = gt_monotonic();
		MUST(gt_shim_start(shim, &why));
		started += gt_monotonic() - t1;
		made += t1 - t0;
		shim_finish(shim);
	}
	print_message("created after %lld us, started %lld us later\n", (long long)(made / ROUNDS / 1000), (long long)(started / ROUNDS / 1000));
}

int main(void)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, shim_setup, shim_teardown)
	const struct CMUnitTest tests[] = {
		IN_PLACE(exit_code_log_and_exit_file_agree),
		IN_PLACE(no_such_program_is_dockers_phrase),
		IN_PLACE(a_broken_bundle_is_refused_with_its_reason),
		IN_PLACE(a_client_attached_before_the_start_misses_nothing),
		IN_PLACE(stdin_stays_open_for_the_next_client_unless_once),
		IN_PLACE(output_is_framed_where_asked),
		IN_PLACE(a_terminal_echoes_resizes_and_detaches),
		IN_PLACE(signals_reach_init_and_say_so),
		IN_PLACE(an_exec_has_streams_and_a_code_of_its_own),
		IN_PLACE(an_exec_on_a_terminal_resizes),
		IN_PLACE(an_exec_that_cannot_run_leaves_the_client_to_the_daemon),
		IN_PLACE(an_exec_in_a_frozen_container_waits_alone_and_only_for_who_waits_for_it),
		IN_PLACE(a_daemon_that_comes_back_hears_what_it_missed),
		IN_PLACE(without_a_daemon_the_shim_ends_by_itself),
		IN_PLACE(a_daemon_that_goes_before_the_start_leaves_nothing),
		IN_PLACE(a_lot_of_output_reaches_log_and_a_slow_client_whole),
		IN_PLACE(a_lot_of_input_waits_for_a_slow_process),
		IN_PLACE(a_moved_log_is_reopened),
		IN_PLACE(a_shim_is_small),
		IN_PLACE(the_oom_killer_is_heard),
		IN_PLACE(with_the_hosts_pids_orphans_are_reaped_and_die_with_init),
		IN_PLACE(a_process_starts_with_plain_signals),
		IN_PLACE(many_execs_at_one_time_each_get_their_own),
		IN_PLACE(starts_are_quick),
	};
	return cmocka_run_group_tests(tests, NULL, remove_cgroups);
}
