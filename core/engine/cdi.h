/*
 * cdi.h - devices of others by the Container Device Interface: files on the host say what a container needs to use one (CNCF CDI specification 0.8).
 *
 * HostConfig.DeviceRequests name devices ("vendor.com/gpu=0", driver "cdi") or ask for some with a capability (--gpus). Files are read when a request comes,
 * so that a new one needs no restart. Edits: env, device nodes, mounts, additional groups; what asks for more (hooks, intelRdt, netDevices) is refused by
 * name.
 */
#pragma once

#include "engine/internal.h"

/* At create: whether all that is asked for is there now. */
int cdi_check(struct gt_engine *engine, const json_t *requests, struct gt_error *err);
/* At start: puts it into an OCI configuration. */
int cdi_apply(struct gt_engine *engine, const json_t *requests, json_t *config, struct gt_error *err);

/* ---- private to cdi*.c ---- */

/* The files of all directories that are well formed, those of greater weight first: an array of CDI objects. Others are warned of. */
json_t *cdi_files_read(const struct gt_strings *dirs);
/* YAML as JSON: one document, without anchors. */
json_t *cdi_yaml_parse(const char *text, size_t len, struct gt_error *err);
