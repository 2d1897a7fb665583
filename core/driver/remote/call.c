/*
 * call.c - one call to a plugin's process, and the channels that calls are made over.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "remote.h"

#define GRACE (2 * GT_SECOND)           /* past the deadline, for a driver that returns soon after it */
#define CANCEL_GRACE (5 * GT_SECOND)    /* the same once the daemon goes down */
#define START_WAIT (5 * GT_SECOND)      /* for a process that is being started */
#define OPEN_TIME (120 * GT_SECOND)     /* open() and close() have no deadline of their own */
#define CLOSE_TIME (10 * GT_SECOND)
#define TRIES 3                         /* for a call that no process has heard */
#define LOOK (200 * GT_MILLISECOND)     /* how often a waiting call looks whether the daemon goes down */

/* How an attempt ended. */
enum outcome { ANSWERED, GONE, LATE, NONSENSE, TOO_LARGE, UNHEARD };

struct attempt {
	struct driver *driver;
	const struct wire_op *op;
	int sock;
	int64_t deadline;               /* of the driver's */
	struct wire_args *args;
	struct listener *listener;
	struct gantry_error *err;
	int rc;                         /* the op's, where it answered */
	const char *fault;              /* of NONSENSE */
};

/* ---- waiting ---- */

static bool daemon_ends(const struct driver *driver)
{
	return driver->all && atomic_load(&driver->all->cancelled);
}

/* Until something can be read, or the call is too late. */
static bool await_bytes(const struct attempt *attempt)
{
	struct pollfd entry = { .fd = attempt->sock, .events = POLLIN };
	int64_t until = attempt->deadline + GRACE;
	bool ends = false;
	for (int64_t now; (now = gt_monotonic()) < until;) {
		if (!ends && daemon_ends(attempt->driver)) {
			ends = true;
			until = until < now + CANCEL_GRACE ? until : now + CANCEL_GRACE;
		}
		int64_t slice = until - now < LOOK ? until - now : LOOK;
		if (poll(&entry, 1, (int)(slice / GT_MILLISECOND) + 1) > 0)
			return true;
	}
	return false;
}

/* ---- what comes ---- */

static int listen_to(struct listener *listener, const struct wire_entry *entry)
{
	if (listener->name)
		return listener->name(listener->arg, entry->name);
	if (listener->change)
		return listener->change(listener->arg, entry->change, entry->name);
	if (listener->network)
		return listener->network(listener->arg, &entry->network);
	if (listener->peer)
		return listener->peer(listener->arg, entry->name, entry->address);
	return listener->member(listener->arg, &entry->member);
}

/* The entries up to the frame's end. */
static void take_entries(struct wire *w, const struct attempt *attempt)
{
	struct listener *listener = attempt->listener;
	size_t most = attempt->op->visits == WIRE_VISITS_CHANGES ? WIRE_CHANGES_MAX : WIRE_LIST_MAX;
	while (!w->fault && w->at != w->end) {
		struct wire_entry entry = { 0 };
		wire_entry(w, attempt->op->visits, &entry);
		if (!w->fault && ++listener->count > most)
			wire_fault(w, "a list does not end");
		if (!w->fault && !listener->stopped)
			listener->stopped = listen_to(listener, &entry) != 0;
	}
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);
	AUTO_FREE char *closed = gt_xasprintf("%s/", path);
	return strncmp(path, dir, len) == 0 && path[len] == '/' && !strstr(closed, "/../") && !strstr(closed, "/./");
}

/* The engine reads 8 bytes of it whenever there are some, and must not wait for them. */
static bool is_eventfd(int fd)
{
	char name[40], target[40] = "";
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(name, target, sizeof target - 1);
	return len > 0 && strcmp(target, "anon_inode:[eventfd]") == 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* What only the caller can know of an answer. */
static void check_answer(struct wire *w, const struct attempt *attempt)
{
	if (w->fault)
		return;
	if ((attempt->op->out & WIRE_DIR) && !is_below(attempt->args->dir->path, attempt->driver->state_dir))
		wire_fault(w, "the directory of a layer is not below the driver's state");
	if ((attempt->op->out & WIRE_FD) && !is_eventfd(attempt->args->fd))
		wire_fault(w, "a descriptor is not an eventfd that does not block");
}

static enum outcome read_answer(struct wire *w, struct attempt *attempt)
{
	int32_t rc = -1;
	WIRE(w, rc);
	if (rc == 0)
		wire_fields(w, attempt->args, attempt->op->out);
	else if (rc == -1)
		wire_error(w, attempt->err);
	else
		wire_fault(w, "a result is neither 0 nor -1");
	if (attempt->listener)
		take_entries(w, attempt);
	check_answer(w, attempt);
	attempt->rc = rc;
	if (wire_whole(w))
		return ANSWERED;
	if (attempt->args->fd >= 0 && (attempt->op->out & WIRE_FD) && rc == 0)
		close(attempt->args->fd);
	attempt->fault = w->fault;
	return NONSENSE;
}

/* Whose words a notice is; NULL: nobody's. */
static struct driver *speaker(struct remote *remote, struct driver *caller, const struct wire_notice *notice)
{
	struct plugin *plugin = remote->plugin;
	struct driver *driver = notice->driver < plugin->driver_count ? &plugin->drivers[notice->driver] : NULL;
	if (!driver || !notice->member)
		return driver;
	if (caller && caller->index == notice->driver && caller->member == notice->member)
		return caller;
	/* One that is not open yet, or no more, speaks for its family. */
	struct driver *member = remote_member_speaking(remote, notice->member);
	return member ? member : driver;
}

const char *remote_notice(struct remote *remote, struct driver *caller, enum frame_kind kind, const struct gt_buf *body)
{
	struct wire w;
	struct wire_notice notice = { 0 };
	wire_read(&w, body, NULL, 0);
	wire_notice(&w, kind, &notice);
	const struct driver *driver = wire_whole(&w) ? speaker(remote, caller, &notice) : NULL;
	const struct gantry_host *host = driver ? &driver->host : NULL;
	if (!host || !host->log || !host->event) {
		wire_fault(&w, "it speaks of a driver that is not there");
	} else if (kind == FRAME_LOG) {
		host->log(host, notice.level, notice.texts[0]);
	} else {
		AUTO_FREE char *object = gt_utf8_repair(notice.texts[0]);
		AUTO_FREE char *action = gt_utf8_repair(notice.texts[1] ? notice.texts[1] : "");
		AUTO_FREE char *detail = gt_utf8_repair(notice.texts[2] ? notice.texts[2] : "");
		host->event(host, object, action, detail);
	}
	const char *fault = w.fault;
	wire_done(&w);
	return fault;
}

/* One frame. -1: more are to come. */
static int take_frame(struct attempt *attempt, struct gt_buf *body)
{
	struct wire w;
	enum frame_kind kind;
	int fds[GT_MAX_FDS], outcome = -1;
	size_t fd_count;
	if (frame_receive(attempt->sock, &kind, body, WIRE_ANSWER_MAX, fds, &fd_count, attempt->deadline + GRACE) < 0) {
		attempt->fault = "it is not a message, or too long a one";
		return errno == EPROTO ? NONSENSE : errno == ETIMEDOUT ? LATE : GONE;
	}
	if ((kind == FRAME_LOG || kind == FRAME_EVENT) && fd_count == 0) {
		attempt->fault = remote_notice(attempt->driver->plugin->remote, attempt->driver, kind, body);
		return attempt->fault ? NONSENSE : -1;
	}
	wire_read(&w, body, fds, fd_count);
	if (kind == FRAME_ANSWER) {
		outcome = (int)read_answer(&w, attempt);
	} else if (kind == FRAME_VISIT && attempt->listener) {
		take_entries(&w, attempt);
		attempt->fault = wire_whole(&w) ? NULL : w.fault;
		outcome = attempt->fault ? NONSENSE : -1;
	} else {
		attempt->fault = "it is a message of another kind";
		outcome = NONSENSE;
	}
	wire_done(&w);
	if (kind == FRAME_VISIT && outcome == -1) {
		int32_t stop = attempt->listener->stopped;
		wire_write(&w, body);
		WIRE(&w, stop);
		if (frame_send(attempt->sock, FRAME_GO, &w, attempt->deadline + GRACE) < 0)
			outcome = errno == ETIMEDOUT ? LATE : GONE;
	}
	return outcome;
}

static enum outcome perform(struct attempt *attempt, uint64_t id)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct wire w;
	struct wire_call head = { .driver = attempt->driver->index, .member = attempt->driver->member, .op = (uint32_t)(attempt->op - WIRE_OPS),
				  .deadline_ns = attempt->deadline, .id = id };
	wire_write(&w, &body);
	WIRE(&w, head);
	wire_fields(&w, attempt->args, attempt->op->in);
	if (body.len > WIRE_CALL_MAX)
		return TOO_LARGE;
	/* A call that has not arrived whole has not been made. */
	if (frame_send(attempt->sock, FRAME_CALL, &w, attempt->deadline + GRACE) < 0)
		return errno == ETIMEDOUT ? LATE : UNHEARD;
	for (int outcome;;) {
		if (!await_bytes(attempt))
			return LATE;
		if ((outcome = take_frame(attempt, &body)) >= 0)
			return (enum outcome)outcome;
	}
}

/* ---- channels ---- */

/* Makes a pair and hands one end to the process. Returns ours; -1: the process does not take it; -2: there is none to be had; both with errno. */
static int channel_make(int control)
{
	AUTO_BUF struct gt_buf body = { 0 };
	int pair[2];
	struct wire w;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -2;
	wire_write(&w, &body);
	w.fds[w.fd_count++] = pair[1];
	int rc = fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ? -1 : frame_send(control, FRAME_CHANNEL, &w, gt_monotonic() + GT_SECOND);
	int saved = errno;
	close(pair[1]);
	if (rc < 0)
		close(pair[0]);
	errno = saved;
	return rc < 0 ? -1 : pair[0];
}

void channels_drop(struct remote *remote)
{
	while (remote->idle_count)
		close(remote->idle[--remote->idle_count]);
	remote->channel_count = 0;
}

/* Why there is no process to call. The lock is held. */
static int no_process(const struct remote *remote, struct gantry_error *err)
{
	const char *end = remote->last_end ? remote->last_end : "has not started";
	if (remote->phase == PHASE_RESTING)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "its process %s, %u times in a row; it is started again in %lld s", end,
				   remote->quick_ends, (long long)((remote->next_start - gt_monotonic()) / GT_SECOND + 1));
	return gantry_fail(err, GANTRY_E_UNAVAILABLE, "its process %s, and is not back yet; try again", end);
}

/* A channel of the process that runs, of *life; -1: it cannot be reached; -2: there is none, with err. Unless -2, the call is in flight. */
static int channel_take(struct remote *remote, int64_t deadline, uint64_t *life, struct gantry_error *err)
{
	LOCKED(&remote->lock);
	int64_t until = gt_monotonic() + START_WAIT;
	until = until < deadline ? until : deadline;
	for (;;) {
		int64_t now = gt_monotonic();
		bool runs = remote->phase == PHASE_RUNNING && !remote->verdict;
		bool full = runs && !remote->idle_count && remote->channel_count == CHANNELS_MAX;
		if (runs && !full)
			break;
		if (remote->phase == PHASE_OVER || remote->closing || (remote->phase == PHASE_RESTING && remote->next_start > until) ||
		    now >= (full ? deadline : until))
			return (full ? gantry_fail(err, GANTRY_E_TIMEOUT, "all %d calls that its process can take at once are busy", CHANNELS_MAX) :
				       no_process(remote, err)) - 1;
		remote_wait(remote, full ? deadline : until);
	}
	*life = remote->life;
	int sock = -1;
	if (remote->idle_count)
		sock = remote->idle[--remote->idle_count];
	else if ((sock = channel_make(remote->control)) >= 0)
		remote->channel_count++;
	if (sock == -2)
		return gantry_fail_errno(err, GANTRY_E_UNAVAILABLE, errno, "make sockets to reach its process") - 1;
	remote->in_flight++;
	return sock;
}

static void channel_give(struct remote *remote, int sock, uint64_t life)
{
	LOCKED(&remote->lock);
	if (remote->life == life && remote->phase == PHASE_RUNNING) {
		remote->idle[remote->idle_count++] = sock;
		pthread_cond_signal(&remote->changed);
	} else {
		close(sock);
	}
}

/* ---- calls ---- */

/* How the process of that life ended, once it is known. */
static void tell_end(struct remote *remote, uint64_t life, const char *op, struct gantry_error *err)
{
	remote_await_end(remote, life);
	LOCKED(&remote->lock);
	gantry_fail(err, GANTRY_E_UNAVAILABLE, "its process %s during %s", remote->last_end ? remote->last_end : "went away", op);
}

static int64_t op_time(enum wire_opcode op, const struct gantry_call *call)
{
	if (call && call->deadline_ns)
		return call->deadline_ns;
	return gt_monotonic() + (op == WIRE_CLOSE ? CLOSE_TIME : OPEN_TIME);
}

/* The caller's words for an attempt without an answer. */
static char *verdict(enum outcome outcome, const struct attempt *attempt, struct gantry_error *err)
{
	const char *op = attempt->op->name;
	char *why = outcome == LATE ? gt_xasprintf("%s did not return in time", op) :
				      gt_xasprintf("it answered %s with nonsense: %s", op, attempt->fault);
	if (outcome == LATE)
		gantry_fail(err, GANTRY_E_TIMEOUT, "%s, so its process was killed", why);
	else
		gantry_fail(err, GANTRY_E_INTERNAL, "its process was killed, as %s", why);
	return why;
}

/* What an op that answered changes. */
static int note_answer(struct remote *remote, const struct attempt *attempt, uint64_t life, enum wire_opcode op)
{
	uint64_t bit = 1ull << attempt->driver->index;
	LOCKED(&remote->lock);
	if (op == WIRE_CLOSE && !attempt->driver->member)
		remote->opened &= ~bit;
	if (op != WIRE_OPEN || attempt->rc < 0)
		return attempt->rc;
	/* The next process opens what this one did. */
	if (remote->life != life || remote->phase != PHASE_RUNNING)
		return no_process(remote, attempt->err);
	if (attempt->driver->member)
		remote_member_is_open(remote, attempt->driver->member, false);
	else
		remote->opened |= bit;
	return 0;
}

static void landed(struct remote *remote)
{
	LOCKED(&remote->lock);
	if (--remote->in_flight == 0)
		pthread_cond_broadcast(&remote->changed);
}

/* Ops may be repeated, as plugin.h has it. What a process has half done is the next one's to finish: nobody else knows of it. */
static bool may_repeat(enum wire_opcode op, const struct listener *listener)
{
	return op != WIRE_OPEN && op != WIRE_CLOSE && (!listener || listener->count == 0);
}

/* Until a process has heard the call, or there is none. *flies: it is in flight still. */
static int try_call(struct driver *driver, enum wire_opcode op, const struct gantry_call *call, struct wire_args *args, struct listener *listener,
		    bool *flies, struct gantry_error *err)
{
	struct remote *remote = driver->plugin->remote;
	uint64_t life = 0;
	struct attempt attempt = { .driver = driver, .op = &WIRE_OPS[op], .deadline = op_time(op, call), .args = args, .listener = listener,
				   .err = err };
	enum outcome outcome = GONE;
	bool died = false;
	for (int tries = 0; tries < TRIES; tries++) {
		if (*flies)
			landed(remote);
		attempt.sock = channel_take(remote, attempt.deadline, &life, err);
		*flies = attempt.sock != -2;
		if (!*flies)
			return -1;
		outcome = attempt.sock < 0 ? UNHEARD : perform(&attempt, call ? call->id : 0);
		if (outcome == ANSWERED || outcome == TOO_LARGE)
			channel_give(remote, attempt.sock, life);
		else if (attempt.sock >= 0)
			close(attempt.sock);
		if (outcome != UNHEARD && (outcome != GONE || died || !may_repeat(op, listener)))
			break;
		/* It ended before the call, or within it. */
		died |= outcome == GONE;
		remote_await_end(remote, life);
	}
	if (outcome == ANSWERED)
		return note_answer(remote, &attempt, life, op);
	if (outcome == TOO_LARGE)
		return gantry_fail(err, GANTRY_E_INVALID, "%s has more than %u MiB of arguments", attempt.op->name, WIRE_CALL_MAX >> 20);
	if (outcome == LATE || outcome == NONSENSE) {
		AUTO_FREE char *why = verdict(outcome, &attempt, err);
		remote_kill(remote, life, why);
		remote_await_end(remote, life);
	} else {
		tell_end(remote, life, attempt.op->name, err);
	}
	return -1;
}

int remote_call(struct driver *driver, enum wire_opcode op, const struct gantry_call *call, struct wire_args *args, struct listener *listener,
		struct gantry_error *err)
{
	bool flies = false;
	/* The server that a member speaks for may be back. */
	if (op != WIRE_OPEN && op != WIRE_CLOSE && driver->member && remote_member_is_lost(driver->plugin->remote, driver->member) && proxy_reopen(driver, err) < 0)
		return -1;
	int rc = try_call(driver, op, call, args, listener, &flies, err);
	records_note(driver, op, args, rc == 0);
	if (flies)
		landed(driver->plugin->remote);
	return rc;
}

/* What an attempt at a process that is not shared came to. */
static int conclude(enum outcome outcome, const struct attempt *attempt)
{
	if (outcome == ANSWERED)
		return attempt->rc;
	if (outcome == TOO_LARGE)
		return gantry_fail(attempt->err, GANTRY_E_INVALID, "%s has more than %u MiB of arguments", attempt->op->name, WIRE_CALL_MAX >> 20);
	if (outcome == GONE || outcome == UNHEARD)
		return gantry_fail(attempt->err, GANTRY_E_UNAVAILABLE, "its process went away during %s", attempt->op->name);
	return -1;
}

int remote_call_early(struct driver *driver, int control, enum wire_opcode op, struct wire_args *args, struct gantry_error *err)
{
	struct attempt attempt = { .driver = driver, .op = &WIRE_OPS[op], .deadline = op_time(op, NULL), .args = args, .err = err };
	attempt.sock = channel_make(control);
	if (attempt.sock < 0)
		return gantry_fail_errno(err, GANTRY_E_UNAVAILABLE, errno, "reach its process");
	enum outcome outcome = perform(&attempt, 0);
	close(attempt.sock);
	if (outcome == LATE || outcome == NONSENSE)
		free(verdict(outcome, &attempt, err));
	return conclude(outcome, &attempt);
}

int remote_call_life(struct driver *driver, uint64_t life, enum wire_opcode op, int64_t deadline, struct wire_args *args, struct gantry_error *err)
{
	struct remote *remote = driver->plugin->remote;
	struct attempt attempt = { .driver = driver, .op = &WIRE_OPS[op], .deadline = deadline, .args = args, .err = err };
	pthread_mutex_lock(&remote->lock);
	attempt.sock = remote->life == life && remote->phase == PHASE_RUNNING && !remote->closing ? channel_make(remote->control) : -1;
	pthread_mutex_unlock(&remote->lock);
	if (attempt.sock < 0)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "its process went away before %s", attempt.op->name);
	enum outcome outcome = perform(&attempt, 0);
	close(attempt.sock);
	if (outcome == LATE || outcome == NONSENSE) {
		AUTO_FREE char *why = verdict(outcome, &attempt, err);
		remote_kill(remote, life, why);
	}
	return conclude(outcome, &attempt);
}
