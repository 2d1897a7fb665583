/* Calls what no library has. */
#include "broken.h"

int gantry_test_nobody_has_this(void);
int gantry_test_caller(void);

int gantry_test_caller(void)
{
	return gantry_test_nobody_has_this();
}

static const struct gantry_driver drivers[] = { NOTHING_DRIVER("unresolved") };
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("unresolved", drivers) };
