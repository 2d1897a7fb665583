/*
 * registry.c - what needs a registry or a builder, refused by name.
 */
#include "api/handlers.h"

HANDLER(serve_image_push)
{
	return gt_fail(err, GT_UNSUPPORTED, "push %s: pushing to a registry is not supported yet: take the image out with 'docker save'",
		       req_segment(request, 0));
}

HANDLER(serve_image_search)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED, "searching a registry is not supported yet");
}

HANDLER(serve_auth)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED, "logging in to a registry is not supported yet");
}

HANDLER(serve_distribution)
{
	return gt_fail(err, GT_UNSUPPORTED, "look up %s: asking a registry is not supported yet", req_segment(request, 0));
}

HANDLER(serve_build)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED, "building images is not supported yet");
}

/* There is no build cache, so that nothing of it is left is the truth; `docker system prune` asks for it. */
HANDLER(serve_build_prune)
{
	(void)err;
	return answer_json(request, 200, json_pack("{s:[], s:i}", "CachesDeleted", "SpaceReclaimed", 0));
}

HANDLER(serve_session)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED, "BuildKit sessions are not supported");
}
