/*
 * system.c - the engine as a whole: ping, version, info, events, disk usage.
 */
#include "api/handlers.h"

HANDLER(serve_ping)
{
	(void)err;
	answer_text(request, 200, "OK");
	answer_header(request, "Builder-Version", "1");
	answer_header(request, "Swarm", "inactive");
	answer_header(request, "Cache-Control", "no-cache, no-store, must-revalidate");
	return answer_header(request, "Pragma", "no-cache");
}

HANDLER(serve_version)
{
	return answer_json(request, 200, gt_system_version(request->api->engine, err));
}

HANDLER(serve_info)
{
	return answer_json(request, 200, gt_system_info(request->api->engine, err));
}

/* The epoch itself is a time too; 0 stands for none. */
static int event_time(const struct request *request, const char *name, int64_t *time, struct gt_error *err)
{
	const char *text = query_text(&request->query, name);
	if (query_time(&request->query, name, time, err) < 0)
		return -1;
	if (text && *text && *time == 0)
		*time = 1;
	return 0;
}

HANDLER(serve_events)
{
	int64_t since, until;
	AUTO_JSON json_t *filters = NULL;
	if (event_time(request, "since", &since, err) < 0 || event_time(request, "until", &until, err) < 0 ||
	    query_filters(&request->query, &filters, err) < 0)
		return -1;
	if (since > 0 && until > 0 && until < since)
		return gt_fail(err, GT_INVALID, "`since` time (%s) cannot be after `until` time (%s)", query_text(&request->query, "since"),
			       query_text(&request->query, "until"));
	return answer_stream(request, "application/json", gt_events_open(request->api->engine, since, until, filters, err), err);
}

HANDLER(serve_df)
{
	struct gt_strings types = { 0 };
	query_list(&request->query, "type", &types);
	json_t *usage = gt_system_df(request->api->engine, &types, err);
	gt_strings_free(&types);
	return answer_json(request, 200, usage);
}

HANDLER(serve_doctor)
{
	struct gt_strings registries = { 0 };
	query_list(&request->query, "registry", &registries);
	json_t *report = gt_engine_doctor(request->api->engine, &registries, err);
	gt_strings_free(&registries);
	return answer_json(request, 200, report);
}
