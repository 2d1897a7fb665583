/*
 * network.c - the rules for drivers of networks. The kit's own network namespace stands for the host's.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/netns.h"
#include "kit.h"

#define NETWORK_ID "a14b17a14b17a14b17a14b17a14b17a14b17a14b17a14b17a14b17a14b170001"
#define ENDPOINT_ID "b24b17b24b17b24b17b24b17b24b17b24b17b24b17b24b17b24b17b24b170001"
#define OTHER_ID "c34b17c34b17c34b17c34b17c34b17c34b17c34b17c34b17c34b17c34b170001"
#define CONTAINER_ID "d44b17d44b17d44b17d44b17d44b17d44b17d44b17d44b17d44b17d44b170001"
#define OTHER_CONTAINER_ID "e54b17e54b17e54b17e54b17e54b17e54b17e54b17e54b17e54b17e54b170001"

enum { PORT = 20480 };

static struct gantry_subnet SUBNET = { .size = sizeof SUBNET, .family = 4, .subnet = "10.199.0.0/24", .gateway = "10.199.0.1" };

/* Addresses are the driver's to choose, and subnets are not given. */
static bool picks_itself(const struct kit *kit)
{
	return (gt_driver_capabilities(kit->driver) & (GANTRY_NET_OWN_IPAM | GANTRY_NET_GLOBAL)) == GANTRY_NET_OWN_IPAM;
}

/* The host's own network and no network at all: without subnets and endpoints. */
static bool is_bare(const struct kit *kit)
{
	return gt_driver_capabilities(kit->driver) & (GANTRY_NET_HOST_NS | GANTRY_NET_NONE);
}

static int create(struct kit *kit, const char *id, const struct gantry_option *option, struct gt_error *err)
{
	struct gantry_network network = { .size = sizeof network,
					  .id = id,
					  .name = "kit",
					  .subnets = &SUBNET,
					  .subnet_count = is_bare(kit) || picks_itself(kit) ? 0 : 1,
					  .subnet_size = sizeof SUBNET,
					  .options = { .size = sizeof network.options, .count = option ? 1 : 0, .items = option } };
	return gt_net_create(kit->driver, &network, err);
}

static struct gantry_endpoint endpoint_of(const struct kit *kit, const char *id, const char *container_id, int last)
{
	struct gantry_endpoint endpoint = { .size = sizeof(struct gantry_endpoint), .id = id, .network_id = NETWORK_ID, .container_id = container_id,
					    .ifname = "eth0", .default_route = 1 };
	if (picks_itself(kit))
		return endpoint;
	snprintf(endpoint.mac, sizeof endpoint.mac, "02:42:0a:c7:00:%02x", last);
	snprintf(endpoint.ipv4, sizeof endpoint.ipv4, "10.199.0.%d/24", last);
	snprintf(endpoint.gateway4, sizeof endpoint.gateway4, "10.199.0.1");
	return endpoint;
}

/* ---- a container's namespace ---- */

static int keep_fresh(void *arg)
{
	int *fd = arg;
	if (unshare(CLONE_NEWNET) == 0)
		*fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return 0;
}

/* A new namespace, alive by its descriptor. */
static int fresh_netns(struct gt_error *err)
{
	int fd = -1;
	AUTO_CLOSE int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	gt_in_netns(own, keep_fresh, &fd, err);
	return fd;
}

struct seen {
	char wanted[GANTRY_ADDR_MAX];   /* without a prefix */
	bool link, up, address;
	unsigned index;
};

static int look(void *arg)
{
	struct seen *seen = arg;
	struct ifaddrs *list = NULL;
	getifaddrs(&list);
	for (struct ifaddrs *entry = list; entry; entry = entry->ifa_next) {
		if (strcmp(entry->ifa_name, "eth0"))
			continue;
		seen->link = true;
		seen->index = if_nametoindex("eth0");
		seen->up = entry->ifa_flags & IFF_UP;
		if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_INET)
			seen->address = ((struct sockaddr_in *)(void *)entry->ifa_addr)->sin_addr.s_addr == inet_addr(seen->wanted);
	}
	freeifaddrs(list);
	return 0;
}

static struct seen inside(int netns, const char *ipv4)
{
	struct seen seen = { 0 };
	struct gt_error err = { 0 };
	snprintf(seen.wanted, sizeof seen.wanted, "%.*s", (int)strcspn(ipv4, "/"), ipv4);
	gt_in_netns(netns, look, &seen, &err);
	return seen;
}

/* ---- rules ---- */

static void publishing(struct kit *kit, const struct gantry_endpoint *endpoint, struct gt_error *err)
{
	struct gantry_port port = { .size = sizeof port, .proto = IPPROTO_TCP, .host_ip = "0.0.0.0", .host_port = PORT, .container_port = 80 };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	if (!(gt_driver_capabilities(kit->driver) & GANTRY_NET_PUBLISH)) {
		skip(kit, "the capability is not declared", "publish");
		return;
	}
	check(kit, gt_net_publish(kit->driver, endpoint, &port, 1, err) == 0, err, "publish");
	check(kit, gt_net_publish(kit->driver, endpoint, &port, 1, err) == 0, err, "publish of the same again is success");
	AUTO_CLOSE int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(kit, bind(other, (struct sockaddr *)&address, sizeof address) < 0, NULL, "a published port is held: another's bind fails");
	check(kit, gt_net_unpublish(kit->driver, NETWORK_ID, ENDPOINT_ID, err) == 0, err, "unpublish");
	check(kit, gt_net_unpublish(kit->driver, NETWORK_ID, ENDPOINT_ID, err) == 0, err, "unpublish of what is not published is success");
	AUTO_CLOSE int holder = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (check(kit, bind(holder, (struct sockaddr *)&address, sizeof address) == 0 && listen(holder, 1) == 0, NULL, "unpublish gives the port back"))
		check_refused(kit, gt_net_publish(kit->driver, endpoint, &port, 1, err), GT_CONFLICT, "20480", err,
			      "publish of a port that another holds: conflict, and the sentence names it");
}

static void endpoints(struct kit *kit, struct gt_error *err)
{
	struct gantry_endpoint endpoint = endpoint_of(kit, ENDPOINT_ID, CONTAINER_ID, 2), lost = endpoint_of(kit, OTHER_ID, OTHER_CONTAINER_ID, 3);
	AUTO_CLOSE int netns = fresh_netns(err), second = fresh_netns(err);
	if (netns < 0 || second < 0) {
		skip(kit, "no network namespace can be made", "endpoints");
		return;
	}
	if (!check(kit, gt_net_join(kit->driver, &endpoint, netns, err) == 0, err, "endpoint_join"))
		return;
	struct seen seen = inside(netns, endpoint.ipv4);
	check(kit, seen.link && seen.up && seen.address, NULL, "inside there is a link of the wanted name, up, with the given address");
	check(kit, gt_net_join(kit->driver, &endpoint, netns, err) == 0, err, "endpoint_join again is success");
	publishing(kit, &endpoint, err);
	check(kit, gt_net_leave(kit->driver, NETWORK_ID, ENDPOINT_ID, netns, err) == 0, err, "endpoint_leave");
	check(kit, !inside(netns, endpoint.ipv4).link, NULL, "the link is gone from inside");
	check(kit, gt_net_leave(kit->driver, NETWORK_ID, ENDPOINT_ID, netns, err) == 0, err, "endpoint_leave again is success");
	check(kit, gt_net_leave(kit->driver, NETWORK_ID, OTHER_ID, -1, err) == 0, err, "endpoint_leave of an unknown endpoint is success");
	check(kit, gt_net_join(kit->driver, &lost, second, err) == 0, err, "endpoint_join of another");
	close(take_fd(second));
	check(kit, gt_net_leave(kit->driver, NETWORK_ID, OTHER_ID, -1, err) == 0, err, "endpoint_leave where the namespace is gone");
	lost.network_id = OTHER_ID;
	AUTO_CLOSE int third = fresh_netns(err);
	check_refused(kit, gt_net_join(kit->driver, &lost, third, err), GT_NOT_FOUND, NULL, err, "endpoint_join to an unknown network: not found");
}

static void restarting(struct kit *kit, struct gt_error *err)
{
	struct gantry_endpoint endpoint = endpoint_of(kit, ENDPOINT_ID, CONTAINER_ID, 2);
	if (!restart(kit))
		return;
	check(kit, create(kit, NETWORK_ID, NULL, err) == 0, err, "after a restart network_create of what is there is success");
	check(kit, gt_net_reconcile(kit->driver, NULL, 0, NULL, NULL, 0, err) == 0 || err->kind == GT_UNSUPPORTED, err, "reconcile with nothing alive");
	gt_error_clear(err);
	if (is_bare(kit))
		return;
	AUTO_CLOSE int netns = fresh_netns(err);
	check(kit, gt_net_join(kit->driver, &endpoint, netns, err) == 0, err, "an endpoint can join");
	check(kit, gt_net_leave(kit->driver, NETWORK_ID, ENDPOINT_ID, netns, err) == 0, err, "and leave");
}

/* With a container that runs: nothing of what it has may be touched. */
static void reloading(struct kit *kit, struct gt_error *err)
{
	struct gantry_endpoint endpoint = endpoint_of(kit, ENDPOINT_ID, CONTAINER_ID, 2);
	struct gantry_port port = { .size = sizeof port, .proto = IPPROTO_TCP, .host_ip = "0.0.0.0", .host_port = PORT + 1, .container_port = 80 };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT + 1) };
	const uint32_t owner = 0;
	bool publishes = gt_driver_capabilities(kit->driver) & GANTRY_NET_PUBLISH;
	AUTO_CLOSE int netns = is_bare(kit) ? -1 : fresh_netns(err);
	if (netns < 0) {
		reload(kit);
		return;
	}
	check(kit, gt_net_join(kit->driver, &endpoint, netns, err) == 0 && (!publishes || gt_net_publish(kit->driver, &endpoint, &port, 1, err) == 0), err,
	      "endpoint_join%s before a reload", publishes ? " and publish" : "");
	int rc = gt_net_reconcile(kit->driver, &endpoint, 1, &port, &owner, publishes, err);
	check(kit, rc == 0 || err->kind == GT_UNSUPPORTED, err, "reconcile with what is there");
	gt_error_clear(err);
	struct seen before = inside(netns, endpoint.ipv4);
	if (!reload(kit))
		return;
	struct seen seen = inside(netns, endpoint.ipv4);
	check(kit, seen.up && seen.address && seen.index == before.index, NULL, "after a reload a container has the link that it had, with its address");
	if (publishes && rc == 0) {
		AUTO_CLOSE int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		check(kit, bind(other, (struct sockaddr *)&address, sizeof address) < 0, NULL, "a port that was published is held again");
		check(kit, gt_net_unpublish(kit->driver, NETWORK_ID, ENDPOINT_ID, err) == 0, err, "it can be given back");
	}
	check(kit, gt_net_leave(kit->driver, NETWORK_ID, ENDPOINT_ID, netns, err) == 0 && !inside(netns, endpoint.ipv4).link, err, "and the endpoint can leave");
}

void check_network_driver(struct kit *kit)
{
	struct gt_error err = { 0 };
	struct gantry_option odd = { "no-such-option", "x" };
	check_refused(kit, create(kit, OTHER_ID, &odd, &err), GT_INVALID, "no-such-option", &err, "network_create refuses an unknown option by name");
	if (!check(kit, create(kit, NETWORK_ID, NULL, &err) == 0, &err, "network_create"))
		return;
	check(kit, create(kit, NETWORK_ID, NULL, &err) == 0, &err, "network_create again is success");
	if (is_bare(kit))
		skip(kit, "the driver has none", "endpoints");
	else
		endpoints(kit, &err);
	restarting(kit, &err);
	reloading(kit, &err);
	check(kit, gt_net_remove(kit->driver, NETWORK_ID, &err) == 0, &err, "network_remove");
	check(kit, gt_net_remove(kit->driver, NETWORK_ID, &err) == 0, &err, "network_remove again is success");
	check(kit, gt_net_remove(kit->driver, OTHER_ID, &err) == 0, &err, "network_remove of an unknown network is success");
}
