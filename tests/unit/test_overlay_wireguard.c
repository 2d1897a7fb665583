/* Messages to and from the kernel's WireGuard, built and read without one. */
#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <string.h>

#include "base/auto.h"
#include "net-overlay/wireguard.h"
#include "testing.h"

#define FAMILY 35
#define IFINDEX 7

static struct wireguard_peer peer_of(unsigned char number, const char *endpoint)
{
	struct wireguard_peer peer = { .port = 51871 };
	memset(peer.key, number, sizeof peer.key);
	assert_int_equal(address_parse(endpoint, 0, false, &peer.endpoint), 0);
	assert_int_equal(address_parse("fe80::1", AF_INET6, false, &peer.inside), 0);
	peer.inside.bytes[15] = number;
	return peer;
}

static struct nlmsghdr *built_message(struct batch *batch, unsigned index)
{
	assert_false(batch->broken);
	assert_true(index < batch->count);
	return nlmsg_hdr(batch->messages[index]);
}

static void batch_free(struct batch *batch)
{
	for (unsigned i = 0; i < batch->count; i++)
		nlmsg_free(batch->messages[i]);
}

/* What the kernel is told of a peer is what it tells of one, but for flags. */
static void peers_go_there_and_back(void **state)
{
	static const char *const ENDPOINTS[] = { "192.0.2.1", "2001:db8::1" };
	struct wireguard_link link = { 0 };
	struct batch batch;
	(void)state;
	batch_begin(&batch, NULL);
	for (unsigned i = 0; i < GT_COUNT(ENDPOINTS); i++) {
		struct wireguard_peer peer = peer_of((unsigned char)(i + 1), ENDPOINTS[i]);
		put_wireguard_peer(&batch, FAMILY, IFINDEX, &peer);
		struct nlmsghdr *header = built_message(&batch, i);
		assert_int_equal(header->nlmsg_type, FAMILY);
		assert_int_equal(((struct genlmsghdr *)nlmsg_data(header))->cmd, WG_CMD_SET_DEVICE);
		wireguard_take(header, &link);
		assert_int_equal(link.peer_count, i + 1);
		assert_memory_equal(link.peers[i].key, peer.key, sizeof peer.key);
		assert_true(address_equal(&link.peers[i].endpoint, &peer.endpoint) && address_equal(&link.peers[i].inside, &peer.inside));
		assert_string_equal(link.peers[i].endpoint.text, ENDPOINTS[i]);
		assert_int_equal(link.peers[i].port, 51871);
		assert_false(link.peers[i].other_inside);
	}
	wireguard_release(&link);
	batch_free(&batch);
}

static struct nlattr *attribute(struct nlattr *parent, int type)
{
	struct nlattr *found = nla_find(nla_data(parent), nla_len(parent), type);
	assert_non_null(found);
	return found;
}

static void a_peer_is_said_in_the_kernels_words(void **state)
{
	struct batch batch;
	struct wireguard_peer peer = peer_of(9, "192.0.2.1");
	(void)state;
	batch_begin(&batch, NULL);
	put_wireguard_peer(&batch, FAMILY, IFINDEX, &peer);
	put_wireguard_peer_gone(&batch, FAMILY, IFINDEX, peer.key);
	put_wireguard_port(&batch, FAMILY, IFINDEX, 51871);
	struct nlattr *index = nlmsg_find_attr(built_message(&batch, 0), sizeof(struct genlmsghdr), WGDEVICE_A_IFINDEX);
	assert_int_equal(nla_get_u32(index), IFINDEX);
	struct nlattr *peers = nlmsg_find_attr(built_message(&batch, 0), sizeof(struct genlmsghdr), WGDEVICE_A_PEERS), *one = attribute(peers, 0);
	assert_int_equal(nla_get_u32(attribute(one, WGPEER_A_FLAGS)), WGPEER_F_REPLACE_ALLOWEDIPS);
	struct sockaddr_in endpoint;
	assert_int_equal(nla_len(attribute(one, WGPEER_A_ENDPOINT)), sizeof endpoint);
	memcpy(&endpoint, nla_data(attribute(one, WGPEER_A_ENDPOINT)), sizeof endpoint);
	assert_int_equal(endpoint.sin_family, AF_INET);
	assert_int_equal(ntohs(endpoint.sin_port), 51871);
	assert_int_equal(ntohl(endpoint.sin_addr.s_addr), 0xc0000201);
	struct nlattr *inside = attribute(attribute(one, WGPEER_A_ALLOWEDIPS), 0);
	assert_int_equal(nla_get_u16(attribute(inside, WGALLOWEDIP_A_FAMILY)), AF_INET6);
	assert_int_equal(nla_get_u8(attribute(inside, WGALLOWEDIP_A_CIDR_MASK)), 128);
	assert_memory_equal(nla_data(attribute(inside, WGALLOWEDIP_A_IPADDR)), peer.inside.bytes, 16);
	one = attribute(nlmsg_find_attr(built_message(&batch, 1), sizeof(struct genlmsghdr), WGDEVICE_A_PEERS), 0);
	assert_int_equal(nla_get_u32(attribute(one, WGPEER_A_FLAGS)), WGPEER_F_REMOVE_ME);
	assert_memory_equal(nla_data(attribute(one, WGPEER_A_PUBLIC_KEY)), peer.key, sizeof peer.key);
	assert_int_equal(nla_get_u16(nlmsg_find_attr(built_message(&batch, 2), sizeof(struct genlmsghdr), WGDEVICE_A_LISTEN_PORT)), 51871);
	batch_free(&batch);
}

static void put_inside(struct batch *batch, const unsigned char *bytes, size_t len, uint8_t mask)
{
	struct nlattr *one = nest(batch, 0);
	put_u16(batch, WGALLOWEDIP_A_FAMILY, len == 16 ? AF_INET6 : AF_INET);
	put(batch, WGALLOWEDIP_A_IPADDR, bytes, len);
	put_u8(batch, WGALLOWEDIP_A_CIDR_MASK, mask);
	nest_end(batch, one);
}

/* A link as the kernel tells it; and that the private key is wiped out of what it said. */
static void a_link_is_read(void **state)
{
	struct wireguard_link link = { 0 };
	struct batch batch;
	struct genlmsghdr header = { .cmd = WG_CMD_GET_DEVICE };
	unsigned char private[WIREGUARD_KEY_LEN], public[WIREGUARD_KEY_LEN], zero[WIREGUARD_KEY_LEN] = { 0 }, bytes[16] = { 0xfe, 0x80 };
	(void)state;
	memset(private, 1, sizeof private);
	memset(public, 2, sizeof public);
	batch_begin(&batch, NULL);
	message(&batch, "", FAMILY, 0, &header, sizeof header);
	put(&batch, WGDEVICE_A_PRIVATE_KEY, private, sizeof private);
	put(&batch, WGDEVICE_A_PUBLIC_KEY, public, sizeof public);
	put_u16(&batch, WGDEVICE_A_LISTEN_PORT, 1234);
	struct nlattr *peers = nest(&batch, WGDEVICE_A_PEERS);
	/* one without an endpoint, in two pieces, with networks of others */
	for (unsigned i = 0; i < 2; i++) {
		struct nlattr *one = nest(&batch, 0);
		put(&batch, WGPEER_A_PUBLIC_KEY, zero, sizeof zero);
		struct nlattr *inside = nest(&batch, WGPEER_A_ALLOWEDIPS);
		put_inside(&batch, bytes, i ? 4 : 16, i ? 32 : 128);
		nest_end(&batch, inside);
		nest_end(&batch, one);
	}
	nest_end(&batch, peers);
	wireguard_take(built_message(&batch, 0), &link);
	assert_memory_equal(link.key, public, sizeof public);
	assert_int_equal(link.port, 1234);
	assert_int_equal(link.peer_count, 1);
	assert_true(link.peers[0].inside.family == AF_INET6 && link.peers[0].other_inside && !link.peers[0].endpoint.family);
	struct nlattr *told = nlmsg_find_attr(built_message(&batch, 0), sizeof header, WGDEVICE_A_PRIVATE_KEY);
	assert_memory_equal(nla_data(told), zero, sizeof zero);
	wireguard_release(&link);
	batch_free(&batch);
}

static void what_is_too_short_is_passed_over(void **state)
{
	struct wireguard_link link = { 0 };
	struct batch batch;
	struct genlmsghdr header = { .cmd = WG_CMD_GET_DEVICE };
	unsigned char bytes[WIREGUARD_KEY_LEN] = { 1 };
	(void)state;
	batch_begin(&batch, NULL);
	message(&batch, "", FAMILY, 0, &header, sizeof header);
	put(&batch, WGDEVICE_A_PUBLIC_KEY, bytes, 31);
	put(&batch, WGDEVICE_A_LISTEN_PORT, bytes, 1);
	struct nlattr *peers = nest(&batch, WGDEVICE_A_PEERS);
	put(&batch, 0, bytes, 3);
	struct nlattr *one = nest(&batch, 0);
	put(&batch, WGPEER_A_PUBLIC_KEY, bytes, 5);
	nest_end(&batch, one);
	one = nest(&batch, 0);
	put(&batch, WGPEER_A_PUBLIC_KEY, bytes, sizeof bytes);
	put(&batch, WGPEER_A_ENDPOINT, bytes, 2);
	put(&batch, WGPEER_A_ALLOWEDIPS, bytes, 3);
	nest_end(&batch, one);
	nest_end(&batch, peers);
	wireguard_take(built_message(&batch, 0), &link);
	assert_false(wireguard_key_is_set(link.key));
	assert_int_equal(link.port, 0);
	assert_int_equal(link.peer_count, 1);
	assert_false(link.peers[0].endpoint.family || link.peers[0].inside.family);
	wireguard_release(&link);
	batch_free(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peers_go_there_and_back),
		cmocka_unit_test(a_peer_is_said_in_the_kernels_words),
		cmocka_unit_test(a_link_is_read),
		cmocka_unit_test(what_is_too_short_is_passed_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
