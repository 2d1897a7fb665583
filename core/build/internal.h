/*
 * internal.h - private to core/build.
 *
 * dockerfile*.c   the parser
 * checks.c        warnings about a Dockerfile that works
 * plan.c          stages, what each needs, which of them are built
 * scope.c         ARG and ENV: what variables stand for
 * build.c         the threads that build stages, and how they end
 * stage.c         one stage: FROM, then step after step; configuration
 * step_copy.c     ADD, COPY and WORKDIR
 * step_run.c      RUN, with its mounts (mounts.h)
 * cache.c         keys, and what the cache has
 * output.c        what users see, in the order of the Dockerfile whatever runs in parallel
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/map.h"
#include "build/build.h"
#include "build/dockerfile.h"
#include "image/words.h"

#define MAX_STAGES 256

/* ---- scope.c ---- */

/* Values of ARG, by name; owned strings. An ARG without a value is declared and not set: its value is NULL. */
struct vars {
	struct gt_strings names;
	char **values;
};
void vars_set(struct vars *args, const char *name, const char *value);
bool vars_declared(const struct vars *args, const char *name);
const char *vars_get(const struct vars *args, const char *name, size_t len);
void vars_copy(struct vars *to, const struct vars *from);
void vars_free(struct vars *args);
/* Those that need no ARG: HTTP_PROXY and so on. They are not part of keys. */
bool arg_is_proxy(const char *name);

/* ---- plan.c ---- */

struct stage {
	size_t index;
	char *name;                     /* lower case; NULL: none */
	char *from;                     /* expanded: an image's name, "scratch", or a stage's */
	char *platform;                 /* NULL: any */
	int base;                       /* index of the stage it begins with; -1: an image */
	size_t first, count;            /* instructions; the first is FROM */
	bool needed;
	bool needs[MAX_STAGES];         /* stages that come before it */
	/* while building; under build->lock */
	enum { STAGE_WAITS, STAGE_RUNS, STAGE_DONE, STAGE_FAILED } state;
	/* its result, fixed once it is done */
	char image[72];
	char root[72];                  /* the image that it came from, at the beginning of its line of stages; "": scratch */
	struct gt_image_config config;
	struct vars args;
	int first_step;                 /* number of FROM among all steps */
};

struct plan {
	struct dockerfile file;
	struct stage *stages;
	size_t count, target;
	struct vars global;             /* ARG before the first FROM, and the platform's */
	int steps;                      /* in all that is built */
	json_t *unused_args;            /* of --build-arg: {"A": "..."} that no ARG has taken yet */
};
int plan_make(const struct gt_build_options *options, struct plan *plan, struct gt_error *err);
void plan_free(struct plan *plan);
/* A stage by name or number among those before `before`; -1. */
int plan_find_stage(const struct plan *plan, const char *name, size_t before);
/* ARG: every NAME or NAME=VALUE. global: defaults from there; NULL: this is the global scope. */
int arg_apply(const struct gt_build_options *options, const struct gt_scope *scope, const char *text, const struct vars *global,
	      struct vars *args, struct gt_error *err);
/* The value of NAME in "from=NAME,..." of a mount; NULL. The caller's. */
char *mount_option(const char *mount, const char *name);

/* ---- checks.c ---- */
/* Adds to file->warnings; fails where the Dockerfile or the build asks for that. */
int dockerfile_lint(const struct gt_build_options *options, struct dockerfile *file, struct gt_error *err);

/* ---- output.c ---- */

struct output {
	struct gt_progress *progress;
	pthread_mutex_t lock;           /* guards all below, and the calls of progress */
	pthread_cond_t moved;
	size_t front, count;            /* the stage whose messages go out at once */
	json_t **waiting;               /* by stage: messages of those behind it */
	size_t *waiting_bytes;
	bool *done;
	bool stop;                      /* nobody waits any more */
};
void output_open(struct output *output, struct gt_progress *progress, size_t stages);
void output_close(struct output *output);
void output_text(struct output *output, size_t stage, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void output_bytes(struct output *output, size_t stage, const char *bytes, size_t len);
void output_message(struct output *output, size_t stage, json_t *message);
/* The stage says nothing more. */
void output_end_stage(struct output *output, size_t stage);
/* An end before the end: what the stage that failed (-1: none) had to say goes out, the rest is dropped, and nobody waits. */
void output_stop(struct output *output, ssize_t failed);

/* ---- build.c ---- */

struct build {
	struct gt_images *images;
	const struct gt_build_options *options;
	const struct gt_build_host *host;
	struct plan plan;
	struct output output;
	int64_t epoch;                  /* SOURCE_DATE_EPOCH in s; -1: not given */
	int64_t began;                  /* ns */
	struct gt_strings cache_from;   /* ids of those that are there */
	atomic_bool stop;
	atomic_int serial;              /* names below work_dir */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct gt_error error;          /* the first failure */
};
bool build_stopped(void *build);
/* A fresh directory below work_dir. The caller's. */
char *build_make_dir(struct build *build, const char *what, struct gt_error *err);

/* ---- stage.c ---- */

/* One stage under way; its thread's alone. */
struct run {
	struct build *build;
	struct stage *stage;
	const struct instruction *item; /* at hand */
	const struct dockerfile *file;  /* that it stands in */
	int step;                       /* its number */
	char root[72];                  /* as in struct stage */
	char image[72];                 /* so far; "": from scratch, and nothing made yet */
	struct gt_image_config config;
	struct vars args;
	const char *author;             /* MAINTAINER; NULL */
	char *maintainer;
	const char *architecture, *variant;
};
int stage_build(struct build *build, struct stage *stage, struct gt_error *err);
struct gt_scope run_scope(struct run *run);
void run_say(struct run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- cache.c ---- */

/* What a step is made from, beside its parent: strings, each of which counts. Ends with NULL. */
void step_key(struct run *run, char key[65], const char *first, ...) __attribute__((sentinel));
/* The step's image from the cache, which becomes the run's: true. */
bool step_cached(struct run *run, struct gt_image_step *step);
/* Makes it, which becomes the run's. */
int step_make(struct run *run, struct gt_image_step *step, struct gt_error *err);
/* Cached or made, and told. */
int step_do(struct run *run, struct gt_image_step *step, struct gt_error *err);
/* A step of this run with what all steps have. */
struct gt_image_step step_begin(struct run *run, const char *created_by);
char *config_text(const struct gt_image_config *config);

/* ---- step_copy.c, step_run.c, mounts.c ---- */
int step_copy(struct run *run, struct gt_error *err);
int step_workdir(struct run *run, struct gt_error *err);
int step_run(struct run *run, struct gt_error *err);
/* An image to copy or mount from: a stage before this one, or any other image. */
int resolve_from(struct run *run, const char *name, char id[72], struct gt_error *err);
int find_or_pull(struct run *run, const char *name, const char *platform, bool always, struct gt_image *image, struct gt_error *err);

#define MAX_MOUNTS 64

struct mount;   /* mounts.h */

struct cache_lock {
	char *id, name[80];             /* name: of its directory */
	int strictness;                 /* 0: shared, 1: private, 2: locked */
	int fd;
};

struct mounts {
	struct mount *items;
	size_t count;
	struct gt_buf key;              /* what they contribute to the step's key */
	json_t *list;                   /* HostConfig.Mounts */
	struct gt_strings env;          /* of secrets and agents: for the command alone, never stored */
	struct gt_strings files;        /* of both */
	struct gt_strings points;       /* targets */
	void *agents[MAX_MOUNTS];
	size_t agent_count;
	struct cache_lock locks[MAX_MOUNTS];
	size_t lock_count;
};
int mounts_read(struct run *run, struct mounts *mounts, struct gt_error *err);
int mounts_key(struct run *run, struct mounts *mounts, struct gt_error *err);
int mounts_prepare(struct run *run, struct mounts *mounts, struct gt_error *err);
void mounts_end(struct run *run, struct mounts *mounts);
