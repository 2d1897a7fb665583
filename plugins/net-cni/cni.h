/*
 * cni.h - private to net-cni: networks that CNI plugins make (Container Network Interface, specification 0.3.0 to 1.1.0).
 *
 * cni.c        descriptor and ops
 * reconcile.c  the op reconcile: after a start of the engine
 * conf.c       network configurations: found, read, checked
 * exec.c       one plugin's program: environment and JSON in, JSON out, within bounds of size and time
 * program.c    starts and ends that program
 * chain.c      the plugins of a configuration, one after another: ADD, DEL, CHECK, GC
 * result.c     what ADD answered, for the engine
 * args.c       what a container asks for, for plugins
 * routes.c     the default route of a container in several networks
 * netns.c      containers' namespaces, kept until their endpoints leave
 * bridges.c    bridges that go with their network
 * record.c     what is remembered of each endpoint
 * ports.c      sockets that hold published ports
 *
 * On disk, below state_dir: <endpoint id>.json, the attachment: configuration, container, interface, what was asked for, what ADD answered. It stands there before
 * ADD and goes after DEL, so that whatever this process dies of, the next life can undo what plugins did, with the configuration that they did it by.
 * Below run_dir: <endpoint id>, the container's network namespace, mounted there.
 */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include <gantry/plugin.h>

#include "common/values.h"

#define ID_LEN 64
#define PLUGINS_MAX 16

struct network {
	char id[ID_LEN + 1];
	char name[256];
	char *path;                     /* of the configuration; NULL: that with conf_name */
	char conf_name[129];
	struct network *next;
};

struct held;                            /* netns.c */
struct holds;                           /* ports.c */

struct cni {
	const struct gantry_host *host;
	int fd;                         /* state_dir */
	pthread_mutex_t lock;           /* guards the lists */
	struct network *networks;
	struct held *held;
	struct holds *holds;
};

/* One ADD, DEL, CHECK or GC over the plugins of a configuration. */
struct attachment {
	const struct cni *self;
	const struct gantry_call *call;
	int64_t until;                  /* CLOCK_MONOTONIC */
	const json_t *record;
	const char *network;            /* for sentences */
	char netns[GANTRY_PATH_MAX];    /* a path; empty: gone */
};

/* ---- cni.c ---- */
/* For one round of the plugins, from now on. endpoint_id: whose namespace is meant; NULL: none. */
struct attachment cni_attach(struct cni *self, const struct gantry_call *call, const json_t *record, const char *endpoint_id);
/* Takes back all that plugins did for an endpoint, and forgets it. Unknown: success. netns_fd may be -1. */
int cni_detach(struct cni *self, const struct gantry_call *call, const char *endpoint_id, int netns_fd, struct gantry_error *err);

/* ---- reconcile.c ---- */
int cni_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size,
		  const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err);

/* ---- conf.c ---- */
/* Reads a network's options: which configuration it is. Fills network's path (option conf, or the key default_conf) or conf_name (option name). */
int conf_choose(const struct cni *self, const struct gantry_network *wanted, struct network *network, struct gantry_error *err);
/* The file that it is in now; the caller's. One with conf_name is looked for in conf_dir. */
char *conf_path(const struct cni *self, const struct network *network, struct gantry_error *err);
/* An object with name, cniVersion and plugins (each with a type), whatever form the file has. The caller's. */
json_t *conf_load(const char *path, struct gantry_error *err);
/* The plugins' programs are there. */
int conf_check_programs(const struct cni *self, const json_t *conf, struct gantry_error *err);
bool conf_has_capability(const json_t *plugin, const char *capability);
/* For plugins that only map ports of what others made: they run when ports are published. */
bool conf_is_port_mapper(const json_t *conf, size_t index);
/* cniVersion is at least this one. */
bool conf_at_least(const json_t *conf, int major, int minor);

/* ---- exec.c ---- */
/* Finds type's program in bin_dirs: a regular file of root's that nobody else can write. */
int exec_find(const struct cni *self, const char *type, char path[GANTRY_PATH_MAX], struct gantry_error *err);
/* Runs it with config on its standard input. *output (may be NULL): the object that it printed; the caller's. An error that it tells is told on. */
int exec_plugin(const struct attachment *at, const char *command, const char *type, const json_t *config, json_t **output, struct gantry_error *err);

/* ---- program.c ---- */
struct program {
	pid_t pid;
	int pidfd;
};
/* No arguments; fds become 0, 1 and 2, nothing else is inherited. Returns 0 or an errno. program_end() is the caller's. */
int program_start(const char *path, char *const environment[], const int fds[3], struct program *program);
/* Waits for it; kills it first, and what it started, unless it has ended. Its status as waitpid() tells it; -1: it was killed. */
int program_end(struct program *program, bool ended);

/* ---- chain.c ---- */
enum which { MAKERS, MAPPERS, BOTH };   /* plugins that run at join; those that map ports; all */
/* The last plugin's result, the caller's. Where one fails, chain_undo() is to follow. */
int chain_add(const struct attachment *at, enum which which, json_t **result, struct gantry_error *err);
/* All have their turn, last first, whatever they say; the first error is told. */
int chain_del(const struct attachment *at, enum which which, struct gantry_error *err);
/* The same after an ADD that failed, with time of its own. */
int chain_undo(const struct attachment *at, enum which which, struct gantry_error *err);
int chain_check(const struct attachment *at, enum which which, struct gantry_error *err);
/* The programs say that they speak the configuration's version (VERSION). */
int chain_versions(const struct attachment *at, struct gantry_error *err);
/* keep: [{"containerID", "ifname"}]; for configurations from 1.1.0 on. */
int chain_gc(const struct attachment *at, const json_t *keep, struct gantry_error *err);
int64_t chain_now(void);

/* ---- result.c ---- */
/* Addresses, gateways, MAC, MTU and the host's link go into endpoint. Nothing of the result is trusted. */
int result_read(const json_t *result, const char *network, struct gantry_endpoint *endpoint, struct gantry_error *err);

/* ---- bridges.c ---- */
/* Before ADD: notes the bridges that the configuration wants and that are not there. */
int bridges_note(const struct cni *self, const char *network_id, const json_t *conf, struct gantry_error *err);
/* Removes those that were noted and that nobody uses. heir_id: a network of the same configuration, to which the note goes instead; NULL: none. */
int bridges_remove(const struct cni *self, const char *network_id, const char *heir_id, struct gantry_error *err);

/* ---- args.c ---- */
bool args_any_has(const json_t *conf, const char *capability);
/* Adds what the endpoint asks for to args, the object of capability arguments. GANTRY_E_INVALID where no plugin understands it. */
int args_add_wishes(const json_t *conf, const char *network, const struct gantry_endpoint *endpoint, json_t *args, struct gantry_error *err);

/* ---- routes.c ---- */
/* Gives the container the default route that ADD's result has, or takes it away, as the endpoint says. */
int routes_settle(const struct cni *self, const struct gantry_endpoint *endpoint, const json_t *result, int netns_fd, struct gantry_error *err);

/* ---- netns.c ---- */
/* Keeps a duplicate until the endpoint leaves, in place of one that is kept already. */
int netns_hold(struct cni *self, const char *endpoint_id, int netns_fd, struct gantry_error *err);
void netns_let_go(struct cni *self, const char *endpoint_id);
/* This process's descriptors alone: what is mounted stays. */
void netns_close_all(struct cni *self);
/* False: it is not kept. The path is good as long as it is. */
bool netns_path(struct cni *self, const char *endpoint_id, char path[GANTRY_PATH_MAX]);
/* The endpoints whose namespaces are mounted. */
int netns_each(const struct cni *self, gantry_visit visit, void *arg, struct gantry_error *err);

/* ---- record.c ---- */
json_t *record_load(const struct cni *self, const char *endpoint_id, struct gantry_error *err);
bool record_exists(const struct cni *self, const char *endpoint_id);
int record_save(const struct cni *self, const char *endpoint_id, const json_t *record, struct gantry_error *err);
int record_remove(const struct cni *self, const char *endpoint_id, struct gantry_error *err);
int record_each(const struct cni *self, gantry_visit visit, void *arg, struct gantry_error *err);
bool record_well_formed(const json_t *record);

/* ---- ports.c ---- */
/* Binds a socket for each, so that nobody else can; all or none. GANTRY_E_CONFLICT names the port. What the endpoint held before is let go. */
int ports_hold(struct cni *self, const char *endpoint_id, const json_t *record, const json_t *mappings, struct gantry_error *err);
void ports_let_go(struct cni *self, const char *endpoint_id);
void ports_let_all_go(struct cni *self);
/* The capability argument portMappings. NULL with err where CNI cannot say it. */
json_t *ports_to_json(const struct gantry_port *ports, size_t count, size_t size, struct gantry_error *err);
