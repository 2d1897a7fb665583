/*
 * log_rotate.c - PATH, PATH.1, PATH.2 ... and their .gz.
 *
 * Compression is a process of its own, a fork of the shim that keeps two descriptors and no more: a client's socket or the container's network
 * namespace must not live on in it. It makes PATH.1.gz under another name, renames it and removes PATH.1; killed at any moment it leaves PATH.1 whole.
 * The shim waits for it before it rotates again, so that PATH.1 is always the file it works on.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "base/auto.h"
#include "base/fd.h"
#include "shim/log.h"

#define IO_CHUNK 65536
#define LEVEL 4                 /* logs shrink well at any level; this one costs half of the default */

static char *numbered(const char *path, unsigned n, const char *suffix)
{
	return gt_xasprintf("%s.%u%s", path, n, suffix);
}

static bool exists(const char *path, unsigned n)
{
	AUTO_FREE char *name = numbered(path, n, "");
	AUTO_FREE char *packed = numbered(path, n, ".gz");
	return access(name, F_OK) == 0 || access(packed, F_OK) == 0;
}

/* PATH.n and PATH.n.gz become those of n + 1; whatever was there goes. */
static int move_up(const char *path, unsigned n, struct gt_error *err)
{
	static const char *const SUFFIXES[] = { "", ".gz" };
	for (size_t i = 0; i < GT_COUNT(SUFFIXES); i++) {
		AUTO_FREE char *from = numbered(path, n, SUFFIXES[i]);
		AUTO_FREE char *to = numbered(path, n + 1, SUFFIXES[i]);
		if (rename(from, to) == 0)
			continue;
		if (errno != ENOENT || (unlink(to) < 0 && errno != ENOENT))
			return gt_fail_sys(err, GT_INTERNAL, errno, "rotate %s", from);
	}
	return 0;
}

int gt_log_shift(const char *path, unsigned max_file, struct gt_error *err)
{
	/* PATH.1 ... PATH.last stay or move; a gap is as good as the end. */
	unsigned last = 1;
	while (last < max_file - 1 && exists(path, last))
		last++;
	for (unsigned n = last - 1; n >= 1; n--) {
		if (move_up(path, n, err) < 0)
			return -1;
	}
	AUTO_FREE char *first = numbered(path, 1, "");
	AUTO_FREE char *packed = numbered(path, 1, ".gz");
	if (rename(path, first) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "rotate %s", path);
	unlink(packed); /* where max_file is 2 it has not moved */
	return 0;
}

/* gzip from descriptor 0 to descriptor 1. */
static int deflate_all(void)
{
	unsigned char *in = malloc(IO_CHUNK), *out = malloc(IO_CHUNK);
	z_stream z = { 0 };
	int flush = Z_NO_FLUSH, rc;
	if (!in || !out || deflateInit2(&z, LEVEL, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -1;
	do {
		ssize_t n = gt_read_full(0, in, IO_CHUNK);
		if (n < 0)
			return -1;
		z.next_in = in;
		z.avail_in = (unsigned)n;
		flush = n < IO_CHUNK ? Z_FINISH : Z_NO_FLUSH;
		do {
			z.next_out = out;
			z.avail_out = IO_CHUNK;
			rc = deflate(&z, flush);
			if (gt_write_full(1, out, IO_CHUNK - z.avail_out) < 0)
				return -1;
		} while (z.avail_out == 0);
	} while (flush != Z_FINISH);
	return rc == Z_STREAM_END ? 0 : -1;
}

static void __attribute__((noreturn)) compress_and_exit(int in, int out, const char *plain, const char *temp, const char *packed)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpriority(0, 0, 10);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || close_range(3, ~0u, 0) < 0 || deflate_all() < 0 || rename(temp, packed) < 0) {
		unlink(temp);
		_exit(1);
	}
	unlink(plain);
	_exit(0);
}

int gt_log_compress(const char *path, int *pidfd, struct gt_error *err)
{
	AUTO_FREE char *plain = numbered(path, 1, "");
	AUTO_FREE char *packed = numbered(path, 1, ".gz");
	AUTO_FREE char *temp = numbered(path, 1, ".gz.tmp");
	AUTO_CLOSE int in = open(plain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (in < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "compress %s", plain);
	AUTO_CLOSE int out = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (out < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "create %s", temp);
	pid_t pid = fork();
	if (pid < 0) {
		int saved = errno;
		unlink(temp);
		return gt_fail_sys(err, GT_INTERNAL, saved, "start the compression of %s", plain);
	}
	if (pid == 0)
		compress_and_exit(in, out, plain, temp, packed);
	*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*pidfd < 0)
		waitpid(pid, NULL, 0);
	return 0;
}

void gt_log_compress_wait(int pidfd, const char *path, bool give_up)
{
	siginfo_t info;
	if (give_up)
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
	close(pidfd);
	if (give_up) {
		AUTO_FREE char *temp = numbered(path, 1, ".gz.tmp");
		unlink(temp);
	}
}
