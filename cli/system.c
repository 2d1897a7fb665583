/*
 * system.c - info, version, events, df, system prune.
 */
#include <stdint.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "api.h"
#include "base/clock.h"
#include "container.h"
#include "humanize.h"
#include "list.h"
#include "other.h"

int print_formatted(const char *format, const json_t *object, struct gt_error *err)
{
	struct template *template = template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, err);
	AUTO_BUF struct gt_buf out = { 0 };
	struct template_root root = { .json = object };
	int done = template ? template_execute(template, &root, &out, err) : -1;
	template_free(template);
	if (done == 0)
		printf("%.*s\n", (int)out.len, out.data ? out.data : "");
	return done;
}

/* ---- version ---- */

static json_t *client_version(void)
{
	struct utsname host = { 0 };
	uname(&host);
	const char *machine = strcmp(host.machine, "x86_64") == 0    ? "amd64"
			      : strcmp(host.machine, "aarch64") == 0 ? "arm64"
								     : host.machine;
	return json_pack("{s:s,s:s,s:s,s:s,s:s}", "Version", GANTRY_VERSION, "ApiVersion", "1.50", "Os", "linux",
			 "Arch", machine, "Context", "default");
}

static void print_version(const json_t *client, const json_t *server)
{
	size_t i;
	json_t *part;
	printf("Client:\n Version:           %s\n API version:       %s\n OS/Arch:           %s/%s\n", js(client, "Version"),
	       js(client, "ApiVersion"), js(client, "Os"), js(client, "Arch"));
	if (!server)
		return;
	const char *platform = js(jo(server, "Platform"), "Name");
	printf("\nServer:%s%s\n Engine:\n  Version:          %s\n  API version:      %s (minimum version %s)\n  "
	       "OS/Arch:          %s/%s\n",
	       *platform ? " " : "", platform, js(server, "Version"), js(server, "ApiVersion"),
	       js(server, "MinAPIVersion"), js(server, "Os"), js(server, "Arch"));
	if (*js(server, "KernelVersion"))
		printf("  Kernel:           %s\n", js(server, "KernelVersion"));
	json_array_foreach(jo(server, "Components"), i, part)
	{
		if (strcmp(js(part, "Name"), "Engine") != 0)
			printf(" %s:\n  Version:          %s\n", js(part, "Name"), js(part, "Version"));
	}
}

int command_version(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *client = client_version();
	const char *format = arg_string(args, "format");
	AUTO_JSON json_t *server = api_get(cli, "/version", err);
	if (!*format) {
		print_version(client, server);
	} else {
		AUTO_JSON json_t *both = json_pack("{s:O,s:O?}", "Client", client, "Server", server);
		if (server || strcmp(format, "json") == 0 || !strstr(format, "Server")) {
			struct gt_error bad = { 0 };
			if (print_formatted(format, both, &bad) < 0) {
				*err = bad;
				return -1;
			}
		}
	}
	return server ? 0 : -1;
}

/* ---- info ---- */

struct info_line {
	const char *title, *field;
};

static void print_lines(const json_t *info, const struct info_line *lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const json_t *value = jo(info, lines[i].field);
		if (!value || (json_is_string(value) && !*jv(value)))
			continue;
		if (json_is_string(value))
			printf(" %s: %s\n", lines[i].title, jv(value));
		else if (json_is_boolean(value))
			printf(" %s: %s\n", lines[i].title, json_is_true(value) ? "true" : "false");
		else
			printf(" %s: %lld\n", lines[i].title, (long long)ji(info, lines[i].field));
	}
}

static void print_list(const char *title, const json_t *items)
{
	size_t i;
	json_t *item;
	if (json_array_size(items) == 0)
		return;
	printf("%s", title);
	json_array_foreach(items, i, item)
	{
		printf(" %s", jv(item));
	}
	putchar('\n');
}

static void print_info(const json_t *info)
{
	static const struct info_line counts[] = {
		{ "Containers", "Containers" }, { " Running", "ContainersRunning" }, { " Paused", "ContainersPaused" },
		{ " Stopped", "ContainersStopped" }, { "Images", "Images" }, { "Server Version", "ServerVersion" },
		{ "Storage Driver", "Driver" },
	};
	static const struct info_line drivers[] = {
		{ "Logging Driver", "LoggingDriver" },
		{ "Cgroup Driver", "CgroupDriver" },
		{ "Cgroup Version", "CgroupVersion" },
	};
	static const struct info_line host[] = {
		{ "Swarm", "" },                { "Default Runtime", "DefaultRuntime" }, { "Init Binary", "InitBinary" },
		{ "Kernel Version", "KernelVersion" }, { "Operating System", "OperatingSystem" }, { "OSType", "OSType" },
		{ "Architecture", "Architecture" }, { "CPUs", "NCPU" },
	};
	static const struct info_line end[] = {
		{ "Name", "Name" }, { "ID", "ID" }, { "Docker Root Dir", "DockerRootDir" }, { "Debug Mode", "Debug" },
		{ "Experimental", "ExperimentalBuild" }, { "Live Restore Enabled", "LiveRestoreEnabled" },
	};
	size_t i;
	json_t *item;
	puts("Server:");
	print_lines(info, counts, GT_COUNT(counts));
	json_array_foreach(jo(info, "DriverStatus"), i, item)
	{
		printf("  %s: %s\n", jv(json_array_get(item, 0)), jv(json_array_get(item, 1)));
	}
	print_lines(info, drivers, GT_COUNT(drivers));
	puts(" Plugins:");
	print_list("  Volume:", jo(jo(info, "Plugins"), "Volume"));
	print_list("  Network:", jo(jo(info, "Plugins"), "Network"));
	print_list("  Log:", jo(jo(info, "Plugins"), "Log"));
	print_lines(info, host, GT_COUNT(host));
	print_list(" Security Options:", jo(info, "SecurityOptions"));
	AUTO_FREE char *memory = human_bytes(jd(info, "MemTotal"));
	printf(" Total Memory: %s\n", memory);
	print_lines(info, end, GT_COUNT(end));
	print_list(" Labels:", jo(info, "Labels"));
}

int command_info(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *format = arg_string(args, "format");
	size_t i;
	json_t *warning;
	AUTO_JSON json_t *info = api_get(cli, "/info", err);
	if (!*format)
		printf("Client:\n Version:    %s\n Context:    default\n Debug Mode: %s\n\n", GANTRY_VERSION,
		       cli->debug ? "true" : "false");
	if (!info)
		return -1;
	if (*format)
		return print_formatted(format, info, err);
	print_info(info);
	fflush(stdout);
	json_array_foreach(jo(info, "Warnings"), i, warning)
	{
		fprintf(stderr, "%s\n", jv(warning));
	}
	return 0;
}

/* ---- events ---- */

/* 2026-01-02T03:04:05.678901234+01:00 */
static void print_time(const json_t *event)
{
	int64_t ns = ji(event, "timeNano");
	time_t seconds = (time_t)(ns ? ns / GT_SECOND : ji(event, "time"));
	struct tm tm;
	char text[40], zone[8];
	localtime_r(&seconds, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof zone, "%z", &tm);
	printf("%s.%09lld", text, (long long)(ns % GT_SECOND));
	if (tm.tm_gmtoff == 0)
		putchar('Z');
	else
		printf("%.3s:%s", zone, zone + 3);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_event(const json_t *event)
{
	const json_t *actor = jo(event, "Actor");
	json_t *attributes = jo(actor, "Attributes"), *value;
	size_t count = json_object_size(attributes), i = 0;
	const char **keys = gt_xcalloc(count + 1, sizeof *keys), *key;
	print_time(event);
	printf(" %s %s %s", js(event, "Type"), js(event, "Action"), js(actor, "ID"));
	json_object_foreach(attributes, key, value)
	{
		keys[i++] = key;
	}
	qsort(keys, count, sizeof *keys, by_name);
	for (i = 0; i < count; i++)
		printf("%s%s=%s%s", i ? ", " : " (", keys[i], js(attributes, keys[i]), i + 1 == count ? ")" : "");
	putchar('\n');
	free(keys);
}

static int show_event(const char *line, size_t len, const char *format, struct gt_error *err)
{
	AUTO_JSON json_t *event = gt_json_parse(line, len, "an event", err);
	if (!event)
		return -1;
	int done = 0;
	if (*format)
		done = print_formatted(format, event, err);
	else
		print_event(event);
	fflush(stdout);
	return done;
}

int command_events(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 }, pending = { 0 };
	const char *format = arg_string(args, "format"), *bytes;
	ssize_t got;
	url_path(&path, "/events");
	if (url_time(&path, "since", arg_string(args, "since"), err) < 0 ||
	    url_time(&path, "until", arg_string(args, "until"), err) < 0)
		return -1;
	url_filters(&path, arg_list(args, "filter"));
	struct template *check = *format ? template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, err) : NULL;
	if (*format && !check)
		return -1;
	template_free(check);
	struct http_request request = { .method = "GET", .path = path.data };
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	if (!response)
		return -1;
	while ((got = http_next(response, &bytes, err)) > 0) {
		gt_buf_add(&pending, bytes, (size_t)got);
		for (char *end; pending.len && (end = memchr(pending.data, '\n', pending.len));) {
			size_t len = (size_t)(end - pending.data);
			if (len > 0 && show_event(pending.data, len, format, err) < 0)
				return -1;
			gt_buf_consume(&pending, len + 1);
		}
		if (pending.len > 4 << 20)
			return gt_fail(err, GT_TOO_LARGE, "an event is larger than 4 MiB");
	}
	return got < 0 ? -1 : 0;
}

/* ---- prune ---- */

static int post_prune(struct cli *cli, const char *path, const json_t *filters, json_t **answer, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	url_path(&url, path);
	url_filters_json(&url, filters);
	return api_call(cli, "POST", url.data, NULL, answer, err);
}

static bool confirm_prune(bool all, bool volumes)
{
	AUTO_BUF struct gt_buf question = { 0 };
	gt_buf_str(&question, "WARNING! This will remove:\n  - all stopped containers\n"
			      "  - all networks not used by at least one container\n");
	if (volumes)
		gt_buf_str(&question, "  - all anonymous volumes not used by at least one container\n");
	gt_buf_str(&question, all ? "  - all images without at least one container associated to them\n  - all build cache\n"
				  : "  - all dangling images\n  - unused build cache\n");
	gt_buf_str(&question, "\nAre you sure you want to continue?");
	return cli_confirm(question.data);
}

int command_system_prune(struct cli *cli, struct args *args, struct gt_error *err)
{
	bool all = arg_bool(args, "all"), volumes = arg_bool(args, "volumes");
	AUTO_JSON json_t *filters = filters_json(arg_list(args, "filter"));
	if (volumes && json_object_get(filters, "until"))
		return gt_fail(err, GT_INVALID, "the \"until\" filter is not supported with \"--volumes\"");
	if (!arg_bool(args, "force") && !confirm_prune(all, volumes))
		return gt_fail(err, GT_CANCELLED, "system prune has been cancelled");
	AUTO_JSON json_t *containers = NULL, *networks = NULL, *unused = NULL, *images = NULL, *cache = NULL;
	if (post_prune(cli, "/containers/prune", filters, &containers, err) < 0)
		return -1;
	print_deleted("Deleted Containers:", jo(containers, "ContainersDeleted"));
	if (post_prune(cli, "/networks/prune", filters, &networks, err) < 0)
		return -1;
	print_deleted("Deleted Networks:", jo(networks, "NetworksDeleted"));
	if (volumes && post_prune(cli, "/volumes/prune", filters, &unused, err) < 0)
		return -1;
	print_deleted("Deleted Volumes:", jo(unused, "VolumesDeleted"));
	json_object_set_new(filters, "dangling", json_pack("{s:b}", all ? "false" : "true", 1));
	if (post_prune(cli, "/images/prune", filters, &images, err) < 0)
		return -1;
	print_deleted_images(jo(images, "ImagesDeleted"));
	if (prune_build_cache(cli, all, arg_list(args, "filter"), &cache, err) < 0)
		return -1;
	print_deleted("Deleted build cache objects:", jo(cache, "CachesDeleted"));
	AUTO_JSON json_t *total = json_pack("{s:f}", "SpaceReclaimed",
					    jd(containers, "SpaceReclaimed") + jd(unused, "SpaceReclaimed") +
						    jd(images, "SpaceReclaimed") + jd(cache, "SpaceReclaimed"));
	return print_reclaimed(total);
}
