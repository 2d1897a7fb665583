/* flags.h - the lists of flags that the table of commands refers to. */
#pragma once

#include "command.h"

#define TRUST "signed images are not supported"
#define CLUSTER "there are no clusters of hosts here"

#define FLAG(name_, letter_, type_, initial_, doc_) \
	{ .name = name_, .letter = letter_, .type = FLAG_##type_, .initial = initial_, .doc = doc_ }
#define NAMED(name_, letter_, type_, initial_, doc_, word_) \
	{ .name = name_, .letter = letter_, .type = FLAG_##type_, .initial = initial_, .doc = doc_, .type_name = word_ }
#define REFUSED(name_, letter_, type_, initial_, why_) \
	{ .name = name_, .letter = letter_, .type = FLAG_##type_, .initial = initial_, .refuse = why_ }
#define ALIAS(name_, of_) { .name = name_, .alias = of_ }
#define END_OF_FLAGS { .name = NULL }

extern const struct flag flags_create[], flags_run[], flags_update[], flags_exec[];
extern const struct flag flags_attach[], flags_commit[], flags_cp[], flags_output[], flags_kill[], flags_logs[],
	flags_ps[], flags_prune[], flags_stop[], flags_rm[], flags_start[], flags_stats[], flags_inspect[],
	flags_container_inspect[], flags_one_inspect[], flags_network_inspect[], flags_build[], flags_images[],
	flags_history[], flags_import[], flags_load[], flags_save[], flags_image_prune[], flags_rmi[], flags_pull[],
	flags_push[], flags_builder_prune[], flags_login[], flags_search[], flags_volume_create[], flags_volume_ls[],
	flags_volume_prune[], flags_volume_rm[], flags_network_create[], flags_network_connect[],
	flags_network_disconnect[], flags_network_ls[], flags_network_rm[], flags_df[], flags_events[],
	flags_system_prune[], flags_doctor[], flags_plugin_enable[], flags_plugin_disable[], flags_plugin_reload[];
