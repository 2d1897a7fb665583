/* A driver of a kind that does not exist. */
#include "broken.h"

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = 9, .name = "bad-kind", .ops = &nothing_ops },
};
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("bad-kind", drivers) };
