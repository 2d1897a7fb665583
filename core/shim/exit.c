/*
 * exit.c - the end of the container's init, and of the shim with it.
 *
 * Order, so that whoever sees one step can rely on those before it: everything in the container is dead and its cgroup gone; the pipes are read to
 * their end and the log is complete; exit.json is written; shim.sock is gone; clients have their last bytes; the daemon is told; the shim ends. A client
 * that does not read holds up the daemon's notice by a second at most, and the shim by STALL of attach.c.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "shim/client.h"
#include "shim/shim.h"

#define TELL_AFTER GT_SECOND            /* clients may take that long before the daemon is told */
#define END_AFTER (10 * GT_SECOND)      /* the daemon may take that long to take its notice */

bool gt_reap_status(int pidfd, int *code, int *signo)
{
	siginfo_t info = { 0 };
	int rc;
	do {
		rc = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | __WALL);
	} while (rc < 0 && errno == EINTR);
	if (rc == 0 && info.si_pid == 0)
		return false;
	if (rc < 0) { /* somebody else has reaped it: how it ended is lost */
		gt_err("the exit status of a process is lost", "error", strerror(errno));
		*code = 255;
		*signo = 0;
	} else if (info.si_code == CLD_EXITED) {
		*code = info.si_status & 255;
		*signo = 0;
	} else {
		*signo = info.si_status & 127;
		*code = 128 + *signo;
	}
	return true;
}

/* ---- strays: children that came to us as the nearest subreaper ---- */

static struct gt_proc *find_pid(struct shim *shim, pid_t pid)
{
	if (shim->init.pid == pid && shim->init.exit.fd >= 0)
		return &shim->init;
	for (struct gt_proc *exec = shim->execs; exec; exec = exec->next) {
		if (exec->pid == pid && exec->exit.fd >= 0)
			return exec;
	}
	return NULL;
}

void gt_reap_strays(struct shim *shim)
{
	while (shim->phase == PHASE_STARTED) {
		siginfo_t info = { 0 };
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 || info.si_pid == 0)
			return;
		struct gt_proc *proc = find_pid(shim, info.si_pid);
		if (proc)
			proc->exit.ready(&proc->exit, EPOLLIN);
		else if (gt_execs_making(shim))
			return; /* its end will ask again */
		else
			waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG | __WALL);
	}
}

static void children_ready(struct gt_source *source, uint32_t events)
{
	struct signalfd_siginfo info[16];
	(void)events;
	while (read(source->fd, info, sizeof info) == (ssize_t)sizeof info)
		;
	gt_reap_strays(source->owner);
}

/* ---- the OOM killer ---- */

static bool tell_oom(struct shim *shim)
{
	if (!gt_runtime_oom_seen(shim->runtime))
		return false;
	if (!shim->oom_told)
		gt_events_add(shim, &(struct gt_shim_notice){ .event = GT_SHIM_OOM, .oom = 1, .at = gt_now() });
	shim->oom_told = true;
	return true;
}

static void oom_ready(struct gt_source *source, uint32_t events)
{
	struct shim *shim = source->owner;
	char bytes[4096];
	if (!(events & EPOLLIN) || read(source->fd, bytes, sizeof bytes) <= 0) {
		gt_loop_remove(&shim->loop, source); /* the fd is the runtime's */
		return;
	}
	tell_oom(shim);
}

void gt_exit_watch(struct shim *shim)
{
	struct gt_error err = { 0 };
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	int fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	shim->children = (struct gt_source){ .fd = -1, .ready = children_ready, .owner = shim };
	shim->oom = (struct gt_source){ .fd = -1, .ready = oom_ready, .owner = shim };
	if (fd < 0 || gt_loop_add(&shim->loop, &shim->children, fd, EPOLLIN, &err) < 0) {
		gt_err("orphans in the container will not be reaped", "error", fd < 0 ? strerror(errno) : err.message);
		if (fd >= 0)
			close(fd);
	}
	int oom = gt_runtime_oom_fd(shim->runtime);
	if (oom >= 0 && gt_loop_add(&shim->loop, &shim->oom, oom, EPOLLIN, &err) < 0)
		gt_err("the OOM killer cannot be watched", "error", err.message);
}

/* ---- the end ---- */

static void write_exit_file(struct shim *shim)
{
	struct gt_error err = { 0 };
	char text[256];
	const struct gt_shim_notice *exit = &shim->exit;
	int len = snprintf(text, sizeof text, "{\"code\":%d,\"signal\":%d,\"oom\":%s,\"at\":%lld,\"started\":%lld}\n", (int)exit->code,
			   (int)exit->signal, exit->oom ? "true" : "false", (long long)exit->at, (long long)shim->started);
	if (gt_replace_file(shim->bundle_fd, GT_SHIM_EXIT_FILE, text, (size_t)len, 0600, false, &err) < 0)
		gt_err("the exit status could not be written", "error", err.message);
}

static void finish_log(struct shim *shim)
{
	gt_logfile_close(shim->log);
	shim->log = shim->init.log = NULL;
}

void gt_init_exited(struct gt_source *source, uint32_t events)
{
	struct gt_proc *init = source->owner;
	struct shim *shim = init->shim;
	int code, signo;
	(void)events;
	if (!gt_reap_status(source->fd, &code, &signo))
		return;
	shim->exit = (struct gt_shim_notice){ .event = GT_SHIM_EXIT, .code = code, .signal = signo, .at = gt_now() };
	shim->exit.oom = tell_oom(shim);
	gt_loop_drop(&shim->loop, &init->exit);
	gt_loop_remove(&shim->loop, &shim->oom);
	/* With a pid namespace all are dead by now; else this kills them, and their ends of the pipes close. */
	gt_execs_abandon(shim);
	gt_runtime_destroy(take(shim->runtime));
	gt_execs_end(shim);
	gt_proc_drain(init);
	finish_log(shim);
	gt_loop_drop(&shim->loop, &shim->children);
	write_exit_file(shim);
	gt_server_close(shim);
	shim->phase = PHASE_ENDED;
	shim->exit_at = gt_monotonic() + TELL_AFTER;
	shim->end_at = gt_monotonic() + END_AFTER;
	for (struct gt_client *client = init->clients, *next; client; client = next) {
		next = client->next;
		gt_client_end(client);
	}
	shim->look = true;
	gt_shim_want_tick(shim);
}

void gt_exit_tick(struct shim *shim)
{
	gt_clients_tick(&shim->init);
	gt_execs_tick(shim);
	if (shim->phase == PHASE_ENDED) {
		shim->look = true;
		gt_shim_want_tick(shim);
	}
}

void gt_exit_look(struct shim *shim)
{
	if (!shim->look)
		return;
	shim->look = false;
	gt_execs_sweep(shim);
	if (shim->phase != PHASE_ENDED)
		return;
	bool clients = shim->init.clients || shim->execs;
	int64_t now = gt_monotonic();
	if (!shim->exit_queued && (!clients || now >= shim->exit_at)) {
		shim->exit_queued = true;
		gt_events_add(shim, &shim->exit);
	}
	if (!shim->exit_queued)
		return;
	bool told = !shim->event_head || !gt_server_has_listener(shim) || now >= shim->end_at;
	if (told) /* the daemon sees the end of the line; clients may still read */
		gt_loop_drop(&shim->loop, &shim->events);
	if (told && !clients)
		shim->loop.stop = true;
}
