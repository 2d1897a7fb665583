/*
 * main.c - gantry-shim BUNDLE: one container's process on the host.
 *
 * Started by the daemon (client.c) with one end of a socket pair as descriptor 3 and the bundle's shim.log as standard error. It makes the container
 * (core/runtime), owns its stdio (io.c), writes its log (log.c), serves attach, exec, signals and resizes (server.c), and records how it ended (exit.c). It
 * outlives its daemon from the start of the container on; before that, a daemon that goes takes everything with it.
 *
 * One thread, all signals blocked, a few hundred kilobytes: there is one of these for each container.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "shim/shim.h"

#define CONFIG_MAX (16u * 1024 * 1024)

void gt_shim_want_tick(struct shim *shim)
{
	shim->loop.tick_ms = GT_TICK_MS;
}

static void tick(void *owner)
{
	struct shim *shim = owner;
	shim->loop.tick_ms = 0; /* whoever still waits asks again */
	gt_exit_tick(shim);
}

static void look(void *owner)
{
	gt_exit_look(owner);
}

/* ---- until the start ---- */

void gt_shim_undo(struct shim *shim)
{
	gt_loop_remove(&shim->loop, &shim->ready); /* the fd is the runtime's */
	gt_runtime_destroy(take(shim->runtime));
	shim->phase = PHASE_FAILED;
	gt_server_close(shim);
	gt_proc_release(&shim->init);
}

static void ready_to_start(struct gt_source *source, uint32_t events)
{
	struct shim *shim = source->owner;
	(void)events;
	gt_loop_remove(&shim->loop, source);
	if (gt_runtime_ready(shim->runtime, &shim->failure) < 0) {
		gt_shim_undo(shim);
		if (shim->start_wanted) {
			gt_server_answer(shim, &shim->failure);
			shim->loop.stop = true;
		}
		return;
	}
	shim->is_ready = true;
	if (shim->start_wanted)
		gt_shim_start_now(shim);
}

void gt_shim_start_now(struct shim *shim)
{
	struct gt_process process = { .pidfd = -1, .console = -1 };
	shim->started = gt_now();
	if (gt_runtime_start(shim->runtime, &process, &shim->failure) < 0 ||
	    gt_proc_started(&shim->init, &process, gt_init_exited, &shim->failure) < 0) {
		gt_shim_undo(shim);
		gt_server_answer(shim, &shim->failure);
		shim->loop.stop = true;
		return;
	}
	shim->phase = PHASE_STARTED;
	gt_server_answer(shim, NULL);
	gt_exit_watch(shim);
	malloc_trim(0); /* what building the container took */
}

static json_t *read_config(struct shim *shim, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(shim->bundle_fd, "config.json", CONFIG_MAX, &text, err) < 0)
		return NULL;
	json_t *config = gt_json_parse(text.data, text.len, "config.json", err);
	if (config && gt_annotations_read(config, &shim->notes, err) == 0)
		return config;
	json_decref(config);
	return NULL;
}

int gt_shim_reopen(struct shim *shim, struct gt_error *err)
{
	struct gt_annotations before = shim->notes;
	if (!shim->log)
		return gt_fail(err, GT_CONFLICT, "the container has ended and its log is complete");
	AUTO_JSON json_t *config = read_config(shim, err);
	struct gt_annotations notes = shim->notes;
	shim->notes = before; /* what is not about the log is settled at the start; its strings are those of the first configuration */
	return config ? gt_logfile_reopen(shim->log, &notes.log, err) : -1;
}

static int create_container(struct shim *shim, struct gt_error *err)
{
	struct gt_proc *init = &shim->init;
	const json_t *process = json_object_get(shim->config, "process");
	int child[3] = { -1, -1, -1 };
	gt_json_bool(process, "terminal", &init->tty, NULL);
	init->input_wanted = shim->notes.stdin_mode != GT_STDIN_NONE;
	init->input_once = shim->notes.stdin_mode == GT_STDIN_ONCE;
	if (!init->tty && gt_proc_pipes(init, init->input_wanted, true, true, child, err) < 0)
		return -1;
	int rc = gt_runtime_create(shim->bundle, shim->config, child, &shim->runtime, err);
	for (int i = 0; i < 3; i++) {
		if (child[i] >= 0)
			close(child[i]);
	}
	return rc;
}

/* Up to the point where the daemon's drivers can go to work. */
static int create(struct shim *shim, struct gt_error *err)
{
	shim->bundle_fd = open(shim->bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (shim->bundle_fd < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the bundle %s", shim->bundle);
	shim->config = read_config(shim, err);
	if (!shim->config || gt_loop_open(&shim->loop, err) < 0 || create_container(shim, err) < 0)
		return -1;
	/* The child is at work meanwhile. The socket is there before the daemon hears of the container: it may attach at once. */
	shim->ready = (struct gt_source){ .fd = -1, .ready = ready_to_start, .owner = shim };
	if (gt_loop_add(&shim->loop, &shim->ready, gt_runtime_ready_fd(shim->runtime), EPOLLIN, err) < 0 ||
	    gt_server_open(shim, err) < 0 || gt_logfile_open(&shim->notes.log, &shim->log, err) < 0)
		return -1;
	shim->init.log = shim->log;
	return gt_server_created(shim, gt_runtime_pid(shim->runtime), gt_runtime_netns(shim->runtime), err);
}

static int run(struct shim *shim)
{
	struct gt_error err = { 0 };
	int rc = 0;
	if (create(shim, &err) < 0) {
		gt_shim_undo(shim);
		shim->events.fd = GT_SHIM_SYNC_FD;
		gt_server_answer(shim, &err);
		rc = 1;
	} else {
		gt_loop_run(&shim->loop);
	}
	gt_proc_release(&shim->init);
	gt_logfile_close(shim->log);
	gt_events_free(shim);
	gt_loop_close(&shim->loop);
	json_decref(shim->config);
	free(shim->scratch);
	return rc;
}

static int prepare_process(void)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	umask(022);
	/* One arena, and big buffers go back to the kernel when they are freed. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024);
	/* What loses its parent in the container comes to us, where the container has no pid namespace of its own. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return -1;
	return fcntl(GT_SHIM_SYNC_FD, F_SETFD, FD_CLOEXEC) < 0 || fcntl(GT_SHIM_SYNC_FD, F_SETFL, O_NONBLOCK) < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	static const char USAGE[] = "gantry-shim: gantryd starts this program, one for each container\n";
	static struct shim shim = { .bundle_fd = -1, .loop.epoll = -1, .listener.fd = -1, .events.fd = -1, .ready.fd = -1, .oom.fd = -1,
				    .children.fd = -1 };
	int type = 0;
	socklen_t len = sizeof type;
	if (argc != 2 || getsockopt(GT_SHIM_SYNC_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		gt_write_full(STDERR_FILENO, USAGE, sizeof USAGE - 1);
		return 2;
	}
	if (prepare_process() < 0) {
		gt_err("this process cannot be a container's shim", "error", strerror(errno));
		return 1;
	}
	shim.bundle = argv[1];
	shim.scratch = gt_xmalloc(GT_SCRATCH);
	shim.loop.tick = tick;
	shim.loop.after = look;
	shim.loop.owner = &shim;
	gt_proc_init(&shim.init, &shim, "");
	return run(&shim);
}
