/*
 * registry.c - login, logout, search; what is kept of a login is credentials.c's.
 */
#include <stdint.h>
#include <string.h>
#include <termios.h>

#include "api.h"
#include "humanize.h"
#include "list.h"
#include "other.h"

#define DEFAULT_REGISTRY "https://index.docker.io/v1/"

/* ---- login ---- */

static char *read_all_input(struct gt_error *err)
{
	struct gt_buf out = { 0 };
	char part[512];
	ssize_t got;
	while ((got = read(0, part, sizeof part)) > 0 && out.len < 1 << 20)
		gt_buf_add(&out, part, (size_t)got);
	while (out.len > 0 && (out.data[out.len - 1] == '\n' || out.data[out.len - 1] == '\r'))
		out.data[--out.len] = '\0';
	if (out.len == 0) {
		gt_buf_free(&out);
		return gt_fail_null(err, GT_INVALID, "password is empty");
	}
	return gt_buf_take(&out);
}

static char *ask(const char *question, bool secret, struct gt_error *err)
{
	struct termios before;
	char *line = NULL;
	size_t room = 0;
	if (!isatty(0))
		return gt_fail_null(err, GT_INVALID,
				    "Cannot perform an interactive login from a non TTY device: use --username and "
				    "--password-stdin");
	printf("%s: ", question);
	fflush(stdout);
	bool hidden = secret && tcgetattr(0, &before) == 0;
	if (hidden) {
		struct termios silent = before;
		silent.c_lflag &= (tcflag_t)~ECHO;
		tcsetattr(0, TCSAFLUSH, &silent);
	}
	ssize_t got = getline(&line, &room, stdin);
	if (hidden) {
		tcsetattr(0, TCSAFLUSH, &before);
		putchar('\n');
	}
	if (got > 0 && line[got - 1] == '\n')
		line[--got] = '\0';
	if (got <= 0) {
		free(line);
		return gt_fail_null(err, GT_INVALID, "%s is empty", question);
	}
	return line;
}

static int get_credentials(const struct args *args, char **user, char **password, struct gt_error *err)
{
	bool from_stdin = arg_bool(args, "password-stdin");
	if (from_stdin && arg_given(args, "password"))
		return gt_fail(err, GT_INVALID, "--password and --password-stdin are mutually exclusive");
	if (from_stdin && !*arg_string(args, "username"))
		return gt_fail(err, GT_INVALID, "must provide --username with --password-stdin");
	if (arg_given(args, "password"))
		cli_warn("Using --password via the CLI is insecure. Use --password-stdin.");
	*user = *arg_string(args, "username") ? gt_xstrdup(arg_string(args, "username")) : ask("Username", false, err);
	if (!*user)
		return -1;
	*password = arg_given(args, "password") ? gt_xstrdup(arg_string(args, "password"))
		    : from_stdin ? read_all_input(err) : ask("Password", true, err);
	return *password ? 0 : -1;
}

/* "https://host/v2/" is known as "host"; Docker Hub by its old URL. */
static char *server_name(const struct args *args)
{
	const char *given = args->count ? args->operands[0] : DEFAULT_REGISTRY, *from = strstr(given, "://");
	from = from ? from + 3 : given;
	AUTO_FREE char *host = gt_xstrndup(from, strcspn(from, "/"));
	bool hub = strcmp(host, "docker.io") == 0 || strcmp(host, "index.docker.io") == 0 || strcmp(host, "registry-1.docker.io") == 0;
	return hub ? gt_xstrdup(DEFAULT_REGISTRY) : take(host);
}

int command_login(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_FREE char *server = server_name(args), *user = NULL, *password = NULL;
	AUTO_JSON json_t *answer = NULL;
	if (get_credentials(args, &user, &password, err) < 0)
		return -1;
	AUTO_JSON json_t *body = json_pack("{s:s,s:s,s:s}", "username", user, "password", password, "serveraddress", server);
	if (!body)
		return gt_fail(err, GT_INVALID, "user name and password must be UTF-8");
	if (api_call(cli, "POST", "/auth", body, &answer, err) < 0)
		return -1;
	if (credentials_store(cli, server, user, password, js(answer, "IdentityToken"), err) < 0)
		return -1;
	puts(*js(answer, "Status") ? js(answer, "Status") : "Login Succeeded");
	return 0;
}

int command_logout(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_FREE char *server = server_name(args);
	bool was = false;
	if (credentials_erase(cli, server, &was, err) < 0)
		return -1;
	printf(was ? "Removing login credentials for %s\n" : "Not logged in to %s\n", server);
	return 0;
}

/* ---- search ---- */

static char *name_text(const struct row *row) { return gt_xstrdup(js(row->item, "name")); }
static char *stars_text(const struct row *row) { return gt_xasprintf("%lld", (long long)ji(row->item, "star_count")); }
static char *official_text(const struct row *row) { return gt_xstrdup(jb(row->item, "is_official") ? "[OK]" : ""); }
static char *automated_text(const struct row *row) { return gt_xstrdup(jb(row->item, "is_automated") ? "[OK]" : ""); }

static char *description_text(const struct row *row)
{
	AUTO_FREE char *text = gt_xstrdup(js(row->item, "description"));
	for (char *p = text; *p; p++) {
		if (*p == '\n' || *p == '\r' || *p == '\t')
			*p = ' ';
	}
	return ellipsis(text, row->list->no_trunc ? INT64_MAX : 45);
}

static const struct column columns[] = {
	{ "Description", "DESCRIPTION", description_text },
	{ "IsAutomated", "AUTOMATED", automated_text },
	{ "IsOfficial", "OFFICIAL", official_text },
	{ "Name", "NAME", name_text },
	{ "StarCount", "STARS", stars_text },
	{ NULL, NULL, NULL },
};

int command_search(struct cli *cli, struct args *args, struct gt_error *err)
{
	struct list list = { .columns = columns, .table = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
			     .no_trunc = arg_bool(args, "no-trunc") };
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/images/search");
	url_param(&path, "term", args->operands[0]);
	url_int(&path, "limit", arg_int(args, "limit"));
	url_filters(&path, arg_list(args, "filter"));
	AUTO_JSON json_t *found = api_get(cli, path.data, err);
	return found ? list_print(&list, arg_string(args, "format"), false, found, err) : -1;
}
