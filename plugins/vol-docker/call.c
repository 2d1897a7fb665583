/*
 * call.c - one request to a plugin. Nothing of what comes back is trusted: its size, its time, its JSON, and the bytes of its error texts.
 */
#include "docker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPLY_MAX (4u << 20)
#define WORDS_MAX 280
#define SECOND 1000000000ll
#define RETRY_NS 100000000l
#define HUNG_NS (10 * SECOND)

struct exchange {
	struct docker *self;
	const struct gantry_call *call;
	int64_t until;                  /* CLOCK_MONOTONIC */
	char *text;
	size_t len;
	bool too_long;
};

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static int64_t seconds(const struct docker *self, const char *key)
{
	return strtoll(self->host->config(self->host, key), NULL, 10) * SECOND;
}

/* ---- words of others ---- */

/* One line, cut between characters. */
static void plain_words(const char *from, char words[WORDS_MAX + 4])
{
	size_t len = strlen(from), cut = len < WORDS_MAX ? len : WORDS_MAX;
	while (cut < len && cut > 0 && ((unsigned char)from[cut] & 0xc0) == 0x80)
		cut--;
	for (size_t i = 0; i < cut; i++)
		words[i] = (unsigned char)from[i] < ' ' || from[i] == 0x7f ? ' ' : from[i];
	while (cut && words[cut - 1] == ' ')
		cut--;
	memcpy(words + cut, cut < len && len > WORDS_MAX ? "..." : "", cut < len && len > WORDS_MAX ? 4 : 1);
}

/* ---- HTTP ---- */

static size_t take_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct exchange *exchange = arg;
	size_t len = size * count;
	if (len > REPLY_MAX - exchange->len) {
		exchange->too_long = true;
		return 0;
	}
	char *text = realloc(exchange->text, exchange->len + len + 1);
	if (!text)
		return 0;
	memcpy(text + exchange->len, bytes, len);
	exchange->text = text;
	exchange->len += len;
	text[exchange->len] = '\0';
	return len;
}

static int give_up(void *arg, curl_off_t total, curl_off_t done, curl_off_t up_total, curl_off_t up_done)
{
	struct exchange *exchange = arg;
	(void)total, (void)done, (void)up_total, (void)up_done;
	return exchange->self->host->cancelled(exchange->self->host, exchange->call);
}

static int tell_curl(struct exchange *exchange, CURLcode code, const char *method, const char *detail, struct gantry_error *err)
{
	struct docker *self = exchange->self;
	char words[WORDS_MAX + 4];
	plain_words(detail && *detail ? detail : self->curl->curl_easy_strerror(code), words);
	if (exchange->too_long)
		return gantry_fail(err, GANTRY_E_INTERNAL, "the plugin %s answers %s with more than %u bytes", self->name, method, REPLY_MAX);
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "the plugin %s cannot be reached: %s", self->name, words);
	if (code == CURLE_OPERATION_TIMEDOUT || code == CURLE_ABORTED_BY_CALLBACK) {
		atomic_store(&self->hung_until, now() + HUNG_NS);
		return gantry_fail(err, GANTRY_E_TIMEOUT, "the plugin %s does not answer %s", self->name, method);
	}
	return gantry_fail(err, GANTRY_E_UNAVAILABLE, "the plugin %s broke off %s: %s", self->name, method, words);
}

static void set_address(const struct curl_calls *curl, CURL *handle, const struct address *address)
{
	if (address->socket[0])
		curl->curl_easy_setopt(handle, CURLOPT_UNIX_SOCKET_PATH, address->socket);
	if (address->ca[0])
		curl->curl_easy_setopt(handle, CURLOPT_CAINFO, address->ca);
	if (address->cert[0])
		curl->curl_easy_setopt(handle, CURLOPT_SSLCERT, address->cert);
	if (address->key[0])
		curl->curl_easy_setopt(handle, CURLOPT_SSLKEY, address->key);
	if (address->insecure) {
		curl->curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 0L);
		curl->curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	curl->curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
	curl->curl_easy_setopt(handle, CURLOPT_PROXY, "");
}

static int post(struct exchange *exchange, const struct address *address, const char *method, const char *body, long *status, struct gantry_error *err)
{
	const struct curl_calls *curl = exchange->self->curl;
	char url[1200], detail[CURL_ERROR_SIZE] = "";
	int64_t left = (exchange->until - now()) / 1000000;
	CURL *handle = curl->curl_easy_init();
	struct curl_slist *headers = curl->curl_slist_append(NULL, "Content-Type: application/json");
	struct curl_slist *more = headers ? curl->curl_slist_append(headers, "Accept: application/vnd.docker.plugins.v1.2+json") : NULL;
	CURLcode code = CURLE_OUT_OF_MEMORY;
	if (handle && more) {
		snprintf(url, sizeof url, "%s/%s", address->url, method);
		set_address(curl, handle, address);
		curl->curl_easy_setopt(handle, CURLOPT_URL, url);
		curl->curl_easy_setopt(handle, CURLOPT_HTTPHEADER, more);
		curl->curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
		curl->curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
		curl->curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long)(left < 1 ? 1 : left));
		curl->curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, detail);
		curl->curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_bytes);
		curl->curl_easy_setopt(handle, CURLOPT_WRITEDATA, exchange);
		curl->curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
		curl->curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, give_up);
		curl->curl_easy_setopt(handle, CURLOPT_XFERINFODATA, exchange);
		code = curl->curl_easy_perform(handle);
		curl->curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, status);
	}
	int rc = code == CURLE_OK ? 0 : tell_curl(exchange, code, method, detail, err);
	curl->curl_slist_free_all(headers);
	if (handle)
		curl->curl_easy_cleanup(handle);
	return rc;
}

/* ---- the answer ---- */

static int read_reply(const struct docker *self, const char *method, const struct exchange *exchange, long status, json_t **reply, struct gantry_error *err)
{
	json_error_t why;
	char words[WORDS_MAX + 4];
	json_t *json = exchange->len ? json_loadb(exchange->text, exchange->len, 0, &why) : NULL;
	const char *refusal = json_string_value(json_object_get(json, "Err"));
	int rc = 0;
	if (refusal && *refusal) {
		plain_words(refusal, words);
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "the plugin %s says: %s", self->name, words);
	} else if (status == 404) {
		rc = gantry_fail(err, GANTRY_E_UNSUPPORTED, "the plugin %s has no %s", self->name, method);
	} else if (status != 200) {
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "the plugin %s answers %s with status %ld", self->name, method, status);
	} else if (!json_is_object(json) && (exchange->len || reply)) {
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "the plugin %s answers %s with something that is no JSON object", self->name, method);
	}
	if (rc == 0 && reply)
		*reply = json;
	else
		json_decref(json);
	return rc;
}

static int call_at(struct docker *self, const struct gantry_call *call, int64_t until, const struct address *address, const char *method, const json_t *body,
		   json_t **reply, struct gantry_error *err)
{
	struct exchange exchange = { .self = self, .call = call, .until = until };
	long status = 0;
	char *text = body ? json_dumps(body, JSON_COMPACT) : strdup("{}");
	int rc = text ? post(&exchange, address, method, text, &status, err) : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (rc == 0)
		rc = read_reply(self, method, &exchange, status, reply, err);
	free(exchange.text);
	free(text);
	return rc;
}

/* ---- activation ---- */

static bool implements(const json_t *reply, const char *what)
{
	size_t i;
	json_t *entry;
	json_array_foreach(json_object_get(reply, "Implements"), i, entry) {
		if (json_is_string(entry) && strcmp(json_string_value(entry), what) == 0)
			return true;
	}
	return false;
}

/* Where it is, that it is one for volumes, and its scope. */
static int activate(struct docker *self, const struct gantry_call *call, int64_t until, struct address *address, struct gantry_error *err)
{
	json_t *reply = NULL;
	if (discover(self->host, self->name, address, err) < 0) {
		if (err->kind == GANTRY_E_NOT_FOUND)
			err->kind = GANTRY_E_UNAVAILABLE; /* it was there once */
		return -1;
	}
	if (call_at(self, call, until, address, "Plugin.Activate", NULL, &reply, err) < 0)
		return -1;
	bool right = implements(reply, "VolumeDriver");
	json_decref(reply);
	if (!right)
		return gantry_fail(err, GANTRY_E_INVALID, "the plugin %s is not one for volumes: it does not implement VolumeDriver", self->name);
	reply = NULL;
	if (call_at(self, call, until, address, "VolumeDriver.Capabilities", NULL, &reply, err) < 0 && err->kind != GANTRY_E_UNSUPPORTED &&
	    err->kind != GANTRY_E_INTERNAL)
		return -1;
	const char *scope = json_string_value(json_object_get(json_object_get(reply, "Capabilities"), "Scope"));
	pthread_mutex_lock(&self->lock);
	self->address = *address;
	self->active = true;
	self->global = scope && strcmp(scope, "global") == 0;
	pthread_mutex_unlock(&self->lock);
	json_decref(reply);
	return 0;
}

static int once(struct docker *self, const struct gantry_call *call, int64_t until, const char *method, const json_t *body, json_t **reply,
		struct gantry_error *err)
{
	struct address address;
	pthread_mutex_lock(&self->lock);
	bool active = self->active;
	address = self->address;
	pthread_mutex_unlock(&self->lock);
	if (!active && activate(self, call, until, &address, err) < 0)
		return -1;
	int rc = call_at(self, call, until, &address, method, body, reply, err);
	if (rc < 0 && err->kind == GANTRY_E_UNAVAILABLE) {
		pthread_mutex_lock(&self->lock);
		self->active = false; /* the next call looks where it is now */
		pthread_mutex_unlock(&self->lock);
	}
	if (rc == 0)
		atomic_store(&self->hung_until, 0);
	return rc;
}

/* ---- calls ---- */

static bool nothing_asked(const struct gantry_error *err)
{
	return err->kind == GANTRY_E_UNAVAILABLE && !strstr(err->message, " broke off ");
}

int plugin_call(struct docker *self, const struct gantry_call *call, enum patience patience, const char *method, const json_t *body, json_t **reply,
		struct gantry_error *err)
{
	int64_t start = now(), until = start + seconds(self, "timeout"), connect = start + seconds(self, "connect_timeout");
	if (call->deadline_ns && call->deadline_ns < until)
		until = call->deadline_ns;
	if (connect > until)
		connect = until;
	if (patience == HASTY && start < atomic_load(&self->hung_until))
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "the plugin %s did not answer a moment ago; it is asked again soon", self->name);
	for (;;) {
		if (once(self, call, until, method, body, reply, err) == 0)
			return 0;
		struct timespec pause = { .tv_nsec = RETRY_NS };
		if (patience == HASTY || !nothing_asked(err) || now() + RETRY_NS > connect || self->host->cancelled(self->host, call))
			return -1;
		nanosleep(&pause, NULL);
	}
}
