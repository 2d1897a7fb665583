/*
 * sandbox.c - the child from clone to exec, and the line between it and the shim.
 *
 * The line is a SOCK_SEQPACKET pair. With a user namespace the shim first sends what the host gives (descriptors) and then MAPPED. The child answers READY, with
 * the console's master, or FAILED with the reason. One byte then lets it go; that the line closes by itself (exec) is its success.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/internal.h"

/* ---- the line ---- */

int report_send(int sock, enum report type, const struct gt_error *err, int fd)
{
	struct message message = { .type = type };
	if (err)
		message.err = *err;
	return gt_send_fds(sock, &message, sizeof message, &fd, fd >= 0 ? 1 : 0) == (ssize_t)sizeof message ? 0 : -1;
}

int report_receive(int sock, bool eof_ok, int *fd, struct gt_error *err)
{
	struct message message;
	int fds[1];
	size_t count = 1;
	ssize_t n;
	*fd = -1;
	do
		n = gt_recv_fds(sock, &message, sizeof message, fds, &count);
	while (n < 0 && errno == EINTR);
	if (n == 0 && eof_ok)
		return 0;
	if (n != (ssize_t)sizeof message)
		return gt_fail(err, GT_INTERNAL, "the container's first process died while it was set up");
	if (count)
		*fd = fds[0];
	if (message.type == REPORT_READY)
		return 0;
	message.err.message[sizeof message.err.message - 1] = '\0';
	if (err)
		*err = message.err;
	return -1;
}

/* ---- what exec's children share ---- */

int stdio_take(const int stdio[3], struct gt_error *err)
{
	int null = -1, copies[3];
	for (int i = 0; i < 3; i++) { /* first out of the way: they may be each other's numbers */
		if (stdio[i] < 0 && null < 0)
			null = open("/dev/null", O_RDWR | O_CLOEXEC);
		copies[i] = fcntl(stdio[i] >= 0 ? stdio[i] : null, F_DUPFD_CLOEXEC, 3);
		if (copies[i] < 0)
			return gt_fail_errno(err, errno, "prepare descriptor %d", i);
	}
	for (int i = 0; i < 3; i++) {
		if (dup2(copies[i], i) < 0)
			return gt_fail_errno(err, errno, "prepare descriptor %d", i);
	}
	return 0;
}

/* Nothing above 2 gets past exec, whoever opened it. */
void close_at_exec(void)
{
	syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
}

void write_oom_score(int64_t score)
{
	char text[16];
	snprintf(text, sizeof text, "%lld", (long long)score);
	gt_write_control(AT_FDCWD, "/proc/self/oom_score_adj", text, NULL); /* what may not be lowered stays */
}

/* ---- the sandbox ---- */

static int receive_prepared(const struct sandbox *sandbox, struct prepared *prepared, struct gt_error *err)
{
	prepared_empty(sandbox->spec, prepared);
	for (;;) {
		uint32_t slots[GT_MAX_FDS];
		int fds[GT_MAX_FDS];
		size_t count = GT_MAX_FDS;
		ssize_t n = gt_recv_fds(sandbox->sock, slots, sizeof slots, fds, &count);
		if (n <= 0)
			return gt_fail(err, GT_INTERNAL, "the shim went away");
		if (n == 1)
			return 0; /* MAPPED */
		for (size_t i = 0; i < count; i++) {
			int *slot = prepared_slot(sandbox->spec, prepared, slots[i]);
			if (slot)
				*slot = fds[i];
		}
	}
}

static int become_root_inside(struct gt_error *err)
{
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || setgroups(0, NULL) < 0)
		return gt_fail_errno(err, errno, "become root of the user namespace");
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? gt_fail_errno(err, errno, "hide from the container") : 0;
}

static void raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock >= 0 && ioctl(sock, SIOCGIFFLAGS, &request) == 0) {
		request.ifr_flags |= IFF_UP;
		ioctl(sock, SIOCSIFFLAGS, &request);
	}
	if (sock >= 0)
		close(sock);
}

static bool is_new(const struct spec *spec, int flag)
{
	const struct spec_namespace *namespace = spec_namespace(spec, flag);
	return namespace && !namespace->path;
}

static int set_names(const struct spec *spec, struct gt_error *err)
{
	if (spec->hostname && spec->hostname[0] && is_new(spec, CLONE_NEWUTS) && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
		return gt_fail_sys(err, GT_INVALID, errno, "set the host name %s", spec->hostname);
	if (spec->domainname && spec->domainname[0] && is_new(spec, CLONE_NEWUTS) && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
		return gt_fail_sys(err, GT_INVALID, errno, "set the domain name %s", spec->domainname);
	return 0;
}

/* Up to the point where only the go-ahead is missing. */
static int set_up(const struct sandbox *sandbox, struct plan *plan, int *console, struct gt_error *err)
{
	const struct spec *spec = sandbox->spec;
	struct prepared prepared = *sandbox->disks;
	AUTO_FREE char *root = gt_xasprintf("%s/rootfs", spec->bundle);
	int rc = gt_cgroup_join_self(sandbox->cgroup);
	if (rc < 0)
		return gt_fail_sys(err, GT_INTERNAL, -rc, "enter the cgroup %s", spec->cgroup);
	if (spec->has_oom_score)
		write_oom_score(spec->oom_score);
	AUTO_CLOSE int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return gt_fail_errno(err, errno, "open %s", root);
	if (sandbox->wait_for_maps ? receive_prepared(sandbox, &prepared, err) < 0 || become_root_inside(err) < 0 :
				     rootfs_prepare(spec, NULL, &prepared, err) < 0)
		return -1;
	if (keyring_join(spec, err) < 0)
		return -1;
	if (is_new(spec, CLONE_NEWCGROUP) && unshare(CLONE_NEWCGROUP) < 0)
		return gt_fail_errno(err, errno, "make a cgroup namespace");
	if (is_new(spec, CLONE_NEWNET))
		raise_loopback();
	if (sandbox->wait_for_maps && rootfs_prepare_views(spec, &prepared, err) < 0)
		return -1;
	if (set_names(spec, err) < 0 || rootfs_enter(spec, &prepared, root_fd, err) < 0)
		return -1;
	setsid();
	*console = -1;
	if (spec->terminal ? (*console = console_open(spec->process, true, err)) < 0 : stdio_take(sandbox->stdio, err) < 0)
		return -1;
	plan->init = prepared.init;
	if (rootfs_finish(spec, err) < 0 || plan_make(spec->process, spec->user, spec->group_add, true, plan, err) < 0)
		return -1;
	return 0;
}

void sandbox_main(const struct sandbox *sandbox)
{
	struct gt_error err = { 0 };
	struct plan plan = { .init = -1, .keep_pdeath = true };
	int console = -1;
	char go;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (sandbox->bpf)
		plan.bpf = *sandbox->bpf;
	if (set_up(sandbox, &plan, &console, &err) < 0 || report_send(sandbox->sock, REPORT_READY, NULL, console) < 0) {
		report_send(sandbox->sock, REPORT_FAILED, &err, -1);
		_exit(1);
	}
	if (console >= 0)
		close(console);
	if (recv(sandbox->sock, &go, 1, 0) != 1)
		_exit(1); /* the shim gave up */
	close_at_exec();
	plan_run(&plan, &err);
	report_send(sandbox->sock, REPORT_FAILED, &err, -1);
	_exit(1);
}
