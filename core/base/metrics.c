#include "base/metrics.h"

#include <inttypes.h>
#include <stddef.h>

#define NS_PER_SECOND 1000000000u

/* From a call into a driver to a slow pull. The words are what the text says. */
static const struct {
	int64_t ns;
	const char *seconds;
} bounds[GT_METRIC_BUCKETS] = {
	{ 100000, "0.0001" },     { 500000, "0.0005" },     { 1000000, "0.001" },      { 2500000, "0.0025" },
	{ 5000000, "0.005" },     { 10000000, "0.01" },     { 25000000, "0.025" },     { 50000000, "0.05" },
	{ 100000000, "0.1" },     { 500000000, "0.5" },     { 1000000000, "1" },       { 5000000000, "5" },
	{ 30000000000, "30" },    { 300000000000, "300" },
};

void gt_counter_add(struct gt_counter *counter, uint64_t n)
{
	atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}

uint64_t gt_counter_read(const struct gt_counter *counter)
{
	return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

void gt_histogram_observe(struct gt_histogram *hist, int64_t ns)
{
	size_t i = 0;
	if (ns < 0)
		ns = 0;
	while (i < GT_METRIC_BUCKETS && ns > bounds[i].ns)
		i++;
	atomic_fetch_add_explicit(&hist->bucket[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&hist->sum_ns, (uint64_t)ns, memory_order_relaxed);
}

static void add_escaped(struct gt_buf *out, const char *text, int quotes)
{
	for (; *text; text++) {
		if (*text == '\n')
			gt_buf_str(out, "\\n");
		else if (*text == '\\' || (quotes && *text == '"'))
			gt_buf_printf(out, "\\%c", *text);
		else
			gt_buf_char(out, *text);
	}
}

void gt_metric_family(struct gt_buf *out, const char *name, const char *type, const char *help)
{
	gt_buf_printf(out, "# HELP %s ", name);
	add_escaped(out, help, 0);
	gt_buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

/* name, suffix and labels; le is a histogram's own label, or NULL. */
static void add_series(struct gt_buf *out, const char *name, const char *suffix, const struct gt_label *labels,
		       const char *le)
{
	const char *before = "{";
	gt_buf_printf(out, "%s%s", name, suffix);
	for (; labels && labels->name; labels++) {
		gt_buf_printf(out, "%s%s=\"", before, labels->name);
		add_escaped(out, labels->value, 1);
		gt_buf_char(out, '"');
		before = ",";
	}
	if (le) {
		gt_buf_printf(out, "%sle=\"%s\"", before, le);
		before = ",";
	}
	gt_buf_str(out, *before == ',' ? "} " : " ");
}

void gt_metric_sample(struct gt_buf *out, const char *name, const struct gt_label *labels, uint64_t value)
{
	add_series(out, name, "", labels, NULL);
	gt_buf_printf(out, "%" PRIu64 "\n", value);
}

void gt_metric_gauge(struct gt_buf *out, const char *name, const char *help, uint64_t value)
{
	gt_metric_family(out, name, "gauge", help);
	gt_metric_sample(out, name, NULL, value);
}

void gt_metric_counter(struct gt_buf *out, const char *name, const char *help, const struct gt_counter *counter)
{
	gt_metric_family(out, name, "counter", help);
	gt_metric_sample(out, name, NULL, gt_counter_read(counter));
}

void gt_metric_histogram(struct gt_buf *out, const char *name, const struct gt_label *labels,
			 const struct gt_histogram *hist)
{
	uint64_t count = 0;
	for (size_t i = 0; i <= GT_METRIC_BUCKETS; i++) {
		count += atomic_load_explicit(&hist->bucket[i], memory_order_relaxed);
		add_series(out, name, "_bucket", labels, i < GT_METRIC_BUCKETS ? bounds[i].seconds : "+Inf");
		gt_buf_printf(out, "%" PRIu64 "\n", count);
	}
	uint64_t sum = atomic_load_explicit(&hist->sum_ns, memory_order_relaxed);
	add_series(out, name, "_sum", labels, NULL);
	gt_buf_printf(out, "%" PRIu64 ".%09" PRIu64 "\n", sum / NS_PER_SECOND, sum % NS_PER_SECOND);
	add_series(out, name, "_count", labels, NULL);
	gt_buf_printf(out, "%" PRIu64 "\n", count);
}
