/*
 * crashpoint.c - preloaded into gantryd by tests/integration/test_crash.py: dies at the n-th call that the outside can see.
 *
 * Calls that change files, talk to other processes or make some are counted in a file that the test maps as well ($GT_CRASH_FILE). The test sets how
 * many are left; the call that takes the count to 0 is not made: the process kills itself with SIGKILL instead. So each point between two
 * visible changes can be tried, one after the other, without a race. Only the process named gantryd counts, not what it starts.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static _Atomic int64_t *left;   /* 0: not armed */
static pid_t self;

static void __attribute__((constructor)) map_count(void)
{
	const char *path = getenv("GT_CRASH_FILE");
	int fd = path && strcmp(program_invocation_short_name, "gantryd") == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return;
	self = getpid();
	left = map;
}

static void point(void)
{
	int kept = errno;
	if (!left || *left <= 0 || getpid() != self)
		return;
	if (__atomic_sub_fetch((int64_t *)left, 1, __ATOMIC_SEQ_CST) == 0)
		kill(self, SIGKILL);
	errno = kept;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, params, args) \
	type name params \
	{ \
		static __typeof__(&name) real; \
		if (!real) \
			real = REAL(name); \
		point(); \
		return real args; \
	}

WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, renameat2, (int a, const char *b, int c, const char *d, unsigned e), (a, b, c, d, e))
WRAP(int, unlink, (const char *a), (a))
WRAP(int, unlinkat, (int a, const char *b, int c), (a, b, c))
WRAP(int, rmdir, (const char *a), (a))
WRAP(int, mkdir, (const char *a, mode_t b), (a, b))
WRAP(int, mkdirat, (int a, const char *b, mode_t c), (a, b, c))
WRAP(int, symlinkat, (const char *a, int b, const char *c), (a, b, c))
WRAP(int, ftruncate, (int a, off_t b), (a, b))
WRAP(int, fsync, (int a), (a))
WRAP(int, fdatasync, (int a), (a))
WRAP(int, connect, (int a, const struct sockaddr *b, socklen_t c), (a, b, c))
WRAP(ssize_t, sendmsg, (int a, const struct msghdr *b, int c), (a, b, c))
WRAP(ssize_t, recvmsg, (int a, struct msghdr *b, int c), (a, b, c))
WRAP(ssize_t, pwrite, (int a, const void *b, size_t c, off_t d), (a, b, c, d))

ssize_t write(int fd, const void *bytes, size_t count)
{
	static __typeof__(&write) real;
	if (!real)
		real = REAL(write);
	if (fd > 2) /* not the log */
		point();
	return real(fd, bytes, count);
}

int openat(int dir, const char *path, int flags, ...)
{
	static __typeof__(&openat) real;
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (!real)
		real = REAL(openat);
	if (flags & (O_CREAT | O_TRUNC))
		point();
	return real(dir, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
	static __typeof__(&open) real;
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (!real)
		real = REAL(open);
	if (flags & (O_CREAT | O_TRUNC))
		point();
	return real(path, flags, mode);
}

int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	static __typeof__(&clone) real;
	va_list ap;
	va_start(ap, arg);
	void *parent_tid = va_arg(ap, void *), *tls = va_arg(ap, void *), *child_tid = va_arg(ap, void *);
	va_end(ap);
	if (!real)
		real = REAL(clone);
	point();
	return real(fn, stack, flags, arg, parent_tid, tls, child_tid);
}
