/*
 * gantry/abi_check.h - pins the layout of every struct of <gantry/plugin.h>, as ABI 1.2 has it on LP64 machines.
 *
 * The engine's loader includes it, and a driver may: a compiler, a flag or an edit that moves a member then fails to compile
 * instead of crashing a daemon. A minor version adds lines for what it appends; the offsets that are here never change. A struct
 * that grows keeps its old size as GANTRY_ABI_1_0_SIZE_*, the least that a reader takes, and begins what is new there.
 */
#ifndef GANTRY_ABI_CHECK_H
#define GANTRY_ABI_CHECK_H

#include <gantry/plugin.h>

#ifdef __cplusplus
#define GANTRY_ABI_ASSERT(what, text) static_assert(what, text)
#else
#define GANTRY_ABI_ASSERT(what, text) _Static_assert(what, text)
#endif

#define GANTRY_ABI_SIZE(type, bytes) GANTRY_ABI_ASSERT(sizeof(type) == (bytes), "gantry ABI: size of " #type)
#define GANTRY_ABI_OFFSET(type, member, bytes) \
	GANTRY_ABI_ASSERT(offsetof(type, member) == (bytes), "gantry ABI: offset of " #type "." #member)

#define GANTRY_ABI_1_0_SIZE_PLUGIN 80
#define GANTRY_ABI_1_0_SIZE_KEY 56
#define GANTRY_ABI_1_0_SIZE_DRIVER 32
#define GANTRY_ABI_1_0_SIZE_SUBNET 136
#define GANTRY_ABI_1_0_SIZE_NETWORK 64
#define GANTRY_ABI_1_0_SIZE_ENDPOINT 360
#define GANTRY_ABI_1_0_SIZE_NETWORK_OPS 80
#define GANTRY_ABI_1_0_SIZE_VOLUME_INFO 4112
#define GANTRY_ABI_1_0_SIZE_VOLUME_OPS 80
#define GANTRY_ABI_1_0_SIZE_STORAGE_OPS 96

GANTRY_ABI_ASSERT(sizeof(void *) == 8 && sizeof(long) == 8, "gantry drivers are built for 64-bit (LP64) machines");

GANTRY_ABI_SIZE(struct gantry_error, 528);
GANTRY_ABI_OFFSET(struct gantry_error, kind, 4);
GANTRY_ABI_OFFSET(struct gantry_error, errnum, 8);
GANTRY_ABI_OFFSET(struct gantry_error, message, 16);

GANTRY_ABI_SIZE(struct gantry_call, 24);
GANTRY_ABI_OFFSET(struct gantry_call, deadline_ns, 8);
GANTRY_ABI_OFFSET(struct gantry_call, id, 16);

GANTRY_ABI_SIZE(struct gantry_host, 104);
GANTRY_ABI_OFFSET(struct gantry_host, abi_major, 4);
GANTRY_ABI_OFFSET(struct gantry_host, abi_minor, 6);
GANTRY_ABI_OFFSET(struct gantry_host, engine_version, 8);
GANTRY_ABI_OFFSET(struct gantry_host, state_dir, 16);
GANTRY_ABI_OFFSET(struct gantry_host, run_dir, 24);
GANTRY_ABI_OFFSET(struct gantry_host, log, 32);
GANTRY_ABI_OFFSET(struct gantry_host, config, 40);
GANTRY_ABI_OFFSET(struct gantry_host, cancelled, 48);
GANTRY_ABI_OFFSET(struct gantry_host, event, 56);
GANTRY_ABI_OFFSET(struct gantry_host, state_put, 64);
GANTRY_ABI_OFFSET(struct gantry_host, state_get, 72);
GANTRY_ABI_OFFSET(struct gantry_host, state_remove, 80);
GANTRY_ABI_OFFSET(struct gantry_host, in_netns, 88);
GANTRY_ABI_OFFSET(struct gantry_host, engine, 96);

GANTRY_ABI_SIZE(struct gantry_key, 56);
GANTRY_ABI_OFFSET(struct gantry_key, type, 4);
GANTRY_ABI_OFFSET(struct gantry_key, name, 8);
GANTRY_ABI_OFFSET(struct gantry_key, default_value, 16);
GANTRY_ABI_OFFSET(struct gantry_key, min, 24);
GANTRY_ABI_OFFSET(struct gantry_key, max, 32);
GANTRY_ABI_OFFSET(struct gantry_key, choices, 40);
GANTRY_ABI_OFFSET(struct gantry_key, doc, 48);

GANTRY_ABI_SIZE(struct gantry_driver, 32);
GANTRY_ABI_OFFSET(struct gantry_driver, kind, 4);
GANTRY_ABI_OFFSET(struct gantry_driver, name, 8);
GANTRY_ABI_OFFSET(struct gantry_driver, capabilities, 16);
GANTRY_ABI_OFFSET(struct gantry_driver, ops, 24);

GANTRY_ABI_SIZE(struct gantry_plugin, 80);
GANTRY_ABI_OFFSET(struct gantry_plugin, abi_major, 4);
GANTRY_ABI_OFFSET(struct gantry_plugin, abi_minor, 6);
GANTRY_ABI_OFFSET(struct gantry_plugin, name, 8);
GANTRY_ABI_OFFSET(struct gantry_plugin, version, 16);
GANTRY_ABI_OFFSET(struct gantry_plugin, description, 24);
GANTRY_ABI_OFFSET(struct gantry_plugin, keys, 32);
GANTRY_ABI_OFFSET(struct gantry_plugin, key_count, 40);
GANTRY_ABI_OFFSET(struct gantry_plugin, key_size, 48);
GANTRY_ABI_OFFSET(struct gantry_plugin, drivers, 56);
GANTRY_ABI_OFFSET(struct gantry_plugin, driver_count, 64);
GANTRY_ABI_OFFSET(struct gantry_plugin, driver_size, 72);

GANTRY_ABI_SIZE(struct gantry_option, 16);
GANTRY_ABI_OFFSET(struct gantry_option, value, 8);

GANTRY_ABI_SIZE(struct gantry_options, 16);
GANTRY_ABI_OFFSET(struct gantry_options, count, 4);
GANTRY_ABI_OFFSET(struct gantry_options, items, 8);

GANTRY_ABI_SIZE(struct gantry_mount, 69704);
GANTRY_ABI_OFFSET(struct gantry_mount, flags, 4);
GANTRY_ABI_OFFSET(struct gantry_mount, type, 8);
GANTRY_ABI_OFFSET(struct gantry_mount, source, 72);
GANTRY_ABI_OFFSET(struct gantry_mount, options, 4168);

GANTRY_ABI_SIZE(struct gantry_subnet, 200);
GANTRY_ABI_OFFSET(struct gantry_subnet, family, 4);
GANTRY_ABI_OFFSET(struct gantry_subnet, subnet, 8);
GANTRY_ABI_OFFSET(struct gantry_subnet, gateway, 72);
GANTRY_ABI_OFFSET(struct gantry_subnet, range, GANTRY_ABI_1_0_SIZE_SUBNET);

GANTRY_ABI_SIZE(struct gantry_network, 88);
GANTRY_ABI_OFFSET(struct gantry_network, flags, 4);
GANTRY_ABI_OFFSET(struct gantry_network, id, 8);
GANTRY_ABI_OFFSET(struct gantry_network, name, 16);
GANTRY_ABI_OFFSET(struct gantry_network, subnets, 24);
GANTRY_ABI_OFFSET(struct gantry_network, subnet_count, 32);
GANTRY_ABI_OFFSET(struct gantry_network, subnet_size, 40);
GANTRY_ABI_OFFSET(struct gantry_network, options, 48);
GANTRY_ABI_OFFSET(struct gantry_network, reserved, GANTRY_ABI_1_0_SIZE_NETWORK);
GANTRY_ABI_OFFSET(struct gantry_network, reserved_count, 72);
GANTRY_ABI_OFFSET(struct gantry_network, document, 80);

GANTRY_ABI_SIZE(struct gantry_endpoint, 376);
GANTRY_ABI_OFFSET(struct gantry_endpoint, flags, 4);
GANTRY_ABI_OFFSET(struct gantry_endpoint, id, 8);
GANTRY_ABI_OFFSET(struct gantry_endpoint, network_id, 16);
GANTRY_ABI_OFFSET(struct gantry_endpoint, container_id, 24);
GANTRY_ABI_OFFSET(struct gantry_endpoint, ifname, 32);
GANTRY_ABI_OFFSET(struct gantry_endpoint, mac, 40);
GANTRY_ABI_OFFSET(struct gantry_endpoint, ipv4, 58);
GANTRY_ABI_OFFSET(struct gantry_endpoint, ipv6, 122);
GANTRY_ABI_OFFSET(struct gantry_endpoint, gateway4, 186);
GANTRY_ABI_OFFSET(struct gantry_endpoint, gateway6, 250);
GANTRY_ABI_OFFSET(struct gantry_endpoint, host_ifname, 314);
GANTRY_ABI_OFFSET(struct gantry_endpoint, mtu, 332);
GANTRY_ABI_OFFSET(struct gantry_endpoint, default_route, 336);
GANTRY_ABI_OFFSET(struct gantry_endpoint, options, 344);
GANTRY_ABI_OFFSET(struct gantry_endpoint, names, GANTRY_ABI_1_0_SIZE_ENDPOINT);
GANTRY_ABI_OFFSET(struct gantry_endpoint, name_count, 368);

GANTRY_ABI_SIZE(struct gantry_global_network, 32);
GANTRY_ABI_OFFSET(struct gantry_global_network, id, 8);
GANTRY_ABI_OFFSET(struct gantry_global_network, document, 16);
GANTRY_ABI_OFFSET(struct gantry_global_network, generation, 24);

GANTRY_ABI_SIZE(struct gantry_member, 72);
GANTRY_ABI_OFFSET(struct gantry_member, endpoint_id, 8);
GANTRY_ABI_OFFSET(struct gantry_member, container_id, 16);
GANTRY_ABI_OFFSET(struct gantry_member, host, 24);
GANTRY_ABI_OFFSET(struct gantry_member, mac, 32);
GANTRY_ABI_OFFSET(struct gantry_member, ipv4, 40);
GANTRY_ABI_OFFSET(struct gantry_member, ipv6, 48);
GANTRY_ABI_OFFSET(struct gantry_member, names, 56);
GANTRY_ABI_OFFSET(struct gantry_member, name_count, 64);

GANTRY_ABI_SIZE(struct gantry_port, 80);
GANTRY_ABI_OFFSET(struct gantry_port, proto, 4);
GANTRY_ABI_OFFSET(struct gantry_port, host_ip, 8);
GANTRY_ABI_OFFSET(struct gantry_port, host_port, 72);
GANTRY_ABI_OFFSET(struct gantry_port, container_port, 74);

GANTRY_ABI_SIZE(struct gantry_network_ops, 120);
GANTRY_ABI_OFFSET(struct gantry_network_ops, open, 8);
GANTRY_ABI_OFFSET(struct gantry_network_ops, close, 16);
GANTRY_ABI_OFFSET(struct gantry_network_ops, network_create, 24);
GANTRY_ABI_OFFSET(struct gantry_network_ops, network_remove, 32);
GANTRY_ABI_OFFSET(struct gantry_network_ops, endpoint_join, 40);
GANTRY_ABI_OFFSET(struct gantry_network_ops, endpoint_leave, 48);
GANTRY_ABI_OFFSET(struct gantry_network_ops, publish, 56);
GANTRY_ABI_OFFSET(struct gantry_network_ops, unpublish, 64);
GANTRY_ABI_OFFSET(struct gantry_network_ops, reconcile, 72);
GANTRY_ABI_OFFSET(struct gantry_network_ops, watch, GANTRY_ABI_1_0_SIZE_NETWORK_OPS);
GANTRY_ABI_OFFSET(struct gantry_network_ops, global_networks, 88);
GANTRY_ABI_OFFSET(struct gantry_network_ops, members, 96);
GANTRY_ABI_OFFSET(struct gantry_network_ops, endpoint_rename, 104);
GANTRY_ABI_OFFSET(struct gantry_network_ops, peers, 112);

GANTRY_ABI_SIZE(struct gantry_volume_info, 12304);
GANTRY_ABI_OFFSET(struct gantry_volume_info, flags, 4);
GANTRY_ABI_OFFSET(struct gantry_volume_info, created_ns, 8);
GANTRY_ABI_OFFSET(struct gantry_volume_info, mountpoint, 16);
GANTRY_ABI_OFFSET(struct gantry_volume_info, status, GANTRY_ABI_1_0_SIZE_VOLUME_INFO);

GANTRY_ABI_SIZE(struct gantry_volume_use, 24);
GANTRY_ABI_OFFSET(struct gantry_volume_use, name, 8);
GANTRY_ABI_OFFSET(struct gantry_volume_use, container_id, 16);

GANTRY_ABI_SIZE(struct gantry_usage, 24);
GANTRY_ABI_OFFSET(struct gantry_usage, bytes, 8);
GANTRY_ABI_OFFSET(struct gantry_usage, inodes, 16);

GANTRY_ABI_SIZE(struct gantry_volume_ops, 96);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, open, 8);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, close, 16);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, create, 24);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, remove, 32);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, mount, 40);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, release, 48);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, list, 56);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, inspect, 64);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, usage, 72);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, reconcile, GANTRY_ABI_1_0_SIZE_VOLUME_OPS);
GANTRY_ABI_OFFSET(struct gantry_volume_ops, family, 88);

GANTRY_ABI_SIZE(struct gantry_layer_dir, 4104);
GANTRY_ABI_OFFSET(struct gantry_layer_dir, whiteouts, 4);
GANTRY_ABI_OFFSET(struct gantry_layer_dir, path, 8);

GANTRY_ABI_SIZE(struct gantry_storage_ops, 96);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, open, 8);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, close, 16);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, prepare, 24);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, layer_dir, 32);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, commit, 40);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, lookup, 48);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, mount, 56);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, diff, 64);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, remove, 72);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, usage, 80);
GANTRY_ABI_OFFSET(struct gantry_storage_ops, list, 88);

#endif
