/*
 * wireguard.h - the kernel's WireGuard, by generic netlink (linux/wireguard.h): a link's key, port and peers, written and read. No state; any thread may call.
 */
#pragma once

#include <string.h>

#include "common/netlink.h"
#include "common/values.h"

#define WIREGUARD_KEY_LEN 32
#define WIREGUARD_KIND "wireguard"      /* of links */
#define WIREGUARD_PEERS_MAX 16384       /* of one link, read */

static inline bool wireguard_key_is_set(const unsigned char key[WIREGUARD_KEY_LEN])
{
	static const unsigned char NONE[WIREGUARD_KEY_LEN];
	return memcmp(key, NONE, sizeof NONE) != 0;
}

struct wireguard_peer {
	unsigned char key[WIREGUARD_KEY_LEN];
	struct address endpoint;        /* family 0: not known */
	uint16_t port;                  /* of the endpoint */
	struct address inside;          /* the address behind it; family 0: none */
	bool other_inside;              /* there are more, or networks */
};

struct wireguard_link {
	unsigned char key[WIREGUARD_KEY_LEN];   /* public; all zero: it has none */
	uint16_t port;
	struct wireguard_peer *peers;
	size_t peer_count, room;
	bool out_of_memory;
};

/* The kernel's number for these messages; loads the module where there is one. 0 found, 1 this kernel has no WireGuard, -1 with err. `sock` is of
 * NETLINK_GENERIC, here and below. */
int wireguard_family(struct nl_sock *sock, uint16_t *family, struct gantry_error *err);
/* What a link has, without its private key. wireguard_release() frees it, also after a failure. */
int wireguard_read(struct nl_sock *sock, uint16_t family, int ifindex, struct wireguard_link *to, struct gantry_error *err);
void wireguard_release(struct wireguard_link *link);
/* One message of the answer to that. */
void wireguard_take(struct nlmsghdr *answer, struct wireguard_link *to);
/* Gives a link a new private key, which nobody but the kernel has then, or its port alone. Without a key it is a link that sends nothing. */
int wireguard_make_key(struct nl_sock *sock, uint16_t family, int ifindex, struct gantry_error *err);
void put_wireguard_port(struct batch *batch, uint16_t family, int ifindex, uint16_t port);
/* A peer as it is to be, new or changed: what is kept of it is its session. */
void put_wireguard_peer(struct batch *batch, uint16_t family, int ifindex, const struct wireguard_peer *peer);
void put_wireguard_peer_gone(struct batch *batch, uint16_t family, int ifindex, const unsigned char key[WIREGUARD_KEY_LEN]);
