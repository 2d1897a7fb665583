/*
 * curl.h - libcurl by dlopen, once a driver needs it: with all that it depends on, it would be most of an idle daemon's memory.
 *
 * The declarations come from libcurl's own headers, so a wrong signature does not compile. The library stays loaded once it is. Thread safe.
 */
#pragma once

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include <gantry/plugin.h>

#define CURL_CALLS(X)                                                                                                        \
	X(curl_global_init) X(curl_easy_init) X(curl_easy_cleanup) X(curl_easy_reset) X(curl_easy_setopt) X(curl_easy_getinfo) \
	X(curl_easy_perform) X(curl_easy_strerror) X(curl_multi_init) X(curl_multi_cleanup) X(curl_multi_add_handle)          \
	X(curl_multi_remove_handle) X(curl_multi_perform) X(curl_multi_poll) X(curl_multi_info_read) X(curl_slist_append)     \
	X(curl_slist_free_all)

struct curl_calls {
#define CURL_DECLARE(name) __typeof__(name) *name;
	CURL_CALLS(CURL_DECLARE)
#undef CURL_DECLARE
};

/* who: what needs it ("etcd"), for the sentence. NULL with err where the library is not there. */
const struct curl_calls *curl_load(const char *who, struct gantry_error *err);
