/*
 * stage.c - one stage: what it begins with, then its steps in order.
 */
#include <stdlib.h>
#include <string.h>

#include "build/internal.h"

void run_say(struct run *run, const char *fmt, ...)
{
	AUTO_BUF struct gt_buf text = { 0 };
	va_list ap;
	va_start(ap, fmt);
	gt_buf_vprintf(&text, fmt, ap);
	va_end(ap);
	output_bytes(&run->build->output, run->stage->index, text.data ? text.data : "", text.len);
}

/* ---- images ---- */

struct pull_progress {
	struct gt_progress base;
	struct run *run;
};

static void pull_emit(void *arg, json_t *message)
{
	struct pull_progress *pull = arg;
	output_message(&pull->run->build->output, pull->run->stage->index, json_incref(message));
}

static bool pull_cancelled(void *arg)
{
	return build_stopped(((struct pull_progress *)arg)->run->build);
}

static int check_platform(const char *name, const char *platform, const struct gt_image *image, struct gt_error *err)
{
	char os[16], architecture[24] = "", variant[16] = "";
	if (!platform || !platform[0] || sscanf(platform, "%15[^/]/%23[^/]/%15s", os, architecture, variant) < 1)
		return 0;
	bool same = strcmp(os, image->os[0] ? image->os : "linux") == 0 && (!architecture[0] || strcmp(architecture, image->architecture) == 0) &&
		    (!variant[0] || strcmp(variant, image->variant) == 0);
	return same ? 0 :
		      gt_fail(err, GT_NOT_FOUND, "image with reference %s was found but does not match the specified platform: wanted %s, actual: %s/%s",
			      name, platform, image->os, image->architecture);
}

/* Whether the image here is one of the wished platform. */
static bool is_platform(const char *platform, const struct gt_image *image)
{
	return check_platform("", platform, image, NULL) == 0;
}

int find_or_pull(struct run *run, const char *name, const char *platform, bool always, struct gt_image *image, struct gt_error *err)
{
	struct build *build = run->build;
	struct pull_progress pull = { .run = run };
	pull.base = (struct gt_progress){ .emit = pull_emit, .arg = &pull, .cancelled = pull_cancelled };
	struct gt_error absent = { 0 };
	bool by_id = gt_is_id_prefix(strncmp(name, "sha256:", 7) == 0 ? name + 7 : name);
	bool here = gt_image_find(build->images, name, image, &absent) == 0;
	if (!here && absent.kind != GT_NOT_FOUND) {
		if (err)
			*err = absent;
		return -1;
	}
	if (!here || (!by_id && (always || !is_platform(platform, image)))) {
		gt_image_free(image);
		if (build->host->pull(build->host->arg, name, platform, &pull.base, err) < 0 ||
		    gt_image_find(build->images, name, image, err) < 0)
			return -1;
	}
	if (check_platform(name, platform, image, err) < 0)
		return -1;
	return gt_image_hold_for(build->images, image->id, build->options->holder, err);
}

int resolve_from(struct run *run, const char *name, char id[72], struct gt_error *err)
{
	struct plan *plan = &run->build->plan;
	struct gt_image image = { 0 };
	int stage = plan_find_stage(plan, name, run->stage->index);
	if (stage >= 0 && !run->stage->needs[stage])
		return gt_fail(err, GT_UNSUPPORTED, "a trigger of the base image copies from stage \"%.60s\", which was not planned", name);
	if (stage >= 0) {
		snprintf(id, 72, "%s", plan->stages[stage].image);
		return id[0] ? 0 : gt_fail(err, GT_INVALID, "stage \"%.60s\" has no files", name);
	}
	const struct gt_build_options *options = run->build->options;
	int rc = find_or_pull(run, name, options->platform, options->pull, &image, err);
	if (rc == 0)
		memcpy(id, image.id, 72);
	gt_image_free(&image);
	return rc < 0 ? gt_context(err, "invalid from flag value %.100s", name) : 0;
}

/* ---- FROM ---- */

static int copy_config(struct gt_image_config *to, const struct gt_image_config *from)
{
	AUTO_JSON json_t *json = gt_json_encode(gt_image_config_fields, from);
	return gt_json_decode(json, gt_image_config_fields, to, NULL);
}

static int begin_with_image(struct run *run, struct gt_error *err)
{
	const struct gt_build_options *options = run->build->options;
	const char *platform = run->stage->platform && run->stage->platform[0] ? run->stage->platform : options->platform;
	struct gt_image image = { 0 };
	int rc = find_or_pull(run, run->stage->from, platform, options->pull, &image, err);
	if (rc == 0) {
		memcpy(run->image, image.id, sizeof image.id);
		memcpy(run->root, image.id, sizeof image.id);
		rc = copy_config(&run->config, &image.config);
	}
	gt_image_free(&image);
	return rc;
}

static int begin(struct run *run, struct gt_error *err)
{
	const struct stage *stage = run->stage;
	if (stage->base >= 0) {
		const struct stage *base = &run->build->plan.stages[stage->base];
		memcpy(run->image, base->image, sizeof run->image);
		memcpy(run->root, base->root, sizeof run->root);
		vars_copy(&run->args, &base->args);
		copy_config(&run->config, &base->config);
	} else if (strcmp(stage->from, "scratch") == 0) {
		run_say(run, " --->\n");
		return 0;
	} else if (begin_with_image(run, err) < 0) {
		return -1;
	}
	run_say(run, " ---> %.12s\n", run->image[0] ? run->image + 7 : "");
	return 0;
}

/* ---- configuration ---- */

/* The config after the instruction is what counts; nothing is run and no layer made. */
static int step_config(struct run *run, struct gt_error *err)
{
	struct gt_scope scope = run_scope(run);
	AUTO_FREE char *text = gt_xasprintf("%s %s", keyword_name(run->item->keyword), run->item->args);
	bool empty_list = !run->item->args[0];
	if (empty_list && run->item->keyword == KW_CMD) {
		gt_strings_free(&run->config.cmd);
		run->config.cmd_changed = true;
	} else if (empty_list && run->item->keyword == KW_ENTRYPOINT) {
		gt_strings_free(&run->config.entrypoint);
	} else if (gt_image_config_apply(&run->config, &scope, text, err) < 0) {
		return -1;
	}
	AUTO_FREE char *created_by = gt_xasprintf("/bin/sh -c #(nop)  %s", run->item->shown);
	AUTO_FREE char *config = config_text(&run->config);
	struct gt_image_step step = step_begin(run, created_by);
	step_key(run, step.key, created_by, config, NULL);
	return step_do(run, &step, err);
}

static int step_maintainer(struct run *run, struct gt_error *err)
{
	free(run->maintainer);
	run->maintainer = gt_xstrdup(run->item->args);
	run->author = run->maintainer;
	AUTO_FREE char *created_by = gt_xasprintf("/bin/sh -c #(nop)  %s", run->item->shown);
	struct gt_image_step step = step_begin(run, created_by);
	step_key(run, step.key, created_by, NULL);
	return step_do(run, &step, err);
}

static int step_arg(struct run *run, struct gt_error *err)
{
	struct gt_scope scope = run_scope(run);
	if (arg_apply(run->build->options, &scope, run->item->args, &run->build->plan.global, &run->args, err) < 0)
		return -1;
	if (!run->image[0])
		return 0; /* from scratch: nothing to stand on yet, and nothing to record */
	AUTO_FREE char *created_by = gt_xasprintf("/bin/sh -c #(nop)  %s", run->item->shown);
	struct gt_image_step step = step_begin(run, created_by);
	step_key(run, step.key, created_by, NULL);
	return step_do(run, &step, err);
}

static int do_step(struct run *run, struct gt_error *err)
{
	switch (run->item->keyword) {
	case KW_FROM:
		return begin(run, err);
	case KW_ARG:
		return step_arg(run, err);
	case KW_MAINTAINER:
		return step_maintainer(run, err);
	case KW_ADD:
	case KW_COPY:
		return step_copy(run, err);
	case KW_WORKDIR:
		return step_workdir(run, err);
	case KW_RUN:
		return step_run(run, err);
	default:
		return step_config(run, err);
	}
}

/* ---- the stage ---- */

/* What ONBUILD of the base image says, as if it stood behind FROM. */
static int run_triggers(struct run *run, struct gt_error *err)
{
	struct gt_strings triggers = run->config.on_build;
	int rc = 0;
	run->config.on_build = (struct gt_strings){ 0 };
	if (triggers.count)
		run_say(run, "# Executing %zu build trigger%s\n", triggers.count, triggers.count == 1 ? "" : "s");
	for (size_t i = 0; rc == 0 && i < triggers.count && !build_stopped(run->build); i++) {
		struct dockerfile file;
		const struct dockerfile *own = run->file;
		rc = dockerfile_parse_trigger(triggers.items[i], '\\', &file, err);
		if (rc < 0)
			break;
		run->file = &file;
		run->item = &file.items[0];
		rc = do_step(run, err);
		run->file = own;
		dockerfile_free(&file);
	}
	gt_strings_free(&triggers);
	return rc;
}

static int run_step(struct run *run, const struct instruction *item, struct gt_error *err)
{
	run->item = item;
	run_say(run, "Step %d/%d : %s\n", run->step++, run->build->plan.steps, item->shown);
	int rc = do_step(run, err);
	if (rc == 0 && item->keyword == KW_FROM)
		rc = run_triggers(run, err);
	if (rc == 0 && build_stopped(run->build))
		rc = gt_fail(err, GT_CANCELLED, "the build was stopped");
	return rc < 0 && err->kind != GT_CANCELLED ? dockerfile_blame(run->file, item->line, err) : rc;
}

/* --label: one more step at the end of the target. */
static int add_labels(struct run *run, struct gt_error *err)
{
	const struct build *build = run->build;
	AUTO_BUF struct gt_buf text = { 0 };
	const char *key;
	json_t *value;
	if (run->stage->index != build->plan.target || json_object_size(build->options->labels) == 0)
		return 0;
	gt_buf_str(&text, "LABEL");
	if (!json_is_object(run->config.labels)) {
		json_decref(run->config.labels);
		run->config.labels = json_object();
	}
	json_object_foreach((json_t *)build->options->labels, key, value) {
		if (!json_is_string(value))
			return gt_fail(err, GT_INVALID, "labels: the value of %.60s is not a string", key);
		json_object_set(run->config.labels, key, value);
		gt_buf_printf(&text, " %s=%s", key, json_string_value(value));
	}
	run_say(run, "Step %d/%d : %s\n", run->step++, build->plan.steps, text.data);
	AUTO_FREE char *created_by = gt_xasprintf("/bin/sh -c #(nop)  %s", text.data);
	AUTO_FREE char *config = config_text(&run->config);
	struct gt_image_step step = step_begin(run, created_by);
	step_key(run, step.key, created_by, config, NULL);
	return step_do(run, &step, err);
}

int stage_build(struct build *build, struct stage *stage, struct gt_error *err)
{
	struct run run = { .build = build, .stage = stage, .file = &build->plan.file, .step = stage->first_step,
			   .architecture = vars_get(&build->plan.global, "TARGETARCH", 10),
			   .variant = vars_get(&build->plan.global, "TARGETVARIANT", 13) };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < stage->count; i++)
		rc = run_step(&run, &build->plan.file.items[stage->first + i], err);
	if (rc == 0)
		rc = add_labels(&run, err);
	memcpy(stage->image, run.image, sizeof stage->image);
	memcpy(stage->root, run.root, sizeof stage->root);
	stage->config = run.config;
	stage->args = run.args;
	free(run.maintainer);
	return rc;
}
