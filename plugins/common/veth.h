/*
 * common/veth.h - veth pairs that plug containers into a bridge.
 *
 * The container's end is born inside its namespace under its final name, with its MAC and MTU, so nothing is moved or renamed. Host ends get no IPv6 address: they
 * are ports of a bridge and nothing else. Each driver has a prefix of its own for their names, as its sweep removes those that it does not know.
 */
#pragma once

#include "common/interface.h"
#include "common/later.h"

struct veth {
	const struct gantry_host *host;
	const char *network;            /* its name, for messages */
	char host_end[IFNAMSIZ];
	int bridge;                     /* ifindex */
	uint32_t mtu;
	bool isolated;                  /* reaches no other isolated port */
	bool hairpin;                   /* the bridge sends its packets back to it */
	struct interface end;
};

/* PREFIX and 12 digits of the endpoint's id. */
void veth_name(const char *prefix, const char *endpoint_id, char name[IFNAMSIZ]);
/* The whole link of a container; where it is there already it is brought to what is wanted. Nothing new is left of it on failure. */
int veth_join(struct veth *veth, int netns_fd, struct gantry_error *err);
/* A link that is gone is success. */
int veth_leave(const char *host_end, struct gantry_error *err);
/* The namespace of host_end's peer is gone. Returns at once; a link that is still there in a while is removed. `later` was opened with veth_look(). */
int veth_vanish(struct later *later, const char *host_end, struct gantry_error *err);
int veth_look(const struct later_what *what, struct gantry_error *err);
/* A link that has just got its carrier forwards nothing until the kernel's link watch has run, and a first packet that is lost before is sent again a second
 * later. Kernels from 6.9 on catch up with it when they are asked for the link, which this does. */
void veth_catch_up(struct nl_sock *sock, const char *host_end, int bridge);
/* Lets the bridge send a container's packets back to it. A missing link is success. */
int veth_hairpin(const char *host_end, struct gantry_error *err);
