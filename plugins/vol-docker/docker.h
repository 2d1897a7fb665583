/*
 * docker.h - private to vol-docker: volumes of servers that speak Docker's volume plugin protocol, version 1 (JSON in POST requests).
 *
 * docker.c     descriptor and ops
 * discover.c   which plugin of a name there is: sockets, and files that tell of an address
 * call.c       one request to a plugin: activation, limits, the plugin's errors
 * record.c     what is remembered of each volume, and who works on it
 *
 * On disk, below state_dir: <volume>.json, {"Options": {...}, "Mounts": {"<container>": "<life>"}}. A mount stands there before the plugin is asked for it, and
 * until it has taken it back: so whatever this process dies of, the next life knows every mount that the plugin may count. `life` tells the mounts of this
 * process from those of earlier ones, which reconcile() is about.
 *
 * The plugin has the truth about volumes: a record without a volume is made good by create(), a volume without a record is adopted.
 */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <gantry/plugin.h>

#include "common/curl.h"

#define FAMILY_NAME "docker-plugins"
#define VOLUME_NAME_MAX 200
#define MOUNTS_MAX 4096

/* Where a plugin listens. */
struct address {
	char socket[108];               /* a unix socket; empty: see url */
	char url[1024];                 /* "http://..." or "https://...", without a path */
	char ca[1024], cert[1024], key[1024];
	bool insecure;                  /* the server's certificate is not checked */
};

struct busy;                            /* record.c: a volume that an op works on */

struct docker {
	const struct gantry_host *host;
	const struct curl_calls *curl;
	char *name;                     /* the plugin's; the family's own for the family */
	bool family;
	int fd;                         /* state_dir */
	char life[17];                  /* random */
	_Atomic int64_t hung_until;     /* CLOCK_MONOTONIC; after a time-out, looks at volumes fail at once for a while */
	pthread_mutex_t lock;           /* guards all below; not held while the plugin is asked */
	pthread_cond_t freed;
	struct busy *busy;
	struct address address;         /* of the activation */
	bool active;
	bool global;                    /* the plugin's scope */
};

/* ---- discover.c ---- */
/* GANTRY_E_NOT_FOUND: there is no plugin of that name. GANTRY_E_INVALID: a file that tells of it is wrong. */
int discover(const struct gantry_host *host, const char *name, struct address *address, struct gantry_error *err);
/* Names of plugins; one may come twice. */
int discover_all(const struct gantry_host *host, gantry_visit visit, void *arg, struct gantry_error *err);

/* ---- call.c ---- */
/* What becomes of a plugin that is not there right now, or of a call that did not end. */
enum patience {
	HASTY,          /* a look: fails at once */
	PATIENT,        /* work: the connection is tried again for connect_timeout */
};

/* POST /METHOD with body (borrowed). The plugin is found and activated first where it is not yet. *reply (may be NULL) is the caller's: an object without a
 * text in Err. Kinds: GANTRY_E_UNAVAILABLE: nothing was asked. GANTRY_E_TIMEOUT: it is not known what the plugin has done. GANTRY_E_UNSUPPORTED: the
 * plugin has no such method. GANTRY_E_INTERNAL: the plugin refused, and err has its words. */
int plugin_call(struct docker *self, const struct gantry_call *call, enum patience patience, const char *method, const json_t *body, json_t **reply,
		struct gantry_error *err);

/* ---- record.c ---- */
/* From here to unlock_volume() no other op works on the volume. Waits for it until the call's deadline. */
int lock_volume(struct docker *self, const struct gantry_call *call, const char *name, struct gantry_error *err);
void unlock_volume(struct docker *self, const char *name);

/* NULL with GANTRY_E_NOT_FOUND where there is none; an unreadable one is moved away and is none. The caller's: an object with the objects Options and Mounts. */
json_t *record_load(const struct docker *self, const char *name, struct gantry_error *err);
json_t *record_new(const struct gantry_options *options);
int record_save(const struct docker *self, const char *name, const json_t *record, struct gantry_error *err);
int record_remove(const struct docker *self, const char *name, struct gantry_error *err);
/* Each volume's name. */
int record_each(const struct docker *self, gantry_visit visit, void *arg, struct gantry_error *err);
bool name_is_good(const char *name);
