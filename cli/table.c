/*
 * table.c - lines of cells as an aligned table, by libsmartcols: columns at least 7 wide with 3 blanks between, as
 * Docker's command line sets them. The last column is as long as its text. Control characters are shown escaped.
 */
#include <libsmartcols/libsmartcols.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "list.h"

enum { MIN_WIDTH = 7, MAX_COLUMNS = 64 };

static size_t count_cells(const char *line, size_t len)
{
	size_t cells = 1;
	for (size_t i = 0; i < len; i++)
		cells += line[i] == '\t';
	return cells < MAX_COLUMNS ? cells : MAX_COLUMNS;
}

/* The header's own blanks make the column's least width. */
static int add_column(struct libscols_table *table, const char *name, int width)
{
	AUTO_FREE char *padded = gt_xasprintf("%-*s", width, name);
	return scols_table_new_column(table, padded, 0, 0) ? 0 : -1;
}

static const char *next_line(const char *line, size_t *len)
{
	*len = strcspn(line, "\n");
	return line[*len] ? line + *len + 1 : NULL;
}

/* Calls for each cell of a line; the text is a copy. */
static int each_cell(struct libscols_table *table, struct libscols_line *into, const char *line, size_t len, size_t columns,
		     int min_width)
{
	for (size_t i = 0; i < columns; i++) {
		size_t width = 0;
		while (width < len && line[width] != '\t')
			width++;
		if (i == columns - 1)
			width = len;
		AUTO_FREE char *cell = gt_xstrndup(line, width);
		if (into ? scols_line_set_data(into, i, cell) : add_column(table, cell, i == columns - 1 ? 0 : min_width))
			return -1;
		size_t used = width < len ? width + 1 : width;
		line += used;
		len -= used;
	}
	return 0;
}

static int fill(struct libscols_table *table, const char *lines, int width)
{
	size_t len;
	const char *line = lines, *next = next_line(lines, &len);
	size_t columns = count_cells(line, len);
	if (each_cell(table, NULL, line, len, columns, width) < 0)
		return -1;
	for (line = next; line && *line; line = next) {
		next = next_line(line, &len);
		struct libscols_line *row = scols_table_new_line(table, NULL);
		if (!row || each_cell(table, row, line, len, columns, width) < 0)
			return -1;
	}
	return 0;
}

/* libsmartcols prints nothing for a table without lines. */
static void print_header_alone(const char *line, int min_width)
{
	size_t cells = count_cells(line, strcspn(line, "\n"));
	for (size_t i = 0; i < cells; i++) {
		int len = (int)strcspn(line, i == cells - 1 ? "\n" : "\t\n");
		int width = i == cells - 1 ? 0 : (len < min_width ? min_width : len) + 3;
		printf("%-*.*s", width, len, line);
		line += len + (line[len] == '\t');
	}
	putchar('\n');
}

int table_print_wide(const char *lines, int width, struct gt_error *err)
{
	const char *end = strchr(lines, '\n');
	if (!end || end[1] == '\0') {
		print_header_alone(lines, width);
		return 0;
	}
	/* What we print is UTF-8 whatever the locale says, as with Docker: without it libsmartcols would escape it. */
	if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
		setlocale(LC_CTYPE, "C.UTF-8");
	struct libscols_table *table = scols_new_table();
	if (!table)
		return gt_fail(err, GT_INTERNAL, "cannot make a table");
	scols_table_set_column_separator(table, "   ");
	scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
	int bad = fill(table, lines, width);
	if (!bad)
		bad = scols_print_table(table);
	scols_unref_table(table);
	return bad ? gt_fail(err, GT_INTERNAL, "cannot draw a table") : 0;
}

int table_print(const char *lines, struct gt_error *err)
{
	return table_print_wide(lines, MIN_WIDTH, err);
}
