/*
 * images.c - images: look, tag, remove, and the ways in and out.
 */
#include <string.h>

#include "api/handlers.h"

enum { NO_VIRTUAL_SIZE_SINCE = 44 };

/* Older clients know an image's size by another name as well. */
static void add_virtual_size(const struct request *request, json_t *image)
{
	if (request->match.version < NO_VIRTUAL_SIZE_SINCE && image)
		json_object_set(image, "VirtualSize", json_object_get(image, "Size"));
}

HANDLER(serve_image_list)
{
	const struct query *query = &request->query;
	AUTO_JSON json_t *filters = NULL;
	if (query_refuse(query, NAMES("manifests"), err) < 0 || query_filters(query, &filters, err) < 0)
		return -1;
	json_t *images = gt_engine_images_list(request->api->engine, query_bool(query, "all", false), filters, query_bool(query, "shared-size", false), err),
	       *image;
	size_t i;
	json_array_foreach(images, i, image)
		add_virtual_size(request, image);
	return answer_json(request, 200, images);
}

static int check_platform(struct request *request, const char *name, struct gt_error *err)
{
	return gt_image_check_platform(gt_engine_images(request->api->engine), name, query_text(&request->query, "platform"), err);
}

HANDLER(serve_image_inspect)
{
	if (query_refuse(&request->query, NAMES("manifests"), err) < 0 || check_platform(request, req_segment(request, 0), err) < 0)
		return -1;
	json_t *image = gt_image_inspect(gt_engine_images(request->api->engine), req_segment(request, 0), err);
	add_virtual_size(request, image);
	return answer_json(request, 200, image);
}

HANDLER(serve_image_history)
{
	if (check_platform(request, req_segment(request, 0), err) < 0)
		return -1;
	return answer_json(request, 200, gt_image_history(gt_engine_images(request->api->engine), req_segment(request, 0), err));
}

HANDLER(serve_image_tag)
{
	const char *repo = query_text(&request->query, "repo");
	if (!repo)
		return gt_fail(err, GT_INVALID, "the query parameter repo is missing: name the new reference");
	if (gt_engine_image_tag(request->api->engine, req_segment(request, 0), repo, query_text(&request->query, "tag"), err) < 0)
		return -1;
	return answer_empty(request, 201);
}

HANDLER(serve_image_remove)
{
	const struct query *query = &request->query;
	if (query_refuse(query, NAMES("platforms"), err) < 0)
		return -1;
	return answer_json(request, 200,
			   gt_engine_image_remove(request->api->engine, req_segment(request, 0), query_bool(query, "force", false),
						  query_bool(query, "noprune", false), err));
}

HANDLER(serve_image_prune)
{
	AUTO_JSON json_t *filters = NULL;
	if (query_filters(&request->query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200, gt_engine_images_prune(request->api->engine, filters, err));
}

/* ---- out ---- */

static int save(struct request *request, struct gt_strings *names, struct gt_error *err)
{
	struct gt_stream *stream = NULL;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < names->count; i++)
		rc = check_platform(request, names->items[i], err);
	if (rc == 0)
		stream = gt_image_save(gt_engine_images(request->api->engine), names, err);
	gt_strings_free(names);
	return answer_stream_checked(request, "application/x-tar", stream, err);
}

HANDLER(serve_image_save)
{
	struct gt_strings names = { 0 };
	gt_strings_add(&names, req_segment(request, 0));
	return save(request, &names, err);
}

HANDLER(serve_image_save_many)
{
	struct gt_strings names = { 0 };
	query_list(&request->query, "names", &names);
	if (names.count == 0)
		return gt_fail(err, GT_INVALID, "the query parameter names is missing: name the images to save");
	return save(request, &names, err);
}

/* ---- in ---- */

static int load(struct request *request, int in_fd, struct gt_progress *progress, struct gt_error *err)
{
	return gt_engine_image_load(request->api->engine, in_fd, query_text(&request->query, "platform"), progress, err);
}

HANDLER(serve_image_load)
{
	return upload_begin(request, load, true, query_bool(&request->query, "quiet", false), err);
}

static int import(struct request *request, int in_fd, struct gt_progress *progress, struct gt_error *err)
{
	const struct query *query = &request->query;
	const char *source = query_text(query, "fromSrc");
	struct gt_strings changes = { 0 };
	char id[72];
	bool remote = strcmp(source, "-") != 0;
	AUTO_CLOSE int fetched = remote ? gt_engine_fetch_archive(request->api->engine, source, progress, err) : -1;
	if (remote && fetched < 0)
		return -1;
	AUTO_FREE char *from = gt_xasprintf("Imported from %s", source);
	const char *message = query_text(query, "message");
	query_list(query, "changes", &changes);
	int rc = gt_engine_image_import(request->api->engine, remote ? fetched : in_fd, query_text(query, "repo"), query_text(query, "tag"),
					message && message[0] ? message : from, &changes, query_text(query, "platform"), progress, id, err);
	gt_strings_free(&changes);
	return rc;
}

HANDLER(serve_image_create)
{
	const char *image = query_text(&request->query, "fromImage"), *source = query_text(&request->query, "fromSrc");
	if (image)
		return serve_image_pull(request, err);
	if (!source)
		return gt_fail(err, GT_INVALID, "one of the query parameters fromImage and fromSrc must be given");
	return upload_begin(request, import, true, false, err);
}
