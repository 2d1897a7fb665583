/* The resolver's messages and tables: what is asked, what is answered, and what is not. */
#include <arpa/inet.h>
#include <string.h>

#include "dns/message.h"
#include "dns/server.h"
#include "testing.h"

#define HEAD(flags, qd, ar) "\x12\x34" flags "\0" qd "\0\0\0\0\0" ar
#define A_IN "\0\1\0\1"
#define OPT_4096 "\0\0\x29\x10\0\0\0\0\0\0\0"
#define BYTES(text) { .bytes = (const uint8_t *)(text), .len = sizeof(text) - 1 }

struct message {
	const uint8_t *bytes;
	size_t len;
};

static void questions_are_understood(void **state)
{
	static const struct {
		struct message message;
		const char *name;
		uint16_t type;
		bool edns;
		size_t room;
	} CASES[] = {
		{ BYTES(HEAD("\1\0", "\1", "\0") "\2db\0" A_IN), "db", ns_t_a, false, 512 },
		{ BYTES(HEAD("\1\0", "\1", "\0") "\2Db\4NET1\0" A_IN), "db.net1", ns_t_a, false, 512 },
		{ BYTES(HEAD("\1\0", "\1", "\0") "\2db\0\0\x1c\0\1"), "db", ns_t_aaaa, false, 512 },
		{ BYTES(HEAD("\1\0", "\1", "\1") "\2db\0" A_IN OPT_4096), "db", ns_t_a, true, 4096 },
		{ BYTES(HEAD("\1\0", "\1", "\1") "\2db\0" A_IN "\0\0\x29\0\x10\0\0\0\0\0\0"), "db", ns_t_a, true, 512 },
		{ BYTES(HEAD("\0\0", "\1", "\0") "\0" A_IN), ".", ns_t_a, false, 512 },
		{ BYTES(HEAD("\1\0", "\1", "\0") "\3a.b\0" A_IN), "a\\.b", ns_t_a, false, 512 },
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct dns_question question;
		assert_int_equal(dns_question_read(CASES[i].message.bytes, CASES[i].message.len, &question), 0);
		assert_string_equal(question.name, CASES[i].name);
		assert_int_equal(question.id, 0x1234);
		assert_int_equal(question.type, CASES[i].type);
		assert_int_equal(question.edns, CASES[i].edns);
		assert_int_equal(question.room, CASES[i].room);
	}
}

static void hostile_messages_are_dropped_or_refused(void **state)
{
	static const struct {
		struct message message;
		int rcode;
	} CASES[] = {
		{ BYTES(""), -1 },
		{ BYTES("\x12\x34\1\0\0\1\0\0\0\0\0"), -1 },                                            /* cut in the header */
		{ BYTES(HEAD("\x81\x80", "\1", "\0") "\2db\0" A_IN), -1 },                              /* an answer */
		{ BYTES(HEAD("\1\0", "\0", "\0")), ns_r_formerr },                                      /* no question */
		{ BYTES(HEAD("\1\0", "\2", "\0") "\2db\0" A_IN "\2db\0" A_IN), ns_r_formerr },          /* two */
		{ BYTES(HEAD("\1\0", "\1", "\0")), ns_r_formerr },                                      /* counted but not there */
		{ BYTES(HEAD("\1\0", "\1", "\0") "\2db\0\0\1"), ns_r_formerr },                         /* cut in the class */
		{ BYTES(HEAD("\1\0", "\1", "\0") "\x3f" "db\0" A_IN), ns_r_formerr },                   /* a label longer than the message */
		{ BYTES(HEAD("\1\0", "\1", "\0") "\xc0\x0c" A_IN), ns_r_formerr },                      /* a pointer to itself */
		{ BYTES(HEAD("\1\0", "\1", "\0") "\1a\xc0\x0c" A_IN), ns_r_formerr },                   /* a loop */
		{ BYTES(HEAD("\1\0", "\1", "\0") "\xc0\xff" A_IN), ns_r_formerr },                      /* a pointer to nowhere */
		{ BYTES(HEAD("\1\0", "\1", "\0") "\x80" "db\0" A_IN), ns_r_formerr },                   /* a reserved kind of label */
		{ BYTES(HEAD("\1\0", "\1", "\1") "\2db\0" A_IN), ns_r_formerr },                        /* an OPT that is not there */
		{ BYTES(HEAD("\1\0", "\1", "\2") "\2db\0" A_IN OPT_4096 OPT_4096), ns_r_formerr },      /* two of them */
		{ BYTES(HEAD("\1\0", "\1", "\1") "\2db\0" A_IN "\0\0\x29\x10\0\0\1\0\0\0\0"), 16 },     /* EDNS of version 1 */
		{ BYTES(HEAD("\1\0", "\1", "\1") "\2db\0" A_IN "\0\0\x29\x10\0\0\0\0\0\0\x09"), ns_r_formerr },
		{ BYTES(HEAD("\1\0", "\1", "\0") "\2db\0" A_IN "tail"), ns_r_formerr },
		{ BYTES(HEAD("\x28\0", "\1", "\0") "\2db\0" A_IN), ns_r_notimpl },                      /* an update */
		{ BYTES(HEAD("\1\0", "\1", "\0") "\2db\0\0\xfc\0\1"), ns_r_refused },                   /* a zone transfer */
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct dns_question question;
		int rcode = dns_question_read(CASES[i].message.bytes, CASES[i].message.len, &question);
		if (rcode != CASES[i].rcode)
			fail_msg("case %zu: %d instead of %d", i, rcode, CASES[i].rcode);
		if (rcode < 0)
			continue;
		uint8_t bytes[512];
		struct dns_reply reply;
		dns_reply_begin(&reply, &question, bytes, sizeof bytes);
		size_t len = dns_reply_end(&reply, rcode);
		assert_in_range(len, NS_HFIXEDSZ, sizeof bytes);
		assert_int_equal(ns_get16(bytes), 0x1234);
		assert_int_equal(bytes[3] & 15, rcode & 15);
	}
}

/* Every message that is one byte off a good one, and every beginning of it. */
static void no_message_confuses_the_reader(void **state)
{
	static const char GOOD[] = HEAD("\1\0", "\1", "\1") "\2db\4net1\0" A_IN OPT_4096;
	uint8_t bytes[sizeof GOOD], answer[512];
	struct dns_question question;
	struct dns_reply reply;
	(void)state;
	for (size_t at = 0; at < sizeof GOOD - 1; at++) {
		for (int value = 0; value < 256; value++) {
			memcpy(bytes, GOOD, sizeof GOOD);
			bytes[at] = (uint8_t)value;
			int rcode = dns_question_read(bytes, sizeof GOOD - 1, &question);
			if (rcode < 0)
				continue;
			dns_reply_begin(&reply, &question, answer, sizeof answer);
			assert_in_range(dns_reply_end(&reply, rcode), NS_HFIXEDSZ, sizeof answer);
		}
		assert_int_not_equal(dns_question_read((const uint8_t *)GOOD, at, &question), 0);
	}
}

static struct dns_question ask(const char *name, uint16_t type)
{
	struct dns_question question = { .id = 7, .type = type, .class = ns_c_in, .room = 512, .recursion_desired = true };
	assert_true(ns_name_pton(name, question.wire, sizeof question.wire) >= 0);
	while (question.wire[question.wire_len])
		question.wire_len += question.wire[question.wire_len] + 1u;
	question.wire_len++;
	assert_true(dns_name_normal(name, question.name));
	return question;
}

static void answers_can_be_read_and_are_cut_at_their_bound(void **state)
{
	uint8_t bytes[512];
	struct dns_reply reply;
	struct in_addr address = { .s_addr = htonl(0x0a000001) };
	(void)state;
	for (int edns = 0; edns < 2; edns++) {
		struct dns_question question = ask("Db.example", ns_t_a);
		ns_msg message;
		ns_rr record;
		question.edns = edns;
		dns_reply_begin(&reply, &question, bytes, sizeof bytes);
		for (int i = 0; i < 3; i++)
			dns_reply_address(&reply, AF_INET, &address);
		size_t len = dns_reply_end(&reply, ns_r_noerror);
		assert_int_equal(ns_initparse(bytes, (int)len, &message), 0);
		assert_int_equal(ns_msg_count(message, ns_s_an), 3);
		assert_int_equal(ns_msg_count(message, ns_s_ar), edns);
		assert_int_equal(ns_parserr(&message, ns_s_an, 2, &record), 0);
		assert_string_equal(ns_rr_name(record), "Db.example");
		assert_memory_equal(ns_rr_rdata(record), &address, 4);

		dns_reply_begin(&reply, &question, bytes, sizeof bytes);
		for (int i = 0; i < 100; i++)
			dns_reply_address(&reply, AF_INET, &address);
		len = dns_reply_end(&reply, ns_r_noerror);
		assert_true(len <= sizeof bytes);
		assert_int_equal(ns_initparse(bytes, (int)len, &message), 0);
		assert_true(ns_msg_getflag(message, ns_f_tc));
		assert_in_range(ns_msg_count(message, ns_s_an), 25, 31);
	}
}

static void only_the_answer_to_the_question_counts(void **state)
{
	struct dns_question question = ask("db.example", ns_t_a), other = ask("db.example", ns_t_aaaa), third = ask("dc.example", ns_t_a);
	uint8_t bytes[512];
	struct dns_reply reply;
	(void)state;
	dns_reply_begin(&reply, &question, bytes, sizeof bytes);
	size_t len = dns_reply_end(&reply, ns_r_noerror);
	assert_true(dns_is_response(bytes, len, &question, 7));
	assert_false(dns_is_response(bytes, len, &question, 8));
	assert_false(dns_is_response(bytes, len, &other, 7));
	assert_false(dns_is_response(bytes, len, &third, 7));
	for (size_t cut = 0; cut < len; cut++)
		assert_false(dns_is_response(bytes, cut, &question, 7));
	bytes[13] = 'D'; /* servers may answer in another case */
	assert_true(dns_is_response(bytes, len, &question, 7));
	assert_int_equal(dns_response_cut(bytes, len), len);
	assert_true(bytes[2] & 2);
	bytes[2] &= 0x7f;
	assert_false(dns_is_response(bytes, len, &question, 7));
}

static void addresses_are_found_in_reverse_names(void **state)
{
	static const char *const GOOD[][2] = {
		{ "2.0.18.172.in-addr.arpa", "172.18.0.2" },
		{ "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.7.0.0.0.0.d.f.ip6.arpa", "fd00:78::1" },
	};
	static const char *const BAD[] = { "0.18.172.in-addr.arpa", "2.0.18.999.in-addr.arpa", "2.0.18.172.in-addr.arpa.x", "1.2.3.4", "d.f.ip6.arpa", ".",
					   "g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.7.0.0.0.0.d.f.ip6.arpa" };
	char address[46];
	(void)state;
	for (size_t i = 0; i < GT_COUNT(GOOD); i++) {
		assert_true(dns_reverse_address(GOOD[i][0], address));
		assert_string_equal(address, GOOD[i][1]);
	}
	for (size_t i = 0; i < GT_COUNT(BAD); i++)
		assert_false(dns_reverse_address(BAD[i], address));
}

static void names_are_compared_in_one_form(void **state)
{
	char normal[NS_MAXDNAME], long_label[70];
	(void)state;
	assert_true(dns_name_normal("My_Web-1.Example.", normal));
	assert_string_equal(normal, "my_web-1.example");
	memset(long_label, 'a', sizeof long_label);
	long_label[64] = '\0';
	assert_false(dns_name_normal(long_label, normal));
	assert_false(dns_name_normal("", normal));
	assert_false(dns_name_normal("a..b", normal));
	assert_false(dns_name_normal(".", normal));
}

static void enter(struct dns_table *table, const char *id, const char *ipv4, const char *first, const char *second)
{
	const char *names[] = { first, second };
	struct gt_dns_member member = { .network_id = "n", .network_name = "Net.1", .container_id = id, .names = names, .name_count = 2, .ipv4 = ipv4, .ipv6 = "" };
	table_enter(table, &member);
}

static void the_table_follows_its_members(void **state)
{
	struct dns_table table = { 0 };
	(void)state;
	enter(&table, "a", "10.0.0.1/24", "one", "all");
	enter(&table, "b", "10.0.0.2/24", "two", "ALL");
	struct dns_zone *zone = table_zone(&table, "n");
	assert_non_null(zone);
	assert_int_equal(zone_name(zone, "all")->count, 2);
	assert_int_equal(zone_name(zone, "all.net.1")->count, 2);
	assert_null(zone_name(zone, "net.1"));
	assert_null(zone_name(zone, ".net.1"));
	assert_null(zone_name(zone, "allnet.1"));
	enter(&table, "a", "10.0.0.9/24", "uno", "uno"); /* renamed, and at another address */
	assert_null(zone_name(zone, "one"));
	assert_int_equal(zone_name(zone, "uno")->count, 1);
	assert_int_equal(zone_name(zone, "all")->count, 1);
	assert_null(gt_map_get(&zone->addresses, "10.0.0.1"));
	assert_non_null(gt_map_get(&zone->addresses, "10.0.0.9"));
	enter(&table, "c", "10.0.0.9/24", "three", "all"); /* an address changes hands before its former owner has left */
	table_leave(&table, "n", "a");
	assert_string_equal(((struct dns_member *)gt_map_get(&zone->addresses, "10.0.0.9"))->container_id, "c");
	table_leave(&table, "n", "b");
	table_leave(&table, "n", "nobody");
	table_leave(&table, "m", "c");
	table_leave(&table, "n", "c");
	assert_null(table_zone(&table, "n"));
	enter(&table, "d", "", "four", "");
	table_free(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions_are_understood),
		cmocka_unit_test(hostile_messages_are_dropped_or_refused),
		cmocka_unit_test(no_message_confuses_the_reader),
		cmocka_unit_test(answers_can_be_read_and_are_cut_at_their_bound),
		cmocka_unit_test(only_the_answer_to_the_question_counts),
		cmocka_unit_test(addresses_are_found_in_reverse_names),
		cmocka_unit_test(names_are_compared_in_one_form),
		cmocka_unit_test(the_table_follows_its_members),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
