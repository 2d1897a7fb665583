/*
 * volumes.c - volumes.
 */
#include "api/handlers.h"

HANDLER(serve_volume_list)
{
	AUTO_JSON json_t *filters = NULL;
	if (query_filters(&request->query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200, gt_volume_list(request->api->engine, filters, err));
}

HANDLER(serve_volume_inspect)
{
	return answer_json(request, 200, gt_volume_inspect(request->api->engine, req_segment(request, 0), err));
}

HANDLER(serve_volume_create)
{
	AUTO_JSON json_t *nothing = json_object();      /* an unnamed volume */
	const json_t *body = request->json ? request->json : nothing;
	return answer_json(request, 201, gt_volume_create(request->api->engine, body, err));
}

HANDLER(serve_volume_remove)
{
	bool force = query_bool(&request->query, "force", false);
	if (gt_volume_remove(request->api->engine, req_segment(request, 0), force, err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_volume_prune)
{
	AUTO_JSON json_t *filters = NULL;
	if (query_filters(&request->query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200, gt_volumes_prune(request->api->engine, filters, err));
}
