/*
 * test_runtime_seccomp.c - profiles compiled and then asked, by an interpreter of the BPF that the kernel would run: what happens to this system call?
 * Sources: Docker's profile format (docs.docker.com, engine/security/seccomp), OCI runtime-spec config-linux.md, kernel seccomp_filter.rst.
 */
#include "testing.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/seccomp.h"
#include "runtime/seccomp.h"

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#define OTHER AUDIT_ARCH_I386
#else
#define NATIVE AUDIT_ARCH_AARCH64
#define OTHER AUDIT_ARCH_ARM
#endif
#define CLONE_NEWUSER_FLAG 0x10000000u

/* ---- the interpreter: the part of classic BPF that libseccomp emits ---- */

static uint32_t run_bpf(const struct gt_buf *bpf, const struct seccomp_data *data)
{
	const struct sock_filter *code = (const struct sock_filter *)bpf->data;
	size_t count = bpf->len / sizeof *code;
	uint32_t a = 0, word;
	for (size_t pc = 0; pc < count; pc++) {
		const struct sock_filter *at = &code[pc];
		switch (at->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(at->k + 4 <= sizeof *data);
			memcpy(&word, (const char *)data + at->k, sizeof word);
			a = word;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= at->k;
			break;
		case BPF_JMP | BPF_JA:
			pc += at->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == at->k ? at->jt : at->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > at->k ? at->jt : at->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= at->k ? at->jt : at->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & at->k ? at->jt : at->jf;
			break;
		case BPF_RET | BPF_K:
			return at->k;
		default:
			fail_msg("instruction %#x", at->code);
		}
	}
	fail_msg("the program has no end");
	return 0;
}

static uint32_t ask(const struct gt_buf *bpf, uint32_t arch, const char *name, uint64_t first, uint64_t second)
{
	int number = arch == OTHER ? seccomp_syscall_resolve_name_arch(arch == AUDIT_ARCH_I386 ? SCMP_ARCH_X86 : SCMP_ARCH_ARM, name) :
				     seccomp_syscall_resolve_name(name);
	return run_bpf(bpf, &(struct seccomp_data){ .nr = number, .arch = arch, .args = { first, second } });
}

/* ---- from text to program ---- */

static int compile(const char *text, size_t len, const char *capabilities, struct gt_buf *bpf, struct gt_error *err)
{
	AUTO_JSON json_t *profile = gt_json_parse(text, len, "profile", err);
	AUTO_JSON json_t *caps = gt_json_parse(capabilities, strlen(capabilities), "capabilities", err);
	if (!profile || !caps)
		fail_msg("%s", err->message);
	AUTO_JSON json_t *oci = gt_seccomp_resolve(profile, caps, err);
	return oci ? gt_seccomp_compile(oci, bpf, err) : -1;
}

static void compile_default(const char *capabilities, struct gt_buf *bpf)
{
	struct gt_error err = { 0 };
	size_t len;
	const char *text = gt_seccomp_default(&len);
	if (compile(text, len, capabilities, bpf, &err) < 0)
		fail_msg("%s", err.message);
}

static void compile_text(const char *text, struct gt_buf *bpf)
{
	struct gt_error err = { 0 };
	if (compile(text, strlen(text), "[]", bpf, &err) < 0)
		fail_msg("%s: %s", text, err.message);
}

#define ALLOW SECCOMP_RET_ALLOW
#define DENY(errnum) (SECCOMP_RET_ERRNO | (errnum))

/* ---- the default profile ---- */

static void the_default_profile_allows_work_and_denies_the_host(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		uint64_t first;
		uint32_t bare, admin; /* without and with CAP_SYS_ADMIN */
	} CASES[] = {
		{ "read", 0, ALLOW, ALLOW },
		{ "openat", 0, ALLOW, ALLOW },
		{ "execve", 0, ALLOW, ALLOW },
		{ "ptrace", 0, ALLOW, ALLOW },
		{ "mount", 0, DENY(EPERM), ALLOW },
		{ "umount2", 0, DENY(EPERM), ALLOW },
		{ "setns", 0, DENY(EPERM), ALLOW },
		{ "unshare", CLONE_NEWUSER_FLAG, DENY(EPERM), ALLOW },
		{ "clone", SIGCHLD, ALLOW, ALLOW },
		{ "clone", CLONE_NEWUSER_FLAG | SIGCHLD, DENY(EPERM), ALLOW },
		{ "clone3", 0, DENY(ENOSYS), ALLOW },
		{ "reboot", 0, DENY(EPERM), DENY(EPERM) },
		{ "init_module", 0, DENY(EPERM), DENY(EPERM) },
		{ "kexec_load", 0, DENY(EPERM), DENY(EPERM) },
		{ "add_key", 0, DENY(EPERM), DENY(EPERM) },
		{ "socket", 2 /* AF_INET */, ALLOW, ALLOW },
		{ "socket", 40 /* AF_VSOCK */, DENY(EPERM), DENY(EPERM) },
		{ "socket", 38 /* AF_ALG */, DENY(EPERM), DENY(EPERM) },
		{ "personality", 0, ALLOW, ALLOW },
		{ "personality", 0xffffffff, ALLOW, ALLOW },
		{ "personality", 0x0040000 /* ADDR_NO_RANDOMIZE */, DENY(EPERM), DENY(EPERM) },
	};
	AUTO_BUF struct gt_buf bare = { 0 };
	AUTO_BUF struct gt_buf admin = { 0 };
	compile_default("[\"CAP_CHOWN\"]", &bare);
	compile_default("[\"CAP_CHOWN\",\"CAP_SYS_ADMIN\"]", &admin);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		uint32_t without = ask(&bare, NATIVE, CASES[i].name, CASES[i].first, 0), with = ask(&admin, NATIVE, CASES[i].name, CASES[i].first, 0);
		if (without != CASES[i].bare || with != CASES[i].admin)
			fail_msg("%s(%#llx): %#x without, %#x with CAP_SYS_ADMIN", CASES[i].name, (unsigned long long)CASES[i].first, without, with);
	}
}

static void capabilities_open_their_system_calls(void **state)
{
	(void)state;
	static const struct {
		const char *capabilities, *name;
	} CASES[] = {
		{ "[\"CAP_SYS_BOOT\"]", "reboot" },     { "[\"CAP_SYS_MODULE\"]", "init_module" },     { "[\"CAP_SYS_TIME\"]", "settimeofday" },
		{ "[\"CAP_SYSLOG\"]", "syslog" },       { "[\"CAP_DAC_READ_SEARCH\"]", "open_by_handle_at" }, { "[\"CAP_SYS_CHROOT\"]", "chroot" },
		{ "[\"CAP_BPF\"]", "bpf" },             { "[\"CAP_PERFMON\"]", "perf_event_open" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_BUF struct gt_buf without = { 0 };
		AUTO_BUF struct gt_buf with = { 0 };
		compile_default("[]", &without);
		compile_default(CASES[i].capabilities, &with);
		if (ask(&without, NATIVE, CASES[i].name, 0, 0) != DENY(EPERM) || ask(&with, NATIVE, CASES[i].name, 0, 0) != ALLOW)
			fail_msg("%s with %s", CASES[i].name, CASES[i].capabilities);
	}
}

/* A 64-bit container still runs 32-bit programs, and the numbers of one are not those of the other. */
static void the_default_profile_knows_the_sub_architectures(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf bpf = { 0 };
	compile_default("[]", &bpf);
	assert_int_equal(ask(&bpf, OTHER, "execve", 0, 0), ALLOW);
	assert_int_equal(ask(&bpf, OTHER, "mount", 0, 0), DENY(EPERM));
	assert_int_not_equal(run_bpf(&bpf, &(struct seccomp_data){ .nr = 0, .arch = AUDIT_ARCH_S390X }), ALLOW);
}

/* ---- profiles of users ---- */

static void actions_and_operators_mean_what_the_specification_says(void **state)
{
	(void)state;
	static const struct {
		const char *rule;
		uint64_t first, second;
		uint32_t wanted;
	} CASES[] = {
		{ "\"action\":\"SCMP_ACT_ERRNO\"", 0, 0, DENY(EPERM) },
		{ "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38", 0, 0, DENY(38) },
		{ "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":null", 0, 0, DENY(EPERM) },
		{ "\"action\":\"SCMP_ACT_KILL\"", 0, 0, SECCOMP_RET_KILL_THREAD },
		{ "\"action\":\"SCMP_ACT_KILL_THREAD\"", 0, 0, SECCOMP_RET_KILL_THREAD },
		{ "\"action\":\"SCMP_ACT_KILL_PROCESS\"", 0, 0, SECCOMP_RET_KILL_PROCESS },
		{ "\"action\":\"SCMP_ACT_TRAP\"", 0, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRACE\",\"errnoRet\":7", 0, 0, SECCOMP_RET_TRACE | 7 },
		{ "\"action\":\"SCMP_ACT_LOG\"", 0, 0, SECCOMP_RET_LOG },
		{ "\"action\":\"SCMP_ACT_ALLOW\"", 0, 0, ALLOW },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_EQ\"}]", 5, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_EQ\"}]", 6, 0, ALLOW },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_NE\"}]", 6, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_NE\"}]", 5, 0, ALLOW },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_LT\"}]", 4, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_LT\"}]", 5, 0, ALLOW },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_LE\"}]", 5, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_LE\"}]", 6, 0, ALLOW },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_GT\"}]", 1ull << 40, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_GT\"}]", 5, 0, ALLOW },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_GE\"}]", 5, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":12,\"valueTwo\":8,\"op\":\"SCMP_CMP_MASKED_EQ\"}]", 8, 0, SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":12,\"valueTwo\":8,\"op\":\"SCMP_CMP_MASKED_EQ\"}]", 12, 0, ALLOW },
		/* several arguments: all must hold */
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":1,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]", 1, 2,
		  SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":1,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]", 1, 3,
		  ALLOW },
		/* several conditions on one argument: one is enough, as with runc */
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":0,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]", 2, 0,
		  SECCOMP_RET_TRAP },
		{ "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":0,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]", 3, 0,
		  ALLOW },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_FREE char *text =
			gt_xasprintf("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"no_such_call\",\"setsid\"],%s}]}", CASES[i].rule);
		AUTO_BUF struct gt_buf bpf = { 0 };
		compile_text(text, &bpf);
		uint32_t got = ask(&bpf, NATIVE, "setsid", CASES[i].first, CASES[i].second);
		if (got != CASES[i].wanted)
			fail_msg("%s: %#x", CASES[i].rule, got);
		assert_int_equal(ask(&bpf, NATIVE, "getpid", 0, 0), ALLOW);
	}
}

static void rules_are_for_hosts_and_capabilities(void **state)
{
	(void)state;
	static const struct {
		const char *conditions;
		bool applies;
	} CASES[] = {
		{ "\"includes\":{}", true },
		{ "\"includes\":{\"caps\":[\"CAP_CHOWN\"]}", true },
		{ "\"includes\":{\"caps\":[\"CAP_CHOWN\",\"CAP_SYS_ADMIN\"]}", false },
		{ "\"includes\":{\"arches\":[\"s390x\"]}", false },
		{ "\"includes\":{\"arches\":[\"amd64\",\"arm64\"]}", true },
		{ "\"includes\":{\"minKernel\":\"4.8\"}", true },
		{ "\"includes\":{\"minKernel\":\"99.0\"}", false },
		{ "\"excludes\":{\"minKernel\":\"4.8\"}", false },
		{ "\"excludes\":{\"minKernel\":\"99.0\"}", true },
		{ "\"excludes\":{\"caps\":[\"CAP_CHOWN\"]}", false },
		{ "\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}", true },
		{ "\"excludes\":{\"arches\":[\"amd64\",\"arm64\"]}", false },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_FREE char *text = gt_xasprintf(
			"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"name\":\"setsid\",\"action\":\"SCMP_ACT_ERRNO\",%s}]}", CASES[i].conditions);
		AUTO_BUF struct gt_buf bpf = { 0 };
		struct gt_error err = { 0 };
		assert_int_equal(compile(text, strlen(text), "[\"CAP_CHOWN\"]", &bpf, &err), 0);
		if ((ask(&bpf, NATIVE, "setsid", 0, 0) == DENY(EPERM)) != CASES[i].applies)
			fail_msg("%s", CASES[i].conditions);
	}
}

static void bad_profiles_are_refused_with_the_reason(void **state)
{
	(void)state;
	static const struct {
		const char *text, *complaint;
	} CASES[] = {
		{ "[]", "defaultAction" },
		{ "{}", "defaultAction" },
		{ "{\"defaultAction\":7}", "defaultAction" },
		{ "{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", "SCMP_ACT_MAYBE" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_VAX\"]}", "SCMP_ARCH_VAX" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"x86_64\"]}", "x86_64" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[7]}", "(none)" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86\"],\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86\"}]}", "use either" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"]}]}", "action" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_NOTIFY\"}]}", "SCMP_ACT_NOTIFY" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[7]}", "action" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"name\":\"a\",\"names\":[\"b\"],\"action\":\"SCMP_ACT_TRAP\"}]}", "use either" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":6,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		  "index 6" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":-1,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		  "index -1" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"op\":\"==\"}]}]}", "==" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{},{},{},{},{},{},{}]}]}",
		  "more than 6" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"]}", "SECCOMP_FILTER_FLAG_LOG" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/x\"}", "listenerPath" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_BUF struct gt_buf bpf = { 0 };
		struct gt_error err = { 0 };
		int rc = compile(CASES[i].text, strlen(CASES[i].text), "[]", &bpf, &err);
		if (rc != -1 || !strstr(err.message, CASES[i].complaint) || err.kind == GT_INTERNAL)
			fail_msg("%s: %d, %s", CASES[i].text, rc, err.message);
	}
}

static void programs_too_long_for_the_kernel_are_refused(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf text = { 0 };
	AUTO_BUF struct gt_buf bpf = { 0 };
	struct gt_error err = { 0 };
	gt_buf_str(&text, "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[");
	for (int i = 0; i < 2200; i++) /* two comparisons each */
		gt_buf_printf(&text, "%s{\"names\":[\"setsid\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":%lld,\"op\":\"SCMP_CMP_EQ\"}]}",
			      i ? "," : "", (long long)i << 32 | i);
	gt_buf_str(&text, "]}");
	assert_int_equal(compile(text.data, text.len, "[]", &bpf, &err), -1);
	assert_non_null(strstr(err.message, "too long"));
	gt_buf_reset(&text);
	gt_buf_str(&text, "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{}");
	for (int i = 0; i < 5000; i++)
		gt_buf_str(&text, ",{}");
	gt_buf_str(&text, "]}");
	assert_int_equal(compile(text.data, text.len, "[]", &bpf, &err), -1);
	assert_int_equal(err.kind, GT_TOO_LARGE);
}

static void the_kernel_takes_the_default_program(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf bpf = { 0 };
	compile_default("[]", &bpf);
	pid_t pid = fork();
	if (pid == 0) {
		if (gt_seccomp_load(bpf.data, bpf.len) != 0)
			_exit(1);
		_exit(syscall(SYS_unshare, CLONE_NEWUSER_FLAG) == -1 && errno == EPERM && getppid() > 0 ? 0 : 2);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(gt_seccomp_load("", 0), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_default_profile_allows_work_and_denies_the_host),
		cmocka_unit_test(capabilities_open_their_system_calls),
		cmocka_unit_test(the_default_profile_knows_the_sub_architectures),
		cmocka_unit_test(actions_and_operators_mean_what_the_specification_says),
		cmocka_unit_test(rules_are_for_hosts_and_capabilities),
		cmocka_unit_test(bad_profiles_are_refused_with_the_reason),
		cmocka_unit_test(programs_too_long_for_the_kernel_are_refused),
		cmocka_unit_test(the_kernel_takes_the_default_program),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
