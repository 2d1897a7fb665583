/*
 * internal.h - private to core/runtime: the decoded bundle, and what its files offer each other.
 *
 * Three processes are told apart in these files: the shim (parent), the sandbox (the child on its way to become the container's init), and an
 * exec's child. "In jail" means after pivot_root, where every path is the container's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/cgroup.h"
#include "runtime/runtime.h"

#define MAX_MOUNTS 1024

/* ---- spec.c: config.json as structs; strings are borrowed from the JSON ---- */

struct idmap {
	int64_t inside, outside, size;
};

/* How what the host has looks in a container with a user namespace of its own. */
struct remap {
	int userns;             /* borrowed */
	int64_t uid, gid;       /* of the host: root in there */
};

struct spec_mount {
	const char *destination, *type, *source;
	uint64_t attr_set, attr_clear;          /* MOUNT_ATTR_* of this mount alone */
	uint64_t attr_set_all, attr_clear_all;  /* of the whole tree below it ("rro") */
	uint64_t propagation;                   /* MS_PRIVATE ... with MS_REC; 0: not said */
	bool bind, recursive, idmap;
	const char *subpath;                    /* gantry.subpath=: below source */
	const char *namespace;                  /* gantry.namespace=: source is a path in this mount namespace */
	struct gt_strings data;                 /* options for the file system */
};

struct spec_namespace {
	int flag;               /* CLONE_NEW* */
	const char *path;       /* NULL: a new one */
};

struct spec_device {
	const char *path;
	mode_t mode;            /* type and permissions */
	int64_t major, minor;
	uid_t uid;
	gid_t gid;
};

struct spec {
	const json_t *process, *linux_part, *resources, *seccomp, *sysctl;
	const char *bundle, *hostname, *domainname, *cgroup;
	const char *user, *group_add;           /* annotations; NULL: ids stand in process.user */
	const char *init;                       /* annotation; NULL: none */
	bool terminal, read_only, idmap_root;
	struct spec_namespace namespaces[8];
	size_t namespace_count;
	struct spec_mount *mounts;              /* [0] is the root */
	size_t mount_count;
	struct spec_device *devices;
	size_t device_count;
	struct idmap uid_map[32], gid_map[32];
	size_t uid_map_count, gid_map_count;
	struct gt_strings masked, readonly;
	uint64_t root_propagation;
	bool has_oom_score;
	int64_t oom_score;
};

int spec_read(const char *bundle, const json_t *config, struct spec *spec, struct gt_error *err);
void spec_release(struct spec *spec);
/* The namespace of a kind, or NULL where the host's is shared. */
const struct spec_namespace *spec_namespace(const struct spec *spec, int flag);

/* ---- keyring.c ---- */
/* The caller's session keyring is the container's from now on: a new one named after it, or the one of that name. Success where there are no keyrings. */
int keyring_join(const struct spec *spec, struct gt_error *err);

/* ---- mount.c ---- */
/* Performs a mount without a place: a detached mount's fd, or -1. remap: for a container with a user namespace of its own, else NULL. */
int mount_detached(const struct spec_mount *mount, const struct remap *remap, bool idmap_layers, struct gt_error *err);
/* Of a namespace that is the caller's own: what is mounted in it from here on is not seen outside. */
int mounts_keep_from_host(struct gt_error *err);
/* Whether a mount needs the host's view (a path outside), so that it is performed before pivot_root. */
bool mount_needs_host(const struct spec_mount *mount);
/* In jail: the place for a mount, made where it is missing; an O_PATH fd. */
int mount_place(const char *path, bool directory, struct gt_error *err);
/* Moves a detached mount to where `place` is. */
int mount_attach(int mount, int place, const char *path, struct gt_error *err);
int sys_open_tree(int dir, const char *path, unsigned flags);
int sys_mount_setattr(int fd, const char *path, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation, int userns);

/* ---- rootfs.c: the sandbox's file system ---- */
#define MAX_CGROUPS 16
struct prepared {
	int *mounts;            /* detached, one for each of spec->mounts; -1: not prepared */
	int *devices;           /* host's device nodes, where mknod is not allowed; -1 */
	int cgroups[MAX_CGROUPS];       /* v1: the container's directory in each hierarchy; v2: [0] the host's mount, if it is to be shown; -1 */
	int init;               /* gantry-init, on a read-only mount of its own; -1: none */
};
/* File systems on devices of the host: by the shim, as the container's cgroup, which the sandbox is in, keeps these from it. The other slots are -1. */
int rootfs_prepare_disks(const struct spec *spec, struct prepared *prepared, struct gt_error *err);
/* What has to be taken from the host, but for what is in prepared already: by the sandbox itself, or by the shim where a user namespace keeps the sandbox
 * from it (remap). Where it fails, prepared is released. */
int rootfs_prepare(const struct spec *spec, const struct remap *remap, struct prepared *prepared, struct gt_error *err);
/* In a user namespace: proc and sysfs, while the host's are in sight still. The kernel gives such a namespace no more of them than it sees already. */
int rootfs_prepare_views(const struct spec *spec, struct prepared *prepared, struct gt_error *err);
void prepared_empty(const struct spec *spec, struct prepared *prepared);        /* all slots -1 */
void prepared_release(const struct spec *spec, struct prepared *prepared);
/* All its descriptors in a fixed order, for handing them to the sandbox: the i-th slot, NULL past the end. */
int *prepared_slot(const struct spec *spec, struct prepared *prepared, size_t i);
/* The sandbox: the root in place, everything mounted, pivoted, the sysctls set. root_fd: the bundle's rootfs directory. */
int rootfs_enter(const struct spec *spec, struct prepared *prepared, int root_fd, struct gt_error *err);
/* After the console: paths are masked, the root becomes read-only where it is asked for. */
int rootfs_finish(const struct spec *spec, struct gt_error *err);

/* ---- console.c ---- */
/* In jail: a new pty of the container's devpts becomes descriptors 0-2 and the controlling terminal. Returns the master. console: bind it on /dev/console. */
int console_open(const json_t *process, bool bind_console, struct gt_error *err);

/* ---- user.c ---- */
struct identity {
	uid_t uid;
	gid_t gid;
	gid_t *groups;          /* the caller's */
	size_t group_count;
	char home[4096];        /* "" where passwd tells none */
};
/* In jail: "name|uid[:group|gid]" and extra groups (comma-separated) by /etc/passwd and /etc/group. */
int user_find(const char *user, const char *group_add, struct identity *identity, struct gt_error *err);

/* ---- process.c: what a process becomes before it runs ---- */
struct plan {
	char **argv, **envp;
	char path[4096];        /* of the program */
	struct identity identity;
	const json_t *process;
	struct gt_buf bpf;      /* seccomp program */
	int init;               /* fd of gantry-init, or -1; set before plan_make() */
	bool keep_pdeath;
};
/* In jail: user, environment, working directory (first: made where it is missing), program. Everything that can fail with a sentence. */
int plan_make(const json_t *process, const char *user, const char *group_add, bool first, struct plan *plan, struct gt_error *err);
/* Limits, capabilities, ids, seccomp, exec. Returns only on failure. */
int plan_run(struct plan *plan, struct gt_error *err);

/* ---- sandbox.c ---- */
enum report { REPORT_READY = 1, REPORT_FAILED = 2 };
/* One message from a child, with an optional fd (the console). */
struct message {
	enum report type;
	struct gt_error err;
};
int report_send(int sock, enum report type, const struct gt_error *err, int fd);
/* 0, or -1 with the child's error; *fd -1 where none came. eof_ok: the end of the line is success (exec closed it). */
int report_receive(int sock, bool eof_ok, int *fd, struct gt_error *err);
/* The child's life from clone to exec. Does not return. */
struct sandbox {
	const struct spec *spec;
	struct gt_cgroup *cgroup;
	int sock;               /* the sandbox's end */
	const int *stdio;       /* NULL: a terminal */
	bool wait_for_maps;
	const struct gt_buf *bpf;
	const struct prepared *disks;   /* rootfs_prepare_disks(); not used where the maps are waited for, which bring all that is prepared */
};
void sandbox_main(const struct sandbox *sandbox) __attribute__((noreturn));
int stdio_take(const int stdio[3], struct gt_error *err);
void close_at_exec(void);
void write_oom_score(int64_t score);

/* ---- runtime.c ---- */
struct gt_runtime {
	struct spec spec;
	struct gt_cgroup *cgroup;
	struct gt_buf bpf;
	pid_t pid;
	int pidfd, sock, netns, console, oom;
	int64_t oom_before;
	bool reaped;
};
/* clone3 with a pidfd, and into a cgroup (v2's directory; -1: the caller's). Returns as fork does. */
pid_t clone_child(uint64_t flags, int into, int *pidfd);
