/*
 * protocol.h - what the daemon (client.c) and the shim (server.c) say to each other. Private to core/shim.
 *
 * One packet of a SOCK_SEQPACKET socket is one message, in host byte order: both ends live on one machine. A daemon may be newer than the shims it
 * finds, and older after a downgrade: structs only grow at their end, a receiver takes what it knows, and a packet has at least the size
 * that version 1 gave it (GT_SHIM_*_MIN).
 *
 * Two kinds of connection. The event connection is the one end of a socket pair that a shim is born with (descriptor 3), later the connection
 * that asked LISTEN last; it carries START, notices and their acknowledgements. All other requests come on connections of their own to
 * shim.sock, each answered by one reply on the same connection.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GT_SHIM_MAGIC 0x47536831u       /* the last digit is the version */
#define GT_SHIM_SYNC_FD 3               /* the shim's end of the pair it is born with */
#define GT_SHIM_SOCKET "shim.sock"
#define GT_SHIM_EXIT_FILE "exit.json"
#define GT_SHIM_LOG_FILE "shim.log"

#define GT_SHIM_MAX_KEYS 32
#define GT_SHIM_MAX_PROCESS ((size_t)1 << 20)      /* bytes of an exec's JSON */

enum gt_shim_message {
	/* daemon to shim, the event connection */
	GT_SHIM_MSG_START = 1,
	GT_SHIM_MSG_ACK,                /* the EXEC_EXIT notice of exec_id has been dealt with */
	/* daemon to shim, request connections */
	GT_SHIM_MSG_LISTEN,             /* this connection becomes the event connection */
	GT_SHIM_MSG_SIGNAL,
	GT_SHIM_MSG_RESIZE,
	GT_SHIM_MSG_ATTACH,             /* with one descriptor: the client's socket */
	GT_SHIM_MSG_EXEC,               /* with one or two: a file that holds the JSON, the client's socket */
	GT_SHIM_MSG_REOPEN_LOG,
	/* shim to daemon */
	GT_SHIM_MSG_CREATED,            /* struct gt_shim_reply, with the network namespace where there is a new one */
	GT_SHIM_MSG_REPLY,              /* struct gt_shim_reply */
	GT_SHIM_MSG_NOTICE,             /* struct gt_shim_notice */
};

#define GT_SHIM_ATTACH_STDIN  1u
#define GT_SHIM_ATTACH_STDOUT 2u
#define GT_SHIM_ATTACH_STDERR 4u
#define GT_SHIM_ATTACH_MUX    8u
#define GT_SHIM_ATTACH_KEYS   16u       /* keys are given, maybe none; else the default ones */
#define GT_SHIM_ATTACH_ALL    31u

struct gt_shim_request {
	uint32_t magic;
	uint32_t type;
	char exec_id[68];               /* "" means init; NUL-terminated */
	int32_t signo;
	uint32_t rows, cols;
	uint32_t attach;                /* GT_SHIM_ATTACH_* */
	uint32_t keys_len;
	char keys[GT_SHIM_MAX_KEYS];
	uint32_t process_len;           /* EXEC: bytes in the file */
	uint32_t stdin_open;            /* EXEC */
};
#define GT_SHIM_REQUEST_MIN sizeof(struct gt_shim_request)
_Static_assert(sizeof(struct gt_shim_request) == 136, "old daemons send this size");

struct gt_shim_reply {
	uint32_t magic;
	uint32_t type;
	int32_t kind;                   /* enum gt_kind; GT_OK: all went well and message is empty */
	int32_t errnum;
	int32_t pid;
	int32_t exited;                 /* LISTEN */
	int64_t started;                /* LISTEN; ns */
	char message[1024];             /* sent as far as its NUL */
};
#define GT_SHIM_REPLY_MIN (offsetof(struct gt_shim_reply, message) + 1)
_Static_assert(offsetof(struct gt_shim_reply, message) == 32, "old shims send this size");

struct gt_shim_notice {
	uint32_t magic;
	uint32_t type;
	int32_t event;                  /* enum gt_shim_event_type */
	int32_t code;
	int32_t signal;
	int32_t oom;
	int64_t at;
	char exec_id[68];
	uint32_t reserved;
};
#define GT_SHIM_NOTICE_MIN sizeof(struct gt_shim_notice)
_Static_assert(sizeof(struct gt_shim_notice) == 104, "old shims send this size");
