/*
 * bridge.h - private to net-bridge.
 *
 * bridge.c      descriptor and ops
 * network.c     records of networks, and the options they are made with
 * published.c   records of published ports, and the sockets that hold them
 * link.c        bridges, and the host's ends of containers' links
 * inside.c      the container's end: addresses, routes
 * vanish.c      host ends whose namespace is gone: the kernel removes them soon, we look after it
 * sweep.c       links that nothing known owns
 * nat.c         the nftables tables
 * conntrack.c   UDP flows that a changed port must not keep
 * netlink.c     messages to the kernel, several at a time
 * values.c      addresses, MACs, interface names, sysctls
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

#include <net/if.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <gantry/plugin.h>

#define ID_LEN 64
#define MAX_SUBNETS 16
#define PORT_COUNT 65536                /* by_port's lists */
#define ADDRESS_TEXT 46                 /* INET6_ADDRSTRLEN */
#define CHAIN_COUNT 8                   /* of each nftables table */
#define HOST_END_PREFIX "gtv"
#define BRIDGE_PREFIX "gtb"

struct address {
	int family;                     /* AF_INET, AF_INET6; 0: none */
	unsigned prefix;
	unsigned char bytes[16];
	char text[ADDRESS_TEXT];        /* as inet_ntop writes it: safe in an nft command */
};

struct subnet {
	struct address network;         /* with its prefix */
	struct address gateway;         /* the bridge's own address, with the subnet's prefix; family 0: none */
};

struct network {
	struct network *next;
	char id[ID_LEN + 1];
	char name[128];                 /* for messages */
	char bridge[IFNAMSIZ];
	bool named;                     /* the bridge's name is the user's */
	bool foreign;                   /* the bridge was there before: it is never removed */
	bool internal, ipv4, ipv6, icc, masquerade;
	uint32_t mtu;
	struct address host_ip;         /* where ports without a host address are published; family 0: everywhere */
	struct subnet subnets[MAX_SUBNETS];
	unsigned subnet_count;
};

/* A published port. */
struct port {
	struct port *next;              /* another one with the same number */
	int family;
	int proto;
	struct address host;            /* of `family` */
	bool any;                       /* host is 0.0.0.0 or :: */
	bool off;                       /* another endpoint has it: kept out of the tables */
	uint16_t host_port, container_port;
	int fd;                         /* the socket that holds it, or -1 */
};

struct port_list {
	struct port *first;
};

/* The published ports of one endpoint. */
struct published {
	char endpoint_id[ID_LEN + 1];
	char network_id[ID_LEN + 1];
	struct address ipv4, ipv6;      /* the container's */
	bool told;                      /* of the reconcile() in progress */
	unsigned count;
	struct port ports[];
};

struct vanishing {
	struct vanishing *next;
	int ifindex;
	int64_t due_ns;                 /* CLOCK_MONOTONIC */
};

struct bridge {
	const struct gantry_host *host;
	bool ipv6;                      /* the kernel has it */
	uint32_t mtu;                   /* defaults, from the INI file */
	bool icc, masquerade, ip_forward;

	pthread_mutex_t lock;           /* guards what follows */
	struct network *networks;
	void *published;                /* tsearch tree of struct published by endpoint id */
	struct port_list *by_port;      /* PORT_COUNT lists */
	struct nft_ctx *nft;
	struct nl_sock *nfnl;
	bool built;                     /* the nftables tables are ours of this life */
	uint32_t generation;            /* the kernel's count of changes to all its tables, when ours were last seen whole */
	uint32_t uses[2][CHAIN_COUNT];           /* rules of our static chains: a difference says that somebody flushed them */

	pthread_mutex_t vanish_lock;    /* guards what follows */
	pthread_cond_t vanish_wake;
	struct vanishing *vanishing;    /* oldest first */
	pthread_t vanish_thread;
	bool vanish_runs, vanish_stop;
};

/* ---- values.c ---- */
/* "10.1.2.3" or, with_prefix, "10.1.2.3/24"; family 0: either. Returns -1 where it is none. */
int address_parse(const char *text, int family, bool with_prefix, struct address *address);
bool address_any(const struct address *address);
unsigned address_len(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);
int mac_parse(const char *text, unsigned char mac[6]);
void mac_format(const unsigned char mac[6], char text[18]);
/* 02:42 and the IPv4 address, so that a neighbour's cache survives a container's restart; random where there is none. */
int mac_derive(const struct address *ipv4, unsigned char mac[6]);
bool ifname_valid(const char *name);
bool id_valid(const char *id);
void host_end_name(const char *endpoint_id, char name[IFNAMSIZ]);
/* Makes net.FAMILY.conf.IFNAME.KEY (net.FAMILY.KEY where ifname is NULL) of the calling thread's network namespace `value`. ifname is valid. Returns -1 with
 * errno. */
int sysctl_set(const char *value, const char *family, const char *ifname, const char *key);
#define LOG_WARN(self, ...)                                                     \
	do {                                                                    \
		char gt_line[700];                                              \
		snprintf(gt_line, sizeof gt_line, __VA_ARGS__);                 \
		(self)->host->log((self)->host, GANTRY_WARN, gt_line);          \
	} while (0)

/* ---- netlink.c ---- */
#define BATCH_MAX 24

/* Messages that go to the kernel in one system call. The kernel goes on after a message that fails. Puts that do not fit or find no memory show in
 * batch_run(). */
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

struct nl_sock *netlink_open(int protocol, struct gantry_error *err);
void batch_begin(struct batch *batch, struct nl_sock *sock);
/* One more message, asking for an acknowledgement. */
void message(struct batch *batch, const char *what, int type, int flags, const void *header, size_t len);
void put(struct batch *batch, int attribute, const void *data, size_t len);
void put_u8(struct batch *batch, int attribute, uint8_t value);
void put_u32(struct batch *batch, int attribute, uint32_t value);
void put_text(struct batch *batch, int attribute, const char *text);
struct nlattr *nest(struct batch *batch, int attribute);
void nest_end(struct batch *batch, struct nlattr *start);
/* Sends, waits for all acknowledgements, frees the messages. 0, or -1 with err (may be NULL) telling the first failure. */
int batch_run(struct batch *batch, struct gantry_error *err);
/* Sends one request and calls fn for each answer until it is done; stops early where fn returns non-zero (the rest is read and dropped). Takes over
 * `request`. Returns 0, or -1 with errno. */
int netlink_ask(struct nl_sock *sock, struct nl_msg *request, int (*fn)(void *arg, struct nlmsghdr *answer), void *arg);

/* ---- network.c ---- */
int network_read(const struct bridge *self, const struct gantry_network *from, struct network *to, struct gantry_error *err);
struct network *network_find(struct bridge *self, const char *id);
/* Replaces one of the same id. The record becomes self's. */
void network_insert(struct bridge *self, struct network *network);
void network_forget(struct bridge *self, const char *id);
struct network *network_by_bridge(struct bridge *self, const char *bridge);

/* ---- link.c ---- */
struct link {
	int ifindex, peer_ifindex, master;
	unsigned flags;
	char name[IFNAMSIZ];
	char kind[16];
	char alias[128];
};

/* What a container's link is to be. */
struct plug {
	const struct bridge *self;
	const struct network *network;
	char host_end[IFNAMSIZ], ifname[IFNAMSIZ];
	unsigned char mac[6];
	struct address ipv4, ipv6, gateway4, gateway6;  /* family 0: none */
	bool default_route, hairpin;
	int host_ifindex;               /* where the link was there before: 0 otherwise */
};

void link_read(struct nlmsghdr *answer, struct link *link);
/* 0 found, 1 absent, -1 with err. */
int link_find(struct nl_sock *sock, const char *name, struct link *link, struct gantry_error *err);
/* RTM_NEWADDR: usable at once. */
void put_address(struct batch *batch, const char *what, const struct address *address, int ifindex);
int link_delete(struct nl_sock *sock, int ifindex, struct gantry_error *err);
#define BRIDGE_ALIAS "gantry network "
/* Makes the bridge, or brings an existing one to what the network wants. *made: it was not there before. */
int bridge_ensure(const struct bridge *self, struct network *network, bool *made, struct gantry_error *err);
int bridge_remove(const struct network *network, struct gantry_error *err);
/* The whole link of a container; nothing is left of it on failure. */
int link_join(const struct plug *plug, int netns_fd, struct gantry_error *err);
int link_leave(const char *host_end, struct gantry_error *err);
/* A link that has just got its carrier forwards nothing until the kernel's link watch has run, and a first packet that is lost before is sent again a second
 * later. Kernels from 6.9 on catch up with it when they are asked for the link, which this does. */
void link_catch_up(struct nl_sock *sock, const char *host_end, int bridge_ifindex);
/* Lets the bridge send a container's packets back to it, for its own published ports. A missing link is success. */
int link_hairpin(const char *host_end, struct gantry_error *err);

/* ---- inside.c ---- */
/* In the container's namespace: brings the container's end up with all it has. */
int inside_configure(const struct plug *plug, int netns_fd, struct gantry_error *err);
/* Whether plug->ifname in there is the other end of link: 1, 0, or -1 with err. */
int inside_is_peer(const struct plug *plug, const struct link *link, int netns_fd, struct gantry_error *err);

/* ---- vanish.c ---- */
int vanish_open(struct bridge *self);
void vanish_close(struct bridge *self);
/* The namespace of host_end's peer is gone. Returns at once; a link that is still there in a while is removed. */
int vanish_expect(struct bridge *self, const char *host_end, struct gantry_error *err);

/* ---- sweep.c ---- */
/* Removes our links that no network and none of the endpoints own; puts links back on their bridges. With the lock held. */
int sweep_links(struct bridge *self, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t count, size_t size,
		struct gantry_error *err);

/* ---- published.c ---- */
/* Checks and copies; holds nothing yet. NULL with err. `size` is that of one of the ports; `picks`, where not NULL, are the indices of the `count` ports
 * that are meant. */
struct published *published_read(const struct network *network, const struct gantry_endpoint *endpoint, const struct gantry_port *ports, size_t size,
				 const uint32_t *picks, size_t count, struct gantry_error *err);
bool published_same(const struct published *a, const struct published *b);
struct published *published_find(struct bridge *self, const char *endpoint_id);
/* Takes all ports, or none. `lenient`: a port that another program has is not held, one of another endpoint's is off; both with a warning. */
int published_hold(struct bridge *self, struct published *published, bool lenient, struct gantry_error *err);
/* published_hold() first. */
int published_insert(struct bridge *self, struct published *published, struct gantry_error *err);
bool published_has_udp(const struct published *published);
/* Out of the records; what it held is free again, but its sockets and memory are there until published_free(). */
void published_forget(struct bridge *self, struct published *published);
void published_free(struct published *published);
void published_each(struct bridge *self, void (*fn)(struct published *published, void *arg), void *arg);
void published_free_all(struct bridge *self);

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

/* ---- conntrack.c ---- */
/* Forgets UDP flows to the ports, which went elsewhere before. What fails is of no consequence for new flows. */
void conntrack_forget(const struct published *published);
