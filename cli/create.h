/*
 * create.h - from the flags of `run` and `create` to a container: the request's body, the pull of a missing image,
 * the id file. (create_body.c, create.c)
 */
#pragma once

#include "cli.h"

/* The body of POST /containers/create; *body is the caller's. */
int create_body(const struct args *args, json_t **body, struct gt_error *err);
/* Creates it; prints warnings, and what a pull says, to standard error. *id is the caller's. */
int create_container(struct cli *cli, const struct args *args, const json_t *body, char **id, struct gt_error *err);

int command_create(struct cli *cli, struct args *args, struct gt_error *err);
int command_run(struct cli *cli, struct args *args, struct gt_error *err);

/* Limits, shared with `update`: sets fields of HostConfig from the flags that were given. */
int create_resources(const struct args *args, json_t *host, struct gt_error *err);
