/*
 * auth.c - credentials, and the bearer tokens they are exchanged for (Docker's token authentication, and its OAuth2 form for identity tokens).
 *
 * A token is kept for its scope until shortly before it expires, or until the registry refuses it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "registry.h"

#define EXPIRES_DEFAULT 60
#define EXPIRES_MARGIN 5
#define REALM_MAX 2048
#define CLIENT_ID "gantry"

struct token {
	char *text;
	int64_t expires;                /* monotonic ns */
};

/* ---- credentials ---- */

static int take_text(const json_t *auth, const char *name, char **slot, struct gt_error *err)
{
	const char *text = "";
	if (gt_json_string(auth, name, &text, err) < 0)
		return -1;
	if (strlen(text) > TOKEN_MAX)
		return gt_fail(err, GT_INVALID, "registry credentials: %s is too long", name);
	if (text[0]) {
		free(*slot);
		*slot = gt_xstrdup(text);
	}
	return 0;
}

/* "auth" is base64 of user:password. */
static int take_pair(const json_t *auth, struct credentials *credentials, struct gt_error *err)
{
	AUTO_FREE char *text = NULL;
	AUTO_BUF struct gt_buf pair = { 0 };
	if (take_text(auth, "auth", &text, err) < 0 || !text)
		return text ? -1 : 0;
	char *colon = gt_base64_decode(text, &pair) == 0 && pair.data ? strchr(pair.data, ':') : NULL;
	if (!colon)
		return gt_fail(err, GT_INVALID, "registry credentials: auth is not base64 of USER:PASSWORD");
	credentials->user = gt_xstrndup(pair.data, (size_t)(colon - pair.data));
	credentials->password = gt_xstrdup(colon + 1);
	return 0;
}

int credentials_read(const json_t *auth, struct credentials *credentials, struct gt_error *err)
{
	*credentials = (struct credentials){ 0 };
	if (!auth || json_is_null(auth))
		return 0;
	if (!json_is_object(auth))
		return gt_fail(err, GT_INVALID, "registry credentials are not a JSON object");
	if (take_pair(auth, credentials, err) < 0 || take_text(auth, "username", &credentials->user, err) < 0 ||
	    take_text(auth, "password", &credentials->password, err) < 0 ||
	    take_text(auth, "identitytoken", &credentials->identity_token, err) < 0 ||
	    take_text(auth, "registrytoken", &credentials->registry_token, err) < 0) {
		credentials_free(credentials);
		return -1;
	}
	return 0;
}

static void wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void credentials_free(struct credentials *credentials)
{
	wipe(&credentials->user);
	wipe(&credentials->password);
	wipe(&credentials->identity_token);
	wipe(&credentials->registry_token);
}

static char *basic_header(const struct credentials *credentials)
{
	AUTO_FREE char *pair = gt_xasprintf("%s:%s", credentials->user, credentials->password ? credentials->password : "");
	AUTO_FREE char *encoded = gt_base64_encode(pair, strlen(pair), false);
	return gt_xasprintf("Basic %s", encoded);
}

/* ---- tokens ---- */

/* It goes into a header: nothing but visible characters. */
static bool is_token(const char *text)
{
	size_t len = strlen(text);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f)
			return false;
	}
	return len > 0 && len <= TOKEN_MAX;
}

/* Where tokens are: the registry's word, with its bounds. */
static int check_realm(struct registry *registry, const char *realm, struct gt_error *err)
{
	AUTO_FREE char *host = url_host(realm);
	bool tls = strncmp(realm, "https://", 8) == 0;
	if ((!tls && strncmp(realm, "http://", 7) != 0) || strlen(realm) > REALM_MAX || !host[0] || strchr(host, '@'))
		return gt_fail(err, GT_INVALID, "%s names a token server \"%.100s\" that is no http or https URL", registry->domain, realm);
	bool was_tls = strncmp(registry->base, "https://", 8) == 0;
	if (!tls && was_tls && !endpoint_is_insecure(registry->config, host))
		return gt_fail(err, GT_DENIED, "%s names a token server without encryption (%.200s): refused", registry->domain, realm);
	return 0;
}

static struct http_exchange *ask_with_get(struct registry *registry, const char *scope, bool offline, struct gt_error *err)
{
	const struct challenge *challenge = &registry->challenge;
	const struct credentials *credentials = &registry->credentials;
	AUTO_BUF struct gt_buf url = { 0 };
	gt_buf_str(&url, challenge->realm);
	if (challenge->service)
		url_add_query(&url, "service", challenge->service);
	for (const char *p = scope; p && *p;) {
		size_t len = strcspn(p, " ");
		AUTO_FREE char *one = gt_xstrndup(p, len);
		url_add_query(&url, "scope", one);
		p += len + (p[len] == ' ');
	}
	AUTO_FREE char *basic = credentials->user && !registry_at_mirror(registry) ? basic_header(credentials) : NULL;
	if (basic)
		url_add_query(&url, "account", credentials->user);
	if (offline) {
		url_add_query(&url, "offline_token", "true");
		url_add_query(&url, "client_id", CLIENT_ID);
	}
	struct http_request request = { .method = "GET", .url = url.data, .authorization = basic, .progress = registry->progress,
					.accept = "application/json", .route = registry_route(registry, challenge->realm, err) };
	return request.route ? exchange_open(registry->pool, &request, NULL, err) : NULL;
}

static void add_form(struct gt_buf *form, const char *name, const char *value)
{
	AUTO_BUF struct gt_buf query = { 0 };
	url_add_query(&query, name, value);
	gt_buf_printf(form, "%s%s", form->len ? "&" : "", query.data + 1);
}

static struct http_exchange *ask_with_post(struct registry *registry, const char *scope, struct gt_error *err)
{
	const struct challenge *challenge = &registry->challenge;
	AUTO_BUF struct gt_buf form = { 0 };
	add_form(&form, "grant_type", "refresh_token");
	add_form(&form, "refresh_token", registry->credentials.identity_token);
	add_form(&form, "client_id", CLIENT_ID);
	if (challenge->service)
		add_form(&form, "service", challenge->service);
	if (scope)
		add_form(&form, "scope", scope);
	struct http_request request = { .method = "POST", .url = challenge->realm, .progress = registry->progress, .accept = "application/json",
					.content_type = "application/x-www-form-urlencoded", .body = form.data, .body_len = form.len,
					.route = registry_route(registry, challenge->realm, err) };
	return request.route ? exchange_open(registry->pool, &request, NULL, err) : NULL;
}

static int read_token(struct registry *registry, struct http_exchange *exchange, struct token *token, char **identity, struct gt_error *err)
{
	const struct http_reply *reply = exchange_reply(exchange);
	AUTO_BUF struct gt_buf body = { 0 };
	if (reply->status != 200) {
		AUTO_FREE char *what = gt_xasprintf("the token server of %s", registry->domain);
		return registry_refused(registry, exchange, what, err);
	}
	if (exchange_slurp(exchange, 2 * TOKEN_MAX, &body, NULL, err) < 0)
		return -1;
	AUTO_JSON json_t *answer = gt_json_parse(body.data ? body.data : "", body.len, "the token server's answer", err);
	const char *text = "", *access = "", *refresh = "";
	int64_t seconds = EXPIRES_DEFAULT;
	if (!answer || gt_json_string(answer, "token", &text, err) < 0 || gt_json_string(answer, "access_token", &access, err) < 0 ||
	    gt_json_string(answer, "refresh_token", &refresh, err) < 0 || gt_json_int(answer, "expires_in", &seconds, err) < 0)
		return -1;
	if (!text[0])
		text = access;
	if (!is_token(text))
		return gt_fail(err, GT_INVALID, "the token server of %s gave no usable token", registry->domain);
	if (seconds < EXPIRES_DEFAULT)
		seconds = EXPIRES_DEFAULT;
	if (seconds > 86400)
		seconds = 86400;
	token->text = gt_xstrdup(text);
	token->expires = gt_monotonic() + (seconds - EXPIRES_MARGIN) * GT_SECOND;
	if (identity && is_token(refresh))
		*identity = gt_xstrdup(refresh);
	return 0;
}

static int fetch_token(struct registry *registry, const char *scope, char **identity, struct token *token, struct gt_error *err)
{
	if (check_realm(registry, registry->challenge.realm, err) < 0)
		return -1;
	bool refresh = registry->credentials.identity_token && !registry_at_mirror(registry);
	struct http_exchange *exchange = refresh ? ask_with_post(registry, scope, err) : ask_with_get(registry, scope, identity != NULL, err);
	if (!exchange)
		return gt_context(err, "token server");
	int rc = read_token(registry, exchange, token, identity, err);
	exchange_close(exchange);
	return rc;
}

static void token_free(struct token *token)
{
	wipe(&token->text);
	free(token);
}

/* Another thread may have fetched a new one since `refused` was sent. */
static char *known_token(struct registry *registry, const char *scope, const char *refused)
{
	LOCKED(&registry->lock);
	struct token *token = gt_map_get(&registry->tokens, scope);
	if (!token || token->expires < gt_monotonic() || (refused && strcmp(token->text, refused + strlen("Bearer ")) == 0))
		return NULL;
	return gt_xasprintf("Bearer %s", token->text);
}

static char *bearer_header(struct registry *registry, const char *scope, const char *refused, struct gt_error *err)
{
	const char *key = scope ? scope : "-";
	char *header = known_token(registry, key, refused);
	if (header)
		return header;
	/* the threads of a conversation ask once; whoever waits here is asked for nothing else meanwhile, and a client that goes away ends the asking */
	LOCKED(&registry->asking);
	if ((header = known_token(registry, key, refused)) != NULL)
		return header;
	struct token made = { 0 };
	if (fetch_token(registry, scope, NULL, &made, err) < 0)
		return NULL;
	header = gt_xasprintf("Bearer %s", made.text);
	struct token *token = gt_xmalloc(sizeof *token);
	*token = made;
	LOCKED(&registry->lock);
	struct token *old = gt_map_set(&registry->tokens, key, token);
	if (old)
		token_free(old);
	return header;
}

char *registry_authorization(struct registry *registry, const char *scope, const char *refused, struct gt_error *err)
{
	const struct credentials *credentials = &registry->credentials;
	if (err)
		gt_error_clear(err);
	switch (registry->challenge.scheme) {
	case SCHEME_BEARER:
		if (credentials->registry_token && !registry_at_mirror(registry))
			return is_token(credentials->registry_token) ?
				       gt_xasprintf("Bearer %s", credentials->registry_token) :
				       gt_fail_null(err, GT_INVALID, "registry credentials: registrytoken has blanks in it");
		return bearer_header(registry, scope, refused, err);
	case SCHEME_BASIC:
		if (credentials->user && !registry_at_mirror(registry))
			return basic_header(credentials);
		return NULL;
	default:
		return NULL;
	}
}

int registry_login_token(struct registry *registry, char **identity_token, struct gt_error *err)
{
	struct token token = { 0 };
	if (fetch_token(registry, NULL, identity_token, &token, err) < 0)
		return -1;
	struct token *kept = gt_xmalloc(sizeof *kept);
	*kept = token;
	struct token *old = gt_map_set(&registry->tokens, "-", kept);
	if (old)
		token_free(old);
	return 0;
}

void registry_forget_tokens(struct registry *registry)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&registry->tokens, &i)) != NULL;)
		token_free(slot->value);
	gt_map_free(&registry->tokens);
	registry->tokens = (struct gt_map){ 0 };
}
