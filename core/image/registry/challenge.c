/*
 * challenge.c - WWW-Authenticate (RFC 9110, section 11): several challenges in one header or several, parameters as tokens or quoted strings.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "registry.h"

#define TOKEN_CHARS "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

void challenge_free(struct challenge *challenge)
{
	free(challenge->realm);
	free(challenge->service);
	free(challenge->scope);
	free(challenge->error);
	*challenge = (struct challenge){ 0 };
}

/* "text with \" in it" or a token; *text moves behind it. NULL where neither stands there. */
static char *take_value(const char **text)
{
	struct gt_buf out = { 0 };
	const char *p = *text;
	if (*p != '"') {
		size_t len = strspn(p, TOKEN_CHARS "/:=?");
		*text = p + len;
		return len ? gt_xstrndup(p, len) : NULL;
	}
	for (p++; *p && *p != '"' && *p != '\n'; p++) {
		if (*p == '\\' && p[1] && p[1] != '\n')
			p++;
		gt_buf_char(&out, *p);
	}
	if (*p != '"') {
		gt_buf_free(&out);
		return NULL;
	}
	*text = p + 1;
	return gt_buf_take(&out);
}

static void set_parameter(struct challenge *challenge, const char *name, size_t len, char *value)
{
	const struct {
		const char *name;
		char **slot;
	} known[] = { { "realm", &challenge->realm }, { "service", &challenge->service }, { "scope", &challenge->scope },
		      { "error", &challenge->error } };
	for (size_t i = 0; i < GT_COUNT(known); i++) {
		if (strlen(known[i].name) == len && strncasecmp(known[i].name, name, len) == 0 && !*known[i].slot) {
			*known[i].slot = value;
			return;
		}
	}
	free(value);
}

static void finish(struct challenge *found, struct challenge *best)
{
	bool better = found->scheme > best->scheme && (found->scheme != SCHEME_BEARER || found->realm);
	if (better) {
		challenge_free(best);
		*best = *found;
	} else {
		challenge_free(found);
	}
	*found = (struct challenge){ 0 };
}

/* One line. A word that "=" does not follow begins a challenge. */
static void parse_line(const char *p, struct challenge *best)
{
	struct challenge found = { 0 };
	for (;;) {
		p += strspn(p, " \t,");
		size_t len = strspn(p, TOKEN_CHARS);
		if (len == 0)
			break;
		const char *word = p;
		p += len;
		p += strspn(p, " \t");
		if (*p == '=') {
			p++;
			p += strspn(p, " \t");
			char *value = take_value(&p);
			if (!value)
				break;
			set_parameter(&found, word, len, value);
			continue;
		}
		finish(&found, best);
		found.scheme = len == 6 && strncasecmp(word, "bearer", 6) == 0 ? SCHEME_BEARER :
			       len == 5 && strncasecmp(word, "basic", 5) == 0  ? SCHEME_BASIC :
										 SCHEME_NONE;
	}
	finish(&found, best);
}

void challenge_parse(const char *headers, struct challenge *challenge)
{
	*challenge = (struct challenge){ 0 };
	for (const char *line = headers; line && *line;) {
		size_t len = strcspn(line, "\n");
		AUTO_FREE char *copy = gt_xstrndup(line, len);
		parse_line(copy, challenge);
		line += len + (line[len] == '\n');
	}
}
