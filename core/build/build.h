/*
 * build.h - Dockerfile builds: parse, plan, and make one image after another.
 *
 * A Dockerfile's stages are a graph: those that the target does not need are not built, independent ones run in parallel. Each instruction is a step; its
 * image is found again by what it was made from (image/step.c), or made: without a container where files are copied or configuration is set, with
 * one where a command runs. What needs containers and the network is the host's, the engine's: a table of functions.
 *
 * gt_build() works on the caller's thread and some of its own, and returns when all have ended. A failure or a host that says `cancelled` ends them all;
 * what is left then are images of steps that were done: the cache.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "image/image.h"

/* URL#REF:DIRECTORY of a git repository. */
struct gt_git_url {
	char *url, *ref, *directory;    /* "" where not given */
};
bool gt_git_is_url(const char *text);
int gt_git_url_read(const char *text, struct gt_git_url *url, struct gt_error *err);
void gt_git_url_free(struct gt_git_url *url);

/* One RUN. All borrowed. */
struct gt_build_run {
	const char *image;              /* id */
	const struct gt_strings *argv, *env;
	const struct gt_strings *secret_env;    /* more of it, which is told to nobody but the command */
	json_t *mounts;                 /* as HostConfig.Mounts */
	const char *network;            /* NULL: the build's */
	void (*started)(void *arg, const char *container);
	void (*output)(void *arg, const char *bytes, size_t len);
	bool (*stop)(void *arg);        /* asked often */
	void *arg;                      /* of the three */
};

struct gt_build_host {
	void *arg;
	/* Runs to the end; *exit_code. The container, whose id is its writable layer, stays until run_end(). */
	int (*run)(void *arg, const struct gt_build_run *run, char container[65], int *exit_code, struct gt_error *err);
	void (*run_end)(void *arg, const char *container);
	/* Makes the image available: GT_NOT_FOUND where it cannot be had. */
	int (*pull)(void *arg, const char *reference, const char *platform, struct gt_progress *progress, struct gt_error *err);
	/* GET url into fd; *modified: its Last-Modified in s, or 0. */
	int (*fetch)(void *arg, const char *url, int fd, int64_t *modified, struct gt_error *err);
	/* The files of a commit, below the fresh directory `dir`; commit: its id. *files: where the URL's directory is, links followed inside `dir`; the
	 * caller's. keep: with .git. */
	int (*clone)(void *arg, const struct gt_git_url *url, bool keep, const char *dir, char **files, char commit[65], struct gt_error *err);
	/* What the client has by this id: 1 and its bytes, 0: nothing. */
	int (*secret)(void *arg, const char *id, struct gt_buf *value, struct gt_error *err);
	/* A socket at `path` behind which the client's SSH agent of this id answers: 1 until agent_end(*agent), 0: the client forwards none. */
	int (*agent)(void *arg, const char *id, const char *path, void **agent, struct gt_error *err);
	void (*agent_end)(void *arg, void *agent);
	bool (*cancelled)(void *arg);
};

struct gt_build_options {
	const char *dockerfile;         /* its name, for messages */
	const char *text;
	size_t text_len;
	const char *context_dir;        /* what was sent; an empty directory where nothing was */
	const char *digests;            /* path of digests of its files (gt_fs_context); NULL */
	const struct gt_strings *ignore;        /* .dockerignore */
	const char *work_dir;           /* empty; the caller removes it */
	const char *cache_dir;          /* of RUN --mount=type=cache; lasting */
	const char *secret_dir;         /* for secrets while a command runs: in memory, and nobody else's */
	const char *holder;             /* name of the build's holds */
	const json_t *build_args;       /* {"A": "1", "B": null} */
	const json_t *labels;
	const struct gt_strings *cache_from;
	const char *target, *platform;  /* NULL or "" */
	bool no_cache, pull;
	bool squash;                    /* the result has one layer over the image that the target began with */
	bool keep;                      /* the result becomes an image; else it stays a step, in the cache */
};

/* id: of the result, which is held. progress->emit may be called from several threads, one at a time. */
int gt_build(struct gt_images *images, const struct gt_build_options *options, const struct gt_build_host *host, struct gt_progress *progress,
	     char id[72], struct gt_error *err);
