/*
 * reference.c - image references: the distribution project's grammar, and Docker's familiar names on top of it.
 *
 *   reference = [domain "/"] path [":" tag] ["@" digest]
 *   domain    = host [":" port], host of DNS labels, or "[" IPv6 "]"
 *   path      = component {"/" component}, component = [a-z0-9]+ {("." | "_" | "__" | "-"+) [a-z0-9]+}
 *   tag       = [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
 *
 * "busybox" is docker.io/library/busybox. Pure functions on text; thread safe.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define NAME_MAX_LEN 255
#define TAG_MAX_LEN 128
#define DIGEST_MAX_LEN 256
#define REFERENCE_MAX_LEN (NAME_MAX_LEN + 256 + TAG_MAX_LEN + DIGEST_MAX_LEN)
#define DEFAULT_DOMAIN "docker.io"
#define OFFICIAL "library/"

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool is_component(const char *text, size_t len)
{
	size_t i = 0;
	while (i < len && is_lower_alnum(text[i]))
		i++;
	if (i == 0)
		return false;
	while (i < len) {
		size_t separator = i;
		if (text[i] == '.') {
			i++;
		} else if (text[i] == '_') {
			i += i + 1 < len && text[i + 1] == '_' ? 2 : 1;
		} else {
			while (i < len && text[i] == '-')
				i++;
		}
		size_t word = i;
		while (i < len && is_lower_alnum(text[i]))
			i++;
		if (word == separator || i == word)
			return false;
	}
	return true;
}

static bool is_path(const char *text)
{
	for (;;) {
		size_t len = strcspn(text, "/");
		if (!is_component(text, len))
			return false;
		if (!text[len])
			return true;
		text += len + 1;
	}
}

static bool is_label(const char *text, size_t len)
{
	if (len == 0 || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_alnum(text[i]) && text[i] != '-')
			return false;
	}
	return true;
}

static bool is_domain(const char *text)
{
	size_t host = strcspn(text, ":");
	if (text[0] == '[') {
		host = strspn(text + 1, "0123456789abcdefABCDEF:") + 1;
		if (host < 3 || text[host] != ']')
			return false;
		host++;
	} else {
		for (size_t at = 0; at <= host;) {
			size_t len = strcspn(text + at, ".:");
			if (!is_label(text + at, len))
				return false;
			at += len + 1;
		}
	}
	if (text[host] == '\0')
		return true;
	size_t port = strspn(text + host + 1, "0123456789");
	return text[host] == ':' && port > 0 && text[host + 1 + port] == '\0';
}

static bool is_tag(const char *text)
{
	size_t len = strlen(text);
	if (len == 0 || len > TAG_MAX_LEN || (!is_alnum(text[0]) && text[0] != '_'))
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!is_alnum(text[i]) && text[i] != '_' && text[i] != '.' && text[i] != '-')
			return false;
	}
	return true;
}

bool digest_is_valid(const char *text)
{
	return strncmp(text, "sha256:", 7) == 0 && gt_is_hex(text + 7, 64);
}

static int invalid(struct gt_error *err, const char *text, const char *why)
{
	return gt_fail(err, GT_INVALID, "invalid reference format: %s (\"%.100s\")", why, text);
}

/* Docker's rule for what is a domain: the part before the first "/" with a dot, a colon or an upper-case letter in it, or "localhost". */
static bool looks_like_domain(const char *text, size_t len)
{
	if (len == 9 && memcmp(text, "localhost", 9) == 0)
		return true;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' || text[i] == ':' || isupper((unsigned char)text[i]))
			return true;
	}
	return false;
}

static int take_suffixes(char *name, struct gt_reference *reference, const char *text, struct gt_error *err)
{
	char *at = strchr(name, '@');
	if (at) {
		*at = '\0';
		if (!digest_is_valid(at + 1))
			return invalid(err, text, "the digest must be sha256: and 64 hex digits");
		reference->digest = gt_xstrdup(at + 1);
	}
	char *slash = strrchr(name, '/'), *colon = strrchr(name, ':');
	if (colon && (!slash || colon > slash)) {
		*colon = '\0';
		if (!is_tag(colon + 1))
			return invalid(err, text, "a tag is 1 to 128 letters, digits, \"_\", \".\" and \"-\"");
		reference->tag = gt_xstrdup(colon + 1);
	}
	return 0;
}

static int split_name(const char *name, struct gt_reference *reference, const char *text, struct gt_error *err)
{
	const char *slash = strchr(name, '/');
	const char *path = name;
	if (slash && looks_like_domain(name, (size_t)(slash - name))) {
		reference->domain = gt_xstrndup(name, (size_t)(slash - name));
		path = slash + 1;
	} else {
		reference->domain = gt_xstrdup(DEFAULT_DOMAIN);
	}
	if (strcmp(reference->domain, "index.docker.io") == 0) {
		free(reference->domain);
		reference->domain = gt_xstrdup(DEFAULT_DOMAIN);
	}
	bool official = strcmp(reference->domain, DEFAULT_DOMAIN) == 0 && !strchr(path, '/');
	reference->path = gt_xasprintf("%s%s", official ? OFFICIAL : "", path);
	if (!is_domain(reference->domain))
		return invalid(err, text, "the registry's name is not a host name");
	for (const char *p = path; *p; p++) {
		if (isupper((unsigned char)*p))
			return invalid(err, text, "repository name must be lowercase");
	}
	if (!is_path(reference->path))
		return invalid(err, text, "a repository is lower-case words joined by \".\", \"_\", \"-\" and \"/\"");
	if (strlen(reference->path) > NAME_MAX_LEN)
		return invalid(err, text, "repository name must not be more than 255 characters");
	return 0;
}

int gt_reference_parse(const char *text, struct gt_reference *reference, struct gt_error *err)
{
	*reference = (struct gt_reference){ 0 };
	if (text[0] == '\0')
		return gt_fail(err, GT_INVALID, "invalid reference format: the reference is empty");
	if (strnlen(text, REFERENCE_MAX_LEN + 1) > REFERENCE_MAX_LEN)
		return invalid(err, text, "it is too long");
	if (gt_is_id(text))
		return gt_fail(err, GT_INVALID, "invalid repository name (%s), cannot specify 64-byte hexadecimal strings", text);
	AUTO_FREE char *name = gt_xstrdup(text);
	if (take_suffixes(name, reference, text, err) < 0 || split_name(name, reference, text, err) < 0) {
		gt_reference_free(reference);
		return -1;
	}
	return 0;
}

void gt_reference_free(struct gt_reference *reference)
{
	free(reference->domain);
	free(reference->path);
	free(reference->tag);
	free(reference->digest);
	*reference = (struct gt_reference){ 0 };
}

/* What a reader takes for granted is left out, unless the rest would then be read as something else: "docker.io/a.b/c" is not "a.b/c". */
static void add_repository(const struct gt_reference *reference, struct gt_buf *out)
{
	const char *path = reference->path, *slash = strchr(path, '/');
	if (strcmp(reference->domain, DEFAULT_DOMAIN) != 0 || (slash && looks_like_domain(path, (size_t)(slash - path))))
		gt_buf_printf(out, "%s/", reference->domain);
	else if (strncmp(path, OFFICIAL, sizeof OFFICIAL - 1) == 0 && !strchr(path + sizeof OFFICIAL - 1, '/') && !gt_is_id(path + sizeof OFFICIAL - 1))
		path += sizeof OFFICIAL - 1;
	gt_buf_str(out, path);
}

char *gt_reference_familiar(const struct gt_reference *reference, bool default_tag)
{
	struct gt_buf out = { 0 };
	add_repository(reference, &out);
	if (reference->tag || (default_tag && !reference->digest))
		gt_buf_printf(&out, ":%s", reference->tag ? reference->tag : "latest");
	if (reference->digest)
		gt_buf_printf(&out, "@%s", reference->digest);
	return gt_buf_take(&out);
}

char *reference_repository(const struct gt_reference *reference)
{
	struct gt_buf out = { 0 };
	add_repository(reference, &out);
	return gt_buf_take(&out);
}

char *reference_key(const struct gt_reference *reference)
{
	if (reference->digest)
		return gt_xasprintf("%s/%s@%s", reference->domain, reference->path, reference->digest);
	return gt_xasprintf("%s/%s:%s", reference->domain, reference->path, reference->tag ? reference->tag : "latest");
}

char *reference_key_familiar(const char *key)
{
	struct gt_reference reference;
	if (gt_reference_parse(key, &reference, NULL) < 0)
		return gt_xstrdup(key);
	char *text = gt_reference_familiar(&reference, false);
	gt_reference_free(&reference);
	return text;
}
