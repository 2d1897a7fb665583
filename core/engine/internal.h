/*
 * internal.h - private to core/engine: the objects, their locks, and what the files of this folder offer each other.
 *
 * Locks, in the order in which they are taken:
 *   1. container->op       a whole life-cycle operation on one container (start, stop, remove, rename, connect, update ...); held
 *                          across shim and driver calls, which have deadlines. One winner, the others wait or conflict.
 *   2. engine->networks lock, engine->volumes lock (their own structs: network.c, volume.c)
 *   3. engine->lock        the tables of containers and execs: look-ups and insertions alone, never held across a call that blocks
 *   4. container->saving   while the state of one container is stored
 *   5. container->lock     the fields of one container, short
 * The monitor thread never takes `op`: it records the exit under container->lock and hands the clean-up to a worker, which takes `op`.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/filter.h"
#include "base/id.h"
#include "base/log.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/signals.h"
#include "engine/container_config.h"
#include "engine/engine.h"

struct gt_networks;     /* network.c */
struct gt_volumes;      /* volume.c */
struct gt_events;       /* events.c */
struct gt_monitor;      /* monitor.c: epoll on the shims' event fds */
struct gt_timers;       /* timer.c */
struct gt_globals;      /* global.c */
struct gt_dns;          /* dns/dns.h: the resolver of user-defined networks */
struct gt_seccomp_cache;        /* seccomp.c: compiled programs */
struct gt_builds;       /* build.c: builds under way */
struct gt_workers;      /* worker.c: a small pool for what must not hold up the monitor */

/* What is counted as it happens (figures.c writes it); zeroed is ready. Without a lock, so it may stand on any path. */
enum gt_action { GT_ACT_CREATE, GT_ACT_START, GT_ACT_STOP, GT_ACT_REMOVE, GT_ACTIONS };
struct gt_figures {
	struct gt_histogram actions[GT_ACTIONS];        /* those that succeeded */
	struct gt_counter failures[GT_ACTIONS];
	struct gt_counter events, probes, failed_probes;
	_Atomic int64_t opening;                        /* ns that gt_engine_open() took */
	_Atomic size_t volumes;                         /* how many there are: their lock waits for drivers */
};

struct gt_engine {
	struct gt_figures figures;
	_Atomic(const struct gt_config *) config;       /* replaced at SIGHUP; old ones stay valid */
	struct gt_store *store;
	struct gt_collection *definitions;      /* containers/<id>.json: what was asked for; durable */
	struct gt_collection *states;           /* states/<id>.json: what became of it; may be lost with the machine */
	struct gt_drivers *drivers;
	struct gt_collection *disabled;         /* plugins/<name>.json: plugins that a user has disabled */
	struct gt_images *images;
	struct gt_networks *networks;
	struct gt_globals *globals;
	struct gt_dns *dns;
	struct gt_volumes *volumes;
	struct gt_events *events;
	struct gt_monitor *monitor;
	struct gt_timers *timers;
	struct gt_workers *workers;
	struct gt_seccomp_cache *seccomp;
	char *shim_path, *init_path, *fs_helper;
	struct gt_builds *builds;               /* build.c */
	char *engine_id;
	atomic_bool closing;
	struct gt_producers archives;   /* streams of files of containers */

	pthread_rwlock_t lock;                  /* guards the maps below */
	struct gt_map containers;               /* id -> struct gt_container */
	struct gt_map spared;                   /* ids of containers whose documents cannot be read; set while the daemon starts */
	struct gt_map names;                    /* name -> struct gt_container */
	struct gt_map execs;                    /* id -> struct gt_exec */
	struct gt_container **by_id;            /* the same containers, sorted by id: for prefixes */
	size_t by_id_count, by_id_room;
};

enum gt_status { GT_CREATED, GT_RUNNING, GT_PAUSED, GT_RESTARTING, GT_REMOVING, GT_EXITED, GT_DEAD };
const char *gt_status_name(enum gt_status status);      /* "created", "running", ... */

/* A network endpoint of a container; owned by it. Wanted settings come from NetworkingConfig or connect; the rest is filled at join. */
struct gt_container_endpoint {
	char network_id[65];
	char *network_name;             /* as given; for messages and JSON keys */
	char id[65];                    /* "" until joined */
	struct gt_strings aliases, links;
	char *want_ipv4, *want_ipv6, *want_mac;         /* from the user, NULL: any */
	json_t *driver_opts;
	int64_t gw_priority;
	char mac[18], ipv4[64], ipv6[64], gateway4[64], gateway6[64], host_ifname[16], ifname[16];
	json_t *ports;                  /* published: Docker's {"80/tcp":[{"HostIp","HostPort"}]}, NULL: none */
	bool default_route;             /* of the joined ones, the one that leads out and publishes the ports */
};

/* A mount of a container, as Docker's MountPoint. Of an image: name is as the user wrote it, source its id, layer what storage calls it. */
struct gt_container_mount {
	char *type;                     /* bind, volume, tmpfs, image */
	char *name, *driver;            /* volumes */
	char *source;                   /* host path, or a volume's mountpoint for people */
	char *destination;
	char *mode;                     /* "z", "ro,rprivate" as given */
	char *propagation;
	bool rw, no_copy, anonymous, non_recursive, create_source /* binds of -v make a missing source */;
	char *subpath, *layer;
	int64_t tmpfs_size, tmpfs_mode; /* -1: not given */
	char *tmpfs_options;
};

struct gt_container {
	/* fixed after create */
	char id[65];
	struct gt_engine *engine;
	int64_t created;                        /* ns */
	struct gt_container_config config;      /* Config, HostConfig (host.* of resources change under `op` + `lock` in update) */
	char *image_id, *image_name;            /* "sha256:...", as the user wrote it */
	char *path;                             /* first of args; */
	struct gt_strings args;                 /* entrypoint + cmd */
	char *bundle;                           /* <run>/containers/<id> */
	char *dir;                              /* <root>/containers/<id>: hostname, hosts, resolv.conf, logs */
	char *log_path;                         /* "" for none */
	char *cgroup;                           /* "/gantry/<id>" */
	json_t *networking;                     /* NetworkingConfig as given to create; read by gt_endpoints_reserve */

	pthread_mutex_t op;                     /* see above */
	pthread_mutex_t saving;                 /* taken before lock: one writer of the stored state */
	bool forgotten;                         /* under saving: nothing is stored any more */
	pthread_mutex_t lock;                   /* guards all below */
	pthread_cond_t changed;                 /* broadcast at each change of status, exit, removal */
	int refs;                               /* atomic by __atomic builtins */
	char *name;
	char *row;                              /* list.c: what lasts of its row in the list; dropped by gt_container_row_changed() */
	bool row_live;                          /* the row is that of a running container: it has ports */
	enum gt_status status;
	bool removed;                           /* out of the tables; the last reference frees it */
	bool stop_requested;                    /* the user stopped it: restart policies keep quiet */
	bool keep_at_exit;                      /* a restart is under way: AutoRemove waits; under op */
	bool build_step;                        /* of a build: it goes with it, and with the daemon; fixed after create */
	struct gt_strings secret_env;           /* of a build's step: for config.json alone, which is in memory; fixed after create */
	bool starting;                          /* its process is about to run: stored as running already, shown as such once its shim takes signals */
	bool unsettled;                         /* see gt_container_unsettle() */
	pid_t pid;
	int64_t started, finished;              /* ns */
	int exit_code;
	bool oom;
	char *error;                            /* why the last start failed */
	int64_t restart_count;
	uint64_t exits;                         /* counts exits: for wait's next-exit */
	struct gt_shim *shim;                   /* while it runs; used through gt_container_shim() */
	int shim_users;
	bool exit_seen;                         /* the monitor has `exit`; whoever next holds op cleans up (exit.c) */
	struct gt_shim_event exit;
	uint64_t restart_timer;                 /* restart.c; 0: none */
	int64_t restart_delay;                  /* ns, the last one */
	struct gt_container_endpoint *endpoints;        /* changed under op + lock */
	size_t endpoint_count;
	struct gt_container_mount *mounts;              /* fixed after create */
	size_t mount_count;
	json_t *health;                         /* Docker's State.Health, NULL without a check; health.c replaces it whole */
	struct gt_health *health_job;           /* health.c */
	struct gt_waiting_attach *waiting_attach;       /* attach.c: sockets that came before start */
	int attaching;                                  /* attach.c: clients whose sockets are to come at any moment */
	struct gt_exec *execs;                  /* exec.c; guarded by engine->lock */
};

/* ---- container.c: tables and references ---- */
/* A referenced container by id, prefix or name; GT_NOT_FOUND "No such container: REF", GT_INVALID where a prefix is ambiguous. */
struct gt_container *gt_container_get(struct gt_engine *engine, const char *ref, struct gt_error *err);
struct gt_container *gt_container_ref(struct gt_container *ctr);
void gt_container_put(struct gt_container *ctr);
static inline void gt_auto_container(struct gt_container **slot)
{
	if (*slot)
		gt_container_put(*slot);
}
#define AUTO_CONTAINER __attribute__((cleanup(gt_auto_container)))
/* A NULL-terminated array of referenced containers, newest first; freed with gt_containers_put(). */
struct gt_container **gt_containers_all(struct gt_engine *engine, size_t *count);
void gt_containers_put(struct gt_container **list);
/* A new object with one reference, in no table; bundle, dir and cgroup stand for the default parent. */
struct gt_container *gt_container_new(struct gt_engine *engine, const char *id);
/* Fails with GT_CONFLICT: that name is `other`'s. */
int gt_container_name_taken(const char *name, const struct gt_container *other, struct gt_error *err);
/* Enters id and name into the tables, both or none (they keep a reference). GT_CONFLICT: the name is in use. */
int gt_container_insert(struct gt_container *ctr, const char *name, struct gt_error *err);
/* The name or an endpoint changed: the list shows it. Caller holds ctr->lock. */
void gt_container_row_changed(struct gt_container *ctr);
/* Out of the tables; marks it removed and wakes who waits. */
void gt_container_withdraw(struct gt_container *ctr);
/* Writes definition (durable, but for containers with AutoRemove) and state. Caller holds op. */
int gt_container_save(struct gt_container *ctr, struct gt_error *err);
/* The state alone, without waiting for the disk: on every start and exit. */
int gt_container_save_state(struct gt_container *ctr, struct gt_error *err);
/* Before and after a change of a living container's cgroup (limits, freezer): a daemon that finds it unsettled puts in force again what is stored. */
int gt_container_unsettle(struct gt_container *ctr, struct gt_error *err);
int gt_container_settle(struct gt_container *ctr, struct gt_error *err);
/* Both documents gone. */
int gt_container_forget(struct gt_container *ctr, struct gt_error *err);
/* At start-up: every stored container into the tables. */
int gt_containers_load(struct gt_engine *engine, struct gt_error *err);
bool gt_container_is_running(struct gt_container *ctr);         /* running or paused; takes lock */
/* The same, after a start that is under way has come to its end. For calls that do not take op. */
bool gt_container_await_running(struct gt_container *ctr);
/* The shim of a running container, held until given back; NULL with GT_CONFLICT "container ID is not running". Does not need op. */
struct gt_shim *gt_container_shim(struct gt_container *ctr, struct gt_error *err);
void gt_container_shim_put(struct gt_container *ctr);

/* ---- monitor.c ---- */
int gt_monitor_new(struct gt_engine *engine, struct gt_error *err);
void gt_monitor_free(struct gt_engine *engine);
/* Watches ctr->shim until its exit; keeps a reference meanwhile. */
int gt_monitor_add(struct gt_container *ctr, struct gt_error *err);

/* ---- exit.c, restart.c; callers hold ctr->op ---- */
/* Where an exit was seen: leaves networks, releases mounts, frees the shim, sets the status, tells the world, and lets the restart policy or AutoRemove
 * go on. Does nothing where there is none. */
void gt_exit_settle(struct gt_container *ctr);
/* Waits for the monitor to see the exit. True when it has within timeout (ns; < 0: for ever). */
bool gt_exit_await(struct gt_container *ctr, int64_t timeout);
/* Kills and removes what a shim that is dead left in the container's cgroup; nothing where it left nothing. Caller holds op. Errors are logged. */
void gt_exit_bury(struct gt_container *ctr);
#define GT_ENDING (200 * GT_MILLISECOND)        /* at most, from the end of the last process to the shim's word */
/* What to do after an exit: true where a restart has been arranged. */
bool gt_restart_arrange(struct gt_container *ctr, int64_t ran);
void gt_restart_cancel(struct gt_container *ctr);
/* Waits a moment for clients that are about to attach; gives what waited before start to the shim; shuts them at removal. */
void gt_attach_await(struct gt_container *ctr);
void gt_attach_waiting_start(struct gt_container *ctr, struct gt_shim *shim);
void gt_attach_waiting_drop(struct gt_container *ctr);
/* keys.c: "ctrl-p,ctrl-q" -> bytes, appended. */
int gt_detach_keys_parse(const char *text, struct gt_buf *keys, struct gt_error *err);
void gt_execs_drop(struct gt_container *ctr);           /* exec.c: at exit (all have ended) */
int gt_reconcile(struct gt_engine *engine, struct gt_error *err);

/* ---- events.c ---- */
/* Emits an event; attributes (stolen, may be NULL) is the Actor's. Does not block. type: "container", "image", "network", "volume", "daemon", "plugin". */
int gt_events_new(struct gt_engine *engine, struct gt_error *err);
void gt_events_free(struct gt_engine *engine);
int gt_events_listeners(struct gt_engine *engine);      /* open streams */
json_t *gt_events_recent(struct gt_engine *engine, size_t max); /* the last ones, as JSON; NULL where the lock is not to be had */
void gt_event(struct gt_engine *engine, const char *type, const char *action, const char *id, json_t *attributes);
/* With the container's attributes: image, name, labels; extra (stolen, may be NULL) is merged in. */
void gt_container_event(struct gt_container *ctr, const char *action, json_t *extra);

/* ---- figures.c ---- */
/* Counts an action that began at `began` (gt_monotonic()) and ended with rc; returns rc. */
int gt_acted(struct gt_engine *engine, enum gt_action action, int64_t began, int rc);

/* ---- timer.c, worker.c ---- */
/* Runs fn(arg) on a worker thread after `delay` ns. Returns an id for gt_timer_cancel, which returns true where fn will not run (arg is the caller's again). */
uint64_t gt_timer_after(struct gt_engine *engine, int64_t delay, void (*fn)(void *arg), void *arg);
bool gt_timer_cancel(struct gt_engine *engine, uint64_t id);
void gt_work(struct gt_engine *engine, void (*fn)(void *arg), void *arg);
size_t gt_timers_count(struct gt_engine *engine);
int gt_timers_new(struct gt_engine *engine, struct gt_error *err);
void gt_timers_stop(struct gt_engine *engine);          /* nothing becomes due any more; before the workers end */
void gt_timers_free(struct gt_engine *engine);          /* after them: they may still have set some */
struct gt_work_load {
	size_t threads, queued;
};
struct gt_work_load gt_workers_load(struct gt_engine *engine);
int gt_workers_new(struct gt_engine *engine, struct gt_error *err);
void gt_workers_free(struct gt_engine *engine);         /* waits for what runs */
/* Absolute CLOCK_MONOTONIC time for pthread_cond_timedwait, `ns` from now; conditions are made by gt_cond_init(). */
void gt_cond_init(pthread_cond_t *cond);
struct timespec gt_deadline(int64_t ns);

/* ---- container_config.c, create.c: what a user asks for ---- */
/* Decodes and checks a create request against this host (a field that is not supported and not at its default is refused by name) and merges the
 * image's config into it, as Docker does (env by key, entrypoint and cmd, user, workdir, labels, ports, volumes, health check, stop signal). */
int gt_container_config_read(struct gt_engine *engine, const json_t *body, struct gt_container_config *config, json_t *warnings,
			     struct gt_error *err);
void gt_container_config_merge(struct gt_container_config *config, const struct gt_image_config *image);

/* For a RUN of a build: as gt_container_create(), but the image's volumes and ports are not its, and it does not outlive the daemon. */
/* secret_env: more of its environment, which is stored and shown nowhere; may be NULL. */
int gt_create_build_step(struct gt_engine *engine, const json_t *body, const struct gt_strings *secret_env, char id[65], struct gt_error *err);
/* ---- build*.c ---- */
int gt_builds_open(struct gt_engine *engine, struct gt_error *err);     /* what an earlier life has left of builds is removed */
void gt_builds_end(struct gt_engine *engine);   /* stops them and waits */
void gt_builds_close(struct gt_engine *engine);
/* build_run.c: runs a command of a build to its end; see build/build.h. body: HostConfig for all of its containers. */
struct gt_build_run;
int gt_build_execute(struct gt_engine *engine, const json_t *host_config, const struct gt_build_run *run, char container[65], int *exit_code,
		     struct gt_error *err);
/* url_fetch.c: GET url into fd, at most max bytes; `stop` is asked now and then. The other: into a file without a name in directory dir, rewound, the caller's. */
int gt_url_fetch(const char *url, int fd, int64_t max, bool (*stop)(void *arg), void *arg, int64_t *modified, struct gt_error *err);
int gt_url_spool(const char *dir, const char *url, int64_t max, bool (*stop)(void *arg), void *arg, struct gt_error *err);
bool gt_url_is_web(const char *url);    /* http or https */

/* log_config.c: the file that the log is read from, "" for none, the caller's; whether it is in the local format; the shim's annotations of it. */
char *gt_log_path(const struct gt_container *ctr);
bool gt_log_is_local(const char *driver);
bool gt_log_driver_known(const char *name);
int gt_log_annotate(const struct gt_container *ctr, json_t *annotations, struct gt_error *err);
/* What each line of a json-file log has as "attrs": labels and variables that the user named, and a tag. The caller's; NULL: nothing. */
json_t *gt_log_attrs(const struct gt_container *ctr);

void gt_name_new(char name[64]);        /* names.c: "brave_noether7" */
/* "10m", "1.5GiB", "4096" -> bytes; -1 where it is no size. */
int gt_size_parse(const char *text, int64_t *bytes);

/* ---- spec.c: a container -> OCI config.json; callers hold ctr->op ---- */
/* start: asks storage for the root's mount, gt_mounts_prepare() for the others, gt_endpoints_netns() for the network namespace, and writes
 * <bundle>/config.json, rootfs/ and seccomp.bpf. The bundle directory exists. What it prepared is released by gt_mounts_release(). */
int gt_spec_write(struct gt_container *ctr, struct gt_error *err);
/* A driver's description as an OCI mount. The caller's. */
json_t *gt_mount_to_oci(const struct gantry_mount *mount, const char *destination);
/* linux.resources of the container's HostConfig, for start and update. The caller's. */
json_t *gt_spec_resources(const struct gt_container *ctr, struct gt_error *err);
/* The OCI "process" object of an exec (members gantryUser and gantryGroups instead of ids). The caller's. */
struct gt_exec_wish {
	const struct gt_strings *args, *env;
	const char *user, *working_dir;         /* NULL or "": the container's */
	bool tty, privileged;
	unsigned rows, cols;                    /* 0: not given */
};
json_t *gt_spec_exec(struct gt_container *ctr, const struct gt_exec_wish *wish, struct gt_error *err);

/* ---- start.c, stop.c: for restart policies, reconcile and removal; callers hold ctr->op ---- */
int gt_start_locked(struct gt_container *ctr, struct gt_error *err);
int gt_stop_locked(struct gt_container *ctr, int signo, int timeout, struct gt_error *err);
int gt_remove_locked(struct gt_container *ctr, bool force, bool volumes, struct gt_error *err);
/* update.c: the limits that are asked for, put in force. */
int gt_update_apply(struct gt_container *ctr, struct gt_error *err);

/* ---- endpoint.c (networks of a container); callers hold ctr->op ---- */
int gt_networks_open(struct gt_engine *engine, struct gt_error *err);   /* loads, makes the default networks bridge, host, none */
void gt_networks_close(struct gt_engine *engine);
/* Tells the drivers of all networks, with the endpoints of running containers: what else is there goes. After containers are loaded. */
void gt_networks_reconcile(struct gt_engine *engine);
/* global.c: from then on what drivers hear of other hosts' networks and containers is taken up. Without drivers that hear anything, nothing is started. */
void gt_globals_open(struct gt_engine *engine);
void gt_globals_close(struct gt_engine *engine);
/* The driver of that name was opened anew, or is there no more. */
void gt_globals_renew(struct gt_engine *engine, const char *driver);
/* network.c: a driver that was not there has come: networks of it that could not be used can be. */
void gt_networks_take_up(struct gt_engine *engine, const char *driver);
/* plugin_change.c: the names of plugins that a user has disabled are added to off. Before drivers are loaded. */
int gt_plugins_open(struct gt_engine *engine, struct gt_strings *off, struct gt_error *err);
/* create: checks HostConfig.NetworkMode and NetworkingConfig, fills ctr->endpoints; warnings (array) get what will have no effect. */
int gt_endpoints_reserve(struct gt_container *ctr, json_t *warnings, struct gt_error *err);
/* How the OCI network namespace is to be: "new", "host", or the path of another's ("/proc/PID/ns/net"; container:X must run). Caller frees. */
char *gt_endpoints_netns(struct gt_container *ctr, struct gt_error *err);
/* start: addresses, driver joins, published ports; all or nothing. */
int gt_endpoints_join(struct gt_container *ctr, int netns_fd, struct gt_error *err);
/* exit or failed start: leaves all. netns_fd -1: gone already. Errors are logged: it must go on. */
void gt_endpoints_leave(struct gt_container *ctr, int netns_fd);
/* Start-up: a daemon died before another network of a running container took over the default route and the ports. Errors are logged. */
void gt_endpoints_resettle(struct gt_container *ctr);
/* rm: gives back reservations. */
void gt_endpoints_release(struct gt_container *ctr);
json_t *gt_endpoints_settings(struct gt_container *ctr);        /* inspect's NetworkSettings */
/* Of the list, with ctr->lock held: Ports, and NetworkSettings' Networks. */
json_t *gt_endpoints_list_ports(const struct gt_container *ctr);
json_t *gt_endpoints_list_networks(const struct gt_container *ctr);
/* resolver.c: after gt_networks_reconcile(), names are known again, and soon after sockets are open again; a new name is made known. */
void gt_resolvers_reconcile(struct gt_engine *engine);
void gt_resolver_renamed(struct gt_container *ctr);
/* links.c: inspect's HostConfig.Links, null for none; what links on the default bridge add to the environment. */
json_t *links_to_json(struct gt_container *ctr);
void links_add_environment(const struct gt_container *ctr, struct gt_strings *env);
/* Contents of /etc/hosts and /etc/resolv.conf; addresses are known after join (the files are bind-mounted: written in place). */
int gt_endpoints_write_files(struct gt_container *ctr, struct gt_error *err);
json_t *gt_endpoints_to_json(const struct gt_container *ctr);   /* for the store */
int gt_endpoints_from_json(struct gt_container *ctr, const json_t *json, struct gt_error *err);

/* ---- volume.c; callers hold ctr->op ---- */
int gt_volumes_open(struct gt_engine *engine, struct gt_error *err);
void gt_volumes_close(struct gt_engine *engine);
/* At start-up, when it is known which containers live: drivers that count their mounts are told. A worker does it, as drivers may wait for others. */
void gt_volumes_reconcile(struct gt_engine *engine);
/* The same for one driver, which was opened later. */
void gt_volumes_tell(struct gt_engine *engine, const char *name);
/* create: Binds, Mounts, Tmpfs, image and Config Volumes, VolumesFrom -> ctr->mounts, making volumes; undone by
 * gt_mounts_release(.., remove_anonymous). */
int gt_mounts_resolve(struct gt_container *ctr, const struct gt_image *image, struct gt_error *err);
/* start: appends OCI mounts to `mounts` (array), copying image content up into empty volumes first. */
int gt_mounts_prepare(struct gt_container *ctr, json_t *mounts, struct gt_error *err);
void gt_mounts_release(struct gt_container *ctr);                       /* exit */
void gt_mounts_remove(struct gt_container *ctr, bool anonymous);        /* rm: drops users; anonymous: removes these volumes */
json_t *gt_mounts_inspect(struct gt_container *ctr);                    /* inspect's and list's Mounts */
json_t *gt_mounts_to_json(const struct gt_container *ctr);
int gt_mounts_from_json(struct gt_container *ctr, const json_t *json, struct gt_error *err);
/* UsageData of a volume: {"Size","RefCount"}, -1 where unknown. The caller's. */
json_t *gt_volume_usage(struct gt_engine *engine, const char *name);
/* For jobs on a container's files: the root (running: pid; else layer mount + volumes). Freed by gt_container_fsroot_free. */
struct gt_fsroot;
int gt_container_fsroot(struct gt_container *ctr, struct gt_fsroot *root, struct gt_error *err);
void gt_container_fsroot_free(struct gt_fsroot *root);

/* ---- health.c ---- */
void gt_health_started(struct gt_container *ctr);       /* after start, or taken up again with the health it had; holds op */
void gt_health_stopped(struct gt_container *ctr);       /* after exit */

/* ---- exec.c, for health.c: runs a command inside and gathers at most `max` bytes of output; -1 on failure to start, GT_TIMEOUT past the deadline (killed). */
int gt_exec_probe(struct gt_container *ctr, const struct gt_strings *argv, int64_t timeout_ns, int *exit_code, struct gt_buf *output,
		  size_t max, struct gt_error *err);
json_t *gt_exec_ids(struct gt_container *ctr);
/* exec.c, from monitor.c */
void gt_exec_exited(struct gt_container *ctr, const struct gt_shim_event *event);

