/*
 * container.h - the commands on containers, and the pieces they share with other families.
 */
#pragma once

#include "cli.h"
#include "image.h"

json_t *container_inspect(struct cli *cli, const char *name, struct gt_error *err);

/* -o FILE, or standard output where it is no terminal. */
int output_open(const char *path, const char *what, struct gt_error *err);
int output_download(struct cli *cli, const char *url, const char *path, const char *what, struct gt_error *err);

void print_deleted(const char *title, const json_t *names);
int print_reclaimed(const json_t *answer);

/* The containers of `system df -v`. */
int ps_print_usage(const json_t *containers, struct gt_error *err);

typedef int command_function(struct cli *cli, struct args *args, struct gt_error *err);
command_function command_start, command_stop, command_restart, command_kill, command_pause, command_unpause, command_rm,
	command_wait, command_attach, command_rename, command_update, command_commit, command_export, command_container_prune,
	command_ps, command_logs, command_exec, command_top, command_stats, command_diff, command_port, command_cp;
