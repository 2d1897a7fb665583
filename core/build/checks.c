/*
 * checks.c - what Docker's documentation calls build checks: a Dockerfile that works, and yet will surprise somebody.
 *
 * "# check=skip=RULE,RULE;error=true" or BUILDKIT_DOCKERFILE_CHECK chooses. Each finding is a warning "NAME:LINE: RULE: text"; with error=true the build fails
 * for them. Rules that need the base image's environment (UndefinedVar) or descriptions in comments (InvalidDefinitionDescription) are not there; to
 * skip them is no mistake.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/ignore.h"
#include "build/internal.h"

#define MAX_FINDINGS 200

enum rule {
	CASING_STAGE, CASING_AS, CASING_KEYWORD, CASING_PROTOCOL, EMPTY_CONTINUATION, DUPLICATE_STAGE, RESERVED_STAGE, JSON_ARGS, MAINTAINER, UNDEFINED_FROM,
	DEFAULT_FROM, RELATIVE_WORKDIR, MULTIPLE, LEGACY_FORMAT, REDUNDANT_PLATFORM, CONSTANT_PLATFORM, SECRETS, IGNORED_COPY, INVALID_EXPOSE, RULE_COUNT
};

static const char *const names[RULE_COUNT] = {
	[CASING_STAGE] = "StageNameCasing", [CASING_AS] = "FromAsCasing", [CASING_KEYWORD] = "ConsistentInstructionCasing",
	[CASING_PROTOCOL] = "ExposeProtoCasing", [EMPTY_CONTINUATION] = "NoEmptyContinuation", [DUPLICATE_STAGE] = "DuplicateStageName",
	[RESERVED_STAGE] = "ReservedStageName", [JSON_ARGS] = "JSONArgsRecommended", [MAINTAINER] = "MaintainerDeprecated",
	[UNDEFINED_FROM] = "UndefinedArgInFrom", [DEFAULT_FROM] = "InvalidDefaultArgInFrom", [RELATIVE_WORKDIR] = "WorkdirRelativePath",
	[MULTIPLE] = "MultipleInstructionsDisallowed", [LEGACY_FORMAT] = "LegacyKeyValueFormat", [REDUNDANT_PLATFORM] = "RedundantTargetPlatform",
	[CONSTANT_PLATFORM] = "FromPlatformFlagConstDisallowed", [SECRETS] = "SecretsUsedInArgOrEnv", [IGNORED_COPY] = "CopyIgnoredFile",
	[INVALID_EXPOSE] = "ExposeInvalidFormat",
};
static const char *const unknown[] = { "UndefinedVar", "InvalidDefinitionDescription" };

struct checks {
	const struct gt_build_options *options;
	struct dockerfile *file;
	bool skip[RULE_COUNT], error;
	struct gt_buf broken;           /* rules that were, for the error */
	size_t findings;
	/* of the stage at hand */
	bool shell, absolute;           /* SHELL, an absolute WORKDIR came */
	const struct instruction *last[KW_COUNT];
	struct gt_strings stages;       /* names so far, lower case */
};

/* ---- what is wanted ---- */

static int skip_rule(struct checks *checks, const char *name, struct gt_error *err)
{
	bool all = strcasecmp(name, "all") == 0, known = all;
	for (size_t i = 0; i < RULE_COUNT; i++) {
		if (all || strcasecmp(name, names[i]) == 0)
			known = checks->skip[i] = true;
	}
	for (size_t i = 0; i < GT_COUNT(unknown); i++)
		known |= strcasecmp(name, unknown[i]) == 0;
	return known ? 0 : gt_fail(err, GT_INVALID, "check: there is no rule \"%.60s\"", name);
}

/* "skip=A,B;error=true" */
static int read_choice(struct checks *checks, const char *text, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(text);
	for (char *rest = copy, *part; (part = strsep(&rest, ";")) != NULL;) {
		char *value = strchr(part, '=');
		if (!value)
			return gt_fail(err, GT_INVALID, "check: \"%.60s\" is not skip=RULE,... or error=true", part);
		*value++ = '\0';
		if (strcasecmp(part, "error") == 0) {
			checks->error = strcasecmp(value, "true") == 0;
			if (!checks->error && strcasecmp(value, "false") != 0)
				return gt_fail(err, GT_INVALID, "check: error=%.40s is neither true nor false", value);
		} else if (strcasecmp(part, "skip") == 0) {
			for (char *name; (name = strsep(&value, ",")) != NULL;) {
				if (*name && skip_rule(checks, name, err) < 0)
					return -1;
			}
		} else if (strcasecmp(part, "experimental") != 0) { /* rules of that kind are not there */
			return gt_fail(err, GT_INVALID, "check: \"%.60s\" is not skip, error or experimental", part);
		}
	}
	return 0;
}

static void tell(struct checks *checks, enum rule rule, int line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void tell(struct checks *checks, enum rule rule, int line, const char *fmt, ...)
{
	AUTO_BUF struct gt_buf text = { 0 };
	va_list ap;
	if (checks->skip[rule] || ++checks->findings > MAX_FINDINGS)
		return;
	gt_buf_printf(&text, "%s:%d: %s: ", checks->file->name, line, names[rule]);
	va_start(ap, fmt);
	gt_buf_vprintf(&text, fmt, ap);
	va_end(ap);
	gt_strings_add(&checks->file->warnings, text.data);
	if (!checks->broken.data || !strstr(checks->broken.data, names[rule]))
		gt_buf_printf(&checks->broken, "%s%s", checks->broken.len ? ", " : "", names[rule]);
}

/* ---- FROM ---- */

static void check_stage_name(struct checks *checks, const struct instruction *item, const char *name)
{
	AUTO_FREE char *lower = gt_xstrdup(name);
	for (char *p = lower; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (strcmp(lower, name) != 0)
		tell(checks, CASING_STAGE, item->line, "Stage name '%.60s' should be lowercase", name);
	if (strcmp(lower, "scratch") == 0 || strcmp(lower, "context") == 0)
		tell(checks, RESERVED_STAGE, item->line, "Stage name should not use the same name as reserved stage \"%s\"", lower);
	for (size_t i = 0; i < checks->stages.count; i++) {
		if (strcmp(checks->stages.items[i], lower) == 0)
			tell(checks, DUPLICATE_STAGE, item->line, "Duplicate stage name \"%.60s\", stage names should be unique", name);
	}
	gt_strings_add(&checks->stages, lower);
}

/* Whether the global scope has an ARG of that name, and that a default. */
static bool global_arg(const struct checks *checks, const char *name, size_t len, bool *has_default)
{
	static const char *const given[] = { "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT", "TARGETPLATFORM", "TARGETOS",
					     "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE" };
	*has_default = true;
	for (size_t i = 0; i < GT_COUNT(given); i++) {
		if (strlen(given[i]) == len && strncmp(given[i], name, len) == 0)
			return true;
	}
	for (size_t i = 0; i < checks->file->count && checks->file->items[i].keyword == KW_ARG; i++) {
		for (const char *p = gt_skip_space(checks->file->items[i].args); *p; p = gt_skip_space(p + strcspn(p, " \t"))) {
			if (strncmp(p, name, len) != 0 || (p[len] != '=' && p[len] && !isspace((unsigned char)p[len])))
				continue;
			*has_default = p[len] == '=' && p[len + 1] && !isspace((unsigned char)p[len + 1]);
			return true;
		}
	}
	return false;
}

/* Every $NAME and ${NAME...} of the text. */
static void check_from_variables(struct checks *checks, const struct instruction *item, const char *text, size_t text_len)
{
	for (const char *p = text; p < text + text_len; p++) {
		if (*p != '$')
			continue;
		const char *name = p + 1 + (p[1] == '{');
		size_t len = 0;
		bool has_default;
		while (isalnum((unsigned char)name[len]) || name[len] == '_')
			len++;
		bool modified = p[1] == '{' && name[len] != '}';
		if (len == 0 || modified)
			continue;
		if (!global_arg(checks, name, len, &has_default))
			tell(checks, UNDEFINED_FROM, item->line, "FROM argument '%.*s' is not declared", (int)len, name);
		else if (!has_default && text == item->args)
			tell(checks, DEFAULT_FROM, item->line, "Default value for ARG %.*s results in empty or invalid base image name", (int)text_len, text);
	}
}

static void check_platform_flag(struct checks *checks, const struct instruction *item)
{
	const char *platform = instruction_flag(item, "platform");
	if (!platform)
		return;
	if (strcmp(platform, "$TARGETPLATFORM") == 0 || strcmp(platform, "${TARGETPLATFORM}") == 0)
		tell(checks, REDUNDANT_PLATFORM, item->line,
		     "Setting platform to predefined %s in FROM is redundant as this is the default behavior", platform);
	else if (!strchr(platform, '$'))
		tell(checks, CONSTANT_PLATFORM, item->line, "FROM --platform flag should not use constant value \"%.60s\"", platform);
	check_from_variables(checks, item, platform, strlen(platform));
}

/* The instruction's own word, as it was written; as it is called where a continued line begins with nothing. */
static const char *written(const struct checks *checks, const struct instruction *item, size_t *len)
{
	const char *word = gt_skip_space(checks->file->lines[item->line - 1]), *name = keyword_name(item->keyword);
	*len = strlen(name);
	return strncasecmp(word, name, *len) == 0 ? word : name;
}

static void check_from(struct checks *checks, const struct instruction *item)
{
	size_t len = strcspn(item->args, " \t"), word_len;
	const char *as = gt_skip_space(item->args + len), *from = written(checks, item, &word_len);
	checks->shell = checks->absolute = false;
	memset(checks->last, 0, sizeof checks->last);
	for (size_t i = 0; i < checks->stages.count; i++) /* what that stage has set is known to its author */
		checks->absolute |= strlen(checks->stages.items[i]) == len && strncasecmp(checks->stages.items[i], item->args, len) == 0;
	check_from_variables(checks, item, item->args, len);
	check_platform_flag(checks, item);
	if (!*as)
		return;
	if (isupper((unsigned char)from[0]) != isupper((unsigned char)as[0]) || isupper((unsigned char)as[0]) != isupper((unsigned char)as[1]))
		tell(checks, CASING_AS, item->line, "'%.2s' and '%.4s' keywords' casing do not match", as, from);
	check_stage_name(checks, item, gt_skip_space(as + 2));
}

/* ---- other instructions ---- */

static bool is_secret_name(const char *name, size_t len)
{
	static const char *const words[] = { "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token" };
	AUTO_FREE char *copy = gt_xstrndup(name, len);
	bool secret = false;
	for (char *rest = copy, *part; (part = strsep(&rest, "_-")) != NULL;) {
		if (strcasecmp(part, "public") == 0)
			return false;
		for (size_t i = 0; i < GT_COUNT(words); i++)
			secret |= strcasecmp(part, words[i]) == 0;
	}
	return secret;
}

/* ARG and ENV: names of each pair. */
static void check_names(struct checks *checks, const struct instruction *item)
{
	for (const char *p = item->args; *p;) {
		p = gt_skip_space(p);
		size_t len = strcspn(p, "= \t");
		if (is_secret_name(p, len))
			tell(checks, SECRETS, item->line, "Do not use ARG or ENV instructions for sensitive data (%s \"%.*s\")", keyword_name(item->keyword),
			     (int)(len < 60 ? len : 60), p);
		if (p[len] != '=' && item->keyword == KW_ENV)
			return; /* the old form: the rest is its value */
		p += len;
		for (char quote = '\0'; *p && (quote || !isspace((unsigned char)*p)); p++) {
			if (*p == checks->file->escape && p[1])
				p++;
			else if (*p == quote)
				quote = '\0';
			else if (!quote && (*p == '"' || *p == '\''))
				quote = *p;
		}
	}
}

static void check_format(struct checks *checks, const struct instruction *item)
{
	size_t len = strcspn(item->args, "= \t\"'");
	if (item->args[len] == ' ' || item->args[len] == '\t')
		tell(checks, LEGACY_FORMAT, item->line, "\"%s key=value\" should be used instead of legacy \"%s key value\" format",
		     keyword_name(item->keyword), keyword_name(item->keyword));
}

static void check_command(struct checks *checks, const struct instruction *item)
{
	struct gt_strings list = { 0 };
	if (item->keyword != KW_HEALTHCHECK && !checks->shell && item->args[0] && !gt_words_json(item->args, &list))
		tell(checks, JSON_ARGS, item->line, "JSON arguments recommended for %s to prevent unintended behavior related to OS signals",
		     keyword_name(item->keyword));
	gt_strings_free(&list);
	const struct instruction *before = checks->last[item->keyword];
	if (before)
		tell(checks, MULTIPLE, before->line,
		     "Multiple %s instructions should not be used in the same stage because only the last one will be used", keyword_name(item->keyword));
	checks->last[item->keyword] = item;
}

static void check_workdir(struct checks *checks, const struct instruction *item)
{
	bool absolute = item->args[0] == '/' || item->args[0] == '$' || item->args[0] == '"';
	if (!absolute && !checks->absolute)
		tell(checks, RELATIVE_WORKDIR, item->line, "Relative workdir \"%.60s\" can have unexpected results if the base image changes", item->args);
	checks->absolute |= absolute;
}

static void check_expose(struct checks *checks, const struct instruction *item)
{
	for (const char *p = gt_skip_space(item->args); *p; p = gt_skip_space(p + strcspn(p, " \t"))) {
		size_t len = strcspn(p, " \t");
		const char *slash = memchr(p, '/', len);
		if (memchr(p, ':', len) && !memchr(p, '$', len))
			tell(checks, INVALID_EXPOSE, item->line, "EXPOSE instruction should not define an IP address or host-port mapping, found '%.*s'",
			     (int)(len < 60 ? len : 60), p);
		for (const char *q = slash; q && q < p + len; q++) {
			if (!isupper((unsigned char)*q) || memchr(p, '$', len))
				continue;
			tell(checks, CASING_PROTOCOL, item->line, "Defined protocol '%.*s' in EXPOSE instruction should be lowercase",
			     (int)(p + len - slash - 1), slash + 1);
			break;
		}
	}
}

/* Sources of the context that .dockerignore leaves out. */
static void check_sources(struct checks *checks, const struct instruction *item, const struct ignore *ignore)
{
	struct gt_strings words = { 0 };
	if (instruction_flag(item, "from") || ignore->patterns.count == 0)
		return;
	if (!gt_words_json(item->args, &words)) {
		for (const char *p = gt_skip_space(item->args); *p; p = gt_skip_space(p + strcspn(p, " \t"))) {
			AUTO_FREE char *word = gt_xstrndup(p, strcspn(p, " \t"));
			gt_strings_add(&words, word);
		}
	}
	for (size_t i = 0; i + 1 < words.count; i++) {
		const char *path = words.items[i];
		while (*path == '/' || (path[0] == '.' && path[1] == '/'))
			path++;
		if (*path && !strpbrk(path, "*?[$<") && !strstr(path, "://") && ignore_matches(ignore, path))
			tell(checks, IGNORED_COPY, item->line, "Attempting to %s file \"%.100s\" that is excluded by .dockerignore",
			     item->keyword == KW_COPY ? "Copy" : "Add", path);
	}
	gt_strings_free(&words);
}

static void check_one(struct checks *checks, const struct instruction *item, const struct ignore *ignore)
{
	switch (item->keyword) {
	case KW_FROM:
		check_from(checks, item);
		break;
	case KW_MAINTAINER:
		tell(checks, MAINTAINER, item->line, "Maintainer instruction is deprecated in favor of using label");
		break;
	case KW_ENV:
		check_format(checks, item);
		check_names(checks, item);
		break;
	case KW_ARG:
		check_names(checks, item);
		break;
	case KW_LABEL:
		check_format(checks, item);
		break;
	case KW_CMD:
	case KW_ENTRYPOINT:
	case KW_HEALTHCHECK:
		check_command(checks, item);
		break;
	case KW_SHELL:
		checks->shell = true;
		break;
	case KW_WORKDIR:
		check_workdir(checks, item);
		break;
	case KW_EXPOSE:
		check_expose(checks, item);
		break;
	case KW_COPY:
	case KW_ADD:
		check_sources(checks, item, ignore);
		break;
	default:
		break;
	}
}

/* Instructions are all upper case, or all lower case. */
static void check_casing(struct checks *checks)
{
	size_t upper = 0, lower = 0, len;
	for (int pass = 0; pass < 2; pass++) {
		bool to_upper = upper >= lower;
		for (size_t i = 0; i < checks->file->count; i++) {
			const struct instruction *item = &checks->file->items[i];
			const char *word = written(checks, item, &len);
			size_t big = 0;
			for (size_t k = 0; k < len; k++)
				big += isupper((unsigned char)word[k]) != 0;
			upper += pass == 0 && big == len;
			lower += pass == 0 && big == 0;
			if (pass == 1 && big != (to_upper ? len : 0))
				tell(checks, CASING_KEYWORD, item->line, "Command '%.*s' should match the case of the command majority (%s)", (int)len, word,
				     to_upper ? "uppercase" : "lowercase");
		}
	}
}

int dockerfile_lint(const struct gt_build_options *options, struct dockerfile *file, struct gt_error *err)
{
	struct checks checks = { .options = options, .file = file };
	struct ignore ignore = { 0 };
	const char *asked = json_string_value(json_object_get(options->build_args, "BUILDKIT_DOCKERFILE_CHECK"));
	if ((file->check && read_choice(&checks, file->check, err) < 0) || (asked && asked[0] && read_choice(&checks, asked, err) < 0))
		return -1;
	for (size_t i = 0; options->ignore && i < options->ignore->count; i++)
		ignore_add(&ignore, options->ignore->items[i]);
	for (size_t i = 0; i < file->empty_count; i++)
		tell(&checks, EMPTY_CONTINUATION, file->empty_lines[i], "Empty continuation lines will become errors in a future release");
	check_casing(&checks);
	for (size_t i = 0; i < file->count; i++)
		check_one(&checks, &file->items[i], &ignore);
	int rc = 0;
	if (checks.error && checks.findings > 0) {
		AUTO_BUF struct gt_buf text = { 0 };
		for (size_t i = 0; i < file->warnings.count && text.len < 600; i++)
			gt_buf_printf(&text, "\n%s", file->warnings.items[i]);
		rc = gt_fail(err, GT_INVALID, "%s: lint violation found for rules: %s%s", file->name, checks.broken.data, text.data ? text.data : "");
	}
	gt_strings_free(&checks.stages);
	gt_buf_free(&checks.broken);
	ignore_free(&ignore);
	return rc;
}
