/*
 * etcd.c - requests to etcd's JSON gateway: endpoints in turn until one answers or the deadline comes, a token for the user, errors in words.
 */
#include "etcd_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ATTEMPT_NS 2000000000LL         /* for one endpoint, where there is more time */
#define PAUSE_NS 100000000LL            /* after all of them were tried */

int64_t etcd_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* ---- open, close ---- */

static char *copy(const char *text)
{
	return text && text[0] ? strdup(text) : NULL;
}

static int add_endpoint(struct etcd *etcd, const char *from, size_t len, struct gantry_error *err)
{
	char *url = strndup(from, len);
	if (!url)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	size_t end = strlen(url);
	while (end > 0 && url[end - 1] == '/')
		url[--end] = '\0';
	bool http = strncmp(url, "http://", 7) == 0 && url[7], https = strncmp(url, "https://", 8) == 0 && url[8];
	if ((!http && !https) || strpbrk(url, "@?#\"\\") || etcd->count == ETCD_ENDPOINTS_MAX) {
		int rc = etcd->count == ETCD_ENDPOINTS_MAX ?
				 gantry_fail(err, GANTRY_E_INVALID, "etcd has more than %d endpoints", ETCD_ENDPOINTS_MAX) :
				 gantry_fail(err, GANTRY_E_INVALID, "\"%.128s\" is no endpoint of etcd: use http://HOST:PORT or https://HOST:PORT", url);
		free(url);
		return rc;
	}
	etcd->endpoints[etcd->count++] = url;
	return 0;
}

static int read_endpoints(struct etcd *etcd, const char *list, struct gantry_error *err)
{
	static const char SEPARATORS[] = ", \t";
	for (list += strspn(list, SEPARATORS); *list; list += strspn(list, SEPARATORS)) {
		size_t len = strcspn(list, SEPARATORS);
		if (add_endpoint(etcd, list, len, err) < 0)
			return -1;
		list += len;
	}
	return etcd->count ? 0 : gantry_fail(err, GANTRY_E_INVALID, "etcd has no endpoint");
}

int etcd_open(const struct etcd_settings *settings, struct etcd **out, struct gantry_error *err)
{
	struct etcd *etcd = calloc(1, sizeof *etcd);
	if (!etcd)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	pthread_mutex_init(&etcd->lock, NULL);
	etcd->curl = curl_load("etcd", err);
	etcd->ca = copy(settings->ca);
	etcd->cert = copy(settings->cert);
	etcd->key = copy(settings->key);
	etcd->user = copy(settings->user);
	etcd->password = copy(settings->password);
	etcd->timeout_ns = settings->timeout_ns;
	if (!etcd->curl || read_endpoints(etcd, settings->endpoints, err) < 0) {
		etcd_close(etcd);
		return -1;
	}
	*out = etcd;
	return 0;
}

void etcd_close(struct etcd *etcd)
{
	if (!etcd)
		return;
	for (unsigned i = 0; etcd->curl && i < etcd->idle_count; i++)
		etcd->curl->curl_easy_cleanup(etcd->idle[i]);
	for (unsigned i = 0; i < etcd->count; i++)
		free(etcd->endpoints[i]);
	if (etcd->password)
		explicit_bzero(etcd->password, strlen(etcd->password));
	free(etcd->ca);
	free(etcd->cert);
	free(etcd->key);
	free(etcd->user);
	free(etcd->password);
	pthread_mutex_destroy(&etcd->lock);
	free(etcd);
}

void etcd_stop(struct etcd *etcd)
{
	atomic_store(&etcd->stopped, true);
}

unsigned etcd_turn(const struct etcd *etcd)
{
	return atomic_load(&etcd->turn);
}

/* ---- one request ---- */

CURL *etcd_handle(struct etcd *etcd)
{
	CURL *handle = NULL;
	pthread_mutex_lock(&etcd->lock);
	if (etcd->idle_count)
		handle = etcd->idle[--etcd->idle_count];
	pthread_mutex_unlock(&etcd->lock);
	return handle ? handle : etcd->curl->curl_easy_init();
}

void etcd_handle_put(struct etcd *etcd, CURL *handle)
{
	etcd->curl->curl_easy_reset(handle);
	pthread_mutex_lock(&etcd->lock);
	bool kept = etcd->idle_count < IDLE_MAX;
	if (kept)
		etcd->idle[etcd->idle_count++] = handle;
	pthread_mutex_unlock(&etcd->lock);
	if (!kept)
		etcd->curl->curl_easy_cleanup(handle);
}

size_t etcd_body_take(char *bytes, size_t size, size_t count, void *arg)
{
	struct etcd_body *body = arg;
	size_t len = size * count;
	if (len > ETCD_ANSWER_MAX - body->len) {
		body->too_long = true;
		return 0;
	}
	if (body->len + len + 1 > body->room) {
		size_t room = (body->len + len + 1) * 2;
		char *more = realloc(body->bytes, room);
		if (!more)
			return 0;
		body->bytes = more;
		body->room = room;
	}
	memcpy(body->bytes + body->len, bytes, len);
	body->len += len;
	body->bytes[body->len] = '\0';
	return len;
}

static int stop_early(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct etcd *etcd = arg;
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return atomic_load(&etcd->stopped);
}

static struct curl_slist *make_headers(struct etcd *etcd)
{
	char line[sizeof etcd->token + 32];
	/* So that a member without a leader does not go on telling nothing. */
	struct curl_slist *list = etcd->curl->curl_slist_append(NULL, "Content-Type: application/json"),
			  *more = list ? etcd->curl->curl_slist_append(list, "Grpc-Metadata-hasleader: true") : NULL;
	pthread_mutex_lock(&etcd->lock);
	snprintf(line, sizeof line, "Authorization: %s", etcd->token);
	bool token = etcd->token[0];
	pthread_mutex_unlock(&etcd->lock);
	if (more && token)
		more = etcd->curl->curl_slist_append(list, line);
	if (more)
		return list;
	etcd->curl->curl_slist_free_all(list);
	return NULL;
}

int etcd_prepare(struct etcd *etcd, CURL *handle, const char *url, const char *body, struct curl_slist **headers)
{
	const struct curl_calls *curl = etcd->curl;
	*headers = make_headers(etcd);
	if (!*headers)
		return -1;
	curl->curl_easy_setopt(handle, CURLOPT_URL, url);
	curl->curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
	curl->curl_easy_setopt(handle, CURLOPT_NOPROXY, "*");
	curl->curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl->curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl->curl_easy_setopt(handle, CURLOPT_HTTPHEADER, *headers);
	curl->curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
	curl->curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
	curl->curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, stop_early);
	curl->curl_easy_setopt(handle, CURLOPT_XFERINFODATA, etcd);
	curl->curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, 1000L);
	if (etcd->ca)
		curl->curl_easy_setopt(handle, CURLOPT_CAINFO, etcd->ca);
	if (etcd->cert)
		curl->curl_easy_setopt(handle, CURLOPT_SSLCERT, etcd->cert);
	if (etcd->key)
		curl->curl_easy_setopt(handle, CURLOPT_SSLKEY, etcd->key);
	return 0;
}

/* How a request ended. */
enum outcome {
	ANSWERED,       /* 200 */
	REFUSED,        /* by an answer that would be the same elsewhere */
	NO_TOKEN,       /* the user's token is missing or old */
	ELSEWHERE       /* this endpoint is out of order */
};

static enum outcome judge(long status, const struct etcd_body *body, const char *url, struct gantry_error *err)
{
	const char *text;
	struct gantry_error ignored = { .size = sizeof ignored };
	if (status == 200)
		return ANSWERED;
	json_t *answer = body->bytes ? etcd_parse(body->bytes, body->len, &ignored) : NULL;
	int code = answer ? etcd_read_error(answer, &text) : -1;
	if (answer)
		gantry_fail(err, etcd_error_kind(code), "etcd: %.300s", text);
	else
		gantry_fail(err, status >= 500 ? GANTRY_E_UNAVAILABLE : GANTRY_E_INTERNAL, "etcd at %s answers with HTTP status %ld", url, status);
	bool token = code == 16 || (answer && strstr(text, "user name is empty")) || (answer && strstr(text, "invalid auth token"));
	json_decref(answer);
	if (token)
		return NO_TOKEN;
	return code == 14 || code == 4 || code == 8 || (code < 0 && status >= 500) ? ELSEWHERE : REFUSED;
}

static enum outcome request(struct etcd *etcd, const char *endpoint, const char *path, const char *text, int64_t time_ns, struct etcd_body *body,
			    struct gantry_error *err)
{
	char url[512];
	struct curl_slist *headers = NULL;
	long status = 0;
	CURL *handle = etcd_handle(etcd);
	snprintf(url, sizeof url, "%s%s", endpoint, path);
	*body = (struct etcd_body){ .etcd = etcd };
	if (!handle || etcd_prepare(etcd, handle, url, text, &headers) < 0) {
		if (handle)
			etcd->curl->curl_easy_cleanup(handle);
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
		return REFUSED;
	}
	etcd->curl->curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long)(time_ns / 1000000) + 1);
	etcd->curl->curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, etcd_body_take);
	etcd->curl->curl_easy_setopt(handle, CURLOPT_WRITEDATA, body);
	CURLcode rc = etcd->curl->curl_easy_perform(handle);
	etcd->curl->curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
	etcd_handle_put(etcd, handle);
	etcd->curl->curl_slist_free_all(headers);
	if (rc == CURLE_OK && (status != 200 || body->bytes))
		return judge(status, body, endpoint, err);
	if (body->too_long)
		gantry_fail(err, GANTRY_E_INTERNAL, "etcd's answer has more than %zu bytes", ETCD_ANSWER_MAX);
	else
		gantry_fail(err, GANTRY_E_UNAVAILABLE, "etcd at %s cannot be reached: %s", endpoint,
			    rc == CURLE_OK ? "the answer is empty" : etcd->curl->curl_easy_strerror(rc));
	return body->too_long ? REFUSED : ELSEWHERE;
}

/* ---- the user ---- */

static int log_in(struct etcd *etcd, const char *endpoint, int64_t time_ns, struct gantry_error *err)
{
	struct etcd_body body;
	json_t *who = json_pack("{s:s s:s}", "name", etcd->user, "password", etcd->password ? etcd->password : "");
	char *text = who ? json_dumps(who, JSON_COMPACT) : NULL;
	json_decref(who);
	pthread_mutex_lock(&etcd->lock);
	etcd->token[0] = '\0';
	pthread_mutex_unlock(&etcd->lock);
	if (!text)
		return gantry_fail(err, GANTRY_E_INTERNAL, "etcd's user %.64s: name or password are no UTF-8", etcd->user);
	enum outcome outcome = request(etcd, endpoint, "/v3/auth/authenticate", text, time_ns, &body, err);
	json_t *answer = outcome == ANSWERED ? etcd_parse(body.bytes, body.len, err) : NULL;
	const char *token = json_string_value(json_object_get(answer, "token"));
	int rc = -1;
	if (token && strlen(token) < sizeof etcd->token && !strpbrk(token, "\r\n")) {
		pthread_mutex_lock(&etcd->lock);
		snprintf(etcd->token, sizeof etcd->token, "%s", token);
		pthread_mutex_unlock(&etcd->lock);
		rc = 0;
	} else if (answer) {
		gantry_fail(err, GANTRY_E_DENIED, "etcd gives user %.64s no token", etcd->user);
	}
	json_decref(answer);
	explicit_bzero(text, strlen(text));
	free(text);
	free(body.bytes);
	return rc;
}

/* ---- calls ---- */

static void pause_until(int64_t deadline)
{
	int64_t left = deadline - etcd_now();
	if (left > PAUSE_NS)
		left = PAUSE_NS;
	if (left > 0)
		nanosleep(&(struct timespec){ .tv_nsec = left }, NULL);
}

static enum outcome ask(struct etcd *etcd, const char *endpoint, const char *path, const char *text, int64_t time_ns, struct etcd_body *body,
			struct gantry_error *err)
{
	enum outcome outcome = request(etcd, endpoint, path, text, time_ns, body, err);
	if (outcome != NO_TOKEN)
		return outcome;
	if (!etcd->user) {
		gantry_fail(err, GANTRY_E_DENIED, "etcd at %s wants a user: set user and password_file in section [plugin.net-overlay]", endpoint);
		return REFUSED;
	}
	free(body->bytes);
	*body = (struct etcd_body){ 0 };
	if (log_in(etcd, endpoint, time_ns, err) < 0)
		return REFUSED;
	outcome = request(etcd, endpoint, path, text, time_ns, body, err);
	return outcome == NO_TOKEN ? REFUSED : outcome;
}

static void note_failure(struct etcd *etcd, const char *text)
{
	pthread_mutex_lock(&etcd->lock);
	snprintf(etcd->failure, sizeof etcd->failure, "%s", text);
	pthread_mutex_unlock(&etcd->lock);
}

void etcd_why(struct etcd *etcd, char *text, size_t room)
{
	pthread_mutex_lock(&etcd->lock);
	snprintf(text, room, "%s", etcd->failure);
	pthread_mutex_unlock(&etcd->lock);
}

static int call(struct etcd *etcd, const char *path, const char *text, int64_t deadline, json_t **answer, struct gantry_error *err)
{
	unsigned tries = 0;
	gantry_fail(err, GANTRY_E_UNAVAILABLE, "etcd was not reached in time");
	for (;;) {
		struct etcd_body body;
		unsigned turn = atomic_load(&etcd->turn);
		int64_t left = deadline - etcd_now();
		if (left <= 0 || atomic_load(&etcd->stopped)) {
			err->kind = GANTRY_E_UNAVAILABLE;
			return -1;
		}
		enum outcome outcome = ask(etcd, etcd->endpoints[turn % etcd->count], path, text, left < ATTEMPT_NS ? left : ATTEMPT_NS, &body, err);
		if (outcome == ANSWERED)
			*answer = etcd_parse(body.bytes, body.len, err);
		free(body.bytes);
		note_failure(etcd, outcome == ANSWERED ? "" : err->message);
		if (outcome == ANSWERED)
			return *answer ? 0 : -1;
		if (outcome == REFUSED)
			return -1;
		atomic_compare_exchange_strong(&etcd->turn, &turn, turn + 1);
		if (++tries % etcd->count == 0)
			pause_until(deadline);
	}
}

int etcd_call(struct etcd *etcd, const char *path, json_t *body, int64_t deadline_ns, json_t **answer, struct gantry_error *err)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	int64_t own = etcd_now() + etcd->timeout_ns;
	json_decref(body);
	if (!text)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	int rc = call(etcd, path, text, deadline_ns && deadline_ns < own ? deadline_ns : own, answer, err);
	free(text);
	return rc;
}

/* ---- what is asked ---- */

static int read_responses(const json_t *answer, struct etcd_pairs *pairs, struct gantry_error *err)
{
	json_t *response;
	size_t i;
	json_array_foreach(json_object_get(answer, "responses"), i, response) {
		if (etcd_read_pairs(json_object_get(response, "response_range"), pairs) < 0)
			return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	return 0;
}

int etcd_commit(struct etcd *etcd, struct etcd_txn *txn, int64_t deadline_ns, bool *succeeded, int64_t *revision, struct etcd_pairs *pairs,
		struct gantry_error *err)
{
	json_t *answer = NULL;
	json_t *body = txn->broken ? NULL : json_pack("{s:O s:O s:O}", "compare", txn->compare, "success", txn->success, "failure", txn->failure);
	etcd_txn_free(txn);
	if (etcd_call(etcd, "/v3/kv/txn", body, deadline_ns, &answer, err) < 0)
		return -1;
	*succeeded = json_is_true(json_object_get(answer, "succeeded"));
	*revision = etcd_int(json_object_get(answer, "header"), "revision");
	int rc = pairs ? read_responses(answer, pairs, err) : 0;
	json_decref(answer);
	if (rc < 0)
		etcd_pairs_free(pairs);
	return rc;
}

int etcd_range(struct etcd *etcd, const char *prefix, const char *from, int limit, int64_t *revision, struct etcd_pairs *pairs, struct gantry_error *err)
{
	char *key = etcd_encode(from, strlen(from)), *end = etcd_range_end(prefix), *end64 = end ? etcd_encode(end, strlen(end)) : NULL;
	json_t *answer = NULL;
	json_t *body = key && end64 ? json_pack("{s:s s:s s:o s:o}", "key", key, "range_end", end64, "limit", json_sprintf("%d", limit), "revision",
						json_sprintf("%lld", (long long)*revision)) :
				      NULL;
	free(key);
	free(end);
	free(end64);
	if (etcd_call(etcd, "/v3/kv/range", body, 0, &answer, err) < 0)
		return -1;
	if (!*revision)
		*revision = etcd_int(json_object_get(answer, "header"), "revision");
	int rc = etcd_read_pairs(answer, pairs);
	json_decref(answer);
	if (rc == 0)
		return 0;
	etcd_pairs_free(pairs);
	return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
}

int etcd_grant(struct etcd *etcd, int64_t ttl, int64_t *lease, struct gantry_error *err)
{
	json_t *answer = NULL;
	if (etcd_call(etcd, "/v3/lease/grant", json_pack("{s:o}", "TTL", json_sprintf("%lld", (long long)ttl)), 0, &answer, err) < 0)
		return -1;
	*lease = etcd_int(answer, "ID");
	json_decref(answer);
	return *lease ? 0 : gantry_fail(err, GANTRY_E_INTERNAL, "etcd gives no lease");
}

void etcd_revoke(struct etcd *etcd, int64_t lease)
{
	struct gantry_error ignored = { .size = sizeof ignored };
	json_t *answer = NULL;
	if (etcd_call(etcd, "/v3/lease/revoke", json_pack("{s:o}", "ID", json_sprintf("%lld", (long long)lease)), 0, &answer, &ignored) == 0)
		json_decref(answer);
}

int etcd_keepalive(struct etcd *etcd, int64_t lease, int64_t *ttl, struct gantry_error *err)
{
	json_t *answer = NULL;
	if (etcd_call(etcd, "/v3/lease/keepalive", json_pack("{s:o}", "ID", json_sprintf("%lld", (long long)lease)), 0, &answer, err) < 0)
		return -1;
	const json_t *result = json_object_get(answer, "result");
	const char *text;
	int rc = 0;
	if (!json_is_object(result))
		rc = gantry_fail(err, etcd_error_kind(etcd_read_error(answer, &text)), "etcd: %.300s", text);
	else
		*ttl = etcd_int(result, "TTL");
	json_decref(answer);
	return rc;
}
