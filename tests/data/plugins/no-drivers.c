/* A plugin of nothing. */
#include "broken.h"

GANTRY_PLUGIN_EXPORT = { .size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .name = "no-drivers", .version = "1",
			 .description = "a test" };
