/*
 * chain.c - the plugins of a configuration, one after another. Each gets its own part of the configuration, with the list's name and version, what the one before it
 * answered (prevResult), and those capability arguments (runtimeConfig) that it declares.
 */
#include "cni.h"

#include <string.h>
#include <time.h>

#define SECOND 1000000000ll
#define UNDO_NS (8 * SECOND)

int64_t chain_now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static const json_t *conf_of(const struct attachment *at)
{
	return json_object_get(at->record, "conf");
}

static bool has_turn(const struct attachment *at, enum which which, size_t index)
{
	return which == BOTH || conf_is_port_mapper(conf_of(at), index) == (which == MAPPERS);
}

/* What plugin `index` reads. prev: NULL for none. */
static json_t *config_for(const struct attachment *at, size_t index, const json_t *prev)
{
	const json_t *conf = conf_of(at), *plugin = json_array_get(json_object_get(conf, "plugins"), index);
	json_t *config = json_deep_copy(plugin), *args = json_object(), *value;
	const char *key;
	json_object_set(config, "name", json_object_get(conf, "name"));
	json_object_set(config, "cniVersion", json_object_get(conf, "cniVersion"));
	json_object_foreach(json_object_get(at->record, "args"), key, value) {
		if (conf_has_capability(plugin, key))
			json_object_set(args, key, value);
	}
	if (json_object_size(args))
		json_object_set(config, "runtimeConfig", args);
	if (json_is_object(prev))
		json_object_set(config, "prevResult", (json_t *)(uintptr_t)prev);
	json_decref(args);
	return config;
}

static int run_one(const struct attachment *at, const char *command, size_t index, const json_t *prev, json_t **output, struct gantry_error *err)
{
	const json_t *plugin = json_array_get(json_object_get(conf_of(at), "plugins"), index);
	json_t *config = config_for(at, index, prev);
	int rc = exec_plugin(at, command, json_string_value(json_object_get(plugin, "type")), config, output, err);
	json_decref(config);
	return rc;
}

int chain_add(const struct attachment *at, enum which which, json_t **result, struct gantry_error *err)
{
	json_t *prev = json_incref(json_object_get(at->record, "result"));
	size_t count = json_array_size(json_object_get(conf_of(at), "plugins"));
	for (size_t i = 0; i < count; i++) {
		json_t *output = NULL;
		if (!has_turn(at, which, i))
			continue;
		if (run_one(at, "ADD", i, prev, &output, err) < 0) {
			json_decref(prev);
			return -1;
		}
		json_decref(prev);
		prev = output;
	}
	if (result)
		*result = prev;
	else
		json_decref(prev);
	return 0;
}

/* The result comes along from 0.4.0 on. */
int chain_del(const struct attachment *at, enum which which, struct gantry_error *err)
{
	struct gantry_error why = { .size = sizeof why };
	const json_t *prev = conf_at_least(conf_of(at), 0, 4) ? json_object_get(at->record, "result") : NULL;
	int rc = 0;
	for (size_t i = json_array_size(json_object_get(conf_of(at), "plugins")); i-- > 0;) {
		if (!has_turn(at, which, i) || run_one(at, "DEL", i, prev, NULL, &why) == 0)
			continue;
		if (rc == 0) {
			memcpy(err->message, why.message, sizeof err->message);
			err->kind = why.kind;
			err->errnum = why.errnum;
		}
		rc = -1;
	}
	return rc;
}

int chain_undo(const struct attachment *at, enum which which, struct gantry_error *err)
{
	struct gantry_call call = { .size = sizeof call, .id = at->call->id };
	struct attachment undo = *at;
	undo.call = &call;
	undo.until = chain_now() + UNDO_NS;
	return chain_del(&undo, which, err);
}

int chain_check(const struct attachment *at, enum which which, struct gantry_error *err)
{
	const json_t *conf = conf_of(at), *prev = json_object_get(at->record, "result");
	size_t count = json_array_size(json_object_get(conf, "plugins"));
	if (!conf_at_least(conf, 0, 4) || json_is_true(json_object_get(conf, "disableCheck")))
		return 0;
	for (size_t i = 0; i < count; i++) {
		if (has_turn(at, which, i) && run_one(at, "CHECK", i, prev, NULL, err) < 0)
			return -1;
	}
	return 0;
}

static bool speaks(const json_t *versions, const char *version)
{
	size_t i;
	json_t *entry;
	json_array_foreach(versions, i, entry) {
		if (json_is_string(entry) && strcmp(json_string_value(entry), version) == 0)
			return true;
	}
	return false;
}

int chain_versions(const struct attachment *at, struct gantry_error *err)
{
	const json_t *conf = conf_of(at);
	const char *version = json_string_value(json_object_get(conf, "cniVersion"));
	json_t *plugin, *config = json_pack("{s:s}", "cniVersion", version);
	size_t i;
	int rc = 0;
	json_array_foreach(json_object_get(conf, "plugins"), i, plugin) {
		const char *type = json_string_value(json_object_get(plugin, "type"));
		json_t *output = NULL;
		rc = exec_plugin(at, "VERSION", type, config, &output, err);
		if (rc == 0 && !speaks(json_object_get(output, "supportedVersions"), version))
			rc = gantry_fail(err, GANTRY_E_UNSUPPORTED, "network %.64s: the CNI plugin %.64s does not speak version %.16s, which its CNI configuration has (cniVersion)",
					 at->network, type, version);
		json_decref(output);
		if (rc < 0)
			break;
	}
	json_decref(config);
	return rc;
}

int chain_gc(const struct attachment *at, const json_t *keep, struct gantry_error *err)
{
	const json_t *conf = conf_of(at);
	size_t i;
	json_t *plugin;
	int rc = 0;
	if (!conf_at_least(conf, 1, 1) || json_is_true(json_object_get(conf, "disableGC")))
		return 0;
	json_array_foreach(json_object_get(conf, "plugins"), i, plugin) {
		json_t *config = config_for(at, i, NULL);
		json_object_set(config, "cni.dev/valid-attachments", (json_t *)(uintptr_t)keep);
		rc |= exec_plugin(at, "GC", json_string_value(json_object_get(plugin, "type")), config, NULL, err);
		json_decref(config);
	}
	return rc < 0 ? -1 : 0;
}
