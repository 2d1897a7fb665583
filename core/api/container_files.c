/*
 * container_files.c - files of containers: archives in and out, export, changes.
 */
#include <nettle/base64.h>
#include <string.h>

#include "api/handlers.h"

static const char *archive_path(const struct request *request, struct gt_error *err)
{
	const char *path = query_text(&request->query, "path");
	if (!path)
		gt_fail(err, GT_INVALID, "bad parameter: 'path' cannot be empty");
	return path;
}

static int stat_header(struct request *request, const json_t *stat)
{
	AUTO_FREE char *text = json_dumps(stat, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	AUTO_FREE char *coded = gt_xcalloc(BASE64_ENCODE_RAW_LENGTH(len) + 1, 1);
	base64_encode_raw(coded, len, (const uint8_t *)text);
	return answer_header(request, "X-Docker-Container-Path-Stat", coded);
}

HANDLER(serve_archive_stat)
{
	const char *path = archive_path(request, err);
	AUTO_JSON json_t *stat = NULL;
	if (!path || gt_container_path_stat(request->api->engine, req_segment(request, 0), path, &stat, err) < 0)
		return -1;
	answer_empty(request, 200);
	return stat_header(request, stat);
}

HANDLER(serve_archive_get)
{
	const char *path = archive_path(request, err);
	AUTO_JSON json_t *stat = NULL;
	if (!path)
		return -1;
	struct gt_stream *stream = gt_container_archive(request->api->engine, req_segment(request, 0), path, &stat, err);
	if (answer_stream_checked(request, "application/x-tar", stream, err) < 0)
		return -1;
	return stat_header(request, stat);
}

static int extract(struct request *request, int in_fd, struct gt_progress *progress, struct gt_error *err)
{
	const struct query *query = &request->query;
	(void)progress;
	return gt_container_extract(request->api->engine, req_segment(request, 0), query_text(query, "path"), in_fd,
				    query_bool(query, "noOverwriteDirNonDir", false), query_bool(query, "copyUIDGID", false), err);
}

HANDLER(serve_archive_put)
{
	if (!archive_path(request, err) || gt_container_check(request->api->engine, req_segment(request, 0), err) < 0)
		return -1;
	return upload_begin(request, extract, false, false, err);
}

HANDLER(serve_container_export)
{
	return answer_stream_checked(request, "application/octet-stream",
				     gt_container_export(request->api->engine, req_segment(request, 0), err), err);
}

HANDLER(serve_container_changes)
{
	return answer_json(request, 200, gt_container_changes(request->api->engine, req_segment(request, 0), err));
}
