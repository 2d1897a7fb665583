/*
 * process.c - the process of a plugin, and the thread that starts it, watches it, and starts it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/spawn.h"
#include "remote.h"

#define HELLO_TIME (30 * GT_SECOND)     /* to map the file and describe it */
#define NOTICE_TIME (5 * GT_SECOND)     /* for the rest of a message that has begun */
#define END_TIME (5 * GT_SECOND)        /* to go, once told to */
#define QUICK GT_SECOND                 /* an end so soon after the start counts towards a rest */
#define REST (100 * GT_MILLISECOND)     /* the first; each further one is twice as long */
#define REST_MAX (10 * GT_SECOND)
#define MOMENT (50 * GT_MILLISECOND)    /* that a debug dump waits for the lock */

extern char **environ;

static struct timespec at_time(int64_t monotonic)
{
	return (struct timespec){ .tv_sec = monotonic / GT_SECOND, .tv_nsec = monotonic % GT_SECOND };
}

void remote_wait(struct remote *remote, int64_t until)
{
	struct timespec time = at_time(until);
	pthread_cond_timedwait(&remote->changed, &remote->lock, &time);
}

static void set_text(char **slot, char *text)
{
	free(*slot);
	*slot = text;
}

/* ---- one process ---- */

static int spawn(struct remote *remote, struct gt_error *err)
{
	struct plugin *plugin = remote->plugin;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_errno(err, errno, "make sockets for %s", remote->program);
	const int fds[] = { -1, -1, STDERR_FILENO, pair[1], plugin->fd };
	char *const argv[] = { remote->program, plugin->name, plugin->path, NULL };
	struct gt_spawn how = { .path = remote->program, .argv = argv, .envp = environ, .fds = fds, .nfds = GT_COUNT(fds), .new_session = true };
	pid_t pid = 0;
	int pidfd = -1;
	int rc = fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ? gt_fail_errno(err, errno, "set up a socket") : gt_spawn(&how, &pid, &pidfd, err);
	close(pair[1]);
	if (rc < 0) {
		close(pair[0]);
		return -1;
	}
	LOCKED(&remote->lock);
	remote->control = pair[0];
	remote->pidfd = pidfd;
	remote->pid = pid;
	return 0;
}

static void kill_process(const struct remote *remote)
{
	if (remote->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, remote->pidfd, SIGKILL, NULL, 0);
}

/* The first words of a process: what the plugin is, or why it is none. */
static int read_hello(struct remote *remote, struct gt_buf *body, struct gt_error *err)
{
	enum frame_kind kind;
	int fds[GT_MAX_FDS];
	size_t fd_count;
	struct wire w;
	const char *reason = NULL;
	const struct plugin *plugin = remote->plugin;
	if (frame_receive(remote->control, &kind, body, WIRE_ANSWER_MAX, fds, &fd_count, gt_monotonic() + HELLO_TIME) < 0)
		return refuse(plugin, err, "loading", errno == ETIMEDOUT ? "a process that says nothing" : errno == EPROTO ? "a process that speaks nonsense" :
			      "a process that went away", "one that says what the plugin is");
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	if (kind == FRAME_HELLO && fd_count == 0)
		return 0;
	wire_read(&w, body, NULL, 0);
	wire_text(&w, &reason, WIRE_LINE_MAX);
	bool whole = wire_whole(&w) && kind == FRAME_REFUSED && reason;
	wire_done(&w);
	return whole ? gt_fail(err, GT_INVALID, "%s", reason) : refuse(plugin, err, "loading", "a process that speaks nonsense", "one that says what the plugin is");
}

/* The first process tells what the plugin is; the others must tell the same. */
static int meet(struct remote *remote, struct gt_error *err)
{
	AUTO_BUF struct gt_buf body = { 0 };
	if (read_hello(remote, &body, err) < 0)
		return -1;
	if (!remote->hello.len) {
		remote->hello = body;
		body = (struct gt_buf){ 0 };
		return 0;
	}
	if (remote->hello.len != body.len || memcmp(remote->hello.data, body.data, body.len) != 0)
		return refuse(remote->plugin, err, "descriptor", "another one than at the first start", "the same");
	return 0;
}

static int reopen(struct remote *remote, struct driver *driver, struct gantry_error *why)
{
	struct wire_args args;
	proxy_open_args(driver, &args);
	int rc = remote_call_early(driver, remote->control, WIRE_OPEN, &args, why);
	free(args.names);
	return rc;
}

/* A member may be of a server that is away and has left nothing behind: others shall not wait for it. */
static void resume_members(struct remote *remote)
{
	AUTO_FREE struct driver **members = remote_members_open(remote);
	for (size_t i = 0; members[i]; i++) {
		struct gantry_error why = { .size = sizeof why };
		bool lost = reopen(remote, members[i], &why) < 0;
		if (lost)
			gt_warn("a driver could not be opened again", "driver", members[i]->name, "error", why.message);
		LOCKED(&remote->lock);
		remote_member_is_open(remote, members[i]->member, lost);
	}
}

/* Drivers that were open are opened again. */
static int resume(struct remote *remote, struct gt_error *err)
{
	for (size_t i = 0; remote->opened && i < remote->plugin->driver_count; i++) {
		struct driver *driver = &remote->plugin->drivers[i];
		struct gantry_error why = { .size = sizeof why };
		if ((remote->opened >> i & 1) && reopen(remote, driver, &why) < 0) {
			driver_error(driver->name, "open", &why, err);
			return -1;
		}
	}
	resume_members(remote);
	return 0;
}

/* What the last process was told, and what its calls changed. */
static int retell(struct remote *remote, struct gt_error *err)
{
	for (size_t i = 0; remote->opened && i < remote->plugin->driver_count; i++) {
		struct driver *driver = &remote->plugin->drivers[i];
		struct gantry_error why = { .size = sizeof why };
		if ((remote->opened >> i & 1) && replay(driver, &why) < 0) {
			driver_error(driver->name, "reconcile", &why, err);
			return -1;
		}
	}
	return 0;
}

/* Counts what its network drivers have been told. */
static uint64_t changes(const struct remote *remote)
{
	uint64_t sum = 0;
	for (size_t i = 0; remote->opened && i < remote->plugin->driver_count; i++)
		sum += atomic_load(&remote->plugin->drivers[i].records->changes);
	return sum;
}

/* Lets calls in, unless something has changed since. */
static bool let_in(struct remote *remote, uint64_t told)
{
	LOCKED(&remote->lock);
	if (changes(remote) != told)
		return false;
	remote->life++;
	remote->phase = PHASE_RUNNING;
	pthread_cond_broadcast(&remote->changed);
	return true;
}

static int start(struct remote *remote, struct gt_error *err)
{
	uint64_t told;
	if (spawn(remote, err) < 0 || meet(remote, err) < 0 || resume(remote, err) < 0)
		return -1;
	/* Calls of the last process may have yet to note what they did. */
	pthread_mutex_lock(&remote->lock);
	while (remote->in_flight)
		remote_wait(remote, gt_monotonic() + GT_SECOND);
	told = changes(remote);
	pthread_mutex_unlock(&remote->lock);
	while (retell(remote, err) == 0) {
		if (let_in(remote, told))
			return 0;
		told = changes(remote);
	}
	return -1;
}

/* ---- watching ---- */

/* A message outside of calls. */
static bool hear(struct remote *remote)
{
	AUTO_BUF struct gt_buf body = { 0 };
	enum frame_kind kind;
	int fds[GT_MAX_FDS];
	size_t fd_count;
	if (frame_receive(remote->control, &kind, &body, WIRE_ANSWER_MAX, fds, &fd_count, gt_monotonic() + NOTICE_TIME) < 0)
		return false;
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	const char *fault = kind == FRAME_LOG || kind == FRAME_EVENT ? remote_notice(remote, NULL, kind, &body) : "it is a message of another kind";
	if (!fault)
		return true;
	LOCKED(&remote->lock);
	set_text(&remote->verdict, gt_xasprintf("it speaks nonsense: %s", fault));
	return false;
}

static void dismiss(struct remote *remote)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct wire w;
	struct pollfd entry = { .fd = remote->pidfd, .events = POLLIN };
	wire_write(&w, &body);
	if (frame_send(remote->control, FRAME_END, &w, gt_monotonic() + GT_SECOND) == 0)
		poll(&entry, 1, (int)(END_TIME / GT_MILLISECOND));
}

/* What the thread was woken for. */
static bool is_closing(struct remote *remote)
{
	uint64_t times;
	LOCKED(&remote->lock);
	if (!remote->closing && read(remote->wake, &times, sizeof times) < 0)
		return false;
	return remote->closing;
}

/* Until the process ends, or is to end. */
static void watch(struct remote *remote)
{
	enum { CONTROL, DEATH, WAKE, NEWS };
	struct pollfd entries[NEWS + DRIVERS_MAX];
	for (;;) {
		nfds_t count = NEWS;
		entries[CONTROL] = (struct pollfd){ .fd = remote->control, .events = POLLIN };
		entries[DEATH] = (struct pollfd){ .fd = remote->pidfd, .events = POLLIN };
		entries[WAKE] = (struct pollfd){ .fd = remote->wake, .events = POLLIN };
		for (size_t i = 0; i < DRIVERS_MAX; i++) {
			LOCKED(&remote->lock);
			if (remote->watches[i].source > 0)
				entries[count++] = (struct pollfd){ .fd = remote->watches[i].source, .events = POLLIN };
		}
		if (poll(entries, count, -1) < 0)
			continue;
		if (entries[WAKE].revents && is_closing(remote)) {
			dismiss(remote);
			return;
		}
		if (entries[CONTROL].revents ? !hear(remote) : entries[DEATH].revents != 0)
			return;
		if (count > NEWS)
			replay_news(remote);
	}
}

/* ---- the end of one ---- */

static char *end_words(const struct remote *remote, int status, const struct gt_error *err)
{
	if (err->kind != GT_OK)
		return gt_xasprintf("could not be started: %s", err->message);
	if (remote->verdict)
		return gt_xasprintf("was killed, as %s", remote->verdict);
	if (WIFSIGNALED(status))
		return gt_xasprintf("was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return gt_xasprintf("exited with status %d", WEXITSTATUS(status));
}

/* Takes leave of the process. lived: 0 where it did not come up. */
static void bury(struct remote *remote, int64_t lived, const struct gt_error *err)
{
	int status = 0;
	kill_process(remote);
	if (remote->pidfd >= 0)
		gt_reap(remote->pidfd, &status, NULL);
	LOCKED(&remote->lock);
	remote->phase = PHASE_STARTING;
	channels_drop(remote);
	if (remote->control >= 0)
		close(take_fd(remote->control));
	if (remote->pidfd >= 0)
		close(take_fd(remote->pidfd));
	remote->pid = 0;
	set_text(&remote->last_end, end_words(remote, status, err));
	set_text(&remote->verdict, NULL);
	remote->quick_ends = lived < QUICK ? remote->quick_ends + 1 : 0;
	if (!remote->closing || status != 0)
		gt_warn("the process of a plugin is gone", "plugin", remote->plugin->name, "end", remote->last_end);
	if (remote->quick_ends) {
		unsigned doublings = remote->quick_ends < 16 ? remote->quick_ends - 1 : 15;
		int64_t rest = REST << doublings < REST_MAX ? REST << doublings : REST_MAX;
		remote->next_start = gt_monotonic() + rest;
		remote->phase = PHASE_RESTING;
	}
	pthread_cond_broadcast(&remote->changed);
}

/* Until it is time for the next one. False where there shall be none. */
static bool rest(struct remote *remote)
{
	struct pollfd entry = { .fd = remote->wake, .events = POLLIN };
	pthread_mutex_lock(&remote->lock);
	int64_t left = remote->phase == PHASE_RESTING ? remote->next_start - gt_monotonic() : 0;
	bool over = remote->closing || !remote->hello.len;
	pthread_mutex_unlock(&remote->lock);
	if (!over && left > 0)
		over = poll(&entry, 1, (int)(left / GT_MILLISECOND) + 1) > 0 && is_closing(remote);
	LOCKED(&remote->lock);
	remote->phase = over ? PHASE_OVER : PHASE_STARTING;
	pthread_cond_broadcast(&remote->changed);
	return !over;
}

static void *supervise(void *arg)
{
	struct remote *remote = arg;
	do {
		struct gt_error err = { 0 };
		int64_t lived = 0;
		if (start(remote, &err) == 0) {
			int64_t begun = gt_monotonic();
			replay_uses_begin(remote);
			watch(remote);
			lived = gt_monotonic() - begun;
		} else {
			LOCKED(&remote->lock);
			remote->first = err;
		}
		bury(remote, lived, &err);
		replay_uses_end(remote);
	} while (rest(remote));
	return NULL;
}

/* ---- open, close ---- */

static struct remote *make(struct plugin *plugin, const char *libexec_dir)
{
	struct remote *remote = gt_xcalloc(1, sizeof *remote);
	pthread_condattr_t attr;
	remote->plugin = plugin;
	remote->program = gt_xasprintf("%s/gantry-plugin-host", libexec_dir);
	remote->control = remote->pidfd = -1;
	remote->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&remote->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&remote->changed, &attr);
	pthread_condattr_destroy(&attr);
	return remote;
}

static void destroy(struct remote *remote)
{
	replay_free(remote);
	remote_members_free(remote);
	wire_done(&remote->described);
	gt_buf_free(&remote->hello);
	close(remote->wake);
	pthread_mutex_destroy(&remote->lock);
	pthread_cond_destroy(&remote->changed);
	free(remote->tables);
	free(remote->program);
	free(remote->verdict);
	free(remote->last_end);
	free(remote);
}

/* From the bytes to a descriptor whose ops are proxies. */
static int take_descriptor(struct remote *remote, struct gt_error *err)
{
	struct wire_plugin said = { 0 };
	wire_read(&remote->described, &remote->hello, NULL, 0);
	wire_plugin(&remote->described, &said);
	if (!wire_whole(&remote->described))
		return refuse(remote->plugin, err, "descriptor", remote->described.fault, "one that makes sense");
	remote->tables = gt_xcalloc(said.info.driver_count + 1, TABLE_ROOM);
	for (size_t i = 0; i < said.info.driver_count; i++) {
		struct gantry_driver *driver = (struct gantry_driver *)(uintptr_t)&said.info.drivers[i];
		void *table = (char *)remote->tables + i * TABLE_ROOM;
		proxy_table(driver->kind, said.ops[i], table);
		driver->ops = table;
	}
	return descriptor_take(remote->plugin, &said.info, err);
}

int remote_open(struct plugin *plugin, const char *libexec_dir, struct gt_error *err)
{
	struct remote *remote = make(plugin, libexec_dir);
	int rc = remote->wake < 0 ? errno : pthread_create(&remote->supervisor, NULL, supervise, remote);
	if (rc) {
		destroy(remote);
		return gt_fail_errno(err, rc, "plugin %s: start a thread for its process", plugin->path);
	}
	plugin->remote = remote;
	pthread_mutex_lock(&remote->lock);
	while (remote->phase != PHASE_RUNNING && remote->phase != PHASE_OVER)
		remote_wait(remote, gt_monotonic() + GT_SECOND);
	rc = remote->phase == PHASE_RUNNING ? 0 : -1;
	if (rc < 0 && err)
		*err = remote->first;
	pthread_mutex_unlock(&remote->lock);
	return rc < 0 ? -1 : take_descriptor(remote, err);
}

void remote_close(struct plugin *plugin)
{
	struct remote *remote = plugin->remote;
	uint64_t one = 1;
	pthread_mutex_lock(&remote->lock);
	remote->closing = true;
	pthread_mutex_unlock(&remote->lock);
	if (write(remote->wake, &one, sizeof one) < 0)
		gt_err("the thread of a plugin's process cannot be woken", "plugin", plugin->name);
	pthread_join(remote->supervisor, NULL);
	destroy(remote);
	plugin->remote = NULL;
}

void remote_cancel(struct plugin *plugin)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct remote *remote = plugin->remote;
	struct wire w;
	LOCKED(&remote->lock);
	wire_write(&w, &body);
	if (remote->phase == PHASE_RUNNING)
		frame_send(remote->control, FRAME_CANCEL, &w, gt_monotonic() + GT_SECOND);
}

void remote_kill(struct remote *remote, uint64_t life, const char *why)
{
	LOCKED(&remote->lock);
	if (remote->life != life || remote->phase != PHASE_RUNNING)
		return;
	if (!remote->verdict)
		set_text(&remote->verdict, gt_xstrdup(why));
	kill_process(remote);
}

void remote_await_end(struct remote *remote, uint64_t life)
{
	int64_t until = gt_monotonic() + GT_SECOND;
	bool there;
	pthread_mutex_lock(&remote->lock);
	while ((there = remote->life == life && remote->phase == PHASE_RUNNING) && gt_monotonic() < until)
		remote_wait(remote, until);
	pthread_mutex_unlock(&remote->lock);
	if (there)
		remote_kill(remote, life, "it hung up");
}

/* With the lock held. */
static json_t *describe(const struct remote *remote)
{
	static const char *const STATES[] = { [PHASE_STARTING] = "starting", [PHASE_RUNNING] = "running", [PHASE_RESTING] = "waiting to be started again",
					      [PHASE_OVER] = "over" };
	return json_pack("{s:s, s:i, s:I, s:s*}", "State", STATES[remote->phase], "Pid", (int)remote->pid, "Starts", (json_int_t)remote->life, "LastEnd",
			 remote->last_end);
}

json_t *remote_describe(struct plugin *plugin)
{
	LOCKED(&plugin->remote->lock);
	return describe(plugin->remote);
}

json_t *remote_dump(struct plugin *plugin)
{
	struct remote *remote = plugin->remote;
	struct timespec until = at_time(gt_monotonic() + MOMENT);
	int owner = remote->lock.__data.__owner;
	if (pthread_mutex_clocklock(&remote->lock, CLOCK_MONOTONIC, &until) != 0)
		return json_pack("{s:s, s:i}", "Plugin", plugin->name, "LockHeldBy", owner);
	json_t *row = describe(remote);
	json_object_update_new(row, json_pack("{s:s, s:i, s:i}", "Plugin", plugin->name, "CallsInProgress", (int)remote->in_flight, "Channels",
					      (int)remote->channel_count));
	pthread_mutex_unlock(&remote->lock);
	return row;
}
