/*
 * build_session.h - private to core/engine: what the client of a build brings along for its commands.
 *
 * An extension of Docker's API, which other clients do not use. Before POST /build, the client opens POST /build/session?id=ID (64 hex digits of its
 * choice, at random) and gets a raw stream, as attach does; then it names it: POST /build?gantry-session=ID. On the stream the daemon asks and the client
 * answers, one after the other; numbers are big-endian:
 *
 *   question   kind (1 byte), length of the name (2), length of the message (4), name, message
 *                's'  the secret of this name; no message
 *                'a'  whether there is an SSH agent of this name; no message
 *                'm'  a message for that agent, as draft-miller-ssh-agent has it, with its own length
 *   answer     status (1 byte: 0 here it is, 1 there is none, 2 it failed), length (4), bytes; with status 2 they are a sentence
 *
 * So a secret is in the daemon's memory alone, and only while a command that mounts it is about to begin. The stream ends with the build.
 */
#pragma once

#include "engine/internal.h"

struct build_session;

#define SESSION_SECRET_MAX (1u << 20)
#define SESSION_AGENT_MAX (256u << 10)  /* as OpenSSH's agent has it */

/* Sessions that no build has taken yet; in struct gt_builds. */
struct build_sessions {
	pthread_mutex_t lock;
	struct gt_map open;             /* id -> struct build_session *; under lock */
};
void sessions_init(struct build_sessions *sessions);
void sessions_free(struct build_sessions *sessions);
/* fd is duplicated. */
int session_put(struct build_sessions *sessions, const char *id, int fd, struct gt_error *err);
/* The caller's, to be closed by session_close(). */
struct build_session *session_take(struct build_sessions *sessions, const char *id, struct gt_error *err);
void session_close(struct build_session *session);      /* NULL is fine */

/* 1, 0 (there is none) or -1. Thread safe: questions of several commands go one after the other. `stop` is asked while waiting. */
int session_secret(struct build_session *session, const char *name, bool (*stop)(void *arg), void *arg, struct gt_buf *value, struct gt_error *err);

/* build_agent.c: a socket at `path` whose messages go to the client's agent. As gt_build_host.agent. */
int agent_open(struct build_session *session, const char *name, const char *path, bool (*stop)(void *arg), void *arg, void **agent,
	       struct gt_error *err);
void agent_close(void *agent);
int session_ask(struct build_session *session, char kind, const char *name, const struct gt_buf *message, size_t max, bool (*stop)(void *arg),
		void *arg, struct gt_buf *answer, struct gt_error *err);
