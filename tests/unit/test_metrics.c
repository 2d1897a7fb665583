/* Counting without locks, and the text that Prometheus reads. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/metrics.h"

static void a_label_cannot_forge_a_line(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf out = { 0 };
	struct gt_label labels[] = { { "driver", "a\"} 1\nb\\" }, { "op", "join" }, { NULL, NULL } };
	gt_metric_family(&out, "gantry_calls_total", "counter", "Calls.");
	gt_metric_sample(&out, "gantry_calls_total", labels, 7);
	gt_metric_sample(&out, "gantry_images", NULL, UINT64_MAX);
	assert_string_equal(out.data, "# HELP gantry_calls_total Calls.\n# TYPE gantry_calls_total counter\n"
				      "gantry_calls_total{driver=\"a\\\"} 1\\nb\\\\\",op=\"join\"} 7\n"
				      "gantry_images 18446744073709551615\n");
}

static void a_histogram_is_cumulative_and_bounds_are_inclusive(void **state)
{
	(void)state;
	struct gt_histogram hist = { 0 };
	struct gt_label labels[] = { { "op", "start" }, { NULL, NULL } };
	AUTO_BUF struct gt_buf out = { 0 };
	gt_histogram_observe(&hist, -5);
	gt_histogram_observe(&hist, 100000);
	gt_histogram_observe(&hist, 100001);
	gt_histogram_observe(&hist, 400000000000);
	gt_metric_histogram(&out, "t", labels, &hist);
	assert_non_null(strstr(out.data, "t_bucket{op=\"start\",le=\"0.0001\"} 2\n"));
	assert_non_null(strstr(out.data, "t_bucket{op=\"start\",le=\"0.0005\"} 3\n"));
	assert_non_null(strstr(out.data, "t_bucket{op=\"start\",le=\"300\"} 3\n"));
	assert_non_null(strstr(out.data, "t_bucket{op=\"start\",le=\"+Inf\"} 4\n"));
	assert_non_null(strstr(out.data, "t_sum{op=\"start\"} 400.000200001\n"));
	assert_non_null(strstr(out.data, "t_count{op=\"start\"} 4\n"));
}

static struct gt_counter shared;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100000; i++)
		gt_counter_add(&shared, 1);
	return NULL;
}

static void threads_lose_no_count(void **state)
{
	(void)state;
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(gt_counter_read(&shared), 400000);
}

static unsigned long open_descriptors(void)
{
	AUTO_BUF struct gt_buf out = { 0 };
	unsigned long count = 0;
	gt_metric_process(&out);
	const char *line = strstr(out.data, "\nprocess_open_fds ");
	assert_non_null(line);
	assert_int_equal(sscanf(line, "\nprocess_open_fds %lu", &count), 1);
	assert_non_null(strstr(out.data, "\nprocess_resident_memory_bytes "));
	assert_non_null(strstr(out.data, "\nprocess_max_fds "));
	assert_non_null(strstr(out.data, "\nprocess_cpu_seconds_total "));
	return count;
}

static void a_descriptor_more_is_a_descriptor_more(void **state)
{
	(void)state;
	unsigned long before = open_descriptors();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(open_descriptors(), before + 1);
	close(fd);
	assert_int_equal(open_descriptors(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_label_cannot_forge_a_line),
		cmocka_unit_test(a_histogram_is_cumulative_and_bounds_are_inclusive),
		cmocka_unit_test(threads_lose_no_count),
		cmocka_unit_test(a_descriptor_more_is_a_descriptor_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
