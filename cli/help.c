/*
 * help.c - --help, from the table of commands.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "command.h"

static int columns(void)
{
	struct winsize size;
	if (ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col >= 60)
		return size.ws_col;
	return 80;
}

/* Words wrapped to the width, lines after the first indented. */
static void print_wrapped(const char *text, int indent, int width)
{
	int at = indent;
	while (*text) {
		int len = (int)strcspn(text, " \n");
		if (at > indent && at + 1 + len > width) {
			printf("\n%*s", indent, "");
			at = indent;
		} else if (at > indent) {
			putchar(' ');
			at++;
		}
		printf("%.*s", len, text);
		at += len;
		text += len;
		if (*text == '\n') {
			printf("\n%*s", text[1] == '\n' ? 0 : indent, "");
			at = indent;
		}
		if (*text)
			text++;
	}
	putchar('\n');
}

static void flag_title(const struct flag *flag, struct gt_buf *out)
{
	const char *type = flag_type_name(flag);
	if (flag->letter)
		gt_buf_printf(out, "  -%c, --%s", flag->letter, flag->name);
	else
		gt_buf_printf(out, "      --%s", flag->name);
	if (type)
		gt_buf_printf(out, " %s", type);
}

static bool shown(const struct flag *flag)
{
	return !flag->hidden && !flag->refuse && !flag->alias;
}

static bool has_default(const struct flag *flag)
{
	return flag->initial && *flag->initial;
}

static void print_flags(const struct flag *flags)
{
	size_t widest = 0;
	for (const struct flag *flag = flags; flag->name; flag++) {
		AUTO_BUF struct gt_buf title = { 0 };
		flag_title(flag, &title);
		if (shown(flag) && title.len > widest)
			widest = title.len;
	}
	for (const struct flag *flag = flags; flag->name; flag++) {
		AUTO_BUF struct gt_buf title = { 0 }, doc = { 0 };
		if (!shown(flag))
			continue;
		flag_title(flag, &title);
		gt_buf_str(&doc, flag->doc);
		if (has_default(flag))
			gt_buf_printf(&doc, flag->type == FLAG_STRING ? " (default \"%s\")" : " (default %s)", flag->initial);
		printf("%-*s   ", (int)widest, title.data);
		print_wrapped(doc.data, (int)widest + 3, columns());
	}
}

static void print_aliases(const struct command *command)
{
	if (!command->aliases)
		return;
	printf("\nAliases:\n  gantry %s", command->path);
	for (const char *at = command->aliases; *at;) {
		size_t len = strcspn(at, ",");
		printf(", gantry %.*s", (int)len, at);
		at += len + (at[len] == ',');
	}
	putchar('\n');
}

void help_command(const struct command *command, const char *path)
{
	printf("Usage:  gantry %s %s\n\n%s\n", path, command->usage, command->summary);
	if (command->details) {
		putchar('\n');
		print_wrapped(command->details, 0, columns());
	}
	print_aliases(command);
	bool any = false;
	for (const struct flag *flag = command->flags; flag && flag->name; flag++)
		any |= shown(flag);
	if (any) {
		printf("\nOptions:\n");
		print_flags(command->flags);
	}
}

struct listing {
	bool families, common;          /* which part of the top level */
};

static bool is_common(const char *path)
{
	static const char *const common[] = { "run",	"exec",	 "ps",	   "build",  "pull",	"push",
					      "images", "login", "logout", "search", "version", "info" };
	for (size_t i = 0; i < GT_COUNT(common); i++) {
		if (strcmp(common[i], path) == 0)
			return true;
	}
	return false;
}

struct entry {
	const char *name;
	const char *summary;
};

struct entries {
	struct entry items[128];
	size_t count;
	const struct listing *listing;
};

static void add_entry(const struct command *command, const char *path, void *arg)
{
	struct entries *entries = arg;
	const struct listing *listing = entries->listing;
	if (listing && (listing->families != !command->run || (!listing->families && listing->common != is_common(path))))
		return;
	const char *space = strrchr(path, ' ');
	/* Further names below a family ("container ps") are not listed. */
	if (space && strcmp(path, command->path) != 0 && strncmp(path, command->path, (size_t)(space - path)) == 0)
		return;
	if (entries->count < GT_COUNT(entries->items))
		entries->items[entries->count++] = (struct entry){ gt_xstrdup(space ? space + 1 : path), command->summary };
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void print_entries(const char *title, const char *family, const struct listing *listing, bool sort)
{
	struct entries *entries = gt_xcalloc(1, sizeof *entries);
	entries->listing = listing;
	command_each(family, add_entry, entries);
	if (sort)
		qsort(entries->items, entries->count, sizeof entries->items[0], by_name);
	printf("\n%s:\n", title);
	for (size_t i = 0; i < entries->count; i++) {
		printf("  %-11s %s\n", entries->items[i].name, entries->items[i].summary);
		free((char *)(uintptr_t)entries->items[i].name);
	}
	free(entries);
}

void help_family(const char *family, const struct command *command)
{
	printf("Usage:  gantry %s COMMAND\n\n%s\n", family, command->summary);
	print_entries("Commands", family, NULL, true);
	printf("\nRun 'gantry %s COMMAND --help' for more information on a command.\n", family);
}

void help_top(void)
{
	static const struct listing common = { false, true }, families = { true, false }, rest = { false, false };
	printf("Usage:  gantry [OPTIONS] COMMAND\n\nRun and manage containers\n");
	print_entries("Common Commands", "", &common, false);
	print_entries("Management Commands", "", &families, true);
	print_entries("Commands", "", &rest, true);
	printf("\nGlobal Options:\n");
	print_flags(global_flags);
	printf("\nThe daemon is found by --host, GANTRY_HOST or DOCKER_HOST, else at unix:///run/gantry/gantry.sock.\n"
	       "\nRun 'gantry COMMAND --help' for more information on a command.\n");
}
