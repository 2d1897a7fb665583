/*
 * common/link.h - links: looked at, listed, removed.
 */
#pragma once

#include <net/if.h>

#include "common/netlink.h"
#include "common/values.h"

struct link {
	int ifindex, peer_ifindex, master;
	unsigned flags;                 /* IFF_UP, ... */
	unsigned short type;            /* ARPHRD_ETHER, ... */
	uint32_t mtu, group;
	unsigned char mac[6];
	char name[IFNAMSIZ];
	char kind[16];                  /* "veth", "bridge", ...; empty of hardware */
	char alias[128];
};

/* An RTM_NEWLINK message. */
void link_read(struct nlmsghdr *answer, struct link *link);
/* 0 found, 1 absent, -1 with err. */
int link_find(struct nl_sock *sock, const char *name, struct link *link, struct gantry_error *err);
/* All links that `pick` takes, in *links, which the caller frees. nsid: that of another namespace whose links are meant, -1: the socket's own. kind, where not NULL:
 * links of that kind alone. Returns 0, or -1 with err. */
int link_list(struct nl_sock *sock, int nsid, const char *kind, bool (*pick)(const struct link *link, void *arg), void *arg, struct link **links,
	      size_t *count, struct gantry_error *err);
/* A link that is gone is success. */
int link_delete(struct nl_sock *sock, int ifindex, struct gantry_error *err);
/* RTM_NEWADDR: usable at once, as the engine's IPAM is what keeps addresses apart. */
void put_address(struct batch *batch, const char *what, const struct address *address, int ifindex);
