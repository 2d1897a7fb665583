/*
 * mounts.h - private to core/build: RUN --mount.
 *
 * mounts.c        what the flags say; bind and tmpfs
 * mount_cache.c   type=cache: directories that last, and their locks
 * mount_secret.c  type=secret and type=ssh: what the client brings along
 *
 * A RUN's mounts are read once. Then its key is made from them, and, where the cache has no such step, what they need is prepared. mounts_end() undoes that.
 */
#pragma once

#include "build/internal.h"

struct mount {
	char *type, *target, *source, *from, *id, *sharing, *size, *mode, *uid, *gid, *env;
	bool read_only, read_write, required;
};

/* Digits in the base, at most `most`; absent where text is NULL. */
int mount_number(const char *name, const char *text, int base, long most, long absent, long *value, struct gt_error *err);
/* A bind of the host's `source`, as HostConfig.Mounts has it. */
void mounts_bind(struct mounts *mounts, const char *source, const char *target, bool read_only);
/* What a bind with this mount's source and from would show: for a digest or a copy of it. The caller frees it with gt_copy_free(). */
int mount_files(struct run *run, const struct mount *mount, struct gt_copy *copy, struct gt_error *err);

/* ---- mount_cache.c ---- */
/* Locks all caches among the mounts, in an order that is the same for every RUN: those that wait for each other never wait for ever. */
int caches_lock(struct run *run, struct mounts *mounts, struct gt_error *err);
int mount_cache(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err);
void caches_unlock(struct mounts *mounts);

/* ---- mount_secret.c ---- */
/* Fills in what may be left out: id and target. index: how many of its type stand before it. */
void secret_defaults(struct mount *mount, size_t index);
int mount_secret(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err);
int mount_agent(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err);
/* What was written of them is gone. */
void secrets_end(struct run *run, struct mounts *mounts);
