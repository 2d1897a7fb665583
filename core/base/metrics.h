/*
 * metrics.h - figures that are counted without a lock, and their text for Prometheus.
 *
 * A counter is one relaxed atomic addition; a histogram of durations is two (its bucket
 * and its sum), whatever it has seen before. Reading adds up what is there: figures read
 * while others count may be one event apart, never torn. A zeroed struct is ready for use.
 * The text is the exposition format 0.0.4 (prometheus.io, "Exposition formats").
 * Counting is thread safe; a gt_buf that is written to belongs to its caller.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

#define GT_METRIC_BUCKETS 14            /* bounds stand in metrics.c; one more bucket is +Inf */

struct gt_counter {
	_Atomic uint64_t value;
};

struct gt_histogram {
	_Atomic uint64_t bucket[GT_METRIC_BUCKETS + 1]; /* not cumulative; the text is */
	_Atomic uint64_t sum_ns;
};

/* Adds to a counter. Never fails, never blocks. */
void gt_counter_add(struct gt_counter *counter, uint64_t n);
uint64_t gt_counter_read(const struct gt_counter *counter);

/* Counts one duration; a negative one (a clock that was set) counts as 0. */
void gt_histogram_observe(struct gt_histogram *hist, int64_t ns);

/* One label of a sample; the value may be anyone's text, it is escaped. */
struct gt_label {
	const char *name;
	const char *value;
};

/* The # HELP and # TYPE lines; type is "counter", "gauge" or "histogram". Once for each
 * family, before its samples. */
void gt_metric_family(struct gt_buf *out, const char *name, const char *type, const char *help);
/* A family of one sample without labels. */
void gt_metric_gauge(struct gt_buf *out, const char *name, const char *help, uint64_t value);
void gt_metric_counter(struct gt_buf *out, const char *name, const char *help, const struct gt_counter *counter);
/* One sample; labels end at a NULL name, NULL for none. */
void gt_metric_sample(struct gt_buf *out, const char *name, const struct gt_label *labels, uint64_t value);
/* The _bucket, _sum (seconds) and _count samples of a histogram; its buckets add up to
 * its count even while others count. */
void gt_metric_histogram(struct gt_buf *out, const char *name, const struct gt_label *labels,
			 const struct gt_histogram *hist);
/* The figures every Prometheus client gives of its own process: memory, descriptors, threads, CPU time, start. One that the kernel
 * does not tell (no /proc, no descriptor left) is left out. Reads /proc; thread safe. */
void gt_metric_process(struct gt_buf *out);
