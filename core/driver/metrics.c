#include "driver/driver.h"
#include "internal.h"

typedef void (*write_samples)(struct gt_buf *out, const struct gt_label *labels, struct gt_driver *driver);

static void one_driver(struct gt_driver *driver, struct gt_buf *out, write_samples samples)
{
	const char *kind = driver_kind_name((int)driver->kind);
	const struct gt_label labels[] = {
		{ "kind", kind ? kind : "unknown" }, { "driver", driver->name }, { NULL, NULL },
	};
	samples(out, labels, driver);
}

static void each_driver(struct gt_drivers *drivers, struct gt_buf *out, write_samples samples)
{
	pthread_rwlock_rdlock(&drivers->table);
	for (size_t i = 0; i < drivers->slot_count; i++) {
		for (size_t k = 0; k < drivers->slots[i]->driver_count; k++)
			one_driver(drivers->slots[i]->drivers[k], out, samples);
	}
	for (size_t i = 0; i < drivers->member_count; i++)
		one_driver(drivers->members[i], out, samples);
	pthread_rwlock_unlock(&drivers->table);
}

static void write_open(struct gt_buf *out, const struct gt_label *labels, struct gt_driver *driver)
{
	gt_metric_sample(out, "gantry_driver_open", labels, gate_is_open(driver));
}

static void write_reloads(struct gt_buf *out, const struct gt_label *labels, struct gt_driver *driver)
{
	gt_metric_sample(out, "gantry_driver_reloads_total", labels, gt_counter_read(&driver->reloads));
}

static void write_failures(struct gt_buf *out, const struct gt_label *labels, struct gt_driver *driver)
{
	gt_metric_sample(out, "gantry_driver_call_failures_total", labels, gt_counter_read(&driver->failures));
}

static void write_times(struct gt_buf *out, const struct gt_label *labels, struct gt_driver *driver)
{
	gt_metric_histogram(out, "gantry_driver_call_duration_seconds", labels, &driver->time);
}

void gt_drivers_metrics(struct gt_drivers *drivers, struct gt_buf *out)
{
	gt_metric_family(out, "gantry_driver_open", "gauge", "Whether the driver is open.");
	each_driver(drivers, out, write_open);
	gt_metric_family(out, "gantry_driver_reloads_total", "counter", "Times that the driver was taken into use anew while the daemon ran.");
	each_driver(drivers, out, write_reloads);
	gt_metric_family(out, "gantry_driver_call_failures_total", "counter", "Calls that the driver failed.");
	each_driver(drivers, out, write_failures);
	gt_metric_family(out, "gantry_driver_call_duration_seconds", "histogram", "Time of calls into the driver, failed ones too.");
	each_driver(drivers, out, write_times);
}
