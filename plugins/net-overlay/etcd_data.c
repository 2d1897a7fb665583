/*
 * etcd_data.c - see etcd.h. The JSON forms are those of etcd's rpc.proto as grpc-gateway writes them: bytes in base64, 64-bit numbers as strings, fields that
 * are zero left out.
 */
#include "etcd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 32

void etcd_pairs_free(struct etcd_pairs *pairs)
{
	for (size_t i = 0; i < pairs->count; i++) {
		free(pairs->items[i].key);
		free(pairs->items[i].value);
	}
	free(pairs->items);
	*pairs = (struct etcd_pairs){ 0 };
}

/* ---- base64 ---- */

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *etcd_encode(const char *text, size_t len)
{
	const unsigned char *in = (const unsigned char *)text;
	char *out = malloc((len + 2) / 3 * 4 + 1), *to = out;
	for (size_t i = 0; out && i < len; i += 3) {
		size_t have = len - i < 3 ? len - i : 3;
		uint32_t bits = (uint32_t)in[i] << 16 | (have > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (have > 2 ? in[i + 2] : 0);
		*to++ = ALPHABET[bits >> 18];
		*to++ = ALPHABET[bits >> 12 & 63];
		*to++ = have > 1 ? ALPHABET[bits >> 6 & 63] : '=';
		*to++ = have > 2 ? ALPHABET[bits & 63] : '=';
	}
	if (out)
		*to = '\0';
	return out;
}

static int digit(char c)
{
	const char *at = c ? strchr(ALPHABET, c) : NULL;
	return at ? (int)(at - ALPHABET) : -1;
}

char *etcd_decode(const char *base64, size_t most)
{
	size_t len = strlen(base64), pad = 0;
	while (pad < 2 && pad < len && base64[len - pad - 1] == '=')
		pad++;
	if (len % 4 || len / 4 * 3 - pad > most)
		return NULL;
	char *out = malloc(len / 4 * 3 + 1), *to = out;
	uint32_t bits = 0;
	for (size_t i = 0; out && i < len; i++) {
		int value = i < len - pad ? digit(base64[i]) : 0;
		if (value < 0) {
			free(out);
			return NULL;
		}
		bits = bits << 6 | (uint32_t)value;
		if (i % 4 == 3) {
			*to++ = (char)(bits >> 16);
			*to++ = (char)(bits >> 8);
			*to++ = (char)bits;
		}
	}
	if (!out)
		return NULL;
	to -= pad;
	*to = '\0';
	if (memchr(out, '\0', (size_t)(to - out))) {
		free(out);
		return NULL;
	}
	return out;
}

char *etcd_range_end(const char *prefix)
{
	char *end = strdup(prefix);
	size_t len = strlen(prefix);
	while (end && len > 0 && (unsigned char)end[len - 1] == 0xff)
		end[--len] = '\0';
	if (end && len > 0)
		end[len - 1]++;
	return end;
}

/* ---- reading ---- */

/* The parser calls itself for each level. */
static bool is_flat(const char *text, size_t len)
{
	int depth = 0;
	bool quoted = false;
	for (size_t i = 0; i < len; i++) {
		if (quoted) {
			if (text[i] == '\\')
				i++;
			else
				quoted = text[i] != '"';
		} else if (text[i] == '"') {
			quoted = true;
		} else if (text[i] == '{' || text[i] == '[') {
			if (++depth > MAX_DEPTH)
				return false;
		} else if (text[i] == '}' || text[i] == ']') {
			depth--;
		}
	}
	return true;
}

json_t *etcd_parse(const char *text, size_t len, struct gantry_error *err)
{
	json_error_t why;
	json_t *answer = is_flat(text, len) ? json_loadb(text, len, 0, &why) : NULL;
	if (json_is_object(answer))
		return answer;
	json_decref(answer);
	gantry_fail(err, GANTRY_E_INTERNAL, "etcd's answer is not the JSON of its gateway: %.120s", text);
	return NULL;
}

int64_t etcd_int(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	if (json_is_integer(value))
		return json_integer_value(value);
	const char *text = json_string_value(value);
	char *end;
	if (!text)
		return 0;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	return errno || *end || end == text ? 0 : number;
}

/* Keys are paths of ours; any other is none. */
static bool key_is_plain(const char *key)
{
	for (; *key; key++) {
		if (*key <= ' ' || *key > '~')
			return false;
	}
	return true;
}

/* removed: the value does not count. */
static int read_pair(const json_t *kv, bool removed, struct etcd_pairs *pairs)
{
	const char *key = json_string_value(json_object_get(kv, "key")), *value = json_string_value(json_object_get(kv, "value"));
	struct etcd_pair pair = { .key = key ? etcd_decode(key, ETCD_KEY_MAX) : NULL, .revision = etcd_int(kv, "mod_revision") };
	if (!removed)
		pair.value = etcd_decode(value ? value : "", ETCD_VALUE_MAX);
	if (!pair.key || !key_is_plain(pair.key) || (!pair.value && !removed) || pair.revision <= 0) {
		free(pair.key);
		free(pair.value);
		return 0;
	}
	struct etcd_pair *items = realloc(pairs->items, (pairs->count + 1) * sizeof *items);
	if (!items) {
		free(pair.key);
		free(pair.value);
		return -1;
	}
	pairs->items = items;
	pairs->items[pairs->count++] = pair;
	return 0;
}

int etcd_read_pairs(const json_t *range, struct etcd_pairs *pairs)
{
	json_t *kv;
	size_t i;
	pairs->more = json_is_true(json_object_get(range, "more"));
	json_array_foreach(json_object_get(range, "kvs"), i, kv) {
		if (read_pair(kv, false, pairs) < 0)
			return -1;
	}
	return 0;
}

/* {"error":TEXT,"code":N,"message":TEXT}; in a stream {"error":{"grpc_code":N,"message":TEXT}}. */
int etcd_read_error(const json_t *answer, const char **text)
{
	const json_t *error = json_object_get(answer, "error");
	const json_t *from = json_is_object(error) ? error : answer;
	const json_t *code = json_object_get(from, "grpc_code");
	if (!json_is_integer(code))
		code = json_object_get(from, "code");
	*text = json_string_value(json_object_get(from, "message"));
	if (!*text)
		*text = json_string_value(error);
	if (!*text)
		*text = "it says no more";
	return json_is_integer(code) ? (int)json_integer_value(code) : -1;
}

/* Codes of gRPC, statuscodes.md. */
int etcd_error_kind(int grpc_code)
{
	switch (grpc_code) {
	case 3: return GANTRY_E_INVALID;
	case 4: return GANTRY_E_TIMEOUT;
	case 5: return GANTRY_E_NOT_FOUND;
	case 7:
	case 16: return GANTRY_E_DENIED;
	case 8:
	case 14: return GANTRY_E_UNAVAILABLE;
	default: return GANTRY_E_INTERNAL;
	}
}

static int read_events(const json_t *result, struct etcd_pairs *pairs)
{
	json_t *event;
	size_t i;
	json_array_foreach(json_object_get(result, "events"), i, event) {
		const char *type = json_string_value(json_object_get(event, "type"));
		if (read_pair(json_object_get(event, "kv"), type && strcmp(type, "DELETE") == 0, pairs) < 0)
			return -1;
	}
	return 0;
}

int etcd_read_news(const char *line, size_t len, struct etcd_news *news, struct gantry_error *err)
{
	*news = (struct etcd_news){ 0 };
	json_t *answer = etcd_parse(line, len, err);
	if (!answer)
		return -1;
	const json_t *result = json_object_get(answer, "result");
	const char *reason = json_string_value(json_object_get(result, "cancel_reason"));
	news->created = json_is_true(json_object_get(result, "created"));
	news->revision = etcd_int(json_object_get(result, "header"), "revision");
	news->compacted = etcd_int(result, "compact_revision");
	news->ended = json_is_true(json_object_get(result, "canceled")) || !json_is_object(result);
	if (!json_is_object(result))
		etcd_read_error(answer, &reason);
	snprintf(news->reason, sizeof news->reason, "%s", reason ? reason : "");
	int rc = read_events(result, &news->pairs);
	json_decref(answer);
	if (rc == 0)
		return 0;
	etcd_pairs_free(&news->pairs);
	return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
}

/* ---- transactions ---- */

void etcd_txn_begin(struct etcd_txn *txn)
{
	*txn = (struct etcd_txn){ .compare = json_array(), .success = json_array(), .failure = json_array() };
	txn->broken = !txn->compare || !txn->success || !txn->failure;
}

void etcd_txn_free(struct etcd_txn *txn)
{
	json_decref(txn->compare);
	json_decref(txn->success);
	json_decref(txn->failure);
	*txn = (struct etcd_txn){ .broken = true };
}

static void append(struct etcd_txn *txn, json_t *list, json_t *item)
{
	if (!item || json_array_append_new(list, item) < 0)
		txn->broken = true;
}

static json_t *encoded(const char *text)
{
	char *base64 = text ? etcd_encode(text, strlen(text)) : NULL;
	json_t *json = base64 ? json_string(base64) : NULL;
	free(base64);
	return json;
}

static json_t *encoded_end(const char *prefix)
{
	char *end = etcd_range_end(prefix);
	json_t *json = encoded(end);
	free(end);
	return json;
}

static json_t *number(int64_t value)
{
	return json_sprintf("%lld", (long long)value);
}

void etcd_if_absent(struct etcd_txn *txn, const char *key)
{
	append(txn, txn->compare, json_pack("{s:o s:s s:s s:s}", "key", encoded(key), "target", "CREATE", "result", "EQUAL", "create_revision", "0"));
}

void etcd_if_present(struct etcd_txn *txn, const char *key)
{
	append(txn, txn->compare, json_pack("{s:o s:s s:s s:s}", "key", encoded(key), "target", "CREATE", "result", "GREATER", "create_revision", "0"));
}

void etcd_if_none(struct etcd_txn *txn, const char *prefix)
{
	append(txn, txn->compare, json_pack("{s:o s:o s:s s:s s:s}", "key", encoded(prefix), "range_end", encoded_end(prefix), "target", "CREATE", "result",
					    "EQUAL", "create_revision", "0"));
}

void etcd_if_revision(struct etcd_txn *txn, const char *key, int64_t revision)
{
	append(txn, txn->compare, json_pack("{s:o s:s s:s s:o}", "key", encoded(key), "target", "MOD", "result", "EQUAL", "mod_revision", number(revision)));
}

void etcd_if_value(struct etcd_txn *txn, const char *key, const char *value)
{
	append(txn, txn->compare, json_pack("{s:o s:s s:s s:o}", "key", encoded(key), "target", "VALUE", "result", "EQUAL", "value", encoded(value)));
}

static json_t *branch(const struct etcd_txn *txn, bool otherwise)
{
	return otherwise ? txn->failure : txn->success;
}

void etcd_put(struct etcd_txn *txn, bool otherwise, const char *key, const char *value, int64_t lease)
{
	append(txn, branch(txn, otherwise),
	       json_pack("{s:{s:o s:o s:o}}", "request_put", "key", encoded(key), "value", encoded(value), "lease", number(lease)));
}

void etcd_remove(struct etcd_txn *txn, bool otherwise, const char *key)
{
	append(txn, branch(txn, otherwise), json_pack("{s:{s:o}}", "request_delete_range", "key", encoded(key)));
}

void etcd_remove_all(struct etcd_txn *txn, bool otherwise, const char *prefix)
{
	append(txn, branch(txn, otherwise),
	       json_pack("{s:{s:o s:o}}", "request_delete_range", "key", encoded(prefix), "range_end", encoded_end(prefix)));
}

void etcd_get(struct etcd_txn *txn, bool otherwise, const char *key)
{
	append(txn, branch(txn, otherwise), json_pack("{s:{s:o}}", "request_range", "key", encoded(key)));
}

void etcd_get_some(struct etcd_txn *txn, bool otherwise, const char *prefix, int limit)
{
	append(txn, branch(txn, otherwise),
	       json_pack("{s:{s:o s:o s:o}}", "request_range", "key", encoded(prefix), "range_end", encoded_end(prefix), "limit", number(limit)));
}
