/*
 * dump.h - SIGUSR1: what every thread is doing, and what the daemon holds, written to a file for people.
 *
 * A thread of its own waits for the signal, from before the engine is opened to after the API has ended, so that it answers while any other thread hangs.
 * It takes no lock that could be held for long; stacks are read from outside by gantry-stacks, without stopping a thread. Files are
 * <run>/dumps/gantryd-TIME.json, mode 0600; the last few are kept.
 */
#pragma once

#include "base/error.h"
#include "config/config.h"

struct gt_engine;
struct gt_api;
struct dump;

/* SIGUSR1 must be blocked in all threads. config outlives the dump. */
int dump_start(const struct gt_config *config, struct dump **dump, struct gt_error *err);
/* What is there to tell of; NULL for what is not there (yet, or any more). Waits for a dump that is being written. */
void dump_about(struct dump *dump, struct gt_engine *engine, struct gt_api *api);
/* NULL is fine. */
void dump_stop(struct dump *dump);
