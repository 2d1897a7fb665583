/*
 * containers.c - containers: create, look, start and stop, change, remove, commit.
 */
#include <string.h>

#include "api/handlers.h"

enum { DNS_NAMES_SINCE = 45 };

HANDLER(serve_container_list)
{
	const struct query *query = &request->query;
	int64_t limit = 0;
	AUTO_JSON json_t *filters = NULL;
	if (query_int(query, "limit", &limit, err) < 0 || query_filters(query, &filters, err) < 0)
		return -1;
	if (limit < 0 || limit > INT32_MAX)
		limit = 0;
	/* The newest N of all, as Docker has it: a limit looks at stopped ones too. */
	bool all = query_bool(query, "all", false) || limit > 0;
	AUTO_BUF struct gt_buf list = { 0 };
	if (gt_container_list(request->api->engine, all, (int)limit, query_bool(query, "size", false), filters, &list, err) < 0)
		return -1;
	return answer_json_text(request, 200, &list);
}

HANDLER(serve_container_create)
{
	const struct query *query = &request->query;
	char id[65];
	json_t *warnings = NULL;
	if (!request->json)
		return gt_fail(err, GT_INVALID, "config cannot be empty in order to create a container");
	if (gt_container_create(request->api->engine, query_text(query, "name"), query_text(query, "platform"), request->json, id,
				&warnings, err) < 0) {
		json_decref(warnings);
		return -1;
	}
	return answer_json(request, 201,
			   json_pack("{s:s, s:o}", "Id", id, "Warnings", warnings ? warnings : json_array()));
}

static void add_alias(json_t *aliases, const char *name)
{
	size_t i;
	json_t *known;
	json_array_foreach(aliases, i, known) {
		if (strcmp(json_string_value(known), name) == 0)
			return;
	}
	json_array_append_new(aliases, json_string(name));
}

/*
 * Before 1.45 the aliases on users' networks told of the short id and the host name too, from the first start on. Compose 1.29 looks for the id there: a
 * container without it, freshly created, is connected anew, with its addresses.
 */
static void add_own_aliases(json_t *inspect)
{
	if (strcmp(json_string_value(json_object_get(json_object_get(inspect, "State"), "Status")), "created") == 0)
		return;
	const char *name, *id = json_string_value(json_object_get(inspect, "Id")),
			  *hostname = json_string_value(json_object_get(json_object_get(inspect, "Config"), "Hostname"));
	AUTO_FREE char *short_id = gt_xasprintf("%.12s", id);
	json_t *endpoint;
	json_object_foreach(json_object_get(json_object_get(inspect, "NetworkSettings"), "Networks"), name, endpoint) {
		if (!json_is_array(json_object_get(endpoint, "DNSNames"))) /* not a user's network */
			continue;
		json_t *aliases = json_object_get(endpoint, "Aliases");
		if (!json_is_array(aliases)) {
			aliases = json_array();
			json_object_set_new(endpoint, "Aliases", aliases);
		}
		add_alias(aliases, short_id);
		if (hostname && hostname[0])
			add_alias(aliases, hostname);
	}
}

HANDLER(serve_container_inspect)
{
	json_t *inspect = gt_container_inspect(request->api->engine, req_segment(request, 0), query_bool(&request->query, "size", false), err);
	if (inspect && request->match.version < DNS_NAMES_SINCE)
		add_own_aliases(inspect);
	return answer_json(request, 200, inspect);
}

HANDLER(serve_container_start)
{
	const char *keys = query_text(&request->query, "detachKeys");
	if (gt_container_start(request->api->engine, req_segment(request, 0), keys, err) < 0)
		return -1;
	return answer_empty(request, 204);
}

/* t: seconds; absent: the container's own; negative: for ever. */
static int stop_timeout(const struct request *request, int *timeout, struct gt_error *err)
{
	int64_t given = 0;
	*timeout = -1;
	if (!query_text(&request->query, "t"))
		return 0;
	if (query_int(&request->query, "t", &given, err) < 0)
		return -1;
	*timeout = given < 0 ? -2 : given > INT32_MAX ? INT32_MAX : (int)given;
	return 0;
}

HANDLER(serve_container_stop)
{
	int timeout;
	if (stop_timeout(request, &timeout, err) < 0 ||
	    gt_container_stop(request->api->engine, req_segment(request, 0), query_text(&request->query, "signal"), timeout, err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_container_restart)
{
	int timeout;
	if (stop_timeout(request, &timeout, err) < 0 ||
	    gt_container_restart(request->api->engine, req_segment(request, 0), query_text(&request->query, "signal"), timeout, err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_container_kill)
{
	const char *signal = query_text(&request->query, "signal");
	if (gt_container_kill(request->api->engine, req_segment(request, 0), signal ? signal : "SIGKILL", err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_container_pause)
{
	if (gt_container_pause(request->api->engine, req_segment(request, 0), err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_container_unpause)
{
	if (gt_container_unpause(request->api->engine, req_segment(request, 0), err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_container_rename)
{
	const char *name = query_text(&request->query, "name");
	if (!name)
		return gt_fail(err, GT_INVALID, "Neither old nor new names may be empty");
	if (gt_container_rename(request->api->engine, req_segment(request, 0), name, err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_container_update)
{
	AUTO_JSON json_t *nothing = json_object();
	const json_t *body = request->json ? request->json : nothing;
	return answer_json(request, 200, gt_container_update(request->api->engine, req_segment(request, 0), body, err));
}

HANDLER(serve_container_remove)
{
	const struct query *query = &request->query;
	if (gt_container_remove(request->api->engine, req_segment(request, 0), query_bool(query, "force", false),
				query_bool(query, "v", false), query_bool(query, "link", false), err) < 0)
		return -1;
	return answer_empty(request, 204);
}

HANDLER(serve_container_prune)
{
	AUTO_JSON json_t *filters = NULL;
	if (query_filters(&request->query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200, gt_containers_prune(request->api->engine, filters, err));
}

HANDLER(serve_container_commit)
{
	const struct query *query = &request->query;
	const char *container = query_text(query, "container");
	struct gt_strings changes = { 0 };
	char id[72];
	if (!container)
		return gt_fail(err, GT_INVALID, "the query parameter container is missing: name the container to commit");
	query_list(query, "changes", &changes);
	int rc = gt_container_commit(request->api->engine, container, query_text(query, "repo"), query_text(query, "tag"),
				     query_text(query, "comment"), query_text(query, "author"), query_bool(query, "pause", true), &changes,
				     request->json, id, err);
	gt_strings_free(&changes);
	return rc < 0 ? -1 : answer_json(request, 201, json_pack("{s:s}", "Id", id));
}
