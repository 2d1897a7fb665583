/*
 * common/published.h - published ports of a network driver: records by endpoint and by number, the sockets that hold them, and the relay for what the kernel's
 * NAT does not carry. The driver's own nftables table does the rest, through the functions in struct publishing.
 *
 * Nothing is kept on disk: the engine tells all ports when it starts. Everything is called with the driver's lock held, but for conntrack_forget() and
 * published_free().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/relay.h"
#include "common/values.h"

#define PORT_COUNT 65536                /* by_port's lists */

/* A published port. */
struct port {
	struct port *next;              /* another one with the same number */
	int family;
	int proto;
	struct address host;            /* of `family` */
	bool any;                       /* host is 0.0.0.0 or :: */
	bool natted;                    /* the kernel carries it */
	bool relayed;                   /* what comes to its socket is carried by the relay: from ::1, or to a container without IPv6 */
	bool off;                       /* another endpoint has it, or nothing can carry it: kept out of the tables */
	uint16_t host_port, container_port;
	int fd;                         /* the socket that holds it, or -1 */
	struct relay_port *relay;
};

struct port_list {
	struct port *first;
};

/* The published ports of one endpoint. */
struct published {
	char endpoint_id[ID_LEN + 1];
	char network_id[ID_LEN + 1];
	struct address ipv4, ipv6;      /* the container's */
	bool told;                      /* of the published_restore() in progress */
	unsigned count;
	struct port ports[];
};

/* All that a driver has published. */
struct publishing {
	const struct gantry_host *host;
	struct relay *relay;            /* NULL: not wanted */
	void *by_endpoint;              /* tsearch tree of struct published by endpoint id */
	struct port_list *by_port;      /* PORT_COUNT lists */
	/* The driver's, set by it after publishing_open(): */
	void *driver;
	const char *host_end_prefix;    /* of the host ends of containers' links */
	int (*ensure)(void *driver, struct gantry_error *err);  /* the tables are whole */
	int (*add)(void *driver, const struct published *published, struct gantry_error *err);
	int (*remove)(void *driver, const struct published *published, struct gantry_error *err);
};

/* What publishing needs of an endpoint's network. */
struct publish_place {
	const char *network_id, *network;       /* its name, for messages */
	bool internal;
	struct address host_ip;         /* where ports without a host address are published; family 0: everywhere */
};

/* Reads the driver's key relay_connections. */
int publishing_open(struct publishing *self, const struct gantry_host *host, struct gantry_error *err);
/* Gives everything back. Harmless where publishing_open() failed, or all is zero. */
void publishing_close(struct publishing *self);

/* All ports of an endpoint, or none. *forget: what conntrack_forget() is to be called with once the lock is given up, or NULL. */
int publish_ports(struct publishing *self, const struct publish_place *place, const struct gantry_endpoint *endpoint, const struct gantry_port *ports,
		  size_t count, size_t size, const struct published **forget, struct gantry_error *err);
/* *gone: conntrack_forget() and published_free() once the lock is given up, or NULL. Its sockets go after the tables' entries: nothing of the host's ever sees
 * the container's traffic. */
int unpublish_ports(struct publishing *self, const char *endpoint_id, struct published **gone, struct gantry_error *err);
struct published *published_find(struct publishing *self, const char *endpoint_id);
void published_each(struct publishing *self, void (*fn)(struct published *published, void *arg), void *arg);
void published_free(struct published *published);
bool published_has_udp(const struct published *published);

/* The engine's endpoints and ports are all there are (gantry_network_ops.reconcile); the tables are the caller's to rebuild. `find` fills in the endpoint's
 * network, or returns false. What cannot be published is a warning: the others are to work. */
int published_restore(struct publishing *self, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size,
		      const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size,
		      bool (*find)(void *driver, const struct gantry_endpoint *endpoint, struct publish_place *place), struct gantry_error *err);

/* nft commands that add to the maps ports_on and ports_any of `table`, or delete, what is of that family; nothing where there is none. */
void published_write(FILE *out, int family, const char *table, const struct published *published, bool add);
/* Definitions of these maps, and the chains that use them, for the table's text: guard, published, prerouting, output. Containers of links in the set @bridges
 * do not reach the host's 127.0.0.0/8. */
void published_write_chains(FILE *out, int family);

/* ---- conntrack.c ---- */
/* Forgets UDP flows to the ports, which went elsewhere before; NULL is fine. What fails is of no consequence for new flows. Without the lock. */
void conntrack_forget(const struct published *published);
