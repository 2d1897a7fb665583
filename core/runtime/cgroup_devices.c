/*
 * cgroup_devices.c - which devices a container may use: OCI linux.resources.devices, a list of rules of which the last that fits counts.
 *
 * v1 takes the rules one by one. v2 has no control file: the rules become a BPF program of type CGROUP_DEVICE, which the kernel runs for each open and mknod.
 * Its context is struct bpf_cgroup_dev_ctx {access_type, major, minor}; access_type holds the device type below and the access above 16 bits.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"

#define MAX_RULES 512
#define ANY (-1)

struct rule {
	bool allow;
	char type;              /* 'a', 'b', 'c' */
	int64_t major, minor;   /* ANY */
	unsigned access;        /* BPF_DEVCG_ACC_* */
};

static int read_number(const json_t *object, const char *name, int64_t *value, struct gt_error *err)
{
	*value = ANY;
	return gt_json_int(object, name, value, err);
}

static int read_rule(const json_t *json, struct rule *rule, struct gt_error *err)
{
	const char *type = "a", *access = "rwm";
	*rule = (struct rule){ 0 };
	if (gt_json_bool(json, "allow", &rule->allow, err) < 0 || gt_json_string(json, "type", &type, err) < 0 ||
	    gt_json_string(json, "access", &access, err) < 0 || read_number(json, "major", &rule->major, err) < 0 ||
	    read_number(json, "minor", &rule->minor, err) < 0)
		return -1;
	rule->type = type[0] == 'u' ? 'c' : type[0] ? type[0] : 'a';
	if (!strchr("abc", rule->type))
		return gt_fail(err, GT_INVALID, "a device rule's type is a, b or c, not %.8s", type);
	for (const char *p = access[0] ? access : "rwm"; *p; p++) {
		if (!strchr("rwm", *p))
			return gt_fail(err, GT_INVALID, "a device rule's access is made of r, w and m, not %.8s", access);
		rule->access |= *p == 'r' ? BPF_DEVCG_ACC_READ : *p == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
	}
	return 0;
}

static bool is_everything(const struct rule *rule)
{
	return rule->type == 'a' && rule->major == ANY && rule->minor == ANY && rule->access == 7;
}

/* ---- v1 ---- */

static void number_word(int64_t number, char out[24])
{
	if (number == ANY)
		memcpy(out, "*", 2);
	else
		snprintf(out, 24, "%lld", (long long)number);
}

int cgroup_v1_devices(struct gt_cgroup *cgroup, const json_t *rules, struct gt_error *err)
{
	if (cgroup_need(cgroup, DEVICES, "devices", err) < 0)
		return -1;
	size_t i;
	json_t *json;
	json_array_foreach(rules, i, json) {
		struct rule rule;
		char text[96], major[24], minor[24];
		if (read_rule(json, &rule, err) < 0)
			return -1;
		number_word(rule.major, major);
		number_word(rule.minor, minor);
		if (is_everything(&rule))
			snprintf(text, sizeof text, "a");
		else
			snprintf(text, sizeof text, "%c %s:%s %s%s%s", rule.type, major, minor, rule.access & BPF_DEVCG_ACC_READ ? "r" : "",
				 rule.access & BPF_DEVCG_ACC_WRITE ? "w" : "", rule.access & BPF_DEVCG_ACC_MKNOD ? "m" : "");
		if (gt_write_control(cgroup->dir[DEVICES], rule.allow ? "devices.allow" : "devices.deny", text, err) < 0)
			return gt_context(err, "device rule %s", text);
	}
	return 0;
}

/* ---- v2 ---- */

struct program {
	struct bpf_insn code[MAX_RULES * 10 + 8];
	size_t count;
};

static void emit(struct program *program, unsigned char op, unsigned char dst, unsigned char src, short off, int imm)
{
	program->code[program->count++] = (struct bpf_insn){ .code = op, .dst_reg = dst & 0xf, .src_reg = src & 0xf, .off = off, .imm = imm };
}

/* r2 type, r3 access, r4 major, r5 minor */
static void emit_head(struct program *program)
{
	emit(program, BPF_LDX | BPF_W | BPF_MEM, 2, 1, 0, 0);
	emit(program, BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
	emit(program, BPF_LDX | BPF_W | BPF_MEM, 3, 1, 0, 0);
	emit(program, BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16);
	emit(program, BPF_LDX | BPF_W | BPF_MEM, 4, 1, 4, 0);
	emit(program, BPF_LDX | BPF_W | BPF_MEM, 5, 1, 8, 0);
}

static void emit_return(struct program *program, bool allow)
{
	emit(program, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, allow);
	emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void emit_rule(struct program *program, const struct rule *rule)
{
	size_t tests[4], count = 0;
	if (rule->type != 'a') {
		tests[count++] = program->count;
		emit(program, BPF_JMP | BPF_JNE | BPF_K, 2, 0, 0, rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	}
	if (rule->access != 7) { /* what is asked for has to lie within the rule's access */
		emit(program, BPF_ALU | BPF_MOV | BPF_X, 1, 3, 0, 0);
		emit(program, BPF_ALU | BPF_AND | BPF_K, 1, 0, 0, (int)(rule->allow ? ~rule->access & 7 : rule->access));
		tests[count++] = program->count;
		emit(program, BPF_JMP | (rule->allow ? BPF_JNE : BPF_JEQ) | BPF_K, 1, 0, 0, 0);
	}
	if (rule->major != ANY) {
		tests[count++] = program->count;
		emit(program, BPF_JMP | BPF_JNE | BPF_K, 4, 0, 0, (int)rule->major);
	}
	if (rule->minor != ANY) {
		tests[count++] = program->count;
		emit(program, BPF_JMP | BPF_JNE | BPF_K, 5, 0, 0, (int)rule->minor);
	}
	emit_return(program, rule->allow);
	for (size_t i = 0; i < count; i++) /* a test that fails goes on behind this rule */
		program->code[tests[i]].off = (short)(program->count - tests[i] - 1);
}

static int load(const struct program *program, struct gt_error *err)
{
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = (unsigned)program->count,
				.insns = (uint64_t)(uintptr_t)program->code, .license = (uint64_t)(uintptr_t)"GPL" };
	int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
	return fd >= 0 ? fd : gt_fail_sys(err, GT_INTERNAL, errno, "load the device rules as a BPF program");
}

/* The program of earlier rules in this very directory: an fd, or -1. */
static int attached(int dir)
{
	uint32_t ids[1] = { 0 };
	union bpf_attr query;
	memset(&query, 0, sizeof query);
	query.query.target_fd = (unsigned)dir;
	query.query.attach_type = BPF_CGROUP_DEVICE;
	query.query.prog_ids = (uint64_t)(uintptr_t)ids;
	query.query.prog_cnt = 1;
	if (syscall(SYS_bpf, BPF_PROG_QUERY, &query, sizeof query) < 0 || query.query.prog_cnt != 1)
		return -1;
	union bpf_attr get = { .prog_id = ids[0] };
	return (int)syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &get, sizeof get);
}

int cgroup_v2_devices(struct gt_cgroup *cgroup, const json_t *rules, struct gt_error *err)
{
	AUTO_FREE struct program *program = gt_xcalloc(1, sizeof *program);
	struct rule rule;
	bool closed = false;
	if (json_array_size(rules) > MAX_RULES)
		return gt_fail(err, GT_TOO_LARGE, "more than %d device rules", MAX_RULES);
	emit_head(program);
	for (size_t i = json_array_size(rules); i > 0 && !closed; i--) { /* the last that fits counts: it is asked first */
		if (read_rule(json_array_get(rules, i - 1), &rule, err) < 0)
			return -1;
		emit_rule(program, &rule);
		closed = is_everything(&rule);
	}
	if (!closed)
		emit_return(program, true);
	AUTO_CLOSE int fd = load(program, err);
	if (fd < 0)
		return -1;
	/* MULTI: engines and service managers inside the container may have rules of their own below; all have to allow. */
	union bpf_attr attr = { .target_fd = (unsigned)cgroup->dir[UNIFIED], .attach_bpf_fd = (unsigned)fd, .attach_type = BPF_CGROUP_DEVICE,
				.attach_flags = BPF_F_ALLOW_MULTI };
	AUTO_CLOSE int old = attached(cgroup->dir[UNIFIED]);
	if (old >= 0) {
		attr.attach_flags |= BPF_F_REPLACE;
		attr.replace_bpf_fd = (unsigned)old;
	}
	if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "attach the device rules to the cgroup %s", cgroup->path);
	return 0;
}
