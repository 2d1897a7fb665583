/*
 * common/interface.h - a container's interface as the engine asks for it, and how it gets its addresses and routes once the link is there.
 */
#pragma once

#include "common/link.h"

struct interface {
	char ifname[IFNAMSIZ];
	unsigned char mac[6];
	bool mac_given;                 /* the user's own, or else derived from the address */
	struct address ipv4, ipv6, gateway4, gateway6;  /* family 0: none */
	bool default_route;
	bool kernel_ipv6;               /* the kernel has it */
	bool again;                     /* a former join made it: a default route that it is not to have any more goes */
	bool announce;                  /* its neighbours are machines elsewhere, which are told when it comes up */
};

bool kernel_has_ipv6(void);
/* Checks and copies. `network` names it in messages. Endpoint options are refused: no driver has any. */
int interface_read(const struct gantry_endpoint *endpoint, const char *network, struct interface *to, struct gantry_error *err);
/* In the container's namespace, where the calling thread and the socket are: brings loopback and the interface up with all that it has. */
int interface_configure(const struct interface *interface, struct nl_sock *sock, struct gantry_error *err);
/* Sets it in place of another, or (not wanted) removes just this one. */
void put_default_route(struct batch *batch, const char *what, const struct address *gateway, int ifindex, bool wanted);
