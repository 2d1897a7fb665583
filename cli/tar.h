/*
 * tar.h - tar archives by libarchive, which is loaded (dlopen) only by the commands that need it: linked, its own
 * libraries would slow the start of every command.
 *
 * tar_source makes an archive of a directory tree piece by piece, as an HTTP request's body wants it. tar_extract
 * unpacks an answer's body below a directory; names in it are hostile and cannot leave that directory.
 */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>

#include "base/error.h"
#include "http.h"

#define TAR_CALLS(X)                                                                                                   \
	X(archive_error_string)                                                                                        \
	X(archive_write_new) X(archive_write_set_format_pax_restricted) X(archive_write_open) X(                       \
		archive_write_header) X(archive_write_data) X(archive_write_finish_entry) X(archive_write_close)       \
		X(archive_write_free) X(archive_write_set_bytes_per_block) X(archive_write_add_filter_gzip) X(         \
			archive_read_new) X(archive_read_support_format_tar) X(archive_read_support_filter_none)       \
			X(archive_read_open) X(archive_read_next_header) X(archive_read_data_block) X(                 \
				archive_read_free) X(archive_entry_new) X(archive_entry_free) X(archive_entry_clear)   \
				X(archive_entry_set_pathname) X(archive_entry_copy_stat) X(archive_entry_set_symlink)  \
					X(archive_entry_set_hardlink) X(archive_entry_set_size)                        \
						X(archive_entry_set_mode) X(archive_entry_set_mtime) X(                \
							archive_entry_set_filetype) X(archive_entry_xattr_add_entry)   \
							X(archive_entry_pathname) X(archive_entry_mode)                \
								X(archive_entry_filetype) X(archive_entry_symlink) X(  \
									archive_entry_hardlink) X(archive_entry_uid)   \
									X(archive_entry_gid) X(archive_entry_mtime)    \
										X(archive_entry_mtime_nsec)            \
											X(archive_entry_rdev)          \
												X(archive_entry_size)

struct tar_library {
#define TAR_DECLARE(name) __typeof__(name) *name;
	TAR_CALLS(TAR_DECLARE)
#undef TAR_DECLARE
};

int tar_load(struct tar_library *lib, struct gt_error *err);

/* ---- making ---- */

struct tar_source;

/* Decides on a path relative to the tree ("a/b", a directory or not): false leaves it out. *descend, preset true, says
 * whether to look into a directory that is left out or kept. */
typedef bool tar_filter(void *arg, const char *path, bool directory, bool *descend);

/* An archive of `path` (file or directory) under the name `name`; "" or ".": the directory's contents alone. */
struct tar_source *tar_source_new(const char *path, const char *name, tar_filter *filter, void *arg, struct gt_error *err);
void tar_source_gzip(struct tar_source *source);        /* before anything is read */
/* Root owns everything in it. */
void tar_source_anonymous(struct tar_source *source);
/* A file of ours beside the tree's. */
int tar_source_add(struct tar_source *source, const char *name, const void *bytes, size_t len, struct gt_error *err);
/* As http_request.source wants it. */
ssize_t tar_source_read(void *source, const char **bytes, struct gt_error *err);
int64_t tar_source_size(const struct tar_source *source);       /* bytes made so far */
void tar_source_free(struct tar_source *source);

/* ---- unpacking ---- */

struct tar_target {
	int dirfd;                      /* everything goes below it */
	bool has_base;                  /* the names in the archive begin with the source's own name ... */
	const char *rename;             /* ... which becomes this; NULL: it stays */
	bool keep_owner;                /* owner, set-user-id bits and devices too */
	int64_t bytes;                  /* out: of file content */
};

int tar_extract(struct http_response *response, struct tar_target *target, struct gt_error *err);
