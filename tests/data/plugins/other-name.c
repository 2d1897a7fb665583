/* Called otherwise than its file. */
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("other") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("somebody-else", drivers) };
