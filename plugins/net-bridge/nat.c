/*
 * nat.c - the nftables tables "gantry", one for IPv4 and one for IPv6, which are ours whole.
 *
 * The rules are the same whatever there is: networks and ports are elements of the sets and maps that the rules look into, and one small chain for each
 * network. So a packet's way, and the cost of a change, do not grow with the number of containers. Each change is one transaction.
 *
 *   guard           containers do not reach the host's 127.0.0.0/8, which route_localnet would let them
 *   prerouting      from outside and from containers to a published port: the destination is rewritten, the source stays
 *   output          the same for the host's own programs, 127.0.0.1 included
 *   postrouting     127.0.0.1 as a source becomes the bridge's address; so does a container's own that comes back to its network; the way out is masqueraded
 *   forward         networks are apart; from outside only what was rewritten comes in; internal networks have no way out
 *
 * Rules of others are never read or written. Whether somebody flushed ours shows in the number of rules in our chains, which costs one system call to ask for.
 */
#include "bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>

struct family {
	int af;
	const char *name;
};

static const struct family FAMILIES[] = { { AF_INET, "ip" }, { AF_INET6, "ip6" } };
static const char *const CHAINS[CHAIN_COUNT] = { "guard", "published", "prerouting", "output", "postrouting", "from_container", "to_container", "forward" };

static unsigned family_count(const struct bridge *self)
{
	return self->ipv6 ? 2 : 1;
}

/* ---- what the kernel has ---- */

static void ask(struct batch *batch, int type, int family)
{
	struct nfgenmsg header = { .nfgen_family = (unsigned char)family, .version = NFNETLINK_V0 };
	message(batch, "ask for nftables (CONFIG_NF_TABLES, CAP_NET_ADMIN)", (NFNL_SUBSYS_NFTABLES << 8) | type, 0, &header, sizeof header);
}

static void note_generation(void *arg, unsigned index, struct nlmsghdr *answer)
{
	struct nlattr *found = nlmsg_find_attr(answer, sizeof(struct nfgenmsg), NFTA_GEN_ID);
	(void)index;
	if (found)
		*(uint32_t *)arg = ntohl(nla_get_u32(found));
}

/* Every transaction of anybody counts it up. */
static int read_generation(const struct bridge *self, uint32_t *generation, struct gantry_error *err)
{
	struct batch batch;
	batch_begin(&batch, self->nfnl);
	batch.answer = note_generation;
	batch.arg = generation;
	ask(&batch, NFT_MSG_GETGEN, AF_UNSPEC);
	return batch_run(&batch, err);
}

static void note_use(void *arg, unsigned index, struct nlmsghdr *answer)
{
	uint32_t(*uses)[CHAIN_COUNT] = arg;
	struct nlattr *found = nlmsg_find_attr(answer, sizeof(struct nfgenmsg), NFTA_CHAIN_USE);
	if (found)
		uses[index / CHAIN_COUNT][index % CHAIN_COUNT] = ntohl(nla_get_u32(found));
}

/* How many rules our chains have and jumps to them there are; 0 for a chain that is gone. */
static void count_uses(const struct bridge *self, uint32_t uses[2][CHAIN_COUNT])
{
	struct batch batch;
	struct gantry_error ignored = { .size = sizeof ignored };
	memset(uses, 0, sizeof(uint32_t[2][CHAIN_COUNT]));
	batch_begin(&batch, self->nfnl);
	batch.answer = note_use;
	batch.arg = uses;
	for (unsigned i = 0; i < family_count(self) * CHAIN_COUNT; i++) {
		ask(&batch, NFT_MSG_GETCHAIN, FAMILIES[i / CHAIN_COUNT].af);
		put_text(&batch, NFTA_CHAIN_TABLE, "gantry");
		put_text(&batch, NFTA_CHAIN_NAME, CHAINS[i % CHAIN_COUNT]);
	}
	(void)batch_run(&batch, &ignored);
}

/* Whether the tables are as we left them. Where nobody at all changed anything since, that is one question. */
static bool intact(struct bridge *self)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	uint32_t uses[2][CHAIN_COUNT], generation = 0;
	if (!self->built || read_generation(self, &generation, &ignored) < 0)
		return false;
	if (generation == self->generation)
		return true;
	count_uses(self, uses);
	self->generation = generation;
	return memcmp(uses, self->uses, sizeof uses) == 0;
}

/* After a change of ours: what others did meanwhile must not count as ours. */
static void note_own_change(struct bridge *self)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	uint32_t generation = 0;
	if (read_generation(self, &generation, &ignored) == 0 && generation == self->generation + 1)
		self->generation = generation;
}

/* ---- open, close ---- */

int nat_open(struct bridge *self, struct gantry_error *err)
{
	/* libnftables ends the process where it gets no socket: ours goes first. */
	self->nfnl = netlink_open(NETLINK_NETFILTER, err);
	if (!self->nfnl || read_generation(self, &self->generation, err) < 0) {
		nat_close(self);
		return -1;
	}
	self->nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (self->nft && nft_ctx_buffer_error(self->nft) == 0 && nft_ctx_buffer_output(self->nft) == 0)
		return 0;
	nat_close(self);
	return gantry_fail(err, GANTRY_E_INTERNAL, "nftables: out of memory");
}

void nat_close(struct bridge *self)
{
	if (self->nft)
		nft_ctx_free(self->nft);
	nl_socket_free(self->nfnl);
	self->nft = NULL;
	self->nfnl = NULL;
}

/* ---- text ---- */

struct text {
	char *bytes;
	size_t len;
	FILE *file;
};

static int text_open(struct text *text, struct gantry_error *err)
{
	*text = (struct text){ 0 };
	text->file = open_memstream(&text->bytes, &text->len);
	return text->file ? 0 : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
}

/* Runs the text as one transaction; frees it. */
static int text_run(struct bridge *self, struct text *text, struct gantry_error *err)
{
	bool failed = ferror(text->file) != 0;
	failed |= fclose(text->file) != 0;
	int rc = 0;
	if (failed)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	else if (nft_run_cmd_from_buffer(self->nft, text->bytes) != 0) {
		const char *why = nft_ctx_get_error_buffer(self->nft);
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "nftables: %.*s", (int)strcspn(why, "\n"), why);
	}
	free(text->bytes);
	return rc;
}

static void write_rules(FILE *out, const struct family *family)
{
	bool v4 = family->af == AF_INET;
	fprintf(out, "table %s gantry\ndelete table %s gantry\ntable %s gantry {\n", family->name, family->name, family->name);
	fputs("set bridges { type ifname; }\n"
	      "set internal { type ifname; }\n"
	      "set nat_out { type ifname; }\n"
	      "map neighbours { type ifname . ifname : verdict; }\n"
	      "map into { type ifname : verdict; }\n", out);
	published_write_chains(out, family->af);
	fputs("chain postrouting { type nat hook postrouting priority srcnat; policy accept;\n", out);
	fputs(v4 ? "ip saddr 127.0.0.0/8 oifname @bridges masquerade\n" : "", out);
	fputs("ct status dnat oifname vmap @into\n"
	      "iifname @nat_out oifname != @bridges masquerade\n}\n"
	      "chain from_container {\n"
	      "iifname . oifname vmap @neighbours\n"
	      "iifname @internal drop\n"
	      "ct status dnat accept\n"
	      "oifname @bridges drop\n}\n"
	      "chain to_container {\n"
	      "oifname @internal drop\n"
	      "ct status dnat accept\n"
	      "drop\n}\n"
	      "chain forward { type filter hook forward priority filter; policy accept;\n"
	      "ct state established,related accept\n"
	      "iifname @bridges goto from_container\n"
	      "oifname @bridges goto to_container\n}\n}\n", out);
}

/* In both tables, whatever subnets the network has: what a container sends by itself is kept apart too. */
static void write_network(FILE *out, const struct family *family, const struct network *network)
{
	const char *name = family->name, *bridge = network->bridge;
	fprintf(out, "add chain %s gantry into_%.12s\n", name, network->id);
	/* A neighbour's reply would go to it directly, not back through here, were the source its own. */
	for (unsigned i = 0; i < network->subnet_count; i++) {
		const struct address *subnet = &network->subnets[i].network;
		if (subnet->family == family->af)
			fprintf(out, "add rule %s gantry into_%.12s %s saddr %s/%u masquerade\n", name, network->id, name, subnet->text, subnet->prefix);
	}
	fprintf(out, "add element %s gantry bridges { \"%s\" }\n", name, bridge);
	fprintf(out, "add element %s gantry into { \"%s\" : jump into_%.12s }\n", name, bridge, network->id);
	fprintf(out, "add element %s gantry neighbours { \"%s\" . \"%s\" : %s }\n", name, bridge, bridge, network->icc ? "accept" : "drop");
	if (network->internal)
		fprintf(out, "add element %s gantry internal { \"%s\" }\n", name, bridge);
	else if (network->masquerade)
		fprintf(out, "add element %s gantry nat_out { \"%s\" }\n", name, bridge);
}

static void write_network_gone(FILE *out, const struct family *family, const struct network *network)
{
	const char *name = family->name, *bridge = network->bridge;
	fprintf(out, "delete element %s gantry bridges { \"%s\" }\n", name, bridge);
	fprintf(out, "delete element %s gantry into { \"%s\" }\n", name, bridge);
	fprintf(out, "delete element %s gantry neighbours { \"%s\" . \"%s\" }\n", name, bridge, bridge);
	if (network->internal)
		fprintf(out, "delete element %s gantry internal { \"%s\" }\n", name, bridge);
	else if (network->masquerade)
		fprintf(out, "delete element %s gantry nat_out { \"%s\" }\n", name, bridge);
	fprintf(out, "flush chain %s gantry into_%.12s\n", name, network->id);
	fprintf(out, "delete chain %s gantry into_%.12s\n", name, network->id);
}

/* ---- whole ---- */

struct port_writer {
	const struct bridge *self;
	FILE *out;
};

static void write_each(struct published *published, void *arg)
{
	struct port_writer *writer = arg;
	for (unsigned f = 0; f < family_count(writer->self); f++)
		published_write(writer->out, FAMILIES[f].af, "gantry", published, true);
}

int nat_rebuild(struct bridge *self, struct gantry_error *err)
{
	struct text text;
	if (text_open(&text, err) < 0)
		return -1;
	for (unsigned f = 0; f < family_count(self); f++) {
		write_rules(text.file, &FAMILIES[f]);
		for (const struct network *network = self->networks; network; network = network->next)
			write_network(text.file, &FAMILIES[f], network);
	}
	struct port_writer writer = { self, text.file };
	published_each(&self->publishing, write_each, &writer);
	/* Should it fail, the next change tries again. */
	self->built = false;
	if (text_run(self, &text, err) < 0 || read_generation(self, &self->generation, err) < 0)
		return -1;
	count_uses(self, self->uses);
	self->built = true;
	return 0;
}

int nat_ensure(struct bridge *self, struct gantry_error *err)
{
	return intact(self) ? 0 : nat_rebuild(self, err);
}

/* ---- changes ---- */

/* One transaction for the change; where it, or the tables before it, are not what we think, all anew from the records. */
static int change(struct bridge *self, struct text *text, struct gantry_error *err)
{
	if (text_run(self, text, err) < 0)
		return nat_rebuild(self, err);
	note_own_change(self);
	return 0;
}

static int change_network(struct bridge *self, const struct network *network, void (*write)(FILE *, const struct family *, const struct network *),
			  struct gantry_error *err)
{
	struct text text;
	if (!intact(self))
		return nat_rebuild(self, err);
	if (text_open(&text, err) < 0)
		return -1;
	for (unsigned f = 0; f < family_count(self); f++)
		write(text.file, &FAMILIES[f], network);
	return change(self, &text, err);
}

int nat_add_network(struct bridge *self, const struct network *network, struct gantry_error *err)
{
	return change_network(self, network, write_network, err);
}

int nat_remove_network(struct bridge *self, const struct network *network, struct gantry_error *err)
{
	return change_network(self, network, write_network_gone, err);
}

static int change_ports(struct bridge *self, const struct published *published, bool add, struct gantry_error *err)
{
	struct text text;
	if (!intact(self))
		return nat_rebuild(self, err);
	if (text_open(&text, err) < 0)
		return -1;
	for (unsigned f = 0; f < family_count(self); f++)
		published_write(text.file, FAMILIES[f].af, "gantry", published, add);
	return change(self, &text, err);
}

int nat_publish(struct bridge *self, const struct published *published, struct gantry_error *err)
{
	return change_ports(self, published, true, err);
}

int nat_unpublish(struct bridge *self, const struct published *published, struct gantry_error *err)
{
	return change_ports(self, published, false, err);
}
