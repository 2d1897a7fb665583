/*
 * image_samples.h - for the tests of the image store: a sample image of two layers, and questions about what is in a store.
 */
#pragma once

#include "image_fixture.h"

/* Two layers with everything that makes a tar hard to rebuild: replaced files, links, pax headers, whiteouts, padding at the end. */
void make_layers(struct layer_bytes layers[2]);
void free_layers(struct layer_bytes layers[2]);
/* Loads them as an image; id: its hex. */
void load_sample(struct fixture *fixture, const char *tag, char id[65]);

size_t layers_in_driver(struct fixture *fixture);
/* No image, no layer, no file. */
void assert_nothing_left(struct fixture *fixture);
/* The image list; filters are taken over. */
json_t *list_images(struct fixture *fixture, bool all, json_t *filters);
size_t count_listed(struct fixture *fixture, const char *key, const char *value);
/* A field that is text; "(none)" where it is not. */
const char *text_at(const json_t *json, const char *name);
/* Runs a shell script in the view of a layer, mounted in a mount namespace of a child's. */
void in_layer(struct fixture *fixture, const char *layer, const char *script);
