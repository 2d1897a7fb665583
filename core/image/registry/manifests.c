/*
 * manifests.c - reading manifests and tags of a repository.
 */
#include <stdlib.h>
#include <string.h>

#include "registry.h"

#define TAGS_PAGE_MAX (1u << 20)
#define TAGS_MAX 20000
#define PAGES_MAX 200

char *pull_scope(const char *path)
{
	return gt_xasprintf("repository:%s:pull", path);
}

void document_free(struct document *document)
{
	gt_buf_free(&document->bytes);
	free(document->content_type);
	document->content_type = NULL;
}

static int take_document(struct http_exchange *exchange, const char *reference, const char *what, struct document *document,
			 struct gt_error *err)
{
	const struct http_reply *reply = exchange_reply(exchange);
	char hex[65];
	if (reply->length > (int64_t)MANIFEST_MAX)
		return gt_fail(err, GT_TOO_LARGE, "%s is larger than %u bytes", what, MANIFEST_MAX);
	document->content_type = gt_xstrdup(reply->content_type);
	if (exchange_slurp(exchange, MANIFEST_MAX, &document->bytes, NULL, err) < 0)
		return gt_context(err, "%s", what);
	digest_of(document->bytes.data ? document->bytes.data : "", document->bytes.len, hex);
	snprintf(document->digest, sizeof document->digest, "sha256:%s", hex);
	const char *wanted = strchr(reference, ':') ? reference : reply->digest;
	if (wanted && digest_is_valid(wanted) && strcmp(wanted, document->digest) != 0)
		return gt_fail(err, GT_INVALID, "%s is damaged: its digest is %s, expected %s", what, document->digest, wanted);
	return 0;
}

int registry_manifest(struct registry *registry, const char *path, const char *reference, const char *scope, struct document *document,
		      struct gt_error *err)
{
	AUTO_FREE char *url = gt_xasprintf("/v2/%s/manifests/%s", path, reference);
	bool docker = strcmp(registry->domain, "docker.io") == 0;
	AUTO_FREE char *what = gt_xasprintf("manifest for %s%s%s%s%s", docker ? "" : registry->domain, docker ? "" : "/", path,
					    strchr(reference, ':') ? "@" : ":", reference);
	struct call call = { .path = url, .scope = scope, .accept = MANIFEST_ACCEPT };
	*document = (struct document){ 0 };
	/* a body that breaks off is asked for again */
	for (unsigned tries = 0;; tries++) {
		struct http_exchange *exchange = registry_call(registry, &call, err);
		if (!exchange)
			return -1;
		long status = exchange_reply(exchange)->status;
		AUTO_FREE char *missing = gt_xasprintf("%s not found", what);
		if (status != 200) {
			registry_refused(registry, exchange, status == 404 ? missing : what, err);
			exchange_close(exchange);
			return -1;
		}
		int rc = take_document(exchange, reference, what, document, err);
		exchange_close(exchange);
		if (rc == 0)
			return 0;
		document_free(document);
		if ((err && err->kind != GT_INTERNAL) || tries == 2 || registry_pause(registry, registry_backoff(tries), err) < 0)
			return -1;
	}
}

int registry_manifest_digest(struct registry *registry, const char *path, const char *reference, const char *scope, char digest[72],
			     struct gt_error *err)
{
	AUTO_FREE char *url = gt_xasprintf("/v2/%s/manifests/%s", path, reference);
	AUTO_FREE char *what = gt_xasprintf("manifest for %s/%s:%s", registry->domain, path, reference);
	struct call call = { .method = "HEAD", .path = url, .scope = scope, .accept = MANIFEST_ACCEPT };
	struct http_exchange *exchange = registry_expect(registry, &call, 200, what, err);
	if (!exchange)
		return -1;
	const char *told = exchange_reply(exchange)->digest;
	snprintf(digest, 72, "%s", told && digest_is_valid(told) ? told : "");
	exchange_close(exchange);
	return 0;
}

/* ---- tags ---- */

/* Link: <URL>; rel="next" */
static char *next_page(struct registry *registry, const struct http_reply *reply, struct gt_error *err)
{
	const char *link = reply->link;
	const char *from = link ? strchr(link, '<') : NULL, *end = from ? strchr(from, '>') : NULL;
	if (!end || !strstr(end, "next"))
		return NULL;
	AUTO_FREE char *url = gt_xstrndup(from + 1, (size_t)(end - from - 1));
	AUTO_FREE char *base = gt_xasprintf("%s/v2/", registry->base);
	return url_resolve(base, url, NULL, err);
}

static int take_tags(struct http_exchange *exchange, struct gt_strings *tags, struct gt_error *err)
{
	AUTO_BUF struct gt_buf body = { 0 };
	json_t *list = NULL;
	if (exchange_slurp(exchange, TAGS_PAGE_MAX, &body, NULL, err) < 0)
		return -1;
	AUTO_JSON json_t *json = gt_json_parse(body.data ? body.data : "", body.len, "the list of tags", err);
	if (!json || gt_json_array(json, "tags", &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *tag = json_string_value(json_array_get(list, i));
		if (!tag || tags->count >= TAGS_MAX)
			return gt_fail(err, GT_INVALID, "the list of tags holds something else, or more than %d tags", TAGS_MAX);
		gt_strings_add(tags, tag);
	}
	return 0;
}

int registry_tags(struct registry *registry, const char *path, const char *scope, struct gt_strings *tags, struct gt_error *err)
{
	AUTO_FREE char *url = gt_xasprintf("/v2/%s/tags/list?n=1000", path);
	AUTO_FREE char *what = gt_xasprintf("tags of %s/%s", registry->domain, path);
	for (int page = 0; url && page < PAGES_MAX; page++) {
		struct call call = { .path = url, .scope = scope };
		struct http_exchange *exchange = registry_expect(registry, &call, 200, what, err);
		if (!exchange)
			return -1;
		struct gt_error failure = { 0 };
		int rc = take_tags(exchange, tags, err);
		char *next = rc == 0 ? next_page(registry, exchange_reply(exchange), &failure) : NULL;
		exchange_close(exchange);
		free(url);
		url = next;
		if (failure.kind && err)
			*err = failure;
		if (rc < 0 || failure.kind)
			return -1;
	}
	return 0;
}
