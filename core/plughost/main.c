/*
 * main.c - gantry-plugin-host NAME PATH: the process of one plugin. The daemon starts it (core/driver/remote/process.c); see host.h.
 *
 * What the daemon is told first is either the plugin's descriptor, read by the same code that reads one in the daemon, or the sentence why there is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "driver/remote/remote.h"
#include "host.h"

/* Ends where nobody listens. */
static void say(enum frame_kind kind, struct wire *w)
{
	if (frame_send(CONTROL_FD, kind, w, 0) < 0)
		_exit(1);
}

static int refused(const struct gt_error *why)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct wire w;
	const char *text = why->message;
	wire_write(&w, &body);
	wire_text(&w, &text, WIRE_LINE_MAX);
	say(FRAME_REFUSED, &w);
	return 1;
}

/* Ops that are there, a bit for each. */
static uint64_t ops_of(const struct driver *driver)
{
	uint64_t ops = 0;
	for (enum wire_opcode op = 0; op < WIRE_OP_COUNT; op++) {
		void *function;
		if (WIRE_OPS[op].kind != (int32_t)driver->kind)
			continue;
		memcpy(&function, (const char *)&driver->ops + WIRE_OPS[op].slot, sizeof function);
		ops |= function ? proxy_bit(op) : 0;
	}
	return ops;
}

static void hello(const struct plugin *plugin)
{
	AUTO_BUF struct gt_buf body = { 0 };
	AUTO_FREE struct gantry_driver *drivers = gt_xcalloc(plugin->driver_count, sizeof *drivers);
	AUTO_FREE uint64_t *ops = gt_xcalloc(plugin->driver_count, sizeof *ops);
	struct wire_plugin said = { .info = plugin->info, .ops = ops };
	struct wire w;
	for (size_t i = 0; i < plugin->driver_count; i++) {
		const struct driver *driver = &plugin->drivers[i];
		drivers[i] = (struct gantry_driver){ .kind = (int32_t)driver->kind, .name = driver->name, .capabilities = driver->capabilities };
		ops[i] = ops_of(driver);
	}
	said.info.keys = plugin->keys;
	said.info.drivers = drivers;
	wire_write(&w, &body);
	wire_plugin(&w, &said);
	say(FRAME_HELLO, &w);
}

static int load(struct host *host, struct gt_error *err)
{
	struct plugin *plugin = host->plugin;
	unsigned kinds = 0;
	if (diet_begin(err) < 0)
		return gt_context(err, "plugin %s: its process", plugin->path);
	if (object_map(plugin, err) < 0 || descriptor_read(plugin, err) < 0)
		return -1;
	for (size_t i = 0; i < plugin->driver_count; i++) {
		plugin->drivers[i].all = &host->all;
		kinds |= 1u << plugin->drivers[i].kind;
	}
	return diet_finish(kinds, err) < 0 ? gt_context(err, "plugin %s: its process", plugin->path) : 0;
}

/* What the daemon says outside of calls, to the end. Returns the exit status. */
static int listen_to_daemon(struct host *host)
{
	AUTO_BUF struct gt_buf body = { 0 };
	enum frame_kind kind;
	int fds[GT_MAX_FDS];
	size_t fd_count;
	while (frame_receive(CONTROL_FD, &kind, &body, WIRE_LINE_MAX, fds, &fd_count, 0) == 0) {
		switch (kind) {
		case FRAME_CHANNEL:
			if (fd_count == 1 && serve_begin(host, fds[0]) == 0)
				break;
			return 1;
		case FRAME_CANCEL:
			atomic_store(&host->all.cancelled, true);
			break;
		default:
			return kind == FRAME_END ? 0 : 1;
		}
	}
	_exit(1); /* the daemon is gone, and with it whoever would want an orderly end */
}

static int prepare_process(void)
{
	/* From here on the death of the daemon is ours; if it is dead already, the control socket says so. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0 || fcntl(PLUGIN_FD, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0;
}

int main(int argc, char **argv)
{
	static struct host host = { .control_lock = PTHREAD_MUTEX_INITIALIZER, .members_lock = PTHREAD_MUTEX_INITIALIZER };
	static struct plugin plugin = { .fd = PLUGIN_FD };
	struct gt_error err = { 0 };
	int type = 0;
	socklen_t len = sizeof type;
	if (argc != 3 || getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM) {
		fputs("gantry-plugin-host: gantryd starts this program, one for each plugin with isolate = process\n", stderr);
		return 2;
	}
	if (prepare_process() < 0)
		return 1;
	plugin.name = argv[1];
	plugin.path = argv[2];
	host.plugin = &plugin;
	if (load(&host, &err) < 0)
		return refused(&err);
	hello(&plugin);
	return listen_to_daemon(&host);
}
