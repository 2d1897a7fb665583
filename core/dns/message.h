/*
 * message.h - private to core/dns: questions read, answers written. Pure functions on bytes, made of glibc's <arpa/nameser.h>.
 *
 * Whatever arrives is hostile: a message that is no query is dropped, one that cannot be understood is answered with an error.
 */
#pragma once

#include <arpa/nameser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DNS_QUERY_MAX 4096              /* no question comes near it */
#define DNS_UDP_PLAIN 512               /* RFC 1035: what fits where nothing else was agreed on */
#define DNS_UDP_OURS 1232               /* what we offer in EDNS: fits any link unfragmented */
#define DNS_TTL 5                       /* containers come and go, and asking again costs nothing */

struct dns_question {
	uint16_t id, type, class;
	bool recursion_desired, edns;
	uint8_t edns_version;
	size_t room;                    /* the largest UDP answer that the asker takes */
	uint8_t wire[NS_MAXCDNAME];     /* the name as it came, uncompressed */
	size_t wire_len;
	char name[NS_MAXDNAME];         /* in lower case, without the last dot; special characters escaped as by ns_name_ntop() */
};

/* 0: a question to answer. > 0: an ns_r_* code to refuse it with; id and, where they could be read, name, type and class are set. -1: drop it. */
int dns_question_read(const uint8_t *bytes, size_t len, struct dns_question *question);

/* True where `response` answers `question`, which went out with this id. */
bool dns_is_response(const uint8_t *response, size_t len, const struct dns_question *question, uint16_t id);

/* The form in which names are compared: lower case, no last dot, escaped. False where DNS cannot carry it. */
bool dns_name_normal(const char *name, char normal[static NS_MAXDNAME]);

/* "4.3.2.1.in-addr.arpa", "...ip6.arpa" (normal form) -> an address as text. False where the name is no whole address. */
bool dns_reverse_address(const char *name, char address[static 46]);

/* An answer under construction, at most `room` bytes: records that do not fit are left out and the answer is marked as cut. */
struct dns_reply {
	const struct dns_question *question;
	uint8_t *bytes, *at, *end;
	uint16_t answers;
	bool cut;
};
void dns_reply_begin(struct dns_reply *reply, const struct dns_question *question, uint8_t *bytes, size_t room);
void dns_reply_address(struct dns_reply *reply, int family, const void *address);
void dns_reply_pointer(struct dns_reply *reply, const char *name);
size_t dns_reply_end(struct dns_reply *reply, int rcode);

/* An answer of an upstream that is too long for its asker: header and question are left, marked as cut. Returns the new length. */
size_t dns_response_cut(uint8_t *response, size_t len);
