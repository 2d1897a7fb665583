/*
 * registry.c - what is asked of registries, and BuildKit's requests, refused by name.
 */
#include <string.h>

#include "api/handlers.h"
#include "base/base64.h"

#define AUTH_MAX (256u << 10)

int header_json(const struct request *request, const char *name, json_t **value, struct gt_error *err)
{
	const char *header = req_header(request, name);
	AUTO_BUF struct gt_buf text = { 0 };
	*value = NULL;
	if (!header || !header[0])
		return 0;
	if (strlen(header) > AUTH_MAX || gt_base64_decode(header, &text) < 0 || text.len == 0)
		return gt_fail(err, GT_INVALID, "the %s header is not base64 of a JSON object", name);
	AUTO_FREE char *what = gt_xasprintf("the %s header", name);
	json_t *json = gt_json_parse(text.data, text.len, what, err);
	explicit_bzero(text.data, text.len);
	if (!json)
		return -1;
	if (json_is_object(json)) {
		*value = json;
		return 0;
	}
	bool null = json_is_null(json);
	json_decref(json);
	return null ? 0 : gt_fail(err, GT_INVALID, "the %s header is not a JSON object", name);
}

/* ---- pull ---- */

static int pull(struct request *request, int in_fd, struct gt_progress *progress, struct gt_error *err)
{
	const struct query *query = &request->query;
	const char *image = query_text(query, "fromImage"), *tag = query_text(query, "tag");
	AUTO_JSON json_t *auth = NULL;
	(void)in_fd;
	if (header_json(request, "X-Registry-Auth", &auth, err) < 0)
		return -1;
	struct gt_reference parsed;
	if (gt_reference_parse(image, &parsed, err) < 0)
		return -1;
	/* as Docker reads it: the tag goes before one in the name; neither means all tags */
	bool all = !tag && !parsed.tag && !parsed.digest;
	AUTO_FREE char *reference = !tag ? gt_xstrdup(image) : NULL;
	if (tag) {
		bool digest = strncmp(tag, "sha256:", 7) == 0;
		reference = gt_xasprintf("%s/%s%s%s", parsed.domain, parsed.path, digest ? "@" : ":", tag);
	}
	gt_reference_free(&parsed);
	return gt_engine_image_pull(request->api->engine, reference, query_text(query, "platform"), all, auth, progress, err);
}

HANDLER(serve_image_pull)
{
	return upload_begin(request, pull, true, false, err);
}

/* ---- push ---- */

static int push(struct request *request, int in_fd, struct gt_progress *progress, struct gt_error *err)
{
	const char *name = req_segment(request, 0), *tag = query_text(&request->query, "tag");
	AUTO_JSON json_t *auth = NULL;
	(void)in_fd;
	if (header_json(request, "X-Registry-Auth", &auth, err) < 0)
		return -1;
	AUTO_FREE char *reference = tag ? gt_xasprintf("%s:%s", name, tag) : gt_xstrdup(name);
	if (gt_image_check_platform(gt_engine_images(request->api->engine), reference, query_text(&request->query, "platform"), err) < 0)
		return -1;
	return gt_engine_image_push(request->api->engine, reference, auth, progress, err);
}

HANDLER(serve_image_push)
{
	return upload_begin(request, push, true, false, err);
}

/* ---- questions ---- */

static bool is_cancelled(void *arg)
{
	struct request *request = arg;
	return atomic_load(&request->api->stopping) || req_client_gone(request);
}

static struct gt_progress cancellation(struct request *request)
{
	return (struct gt_progress){ .cancelled = is_cancelled, .arg = request };
}

HANDLER(serve_image_search)
{
	const struct query *query = &request->query;
	const char *term = query_text(query, "term");
	AUTO_JSON json_t *filters = NULL;
	AUTO_JSON json_t *auth = NULL;
	int64_t limit = 0;
	if (!term)
		return gt_fail(err, GT_INVALID, "the query parameter term is missing: name what to search for");
	if (query_int(query, "limit", &limit, err) < 0 || query_filters(query, &filters, err) < 0 ||
	    header_json(request, "X-Registry-Auth", &auth, err) < 0)
		return -1;
	struct gt_progress progress = cancellation(request);
	return answer_json(request, 200,
			   gt_registry_search(gt_engine_images(request->api->engine), term, limit, filters, auth, &progress, err));
}

HANDLER(serve_auth)
{
	struct gt_progress progress = cancellation(request);
	return answer_json(request, 200, gt_registry_login(gt_engine_images(request->api->engine), request->json, &progress, err));
}

HANDLER(serve_distribution)
{
	AUTO_JSON json_t *auth = NULL;
	if (header_json(request, "X-Registry-Auth", &auth, err) < 0)
		return -1;
	struct gt_progress progress = cancellation(request);
	return answer_json(request, 200,
			   gt_registry_inspect(gt_engine_images(request->api->engine), req_segment(request, 0), auth, &progress, err));
}

HANDLER(serve_session)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED, "BuildKit sessions are not supported");
}
