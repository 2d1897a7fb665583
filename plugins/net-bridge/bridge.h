/*
 * bridge.h - private to net-bridge.
 *
 * bridge.c      descriptor and ops
 * network.c     records of networks, and the options they are made with
 * link.c        bridges
 * sweep.c       links that nothing known owns
 * nat.c         the nftables tables
 *
 * Containers' links, messages to the kernel, and the records of published ports with the sockets that hold them, are ../common/'s.
 *
 * Nothing is kept on disk: the engine tells all networks, endpoints and ports when it starts, and what the kernel has is found by name.
 *
 *   gtbr0, gtb<12 hex of the network's id>   bridges (or the name in a network's options, then marked by the link's alias)
 *   gtv<12 hex of the endpoint's id>         host ends of veth pairs
 *   table ip gantry, table ip6 gantry        ours whole
 *
 * One lock guards the records and the nftables context. A join takes it for a moment alone; links are made without it.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/published.h"
#include "common/veth.h"

#define MAX_SUBNETS 16
#define CHAIN_COUNT 8                   /* of each nftables table */
#define HOST_END_PREFIX "gtv"
#define BRIDGE_PREFIX "gtb"

struct subnet {
	struct address network;         /* with its prefix */
	struct address gateway;         /* the bridge's own address, with the subnet's prefix; family 0: none */
};

struct network {
	struct network *next;
	char id[ID_LEN + 1];
	char name[128];                 /* for messages */
	char bridge[IFNAMSIZ];
	bool foreign;                   /* the bridge was there before: it is never removed */
	bool internal, ipv4, ipv6, icc, masquerade;
	uint32_t mtu;
	struct address host_ip;         /* where ports without a host address are published; family 0: everywhere */
	struct subnet subnets[MAX_SUBNETS];
	unsigned subnet_count;
};

struct bridge {
	const struct gantry_host *host;
	bool ipv6;                      /* the kernel has it */
	uint32_t mtu;                   /* defaults, from the INI file */
	bool icc, masquerade, ip_forward;

	pthread_mutex_t lock;           /* guards what follows */
	struct network *networks;
	struct publishing publishing;
	struct nft_ctx *nft;
	struct nl_sock *nfnl;
	bool built;                     /* the nftables tables are ours of this life */
	uint32_t generation;            /* the kernel's count of changes to all its tables, when ours were last seen whole */
	uint32_t uses[2][CHAIN_COUNT];           /* rules of our static chains: a difference says that somebody flushed them */

	struct later later;             /* host ends whose namespace is gone */
};

#define LOG_WARN(self, ...) log_line((self)->host, GANTRY_WARN, __VA_ARGS__)

/* ---- network.c ---- */
int network_read(const struct bridge *self, const struct gantry_network *from, struct network *to, struct gantry_error *err);
struct network *network_find(struct bridge *self, const char *id);
/* Replaces one of the same id. The record becomes self's. */
void network_insert(struct bridge *self, struct network *network);
void network_forget(struct bridge *self, const char *id);
struct network *network_by_bridge(struct bridge *self, const char *bridge);

/* ---- link.c ---- */
#define BRIDGE_ALIAS "gantry network "
/* Makes the bridge, or brings an existing one to what the network wants. *made: it was not there before. */
int bridge_ensure(const struct bridge *self, struct network *network, bool *made, struct gantry_error *err);
int bridge_remove(const struct network *network, struct gantry_error *err);

/* ---- sweep.c ---- */
/* Removes our links that no network and none of the endpoints own; puts links back on their bridges. With the lock held. */
int sweep_links(struct bridge *self, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t count, size_t size,
		struct gantry_error *err);

/* ---- nat.c ---- */
int nat_open(struct bridge *self, struct gantry_error *err);
void nat_close(struct bridge *self);
/* All with the lock held. Each is one transaction; where the tables are not as we left them, it is a nat_rebuild(). */
int nat_rebuild(struct bridge *self, struct gantry_error *err);
/* Builds the tables where this life has not yet, or where somebody flushed them. */
int nat_ensure(struct bridge *self, struct gantry_error *err);
/* The network, the ports, are in the records already (or no more). */
int nat_add_network(struct bridge *self, const struct network *network, struct gantry_error *err);
int nat_remove_network(struct bridge *self, const struct network *network, struct gantry_error *err);
int nat_publish(struct bridge *self, const struct published *published, struct gantry_error *err);
int nat_unpublish(struct bridge *self, const struct published *published, struct gantry_error *err);
