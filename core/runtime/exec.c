/*
 * exec.c - one more process in a running container.
 *
 * Two steps, as a pid namespace is entered by children alone: a go-between enters the cgroups and namespaces and clones the process as its own sibling
 * (CLONE_PARENT), so that the shim is its parent and reaps it. The go-between ends at once.
 *
 * The shim does not wait for them: in a container that is paused they stand still, and a container's file system may keep them for as long as it
 * likes. They say on one line how it went, and the shim listens when there is something to hear.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/internal.h"

struct born {
	pid_t pid;              /* 0: failed, err tells */
	struct gt_error err;
	int64_t is_birth;       /* by its size it is told from a struct message */
};
_Static_assert(sizeof(struct born) != sizeof(struct message), "the two kinds of packets are told by their size");

struct gt_birth {
	const struct gt_runtime *runtime;
	int sock;
	int go_between;         /* pidfd */
	bool ready;             /* all that is missing is the exec, with which the line closes */
	struct gt_process made;
};

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
	    plan_make(process, runtime->spec.user, runtime->spec.group_add, false, &plan, &err) < 0 ||
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

static int fail_ended(struct gt_error *err)
{
	return gt_fail(err, GT_CONFLICT, "the container is not running");
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
		return errno == ESRCH ? fail_ended(err) : gt_fail_sys(err, GT_INTERNAL, errno, "enter the container's namespaces");
	if (flags & CLONE_NEWUSER && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return gt_fail_errno(err, errno, "become root of the user namespace");
	return keyring_join(&runtime->spec, err);
}

static void go_between(const struct gt_runtime *runtime, const json_t *process, const int stdio[3], int sock) __attribute__((noreturn));

static void go_between(const struct gt_runtime *runtime, const json_t *process, const int stdio[3], int sock)
{
	struct born born = { 0 };
	int pidfd = -1;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (enter(runtime, &born.err) == 0) {
		born.pid = clone_child(CLONE_PARENT, -1, &pidfd);
		if (born.pid == 0)
			run_process(runtime, process, stdio, sock);
		if (born.pid < 0) {
			gt_fail_sys(&born.err, GT_INTERNAL, errno, "clone a process into the container");
			born.pid = 0;
		}
	}
	gt_send_fds(sock, &born, sizeof born, &pidfd, pidfd >= 0 ? 1 : 0);
	_exit(0);
}

int gt_runtime_exec(struct gt_runtime *runtime, const json_t *process, const int stdio[3], struct gt_birth **birth, struct gt_error *err)
{
	int pair[2], pidfd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_errno(err, errno, "make a line to the new process");
	pid_t pid = clone_child(0, gt_cgroup_clone_fd(runtime->cgroup), &pidfd);
	AUTO_CLOSE int below = -1;
	if (pid < 0 && errno == EBUSY) { /* the container has handed its controllers on to cgroups of its own: into its first process's */
		below = gt_cgroup_open_below(runtime->cgroup, runtime->pid);
		pid = clone_child(0, below >= 0 ? below : gt_cgroup_clone_fd(runtime->cgroup), &pidfd);
	}
	if (pid == 0) {
		close(pair[0]);
		go_between(runtime, process, stdio, pair[1]);
	}
	int errnum = errno;
	close(pair[1]);
	if (pid < 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
		close(pair[0]);
		return gt_fail_errno(err, errnum, "clone a process");
	}
	*birth = gt_xmalloc(sizeof **birth);
	**birth = (struct gt_birth){ .runtime = runtime, .sock = pair[0], .go_between = pidfd, .made = { .pidfd = -1, .console = -1 } };
	return 0;
}

int gt_birth_fd(const struct gt_birth *birth)
{
	return birth->sock;
}

static int hear_born(struct gt_birth *birth, const struct born *born, int pidfd, struct gt_error *err)
{
	if (born->pid) {
		birth->made.pid = born->pid;
		birth->made.pidfd = pidfd;
		return 0;
	}
	if (err)
		*err = born->err;
	return -1;
}

static int hear_said(struct gt_birth *birth, const struct message *message, int console, struct gt_error *err)
{
	if (message->type == REPORT_READY) {
		birth->ready = true;
		birth->made.console = console;
		return 0;
	}
	if (err) {
		*err = message->err;
		err->message[sizeof err->message - 1] = '\0';
	}
	return -1;
}

/* The line has closed: by exec, or by death. */
static int hear_end(struct gt_birth *birth, struct gt_process *out, struct gt_error *err)
{
	struct pollfd init = { .fd = birth->runtime->pidfd, .events = POLLIN };
	if (birth->ready && birth->made.pid) {
		*out = birth->made;
		birth->made = (struct gt_process){ .pidfd = -1, .console = -1 };
		if (out->console >= 0)
			fcntl(out->console, F_SETFL, fcntl(out->console, F_GETFL) | O_NONBLOCK);
		return 1;
	}
	if (poll(&init, 1, 0) > 0)
		return fail_ended(err);
	return gt_fail(err, GT_INTERNAL, "a process for the container died while it was set up");
}

/* Births and words come in either order. */
int gt_birth_step(struct gt_birth *birth, struct gt_process *out, struct gt_error *err)
{
	for (;;) {
		union {
			struct born born;
			struct message message;
		} packet;
		int fds[1] = { -1 };
		size_t count = 1;
		ssize_t n = gt_recv_fds(birth->sock, &packet, sizeof packet, fds, &count);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return hear_end(birth, out, err);
		int fd = count ? fds[0] : -1;
		int rc = n == (ssize_t)sizeof(struct born) ? hear_born(birth, &packet.born, fd, err) :
							     hear_said(birth, &packet.message, fd, err);
		if (rc < 0)
			return -1;
	}
}

void gt_birth_end(struct gt_birth *birth)
{
	if (!birth)
		return;
	syscall(SYS_pidfd_send_signal, birth->go_between, SIGKILL, NULL, 0);
	if (birth->made.pidfd >= 0)
		syscall(SYS_pidfd_send_signal, birth->made.pidfd, SIGKILL, NULL, 0);
	int *const fds[] = { &birth->sock, &birth->go_between, &birth->made.pidfd, &birth->made.console };
	for (size_t i = 0; i < GT_COUNT(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
	}
	free(birth);
}
