/*
 * ipam.h - addresses of one subnet: handed out, taken back, reserved. In memory alone; rebuilt from what containers hold at start-up.
 * Not thread safe: the networks' lock guards it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct ipam_pool {
	int family;                     /* AF_INET, AF_INET6 */
	unsigned prefix;                /* bits of the subnet */
	uint8_t base[16];               /* its first address; IPv4 in the first 4 bytes */
	uint64_t first, last;           /* offsets from base that may be handed out */
	uint64_t next;                  /* where the search goes on: an address that was given back rests */
	uint64_t *used;                 /* sorted offsets */
	size_t used_count, used_room;
	char subnet[64], gateway[64];   /* "172.17.0.0/16", "172.17.0.1" */
};

/* subnet: CIDR. range: CIDR within it, or NULL. gateway: NULL: the first address. The gateway is reserved. */
int ipam_open(struct ipam_pool *pool, const char *subnet, const char *range, const char *gateway, struct gt_error *err);
void ipam_close(struct ipam_pool *pool);
/* A free address, written as "ADDRESS/PREFIX". -1: none is left. */
int ipam_take(struct ipam_pool *pool, char out[64]);
/* A certain address (without prefix). GT_DENIED "Address already in use", GT_INVALID where it is not of this subnet. */
int ipam_reserve(struct ipam_pool *pool, const char *address, struct gt_error *err);
bool ipam_contains(const struct ipam_pool *pool, const char *address);
/* With or without "/PREFIX". */
void ipam_give_back(struct ipam_pool *pool, const char *address);
/* "ADDRESS" -> "ADDRESS/PREFIX". */
void ipam_with_prefix(const struct ipam_pool *pool, const char *address, char out[64]);

/* Whether two CIDRs share an address. */
bool ipam_overlap(const char *a, const char *b);
/* Whether a CIDR is on a link or route of the host. */
bool ipam_on_host(const char *subnet);
/* The nth subnet of "172.17.0.0/12 size 16" from the written address on ("172.17.0.0/16", "172.18.0.0/16", ...); false past the end. */
bool ipam_candidate(const char *spec, unsigned n, char out[64]);
