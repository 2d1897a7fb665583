/* Published ports of containers without IPv6, reached from IPv6: what the kernel's NAT cannot do and the bridge driver's relay does. */
#include "bridge_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUCH (48 * 1024 * 1024)

/* Another host: fd00:231::1 there, fd00:231::2 here. */
static struct place outside_make(void)
{
	struct place outside = place_make();
	free(shell_in(NULL,
		      "ip link add up0 type veth peer name up0 netns %d; ip addr add "
		      "fd00:231::2/64 dev up0 nodad; ip addr add 10.231.0.2/24 dev up0; "
		      "ip link set up0 up",
		      outside.pid));
	free(shell_in(&outside, "ip link set lo up; ip addr add fd00:231::1/64 dev up0 nodad; "
				"ip addr add 10.231.0.1/24 dev up0; ip link set up0 up"));
	return outside;
}

static int publish_two(struct gt_driver *driver, const struct box *box, const char *first, const char *second, struct gt_error *err)
{
	struct gantry_port ports[] = { port_of(first), port_of(second) };
	return gt_net_publish(driver, &box->endpoint, ports, 2, err);
}

static void localhost_is_both(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, inner;
	char peer[64];
	struct place outside = outside_make();
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	box_joined(driver, &inner, 'a', 2);
	int server = serve(&web.place, "0.0.0.0", 80), own = serve(&inner.place, "0.0.0.0", 81);
	assert_ok(publish_two(driver, &web, "tcp 0.0.0.0 8080 80", "tcp :: 8080 80", &err), err);
	/* the same again is success */
	assert_ok(publish_two(driver, &web, "tcp 0.0.0.0 8080 80", "tcp :: 8080 80", &err), err);
	assert_true(reaches(NULL, "127.0.0.1", 8080, server, peer));
	assert_true(reaches(NULL, "::1", 8080, server, peer));
	assert_string_equal(peer, "172.30.0.1");
	assert_true(reaches(NULL, "fd00:231::2", 8080, server, NULL));
	assert_true(reaches(&outside, "fd00:231::2", 8080, server, peer));
	assert_string_equal(peer, "172.30.0.1");
	/* IPv4 goes the kernel's way, as ever */
	assert_true(reaches(&outside, "10.231.0.2", 8080, server, peer));
	assert_string_equal(peer, "10.231.0.1");
	/* for this host alone */
	assert_ok(publish_one(driver, &inner, "tcp ::1 8081 81", &err), err);
	assert_true(reaches(NULL, "::1", 8081, own, NULL));
	assert_true(refused(NULL, "127.0.0.1", 8081, own));
	assert_true(refused(&outside, "fd00:231::2", 8081, own));
	/* the port is held: nobody else gets it, listening or not */
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(8080) };
	int on = 1, thief = socket_in(NULL, AF_INET6, SOCK_STREAM);
	setsockopt(thief, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(thief, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	assert_true(bind(thief, (struct sockaddr *)&in6, sizeof in6) < 0 && errno == EADDRINUSE);
	close(thief);
	assert_ok(gt_net_unpublish(driver, inner.network_id, inner.id, &err), err);
	assert_fails(publish_one(driver, &inner, "tcp :: 8080 81", &err), err, GT_CONFLICT,
		     "driver bridge: Bind for :::8080 failed: port is already allocated");
	assert_ok(gt_net_unpublish(driver, web.network_id, web.id, &err), err);
	assert_true(refused(NULL, "::1", 8080, server));
	/* at once for the next one, whatever connections there were */
	assert_ok(publish_one(driver, &inner, "tcp :: 8080 81", &err), err);
	assert_true(reaches(NULL, "::1", 8080, own, NULL));
	int busy = serve(NULL, "::1", 8085);
	assert_fails(publish_one(driver, &web, "tcp :: 8085 80", &err), err, GT_CONFLICT,
		     "driver bridge: failed to bind host port for "
		     "[::]:8085:172.30.0.3:80/tcp: address already in use");
	close(busy);
	close(server);
	close(own);
	box_end(&web);
	box_end(&inner);
	place_end(&outside);
}

/* ---- bytes ---- */

struct sending {
	int fd;
	size_t count;
	unsigned seed;
};

static unsigned char byte_at(size_t i, unsigned seed)
{
	return (unsigned char)((i >> 3) * 31 + i + seed);
}

static void *send_all(void *arg)
{
	struct sending *sending = arg;
	unsigned char bytes[50000];
	for (size_t at = 0; at < sending->count;) {
		size_t len = sending->count - at < sizeof bytes ? sending->count - at : sizeof bytes;
		for (size_t i = 0; i < len; i++)
			bytes[i] = byte_at(at + i, sending->seed);
		for (size_t done = 0; done < len;) {
			ssize_t n = send(sending->fd, bytes + done, len - done, MSG_NOSIGNAL);
			if (n <= 0)
				return NULL;
			done += (size_t)n;
		}
		at += len;
	}
	shutdown(sending->fd, SHUT_WR);
	return NULL;
}

/* What comes until the end; fails where it is not what send_all() sends. */
static size_t receive_all(int fd, unsigned seed)
{
	unsigned char bytes[30000];
	size_t at = 0;
	for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0; at += (size_t)n) {
		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] != byte_at(at + (size_t)i, seed))
				fail_msg("byte %zu is another one", at + (size_t)i);
		}
	}
	return at;
}

static void blocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
}

/* With patience: the relay accepts, then connects. */
static void connect_through(const char *address, int port, int server, int ends[2])
{
	assert_true(connects(NULL, address, port, server, ends, NULL));
	blocking(ends[0]);
	blocking(ends[1]);
}

static void bytes_arrive_whole_both_ways(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web;
	int ends[2];
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	int server = serve(&web.place, "0.0.0.0", 80);
	assert_ok(publish_one(driver, &web, "tcp :: 8080 80", &err), err);
	connect_through("::1", 8080, server, ends);
	struct sending up = { ends[0], MUCH, 1 }, down = { ends[1], MUCH, 2 };
	pthread_t upward, downward;
	assert_int_equal(pthread_create(&upward, NULL, send_all, &up), 0);
	assert_int_equal(receive_all(ends[1], 1), MUCH);
	pthread_join(upward, NULL);
	/* one way has ended, the other goes on */
	assert_int_equal(pthread_create(&downward, NULL, send_all, &down), 0);
	assert_int_equal(receive_all(ends[0], 2), MUCH);
	pthread_join(downward, NULL);
	close(ends[0]);
	close(ends[1]);
	/* both at once */
	connect_through("::1", 8080, server, ends);
	struct sending both[] = { { ends[0], MUCH, 3 }, { ends[1], MUCH, 4 } };
	assert_int_equal(pthread_create(&upward, NULL, send_all, &both[0]), 0);
	assert_int_equal(pthread_create(&downward, NULL, send_all, &both[1]), 0);
	assert_int_equal(receive_all(ends[1], 3), MUCH);
	assert_int_equal(receive_all(ends[0], 4), MUCH);
	pthread_join(upward, NULL);
	pthread_join(downward, NULL);
	close(ends[0]);
	close(ends[1]);
	/* a reset is one on the other side too */
	connect_through("::1", 8080, server, ends);
	struct linger now = { .l_onoff = 1 };
	char byte;
	setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(ends[1]);
	assert_int_equal(recv(ends[0], &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(ends[0]);
	close(server);
	/* nobody listens there */
	struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_port = htons(8080), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int client = socket_in(NULL, AF_INET6, SOCK_STREAM);
	assert_int_equal(connect(client, (struct sockaddr *)&loopback, sizeof loopback), 0);
	assert_int_equal(recv(client, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(client);
	box_end(&web);
}

static void what_was_sent_arrives_though_the_port_ends(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web;
	int ends[2];
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	int server = serve(&web.place, "0.0.0.0", 80);
	assert_ok(publish_one(driver, &web, "tcp :: 8080 80", &err), err);
	connect_through("::1", 8080, server, ends);
	struct sending all = { ends[1], 300000, 7 };
	send_all(&all);
	/* the client reads only after the container has left */
	usleep(200000);
	assert_ok(gt_net_leave(driver, web.network_id, web.id, web.place.netns, &err), err);
	assert_true(receive_all(ends[0], 7) > 0);
	close(ends[0]);
	close(ends[1]);
	close(server);
	box_end(&web);
}

static void datagrams_are_relayed(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box dns, other;
	struct place outside = outside_make();
	plain_network(driver, 'a');
	box_joined(driver, &dns, 'a', 1);
	box_joined(driver, &other, 'a', 2);
	int server = serve_udp(&dns.place, "0.0.0.0", 53), server2 = serve_udp(&other.place, "0.0.0.0", 53);
	int near = socket_in(NULL, AF_INET6, SOCK_DGRAM), near2 = socket_in(NULL, AF_INET6, SOCK_DGRAM), far = socket_in(&outside, AF_INET6, SOCK_DGRAM);
	assert_ok(publish_two(driver, &dns, "udp 0.0.0.0 5353 53", "udp :: 5353 53", &err), err);
	for (int i = 0; i < 3; i++) {
		assert_true(echoes(near, "::1", 5353, server));
		assert_true(echoes(near2, "fd00:231::2", 5353, server));
		assert_true(echoes(far, "fd00:231::2", 5353, server));
	}
	/* a connected client hears answers only from where it sent to */
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(5353), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int strict = socket_in(NULL, AF_INET6, SOCK_DGRAM);
	assert_int_equal(connect(strict, (struct sockaddr *)&to, sizeof to), 0);
	assert_true(echoes(strict, "::1", 5353, server));
	close(strict);
	/* the port is another container's now: the same client reaches that one */
	assert_ok(gt_net_unpublish(driver, dns.network_id, dns.id, &err), err);
	assert_ok(publish_one(driver, &other, "udp :: 5353 53", &err), err);
	assert_true(echoes(near, "::1", 5353, server2));
	assert_true(echoes(far, "fd00:231::2", 5353, server2));
	int fds[] = { server, server2, near, near2, far };
	for (size_t i = 0; i < GT_COUNT(fds); i++)
		close(fds[i]);
	box_end(&dns);
	box_end(&other);
	place_end(&outside);
}

/* Connects to ::1 and says whether the server has it. */
static bool try_one(int port, int server, int ends[2])
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct pollfd fds[2] = { { .events = POLLIN }, { .fd = server, .events = POLLIN } };
	ends[0] = fds[0].fd = socket_in(NULL, AF_INET6, SOCK_STREAM);
	assert_int_equal(connect(ends[0], (struct sockaddr *)&to, sizeof to), 0);
	assert_true(poll(fds, 2, 10000) > 0);
	ends[1] = fds[1].revents ? accept4(server, NULL, NULL, SOCK_CLOEXEC) : -1;
	return ends[1] >= 0;
}

static void who_is_too_many_is_refused(void **state)
{
	struct gt_driver *driver = bridge_again_with(state, "relay_connections = 3\n");
	struct gt_error err = { 0 };
	struct box web;
	int ends[3][2], extra[2], flows[5];
	char byte;
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	int server = serve(&web.place, "0.0.0.0", 80), datagrams = serve_udp(&web.place, "0.0.0.0", 53);
	assert_ok(publish_two(driver, &web, "tcp :: 8080 80", "udp :: 5353 53", &err), err);
	for (int i = 0; i < 3; i++)
		assert_true(try_one(8080, server, ends[i]));
	assert_false(try_one(8080, server, extra));
	assert_int_equal(recv(extra[0], &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(extra[0]);
	int client = socket_in(NULL, AF_INET6, SOCK_DGRAM);
	assert_true(stays_silent(client, "::1", 5353, datagrams));
	/* the others go on, and room that is given back is used */
	assert_int_equal(send(ends[2][0], "x", 1, 0), 1);
	assert_int_equal(recv(ends[2][1], &byte, 1, 0), 1);
	for (int i = 0; i < 3; i++) {
		close(ends[i][0]);
		assert_int_equal(recv(ends[i][1], &byte, 1, 0), 0);
		close(ends[i][1]);
	}
	bool again = false;
	for (int i = 0; i < 100 && !again; i++) {
		again = try_one(8080, server, extra);
		close(extra[0]);
		if (again)
			close(extra[1]);
		else
			usleep(10000);
	}
	assert_true(again);
	/* flows of datagrams make room for new ones */
	for (size_t i = 0; i < GT_COUNT(flows); i++) {
		flows[i] = socket_in(NULL, AF_INET6, SOCK_DGRAM);
		assert_true(echoes(flows[i], "::1", 5353, datagrams));
	}
	assert_true(echoes(flows[0], "::1", 5353, datagrams));
	for (size_t i = 0; i < GT_COUNT(flows); i++)
		close(flows[i]);
	close(client);
	close(server);
	close(datagrams);
	box_end(&web);
}

static void it_can_be_off(void **state)
{
	struct gt_driver *driver = bridge_again_with(state, "relay_connections = 0\n");
	struct gt_error err = { 0 };
	struct box web;
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	assert_fails(publish_two(driver, &web, "tcp 0.0.0.0 8080 80", "tcp :: 8080 80", &err), err, GT_UNSUPPORTED,
		     "driver bridge: port 8080/tcp cannot be published on ::: the container "
		     "has no IPv6 address, and relaying is off "
		     "(key relay_connections)");
	assert_lacks(shell_in(NULL, "nft list ruleset"), "8080");
	/* one that was published when it was on does without, and keeps its others */
	struct gantry_port ports[] = { port_of("tcp :: 8080 80"), port_of("tcp 0.0.0.0 8080 80") };
	uint32_t owner[2] = { 0 };
	assert_ok(gt_net_reconcile(driver, &web.endpoint, 1, ports, owner, 2, &err), err);
	int server = serve(&web.place, "0.0.0.0", 80);
	assert_true(reaches(NULL, "127.0.0.1", 8080, server, NULL));
	assert_true(refused(NULL, "::1", 8080, server));
	close(server);
	box_end(&web);
}

static void a_new_life_relays_again(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box web, *boxes[] = { &web };
	int ends[2];
	char byte;
	plain_network(driver, 'a');
	box_joined(driver, &web, 'a', 1);
	int server = serve(&web.place, "0.0.0.0", 80);
	assert_ok(publish_one(driver, &web, "tcp :: 8080 80", &err), err);
	connect_through("::1", 8080, server, ends);
	driver = bridge_again(state);
	assert_true(recv(ends[0], &byte, 1, 0) <= 0);
	plain_network(driver, 'a');
	assert_ok(reconcile_with(driver, boxes, 1, "tcp :: 8080 80", &err), err);
	assert_true(reaches(NULL, "::1", 8080, server, NULL));
	/* told again, nothing changes for who is being served */
	close(ends[0]);
	close(ends[1]);
	connect_through("::1", 8080, server, ends);
	assert_ok(reconcile_with(driver, boxes, 1, "tcp :: 8080 80", &err), err);
	assert_int_equal(send(ends[0], "x", 1, 0), 1);
	assert_int_equal(recv(ends[1], &byte, 1, 0), 1);
	assert_ok(reconcile_with(driver, NULL, 0, NULL, &err), err);
	assert_true(recv(ends[0], &byte, 1, 0) <= 0);
	assert_true(refused(NULL, "::1", 8080, server));
	close(ends[0]);
	close(ends[1]);
	close(server);
	box_end(&web);
}

static void nothing_leaks(void **state)
{
	struct gt_driver *driver = bridge_driver(state);
	struct gt_error err = { 0 };
	struct box box;
	plain_network(driver, 'a');
	box_make(&box, 'a', 1);
	int before = open_fds(), server = serve(&box.place, "0.0.0.0", 80), datagrams = serve_udp(&box.place, "0.0.0.0", 53);
	for (int i = 0; i < 4; i++) {
		int ends[2], client = socket_in(NULL, AF_INET6, SOCK_DGRAM);
		assert_ok(gt_net_join(driver, &box.endpoint, box.place.netns, &err), err);
		assert_ok(publish_two(driver, &box, "tcp :: 8080 80", "udp :: 5353 53", &err), err);
		connect_through("::1", 8080, server, ends);
		struct sending some = { ends[0], 1000000, 5 };
		pthread_t sender;
		assert_int_equal(pthread_create(&sender, NULL, send_all, &some), 0);
		assert_int_equal(receive_all(ends[1], 5), 1000000);
		pthread_join(sender, NULL);
		assert_true(echoes(client, "::1", 5353, datagrams));
		assert_ok(gt_net_leave(driver, box.network_id, box.id, box.place.netns, &err), err);
		close(ends[0]);
		close(ends[1]);
		close(client);
	}
	close(server);
	close(datagrams);
	/* pipes are kept for the next one; they end with the driver */
	bridge_again(state);
	assert_int_equal(open_fds(), before);
	box_end(&box);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bridge_make, bridge_end)
	const struct CMUnitTest tests[] = {
		TEST(localhost_is_both),
		TEST(bytes_arrive_whole_both_ways),
		TEST(what_was_sent_arrives_though_the_port_ends),
		TEST(datagrams_are_relayed),
		TEST(who_is_too_many_is_refused),
		TEST(it_can_be_off),
		TEST(a_new_life_relays_again),
		TEST(nothing_leaks),
	};
	return cmocka_run_group_tests_name("net bridge relay", tests, NULL, NULL);
}
