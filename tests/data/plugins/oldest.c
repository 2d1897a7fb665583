/* A plugin as the header of version 1.0 makes it, whatever came since. The copy of that header beside this file never changes. */
#include "v1.0/gantry/plugin.h"
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("oldest") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("oldest", drivers) };
