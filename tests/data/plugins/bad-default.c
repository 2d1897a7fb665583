/* A key whose default its own rule forbids. */
#include "broken.h"

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_INT, .name = "depth", .default_value = "12", .min = 1, .max = 8, .doc = "how deep" },
};
static const struct gantry_driver drivers[] = { NOTHING_DRIVER("bad-default") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("bad-default", drivers), .keys = keys, .key_count = 1, .key_size = sizeof keys[0] };
