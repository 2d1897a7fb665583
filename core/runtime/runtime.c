/*
 * runtime.c - the shim's side: cgroup, clone, id maps, the go-ahead, the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/internal.h"
#include "runtime/seccomp.h"

#define MAX_BPF (1u << 20)
#define KILL_MS 10000

pid_t clone_child(uint64_t flags, int into, int *pidfd)
{
	struct clone_args args = { .flags = flags | CLONE_PIDFD | (into >= 0 ? CLONE_INTO_CGROUP : 0), .pidfd = (uint64_t)(uintptr_t)pidfd,
				   .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD, .cgroup = into >= 0 ? (uint64_t)into : 0 };
	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* ---- namespaces of others ---- */

struct joined {
	int own[8];             /* ours, to return to */
	int flags[8];
	size_t count;
};

static const char *own_path(int flag)
{
	switch (flag) {
	case CLONE_NEWPID:
		return "/proc/self/ns/pid";
	case CLONE_NEWNET:
		return "/proc/self/ns/net";
	case CLONE_NEWIPC:
		return "/proc/self/ns/ipc";
	case CLONE_NEWUTS:
		return "/proc/self/ns/uts";
	default:
		return "/proc/self/ns/cgroup";
	}
}

static void leave_others(struct joined *joined)
{
	while (joined->count) {
		joined->count--;
		setns(joined->own[joined->count], joined->flags[joined->count]);
		close(joined->own[joined->count]);
	}
}

/* A child is born into the namespaces its parent is in, so the shim itself visits them while it clones. */
static int join_others(const struct spec *spec, struct joined *joined, struct gt_error *err)
{
	joined->count = 0;
	for (size_t i = 0; i < spec->namespace_count; i++) {
		const struct spec_namespace *namespace = &spec->namespaces[i];
		if (!namespace->path)
			continue;
		AUTO_CLOSE int theirs = open(namespace->path, O_RDONLY | O_CLOEXEC);
		AUTO_CLOSE int ours = open(own_path(namespace->flag), O_RDONLY | O_CLOEXEC);
		if (theirs < 0 || ours < 0 || setns(theirs, namespace->flag) < 0) {
			int errnum = errno;
			leave_others(joined);
			return gt_fail_sys(err, GT_INTERNAL, errnum, "join the namespace %s", namespace->path);
		}
		joined->own[joined->count] = take_fd(ours);
		joined->flags[joined->count++] = namespace->flag;
	}
	return 0;
}

/* ---- user namespaces ---- */

static int write_map(pid_t pid, const char *file, const struct idmap *map, size_t count, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	char path[64];
	for (size_t i = 0; i < count; i++)
		gt_buf_printf(&text, "%lld %lld %lld\n", (long long)map[i].inside, (long long)map[i].outside, (long long)map[i].size);
	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	return count ? gt_write_control(AT_FDCWD, path, text.data, err) : 0;
}

static int send_prepared(const struct spec *spec, struct prepared *prepared, int sock, struct gt_error *err)
{
	uint32_t slots[GT_MAX_FDS];
	int fds[GT_MAX_FDS], *slot;
	size_t count = 0;
	for (size_t i = 0;; i++) {
		slot = prepared_slot(spec, prepared, i);
		if (slot && *slot >= 0) {
			slots[count] = (uint32_t)i;
			fds[count++] = *slot;
		}
		if ((count == GT_MAX_FDS || !slot) && count) {
			if (gt_send_fds(sock, slots, count * sizeof *slots, fds, count) < 0)
				return gt_fail_errno(err, errno, "hand mounts to the sandbox");
			count = 0;
		}
		if (!slot)
			break;
	}
	return send(sock, "M", 1, MSG_NOSIGNAL) == 1 ? 0 : gt_fail_errno(err, errno, "tell the sandbox of its maps");
}

/* Which id of the host is root in there. */
static int root_outside(const struct idmap *map, size_t count, int64_t *id)
{
	for (size_t i = 0; i < count; i++) {
		if (map[i].inside == 0 && map[i].size > 0) {
			*id = map[i].outside;
			return 0;
		}
	}
	return -1;
}

static int give_maps(struct gt_runtime *runtime, struct gt_error *err)
{
	const struct spec *spec = &runtime->spec;
	struct prepared prepared;
	char path[64];
	if (write_map(runtime->pid, "uid_map", spec->uid_map, spec->uid_map_count, err) < 0 ||
	    write_map(runtime->pid, "gid_map", spec->gid_map, spec->gid_map_count, err) < 0)
		return gt_context(err, "map the ids of the user namespace");
	snprintf(path, sizeof path, "/proc/%d/ns/user", runtime->pid);
	AUTO_CLOSE int userns = open(path, O_RDONLY | O_CLOEXEC);
	if (userns < 0)
		return gt_fail_errno(err, errno, "open the user namespace");
	struct remap remap = { .userns = userns };
	if (root_outside(spec->uid_map, spec->uid_map_count, &remap.uid) < 0 || root_outside(spec->gid_map, spec->gid_map_count, &remap.gid) < 0)
		return gt_fail(err, GT_UNSUPPORTED, "the user namespace has no root: the id 0 is not mapped");
	prepared_empty(spec, &prepared);
	if (rootfs_prepare(spec, &remap, &prepared, err) < 0)
		return -1;
	int rc = send_prepared(spec, &prepared, runtime->sock, err);
	prepared_release(spec, &prepared);
	return rc;
}

/* ---- create ---- */

static int read_filter(struct gt_runtime *runtime, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/seccomp.bpf", runtime->spec.bundle);
	if (!runtime->spec.seccomp)
		return 0;
	if (access(path, F_OK) == 0)
		return gt_read_file(AT_FDCWD, path, MAX_BPF, &runtime->bpf, err);
	return gt_seccomp_compile(runtime->spec.seccomp, &runtime->bpf, err);
}

static uint64_t clone_flags(const struct spec *spec)
{
	uint64_t flags = 0;
	for (size_t i = 0; i < spec->namespace_count; i++) {
		if (!spec->namespaces[i].path && spec->namespaces[i].flag != CLONE_NEWCGROUP) /* that one shows where it was made: see sandbox.c */
			flags |= (uint64_t)spec->namespaces[i].flag;
	}
	return flags;
}

static int clone_sandbox(struct gt_runtime *runtime, const int stdio[3], const struct prepared *disks, struct gt_error *err)
{
	struct joined joined;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_errno(err, errno, "make the sandbox's line");
	if (join_others(&runtime->spec, &joined, err) < 0) {
		close(pair[0]);
		close(pair[1]);
		return -1;
	}
	struct sandbox sandbox = { .spec = &runtime->spec, .cgroup = runtime->cgroup, .sock = pair[1], .stdio = stdio, .bpf = &runtime->bpf,
				   .disks = disks, .wait_for_maps = spec_namespace(&runtime->spec, CLONE_NEWUSER) != NULL };
	pid_t pid = clone_child(clone_flags(&runtime->spec), gt_cgroup_clone_fd(runtime->cgroup), &runtime->pidfd);
	if (pid == 0) {
		close(pair[0]);
		sandbox_main(&sandbox);
	}
	int errnum = errno;
	leave_others(&joined);
	close(pair[1]);
	runtime->sock = pair[0];
	if (pid < 0)
		return gt_fail_sys(err, GT_INTERNAL, errnum, "clone the sandbox");
	runtime->pid = pid;
	return 0;
}

static int open_netns(struct gt_runtime *runtime, struct gt_error *err)
{
	const struct spec_namespace *net = spec_namespace(&runtime->spec, CLONE_NEWNET);
	char path[64];
	if (!net || net->path)
		return 0;
	snprintf(path, sizeof path, "/proc/%d/ns/net", runtime->pid);
	runtime->netns = open(path, O_RDONLY | O_CLOEXEC);
	return runtime->netns >= 0 ? 0 : gt_fail_errno(err, errno, "open the sandbox's network namespace");
}

static int create(struct gt_runtime *runtime, const int stdio[3], struct gt_error *err)
{
	const struct spec *spec = &runtime->spec;
	if (!spec->cgroup)
		return gt_fail(err, GT_INVALID, "config.json names no cgroupsPath");
	if (read_filter(runtime, err) < 0 || gt_cgroup_create(spec->cgroup, spec->resources, &runtime->cgroup, err) < 0)
		return -1;
	runtime->oom_before = gt_cgroup_oom_kills(runtime->cgroup);
	bool own_users = spec_namespace(spec, CLONE_NEWUSER) != NULL;
	struct prepared disks = { 0 };
	if (!own_users && rootfs_prepare_disks(spec, &disks, err) < 0)
		return -1;
	int rc = clone_sandbox(runtime, stdio, &disks, err);
	prepared_release(spec, &disks);
	if (rc < 0 || open_netns(runtime, err) < 0)
		return -1;
	return own_users ? give_maps(runtime, err) : 0;
}

int gt_runtime_create(const char *bundle, const json_t *config, const int stdio[3], struct gt_runtime **out, struct gt_error *err)
{
	struct gt_runtime *runtime = gt_xcalloc(1, sizeof *runtime);
	runtime->pidfd = runtime->sock = runtime->netns = runtime->console = runtime->oom = -1;
	if (spec_read(bundle, config, &runtime->spec, err) < 0) {
		free(runtime);
		return -1;
	}
	if (create(runtime, stdio, err) < 0) {
		int fd;
		struct gt_error told = { 0 };
		/* the child may know better why */
		if (runtime->pid && poll(&(struct pollfd){ .fd = runtime->sock, .events = POLLIN }, 1, 0) > 0 &&
		    report_receive(runtime->sock, false, &fd, &told) < 0 && told.message[0] && err)
			*err = told;
		gt_runtime_destroy(runtime);
		return -1;
	}
	*out = runtime;
	return 0;
}

pid_t gt_runtime_pid(const struct gt_runtime *runtime)
{
	return runtime->pid;
}

int gt_runtime_netns(const struct gt_runtime *runtime)
{
	return runtime->netns;
}

int gt_runtime_ready_fd(const struct gt_runtime *runtime)
{
	return runtime->sock;
}

/* ---- ready and start ---- */

int gt_runtime_ready(struct gt_runtime *runtime, struct gt_error *err)
{
	return report_receive(runtime->sock, false, &runtime->console, err);
}

int gt_runtime_start(struct gt_runtime *runtime, struct gt_process *process, struct gt_error *err)
{
	int fd;
	if (send(runtime->sock, "S", 1, MSG_NOSIGNAL) != 1)
		return gt_fail_errno(err, errno, "let the container start");
	if (report_receive(runtime->sock, true, &fd, err) < 0)
		return -1;
	close(take_fd(runtime->sock));
	int pidfd = fcntl(runtime->pidfd, F_DUPFD_CLOEXEC, 3);
	if (pidfd < 0)
		return gt_fail_errno(err, errno, "keep the container's pidfd");
	if (runtime->console >= 0)
		fcntl(runtime->console, F_SETFL, fcntl(runtime->console, F_GETFL) | O_NONBLOCK);
	int console = take_fd(runtime->console);
	*process = (struct gt_process){ .pid = runtime->pid, .pidfd = pidfd, .console = console };
	return 0;
}

/* ---- out of memory, the end ---- */

int gt_runtime_oom_fd(const struct gt_runtime *runtime)
{
	if (runtime->oom < 0)
		((struct gt_runtime *)runtime)->oom = gt_cgroup_oom_fd(runtime->cgroup);
	return runtime->oom;
}

bool gt_runtime_oom_seen(struct gt_runtime *runtime)
{
	return gt_cgroup_oom_kills(runtime->cgroup) > runtime->oom_before;
}

void gt_runtime_destroy(struct gt_runtime *runtime)
{
	struct gt_error err = { 0 };
	if (!runtime)
		return;
	if (runtime->sock >= 0)
		close(runtime->sock);
	if (runtime->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, runtime->pidfd, SIGKILL, NULL, 0);
	if (runtime->cgroup && gt_cgroup_kill(runtime->cgroup, KILL_MS, &err) < 0)
		fprintf(stderr, "gantry-shim: %s\n", err.message);
	if (runtime->pid)
		waitpid(runtime->pid, NULL, WNOHANG | __WALL);
	if (runtime->cgroup && gt_cgroup_remove(runtime->spec.cgroup, &err) < 0)
		fprintf(stderr, "gantry-shim: %s\n", err.message);
	gt_cgroup_free(runtime->cgroup);
	int *const fds[] = { &runtime->pidfd, &runtime->netns, &runtime->console, &runtime->oom };
	for (size_t i = 0; i < GT_COUNT(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
	}
	gt_buf_free(&runtime->bpf);
	spec_release(&runtime->spec);
	free(runtime);
}
