/*
 * plan.c - from instructions to stages: what each begins with, which others it needs, and which of them lead to the target.
 *
 * Names of stages are known for the stages before alone, so there are no cycles. What triggers of a base image (ONBUILD) copy from is found
 * only as they run.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "build/internal.h"

/* ---- the global scope ---- */

static const char *host_architecture(void)
{
	struct utsname host;
	return uname(&host) == 0 && strcmp(host.machine, "aarch64") == 0 ? "arm64" : "amd64";
}

/* BUILDPLATFORM is this host, TARGETPLATFORM what --platform says. */
static int set_platforms(const struct gt_build_options *options, struct vars *global, struct gt_error *err)
{
	char os[16] = "linux", architecture[24], variant[16] = "";
	AUTO_FREE char *here = gt_xasprintf("linux/%s", host_architecture());
	const char *platform = options->platform && options->platform[0] ? options->platform : here;
	snprintf(architecture, sizeof architecture, "%s", host_architecture());
	if (strchr(platform, ',') || sscanf(platform, "%15[a-z0-9]/%23[a-z0-9_]/%15[a-z0-9]", os, architecture, variant) < 1)
		return gt_fail(err, GT_INVALID, "\"%.60s\" is not one platform (OS, OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT)", platform);
	if (strcmp(os, "linux") != 0)
		return gt_fail(err, GT_UNSUPPORTED, "operating system \"%s\" is not supported here, only linux", os);
	vars_set(global, "BUILDPLATFORM", here);
	vars_set(global, "BUILDOS", "linux");
	vars_set(global, "BUILDARCH", host_architecture());
	vars_set(global, "BUILDVARIANT", "");
	AUTO_FREE char *target = gt_xasprintf("%s/%s%s%s", os, architecture, variant[0] ? "/" : "", variant);
	vars_set(global, "TARGETPLATFORM", target);
	vars_set(global, "TARGETOS", os);
	vars_set(global, "TARGETARCH", architecture);
	vars_set(global, "TARGETVARIANT", variant);
	vars_set(global, "TARGETSTAGE", options->target && options->target[0] ? options->target : "default");
	return 0;
}

static const char *global_value(const void *arg, const char *name, size_t len)
{
	return vars_get(arg, name, len);
}

/* ---- stages ---- */

static char *lower(const char *text, size_t len)
{
	char *copy = gt_xstrndup(text, len);
	for (char *p = copy; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

int plan_find_stage(const struct plan *plan, const char *name, size_t before)
{
	AUTO_FREE char *wanted = lower(name, strlen(name));
	char *end;
	for (size_t i = before; i-- > 0;) {
		if (plan->stages[i].name && strcmp(plan->stages[i].name, wanted) == 0)
			return (int)i;
	}
	unsigned long number = isdigit((unsigned char)*name) ? strtoul(name, &end, 10) : before;
	return number < before && !*end ? (int)number : -1;
}

/* FROM [--platform=P] IMAGE [AS NAME] */
static int begin_stage(struct plan *plan, const struct gt_scope *scope, size_t at, struct gt_error *err)
{
	const struct instruction *item = &plan->file.items[at];
	if (plan->count == MAX_STAGES)
		return gt_fail(err, GT_TOO_LARGE, "more than %d stages", MAX_STAGES);
	plan->stages = gt_xrealloc(plan->stages, (plan->count + 1) * sizeof *plan->stages);
	struct stage *stage = &plan->stages[plan->count];
	*stage = (struct stage){ .index = plan->count, .first = at, .count = 1, .base = -1 };
	plan->count++;
	size_t len = strcspn(item->args, " \t");
	AUTO_FREE char *from = gt_xstrndup(item->args, len);
	const char *as = gt_skip_space(item->args + len), *platform = instruction_flag(item, "platform");
	stage->from = gt_words_value(scope, from, err);
	if (!stage->from)
		return -1;
	if (!stage->from[0])
		return gt_fail(err, GT_INVALID, "base name (%.100s) should not be blank", from);
	if (*as) {
		const char *name = gt_skip_space(as + 2);
		stage->name = lower(name, strcspn(name, " \t"));
	}
	if (platform && !(stage->platform = gt_words_value(scope, platform, err)))
		return -1;
	/* by name alone: "FROM 0" is an image */
	if (!isdigit((unsigned char)*stage->from))
		stage->base = plan_find_stage(plan, stage->from, stage->index);
	if (stage->base >= 0)
		stage->needs[stage->base] = true;
	return 0;
}

char *mount_option(const char *mount, const char *name)
{
	size_t len = strlen(name);
	for (const char *p = mount; *p;) {
		size_t part = strcspn(p, ",");
		if (part > len && strncasecmp(p, name, len) == 0 && p[len] == '=')
			return gt_xstrndup(p + len + 1, part - len - 1);
		p += part + (p[part] == ',');
	}
	return NULL;
}

static void note_need(struct plan *plan, struct stage *stage, const char *name)
{
	int other = name ? plan_find_stage(plan, name, stage->index) : -1;
	if (other >= 0)
		stage->needs[other] = true;
}

static void note_needs(struct plan *plan, struct stage *stage, const struct instruction *item)
{
	if (item->keyword == KW_COPY)
		note_need(plan, stage, instruction_flag(item, "from"));
	for (size_t i = 0; item->keyword == KW_RUN && i < item->flag_count; i++) {
		if (strcmp(item->flags[i].name, "mount") != 0)
			continue;
		AUTO_FREE char *from = mount_option(item->flags[i].value, "from");
		note_need(plan, stage, from);
	}
}

static int read_stages(const struct gt_build_options *options, struct plan *plan, struct gt_error *err)
{
	struct gt_scope scope = { global_value, &plan->global, plan->file.escape };
	for (size_t i = 0; i < plan->file.count; i++) {
		const struct instruction *item = &plan->file.items[i];
		int rc = 0;
		if (item->keyword == KW_FROM) {
			rc = begin_stage(plan, &scope, i, err);
		} else if (plan->count == 0) {
			rc = arg_apply(options, &scope, item->args, NULL, &plan->global, err);
		} else {
			struct stage *stage = &plan->stages[plan->count - 1];
			stage->count++;
			note_needs(plan, stage, item);
		}
		if (rc < 0)
			return dockerfile_blame(&plan->file, item->line, err);
	}
	return 0;
}

static int find_target(const struct gt_build_options *options, struct plan *plan, struct gt_error *err)
{
	plan->target = plan->count - 1;
	if (!options->target || !options->target[0])
		return 0;
	int found = plan_find_stage(plan, options->target, plan->count);
	if (found < 0)
		return gt_fail(err, GT_INVALID, "failed to reach build target %.100s in Dockerfile", options->target);
	plan->target = (size_t)found;
	return 0;
}

/* ---- --build-arg that nothing takes ---- */

static void take_args(struct plan *plan, const struct instruction *item)
{
	for (const char *p = gt_skip_space(item->args); *p; p = gt_skip_space(p + strcspn(p, " \t"))) {
		AUTO_FREE char *name = gt_xstrndup(p, strcspn(p, "= \t"));
		json_object_del(plan->unused_args, name);
	}
}

static void note_unused_args(const struct gt_build_options *options, struct plan *plan)
{
	static const char *const always[] = { "SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
					      "BUILDKIT_DOCKERFILE_CHECK" };
	const char *name;
	json_t *value;
	plan->unused_args = json_object();
	json_object_foreach((json_t *)options->build_args, name, value) {
		if (!arg_is_proxy(name))
			json_object_set(plan->unused_args, name, value);
	}
	for (size_t i = 0; i < GT_COUNT(always); i++)
		json_object_del(plan->unused_args, always[i]);
	for (size_t i = 0; i < plan->file.count; i++) {
		if (plan->file.items[i].keyword == KW_ARG)
			take_args(plan, &plan->file.items[i]);
	}
}

/* ---- the whole ---- */

int plan_make(const struct gt_build_options *options, struct plan *plan, struct gt_error *err)
{
	*plan = (struct plan){ 0 };
	if (dockerfile_parse(options->dockerfile, options->text, options->text_len, &plan->file, err) < 0)
		return -1;
	if (dockerfile_lint(options, &plan->file, err) < 0 || set_platforms(options, &plan->global, err) < 0 || read_stages(options, plan, err) < 0 ||
	    find_target(options, plan, err) < 0) {
		plan_free(plan);
		return -1;
	}
	plan->stages[plan->target].needed = true;
	for (size_t i = plan->target + 1; i-- > 0;) {
		for (size_t k = 0; plan->stages[i].needed && k < i; k++)
			plan->stages[k].needed |= plan->stages[i].needs[k];
	}
	for (size_t i = 0; i <= plan->target; i++) {
		plan->stages[i].first_step = plan->steps + 1;
		plan->steps += plan->stages[i].needed ? (int)plan->stages[i].count : 0;
	}
	plan->steps += json_object_size(options->labels) ? 1 : 0;
	note_unused_args(options, plan);
	return 0;
}

void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		struct stage *stage = &plan->stages[i];
		free(stage->name);
		free(stage->from);
		free(stage->platform);
		gt_json_release(gt_image_config_fields, &stage->config);
		vars_free(&stage->args);
	}
	free(plan->stages);
	vars_free(&plan->global);
	json_decref(plan->unused_args);
	dockerfile_free(&plan->file);
	*plan = (struct plan){ 0 };
}
