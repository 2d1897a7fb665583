/*
 * diet.c - capabilities, system calls and limits of a plugin's process.
 *
 * A driver runs as root, for it works on files of all users, but with the few capabilities that its kind needs. System calls that none needs fail with
 * EPERM; so does whatever is aimed at another process: signals reach the process itself and, by pidfd, its children. This is no jail: files are open to it. It is
 * there so that a driver with a bug, or one that was taken over, is far from the rest of the host.
 */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/auto.h"
#include "host.h"

#define MEMORY_MAX (1ull << 30)         /* bytes of private memory, stacks of threads included */

#define BIT(kind) (1u << (kind))
#define ALL (BIT(GANTRY_NETWORK) | BIT(GANTRY_VOLUME) | BIT(GANTRY_STORAGE))
#define FILES (BIT(GANTRY_VOLUME) | BIT(GANTRY_STORAGE))

/* ---- capabilities ---- */

static const struct {
	cap_value_t capability;
	unsigned kinds;
} KEPT[] = {
	{ CAP_DAC_OVERRIDE, ALL },
	{ CAP_DAC_READ_SEARCH, FILES },
	{ CAP_CHOWN, FILES },
	{ CAP_FOWNER, FILES },
	{ CAP_FSETID, FILES },
	{ CAP_MKNOD, BIT(GANTRY_STORAGE) },                             /* whiteouts */
	{ CAP_SETFCAP, BIT(GANTRY_STORAGE) },
	{ CAP_LINUX_IMMUTABLE, FILES },
	{ CAP_SYS_ADMIN, BIT(GANTRY_STORAGE) | BIT(GANTRY_NETWORK) },   /* trusted.* attributes, subvolumes; network namespaces */
	{ CAP_SYS_RESOURCE, BIT(GANTRY_STORAGE) },                      /* quotas */
	{ CAP_NET_ADMIN, BIT(GANTRY_NETWORK) },
	{ CAP_NET_RAW, BIT(GANTRY_NETWORK) },
	{ CAP_NET_BIND_SERVICE, BIT(GANTRY_NETWORK) },                  /* published ports */
};

static bool is_kept(cap_value_t capability, unsigned kinds)
{
	for (size_t i = 0; i < GT_COUNT(KEPT); i++) {
		if (KEPT[i].capability == capability)
			return KEPT[i].kinds & kinds;
	}
	return false;
}

/* last: the bounding set too, for which CAP_SETPCAP is needed until then. */
static int reduce(unsigned kinds, bool last, struct gt_error *err)
{
	int rc = 0;
	cap_t caps = cap_init(), now = cap_get_proc();
	for (cap_value_t cap = 0; caps && now && cap <= cap_max_bits() - 1; cap++) {
		cap_flag_value_t had = CAP_CLEAR;
		bool keep = is_kept(cap, kinds) || (cap == CAP_SETPCAP && !last);
		if (cap_get_flag(now, cap, CAP_PERMITTED, &had) < 0)
			continue;
		if (keep && had == CAP_SET) {
			cap_set_flag(caps, CAP_PERMITTED, 1, &cap, CAP_SET);
			cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, CAP_SET);
		}
		if (!keep && cap_get_bound(cap) > 0 && cap_drop_bound(cap) < 0)
			rc = -1;
	}
	if (!caps || !now || rc < 0 || cap_reset_ambient() < 0 || cap_set_proc(caps) < 0)
		rc = gt_fail_errno(err, errno, "give up capabilities");
	cap_free(caps);
	cap_free(now);
	return rc;
}

/* ---- system calls ---- */

#define NEVER ALL
#define BUT(kinds) (ALL & ~(kinds))

/* kinds: those that do without. */
static const struct {
	const char *call;
	unsigned kinds;
} DENIED[] = {
	/* other processes */
	{ "process_vm_readv", NEVER }, { "process_vm_writev", NEVER }, { "pidfd_open", NEVER }, { "pidfd_getfd", NEVER }, { "kcmp", NEVER },
	{ "move_pages", NEVER }, { "migrate_pages", NEVER }, { "process_madvise", NEVER }, { "tkill", NEVER },
	/* the machine */
	{ "kexec_load", NEVER }, { "kexec_file_load", NEVER }, { "init_module", NEVER }, { "finit_module", NEVER }, { "delete_module", NEVER },
	{ "reboot", NEVER }, { "swapon", NEVER }, { "swapoff", NEVER }, { "settimeofday", NEVER }, { "clock_settime", NEVER },
	{ "clock_adjtime", NEVER }, { "adjtimex", NEVER }, { "sethostname", NEVER }, { "setdomainname", NEVER }, { "acct", NEVER }, { "syslog", NEVER },
	{ "vhangup", NEVER }, { "iopl", NEVER }, { "ioperm", NEVER },
	/* wide doors of the kernel */
	{ "bpf", NEVER }, { "perf_event_open", NEVER }, { "userfaultfd", NEVER }, { "add_key", NEVER }, { "keyctl", NEVER }, { "request_key", NEVER },
	{ "io_uring_setup", NEVER }, { "io_uring_enter", NEVER }, { "io_uring_register", NEVER }, { "open_by_handle_at", NEVER },
	{ "lookup_dcookie", NEVER },
	/* the view of files */
	{ "chroot", NEVER }, { "pivot_root", NEVER }, { "umount", BUT(BIT(GANTRY_STORAGE)) }, { "mount", BUT(BIT(GANTRY_STORAGE)) },
	{ "umount2", BUT(BIT(GANTRY_STORAGE)) }, { "open_tree", BUT(BIT(GANTRY_STORAGE)) }, { "move_mount", BUT(BIT(GANTRY_STORAGE)) },
	{ "fsopen", BUT(BIT(GANTRY_STORAGE)) }, { "fsconfig", BUT(BIT(GANTRY_STORAGE)) }, { "fsmount", BUT(BIT(GANTRY_STORAGE)) },
	{ "fspick", BUT(BIT(GANTRY_STORAGE)) }, { "mount_setattr", BUT(BIT(GANTRY_STORAGE)) }, { "quotactl", BUT(BIT(GANTRY_STORAGE)) },
	{ "quotactl_fd", BUT(BIT(GANTRY_STORAGE)) },
	/* namespaces */
	{ "setns", BUT(BIT(GANTRY_NETWORK)) }, { "unshare", BUT(BIT(GANTRY_NETWORK)) },
};

/* Denied for every kind in `kinds`. A call that this machine lacks is passed over. */
static int deny_calls(scmp_filter_ctx filter, unsigned kinds)
{
	for (size_t i = 0; i < GT_COUNT(DENIED); i++) {
		int number = seccomp_syscall_resolve_name(DENIED[i].call);
		if ((DENIED[i].kinds & kinds) != kinds || number < 0)
			continue;
		int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Signals, to this process alone. */
static int deny_signals(scmp_filter_ctx filter)
{
	static const int CALLS[] = { SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(rt_tgsigqueueinfo) };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < GT_COUNT(CALLS); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), CALLS[i], 1, SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)getpid()));
	return rc;
}

/* clone3's flags cannot be looked at; without it programs use clone. */
static int deny_namespaces(scmp_filter_ctx filter)
{
	int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return rc < 0 ? rc : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
					       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
}

/* The leak checker of sanitized builds stops its own process by ptrace. */
static int deny_tracing(scmp_filter_ctx filter)
{
#ifdef GT_SANITIZED
	(void)filter;
	return 0;
#else
	return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ptrace), 0);
#endif
}

static int filter_calls(unsigned kinds, struct gt_error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int rc = filter ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) : -ENOMEM;
	rc = rc < 0 ? rc : deny_calls(filter, kinds);
	rc = rc < 0 ? rc : deny_signals(filter);
	rc = rc < 0 ? rc : deny_namespaces(filter);
	rc = rc < 0 ? rc : deny_tracing(filter);
	rc = rc < 0 ? rc : seccomp_load(filter);
	seccomp_release(filter);
	return rc < 0 ? gt_fail_errno(err, -rc, "filter system calls") : 0;
}

/* ---- both ---- */

int diet_begin(struct gt_error *err)
{
#ifndef GT_SANITIZED
	if (setrlimit(RLIMIT_DATA, &(struct rlimit){ MEMORY_MAX, MEMORY_MAX }) < 0)
		return gt_fail_errno(err, errno, "limit the memory");
#endif
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return gt_fail_errno(err, errno, "give up new privileges");
	if (reduce(ALL, false, err) < 0)
		return -1;
	return filter_calls(ALL, err);
}

int diet_finish(unsigned kinds, struct gt_error *err)
{
	if (reduce(kinds, true, err) < 0)
		return -1;
	return kinds == ALL ? 0 : filter_calls(kinds, err);
}
