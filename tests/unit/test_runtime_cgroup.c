/*
 * test_runtime_cgroup.c - linux.resources as text in control files, on directories that stand for a cgroup: plain files take what the kernel would get.
 * No cgroup is touched. Sources: OCI runtime-spec config-linux.md; kernel cgroup-v1 documents and cgroup-v2.rst.
 */
#include "testing.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"

/* ---- a cgroup of plain files ---- */

static void put(const char *dir, const char *file, const char *text)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, file);
	FILE *stream = fopen(path, "w");
	assert_non_null(stream);
	fputs(text, stream);
	fclose(stream);
}

static const char *get(const char *dir, const char *file, struct gt_buf *text)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, file);
	gt_buf_reset(text);
	assert_int_equal(gt_read_file(AT_FDCWD, path, 65536, text, NULL), 0);
	return text->len ? text->data : "";
}

/* files: names, each followed by what it holds before, up to NULL. */
static struct gt_cgroup *fake(const char *root, bool v2, const char *const *files)
{
	struct gt_cgroup *cgroup = gt_xcalloc(1, sizeof *cgroup);
	cgroup->path = gt_xstrdup("/fake");
	gt_remove_tree(AT_FDCWD, root, NULL);
	assert_int_equal(mkdir(root, 0700), 0);
	for (; *files; files += 2)
		put(root, files[0], files[1]);
	for (int i = 0; i < HIERARCHIES; i++)
		cgroup->dir[i] = v2 == (i == UNIFIED) ? open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	return cgroup;
}

static const char *const V1_FILES[] = {
	"memory.limit_in_bytes", "", "memory.memsw.limit_in_bytes", "", "memory.soft_limit_in_bytes", "", "memory.swappiness", "", "memory.oom_control", "",
	"cpu.shares", "", "cpu.cfs_period_us", "", "cpu.cfs_quota_us", "", "cpu.cfs_burst_us", "", "cpu.rt_period_us", "", "cpu.rt_runtime_us", "", "cpu.idle", "",
	"cpuset.cpus", "", "cpuset.mems", "", "pids.max", "", "blkio.weight", "", "blkio.weight_device", "", "blkio.throttle.read_bps_device", "",
	"blkio.throttle.write_bps_device", "", "blkio.throttle.read_iops_device", "", "blkio.throttle.write_iops_device", "", "hugetlb.2MB.limit_in_bytes", "",
	"devices.allow", "", "devices.deny", "", NULL,
};
static const char *const V2_FILES[] = {
	"memory.max", "", "memory.swap.max", "", "memory.low", "", "memory.high", "", "cpu.weight", "", "cpu.max", "", "cpu.max.burst", "", "cpu.idle", "",
	"cpuset.cpus", "", "cpuset.mems", "", "pids.max", "", "io.weight", "", "io.max", "", "hugetlb.2MB.max", "", "cgroup.freeze", "", NULL,
};

struct translation {
	const char *resources;
	const char *file, *text; /* NULL text: nothing is written anywhere */
};

static void check_all(const char *root, bool v2, const struct translation *cases, size_t count)
{
	const char *const *files = v2 ? V2_FILES : V1_FILES;
	AUTO_BUF struct gt_buf text = { 0 };
	for (size_t i = 0; i < count; i++) {
		struct gt_error err = { 0 };
		struct gt_cgroup *cgroup = fake(root, v2, files);
		AUTO_JSON json_t *resources = gt_json_parse(cases[i].resources, strlen(cases[i].resources), "test", &err);
		assert_non_null(resources);
		int rc = v2 ? cgroup_v2_apply(cgroup, resources, &err) : cgroup_v1_apply(cgroup, resources, &err);
		if (rc < 0)
			fail_msg("%s: %s", cases[i].resources, err.message);
		for (const char *const *file = files; *file; file += 2) {
			const char *wanted = cases[i].text && strcmp(*file, cases[i].file) == 0 ? cases[i].text : "";
			const char *got = get(root, *file, &text);
			if (strcmp(got, wanted))
				fail_msg("%s: %s holds \"%s\", not \"%s\"", cases[i].resources, *file, got, wanted);
		}
		gt_cgroup_free(cgroup);
	}
}

#define MEMORY_LIMIT "\"limit\":104857600"

static void v1_gets_each_limit_in_its_file(void **state)
{
	static const struct translation CASES[] = {
		{ "{}", NULL, NULL },
		{ "{\"memory\":{},\"cpu\":{},\"pids\":{},\"blockIO\":{},\"hugepageLimits\":[],\"devices\":[],\"unified\":{}}", NULL, NULL },
		{ "{\"memory\":null,\"cpu\":null}", NULL, NULL },
		{ "{\"memory\":{" MEMORY_LIMIT "}}", "memory.limit_in_bytes", "104857600" },
		{ "{\"memory\":{\"reservation\":52428800}}", "memory.soft_limit_in_bytes", "52428800" },
		{ "{\"memory\":{\"swappiness\":0}}", "memory.swappiness", "0" },
		{ "{\"memory\":{\"disableOOMKiller\":true}}", "memory.oom_control", "1" },
		{ "{\"memory\":{\"disableOOMKiller\":false}}", NULL, NULL },
		{ "{\"memory\":{\"swap\":-1}}", "memory.memsw.limit_in_bytes", "-1" },
		{ "{\"cpu\":{\"shares\":512}}", "cpu.shares", "512" },
		{ "{\"cpu\":{\"period\":50000}}", "cpu.cfs_period_us", "50000" },
		{ "{\"cpu\":{\"quota\":-1}}", "cpu.cfs_quota_us", "-1" },
		{ "{\"cpu\":{\"burst\":1000}}", "cpu.cfs_burst_us", "1000" },
		{ "{\"cpu\":{\"realtimePeriod\":1000000}}", "cpu.rt_period_us", "1000000" },
		{ "{\"cpu\":{\"realtimeRuntime\":950000}}", "cpu.rt_runtime_us", "950000" },
		{ "{\"cpu\":{\"idle\":1}}", "cpu.idle", "1" },
		{ "{\"cpu\":{\"cpus\":\"0-1,3\"}}", "cpuset.cpus", "0-1,3" },
		{ "{\"cpu\":{\"mems\":\"0\",\"cpus\":\"\"}}", "cpuset.mems", "0" },
		{ "{\"pids\":{\"limit\":100}}", "pids.max", "100" },
		{ "{\"pids\":{\"limit\":0}}", "pids.max", "max" },
		{ "{\"pids\":{\"limit\":-1}}", "pids.max", "max" },
		{ "{\"pids\":{\"limit\":null}}", NULL, NULL },
		{ "{\"blockIO\":{\"weight\":500}}", "blkio.weight", "500" },
		{ "{\"blockIO\":{\"weight\":0}}", NULL, NULL },
		{ "{\"blockIO\":{\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":200}]}}", "blkio.weight_device", "8:0 200" },
		{ "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":16,\"rate\":1048576}]}}", "blkio.throttle.read_bps_device", "8:16 1048576" },
		{ "{\"blockIO\":{\"throttleWriteBpsDevice\":[{\"major\":8,\"minor\":16,\"rate\":1}]}}", "blkio.throttle.write_bps_device", "8:16 1" },
		{ "{\"blockIO\":{\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":16,\"rate\":2}]}}", "blkio.throttle.read_iops_device", "8:16 2" },
		{ "{\"blockIO\":{\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":16,\"rate\":3}]}}", "blkio.throttle.write_iops_device", "8:16 3" },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}]}", "hugetlb.2MB.limit_in_bytes", "4194304" },
		{ "{\"devices\":[{\"allow\":false}]}", "devices.deny", "a" },
		{ "{\"devices\":[{\"allow\":true,\"type\":\"a\",\"access\":\"rwm\"}]}", "devices.allow", "a" },
		{ "{\"devices\":[{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":3,\"access\":\"rw\"}]}", "devices.allow", "c 1:3 rw" },
		{ "{\"devices\":[{\"allow\":true,\"type\":\"b\",\"major\":8,\"access\":\"m\"}]}", "devices.allow", "b 8:* m" },
		{ "{\"devices\":[{\"allow\":false,\"type\":\"c\",\"major\":-1,\"minor\":5,\"access\":\"\"}]}", "devices.deny", "c *:5 rwm" },
		{ "{\"devices\":[{\"allow\":true,\"type\":\"u\",\"major\":10,\"minor\":200,\"access\":\"mwr\"}]}", "devices.allow", "c 10:200 rwm" },
	};
	AUTO_FREE char *root = gt_xasprintf("%s/v1", (char *)*state);
	check_all(root, false, CASES, GT_COUNT(CASES));
}

static void v2_gets_each_limit_in_its_file_and_unit(void **state)
{
	static const struct translation CASES[] = {
		{ "{}", NULL, NULL },
		{ "{\"memory\":{},\"cpu\":{},\"pids\":{},\"blockIO\":{},\"hugepageLimits\":[],\"devices\":[],\"unified\":{}}", NULL, NULL },
		{ "{\"memory\":{" MEMORY_LIMIT "}}", "memory.max", "104857600" },
		{ "{\"memory\":{\"limit\":-1}}", "memory.max", "max" },
		{ "{\"memory\":{\"swap\":-1}}", "memory.swap.max", "max" },
		{ "{\"memory\":{\"reservation\":52428800}}", "memory.low", "52428800" },
		{ "{\"memory\":{\"swappiness\":60}}", NULL, NULL },
		{ "{\"cpu\":{\"shares\":2}}", "cpu.weight", "1" },
		{ "{\"cpu\":{\"shares\":1}}", "cpu.weight", "1" },
		{ "{\"cpu\":{\"shares\":1024}}", "cpu.weight", "39" },
		{ "{\"cpu\":{\"shares\":262144}}", "cpu.weight", "10000" },
		{ "{\"cpu\":{\"shares\":9999999}}", "cpu.weight", "10000" },
		{ "{\"cpu\":{\"shares\":0}}", NULL, NULL },
		{ "{\"cpu\":{\"quota\":50000}}", "cpu.max", "50000 100000" },
		{ "{\"cpu\":{\"quota\":50000,\"period\":200000}}", "cpu.max", "50000 200000" },
		{ "{\"cpu\":{\"quota\":-1}}", "cpu.max", "max 100000" },
		{ "{\"cpu\":{\"quota\":0,\"period\":0}}", "cpu.max", "max 100000" },
		{ "{\"cpu\":{\"period\":200000}}", "cpu.max", "max 200000" },
		{ "{\"cpu\":{\"burst\":1000}}", "cpu.max.burst", "1000" },
		{ "{\"cpu\":{\"idle\":1}}", "cpu.idle", "1" },
		{ "{\"cpu\":{\"realtimePeriod\":0,\"realtimeRuntime\":0}}", NULL, NULL },
		{ "{\"cpu\":{\"cpus\":\"0-1\"}}", "cpuset.cpus", "0-1" },
		{ "{\"pids\":{\"limit\":7}}", "pids.max", "7" },
		{ "{\"pids\":{\"limit\":0}}", "pids.max", "max" },
		{ "{\"blockIO\":{\"weight\":10}}", "io.weight", "1" },
		{ "{\"blockIO\":{\"weight\":500}}", "io.weight", "4950" },
		{ "{\"blockIO\":{\"weight\":1000}}", "io.weight", "10000" },
		{ "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":16,\"rate\":1048576}]}}", "io.max", "8:16 rbps=1048576" },
		{ "{\"blockIO\":{\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":16,\"rate\":9}]}}", "io.max", "8:16 wiops=9" },
		{ "{\"blockIO\":{\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":500}]}}", "io.weight", "8:0 4950" },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}]}", "hugetlb.2MB.max", "4194304" },
		{ "{\"unified\":{\"memory.high\":\"1000\"}}", "memory.high", "1000" },
	};
	AUTO_FREE char *root = gt_xasprintf("%s/v2", (char *)*state);
	check_all(root, true, CASES, GT_COUNT(CASES));
}

/* v1 counts memory and swap together; v2 swap alone. */
static void swap_is_counted_as_each_version_counts(void **state)
{
	static const struct {
		const char *memory, *max, *swap_max;
	} CASES[] = {
		{ MEMORY_LIMIT ",\"swap\":209715200", "104857600", "104857600" },
		{ MEMORY_LIMIT ",\"swap\":104857600", "104857600", "0" },
		{ MEMORY_LIMIT ",\"swap\":-1", "104857600", "max" },
		{ "\"limit\":-1,\"swap\":-1", "max", "max" },
	};
	AUTO_FREE char *root = gt_xasprintf("%s/cgroup", (char *)*state);
	AUTO_BUF struct gt_buf text = { 0 };
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_FREE char *json = gt_xasprintf("{\"memory\":{%s}}", CASES[i].memory);
		AUTO_JSON json_t *resources = gt_json_parse(json, strlen(json), "test", NULL);
		struct gt_cgroup *cgroup = fake(root, true, V2_FILES);
		assert_int_equal(cgroup_v2_apply(cgroup, resources, NULL), 0);
		assert_string_equal(get(root, "memory.max", &text), CASES[i].max);
		assert_string_equal(get(root, "memory.swap.max", &text), CASES[i].swap_max);
		gt_cgroup_free(cgroup);
	}
	struct gt_cgroup *cgroup = fake(root, false, V1_FILES);
	AUTO_JSON json_t *both = json_pack("{s:{s:i s:i}}", "memory", "limit", 100, "swap", 200);
	assert_int_equal(cgroup_v1_apply(cgroup, both, NULL), 0);
	assert_string_equal(get(root, "memory.limit_in_bytes", &text), "100");
	assert_string_equal(get(root, "memory.memsw.limit_in_bytes", &text), "200");
	gt_cgroup_free(cgroup);
}

static void limits_that_cannot_be_set_are_told_by_name(void **state)
{
	static const struct {
		bool v2;
		const char *resources, *complaint;
		enum gt_kind kind;
	} CASES[] = {
		{ false, "{\"unified\":{\"memory.high\":\"1\"}}", "cgroup v2", GT_UNSUPPORTED },
		{ false, "{\"network\":{\"classID\":1}}", "network", GT_UNSUPPORTED },
		{ true, "{\"network\":{\"classID\":1}}", "network", GT_UNSUPPORTED },
		{ true, "{\"memory\":{\"disableOOMKiller\":true}}", "OOM killer", GT_UNSUPPORTED },
		{ true, "{\"memory\":{\"swap\":5}}", "memoryswap", GT_INVALID },
		{ true, "{\"memory\":{\"limit\":10,\"swap\":5}}", "memoryswap", GT_INVALID },
		{ true, "{\"cpu\":{\"realtimeRuntime\":5}}", "realtimeRuntime", GT_UNSUPPORTED },
		{ false, "{\"memory\":{\"limit\":\"1\"}}", "limit", GT_INVALID },
		{ true, "{\"cpu\":{\"cpus\":1}}", "cpus", GT_INVALID },
		{ false, "{\"pids\":{\"limit\":true}}", "limit", GT_INVALID },
		{ false, "{\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":1}]}", "page size", GT_INVALID },
		{ true, "{\"hugepageLimits\":[{\"pageSize\":\"a/b\",\"limit\":1}]}", "page size", GT_INVALID },
		{ true, "{\"hugepageLimits\":[{\"limit\":1}]}", "page size", GT_INVALID },
		{ true, "{\"hugepageLimits\":[{\"pageSize\":\"64KB\",\"limit\":1}]}", "hugetlb.64KB.max", GT_UNSUPPORTED },
		{ true, "{\"unified\":{\"../../x\":\"1\"}}", "../../x", GT_INVALID },
		{ true, "{\"unified\":{\"a/b\":\"1\"}}", "a/b", GT_INVALID },
		{ true, "{\"unified\":{\"cgroup.freeze\":\"1\"}}", "cgroup.freeze", GT_INVALID },
		{ true, "{\"unified\":{\"memory.high\":1}}", "memory.high", GT_INVALID },
		{ true, "{\"unified\":{\"memory.nothing\":\"1\"}}", "memory.nothing", GT_UNSUPPORTED },
		{ false, "{\"devices\":[{\"type\":\"x\"}]}", "a, b or c", GT_INVALID },
		{ false, "{\"devices\":[{\"access\":\"rx\"}]}", "r, w and m", GT_INVALID },
		{ true, "{\"devices\":[{\"access\":\"rx\"}]}", "r, w and m", GT_INVALID },
		{ false, "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":\"8\"}]}}", "major", GT_INVALID },
	};
	AUTO_FREE char *root = gt_xasprintf("%s/cgroup", (char *)*state);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_error err = { 0 };
		struct gt_cgroup *cgroup = fake(root, CASES[i].v2, CASES[i].v2 ? V2_FILES : V1_FILES);
		AUTO_JSON json_t *resources = gt_json_parse(CASES[i].resources, strlen(CASES[i].resources), "test", &err);
		assert_non_null(resources);
		int rc = CASES[i].v2 ? cgroup_v2_apply(cgroup, resources, &err) : cgroup_v1_apply(cgroup, resources, &err);
		if (rc != -1 || err.kind != CASES[i].kind || !strstr(err.message, CASES[i].complaint))
			fail_msg("%s: %d, %s: %s", CASES[i].resources, rc, gt_kind_name(err.kind), err.message);
		gt_cgroup_free(cgroup);
	}
}

static void v1_memory_below_swap_is_kept_in_the_order_that_works(void **state)
{
	static const char *const FILES[] = { "memory.limit_in_bytes", "100\n", "memory.memsw.limit_in_bytes", "200\n", NULL };
	AUTO_FREE char *root = gt_xasprintf("%s/cgroup", (char *)*state);
	struct gt_error err = { 0 };
	struct gt_cgroup *cgroup = fake(root, false, FILES);
	AUTO_JSON json_t *more = json_pack("{s:{s:i}}", "memory", "limit", 300);
	assert_int_equal(cgroup_v1_apply(cgroup, more, &err), -1);
	assert_non_null(strstr(err.message, "memoryswap"));
	AUTO_JSON json_t *less = json_pack("{s:{s:i}}", "memory", "limit", 150);
	assert_int_equal(cgroup_v1_apply(cgroup, less, &err), 0);
	gt_cgroup_free(cgroup);
	static const char *const NO_SWAP[] = { "memory.limit_in_bytes", "100\n", NULL };
	cgroup = fake(root, false, NO_SWAP);
	AUTO_JSON json_t *swap = json_pack("{s:{s:i s:i}}", "memory", "limit", 100, "swap", 200);
	assert_int_equal(cgroup_v1_apply(cgroup, swap, &err), -1);
	assert_int_equal(err.kind, GT_UNSUPPORTED);
	gt_cgroup_free(cgroup);
}

/* ---- figures ---- */

static void v1_figures_are_read(void **state)
{
	static const char *const FILES[] = {
		"memory.usage_in_bytes", "1000\n", "memory.max_usage_in_bytes", "2000\n", "memory.limit_in_bytes", "9223372036854771712\n",
		"memory.failcnt", "3\n", "memory.stat", "cache 10\nrss 20\nbroken\ntotal_rss 18446744073709551615\n",
		"cpuacct.usage", "5000000000\n", "cpuacct.stat", "user 300\nsystem 200\n", "cpuacct.usage_percpu", "3000000000 2000000000 \n",
		"cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 77\n", "pids.current", "4\n", "pids.max", "max\n",
		"blkio.throttle.io_service_bytes_recursive", "8:0 Read 100\n8:0 Write 200\n8:0 Total 300\nrubbish\nTotal 300\n",
		"blkio.throttle.io_serviced_recursive", "8:0 Read 1\n", NULL,
	};
	AUTO_FREE char *root = gt_xasprintf("%s/cgroup", (char *)*state);
	struct gt_cgroup *cgroup = fake(root, false, FILES);
	struct gt_cgroup_stats stats = { 0 };
	assert_int_equal(cgroup_v1_stats(cgroup, &stats, NULL), 0);
	assert_int_equal(stats.memory_usage, 1000);
	assert_int_equal(stats.memory_max_usage, 2000);
	assert_int_equal(stats.memory_failcnt, 3);
	assert_int_equal(json_object_size(stats.memory_stat), 3);
	assert_int_equal(json_integer_value(json_object_get(stats.memory_stat, "total_rss")), INT64_MAX);
	assert_int_equal(stats.cpu_total, 5000000000);
	assert_int_equal(stats.cpu_user, 300 * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK)));
	assert_int_equal(stats.cpu_percpu_count, 2);
	assert_int_equal(stats.cpu_percpu[1], 2000000000);
	assert_int_equal(stats.throttled_periods, 2);
	assert_int_equal(stats.throttled_time, 77);
	assert_int_equal(stats.pids_current, 4);
	assert_int_equal(stats.pids_limit, 0);
	assert_int_equal(stats.io_bytes_count, 3);
	assert_string_equal(stats.io_bytes[1].op, "Write");
	assert_int_equal(stats.io_bytes[1].value, 200);
	assert_int_equal(stats.io_ops_count, 1);
	gt_cgroup_stats_release(&stats);
	gt_cgroup_free(cgroup);
}

static void v2_figures_are_read_in_v1s_units(void **state)
{
	static const char *const FILES[] = {
		"memory.current", "1000\n", "memory.peak", "2000\n", "memory.max", "max\n", "memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n",
		"memory.stat", "anon 10\nfile 20\n", "cpu.stat", "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
		"pids.current", "4\n", "pids.max", "50\n", "io.stat", "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n253:1\nrubbish\n", NULL,
	};
	AUTO_FREE char *root = gt_xasprintf("%s/cgroup", (char *)*state);
	struct gt_cgroup *cgroup = fake(root, true, FILES);
	struct gt_cgroup_stats stats = { 0 };
	assert_int_equal(cgroup_v2_stats(cgroup, &stats, NULL), 0);
	assert_int_equal(stats.memory_usage, 1000);
	assert_int_equal(stats.memory_limit, UINT64_MAX);
	assert_int_equal(stats.memory_failcnt, 3);
	assert_int_equal(stats.cpu_total, 5000000);
	assert_int_equal(stats.throttled_time, 7000);
	assert_int_equal(stats.pids_limit, 50);
	assert_int_equal(stats.io_bytes_count, 2);
	assert_string_equal(stats.io_bytes[0].op, "read");
	assert_int_equal(stats.io_ops[1].value, 2);
	assert_int_equal(gt_cgroup_oom_kills(cgroup), 2);
	gt_cgroup_stats_release(&stats);
	gt_cgroup_free(cgroup);
	static const char *const NOTHING[] = { NULL };
	cgroup = fake(root, true, NOTHING);
	assert_int_equal(cgroup_v2_stats(cgroup, &stats, NULL), 0);
	assert_int_equal(stats.memory_usage, 0);
	assert_int_equal(gt_cgroup_oom_kills(cgroup), -1);
	gt_cgroup_stats_release(&stats);
	gt_cgroup_free(cgroup);
}

static void keyed_figures_match_whole_keys(void **state)
{
	put(*state, "stat", "user_usec 1\nuser 2\nuser2 3\n\nlast 18446744073709551615");
	AUTO_CLOSE int dir = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(cgroup_keyed(dir, "stat", "user", 9), 2);
	assert_int_equal(cgroup_keyed(dir, "stat", "last", 9), UINT64_MAX);
	assert_int_equal(cgroup_keyed(dir, "stat", "us", 9), 9);
	assert_int_equal(cgroup_keyed(dir, "none", "user", 9), 9);
}

/* ---- paths ---- */

static int never(void *arg, const char *name)
{
	(void)arg;
	fail_msg("a child %s", name);
	return 0;
}

static void unclean_paths_are_refused_before_anything_is_touched(void **state)
{
	(void)state;
	static const char *const PATHS[] = { "", "gantry/x", "/", "//", "/gantry/", "/gantry//x", "/gantry/../x", "/..", "/.", "/gantry/..", "/gantry/.", "/./x",
					     "/gantry/x/", "../x" };
	struct gt_cgroup *cgroup = NULL;
	for (size_t i = 0; i < GT_COUNT(PATHS); i++) {
		struct gt_error err = { 0 };
		int create = gt_cgroup_create(PATHS[i], NULL, &cgroup, &err);
		if (create != -1 || err.kind != GT_INVALID || gt_cgroup_open(PATHS[i], &cgroup, NULL) != -1 || gt_cgroup_remove(PATHS[i], NULL) != -1 ||
		    gt_cgroup_children(PATHS[i], never, NULL, NULL) != -1)
			fail_msg("%s: %s", PATHS[i], err.message);
	}
	AUTO_FREE char *longest = gt_xasprintf("/%01100d", 0);
	assert_int_equal(gt_cgroup_create(longest, NULL, &cgroup, NULL), -1);
	struct gt_error err = { 0 };
	assert_int_equal(gt_cgroup_open("/gantry-unit-test/..none", &cgroup, &err), -1);
	assert_int_equal(err.kind, GT_NOT_FOUND);
	assert_int_equal(gt_cgroup_remove("/gantry-unit-test/...", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(v1_gets_each_limit_in_its_file),
		cmocka_unit_test(v2_gets_each_limit_in_its_file_and_unit),
		cmocka_unit_test(swap_is_counted_as_each_version_counts),
		cmocka_unit_test(limits_that_cannot_be_set_are_told_by_name),
		cmocka_unit_test(v1_memory_below_swap_is_kept_in_the_order_that_works),
		cmocka_unit_test(v1_figures_are_read),
		cmocka_unit_test(v2_figures_are_read_in_v1s_units),
		cmocka_unit_test(keyed_figures_match_whole_keys),
		cmocka_unit_test(unclean_paths_are_refused_before_anything_is_touched),
	};
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
