/*
 * plugins.c - the drivers that are loaded. They come as shared objects by configuration, so Docker's ways of managing plugins are refused.
 */
#include "api/handlers.h"

HANDLER(serve_plugin_list)
{
	(void)err;
	json_t *list = gt_plugins_describe(request->api->engine);
	return answer_json(request, 200, list ? list : json_array());
}

HANDLER(serve_plugin_other)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED,
		       "managed plugins are not supported: drivers are shared objects in [daemon] plugin_dir, set up in gantryd.ini");
}
