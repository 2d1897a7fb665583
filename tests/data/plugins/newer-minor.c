/* Compiled against a newer minor version than there is. */
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("newer-minor") };
GANTRY_PLUGIN_EXPORT = { .size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR + 9,
			 .name = "newer-minor", .version = "1", .description = "a test", .drivers = drivers, .driver_count = 1,
			 .driver_size = sizeof(struct gantry_driver) };
