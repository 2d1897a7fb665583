/* The symbol of version 1, with another major version in it. */
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("wrong-major") };
GANTRY_PLUGIN_EXPORT = { .size = sizeof(struct gantry_plugin), .abi_major = 7, .name = "wrong-major", .version = "1", .description = "a test",
			 .drivers = drivers, .driver_count = 1, .driver_size = sizeof(struct gantry_driver) };
