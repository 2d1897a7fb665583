/* The macvlan driver: what a container finds inside, what is refused, what is undone, what is swept. The host's cable is eth0, whose other end is `outside`. */
#include "bridge_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define ALIAS "gantry endpoint "

static struct place outside;

static struct gt_driver *open_macvlan(void **state)
{
	struct drivers_fixture *fixture = *state;
	struct gt_error err = { 0 };
	start_drivers(fixture, "");
	struct gt_driver *driver = gt_driver_find(fixture->drivers, GANTRY_NETWORK, "macvlan", &err);
	if (!driver)
		fail_msg("%s", err.message);
	return driver;
}

static bool kernel_has(const char *kind)
{
	return try_in(&outside, "ip link add link out0 name tried type %s && ip link del tried", kind) == 0;
}

static int macvlan_make(void **state)
{
	host_enter();
	outside = place_make();
	free(shell_in(NULL, "ip link add eth0 type veth peer name out0 netns %d && ip link set eth0 up", outside.pid));
	free(shell_in(&outside, "ip link set out0 up && ip addr add 172.30.0.1/16 dev out0"));
	if (drivers_make(state) < 0)
		return -1;
	plant_plugin(*state, "plugins/net-macvlan.so", "net-macvlan.so");
	open_macvlan(state);
	return 0;
}

static int macvlan_end(void **state)
{
	place_end(&outside);
	return drivers_remove(state);
}

static struct gt_driver *macvlan_driver(void **state)
{
	struct gt_error err = { 0 };
	struct gt_driver *driver = gt_driver_find(((struct drivers_fixture *)*state)->drivers, GANTRY_NETWORK, "macvlan", &err);
	assert_ok(gt_net_reconcile(driver, NULL, 0, NULL, NULL, 0, &err), err);
	return driver;
}

static void a_network(struct gt_driver *driver, char letter, const char *mode)
{
	struct gt_error err = { 0 };
	struct bridge_network network = { .letter = letter, .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1", .options = { "parent", "eth0", "macvlan_mode", mode } };
	assert_ok(network_make(driver, &network, &err), err);
}

static bool has_link(const struct place *place, const char *name)
{
	return try_in(place, "ip link show dev %s", name) == 0;
}

/* ---- joins ---- */

static void a_container_finds_its_address_and_routes(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	free(shell_in(NULL, "ip link set eth0 mtu 1400"));
	a_network(driver, 'a', "bridge");
	box_joined(driver, &box, 'a', 5);
	assert_string_equal(box.endpoint.mac, "02:42:ac:1e:00:07");
	assert_string_equal(box.endpoint.host_ifname, "eth0");
	assert_string_equal(box.endpoint.gateway4, "172.30.0.1");
	assert_int_equal(box.endpoint.mtu, 1400);
	assert_shows(shell_in(&box.place, "ip -o addr show dev eth0"), "inet 172.30.0.7/16 brd 172.30.255.255");
	assert_lacks(shell_in(&box.place, "ip -o addr show dev eth0"), "inet6");
	assert_shows(shell_in(&box.place, "ip -d link show dev eth0"), "macvlan mode bridge");
	assert_shows(shell_in(&box.place, "ip -d link show dev eth0"), "group default");
	assert_shows(shell_in(&box.place, "ip -d link show dev eth0"), ALIAS);
	assert_shows(shell_in(&box.place, "ip link show dev lo"), "LOOPBACK,UP");
	assert_shows(shell_in(&box.place, "ip route"), "default via 172.30.0.1 dev eth0");
	int listener = serve(&box.place, "172.30.0.7", 80);
	assert_true(reaches(&outside, "172.30.0.7", 80, listener, NULL));
	close(listener);
	assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
	assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
	assert_false(has_link(&box.place, "eth0"));
	assert_ok(gt_net_remove(driver, box.network_id, &err), err);
	assert_ok(gt_net_remove(driver, box.network_id, &err), err);
	assert_true(has_link(NULL, "eth0"));
	box_end(&box);
}

static void joining_again_changes_nothing_but_the_default_route(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	a_network(driver, 'a', "bridge");
	box_joined(driver, &box, 'a', 1);
	AUTO_FREE char *before = shell_in(&box.place, "ip -o link show dev eth0");
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	AUTO_FREE char *after = shell_in(&box.place, "ip -o link show dev eth0");
	assert_string_equal(before, after);
	box.endpoint.default_route = 0;
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	assert_lacks(shell_in(&box.place, "ip route"), "default");
	box.endpoint.default_route = 1;
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	assert_shows(shell_in(&box.place, "ip route"), "default via 172.30.0.1");
	box_end(&box);
}

static void a_join_that_fails_half_way_leaves_nothing(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box box, other;
	a_network(driver, 'a', "bridge");
	box_make(&box, 'a', 1);
	snprintf(box.endpoint.gateway4, sizeof box.endpoint.gateway4, "192.0.2.1");
	assert_true(gt_net_join(driver, &box.endpoint, box.place.netns, &err) < 0);
	assert_non_null(strstr(err.message, "default route"));
	assert_false(has_link(&box.place, "eth0"));
	/* Nothing of it is remembered either: its MAC is free. */
	box_make(&other, 'a', 2);
	snprintf(other.endpoint.mac, sizeof other.endpoint.mac, "02:42:ac:1e:00:03");
	gt_error_clear(&err);
	assert_ok(gt_net_join(driver, &other.endpoint, other.place.netns, &err), err);
	box_end(&box);
	box_end(&other);
}

static void wrong_endpoints_are_refused(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	a_network(driver, 'a', "bridge");
	box_make(&box, 'b', 1);
	assert_fails(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err, GT_NOT_FOUND,
		     "driver macvlan: endpoint 000000000001: the driver knows no network bbbbbbbbbbbb");
	box_end(&box);
	box_make(&box, 'a', 1);
	snprintf(box.endpoint.mac, sizeof box.endpoint.mac, "01:00:00:00:00:01");
	assert_fails(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err, GT_INVALID,
		     "driver macvlan: network na: \"01:00:00:00:00:01\" is no MAC address of a single interface");
	box.endpoint.mac[0] = '\0';
	free(shell_in(&box.place, "ip link add eth0 type veth peer name other"));
	assert_fails(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err, GT_CONFLICT,
		     "driver macvlan: network na: the container has an interface eth0 already");
	assert_shows(shell_in(&box.place, "ip -d link show dev eth0"), "veth");
	assert_lacks(shell_in(&box.place, "ip -d link show dev eth0"), ALIAS);
	box_end(&box);
}

static void a_mac_that_a_living_container_has_is_a_conflict_at_once(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box first, second;
	a_network(driver, 'a', "bridge");
	box_joined(driver, &first, 'a', 1);
	box_make(&second, 'a', 2);
	snprintf(second.endpoint.mac, sizeof second.endpoint.mac, "%s", first.endpoint.mac);
	assert_fails(gt_net_join(driver, &second.endpoint, second.place.netns, &err), err, GT_CONFLICT,
		     "driver macvlan: network na: another macvlan link on parent eth0 has the MAC address 02:42:ac:1e:00:03");
	assert_false(has_link(&second.place, "eth0"));
	assert_true(has_link(&first.place, "eth0"));
	box_end(&first);
	box_end(&second);
}

/* The first one's namespace is kept alive by its descriptor here. */
static void an_ended_containers_link_is_waited_for_and_removed(void **state)
{
	static const char *const MODES[] = { "bridge", "passthru" };
	for (size_t i = 0; i < GT_COUNT(MODES); i++) {
		struct gt_driver *driver = macvlan_driver(state);
		struct gt_error err = { 0 };
		struct box first, second;
		a_network(driver, 'a', MODES[i]);
		box_joined(driver, &first, 'a', 1);
		assert_ok(gt_net_leave(driver, first.network_id, first.id, -1, &err), err);
		box_make(&second, 'a', 2);
		memcpy(second.endpoint.ipv4, first.endpoint.ipv4, sizeof second.endpoint.ipv4);
		assert_ok(gt_net_join(driver, &second.endpoint, second.place.netns, &err), err);
		assert_false(has_link(&first.place, "eth0"));
		assert_ok(gt_net_leave(driver, second.network_id, second.id, second.place.netns, &err), err);
		assert_ok(gt_net_remove(driver, second.network_id, &err), err);
		box_end(&first);
		box_end(&second);
	}
}

static void passthru_is_for_one_container_alone(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box first, second;
	a_network(driver, 'a', "passthru");
	box_joined(driver, &first, 'a', 1);
	assert_shows(shell_in(NULL, "ip link show dev eth0"), first.endpoint.mac);
	box_make(&second, 'a', 2);
	assert_fails(gt_net_join(driver, &second.endpoint, second.place.netns, &err), err, GT_CONFLICT,
		     "driver macvlan: network na is in mode passthru, which hands parent eth0 to one container alone, and another one has it");
	box_end(&first);
	box_end(&second);
}

struct crowd {
	struct gt_driver *driver;
	struct box boxes[24];
	pthread_mutex_t lock;
	int next, failures;
};

static void *join_some(void *arg)
{
	struct crowd *crowd = arg;
	for (;;) {
		struct gt_error err = { 0 };
		pthread_mutex_lock(&crowd->lock);
		int i = crowd->next++;
		pthread_mutex_unlock(&crowd->lock);
		if (i >= (int)GT_COUNT(crowd->boxes))
			return NULL;
		struct box *box = &crowd->boxes[i];
		int rc = gt_net_join(crowd->driver, &box->endpoint, box->place.netns, &err);
		if (rc == 0 && i % 2)
			rc = gt_net_leave(crowd->driver, box->network_id, box->id, box->place.netns, &err);
		pthread_mutex_lock(&crowd->lock);
		crowd->failures += rc < 0;
		pthread_mutex_unlock(&crowd->lock);
	}
}

static void many_join_at_once(void **state)
{
	static struct crowd crowd;
	crowd = (struct crowd){ .driver = macvlan_driver(state), .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[6];
	a_network(crowd.driver, 'a', "bridge");
	for (int i = 0; i < (int)GT_COUNT(crowd.boxes); i++)
		box_make(&crowd.boxes[i], 'a', i + 1);
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, join_some, &crowd), 0);
	for (size_t i = 0; i < GT_COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(crowd.failures, 0);
	for (int i = 0; i < (int)GT_COUNT(crowd.boxes); i++) {
		assert_int_equal(has_link(&crowd.boxes[i].place, "eth0"), i % 2 == 0);
		box_end(&crowd.boxes[i]);
	}
}

/* ---- networks ---- */

static void wrong_options_are_refused_by_name(void **state)
{
	static const struct {
		const char *key, *value, *message;
	} CASES[] = {
		{ "speed", "fast", "unknown option \"speed\" (there are: parent, macvlan_mode, com.docker.network.driver.mtu, "
				   "com.docker.network.container_iface_prefix)" },
		{ "macvlan_mode", "Bridge", "option macvlan_mode is \"Bridge\"; allowed are bridge, private, vepa and passthru" },
		{ "parent", "lo", "option parent is lo; loopback cannot carry macvlan links" },
		{ "parent", "a b", "option parent is \"a b\", which cannot name an interface: up to 15 of [A-Za-z0-9_.-]" },
		{ "parent", "a234567890123456", "option parent is \"a234567890123456\", which cannot name an interface: up to 15 of [A-Za-z0-9_.-]" },
		{ "parent", "../eth0", "option parent is \"../eth0\", which cannot name an interface: up to 15 of [A-Za-z0-9_.-]" },
		{ "parent", "eth1", "parent eth1 does not exist on this host; an interface that does, or INTERFACE.VLAN with a VLAN of 1 to 4094 is wanted" },
		{ "parent", "eth0.4095", "parent eth0.4095 does not exist on this host; an interface that does, or INTERFACE.VLAN with a VLAN of 1 to 4094 is wanted" },
		{ "parent", "eth0.", "parent eth0. does not exist on this host; an interface that does, or INTERFACE.VLAN with a VLAN of 1 to 4094 is wanted" },
		{ "parent", "eth1.7", "parent eth1.7 does not exist and cannot be made, as there is no interface eth1 on this host" },
		{ "parent", "gtm0", "option parent is gtm0; names that begin with gtm are those of networks without a parent" },
		{ "com.docker.network.driver.mtu", "67", "option com.docker.network.driver.mtu is \"67\"; allowed is 68 to 65535" },
		{ "com.docker.network.driver.mtu", "1e3", "option com.docker.network.driver.mtu is \"1e3\"; allowed is 68 to 65535" },
		{ "com.docker.network.container_iface_prefix", "net", "option com.docker.network.container_iface_prefix is \"net\"; only \"eth\" is supported" },
	};
	struct gt_driver *driver = macvlan_driver(state);
	AUTO_FREE char *before = shell_in(NULL, "ip -br link");
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_error err = { 0 };
		struct bridge_network network = { .letter = 'a', .options = { CASES[i].key, CASES[i].value } };
		AUTO_FREE char *wanted = gt_xasprintf("driver macvlan: network na: %s", CASES[i].message);
		assert_true(network_make(driver, &network, &err) < 0);
		assert_string_equal(err.message, wanted);
	}
	AUTO_FREE char *after = shell_in(NULL, "ip -br link");
	assert_string_equal(before, after);
}

static void a_parent_must_be_ethernet_and_carry_the_mtu(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct bridge_network network = { .letter = 'a', .options = { "parent", "eth0", "com.docker.network.driver.mtu", "1501" } };
	assert_fails(network_make(driver, &network, &err), err, GT_INVALID,
		     "driver macvlan: network na: an MTU of 1501 is more than its parent eth0 carries, which is 1500");
	if (try_in(NULL, "ip tuntap add tun0 mode tun") != 0)
		skip(); /* no tun here */
	network = (struct bridge_network){ .letter = 'a', .options = { "parent", "tun0" } };
	assert_fails(network_make(driver, &network, &err), err, GT_INVALID,
		     "driver macvlan: network na: tun0 is no Ethernet interface, so it cannot carry macvlan links");
}

static void passthru_shares_with_nobody(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct bridge_network network = { .letter = 'b', .options = { "parent", "eth0", "macvlan_mode", "passthru" } };
	a_network(driver, 'a', "vepa");
	a_network(driver, 'c', "private");
	assert_true(network_make(driver, &network, &err) < 0);
	assert_non_null(strstr(err.message, "mode passthru of network nb shares it with nobody"));
	char id[65];
	snprintf(id, sizeof id, "%064d", 0);
	for (char letter = 'a'; letter <= 'c'; letter++) {
		memset(id, letter, 64);
		assert_ok(gt_net_remove(driver, id, &err), err);
	}
	assert_ok(network_make(driver, &network, &err), err);
	network = (struct bridge_network){ .letter = 'd', .options = { "parent", "eth0" } };
	gt_error_clear(&err);
	assert_true(network_make(driver, &network, &err) < 0);
	assert_non_null(strstr(err.message, "is used by network nb"));
}

static void a_network_without_a_parent_gets_one_that_leads_nowhere(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct bridge_network network = { .letter = 'a' };
	struct box first, second;
	if (!kernel_has("dummy") && !kernel_has("ifb")) {
		assert_true(network_make(driver, &network, &err) < 0);
		assert_non_null(strstr(err.message, "CONFIG_DUMMY"));
		skip();
	}
	assert_ok(network_make(driver, &network, &err), err);
	assert_ok(network_make(driver, &network, &err), err);
	assert_shows(shell_in(NULL, "ip -d link show dev gtmaaaaaaaaaaaa"), "alias gantry macvlan parent");
	assert_lacks(shell_in(NULL, "ip -o addr show dev gtmaaaaaaaaaaaa"), "inet");
	box_joined(driver, &first, 'a', 1);
	box_joined(driver, &second, 'a', 2);
	assert_string_equal(first.endpoint.gateway4, "");
	assert_lacks(shell_in(&first.place, "ip route"), "default");
	int listener = serve(&first.place, "172.30.0.3", 80);
	assert_true(reaches(&second.place, "172.30.0.3", 80, listener, NULL));
	assert_false(reaches(NULL, "172.30.0.3", 80, listener, NULL));
	close(listener);
	box_end(&first);
	box_end(&second);
	assert_ok(gt_net_remove(driver, first.network_id, &err), err);
	assert_false(has_link(NULL, "gtmaaaaaaaaaaaa"));
}

static void a_vlan_is_made_and_removed_with_the_last_network(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct bridge_network network = { .letter = 'a', .options = { "parent", "eth0.50" } };
	char id[65] = { 0 };
	if (!kernel_has("vlan id 9")) {
		assert_fails(network_make(driver, &network, &err), err, GT_UNSUPPORTED,
			     "driver macvlan: network na: parent eth0.50 would be an 802.1q sub-interface of eth0, which this kernel cannot make (CONFIG_VLAN_8021Q, "
			     "module 8021q)");
		assert_false(has_link(NULL, "eth0.50"));
		skip();
	}
	free(shell_in(NULL, "ip link set eth0 down"));
	assert_true(network_make(driver, &network, &err) < 0);
	assert_false(has_link(NULL, "eth0.50"));
	free(shell_in(NULL, "ip link set eth0 up"));
	assert_ok(network_make(driver, &network, &err), err);
	network.letter = 'b';
	assert_ok(network_make(driver, &network, &err), err);
	assert_shows(shell_in(NULL, "ip -d link show dev eth0.50"), "vlan protocol 802.1Q id 50");
	assert_lacks(shell_in(NULL, "ip -o addr show dev eth0.50"), "inet");
	memset(id, 'a', 64);
	assert_ok(gt_net_remove(driver, id, &err), err);
	assert_true(has_link(NULL, "eth0.50"));
	memset(id, 'b', 64);
	assert_ok(gt_net_remove(driver, id, &err), err);
	assert_false(has_link(NULL, "eth0.50"));
	free(shell_in(NULL, "ip link add link eth0 name eth0.50 type vlan id 50"));
	assert_ok(network_make(driver, &network, &err), err);
	assert_ok(gt_net_remove(driver, id, &err), err);
	assert_true(has_link(NULL, "eth0.50"));
}

/* ---- the next life ---- */

static void the_next_life_finds_what_is_there_and_sweeps_the_rest(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box known, forgotten;
	struct box *const boxes[] = { &known };
	a_network(driver, 'a', "bridge");
	box_joined(driver, &known, 'a', 1);
	box_joined(driver, &forgotten, 'a', 2);
	free(shell_in(NULL, "ip link add link eth0 name foreign0 netns %d type macvlan", known.place.pid));
	stop_drivers(*state);
	driver = open_macvlan(state);
	a_network(driver, 'a', "bridge");
	assert_ok(reconcile_with(driver, boxes, 1, NULL, &err), err);
	assert_true(has_link(&known.place, "eth0"));
	assert_true(has_link(&known.place, "foreign0"));
	assert_false(has_link(&forgotten.place, "eth0"));
	/* Where it is, is known again. */
	assert_ok(gt_net_leave(driver, known.network_id, known.id, -1, &err), err);
	for (int i = 0; i < 100 && has_link(&known.place, "eth0"); i++)
		usleep(20000);
	assert_false(has_link(&known.place, "eth0"));
	assert_true(has_link(&known.place, "foreign0"));
	box_end(&known);
	box_end(&forgotten);
}

static void a_parent_that_is_not_there_at_the_start_is_waited_for(void **state)
{
	struct gt_driver *driver = macvlan_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	stop_drivers(*state);
	free(shell_in(NULL, "ip link set eth0 name away0"));
	driver = open_macvlan(state);
	a_network(driver, 'a', "bridge");
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	box_make(&box, 'a', 1);
	assert_true(gt_net_join(driver, &box.endpoint, box.place.netns, &err) < 0);
	assert_non_null(strstr(err.message, "parent eth0 does not exist"));
	free(shell_in(NULL, "ip link set away0 name eth0 && ip link set eth0 up"));
	assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
	box_end(&box);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, macvlan_make, macvlan_end)
	const struct CMUnitTest tests[] = {
		TEST(a_container_finds_its_address_and_routes),
		TEST(joining_again_changes_nothing_but_the_default_route),
		TEST(a_join_that_fails_half_way_leaves_nothing),
		TEST(wrong_endpoints_are_refused),
		TEST(a_mac_that_a_living_container_has_is_a_conflict_at_once),
		TEST(an_ended_containers_link_is_waited_for_and_removed),
		TEST(passthru_is_for_one_container_alone),
		TEST(many_join_at_once),
		TEST(wrong_options_are_refused_by_name),
		TEST(a_parent_must_be_ethernet_and_carry_the_mtu),
		TEST(passthru_shares_with_nobody),
		TEST(a_network_without_a_parent_gets_one_that_leads_nowhere),
		TEST(a_vlan_is_made_and_removed_with_the_last_network),
		TEST(the_next_life_finds_what_is_there_and_sweeps_the_rest),
		TEST(a_parent_that_is_not_there_at_the_start_is_waited_for),
	};
	return run_both("net macvlan", tests, GT_COUNT(tests));
}
