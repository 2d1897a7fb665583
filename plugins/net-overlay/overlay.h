/*
 * overlay.h - private to net-overlay.
 *
 *   overlay.c      descriptor, keys; open and close
 *   networks.c     ops of networks: created and removed in etcd, with the options they are made with
 *   endpoints.c    ops of endpoints: an address and a MAC claimed in etcd, then the link; reconcile
 *   claims.c       the transactions of endpoints: claimed, registered anew, released
 *   pick.c         which address is free
 *   record.c       what stands in etcd, as JSON; pure functions
 *   table.c        what etcd says, in memory
 *   hosts.c        the other hosts and their keys, in memory
 *   changes.c      what etcd's changes do to the table and to the kernel
 *   agent.c        two threads: one keeps the host's lease, one follows the changes
 *   dataplane.c    a network's bridge and VXLAN link
 *   tunnel.c       the WireGuard link that encrypted networks go through
 *   wireguard.h    its messages
 *   neighbours.c   who is behind which host: forwarding and neighbour entries of the VXLAN link
 *   nat.c          the nftables tables "gantry-overlay"
 *   ports.c        ops of published ports; their records, sockets and relay are ../common/'s
 *   underlay.c     this host's address for the tunnels
 *   etcd.h         etcd's JSON gateway
 *
 * In etcd, below the configured prefix (P):
 *
 *   P/live/networks/<network>              a network; stays until it is removed
 *   P/live/guard                           changes with each creation and removal of a network: what was decided on an older table fails
 *   P/live/hosts/<address>                 a host, under its lease; with its public key while it has encrypted networks
 *   P/live/endpoints/<network>/<endpoint>  a container's place, under the lease of its host
 *   P/claims/<network>/ip/<address>        the endpoint that has an address, under the same lease; written together with the endpoint, if absent before
 *   P/claims/<network>/mac/<mac>           the same for MACs
 *
 * In the kernel: gto<12 hex of the network's id> bridges, gtx<...> VXLAN links, gte<12 hex of the endpoint's id> host ends of containers' links,
 * gtw<12 hex of the instance> the WireGuard link.
 *
 * Locks: `lock` guards the table, the list of our endpoints and the network's links, and is held while entries of the kernel are changed, never while etcd is
 * asked.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "common/published.h"
#include "common/veth.h"
#include "etcd.h"
#include "wireguard.h"

#define BRIDGE_PREFIX "gto"
#define VXLAN_PREFIX "gtx"
#define HOST_END_PREFIX "gte"
#define TUNNEL_PREFIX "gtw"
#define MAX_NETWORKS 4096
#define MAX_HOSTS 4096
#define MAX_SUBNETS 16
#define MAX_RESERVED 1024
#define MAX_NAMES 320
#define MAX_NAME 253
#define MAX_MEMBERS 65536               /* of one network */
#define MEMBER_TEXT_MAX (64 * 1024)
#define VNI_FIRST 4096
#define VNI_LAST 16777215
#define KEY_ROOM (ETCD_KEY_MAX + 1)

struct subnet {
	struct address network;         /* with its prefix */
	struct address gateway;         /* family 0: none */
	struct address range;           /* family 0: the whole subnet */
	uint64_t next;                  /* where the search for a free address goes on: one that was given back rests */
};

/* A container's place in a network. */
struct member {
	char id[ID_LEN + 1], container_id[ID_LEN + 1];
	char host[65];                  /* for people */
	struct address vtep;            /* its host's address for tunnels */
	unsigned char mac[6];
	struct address ipv4, ipv6;      /* with their prefix; family 0: none */
	char **names;
	size_t name_count;
	int64_t revision;               /* of its record */
	bool seen;                      /* in the reading of all that is under way */
};

struct network {
	struct network *next;
	char id[ID_LEN + 1], name[129];
	uint32_t vni, mtu;              /* mtu 0: from the underlay */
	bool internal, ipv4, ipv6, encrypted;
	struct subnet subnets[MAX_SUBNETS];
	unsigned subnet_count;
	struct address *reserved;
	size_t reserved_count;
	char *document;                 /* the engine's */
	int64_t revision;               /* of its record */
	bool seen;                      /* as a member's */
	bool gone;                      /* not in etcd any more, but containers of ours are in it */
	uint64_t generation;            /* of its members, for the engine */
	void *members;                  /* tsearch tree of struct member by id: those in etcd, ours too */
	size_t member_count;
	int bridge, vxlan;              /* ifindex; 0: not made here (yet) */
	uint32_t link_mtu;              /* of both */
};

/* An endpoint of this host. */
struct local {
	struct local *next;
	char network_id[ID_LEN + 1];
	struct member member;
	bool joining;                   /* its join registers it */
	bool unregistered;              /* etcd is to be told (again) */
	bool complained;                /* a warning said why it cannot be registered */
};

/* A host that is in etcd; this one too. */
struct host {
	struct address vtep;
	char name[65];
	unsigned char key[WIREGUARD_KEY_LEN];   /* public; all zero: it has published none */
	int64_t revision;
	bool seen;                      /* as a member's */
};

/* The WireGuard link. Hosts address each other in it by what their public keys say, so a key is all that is to be published. */
struct tunnel {
	int ifindex;                    /* 0: not there */
	unsigned char key[WIREGUARD_KEY_LEN];   /* public; all zero: none */
	struct address address;         /* that goes with the key */
	uint32_t mtu;
	unsigned joins;                 /* under way, which may want it */
};

struct settings {
	const char *prefix;
	const char *underlay;           /* an address or an interface's name */
	uint32_t port, wireguard_port, mtu, lease_ttl;
	int64_t timeout_ns;
	bool ip_forward;
};

struct overlay {
	const struct gantry_host *host;
	struct settings settings;
	struct etcd *etcd;              /* NULL: not configured, and nothing of what follows is used */
	char hostname[65];
	char instance[33];              /* of this state directory */
	int news;                       /* eventfd: the engine is to ask again */
	struct later later;

	pthread_mutex_t lock;           /* guards what follows */
	pthread_cond_t changed;         /* the table was read, the guard moved, or a lease is there */
	struct network *networks;
	size_t network_count;
	struct local *locals;
	void *hosts;                    /* tsearch tree of struct host by vtep */
	size_t host_count;
	bool reading;                   /* all, which is not over */
	struct tunnel tunnel;
	unsigned char told_key[WIREGUARD_KEY_LEN];      /* that this host's record in etcd has */
	bool known;                     /* all was read once */
	bool told;                      /* the engine has told its endpoints: others of ours in etcd are left over */
	int64_t guard;                  /* revision of P/live/guard; 0: there is none */
	int64_t lease;                  /* 0: none */
	struct address vtep;            /* family 0: not found yet */
	int64_t passed_over_ns;         /* when a record that is none was last told of */
	int64_t keyless_ns;             /* when a host without a key was */
	char trouble[512];              /* why etcd cannot be used just now; empty: it can */
	bool stop;
	void *nft;                      /* struct nft_ctx, once it is needed */
	struct publishing publishing;

	pthread_t keeper, watcher;
	pthread_cond_t kick;            /* the keeper has something to do */
	bool kicked;
	int wake;                       /* eventfd: the watch ends */
};

/* ---- record.c ---- */
/* Every reader fills a zeroed struct; -1: not one of ours. The caller frees what it has got, also after a failure. */
int network_from_text(const char *text, struct network *network);
char *network_to_text(const struct network *network);
int member_from_text(const char *text, struct member *member);
/* NULL: no memory. Names that do not fit are left out, from the end. */
char *member_to_text(const struct member *member);
/* The instance, the name and the key of a host. */
int host_from_text(const char *text, char instance[33], struct host *host);
char *host_to_text(const struct overlay *self, const unsigned char key[WIREGUARD_KEY_LEN]);
void network_release(struct network *network);
void member_release(struct member *member);
int member_set_names(struct member *member, const char *const *names, size_t count);
int subnet_read(struct network *network, const char *subnet, const char *gateway, const char *range);
bool address_within(const struct address *address, const struct address *network);

/* ---- table.c; with the lock held ---- */
struct network *network_find(const struct overlay *self, const char *id);
struct network *network_by_name(const struct overlay *self, const char *name);
struct member *member_find(const struct network *network, const char *id);
struct local *local_find(const struct overlay *self, const char *endpoint_id);
/* Takes over what `from` holds. NULL: no memory, or too many. */
struct network *network_insert(struct overlay *self, struct network *from);
void network_drop(struct overlay *self, struct network *network);
struct member *member_insert(struct network *network, struct member *from);
void member_drop(struct network *network, struct member *member);
struct local *local_insert(struct overlay *self, const char *network_id, struct member *from);
void local_drop(struct overlay *self, struct local *local);
bool network_has_locals(const struct overlay *self, const char *network_id);
bool is_own(const struct overlay *self, const struct member *member);
void each_member(const struct network *network, void (*fn)(struct member *member, void *arg), void *arg);
void table_free(struct overlay *self);
/* The engine is to ask again for the network's members. */
void tell_news(struct overlay *self, struct network *network);

/* ---- hosts.c; with the lock held ---- */
const struct host *host_find(const struct overlay *self, const struct address *vtep);
/* Takes over what stands in `from`, in place of what was known. -1: no memory, or too many. */
int host_put(struct overlay *self, const struct host *from);
void host_drop(struct overlay *self, const struct address *vtep);
void each_host(const struct overlay *self, void (*fn)(struct host *host, void *arg), void *arg);
void hosts_free(struct overlay *self);
/* The address in the tunnel that goes with a key: of fe80::/64, so that it means something on the one link alone. A pure function. */
void host_inside(const unsigned char key[WIREGUARD_KEY_LEN], struct address *to);

/* ---- changes.c; with the lock held ---- */
/* One key with what it holds, or that it was removed. */
void change_apply(struct overlay *self, const struct etcd_pair *pair);
/* Before and after all pairs of a reading at `revision` were applied: what was not among them is gone. */
void changes_begin(struct overlay *self, bool anew);     /* anew: what was heard before was of another store */
void changes_end(struct overlay *self, int64_t revision);

/* ---- agent.c ---- */
int agent_start(struct overlay *self, struct gantry_error *err);
void agent_stop(struct overlay *self);
/* The keeper has something to do. With the lock held. */
void agent_kick(struct overlay *self);
/* Waits until what ops need is there: the table, and (lease) a lease. With the lock held, which is given up meanwhile. */
int agent_await(struct overlay *self, const struct gantry_call *call, bool lease, int64_t deadline, struct gantry_error *err);
/* etcd says that it does not know the lease. With the lock held. */
void agent_lease_lost(struct overlay *self, int64_t lease);
/* Waits until this host's record in etcd has the tunnel's key. With the lock held, which is given up meanwhile. */
int agent_await_key(struct overlay *self, const struct gantry_call *call, int64_t deadline, struct gantry_error *err);
/* When an op gives up: its own deadline or the configured time. */
int64_t op_deadline(const struct overlay *self, const struct gantry_call *call);

/* ---- claims.c ---- */
/* What claiming needs, copied, so that the lock need not be held. */
struct claim {
	char network[KEY_ROOM], endpoint[KEY_ROOM];
	char keys[3][KEY_ROOM];         /* of the claims */
	unsigned key_count;
	char id[ID_LEN + 1];
	char *text;                     /* of the record; claim_free() */
};
enum claimed {
	CLAIMED,
	TAKEN_IPV4, TAKEN_IPV6, TAKEN_MAC,      /* another endpoint has it */
	NO_NETWORK
};
/* -1: no memory. */
int claim_make(const struct overlay *self, const char *network_id, const struct member *member, struct claim *claim);
void claim_free(struct claim *claim);
/* Puts the record and its claims, all or none, without the lock. *how: what came of it; *revision: the record's. -1 where etcd does not say. */
int claim_put(struct overlay *self, const struct claim *claim, int64_t lease, int64_t deadline, enum claimed *how, int64_t *revision,
	      struct gantry_error *err);
/* Removes the record, and those of its claims that are its own. Without the lock. */
int claim_release(struct overlay *self, const struct claim *claim, int64_t deadline, struct gantry_error *err);
/* The claims of a network; for when the table is behind. Without the lock. */
int claim_read(struct overlay *self, const char *network_id, struct etcd_pairs *pairs, struct gantry_error *err);
void key_network(const struct overlay *self, const char *network_id, char key[KEY_ROOM]);
void key_endpoint(const struct overlay *self, const char *network_id, const char *endpoint_id, char key[KEY_ROOM]);
void key_claims(const struct overlay *self, const char *network_id, char key[KEY_ROOM]);
void key_host(const struct overlay *self, char key[KEY_ROOM]);
void key_live(const struct overlay *self, const char *rest, char key[KEY_ROOM]);

/* ---- pick.c; with the lock held ---- */
/* Addresses that were found taken although the table does not have them. */
struct tried {
	struct address *items;
	size_t count;
};
/* A free address of the family, with its prefix. 0; 1: the network has none of that family; -1: all are in use. */
int pick_address(const struct overlay *self, struct network *network, int family, const struct tried *tried, struct address *to);
/* Gives a wished-for address its subnet's prefix; -1: it is of none. */
int place_address(const struct network *network, struct address *address);
const struct address *gateway_for(const struct network *network, int family);

/* ---- networks.c, endpoints.c: ops ---- */
int overlay_network_create(void *driver, const struct gantry_call *call, const struct gantry_network *wanted, struct gantry_error *err);
int overlay_network_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err);
int overlay_watch(void *driver, const struct gantry_call *call, int *fd, struct gantry_error *err);
int overlay_global_networks(void *driver, const struct gantry_call *call, gantry_visit_network visit, void *arg, struct gantry_error *err);
int overlay_members(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_member visit, void *arg, struct gantry_error *err);
int overlay_peers(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_peer visit, void *arg, struct gantry_error *err);
int overlay_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err);
int overlay_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd, struct gantry_error *err);
int overlay_rename(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, const char *const *names,
		   size_t name_count, struct gantry_error *err);
int overlay_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size,
		      const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err);
int refuse_unconfigured(const struct overlay *self, const char *what, struct gantry_error *err);

/* ---- dataplane.c; with the lock held ---- */
/* Makes the network's bridge and VXLAN link, or takes up those that are there, and fills in who is behind which host. */
int links_ensure(struct overlay *self, struct network *network, struct gantry_error *err);
void links_remove(struct overlay *self, struct network *network);
/* Removes our links that belong to none of our endpoints. */
int links_sweep(struct overlay *self, struct gantry_error *err);

/* ---- tunnel.c; with the lock held where not said otherwise ---- */
/* Refuses by name where this host cannot encrypt. Without the lock. */
int tunnel_possible(const char *network, struct gantry_error *err);
/* Takes up what an earlier process left. Before the threads start. */
void tunnel_adopt(struct overlay *self);
/* Makes the link with its key and its peers, or takes up the one that is there. `network` is for messages. */
int tunnel_ensure(struct overlay *self, const char *network, struct gantry_error *err);
/* Makes the link's peers what the table of hosts says, where there is a link. */
int tunnel_sync(struct overlay *self, struct gantry_error *err);
/* Removes the link where no encrypted network has links here. */
void tunnel_tidy(struct overlay *self);
/* Takes note where somebody has removed it. */
void tunnel_look(struct overlay *self);
void tunnel_name(const struct overlay *self, char name[IFNAMSIZ]);
/* Where a host is reached in the tunnel; false: it has published no key, or this host's own. */
bool tunnel_way(const struct overlay *self, const struct address *vtep, struct address *to);

/* ---- neighbours.c; with the lock held ---- */
void neighbour_add(struct overlay *self, const struct network *network, const struct member *member);
void neighbour_remove(struct overlay *self, const struct network *network, const struct member *member);
/* Makes the kernel's entries of a network what the table says, where it has links here. */
int neighbours_sync(struct overlay *self, const struct network *network, struct gantry_error *err);

/* ---- nat.c; with the lock held ---- */
/* Rules for the networks that have links here, built anew as a whole; none, where there are none. */
int nat_rebuild(struct overlay *self, struct gantry_error *err);
/* The same where somebody removed them. */
int nat_ensure(struct overlay *self, struct gantry_error *err);
/* With the ports in the records already, or no more: one transaction, or nat_rebuild() where the tables are not as they should be. */
int nat_publish(struct overlay *self, const struct published *published, struct gantry_error *err);
int nat_unpublish(struct overlay *self, const struct published *published, struct gantry_error *err);
void nat_close(struct overlay *self);

/* ---- ports.c ---- */
int ports_open(struct overlay *self, struct gantry_error *err);
int overlay_publish(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoint, const struct gantry_port *ports, size_t port_count,
		    size_t port_size, struct gantry_error *err);
int overlay_unpublish(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, struct gantry_error *err);
/* A reconcile's ports; with the lock held. */
int ports_restore(struct overlay *self, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size, const struct gantry_port *ports,
		  const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err);

/* ---- underlay.c ---- */
/* The address that `underlay` means, and the MTU of its interface (may be NULL). */
int underlay_find(const char *underlay, struct address *address, uint32_t *mtu, struct gantry_error *err);
