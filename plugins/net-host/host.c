/*
 * host.c - the two network drivers that plumb nothing: "host" (containers share the host's network namespace) and "null" (a namespace with
 * loopback alone, Docker's network "none").
 *
 * Neither keeps state. The engine gives a container of a "host" network no namespace of its own and so no endpoint; a container of a "null" network
 * gets an endpoint whose join brings loopback up. Thread safe: nothing is shared.
 */
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gantry/plugin.h>

static int open_driver(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	(void)err;
	*driver = (void *)(uintptr_t)host;
	return 0;
}

static void close_driver(void *driver)
{
	(void)driver;
}

/* There is nothing to create, and so nothing that could be asked for. */
static int network_create(void *driver, const struct gantry_call *call, const struct gantry_network *network, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	if (network->options.count)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: unknown option %s (this driver has none)", network->name,
				   network->options.items[0].key);
	if (network->subnet_count)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: this driver has no subnets", network->name);
	if (network->flags & GANTRY_NETWORK_INTERNAL)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: this driver has no internal networks", network->name);
	return 0;
}

static int network_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)network_id;
	(void)err;
	return 0;
}

/* In the container's namespace. Returns 0 or an errno. */
static int raise_loopback(void *arg)
{
	struct ifreq request = { .ifr_name = "lo" };
	(void)arg;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), errnum = 0;
	if (fd < 0)
		return errno;
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) {
		errnum = errno;
	} else if (!(request.ifr_flags & IFF_UP)) {
		request.ifr_flags |= IFF_UP;
		errnum = ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? errno : 0;
	}
	close(fd);
	return errnum;
}

static int null_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)call;
	endpoint->mac[0] = endpoint->ipv4[0] = endpoint->ipv6[0] = '\0';
	endpoint->gateway4[0] = endpoint->gateway6[0] = endpoint->host_ifname[0] = '\0';
	endpoint->mtu = 0;
	int rc = host->in_netns(host, netns_fd, raise_loopback, NULL, err);
	if (rc > 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, rc, "bring loopback up");
	return rc;
}

/* Loopback goes with its namespace. */
static int null_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd,
		      struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)network_id;
	(void)endpoint_id;
	(void)netns_fd;
	(void)err;
	return 0;
}

static const struct gantry_network_ops host_ops = {
	.size = sizeof(struct gantry_network_ops),
	.open = open_driver,
	.close = close_driver,
	.network_create = network_create,
	.network_remove = network_remove,
};

static const struct gantry_network_ops null_ops = {
	.size = sizeof(struct gantry_network_ops),
	.open = open_driver,
	.close = close_driver,
	.network_create = network_create,
	.network_remove = network_remove,
	.endpoint_join = null_join,
	.endpoint_leave = null_leave,
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "host", .capabilities = GANTRY_NET_HOST_NS, .ops = &host_ops },
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "null", .capabilities = GANTRY_NET_NONE, .ops = &null_ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin),
	.abi_major = GANTRY_ABI_MAJOR,
	.abi_minor = GANTRY_ABI_MINOR,
	.name = "net-host",
	.version = GANTRY_VERSION,
	.description = "the host's own network, and no network",
	.drivers = drivers,
	.driver_count = 2,
	.driver_size = sizeof(struct gantry_driver),
};
