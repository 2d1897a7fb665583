/* A Dockerfile: parsed, planned, its words expanded. */
#include "fuzz.h"

#include "build/internal.h"

static const char *value(const void *arg, const char *name, size_t len)
{
	(void)arg;
	return len == 1 ? "some value" : len > 6 ? NULL : name[0] == 'E' ? "" : "v*?[x]";
}

static void use_words(const char *text)
{
	struct gt_scope scope = { .value = value, .escape = '\\' };
	struct gt_strings words = { 0 };
	struct gt_error err = { 0 };
	AUTO_FREE char *whole = gt_words_value(&scope, text, &err);
	MUST(whole ? strlen(whole) <= GT_WORD_MAX : err.message[0] != '\0');
	AUTO_FREE char *expanded = gt_words_expand(&scope, text, &err);
	MUST(expanded ? strlen(expanded) <= GT_WORD_MAX : err.message[0] != '\0');
	gt_words_split(&scope, text, &words, &err);
	gt_strings_free(&words);
	struct gt_strings list = { 0 };
	gt_words_json(text, &list);
	gt_strings_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	struct dockerfile file = { 0 };
	struct plan plan = { 0 };
	AUTO_FREE char *text = text_of(data, size);
	if (dockerfile_parse("Dockerfile", text, strlen(text), &file, &err) < 0) {
		MUST(err.message[0]);
		return 0;
	}
	MUST(file.count <= DOCKERFILE_MAX_INSTRUCTIONS);
	for (size_t i = 0; i < file.count; i++) {
		MUST(file.items[i].line >= 1 && file.items[i].last_line >= file.items[i].line && (size_t)file.items[i].last_line <= file.line_count);
		use_words(file.items[i].args);
	}
	dockerfile_free(&file);
	struct gt_build_options options = { .dockerfile = "Dockerfile", .text = text, .text_len = strlen(text) };
	if (plan_make(&options, &plan, &err) == 0) {
		MUST(plan.count <= MAX_STAGES && plan.target < plan.count);
		plan_free(&plan);
	}
	return 0;
}
