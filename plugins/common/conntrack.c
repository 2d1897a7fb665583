/*
 * conntrack.c - UDP flows and changed ports.
 *
 * The kernel looks into a driver's tables at the first packet of a flow. A client that goes on sending datagrams keeps a flow alive that began before
 * its port was published, or that leads to a container that is gone; so these are forgotten, and the client's next packet is looked at anew. TCP needs none of
 * it: a connection that ended is not continued.
 */
#include "common/published.h"

#include "common/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>

/* Bits of CTA_FILTER_ORIG_FLAGS (nf_conntrack_netlink.c; the kernel exports no names for them): compare the protocol and the destination port. */
#define FILTER_PROTO_NUM (1u << 3)
#define FILTER_PROTO_DST_PORT (1u << 5)
#define MAX_FORGOTTEN 4096

struct tuple {
	unsigned char src[16], dst[16];
	uint16_t src_port, dst_port;
	int proto;
};

struct forget {
	const struct port *port;
	struct ifaddrs *host;           /* the host's addresses */
	struct nl_msg *deletions[MAX_FORGOTTEN];
	unsigned count;
};

static void read_tuple(struct nlattr *from, int family, struct tuple *to)
{
	struct nlattr *parts[CTA_TUPLE_MAX + 1], *ip[CTA_IP_MAX + 1], *proto[CTA_PROTO_MAX + 1];
	*to = (struct tuple){ 0 };
	if (!from || nla_parse_nested(parts, CTA_TUPLE_MAX, from, NULL) < 0 || !parts[CTA_TUPLE_IP] || !parts[CTA_TUPLE_PROTO] ||
	    nla_parse_nested(ip, CTA_IP_MAX, parts[CTA_TUPLE_IP], NULL) < 0 || nla_parse_nested(proto, CTA_PROTO_MAX, parts[CTA_TUPLE_PROTO], NULL) < 0)
		return;
	struct nlattr *src = family == AF_INET ? ip[CTA_IP_V4_SRC] : ip[CTA_IP_V6_SRC], *dst = family == AF_INET ? ip[CTA_IP_V4_DST] : ip[CTA_IP_V6_DST];
	if (!src || !dst || !proto[CTA_PROTO_NUM] || !proto[CTA_PROTO_SRC_PORT] || !proto[CTA_PROTO_DST_PORT])
		return;
	nla_memcpy(to->src, src, sizeof to->src);
	nla_memcpy(to->dst, dst, sizeof to->dst);
	to->proto = nla_get_u8(proto[CTA_PROTO_NUM]);
	to->src_port = ntohs(nla_get_u16(proto[CTA_PROTO_SRC_PORT]));
	to->dst_port = ntohs(nla_get_u16(proto[CTA_PROTO_DST_PORT]));
}

static bool is_host_address(const struct forget *forget, const unsigned char *bytes, int family)
{
	for (const struct ifaddrs *each = forget->host; each; each = each->ifa_next) {
		if (!each->ifa_addr || each->ifa_addr->sa_family != family)
			continue;
		const void *there = family == AF_INET ? (const void *)&((const struct sockaddr_in *)(const void *)each->ifa_addr)->sin_addr :
							(const void *)&((const struct sockaddr_in6 *)(const void *)each->ifa_addr)->sin6_addr;
		if (memcmp(there, bytes, family == AF_INET ? 4 : 16) == 0)
			return true;
	}
	return family == AF_INET && bytes[0] == 127;
}

static int note_flow(void *arg, struct nlmsghdr *answer)
{
	struct forget *forget = arg;
	struct nlattr *attributes[CTA_MAX + 1];
	struct tuple there, back;
	const struct port *port = forget->port;
	if (nlmsg_parse(answer, sizeof(struct nfgenmsg), attributes, CTA_MAX, NULL) < 0)
		return 0;
	read_tuple(attributes[CTA_TUPLE_ORIG], port->family, &there);
	read_tuple(attributes[CTA_TUPLE_REPLY], port->family, &back);
	if (there.proto != IPPROTO_UDP || there.dst_port != port->host_port ||
	    (port->any ? !is_host_address(forget, there.dst, port->family) : memcmp(there.dst, port->host.bytes, address_len(&port->host)) != 0))
		return 0;
	struct nfgenmsg header = { .nfgen_family = (unsigned char)port->family, .version = NFNETLINK_V0 };
	struct nl_msg *deletion = nlmsg_alloc_simple((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST);
	if (!deletion)
		return 1;
	struct nlattr *tuple = attributes[CTA_TUPLE_ORIG];
	if (nlmsg_append(deletion, &header, sizeof header, NLMSG_ALIGNTO) < 0 ||
	    nla_put(deletion, CTA_TUPLE_ORIG | NLA_F_NESTED, nla_len(tuple), nla_data(tuple)) < 0 ||
	    (attributes[CTA_ID] && nla_put_u32(deletion, CTA_ID, nla_get_u32(attributes[CTA_ID])) < 0)) {
		nlmsg_free(deletion);
		return 1;
	}
	forget->deletions[forget->count++] = deletion;
	return forget->count == MAX_FORGOTTEN;
}

static struct nl_msg *flows_request(const struct port *port)
{
	struct nfgenmsg header = { .nfgen_family = (unsigned char)port->family, .version = NFNETLINK_V0 };
	uint16_t wire_port = htons(port->host_port);
	struct nl_msg *request = nlmsg_alloc_simple((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP);
	if (!request)
		return NULL;
	bool failed = nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO) < 0;
	struct nlattr *tuple = failed ? NULL : nla_nest_start(request, CTA_TUPLE_ORIG);
	struct nlattr *proto = tuple ? nla_nest_start(request, CTA_TUPLE_PROTO) : NULL;
	failed |= !proto || nla_put_u8(request, CTA_PROTO_NUM, IPPROTO_UDP) < 0 || nla_put_u16(request, CTA_PROTO_DST_PORT, wire_port) < 0;
	if (!failed) {
		nla_nest_end(request, proto);
		nla_nest_end(request, tuple);
	}
	struct nlattr *filter = failed ? NULL : nla_nest_start(request, CTA_FILTER);
	failed |= !filter || nla_put_u32(request, CTA_FILTER_ORIG_FLAGS, FILTER_PROTO_NUM | FILTER_PROTO_DST_PORT) < 0 ||
		  nla_put_u32(request, CTA_FILTER_REPLY_FLAGS, 0) < 0;
	if (!failed) {
		nla_nest_end(request, filter);
		return request;
	}
	nlmsg_free(request);
	return NULL;
}

static int ignore_answer(void *arg, struct nlmsghdr *answer)
{
	(void)arg;
	(void)answer;
	return 0;
}

void conntrack_forget(const struct published *published)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	if (!published || !published_has_udp(published))
		return;
	struct forget *forget = calloc(1, sizeof *forget);
	struct nl_sock *sock = forget ? netlink_open(NETLINK_NETFILTER, &ignored) : NULL;
	if (sock && getifaddrs(&forget->host) == 0) {
		for (unsigned i = 0; i < published->count; i++) {
			forget->port = &published->ports[i];
			forget->count = 0;
			if (forget->port->proto != IPPROTO_UDP)
				continue;
			(void)netlink_ask(sock, flows_request(forget->port), note_flow, forget);
			for (unsigned k = 0; k < forget->count; k++)
				(void)netlink_ask(sock, forget->deletions[k], ignore_answer, NULL);
		}
		freeifaddrs(forget->host);
	}
	nl_socket_free(sock);
	free(forget);
}
