/*
 * git.h - libgit2 by dlopen, for the one job that needs it: all others start without it.
 */
#pragma once

#include <git2.h>

#include "base/error.h"

#define GIT_CALLS(X)                                                                                                          \
	X(git_libgit2_init) X(git_libgit2_opts) X(git_error_last) X(git_repository_init_ext) X(git_repository_free) X(git_repository_odb) \
	X(git_repository_set_head_detached) X(git_remote_create) X(git_remote_connect) X(git_remote_connected) X(git_remote_ls) X(git_remote_disconnect) \
	X(git_remote_fetch) X(git_remote_free) X(git_revparse_single) X(git_object_peel) X(git_object_id) X(git_object_free) \
	X(git_oid_tostr) X(git_commit_tree) X(git_tree_walk) X(git_tree_free) X(git_tree_entry_type) X(git_tree_entry_id)        \
	X(git_tree_lookup) X(git_odb_read_header) X(git_odb_free) X(git_checkout_tree) X(git_submodule_foreach) X(git_submodule_url) \
	X(git_submodule_path) X(git_submodule_index_id) X(git_submodule_resolve_url) X(git_buf_dispose)

struct git_calls {
#define GIT_DECLARE(name) __typeof__(name) *name;
	GIT_CALLS(GIT_DECLARE)
#undef GIT_DECLARE
};

/* Set up, with no configuration but what the job gives it. */
int git_load(struct git_calls *git, struct gt_error *err);
