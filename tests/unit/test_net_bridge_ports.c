/* The bridge driver's traffic: published ports from everywhere, who may reach whom, and tables that somebody else damaged. */
#include "bridge_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Another host: 10.231.0.1 there, 10.231.0.2 here; IPv6 alike. It has routes to the containers' subnets through us. */
static struct place outside_make(void)
{
	struct place outside = place_make();
	free(shell_in(NULL, "ip link add up0 type veth peer name up0 netns %d; ip addr add 10.231.0.2/24 dev up0; "
			    "ip addr add fd00:231::2/64 dev up0 nodad; ip link set up0 up", outside.pid));
	free(shell_in(&outside, "ip link set lo up; ip addr add 10.231.0.1/24 dev up0; ip addr add fd00:231::1/64 dev up0 nodad; ip link set up0 up; "
				"ip route add 172.0.0.0/8 via 10.231.0.2; ip -6 route add fd00:77::/64 via fd00:231::2"));
	return outside;
}

static void set_bridge_netfilter(const char *value)
{
	/* Absent where the kernel's module is not loaded; then frames between ports never see our tables. */
	(void)try_in(NULL, "echo %s >/proc/sys/net/bridge/bridge-nf-call-iptables; echo %s >/proc/sys/net/bridge/bridge-nf-call-ip6tables", value, value);
}

static void a_published_port_is_reached_from_everywhere(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, neighbour, stranger;
	char peer[64];
	struct place outside = outside_make();
	plain_network(driver, 'a');
	plain_network(driver, 'b');
	for (int netfilter = 0; netfilter < 2; netfilter++) {
		set_bridge_netfilter(netfilter ? "1" : "0");
		box_joined(driver, &web, 'a', 1);
		box_joined(driver, &neighbour, 'a', 2);
		box_joined(driver, &stranger, 'b', 3);
		int server = serve(&web.place, "0.0.0.0", 80);
		assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
		assert_true(reaches(NULL, "127.0.0.1", 8080, server, peer));
		assert_string_equal(peer, "172.30.0.1");
		assert_true(reaches(NULL, "10.231.0.2", 8080, server, NULL));
		assert_true(reaches(NULL, "172.30.0.1", 8080, server, NULL));
		assert_true(reaches(&outside, "10.231.0.2", 8080, server, peer));
		assert_string_equal(peer, "10.231.0.1");
		assert_true(reaches(&neighbour.place, "10.231.0.2", 8080, server, NULL));
		assert_true(reaches(&neighbour.place, "172.30.0.1", 8080, server, NULL));
		assert_true(reaches(&stranger.place, "10.231.0.2", 8080, server, NULL));
		assert_true(reaches(&web.place, "10.231.0.2", 8080, server, NULL));
		/* between neighbours nothing is rewritten */
		assert_true(reaches(&neighbour.place, "172.30.0.3", 80, server, peer));
		assert_string_equal(peer, "172.30.0.4");
		assert_ok(gt_net_unpublish(driver, web.network_id, web.id, &err), err);
		assert_ok(gt_net_unpublish(driver, web.network_id, web.id, &err), err);
		assert_true(refused(NULL, "127.0.0.1", 8080, server));
		assert_true(refused(&outside, "10.231.0.2", 8080, server));
		close(server);
		struct box *all[] = { &web, &neighbour, &stranger };
		for (size_t i = 0; i < GT_COUNT(all); i++) {
			assert_ok(gt_net_leave(driver, all[i]->network_id, all[i]->id, all[i]->place.netns, &err), err);
			box_end(all[i]);
		}
	}
	assert_lacks(shell_in(NULL, "nft list ruleset"), "8080");
	place_end(&outside);
}

static void a_port_on_loopback_is_for_the_host_alone(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, other;
	struct place outside = outside_make();
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	box_joined(driver, &other, 'a', 2);
	int server = serve(&web.place, "0.0.0.0", 80), own = serve(NULL, "127.0.0.1", 7777);
	assert_ok(publish_one(driver, &web, "tcp 127.0.0.1 8081 80", &err), err);
	assert_true(reaches(NULL, "127.0.0.1", 8081, server, NULL));
	assert_true(refused(NULL, "127.0.0.2", 8081, server));
	assert_true(refused(NULL, "10.231.0.2", 8081, server));
	assert_true(refused(&outside, "10.231.0.2", 8081, server));
	assert_true(refused(&other.place, "172.30.0.1", 8081, server));
	/* nor for those who send 127.0.0.1 over the wire */
#define SEND_LOOPBACK_OVER "ip addr flush dev lo; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip route add 127.0.0.0/8 via "
	free(shell_in(&outside, SEND_LOOPBACK_OVER "10.231.0.2"));
	free(shell_in(&other.place, SEND_LOOPBACK_OVER "172.30.0.1"));
	assert_true(refused(&outside, "127.0.0.1", 8081, server));
	assert_true(refused(&other.place, "127.0.0.1", 8081, server));
	assert_true(refused(&other.place, "127.0.0.1", 7777, own));
	close(server);
	close(own);
	box_end(&web);
	box_end(&other);
	place_end(&outside);
}

static void udp_flows_follow_their_port(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box first, second;
	struct place outside = outside_make();
	plain_network(driver, 'a');
	box_joined(driver, &first, 'a', 1);
	box_joined(driver, &second, 'a', 2);
	int server = serve_udp(&first.place, "0.0.0.0", 53), server2 = serve_udp(&second.place, "0.0.0.0", 53);
	int client = socket_in(NULL, AF_INET, SOCK_DGRAM), far = socket_in(&outside, AF_INET, SOCK_DGRAM);
	/* flows that began when nobody was there */
	assert_true(stays_silent(far, "10.231.0.2", 5353, server));
	assert_true(stays_silent(client, "127.0.0.1", 5353, server));
	assert_ok(publish_one(driver, &first, "udp 0.0.0.0 5353 53", &err), err);
	assert_true(echoes(far, "10.231.0.2", 5353, server));
	assert_true(echoes(client, "127.0.0.1", 5353, server));
	/* and that led to another container */
	assert_ok(gt_net_unpublish(driver, first.network_id, first.id, &err), err);
	assert_ok(publish_one(driver, &second, "udp 0.0.0.0 5353 53", &err), err);
	assert_true(echoes(far, "10.231.0.2", 5353, server2));
	assert_true(echoes(client, "127.0.0.1", 5353, server2));
	close(server);
	close(server2);
	close(client);
	close(far);
	box_end(&first);
	box_end(&second);
	place_end(&outside);
}

static void ipv6_is_published_too(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, other;
	char peer[64];
	struct place outside = outside_make();
	struct bridge_network network = { .letter = 'a', .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1", .subnet6 = "fd00:77::/64",
					  .gateway6 = "fd00:77::1", .flags = GANTRY_NETWORK_IPV6 };
	assert_ok(network_make(driver, &network, &err), err);
	struct box *both[] = { &web, &other };
	for (int i = 0; i < 2; i++) {
		box_make(both[i], 'a', i + 1);
		snprintf(both[i]->endpoint.ipv6, sizeof both[i]->endpoint.ipv6, "fd00:77::%d/64", i + 10);
		strcpy(both[i]->endpoint.gateway6, "fd00:77::1");
		assert_ok(gt_net_join(driver, &both[i]->endpoint, both[i]->place.netns, &err), err);
	}
	int server = serve(&web.place, "::", 80), far = serve(&outside, "::", 7000);
	struct gantry_port ports[] = { port_of("tcp :: 8086 80"), port_of("tcp 0.0.0.0 8086 80") };
	assert_ok(gt_net_publish(driver, &web.endpoint, ports, 2, &err), err);
	assert_true(reaches(NULL, "fd00:77::1", 8086, server, NULL));
	assert_true(reaches(NULL, "fd00:231::2", 8086, server, NULL));
	assert_true(reaches(NULL, "127.0.0.1", 8086, server, NULL));
	/* by the relay: the kernel sends nothing on from there */
	assert_true(reaches(NULL, "::1", 8086, server, peer));
	assert_string_equal(peer, "fd00:77::1");
	assert_true(reaches(&outside, "fd00:231::2", 8086, server, peer));
	assert_string_equal(peer, "fd00:231::1");
	assert_true(reaches(&other.place, "fd00:231::2", 8086, server, NULL));
	assert_true(reaches(&web.place, "fd00:231::2", 8086, server, NULL));
	assert_true(refused(&outside, "fd00:77::a", 80, server));
	assert_true(reaches(&other.place, "fd00:231::1", 7000, far, peer));
	assert_string_equal(peer, "fd00:231::2");
	assert_fails(publish_one(driver, &other, "sctp ::1 9000 80", &err), err, GT_UNSUPPORTED,
		     "driver bridge: port 9000/sctp cannot be published on ::1: the kernel forwards nothing from there, and SCTP is not relayed");
	close(server);
	close(far);
	box_end(&web);
	box_end(&other);
	place_end(&outside);
}

static void a_taken_port_is_refused_in_dockers_words(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, other;
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	box_joined(driver, &other, 'a', 2);
	assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
	assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
	assert_fails(publish_one(driver, &web, "tcp 0.0.0.0 8081 80", &err), err, GT_CONFLICT,
		     "driver bridge: endpoint 000000000001 has other ports published already");
	assert_fails(publish_one(driver, &other, "tcp 0.0.0.0 8080 80", &err), err, GT_CONFLICT,
		     "driver bridge: Bind for 0.0.0.0:8080 failed: port is already allocated");
	assert_fails(publish_one(driver, &other, "tcp 127.0.0.1 8080 80", &err), err, GT_CONFLICT,
		     "driver bridge: Bind for 127.0.0.1:8080 failed: port is already allocated");
	/* no other program gets it either */
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8080) };
	int on = 1, thief = socket_in(NULL, AF_INET, SOCK_STREAM);
	setsockopt(thief, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	assert_int_equal(bind(thief, (struct sockaddr *)&in, sizeof in), -1);
	assert_int_equal(errno, EADDRINUSE);
	/* all or none: the first port is free again after the second failed */
	int busy = serve(NULL, "0.0.0.0", 8090), busy_udp = serve_udp(NULL, "127.0.0.1", 8091);
	struct gantry_port ports[] = { port_of("tcp 0.0.0.0 8089 80"), port_of("tcp 0.0.0.0 8090 80") };
	assert_fails(gt_net_publish(driver, &other.endpoint, ports, 2, &err), err, GT_CONFLICT,
		     "driver bridge: failed to bind host port for 0.0.0.0:8090:172.30.0.4:80/tcp: address already in use");
	assert_lacks(shell_in(NULL, "nft list ruleset"), "8089");
	int free_again = serve(NULL, "0.0.0.0", 8089);
	close(free_again);
	assert_fails(publish_one(driver, &other, "udp 0.0.0.0 8091 80", &err), err, GT_CONFLICT,
		     "driver bridge: failed to bind host port for 0.0.0.0:8091:172.30.0.4:80/udp: address already in use");
	assert_fails(publish_one(driver, &other, "tcp 10.9.9.9 8092 80", &err), err, GT_INVALID,
		     "driver bridge: failed to bind host port for 10.9.9.9:8092:172.30.0.4:80/tcp: cannot assign requested address");
	/* other protocols and other addresses are other ports */
	assert_ok(publish_one(driver, &other, "udp 0.0.0.0 8080 80", &err), err);
	assert_ok(gt_net_unpublish(driver, web.network_id, web.id, &err), err);
	assert_int_equal(bind(thief, (struct sockaddr *)&in, sizeof in), 0);
	close(thief);
	close(busy);
	close(busy_udp);
	box_end(&web);
	box_end(&other);
}

static void old_connections_of_a_server_do_not_keep_its_port(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web;
	int ends[2], on = 1;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8080) };
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	int server = serve(NULL, "0.0.0.0", 8080);
	assert_true(connects(NULL, "127.0.0.1", 8080, server, ends, NULL));
	close(ends[1]);
	usleep(50000);
	close(ends[0]);
	close(server);
	assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
	server = serve(&web.place, "0.0.0.0", 80);
	assert_true(reaches(NULL, "127.0.0.1", 8080, server, NULL));
	int thief = socket_in(NULL, AF_INET, SOCK_STREAM);
	setsockopt(thief, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	assert_true(bind(thief, (struct sockaddr *)&in, sizeof in) < 0 || listen(thief, 1) < 0);
	close(thief);
	close(server);
	box_end(&web);
}

static void wrong_ports_are_refused(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	struct bridge_network closed = { .letter = 'c', .subnet4 = "172.32.0.0/16", .gateway4 = "172.32.0.1", .flags = GANTRY_NETWORK_INTERNAL };
	plain_network(driver, 'a');
	assert_ok(network_make(driver, &closed, &err), err);
	box_joined(driver, &box, 'a', 1);
	struct gantry_port port = port_of("tcp 0.0.0.0 80 80");
#define REFUSED(change, reason)                                                                         \
	do {                                                                                            \
		port = port_of("tcp 0.0.0.0 80 80");                                                    \
		change;                                                                                 \
		assert_int_equal(gt_net_publish(driver, &box.endpoint, &port, 1, &err), -1);            \
		assert_string_equal(err.message, "driver bridge: " reason);                             \
	} while (0)
	REFUSED(port.host_port = 0, "port 0 cannot be published");
	REFUSED(port.container_port = 0, "port 0 cannot be published");
	REFUSED(port.proto = 1, "protocol 1 cannot be published; there are tcp, udp and sctp");
	REFUSED(strcpy(port.host_ip, "any"), "\"any\" is no host address to publish a port on");
	REFUSED((strcpy(port.host_ip, "::"), port.proto = IPPROTO_SCTP),
		"port 80/sctp cannot be published on ::: the container has no IPv6 address, and SCTP is not relayed");
	memset(box.network_id, 'c', 64);
	REFUSED((void)0, "network nc is internal: it has no published ports");
	memset(box.network_id, 'd', 64);
	REFUSED((void)0, "endpoint 000000000001: the driver knows no network dddddddddddd");
	box_end(&box);
}

static void a_networks_own_host_address_is_where_it_publishes(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web;
	struct bridge_network network = { .letter = 'a', .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1",
					  .options = { "com.docker.network.bridge.host_binding_ipv4", "127.0.0.1" } };
	struct place outside = outside_make();
	assert_ok(network_make(driver, &network, &err), err);
	box_joined(driver, &web, 'a', 1);
	int server = serve(&web.place, "0.0.0.0", 80);
	assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
	assert_true(reaches(NULL, "127.0.0.1", 8080, server, NULL));
	assert_true(refused(&outside, "10.231.0.2", 8080, server));
	close(server);
	box_end(&web);
	place_end(&outside);
}

static void networks_are_apart(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box left, right, closed, closed2;
	char peer[64];
	struct place outside = outside_make();
	struct bridge_network internal = { .letter = 'c', .subnet4 = "172.32.0.0/16", .gateway4 = "172.32.0.1", .flags = GANTRY_NETWORK_INTERNAL };
	plain_network(driver, 'a');
	plain_network(driver, 'b');
	assert_ok(network_make(driver, &internal, &err), err);
	box_joined(driver, &left, 'a', 1);
	box_joined(driver, &right, 'b', 2);
	box_joined(driver, &closed, 'c', 3);
	box_joined(driver, &closed2, 'c', 4);
	assert_string_equal(closed.endpoint.gateway4, "");
	assert_lacks(shell_in(&closed.place, "ip route"), "default");
	/* even one who sets a route himself does not get out */
	free(shell_in(&closed.place, "ip route add default via 172.32.0.1"));
	int left_server = serve(&left.place, "0.0.0.0", 80), closed_server = serve(&closed.place, "0.0.0.0", 80), far = serve(&outside, "0.0.0.0", 7000);
	assert_true(reaches(NULL, "172.30.0.3", 80, left_server, NULL));
	assert_true(reaches(NULL, "172.32.0.5", 80, closed_server, NULL));
	assert_true(reaches(&closed2.place, "172.32.0.5", 80, closed_server, NULL));
	assert_true(reaches(&left.place, "10.231.0.1", 7000, far, peer));
	assert_string_equal(peer, "10.231.0.2");
	assert_true(refused(&right.place, "172.30.0.3", 80, left_server));
	assert_true(refused(&outside, "172.30.0.3", 80, left_server));
	assert_true(refused(&outside, "172.32.0.5", 80, closed_server));
	assert_true(refused(&closed.place, "10.231.0.1", 7000, far));
	assert_true(refused(&closed.place, "172.30.0.3", 80, left_server));
	assert_true(refused(&left.place, "172.32.0.5", 80, closed_server));
	close(left_server);
	close(closed_server);
	close(far);
	struct box *all[] = { &left, &right, &closed, &closed2 };
	for (size_t i = 0; i < GT_COUNT(all); i++)
		box_end(all[i]);
	place_end(&outside);
}

static void without_icc_neighbours_are_apart(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct bridge_network network = { .letter = 'a', .subnet4 = "172.30.0.0/16", .gateway4 = "172.30.0.1",
					  .options = { "com.docker.network.bridge.enable_icc", "false",
						       "com.docker.network.bridge.enable_ip_masquerade", "false" } };
	struct place outside = outside_make();
	char peer[64];
	assert_ok(network_make(driver, &network, &err), err);
	for (int netfilter = 0; netfilter < 2; netfilter++) {
		struct box web, other;
		set_bridge_netfilter(netfilter ? "1" : "0");
		box_joined(driver, &web, 'a', 1);
		box_joined(driver, &other, 'a', 2);
		int server = serve(&web.place, "0.0.0.0", 80), far = serve(&outside, "0.0.0.0", 7000);
		assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
		assert_true(reaches(NULL, "172.30.0.3", 80, server, NULL));
		assert_true(reaches(&outside, "10.231.0.2", 8080, server, NULL));
		assert_true(refused(&other.place, "172.30.0.3", 80, server));
		/* nor over the gateway */
		free(shell_in(&other.place, "ip route add 172.30.0.3 via 172.30.0.1"));
		assert_true(refused(&other.place, "172.30.0.3", 80, server));
		/* without masquerade the container's own address is seen */
		assert_true(reaches(&other.place, "10.231.0.1", 7000, far, peer));
		assert_string_equal(peer, "172.30.0.4");
		close(server);
		close(far);
		assert_ok(gt_net_leave(driver, web.network_id, web.id, web.place.netns, &err), err);
		assert_ok(gt_net_leave(driver, other.network_id, other.id, other.place.netns, &err), err);
		box_end(&web);
		box_end(&other);
	}
	place_end(&outside);
}

static void flushed_tables_come_back(void **state)
{
	static const char *const DAMAGES[] = { "nft flush ruleset", "nft flush table ip gantry", "nft delete table ip6 gantry", "nft flush chain ip gantry forward" };
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, other;
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	box_joined(driver, &other, 'a', 2);
	int server = serve(&web.place, "0.0.0.0", 80), server2 = serve(&other.place, "0.0.0.0", 80);
	assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
	AUTO_FREE char *whole = shell_in(NULL, "nft list ruleset");
	for (size_t i = 0; i < GT_COUNT(DAMAGES); i++) {
		free(shell_in(NULL, "%s", DAMAGES[i]));
		assert_ok(publish_one(driver, &other, "tcp 0.0.0.0 8081 80", &err), err);
		assert_true(reaches(NULL, "127.0.0.1", 8080, server, NULL));
		assert_true(reaches(NULL, "127.0.0.1", 8081, server2, NULL));
		assert_ok(gt_net_unpublish(driver, other.network_id, other.id, &err), err);
		AUTO_FREE char *again = shell_in(NULL, "nft list ruleset");
		assert_string_equal(whole, again);
		/* a network's way is whole again with the next join */
		free(shell_in(NULL, "%s", DAMAGES[i]));
		assert_ok(gt_net_join(driver, &other.endpoint, other.place.netns, &err), err);
		AUTO_FREE char *joined = shell_in(NULL, "nft list ruleset");
		assert_string_equal(whole, joined);
	}
	close(server);
	close(server2);
	box_end(&web);
	box_end(&other);
}

static void reconcile_keeps_what_lives_and_removes_the_rest(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, stray;
	int ends[2];
	plain_network(driver, 'a');
	plain_network(driver, 'b');
	struct bridge_network named = { .letter = 'c', .subnet4 = "172.32.0.0/16", .gateway4 = "172.32.0.1", .options = { "com.docker.network.bridge.name", "mine0" } };
	assert_ok(network_make(driver, &named, &err), err);
	box_joined(driver, &web, 'a', 1);
	box_joined(driver, &stray, 'a', 2);
	assert_ok(publish_one(driver, &web, "tcp 0.0.0.0 8080 80", &err), err);
	assert_ok(publish_one(driver, &stray, "tcp 0.0.0.0 9999 80", &err), err);
	int server = serve(&web.place, "0.0.0.0", 80);
	assert_true(connects(NULL, "127.0.0.1", 8080, server, ends, NULL));
	free(shell_in(NULL, "nft add table ip foreign; nft add chain ip foreign c; nft add rule ip foreign c counter; ip link add other0 type bridge"));
	AUTO_FREE char *links = shell_in(NULL, "ip -o link show dev gtv000000000001");
	/* a new life, which knows one network and one container */
	driver = bridge_again(state);
	plain_network(driver, 'a');
	assert_shows(shell_in(NULL, "nft list ruleset"), "8080");
	struct box *boxes[] = { &web };
	assert_ok(reconcile_with(driver, boxes, 1, "tcp 0.0.0.0 8080 80", &err), err);
	AUTO_FREE char *links_after = shell_in(NULL, "ip -o link show dev gtv000000000001");
	assert_string_equal(links, links_after);
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv000000000002");
	assert_lacks(shell_in(NULL, "ip -o link"), "gtbbbbbbbbbbbbb");
	assert_lacks(shell_in(NULL, "ip -o link"), "mine0");
	assert_shows(shell_in(NULL, "ip -o link"), "other0");
	assert_lacks(shell_in(NULL, "nft list ruleset"), "9999");
	assert_lacks(shell_in(NULL, "nft list ruleset"), "gtbbbbbbbbbbbbb");
	assert_shows(shell_in(NULL, "nft list table ip foreign"), "counter");
	/* the connection goes on, new ones come in, the port is held */
	char byte = 0;
	assert_int_equal(send(ends[0], "x", 1, 0), 1);
	assert_int_equal(recv(ends[1], &byte, 1, 0), 1);
	assert_true(reaches(NULL, "127.0.0.1", 8080, server, NULL));
	assert_fails(publish_one(driver, &stray, "tcp 0.0.0.0 8080 80", &err), err, GT_CONFLICT,
		     "driver bridge: Bind for 0.0.0.0:8080 failed: port is already allocated");
	int thief = socket_in(NULL, AF_INET, SOCK_STREAM);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8080) };
	assert_int_equal(bind(thief, (struct sockaddr *)&in, sizeof in), -1);
	close(thief);
	/* again, and without the container */
	AUTO_FREE char *whole = shell_in(NULL, "nft list ruleset");
	assert_ok(reconcile_with(driver, boxes, 1, "tcp 0.0.0.0 8080 80", &err), err);
	AUTO_FREE char *again = shell_in(NULL, "nft list ruleset");
	assert_string_equal(whole, again);
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	assert_lacks(shell_in(NULL, "ip -o link"), "gtv");
	assert_lacks(shell_in(NULL, "nft list ruleset"), "8080");
	close(ends[0]);
	close(ends[1]);
	close(server);
	box_end(&web);
	box_end(&stray);
}

static void nothing_leaks(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	plain_network(driver, 'a');
	box_make(&box, 'a', 1);
	int before = 0;
	for (int i = 0; i < 3; i++) {
		assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
		assert_ok(publish_one(driver, &box, "tcp 0.0.0.0 8080 80", &err), err);
		assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
		if (i == 0)
			before = open_fds();
	}
	assert_int_equal(open_fds(), before);
	box_end(&box);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bridge_make, bridge_end)
	const struct CMUnitTest tests[] = {
		TEST(a_published_port_is_reached_from_everywhere),
		TEST(a_port_on_loopback_is_for_the_host_alone),
		TEST(udp_flows_follow_their_port),
		TEST(ipv6_is_published_too),
		TEST(a_taken_port_is_refused_in_dockers_words),
		TEST(old_connections_of_a_server_do_not_keep_its_port),
		TEST(wrong_ports_are_refused),
		TEST(a_networks_own_host_address_is_where_it_publishes),
		TEST(networks_are_apart),
		TEST(without_icc_neighbours_are_apart),
		TEST(flushed_tables_come_back),
		TEST(reconcile_keeps_what_lives_and_removes_the_rest),
		TEST(nothing_leaks),
	};
	return run_both("net bridge ports", tests, GT_COUNT(tests));
}
