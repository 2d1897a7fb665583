/*
 * volume.h - private to the files that deal with volumes.
 */
#pragma once

#include "engine/internal.h"

struct volume {
	char *name, *driver;
	json_t *options, *labels;       /* objects of strings */
	int64_t created;                /* ns */
	bool anonymous;
	bool filled;                    /* an image's content has been copied up, or it was found not to be empty; in memory alone */
	struct gt_map users;            /* container id -> itself */
};

struct gt_volumes {
	pthread_mutex_t lock;           /* guards all below; not held across driver calls but those of create and remove, which must not meet */
	struct gt_map map;              /* name -> struct volume */
	struct gt_collection *documents;
};

/* Makes a volume where it is not there, and adds a user (container id; NULL: none). *driver is the caller's copy. name NULL: anonymous, *out_name. */
int volume_use(struct gt_engine *engine, const char *name, const char *driver, const json_t *options, const json_t *labels, const char *user,
	       char **out_name, char **out_driver, struct gt_error *err);
/* At start-up: a container that was stored uses it. A volume that is gone is no error: the container's start says so. */
void volume_note_user(struct gt_engine *engine, const char *name, const char *user);
void volume_drop_user(struct gt_engine *engine, const char *name, const char *user);
/* Removes an anonymous volume that nobody uses any more. */
void volume_remove_unused(struct gt_engine *engine, const char *name);
/* Copy-up happens once: true for the caller that is to do it. */
bool volume_claim_fill(struct gt_engine *engine, const char *name);
void volume_unclaim_fill(struct gt_engine *engine, const char *name);
