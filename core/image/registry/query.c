/*
 * query.c - questions to registries that move no layers: login, search, distribution inspect.
 */
#include <stdlib.h>
#include <string.h>

#include "registry.h"

#define SEARCH_MAX (4u << 20)
#define DOCKER_INDEX "https://index.docker.io/v1/"

/* ---- login ---- */

/* "https://index.docker.io/v1/", "https://host:port/v2", "host:port" -> a reference's domain. */
static int domain_of(const char *server, char **domain, struct gt_error *err)
{
	AUTO_FREE char *host = url_host(server);
	if (strcmp(host, "index.docker.io") == 0 || strcmp(host, "registry-1.docker.io") == 0 || !host[0]) {
		*domain = gt_xstrdup("docker.io");
		return 0;
	}
	AUTO_FREE char *text = gt_xasprintf("%s/x", host);
	struct gt_reference reference;
	if (gt_reference_parse(text, &reference, NULL) < 0)
		return gt_fail(err, GT_INVALID, "%.200s is not the name of a registry: it is HOST or HOST:PORT", server);
	/* a host without a dot is taken as one nonetheless */
	*domain = strcmp(reference.path, "x") == 0 ? gt_xstrdup(reference.domain) : gt_xstrdup(host);
	gt_reference_free(&reference);
	return 0;
}

static int check_login(struct registry *registry, char **identity, struct gt_error *err)
{
	if (registry->challenge.scheme == SCHEME_NONE)
		return 0; /* nothing is asked for */
	if (registry->challenge.scheme == SCHEME_BEARER && registry_login_token(registry, identity, err) < 0)
		return -1;
	if (registry->challenge.scheme == SCHEME_BASIC && !registry->credentials.user)
		return gt_fail(err, GT_UNAUTHORIZED, "%s wants a user name and password", registry->domain);
	AUTO_FREE char *what = gt_xasprintf("login to %s", registry->domain);
	struct call call = { .path = "/v2/" };
	struct http_exchange *exchange = registry_expect(registry, &call, 200, what, err);
	exchange_close(exchange);
	return exchange ? 0 : -1;
}

json_t *gt_registry_login(struct gt_images *images, const json_t *auth, struct gt_progress *progress, struct gt_error *err)
{
	const char *server = "";
	AUTO_FREE char *domain = NULL;
	AUTO_FREE char *identity = NULL;
	if (gt_json_string(auth, "serveraddress", &server, err) < 0 || domain_of(server, &domain, err) < 0)
		return NULL;
	struct registry *registry = registry_open(images->config, domain, false, auth, progress, err);
	if (!registry)
		return NULL;
	int rc = check_login(registry, &identity, err);
	registry_close(registry);
	return rc < 0 ? NULL : json_pack("{s:s, s:s}", "Status", "Login Succeeded", "IdentityToken", identity ? identity : "");
}

/* ---- distribution inspect ---- */

static json_t *platform_json(const struct platform *platform)
{
	json_t *json = json_pack("{s:s, s:s}", "architecture", platform->architecture, "os", platform->os);
	if (platform->variant[0])
		json_object_set_new(json, "variant", json_string(platform->variant));
	return json;
}

static int list_platforms(struct registry *registry, const char *path, const char *scope, const struct manifest *manifest,
			  json_t *platforms, struct gt_error *err)
{
	struct platform platform;
	for (size_t i = 0; manifest->index && i < manifest->count; i++) {
		if (manifest->items[i].platform)
			json_array_append(platforms, (json_t *)(uintptr_t)manifest->items[i].platform);
	}
	if (manifest->index)
		return 0;
	AUTO_BUF struct gt_buf config = { 0 };
	struct fetch_source source = { .registry = registry, .path = path, .scope = scope, .size = manifest->config.size };
	snprintf(source.digest, sizeof source.digest, "%s", manifest->config.digest);
	if (fetch_whole(&source, CONFIG_MAX, "the image's config", &config, err) < 0)
		return -1;
	AUTO_JSON json_t *json = gt_json_parse(config.data, config.len, "the image's config", err);
	if (!json)
		return -1;
	platform_read(json, &platform);
	json_array_append_new(platforms, platform_json(&platform));
	return 0;
}

static json_t *inspect(struct registry *registry, const struct gt_reference *reference, struct gt_error *err)
{
	struct document document;
	struct manifest manifest;
	AUTO_FREE char *scope = pull_scope(reference->path);
	const char *wanted = reference->digest ? reference->digest : reference->tag ? reference->tag : "latest";
	if (registry_manifest(registry, reference->path, wanted, scope, &document, err) < 0)
		return NULL;
	json_t *platforms = json_array(), *answer = NULL;
	if (manifest_parse(document.bytes.data ? document.bytes.data : "", document.bytes.len, document.content_type, &manifest, err) == 0) {
		if (list_platforms(registry, reference->path, scope, &manifest, platforms, err) == 0)
			answer = json_pack("{s:{s:s, s:s, s:I}, s:O}", "Descriptor", "mediaType", manifest.media_type, "digest",
					   document.digest, "size", (json_int_t)document.bytes.len, "Platforms", platforms);
		manifest_free(&manifest);
	}
	json_decref(platforms);
	document_free(&document);
	return answer;
}

json_t *gt_registry_inspect(struct gt_images *images, const char *reference, const json_t *auth, struct gt_progress *progress,
			    struct gt_error *err)
{
	struct gt_reference parsed;
	if (gt_reference_parse(reference, &parsed, err) < 0)
		return NULL;
	struct registry *registry = registry_open(images->config, parsed.domain, false, auth, progress, err);
	json_t *answer = registry ? inspect(registry, &parsed, err) : NULL;
	registry_close(registry);
	gt_reference_free(&parsed);
	return answer;
}

/* ---- search: the registries' old API of version 1, which Docker Hub still serves ---- */

static bool filter_flag(const json_t *filters, const char *name, const json_t *item, const char *field)
{
	const char *wanted = json_string_value(json_array_get(json_object_get(filters, name), 0));
	bool is = json_is_true(json_object_get(item, field));
	return !wanted || is == (strcmp(wanted, "true") == 0 || strcmp(wanted, "1") == 0);
}

static bool matches(const json_t *filters, const json_t *item)
{
	const char *stars = json_string_value(json_array_get(json_object_get(filters, "stars"), 0));
	if (stars && json_integer_value(json_object_get(item, "star_count")) < strtoll(stars, NULL, 10))
		return false;
	return filter_flag(filters, "is-official", item, "is_official") && filter_flag(filters, "is-automated", item, "is_automated");
}

static int check_filters(const json_t *filters, struct gt_error *err)
{
	const char *name;
	json_t *values;
	json_object_foreach((json_t *)(uintptr_t)filters, name, values)
	{
		const char *value = json_string_value(json_array_get(values, 0));
		bool stars = strcmp(name, "stars") == 0;
		if (!stars && strcmp(name, "is-official") != 0 && strcmp(name, "is-automated") != 0)
			return gt_fail(err, GT_INVALID, "invalid filter '%s'", name);
		if (!value || (stars ? strspn(value, "0123456789") != strlen(value) || !value[0] :
				       strcmp(value, "true") != 0 && strcmp(value, "false") != 0 && strcmp(value, "1") != 0 &&
					       strcmp(value, "0") != 0))
			return gt_fail(err, GT_INVALID, "invalid filter '%s=%s'", name, value ? value : "");
	}
	return 0;
}

static json_t *read_results(struct registry *registry, struct http_exchange *exchange, const json_t *filters, struct gt_error *err)
{
	AUTO_BUF struct gt_buf body = { 0 };
	json_t *results = NULL;
	if (exchange_slurp(exchange, SEARCH_MAX, &body, NULL, err) < 0)
		return NULL;
	AUTO_JSON json_t *json = gt_json_parse(body.data ? body.data : "", body.len, "the search results", err);
	if (!json || gt_json_array(json, "results", &results, err) < 0)
		return NULL;
	if (!results)
		return gt_fail_null(err, GT_UNSUPPORTED, "%s does not offer search", registry->domain);
	json_t *list = json_array();
	for (size_t i = 0; i < json_array_size(results); i++) {
		json_t *item = json_array_get(results, i);
		const char *name = "", *description = "";
		bool official = false, automated = false;
		int64_t stars = 0;
		if (!json_is_object(item) || !matches(filters, item))
			continue;
		gt_json_string(item, "name", &name, NULL);
		gt_json_string(item, "description", &description, NULL);
		gt_json_bool(item, "is_official", &official, NULL);
		gt_json_bool(item, "is_automated", &automated, NULL);
		gt_json_int(item, "star_count", &stars, NULL);
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:b, s:I}", "name", name, "description", description, "is_official",
						      (int)official, "is_automated", (int)automated, "star_count", (json_int_t)stars));
	}
	return list;
}

static json_t *search(struct registry *registry, const char *words, int64_t limit, const json_t *filters, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	bool docker = strcmp(registry->domain, "docker.io") == 0;
	gt_buf_printf(&url, "%ssearch", docker ? DOCKER_INDEX : "/v1/");
	url_add_query(&url, "q", words);
	AUTO_FREE char *number = gt_xasprintf("%lld", (long long)(limit > 0 ? limit : 25));
	url_add_query(&url, "n", number);
	struct call call = { .path = url.data, .accept = "application/json" };
	struct http_exchange *exchange = registry_call(registry, &call, err);
	if (!exchange)
		return NULL;
	json_t *list = NULL;
	long status = exchange_reply(exchange)->status;
	if (status == 200)
		list = read_results(registry, exchange, filters, err);
	else if (status == 404)
		gt_fail(err, GT_UNSUPPORTED, "%s does not offer search", registry->domain);
	else
		registry_refused(registry, exchange, "search", err);
	exchange_close(exchange);
	return list;
}

json_t *gt_registry_search(struct gt_images *images, const char *term, int64_t limit, const json_t *filters, const json_t *auth,
			   struct gt_progress *progress, struct gt_error *err)
{
	const char *slash = strchr(term, '/');
	AUTO_FREE char *first = gt_xstrndup(term, slash ? (size_t)(slash - term) : 0);
	AUTO_FREE char *domain = NULL;
	bool host = strpbrk(first, ".:") || strcmp(first, "localhost") == 0;
	if (!term[0] || strlen(term) > 512)
		return gt_fail_null(err, GT_INVALID, "search needs a term of 1 to 512 bytes");
	if (limit < 0 || limit > 100)
		return gt_fail_null(err, GT_INVALID, "limit %lld is outside the range of [1, 100]", (long long)limit);
	if (check_filters(filters, err) < 0 || domain_of(host ? first : "", &domain, err) < 0)
		return NULL;
	struct registry *registry = registry_open(images->config, domain, false, auth, progress, err);
	json_t *list = registry ? search(registry, host ? slash + 1 : term, limit, filters, err) : NULL;
	registry_close(registry);
	return list;
}
