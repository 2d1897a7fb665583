/*
 * ipam.c - see ipam.h. Addresses are offsets from the subnet's first; of an IPv6 subnet the lower 62 bits are used.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "engine/ipam.h"

struct cidr {
	int family;
	unsigned prefix;
	uint8_t address[16], network[16];
};

static unsigned bits_of(int family)
{
	return family == AF_INET ? 32 : 128;
}

static void mask(uint8_t *address, unsigned prefix, unsigned bits)
{
	for (unsigned bit = prefix; bit < bits; bit++)
		address[bit / 8] = (uint8_t)(address[bit / 8] & ~(0x80 >> bit % 8));
}

static bool parse_cidr(const char *text, struct cidr *cidr)
{
	char copy[64];
	if (strlen(text) >= sizeof copy)
		return false;
	memcpy(copy, text, strlen(text) + 1);
	char *slash = strchr(copy, '/');
	if (slash)
		*slash++ = '\0';
	*cidr = (struct cidr){ .family = strchr(copy, ':') ? AF_INET6 : AF_INET };
	if (inet_pton(cidr->family, copy, cidr->address) != 1)
		return false;
	size_t digits = slash ? strspn(slash, "0123456789") : 0;
	if (slash && (digits < 1 || digits > 3 || slash[digits]))
		return false;
	unsigned long prefix = slash ? strtoul(slash, NULL, 10) : bits_of(cidr->family);
	if (prefix > bits_of(cidr->family))
		return false;
	cidr->prefix = (unsigned)prefix;
	memcpy(cidr->network, cidr->address, sizeof cidr->network);
	mask(cidr->network, cidr->prefix, bits_of(cidr->family));
	return true;
}

/* ---- offsets ---- */

static uint64_t low_bits(const uint8_t *address, int family)
{
	uint64_t value = 0;
	size_t from = family == AF_INET ? 0 : 8, to = family == AF_INET ? 4 : 16;
	for (size_t i = from; i < to; i++)
		value = value << 8 | address[i];
	return value;
}

static uint64_t size_of(const struct ipam_pool *pool)
{
	unsigned host_bits = bits_of(pool->family) - pool->prefix;
	return host_bits >= 62 ? 1ull << 62 : 1ull << host_bits;
}

/* Neither the subnet's own address nor, of IPv4, its broadcast address. */
static bool is_host(const struct ipam_pool *pool, uint64_t offset)
{
	return offset != 0 && (pool->family == AF_INET6 || offset != size_of(pool) - 1);
}

static bool offset_of(const struct ipam_pool *pool, const char *address, uint64_t *offset)
{
	struct cidr cidr;
	uint8_t network[16];
	char bare[64];
	snprintf(bare, sizeof bare, "%.*s", (int)strcspn(address, "/"), address);
	if (!parse_cidr(bare, &cidr) || cidr.family != pool->family)
		return false;
	memcpy(network, cidr.address, sizeof network);
	if (pool->family == AF_INET6 && memcmp(network, pool->base, 8) != 0)
		return false; /* the upper half is not counted: there it has to be the subnet's own */
	mask(network, pool->prefix, bits_of(pool->family));
	*offset = low_bits(cidr.address, pool->family) - low_bits(pool->base, pool->family);
	return memcmp(network, pool->base, bits_of(pool->family) / 8) == 0 && *offset < size_of(pool);
}

static void write_address(const struct ipam_pool *pool, uint64_t offset, bool with_prefix, char out[64])
{
	uint8_t address[16];
	char text[INET6_ADDRSTRLEN];
	memcpy(address, pool->base, sizeof address);
	uint64_t low = low_bits(pool->base, pool->family) + offset;
	size_t from = pool->family == AF_INET ? 0 : 8, to = pool->family == AF_INET ? 4 : 16;
	for (size_t i = to; i > from; i--, low >>= 8)
		address[i - 1] = (uint8_t)low;
	inet_ntop(pool->family, address, text, sizeof text);
	if (with_prefix)
		snprintf(out, 64, "%s/%u", text, pool->prefix);
	else
		snprintf(out, 64, "%s", text);
}

/* ---- the set of used offsets ---- */

static size_t place_of(const struct ipam_pool *pool, uint64_t offset)
{
	size_t low = 0, high = pool->used_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (pool->used[middle] < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_used(const struct ipam_pool *pool, uint64_t offset)
{
	size_t at = place_of(pool, offset);
	return at < pool->used_count && pool->used[at] == offset;
}

static void use(struct ipam_pool *pool, uint64_t offset)
{
	size_t at = place_of(pool, offset);
	if (pool->used_count == pool->used_room) {
		pool->used_room = pool->used_room ? pool->used_room * 2 : 16;
		pool->used = gt_xrealloc(pool->used, pool->used_room * sizeof *pool->used);
	}
	memmove(pool->used + at + 1, pool->used + at, (pool->used_count - at) * sizeof *pool->used);
	pool->used[at] = offset;
	pool->used_count++;
}

/* ---- a pool ---- */

static int set_range(struct ipam_pool *pool, const char *range, struct gt_error *err)
{
	struct cidr cidr;
	uint64_t first;
	if (!parse_cidr(range, &cidr) || cidr.family != pool->family || cidr.prefix < pool->prefix || !offset_of(pool, range, &first))
		return gt_fail(err, GT_INVALID, "invalid ip-range %.64s: it is not a part of the subnet %s", range, pool->subnet);
	struct ipam_pool part = { .family = cidr.family, .prefix = cidr.prefix };
	uint64_t begin = low_bits(cidr.network, cidr.family) - low_bits(pool->base, pool->family), end = begin + size_of(&part) - 1;
	pool->first = begin > pool->first ? begin : pool->first;
	pool->last = end < pool->last ? end : pool->last;
	if (pool->first > pool->last)
		return gt_fail(err, GT_INVALID, "invalid ip-range %.64s: it has no address for a container", range);
	return 0;
}

int ipam_open(struct ipam_pool *pool, const char *subnet, const char *range, const char *gateway, struct gt_error *err)
{
	struct cidr cidr;
	if (!parse_cidr(subnet, &cidr) || !strchr(subnet, '/'))
		return gt_fail(err, GT_INVALID, "invalid subnet %.64s: write it as ADDRESS/BITS, e.g. 10.1.0.0/16", subnet);
	if (memcmp(cidr.address, cidr.network, sizeof cidr.address))
		return gt_fail(err, GT_INVALID, "invalid subnet %.64s: bits of the host part are set", subnet);
	if (cidr.prefix > bits_of(cidr.family) - 2 || cidr.prefix < 8)
		return gt_fail(err, GT_INVALID, "invalid subnet %.64s: it is too small or too large", subnet);
	*pool = (struct ipam_pool){ .family = cidr.family, .prefix = cidr.prefix };
	memcpy(pool->base, cidr.network, sizeof pool->base);
	snprintf(pool->subnet, sizeof pool->subnet, "%s", subnet);
	pool->first = 1;
	pool->last = size_of(pool) - (cidr.family == AF_INET ? 2 : 1); /* not the broadcast address */
	uint64_t offset = 1;
	if (gateway && gateway[0] && (!offset_of(pool, gateway, &offset) || !is_host(pool, offset)))
		return gt_fail(err, GT_INVALID, "invalid gateway %.64s: it does not belong to the subnet %s", gateway, subnet);
	if (range && range[0]) {
		if (set_range(pool, range, err) < 0)
			return -1;
		if (!gateway || !gateway[0])
			offset = pool->first;
	}
	write_address(pool, offset, false, pool->gateway);
	use(pool, offset);
	pool->next = pool->first;
	return 0;
}

void ipam_close(struct ipam_pool *pool)
{
	free(pool->used);
	pool->used = NULL;
	pool->used_count = pool->used_room = 0;
}

int ipam_take(struct ipam_pool *pool, char out[64])
{
	uint64_t count = pool->last - pool->first + 1;
	for (uint64_t tried = 0; tried < count && tried <= pool->used_count; tried++) {
		uint64_t offset = pool->next;
		pool->next = offset >= pool->last ? pool->first : offset + 1;
		if (is_used(pool, offset))
			continue;
		use(pool, offset);
		write_address(pool, offset, true, out);
		return 0;
	}
	return -1;
}

bool ipam_contains(const struct ipam_pool *pool, const char *address)
{
	uint64_t offset;
	return offset_of(pool, address, &offset);
}

int ipam_reserve(struct ipam_pool *pool, const char *address, struct gt_error *err)
{
	uint64_t offset;
	if (!offset_of(pool, address, &offset) || !is_host(pool, offset))
		return gt_fail(err, GT_INVALID, "invalid address %.64s: It does not belong to any of this network's subnets", address);
	if (is_used(pool, offset))
		return gt_fail(err, GT_DENIED, "Address already in use");
	use(pool, offset);
	return 0;
}

void ipam_give_back(struct ipam_pool *pool, const char *address)
{
	uint64_t offset;
	if (!offset_of(pool, address, &offset) || !is_used(pool, offset))
		return;
	size_t at = place_of(pool, offset);
	pool->used_count--;
	memmove(pool->used + at, pool->used + at + 1, (pool->used_count - at) * sizeof *pool->used);
}

void ipam_with_prefix(const struct ipam_pool *pool, const char *address, char out[64])
{
	uint64_t offset;
	if (offset_of(pool, address, &offset))
		write_address(pool, offset, true, out);
	else
		out[0] = '\0';
}

/* ---- subnets ---- */

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned count)
{
	for (unsigned bit = 0; bit < count; bit++) {
		if ((a[bit / 8] ^ b[bit / 8]) & (0x80 >> bit % 8))
			return false;
	}
	return true;
}

bool ipam_overlap(const char *a, const char *b)
{
	struct cidr x, y;
	if (!parse_cidr(a, &x) || !parse_cidr(b, &y) || x.family != y.family)
		return false;
	return same_bits(x.network, y.network, x.prefix < y.prefix ? x.prefix : y.prefix);
}

static bool on_link(const char *subnet)
{
	struct ifaddrs *list = NULL;
	bool found = false;
	if (getifaddrs(&list) < 0)
		return false;
	for (struct ifaddrs *entry = list; entry && !found; entry = entry->ifa_next) {
		char text[INET6_ADDRSTRLEN];
		if (!entry->ifa_addr || (entry->ifa_addr->sa_family != AF_INET && entry->ifa_addr->sa_family != AF_INET6))
			continue;
		bool v4 = entry->ifa_addr->sa_family == AF_INET;
		const void *address = v4 ? (void *)&((struct sockaddr_in *)entry->ifa_addr)->sin_addr : (void *)&((struct sockaddr_in6 *)entry->ifa_addr)->sin6_addr;
		found = inet_ntop(entry->ifa_addr->sa_family, address, text, sizeof text) && ipam_overlap(subnet, text);
	}
	freeifaddrs(list);
	return found;
}

/* /proc/net/route: addresses in hexadecimal, the host's byte order. The default route leads everywhere and is passed over. */
static bool on_route(const char *subnet)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(AT_FDCWD, "/proc/net/route", 8 << 20, &text, NULL) < 0 || !text.data)
		return false;
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		unsigned destination, route_mask;
		char address[INET_ADDRSTRLEN], cidr[64];
		if (sscanf(line, "%*s %x %*x %*x %*d %*d %*d %x", &destination, &route_mask) != 2 || !route_mask)
			continue;
		struct in_addr in = { .s_addr = destination };
		inet_ntop(AF_INET, &in, address, sizeof address);
		snprintf(cidr, sizeof cidr, "%s/%d", address, __builtin_popcount(route_mask));
		if (ipam_overlap(subnet, cidr))
			return true;
	}
	return false;
}

bool ipam_on_host(const char *subnet)
{
	return on_link(subnet) || on_route(subnet);
}

bool ipam_candidate(const char *spec, unsigned n, char out[64])
{
	char text[64];
	unsigned size;
	struct cidr cidr;
	if (sscanf(spec, "%63s size %u", text, &size) != 2 || !parse_cidr(text, &cidr) || size < cidr.prefix || size > bits_of(cidr.family) - 2)
		return false;
	/* The number of a subnet stands in the bits between the two prefixes; it counts on from the address that is written, up to the last. */
	unsigned bits = size - cidr.prefix < 31 ? size - cidr.prefix : 31;
	uint64_t number = n;
	for (unsigned i = 0; i < bits; i++) {
		unsigned bit = size - 1 - i;
		number += (uint64_t)(cidr.address[bit / 8] >> (7 - bit % 8) & 1) << i;
	}
	if (number >= 1ull << bits)
		return false;
	mask(cidr.address, size, bits_of(cidr.family));
	for (unsigned i = 0; i < bits; i++) {
		unsigned bit = size - 1 - i;
		uint8_t flag = (uint8_t)(0x80 >> bit % 8);
		cidr.address[bit / 8] = (uint8_t)(number >> i & 1 ? cidr.address[bit / 8] | flag : cidr.address[bit / 8] & ~flag);
	}
	char address[INET6_ADDRSTRLEN];
	inet_ntop(cidr.family, cidr.address, address, sizeof address);
	snprintf(out, 64, "%s/%u", address, size);
	return true;
}
