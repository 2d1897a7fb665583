#include "testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/log.h"
#include "store/store.h"

static struct gt_collection *open_things(void **state, struct gt_store **store)
{
	assert_int_equal(gt_store_open(*state, true, store, NULL), 0);
	struct gt_collection *things = gt_store_collection(*store, "some/things", NULL);
	assert_non_null(things);
	return things;
}

static void plant(void **state, const char *name, const char *text)
{
	AUTO_FREE char *path = gt_xasprintf("%s/some/things/%s", (char *)*state, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int count_files(const char *dir)
{
	DIR *listing = opendir(dir);
	int count = 0;
	for (struct dirent *entry; listing && (entry = readdir(listing)) != NULL;)
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	if (listing)
		closedir(listing);
	return count;
}

static int count_documents(void *arg, const char *id, json_t *document)
{
	assert_string_equal(json_string_value(json_object_get(document, "id")), id);
	++*(int *)arg;
	return 0;
}

static void a_document_comes_back_until_it_is_removed(void **state)
{
	struct gt_store *store;
	struct gt_collection *things = open_things(state, &store);
	AUTO_JSON json_t *document = json_pack("{ss}", "id", "one");
	assert_int_equal(gt_store_put(things, "one", document, true, NULL), 0);
	AUTO_JSON json_t *back = gt_store_get(things, "one", NULL);
	assert_true(json_equal(back, document));
	assert_int_equal(gt_store_remove(things, "one", NULL), 0);
	assert_int_equal(gt_store_remove(things, "one", NULL), 0);
	struct gt_error err = { 0 };
	assert_null(gt_store_get(things, "one", &err));
	assert_int_equal(err.kind, GT_NOT_FOUND);
	gt_store_close(store);
}

static void ids_that_could_leave_the_directory_are_refused(void **state)
{
	struct gt_store *store;
	struct gt_collection *things = open_things(state, &store);
	AUTO_JSON json_t *document = json_object();
	static const char *const BAD[] = { "", "..", ".hidden", "a/b", "../x", "a b" };
	for (size_t i = 0; i < GT_COUNT(BAD); i++) {
		assert_int_equal(gt_store_put(things, BAD[i], document, false, NULL), -1);
		assert_null(gt_store_get(things, BAD[i], NULL));
	}
	gt_store_close(store);
}

static void torn_and_foreign_files_are_put_aside_and_stop_nothing(void **state)
{
	struct gt_store *store;
	struct gt_collection *things = open_things(state, &store);
	AUTO_JSON json_t *document = json_pack("{ss}", "id", "good");
	assert_int_equal(gt_store_put(things, "good", document, true, NULL), 0);
	plant(state, "torn.json", "{\"id\": \"to");
	plant(state, "empty.json", "");
	plant(state, ".good.json.1.2.tmp", "{");
	plant(state, "README", "not ours");
	AUTO_FREE char *dir = gt_xasprintf("%s/some/things/dir.json", (char *)*state);
	mkdir(dir, 0700);
	gt_store_close(store); /* what was cut is for the next process to find */
	things = open_things(state, &store);
	gt_log_set_level(GT_ERROR);
	int seen = 0;
	assert_int_equal(gt_store_each(things, count_documents, &seen, NULL), 0);
	assert_int_equal(seen, 1);
	AUTO_FREE char *aside = gt_xasprintf("%s/quarantine", (char *)*state);
	AUTO_FREE char *left = gt_xasprintf("%s/some/things", (char *)*state);
	assert_int_equal(count_files(aside), 3);
	assert_int_equal(count_files(left), 2);         /* good.json and the README, which is not ours to move */
	gt_store_close(store);
}

static void note_document(void *arg, const char *id, json_t *document)
{
	assert_string_equal(json_string_value(json_object_get(document, "id")), id);
	_Atomic unsigned *seen = arg;
	seen[atoi(id)]++;
}

static void many_documents_are_read_by_several_threads_and_torn_ones_put_aside(void **state)
{
	enum { DOCUMENTS = 200, TORN = 37 };
	struct gt_store *store;
	struct gt_collection *things = open_things(state, &store);
	for (int i = 0; i < DOCUMENTS; i++) {
		AUTO_FREE char *id = gt_xasprintf("%d", i);
		AUTO_JSON json_t *document = json_pack("{ss}", "id", id);
		assert_int_equal(gt_store_put(things, id, document, false, NULL), 0);
	}
	plant(state, "37.json", "{\"id\": \"to");
	gt_log_set_level(GT_ERROR);
	_Atomic unsigned seen[DOCUMENTS] = { 0 };
	assert_int_equal(gt_store_each_parallel(things, note_document, seen, NULL), 0);
	for (int i = 0; i < DOCUMENTS; i++)
		assert_int_equal(seen[i], i != TORN);
	AUTO_FREE char *aside = gt_xasprintf("%s/quarantine", (char *)*state);
	assert_int_equal(count_files(aside), 1);
	gt_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_document_comes_back_until_it_is_removed, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(ids_that_could_leave_the_directory_are_refused, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(torn_and_foreign_files_are_put_aside_and_stop_nothing, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(many_documents_are_read_by_several_threads_and_torn_ones_put_aside, scratch_make, scratch_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
