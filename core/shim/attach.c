/*
 * attach.c - clients: stream sockets that the daemon has handed over.
 *
 * A client's output is framed or not, sent at once where the socket has room, else queued; a queue that has not moved for a minute cuts the client, as its
 * process waits for it meanwhile. Its input passes the detach keys (terminals only, as in Docker: other input is data). The sockets are read and written with
 * MSG_DONTWAIT, as O_NONBLOCK would change them for the daemon too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "shim/shim.h"

#define STALL (60 * GT_SECOND)
#define OUTPUTS (GT_SHIM_ATTACH_STDOUT | GT_SHIM_ATTACH_STDERR)

static size_t waiting(const struct gt_client *client)
{
	return client->queue.buf.len - client->queue.start;
}

/* ---- detach keys ---- */

bool gt_keys_filter(const char *keys, size_t len, size_t *seen, const char *bytes, size_t count, struct gt_buf *out)
{
	for (size_t i = 0; i < count; i++) {
		if (*seen == 0) {
			const char *first = memchr(bytes + i, keys[0], count - i);
			size_t pass = first ? (size_t)(first - (bytes + i)) : count - i;
			gt_buf_add(out, bytes + i, pass);
			i += pass;
			if (!first)
				return false;
		}
		/* text: what is held, and this byte. Its longest end that begins the keys stays held, what is before passes. */
		char text[GT_SHIM_MAX_KEYS + 1];
		size_t have = *seen + 1, keep = have;
		memcpy(text, keys, *seen);
		text[*seen] = bytes[i];
		while (keep && memcmp(text + have - keep, keys, keep) != 0)
			keep--;
		if (keep == len)
			return true;
		gt_buf_add(out, text, have - keep);
		*seen = keep;
	}
	return false;
}

/* ---- going ---- */

/* The client's input has ended, by half-close or by its going altogether. */
static void input_gone(struct gt_client *client)
{
	struct gt_proc *proc = client->proc;
	if (client->input_ended)
		return;
	client->input_ended = true;
	if ((client->flags & GT_SHIM_ATTACH_STDIN) && proc->input_once && !proc->tty)
		gt_proc_input_end(proc);
}

void gt_client_drop(struct gt_client *client)
{
	struct gt_proc *proc = client->proc;
	char rest[4096];
	input_gone(client);
	for (struct gt_client **slot = &proc->clients; *slot; slot = &(*slot)->next) {
		if (*slot == client) {
			*slot = client->next;
			break;
		}
	}
	proc->client_count--;
	/* Input nobody reads must not turn the end of a TCP stream into a reset, which could overtake the output. */
	for (int i = 0; i < 64 && recv(client->source.fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++)
		;
	shutdown(client->source.fd, SHUT_RDWR);
	gt_loop_drop(&proc->shim->loop, &client->source);
	gt_buf_free(&client->queue.buf);
	free(client);
	if (!proc->ended)
		gt_proc_balance(proc);
	proc->shim->look = true;
}

void gt_client_end(struct gt_client *client)
{
	client->ending = true;
	if (waiting(client) == 0)
		gt_client_drop(client);
	else
		gt_shim_want_tick(client->proc->shim);
}

/* Sending failed: the client reads no more. What it has written before is still read. Frees it where nothing is left to do. */
static void output_gone(struct gt_client *client)
{
	client->flags &= ~OUTPUTS;
	gt_buf_free(&client->queue.buf);
	client->queue.start = 0;
	if (client->ending || client->input_ended || !(client->flags & GT_SHIM_ATTACH_STDIN))
		gt_client_drop(client);
	else
		gt_client_watch(client);
}

/* ---- output ---- */

void gt_mux_header(unsigned char header[8], unsigned stream, size_t len)
{
	header[0] = (unsigned char)stream;
	header[1] = header[2] = header[3] = 0;
	for (int i = 0; i < 4; i++)
		header[4 + i] = (unsigned char)(len >> (24 - 8 * i));
}

void gt_client_output(struct gt_client *client, unsigned stream, const char *bytes, size_t len)
{
	unsigned char header[8];
	struct iovec iov[2] = { { header, 0 }, { (void *)(uintptr_t)bytes, len } };
	size_t sent = 0;
	if (!(client->flags & (stream == 2 ? GT_SHIM_ATTACH_STDERR : GT_SHIM_ATTACH_STDOUT)) || client->ending)
		return;
	if (client->flags & GT_SHIM_ATTACH_MUX) {
		gt_mux_header(header, stream, len);
		iov[0].iov_len = sizeof header;
	}
	if (waiting(client) == 0) {
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
		ssize_t n = sendmsg(client->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			output_gone(client);
			return;
		}
		sent = n > 0 ? (size_t)n : 0;
		if (sent == iov[0].iov_len + len)
			return;
		client->progress = gt_monotonic();
	}
	if (client->queue.start > GT_CLIENT_QUEUE / 2) {
		gt_buf_consume(&client->queue.buf, client->queue.start);
		client->queue.start = 0;
	}
	for (int i = 0; i < 2; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
		gt_buf_add(&client->queue.buf, (char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
		sent -= skip;
	}
	gt_client_watch(client);
	gt_shim_want_tick(client->proc->shim);
}

/* True where the client is gone. */
static bool flush_queue(struct gt_client *client)
{
	struct gt_pending *queue = &client->queue;
	while (waiting(client)) {
		ssize_t n = send(client->source.fd, queue->buf.data + queue->start, waiting(client), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0) {
			output_gone(client);
			return true;
		}
		queue->start += (size_t)n;
		client->progress = gt_monotonic();
	}
	gt_buf_free(&queue->buf);
	queue->start = 0;
	if (client->ending) {
		gt_client_drop(client);
		return true;
	}
	return false;
}

/* ---- input ---- */

/* True where the client is gone. */
static bool take_input(struct gt_client *client)
{
	struct gt_proc *proc = client->proc;
	char *scratch = proc->shim->scratch;
	ssize_t n = recv(client->source.fd, scratch, GT_SCRATCH, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		input_gone(client);
		if (n == 0 && (client->flags & OUTPUTS))
			return false;
		gt_client_end(client);
		return true;
	}
	if (!(client->flags & GT_SHIM_ATTACH_STDIN))
		return false;
	if (!proc->tty || client->keys_len == 0) {
		gt_proc_input(proc, scratch, (size_t)n);
		return false;
	}
	AUTO_BUF struct gt_buf pass = { 0 };
	bool detach = gt_keys_filter(client->keys, client->keys_len, &client->keys_seen, scratch, (size_t)n, &pass);
	if (pass.len)
		gt_proc_input(proc, pass.data, pass.len);
	if (detach)
		gt_client_end(client);
	return detach;
}

void gt_client_watch(struct gt_client *client)
{
	uint32_t events = waiting(client) ? EPOLLOUT : 0;
	if (client->input_ended)
		events |= EPOLLERR;
	else if (!(client->flags & GT_SHIM_ATTACH_STDIN) || gt_proc_takes_input(client->proc))
		events |= EPOLLIN;
	gt_loop_want(&client->proc->shim->loop, &client->source, events);
}

static void client_ready(struct gt_source *source, uint32_t events)
{
	struct gt_client *client = source->owner;
	struct gt_proc *proc = client->proc;
	if (waiting(client) && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && flush_queue(client))
		return;
	if (client->input_ended) {
		if (events & (EPOLLERR | EPOLLHUP)) {
			gt_client_drop(client);
			return;
		}
	} else if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && (source->events & EPOLLIN) && take_input(client)) {
		return;
	}
	gt_client_watch(client);
	if (!proc->ended)
		gt_proc_balance(proc);
}

/* ---- coming ---- */

int gt_client_add(struct gt_proc *proc, const struct gt_shim_request *request, int fd, struct gt_error *err)
{
	static const char DEFAULT_KEYS[] = { 0x10, 0x11 }; /* ctrl-p ctrl-q */
	int type = 0;
	socklen_t len = sizeof type;
	if (proc->client_count >= GT_SHIM_MAX_CLIENTS)
		return gt_fail(err, GT_TOO_LARGE, "%d clients are attached already", GT_SHIM_MAX_CLIENTS);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return gt_fail(err, GT_INVALID, "only a stream socket can be attached");
	struct gt_client *client = gt_xcalloc(1, sizeof *client);
	client->proc = proc;
	client->flags = request->attach;
	if (!proc->input_wanted)
		client->flags &= ~GT_SHIM_ATTACH_STDIN;
	bool given = request->attach & GT_SHIM_ATTACH_KEYS;
	client->keys_len = given ? request->keys_len : sizeof DEFAULT_KEYS;
	memcpy(client->keys, given ? request->keys : DEFAULT_KEYS, client->keys_len);
	client->progress = gt_monotonic();
	client->source = (struct gt_source){ .fd = -1, .ready = client_ready, .owner = client };
	if (gt_loop_add(&proc->shim->loop, &client->source, fd, 0, err) < 0) {
		free(client);
		return -1;
	}
	client->next = proc->clients;
	proc->clients = client;
	proc->client_count++;
	gt_client_watch(client);
	return 0;
}

void gt_clients_tick(struct gt_proc *proc)
{
	int64_t now = gt_monotonic();
	for (struct gt_client *client = proc->clients, *next; client; client = next) {
		next = client->next;
		if (waiting(client) == 0)
			continue;
		if (now - client->progress > STALL)
			gt_client_drop(client);
		else
			gt_shim_want_tick(proc->shim);
	}
}
