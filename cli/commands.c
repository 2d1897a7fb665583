/*
 * commands.c - the table of commands.
 *
 * A row's path is its full name; its aliases are further full names, under which it works and is listed as well. The
 * lists of flags stand in flags.c and flags_run.c.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "container.h"
#include "create.h"
#include "flags.h"
#include "inspect.h"
#include "other.h"

const struct flag global_flags[] = {
	FLAG("config", 0, STRING, NULL, "Directory of config.json, with credentials of registries (default ~/.docker)"),
	REFUSED("context", 'c', STRING, NULL, "name the daemon with --host or GANTRY_HOST"),
	FLAG("debug", 'D', BOOL, NULL, "Say in `gantry info` that debugging is on"),
	FLAG("host", 'H', LIST, NULL, "Daemon to connect to: unix://PATH or tcp://HOST:PORT"),
	FLAG("tls", 0, BOOL, NULL, "Use TLS; implied by --tlsverify"),
	FLAG("tlscacert", 0, STRING, NULL, "Trust certs signed only by this CA (default ~/.docker/ca.pem)"),
	FLAG("tlscert", 0, STRING, NULL, "Path to TLS certificate file (default ~/.docker/cert.pem)"),
	FLAG("tlskey", 0, STRING, NULL, "Path to TLS key file (default ~/.docker/key.pem)"),
	FLAG("tlsverify", 0, BOOL, NULL, "Use TLS and verify the remote"),
	FLAG("version", 'v', BOOL, NULL, "Print version information and quit"),
	END_OF_FLAGS,
};

#define IMAGE_COMMAND "[OPTIONS] IMAGE [COMMAND] [ARG...]"
#define CONTAINERS "CONTAINER [CONTAINER...]"
#define OPT_CONTAINERS "[OPTIONS] CONTAINER [CONTAINER...]"

const struct command commands[] = {
	{ .path = "container", .usage = "COMMAND", .summary = "Manage containers" },
	{ .path = "image", .usage = "COMMAND", .summary = "Manage images" },
	{ .path = "volume", .usage = "COMMAND", .summary = "Manage volumes" },
	{ .path = "network", .usage = "COMMAND", .summary = "Manage networks" },
	{ .path = "system", .usage = "COMMAND", .summary = "Manage the engine" },
	{ .path = "plugin", .usage = "COMMAND", .summary = "Manage plugins" },
	{ .path = "builder", .usage = "COMMAND", .summary = "Manage builds" },

	{ .path = "container run", .aliases = "run", .usage = IMAGE_COMMAND,
	  .summary = "Create and run a new container from an image",
	  .details = "The exit status is the container's own; 125 where the daemon refused, 126 where the command "
		     "cannot be executed, 127 where it was not found, 128 and the signal's number where a signal "
		     "ended it.\n\nWithout -d, standard output and error of the container are shown here, signals "
		     "are passed on to it, and gantry leaves when the container does. With -it, the keys ctrl-p "
		     "ctrl-q leave it running.",
	  .flags = flags_run, .min = 1, .max = ANY_NUMBER, .flags_first = true, .operand = OPERAND_IMAGE,
	  .run = command_run },
	{ .path = "container exec", .aliases = "exec", .usage = "[OPTIONS] CONTAINER COMMAND [ARG...]",
	  .summary = "Execute a command in a running container", .flags = flags_exec, .min = 2, .max = ANY_NUMBER,
	  .flags_first = true, .operand = OPERAND_RUNNING, .run = command_exec },
	{ .path = "container ls", .aliases = "ps,container ps,container list", .usage = "[OPTIONS]",
	  .summary = "List containers",
	  .details = "Filters: id, name, label, status, exited, ancestor, before, since, volume, network, "
		     "publish, expose, health, is-task.",
	  .flags = flags_ps, .run = command_ps },
	{ .path = "container create", .aliases = "create", .usage = IMAGE_COMMAND,
	  .summary = "Create a new container", .flags = flags_create, .min = 1, .max = ANY_NUMBER,
	  .flags_first = true, .operand = OPERAND_IMAGE, .run = command_create },
	{ .path = "container start", .aliases = "start", .usage = OPT_CONTAINERS,
	  .summary = "Start one or more stopped containers", .flags = flags_start, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_CONTAINER, .run = command_start },
	{ .path = "container stop", .aliases = "stop", .usage = OPT_CONTAINERS,
	  .summary = "Stop one or more running containers", .flags = flags_stop, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_RUNNING, .run = command_stop },
	{ .path = "container restart", .aliases = "restart", .usage = OPT_CONTAINERS,
	  .summary = "Restart one or more containers", .flags = flags_stop, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_CONTAINER, .run = command_restart },
	{ .path = "container kill", .aliases = "kill", .usage = OPT_CONTAINERS,
	  .summary = "Kill one or more running containers", .flags = flags_kill, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_RUNNING, .run = command_kill },
	{ .path = "container pause", .aliases = "pause", .usage = CONTAINERS,
	  .summary = "Pause all processes within one or more containers", .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_RUNNING, .run = command_pause },
	{ .path = "container unpause", .aliases = "unpause", .usage = CONTAINERS,
	  .summary = "Unpause all processes within one or more containers", .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_RUNNING, .run = command_unpause },
	{ .path = "container rm", .aliases = "rm,container remove", .usage = OPT_CONTAINERS,
	  .summary = "Remove one or more containers", .flags = flags_rm, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_CONTAINER, .run = command_rm },
	{ .path = "container wait", .aliases = "wait", .usage = CONTAINERS,
	  .summary = "Block until one or more containers stop, then print their exit codes", .min = 1,
	  .max = ANY_NUMBER, .operand = OPERAND_CONTAINER, .run = command_wait },
	{ .path = "container attach", .aliases = "attach", .usage = "[OPTIONS] CONTAINER",
	  .summary = "Attach local standard input, output, and error streams to a running container",
	  .flags = flags_attach, .min = 1, .max = 1, .operand = OPERAND_RUNNING, .run = command_attach },
	{ .path = "container logs", .aliases = "logs", .usage = "[OPTIONS] CONTAINER",
	  .summary = "Fetch the logs of a container", .flags = flags_logs, .min = 1, .max = 1,
	  .operand = OPERAND_CONTAINER, .run = command_logs },
	{ .path = "container inspect", .usage = OPT_CONTAINERS,
	  .summary = "Display detailed information on one or more containers", .flags = flags_container_inspect,
	  .min = 1, .max = ANY_NUMBER, .operand = OPERAND_CONTAINER, .run = command_container_inspect },
	{ .path = "container top", .aliases = "top", .usage = "CONTAINER [ps OPTIONS]",
	  .summary = "Display the running processes of a container", .min = 1, .max = ANY_NUMBER, .flags_first = true,
	  .operand = OPERAND_RUNNING, .run = command_top },
	{ .path = "container stats", .aliases = "stats", .usage = "[OPTIONS] [CONTAINER...]",
	  .summary = "Display a live stream of container(s) resource usage statistics", .flags = flags_stats,
	  .max = ANY_NUMBER, .operand = OPERAND_RUNNING, .run = command_stats },
	{ .path = "container diff", .aliases = "diff", .usage = "CONTAINER",
	  .summary = "Inspect changes to files or directories on a container's filesystem",
	  .details = "Each line has a letter and a path: A added, C changed, D deleted.", .min = 1, .max = 1,
	  .operand = OPERAND_CONTAINER, .run = command_diff },
	{ .path = "container cp", .aliases = "cp",
	  .usage = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tgantry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
	  .summary = "Copy files/folders between a container and the local filesystem",
	  .details = "Use '-' as the source to read a tar archive from stdin and extract it to a directory "
		     "destination in a container. Use '-' as the destination to stream a tar archive of a "
		     "container source to stdout.\n\nSRC_PATH ending in /. means the contents of a directory. "
		     "Without -a, files copied out belong to you and lose their set-user-id and set-group-id bits.",
	  .flags = flags_cp, .min = 2, .max = 2, .operand = OPERAND_CONTAINER, .run = command_cp },
	{ .path = "container port", .aliases = "port", .usage = "CONTAINER [PRIVATE_PORT[/PROTO]]",
	  .summary = "List port mappings or a specific mapping for the container", .min = 1, .max = 2,
	  .operand = OPERAND_CONTAINER, .run = command_port },
	{ .path = "container rename", .aliases = "rename", .usage = "CONTAINER NEW_NAME",
	  .summary = "Rename a container", .min = 2, .max = 2, .operand = OPERAND_CONTAINER, .run = command_rename },
	{ .path = "container update", .aliases = "update", .usage = OPT_CONTAINERS,
	  .summary = "Update configuration of one or more containers", .flags = flags_update, .min = 1,
	  .max = ANY_NUMBER, .operand = OPERAND_CONTAINER, .run = command_update },
	{ .path = "container commit", .aliases = "commit", .usage = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
	  .summary = "Create a new image from a container's changes", .flags = flags_commit, .min = 1, .max = 2,
	  .operand = OPERAND_CONTAINER, .run = command_commit },
	{ .path = "container export", .aliases = "export", .usage = "[OPTIONS] CONTAINER",
	  .summary = "Export a container's filesystem as a tar archive", .flags = flags_output, .min = 1, .max = 1,
	  .operand = OPERAND_CONTAINER, .run = command_export },
	{ .path = "container prune", .usage = "[OPTIONS]", .summary = "Remove all stopped containers",
	  .flags = flags_prune, .run = command_container_prune },

	{ .path = "inspect", .usage = "[OPTIONS] NAME|ID [NAME|ID...]",
	  .summary = "Return low-level information on objects of the engine", .flags = flags_inspect, .min = 1,
	  .max = ANY_NUMBER, .operand = OPERAND_CONTAINER, .run = command_inspect },

	{ .path = "image ls", .aliases = "images,image list", .usage = "[OPTIONS] [REPOSITORY[:TAG]]",
	  .summary = "List images", .details = "Filters: dangling, label, before, since, until, reference.",
	  .flags = flags_images, .max = 1, .operand = OPERAND_IMAGE, .run = command_images },
	{ .path = "image build", .aliases = "build,builder build", .usage = "[OPTIONS] PATH | URL | -",
	  .summary = "Build an image from a Dockerfile",
	  .details = "PATH is the build context; what .dockerignore in it names stays here. '-' reads a "
		     "Dockerfile or an archive of a context from standard input.",
	  .flags = flags_build, .min = 1, .max = 1, .run = command_build },
	{ .path = "image pull", .aliases = "pull", .usage = "[OPTIONS] NAME[:TAG|@DIGEST]",
	  .summary = "Download an image from a registry", .flags = flags_pull, .min = 1, .max = 1,
	  .operand = OPERAND_IMAGE, .run = command_pull },
	{ .path = "image push", .aliases = "push", .usage = "[OPTIONS] NAME[:TAG]",
	  .summary = "Upload an image to a registry", .flags = flags_push, .min = 1, .max = 1,
	  .operand = OPERAND_IMAGE, .run = command_push },
	{ .path = "image inspect", .usage = "[OPTIONS] IMAGE [IMAGE...]",
	  .summary = "Display detailed information on one or more images", .flags = flags_one_inspect, .min = 1,
	  .max = ANY_NUMBER, .operand = OPERAND_IMAGE, .run = command_image_inspect },
	{ .path = "image history", .aliases = "history", .usage = "[OPTIONS] IMAGE",
	  .summary = "Show the history of an image", .flags = flags_history, .min = 1, .max = 1,
	  .operand = OPERAND_IMAGE, .run = command_history },
	{ .path = "image tag", .aliases = "tag", .usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
	  .summary = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", .min = 2, .max = 2,
	  .operand = OPERAND_IMAGE, .run = command_tag },
	{ .path = "image rm", .aliases = "rmi,image remove", .usage = "[OPTIONS] IMAGE [IMAGE...]",
	  .summary = "Remove one or more images", .flags = flags_rmi, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_IMAGE, .run = command_rmi },
	{ .path = "image save", .aliases = "save", .usage = "[OPTIONS] IMAGE [IMAGE...]",
	  .summary = "Save one or more images to a tar archive (streamed to STDOUT by default)", .flags = flags_save,
	  .min = 1, .max = ANY_NUMBER, .operand = OPERAND_IMAGE, .run = command_save },
	{ .path = "image load", .aliases = "load", .usage = "[OPTIONS]",
	  .summary = "Load an image from a tar archive or STDIN", .flags = flags_load, .run = command_load },
	{ .path = "image import", .aliases = "import", .usage = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
	  .summary = "Import the contents from a tarball to create a filesystem image", .flags = flags_import,
	  .min = 1, .max = 2, .run = command_import },
	{ .path = "image prune", .usage = "[OPTIONS]", .summary = "Remove unused images", .flags = flags_image_prune,
	  .run = command_image_prune },
	{ .path = "builder prune", .usage = "[OPTIONS]", .summary = "Remove build cache",
	  .flags = flags_builder_prune, .run = command_builder_prune },

	{ .path = "volume create", .usage = "[OPTIONS] [VOLUME]", .summary = "Create a volume",
	  .flags = flags_volume_create, .max = 1, .run = command_volume_create },
	{ .path = "volume inspect", .usage = "[OPTIONS] VOLUME [VOLUME...]",
	  .summary = "Display detailed information on one or more volumes", .flags = flags_one_inspect, .min = 1,
	  .max = ANY_NUMBER, .operand = OPERAND_VOLUME, .run = command_volume_inspect },
	{ .path = "volume ls", .aliases = "volume list", .usage = "[OPTIONS]", .summary = "List volumes",
	  .details = "Filters: dangling, driver, label, name.", .flags = flags_volume_ls, .run = command_volume_ls },
	{ .path = "volume prune", .usage = "[OPTIONS]", .summary = "Remove unused local volumes",
	  .flags = flags_volume_prune, .run = command_volume_prune },
	{ .path = "volume rm", .aliases = "volume remove", .usage = "[OPTIONS] VOLUME [VOLUME...]",
	  .summary = "Remove one or more volumes", .flags = flags_volume_rm, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_VOLUME, .run = command_volume_rm },

	{ .path = "network connect", .usage = "[OPTIONS] NETWORK CONTAINER",
	  .summary = "Connect a container to a network", .flags = flags_network_connect, .min = 2, .max = 2,
	  .operand = OPERAND_NETWORK, .run = command_network_connect },
	{ .path = "network create", .usage = "[OPTIONS] NETWORK", .summary = "Create a network",
	  .flags = flags_network_create, .min = 1, .max = 1, .run = command_network_create },
	{ .path = "network disconnect", .usage = "[OPTIONS] NETWORK CONTAINER",
	  .summary = "Disconnect a container from a network", .flags = flags_network_disconnect, .min = 2, .max = 2,
	  .operand = OPERAND_NETWORK, .run = command_network_disconnect },
	{ .path = "network inspect", .usage = "[OPTIONS] NETWORK [NETWORK...]",
	  .summary = "Display detailed information on one or more networks", .flags = flags_network_inspect, .min = 1,
	  .max = ANY_NUMBER, .operand = OPERAND_NETWORK, .run = command_network_inspect },
	{ .path = "network ls", .aliases = "network list", .usage = "[OPTIONS]", .summary = "List networks",
	  .details = "Filters: dangling, driver, id, label, name, scope, type.", .flags = flags_network_ls,
	  .run = command_network_ls },
	{ .path = "network prune", .usage = "[OPTIONS]", .summary = "Remove all unused networks",
	  .flags = flags_prune, .run = command_network_prune },
	{ .path = "network rm", .aliases = "network remove", .usage = "NETWORK [NETWORK...]",
	  .summary = "Remove one or more networks", .flags = flags_network_rm, .min = 1, .max = ANY_NUMBER,
	  .operand = OPERAND_NETWORK, .run = command_network_rm },

	{ .path = "system df", .usage = "[OPTIONS]", .summary = "Show disk usage", .flags = flags_df,
	  .run = command_df },
	{ .path = "system doctor", .usage = "[OPTIONS]", .summary = "Check the daemon's host and tell what is missing",
	  .details = "Each check is ok, a warning or failed, with what there is and what to do about it. The exit status is 1 where one failed, else 0.\n"
		     "Where no daemon answers, that is said, and gantryd looks at this host by itself.",
	  .flags = flags_doctor, .run = command_doctor },
	{ .path = "system events", .aliases = "events", .usage = "[OPTIONS]",
	  .summary = "Get real time events from the server",
	  .details = "Filters: container, daemon, event, image, label, network, plugin, type, volume.",
	  .flags = flags_events, .run = command_events },
	{ .path = "system info", .aliases = "info", .usage = "[OPTIONS]",
	  .summary = "Display system-wide information", .flags = flags_one_inspect, .run = command_info },
	{ .path = "system prune", .usage = "[OPTIONS]", .summary = "Remove unused data", .flags = flags_system_prune,
	  .run = command_system_prune },
	{ .path = "version", .usage = "[OPTIONS]", .summary = "Show the version information of client and daemon",
	  .flags = flags_one_inspect, .run = command_version },
	{ .path = "plugin ls", .aliases = "plugin list", .usage = "[OPTIONS]", .summary = "List plugins",
	  .flags = flags_network_ls, .run = command_plugin_ls },
	{ .path = "plugin check", .usage = "FILE.so [KEY=VALUE...]", .summary = "Try every rule of the plugin ABI on a driver",
	  .details = "Needs no daemon: the driver is loaded as the daemon loads it, in namespaces and a directory of the check's own, below $TMPDIR (/var/tmp), "
		     "whose file system matters to storage drivers. KEY=VALUE are lines of its INI section, isolate=process among them.\n"
		     "The report is TAP, where # SKIP marks a rule that could not be tried; the exit status is 0 where every rule is kept, 1 where not, "
		     "2 where the plugin cannot be loaded.",
	  .min = 1, .max = ANY_NUMBER, .run = command_plugin_check },
	{ .path = "plugin disable", .usage = "PLUGIN [PLUGIN...]", .summary = "Disable one or more plugins",
	  .details = "Their drivers are closed and cannot be used until gantry plugin enable, also after a restart of the daemon. A plugin that networks,\n"
		     "volumes or images use is not disabled; what uses it is told.",
	  .flags = flags_plugin_disable, .min = 1, .max = ANY_NUMBER, .operand = OPERAND_PLUGIN, .run = command_plugin_disable },
	{ .path = "plugin enable", .usage = "PLUGIN [PLUGIN...]", .summary = "Enable one or more plugins",
	  .details = "Brings back what gantry plugin disable took away. The plugin's file and its section of gantryd.ini are read as they are now; so a\n"
		     "plugin that was refused at the daemon's start, or that is new in plugin_dir, can be taken into use too.",
	  .flags = flags_plugin_enable, .min = 1, .max = ANY_NUMBER, .operand = OPERAND_PLUGIN, .run = command_plugin_enable },
	{ .path = "plugin inspect", .usage = "[OPTIONS] PLUGIN [PLUGIN...]",
	  .summary = "Display detailed information on one or more plugins", .flags = flags_one_inspect, .min = 1,
	  .max = ANY_NUMBER, .operand = OPERAND_PLUGIN, .run = command_plugin_inspect },
	{ .path = "plugin new", .usage = "KIND NAME", .summary = "Write the source of a driver to begin with, into directory NAME",
	  .details = "KIND is network, volume or storage. What is written builds with make, and passes make check.", .min = 2, .max = 2,
	  .run = command_plugin_new },
	{ .path = "plugin reload", .usage = "[OPTIONS] PLUGIN [PLUGIN...]", .summary = "Take the new file or settings of one or more plugins into use",
	  .details = "No container is stopped. The plugin's file and its section of gantryd.ini are read as they are now and checked; calls of its drivers wait\n"
		     "while the drivers are closed, opened from the new file and told what there is. Where anything fails, the plugin goes on as it was, and the\n"
		     "reason is told. Put a new file in place with install(1), or with mv(1) from beside the old one: the old one is in use until then.",
	  .flags = flags_plugin_reload, .min = 1, .max = ANY_NUMBER, .operand = OPERAND_PLUGIN, .run = command_plugin_reload },

	{ .path = "login", .usage = "[OPTIONS] [SERVER]", .summary = "Authenticate to a registry",
	  .flags = flags_login, .max = 1, .run = command_login },
	{ .path = "logout", .usage = "[SERVER]", .summary = "Log out from a registry", .max = 1,
	  .run = command_logout },
	{ .path = "search", .usage = "[OPTIONS] TERM", .summary = "Search a registry for images",
	  .flags = flags_search, .min = 1, .max = 1, .run = command_search },
	{ .path = "completion", .usage = "bash|zsh|fish", .summary = "Print a completion script for a shell",
	  .details = "For bash: gantry completion bash >/etc/bash_completion.d/gantry", .min = 1, .max = 1,
	  .run = command_completion },
	{ .path = "__man", .usage = "DIR", .summary = "Write the manual pages into a directory", .min = 1, .max = 1,
	  .hidden = true, .run = command_man },
	{ .path = NULL },
};

/* ---- finding ---- */

/* The next of a comma separated list into name; NULL at the end. */
static const char *next_alias(const char *aliases, char name[static 64])
{
	if (!aliases || !*aliases)
		return NULL;
	size_t len = strcspn(aliases, ",");
	snprintf(name, 64, "%.*s", (int)len, aliases);
	return aliases + len + (aliases[len] == ',');
}

const struct command *command_find(const char *path)
{
	char name[64];
	for (const struct command *command = commands; command->path; command++) {
		if (strcmp(command->path, path) == 0)
			return command;
		for (const char *at = command->aliases; (at = next_alias(at, name)) != NULL;) {
			if (strcmp(name, path) == 0)
				return command;
		}
	}
	return NULL;
}

/* Is path directly below the family? */
static bool belongs(const char *family, const char *path)
{
	size_t len = strlen(family);
	if (len == 0)
		return !strchr(path, ' ');
	return strncmp(path, family, len) == 0 && path[len] == ' ' && !strchr(path + len + 1, ' ');
}

void command_each(const char *family, void (*visit)(const struct command *command, const char *path, void *arg), void *arg)
{
	char name[64];
	for (const struct command *command = commands; command->path; command++) {
		if (command->hidden)
			continue;
		if (belongs(family, command->path))
			visit(command, command->path, arg);
		for (const char *at = command->aliases; (at = next_alias(at, name)) != NULL;) {
			if (belongs(family, name))
				visit(command, name, arg);
		}
	}
}

/* ---- the nearest name ---- */

enum { MAX_WORD = 32 };

/* Edits that turn a into b; two neighbours exchanged count as one. */
static int distance(const char *a, const char *b)
{
	int cost[MAX_WORD + 1][MAX_WORD + 1];
	size_t la = strlen(a), lb = strlen(b);
	if (la > MAX_WORD || lb > MAX_WORD)
		return MAX_WORD;
	for (size_t i = 0; i <= la; i++) {
		for (size_t j = 0; j <= lb; j++) {
			if (i == 0 || j == 0) {
				cost[i][j] = (int)(i + j);
				continue;
			}
			int best = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (cost[i - 1][j] + 1 < best)
				best = cost[i - 1][j] + 1;
			if (cost[i][j - 1] + 1 < best)
				best = cost[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && cost[i - 2][j - 2] + 1 < best)
				best = cost[i - 2][j - 2] + 1;
			cost[i][j] = best;
		}
	}
	return cost[la][lb];
}

struct nearest {
	const char *word;
	int best;
	char *name;
};

static void consider(const struct command *command, const char *path, void *arg)
{
	struct nearest *nearest = arg;
	const char *space = strrchr(path, ' ');
	const char *name = space ? space + 1 : path;
	int far = distance(nearest->word, name);
	(void)command;
	if (far < nearest->best) {
		nearest->best = far;
		free(nearest->name);
		nearest->name = gt_xstrdup(name);
	}
}

char *command_nearest(const char *family, const char *word)
{
	size_t len = strlen(word);
	struct nearest nearest = { .word = word, .best = len < 4 ? 2 : 3 };
	command_each(family, consider, &nearest);
	return nearest.name;
}

size_t flags_count(const struct flag *flags)
{
	size_t count = 0;
	while (flags && flags[count].name)
		count++;
	return count;
}

const char *flag_type_name(const struct flag *flag)
{
	static const char *const names[] = {
		[FLAG_STRING] = "string", [FLAG_INT] = "int",		[FLAG_UINT16] = "uint16",
		[FLAG_BYTES] = "bytes",	  [FLAG_DURATION] = "duration", [FLAG_DECIMAL] = "decimal",
		[FLAG_LIST] = "list",	  [FLAG_CSV] = "strings",	[FLAG_MAP] = "map",
		[FLAG_FILTER] = "filter",
	};
	return flag->type_name ? flag->type_name : names[flag->type];
}
