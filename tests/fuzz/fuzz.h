/*
 * fuzz.h - what the fuzz targets share. A target takes any bytes; besides crashes and what the sanitizers see, MUST() tells broken promises.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/error.h"

#define MUST(condition)                                                                       \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                              \
		}                                                                             \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* The bytes as C strings: pieces between NULs. Freed by the caller. */
static inline char *text_of(const uint8_t *data, size_t size)
{
	return gt_xstrndup((const char *)data, size);
}

/* Makes the checksums of the blocks that look like tar headers right, so that mutations get past them. */
static inline void mend_tar(uint8_t *bytes, size_t size)
{
	for (size_t at = 0; at + 512 <= size; at += 512) {
		uint8_t *block = bytes + at;
		unsigned sum = 0;
		char text[8];
		if (memcmp(block + 257, "ustar", 5) != 0)
			continue;
		memset(block + 148, ' ', 8);
		for (size_t i = 0; i < 512; i++)
			sum += block[i];
		snprintf(text, sizeof text, "%06o", sum & 0777777);
		memcpy(block + 148, text, 7);
	}
}
