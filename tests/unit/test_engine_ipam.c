/*
 * test_engine_ipam.c - subnets and addresses, published ports as users write them. Sources: Docker Engine API v1.50 (IPAM, PortMap), docs of docker network.
 */
#include "testing.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "engine/network.h"

static void subnets_are_opened_with_their_gateway(void **state)
{
	(void)state;
	static const struct {
		const char *subnet, *range, *gateway;
		const char *wanted; /* "GATEWAY FIRST", or "!" and a part of the complaint */
	} CASES[] = {
		{ "10.1.0.0/16", NULL, NULL, "10.1.0.1 10.1.0.2/16" },
		{ "10.1.0.0/16", "", "", "10.1.0.1 10.1.0.2/16" },
		{ "10.1.0.0/16", NULL, "10.1.255.254", "10.1.255.254 10.1.0.1/16" },
		{ "10.1.0.0/16", "10.1.5.0/24", NULL, "10.1.5.0 10.1.5.1/16" },
		{ "10.1.0.0/16", "10.1.5.0/24", "10.1.0.1", "10.1.0.1 10.1.5.0/16" },
		{ "10.1.0.0/24", "10.1.0.0/24", NULL, "10.1.0.1 10.1.0.2/24" },
		{ "10.1.0.0/30", NULL, NULL, "10.1.0.1 10.1.0.2/30" },
		{ "fd00:1::/64", NULL, NULL, "fd00:1::1 fd00:1::2/64" },
		{ "fd00:1::/48", NULL, "fd00:1::ffff", "fd00:1::ffff fd00:1::1/48" },
		{ "fd00:1::/112", "fd00:1::8000/113", NULL, "fd00:1::8000 fd00:1::8001/112" },
		{ "", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0", NULL, NULL, "!write it as" },
		{ "10.1.0.0/", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0/x", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0/ 16", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0/+16", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0/-1", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0/33", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0/99999999999999999999", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.1/16", NULL, NULL, "!host part" },
		{ "10.1.0.0/31", NULL, NULL, "!too small" },
		{ "0.0.0.0/0", NULL, NULL, "!too large" },
		{ "10.1/16", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.256/24", NULL, NULL, "!invalid subnet" },
		{ "fd00::1/64", NULL, NULL, "!host part" },
		{ "fd00:::/64", NULL, NULL, "!invalid subnet" },
		{ "10.1.0.0/16", "10.2.0.0/24", NULL, "!not a part of the subnet" },
		{ "10.1.0.0/16", "10.0.0.0/8", NULL, "!not a part of the subnet" },
		{ "10.1.0.0/16", "fd00::/64", NULL, "!not a part of the subnet" },
		{ "10.1.0.0/16", "rubbish", NULL, "!not a part of the subnet" },
		{ "10.1.0.0/24", "10.1.0.255/32", NULL, "!no address" },
		{ "10.1.0.0/24", "10.1.0.0/32", NULL, "!no address" },
		{ "10.1.0.0/16", NULL, "10.2.0.1", "!does not belong" },
		{ "10.1.0.0/16", NULL, "10.1.0.0", "!does not belong" },
		{ "10.1.0.0/16", NULL, "10.1.255.255", "!does not belong" },
		{ "10.1.0.0/16", NULL, "fd00::1", "!does not belong" },
		{ "fd00:1::/48", NULL, "fd00:1:0:5::1", "!does not belong" }, /* beyond what is counted */
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct ipam_pool pool = { 0 };
		struct gt_error err = { 0 };
		char first[64] = "-", got[256];
		int rc = ipam_open(&pool, CASES[i].subnet, CASES[i].range, CASES[i].gateway, &err);
		if (rc == 0)
			ipam_take(&pool, first);
		snprintf(got, sizeof got, rc == 0 ? "%s %s" : "!%s%.150s", rc == 0 ? pool.gateway : "", rc == 0 ? first : err.message);
		if (CASES[i].wanted[0] == '!' ? rc == 0 || !strstr(got, CASES[i].wanted + 1) : strcmp(got, CASES[i].wanted) != 0)
			fail_msg("%s, range %s, gateway %s: %s", CASES[i].subnet, CASES[i].range, CASES[i].gateway, got);
		ipam_close(&pool);
	}
}

static void addresses_go_round_and_run_out(void **state)
{
	(void)state;
	struct ipam_pool pool;
	char out[64], last[64];
	assert_int_equal(ipam_open(&pool, "10.1.0.0/29", NULL, NULL, NULL), 0); /* .1 is the gateway; .2 to .6 are free */
	for (int i = 2; i <= 6; i++) {
		assert_int_equal(ipam_take(&pool, out), 0);
		snprintf(last, sizeof last, "10.1.0.%d/29", i);
		assert_string_equal(out, last);
	}
	assert_int_equal(ipam_take(&pool, out), -1);
	ipam_give_back(&pool, "10.1.0.3/29");
	ipam_give_back(&pool, "10.1.0.5");
	ipam_give_back(&pool, "10.1.0.5");
	ipam_give_back(&pool, "10.2.0.5");
	ipam_give_back(&pool, "rubbish");
	assert_int_equal(ipam_take(&pool, out), 0);
	assert_string_equal(out, "10.1.0.3/29");
	assert_int_equal(ipam_take(&pool, out), 0);
	assert_string_equal(out, "10.1.0.5/29");
	assert_int_equal(ipam_take(&pool, out), -1);
	/* what was given back last is not given out next while others are free */
	ipam_give_back(&pool, "10.1.0.2");
	ipam_give_back(&pool, "10.1.0.6");
	assert_int_equal(ipam_take(&pool, out), 0);
	assert_string_equal(out, "10.1.0.6/29");
	ipam_close(&pool);
}

static void certain_addresses_are_reserved(void **state)
{
	(void)state;
	static const struct {
		const char *address;
		enum gt_kind kind;
	} CASES[] = {
		{ "10.1.0.9", GT_OK },        { "10.1.0.9", GT_DENIED },     { "10.1.0.1", GT_DENIED },  { "10.1.0.0", GT_INVALID },  { "10.1.0.255", GT_INVALID },
		{ "10.1.1.1", GT_INVALID },   { "10.1.0", GT_INVALID },      { "", GT_INVALID },         { "fd00::1", GT_INVALID },   { "10.1.0.254", GT_OK },
		{ "10.1.0.9999", GT_INVALID },
	};
	struct ipam_pool pool;
	assert_int_equal(ipam_open(&pool, "10.1.0.0/24", "10.1.0.128/25", "10.1.0.1", NULL), 0);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_error err = { 0 };
		int rc = ipam_reserve(&pool, CASES[i].address, &err);
		if ((rc == 0) != (CASES[i].kind == GT_OK) || err.kind != CASES[i].kind)
			fail_msg("%s: %d, %s", CASES[i].address, rc, err.message);
	}
	char out[64];
	assert_true(ipam_contains(&pool, "10.1.0.77") && ipam_contains(&pool, "10.1.0.77/24") && !ipam_contains(&pool, "10.1.7.7"));
	ipam_with_prefix(&pool, "10.1.0.77", out);
	assert_string_equal(out, "10.1.0.77/24");
	ipam_with_prefix(&pool, "10.9.0.77", out);
	assert_string_equal(out, "");
	for (int i = 128; i < 254; i++)
		assert_int_equal(ipam_take(&pool, out), 0);
	assert_int_equal(ipam_take(&pool, out), -1); /* the range alone is handed out; .254 was reserved */
	ipam_close(&pool);

	assert_int_equal(ipam_open(&pool, "fd00:1::/48", NULL, NULL, NULL), 0);
	assert_int_equal(ipam_reserve(&pool, "fd00:1::1:2:3", NULL), 0);
	assert_int_equal(ipam_reserve(&pool, "fd00:1::0001:0002:0003", NULL), -1);
	assert_int_equal(ipam_reserve(&pool, "fd00:1:0:7::9", NULL), -1);
	assert_int_equal(ipam_reserve(&pool, "fd00:1::9", NULL), 0);
	ipam_close(&pool);
}

static void overlaps_are_seen(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		bool overlap;
	} CASES[] = {
		{ "10.0.0.0/8", "10.1.2.0/24", true },     { "10.1.2.0/24", "10.0.0.0/8", true },   { "10.1.2.0/24", "10.1.3.0/24", false },
		{ "10.1.2.0/24", "10.1.2.7", true },       { "10.1.2.0/24", "10.1.3.7", false },    { "0.0.0.0/0", "1.2.3.4", true },
		{ "fd00::/64", "fd00:0:0:0:1::/80", true }, { "fd00::/64", "fd00:0:0:1::/64", false }, { "10.0.0.0/8", "fd00::/64", false },
		{ "rubbish", "10.0.0.0/8", false },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		if (ipam_overlap(CASES[i].a, CASES[i].b) != CASES[i].overlap)
			fail_msg("%s and %s", CASES[i].a, CASES[i].b);
	}
	assert_true(ipam_on_host("127.0.0.0/8"));
	assert_false(ipam_on_host("240.0.0.0/8")); /* reserved: RFC 1112 */
}

static void pools_are_cut_into_subnets(void **state)
{
	(void)state;
	static const struct {
		const char *spec;
		unsigned n;
		const char *subnet; /* NULL: past the end, or no spec */
	} CASES[] = {
		{ "172.17.0.0/12 size 16", 0, "172.17.0.0/16" },  { "172.17.0.0/12 size 16", 14, "172.31.0.0/16" }, { "172.17.0.0/12 size 16", 15, NULL },
		{ "192.168.0.0/16 size 20", 0, "192.168.0.0/20" }, { "192.168.0.0/16 size 20", 15, "192.168.240.0/20" }, { "192.168.0.0/16 size 20", 16, NULL },
		{ "10.0.0.0/8 size 24", 65535, "10.255.255.0/24" }, { "10.0.0.0/8 size 24", 65536, NULL },           { "10.0.0.0/24 size 24", 0, "10.0.0.0/24" },
		{ "10.0.0.0/24 size 24", 1, NULL },               { "10.0.0.0/8 size 24", 4294967295u, NULL },      { "fd00::/8 size 64", 1, "fd00:0:0:1::/64" },
		{ "10.0.0.0/24 size 16", 0, NULL },               { "10.0.0.0/24 size 31", 0, NULL },               { "10.0.0.0/24", 0, NULL },
		{ "rubbish size 16", 0, NULL },                   { "", 0, NULL },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		char subnet[64] = "";
		bool there = ipam_candidate(CASES[i].spec, CASES[i].n, subnet);
		if (there != (CASES[i].subnet != NULL) || (there && strcmp(subnet, CASES[i].subnet)))
			fail_msg("%s, %u: %s", CASES[i].spec, CASES[i].n, subnet);
	}
}

static void ipam_of_requests_is_read(void **state)
{
	(void)state;
	static const struct {
		const char *ipam, *complaint; /* NULL: fine */
		size_t pools;
	} CASES[] = {
		{ "{}", NULL, 0 },
		{ "{\"Config\":null}", NULL, 0 },
		{ "{\"Config\":[]}", NULL, 0 },
		{ "{\"Config\":[{}]}", NULL, 0 },
		{ "{\"Config\":[{\"Subnet\":\"10.1.0.0/16\"},{\"Subnet\":\"fd00:1::/64\"}]}", NULL, 2 },
		{ "{\"Config\":[{\"Subnet\":\"10.1.0.0/16\",\"AuxiliaryAddresses\":{\"router\":\"10.1.0.9\"}}]}", NULL, 1 },
		{ "{\"Config\":{}}", "Config", 0 },
		{ "{\"Config\":[7]}", "not an object", 0 },
		{ "{\"Config\":[{\"Subnet\":7}]}", "Subnet", 0 },
		{ "{\"Config\":[{\"Gateway\":\"10.1.0.1\"}]}", "need a subnet", 0 },
		{ "{\"Config\":[{\"IPRange\":\"10.1.0.0/16\"}]}", "need a subnet", 0 },
		{ "{\"Config\":[{\"Subnet\":\"10.1.0.0/16\",\"AuxiliaryAddresses\":{\"router\":7}}]}", "not a string", 1 },
		{ "{\"Config\":[{\"Subnet\":\"10.1.0.0/16\",\"AuxiliaryAddresses\":{\"router\":\"10.2.0.9\"}}]}", "auxiliary address router", 1 },
		{ "{\"Config\":[{\"Subnet\":\"10.1.0.0/16\",\"AuxiliaryAddresses\":{\"router\":\"10.1.0.1\"}}]}", "already in use", 1 },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *ipam = gt_json_parse(CASES[i].ipam, strlen(CASES[i].ipam), "ipam", NULL);
		struct gt_error err = { 0 };
		struct network *network = network_new();
		int rc = network_read_pools(network, ipam, &err);
		if ((rc == 0) != !CASES[i].complaint || (rc < 0 && !strstr(err.message, CASES[i].complaint)) || (rc == 0 && network->pool_count != CASES[i].pools))
			fail_msg("%s: %d, %zu pools, %s", CASES[i].ipam, rc, network->pool_count, err.message);
		network_free(network);
	}
	AUTO_JSON json_t *many = json_pack("{s:[]}", "Config");
	for (int i = 0; i <= NETWORK_MAX_POOLS; i++)
		json_array_append_new(json_object_get(many, "Config"), json_pack("{s:o}", "Subnet", json_sprintf("10.%d.0.0/16", i)));
	struct network *network = network_new();
	assert_int_equal(network_read_pools(network, many, NULL), -1);
	network_free(network);
}

/* ---- ports ---- */

static void ports_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int port; /* -1: refused */
		uint32_t proto;
	} CASES[] = {
		{ "80", 80, IPPROTO_TCP },     { "80/tcp", 80, IPPROTO_TCP }, { "53/udp", 53, IPPROTO_UDP }, { "7/sctp", 7, IPPROTO_SCTP },
		{ "65535", 65535, IPPROTO_TCP }, { "0", -1, 0 },              { "65536", -1, 0 },            { "", -1, 0 },
		{ "/tcp", -1, 0 },             { "80/", -1, 0 },              { "80/icmp", -1, 0 },          { "80/tcp/udp", -1, 0 },
		{ "-1", -1, 0 },               { "+80", -1, 0 },              { " 80", -1, 0 },              { "80-90", -1, 0 },
		{ "99999999999999999999", -1, 0 }, { "8x", -1, 0 },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		uint16_t port = 0;
		uint32_t proto = 0;
		int rc = port_parse(CASES[i].text, &port, &proto);
		if ((rc == 0) != (CASES[i].port >= 0) || (rc == 0 && (port != CASES[i].port || proto != CASES[i].proto)))
			fail_msg("%s: %d, %u/%u", CASES[i].text, rc, port, proto);
	}
}

static void port_bindings_are_checked(void **state)
{
	(void)state;
	static const struct {
		const char *bindings, *exposed, *complaint; /* NULL: fine */
	} CASES[] = {
		{ "null", "null", NULL },
		{ "{}", "{\"80/tcp\":{}}", NULL },
		{ "{\"80/tcp\":null}", "{}", NULL },
		{ "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"\"},{\"HostPort\":\"8080\"},{\"HostIp\":\"::1\",\"HostPort\":\"8000-8010\"}]}", "{}", NULL },
		{ "[]", "{}", "PortBindings" },
		{ "{\"x\":[]}", "{}", "invalid port specification: \"x\"" },
		{ "{\"80/tcp\":{}}", "{}", "not a list" },
		{ "{\"80/tcp\":[7]}", "{}", "not an object" },
		{ "{\"80/tcp\":[{\"HostPort\":8080}]}", "{}", "HostPort" },
		{ "{\"80/tcp\":[{\"HostPort\":\"x\"}]}", "{}", "invalid host port x" },
		{ "{\"80/tcp\":[{\"HostPort\":\"70000\"}]}", "{}", "invalid host port" },
		{ "{\"80/tcp\":[{\"HostPort\":\"90-80\"}]}", "{}", "invalid host port" },
		{ "{\"80/tcp\":[{\"HostPort\":\"0-80\"}]}", "{}", "invalid host port" },
		{ "{\"80/tcp\":[{\"HostPort\":\"80-\"}]}", "{}", "invalid host port" },
		{ "{\"80/tcp\":[{\"HostIp\":\"localhost\"}]}", "{}", "invalid host IP localhost" },
		{ "{\"80/tcp\":[{\"HostIp\":\"1.2.3.4.5\"}]}", "{}", "invalid host IP" },
		{ "{}", "{\"80/x\":{}}", "invalid exposed port 80/x" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_error err = { 0 };
		struct gt_container ctr = { 0 };
		AUTO_JSON json_t *bindings = gt_json_parse(CASES[i].bindings, strlen(CASES[i].bindings), "bindings", NULL);
		AUTO_JSON json_t *exposed = gt_json_parse(CASES[i].exposed, strlen(CASES[i].exposed), "exposed", NULL);
		ctr.config.host.port_bindings = bindings;
		ctr.config.exposed_ports = exposed;
		int rc = ports_check(&ctr, &err);
		if ((rc == 0) != !CASES[i].complaint || (rc < 0 && !strstr(err.message, CASES[i].complaint)))
			fail_msg("%s, %s: %d %s", CASES[i].bindings, CASES[i].exposed, rc, err.message);
	}
}

static void stored_ports_are_read_again(void **state)
{
	(void)state;
	static const char TEXT[] = "{\"80/tcp\":[{\"HostIp\":\"0.0.0.0\",\"HostPort\":\"8080\"},{\"HostIp\":\"::\",\"HostPort\":\"8080\"},{\"HostIp\":\"x\",\"HostPort\":\"1\"}],"
				   "\"53/udp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"53\"},{\"HostIp\":\"127.0.0.1\",\"HostPort\":7},7],\"y\":[{}],\"81/tcp\":null}";
	AUTO_JSON json_t *json = gt_json_parse(TEXT, strlen(TEXT), "ports", NULL);
	struct gantry_port *list = NULL;
	size_t count = 0;
	ports_of_json(json, &list, &count);
	assert_int_equal(count, 3);
	assert_string_equal(list[1].host_ip, "::");
	assert_int_equal(list[1].host_port, 8080);
	assert_int_equal(list[2].proto, IPPROTO_UDP);
	free(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(subnets_are_opened_with_their_gateway),
		cmocka_unit_test(addresses_go_round_and_run_out),
		cmocka_unit_test(certain_addresses_are_reserved),
		cmocka_unit_test(overlaps_are_seen),
		cmocka_unit_test(pools_are_cut_into_subnets),
		cmocka_unit_test(ipam_of_requests_is_read),
		cmocka_unit_test(ports_are_read),
		cmocka_unit_test(port_bindings_are_checked),
		cmocka_unit_test(stored_ports_are_read_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
