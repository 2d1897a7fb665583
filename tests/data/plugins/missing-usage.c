/* Declares a capability without the op for it. */
#include "broken.h"

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "missing-usage", .capabilities = GANTRY_VOL_USAGE, .ops = &nothing_ops },
};
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("missing-usage", drivers) };
