/*
 * disk.h - a volume's disk: an image file with ext4 in it, and the loop device through which containers reach it.
 *
 * Nothing here knows of containers. All functions are thread safe for different images, return -1 with `err` filled where they fail, and leave nothing
 * behind then.
 */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <gantry/plugin.h>

#define DISK_STEP 4096                  /* ext4's block: sizes are multiples of it */
#define DISK_MIN (16ull << 20)          /* a journal, and some room besides */
#define DISK_MAX (8ull << 40)           /* block numbers have 32 bits */
#define DISK_DEVICE_MAX 32              /* "/dev/loop1048575" */

/* Makes the image `name` in the directory `dir`, of `bytes` bytes (a multiple of DISK_STEP, DISK_MIN to DISK_MAX), with an empty ext4 in it. It appears whole
 * or not at all, and durably. One of that name that is there already stays as it is: success. */
int disk_make(int dir, const char *name, uint64_t bytes, struct gantry_error *err);

/* The loop device that shows the image: the one that does already, else a fresh one, which stays until disk_detach(). `device` receives its path. */
int disk_attach(int dir, const char *name, char device[DISK_DEVICE_MAX], struct gantry_error *err);

/* Gives the image's loop device back, or has the kernel do so once nobody has it mounted any more. An image without device: success. */
int disk_detach(int dir, const char *name, struct gantry_error *err);

/* Whether the image of that name, of which stat(2) tells `image`, has a loop device, and the device's path. */
bool disk_device(const struct stat *image, const char *name, char device[DISK_DEVICE_MAX]);

#endif
