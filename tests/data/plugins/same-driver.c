/* A second driver named "plain". */
#include "broken.h"

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("plain") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("same-driver", drivers) };
