/* What other hosts write into etcd: lines of a watch, networks, containers. What is taken is written back as what is taken again. */
#include "fuzz.h"

#include "net-overlay/overlay.h"

static void try_network(const char *text)
{
	struct network network = { 0 }, again = { 0 };
	if (network_from_text(text, &network) == 0) {
		AUTO_FREE char *back = network_to_text(&network);
		MUST(back && network_from_text(back, &again) == 0);
		MUST(again.subnet_count == network.subnet_count && again.vni == network.vni && again.encrypted == network.encrypted);
	}
	network_release(&network);
	network_release(&again);
}

static void try_member(const char *text)
{
	struct member member = { 0 }, again = { 0 };
	if (member_from_text(text, &member) == 0) {
		AUTO_FREE char *back = member_to_text(&member);
		MUST(back && member_from_text(back, &again) == 0);
		MUST(memcmp(again.mac, member.mac, 6) == 0 && address_equal(&again.vtep, &member.vtep));
	}
	member_release(&member);
	member_release(&again);
}

static void try_host(const char *text)
{
	struct overlay self = { .instance = "i", .hostname = "h" };
	struct host host = { 0 }, again = { 0 };
	char instance[33];
	if (host_from_text(text, instance, &host) == 0) {
		AUTO_FREE char *back = host_to_text(&self, host.key);
		MUST(back && host_from_text(back, instance, &again) == 0);
		MUST(memcmp(again.key, host.key, sizeof host.key) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *text = text_of(data, size);
	struct etcd_news news;
	struct gantry_error err = { .size = sizeof err };
	if (etcd_read_news(text, strlen(text), &news, &err) == 0) {
		for (size_t i = 0; i < news.pairs.count; i++) {
			MUST(news.pairs.items[i].key && strlen(news.pairs.items[i].key) <= ETCD_KEY_MAX);
			if (news.pairs.items[i].value)
				try_member(news.pairs.items[i].value);
		}
		etcd_pairs_free(&news.pairs);
	}
	try_network(text);
	try_member(text);
	try_host(text);
	AUTO_FREE char *decoded = etcd_decode(text, ETCD_VALUE_MAX);
	if (decoded) {
		AUTO_FREE char *coded = etcd_encode(decoded, strlen(decoded));
		AUTO_FREE char *back = etcd_decode(coded, ETCD_VALUE_MAX);
		MUST(back && strcmp(back, decoded) == 0);
	}
	return 0;
}
