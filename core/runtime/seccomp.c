/*
 * seccomp.c - profiles: Docker's format resolved to the OCI object, the OCI object compiled to BPF by libseccomp, BPF loaded.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/seccomp.h"

#define MAX_RULES 4096
#define MAX_NAMES 4096

/* ---- Docker's format ---- */

static bool holds_word(const json_t *list, const char *word)
{
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		const char *text = json_string_value(item);
		if (text && strcmp(text, word) == 0)
			return true;
	}
	return false;
}

/* The machine as profiles name it in includes and excludes. */
static const char *native_arch(void)
{
	switch (seccomp_arch_native()) {
	case SCMP_ARCH_X86_64:
		return "amd64";
	case SCMP_ARCH_X86:
		return "x86";
	case SCMP_ARCH_AARCH64:
		return "arm64";
	case SCMP_ARCH_ARM:
		return "arm";
	case SCMP_ARCH_PPC64LE:
		return "ppc64le";
	case SCMP_ARCH_S390X:
		return "s390x";
	case SCMP_ARCH_RISCV64:
		return "riscv64";
	default:
		return "";
	}
}

static const char *native_token(void)
{
	switch (seccomp_arch_native()) {
	case SCMP_ARCH_X86_64:
		return "SCMP_ARCH_X86_64";
	case SCMP_ARCH_AARCH64:
		return "SCMP_ARCH_AARCH64";
	case SCMP_ARCH_PPC64LE:
		return "SCMP_ARCH_PPC64LE";
	case SCMP_ARCH_S390X:
		return "SCMP_ARCH_S390X";
	case SCMP_ARCH_RISCV64:
		return "SCMP_ARCH_RISCV64";
	default:
		return "";
	}
}

static bool kernel_at_least(const char *wanted)
{
	struct utsname uts;
	int want[2] = { 0 }, have[2] = { 0 };
	uname(&uts);
	if (sscanf(wanted, "%d.%d", &want[0], &want[1]) < 1 || sscanf(uts.release, "%d.%d", &have[0], &have[1]) < 2)
		return false;
	return have[0] > want[0] || (have[0] == want[0] && have[1] >= want[1]);
}

/* Whether a rule is for this host and these capabilities. */
static bool applies(const json_t *rule, const json_t *capabilities)
{
	const json_t *includes = gt_json_get(rule, "includes"), *excludes = gt_json_get(rule, "excludes");
	const json_t *arches = gt_json_get(includes, "arches"), *caps = gt_json_get(includes, "caps");
	const char *kernel = json_string_value(gt_json_get(includes, "minKernel"));
	size_t i;
	json_t *cap;
	if ((json_array_size(arches) && !holds_word(arches, native_arch())) || holds_word(gt_json_get(excludes, "arches"), native_arch()))
		return false;
	json_array_foreach(caps, i, cap) {
		if (json_is_string(cap) && !holds_word(capabilities, json_string_value(cap)))
			return false;
	}
	json_array_foreach(gt_json_get(excludes, "caps"), i, cap) {
		if (json_is_string(cap) && holds_word(capabilities, json_string_value(cap)))
			return false;
	}
	kernel = kernel ? kernel : "0.0";
	const char *newest = json_string_value(gt_json_get(excludes, "minKernel"));
	return kernel_at_least(kernel) && !(newest && kernel_at_least(newest));
}

static json_t *architectures(const json_t *profile)
{
	json_t *list = json_array();
	const json_t *given = gt_json_get(profile, "architectures");
	size_t i;
	json_t *entry;
	if (json_array_size(given))
		json_array_extend(list, (json_t *)given);
	json_array_foreach(gt_json_get(profile, "archMap"), i, entry) {
		const char *name = json_string_value(gt_json_get(entry, "architecture"));
		if (!name || strcmp(name, native_token()))
			continue;
		json_array_append(list, gt_json_get(entry, "architecture"));
		json_array_extend(list, gt_json_get(entry, "subArchitectures"));
	}
	return list;
}

/* What a filter may ask for beyond its rules. One thread loads it, so there is nobody to synchronise with. */
static int check_extras(const json_t *profile, struct gt_error *err)
{
	size_t i;
	json_t *flag;
	json_array_foreach(gt_json_get(profile, "flags"), i, flag) {
		const char *text = json_string_value(flag);
		if (!text || strcmp(text, "SECCOMP_FILTER_FLAG_TSYNC"))
			return gt_fail(err, GT_UNSUPPORTED, "seccomp: the flag %.64s is not supported", text ? text : "(not a string)");
	}
	const char *listener = json_string_value(gt_json_get(profile, "listenerPath"));
	if (listener && listener[0])
		return gt_fail(err, GT_UNSUPPORTED, "seccomp: listenerPath (a program that is asked about system calls) is not supported");
	return 0;
}

json_t *gt_seccomp_resolve(const json_t *profile, const json_t *capabilities, struct gt_error *err)
{
	const json_t *rules = gt_json_get(profile, "syscalls");
	if (!json_is_object(profile) || !json_is_string(gt_json_get(profile, "defaultAction")))
		return gt_fail_null(err, GT_INVALID, "the seccomp profile has no defaultAction");
	if (json_array_size(rules) > MAX_RULES)
		return gt_fail_null(err, GT_TOO_LARGE, "the seccomp profile has more than %d rules", MAX_RULES);
	if (json_array_size(gt_json_get(profile, "architectures")) && json_array_size(gt_json_get(profile, "archMap")))
		return gt_fail_null(err, GT_INVALID, "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or 'archMap'");
	if (check_extras(profile, err) < 0)
		return NULL;
	json_t *resolved = json_array();
	size_t i;
	json_t *rule;
	json_array_foreach(rules, i, rule) {
		if (json_string_length(gt_json_get(rule, "name")) && json_array_size(gt_json_get(rule, "names"))) {
			json_decref(resolved);
			return gt_fail_null(err, GT_INVALID, "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'");
		}
		if (!applies(rule, capabilities))
			continue;
		json_t *names = gt_json_get(rule, "names"), *name = gt_json_get(rule, "name");
		json_t *out = json_pack("{s:o s:O?}", "names", names ? json_incref(names) : json_pack("[O?]", name), "action", gt_json_get(rule, "action"));
		if (gt_json_get(rule, "errnoRet") && !json_is_null(gt_json_get(rule, "errnoRet")))
			json_object_set(out, "errnoRet", gt_json_get(rule, "errnoRet"));
		if (json_array_size(gt_json_get(rule, "args")))
			json_object_set(out, "args", gt_json_get(rule, "args"));
		json_array_append_new(resolved, out);
	}
	json_t *oci = json_pack("{s:O s:o s:o}", "defaultAction", gt_json_get(profile, "defaultAction"), "architectures", architectures(profile),
				"syscalls", resolved);
	if (json_is_integer(gt_json_get(profile, "defaultErrnoRet")))
		json_object_set(oci, "defaultErrnoRet", gt_json_get(profile, "defaultErrnoRet"));
	return oci;
}

/* ---- the OCI object to BPF ---- */

static int read_action(const json_t *object, const char *name, const char *errno_name, uint32_t *action, struct gt_error *err)
{
	const char *text = NULL;
	int64_t ret = EPERM;
	if (gt_json_string(object, name, &text, err) < 0 || gt_json_int(object, errno_name, &ret, err) < 0)
		return -1;
	static const struct {
		const char *word;
		uint32_t action;
	} ACTIONS[] = { { "SCMP_ACT_KILL", SCMP_ACT_KILL },   { "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD }, { "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
			{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },   { "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },             { "SCMP_ACT_LOG", SCMP_ACT_LOG } };
	if (text && strcmp(text, "SCMP_ACT_ERRNO") == 0) {
		*action = SCMP_ACT_ERRNO((uint16_t)ret);
		return 0;
	}
	if (text && strcmp(text, "SCMP_ACT_TRACE") == 0) {
		*action = SCMP_ACT_TRACE((uint16_t)ret);
		return 0;
	}
	for (size_t i = 0; text && i < GT_COUNT(ACTIONS); i++) {
		if (strcmp(text, ACTIONS[i].word) == 0) {
			*action = ACTIONS[i].action;
			return 0;
		}
	}
	return gt_fail(err, GT_INVALID, "seccomp: the action %.64s is not known", text ? text : "(none)");
}

static int read_argument(const json_t *json, struct scmp_arg_cmp *argument, struct gt_error *err)
{
	static const char *const OPERATORS[] = { NULL,           "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE",       "SCMP_CMP_EQ",
						 "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ" };
	int64_t index = 0, value = 0, value_two = 0;
	const char *op = NULL;
	if (gt_json_int(json, "index", &index, err) < 0 || gt_json_int(json, "value", &value, err) < 0 ||
	    gt_json_int(json, "valueTwo", &value_two, err) < 0 || gt_json_string(json, "op", &op, err) < 0)
		return -1;
	size_t i = 1;
	while (op && i < GT_COUNT(OPERATORS) && strcmp(op, OPERATORS[i]))
		i++;
	if (!op || i == GT_COUNT(OPERATORS) || index < 0 || index > 5)
		return gt_fail(err, GT_INVALID, "seccomp: an argument's operator %.64s or index %lld is not known", op ? op : "(none)", (long long)index);
	*argument = (struct scmp_arg_cmp){ .arg = (unsigned)index, .op = (enum scmp_compare)i, .datum_a = (uint64_t)value, .datum_b = (uint64_t)value_two };
	return 0;
}

/* All arguments have to hold, unless one is named twice: then, as with runc, each condition is a rule of its own. */
static int add_conditions(scmp_filter_ctx filter, uint32_t action, int number, const struct scmp_arg_cmp *arguments, size_t count)
{
	unsigned seen = 0;
	bool twice = false;
	for (size_t i = 0; i < count; i++) {
		twice = twice || (seen >> arguments[i].arg & 1);
		seen |= 1u << arguments[i].arg;
	}
	int rc = twice ? 0 : seccomp_rule_add_array(filter, action, number, (unsigned)count, arguments);
	for (size_t i = 0; twice && i < count && (rc == 0 || rc == -EEXIST); i++)
		rc = seccomp_rule_add_array(filter, action, number, 1, &arguments[i]);
	return rc;
}

static int add_rule(scmp_filter_ctx filter, const json_t *rule, uint32_t fallback, struct gt_error *err)
{
	struct scmp_arg_cmp arguments[6];
	const json_t *args = gt_json_get(rule, "args"), *names = gt_json_get(rule, "names");
	size_t count = json_array_size(args), i;
	uint32_t action;
	json_t *name;
	if (read_action(rule, "action", "errnoRet", &action, err) < 0)
		return -1;
	if (count > 6 || json_array_size(names) > MAX_NAMES)
		return gt_fail(err, GT_INVALID, "seccomp: a rule has more than 6 arguments or %d names", MAX_NAMES);
	for (i = 0; i < count; i++) {
		if (read_argument(json_array_get(args, i), &arguments[i], err) < 0)
			return -1;
	}
	if (action == fallback)
		return 0; /* it says what holds anyway; libseccomp refuses it */
	json_array_foreach(names, i, name) {
		const char *text = json_string_value(name);
		int number = text ? seccomp_syscall_resolve_name(text) : __NR_SCMP_ERROR;
		if (number == __NR_SCMP_ERROR)
			continue;
		int rc = add_conditions(filter, action, number, arguments, count);
		if (rc < 0 && rc != -EEXIST && rc != -EDOM)
			return gt_fail_sys(err, GT_INVALID, -rc, "seccomp: rule for %s", text);
	}
	return 0;
}

static int add_architectures(scmp_filter_ctx filter, const json_t *list, struct gt_error *err)
{
	size_t i;
	json_t *name;
	json_array_foreach(list, i, name) {
		const char *text = json_string_value(name);
		char word[32] = "";
		for (size_t c = 0; text && strncmp(text, "SCMP_ARCH_", 10) == 0 && text[10 + c] && c < sizeof word - 1; c++)
			word[c] = (char)(text[10 + c] >= 'A' && text[10 + c] <= 'Z' ? text[10 + c] + 32 : text[10 + c]);
		uint32_t token = word[0] ? seccomp_arch_resolve_name(word) : 0;
		if (!token)
			return gt_fail(err, GT_INVALID, "seccomp: the architecture %.64s is not known", text ? text : "(none)");
		int rc = seccomp_arch_add(filter, token);
		if (rc < 0 && rc != -EEXIST)
			return gt_fail_sys(err, GT_INVALID, -rc, "seccomp: architecture %s", text);
	}
	return 0;
}

static int export(scmp_filter_ctx filter, struct gt_buf *bpf, struct gt_error *err)
{
	AUTO_CLOSE int fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "seccomp: memory for the program");
	int rc = seccomp_export_bpf(filter, fd);
	if (rc < 0)
		return gt_fail_sys(err, GT_INTERNAL, -rc, "seccomp: compile the filter");
	off_t size = lseek(fd, 0, SEEK_END);
	if (size <= 0 || size % (off_t)sizeof(struct sock_filter) || size / (off_t)sizeof(struct sock_filter) > BPF_MAXINSNS)
		return gt_fail(err, GT_INVALID, "seccomp: the filter is too long for the kernel (%lld bytes)", (long long)size);
	if (pread(fd, gt_buf_reserve(bpf, (size_t)size), (size_t)size, 0) != size)
		return gt_fail_errno(err, errno, "seccomp: read the program");
	bpf->len += (size_t)size;
	return 0;
}

int gt_seccomp_compile(const json_t *seccomp, struct gt_buf *bpf, struct gt_error *err)
{
	uint32_t fallback;
	const json_t *rules = gt_json_get(seccomp, "syscalls");
	if (check_extras(seccomp, err) < 0 || read_action(seccomp, "defaultAction", "defaultErrnoRet", &fallback, err) < 0)
		return -1;
	if (json_array_size(rules) > MAX_RULES)
		return gt_fail(err, GT_TOO_LARGE, "seccomp: more than %d rules", MAX_RULES);
	scmp_filter_ctx filter = seccomp_init(fallback);
	if (!filter)
		return gt_fail(err, GT_INTERNAL, "seccomp: libseccomp makes no filter");
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	int rc = add_architectures(filter, gt_json_get(seccomp, "architectures"), err);
	size_t i;
	json_t *rule;
	json_array_foreach(rules, i, rule) {
		if (rc == 0)
			rc = add_rule(filter, rule, fallback, err);
	}
	if (rc == 0)
		rc = export(filter, bpf, err);
	seccomp_release(filter);
	return rc;
}

int gt_seccomp_load(const void *bpf, size_t len)
{
	struct sock_fprog program = { .len = (unsigned short)(len / sizeof(struct sock_filter)), .filter = (struct sock_filter *)bpf };
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : -errno;
}
