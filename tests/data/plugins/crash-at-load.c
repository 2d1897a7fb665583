/* Ends its process as soon as it is loaded. */
#include <stdlib.h>

#include "broken.h"

__attribute__((constructor)) static void begin(void)
{
	abort();
}

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("crash-at-load") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("crash-at-load", drivers) };
