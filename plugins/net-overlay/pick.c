/*
 * pick.c - which address is free, as far as the table knows; the claim in etcd decides.
 */
#include "overlay.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_MAX (1ull << 32)

struct used {
	int family;
	struct address *items;
	size_t count;
};

static int compare(const void *a, const void *b)
{
	return memcmp(((const struct address *)a)->bytes, ((const struct address *)b)->bytes, 16);
}

static void note(const struct address *address, struct used *used)
{
	if (address->family == used->family)
		used->items[used->count++] = *address;
}

static void note_member(struct member *member, void *arg)
{
	note(&member->ipv4, arg);
	note(&member->ipv6, arg);
}

static int gather(const struct overlay *self, const struct network *network, const struct tried *tried, struct used *used)
{
	size_t room = network->member_count + network->reserved_count + tried->count + network->subnet_count;
	for (const struct local *local = self->locals; local; local = local->next)
		room++;
	used->items = malloc((room + 1) * sizeof *used->items);
	if (!used->items)
		return -1;
	each_member(network, note_member, used);
	for (const struct local *local = self->locals; local; local = local->next) {
		if (strcmp(local->network_id, network->id) == 0)
			note(used->family == AF_INET ? &local->member.ipv4 : &local->member.ipv6, used);
	}
	for (size_t i = 0; i < network->reserved_count; i++)
		note(&network->reserved[i], used);
	for (size_t i = 0; i < tried->count; i++)
		note(&tried->items[i], used);
	for (unsigned i = 0; i < network->subnet_count; i++)
		note(&network->subnets[i].gateway, used);
	qsort(used->items, used->count, sizeof *used->items, compare);
	return 0;
}

/* base + offset; base has zeros there. */
static struct address at(const struct address *base, uint64_t offset)
{
	struct address address = *base;
	unsigned len = address_len(base);
	for (unsigned i = len; i > 0 && offset; i--) {
		address.bytes[i - 1] |= (unsigned char)offset;
		offset >>= 8;
	}
	return address;
}

/* The first address of an IPv4 subnet, and the last, mean no host; nor does the first one of an IPv6 subnet. */
static bool means_no_host(const struct address *address, const struct subnet *subnet)
{
	unsigned bits = address_len(address) * 8 - subnet->network.prefix;
	if (bits < 2)
		return false;
	if (memcmp(address->bytes, subnet->network.bytes, 16) == 0)
		return true;
	uint32_t host, mask = address->family == AF_INET ? 0xffffffffu >> subnet->network.prefix : 0;
	memcpy(&host, address->bytes, sizeof host);
	return mask && (ntohl(host) & mask) == mask;
}

static int pick_in(struct subnet *subnet, const struct used *used, struct address *to)
{
	const struct address *base = subnet->range.family ? &subnet->range : &subnet->network;
	unsigned bits = address_len(base) * 8 - base->prefix;
	uint64_t size = bits >= 32 ? SEARCH_MAX : 1ull << bits;
	for (uint64_t i = 0; i < size; i++) {
		uint64_t offset = (subnet->next + i) % size;
		struct address address = at(base, offset);
		if (means_no_host(&address, subnet) || bsearch(&address, used->items, used->count, sizeof address, compare))
			continue;
		subnet->next = offset + 1;
		address.prefix = subnet->network.prefix;
		inet_ntop(address.family, address.bytes, address.text, sizeof address.text);
		*to = address;
		return 0;
	}
	return -1;
}

int pick_address(const struct overlay *self, struct network *network, int family, const struct tried *tried, struct address *to)
{
	struct used used = { .family = family };
	int rc = 1;
	*to = (struct address){ 0 };
	if (gather(self, network, tried, &used) < 0)
		return -1;
	for (unsigned i = 0; i < network->subnet_count && rc != 0; i++) {
		if (network->subnets[i].network.family == family)
			rc = pick_in(&network->subnets[i], &used, to);
	}
	free(used.items);
	return rc;
}

int place_address(const struct network *network, struct address *address)
{
	for (unsigned i = 0; i < network->subnet_count; i++) {
		if (!address_within(address, &network->subnets[i].network))
			continue;
		address->prefix = network->subnets[i].network.prefix;
		return means_no_host(address, &network->subnets[i]) || address_equal(address, &network->subnets[i].gateway) ? -1 : 0;
	}
	return -1;
}

const struct address *gateway_for(const struct network *network, int family)
{
	for (unsigned i = 0; i < network->subnet_count; i++) {
		if (network->subnets[i].network.family == family && network->subnets[i].gateway.family)
			return &network->subnets[i].gateway;
	}
	return NULL;
}
