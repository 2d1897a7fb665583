/*
 * claims.c - an endpoint in etcd: its record, and one key for each address and MAC that it has, written in one transaction that demands that none of them is
 * there. So no two hosts hand out the same, whatever their tables say.
 *
 * Claims of an endpoint that has them already (an earlier try whose answer was lost, a host that comes back) are its own: their value is its id.
 */
#include "overlay.h"

#include <stdlib.h>
#include <string.h>

/* ---- keys ---- */

void key_live(const struct overlay *self, const char *rest, char key[KEY_ROOM])
{
	snprintf(key, KEY_ROOM, "%s/live/%s", self->settings.prefix, rest);
}

void key_network(const struct overlay *self, const char *network_id, char key[KEY_ROOM])
{
	snprintf(key, KEY_ROOM, "%s/live/networks/%s", self->settings.prefix, network_id);
}

void key_endpoint(const struct overlay *self, const char *network_id, const char *endpoint_id, char key[KEY_ROOM])
{
	snprintf(key, KEY_ROOM, "%s/live/endpoints/%s/%s", self->settings.prefix, network_id, endpoint_id);
}

void key_claims(const struct overlay *self, const char *network_id, char key[KEY_ROOM])
{
	snprintf(key, KEY_ROOM, "%s/claims/%s/", self->settings.prefix, network_id);
}

void key_host(const struct overlay *self, char key[KEY_ROOM])
{
	snprintf(key, KEY_ROOM, "%s/live/hosts/%s", self->settings.prefix, self->vtep.text);
}

/* ---- what is claimed ---- */

static void add_key(const struct overlay *self, struct claim *claim, const char *network_id, const char *kind, const char *value)
{
	snprintf(claim->keys[claim->key_count++], KEY_ROOM, "%s/claims/%s/%s/%s", self->settings.prefix, network_id, kind, value);
}

int claim_make(const struct overlay *self, const char *network_id, const struct member *member, struct claim *claim)
{
	char mac[18];
	*claim = (struct claim){ .text = member_to_text(member) };
	if (!claim->text)
		return -1;
	snprintf(claim->id, sizeof claim->id, "%s", member->id);
	key_network(self, network_id, claim->network);
	key_endpoint(self, network_id, member->id, claim->endpoint);
	mac_format(member->mac, mac);
	if (member->ipv4.family)
		add_key(self, claim, network_id, "ip", member->ipv4.text);
	if (member->ipv6.family)
		add_key(self, claim, network_id, "ip", member->ipv6.text);
	/* Last: it mostly goes with the address, which is then what is told to be taken. */
	add_key(self, claim, network_id, "mac", mac);
	return 0;
}

void claim_free(struct claim *claim)
{
	free(claim->text);
	claim->text = NULL;
}

/* ---- putting ---- */

/* own[i]: the claim is there, and its own. */
static int put_all(struct overlay *self, const struct claim *claim, const bool own[3], int64_t lease, int64_t deadline, bool *done, int64_t *revision,
	       struct etcd_pairs *found, struct gantry_error *err)
{
	struct etcd_txn txn;
	etcd_txn_begin(&txn);
	etcd_if_present(&txn, claim->network);
	etcd_put(&txn, false, claim->endpoint, claim->text, lease);
	etcd_get(&txn, true, claim->network);
	for (unsigned i = 0; i < claim->key_count; i++) {
		if (own[i])
			etcd_if_value(&txn, claim->keys[i], claim->id);
		else
			etcd_if_absent(&txn, claim->keys[i]);
		etcd_put(&txn, false, claim->keys[i], claim->id, lease);
		etcd_get(&txn, true, claim->keys[i]);
	}
	return etcd_commit(self->etcd, &txn, deadline, done, revision, found, err);
}

static const struct etcd_pair *pair_of(const struct etcd_pairs *pairs, const char *key)
{
	for (size_t i = 0; i < pairs->count; i++) {
		if (strcmp(pairs->items[i].key, key) == 0)
			return &pairs->items[i];
	}
	return NULL;
}

/* Why nothing was put: CLAIMED where all that was in the way is its own. */
static enum claimed judge(const struct claim *claim, const struct etcd_pairs *found, bool own[3])
{
	if (!pair_of(found, claim->network))
		return NO_NETWORK;
	for (unsigned i = 0; i < claim->key_count; i++) {
		const struct etcd_pair *pair = pair_of(found, claim->keys[i]);
		own[i] = pair && strcmp(pair->value, claim->id) == 0;
		if (pair && !own[i])
			return strstr(claim->keys[i], "/mac/") ? TAKEN_MAC : strchr(strrchr(claim->keys[i], '/'), ':') ? TAKEN_IPV6 : TAKEN_IPV4;
	}
	return CLAIMED;
}

int claim_put(struct overlay *self, const struct claim *claim, int64_t lease, int64_t deadline, enum claimed *how, int64_t *revision,
	      struct gantry_error *err)
{
	bool own[3] = { false }, done = false;
	*how = CLAIMED;
	/* A second and third time where something changes between reading and writing. */
	for (int tries = 0; tries < 4; tries++) {
		struct etcd_pairs found = { 0 };
		if (put_all(self, claim, own, lease, deadline, &done, revision, &found, err) < 0)
			return -1;
		*how = done ? CLAIMED : judge(claim, &found, own);
		etcd_pairs_free(&found);
		if (done || *how != CLAIMED)
			return 0;
	}
	return gantry_fail(err, GANTRY_E_UNAVAILABLE, "the endpoint's claims in etcd change all the time: try again");
}

/* ---- releasing ---- */

int claim_release(struct overlay *self, const struct claim *claim, int64_t deadline, struct gantry_error *err)
{
	struct etcd_txn txn;
	bool done;
	int64_t revision;
	etcd_txn_begin(&txn);
	for (unsigned i = 0; i < claim->key_count; i++) {
		etcd_if_value(&txn, claim->keys[i], claim->id);
		etcd_remove(&txn, false, claim->keys[i]);
	}
	etcd_remove(&txn, false, claim->endpoint);
	/* Not all of them are its own any more: those that are go with their lease. */
	etcd_remove(&txn, true, claim->endpoint);
	return etcd_commit(self->etcd, &txn, deadline, &done, &revision, NULL, err);
}

int claim_read(struct overlay *self, const char *network_id, struct etcd_pairs *pairs, struct gantry_error *err)
{
	char prefix[KEY_ROOM], from[KEY_ROOM];
	int64_t revision = 0;
	key_claims(self, network_id, prefix);
	snprintf(from, sizeof from, "%s", prefix);
	do {
		size_t before = pairs->count;
		if (etcd_range(self->etcd, prefix, from, 2000, &revision, pairs, err) < 0)
			return -1;
		if (pairs->count == before || pairs->count > 2 * MAX_MEMBERS)
			break;
		/* The next key: the last one and a letter. */
		snprintf(from, sizeof from, "%.*s!", KEY_ROOM - 2, pairs->items[pairs->count - 1].key);
	} while (pairs->more);
	return 0;
}
