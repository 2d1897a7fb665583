/*
 * table.h - private to core/dns: which names mean which addresses, per network. Not thread safe: the server's lock guards it.
 */
#pragma once

#include <netinet/in.h>

#include "base/map.h"
#include "dns/dns.h"
#include "dns/message.h"

struct dns_member {
	char *container_id;
	char **names;                   /* normal form */
	size_t name_count;
	bool has4, has6;
	struct in_addr v4;
	struct in6_addr v6;
};

/* All who have a name, in the order in which they came. */
struct dns_name {
	struct dns_member **members;
	size_t count, room;
	unsigned turn;                  /* who is first in the next answer */
};

struct dns_zone {
	char *network_id;
	char name[NS_MAXDNAME];         /* normal form; "" where DNS cannot carry it */
	struct gt_map members;          /* container id -> struct dns_member */
	struct gt_map names;            /* name -> struct dns_name */
	struct gt_map addresses;        /* text -> struct dns_member */
};

struct dns_table {
	struct gt_map zones;            /* network id -> struct dns_zone; one without members goes */
};

void table_enter(struct dns_table *table, const struct gt_dns_member *member);
void table_leave(struct dns_table *table, const char *network_id, const char *container_id);
void table_free(struct dns_table *table);
struct dns_zone *table_zone(const struct dns_table *table, const char *network_id);     /* NULL: nobody is there */
/* By name, or NAME.NETWORKNAME; the name is in normal form. */
struct dns_name *zone_name(const struct dns_zone *zone, const char *name);
