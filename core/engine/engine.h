/*
 * engine.h - the engine's face: what the API calls. One function for each operation of the Docker Engine API.
 *
 * References ("ref") are ids, id prefixes, or names, and may be hostile: they are checked here. JSON comes in as parsed values (borrowed) and goes out
 * as new values that the caller owns, in the shapes of Docker's API v1.50. `filters` is a JSON object {"key": ["value", ...]} or NULL
 * (the API has turned the old map form into it); an unknown filter is GT_INVALID.
 *
 * All functions are thread safe and may block, except where noted.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/stream.h"
#include "config/config.h"
#include "image/image.h"
#include "shim/client.h"

struct gt_engine;

/* ---- start and stop (daemon) ---- */
/* Loads state, drivers and images, reconciles with what really runs, and starts the engine's threads. */
int gt_engine_open(const struct gt_config *config, struct gt_engine **engine, struct gt_error *err);
/* Containers that are to run (restart policies) are started; separate from open, so that the socket answers before. */
void gt_engine_start_restarts(struct gt_engine *engine);
/* SIGHUP. config stays valid as long as the engine. */
void gt_engine_reload(struct gt_engine *engine, const struct gt_config *config);
/* Ends streams and waits; containers run on. */
void gt_engine_close(struct gt_engine *engine);

/* ---- system (system.c, events.c, df.c, figures.c) ---- */
json_t *gt_system_info(struct gt_engine *engine, struct gt_error *err);
json_t *gt_system_version(struct gt_engine *engine, struct gt_error *err);
json_t *gt_system_df(struct gt_engine *engine, const struct gt_strings *types, struct gt_error *err);
/* Lines of JSON. since/until in ns, 0: none; until in the past ends the stream after the replay. */
struct gt_stream *gt_events_open(struct gt_engine *engine, int64_t since, int64_t until, const json_t *filters,
				 struct gt_error *err);

/* What this host lacks; see doctor/doctor.h. registries (may be NULL): HOST[:PORT] of each that is to be asked whether it answers. */
json_t *gt_engine_doctor(struct gt_engine *engine, const struct gt_strings *registries, struct gt_error *err);
/* For a debug dump: objects and their states, locks that are held and by which thread, queues, the last events. Waits for no lock longer than a moment:
 * what it cannot have it says. */
json_t *gt_engine_dump(struct gt_engine *engine);
/* Appends this engine's figures in Prometheus' text format. Looks at every container, so it is for a scrape alone. */
void gt_engine_metrics(struct gt_engine *engine, struct gt_buf *out);

/* ---- containers (container*.c) ---- */
/* body: Docker's ContainerCreateRequest. name may be NULL. *warnings: JSON array. */
int gt_container_create(struct gt_engine *engine, const char *name, const char *platform, const json_t *body, char id[65],
			json_t **warnings, struct gt_error *err);
int gt_container_start(struct gt_engine *engine, const char *ref, const char *detach_keys, struct gt_error *err); /* GT_NOT_MODIFIED */
/* timeout in s: -1 the container's own, < -1 for ever. signal NULL: the container's own. GT_NOT_MODIFIED where it does not run. */
int gt_container_stop(struct gt_engine *engine, const char *ref, const char *signal, int timeout, struct gt_error *err);
int gt_container_restart(struct gt_engine *engine, const char *ref, const char *signal, int timeout, struct gt_error *err);
int gt_container_kill(struct gt_engine *engine, const char *ref, const char *signal, struct gt_error *err);
int gt_container_pause(struct gt_engine *engine, const char *ref, struct gt_error *err);
int gt_container_unpause(struct gt_engine *engine, const char *ref, struct gt_error *err);
int gt_container_rename(struct gt_engine *engine, const char *ref, const char *name, struct gt_error *err);
int gt_container_remove(struct gt_engine *engine, const char *ref, bool force, bool volumes, bool link, struct gt_error *err);
json_t *gt_container_update(struct gt_engine *engine, const char *ref, const json_t *body, struct gt_error *err);   /* {"Warnings":[]} */
int gt_container_resize(struct gt_engine *engine, const char *ref, unsigned rows, unsigned cols, struct gt_error *err);
/* Appends the list as JSON text. */
int gt_container_list(struct gt_engine *engine, bool all, int limit, bool size, const json_t *filters, struct gt_buf *out, struct gt_error *err);
json_t *gt_container_inspect(struct gt_engine *engine, const char *ref, bool size, struct gt_error *err);
json_t *gt_container_top(struct gt_engine *engine, const char *ref, const char *ps_args, struct gt_error *err);
json_t *gt_container_changes(struct gt_engine *engine, const char *ref, struct gt_error *err);
json_t *gt_containers_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err);

/* wait: opened first (so that the condition is armed before the API answers its headers), then read: one JSON document
 * {"StatusCode":0} or with "Error", then the end. condition: "not-running", "next-exit", "removed". */
struct gt_stream *gt_container_wait(struct gt_engine *engine, const char *ref, const char *condition, struct gt_error *err);

struct gt_logs_query {
	bool follow, stdout, stderr, timestamps, details;
	bool raw;                       /* never framed */
	int64_t since, until;           /* ns, 0: none */
	int64_t tail;                   /* lines; -1: all */
};
/* Bytes as the client shall see them: framed with 8-byte headers unless the container has a tty (*tty). */
struct gt_stream *gt_container_logs(struct gt_engine *engine, const char *ref, const struct gt_logs_query *query, bool *tty,
				    struct gt_error *err);
/* Lines of JSON. */
struct gt_stream *gt_container_stats(struct gt_engine *engine, const char *ref, bool stream, bool one_shot, struct gt_error *err);

/* attach in two steps: begin (404, 409, tty), then, after the 101, connect with the socket. A container that is not started yet keeps the socket until it
 * is; a start that comes between the two steps waits a moment for the second, so that the client misses nothing.
 * logs: replay what is in the log before. */
struct gt_attach_query {
	bool stdin, stdout, stderr, logs, stream;
	bool raw;                       /* never framed, whatever the container has */
	const char *detach_keys;        /* text form "ctrl-p,ctrl-q"; NULL: default */
};
struct gt_attach;
struct gt_attach *gt_attach_begin(struct gt_engine *engine, const char *ref, const struct gt_attach_query *query, bool *tty,
				  struct gt_error *err);
/* fd stays the caller's: the engine duplicates what it keeps. */
int gt_attach_connect(struct gt_attach *attach, int fd, struct gt_error *err);
/* After connect, or instead of it. NULL is fine. */
void gt_attach_end(struct gt_attach *attach);

/* ---- files of containers (files.c) ---- */
/* *stat: {"name","size","mode","mtime","linkTarget"}, for X-Docker-Container-Path-Stat. */
int gt_container_path_stat(struct gt_engine *engine, const char *ref, const char *path, json_t **stat, struct gt_error *err);
struct gt_stream *gt_container_archive(struct gt_engine *engine, const char *ref, const char *path, json_t **stat,
				       struct gt_error *err);
/* Whether there is such a container: before a body is asked for that would go to it. */
int gt_container_check(struct gt_engine *engine, const char *ref, struct gt_error *err);
int gt_container_extract(struct gt_engine *engine, const char *ref, const char *path, int in_fd, bool no_overwrite_dir_non_dir,
			 bool copy_uid_gid, struct gt_error *err);
struct gt_stream *gt_container_export(struct gt_engine *engine, const char *ref, struct gt_error *err);
/* config: the body of POST /commit (may be NULL). */
int gt_container_commit(struct gt_engine *engine, const char *ref, const char *repo, const char *tag, const char *comment,
			const char *author, bool pause, const struct gt_strings *changes, const json_t *config, char id[72],
			struct gt_error *err);

/* ---- exec (exec.c) ---- */
int gt_exec_create(struct gt_engine *engine, const char *ref, const json_t *body, char id[65], struct gt_error *err);
/* After the 101 in the attached case. rows/cols 0: not given. fd -1: detached. Errors that come after the 101 are written to fd by the engine as
 * the client expects them. gt_exec_check: 404, 409 before the 101; *tty. fd stays the caller's. */
int gt_exec_check(struct gt_engine *engine, const char *exec_id, bool tty, struct gt_error *err);
int gt_exec_start(struct gt_engine *engine, const char *exec_id, bool detach, bool tty, unsigned rows, unsigned cols, int fd,
		  struct gt_error *err);
int gt_exec_resize(struct gt_engine *engine, const char *exec_id, unsigned rows, unsigned cols, struct gt_error *err);
json_t *gt_exec_inspect(struct gt_engine *engine, const char *exec_id, struct gt_error *err);

/* ---- images (images.c): image/ plus events and what containers use ---- */
struct gt_images *gt_engine_images(struct gt_engine *engine);
json_t *gt_engine_image_remove(struct gt_engine *engine, const char *name, bool force, bool no_prune, struct gt_error *err);
json_t *gt_engine_images_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err);
json_t *gt_engine_images_list(struct gt_engine *engine, bool all, const json_t *filters, bool shared_size, struct gt_error *err);
int gt_engine_image_tag(struct gt_engine *engine, const char *name, const char *repo, const char *tag, struct gt_error *err);
/* all: every tag of the repository. */
int gt_engine_image_pull(struct gt_engine *engine, const char *reference, const char *platform, bool all, const json_t *auth,
			 struct gt_progress *progress, struct gt_error *err);
int gt_engine_image_push(struct gt_engine *engine, const char *reference, const json_t *auth, struct gt_progress *progress,
			 struct gt_error *err);
int gt_engine_image_load(struct gt_engine *engine, int in_fd, const char *platform, struct gt_progress *progress, struct gt_error *err);
/* GET of a root file system's tar into a file without a name; its descriptor, the caller's. */
int gt_engine_fetch_archive(struct gt_engine *engine, const char *source, struct gt_progress *progress, struct gt_error *err);
int gt_engine_image_import(struct gt_engine *engine, int in_fd, const char *repo, const char *tag, const char *message,
			   const struct gt_strings *changes, const char *platform, struct gt_progress *progress, char id[72],
			   struct gt_error *err);

/* ---- builds (build.c): what the docker CLI's classic builder asks for ---- */
struct gt_build_request {
	struct gt_strings tags, cache_from, extra_hosts;
	const char *dockerfile;         /* its path in the context; NULL: Dockerfile */
	const char *remote;             /* URL of a context or a Dockerfile, instead of in_fd; NULL */
	const char *session;            /* id of what gt_engine_build_session() was given; NULL */
	const char *target, *platform, *network, *cpuset_cpus, *cpuset_mems, *cgroup_parent;    /* NULL: default */
	json_t *build_args, *labels, *ulimits;  /* borrowed; NULL */
	json_t *auths;                  /* of registries, as X-Registry-Config has them; NULL */
	bool quiet, no_cache, pull, squash;
	bool cache_only;                /* without tags, the result is no image in lists, only in the cache */
	int64_t memory, memory_swap, cpu_shares, cpu_period, cpu_quota, shm_size;       /* 0: default */
	bool (*gone)(void *arg);        /* the client hung up: the build ends */
	void *arg;
};
/* in_fd: the context as a tar. What goes wrong after the first message is a message too, and 0 is returned. */
int gt_engine_build(struct gt_engine *engine, const struct gt_build_request *request, int in_fd, struct gt_progress *progress,
		    struct gt_error *err);
/* What the client brings along for a build of its: secrets and SSH agents, by the protocol of build_session.h over fd, which is duplicated. */
int gt_engine_build_session(struct gt_engine *engine, const char *id, int fd, struct gt_error *err);
/* {"CachesDeleted":[ID], "SpaceReclaimed"}. keep: bytes that may stay. filters: until, id. */
json_t *gt_engine_build_prune(struct gt_engine *engine, bool all, int64_t keep, const json_t *filters, struct gt_error *err);
json_t *gt_engine_build_usage(struct gt_engine *engine);        /* Docker's BuildCache */

/* ---- networks (network.c, ipam.c, endpoint.c) ---- */
json_t *gt_network_create(struct gt_engine *engine, const json_t *body, struct gt_error *err);          /* {"Id","Warning"} */
json_t *gt_network_list(struct gt_engine *engine, const json_t *filters, struct gt_error *err);
json_t *gt_network_inspect(struct gt_engine *engine, const char *ref, const char *scope, struct gt_error *err);
int gt_network_remove(struct gt_engine *engine, const char *ref, struct gt_error *err);
int gt_network_connect(struct gt_engine *engine, const char *ref, const json_t *body, struct gt_error *err);
int gt_network_disconnect(struct gt_engine *engine, const char *ref, const char *container, bool force, struct gt_error *err);
json_t *gt_networks_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err);

/* ---- volumes (volume.c) ---- */
json_t *gt_volume_create(struct gt_engine *engine, const json_t *body, struct gt_error *err);
json_t *gt_volume_list(struct gt_engine *engine, const json_t *filters, struct gt_error *err);          /* {"Volumes","Warnings"} */
json_t *gt_volume_inspect(struct gt_engine *engine, const char *name, struct gt_error *err);
int gt_volume_remove(struct gt_engine *engine, const char *name, bool force, struct gt_error *err);
json_t *gt_volumes_prune(struct gt_engine *engine, const json_t *filters, struct gt_error *err);

/* ---- plugins (plugins.c, plugin_change.c) ---- */
/* Rows in the shape of Docker's plugin list; filters: enabled (or enable), capability. */
json_t *gt_plugins_list(struct gt_engine *engine, const json_t *filters, struct gt_error *err);
json_t *gt_plugins_inspect(struct gt_engine *engine, const char *name, struct gt_error *err);
/* The first two last across restarts. GT_CONFLICT: it is so already, something uses it, or calls do not end. force: makes no difference but for the words of the
 * refusal. */
int gt_plugins_enable(struct gt_engine *engine, const char *name, struct gt_error *err);
int gt_plugins_disable(struct gt_engine *engine, const char *name, bool force, struct gt_error *err);
/* Takes the plugin's file and section as they are now into use; containers run on. What fails leaves the plugin as it was. timeout: seconds for calls that are
 * under way. */
int gt_plugins_reload(struct gt_engine *engine, const char *name, int64_t timeout, struct gt_error *err);
