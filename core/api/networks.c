/*
 * networks.c - networks.
 */
#include "api/handlers.h"

HANDLER(serve_network_list)
{
	AUTO_JSON json_t *filters = NULL;
	if (query_filters(&request->query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200, gt_network_list(request->api->engine, filters, err));
}

HANDLER(serve_network_inspect)
{
	const char *scope = query_text(&request->query, "scope");
	return answer_json(request, 200, gt_network_inspect(request->api->engine, req_segment(request, 0), scope, err));
}

static int need_body(const struct request *request, struct gt_error *err)
{
	return request->json ? 0 : gt_fail(err, GT_INVALID, "invalid JSON: got EOF while reading request body");
}

HANDLER(serve_network_create)
{
	if (need_body(request, err) < 0)
		return -1;
	return answer_json(request, 201, gt_network_create(request->api->engine, request->json, err));
}

HANDLER(serve_network_connect)
{
	if (need_body(request, err) < 0 || gt_network_connect(request->api->engine, req_segment(request, 0), request->json, err) < 0)
		return -1;
	return answer_empty(request, 200);
}

HANDLER(serve_network_disconnect)
{
	const char *container = NULL;
	bool force = false;
	if (need_body(request, err) < 0 || gt_json_string(request->json, "Container", &container, err) < 0 ||
	    gt_json_bool(request->json, "Force", &force, err) < 0)
		return -1;
	if (!container || !*container)
		return gt_fail(err, GT_INVALID, "Container is missing: name the container to disconnect");
	if (gt_network_disconnect(request->api->engine, req_segment(request, 0), container, force, err) < 0)
		return -1;
	return answer_empty(request, 200);
}

HANDLER(serve_network_remove)
{
	if (gt_network_remove(request->api->engine, req_segment(request, 0), err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_network_prune)
{
	AUTO_JSON json_t *filters = NULL;
	if (query_filters(&request->query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200, gt_networks_prune(request->api->engine, filters, err));
}
