/*
 * process.c - what a process becomes before it runs: who it is, where it works, which program, what it may do.
 *
 * plan_make() does everything that can fail with a sentence for a person, in jail and still with all rights; plan_run() gives the rights up and execs.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/internal.h"
#include "runtime/seccomp.h"

#define MAX_STRINGS 65536
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- words ---- */

static int read_list(const json_t *list, const char *what, size_t spare, char ***out, struct gt_error *err)
{
	size_t count = json_array_size(list), i;
	json_t *item;
	if (count > MAX_STRINGS)
		return gt_fail(err, GT_TOO_LARGE, "more than %d %s", MAX_STRINGS, what);
	*out = gt_xcalloc(count + spare + 1, sizeof(char *));
	json_array_foreach(list, i, item) {
		if (!json_is_string(item))
			return gt_fail(err, GT_INVALID, "the %s are not strings", what);
		(*out)[i] = gt_xstrdup(json_string_value(item));
	}
	return 0;
}

static const char *env_value(char *const *envp, const char *name)
{
	size_t len = strlen(name);
	for (; *envp; envp++) {
		if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
			return *envp + len + 1;
	}
	return NULL;
}

static void add_home(struct plan *plan)
{
	const char *home = env_value(plan->envp, "HOME");
	if (home && *home)
		return;
	size_t count = 0;
	while (plan->envp[count])
		count++;
	plan->envp[count] = gt_xasprintf("HOME=%s", plan->identity.home[0] ? plan->identity.home : "/");
}

/* ---- who ---- */

static int read_ids(const json_t *user, struct identity *identity, struct gt_error *err)
{
	int64_t uid = 0, gid = 0;
	size_t i;
	json_t *group;
	if (gt_json_int(user, "uid", &uid, err) < 0 || gt_json_int(user, "gid", &gid, err) < 0)
		return -1;
	*identity = (struct identity){ .uid = (uid_t)uid, .gid = (gid_t)gid };
	const json_t *groups = gt_json_get(user, "additionalGids");
	identity->groups = gt_xcalloc(json_array_size(groups) + 1, sizeof(gid_t));
	json_array_foreach(groups, i, group)
		identity->groups[identity->group_count++] = (gid_t)json_integer_value(group);
	struct identity entry = { 0 }; /* its home, where the file knows the id */
	char number[16];
	snprintf(number, sizeof number, "%lld", (long long)uid);
	if (user_find(number, NULL, &entry, NULL) == 0)
		memcpy(identity->home, entry.home, sizeof entry.home);
	free(entry.groups);
	return 0;
}

/* An exec's own members come before the container's annotations. */
static int find_identity(struct plan *plan, const char *user, const char *group_add, struct gt_error *err)
{
	AUTO_BUF struct gt_buf extra = { 0 };
	size_t i;
	json_t *group;
	const char *own = json_string_value(gt_json_get(plan->process, "gantryUser"));
	json_array_foreach(gt_json_get(plan->process, "gantryGroups"), i, group) {
		if (json_is_string(group))
			gt_buf_printf(&extra, "%s%s", extra.len ? "," : "", json_string_value(group));
	}
	if (extra.len)
		group_add = extra.data;
	if (own || user)
		return user_find(own ? own : user, group_add, &plan->identity, err);
	return read_ids(gt_json_get(plan->process, "user"), &plan->identity, err);
}

/* ---- where and what ---- */

static int enter_directory(const json_t *process, bool make, struct gt_error *err)
{
	const char *cwd = "/";
	if (gt_json_string(process, "cwd", &cwd, err) < 0)
		return -1;
	if (cwd[0] != '/')
		return gt_fail(err, GT_INVALID, "the working directory %.255s is not an absolute path", cwd);
	if (chdir(cwd) == 0)
		return 0;
	if (errno == ENOENT && !make)
		return gt_fail(err, GT_INVALID, "unable to start container process: chdir to cwd (\"%.255s\"): no such file or directory", cwd);
	if (errno == ENOENT) {
		AUTO_CLOSE int dir = mount_place(cwd, true, err);
		if (dir < 0)
			return gt_context(err, "make the working directory %s", cwd);
		if (fchdir(dir) == 0)
			return 0;
	}
	return gt_fail_sys(err, GT_INVALID, errno, "enter the working directory %s", cwd);
}

static int fail_exec(struct gt_error *err, const char *program, const char *why)
{
	return gt_fail(err, GT_INVALID, "unable to start container process: exec: \"%.255s\": %s", program, why);
}

/* 0: it can be run; else the errno that says why not. */
static int check_program(const char *path)
{
	struct stat info;
	if (stat(path, &info) < 0)
		return errno;
	if (S_ISDIR(info.st_mode))
		return EISDIR;
	return info.st_mode & 0111 ? 0 : EACCES;
}

static int find_program(struct plan *plan, struct gt_error *err)
{
	const char *program = plan->argv[0];
	if (!program[0])
		return fail_exec(err, program, "no command is given: no such file or directory");
	if (strchr(program, '/')) {
		int rc = check_program(program);
		snprintf(plan->path, sizeof plan->path, "%s", program);
		if (rc == ENOENT || rc == ENOTDIR) {
			AUTO_FREE char *why = gt_xasprintf("stat %.255s: %s", program, rc == ENOENT ? "no such file or directory" : "not a directory");
			return fail_exec(err, program, why);
		}
		return rc == 0 ? 0 : fail_exec(err, program, rc == EISDIR ? "is a directory: permission denied" : "permission denied");
	}
	const char *path = env_value(plan->envp, "PATH");
	int seen = ENOENT;
	if (!path)
		path = DEFAULT_PATH;
	for (const char *p = path;; p++) {
		size_t len = strcspn(p, ":");
		int n = snprintf(plan->path, sizeof plan->path, "%.*s/%s", len ? (int)len : 1, len ? p : ".", program);
		int rc = n < (int)sizeof plan->path ? check_program(plan->path) : ENOENT;
		if (rc == 0)
			return 0;
		if (rc == EACCES)
			seen = EACCES;
		p += len;
		if (!*p)
			break;
	}
	return fail_exec(err, program, seen == EACCES ? "permission denied" : "executable file not found in $PATH");
}

int plan_make(const json_t *process, const char *user, const char *group_add, bool first, struct plan *plan, struct gt_error *err)
{
	plan->process = process;
	if (!json_array_size(gt_json_get(process, "args")))
		return gt_fail(err, GT_INVALID, "no command is given");
	if (read_list(gt_json_get(process, "args"), "arguments", 2, &plan->argv, err) < 0 ||
	    read_list(gt_json_get(process, "env"), "environment variables", 1, &plan->envp, err) < 0 ||
	    find_identity(plan, user, group_add, err) < 0)
		return -1;
	add_home(plan);
	return enter_directory(process, first, err) < 0 ? -1 : find_program(plan, err);
}

/* ---- limits ---- */

static const struct {
	const char *name;
	int resource;
} LIMITS[] = { { "RLIMIT_AS", RLIMIT_AS },           { "RLIMIT_CORE", RLIMIT_CORE },         { "RLIMIT_CPU", RLIMIT_CPU },
	       { "RLIMIT_DATA", RLIMIT_DATA },       { "RLIMIT_FSIZE", RLIMIT_FSIZE },       { "RLIMIT_LOCKS", RLIMIT_LOCKS },
	       { "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE }, { "RLIMIT_NICE", RLIMIT_NICE },
	       { "RLIMIT_NOFILE", RLIMIT_NOFILE },   { "RLIMIT_NPROC", RLIMIT_NPROC },       { "RLIMIT_RSS", RLIMIT_RSS },
	       { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },   { "RLIMIT_RTTIME", RLIMIT_RTTIME },     { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	       { "RLIMIT_STACK", RLIMIT_STACK } };

/* What may not be raised (without CAP_SYS_RESOURCE) is as high as it may be. */
static int set_limit(int resource, const struct rlimit *wanted)
{
	struct rlimit have, limit = *wanted;
	if (setrlimit(resource, wanted) == 0)
		return 0;
	if (errno != EPERM || getrlimit(resource, &have) < 0)
		return -1;
	if (limit.rlim_max > have.rlim_max)
		limit.rlim_max = have.rlim_max;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	return setrlimit(resource, &limit);
}

static int set_limits(const json_t *process, struct gt_error *err)
{
	size_t i;
	json_t *entry;
	json_array_foreach(gt_json_get(process, "rlimits"), i, entry) {
		const char *type = NULL;
		int64_t soft = 0, hard = 0;
		size_t k = 0;
		if (gt_json_string(entry, "type", &type, err) < 0 || gt_json_int(entry, "soft", &soft, err) < 0 || gt_json_int(entry, "hard", &hard, err) < 0)
			return -1;
		while (k < GT_COUNT(LIMITS) && (!type || strcmp(type, LIMITS[k].name)))
			k++;
		if (k == GT_COUNT(LIMITS))
			return gt_fail(err, GT_INVALID, "the limit %.32s is not known", type ? type : "(none)");
		struct rlimit limit = { .rlim_cur = soft < 0 ? RLIM_INFINITY : (rlim_t)soft, .rlim_max = hard < 0 ? RLIM_INFINITY : (rlim_t)hard };
		if (set_limit(LIMITS[k].resource, &limit) < 0)
			return gt_fail_errno(err, errno, "set %s", type);
	}
	return 0;
}

/* ---- capabilities ---- */

static const char *const CAPABILITIES[] = {
	"CAP_CHOWN",          "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER",          "CAP_FSETID",      "CAP_KILL",           "CAP_SETGID",
	"CAP_SETUID",         "CAP_SETPCAP",      "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",    "CAP_NET_RAW",
	"CAP_IPC_LOCK",       "CAP_IPC_OWNER",    "CAP_SYS_MODULE",      "CAP_SYS_RAWIO",       "CAP_SYS_CHROOT",  "CAP_SYS_PTRACE",     "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",      "CAP_SYS_BOOT",     "CAP_SYS_NICE",        "CAP_SYS_RESOURCE",    "CAP_SYS_TIME",    "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE",          "CAP_AUDIT_WRITE",  "CAP_AUDIT_CONTROL",   "CAP_SETFCAP",         "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",     "CAP_SYSLOG",
	"CAP_WAKE_ALARM",     "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",     "CAP_PERFMON",         "CAP_BPF",         "CAP_CHECKPOINT_RESTORE",
};

static uint64_t cap_set(const json_t *capabilities, const char *name)
{
	uint64_t set = 0;
	size_t i;
	json_t *word;
	json_array_foreach(gt_json_get(capabilities, name), i, word) {
		for (size_t k = 0; json_is_string(word) && k < GT_COUNT(CAPABILITIES); k++) {
			if (strcmp(json_string_value(word), CAPABILITIES[k]) == 0)
				set |= 1ull << k;
		}
	}
	return set;
}

static int drop_bounding(uint64_t keep, struct gt_error *err)
{
	for (unsigned cap = 0; cap < 64; cap++) {
		if (keep >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				break; /* past the kernel's last */
			return gt_fail_errno(err, errno, "drop capability %u", cap);
		}
	}
	return 0;
}

/* What this process does not have itself cannot be given on. */
static int set_capabilities(const json_t *capabilities, struct gt_error *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[2], data[2];
	if (syscall(SYS_capget, &header, have) < 0)
		return gt_fail_errno(err, errno, "read the capabilities");
	uint64_t own = have[0].permitted | (uint64_t)have[1].permitted << 32;
	uint64_t permitted = cap_set(capabilities, "permitted") & own, effective = cap_set(capabilities, "effective") & permitted;
	uint64_t inheritable = cap_set(capabilities, "inheritable") & own, ambient = cap_set(capabilities, "ambient") & permitted & inheritable;
	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){ .effective = (uint32_t)(effective >> 32 * i), .permitted = (uint32_t)(permitted >> 32 * i),
							   .inheritable = (uint32_t)(inheritable >> 32 * i) };
	if (syscall(SYS_capset, &header, data) < 0)
		return gt_fail_errno(err, errno, "set the capabilities");
	for (unsigned cap = 0; ambient && cap < GT_COUNT(CAPABILITIES); cap++) {
		if (ambient >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return gt_fail_errno(err, errno, "raise the ambient capability %s", CAPABILITIES[cap]);
	}
	return 0;
}

/* ---- the last steps ---- */

static int become(const struct plan *plan, struct gt_error *err)
{
	const struct identity *who = &plan->identity;
	if (setgroups(who->group_count, who->groups) < 0)
		return gt_fail_errno(err, errno, "set the supplementary groups");
	if (setresgid(who->gid, who->gid, who->gid) < 0)
		return gt_fail_sys(err, GT_INVALID, errno, "become group %u", who->gid);
	if (who->uid && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return gt_fail_errno(err, errno, "keep capabilities");
	if (setresuid(who->uid, who->uid, who->uid) < 0)
		return gt_fail_sys(err, GT_INVALID, errno, "become user %u", who->uid);
	if (plan->keep_pdeath && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return gt_fail_errno(err, errno, "tie the container to its shim");
	return 0;
}

static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;
	for (int signo = 1; signo < _NSIG; signo++)
		sigaction(signo, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* AppArmor's profile for the program to come. Newer kernels have a folder for each LSM. */
static int set_profile(const char *profile, struct gt_error *err)
{
	static const char *const FILES[] = { "/proc/self/attr/apparmor/exec", "/proc/self/attr/exec" };
	AUTO_FREE char *text = gt_xasprintf("exec %s", profile);
	AUTO_CLOSE int file = open(FILES[0], O_WRONLY | O_CLOEXEC);
	if (file < 0)
		file = open(FILES[1], O_WRONLY | O_CLOEXEC);
	if (file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text))
		return 0;
	if (file >= 0 && errno == ENOENT)
		return gt_fail(err, GT_INVALID, "the kernel has no AppArmor profile %.255s; load it first (apparmor_parser -r FILE)", profile);
	if (file >= 0 && errno == EINVAL)
		return gt_fail(err, GT_UNSUPPORTED, "the AppArmor profile %.255s cannot be put in force: AppArmor is off on this host", profile);
	return gt_fail_errno(err, errno, "put the AppArmor profile %.255s in force", profile);
}

static int set_label(const char *label, struct gt_error *err)
{
	if (gt_write_control(AT_FDCWD, "/proc/self/attr/exec", label, NULL) == 0)
		return 0;
	return gt_fail(err, GT_UNSUPPORTED, "the security label \"%.255s\" cannot be set: the host's kernel does not offer it", label);
}

static int set_labels(const json_t *process, struct gt_error *err)
{
	const char *apparmor = NULL, *selinux = NULL;
	if (gt_json_string(process, "apparmorProfile", &apparmor, err) < 0 || gt_json_string(process, "selinuxLabel", &selinux, err) < 0)
		return -1;
	if (apparmor && apparmor[0] && set_profile(apparmor, err) < 0)
		return -1;
	return selinux && selinux[0] ? set_label(selinux, err) : 0;
}

static int load_filter(const struct plan *plan, struct gt_error *err)
{
	int rc = plan->bpf.len ? gt_seccomp_load(plan->bpf.data, plan->bpf.len) : 0;
	return rc < 0 ? gt_fail_sys(err, GT_INTERNAL, -rc, "load the seccomp program") : 0;
}

static int run_program(struct plan *plan, struct gt_error *err)
{
	const char *program = plan->argv[0];
	if (plan->init >= 0) {
		size_t count = 0;
		while (plan->argv[count])
			count++;
		memmove(plan->argv + 2, plan->argv, (count + 1) * sizeof(char *)); /* read_list left room for two more */
		plan->argv[0] = (char *)"gantry-init";
		plan->argv[1] = (char *)"--";
		syscall(SYS_execveat, plan->init, "", plan->argv, plan->envp, AT_EMPTY_PATH);
		return gt_fail_errno(err, errno, "run gantry-init");
	}
	execve(plan->path, plan->argv, plan->envp);
	int errnum = errno;
	if (errnum == ENOENT)
		return fail_exec(err, program, "no such file or directory");
	if (errnum == EACCES)
		return fail_exec(err, program, "permission denied");
	if (errnum == ENOEXEC)
		return fail_exec(err, program, "exec format error");
	return gt_fail_sys(err, GT_INVALID, errnum, "unable to start container process: exec: \"%.255s\"", program);
}

int plan_run(struct plan *plan, struct gt_error *err)
{
	const json_t *capabilities = gt_json_get(plan->process, "capabilities");
	bool no_new = false;
	int64_t mask = 022;
	if (gt_json_bool(plan->process, "noNewPrivileges", &no_new, err) < 0 ||
	    gt_json_int(gt_json_get(plan->process, "user"), "umask", &mask, err) < 0 || set_limits(plan->process, err) < 0 ||
	    set_labels(plan->process, err) < 0)
		return -1;
	umask((mode_t)mask & 0777);
	if (capabilities && drop_bounding(cap_set(capabilities, "bounding"), err) < 0)
		return -1;
	if (no_new && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return gt_fail_errno(err, errno, "set no_new_privs");
	reset_signals();
	if (!no_new && load_filter(plan, err) < 0) /* it needs CAP_SYS_ADMIN */
		return -1;
	if (become(plan, err) < 0 || (capabilities && set_capabilities(capabilities, err) < 0) || (no_new && load_filter(plan, err) < 0))
		return -1;
	return run_program(plan, err);
}
