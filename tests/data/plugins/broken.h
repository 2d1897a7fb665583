/*
 * broken.h - a volume driver that does nothing, for plugins that are wrong in one respect each: they include this, and export a descriptor of their own.
 */
#pragma once

#include <gantry/plugin.h>

static int nothing_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)host;
	(void)driver_name;
	(void)driver;
	(void)err;
	return 0;
}

static void nothing_close(void *driver)
{
	(void)driver;
}

static int nothing_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options,
			  struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)name;
	(void)options;
	(void)err;
	return 0;
}

static int nothing_remove(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)name;
	(void)err;
	return 0;
}

static int nothing_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
			 struct gantry_mount *mount, struct gantry_error *err)
{
	(void)container_id;
	(void)read_only;
	(void)mount;
	return nothing_remove(driver, call, name, err);
}

static int nothing_release(void *driver, const struct gantry_call *call, const char *name, const char *container_id, struct gantry_error *err)
{
	(void)container_id;
	return nothing_remove(driver, call, name, err);
}

static int nothing_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	(void)visit;
	(void)arg;
	return nothing_remove(driver, call, "", err);
}

static int nothing_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info,
			   struct gantry_error *err)
{
	(void)info;
	return nothing_remove(driver, call, name, err);
}

#define NOTHING_OPS                                                                                                                   \
	.size = sizeof(struct gantry_volume_ops), .open = nothing_open, .close = nothing_close, .create = nothing_create,             \
	.remove = nothing_remove, .mount = nothing_mount, .release = nothing_release, .list = nothing_list, .inspect = nothing_inspect

static const struct gantry_volume_ops nothing_ops __attribute__((unused)) = { NOTHING_OPS };

/* One driver, called as its plugin. */
#define NOTHING_DRIVER(name_) { .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = (name_), .ops = &nothing_ops }

#define NOTHING_PLUGIN(name_, drivers_)                                                                                        \
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR, .name = (name_),   \
	.version = "1", .description = "a test", .drivers = (drivers_), .driver_count = 1, .driver_size = sizeof(struct gantry_driver)
