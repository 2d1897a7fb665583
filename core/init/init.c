/*
 * init.c - gantry-init, PID 1 of containers that ask for one (--init): starts the container's program, passes signals on to it, reaps whatever is
 * orphaned, and ends as the program ended.
 *
 * Usage: gantry-init -- PROGRAM [ARGUMENTS]. Static and small; no allocation.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what, const char *program)
{
	dprintf(2, "gantry-init: %s %s: %s\n", what, program, strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

/* The program: a process group of its own, in the foreground where there is a terminal. */
static int run_program(char **argv, const sigset_t *signals)
{
	setpgid(0, 0);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	tcsetpgrp(0, getpgrp()); /* without a terminal it fails, which is well */
	signal(SIGTTOU, SIG_DFL);
	signal(SIGTTIN, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, signals, NULL);
	execvp(argv[0], argv);
	return fail("run", argv[0]);
}

/* Reaps everything; returns 1 when it was the program, with its exit status. */
static int reap(pid_t program, int *code)
{
	int status, ended = 0;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		if (pid != program)
			continue;
		*code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		ended = 1;
	}
	return ended;
}

int main(int argc, char **argv)
{
	sigset_t all;
	int code = 0;
	char **program = argv + 1;
	if (argc > 1 && strcmp(argv[1], "--") == 0)
		program++;
	if (!*program) {
		dprintf(2, "Usage: gantry-init -- PROGRAM [ARGUMENTS]\n");
		return 2;
	}
	sigfillset(&all);
	static const int KEPT[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU };
	for (size_t i = 0; i < sizeof KEPT / sizeof KEPT[0]; i++)
		sigdelset(&all, KEPT[i]);
	sigprocmask(SIG_BLOCK, &all, NULL);
	pid_t child = fork();
	if (child < 0)
		return fail("fork for", *program);
	if (child == 0)
		_exit(run_program(program, &all));
	for (;;) {
		int signo = sigwaitinfo(&all, NULL);
		if (signo == SIGCHLD) {
			if (reap(child, &code))
				return code;
		} else if (signo > 0) {
			kill(child, signo);
		}
	}
}
