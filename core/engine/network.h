/*
 * network.h - private to the files that deal with networks and with containers' places in them.
 *
 *   network.c           the table: documents, look-up, users and their addresses
 *   network_create.c    a request or a document -> a network; the default networks; removal
 *   network_config.c    networks that are a configuration alone, and those made from one
 *   network_list.c      inspect, list, prune
 *   global.c            networks that span hosts: what drivers hear of other hosts
 *   endpoint.c          a container's endpoints: reserved at create, joined at start, left at exit; connect and disconnect
 *   endpoint_ports.c    published ports
 *   endpoint_json.c     endpoints as inspect, list and the store see them
 *   sandbox_files.c     hosts, resolv.conf, hostname
 *   resolver.c          what the name server knows of containers
 *   links.c             HostConfig.Links
 *   ipam.c              addresses of one subnet
 */
#pragma once

#include "engine/internal.h"
#include "engine/ipam.h"

#define NETWORK_MAX_POOLS 8

/* A subnet of a network, with what the user said of it, for inspect. */
struct network_pool {
	struct ipam_pool addresses;
	char *range;                    /* CIDR, NULL: none given */
	json_t *aux;                    /* {"name": "address"}, NULL: none */
};

/* A running container's place in a network, for inspect. */
struct network_user {
	char endpoint_id[65];
	char mac[18], ipv4[64], ipv6[64];
};

/*
 * Guarded by networks->lock: pools and users; by networks->changing: heard and abroad. All else is fixed once the network is in the table. A network
 * with users is not removed.
 */
struct network {
	char id[65];
	char *name, *driver_name;
	struct gt_driver *driver;       /* NULL where `broken` says why, and for a configuration */
	char *broken;                   /* the driver is not there, or could not take the network up */
	json_t *options, *labels;       /* objects of strings */
	bool internal, ipv4, ipv6, attachable, builtin;
	bool config_only;               /* a configuration: no driver, no users */
	char *config_from;              /* name of the configuration it was made from, or NULL */
	int64_t created;                /* ns */
	struct network_pool pools[NETWORK_MAX_POOLS];
	size_t pool_count;
	struct gt_map users;            /* container id -> struct network_user */
	uint64_t heard;                 /* of a network that spans hosts: its driver's generation when `abroad` was read */
	struct gt_map abroad;           /* containers of other hosts: id -> what was heard of them (text), as the name server has it */
};

struct gt_networks {
	pthread_mutex_t changing;       /* a creation or removal, whole; taken before `lock` */
	pthread_mutex_t lock;           /* the tables; never held across a driver's op */
	struct gt_map by_id, by_name;
	struct gt_map linked;           /* links.c: container id -> struct gt_strings of ids */
	struct gt_collection *documents;
};

/* ---- network.c ---- */
/* By name, id, or the beginning of an id. Callers hold the lock, and use the network no longer than that unless they are its user. */
struct network *network_find(struct gt_networks *networks, const char *ref, struct gt_error *err);
void network_insert(struct gt_networks *networks, struct network *network);
void network_withdraw(struct gt_networks *networks, struct network *network);
struct network *network_new(void);
void network_free(struct network *network);
bool network_has(const struct network *network, uint64_t capability);   /* GANTRY_NET_* of its driver */
bool network_is_host(const struct network *network);
bool network_is_none(const struct network *network);
/* The document, as it is stored and as drivers hand it to other hosts; the caller's. And back: fills a new network, whose driver stays NULL. */
json_t *network_document(const struct network *network);
int network_read_document(struct network *network, const char *id, json_t *document, struct gt_error *err);
int network_save(struct gt_networks *networks, const struct network *network, struct gt_error *err);
/* The container becomes a user: addresses as wished for (or any) are taken from the pools into endpoint->ipv4, ipv6 and gateways. */
int network_admit(struct gt_engine *engine, const char *container_id, struct gt_container_endpoint *endpoint, struct gt_error *err);
/* At start-up: it is a user already, with the addresses that it has. */
void network_readmit(struct gt_engine *engine, const char *container_id, const struct gt_container_endpoint *endpoint);
void network_dismiss(struct gt_engine *engine, const char *container_id, const struct gt_container_endpoint *endpoint);
/* What the driver made of it (a MAC, addresses of its own), for inspect. */
void network_note_user(struct gt_engine *engine, const char *container_id, const struct gt_container_endpoint *endpoint);
/* Whether containers can be in it. */
int network_check_usable(const struct network *network, struct gt_error *err);
/* The driver of an endpoint's network; fails where that cannot be used. */
struct gt_driver *network_driver(struct gt_engine *engine, const char *network_id, struct gt_error *err);
void network_event(struct gt_engine *engine, const struct network *network, const char *action, const char *container_id);

/* ---- network_create.c ---- */
int network_add(struct gt_engine *engine, const json_t *body, bool builtin, char id[65], struct gt_error *err);
/* Gives the driver a network that is about to be in the table. known: it is not a new one (GANTRY_NETWORK_KNOWN). */
int network_tell_driver(const struct network *network, bool known, struct gt_error *err);
/* With the lock held: another network whose subnet shares addresses with this one, or NULL. */
const struct network *network_overlapping(struct gt_networks *networks, const struct network *except, const char *subnet);
/* Opens the pools that `ipam` ({"Config":[{"Subnet","IPRange","Gateway","AuxiliaryAddresses"}]}) names. */
int network_read_pools(struct network *network, const json_t *ipam, struct gt_error *err);

/* ---- network_config.c ---- */
/* Reads ConfigOnly and ConfigFrom. Returns the request (the caller's) with what the configuration says in it, or NULL where the two contradict. */
json_t *network_configured(struct gt_networks *networks, struct network *network, const json_t *body, struct gt_error *err);
/* With the lock held: a network that was made from the configuration, or NULL. */
const struct network *network_made_from(struct gt_networks *networks, const struct network *config);

/* ---- global.c ---- */
/* Networks that span hosts and whose subnets are in use here for something else cannot be used; after all networks are loaded. */
void network_check_places(struct gt_networks *networks);
/* Its containers of other hosts have no names any more. With networks->changing held. */
void network_forget_abroad(struct gt_engine *engine, struct network *network);

/* ---- network_list.c ---- */
/* With the lock held. containers: with the users. */
json_t *network_describe(struct gt_engine *engine, const struct network *network, bool containers);
json_t *network_pools_to_json(const struct network *network);

/* ---- endpoint_ports.c ---- */
/* Checks HostConfig.PortBindings and Config.ExposedPorts. */
int ports_check(const struct gt_container *ctr, struct gt_error *err);
/* Publishes what the container asks for on the addresses that the endpoint has, and picks ports where the user left the choice.
 * *published: Docker's {"80/tcp":[{"HostIp","HostPort"}]}, NULL where there is none. */
int ports_publish(struct gt_driver *driver, const struct gantry_endpoint *endpoint, const struct gt_container *ctr, const char *default_host_ip,
		  json_t **published, struct gt_error *err);
/* The same ports again, for reconcile: appends to *list, which the caller frees. */
void ports_of_json(const json_t *published, struct gantry_port **list, size_t *count);
/* "80/tcp" -> 80, IPPROTO_TCP. "80" is TCP. */
int port_parse(const char *text, uint16_t *port, uint32_t *proto);

/* ---- endpoint.c ---- */
/* An endpoint that is joined has an id. */
static inline bool endpoint_joined(const struct gt_container_endpoint *endpoint)
{
	return endpoint->id[0] != '\0';
}
/* The driver's view, without options and names. Strings are the container's and the endpoint's. */
struct gantry_endpoint endpoint_describe(const struct gt_container *ctr, const struct gt_container_endpoint *endpoint);
void endpoint_release(struct gt_container_endpoint *endpoint);
/* Where a container has no endpoints of its own: "container:X" or none. */
bool endpoints_are_shared(const struct gt_container *ctr);

/* ---- resolver.c ---- */
/* Whether names are resolved in the endpoint's network: in all but the default ones. */
bool endpoint_has_names(const struct gt_container_endpoint *endpoint);
/* The names under which the others of its network know the container. */
void endpoint_names(const struct gt_container *ctr, const struct gt_container_endpoint *endpoint, struct gt_strings *names);
bool resolver_wanted(const struct gt_container *ctr);
void resolver_enter(struct gt_container *ctr, const struct gt_container_endpoint *endpoint);
void resolver_leave(struct gt_container *ctr, const struct gt_container_endpoint *endpoint);
/* Opens the resolver in the container's namespace where it is wanted and not there; else its view is brought up to date. */
int resolver_serve(struct gt_container *ctr, int netns_fd, bool *opened, struct gt_error *err);
void resolver_change(struct gt_container *ctr);
void resolver_stop(struct gt_container *ctr);

/* ---- links.c ---- */
/* create: HostConfig.Links as they are kept. note, forget: who links to whom, after create or load and until removal. */
int links_read(struct gt_container *ctr, struct gt_error *err);
void links_note(struct gt_container *ctr);
void links_forget(struct gt_container *ctr);
/* Lines of hosts. Fails for a container that is about to start where another does not run. */
int links_add_hosts(struct gt_container *ctr, struct gt_buf *hosts, struct gt_error *err);
/* It has come into the default bridge: those that link to it write their hosts again. */
void links_tell(struct gt_container *ctr);

/* ---- sandbox_files.c ---- */
int resolver_write_file(const struct gt_container *ctr, struct gt_error *err);

/* ---- endpoint_json.c ---- */
/* Docker's EndpointSettings, as asked for. */
int endpoint_read(const json_t *settings, struct gt_container_endpoint *endpoint, struct gt_error *err);
