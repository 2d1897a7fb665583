#include "common/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>

#define LIBRARY "libcurl.so.4"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct curl_calls calls;
static bool loaded;

static int load(const char *who, struct gantry_error *err)
{
	void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "%s needs libcurl (package libcurl4): %s", who, dlerror());
#define FIND(name)                                                                                                    \
	calls.name = (__typeof__(calls.name))dlsym(handle, #name);                                                    \
	if (!calls.name)                                                                                              \
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, LIBRARY " lacks %s: version 7.86 or newer is needed", #name);
	CURL_CALLS(FIND)
#undef FIND
	if (calls.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return gantry_fail(err, GANTRY_E_INTERNAL, "libcurl cannot be set up");
	return 0;
}

const struct curl_calls *curl_load(const char *who, struct gantry_error *err)
{
	pthread_mutex_lock(&lock);
	if (!loaded)
		loaded = load(who, err) == 0;
	pthread_mutex_unlock(&lock);
	return loaded ? &calls : NULL;
}
