/*
 * df.c - GET /system/df: what images, containers and volumes take up. Sizes are measured when asked, so this is slow and for people.
 */
#include <string.h>

#include "engine/internal.h"

static bool wanted(const struct gt_strings *types, const char *type)
{
	if (!types || !types->count)
		return true;
	for (size_t i = 0; i < types->count; i++) {
		if (strcmp(types->items[i], type) == 0)
			return true;
	}
	return false;
}

static int check_types(const struct gt_strings *types, struct gt_error *err)
{
	static const char *const KNOWN[] = { "container", "image", "volume", "build-cache" };
	for (size_t i = 0; types && i < types->count; i++) {
		size_t k = 0;
		while (k < GT_COUNT(KNOWN) && strcmp(types->items[i], KNOWN[k]))
			k++;
		if (k == GT_COUNT(KNOWN))
			return gt_fail(err, GT_INVALID, "unknown object type: %.64s; it is one of container, image, volume, build-cache", types->items[i]);
	}
	return 0;
}

/* The volumes' list with UsageData in each: users are counted by the volume itself. */
static json_t *volumes_with_usage(struct gt_engine *engine, struct gt_error *err)
{
	AUTO_JSON json_t *list = gt_volume_list(engine, NULL, err);
	if (!list)
		return NULL;
	json_t *volumes = json_incref(json_object_get(list, "Volumes"));
	size_t i;
	json_t *volume;
	json_array_foreach(volumes, i, volume) {
		json_t *usage = gt_volume_usage(engine, json_string_value(json_object_get(volume, "Name")));
		json_object_set_new(volume, "UsageData", usage);
	}
	return volumes;
}

json_t *gt_system_df(struct gt_engine *engine, const struct gt_strings *types, struct gt_error *err)
{
	if (check_types(types, err) < 0)
		return NULL;
	AUTO_JSON json_t *df = json_pack("{s:i s:n s:n s:n s:n}", "LayersSize", 0, "Images", "Containers", "Volumes", "BuildCache");
	if (wanted(types, "image")) {
		int64_t layers = 0;
		json_t *images = gt_images_usage(engine->images, &layers, err);
		if (!images)
			return NULL;
		json_object_set_new(df, "LayersSize", json_integer(layers));
		json_object_set_new(df, "Images", images);
	}
	if (wanted(types, "container")) {
		AUTO_BUF struct gt_buf list = { 0 };
		if (gt_container_list(engine, true, 0, true, NULL, &list, err) < 0)
			return NULL;
		json_t *containers = gt_json_parse(list.data, list.len, "the list of containers", err);
		if (!containers)
			return NULL;
		json_object_set_new(df, "Containers", containers);
	}
	if (wanted(types, "volume")) {
		json_t *volumes = volumes_with_usage(engine, err);
		if (!volumes)
			return NULL;
		json_object_set_new(df, "Volumes", volumes);
	}
	if (wanted(types, "build-cache"))
		json_object_set_new(df, "BuildCache", gt_engine_build_usage(engine));
	return take(df);
}
