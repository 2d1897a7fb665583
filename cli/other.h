/* other.h - commands on volumes, networks, images, the system, plugins and registries. */
#pragma once

#include "cli.h"

typedef int other_function(struct cli *cli, struct args *args, struct gt_error *err);

other_function command_volume_ls, command_volume_create, command_volume_rm, command_volume_prune;
other_function command_network_ls, command_network_create, command_network_rm, command_network_prune, command_network_connect,
	command_network_disconnect;
other_function command_images, command_rmi, command_tag, command_history, command_image_prune;
other_function command_pull, command_push, command_save, command_load, command_import, command_build, command_builder_prune;
other_function command_login, command_logout, command_search;
other_function command_info, command_version, command_events, command_df, command_doctor, command_system_prune;
other_function command_plugin_check;
other_function command_plugin_disable;
other_function command_plugin_enable;
other_function command_plugin_ls;
other_function command_plugin_new;
other_function command_plugin_reload;
other_function command_completion, command_man;

/* system.c: prints object through --format ("json" or a template). */
int print_formatted(const char *format, const json_t *object, struct gt_error *err);
/* build.c: prunes the build cache; also a step of system prune. *answer may be NULL where the daemon has none. */
int prune_build_cache(struct cli *cli, bool all, const struct gt_strings *filters, json_t **answer, struct gt_error *err);
