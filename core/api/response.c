/*
 * response.c - answers: JSON, text, errors, and the headers that all of them have.
 */
#include <string.h>

#include "api/internal.h"

static const struct {
	const char *name, *value;
} COMMON[] = {
	{ "Api-Version", GT_API_VERSION },
	{ "Docker-Experimental", "false" },
	{ "Ostype", "linux" },
	{ "Server", "Gantry/" GANTRY_VERSION " (linux)" },
};

void answer_common_headers(struct gt_buf *out)
{
	for (size_t i = 0; i < GT_COUNT(COMMON); i++)
		gt_buf_printf(out, "%s: %s\r\n", COMMON[i].name, COMMON[i].value);
}

int answer_with(struct request *request, unsigned status, struct MHD_Response *response)
{
	for (size_t i = 0; response && i < GT_COUNT(COMMON); i++)
		MHD_add_response_header(response, COMMON[i].name, COMMON[i].value);
	if (request->response)
		MHD_destroy_response(request->response);
	request->response = response;
	request->status = status;
	return 0;
}

int answer_header(struct request *request, const char *name, const char *value)
{
	if (request->response)
		MHD_add_response_header(request->response, name, value);
	return 0;
}

static int answer_bytes(struct request *request, unsigned status, const char *type, char *text, size_t len)
{
	answer_with(request, status, MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE));
	return type ? answer_header(request, "Content-Type", type) : 0;
}

int answer_json(struct request *request, unsigned status, json_t *json)
{
	if (!json)
		return -1;
	size_t len = json_dumpb(json, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
	char *text = gt_xmalloc(len + 1);
	json_dumpb(json, text, len, JSON_COMPACT | JSON_ENCODE_ANY);
	text[len] = '\n';
	json_decref(json);
	return answer_bytes(request, status, "application/json", text, len + 1);
}

int answer_json_text(struct request *request, unsigned status, struct gt_buf *text)
{
	gt_buf_char(text, '\n');
	size_t len = text->len;
	return answer_bytes(request, status, "application/json", gt_buf_take(text), len);
}

int answer_empty(struct request *request, unsigned status)
{
	return answer_bytes(request, status, NULL, NULL, 0);
}

int answer_text(struct request *request, unsigned status, const char *text)
{
	return answer_bytes(request, status, "text/plain; charset=utf-8", gt_xstrdup(text), strlen(text));
}

json_t *answer_message(const char *text)
{
	/* A message may quote a client's bytes, which need not be UTF-8. */
	json_t *string = json_string(text);
	if (!string) {
		AUTO_FREE char *ascii = gt_xstrdup(text);
		for (char *c = ascii; *c; c++) {
			if ((unsigned char)*c >= 0x80)
				*c = '?';
		}
		string = json_string(ascii);
	}
	return json_pack("{s:o}", "message", string);
}

int answer_error(struct request *request, const struct gt_error *err)
{
	unsigned status = (unsigned)gt_kind_http_status(err->kind);
	if (err->kind == GT_OK || err->kind == GT_CANCELLED)
		status = 500;
	if (err->kind == GT_NOT_MODIFIED)
		return answer_empty(request, 304);
	return answer_json(request, status, answer_message(*err->message ? err->message : "internal error"));
}
