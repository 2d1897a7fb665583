/*
 * exec.c - one more process in a running container.
 *
 * Two steps, as a pid namespace is entered by children alone: a go-between enters the cgroups and namespaces and clones the process as its own sibling
 * (CLONE_PARENT), so that the shim is its parent and reaps it. The go-between ends at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/internal.h"

struct birth {
	pid_t pid;              /* 0: failed, err tells */
	struct gt_error err;
	int64_t is_birth;       /* by its size it is told from a struct message */
};
_Static_assert(sizeof(struct birth) != sizeof(struct message), "the two kinds of packets are told by their size");

static void run_process(const struct gt_runtime *runtime, const json_t *process, const int stdio[3], int sock) __attribute__((noreturn));

static void run_process(const struct gt_runtime *runtime, const json_t *process, const int stdio[3], int sock)
{
	struct gt_error err = { 0 };
	struct plan plan = { .bpf = runtime->bpf, .init = -1 };
	bool terminal = json_is_true(gt_json_get(process, "terminal"));
	int console = -1;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setsid();
	if ((terminal ? (console = console_open(process, false, &err)) < 0 : stdio_take(stdio, &err) < 0) ||
	    plan_make(process, runtime->spec.user, runtime->spec.group_add, -1, &plan, &err) < 0 ||
	    report_send(sock, REPORT_READY, NULL, console) < 0) {
		report_send(sock, REPORT_FAILED, &err, -1);
		_exit(1);
	}
	if (console >= 0)
		close(console);
	close_at_exec();
	plan_run(&plan, &err);
	report_send(sock, REPORT_FAILED, &err, -1);
	_exit(1);
}

static int enter(const struct gt_runtime *runtime, struct gt_error *err)
{
	int flags = 0;
	int rc = gt_cgroup_join_self(runtime->cgroup);
	if (rc < 0)
		return gt_fail_sys(err, GT_INTERNAL, -rc, "enter the container's cgroup");
	write_oom_score(runtime->spec.has_oom_score ? runtime->spec.oom_score : 0);
	for (size_t i = 0; i < runtime->spec.namespace_count; i++)
		flags |= runtime->spec.namespaces[i].flag;
	if (setns(runtime->pidfd, flags) < 0)
		return gt_fail_sys(err, errno == ESRCH ? GT_CONFLICT : GT_INTERNAL, errno, "enter the container's namespaces");
	if (flags & CLONE_NEWUSER && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return gt_fail_errno(err, errno, "become root of the user namespace");
	return 0;
}

static void go_between(const struct gt_runtime *runtime, const json_t *process, const int stdio[3], int sock) __attribute__((noreturn));

static void go_between(const struct gt_runtime *runtime, const json_t *process, const int stdio[3], int sock)
{
	struct birth birth = { 0 };
	int pidfd = -1;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (enter(runtime, &birth.err) == 0) {
		birth.pid = clone_child(CLONE_PARENT, NULL, &pidfd);
		if (birth.pid == 0)
			run_process(runtime, process, stdio, sock);
		if (birth.pid < 0) {
			gt_fail_sys(&birth.err, GT_INTERNAL, errno, "clone a process into the container");
			birth.pid = 0;
		}
	}
	gt_send_fds(sock, &birth, sizeof birth, &pidfd, pidfd >= 0 ? 1 : 0);
	_exit(0);
}

/* The two speak on one line: the birth may come before or after what the process itself says. */
static int await_birth(int sock, struct gt_process *out, struct message *said, int *console, struct gt_error *err)
{
	bool born = false, spoken = false;
	*console = -1;
	while (!born || !spoken) {
		union {
			struct birth birth;
			struct message message;
		} packet;
		int fds[1];
		size_t count = 1;
		ssize_t n = gt_recv_fds(sock, &packet, sizeof packet, fds, &count);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return gt_fail(err, GT_INTERNAL, "a process for the container died while it was set up");
		if (n == (ssize_t)sizeof(struct birth)) {
			if (packet.birth.pid == 0) {
				if (err)
					*err = packet.birth.err;
				return -1;
			}
			born = true;
			out->pid = packet.birth.pid;
			out->pidfd = count ? fds[0] : -1;
		} else {
			spoken = true;
			*said = packet.message;
			*console = count ? fds[0] : -1;
		}
	}
	return 0;
}

static int follow(int sock, struct gt_process *out, struct gt_error *err)
{
	struct message said = { 0 };
	int fd;
	if (await_birth(sock, out, &said, &out->console, err) < 0)
		return -1;
	if (said.type != REPORT_READY) {
		if (err)
			*err = said.err;
		return -1;
	}
	return report_receive(sock, true, &fd, err);
}

int gt_runtime_exec(struct gt_runtime *runtime, const json_t *process, const int stdio[3], struct gt_process *out, struct gt_error *err)
{
	int pair[2], pidfd = -1;
	*out = (struct gt_process){ .pidfd = -1, .console = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_errno(err, errno, "make a line to the new process");
	pid_t pid = clone_child(0, runtime->cgroup, &pidfd);
	if (pid == 0) {
		close(pair[0]);
		go_between(runtime, process, stdio, pair[1]);
	}
	AUTO_CLOSE int sock = pair[0];
	close(pair[1]);
	if (pid < 0)
		return gt_fail_errno(err, errno, "clone a process");
	int rc = follow(sock, out, err);
	waitpid(pid, NULL, __WALL);
	close(pidfd);
	if (rc < 0) {
		if (out->pid)
			waitpid(out->pid, NULL, __WALL); /* it has said its last word */
		if (out->pidfd >= 0)
			close(out->pidfd);
		if (out->console >= 0)
			close(out->console);
		*out = (struct gt_process){ .pidfd = -1, .console = -1 };
		return -1;
	}
	if (out->console >= 0)
		fcntl(out->console, F_SETFL, fcntl(out->console, F_GETFL) | O_NONBLOCK);
	return 0;
}
