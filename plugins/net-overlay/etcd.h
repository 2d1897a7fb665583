/*
 * etcd.h - etcd v3 through its JSON gateway.
 *
 *   etcd.c         requests: endpoints in turn, deadlines, TLS, users
 *   etcd_watch.c   the stream of changes
 *   etcd_data.c    what goes out and comes back, as JSON with base64 inside; pure functions
 *
 * Keys and values are text. What etcd says is other hosts' input: answers, lines, keys and values are bounded, and what is none of ours is passed over.
 * All functions are thread safe, but for those on one transaction.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gantry/plugin.h>

#define ETCD_KEY_MAX 512
#define ETCD_VALUE_MAX (256 * 1024)
#define ETCD_ANSWER_MAX ((size_t)16 * 1024 * 1024)
#define ETCD_ENDPOINTS_MAX 16

/* ---- etcd_data.c ---- */

/* A key with what it holds. value NULL: it was removed. */
struct etcd_pair {
	char *key, *value;
	int64_t revision;               /* of its last change */
};

struct etcd_pairs {
	struct etcd_pair *items;
	size_t count;
	bool more;                      /* there are others behind the last */
};

void etcd_pairs_free(struct etcd_pairs *pairs);

/* Base64 with padding; the caller's. Decoding: NULL for what is none, is longer than `most` bytes, or holds a NUL. */
char *etcd_encode(const char *text, size_t len);
char *etcd_decode(const char *base64, size_t most);
/* The end of the range of all keys that begin so, for "range_end"; the caller's. */
char *etcd_range_end(const char *prefix);
/* An answer of the gateway's: JSON of a few levels. NULL with err. */
json_t *etcd_parse(const char *text, size_t len, struct gantry_error *err);
/* Numbers of 64 bits are strings there; 0 where there is none. */
int64_t etcd_int(const json_t *object, const char *name);
/* Appends the pairs of a range's answer ({"kvs":[]}). Those that are out of bounds are left out. -1: no memory. */
int etcd_read_pairs(const json_t *range, struct etcd_pairs *pairs);
/* What an error's answer says (with its gRPC code, -1: none), and the kind of error that it is. */
int etcd_read_error(const json_t *answer, const char **text);
int etcd_error_kind(int grpc_code);

/* One line of a watch's stream. */
struct etcd_news {
	bool created;
	int64_t revision;               /* of the store, when it was written */
	int64_t compacted;              /* not 0: what was asked for is forgotten up to here */
	bool ended;                     /* by the server; `reason` may say why */
	char reason[160];
	struct etcd_pairs pairs;        /* changes, in their order */
};
int etcd_read_news(const char *line, size_t len, struct etcd_news *news, struct gantry_error *err);

/* A transaction: comparisons, what is done where all of them hold, and what else. */
struct etcd_txn {
	json_t *compare, *success, *failure;
	bool broken;                    /* no memory: shows in etcd_commit() */
};

void etcd_txn_begin(struct etcd_txn *txn);
void etcd_txn_free(struct etcd_txn *txn);
void etcd_if_absent(struct etcd_txn *txn, const char *key);
void etcd_if_present(struct etcd_txn *txn, const char *key);
void etcd_if_none(struct etcd_txn *txn, const char *prefix);            /* no key begins so */
void etcd_if_revision(struct etcd_txn *txn, const char *key, int64_t revision);        /* 0: it is absent */
void etcd_if_value(struct etcd_txn *txn, const char *key, const char *value);
/* Into txn->success or, otherwise, txn->failure. */
void etcd_put(struct etcd_txn *txn, bool otherwise, const char *key, const char *value, int64_t lease);
void etcd_remove(struct etcd_txn *txn, bool otherwise, const char *key);
void etcd_remove_all(struct etcd_txn *txn, bool otherwise, const char *prefix);
void etcd_get(struct etcd_txn *txn, bool otherwise, const char *key);
void etcd_get_some(struct etcd_txn *txn, bool otherwise, const char *prefix, int limit);

/* ---- etcd.c ---- */

struct etcd_settings {
	const char *endpoints;          /* URLs, separated by commas or spaces */
	const char *ca, *cert, *key;    /* paths; NULL or empty: none */
	const char *user, *password;
	int64_t timeout_ns;             /* of one call, whatever happens */
};

struct etcd;

int64_t etcd_now(void);         /* CLOCK_MONOTONIC, ns */
/* Connects to nothing yet. */
int etcd_open(const struct etcd_settings *settings, struct etcd **etcd, struct gantry_error *err);
void etcd_close(struct etcd *etcd);
/* Ends what is under way, with GANTRY_E_UNAVAILABLE, and so all that is begun later. */
void etcd_stop(struct etcd *etcd);
/* Why the last endpoint that was asked is out of order; empty: it is not. */
void etcd_why(struct etcd *etcd, char *text, size_t room);
/* A number that changes when another endpoint is spoken to. */
unsigned etcd_turn(const struct etcd *etcd);

/* deadline_ns: CLOCK_MONOTONIC, or 0: that of the settings alone. Takes body over. *answer: the caller's. GANTRY_E_UNAVAILABLE: no endpoint can be reached, or
 * none has a leader. */
int etcd_call(struct etcd *etcd, const char *path, json_t *body, int64_t deadline_ns, json_t **answer, struct gantry_error *err);
/* Frees the transaction. *pairs (may be NULL): what the branch that ran has read. A failure without an answer leaves open whether it was done. */
int etcd_commit(struct etcd *etcd, struct etcd_txn *txn, int64_t deadline_ns, bool *succeeded, int64_t *revision, struct etcd_pairs *pairs,
		struct gantry_error *err);
/* Up to `limit` keys from `from` on that begin with prefix, as they are at *revision; 0: now, which it becomes. */
int etcd_range(struct etcd *etcd, const char *prefix, const char *from, int limit, int64_t *revision, struct etcd_pairs *pairs, struct gantry_error *err);
/* Leases: keepalive sets *ttl to 0 where it is gone. What fails to be revoked ends by itself. */
int etcd_grant(struct etcd *etcd, int64_t ttl, int64_t *lease, struct gantry_error *err);
void etcd_revoke(struct etcd *etcd, int64_t lease);
int etcd_keepalive(struct etcd *etcd, int64_t lease, int64_t *ttl, struct gantry_error *err);

/* ---- etcd_watch.c ---- */

enum etcd_end { ETCD_WOKEN = 0, ETCD_COMPACTED = 1, ETCD_ANOTHER = 2, ETCD_FAILED = -1 };

/* Hears of all changes to keys that begin with prefix, after `revision`, until wake_fd is readable. Calls fn for each line; it returns non-zero to end
 * (ETCD_WOKEN). ETCD_COMPACTED: changes after `revision` are lost; ETCD_ANOTHER: etcd was never there (it was restored from a backup, or is another one): all is
 * to be read again. */
enum etcd_end etcd_watch(struct etcd *etcd, const char *prefix, int64_t revision, int (*fn)(void *arg, const struct etcd_news *news), void *arg,
			 int wake_fd, struct gantry_error *err);
