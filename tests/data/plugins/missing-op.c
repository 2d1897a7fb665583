/* A volume driver that cannot remove. */
#include "broken.h"

static const struct gantry_volume_ops ops = { .size = sizeof ops, .open = nothing_open, .close = nothing_close, .create = nothing_create,
					      .mount = nothing_mount, .release = nothing_release, .list = nothing_list, .inspect = nothing_inspect };
static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "missing-op", .ops = &ops },
};
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("missing-op", drivers) };
