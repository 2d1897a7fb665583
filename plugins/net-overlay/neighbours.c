/*
 * neighbours.c - who is behind which host, in the kernel's tables of a network's VXLAN link: the MAC in its forwarding table (to the host's address) and in
 * that of the bridge (to the link), the address in its neighbour table, from which the link answers ARP and neighbour solicitation by itself. So nothing is
 * ever flooded to other hosts, and nothing is learnt from what comes in.
 *
 * In an encrypted network the host's address is the one that it has in the tunnel. Of a host without a key nobody is behind anything: what is for it is dropped.
 *
 * A container that comes or goes costs its own entries. All of a network's are compared with the kernel's where its links are made or taken up, and where the
 * changes were not followed for a while: each is looked up by its MAC, and what differs is written.
 */
#include "overlay.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_NS 10000000000LL

/* ---- the way there ---- */

/* Where the link sends what is for a member. */
struct way {
	struct address to;              /* family 0: nowhere */
	int ifindex;                    /* of the link to go through; 0: any */
};

static struct way find_way(const struct overlay *self, const struct network *network, const struct member *member)
{
	struct way way = { .to = member->vtep };
	if (!network->encrypted)
		return way;
	way.ifindex = self->tunnel.ifindex;
	if (!tunnel_way(self, &member->vtep, &way.to))
		way.to.family = 0;
	return way;
}

static void tell_keyless(struct overlay *self, const struct network *network, const struct member *member)
{
	int64_t now = etcd_now();
	if (self->keyless_ns && now - self->keyless_ns < QUIET_NS)
		return;
	self->keyless_ns = now;
	log_line(self->host, GANTRY_WARN, "network %s is encrypted, and host %s (%s) has published no key: nothing is sent to its containers", network->name,
		 member->host, member->vtep.text);
}

/* ---- messages ---- */

static struct ndmsg header_for(const struct network *network, int family, uint16_t state, uint8_t flags)
{
	return (struct ndmsg){ .ndm_family = (unsigned char)family, .ndm_ifindex = network->vxlan, .ndm_state = state, .ndm_flags = flags };
}

static void put_neighbour(struct batch *batch, bool add, struct ndmsg header, const unsigned char *mac, const struct address *to)
{
	message(batch, add ? "tell where a container of another host is" : "forget a container of another host", add ? RTM_NEWNEIGH : RTM_DELNEIGH,
		add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &header, sizeof header);
	if (mac)
		put(batch, NDA_LLADDR, mac, 6);
	if (to)
		put(batch, NDA_DST, to->bytes, address_len(to));
}

/* The entries of a member. */
enum { IN_LINK = 1, IN_BRIDGE = 2, IPV4 = 4, IPV6 = 8, PER_MEMBER = 4 };

static unsigned entries_of(const struct member *member, const struct way *way)
{
	return (way->to.family ? IN_LINK : 0) | IN_BRIDGE | (member->ipv4.family ? IPV4 : 0) | (member->ipv6.family ? IPV6 : 0);
}

static void put_member(struct batch *batch, const struct network *network, bool add, const struct member *member, const struct way *way, unsigned which)
{
	if (which & IN_LINK) {
		put_neighbour(batch, add, header_for(network, AF_BRIDGE, NUD_PERMANENT | NUD_NOARP, NTF_SELF), member->mac, &way->to);
		if (way->ifindex)
			put_u32(batch, NDA_IFINDEX, (uint32_t)way->ifindex);
	}
	if (which & IN_BRIDGE)
		put_neighbour(batch, add, header_for(network, AF_BRIDGE, NUD_NOARP, NTF_MASTER), member->mac, NULL);
	if (which & IPV4)
		put_neighbour(batch, add, header_for(network, AF_INET, NUD_PERMANENT, 0), add ? member->mac : NULL, &member->ipv4);
	if (which & IPV6)
		put_neighbour(batch, add, header_for(network, AF_INET6, NUD_PERMANENT, 0), add ? member->mac : NULL, &member->ipv6);
}

static void run(const struct overlay *self, struct batch *batch, bool add)
{
	struct gantry_error err = { .size = sizeof err };
	if (batch_run(batch, &err) < 0 && add)
		log_line(self->host, GANTRY_WARN, "%s", err.message);
}

static void change(struct overlay *self, const struct network *network, bool add, const struct member *member)
{
	struct batch batch;
	struct gantry_error err = { .size = sizeof err };
	if (!network->vxlan)
		return;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, &err);
	if (!sock) {
		log_line(self->host, GANTRY_WARN, "%s", err.message);
		return;
	}
	struct way way = find_way(self, network, member);
	if (add && !way.to.family)
		tell_keyless(self, network, member);
	batch_begin(&batch, sock);
	put_member(&batch, network, add, member, &way, entries_of(member, &way));
	run(self, &batch, add);
	nl_socket_free(sock);
}

void neighbour_add(struct overlay *self, const struct network *network, const struct member *member)
{
	change(self, network, true, member);
}

void neighbour_remove(struct overlay *self, const struct network *network, const struct member *member)
{
	change(self, network, false, member);
}

/* ---- all of a network's ---- */

/* A member of another host, and which of its entries the kernel has. */
struct want {
	const struct member *member;
	struct way way;
	unsigned has;
};

/* What the kernel has that the table does not say. */
struct stale {
	struct ndmsg header;
	unsigned char mac[6], to[16];
	bool has_mac, has_to;
	unsigned to_len;
	uint32_t through;               /* of a forwarding entry; 0: any link */
};

struct sync {
	struct overlay *self;
	const struct network *network;
	struct want *wants;             /* by MAC */
	size_t want_count;
	struct stale *stale;
	size_t stale_count, room;
	size_t read, added;             /* entries, for the log */
	bool out_of_memory;
};

static void note_want(struct member *member, void *arg)
{
	struct sync *sync = arg;
	if (is_own(sync->self, member))
		return;
	struct want *want = &sync->wants[sync->want_count++];
	*want = (struct want){ .member = member, .way = find_way(sync->self, sync->network, member) };
	if (!want->way.to.family)
		tell_keyless(sync->self, sync->network, member);
}

static int by_mac(const void *a, const void *b)
{
	return memcmp(((const struct want *)a)->member->mac, ((const struct want *)b)->member->mac, 6);
}

static int gather(struct sync *sync, struct gantry_error *err)
{
	sync->wants = calloc(sync->network->member_count + 1, sizeof *sync->wants);
	if (!sync->wants)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	each_member(sync->network, note_want, sync);
	qsort(sync->wants, sync->want_count, sizeof *sync->wants, by_mac);
	return 0;
}

/* The first one of that MAC, or where it would be. */
static size_t find_mac(const struct sync *sync, const unsigned char *mac)
{
	size_t low = 0, high = sync->want_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (memcmp(sync->wants[middle].member->mac, mac, 6) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at(const struct address *address, const void *bytes, size_t len)
{
	return address->family && len == address_len(address) && memcmp(address->bytes, bytes, len) == 0;
}

/* A forwarding entry is wanted for a MAC, to its host where it says so; a neighbour entry for an address with its MAC. `which`: one of the entries. */
static bool is_wanted(struct sync *sync, unsigned which, const unsigned char *mac, const void *to, size_t len, uint32_t through)
{
	bool found = false;
	for (size_t i = find_mac(sync, mac); i < sync->want_count && memcmp(sync->wants[i].member->mac, mac, 6) == 0; i++) {
		const struct member *member = sync->wants[i].member;
		const struct way *way = &sync->wants[i].way;
		bool same = which == IN_BRIDGE || (to && is_at(which == IN_LINK ? &way->to : which == IPV4 ? &member->ipv4 : &member->ipv6, to, len));
		same &= which != IN_LINK || (uint32_t)way->ifindex == through;
		if (same)
			sync->wants[i].has |= which;
		found |= same;
	}
	return found;
}

static void remember(struct sync *sync, const struct ndmsg *header, struct nlattr *mac, struct nlattr *to, uint32_t through, bool master)
{
	if (sync->stale_count == sync->room) {
		size_t room = sync->room ? sync->room * 2 : 64;
		struct stale *more = realloc(sync->stale, room * sizeof *more);
		if (!more) {
			sync->out_of_memory = true;
			return;
		}
		sync->stale = more;
		sync->room = room;
	}
	struct stale *stale = &sync->stale[sync->stale_count++];
	*stale = (struct stale){ .header = *header, .has_mac = mac && header->ndm_family == AF_BRIDGE, .has_to = to != NULL, .through = through };
	stale->header.ndm_flags = header->ndm_family == AF_BRIDGE ? (master ? NTF_MASTER : NTF_SELF) : 0;
	stale->header.ndm_state = 0;
	if (stale->has_mac)
		memcpy(stale->mac, nla_data(mac), 6);
	if (to)
		memcpy(stale->to, nla_data(to), stale->to_len = (unsigned)nla_len(to));
}

static int note_entry(void *arg, struct nlmsghdr *answer)
{
	struct sync *sync = arg;
	struct nlattr *attributes[NDA_MAX + 1];
	const struct ndmsg *header = nlmsg_data(answer);
	if (answer->nlmsg_type != RTM_NEWNEIGH || nlmsg_parse(answer, sizeof *header, attributes, NDA_MAX, NULL) < 0 ||
	    header->ndm_ifindex != sync->network->vxlan)
		return 0;
	struct nlattr *mac = attributes[NDA_LLADDR], *to = attributes[NDA_DST];
	bool bridge = header->ndm_family == AF_BRIDGE, master = attributes[NDA_MASTER] != NULL;
	bool bound = bridge && !master && attributes[NDA_IFINDEX] && nla_len(attributes[NDA_IFINDEX]) == (int)sizeof(uint32_t);
	uint32_t through = bound ? nla_get_u32(attributes[NDA_IFINDEX]) : 0;
	unsigned which = bridge ? (master ? IN_BRIDGE : IN_LINK) : header->ndm_family == AF_INET ? IPV4 : IPV6;
	/* The bridge's own entry for the link's MAC; entries that the kernel makes and drops by itself. */
	if ((bridge && master && (header->ndm_state & NUD_PERMANENT)) || (!bridge && !(header->ndm_state & NUD_PERMANENT)) ||
	    (mac && nla_len(mac) != 6) || (to && nla_len(to) > 16) || (!bridge && !to))
		return 0;
	sync->read++;
	if (!mac || !is_wanted(sync, which, nla_data(mac), to ? nla_data(to) : NULL, to ? (size_t)nla_len(to) : 0, through))
		remember(sync, header, mac, to, through, master);
	return 0;
}

/* The kernel is asked for those of the one link. Forwarding tables are asked for with the header of a link, as ever since there was a kernel with them. */
static int read_entries(struct sync *sync, struct nl_sock *sock, int family, struct gantry_error *err)
{
	struct ndmsg neighbours = { .ndm_family = (unsigned char)family };
	struct ifinfomsg port = { .ifi_family = AF_BRIDGE, .ifi_index = sync->network->vxlan };
	struct nl_msg *request = nlmsg_alloc_simple(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP);
	int rc = request ? 0 : -1;
	if (rc == 0 && family == AF_BRIDGE)
		rc = nlmsg_append(request, &port, sizeof port, NLMSG_ALIGNTO);
	else if (rc == 0 && nlmsg_append(request, &neighbours, sizeof neighbours, NLMSG_ALIGNTO) == 0)
		rc = nla_put_u32(request, NDA_IFINDEX, (uint32_t)sync->network->vxlan);
	if (rc < 0) {
		nlmsg_free(request);
		request = NULL;
	}
	if (netlink_ask(sock, request, note_entry, sync) < 0 && errno != EAFNOSUPPORT && errno != EOPNOTSUPP)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read neighbour entries");
	return sync->out_of_memory ? gantry_fail(err, GANTRY_E_INTERNAL, "out of memory") : 0;
}

static void drop_stale(const struct sync *sync, struct nl_sock *sock)
{
	for (size_t i = 0; i < sync->stale_count;) {
		struct batch batch;
		batch_begin(&batch, sock);
		for (; i < sync->stale_count && batch.count < BATCH_MAX; i++) {
			const struct stale *stale = &sync->stale[i];
			message(&batch, "forget a container of another host", RTM_DELNEIGH, 0, &stale->header, sizeof stale->header);
			if (stale->has_mac)
				put(&batch, NDA_LLADDR, stale->mac, 6);
			if (stale->has_to)
				put(&batch, NDA_DST, stale->to, stale->to_len);
			if (stale->through)
				put_u32(&batch, NDA_IFINDEX, stale->through);
		}
		(void)batch_run(&batch, NULL);
	}
}

static void add_missing(struct sync *sync, struct nl_sock *sock)
{
	struct batch batch;
	batch_begin(&batch, sock);
	for (size_t i = 0; i < sync->want_count; i++) {
		const struct member *member = sync->wants[i].member;
		unsigned missing = entries_of(member, &sync->wants[i].way) & ~sync->wants[i].has;
		if (batch.count + PER_MEMBER > BATCH_MAX) {
			run(sync->self, &batch, true);
			batch_begin(&batch, sock);
		}
		put_member(&batch, sync->network, true, member, &sync->wants[i].way, missing);
		sync->added += (size_t)__builtin_popcount(missing);
	}
	run(sync->self, &batch, true);
}

int neighbours_sync(struct overlay *self, const struct network *network, struct gantry_error *err)
{
	struct sync sync = { .self = self, .network = network };
	if (!network->vxlan)
		return 0;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
	int rc = sock ? gather(&sync, err) : -1;
	if (rc == 0)
		rc = read_entries(&sync, sock, AF_BRIDGE, err);
	if (rc == 0)
		rc = read_entries(&sync, sock, AF_INET, err);
	if (rc == 0)
		rc = read_entries(&sync, sock, AF_INET6, err);
	if (sock && sync.wants) {
		drop_stale(&sync, sock);
		add_missing(&sync, sock);
		log_line(self->host, GANTRY_DEBUG, "network %s: who is behind which host: %zu entries read, %zu added, %zu removed", network->name, sync.read,
			 sync.added, sync.stale_count);
	}
	free(sync.wants);
	free(sync.stale);
	nl_socket_free(sock);
	return rc;
}
