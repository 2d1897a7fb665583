/*
 * volume.h - private to the files that deal with volumes.
 *
 *   volume.c            the table: documents, creation, users, removal
 *   volume_list.c       inspect, list, usage, prune
 */
#pragma once

#include "engine/internal.h"

enum volume_state {
	VOLUME_MAKING,                  /* its driver makes it: nobody but who waits for it sees it */
	VOLUME_THERE,
	VOLUME_REMOVING,                /* its driver removes it: it is shown until it is gone */
};

/* In another state than VOLUME_THERE it is the thread's that put it there; others let it be. */
struct volume {
	char *name, *driver;
	enum volume_state state;
	json_t *options, *labels;       /* objects of strings */
	int64_t created;                /* ns */
	bool anonymous;
	bool filled;                    /* an image's content has been copied up, or it was found not to be empty; in memory alone */
	struct gt_map users;            /* container id -> itself */
};

struct gt_volumes {
	pthread_mutex_t lock;           /* guards all below; not held across driver calls */
	pthread_cond_t settled;         /* a volume was made or removed, or it was tried */
	struct gt_map map;              /* name -> struct volume */
	struct gt_collection *documents;
};

/* Makes a volume where it is not there, and adds a user (container id; NULL: none). *driver is the caller's copy. name NULL: anonymous, *out_name. */
int volume_use(struct gt_engine *engine, const char *name, const char *driver, const json_t *options, const json_t *labels, const char *user,
	       char **out_name, char **out_driver, struct gt_error *err);
/* At start-up: a container that was stored uses it. A volume that is gone is no error: the container's start says so. */
void volume_note_user(struct gt_engine *engine, const char *name, const char *user);
void volume_drop_user(struct gt_engine *engine, const char *name, const char *user);
/* Removes it where nobody uses it and `wanted`, which is asked with the lock held, says so: 1; else 0. */
int volume_remove_if(struct gt_engine *engine, const char *name, bool (*wanted)(const struct volume *volume, void *arg), void *arg, struct gt_error *err);
/* Removes an anonymous volume that nobody uses any more. */
void volume_remove_unused(struct gt_engine *engine, const char *name);
/* Copy-up happens once: true for the caller that is to do it. */
bool volume_claim_fill(struct gt_engine *engine, const char *name);
void volume_unclaim_fill(struct gt_engine *engine, const char *name);
