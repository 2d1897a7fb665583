/* Nothing wrong: a plugin that is only just one. */
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("plain") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("plain", drivers) };
