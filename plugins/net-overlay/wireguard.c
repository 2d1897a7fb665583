/*
 * wireguard.c - see wireguard.h. Keys are the kernel's affair: it gets 32 random bytes, makes a private key of them and tells the public one that goes with it.
 */
#include "wireguard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

_Static_assert(WIREGUARD_KEY_LEN == WG_KEY_LEN, "a key's length");

/* ---- requests ---- */

/* NULL: no memory. */
static struct nl_msg *request(uint16_t family, uint8_t command, uint8_t version, int flags)
{
	struct genlmsghdr header = { .cmd = command, .version = version };
	struct nl_msg *msg = nlmsg_alloc_simple(family, NLM_F_REQUEST | flags);
	if (msg && nlmsg_append(msg, &header, sizeof header, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static int take_family(void *arg, struct nlmsghdr *answer)
{
	struct nlattr *attributes[CTRL_ATTR_MAX + 1];
	if (nlmsg_parse(answer, sizeof(struct genlmsghdr), attributes, CTRL_ATTR_MAX, NULL) == 0 && attributes[CTRL_ATTR_FAMILY_ID] &&
	    nla_len(attributes[CTRL_ATTR_FAMILY_ID]) == (int)sizeof(uint16_t))
		*(uint16_t *)arg = nla_get_u16(attributes[CTRL_ATTR_FAMILY_ID]);
	return 0;
}

int wireguard_family(struct nl_sock *sock, uint16_t *family, struct gantry_error *err)
{
	struct nl_msg *msg = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, 0);
	*family = 0;
	if (msg && nla_put_string(msg, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME) < 0) {
		nlmsg_free(msg);
		msg = NULL;
	}
	if (netlink_ask(sock, msg, take_family, family) == 0)
		return *family ? 0 : 1;
	return errno == ENOENT ? 1 : gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "ask the kernel for WireGuard");
}

/* ---- reading ---- */

static void read_endpoint(struct nlattr *from, struct wireguard_peer *to)
{
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
	if (!from)
		return;
	if (nla_len(from) == (int)sizeof ipv4) {
		memcpy(&ipv4, nla_data(from), sizeof ipv4);
		to->endpoint.family = ipv4.sin_family == AF_INET ? AF_INET : 0;
		memcpy(to->endpoint.bytes, &ipv4.sin_addr, 4);
		to->port = ntohs(ipv4.sin_port);
	} else if (nla_len(from) == (int)sizeof ipv6) {
		memcpy(&ipv6, nla_data(from), sizeof ipv6);
		to->endpoint.family = ipv6.sin6_family == AF_INET6 ? AF_INET6 : 0;
		memcpy(to->endpoint.bytes, &ipv6.sin6_addr, 16);
		to->port = ntohs(ipv6.sin6_port);
	}
	if (to->endpoint.family)
		inet_ntop(to->endpoint.family, to->endpoint.bytes, to->endpoint.text, sizeof to->endpoint.text);
}

static void read_inside(struct nlattr *list, struct wireguard_peer *to)
{
	struct nlattr *each, *attributes[WGALLOWEDIP_A_MAX + 1];
	int rest;
	if (!list)
		return;
	nla_for_each_nested(each, list, rest) {
		bool whole = nla_parse_nested(attributes, WGALLOWEDIP_A_MAX, each, NULL) == 0 && attributes[WGALLOWEDIP_A_IPADDR] &&
			     nla_len(attributes[WGALLOWEDIP_A_IPADDR]) == 16 && attributes[WGALLOWEDIP_A_CIDR_MASK] &&
			     nla_len(attributes[WGALLOWEDIP_A_CIDR_MASK]) == 1 && nla_get_u8(attributes[WGALLOWEDIP_A_CIDR_MASK]) == 128;
		if (!whole || to->inside.family) {
			to->other_inside = true;
			continue;
		}
		to->inside.family = AF_INET6;
		to->inside.prefix = 128;
		memcpy(to->inside.bytes, nla_data(attributes[WGALLOWEDIP_A_IPADDR]), 16);
		inet_ntop(AF_INET6, to->inside.bytes, to->inside.text, sizeof to->inside.text);
	}
}

static struct wireguard_peer *add_peer(struct wireguard_link *to)
{
	if (to->peer_count == to->room || !to->peers) {
		size_t room = to->room ? to->room * 2 : 16;
		struct wireguard_peer *more = room <= WIREGUARD_PEERS_MAX ? realloc(to->peers, room * sizeof *more) : NULL;
		if (!more) {
			to->out_of_memory = true;
			return NULL;
		}
		to->peers = more;
		to->room = room;
	}
	to->peers[to->peer_count] = (struct wireguard_peer){ 0 };
	return &to->peers[to->peer_count++];
}

/* A peer with many addresses goes on in the next message. */
static void read_peer(struct nlattr *from, struct wireguard_link *to)
{
	struct nlattr *attributes[WGPEER_A_MAX + 1];
	if (nla_parse_nested(attributes, WGPEER_A_MAX, from, NULL) < 0 || !attributes[WGPEER_A_PUBLIC_KEY] ||
	    nla_len(attributes[WGPEER_A_PUBLIC_KEY]) != WIREGUARD_KEY_LEN)
		return;
	const unsigned char *key = nla_data(attributes[WGPEER_A_PUBLIC_KEY]);
	struct wireguard_peer *peer = to->peer_count ? &to->peers[to->peer_count - 1] : NULL;
	if (!peer || memcmp(peer->key, key, WIREGUARD_KEY_LEN) != 0)
		peer = add_peer(to);
	if (!peer)
		return;
	memcpy(peer->key, key, WIREGUARD_KEY_LEN);
	read_endpoint(attributes[WGPEER_A_ENDPOINT], peer);
	read_inside(attributes[WGPEER_A_ALLOWEDIPS], peer);
}

void wireguard_take(struct nlmsghdr *answer, struct wireguard_link *to)
{
	struct nlattr *attributes[WGDEVICE_A_MAX + 1], *each;
	int rest;
	if (nlmsg_parse(answer, sizeof(struct genlmsghdr), attributes, WGDEVICE_A_MAX, NULL) < 0)
		return;
	if (attributes[WGDEVICE_A_PUBLIC_KEY] && nla_len(attributes[WGDEVICE_A_PUBLIC_KEY]) == WIREGUARD_KEY_LEN)
		memcpy(to->key, nla_data(attributes[WGDEVICE_A_PUBLIC_KEY]), WIREGUARD_KEY_LEN);
	if (attributes[WGDEVICE_A_LISTEN_PORT] && nla_len(attributes[WGDEVICE_A_LISTEN_PORT]) == (int)sizeof(uint16_t))
		to->port = nla_get_u16(attributes[WGDEVICE_A_LISTEN_PORT]);
	/* It is told with what is asked for, and wanted by nobody. */
	if (attributes[WGDEVICE_A_PRIVATE_KEY])
		explicit_bzero(nla_data(attributes[WGDEVICE_A_PRIVATE_KEY]), (size_t)nla_len(attributes[WGDEVICE_A_PRIVATE_KEY]));
	if (!attributes[WGDEVICE_A_PEERS])
		return;
	nla_for_each_nested(each, attributes[WGDEVICE_A_PEERS], rest) {
		read_peer(each, to);
	}
}

static int take(void *arg, struct nlmsghdr *answer)
{
	wireguard_take(answer, arg);
	return 0;
}

int wireguard_read(struct nl_sock *sock, uint16_t family, int ifindex, struct wireguard_link *to, struct gantry_error *err)
{
	struct nl_msg *msg = request(family, WG_CMD_GET_DEVICE, WG_GENL_VERSION, NLM_F_DUMP);
	*to = (struct wireguard_link){ 0 };
	if (msg && nla_put_u32(msg, WGDEVICE_A_IFINDEX, (uint32_t)ifindex) < 0) {
		nlmsg_free(msg);
		msg = NULL;
	}
	if (netlink_ask(sock, msg, take, to) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read the keys of a WireGuard link");
	return to->out_of_memory ? gantry_fail(err, GANTRY_E_INTERNAL, "out of memory") : 0;
}

void wireguard_release(struct wireguard_link *link)
{
	free(link->peers);
	*link = (struct wireguard_link){ 0 };
}

/* ---- writing ---- */

int wireguard_make_key(struct nl_sock *sock, uint16_t family, int ifindex, struct gantry_error *err)
{
	struct nl_msg *msg = request(family, WG_CMD_SET_DEVICE, WG_GENL_VERSION, 0);
	struct nlattr *key = NULL;
	if (msg && nla_put_u32(msg, WGDEVICE_A_IFINDEX, (uint32_t)ifindex) == 0)
		key = nla_reserve(msg, WGDEVICE_A_PRIVATE_KEY, WIREGUARD_KEY_LEN);
	if (!key) {
		nlmsg_free(msg);
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	if (getrandom(nla_data(key), WIREGUARD_KEY_LEN, 0) != WIREGUARD_KEY_LEN) {
		nlmsg_free(msg);
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "get random bytes");
	}
	/* Held, to be wiped after it was sent. */
	nlmsg_get(msg);
	int rc = netlink_ask(sock, msg, take_family, &(uint16_t){ 0 }), saved = errno;
	explicit_bzero(nla_data(key), WIREGUARD_KEY_LEN);
	nlmsg_free(msg);
	return rc < 0 ? gantry_fail_errno(err, GANTRY_E_INTERNAL, saved, "give a WireGuard link its key") : 0;
}

static void put_request(struct batch *batch, const char *what, uint16_t family, int ifindex)
{
	struct genlmsghdr header = { .cmd = WG_CMD_SET_DEVICE, .version = WG_GENL_VERSION };
	message(batch, what, family, 0, &header, sizeof header);
	put_u32(batch, WGDEVICE_A_IFINDEX, (uint32_t)ifindex);
}

void put_wireguard_port(struct batch *batch, uint16_t family, int ifindex, uint16_t port)
{
	put_request(batch, "set the port of the link to other hosts", family, ifindex);
	put_u16(batch, WGDEVICE_A_LISTEN_PORT, port);
}

static void put_endpoint(struct batch *batch, const struct address *address, uint16_t port)
{
	struct sockaddr_in ipv4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 ipv6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	memcpy(&ipv4.sin_addr, address->bytes, sizeof ipv4.sin_addr);
	memcpy(&ipv6.sin6_addr, address->bytes, sizeof ipv6.sin6_addr);
	if (address->family == AF_INET)
		put(batch, WGPEER_A_ENDPOINT, &ipv4, sizeof ipv4);
	else
		put(batch, WGPEER_A_ENDPOINT, &ipv6, sizeof ipv6);
}

void put_wireguard_peer(struct batch *batch, uint16_t family, int ifindex, const struct wireguard_peer *peer)
{
	put_request(batch, "tell the key of another host", family, ifindex);
	struct nlattr *peers = nest(batch, WGDEVICE_A_PEERS), *one = nest(batch, 0);
	put(batch, WGPEER_A_PUBLIC_KEY, peer->key, WIREGUARD_KEY_LEN);
	put_u32(batch, WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
	put_endpoint(batch, &peer->endpoint, peer->port);
	struct nlattr *addresses = nest(batch, WGPEER_A_ALLOWEDIPS), *address = nest(batch, 0);
	put_u16(batch, WGALLOWEDIP_A_FAMILY, (uint16_t)peer->inside.family);
	put(batch, WGALLOWEDIP_A_IPADDR, peer->inside.bytes, address_len(&peer->inside));
	put_u8(batch, WGALLOWEDIP_A_CIDR_MASK, (uint8_t)(address_len(&peer->inside) * 8));
	nest_end(batch, address);
	nest_end(batch, addresses);
	nest_end(batch, one);
	nest_end(batch, peers);
}

void put_wireguard_peer_gone(struct batch *batch, uint16_t family, int ifindex, const unsigned char key[WIREGUARD_KEY_LEN])
{
	put_request(batch, "forget the key of another host", family, ifindex);
	struct nlattr *peers = nest(batch, WGDEVICE_A_PEERS), *one = nest(batch, 0);
	put(batch, WGPEER_A_PUBLIC_KEY, key, WIREGUARD_KEY_LEN);
	put_u32(batch, WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME);
	nest_end(batch, one);
	nest_end(batch, peers);
}
