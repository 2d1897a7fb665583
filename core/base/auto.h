/*
 * auto.h - ownership that ends with its scope.
 *
 * AUTO_FREE char *s        free()
 * AUTO_CLOSE int fd = -1   close(), where fd >= 0; errno is kept
 * AUTO_JSON json_t *j      json_decref()
 * AUTO_FCLOSE FILE *f      fclose()
 * AUTO_BUF struct gt_buf b gt_buf_free()      (see buf.h)
 * LOCKED(&mutex)           locks now, unlocks at the end of the scope
 *
 * take(p) hands a pointer on and leaves NULL; take_fd(fd) leaves -1.
 */
#pragma once

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void gt_auto_free(void *slot)
{
	free(*(void **)slot);
}

static inline void gt_auto_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

static inline void gt_auto_json(json_t **slot)
{
	json_decref(*slot);
}

static inline void gt_auto_fclose(FILE **slot)
{
	if (*slot)
		fclose(*slot);
}

static inline void gt_auto_unlock(pthread_mutex_t **slot)
{
	if (*slot)
		pthread_mutex_unlock(*slot);
}

static inline pthread_mutex_t *gt_locked(pthread_mutex_t *mutex)
{
	pthread_mutex_lock(mutex);
	return mutex;
}

#define AUTO_FREE   __attribute__((cleanup(gt_auto_free), unused))
#define AUTO_CLOSE  __attribute__((cleanup(gt_auto_close), unused))
#define AUTO_JSON   __attribute__((cleanup(gt_auto_json), unused))
#define AUTO_FCLOSE __attribute__((cleanup(gt_auto_fclose), unused))

#define GT_PASTE2(a, b) a##b
#define GT_PASTE(a, b) GT_PASTE2(a, b)
#define LOCKED(mutex)                                                                   \
	__attribute__((cleanup(gt_auto_unlock), unused)) pthread_mutex_t *GT_PASTE(     \
		gt_lock_, __LINE__) = gt_locked(mutex)

#define take(p) ({ __typeof__(p) gt_taken = (p); (p) = NULL; gt_taken; })
#define take_fd(fd) ({ int gt_taken_fd = (fd); (fd) = -1; gt_taken_fd; })

#define GT_COUNT(array) (sizeof(array) / sizeof((array)[0]))
