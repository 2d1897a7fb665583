/*
 * inspect.c - GET /containers/{id}/json.
 */
#include <string.h>

#include "engine/apparmor.h"
#include "engine/config_check.h"
#include "engine/internal.h"

static json_t *text(const char *value)
{
	return json_string(value ? value : "");
}

/* With the container's lock held. */
static json_t *state_of(const struct gt_container *ctr)
{
	char started[36], finished[36];
	bool running = ctr->status == GT_RUNNING || ctr->status == GT_PAUSED || ctr->status == GT_RESTARTING;
	gt_time_format(ctr->started, started);
	gt_time_format(ctr->finished, finished);
	json_t *state = json_pack("{s:s s:b s:b s:b s:b s:b s:i s:i s:o s:s s:s}", "Status", gt_status_name(ctr->status), "Running", running, "Paused",
				  ctr->status == GT_PAUSED, "Restarting", ctr->status == GT_RESTARTING, "OOMKilled", ctr->oom, "Dead",
				  ctr->status == GT_DEAD, "Pid", (int)ctr->pid, "ExitCode", running ? 0 : ctr->exit_code, "Error", text(ctr->error),
				  "StartedAt", started, "FinishedAt", finished);
	if (ctr->health)
		json_object_set(state, "Health", ctr->health);
	return state;
}

static json_t *exec_ids(struct gt_container *ctr)
{
	AUTO_JSON json_t *ids = gt_exec_ids(ctr);
	return json_array_size(ids) ? json_incref(ids) : json_null();
}

static json_t *config_of(const struct gt_container *ctr)
{
	json_t *config = gt_json_encode(gt_container_config_fields, &ctr->config);
	if (!json_is_object(json_object_get(config, "Labels")))
		json_object_set_new(config, "Labels", json_object());
	return config;
}

static void add_sizes(struct gt_container *ctr, json_t *inspect)
{
	struct gantry_usage usage = { .size = sizeof usage, .bytes = -1 };
	struct gt_image image = { 0 };
	int64_t below = 0;
	if (ctr->image_id && gt_image_find(ctr->engine->images, ctr->image_id, &image, NULL) == 0)
		below = image.size;
	gt_image_free(&image);
	gt_layer_usage(gt_images_storage(ctr->engine->images), ctr->id, &usage, NULL);
	int64_t own = usage.bytes > 0 ? usage.bytes : 0;
	json_object_set_new(inspect, "SizeRw", json_integer(own));
	json_object_set_new(inspect, "SizeRootFs", json_integer(own + below));
}

/* Borrowed from the configuration; NULL where AppArmor is off. */
static const char *apparmor_of(const struct gt_container *ctr)
{
	struct security security;
	return config_read_security(&ctr->config.host.security_opt, &security, NULL) == 0 ? gt_apparmor_profile(&ctr->config.host, &security) : NULL;
}

json_t *gt_container_inspect(struct gt_engine *engine, const char *ref, bool size, struct gt_error *err)
{
	char created[36];
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return NULL;
	gt_time_format(ctr->created, created);
	AUTO_JSON json_t *networks = gt_endpoints_settings(ctr);
	AUTO_JSON json_t *mounts = gt_mounts_inspect(ctr);
	AUTO_JSON json_t *links = links_to_json(ctr);
	AUTO_JSON json_t *execs = exec_ids(ctr);
	pthread_mutex_lock(&ctr->lock);
	json_t *inspect =
		json_pack("{s:s s:s s:s s:o s:o s:o s:s+ s:s+ s:s+ s:o s:s+ s:I s:s s:s s:s s:s s:o}", "Id", ctr->id, "Created", created, "Path", ctr->path,
			  "Args", gt_strings_to_json(&ctr->args), "State", state_of(ctr), "Image", text(ctr->image_id), "ResolvConfPath", ctr->dir,
			  "/resolv.conf", "HostnamePath", ctr->dir, "/hostname", "HostsPath", ctr->dir, "/hosts", "LogPath", text(ctr->log_path), "Name",
			  "/", ctr->name, "RestartCount", (json_int_t)ctr->restart_count, "Driver",
			  gt_driver_name(gt_images_storage(engine->images)), "Platform", "linux", "MountLabel", "", "ProcessLabel", "", "AppArmorProfile",
			  text(apparmor_of(ctr)));
	json_t *host = gt_json_encode(gt_host_config_fields, &ctr->config.host);
	json_t *config = config_of(ctr);
	pthread_mutex_unlock(&ctr->lock);
	if (!inspect) {
		json_decref(host);
		json_decref(config);
		return gt_fail_null(err, GT_INTERNAL, "container %s cannot be described as JSON", ctr->id);
	}
	json_object_set(inspect, "ExecIDs", execs);
	json_object_set(host, "Links", links);
	json_object_set_new(inspect, "HostConfig", host);
	json_object_set_new(inspect, "GraphDriver", gt_image_graph_driver(engine->images, ctr->id, true));
	json_object_set(inspect, "Mounts", mounts);
	json_object_set_new(inspect, "Config", config);
	json_object_set(inspect, "NetworkSettings", networks);
	if (size)
		add_sizes(ctr, inspect);
	return inspect;
}
