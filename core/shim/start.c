/*
 * start.c - from a bundle to a running container, or back to nothing.
 *
 * create -> CREATED to the daemon -> (the child is ready, the daemon asks for START, in either order) -> start. Whatever fails on the way, or the daemon
 * going away before START, undoes all: the child is killed, its cgroup and shim.sock are removed, waiting clients are closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "shim/shim.h"

#define CONFIG_MAX ((size_t)16 << 20)

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

/* ---- the kernel's OOM killer should take a container rather than its shim ---- */

#define OWN_SCORE (-998)
#define SCORE_FILE "/proc/self/oom_score_adj"

static bool write_score(int64_t score)
{
	char text[24];
	snprintf(text, sizeof text, "%lld", (long long)score);
	return gt_write_control(AT_FDCWD, SCORE_FILE, text, NULL) == 0;
}

/* After the clone of init, which has the daemon's score or that of its configuration. Where it is not permitted (CAP_SYS_RESOURCE) nothing changes. */
static void guard(struct shim *shim)
{
	if (gt_read_number(AT_FDCWD, SCORE_FILE, &shim->child_score, NULL) < 0)
		return;
	shim->guarded = write_score(OWN_SCORE);
	gt_json_int(json_object_get(shim->config, "process"), "oomScoreAdj", &shim->child_score, NULL);
}

void gt_shim_guard(struct shim *shim, bool on)
{
	if (shim->guarded)
		write_score(on ? OWN_SCORE : shim->child_score);
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

int gt_shim_create(struct shim *shim, struct gt_error *err)
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
	if (gt_server_created(shim, gt_runtime_pid(shim->runtime), gt_runtime_netns(shim->runtime), err) < 0)
		return -1;
	guard(shim);
	return 0;
}
