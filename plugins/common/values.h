/*
 * common/values.h - addresses, MACs, interface names, ids: read from text, checked, written back. What comes out of here is safe in a path and in an nft command.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gantry/plugin.h>

#define ID_LEN 64
#define ADDRESS_TEXT 46                 /* INET6_ADDRSTRLEN */

struct address {
	int family;                     /* AF_INET, AF_INET6; 0: none */
	unsigned prefix;
	unsigned char bytes[16];
	char text[ADDRESS_TEXT];        /* as inet_ntop writes it */
};

/* "10.1.2.3" or, with_prefix, "10.1.2.3/24"; family 0: either. Returns -1 where it is none. */
int address_parse(const char *text, int family, bool with_prefix, struct address *address);
bool address_any(const struct address *address);
unsigned address_len(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);
int mac_parse(const char *text, unsigned char mac[6]);
void mac_format(const unsigned char mac[6], char text[18]);
/* 02:42 and the IPv4 address, so that a neighbour's cache survives a container's restart; random where there is none. */
int mac_derive(const struct address *ipv4, unsigned char mac[6]);
bool ifname_valid(const char *name);
bool id_valid(const char *id);
/* An option's number, digits alone, from min to max: 0, or -1 with err naming the network, the key and what is allowed. */
int option_number(const char *network, const char *key, const char *value, uint32_t min, uint32_t max, uint32_t *to, struct gantry_error *err);
/* Makes net.FAMILY.conf.IFNAME.KEY (net.FAMILY.KEY where ifname is NULL) of the calling thread's network namespace `value`. ifname is valid. Returns -1 with
 * errno. */
int sysctl_set(const char *value, const char *family, const char *ifname, const char *key);
/* The same through a procfs that the caller has open: for a container's namespace, one of its own. In the host's, the kernel keeps an entry for every
 * namespace that writes there and goes through all of them at each look-up. */
int sysctl_set_at(int proc, const char *value, const char *family, const char *ifname, const char *key);
/* A new procfs, mounted nowhere; the host's where it cannot be made. The caller closes it. Returns -1 with errno. */
int proc_of_its_own(void);
/* One line of the daemon's log. */
void log_line(const struct gantry_host *host, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
