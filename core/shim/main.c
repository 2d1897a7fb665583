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
#include "base/fd.h"
#include "base/log.h"
#include "shim/shim.h"

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

static int run(struct shim *shim)
{
	struct gt_error err = { 0 };
	int rc = 0;
	if (gt_shim_create(shim, &err) < 0) {
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
