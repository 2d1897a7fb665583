#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/metrics.h"

static void gauge(struct gt_buf *out, const char *name, const char *help, uint64_t value)
{
	gt_metric_family(out, name, "gauge", help);
	gt_metric_sample(out, name, NULL, value);
}

static void write_memory(struct gt_buf *out)
{
	uint64_t pages, resident, page = (uint64_t)sysconf(_SC_PAGESIZE);
	FILE *file = fopen("/proc/self/statm", "re");
	if (!file)
		return;
	if (fscanf(file, "%" SCNu64 " %" SCNu64, &pages, &resident) == 2) {
		gauge(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", pages * page);
		gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.", resident * page);
	}
	fclose(file);
}

static void write_descriptors(struct gt_buf *out)
{
	uint64_t count = 0;
	DIR *dir = opendir("/proc/self/fd");
	if (!dir)
		return;
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(dir);
	gauge(out, "process_open_fds", "Number of open file descriptors.", count - 1); /* without the one that counted */
}

void gt_metric_process(struct gt_buf *out)
{
	struct rlimit limit;
	struct rusage usage;
	write_memory(out);
	write_descriptors(out);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		gauge(out, "process_max_fds", "Maximum number of open file descriptors.", limit.rlim_cur);
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		long micro = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
		gt_metric_family(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
		gt_buf_printf(out, "process_cpu_seconds_total %ld.%06ld\n",
			      (long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + micro / 1000000, micro % 1000000);
	}
}
