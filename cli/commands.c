/*
 * commands.c - the table of commands.
 *
 * A row's path is its full name; its aliases are further full names, under which it works and is listed as well. Flags
 * that several rows share, and short lists, stand here; those of run and its kin in flags_run.c.
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

#define FORMAT_FLAG                                                                                                  \
	FLAG("format", 0, STRING, NULL, "Format the output: 'table', 'table TEMPLATE', 'json', or a Go template such as " \
					"'{{.ID}} {{.Name}}'")
#define INSPECT_FORMAT FLAG("format", 'f', STRING, NULL, "Format the output: 'json', or a Go template such as '{{.Id}}'")
#define FILTER_FLAG NAMED("filter", 'f', FILTER, NULL, "Filter output based on conditions provided", "filter")
#define PRUNE_FILTER NAMED("filter", 0, FILTER, NULL, "Provide filter values (e.g. \"until=24h\", \"label=KEY=VALUE\")", "filter")
#define FORCE_PRUNE FLAG("force", 'f', BOOL, NULL, "Do not prompt for confirmation")
#define NO_TRUNC FLAG("no-trunc", 0, BOOL, NULL, "Don't truncate output")
#define QUIET_IDS FLAG("quiet", 'q', BOOL, NULL, "Only display IDs")
#define DETACH_KEYS FLAG("detach-keys", 0, STRING, NULL, "Override the key sequence for detaching a container")
#define SIG_PROXY FLAG("sig-proxy", 0, BOOL, "true", "Proxy all received signals to the process")

static const struct flag flags_attach[] = { DETACH_KEYS, FLAG("no-stdin", 0, BOOL, NULL, "Do not attach STDIN"), SIG_PROXY, END_OF_FLAGS };
static const struct flag flags_commit[] = {
	FLAG("author", 'a', STRING, NULL, "Author (e.g., \"Grace Hopper <grace@example.com>\")"),
	FLAG("change", 'c', LIST, NULL, "Apply Dockerfile instruction to the created image"),
	FLAG("message", 'm', STRING, NULL, "Commit message"),
	FLAG("pause", 'p', BOOL, "true", "Pause container during commit"),
	END_OF_FLAGS,
};
static const struct flag flags_cp[] = {
	FLAG("archive", 'a', BOOL, NULL, "Archive mode (copy all uid/gid information)"),
	FLAG("follow-link", 'L', BOOL, NULL, "Always follow symbol link in SRC_PATH"),
	FLAG("quiet", 'q', BOOL, NULL, "Say nothing on the terminal when done"),
	END_OF_FLAGS,
};
static const struct flag flags_output[] = { FLAG("output", 'o', STRING, NULL, "Write to a file, instead of STDOUT"), END_OF_FLAGS };
static const struct flag flags_kill[] = { FLAG("signal", 's', STRING, NULL, "Signal to send to the container"), END_OF_FLAGS };
static const struct flag flags_logs[] = {
	FLAG("details", 0, BOOL, NULL, "Show extra details provided to logs"),
	FLAG("follow", 'f', BOOL, NULL, "Follow log output"),
	FLAG("since", 0, STRING, NULL, "Show logs since timestamp (e.g. \"2026-01-02T13:23:37Z\") or relative (e.g. \"42m\")"),
	FLAG("tail", 'n', STRING, "all", "Number of lines to show from the end of the logs"),
	FLAG("timestamps", 't', BOOL, NULL, "Show timestamps"),
	FLAG("until", 0, STRING, NULL, "Show logs before a timestamp (e.g. \"2026-01-02T13:23:37Z\") or relative (e.g. \"42m\")"),
	END_OF_FLAGS,
};
static const struct flag flags_ps[] = {
	FLAG("all", 'a', BOOL, NULL, "Show all containers (default shows just running)"),
	FILTER_FLAG,
	FORMAT_FLAG,
	FLAG("last", 'n', INT, "-1", "Show n last created containers (includes all states)"),
	FLAG("latest", 'l', BOOL, NULL, "Show the latest created container (includes all states)"),
	NO_TRUNC,
	QUIET_IDS,
	FLAG("size", 's', BOOL, NULL, "Display total file sizes"),
	END_OF_FLAGS,
};
static const struct flag flags_prune[] = { PRUNE_FILTER, FORCE_PRUNE, END_OF_FLAGS };
static const struct flag flags_stop[] = {
	FLAG("signal", 's', STRING, NULL, "Signal to send to the container"),
	{ .name = "time", .type = FLAG_INT, .hidden = true, .doc = "Old name of --timeout" },
	FLAG("timeout", 't', INT, NULL, "Seconds to wait before killing the container"),
	END_OF_FLAGS,
};
static const struct flag flags_rm[] = {
	FLAG("force", 'f', BOOL, NULL, "Force the removal of a running container (uses SIGKILL)"),
	FLAG("link", 'l', BOOL, NULL, "Remove the specified link"),
	FLAG("volumes", 'v', BOOL, NULL, "Remove anonymous volumes associated with the container"),
	END_OF_FLAGS,
};
static const struct flag flags_start[] = {
	FLAG("attach", 'a', BOOL, NULL, "Attach STDOUT/STDERR and forward signals"),
	DETACH_KEYS,
	FLAG("interactive", 'i', BOOL, NULL, "Attach container's STDIN"),
	SIG_PROXY,
	END_OF_FLAGS,
};
static const struct flag flags_stats[] = {
	FLAG("all", 'a', BOOL, NULL, "Show all containers (default shows just running)"),
	FORMAT_FLAG,
	FLAG("no-stream", 0, BOOL, NULL, "Disable streaming stats and only pull the first result"),
	NO_TRUNC,
	END_OF_FLAGS,
};
static const struct flag flags_inspect[] = {
	INSPECT_FORMAT,
	FLAG("size", 's', BOOL, NULL, "Display total file sizes if the type is container"),
	FLAG("type", 0, STRING, NULL, "Only inspect objects of the given type: container, image, network, volume or plugin"),
	END_OF_FLAGS,
};
static const struct flag flags_container_inspect[] = { INSPECT_FORMAT, FLAG("size", 's', BOOL, NULL, "Display total file sizes"), END_OF_FLAGS };
static const struct flag flags_one_inspect[] = { INSPECT_FORMAT, END_OF_FLAGS };
static const struct flag flags_network_inspect[] = {
	INSPECT_FORMAT, FLAG("verbose", 'v', BOOL, NULL, "Verbose output for diagnostics"), END_OF_FLAGS
};

/* ---- images ---- */

const struct flag flags_build[] = {
	FLAG("add-host", 0, LIST, NULL, "Add a line to /etc/hosts while building (HOST:ADDRESS)"),
	FLAG("build-arg", 0, LIST, NULL, "Set build-time variables (NAME=VALUE, or NAME for your own value)"),
	FLAG("cache-from", 0, CSV, NULL, "Images to consider as cache sources"),
	FLAG("cgroup-parent", 0, STRING, NULL, "Parent cgroup of the RUN instructions"),
	FLAG("compress", 0, BOOL, NULL, "Compress the build context using gzip"),
	FLAG("cpu-period", 0, INT, NULL, "Limit CPU: length of the scheduler's period, in microseconds"),
	FLAG("cpu-quota", 0, INT, NULL, "Limit CPU: time in each period, in microseconds"),
	FLAG("cpu-shares", 'c', INT, NULL, "CPU shares (relative weight)"),
	FLAG("cpuset-cpus", 0, STRING, NULL, "CPUs in which to allow execution (0-3, 0,1)"),
	FLAG("cpuset-mems", 0, STRING, NULL, "Memory nodes in which to allow execution (0-3, 0,1)"),
	REFUSED("disable-content-trust", 0, BOOL, NULL, TRUST),
	FLAG("file", 'f', STRING, NULL, "Name of the Dockerfile (default is PATH/Dockerfile)"),
	FLAG("force-rm", 0, BOOL, NULL, "Always remove intermediate containers"),
	FLAG("iidfile", 0, STRING, NULL, "Write the image ID to the file"),
	REFUSED("isolation", 0, STRING, NULL, "it is for Windows containers"),
	FLAG("label", 0, LIST, NULL, "Set metadata for an image"),
	FLAG("memory", 'm', BYTES, NULL, "Memory limit"),
	FLAG("memory-swap", 0, BYTES, NULL, "Limit of memory plus swap: -1 for unlimited swap"),
	FLAG("network", 0, STRING, NULL, "Set the networking mode for the RUN instructions during build"),
	FLAG("no-cache", 0, BOOL, NULL, "Do not use cache when building the image"),
	FLAG("platform", 0, STRING, NULL, "Set platform if server is multi-platform capable"),
	FLAG("pull", 0, BOOL, NULL, "Always attempt to pull a newer version of the image"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress the build output and print image ID on success"),
	FLAG("rm", 0, BOOL, "true", "Remove intermediate containers after a successful build"),
	REFUSED("security-opt", 0, CSV, NULL, "RUN instructions have the default security settings"),
	FLAG("shm-size", 0, BYTES, NULL, "Size of /dev/shm"),
	REFUSED("squash", 0, BOOL, NULL, "export a container and import it to have one layer"),
	FLAG("tag", 't', LIST, NULL, "Name and optionally a tag in the \"name:tag\" format"),
	FLAG("target", 0, STRING, NULL, "Set the target build stage to build"),
	NAMED("ulimit", 0, LIST, NULL, "Ulimit options (NAME=SOFT[:HARD])", "ulimit"),
	END_OF_FLAGS,
};
static const struct flag flags_images[] = {
	FLAG("all", 'a', BOOL, NULL, "Show all images (default hides intermediate images)"),
	FLAG("digests", 0, BOOL, NULL, "Show digests"),
	FILTER_FLAG,
	FORMAT_FLAG,
	NO_TRUNC,
	QUIET_IDS,
	REFUSED("tree", 0, BOOL, NULL, "images here have one platform"),
	END_OF_FLAGS,
};
static const struct flag flags_history[] = {
	FORMAT_FLAG,
	FLAG("human", 'H', BOOL, "true", "Print sizes and dates in human readable format"),
	NO_TRUNC,
	REFUSED("platform", 0, STRING, NULL, "images here have one platform"),
	QUIET_IDS,
	END_OF_FLAGS,
};
static const struct flag flags_import[] = {
	FLAG("change", 'c', LIST, NULL, "Apply Dockerfile instruction to the created image"),
	FLAG("message", 'm', STRING, NULL, "Set commit message for imported image"),
	FLAG("platform", 0, STRING, NULL, "Set platform if server is multi-platform capable"),
	END_OF_FLAGS,
};
static const struct flag flags_load[] = {
	FLAG("input", 'i', STRING, NULL, "Read from tar archive file, instead of STDIN"),
	FLAG("platform", 0, STRING, NULL, "Load only the given platform variant"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress the load output"),
	END_OF_FLAGS,
};
static const struct flag flags_save[] = {
	FLAG("output", 'o', STRING, NULL, "Write to a file, instead of STDOUT"),
	FLAG("platform", 0, STRING, NULL, "Save only the given platform variant"),
	END_OF_FLAGS,
};
static const struct flag flags_image_prune[] = {
	FLAG("all", 'a', BOOL, NULL, "Remove all unused images, not just dangling ones"), PRUNE_FILTER, FORCE_PRUNE, END_OF_FLAGS
};
static const struct flag flags_rmi[] = {
	FLAG("force", 'f', BOOL, NULL, "Force removal of the image"),
	FLAG("no-prune", 0, BOOL, NULL, "Do not delete untagged parents"),
	REFUSED("platform", 0, CSV, NULL, "images here have one platform"),
	END_OF_FLAGS,
};
static const struct flag flags_pull[] = {
	FLAG("all-tags", 'a', BOOL, NULL, "Download all tagged images in the repository"),
	REFUSED("disable-content-trust", 0, BOOL, NULL, TRUST),
	FLAG("platform", 0, STRING, NULL, "Set platform if server is multi-platform capable"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress verbose output"),
	END_OF_FLAGS,
};
static const struct flag flags_push[] = {
	FLAG("all-tags", 'a', BOOL, NULL, "Push all tags of an image to the repository"),
	REFUSED("disable-content-trust", 0, BOOL, NULL, TRUST),
	REFUSED("platform", 0, STRING, NULL, "images here have one platform"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress verbose output"),
	END_OF_FLAGS,
};
static const struct flag flags_builder_prune[] = {
	FLAG("all", 'a', BOOL, NULL, "Remove all unused build cache, not just dangling ones"),
	PRUNE_FILTER,
	FORCE_PRUNE,
	FLAG("keep-storage", 0, BYTES, NULL, "Amount of disk space to keep for cache"),
	END_OF_FLAGS,
};
static const struct flag flags_login[] = {
	FLAG("password", 'p', STRING, NULL, "Password"),
	FLAG("password-stdin", 0, BOOL, NULL, "Take the password from stdin"),
	FLAG("username", 'u', STRING, NULL, "Username"),
	END_OF_FLAGS,
};
static const struct flag flags_search[] = {
	FILTER_FLAG, FORMAT_FLAG, FLAG("limit", 0, INT, "25", "Max number of search results"), NO_TRUNC, END_OF_FLAGS
};

/* ---- volumes, networks, system ---- */

static const struct flag flags_volume_create[] = {
	REFUSED("availability", 0, STRING, NULL, CLUSTER),
	FLAG("driver", 'd', STRING, "local", "Specify volume driver name"),
	REFUSED("group", 0, STRING, NULL, CLUSTER),
	FLAG("label", 0, LIST, NULL, "Set metadata for a volume"),
	REFUSED("limit-bytes", 0, STRING, NULL, CLUSTER),
	FLAG("opt", 'o', MAP, NULL, "Set driver specific options"),
	REFUSED("required-bytes", 0, STRING, NULL, CLUSTER),
	REFUSED("scope", 0, STRING, NULL, CLUSTER),
	REFUSED("secret", 0, STRING, NULL, CLUSTER),
	REFUSED("sharing", 0, STRING, NULL, CLUSTER),
	REFUSED("topology-preferred", 0, STRING, NULL, CLUSTER),
	REFUSED("topology-required", 0, STRING, NULL, CLUSTER),
	REFUSED("type", 0, STRING, NULL, CLUSTER),
	END_OF_FLAGS,
};
static const struct flag flags_volume_ls[] = {
	REFUSED("cluster", 0, BOOL, NULL, CLUSTER), FILTER_FLAG, FORMAT_FLAG, FLAG("quiet", 'q', BOOL, NULL, "Only display volume names"), END_OF_FLAGS
};
static const struct flag flags_volume_prune[] = {
	FLAG("all", 'a', BOOL, NULL, "Remove all unused volumes, not just anonymous ones"), PRUNE_FILTER, FORCE_PRUNE, END_OF_FLAGS
};
static const struct flag flags_volume_rm[] = { FLAG("force", 'f', BOOL, NULL, "Force the removal of one or more volumes"), END_OF_FLAGS };
static const struct flag flags_network_create[] = {
	FLAG("attachable", 0, BOOL, NULL, "Enable manual container attachment"),
	FLAG("aux-address", 0, MAP, NULL, "Auxiliary IPv4 or IPv6 addresses used by Network driver (NAME=ADDRESS)"),
	REFUSED("config-from", 0, STRING, NULL, CLUSTER),
	REFUSED("config-only", 0, BOOL, NULL, CLUSTER),
	FLAG("driver", 'd', STRING, "bridge", "Driver to manage the Network"),
	FLAG("gateway", 0, CSV, NULL, "IPv4 or IPv6 Gateway for the master subnet"),
	REFUSED("ingress", 0, BOOL, NULL, CLUSTER),
	FLAG("internal", 0, BOOL, NULL, "Restrict external access to the network"),
	FLAG("ip-range", 0, CSV, NULL, "Allocate container ip from a sub-range"),
	FLAG("ipam-driver", 0, STRING, "default", "IP Address Management Driver"),
	FLAG("ipam-opt", 0, MAP, NULL, "Set IPAM driver specific options"),
	FLAG("ipv4", 0, BOOL, "true", "Enable or disable IPv4 address assignment"),
	FLAG("ipv6", 0, BOOL, NULL, "Enable or disable IPv6 address assignment"),
	FLAG("label", 0, LIST, NULL, "Set metadata on a network"),
	FLAG("opt", 'o', MAP, NULL, "Set driver specific options"),
	FLAG("scope", 0, STRING, NULL, "Control the network's scope"),
	FLAG("subnet", 0, CSV, NULL, "Subnet in CIDR format that represents a network segment"),
	END_OF_FLAGS,
};
static const struct flag flags_network_connect[] = {
	FLAG("alias", 0, CSV, NULL, "Add network-scoped alias for the container"),
	FLAG("driver-opt", 0, CSV, NULL, "Driver options for the network (NAME=VALUE)"),
	FLAG("gw-priority", 0, INT, NULL, "Highest gw-priority provides the default gateway"),
	FLAG("ip", 0, STRING, NULL, "IPv4 address (e.g., \"172.30.100.104\")"),
	FLAG("ip6", 0, STRING, NULL, "IPv6 address (e.g., \"2001:db8::33\")"),
	FLAG("link", 0, LIST, NULL, "Add link to another container"),
	FLAG("link-local-ip", 0, CSV, NULL, "Add a link-local address for the container"),
	END_OF_FLAGS,
};
static const struct flag flags_network_disconnect[] = {
	FLAG("force", 'f', BOOL, NULL, "Force the container to disconnect from a network"), END_OF_FLAGS
};
static const struct flag flags_network_ls[] = { FILTER_FLAG, FORMAT_FLAG, NO_TRUNC, QUIET_IDS, END_OF_FLAGS };
static const struct flag flags_network_rm[] = { FLAG("force", 'f', BOOL, NULL, "Do not error if the network does not exist"), END_OF_FLAGS };
static const struct flag flags_df[] = { FORMAT_FLAG, FLAG("verbose", 'v', BOOL, NULL, "Show detailed information on space usage"), END_OF_FLAGS };
static const struct flag flags_events[] = {
	FILTER_FLAG,
	FORMAT_FLAG,
	FLAG("since", 0, STRING, NULL, "Show all events created since timestamp"),
	FLAG("until", 0, STRING, NULL, "Stream events until this timestamp"),
	END_OF_FLAGS,
};
static const struct flag flags_system_prune[] = {
	FLAG("all", 'a', BOOL, NULL, "Remove all unused images not just dangling ones"),
	PRUNE_FILTER,
	FORCE_PRUNE,
	FLAG("volumes", 0, BOOL, NULL, "Prune anonymous volumes"),
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
	{ .path = "plugin", .usage = "COMMAND", .summary = "Show plugins" },
	{ .path = "builder", .usage = "COMMAND", .summary = "Manage builds" },

	{ "container run", "run", IMAGE_COMMAND, "Create and run a new container from an image",
	  "The exit status is the container's own; 125 where the daemon refused, 126 where the command cannot be executed, 127 where it "
	  "was not found, 128 and the signal's number where a signal ended it.\n\n"
	  "Without -d, standard output and error of the container are shown here, signals are passed on to it, and gantry leaves when the "
	  "container does. With -it, the keys ctrl-p ctrl-q leave it running.",
	  flags_run, 1, ANY_NUMBER, true, false, OPERAND_IMAGE, command_run },
	{ "container exec", "exec", "[OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container", NULL, flags_exec, 2,
	  ANY_NUMBER, true, false, OPERAND_RUNNING, command_exec },
	{ "container ls", "ps,container ps,container list", "[OPTIONS]", "List containers",
	  "Filters: id, name, label, status, exited, ancestor, before, since, volume, network, publish, expose, health, is-task.", flags_ps, 0, 0,
	  false, false, OPERAND_NONE, command_ps },
	{ "container create", "create", IMAGE_COMMAND, "Create a new container", NULL, flags_create, 1, ANY_NUMBER, true, false, OPERAND_IMAGE,
	  command_create },
	{ "container start", "start", OPT_CONTAINERS, "Start one or more stopped containers", NULL, flags_start, 1, ANY_NUMBER, false, false,
	  OPERAND_CONTAINER, command_start },
	{ "container stop", "stop", OPT_CONTAINERS, "Stop one or more running containers", NULL, flags_stop, 1, ANY_NUMBER, false, false,
	  OPERAND_RUNNING, command_stop },
	{ "container restart", "restart", OPT_CONTAINERS, "Restart one or more containers", NULL, flags_stop, 1, ANY_NUMBER, false, false,
	  OPERAND_CONTAINER, command_restart },
	{ "container kill", "kill", OPT_CONTAINERS, "Kill one or more running containers", NULL, flags_kill, 1, ANY_NUMBER, false, false,
	  OPERAND_RUNNING, command_kill },
	{ "container pause", "pause", CONTAINERS, "Pause all processes within one or more containers", NULL, NULL, 1, ANY_NUMBER, false, false,
	  OPERAND_RUNNING, command_pause },
	{ "container unpause", "unpause", CONTAINERS, "Unpause all processes within one or more containers", NULL, NULL, 1, ANY_NUMBER, false,
	  false, OPERAND_RUNNING, command_unpause },
	{ "container rm", "rm,container remove", OPT_CONTAINERS, "Remove one or more containers", NULL, flags_rm, 1, ANY_NUMBER, false, false,
	  OPERAND_CONTAINER, command_rm },
	{ "container wait", "wait", CONTAINERS, "Block until one or more containers stop, then print their exit codes", NULL, NULL, 1, ANY_NUMBER,
	  false, false, OPERAND_CONTAINER, command_wait },
	{ "container attach", "attach", "[OPTIONS] CONTAINER", "Attach local standard input, output, and error streams to a running container",
	  NULL, flags_attach, 1, 1, false, false, OPERAND_RUNNING, command_attach },
	{ "container logs", "logs", "[OPTIONS] CONTAINER", "Fetch the logs of a container", NULL, flags_logs, 1, 1, false, false, OPERAND_CONTAINER,
	  command_logs },
	{ "container inspect", NULL, OPT_CONTAINERS, "Display detailed information on one or more containers", NULL, flags_container_inspect, 1,
	  ANY_NUMBER, false, false, OPERAND_CONTAINER, command_container_inspect },
	{ "container top", "top", "CONTAINER [ps OPTIONS]", "Display the running processes of a container", NULL, NULL, 1, ANY_NUMBER, true, false,
	  OPERAND_RUNNING, command_top },
	{ "container stats", "stats", "[OPTIONS] [CONTAINER...]", "Display a live stream of container(s) resource usage statistics", NULL,
	  flags_stats, 0, ANY_NUMBER, false, false, OPERAND_RUNNING, command_stats },
	{ "container diff", "diff", "CONTAINER", "Inspect changes to files or directories on a container's filesystem",
	  "Each line has a letter and a path: A added, C changed, D deleted.", NULL, 1, 1, false, false, OPERAND_CONTAINER, command_diff },
	{ "container cp", "cp", "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tgantry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
	  "Copy files/folders between a container and the local filesystem",
	  "Use '-' as the source to read a tar archive from stdin and extract it to a directory destination in a container. Use '-' as the "
	  "destination to stream a tar archive of a container source to stdout.\n\n"
	  "SRC_PATH ending in /. means the contents of a directory. Without -a, files copied out belong to you and lose their set-user-id "
	  "and set-group-id bits.",
	  flags_cp, 2, 2, false, false, OPERAND_CONTAINER, command_cp },
	{ "container port", "port", "CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings or a specific mapping for the container", NULL, NULL, 1, 2,
	  false, false, OPERAND_CONTAINER, command_port },
	{ "container rename", "rename", "CONTAINER NEW_NAME", "Rename a container", NULL, NULL, 2, 2, false, false, OPERAND_CONTAINER,
	  command_rename },
	{ "container update", "update", OPT_CONTAINERS, "Update configuration of one or more containers", NULL, flags_update, 1, ANY_NUMBER, false,
	  false, OPERAND_CONTAINER, command_update },
	{ "container commit", "commit", "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Create a new image from a container's changes", NULL, flags_commit,
	  1, 2, false, false, OPERAND_CONTAINER, command_commit },
	{ "container export", "export", "[OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive", NULL, flags_output, 1, 1, false,
	  false, OPERAND_CONTAINER, command_export },
	{ "container prune", NULL, "[OPTIONS]", "Remove all stopped containers", NULL, flags_prune, 0, 0, false, false, OPERAND_NONE,
	  command_container_prune },

	{ "inspect", NULL, "[OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on objects of the engine", NULL, flags_inspect, 1,
	  ANY_NUMBER, false, false, OPERAND_CONTAINER, command_inspect },

	{ "image ls", "images,image list", "[OPTIONS] [REPOSITORY[:TAG]]", "List images",
	  "Filters: dangling, label, before, since, until, reference.", flags_images, 0, 1, false, false, OPERAND_IMAGE, command_images },
	{ "image build", "build,builder build", "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile",
	  "PATH is the build context; what .dockerignore in it names stays here. '-' reads a Dockerfile or an archive of a context from "
	  "standard input.",
	  flags_build, 1, 1, false, false, OPERAND_NONE, command_build },
	{ "image pull", "pull", "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", NULL, flags_pull, 1, 1, false, false,
	  OPERAND_IMAGE, command_pull },
	{ "image push", "push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", NULL, flags_push, 1, 1, false, false, OPERAND_IMAGE,
	  command_push },
	{ "image inspect", NULL, "[OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images", NULL, flags_one_inspect, 1,
	  ANY_NUMBER, false, false, OPERAND_IMAGE, command_image_inspect },
	{ "image history", "history", "[OPTIONS] IMAGE", "Show the history of an image", NULL, flags_history, 1, 1, false, false, OPERAND_IMAGE,
	  command_history },
	{ "image tag", "tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", NULL, NULL, 2, 2,
	  false, false, OPERAND_IMAGE, command_tag },
	{ "image rm", "rmi,image remove", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", NULL, flags_rmi, 1, ANY_NUMBER, false, false,
	  OPERAND_IMAGE, command_rmi },
	{ "image save", "save", "[OPTIONS] IMAGE [IMAGE...]", "Save one or more images to a tar archive (streamed to STDOUT by default)", NULL,
	  flags_save, 1, ANY_NUMBER, false, false, OPERAND_IMAGE, command_save },
	{ "image load", "load", "[OPTIONS]", "Load an image from a tar archive or STDIN", NULL, flags_load, 0, 0, false, false, OPERAND_NONE,
	  command_load },
	{ "image import", "import", "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", "Import the contents from a tarball to create a filesystem image",
	  NULL, flags_import, 1, 2, false, false, OPERAND_NONE, command_import },
	{ "image prune", NULL, "[OPTIONS]", "Remove unused images", NULL, flags_image_prune, 0, 0, false, false, OPERAND_NONE, command_image_prune },
	{ "builder prune", NULL, "[OPTIONS]", "Remove build cache", NULL, flags_builder_prune, 0, 0, false, false, OPERAND_NONE,
	  command_builder_prune },

	{ "volume create", NULL, "[OPTIONS] [VOLUME]", "Create a volume", NULL, flags_volume_create, 0, 1, false, false, OPERAND_NONE,
	  command_volume_create },
	{ "volume inspect", NULL, "[OPTIONS] VOLUME [VOLUME...]", "Display detailed information on one or more volumes", NULL, flags_one_inspect, 1,
	  ANY_NUMBER, false, false, OPERAND_VOLUME, command_volume_inspect },
	{ "volume ls", "volume list", "[OPTIONS]", "List volumes", "Filters: dangling, driver, label, name.", flags_volume_ls, 0, 0, false, false,
	  OPERAND_NONE, command_volume_ls },
	{ "volume prune", NULL, "[OPTIONS]", "Remove unused local volumes", NULL, flags_volume_prune, 0, 0, false, false, OPERAND_NONE,
	  command_volume_prune },
	{ "volume rm", "volume remove", "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", NULL, flags_volume_rm, 1, ANY_NUMBER, false,
	  false, OPERAND_VOLUME, command_volume_rm },

	{ "network connect", NULL, "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network", NULL, flags_network_connect, 2, 2, false, false,
	  OPERAND_NETWORK, command_network_connect },
	{ "network create", NULL, "[OPTIONS] NETWORK", "Create a network", NULL, flags_network_create, 1, 1, false, false, OPERAND_NONE,
	  command_network_create },
	{ "network disconnect", NULL, "[OPTIONS] NETWORK CONTAINER", "Disconnect a container from a network", NULL, flags_network_disconnect, 2, 2,
	  false, false, OPERAND_NETWORK, command_network_disconnect },
	{ "network inspect", NULL, "[OPTIONS] NETWORK [NETWORK...]", "Display detailed information on one or more networks", NULL,
	  flags_network_inspect, 1, ANY_NUMBER, false, false, OPERAND_NETWORK, command_network_inspect },
	{ "network ls", "network list", "[OPTIONS]", "List networks", "Filters: dangling, driver, id, label, name, scope, type.", flags_network_ls, 0,
	  0, false, false, OPERAND_NONE, command_network_ls },
	{ "network prune", NULL, "[OPTIONS]", "Remove all unused networks", NULL, flags_prune, 0, 0, false, false, OPERAND_NONE,
	  command_network_prune },
	{ "network rm", "network remove", "NETWORK [NETWORK...]", "Remove one or more networks", NULL, flags_network_rm, 1, ANY_NUMBER, false, false,
	  OPERAND_NETWORK, command_network_rm },

	{ "system df", NULL, "[OPTIONS]", "Show disk usage", NULL, flags_df, 0, 0, false, false, OPERAND_NONE, command_df },
	{ "system events", "events", "[OPTIONS]", "Get real time events from the server",
	  "Filters: container, daemon, event, image, label, network, plugin, type, volume.", flags_events, 0, 0, false, false, OPERAND_NONE,
	  command_events },
	{ "system info", "info", "[OPTIONS]", "Display system-wide information", NULL, flags_one_inspect, 0, 0, false, false, OPERAND_NONE,
	  command_info },
	{ "system prune", NULL, "[OPTIONS]", "Remove unused data", NULL, flags_system_prune, 0, 0, false, false, OPERAND_NONE, command_system_prune },
	{ "version", NULL, "[OPTIONS]", "Show the version information of client and daemon", NULL, flags_one_inspect, 0, 0, false, false,
	  OPERAND_NONE, command_version },
	{ "plugin ls", "plugin list", "[OPTIONS]", "List plugins", NULL, flags_network_ls, 0, 0, false, false, OPERAND_NONE, command_plugin_ls },
	{ "plugin inspect", NULL, "[OPTIONS] PLUGIN [PLUGIN...]", "Display detailed information on one or more plugins", NULL, flags_one_inspect, 1,
	  ANY_NUMBER, false, false, OPERAND_NONE, command_plugin_inspect },

	{ "login", NULL, "[OPTIONS] [SERVER]", "Authenticate to a registry", NULL, flags_login, 0, 1, false, false, OPERAND_NONE, command_login },
	{ "logout", NULL, "[SERVER]", "Log out from a registry", NULL, NULL, 0, 1, false, false, OPERAND_NONE, command_logout },
	{ "search", NULL, "[OPTIONS] TERM", "Search a registry for images", NULL, flags_search, 1, 1, false, false, OPERAND_NONE, command_search },
	{ "completion", NULL, "bash|zsh|fish", "Print a completion script for a shell",
	  "For bash: gantry completion bash >/etc/bash_completion.d/gantry", NULL, 1, 1, false, false, OPERAND_NONE, command_completion },
	{ "__man", NULL, "DIR", "Write the manual pages into a directory", NULL, NULL, 1, 1, false, true, OPERAND_NONE, command_man },
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
		[FLAG_STRING] = "string", [FLAG_INT] = "int",       [FLAG_UINT16] = "uint16", [FLAG_BYTES] = "bytes", [FLAG_DURATION] = "duration",
		[FLAG_DECIMAL] = "decimal", [FLAG_LIST] = "list",   [FLAG_CSV] = "strings",   [FLAG_MAP] = "map",     [FLAG_FILTER] = "filter",
	};
	return flag->type_name ? flag->type_name : names[flag->type];
}
