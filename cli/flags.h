/* flags.h - the lists of flags that the table of commands refers to. */
#pragma once

#include "command.h"

#define TRUST "signed images are not supported"
#define CLUSTER "there are no clusters of hosts here"

#define FLAG(name_, letter_, type_, initial_, doc_) \
	{ .name = name_, .letter = letter_, .type = FLAG_##type_, .initial = initial_, .doc = doc_ }
#define NAMED(name_, letter_, type_, initial_, doc_, word_) \
	{ .name = name_, .letter = letter_, .type = FLAG_##type_, .initial = initial_, .doc = doc_, .type_name = word_ }
#define REFUSED(name_, letter_, type_, initial_, why_) \
	{ .name = name_, .letter = letter_, .type = FLAG_##type_, .initial = initial_, .refuse = why_ }
#define ALIAS(name_, of_) { .name = name_, .alias = of_ }
#define END_OF_FLAGS { .name = NULL }

extern const struct flag flags_create[], flags_run[], flags_update[], flags_exec[];
extern const struct flag flags_build[];
