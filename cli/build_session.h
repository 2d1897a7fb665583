/*
 * build_session.h - what `gantry build` brings along for RUN --mount=type=secret and type=ssh: --secret and --ssh.
 *
 * The daemon asks for it over a stream of its own (core/engine/build_session.h has the protocol); a thread here answers. A secret's file is read when it is asked
 * for, and its bytes are not kept.
 */
#pragma once

#include "cli.h"

struct build_session;

/* *session stays NULL where the command line has neither flag. */
int build_session_open(struct cli *cli, const struct args *args, struct build_session **session, struct gt_error *err);
const char *build_session_id(const struct build_session *session);      /* NULL for NULL */
void build_session_close(struct build_session *session);                /* NULL is fine */
