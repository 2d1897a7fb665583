#include "list.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"

struct printer {
	const struct list *list;
	struct template *template;
	bool table;
	struct gt_buf lines;            /* of the table */
};

static const struct column *find_column(const struct list *list, const char *name)
{
	for (const struct column *column = list->columns; column->name; column++) {
		if (strcmp(column->name, name) == 0)
			return column;
	}
	return NULL;
}

static json_t *text_value(char *text)
{
	json_t *value = text ? json_string(text) : NULL;
	if (text && !value)
		value = json_string("?"); /* not UTF-8 */
	free(text);
	return value;
}

static json_t *row_field(const void *data, const char *name, const char *argument)
{
	const struct row *row = data;
	const struct column *column = find_column(row->list, name);
	if (argument)
		return row->list->label && strcmp(name, "Label") == 0 ? text_value(row->list->label(row, argument)) : NULL;
	if (!column)
		return NULL;
	json_t *value = text_value(column->text(row));
	return value ? value : json_null();
}

static json_t *row_whole(const void *data)
{
	const struct row *row = data;
	json_t *all = json_object();
	for (const struct column *column = row->list->columns; column->name; column++)
	{
		json_t *value = text_value(column->text(row));
		json_object_set_new(all, column->name, value ? value : json_null());
	}
	return all;
}

static json_t *header_field(const void *data, const char *name, const char *argument)
{
	const struct list *list = data;
	if (argument)
		return list->label && strcmp(name, "Label") == 0 ? json_string(argument) : NULL;
	const struct column *column = find_column(list, name);
	return column ? json_string(column->header) : NULL;
}

static json_t *header_whole(const void *data)
{
	(void)data;
	return json_object();
}

/* A person types \t and \n in a shell's quotes. */
static char *unescape(const char *text)
{
	struct gt_buf out = { 0 };
	for (; *text; text++) {
		if (*text == '\\' && (text[1] == 't' || text[1] == 'n'))
			gt_buf_char(&out, *++text == 't' ? '\t' : '\n');
		else
			gt_buf_char(&out, *text);
	}
	return gt_buf_take(&out);
}

static int add_header(struct printer *printer, struct gt_error *err)
{
	struct template_root root = { .field = header_field, .whole = header_whole, .row = printer->list, .headers = true };
	if (template_execute(printer->template, &root, &printer->lines, err) < 0)
		return -1;
	gt_buf_char(&printer->lines, '\n');
	return 0;
}

/* Spaces around a format are not printed, as Docker has it; "\t" and "\n" are. The caller frees. */
static char *trimmed(const char *format)
{
	format += strspn(format, " ");
	size_t len = strlen(format);
	while (len > 0 && format[len - 1] == ' ')
		len--;
	return gt_xstrndup(format, len);
}

struct printer *printer_new(const struct list *list, const char *format, bool quiet, struct gt_error *err)
{
	struct printer *printer = gt_xcalloc(1, sizeof *printer);
	printer->list = list;
	const char *use = format;
	printer->table = strcmp(format, "") == 0 || strcmp(format, "table") == 0;
	if (printer->table) {
		use = quiet ? list->quiet : list->table;
		printer->table = !quiet;
	} else if (strncmp(format, "table ", 6) == 0 || strncmp(format, "table\\t", 7) == 0) {
		printer->table = !quiet;
		use = quiet ? list->quiet : format + 6;
	} else if (strcmp(format, "json") == 0) {
		use = "{{json .}}";
	}
	AUTO_FREE char *bare = trimmed(use);
	AUTO_FREE char *text = unescape(bare);
	printer->template = template_parse(text, err);
	if (!printer->template || (printer->table && add_header(printer, err) < 0)) {
		printer_free(printer);
		return NULL;
	}
	return printer;
}

int printer_add(struct printer *printer, const json_t *item, const void *extra, struct gt_error *err)
{
	struct row row = { printer->list, item, extra };
	struct template_root root = { .field = row_field, .whole = row_whole, .row = &row };
	if (template_execute(printer->template, &root, &printer->lines, err) < 0)
		return -1;
	gt_buf_char(&printer->lines, '\n');
	if (!printer->table) {
		fwrite(printer->lines.data, 1, printer->lines.len, stdout);
		gt_buf_reset(&printer->lines);
	}
	return 0;
}

int printer_end(struct printer *printer, struct gt_error *err)
{
	return printer->table ? table_print(printer->lines.data, err) : 0;
}

void printer_free(struct printer *printer)
{
	if (!printer)
		return;
	template_free(printer->template);
	gt_buf_free(&printer->lines);
	free(printer);
}

int list_print(const struct list *list, const char *format, bool quiet, const json_t *items, struct gt_error *err)
{
	struct printer *printer = printer_new(list, format, quiet, err);
	int done = printer ? 0 : -1;
	for (size_t i = 0; done == 0 && i < json_array_size(items); i++)
		done = printer_add(printer, json_array_get(items, i), NULL, err);
	if (done == 0)
		done = printer_end(printer, err);
	printer_free(printer);
	return done;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *join_labels(const json_t *labels)
{
	size_t count = json_object_size(labels), i = 0;
	const char **keys = gt_xcalloc(count + 1, sizeof *keys);
	struct gt_buf out = { 0 };
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)labels, key, value)
	{
		keys[i++] = key;
	}
	qsort(keys, count, sizeof *keys, by_name);
	for (i = 0; i < count; i++) {
		const char *text = json_string_value(json_object_get(labels, keys[i]));
		gt_buf_printf(&out, "%s%s=%s", i ? "," : "", keys[i], text ? text : "");
	}
	free(keys);
	return gt_buf_take(&out);
}

char *label_of(const json_t *labels, const char *name)
{
	const char *text = json_string_value(json_object_get(labels, name));
	return gt_xstrdup(text ? text : "");
}
