/*
 * nat.c - the nftables tables "gantry-overlay", ours whole: containers of networks that span hosts go out under this host's address, nobody comes in but
 * answers, networks are apart. Built as a whole whenever a network's links are made or removed, which is rare; containers do not change them.
 *
 * Rules of others are never read or written: the bridge driver's tables, "gantry", have rules for its own bridges alone.
 */
#include "overlay.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct script {
	char *text;
	size_t len, room;
	bool broken;
};

__attribute__((format(printf, 2, 3))) static void say(struct script *script, const char *fmt, ...)
{
	char line[256];
	va_list ap;
	va_start(ap, fmt);
	int len = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (len < 0 || (size_t)len >= sizeof line) {
		script->broken = true;
		return;
	}
	if (script->len + (size_t)len + 1 > script->room) {
		size_t room = (script->room + (size_t)len + 1) * 2;
		char *more = realloc(script->text, room);
		if (!more) {
			script->broken = true;
			return;
		}
		script->text = more;
		script->room = room;
	}
	memcpy(script->text + script->len, line, (size_t)len + 1);
	script->len += (size_t)len;
}

static void say_forward(struct script *script, const struct network *network)
{
	say(script, "iifname \"" BRIDGE_PREFIX "%.12s\" oifname \"" BRIDGE_PREFIX "%.12s\" accept;\n", network->id, network->id);
	if (network->internal)
		say(script, "iifname \"" BRIDGE_PREFIX "%.12s\" drop;\n", network->id);
	else
		say(script, "oifname \"" BRIDGE_PREFIX "%.12s\" ct state established,related accept;\n", network->id);
	say(script, "oifname \"" BRIDGE_PREFIX "%.12s\" drop;\n", network->id);
}

static void say_masquerade(struct script *script, const struct network *network, int family)
{
	for (unsigned i = 0; i < network->subnet_count && !network->internal; i++) {
		const struct address *subnet = &network->subnets[i].network;
		if (subnet->family == family)
			say(script, "%s saddr %s/%u oifname != \"" BRIDGE_PREFIX "%.12s\" masquerade;\n", family == AF_INET ? "ip" : "ip6", subnet->text,
			    subnet->prefix, network->id);
	}
}

static void say_table(struct script *script, const struct overlay *self, int family)
{
	const char *name = family == AF_INET ? "ip" : "ip6";
	bool any = false;
	for (const struct network *network = self->networks; network; network = network->next)
		any = any || network->bridge;
	/* The first makes the removal succeed where there is none. */
	say(script, "table %s gantry-overlay;\ndelete table %s gantry-overlay;\n", name, name);
	if (!any)
		return;
	say(script, "table %s gantry-overlay {\nchain forward { type filter hook forward priority 0; policy accept;\n", name);
	for (const struct network *network = self->networks; network; network = network->next) {
		if (network->bridge)
			say_forward(script, network);
	}
	say(script, "}\nchain postrouting { type nat hook postrouting priority 100; policy accept;\n");
	for (const struct network *network = self->networks; network; network = network->next) {
		if (network->bridge)
			say_masquerade(script, network, family);
	}
	say(script, "}\n}\n");
}

int nat_rebuild(struct overlay *self, struct gantry_error *err)
{
	struct script script = { 0 };
	if (!self->nft) {
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
	}
	say_table(&script, self, AF_INET);
	if (kernel_has_ipv6())
		say_table(&script, self, AF_INET6);
	int rc = 0;
	if (script.broken)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	else if (nft_run_cmd_from_buffer(self->nft, script.text) != 0)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "nftables: %.300s", nft_ctx_get_error_buffer(self->nft));
	free(script.text);
	return rc;
}

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
	put_text(&batch, NFTA_CHAIN_TABLE, "gantry-overlay");
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

void nat_close(struct overlay *self)
{
	if (self->nft)
		nft_ctx_free(self->nft);
	self->nft = NULL;
}
