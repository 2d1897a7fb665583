/*
 * exec.c - further processes in the container, from the request to their end.
 *
 * When one has ended, what its pipes hold goes to its client, the daemon gets a notice, and only when the daemon has dealt with that (or is not there, or takes
 * too long) the client's socket is closed: who reads to the end and then asks for the exit code must find it.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/json.h"
#include "shim/client.h"
#include "shim/shim.h"

#define TOLD_TIMEOUT (2 * GT_SECOND)

static int check_id(struct shim *shim, const char *id, struct gt_error *err)
{
	for (const char *c = id; *c; c++) {
		if (!isalnum((unsigned char)*c))
			return gt_fail(err, GT_INVALID, "an exec's id has a character that is no letter and no digit");
	}
	if (!*id)
		return gt_fail(err, GT_INVALID, "an exec needs an id");
	for (const struct gt_proc *exec = shim->execs; exec; exec = exec->next) {
		if (strcmp(exec->id, id) == 0)
			return gt_fail(err, GT_CONFLICT, "exec %s is running already", id);
	}
	if (shim->exec_count >= GT_SHIM_MAX_EXECS)
		return gt_fail(err, GT_TOO_LARGE, "%d execs run in this container already", GT_SHIM_MAX_EXECS);
	return 0;
}

/* The JSON from the file that the daemon passed: its offset is shared, so by position. */
static json_t *read_process(int fd, size_t len, struct gt_error *err)
{
	if (len == 0 || len > GT_SHIM_MAX_PROCESS)
		return gt_fail_null(err, GT_INVALID, "the description of a process has %zu bytes, 1 to %zu are possible", len, GT_SHIM_MAX_PROCESS);
	AUTO_FREE char *text = gt_xmalloc(len);
	for (size_t got = 0; got < len;) {
		ssize_t n = pread(fd, text + got, len - got, (off_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return gt_fail_null(err, GT_INVALID, "the description of a process is cut short");
		got += (size_t)n;
	}
	return gt_json_parse(text, len, "process", err);
}

static void unlink_exec(struct gt_proc *exec)
{
	for (struct gt_proc **slot = &exec->shim->execs; *slot; slot = &(*slot)->next) {
		if (*slot == exec) {
			*slot = exec->next;
			exec->shim->exec_count--;
			return;
		}
	}
}

static void free_exec(struct gt_proc *exec)
{
	gt_proc_release(exec);
	free(exec);
}

/* Clients are closed when their bytes are out. */
static void end_clients(struct gt_proc *exec)
{
	exec->told = true;
	exec->shim->look = true;
	for (struct gt_client *client = exec->clients, *next; client; client = next) {
		next = client->next;
		gt_client_end(client);
	}
}

static void exec_ended(struct gt_proc *exec, int code, int signo)
{
	struct shim *shim = exec->shim;
	struct gt_shim_notice notice = { .event = GT_SHIM_EXEC_EXIT, .code = code, .signal = signo, .at = gt_now() };
	memcpy(notice.exec_id, exec->id, sizeof exec->id);
	gt_loop_drop(&shim->loop, &exec->exit);
	gt_proc_drain(exec);
	gt_events_add(shim, &notice);
	if (!exec->clients || !gt_server_has_listener(shim)) {
		end_clients(exec);
		return;
	}
	exec->close_at = gt_monotonic() + TOLD_TIMEOUT;
	gt_shim_want_tick(shim);
}

static void exec_exited(struct gt_source *source, uint32_t events)
{
	struct gt_proc *exec = source->owner;
	int code, signo;
	(void)events;
	if (gt_reap_status(source->fd, &code, &signo))
		exec_ended(exec, code, signo);
}

/* ---- the birth ---- */

struct gt_making {
	struct gt_birth *birth;
	struct gt_source line;
	struct gt_shim_request request;
	int client_fd;                  /* attached when there is something to attach to; -1: nobody */
	struct gt_conn *asker;          /* waits for the answer; NULL: gone */
	unsigned daemon;                /* without an asker: shim->daemons when it went */
	int64_t decide_at;              /* gt_monotonic() */
};

static void free_making(struct gt_proc *exec)
{
	struct gt_making *making = take(exec->making);
	if (!making)
		return;
	gt_loop_remove(&exec->shim->loop, &making->line); /* the fd is the birth's */
	gt_birth_end(making->birth);
	if (making->client_fd >= 0)
		close(making->client_fd);
	free(making);
}

static void fail_making(struct gt_proc *exec, const struct gt_error *err)
{
	struct gt_conn *asker = exec->making->asker;
	if (exec->pid) /* what has no owner is reaped with the strays */
		kill(exec->pid, SIGKILL);
	free_making(exec);
	unlink_exec(exec);
	free_exec(exec);
	if (asker)
		gt_server_exec_done(asker, 0, err);
}

static int complete(struct gt_proc *exec, const struct gt_process *made, struct gt_error *err)
{
	struct gt_making *making = exec->making;
	if (gt_proc_started(exec, made, exec_exited, err) < 0)
		return -1;
	if (making->client_fd >= 0) {
		if (gt_client_add(exec, &making->request, making->client_fd, err) < 0)
			return -1;
		making->client_fd = -1;
	}
	gt_proc_balance(exec);
	return 0;
}

static void line_ready(struct gt_source *source, uint32_t events)
{
	struct gt_proc *exec = source->owner;
	struct shim *shim = exec->shim;
	struct gt_process made = { .pidfd = -1, .console = -1 };
	struct gt_error err = { 0 };
	(void)events;
	int rc = gt_birth_step(exec->making->birth, &made, &err);
	if (rc == 0)
		return;
	if (rc < 0 || complete(exec, &made, &err) < 0) {
		fail_making(exec, &err);
	} else {
		struct gt_conn *asker = exec->making->asker;
		free_making(exec);
		if (asker)
			gt_server_exec_done(asker, exec->pid, NULL);
	}
	gt_reap_strays(shim);
}

/* Pipes for what somebody is there to read or write; /dev/null for the rest. Nothing is read before the client is attached. */
static int begin(struct gt_proc *exec, const json_t *process, struct gt_error *err)
{
	struct shim *shim = exec->shim;
	struct gt_making *making = exec->making;
	bool attached = making->client_fd >= 0;
	int child[3] = { -1, -1, -1 };
	if (!exec->tty && gt_proc_pipes(exec, exec->input_wanted, attached && (making->request.attach & GT_SHIM_ATTACH_STDOUT),
					attached && (making->request.attach & GT_SHIM_ATTACH_STDERR), child, err) < 0)
		return -1;
	for (int i = 0; i < 2; i++)
		gt_loop_want(&shim->loop, &exec->output[i].source, 0);
	gt_shim_guard(shim, false);
	int rc = gt_runtime_exec(shim->runtime, process, child, &making->birth, err);
	gt_shim_guard(shim, true);
	for (int i = 0; i < 3; i++) {
		if (child[i] >= 0)
			close(child[i]);
	}
	making->line = (struct gt_source){ .fd = -1, .ready = line_ready, .owner = exec };
	return rc < 0 ? -1 : gt_loop_add(&shim->loop, &making->line, gt_birth_fd(making->birth), EPOLLIN, err);
}

int gt_exec_begin(struct shim *shim, const struct gt_shim_request *request, int process_fd, int client_fd, struct gt_conn *asker,
		  struct gt_proc **out, struct gt_error *err)
{
	bool terminal = false;
	if (shim->phase != PHASE_STARTED)
		return gt_fail(err, GT_CONFLICT, "the container is not running");
	if (check_id(shim, request->exec_id, err) < 0)
		return -1;
	AUTO_JSON json_t *process = read_process(process_fd, request->process_len, err);
	if (!process || gt_json_bool(process, "terminal", &terminal, err) < 0)
		return -1;
	struct gt_proc *exec = gt_xmalloc(sizeof *exec);
	gt_proc_init(exec, shim, request->exec_id);
	exec->tty = terminal;
	exec->input_wanted = request->stdin_open != 0;
	exec->input_once = true;
	exec->making = gt_xmalloc(sizeof *exec->making);
	*exec->making = (struct gt_making){ .line.fd = -1, .request = *request, .client_fd = client_fd, .asker = asker };
	if (begin(exec, process, err) < 0) {
		exec->making->client_fd = -1; /* still the caller's */
		free_making(exec);
		free_exec(exec);
		return -1;
	}
	exec->next = shim->execs;
	shim->execs = exec;
	shim->exec_count++;
	*out = exec;
	return 0;
}

/* Either the daemon waits no longer, and nothing may run, or it has died, and what it began goes on. Its lines close one after the other, so time tells. */
void gt_exec_asker_gone(struct gt_proc *exec)
{
	struct gt_making *making = exec->making;
	making->asker = NULL;
	making->daemon = exec->shim->daemons;
	making->decide_at = gt_monotonic() + GT_SECOND;
	gt_shim_want_tick(exec->shim);
}

/* May free it. */
static void decide(struct gt_proc *exec)
{
	const struct gt_making *making = exec->making;
	struct shim *shim = exec->shim;
	if (making->asker || making->daemon != shim->daemons || !gt_server_has_listener(shim))
		return;
	if (gt_monotonic() < making->decide_at) {
		gt_shim_want_tick(shim);
		return;
	}
	fail_making(exec, NULL);
}

bool gt_execs_making(const struct shim *shim)
{
	for (const struct gt_proc *exec = shim->execs; exec; exec = exec->next) {
		if (exec->making)
			return true;
	}
	return false;
}

void gt_execs_abandon(struct shim *shim)
{
	struct gt_error err = { 0 };
	gt_fail(&err, GT_CONFLICT, "the container is not running");
	for (struct gt_proc *exec = shim->execs, *next; exec; exec = next) {
		next = exec->next;
		if (exec->making)
			fail_making(exec, &err);
	}
}

/* ---- while it runs ---- */

struct gt_proc *gt_proc_find(struct shim *shim, const char *id, struct gt_error *err)
{
	if (!*id)
		return &shim->init;
	for (struct gt_proc *exec = shim->execs; exec; exec = exec->next) {
		if (strcmp(exec->id, id) == 0)
			return exec;
	}
	return gt_fail_null(err, GT_NOT_FOUND, "exec %s is not running", id);
}

int gt_proc_signal(struct gt_proc *proc, int signo, struct gt_error *err)
{
	if (signo < 1 || signo > 64)
		return gt_fail(err, GT_INVALID, "%d is not the number of a signal", signo);
	if (proc->exit.fd < 0 || syscall(SYS_pidfd_send_signal, proc->exit.fd, signo, NULL, 0) == 0)
		return proc->exit.fd < 0 ? gt_fail(err, GT_NOT_FOUND, "the process is not running") : 0;
	if (errno == ESRCH)
		return gt_fail(err, GT_NOT_FOUND, "the process has ended");
	return gt_fail_sys(err, GT_INTERNAL, errno, "send signal %d", signo);
}

void gt_exec_acknowledged(struct shim *shim, const char *id)
{
	for (struct gt_proc *exec = shim->execs; exec; exec = exec->next) {
		if (exec->ended && !exec->told && strcmp(exec->id, id) == 0) {
			end_clients(exec);
			return;
		}
	}
}

void gt_execs_tick(struct shim *shim)
{
	for (struct gt_proc *exec = shim->execs, *next; exec; exec = next) {
		next = exec->next;
		if (exec->making) {
			decide(exec);
			continue;
		}
		if (exec->ended && !exec->told) {
			if (gt_monotonic() >= exec->close_at || !gt_server_has_listener(shim))
				end_clients(exec);
			else
				gt_shim_want_tick(shim);
		}
		gt_clients_tick(exec);
	}
}

void gt_execs_sweep(struct shim *shim)
{
	for (struct gt_proc *exec = shim->execs, *next; exec; exec = next) {
		next = exec->next;
		if (exec->ended && exec->told && !exec->clients) {
			unlink_exec(exec);
			free_exec(exec);
		}
	}
}

void gt_execs_end(struct shim *shim)
{
	for (struct gt_proc *exec = shim->execs; exec; exec = exec->next) {
		int code = 128 + SIGKILL, signo = SIGKILL;
		if (!exec->ended) {
			gt_reap_status(exec->exit.fd, &code, &signo);
			exec_ended(exec, code, signo);
		}
		if (!exec->told) /* EXIT follows, which says enough */
			end_clients(exec);
	}
}
