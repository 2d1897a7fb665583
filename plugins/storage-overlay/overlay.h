/*
 * overlay.h - private to storage-overlay: layers in memory and on disk.
 *
 * overlay.c   descriptor and ops
 * layers.c    the table of layers, and what it is rebuilt from when the driver is opened
 * describe.c  mount descriptions
 * diff.c      what a layer changes
 * usage.c     bytes and inodes of a layer
 * trash.c     removal
 * probe.c     is this file system fit for overlay?
 *
 * On disk, below state_dir:
 *   layers/<id>/about     a symbolic link as a record that is written by one system call: "image LINK PARENT" or "writable PARENT"
 *                         ("-": no parent); it comes last, so a directory without it is half-made
 *   layers/<id>/diff      the files: a lower or upper directory of overlayfs
 *   layers/<id>/work      writable layers: overlayfs' own
 *   layers/<id>/sealed    image layers: complete and on disk
 *   l/<LINK>              a link to an image layer's diff; a short name, as older kernels take 4095 bytes of mount options
 *   empty/                a lower directory where there is no other
 *   trash/                what is being removed
 *
 * The table of layers is the truth while the driver is open: no op scans. `lock` guards the table and all structs layer; it is held for look-ups
 * and counting alone, never across file work. The engine runs one op on a layer at a time, so what an op reads of its own layer stays.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include <gantry/plugin.h>

#include "common/names.h"

#define ID_MAX 128
#define LINK_LEN 13
#define ABOUT_ROOM 256
#define MAX_LOWERS 499          /* overlayfs stacks 500 */
#define MAX_DEPTH 512           /* of directories in a layer, where they are walked */

struct layer {
	char id[ID_MAX + 1];
	char link[LINK_LEN + 1];        /* image layers */
	int kind;                       /* enum gantry_layer_kind */
	bool sealed;
	bool orphan;                    /* its parent is lost: it cannot be mounted */
	struct layer *parent;
	unsigned children;              /* layers that have it as parent */
	unsigned height;                /* how many layers are below */
	mode_t mode;                    /* of a sealed layer's root directory; layers on it begin with the same */
	uid_t uid;
	gid_t gid;
};

struct overlay {
	const struct gantry_host *host;
	char *dir;
	int fd, layers_fd, links_fd, trash_fd;
	pthread_mutex_t lock;
	void *table;                    /* tsearch(3) of struct layer, by id */
	bool sync;                      /* commit waits for the disk */
	bool is_volatile, metacopy, follow;     /* options in force; follow: redirects are followed */
	char options[128];              /* those of every mount; begins with a comma */
	char rw_options[160];           /* those of mounts with an upper directory */

	atomic_uint serial;             /* names in trash/ */
	atomic_uint backlog;            /* put there since the reaper last began */
	pthread_t reaper;               /* empties trash/; the fields below are under `lock` */
	pthread_cond_t reaper_wake;
	bool reaper_runs, reaper_work;
	atomic_bool stop;
};

/* ---- layers.c ---- */
int layers_load(struct overlay *self, struct gantry_error *err);
void layers_free(struct overlay *self);
int layers_list(struct overlay *self, gantry_visit visit, void *arg, struct gantry_error *err);
int check_id(const char *id, struct gantry_error *err);
/* With the lock held. */
struct layer *layer_find(struct overlay *self, const char *id);
/* The same; NULL with err where it is missing. */
struct layer *layer_get(struct overlay *self, const char *id, struct gantry_error *err);
struct layer *layer_insert(struct overlay *self, const char *id, int kind, struct layer *parent);       /* NULL: no memory */
void layer_drop(struct overlay *self, struct layer *layer);
/* Reads mode and owner of the root directory of layers/<id>. */
void layer_note_root(struct overlay *self, struct layer *layer);
void new_link_name(char link[LINK_LEN + 1]);
/* The "about" text of a layer. */
void about_text(const char *link, const char *parent, int kind, char text[ABOUT_ROOM]);

/* ---- describe.c ---- */
int describe_mount(struct overlay *self, const char *id, bool read_only, struct gantry_mount *mount, struct gantry_error *err);

/* ---- diff.c ---- */
int diff_layer(struct overlay *self, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg,
	       struct gantry_error *err);

/* ---- usage.c ---- */
int layer_usage(struct overlay *self, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err);

/* ---- trash.c ---- */
/* Moves dirfd/name to trash/ (absent: success), where trash_empty() or the reaper finds it. */
int trash_put(struct overlay *self, int dirfd, const char *name, char trash_name[16], struct gantry_error *err);
/* Deletes trash/<name>, for a while; what is left then is the reaper's. */
void trash_delete(struct overlay *self, const struct gantry_call *call, const char *trash_name);
/* Has trash/<name> deleted by the reaper; helps it where it is behind. */
void trash_remove(struct overlay *self, const struct gantry_call *call, const char *trash_name);
/* Sets the reaper to work where trash/ is not empty. */
void trash_wake(struct overlay *self);
void trash_stop(struct overlay *self);

/* ---- probe.c ---- */
int probe(struct overlay *self, struct gantry_error *err);
