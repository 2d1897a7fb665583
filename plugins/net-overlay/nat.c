/*
 * nat.c - the nftables tables "gantry-overlay", ours whole: containers of networks that span hosts go out under this host's address, networks are apart, and
 * nobody comes in but answers and who asks for a published port. Built as a whole whenever a network's links are made or removed, which is rare; a
 * container's ports are added and removed as elements of maps.
 *
 * Rules of others are never read or written: the bridge driver's tables, "gantry", have rules for its own bridges alone.
 */
#include "overlay.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TABLE "gantry-overlay"

struct script {
	FILE *out;
	char *text;
	size_t len;
};

static int script_open(struct script *script, struct gantry_error *err)
{
	script->text = NULL;
	script->out = open_memstream(&script->text, &script->len);
	return script->out ? 0 : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
}

static int open_nft(struct overlay *self, struct gantry_error *err)
{
	if (self->nft)
		return 0;
	/* libnftables ends the process where it gets no socket: ours goes first. */
	struct nl_sock *sock = netlink_open(NETLINK_NETFILTER, err);
	if (!sock)
		return -1;
	nl_socket_free(sock);
	self->nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!self->nft)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	nft_ctx_buffer_error(self->nft);
	nft_ctx_buffer_output(self->nft);
	return 0;
}

/* As one transaction; frees it. */
static int script_run(struct overlay *self, struct script *script, struct gantry_error *err)
{
	int rc = 0;
	bool failed = ferror(script->out) != 0;
	if (fclose(script->out) != 0 || failed)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (rc == 0)
		rc = open_nft(self, err);
	if (rc == 0 && script->len && nft_run_cmd_from_buffer(self->nft, script->text) != 0)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "nftables: %.300s", nft_ctx_get_error_buffer(self->nft));
	free(script->text);
	return rc;
}

/* ---- rules ---- */

/* First those of all networks that let nothing out: what one of these sends is not let into another one by that one's rules. */
static void say_closed(FILE *out, const struct network *network)
{
	fprintf(out, "iifname \"" BRIDGE_PREFIX "%.12s\" oifname \"" BRIDGE_PREFIX "%.12s\" accept;\n", network->id, network->id);
	if (network->internal)
		fprintf(out, "iifname \"" BRIDGE_PREFIX "%.12s\" drop;\n", network->id);
}

static void say_forward(FILE *out, const struct network *network)
{
	if (!network->internal)
		fprintf(out, "oifname \"" BRIDGE_PREFIX "%.12s\" ct state established,related accept;\noifname \"" BRIDGE_PREFIX "%.12s\" ct status dnat accept;\n",
			network->id, network->id);
	fprintf(out, "oifname \"" BRIDGE_PREFIX "%.12s\" drop;\n", network->id);
}

static void say_masquerade(FILE *out, const struct network *network, int family)
{
	const char *name = family == AF_INET ? "ip" : "ip6";
	for (unsigned i = 0; i < network->subnet_count && !network->internal; i++) {
		const struct address *subnet = &network->subnets[i].network;
		if (subnet->family != family)
			continue;
		fprintf(out, "%s saddr %s/%u oifname != \"" BRIDGE_PREFIX "%.12s\" masquerade;\n", name, subnet->text, subnet->prefix, network->id);
		/* A neighbour's reply would go to it directly, not back through here, were the source its own. */
		fprintf(out, "%s saddr %s/%u oifname \"" BRIDGE_PREFIX "%.12s\" ct status dnat masquerade;\n", name, subnet->text, subnet->prefix, network->id);
	}
}

static void say_bridges(FILE *out, const struct overlay *self)
{
	const char *before = "elements = { ";
	fputs("set bridges { type ifname; ", out);
	for (const struct network *network = self->networks; network; network = network->next) {
		if (!network->bridge)
			continue;
		fprintf(out, "%s\"" BRIDGE_PREFIX "%.12s\"", before, network->id);
		before = ", ";
	}
	fputs(" }; }\n", out);
}

static void say_rules(FILE *out, const struct overlay *self, int family)
{
	say_bridges(out, self);
	published_write_chains(out, family);
	fputs("chain forward { type filter hook forward priority 0; policy accept;\n", out);
	for (const struct network *network = self->networks; network; network = network->next) {
		if (network->bridge)
			say_closed(out, network);
	}
	for (const struct network *network = self->networks; network; network = network->next) {
		if (network->bridge)
			say_forward(out, network);
	}
	fputs("}\nchain postrouting { type nat hook postrouting priority 100; policy accept;\n", out);
	if (family == AF_INET)
		fputs("ip saddr 127.0.0.0/8 oifname @bridges masquerade;\n", out);
	for (const struct network *network = self->networks; network; network = network->next) {
		if (network->bridge)
			say_masquerade(out, network, family);
	}
	fputs("}\n", out);
}

struct port_writer {
	FILE *out;
	int family;
};

static void say_ports(struct published *published, void *arg)
{
	const struct port_writer *writer = arg;
	published_write(writer->out, writer->family, TABLE, published, true);
}

static void say_table(FILE *out, struct overlay *self, int family)
{
	const char *name = family == AF_INET ? "ip" : "ip6";
	bool any = false;
	for (const struct network *network = self->networks; network; network = network->next)
		any = any || network->bridge;
	/* The first makes the removal succeed where there is none. */
	fprintf(out, "table %s " TABLE ";\ndelete table %s " TABLE ";\n", name, name);
	if (!any)
		return;
	fprintf(out, "table %s " TABLE " {\n", name);
	say_rules(out, self, family);
	fputs("}\n", out);
	struct port_writer writer = { out, family };
	published_each(&self->publishing, say_ports, &writer);
}

int nat_rebuild(struct overlay *self, struct gantry_error *err)
{
	struct script script;
	if (script_open(&script, err) < 0)
		return -1;
	say_table(script.out, self, AF_INET);
	if (kernel_has_ipv6())
		say_table(script.out, self, AF_INET6);
	return script_run(self, &script, err);
}

/* ---- whole or not ---- */

/* In one question for each table. */
static bool is_there(int family)
{
	struct batch batch;
	struct gantry_error ignored = { .size = sizeof ignored };
	struct nfgenmsg header = { .nfgen_family = (unsigned char)family, .version = NFNETLINK_V0 };
	struct nl_sock *sock = netlink_open(NETLINK_NETFILTER, &ignored);
	if (!sock)
		return false;
	batch_begin(&batch, sock);
	message(&batch, "look for a chain", (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN, 0, &header, sizeof header);
	put_text(&batch, NFTA_CHAIN_TABLE, TABLE);
	put_text(&batch, NFTA_CHAIN_NAME, "postrouting");
	int rc = batch_run(&batch, &ignored);
	nl_socket_free(sock);
	return rc == 0;
}

int nat_ensure(struct overlay *self, struct gantry_error *err)
{
	if (self->nft && is_there(AF_INET) && (!kernel_has_ipv6() || is_there(AF_INET6)))
		return 0;
	return nat_rebuild(self, err);
}

/* ---- ports ---- */

static int change_ports(struct overlay *self, const struct published *published, bool add, struct gantry_error *err)
{
	struct script script;
	if (!self->nft)
		return nat_rebuild(self, err);
	if (script_open(&script, err) < 0)
		return -1;
	published_write(script.out, AF_INET, TABLE, published, add);
	if (kernel_has_ipv6())
		published_write(script.out, AF_INET6, TABLE, published, add);
	/* Where the tables are not what we think, or not there: anew from the records, which have the change already. */
	return script_run(self, &script, err) == 0 ? 0 : nat_rebuild(self, err);
}

int nat_publish(struct overlay *self, const struct published *published, struct gantry_error *err)
{
	return change_ports(self, published, true, err);
}

int nat_unpublish(struct overlay *self, const struct published *published, struct gantry_error *err)
{
	return change_ports(self, published, false, err);
}

void nat_close(struct overlay *self)
{
	if (self->nft)
		nft_ctx_free(self->nft);
	self->nft = NULL;
}
