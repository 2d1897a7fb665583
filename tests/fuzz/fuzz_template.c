/* Templates of --format, run on a value of every type and as a table's headers. */
#include "fuzz.h"

#include "../../cli/template.h"

static const char DATA[] = "{\"Name\":\"/web\",\"Id\":\"abc\",\"State\":{\"Pid\":42,\"Running\":true},\"Env\":[\"A=1\",\"B=2\"],\"Labels\":{\"z\":\"26\",\"a.b\":\"1\"},"
			   "\"Half\":0.5,\"Empty\":\"\",\"None\":null,\"Rows\":[{\"a\":1},{\"a\":2},[]]}";

static json_t *field(const void *row, const char *name, const char *argument)
{
	(void)row;
	return strlen(name) > 8 ? NULL : argument ? json_string(argument) : json_string(name);
}

static json_t *whole(const void *row)
{
	(void)row;
	return json_object();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	AUTO_FREE char *text = text_of(data, size);
	struct template *template = template_parse(text, &err);
	if (!template) {
		MUST(err.message[0]);
		return 0;
	}
	AUTO_JSON json_t *json = json_loads(DATA, 0, NULL);
	const struct template_root roots[] = { { .json = json }, { .field = field, .whole = whole, .row = "" }, { .field = field, .whole = whole, .row = "", .headers = true } };
	for (size_t i = 0; i < GT_COUNT(roots); i++) {
		AUTO_BUF struct gt_buf out = { 0 };
		err = (struct gt_error){ 0 };
		if (template_execute(template, &roots[i], &out, &err) < 0)
			MUST(err.message[0]);
	}
	template_free(template);
	return 0;
}
