/*
 * common/netlink.c - messages to the kernel. Several go out in one system call, as each round trip counts on the start path; the kernel handles them in order, goes
 * on after one that fails, and acknowledges each by its sequence number.
 */
#include "common/netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct nl_sock *netlink_open(int protocol, struct gantry_error *err)
{
	int on = 1;
	struct nl_sock *sock = nl_socket_alloc();
	if (!sock) {
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
		return NULL;
	}
	/* The kernel picks the port: libnl's own choice has 1024 of them for the process. */
	nl_socket_set_local_port(sock, 0);
	int rc = nl_connect(sock, protocol);
	if (rc < 0) {
		gantry_fail(err, GANTRY_E_INTERNAL, "open a netlink socket: %s", nl_geterror(rc));
		nl_socket_free(sock);
		return NULL;
	}
	/* One system call for each answer, not two: no dump's piece is longer. */
	nl_socket_set_msg_buf_size(sock, 32768);
	nl_socket_disable_msg_peek(sock);
	/* Reasons in words where the kernel knows them. */
	(void)setsockopt(nl_socket_get_fd(sock), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
	return sock;
}

/* ---- building ---- */

void batch_begin(struct batch *batch, struct nl_sock *sock)
{
	batch->sock = sock;
	batch->count = 0;
	batch->broken = false;
	batch->reason[0] = '\0';
	batch->answer = NULL;
}

void message(struct batch *batch, const char *what, int type, int flags, const void *header, size_t len)
{
	struct nl_msg *msg = batch->count < BATCH_MAX ? nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_ACK | flags) : NULL;
	if (!msg || nlmsg_append(msg, (void *)(uintptr_t)header, len, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		batch->broken = true;
		return;
	}
	batch->what[batch->count] = what;
	batch->errnums[batch->count] = 0;
	batch->messages[batch->count++] = msg;
}

void put(struct batch *batch, int attribute, const void *data, size_t len)
{
	if (batch->broken || nla_put(batch->messages[batch->count - 1], attribute, (int)len, data) < 0)
		batch->broken = true;
}

void put_u8(struct batch *batch, int attribute, uint8_t value)
{
	put(batch, attribute, &value, sizeof value);
}

void put_u16(struct batch *batch, int attribute, uint16_t value)
{
	put(batch, attribute, &value, sizeof value);
}

void put_u32(struct batch *batch, int attribute, uint32_t value)
{
	put(batch, attribute, &value, sizeof value);
}

void put_text(struct batch *batch, int attribute, const char *text)
{
	put(batch, attribute, text, strlen(text) + 1);
}

struct nlattr *nest(struct batch *batch, int attribute)
{
	struct nlattr *start = batch->broken ? NULL : nla_nest_start(batch->messages[batch->count - 1], attribute);
	batch->broken |= !start;
	return start;
}

void nest_end(struct batch *batch, struct nlattr *start)
{
	if (!batch->broken)
		nla_nest_end(batch->messages[batch->count - 1], start);
}

/* ---- running ---- */

/* What the kernel says of a failure, in attributes behind the copy of the request that failed. */
static void read_reason(const struct nlmsghdr *ack, const struct nlmsgerr *error, char *reason, size_t room)
{
	size_t skip = NLMSG_HDRLEN + sizeof *error;
	if (!(ack->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(ack->nlmsg_flags & NLM_F_CAPPED))
		skip += error->msg.nlmsg_len - NLMSG_HDRLEN;
	skip = NLMSG_ALIGN(skip);
	if (skip >= ack->nlmsg_len)
		return;
	struct nlattr *found = nla_find((struct nlattr *)(uintptr_t)((const char *)ack + skip), (int)(ack->nlmsg_len - skip), NLMSGERR_ATTR_MSG);
	if (found)
		snprintf(reason, room, "%.*s", nla_len(found), (const char *)nla_data(found));
}

/* Calls fn for each message of one datagram. */
static int receive(struct nl_sock *sock, int (*fn)(void *arg, struct nlmsghdr *message), void *arg)
{
	struct sockaddr_nl from;
	unsigned char *bytes = NULL;
	int len = nl_recv(sock, &from, &bytes, NULL);
	if (len <= 0) {
		errno = len == -NLE_NOMEM ? ENOMEM : EIO;
		return -1;
	}
	for (struct nlmsghdr *header = (struct nlmsghdr *)(void *)bytes; nlmsg_ok(header, len); header = nlmsg_next(header, &len))
		fn(arg, header);
	free(bytes);
	return 0;
}

struct waiting {
	struct batch *batch;
	uint32_t first;
	unsigned seen;
};

static int take_ack(void *arg, struct nlmsghdr *header)
{
	struct waiting *waiting = arg;
	uint32_t index = header->nlmsg_seq - waiting->first;
	if (index >= waiting->batch->count)
		return 0;
	if (header->nlmsg_type != NLMSG_ERROR) {
		if (waiting->batch->answer)
			waiting->batch->answer(waiting->batch->arg, index, header);
		return 0;
	}
	const struct nlmsgerr *error = nlmsg_data(header);
	waiting->seen++;
	waiting->batch->errnums[index] = -error->error;
	if (error->error && !waiting->batch->reason[0])
		read_reason(header, error, waiting->batch->reason, sizeof waiting->batch->reason);
	return 0;
}

static int exchange(struct batch *batch)
{
	struct iovec iov[BATCH_MAX];
	struct waiting waiting = { .batch = batch };
	for (unsigned i = 0; i < batch->count; i++) {
		nl_complete_msg(batch->sock, batch->messages[i]);
		struct nlmsghdr *header = nlmsg_hdr(batch->messages[i]);
		iov[i] = (struct iovec){ header, header->nlmsg_len };
	}
	waiting.first = nlmsg_hdr(batch->messages[0])->nlmsg_seq;
	if (nl_send_iovec(batch->sock, batch->messages[0], iov, batch->count) < 0)
		return -1;
	while (waiting.seen < batch->count) {
		if (receive(batch->sock, take_ack, &waiting) < 0)
			return -1;
	}
	return 0;
}

int batch_run(struct batch *batch, struct gantry_error *err)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	int rc = 0;
	if (!err)
		err = &ignored;
	if (batch->broken)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory for netlink messages");
	else if (batch->count && exchange(batch) < 0)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "netlink: the kernel's answer was lost");
	for (unsigned i = 0; i < batch->count; i++) {
		nlmsg_free(batch->messages[i]);
		if (rc == 0 && batch->errnums[i] && batch->reason[0])
			rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, batch->errnums[i], "%s (%s)", batch->what[i], batch->reason);
		else if (rc == 0 && batch->errnums[i])
			rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, batch->errnums[i], "%s", batch->what[i]);
	}
	return rc;
}

/* ---- asking ---- */

struct asking {
	int (*fn)(void *arg, struct nlmsghdr *answer);
	void *arg;
	uint32_t seq;
	bool dump, done, stopped;
	int errnum;
};

static int take_answer(void *arg, struct nlmsghdr *header)
{
	struct asking *asking = arg;
	if (header->nlmsg_seq != asking->seq)
		return 0;
	if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
		asking->done = true;
		if (header->nlmsg_type == NLMSG_ERROR)
			asking->errnum = -((const struct nlmsgerr *)nlmsg_data(header))->error;
		return 0;
	}
	if (!asking->stopped && asking->fn(asking->arg, header) != 0)
		asking->stopped = true;
	return 0;
}

int netlink_ask(struct nl_sock *sock, struct nl_msg *request, int (*fn)(void *arg, struct nlmsghdr *answer), void *arg)
{
	struct asking asking = { .fn = fn, .arg = arg };
	if (!request) {
		errno = ENOMEM;
		return -1;
	}
	/* With an acknowledgement after the answer, the end of a single one shows as a dump's does. */
	if (!(nlmsg_hdr(request)->nlmsg_flags & NLM_F_DUMP))
		nlmsg_hdr(request)->nlmsg_flags |= NLM_F_ACK;
	nl_complete_msg(sock, request);
	asking.seq = nlmsg_hdr(request)->nlmsg_seq;
	int sent = nl_send(sock, request);
	nlmsg_free(request);
	if (sent < 0) {
		errno = EIO;
		return -1;
	}
	while (!asking.done) {
		if (receive(sock, take_answer, &asking) < 0)
			return -1;
	}
	errno = asking.errnum;
	return asking.errnum ? -1 : 0;
}
