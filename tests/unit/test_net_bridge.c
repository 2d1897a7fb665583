/* The bridge driver's links: what a container finds inside, what the host sees, what is refused, what is undone. */
#include "bridge_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define LINK_A "gtbaaaaaaaaaaaa"

static void a_container_finds_its_address_and_routes(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	plain_network(driver, 'a');
	box_joined(driver, &box, 'a', 5);
	assert_string_equal(box.endpoint.mac, "02:42:ac:1e:00:07");
	assert_string_equal(box.endpoint.host_ifname, "gtv000000000005");
	assert_string_equal(box.endpoint.gateway4, "172.30.0.1");
	assert_int_equal(box.endpoint.mtu, 1500);
	assert_shows(shell_in(&box.place, "ip -o addr show dev eth0"), "inet 172.30.0.7/16 brd 172.30.255.255");
	assert_lacks(shell_in(&box.place, "ip -o addr show dev eth0"), "inet6");
	assert_shows(shell_in(&box.place, "ip link show dev eth0"), "mtu 1500");
	assert_shows(shell_in(&box.place, "ip link show dev eth0"), "02:42:ac:1e:00:07");
	assert_shows(shell_in(&box.place, "ip link show dev lo"), "LOOPBACK,UP");
	assert_shows(shell_in(&box.place, "ip route"), "default via 172.30.0.1 dev eth0");
	assert_shows(shell_in(&box.place, "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6"), "1");
	assert_shows(shell_in(NULL, "ip link show dev gtv000000000005"), "master " LINK_A);
	assert_lacks(shell_in(NULL, "ip -o addr show dev gtv000000000005"), "inet");
	assert_shows(shell_in(NULL, "ip -o addr show dev " LINK_A), "inet 172.30.0.1/16");
	assert_lacks(shell_in(NULL, "ip -o addr show dev " LINK_A), "inet6");
	assert_shows(shell_in(NULL, "cat /proc/sys/net/ipv4/ip_forward"), "1");
	assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
	assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
	assert_lacks(shell_in(&box.place, "ip -o link"), "eth0");
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv");
	assert_ok(gt_net_remove(driver, box.network_id, &err), err);
	assert_ok(gt_net_remove(driver, box.network_id, &err), err);
	assert_lacks(shell_in(NULL, "ip -o link"), "gtb");
	assert_lacks(shell_in(NULL, "nft list ruleset"), LINK_A);
	box_end(&box);
}

static void joining_again_changes_nothing(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	plain_network(driver, 'a');
	box_joined(driver, &box, 'a', 1);
	AUTO_FREE char *before = shell_in(&box.place, "ip -o link show dev eth0");
	AUTO_FREE char *routes = shell_in(&box.place, "ip route");
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	AUTO_FREE char *after = shell_in(&box.place, "ip -o link show dev eth0");
	AUTO_FREE char *routes_after = shell_in(&box.place, "ip route");
	assert_string_equal(before, after);
	assert_string_equal(routes, routes_after);
	/* The default route moves with the engine's wish. */
	box.endpoint.default_route = 0;
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	assert_string_equal(box.endpoint.gateway4, "172.30.0.1");
	assert_lacks(shell_in(&box.place, "ip route"), "default");
	box.endpoint.default_route = 1;
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	assert_shows(shell_in(&box.place, "ip route"), "default via 172.30.0.1");
	box_end(&box);
}

static void an_old_link_of_a_dead_namespace_does_not_hinder(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	plain_network(driver, 'a');
	box_joined(driver, &box, 'a', 1);
	struct place other = place_make();
	assert_ok(gt_net_join(driver, &box.endpoint, other.netns, &err), err);
	assert_shows(shell_in(&other, "ip -o addr"), "172.30.0.3/16");
	assert_lacks(shell_in(&box.place, "ip -o link"), "eth0");
	place_end(&other);
	box_end(&box);
}

static void ipv6_works_at_once(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box, only6;
	struct bridge_network network = { .letter = 'a', .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1", .subnet6 = "fd00:77::/64",
					  .gateway6 = "fd00:77::1", .flags = GANTRY_NETWORK_IPV6 };
	assert_ok(network_make(driver, &network, &err), err);
	box_make(&box, 'a', 1);
	strcpy(box.endpoint.ipv6, "fd00:77::2/64");
	strcpy(box.endpoint.gateway6, "fd00:77::1");
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	assert_shows(shell_in(&box.place, "ip -6 -o addr show dev eth0 scope global"), "fd00:77::2/64");
	assert_shows(shell_in(&box.place, "ip -6 route"), "default via fd00:77::1 dev eth0");
	int server = serve(&box.place, "::", 80);
	assert_true(reaches(NULL, "fd00:77::2", 80, server, NULL));
	close(server);
	box_make(&only6, 'a', 2);
	strcpy(only6.endpoint.ipv6, "fd00:77::3/64");
	only6.endpoint.ipv4[0] = only6.endpoint.gateway4[0] = '\0';
	assert_ok(gt_net_join(driver, &only6.endpoint, only6.place.netns, &err), err);
	assert_int_equal(strncmp(only6.endpoint.mac, "02:42:", 6), 0);
	server = serve(&only6.place, "::", 80);
	assert_true(reaches(&box.place, "fd00:77::3", 80, server, NULL));
	close(server);
	box_end(&box);
	box_end(&only6);
}

static void options_shape_the_link(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	struct bridge_network network = { .letter = 'a', .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1",
					  .options = { "com.docker.network.bridge.name", "my.br-0", "com.docker.network.driver.mtu", "9000" } };
	assert_ok(network_make(driver, &network, &err), err);
	box_make(&box, 'a', 1);
	strcpy(box.endpoint.mac, "02:42:AA:bb:cc:dd");
	box.endpoint.ifname = "lan3";
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	assert_string_equal(box.endpoint.mac, "02:42:aa:bb:cc:dd");
	assert_int_equal(box.endpoint.mtu, 9000);
	assert_shows(shell_in(&box.place, "ip link show dev lan3"), "mtu 9000");
	assert_shows(shell_in(&box.place, "ip link show dev lan3"), "02:42:aa:bb:cc:dd");
	assert_shows(shell_in(NULL, "ip link show dev my.br-0"), "mtu 9000");
	assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
	assert_ok(gt_net_remove(driver, box.network_id, &err), err);
	assert_lacks(shell_in(NULL, "ip -o link"), "my.br-0");
	/* the default network's name */
	network = (struct bridge_network){ .letter = 'b', .subnet4 = "172.31.0.0/16", .gateway4 = "172.31.0.1", .flags = GANTRY_NETWORK_DEFAULT,
					   .options = { "com.docker.network.bridge.default_bridge", "true", "com.docker.network.container_iface_prefix", "eth" } };
	assert_ok(network_make(driver, &network, &err), err);
	assert_shows(shell_in(NULL, "ip -o addr show dev gtbr0"), "172.31.0.1/16");
	box_end(&box);
}

static void the_ini_file_has_defaults(void **state)
{
	struct gt_error err = { 0 };
	stop_drivers(*state);
	start_drivers(*state, "[plugin.net-bridge]\nmtu = 1400\nicc = no\nmasquerade = no\nip_forward = no\n");
	struct gt_driver *driver = bridge_driver(state);
	free(shell_in(NULL, "echo 0 >/proc/sys/net/ipv4/ip_forward"));
	plain_network(driver, 'a');
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	assert_shows(shell_in(NULL, "ip link show dev " LINK_A), "mtu 1400");
	assert_shows(shell_in(NULL, "nft list table ip gantry"), "\"" LINK_A "\" . \"" LINK_A "\" : drop");
	assert_lacks(shell_in(NULL, "nft list set ip gantry nat_out"), LINK_A);
	assert_shows(shell_in(NULL, "cat /proc/sys/net/ipv4/ip_forward"), "0");
}

static void wrong_options_are_refused_by_name(void **state)
{
	static const struct {
		const char *key, *value, *reason;
	} CASES[] = {
		{ "nonsense", "1",
		  "unknown option \"nonsense\" (there are: com.docker.network.bridge.{name,enable_icc,enable_ip_masquerade,host_binding_ipv4,"
		  "default_bridge}, com.docker.network.driver.mtu, com.docker.network.container_iface_prefix)" },
		{ "com.docker.network.bridge.name", "a/b",
		  "option com.docker.network.bridge.name is \"a/b\", which cannot name an interface: use up to 15 of [A-Za-z0-9_.-]" },
		{ "com.docker.network.bridge.name", "br\"; flush ruleset",
		  "option com.docker.network.bridge.name is \"br\"; flush ruleset\", which cannot name an interface: use up to 15 of [A-Za-z0-9_.-]" },
		{ "com.docker.network.bridge.name", "sixteen-letters-",
		  "option com.docker.network.bridge.name is \"sixteen-letters-\", which cannot name an interface: use up to 15 of [A-Za-z0-9_.-]" },
		{ "com.docker.network.bridge.name", "gtvx", "option com.docker.network.bridge.name is gtvx; names that begin with gtv are those of containers' links" },
		{ "com.docker.network.bridge.enable_icc", "yes", "option com.docker.network.bridge.enable_icc is \"yes\"; allowed are true and false" },
		{ "com.docker.network.bridge.enable_ip_masquerade", "", "option com.docker.network.bridge.enable_ip_masquerade is \"\"; allowed are true and false" },
		{ "com.docker.network.bridge.host_binding_ipv4", "::1",
		  "option com.docker.network.bridge.host_binding_ipv4 is \"::1\", which is no IPv4 address" },
		{ "com.docker.network.bridge.default_bridge", "true",
		  "option com.docker.network.bridge.default_bridge is for the engine's own default network alone" },
		{ "com.docker.network.driver.mtu", "67", "option com.docker.network.driver.mtu is \"67\"; allowed is 68 to 65535" },
		{ "com.docker.network.driver.mtu", "1500x", "option com.docker.network.driver.mtu is \"1500x\"; allowed is 68 to 65535" },
		{ "com.docker.network.container_iface_prefix", "lan", "option com.docker.network.container_iface_prefix is \"lan\"; only \"eth\" is supported" },
	};
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct bridge_network network = { .letter = 'a', .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1", .options = { CASES[i].key, CASES[i].value } };
		AUTO_FREE char *wanted = gt_xasprintf("driver bridge: network na: %s", CASES[i].reason);
		assert_int_equal(network_make(driver, &network, &err), -1);
		assert_string_equal(err.message, wanted);
	}
	struct bridge_network tiny = { .letter = 'a', .subnet6 = "fd00::/64", .gateway6 = "fd00::1", .options = { "com.docker.network.driver.mtu", "1000" } };
	assert_fails(network_make(driver, &tiny, &err), err, GT_INVALID,
		     "driver bridge: network na: an MTU of 1000 is too small for IPv6, which needs 1280");
	assert_lacks(shell_in(NULL, "ip -o link"), "gtb");
}

static void wrong_endpoints_are_refused(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	struct gantry_option option = { "speed", "high" };
	plain_network(driver, 'a');
	box_make(&box, 'a', 1);
	struct gantry_endpoint good = box.endpoint;
#define REFUSED(change, reason)                                                                                  \
	do {                                                                                                     \
		box.endpoint = good;                                                                             \
		change;                                                                                          \
		assert_int_equal(gt_net_join(driver, &box.endpoint, box.place.netns, &err), -1);                 \
		assert_string_equal(err.message, "driver bridge: " reason);                                      \
	} while (0)
	REFUSED(strcpy(box.endpoint.mac, "03:00:00:00:00:01"), "network na: \"03:00:00:00:00:01\" is no MAC address of a single interface");
	REFUSED(strcpy(box.endpoint.mac, "0:0:0:0:0:1"), "network na: \"0:0:0:0:0:1\" is no MAC address of a single interface");
	REFUSED(strcpy(box.endpoint.ipv4, "172.30.0.300/16"), "\"172.30.0.300/16\" is no IPv4 address with a prefix");
	REFUSED(strcpy(box.endpoint.ipv4, "172.30.0.3"), "\"172.30.0.3\" is no IPv4 address with a prefix");
	REFUSED(strcpy(box.endpoint.gateway4, "fd00::1"), "\"fd00::1\" is no IPv4 address of a gateway");
	REFUSED(box.endpoint.ifname = "a b", "network na: \"a b\" cannot name a container's interface: use up to 15 of [A-Za-z0-9_.-]");
	REFUSED(box.endpoint.ifname = "lo", "network na: \"lo\" cannot name a container's interface: use up to 15 of [A-Za-z0-9_.-]");
	REFUSED((box.endpoint.options.count = 1, box.endpoint.options.items = &option), "network na: unknown endpoint option \"speed\" (this driver has none)");
	REFUSED(box.endpoint.network_id = "nowhere", "endpoint 000000000001: the driver knows no network nowhere");
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv");
	box_end(&box);
}

static void a_join_that_fails_half_way_leaves_nothing(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	plain_network(driver, 'a');
	box_make(&box, 'a', 1);
	/* the route cannot be set, when all else is done */
	strcpy(box.endpoint.gateway4, "10.9.9.9");
	assert_int_equal(gt_net_join(driver, &box.endpoint, box.place.netns, &err), -1);
	assert_non_null(strstr(err.message, "set the container's IPv4 default route"));
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv");
	assert_lacks(shell_in(&box.place, "ip -o link"), "eth0");
	/* the name is taken */
	strcpy(box.endpoint.gateway4, "172.30.0.1");
	free(shell_in(&box.place, "ip link add eth0 type bridge"));
	assert_fails(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err, GT_CONFLICT,
		     "driver bridge: network na: the container has an interface eth0 already");
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv");
	/* no namespace at all */
	AUTO_CLOSE int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(gt_net_join(driver, &box.endpoint, nothing, &err), -1);
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv");
	box_end(&box);
}

static void a_dead_containers_link_goes(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box, held;
	plain_network(driver, 'a');
	box_joined(driver, &box, 'a', 1);
	box_joined(driver, &held, 'a', 2);
	int keeper = dup(held.place.netns);
	box_end(&box);
	box_end(&held);
	int64_t before = gt_monotonic();
	assert_ok(gt_net_leave(driver, box.network_id, box.id, -1, &err), err);
	assert_ok(gt_net_leave(driver, held.network_id, held.id, -1, &err), err);
	assert_true(gt_monotonic() - before < 100 * GT_MILLISECOND);
	for (int i = 0; i < 200; i++) {
		AUTO_FREE char *links = shell_in(NULL, "ip -o link");
		if (!strstr(links, "gtv"))
			break;
		usleep(20000);
	}
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv");
	close(keeper);
}

static void foreign_bridges_are_used_and_kept(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	struct bridge_network network = { .letter = 'a', .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1",
					  .options = { "com.docker.network.bridge.name", "br0" } };
	free(shell_in(NULL, "ip link add br0 type veth peer name br1"));
	assert_fails(network_make(driver, &network, &err), err, GT_CONFLICT,
		     "driver bridge: network na: its bridge would be br0, but a link of that name is there and is no bridge");
	free(shell_in(NULL, "ip link del br0; ip link add br0 type bridge; ip addr add 10.1.1.1/24 dev br0"));
	assert_ok(network_make(driver, &network, &err), err);
	assert_shows(shell_in(NULL, "ip -o addr show dev br0"), "10.1.1.1/24");
	network.letter = 'b';
	assert_fails(network_make(driver, &network, &err), err, GT_CONFLICT, "driver bridge: network nb: bridge br0 is network na's");
	box_joined(driver, &box, 'a', 1);
	int server = serve(&box.place, "0.0.0.0", 80);
	assert_true(reaches(NULL, box_address(&box), 80, server, NULL));
	close(server);
	assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
	assert_ok(gt_net_remove(driver, box.network_id, &err), err);
	assert_shows(shell_in(NULL, "ip -o link"), "br0");
	box_end(&box);
}

static void an_existing_bridge_of_ours_is_brought_to_order(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	plain_network(driver, 'a');
	free(shell_in(NULL, "ip addr flush dev " LINK_A "; ip addr add 10.5.5.5/24 dev " LINK_A "; ip link set " LINK_A " down"));
	driver = bridge_again(state);
	plain_network(driver, 'a');
	assert_shows(shell_in(NULL, "ip -o addr show dev " LINK_A), "172.30.0.1/16");
	assert_lacks(shell_in(NULL, "ip -o addr show dev " LINK_A), "10.5.5.5");
	/* one that somebody removed comes back with the next container */
	free(shell_in(NULL, "ip link del " LINK_A));
	struct box box;
	box_joined(driver, &box, 'a', 1);
	int server = serve(&box.place, "0.0.0.0", 80);
	assert_true(reaches(NULL, box_address(&box), 80, server, NULL));
	close(server);
	/* and with reconcile(), which puts containers back on it */
	free(shell_in(NULL, "ip link del " LINK_A));
	struct box *boxes[] = { &box };
	assert_ok(reconcile_with(driver, boxes, 1, NULL, &err), err);
	server = serve(&box.place, "0.0.0.0", 80);
	assert_true(reaches(NULL, box_address(&box), 80, server, NULL));
	close(server);
	box_end(&box);
}

#define CROWD 24

struct crowd {
	struct gt_driver *driver;
	struct box boxes[CROWD];
	int failures;
	pthread_mutex_t lock;
	int next;
};

static void *join_some(void *arg)
{
	struct crowd *crowd = arg;
	for (;;) {
		struct gt_error err = { 0 };
		pthread_mutex_lock(&crowd->lock);
		int index = crowd->next++;
		pthread_mutex_unlock(&crowd->lock);
		if (index >= CROWD)
			return NULL;
		struct box *box = &crowd->boxes[index];
		AUTO_FREE char *port = gt_xasprintf("tcp 0.0.0.0 %d 80", 9000 + index);
		bool failed = gt_net_join(crowd->driver, &box->endpoint, box->place.netns, &err) < 0 || publish_one(crowd->driver, box, port, &err) < 0 ||
			      (index % 2 && gt_net_leave(crowd->driver, box->network_id, box->id, box->place.netns, &err) < 0);
		if (failed) {
			fprintf(stderr, "%s\n", err.message);
			pthread_mutex_lock(&crowd->lock);
			crowd->failures++;
			pthread_mutex_unlock(&crowd->lock);
		}
	}
}

static void many_join_at_once(void **state)
{
	static struct crowd crowd;
	crowd = (struct crowd){ .driver = bridge_driver(state), .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[6];
	plain_network(crowd.driver, 'a');
	for (int i = 0; i < CROWD; i++)
		box_make(&crowd.boxes[i], 'a', i + 1);
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, join_some, &crowd), 0);
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(crowd.failures, 0);
	AUTO_FREE char *count = shell_in(NULL, "ip -o link | grep -c gtv");
	assert_int_equal(atoi(count), CROWD / 2);
	for (int i = 0; i < CROWD; i++)
		box_end(&crowd.boxes[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bridge_make, bridge_end)
	const struct CMUnitTest tests[] = {
		TEST(a_container_finds_its_address_and_routes),
		TEST(joining_again_changes_nothing),
		TEST(an_old_link_of_a_dead_namespace_does_not_hinder),
		TEST(ipv6_works_at_once),
		TEST(options_shape_the_link),
		TEST(the_ini_file_has_defaults),
		TEST(wrong_options_are_refused_by_name),
		TEST(wrong_endpoints_are_refused),
		TEST(a_join_that_fails_half_way_leaves_nothing),
		TEST(a_dead_containers_link_goes),
		TEST(foreign_bridges_are_used_and_kept),
		TEST(an_existing_bridge_of_ours_is_brought_to_order),
		TEST(many_join_at_once),
	};
	return run_both("net bridge", tests, GT_COUNT(tests));
}
