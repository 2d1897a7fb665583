/*
 * common/link.c - see link.h.
 */
#include "common/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

/* ---- looking ---- */

static void copy_text(char *to, size_t room, struct nlattr *from)
{
	if (from)
		snprintf(to, room, "%.*s", nla_len(from), (const char *)nla_data(from));
}

static void copy_u32(uint32_t *to, struct nlattr *from)
{
	if (from)
		*to = nla_get_u32(from);
}

void link_read(struct nlmsghdr *answer, struct link *link)
{
	struct nlattr *attributes[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	struct ifinfomsg *header = nlmsg_data(answer);
	uint32_t peer = 0, master = 0;
	*link = (struct link){ .ifindex = header->ifi_index, .flags = header->ifi_flags, .type = header->ifi_type };
	if (nlmsg_parse(answer, sizeof *header, attributes, IFLA_MAX, NULL) < 0)
		return;
	copy_text(link->name, sizeof link->name, attributes[IFLA_IFNAME]);
	copy_text(link->alias, sizeof link->alias, attributes[IFLA_IFALIAS]);
	copy_u32(&peer, attributes[IFLA_LINK]);
	copy_u32(&master, attributes[IFLA_MASTER]);
	copy_u32(&link->mtu, attributes[IFLA_MTU]);
	copy_u32(&link->group, attributes[IFLA_GROUP]);
	link->peer_ifindex = (int)peer;
	link->master = (int)master;
	if (attributes[IFLA_ADDRESS] && nla_len(attributes[IFLA_ADDRESS]) == (int)sizeof link->mac)
		memcpy(link->mac, nla_data(attributes[IFLA_ADDRESS]), sizeof link->mac);
	if (attributes[IFLA_LINKINFO] && nla_parse_nested(info, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], NULL) == 0)
		copy_text(link->kind, sizeof link->kind, info[IFLA_INFO_KIND]);
}

static int note_link(void *arg, struct nlmsghdr *answer)
{
	if (answer->nlmsg_type == RTM_NEWLINK)
		link_read(answer, arg);
	return 0;
}

static struct nl_msg *ask_for_links(int flags)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nl_msg *request = nlmsg_alloc_simple(RTM_GETLINK, NLM_F_REQUEST | flags);
	if (request && (nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO) < 0 || nla_put_u32(request, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) < 0)) {
		nlmsg_free(request);
		request = NULL;
	}
	return request;
}

int link_find(struct nl_sock *sock, const char *name, struct link *link, struct gantry_error *err)
{
	struct nl_msg *request = ask_for_links(0);
	*link = (struct link){ 0 };
	if (request && nla_put_string(request, IFLA_IFNAME, name) < 0) {
		nlmsg_free(request);
		request = NULL;
	}
	if (netlink_ask(sock, request, note_link, link) == 0)
		return link->ifindex ? 0 : 1;
	return errno == ENODEV ? 1 : gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "look for link %s", name);
}

/* ---- listing ---- */

struct listing {
	bool (*pick)(const struct link *link, void *arg);
	void *arg;
	struct link *links;
	size_t count, room;
	bool out_of_memory;
};

static int add_link(void *arg, struct nlmsghdr *answer)
{
	struct listing *listing = arg;
	struct link link;
	if (answer->nlmsg_type != RTM_NEWLINK)
		return 0;
	link_read(answer, &link);
	if (!listing->pick(&link, listing->arg))
		return 0;
	if (listing->count == listing->room) {
		size_t room = listing->room ? listing->room * 2 : 16;
		struct link *more = realloc(listing->links, room * sizeof *more);
		if (!more) {
			listing->out_of_memory = true;
			return 1;
		}
		listing->links = more;
		listing->room = room;
	}
	listing->links[listing->count++] = link;
	return 0;
}

static int put_filters(struct nl_msg *request, int nsid, const char *kind)
{
	struct nlattr *info;
	if (nsid >= 0 && nla_put_u32(request, IFLA_TARGET_NETNSID, (uint32_t)nsid) < 0)
		return -1;
	if (!kind)
		return 0;
	info = nla_nest_start(request, IFLA_LINKINFO);
	if (!info || nla_put_string(request, IFLA_INFO_KIND, kind) < 0)
		return -1;
	nla_nest_end(request, info);
	return 0;
}

int link_list(struct nl_sock *sock, int nsid, const char *kind, bool (*pick)(const struct link *link, void *arg), void *arg, struct link **links,
	      size_t *count, struct gantry_error *err)
{
	struct listing listing = { .pick = pick, .arg = arg };
	struct nl_msg *request = ask_for_links(NLM_F_DUMP);
	if (request && put_filters(request, nsid, kind) < 0) {
		nlmsg_free(request);
		request = NULL;
	}
	int rc = netlink_ask(sock, request, add_link, &listing), saved = errno;
	if (rc == 0 && !listing.out_of_memory) {
		*links = listing.links;
		*count = listing.count;
		return 0;
	}
	free(listing.links);
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, rc < 0 ? saved : ENOMEM, "list links");
}

/* ---- changing ---- */

int link_delete(struct nl_sock *sock, int ifindex, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
	batch_begin(&batch, sock);
	message(&batch, "remove a link", RTM_DELLINK, 0, &header, sizeof header);
	if (batch_run(&batch, err) == 0 || (batch.count && batch.errnums[0] == ENODEV))
		return 0;
	return -1;
}

void put_address(struct batch *batch, const char *what, const struct address *address, int ifindex)
{
	struct ifaddrmsg header = { .ifa_family = (unsigned char)address->family, .ifa_prefixlen = (unsigned char)address->prefix,
				    .ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0, .ifa_index = (unsigned)ifindex };
	message(batch, what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof header);
	put(batch, IFA_LOCAL, address->bytes, address_len(address));
	put(batch, IFA_ADDRESS, address->bytes, address_len(address));
	if (address->family == AF_INET && address->prefix < 31) {
		uint32_t broadcast;
		memcpy(&broadcast, address->bytes, sizeof broadcast);
		broadcast |= htonl(0xffffffffu >> address->prefix);
		put_u32(batch, IFA_BROADCAST, broadcast);
	}
}
