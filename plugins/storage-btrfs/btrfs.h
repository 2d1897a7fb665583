/*
 * btrfs.h - private to storage-btrfs: layers in memory and on disk.
 *
 * btrfs.c      descriptor and ops
 * layers.c     the table of layers, and what it is rebuilt from when the driver is opened
 * subvolume.c  what is asked of the file system: snapshots, limits, removal
 * compare.c    what a layer changes
 * usage.c      bytes and inodes of a layer
 *
 * On disk, below state_dir:
 *   layers/<id>/about     a symbolic link as a record that is written by one system call: "image PARENT" or "writable PARENT LIMIT"
 *                         ("-": no parent; bytes, 0: no limit)
 *   layers/<id>/tree      the files: a subvolume, made as a snapshot of the parent's. It comes last, so a directory without it is half-made
 *   layers/<id>/sealed    image layers: complete and on disk; a symbolic link "BYTES INODES" that says what the layer adds to its parent
 *   trash/                what is being removed
 *
 * A snapshot is made by a commit of the file system's, which takes the record with it: after a power cut both are there or neither.
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

#define ID_MAX 128
#define PATH_ROOM (ID_MAX + 16) /* of "<id>/sealed" and its like */
#define RECORD_ROOM 256
#define MAX_DEPTH 512           /* of directories in a layer, where they are walked */

struct layer {
	char id[ID_MAX + 1];
	int kind;                       /* enum gantry_layer_kind */
	bool sealed;
	bool orphan;                    /* its parent is lost: what it changes cannot be told */
	struct layer *parent;
	unsigned children;              /* layers that have it as parent */
	uint64_t limit;                 /* writable layers: bytes of their own that they may have; 0: any */
	int64_t bytes, inodes;          /* sealed layers: what they add */
};

struct btrfs {
	const struct gantry_host *host;
	char *dir;
	int fd, layers_fd, trash_fd;
	pthread_mutex_t lock;
	void *table;                    /* tsearch(3) of struct layer, by id */
	bool sync;                      /* commit waits for the disk */
	bool simple;                    /* quotas that are turned on are simple ones, where the kernel has them */
	atomic_uint serial;             /* names in trash/ */
};

/* ---- layers.c ---- */
int layers_load(struct btrfs *self, struct gantry_error *err);
void layers_free(struct btrfs *self);
int layers_list(struct btrfs *self, gantry_visit visit, void *arg, struct gantry_error *err);
int check_id(const char *id, struct gantry_error *err);
/* With the lock held. */
struct layer *layer_find(struct btrfs *self, const char *id);
/* The same; NULL with err where it is missing. */
struct layer *layer_get(struct btrfs *self, const char *id, struct gantry_error *err);
struct layer *layer_insert(struct btrfs *self, const char *id, int kind, struct layer *parent);         /* NULL: no memory */
void layer_drop(struct btrfs *self, struct layer *layer);
/* The "about" text of a layer. */
void about_text(const struct layer *layer, char text[RECORD_ROOM]);
/* A descriptor of <dir>/layers/<id>/tree, or -1 with errno. */
int tree_open(struct btrfs *self, const char *id);

/* ---- subvolume.c ---- */
/* Is state_dir on btrfs? */
int check_file_system(struct btrfs *self, struct gantry_error *err);
/* Makes layers/<id>/tree: a snapshot of the parent's, or an empty subvolume. */
int subvolume_make(struct btrfs *self, const struct layer *layer, struct gantry_error *err);
/* Limits the bytes that the subvolume has for itself alone; turns quotas on where they are off. */
int subvolume_limit(struct btrfs *self, int fd, uint64_t bytes, struct gantry_error *err);
/* Nobody, root included, changes it any more. Returns -1 with errno. */
int subvolume_seal(int fd);
/* Moves layers/<id> to trash/ (absent: success), then deletes it with all subvolumes in it. What cannot be deleted stays there until the next start. */
int layer_remove_files(struct btrfs *self, const struct gantry_call *call, const char *id, struct gantry_error *err);
/* Deletes what an earlier life left in trash/. */
void trash_empty(struct btrfs *self);

/* ---- compare.c ---- */
struct change {
	int kind;                       /* enum gantry_change_kind */
	const char *path;               /* inside the layer */
	int dirfd;                      /* where `name` is now */
	const char *name;
	const struct stat *now;         /* NULL: it was deleted, or is a directory that only holds changes */
	bool same_file;                 /* the parent's file, changed in place */
};
/* Returns 0 to go on, more to end without a failure, -1 with err filled by it. */
typedef int (*visit_change)(void *arg, const struct change *change);

/* All changes of a layer against its parent in order of names, parents first. What a base layer or one without a parent has is all added. */
int compare_layer(struct btrfs *self, const struct gantry_call *call, const char *id, visit_change visit, void *arg, struct gantry_error *err);

/* ---- usage.c ---- */
int layer_count(struct btrfs *self, const struct gantry_call *call, const char *id, int64_t *bytes, int64_t *inodes, struct gantry_error *err);
