#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"

static void write_memory(struct gt_buf *out)
{
	uint64_t pages, resident, page = (uint64_t)sysconf(_SC_PAGESIZE);
	FILE *file = fopen("/proc/self/statm", "re");
	if (!file)
		return;
	if (fscanf(file, "%" SCNu64 " %" SCNu64, &pages, &resident) == 2) {
		gt_metric_gauge(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", pages * page);
		gt_metric_gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.", resident * page);
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
	gt_metric_gauge(out, "process_open_fds", "Number of open file descriptors.", count - 1); /* without the one that counted */
}

/* proc_pid_stat(5): the 20th and 22nd field, told off from the last ")", as the name before it may hold anything. */
static void write_threads_and_start(struct gt_buf *out)
{
	char line[1024];
	FILE *file = fopen("/proc/self/stat", "re");
	if (!file)
		return;
	const char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	fclose(file);
	uint64_t threads, ticks, hertz = (uint64_t)sysconf(_SC_CLK_TCK);
	struct timespec boot;
	if (!name_end || clock_gettime(CLOCK_BOOTTIME, &boot) < 0 ||
	    sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %" SCNu64 " %*d %" SCNu64, &threads, &ticks) != 2)
		return;
	gt_metric_gauge(out, "process_threads", "Number of threads.", threads);
	int64_t age = boot.tv_sec - (int64_t)(ticks / hertz);
	gt_metric_gauge(out, "process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
			(uint64_t)(gt_now() / GT_SECOND - age));
}

void gt_metric_process(struct gt_buf *out)
{
	struct rlimit limit;
	struct rusage usage;
	write_memory(out);
	write_descriptors(out);
	write_threads_and_start(out);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		gt_metric_gauge(out, "process_max_fds", "Maximum number of open file descriptors.", limit.rlim_cur);
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		long micro = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
		gt_metric_family(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
		gt_buf_printf(out, "process_cpu_seconds_total %ld.%06ld\n",
			      (long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + micro / 1000000, micro % 1000000);
	}
}
