/*
 * template_eval.c - runs a parsed template on JSON or on a row.
 *
 * A missing field of a struct-like object is an error that names it, as with Docker's typed data. Docker's API leaves
 * some fields out where they are empty; those are known by name here and read as their zero value.
 */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "template_tree.h"

enum { MAX_VARIABLES = 64 };

struct variable {
	const char *name;
	struct value value;
};

struct run {
	const struct template_root *root;
	struct value dot;
	struct variable variables[MAX_VARIABLES];
	size_t count;
	struct gt_buf *out;
	struct gt_error *err;
};

static void value_free(struct value *value)
{
	json_decref(value->json);
	*value = (struct value){ 0 };
}

static struct value value_copy(const struct value *value)
{
	struct value copy = *value;
	json_incref(copy.json);
	return copy;
}

/* Fields that may be absent or null, by the kind of their zero value. */
static char zero_kind(const char *name)
{
	static const struct {
		char kind;
		const char *names;
	} known[] = {
		{ 'a', " Args Binds Entrypoint Cmd Env Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links SecurityOpt "
		       "VolumesFrom"
		       " CapAdd CapDrop Devices DeviceCgroupRules DeviceRequests Ulimits BlkioWeightDevice "
		       "BlkioDeviceReadBps"
		       " BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps OnBuild ExecIDs Aliases DNSNames "
		       "Mounts"
		       " MaskedPaths ReadonlyPaths Shell RepoTags RepoDigests Layers Test Log SecondaryIPAddresses"
		       " SecondaryIPv6Addresses Warnings Manifests Peers " },
		{ 'm', " Labels Ports PortBindings ExposedPorts Volumes Networks Options Sysctls Tmpfs Annotations "
		       "StorageOpt Data"
		       " DriverOpts Containers Config IPAMConfig ConfigFrom " },
		{ 'p', " Health Healthcheck StopTimeout Init PidsLimit MemorySwappiness OomKillDisable UsageData"
		       " ImageManifestDescriptor ClusterVolume SizeRw SizeRootFs Descriptor Identity Status " },
		{ 's', " StopSignal Domainname MacAddress Error Parent Comment Author Variant OsVersion Subnet Gateway "
		       "IPRange"
		       " Propagation Driver Name DockerVersion Container " },
		{ 'b', " NetworkDisabled ArgsEscaped Dead ReadOnly " },
	};
	AUTO_FREE char *padded = gt_xasprintf(" %s ", name);
	for (size_t i = 0; i < GT_COUNT(known); i++) {
		if (strstr(known[i].names, padded))
			return known[i].kind;
	}
	return 0;
}

static struct value field_of_object(const struct value *from, const char *name, bool *missing)
{
	json_t *found = from->is_map ? json_object_get(from->json, name) : gt_json_get(from->json, name);
	struct value out = { .json = json_incref(found), .null_kind = zero_kind(name) };
	out.is_map = out.null_kind == 'm';
	*missing = !found && !from->is_map && !out.null_kind;
	if (!found && out.null_kind && !from->is_map) {
		out.json = out.null_kind == 's' ? json_string("") : out.null_kind == 'b' ? json_false() : json_null();
	}
	return out;
}

static int get_field(struct run *run, struct value *value, const char *name, const char *argument, size_t at)
{
	struct value next = { 0 };
	if (value->row) {
		next.json = value->row->field(value->row->row, name, argument);
		if (!next.json)
			return template_fail(run->err, at, "there is no field \"%s\"", name);
		next.null_kind = 'p';
	} else if (argument) {
		return template_fail(run->err, at, "\"%s\" is not a function of this object", name);
	} else if (json_is_object(value->json)) {
		bool missing;
		next = field_of_object(value, name, &missing);
		if (missing)
			return template_fail(run->err, at, "there is no field \"%s\"", name);
	} else if (value->json && !json_is_null(value->json)) {
		return template_fail(run->err, at, "can't take field \"%s\" of a value that is not an object", name);
	} else if (value->null_kind == 'p') {
		return template_fail(run->err, at, "can't take field \"%s\" of nothing (nil)", name);
	}
	value_free(value);
	*value = next;
	return 0;
}

static int eval_pipeline(struct run *run, const struct pipeline *pipeline, struct value *out);

static int eval_term(struct run *run, const struct term *term, struct value *out)
{
	*out = (struct value){ 0 };
	switch (term->kind) {
	case TERM_DOT:
		*out = value_copy(&run->dot);
		break;
	case TERM_LITERAL:
		out->json = json_incref(term->literal);
		out->null_kind = 'p';
		break;
	case TERM_PIPELINE:
		if (eval_pipeline(run, term->pipeline, out) < 0)
			return -1;
		break;
	case TERM_FUNCTION:
		return function_call(term->name, term->at, NULL, 0, run->root->headers, out, run->err);
	case TERM_VARIABLE: {
		size_t i = run->count;
		while (i > 0 && strcmp(run->variables[i - 1].name, term->name) != 0)
			i--;
		if (i == 0)
			return template_fail(run->err, term->at, "undefined variable \"$%s\"", term->name);
		*out = value_copy(&run->variables[i - 1].value);
		break;
	}
	}
	for (size_t i = 0; i < term->fields.count; i++) {
		if (get_field(run, out, term->fields.items[i], NULL, term->at) < 0)
			return -1;
	}
	return 0;
}

/* {{.Label "name"}} on a row. */
static int eval_method(struct run *run, const struct call *call, const struct value *piped, struct value *out)
{
	const struct term *term = &call->terms[0];
	struct value argument = { 0 };
	if (term->fields.count != 1 || call->count + (piped ? 1 : 0) != 2)
		return template_fail(run->err, term->at, "a field takes no arguments");
	int done = 0;
	if (piped)
		argument = value_copy(piped);
	else
		done = eval_term(run, &call->terms[1], &argument);
	*out = value_copy(&run->dot);
	if (done == 0 && json_is_string(argument.json))
		done = get_field(run, out, term->fields.items[0], json_string_value(argument.json), term->at);
	else if (done == 0)
		done = template_fail(run->err, term->at, "the argument of \"%s\" must be a string", term->fields.items[0]);
	value_free(&argument);
	return done;
}

/* and, or: stop at the first value that decides. */
static int eval_logic(struct run *run, const struct call *call, const struct value *piped, struct value *out)
{
	bool stop_at = strcmp(call->terms[0].name, "or") == 0;
	size_t total = call->count - 1 + (piped ? 1 : 0);
	if (total == 0)
		return template_fail(run->err, call->terms[0].at, "%s needs arguments", call->terms[0].name);
	for (size_t i = 1; i <= total; i++) {
		value_free(out);
		if (i < call->count) {
			if (eval_term(run, &call->terms[i], out) < 0)
				return -1;
		} else {
			*out = value_copy(piped);
		}
		if (value_true(out) == stop_at)
			break;
	}
	return 0;
}

static int eval_function(struct run *run, const struct call *call, const struct value *piped, struct value *out)
{
	const struct term *function = &call->terms[0];
	struct value *args = gt_xcalloc(call->count + 1, sizeof *args);
	size_t count = 0;
	int done = 0;
	for (size_t i = 1; i < call->count && done == 0; i++) {
		done = eval_term(run, &call->terms[i], &args[count]);
		count++;
	}
	if (done == 0 && piped)
		args[count++] = value_copy(piped);
	if (done == 0)
		done = function_call(function->name, function->at, args, count, run->root->headers, out, run->err);
	for (size_t i = 0; i < count; i++)
		value_free(&args[i]);
	free(args);
	return done;
}

static int eval_call(struct run *run, const struct call *call, const struct value *piped, struct value *out)
{
	const struct term *first = &call->terms[0];
	*out = (struct value){ 0 };
	if (first->kind == TERM_FUNCTION) {
		if (strcmp(first->name, "and") == 0 || strcmp(first->name, "or") == 0)
			return eval_logic(run, call, piped, out);
		return eval_function(run, call, piped, out);
	}
	if (call->count == 1 && !piped)
		return eval_term(run, first, out);
	if (first->kind == TERM_DOT && run->dot.row)
		return eval_method(run, call, piped, out);
	return template_fail(run->err, first->at, "this value is not a function and takes no arguments");
}

static int set_variable(struct run *run, const char *name, struct value value, bool assign, size_t at)
{
	if (assign) {
		for (size_t i = run->count; i > 0; i--) {
			if (strcmp(run->variables[i - 1].name, name) == 0) {
				value_free(&run->variables[i - 1].value);
				run->variables[i - 1].value = value;
				return 0;
			}
		}
		value_free(&value);
		return template_fail(run->err, at, "undefined variable \"$%s\"", name);
	}
	if (run->count == MAX_VARIABLES) {
		value_free(&value);
		return template_fail(run->err, at, "more than %d variables", MAX_VARIABLES);
	}
	run->variables[run->count++] = (struct variable){ name, value };
	return 0;
}

static void drop_variables(struct run *run, size_t to)
{
	while (run->count > to)
		value_free(&run->variables[--run->count].value);
}

static int eval_pipeline(struct run *run, const struct pipeline *pipeline, struct value *out)
{
	struct value value = { 0 };
	for (size_t i = 0; i < pipeline->count; i++) {
		struct value next = { 0 };
		int done = eval_call(run, &pipeline->calls[i], i > 0 ? &value : NULL, &next);
		value_free(&value);
		value = next;
		if (done < 0) {
			value_free(&value);
			return -1;
		}
	}
	*out = value;
	return 0;
}

static int run_nodes(struct run *run, const struct nodes *nodes);

static int run_with_dot(struct run *run, const struct nodes *nodes, struct value dot)
{
	struct value before = run->dot;
	run->dot = dot;
	int done = run_nodes(run, nodes);
	value_free(&run->dot);
	run->dot = before;
	return done;
}

/* One turn of a range; key and item are taken. */
static int run_turn(struct run *run, const struct node *node, json_t *key, json_t *item)
{
	size_t mark = run->count;
	const struct pipeline *pipeline = node->pipeline;
	struct value value = { .json = item };
	int done = 0;
	if (pipeline->declare[1]) {
		done = set_variable(run, pipeline->declare[0], (struct value){ .json = json_incref(key) }, false,
				    pipeline->at);
		if (done == 0)
			done = set_variable(run, pipeline->declare[1], value_copy(&value), false, pipeline->at);
	} else if (pipeline->declare[0]) {
		done = set_variable(run, pipeline->declare[0], value_copy(&value), false, pipeline->at);
	}
	json_decref(key);
	if (done < 0) {
		value_free(&value);
		return -1;
	}
	done = run_with_dot(run, &node->body, value);
	drop_variables(run, mark);
	return done;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int range_object(struct run *run, const struct node *node, json_t *object)
{
	size_t count = json_object_size(object), i = 0;
	const char **keys = gt_xcalloc(count + 1, sizeof *keys);
	const char *key;
	json_t *item;
	json_object_foreach(object, key, item)
	{
		keys[i++] = key;
	}
	qsort(keys, count, sizeof *keys, by_name);
	int done = 0;
	for (i = 0; i < count && done == 0; i++)
		done = run_turn(run, node, json_string(keys[i]), json_incref(json_object_get(object, keys[i])));
	free(keys);
	return done;
}

static int range_array(struct run *run, const struct node *node, json_t *array)
{
	int done = 0;
	for (size_t i = 0; i < json_array_size(array) && done == 0; i++)
		done = run_turn(run, node, json_integer((json_int_t)i), json_incref(json_array_get(array, i)));
	return done;
}

static int run_range(struct run *run, const struct node *node)
{
	struct value over;
	if (eval_pipeline(run, node->pipeline, &over) < 0)
		return -1;
	int done;
	if (!value_true(&over) || run->root->headers)
		done = run_nodes(run, &node->otherwise);
	else if (json_is_object(over.json))
		done = range_object(run, node, over.json);
	else if (json_is_array(over.json))
		done = range_array(run, node, over.json);
	else
		done = template_fail(run->err, node->pipeline->at, "range can't go over this value");
	value_free(&over);
	return done;
}

static int run_if(struct run *run, const struct node *node)
{
	struct value value;
	size_t mark = run->count;
	const struct pipeline *pipeline = node->pipeline;
	if (eval_pipeline(run, pipeline, &value) < 0)
		return -1;
	if (pipeline->declare[0] &&
	    set_variable(run, pipeline->declare[0], value_copy(&value), pipeline->assign, pipeline->at) < 0) {
		value_free(&value);
		return -1;
	}
	int done;
	if (!value_true(&value))
		done = run_nodes(run, &node->otherwise);
	else if (node->kind == NODE_WITH)
		done = run_with_dot(run, &node->body, value_copy(&value));
	else
		done = run_nodes(run, &node->body);
	value_free(&value);
	drop_variables(run, mark);
	return done;
}

static int run_action(struct run *run, const struct pipeline *pipeline)
{
	struct value value;
	if (eval_pipeline(run, pipeline, &value) < 0)
		return -1;
	if (pipeline->declare[0])
		return set_variable(run, pipeline->declare[0], value, pipeline->assign, pipeline->at);
	value_print(&value, run->out);
	value_free(&value);
	return 0;
}

static int run_nodes(struct run *run, const struct nodes *nodes)
{
	size_t mark = run->count;
	int done = 0;
	for (size_t i = 0; i < nodes->count && done == 0; i++) {
		const struct node *node = &nodes->items[i];
		switch (node->kind) {
		case NODE_TEXT:
			gt_buf_add(run->out, node->text, node->len);
			break;
		case NODE_ACTION:
			done = run_action(run, node->pipeline);
			break;
		case NODE_RANGE:
			done = run_range(run, node);
			break;
		case NODE_IF:
		case NODE_WITH:
			done = run_if(run, node);
			break;
		}
	}
	drop_variables(run, mark);
	return done;
}

int template_execute(const struct template *template, const struct template_root *root, struct gt_buf *out,
		     struct gt_error *err)
{
	struct run *run = gt_xcalloc(1, sizeof *run);
	run->root = root;
	run->out = out;
	run->err = err;
	if (root->field)
		run->dot.row = root;
	else
		run->dot.json = json_incref((json_t *)(uintptr_t)root->json);
	run->variables[run->count++] = (struct variable){ "", value_copy(&run->dot) };
	int done = run_nodes(run, &template->nodes);
	drop_variables(run, 0);
	value_free(&run->dot);
	free(run);
	return done;
}
