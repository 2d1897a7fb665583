/*
 * record.c - what stands in etcd. Other hosts wrote it: everything is checked, and what is not as it should be is none of ours.
 */
#include "overlay.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HOST_TEXT_MAX 4096
/* A host that knows nothing of encryption passes such a network over, and so sends nothing of it in the clear. */
#define ENCRYPTED_VERSION 2

/* ---- subnets ---- */

bool address_within(const struct address *address, const struct address *network)
{
	if (address->family != network->family)
		return false;
	unsigned whole = network->prefix / 8, rest = network->prefix % 8;
	if (memcmp(address->bytes, network->bytes, whole) != 0)
		return false;
	return rest == 0 || ((address->bytes[whole] ^ network->bytes[whole]) >> (8 - rest)) == 0;
}

static void clear_host_bits(struct address *network)
{
	for (unsigned bit = network->prefix; bit < address_len(network) * 8; bit++)
		network->bytes[bit / 8] &= (unsigned char)~(0x80 >> bit % 8);
	inet_ntop(network->family, network->bytes, network->text, sizeof network->text);
}

int subnet_read(struct network *network, const char *subnet, const char *gateway, const char *range)
{
	struct subnet to = { 0 };
	if (network->subnet_count == MAX_SUBNETS || address_parse(subnet, 0, true, &to.network) < 0 || to.network.prefix < 1 ||
	    to.network.prefix > address_len(&to.network) * 8 - 1)
		return -1;
	clear_host_bits(&to.network);
	if (gateway[0] && (address_parse(gateway, to.network.family, false, &to.gateway) < 0 || !address_within(&to.gateway, &to.network)))
		return -1;
	to.gateway.prefix = to.network.prefix;
	if (range[0] && (address_parse(range, to.network.family, true, &to.range) < 0 || to.range.prefix < to.network.prefix ||
			 !address_within(&to.range, &to.network)))
		return -1;
	if (range[0])
		clear_host_bits(&to.range);
	network->ipv4 |= to.network.family == AF_INET;
	network->ipv6 |= to.network.family == AF_INET6;
	network->subnets[network->subnet_count++] = to;
	return 0;
}

/* ---- reading ---- */

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

static bool is_plain(const char *text, size_t most)
{
	size_t len = strlen(text);
	if (len == 0 || len > most)
		return false;
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~' || *text == '"' || *text == '\\')
			return false;
	}
	return true;
}

static json_t *read_object(const char *text, size_t most, int newest)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	size_t len = strlen(text);
	json_t *object = len <= most ? etcd_parse(text, len, &ignored) : NULL;
	json_int_t version = json_integer_value(json_object_get(object, "version"));
	if (version >= 1 && version <= newest)
		return object;
	json_decref(object);
	return NULL;
}

static int read_subnets(const json_t *list, struct network *network)
{
	json_t *subnet;
	size_t i;
	json_array_foreach(list, i, subnet) {
		if (subnet_read(network, text_of(subnet, "subnet"), text_of(subnet, "gateway"), text_of(subnet, "range")) < 0)
			return -1;
	}
	return network->subnet_count ? 0 : -1;
}

static int read_reserved(const json_t *list, struct network *network)
{
	json_t *address;
	size_t i, count = json_array_size(list);
	if (count > MAX_RESERVED)
		return -1;
	network->reserved = calloc(count + 1, sizeof *network->reserved);
	if (!network->reserved)
		return -1;
	json_array_foreach(list, i, address) {
		if (!json_is_string(address) || address_parse(json_string_value(address), 0, false, &network->reserved[network->reserved_count++]) < 0)
			return -1;
	}
	return 0;
}

static int read_network(const json_t *object, struct network *network)
{
	const char *name = text_of(object, "name"), *document = text_of(object, "document");
	json_int_t vni = json_integer_value(json_object_get(object, "vni")), mtu = json_integer_value(json_object_get(object, "mtu"));
	if (!is_plain(name, sizeof network->name - 1) || vni < 1 || vni > VNI_LAST || (mtu && (mtu < 68 || mtu > 65535)) ||
	    strlen(document) > GANTRY_DOCUMENT_MAX || !document[0])
		return -1;
	snprintf(network->name, sizeof network->name, "%s", name);
	network->vni = (uint32_t)vni;
	network->mtu = (uint32_t)mtu;
	network->internal = json_is_true(json_object_get(object, "internal"));
	network->encrypted = json_is_true(json_object_get(object, "encrypted"));
	if (network->encrypted != (json_integer_value(json_object_get(object, "version")) == ENCRYPTED_VERSION))
		return -1;
	network->document = strdup(document);
	if (!network->document || read_subnets(json_object_get(object, "subnets"), network) < 0)
		return -1;
	return read_reserved(json_object_get(object, "reserved"), network);
}

int network_from_text(const char *text, struct network *network)
{
	json_t *object = read_object(text, ETCD_VALUE_MAX, ENCRYPTED_VERSION);
	int rc = object ? read_network(object, network) : -1;
	json_decref(object);
	return rc;
}

static int read_address(const json_t *object, const char *name, int family, struct address *to)
{
	const char *text = text_of(object, name);
	return text[0] ? address_parse(text, family, true, to) : 0;
}

static int read_names(const json_t *list, struct member *member)
{
	json_t *name;
	size_t i;
	if (json_array_size(list) > MAX_NAMES)
		return -1;
	member->names = calloc(json_array_size(list) + 1, sizeof *member->names);
	if (!member->names)
		return -1;
	json_array_foreach(list, i, name) {
		const char *text = json_string_value(name);
		if (!text || !is_plain(text, MAX_NAME) || !(member->names[member->name_count] = strdup(text)))
			return -1;
		member->name_count++;
	}
	return 0;
}

static int read_member(const json_t *object, struct member *member)
{
	const char *container = text_of(object, "container"), *host = text_of(object, "host");
	if (!id_valid(container) || !is_plain(host, sizeof member->host - 1) || mac_parse(text_of(object, "mac"), member->mac) < 0 ||
	    address_parse(text_of(object, "vtep"), 0, false, &member->vtep) < 0 || address_any(&member->vtep) ||
	    read_address(object, "ipv4", AF_INET, &member->ipv4) < 0 || read_address(object, "ipv6", AF_INET6, &member->ipv6) < 0 ||
	    (!member->ipv4.family && !member->ipv6.family))
		return -1;
	snprintf(member->container_id, sizeof member->container_id, "%s", container);
	snprintf(member->host, sizeof member->host, "%s", host);
	return read_names(json_object_get(object, "names"), member);
}

int member_from_text(const char *text, struct member *member)
{
	json_t *object = read_object(text, MEMBER_TEXT_MAX, 1);
	int rc = object ? read_member(object, member) : -1;
	json_decref(object);
	return rc;
}

static int read_key(const char *text, unsigned char key[WIREGUARD_KEY_LEN])
{
	if (!id_valid(text))
		return -1;
	for (size_t i = 0; i < WIREGUARD_KEY_LEN; i++) {
		char digits[3] = { text[2 * i], text[2 * i + 1], '\0' };
		key[i] = (unsigned char)strtoul(digits, NULL, 16);
	}
	return wireguard_key_is_set(key) ? 0 : -1;
}

int host_from_text(const char *text, char instance[33], struct host *host)
{
	json_t *object = read_object(text, HOST_TEXT_MAX, 1);
	const char *has = text_of(object, "instance"), *called = text_of(object, "host"), *key = text_of(object, "wireguard");
	int rc = is_plain(has, 32) && is_plain(called, sizeof host->name - 1) ? 0 : -1;
	if (rc == 0) {
		snprintf(instance, 33, "%s", has);
		snprintf(host->name, sizeof host->name, "%s", called);
	}
	if (rc == 0 && key[0])
		rc = read_key(key, host->key);
	json_decref(object);
	return rc;
}

/* ---- writing ---- */

static char *dump(json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return text;
}

/* As address_parse() reads it with a prefix. */
static json_t *cidr(const struct address *address)
{
	return address->family ? json_sprintf("%s/%u", address->text, address->prefix) : json_string("");
}

char *network_to_text(const struct network *network)
{
	json_t *subnets = json_array(), *reserved = json_array();
	for (unsigned i = 0; i < network->subnet_count; i++) {
		const struct subnet *subnet = &network->subnets[i];
		json_array_append_new(subnets, json_pack("{s:o s:s s:o}", "subnet", cidr(&subnet->network), "gateway",
							 subnet->gateway.family ? subnet->gateway.text : "", "range", cidr(&subnet->range)));
	}
	for (size_t i = 0; i < network->reserved_count; i++)
		json_array_append_new(reserved, json_string(network->reserved[i].text));
	return dump(json_pack("{s:i s:s s:i s:i s:b s:b s:o s:o s:s}", "version", network->encrypted ? ENCRYPTED_VERSION : 1, "name", network->name, "vni",
			      (int)network->vni, "mtu", (int)network->mtu, "internal", network->internal, "encrypted", network->encrypted, "subnets", subnets,
			      "reserved", reserved, "document", network->document));
}

static char *member_text(const struct member *member, size_t name_count)
{
	char mac[18];
	json_t *names = json_array();
	for (size_t i = 0; i < name_count; i++)
		json_array_append_new(names, json_string(member->names[i]));
	mac_format(member->mac, mac);
	return dump(json_pack("{s:i s:s s:s s:s s:s s:o s:o s:o}", "version", 1, "container", member->container_id, "host", member->host, "vtep",
			      member->vtep.text, "mac", mac, "ipv4", cidr(&member->ipv4), "ipv6", cidr(&member->ipv6), "names", names));
}

char *member_to_text(const struct member *member)
{
	for (size_t count = member->name_count;; count /= 2) {
		char *text = member_text(member, count);
		if (!text || strlen(text) <= MEMBER_TEXT_MAX || count == 0)
			return text;
		free(text);
	}
}

char *host_to_text(const struct overlay *self, const unsigned char key[WIREGUARD_KEY_LEN])
{
	char digits[2 * WIREGUARD_KEY_LEN + 1] = "";
	for (size_t i = 0; i < WIREGUARD_KEY_LEN && wireguard_key_is_set(key); i++)
		snprintf(digits + 2 * i, 3, "%02x", key[i]);
	return dump(json_pack("{s:i s:s s:s s:s}", "version", 1, "instance", self->instance, "host", self->hostname, "wireguard", digits));
}

/* ---- memory ---- */

void member_release(struct member *member)
{
	for (size_t i = 0; i < member->name_count; i++)
		free(member->names[i]);
	free(member->names);
	member->names = NULL;
	member->name_count = 0;
}

/* Not its members. */
void network_release(struct network *network)
{
	free(network->reserved);
	free(network->document);
	network->reserved = NULL;
	network->document = NULL;
	network->reserved_count = 0;
}

int member_set_names(struct member *member, const char *const *names, size_t count)
{
	char **copy = calloc(count + 1, sizeof *copy);
	size_t kept = 0;
	for (size_t i = 0; copy && i < count && kept < MAX_NAMES; i++) {
		if (is_plain(names[i], MAX_NAME) && (copy[kept] = strdup(names[i])) != NULL)
			kept++;
	}
	if (!copy)
		return -1;
	member_release(member);
	member->names = copy;
	member->name_count = kept;
	return 0;
}
