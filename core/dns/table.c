/*
 * table.c - see table.h. Every look-up is by hash: what a question costs does not depend on how many containers there are.
 */
#include "dns/table.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct dns_zone *table_zone(const struct dns_table *table, const char *network_id)
{
	return gt_map_get(&table->zones, network_id);
}

struct dns_name *zone_name(const struct dns_zone *zone, const char *name)
{
	struct dns_name *found = gt_map_get(&zone->names, name);
	size_t len = strlen(name), tail = strlen(zone->name);
	if (found || !tail || len < tail + 2 || name[len - tail - 1] != '.' || strcmp(name + len - tail, zone->name))
		return found;
	char bare[NS_MAXDNAME];
	memcpy(bare, name, len - tail - 1);
	bare[len - tail - 1] = '\0';
	return gt_map_get(&zone->names, bare);
}

/* ---- names of members ---- */

static void add_name(struct dns_zone *zone, const char *text, struct dns_member *member)
{
	struct dns_name *name = gt_map_get(&zone->names, text);
	if (!name) {
		name = gt_xcalloc(1, sizeof *name);
		gt_map_set(&zone->names, text, name);
	}
	if (name->count == name->room) {
		name->room = name->room ? name->room * 2 : 1;
		name->members = gt_xrealloc(name->members, name->room * sizeof(struct dns_member *));
	}
	name->members[name->count++] = member;
}

static void drop_name(struct dns_zone *zone, const char *text, const struct dns_member *member)
{
	struct dns_name *name = gt_map_get(&zone->names, text);
	size_t at = 0;
	while (at < name->count && name->members[at] != member)
		at++;
	if (at == name->count)
		return;
	name->count--;
	memmove(name->members + at, name->members + at + 1, (name->count - at) * sizeof(struct dns_member *));
	if (name->count)
		return;
	gt_map_remove(&zone->names, text);
	free(name->members);
	free(name);
}

/* ---- members ---- */

static void member_free(struct dns_member *member)
{
	for (size_t i = 0; i < member->name_count; i++)
		free(member->names[i]);
	free(member->names);
	free(member->container_id);
	free(member);
}

static bool known(const struct dns_member *member, const char *name)
{
	for (size_t i = 0; i < member->name_count; i++) {
		if (strcmp(member->names[i], name) == 0)
			return true;
	}
	return false;
}

static bool parse_address(const char *text, int family, void *address)
{
	char bare[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "/");
	if (len == 0 || len >= sizeof bare)
		return false;
	memcpy(bare, text, len);
	bare[len] = '\0';
	return inet_pton(family, bare, address) == 1;
}

static struct dns_member *member_new(const struct gt_dns_member *wanted)
{
	struct dns_member *member = gt_xcalloc(1, sizeof *member);
	char normal[NS_MAXDNAME];
	member->container_id = gt_xstrdup(wanted->container_id);
	member->has4 = parse_address(wanted->ipv4, AF_INET, &member->v4);
	member->has6 = parse_address(wanted->ipv6, AF_INET6, &member->v6);
	member->names = gt_xcalloc(wanted->name_count + 1, sizeof(char *));
	for (size_t i = 0; i < wanted->name_count; i++) {
		if (dns_name_normal(wanted->names[i], normal) && !known(member, normal))
			member->names[member->name_count++] = gt_xstrdup(normal);
	}
	return member;
}

/* Its addresses as keys. */
static void each_address(struct dns_zone *zone, struct dns_member *member, void (*fn)(struct dns_zone *zone, const char *text, struct dns_member *member))
{
	char text[INET6_ADDRSTRLEN];
	if (member->has4 && inet_ntop(AF_INET, &member->v4, text, sizeof text))
		fn(zone, text, member);
	if (member->has6 && inet_ntop(AF_INET6, &member->v6, text, sizeof text))
		fn(zone, text, member);
}

static void set_address(struct dns_zone *zone, const char *text, struct dns_member *member)
{
	gt_map_set(&zone->addresses, text, member);
}

static void drop_address(struct dns_zone *zone, const char *text, struct dns_member *member)
{
	if (gt_map_get(&zone->addresses, text) == member)
		gt_map_remove(&zone->addresses, text);
}

/* ---- zones ---- */

static void zone_free(struct dns_zone *zone)
{
	gt_map_free(&zone->members);
	gt_map_free(&zone->names);
	gt_map_free(&zone->addresses);
	free(zone->network_id);
	free(zone);
}

static void expel(struct dns_zone *zone, struct dns_member *member)
{
	for (size_t i = 0; i < member->name_count; i++)
		drop_name(zone, member->names[i], member);
	each_address(zone, member, drop_address);
	gt_map_remove(&zone->members, member->container_id);
	member_free(member);
}

void table_enter(struct dns_table *table, const struct gt_dns_member *wanted)
{
	struct dns_zone *zone = table_zone(table, wanted->network_id);
	if (!zone) {
		zone = gt_xcalloc(1, sizeof *zone);
		zone->network_id = gt_xstrdup(wanted->network_id);
		if (!dns_name_normal(wanted->network_name, zone->name))
			zone->name[0] = '\0';
		gt_map_set(&table->zones, wanted->network_id, zone);
	}
	struct dns_member *before = gt_map_get(&zone->members, wanted->container_id);
	if (before)
		expel(zone, before);
	struct dns_member *member = member_new(wanted);
	gt_map_set(&zone->members, wanted->container_id, member);
	for (size_t i = 0; i < member->name_count; i++)
		add_name(zone, member->names[i], member);
	each_address(zone, member, set_address);
}

void table_leave(struct dns_table *table, const char *network_id, const char *container_id)
{
	struct dns_zone *zone = table_zone(table, network_id);
	struct dns_member *member = zone ? gt_map_get(&zone->members, container_id) : NULL;
	if (member)
		expel(zone, member);
	if (!zone || zone->members.count)
		return;
	gt_map_remove(&table->zones, network_id);
	zone_free(zone);
}

void table_free(struct dns_table *table)
{
	struct gt_map_slot *slot, *inner;
	for (size_t i = 0; (slot = gt_map_next(&table->zones, &i)) != NULL;) {
		struct dns_zone *zone = slot->value;
		for (size_t n = 0; (inner = gt_map_next(&zone->names, &n)) != NULL;) {
			free(((struct dns_name *)inner->value)->members);
			free(inner->value);
		}
		for (size_t m = 0; (inner = gt_map_next(&zone->members, &m)) != NULL;)
			member_free(inner->value);
		zone_free(zone);
	}
	gt_map_free(&table->zones);
}
