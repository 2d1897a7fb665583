/*
 * cdi_files.c - finds and reads CDI files. A later directory of the list outweighs an earlier one (/var/run/cdi is made anew at each boot, /etc/cdi is not).
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cdi.h"

#define MAX_FILE ((size_t)4 << 20)
#define MAX_FILES 256

static bool has_suffix(const char *name, const char *suffix)
{
	size_t len = strlen(name), n = strlen(suffix);
	return len > n && strcmp(name + len - n, suffix) == 0;
}

static int is_spec(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && (has_suffix(entry->d_name, ".json") || has_suffix(entry->d_name, ".yaml"));
}

static int check_file(const json_t *spec, struct gt_error *err)
{
	const char *version = NULL, *kind = NULL;
	json_t *devices = NULL, *edits = NULL;
	if (!json_is_object(spec))
		return gt_fail(err, GT_INVALID, "it is no object");
	if (gt_json_string(spec, "cdiVersion", &version, err) < 0 || gt_json_string(spec, "kind", &kind, err) < 0 ||
	    gt_json_array(spec, "devices", &devices, err) < 0 || gt_json_object(spec, "containerEdits", &edits, err) < 0)
		return -1;
	if (!version || !kind || !strchr(kind, '/'))
		return gt_fail(err, GT_INVALID, "cdiVersion or kind (VENDOR/CLASS) is missing");
	if (strncmp(version, "0.", 2) && strncmp(version, "1.", 2))
		return gt_fail(err, GT_UNSUPPORTED, "cdiVersion %.16s is not known", version);
	return 0;
}

static void read_one(const char *dir, const char *name, json_t *list)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, name);
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_error err = { 0 };
	AUTO_JSON json_t *spec = NULL;
	if (gt_read_file(AT_FDCWD, path, MAX_FILE, &text, &err) == 0)
		spec = has_suffix(name, ".json") ? gt_json_parse(text.data ? text.data : "", text.len, "the file", &err) :
						   cdi_yaml_parse(text.data ? text.data : "", text.len, &err);
	if (spec && check_file(spec, &err) == 0)
		json_array_append(list, spec);
	else
		gt_warn("a CDI file is left out", "path", path, "error", err.message);
}

json_t *cdi_files_read(const struct gt_strings *dirs)
{
	json_t *list = json_array();
	for (size_t d = dirs->count; d-- > 0;) {
		struct dirent **entries = NULL;
		int count = scandir(dirs->items[d], &entries, is_spec, alphasort);
		for (int i = 0; i < count; i++) {
			if (i < MAX_FILES)
				read_one(dirs->items[d], entries[i]->d_name, list);
			free(entries[i]);
		}
		free(entries);
	}
	return list;
}
