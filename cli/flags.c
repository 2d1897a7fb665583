/*
 * flags.c - the flags of all commands but run and its kin (flags_run.c).
 */
#include "flags.h"

#define FORMAT_FLAG                                                                                                  \
	FLAG("format", 0, STRING, NULL, "Format the output: 'table', 'table TEMPLATE', 'json', or a Go template such as " \
					"'{{.ID}} {{.Name}}'")
#define INSPECT_FORMAT FLAG("format", 'f', STRING, NULL, "Format the output: 'json', or a Go template such as '{{.Id}}'")
#define FILTER_FLAG NAMED("filter", 'f', FILTER, NULL, "Filter output based on conditions provided", "filter")
#define PRUNE_FILTER                                                                                                   \
	NAMED("filter", 0, FILTER, NULL, "Provide filter values (e.g. \"until=24h\", \"label=KEY=VALUE\")", "filter")
#define FORCE_PRUNE FLAG("force", 'f', BOOL, NULL, "Do not prompt for confirmation")
#define NO_TRUNC FLAG("no-trunc", 0, BOOL, NULL, "Don't truncate output")
#define QUIET_IDS FLAG("quiet", 'q', BOOL, NULL, "Only display IDs")
#define DETACH_KEYS FLAG("detach-keys", 0, STRING, NULL, "Override the key sequence for detaching a container")
#define SIG_PROXY FLAG("sig-proxy", 0, BOOL, "true", "Proxy all received signals to the process")

const struct flag flags_attach[] = { DETACH_KEYS, FLAG("no-stdin", 0, BOOL, NULL, "Do not attach STDIN"),
					    SIG_PROXY, END_OF_FLAGS };
const struct flag flags_commit[] = {
	FLAG("author", 'a', STRING, NULL, "Author (e.g., \"Grace Hopper <grace@example.com>\")"),
	FLAG("change", 'c', LIST, NULL, "Apply Dockerfile instruction to the created image"),
	FLAG("message", 'm', STRING, NULL, "Commit message"),
	FLAG("pause", 'p', BOOL, "true", "Pause container during commit"),
	END_OF_FLAGS,
};
const struct flag flags_cp[] = {
	FLAG("archive", 'a', BOOL, NULL, "Archive mode (copy all uid/gid information)"),
	FLAG("follow-link", 'L', BOOL, NULL, "Always follow symbol link in SRC_PATH"),
	FLAG("quiet", 'q', BOOL, NULL, "Say nothing on the terminal when done"),
	END_OF_FLAGS,
};
const struct flag flags_output[] = { FLAG("output", 'o', STRING, NULL, "Write to a file, instead of STDOUT"),
					    END_OF_FLAGS };
const struct flag flags_kill[] = { FLAG("signal", 's', STRING, NULL, "Signal to send to the container"),
					  END_OF_FLAGS };
const struct flag flags_logs[] = {
	FLAG("details", 0, BOOL, NULL, "Show extra details provided to logs"),
	FLAG("follow", 'f', BOOL, NULL, "Follow log output"),
	FLAG("since", 0, STRING, NULL,
	     "Show logs since timestamp (e.g. \"2026-01-02T13:23:37Z\") or relative (e.g. \"42m\")"),
	FLAG("tail", 'n', STRING, "all", "Number of lines to show from the end of the logs"),
	FLAG("timestamps", 't', BOOL, NULL, "Show timestamps"),
	FLAG("until", 0, STRING, NULL,
	     "Show logs before a timestamp (e.g. \"2026-01-02T13:23:37Z\") or relative (e.g. \"42m\")"),
	END_OF_FLAGS,
};
const struct flag flags_ps[] = {
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
const struct flag flags_prune[] = { PRUNE_FILTER, FORCE_PRUNE, END_OF_FLAGS };
const struct flag flags_stop[] = {
	FLAG("signal", 's', STRING, NULL, "Signal to send to the container"),
	{ .name = "time", .type = FLAG_INT, .hidden = true, .doc = "Old name of --timeout" },
	FLAG("timeout", 't', INT, NULL, "Seconds to wait before killing the container"),
	END_OF_FLAGS,
};
const struct flag flags_rm[] = {
	FLAG("force", 'f', BOOL, NULL, "Force the removal of a running container (uses SIGKILL)"),
	FLAG("link", 'l', BOOL, NULL, "Remove the specified link"),
	FLAG("volumes", 'v', BOOL, NULL, "Remove anonymous volumes associated with the container"),
	END_OF_FLAGS,
};
const struct flag flags_start[] = {
	FLAG("attach", 'a', BOOL, NULL, "Attach STDOUT/STDERR and forward signals"),
	DETACH_KEYS,
	FLAG("interactive", 'i', BOOL, NULL, "Attach container's STDIN"),
	SIG_PROXY,
	END_OF_FLAGS,
};
const struct flag flags_stats[] = {
	FLAG("all", 'a', BOOL, NULL, "Show all containers (default shows just running)"),
	FORMAT_FLAG,
	FLAG("no-stream", 0, BOOL, NULL, "Disable streaming stats and only pull the first result"),
	NO_TRUNC,
	END_OF_FLAGS,
};
const struct flag flags_inspect[] = {
	INSPECT_FORMAT,
	FLAG("size", 's', BOOL, NULL, "Display total file sizes if the type is container"),
	FLAG("type", 0, STRING, NULL, "Only inspect objects of the given type: container, image, network, volume or plugin"),
	END_OF_FLAGS,
};
const struct flag flags_container_inspect[] = { INSPECT_FORMAT,
						       FLAG("size", 's', BOOL, NULL, "Display total file sizes"),
						       END_OF_FLAGS };
const struct flag flags_one_inspect[] = { INSPECT_FORMAT, END_OF_FLAGS };
const struct flag flags_network_inspect[] = {
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
	FLAG("output", 'o', LIST, NULL, "Where the result goes: DIRECTORY, or type=local|tar|oci|docker|image|registry|cacheonly[,dest=PATH][,name=NAME]"),
	FLAG("platform", 0, STRING, NULL, "Set platform if server is multi-platform capable"),
	FLAG("pull", 0, BOOL, NULL, "Always attempt to pull a newer version of the image"),
	FLAG("push", 0, BOOL, NULL, "Push the result by its tags"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress the build output and print image ID on success"),
	FLAG("rm", 0, BOOL, "true", "Remove intermediate containers after a successful build"),
	FLAG("secret", 0, LIST, NULL, "Secret for RUN --mount=type=secret (id=ID,src=FILE or id=ID,env=VARIABLE)"),
	REFUSED("security-opt", 0, CSV, NULL, "RUN instructions have the default security settings"),
	FLAG("shm-size", 0, BYTES, NULL, "Size of /dev/shm"),
	FLAG("squash", 0, BOOL, NULL, "Squash the newly built layers into a single one"),
	FLAG("ssh", 0, LIST, NULL, "SSH agent for RUN --mount=type=ssh (default, or ID=SOCKET)"),
	FLAG("tag", 't', LIST, NULL, "Name and optionally a tag in the \"name:tag\" format"),
	FLAG("target", 0, STRING, NULL, "Set the target build stage to build"),
	NAMED("ulimit", 0, LIST, NULL, "Ulimit options (NAME=SOFT[:HARD])", "ulimit"),
	END_OF_FLAGS,
};
const struct flag flags_images[] = {
	FLAG("all", 'a', BOOL, NULL, "Show all images (default hides intermediate images)"),
	FLAG("digests", 0, BOOL, NULL, "Show digests"),
	FILTER_FLAG,
	FORMAT_FLAG,
	NO_TRUNC,
	QUIET_IDS,
	REFUSED("tree", 0, BOOL, NULL, "images here have one platform"),
	END_OF_FLAGS,
};
const struct flag flags_history[] = {
	FORMAT_FLAG,
	FLAG("human", 'H', BOOL, "true", "Print sizes and dates in human readable format"),
	NO_TRUNC,
	FLAG("platform", 0, STRING, NULL, "Show history for the given platform: OS/ARCHITECTURE[/VARIANT]"),
	QUIET_IDS,
	END_OF_FLAGS,
};
const struct flag flags_import[] = {
	FLAG("change", 'c', LIST, NULL, "Apply Dockerfile instruction to the created image"),
	FLAG("message", 'm', STRING, NULL, "Set commit message for imported image"),
	FLAG("platform", 0, STRING, NULL, "Set platform if server is multi-platform capable"),
	END_OF_FLAGS,
};
const struct flag flags_load[] = {
	FLAG("input", 'i', STRING, NULL, "Read from tar archive file, instead of STDIN"),
	FLAG("platform", 0, STRING, NULL, "Load only the given platform: OS/ARCHITECTURE[/VARIANT]"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress the load output"),
	END_OF_FLAGS,
};
const struct flag flags_save[] = {
	FLAG("output", 'o', STRING, NULL, "Write to a file, instead of STDOUT"),
	FLAG("platform", 0, STRING, NULL, "Save only the given platform: OS/ARCHITECTURE[/VARIANT]"),
	END_OF_FLAGS,
};
const struct flag flags_image_prune[] = { FLAG("all", 'a', BOOL, NULL,
						      "Remove all unused images, not just dangling ones"),
						 PRUNE_FILTER, FORCE_PRUNE, END_OF_FLAGS };
const struct flag flags_rmi[] = {
	FLAG("force", 'f', BOOL, NULL, "Force removal of the image"),
	FLAG("no-prune", 0, BOOL, NULL, "Do not delete untagged parents"),
	REFUSED("platform", 0, CSV, NULL, "images here have one platform"),
	END_OF_FLAGS,
};
const struct flag flags_pull[] = {
	FLAG("all-tags", 'a', BOOL, NULL, "Download all tagged images in the repository"),
	REFUSED("disable-content-trust", 0, BOOL, NULL, TRUST),
	FLAG("platform", 0, STRING, NULL, "Set platform if server is multi-platform capable"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress verbose output"),
	END_OF_FLAGS,
};
const struct flag flags_push[] = {
	FLAG("all-tags", 'a', BOOL, NULL, "Push all tags of an image to the repository"),
	REFUSED("disable-content-trust", 0, BOOL, NULL, TRUST),
	FLAG("platform", 0, STRING, NULL, "Push the image only if it is for the given platform: OS/ARCHITECTURE[/VARIANT]"),
	FLAG("quiet", 'q', BOOL, NULL, "Suppress verbose output"),
	END_OF_FLAGS,
};
const struct flag flags_builder_prune[] = {
	FLAG("all", 'a', BOOL, NULL, "Remove all unused build cache, not just dangling ones"),
	PRUNE_FILTER,
	FORCE_PRUNE,
	FLAG("keep-storage", 0, BYTES, NULL, "Amount of disk space to keep for cache"),
	END_OF_FLAGS,
};
const struct flag flags_login[] = {
	FLAG("password", 'p', STRING, NULL, "Password"),
	FLAG("password-stdin", 0, BOOL, NULL, "Take the password from stdin"),
	FLAG("username", 'u', STRING, NULL, "Username"),
	END_OF_FLAGS,
};
const struct flag flags_search[] = {
	FILTER_FLAG, FORMAT_FLAG, FLAG("limit", 0, INT, "25", "Max number of search results"), NO_TRUNC, END_OF_FLAGS
};

/* ---- volumes, networks, system ---- */

const struct flag flags_volume_create[] = {
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
const struct flag flags_volume_ls[] = { REFUSED("cluster", 0, BOOL, NULL, CLUSTER), FILTER_FLAG, FORMAT_FLAG,
					       FLAG("quiet", 'q', BOOL, NULL, "Only display volume names"),
					       END_OF_FLAGS };
const struct flag flags_volume_prune[] = { FLAG("all", 'a', BOOL, NULL,
						       "Remove all unused volumes, not just anonymous ones"),
						  PRUNE_FILTER, FORCE_PRUNE, END_OF_FLAGS };
const struct flag flags_volume_rm[] = {
	FLAG("force", 'f', BOOL, NULL, "Force the removal of one or more volumes"), END_OF_FLAGS
};
const struct flag flags_network_create[] = {
	FLAG("attachable", 0, BOOL, NULL, "Enable manual container attachment"),
	FLAG("aux-address", 0, MAP, NULL, "Auxiliary IPv4 or IPv6 addresses used by Network driver (NAME=ADDRESS)"),
	FLAG("config-from", 0, STRING, NULL, "The network from which to copy the configuration"),
	FLAG("config-only", 0, BOOL, NULL, "Create a configuration only network"),
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
const struct flag flags_network_connect[] = {
	FLAG("alias", 0, CSV, NULL, "Add network-scoped alias for the container"),
	FLAG("driver-opt", 0, CSV, NULL, "Driver options for the network (NAME=VALUE)"),
	FLAG("gw-priority", 0, INT, NULL, "Highest gw-priority provides the default gateway"),
	FLAG("ip", 0, STRING, NULL, "IPv4 address (e.g., \"172.30.100.104\")"),
	FLAG("ip6", 0, STRING, NULL, "IPv6 address (e.g., \"2001:db8::33\")"),
	FLAG("link", 0, LIST, NULL, "Add link to another container"),
	FLAG("link-local-ip", 0, CSV, NULL, "Add a link-local address for the container"),
	END_OF_FLAGS,
};
const struct flag flags_network_disconnect[] = {
	FLAG("force", 'f', BOOL, NULL, "Force the container to disconnect from a network"), END_OF_FLAGS
};
const struct flag flags_network_ls[] = { FILTER_FLAG, FORMAT_FLAG, NO_TRUNC, QUIET_IDS, END_OF_FLAGS };
const struct flag flags_network_rm[] = {
	FLAG("force", 'f', BOOL, NULL, "Do not error if the network does not exist"), END_OF_FLAGS
};
const struct flag flags_plugin_enable[] = {
	REFUSED("timeout", 0, INT, "0", "a driver is opened by a call, not over HTTP"), END_OF_FLAGS
};
const struct flag flags_plugin_disable[] = {
	REFUSED("force", 'f', BOOL, NULL, "what networks, volumes or images use is not disabled: remove these first"), END_OF_FLAGS
};
const struct flag flags_plugin_reload[] = {
	FLAG("timeout", 't', INT, "10", "Seconds that calls of the driver get to end, 0 to 600"), END_OF_FLAGS
};
const struct flag flags_df[] = { FORMAT_FLAG,
					FLAG("verbose", 'v', BOOL, NULL, "Show detailed information on space usage"),
					END_OF_FLAGS };
const struct flag flags_events[] = {
	FILTER_FLAG,
	FORMAT_FLAG,
	FLAG("since", 0, STRING, NULL, "Show all events created since timestamp"),
	FLAG("until", 0, STRING, NULL, "Stream events until this timestamp"),
	END_OF_FLAGS,
};
const struct flag flags_doctor[] = {
	INSPECT_FORMAT,
	FLAG("quiet", 'q', BOOL, NULL, "Only show what is not ok"),
	FLAG("registry", 0, LIST, NULL, "Ask this registry (HOST or HOST:PORT) whether it answers"),
	FLAG("daemon-config", 0, STRING, NULL, "Configuration of a daemon that does not run (default " GANTRY_SYSCONF "/gantryd.ini)"),
	END_OF_FLAGS,
};
const struct flag flags_system_prune[] = {
	FLAG("all", 'a', BOOL, NULL, "Remove all unused images not just dangling ones"),
	PRUNE_FILTER,
	FORCE_PRUNE,
	FLAG("volumes", 0, BOOL, NULL, "Prune anonymous volumes"),
	END_OF_FLAGS,
};
