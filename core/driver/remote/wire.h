/*
 * wire.h - the calls of <gantry/plugin.h> as bytes, between the daemon and gantry-plugin-host.
 *
 * Each struct is described once, by a function that walks its members; the same walk writes and reads. An op is a row of WIRE_OPS: which members of
 * struct wire_args go there, which come back. Numbers are as the machine has them, for both ends are on it.
 *
 * What the daemon reads is not trusted. Every length is held against what is left and against a bound, texts end where they say and are UTF-8 (names of files
 * need not be), and the first thing that makes no sense is remembered as the fault; everything after it reads as zero. Texts that were read lie in the frame,
 * arrays in blocks of the wire's own: both must outlive their use. Not thread safe; a wire belongs to one thread.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/fd.h"
#include "gantry/plugin.h"

struct wire {
	struct gt_buf *out;             /* where to write; NULL while reading */
	const char *at, *end;           /* what is still to be read */
	const char *fault;              /* what made no sense, NULL as long as all does */
	bool trusting;                  /* reading: what comes is the daemon's; a user's words may be long or odd, and are the driver's to judge */
	void **blocks;
	size_t block_count;
	int fds[GT_MAX_FDS];            /* writing: the caller's; reading: the wire's until they are taken */
	size_t fd_count, fd_taken;
};

/* ---- what is bounded ---- */

#define WIRE_TEXT_MAX 65536             /* documents, options */
#define WIRE_LINE_MAX 4096              /* descriptions, log lines */
#define WIRE_CALL_MAX (64u << 20)       /* bytes of a call */
#define WIRE_ANSWER_MAX (512u << 10)    /* bytes of anything that the host says */
#define WIRE_BATCH (32u << 10)          /* a list is sent on when it has grown so far */
#define WIRE_LIST_MAX (1u << 20)        /* entries of a list of anything else */
#define WIRE_CHANGES_MAX (1u << 26)     /* and of changes */

/* ---- ops ---- */

/* Members of struct wire_args. */
enum wire_field {
	WIRE_NAME = 1, WIRE_OTHER = 2, WIRE_NUMBER = 4, WIRE_FD = 8, WIRE_OPTIONS = 16, WIRE_NETWORK = 32, WIRE_ENDPOINTS = 64,
	WIRE_PORTS = 128, WIRE_OWNERS = 256, WIRE_NAMES = 512,
	WIRE_MOUNT = 1024, WIRE_INFO = 2048, WIRE_USAGE = 4096, WIRE_DIR = 8192, WIRE_JOINED = 16384, WIRE_SEALED = 32768,
	WIRE_TITLE = 65536, WIRE_USES = 131072,
};

struct wire_args {
	const char *title;              /* a driver's name */
	const char *name, *other;       /* in the order of the op's texts; other may be NULL */
	int32_t number;                 /* a flag, or an enum */
	int fd;
	struct gantry_options options;
	struct gantry_network network;
	struct gantry_endpoint *endpoints;
	size_t endpoint_count;
	struct gantry_port *ports;
	uint32_t *owners;               /* of the ports: as many */
	size_t port_count;
	const char **names;             /* a name may be NULL */
	size_t name_count;
	struct gantry_volume_use *uses;
	size_t use_count;
	/* what comes back; JOINED is what join fills in of endpoints[0], SEALED is number */
	struct gantry_mount *mount;
	struct gantry_volume_info *info;
	struct gantry_usage *usage;
	struct gantry_layer_dir *dir;
};

/* What an op visits. */
enum wire_visit { WIRE_VISITS_NOTHING, WIRE_VISITS_NAMES, WIRE_VISITS_CHANGES, WIRE_VISITS_NETWORKS, WIRE_VISITS_MEMBERS, WIRE_VISITS_PEERS };

/* X(op, in, out, visits) for each but open and close, in the order of the ABI. What has no row does not compile: the tables of proxy.c, of wire.c and of
 * core/plughost/serve.c are made of these rows, and wire.c counts them against the ABI's structs. */
#define WIRE_NETWORK_OPS(X)                                                                     \
	X(network_create, WIRE_NETWORK, 0, NOTHING)                                             \
	X(network_remove, WIRE_NAME, 0, NOTHING)                                                \
	X(endpoint_join, WIRE_ENDPOINTS | WIRE_FD, WIRE_JOINED, NOTHING)                        \
	X(endpoint_leave, WIRE_NAME | WIRE_OTHER | WIRE_FD, 0, NOTHING)                         \
	X(publish, WIRE_ENDPOINTS | WIRE_PORTS, 0, NOTHING)                                     \
	X(unpublish, WIRE_NAME | WIRE_OTHER, 0, NOTHING)                                        \
	X(reconcile, WIRE_ENDPOINTS | WIRE_PORTS | WIRE_OWNERS, 0, NOTHING)                     \
	X(watch, 0, WIRE_FD, NOTHING)                                                           \
	X(global_networks, 0, 0, NETWORKS)                                                      \
	X(members, WIRE_NAME, 0, MEMBERS)                                                       \
	X(endpoint_rename, WIRE_NAME | WIRE_OTHER | WIRE_NAMES, 0, NOTHING)                     \
	X(peers, WIRE_NAME, 0, PEERS)
#define WIRE_VOLUME_OPS(X)                                                                      \
	X(create, WIRE_NAME | WIRE_OPTIONS, 0, NOTHING)                                         \
	X(remove, WIRE_NAME, 0, NOTHING)                                                        \
	X(mount, WIRE_NAME | WIRE_OTHER | WIRE_NUMBER, WIRE_MOUNT, NOTHING)                     \
	X(release, WIRE_NAME | WIRE_OTHER, 0, NOTHING)                                          \
	X(list, 0, 0, NAMES)                                                                    \
	X(inspect, WIRE_NAME, WIRE_INFO, NOTHING)                                               \
	X(usage, WIRE_NAME, WIRE_USAGE, NOTHING)                                                \
	X(reconcile, WIRE_USES, 0, NOTHING)                                                     \
	X(family, 0, 0, NAMES)
#define WIRE_STORAGE_OPS(X)                                                                     \
	X(prepare, WIRE_NAME | WIRE_OTHER | WIRE_NUMBER | WIRE_OPTIONS, 0, NOTHING)             \
	X(layer_dir, WIRE_NAME, WIRE_DIR, NOTHING)                                              \
	X(commit, WIRE_NAME, 0, NOTHING)                                                        \
	X(lookup, WIRE_NAME, WIRE_SEALED, NOTHING)                                              \
	X(mount, WIRE_NAME | WIRE_NUMBER, WIRE_MOUNT, NOTHING)                                  \
	X(diff, WIRE_NAME, 0, CHANGES)                                                          \
	X(remove, WIRE_NAME, 0, NOTHING)                                                        \
	X(usage, WIRE_NAME, WIRE_USAGE, NOTHING)                                                \
	X(list, 0, 0, NAMES)

enum wire_opcode {
	WIRE_OPEN,                      /* the driver's name, state_dir, run_dir, whether state_put() waits for the disk, the values of the keys */
	WIRE_CLOSE,
#define X(op, ...) WIRE_network_##op,
	WIRE_NETWORK_OPS(X)
#undef X
#define X(op, ...) WIRE_volume_##op,
	WIRE_VOLUME_OPS(X)
#undef X
#define X(op, ...) WIRE_storage_##op,
	WIRE_STORAGE_OPS(X)
#undef X
	WIRE_OP_COUNT
};

struct wire_op {
	const char *name;               /* as plugin.h has it */
	int32_t kind;                   /* enum gantry_kind; 0: open and close */
	uint32_t in, out;
	enum wire_visit visits;
	size_t slot;                    /* offset in the kind's table */
};
extern const struct wire_op WIRE_OPS[WIRE_OP_COUNT];

/* ---- frames ---- */

/* A frame is a struct frame_head and its body; descriptors come with the head's first byte. */
enum frame_kind {
	/* the daemon, over the control socket */
	FRAME_CHANNEL = 1,              /* fd: a new channel; calls are made over it, one at a time */
	FRAME_CANCEL,                   /* host->cancelled() from now on */
	FRAME_END,                      /* all drivers are closed: go */
	/* and over a channel */
	FRAME_CALL,                     /* struct wire_call, the op's `in` */
	FRAME_GO,                       /* the answer to FRAME_VISIT: a number, not 0: stop */
	/* the host, over the control socket */
	FRAME_REFUSED,                  /* a text: why the file is no plugin */
	FRAME_HELLO,                    /* the descriptor */
	/* over a channel */
	FRAME_ANSWER,                   /* a number, 0 or -1; then the op's `out` and what is left to be visited, or the error */
	FRAME_VISIT,                    /* entries up to the frame's end */
	/* over both, from the call's thread and from others */
	FRAME_LOG,                      /* driver, level, a line */
	FRAME_EVENT,                    /* driver, object, action, detail */
};

struct frame_head {
	uint32_t len;                   /* of the body */
	uint32_t kind;
};

struct wire_call {
	uint32_t driver;                /* index in the plugin */
	uint32_t member;                /* 0: that driver; else one of its family, by a number that open gives it */
	uint32_t op;
	uint32_t reserved;
	int64_t deadline_ns;
	uint64_t id;
};

/* LOG and EVENT. The texts may not be UTF-8. */
struct wire_notice {
	uint32_t driver, member;        /* as in struct wire_call */
	int32_t level;
	const char *texts[3];
};

/* One entry of a list. */
struct wire_entry {
	const char *name;               /* NAMES, CHANGES, PEERS */
	const char *address;            /* PEERS */
	int32_t change;
	struct gantry_global_network network;
	struct gantry_member member;
};

/* A plugin's descriptor: what descriptor.c reads from a mapped file. ops[i] has a bit for each op of driver i that is there. */
struct wire_plugin {
	struct gantry_plugin info;
	uint64_t *ops;
};

/* ---- walks ---- */

/* Writing appends to out, where room for the frame's head is made. The struct must be passed to wire_done() in the end. */
void wire_write(struct wire *w, struct gt_buf *out);
/* Reading takes fds over; those that nobody takes are closed by wire_done(). */
void wire_read(struct wire *w, const struct gt_buf *body, const int *fds, size_t fd_count);
void wire_done(struct wire *w);
/* Everything was read, no descriptor is left over, and it made sense. */
bool wire_whole(struct wire *w);
/* What was read next makes no sense: the first of these is kept. `what` is a literal. */
void wire_fault(struct wire *w, const char *what);

void wire_raw(struct wire *w, void *value, size_t size);
#define WIRE(w, value) wire_raw((w), &(value), sizeof(value))
void wire_text(struct wire *w, const char **text, size_t max);
/* The members of args that `fields` has. Members that come back are pointed to by args on both ends. */
void wire_fields(struct wire *w, struct wire_args *args, uint32_t fields);
void wire_error(struct wire *w, struct gantry_error *error);
void wire_entry(struct wire *w, enum wire_visit visits, struct wire_entry *entry);
void wire_notice(struct wire *w, enum frame_kind kind, struct wire_notice *notice);
void wire_plugin(struct wire *w, struct wire_plugin *plugin);

/* ---- sockets ---- */

/* Sends what wire_write() began as one frame. deadline: CLOCK_MONOTONIC in ns, for descriptors that do not block; 0: none. Returns -1 with errno:
 * ETIMEDOUT, or that the other side is gone. */
int frame_send(int sock, enum frame_kind kind, struct wire *w, int64_t deadline);
/* Receives one; body is emptied before. fds: GT_MAX_FDS. EPROTO: not a frame, or one of more than max bytes; ECONNRESET: the other side is gone. */
int frame_receive(int sock, enum frame_kind *kind, struct gt_buf *body, size_t max, int *fds, size_t *fd_count, int64_t deadline);
