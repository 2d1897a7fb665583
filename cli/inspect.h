/* inspect.h - the daemon's description of an object. */
#pragma once

#include "cli.h"

typedef json_t *inspect_function(struct cli *cli, const struct args *args, const char *name, struct gt_error *err);

/* Prints each operand's object; those that fail are told, and the exit status is 1. */
int inspect_all(struct cli *cli, struct args *args, inspect_function *get, struct gt_error *err);

int command_inspect(struct cli *cli, struct args *args, struct gt_error *err);
int command_container_inspect(struct cli *cli, struct args *args, struct gt_error *err);
int command_image_inspect(struct cli *cli, struct args *args, struct gt_error *err);
int command_volume_inspect(struct cli *cli, struct args *args, struct gt_error *err);
int command_network_inspect(struct cli *cli, struct args *args, struct gt_error *err);
int command_plugin_inspect(struct cli *cli, struct args *args, struct gt_error *err);
