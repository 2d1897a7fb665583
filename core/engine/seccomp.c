/*
 * seccomp.c - which seccomp program a container gets, compiled once for each profile and set of capabilities.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "engine/seccomp.h"
#include "runtime/seccomp.h"

#define MAX_KEPT 32             /* then the cache begins anew: profiles are few */
#define MAX_PROFILE (1u << 20)

/* The file is part of the program: see the Makefile for its dependency. */
__asm__(".section .rodata\n"
	".global gt_seccomp_default_begin\n"
	"gt_seccomp_default_begin:\n"
	".incbin \"core/engine/seccomp-default.json\"\n"
	".global gt_seccomp_default_end\n"
	"gt_seccomp_default_end:\n"
	".byte 0\n"
	".previous\n");
extern const char gt_seccomp_default_begin[], gt_seccomp_default_end[];

struct kept {
	json_t *oci;
	struct gt_buf bpf;
};

struct gt_seccomp_cache {
	pthread_mutex_t lock;   /* guards all below */
	struct gt_map programs; /* "profile\ncapabilities" -> struct kept */
};

const char *gt_seccomp_default(size_t *len)
{
	*len = (uintptr_t)gt_seccomp_default_end - (uintptr_t)gt_seccomp_default_begin; /* two symbols, but one object */
	return gt_seccomp_default_begin;
}

int gt_seccomp_cache_new(struct gt_engine *engine, struct gt_error *err)
{
	(void)err;
	engine->seccomp = gt_xcalloc(1, sizeof *engine->seccomp);
	pthread_mutex_init(&engine->seccomp->lock, NULL);
	return 0;
}

static void drop_all(struct gt_seccomp_cache *cache)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&cache->programs, &i)) != NULL;) {
		struct kept *kept = slot->value;
		json_decref(kept->oci);
		gt_buf_free(&kept->bpf);
		free(kept);
	}
	gt_map_free(&cache->programs);
}

void gt_seccomp_cache_free(struct gt_engine *engine)
{
	if (!engine->seccomp)
		return;
	drop_all(engine->seccomp);
	pthread_mutex_destroy(&engine->seccomp->lock);
	free(engine->seccomp);
	engine->seccomp = NULL;
}

/* The host's own default, or the built-in one. */
static int read_default(struct gt_engine *engine, struct gt_buf *text, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	size_t len;
	if (config->seccomp_profile && config->seccomp_profile[0])
		return gt_read_file(AT_FDCWD, config->seccomp_profile, MAX_PROFILE, text, err);
	const char *built_in = gt_seccomp_default(&len);
	gt_buf_add(text, built_in, len);
	return 0;
}

static struct kept *compile(struct gt_engine *engine, const char *profile, const json_t *capabilities, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (profile)
		gt_buf_str(&text, profile);
	else if (read_default(engine, &text, err) < 0)
		return NULL;
	if (text.len > MAX_PROFILE)
		return gt_fail_null(err, GT_TOO_LARGE, "the seccomp profile has more than %u bytes", MAX_PROFILE);
	AUTO_JSON json_t *json = gt_json_parse(text.data, text.len, "seccomp profile", err);
	struct kept *kept = gt_xcalloc(1, sizeof *kept);
	kept->oci = json ? gt_seccomp_resolve(json, capabilities, err) : NULL;
	if (kept->oci && gt_seccomp_compile(kept->oci, &kept->bpf, err) == 0)
		return kept;
	json_decref(kept->oci);
	gt_buf_free(&kept->bpf);
	free(kept);
	return NULL;
}

int gt_engine_seccomp(struct gt_engine *engine, const char *profile, const json_t *capabilities, json_t **oci, struct gt_buf *bpf,
		      struct gt_error *err)
{
	struct gt_seccomp_cache *cache = engine->seccomp;
	AUTO_FREE char *caps = json_dumps(capabilities, JSON_COMPACT | JSON_ENCODE_ANY);
	AUTO_FREE char *key = gt_xasprintf("%s\n%s", profile ? profile : "", caps ? caps : "");
	LOCKED(&cache->lock);
	struct kept *kept = gt_map_get(&cache->programs, key);
	if (!kept) {
		kept = compile(engine, profile, capabilities, err);
		if (!kept)
			return -1;
		if (cache->programs.count >= MAX_KEPT)
			drop_all(cache);
		gt_map_set(&cache->programs, key, kept);
	}
	*oci = json_incref(kept->oci);
	gt_buf_add(bpf, kept->bpf.data, kept->bpf.len);
	return 0;
}
