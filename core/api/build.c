/*
 * build.c - POST /build and its cache. Parameters are those of the classic builder; what belongs to BuildKit alone is refused by name. Those that begin with
 * "gantry-" are an extension, as are POST /build/session and GET /build/files.
 */
#include <string.h>

#include "api/handlers.h"

static bool client_gone(void *arg)
{
	struct request *request = arg;
	return atomic_load(&request->api->stopping) || req_client_gone(request);
}

/* A parameter that is a JSON document; absent or empty leaves *value NULL. */
static int query_json(const struct query *query, const char *name, json_t **value, struct gt_error *err)
{
	const char *text = query_text(query, name);
	if (!text || strcmp(text, "null") == 0)
		return 0;
	*value = gt_json_parse(text, strlen(text), name, err);
	return *value ? 0 : -1;
}

static int query_object(const struct query *query, const char *name, json_t **value, struct gt_error *err)
{
	if (query_json(query, name, value, err) < 0)
		return -1;
	return !*value || json_is_object(*value) ? 0 : gt_fail(err, GT_INVALID, "%s is not a JSON object", name);
}

static int read_numbers(const struct query *query, struct gt_build_request *build, struct gt_error *err)
{
	const struct {
		const char *name;
		int64_t *slot;
	} numbers[] = { { "memory", &build->memory },         { "memswap", &build->memory_swap }, { "cpushares", &build->cpu_shares },
			{ "cpuperiod", &build->cpu_period }, { "cpuquota", &build->cpu_quota },  { "shmsize", &build->shm_size } };
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		if (query_int(query, numbers[i].name, numbers[i].slot, err) < 0)
			return -1;
	}
	return 0;
}

static int read_cache_from(const struct query *query, struct gt_strings *list, struct gt_error *err)
{
	AUTO_JSON json_t *names = NULL;
	if (query_json(query, "cachefrom", &names, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		if (!name)
			return gt_fail(err, GT_INVALID, "cachefrom is not a list of names");
		gt_strings_add(list, name);
	}
	return 0;
}

/* rm and forcerm say when containers of steps go: here they always do, as the client's default has it. */
static int read_request(struct request *request, struct gt_build_request *build, struct gt_error *err)
{
	const struct query *query = &request->query;
	const char *version = query_text(query, "version");
	if (version && strcmp(version, "1") != 0)
		return gt_fail(err, GT_UNSUPPORTED, "builder version %.20s is not supported: set DOCKER_BUILDKIT=0 to use the classic builder", version);
	if (query_refuse(query, NAMES("outputs", "session", "buildid"), err) < 0)
		return -1;
	if (query_text(query, "rm") && !query_bool(query, "rm", true) && !query_bool(query, "forcerm", false))
		return gt_fail(err, GT_UNSUPPORTED, "rm=0 is not supported: containers of a build do not outlive their step");
	query_list(query, "t", &build->tags);
	query_list(query, "extrahosts", &build->extra_hosts);
	build->dockerfile = query_text(query, "dockerfile");
	build->remote = query_text(query, "remote");
	build->session = query_text(query, "gantry-session");
	build->target = query_text(query, "target");
	build->platform = query_text(query, "platform");
	build->network = query_text(query, "networkmode");
	build->cpuset_cpus = query_text(query, "cpusetcpus");
	build->cpuset_mems = query_text(query, "cpusetmems");
	build->cgroup_parent = query_text(query, "cgroupparent");
	build->quiet = query_bool(query, "q", false);
	build->no_cache = query_bool(query, "nocache", false);
	build->pull = query_bool(query, "pull", false);
	build->squash = query_bool(query, "squash", false);
	build->cache_only = query_bool(query, "gantry-cache-only", false);
	if (header_json(request, "X-Registry-Config", &build->auths, err) < 0 || query_object(query, "buildargs", &build->build_args, err) < 0 || query_object(query, "labels", &build->labels, err) < 0 ||
	    query_json(query, "ulimits", &build->ulimits, err) < 0 || read_cache_from(query, &build->cache_from, err) < 0)
		return -1;
	return read_numbers(query, build, err);
}

static int build(struct request *request, int in_fd, struct gt_progress *progress, struct gt_error *err)
{
	struct gt_build_request build = { .gone = client_gone, .arg = request };
	int rc = read_request(request, &build, err);
	if (rc == 0)
		rc = gt_engine_build(request->api->engine, &build, in_fd, progress, err);
	gt_strings_free(&build.tags);
	gt_strings_free(&build.extra_hosts);
	gt_strings_free(&build.cache_from);
	json_decref(build.build_args);
	json_decref(build.labels);
	json_decref(build.ulimits);
	json_decref(build.auths);
	return rc;
}

HANDLER(serve_build)
{
	return upload_begin(request, build, true, false, err);
}

/* See engine/build_session.h. */
static int keep_session(struct request *request, int fd, struct gt_error *err)
{
	return gt_engine_build_session(request->api->engine, query_text(&request->query, "id"), fd, err);
}

HANDLER(serve_build_session)
{
	if (!query_text(&request->query, "id"))
		return gt_fail(err, GT_INVALID, "a build's session needs an id");
	return answer_hijack(request, true, keep_session, err);
}

/* All files of an image, of one in the cache as well: what --output writes. */
HANDLER(serve_build_files)
{
	const char *image = query_text(&request->query, "image");
	if (!image)
		return gt_fail(err, GT_INVALID, "the query parameter image is missing");
	return answer_stream_checked(request, "application/x-tar", gt_image_files(gt_engine_images(request->api->engine), image, err), err);
}

/* A classic build ends when its client hangs up. */
HANDLER(serve_build_cancel)
{
	(void)request;
	return gt_fail(err, GT_UNSUPPORTED, "cancelling a build by its id belongs to BuildKit: here a build ends when its client hangs up");
}

HANDLER(serve_build_prune)
{
	const struct query *query = &request->query;
	int64_t keep = 0;
	AUTO_JSON json_t *filters = NULL;
	if (query_int(query, "keep-storage", &keep, err) < 0 || query_int(query, "reserved-space", &keep, err) < 0 ||
	    query_refuse(query, NAMES("max-used-space", "min-free-space"), err) < 0 || query_filters(query, &filters, err) < 0)
		return -1;
	return answer_json(request, 200,
			   gt_engine_build_prune(request->api->engine, query_bool(query, "all", false), keep, filters, err));
}
