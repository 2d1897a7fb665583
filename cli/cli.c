/*
 * cli.c - from argv to a command: global flags, finding the command, its arguments, its errors and exit status.
 */
#include "cli.h"

#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define DEFAULT_HOST "unix:///run/gantry/gantry.sock"
#define API_VERSION "1.50"

/* ---- errors ---- */

void cli_print_error(const struct cli *cli, const struct gt_error *err)
{
	fflush(stdout);
	bool daemons = strncmp(err->message, "Error", 5) == 0 ||
		       strncmp(err->message, "Cannot connect", 14) == 0;
	fprintf(stderr, "%s%s\n", daemons && !cli->help_hint ? "" : "gantry: ", err->message);
	if (cli->help_hint)
		fprintf(stderr, "\nRun 'gantry %s --help' for more information\n", cli->path);
}

void cli_warn(const char *fmt, ...)
{
	AUTO_BUF struct gt_buf text = { 0 };
	va_list ap;
	va_start(ap, fmt);
	gt_buf_vprintf(&text, fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, "WARNING: %s\n", text.data);
}

void cli_print_warnings(const json_t *answer)
{
	size_t i;
	json_t *warning;
	json_array_foreach(jo(answer, "Warnings"), i, warning)
	{
		cli_warn("%s", jv(warning));
	}
}

int cli_for_each(struct cli *cli, const struct args *args, bool echo,
		 int (*act)(struct cli *cli, const char *name, void *arg, struct gt_error *err), void *arg)
{
	int status = 0;
	for (int i = 0; i < args->count; i++) {
		struct gt_error err = { 0 };
		if (act(cli, args->operands[i], arg, &err) < 0) {
			cli_print_error(cli, &err);
			status = 1;
		} else if (echo) {
			puts(args->operands[i]);
		}
	}
	return status;
}

char *cli_own_file(const char *beside, const char *installed)
{
	char self[4096];
	ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
	if (len > 0) {
		self[len] = '\0';
		char *path = gt_xasprintf("%s/../%s", dirname(self), beside);
		if (access(path, F_OK) == 0)
			return path;
		free(path);
	}
	return gt_xstrdup(installed);
}

bool cli_confirm(const char *question)
{
	char answer[16];
	printf("%s [y/N] ", question);
	fflush(stdout);
	if (!fgets(answer, sizeof answer, stdin))
		return false;
	return answer[0] == 'y' || answer[0] == 'Y';
}

/* ---- JSON with defaults ---- */

json_t *jo(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);
	return json_is_null(value) ? NULL : value;
}

const char *jv(const json_t *string)
{
	const char *text = json_string_value(string);
	return text ? text : "";
}

const char *js(const json_t *object, const char *name)
{
	return jv(json_object_get(object, name));
}

int64_t ji(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	return json_is_real(value) ? (int64_t)json_real_value(value) : json_integer_value(value);
}

double jd(const json_t *object, const char *name)
{
	return json_number_value(json_object_get(object, name));
}

bool jb(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

void jset(json_t *object, const char *name, json_t *value)
{
	if (value)
		json_object_set_new(object, name, value);
}

void jset_str(json_t *object, const char *name, const char *text)
{
	if (text && *text)
		json_object_set_new(object, name, json_string(text));
}

json_t *jlist(const struct gt_strings *list)
{
	if (list->count == 0)
		return NULL;
	json_t *array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, json_string(list->items[i]));
	return array;
}

json_t *jmap(const struct gt_strings *list)
{
	if (list->count == 0)
		return NULL;
	json_t *object = json_object();
	for (size_t i = 0; i < list->count; i++) {
		const char *text = list->items[i];
		size_t len = strcspn(text, "=");
		AUTO_FREE char *key = gt_xstrndup(text, len);
		json_object_set_new(object, key, json_string(text[len] ? text + len + 1 : ""));
	}
	return object;
}

/* ---- the program ---- */

struct settings {
	char *ca, *cert, *key, *config_dir;
	struct http_address address;
};

static bool env_set(const char *name)
{
	const char *value = getenv(name);
	return value && *value;
}

static const char *first_env(const char *first, const char *second)
{
	return env_set(first) ? getenv(first) : env_set(second) ? getenv(second) : NULL;
}

/* --tlsca and its like: the flag, or the file in the directory of certificates where it exists. */
static char *tls_file(const struct args *global, const char *flag, const char *dir, const char *name)
{
	if (arg_given(global, flag))
		return gt_xstrdup(arg_string(global, flag));
	char *path = gt_xasprintf("%s/%s", dir, name);
	if (access(path, F_OK) == 0)
		return path;
	free(path);
	return NULL;
}

static int set_tls(struct settings *settings, const struct args *global, struct gt_error *err)
{
	bool verify = arg_bool(global, "tlsverify") || (!arg_given(global, "tlsverify") &&
			(env_set("GANTRY_TLS_VERIFY") || env_set("DOCKER_TLS_VERIFY")));
	bool any = arg_given(global, "tlscacert") || arg_given(global, "tlscert") || arg_given(global, "tlskey");
	settings->address.tls = verify || any || arg_bool(global, "tls");
	if (!settings->address.tls)
		return 0;
	const char *dir = first_env("GANTRY_CERT_PATH", "DOCKER_CERT_PATH");
	if (!dir)
		dir = settings->config_dir;
	settings->ca = tls_file(global, "tlscacert", dir, "ca.pem");
	settings->cert = tls_file(global, "tlscert", dir, "cert.pem");
	settings->key = tls_file(global, "tlskey", dir, "key.pem");
	if (!settings->cert != !settings->key)
		return gt_fail(err, GT_INVALID, "a client certificate needs both --tlscert and --tlskey");
	settings->address.files = (struct tls_files){ settings->ca, settings->cert, settings->key,
						      verify || arg_given(global, "tlscacert") };
	return 0;
}

static int set_up(struct cli *cli, struct settings *settings, const struct args *global, struct gt_error *err)
{
	const struct gt_strings *hosts = arg_list(global, "host");
	if (hosts->count > 1)
		return gt_fail(err, GT_INVALID, "specify only one -H");
	const char *host = hosts->count ? hosts->items[0] : first_env("GANTRY_HOST", "DOCKER_HOST");
	const char *version = first_env("GANTRY_API_VERSION", "DOCKER_API_VERSION");
	const char *config = arg_given(global, "config") ? arg_string(global, "config")
							 : first_env("GANTRY_CONFIG", "DOCKER_CONFIG");
	const char *home = getenv("HOME");
	settings->config_dir = config ? gt_xstrdup(config) : gt_xasprintf("%s/.docker", home ? home : "");
	settings->address.host = cli->host = host ? host : DEFAULT_HOST;
	settings->address.api_version = version ? version : API_VERSION;
	cli->config_dir = settings->config_dir;
	cli->debug = arg_bool(global, "debug");
	if (set_tls(settings, global, err) < 0)
		return -1;
	cli->http = http_client_new(&settings->address, err);
	return cli->http ? 0 : -1;
}

/* Joins the leading words that name a command; *used is how many. */
static const struct command *find_command(int argc, char **argv, int *used, struct gt_buf *path)
{
	const struct command *found = NULL;
	*used = 0;
	for (int i = 0; i < argc && i < 3 && argv[i][0] != '-'; i++) {
		AUTO_FREE char *longer = path->len ? gt_xasprintf("%s %s", path->data, argv[i]) : gt_xstrdup(argv[i]);
		const struct command *next = command_find(longer);
		if (!next)
			break;
		found = next;
		*used = i + 1;
		gt_buf_reset(path);
		gt_buf_str(path, longer);
		if (next->run)
			break;
	}
	return found;
}

static int unknown_command(const char *family, const char *word)
{
	AUTO_FREE char *near = command_nearest(family, word);
	const char *gap = *family ? " " : "";
	fprintf(stderr, "gantry: unknown command: gantry %s%s%s\n\n", family, gap, word);
	if (near)
		fprintf(stderr, "Did you mean 'gantry %s%s%s'? ", family, gap, near);
	fprintf(stderr, "Run 'gantry %s%s--help' for more information\n", family, gap);
	return 1;
}

static int usage_error(const struct args *args, const struct gt_error *err, int status)
{
	fprintf(stderr, "gantry: %s\n\nUsage:  gantry %s %s\n\nRun 'gantry %s --help' for more information\n", err->message,
		args->path, args->command->usage, args->path);
	return status;
}

static int run_command(struct cli *cli, const struct command *command, const char *path, int argc, char **argv)
{
	struct gt_error err = { 0 };
	struct args args = { .command = command, .path = path };
	int status;
	cli->path = path;
	cli->failure_status = 1;
	if (args_parse(&args, command->flags, command->flags_first, argc, argv, &err) < 0) {
		status = usage_error(&args, &err, EXIT_DAEMON);
	} else if (args.help) {
		help_command(command, path);
		status = 0;
	} else if (args_check_count(&args, &err) < 0) {
		status = usage_error(&args, &err, 1);
	} else {
		status = command->run(cli, &args, &err);
		if (status < 0) {
			if (err.message[0])
				cli_print_error(cli, &err);
			status = cli->failure_status;
		}
	}
	args_free(&args);
	return status;
}

static int run_family(const struct command *family, const char *path, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			break;
		if (argv[i][0] == '-') {
			fprintf(stderr, "gantry: unknown flag: %s\n\nRun 'gantry %s --help' for more information\n",
				argv[i], path);
			return EXIT_DAEMON;
		}
		return unknown_command(path, argv[i]);
	}
	help_family(path, family);
	return 0;
}

static int dispatch(struct cli *cli, int argc, char **argv)
{
	AUTO_BUF struct gt_buf path = { 0 };
	int used;
	bool help = strcmp(argv[0], "help") == 0;
	if (help && argc == 1) {
		help_top();
		return 0;
	}
	const struct command *command = find_command(argc - help, argv + help, &used, &path);
	if (!command)
		return unknown_command("", argv[help]);
	if (!command->run)
		return run_family(command, path.data, argc - help - used, argv + help + used);
	if (help) {
		help_command(command, path.data);
		return 0;
	}
	return run_command(cli, command, path.data, argc - used, argv + used);
}

int cli_main(int argc, char **argv)
{
	struct cli cli = { 0 };
	struct settings settings = { 0 };
	struct gt_error err = { 0 };
	static const struct command top = { .usage = "[OPTIONS] COMMAND", .max = ANY_NUMBER };
	struct args global = { .command = &top, .path = "" };
	int status;
	if (args_parse(&global, global_flags, true, argc > 0 ? argc - 1 : 0, argv + (argc > 0), &err) < 0) {
		fprintf(stderr,
			"gantry: %s\n\nUsage:  gantry [OPTIONS] COMMAND\n\nRun 'gantry --help' for more information\n",
			err.message);
		status = EXIT_DAEMON;
	} else if (arg_bool(&global, "version")) {
		printf("Gantry version %s\n", GANTRY_VERSION);
		status = 0;
	} else if (global.help || global.count == 0) {
		help_top();
		status = 0;
	} else if (set_up(&cli, &settings, &global, &err) < 0) {
		fprintf(stderr, "gantry: %s\n", err.message);
		status = 1;
	} else {
		status = dispatch(&cli, global.count, global.operands);
	}
	if (fflush(stdout) == EOF && status == 0) {
		fprintf(stderr, "gantry: cannot write the output: %s\n", strerror(errno));
		status = 1;
	}
	http_client_free(cli.http);
	json_decref(cli.config);
	args_free(&global);
	free(settings.ca);
	free(settings.cert);
	free(settings.key);
	free(settings.config_dir);
	return status;
}
