/*
 * dockerfile_heredoc.c - which here-documents an instruction's words announce: [N]<<[-]NAME, where NAME may be quoted.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "build/dockerfile.h"

#define MAX_HEREDOCS 64
#define MAX_NAME 256

/* A word ends at a blank outside quotes. Returns its end. */
static const char *word_end(const char *p, char escape)
{
	char quote = '\0';
	for (; *p && (quote || !isspace((unsigned char)*p)); p++) {
		if (*p == escape && p[1] && quote != '\'')
			p++;
		else if (*p == quote)
			quote = '\0';
		else if (!quote && (*p == '"' || *p == '\''))
			quote = *p;
	}
	return p;
}

/* NAME without its quotes; *expand: it had none. False where it is no name. */
static bool take_name(const char *p, const char *end, char escape, struct gt_buf *name, bool *expand)
{
	char quote = '\0';
	*expand = true;
	for (; p < end; p++) {
		if (*p == '<' && !quote)
			return false;
		if (*p == quote) {
			quote = '\0';
		} else if (!quote && (*p == '"' || *p == '\'')) {
			quote = *p;
			*expand = false;
		} else if (*p == escape && p + 1 < end && quote != '\'') {
			*expand = false;
			gt_buf_char(name, *++p);
		} else {
			gt_buf_char(name, *p);
		}
	}
	return name->len > 0 && name->len <= MAX_NAME && !memchr(name->data, '/', name->len) && strcmp(name->data, ".") != 0 &&
	       strcmp(name->data, "..") != 0;
}

int heredocs_find(const char *args, char escape, struct instruction *item, bool **chomp, struct gt_error *err)
{
	for (const char *p = args; *p;) {
		while (isspace((unsigned char)*p))
			p++;
		const char *end = word_end(p, escape), *at = p;
		while (isdigit((unsigned char)*at))
			at++;
		p = end;
		if (at + 2 >= end || at[0] != '<' || at[1] != '<')
			continue;
		bool dash = at[2] == '-', expand;
		AUTO_BUF struct gt_buf name = { 0 };
		if (!take_name(at + 2 + dash, end, escape, &name, &expand))
			continue;
		if (item->heredoc_count == MAX_HEREDOCS)
			return gt_fail(err, GT_TOO_LARGE, "more than %d here-documents", MAX_HEREDOCS);
		item->heredocs = gt_xrealloc(item->heredocs, (item->heredoc_count + 1) * sizeof *item->heredocs);
		*chomp = gt_xrealloc(*chomp, (item->heredoc_count + 1) * sizeof **chomp);
		(*chomp)[item->heredoc_count] = dash;
		item->heredocs[item->heredoc_count++] = (struct heredoc){ .name = gt_buf_take(&name), .expand = expand };
	}
	return 0;
}
