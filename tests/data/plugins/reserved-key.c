/* Declares a key that is the engine's. */
#include "broken.h"

static const struct gantry_key keys[] = {
	{ .size = sizeof(struct gantry_key), .type = GANTRY_KEY_STRING, .name = "enabled", .doc = "mine" },
};
static const struct gantry_driver drivers[] = { NOTHING_DRIVER("reserved-key") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("reserved-key", drivers), .keys = keys, .key_count = 1, .key_size = sizeof keys[0] };
