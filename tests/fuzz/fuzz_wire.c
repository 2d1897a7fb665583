/* What a plugin's process may say to the daemon: a descriptor, answers, lists, notices; each is whole or has a fault, and what is whole says the same again. */
#include "fuzz.h"

#include "driver/remote/wire.h"

static bool ends(const char *array, size_t room)
{
	return memchr(array, '\0', room) != NULL;
}

static void read_answer(struct wire *w, const struct wire_op *op, struct wire_args *args)
{
	static struct gantry_mount mount;
	static struct gantry_volume_info info;
	static struct gantry_usage usage;
	static struct gantry_layer_dir dir;
	static struct gantry_endpoint endpoint;
	*args = (struct wire_args){ .mount = &mount, .info = &info, .usage = &usage, .dir = &dir, .endpoints = &endpoint, .endpoint_count = 1, .fd = -1 };
	wire_fields(w, args, op->out);
	MUST(ends(mount.type, sizeof mount.type) && ends(mount.source, sizeof mount.source) && ends(mount.options, sizeof mount.options));
	MUST(ends(info.mountpoint, sizeof info.mountpoint) && ends(info.status, sizeof info.status) && ends(dir.path, sizeof dir.path) && ends(endpoint.mac, sizeof endpoint.mac));
	MUST(ends(endpoint.ipv4, sizeof endpoint.ipv4) && ends(endpoint.host_ifname, sizeof endpoint.host_ifname));
}

static void read_entries(struct wire *w, enum wire_visit visits)
{
	while (!w->fault && w->at != w->end) {
		struct wire_entry entry = { 0 };
		const char *before = w->at;
		wire_entry(w, visits, &entry);
		MUST(w->fault || w->at > before);
		MUST(w->fault || (visits > WIRE_VISITS_CHANGES && visits != WIRE_VISITS_PEERS) || entry.name);
		MUST(w->fault || visits != WIRE_VISITS_PEERS || entry.address);
	}
}

static void read_plugin(struct wire *w, const struct gt_buf *body)
{
	AUTO_BUF struct gt_buf again = { 0 };
	struct wire_plugin plugin = { 0 };
	struct wire other;
	wire_plugin(w, &plugin);
	if (!wire_whole(w))
		return;
	wire_write(&other, &again);
	wire_plugin(&other, &plugin);
	size_t head = sizeof(struct frame_head);
	/* choices of a key that has none are not written */
	MUST(again.len - head <= body->len);
	wire_done(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct wire w;
	struct wire_args args;
	struct wire_notice notice = { 0 };
	struct gantry_error error;
	if (size < 2)
		return 0;
	const struct wire_op *op = &WIRE_OPS[data[1] % WIRE_OP_COUNT];
	gt_buf_add(&body, data + 2, size - 2);
	wire_read(&w, &body, NULL, 0);
	w.trusting = data[0] & 8;
	switch (data[0] % 8) {
	case 0: read_plugin(&w, &body); break;
	case 1: read_answer(&w, op, &args); break;
	case 2: read_entries(&w, op->visits); break;
	case 3: wire_notice(&w, op->kind == GANTRY_VOLUME ? FRAME_LOG : FRAME_EVENT, &notice); MUST(w.fault || notice.texts[0]); break;
	case 4: wire_error(&w, &error); MUST(ends(error.message, sizeof error.message)); break;
	default:
		/* a call, as the process reads it: its arguments back and forth */
		args = (struct wire_args){ .fd = -1 };
		wire_fields(&w, &args, op->in);
	}
	wire_whole(&w);
	wire_done(&w);
	return 0;
}
