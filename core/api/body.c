/*
 * body.c - JSON bodies: what may be sent, how much of it, and what it means.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "api/internal.h"

int64_t body_length(const struct request *request)
{
	const char *encoding = req_header(request, "Transfer-Encoding");
	const char *length = req_header(request, "Content-Length");
	if (encoding)
		return -1;
	if (!length)
		return 0;
	errno = 0;
	long long number = strtoll(length, NULL, 10); /* MHD has checked it */
	return errno || number < 0 ? INT64_MAX : number;
}

static bool is_json(const char *type)
{
	size_t len = strcspn(type, "; \t");
	return len == strlen("application/json") && strncasecmp(type, "application/json", len) == 0;
}

static int too_large(const struct request *request, struct gt_error *err)
{
	return gt_fail(err, GT_TOO_LARGE, "the request body is larger than %lld bytes ([daemon] max_body)",
		       (long long)request->api->config->max_body);
}

int body_check(struct request *request, struct gt_error *err)
{
	if (request->match.route->body != BODY_JSON)
		return 0;
	int64_t length = body_length(request);
	const char *type = req_header(request, "Content-Type");
	if ((!type && length != 0) || (type && !is_json(type)))
		return gt_fail(err, GT_INVALID, "unsupported Content-Type header (%s): must be 'application/json'", type ? type : "");
	return length > request->api->config->max_body ? too_large(request, err) : 0;
}

int body_take(struct request *request, const char *bytes, size_t len, struct gt_error *err)
{
	if (request->match.route->body != BODY_JSON)
		return 0;
	if (request->body.len + len > (size_t)request->api->config->max_body) {
		gt_buf_free(&request->body);
		return too_large(request, err);
	}
	if (request->body.cap == 0) {
		int64_t length = body_length(request);
		gt_buf_reserve(&request->body, length > 0 ? (size_t)length : len);
	}
	gt_buf_add(&request->body, bytes, len);
	return 0;
}

int body_parse(struct request *request, struct gt_error *err)
{
	struct gt_buf *body = &request->body;
	if (request->match.route->body != BODY_JSON || body->len == 0)
		return 0;
	request->json = gt_json_parse(body->data, body->len, "the request body", err);
	gt_buf_free(body);
	if (!request->json)
		return -1;
	if (json_is_null(request->json)) {
		json_decref(request->json);
		request->json = NULL;
	} else if (!json_is_object(request->json)) {
		return gt_fail(err, GT_INVALID, "the request body must be a JSON object");
	}
	return 0;
}
