/*
 * message.c - see message.h. RFC 1035 (messages), RFC 6891 (EDNS), RFC 3596 (ip6.arpa).
 */
#include "dns/message.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RECORD_HEAD (NS_RRFIXEDSZ + 2)  /* a pointer to the question's name, type, class, TTL, length */
#define OPT_SIZE (NS_RRFIXEDSZ + 1)
#define EDNS_BAD_VERSION 16             /* ns_r_badvers is 16 as well, but shares its value with BADSIG */
#define NAME_POINTER 0xc00c             /* where the question's name begins */

/* ---- names ---- */

static void lower(char *text)
{
	for (; *text; text++)
		*text = (char)tolower((unsigned char)*text);
}

bool dns_name_normal(const char *name, char normal[static NS_MAXDNAME])
{
	uint8_t wire[NS_MAXCDNAME];
	if (!name[0] || strlen(name) >= NS_MAXDNAME || ns_name_pton(name, wire, sizeof wire) < 0 || !wire[0] ||
	    ns_name_ntop(wire, normal, NS_MAXDNAME) < 0)
		return false;
	lower(normal);
	return true;
}

bool dns_reverse_address(const char *name, char address[static 46])
{
	unsigned b[4];
	int end = 0;
	if (sscanf(name, "%3u.%3u.%3u.%3u.in-addr.arpa%n", &b[0], &b[1], &b[2], &b[3], &end) == 4 && end && !name[end]) {
		struct in_addr parsed;
		snprintf(address, 46, "%u.%u.%u.%u", b[3], b[2], b[1], b[0]);
		return inet_pton(AF_INET, address, &parsed) == 1;
	}
	struct in6_addr bytes = { 0 };
	if (strlen(name) != 72 || strcmp(name + 64, "ip6.arpa"))
		return false;
	for (size_t i = 0; i < 32; i++) {
		const char *digit = name + (size_t)62 - 2 * i;
		if (!isxdigit((unsigned char)*digit) || digit[1] != '.')
			return false;
		int value = isdigit((unsigned char)*digit) ? *digit - '0' : *digit - 'a' + 10;
		bytes.s6_addr[i / 2] = (uint8_t)(bytes.s6_addr[i / 2] << 4 | value);
	}
	return inet_ntop(AF_INET6, &bytes, address, 46) != NULL;
}

/* ---- reading ---- */

/* Name, type and class of the first question. Sets *after to what follows. */
static bool read_name(const uint8_t *bytes, size_t len, struct dns_question *question, size_t *after)
{
	const uint8_t *end = bytes + len, *at = bytes + NS_HFIXEDSZ;
	int used = ns_name_unpack(bytes, end, at, question->wire, sizeof question->wire);
	if (used < 0 || end - at < used + NS_QFIXEDSZ || ns_name_ntop(question->wire, question->name, sizeof question->name) < 0)
		return false;
	while (question->wire[question->wire_len])
		question->wire_len += (size_t)question->wire[question->wire_len] + 1;
	question->wire_len++;
	lower(question->name);
	question->type = (uint16_t)ns_get16(at + used);
	question->class = (uint16_t)ns_get16(at + used + 2);
	*after = (size_t)(at - bytes) + (size_t)used + NS_QFIXEDSZ;
	return true;
}

static int read_edns(ns_msg *message, struct dns_question *question)
{
	for (int i = 0; i < ns_msg_count(*message, ns_s_ar); i++) {
		ns_rr record;
		if (ns_parserr(message, ns_s_ar, i, &record) < 0)
			return ns_r_formerr;
		if (ns_rr_type(record) != ns_t_opt)
			continue;
		if (question->edns || ns_rr_name(record)[0] != '.')
			return ns_r_formerr;
		question->edns = true;
		question->edns_version = (uint8_t)(ns_rr_ttl(record) >> 16);
		if (ns_rr_class(record) > DNS_UDP_PLAIN)
			question->room = ns_rr_class(record);
	}
	return 0;
}

int dns_question_read(const uint8_t *bytes, size_t len, struct dns_question *question)
{
	size_t after;
	ns_msg message;
	*question = (struct dns_question){ .room = DNS_UDP_PLAIN };
	if (len < NS_HFIXEDSZ || (bytes[2] & 0x80))
		return -1;
	question->id = (uint16_t)ns_get16(bytes);
	question->recursion_desired = bytes[2] & 1;
	if ((bytes[2] >> 3 & 15) != ns_o_query)
		return ns_r_notimpl;
	if (ns_get16(bytes + 4) != 1 || ns_get16(bytes + 6) || ns_get16(bytes + 8) || !read_name(bytes, len, question, &after)) {
		question->wire_len = 0;
		return ns_r_formerr;
	}
	if (ns_initparse(bytes, (int)len, &message) < 0)
		return ns_r_formerr;
	int rc = read_edns(&message, question);
	if (rc)
		return rc;
	if (question->edns_version)
		return EDNS_BAD_VERSION;
	return question->type == ns_t_axfr || question->type == ns_t_ixfr ? ns_r_refused : 0;
}

static bool same_name(const struct dns_question *a, const struct dns_question *b)
{
	return a->wire_len == b->wire_len && strcmp(a->name, b->name) == 0;
}

bool dns_is_response(const uint8_t *response, size_t len, const struct dns_question *question, uint16_t id)
{
	struct dns_question echo = { 0 };
	size_t after;
	if (len < NS_HFIXEDSZ || ns_get16(response) != id || !(response[2] & 0x80) || (response[2] >> 3 & 15) != ns_o_query)
		return false;
	if (ns_get16(response + 4) == 0) /* some servers leave the question out of an error */
		return (response[3] & 15) != ns_r_noerror;
	return ns_get16(response + 4) == 1 && read_name(response, len, &echo, &after) && same_name(&echo, question) && echo.type == question->type &&
	       echo.class == question->class;
}

/* ---- writing ---- */

void dns_reply_begin(struct dns_reply *reply, const struct dns_question *question, uint8_t *bytes, size_t room)
{
	*reply = (struct dns_reply){ .question = question, .bytes = bytes, .at = bytes + NS_HFIXEDSZ, .end = bytes + room };
	memset(bytes, 0, NS_HFIXEDSZ);
	if (question->edns)
		reply->end -= OPT_SIZE;
	if (!question->wire_len)
		return;
	memcpy(reply->at, question->wire, question->wire_len);
	reply->at += question->wire_len;
	ns_put16(question->type, reply->at);
	ns_put16(question->class, reply->at + 2);
	reply->at += NS_QFIXEDSZ;
}

static bool add_record(struct dns_reply *reply, int type, const void *data, size_t len)
{
	if (reply->cut || (size_t)(reply->end - reply->at) < RECORD_HEAD + len) {
		reply->cut = true;
		return false;
	}
	ns_put16(NAME_POINTER, reply->at);
	ns_put16((unsigned)type, reply->at + 2);
	ns_put16(ns_c_in, reply->at + 4);
	ns_put32(DNS_TTL, reply->at + 6);
	ns_put16((unsigned)len, reply->at + 10);
	memcpy(reply->at + RECORD_HEAD, data, len);
	reply->at += RECORD_HEAD + len;
	reply->answers++;
	return true;
}

void dns_reply_address(struct dns_reply *reply, int family, const void *address)
{
	add_record(reply, family == AF_INET ? ns_t_a : ns_t_aaaa, address, family == AF_INET ? NS_INADDRSZ : NS_IN6ADDRSZ);
}

void dns_reply_pointer(struct dns_reply *reply, const char *name)
{
	uint8_t wire[NS_MAXCDNAME];
	size_t len = 0;
	if (ns_name_pton(name, wire, sizeof wire) < 0)
		return;
	while (wire[len])
		len += (size_t)wire[len] + 1;
	add_record(reply, ns_t_ptr, wire, len + 1);
}

size_t dns_reply_end(struct dns_reply *reply, int rcode)
{
	const struct dns_question *question = reply->question;
	uint8_t *bytes = reply->bytes;
	ns_put16(question->id, bytes);
	bytes[2] = (uint8_t)(0x80 | (reply->cut ? 2 : 0) | question->recursion_desired);
	bytes[3] = (uint8_t)(0x80 | (rcode & 15));
	ns_put16(question->wire_len ? 1 : 0, bytes + 4);
	ns_put16(reply->answers, bytes + 6);
	if (question->edns) {
		reply->end += OPT_SIZE;
		ns_put16(1, bytes + 10);
		*reply->at = 0;
		ns_put16(ns_t_opt, reply->at + 1);
		ns_put16(DNS_UDP_OURS, reply->at + 3);
		ns_put32((unsigned long)(rcode >> 4) << 24, reply->at + 5);
		ns_put16(0, reply->at + 9);
		reply->at += OPT_SIZE;
	}
	return (size_t)(reply->at - bytes);
}

size_t dns_response_cut(uint8_t *response, size_t len)
{
	struct dns_question question = { 0 };
	size_t after = NS_HFIXEDSZ;
	if (ns_get16(response + 4) != 1 || !read_name(response, len, &question, &after)) {
		after = NS_HFIXEDSZ;
		ns_put16(0, response + 4);
	}
	response[2] |= 2;
	memset(response + 6, 0, 6);
	return after;
}
