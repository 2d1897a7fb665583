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

#include "base/error.h"
#include "base/json.h"
#include "image/image.h"

/* One RUN. All borrowed. */
struct gt_build_run {
	const char *image;              /* id */
	const struct gt_strings *argv, *env;
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
	bool (*cancelled)(void *arg);
};

struct gt_build_options {
	const char *dockerfile;         /* its name, for messages */
	const char *text;
	size_t text_len;
	const char *context_dir;        /* what was sent; an empty directory where nothing was */
	const struct gt_strings *ignore;        /* .dockerignore */
	const char *work_dir;           /* empty; the caller removes it */
	const char *cache_dir;          /* of RUN --mount=type=cache; lasting */
	const char *holder;             /* name of the build's holds */
	const json_t *build_args;       /* {"A": "1", "B": null} */
	const json_t *labels;
	const struct gt_strings *cache_from;
	const char *target, *platform;  /* NULL or "" */
	bool no_cache, pull;
};

/* id: of the result, which is held. progress->emit may be called from several threads, one at a time. */
int gt_build(struct gt_images *images, const struct gt_build_options *options, const struct gt_build_host *host, struct gt_progress *progress,
	     char id[72], struct gt_error *err);
