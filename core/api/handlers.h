/*
 * handlers.h - one function for each row of the route table. Each checks its parameters, calls the engine, and sets the answer
 * (answer_*), or returns -1 with err. They run on the connection's thread.
 */
#pragma once

#include "api/internal.h"

#define HANDLER(name) int name(struct request *request, struct gt_error *err)

/* containers.c */
HANDLER(serve_container_list);
HANDLER(serve_container_create);
HANDLER(serve_container_inspect);
HANDLER(serve_container_start);
HANDLER(serve_container_stop);
HANDLER(serve_container_restart);
HANDLER(serve_container_kill);
HANDLER(serve_container_pause);
HANDLER(serve_container_unpause);
HANDLER(serve_container_rename);
HANDLER(serve_container_update);
HANDLER(serve_container_remove);
HANDLER(serve_container_prune);
HANDLER(serve_container_commit);

/* container_io.c */
HANDLER(serve_container_attach);
HANDLER(serve_container_attach_ws);
HANDLER(serve_container_logs);
HANDLER(serve_container_wait);
HANDLER(serve_container_resize);
HANDLER(serve_container_stats);
HANDLER(serve_container_top);

/* container_files.c */
HANDLER(serve_archive_stat);
HANDLER(serve_archive_get);
HANDLER(serve_archive_put);
HANDLER(serve_container_export);
HANDLER(serve_container_changes);

/* exec.c */
HANDLER(serve_exec_create);
HANDLER(serve_exec_start);
HANDLER(serve_exec_resize);
HANDLER(serve_exec_inspect);

/* images.c */
HANDLER(serve_image_list);
HANDLER(serve_image_inspect);
HANDLER(serve_image_history);
HANDLER(serve_image_tag);
HANDLER(serve_image_remove);
HANDLER(serve_image_prune);
HANDLER(serve_image_save);
HANDLER(serve_image_save_many);
HANDLER(serve_image_load);
HANDLER(serve_image_create);
HANDLER(serve_image_pull);         /* registry.c: what create does with fromImage */

/* networks.c */
HANDLER(serve_network_list);
HANDLER(serve_network_inspect);
HANDLER(serve_network_create);
HANDLER(serve_network_connect);
HANDLER(serve_network_disconnect);
HANDLER(serve_network_remove);
HANDLER(serve_network_prune);

/* volumes.c */
HANDLER(serve_volume_list);
HANDLER(serve_volume_inspect);
HANDLER(serve_volume_create);
HANDLER(serve_volume_remove);
HANDLER(serve_volume_prune);

/* system.c */
HANDLER(serve_ping);
HANDLER(serve_version);
HANDLER(serve_info);
HANDLER(serve_events);
HANDLER(serve_df);
HANDLER(serve_doctor);

/* plugins.c */
HANDLER(serve_plugin_list);
HANDLER(serve_plugin_inspect);
HANDLER(serve_plugin_enable);
HANDLER(serve_plugin_disable);
HANDLER(serve_plugin_reload);
HANDLER(serve_plugin_other);

/* registry.c */
HANDLER(serve_image_push);
HANDLER(serve_image_search);
HANDLER(serve_auth);
HANDLER(serve_distribution);
HANDLER(serve_session);

/* build.c */
HANDLER(serve_build);
HANDLER(serve_build_cancel);
HANDLER(serve_build_session);
HANDLER(serve_build_files);
HANDLER(serve_build_prune);

/* swarm.c */
HANDLER(serve_swarm_none);
HANDLER(serve_swarm_join);
HANDLER(serve_swarm_leave);
