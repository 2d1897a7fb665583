/*
 * client_reap.c - no shim stays a zombie.
 *
 * A shim is the daemon's child until the daemon goes away (then init's). The daemon has no SIGCHLD handler: each struct gt_shim holds a pidfd, and where
 * one is freed before its shim has ended, the pidfd comes here. One epoll instance holds them; a detached thread waits on it and ends when it has
 * reaped the last, so a daemon at rest has no thread of ours. The list is the kernel's; `count` under `lock` says whether the thread is needed.
 */
#include "shim/client_reap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"

static struct {
	pthread_mutex_t lock;
	int epoll;              /* under lock: made with the thread, which has a copy, and closed by it */
	unsigned count;         /* under lock: pidfds in the epoll; the thread lives while it is not 0 */
} reaper = { .lock = PTHREAD_MUTEX_INITIALIZER, .epoll = -1 };

bool gt_shim_reap_now(int pidfd)
{
	siginfo_t info = { 0 };
	int rc;
	do {
		rc = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 || info.si_pid != 0; /* a failure means that it is no child of ours (any more) */
}

static void *reap(void *arg)
{
	int epoll = (int)(intptr_t)arg;
	for (;;) {
		struct epoll_event ready[16];
		int n = epoll_wait(epoll, ready, GT_COUNT(ready), -1);
		unsigned done = 0;
		for (int i = 0; i < n; i++) {
			if (!gt_shim_reap_now(ready[i].data.fd))
				continue;
			epoll_ctl(epoll, EPOLL_CTL_DEL, ready[i].data.fd, NULL);
			close(ready[i].data.fd);
			done++;
		}
		LOCKED(&reaper.lock);
		reaper.count -= done;
		if (reaper.count == 0) {
			reaper.epoll = -1;
			close(epoll);
			return NULL;
		}
	}
}

static int start_thread(int epoll)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, (size_t)64 * 1024);
	int rc = pthread_create(&thread, &attr, reap, (void *)(intptr_t)epoll);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

void gt_shim_reap_later(int pidfd)
{
	LOCKED(&reaper.lock);
	if (reaper.epoll < 0)
		reaper.epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = pidfd };
	if (reaper.epoll < 0 || epoll_ctl(reaper.epoll, EPOLL_CTL_ADD, pidfd, &event) < 0) {
		close(pidfd); /* out of descriptors: one zombie until the daemon's end is the lesser evil */
		if (reaper.epoll >= 0 && reaper.count == 0)
			close(take_fd(reaper.epoll));
		return;
	}
	if (reaper.count++ == 0 && start_thread(reaper.epoll) != 0) { /* the same */
		reaper.count = 0;
		close(pidfd);
		close(take_fd(reaper.epoll));
	}
}
