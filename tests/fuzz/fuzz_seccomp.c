/* Seccomp profiles: resolved and compiled, or refused with a reason; a program is whole instructions that fit the kernel's bound. */
#include "fuzz.h"

#include <linux/filter.h>

#include "base/json.h"
#include "runtime/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf bpf = { 0 };
	AUTO_JSON json_t *profile = gt_json_parse((const char *)data, size, "profile", NULL);
	AUTO_JSON json_t *capabilities = json_pack("[ss]", "CAP_CHOWN", "CAP_SYS_ADMIN");
	if (!profile)
		return 0;
	AUTO_JSON json_t *oci = gt_seccomp_resolve(profile, capabilities, &err);
	if (oci && gt_seccomp_compile(oci, &bpf, &err) == 0)
		MUST(bpf.len && bpf.len % sizeof(struct sock_filter) == 0 && bpf.len / sizeof(struct sock_filter) <= BPF_MAXINSNS);
	else
		MUST(err.message[0]);
	gt_buf_reset(&bpf);
	gt_seccomp_compile(profile, &bpf, &err);
	return 0;
}
