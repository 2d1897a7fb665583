/*
 * fs.h - private to gantry-fs: the process that works on files of containers and images for the daemon.
 *
 * One process does one job and ends. The daemon starts it (image/fsjob.c) with these descriptors and writes one JSON request
 * to the control socket; the reply is one JSON object: {"ok":true, ...} or {"error":{"kind","errno","message"}}.
 *
 * main.c      request, dispatch, reply, privileges
 * mount.c     performs struct gantry_mount descriptions as detached mounts
 * view.c      the root of a job: a running container's, or mounts made here
 * path.c      hostile paths: cleaning, resolution, Docker's stat
 * tarout.c    files to tar: archive, export, diff_tar
 * sink.c      tar entries to files: shared by extract and unpack; node.c: one entry's inode and metadata
 * unpack.c    a layer: whiteouts, bounds, the recipe for rebuilding its exact bytes; extract
 * recipe.c    writes and replays recipes
 * owed.c      what a layer takes from those below, where these are not complete yet; settle
 * copyup.c    fills a volume from an image
 * squash.c    what an image has beyond another, as one layer
 * git.c       a commit of a git repository as files
 * copy.c      COPY and ADD of a build: files of a context or an image as a layer's tar, or the digest of it; owner.c, added.c help
 *
 * Nothing here is multi-threaded, and no path is followed out of the job's root.
 */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/map.h"

enum { FS_IN = 0, FS_OUT = 1, FS_LOG = 2, FS_CONTROL = 3, FS_RECIPE = 4 };

#define FS_PATH_MAX 4096        /* with the NUL */
#define FS_MAX_COMPONENTS 512
#define FS_MAX_DEPTH 512        /* of directory trees that are walked */
#define FS_XATTR_MAX (64u * 1024)

/* How every path below a job's root is resolved. */
#define FS_IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

/* ---- mount.c ---- */
/* spec: {"type","source","options"}. Returns a detached mount's descriptor. Needs fs_private_namespace() before. */
int fs_mount(const json_t *spec, struct gt_error *err);
int fs_private_namespace(struct gt_error *err);

/* ---- view.c ---- */
struct fs_view {
	int root;               /* O_PATH */
	uint64_t mount_id;      /* of root, to tell volumes from it */
};
/* spec: {"pid"} or {"mounts":[{"type","source","options","destination"}, ...]}; the first is the root. */
int fs_view_open(const json_t *spec, struct fs_view *view, struct gt_error *err);
/* Gives up every privilege but those for working on files; trusted_xattrs keeps CAP_SYS_ADMIN for trusted.*. */
int fs_drop_privileges(bool trusted_xattrs, struct gt_error *err);

/* ---- path.c ---- */
/* Lexically cleaned, relative, no "." or ".."; "" is the root itself. clamp: ".." at the root stays there; else it is refused.
 * Bounded in length and number of components. Returns an allocated string or NULL. */
char *fs_clean_path(const char *path, bool clamp, struct gt_error *err);
/* The last component of a cleaned path, and its parent ("" at the top) copied to parent[FS_PATH_MAX]. */
const char *fs_split(const char *path, char *parent);
/* Opens (O_PATH unless flags say else) below root; cleaned may be "". Returns -1 with errno. */
int fs_open(int root, const char *cleaned, int flags);
/* mkdir -p below root; returns the directory's descriptor. */
int fs_make_dirs(int root, const char *cleaned, struct gt_error *err);
/* The path that a link stands for inside the root, links on the way followed; what does not exist is kept as text. */
char *fs_resolve_text(int root, const char *cleaned);
int fs_job_stat(const json_t *request, json_t *reply, struct gt_error *err);

/* What Docker's path rules make of a user's path: its last component is not followed unless it ends in "/" or "/.". */
struct fs_place {
	char *clean;            /* cleaned path */
	char *name;             /* last component as the user wrote it: "/", "." or a name */
	bool follow;            /* ended in "/" or "/.": the thing behind it, which must be a directory */
	int parent;             /* O_PATH; the resolved parent, or the thing itself where base is "" */
	char *base;
	struct stat st;
};
int fs_locate(const struct fs_view *view, const char *path, struct fs_place *place, struct gt_error *err);
void fs_place_free(struct fs_place *place);
#define AUTO_PLACE __attribute__((cleanup(fs_place_free)))

/* ---- tarout.c ---- */
struct fs_tar {
	struct archive *archive;
	struct archive_entry *entry;
	struct gt_map links;            /* "dev:ino" -> name of the first link (owned) */
	char *buffer;
	bool one_mount;                 /* mount points appear empty */
	int64_t clamp;                  /* no time is later than this, in s; INT64_MAX: as they are */
};
int fs_tar_open(struct fs_tar *out, struct gt_error *err);
int fs_tar_close(struct fs_tar *out, struct gt_error *err);
void fs_tar_free(struct fs_tar *out);
/* The entry of a file as it is; then its attributes, its header, its content (holes at its end are zeros). */
void fs_tar_fill(struct fs_tar *out, const struct statx *sx, const char *name);
void fs_tar_xattrs(struct fs_tar *out, int fd);
int fs_tar_header(struct fs_tar *out, const char *name, struct gt_error *err);
int fs_tar_content(struct fs_tar *out, int fd, int64_t size, const char *name, struct gt_error *err);
/* Where another link to this file is in the archive already, makes the entry a link to it. */
bool fs_tar_as_link(struct fs_tar *out, const struct statx *sx, const char *name);
int fs_tar_error(struct fs_tar *out, const char *name, struct gt_error *err);
/* Whether an extended attribute belongs to the file rather than to this host. */
bool fs_carried(const char *name);
/* Names in a directory, sorted. Takes no ownership of fd. */
int fs_list_names(int fd, struct gt_strings *names, struct gt_error *err);
/* One node, without what is in it unless `recurse`. depth: 0 for a root. */
int fs_tar_one(struct fs_tar *out, int dirfd, const char *base, const char *name, int depth, bool recurse, struct gt_error *err);
/* What a layer says of a name that is deleted. */
int fs_tar_whiteout(struct fs_tar *out, const char *path, struct gt_error *err);
int fs_job_archive(const json_t *request, json_t *reply, struct gt_error *err);
int fs_job_export(const json_t *request, json_t *reply, struct gt_error *err);
int fs_job_diff_tar(const json_t *request, json_t *reply, struct gt_error *err);

/* ---- sink.c ---- */
struct fs_recipe;

/* What a file's content is, known since it was written. Two records of one inode: the first file is gone, and neither counts. */
struct fs_digest {
	uint64_t ino, size;
	uint8_t sha256[32];
};

struct fs_dir_slot {
	char *path;
	int fd;
};

struct fs_late_dir {
	char *path;
	struct timespec mtime;
	mode_t mode;            /* set where chmod is true */
	bool chmod;
};

#define FS_DIR_SLOTS 64

struct fs_sink {
	int root;                       /* names are resolved below it */
	const char *base;               /* cleaned directory that names are relative to, "" for root */
	bool layer;                     /* a fresh layer directory: all in it is ours */
	int whiteouts;                  /* enum gantry_whiteouts, layers only */
	bool no_overwrite;              /* a directory and a non-directory do not replace each other */
	int64_t uid, gid;               /* -1: the archive's */
	const json_t *lower;            /* mount of the parent layer, for attributes of directories the archive leaves out; or NULL */
	bool early;                     /* there are layers below, but they are not complete: what is needed of them is owed */
	int lower_root;                 /* -1: not mounted yet */
	struct fs_recipe *recipe;       /* NULL: none is kept */
	struct gt_buf *digests;         /* struct fs_digest of each file, where its bytes came in one run; NULL: none are taken */
	int64_t max_bytes, max_entries;

	int64_t bytes, entries;
	int64_t replaced;               /* of bytes: those of files that gave way to later entries */
	bool default_acl;               /* some directory has one: creation modes cannot be trusted */
	bool dir_replaced;              /* some directory gave way to a later entry */
	struct fs_dir_slot dirs[FS_DIR_SLOTS];
	struct fs_late_dir *late;
	size_t late_count, late_cap;
	struct gt_map unpacked;         /* names of this layer; whiteouts GANTRY_WHITEOUT_DELETE only */
	struct gt_map owed;             /* inode -> what it is to get from below; owed.c's */
	size_t owed_bytes;
};

/* One entry of an archive with its exact names (libarchive normalises Unicode, which would rename files). */
struct fs_entry {
	struct archive_entry *entry;
	const char *name, *link;        /* as in the archive */
	char *path;                     /* cleaned, with the sink's base */
	int64_t data_at;                /* offset of its data in the uncompressed archive */
};

void fs_sink_init(struct fs_sink *sink);
void fs_sink_free(struct fs_sink *sink);
/* What a name in the archive stands for: cleaned, below the sink's base, bounded. Allocated. */
char *fs_sink_path(const struct fs_sink *sink, const char *name, struct gt_error *err);
/* The directory that holds path; *base points into path. The descriptor is the sink's. Makes missing directories. */
int fs_sink_parent(struct fs_sink *sink, const char *path, const char **base, struct gt_error *err);
void fs_sink_forget_dirs(struct fs_sink *sink);
int fs_sink_add(struct fs_sink *sink, struct archive *archive, struct fs_entry *item, struct gt_error *err);
/* Sets what had to wait until all entries were there: times and special modes of directories. */
int fs_sink_finish(struct fs_sink *sink, struct gt_error *err);
/* Removes what stands at dirfd/name, keeping what the recipe still needs. */
int fs_sink_clear(struct fs_sink *sink, int dirfd, const char *name, const char *path, struct gt_error *err);
/* As for "dir": mkdir with the attributes that the lower layer has for it. */
int fs_sink_make_dir(struct fs_sink *sink, int dirfd, const char *name, const char *path, struct gt_error *err);

/* Mounts the view of the layers below (sink->lower), once; lower_root stays -1 where there are none. */
int fs_sink_lower(struct fs_sink *sink, struct gt_error *err);

/* ---- node.c ---- */
/* Owner, mode and extended attributes of directory dirfd/name. */
int fs_node_attributes(struct fs_sink *sink, struct fs_entry *item, int dirfd, const char *name, struct gt_error *err);
int fs_node_create(struct fs_sink *sink, struct archive *archive, struct fs_entry *item, int dirfd, const char *name,
		   struct gt_error *err);
bool fs_is_whiteout(int dirfd, const char *name);
int fs_set_opaque(int fd, const char *path, struct gt_error *err);

/* ---- unpack.c ---- */
int fs_job_unpack(const json_t *request, json_t *reply, struct gt_error *err);
int fs_job_extract(const json_t *request, json_t *reply, struct gt_error *err);

/* What FS_IN brings, compressed or not, into the sink. */
int fs_read_tar(struct fs_sink *sink, bool compressed, struct gt_error *err);
int fs_job_context(const json_t *request, json_t *reply, struct gt_error *err);

/* ---- owed.c ---- */
/* Where sink->early is set: the directory dirfd/name, which was just made, is to get the attributes that the layers below have for path; or a file
 * is made there that is to become a copy of their `target`. GT_UNAVAILABLE where that cannot be kept. */
int fs_owed_dir(struct fs_sink *sink, int dirfd, const char *name, const char *path, struct gt_error *err);
int fs_owed_link(struct fs_sink *sink, int dirfd, const char *name, const char *path, const char *target, struct gt_error *err);
/* An entry of the archive's own describes this inode. */
void fs_owed_forget(struct fs_sink *sink, const struct stat *st);
/* GT_UNAVAILABLE where what is about to be removed is owed something. */
int fs_owed_replaced(const struct fs_sink *sink, const struct stat *st, struct gt_error *err);
/* {"dirs": [[inode, path], ...], "links": [[inode, path, target], ...]}, for fs_job_settle. */
json_t *fs_owed_json(const struct fs_sink *sink);
void fs_owed_free(struct fs_sink *sink);
int fs_job_settle(const json_t *request, json_t *reply, struct gt_error *err);
/* Owner, mode and attributes of directory path of the layers below, for fd. Returns 1 and its time, which has to wait; 0 where they have none. */
int fs_copy_lower_dir(int lower_root, const char *path, int fd, struct timespec *mtime, struct gt_error *err);
/* Content and attributes of file target of the layers below, for the empty file `to`, which path is; *bytes grows by its size. */
int fs_copy_lower_file(int lower_root, const char *target, int to, const char *path, int64_t *bytes, struct gt_error *err);

/* ---- copy.c, with owner.c and added.c ---- */
int fs_job_copy(const json_t *request, json_t *reply, struct gt_error *err);

/* ---- squash.c ---- */
int fs_job_squash(const json_t *request, json_t *reply, struct gt_error *err);
int fs_job_same(const json_t *request, json_t *reply, struct gt_error *err);

/* ---- git.c ---- */
int fs_job_clone(const json_t *request, json_t *reply, struct gt_error *err);

/* ---- recipe.c ---- */
struct fs_recipe *fs_recipe_new(int fd);
void fs_recipe_free(struct fs_recipe *recipe);
void fs_recipe_literal(struct fs_recipe *recipe, const void *bytes, size_t len);
void fs_recipe_file(struct fs_recipe *recipe, const char *path, int64_t size);
/* The regular file `path`, open as fd, is about to be replaced by a later entry: keeps its content where it is needed. */
void fs_recipe_keep(struct fs_recipe *recipe, const char *path, int fd);
/* The layer cannot be rebuilt byte for byte any more. */
void fs_recipe_drop(struct fs_recipe *recipe);
/* Flushes; returns false where the recipe was dropped. */
bool fs_recipe_finish(struct fs_recipe *recipe);
/* Writes the tar that the recipe tells of to FS_OUT, out of the layer at root. */
int fs_recipe_replay(int root, int recipe, struct gt_error *err);
int fs_job_rebuild(const json_t *request, json_t *reply, struct gt_error *err);

/* ---- copyup.c ---- */
int fs_job_copy_up(const json_t *request, json_t *reply, struct gt_error *err);
/* Copies extended attributes between open files; those a file system has no room for are left out. */
int fs_copy_xattrs(int from, int to, struct gt_error *err);
