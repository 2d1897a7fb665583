/* A descriptor that says it is shorter than version 1.0's. */
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("short-struct") };
GANTRY_PLUGIN_EXPORT = { .size = 40, .abi_major = GANTRY_ABI_MAJOR, .name = "short-struct", .version = "1", .description = "a test",
			 .drivers = drivers, .driver_count = 1, .driver_size = sizeof(struct gantry_driver) };
