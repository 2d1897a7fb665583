/*
 * program.c - starts and ends a plugin's program. It is born with a pidfd, so that it can be killed under the filter of a driver's own process too, and dies with
 * the thread that waits for it: what this process began and did not see the end of is undone by its next life, which nobody shall then work against.
 */
#include "cni.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_SIZE (64 * 1024)
#define FIRST_FREE 3

/* The child leaves its stack by execve: sanitizers' marks would stay on memory that is mapped anew. */
#if defined(__SANITIZE_ADDRESS__)
#define NO_STACK_MARKS __attribute__((no_sanitize("address")))
#else
#define NO_STACK_MARKS
#endif
/* The thread sanitizer's own memory cannot be shared. */
#if defined(__SANITIZE_THREAD__)
#define SHARED_MEMORY 0
#define STACK_MAPPING MAP_SHARED
#else
#define SHARED_MEMORY CLONE_VM
#define STACK_MAPPING MAP_PRIVATE
#endif

struct wanted {
	const char *path;
	char *const *environment;
	const int *fds;
	pid_t parent;
	int failure;                    /* errno; memory is shared with the parent */
};

/* On its own stack in the parent's memory: async-signal-safe calls alone. */
NO_STACK_MARKS static int child_main(void *arg)
{
	struct wanted *wanted = arg;
	char *words[] = { (char *)(uintptr_t)wanted->path, NULL };
	struct sigaction by_default = { .sa_handler = SIG_DFL };
	sigset_t none;
	int high[FIRST_FREE];
	for (int sig = 1; sig < NSIG; sig++) {
		if (sig != SIGKILL && sig != SIGSTOP)
			sigaction(sig, &by_default, NULL);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != wanted->parent || setpgid(0, 0) < 0 || chdir("/") < 0)
		goto failed;
	for (int i = 0; i < FIRST_FREE; i++) {
		high[i] = fcntl(wanted->fds[i], F_DUPFD_CLOEXEC, FIRST_FREE);
		if (high[i] < 0)
			goto failed;
	}
	for (int i = 0; i < FIRST_FREE; i++) {
		if (dup2(high[i], i) < 0)
			goto failed;
	}
	if (close_range(FIRST_FREE, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		goto failed;
	execve(wanted->path, words, wanted->environment);
failed:
	wanted->failure = errno ? errno : EINVAL;
	_exit(127);
}

int program_start(const char *path, char *const environment[], const int fds[3], struct program *program)
{
	sigset_t all, old;
	int pidfd = -1;
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, STACK_MAPPING | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return errno;
	struct wanted *wanted = (void *)stack; /* at the far end */
	*wanted = (struct wanted){ .path = path, .environment = environment, .fds = fds, .parent = getpid() };
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler of the process's runs in the child */
	pid_t pid = clone(child_main, stack + STACK_SIZE, SHARED_MEMORY | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, wanted, &pidfd);
	int failure = pid < 0 ? errno : wanted->failure;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	munmap(stack, STACK_SIZE);
	*program = (struct program){ .pid = pid, .pidfd = pidfd };
	if (failure && pid > 0)
		program_end(program, false);
	return failure;
}

int program_end(struct program *program, bool ended)
{
	int status = 0;
	if (!ended) {
		kill(-program->pid, SIGKILL); /* those that it started too, where signals to others are not filtered */
		syscall(SYS_pidfd_send_signal, program->pidfd, SIGKILL, NULL, 0);
	}
	while (waitpid(program->pid, &status, 0) < 0 && errno == EINTR)
		;
	close(program->pidfd);
	return ended ? status : -1;
}
