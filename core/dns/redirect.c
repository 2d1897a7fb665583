/*
 * redirect.c - a table "gantry" of family ip in the container's own namespace. Shown as nft would:
 *
 *   chain questions-PORT { type filter hook output priority -150; ip daddr 127.0.0.11 udp dport 53 udp dport set PORT; ... tcp ... }
 *   chain answers-PORT   { type filter hook output priority -250; ip saddr 127.0.0.11 udp sport PORT udp sport set 53; ... tcp ... }
 *
 * Both directions pass the namespace's output hook, so that rewriting ports is all there is to do: no connection tracking comes to life in the
 * namespace, which NAT would bring with it at every start and for every packet. Where the container has brought it to life itself, it sees port 53 both
 * ways: questions are rewritten after it (priority -200), answers before it.
 *
 * The table comes to be in one transaction, so that the last chain's name tells whether it is there whole and for this port: a daemon that starts anew
 * leaves it as it is. To replace it would cost a grace period of the kernel's RCU for each container, tens of milliseconds.
 */
#include "dns/redirect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "dns/dns.h"

#define TABLE "gantry"
#define BATCH_SIZE 8192         /* the whole batch needs a third of it */
#define AFTER_CONNTRACK -150
#define BEFORE_CONNTRACK -250
#define DNS_PORT 53

/* Messages one behind the other. */
struct batch {
	_Alignas(struct nlmsghdr) uint8_t bytes[BATCH_SIZE];
	size_t len;
	uint32_t seq;
};

static struct nlmsghdr *begin(struct batch *batch, uint16_t type, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr((char *)batch->bytes + batch->len, type, NFPROTO_IPV4, flags, ++batch->seq);
}

static void end(struct batch *batch, const struct nlmsghdr *message)
{
	batch->len += MNL_ALIGN(message->nlmsg_len);
}

static void mark(struct batch *batch, uint16_t type)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(batch->bytes + batch->len);
	struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST;
	message->nlmsg_seq = ++batch->seq;
	*header = (struct nfgenmsg){ .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES) };
	end(batch, message);
}

static void put_table(struct batch *batch, uint16_t type, uint16_t flags)
{
	struct nftnl_table *table = nftnl_table_alloc();
	nftnl_table_set_str(table, NFTNL_TABLE_NAME, TABLE);
	struct nlmsghdr *message = begin(batch, type, flags);
	nftnl_table_nlmsg_build_payload(message, table);
	end(batch, message);
	nftnl_table_free(table);
}

static void put_chain(struct batch *batch, const char *name, int priority)
{
	struct nftnl_chain *chain = nftnl_chain_alloc();
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, TABLE);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "filter");
	nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, NF_INET_LOCAL_OUT);
	nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, priority);
	struct nlmsghdr *message = begin(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK);
	nftnl_chain_nlmsg_build_payload(message, chain);
	end(batch, message);
	nftnl_chain_free(chain);
}

/* ---- rules ---- */

static void match(struct nftnl_rule *rule, const void *value, uint32_t len)
{
	struct nftnl_expr *cmp = nftnl_expr_alloc("cmp");
	nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, value, len);
	nftnl_rule_add_expr(rule, cmp);
}

static void match_protocol(struct nftnl_rule *rule, uint8_t protocol)
{
	struct nftnl_expr *meta = nftnl_expr_alloc("meta");
	nftnl_expr_set_u32(meta, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
	nftnl_expr_set_u32(meta, NFTNL_EXPR_META_DREG, NFT_REG_1);
	nftnl_rule_add_expr(rule, meta);
	match(rule, &protocol, sizeof protocol);
}

static void match_payload(struct nftnl_rule *rule, uint32_t base, uint32_t offset, const void *value, uint32_t len)
{
	struct nftnl_expr *load = nftnl_expr_alloc("payload");
	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, len);
	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
	nftnl_rule_add_expr(rule, load);
	match(rule, value, len);
}

static void set_port(struct nftnl_rule *rule, uint32_t offset, uint16_t port, uint32_t checksum_offset)
{
	uint16_t value = htons(port);
	struct nftnl_expr *immediate = nftnl_expr_alloc("immediate"), *store = nftnl_expr_alloc("payload");
	nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
	nftnl_expr_set(immediate, NFTNL_EXPR_IMM_DATA, &value, sizeof value);
	nftnl_rule_add_expr(rule, immediate);
	nftnl_expr_set_u32(store, NFTNL_EXPR_PAYLOAD_SREG, NFT_REG_1);
	nftnl_expr_set_u32(store, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
	nftnl_expr_set_u32(store, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(store, NFTNL_EXPR_PAYLOAD_LEN, sizeof value);
	nftnl_expr_set_u32(store, NFTNL_EXPR_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
	nftnl_expr_set_u32(store, NFTNL_EXPR_PAYLOAD_CSUM_OFFSET, checksum_offset);
	nftnl_rule_add_expr(rule, store);
}

/* Where the address and the port stand in their headers differs by direction; where the checksum stands, by protocol. */
static void put_rule(struct batch *batch, const char *chain, bool answer, uint8_t protocol, uint16_t from, uint16_t to)
{
	struct in_addr address = { .s_addr = inet_addr(GT_DNS_ADDRESS) };
	uint16_t port = htons(from);
	struct nftnl_rule *rule = nftnl_rule_alloc();
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, TABLE);
	nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain);
	match_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, answer ? 12 : 16, &address, sizeof address);
	match_protocol(rule, protocol);
	match_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, answer ? 0 : 2, &port, sizeof port);
	set_port(rule, answer ? 0 : 2, to, protocol == IPPROTO_UDP ? 6 : 16);
	struct nlmsghdr *message = begin(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK);
	nftnl_rule_nlmsg_build_payload(message, rule);
	end(batch, message);
	nftnl_rule_free(rule);
}

struct chain_names {
	char questions[32], answers[32];
};

static struct chain_names name_chains(uint16_t port)
{
	struct chain_names names;
	snprintf(names.questions, sizeof names.questions, "questions-%u", port);
	snprintf(names.answers, sizeof names.answers, "answers-%u", port);
	return names;
}

static void compose(struct batch *batch, uint16_t port, bool replace)
{
	struct chain_names names = name_chains(port);
	mark(batch, NFNL_MSG_BATCH_BEGIN);
	if (replace)
		put_table(batch, NFT_MSG_DELTABLE, NLM_F_ACK);
	put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	put_chain(batch, names.questions, AFTER_CONNTRACK);
	put_chain(batch, names.answers, BEFORE_CONNTRACK);
	put_rule(batch, names.questions, false, IPPROTO_UDP, DNS_PORT, port);
	put_rule(batch, names.questions, false, IPPROTO_TCP, DNS_PORT, port);
	put_rule(batch, names.answers, true, IPPROTO_UDP, port, DNS_PORT);
	put_rule(batch, names.answers, true, IPPROTO_TCP, port, DNS_PORT);
	mark(batch, NFNL_MSG_BATCH_END);
}

/* ---- the kernel's word on it ---- */

/* All answers to a batch wait in the socket when sendto() returns. */
static int first_error(int sock)
{
	_Alignas(struct nlmsghdr) uint8_t bytes[8192];
	int error = 0;
	ssize_t got;
	while ((got = recv(sock, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
		int left = (int)got;
		for (const struct nlmsghdr *m = (const void *)bytes; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
			const struct nlmsgerr *verdict = mnl_nlmsg_get_payload(m);
			if (m->nlmsg_type == NLMSG_ERROR && verdict->error && !error)
				error = -verdict->error;
		}
	}
	return error;
}

static int commit(int sock, const struct batch *batch)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	if (sendto(sock, batch->bytes, batch->len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
		return errno;
	return first_error(sock);
}

/* 0 where the table stands for this port already, else an errno. */
static int look(int sock, struct batch *batch, uint16_t port)
{
	struct chain_names names = name_chains(port);
	struct nftnl_chain *chain = nftnl_chain_alloc();
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, TABLE);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, names.answers);
	struct nlmsghdr *message = begin(batch, NFT_MSG_GETCHAIN, NLM_F_ACK);
	nftnl_chain_nlmsg_build_payload(message, chain);
	end(batch, message);
	nftnl_chain_free(chain);
	return commit(sock, batch);
}

int dns_redirect(uint16_t port)
{
	AUTO_FREE struct batch *batch = gt_xcalloc(1, sizeof *batch);
	AUTO_CLOSE int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (sock < 0)
		return errno;
	if (look(sock, batch, port) == 0)
		return 0;
	for (int replace = 0; replace < 2; replace++) {
		*batch = (struct batch){ 0 };
		compose(batch, port, replace);
		int error = commit(sock, batch);
		if (error != EEXIST)
			return error;
	}
	return EEXIST;
}
