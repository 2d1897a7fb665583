/*
 * flags_run.c - the flags of run, create, update and exec.
 *
 * One macro lists what run and create share; what this engine cannot do stands here too, with the reason for the refusal.
 */
#include "flags.h"

#define WINDOWS "it is for Windows containers"

#define CREATE_FLAGS                                                                                               \
	FLAG("add-host", 0, LIST, NULL, "Add a line to the container's /etc/hosts (HOST:ADDRESS)"),                \
	FLAG("annotation", 0, MAP, NULL, "Add an annotation to the container (passed to the OCI runtime)"),        \
	FLAG("attach", 'a', LIST, NULL, "Attach to STDIN, STDOUT or STDERR"),                                      \
	FLAG("blkio-weight", 0, UINT16, NULL, "Block IO weight (relative), between 10 and 1000, or 0 to disable"), \
	FLAG("blkio-weight-device", 0, LIST, NULL, "Block IO weight of one device (DEVICE:WEIGHT)"),               \
	FLAG("cap-add", 0, LIST, NULL, "Add Linux capabilities"),                                                  \
	FLAG("cap-drop", 0, LIST, NULL, "Drop Linux capabilities"),                                                \
	FLAG("cgroup-parent", 0, STRING, NULL, "Parent cgroup of the container"),                                  \
	FLAG("cgroupns", 0, STRING, NULL, "Cgroup namespace to use (host|private)"),                               \
	FLAG("cidfile", 0, STRING, NULL, "Write the container ID to the file"),                                    \
	REFUSED("cpu-count", 0, INT, NULL, WINDOWS),                                                               \
	REFUSED("cpu-percent", 0, INT, NULL, WINDOWS),                                                             \
	FLAG("cpu-period", 0, INT, NULL, "Limit CPU: length of the scheduler's period, in microseconds"),          \
	FLAG("cpu-quota", 0, INT, NULL, "Limit CPU: time in each period, in microseconds"),                        \
	FLAG("cpu-rt-period", 0, INT, NULL, "Limit CPU real-time period in microseconds"),                         \
	FLAG("cpu-rt-runtime", 0, INT, NULL, "Limit CPU real-time runtime in microseconds"),                       \
	FLAG("cpu-shares", 'c', INT, NULL, "CPU shares (relative weight)"),                                        \
	FLAG("cpus", 0, DECIMAL, NULL, "Number of CPUs"),                                                          \
	FLAG("cpuset-cpus", 0, STRING, NULL, "CPUs in which to allow execution (0-3, 0,1)"),                       \
	FLAG("cpuset-mems", 0, STRING, NULL, "Memory nodes in which to allow execution (0-3, 0,1)"),               \
	FLAG("device", 0, LIST, NULL, "Add a device: HOST[:CONTAINER][:rwm], or VENDOR/CLASS=NAME of CDI"),        \
	FLAG("device-cgroup-rule", 0, LIST, NULL, "Add a rule to the list of allowed devices"),                    \
	FLAG("device-read-bps", 0, LIST, NULL, "Limit read rate (bytes per second) from a device"),                \
	FLAG("device-read-iops", 0, LIST, NULL, "Limit read rate (IO per second) from a device"),                  \
	FLAG("device-write-bps", 0, LIST, NULL, "Limit write rate (bytes per second) to a device"),                \
	FLAG("device-write-iops", 0, LIST, NULL, "Limit write rate (IO per second) to a device"),                  \
	REFUSED("disable-content-trust", 0, BOOL, "true", TRUST),                                                  \
	FLAG("dns", 0, LIST, NULL, "Set custom DNS servers"),                                                      \
	ALIAS("dns-opt", "dns-option"),                                                                            \
	FLAG("dns-option", 0, LIST, NULL, "Set DNS options"),                                                      \
	FLAG("dns-search", 0, LIST, NULL, "Set custom DNS search domains"),                                        \
	FLAG("domainname", 0, STRING, NULL, "Container NIS domain name"),                                          \
	FLAG("entrypoint", 0, STRING, NULL, "Overwrite the default ENTRYPOINT of the image"),                      \
	FLAG("env", 'e', LIST, NULL, "Set environment variables (NAME=VALUE, or NAME for your own value)"),        \
	FLAG("env-file", 0, LIST, NULL, "Read in a file of environment variables"),                                \
	FLAG("expose", 0, LIST, NULL, "Expose a port or a range of ports"),                                        \
	NAMED("gpus", 0, STRING, NULL, "GPU devices to add to the container ('all' for every one)", "gpu-request"), \
	FLAG("group-add", 0, LIST, NULL, "Add additional groups to join"),                                         \
	FLAG("health-cmd", 0, STRING, NULL, "Command to run to check health"),                                     \
	FLAG("health-interval", 0, DURATION, NULL, "Time between running the check (ms|s|m|h)"),                   \
	FLAG("health-retries", 0, INT, NULL, "Consecutive failures needed to report unhealthy"),                   \
	FLAG("health-start-interval", 0, DURATION, NULL, "Time between checks during the start period (ms|s|m|h)"), \
	FLAG("health-start-period", 0, DURATION, NULL, "Time to start up before failures count (ms|s|m|h)"),       \
	FLAG("health-timeout", 0, DURATION, NULL, "Maximum time to allow one check to run (ms|s|m|h)"),            \
	FLAG("hostname", 'h', STRING, NULL, "Container host name"),                                                \
	FLAG("init", 0, BOOL, NULL, "Run an init in the container that forwards signals and reaps processes"),     \
	FLAG("interactive", 'i', BOOL, NULL, "Keep STDIN open even if not attached"),                              \
	REFUSED("io-maxbandwidth", 0, STRING, NULL, WINDOWS),                                                      \
	REFUSED("io-maxiops", 0, STRING, NULL, WINDOWS),                                                           \
	FLAG("ip", 0, STRING, NULL, "IPv4 address (e.g., 172.30.100.104)"),                                        \
	FLAG("ip6", 0, STRING, NULL, "IPv6 address (e.g., 2001:db8::33)"),                                         \
	FLAG("ipc", 0, STRING, NULL, "IPC mode to use"),                                                           \
	REFUSED("isolation", 0, STRING, NULL, WINDOWS),                                                            \
	REFUSED("kernel-memory", 0, STRING, NULL, "the kernel has no such limit any more"),                        \
	FLAG("label", 'l', LIST, NULL, "Set meta data on a container"),                                            \
	FLAG("label-file", 0, LIST, NULL, "Read in a line delimited file of labels"),                              \
	FLAG("link", 0, LIST, NULL, "Add link to another container"),                                              \
	FLAG("link-local-ip", 0, LIST, NULL, "Container IPv4/IPv6 link-local addresses"),                          \
	FLAG("log-driver", 0, STRING, NULL, "Logging driver for the container"),                                   \
	FLAG("log-opt", 0, LIST, NULL, "Log driver options"),                                                      \
	FLAG("mac-address", 0, STRING, NULL, "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),                   \
	FLAG("memory", 'm', BYTES, NULL, "Memory limit"),                                                          \
	FLAG("memory-reservation", 0, BYTES, NULL, "Memory soft limit"),                                           \
	FLAG("memory-swap", 0, BYTES, NULL, "Limit of memory plus swap: '-1' for unlimited swap"),                 \
	FLAG("memory-swappiness", 0, INT, "-1", "Tune container memory swappiness (0 to 100)"),                    \
	NAMED("mount", 0, LIST, NULL, "Attach a filesystem mount to the container", "mount"),                      \
	FLAG("name", 0, STRING, NULL, "Assign a name to the container"),                                           \
	ALIAS("net", "network"),                                                                                   \
	ALIAS("net-alias", "network-alias"),                                                                       \
	NAMED("network", 0, LIST, NULL, "Connect a container to a network", "network"),                            \
	FLAG("network-alias", 0, LIST, NULL, "Add network-scoped alias for the container"),                        \
	FLAG("no-healthcheck", 0, BOOL, NULL, "Disable any container-specified HEALTHCHECK"),                      \
	FLAG("oom-kill-disable", 0, BOOL, NULL, "Disable OOM Killer"),                                             \
	FLAG("oom-score-adj", 0, INT, NULL, "Tune host's OOM preferences (-1000 to 1000)"),                        \
	FLAG("pid", 0, STRING, NULL, "PID namespace to use"),                                                      \
	FLAG("pids-limit", 0, INT, NULL, "Tune container pids limit (set -1 for unlimited)"),                      \
	FLAG("platform", 0, STRING, NULL, "Set platform if server is multi-platform capable"),                     \
	FLAG("privileged", 0, BOOL, NULL, "Give extended privileges to this container"),                           \
	FLAG("publish", 'p', LIST, NULL, "Publish a container's port(s) to the host"),                             \
	FLAG("publish-all", 'P', BOOL, NULL, "Publish all exposed ports to random ports"),                         \
	FLAG("pull", 0, STRING, "missing", "Pull image before running (\"always\", \"missing\", \"never\")"),      \
	FLAG("quiet", 'q', BOOL, NULL, "Suppress the pull output"),                                                \
	FLAG("read-only", 0, BOOL, NULL, "Mount the container's root filesystem as read only"),                    \
	FLAG("restart", 0, STRING, NULL, "Restart policy to apply when a container exits"),                        \
	FLAG("rm", 0, BOOL, NULL, "Remove the container and its anonymous volumes when it exits"),                 \
	FLAG("runtime", 0, STRING, NULL, "Runtime to use for this container"),                                     \
	FLAG("security-opt", 0, LIST, NULL, "Security Options"),                                                   \
	FLAG("shm-size", 0, BYTES, NULL, "Size of /dev/shm"),                                                      \
	FLAG("stop-signal", 0, STRING, NULL, "Signal to stop the container"),                                      \
	FLAG("stop-timeout", 0, INT, NULL, "Timeout (in seconds) to stop a container"),                            \
	FLAG("storage-opt", 0, LIST, NULL, "Storage driver options for the container"),                            \
	FLAG("sysctl", 0, MAP, NULL, "Sysctl options"),                                                            \
	FLAG("tmpfs", 0, LIST, NULL, "Mount a tmpfs directory"),                                                   \
	FLAG("tty", 't', BOOL, NULL, "Allocate a pseudo-TTY"),                                                     \
	NAMED("ulimit", 0, LIST, NULL, "Ulimit options (NAME=SOFT[:HARD])", "ulimit"),                             \
	REFUSED("use-api-socket", 0, BOOL, NULL, "mount the socket with -v where a container needs it"),           \
	FLAG("user", 'u', STRING, NULL, "Username or UID (format: <name|uid>[:<group|gid>])"),                     \
	FLAG("userns", 0, STRING, NULL, "User namespace to use"),                                                  \
	FLAG("uts", 0, STRING, NULL, "UTS namespace to use"),                                                      \
	FLAG("volume", 'v', LIST, NULL, "Bind mount a volume"),                                                    \
	FLAG("volume-driver", 0, STRING, NULL, "Optional volume driver for the container"),                        \
	FLAG("volumes-from", 0, LIST, NULL, "Mount volumes from the specified container(s)"),                      \
	FLAG("workdir", 'w', STRING, NULL, "Working directory inside the container")

const struct flag flags_create[] = { CREATE_FLAGS, END_OF_FLAGS };

const struct flag flags_run[] = {
	CREATE_FLAGS,
	FLAG("detach", 'd', BOOL, NULL, "Run container in background and print container ID"),
	FLAG("detach-keys", 0, STRING, NULL, "Override the key sequence for detaching a container"),
	FLAG("sig-proxy", 0, BOOL, "true", "Proxy received signals to the process"),
	END_OF_FLAGS,
};

const struct flag flags_update[] = {
	FLAG("blkio-weight", 0, UINT16, NULL, "Block IO weight (relative), between 10 and 1000, or 0 to disable"),
	FLAG("cpu-period", 0, INT, NULL, "Limit CPU: length of the scheduler's period, in microseconds"),
	FLAG("cpu-quota", 0, INT, NULL, "Limit CPU: time in each period, in microseconds"),
	REFUSED("cpu-rt-period", 0, INT, NULL, "real-time limits are set when a container is created"),
	REFUSED("cpu-rt-runtime", 0, INT, NULL, "real-time limits are set when a container is created"),
	FLAG("cpu-shares", 'c', INT, NULL, "CPU shares (relative weight)"),
	FLAG("cpus", 0, DECIMAL, NULL, "Number of CPUs"),
	FLAG("cpuset-cpus", 0, STRING, NULL, "CPUs in which to allow execution (0-3, 0,1)"),
	FLAG("cpuset-mems", 0, STRING, NULL, "Memory nodes in which to allow execution (0-3, 0,1)"),
	FLAG("memory", 'm', BYTES, NULL, "Memory limit"),
	FLAG("memory-reservation", 0, BYTES, NULL, "Memory soft limit"),
	FLAG("memory-swap", 0, BYTES, NULL, "Limit of memory plus swap: -1 for unlimited swap"),
	FLAG("pids-limit", 0, INT, NULL, "Tune container pids limit (set -1 for unlimited)"),
	FLAG("restart", 0, STRING, NULL, "Restart policy to apply when a container exits"),
	END_OF_FLAGS,
};

const struct flag flags_exec[] = {
	FLAG("detach", 'd', BOOL, NULL, "Detached mode: run command in the background"),
	FLAG("detach-keys", 0, STRING, NULL, "Override the key sequence for detaching a container"),
	FLAG("env", 'e', LIST, NULL, "Set environment variables"),
	FLAG("env-file", 0, LIST, NULL, "Read in a file of environment variables"),
	FLAG("interactive", 'i', BOOL, NULL, "Keep STDIN open even if not attached"),
	FLAG("privileged", 0, BOOL, NULL, "Give extended privileges to the command"),
	FLAG("tty", 't', BOOL, NULL, "Allocate a pseudo-TTY"),
	FLAG("user", 'u', STRING, NULL, "Username or UID (format: \"<name|uid>[:<group|gid>]\")"),
	FLAG("workdir", 'w', STRING, NULL, "Working directory inside the container"),
	END_OF_FLAGS,
};
