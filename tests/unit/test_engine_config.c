/*
 * test_engine_config.c - what a create request may ask for, and an image's configuration merged into it. Sources: Docker Engine API v1.50 (ContainerCreate,
 * HostConfig, Resources) and the docs of docker run. What depends on the host's cgroups is left to the integration tests.
 */
#include "testing.h"

#include <string.h>
#include <unistd.h>

#include "engine/config_check.h"

struct reading {
	struct gt_engine engine;
	struct gt_config *defaults;
	struct gt_container_config config;
	json_t *warnings;
	struct gt_error err;
};

static int setup(void **state)
{
	struct reading *in = gt_xcalloc(1, sizeof *in);
	*state = in;
	if (gt_config_load(NULL, false, &in->defaults, NULL) < 0)
		return -1;
	atomic_store(&in->engine.config, in->defaults);
	return 0;
}

static int teardown(void **state)
{
	struct reading *in = *state;
	gt_container_config_release(&in->config);
	json_decref(in->warnings);
	gt_config_free(in->defaults);
	free(in);
	return 0;
}

/* Reads a body anew. */
static int read_body(struct reading *in, const char *body)
{
	gt_container_config_release(&in->config);
	in->config = (struct gt_container_config){ 0 };
	json_decref(in->warnings);
	in->warnings = json_array();
	in->err = (struct gt_error){ 0 };
	AUTO_JSON json_t *json = gt_json_parse(body, strlen(body), "body", &in->err);
	if (!json)
		fail_msg("%s: %s", in->err.message, body);
	return gt_container_config_read(&in->engine, json, &in->config, in->warnings, &in->err);
}

static void read_good(struct reading *in, const char *body)
{
	if (read_body(in, body) < 0)
		fail_msg("%s: %s", body, in->err.message);
}

/* ---- decoding ---- */

static void fields_of_clients_are_read(void **state)
{
	struct reading *in = *state;
	read_good(in, "{\"Hostname\":\"h\",\"Env\":[\"A=1\",\"B\"],\"Cmd\":\"one string\",\"Entrypoint\":[\"/e\",\"x\"],\"Tty\":true,\"StopTimeout\":0,\"Image\":\"i\","
		      "\"Labels\":{\"a\":\"b\"},\"ExposedPorts\":{\"80/tcp\":{}},\"Unknown\":{\"x\":1},\"HostConfig\":{\"Binds\":[\"/a:/b\"],\"Memory\":0,"
		      "\"PidsLimit\":null,\"Init\":true,\"OomKillDisable\":false,\"ConsoleSize\":[24,80],\"CpuShares\":null}}");
	const struct gt_container_config *config = &in->config;
	assert_string_equal(config->hostname, "h");
	assert_int_equal(config->env.count, 2);
	assert_int_equal(config->cmd.count, 1);
	assert_string_equal(config->cmd.items[0], "one string");
	assert_int_equal(config->entrypoint.count, 2);
	assert_true(config->tty && config->stop_timeout.set && !config->stop_timeout.value);
	assert_false(config->host.pids_limit.set);
	assert_true(config->host.init.set && config->host.init.value && config->host.oom_kill_disable.set && !config->host.oom_kill_disable.value);
	assert_int_equal(config->host.binds.count, 1);
	/* as Go's decoder: names without regard to case */
	read_good(in, "{\"hostname\":\"h2\",\"hostconfig\":{\"readonlyrootfs\":true}}");
	assert_string_equal(in->config.hostname, "h2");
	assert_true(in->config.host.readonly_rootfs);
	/* logs get the host's driver */
	assert_string_equal(json_string_value(json_object_get(in->config.host.log_config, "Type")), "json-file");
}

static void what_was_read_is_written_again(void **state)
{
	struct reading *in = *state;
	read_good(in, "{\"Env\":[],\"Cmd\":null,\"StopTimeout\":3,\"HostConfig\":{\"CapAdd\":[\"net_admin\"],\"PidsLimit\":5,\"LogConfig\":{\"Type\":\"local\",\"Config\":{}}}}");
	AUTO_JSON json_t *config = gt_json_encode(gt_container_config_fields, &in->config);
	AUTO_JSON json_t *host = gt_json_encode(gt_host_config_fields, &in->config.host);
	assert_true(json_is_array(json_object_get(config, "Env")));
	assert_true(json_is_null(json_object_get(config, "Cmd")));
	assert_int_equal(json_integer_value(json_object_get(config, "StopTimeout")), 3);
	assert_string_equal(json_string_value(json_array_get(json_object_get(host, "CapAdd"), 0)), "net_admin");
	assert_int_equal(json_integer_value(json_object_get(host, "PidsLimit")), 5);
	assert_true(json_is_null(json_object_get(host, "MemorySwappiness")));
	struct gt_host_config again = { 0 };
	assert_int_equal(gt_json_decode(host, gt_host_config_fields, &again, NULL), 0);
	AUTO_JSON json_t *second = gt_json_encode(gt_host_config_fields, &again);
	assert_true(json_equal(host, second));
	gt_json_release(gt_host_config_fields, &again);
}

struct refusal {
	const char *body, *complaint;
};

static void refuse_all(struct reading *in, const struct refusal *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int rc = read_body(in, cases[i].body);
		if (rc != -1 || !strstr(in->err.message, cases[i].complaint) || in->err.kind == GT_INTERNAL)
			fail_msg("%s: %d, %s: %s", cases[i].body, rc, gt_kind_name(in->err.kind), in->err.message);
	}
}

#define HOST(text) "{\"HostConfig\":{" text "}}"

static void fields_of_the_wrong_type_are_refused_by_name(void **state)
{
	static const struct refusal CASES[] = {
		{ "[]", "JSON object" },
		{ "\"x\"", "JSON object" },
		{ "{\"HostConfig\":[]}", "HostConfig" },
		{ "{\"Env\":\"A=1\"}", "Env" },
		{ "{\"Env\":[1]}", "Env" },
		{ "{\"Cmd\":{}}", "Cmd" },
		{ "{\"Tty\":\"yes\"}", "Tty" },
		{ "{\"StopTimeout\":\"1\"}", "StopTimeout" },
		{ HOST("\"Memory\":\"1g\""), "Memory" },
		{ HOST("\"Binds\":{}"), "Binds" },
		{ HOST("\"Devices\":{}"), "Devices" },
		{ HOST("\"Ulimits\":\"nofile=5\""), "Ulimits" },
		{ HOST("\"Sysctls\":[]"), "Sysctls" },
		{ HOST("\"BlkioDeviceReadBps\":{}"), "BlkioDeviceReadBps" },
		{ HOST("\"LogConfig\":{\"Type\":7}"), "Type" },
		{ HOST("\"LogConfig\":{\"Type\":\"local\",\"Config\":[]}"), "Config" },
		{ HOST("\"RestartPolicy\":{\"Name\":1}"), "Name" },
		{ "{\"Healthcheck\":[]}", "Healthcheck" },
		{ "{\"Labels\":[]}", "Labels" },
		{ "{\"Labels\":{\"a\":1}}", "Labels" },
		{ HOST("\"Annotations\":{\"a\":{}}"), "Annotations" },
	};
	refuse_all(*state, CASES, GT_COUNT(CASES));
}

static void wishes_that_cannot_be_are_refused_with_dockers_words(void **state)
{
	static const struct refusal CASES[] = {
		{ "{\"Env\":[\"=x\"]}", "invalid environment variable: =x" },
		{ "{\"Env\":[\"\"]}", "invalid environment variable" },
		{ "{\"Hostname\":\"-a\"}", "invalid hostname format" },
		{ "{\"Hostname\":\"a b\"}", "invalid hostname format" },
		{ "{\"Hostname\":\"a/../b\"}", "invalid hostname format" },
		{ "{\"Hostname\":\"0123456789012345678901234567890123456789012345678901234567890123\"}", "63 characters" },
		{ "{\"Domainname\":\"a;b\"}", "invalid domain name" },
		{ "{\"StopSignal\":\"SIGNOTHING\"}", "Invalid signal: SIGNOTHING" },
		{ "{\"WorkingDir\":\"rel\"}", "needs to be an absolute path" },
		{ HOST("\"ShmSize\":-1"), "SHM size" },
		{ HOST("\"OomScoreAdj\":1001"), "[-1000, 1000]" },
		{ HOST("\"LogConfig\":{\"Type\":\"splunk\"}"), "no log driver named 'splunk'" },
		{ HOST("\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"big\"}}"), "max-size=big" },
		{ HOST("\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"0\"}}"), "max-size=0" },
		{ HOST("\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-file\":\"0\"}}"), "max-file=0" },
		{ HOST("\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-file\":\"2x\"}}"), "max-file=2x" },
		{ HOST("\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"compress\":\"maybe\"}}"), "compress=maybe" },
		{ HOST("\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"labels-regex\":\"x\"}}"), "unknown log opt 'labels-regex'" },
		{ HOST("\"LogConfig\":{\"Type\":\"none\",\"Config\":{\"max-size\":\"1m\"}}"), "takes no options" },
		{ HOST("\"LogConfig\":{\"Type\":\"local\",\"Config\":{\"max-size\":7}}"), "not a string" },
		{ HOST("\"RestartPolicy\":{\"Name\":\"sometimes\"}"), "unknown policy 'sometimes'" },
		{ HOST("\"RestartPolicy\":{\"Name\":\"always\",\"MaximumRetryCount\":3}"), "only be used with 'on-failure'" },
		{ HOST("\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":-1}"), "cannot be negative" },
		{ HOST("\"AutoRemove\":true,\"RestartPolicy\":{\"Name\":\"always\"}"), "can't create 'AutoRemove' container with restart policy" },
		{ "{\"Healthcheck\":{\"Test\":[\"EXEC\",\"x\"]}}", "Unknown healthcheck type 'EXEC'" },
		{ "{\"Healthcheck\":{\"Test\":[1]}}", "not a string" },
		{ "{\"Healthcheck\":{\"Interval\":1000}}", "Interval in Healthcheck cannot be less than 1ms" },
		{ "{\"Healthcheck\":{\"StartInterval\":-1}}", "StartInterval" },
		{ "{\"Healthcheck\":{\"Retries\":-1}}", "Retries" },
		{ HOST("\"Isolation\":\"hyperv\""), "isolation" },
		{ HOST("\"CpuCount\":1"), "CpuCount" },
		{ HOST("\"KernelMemory\":1"), "KernelMemory" },
		{ HOST("\"DeviceRequests\":[{\"Count\":-1}]"), "could not select device driver" },
		{ HOST("\"Runtime\":\"kata\""), "unknown or invalid runtime name: kata" },
		{ HOST("\"Cgroup\":\"container:x\""), "HostConfig.Cgroup" },
		{ HOST("\"VolumeDriver\":\"../x\""), "VolumeDriver" },
		{ HOST("\"Annotations\":{\"org.gantry.init\":\"/etc/shadow\"}"), "org.gantry.init" },
	};
	refuse_all(*state, CASES, GT_COUNT(CASES));
}

static void security_wishes_are_checked(void **state)
{
	static const struct refusal CASES[] = {
		{ HOST("\"CapAdd\":[\"CAP_FLY\"]"), "invalid CapAdd: unknown capability: \"CAP_FLY\"" },
		{ HOST("\"CapDrop\":[\"\"]"), "invalid CapDrop" },
		{ HOST("\"SecurityOpt\":[\"nonsense\"]"), "nonsense" },
		{ HOST("\"SecurityOpt\":[\"seccomp\"]"), "seccomp" },
		{ HOST("\"SecurityOpt\":[\"no-new-privileges:maybe\"]"), "no-new-privileges" },
		{ HOST("\"SecurityOpt\":[\"label=user:x\"]"), "SELinux" },
		{ HOST("\"SecurityOpt\":[\"systempaths=confined\"]"), "systempaths" },
		{ HOST("\"Sysctls\":{\"kernel.panic\":\"1\"}"), "kernel.panic" },
		{ HOST("\"Sysctls\":{\"net/ipv4/x\":\"1\"}"), "not allowed" },
		{ HOST("\"Sysctls\":{\"net..x\":\"1\"}"), "not allowed" },
		{ HOST("\"Sysctls\":{\"net.core.somaxconn\":1}"), "not allowed" },
		{ HOST("\"NetworkMode\":\"host\",\"Sysctls\":{\"net.core.somaxconn\":\"1\"}"), "host network namespace" },
		{ HOST("\"IpcMode\":\"host\",\"Sysctls\":{\"kernel.shmmax\":\"1\"}"), "host ipc namespace" },
		{ HOST("\"Devices\":[{\"PathOnHost\":\"dev/null\"}]"), "absolute" },
		{ HOST("\"Devices\":[{}]"), "absolute" },
		{ HOST("\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"x\"}]"), "PathInContainer" },
		{ HOST("\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"CgroupPermissions\":\"rwx\"}]"), "CgroupPermissions" },
		{ HOST("\"DeviceCgroupRules\":[\"c 1:3\"]"), "invalid device cgroup rule format: 'c 1:3'" },
		{ HOST("\"DeviceCgroupRules\":[\"c 1:3 rwmx\"]"), "invalid device cgroup rule" },
		{ HOST("\"DeviceCgroupRules\":[\"c 1:3 rw \"]"), "invalid device cgroup rule" },
		{ HOST("\"DeviceCgroupRules\":[\"c *1:3 r\"]"), "invalid device cgroup rule" },
		{ HOST("\"DeviceCgroupRules\":[\"d 1:3 r\"]"), "invalid device cgroup rule" },
		{ HOST("\"DeviceCgroupRules\":[\"\"]"), "invalid device cgroup rule" },
		{ HOST("\"DeviceCgroupRules\":[\"c 99999999999:3 r\"]"), "invalid device cgroup rule" },
		{ HOST("\"PidMode\":\"mine\""), "invalid PID mode: mine" },
		{ HOST("\"PidMode\":\"container:\""), "invalid PID mode" },
		{ HOST("\"UTSMode\":\"container:x\""), "invalid UTS mode" },
		{ HOST("\"CgroupnsMode\":\"shared\""), "cgroup namespace" },
		{ HOST("\"UsernsMode\":\"private\""), "userns" },
		{ "{\"Hostname\":\"h\",\"HostConfig\":{\"UTSMode\":\"host\"}}", "conflicting options" },
	};
	struct reading *in = *state;
	refuse_all(in, CASES, GT_COUNT(CASES));
	read_good(in, HOST("\"CapAdd\":[\"all\",\"net_admin\",\"CAP_SYS_PTRACE\"],\"CapDrop\":[\"Mknod\"],\"SecurityOpt\":[\"seccomp:unconfined\",\"label=disable\","
			   "\"no-new-privileges\",\"apparmor=unconfined\",\"systempaths=unconfined\"],\"Sysctls\":{\"net.core.somaxconn\":\"1\",\"fs.mqueue.msg_max\":\"1\"},"
			   "\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/x\",\"CgroupPermissions\":\"r\"}],"
			   "\"DeviceCgroupRules\":[\"a *:* rwm\",\"c 1:3 mr\",\"b 8:* w\"],\"PidMode\":\"container:x\",\"UTSMode\":\"host\",\"CgroupnsMode\":\"private\""));
}

static void security_options_are_taken_apart(void **state)
{
	(void)state;
	static const struct {
		const char *options[3];
		struct security wanted;
	} CASES[] = {
		{ { NULL }, { 0 } },
		{ { "seccomp=unconfined" }, { .seccomp = "unconfined" } },
		{ { "seccomp:unconfined" }, { .seccomp = "unconfined" } },
		{ { "seccomp=unconfined", "seccomp=builtin" }, { 0 } },
		{ { "seccomp={\"a\":\"b=c\"}" }, { .seccomp = "{\"a\":\"b=c\"}" } },
		{ { "apparmor=x" }, { .apparmor = "x" } },
		{ { "no-new-privileges" }, { .no_new_privileges = true, .no_new_privileges_given = true } },
		{ { "no-new-privileges=true" }, { .no_new_privileges = true, .no_new_privileges_given = true } },
		{ { "no-new-privileges:false" }, { .no_new_privileges_given = true } },
		{ { "systempaths=unconfined", "label=disable" }, { .systempaths_unconfined = true } },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_strings options = { 0 };
		struct security got;
		for (size_t k = 0; k < 3 && CASES[i].options[k]; k++)
			gt_strings_add(&options, CASES[i].options[k]);
		assert_int_equal(config_read_security(&options, &got, NULL), 0);
		const struct security *want = &CASES[i].wanted;
		if (strcmp(got.seccomp ? got.seccomp : "", want->seccomp ? want->seccomp : "") || strcmp(got.apparmor ? got.apparmor : "", want->apparmor ? want->apparmor : "") ||
		    got.no_new_privileges != want->no_new_privileges || got.no_new_privileges_given != want->no_new_privileges_given ||
		    got.systempaths_unconfined != want->systempaths_unconfined)
			fail_msg("%s", CASES[i].options[0]);
		gt_strings_free(&options);
	}
}

static void capabilities_have_one_name(void **state)
{
	(void)state;
	assert_string_equal(config_capability("sys_admin"), "CAP_SYS_ADMIN");
	assert_string_equal(config_capability("CAP_SYS_ADMIN"), "CAP_SYS_ADMIN");
	assert_string_equal(config_capability("Cap_Chown"), "CAP_CHOWN");
	assert_string_equal(config_capability("all"), "ALL");
	assert_null(config_capability("CAP_ALL"));
	assert_null(config_capability("SYS_ADMIN "));
	assert_null(config_capability(""));
	assert_int_equal(config_capability_count(), 41); /* up to CAP_CHECKPOINT_RESTORE */
	assert_string_equal(config_capability_at(21), "CAP_SYS_ADMIN");
}

static void limits_are_checked(void **state)
{
	static const struct refusal CASES[] = {
		{ HOST("\"Memory\":-1"), "negative" },
		{ HOST("\"Memory\":6291455"), "Minimum memory limit allowed is 6MB" },
		{ HOST("\"MemorySwap\":10000000"), "You should always set the Memory limit when using Memoryswap limit" },
		{ HOST("\"MemoryReservation\":1"), "Minimum memory reservation allowed is 6MB" },
		{ HOST("\"MemorySwappiness\":101"), "range is 0-100" },
		{ HOST("\"MemorySwappiness\":-2"), "range is 0-100" },
		{ HOST("\"NanoCpus\":1000000000,\"CpuPeriod\":10000"), "Nano CPUs and CPU Period cannot both be set" },
		{ HOST("\"NanoCpus\":1000000000,\"CpuQuota\":10000"), "Nano CPUs and CPU Quota cannot both be set" },
		{ HOST("\"NanoCpus\":-1"), "range of CPUs" },
		{ HOST("\"NanoCpus\":9223372036854775807"), "range of CPUs" },
		{ HOST("\"CpuPeriod\":999"), "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)" },
		{ HOST("\"CpuPeriod\":1000001"), "CPU cfs period" },
		{ HOST("\"CpuQuota\":999"), "CPU cfs quota" },
		{ HOST("\"CpuShares\":-1"), "CPU shares" },
		{ HOST("\"CpusetCpus\":\"x\""), "Invalid value x for cpuset cpus" },
		{ HOST("\"CpusetCpus\":\"1-0\""), "Invalid value" },
		{ HOST("\"CpusetCpus\":\"0,\""), "Invalid value" },
		{ HOST("\"CpusetCpus\":\"0,,1\""), "Invalid value" },
		{ HOST("\"CpusetCpus\":\"-1\""), "Invalid value" },
		{ HOST("\"CpusetCpus\":\"0-99999999999999999999\""), "not available" },
		{ HOST("\"CpusetCpus\":\"100000\""), "Requested CPUs are not available" },
		{ HOST("\"CpusetMems\":\"0x\""), "Invalid value 0x for cpuset mems" },
		{ HOST("\"BlkioWeight\":9"), "Range of blkio weight is from 10 to 1000" },
		{ HOST("\"BlkioWeight\":1001"), "Range of blkio weight" },
		{ HOST("\"BlkioDeviceReadBps\":[{\"Rate\":1}]"), "no Path" },
		{ HOST("\"BlkioDeviceReadBps\":[{\"Path\":\"/dev/null\",\"Rate\":1}]"), "not a block device" },
		{ HOST("\"BlkioDeviceReadBps\":[{\"Path\":\"/nowhere\",\"Rate\":1}]"), "no such file" },
		{ HOST("\"BlkioDeviceReadBps\":[7]"), "no Path" },
		{ HOST("\"Ulimits\":[{\"Name\":\"files\",\"Soft\":1,\"Hard\":1}]"), "invalid ulimit type: files" },
		{ HOST("\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":2,\"Hard\":1}]"), "soft limit must be less than or equal to hard limit: 2 > 1" },
		{ HOST("\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":-1,\"Hard\":1}]"), "soft limit" },
		{ HOST("\"Ulimits\":[7]"), "invalid ulimit type" },
	};
	struct reading *in = *state;
	refuse_all(in, CASES, GT_COUNT(CASES));
	read_good(in, HOST("\"MemorySwappiness\":-1,\"CpusetCpus\":\"0\",\"CpusetMems\":\"0-0\",\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":1,\"Hard\":-1},"
			   "{\"Name\":\"core\",\"Soft\":-1,\"Hard\":-1}]"));
	assert_false(in->config.host.memory_swappiness.set);
}

static void lists_of_endless_length_are_refused(void **state)
{
	struct reading *in = *state;
	AUTO_JSON json_t *body = json_object();
	json_t *list = json_array();
	json_object_set_new(body, "Env", list);
	for (int i = 0; i < 8193; i++)
		json_array_append_new(list, json_string("A=1"));
	assert_int_equal(gt_container_config_read(&in->engine, body, &in->config, NULL, &in->err), -1);
	assert_int_equal(in->err.kind, GT_TOO_LARGE);
	AUTO_FREE char *text = gt_xcalloc(1, 200000);
	memset(text, 'x', 199999);
	AUTO_JSON json_t *one = json_pack("{s:[s]}", "Cmd", text);
	assert_int_equal(gt_container_config_read(&in->engine, one, &in->config, NULL, &in->err), -1);
	assert_int_equal(in->err.kind, GT_TOO_LARGE);
}

/* ---- merging ---- */

struct merge {
	const char *user, *image, *merged; /* members that are looked at */
};

static void merge_all(struct reading *in, const struct merge *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct gt_image_config image = { 0 };
		AUTO_JSON json_t *json = gt_json_parse(cases[i].image, strlen(cases[i].image), "image", NULL);
		AUTO_JSON json_t *wanted = gt_json_parse(cases[i].merged, strlen(cases[i].merged), "merged", NULL);
		assert_true(json && wanted);
		assert_int_equal(gt_json_decode(json, gt_image_config_fields, &image, NULL), 0);
		read_good(in, cases[i].user);
		gt_container_config_merge(&in->config, &image);
		gt_json_release(gt_image_config_fields, &image);
		AUTO_JSON json_t *got = gt_json_encode(gt_container_config_fields, &in->config);
		const char *name;
		json_t *value;
		json_object_foreach(wanted, name, value) {
			AUTO_FREE char *text = json_dumps(json_object_get(got, name), JSON_COMPACT | JSON_ENCODE_ANY);
			if (!json_equal(value, json_object_get(got, name)))
				fail_msg("%s with image %s: %s is %s", cases[i].user, cases[i].image, name, text);
		}
	}
}

static void an_image_fills_what_the_user_left_open(void **state)
{
	static const struct merge CASES[] = {
		{ "{}", "{}", "{\"Env\":[],\"Cmd\":null,\"Entrypoint\":null,\"Labels\":{},\"User\":\"\"}" },
		/* commands */
		{ "{}", "{\"Cmd\":[\"c\"],\"Entrypoint\":[\"e\"]}", "{\"Cmd\":[\"c\"],\"Entrypoint\":[\"e\"]}" },
		{ "{\"Cmd\":[\"x\"]}", "{\"Cmd\":[\"c\"],\"Entrypoint\":[\"e\"]}", "{\"Cmd\":[\"x\"],\"Entrypoint\":[\"e\"]}" },
		{ "{\"Entrypoint\":[\"x\"]}", "{\"Cmd\":[\"c\"],\"Entrypoint\":[\"e\"]}", "{\"Cmd\":null,\"Entrypoint\":[\"x\"]}" },
		{ "{\"Entrypoint\":[\"x\"],\"Cmd\":[\"y\"]}", "{\"Cmd\":[\"c\"]}", "{\"Cmd\":[\"y\"],\"Entrypoint\":[\"x\"]}" },
		{ "{\"Entrypoint\":[\"\"],\"Cmd\":[\"y\"]}", "{\"Entrypoint\":[\"e\"]}", "{\"Cmd\":[\"y\"],\"Entrypoint\":null}" },
		{ "{\"Entrypoint\":[\"\"]}", "{\"Cmd\":[\"c\"],\"Entrypoint\":[\"e\"]}", "{\"Cmd\":null,\"Entrypoint\":null}" },
		{ "{\"Entrypoint\":[]}", "{\"Cmd\":[\"c\"],\"Entrypoint\":[\"e\"]}", "{\"Cmd\":[\"c\"],\"Entrypoint\":[]}" },
		{ "{\"Cmd\":[]}", "{\"Cmd\":[\"c\"]}", "{\"Cmd\":[\"c\"]}" },
		/* environment: by name */
		{ "{\"Env\":[\"A=1\"]}", "{\"Env\":[\"A=0\",\"PATH=/x\"]}", "{\"Env\":[\"A=1\",\"PATH=/x\"]}" },
		{ "{\"Env\":[\"A\"]}", "{\"Env\":[\"A=0\",\"AB=2\"]}", "{\"Env\":[\"AB=2\"]}" },
		{ "{\"Env\":[\"AB=1\"]}", "{\"Env\":[\"A=0\"]}", "{\"Env\":[\"AB=1\",\"A=0\"]}" },
		{ "{\"Env\":[\"A=\"]}", "{\"Env\":[\"A=0\"]}", "{\"Env\":[\"A=\"]}" },
		/* maps: by key */
		{ "{\"Labels\":{\"a\":\"1\"}}", "{\"Labels\":{\"a\":\"0\",\"b\":\"2\"}}", "{\"Labels\":{\"a\":\"1\",\"b\":\"2\"}}" },
		{ "{\"ExposedPorts\":{\"80/tcp\":{}}}", "{\"ExposedPorts\":{\"443/tcp\":{}}}", "{\"ExposedPorts\":{\"80/tcp\":{},\"443/tcp\":{}}}" },
		{ "{\"ExposedPorts\":null}", "{\"ExposedPorts\":{\"443/tcp\":{}}}", "{\"ExposedPorts\":{\"443/tcp\":{}}}" },
		{ "{\"Volumes\":{}}", "{\"Volumes\":{\"/v\":{}}}", "{\"Volumes\":{\"/v\":{}}}" },
		/* words */
		{ "{}", "{\"User\":\"u\",\"WorkingDir\":\"/w\",\"StopSignal\":\"INT\",\"Shell\":[\"/bin/x\"]}",
		  "{\"User\":\"u\",\"WorkingDir\":\"/w\",\"StopSignal\":\"INT\",\"Shell\":[\"/bin/x\"]}" },
		{ "{\"User\":\"0\",\"WorkingDir\":\"/\",\"StopSignal\":\"TERM\"}", "{\"User\":\"u\",\"WorkingDir\":\"/w\",\"StopSignal\":\"INT\"}",
		  "{\"User\":\"0\",\"WorkingDir\":\"/\",\"StopSignal\":\"TERM\"}" },
		/* health checks: member by member */
		{ "{}", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"]}}", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"]}}" },
		{ "{\"Healthcheck\":{\"Interval\":5000000000,\"Retries\":0}}", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"],\"Interval\":1000000000,\"Retries\":4}}",
		  "{\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"],\"Interval\":5000000000,\"Retries\":4}}" },
		{ "{\"Healthcheck\":{\"Test\":[\"NONE\"]}}", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"]}}", "{\"Healthcheck\":{\"Test\":[\"NONE\"]}}" },
	};
	merge_all(*state, CASES, GT_COUNT(CASES));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_of_clients_are_read),
		cmocka_unit_test(what_was_read_is_written_again),
		cmocka_unit_test(fields_of_the_wrong_type_are_refused_by_name),
		cmocka_unit_test(wishes_that_cannot_be_are_refused_with_dockers_words),
		cmocka_unit_test(security_wishes_are_checked),
		cmocka_unit_test(security_options_are_taken_apart),
		cmocka_unit_test(capabilities_have_one_name),
		cmocka_unit_test(limits_are_checked),
		cmocka_unit_test(lists_of_endless_length_are_refused),
		cmocka_unit_test(an_image_fills_what_the_user_left_open),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
