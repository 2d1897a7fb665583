/*
 * config.c - the table of an image's "config" object.
 */
#include "image/config.h"

#include "internal.h"

#define STRUCT struct gt_image_config

const struct gt_json_field gt_image_config_fields[] = {
	GT_JSON_FIELD(GT_JSON_STRING, STRUCT, user, "User"),
	{ .name = "ExposedPorts", .type = GT_JSON_RAW, .offset = offsetof(STRUCT, exposed_ports), .omit_empty = true },
	GT_JSON_FIELD(GT_JSON_STRINGS, STRUCT, env, "Env"),
	GT_JSON_FIELD(GT_JSON_STRING_OR_LIST, STRUCT, entrypoint, "Entrypoint"),
	GT_JSON_FIELD(GT_JSON_STRING_OR_LIST, STRUCT, cmd, "Cmd"),
	{ .name = "Healthcheck", .type = GT_JSON_RAW, .offset = offsetof(STRUCT, healthcheck), .omit_empty = true },
	{ .name = "ArgsEscaped", .type = GT_JSON_BOOL, .offset = offsetof(STRUCT, args_escaped), .omit_empty = true },
	GT_JSON_FIELD(GT_JSON_RAW, STRUCT, volumes, "Volumes"),
	GT_JSON_FIELD(GT_JSON_STRING, STRUCT, working_dir, "WorkingDir"),
	GT_JSON_FIELD(GT_JSON_STRINGS, STRUCT, on_build, "OnBuild"),
	GT_JSON_FIELD(GT_JSON_RAW, STRUCT, labels, "Labels"),
	{ .name = "StopSignal", .type = GT_JSON_STRING, .offset = offsetof(STRUCT, stop_signal), .omit_empty = true },
	{ .name = "Shell", .type = GT_JSON_STRINGS, .offset = offsetof(STRUCT, shell), .omit_empty = true },
	{ .name = NULL },
};
