/*
 * io.c - the standard streams of a process, on our side: what it writes goes to the log and to all clients, what clients write goes to it.
 *
 * Nothing here blocks. A process that writes faster than an attached client reads is not read from while that client's queue is full; a client that
 * writes faster than the process reads is not read from while the process's queue is full. The log is a file and always takes everything.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "shim/shim.h"

#define DRAIN_MAX ((size_t)2 << 20)    /* more than a pipe can hold; who still writes after that is not waited for */

static void output_ready(struct gt_source *source, uint32_t events);
static void input_ready(struct gt_source *source, uint32_t events);

void gt_proc_init(struct gt_proc *proc, struct shim *shim, const char *id)
{
	*proc = (struct gt_proc){ .shim = shim, .slave = -1, .exit.fd = -1, .input = { .fd = -1, .ready = input_ready, .owner = proc } };
	strncpy(proc->id, id, sizeof proc->id - 1);
	for (unsigned i = 0; i < 2; i++) {
		struct gt_output *output = &proc->output[i];
		*output = (struct gt_output){ .source = { .fd = -1, .ready = output_ready, .owner = output }, .proc = proc, .stream = i + 1 };
	}
}

/* A pipe whose end `ours` (0 to read, 1 to write) does not block and is watched; the other one is the child's. */
static int make_pipe(struct gt_proc *proc, struct gt_source *source, int ours, int *child, struct gt_error *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a pipe for standard %s", ours ? "input" : "output");
	if (fcntl(ends[ours], F_SETFL, O_NONBLOCK) < 0 ||
	    gt_loop_add(&proc->shim->loop, source, ends[ours], ours ? 0 : EPOLLIN, err) < 0) {
		close(ends[0]);
		close(ends[1]);
		return -1;
	}
	*child = ends[!ours];
	return 0;
}

int gt_proc_pipes(struct gt_proc *proc, bool in, bool out, bool errs, int child[3], struct gt_error *err)
{
	child[0] = child[1] = child[2] = -1;
	if ((!in || make_pipe(proc, &proc->input, 1, &child[0], err) == 0) &&
	    (!out || make_pipe(proc, &proc->output[0].source, 0, &child[1], err) == 0) &&
	    (!errs || make_pipe(proc, &proc->output[1].source, 0, &child[2], err) == 0))
		return 0;
	for (int i = 0; i < 3; i++) {
		if (child[i] >= 0)
			close(child[i]);
	}
	return -1;
}

/* One descriptor to read from, another of the same pty to write to: epoll knows a descriptor only once. */
static int take_console(struct gt_proc *proc, int console, struct gt_error *err)
{
	struct gt_loop *loop = &proc->shim->loop;
	if (gt_loop_add(loop, &proc->output[0].source, console, EPOLLIN, err) < 0) {
		close(console);
		return -1;
	}
	proc->slave = ioctl(console, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (!proc->input_wanted)
		return 0;
	int copy = fcntl(console, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "copy a terminal's descriptor");
	if (gt_loop_add(loop, &proc->input, copy, 0, err) < 0) {
		close(copy);
		return -1;
	}
	return 0;
}

int gt_proc_started(struct gt_proc *proc, const struct gt_process *process, void (*exited)(struct gt_source *, uint32_t), struct gt_error *err)
{
	proc->pid = process->pid;
	proc->exit = (struct gt_source){ .fd = -1, .ready = exited, .owner = proc };
	int rc = 0;
	if (process->console >= 0)
		rc = take_console(proc, process->console, err);
	if (gt_loop_add(&proc->shim->loop, &proc->exit, process->pidfd, EPOLLIN, rc < 0 ? NULL : err) < 0) {
		close(process->pidfd);
		rc = -1;
	}
	for (struct gt_client *client = proc->clients; client; client = client->next)
		gt_client_watch(client);
	return rc;
}

/* ---- from the process ---- */

static void deliver(struct gt_output *output, const char *bytes, size_t len)
{
	struct gt_proc *proc = output->proc;
	if (proc->log)
		gt_logfile_feed(proc->log, output->stream, bytes, len, gt_now());
	for (struct gt_client *client = proc->clients, *next; client; client = next) {
		next = client->next;
		gt_client_output(client, output->stream, bytes, len);
	}
}

/* One portion. False at the end of the stream and where there is nothing now; *end tells which. */
static bool read_some(struct gt_output *output, size_t *got, bool *end)
{
	char *scratch = output->proc->shim->scratch;
	ssize_t n;
	do {
		n = read(output->source.fd, scratch, GT_SCRATCH);
	} while (n < 0 && errno == EINTR);
	*got = n > 0 ? (size_t)n : 0;
	*end = n == 0 || (n < 0 && errno != EAGAIN); /* EIO: nobody has the pty open any more */
	if (n > 0)
		deliver(output, scratch, (size_t)n);
	return n > 0;
}

static void close_output(struct gt_output *output)
{
	gt_loop_drop(&output->proc->shim->loop, &output->source);
	if (output->proc->log)
		gt_logfile_end(output->proc->log, output->stream, gt_now());
}

static void output_ready(struct gt_source *source, uint32_t events)
{
	struct gt_output *output = source->owner;
	size_t got;
	bool end;
	(void)events;
	if (!read_some(output, &got, &end) && end)
		close_output(output);
	gt_proc_balance(output->proc);
}

void gt_proc_balance(struct gt_proc *proc)
{
	bool full = false;
	for (const struct gt_client *client = proc->clients; client && !full; client = client->next)
		full = client->queue.buf.len - client->queue.start >= GT_CLIENT_QUEUE;
	for (int i = 0; i < 2; i++)
		gt_loop_want(&proc->shim->loop, &proc->output[i].source, full ? 0 : EPOLLIN);
}

void gt_proc_drain(struct gt_proc *proc)
{
	if (proc->slave >= 0)
		close(take_fd(proc->slave));
	for (int i = 0; i < 2; i++) {
		struct gt_output *output = &proc->output[i];
		size_t total = 0, got;
		bool end;
		while (output->source.fd >= 0 && total < DRAIN_MAX && read_some(output, &got, &end))
			total += got;
		close_output(output);
	}
	gt_loop_drop(&proc->shim->loop, &proc->input);
	gt_buf_free(&proc->input_queue.buf);
	proc->input_queue.start = 0;
	proc->ended = true;
}

/* ---- to the process ---- */

bool gt_proc_takes_input(const struct gt_proc *proc)
{
	if (proc->input.fd < 0) /* a terminal comes with the start; a closed pipe takes everything to nowhere */
		return !(proc->tty && proc->pid == 0);
	return proc->input_queue.buf.len - proc->input_queue.start < GT_STDIN_QUEUE;
}

/* The process does not read any more, or there is nothing more to read for it. */
static void close_input(struct gt_proc *proc)
{
	gt_loop_drop(&proc->shim->loop, &proc->input);
	gt_buf_free(&proc->input_queue.buf);
	proc->input_queue.start = 0;
	proc->input_closing = false;
}

static void flush_input(struct gt_proc *proc)
{
	struct gt_pending *queue = &proc->input_queue;
	while (queue->start < queue->buf.len) {
		ssize_t n = write(proc->input.fd, queue->buf.data + queue->start, queue->buf.len - queue->start);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			close_input(proc);
			return;
		}
		if (n < 0)
			break;
		queue->start += (size_t)n;
	}
	if (queue->start == queue->buf.len) {
		gt_buf_free(&queue->buf);
		queue->start = 0;
		if (proc->input_closing) {
			close_input(proc);
			return;
		}
	}
	gt_loop_want(&proc->shim->loop, &proc->input, queue->buf.len ? EPOLLOUT : 0);
}

static void input_ready(struct gt_source *source, uint32_t events)
{
	struct gt_proc *proc = source->owner;
	(void)events;
	flush_input(proc);
	for (struct gt_client *client = proc->clients; client; client = client->next)
		gt_client_watch(client);
}

void gt_proc_input(struct gt_proc *proc, const char *bytes, size_t len)
{
	struct gt_pending *queue = &proc->input_queue;
	if (proc->input.fd < 0 || proc->input_closing)
		return;
	if (queue->start) {
		gt_buf_consume(&queue->buf, queue->start);
		queue->start = 0;
	}
	gt_buf_add(&queue->buf, bytes, len);
	flush_input(proc);
}

void gt_proc_input_end(struct gt_proc *proc)
{
	if (proc->input.fd < 0)
		return;
	proc->input_closing = true;
	flush_input(proc);
}

int gt_proc_resize(struct gt_proc *proc, unsigned rows, unsigned cols, struct gt_error *err)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
	if (rows > 65535 || cols > 65535)
		return gt_fail(err, GT_INVALID, "a terminal of %u rows and %u columns is too large", rows, cols);
	if (!proc->tty)
		return gt_fail(err, GT_INVALID, "the process has no terminal to resize");
	if (proc->output[0].source.fd < 0)
		return gt_fail(err, GT_NOT_FOUND, "the process is not running");
	if (ioctl(proc->output[0].source.fd, TIOCSWINSZ, &size) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "resize a terminal");
	return 0;
}

void gt_proc_release(struct gt_proc *proc)
{
	struct gt_loop *loop = &proc->shim->loop;
	while (proc->clients)
		gt_client_drop(proc->clients);
	close_input(proc);
	gt_loop_drop(loop, &proc->exit);
	for (int i = 0; i < 2; i++)
		gt_loop_drop(loop, &proc->output[i].source);
	if (proc->slave >= 0)
		close(take_fd(proc->slave));
}
