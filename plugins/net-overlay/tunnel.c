/*
 * tunnel.c - the WireGuard link that the VXLAN links of encrypted networks go through; networks that are not encrypted have nothing to do with it.
 *
 * One for the host, made when the first container joins an encrypted network, gone with the last one's links. Its private key is made for it, is in the
 * kernel alone and ends with it; the public one stands in the host's record in etcd meanwhile. Each host that has published one is a peer, with one address
 * behind it: the link-local one that its key says (host_inside()). A VXLAN link with a link-local address sends through the one link that it is bound to, takes
 * in what comes from there alone, and goes when that goes: so nothing of an encrypted network is ever sent in the clear, whatever fails here, nor taken.
 *
 * After a crash the link is found by name, with its key and its peers' sessions: traffic has gone on.
 */
#include "overlay.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_IPV4 60            /* of WireGuard: outer IPv4, UDP, header, tag */
#define ROOM_IPV6 80
#define MTU_MIN 1280            /* of IPv6, which goes through it */
#define ALIAS "gantry overlay, encrypted"

void tunnel_name(const struct overlay *self, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, TUNNEL_PREFIX "%.12s", self->instance);
}

static void forget(struct tunnel *tunnel)
{
	*tunnel = (struct tunnel){ .joins = tunnel->joins };
}

static void take_key(struct overlay *self, const unsigned char key[WIREGUARD_KEY_LEN])
{
	memcpy(self->tunnel.key, key, sizeof self->tunnel.key);
	host_inside(key, &self->tunnel.address);
	if (memcmp(self->told_key, key, sizeof self->told_key) != 0)
		agent_kick(self);
}

/* ---- what the kernel has ---- */

/* -1 with err where this kernel cannot. */
static int find_family(struct nl_sock *generic, const char *network, uint16_t *family, struct gantry_error *err)
{
	int absent = wireguard_family(generic, family, err);
	if (absent < 0)
		return -1;
	if (absent)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED,
				   "network %s: encrypted needs WireGuard, which this kernel does not have: load the module (modprobe wireguard), or run Linux 5.6 or "
				   "newer with CONFIG_WIREGUARD", network);
	if (!kernel_has_ipv6())
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: encrypted needs IPv6 within the tunnel, which this kernel does not have", network);
	return 0;
}

int tunnel_possible(const char *network, struct gantry_error *err)
{
	uint16_t family;
	struct nl_sock *generic = netlink_open(NETLINK_GENERIC, err);
	int rc = generic ? find_family(generic, network, &family, err) : -1;
	nl_socket_free(generic);
	return rc;
}

void tunnel_adopt(struct overlay *self)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	struct wireguard_link has = { 0 };
	struct link link;
	char name[IFNAMSIZ];
	uint16_t family;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, &ignored), *generic = NULL;
	tunnel_name(self, name);
	if (sock && link_find(sock, name, &link, &ignored) == 0 && strcmp(link.kind, WIREGUARD_KIND) == 0)
		generic = netlink_open(NETLINK_GENERIC, &ignored);
	if (generic && wireguard_family(generic, &family, &ignored) == 0 && wireguard_read(generic, family, link.ifindex, &has, &ignored) == 0 &&
	    wireguard_key_is_set(has.key))
		take_key(self, has.key);
	wireguard_release(&has);
	nl_socket_free(generic);
	nl_socket_free(sock);
}

/* ---- peers ---- */

static bool is_peer(const struct overlay *self, const struct host *host)
{
	return wireguard_key_is_set(host->key) && memcmp(host->key, self->tunnel.key, sizeof host->key) != 0 && !address_equal(&host->vtep, &self->vtep);
}

bool tunnel_way(const struct overlay *self, const struct address *vtep, struct address *to)
{
	const struct host *host = host_find(self, vtep);
	if (!host || !is_peer(self, host))
		return false;
	host_inside(host->key, to);
	return true;
}

struct wants {
	const struct overlay *self;
	const struct host **items;
	size_t count;
};

static void note_want(struct host *host, void *arg)
{
	struct wants *wants = arg;
	if (is_peer(wants->self, host))
		wants->items[wants->count++] = host;
}

/* By key; of those with one key the newest first, which is where the host is now. */
static int by_key(const void *a, const void *b)
{
	const struct host *left = *(const struct host *const *)a, *right = *(const struct host *const *)b;
	int order = memcmp(left->key, right->key, sizeof left->key);
	return order ? order : (left->revision < right->revision) - (left->revision > right->revision);
}

static int by_peer_key(const void *a, const void *b)
{
	return memcmp(((const struct wireguard_peer *)a)->key, ((const struct wireguard_peer *)b)->key, WIREGUARD_KEY_LEN);
}

static bool is_as_wanted(const struct wireguard_peer *has, const struct wireguard_peer *wanted)
{
	return address_equal(&has->endpoint, &wanted->endpoint) && has->port == wanted->port && address_equal(&has->inside, &wanted->inside) &&
	       !has->other_inside;
}

/* Room for one more message. */
static int make_room(struct batch *batch, struct gantry_error *err)
{
	if (batch->count < BATCH_MAX)
		return 0;
	int rc = batch_run(batch, err);
	batch_begin(batch, batch->sock);
	return rc;
}

/* Both lists are in the order of keys. */
static int put_differences(const struct overlay *self, struct nl_sock *generic, uint16_t family, const struct wireguard_link *has, const struct wants *wants,
			   struct gantry_error *err)
{
	struct batch batch;
	size_t at = 0;
	int rc = 0;
	batch_begin(&batch, generic);
	for (size_t i = 0; i <= wants->count && rc == 0; i++) {
		const struct host *host = i < wants->count ? wants->items[i] : NULL;
		if (host && i > 0 && memcmp(host->key, wants->items[i - 1]->key, sizeof host->key) == 0)
			continue;
		for (; at < has->peer_count && rc == 0 && (!host || memcmp(has->peers[at].key, host->key, sizeof host->key) < 0); at++) {
			rc = make_room(&batch, err);
			put_wireguard_peer_gone(&batch, family, self->tunnel.ifindex, has->peers[at].key);
		}
		if (!host || rc < 0)
			break;
		bool there = at < has->peer_count && memcmp(has->peers[at].key, host->key, sizeof host->key) == 0;
		struct wireguard_peer peer = { .endpoint = host->vtep, .port = (uint16_t)self->settings.wireguard_port };
		memcpy(peer.key, host->key, sizeof peer.key);
		host_inside(host->key, &peer.inside);
		if (!there || !is_as_wanted(&has->peers[at], &peer)) {
			rc = make_room(&batch, err);
			put_wireguard_peer(&batch, family, self->tunnel.ifindex, &peer);
		}
		at += there;
	}
	/* Those that were put are to be sent, or freed, in any case. */
	return batch_run(&batch, rc < 0 ? NULL : err) < 0 ? -1 : rc;
}

static int sync_peers(struct overlay *self, struct nl_sock *generic, uint16_t family, struct gantry_error *err)
{
	struct wireguard_link has = { 0 };
	struct wants wants = { .self = self, .items = calloc(self->host_count + 1, sizeof *wants.items) };
	int rc = wants.items ? wireguard_read(generic, family, self->tunnel.ifindex, &has, err) : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (rc == 0) {
		each_host(self, note_want, &wants);
		qsort(wants.items, wants.count, sizeof *wants.items, by_key);
		if (has.peer_count)
			qsort(has.peers, has.peer_count, sizeof *has.peers, by_peer_key);
		rc = put_differences(self, generic, family, &has, &wants, err);
	}
	wireguard_release(&has);
	free(wants.items);
	return rc;
}

int tunnel_sync(struct overlay *self, struct gantry_error *err)
{
	uint16_t family;
	if (!self->tunnel.ifindex)
		return 0;
	struct nl_sock *generic = netlink_open(NETLINK_GENERIC, err);
	int rc = generic ? find_family(generic, "of all hosts", &family, err) : -1;
	if (rc == 0)
		rc = sync_peers(self, generic, family, err);
	nl_socket_free(generic);
	return rc;
}

/* ---- making ---- */

static int find_mtu(const struct overlay *self, const char *network, uint32_t *mtu, struct gantry_error *err)
{
	struct address address;
	uint32_t underlay = 0, room = self->vtep.family == AF_INET ? ROOM_IPV4 : ROOM_IPV6;
	if (!self->vtep.family)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "network %s: this host's address for tunnels is not known yet", network);
	if (underlay_find(self->vtep.text, &address, &underlay, err) < 0)
		return -1;
	if (underlay < MTU_MIN + room)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %s: the MTU of this host's way to the others, %u, is too small for encryption, which needs %u",
				   network, underlay, MTU_MIN + room);
	*mtu = underlay - room < 65535 ? underlay - room : 65535;
	return 0;
}

static int make_link(struct nl_sock *sock, const char *name, uint32_t mtu, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	batch_begin(&batch, sock);
	message(&batch, "create the link for encrypted networks", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof header);
	put_text(&batch, IFLA_IFNAME, name);
	put_u32(&batch, IFLA_MTU, mtu);
	struct nlattr *info = nest(&batch, IFLA_LINKINFO);
	put_text(&batch, IFLA_INFO_KIND, WIREGUARD_KIND);
	nest_end(&batch, info);
	return batch_run(&batch, err);
}

static int find_or_make(struct nl_sock *sock, const char *network, const char *name, uint32_t mtu, bool *made, int *ifindex, struct gantry_error *err)
{
	struct link link;
	int absent = link_find(sock, name, &link, err);
	*made = absent > 0;
	if (absent < 0 || (absent && make_link(sock, name, mtu, err) < 0))
		return -1;
	if (absent && link_find(sock, name, &link, err) != 0)
		return gantry_fail(err, GANTRY_E_INTERNAL, "network %s: its new link %s has vanished", network, name);
	if (strcmp(link.kind, WIREGUARD_KIND) != 0)
		return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: its link would be %s, but one of that name is there and is no %s", network, name,
				   WIREGUARD_KIND);
	*ifindex = link.ifindex;
	return 0;
}

/* The key that it has, or a new one; and the port. */
static int set_key(struct overlay *self, struct nl_sock *generic, uint16_t family, int ifindex, struct gantry_error *err)
{
	struct wireguard_link has = { 0 };
	struct batch batch;
	uint16_t port = (uint16_t)self->settings.wireguard_port;
	int rc = wireguard_read(generic, family, ifindex, &has, err);
	if (rc == 0 && !wireguard_key_is_set(has.key)) {
		rc = wireguard_make_key(generic, family, ifindex, err);
		wireguard_release(&has);
		if (rc == 0)
			rc = wireguard_read(generic, family, ifindex, &has, err);
	}
	if (rc == 0 && has.port != port) {
		batch_begin(&batch, generic);
		put_wireguard_port(&batch, family, ifindex, port);
		rc = batch_run(&batch, err);
	}
	if (rc == 0)
		take_key(self, has.key);
	wireguard_release(&has);
	return rc;
}

static int set_sysctls(const char *network, const char *name, struct gantry_error *err)
{
	static const char *const OFF[] = { "disable_ipv6", "accept_ra" };
	for (size_t i = 0; i < sizeof OFF / sizeof OFF[0]; i++) {
		if (sysctl_set("0", "ipv6", name, OFF[i]) < 0)
			return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "network %s: set %s on %s", network, OFF[i], name);
	}
	return 0;
}

static int bring_up(const struct overlay *self, struct nl_sock *sock, const char *network, int ifindex, uint32_t mtu, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	batch_begin(&batch, sock);
	message(&batch, "bring the link for encrypted networks up", RTM_SETLINK, 0, &header, sizeof header);
	put_text(&batch, IFLA_IFALIAS, ALIAS);
	put_u32(&batch, IFLA_MTU, mtu);
	put_address(&batch, "give the link for encrypted networks its address", &self->tunnel.address, ifindex);
	if (batch_run(&batch, err) == 0)
		return 0;
	if (batch.count && batch.errnums[0] == EADDRINUSE)
		return gantry_fail(err, GANTRY_E_CONFLICT,
				   "network %s: UDP port %u, which encrypted networks go through, is in use on this host by somebody else; set wireguard_port in section "
				   "[plugin.net-overlay] on all hosts", network, self->settings.wireguard_port);
	return -1;
}

static int set_up(struct overlay *self, struct nl_sock *sock, struct nl_sock *generic, const char *network, struct gantry_error *err)
{
	char name[IFNAMSIZ];
	uint16_t family;
	uint32_t mtu = 0;
	int ifindex = 0;
	bool made = false;
	tunnel_name(self, name);
	if (find_family(generic, network, &family, err) < 0 || find_mtu(self, network, &mtu, err) < 0 ||
	    find_or_make(sock, network, name, mtu, &made, &ifindex, err) < 0)
		return -1;
	if (set_key(self, generic, family, ifindex, err) == 0 && set_sysctls(network, name, err) == 0 &&
	    bring_up(self, sock, network, ifindex, mtu, err) == 0) {
		self->tunnel.ifindex = ifindex;
		self->tunnel.mtu = mtu;
		if (sync_peers(self, generic, family, err) == 0)
			return 0;
	}
	forget(&self->tunnel);
	if (made) {
		struct gantry_error ignored = { .size = sizeof ignored };
		link_delete(sock, ifindex, &ignored);
	}
	agent_kick(self);
	return -1;
}

static bool stands(const struct overlay *self)
{
	char name[IFNAMSIZ], is[IFNAMSIZ];
	tunnel_name(self, name);
	return self->tunnel.ifindex && if_indextoname((unsigned)self->tunnel.ifindex, is) && strcmp(is, name) == 0;
}

int tunnel_ensure(struct overlay *self, const char *network, struct gantry_error *err)
{
	if (stands(self))
		return 0;
	forget(&self->tunnel);
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err), *generic = sock ? netlink_open(NETLINK_GENERIC, err) : NULL;
	int rc = generic ? set_up(self, sock, generic, network, err) : -1;
	nl_socket_free(generic);
	nl_socket_free(sock);
	return rc;
}

/* ---- removing ---- */

void tunnel_look(struct overlay *self)
{
	struct link link;
	struct gantry_error ignored = { .size = sizeof ignored };
	char name[IFNAMSIZ];
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, &ignored);
	tunnel_name(self, name);
	if (sock && link_find(sock, name, &link, &ignored) == 1 && wireguard_key_is_set(self->tunnel.key)) {
		forget(&self->tunnel);
		agent_kick(self);
	}
	nl_socket_free(sock);
}

static bool is_used(const struct overlay *self)
{
	const struct network *network = self->networks;
	while (network && !(network->encrypted && network->vxlan))
		network = network->next;
	return network || self->tunnel.joins;
}

void tunnel_tidy(struct overlay *self)
{
	struct link link;
	struct gantry_error err = { .size = sizeof err };
	char name[IFNAMSIZ];
	/* What containers of an earlier process are in is known when the engine has told them, and etcd their networks. */
	if (!wireguard_key_is_set(self->tunnel.key) || !self->known || !self->told || is_used(self))
		return;
	tunnel_name(self, name);
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, &err);
	int absent = sock ? link_find(sock, name, &link, &err) : -1;
	if (absent < 0 || (absent == 0 && link_delete(sock, link.ifindex, &err) < 0))
		log_line(self->host, GANTRY_WARN, "link %s, which no encrypted network needs any more: %s", name, err.message);
	nl_socket_free(sock);
	forget(&self->tunnel);
	agent_kick(self);
}
