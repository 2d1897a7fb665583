/* A name that an INI section and messages cannot have. */
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("bad-name") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("Bad_Name", drivers) };
