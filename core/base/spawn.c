#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_MAX_FDS 16
#define SPAWN_STACK (64 * 1024)

struct child_args {
	const struct gt_spawn *how;
	int failure;            /* errno of the step that failed; memory is shared with the parent */
};

/* The child leaves its stack by execve, so the address sanitizer's marks on it stay behind, and meet the next child whose stack is mapped
 * at the same place: the functions that run there go without. */
#if defined(__SANITIZE_ADDRESS__)
#define NO_STACK_MARKS __attribute__((no_sanitize("address")))
#else
#define NO_STACK_MARKS
#endif

/* The thread sanitizer takes every clone for a fork, and would write down in the memory that both share that it is in a child. It gets one. */
#if defined(__SANITIZE_THREAD__)
#define SHARED_MEMORY 0
#define STACK_MAPPING MAP_SHARED
#else
#define SHARED_MEMORY CLONE_VM
#define STACK_MAPPING MAP_PRIVATE
#endif

/* A table of its own, with no more than what is wanted in it: the parent's long-lived descriptors are many, and high (gt_fd_raise). */
NO_STACK_MARKS static int leave_table(const int *fds, size_t nfds)
{
	int highest = STDERR_FILENO;
	for (size_t i = 0; i < nfds; i++) {
		if (fds[i] > highest)
			highest = fds[i];
	}
	return close_range((unsigned)highest + 1, ~0u, CLOSE_RANGE_UNSHARE);
}

/* Moves the wanted descriptors above the range they will land in, then into place. */
NO_STACK_MARKS static int place_fds(const int *fds, int nfds)
{
	int high[SPAWN_MAX_FDS];
	for (int i = 0; i < nfds; i++) {
		int from = fds[i] >= 0 ? fds[i] : open("/dev/null", O_RDWR | O_CLOEXEC);
		high[i] = fcntl(from, F_DUPFD_CLOEXEC, nfds);
		if (high[i] < 0)
			return -1;
	}
	for (int i = 0; i < nfds; i++) {
		if (dup2(high[i], i) < 0)
			return -1;
	}
	/* What this process itself inherited without O_CLOEXEC goes no further. */
	return close_range((unsigned)nfds, ~0u, CLOSE_RANGE_CLOEXEC);
}

/* Runs on its own stack in the parent's memory: async-signal-safe calls only. */
NO_STACK_MARKS static int child_main(void *arg)
{
	struct child_args *args = arg;
	const struct gt_spawn *how = args->how;
	char *empty[] = { NULL };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	if (leave_table(how->fds, how->nfds) < 0)
		goto failed;
	for (int sig = 1; sig < NSIG; sig++) {
		if (sig != SIGKILL && sig != SIGSTOP)
			sigaction(sig, &dfl, NULL);
	}
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if ((how->new_session && setsid() < 0) || place_fds(how->fds, (int)how->nfds) < 0 ||
	    chdir(how->cwd ? how->cwd : "/") < 0)
		goto failed;
	execve(how->path, how->argv, how->envp ? how->envp : empty);
failed:
	args->failure = errno ? errno : EINVAL;
	_exit(127);
}

int gt_spawn(const struct gt_spawn *how, pid_t *pid, int *pidfd, struct gt_error *err)
{
	if (how->nfds > SPAWN_MAX_FDS)
		return gt_fail(err, GT_INTERNAL, "start %s: too many descriptors", how->path);
	void *stack = mmap(NULL, SPAWN_STACK, PROT_READ | PROT_WRITE, STACK_MAPPING | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return gt_fail_sys(err, GT_INTERNAL, errno, "start %s", how->path);

	/* No handler of ours may run in the child while it shares our memory. */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int cancel;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	struct child_args *args = stack; /* at the far end of the child's stack */
	*args = (struct child_args){ .how = how };
	int fd = -1;
	pid_t child = clone(child_main, (char *)stack + SPAWN_STACK, SHARED_MEMORY | CLONE_FILES | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
			    args, &fd);
	int failure = child < 0 ? errno : args->failure;
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	munmap(stack, SPAWN_STACK);

	if (failure) {
		if (child > 0) {
			siginfo_t info;
			waitid(P_PID, (id_t)child, &info, WEXITED);
			close(fd);
		}
		return gt_fail_sys(err, GT_INTERNAL, failure, "start %s", how->path);
	}
	if (pid)
		*pid = child;
	if (pidfd)
		*pidfd = fd;
	else
		close(fd);
	return 0;
}

int gt_reap(int pidfd, int *status, struct gt_error *err)
{
	siginfo_t info = { 0 };
	int rc;
	do {
		rc = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "wait for a child process");
	*status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status & 0x7f;
	return 0;
}
