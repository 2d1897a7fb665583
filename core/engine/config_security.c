/*
 * config_security.c - what a container may do on the host: capabilities, security options, sysctls, devices, namespaces of others.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "engine/apparmor.h"
#include "engine/config_check.h"

static const char *const CAPABILITIES[] = {
	"CAP_CHOWN",          "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER",          "CAP_FSETID",      "CAP_KILL",           "CAP_SETGID",
	"CAP_SETUID",         "CAP_SETPCAP",      "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",    "CAP_NET_RAW",
	"CAP_IPC_LOCK",       "CAP_IPC_OWNER",    "CAP_SYS_MODULE",      "CAP_SYS_RAWIO",       "CAP_SYS_CHROOT",  "CAP_SYS_PTRACE",     "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",      "CAP_SYS_BOOT",     "CAP_SYS_NICE",        "CAP_SYS_RESOURCE",    "CAP_SYS_TIME",    "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE",          "CAP_AUDIT_WRITE",  "CAP_AUDIT_CONTROL",   "CAP_SETFCAP",         "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",     "CAP_SYSLOG",
	"CAP_WAKE_ALARM",     "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",     "CAP_PERFMON",         "CAP_BPF",         "CAP_CHECKPOINT_RESTORE",
};

size_t config_capability_count(void)
{
	return GT_COUNT(CAPABILITIES);
}

const char *config_capability_at(size_t i)
{
	return CAPABILITIES[i];
}

const char *config_capability(const char *name)
{
	if (strcasecmp(name, "ALL") == 0)
		return "ALL";
	for (size_t i = 0; i < GT_COUNT(CAPABILITIES); i++) {
		if (strcasecmp(name, CAPABILITIES[i]) == 0 || strcasecmp(name, CAPABILITIES[i] + 4) == 0)
			return CAPABILITIES[i];
	}
	return NULL;
}

static int check_capabilities(const char *what, const struct gt_strings *list, struct gt_error *err)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *name = list->items[i];
		if (!config_capability(name))
			return gt_fail(err, GT_INVALID, "invalid %s: unknown capability: \"%s%.64s\"", what, strncasecmp(name, "CAP_", 4) ? "CAP_" : "", name);
	}
	return 0;
}

/* ---- security options ---- */

static int read_flag(const char *option, const char *value, bool *flag, struct gt_error *err)
{
	if (!value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
		*flag = true;
	else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
		*flag = false;
	else
		return gt_fail(err, GT_INVALID, "invalid --security-opt 2: \"%.64s\"", option);
	return 0;
}

static int read_option(const char *option, struct security *security, struct gt_error *err)
{
	size_t len = strcspn(option, "=:");
	const char *value = option[len] ? option + len + 1 : NULL;
	if (len == 7 && strncmp(option, "seccomp", len) == 0 && value) {
		security->seccomp = strcmp(value, "builtin") == 0 ? NULL : value;
		return 0;
	}
	if (len == 8 && strncmp(option, "apparmor", len) == 0 && value) {
		security->apparmor = value;
		return 0;
	}
	if (len == 17 && strncmp(option, "no-new-privileges", len) == 0) {
		security->no_new_privileges_given = true;
		return read_flag(option, value, &security->no_new_privileges, err);
	}
	if (len == 11 && strncmp(option, "systempaths", len) == 0 && value && strcmp(value, "unconfined") == 0) {
		security->systempaths_unconfined = true;
		return 0;
	}
	if (len == 5 && strncmp(option, "label", len) == 0 && value && strcmp(value, "disable") == 0)
		return 0; /* there are no labels unless asked for */
	if (len == 5 && strncmp(option, "label", len) == 0)
		return gt_fail(err, GT_UNSUPPORTED, "--security-opt %.64s: SELinux labels are not supported, but label=disable is", option);
	return gt_fail(err, GT_INVALID, "invalid --security-opt 1: \"%.64s\"", option);
}

int config_read_security(const struct gt_strings *options, struct security *security, struct gt_error *err)
{
	*security = (struct security){ 0 };
	for (size_t i = 0; i < options->count; i++) {
		if (read_option(options->items[i], security, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- sysctls ---- */

const char *config_container_mode(const char *mode)
{
	return mode && strncmp(mode, "container:", 10) == 0 && mode[10] ? mode + 10 : NULL;
}

static bool is_host(const char *mode)
{
	return mode && strcmp(mode, "host") == 0;
}

/* Those that a namespace of the container's own holds. */
static int check_sysctls(const struct gt_host_config *host, struct gt_error *err)
{
	static const char *const IPC[] = { "kernel.msgmax",          "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
					   "kernel.shmall",          "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced" };
	const char *name;
	json_t *value;
	if (host->sysctls && !json_is_null(host->sysctls) && !json_is_object(host->sysctls))
		return gt_fail(err, GT_INVALID, "Sysctls is not an object of strings");
	json_object_foreach(host->sysctls, name, value) {
		bool ipc = strncmp(name, "fs.mqueue.", 10) == 0, net = strncmp(name, "net.", 4) == 0;
		for (size_t i = 0; i < GT_COUNT(IPC); i++)
			ipc = ipc || strcmp(name, IPC[i]) == 0;
		if (!json_is_string(value) || (!ipc && !net) || strchr(name, '/') || strstr(name, ".."))
			return gt_fail(err, GT_INVALID, "sysctl \"%.128s\" is not allowed: it is not one of a container's own (net.*, fs.mqueue.*, kernel.shm*, kernel.msg*, kernel.sem)",
				       name);
		if (net && (is_host(host->network_mode) || config_container_mode(host->network_mode)))
			return gt_fail(err, GT_INVALID, "sysctl \"%.128s\" not allowed in host network namespace", name);
		if (ipc && (is_host(host->ipc_mode) || config_container_mode(host->ipc_mode)))
			return gt_fail(err, GT_INVALID, "sysctl \"%.128s\" not allowed in host ipc namespace", name);
	}
	return 0;
}

/* ---- devices ---- */

int config_device_number(const char *path, char *type, int64_t *major_number, int64_t *minor_number, struct gt_error *err)
{
	struct stat info;
	if (stat(path, &info) < 0)
		return gt_fail(err, GT_INVALID, "error gathering device information while adding custom device \"%.255s\": no such file or directory", path);
	*type = S_ISBLK(info.st_mode) ? 'b' : S_ISCHR(info.st_mode) ? 'c' : 0;
	if (!*type)
		return gt_fail(err, GT_INVALID, "error gathering device information while adding custom device \"%.255s\": not a device node", path);
	*major_number = major(info.st_rdev);
	*minor_number = minor(info.st_rdev);
	return 0;
}

/* A number or "*"; returns what follows it, NULL where it is neither. */
static const char *read_device_number(const char *p, int64_t *number)
{
	*number = -1;
	if (*p == '*')
		return p + 1;
	size_t len = strspn(p, "0123456789");
	if (len < 1 || len > 10)
		return NULL;
	*number = strtoll(p, NULL, 10);
	return p + len;
}

int config_device_rule(const char *text, struct device_rule *rule, struct gt_error *err)
{
	const char *p = text[0] && strchr("abc", text[0]) && text[1] == ' ' ? text + 2 : NULL;
	*rule = (struct device_rule){ .type = text[0] };
	p = p ? read_device_number(p, &rule->major) : NULL;
	p = p && *p == ':' ? read_device_number(p + 1, &rule->minor) : NULL;
	size_t len = p && *p == ' ' ? strspn(p + 1, "rwm") : 0;
	if (len < 1 || len > 3 || p[1 + len])
		return gt_fail(err, GT_INVALID, "invalid device cgroup rule format: '%.64s'", text);
	memcpy(rule->access, p + 1, len + 1);
	return 0;
}

static int check_devices(const struct gt_host_config *host, struct gt_error *err)
{
	size_t i;
	json_t *device;
	if (host->devices && !json_is_null(host->devices) && !json_is_array(host->devices))
		return gt_fail(err, GT_INVALID, "Devices is not a list");
	json_array_foreach(host->devices, i, device) {
		const char *from = NULL, *to = NULL, *access = "rwm";
		if (gt_json_string(device, "PathOnHost", &from, err) < 0 || gt_json_string(device, "PathInContainer", &to, err) < 0 ||
		    gt_json_string(device, "CgroupPermissions", &access, err) < 0)
			return -1;
		if (!from || from[0] != '/')
			return gt_fail(err, GT_INVALID, "Devices: PathOnHost \"%.255s\" is not an absolute path", from ? from : "");
		if (to && to[0] && to[0] != '/')
			return gt_fail(err, GT_INVALID, "Devices: PathInContainer \"%.255s\" is not an absolute path", to);
		if (strspn(access, "rwm") != strlen(access))
			return gt_fail(err, GT_INVALID, "Devices: CgroupPermissions \"%.32s\" is not made of r, w and m", access);
	}
	for (i = 0; i < host->device_cgroup_rules.count; i++) {
		struct device_rule rule;
		if (config_device_rule(host->device_cgroup_rules.items[i], &rule, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- namespaces ---- */

static int check_mode(const char *what, const char *mode, const char *const *words, bool container, struct gt_error *err)
{
	if (!mode || !mode[0] || (container && config_container_mode(mode)))
		return 0;
	for (; *words; words++) {
		if (strcmp(mode, *words) == 0)
			return 0;
	}
	return gt_fail(err, GT_INVALID, "invalid %s mode: %.128s", what, mode);
}

static int check_namespaces(const struct gt_container_config *config, struct gt_error *err)
{
	static const char *const HOST[] = { "host", NULL }, *const IPC[] = { "host", "none", "private", "shareable", NULL },
				*const CGROUP[] = { "host", "private", NULL };
	const struct gt_host_config *host = &config->host;
	if (check_mode("PID", host->pid_mode, HOST, true, err) < 0 || check_mode("IPC", host->ipc_mode, IPC, true, err) < 0 ||
	    check_mode("UTS", host->uts_mode, HOST, false, err) < 0 || check_mode("userns", host->userns_mode, HOST, false, err) < 0 ||
	    check_mode("cgroup namespace", host->cgroupns_mode, CGROUP, false, err) < 0)
		return -1;
	if (is_host(host->uts_mode) && config->hostname && config->hostname[0])
		return gt_fail(err, GT_INVALID, "conflicting options: hostname and the UTS mode");
	if (config_container_mode(host->network_mode) && config->hostname && config->hostname[0])
		return gt_fail(err, GT_INVALID, "conflicting options: hostname and the network mode");
	if (config_container_mode(host->network_mode) && json_object_size(config->exposed_ports))
		return gt_fail(err, GT_INVALID, "conflicting options: port exposing and the container type network mode");
	return 0;
}

int config_check_security(const struct gt_container_config *config, struct gt_error *err)
{
	const struct gt_host_config *host = &config->host;
	struct security security;
	return check_capabilities("CapAdd", &host->cap_add, err) < 0 || check_capabilities("CapDrop", &host->cap_drop, err) < 0 ||
			       config_read_security(&host->security_opt, &security, err) < 0 ||
			       (security.apparmor && gt_apparmor_check(security.apparmor, err) < 0) || check_sysctls(host, err) < 0 ||
			       check_devices(host, err) < 0 || check_namespaces(config, err) < 0 ?
		       -1 :
		       0;
}
