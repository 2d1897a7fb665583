/* What the overlay driver reads from etcd, where other hosts wrote it, and how it picks addresses. */
#include <arpa/inet.h>
#include <string.h>

#include "base/auto.h"
#include "net-overlay/overlay.h"
#include "testing.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NETWORK(subnets, more) \
	"{\"version\":1,\"name\":\"web\",\"vni\":4096,\"mtu\":0,\"internal\":false,\"subnets\":[" subnets "],\"reserved\":[],\"document\":\"{}\"" more "}"
#define SUBNET(subnet, gateway, range) "{\"subnet\":\"" subnet "\",\"gateway\":\"" gateway "\",\"range\":\"" range "\"}"
#define MEMBER(mac, vtep, ipv4, names) \
	"{\"version\":1,\"container\":\"" ID "\",\"host\":\"h1\",\"vtep\":\"" vtep "\",\"mac\":\"" mac "\",\"ipv4\":\"" ipv4 "\",\"ipv6\":\"\",\"names\":" names "}"

/* ---- etcd's answers ---- */

static void base64_goes_there_and_back(void **state)
{
	static const char *const TEXTS[][2] = { { "", "" }, { "a", "YQ==" }, { "ab", "YWI=" }, { "abc", "YWJj" }, { "a/b?\xff", "YS9iP/8=" } };
	(void)state;
	for (size_t i = 0; i < GT_COUNT(TEXTS); i++) {
		AUTO_FREE char *coded = etcd_encode(TEXTS[i][0], strlen(TEXTS[i][0])), *back = etcd_decode(TEXTS[i][1], 64);
		assert_string_equal(coded, TEXTS[i][1]);
		assert_string_equal(back, TEXTS[i][0]);
	}
	static const char *const BAD[] = { "Y", "YQ", "YQ=", "YQ==YQ==", "Y===", "Y Q=", "YWJj\n", "AA==", "YQ-_" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++)
		assert_null(etcd_decode(BAD[i], 64));
	assert_null(etcd_decode("YWJj", 2));
}

static void a_prefix_ends_before_the_next_one(void **state)
{
	(void)state;
	AUTO_FREE char *end = etcd_range_end("a/b/"), *high = etcd_range_end("a\xff\xff");
	assert_string_equal(end, "a/b0");
	assert_string_equal(high, "b");
}

static void lines_of_a_watch_are_understood(void **state)
{
	struct etcd_news news;
	struct gantry_error err = { .size = sizeof err };
	static const char CREATED[] = "{\"result\":{\"header\":{\"revision\":\"7\"},\"created\":true}}";
	static const char EVENTS[] = "{\"result\":{\"header\":{\"revision\":\"9\"},\"events\":[{\"kv\":{\"key\":\"YQ==\",\"value\":\"Yg==\",\"mod_revision\":\"8\"}},"
				     "{\"type\":\"DELETE\",\"kv\":{\"key\":\"Yw==\",\"mod_revision\":\"9\"}}]}}";
	static const char GONE[] = "{\"result\":{\"header\":{\"revision\":\"99\"},\"canceled\":true,\"compact_revision\":\"50\"}}";
	static const char ERROR[] = "{\"error\":{\"grpc_code\":14,\"message\":\"etcdserver: no leader\"}}";
	(void)state;
	assert_int_equal(etcd_read_news(CREATED, sizeof CREATED - 1, &news, &err), 0);
	assert_true(news.created && news.revision == 7 && !news.pairs.count && !news.ended);
	assert_int_equal(etcd_read_news(EVENTS, sizeof EVENTS - 1, &news, &err), 0);
	assert_int_equal(news.pairs.count, 2);
	assert_string_equal(news.pairs.items[0].key, "a");
	assert_string_equal(news.pairs.items[0].value, "b");
	assert_int_equal(news.pairs.items[0].revision, 8);
	assert_string_equal(news.pairs.items[1].key, "c");
	assert_null(news.pairs.items[1].value);
	etcd_pairs_free(&news.pairs);
	assert_int_equal(etcd_read_news(GONE, sizeof GONE - 1, &news, &err), 0);
	assert_true(news.ended && news.compacted == 50);
	assert_int_equal(etcd_read_news(ERROR, sizeof ERROR - 1, &news, &err), 0);
	assert_true(news.ended);
	assert_string_equal(news.reason, "etcdserver: no leader");
}

static void hostile_answers_are_bounded(void **state)
{
	static const char *const BAD[] = { "", "[]", "{", "null", "{\"result\"", "\xff" };
	struct etcd_news news;
	struct gantry_error err = { .size = sizeof err };
	char deep[4096];
	(void)state;
	for (size_t i = 0; i < GT_COUNT(BAD); i++)
		assert_int_equal(etcd_read_news(BAD[i], strlen(BAD[i]), &news, &err), -1);
	memset(deep, '[', sizeof deep);
	deep[sizeof deep - 1] = '\0';
	assert_null(etcd_parse(deep, sizeof deep - 1, &err));
	/* keys that are none of ours, values that are no text, revisions that are none */
	static const char PAIRS[] = "{\"result\":{\"events\":[{\"kv\":{\"key\":\"YSBi\",\"value\":\"Yg==\",\"mod_revision\":\"8\"}},"
				    "{\"kv\":{\"key\":\"YQ==\",\"value\":\"AA==\",\"mod_revision\":\"8\"}},{\"kv\":{\"key\":\"YQ==\",\"value\":\"Yg==\"}},"
				    "{\"kv\":{\"key\":5,\"mod_revision\":\"8\"}},{\"kv\":null},{},5,{\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"x8\"}}]}}";
	assert_int_equal(etcd_read_news(PAIRS, sizeof PAIRS - 1, &news, &err), 0);
	assert_int_equal(news.pairs.count, 0);
	etcd_pairs_free(&news.pairs);
}

/* ---- records ---- */

static void networks_go_there_and_back(void **state)
{
	static const char TEXT[] = NETWORK(SUBNET("10.1.0.0/16", "10.1.0.1", "10.1.4.0/24") "," SUBNET("fd00:1::/64", "fd00:1::1", ""), "");
	struct network network = { 0 }, again = { 0 };
	(void)state;
	assert_int_equal(network_from_text(TEXT, &network), 0);
	assert_string_equal(network.name, "web");
	assert_int_equal(network.subnet_count, 2);
	assert_true(network.ipv4 && network.ipv6);
	AUTO_FREE char *text = network_to_text(&network);
	assert_int_equal(network_from_text(text, &again), 0);
	assert_string_equal(again.subnets[0].range.text, "10.1.4.0");
	assert_string_equal(again.subnets[1].gateway.text, "fd00:1::1");
	assert_string_equal(again.document, "{}");
	network_release(&network);
	network_release(&again);
}

static void networks_that_are_none_are_refused(void **state)
{
	static const char *const BAD[] = {
		"", "{}", "[]", "{\"version\":2}", NETWORK("", ""), NETWORK(SUBNET("10.1.0.0/33", "", ""), ""), NETWORK(SUBNET("10.1.0.0/16", "10.2.0.1", ""), ""),
		NETWORK(SUBNET("10.1.0.0/16", "", "10.0.0.0/8"), ""), NETWORK(SUBNET("10.1.0.0/16", "", "10.2.0.0/24"), ""),
		NETWORK(SUBNET("10.1.0.0/16", "fd00::1", ""), ""), NETWORK("5", ""), NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"vni\":0"),
		NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"vni\":16777216"), NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"name\":\"a b\""),
		NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"reserved\":[\"x\"]"), NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"document\":\"\""),
		NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"mtu\":5"),
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		struct network network = { 0 };
		if (network_from_text(BAD[i], &network) == 0)
			fail_msg("taken: %s", BAD[i]);
		network_release(&network);
	}
}

static void an_encrypted_network_is_none_for_who_knows_no_encryption(void **state)
{
	static const char TEXT[] = NETWORK(SUBNET("10.1.0.0/16", "10.1.0.1", ""), ",\"version\":2,\"encrypted\":true");
	struct network network = { 0 }, again = { 0 };
	(void)state;
	assert_int_equal(network_from_text(TEXT, &network), 0);
	assert_true(network.encrypted);
	AUTO_FREE char *text = network_to_text(&network);
	assert_non_null(strstr(text, "\"version\":2,"));
	assert_int_equal(network_from_text(text, &again), 0);
	assert_true(again.encrypted);
	network.encrypted = false;
	AUTO_FREE char *open = network_to_text(&network);
	assert_non_null(strstr(open, "\"version\":1,"));
	network_release(&network);
	network_release(&again);
	static const char *const BAD[] = {
		NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"encrypted\":true"), NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"version\":2"),
		NETWORK(SUBNET("10.1.0.0/16", "", ""), ",\"version\":3,\"encrypted\":true"),
	};
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		if (network_from_text(BAD[i], &network) == 0)
			fail_msg("taken: %s", BAD[i]);
		network_release(&network);
	}
}

#define HOST(more) "{\"version\":1,\"instance\":\"0123456789abcdef0123456789abcdef\",\"host\":\"h1\"" more "}"

static void hosts_go_there_and_back_with_their_keys(void **state)
{
	static const unsigned char NONE[WIREGUARD_KEY_LEN];
	struct overlay self = { .instance = "0123456789abcdef0123456789abcdef", .hostname = "h1" };
	struct host host = { 0 }, keyless = { 0 };
	char instance[33];
	(void)state;
	assert_int_equal(host_from_text(HOST(",\"wireguard\":\"" ID "\""), instance, &host), 0);
	assert_string_equal(instance, self.instance);
	assert_string_equal(host.name, "h1");
	assert_memory_equal(host.key, "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23", 10);
	AUTO_FREE char *text = host_to_text(&self, host.key), *without = host_to_text(&self, NONE);
	assert_non_null(strstr(text, ID));
	memset(host.key, 0, sizeof host.key);
	assert_int_equal(host_from_text(text, instance, &host), 0);
	assert_memory_equal(host.key, "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23", 10);
	/* one of a host that has nothing encrypted, and of one that knows no encryption */
	assert_int_equal(host_from_text(without, instance, &keyless), 0);
	assert_int_equal(host_from_text(HOST(""), instance, &keyless), 0);
	assert_memory_equal(keyless.key, NONE, sizeof NONE);
	static const char *const BAD[] = { "", "{}", HOST(",\"version\":2"), HOST(",\"host\":\"\""), HOST(",\"wireguard\":\"0123\""),
					   HOST(",\"wireguard\":\"0000000000000000000000000000000000000000000000000000000000000000\""),
					   HOST(",\"wireguard\":\"x123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"") };
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		if (host_from_text(BAD[i], instance, &host) == 0)
			fail_msg("taken: %s", BAD[i]);
	}
}

static void note_name(struct host *host, void *arg)
{
	char *names = arg;
	snprintf(names + strlen(names), 64, "%.16s ", host->name);
}

static void hosts_are_found_by_their_address(void **state)
{
	static const char *const ADDRESSES[] = { "192.0.2.1", "192.0.2.2", "2001:db8::1" };
	struct overlay self = { 0 };
	struct host host = { 0 };
	char names[256] = "";
	(void)state;
	for (size_t i = 0; i < GT_COUNT(ADDRESSES); i++) {
		assert_int_equal(address_parse(ADDRESSES[i], 0, false, &host.vtep), 0);
		snprintf(host.name, sizeof host.name, "h%zu", i);
		assert_null(host_find(&self, &host.vtep));
		assert_int_equal(host_put(&self, &host), 0);
		assert_string_equal(host_find(&self, &host.vtep)->name, host.name);
	}
	/* one that is there already is what it is told to be */
	snprintf(host.name, sizeof host.name, "new");
	assert_int_equal(host_put(&self, &host), 0);
	assert_int_equal(self.host_count, 3);
	each_host(&self, note_name, names);
	assert_string_equal(names, "h0 h1 new ");
	host_drop(&self, &host.vtep);
	host_drop(&self, &host.vtep);
	assert_null(host_find(&self, &host.vtep));
	assert_int_equal(self.host_count, 2);
	for (unsigned i = 0; self.host_count < MAX_HOSTS; i++) {
		assert_int_equal(address_parse("10.0.0.0", 0, false, &host.vtep), 0);
		host.vtep.bytes[2] = (unsigned char)(i >> 8);
		host.vtep.bytes[3] = (unsigned char)i;
		assert_int_equal(host_put(&self, &host), 0);
	}
	host.vtep.bytes[1] = 1;
	assert_int_equal(host_put(&self, &host), -1);
	hosts_free(&self);
}

static void a_key_says_the_address(void **state)
{
	static const unsigned char KEY[WIREGUARD_KEY_LEN] = "\x01\x23\x45\x67\x89\xab\xcd\xef and what follows of it";
	struct address address;
	(void)state;
	host_inside(KEY, &address);
	assert_string_equal(address.text, "fe80::123:4567:89ab:cdef");
	assert_int_equal(address.prefix, 64);
}

static void members_go_there_and_back(void **state)
{
	struct member member = { 0 }, again = { 0 };
	(void)state;
	assert_int_equal(member_from_text(MEMBER("02:42:0a:01:00:02", "192.0.2.1", "10.1.0.2/16", "[\"db\",\"db.example\"]"), &member), 0);
	assert_int_equal(member.name_count, 2);
	AUTO_FREE char *text = member_to_text(&member);
	assert_int_equal(member_from_text(text, &again), 0);
	assert_string_equal(again.ipv4.text, "10.1.0.2");
	assert_int_equal(again.ipv4.prefix, 16);
	assert_string_equal(again.names[1], "db.example");
	assert_memory_equal(again.mac, "\x02\x42\x0a\x01\x00\x02", 6);
	member_release(&member);
	member_release(&again);
}

static void members_that_are_none_are_refused(void **state)
{
	static const char *const BAD[] = {
		"", "{}", MEMBER("01:42:0a:01:00:02", "192.0.2.1", "10.1.0.2/16", "[]"), MEMBER("02:42:0a:01:00", "192.0.2.1", "10.1.0.2/16", "[]"),
		MEMBER("02:42:0a:01:00:02", "0.0.0.0", "10.1.0.2/16", "[]"), MEMBER("02:42:0a:01:00:02", "x", "10.1.0.2/16", "[]"),
		MEMBER("02:42:0a:01:00:02", "192.0.2.1", "10.1.0.2", "[]"), MEMBER("02:42:0a:01:00:02", "192.0.2.1", "fd00::1/64", "[]"),
		MEMBER("02:42:0a:01:00:02", "192.0.2.1", "", "[]"), MEMBER("02:42:0a:01:00:02", "192.0.2.1", "10.1.0.2/16", "[5]"),
		MEMBER("02:42:0a:01:00:02", "192.0.2.1", "10.1.0.2/16", "[\"a b\"]"), MEMBER("02:42:0a:01:00:02", "192.0.2.1", "10.1.0.2/16", "[\"\"]"),
	};
	(void)state;
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		struct member member = { 0 };
		if (member_from_text(BAD[i], &member) == 0)
			fail_msg("taken: %s", BAD[i]);
		member_release(&member);
	}
}

static void names_that_do_not_fit_are_left_out(void **state)
{
	struct member member = { 0 }, again = { 0 };
	char long_name[MAX_NAME + 1];
	const char *names[MAX_NAMES + 9];
	(void)state;
	assert_int_equal(member_from_text(MEMBER("02:42:0a:01:00:02", "192.0.2.1", "10.1.0.2/16", "[]"), &member), 0);
	memset(long_name, 'x', MAX_NAME);
	long_name[MAX_NAME] = '\0';
	for (size_t i = 0; i < GT_COUNT(names); i++)
		names[i] = i == 0 ? "first" : i == 1 ? "not one" : long_name;
	assert_int_equal(member_set_names(&member, names, GT_COUNT(names)), 0);
	assert_int_equal(member.name_count, MAX_NAMES);
	AUTO_FREE char *text = member_to_text(&member);
	assert_true(strlen(text) <= MEMBER_TEXT_MAX);
	assert_int_equal(member_from_text(text, &again), 0);
	assert_true(again.name_count > 100);
	assert_string_equal(again.names[0], "first");
	member_release(&member);
	member_release(&again);
}

/* ---- addresses ---- */

static void pick(struct overlay *self, struct network *network, int family, const char *wanted)
{
	struct tried tried = { 0 };
	struct member member = { 0 };
	struct address address;
	int rc = pick_address(self, network, family, &tried, &address);
	if (!wanted) {
		assert_int_equal(rc, -1);
		return;
	}
	assert_int_equal(rc, 0);
	assert_string_equal(address.text, wanted);
	assert_int_equal(member_from_text(MEMBER("02:42:0a:01:00:02", "192.0.2.1", "10.1.0.2/16", "[]"), &member), 0);
	snprintf(member.id, sizeof member.id, "%s", wanted);
	member.ipv4 = member.ipv6 = (struct address){ 0 };
	*(family == AF_INET ? &member.ipv4 : &member.ipv6) = address;
	assert_non_null(member_insert(network, &member));
}

static void addresses_are_picked_in_turn(void **state)
{
	struct overlay self = { 0 };
	struct network four = { 0 }, ranged = { 0 }, six = { 0 };
	(void)state;
	assert_int_equal(subnet_read(&four, "10.1.0.0/29", "10.1.0.1", ""), 0);
	struct address reserved;
	assert_int_equal(address_parse("10.1.0.4", AF_INET, false, &reserved), 0);
	four.reserved = &reserved;
	four.reserved_count = 1;
	pick(&self, &four, AF_INET, "10.1.0.2");
	pick(&self, &four, AF_INET, "10.1.0.3");
	pick(&self, &four, AF_INET, "10.1.0.5");
	/* one that was given back rests until the others are in use */
	member_drop(&four, member_find(&four, "10.1.0.2"));
	pick(&self, &four, AF_INET, "10.1.0.6");
	pick(&self, &four, AF_INET, "10.1.0.2");
	pick(&self, &four, AF_INET, NULL);
	assert_int_equal(subnet_read(&ranged, "10.2.0.0/16", "10.2.0.1", "10.2.8.254/31"), 0);
	pick(&self, &ranged, AF_INET, "10.2.8.254");
	pick(&self, &ranged, AF_INET, "10.2.8.255");
	pick(&self, &ranged, AF_INET, NULL);
	assert_int_equal(subnet_read(&six, "fd00:1::/64", "fd00:1::1", ""), 0);
	pick(&self, &six, AF_INET6, "fd00:1::2");
	struct network *all[] = { &four, &ranged, &six };
	for (size_t i = 0; i < GT_COUNT(all); i++) {
		static const char *const MADE[] = { "10.1.0.2", "10.1.0.3", "10.1.0.5", "10.1.0.6", "10.2.8.254", "10.2.8.255", "fd00:1::2" };
		for (size_t k = 0; k < GT_COUNT(MADE); k++) {
			struct member *member = member_find(all[i], MADE[k]);
			if (member)
				member_drop(all[i], member);
		}
	}
}

static void wished_for_addresses_have_a_place(void **state)
{
	static const struct {
		const char *address;
		int rc;
	} CASES[] = { { "10.1.0.5", 0 }, { "10.1.0.0", -1 }, { "10.1.0.255", -1 }, { "10.1.0.1", -1 }, { "10.1.1.5", -1 }, { "fd00::5", -1 } };
	struct network network = { 0 };
	(void)state;
	assert_int_equal(subnet_read(&network, "10.1.0.0/24", "10.1.0.1", ""), 0);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct address address;
		assert_int_equal(address_parse(CASES[i].address, 0, false, &address), 0);
		assert_int_equal(place_address(&network, &address), CASES[i].rc);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_goes_there_and_back),
		cmocka_unit_test(a_prefix_ends_before_the_next_one),
		cmocka_unit_test(lines_of_a_watch_are_understood),
		cmocka_unit_test(hostile_answers_are_bounded),
		cmocka_unit_test(networks_go_there_and_back),
		cmocka_unit_test(networks_that_are_none_are_refused),
		cmocka_unit_test(an_encrypted_network_is_none_for_who_knows_no_encryption),
		cmocka_unit_test(hosts_go_there_and_back_with_their_keys),
		cmocka_unit_test(hosts_are_found_by_their_address),
		cmocka_unit_test(a_key_says_the_address),
		cmocka_unit_test(members_go_there_and_back),
		cmocka_unit_test(members_that_are_none_are_refused),
		cmocka_unit_test(names_that_do_not_fit_are_left_out),
		cmocka_unit_test(addresses_are_picked_in_turn),
		cmocka_unit_test(wished_for_addresses_have_a_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
