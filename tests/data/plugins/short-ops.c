/* A table of operations that ends early. */
#include "broken.h"

static const struct gantry_volume_ops ops = { .size = 24, .open = nothing_open, .close = nothing_close };
static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "short-ops", .ops = &ops },
};
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("short-ops", drivers) };
