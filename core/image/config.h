/*
 * config.h - the "config" object of an image: what containers of it run by default (OCI image-spec config.md, and Docker's additions).
 */
#pragma once

#include "base/json.h"

struct gt_image_config {
	char *user, *working_dir, *stop_signal;
	struct gt_strings env, cmd, entrypoint, shell, on_build;
	json_t *exposed_ports;          /* {"80/tcp": {}} or NULL */
	json_t *volumes;                /* {"/data": {}} or NULL */
	json_t *labels;                 /* {"a": "b"} or NULL */
	json_t *healthcheck;            /* Docker's HealthConfig or NULL */
	bool args_escaped;
	bool cmd_changed;               /* not in JSON: a CMD was applied, so a later ENTRYPOINT keeps it */
};

extern const struct gt_json_field gt_image_config_fields[];     /* for gt_json_decode/encode/release */

/* Applies one Dockerfile instruction of commit and import (`--change`): CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD,
 * STOPSIGNAL, USER, VOLUME, WORKDIR, HEALTHCHECK. */
int gt_image_config_change(struct gt_image_config *config, const char *instruction, struct gt_error *err);
/* The same with variables from elsewhere, for builds; SHELL as well. */
struct gt_scope;
int gt_image_config_apply(struct gt_image_config *config, const struct gt_scope *scope, const char *instruction, struct gt_error *err);
