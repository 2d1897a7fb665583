/*
 * plugins.c - plugins: drivers of networks, volumes and storage. They come as shared objects by configuration, so that Docker's ways of fetching and making
 * plugins are refused; reload is ours.
 */
#include <string.h>

#include "api/handlers.h"

#define DEFAULT_TIMEOUT 10

/* Docker allows a tag, of which there is one. The caller's. */
static char *plugin_name(const struct request *request)
{
	const char *name = req_segment(request, 0), *tag = strstr(name, ":latest");
	return tag && !tag[strlen(":latest")] ? gt_xstrndup(name, (size_t)(tag - name)) : gt_xstrdup(name);
}

HANDLER(serve_plugin_list)
{
	AUTO_JSON json_t *filters = NULL;
	if (query_filters(&request->query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200, gt_plugins_list(request->api->engine, filters, err));
}

HANDLER(serve_plugin_inspect)
{
	AUTO_FREE char *name = plugin_name(request);
	return answer_json(request, 200, gt_plugins_inspect(request->api->engine, name, err));
}

HANDLER(serve_plugin_enable)
{
	AUTO_FREE char *name = plugin_name(request);
	int64_t timeout = 0; /* of Docker's talks to a plugin by HTTP: a driver here is opened by a call */
	if (query_int(&request->query, "timeout", &timeout, err) < 0 || gt_plugins_enable(request->api->engine, name, err) < 0)
		return -1;
	return answer_empty(request, 200);
}

HANDLER(serve_plugin_disable)
{
	AUTO_FREE char *name = plugin_name(request);
	if (gt_plugins_disable(request->api->engine, name, query_bool(&request->query, "force", false), err) < 0)
		return -1;
	return answer_empty(request, 200);
}

HANDLER(serve_plugin_reload)
{
	AUTO_FREE char *name = plugin_name(request);
	int64_t timeout = DEFAULT_TIMEOUT;
	if (query_int(&request->query, "timeout", &timeout, err) < 0 || gt_plugins_reload(request->api->engine, name, timeout, err) < 0)
		return -1;
	return answer_json(request, 200, gt_plugins_inspect(request->api->engine, name, err));
}

HANDLER(serve_plugin_other)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED,
		       "plugins are not fetched, made or changed by this API: they are shared objects in [daemon] plugin_dir, set up in gantryd.ini");
}
