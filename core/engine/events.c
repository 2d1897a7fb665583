/*
 * events.c - what happens, told to whoever listens, in the shape of Docker's event messages.
 *
 * An event is a finished line of JSON, counted by the ring of the last RING events (for `since`) and by the queues of listeners. Filters are looked at when the
 * event is born, or at the replay. A listener that lets BACKLOG events pile up is cut off, so that it costs nobody else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

#define RING 256
#define BACKLOG 4096

struct event {
	int refs;               /* guarded by events->lock */
	int64_t time;           /* ns */
	size_t len;
	char line[];
};

struct listener {
	struct gt_stream stream;        /* first */
	struct gt_engine *engine;
	struct listener *next;          /* guarded by events->lock, as is all below */
	json_t *filters;
	int64_t until;                  /* ns; 0: none */
	struct event **queue;           /* room for BACKLOG, allocated as it grows */
	size_t first, count, room;
	size_t sent;                    /* bytes of the first event */
	bool overrun;
	pthread_cond_t ready;
};

struct gt_events {
	pthread_mutex_t lock;
	struct event *ring[RING];
	size_t next;                    /* where the next goes */
	struct listener *listeners;
	int listener_count;
};

int gt_events_new(struct gt_engine *engine, struct gt_error *err)
{
	(void)err;
	engine->events = gt_xcalloc(1, sizeof *engine->events);
	pthread_mutex_init(&engine->events->lock, NULL);
	return 0;
}

static void drop(struct event *event)
{
	if (event && --event->refs == 0)
		free(event);
}

void gt_events_free(struct gt_engine *engine)
{
	struct gt_events *events = engine->events;
	if (!events)
		return;
	for (size_t i = 0; i < RING; i++)
		drop(events->ring[i]);
	pthread_mutex_destroy(&events->lock);
	free(events);
	engine->events = NULL;
}

int gt_events_listeners(struct gt_engine *engine)
{
	LOCKED(&engine->events->lock);
	return engine->events->listener_count;
}

json_t *gt_events_recent(struct gt_engine *engine, size_t max)
{
	struct gt_events *events = engine->events;
	struct timespec until = gt_deadline(100 * GT_MILLISECOND);
	if (pthread_mutex_clocklock(&events->lock, CLOCK_MONOTONIC, &until) != 0)
		return NULL;
	json_t *list = json_array();
	for (size_t i = RING - (max < RING ? max : RING); i < RING; i++) {
		const struct event *event = events->ring[(events->next + i) % RING];
		if (event)
			json_array_append_new(list, json_loadb(event->line, event->len, 0, NULL));
	}
	pthread_mutex_unlock(&events->lock);
	return list;
}

/* ---- filters ---- */

static const char *attribute(const json_t *event, const char *name)
{
	return json_string_value(json_object_get(json_object_get(json_object_get(event, "Actor"), "Attributes"), name));
}

/* The object itself, by id, beginning of its id, or name. */
static bool is_object(const json_t *values, const char *id, const char *name)
{
	size_t i;
	json_t *wanted;
	if (!json_array_size(values))
		return true;
	json_array_foreach(values, i, wanted) {
		const char *text = json_string_value(wanted);
		if (strncmp(id, text, strlen(text)) == 0 || (name && strcmp(name, text) == 0))
			return true;
	}
	return false;
}

/* "exec_create: ls" is an exec_create. */
static bool is_action(const json_t *values, const char *action)
{
	size_t i;
	json_t *wanted;
	if (!json_array_size(values))
		return true;
	json_array_foreach(values, i, wanted) {
		const char *text = json_string_value(wanted);
		size_t len = strlen(text);
		if (strncmp(action, text, len) == 0 && (!action[len] || action[len] == ':'))
			return true;
	}
	return false;
}

static bool matches(const json_t *filters, const json_t *event)
{
	static const char *const OBJECTS[] = { "container", "network", "volume", "plugin", "daemon" };
	const char *type = json_string_value(json_object_get(event, "Type"));
	const char *id = json_string_value(json_object_get(json_object_get(event, "Actor"), "ID"));
	if (!filters || !json_object_size(filters))
		return true;
	if (!gt_filter_match(filters, "type", type) || !gt_filter_match(filters, "scope", json_string_value(json_object_get(event, "scope"))) ||
	    !is_action(json_object_get(filters, "event"), json_string_value(json_object_get(event, "Action"))) ||
	    !gt_filter_match_labels(filters, "label", json_object_get(json_object_get(event, "Actor"), "Attributes")))
		return false;
	for (size_t i = 0; i < GT_COUNT(OBJECTS); i++) {
		if (!gt_filter_has(filters, OBJECTS[i]))
			continue;
		if (strcmp(type, OBJECTS[i]) || !is_object(json_object_get(filters, OBJECTS[i]), id, attribute(event, "name")))
			return false;
	}
	if (!gt_filter_has(filters, "image"))
		return true;
	const char *image = strcmp(type, "image") == 0 ? attribute(event, "name") : attribute(event, "image");
	return gt_filter_match(filters, "image", image) || (strcmp(type, "image") == 0 && is_object(json_object_get(filters, "image"), id, image));
}

/* ---- birth ---- */

/* With the lock held. */
static void enqueue(struct listener *listener, struct event *event)
{
	if (listener->count == BACKLOG) {
		listener->overrun = true;
		pthread_cond_signal(&listener->ready);
		return;
	}
	if (listener->count == listener->room) {
		size_t room = listener->room ? listener->room * 2 : 32;
		struct event **queue = gt_xcalloc(room, sizeof(struct event *));
		for (size_t i = 0; i < listener->count; i++)
			queue[i] = listener->queue[(listener->first + i) % listener->room];
		free(listener->queue);
		listener->queue = queue;
		listener->room = room;
		listener->first = 0;
	}
	listener->queue[(listener->first + listener->count++) % listener->room] = event;
	event->refs++;
	pthread_cond_signal(&listener->ready);
}

static void publish(struct gt_events *events, int64_t now, const json_t *message)
{
	AUTO_FREE char *text = json_dumps(message, JSON_COMPACT);
	if (!text)
		return;
	size_t len = strlen(text);
	struct event *event = gt_xmalloc(sizeof *event + len + 2);
	*event = (struct event){ .refs = 1, .time = now, .len = len + 1 };
	memcpy(event->line, text, len);
	memcpy(event->line + len, "\n", 2);
	LOCKED(&events->lock);
	drop(events->ring[events->next]);
	events->ring[events->next] = event;
	events->next = (events->next + 1) % RING;
	for (struct listener *listener = events->listeners; listener; listener = listener->next) {
		if (matches(listener->filters, message))
			enqueue(listener, event);
	}
}

void gt_event(struct gt_engine *engine, const char *type, const char *action, const char *id, json_t *attributes)
{
	int64_t now = gt_now();
	bool container = strcmp(type, "container") == 0, image = strcmp(type, "image") == 0;
	AUTO_JSON json_t *message =
		json_pack("{s:s s:s s:{s:s s:o} s:s s:I s:I}", "Type", type, "Action", action, "Actor", "ID", id, "Attributes",
			  attributes ? attributes : json_object(), "scope", "local", "time", (json_int_t)(now / GT_SECOND), "timeNano", (json_int_t)now);
	if (!message)
		return;
	if (container || image) { /* as clients before 1.22 read it */
		json_object_set_new(message, "status", json_string(action));
		json_object_set_new(message, "id", json_string(id));
	}
	if (container && attribute(message, "image"))
		json_object_set_new(message, "from", json_string(attribute(message, "image")));
	gt_counter_add(&engine->figures.events, 1);
	publish(engine->events, now, message);
}

void gt_container_event(struct gt_container *ctr, const char *action, json_t *extra)
{
	json_t *attributes = json_object();
	if (json_is_object(ctr->config.labels))
		json_object_update(attributes, ctr->config.labels);
	if (extra)
		json_object_update(attributes, extra);
	json_decref(extra);
	json_object_set_new(attributes, "image", json_string(ctr->image_name ? ctr->image_name : ""));
	pthread_mutex_lock(&ctr->lock);
	json_object_set_new(attributes, "name", json_string(ctr->name ? ctr->name : ""));
	pthread_mutex_unlock(&ctr->lock);
	gt_event(ctr->engine, "container", action, ctr->id, attributes);
}

/* ---- listening ---- */

/* With the lock held: bytes of the first event in the queue. */
static ssize_t take_bytes(struct listener *listener, char *bytes, size_t room)
{
	size_t done = 0;
	while (listener->count && done < room) {
		struct event *event = listener->queue[listener->first];
		if (listener->until && event->time > listener->until)
			return done ? (ssize_t)done : GT_STREAM_END;
		size_t n = event->len - listener->sent;
		if (n > room - done)
			n = room - done;
		memcpy(bytes + done, event->line + listener->sent, n);
		done += n;
		listener->sent += n;
		if (listener->sent == event->len) {
			listener->sent = 0;
			listener->first = (listener->first + 1) % listener->room;
			listener->count--;
			drop(event);
		}
	}
	return (ssize_t)done;
}

static ssize_t events_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	struct listener *listener = (struct listener *)stream;
	struct gt_events *events = listener->engine->events;
	int64_t wait = timeout_ms * GT_MILLISECOND;
	LOCKED(&events->lock);
	if (listener->until && gt_now() + wait > listener->until)
		wait = listener->until > gt_now() ? listener->until - gt_now() : 0;
	struct timespec until = gt_deadline(wait);
	while (!listener->count && !listener->overrun && !listener->engine->closing) {
		if (pthread_cond_timedwait(&listener->ready, &events->lock, &until) == ETIMEDOUT) {
			if (listener->count)
				break;
			return listener->until && gt_now() >= listener->until ? GT_STREAM_END : GT_STREAM_IDLE;
		}
	}
	if (listener->count)
		return take_bytes(listener, bytes, room);
	if (listener->overrun)
		return gt_fail(err, GT_UNAVAILABLE, "this client reads events too slowly: %d of them waited", BACKLOG);
	return GT_STREAM_END;
}

static void events_close(struct gt_stream *stream)
{
	struct listener *listener = (struct listener *)stream;
	struct gt_events *events = listener->engine->events;
	pthread_mutex_lock(&events->lock);
	struct listener **slot = &events->listeners;
	while (*slot && *slot != listener)
		slot = &(*slot)->next;
	if (*slot)
		*slot = listener->next;
	events->listener_count--;
	for (size_t i = 0; i < listener->count; i++)
		drop(listener->queue[(listener->first + i) % listener->room]);
	pthread_mutex_unlock(&events->lock);
	pthread_cond_destroy(&listener->ready);
	json_decref(listener->filters);
	free(listener->queue);
	free(listener);
}

/* With the lock held. */
static void replay(struct gt_events *events, struct listener *listener, int64_t since)
{
	for (size_t i = 0; i < RING; i++) {
		struct event *event = events->ring[(events->next + i) % RING];
		if (!event || event->time < since || (listener->until && event->time > listener->until))
			continue;
		AUTO_JSON json_t *message = json_loadb(event->line, event->len, 0, NULL);
		if (matches(listener->filters, message))
			enqueue(listener, event);
	}
}

struct gt_stream *gt_events_open(struct gt_engine *engine, int64_t since, int64_t until, const json_t *filters, struct gt_error *err)
{
	static const char *const KNOWN[] = { "config", "container", "daemon", "event",   "image", "label",  "network", "node",
					     "plugin", "scope",     "secret", "service", "type",  "volume", NULL };
	struct gt_events *events = engine->events;
	if (gt_filter_check(filters, KNOWN, err) < 0)
		return NULL;
	struct listener *listener = gt_xcalloc(1, sizeof *listener);
	listener->stream = (struct gt_stream){ .read = events_read, .close = events_close };
	listener->engine = engine;
	listener->until = until;
	listener->filters = filters ? json_deep_copy(filters) : NULL;
	gt_cond_init(&listener->ready);
	LOCKED(&events->lock);
	if (since)
		replay(events, listener, since);
	listener->next = events->listeners;
	events->listeners = listener;
	events->listener_count++;
	return &listener->stream;
}
