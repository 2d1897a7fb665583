#include "daemon/dump.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/spawn.h"
#include "engine/engine.h"

#define KEPT 8
#define MAX_STACKS (4 << 20)
#define MAX_DESCRIPTORS 4096
#define STACKS_TIME (10 * GT_SECOND)    /* for all processes together */

struct dump {
	const struct gt_config *config;
	pthread_t thread;
	atomic_bool ending;
	pthread_mutex_t lock;           /* held while a dump is made; guards all below */
	struct gt_engine *engine;
	struct gt_api *api;
};

/* ---- stacks ---- */

/* All that comes until the end, or what there is by the deadline. */
static void read_until(int fd, int64_t deadline, struct gt_buf *out)
{
	char bytes[16384];
	while (out->len < MAX_STACKS) {
		int64_t left = deadline - gt_monotonic();
		struct pollfd look = { .fd = fd, .events = POLLIN };
		if (left <= 0 || (poll(&look, 1, (int)(left / GT_MILLISECOND) + 1) < 0 && errno != EINTR))
			return;
		ssize_t got = look.revents ? read(fd, bytes, sizeof bytes) : -1;
		if (got == 0)
			return;
		if (got > 0)
			gt_buf_add(out, bytes, (size_t)got);
	}
}

static int run_stacks(const struct dump *dump, pid_t process, int64_t deadline, struct gt_buf *out, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/gantry-stacks", dump->config->libexec_dir);
	char pid[16];
	int end[2], pidfd, status;
	snprintf(pid, sizeof pid, "%d", process);
	char *argv[] = { path, pid, NULL };
	if (pipe2(end, O_CLOEXEC) < 0)
		return gt_fail_errno(err, errno, "make a pipe");
	const int fds[] = { -1, end[1], end[1] };
	struct gt_spawn how = { .path = path, .argv = argv, .fds = fds, .nfds = 3 };
	int rc = gt_spawn(&how, NULL, &pidfd, err);
	close(end[1]);
	if (rc == 0) {
		read_until(end[0], deadline, out);
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);        /* it has ended, or is to */
		gt_reap(pidfd, &status, NULL);
		close(pidfd);
	}
	close(end[0]);
	return rc;
}

/* {"TID": ["FUNCTION+OFFSET FILE", ...]} */
static json_t *read_stacks(const struct dump *dump, pid_t process, int64_t deadline)
{
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_error err = { 0 };
	json_t *stacks = json_object();
	if (run_stacks(dump, process, deadline, &text, &err) < 0)
		gt_warn("the debug dump is without stacks", "error", err.message);
	char *rest = text.data;
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		char *frame = strchr(line, ' ');
		if (!frame)
			continue;
		*frame++ = '\0';
		json_t *list = json_object_get(stacks, line);
		if (!list)
			json_object_set_new(stacks, line, list = json_array());
		json_array_append_new(list, json_string(frame));
	}
	return stacks;
}

/* ---- threads ---- */

/* The first line of a file of a thread; "" where there is none. */
static void read_line(int task, const char *tid, const char *name, char *line, size_t room)
{
	char path[64];
	snprintf(path, sizeof path, "%.16s/%s", tid, name);
	AUTO_CLOSE int fd = openat(task, path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, line, room - 1);
	line[got < 0 ? 0 : got] = '\0';
	line[strcspn(line, "\n")] = '\0';
}

/* Of those that somebody holds, the lock at that address. */
static const char *lock_at(const json_t *locks, const char *address)
{
	size_t i;
	json_t *lock;
	json_array_foreach(locks, i, lock) {
		const char *at = json_string_value(json_object_get(lock, "Address"));
		if (at && strcmp(at, address) == 0)
			return json_string_value(json_object_get(lock, "Name"));
	}
	return NULL;
}

static json_t *one_thread(int task, const char *tid, const json_t *locks, json_t *stack)
{
	char comm[64], stat[512], call[256], wchan[128], state = '?', address[32] = "";
	unsigned long user = 0, system = 0;
	long number = -1;
	read_line(task, tid, "comm", comm, sizeof comm);
	read_line(task, tid, "stat", stat, sizeof stat);
	read_line(task, tid, "syscall", call, sizeof call);
	read_line(task, tid, "wchan", wchan, sizeof wchan);
	const char *fields = strrchr(stat, ')');
	if (fields)
		sscanf(fields + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &state, &user, &system);
	json_t *row = json_pack("{s:i s:s s:s% s:f}", "Thread", (int)strtol(tid, NULL, 10), "Name", comm, "State", &state, (size_t)1, "CpuSeconds",
				(double)(user + system) / (double)sysconf(_SC_CLK_TCK));
	if (sscanf(call, "%ld %31s", &number, address) >= 1)
		json_object_set_new(row, "SystemCall", json_integer(number));
	const char *lock = number == SYS_futex ? lock_at(locks, address) : NULL;
	if (lock)
		json_object_set_new(row, "WaitsForLock", json_string(lock));
	if (wchan[0] && strcmp(wchan, "0") != 0)
		json_object_set_new(row, "KernelWaitsIn", json_string(wchan));
	if (stack)
		json_object_set(row, "Stack", stack);
	return row;
}

/* locks: what is known of those of the process. */
static json_t *threads(pid_t process, const json_t *locks, const json_t *stacks)
{
	json_t *list = json_array();
	char path[32];
	snprintf(path, sizeof path, "/proc/%d/task", process);
	DIR *dir = opendir(path);
	for (const struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] != '.')
			json_array_append_new(list, one_thread(dirfd(dir), entry->d_name, locks, json_object_get(stacks, entry->d_name)));
	}
	if (dir)
		closedir(dir);
	return list;
}

/* What the threads of plugins' processes are doing is added to the rows. */
static void add_threads(const struct dump *dump, json_t *processes, int64_t deadline)
{
	size_t i;
	json_t *row;
	json_array_foreach(processes, i, row) {
		pid_t pid = (pid_t)json_integer_value(json_object_get(row, "Pid"));
		if (pid <= 0)
			continue;
		AUTO_JSON json_t *stacks = read_stacks(dump, pid, deadline);
		json_object_set_new(row, "Threads", threads(pid, NULL, stacks));
	}
}

/* ---- the process ---- */

static json_t *descriptors(void)
{
	json_t *all = json_object();
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;
	for (const struct dirent *entry; dir && count < MAX_DESCRIPTORS && (entry = readdir(dir)) != NULL;) {
		char target[512];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof target);
		if (len <= 0)
			continue;
		json_t *text = json_stringn(target, (size_t)len);
		json_object_set_new(all, entry->d_name, text ? text : json_string("(not UTF-8)"));
		count++;
	}
	if (dir)
		closedir(dir);
	return all;
}

/* The Vm and Rss lines of /proc/self/status. */
static json_t *memory(void)
{
	AUTO_BUF struct gt_buf status = { 0 };
	json_t *all = json_object();
	gt_read_file(AT_FDCWD, "/proc/self/status", 1 << 16, &status, NULL);
	char *rest = status.data;
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		char *value = strchr(line, ':');
		if (!value || (strncmp(line, "Vm", 2) != 0 && strncmp(line, "Rss", 3) != 0))
			continue;
		*value++ = '\0';
		json_object_set_new(all, line, json_string(value + strspn(value, " \t")));
	}
	return all;
}

/* ---- the file ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_dump(const struct dirent *entry)
{
	return strncmp(entry->d_name, "gantryd-", 8) == 0;
}

/* The oldest go; names sort by time. */
static void thin_out(int dir)
{
	struct dirent **entries = NULL;
	int count = scandirat(dir, ".", &entries, is_dump, by_name);
	for (int i = 0; i < count; i++) {
		if (i < count - KEPT)
			unlinkat(dir, entries[i]->d_name, 0);
		free(entries[i]);
	}
	free(entries);
}

static int write_dump(const struct dump *dump, const char *time, const json_t *json, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/dumps", dump->config->run), *name = gt_xasprintf("gantryd-%s.json", time);
	AUTO_FREE char *text = json_dumps(json, JSON_INDENT(2));
	if (!text)
		return gt_fail(err, GT_INTERNAL, "it cannot be written as JSON");
	if (gt_mkdirs(AT_FDCWD, path, 0700, err) < 0)
		return -1;
	AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return gt_fail_errno(err, errno, "open %s", path);
	if (gt_replace_file(dir, name, text, strlen(text), 0600, false, err) < 0)
		return -1;
	thin_out(dir);
	AUTO_FREE char *whole = gt_xasprintf("%s/%s", path, name);
	gt_info("debug dump written", "file", whole);
	return 0;
}

/* With the lock held. */
static void make_dump(const struct dump *dump)
{
	char time[36];
	gt_time_format_fixed(gt_now(), time);
	AUTO_JSON json_t *engine = dump->engine ? gt_engine_dump(dump->engine) : json_null();
	AUTO_JSON json_t *requests = dump->api ? gt_api_requests(dump->api) : json_null();
	int64_t deadline = gt_monotonic() + STACKS_TIME;
	AUTO_JSON json_t *stacks = read_stacks(dump, getpid(), deadline);
	add_threads(dump, json_object_get(engine, "PluginProcesses"), deadline);
	AUTO_JSON json_t *json =
		json_pack("{s:s s:s s:i s:o s:O s:O s:o s:o}", "Version", GANTRY_VERSION, "Time", time, "Pid", (int)getpid(), "Threads",
			  threads(getpid(), json_object_get(engine, "LocksHeld"), stacks), "Requests", requests, "Engine", engine, "Descriptors", descriptors(), "Memory",
			  memory());
	struct gt_error err = { 0 };
	if (write_dump(dump, time, json, &err) < 0)
		gt_err("the debug dump could not be written", "error", err.message);
}

/* ---- the thread ---- */

static void *wait_for_signals(void *arg)
{
	struct dump *dump = arg;
	sigset_t usr1;
	int signo;
	pthread_setname_np(pthread_self(), "dump");
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	while (sigwait(&usr1, &signo) == 0 && !atomic_load(&dump->ending)) {
		LOCKED(&dump->lock);
		make_dump(dump);
	}
	return NULL;
}

int dump_start(const struct gt_config *config, struct dump **out, struct gt_error *err)
{
	struct dump *dump = gt_xcalloc(1, sizeof *dump);
	dump->config = config;
	pthread_mutex_init(&dump->lock, NULL);
	int rc = pthread_create(&dump->thread, NULL, wait_for_signals, dump);
	if (rc != 0) {
		pthread_mutex_destroy(&dump->lock);
		free(dump);
		return gt_fail_errno(err, rc, "make the thread that writes debug dumps");
	}
	*out = dump;
	return 0;
}

void dump_about(struct dump *dump, struct gt_engine *engine, struct gt_api *api)
{
	LOCKED(&dump->lock);
	dump->engine = engine;
	dump->api = api;
}

void dump_stop(struct dump *dump)
{
	if (!dump)
		return;
	atomic_store(&dump->ending, true);
	pthread_kill(dump->thread, SIGUSR1);
	pthread_join(dump->thread, NULL);
	pthread_mutex_destroy(&dump->lock);
	free(dump);
}
