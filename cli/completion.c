/*
 * completion.c - completion scripts from the table of commands.
 *
 * Commands and flags are written into the script; names of containers, images, volumes, networks and plugins are asked of gantry
 * when they are wanted.
 */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "other.h"

static const char *operand_query(enum operand operand)
{
	switch (operand) {
	case OPERAND_CONTAINER: return "ps -a --format '{{.Names}}'";
	case OPERAND_RUNNING: return "ps --format '{{.Names}}'";
	case OPERAND_IMAGE: return "images --format '{{.Repository}}:{{.Tag}}'";
	case OPERAND_VOLUME: return "volume ls -q";
	case OPERAND_NETWORK: return "network ls --format '{{.Name}}'";
	case OPERAND_PLUGIN: return "plugin ls --format '{{.Name}}'";
	default: return "";
	}
}

static void print_word(const struct command *command, const char *path, void *arg)
{
	const char *space = strrchr(path, ' ');
	(void)command;
	(void)arg;
	printf("%s ", space ? space + 1 : path);
}

static void print_flag_words(const struct flag *flags)
{
	for (; flags && flags->name; flags++) {
		if (flags->hidden || flags->refuse || flags->alias)
			continue;
		printf("--%s ", flags->name);
		if (flags->letter)
			printf("-%c ", flags->letter);
	}
}

/* ---- bash ---- */

static void bash_command(const struct command *command, const char *path, void *arg)
{
	(void)arg;
	if (!command->run) {
		printf("\t\t\"%s\") words=\"", path);
		command_each(path, print_word, NULL);
		puts("\" ;;");
		command_each(path, bash_command, NULL);
		return;
	}
	printf("\t\t\"%s\") flags=\"--help ", path);
	print_flag_words(command->flags);
	printf("\"; query=\"%s\" ;;\n", operand_query(command->operand));
}

static void print_bash(void)
{
	puts("# bash completion for gantry\n_gantry() {\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} path= word i=1 words= flags= query=\n"
	     "\twhile [ $i -lt $COMP_CWORD ]; do\n"
	     "\t\tword=${COMP_WORDS[i]}\n"
	     "\t\tcase $word in\n"
	     "\t\t-H|--host|--config|--tlscacert|--tlscert|--tlskey) i=$((i+1)) ;;\n"
	     "\t\t-*) ;;\n"
	     "\t\t*) case $path in");
	fputs("\t\t\t\"\") path=$word ;;\n\t\t\t", stdout);
	const char *bar = "";
	for (const struct command *command = commands; command->path; command++) {
		if (!command->run) {
			printf("%s%s", bar, command->path);
			bar = "|";
		}
	}
	puts(") path=\"$path $word\" ;;\n\t\t\tesac ;;\n\t\tesac\n\t\ti=$((i+1))\n\tdone\n\tcase $path in");
	fputs("\t\t\"\") words=\"", stdout);
	command_each("", print_word, NULL);
	fputs("\"; flags=\"", stdout);
	print_flag_words(global_flags);
	puts("\" ;;");
	command_each("", bash_command, NULL);
	puts("\tesac\n"
	     "\tif [[ $cur == -* ]]; then\n"
	     "\t\tCOMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
	     "\telif [ -n \"$words\" ]; then\n"
	     "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	     "\telif [ -n \"$query\" ]; then\n"
	     "\t\tCOMPREPLY=($(compgen -W \"$(eval \"gantry $query\" 2>/dev/null)\" -- \"$cur\") $(compgen -f -- \"$cur\"))\n"
	     "\telse\n"
	     "\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n"
	     "\tfi\n"
	     "}\ncomplete -o filenames -F _gantry gantry");
}

/* ---- zsh: the same function through its bash emulation ---- */

static void print_zsh(void)
{
	puts("#compdef gantry\nautoload -U +X bashcompinit && bashcompinit");
	print_bash();
}

/* ---- fish ---- */

/* In single quotes. */
static void print_quoted(const char *text)
{
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
	putchar('\'');
}

static void fish_condition(const char *path)
{
	const char *space = strchr(path, ' ');
	if (!space)
		printf("complete -c gantry -f -n '__fish_seen_subcommand_from %s' ", path);
	else
		printf("complete -c gantry -f -n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from "
		       "%s' ",
		       (int)(space - path), path, space + 1);
}

static void fish_command(const struct command *command, const char *path, void *arg)
{
	const char *space = strchr(path, ' ');
	(void)arg;
	if (!space)
		printf("complete -c gantry -f -n __fish_use_subcommand -a %s -d ", path);
	else
		printf("complete -c gantry -f -n '__fish_seen_subcommand_from %.*s' -a %s -d ", (int)(space - path),
		       path, space + 1);
	print_quoted(command->summary);
	putchar('\n');
	if (!command->run) {
		command_each(path, fish_command, NULL);
		return;
	}
	for (const struct flag *flag = command->flags; flag && flag->name; flag++) {
		if (flag->hidden || flag->refuse || flag->alias)
			continue;
		fish_condition(path);
		printf("-l %s ", flag->name);
		if (flag->letter)
			printf("-s %c ", flag->letter);
		if (flag->type != FLAG_BOOL)
			fputs("-r ", stdout);
		fputs("-d ", stdout);
		print_quoted(flag->doc);
		putchar('\n');
	}
	if (command->operand != OPERAND_NONE) {
		AUTO_FREE char *query = gt_xasprintf("(gantry %s 2>/dev/null)", operand_query(command->operand));
		fish_condition(path);
		fputs("-a ", stdout);
		print_quoted(query);
		putchar('\n');
	}
}

static void print_fish(void)
{
	puts("# fish completion for gantry");
	command_each("", fish_command, NULL);
}

int completion_write(const char *shell, struct gt_error *err)
{
	if (strcmp(shell, "bash") == 0)
		print_bash();
	else if (strcmp(shell, "zsh") == 0)
		print_zsh();
	else if (strcmp(shell, "fish") == 0)
		print_fish();
	else
		return gt_fail(err, GT_INVALID, "no completion for the shell \"%s\": there are bash, zsh and fish", shell);
	return 0;
}

int command_completion(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)cli;
	return completion_write(args->operands[0], err);
}
