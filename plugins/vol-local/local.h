/*
 * local.h - private to vol-local.
 *
 * local.c     descriptor and ops
 * options.c   what a volume was created with: checked, kept in a file, turned into a mount description
 * tree.c      removing and counting what is in a volume
 *
 * On disk, below state_dir:
 *   <name>/_data      the volume's content
 *   <name>/options    "key=value" lines of type, o, device; no file for a plain volume
 *   .new-*, .gone-*   half-made and half-removed volumes: removed when the driver is opened
 *
 * A volume appears and disappears by one rename, so there are no half ones under a name. Nothing is kept in memory.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <gantry/plugin.h>

#define NAME_MAX_LEN 255
#define VALUE_MAX 4096

struct local {
	const struct gantry_host *host;
	char *dir;
	int fd;
	bool sync;
	uint64_t life;                  /* random: tells .new-* and .gone-* of this life from an earlier one's */
	atomic_uint serial;
	pthread_t cleaner;              /* removes what an earlier life left; runs from open() until it is done */
	bool cleaner_runs;
	atomic_bool stop;
};

struct settings {
	char type[64];                  /* all empty for a plain volume */
	char o[VALUE_MAX];
	char device[VALUE_MAX];
};

/* ---- local.c ---- */
/* A name of this life's: prefix is ".new" or ".gone". */
void temporary_name(struct local *self, const char *prefix, char name[64]);
bool of_this_life(const struct local *self, const char *name);

/* ---- options.c ---- */
int settings_from_options(const struct gantry_options *options, struct settings *settings, struct gantry_error *err);
bool settings_plain(const struct settings *settings);
bool settings_equal(const struct settings *a, const struct settings *b);
/* In the volume's directory. A missing file reads as a plain volume's. */
int settings_save(const struct local *self, int dirfd, const struct settings *settings, struct gantry_error *err);
int settings_load(int dirfd, const char *name, struct settings *settings, struct gantry_error *err);
int settings_describe(const struct settings *settings, const char *name, bool read_only, struct gantry_mount *mount, struct gantry_error *err);

/* ---- tree.c ---- */
/* Removes state_dir/<name>, a .gone-* or .new-*. Returns -1 with errno: ECANCELED where it was told to stop, EXDEV at a mount point. */
int tree_remove(struct local *self, const struct gantry_call *call, const char *name);
/* Adds up files' sizes below dirfd (not taken over), a hard-linked one once. */
int tree_usage(struct local *self, const struct gantry_call *call, int dirfd, struct gantry_usage *usage);
