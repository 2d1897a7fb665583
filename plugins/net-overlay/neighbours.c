/*
 * neighbours.c - who is behind which host, in the kernel's tables of a network's VXLAN link: the MAC in its forwarding table (to the host's address) and in
 * that of the bridge (to the link), the address in its neighbour table, from which the link answers ARP and neighbour solicitation by itself. So nothing is
 * ever flooded to other hosts, and nothing is learnt from what comes in.
 */
#include "overlay.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

/* ---- messages ---- */

static struct ndmsg header_for(const struct network *network, int family, uint16_t state, uint8_t flags)
{
	return (struct ndmsg){ .ndm_family = (unsigned char)family, .ndm_ifindex = network->vxlan, .ndm_state = state, .ndm_flags = flags };
}

static void put_neighbour(struct batch *batch, const struct network *network, bool add, struct ndmsg header, const unsigned char *mac,
			  const struct address *to)
{
	(void)network;
	message(batch, add ? "tell where a container of another host is" : "forget a container of another host", add ? RTM_NEWNEIGH : RTM_DELNEIGH,
		add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &header, sizeof header);
	if (mac)
		put(batch, NDA_LLADDR, mac, 6);
	if (to)
		put(batch, NDA_DST, to->bytes, address_len(to));
}

static void put_member(struct batch *batch, const struct network *network, bool add, const struct member *member)
{
	put_neighbour(batch, network, add, header_for(network, AF_BRIDGE, NUD_PERMANENT | NUD_NOARP, NTF_SELF), member->mac, &member->vtep);
	put_neighbour(batch, network, add, header_for(network, AF_BRIDGE, NUD_NOARP, NTF_MASTER), member->mac, NULL);
	if (member->ipv4.family)
		put_neighbour(batch, network, add, header_for(network, AF_INET, NUD_PERMANENT, 0), add ? member->mac : NULL, &member->ipv4);
	if (member->ipv6.family)
		put_neighbour(batch, network, add, header_for(network, AF_INET6, NUD_PERMANENT, 0), add ? member->mac : NULL, &member->ipv6);
}

#define PER_MEMBER 4

static void run(struct overlay *self, struct batch *batch, bool add)
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
	batch_begin(&batch, sock);
	put_member(&batch, network, add, member);
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

/* ---- all of them ---- */

/* What the kernel has that the table does not say. */
struct stale {
	struct ndmsg header;
	unsigned char mac[6], to[16];
	bool has_mac, has_to;
	unsigned to_len;
};

struct sync {
	struct overlay *self;
	struct stale *stale;
	size_t count, room;
	bool out_of_memory;
};

struct search {
	const struct overlay *self;
	const unsigned char *mac;
	const void *address;
	int family;
	bool found;
};

/* A forwarding entry is wanted for a MAC, to its host where it says so; a neighbour entry for an address with its MAC. */
static void match(struct member *member, void *arg)
{
	struct search *search = arg;
	const struct address *address = search->family == AF_INET ? &member->ipv4 : search->family == AF_INET6 ? &member->ipv6 : NULL;
	if (is_own(search->self, member) || !search->mac || memcmp(member->mac, search->mac, 6) != 0)
		return;
	if (address)
		search->found |= address->family == search->family && memcmp(address->bytes, search->address, address_len(address)) == 0;
	else
		search->found |= !search->address || memcmp(member->vtep.bytes, search->address, address_len(&member->vtep)) == 0;
}

static const struct network *network_of(const struct overlay *self, int vxlan)
{
	const struct network *network = self->networks;
	while (network && (!network->vxlan || network->vxlan != vxlan))
		network = network->next;
	return network;
}

static void remember(struct sync *sync, const struct ndmsg *header, struct nlattr *mac, struct nlattr *to, bool master)
{
	if (sync->count == sync->room) {
		size_t room = sync->room ? sync->room * 2 : 64;
		struct stale *more = realloc(sync->stale, room * sizeof *more);
		if (!more) {
			sync->out_of_memory = true;
			return;
		}
		sync->stale = more;
		sync->room = room;
	}
	struct stale *stale = &sync->stale[sync->count++];
	*stale = (struct stale){ .header = *header, .has_mac = mac && header->ndm_family == AF_BRIDGE, .has_to = to != NULL };
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
	if (answer->nlmsg_type != RTM_NEWNEIGH || nlmsg_parse(answer, sizeof *header, attributes, NDA_MAX, NULL) < 0)
		return 0;
	const struct network *network = network_of(sync->self, header->ndm_ifindex);
	struct nlattr *mac = attributes[NDA_LLADDR], *to = attributes[NDA_DST];
	bool bridge = header->ndm_family == AF_BRIDGE, master = attributes[NDA_MASTER] != NULL;
	/* The bridge's own entry for the link's MAC; entries that the kernel makes and drops by itself. */
	if (!network || (bridge && master && (header->ndm_state & NUD_PERMANENT)) || (!bridge && !(header->ndm_state & NUD_PERMANENT)) ||
	    (mac && nla_len(mac) != 6) || (to && nla_len(to) > 16) || (!bridge && !to))
		return 0;
	struct search search = { .self = sync->self, .mac = mac ? nla_data(mac) : NULL, .address = to ? nla_data(to) : NULL,
				 .family = bridge ? 0 : header->ndm_family };
	each_member(network, match, &search);
	if (!search.found)
		remember(sync, header, mac, to, master);
	return 0;
}

static int read_entries(struct sync *sync, struct nl_sock *sock, int family, struct gantry_error *err)
{
	struct ndmsg header = { .ndm_family = (unsigned char)family };
	struct nl_msg *request = nlmsg_alloc_simple(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP);
	if (request && nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(request);
		request = NULL;
	}
	if (netlink_ask(sock, request, note_entry, sync) < 0 && errno != EAFNOSUPPORT && errno != EOPNOTSUPP)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read neighbour entries");
	return sync->out_of_memory ? gantry_fail(err, GANTRY_E_INTERNAL, "out of memory") : 0;
}

static void drop_stale(struct sync *sync, struct nl_sock *sock)
{
	for (size_t i = 0; i < sync->count;) {
		struct batch batch;
		batch_begin(&batch, sock);
		for (; i < sync->count && batch.count < BATCH_MAX; i++) {
			const struct stale *stale = &sync->stale[i];
			message(&batch, "forget a container of another host", RTM_DELNEIGH, 0, &stale->header, sizeof stale->header);
			if (stale->has_mac)
				put(&batch, NDA_LLADDR, stale->mac, 6);
			if (stale->has_to)
				put(&batch, NDA_DST, stale->to, stale->to_len);
		}
		(void)batch_run(&batch, NULL);
	}
}

struct filling {
	struct overlay *self;
	const struct network *network;
	struct batch batch;
	struct nl_sock *sock;
};

static void fill(struct member *member, void *arg)
{
	struct filling *filling = arg;
	if (is_own(filling->self, member))
		return;
	if (filling->batch.count + PER_MEMBER > BATCH_MAX) {
		run(filling->self, &filling->batch, true);
		batch_begin(&filling->batch, filling->sock);
	}
	put_member(&filling->batch, filling->network, true, member);
}

int neighbours_sync(struct overlay *self, struct gantry_error *err)
{
	struct sync sync = { .self = self };
	bool any = false;
	for (const struct network *network = self->networks; network; network = network->next)
		any = any || network->vxlan;
	struct nl_sock *sock = any ? netlink_open(NETLINK_ROUTE, err) : NULL;
	if (!any || !sock)
		return any ? -1 : 0;
	int rc = read_entries(&sync, sock, AF_BRIDGE, err);
	if (rc == 0)
		rc = read_entries(&sync, sock, AF_INET, err);
	if (rc == 0)
		rc = read_entries(&sync, sock, AF_INET6, err);
	drop_stale(&sync, sock);
	for (const struct network *network = self->networks; network; network = network->next) {
		struct filling filling = { .self = self, .network = network, .sock = sock };
		if (!network->vxlan)
			continue;
		batch_begin(&filling.batch, sock);
		each_member(network, fill, &filling);
		run(self, &filling.batch, true);
	}
	free(sync.stale);
	nl_socket_free(sock);
	return rc;
}
