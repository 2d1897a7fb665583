/*
 * container_config.h - what a user asks for: Docker's ContainerConfig and HostConfig, decoded from the create request by tables
 * (container_config.c), kept as it was given so that inspect shows it again.
 */
#pragma once

#include "base/json.h"

struct gt_host_config {
	/* resources */
	int64_t cpu_shares, memory, memory_reservation, memory_swap, nano_cpus, cpu_period, cpu_quota, cpu_rt_period, cpu_rt_runtime;
	int64_t kernel_memory, kernel_memory_tcp, blkio_weight, cpu_count, cpu_percent, io_max_iops, io_max_bandwidth;
	char *cgroup_parent, *cpuset_cpus, *cpuset_mems;
	struct gt_opt_int memory_swappiness, oom_kill_disable, pids_limit, init;
	json_t *blkio_weight_device, *blkio_read_bps, *blkio_write_bps, *blkio_read_iops, *blkio_write_iops;
	json_t *devices, *device_requests, *ulimits;
	struct gt_strings device_cgroup_rules;
	/* the rest */
	struct gt_strings binds, cap_add, cap_drop, dns, dns_options, dns_search, extra_hosts, group_add, links, security_opt,
		volumes_from, masked_paths, readonly_paths;
	char *container_id_file, *network_mode, *volume_driver, *cgroupns_mode, *ipc_mode, *cgroup, *pid_mode, *uts_mode, *userns_mode,
		*runtime, *isolation;
	json_t *log_config;             /* {"Type","Config"} */
	json_t *port_bindings, *restart_policy, *mounts, *storage_opt, *tmpfs, *sysctls, *annotations, *console_size;
	bool auto_remove, privileged, publish_all_ports, readonly_rootfs;
	int64_t oom_score_adj, shm_size;
};

struct gt_container_config {
	char *hostname, *domainname, *user, *image, *working_dir, *mac_address, *stop_signal;
	bool attach_stdin, attach_stdout, attach_stderr, tty, open_stdin, stdin_once, args_escaped, network_disabled;
	struct gt_strings env, cmd, entrypoint, on_build, shell;
	json_t *exposed_ports, *volumes, *labels, *healthcheck;
	struct gt_opt_int stop_timeout;
	struct gt_host_config host;     /* decoded from "HostConfig" */
};

extern const struct gt_json_field gt_container_config_fields[];         /* without HostConfig */
extern const struct gt_json_field gt_host_config_fields[];
void gt_container_config_release(struct gt_container_config *config);
