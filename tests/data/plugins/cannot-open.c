/* All right but for the host it is on. */
#include "broken.h"

static int fails(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)host;
	(void)driver_name;
	(void)driver;
	return gantry_fail(err, GANTRY_E_UNSUPPORTED, "this kernel has no flux capacitor");
}

static const struct gantry_volume_ops ops = { .size = sizeof ops, .open = fails, .close = nothing_close, .create = nothing_create,
					      .remove = nothing_remove, .mount = nothing_mount, .release = nothing_release, .list = nothing_list,
					      .inspect = nothing_inspect };
static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "cannot-open", .ops = &ops },
};
GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("cannot-open", drivers) };
