/*
 * remote.h - plugins with `isolate = process`: private to core/driver.
 *
 * The plugin's file is never mapped into the daemon. A process of gantry-plugin-host maps it and tells its descriptor; the tables of ops that the
 * dispatch sees are those of proxy.c, which carry each call there and back.
 *
 * proxy.c       the ops, for each kind a table
 * call.c        one call over a channel, and the channels
 * process.c     the process: started, watched, started again
 * members.c     drivers of families
 * replay.c      what a driver is told when it comes back
 * wire.c, frame.c    the bytes
 *
 * A channel is a pair of sockets that carries one call at a time; the process has a thread for each. What a process says is checked; one that answers with
 * nonsense, or not in time, is killed. One that ends is started again: its drivers are opened, and networks told, before the next call. The calls that it had in
 * progress are made once more then, and those that come meanwhile wait a little.
 *
 * The process ends with the thread that started it (PR_SET_PDEATHSIG), and so with the daemon.
 */
#pragma once

#include "driver/internal.h"
#include "wire.h"

#define CHANNELS_MAX 64                 /* calls in progress; more wait */
#define DRIVERS_MAX 32                  /* as descriptor.c has it */

enum phase {
	PHASE_STARTING,
	PHASE_RUNNING,
	PHASE_RESTING,                  /* it ended too often, and waits for next_start */
	PHASE_OVER,                     /* never again */
};

struct remote {
	struct plugin *plugin;
	char *program;
	struct gt_buf hello;            /* the descriptor as it came; plugin->info points into it */
	struct wire described;          /* and its arrays */
	void *tables;                   /* the ops of each driver */
	pthread_t supervisor;
	int wake;                       /* eventfd: to the supervisor */

	pthread_mutex_t lock;           /* of all below; never held while another lock is taken */
	pthread_cond_t changed;         /* the phase, or a channel is free */
	enum phase phase;
	bool closing, cancelled;
	uint64_t life;                  /* counts processes */
	uint64_t opened;                /* a bit for each driver whose open() worked */
	int control, pidfd;             /* -1: none */
	pid_t pid;
	int idle[CHANNELS_MAX];
	size_t idle_count, channel_count;
	unsigned in_flight;             /* calls that have a channel, until what they changed is noted */
	struct member **members;        /* members.c; by number, some NULL */
	size_t member_count;
	bool telling;                   /* there is a thread `teller` */
	pthread_t teller;               /* the supervisor's alone, as is telling */
	uint64_t told_life;             /* set before it begins: of the process that it tells */
	struct watch {
		int relay, source;      /* what the engine watches, and what the process gave; 0: none */
	} watches[DRIVERS_MAX];
	unsigned quick_ends;            /* in a row, soon after the start */
	int64_t next_start;             /* while resting */
	char *verdict;                  /* why it is being killed by us */
	char *last_end;                 /* how the last process ended, after "its process "; NULL: none did */
	struct gt_error first;          /* why the first one did not come up */
};

/* ---- process.c ---- */

/* Starts the process for plugin->fd and fills plugin->info with what it says. On failure err is the whole sentence, as descriptor_read()'s. */
int remote_open(struct plugin *plugin, const char *libexec_dir, struct gt_error *err);
/* Ends the process, with patience; the drivers are closed. */
void remote_close(struct plugin *plugin);
void remote_cancel(struct plugin *plugin);
/* {"Pid", "Starts", "LastEnd", "State"}; the caller's. */
json_t *remote_describe(struct plugin *plugin);
/* The same with the calls in progress, for a debug dump, which waits for no lock longer than a moment: then only who holds it. The caller's. */
json_t *remote_dump(struct plugin *plugin);
/* Kills the process of that life, if it is still there. why: for the log and for people. */
void remote_kill(struct remote *remote, uint64_t life, const char *why);
/* Waits until the process of that life has ended, a second at most; then it is killed. */
void remote_await_end(struct remote *remote, uint64_t life);
/* Waits for `changed`, until a time on CLOCK_MONOTONIC; the lock is held. */
void remote_wait(struct remote *remote, int64_t until);

/* ---- call.c ---- */

/* Who gets what an op lists. One of the functions is set. */
struct listener {
	gantry_visit name;
	gantry_visit_change change;
	gantry_visit_network network;
	gantry_visit_member member;
	gantry_visit_peer peer;
	void *arg;
	bool stopped;
	size_t count;
};

/* One op of an open driver, with all that may go wrong. Returns 0, or -1 with err. call: NULL for close. */
int remote_call(struct driver *driver, enum wire_opcode op, const struct gantry_call *call, struct wire_args *args, struct listener *listener,
		struct gantry_error *err);
/* The same while the process is not yet open to others; control: its socket. Fails where the process does not answer as it should. */
int remote_call_early(struct driver *driver, int control, enum wire_opcode op, struct wire_args *args, struct gantry_error *err);
/* The same over a channel of its own, to the process of that life and no other; a deadline on CLOCK_MONOTONIC. */
int remote_call_life(struct driver *driver, uint64_t life, enum wire_opcode op, int64_t deadline, struct wire_args *args, struct gantry_error *err);
/* Closes the channels of a process that is gone; the lock is held. */
void channels_drop(struct remote *remote);
/* A LOG or EVENT frame. caller: whose call it came with, or NULL. Returns NULL, or what is wrong with it. */
const char *remote_notice(struct remote *remote, struct driver *caller, enum frame_kind kind, const struct gt_buf *body);

/* ---- members.c ---- */

/* Gives a member its number. */
void remote_member_add(struct remote *remote, struct driver *driver);
/* Takes it back: it could not be opened, or is closed. */
void remote_member_drop(struct remote *remote, struct driver *driver);
/* lost: but not in the process that runs. The lock is held. */
void remote_member_is_open(struct remote *remote, uint32_t number, bool lost);
bool remote_member_is_lost(struct remote *remote, uint32_t number);
/* Copies of those that are open, which live as long as the plugin; the array ends with NULL and is the caller's. */
struct driver **remote_members_open(struct remote *remote);
/* The copy of one that is open, or NULL. */
struct driver *remote_member_speaking(struct remote *remote, uint32_t number);
void remote_members_free(struct remote *remote);

/* ---- replay.c ---- */

/* Tells a network driver that has just been opened again what it is to know. No call is in progress. */
int replay(struct driver *driver, struct gantry_error *err);
/* Tells the volume drivers of a process which mounts there should be, in a thread of its own: other calls go on meanwhile. */
void replay_uses_begin(struct remote *remote);
/* Waits for that thread; the process is gone. */
void replay_uses_end(struct remote *remote);
/* Takes the process' eventfd over and returns one for the engine, or -1. */
int replay_watch(struct driver *driver, int source, struct gantry_error *err);
/* Passes news on. */
void replay_news(struct remote *remote);
void replay_free(struct remote *remote);

/* ---- proxy.c ---- */

/* A table of ops for a driver of that kind that has the ops whose bits are set; written to table, of TABLE_ROOM bytes. */
#define TABLE_ROOM sizeof(union { struct gantry_network_ops n; struct gantry_volume_ops v; struct gantry_storage_ops s; })
void proxy_table(int kind, uint64_t ops, void *table);
/* The bit of an op in struct wire_plugin's ops: its number in its kind. */
uint64_t proxy_bit(enum wire_opcode op);
/* Opens a member again that the process that runs could not open at its start. */
int proxy_reopen(struct driver *driver, struct gantry_error *err);
/* What open() is called with. Fills values of args->names, which are borrowed from the plugin and must be freed as an array. */
void proxy_open_args(struct driver *driver, struct wire_args *args);
