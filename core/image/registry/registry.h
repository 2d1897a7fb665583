/*
 * registry.h - private to core/image: a conversation with one registry (OCI distribution-spec), and what is done with it.
 *
 * curl.c http.c   bytes: libcurl, one exchange
 * endpoint.c      where a registry is and how it is reached: mirrors, plain http, certs.d, proxies
 * challenge.c     WWW-Authenticate
 * auth.c          credentials and tokens
 * client.c        one call: authorisation, redirects, retries, errors in the registry's words
 * fetch.c         a blob as a stream that goes on where a connection broke
 * pull.c          images in
 * push.c upload.c gzip.c  images out
 * manifests.c     reading manifests and tags
 * query.c         login, search, distribution inspect
 *
 * A conversation belongs to one pull, push or question, whose threads may all use it; nothing of it is kept for the next one. Everything that a
 * registry says is bounded and checked; credentials go to the registry's own host and to the token server that it names, never after a redirect.
 */
#pragma once

#include "../internal.h"
#include "../manifest.h"
#include "http.h"

/* ---- endpoint.c ---- */

struct endpoint {
	char *base;                     /* "https://registry-1.docker.io", no slash at the end */
	bool mirror;                    /* gets no credentials */
	bool last_try;                  /* plain http, after https to an insecure registry failed */
	bool insecure;
};
struct endpoints {
	struct endpoint *items;
	size_t count;
};
/* domain: of a reference. mirrors: whether they are wanted. */
void endpoints_of(const struct gt_config *config, const char *domain, bool mirrors, struct endpoints *out);
void endpoints_free(struct endpoints *endpoints);
/* "host[:port]" is loopback or in [registry] insecure. */
bool endpoint_is_insecure(const struct gt_config *config, const char *host);
/* How a URL is reached. */
int route_of(const struct gt_config *config, const char *url, struct http_route *route, struct gt_error *err);
void route_free(struct http_route *route);

/* ---- challenge.c ---- */

enum scheme { SCHEME_NONE, SCHEME_BASIC, SCHEME_BEARER };
struct challenge {
	enum scheme scheme;
	char *realm, *service, *scope, *error;  /* NULL: not told */
};
/* headers: the values of WWW-Authenticate, one a line. Bearer goes before Basic; SCHEME_NONE where neither is offered. */
void challenge_parse(const char *headers, struct challenge *challenge);
void challenge_free(struct challenge *challenge);

/* ---- auth.c ---- */

#define TOKEN_MAX (64u << 10)
struct credentials {
	char *user, *password, *identity_token, *registry_token;        /* NULL: none */
};
int credentials_read(const json_t *auth, struct credentials *credentials, struct gt_error *err);
void credentials_free(struct credentials *credentials);

/* ---- client.c ---- */

struct registry {
	const struct gt_config *config;
	struct http_pool *pool;
	struct gt_progress *progress;
	struct gt_counter *received;    /* bytes of blobs; NULL: nobody counts */
	char *domain;                   /* as in references */
	struct endpoints endpoints;
	size_t at;                      /* of endpoints: the one in use */
	const char *base;               /* its URL */
	struct credentials credentials;
	pthread_mutex_t lock;           /* guards challenge and tokens once threads share the conversation */
	pthread_mutex_t asking;         /* held while a token is asked for; before lock */
	struct challenge challenge;
	struct gt_map tokens;           /* scope -> struct token */
	struct gt_map routes;           /* "scheme://host" -> struct http_route */
};

/* Finds the first endpoint that answers. */
struct registry *registry_open(const struct gt_config *config, const char *domain, bool mirrors, const json_t *auth,
			       struct gt_progress *progress, struct gt_error *err);
/* Goes on to the next endpoint; -1 where there is none that answers (err is kept where there is none left). */
int registry_next(struct registry *registry, struct gt_error *err);
bool registry_at_mirror(const struct registry *registry);
void registry_close(struct registry *registry);         /* NULL is fine */

struct call {
	const char *method;             /* NULL: GET */
	const char *path;               /* "/v2/..."; or a whole URL that the registry gave */
	const char *scope;              /* "repository:a/b:pull"; NULL: none */
	const char *accept, *content_type;
	int64_t range_from;
	const char *body;
	size_t body_len;
	ssize_t (*source)(void *arg, void *bytes, size_t room, struct gt_error *err);
	void *source_arg;
	bool once;                      /* no second try after trouble on the way */
	bool *again;                    /* with once: another try may do better */
	struct gt_progress *progress;   /* asked for cancellation; NULL: the registry's */
};
/* The reply, whatever its status is; redirects are followed, a 401 is answered with credentials, 429 and 5xx and broken connections are tried
 * again after a while. */
struct http_exchange *registry_call(struct registry *registry, const struct call *call, struct gt_error *err);
/* As registry_call, but a status other than `wanted` (0: any 2xx) is an error; `what` begins its message. */
struct http_exchange *registry_expect(struct registry *registry, const struct call *call, long wanted, const char *what,
				      struct gt_error *err);
/* Fills err with what the registry says about its status. Returns -1. */
int registry_refused(struct registry *registry, struct http_exchange *exchange, const char *what, struct gt_error *err);
/* Waits; -1 with GT_CANCELLED where the client went away meanwhile. */
int registry_pause(struct registry *registry, int64_t ns, struct gt_error *err);
int64_t registry_backoff(unsigned tries);       /* ns before another try */
/* The reply's Location, made absolute. */
char *registry_location(struct registry *registry, const struct http_reply *reply, struct gt_error *err);

/* auth.c, for client.c: the Authorization header for a call of `scope`, or NULL with err->kind 0 where there is none to send. refused: the
 * header that was not good enough, or NULL. */
char *registry_authorization(struct registry *registry, const char *scope, const char *refused, struct gt_error *err);
void registry_forget_tokens(struct registry *registry);
/* client.c, for auth.c: the route to a URL, made once. */
const struct http_route *registry_route(struct registry *registry, const char *url, struct gt_error *err);
/* Asks for a token that can be kept in place of the password (login); NULL where the registry gives none. */
int registry_login_token(struct registry *registry, char **identity_token, struct gt_error *err);

/* ---- fetch.c ---- */

/* Blobs of one repository, as a struct blob's source. */
struct fetch_source {
	struct registry *registry;
	const char *path;               /* repository */
	const char *scope;
	char digest[72];
	int64_t size;
};
extern const struct blob_remote fetch_remote;   /* arg: struct fetch_source */
/* A small blob whole, checked against digest and size. */
int fetch_whole(const struct fetch_source *source, size_t max, const char *what, struct gt_buf *out, struct gt_error *err);

/* ---- manifests.c ---- */
#define MANIFEST_ACCEPT                                                                                                \
	TYPE_OCI_MANIFEST ", " TYPE_OCI_INDEX ", " TYPE_DOCKER_MANIFEST ", " TYPE_DOCKER_LIST                        \
			  ", application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1"

struct document {
	struct gt_buf bytes;
	char digest[72];                /* of the bytes, "sha256:..." */
	char *content_type;             /* may be NULL */
};
/* The manifest or index behind a tag or digest; checked where it is a digest. */
int registry_manifest(struct registry *registry, const char *path, const char *reference, const char *scope, struct document *document,
		      struct gt_error *err);
/* Its digest alone, "" where the registry does not tell. */
int registry_manifest_digest(struct registry *registry, const char *path, const char *reference, const char *scope, char digest[72],
			     struct gt_error *err);
void document_free(struct document *document);
/* All tags of a repository. */
int registry_tags(struct registry *registry, const char *path, const char *scope, struct gt_strings *tags, struct gt_error *err);
char *pull_scope(const char *path);
