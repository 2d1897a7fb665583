/*
 * tester.c - a plugin with a key of each type, whose ops call the host table and give back what it says.
 *
 * Volume driver "tester":    create(NAME, {"bytes"}) state_put; mount(NAME) state_get, as source; remove(NAME) state_remove;
 *                            inspect(KEY) the value of a key, as mountpoint; release(_, KIND) fails with that kind; usage(_) waits for cancelled();
 *                            create("event") sends an event; create("options") counts options; list() a and b
 * Network driver "tester":   endpoint_join reads the inode of the network namespace it is sent to, as ipv4
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "broken.h"

static int tester_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	if (strcmp(driver_name, "tester") != 0 || host->size < sizeof *host || host->abi_major != 1)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the host table is not as expected");
	host->log(host, GANTRY_DEBUG, "the tester is open");
	*driver = (void *)(uintptr_t)host;
	return 0;
}

static int tester_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options,
			 struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	const char *bytes = gantry_option(options, "bytes");
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (call->size < sizeof *call || call->id == 0 || call->deadline_ns < now.tv_sec * 1000000000LL)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the call is not as expected");
	if (strcmp(name, "event") == 0) {
		host->event(host, "thing", "burst", "into flames");
		return 0;
	}
	if (strcmp(name, "options") == 0)
		return gantry_fail(err, GANTRY_E_INVALID, "%u options", options->count);
	return host->state_put(host, name, bytes, bytes ? strlen(bytes) : 0, err);
}

static int tester_remove(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)call;
	return host->state_remove(host, name, err);
}

static int tester_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
			struct gantry_mount *mount, struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)call;
	int64_t len = host->state_get(host, name, mount->source, 8, err);
	if (len < 0)
		return -1;
	mount->source[len < 8 ? len : 8] = '\0';
	snprintf(mount->type, sizeof mount->type, "%s", strcmp(container_id, "typeless") ? "tmpfs" : "");
	snprintf(mount->options, sizeof mount->options, "length=%lld%s", (long long)len, read_only ? ",ro" : "");
	return 0;
}

static int tester_release(void *driver, const struct gantry_call *call, const char *name, const char *container_id, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	if (strcmp(container_id, "silent") == 0)
		return -1;
	if (strcmp(container_id, "endless") == 0) {
		err->kind = GANTRY_E_DENIED;
		memset(err->message, 'x', sizeof err->message);
		return -1;
	}
	return gantry_fail_errno(err, atoi(container_id), 2, "cannot let go of %s", name);
}

static int tester_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)err;
	return visit(arg, "a") == 0 ? (visit(arg, "b"), 0) : 0;
}

static int tester_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info,
			  struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	const char *value = host->config(host, name);
	(void)call;
	if (strcmp(name, "dirs") == 0)
		snprintf(info->mountpoint, sizeof info->mountpoint, "%s %s", host->state_dir, host->run_dir);
	else if (!value)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "no value");
	else
		snprintf(info->mountpoint, sizeof info->mountpoint, "%s", value);
	return 0;
}

static int tester_usage(void *driver, const struct gantry_call *call, const char *name, struct gantry_usage *usage, struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)name;
	(void)usage;
	for (int i = 0; i < 2000; i++) {
		if (host->cancelled(host, call))
			return gantry_fail(err, GANTRY_E_TIMEOUT, "told to stop");
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return gantry_fail(err, GANTRY_E_INTERNAL, "was never told to stop");
}

static int network_any(void *driver, const struct gantry_call *call, const struct gantry_network *network, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	if (network->size != sizeof *network || network->subnet_size != sizeof(struct gantry_subnet))
		return gantry_fail(err, GANTRY_E_INTERNAL, "the sizes are not as expected");
	for (size_t i = 0; i < network->subnet_count; i++) {
		if (network->subnets[i].size != sizeof(struct gantry_subnet))
			return gantry_fail(err, GANTRY_E_INTERNAL, "a subnet's size is not as expected");
	}
	return 0;
}

static int read_netns(void *arg)
{
	struct stat st;
	if (stat("/proc/thread-self/ns/net", &st) < 0)
		return 1;
	snprintf(arg, GANTRY_ADDR_MAX, "%lu", (unsigned long)st.st_ino);
	return 0;
}

static int network_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)call;
	return host->in_netns(host, netns_fd, read_netns, endpoint->ipv4, err);
}

static int network_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd,
			 struct gantry_error *err)
{
	(void)endpoint_id;
	(void)netns_fd;
	return nothing_remove(driver, call, network_id, err);
}

static const char *const colors[] = { "red", "green", NULL };

#define KEY(type_, name_, default_, ...) \
	{ .size = sizeof(struct gantry_key), .type = (type_), .name = (name_), .default_value = (default_), .doc = "a key", __VA_ARGS__ }

static const struct gantry_key keys[] = {
	KEY(GANTRY_KEY_STRING, "greeting", "hello"), KEY(GANTRY_KEY_STRING, "unset", NULL),       KEY(GANTRY_KEY_BOOL, "flag", "no"),
	KEY(GANTRY_KEY_INT, "depth", "-3", .min = -5, .max = 8), KEY(GANTRY_KEY_SIZE, "room", "1k"), KEY(GANTRY_KEY_PATH, "where", "/nowhere"),
	KEY(GANTRY_KEY_CHOICE, "color", "red", .choices = colors),
};

static const struct gantry_volume_ops volume_ops = {
	.size = sizeof volume_ops, .open = tester_open, .close = nothing_close, .create = tester_create, .remove = tester_remove,
	.mount = tester_mount, .release = tester_release, .list = tester_list, .inspect = tester_inspect, .usage = tester_usage,
};

static const struct gantry_network_ops network_ops = {
	.size = sizeof network_ops, .open = tester_open, .close = nothing_close, .network_create = network_any, .network_remove = nothing_remove,
	.endpoint_join = network_join, .endpoint_leave = network_leave,
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "tester", .capabilities = GANTRY_VOL_USAGE, .ops = &volume_ops },
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "tester", .ops = &network_ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR, .name = "tester", .version = "1.2",
	.description = "asks the host table", .keys = keys, .key_count = sizeof keys / sizeof keys[0], .key_size = sizeof keys[0],
	.drivers = drivers, .driver_count = 2, .driver_size = sizeof drivers[0],
};
