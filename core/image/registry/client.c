/*
 * client.c - one call to a registry: authorisation, redirects, another try after trouble, and its errors in its own words.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "registry.h"

#define MAX_REDIRECTS 5
#define MAX_TRIES 4
#define PATIENCE 30                     /* seconds: a longer Retry-After is the user's to decide */
#define ERROR_MAX (64u << 10)

/* ---- life ---- */

static int ping(struct registry *registry, struct gt_error *err)
{
	struct call call = { .path = "/v2/", .once = true };
	struct http_exchange *exchange = registry_call(registry, &call, err);
	if (!exchange)
		return -1;
	long status = exchange_reply(exchange)->status;
	int rc = 0;
	if (status != 200 && status != 401) {
		AUTO_FREE char *what = gt_xasprintf("%s does not answer as a registry (GET /v2/)", registry->base);
		rc = registry_refused(registry, exchange, what, err);
	} else if (registry->challenge.scheme == SCHEME_NONE) {
		challenge_parse(exchange_reply(exchange)->challenges.data, &registry->challenge);
	}
	exchange_close(exchange);
	return rc;
}

static void forget_challenge(struct registry *registry)
{
	challenge_free(&registry->challenge);
	registry_forget_tokens(registry);
}

int registry_next(struct registry *registry, struct gt_error *err)
{
	struct gt_error failure = { 0 };
	while (++registry->at < registry->endpoints.count) {
		registry->base = registry->endpoints.items[registry->at].base;
		forget_challenge(registry);
		struct gt_error now = { 0 };
		if (ping(registry, &now) == 0)
			return 0;
		/* that plain http failed too says little about a registry with TLS, and the reverse */
		if (!failure.kind || registry->endpoints.items[registry->at].last_try)
			failure = now;
		if (now.kind == GT_CANCELLED)
			break;
	}
	if (err && failure.kind)
		*err = failure;
	return -1;
}

struct registry *registry_open(const struct gt_config *config, const char *domain, bool mirrors, const json_t *auth,
			       struct gt_progress *progress, struct gt_error *err)
{
	struct http_pool *pool = http_pool_new(err);
	if (!pool)
		return NULL;
	struct registry *registry = gt_xcalloc(1, sizeof *registry);
	registry->config = config;
	registry->pool = pool;
	registry->progress = progress;
	registry->domain = gt_xstrdup(domain);
	registry->at = (size_t)-1;
	pthread_mutex_init(&registry->lock, NULL);
	pthread_mutex_init(&registry->asking, NULL);
	endpoints_of(config, domain, mirrors, &registry->endpoints);
	if (credentials_read(auth, &registry->credentials, err) < 0 || registry_next(registry, err) < 0) {
		registry_close(registry);
		return NULL;
	}
	return registry;
}

bool registry_at_mirror(const struct registry *registry)
{
	return registry->at < registry->endpoints.count && registry->endpoints.items[registry->at].mirror;
}

void registry_close(struct registry *registry)
{
	if (!registry)
		return;
	struct gt_map_slot *slot;
	forget_challenge(registry);
	for (size_t i = 0; (slot = gt_map_next(&registry->routes, &i)) != NULL;) {
		route_free(slot->value);
		free(slot->value);
	}
	gt_map_free(&registry->routes);
	credentials_free(&registry->credentials);
	endpoints_free(&registry->endpoints);
	http_pool_free(registry->pool);
	pthread_mutex_destroy(&registry->lock);
	pthread_mutex_destroy(&registry->asking);
	free(registry->domain);
	free(registry);
}

const struct http_route *registry_route(struct registry *registry, const char *url, struct gt_error *err)
{
	const char *host = strstr(url, "://");
	AUTO_FREE char *key = gt_xstrndup(url, host ? (size_t)(host - url) + 3 + strcspn(host + 3, "/?#") : 0);
	LOCKED(&registry->lock);
	struct http_route *route = gt_map_get(&registry->routes, key);
	if (route)
		return route;
	route = gt_xcalloc(1, sizeof *route);
	if (route_of(registry->config, url, route, err) < 0) {
		free(route);
		return NULL;
	}
	gt_map_set(&registry->routes, key, route);
	return route;
}

/* ---- waiting ---- */

int64_t registry_backoff(unsigned tries)
{
	int64_t ns = 250 * GT_MILLISECOND << (tries < 6 ? tries : 6);
	return ns - ns / 4 + (gt_monotonic() & 0xfffff) * ns / 2 / 0xfffff; /* so that many clients do not come back at one time */
}

int registry_pause(struct registry *registry, int64_t ns, struct gt_error *err)
{
	int64_t until = gt_monotonic() + ns;
	while (gt_monotonic() < until) {
		if (gt_progress_cancelled(registry->progress))
			return gt_fail(err, GT_CANCELLED, "the client went away");
		struct timespec step = { 0, 50 * GT_MILLISECOND };
		nanosleep(&step, NULL);
	}
	return 0;
}

/* ---- one call ---- */

static bool is_redirect(const struct call *call, long status)
{
	bool reads = !call->method || strcmp(call->method, "GET") == 0 || strcmp(call->method, "HEAD") == 0;
	return reads && (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

static char *first_url(struct registry *registry, const struct call *call, bool *own, struct gt_error *err)
{
	*own = true;
	if (call->path[0] == '/')
		return gt_xasprintf("%s%s", registry->base, call->path);
	return url_resolve(registry->base, call->path, own, err);
}

static struct http_exchange *follow(struct registry *registry, const struct call *call, const char *authorization, bool *again,
				    struct gt_error *err)
{
	bool own;
	AUTO_FREE char *url = first_url(registry, call, &own, err);
	for (int hops = 0; url; hops++) {
		struct http_request request = { .method = call->method ? call->method : "GET", .url = url, .accept = call->accept,
						.authorization = own ? authorization : NULL, .content_type = call->content_type,
						.range_from = call->range_from, .body = call->body, .body_len = call->body_len,
						.source = call->source, .source_arg = call->source_arg,
						.progress = call->progress ? call->progress : registry->progress,
						.route = registry_route(registry, url, err) };
		struct http_exchange *exchange = request.route ? exchange_open(registry->pool, &request, again, err) : NULL;
		if (!exchange || !is_redirect(call, exchange_reply(exchange)->status))
			return exchange;
		const char *location = exchange_reply(exchange)->location;
		bool same = false;
		char *next = NULL;
		if (hops == MAX_REDIRECTS)
			gt_fail(err, GT_INVALID, "%s: redirected more than %d times", registry->domain, MAX_REDIRECTS);
		else if (!location)
			gt_fail(err, GT_INVALID, "%s: redirected without a Location", registry->domain);
		else if (!(next = url_resolve(url, location, &same, err)))
			gt_context(err, "%s", registry->domain);
		exchange_close(exchange);
		own = own && same;
		free(url);
		url = next;
	}
	return NULL;
}

/* True where the refusal of what was sent tells a way that was not tried. */
static bool learn(struct registry *registry, const struct http_reply *reply, bool sent)
{
	LOCKED(&registry->lock);
	if (registry->challenge.scheme == SCHEME_NONE)
		challenge_parse(reply->challenges.data, &registry->challenge);
	return registry->challenge.scheme == SCHEME_BEARER ? !(sent && registry->credentials.registry_token) :
							     registry->challenge.scheme == SCHEME_BASIC && !sent;
}

static struct http_exchange *call_with_authorization(struct registry *registry, const struct call *call, bool *again,
						     struct gt_error *err)
{
	AUTO_FREE char *refused = NULL;
	bool asks_scheme = strcmp(call->path, "/v2/") == 0 && !call->scope;
	for (int attempt = 0;; attempt++) {
		struct gt_error none = { 0 };
		AUTO_FREE char *authorization = registry_authorization(registry, call->scope, refused, &none);
		if (!authorization && none.kind) {
			if (err)
				*err = none;
			return NULL;
		}
		struct http_exchange *exchange = follow(registry, call, authorization, again, err);
		if (!exchange || exchange_reply(exchange)->status != 401 || attempt > 0 || call->source || (asks_scheme && !authorization) ||
		    !learn(registry, exchange_reply(exchange), authorization != NULL))
			return exchange;
		exchange_close(exchange);
		refused = take(authorization);
	}
}

static bool comes_back(long status)
{
	return status == 429 || status == 408 || (status >= 500 && status != 501 && status != 505);
}

struct http_exchange *registry_call(struct registry *registry, const struct call *call, struct gt_error *err)
{
	for (unsigned tries = 0;; tries++) {
		bool again = false;
		struct http_exchange *exchange = call_with_authorization(registry, call, &again, err);
		int64_t wait = registry_backoff(tries);
		if (exchange) {
			again = comes_back(exchange_reply(exchange)->status);
			int64_t told = http_retry_after(exchange_reply(exchange)->retry_after, gt_now());
			if (again && told > 0)
				wait = told * GT_SECOND;
			if (!again || call->once || tries == MAX_TRIES || told > PATIENCE) {
				if (call->again)
					*call->again = again && told <= PATIENCE;
				return exchange;
			}
			exchange_close(exchange);
		} else if (!again || call->once || tries == MAX_TRIES) {
			if (call->again)
				*call->again = again;
			return NULL;
		}
		if (wait >= 2 * GT_SECOND) {
			AUTO_FREE char *text = gt_xasprintf("%s asks to wait: trying again in %lld seconds", registry->domain,
							    (long long)(wait / GT_SECOND));
			progress_emit(registry->progress, json_pack("{s:s}", "status", text));
		}
		if (registry_pause(registry, wait, err) < 0)
			return NULL;
	}
}

struct http_exchange *registry_expect(struct registry *registry, const struct call *call, long wanted, const char *what,
				      struct gt_error *err)
{
	struct http_exchange *exchange = registry_call(registry, call, err);
	if (!exchange)
		return NULL;
	long status = exchange_reply(exchange)->status;
	if (wanted ? status == wanted : status >= 200 && status < 300)
		return exchange;
	registry_refused(registry, exchange, what, err);
	exchange_close(exchange);
	return NULL;
}

char *registry_location(struct registry *registry, const struct http_reply *reply, struct gt_error *err)
{
	if (!reply->location)
		return gt_fail_null(err, GT_INVALID, "%s: the registry does not tell where to send the blob", registry->domain);
	AUTO_FREE char *base = gt_xasprintf("%s/v2/", registry->base);
	return url_resolve(base, reply->location, NULL, err);
}

/* ---- refusals ---- */

/* What a stranger says goes into a message: one line, no control characters, not too long. */
static void add_clean(struct gt_buf *out, const char *text, size_t max)
{
	size_t len = strnlen(text, max);
	while (text[len] && len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
		len--;
	for (size_t i = 0; i < len; i++)
		gt_buf_char(out, (unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i]);
}

/* {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "..."}]} as "manifest unknown: ...". */
static void add_words(const json_t *body, struct gt_buf *out)
{
	json_t *errors = NULL;
	const char *code = "", *message = "";
	gt_json_array(body, "errors", &errors, NULL);
	const json_t *first = json_array_size(errors) ? json_array_get(errors, 0) : body;
	if (!json_is_object(first))
		return;
	gt_json_string(first, "code", &code, NULL);
	gt_json_string(first, "message", &message, NULL);
	if (!message[0])
		gt_json_string(first, "details", &message, NULL);
	AUTO_FREE char *words = gt_xstrdup(code);
	for (char *p = words; *p; p++)
		*p = *p == '_' ? ' ' : (char)tolower((unsigned char)*p);
	add_clean(out, words, 64);
	if (code[0] && message[0])
		gt_buf_str(out, ": ");
	add_clean(out, message, 300);
}

int registry_refused(struct registry *registry, struct http_exchange *exchange, const char *what, struct gt_error *err)
{
	const struct http_reply *reply = exchange_reply(exchange);
	AUTO_BUF struct gt_buf body = { 0 };
	AUTO_BUF struct gt_buf words = { 0 };
	long status = reply->status;
	enum gt_kind kind = status == 401 ? GT_UNAUTHORIZED : status == 403 ? GT_DENIED : status == 404 ? GT_NOT_FOUND : GT_INTERNAL;
	if (exchange_slurp(exchange, ERROR_MAX, &body, NULL, NULL) == 0 && body.len > 0) {
		AUTO_JSON json_t *json = gt_json_parse(body.data, body.len, "error", NULL);
		add_words(json, &words);
	}
	if (status == 401 && registry->challenge.scheme == SCHEME_BASIC && !registry->credentials.user) {
		gt_buf_reset(&words);
		gt_buf_str(&words, "no basic auth credentials");
	}
	if (words.len == 0 && status == 401)
		gt_buf_str(&words, registry->credentials.user ? "unauthorized: the credentials are refused" :
								"unauthorized: authentication required");
	if (words.len == 0)
		gt_buf_printf(&words, "the answer is HTTP status %ld", status);
	int64_t wait = http_retry_after(reply->retry_after, gt_now());
	if (status == 429 && !strstr(words.data, "toomanyrequests"))
		gt_buf_str(&words, " (too many requests)");
	if ((status == 429 || status == 503) && wait > 0)
		gt_buf_printf(&words, "; try again in %lld seconds", (long long)wait);
	return gt_fail(err, kind, "%s: %s", what, words.data);
}
