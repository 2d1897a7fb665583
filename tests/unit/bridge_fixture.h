/*
 * bridge_fixture.h - the driver "bridge" in a network namespace of the test's own, with networks and containers told by one letter or number.
 */
#pragma once

#include "netns_fixture.h"

struct bridge_network {
	char letter;                    /* of its id: 64 times; 'a' to 'f'. Its bridge is gtb<12 letters> */
	const char *subnet4, *gateway4, *subnet6, *gateway6;    /* may be NULL */
	uint32_t flags;
	const char *options[8];         /* key, value, ... */
};

/* A container with one endpoint. */
struct box {
	struct place place;
	char id[65], network_id[65];
	struct gantry_endpoint endpoint;
};

/* Setup and teardown: *state is a struct drivers_fixture *. */
int bridge_make(void **state);
int bridge_end(void **state);

struct gt_driver *bridge_driver(void **state);
/* The driver closed and opened again, as after a restart of the daemon. */
struct gt_driver *bridge_again(void **state);
/* The same with lines of its INI section. */
struct gt_driver *bridge_again_with(void **state, const char *settings);

int network_make(struct gt_driver *driver, const struct bridge_network *network, struct gt_error *err);
/* 172.30.0.0/16 with gateway 172.30.0.1 as network 'a', or another letter's 172.31... */
void plain_network(struct gt_driver *driver, char letter);

/* A container of network `letter`, with number `number` in its ids and address; not joined. */
void box_make(struct box *box, char letter, int number);
void box_joined(struct gt_driver *driver, struct box *box, char letter, int number);
void box_end(struct box *box);
const char *box_address(const struct box *box);         /* without its prefix; a static buffer */

/* A port: "tcp 0.0.0.0 8080 80". */
struct gantry_port port_of(const char *text);
int publish_one(struct gt_driver *driver, const struct box *box, const char *port, struct gt_error *err);
/* gt_net_reconcile() with these containers, the first of which has the port (NULL: none). */
int reconcile_with(struct gt_driver *driver, struct box *const *boxes, size_t count, const char *port, struct gt_error *err);
