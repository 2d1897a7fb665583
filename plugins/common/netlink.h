/*
 * common/netlink.h - messages to the kernel, several in one system call, for drivers of networks.
 *
 * The files of common/ are linked into each driver that uses them, hidden in it; they include <gantry/...> and system headers alone, as a driver does. Nothing of
 * them has state of its own, so any thread may call them with objects of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <gantry/plugin.h>

#define BATCH_MAX 24

/* Messages that go to the kernel in one system call, which a kill does not interrupt. The kernel goes on after a message that fails. Puts that do not fit or find
 * no memory show in batch_run(). */
struct batch {
	struct nl_sock *sock;
	unsigned count;
	bool broken;
	struct nl_msg *messages[BATCH_MAX];
	const char *what[BATCH_MAX];    /* for messages to people: "create link gtv..." */
	int errnums[BATCH_MAX];         /* after batch_run() */
	char reason[96];                /* the kernel's own words for the first failure, may be empty */
	/* What the kernel answers to message `index`, other than that it is done; may be NULL. */
	void (*answer)(void *arg, unsigned index, struct nlmsghdr *answer);
	void *arg;
};

/* In the calling thread's network namespace. Freed by nl_socket_free(), which takes NULL. */
struct nl_sock *netlink_open(int protocol, struct gantry_error *err);
void batch_begin(struct batch *batch, struct nl_sock *sock);
/* One more message, asking for an acknowledgement. */
void message(struct batch *batch, const char *what, int type, int flags, const void *header, size_t len);
void put(struct batch *batch, int attribute, const void *data, size_t len);
void put_u8(struct batch *batch, int attribute, uint8_t value);
void put_u16(struct batch *batch, int attribute, uint16_t value);
void put_u32(struct batch *batch, int attribute, uint32_t value);
void put_text(struct batch *batch, int attribute, const char *text);
struct nlattr *nest(struct batch *batch, int attribute);
void nest_end(struct batch *batch, struct nlattr *start);
/* Sends, waits for all acknowledgements, frees the messages. 0, or -1 with err (may be NULL) telling the first failure. */
int batch_run(struct batch *batch, struct gantry_error *err);
/* Sends one request and calls fn for each answer until it is done; stops early where fn returns non-zero (the rest is read and dropped). Takes over
 * `request`. Returns 0, or -1 with errno. */
int netlink_ask(struct nl_sock *sock, struct nl_msg *request, int (*fn)(void *arg, struct nlmsghdr *answer), void *arg);
