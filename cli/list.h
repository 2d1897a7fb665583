/*
 * list.h - prints lists of objects: as a table, by a template, as JSON, or their ids alone.
 *
 * A kind of list is a table of columns: name, header, and how a row's text is made. --format chooses among them:
 * "table" (default), "table TEMPLATE", "json", "raw"-free TEMPLATE. Columns are made only where they are asked for.
 * Tables are drawn by libsmartcols, with Docker's spacing.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "template.h"

struct list;

struct row {
	const struct list *list;
	const json_t *item;             /* what the daemon said of it */
	const void *extra;              /* the command's own, per row */
};

struct column {
	const char *name;               /* "Names" */
	const char *header;             /* "NAMES" */
	char *(*text)(const struct row *row);   /* the caller frees; NULL: not known (null in JSON) */
};

struct list {
	const struct column *columns;   /* closed by name == NULL */
	/* {{.Label "x"}}; NULL: no such thing */
	char *(*label)(const struct row *row, const char *name);
	const char *table;              /* the default, a template with \t between the columns */
	const char *quiet;              /* template for --quiet */
	bool no_trunc;
	bool force_header;              /* print the header also where there are no rows (always so with tables) */
};

struct printer;

/* format: the value of --format, "" for the default. */
struct printer *printer_new(const struct list *list, const char *format, bool quiet, struct gt_error *err);
int printer_add(struct printer *printer, const json_t *item, const void *extra, struct gt_error *err);
/* Prints what is left (tables are drawn at the end). */
int printer_end(struct printer *printer, struct gt_error *err);
void printer_free(struct printer *printer);

/* All at once: every element of an array. */
int list_print(const struct list *list, const char *format, bool quiet, const json_t *items, struct gt_error *err);

/* table.c: lines of cells separated by tabs, the first line being the header. */
int table_print(const char *lines, struct gt_error *err);
int table_print_wide(const char *lines, int width, struct gt_error *err);       /* least width of a column */

/* "k=v,k2=v2" of an object, sorted. */
char *join_labels(const json_t *labels);
char *label_of(const json_t *labels, const char *name);
