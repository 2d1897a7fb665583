#include "bridge_fixture.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static struct gt_driver *open_bridge(struct drivers_fixture *fixture, const char *settings)
{
	struct gt_error err = { 0 };
	start_drivers(fixture, settings);
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_NETWORK, "bridge", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

int bridge_make(void **state)
{
	host_enter();
	if (drivers_make(state) < 0)
		return -1;
	plant_plugin(*state, "plugins/net-bridge.so", "net-bridge.so");
	open_bridge(*state, "");
	return 0;
}

int bridge_end(void **state)
{
	return drivers_remove(state);
}

struct gt_driver *bridge_driver(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	return gt_driver_find(fixture->drivers, GANTRY_NETWORK, "bridge", &err);
}

struct gt_driver *bridge_again(void **state)
{
	return bridge_again_with(state, "");
}

struct gt_driver *bridge_again_with(void **state, const char *settings)
{
	AUTO_FREE char *section = gt_xasprintf("[plugin.net-bridge]\n%s", settings);
	stop_drivers(*state);
	return open_bridge(*state, section);
}

static void fill_id(char id[65], char letter)
{
	memset(id, letter, 64);
	id[64] = '\0';
}

int network_make(struct gt_driver *driver, const struct bridge_network *network, struct gt_error *err)
{
	char id[65], name[8] = { 'n', network->letter };
	struct gantry_option options[4];
	struct gantry_subnet subnets[2] = { 0 };
	size_t subnet_count = 0;
	uint32_t option_count = 0;
	fill_id(id, network->letter);
	for (int six = 0; six < 2; six++) {
		const char *subnet = six ? network->subnet6 : network->subnet4, *gateway = six ? network->gateway6 : network->gateway4;
		if (!subnet)
			continue;
		struct gantry_subnet *to = &subnets[subnet_count++];
		to->family = six ? 6 : 4;
		snprintf(to->subnet, sizeof to->subnet, "%s", subnet);
		snprintf(to->gateway, sizeof to->gateway, "%s", gateway ? gateway : "");
	}
	for (size_t i = 0; i + 1 < GT_COUNT(network->options) && network->options[i]; i += 2)
		options[option_count++] = (struct gantry_option){ network->options[i], network->options[i + 1] };
	struct gantry_network told = {
		.id = id, .name = name, .flags = network->flags, .subnets = subnets, .subnet_count = subnet_count,
		.options = { .count = option_count, .items = options },
	};
	return gt_net_create(driver, &told, err);
}

void plain_network(struct gt_driver *driver, char letter)
{
	struct gt_error err = { 0 };
	AUTO_FREE char *subnet = gt_xasprintf("172.%d.0.0/16", 30 + letter - 'a'), *gateway = gt_xasprintf("172.%d.0.1", 30 + letter - 'a');
	struct bridge_network network = { .letter = letter, .subnet4 = subnet, .gateway4 = gateway };
	assert_ok(network_make(driver, &network, &err), err);
}

void box_make(struct box *box, char letter, int number)
{
	*box = (struct box){ .place = place_make() };
	fill_id(box->network_id, letter);
	snprintf(box->id, sizeof box->id, "%012x%052x", number, letter);
	box->endpoint = (struct gantry_endpoint){ .id = box->id, .network_id = box->network_id, .container_id = box->id, .ifname = "eth0", .default_route = 1 };
	snprintf(box->endpoint.ipv4, sizeof box->endpoint.ipv4, "172.%d.%d.%d/16", 30 + letter - 'a', number / 250, number % 250 + 2);
	snprintf(box->endpoint.gateway4, sizeof box->endpoint.gateway4, "172.%d.0.1", 30 + letter - 'a');
}

void box_joined(struct gt_driver *driver, struct box *box, char letter, int number)
{
	struct gt_error err = { 0 };
	box_make(box, letter, number);
	assert_ok(gt_net_join(driver, &box->endpoint, box->place.netns, &err), err);
}

void box_end(struct box *box)
{
	place_end(&box->place);
}

const char *box_address(const struct box *box)
{
	static char address[64];
	snprintf(address, sizeof address, "%.*s", (int)strcspn(box->endpoint.ipv4, "/"), box->endpoint.ipv4);
	return address;
}

struct gantry_port port_of(const char *text)
{
	struct gantry_port port = { 0 };
	char proto[8];
	unsigned host, container;
	assert_int_equal(sscanf(text, "%7s %63s %u %u", proto, port.host_ip, &host, &container), 4);
	port.proto = strcmp(proto, "tcp") == 0 ? IPPROTO_TCP : strcmp(proto, "udp") == 0 ? IPPROTO_UDP : IPPROTO_SCTP;
	port.host_port = (uint16_t)host;
	port.container_port = (uint16_t)container;
	return port;
}

int publish_one(struct gt_driver *driver, const struct box *box, const char *port, struct gt_error *err)
{
	struct gantry_port list[1] = { port_of(port) };
	return gt_net_publish(driver, &box->endpoint, list, 1, err);
}

int reconcile_with(struct gt_driver *driver, struct box *const *boxes, size_t count, const char *port, struct gt_error *err)
{
	struct gantry_endpoint endpoints[8];
	struct gantry_port ports[1];
	uint32_t owner[1] = { 0 };
	for (size_t i = 0; i < count; i++)
		endpoints[i] = boxes[i]->endpoint;
	if (port)
		ports[0] = port_of(port);
	return gt_net_reconcile(driver, endpoints, count, ports, owner, port ? 1 : 0, err);
}
