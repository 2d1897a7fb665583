/* DNS messages from containers and from upstream servers: each gets an answer that can be read, within its bound, or none. */
#include "fuzz.h"

#include <sys/socket.h>

#include "dns/message.h"

static void answer(const struct dns_question *question, int rcode, size_t room)
{
	static uint8_t bytes[65535];
	static const uint8_t address[16] = { 10, 0, 0, 1 };
	struct dns_reply reply;
	ns_msg message;
	dns_reply_begin(&reply, question, bytes, room);
	for (int i = 0; rcode == 0 && i < 60; i++)
		dns_reply_address(&reply, i % 2 ? AF_INET : AF_INET6, address);
	if (rcode == 0)
		dns_reply_pointer(&reply, "some.name");
	size_t len = dns_reply_end(&reply, rcode);
	MUST(len <= room);
	MUST(ns_initparse(bytes, (int)len, &message) == 0);
	MUST(ns_msg_id(message) == question->id && ns_msg_getflag(message, ns_f_qr));
	if (rcode)
		return;
	MUST(dns_is_response(bytes, len, question, question->id));
	size_t cut = dns_response_cut(bytes, len);
	MUST(cut <= len && ns_initparse(bytes, (int)cut, &message) == 0 && ns_msg_getflag(message, ns_f_tc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t copy[DNS_QUERY_MAX];
	struct dns_question question;
	char address[46], normal[NS_MAXDNAME];
	if (size > sizeof copy)
		return 0;
	int rcode = dns_question_read(data, size, &question);
	if (rcode >= 0)
		answer(&question, rcode, question.room < 4096 ? question.room : 4096);
	if (rcode == 0) {
		dns_reverse_address(question.name, address);
		MUST(!dns_name_normal(question.name, normal) || strcmp(normal, question.name) == 0);
	}
	struct dns_question other = { .id = 1, .wire = { 1, 'a' }, .wire_len = 3, .name = "a", .type = ns_t_a, .class = ns_c_in, .room = DNS_UDP_PLAIN };
	dns_is_response(data, size, &other, 1);
	if (size >= NS_HFIXEDSZ) {
		memcpy(copy, data, size);
		MUST(dns_response_cut(copy, size) <= size);
	}
	return 0;
}
