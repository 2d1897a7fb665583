/*
 * exec.c - further processes in a running container: created, started, resized, inspected, and the probes of health checks.
 *
 * Execs are in engine->execs by id and in their container's list, both under engine->lock; one is forgotten when its container exits, or KEEP after
 * its own end. An exec's process belongs to the shim; the monitor brings its exit.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/internal.h"

#define KEEP (5 * 60 * GT_SECOND)
#define MAX_EXECS 1024          /* of one container that have not been forgotten */

enum exec_state { EXEC_NEW, EXEC_STARTING, EXEC_RUNNING, EXEC_DONE };

struct gt_exec {
	char id[65];
	struct gt_container *ctr;       /* referenced */
	struct gt_exec *next;           /* of the container; engine->lock */
	uint64_t timer;                 /* engine->lock: set once, while it is in the tables; 0: it has not ended */
	int refs;
	/* as created */
	bool attach_stdin, attach_stdout, attach_stderr, tty, privileged;
	struct gt_strings cmd, env;
	char *user, *working_dir, *detach_keys;
	/* guarded by ctr->lock; ctr->changed is broadcast at each change */
	enum exec_state state;
	pid_t pid;
	int exit_code;
};

static const struct gt_json_field FIELDS[] = {
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_exec, attach_stdin, "AttachStdin"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_exec, attach_stdout, "AttachStdout"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_exec, attach_stderr, "AttachStderr"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_exec, tty, "Tty"),
	GT_JSON_FIELD(GT_JSON_BOOL, struct gt_exec, privileged, "Privileged"),
	GT_JSON_FIELD(GT_JSON_STRINGS, struct gt_exec, cmd, "Cmd"),
	GT_JSON_FIELD(GT_JSON_STRINGS, struct gt_exec, env, "Env"),
	GT_JSON_FIELD(GT_JSON_STRING, struct gt_exec, user, "User"),
	GT_JSON_FIELD(GT_JSON_STRING, struct gt_exec, working_dir, "WorkingDir"),
	GT_JSON_FIELD(GT_JSON_STRING, struct gt_exec, detach_keys, "DetachKeys"),
	{ .name = NULL },
};

/* ---- references ---- */

static void exec_put(struct gt_exec *exec)
{
	if (__atomic_sub_fetch(&exec->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	gt_json_release(FIELDS, exec);
	gt_container_put(exec->ctr);
	free(exec);
}

static void auto_exec(struct gt_exec **slot)
{
	if (*slot)
		exec_put(*slot);
}
#define AUTO_EXEC __attribute__((cleanup(auto_exec)))

static struct gt_exec *exec_get(struct gt_engine *engine, const char *id, struct gt_error *err)
{
	pthread_rwlock_rdlock(&engine->lock);
	struct gt_exec *exec = gt_map_get(&engine->execs, id);
	if (exec)
		__atomic_add_fetch(&exec->refs, 1, __ATOMIC_RELAXED);
	pthread_rwlock_unlock(&engine->lock);
	if (!exec)
		gt_fail(err, GT_NOT_FOUND, "No such exec instance: %.80s", id);
	return exec;
}

/* Out of the tables; once. With engine->lock held for writing. Returns whether it was there: the tables' reference is then the caller's. */
static bool unlink_locked(struct gt_exec *exec)
{
	if (!gt_map_remove(&exec->ctr->engine->execs, exec->id))
		return false;
	struct gt_exec **slot = &exec->ctr->execs;
	while (*slot && *slot != exec)
		slot = &(*slot)->next;
	if (*slot)
		*slot = exec->next;
	return true;
}

/* Out of the tables already: gives back their reference and the timer's. */
static void let_go(struct gt_exec *exec)
{
	if (exec->timer && gt_timer_cancel(exec->ctr->engine, exec->timer))
		exec_put(exec);
	exec_put(exec); // NOLINT(clang-analyzer-unix.Malloc): two references, two puts
}

static void forget(struct gt_exec *exec)
{
	struct gt_engine *engine = exec->ctr->engine;
	pthread_rwlock_wrlock(&engine->lock);
	bool there = unlink_locked(exec);
	pthread_rwlock_unlock(&engine->lock);
	if (there)
		let_go(exec);
}

static void forget_job(void *arg)
{
	struct gt_exec *exec = arg;
	forget(exec);
	exec_put(exec);
}

/* ---- ends ---- */

static void tell(struct gt_exec *exec, const char *action, json_t *extra)
{
	if (!extra)
		extra = json_object();
	json_object_set_new(extra, "execID", json_string(exec->id));
	gt_container_event(exec->ctr, action, extra);
}

/* "exec_create: sh -c ..." as Docker's events name it; bounded. */
static void tell_command(struct gt_exec *exec, const char *verb)
{
	AUTO_BUF struct gt_buf action = { 0 };
	gt_buf_printf(&action, "%s:", verb);
	for (size_t i = 0; i < exec->cmd.count && action.len < 4096; i++)
		gt_buf_printf(&action, " %.1024s", exec->cmd.items[i]);
	tell(exec, action.data, NULL);
}

/* For whoever asks how it ended. */
static void keep_for_a_while(struct gt_exec *exec)
{
	struct gt_engine *engine = exec->ctr->engine;
	pthread_rwlock_wrlock(&engine->lock);
	if (gt_map_get(&engine->execs, exec->id) == exec) {
		__atomic_add_fetch(&exec->refs, 1, __ATOMIC_RELAXED);
		exec->timer = gt_timer_after(engine, KEEP, forget_job, exec);
	}
	pthread_rwlock_unlock(&engine->lock);
}

static void end_exec(struct gt_exec *exec, int code)
{
	struct gt_container *ctr = exec->ctr;
	char text[16];
	pthread_mutex_lock(&ctr->lock);
	bool first = exec->state != EXEC_DONE;
	exec->exit_code = code;
	exec->pid = 0;
	exec->state = EXEC_DONE;
	pthread_cond_broadcast(&ctr->changed);
	pthread_mutex_unlock(&ctr->lock);
	if (!first)
		return;
	snprintf(text, sizeof text, "%d", code);
	tell(exec, "exec_die", json_pack("{s:s}", "exitCode", text));
	keep_for_a_while(exec);
}

void gt_exec_exited(struct gt_container *ctr, const struct gt_shim_event *event)
{
	AUTO_EXEC struct gt_exec *exec = exec_get(ctr->engine, event->exec_id, NULL);
	if (exec)
		end_exec(exec, event->code);
}

void gt_execs_drop(struct gt_container *ctr)
{
	struct gt_engine *engine = ctr->engine;
	pthread_rwlock_wrlock(&engine->lock);
	struct gt_exec *list = ctr->execs;
	for (struct gt_exec *exec = list; exec; exec = exec->next)
		gt_map_remove(&engine->execs, exec->id);
	ctr->execs = NULL;
	pthread_rwlock_unlock(&engine->lock);
	while (list) {
		struct gt_exec *next = list->next;
		pthread_mutex_lock(&ctr->lock);
		bool open = list->state == EXEC_RUNNING || list->state == EXEC_STARTING;
		if (open) {
			list->state = EXEC_DONE;
			list->exit_code = 137;
			list->pid = 0;
			pthread_cond_broadcast(&ctr->changed);
		}
		pthread_mutex_unlock(&ctr->lock);
		if (open)
			tell(list, "exec_die", json_pack("{s:s}", "exitCode", "137"));
		let_go(list);
		list = next;
	}
}

/* ---- create ---- */

static int check(struct gt_exec *exec, struct gt_error *err)
{
	AUTO_BUF struct gt_buf keys = { 0 };
	if (!exec->cmd.count || !exec->cmd.items[0][0])
		return gt_fail(err, GT_INVALID, "No exec command specified");
	for (size_t i = 0; i < exec->env.count; i++) {
		if (!exec->env.items[i][0] || exec->env.items[i][0] == '=')
			return gt_fail(err, GT_INVALID, "invalid environment variable: %.64s", exec->env.items[i]);
	}
	if (exec->working_dir && exec->working_dir[0] && exec->working_dir[0] != '/')
		return gt_fail(err, GT_INVALID, "the working directory %.255s is not an absolute path", exec->working_dir);
	return exec->detach_keys && exec->detach_keys[0] ? gt_detach_keys_parse(exec->detach_keys, &keys, err) : 0;
}

static int check_running(struct gt_container *ctr, struct gt_error *err)
{
	LOCKED(&ctr->lock);
	if (ctr->status == GT_PAUSED)
		return gt_fail(err, GT_CONFLICT, "Container %s is paused, unpause the container before exec", ctr->id);
	if (ctr->status == GT_RESTARTING)
		return gt_fail(err, GT_CONFLICT, "Container %s is restarting, wait until the container is running", ctr->id);
	if (ctr->status != GT_RUNNING || !ctr->shim)
		return gt_fail(err, GT_CONFLICT, "container %s is not running", ctr->id);
	return 0;
}

/* Into the tables, which take a reference of their own. */
static int enter(struct gt_exec *exec, struct gt_error *err)
{
	struct gt_container *ctr = exec->ctr;
	struct gt_engine *engine = ctr->engine;
	size_t count = 0;
	int rc = 0;
	pthread_rwlock_wrlock(&engine->lock);
	for (const struct gt_exec *other = ctr->execs; other; other = other->next)
		count++;
	if (count >= MAX_EXECS) {
		rc = gt_fail(err, GT_TOO_LARGE, "container %s has %d exec instances already: wait until some have ended", ctr->id, MAX_EXECS);
	} else {
		gt_id_new(exec->id);
		exec->refs++;
		exec->next = ctr->execs;
		ctr->execs = exec;
		gt_map_set(&engine->execs, exec->id, exec);
	}
	pthread_rwlock_unlock(&engine->lock);
	return rc;
}

static struct gt_exec *exec_new(struct gt_container *ctr)
{
	struct gt_exec *exec = gt_xcalloc(1, sizeof *exec);
	exec->ctr = gt_container_ref(ctr);
	exec->refs = 1;
	return exec;
}

int gt_exec_create(struct gt_engine *engine, const char *ref, const json_t *body, char id[65], struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	AUTO_EXEC struct gt_exec *exec = exec_new(ctr);
	if (gt_json_decode(body, FIELDS, exec, err) < 0 || check(exec, err) < 0 || check_running(ctr, err) < 0 || enter(exec, err) < 0)
		return -1;
	memcpy(id, exec->id, 65);
	tell_command(exec, "exec_create");
	return 0;
}

/* ---- start ---- */

static int begin(struct gt_exec *exec, struct gt_error *err)
{
	LOCKED(&exec->ctr->lock);
	if (exec->state == EXEC_DONE)
		return gt_fail(err, GT_CONFLICT, "exec command %s has ended already: create another", exec->id);
	if (exec->state != EXEC_NEW)
		return gt_fail(err, GT_CONFLICT, "exec command %s is already running", exec->id);
	exec->state = EXEC_STARTING;
	return 0;
}

/* Runs it through the shim. fd -1: nobody is attached. */
static int launch(struct gt_exec *exec, bool tty, unsigned rows, unsigned cols, const struct gt_shim_attach *how, int fd, struct gt_error *err)
{
	struct gt_container *ctr = exec->ctr;
	struct gt_exec_wish wish = { .args = &exec->cmd, .env = &exec->env, .user = exec->user, .working_dir = exec->working_dir, .tty = tty,
				     .privileged = exec->privileged, .rows = rows, .cols = cols };
	struct gt_shim *shim = gt_container_shim(ctr, err);
	if (!shim)
		return -1;
	pid_t pid = 0;
	int rc = -1;
	AUTO_JSON json_t *process = gt_spec_exec(ctr, &wish, err);
	AUTO_FREE char *text = process ? json_dumps(process, JSON_COMPACT) : NULL;
	if (text)
		rc = gt_shim_exec(shim, exec->id, text, strlen(text), how && how->stdin, how, fd, &pid, err);
	else if (process)
		gt_fail(err, GT_INTERNAL, "the process of exec %s cannot be written as JSON", exec->id);
	gt_container_shim_put(ctr);
	if (rc < 0 && (err->kind == GT_INTERNAL || err->kind == GT_UNAVAILABLE || err->kind == GT_CONFLICT) && gt_exit_await(ctr, GT_ENDING))
		return gt_fail(err, GT_CONFLICT, "container %s is not running", ctr->id);
	if (rc < 0)
		return gt_context(err, "OCI runtime exec failed");
	LOCKED(&ctr->lock);
	if (exec->state == EXEC_STARTING) { /* its exit may have come already */
		exec->state = EXEC_RUNNING;
		exec->pid = pid;
		pthread_cond_broadcast(&ctr->changed);
	}
	return 0;
}

static int failure_code(const struct gt_error *err)
{
	if (strstr(err->message, "executable file not found") || strstr(err->message, "no such file or directory"))
		return 127;
	return 126;
}

int gt_exec_check(struct gt_engine *engine, const char *exec_id, bool tty, struct gt_error *err)
{
	AUTO_EXEC struct gt_exec *exec = exec_get(engine, exec_id, err);
	(void)tty;
	if (!exec || check_running(exec->ctr, err) < 0)
		return -1;
	LOCKED(&exec->ctr->lock);
	if (exec->state == EXEC_DONE)
		return gt_fail(err, GT_CONFLICT, "exec command %s has ended already: create another", exec->id);
	if (exec->state != EXEC_NEW)
		return gt_fail(err, GT_CONFLICT, "exec command %s is already running", exec->id);
	return 0;
}

/* What a client sees that has been told 101 already: the reason in its stream, as a frame where frames are spoken. */
static void tell_client(int fd, bool tty, const struct gt_error *why)
{
	AUTO_BUF struct gt_buf text = { 0 };
	gt_buf_printf(&text, "%s\r\n", why->message);
	unsigned char header[8] = { 2, 0, 0, 0, (unsigned char)(text.len >> 24), (unsigned char)(text.len >> 16), (unsigned char)(text.len >> 8),
				    (unsigned char)text.len };
	if (!tty)
		gt_write_full(fd, header, sizeof header);
	gt_write_full(fd, text.data, text.len);
	shutdown(fd, SHUT_RDWR);
}

int gt_exec_start(struct gt_engine *engine, const char *exec_id, bool detach, bool tty, unsigned rows, unsigned cols, int fd,
		  struct gt_error *err)
{
	struct gt_error local = { 0 };
	if (!err)
		err = &local;
	AUTO_EXEC struct gt_exec *exec = exec_get(engine, exec_id, err);
	if (!exec || begin(exec, err) < 0) {
		if (!detach && fd >= 0)
			tell_client(fd, tty, err);
		return -1;
	}
	AUTO_BUF struct gt_buf keys = { 0 };
	struct gt_shim_attach how = { .stdin = exec->attach_stdin, .stdout = exec->attach_stdout, .stderr = exec->attach_stderr,
				      .mux = !exec->tty };
	int rc = 0;
	if (exec->detach_keys && exec->detach_keys[0]) {
		rc = gt_detach_keys_parse(exec->detach_keys, &keys, err);
		how.detach_keys = keys.data;
	}
	tell_command(exec, "exec_start");
	if (rc < 0 || launch(exec, exec->tty, rows, cols, detach ? NULL : &how, detach ? -1 : fd, err) < 0) {
		end_exec(exec, failure_code(err));
		if (!detach && fd >= 0)
			tell_client(fd, exec->tty, err);
		return -1;
	}
	return 0;
}

int gt_exec_resize(struct gt_engine *engine, const char *exec_id, unsigned rows, unsigned cols, struct gt_error *err)
{
	AUTO_EXEC struct gt_exec *exec = exec_get(engine, exec_id, err);
	if (!exec)
		return -1;
	struct timespec until = gt_deadline(GT_SECOND); /* clients resize right after start: it may still be under way */
	pthread_mutex_lock(&exec->ctr->lock);
	while (exec->state == EXEC_STARTING && pthread_cond_timedwait(&exec->ctr->changed, &exec->ctr->lock, &until) == 0)
		;
	bool running = exec->state == EXEC_RUNNING;
	pthread_mutex_unlock(&exec->ctr->lock);
	if (!running)
		return gt_fail(err, GT_CONFLICT, "exec command %s is not running", exec->id);
	struct gt_shim *shim = gt_container_shim(exec->ctr, err);
	if (!shim)
		return -1;
	int rc = gt_shim_resize(shim, exec->id, rows, cols, err);
	gt_container_shim_put(exec->ctr);
	return rc;
}

json_t *gt_exec_inspect(struct gt_engine *engine, const char *exec_id, struct gt_error *err)
{
	AUTO_EXEC struct gt_exec *exec = exec_get(engine, exec_id, err);
	if (!exec)
		return NULL;
	struct gt_strings arguments = { .items = exec->cmd.items + 1, .count = exec->cmd.count - 1, .set = true };
	LOCKED(&exec->ctr->lock);
	json_t *json = json_pack("{s:s s:b s:o s:{s:b s:s s:s s:o s:b} s:b s:b s:b s:b s:s s:i s:s}", "ID", exec->id, "Running",
				 exec->state == EXEC_RUNNING || exec->state == EXEC_STARTING, "ExitCode",
				 exec->state == EXEC_DONE ? json_integer(exec->exit_code) : json_null(), "ProcessConfig", "tty", exec->tty,
				 "entrypoint", exec->cmd.items[0], "user", exec->user ? exec->user : "", "arguments",
				 gt_strings_to_json(&arguments), "privileged", exec->privileged, "OpenStdin", exec->attach_stdin, "OpenStdout",
				 exec->attach_stdout, "OpenStderr", exec->attach_stderr, "CanRemove", exec->state == EXEC_DONE, "ContainerID",
				 exec->ctr->id, "Pid", (int)exec->pid, "DetachKeys", exec->detach_keys ? exec->detach_keys : "");
	if (!json)
		gt_fail(err, GT_INTERNAL, "exec %s cannot be written as JSON", exec->id);
	return json;
}

/* ---- probes ---- */

/* Reads what the probe says until its side closes or the deadline passes; what is over `max` is thrown away. */
static int gather(int fd, int64_t until, struct gt_buf *output, size_t max)
{
	for (;;) {
		int64_t left = until - gt_monotonic();
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		if (left <= 0)
			return -1;
		int rc = poll(&poll_fd, 1, (int)(left / GT_MILLISECOND) + 1);
		if (rc < 0 && errno != EINTR)
			return 0;
		if (rc <= 0)
			continue;
		char bytes[4096];
		ssize_t n = read(fd, bytes, sizeof bytes);
		if (n <= 0)
			return 0;
		size_t room = max > output->len ? max - output->len : 0;
		gt_buf_add(output, bytes, (size_t)n < room ? (size_t)n : room);
	}
}

static bool await_end(struct gt_exec *exec, int64_t until)
{
	int64_t left = until - gt_monotonic();
	struct timespec deadline = gt_deadline(left > 0 ? left : 0);
	LOCKED(&exec->ctr->lock);
	while (exec->state != EXEC_DONE && pthread_cond_timedwait(&exec->ctr->changed, &exec->ctr->lock, &deadline) == 0)
		;
	return exec->state == EXEC_DONE;
}

int gt_exec_probe(struct gt_container *ctr, const struct gt_strings *argv, int64_t timeout_ns, int *exit_code, struct gt_buf *output,
		  size_t max, struct gt_error *err)
{
	int64_t until = gt_monotonic() + timeout_ns;
	AUTO_EXEC struct gt_exec *exec = exec_new(ctr);
	gt_strings_copy(&exec->cmd, argv);
	int pair[2];
	if (check_running(ctr, err) < 0 || enter(exec, err) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		int errnum = errno;
		forget(exec);
		return gt_fail_errno(err, errnum, "make a socket for a health check");
	}
	AUTO_CLOSE int ours = pair[0];
	AUTO_CLOSE int theirs = pair[1];
	struct gt_shim_attach how = { .stdout = true, .stderr = true };
	tell_command(exec, "exec_create");
	tell_command(exec, "exec_start");
	exec->state = EXEC_STARTING;
	if (launch(exec, false, 0, 0, &how, theirs, err) < 0) {
		end_exec(exec, failure_code(err));
		forget(exec);
		return -1;
	}
	close(take_fd(theirs));
	int rc = 0;
	if (gather(ours, until, output, max) < 0 || !await_end(exec, until)) {
		struct gt_shim *shim = gt_container_shim(ctr, NULL);
		if (shim) {
			gt_shim_signal(shim, exec->id, SIGKILL, NULL);
			gt_container_shim_put(ctr);
		}
		await_end(exec, gt_monotonic() + 5 * GT_SECOND);
		rc = gt_fail(err, GT_TIMEOUT, "the probe did not end in time");
	}
	*exit_code = exec->exit_code;
	forget(exec);
	return rc;
}

json_t *gt_exec_ids(struct gt_container *ctr)
{
	json_t *ids = json_array();
	pthread_rwlock_rdlock(&ctr->engine->lock);
	for (const struct gt_exec *exec = ctr->execs; exec; exec = exec->next)
		json_array_append_new(ids, json_string(exec->id));
	pthread_rwlock_unlock(&ctr->engine->lock);
	return ids;
}
