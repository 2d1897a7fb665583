/*
 * build_job.h - private to core/engine: one build under way.
 *
 * build.c           from the request to the end; what core/build asks for
 * build_context.c   the context: unpacked, fetched or cloned; the Dockerfile and what is ignored
 * build_session.h   what the client brings along
 * build_run.c       containers of steps
 * url_fetch.c       URLs
 */
#pragma once

#include "build/build.h"
#include "engine/build_session.h"

#define MAX_CONTEXT (1ll << 40)
#define MAX_CONTEXT_ENTRIES 4000000
#define MAX_FETCH (1ll << 36)

struct gt_builds {
	char *work, *cache, *secrets, *trash;   /* directories */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	size_t running;                 /* under lock */
	atomic_bool stop;
	struct build_sessions sessions;
};

struct build_job {
	struct gt_engine *engine;
	const struct gt_build_request *request;
	struct gt_progress *progress;
	json_t *host_config;
	char holder[80];                /* "build-<id>" */
	char *dir;                      /* of its files */
	char *context;                  /* where the context is, below dir */
	char *digests;                  /* file, of what is in the context; NULL where none were taken */
	char *secrets;                  /* of its secrets, below /run */
	struct build_session *session;  /* NULL: the client brings nothing along */
	struct gt_strings ignore;
	struct gt_buf dockerfile;
	bool told;                      /* messages went out: failures are messages too */
};

/* Takes message over; NULL is fine. */
void job_say(struct build_job *job, json_t *message);
/* Nobody waits for the build any more. arg: the job. */
bool job_cancelled(void *arg);

/* ---- build_context.c ---- */
/* Fills context, dockerfile and ignore. */
int job_read_context(struct build_job *job, int in_fd, struct gt_error *err);
/* As gt_build_host has it. */
int job_clone(struct build_job *job, const struct gt_git_url *url, bool keep, const char *dir, char **files, char commit[65], struct gt_error *err);
