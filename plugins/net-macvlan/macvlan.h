/*
 * macvlan.h - private to net-macvlan.
 *
 * macvlan.c     descriptor and ops
 * network.c     records of networks, and the options they are made with
 * parent.c      the links that containers' links sit on: found, or made and removed (802.1q sub-interfaces, links that lead nowhere)
 * endpoint.c    containers' links: made and removed
 * namespace.c   other network namespaces by the kernel's numbers for them, and our links in there
 * sweep.c       what nothing known owns
 *
 * Nothing is kept on disk: the engine tells all networks and endpoints when it starts, and what the kernel has says whose it is.
 *
 *   gtm<12 hex of the network's id>         parents that lead nowhere
 *   PARENT.VLAN, alias PARENT_ALIAS         802.1q sub-interfaces that we made; one without the alias is somebody else's and never removed
 *   alias ENDPOINT_ALIAS<endpoint's id>     containers' links, in their namespaces
 *   group MARK                              any of these, not finished
 *
 * A container's link is nowhere in the host's namespace: it is made for the container's. The kernel's number of that namespace (nsid), which does not keep it alive,
 * is how it is found there again.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/interface.h"
#include "common/later.h"

#define PARENT_PREFIX "gtm"
#define LINK_PREFIX "gtm"               /* of a container's link until it gets its name */
#define PARENT_ALIAS "gantry macvlan parent"
#define ENDPOINT_ALIAS "gantry endpoint "
#define MARK 0x67746d76u                /* a link's group while its alias is not set: a kill in between is seen */

struct network {
	struct network *next;
	char id[ID_LEN + 1];
	char name[128];                 /* for messages */
	char parent[IFNAMSIZ];
	bool isolated;                  /* no parent was named: it is ours and leads nowhere */
	bool internal;                  /* no default route; of an isolated one too */
	bool ipv6;
	uint32_t mode;                  /* MACVLAN_MODE_* */
	uint32_t mtu;                   /* 0: the parent's */
};

/* A joined endpoint, or one that is being joined. */
struct endpoint {
	struct endpoint *next;
	char id[ID_LEN + 1], network_id[ID_LEN + 1];
	unsigned char mac[6];
	int nsid;                       /* of its namespace in the host's; -1: not known */
};

struct macvlan {
	const struct gantry_host *host;
	int netns_fd;                   /* the host's namespace */
	struct later later;             /* links whose namespace is gone */

	pthread_mutex_t lock;           /* guards what follows */
	struct network *networks;
	struct endpoint *endpoints[1024];       /* lists by the beginning of the id */
	bool settled;                   /* reconcile() has been: from now on a network's parent must be there */
	int64_t vanishing_until;        /* CLOCK_MONOTONIC: until then links of ended containers may be there still */
};

/* ---- network.c ---- */
int network_read(const struct gantry_network *from, struct network *to, struct gantry_error *err);
struct network *network_find(const struct macvlan *self, const char *id);
/* Another network on the same parent. */
struct network *network_beside(const struct macvlan *self, const struct network *network);
/* Replaces one of the same id. The record becomes self's. */
void network_insert(struct macvlan *self, struct network *network);
void network_forget(struct macvlan *self, const char *id);
struct endpoint *endpoint_find(const struct macvlan *self, const char *id);
/* Finds or makes it. NULL: out of memory. */
struct endpoint *endpoint_insert(struct macvlan *self, const char *id, const char *network_id);
void endpoint_forget(struct macvlan *self, const char *id);
/* The endpoint that keeps `id` with `mac` off its parent: any in passthru mode, else one with that MAC. */
const struct endpoint *endpoint_in_the_way(const struct macvlan *self, const struct network *network, const char *id, const unsigned char mac[6]);
const char *mode_name(uint32_t mode);

/* ---- parent.c ---- */
/* Whether the kernel has macvlan at all. */
int parent_check_kernel(const struct network *network, struct gantry_error *err);
/* The parent as it is; made, as far as it is ours to make, where it is not there. Nothing new is left on failure. */
int parent_ensure(const struct network *network, struct link *parent, struct gantry_error *err);
/* Removes it if it is ours. */
int parent_remove(const struct network *network, struct gantry_error *err);
bool parent_is_ours(const struct link *link);

/* ---- namespace.c ---- */
/* The number, in the socket's namespace, of the one behind netns_fd; it gets one where it has none. */
int namespace_number(struct nl_sock *sock, int netns_fd, int *nsid, struct gantry_error *err);
/* Calls fn for each namespace that has a number. Returns 0, or -1 with err. */
int namespace_each(struct nl_sock *sock, void (*fn)(void *arg, int nsid), void *arg, struct gantry_error *err);
/* Removes the link. One that is gone, or whose namespace is, is success. */
int namespace_delete_link(struct nl_sock *sock, int nsid, int ifindex, struct gantry_error *err);
bool link_is_of_endpoint(const struct link *link);

/* ---- endpoint.c ---- */
/* What a container's link is to be, and what became of it. */
struct plug {
	const struct macvlan *self;
	const struct network *network;
	const char *endpoint_id;
	int parent;                     /* ifindex in the host's namespace */
	struct interface end;           /* its MAC is out, too */
	uint32_t mtu;                   /* out */
	int nsid;                       /* out */
};

/* The whole link; nothing new is left of it on failure. err->errnum is EADDRINUSE or EBUSY where another link is in the way, which may be about to vanish. */
int endpoint_plug(struct plug *plug, int netns_fd, struct gantry_error *err);
/* A link that is gone is success. */
int endpoint_unplug(int netns_fd, const char *endpoint_id, struct gantry_error *err);
/* later.h's look: the same by the namespace's number. */
int endpoint_look(const struct later_what *what, struct gantry_error *err);

/* ---- sweep.c ---- */
/* Removes what no network and none of the endpoints owns, and notes where these are. With the lock held. */
int sweep(struct macvlan *self, const struct gantry_call *call, struct gantry_error *err);
