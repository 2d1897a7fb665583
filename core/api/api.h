/*
 * api.h - the Docker Engine API over HTTP: the daemon's only face to the outside.
 *
 * libmicrohttpd speaks HTTP, one thread for each connection (handlers may block, and a waiting client costs a sleeping thread). tcp listeners
 * terminate TLS in front of it (tls.c). A request runs through request.c: route, version, query, body, handler, answer; nothing
 * is shared between requests but the engine, which is thread safe.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"

struct gt_engine;
struct gt_config;
struct gt_api;

/* Listens on every entry of config->listen and answers from now on. Both outlive the api. */
int gt_api_start(struct gt_engine *engine, const struct gt_config *config, struct gt_api **api, struct gt_error *err);

/* Requests that are being served, for a debug dump: [{"Method","Uri","Thread","Seconds"}]; a stream or an attached session is one as long as it lasts.
 * Thread safe. The caller's. */
json_t *gt_api_requests(struct gt_api *api);

/* Takes no more connections, ends streams, and waits for requests under way up to config->shutdown_timeout. Attached sessions
 * belong to their shims by then and go on (those over TLS end). Requests that are still not done would use the engine after its end: then
 * the process ends here, which the daemon's state survives by design. */
void gt_api_stop(struct gt_api *api);
