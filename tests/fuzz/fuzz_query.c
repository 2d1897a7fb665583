/* A request's path and query, with every typed reader. */
#include "fuzz.h"

#include "api/query.h"
#include "api/router.h"

static void read_all(const struct query *query)
{
	struct gt_strings list = { 0 };
	int64_t number = 0, time = 0;
	unsigned rows, cols;
	json_t *filters = NULL;
	struct gt_error err = { 0 };
	for (size_t i = 0; i < query->count; i++) {
		const char *name = query->params[i].name;
		query_bool(query, name, true);
		query_int(query, name, &number, &err);
		query_time(query, name, &time, &err);
		query_list(query, name, &list);
		json_t *parsed = NULL;
		if (query_filters_parse(query->params[i].value, &parsed, &err) == 0 && parsed) {
			const char *key;
			json_t *values;
			json_object_foreach(parsed, key, values)
				MUST(json_is_array(values));
		}
		json_decref(parsed);
	}
	MUST(query->count <= GT_QUERY_MAX && list.count >= query->count);
	gt_strings_free(&list);
	query_size(query, &rows, &cols, &err);
	if (query_filters(query, &filters, &err) == 0)
		json_decref(filters);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const METHODS[] = { "GET", "POST", "DELETE", "HEAD", "PUT", "BREW" };
	struct gt_error err = { 0 };
	struct query query = { 0 };
	struct route_match match = { 0 };
	char allow[ROUTE_ALLOW_ROOM];
	if (size < 1)
		return 0;
	AUTO_FREE char *path = text_of(data + 1, size - 1);
	const char *mark = strchr(path, '?');
	if (query_parse(mark ? mark + 1 : NULL, &query, &err) == 0)
		read_all(&query);
	query_free(&query);
	if (route_find(METHODS[data[0] % GT_COUNT(METHODS)], path, &match, allow, &err) == 0)
		MUST(match.route);
	route_match_free(&match);
	return 0;
}
