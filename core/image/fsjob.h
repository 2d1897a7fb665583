/*
 * fsjob.h - work on the files of containers and images, done by a helper process (gantry-fs) in a mount namespace of its own.
 *
 * Paths inside are hostile: the helper resolves them with openat2(RESOLVE_IN_ROOT) below the root of the job. Nothing is ever mounted in the host's
 * mount namespace. Each call here spawns one helper, talks to it over a socket, and reaps it. Thread safe. All block; in_fd/out_fd stay the
 * caller's.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "gantry/plugin.h"

struct gt_driver;

/* A volume's mount that is released when the job is done. */
struct gt_fs_hold {
	struct gt_driver *driver;
	char *volume, *user;
};

/* The root file system that a job works on: a running container's (pid > 0: its mount namespace and root), or
 * mounts made privately: mounts[0] is the root, others (volumes) stand at destinations[i] inside it. */
struct gt_fsroot {
	const char *helper;             /* path of gantry-fs */
	pid_t pid;
	const struct gantry_mount *const *mounts;
	const char *const *destinations;
	size_t count;
	struct gt_fs_hold *holds;       /* of whoever made the root */
	size_t hold_count;
};

struct gt_fs_stat {
	char *name;             /* last component */
	int64_t size;
	uint32_t mode;          /* Go's os.FileMode bits, as X-Docker-Container-Path-Stat has them */
	int64_t mtime;          /* ns */
	char *link_target;      /* "" where none */
};
void gt_fs_stat_free(struct gt_fs_stat *stat);

/* GT_NOT_FOUND: "Could not find the file PATH in container". */
int gt_fs_stat(const struct gt_fsroot *root, const char *path, struct gt_fs_stat *stat, struct gt_error *err);
/* A tar of path (docker cp out): entries named from its last component. A path that ends with "/." names the content. */
int gt_fs_archive(const struct gt_fsroot *root, const char *path, int out_fd, struct gt_error *err);
/* Unpacks a tar (plain or compressed) into the directory path. no_overwrite: refuse to replace a directory by a file and the reverse.
 * uid/gid: chown all to (-1: keep). */
int gt_fs_extract(const struct gt_fsroot *root, const char *path, int in_fd, bool no_overwrite, int64_t uid, int64_t gid,
		  struct gt_error *err);
/* The whole root as a tar (docker export). */
int gt_fs_export(const struct gt_fsroot *root, int out_fd, struct gt_error *err);
/* Fills an empty volume from the image: copies the content of `path` of the root, with owners, modes and xattrs, to the directory
 * that `target` describes, and gives the target the owner and mode of path. Does nothing where target is not empty or path is missing. */
int gt_fs_copy_up(const struct gt_fsroot *root, const char *path, const struct gantry_mount *target, struct gt_error *err);

/* One layer in and out, below a plain directory (a storage driver's layer_dir). */
int gt_fs_unpack(const char *helper, const struct gantry_layer_dir *dir, int in_fd, int64_t *size, struct gt_error *err);
/* changes: [[kind, path], ...] of gt_layer_diff, in order; the root shows the container's view. Writes an OCI layer tar (with .wh. files). */
int gt_fs_diff_tar(const struct gt_fsroot *root, const json_t *changes, int out_fd, struct gt_error *err);

/* A build's context: a tar, compressed or not, into the fresh directory dir. digests_fd: gets digests of its files, for struct gt_copy; -1: none. */
int gt_fs_context(const char *helper, const char *dir, int in_fd, int digests_fd, int64_t max_bytes, int64_t max_entries, struct gt_error *err);

struct gt_fs_clone {
	const char *url;                /* http, https or git */
	const char *ref;                /* a branch, tag, full reference or commit id; "": the remote's HEAD */
	const char *dir;                /* fresh; the commit's files, with those of submodules, come into it */
	bool keep;                      /* .git stays */
	int64_t max_bytes, max_entries;
	bool (*stop)(void *arg);        /* asked several times a second */
	void *arg;
};
/* A commit of a git repository. commit: its id. GT_NOT_FOUND: the repository does not have it. */
int gt_fs_clone(const char *helper, const struct gt_fs_clone *how, char commit[65], struct gt_error *err);
