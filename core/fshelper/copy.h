/*
 * copy.h - private to the files of the "copy" job: what COPY and ADD take from where, and how it comes out.
 */
#pragma once

#include <nettle/sha2.h>

#include "base/ignore.h"
#include "fs.h"

#define COPY_MAX_SOURCES 128

struct copier {
	int sources[COPY_MAX_SOURCES];  /* roots of files; -1: none */
	int source;                     /* the one in use; not owned */
	bool ignoring;                  /* .dockerignore speaks of it */
	struct gt_buf known;            /* struct fs_digest of files of source 0, by inode */
	int lower;                      /* root of the image that the layer comes on; -1: from scratch, or not looked at (--link) */
	bool hash;                      /* the digest of the layer, instead of its tar */
	struct sha256_ctx digest;
	struct fs_tar out;
	int64_t count;                  /* entries so far */
	char *dest;                     /* cleaned, links of lower followed */
	bool dest_is_dir;
	int64_t uid, gid;               /* -1: as the source has them */
	bool owner_given;               /* --chown: archives too */
	const char *chmod;              /* "": as they are */
	int64_t now;                    /* s: time of directories that are made */
	struct ignore exclude, ignored; /* --exclude; .dockerignore */
	bool parents, unpack;
	struct gt_map made;             /* directories that the layer has */
};

/* owner.c: "user", "user:group", ids; root: where /etc/passwd is, -1: nowhere. */
int fs_owner_read(int root, const char *text, int64_t *uid, int64_t *gid, struct gt_error *err);
/* "755", "u=rwX,go=rX" */
int fs_mode_apply(const char *text, mode_t *mode, bool directory, struct gt_error *err);

/* copy.c, for added.c */
/* One entry, whose archive_entry is filled in; fd -1 or the file whose content it has. */
int copy_emit(struct copier *copier, const char *path, int fd, struct gt_error *err);
int copy_make_parents(struct copier *copier, const char *path, struct gt_error *err);
void copy_hash(struct copier *copier, const void *bytes, size_t len);
/* Hashes the entry's header and counts it, or writes it to the tar. */
int copy_header(struct copier *copier, const char *path, struct gt_error *err);
/* 1: path is a directory of the image already; 0: it is not there; -1: something else is. */
int copy_look(struct copier *copier, const char *path, struct gt_error *err);

/* known.c: digests that were taken as the context came. */
int copy_known_read(struct copier *copier, const char *path, struct gt_error *err);
/* NULL: the file has to be read. */
const struct fs_digest *copy_known(const struct copier *copier, int fd, int64_t size);

/* added.c: where the file is a tar, compressed or not, its entries go below copier->dest: 1. Else 0, and the file is at its start again. */
int copy_archive(struct copier *copier, int fd, struct gt_error *err);
