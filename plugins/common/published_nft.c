/*
 * published_nft.c - published ports in a driver's nftables tables: elements of two maps that three chains look into, so that a packet's way does not grow with
 * the number of ports.
 */
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/published.h"

static const char *family_name(int family)
{
	return family == AF_INET ? "ip" : "ip6";
}

static void write_port(FILE *out, int family, const struct published *published, const struct port *port, bool add)
{
	const struct address *inside = family == AF_INET ? &published->ipv4 : &published->ipv6;
	if (port->any)
		fprintf(out, "%d . %u", port->proto, port->host_port);
	else
		fprintf(out, "%s . %d . %u", port->host.text, port->proto, port->host_port);
	if (add)
		fprintf(out, " : %s . %u", inside->text, port->container_port);
}

/* One command for each map that has any. */
void published_write(FILE *out, int family, const char *table, const struct published *published, bool add)
{
	for (int any = 0; any < 2; any++) {
		unsigned count = 0;
		for (unsigned i = 0; i < published->count; i++) {
			const struct port *port = &published->ports[i];
			if (port->off || !port->natted || port->family != family || port->any != any)
				continue;
			if (count++ == 0)
				fprintf(out, "%s element %s %s %s { ", add ? "add" : "delete", family_name(family), table, any ? "ports_any" : "ports_on");
			else
				fputs(", ", out);
			write_port(out, family, published, port, add);
		}
		if (count)
			fputs(" }\n", out);
	}
}

void published_write_chains(FILE *out, int family)
{
	bool v4 = family == AF_INET;
	const char *name = family_name(family), *type = v4 ? "ipv4_addr" : "ipv6_addr";
	fprintf(out, "map ports_on { type %s . inet_proto . inet_service : %s . inet_service; }\n", type, type);
	fprintf(out, "map ports_any { type inet_proto . inet_service : %s . inet_service; }\n", type);
	fputs("chain guard { type filter hook prerouting priority raw; policy accept;\n", out);
	fputs(v4 ? "iifname @bridges ip daddr 127.0.0.0/8 drop\niifname @bridges ip saddr 127.0.0.0/8 drop\n" : "", out);
	fprintf(out, "}\nchain published {\n"
		     "dnat %s to %s daddr . meta l4proto . th dport map @ports_on\n"
		     "dnat %s to meta l4proto . th dport map @ports_any\n}\n", name, name, name);
	/* From outside nobody gets to a port that is published on 127.0.0.1, whatever address his packet bears. */
	fprintf(out, "chain prerouting { type nat hook prerouting priority dstnat; policy accept;\n%s"
		     "fib daddr type local jump published\n}\n", v4 ? "ip daddr 127.0.0.0/8 return\n" : "");
	/* The kernel sends nothing on from ::1: the relay does, from the socket that holds the port. */
	fprintf(out, "chain output { type nat hook output priority -100; policy accept;\n%s"
		     "fib daddr type local jump published\n}\n", v4 ? "" : "ip6 daddr ::1 return\n");
}
