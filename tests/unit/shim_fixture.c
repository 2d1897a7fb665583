#include "shim_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/cgroup.h"

struct gt_error why;

/* ---- a root directory and a bundle ---- */

static void copy_file(const char *from, const char *to)
{
	AUTO_BUF struct gt_buf bytes = { 0 };
	MUST(gt_read_file(AT_FDCWD, from, 64u << 20, &bytes, &why));
	AUTO_CLOSE int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	assert_int_equal(gt_write_full(fd, bytes.data, bytes.len), 0);
}

static void make_root(const char *dir)
{
	static const char *const DIRS[] = { "bin", "proc", "dev", "tmp", "etc", "sys" };
	static const char *const APPLETS[] = { "sh", "cat", "sleep", "echo", "head", "yes", "stty", "true", "kill", "tr", "dd", "wc" };
	AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < GT_COUNT(DIRS); i++)
		assert_int_equal(mkdirat(fd, DIRS[i], 0755), 0);
	AUTO_FREE char *busybox = gt_xasprintf("%s/bin/busybox", dir);
	copy_file("/bin/busybox", busybox);
	for (size_t i = 0; i < GT_COUNT(APPLETS); i++) {
		AUTO_FREE char *name = gt_xasprintf("bin/%s", APPLETS[i]);
		assert_int_equal(symlinkat("busybox", fd, name), 0);
	}
}

int shim_setup(void **state)
{
	static int serial;
	struct place *place = gt_xcalloc(1, sizeof *place);
	void *dir = NULL;
	if (scratch_make(&dir) < 0)
		return -1;
	place->dir = dir;
	place->count = serial++;
	place->bundle = gt_xasprintf("%s/bundle", place->dir);
	place->log = gt_xasprintf("%s/container.log", place->dir);
	place->shim = built("libexec/gantry-shim");
	AUTO_FREE char *root = gt_xasprintf("%s/root", place->dir);
	AUTO_FREE char *rootfs = gt_xasprintf("%s/rootfs", place->bundle);
	if (mkdir(root, 0755) < 0 || mkdir(place->bundle, 0711) < 0 || mkdir(rootfs, 0755) < 0)
		return -1;
	make_root(root);
	*state = place;
	return 0;
}

/* No shim of ours lives on, and none had anything to complain of (a sanitizer would, too). */
static int check_shims(const struct place *place)
{
	AUTO_FREE char *path = gt_xasprintf("%s/shim.log", place->bundle);
	AUTO_BUF struct gt_buf text = { 0 };
	siginfo_t info;
	for (int i = 0; i < 1000 && waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0; i++)
		usleep(10000);
	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
		print_error("a shim is still there\n");
		return -1;
	}
	if (gt_read_file(AT_FDCWD, path, 1u << 20, &text, NULL) < 0 || text.len == 0)
		return 0;
	print_error("shim.log: %s\n", text.data);
	return -1;
}

int shim_teardown(void **state)
{
	struct place *place = *state;
	void *dir = place->dir;
	int rc = check_shims(place);
	rc |= scratch_remove(&dir);
	free(place->bundle);
	free(place->log);
	free(place->shim);
	free(place);
	return rc;
}

char *cgroup_path(const struct place *place)
{
	return gt_xasprintf("/gantry-test-shim-%d/%d", (int)getpid(), place->count);
}

json_t *process_of(const char *script, bool tty)
{
	json_t *process = json_pack("{s:b s:{s:i s:i} s:[s s s] s:[s s] s:s}", "terminal", tty, "user", "uid", 0, "gid", 0, "args", "/bin/sh", "-c",
				    script, "env", "PATH=/bin", "TERM=xterm", "cwd", "/");
	assert_non_null(process);
	return process;
}

void write_bundle(const struct place *place, const char *script, bool tty, const char *stdin_mode)
{
	AUTO_FREE char *root = gt_xasprintf("%s/root", place->dir);
	AUTO_FREE char *cgroup = cgroup_path(place);
	AUTO_FREE char *path = gt_xasprintf("%s/config.json", place->bundle);
	AUTO_JSON json_t *config = json_pack(
		"{s:s s:o s:{s:s} s:s s:[{s:s s:s s:s s:[s]} {s:s s:s s:s} {s:s s:s s:s s:[s s]} {s:s s:s s:s s:[s s s]}]"
		" s:{s:s s:[{s:s} {s:s} {s:s} {s:s} {s:s}]} s:{s:s s:s s:s}}",
		"ociVersion", "1.2.0", "process", process_of(script, tty), "root", "path", "rootfs", "hostname", "shimtest", "mounts",
		"destination", "/", "type", "bind", "source", root, "options", "bind",
		"destination", "/proc", "type", "proc", "source", "proc",
		"destination", "/dev", "type", "tmpfs", "source", "tmpfs", "options", "mode=755", "size=65536k",
		"destination", "/dev/pts", "type", "devpts", "source", "devpts", "options", "newinstance", "ptmxmode=0666", "mode=0620",
		"linux", "cgroupsPath", cgroup, "namespaces", "type", "pid", "type", "mount", "type", "ipc", "type", "uts", "type", "network",
		"annotations", "org.gantry.log.driver", "json-file", "org.gantry.log.path", place->log, "org.gantry.stdin", stdin_mode);
	assert_non_null(config);
	assert_int_equal(json_dump_file(config, path, 0), 0);
}

/* ---- a container ---- */

struct gt_shim *shim_spawn(const struct place *place, struct gt_shim_created *created)
{
	struct gt_shim *shim = NULL;
	MUST(gt_shim_spawn(place->shim, place->bundle, &shim, created, &why));
	assert_true(created->pid > 0);
	if (created->netns_fd >= 0)
		close(created->netns_fd);
	return shim;
}

struct gt_shim *shim_start(const struct place *place, const char *script, bool tty, const char *stdin_mode)
{
	struct gt_shim_created created;
	write_bundle(place, script, tty, stdin_mode);
	struct gt_shim *shim = shim_spawn(place, &created);
	MUST(gt_shim_start(shim, &why));
	return shim;
}

struct gt_shim_event next_event(struct gt_shim *shim)
{
	struct gt_shim_event event = { 0 };
	struct pollfd poll_fd = { .fd = gt_shim_event_fd(shim), .events = POLLIN };
	for (;;) {
		if (poll(&poll_fd, 1, 15000) <= 0)
			fail_msg("no event within 15 s");
		if (gt_shim_event(shim, &event) == 1)
			return event;
	}
}

/* The container's end, and the shim's. */
struct gt_shim_event shim_finish(struct gt_shim *shim)
{
	struct gt_shim_event event = next_event(shim);
	assert_int_equal(event.type, GT_SHIM_EXIT);
	assert_int_equal(next_event(shim).type, GT_SHIM_GONE);
	gt_shim_free(shim);
	return event;
}

int shim_attach(struct gt_shim *shim, bool in, bool out, bool errs, bool mux, const char *keys)
{
	int pair[2];
	struct gt_shim_attach how = { .stdin = in, .stdout = out, .stderr = errs, .mux = mux, .detach_keys = keys };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	MUST(gt_shim_attach(shim, &how, pair[1], &why));
	close(pair[1]);
	return pair[0];
}

/* Reads until the shim closes, or until `stop` has come. */
void read_client(int fd, const char *stop, struct gt_buf *out)
{
	gt_buf_str(out, "");
	while (!stop || !strstr(out->data, stop)) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		char bytes[65536];
		if (poll(&poll_fd, 1, 15000) <= 0)
			fail_msg("no output within 15 s; so far: %s", out->data);
		ssize_t n = read(fd, bytes, sizeof bytes);
		if (n <= 0) {
			assert_true(n == 0 && !stop);
			return;
		}
		gt_buf_add(out, bytes, (size_t)n);
	}
}

void say(int fd, const char *text)
{
	assert_int_equal(gt_write_full(fd, text, strlen(text)), 0);
}

/* Text of all records of the log. */
void read_log(const struct place *place, struct gt_buf *out)
{
	AUTO_BUF struct gt_buf text = { 0 };
	MUST(gt_read_file(AT_FDCWD, place->log, 1u << 28, &text, &why));
	gt_buf_str(out, "");
	for (char *at = text.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
		AUTO_JSON json_t *json = gt_json_parse(at, (size_t)(end - at), "record", &why);
		assert_non_null(json);
		gt_buf_str(out, json_string_value(json_object_get(json, "log")));
	}
}

void await_log(const struct place *place, const char *text)
{
	for (int i = 0; i < 1500; i++) {
		AUTO_BUF struct gt_buf log = { 0 };
		if (gt_read_file(AT_FDCWD, place->log, 1u << 28, &log, NULL) == 0 && log.data && strstr(log.data, text))
			return;
		usleep(10000);
	}
	fail_msg("\"%s\" did not come into the log within 15 s", text);
}

int shim_exec(struct gt_shim *shim, const char *id, const char *script, bool tty, bool in, int *client)
{
	int pair[2] = { -1, -1 };
	pid_t pid = 0;
	struct gt_shim_attach how = { .stdin = in, .stdout = true, .stderr = true };
	AUTO_JSON json_t *process = process_of(script, tty);
	AUTO_FREE char *text = json_dumps(process, 0);
	if (client)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	int rc = gt_shim_exec(shim, id, text, strlen(text), in, client ? &how : NULL, pair[1], &pid, &why);
	if (client) {
		close(pair[1]);
		*client = pair[0];
	}
	assert_true(rc < 0 || pid > 0);
	return rc;
}

bool file_exists(const char *dir, const char *name)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

void change_bundle(const struct place *place, const char *object, const char *member, json_t *value)
{
	AUTO_FREE char *path = gt_xasprintf("%s/config.json", place->bundle);
	AUTO_JSON json_t *config = json_load_file(path, 0, NULL);
	assert_int_equal(json_object_set_new(json_object_get(config, object), member, value), 0);
	assert_int_equal(json_dump_file(config, path, 0), 0);
}

int remove_cgroups(void **state)
{
	AUTO_FREE char *parent = gt_xasprintf("/gantry-test-shim-%d", (int)getpid());
	(void)state;
	return gt_cgroup_remove(parent, NULL);
}
