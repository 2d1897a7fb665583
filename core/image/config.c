/*
 * config.c - the table of an image's "config" object.
 */
#include "image/config.h"

#include "internal.h"

#define STRUCT struct gt_image_config

const struct gt_json_field gt_image_config_fields[] = {
	GT_JSON_FIELD(GT_JSON_STRING, STRUCT, user, "User"),
	GT_JSON_OPTIONAL(GT_JSON_RAW, STRUCT, exposed_ports, "ExposedPorts"),
	GT_JSON_FIELD(GT_JSON_STRINGS, STRUCT, env, "Env"),
	GT_JSON_FIELD(GT_JSON_STRING_OR_LIST, STRUCT, entrypoint, "Entrypoint"),
	GT_JSON_FIELD(GT_JSON_STRING_OR_LIST, STRUCT, cmd, "Cmd"),
	GT_JSON_OPTIONAL(GT_JSON_RAW, STRUCT, healthcheck, "Healthcheck"),
	GT_JSON_OPTIONAL(GT_JSON_BOOL, STRUCT, args_escaped, "ArgsEscaped"),
	GT_JSON_FIELD(GT_JSON_RAW, STRUCT, volumes, "Volumes"),
	GT_JSON_FIELD(GT_JSON_STRING, STRUCT, working_dir, "WorkingDir"),
	GT_JSON_FIELD(GT_JSON_STRINGS, STRUCT, on_build, "OnBuild"),
	GT_JSON_FIELD(GT_JSON_RAW, STRUCT, labels, "Labels"),
	GT_JSON_OPTIONAL(GT_JSON_STRING, STRUCT, stop_signal, "StopSignal"),
	GT_JSON_OPTIONAL(GT_JSON_STRINGS, STRUCT, shell, "Shell"),
	{ .name = NULL },
};
