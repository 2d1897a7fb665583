/*
 * swarm.c - swarm mode, which there is none of: answered as Docker does on a node outside a swarm.
 */
#include "api/handlers.h"

HANDLER(serve_swarm_none)
{
	(void)request;
	return gt_fail(err, GT_UNAVAILABLE,
		       "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and "
		       "try again.");
}

HANDLER(serve_swarm_join)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED, "swarm mode is not supported");
}

HANDLER(serve_swarm_leave)
{
	(void)request;
	return gt_fail(err, GT_UNAVAILABLE, "This node is not part of a swarm");
}
