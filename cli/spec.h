/*
 * spec.h - the small languages in the values of `run` and `create`: ports, volumes, mounts, networks, devices, limits,
 * environment files. Each takes the text a person wrote and adds to a JSON value of the create request, or says what
 * is wrong with it. (spec_port.c, spec_mount.c, spec_misc.c)
 */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "base/json.h"

/* "127.0.0.1:8080-8081:80-81/tcp": adds to ExposedPorts and PortBindings. */
int spec_publish(const char *text, json_t *exposed, json_t *bindings, struct gt_error *err);
/* "80-90/udp" */
int spec_expose(const char *text, json_t *exposed, struct gt_error *err);

/* "name:/path:ro", "./here:/path", "/path": adds to binds (a list) or volumes (an object). */
int spec_volume(const char *text, json_t *binds, json_t *volumes, struct gt_error *err);
/* "type=bind,source=/a,target=/b,readonly": a new Mount, or NULL. */
json_t *spec_mount(const char *text, struct gt_error *err);
/* "/path:size=1m" */
int spec_tmpfs(const char *text, json_t *tmpfs, struct gt_error *err);

/* "name=net,alias=a,ip=1.2.3.4" or just a name: *endpoint is a new EndpointSettings, *name the network's. */
int spec_network(const char *text, char **name, json_t **endpoint, struct gt_error *err);

json_t *spec_device(const char *text, struct gt_error *err);            /* "/dev/a:/dev/b:rwm" */
json_t *spec_ulimit(const char *text, struct gt_error *err);            /* "nofile=100:200" */
json_t *spec_restart(const char *text, struct gt_error *err);           /* "on-failure:3" */
json_t *spec_weight_device(const char *text, struct gt_error *err);     /* "/dev/sda:500" */
/* "/dev/sda:1mb"; bytes: the rate is a size, else a plain number */
json_t *spec_rate_device(const char *text, bool bytes, struct gt_error *err);
json_t *spec_gpus(const char *text, struct gt_error *err);              /* "all", "2", "device=0,1" */
/* --security-opt: reads the file behind seccomp=FILE; "systempaths=unconfined" clears the lists in host. */
int spec_security(const char *text, json_t *list, json_t *host, struct gt_error *err);
/* "host:ip" or "host=ip" */
int spec_add_host(const char *text, json_t *list, struct gt_error *err);

/* Lines KEY=VALUE of a file; with from_environment, a line KEY takes the caller's value. */
int spec_read_file(const char *path, bool from_environment, struct gt_strings *out, struct gt_error *err);
/* -e and --env-file as the API wants them. */
int spec_environment(const struct gt_strings *files, const struct gt_strings *given, struct gt_strings *out,
		     struct gt_error *err);
/* --label-file and --label as an object. */
int spec_labels(const struct gt_strings *files, const struct gt_strings *given, json_t *labels, struct gt_error *err);
